"""The key sets at the `jwks_uri` of clients: cached for all processes, and in the memory of each."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from chalicelib.clients.document_cache import DocumentCache, DocumentUnusable
from chalicelib.http.outbound import Undeliverable, get
from chalicelib.keys.client_keys import Jwt, has_key_for, read_json, read_jwks
from chalicelib.protocol.client import Client
from chalicelib.protocol.durations import DAY, MINUTE
from chalicelib.protocol.errors import ClientUnavailable
from chalicelib.protocol.key_set import KeySet, key_set_id
from chalicelib.server import AuthorizationServer

FRESH_FOR = 5 * MINUTE
STALE_FOR = DAY  # while it cannot be fetched again
PAUSE = 30  # seconds between two requests for a set: any caller can name an unknown key
MAX_BYTES = 65536
MAX_SETS = 1000
FETCHES_PER_HOST = 300  # of sets without a record, in an hour, for clients that the operator has not registered


@dataclass
class _Kept:
    """A key set as this process remembers it."""

    record: KeySet | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


def fetch_keys(server: AuthorizationServer, client: Client, uri: str, jwt: Jwt) -> Mapping[str, Any]:
    """Return the key set at the `jwks_uri` of a client, for a JWT of it.

    It is fetched again after a while, or when it has no key with the `kid` of the JWT, but at most once in PAUSE by all
    processes. Raises ClientUnavailable while there is none, because it cannot be fetched, or while it is not known
    whether it has the key now.
    """
    kept = _remembered(server, uri)
    with kept.lock:  # the other threads wait for the same answer
        if kept.record and server.now() < kept.record.fresh_until and has_key_for(jwt, kept.record.jwks):
            return kept.record.jwks
        try:
            kept.record = _read(server, client, uri, jwt)
        except DocumentUnusable as error:
            raise ClientUnavailable(detail=f"the jwks_uri of the client cannot be used: {error}") from error
        if kept.record.refreshing_until > server.now() and not has_key_for(jwt, kept.record.jwks):
            raise ClientUnavailable(detail="the jwks_uri of the client is being fetched, or failed a moment ago")
        return kept.record.jwks


def _read(server: AuthorizationServer, client: Client, uri: str, jwt: Jwt) -> KeySet:
    """Return a key set from its record, or from its website if it must be fetched. Raises DocumentUnusable."""
    sets, now, fetch = server.store.key_sets, server.now(), partial(_fetch, server, uri)
    cache = DocumentCache(server, sets, lambda _current, fetched: fetched, PAUSE, STALE_FOR)
    stored = sets.get(key_set_id(uri))
    if stored is None:
        return cache.fetch_new(key_set_id(uri), fetch, partial(_count, server, client, uri))
    is_due = now >= stored.fresh_until or (not has_key_for(jwt, stored.jwks) and now - stored.fetched_at >= PAUSE)
    return cache.refresh(stored, fetch) if is_due else stored


def _fetch(server: AuthorizationServer, uri: str) -> KeySet:
    try:
        jwks = read_jwks(read_json(get(uri, server.settings.outbound_networks, at_most=MAX_BYTES)))
    except (Undeliverable, ValueError) as error:
        raise DocumentUnusable(str(error)) from error
    now = server.now()
    return KeySet(key_set_id(uri), now + STALE_FOR, jwks, now, now + FRESH_FOR)


def _count(server: AuthorizationServer, client: Client, uri: str) -> None:
    """Count a first fetch for a client that has registered itself, or has a document. Raises DocumentUnusable."""
    if client.registered_with is None and client.document is None:
        return
    if not server.count_in_hour("key sets of a host", urlsplit(uri).netloc, FETCHES_PER_HOST):
        raise DocumentUnusable("too many key sets of its host were fetched in this hour")


def _remembered(server: AuthorizationServer, uri: str) -> _Kept:
    """Return what the process remembers of a set, without the oldest one if there are many."""
    sets: dict[str, _Kept] = server.process_memory.setdefault("key sets", {})
    if uri not in sets and len(sets) >= MAX_SETS:
        sets.pop(next(iter(sets)), None)
    return sets.setdefault(uri, _Kept())
