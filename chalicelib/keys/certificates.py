"""Certificates of clients (RFC 5280), their names as text (RFC 4514), and which of them can be registered."""

import hashlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chalicelib.protocol.handles import base64url
from chalicelib.protocol.mutual_tls import Certificate, PresentedCertificate

if TYPE_CHECKING:
    from cryptography import x509

MAX_PEM = 16384  # characters
_RSA_BITS, _EC_BITS = 2048, 256  # the least that API Gateway accepts
_HASHES = ("sha256", "sha384", "sha512")
# Names of attributes beside those that RFC 4514 section 3 lists, as OpenSSL and Java write them.
_NAMES = {
    **dict.fromkeys(("emailAddress", "EMAILADDRESS", "E"), "1.2.840.113549.1.9.1"),
    **dict.fromkeys(("serialNumber", "SERIALNUMBER"), "2.5.4.5"),
    **dict.fromkeys(("organizationIdentifier", "OID.2.5.4.97"), "2.5.4.97"),
    **dict.fromkeys(("jurisdictionC", "jurisdictionCountryName"), "1.3.6.1.4.1.311.60.2.1.3"),
    **dict.fromkeys(("jurisdictionST", "jurisdictionStateOrProvinceName"), "1.3.6.1.4.1.311.60.2.1.2"),
    **dict.fromkeys(("jurisdictionL", "jurisdictionLocalityName"), "1.3.6.1.4.1.311.60.2.1.1"),
    "businessCategory": "2.5.4.15",
    "dnQualifier": "2.5.4.46",
    "GN": "2.5.4.42",
    "postalCode": "2.5.4.17",
    "S": "2.5.4.8",
    "SN": "2.5.4.4",
    "title": "2.5.4.12",
}
# A value in hexadecimal is the BER encoding of a string (RFC 4514 section 2.4): its type and its length come first.
_ENCODED = re.compile(r"=\s*#(?:0[cC]|1[346])([0-7][0-9a-fA-F])((?:[0-9a-fA-F]{2})*)(?=[,+]|$)")
_SPACE = re.compile(r"(?<!\\)([,+]) +(?=[A-Za-z0-9.-]+=)")


def read_certificate(presented: PresentedCertificate, now: int) -> Certificate:
    """Return the certificate of a request, which the gateway has verified. Raises ValueError if it cannot be used.

    It must be valid now, and what the gateway says about its subject must be about this certificate.
    """
    certificate = read_pem(presented.pem)
    if problem := certificate.problem_at(now):
        raise ValueError(problem)
    if presented.subject_dn and not _is_same_name(presented.subject_dn, certificate.subject):
        raise ValueError("the gateway names another subject than the certificate")
    return certificate


def read_pem(pem: str) -> Certificate:
    """Return the only certificate in a PEM. Raises ValueError."""
    from cryptography import x509

    if len(pem) > MAX_PEM:
        raise ValueError("it is too long")
    if pem.count("-----BEGIN ") != 1:
        raise ValueError("it is not one certificate in PEM")
    (certificate,) = _read(x509.load_pem_x509_certificates, _encoded(pem))
    return certificate


def read_der(der: bytes) -> Certificate:
    """Return a certificate. Raises ValueError."""
    from cryptography import x509

    (certificate,) = _read(lambda encoded: [x509.load_der_x509_certificate(encoded)], der)
    return certificate


def split_pem(pems: str) -> list[Certificate]:
    """Return all certificates of a bundle. Raises ValueError."""
    from cryptography import x509

    return _read(x509.load_pem_x509_certificates, _encoded(pems)) if pems.strip() else []


