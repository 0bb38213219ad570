"""Chromium, driven by Playwright, and a web server at another origin that acts as the application.

Every console message, failed request and script error fails the test that caused it, unless the test expects it.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, WebError, expect, sync_playwright

from tests.support.browser import Browser, authorization_parameters
from tests.support.site import PASSWORD, Registered, Site

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-site-isolation-trials",
    "--renderer-process-limit=2",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PHONE = {"viewport": {"width": 320, "height": 640}}
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
# For tests of flows that must work the same with and without scripts.
with_and_without_javascript = pytest.mark.parametrize(
    "script", [True, False], ids=["with JavaScript", "without JavaScript"]
)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """One Chromium for the whole run."""
    if not CHROMIUM.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{CHROMIUM} is missing; CI must have it.")
        pytest.skip(f"{CHROMIUM} is missing.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Profile:
    """A browser profile. It is cleared and reused, because creating one takes as long as a short test."""

    def __init__(self, chromium: Chromium, options: dict[str, Any]):
        self.context: BrowserContext = chromium.new_context(**options)
        self.context.set_default_timeout(20_000)
        # This tab stays open: the first tab of a profile takes twice as long to open as the next ones.
        self._tab: Page = self.context.new_page()
        self._session = self.context.new_cdp_session(self._tab)

    def clear(self) -> None:
        """Close the tabs, and delete cookies and cache; the pages store nothing else."""
        for page in self.context.pages:
            if page is not self._tab:
                page.close()
        self.context.unroute_all()
        self.context.clear_permissions()
        self.context.clear_cookies()
        self._session.send("Network.clearBrowserCache")


class Profiles:
    """The profiles that are not in use, by their options."""

    def __init__(self, chromium: Chromium):
        self._chromium = chromium
        self._free: dict[str, list[Profile]] = {}

    def take(self, options: dict[str, Any]) -> Profile:
        free = self._free.get(repr(options))
        return free.pop() if free else Profile(self._chromium, options)

    def give_back(self, profile: Profile, options: dict[str, Any]) -> None:
        profile.clear()
        if "http_credentials" in options:  # Chromium cannot be made to drop these
            profile.context.close()
        else:
            self._free.setdefault(repr(options), []).append(profile)


@pytest.fixture(scope="session")
def profiles(chromium: Chromium) -> Profiles:
    return Profiles(chromium)


class Application:
    """A web server at another origin: serves `pages`, sends `redirects`, and records the paths it `received`.

    `posted` has the path and the form of each POST request.
    """

    def __init__(self, address: str = "127.0.0.1"):
        self.received: list[str] = []
        self.posted: list[tuple[str, dict[str, str]]] = []
        self.pages: dict[str, str] = {}
        self.redirects: dict[str, str] = {}
        application = self

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = urlsplit(self.path).path
                application.received.append(self.path)
                if path in application.redirects:
                    self.send_response(302)
                    self.send_header("Location", application.redirects[path])
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                body = f'<!doctype html><title>Application</title><link rel="icon" href="data:,">\
                    {application.pages.get(path, "<h1>Welcome back</h1>")}'.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                assert self.headers["Content-Type"] == "application/x-www-form-urlencoded"
                body = self.rfile.read(int(self.headers["Content-Length"])).decode("ascii")
                application.posted.append((self.path, dict(parse_qsl(body, keep_blank_values=True))))
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = Server((address, 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def url(self, path: str = "/cb", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    @property
    def answers(self) -> list[dict[str, str]]:
        """The parameters of every authorization response that arrived at /cb."""
        return [dict(parse_qsl(urlsplit(path).query)) for path in self.received if urlsplit(path).path == "/cb"]

    @property
    def answer(self) -> dict[str, str]:
        """The parameters of the only authorization response."""
        (answer,) = self.answers
        return answer


@pytest.fixture
def applications() -> Iterator[Callable[..., Application]]:
    """A function that starts a web server of an application."""
    started: list[Application] = []

    def start(address: str = "127.0.0.1") -> Application:
        started.append(Application(address))
        return started[-1]

    yield start
    for application in started:
        application.close()


@pytest.fixture
def application(applications: Callable[..., Application]) -> Application:
    return applications()


class Window:
    """An own browser profile and the page in its first tab.

    `errors` are the messages of Chromium; those that contain a text of `expected_errors` do not fail the test.
    """

    def __init__(self, profiles: Profiles, site: Site, **options: Any):
        self.site = site
        self.errors: list[str] = []
        self.expected_errors: list[str] = []
        self._profiles, self._options = profiles, options
        self._profile = profiles.take(options)
        self.context = self._profile.context
        self.context.on("console", self._on_console)
        self.context.on("requestfailed", self._on_failure)
        self.context.on("weberror", self._on_error)
        self.page: Page = self.context.new_page()

    def _on_console(self, message: ConsoleMessage) -> None:
        if "Autofocus processing was blocked" in message.text:
            return  # the test filled in a field before the page was drawn
        self.errors.append(f"{message.type}: {message.text} [{urlsplit(message.location['url']).path}]")

    def _on_failure(self, request: Request) -> None:
        self.errors.append(f"failed: {request.failure} [{urlsplit(request.url).path}]")

    def _on_error(self, error: WebError) -> None:
        self.errors.append(f"script: {error.error}")

    def close(self) -> None:
        cookies = [each for each in self.context.cookies() if not each["name"].endswith("signet-language")]
        self.site.secrets.update(cookie["value"] for cookie in cookies)
        self.context.remove_listener("console", self._on_console)
        self.context.remove_listener("requestfailed", self._on_failure)
        self.context.remove_listener("weberror", self._on_error)
        self._profiles.give_back(self._profile, self._options)
        assert [text for text in self.errors if not any(part in text for part in self.expected_errors)] == []

    # ---- actions of the user

    def authorize(self, client: Registered, redirect_uri: str, page: Page | None = None, **parameters: str) -> None:
        """Open an authorization request of the client."""
        self.bring_to_front(page).goto(self.site.settings.issuer + authorization(client, redirect_uri, **parameters))

    def to(self, path: str, **parameters: str) -> None:
        """Open an address of the server."""
        query = f"?{urlencode(parameters)}" if parameters else ""
        self.page.goto(self.site.settings.issuer + path + query)

    def bring_to_front(self, page: Page | None) -> Page:
        """Show a tab, by default the first one, and return it. Chromium draws hidden tabs only once a second."""
        if page:
            page.bring_to_front()
        return page or self.page

    def sign_in(self, username: str = "alice", password: str = PASSWORD, page: Page | None = None) -> None:
        page = self.bring_to_front(page)
        page.get_by_label("Username").fill(username)
        page.get_by_label("Password").fill(password)
        self.press("Sign in", page)

    def press(self, name: str, page: Page | None = None) -> None:
        """Press a button, and wait until the next page has loaded."""
        page = self.bring_to_front(page)
        with page.expect_navigation():
            page.get_by_role("button", name=name, exact=True).click()

    def allow_and_remember(self) -> None:
        """Allow access on the consent page, and have the choice remembered."""
        self.page.get_by_label("Remember my choice").check()
        self.press("Allow")

    def tab_to(self, name: str) -> None:
        """Press Tab until the element with this name has the focus, which must be visible."""
        named = "document.activeElement.getAttribute('aria-label') || document.activeElement.innerText"
        for _ in range(40):
            self.page.keyboard.press("Tab")
            if self.page.evaluate(named) == name:
                outline: str = self.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline == "solid"
                return
        raise AssertionError(f"{name!r} cannot be reached by the keyboard.")

    def enter(self, name: str) -> None:
        """Go to a button or a link by the keyboard, press Enter, and wait until the next page has loaded."""
        self.tab_to(name)
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")

    def sign_in_by_keyboard(self, username: str = "alice", password: str = PASSWORD) -> None:
        """Sign in by the keyboard; the page must have the focus in the first field."""
        expect(self.page.get_by_label("Username")).to_be_focused()
        keyboard = self.page.keyboard
        keyboard.type(username)
        keyboard.press("Tab")
        keyboard.type(password)
        with self.page.expect_navigation():
            keyboard.press("Enter")

    def heading(self, page: Page | None = None) -> str:
        return (page or self.page).get_by_role("heading", level=1).inner_text()

    def text(self, page: Page | None = None) -> str:
        return (page or self.page).inner_text("main")

    @property
    def cookies(self) -> set[str]:
        """The names of the server's cookies."""
        return {cookie.get("name", "") for cookie in self.context.cookies(self.site.settings.issuer)}


