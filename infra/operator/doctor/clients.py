"""The checks of the registered clients, against RFC 9700 and related specifications."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from chalicelib.clients.client_lifetime import last_use
from chalicelib.clients.record_checks import check_members
from chalicelib.protocol.client import Client
from chalicelib.protocol.durations import DAY, HOUR, MINUTE
from chalicelib.protocol.errors import OAuthError
from chalicelib.protocol.handles import secret_hash
from chalicelib.settings import LOOPBACK_NAMES
from chalicelib.storage.store import Store
from infra.local import demo, embedded
from infra.operator.doctor import documents, key_sets, mutual_tls, profiles
from infra.operator.doctor.findings import Finding
from infra.operator.doctor.stage import Inside

MANY_SCOPES = 10
MANY_UNUSED = 10_000
# seconds
MAX_LIFETIMES = {
    "authorization_code_lifetime": (5 * MINUTE, "RFC 6749 §4.1.2"),
    "access_token_lifetime": (HOUR, "RFC 6750 §5.3"),
    "refresh_token_lifetime": (90 * DAY, "RFC 9700 §4.14.2"),
}


@dataclass(frozen=True)
class Rule:
    """A rule from `clause`. `find_problems` returns a sentence for each way in which a client of a stage breaks it."""

    clause: str
    find_problems: Callable[[Client, str], list[str]]
    fix: str


def inspect(store: Store) -> Iterator[Finding]:
    """Yield a finding for each rule that a client breaks, or a single one when all rules are kept.

    The findings about documents of other clients follow.
    """
    count, ok = 0, True
    registered: list[Client] = []
    clients = sorted(store.clients.scan(), key=lambda client: client.client_id)
    for client in clients:
        if client.disabled_at is not None:
            continue
        if client.registered_with is not None:  # by an application, for which the operator can do nothing
            registered.append(client)
            continue
        count += 1
        for rule in RULES:
            for problem in rule.find_problems(client, store.settings.stage):
                ok = False
                detail = f"{problem} ({rule.clause})." if rule.clause else f"{problem}."
                yield Finding(f"client {client.client_id}", False, detail, rule.fix)
    if ok:
        yield Finding("clients", True, f"All {count} clients follow the checked rules of RFC 9700.")
    if registered:
        yield _self_registered(registered)
    yield from profiles.inspect(clients)
    yield from key_sets.inspect(store)
    inside = Inside(store)
    yield from mutual_tls.inspect(inside)
    yield from documents.inspect(inside)


def _self_registered(clients: list[Client]) -> Finding:
    unused = sum(last_use(client) is None for client in clients)
    detail = f"{len(clients)} clients have registered themselves; {unused} of them have never been used."
    fix = (
        "Let only applications with a token register: SIGNET_CLIENT_REGISTRATION=token. Unused ones expire in 30 days."
    )
    return Finding("registration", unused <= MANY_UNUSED, detail, fix if unused > MANY_UNUSED else "")


def _without_pkce(client: Client, stage: str) -> list[str]:
    is_demo = stage == embedded.STAGE and client.client_id == demo.CLIENT_ID  # of `make run`, to be tried by hand
    if client.require_pkce or is_demo:
        return []
    return ["It may omit PKCE, so an intercepted code can be redeemed"]


def _plain_http(client: Client, _stage: str) -> list[str]:
    uris = [
        uri for uri in client.redirect_uris if uri.startswith("http:") and urlsplit(uri).hostname not in LOOPBACK_NAMES
    ]
    return [f"The code is sent unencrypted to {uri}" for uri in uris]


def _localhost(client: Client, stage: str) -> list[str]:
    if stage == embedded.STAGE:
        return []
    uris = [uri for uri in client.redirect_uris if uri.startswith("http:") and urlsplit(uri).hostname == "localhost"]
    return [f"{uri} uses localhost, which may not resolve to this machine" for uri in uris]


def _wildcards(client: Client, _stage: str) -> list[str]:
    return [
        f"{uri} looks like a pattern, but redirect URIs are compared exactly"
        for uri in client.redirect_uris
        if "*" in uri
    ]


def _forwarding(client: Client, _stage: str) -> list[str]:
    """A redirect URI with another address in its query may be an open redirector."""
    uris = [uri for uri in client.redirect_uris if "http" in urlsplit(uri).query.lower()]
    return [f"{uri} contains another address, and may forward the code to it" for uri in uris]


def _deprecated_grants(client: Client, _stage: str) -> list[str]:
    names = {"password", "implicit"} & set(client.grant_types) | {"token", "id_token token"} & set(
        client.response_types
    )
    return [f"It is registered for {name}" for name in sorted(names)]


def _direct_sign_in(client: Client, _stage: str) -> list[str]:
    if not client.direct_sign_in:
        return []
    return ["It allows sign-in by HTTP Basic, which excludes a second factor and signing out"]


def _many_scopes(client: Client, _stage: str) -> list[str]:
    too_many = client.public and len(client.scopes) > MANY_SCOPES
    return [f"It may request {len(client.scopes)} scopes"] if too_many else []


def _lifetimes(client: Client, _stage: str) -> list[str]:
    lifetimes = {name: getattr(client, name) for name in MAX_LIFETIMES}
    return [
        f"Its {name} is {lifetimes[name]} s, more than {limit} s, {clause}"
        for name, (limit, clause) in MAX_LIFETIMES.items()
        if (lifetimes[name] or 0) > limit
    ]


def _several_secrets(client: Client, _stage: str) -> list[str]:
    return [f"It has {len(client.secret_hashes)} valid secrets"] if len(client.secret_hashes) > 1 else []


def _no_secret(client: Client, _stage: str) -> list[str]:
    missing = client.has_secret_method and not client.secret_hashes and "private_key_jwt" not in client.auth_methods
    return ["It is confidential but has no secret, so it cannot get tokens"] if missing else []


def _other_audience(client: Client, _stage: str) -> list[str]:
    accepted = "private_key_jwt" in client.auth_methods and client.assertion_audience == "token_endpoint"
    return (
        ["Its assertions may name the token endpoint, so another server can have one made for it"] if accepted else []
    )


def _demo_secret(client: Client, stage: str) -> list[str]:
    public = secret_hash(demo.CLIENT_SECRET) in client.secret_hashes and stage != embedded.STAGE
    return ["Its secret is the public secret of the demo client"] if public else []


def _invalid_metadata(client: Client, _stage: str) -> list[str]:
    try:
        check_members(client)
    except OAuthError as error:
        return [f"Its registration is no longer valid: {error.description.rstrip('.')}"]
    return []


RULES = (
    Rule(
        "RFC 9700 §2.1.1",
        _without_pkce,
        "Make the application send code_challenge, then `signet client update … --pkce`.",
    ),
    Rule("RFC 9700 §2.6", _plain_http, "Register an https address instead."),
    Rule("RFC 8252 §8.3", _localhost, "Register http://127.0.0.1/… instead; it allows any port."),
    Rule("RFC 9700 §2.1, §4.1.3", _wildcards, "Register each address in full."),
    Rule("RFC 9700 §4.11.1", _forwarding, "Register an address of the application that does not redirect."),
    Rule("RFC 9700 §2.1.2, §2.4", _deprecated_grants, "Use the authorization code with PKCE."),
    Rule("RFC 9700 §2.4", _direct_sign_in, "Use the sign-in page, then `signet client update … --no-direct-sign-in`."),
    Rule("RFC 9700 §2.3", _many_scopes, "Register only the scopes that it needs, or one client for each purpose."),
    Rule("", _lifetimes, "Use the server's lifetime instead: `signet client update … --unset …`."),
    Rule(
        "",
        _several_secrets,
        "When the application uses the new one: `signet client rotate-secret … --finish --stage …`.",
    ),
    Rule("RFC 6749 §2.3.1", _no_secret, "Create one: `signet client rotate-secret … --stage …`."),
    Rule(
        "draft-ietf-oauth-rfc7523bis",
        _other_audience,
        "When its library puts the issuer into aud: `signet client update … --assertion-audience issuer`.",
    ),
    Rule("RFC 6749 §10.1", _demo_secret, "Delete this client: `signet client delete … --stage …`."),
    Rule("RFC 7591 §3.2.2", _invalid_metadata, "Change the named value: `signet client update …`."),
)
