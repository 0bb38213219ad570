"""Clients that name themselves by the URL of a document (draft-ietf-oauth-client-id-metadata-document-02)."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from chalicelib import events
from chalicelib.clients import key_sets
from chalicelib.clients.client_lifetime import LIFETIME
from chalicelib.clients.document_cache import PAUSE
from chalicelib.clients.documents import FRESH_FOR, STALE_FOR
from chalicelib.protocol.client_document import NEVER, ClientDocument
from chalicelib.protocol.durations import DAY, HOUR, MINUTE
from tests.bench.capacity import Meter
from tests.endpoints.client_documents.conftest import CALLBACK, Host
from tests.support import faults
from tests.support.account import submit_action
from tests.support.assertions import key_pair, signed
from tests.support.browser import VERIFIER, Answer, Browser, authorization_parameters
from tests.support.faults import Wire
from tests.support.grants import create_code
from tests.support.proofs import with_proof
from tests.support.request_objects import answer_signed, authorize_signed, request_object
from tests.support.resource_servers import register_resource
from tests.support.site import Registered, Site
from tests.support.threads import run_concurrently

LOOPBACK = "http://127.0.0.1/callback"


def stored(site: Site, host: Host) -> ClientDocument:
    """Return the record of the document."""
    document = site.server.store.documents.get(host.url)
    assert document
    return document


def is_unusable(page: Answer) -> bool:
    return page.status == 400 and "This application cannot be used here" in page.body


# ---- a client signs users in


@pytest.mark.spec("Client ID Metadata Document §5 a", "Client ID Metadata Document §8.5 a")
@pytest.mark.spec("Client ID Metadata Document §8.5 b")
def test_client_signs_in_by_its_document_and_refreshes(site: Site, browser: Browser, host: Host) -> None:
    page = browser.authorize(host.client)
    assert page.status == 200
    page = browser.sign_in(page)
    assert "Claude" in page.body
    assert f'comes from <span class="whole"><strong><bdi>{host.name}</bdi>' in page.body
    assert "app.example.com" in page.body
    assert "logo.png" not in page.body
    code = browser.submit(page, decision="allow_once").code
    tokens = browser.redeem(host.client, code).json
    assert browser.refresh(host.client, tokens["refresh_token"]).status == 200
    assert browser.userinfo(tokens["access_token"]).status == 200
    assert host.fetches == 1


@pytest.mark.spec("Client ID Metadata Document §9.1")
def test_second_visit_needs_no_fetch_in_any_process(site: Site, browser: Browser, host: Host) -> None:
    browser.code(host.client)
    site.server.forget_cached_records()
    browser.code(host.client)
    assert host.fetches == 1


def test_request_for_a_document_names_what_it_accepts(site: Site, browser: Browser, host: Host) -> None:
    browser.authorize(host.client)
    (request,) = host.receiver.requests
    assert request.startswith(b"GET /oauth/client.json HTTP/1.1\r\n")
    assert b"\r\nAccept: application/json\r\n" in request
    assert b"\r\nUser-Agent: Signet" in request


def test_client_gets_the_scope_of_the_setting_and_no_other(
    start_site: Callable[..., Site], browsers: Callable[..., Browser], host: Host
) -> None:
    site = start_site(open_client_scope="openid notes")
    tokens = browsers(site).tokens(host.client, scope="openid notes photos")
    assert tokens["scope"].split() == ["notes", "openid"]


@pytest.mark.spec("Client ID Metadata Document §6")
@pytest.mark.parametrize(
    ("settings", "advertised"),
    [
        ({"client_document_hosts": ()}, None),
        ({"client_document_hosts": ("claude.ai",)}, True),
        ({"client_documents": "open"}, True),
        ({"client_documents": "off", "client_document_hosts": ("claude.ai",)}, None),
    ],
)
def test_documents_are_advertised_only_if_one_could_be_accepted(
    start_site: Callable[..., Site], browsers: Callable[..., Browser], settings: dict[str, Any], advertised: bool | None
) -> None:
    metadata = browsers(start_site(**settings)).get("/.well-known/oauth-authorization-server").json
    assert metadata.get("client_id_metadata_document_supported") is advertised


def test_document_costs_one_read_more_than_a_registered_client_and_none_while_it_is_cached(
    site: Site, browser: Browser, host: Host, wire: Wire
) -> None:
    """With the blocked hosts another one, once in 30 seconds in a process for all documents."""
    meter = Meter(site.server.store.dynamodb.client)
    registered = site.client(public=True, redirect_uris=[CALLBACK])
    costs: dict[tuple[str, bool], tuple[list[str], float]] = {}
    for name, client in (("registered", registered), ("document", host.client)):
        browser.code(client, decision="allow_always")
        for cached in (True, False):
            for measure in (wire.counted, meter.listening):
                if not cached:
                    site.server.cache_client(client.id, None)
                with measure() as counted:
                    assert browser.authorize(client).code
                costs[name, cached] = (list(counted or costs[name, cached][0]), meter.reads)
    assert costs["registered", True] == costs["document", True]
    calls, units = costs["registered", False]
    assert costs["document", False] == (["BatchGetItem", *calls[1:]], units + 1)
    site.server.forget_cached_records()
    with meter.listening():
        assert browser.authorize(host.client).code
    assert meter.reads == units + 2


# ---- when a document is fetched again


@pytest.mark.spec("Client ID Metadata Document §5 b", "Client ID Metadata Document §5.2 a")
@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("Cache-Control: public, max-age=300", 300),
        ("Cache-Control: max-age=5", MINUTE),
        ("Cache-Control: no-store", MINUTE),
        ("Cache-Control: no-store\r\nCache-Control: max-age=300", MINUTE),
        ("Cache-Control: max-age=99999999", DAY),
        ("Cache-Control: max-age=x", MINUTE),
        ("X-Nothing: 1", FRESH_FOR),
    ],
)
def test_document_is_fresh_as_long_as_its_header_says(
    site: Site, browser: Browser, host: Host, header: str, seconds: int
) -> None:
    host.serve(header)
    browser.authorize(host.client)
    site.clock.advance(seconds - 1)
    browser.authorize(host.client)
    assert host.fetches == 1
    site.clock.advance(1)
    browser.authorize(host.client)
    assert host.fetches == 2


def test_stale_copy_is_used_for_a_week_while_the_document_cannot_be_fetched(
    site: Site, browser: Browser, host: Host
) -> None:
    tokens = browser.tokens(host.client, scope="openid offline_access")
    host.fail()
    site.clock.advance(STALE_FOR - 1)
    assert browser.authorize(host.client).status == 200
    site.clock.advance(MINUTE)
    assert is_unusable(browser.authorize(host.client))
    refreshed = browser.refresh(host.client, tokens["refresh_token"])
    assert (refreshed.status, refreshed.json["error"]) == (503, "temporarily_unavailable")
    host.serve()
    site.clock.advance(MINUTE)
    assert browser.refresh(host.client, tokens["refresh_token"]).status == 200


def test_token_endpoint_uses_a_stale_copy_without_a_fetch(site: Site, browser: Browser, host: Host) -> None:
    tokens = browser.tokens(host.client, scope="openid offline_access")
    site.clock.advance(6 * DAY)
    assert browser.refresh(host.client, tokens["refresh_token"]).status == 200
    assert host.fetches == 1


def test_one_caller_refreshes_and_the_others_use_the_stale_copy(
    site: Site, browsers: Callable[..., Browser], host: Host
) -> None:
    visitors = [browsers(site) for _ in range(4)]
    visitors[0].authorize(host.client)
    site.clock.advance(FRESH_FOR)
    pages: list[Answer] = []

    def visit(visitor: Browser) -> None:
        pages.append(visitor.authorize(host.client))

    run_concurrently([partial(visit, each) for each in visitors])
    assert [page.status for page in pages] == [200] * 4
    assert host.fetches == 2


def test_failed_refresh_is_not_repeated_for_a_minute(site: Site, browser: Browser, host: Host) -> None:
    browser.authorize(host.client)
    host.fail()
    site.clock.advance(FRESH_FOR)
    for _ in range(3):
        site.server.forget_cached_records()
        assert browser.authorize(host.client).status == 200
    assert host.fetches == 2
    site.clock.advance(MINUTE)
    browser.authorize(host.client)
    assert host.fetches == 3


@pytest.mark.spec("Client ID Metadata Document §4.2 b")
def test_unknown_redirect_uri_fetches_a_document_again_that_is_a_minute_old(
    site: Site, browser: Browser, host: Host
) -> None:
    browser.authorize(host.client)
    other = "https://app.example.com/other"
    host.serve(redirect_uris=[CALLBACK, other])
    assert "address is not registered" in browser.authorize(host.client, redirect_uri=other).body
    site.clock.advance(MINUTE)
    assert browser.authorize(host.client, redirect_uri=other).status == 200
    assert host.fetches == 2


def test_document_is_kept_as_long_as_its_grants_can_live(site: Site, browser: Browser, host: Host) -> None:
    browser.authorize(host.client)
    assert stored(site, host).expires_at == site.clock() + 7 * DAY
    browser.tokens(host.client)
    assert stored(site, host).expires_at == site.clock() + LIFETIME


def test_use_of_a_grant_keeps_its_document_with_one_write_in_a_month(
    site: Site, browser: Browser, host: Host, wire: Wire
) -> None:
    tokens = browser.tokens(host.client, scope="openid offline_access")
    until = stored(site, host).expires_at
    with wire.counted() as counted:
        refreshed = browser.refresh(host.client, tokens["refresh_token"]).json
    assert counted.count("UpdateItem") == 1
    host.serve()
    site.clock.advance(29 * DAY)
    browser.refresh(host.client, refreshed["refresh_token"])
    assert stored(site, host).expires_at == until


# ---- who is accepted


@pytest.mark.spec("Client ID Metadata Document §3 f")
def test_default_port_in_the_url_is_another_client(
    start_site: Callable[..., Site], browsers: Callable[..., Browser], host: Host
) -> None:
    """URLs are compared as strings: what is stored for one spelling is not used for another."""
    site = start_site(client_documents="open")
    url, other = "https://app.example.com/client", "https://app.example.com:443/client"
    record = ClientDocument(url, NEVER, "Notes", (CALLBACK,), fetched_at=1, pinned_at=1)
    site.server.store.documents.put(record)
    client = Registered(host.client.record, None)
    assert browsers(site).authorize(client, client_id=url).status == 200
    page = browsers(site).authorize(client, client_id=other, redirect_uri=CALLBACK)
    assert is_unusable(page)


def test_document_of_another_host_is_not_fetched(site: Site, browser: Browser, host: Host) -> None:
    listed = f"https://{host.name}/"
    assert host.url.startswith(listed)
    client = Registered(host.client.record.__class__("https://127.0.0.1/x", "x", (CALLBACK,)), None)
    assert is_unusable(browser.authorize(client))
    assert not list(site.server.store.attempts.scan())


def test_listed_url_allows_no_other_document_of_its_host(
    start_site: Callable[..., Site], browsers: Callable[..., Browser], host: Host
) -> None:
    site = start_site(client_document_hosts=(host.url + "x",))
    assert is_unusable(browsers(site).authorize(host.client))
    site = start_site(client_document_hosts=(host.url,))
    assert browsers(site).authorize(host.client).status == 200


def test_mode_off_knows_no_documents(
    start_site: Callable[..., Site], browsers: Callable[..., Browser], host: Host
) -> None:
    site = start_site(client_documents="off")
    page = browsers(site).authorize(host.client)
    assert (page.status, "This application is not registered" in page.body) == (400, True)
    assert host.fetches == 0


def test_change_of_the_allowed_hosts_holds_for_documents_that_were_fetched(
    site: Site, start_site: Callable[..., Site], browsers: Callable[..., Browser], browser: Browser, host: Host
) -> None:
    tokens = browser.tokens(host.client)
    other = browsers(start_site(client_document_hosts=("claude.ai",), issuer=site.settings.issuer))
    assert is_unusable(other.authorize(host.client))
    answer = other.refresh(host.client, tokens["refresh_token"])
    assert (answer.status, answer.json["error"]) == (401, "invalid_client")


def test_registered_client_wins_over_a_document(site: Site, browser: Browser, host: Host) -> None:
    site.client(client_id=host.url, redirect_uris=(), grant_types=(), response_types=())
    assert "address is not registered" in browser.authorize(host.client).body
    assert host.fetches == 0


def test_document_at_the_uri_of_a_resource_is_refused(site: Site, browser: Browser, host: Host) -> None:
    register_resource(site, host.url)
    assert is_unusable(browser.authorize(host.client))
    assert (host.fetches, site.server.store.documents.get(host.url)) == (0, None)


def test_document_is_refused_once_its_url_is_that_of_a_resource(site: Site, browser: Browser, host: Host) -> None:
    tokens = browser.tokens(host.client, scope="openid offline_access")
    register_resource(site, host.url)
    site.server.forget_cached_records()
    assert is_unusable(browser.authorize(host.client))
    assert browser.refresh(host.client, tokens["refresh_token"]).json["error"] == "invalid_client"
    assert (host.fetches, list(site.server.store.documents.scan())) == (1, [])


def test_document_in_another_spelling_of_a_resource_is_refused_when_it_is_fetched_again(
    site: Site, browser: Browser, host: Host
) -> None:
    tokens = browser.tokens(host.client, scope="openid offline_access")
    other = host.url.replace("client", "%63lient")
    site.server.store.resources.put(replace(register_resource(site), resource_id=host.url, uri=other))
    site.clock.advance(FRESH_FOR)
    assert is_unusable(browser.authorize(host.client)), "a stale copy is not used either"
    assert browser.refresh(host.client, tokens["refresh_token"]).json["error"] == "invalid_client"
    assert (host.fetches, list(site.server.store.documents.scan())) == (1, [])


def test_document_is_not_stored_when_its_url_becomes_that_of_a_resource_during_the_fetch(
    site: Site, browser: Browser, host: Host, wire: Wire
) -> None:
    with wire.before("TransactWriteItems", lambda: register_resource(site, host.url)):
        assert is_unusable(browser.authorize(host.client))
    assert (host.fetches, list(site.server.store.documents.scan())) == (1, [])


# ---- failures and budgets


@pytest.mark.spec("Client ID Metadata Document §5.1", "Client ID Metadata Document §5.2 b")
def test_failure_is_remembered_for_half_a_minute_and_stores_no_document(
    site: Site, browser: Browser, host: Host
) -> None:
    host.fail()
    for _ in range(3):
        assert is_unusable(browser.authorize(host.client))
    assert host.fetches == 1
    assert not list(site.server.store.documents.scan())
    host.serve()
    site.clock.advance(PAUSE)
    assert browser.authorize(host.client).status == 200


def test_failure_at_the_token_endpoint_is_temporary(site: Site, browser: Browser, host: Host) -> None:
    host.fail()
    form = {"grant_type": "authorization_code", "code": "x", "client_id": host.url}
    answer = browser.post("/oauth2/token", form)
    assert (answer.status, answer.json["error"]) == (503, "temporarily_unavailable")
    assert "503" not in answer.json.get("error_description", "")


def test_fetches_of_unknown_documents_are_limited_for_each_address_in_an_hour(
    site: Site, browser: Browser, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalicelib.clients.documents.FETCHES_PER_ADDRESS", 3)
    visit_many(browser, host, 5)
    assert host.fetches == 3
    site.clock.advance(HOUR)
    visit_many(browser, host, 1)
    assert host.fetches == 4


def test_fetches_of_unknown_documents_are_limited_for_each_host_in_an_hour(
    site: Site, browser: Browser, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalicelib.clients.documents.FETCHES_PER_HOST", 3)
    visit_many(browser, host, 5)
    assert host.fetches == 3


def test_refresh_of_a_known_document_is_not_limited(
    site: Site, browser: Browser, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser.authorize(host.client)
    monkeypatch.setattr("chalicelib.clients.documents.FETCHES_PER_HOST", 0)
    site.clock.advance(FRESH_FOR)
    browser.authorize(host.client)
    assert host.fetches == 2


def test_address_at_its_limit_does_not_keep_others_from_fetching_the_same_document(
    site: Site, browser: Browser, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = ["192.0.2.1"]
    monkeypatch.setattr("chalicelib.clients.documents.network_of", lambda _address: networks[-1])
    monkeypatch.setattr("chalicelib.clients.documents.FETCHES_PER_ADDRESS", 1)
    visit_many(browser, host, 1)
    host.serve()
    assert is_unusable(browser.authorize(host.client))
    networks.append("198.51.100.1")
    assert browser.authorize(host.client).status == 200


def test_listed_url_has_fetches_of_its_own(
    start_site: Callable[..., Site], browsers: Callable[..., Browser], host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests for other documents of its host, and the other users of a network, do not use them up."""
    monkeypatch.setattr("chalicelib.clients.documents.FETCHES_PER_HOST", 2)
    monkeypatch.setattr("chalicelib.clients.documents.FETCHES_PER_ADDRESS", 2)
    monkeypatch.setattr("chalicelib.clients.documents.FETCHES_PER_LISTED_URL", 2)
    site = start_site(client_document_hosts=(host.name, host.url))
    browser = browsers(site)
    visit_many(browser, host, 3)
    for _ in range(3):
        assert is_unusable(browser.authorize(host.client))
        site.clock.advance(PAUSE)
    assert host.fetches == 2 + 2
    site.clock.advance(HOUR)
    host.serve()
    assert browser.authorize(host.client).status == 200


