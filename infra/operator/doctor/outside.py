"""The checks from outside, as a client sees the server."""

import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from chalicelib.protocol import pkce
from infra.operator.doctor import aliases, transport
from infra.operator.doctor.findings import Finding, Verdict, judge, skipped
from infra.operator.doctor.visit import OAUTH, OPENID, REDEPLOY, Unreachable, Visit

ORIGIN = "https://doctor.invalid"
# Endpoints that are called by GET; all others by POST.
_BY_GET = ("authorization_endpoint", "userinfo_endpoint", "end_session_endpoint", "jwks_uri")
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_SIGNED_RESPONSES = ("id_token", "userinfo", "introspection", "authorization")


def inspect(visit: Visit) -> Iterator[Finding]:
    """Yield all findings from outside, or a single one when the server does not respond."""
    visit.started_at = time.time()
    try:
        visit.discovery = visit.ask("GET", OPENID)
    except Unreachable as error:
        yield Finding(
            "reachable", False, f"{visit.url} does not respond: {error}.", "Start the server, or correct the URL."
        )
        return
    for name, check in CHECKS:
        try:
            verdict = check(visit)
        except Unreachable as error:
            verdict = Verdict(False, f"No response: {error}.", "Look in the server's log at that time.")
        yield Finding(name, verdict.ok, verdict.detail, verdict.fix)
        if check is _discovery and not verdict.ok:
            return


def _discovery(visit: Visit) -> Verdict:
    answer = visit.discovery
    if answer.status == 200 and answer.members.get("issuer"):
        return Verdict(True, f"{visit.url}{OPENID} describes the server.")
    status = f"status {answer.status}" + (", by the gateway itself" if answer.from_gateway else "")
    if answer.header("location"):
        status += f", to {answer.header('location')}"
    fix = "Check the URL: a stage path may be missing."
    return Verdict(False, f"{visit.url}{OPENID} returns no metadata ({status}).", fix)


def _issuer(visit: Visit) -> Verdict:
    issuer = visit.metadata["issuer"]
    problems = [] if issuer == visit.url else [f"The metadata names the issuer {issuer}, but was read from {visit.url}"]
    fix = f"Clients compare the issuer exactly (RFC 8414 3.3): set SIGNET_ISSUER={visit.url}, or use {issuer}."
    return judge(problems, f"The issuer is {issuer}, the URL of this check.", fix)


def _second_place(visit: Visit) -> Verdict:
    """Check the OAuth metadata, whose path is between the host and the path of the issuer (RFC 8414 section 3)."""
    parts = urlsplit(visit.url)
    suffixed = visit.ask("GET", OAUTH)
    if suffixed.status != 200 or suffixed.members != visit.metadata:
        return Verdict(False, f"{visit.url}{OAUTH} has other metadata (status {suffixed.status}).", REDEPLOY)
    if not parts.path:
        return Verdict(
            True, "Both well-known addresses have the same metadata (RFC 8414 3, OpenID Connect Discovery 4)."
        )
    oauth, openid = (f"{parts.scheme}://{parts.netloc}{name}{parts.path}" for name in (OAUTH, OPENID))
    missing = [address for address in (oauth, openid) if visit.ask("GET", address).members != visit.metadata]
    if not missing:
        return Verdict(True, f"All well-known addresses have the same metadata, including {oauth}.")
    reader = f"plain OAuth clients read {oauth} (RFC 8414 3)" if oauth in missing else f"some clients read {openid}"
    return skipped(
        f"The issuer has a path, so {reader}, which does not lead to this server. Map /.well-known of the domain to it"
        " too, if its front can: an HTTP API or a CloudFront distribution, but not a stage of a REST API. OpenID "
        f"Connect clients read {visit.url}{OPENID}, which works. Without a path in the issuer, there is nothing to map."
    )


