"""POST /oauth2/revoke: token revocation (RFC 7009)."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.browser import Answer, Browser, basic
from tests.shortcut import change, code_of
from tests.site import Registered, Site, dump

pytestmark = pytest.mark.spec("RFC 7009 §2")


def revoke(browser: Browser, client: Registered, headers: dict[str, str] | None = None, **parameters: Any) -> Answer:
    """A revocation request; a confidential client authenticates with HTTP Basic."""
    given = dict(parameters)
    if client.secret is None:
        given.setdefault("client_id", client.id)
    else:
        headers = basic(client.id, client.secret) if headers is None else headers
    return browser.post("/oauth2/revoke", [(n, v) for n, v in given.items() if v is not None], headers)


@pytest.fixture
def client(site: Site) -> Registered:
    return site.client()


@pytest.fixture
def tokens(site: Site, browser: Browser, client: Registered) -> dict[str, Any]:
    members: dict[str, Any] = browser.redeem(client, code_of(site, client, site.user())).json
    return members


@pytest.mark.spec("RFC 7009 §2 a", "RFC 7009 §2 b", "RFC 7009 §2.1 b", "RFC 7009 §2.1 c")
@pytest.mark.spec("RFC 7009 §2.1")
@pytest.mark.parametrize("what", ["refresh_token", "access_token"])
@pytest.mark.parametrize("hint", [None, "refresh_token", "access_token", "pqc_token"])
def test_either_token_ends_the_grant_whatever_the_hint(
    browser: Browser, client: Registered, tokens: dict[str, Any], what: str, hint: str | None
) -> None:
    answer = revoke(browser, client, token=tokens[what], token_type_hint=hint)
    assert answer.status == 200
    assert answer.json == {}
    assert answer.header("cache-control") == "no-store"
    assert browser.userinfo(tokens["access_token"]).status == 401
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"


@pytest.mark.spec("RFC 7009 §2.2")
def test_an_earlier_refresh_token_ends_the_grant_too(
    site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]
) -> None:
    current = browser.refresh(client, tokens["refresh_token"]).json
    site.clock.advance(3600)
    assert revoke(browser, client, token=tokens["refresh_token"]).status == 200
    assert browser.refresh(client, current["refresh_token"]).json["error"] == "invalid_grant"


def test_an_end_is_noted_once_whatever_comes_after_it(
    site: Site, browser: Browser, client: Registered, tokens: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Many clients give back both tokens of a grant."""
    ended_at = site.clock.time
    for name in ("access_token", "refresh_token", "refresh_token"):
        assert revoke(browser, client, token=tokens[name]).status == 200
        site.clock.advance(1)
    [grant] = site.server.store.grants.scan()
    assert grant.revoked_at == ended_at
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "signet.requests"]
    [noted] = [line for line in lines if line.get("event") == "token_revoked"]
    assert (noted["sub"], noted["client_id"]) == (grant.sub, client.id)


@pytest.mark.spec("RFC 7009 §2.2")
def test_a_token_that_is_unknown_or_has_ended_is_a_success(
    site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]
) -> None:
    assert revoke(browser, client, token=tokens["refresh_token"]).status == 200
    for token in (
        tokens["refresh_token"],  # twice
        tokens["access_token"],
        tokens["id_token"],  # not a token that could be revoked
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


def test_a_code_and_an_id_token_end_nothing(site: Site, browser: Browser, client: Registered) -> None:
    code = code_of(site, client)
    assert revoke(browser, client, token=code).status == 200
    tokens = browser.redeem(client, code).json
    assert revoke(browser, client, token=tokens["id_token"]).status == 200
    assert browser.refresh(client, tokens["refresh_token"]).status == 200


def test_an_expired_token_is_a_success(
    site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]
) -> None:
    site.clock.advance(601)
    assert revoke(browser, client, token=tokens["access_token"]).status == 200
    assert browser.refresh(client, tokens["refresh_token"]).status == 200  # it was too late to mean anything
    site.clock.advance(31 * 24 * 60 * 60)
    before = dump()
    assert revoke(browser, client, token=tokens["refresh_token"]).status == 200
    assert dump() == before


@pytest.mark.spec("RFC 7009 §2.1")
@pytest.mark.parametrize("what", ["refresh_token", "access_token"])
def test_another_clients_token_is_left_alone(
    site: Site, browser: Browser, client: Registered, tokens: dict[str, Any], what: str
) -> None:
    before = dump()
    for other in (site.client(client_name="Other"), site.client(client_name="Public", public=True)):
        before = dump()
        answer = revoke(browser, other, token=tokens[what])
        assert (answer.status, answer.json["error"]) == (400, "invalid_grant")
        assert dump() == before
    assert browser.userinfo(tokens["access_token"]).status == 200
    assert browser.refresh(client, tokens["refresh_token"]).status == 200