def visit_many(browser: Browser, host: Host, number: int) -> None:
    """Ask for authorization as clients whose documents do not exist."""
    host.receiver.behave = lambda _connection: None
    for index in range(number):
        parameters = authorization_parameters(host.client, client_id=f"{host.url}?{index}")
        assert is_unusable(browser.get("/oauth2/authorize", **parameters))


def test_reason_is_in_the_log_only(site: Site, browser: Browser, host: Host, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "signet.requests")
    host.fail()
    assert "503" not in browser.authorize(host.client).body
    (line,) = [json.loads(record.getMessage()) for record in caplog.records if "endpoint" in record.getMessage()]
    assert "status 503" in line["detail"]


# ---- consent


def test_consent_is_remembered_for_the_same_redirect_uris_and_keys(site: Site, browser: Browser, host: Host) -> None:
    browser.code(host.client, decision="allow_always")
    assert browser.authorize(host.client).code
    site.clock.advance(FRESH_FOR)
    host.serve(client_name="Another name")
    assert browser.authorize(host.client).code
    assert host.fetches == 2


def test_changed_document_is_asked_about_again_and_its_grants_stay_valid(
    site: Site, browser: Browser, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "signet.requests")
    code = browser.code(host.client, decision="allow_always")
    tokens = browser.redeem(host.client, code).json
    host.serve(redirect_uris=[CALLBACK, "https://app.example.com/more"])
    site.clock.advance(FRESH_FOR)
    assert "will be able to" in browser.authorize(host.client).body
    assert f'"event": "{events.CLIENT_DOCUMENT_CHANGED}"' in caplog.text
    assert browser.refresh(host.client, tokens["refresh_token"]).status == 200
    browser.code(host.client, decision="allow_always")
    assert browser.authorize(host.client).code


