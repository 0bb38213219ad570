"""express-openid-connect: a web application whose deep link of 3,000 characters is in the state."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import expect

from tests.interop.programs import NODE_FOLDER, Server, node_with, open_url, parameters
from tests.support.browser import Answer, Browser
from tests.support.chromium import Window
from tests.support.ports import free_port
from tests.support.site import Registered, Site

pytestmark = [pytest.mark.slow, pytest.mark.programs]

DEEP_LINK = "/reports?filter=" + "a%20b%26" * 373
# The library keeps the state in a cookie too, which browsers drop if it is longer than 4,096 bytes.
LONGEST_IN_A_BROWSER = 2800
KINDS = {
    "code by query": {"response_type": "code", "response_mode": "query"},
    "code by form_post": {"response_type": "code", "response_mode": "form_post"},
    "code id_token by form_post": {"response_type": "code id_token", "response_mode": "form_post"},
}


class Application:
    """The application, registered at a site, and its cookies in a browser."""

    def __init__(self, site: Site, kind: dict[str, str], log: Path):
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        self.client: Registered = site.client(
            redirect_uris=[f"{url}/callback"],
            post_logout_redirect_uris=(url,),
            response_types=("code", "code id_token"),
        )
        configuration = {
            "port": port,
            "baseURL": url,
            "issuerBaseURL": site.settings.issuer,
            "clientID": self.client.id,
            "clientSecret": self.client.secret,
            "secret": "a long random secret of the application",
            "authorizationParams": {"scope": "openid profile offline_access"} | kind,
        }
        command = [node_with("express-openid-connect"), "express_application.mjs", json.dumps(configuration)]
        self._server = Server(command, NODE_FOLDER, port, log)
        self.url = self._server.url
        self._session = requests.Session()

    def get(self, path: str) -> requests.Response:
        return self._session.get(self.url + path, allow_redirects=False, timeout=30)

    def receive(self, answer: Answer) -> requests.Response:
        """Let the browser follow an authorization response to the application."""
        if answer.mode == "form_post":
            url, fields = str(answer.form.action), answer.form.fields
            return self._session.post(url, fields, allow_redirects=False, timeout=30)
        return self._session.get(answer.location, allow_redirects=False, timeout=30)

    def close(self) -> None:
        self._session.close()
        self._server.close()


@pytest.fixture
def start(site: Site, tmp_path: Path) -> Iterator[Callable[[str], Application]]:
    """Return a function that starts the application."""
    started: list[Application] = []

    def start(kind: str) -> Application:
        started.append(Application(site, KINDS[kind], tmp_path / "log"))
        return started[-1]

    yield start
    for application in started:
        application.close()


@pytest.mark.parametrize("kind", KINDS)
def test_sign_in_returns_to_a_deep_link_of_3000_characters(
    site: Site, browser: Browser, start: Callable[[str], Application], kind: str
) -> None:
    user = site.user("alice", claims={"name": "Alice Liddell"})
    application = start(kind)
    assert len(DEEP_LINK) == 3000
    url = application.get(DEEP_LINK).headers["Location"]
    assert 4000 <= len(parameters(url)["state"]) <= 4096
    answer = application.receive(open_url(site, browser, url))
    assert (answer.status_code, answer.headers.get("Location")) == (302, DEEP_LINK), answer.text
    assert application.get(DEEP_LINK).json() == {"url": DEEP_LINK, "sub": user.sub, "name": "Alice Liddell"}
    assert application.get("/refresh").json() == {"refreshed": True}

    logout = application.get("/logout").headers["Location"]
    assert urlsplit(logout).path == "/oauth2/logout"
    site.secrets.add(parameters(logout)["id_token_hint"])
    assert browser.request("GET", logout).location.removesuffix("/") == application.url
    assert application.get("/").json() == {"signed_in": False}
    page = browser.request("GET", application.get("/login").headers["Location"])
    assert "password" in page.form.fields, "the session at the authorization server has ended too"


@pytest.mark.browser
@pytest.mark.parametrize("kind", KINDS)
def test_chromium_returns_to_the_longest_deep_link_that_its_cookies_allow(
    site: Site, window: Window, start: Callable[[str], Application], kind: str
) -> None:
    site.user("alice")
    url = start(kind).url + DEEP_LINK[:LONGEST_IN_A_BROWSER]
    window.page.goto(url)
    window.sign_in()
    window.press("Allow")
    window.page.wait_for_url(url)
    expect(window.page.locator("body")).to_contain_text('"sub"')


@pytest.mark.parametrize("kind", KINDS)
def test_refused_access_returns_with_the_state(
    site: Site, browser: Browser, start: Callable[[str], Application], kind: str
) -> None:
    site.user("alice")
    application = start(kind)
    url = application.get(DEEP_LINK).headers["Location"]
    denied = open_url(site, browser, url, decision="deny")
    assert denied.answer["state"] == parameters(url)["state"]
    answer = application.receive(denied)
    assert (answer.status_code, answer.json()) == (400, {"error": "access_denied"})
