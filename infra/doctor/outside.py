"""The doctor's look from outside, as a client sees the server."""

import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from chalicelib import pkce
from infra.doctor import transport
from infra.doctor.findings import Finding, Verdict, judge, skipped
from infra.doctor.visit import OPENID, REDEPLOY, Unreachable, Visit

ORIGIN = "https://doctor.invalid"
OAUTH = "/.well-known/oauth-authorization-server"
# Endpoints that answer to GET; all others are asked by POST.
_BY_GET = ("authorization_endpoint", "userinfo_endpoint", "end_session_endpoint", "jwks_uri")
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_SIGNED_BY_US = ("id_token", "userinfo", "introspection", "authorization")


def look(visit: Visit) -> Iterator[Finding]:
    """All findings from outside; the first alone when nobody answers."""
    visit.asked_at = time.time()
    try:
        visit.discovery = visit.ask("GET", OPENID)
    except Unreachable as error:
        yield Finding("reachable", False, f"{visit.url} does not answer: {error}.", "Start it, or correct the URL.")
        return
    for name, check in CHECKS:
        try:
            verdict = check(visit)
        except Unreachable as error:
            verdict = Verdict(False, f"No answer: {error}.", "Look into the server's log for that moment.")
        yield Finding(name, verdict.ok, verdict.detail, verdict.fix)
        if check is _discovery and not verdict.ok:
            return


def _discovery(visit: Visit) -> Verdict:
    answer = visit.discovery
    if answer.status == 200 and answer.members.get("issuer"):
        return Verdict(True, f"{visit.url}{OPENID} describes the server.")
    seen = f"status {answer.status}" + (", by the gateway itself" if answer.is_the_gateways else "")
    if answer.header("location"):
        seen += f", to {answer.header('location')}"
    return Verdict(False, f"{visit.url}{OPENID} gives no metadata ({seen}).", "Check the URL: is a stage path missing?")


def _issuer(visit: Visit) -> Verdict:
    issuer = visit.metadata["issuer"]
    problems = [] if issuer == visit.url else [f"The metadata says {issuer}, and was asked for at {visit.url}"]
    fix = f"Clients compare exactly (RFC 8414 3.3): set SIGNET_ISSUER={visit.url}, or use {issuer}."
    return judge(problems, f"The issuer is {issuer}, the URL that was asked.", fix)


def _second_place(visit: Visit) -> Verdict:
    """RFC 8414 section 3: its place is between the host and the path of the issuer."""
    parts = urlsplit(visit.url)
    suffixed = visit.ask("GET", OAUTH)
    if suffixed.status != 200 or suffixed.members != visit.metadata:
        return Verdict(False, f"{visit.url}{OAUTH} does not say the same (status {suffixed.status}).", REDEPLOY)
    if not parts.path:
        return Verdict(True, "Both well-known places say the same (RFC 8414 3, OpenID Connect Discovery 4).")
    inserted = f"{parts.scheme}://{parts.netloc}{OAUTH}{parts.path}"
    if visit.ask("GET", inserted).members == visit.metadata:
        return Verdict(True, f"All places say the same, {inserted} too.")
    return skipped(
        f"The issuer has a path, so clients of plain OAuth look at {inserted} (RFC 8414 3), which a"
        f" stage of a REST API cannot serve. OpenID Connect clients look at {visit.url}{OPENID}, which works."
        " An HTTP API, or a domain of your own, puts the issuer at the root."
    )


def _endpoints(visit: Visit) -> Verdict:
    problems, names = [], [name for name in visit.metadata if name.endswith("_endpoint") or name == "jwks_uri"]
    for name in names:
        address = str(visit.metadata[name])
        if not address.startswith(visit.url + "/"):
            problems.append(f"{name} is {address}, elsewhere")
            continue
        answer = visit.ask("GET", address) if name in _BY_GET else visit.ask("POST", address, {})
        if answer.status in (404, 405) or answer.status >= 500 or answer.is_the_gateways:
            problems.append(f"{name} answers {answer.status}")
    fix = "Set SIGNET_ISSUER to the public address; for a status, look into the log for that moment."
    return judge(problems, f"All {len(names)} addresses of the metadata are here, and answer.", fix)


