"""Neither the log nor the tables contain usable tokens, codes or secrets."""

import base64
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest

from tests import conftest
from tests.support.browser import VERIFIER, Browser, basic
from tests.support.leaks import all_secrets, find_leaks
from tests.support.site import PASSWORD, Registered, Site, dump_tables, tables


@pytest.mark.spec("RFC 6749 §10.3 a", "RFC 6749 §10.4 a", "RFC 9700 §4.9.3 c", "OpenID Connect Core §16.4")
@pytest.mark.last
def test_no_secret_was_logged_in_the_whole_run(site: Site) -> None:
    text = "\n".join(conftest.LOGGED)
    assert not find_leaks(text, all_secrets(conftest.SECRETS))


@pytest.mark.last
def test_search_of_the_log_finds_secrets(site: Site, browser: Browser) -> None:
    site.user("alice")
    client = site.client()
    tokens = browser.tokens(client)
    secrets = all_secrets(site.secrets)
    used_secrets = {PASSWORD, VERIFIER, client.secret or "", *browser.cookies.values()}
    used_secrets |= {tokens["access_token"], tokens["refresh_token"], tokens["id_token"]}
    assert used_secrets <= secrets
    assert any("/oauth2/token" in line for line in conftest.LOGGED)
    text = "\n".join(conftest.LOGGED[-20:])
    for secret in used_secrets:
        for line in (secret, f"Cookie: a={secret}; b", f'{{"detail": "{quote_plus(secret)}"}}'):
            assert {leak.strip() for leak in find_leaks(f"{text}{line}\n{text}", secrets)} == {secret}


# ---- the tables

CREDENTIALS: dict[str, Any] = {"username": "alice", "password": PASSWORD}


class Flow:
    """A complete flow that fills every table, and the credentials that it leaves valid."""

    def __init__(self, site: Site, browser: Browser):
        self.site, self.browser = site, browser
        self.user = site.user("alice", claims={"email": "alice@example.com"})
        self.client = site.client(direct_sign_in=True)
        self.public = site.client(public=True, client_name="Phone", redirect_uris=["com.example.phone:/cb"])
        first = browser.tokens(self.client, scope="openid offline_access", nonce="n-0S6", decision="allow_always")
        self.tokens: dict[str, Any] = browser.refresh(self.client, first["refresh_token"]).json
        self.carried = browser.authorize(self.public, prompt="login")
        assert "request_uri" not in (self.carried.form.action or "")
        self.stored = browser.sign_in(self.carried)
        assert "request_uri" in (self.stored.form.action or "")
        self.code = browser.code(self.client)
        site.secrets.update([VERIFIER, PASSWORD])


@pytest.fixture
def flow(site: Site, browser: Browser) -> Iterator[Flow]:
    site.secrets.clear()
    flow = Flow(site, browser)
    secrets = set(site.secrets)
    conftest.SECRETS.update(secrets)
    yield flow
    # Strings that a test tries as cookies are no secrets.
    site.secrets.clear()
    site.secrets.update(secrets)


def stored_strings() -> set[str]:
    """Return every string in the tables, including keys of maps and members of sets."""
    texts: set[str] = set()

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            for name, member in value.items():
                collect(name)
                collect(member)
        elif isinstance(value, list):
            for member in value:
                collect(member)
        else:
            texts.add(value.decode("latin-1") if isinstance(value, bytes) else str(value))

    for table in tables().values():
        for item in table.all_items():
            collect(item.to_json())
    return texts


@pytest.mark.spec("RFC 6749 §10.3 a", "RFC 6749 §10.4 a", "RFC 9700 §4.9.3 c", "OpenID Connect Core §16.4")
def test_dump_of_all_tables_contains_no_secret(flow: Flow) -> None:
    text = dump_tables()
    filled_tables = {name.rpartition("-")[2] for name, table in tables().items() if list(table.all_items())}
    assert {"grants", "sessions", "requests", "users", "clients", "consents", "identifiers", "keys"} <= filled_tables
    assert {"attempts", "events"} <= filled_tables
    secrets = all_secrets(flow.site.secrets)
    assert {flow.code, flow.tokens["refresh_token"], flow.client.secret, *flow.browser.cookies.values()} <= secrets
    assert not find_leaks(text, secrets)
    assert "PRIVATE KEY" not in text
    # The search finds secrets.
    assert find_leaks(text + flow.code, secrets) == {flow.code}


