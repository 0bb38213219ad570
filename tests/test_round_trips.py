"""Every round trip to DynamoDB is counted: adding one is a decision, made in this table."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import app
from chalicelib.dynamodb import DynamoDB
from tests.browser import CHALLENGE, Answer, Browser, basic
from tests.shortcut import change, code_of
from tests.site import PASSWORD, STAGE, Registered, Site

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


def with_an_own_scope(site: Site, browser: Browser, client: Registered) -> Act:
    browser.code(client)
    site.server.store.clients.put(replace(client.record, scope="openid photos.read"))
    site.server.client(client.id, fresh=True)
    return partial(browser.authorize, client, scope="openid photos.read")


def with_prompt_none(site: Site, browser: Browser, client: Registered) -> Act:
    return partial(browser.authorize, client, prompt="none")


def with_an_id_token(site: Site, browser: Browser, client: Registered) -> Act:
    """The ID token comes with the code, with a claim asked for by name; whom it is for is told by a hint."""
    hint = browser.tokens(client, decision="allow_always", scope="openid email")["id_token"]
    change(site, client, response_types=("code", "code id_token"))
    site.server.client(client.id)
    asked = {"response_type": "code id_token", "nonce": "n", "id_token_hint": hint, "scope": "openid email"}
    return partial(browser.authorize, client, claims='{"id_token":{"email":null}}', **asked)


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


def too_many_wrong_passwords(site: Site, browser: Browser, client: Registered) -> Act:
    page = browser.authorize(client)
    for _ in range(site.settings.sign_in_attempts):
        browser.send(page, username="alice", password="wrong password")
    return partial(browser.send, page, username="alice", password=PASSWORD)


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


def logout(site: Site, browser: Browser, client: Registered, *, grants: int) -> Act:
    """With an ID token of the session, in which so many grants were born."""
    tokens = [browser.tokens(client, scope="openid") for _ in range(grants)]
    return partial(browser.get, "/oauth2/logout", id_token_hint=tokens[0]["id_token"])


def logout_with_a_grant_that_goes_on(site: Site, browser: Browser, client: Registered) -> Act:
    hint = browser.tokens(client, scope="openid offline_access")["id_token"]
    return partial(browser.get, "/oauth2/logout", id_token_hint=hint)


def logout_that_others_hear_of(site: Site, browser: Browser, client: Registered) -> Act:
    change(site, client, backchannel_logout_uri="https://client.example.com/backchannel")
    site.server.client(client.id)
    return logout(site, browser, client, grants=1)


def logout_question(site: Site, browser: Browser, client: Registered) -> Act:
    browser.tokens(client)
    return partial(browser.get, "/oauth2/logout")


def logout_answer(site: Site, browser: Browser, client: Registered) -> Act:
    return partial(browser.send, logout_question(site, browser, client)(), decision="sign_out")


def logout_without_a_session(site: Site, browser: Browser, client: Registered) -> Act:
    return partial(browser.get, "/oauth2/logout")


def userinfo_of_a_pairwise_subject(site: Site, browser: Browser, client: Registered) -> Act:
    pairwise = site.client(subject_type="pairwise", trusted=True)
    site.server.client(pairwise.id)
    return partial(browser.userinfo, browser.tokens(pairwise)["access_token"])


def code_exchange_with_claims_in_the_id_token(site: Site, browser: Browser, client: Registered) -> Act:
    code = code_of(site, client, site.user("bob"), claims={"id_token": {"name": {}}})
    return partial(browser.redeem, client, code)


def client_credentials(site: Site, browser: Browser, client: Registered) -> Act:
    machine = site.client(scope="photos", grant_types=("client_credentials",), response_types=(), redirect_uris=())
    site.server.client(machine.id)
    return partial(browser.token, machine, grant_type="client_credentials")


def introspect(site: Site, browser: Browser, client: Registered, *, token: str) -> Act:
    tokens = browser.tokens(client)
    credentials = basic(client.id, client.secret or "")
    return partial(browser.post, "/oauth2/introspect", {"token": tokens[token]}, credentials)


def introspect_a_forgery(site: Site, browser: Browser, client: Registered) -> Act:
    return partial(browser.post, "/oauth2/introspect", {"token": "rt_forged"}, basic(client.id, client.secret or ""))


def just(site: Site, browser: Browser, client: Registered, *, path: str) -> Act:
    return partial(browser.get, path)


def at_home(site: Site, browser: Browser, client: Registered, *, path: str) -> Act:
    """Three applications have access, and other people are there too."""
    for each in (client, site.client(), site.client()):
        browser.tokens(each, decision="allow_always")
    for number in range(3):
        stranger, name = Browser(site), f"somebody {number}"
        site.user(name)
        stranger.sign_in(stranger.authorize(client), name)
        stranger.close()
    return partial(browser.get, path)


def take_access_away(site: Site, browser: Browser, client: Registered) -> Act:
    page = at_home(site, browser, client, path="/account")()
    headers = {"Sec-Fetch-Site": "same-origin"}
    return partial(browser.post, "/account", page.form.fields | {"client_id": client.id, "action": "revoke"}, headers)


# what is asked, the status of the answer, the number of calls, and which they are
TABLE: list[tuple[str, Callable[[Site, Browser, Registered], Act], int, int]] = [
    ("GET /oauth2/authorize, as a stranger: request", as_a_stranger, 200, 1),
    ("GET /oauth2/authorize, prompt=none, as a stranger", with_prompt_none, 302, 0),
    ("GET /oauth2/authorize, consent remembered: batch; birth", with_session_and_remembered_consent, 302, 2),
    ("GET /oauth2/authorize, code id_token, with a hint: batch; birth", with_an_id_token, 302, 2),
    ("GET /oauth2/authorize, with a session: batch; request", with_a_session, 200, 2),
    ("GET /oauth2/authorize, with a scope of one's own: batch; scope; request", with_an_own_scope, 200, 3),
    ("POST /oauth2/authorize: request", by_post, 303, 1),
    ("GET /oauth2/authorize, what was posted: request; binding", what_was_posted, 200, 2),
    ("POST /oauth2/code, sign-in: batch; count, person, session", sign_in, 303, 4),
    ("POST /oauth2/code, sign-in, consent remembered: the same; birth", sign_in_to_a_code, 303, 5),
    ("POST /oauth2/code, sign-in again: batch; count, person, session", sign_in_again, 303, 4),
    ("POST /oauth2/code, wrong password: batch; count, person", wrong_password, 400, 3),
    ("POST /oauth2/code, unknown user: batch; count, person", unknown_user, 400, 3),
    ("POST /oauth2/code, too many wrong passwords: batch", too_many_wrong_passwords, 429, 1),
    ("POST /oauth2/code, allow once: batch; birth", partial(decision, which="allow_once"), 303, 2),
    ("POST /oauth2/code, always allow: batch; birth", partial(decision, which="allow_always"), 303, 2),
    ("POST /oauth2/code, deny: batch; request", partial(decision, which="deny"), 303, 2),
    ("POST /oauth2/code, another account: batch", partial(decision, which="switch"), 200, 1),
    ("POST /oauth2/code, new password: batch; 2 x sessions, grants; user; session, consent", change_password, 303, 8),
    ("GET /oauth2/code: batch; count, person; birth", code_by_basic, 302, 4),
    ("POST /oauth2/token, code: redemption", code_exchange, 200, 1),
    ("POST /oauth2/token, a forged code", forged_code, 400, 0),
    ("POST /oauth2/token, refresh token: rotation", refresh, 200, 1),
    ("POST /oauth2/token, the same refresh token again: rotation", refresh_again, 200, 1),
    ("GET /oauth2/userinfo: batch", userinfo, 200, 1),
    (
        "POST /oauth2/token, code, claims in the ID token: redemption; user",
        code_exchange_with_claims_in_the_id_token,
        200,
        2,
    ),
    ("POST /oauth2/token, client credentials: birth", client_credentials, 200, 1),
    ("GET /oauth2/userinfo, pairwise subject: grant; user", userinfo_of_a_pairwise_subject, 200, 2),
    ("GET /oauth2/logout, one grant: batch; all in one", partial(logout, grants=1), 200, 2),
    ("GET /oauth2/logout, five grants: batch; all in one", partial(logout, grants=5), 200, 2),
    ("GET /oauth2/logout, a grant goes on: batch; twice", logout_with_a_grant_that_goes_on, 200, 3),
    ("GET /oauth2/logout, a client hears of it: batch; all in one", logout_that_others_hear_of, 200, 2),
    ("GET /oauth2/logout, the question: batch", logout_question, 200, 1),
    ("GET /oauth2/logout, without a session", logout_without_a_session, 200, 0),
    ("POST /oauth2/logout, sign out: batch; all in one", logout_answer, 200, 2),
    ("POST /oauth2/revoke: revocation; event", revoke, 200, 2),
    ("POST /oauth2/introspect, access token: grant", partial(introspect, token="access_token"), 200, 1),
    ("POST /oauth2/introspect, refresh token: grant", partial(introspect, token="refresh_token"), 200, 1),
    ("POST /oauth2/introspect, a forged token", introspect_a_forgery, 200, 0),
    ("GET /account, nobody signed in", partial(just, path="/account"), 302, 0),
    ("GET /account: session; consents, grants, clients", partial(at_home, path="/account"), 200, 4),
    ("GET /account/browsers: session; sessions", partial(at_home, path="/account/browsers"), 200, 2),
    ("GET /account/activity: session; events", partial(at_home, path="/account/activity"), 200, 2),
    ("GET /account/password: session", partial(at_home, path="/account/password"), 200, 1),
    ("POST /account, access taken away: session; consents; grants, 1; grants", take_access_away, 303, 5),
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
    ("GET /errors", partial(just, path="/errors"), 200, 0),
    ("GET /style.css", partial(just, path="/style.css"), 200, 0),
    ("GET /script.js", partial(just, path="/script.js"), 200, 0),
]


@pytest.fixture
def ring(site: Site) -> None:
    """The ring is known, and will not be read again."""
    known = site.server.keys._contents()
    site.server.keys._known = replace(known, read_at=site.clock.time)


@pytest.fixture
def rights(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """What each call needs, as it is made: an action of IAM's, and the table (or its index) that it is on."""
    needed: set[tuple[str, str]] = set()
    call = DynamoDB.call
    in_transaction = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem"}

    def noted(dynamodb: DynamoDB, operation: str, **parameters: Any) -> Any:
        action = operation.title().replace("_", "")
        if operation == "batch_get_item":
            needed.update((action, table) for table in parameters["RequestItems"])
        elif operation == "transact_write_items":
            steps = [step for item in parameters["TransactItems"] for step in item.items()]
            needed.update((in_transaction.get(verb, f"{verb}Item"), step["TableName"]) for verb, step in steps)
        else:
            index = f"/index/{parameters['IndexName']}" if "IndexName" in parameters else ""
            needed.add((action, parameters["TableName"] + index))
        return call(dynamodb, operation, **parameters)

    monkeypatch.setattr(DynamoDB, "call", noted)
    return needed


def granted() -> set[tuple[str, str]]:
    """What the function may do in AWS; test_templates holds that both ways to deploy allow the same."""
    policy = json.loads((Path(app.__file__).parent / ".chalice" / "policy-prod.json").read_text())
    return {
        (action.removeprefix("dynamodb:"), resource.partition(":table/")[2].replace("-prod-", f"-{STAGE}-"))
        for statement in policy["Statement"]
        for resource in (statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]])
        for action in statement["Action"]
        if ":table/" in resource
    }


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
    rights: set[tuple[str, str]],
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
        rights.clear()
        answer = act()
    assert answer.status == status, answer.body
    assert calls(caplog) == number
    assert rights <= granted(), "in AWS the function may not do that"


def test_every_address_stands_in_the_table(site: Site) -> None:
    """Twice the same endpoint is one row."""
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