@pytest.mark.parametrize("redirect_uri", ["http://127.0.0.1:33418/callback", "com.example.app:/cb"])
def test_consent_of_an_application_on_the_device_is_not_remembered(
    site: Site, browser: Browser, host: Host, redirect_uri: str
) -> None:
    keys = {"token_endpoint_auth_method": "private_key_jwt", "jwks": key_pair().jwks}
    host.serve(redirect_uris=[LOOPBACK, "com.example.app:/cb"], **keys)
    page = browser.sign_in(browser.authorize(host.client, redirect_uri=redirect_uri))
    assert "Remember my choice" not in page.body
    assert "only if you just started" in page.body


# ---- authentication


def redeem_by_key(site: Site, browser: Browser, host: Host, **changes: Any) -> Answer:
    form = {"grant_type": "authorization_code", "code": create_code(site, host.client), "code_verifier": VERIFIER}
    return browser.post("/oauth2/token", form | {"redirect_uri": CALLBACK} | signed(site, host.client, **changes))


def both_methods(**changes: Any) -> dict[str, Any]:
    methods = {"token_endpoint_auth_methods_supported": ["private_key_jwt", "none"]}
    return methods | {"token_endpoint_auth_method": "private_key_jwt", "jwks": key_pair().jwks} | changes


def test_refresh_token_of_a_proved_client_is_refused_without_the_proof(
    site: Site, browser: Browser, host: Host
) -> None:
    host.serve(**both_methods())
    tokens = redeem_by_key(site, browser, host).json
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    stolen = browser.post("/oauth2/token", {**form, "client_id": host.url})
    assert (stolen.status, stolen.json["error"]) == (400, "invalid_grant")
    assert browser.post("/oauth2/token", form | signed(site, host.client)).status == 200


