"""The operator's own login application in a real browser: the example in docs/, and one that makes its pages itself."""

import html
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.site import PASSWORD, Registered, Site
from tests.windows import Application, Window, redeemed

pytestmark = pytest.mark.browser
EXAMPLE = Path(__file__).parent.parent / "docs" / "login" / "index.html"
WRONG = "The username or the password is not right."


class LoginApplication:
    """A website at another port; its pages come from `make(query)`, by default the example's."""

    def __init__(self) -> None:
        self.issuer = ""
        self.make: Callable[[dict[str, str]], str] = self.example
        application = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
                body = application.make(query).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def origin(self, host: str) -> str:
        return f"http://{host}:{self.port}"

    def example(self, _query: dict[str, str]) -> str:
        return EXAMPLE.read_text("utf-8").replace("https://auth.example.com", self.issuer)

    def without_script(self, query: dict[str, str]) -> str:
        """What a server does that asks itself: a page with no script."""
        handle = query["request_uri"]
        wanted = urllib.request.Request(
            f"{self.issuer}/oauth2/code?{urlencode({'request_uri': handle})}", headers={"Accept": "application/json"}
        )
        with urllib.request.urlopen(wanted, timeout=10) as answer:
            asked = json.load(answer)
        problem = WRONG if query.get("error") == "wrong_credentials" else ""
        hidden = f'<input type="hidden" name="request_uri" value="{html.escape(handle)}">'
        fields = (
            '<label>Username <input name="username" autocomplete="username"></label>'
            '<label>Password <input name="password" type="password" autocomplete="current-password"></label>'
            "<button>Sign in</button>"
        )
        title = "Sign in"
        if asked["step"] == "consent":
            title = "Allow access?"
            scopes = "".join(f"<li>{html.escape(scope['description'])}</li>" for scope in asked["scopes"])
            names = {"allow_once": "Allow once", "allow_always": "Always allow", "deny": "Deny"}
            fields = f"<ul>{scopes}</ul><p>{html.escape(asked['host'])}</p>" + "".join(
                f'<button name="decision" value="{each}">{names[each]}</button>' for each in asked["decisions"]
            )
        return (
            f'<!doctype html><title>{title}</title><link rel="icon" href="data:,"><h1>{title}</h1>'
            f'<p role="alert">{problem}</p><p>{html.escape(asked["client"]["client_name"])}</p>'
            f'<form method="post" action="{html.escape(asked["action"])}">{hidden}{fields}</form>'
        )


@pytest.fixture
def login() -> Iterator[LoginApplication]:
    application = LoginApplication()
    yield application
    application.close()


