"""Clients whose keys are at their jwks_uri: fetched when they are needed, and kept for all processes."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from chalicelib.clients import key_sets
from chalicelib.clients.key_sets import FRESH_FOR, MAX_BYTES, MAX_SETS, PAUSE, STALE_FOR
from chalicelib.http import outbound
from chalicelib.protocol.durations import HOUR
from chalicelib.protocol.errors import InvalidClientMetadata
from chalicelib.protocol.key_set import KeySet, key_set_id
from tests.endpoints.token.test_private_key_jwt import SERVICE, authenticate, is_rejected
from tests.support import faults
from tests.support.assertions import KeyPair, key_client, key_pair, signed
from tests.support.browser import Browser
from tests.support.faults import Wire
from tests.support.grants import update_client
from tests.support.receivers import Receiver, answer, json_answer, silence, status
from tests.support.site import Registered, Site
from tests.support.threads import run_concurrently

pytestmark = pytest.mark.spec("RFC 7591 §2")


def jwks(*pairs: KeyPair) -> bytes:
    return json.dumps({"keys": [pair.jwk for pair in pairs]}).encode()


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A server with the key set of a client; requests to it time out after half a second."""
    monkeypatch.setattr(outbound, "SECONDS", 0.5)
    receiver = Receiver(json_answer(jwks(key_pair())))
    yield receiver
    receiver.close()


@pytest.fixture
def site(site_with: Callable[..., Site]) -> Site:
    """A server that may send requests to 127.0.0.1."""
    return site_with(outbound_networks=("127.0.0.0/8",))


@pytest.fixture
def browser(browsers: Callable[..., Browser], site: Site) -> Browser:
    return browsers(site)


@pytest.fixture
def client(site: Site, host: Receiver) -> Registered:
    return key_client(site, jwks=None, jwks_uri=host.url, **SERVICE)


def is_unavailable(answer: Any) -> bool:
    return (answer.status, answer.json["error"]) == (503, "temporarily_unavailable")


def test_keys_are_fetched_once_and_kept(site: Site, browser: Browser, host: Receiver, client: Registered) -> None:
    for _ in range(3):
        assert authenticate(browser, signed(site, client)).status == 200
    assert len(host.requests) == 1
    site.clock.advance(FRESH_FOR)
    assert authenticate(browser, signed(site, client)).status == 200
    assert len(host.requests) == 2


def test_unknown_key_makes_them_be_fetched_again_but_not_at_once(
    site: Site, browser: Browser, host: Receiver, client: Registered
) -> None:
    new = key_pair("ES256", "key-2")
    assert authenticate(browser, signed(site, client)).status == 200
    assert is_rejected(authenticate(browser, signed(site, client, pair=new)))
    assert len(host.requests) == 1, "it was fetched a moment ago"
    site.clock.advance(PAUSE)
    host.behave = json_answer(jwks(key_pair(), new))
    assert authenticate(browser, signed(site, client, pair=new)).status == 200
    assert authenticate(browser, signed(site, client)).status == 200
    assert len(host.requests) == 2


def test_key_that_was_removed_is_rejected_once_the_set_is_fetched_again(
    site: Site, browser: Browser, host: Receiver, client: Registered
) -> None:
    assert authenticate(browser, signed(site, client)).status == 200
    host.behave = json_answer(jwks(key_pair("ES256", "key-2")))
    site.clock.advance(FRESH_FOR)
    assert is_rejected(authenticate(browser, signed(site, client)))


def test_forged_assertions_cause_one_request_in_a_while(
    site: Site, browser: Browser, host: Receiver, client: Registered
) -> None:
    other = key_pair("ES256", "other")
    for _ in range(5):
        assert is_rejected(authenticate(browser, signed(site, client, pair=other)))
        assert is_rejected(authenticate(browser, signed(site, client, pair=other, aud="https://other.example.com")))
    assert len(host.requests) == 1


def test_assertion_for_another_server_causes_no_request(
    site: Site, browser: Browser, host: Receiver, client: Registered
) -> None:
    for changes in ({"aud": "https://other.example.com"}, {"exp": site.clock.time - 100}):
        assert is_rejected(authenticate(browser, signed(site, client, **changes)))
    secret = key_client(site, jwks=None, jwks_uri=host.url, token_endpoint_auth_methods=("client_secret_basic",))
    assert is_rejected(authenticate(browser, signed(site, secret)))
    assert host.requests == []


