"""Documents and hosts that the operator has blocked: rejected within a minute, in every process, until unblocked."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from chalicelib.clients import document_control
from chalicelib.clients.client_lifetime import LIFETIME
from chalicelib.clients.document_control import block, unblock
from chalicelib.clients.documents import FRESH_FOR
from chalicelib.protocol.client_document import NEVER
from chalicelib.protocol.durations import MINUTE
from chalicelib.protocol.errors import InvalidClientMetadata
from chalicelib.server import BLOCKED_HOSTS_LIFETIME
from tests.endpoints.client_documents.conftest import Host
from tests.endpoints.client_documents.test_client_documents import is_unusable, stored
from tests.support.account import submit_action
from tests.support.browser import Browser
from tests.support.faults import Wire
from tests.support.resource_servers import register_resource
from tests.support.site import Site

BOTH = pytest.mark.parametrize("what", ["URL", "host"])


def blocked_by(what: str, host: Host) -> str:
    return host.url if what == "URL" else "127.0.0.1"


@BOTH
def test_blocked_document_is_refused_everywhere_until_it_is_unblocked(
    site: Site, browser: Browser, host: Host, what: str
) -> None:
    tokens = browser.tokens(host.client)
    blocked = blocked_by(what, host)
    block(site.server.store, blocked)
    site.server.forget_cached_records()
    assert is_unusable(browser.authorize(host.client))
    assert browser.refresh(host.client, tokens["refresh_token"]).json["error"] == "invalid_client"
    assert browser.userinfo(tokens["access_token"]).status == 401
    assert unblock(site.server.store, blocked)
    assert not unblock(site.server.store, blocked)
    assert browser.refresh(host.client, tokens["refresh_token"]).status == 200, "at once"
    assert host.fetches == 1


@BOTH
def test_blocked_document_is_not_fetched_and_leaves_no_record_when_it_is_unblocked(
    site: Site, browser: Browser, host: Host, what: str
) -> None:
    block(site.server.store, blocked_by(what, host))
    assert is_unusable(browser.authorize(host.client))
    site.clock.advance(LIFETIME)
    site.server.forget_cached_records()
    assert is_unusable(browser.authorize(host.client)), "a block does not expire"
    assert host.fetches == 0
    unblock(site.server.store, blocked_by(what, host))
    assert document_control.read_documents(site.server.store) == []
    assert browser.authorize(host.client).status == 200


@BOTH
def test_block_takes_effect_within_a_minute_in_a_process_that_has_cached_the_client(
    site: Site, browser: Browser, host: Host, what: str
) -> None:
    tokens = browser.tokens(host.client, scope="openid offline_access")
    site.server.forget_cached_records()
    assert site.server.client(host.url)
    block(site.server.store, blocked_by(what, host))
    site.clock.advance(MINUTE)
    assert site.server.client(host.url) is None
    assert browser.refresh(host.client, tokens["refresh_token"]).json["error"] == "invalid_client"


@pytest.mark.parametrize("is_stored", [True, False], ids=["stored document", "document that is fetched"])
@pytest.mark.parametrize("later", [0, BLOCKED_HOSTS_LIFETIME - 1, BLOCKED_HOSTS_LIFETIME])
def test_blocked_host_takes_effect_within_a_minute_for_a_client_that_is_read_later_than_the_blocks(
    site: Site, browser: Browser, host: Host, later: int, is_stored: bool
) -> None:
    """The process has read the blocked hosts, for the client of another document, before this one was blocked."""
    if is_stored:
        browser.authorize(host.client)
        site.server.forget_cached_records()
    site.server.read_client(host.url.replace("client", "other"))
    block(site.server.store, "127.0.0.1")
    site.clock.advance(later)
    expected = 200 if later < BLOCKED_HOSTS_LIFETIME else 400
    assert browser.authorize(host.client).status == expected
    site.clock.advance(MINUTE - later)
    assert is_unusable(browser.authorize(host.client))


def test_use_of_a_grant_does_not_prolong_the_cached_copy_of_a_blocked_document(
    site: Site, browser: Browser, host: Host
) -> None:
    code = browser.code(host.client)
    block(site.server.store, host.url)
    site.clock.advance(MINUTE - 1)
    assert browser.redeem(host.client, code).status == 200, "it is cached for a minute"
    site.clock.advance(1)
    assert is_unusable(browser.authorize(host.client))
    assert stored(site, host).expires_at == NEVER


def test_document_that_is_blocked_during_a_refresh_stays_blocked(
    site: Site, browser: Browser, host: Host, wire: Wire
) -> None:
    browser.authorize(host.client)
    site.clock.advance(FRESH_FOR)
    with wire.before("UpdateItem", lambda: block(site.server.store, host.url), skip=1):
        assert is_unusable(browser.authorize(host.client))
    assert stored(site, host).blocked_at == site.clock()


def test_document_that_is_blocked_before_it_is_claimed_is_not_fetched(
    site: Site, browser: Browser, host: Host, wire: Wire
) -> None:
    browser.authorize(host.client)
    site.clock.advance(FRESH_FOR)
    with wire.before("UpdateItem", lambda: block(site.server.store, host.url)):
        assert is_unusable(browser.authorize(host.client))
    assert host.fetches == 1


def test_block_stays_when_the_document_is_also_that_of_a_resource(
    site: Site, browser: Browser, host: Host, wire: Wire
) -> None:
    browser.authorize(host.client)
    resource = replace(register_resource(site), resource_id=host.url)
    site.server.store.resources.put(resource)
    site.clock.advance(FRESH_FOR)
    with wire.before("UpdateItem", lambda: block(site.server.store, host.url), skip=1):
        assert is_unusable(browser.authorize(host.client))
    assert stored(site, host).blocked_at == site.clock()


def test_url_that_is_blocked_during_the_first_fetch_is_refused(
    site: Site, browser: Browser, host: Host, wire: Wire
) -> None:
    with wire.before("TransactWriteItems", lambda: block(site.server.store, host.url)):
        assert is_unusable(browser.authorize(host.client))
    record = site.server.store.documents.get(host.url)
    assert record
    assert (record.redirect_uris, record.expires_at) == ((), NEVER)


def test_unblocked_document_expires_again_unless_it_is_pinned(site: Site, browser: Browser, host: Host) -> None:
    browser.authorize(host.client)
    store = site.server.store
    for pinned_at, expires_at in ((None, site.clock() + LIFETIME), (1, NEVER)):
        store.documents.put(replace(stored(site, host), pinned_at=pinned_at))
        block(store, host.url)
        assert stored(site, host).expires_at == NEVER
        unblock(store, host.url)
        assert (stored(site, host).expires_at, stored(site, host).blocked_at) == (expires_at, None)


def test_pinning_does_not_end_a_block(site: Site, browser: Browser, host: Host) -> None:
    store = site.server.store
    block(store, host.url)
    content = f'{{"client_id": "{host.url}", "redirect_uris": ["https://app.example.com/callback"]}}'
    document_control.pin(store, host.url, content.encode())
    assert is_unusable(browser.authorize(host.client))
    document_control.unpin(store, host.url)
    site.clock.advance(LIFETIME)
    assert is_unusable(browser.authorize(host.client)), "nor does unpinning let it expire"
    assert host.fetches == 0


def test_hosts_are_blocked_and_unblocked_one_by_one(site: Site, wire: Wire) -> None:
    store = site.server.store
    for name in ("a.example", "b.example", "a.example"):
        block(store, name)
    assert document_control.read_blocked_hosts(store) == {"a.example", "b.example"}
    with wire.before("UpdateItem", lambda: block(store, "c.example")):
        assert unblock(store, "a.example")
    assert document_control.read_blocked_hosts(store) == {"b.example", "c.example"}
    assert not unblock(store, "a.example")
    for name in ("b.example", "c.example"):
        assert unblock(store, name)
    assert document_control.read_blocked_hosts(store) == frozenset()
    block(store, "d.example")
    assert document_control.read_blocked_hosts(store) == {"d.example"}


def test_number_of_blocked_hosts_is_limited(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are one record, which every process reads."""
    monkeypatch.setattr(document_control, "MAX_HOSTS", 2)
    store = site.server.store
    for name in ("a.example", "b.example", "b.example"):
        block(store, name)
    with pytest.raises(InvalidClientMetadata, match="At most 2 hosts"):
        block(store, "c.example")
    assert document_control.read_blocked_hosts(store) == {"a.example", "b.example"}


def test_blocked_application_is_not_on_the_account_page(
    site: Site, browsers: Callable[..., Browser], host: Host
) -> None:
    browser = browsers(site)
    tokens = browser.tokens(host.client)
    assert "Claude" in browser.get("/account").body
    block(site.server.store, "127.0.0.1")
    assert "Claude" not in browser.get("/account").body
    unblock(site.server.store, "127.0.0.1")
    submit_action(browser, "revoke", client_id=host.url)
    assert browser.userinfo(tokens["access_token"]).status == 401
