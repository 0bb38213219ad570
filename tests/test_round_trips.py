"""Every round trip to DynamoDB is counted: adding one is a decision, made in this table."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from tests.browser import CHALLENGE, Answer, Browser, basic
from tests.site import PASSWORD, Registered, Site

Act = Callable[[], Answer]
NEW_PASSWORD = "a new password of her own"


# ---- what is asked, when all before it has happened; the client's record is warm


def as_a_stranger(site: Site, browser: Browser, client: Registered) -> Act:
    return partial(browser.authorize, client)


def with_session_and_remembered_consent(site: Site, browser: Browser, client: Registered) -> Act:
    browser.code(client, decision="allow_always")
    return partial(browser.authorize, client)


def with_a_session(site: Site, browser: Browser, client: Registered) -> Act:
    browser.code(client)
    return partial(browser.authorize, client)


def with_prompt_none(site: Site, browser: Browser, client: Registered) -> Act:
    return partial(browser.authorize, client, prompt="none")


def by_post(site: Site, browser: Browser, client: Registered) -> Act:
    form = {"response_type": "code", "client_id": client.id, "code_challenge": CHALLENGE}
    return partial(browser.post, "/oauth2/authorize", form | {"code_challenge_method": "S256"})


def what_was_posted(site: Site, browser: Browser, client: Registered) -> Act:
    return partial(browser.request, "GET", by_post(site, browser, client)().location)


def sign_in(site: Site, browser: Browser, client: Registered) -> Act:
    return partial(browser.send, browser.authorize(client), username="alice", password=PASSWORD)


def sign_in_to_a_code(site: Site, browser: Browser, client: Registered) -> Act:
    browser.code(client, decision="allow_always")
    browser.cookies.clear()
    return partial(browser.sign_in, browser.authorize(client))


def sign_in_again(site: Site, browser: Browser, client: Registered) -> Act:
    browser.code(client)
    return partial(browser.send, browser.authorize(client, prompt="login"), username="alice", password=PASSWORD)


def wrong_password(site: Site, browser: Browser, client: Registered) -> Act:
    return partial(browser.sign_in, browser.authorize(client), password="wrong password")


def unknown_user(site: Site, browser: Browser, client: Registered) -> Act:
    return partial(browser.sign_in, browser.authorize(client), username="nobody")


def decision(site: Site, browser: Browser, client: Registered, *, which: str) -> Act:
    return partial(browser.submit, browser.sign_in(browser.authorize(client)), decision=which)


def change_password(site: Site, browser: Browser, client: Registered) -> Act:
    site.secrets.add(NEW_PASSWORD)
    user = next(iter(site.server.store.users.scan()))
    site.server.store.users.put(replace(user, password_change_required=True))
    page = browser.sign_in(browser.authorize(client))
    return partial(browser.send, page, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD)


def code_by_basic(site: Site, browser: Browser, client: Registered) -> Act:
    browser.code(client, decision="allow_always")
    browser.cookies.clear()
    return partial(browser.authorize, client, "/oauth2/code", headers=basic("alice", PASSWORD))


def code_exchange(site: Site, browser: Browser, client: Registered) -> Act:
    return partial(browser.redeem, client, browser.code(client))


def forged_code(site: Site, browser: Browser, client: Registered) -> Act:
    return partial(browser.redeem, client, "code_forged")


def refresh(site: Site, browser: Browser, client: Registered) -> Act:
    return partial(browser.refresh, client, browser.tokens(client)["refresh_token"])


def refresh_again(site: Site, browser: Browser, client: Registered) -> Act:
    token = browser.tokens(client)["refresh_token"]
    browser.refresh(client, token)
    return partial(browser.refresh, client, token)


def userinfo(site: Site, browser: Browser, client: Registered) -> Act:
    return partial(browser.userinfo, browser.tokens(client)["access_token"])


def revoke(site: Site, browser: Browser, client: Registered) -> Act:
    token = browser.tokens(client)["refresh_token"]
    return partial(browser.post, "/oauth2/revoke", {"token": token}, basic(client.id, client.secret or ""))


def just(site: Site, browser: Browser, client: Registered, *, path: str) -> Act:
    return partial(browser.get, path)


# what is asked, the status of the answer, the number of calls, and which they are
TABLE: list[tuple[str, Callable[[Site, Browser, Registered], Act], int, int]] = [
    ("GET /oauth2/authorize, as a stranger: request", as_a_stranger, 200, 1),
    ("GET /oauth2/authorize, prompt=none, as a stranger", with_prompt_none, 302, 0),
    ("GET /oauth2/authorize, consent remembered: batch; birth", with_session_and_remembered_consent, 302, 2),
    ("GET /oauth2/authorize, with a session: batch; request", with_a_session, 200, 2),
    ("POST /oauth2/authorize: request", by_post, 303, 1),
    ("GET /oauth2/authorize, what was posted: request; binding", what_was_posted, 200, 2),
    ("POST /oauth2/code, sign-in: request; name, user, session, consent", sign_in, 303, 5),
    ("POST /oauth2/code, sign-in, consent remembered: the same; birth", sign_in_to_a_code, 303, 6),
    ("POST /oauth2/code, sign-in again: batch; name, user, session, consent", sign_in_again, 303, 5),
    ("POST /oauth2/code, wrong password: request; name, user", wrong_password, 400, 3),
    ("POST /oauth2/code, unknown user: request; name, user", unknown_user, 400, 3),
    ("POST /oauth2/code, allow once: batch; birth", partial(decision, which="allow_once"), 303, 2),
    ("POST /oauth2/code, always allow: batch; birth", partial(decision, which="allow_always"), 303, 2),
    ("POST /oauth2/code, deny: batch; request", partial(decision, which="deny"), 303, 2),
    ("POST /oauth2/code, new password: batch; 4 x grants, user, session, consent", change_password, 303, 8),
    ("GET /oauth2/code: name, user, session, consent; birth", code_by_basic, 302, 5),
    ("POST /oauth2/token, code: redemption", code_exchange, 200, 1),
    ("POST /oauth2/token, a forged code", forged_code, 400, 0),
    ("POST /oauth2/token, refresh token: rotation", refresh, 200, 1),
    ("POST /oauth2/token, the same refresh token again: rotation", refresh_again, 200, 1),
    ("GET /oauth2/userinfo: batch", userinfo, 200, 1),
    ("POST /oauth2/revoke: revocation", revoke, 200, 1),
    ("GET /oauth2/jwks", partial(just, path="/oauth2/jwks"), 200, 0),
    ("GET /.well-known/openid-configuration", partial(just, path="/.well-known/openid-configuration"), 200, 0),
    (
        "GET /.well-known/oauth-authorization-server",
        partial(just, path="/.well-known/oauth-authorization-server"),
        200,
        0,
    ),
    ("GET /healthz", partial(just, path="/healthz"), 200, 0),
    ("GET /", partial(just, path="/"), 200, 0),
    ("GET /style.css", partial(just, path="/style.css"), 200, 0),
]


@pytest.fixture
def ring(site: Site) -> None:
    """The ring is known, and will not be read again."""
    known = site.server.keys._contents()
    site.server.keys._known = replace(known, read_at=site.clock.time)


def calls(caplog: pytest.LogCaptureFixture) -> int:
    """The number in the last log line."""
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name.startswith("signet")]
    number: int = lines[-1]["dynamodb_calls"]
    return number


@pytest.mark.parametrize(("name", "prepare", "status", "number"), TABLE, ids=[row[0] for row in TABLE])
def test_the_number_of_round_trips(
    site: Site,
    browser: Browser,
    ring: None,
    caplog: pytest.LogCaptureFixture,
    name: str,
    prepare: Callable[[Site, Browser, Registered], Act],
    status: int,
    number: int,
) -> None:
    site.user("alice")
    client = site.client(direct_sign_in=True)
    site.server.client(client.id)
    act = prepare(site, browser, client)
    with caplog.at_level(logging.INFO, "signet"):
        caplog.clear()
        answer = act()
    assert answer.status == status, answer.body
    assert calls(caplog) == number


def test_every_address_stands_in_the_table(site: Site) -> None:
    """Twice the same endpoint is one row."""
    import app

    table = {tuple(name.partition(",")[0].partition(":")[0].split()) for name, *_ in TABLE}
    addresses = {(route.method, route.path) for route in (*app.JSON_ROUTES, *app.PAGE_ROUTES)}
    # The playground makes the requests of a client: they are counted where they arrive.
    playground = {("GET", "/playground"), ("POST", "/playground"), ("GET", "/playground/callback")}
    assert addresses - table - playground == {("POST", "/oauth2/userinfo")}


@pytest.mark.parametrize("path", ["/oauth2/jwks", "/.well-known/openid-configuration"])
def test_the_ring_is_read_again_after_ten_minutes_and_not_before(
    site: Site, browser: Browser, ring: None, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    reads_the_ring = path == "/oauth2/jwks"
    with caplog.at_level(logging.INFO, "signet"):
        for seconds, number in ((599, 0), (1, int(reads_the_ring)), (1, 0)):
            site.clock.advance(seconds)
            browser.get(path)
            assert calls(caplog) == number


def test_a_client_is_read_once_a_minute(
    site: Site, browser: Browser, ring: None, caplog: pytest.LogCaptureFixture
) -> None:
    client = site.client()
    site.server._clients.clear()
    with caplog.at_level(logging.INFO, "signet"):
        for seconds, number in ((0, 1), (0, 0), (59, 0), (1, 1)):
            site.clock.advance(seconds)
            browser.authorize(client, prompt="none")
            assert calls(caplog) == number


def test_nobody_is_refused_without_asking_again(
    site: Site, browser: Browser, ring: None, caplog: pytest.LogCaptureFixture
) -> None:
    client = site.client()
    site.server.client(client.id)
    with caplog.at_level(logging.INFO, "signet"):
        assert browser.authorize(client, redirect_uri="https://other.example.com/").status == 400
        assert calls(caplog) == 1
        assert browser.post("/oauth2/token", {}, basic(client.id, "wrong secret")).status == 401
        assert calls(caplog) == 1
