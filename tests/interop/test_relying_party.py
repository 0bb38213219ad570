"""openid-client (Node.js) as a relying party that verifies every signature, from sign-in to logout."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.support.browser import Browser
from tests.support.site import Registered, Site

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent / "relying_party"
CALLBACK = "https://client.example.com/cb"
GOODBYE = "https://client.example.com/goodbye"


class RelyingParty:
    """The Node program; it reads and writes lines of JSON."""

    def __init__(self, node: str, task: dict[str, Any]):
        self._process = subprocess.Popen(
            [node, "sign_in.mjs"],
            cwd=FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"]},
        )
        self.send(task)

    def send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self._process.stdout
        assert self._process.stderr
        line = self._process.stdout.readline()
        assert line, self._process.stderr.read()
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream:
                stream.close()
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def node() -> str:
    """The path of Node. `npm install --prefix tests/interop/relying_party` installs the package."""
    path = shutil.which("node")
    if path is None:
        pytest.skip("Node is not installed.")
    if not (FOLDER / "node_modules" / "openid-client").exists():
        pytest.skip(
            "openid-client is not installed: npm install --no-package-lock --prefix tests/interop/relying_party"
        )
    return path


@pytest.fixture
def parties(node: str) -> Iterator[list[RelyingParty]]:
    started: list[RelyingParty] = []
    yield started
    for party in started:
        party.close()


# kind -> options of the registration, and of the authorization request
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "code": ({}, {}),
    "a public client": ({"public": True}, {}),
    "ES256": ({"id_token_signed_response_alg": "ES256"}, {}),
    "PS256": ({"id_token_signed_response_alg": "PS256"}, {}),
    "EdDSA": ({"id_token_signed_response_alg": "EdDSA"}, {}),
    "UserInfo as JWT": ({"userinfo_signed_response_alg": "RS256"}, {}),
    "pairwise": ({"subject_type": "pairwise"}, {}),
    "form_post": ({}, {"response_mode": "form_post"}),
    "code id_token": ({"response_types": ("code", "code id_token")}, {"response_type": "code id_token"}),
    "code id_token by form_post": (
        {"response_types": ("code", "code id_token")},
        {"response_type": "code id_token", "response_mode": "form_post"},
    ),
    "client_credentials too": (
        {
            "grant_types": ("authorization_code", "refresh_token", "client_credentials"),
            "scope": "openid profile photos",
        },
        {"client_credentials": "photos"},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_openid_client_signs_in_refreshes_introspects_and_logs_out(
    site: Site, browser: Browser, node: str, parties: list[RelyingParty], kind: str
) -> None:
    registration, options = KINDS[kind]
    user = site.user("alice", claims={"name": "Alice Liddell"})
    client = site.client(**({"post_logout_redirect_uris": (GOODBYE,), "redirect_uris": [CALLBACK]} | registration))
    metadata = {name: value for name, value in registration.items() if name.endswith("_alg")}
    party = RelyingParty(
        node,
        {
            "issuer": site.settings.issuer,
            "client_id": client.id,
            "client_secret": client.secret,
            "redirect_uri": CALLBACK,
            "post_logout_redirect_uri": GOODBYE,
            "scope": "openid profile",
            "metadata": metadata,
        }
        | options,
    )
    parties.append(party)
    party.send(_complete_authorization(site, browser, client, party.receive()["open"]))
    result = party.receive()
    assert result["userinfo"]["sub"] == result["claims"]["sub"] == result["refreshed"]["sub"]
    assert (result["claims"]["sub"] == user.sub) is (kind != "pairwise")
    assert result["userinfo"]["name"] == "Alice Liddell"
    if client.secret:
        assert result["introspection"]["active"] is True
    if "client_credentials" in options:
        assert result["client_credentials"]["scope"] == options["client_credentials"]

    hint = parse_qs(urlsplit(result["logout"]).query)["id_token_hint"]
    site.secrets.update(hint)
    goodbye = browser.request("GET", result["logout"])
    assert goodbye.location == f"{GOODBYE}?state={result['state']}"
    party.send({})
    afterwards = party.receive()["afterwards"]
    assert afterwards == ({"active": False} if client.secret else None)


def _complete_authorization(site: Site, browser: Browser, client: Registered, url: str) -> dict[str, str]:
    """Sign in and allow access; return what the browser brings back to the application."""
    page = browser.sign_in(browser.request("GET", url))
    answer = browser.submit(page, decision="allow_once")
    if answer.status == 200:  # a form that the page sends to the application
        assert answer.form.action == CALLBACK
        site.secrets.update(answer.form.fields.values())
        return {"url": CALLBACK, "body": urlencode(answer.form.fields)}
    site.secrets.update(_secrets_in(answer.location))
    return {"url": answer.location}


def _secrets_in(url: str) -> list[str]:
    """Return the code and the ID token in a redirect."""
    parts = urlsplit(url)
    return [
        values[0]
        for name, values in (parse_qs(parts.query) | parse_qs(parts.fragment)).items()
        if name in ("code", "id_token")
    ]
