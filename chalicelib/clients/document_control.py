"""What the operator decides about client metadata documents: pinned copies, and URLs and hosts that are blocked."""

from dataclasses import replace

from chalicelib.clients.client_lifetime import LIFETIME
from chalicelib.clients.document_content import read_document
from chalicelib.protocol.client_document import BLOCKED_HOSTS, NEVER, ClientDocument, is_document_url, is_host
from chalicelib.protocol.errors import InvalidClientMetadata
from chalicelib.protocol.resource_uris import normalize
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.store import Store
from chalicelib.storage.table import Refused

MAX_HOSTS = 1000  # in one record, which the server reads often


def block(store: Store, blocked: str) -> None:
    """Reject all requests of the clients with this URL, or with a document at this host, within a minute.

    Raises InvalidClientMetadata when it is neither the URL of a document nor a host without a port, and when there are
    too many blocked hosts.
    """
    if _is_host(blocked):
        hosts = attr("hosts")
        there_is_room = hosts.not_exists() | hosts.contains(blocked) | hosts.size().lt(MAX_HOSTS)
        adding = store.blocked_hosts.changing(
            (BLOCKED_HOSTS,), there_is_room, {"expires_at": NEVER}, {"hosts": frozenset({blocked})}, create=True
        )
        if isinstance(store.blocked_hosts.write(adding), Refused):
            raise InvalidClientMetadata(
                f"At most {MAX_HOSTS} hosts can be blocked. Allow hosts instead: SIGNET_CLIENT_DOCUMENTS=list."
            )
    else:
        blocking = {"blocked_at": store.now(), "expires_at": NEVER}
        store.documents.write(store.documents.changing((blocked,), None, blocking, create=True))


def unblock(store: Store, blocked: str) -> bool:
    """Accept documents with this URL or at this host again. Return False when they were not blocked."""
    if _is_host(blocked):
        hosts = store.blocked_hosts.get(BLOCKED_HOSTS)
        if hosts is None or blocked not in hosts.hosts:
            return False
        store.amend(store.blocked_hosts, hosts, lambda current: replace(current, hosts=current.hosts - {blocked}))
        return True
    document = store.documents.get(blocked)
    if document is None or document.blocked_at is None:
        return False
    if document.redirect_uris:
        expires_at = NEVER if document.pinned_at is not None else store.now() + LIFETIME
        store.documents.transition((blocked,), None, {"expires_at": expires_at}, remove=("blocked_at",))
    else:
        store.documents.delete(blocked)
    return True


def pin(store: Store, url: str, content: bytes) -> ClientDocument:
    """Use a copy of a document, which is then not fetched; return its record. Raises InvalidClientMetadata."""
    if not is_document_url(url):
        raise InvalidClientMetadata(f"{url} cannot be the URL of a client metadata document.")
    try:
        document = read_document(url, content, store.settings.open_client_policy)
    except ValueError as error:
        raise InvalidClientMetadata(f"The document cannot be used: {error}") from error
    if store.resources.get(normalize(url)):
        raise InvalidClientMetadata(f"{url} is the URI of a resource.")
    now, before = store.now(), store.documents.get(url)
    document = replace(document, fetched_at=now, fresh_until=now, first_seen_at=now, pinned_at=now, expires_at=NEVER)
    if before:
        document = replace(document, first_seen_at=before.first_seen_at or now, blocked_at=before.blocked_at)
    store.documents.put(document)
    return document


def unpin(store: Store, url: str) -> ClientDocument:
    """Fetch a document again when it is next used; return its record.

    Raises InvalidClientMetadata if it is not pinned.
    """
    document = store.documents.get(url)
    # A block does not expire.
    expires_at = NEVER if document and document.blocked_at is not None else store.now() + LIFETIME
    changes = {"fresh_until": store.now(), "expires_at": expires_at}
    changed = store.documents.transition((url,), attr("pinned_at").exists(), changes, remove=("pinned_at",))
    if isinstance(changed, Refused):
        raise InvalidClientMetadata(f"The document {url} is not pinned.")
    return changed


def read_documents(store: Store) -> list[ClientDocument]:
    """Return all documents that were used, and blocked URLs, sorted by their URLs."""
    records = (record for record in store.documents.scan() if is_document_url(record.document_id))
    return sorted(records, key=lambda document: document.document_id)


def read_blocked_hosts(store: Store) -> frozenset[str]:
    """Return the hosts that are blocked."""
    blocked = store.blocked_hosts.get(BLOCKED_HOSTS)
    return blocked.hosts if blocked else frozenset()


def _is_host(blocked: str) -> bool:
    if is_document_url(blocked):
        return False
    if ":" in blocked or not is_host(blocked):
        raise InvalidClientMetadata(f"{blocked} is neither the https URL of a document nor a host without a port.")
    return True
