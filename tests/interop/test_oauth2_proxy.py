"""oauth2-proxy, a Go program with coreos/go-oidc and golang.org/x/oauth2, as the client of a web application."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import requests

from chalicelib.users import accounts
from tests.interop.programs import FOLDER, Server, installed, open_url, parameters
from tests.support.browser import Browser
from tests.support.ports import free_port
from tests.support.site import Registered, Site

pytestmark = [pytest.mark.slow, pytest.mark.programs]

EMAIL = "alice@example.com"
# Where it finds the email address: the options of the registration, and of the program.
SOURCES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "UserInfo": ({}, []),
    "ID token": ({"id_token_claims_from_scope": True}, ["--skip-claims-from-profile-url"]),
}
# The same with groups, of which one gives access.
_SCOPE = "openid profile email groups offline_access"
_OPTIONS = [f"--scope={_SCOPE}", "--allowed-group=engineering"]
GROUP_SOURCES = {
    f"groups at {source}": ({**registration, "scope": _SCOPE}, [*options, *_OPTIONS])
    for source, (registration, options) in SOURCES.items()
}


class Proxy:
    """The program, registered at a site, and its cookies in a browser."""

    def __init__(self, site: Site, registration: dict[str, Any], options: list[str], log: Path):
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        self.client: Registered = site.client(
            redirect_uris=[f"{url}/oauth2/callback"], post_logout_redirect_uris=(f"{url}/",), **registration
        )
        self._server = Server(
            [
                installed("bin/oauth2-proxy", "oauth2-proxy"),
                f"--http-address=127.0.0.1:{port}",
                f"--redirect-url={url}/oauth2/callback",
                "--provider=oidc",
                f"--oidc-issuer-url={site.settings.issuer}",
                f"--client-id={self.client.id}",
                f"--client-secret={self.client.secret}",
                "--code-challenge-method=S256",
                "--insecure-oidc-skip-nonce=false",
                "--email-domain=example.com",
                "--upstream=static://200",
                "--cookie-secret=0123456789abcdef0123456789abcdef",
                "--cookie-secure=false",
                "--cookie-refresh=1s",
                "--skip-provider-button",
                "--set-xauthrequest",
                "--pass-access-token",
                f"--whitelist-domain={urlsplit(site.settings.issuer).netloc}",
                *options,
            ],
            FOLDER,
            port,
            log,
        )
        self.url = self._server.url
        self.log = log
        self._session = requests.Session()

    def get(self, path: str) -> requests.Response:
        return self._session.get(
            path if path.startswith("http") else self.url + path, allow_redirects=False, timeout=30
        )

    def access_token(self) -> str:
        """Return the user's access token, which the program refreshes when its session is older than a second."""
        headers = self.get("/oauth2/auth").headers
        assert headers["X-Auth-Request-Email"] == EMAIL
        return str(headers["X-Auth-Request-Access-Token"])

    def close(self) -> None:
        self._session.close()
        self._server.close()


@pytest.fixture
def start(site: Site, tmp_path: Path) -> Iterator[Callable[[str], Proxy]]:
    """Return a function that starts the program."""
    started: list[Proxy] = []

    def start(source: str) -> Proxy:
        started.append(Proxy(site, *(SOURCES | GROUP_SOURCES)[source], tmp_path / "log"))
        return started[-1]

    yield start
    for proxy in started:
        proxy.close()


@pytest.mark.parametrize("source", SOURCES)
def test_oauth2_proxy_signs_in_refreshes_and_signs_out(
    site: Site, browser: Browser, start: Callable[[str], Proxy], source: str
) -> None:
    site.user("alice", claims={"email": EMAIL, "email_verified": True})
    proxy = start(source)
    path = "/reports?filter=" + "x" * 2000
    url = proxy.get(path).headers["Location"]
    assert parameters(url)["code_challenge_method"] == "S256"
    answer = proxy.get(open_url(site, browser, url).location)
    assert (answer.status_code, answer.headers.get("Location")) == (302, path), proxy.log.read_text()
    assert proxy.get(path).status_code == 200

    first = proxy.access_token()
    deadline = time.monotonic() + 15
    while (second := proxy.access_token()) == first:
        assert time.monotonic() < deadline, proxy.log.read_text()
        time.sleep(0.2)
    site.secrets.update([first, second])

    end_session = f"{site.settings.issuer}/oauth2/logout"
    back = {"client_id": proxy.client.id, "post_logout_redirect_uri": f"{proxy.url}/"}
    answer = proxy.get(f"/oauth2/sign_out?{urlencode({'rd': f'{end_session}?{urlencode(back)}'})}")
    question = browser.request("GET", answer.headers["Location"])
    assert browser.submit(question, decision="sign_out").location == f"{proxy.url}/"
    page = browser.request("GET", proxy.get(path).headers["Location"])
    assert "password" in page.form.fields, "the session at the authorization server has ended too"


@pytest.mark.parametrize("source", GROUP_SOURCES)
def test_oauth2_proxy_gives_access_to_a_group_until_the_user_leaves_it(
    site: Site, browser: Browser, start: Callable[[str], Proxy], source: str
) -> None:
    alice = site.user("alice", claims={"email": EMAIL, "email_verified": True}, groups=frozenset({"on-call"}))
    proxy, store = start(source), site.server.store
    answer = proxy.get(open_url(site, browser, proxy.get("/").headers["Location"]).location)
    assert answer.status_code == 403, "in no group that has access"
    accounts.update(store, alice, lambda user: replace(user, groups=frozenset({"on-call", "engineering"})))
    proxy.get(open_url(site, browser, proxy.get("/oauth2/start").headers["Location"]).location)
    answer = proxy.get("/oauth2/auth")
    assert (answer.status_code, answer.headers["X-Auth-Request-Groups"]) == (202, "engineering,on-call")
    site.secrets.add(answer.headers["X-Auth-Request-Access-Token"])
    accounts.update(store, site.read_user(), lambda user: replace(user, groups=frozenset({"on-call"})))
    deadline = time.monotonic() + 20
    while (answer := proxy.get("/oauth2/auth")).status_code == 202:  # it refreshes its session each second
        site.secrets.add(answer.headers["X-Auth-Request-Access-Token"])
        assert time.monotonic() < deadline, proxy.log.read_text()
        time.sleep(0.3)
    assert answer.status_code in (401, 403)
