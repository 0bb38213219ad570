"""What the operator decides about client metadata documents: pinned copies, and URLs and hosts that are blocked."""

from dataclasses import replace

from chalicelib.clients.client_lifetime import LIFETIME
from chalicelib.clients.document_content import read_document
from chalicelib.protocol.client_document import NEVER, ClientDocument, block_id, is_document_url, is_host
from chalicelib.protocol.errors import InvalidClientMetadata
from chalicelib.protocol.resource_uris import normalize
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.store import Store
from chalicelib.storage.table import Refused


def block(store: Store, blocked: str) -> None:
    """Reject all requests of the clients with this URL, or with a document at this host, within a minute.

    Raises InvalidClientMetadata when it is neither the URL of a document nor a host without a port.
    """
    store.documents.put(ClientDocument(_block_id(blocked), NEVER, blocked_at=store.now()))


def unblock(store: Store, blocked: str) -> bool:
    """Accept documents with this URL or at this host again. Return False when they were not blocked."""
    key = _block_id(blocked)
    was_blocked = store.documents.get(key) is not None
    store.documents.delete(key)
    return was_blocked


def pin(store: Store, url: str, content: bytes) -> ClientDocument:
    """Use a copy of a document, which is then not fetched; return its record. Raises InvalidClientMetadata."""
    if not is_document_url(url):
        raise InvalidClientMetadata(f"{url} cannot be the URL of a client metadata document.")
    try:
        document = read_document(url, content, store.settings.open_client_scope)
    except ValueError as error:
        raise InvalidClientMetadata(f"The document cannot be used: {error}") from error
    if store.resources.get(normalize(url)):
        raise InvalidClientMetadata(f"{url} is the URI of a resource.")
    now, before = store.now(), store.documents.get(url)
    first_seen_at = before.first_seen_at if before else now
    document = replace(document, fetched_at=now, fresh_until=now, first_seen_at=first_seen_at)
    document = replace(document, pinned_at=now, expires_at=NEVER)
    store.documents.put(document)
    return document


def unpin(store: Store, url: str) -> ClientDocument:
    """Fetch a document again when it is next used; return its record.

    Raises InvalidClientMetadata if it is not pinned.
    """
    changes = {"fresh_until": store.now(), "expires_at": store.now() + LIFETIME}
    changed = store.documents.transition((url,), attr("pinned_at").exists(), changes, remove=("pinned_at",))
    if isinstance(changed, Refused):
        raise InvalidClientMetadata(f"The document {url} is not pinned.")
    return changed


def blocked_urls(documents: list[ClientDocument]) -> list[str]:
    """Return the URLs and hosts that are blocked, by all records of documents."""
    return sorted(document.document_id.removeprefix(block_id("")) for document in documents if document.blocked_at)


def _block_id(blocked: str) -> str:
    if not is_document_url(blocked) and (":" in blocked or not is_host(blocked)):
        raise InvalidClientMetadata(f"{blocked} is neither the https URL of a document nor a host without a port.")
    return block_id(blocked)
