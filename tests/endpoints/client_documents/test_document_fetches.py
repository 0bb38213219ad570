"""When a document is fetched and when not: pinned, of a registered client, not accepted, in another process."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.clients import documents
from chalicelib.clients.document_cache import DocumentCache, DocumentUnusable
from chalicelib.clients.documents import FRESH_AT_LEAST, FRESH_FOR, STALE_FOR, find_client
from chalicelib.http.messages import Request
from chalicelib.protocol.client import Client
from chalicelib.protocol.client_document import NEVER, ClientDocument
from tests.endpoints.client_documents.conftest import CALLBACK, Host
from tests.support.browser import Browser
from tests.support.site import Site

CHANGED = "client_document_changed"


def find(site: Site, host: Host, accept: Callable[[Client], bool] = lambda _client: True, **more: Any) -> Client | None:
    return find_client(site.server, Request("GET", "/"), host.url, accept, **more)


def stored(site: Site, host: Host) -> ClientDocument:
    document = site.server.store.documents.get(host.url)
    assert document
    return document


def pin(site: Site, host: Host) -> None:
    now = site.clock.time
    document = ClientDocument(host.url, NEVER, "Pinned", (CALLBACK,), fetched_at=now, fresh_until=now, pinned_at=now)
    site.server.store.documents.put(document)


def test_pinned_document_is_never_fetched(site: Site, browser: Browser, host: Host) -> None:
    pin(site, host)
    for seconds in (0, FRESH_AT_LEAST, FRESH_FOR, STALE_FOR):
        site.clock.advance(seconds)
        assert browser.authorize(host.client).status == 200
        answer = browser.authorize(host.client, redirect_uri="https://app.example.com/unknown")
        assert (answer.status, answer.header("location")) == (400, None)
        client = find(site, host)
        assert client
        assert client.client_name == "Pinned"
    assert host.fetches == 0


@pytest.mark.parametrize("disabled_at", [None, 1])
def test_registered_client_has_no_document_though_its_id_could(site: Site, host: Host, disabled_at: int | None) -> None:
    """A resource server, whose id is a URL. While it is disabled, no document takes its place."""
    members: dict[str, Any] = {"grant_types": (), "response_types": (), "disabled_at": disabled_at}
    site.server.store.clients.put(Client(host.url, "Notes", (), **members))
    for _ in range(2):
        client = find(site, host, authorizing=True)
        assert (client is None) == (disabled_at is not None)
        assert not client or client.document is None
    assert host.fetches == 0
    assert site.server.store.documents.get(host.url) is None


def test_only_an_authorization_request_that_is_not_accepted_fetches_a_document_again(site: Site, host: Host) -> None:
    assert find(site, host)
    site.clock.advance(FRESH_AT_LEAST)
    for _ in range(2):
        assert find(site, host, lambda _client: False) is None
    assert host.fetches == 1
    assert find(site, host, lambda _client: False, authorizing=True) is None
    assert host.fetches == 2
    assert find(site, host, lambda _client: False, authorizing=True) is None
    assert host.fetches == 2, "at most once in a minute"


def test_other_process_uses_the_fresh_copy_that_is_accepted(
    site: Site, host: Host, start_site: Callable[..., Site]
) -> None:
    assert find(site, host, authorizing=True)
    other = start_site()
    other.clock.advance(FRESH_AT_LEAST)
    assert find(other, host, authorizing=True)
    assert host.fetches == 1


def test_event_tells_only_of_a_change_that_consent_depends_on(site: Site, host: Host) -> None:
    for changes, expected in (
        ({}, []),
        ({"client_name": "Other"}, []),
        ({"redirect_uris": [f"{CALLBACK}2"]}, [CHANGED]),
    ):
        host.serve(**changes)
        http = Request("GET", "/")
        assert find_client(site.server, http, host.url, authorizing=True)
        assert [event["event"] for event in http.events] == expected
        site.clock.advance(FRESH_FOR)
    assert host.fetches == 3


def test_event_tells_of_no_change_of_a_copy_that_was_pinned_in_between(
    site: Site, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find(site, host)
    pinned = replace(stored(site, host), pinned_at=site.clock.time, digest="other")
    site.clock.advance(FRESH_FOR)
    monkeypatch.setattr(DocumentCache, "refresh", lambda *_given: pinned)
    http = Request("GET", "/")
    client = find_client(site.server, http, host.url, authorizing=True)
    assert client
    assert (client.document, http.events) == (pinned, [])


def test_fetched_document_replaces_none_that_the_operator_has_decided_about(site: Site, host: Host) -> None:
    merge = documents._cache(site.server).merge
    current = ClientDocument(host.url, 100, "Current", (CALLBACK,), first_seen_at=1)
    fetched = ClientDocument(host.url, 50, "Fetched", (CALLBACK,), first_seen_at=9)
    for decided in (replace(current, pinned_at=1), replace(current, blocked_at=1)):
        assert merge(decided, fetched) == decided
    assert merge(current, fetched) == replace(fetched, first_seen_at=1, expires_at=100)
    assert merge(replace(current, expires_at=10), fetched).expires_at == 50


# ---- the cache, while another process is faster


def refreshed(site: Site, host: Host, during: Callable[[ClientDocument], object]) -> ClientDocument:
    """Return what a refresh returns, with an action while the document is fetched."""
    assert find(site, host)
    before = stored(site, host)

    def fetch() -> ClientDocument:
        during(stored(site, host))
        return replace(before, client_name="Fetched")

    return documents._cache(site.server).refresh(before, fetch)


def test_refresh_that_takes_too_long_is_left_to_the_process_that_has_claimed_it_since(site: Site, host: Host) -> None:
    store = site.server.store.documents
    other = refreshed(
        site, host, lambda now: store.put(replace(now, refreshing_until=now.refreshing_until + 1, client_name="Other"))
    )
    assert other == stored(site, host)
    assert other.client_name == "Other"


def test_document_that_was_removed_while_it_was_fetched_is_used_and_not_stored(site: Site, host: Host) -> None:
    document = refreshed(site, host, lambda now: site.server.store.documents.delete(now.document_id))
    assert document.client_name == "Fetched"
    assert site.server.store.documents.get(host.url) is None


def test_only_a_pinned_copy_is_used_however_old_it_is(site: Site, host: Host) -> None:
    assert find(site, host)
    old = replace(stored(site, host), fetched_at=0, refreshing_until=site.clock.time + 5)
    cache, fetch = documents._cache(site.server), lambda: stored(site, host)
    with pytest.raises(DocumentUnusable, match="being fetched again"):
        cache.refresh(old, fetch)
    pinned = replace(old, pinned_at=1)
    assert cache.refresh(pinned, fetch) == pinned
    recent = replace(old, fetched_at=site.clock.time - STALE_FOR + 1)
    assert cache.refresh(recent, fetch) == recent