def pem_of(der: bytes) -> str:
    """Return a certificate in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()


def problem_with_self_signed(der: bytes) -> str:
    """Return why a client cannot be registered with a certificate that it has signed itself, "" if it can.

    The gateway trusts it as it trusts an authority. So it must not be able to sign others: its client could name any
    subject in them.
    """
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.x509.oid import ExtendedKeyUsageOID

    certificate = x509.load_der_x509_certificate(der)
    try:
        certificate.verify_directly_issued_by(certificate)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return "it is not signed by its own key: trust its authority instead (`signet truststore add`)"
    usage, extended = _extension(certificate, x509.KeyUsage), _extension(certificate, x509.ExtendedKeyUsage)
    if certificate.version is not x509.Version.v3 or _is_authority(certificate) or (usage and usage.key_cert_sign):
        return "it may sign other certificates: create it with basicConstraints=critical,CA:FALSE"
    if extended is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in extended:
        return "its extendedKeyUsage does not have clientAuth"
    return _weakness(certificate)


def problem_with_authority(der: bytes) -> str:
    """Return why a certificate cannot be trusted as an authority, "" if it can."""
    from cryptography import x509

    certificate = x509.load_der_x509_certificate(der)
    if not _is_authority(certificate):
        return "it is not the certificate of an authority (basicConstraints CA:TRUE)"
    return _weakness(certificate)


def normal_name(text: str) -> str:
    """Return a distinguished name in the form that names are compared in. Raises ValueError for another text.

    Values are compared exactly, in this order; only spelling is normalised: escapes, names of attributes, spaces after
    commas, and the order inside of a relative name.
    """
    from cryptography import x509

    oids = {name: x509.ObjectIdentifier(oid) for name, oid in _NAMES.items()}
    try:
        spelled = _ENCODED.sub(_decoded, _SPACE.sub(r"\1", text.strip()))
        name = x509.Name.from_rfc4514_string(spelled, oids)
    except ValueError as error:
        raise ValueError("it is not a distinguished name (RFC 4514)") from error
    if not name.rdns:
        raise ValueError("it is an empty name")
    return ",".join(_relative_names(name))


def _is_same_name(text: str, subject: str) -> bool:
    """Return whether a name of the gateway is a subject. It may begin with the country or with the common name."""
    from cryptography import x509

    try:
        name = normal_name(text)
    except ValueError:
        return False
    parsed = x509.Name.from_rfc4514_string(name)
    return subject in (name, ",".join(reversed(_relative_names(parsed))))


def _relative_names(name: "x509.Name") -> list[str]:
    """Return the parts of a name as text, the most specific one first."""
    return ["+".join(sorted(each.rfc4514_string() for each in part)) for part in reversed(name.rdns)]


def _decoded(match: re.Match[str]) -> str:
    """Return an attribute whose value was encoded, with each of its bytes escaped.

    Raises ValueError for another length than that of its bytes, which the library does not compare.
    """
    length, value = match.groups()
    if int(length, 16) * 2 != len(value):
        raise ValueError("its length is wrong")
    return "=" + "".join(f"\\{value[at : at + 2]}" for at in range(0, len(value), 2))


def _encoded(pem: str) -> bytes:
    if not pem.isascii():
        raise ValueError("it is not PEM")
    return pem.encode()


def _read(load: Callable[[bytes], list["x509.Certificate"]], encoded: bytes) -> list[Certificate]:
    """Return what a function of the library reads. Raises ValueError for everything that it rejects."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return [_content_of(certificate) for certificate in load(encoded)]
    except (
        *(ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion),
        *(x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
    ) as error:
        raise ValueError("it is malformed, or has something that is not supported") from error


def _content_of(certificate: "x509.Certificate") -> Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    der = certificate.public_bytes(Encoding.DER)
    names = _extension(certificate, x509.SubjectAlternativeName)
    of_kind: dict[Any, list[Any]] = {}
    for each in names or ():
        of_kind.setdefault(type(each), []).append(each.value)
    return Certificate(
        der,
        base64url(hashlib.sha256(der).digest()),
        ",".join(_relative_names(certificate.subject)),
        certificate.subject == certificate.issuer,
        int(certificate.not_valid_before_utc.timestamp()),
        int(certificate.not_valid_after_utc.timestamp()),
        frozenset(name.lower() for name in of_kind.get(x509.DNSName, ())),
        frozenset(of_kind.get(x509.UniformResourceIdentifier, ())),
        frozenset(of_kind.get(x509.IPAddress, ())),
        frozenset(of_kind.get(x509.RFC822Name, ())),
    )


def _extension(certificate: "x509.Certificate", kind: Any) -> Any:
    """Return the value of an extension, or None."""
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _is_authority(certificate: "x509.Certificate") -> bool:
    from cryptography import x509

    constraints = _extension(certificate, x509.BasicConstraints)
    return constraints is not None and bool(constraints.ca)


def _weakness(certificate: "x509.Certificate") -> str:
    """Return why API Gateway would reject a key or a signature as too weak, "" if it would not."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    try:
        key, algorithm = certificate.public_key(), certificate.signature_hash_algorithm
    except (UnsupportedAlgorithm, ValueError):
        return "its key or its signature is of a kind that is not supported"
    least = {RSAPublicKey: _RSA_BITS, EllipticCurvePublicKey: _EC_BITS}
    fitting = any(isinstance(key, kind) and getattr(key, "key_size", 0) >= bits for kind, bits in least.items())
    if not fitting or algorithm is None or algorithm.name not in _HASHES:
        return "it needs an RSA key of 2048 bits or an elliptic key of 256 bits or more, and SHA-256 or stronger"
    return ""
