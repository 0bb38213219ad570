"""Client metadata documents: fetched when their client is first seen, and again when they are no longer fresh.

A document that cannot be used leaves no record. Whatever the reason, the caller learns the same; the log has it.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from chalicelib import events
from chalicelib.clients.document_cache import DocumentCache, DocumentForbidden, DocumentUnusable
from chalicelib.http.addresses import network_of
from chalicelib.http.messages import Request
from chalicelib.protocol.client import Client
from chalicelib.protocol.client_document import ClientDocument, host_of_document
from chalicelib.protocol.durations import DAY, HOUR, MINUTE
from chalicelib.protocol.resource_uris import normalize
from chalicelib.server import AuthorizationServer

MAX_BYTES = 5120
SECONDS = 3.0
FRESH_FOR = HOUR  # without a header that says how long
FRESH_AT_LEAST, FRESH_AT_MOST = MINUTE, DAY
STALE_FOR = 7 * DAY  # while it cannot be fetched again
REFRESH = MINUTE  # that one process has for a refresh; others use the stale copy
UNUSED_FOR = 7 * DAY  # how long a document is kept that no grant was used with
# Of documents without a record, in an hour. A URL that the operator has listed counts for itself alone: requests for
# other documents do not use up its fetches.
FETCHES_PER_ADDRESS, FETCHES_PER_HOST, FETCHES_PER_LISTED_URL = 30, 300, 300


def find_client(
    server: AuthorizationServer,
    http: Request,
    client_id: str,
    accept: Callable[[Client], bool] = lambda _client: True,
    *,
    authorizing: bool = False,
    proves_key: bool = False,
) -> Client | None:
    """Return a client, as `server.client` does, whose document is fetched if it must be.

    `authorizing`: it asks for authorization, which needs a fresh document, and one that `accept` returns True for.
    `proves_key`: it authenticates by a key, which must be in a fresh document. Otherwise a copy of a week is used.
    Raises DocumentUnusable.
    """
    client = server.client(client_id, accept)
    if not server.store.may_have_document(client_id):
        return client

    def is_due(document: ClientDocument) -> bool:
        now, fresh = server.now(), authorizing or (proves_key and document.jwks is not None)
        until = document.fresh_until if fresh else document.fetched_at + STALE_FOR
        return document.pinned_at is None and now >= until

    if client and (client.document is None or not is_due(client.document)):
        return client
    store = server.store
    records, read_at = server.read_records_of_client(client_id)
    if records.get(store.clients.lookup(client_id)) or store.is_blocked(records, client_id):
        return None
    document = store.document_in(records, client_id)
    try:
        if document is None:
            document = _fetch_new(server, http, client_id)
        elif is_due(document) or (authorizing and _may_be_outdated(server, document, accept)):
            document = _refresh(server, http, document)
    except DocumentForbidden:
        document = None
    if document is None or document.blocked_at is not None:  # blocked since it was read
        server.cache_client(client_id, None)
        return None
    client = _client_of(server, document)
    server.cache_client(client_id, client, read_at)
    return client if accept(client) else None


def _client_of(server: AuthorizationServer, document: ClientDocument) -> Client:
    return Client.of_document(document, server.settings.open_client_policy)


def _may_be_outdated(server: AuthorizationServer, document: ClientDocument, accept: Callable[[Client], bool]) -> bool:
    """Return whether the client may have changed what is not accepted, since the document was fetched."""
    old = document.pinned_at is None and server.now() - document.fetched_at >= FRESH_AT_LEAST
    return old and not accept(_client_of(server, document))


def _cache(server: AuthorizationServer) -> DocumentCache[ClientDocument]:
    def merge(current: ClientDocument, fetched: ClientDocument) -> ClientDocument:
        if current.pinned_at is not None or current.blocked_at is not None:  # by the operator, in between
            return current
        kept_until = max(current.expires_at, fetched.expires_at)
        return replace(fetched, first_seen_at=current.first_seen_at, expires_at=kept_until)

    return DocumentCache(server, server.store.documents, merge, REFRESH, STALE_FOR)


def _fetch_new(server: AuthorizationServer, http: Request, url: str) -> ClientDocument:
    """Fetch and store a document of which there is no record. Raises DocumentUnusable."""
    is_listed = url in server.settings.client_document_hosts

    def count() -> None:
        if not is_listed:
            _count(server, "documents of an address", network_of(http.source_ip), FETCHES_PER_ADDRESS)

    def fetch() -> ClientDocument:
        if is_listed:
            _count(server, "documents of a listed URL", url, FETCHES_PER_LISTED_URL)
        else:
            _count(server, "documents of a host", host_of_document(url), FETCHES_PER_HOST)
        return _fetch(server, url)

    no_resource = server.store.resources.checking((normalize(url),), absent=True)
    return _cache(server).fetch_new(url, fetch, count, (no_resource,))


def _refresh(server: AuthorizationServer, http: Request, stored: ClientDocument) -> ClientDocument:
    """Return a document that is fetched again, as `DocumentCache.refresh` does. Raises DocumentUnusable."""
    document = _cache(server).refresh(stored, partial(_fetch, server, stored.document_id))
    if document.pinned_at is None and document.digest != stored.digest:
        events.note(http, events.CLIENT_DOCUMENT_CHANGED, client_id=document.document_id)
    return document


def _fetch(server: AuthorizationServer, url: str) -> ClientDocument:
    """Return the document at a URL. Raises DocumentUnusable."""
    # Few requests need what sends requests, and what checks a document.
    from chalicelib.clients.document_content import read_document
    from chalicelib.http.outbound import Undeliverable, get_with_headers

    if server.resources({url}):  # or an ID token for the client could be used as an access token for the resource
        raise DocumentForbidden("the client_id is the URI of a resource")
    networks = server.settings.outbound_networks
    try:
        content, headers = get_with_headers(url, networks, at_most=MAX_BYTES, seconds=SECONDS)
        if not _is_json(headers.get("content-type", "")):
            raise DocumentUnusable("the response is not JSON")
        document = read_document(url, content, server.settings.open_client_policy)
    except (Undeliverable, ValueError) as error:
        raise DocumentUnusable(str(error)) from error
    now = server.now()
    fresh_until = now + _fresh_for(headers.get("cache-control", ""))
    return replace(document, fetched_at=now, first_seen_at=now, fresh_until=fresh_until, expires_at=now + UNUSED_FOR)


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


def _fresh_for(cache_control: str) -> int:
    """Return for how many seconds a document is fresh, by its Cache-Control (RFC 9111 section 5.2.2)."""
    directives = [directive.strip().lower() for directive in cache_control.split(",")]
    if "no-store" in directives or "no-cache" in directives:
        return FRESH_AT_LEAST
    ages = [directive.removeprefix("max-age=").strip('"') for directive in directives if directive[:8] == "max-age="]
    if len(ages) != 1 or not (ages[0].isascii() and ages[0].isdigit() and len(ages[0]) <= 12):
        return FRESH_AT_LEAST if ages else FRESH_FOR
    return min(max(int(ages[0]), FRESH_AT_LEAST), FRESH_AT_MOST)


def _count(server: AuthorizationServer, kind: str, counted: str, limit: int) -> None:
    """Count a fetch in this hour. Raises DocumentUnusable beyond the limit."""
    if not server.count_in_hour(kind, counted, limit):
        raise DocumentUnusable(f"too many {kind} were fetched in this hour")
