"""The doctor's look at the registered clients: what RFC 9700 and its neighbours advise against, clause by clause."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from chalicelib.client_metadata import check_client
from chalicelib.errors import OAuthError
from chalicelib.handles import secret_hash
from chalicelib.models import Client
from chalicelib.settings import LOOPBACK
from chalicelib.store import Store
from infra import demo, embedded
from infra.doctor.findings import Finding

DAY = 86400
MANY_SCOPES = 10
LONGEST = {
    "authorization_code_lifetime": (300, "RFC 6749 §4.1.2"),
    "access_token_lifetime": (3600, "RFC 6750 §5.3"),
    "refresh_token_lifetime": (90 * DAY, "RFC 9700 §4.14.2"),
}
_LOCAL_HOSTS = [host.strip("[]") for host in LOOPBACK]


@dataclass(frozen=True)
class Rule:
    """`broken` gives a sentence for each way in which a client of this stage breaks the `clause`."""

    clause: str
    broken: Callable[[Client, str], list[str]]
    fix: str


def look(store: Store) -> Iterator[Finding]:
    """A finding for each rule that each client breaks; a single one when no client breaks any."""
    count, well = 0, True
    for client in sorted(store.clients.scan(), key=lambda client: client.client_id):
        if client.disabled_at is not None:
            continue
        count += 1
        for rule in RULES:
            for problem in rule.broken(client, store.settings.stage):
                well = False
                detail = f"{problem} ({rule.clause})." if rule.clause else f"{problem}."
                yield Finding(f"client {client.client_id}", False, detail, rule.fix)
    if well:
        yield Finding("clients", True, f"{count} clients, none of which breaks a rule of RFC 9700 that we check.")


def _without_pkce(client: Client, _stage: str) -> list[str]:
    return [] if client.require_pkce else ["It may leave out PKCE, and an intercepted code is then worth something"]


def _plain_http(client: Client, _stage: str) -> list[str]:
    uris = [
        uri for uri in client.redirect_uris if uri.startswith("http:") and urlsplit(uri).hostname not in _LOCAL_HOSTS
    ]
    return [f"The code travels in clear to {uri}" for uri in uris]


def _localhost(client: Client, stage: str) -> list[str]:
    if stage == embedded.STAGE:
        return []
    uris = [uri for uri in client.redirect_uris if uri.startswith("http:") and urlsplit(uri).hostname == "localhost"]
    return [f"{uri} names localhost, which may lead elsewhere" for uri in uris]


def _wildcards(client: Client, _stage: str) -> list[str]:
    return [f"{uri} looks like a pattern; it is compared as it stands" for uri in client.redirect_uris if "*" in uri]


def _forwarding(client: Client, _stage: str) -> list[str]:
    """A redirect URI that carries another address in its query is an open redirector in waiting."""
    uris = [uri for uri in client.redirect_uris if "http" in urlsplit(uri).query.lower()]
    return [f"{uri} carries another address, and may send the code on" for uri in uris]


def _old_grants(client: Client, _stage: str) -> list[str]:
    old = {"password", "implicit"} & set(client.grant_types) | {"token", "id_token token"} & set(client.response_types)
    return [f"It is registered for {name}" for name in sorted(old)]


def _basic_sign_in(client: Client, _stage: str) -> list[str]:
    if not client.direct_sign_in:
        return []
    return ["It may have people sign in by HTTP Basic, where no second factor fits and no browser ever signs out"]


def _everything(client: Client, _stage: str) -> list[str]:
    many = len(client.scopes) > MANY_SCOPES
    return [f"It may ask for {len(client.scopes)} scopes"] if many and client.public else []


def _lifetimes(client: Client, _stage: str) -> list[str]:
    given = {name: getattr(client, name) for name in LONGEST}
    return [
        f"Its {name} is {given[name]} s, more than {most} s, {clause}"
        for name, (most, clause) in LONGEST.items()
        if (given[name] or 0) > most
    ]


def _several_secrets(client: Client, _stage: str) -> list[str]:
    return [f"It has {len(client.secret_hashes)} secrets that work"] if len(client.secret_hashes) > 1 else []


def _no_secret(client: Client, _stage: str) -> list[str]:
    none = not client.public and not client.secret_hashes
    return ["It is confidential and has no secret, so it can get no token"] if none else []


def _the_demo(client: Client, stage: str) -> list[str]:
    known = secret_hash(demo.CLIENT_SECRET) in client.secret_hashes and stage != embedded.STAGE
    return ["Its secret is the demo's, which everybody knows"] if known else []


def _refused_today(client: Client, _stage: str) -> list[str]:
    try:
        check_client(client)
    except OAuthError as error:
        return [f"It could not be registered today: {error.description.rstrip('.')}"]
    return []


RULES = (
    Rule(
        "RFC 9700 §2.1.1",
        _without_pkce,
        "Have the application send code_challenge, then `client update … --pkce`.",
    ),
    Rule("RFC 9700 §2.6", _plain_http, "Register the https address instead."),
    Rule("RFC 8252 §8.3", _localhost, "Register http://127.0.0.1/… instead; any port will do."),
    Rule("RFC 9700 §2.1, §4.1.3", _wildcards, "Register each address in full."),
    Rule("RFC 9700 §4.11.1", _forwarding, "Register an address of the application that forwards nobody."),
    Rule("RFC 9700 §2.1.2, §2.4", _old_grants, "Use the authorization code with PKCE."),
    Rule(
        "RFC 9700 §2.4", _basic_sign_in, "Have people sign in on our page, then `client update … --no-direct-sign-in`."
    ),
    Rule("RFC 9700 §2.3", _everything, "Register only the scopes that it needs, or one client per purpose."),
    Rule("", _lifetimes, "`client update … --unset` takes a lifetime of its own away; the server's counts then."),
    Rule(
        "",
        _several_secrets,
        "Once the application uses the newer one: `python -m infra --stage … client rotate-secret … --finish`.",
    ),
    Rule("RFC 6749 §2.3.1", _no_secret, "Give it one: `python -m infra --stage … client rotate-secret …`."),
    Rule("RFC 6749 §10.1", _the_demo, "Remove this client: `python -m infra --stage … client delete …`."),
    Rule("RFC 7591 §3.2.2", _refused_today, "`client update …` changes what is named."),
)
