"""The quick starts under docs/quickstarts: each is registered and started as its README says, and then used."""

import html
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from playwright.sync_api import expect

from infra.local.state import CHECKOUT
from tests.interop.programs import NODE_FOLDER, is_listening, not_installed
from tests.support.browser import Answer, Browser
from tests.support.chromium import Window
from tests.support.operator import RunCommand, output_json
from tests.support.ports import free_port
from tests.support.site import Registered, Site

pytestmark = [pytest.mark.slow, pytest.mark.programs]

QUICKSTARTS = CHECKOUT / "docs" / "quickstarts"
WEB_APPLICATIONS = ["flask_authlib", "express_openid_client"]
API = "https://api.example.com/photos"
NAME = "Alice <b>Liddell</b>"
MAX_LINES = 40


def folders() -> list[Path]:
    return sorted(readme.parent for readme in QUICKSTARTS.glob("*/README.md"))


def dependencies(folder: Path) -> dict[str, str]:
    """Return the npm packages that a folder needs, with their versions."""
    file = folder / "package.json"
    versions: dict[str, str] = json.loads(file.read_text("utf-8"))["dependencies"] if file.exists() else {}
    return versions


class Quickstart:
    """A quick start on a free port: a copy of its folder, registered and started with the commands of its README."""

    def __init__(self, name: str, folder: Path, site: Site, run_command: RunCommand):
        self.issuer = site.settings.issuer
        self.clients: dict[str, Registered] = {}
        self._site, self._run_command, self._folder = site, run_command, folder
        self._process: subprocess.Popen[bytes] | None = None
        source, copy = QUICKSTARTS / name, folder / "docs" / "quickstarts" / name
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("node_modules", ".venv", "__pycache__"))
        if dependencies(source):
            (copy / "node_modules").symlink_to(NODE_FOLDER / "node_modules")
        for file in copy.glob("*.*"):
            file.write_text(file.read_text("utf-8").replace("http://localhost:8000", self.issuer), "utf-8")
        self._port = free_port()
        text = (copy / "README.md").read_text("utf-8")
        (port,) = set(re.findall(r"http://127\.0\.0\.1:(808[1-9])/", text))
        self._commands = commands(re.sub(rf"\b{port}\b", str(self._port), text))
        self.url = f"http://127.0.0.1:{self._port}"

    def register(self) -> None:
        """Run the commands of the README that register clients and resources."""
        for program, *arguments in self._commands:
            if program == ".venv/bin/signet":
                registration = output_json(self._run_command(*arguments, "--json"))
                if arguments[0] == "resource":
                    continue
                client = self._site.server.store.clients.get(registration["client_id"])
                assert client
                self.clients[client.client_id] = Registered(client, registration.get("client_secret"))
                self._site.secrets.update(filter(None, [registration.get("client_secret")]))

    def start(self) -> None:
        """Run the command of the README that starts the application, with the variables that it exports before."""
        environ = {"PATH": os.environ["PATH"], "ISSUER": self.issuer, "PORT": str(self._port)}
        for words in self._commands:
            if words[0] == "export":
                name, _, value = words[1].partition("=")
                placeholder = value.startswith("replace-with-the-secret-from")
                environ[name] = str(next(iter(self.clients.values())).secret) if placeholder else value
        (command,) = (words for words in self._commands if _starts_server(words))
        program = re.sub(r"^.*\.venv/bin", str(Path(sys.executable).parent), command[0])
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [program, *command[1:]], cwd=self._folder, env=environ, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + 60
        while not is_listening(self._port):
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    @property
    def _log(self) -> Path:
        return self._folder / "log"


def _starts_server(words: list[str]) -> bool:
    return words[0].endswith("/flask") or words[0] == "node" or words[:3] == ["python3", "-m", "http.server"]


def commands(text: str) -> list[list[str]]:
    """Return the commands in the shell blocks of a document, each as its words."""
    blocks = re.findall(r"^( *```sh\n.*?)```", text, re.DOTALL | re.MULTILINE)
    lines = "\n".join(textwrap.dedent(block).partition("\n")[2] for block in blocks).replace("\\\n", " ")
    return [shlex.split(line) for line in lines.splitlines() if line.strip()]


