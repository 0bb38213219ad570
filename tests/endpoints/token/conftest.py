"""What the tests of POST /oauth2/token share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest

from tests.support.browser import VERIFIER, Answer, Browser, basic
from tests.support.grants import create_code
from tests.support.site import Registered, Site

FORM = "application/x-www-form-urlencoded"


@dataclass
class Setup:
    """A confidential client with a code that `valid_form` redeems, and a public client."""

    site: Site
    browser: Browser
    client: Registered
    public_client: Registered
    code: str

    @property
    def valid_form(self) -> dict[str, Any]:
        """The parameters of a valid code exchange, without client authentication."""
        return {
            "grant_type": "authorization_code",
            "code": self.code,
            "redirect_uri": "https://client.example.com/cb",
            "code_verifier": VERIFIER,
        }

    @property
    def basic(self) -> dict[str, str]:
        """The client's credentials in HTTP Basic."""
        return basic(self.client.id, self.client.secret or "")

    def post(self, body: str | bytes | None, headers: dict[str, str], path: str = "/oauth2/token") -> Answer:
        return self.browser.request("POST", path, body, headers)

    def refresh(self, refresh_token: str, **parameters: Any) -> Answer:
        return self.browser.refresh(self.client, refresh_token, **parameters)


@pytest.fixture
def setup(site: Site, browser: Browser) -> Setup:
    client = site.client()
    public_client = site.client(client_name="On a phone", public=True)
    return Setup(site, browser, client, public_client, create_code(site, client))


@pytest.fixture
def tokens(setup: Setup) -> dict[str, Any]:
    """Redeem the code of `setup`: tokens with the scopes openid, email and profile."""
    return post_form()(setup).json


@pytest.fixture(autouse=True)
def _well_formed_responses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Assert the form of every response of the token endpoint (RFC 6749 sections 5.1, 5.2)."""
    request = Browser.request

    def checked(browser: Browser, method: str, url: str, *arguments: Any, **more: Any) -> Answer:
        answer = request(browser, method, url, *arguments, **more)
        if url.startswith("/oauth2/token") and method == "POST":
            assert_well_formed(answer)
        return answer

    monkeypatch.setattr(Browser, "request", checked)


def assert_well_formed(answer: Answer) -> None:
    assert answer.header("content-type") == "application/json"
    assert answer.header("cache-control") == "no-store"
    assert answer.header("pragma") == "no-cache"
    members = answer.json  # asserts that no member is null
    if answer.status == 200:
        required = {"access_token", "token_type", "expires_in", "scope"}
        if "authorization_details" in members:  # they are enough (RFC 9396 section 3.1)
            required -= {"scope"} - members.keys()
        assert set(members) - {"refresh_token", "id_token", "authorization_details"} == required
        assert type(members["expires_in"]) is int
        assert members["expires_in"] > 0
    else:
        assert set(members) == {"error", "error_description"}
    assert ("basic" in (answer.header("www-authenticate") or "").lower()) == (answer.status == 401)


Send = Callable[[Setup], Answer]


def post_form(**changed: Any) -> Send:
    """Return a function that posts the valid form with changed parameters and HTTP Basic.

    None omits a parameter, a list repeats it.
    """

    def send(setup: Setup) -> Answer:
        present = {name: value for name, value in (setup.valid_form | changed).items() if value is not None}
        return setup.post(urlencode(present, doseq=True), {"Content-Type": FORM, **setup.basic})

    return send


def post_as(
    client: str, secret: str | None = None, header: str | tuple[str, str] | None = None, **parameters: Any
) -> Send:
    """Return a function that posts the valid form with other credentials.

    `client` is the client_id: "client" and "public" name the clients of `setup`, "" omits it. `secret` is the
    client_secret in the body; "right" is the client's own. `header` is (user-id, password) for HTTP Basic, or a whole
    Authorization header.
    """

    def send(setup: Setup) -> Answer:
        ids = {"client": setup.client.id, "public": setup.public_client.id}
        secrets = {"right": setup.client.secret or ""}
        body = setup.valid_form | parameters
        if client:
            body["client_id"] = ids.get(client, client)
        if secret is not None:
            body["client_secret"] = secrets.get(secret, secret)
        headers = {"Content-Type": FORM}
        if isinstance(header, tuple):
            user_id, password = header
            headers |= basic(ids.get(user_id, user_id), secrets.get(password, password))
        elif header is not None:
            headers["Authorization"] = header
        return setup.post(urlencode(body, doseq=True), headers)

    return send


def claims_of(token: str) -> dict[str, Any]:
    """Return the claims of a JWT without checking it."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims
