"""The check of passkeys: their domain, and the other origins that use them."""

from collections import Counter
from itertools import islice
from urllib.parse import urlsplit

from chalicelib.protocol.passkey import rp_id_of
from chalicelib.protocol.redirect_uris import origin_of
from infra.operator.doctor.findings import Verdict, judge, skipped
from infra.operator.doctor.stage import Inside
from infra.operator.doctor.visit import Unreachable, ask

PATH = "/.well-known/webauthn"
MAX_READ = 1000
_FIX = (
    "See docs/passkeys.md. Passkeys belong to their domain: set SIGNET_RP_ID to the domain that they were created for, "
    f"and let https://DOMAIN{PATH} name the origin of this server (SIGNET_RELATED_ORIGINS there). Remove those that "
    "no longer work by `signet user passkey remove`."
)


def domain_of(inside: Inside, issuer: str | None) -> str | None:
    """Return the domain of the passkeys of a stage with this issuer; None if it has none, or the issuer is unknown."""
    setting = inside.variables.get("SIGNET_RP_ID") if inside.in_aws else inside.store.settings.rp_id
    return rp_id_of(setting or None, issuer) if issuer else None


def check(inside: Inside, issuer: str | None) -> Verdict:
    """Check that browsers accept the domain of the passkeys, and that those that exist belong to it."""
    if issuer is None:
        return skipped("The address of the server is unknown.")
    domain, host = domain_of(inside, issuer), urlsplit(issuer).hostname or ""
    if domain is None:
        return skipped(f"Passkeys are not offered: browsers allow none at the address {host}. Use a domain name.")
    origin = origin_of(issuer) or ""
    related = inside.variables.get("SIGNET_RELATED_ORIGINS", "").split() if inside.in_aws else []
    expected = {*related, *(inside.store.settings.related_origins if not inside.in_aws else ())}
    if host != domain and not host.endswith(f".{domain}"):
        expected.add(origin)
    problems = []
    if expected:
        published = _published(origin if domain == host else f"https://{domain}")
        problems += [f"{domain}{PATH} does not name {each}" for each in sorted(expected - published)]
    domains = Counter(passkey.rp_id for passkey in islice(inside.store.passkeys.scan(), MAX_READ))
    foreign = {name: count for name, count in domains.items() if name != domain}
    problems += [f"{count} passkeys belong to {name}, not to {domain}" for name, count in sorted(foreign.items())]
    return judge(problems, f"The domain of the passkeys is {domain}; {domains[domain]} are registered.", _FIX)


def _published(origin: str) -> set[str]:
    """Return the origins that a domain names, none when they cannot be read."""
    try:
        origins = ask("GET", origin + PATH).members.get("origins")
    except Unreachable:
        return set()
    return {each for each in origins if isinstance(each, str)} if isinstance(origins, list) else set()
