"""Signed requests that are pushed (RFC 9126 section 3), and the keys of every kind of client."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib.clients.key_sets import FRESH_FOR, PAUSE
from chalicelib.http import outbound
from tests.endpoints.authorize.conftest import asks_to_sign_in
from tests.endpoints.par.conftest import PAR, open_pushed
from tests.support.assertions import key_client, key_pair, signed
from tests.support.browser import VERIFIER, Answer, Browser, authorization_parameters, basic
from tests.support.grants import update_client
from tests.support.proofs import with_proof
from tests.support.receivers import Receiver, json_answer, status
from tests.support.request_objects import answer_signed, authorize_signed, request_object
from tests.support.site import Registered, Site

pytestmark = pytest.mark.spec("RFC 9126 §3", "RFC 9101 §6")


@pytest.fixture
def client(site: Site) -> Registered:
    site.user("alice")
    return key_client(site, require_signed_request_object=True, require_pushed_authorization_requests=True)


def push_object(
    browser: Browser, client: Registered, text: str, headers: dict[str, str] | None = None, **beside: Any
) -> Answer:
    form = {"client_id": client.id, "request": text, **beside} | signed(browser.site, client)
    answer = browser.post(PAR, form, headers)
    if answer.status == 201:
        browser.site.secrets.add(answer.json["request_uri"].rpartition(":")[2])
    return answer


def redeem(browser: Browser, client: Registered, code: str, headers: dict[str, str] | None = None) -> Answer:
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER}
    form |= {"redirect_uri": client.record.redirect_uris[0], **signed(browser.site, client)}
    return browser.post("/oauth2/token", form, headers)


def test_signed_request_is_pushed_and_answered_once(site: Site, browser: Browser, client: Registered) -> None:
    answer = push_object(browser, client, request_object(site, client, state="inside"), state="outside", scope="email")
    uri = answer.json["request_uri"]
    page = browser.sign_in(open_pushed(browser, client, uri))
    answer = browser.submit(page, decision="allow_once")
    assert answer.answer["state"] == "inside"
    assert redeem(browser, client, answer.code).status == 200
    again = open_pushed(browser, client, uri)
    assert (again.status, again.header("location")) == (400, None)


def test_pushed_request_outlives_its_object(site: Site, browser: Browser, client: Registered) -> None:
    uri = push_object(browser, client, request_object(site, client, exp=site.clock.time + 10)).json["request_uri"]
    site.clock.advance(200)
    page = browser.sign_in(open_pushed(browser, client, uri))
    assert browser.submit(page, decision="allow_once").code


def test_unsigned_request_is_refused_from_a_client_that_must_sign(
    site: Site, browser: Browser, client: Registered
) -> None:
    answer = browser.post(PAR, authorization_parameters(client) | signed(site, client))
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert "signed" in answer.json["error_description"]
    text = request_object(site, client)
    assert authorize_signed(browser, client, text).answer["error"] == "invalid_request", "it must be pushed too"


@pytest.mark.spec("RFC 9101 §5 b")
def test_reference_beside_or_in_the_object_is_refused(site: Site, browser: Browser, client: Registered) -> None:
    uri = push_object(browser, client, request_object(site, client)).json["request_uri"]
    answer = push_object(browser, client, request_object(site, client), request_uri=uri)
    assert answer.json["error"] == "invalid_request"
    answer = push_object(browser, client, request_object(site, client, request_uri=uri))
    assert answer.json["error"] == "invalid_request_object"


def test_object_of_another_client_is_refused(site: Site, browser: Browser, client: Registered) -> None:
    other = key_client(site)
    answer = push_object(browser, client, request_object(site, other))
    assert (answer.status, answer.json["error"]) == (400, "invalid_request_object")
    answer = push_object(browser, client, request_object(site, client, key_pair("ES256", "x"), {"kid": "key-1"}))
    assert (answer.status, answer.json["error"]) == (400, "invalid_request_object")


def test_proof_binds_the_code_of_a_signed_request(site: Site, browser: Browser, client: Registered) -> None:
    answer = push_object(browser, client, request_object(site, client), with_proof(site, path=PAR))
    (stored,) = site.server.store.requests.scan()
    assert stored.dpop_jkt
    page = browser.sign_in(open_pushed(browser, client, answer.json["request_uri"]))
    code = browser.submit(page, decision="allow_once").code
    assert redeem(browser, client, code).status == 400
    assert redeem(browser, client, code, with_proof(site)).json["token_type"] == "DPoP"
    matching = request_object(site, client, dpop_jkt=stored.dpop_jkt)
    assert push_object(browser, client, matching, with_proof(site, path=PAR)).status == 201
    other = request_object(site, client, dpop_jkt="x" * 43)
    answer = push_object(browser, client, other, with_proof(site, path=PAR), dpop_jkt=stored.dpop_jkt)
    assert answer.json["error"] == "invalid_request"


# ---- the keys of a client


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A server with the key set of a client."""
    monkeypatch.setattr(outbound, "SECONDS", 0.5)
    receiver = Receiver(json_answer(json.dumps(key_pair().jwks).encode()))
    yield receiver
    receiver.close()


