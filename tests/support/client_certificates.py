"""Clients that use mutual TLS: their certificates, and requests that reach the handler as the gateway's events."""

import datetime
import functools
import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from chalicelib.keys.certificates import read_pem
from chalicelib.protocol.mutual_tls import SELF_SIGNED, TLS_CLIENT_AUTH
from tests.support.gateways import Gateway, GatewayBrowser, GatewayRequest, http_1, http_2, rest
from tests.support.site import Registered, Site

ISSUER = "https://login.example.com"
DOMAIN = "mtls.login.example.com"
SUBJECT = "CN=client,OU=Payments,O=Example\\, Inc.,C=US"
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> str:
        """The certificate in PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        """The key in PEM."""
        form, encoding = serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM
        return str(self.key.private_bytes(encoding, form, serialization.NoEncryption()), "ascii")

    @property
    def x5t(self) -> str:
        """The thumbprint of the certificate, computed by the library."""
        return read_pem(self.pem).thumbprint

    @property
    def subject(self) -> str:
        """The subject as a text."""
        return self.certificate.subject.rfc4514_string()


def make_key(kind: str = "EC") -> Any:
    """Return a new private key: EC, a small or a weak one."""
    if kind == "EC":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "P-224":
        return ec.generate_private_key(ec.SECP224R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=int(kind.removeprefix("RSA-")))


def issue(
    subject: str | x509.Name = SUBJECT,
    issuer: Pair | None = None,
    *,
    key: Any = None,
    authority: bool | None = False,
    begins: datetime.timedelta = -DAY,
    ends: datetime.timedelta = 365 * DAY,
    names: Iterable[x509.GeneralName] = (),
    extensions: Iterable[x509.ExtensionType] = (),
    algorithm: Any = None,
) -> Pair:
    """Return a new certificate, signed by its own key or by that of an issuer.

    `authority`: its basicConstraints, None for none.
    """
    key = key or make_key()
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    name = x509.Name.from_rfc4514_string(subject) if isinstance(subject, str) else subject
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )
    if authority is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return Pair(builder.sign(issuer.key if issuer else key, algorithm or hashes.SHA256()), key)


@functools.cache
def authority() -> Pair:
    """Return an authority that the gateway trusts, the same one in the whole run."""
    return issue("CN=An authority,O=Example", authority=True)


@functools.cache
def of_authority(subject: str = SUBJECT) -> Pair:
    """Return a certificate of that authority, the same one for the same subject."""
    return issue(subject, authority())


@functools.cache
def self_signed(subject: str = "CN=an application") -> Pair:
    """Return a certificate that is signed by its own key, the same one for the same subject."""
    return issue(subject)


def names_of_all_kinds() -> list[x509.GeneralName]:
    """Return a subject alternative name of each kind that can be registered, and of another."""
    return [
        x509.DNSName("client.example.com"),
        x509.UniformResourceIdentifier("https://client.example.com/id"),
        x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
        x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
        x509.RFC822Name("client@example.com"),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4")),
    ]


def with_client_auth(*uses: x509.ObjectIdentifier) -> x509.ExtendedKeyUsage:
    """Return what a certificate may be used for; by default to authenticate a client."""
    return x509.ExtendedKeyUsage(uses or (ExtendedKeyUsageOID.CLIENT_AUTH,))


# ---- events


def client_cert(pair: Pair, **changes: Any) -> dict[str, Any]:
    """Return the member `clientCert` of an event, as API Gateway fills it in."""
    certificate, form = pair.certificate, "%b %d %H:%M:%S %Y GMT"
    given = {
        "clientCertPem": pair.pem,
        "subjectDN": pair.subject,
        "issuerDN": certificate.issuer.rfc4514_string(),
        "serialNumber": str(certificate.serial_number),
        "validity": {
            "notBefore": certificate.not_valid_before_utc.strftime(form),
            "notAfter": certificate.not_valid_after_utc.strftime(form),
        },
    }
    return {name: value for name, value in (given | changes).items() if value is not None}


Put = Callable[[dict[str, Any]], None]


def put_certificate(event: dict[str, Any], certificate: Any) -> None:
    """Add what the gateway tells of a certificate to an event, where its kind of event has it."""
    context = event["requestContext"]
    if "http" in context:
        context["authentication"] = {"clientCert": certificate}
    else:
        context["identity"]["clientCert"] = certificate


def custom_domain(event: Callable[[GatewayRequest, str, str], dict[str, Any]], name: str, put: Put) -> Gateway:
    """Return a gateway at the domain for mutual TLS, whose events `put` changes."""

    def make(sent: GatewayRequest, domain: str, stage: str) -> dict[str, Any]:
        content = event(sent, domain, stage)
        put(content)
        return content

    return Gateway(name, make, DOMAIN)


KINDS = {"REST": rest, "HTTP 1.0": http_1, "HTTP 2.0": http_2}


class CertificateBrowser(GatewayBrowser):
    """A client whose requests come by the domain for mutual TLS, with a certificate."""

    def __init__(self, site: Site, pair: Pair | None = None, kind: str = "HTTP 1.0", put: Put | None = None):
        self.pair = pair or of_authority()
        by_default = functools.partial(put_certificate, certificate=client_cert(self.pair))
        super().__init__(site, custom_domain(KINDS[kind], kind, put or by_default))


def pki_client(site: Site, **members: Any) -> Registered:
    """Register a client that authenticates by a certificate of the authority."""
    given: dict[str, Any] = {"token_endpoint_auth_methods": (TLS_CLIENT_AUTH,), "tls_client_auth_subject_dn": SUBJECT}
    return site.client(**(given | members))


def self_signed_client(site: Site, *pairs: Pair, **members: Any) -> Registered:
    """Register a client that authenticates by certificates that it has signed itself."""
    from chalicelib.clients.certificates import add_certificate

    client = site.client(token_endpoint_auth_methods=(SELF_SIGNED,), **members)
    record = client.record
    for pair in pairs or (self_signed(),):
        record, _ = add_certificate(site.server.store, record, pair.pem)
    return replace(client, record=record)