def _endpoints(visit: Visit) -> Verdict:
    problems, names = [], [name for name in visit.metadata if name.endswith("_endpoint") or name == "jwks_uri"]
    for name in names:
        address = str(visit.metadata[name])
        if not address.startswith(visit.url + "/"):
            problems.append(f"{name} is {address}, on another server")
            continue
        answer = visit.ask("GET", address) if name in _BY_GET else visit.ask("POST", address, {})
        if answer.status in (404, 405) or answer.status >= 500 or answer.from_gateway:
            problems.append(f"{name} returns {answer.status}")
    fix = "Set SIGNET_ISSUER to the public address; for a status, look in the log at that time."
    return judge(problems, f"All {len(names)} endpoints of the metadata respond.", fix)


def _keys(visit: Visit) -> Verdict:
    import jwt

    keys = visit.ask("GET", visit.endpoint("jwks_uri", "/oauth2/jwks")).members.get("keys")
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        return Verdict(False, "The JWKS is not a JWK Set.", REDEPLOY)
    problems = []
    for key in keys:
        name = key.get("kid", "a key")
        problems += [f"{name} has no {member}" for member in ("kid", "alg", "use") if not key.get(member)]
        if _PRIVATE & set(key):
            problems.append(f"{name} CONTAINS ITS PRIVATE KEY")
        try:
            public: Any = jwt.PyJWK(key).key
        except jwt.PyJWTError as error:
            problems.append(f"{name} cannot be read ({error})")
        else:
            if getattr(public, "key_size", 2048) < 2048 and key.get("kty") == "RSA":
                problems.append(f"{name} is shorter than 2048 bits")
    if len({key.get("kid") for key in keys}) < len(keys):
        problems.append("two keys have the same kid")
    advertised = {
        alg for kind in _SIGNED_RESPONSES for alg in visit.metadata.get(f"{kind}_signing_alg_values_supported", ())
    } - {"none"}
    missing = sorted(advertised - {key.get("alg") for key in keys})
    problems += [f"{alg} is advertised but has no key" for alg in missing]
    return judge(problems, f"{len(keys)} public keys: {', '.join(str(key.get('alg')) for key in keys)}.", REDEPLOY)


def _unknown_client(visit: Visit) -> Verdict:
    answer = visit.authorize_unknown_client()
    if answer.header("location") or 300 <= answer.status < 400:
        detail = f"A request of an unknown client is redirected (status {answer.status}), which is an open redirector."
        return Verdict(False, detail, "RFC 9700 4.11.2 forbids it. " + REDEPLOY)
    error_page = answer.status == 400 and answer.header("content-type").startswith("text/html")
    problems = [] if error_page else [f"A request of an unknown client gets status {answer.status}, not an error page"]
    return judge(problems, "A request of an unknown client gets an error page and is not redirected.", REDEPLOY)


def _redirected_error(visit: Visit) -> Verdict:
    """Check that the error redirect of a `prompt=none` request without a session has the issuer (RFC 9207)."""
    if visit.client is None:
        return skipped("To check `iss` in redirects, a registered client is needed, and none is available.")
    redirect_uri = visit.client.redirect_uris[0]
    query = {
        "response_type": "code",
        "client_id": visit.client.client_id,
        "redirect_uri": redirect_uri,
        "scope": visit.client.scope,
        "state": "doctor",
        "prompt": "none",
        "code_challenge": pkce.challenge("doctor-" * 7),
        "code_challenge_method": "S256",
    }
    answer = visit.authorize(query)
    location = answer.header("location")
    if answer.status not in (302, 303) or not location.startswith(redirect_uri):
        detail = f"A request of {visit.client.client_id} with prompt=none gets {answer.status}, not a redirect."
        return Verdict(False, detail, REDEPLOY)
    parameters = dict(parse_qsl(urlsplit(location).query))
    problems = [
        f"{name} is {parameters.get(name)!r}, not {value!r}"
        for name, value in (("iss", visit.metadata["issuer"]), ("state", "doctor"), ("error", "login_required"))
        if parameters.get(name) != value
    ]
    return judge(problems, "Error redirects contain error, state and the issuer (RFC 9207).", REDEPLOY)


