"""Client authentication by a certificate, which the TLS handshake has proved the key of (RFC 8705 section 2)."""

from base64 import b64encode
from ipaddress import ip_address

from chalicelib.http.messages import Request
from chalicelib.keys.certificates import normal_name, read_certificate
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidClient
from chalicelib.protocol.mutual_tls import METHODS, SELF_SIGNED, TLS_CLIENT_AUTH, Certificate
from chalicelib.server import AuthorizationServer


def read_certificate_of(server: AuthorizationServer, http: Request) -> None:
    """Set `http.certificate`, if the request has one. Raises InvalidClient for one that cannot be used."""
    if http.presented_certificate is None:
        return
    try:
        http.certificate = read_certificate(http.presented_certificate, server.now())
    except ValueError as error:
        raise InvalidClient(f"The client certificate cannot be used: {error}.") from error


def expects_certificate(client: Client) -> bool:
    """Return whether a certificate is enough for the client to authenticate."""
    return not set(METHODS).isdisjoint(client.auth_methods)


def method_of(client: Client, certificate: Certificate) -> str:
    """Return the method by which a certificate authenticates a client, "" if it does not."""
    if SELF_SIGNED in client.auth_methods and _is_registered(client, certificate):
        return SELF_SIGNED
    if TLS_CLIENT_AUTH in client.auth_methods and _names(client, certificate):
        return TLS_CLIENT_AUTH
    return ""


def _is_registered(client: Client, certificate: Certificate) -> bool:
    return b64encode(certificate.der).decode() in (client.tls_client_certificates or ())


def _names(client: Client, certificate: Certificate) -> bool:
    """Return whether a certificate of an authority names the client, by the one member that says how.

    The gateway trusts the certificates that clients have signed themselves too, and anyone can write any name in one.
    """
    if certificate.self_issued:
        return False
    if client.tls_client_auth_subject_dn is not None:
        return certificate.subject == normal_name(client.tls_client_auth_subject_dn)
    if client.tls_client_auth_san_dns is not None:
        return client.tls_client_auth_san_dns.lower() in certificate.dns
    if client.tls_client_auth_san_uri is not None:
        return client.tls_client_auth_san_uri in certificate.uris
    if client.tls_client_auth_san_ip is not None:
        return ip_address(client.tls_client_auth_san_ip) in certificate.addresses
    return client.tls_client_auth_san_email in certificate.emails
