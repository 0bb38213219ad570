"""The check of the domain for mutual TLS, from outside: it answers, and demands a certificate (RFC 8705 section 5)."""

import ssl
from urllib.parse import urlsplit

from infra.operator.doctor.findings import Verdict, judge, skipped
from infra.operator.doctor.visit import Unreachable, Visit, is_uri

# What a server that demands a certificate answers in the handshake; API Gateway closes the connection.
_ALERTS = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE", "BAD_CERTIFICATE")
_CLOSED = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError)
_FIX = (
    "Create the DNS record that `signet deploy` prints, and let the gateway demand certificates at this domain: "
    "docs/mtls.md. `signet doctor --stage …` checks it from inside."
)


def check(visit: Visit) -> Verdict:
    """Check that each domain of the aliases answers, and accepts no connection without a certificate."""
    aliases = visit.metadata.get("mtls_endpoint_aliases")
    if aliases is None:
        return skipped("The server has no domain for mutual TLS.")
    if not isinstance(aliases, dict) or not all(map(_is_https, aliases.values())):
        return Verdict(False, "The mtls_endpoint_aliases are not addresses with https.", _FIX)
    address_by_domain = {urlsplit(address).netloc: address for address in aliases.values()}
    problems = [problem for address in address_by_domain.values() if (problem := _problem(visit, address))]
    domains = ", ".join(address_by_domain)
    return judge(problems, f"{domains} accepts no connection without a client certificate.", _FIX)


def _is_https(address: object) -> bool:
    return isinstance(address, str) and address.startswith("https://") and is_uri(address)


def _problem(visit: Visit, address: str) -> str:
    """Return what is wrong with the domain of an address, "" if it demands a certificate."""
    domain = urlsplit(address).netloc
    try:
        answer = visit.ask("POST", address, {})
    except Unreachable as error:
        return "" if _demands_certificate(error.__cause__) else f"{domain} does not answer: {error}"
    if answer.status == 403:  # of the gateway, if the handshake is not refused
        return ""
    return f"{domain} accepts connections without a client certificate (status {answer.status})"


def _demands_certificate(error: BaseException | None) -> bool:
    """Return whether a connection failed because it had no client certificate."""
    if isinstance(error, _CLOSED):
        return True
    return isinstance(error, ssl.SSLError) and any(alert in str(error) for alert in _ALERTS)