def _keys(visit: Visit) -> Verdict:
    import jwt

    keys = visit.ask("GET", visit.endpoint("jwks_uri", "/oauth2/jwks")).members.get("keys")
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        return Verdict(False, "The JWKS is no JWK Set.", REDEPLOY)
    problems = []
    for key in keys:
        name = key.get("kid", "a key")
        problems += [f"{name} has no {member}" for member in ("kid", "alg", "use") if not key.get(member)]
        if _PRIVATE & set(key):
            problems.append(f"{name} SHOWS ITS PRIVATE PART")
        try:
            public: Any = jwt.PyJWK(key).key
        except jwt.PyJWTError as error:
            problems.append(f"{name} cannot be read ({error})")
        else:
            if getattr(public, "key_size", 2048) < 2048 and key.get("kty") == "RSA":
                problems.append(f"{name} is shorter than 2048 bits")
    if len({key.get("kid") for key in keys}) < len(keys):
        problems.append("two keys have one kid")
    advertised = {
        alg for what in _SIGNED_BY_US for alg in visit.metadata.get(f"{what}_signing_alg_values_supported", ())
    } - {"none"}
    missing = sorted(advertised - {key.get("alg") for key in keys})
    problems += [f"{alg} is advertised without a key" for alg in missing]
    return judge(problems, f"{len(keys)} public keys: {', '.join(str(key.get('alg')) for key in keys)}.", REDEPLOY)


def _unknown_client(visit: Visit) -> Verdict:
    answer = visit.refused_request()
    if answer.header("location") or 300 <= answer.status < 400:
        detail = f"A request of an unknown client is redirected (status {answer.status}): an open redirector."
        return Verdict(False, detail, "RFC 9700 4.11.2 forbids it. " + REDEPLOY)
    shown = answer.status == 400 and answer.header("content-type").startswith("text/html")
    problems = [] if shown else [f"A request of an unknown client gets status {answer.status}, and no page"]
    return judge(problems, "A request of an unknown client is shown as an error, and never redirected.", REDEPLOY)


def _redirected_error(visit: Visit) -> Verdict:
    """With `prompt=none` and nobody signed in, an error goes back to the client, and must bear our name."""
    if visit.client is None:
        return skipped("Whether redirects bear `iss` shows only with a registered client, and none is known from here.")
    to = visit.client.redirect_uris[0]
    query = {
        "response_type": "code",
        "client_id": visit.client.client_id,
        "redirect_uri": to,
        "scope": visit.client.scope,
        "state": "doctor",
        "prompt": "none",
        "code_challenge": pkce.challenge("doctor-" * 7),
        "code_challenge_method": "S256",
    }
    answer = visit.authorize(query)
    location = answer.header("location")
    if answer.status not in (302, 303) or not location.startswith(to):
        detail = f"A request of {visit.client.client_id} with prompt=none gets {answer.status}, and no redirect."
        return Verdict(False, detail, REDEPLOY)
    given = dict(parse_qsl(urlsplit(location).query))
    problems = [
        f"{name} is {given.get(name)!r}, not {value!r}"
        for name, value in (("iss", visit.metadata["issuer"]), ("state", "doctor"), ("error", "login_required"))
        if given.get(name) != value
    ]
    return judge(problems, "Redirects bear error, state and the same issuer (RFC 9207).", REDEPLOY)


def _token_error(visit: Visit) -> Verdict:
    answer = visit.ask("POST", visit.endpoint("token_endpoint", "/oauth2/token"), {"grant_type": "authorization_code"})
    problems = []
    if answer.status != 401 or answer.members.get("error") != "invalid_client":
        problems.append(f"without a client it answers {answer.status} {answer.members.get('error', '')}".rstrip())
    if not answer.header("content-type").startswith("application/json"):
        problems.append("it is not JSON")
    if "no-store" not in answer.header("cache-control"):
        problems.append("a cache may store it")
    return judge(problems, "The token endpoint refuses in JSON that no cache stores (RFC 6749 5.2).", REDEPLOY)


