"""What the tests of /oauth2/par share: a request is pushed, and opened."""

from typing import Any

from chalicelib.authorization.pushed_request import PREFIX
from tests.support.assertions import signed
from tests.support.browser import Answer, Browser, authorization_parameters, basic
from tests.support.site import Registered

PAR = "/oauth2/par"


def push(browser: Browser, client: Registered, headers: dict[str, str] | None = None, **changes: Any) -> Answer:
    """Push an authorization request; the client authenticates as it is registered."""
    parameters = authorization_parameters(client, **changes)
    headers = dict(headers or {})
    if client.secret:
        headers |= basic(client.id, client.secret)
    elif not client.record.public:
        parameters |= signed(browser.site, client)
    answer = browser.post(PAR, parameters, headers)
    if answer.status == 201:
        browser.site.secrets.add(answer.json["request_uri"].removeprefix(PREFIX))
    return answer


def pushed(browser: Browser, client: Registered, **changes: Any) -> str:
    """Push an authorization request, and return its request_uri."""
    answer = push(browser, client, **changes)
    assert answer.status == 201, answer.body
    return str(answer.json["request_uri"])


def open_pushed(browser: Browser, client: Registered, request_uri: str, **more: Any) -> Answer:
    """Open a pushed request in a browser."""
    return browser.get("/oauth2/authorize", client_id=client.id, request_uri=request_uri, **more)
