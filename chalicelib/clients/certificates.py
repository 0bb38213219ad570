"""The registration of clients that use mutual TLS: whom their certificate names, and the certificates of their own."""

from base64 import b64decode, b64encode
from dataclasses import replace

from chalicelib.clients.registration import update_client
from chalicelib.keys.certificates import read_der, read_pem
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidClientMetadata
from chalicelib.protocol.mutual_tls import Certificate
from chalicelib.storage.store import Store


def add_certificate(store: Store, client: Client, pem: str) -> tuple[Client, Certificate]:
    """Register a certificate that a client has signed itself, beside the others; return the record and it.

    Raises InvalidClientMetadata, as `tls_metadata.check_tls_members` does for one that must not be trusted.
    """
    try:
        certificate = read_pem(pem)
        problem = certificate.problem_at(store.now())
    except ValueError as error:
        raise InvalidClientMetadata(f"The certificate cannot be registered: {error}.") from error
    if problem:
        raise InvalidClientMetadata(f"The certificate cannot be registered: {problem}.")
    text = b64encode(certificate.der).decode()

    def add(current: Client) -> Client:
        earlier = tuple(each for each in current.tls_client_certificates or () if each != text)
        return replace(current, tls_client_certificates=(*earlier, text))

    return update_client(store, client, add), certificate


def remove_certificate(store: Store, client: Client, thumbprint: str) -> tuple[Client, Certificate]:
    """Remove a certificate of a client by its thumbprint; return the record and it. Raises InvalidClientMetadata."""
    removed = next((each for each in certificates_of(client) if each.thumbprint == thumbprint), None)
    if removed is None:
        raise InvalidClientMetadata(f"{client.client_id} has no certificate with the thumbprint {thumbprint}.")
    text = b64encode(removed.der).decode()

    def remove(current: Client) -> Client:
        kept = tuple(each for each in current.tls_client_certificates or () if each != text)
        return replace(current, tls_client_certificates=kept or None)

    return update_client(store, client, remove), removed


def certificates_of(client: Client) -> list[Certificate]:
    """Return the certificates that a client has signed itself."""
    return [read_der(b64decode(text)) for text in client.tls_client_certificates or ()]
