"""/oauth2/authorize: `state` is returned unchanged, and invalid encodings in gateway events are rejected."""

from typing import Any
from urllib.parse import urlencode

import pytest

from tests.endpoints.authorize.conftest import METHODS, REDIRECT_URI, read_claims, register_clients, send_request
from tests.support.browser import Browser
from tests.support.site import Site


def shorten(state: Any) -> str:
    """Return the name of a test case."""
    return ascii(state)[:30] + f" of {len(state)}"


TOO_LONG = ["s" * 4097, "é" * 500 + "s" * 3097, "s" * 8192]
CONTROLS = ["a\0", "a\r\nb", "\n", "\x7f", "\x9f"]


@pytest.mark.spec("RFC 6749 §10.14")
@pytest.mark.spec("RFC 6749 §4.1.2.1")
@pytest.mark.parametrize("state", TOO_LONG + CONTROLS, ids=shorten)
def test_state_that_is_not_accepted_is_returned_with_the_error(site: Site, browser: Browser, state: str) -> None:
    register_clients(site, {})
    for method in METHODS:
        answer = send_request(browser, method, {"state": state})
        assert answer.location.startswith(REDIRECT_URI + "?")
        assert "\r" not in answer.location
        assert answer.answer["error"] == "invalid_request"
        assert answer.answer["iss"] == site.settings.issuer
        assert answer.answer["state"] == state
        assert send_request(browser, method, {"state": [state, state]}).answer["state"] == state


@pytest.mark.parametrize("state", [["a", "b"], "s" * 8193, "%" * 2731, "é" * 2048], ids=shorten)
def test_state_that_no_redirect_can_carry_is_left_out(site: Site, browser: Browser, state: Any) -> None:
    register_clients(site, {})
    for method in METHODS:
        answer = send_request(browser, method, {"state": state})
        assert answer.location.startswith(REDIRECT_URI + "?")
        assert answer.answer["error"] == "invalid_request"
        assert "state" not in answer.answer


@pytest.mark.parametrize("state", CONTROLS, ids=shorten)
def test_form_has_no_state_that_a_browser_would_change(site: Site, browser: Browser, state: str) -> None:
    register_clients(site, {})
    answer = send_request(browser, "GET", {"state": state, "response_mode": "form_post"})
    assert answer.form.fields["error"] == "invalid_request"
    assert "state" not in answer.form.fields


SYMBOLS = ["0", " ", "`+&=#%", "%25%00", "a b+c", "\\\"'<>{}|^~", "ünï\u2028©\u202e\ufffc\U0001f600"]
LONG = ["`+&=#%é/?." * 200, "\U0001f600" * 600, "x" * 4096, "é" * 1365, "%" * 2730]


@pytest.mark.spec("RFC 6749 §4.1.2 f", "RFC 6749 §4.1.2.1 f")
@pytest.mark.spec("RFC 6749 §4.1.2")
@pytest.mark.parametrize("state", SYMBOLS + LONG, ids=shorten)
def test_accepted_state_is_returned_unchanged(site: Site, browser: Browser, state: str) -> None:
    register_clients(site, {})
    for method in METHODS:
        answer = send_request(browser, method, {"state": state, "response_type": "token"})
        assert answer.answer["error"] == "unsupported_response_type"
        assert answer.answer["state"] == state


@pytest.mark.parametrize("parameters", [{}, {"response_type": "code id_token"}], ids=["code", "hybrid"])
def test_state_of_4096_bytes_and_nonce_of_1024_come_back_after_sign_in_and_consent(
    site: Site, browser: Browser, parameters: dict[str, str]
) -> None:
    site.user()
    client = site.client(response_types=("code", "code id_token"))
    state, nonce = "s" * 4096, "n" * 1024
    answer = browser.answer(client, state=state, nonce=nonce, **parameters)
    assert answer.answer["state"] == state
    assert read_claims(browser.redeem(client, answer.code).json["id_token"])["nonce"] == nonce


def test_error_for_a_long_scope_stays_below_the_header_limit(site: Site, browser: Browser) -> None:
    """API Gateway rejects a response with more than 10,240 bytes of header fields."""
    register_clients(site, {})
    for method in METHODS:
        answer = send_request(browser, method, {"scope": "<" * 4000, "state": LONG[1]})
        assert answer.answer["error"] == "invalid_scope"
        assert answer.answer["state"] == LONG[1]
        assert sum(len(name) + len(value) for name, value in answer.headers) < 10_240