@pytest.fixture
def start(site: Site, run_command: RunCommand, tmp_path: Path) -> Iterator[Callable[[str], Quickstart]]:
    """Register and start a quick start."""
    started: list[Quickstart] = []

    def start(name: str) -> Quickstart:
        missing = [
            package
            for package in dependencies(QUICKSTARTS / name)
            if not (NODE_FOLDER / "node_modules" / package).exists()
        ]
        if missing:
            pytest.skip(not_installed(f"The npm package {missing[0]}"))
        if name == "express_openid_client" and shutil.which("node") is None:
            pytest.skip("Node.js is not installed.")
        quickstart = Quickstart(name, tmp_path, site, run_command)
        started.append(quickstart)
        quickstart.register()
        quickstart.start()
        return quickstart

    yield start
    for quickstart in started:
        quickstart.stop()


class Application:
    """A browser session at a web application, with cookies; redirects are not followed."""

    def __init__(self, url: str):
        self.url = url
        self.session = requests.Session()

    def get(self, path: str) -> requests.Response:
        return self.session.get(self.url + path, allow_redirects=False, timeout=30)

    def post(self, path: str) -> requests.Response:
        return self.session.post(self.url + path, allow_redirects=False, timeout=30)

    @property
    def text(self) -> str:
        """Return the HTML of the home page."""
        answer = self.get("/")
        assert answer.status_code == 200
        return answer.text


@pytest.fixture
def visit() -> Iterator[Callable[[Quickstart], Application]]:
    """Open an application in a new browser."""
    opened: list[Application] = []

    def visit(quickstart: Quickstart) -> Application:
        opened.append(Application(quickstart.url))
        return opened[-1]

    yield visit
    for application in opened:
        application.session.close()


def decide(site: Site, browser: Browser, application: Application, decision: str = "allow_once") -> str:
    """Sign in and answer the consent page; return the redirect URI with the authorization response."""
    page = browser.request("GET", application.get("/login").headers["Location"])
    answer = browser.submit(browser.sign_in(page), decision=decision)
    return answer.location


# ---- web applications


@pytest.mark.parametrize("name", WEB_APPLICATIONS)
def test_web_application_signs_a_user_in_and_out(
    site: Site,
    browser: Browser,
    start: Callable[[str], Quickstart],
    visit: Callable[[Quickstart], Application],
    name: str,
) -> None:
    site.user("alice", claims={"name": NAME})
    application = visit(start(name))
    assert "Sign in" in application.text

    request = application.get("/login").headers["Location"]
    assert request.startswith(f"{site.settings.issuer}/oauth2/authorize?")
    parameters = parse_qs(urlsplit(request).query)
    assert parameters["code_challenge_method"] == ["S256"]
    assert all(len(parameters[each][0]) >= 20 for each in ("state", "nonce", "code_challenge"))

    location = decide(site, browser, application)
    assert location.startswith(f"{application.url}/callback?")
    answer = application.session.get(location, allow_redirects=False, timeout=30)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert f"Signed in as {NAME}" in html.unescape(application.text)
    assert "<b>" not in application.text, "the name is escaped"

    logout_url = application.post("/logout").headers["Location"]
    assert logout_url.startswith(f"{site.settings.issuer}/oauth2/logout?")
    site.secrets.update(parse_qs(urlsplit(logout_url).query)["id_token_hint"])
    assert browser.request("GET", logout_url).location.partition("?")[0] == f"{application.url}/"
    assert "Sign in" in application.text
    page = browser.request("GET", application.get("/login").headers["Location"])
    assert "password" in page.form.fields, "the session at the authorization server has ended too"


@pytest.mark.parametrize("name", WEB_APPLICATIONS)
def test_web_application_rejects_an_unsolicited_authorization_response(
    site: Site,
    browser: Browser,
    start: Callable[[str], Quickstart],
    visit: Callable[[Quickstart], Application],
    name: str,
) -> None:
    site.user("alice")
    quickstart = start(name)
    application, victim = visit(quickstart), visit(quickstart)
    location = decide(site, browser, application)
    path = location.removeprefix(application.url)
    assert victim.get(path).status_code in (302, 400), "this browser did not start the sign-in"
    assert "Sign in" in victim.text
    victim.get("/login")
    assert victim.get(path).status_code == 400, "the state belongs to another browser"
    assert "Sign in" in victim.text
    state = parse_qs(urlsplit(location).query)["state"][0]
    assert application.get(path.replace(state, "x" * len(state))).status_code == 400
    assert "Sign in" in application.text
    assert application.get(path).status_code == 302, "the code has not been used"
    assert "Signed in as" in application.text