def _not_found(visit: Visit) -> Verdict:
    answer = visit.ask("GET", "/the-doctor-finds-nothing-here")
    if answer.is_the_gateways:
        return skipped(
            f"Unknown addresses are answered by the gateway itself (status {answer.status}): a REST API, and the local"
            " server that imitates it, let no other request through. An HTTP API shows our own page."
        )
    problems = [] if answer.status == 404 else [f"An unknown address gets status {answer.status}"]
    return judge(problems, "An unknown address gets 404.", REDEPLOY)


def _challenge(visit: Visit) -> Verdict:
    answer = visit.ask("GET", visit.endpoint("userinfo_endpoint", "/oauth2/userinfo"))
    if answer.status == 401 and answer.header("www-authenticate"):
        return Verdict(True, "WWW-Authenticate arrives on a 401.")
    if answer.status == 401 and answer.header("x-amzn-remapped-www-authenticate"):
        return skipped(
            "API Gateway (REST) renames WWW-Authenticate on the way out. Nothing depends on it: the errors are in the"
            " body too, and a 401 page is a usable sign-in page. An HTTP API (`deploy`) delivers it."
        )
    fix = "The HTTP API's response mapping on 401 writes it (infra/api.yaml): deploy again."
    return Verdict(False, f"UserInfo without a token answers {answer.status} without WWW-Authenticate.", fix)


def _cross_origin(visit: Visit) -> Verdict:
    read = visit.ask("GET", visit.endpoint("jwks_uri", "/oauth2/jwks"), Origin=ORIGIN)
    token = visit.endpoint("token_endpoint", "/oauth2/token")
    preflight = visit.ask("OPTIONS", token, Origin=ORIGIN, Access_Control_Request_Method="POST")
    problems = []
    if read.header("access-control-allow-origin") != "*":
        problems.append("web pages cannot read the keys")
    if preflight.status not in (200, 204) or not preflight.header("access-control-allow-origin"):
        problems.append(f"the preflight of the token endpoint gets status {preflight.status}")
    if any(answer.header("access-control-allow-credentials") == "true" for answer in (read, preflight)):
        problems.append("cookies are let across origins")
    return judge(problems, "Web pages may read the keys, and ask for tokens; never with cookies.", REDEPLOY)


def _health(visit: Visit) -> Verdict:
    answer = visit.ask("GET", "/healthz")
    problems = [] if answer.status == 200 else [f"/healthz answers {answer.status}"]
    return judge(problems, "/healthz says ok.", "Look into the log for that moment.")


def _deep_health(visit: Visit) -> Verdict:
    stranger = visit.ask("GET", "/healthz?deep=1")
    if stranger.status != 401:
        return Verdict(False, f"The deep check answers strangers with {stranger.status}, not 401.", REDEPLOY)
    if not visit.operator_token:
        return skipped("The deep check is closed to strangers; with SIGNET_OPERATOR_TOKEN set, it would be made.")
    if not (visit.url.startswith("https://") or visit.is_here):
        return skipped("The deep check is closed to strangers; the operator's token is not sent in clear.")
    answer = visit.ask("GET", "/healthz?deep=1", Authorization=f"Bearer {visit.operator_token}")
    if answer.status == 401:
        fix = "Set SIGNET_OPERATOR_TOKEN_HASH of the server to the SHA-256 of the token."
        return Verdict(False, "The server does not take the token in SIGNET_OPERATOR_TOKEN.", fix)
    problems = [] if answer.status == 200 else [f"A part does not answer (status {answer.status})"]
    reached = f"{len(answer.members.get('tables', ()))} tables and {len(answer.members.get('keys', ()))} keys"
    return judge(problems, f"The server reaches {reached}.", "The log names the part; check its table and the key.")


CHECKS: tuple[tuple[str, Callable[[Visit], Verdict]], ...] = (
    ("discovery", _discovery),
    ("issuer", _issuer),
    ("metadata in both places", _second_place),
    ("endpoints", _endpoints),
    ("keys", _keys),
    ("TLS", transport.tls),
    ("plain http", transport.plain_http),
    ("security headers", transport.headers),
    ("clock", transport.clock),
    ("unknown client", _unknown_client),
    ("issuer in redirects", _redirected_error),
    ("token errors", _token_error),
    ("unknown address", _not_found),
    ("WWW-Authenticate", _challenge),
    ("cross-origin", _cross_origin),
    ("health", _health),
    ("deep health", _deep_health),
)
