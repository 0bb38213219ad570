"""POST /oauth2/revoke: token revocation (RFC 7009)."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.browser import Answer, Browser, basic
from tests.support.grants import create_code, update_client
from tests.support.site import Registered, Site, dump_tables

pytestmark = pytest.mark.spec("RFC 7009 §2")


def revoke(browser: Browser, client: Registered, headers: dict[str, str] | None = None, **parameters: Any) -> Answer:
    """Send a revocation request; a confidential client authenticates with HTTP Basic."""
    form = dict(parameters)
    if client.secret is None:
        form.setdefault("client_id", client.id)
    else:
        headers = basic(client.id, client.secret) if headers is None else headers
    return browser.post("/oauth2/revoke", [(name, value) for name, value in form.items() if value is not None], headers)


@pytest.fixture
def client(site: Site) -> Registered:
    return site.client()


@pytest.fixture
def tokens(site: Site, browser: Browser, client: Registered) -> dict[str, Any]:
    members: dict[str, Any] = browser.redeem(client, create_code(site, client, site.user())).json
    return members


@pytest.mark.spec("RFC 7009 §2 a", "RFC 7009 §2 b", "RFC 7009 §2.1 b", "RFC 7009 §2.1 c")
@pytest.mark.spec("RFC 7009 §2.1")
@pytest.mark.parametrize("what", ["refresh_token", "access_token"])
@pytest.mark.parametrize("hint", [None, "refresh_token", "access_token", "pqc_token"])
def test_either_token_revokes_the_grant_whatever_the_hint(
    browser: Browser, client: Registered, tokens: dict[str, Any], what: str, hint: str | None
) -> None:
    answer = revoke(browser, client, token=tokens[what], token_type_hint=hint)
    assert answer.status == 200
    assert answer.json == {}
    assert answer.header("cache-control") == "no-store"
    assert browser.userinfo(tokens["access_token"]).status == 401
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"


@pytest.mark.spec("RFC 7009 §2.2")
def test_rotated_refresh_token_revokes_the_grant(
    site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]
) -> None:
    current = browser.refresh(client, tokens["refresh_token"]).json
    site.clock.advance(3600)
    assert revoke(browser, client, token=tokens["refresh_token"]).status == 200
    assert browser.refresh(client, current["refresh_token"]).json["error"] == "invalid_grant"


def test_repeated_revocation_is_recorded_once(
    site: Site, browser: Browser, client: Registered, tokens: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Many clients revoke both tokens of a grant."""
    revoked_at = site.clock.time
    for name in ("access_token", "refresh_token", "refresh_token"):
        assert revoke(browser, client, token=tokens[name]).status == 200
        site.clock.advance(1)
    [grant] = site.server.store.grants.scan()
    assert grant.revoked_at == revoked_at
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "signet.requests"]
    [event] = [line for line in lines if line.get("event") == "token_revoked"]
    assert (event["sub"], event["client_id"]) == (grant.sub, client.id)


@pytest.mark.spec("RFC 7009 §2.2")
def test_unknown_or_revoked_token_is_answered_with_success(
    site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]
) -> None:
    assert revoke(browser, client, token=tokens["refresh_token"]).status == 200
    for token in (
        tokens["refresh_token"],  # revoked already
        tokens["access_token"],
        tokens["id_token"],  # not revocable
        "garbage",
        "rt_garbage",
        "a.b.c",
        "é☃",
        site.server.keys.make_handle("rt", "never", 1),
        site.server.keys.make_handle("code", "never"),
        tokens["access_token"][:-6] + "AAAAAA",
        "x" * 8192,
    ):
        assert revoke(browser, client, token=token).status == 200, token


def test_authorization_code_and_id_token_revoke_nothing(site: Site, browser: Browser, client: Registered) -> None:
    code = create_code(site, client)
    assert revoke(browser, client, token=code).status == 200
    tokens = browser.redeem(client, code).json
    assert revoke(browser, client, token=tokens["id_token"]).status == 200
    assert browser.refresh(client, tokens["refresh_token"]).status == 200


def test_expired_token_revokes_nothing_and_is_answered_with_success(
    site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]
) -> None:
    site.clock.advance(601)
    assert revoke(browser, client, token=tokens["access_token"]).status == 200
    assert browser.refresh(client, tokens["refresh_token"]).status == 200  # the grant was not revoked
    site.clock.advance(31 * 24 * 60 * 60)
    before = dump_tables()
    assert revoke(browser, client, token=tokens["refresh_token"]).status == 200
    assert dump_tables() == before


@pytest.mark.spec("RFC 7009 §2.1")
@pytest.mark.parametrize("what", ["refresh_token", "access_token"])
def test_token_of_another_client_is_rejected_and_stays_valid(
    site: Site, browser: Browser, client: Registered, tokens: dict[str, Any], what: str
) -> None:
    before = dump_tables()
    for other in (site.client(client_name="Other"), site.client(client_name="Public", public=True)):
        before = dump_tables()
        answer = revoke(browser, other, token=tokens[what])
        assert (answer.status, answer.json["error"]) == (400, "invalid_grant")
        assert dump_tables() == before
    assert browser.userinfo(tokens["access_token"]).status == 200
    assert browser.refresh(client, tokens["refresh_token"]).status == 200