@pytest.mark.parametrize("name", WEB_APPLICATIONS)
def test_web_application_reports_that_the_user_has_denied_access(
    site: Site,
    browser: Browser,
    start: Callable[[str], Quickstart],
    visit: Callable[[Quickstart], Application],
    name: str,
) -> None:
    site.user("alice")
    application = visit(start(name))
    location = decide(site, browser, application, "deny")
    assert "error=access_denied" in location
    answer = application.get(location.removeprefix(application.url))
    assert answer.status_code == 400
    assert "You are not signed in" in answer.text
    assert "Sign in" in application.text


@pytest.mark.parametrize("name", WEB_APPLICATIONS)
def test_web_application_without_a_session_redirects_to_sign_out_at_the_server(
    site: Site,
    browser: Browser,
    start: Callable[[str], Quickstart],
    visit: Callable[[Quickstart], Application],
    name: str,
) -> None:
    application = visit(start(name))
    logout_url = application.post("/logout").headers["Location"]
    assert browser.request("GET", logout_url).location.partition("?")[0] == f"{application.url}/"


# ---- the single-page application


@pytest.mark.browser
def test_single_page_application_signs_a_user_in_and_out(
    site: Site, window: Window, start: Callable[[str], Quickstart]
) -> None:
    site.user("alice", claims={"name": NAME})
    home = start("spa_oidc_client_ts").url + "/"
    page = window.page
    page.goto(home)
    window.press("Sign in")
    window.sign_in()
    window.press("Allow")
    user = page.locator("#user")
    expect(user).to_have_text(f"Signed in as {NAME}")
    expect(page).to_have_url(home)
    expect(page.get_by_role("button", name="Sign in")).to_be_hidden()
    tokens: dict[str, str] = page.evaluate("() => JSON.parse(Object.values(sessionStorage)[0])")
    site.secrets.update([tokens["access_token"], tokens["id_token"]])
    assert "refresh_token" not in tokens
    page.reload()
    expect(user).to_have_text(f"Signed in as {NAME}")

    window.press("Sign out")
    page.wait_for_url(home)
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    expect(user).to_be_empty()
    assert page.evaluate("() => sessionStorage.length + localStorage.length") == 0
    window.press("Sign in")
    assert window.heading() == "Sign in", "the session at the authorization server has ended too"


@pytest.mark.browser
def test_single_page_application_reports_that_the_user_has_denied_access(
    site: Site, window: Window, start: Callable[[str], Quickstart]
) -> None:
    site.user("alice")
    home = start("spa_oidc_client_ts").url + "/"
    window.page.goto(home)
    window.press("Sign in")
    window.sign_in()
    window.press("Deny")
    expect(window.page.locator("#user")).to_have_text("You are not signed in.")
    expect(window.page).to_have_url(home)
    expect(window.page.get_by_role("button", name="Sign in")).to_be_visible()


# ---- the API


def call(quickstart: Quickstart, authorization: str | None) -> tuple[int, str | None]:
    """Call the API; return the status and the challenge."""
    headers = {"Authorization": authorization} if authorization is not None else {}
    answer = requests.get(f"{quickstart.url}/photos", headers=headers, timeout=30)
    return answer.status_code, answer.headers.get("WWW-Authenticate")


def client_credentials(browser: Browser, client: Registered, **parameters: Any) -> str:
    answer: Answer = browser.token(client, grant_type="client_credentials", **parameters)
    assert answer.status == 200, answer.body
    token: str = answer.json["access_token"]
    return token