def test_replaced_refresh_token_is_not_answered_without_the_proof_either(
    site: Site, browser: Browser, host: Host
) -> None:
    host.serve(**both_methods())
    tokens = redeem_by_key(site, browser, host).json
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert browser.post("/oauth2/token", form | signed(site, host.client)).status == 200
    assert browser.post("/oauth2/token", {**form, "client_id": host.url}).json["error"] == "invalid_grant"
    assert browser.post("/oauth2/token", form | signed(site, host.client)).status == 200, "a retry, not a replay"


def test_client_that_redeemed_without_a_key_may_refresh_with_one(site: Site, browser: Browser, host: Host) -> None:
    host.serve(**both_methods())
    browser.authorize(host.client)
    tokens = browser.redeem(host.client, create_code(site, host.client)).json
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    refreshed = browser.post("/oauth2/token", form | signed(site, host.client)).json
    assert browser.refresh(host.client, refreshed["refresh_token"]).status == 200


@pytest.mark.spec("Client ID Metadata Document §8.2 a")
@pytest.mark.spec("RFC 9449 §5.2")
def test_document_can_ask_for_tokens_that_are_bound(site: Site, browser: Browser, host: Host) -> None:
    host.serve(dpop_bound_access_tokens=True)
    code = browser.code(host.client)
    assert browser.redeem(host.client, code).json["error"] == "invalid_dpop_proof"
    tokens = browser.redeem(host.client, code, headers=with_proof(site)).json
    assert tokens["token_type"] == "DPoP"
    refreshing = {"refresh_token": tokens["refresh_token"]}
    other = with_proof(site, pair=key_pair("ES256", "another key"))
    assert browser.refresh(host.client, **refreshing, headers=other).json["error"] == "invalid_grant"
    assert browser.refresh(host.client, **refreshing, headers=with_proof(site)).status == 200