def test_a_public_client_revokes_with_its_client_id(site: Site, browser: Browser) -> None:
    client = site.client(public=True)
    tokens = browser.redeem(client, code_of(site, client)).json
    assert revoke(browser, client, token=tokens["refresh_token"]).status == 200
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"


def test_a_request_may_be_json(browser: Browser, client: Registered, tokens: dict[str, Any]) -> None:
    import json

    body = json.dumps({"token": tokens["refresh_token"], "client_id": client.id, "client_secret": client.secret})
    answer = browser.request("POST", "/oauth2/revoke", body, {"Content-Type": "application/json"})
    assert answer.status == 200
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"


def test_a_client_that_has_lost_a_grant_type_can_still_revoke(
    site: Site, browser: Browser, client: Registered, tokens: dict[str, Any]
) -> None:
    change(site, client, grant_types=("authorization_code",))
    assert revoke(browser, client, token=tokens["refresh_token"]).status == 200
    assert browser.userinfo(tokens["access_token"]).status == 401


Send = Callable[[Browser, Registered, str], Answer]


def _form(pairs: list[tuple[str, str]]) -> Send:
    def send(browser: Browser, client: Registered, token: str) -> Answer:
        filled = [(name, value.replace("{token}", token)) for name, value in pairs]
        return browser.post("/oauth2/revoke", filled, basic(client.id, client.secret or ""))

    return send


def _as(headers: dict[str, str], more: dict[str, str]) -> Send:
    return lambda browser, client, token: browser.post("/oauth2/revoke", {"token": token, **more}, headers)


REFUSALS: list[tuple[str, int, str, Send]] = [
    ("no token", 400, "invalid_request", _form([])),
    ("an empty token", 400, "invalid_request", _form([("token", "")])),
    ("token twice", 400, "invalid_request", _form([("token", "{token}"), ("token", "{token}")])),
    ("a token that is too long", 400, "invalid_request", _form([("token", "x" * 8193)])),
    ("a token with NUL", 400, "invalid_request", _form([("token", "{token}\0")])),
    ("a token with CR and LF", 400, "invalid_request", _form([("token", "{token}\r\n")])),
    ("the hint twice", 400, "invalid_request", _form([("token", "{token}"), *[("token_type_hint", "x")] * 2])),
    ("two ways of authentication", 400, "invalid_request", _form([("token", "{token}"), ("client_secret", "x")])),
    ("no authentication", 401, "invalid_client", _as({}, {})),
    (
        "a confidential client without its secret",
        401,
        "invalid_client",
        lambda b, c, t: _as({}, {"client_id": c.id})(b, c, t),
    ),
    ("a wrong secret", 401, "invalid_client", lambda b, c, t: _as(basic(c.id, "wrong"), {})(b, c, t)),
    ("an unknown client", 401, "invalid_client", _as({}, {"client_id": "nobody"})),
    ("the token as Bearer", 401, "invalid_client", lambda b, c, t: _as({"Authorization": f"Bearer {t}"}, {})(b, c, t)),
    (
        "text/plain",
        400,
        "invalid_request",
        lambda b, c, t: b.request(
            "POST", "/oauth2/revoke", f"token={t}", basic(c.id, c.secret or "") | {"Content-Type": "text/plain"}
        ),
    ),
    (
        "the token in the query",
        400,
        "invalid_request",
        lambda b, c, t: b.post(f"/oauth2/revoke?{urlencode({'token': t})}", {}, basic(c.id, c.secret or "")),
    ),
]


@pytest.mark.spec("RFC 7009 §2.1 a")
@pytest.mark.spec("RFC 7009 §2.2.1")
@pytest.mark.parametrize(("what", "status", "error", "send"), REFUSALS, ids=[row[0] for row in REFUSALS])
def test_a_bad_request_is_refused_and_ends_nothing(
    browser: Browser, client: Registered, tokens: dict[str, Any], what: str, status: int, error: str, send: Send
) -> None:
    before = dump()
    answer = send(browser, client, tokens["refresh_token"])
    assert (answer.status, answer.json["error"]) == (status, error), answer.body
    assert answer.header("cache-control") == "no-store"
    assert bool(answer.header("www-authenticate")) == (status == 401)
    assert dump() == before