def test_public_client_revokes_with_its_client_id(site: Site, browser: Browser) -> None:
    client = site.client(public=True)
    tokens = browser.redeem(client, create_code(site, client)).json
    assert revoke(browser, client, token=tokens["refresh_token"]).status == 200
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"


def test_json_request_is_accepted(browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    body = json.dumps({"token": tokens["refresh_token"], "client_id": client.id, "client_secret": client.secret})
    answer = browser.request("POST", "/oauth2/revoke", body, {"Content-Type": "application/json"})
    assert answer.status == 200
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"


def test_client_without_the_refresh_grant_can_still_revoke(
    site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]
) -> None:
    update_client(site, client, grant_types=("authorization_code",))
    assert revoke(browser, client, token=tokens["refresh_token"]).status == 200
    assert browser.userinfo(tokens["access_token"]).status == 401


Send = Callable[[Browser, Registered, str], Answer]


def post_form(pairs: list[tuple[str, str]]) -> Send:
    """Return a function that posts these parameters with HTTP Basic; `{token}` is replaced by the token."""

    def send(browser: Browser, client: Registered, token: str) -> Answer:
        form = [(name, value.replace("{token}", token)) for name, value in pairs]
        return browser.post("/oauth2/revoke", form, basic(client.id, client.secret or ""))

    return send


def post_token(browser: Browser, token: str, headers: dict[str, str], **parameters: str) -> Answer:
    """Post the token with other credentials than the client's."""
    return browser.post("/oauth2/revoke", {"token": token, **parameters}, headers)


REJECTED_REQUESTS: list[tuple[str, int, str, Send]] = [
    ("no token", 400, "invalid_request", post_form([])),
    ("an empty token", 400, "invalid_request", post_form([("token", "")])),
    ("token twice", 400, "invalid_request", post_form([("token", "{token}"), ("token", "{token}")])),
    ("a token that is too long", 400, "invalid_request", post_form([("token", "x" * 16385)])),
    ("a token with NUL", 400, "invalid_request", post_form([("token", "{token}\0")])),
    ("a token with CR and LF", 400, "invalid_request", post_form([("token", "{token}\r\n")])),
    ("the hint twice", 400, "invalid_request", post_form([("token", "{token}"), *[("token_type_hint", "x")] * 2])),
    ("two authentication methods", 400, "invalid_request", post_form([("token", "{token}"), ("client_secret", "x")])),
    ("no authentication", 401, "invalid_client", lambda browser, client, token: post_token(browser, token, {})),
    (
        "a confidential client without its secret",
        401,
        "invalid_client",
        lambda browser, client, token: post_token(browser, token, {}, client_id=client.id),
    ),
    (
        "a wrong secret",
        401,
        "invalid_client",
        lambda browser, client, token: post_token(browser, token, basic(client.id, "wrong")),
    ),
    (
        "an unknown client",
        401,
        "invalid_client",
        lambda browser, client, token: post_token(browser, token, {}, client_id="unknown"),
    ),
    (
        "the token as Bearer",
        401,
        "invalid_client",
        lambda browser, client, token: post_token(browser, token, {"Authorization": f"Bearer {token}"}),
    ),
    (
        "text/plain",
        400,
        "invalid_request",
        lambda browser, client, token: browser.request(
            "POST",
            "/oauth2/revoke",
            f"token={token}",
            basic(client.id, client.secret or "") | {"Content-Type": "text/plain"},
        ),
    ),
    (
        "the token in the query",
        400,
        "invalid_request",
        lambda browser, client, token: browser.post(
            f"/oauth2/revoke?{urlencode({'token': token})}", {}, basic(client.id, client.secret or "")
        ),
    ),
]


@pytest.mark.spec("RFC 7009 §2.1 a")
@pytest.mark.spec("RFC 7009 §2.2.1")
@pytest.mark.parametrize(
    ("what", "status", "error", "send"), REJECTED_REQUESTS, ids=[row[0] for row in REJECTED_REQUESTS]
)
def test_invalid_request_is_rejected_and_revokes_nothing(
    browser: Browser, client: Registered, tokens: dict[str, Any], what: str, status: int, error: str, send: Send
) -> None:
    before = dump_tables()
    answer = send(browser, client, tokens["refresh_token"])
    assert (answer.status, answer.json["error"]) == (status, error), answer.body
    assert answer.header("cache-control") == "no-store"
    assert bool(answer.header("www-authenticate")) == (status == 401)
    assert dump_tables() == before


@pytest.mark.spec("RFC 7009 §5 b")
@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
def test_wrong_hint_needs_as_many_database_calls_as_a_correct_one(
    site: Site, browser: Browser, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    client = site.client()
    calls = set()
    for hint in ("access_token", "refresh_token", "nonsense", None):
        token = browser.redeem(client, create_code(site, client)).json[kind]
        form = {"token": token} | ({"token_type_hint": hint} if hint else {})
        assert browser.post("/oauth2/revoke", form, basic(client.id, client.secret or "")).status == 200
        calls.add(json.loads(caplog.records[-1].getMessage())["dynamodb_calls"])
    assert len(calls) == 1
