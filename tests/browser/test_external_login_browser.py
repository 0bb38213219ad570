"""The operator's login application in a real browser: the example in docs/login, and one without JavaScript."""

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

from chalicelib.protocol.authorization_details import to_text
from tests.support.authorization_details import PAYMENT, as_json, register_asking_client
from tests.support.chromium import Application, Window, redeem_latest_code
from tests.support.site import PASSWORD, Registered, Site

pytestmark = pytest.mark.browser
EXAMPLE = Path(__file__).parents[2] / "docs" / "login" / "index.html"
WRONG = "The username or the password is not right."


class LoginApplication:
    """A website at another port. `render(query)` returns its page, by default the example's."""

    def __init__(self) -> None:
        self.issuer = ""
        self.render: Callable[[dict[str, str]], str] = self.example
        application = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
                body = application.render(query).encode()
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
        """Return a page without JavaScript: the login application gets the details of the request on its server."""
        handle = query["request_uri"]
        details_request = urllib.request.Request(
            f"{self.issuer}/oauth2/code?{urlencode({'request_uri': handle})}", headers={"Accept": "application/json"}
        )
        with urllib.request.urlopen(details_request, timeout=10) as response:
            details = json.load(response)
        problem = WRONG if query.get("error") == "wrong_credentials" else ""
        hidden = f'<input type="hidden" name="request_uri" value="{html.escape(handle)}">'
        fields = (
            '<label>Username <input name="username" autocomplete="username"></label>'
            '<label>Password <input name="password" type="password" autocomplete="current-password"></label>'
            "<button>Sign in</button>"
        )
        title = "Sign in"
        if details["step"] == "consent":
            title = "Allow access?"
            scopes = "".join(f"<li>{html.escape(scope['description'])}</li>" for scope in details["scopes"])
            remember = '<label><input type="checkbox" name="remember" value="on">Remember my choice</label>'
            fields = f"<ul>{scopes}</ul><p>{html.escape(details['host'])}</p>" + "".join(
                (
                    remember if "allow_always" in details["decisions"] else "",
                    '<button name="decision" value="allow">Allow</button>',
                    '<button name="decision" value="deny">Deny</button>',
                )
            )
        return (
            f'<!doctype html><title>{title}</title><link rel="icon" href="data:,"><h1>{title}</h1>'
            f'<p role="alert">{problem}</p><p>{html.escape(details["client"]["client_name"])}</p>'
            f'<form method="post" action="{html.escape(details["action"])}">{hidden}{fields}</form>'
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
    """A server with this login application."""
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
    ids=["the example", "pages from a server", "without JavaScript"],
)
def test_sign_in_and_consent_in_the_login_application(
    site: Site,
    login: LoginApplication,
    client: Registered,
    application: Application,
    windows: Callable[..., Window],
    host: str,
    kind: str,
    script: bool,
) -> None:
    login.render = getattr(login, kind)
    window = windows(java_script_enabled=script)
    redirect_uri = application.url()
    window.authorize(client, redirect_uri, scope="openid email")
    page = window.page
    assert page.url.startswith(f"{login.origin(host)}/?request_uri=req_")
    page.get_by_text("Photo Print").wait_for()
    window.sign_in(password="not this one")
    page.get_by_text(WRONG).wait_for()
    assert "alice" not in page.url
    assert window.cookies == {"signet-browser"}
    window.sign_in()
    page.get_by_text("Recognize you (your user ID here)").wait_for()
    assert window.heading() == "Allow access?"
    assert page.get_by_text(f"127.0.0.1:{application.port}").count() == 1
    assert page.get_by_role("textbox").count() == 0
    assert window.cookies == {"signet-browser", "signet-session"}
    assert application.answers == []
    window.allow_and_remember()
    assert window.heading() == "Welcome back"
    redeem_latest_code(site, client, application, redirect_uri)
    window.authorize(client, redirect_uri, scope="openid email")
    assert window.heading() == "Welcome back", "the browser is signed in"
    assert len(application.answers) == 2