BAD: dict[str, Any] = {
    "not found": status(404),
    "a redirect": status(302, "Location: http://169.254.169.254/"),
    "no JSON": json_answer(b"<html>"),
    "no key set": json_answer(b"[]"),
    "no keys": json_answer(b'{"keys":[]}'),
    "a repeated member": json_answer(b'{"keys":[],' + jwks(key_pair())[1:]),
    "a private key": json_answer(json.dumps({"keys": [key_pair().private_jwk]}).encode()),
    "too long": json_answer(jwks(key_pair()) + b" " * MAX_BYTES),
    "nested": json_answer(b"[" * 10_000),
    "silence": silence,
    "closed": answer(b""),
}


@pytest.mark.parametrize("case", BAD)
def test_keys_that_cannot_be_fetched_are_no_reason_to_reject_a_client(
    site: Site, browser: Browser, host: Receiver, client: Registered, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    good, host.behave = host.behave, BAD[case]
    for _ in range(3):
        assert is_unavailable(authenticate(browser, signed(site, client)))
    assert "the jwks_uri of the client cannot be used" in caplog.text
    assert len(host.requests) == 1, "each request would wait for it"
    site.clock.advance(PAUSE)
    host.behave = good
    assert authenticate(browser, signed(site, client)).status == 200


def test_keys_are_kept_for_a_day_while_they_cannot_be_fetched(
    site: Site, browser: Browser, host: Receiver, client: Registered
) -> None:
    assert authenticate(browser, signed(site, client)).status == 200
    host.behave = status(500)
    site.clock.advance(STALE_FOR - 1)
    assert authenticate(browser, signed(site, client)).status == 200
    site.clock.advance(1)
    assert is_unavailable(authenticate(browser, signed(site, client)))


# ---- several processes


def forget(site: Site) -> None:
    """Let the next request be handled by another process."""
    site.server.forget_cached_records()


def stored(site: Site, host: Receiver) -> KeySet:
    """Return the record of the key set."""
    record = site.server.store.key_sets.get(key_set_id(host.url))
    assert record
    return record


def test_keys_are_fetched_once_for_all_processes(
    site: Site, browser: Browser, host: Receiver, client: Registered, wire: Wire
) -> None:
    assert authenticate(browser, signed(site, client)).status == 200
    forget(site)
    site.server.client(client.id)
    site.server.keys.jwks()
    for reads in (1, 0):  # then the process remembers them
        with wire.counted() as calls:
            assert authenticate(browser, signed(site, client)).status == 200
        assert calls.count("GetItem") == reads
    assert len(host.requests) == 1


def test_key_that_another_process_has_fetched_is_accepted_at_once(
    site: Site, browsers: Callable[..., Browser], host: Receiver, client: Registered
) -> None:
    new = key_pair("ES256", "key-2")
    other = Site(outbound_networks=("127.0.0.0/8",), issuer=site.settings.issuer)
    assert authenticate(browsers(site), signed(site, client)).status == 200
    assert authenticate(browsers(other), signed(site, client)).status == 200
    host.behave = json_answer(jwks(key_pair(), new))
    for each in (site, other):
        each.clock.advance(PAUSE)
        assert authenticate(browsers(each), signed(site, client, pair=new)).status == 200
    assert len(host.requests) == 2
    other.close()


def test_unknown_key_makes_all_processes_together_fetch_once_in_a_while(
    site: Site, browser: Browser, host: Receiver, client: Registered
) -> None:
    other = key_pair("ES256", "other")
    assert authenticate(browser, signed(site, client)).status == 200
    site.clock.advance(PAUSE)
    for _ in range(4):
        forget(site)
        assert is_rejected(authenticate(browser, signed(site, client, pair=other)))
    assert len(host.requests) == 2


def test_unknown_key_is_a_temporary_error_while_the_keys_cannot_be_fetched(
    site: Site, browser: Browser, host: Receiver, client: Registered
) -> None:
    """They may have it now, and no process tries again for a while. A known key is accepted."""
    new = key_pair("ES256", "key-2")
    assert authenticate(browser, signed(site, client)).status == 200
    host.behave = status(500)
    site.clock.advance(PAUSE)
    for _ in range(3):
        assert is_unavailable(authenticate(browser, signed(site, client, pair=new)))
        forget(site)
    assert authenticate(browser, signed(site, client)).status == 200
    assert len(host.requests) == 2
    site.clock.advance(PAUSE)
    host.behave = json_answer(jwks(key_pair(), new))
    assert authenticate(browser, signed(site, client, pair=new)).status == 200


def test_keys_that_cannot_be_fetched_leave_no_record(
    site: Site, browser: Browser, host: Receiver, client: Registered
) -> None:
    host.behave = status(500)
    assert is_unavailable(authenticate(browser, signed(site, client)))
    assert not list(site.server.store.key_sets.scan())


def test_process_that_fails_does_not_change_the_record_of_another(
    site: Site, browser: Browser, host: Receiver, client: Registered
) -> None:
    assert authenticate(browser, signed(site, client)).status == 200
    before = stored(site, host)
    host.behave = status(500)
    site.clock.advance(FRESH_FOR)
    assert authenticate(browser, signed(site, client)).status == 200
    after = stored(site, host)
    assert (after.jwks, after.fetched_at, after.expires_at) == (before.jwks, before.fetched_at, before.expires_at)
    assert after.refreshing_until == site.clock() + PAUSE


@pytest.mark.parametrize("operation", ["GetItem", "PutItem"])
def test_unreachable_database_is_a_temporary_error(
    site: Site, browser: Browser, host: Receiver, client: Registered, wire: Wire, operation: str
) -> None:
    site.server.client(client.id)
    site.server.keys.jwks()
    with wire.fault_in(operation, faults.unreachable):
        assert is_unavailable(authenticate(browser, signed(site, client)))
    assert authenticate(browser, signed(site, client)).status == 200


def test_key_set_is_no_document_of_a_client(site: Site, browser: Browser, host: Receiver, client: Registered) -> None:
    assert authenticate(browser, signed(site, client)).status == 200
    record = stored(site, host)
    assert (record.expires_at, record.fresh_until) == (site.clock() + STALE_FOR, site.clock() + FRESH_FOR)
    assert site.server.store.documents.get(host.url) is None


@pytest.mark.parametrize(("changes", "limited"), [({}, False), ({"registered_with": "open"}, True)])
def test_first_fetches_for_clients_that_registered_themselves_are_limited_for_each_host(
    site: Site,
    browser: Browser,
    host: Receiver,
    client: Registered,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    limited: bool,
) -> None:
    monkeypatch.setattr(key_sets, "FETCHES_PER_HOST", 2)
    good, host.behave = host.behave, status(500)
    update_client(site, client, **changes)
    site.clock.advance(HOUR - site.clock() % HOUR)
    for _ in range(4):
        assert is_unavailable(authenticate(browser, signed(site, client)))
        site.clock.advance(PAUSE)
    assert len(host.requests) == (2 if limited else 4)
    host.behave = good
    site.clock.advance(HOUR)
    assert authenticate(browser, signed(site, client)).status == 200


def test_threads_wait_for_one_request(
    site: Site, browsers: Callable[..., Browser], host: Receiver, client: Registered
) -> None:
    requests = [partial(authenticate, browsers(site), signed(site, client)) for _ in range(4)]
    assert [each.status for each in run_concurrently(requests)] == [200] * 4
    assert len(host.requests) == 1


@pytest.mark.spec("Client ID Metadata Document §8.6 b")
def test_private_address_is_not_requested(
    site: Site, browsers: Callable[..., Browser], host: Receiver, client: Registered
) -> None:
    other = Site(backchannel_networks=("127.0.0.0/8",))
    assert is_unavailable(authenticate(browsers(other), signed(other, client)))
    assert host.requests == [], "that setting is for logout tokens"
    other.close()


def test_number_of_kept_sets_is_limited(site: Site, browser: Browser, host: Receiver, client: Registered) -> None:
    kept = site.server.process_memory.setdefault("key sets", {})
    kept.update((f"https://{number}.example.com/", None) for number in range(MAX_SETS))
    assert authenticate(browser, signed(site, client)).status == 200
    assert (len(kept), host.url in kept) == (MAX_SETS, True)


@pytest.mark.parametrize(
    "uri",
    [
        "http://client.example.com/jwks",
        "https://client.example.com/jwks#keys",
        "https://user@client.example.com/jwks",
        "ftp://client.example.com/jwks",
        "jwks.json",
        "",
    ],
)
def test_jwks_uri_must_be_https(site: Site, uri: str) -> None:
    with pytest.raises(InvalidClientMetadata, match="jwks_uri"):
        key_client(site, jwks=None, jwks_uri=uri)


def test_keys_are_registered_in_one_way(site: Site) -> None:
    with pytest.raises(InvalidClientMetadata, match="either jwks or jwks_uri"):
        key_client(site, jwks_uri="https://client.example.com/jwks")