def test_no_string_in_the_tables_is_accepted_as_a_credential(flow: Flow, browsers: Callable[..., Browser]) -> None:
    """Each is tried as a code, token, cookie, handle, tag and client secret, with and without prefixes."""
    browser, attacker = flow.browser, browsers()
    before = dump_tables()
    # Shorter strings are no secrets: names of fields, and numbers.
    candidates = sorted(text for text in stored_strings() if len(text) >= 16 and text.isascii() and text.isprintable())
    assert len(candidates) > 20
    for text in candidates:
        for prefix in ("", "code_", "rt_"):
            _assert_rejected(flow, attacker, prefix + text)
        for prefix in ("", "sid_"):
            attacker.cookies = {"signet-session": prefix + text, "signet-browser": browser.cookies["signet-browser"]}
            assert attacker.authorize(flow.client, prompt="none").answer["error"] == "login_required", text
        for prefix in ("", "req_"):
            attacker.cookies = dict(browser.cookies)
            assert attacker.get("/oauth2/authorize", request_uri=prefix + text).status == 400, text
            form = flow.stored.form.fields | {"decision": "allow_once", "tag": text}
            path = f"/oauth2/code?{urlencode({'request_uri': prefix + text})}"
            assert attacker.follow(attacker.post(path, form)).status == 400, text
        # Form tags and browser cookies cannot be derived from the tables.
        attacker.cookies = dict(browser.cookies)
        assert "out of date" in attacker.submit(flow.stored, decision="allow_once", tag=text).body, text
        assert "out of date" in attacker.submit(flow.carried, **CREDENTIALS, tag=text).body, text
        for prefix in ("", "br_"):
            attacker.cookies = {**browser.cookies, "signet-browser": prefix + text}
            assert "cookies_blocked" in attacker.submit(flow.stored, decision="allow_once").body, text
            assert "cookies_blocked" in attacker.submit(flow.carried, **CREDENTIALS).body, text
        for prefix in ("", "sid_"):
            attacker.cookies = {**browser.cookies, "signet-session": prefix + text}
            assert "signed out" in attacker.submit(flow.stored, decision="allow_once").body, text
        attacker.cookies = {}
        assert attacker.userinfo(text).status == 401, text
        assert attacker.post("/oauth2/token", {"grant_type": "x"}, basic(flow.client.id, text)).status == 401, text
    assert dump_tables() == before
    assert browser.redeem(flow.client, flow.code).status == 200
    assert browser.refresh(flow.client, flow.tokens["refresh_token"]).status == 200
    assert browser.submit(flow.stored, decision="allow_once").code


@pytest.mark.spec("OpenID Connect Core §8.1")
@pytest.mark.parametrize("path", ["/oauth2/authorize", "/oauth2/code"])
def test_codes_and_tokens_of_a_pairwise_client_identify_neither_the_user_nor_the_session(
    site: Site, browser: Browser, path: str
) -> None:
    """Also with HTTP Basic sign-in, whose session is not stored."""
    user = site.user("alice")
    client = site.client(subject_type="pairwise", trusted=True, direct_sign_in=True)
    headers = basic("alice", PASSWORD) if path == "/oauth2/code" else {}
    page = browser.authorize(client, path, headers=headers)
    code = (page if headers else browser.sign_in(page)).code
    tokens = browser.redeem(client, code).json
    refreshed = browser.refresh(client, tokens["refresh_token"]).json
    (grant,) = site.server.store.grants.scan()
    texts = [code, *(each[name] for each in (tokens, refreshed) for name in ("access_token", "refresh_token"))]
    for text in texts:
        parts = [
            base64.urlsafe_b64decode(f"{part}==") for part in text.removeprefix("code_").removeprefix("rt_").split(".")
        ]
        decoded = b" ".join(parts)
        assert grant.grant_id.encode() in decoded, "the search finds ids"
        for identity in (user.sub, *grant.session_id.split(".")):
            assert identity.encode() not in decoded


def test_no_string_of_a_user_record_is_accepted_as_the_password(flow: Flow, browsers: Callable[..., Browser]) -> None:
    (user,) = flow.site.server.store.users.scan()
    for text in (user.password_hash, user.password_hash.rpartition("$")[2], user.sub, user.username):
        attacker = browsers()
        answer = attacker.authorize(flow.client, "/oauth2/code", headers=basic("alice", text))
        assert answer.status == 401
        assert attacker.sign_in(attacker.authorize(flow.client), password=text).status == 400
        flow.site.clock.advance(3600)  # so that it is not throttled


def _assert_rejected(flow: Flow, attacker: Browser, text: str) -> None:
    client: Registered = flow.client
    answers = [attacker.redeem(client, text), attacker.refresh(client, text)]
    for answer in answers:
        assert answer.status == 400, text
        assert answer.json["error"] in ("invalid_grant", "invalid_request"), text
    revoked = attacker.post("/oauth2/revoke", {"token": text}, basic(client.id, client.secret or ""))
    assert revoked.status in (200, 400), text