@pytest.mark.spec("RFC 9101 §10.5 a", "RFC 9101 §6.2 b")
def test_document_can_demand_signed_requests(site: Site, browser: Browser, host: Host) -> None:
    host.serve(jwks=key_pair().jwks, require_signed_request_object=True, request_object_signing_alg="ES256")
    assert browser.authorize(host.client).answer["error"] == "invalid_request"
    answer = answer_signed(browser, host.client, request_object(site, host.client))
    assert browser.redeem(host.client, answer.code).status == 200
    for pair in (key_pair("RS256"), key_pair("ES256", "other")):
        text = request_object(site, host.client, pair)
        assert authorize_signed(browser, host.client, text).answer["error"] == "invalid_request_object"


def test_document_without_the_method_none_needs_the_key(site: Site, browser: Browser, host: Host) -> None:
    host.serve(**both_methods(token_endpoint_auth_methods_supported=None))
    browser.authorize(host.client)
    assert browser.redeem(host.client, create_code(site, host.client)).json["error"] == "invalid_client"
    assert redeem_by_key(site, browser, host).status == 200


@pytest.mark.spec("Client ID Metadata Document §8.2 b")
def test_key_in_the_document_must_be_fresh(site: Site, browser: Browser, host: Host) -> None:
    host.serve(**both_methods())
    assert redeem_by_key(site, browser, host).status == 200
    new = key_pair("ES256", "key-2")
    host.serve(**both_methods(jwks=new.jwks))
    site.clock.advance(FRESH_FOR)
    assert redeem_by_key(site, browser, host).json["error"] == "invalid_client"
    assert redeem_by_key(site, browser, host, pair=new).status == 200
    assert host.fetches == 2
    site.clock.advance(FRESH_FOR)
    assert browser.redeem(host.client, create_code(site, host.client)).status == 200, "without a key, by the same copy"
    assert host.fetches == 2