def test_api_accepts_only_valid_access_tokens_for_itself(
    site: Site, browser: Browser, start: Callable[[str], Quickstart]
) -> None:
    quickstart = start("api_access_tokens")
    job = quickstart.clients["photo-job"]
    good = client_credentials(browser, job, scope="photos.read", resource=API)
    assert call(quickstart, f"Bearer {good}") == (200, None)
    assert call(quickstart, f"bearer {good}") == (200, None)

    for authorization in (None, "", "Basic cGhvdG8tam9iOng=", good):
        assert call(quickstart, authorization) == (401, "Bearer"), authorization

    site.clock.advance(-3600)
    expired = client_credentials(browser, job, scope="photos.read", resource=API)
    site.clock.advance(3600)
    head, payload, signature = good.split(".")
    claims: dict[str, Any] = {
        "iss": site.settings.issuer,
        "sub": "alice",
        "aud": API,
        "exp": site.clock.time + 600,
        "iat": site.clock.time,
        "jti": "1",
        "client_id": "photo-job",
        "scope": "photos.read",
    }
    sign = site.server.keys.sign
    assert call(quickstart, f"Bearer {sign(claims, 'at+jwt')}") == (200, None), (
        "the other tokens differ from this one in one way"
    )
    without_expiry = {name: value for name, value in claims.items() if name != "exp"}
    bad = {
        "expired": expired,
        "for another audience": client_credentials(browser, job, scope="photos.read"),
        "an ID token": sign(claims, "JWT"),
        "of another issuer": sign(claims | {"iss": "https://op.example.com"}, "at+jwt"),
        "without expiry": sign(without_expiry, "at+jwt"),
        "with a wrong signature": f"{head}.{payload}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}",
        "without a signature": f"{head}.{payload}.",
        "not a JWT": "x",
        "empty": "",
    }
    for name, token in bad.items():
        assert call(quickstart, f"Bearer {token}") == (401, 'Bearer error="invalid_token"'), name

    other = site.client(grant_types=("client_credentials",), response_types=(), redirect_uris=(), scope="photos.write")
    token = client_credentials(browser, other, scope="photos.write", resource=API)
    assert call(quickstart, f"Bearer {token}") == (403, 'Bearer error="insufficient_scope", scope="photos.read"')


def test_api_accepts_a_token_that_a_user_has_granted(
    site: Site, browser: Browser, start: Callable[[str], Quickstart]
) -> None:
    quickstart = start("api_access_tokens")
    user = site.user("alice")
    client = site.client(scope="openid photos.read")
    token = browser.tokens(client, scope="openid photos.read", resource=API)["access_token"]
    answer = requests.get(f"{quickstart.url}/photos", headers={"Authorization": f"Bearer {token}"}, timeout=30)
    assert answer.json()["owner"] == user.sub


# ---- all of them


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: folder.name)
def test_quick_start_has_at_most_40_lines(folder: Path) -> None:
    sources = [file for file in folder.iterdir() if file.suffix in (".py", ".mjs", ".js", ".html")]
    assert 0 < sum(len(file.read_text("utf-8").splitlines()) for file in sources) <= MAX_LINES


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: folder.name)
def test_quick_start_pins_the_packages_that_the_tests_install(folder: Path) -> None:
    assert dependencies(folder).items() <= dependencies(NODE_FOLDER).items()


def test_index_lists_every_quick_start() -> None:
    index = (QUICKSTARTS / "README.md").read_text("utf-8")
    assert re.findall(r"\]\((\w+)/README\.md\)", index) == [
        *WEB_APPLICATIONS,
        "spa_oidc_client_ts",
        "api_access_tokens",
    ]
    assert {folder.name for folder in folders()} == set(re.findall(r"\]\((\w+)/README\.md\)", index))


@pytest.mark.parametrize("name", [folder.name for folder in folders()])
def test_readme_calls_no_program_that_make_run_does_not_install(name: str) -> None:
    """`.venv` of the checkout has the command `signet`; a quick start brings its own libraries."""
    folder = f"docs/quickstarts/{name}"
    steps = commands((QUICKSTARTS / name / "README.md").read_text("utf-8"))
    assert {words[0] for words in steps if words[0].startswith(".venv/")} == {".venv/bin/signet"}
    if any(words[0].startswith(f"{folder}/.venv/") for words in steps):
        create = steps.index(["python3", "-m", "venv", f"{folder}/.venv"])
        install = steps[create + 1]
        assert install[:2] == [f"{folder}/.venv/bin/pip", "install"]
        program = (QUICKSTARTS / name / "app.py").read_text("utf-8")
        imported = set(re.findall(r"^(?:import|from) (\w+)", program, re.MULTILINE))
        libraries = {"flask": "Flask", "authlib": "Authlib", "jwt": "PyJWT[crypto]", "requests": "requests"}
        assert {libraries[module] for module in imported & {*libraries}} <= {*install[2:]}