@pytest.fixture
def windows(profiles: Profiles, site: Site) -> Iterator[Callable[..., Window]]:
    """A function that opens a window; closing it at the end fails the test if Chromium reported errors."""
    opened: list[Window] = []

    def open_(**options: Any) -> Window:
        opened.append(Window(profiles, site, **options))
        return opened[-1]

    yield open_
    for window in opened:
        window.close()


@pytest.fixture
def window(windows: Callable[..., Window]) -> Window:
    return windows()


def violations(page: Page) -> list[tuple[str, str, list[str]]]:
    """Return what axe-core reports for a page: theme, rule and elements.

    Only colours differ between the themes, so the dark one is checked with the rules about colours only.
    """
    reported: list[tuple[str, str, list[str]]] = []
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        options: dict[str, Any] = {"resultTypes": ["violations"]}
        if scheme == "light":
            response = Axe().run(page, options=options).response
        else:
            options["runOnly"] = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
            response = page.evaluate("options => axe.run(options)", options)
        for violation in response["violations"]:
            reported += [(scheme, violation["id"], [node["target"] for node in violation["nodes"]])]
    return reported


def authorization(client: Registered, redirect_uri: str, **parameters: str) -> str:
    """Return the path and query of an authorization request with PKCE."""
    return "/oauth2/authorize?" + urlencode(authorization_parameters(client, redirect_uri=redirect_uri, **parameters))


def redeem_latest_code(site: Site, client: Registered, application: Application, redirect_uri: str) -> dict[str, Any]:
    """Redeem the code that arrived last, and return the claims of the ID token."""
    answer = application.answers[-1]
    assert set(answer) == {"code", "state", "iss"}, answer
    assert (answer["state"], answer["iss"]) == ("af0ifjsldkj", site.settings.issuer)
    site.secrets.add(answer["code"])
    browser = Browser(site)
    tokens = browser.redeem(client, answer["code"], redirect_uri=redirect_uri)
    browser.close()
    assert tokens.status == 200, tokens.body
    claims: dict[str, Any] = jwt.decode(tokens.json["id_token"], options={"verify_signature": False})
    return claims
