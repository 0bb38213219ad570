"""The checks of the client metadata for mutual TLS (RFC 8705 sections 2.1.2 and 3.4)."""

import re
from base64 import b64decode
from ipaddress import ip_address

from chalicelib.keys.certificates import normal_name, problem_with_self_signed, read_der
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidClientMetadata
from chalicelib.protocol.mutual_tls import SELF_SIGNED, SUBJECT_MEMBERS, TLS_CLIENT_AUTH

MAX_CERTIFICATES = 5  # the current ones and the next ones; each has about 1 kB in the record
_MAX_NAME = 1000
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DNS = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
_EMAIL = re.compile(r"[!-?A-~]{1,64}@[A-Za-z0-9.-]{1,255}")


def check_tls_members(client: Client) -> None:
    """Check whom a certificate must name, and those that the client has signed. Raises InvalidClientMetadata."""
    given = [name for name in SUBJECT_MEMBERS if getattr(client, name) is not None]
    if len(given) > 1:
        raise InvalidClientMetadata(f"A certificate is found by one name: remove {given[0]} or {given[1]} (RFC 8705).")
    if TLS_CLIENT_AUTH in client.auth_methods and not given:
        names = ", ".join(SUBJECT_MEMBERS)
        raise InvalidClientMetadata(f"The authentication method {TLS_CLIENT_AUTH} needs one of: {names}.")
    if given and not _is_name(given[0], getattr(client, given[0])):
        raise InvalidClientMetadata(f"The {given[0]} must be {_FORMS[given[0]]}.")
    texts = client.tls_client_certificates or ()
    if len(texts) > MAX_CERTIFICATES or len(set(texts)) != len(texts):
        raise InvalidClientMetadata(f"Register at most {MAX_CERTIFICATES} different certificates: remove an older one.")
    for text in texts:
        try:
            problem = problem_with_self_signed(read_der(b64decode(text, validate=True)).der)
        except ValueError:
            problem = "it is not a certificate"
        if problem:
            raise InvalidClientMetadata(f"A certificate cannot be registered: {problem}.")
    if client.tls_client_certificate_bound_access_tokens and client.dpop_bound_access_tokens:
        raise InvalidClientMetadata("Access tokens are bound to a certificate or, by DPoP, to a key: choose one.")
    if texts and SELF_SIGNED not in client.auth_methods:
        raise InvalidClientMetadata(f"Certificates are for the authentication method {SELF_SIGNED}.")


_FORMS = {
    "tls_client_auth_subject_dn": "a distinguished name such as CN=client,O=Example,C=US (RFC 4514)",
    "tls_client_auth_san_dns": "a DNS name such as client.example.com",
    "tls_client_auth_san_uri": "a URI",
    "tls_client_auth_san_ip": "an IP address",
    "tls_client_auth_san_email": "an email address",
}


def _is_name(member: str, value: str) -> bool:
    """Return whether a value has the form that its member needs."""
    if len(value) > _MAX_NAME:
        return False
    try:
        match member:
            case "tls_client_auth_subject_dn":
                normal_name(value)
            case "tls_client_auth_san_ip":
                ip_address(value)
            case "tls_client_auth_san_dns":
                return bool(_DNS.fullmatch(value))
            case "tls_client_auth_san_uri":
                return bool(_URI.fullmatch(value))
            case _:
                return bool(_EMAIL.fullmatch(value))
    except ValueError:
        return False
    return True