@pytest.mark.parametrize("state", [None, ""])
def test_no_state_is_returned_when_none_was_sent(site: Site, browser: Browser, state: str | None) -> None:
    register_clients(site, {})
    assert "state" not in send_request(browser, "GET", {"state": state, "response_type": "token"}).answer


def gateway_event(query: str | None = None, pairs: dict[str, list[str]] | None = None, body: str | None = None) -> Any:
    """Return an API Gateway event: format 2.0 with a raw query, or a REST API's with decoded parameters or a body."""
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


PARAMETERS = {
    "response_type": "code",
    "client_id": "print",
    "redirect_uri": REDIRECT_URI,
    "scope": "openid",
    "state": "s",
}


@pytest.mark.parametrize("invalid_utf_8", ["%ff", "%c3", "%ed%a0%80", "%c0%80", "%f5%80%80%80"])
@pytest.mark.parametrize("name", [*PARAMETERS, "nonce", "unknown"])
def test_invalid_utf_8_is_an_error_page_without_a_redirect(site: Site, name: str, invalid_utf_8: str) -> None:
    site.client(client_id="print")
    query = urlencode(PARAMETERS | {name: "X"}).replace(f"{name}=X", f"{name}={invalid_utf_8}")
    for event in (gateway_event(query=query), gateway_event(body=query)):
        answer = site.http_handler(event, None)
        assert answer["statusCode"] == 400
        assert "Location" not in answer["headers"]


@pytest.mark.parametrize("name", [*PARAMETERS, "nonce", "unknown"])
def test_query_in_which_the_gateway_has_replaced_bytes_is_an_error_page_without_a_redirect(
    site: Site, browser: Browser, name: str
) -> None:
    """A REST API and an HTTP API with payload 1.0 decode the query, and so does the local server."""
    site.client(client_id="print")
    query = urlencode(PARAMETERS | {name: "X"}).replace(f"{name}=X", f"{name}=a%ED%A0%80b")
    for pairs in (PARAMETERS | {name: "a\ufffd\ufffd\ufffdb"}, PARAMETERS | {f"{name}\ufffd": "a"}):
        answer = site.http_handler(gateway_event(pairs={key: [value] for key, value in pairs.items()}), None)
        assert (answer["statusCode"], answer["headers"].get("Location")) == (400, None)
    local = browser.get(f"/oauth2/authorize?{query}")
    assert (local.status, local.header("location")) == (400, None)


def test_replacement_character_that_was_sent_is_returned_where_the_gateway_does_not_decode(site: Site) -> None:
    site.client(client_id="print")
    query = urlencode(PARAMETERS | {"state": "a\ufffd", "response_type": "token"})
    for event in (gateway_event(query=query), gateway_event(body=query)):
        assert "state=a%EF%BF%BD" in site.http_handler(event, None)["headers"]["Location"]


@pytest.mark.parametrize("surrogate", ["\ud800", "a\udcffb"], ids=ascii)
@pytest.mark.parametrize(
    "name", [*PARAMETERS, "code_challenge", "nonce", "prompt", "max_age", "login_hint", "request_uri"]
)
def test_lone_surrogate_is_rejected(site: Site, name: str, surrogate: str) -> None:
    site.client(client_id="print")
    pairs = {key: [value] for key, value in (PARAMETERS | {name: surrogate}).items()}
    for event in (
        gateway_event(pairs=pairs),
        gateway_event(query="&".join(f"{key}={values[0]}" for key, values in pairs.items())),
    ):
        answer = site.http_handler(event, None)
        location = answer["headers"].get("Location")
        assert answer["statusCode"] == (400 if name in ("client_id", "redirect_uri") else 302)
        assert (location is None) == (answer["statusCode"] == 400)
        assert "error=invalid_request" in (location or "error=invalid_request")
        assert ("state=s" in (location or "")) == (location is not None and name != "state")


def test_more_than_a_hundred_parameters_are_rejected(site: Site) -> None:
    site.client(client_id="print")
    query = urlencode([*PARAMETERS.items(), *((f"p{n}", "") for n in range(96))])
    for event in (gateway_event(query=query), gateway_event(body=query)):
        assert site.http_handler(event, None)["statusCode"] == 400