@pytest.fixture
def key_site(site_with: Callable[..., Site]) -> Site:
    """A server that may send requests to 127.0.0.1."""
    return site_with(outbound_networks=("127.0.0.0/8",))


def test_keys_at_a_jwks_uri_are_fetched_once(key_site: Site, browsers: Callable[..., Browser], host: Receiver) -> None:
    browser = browsers(key_site)
    key_site.user("alice")
    client = key_site.client(jwks_uri=host.url)
    for _ in range(3):
        assert asks_to_sign_in(authorize_signed(browser, client, request_object(key_site, client)))
    assert len(host.requests) == 1
    forged = request_object(key_site, client, key_pair("ES256", "key-2"))
    for _ in range(3):
        assert authorize_signed(browser, client, forged).answer["error"] == "invalid_request_object"
    assert authorize_signed(browser, client, request_object(key_site, client, aud="x")).answer["error"]
    assert len(host.requests) == 1, "anyone can send an object with an unknown kid"
    key_site.clock.advance(PAUSE)
    host.behave = json_answer(json.dumps({"keys": [key_pair("ES256", "key-2").jwk]}).encode())
    text = request_object(key_site, client, key_pair("ES256", "key-2"))
    assert answer_signed(browser, client, text).code
    assert len(host.requests) == 2


@pytest.mark.parametrize("problem", ["private", "status", "off the curve"])
def test_keys_that_cannot_be_used_are_a_temporary_error(
    key_site: Site, browsers: Callable[..., Browser], host: Receiver, problem: str
) -> None:
    browser = browsers(key_site)
    off = key_pair().jwk | {"y": key_pair().jwk["x"]}
    host.behave = {
        "private": json_answer(json.dumps({"keys": [key_pair().private_jwk]}).encode()),
        "status": status(500),
        "off the curve": json_answer(json.dumps({"keys": [off]}).encode()),
    }[problem]
    client = key_site.client(jwks_uri=host.url)
    answer = authorize_signed(browser, client, request_object(key_site, client))
    assert answer.answer["error"] == "temporarily_unavailable"
    answer = browser.post(PAR, {"request": request_object(key_site, client)}, basic(client.id, client.secret or ""))
    assert (answer.status, answer.json["error"]) == (503, "temporarily_unavailable")
    assert not list(key_site.server.store.requests.scan())


def test_known_keys_serve_while_the_host_is_down(
    key_site: Site, browsers: Callable[..., Browser], host: Receiver
) -> None:
    browser = browsers(key_site)
    client = key_site.client(jwks_uri=host.url)
    assert asks_to_sign_in(authorize_signed(browser, client, request_object(key_site, client)))
    host.behave = status(500)
    key_site.clock.advance(FRESH_FOR)
    assert asks_to_sign_in(authorize_signed(browser, client, request_object(key_site, client)))


def test_cached_keys_are_those_of_the_record(site: Site, browser: Browser, client: Registered) -> None:
    assert push_object(browser, client, request_object(site, client)).status == 201
    update_client(site, client, jwks={"keys": [key_pair().jwk, key_pair("PS256", "rsa").jwk]})
    assert push_object(browser, client, request_object(site, client, key_pair("PS256", "rsa"))).status == 201
