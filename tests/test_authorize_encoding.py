"""/oauth2/authorize: `state` to the last character, and what is badly encoded, as gateways bring it."""

from typing import Any
from urllib.parse import urlencode

import pytest

from tests.browser import Browser
from tests.site import Site
from tests.test_authorize_refusals import HOME, METHODS, ask, with_clients


@pytest.mark.spec("RFC 6749 §10.14")
@pytest.mark.spec("RFC 6749 §4.1.2.1")
@pytest.mark.parametrize(
    "state", [["a", "a"], ["a", "b"], "s" * 2049, "a\0", "a\r\nb", "\n", "\x7f", "\x9f"], ids=ascii
)
def test_a_state_that_is_refused_is_not_repeated(site: Site, browser: Browser, state: Any) -> None:
    with_clients(site, {})
    for method in METHODS:
        answer = ask(browser, method, {"state": state})
        assert answer.location.startswith(HOME + "?")
        assert answer.answer["error"] == "invalid_request"
        assert answer.answer["iss"] == site.settings.issuer
        assert "state" not in answer.answer


SYMBOLS = ["0", " ", "`+&=#%", "%25%00", "a b+c", "\\\"'<>{}|^~", "ünï\u2028©\u202e\ufffd\U0001f600"]
LONG = ["`+&=#%é/?." * 200, "\U0001f600" * 600, "x" * 2048]


@pytest.mark.spec("RFC 6749 §4.1.2 f", "RFC 6749 §4.1.2.1 f")
@pytest.mark.spec("RFC 6749 §4.1.2")
@pytest.mark.parametrize("state", SYMBOLS + LONG, ids=ascii)
def test_any_other_state_comes_back_exactly(site: Site, browser: Browser, state: str) -> None:
    with_clients(site, {})
    for method in METHODS:
        answer = ask(browser, method, {"state": state, "response_type": "token"})
        assert answer.answer["error"] == "unsupported_response_type"
        assert answer.answer["state"] == state


def test_an_error_about_a_long_scope_leaves_room_for_the_state(site: Site, browser: Browser) -> None:
    """A gateway refuses an answer whose header fields have more than 10,240 bytes."""
    with_clients(site, {})
    for method in METHODS:
        answer = ask(browser, method, {"scope": "<" * 4000, "state": LONG[1]})
        assert answer.answer["error"] == "invalid_scope"
        assert answer.answer["state"] == LONG[1]
        assert sum(len(name) + len(value) for name, value in answer.headers) < 10_240


@pytest.mark.parametrize("state", [None, ""])
def test_no_state_comes_back_when_none_was_sent(site: Site, browser: Browser, state: str | None) -> None:
    with_clients(site, {})
    assert "state" not in ask(browser, "GET", {"state": state, "response_type": "token"}).answer


def event(query: str | None = None, pairs: dict[str, list[str]] | None = None, body: str | None = None) -> Any:
    """A gateway's event: payload 2.0 with a raw query, or a REST API's with decoded parameters or a body."""
    path, method = "/oauth2/authorize", "GET" if body is None else "POST"
    if query is not None:
        context = {"http": {"method": method, "path": path, "sourceIp": "192.0.2.1"}, "stage": "$default"}
        return {"version": "2.0", "rawPath": path, "rawQueryString": query, "headers": {}, "requestContext": context}
    return {
        "httpMethod": method,
        "path": path,
        "headers": {"Content-Type": "application/x-www-form-urlencoded"},
        "multiValueQueryStringParameters": pairs,
        "body": body,
        "isBase64Encoded": False,
        "requestContext": {"httpMethod": method, "resourcePath": path, "stage": "dev"},
    }


GIVEN = {"response_type": "code", "client_id": "print", "redirect_uri": HOME, "scope": "openid", "state": "s"}


@pytest.mark.parametrize("badly", ["%ff", "%c3", "%ed%a0%80", "%c0%80", "%f5%80%80%80"])
@pytest.mark.parametrize("name", [*GIVEN, "nonce", "unknown"])
def test_what_is_no_utf_8_is_shown_and_never_redirected(site: Site, name: str, badly: str) -> None:
    site.client(client_id="print")
    query = urlencode(GIVEN | {name: "X"}).replace(f"{name}=X", f"{name}={badly}")
    for given in (event(query=query), event(body=query)):
        answer = site.http_handler(given, None)
        assert answer["statusCode"] == 400
        assert "Location" not in answer["headers"]


@pytest.mark.parametrize("surrogate", ["\ud800", "a\udcffb"], ids=ascii)
@pytest.mark.parametrize("name", [*GIVEN, "code_challenge", "nonce", "prompt", "max_age", "login_hint", "request_uri"])
def test_a_lone_surrogate_is_refused(site: Site, name: str, surrogate: str) -> None:
    site.client(client_id="print")
    pairs = {key: [value] for key, value in (GIVEN | {name: surrogate}).items()}
    for given in (event(pairs=pairs), event(query="&".join(f"{key}={values[0]}" for key, values in pairs.items()))):
        answer = site.http_handler(given, None)
        location = answer["headers"].get("Location")
        assert answer["statusCode"] == (400 if name in ("client_id", "redirect_uri") else 302)
        assert (location is None) == (answer["statusCode"] == 400)
        assert "error=invalid_request" in (location or "error=invalid_request")
        assert ("state=s" in (location or "")) == (location is not None and name != "state")


def test_more_than_a_hundred_parameters_are_too_many(site: Site) -> None:
    site.client(client_id="print")
    query = urlencode([*GIVEN.items(), *((f"p{n}", "") for n in range(96))])
    for given in (event(query=query), event(body=query)):
        assert site.http_handler(given, None)["statusCode"] == 400