def _token_error(visit: Visit) -> Verdict:
    answer = visit.ask("POST", visit.endpoint("token_endpoint", "/oauth2/token"), {"grant_type": "authorization_code"})
    problems = []
    if answer.status != 401 or answer.members.get("error") != "invalid_client":
        problems.append(f"without a client it returns {answer.status} {answer.members.get('error', '')}".rstrip())
    if not answer.header("content-type").startswith("application/json"):
        problems.append("its error is not JSON")
    if "no-store" not in answer.header("cache-control"):
        problems.append("caches may store its error")
    return judge(problems, "Errors of the token endpoint are JSON and not cached (RFC 6749 5.2).", REDEPLOY)


def _not_found(visit: Visit) -> Verdict:
    answer = visit.ask("GET", "/signet-doctor-unknown")
    if answer.from_gateway:
        return skipped(
            f"Unknown addresses are answered by the gateway itself (status {answer.status}): a REST API, and the local"
            " server that emulates it, do not forward them. With an HTTP API, Signet's own page is shown."
        )
    problems = [] if answer.status == 404 else [f"An unknown address gets status {answer.status}"]
    return judge(problems, "An unknown address gets 404.", REDEPLOY)


def _challenge(visit: Visit) -> Verdict:
    answer = visit.ask("GET", visit.endpoint("userinfo_endpoint", "/oauth2/userinfo"))
    if answer.status == 401 and answer.header("www-authenticate"):
        return Verdict(True, "A 401 response has WWW-Authenticate.")
    if answer.status == 401 and answer.header("x-amzn-remapped-www-authenticate"):
        return skipped(
            "API Gateway (REST) renames WWW-Authenticate. Clients still get the error in the body, and a 401 page is a"
            " usable sign-in page. An HTTP API (`signet deploy`) keeps the header."
        )
    fix = "The HTTP API sets it by a response mapping for 401 (infra/aws/api.yaml): deploy again."
    return Verdict(False, f"UserInfo without a token returns {answer.status} without WWW-Authenticate.", fix)


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
        problems.append("cookies are allowed across origins")
    return judge(problems, "Web pages may read the keys and request tokens, without cookies.", REDEPLOY)


def _health(visit: Visit) -> Verdict:
    answer = visit.ask("GET", "/healthz")
    problems = [] if answer.status == 200 else [f"/healthz returns {answer.status}"]
    return judge(problems, "/healthz returns ok.", "Look in the log at that time.")


def _deep_health(visit: Visit) -> Verdict:
    unauthenticated = visit.ask("GET", "/healthz?deep=1")
    if unauthenticated.status != 401:
        detail = f"The deep check without a token returns {unauthenticated.status}, not 401."
        return Verdict(False, detail, REDEPLOY)
    if not visit.operator_token:
        return skipped("The deep check requires a token. Set SIGNET_OPERATOR_TOKEN to include it.")
    if not (visit.url.startswith("https://") or visit.is_local):
        return skipped("The deep check requires a token, which is not sent over unencrypted HTTP.")
    answer = visit.ask("GET", "/healthz?deep=1", Authorization=f"Bearer {visit.operator_token}")
    if answer.status == 401:
        fix = "Set SIGNET_OPERATOR_TOKEN_HASH on the server to the SHA-256 of the token."
        return Verdict(False, "The server rejects the token in SIGNET_OPERATOR_TOKEN.", fix)
    problems = [] if answer.status == 200 else [f"A table or key is not reachable (status {answer.status})"]
    parts = f"{len(answer.members.get('tables', ()))} tables and {len(answer.members.get('keys', ()))} keys"
    return judge(problems, f"The server reaches {parts}.", "The log names it; check the table and the key.")


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
    ("mutual TLS domain", aliases.check),
)