@pytest.fixture(params=["localhost", "127.0.0.1"], ids=["another site", "another port"])
def host(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def site(site_with: Callable[..., Site], login: LoginApplication, host: str) -> Site:
    """A server that has this login application."""
    site = site_with(login_url=f"{login.origin(host)}/", login_origins=(login.origin(host),), playground=True)
    login.issuer = site.settings.issuer
    site.user("alice")
    return site


@pytest.fixture
def client(site: Site, application: Application) -> Registered:
    return site.client(redirect_uris=[application.url()], scope="openid email")


@pytest.mark.parametrize(
    ("kind", "script"),
    [("example", True), ("without_script", True), ("without_script", False)],
    ids=["the example", "pages of a server", "without JavaScript"],
)
def test_sign_in_and_consent_by_the_operators_own_login_application(
    site: Site,
    login: LoginApplication,
    client: Registered,
    application: Application,
    windows: Callable[..., Window],
    host: str,
    kind: str,
    script: bool,
) -> None:
    login.make = getattr(login, kind)
    window = windows(java_script_enabled=script)
    goal = application.url()
    window.authorize(client, goal, scope="openid email")
    page = window.page
    assert page.url.startswith(f"{login.origin(host)}/?request_uri=req_")
    page.get_by_text("Photo Print").wait_for()
    window.sign_in(password="not this one")
    page.get_by_text(WRONG).wait_for()
    assert "alice" not in page.url
    assert window.cookies == {"signet-browser"}
    window.sign_in()
    page.get_by_text("Know who you are here").wait_for()
    assert window.heading() == "Allow access?"
    assert page.get_by_text(f"127.0.0.1:{application.port}").count() == 1
    assert page.get_by_role("textbox").count() == 0
    assert window.cookies == {"signet-browser", "signet-session"}
    assert application.answers == []
    window.press("Always allow")
    assert window.heading() == "Welcome back"
    redeemed(site, client, application, goal)
    window.authorize(client, goal, scope="openid email")
    assert window.heading() == "Welcome back", "and the browser is signed in"
    assert len(application.answers) == 2


def test_the_answer_no(
    site: Site, client: Registered, application: Application, window: Window, login: LoginApplication
) -> None:
    window.authorize(client, application.url(), login_hint="alice")
    window.page.get_by_text("Photo Print").wait_for()
    assert window.page.get_by_label("Username").input_value() == "alice"
    window.sign_in()
    window.page.get_by_role("button", name="Deny").wait_for()
    window.press("Deny")
    assert application.answer["error"] == "access_denied"


def test_a_form_of_our_own_leads_there_too(site: Site, login: LoginApplication, window: Window, host: str) -> None:
    """Chromium applies `form-action` to the redirect after a form: the page must name where people sign in."""
    window.page.goto(f"{site.settings.issuer}/playground")
    window.press("Import photos")
    window.page.get_by_text("Photo Print").wait_for()
    window.sign_in()
    window.page.get_by_role("button", name="Deny").wait_for()
    window.page.goto(f"{site.settings.issuer}/account/browsers")
    assert window.heading() == "Where you are signed in"
    window.page.goto(f"{site.settings.issuer}/account/password")
    window.context.clear_cookies(name="signet-session")
    window.page.get_by_label("Present password").fill(PASSWORD)
    for label in ("New password", "New password, again"):
        window.page.get_by_label(label, exact=True).fill("another long password")
    window.press("Change password")
    window.page.locator("#sign_in").wait_for()
    assert window.page.url.startswith(f"{login.origin(host)}/?request_uri=req_"), (
        "whose session has ended signs in there"
    )


def test_a_page_that_is_too_old_says_so_and_what_an_address_says_is_not_repeated(
    site: Site, client: Registered, application: Application, window: Window
) -> None:
    window.authorize(client, application.url())
    window.page.get_by_text("Photo Print").wait_for()
    window.page.goto(f"{window.page.url}&error=constructor")
    assert window.page.get_by_role("alert").text_content() == "That did not work. Please try again."
    site.clock.advance(site.settings.request_lifetime)
    window.forgiven.append("status of 400 (Bad Request) [/oauth2/code]")
    window.page.reload()
    window.page.get_by_text("This page has waited too long").wait_for()


@pytest.mark.spec("RFC 6749 §10.12")
def test_the_same_page_at_an_origin_that_is_not_listed_signs_nobody_in(
    site: Site,
    client: Registered,
    application: Application,
    window: Window,
    login: LoginApplication,
    host: str,
) -> None:
    elsewhere = {"localhost": "127.0.0.1", "127.0.0.1": "localhost"}[host]
    login.make = login.without_script
    window.authorize(client, application.url())
    there = window.page.url.replace(login.origin(host), login.origin(elsewhere))
    window.page.goto(there)
    window.forgiven.append("status of 400 (Bad Request) [/oauth2/code]")
    window.sign_in()
    assert "wrong_site" in window.text()
    login.make = login.example
    window.forgiven += ["blocked by CORS policy", "net::ERR_FAILED [/oauth2/code]", "[/oauth2/code]"]
    window.page.goto(there)
    window.page.get_by_text("This page has waited too long").wait_for()
    assert window.cookies == {"signet-browser"}
    assert PASSWORD not in window.page.url