@pytest.mark.parametrize("kind", ["example", "without_script"])
def test_authorization_details_are_shown_before_they_are_allowed(
    site: Site, login: LoginApplication, application: Application, window: Window, kind: str
) -> None:
    """The example shows them, and says so. An application that ignores them leaves it to the page of the server."""
    login.render = getattr(login, kind)
    client = register_asking_client(site, trusted=False, redirect_uris=[application.url()])
    window.authorize(client, application.url(), scope="openid", authorization_details=as_json(PAYMENT))
    window.page.get_by_text("Photo Print").wait_for()
    window.sign_in()
    window.page.get_by_role("button", name="Deny").wait_for()
    assert ("Merchant A" in window.page.inner_text("body")) is (kind == "example")
    window.press("Allow")
    if kind == "without_script":
        assert window.page.url.startswith(site.settings.issuer)
        assert "Merchant A" in window.text()
        assert application.answers == []
        window.press("Allow")
    assert "code" in application.answer
    site.secrets.add(application.answer["code"])
    (grant,) = site.server.store.grants.scan()
    assert grant.authorization_details == (to_text(PAYMENT),)


def test_deny_in_the_login_application(
    site: Site, client: Registered, application: Application, window: Window, login: LoginApplication
) -> None:
    window.authorize(client, application.url(), login_hint="alice")
    window.page.get_by_text("Photo Print").wait_for()
    assert window.page.get_by_label("Username").input_value() == "alice"
    window.sign_in()
    window.page.get_by_role("button", name="Deny").wait_for()
    window.press("Deny")
    assert application.answer["error"] == "access_denied"


def test_forms_of_this_server_redirect_to_the_login_application(
    site: Site, login: LoginApplication, window: Window, host: str
) -> None:
    """Chromium applies `form-action` to the redirect after a form, so the policy must allow the login application."""
    window.page.goto(f"{site.settings.issuer}/playground")
    window.press("Import photos")
    window.page.get_by_text("Photo Print").wait_for()
    window.sign_in()
    window.page.get_by_role("button", name="Deny").wait_for()
    window.page.goto(f"{site.settings.issuer}/account/browsers")
    assert window.heading() == "Where you are signed in"
    window.page.goto(f"{site.settings.issuer}/account/password")
    window.context.clear_cookies(name="signet-session")
    window.page.get_by_label("Current password").fill(PASSWORD)
    for label in ("New password", "Confirm new password"):
        window.page.get_by_label(label, exact=True).fill("another long password")
    window.press("Change password")
    window.page.locator("#sign_in").wait_for()
    assert window.page.url.startswith(f"{login.origin(host)}/?request_uri=req_"), (
        "a user whose session has ended signs in there"
    )


def test_expired_page_says_so_and_an_unknown_error_is_not_repeated(
    site: Site, client: Registered, application: Application, window: Window
) -> None:
    window.authorize(client, application.url())
    window.page.get_by_text("Photo Print").wait_for()
    window.page.goto(f"{window.page.url}&error=constructor")
    assert window.page.get_by_role("alert").text_content() == "Something went wrong. Try again."
    window.page.get_by_text("Photo Print").wait_for()  # a reload before that would abort the request for it
    site.clock.advance(site.settings.request_lifetime)
    window.expected_errors.append("status of 400 (Bad Request) [/oauth2/code]")
    window.page.reload()
    window.page.get_by_text("This request has expired or was answered before").wait_for()


@pytest.mark.spec("RFC 6749 §10.12")
def test_login_application_at_an_unlisted_origin_cannot_sign_in(
    site: Site,
    client: Registered,
    application: Application,
    window: Window,
    login: LoginApplication,
    host: str,
) -> None:
    other_host = {"localhost": "127.0.0.1", "127.0.0.1": "localhost"}[host]
    login.render = login.without_script
    window.authorize(client, application.url())
    other_url = window.page.url.replace(login.origin(host), login.origin(other_host))
    window.page.goto(other_url)
    window.expected_errors.append("status of 400 (Bad Request) [/oauth2/code]")
    window.sign_in()
    assert "wrong_site" in window.text()
    login.render = login.example
    window.expected_errors += ["blocked by CORS policy", "net::ERR_FAILED [/oauth2/code]", "[/oauth2/code]"]
    window.page.goto(other_url)
    window.page.get_by_text("This request has expired or was answered before").wait_for()
    assert window.cookies == {"signet-browser"}
    assert PASSWORD not in window.page.url