def test_first_fetches_of_the_keys_of_documents_are_limited_for_each_host(
    site: Site, browser: Browser, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The website answers each request with the document, which is no key set."""
    monkeypatch.setattr(key_sets, "FETCHES_PER_HOST", 1)
    host.serve(token_endpoint_auth_method="private_key_jwt", jwks_uri=f"https://{host.name}/jwks")
    for _ in range(3):
        assert redeem_by_key(site, browser, host).json["error"] == "temporarily_unavailable"
        site.clock.advance(PAUSE)
    assert host.fetches == 1 + 1


def test_client_with_both_methods_may_not_introspect(site: Site, browser: Browser, host: Host) -> None:
    host.serve(**both_methods())
    form = {"token": "x", **signed(site, host.client)}
    assert browser.post("/oauth2/introspect", form).json["error"] == "invalid_client"


def test_pushed_request_of_an_unknown_client_fetches_its_document(site: Site, browser: Browser, host: Host) -> None:
    parameters = authorization_parameters(host.client)
    pushed = browser.post("/oauth2/par", parameters)
    assert pushed.status == 201
    page = browser.get("/oauth2/authorize", client_id=host.url, request_uri=pushed.json["request_uri"])
    assert "Claude" in page.body
    assert host.fetches == 1


def test_page_of_the_application_may_read_the_token_response(site: Site, browser: Browser, host: Host) -> None:
    code = browser.code(host.client)
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER, "client_id": host.url}
    answer = browser.post("/oauth2/token", form | {"redirect_uri": CALLBACK}, {"Origin": "https://app.example.com"})
    assert answer.header("access-control-allow-origin") == "https://app.example.com"


def test_account_page_lists_the_application_and_removes_its_access(site: Site, browser: Browser, host: Host) -> None:
    tokens = browser.tokens(host.client)
    page = browser.get("/account")
    assert "Claude" in page.body
    submit_action(browser, "revoke", client_id=host.url)
    assert browser.userinfo(tokens["access_token"]).status == 401


# ---- races


def test_copy_that_is_pinned_during_a_refresh_is_kept(site: Site, browser: Browser, host: Host, wire: Wire) -> None:
    browser.authorize(host.client)
    site.clock.advance(FRESH_FOR)
    pinned = replace(stored(site, host), pinned_at=1, client_name="Pinned", expires_at=NEVER)

    def pin_now() -> None:
        site.server.store.documents.put(pinned)

    with wire.before("UpdateItem", pin_now, skip=1):
        assert "Pinned" in browser.authorize(host.client).body
    assert stored(site, host).pinned_at == 1


def test_refresh_that_another_process_has_claimed_in_between_is_left_to_it(
    site: Site, browser: Browser, host: Host, wire: Wire
) -> None:
    browser.authorize(host.client)
    site.clock.advance(FRESH_FOR)
    claimed = replace(stored(site, host), refreshing_until=site.clock() + 5)
    with wire.before("UpdateItem", lambda: site.server.store.documents.put(claimed)):
        assert browser.authorize(host.client).status == 200
    assert host.fetches == 1


@pytest.mark.parametrize(
    "changes",
    [{"fetched_at": 1, "client_name": "Changed"}, {"pinned_at": 1, "client_name": "Changed"}],
    ids=["fetched by another process", "pinned"],
)
def test_document_that_is_replaced_before_it_is_claimed_is_not_fetched(
    site: Site, browser: Browser, host: Host, wire: Wire, changes: dict[str, Any]
) -> None:
    browser.authorize(host.client)
    site.clock.advance(FRESH_FOR)
    changed = replace(stored(site, host), **changes)
    changed = replace(changed, fetched_at=site.clock() if changed.fetched_at == 1 else changed.fetched_at)
    with wire.before("UpdateItem", lambda: site.server.store.documents.put(changed)):
        assert "Changed" in browser.authorize(host.client).body
    assert (host.fetches, stored(site, host)) == (1, changed)


def test_document_that_is_kept_longer_during_a_refresh_is_still_refreshed(
    site: Site, browser: Browser, host: Host, wire: Wire
) -> None:
    browser.authorize(host.client)
    site.clock.advance(MINUTE)
    other = "https://app.example.com/other"
    host.serve(redirect_uris=[CALLBACK, other])
    until = site.clock() + LIFETIME

    def keep() -> None:
        site.server.store.documents.transition((host.url,), None, {"expires_at": until})

    with wire.before("UpdateItem", keep, skip=1):
        assert browser.authorize(host.client, redirect_uri=other).status == 200
    assert (stored(site, host).expires_at, stored(site, host).refreshing_until) == (until, 0)


def test_document_that_another_process_has_stored_first_is_no_failure(
    site: Site, browser: Browser, host: Host, wire: Wire
) -> None:
    first = ClientDocument(host.url, site.clock() + DAY, "First", (CALLBACK,), first_seen_at=1)
    with wire.before("TransactWriteItems", lambda: site.server.store.documents.put(first)):
        assert browser.authorize(host.client).status == 200
    assert stored(site, host) == first


def test_extension_that_fails_does_not_lose_the_tokens(site: Site, browser: Browser, host: Host, wire: Wire) -> None:
    code = browser.code(host.client)
    with wire.fault_in("UpdateItem", faults.unreachable, skip=1):
        assert browser.redeem(host.client, code).status == 200
