"""A request object is parsed once, by the first of the steps that need it."""

from dataclasses import replace

import pytest

from chalicelib.authorization import request_object as request_objects
from chalicelib.keys.client_keys import Jwt, read_jwt
from tests.support.assertions import key_pair
from tests.support.browser import Browser
from tests.support.request_objects import authorize_signed, request_object
from tests.support.site import Registered, Site


@pytest.fixture
def client(site: Site) -> Registered:
    site.user("alice")
    return site.client(jwks=key_pair().jwks)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the request objects that the server has parsed."""
    texts: list[str] = []

    def parse(text: str) -> Jwt:
        texts.append(text)
        return read_jwt(text)

    monkeypatch.setattr(request_objects, "read_jwt", parse)
    return texts


def test_request_object_is_parsed_once_for_each_http_request(
    site: Site, browser: Browser, client: Registered, parsed: list[str]
) -> None:
    text = request_object(site, client)
    page = authorize_signed(browser, client, text)
    assert parsed == [text]
    browser.submit(page, username="alice", password="wrong")
    assert parsed == [text] * 3, "the page, its form, and the page after the redirect"


def test_request_object_is_parsed_once_where_the_request_is_checked_with_two_records_of_the_client(
    site: Site, browser: Browser, client: Registered, parsed: list[str]
) -> None:
    site.server.client(client.id)
    site.server.store.clients.put(replace(client.record, client_name="Other name", jwks=key_pair().jwks))
    answer = authorize_signed(browser, client, request_object(site, client, scope="unregistered"))
    assert answer.answer["error"] == "invalid_scope"
    assert len(parsed) == 1


def test_malformed_request_object_is_parsed_once(browser: Browser, client: Registered, parsed: list[str]) -> None:
    answer = authorize_signed(browser, client, "x.y", response_type="code")
    assert answer.answer["error"] == "invalid_request_object"
    assert parsed == ["x.y"]
