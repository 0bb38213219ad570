"""Nothing that opens anything is in the log or in the tables."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote_plus

import pytest

from tests import conftest
from tests.browser import VERIFIER, Browser, basic
from tests.leaks import all_secrets, leaks
from tests.site import PASSWORD, Registered, Site, dump, tables


@pytest.mark.spec("RFC 6749 §10.3 a", "RFC 6749 §10.4 a", "RFC 9700 §4.9.3 c", "OpenID Connect Core §16.4")
@pytest.mark.last
def test_nothing_secret_was_logged_in_the_whole_run(site: Site) -> None:
    text = "\n".join(conftest.LOGGED)
    assert not leaks(text, all_secrets(conftest.SECRETS))


@pytest.mark.last
def test_the_search_of_the_log_would_find_what_it_looks_for(site: Site, browser: Browser) -> None:
    site.user("alice")
    client = site.client()
    tokens = browser.tokens(client)
    secrets = all_secrets(site.secrets)
    planted = {PASSWORD, VERIFIER, client.secret or "", *browser.cookies.values()}
    planted |= {tokens["access_token"], tokens["refresh_token"], tokens["id_token"]}
    assert planted <= secrets
    assert any("/oauth2/token" in line for line in conftest.LOGGED)
    text = "\n".join(conftest.LOGGED[-20:])
    for secret in planted:
        for line in (secret, f"Cookie: a={secret}; b", f'{{"detail": "{quote_plus(secret)}"}}'):
            assert leaks(f"{text}{line}\n{text}", secrets) == {secret}


# ---- the tables


class Flow:
    """A whole flow, so that every table has something in it: all that is in use, still works."""

    def __init__(self, site: Site, browser: Browser):
        self.site, self.browser = site, browser
        self.user = site.user("alice", claims={"email": "alice@example.com"})
        self.client = site.client(direct_sign_in=True)
        self.public = site.client(public=True, client_name="Phone", redirect_uris=["com.example.phone:/cb"])
        first = browser.tokens(self.client, scope="openid offline_access", nonce="n-0S6", decision="allow_always")
        self.tokens: dict[str, Any] = browser.refresh(self.client, first["refresh_token"]).json
        self.code = browser.code(self.client)
        self.pending = browser.authorize(self.public)
        site.secrets.update([VERIFIER, PASSWORD])


@pytest.fixture
def flow(site: Site, browser: Browser) -> Iterator[Flow]:
    site.secrets.clear()
    flow = Flow(site, browser)
    secrets = set(site.secrets)
    conftest.SECRETS.update(secrets)
    yield flow
    # What a test tries out as a cookie is no secret.
    site.secrets.clear()
    site.secrets.update(secrets)


def strings() -> set[str]:
    """Every string in the tables, keys of maps and members of sets as well."""
    found: set[str] = set()

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            for name, member in value.items():
                collect(name)
                collect(member)
        elif isinstance(value, list):
            for member in value:
                collect(member)
        else:
            found.add(value.decode("latin-1") if isinstance(value, bytes) else str(value))

    for table in tables().values():
        for item in table.all_items():
            collect(item.to_json())
    return found


@pytest.mark.spec("RFC 6749 §10.3 a", "RFC 6749 §10.4 a", "RFC 9700 §4.9.3 c", "OpenID Connect Core §16.4")
def test_a_dump_of_all_tables_holds_no_secret(flow: Flow) -> None:
    text = dump()
    kinds = {name.rpartition("-")[2] for name, table in tables().items() if list(table.all_items())}
    assert {"grants", "sessions", "requests", "users", "clients", "consents", "identifiers", "keys"} <= kinds
    assert {"attempts", "events"} <= kinds
    secrets = all_secrets(flow.site.secrets)
    assert {flow.code, flow.tokens["refresh_token"], flow.client.secret, *flow.browser.cookies.values()} <= secrets
    assert not leaks(text, secrets)
    assert "PRIVATE KEY" not in text
    # It would have been found.
    assert leaks(text + flow.code, secrets) == {flow.code}


def test_no_string_in_the_tables_opens_anything(flow: Flow, browsers: Callable[..., Browser]) -> None:
    """Each is tried as a code, a token, a cookie, a handle, a secret and a password, with our prefixes and without."""
    browser, stranger = flow.browser, browsers()
    before = dump()
    # What is shorter cannot have been meant to be secret: the names of fields, and numbers.
    usable = sorted(text for text in strings() if len(text) >= 16 and text.isascii() and text.isprintable())
    assert len(usable) > 20
    for text in usable:
        for kind in ("", "code_", "rt_"):
            _refused(flow, stranger, kind + text)
        for kind in ("", "sid_"):
            stranger.cookies = {"signet-session": kind + text, "signet-browser": browser.cookies["signet-browser"]}
            assert stranger.authorize(flow.client, prompt="none").answer["error"] == "login_required", text
        for kind in ("", "req_"):
            stranger.cookies = dict(browser.cookies)
            assert stranger.get("/oauth2/authorize", request_uri=kind + text).status == 400, text
            form = {"request_uri": kind + text, "decision": "allow_once", "tag": text}
            assert stranger.post("/oauth2/code", form).status == 400, text
        # A tag of ours cannot be made from what lies in the tables, nor can a browser.
        stranger.cookies = dict(browser.cookies)
        assert stranger.submit(flow.pending, decision="allow_once", tag=text).status == 400, text
        for kind in ("", "br_"):
            stranger.cookies = {**browser.cookies, "signet-browser": kind + text}
            assert stranger.submit(flow.pending, decision="allow_once").status == 400, text
        stranger.cookies = {}
        assert stranger.userinfo(text).status == 401, text
        assert stranger.post("/oauth2/token", {"grant_type": "x"}, basic(flow.client.id, text)).status == 401, text
    assert dump() == before
    assert browser.redeem(flow.client, flow.code).status == 200
    assert browser.refresh(flow.client, flow.tokens["refresh_token"]).status == 200


def test_no_string_of_a_user_is_the_password(flow: Flow, browsers: Callable[..., Browser]) -> None:
    (user,) = flow.site.server.store.users.scan()
    for text in (user.password_hash, user.password_hash.rpartition("$")[2], user.sub, user.username):
        stranger = browsers()
        answer = stranger.authorize(flow.client, "/oauth2/code", headers=basic("alice", text))
        assert answer.status == 401
        assert stranger.sign_in(stranger.authorize(flow.client), password=text).status == 400
        flow.site.clock.advance(3600)  # nobody may try so often


def _refused(flow: Flow, stranger: Browser, text: str) -> None:
    client: Registered = flow.client
    answers = [stranger.redeem(client, text), stranger.refresh(client, text)]
    for answer in answers:
        assert answer.status == 400, text
        assert answer.json["error"] in ("invalid_grant", "invalid_request"), text
    revoked = stranger.post("/oauth2/revoke", {"token": text}, basic(client.id, client.secret or ""))
    assert revoked.status in (200, 400), text
