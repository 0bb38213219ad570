"""Mutual TLS (RFC 8705): a client proves in the TLS handshake that it holds the key of a certificate."""

from ipaddress import IPv4Address, IPv6Address

from chalicelib.protocol.values import dataclass

TLS_CLIENT_AUTH = "tls_client_auth"  # by a certificate of an authority, and its subject
SELF_SIGNED = "self_signed_tls_client_auth"  # by a certificate that is registered itself
METHODS = (TLS_CLIENT_AUTH, SELF_SIGNED)
# The members of a client that say whom its certificate must name (section 2.1.2): exactly one of them.
SUBJECT_MEMBERS = (
    "tls_client_auth_subject_dn",
    "tls_client_auth_san_dns",
    "tls_client_auth_san_uri",
    "tls_client_auth_san_ip",
    "tls_client_auth_san_email",
)
# The endpoints that have an address at the domain for mutual TLS, which serves nothing else (section 5).
ENDPOINTS = (
    *("token_endpoint", "revocation_endpoint", "introspection_endpoint"),
    *("pushed_authorization_request_endpoint", "userinfo_endpoint"),
)


@dataclass(frozen=True)
class PresentedCertificate:
    """A certificate as the gateway tells it: nothing of it is checked yet. `subject_dn` is empty if it has none."""

    pem: str
    subject_dn: str


@dataclass(frozen=True)
class Certificate:
    """A certificate that was read. `thumbprint`: the SHA-256 of `der` (section 3.1).

    `subject` is in the form of `keys.certificates.normal_name`. `self_issued`: its subject and issuer are the same.
    Times are in seconds since 1970.
    """

    der: bytes
    thumbprint: str
    subject: str
    self_issued: bool
    not_before: int
    not_after: int
    dns: frozenset[str] = frozenset()
    uris: frozenset[str] = frozenset()
    addresses: frozenset[IPv4Address | IPv6Address] = frozenset()
    emails: frozenset[str] = frozenset()

    def problem_at(self, now: int) -> str:
        """Return why it is not valid at a time, "" if it is."""
        if now < self.not_before:
            return "it is not valid yet"
        return "it has expired" if now > self.not_after else ""
