"""Grants under every order of the calls of concurrent requests.

An ending holds for every use that begins after it was acknowledged. A use in flight may yield one token response, whose
refresh token is invalid. Nothing that is valid is ended.
"""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from chalicelib.clients import registration
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.records import Session
from chalicelib.users import accounts
from chalicelib.users.password_change import change_password
from tests.guarantees.orders import Action, Order, every_order
from tests.support.account import submit_form
from tests.support.browser import VERIFIER, Answer, Browser, basic
from tests.support.faults import Wire
from tests.support.gateways import HTTP_2, GatewayBrowser
from tests.support.grants import insert_grant
from tests.support.site import PASSWORD, Site, tables
from tests.support.threads import run_concurrently

OPENID = frozenset({"openid", "email"})
OFFLINE = OPENID | {"offline_access"}
NEW_PASSWORD = "another pass phrase"
# A session that ends so soon is extended when it is used.
SOON = 1000
KEPT = ("keys", "clients", "identifiers", "users", "scopes")


class Scene:
    """A user with two browsers, and a grant in the first one, which are created for each order; actions on them."""

    def __init__(self, site: Site):
        self.site, self.store = site, site.server.store
        site.user("bob")
        self.user = site.user("alice")
        self.client = site.client(trusted=True, scope="openid email profile offline_access")
        self.cautious_client = site.client(client_name="Cautious", scope="openid email")  # asks for consent
        self.start_time = site.clock.time
        self.machine = GatewayBrowser(site, HTTP_2)
        site.secrets.add(NEW_PASSWORD)
        site.server.keys.jwks()  # cached in a running server

    def start(self, scope: frozenset[str] = OPENID, *, session_lifetime: int | None = None) -> None:
        """Create the sessions, and a grant in the first one whose code can be redeemed."""
        for name, table in tables().items():
            if not name.endswith(KEPT):
                table.items.clear()
        self.site.clock.time = self.start_time
        self.store.users.put(self.user)
        for client in (self.client, self.cautious_client):
            self.store.clients.put(client.record)
        self.site.server.forget_cached_records()
        for client in (self.client, self.cautious_client):
            assert self.site.server.client(client.id)
        self.session, self.browser = self._sign_in(session_lifetime)
        _, self.second_browser = self._sign_in(session_lifetime)
        self.access_tokens: list[str] = []
        self.refresh_token = ""
        self.grant = insert_grant(
            self.site,
            self.client,
            self.user,
            scope=scope,
            session_id=self.session.session_id,
            session_stored=True,
        )
        self.code = self.site.server.keys.make_handle("code", self.grant.grant_id)

    def start_with_tokens(self, scope: frozenset[str] = OPENID, *, session_lifetime: int | None = None) -> None:
        """Create the same, and redeem the code."""
        self.start(scope, session_lifetime=session_lifetime)
        self.refresh_token = self.redeem().json["refresh_token"]

    def _sign_in(self, lifetime: int | None) -> tuple[Session, GatewayBrowser]:
        now = self.site.clock.time
        end = now + (lifetime or self.site.settings.session_idle_lifetime)
        session = Session(
            session_id=f"{self.user.sub}.{new_id()}",
            sub=self.user.sub,
            auth_time=now,
            created_at=now,
            expires_at=end,
            active_until=end,
            sessions_generation=self.user.sessions_generation,
        )
        assert self.store.sessions.insert(session)
        browser = GatewayBrowser(self.site, HTTP_2)
        browser.cookies["signet-session"] = self.site.server.keys.make_handle("sid", session.session_id, 1)
        return session, browser

    def tab_of(self, browser: Browser) -> GatewayBrowser:
        """Return another tab of a browser, with its own copy of the cookies."""
        tab = GatewayBrowser(self.site, HTTP_2)
        tab.cookies.update(browser.cookies)
        return tab

    # ---- actions

    def redeem(self, **parameters: Any) -> Answer:
        return self._collect_access_token(self.machine.redeem(self.client, self.code, **parameters))

    def refresh(self, refresh_token: str | None = None) -> Answer:
        return self._collect_access_token(self.machine.refresh(self.client, refresh_token or self.refresh_token))

    def refresh_twice(self) -> Answer:
        """Refresh, then use the successor if there is one."""
        first = self.refresh()
        return self.refresh(first.json["refresh_token"]) if first.status == 200 else first

    def revoke(self, token: str | None = None) -> Answer:
        form = {"token": token or self.refresh_token, "client_id": self.client.id, "client_secret": self.client.secret}
        answer = self.machine.post("/oauth2/revoke", form)
        assert answer.status == 200
        return answer

    def introspect(self) -> Answer:
        client_credentials = basic(self.client.id, self.client.secret or "")
        return self.machine.post("/oauth2/introspect", {"token": self.refresh_token}, client_credentials)

    def press(self, browser: Browser, action: str, **fields: str) -> Answer:
        """Press a button of the account page."""
        handle = self.site.server.keys.read_handle("sid", browser.cookies["signet-session"])
        assert handle
        form = {"tag": self.site.server.keys.form_tag(f"account {handle.id}"), "action": action, **fields}
        return submit_form(browser, form)

    def change_own_password(self, browser: Browser) -> Answer:
        new = {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}
        return self.press(browser, "change_password", password=PASSWORD, **new)

    def _collect_access_token(self, answer: Answer) -> Answer:
        if answer.status == 200:
            self.access_tokens.append(answer.json["access_token"])
        else:
            assert answer.json["error"] in ("invalid_grant", "invalid_client", "temporarily_unavailable")
        return answer

    # ---- assertions

    def record(self) -> Grant:
        record = self.store.grants.get(self.grant.grant_id)
        assert record
        return record

    def newest_refresh_token(self) -> str:
        """Return the refresh token that would be redeemed if the grant were valid."""
        record = self.record()
        return self.site.server.keys.make_handle("rt", record.grant_id, record.generation)

    def assert_ended(self, order: Order) -> None:
        """Assert that all issued tokens and the code are invalid."""
        for token in self.access_tokens:
            assert self.machine.userinfo(token).status == 401, order
        assert self.machine.refresh(self.client, self.newest_refresh_token()).json["error"] == "invalid_grant", order
        assert self.machine.redeem(self.client, self.code).json["error"] == "invalid_grant", order

    def assert_valid(self, order: Order) -> None:
        """Assert that all issued access tokens are valid, and the newest refresh token."""
        assert self.record().revoked_at is None, order
        for token in self.access_tokens:
            assert self.machine.userinfo(token).status == 200, order
        assert self.machine.refresh(self.client, self.newest_refresh_token()).status == 200, order

    def is_signed_in(self, browser: Browser) -> bool:
        """Return whether the user of a browser is signed in."""
        return "code" in browser.authorize(self.client, prompt="none").answer

    def is_valid_code(self, code: str) -> bool:
        """Redeem a code, and return whether it and its tokens are valid."""
        answer = self.machine.redeem(self.client, code)
        if answer.status != 200:
            assert answer.json["error"] == "invalid_grant"
            return False
        assert self.machine.userinfo(answer.json["access_token"]).status == 200
        return self.machine.refresh(self.client, answer.json["refresh_token"]).status == 200


@pytest.fixture
def scene(site: Site) -> Scene:
    return Scene(site)


def refresh_tokens_of(answers: list[Answer]) -> list[str]:
    """Return the refresh tokens of the successful responses."""
    return [answer.json["refresh_token"] for answer in answers if answer.status == 200]


READS, WRITES = "BatchGetItem GetItem", "TransactWriteItems UpdateItem PutItem DeleteItem"


def index_of(order: Order, action: str, operations: str, table: str, *, last: bool = False) -> int:
    """Return the index of an action's first or last call of one of these operations on a table.

    Returns the number of calls if there is none.
    """
    indexes = []
    for index, call in enumerate(order.calls):
        name, _, rest = call.partition(": ")
        operation, *call_tables = rest.split()
        if name == action and operation in operations.split() and table in call_tables:
            indexes.append(index)
    return (indexes or [len(order.calls)])[-last]


# ---- uses of a grant while it ends


def sign_out(scene: Scene) -> Callable[[], Any]:
    tab = scene.tab_of(scene.browser)
    return partial(tab.send, tab.get("/oauth2/logout"), decision="sign_out")


def sign_in_as_another_user(scene: Scene) -> Callable[[], Any]:
    tab = scene.tab_of(scene.browser)
    return partial(tab.sign_in, tab.authorize(scene.client, prompt="login"), "bob")


def end_grants_of_client(scene: Scene) -> Callable[[], Any]:
    def end() -> None:
        registration.end_all_grants(scene.store, scene.client.record)
        scene.site.server.forget_cached_records()  # as after a minute

    return end


def register_client_again(scene: Scene) -> Callable[[], Any]:
    record = scene.client.record

    def register() -> None:
        scene.store.clients.delete(record.client_id)
        scene.site.client(
            client_id=record.client_id, client_secret=scene.client.secret, trusted=True, scope=record.scope
        )
        scene.site.server.forget_cached_records()

    return register


# ending -> the table whose record ends the grant, and a function that returns the action
Ending = tuple[str, Callable[[Scene], Callable[[], Any]]]
SESSION_ENDINGS: dict[str, Ending] = {
    "sign-out": ("sessions", sign_out),
    "another user": ("sessions", sign_in_as_another_user),
    "sign-out of all other browsers": (
        "users",
        lambda scene: partial(scene.press, scene.tab_of(scene.second_browser), "sign_out_others"),
    ),
    "user sign-out": ("users", lambda scene: partial(accounts.sign_out, scene.store, scene.user)),
    "user disable": ("users", lambda scene: partial(accounts.disable, scene.store, scene.user)),
    "set-password": ("users", lambda scene: partial(change_password, scene.store, scene.user, NEW_PASSWORD)),
    "own password": (
        "users",
        lambda scene: partial(scene.change_own_password, scene.tab_of(scene.second_browser)),
    ),
}
ACCESS_ENDINGS: dict[str, Ending] = {
    "remove one": (
        "consents",
        lambda scene: partial(scene.press, scene.second_browser, "revoke", client_id=scene.client.id),
    ),
    "remove all": ("users", lambda scene: partial(scene.press, scene.second_browser, "revoke_all")),
    "grants of the client": ("clients", end_grants_of_client),
    "client registered again": ("clients", register_client_again),
}
GRANT_ENDINGS: dict[str, Ending] = {
    "revocation": ("grants", lambda scene: scene.revoke),
    "replay": ("grants", lambda scene: partial(scene.machine.redeem, scene.client, scene.code)),
}
ENDINGS = SESSION_ENDINGS | ACCESS_ENDINGS | GRANT_ENDINGS


def read_before_the_end(order: Order, use: str, table: str) -> bool:
    """Return whether a use has read the record that ends the grant before it was changed."""
    if table == "clients":  # it is read from the cache, before the first call
        return True
    if table == "grants":  # by the write that uses it; a replay is refused by its first write
        return index_of(order, use, "UpdateItem", table) < index_of(order, "end", WRITES, table, last=True)
    return index_of(order, use, READS, table) < index_of(order, "end", WRITES, table)


@pytest.mark.parametrize("name", SESSION_ENDINGS | ACCESS_ENDINGS)
def test_code_redeemed_while_its_grant_ends_leaves_no_valid_token(scene: Scene, wire: Wire, name: str) -> None:
    table, prepare = ENDINGS[name]

    def actions() -> list[Action]:
        scene.start()
        return [("redeem", scene.redeem), ("end", prepare(scene))]

    for order in every_order(wire, actions, torn=True):
        (answer,) = order.results_of("redeem")
        assert (answer.status == 200) == read_before_the_end(order, "redeem", table), order
        scene.assert_ended(order)


@pytest.mark.parametrize("name", ENDINGS)
def test_refresh_while_the_grant_ends_leaves_no_valid_token_and_revives_no_session(
    scene: Scene, wire: Wire, name: str
) -> None:
    table, prepare = ENDINGS[name]

    def actions() -> list[Action]:
        scene.start_with_tokens(session_lifetime=SOON)
        return [("refresh", scene.refresh), ("end", prepare(scene))]

    for order in every_order(wire, actions, torn=True):
        (answer,) = order.results_of("refresh")
        assert (answer.status == 200) == read_before_the_end(order, "refresh", table), order
        scene.assert_ended(order)
        assert scene.is_signed_in(scene.browser) == (name not in SESSION_ENDINGS), order


@pytest.mark.parametrize("name", SESSION_ENDINGS)
def test_grant_created_while_the_session_ends_is_invalid(scene: Scene, wire: Wire, name: str) -> None:
    table, prepare = ENDINGS[name]

    def actions() -> list[Action]:
        scene.start()
        return [("authorize", partial(scene.browser.authorize, scene.client)), ("end", prepare(scene))]

    statuses = set()
    for order in every_order(wire, actions, torn=True):
        (answer,) = order.results_of("authorize")
        statuses.add(answer.status)
        if answer.status == 302:
            assert read_before_the_end(order, "authorize", table), order
            assert not scene.is_valid_code(answer.code), order
        else:
            assert "password" in answer.form.fields, order
        assert not scene.is_signed_in(scene.browser), order
    assert statuses == {200, 302}


@pytest.mark.parametrize("name", ACCESS_ENDINGS)
def test_grant_created_while_access_is_removed_is_valid_if_it_was_removed_before(
    scene: Scene, wire: Wire, name: str
) -> None:
    table, prepare = ENDINGS[name]

    def actions() -> list[Action]:
        scene.start()
        return [("authorize", partial(scene.browser.authorize, scene.client)), ("end", prepare(scene))]

    for order in every_order(wire, actions, torn=True):
        (answer,) = order.results_of("authorize")
        assert scene.is_valid_code(answer.code) != read_before_the_end(order, "authorize", table), order
        assert scene.is_valid_code(scene.browser.authorize(scene.client).code), order


def test_client_that_joins_a_session_while_it_ends_is_told(site: Site, scene: Scene, wire: Wire) -> None:
    told_client = site.client(trusted=True, backchannel_logout_uri="https://client.example.com/logout")

    def actions() -> list[Action]:
        scene.start()
        assert site.server.client(told_client.id)
        return [("authorize", partial(scene.browser.authorize, told_client)), ("end", sign_out(scene))]

    statuses = set()
    for order in every_order(wire, actions, torn=True):
        (answer,) = order.results_of("authorize")
        statuses.add(answer.status)
        clients = [delivery.clients for delivery in scene.store.deliveries.scan()]
        assert clients == ([{told_client.id}] if answer.status == 302 else []), order
    assert statuses == {200, 302}


@pytest.mark.parametrize("name", ["sign-out", "sign-out of all other browsers", "user sign-out", "remove one"])
def test_grant_of_a_sign_in_with_http_basic_ends_with_all_sessions_but_with_none(
    scene: Scene, wire: Wire, name: str
) -> None:
    table, prepare = ENDINGS[name]

    def actions() -> list[Action]:
        scene.start_with_tokens()
        session_id = f"{scene.user.sub}.{new_id()}"
        changes = {"session_id": session_id, "session_stored": False}
        scene.store.grants.transition((scene.grant.grant_id,), None, changes)
        return [("refresh", scene.refresh), ("end", prepare(scene))]

    for order in every_order(wire, actions, torn=True):
        (answer,) = order.results_of("refresh")
        if name == "sign-out":
            assert answer.status == 200, order
            scene.assert_valid(order)
        else:
            assert (answer.status == 200) == read_before_the_end(order, "refresh", table), order
            scene.assert_ended(order)


# ---- what stays valid


def succeeds(answer: Answer) -> bool:
    """Return whether a use of a grant or a session has succeeded."""
    return answer.status == 200 or (answer.status == 302 and "code" in answer.answer)


USES: dict[str, Callable[[Scene], Callable[[], Answer]]] = {
    "redeem": lambda scene: scene.redeem,
    "refresh": lambda scene: scene.refresh,
    "UserInfo": lambda scene: partial(scene.machine.userinfo, scene.access_tokens[0]),
    "introspect": lambda scene: scene.introspect,
    "authorize": lambda scene: partial(scene.tab_of(scene.browser).authorize, scene.client, prompt="none"),
    "account page": lambda scene: partial(scene.tab_of(scene.browser).get, "/account/browsers"),
}


def scene_of_use(scene: Scene, use: str) -> None:
    if use == "redeem":
        scene.start(session_lifetime=SOON)
    else:
        scene.start_with_tokens(session_lifetime=SOON)


@pytest.mark.parametrize("use", USES)
def test_sign_out_of_all_other_browsers_ends_no_use_in_this_one(scene: Scene, wire: Wire, use: str) -> None:
    def actions() -> list[Action]:
        scene_of_use(scene, use)
        end = partial(scene.press, scene.tab_of(scene.browser), "sign_out_others")
        return [(use, USES[use](scene)), ("end", end)]

    for order in every_order(wire, actions, torn=True):
        (answer,) = order.results_of(use)
        assert succeeds(answer), order
        assert answer.url != "/oauth2/introspect" or answer.json["active"], order
        assert scene.is_signed_in(scene.browser), order
        assert not scene.is_signed_in(scene.second_browser), order
        if use != "redeem":
            scene.assert_valid(order)


@pytest.mark.parametrize("use", ["refresh", "authorize"])
def test_password_change_keeps_the_session_in_which_it_was_made(scene: Scene, wire: Wire, use: str) -> None:
    def actions() -> list[Action]:
        scene_of_use(scene, use)
        return [(use, USES[use](scene)), ("change", partial(scene.change_own_password, scene.browser))]

    for order in every_order(wire, actions, torn=True):
        scene.assert_ended(order)
        assert scene.is_signed_in(scene.browser), order
        assert not scene.is_signed_in(scene.second_browser), order


@pytest.mark.parametrize("use", USES)
def test_new_sign_in_in_the_session_ends_and_shortens_nothing(scene: Scene, wire: Wire, use: str) -> None:
    """The use extends the session up to the absolute lifetime of the earlier sign-in."""
    settings = scene.site.settings

    def actions() -> list[Action]:
        scene_of_use(scene, use)
        now = scene.site.clock.time
        times = {"auth_time": now + 500 - settings.session_absolute_lifetime, "expires_at": now + 400}
        scene.store.sessions.transition((scene.session.session_id,), None, times | {"active_until": now + 400})
        page = scene.browser.authorize(scene.client, prompt="login")
        scene.store.sessions.transition((scene.session.session_id,), None, times | {"active_until": now + 400})
        return [(use, USES[use](scene)), ("sign in", partial(scene.browser.sign_in, page))]

    for order in every_order(wire, actions, torn=True):
        (answer,), (sign_in_answer,) = order.results_of(use), order.results_of("sign in")
        if use not in ("authorize", "account page"):  # whose cookie is the earlier one
            assert succeeds(answer), order
            assert answer.url != "/oauth2/introspect" or answer.json["active"], order
        assert scene.is_valid_code(sign_in_answer.code), order
        session = scene.store.sessions.get(scene.session.session_id)
        assert session
        end = scene.site.clock.time + settings.session_idle_lifetime
        assert (session.generation, session.expires_at, session.active_until) == (2, end, end), order
        if use != "redeem":
            scene.assert_valid(order)


# ---- consent removed and given again


@pytest.mark.parametrize("decision", ["allow_once", "allow_always"])
@pytest.mark.parametrize("action", ["revoke", "revoke_all"])
def test_consent_removed_while_it_is_given_again_ends_the_grants_before_it_only(
    scene: Scene, wire: Wire, action: str, decision: str
) -> None:
    client, table = scene.cautious_client, {"revoke": "consents", "revoke_all": "users"}[action]
    parameters: dict[str, Any] = {"scope": "openid email"}
    refresh_token = ""

    def actions() -> list[Action]:
        nonlocal refresh_token
        scene.start()
        browser = scene.browser
        answer = browser.submit(browser.authorize(client, **parameters), decision=decision)
        refresh_token = scene.machine.redeem(client, answer.code).json["refresh_token"]
        page = browser.authorize(client, prompt="consent", **parameters)
        remove = partial(scene.press, scene.second_browser, action, client_id=client.id)
        return [("give", partial(browser.send, page, decision=decision)), ("end", remove)]

    outcomes = set()
    for order in every_order(wire, actions, torn=True):
        (answer,) = order.results_of("give")
        assert scene.machine.refresh(client, refresh_token).json["error"] == "invalid_grant", order
        has_code = answer.location.startswith("https://")
        valid = has_code and scene.machine.redeem(client, answer.code).status == 200
        outcomes.add((has_code, valid))
        assert valid != read_before_the_end(order, "give", table), order
        # Given again, within the same second.
        again = scene.browser.authorize(client, prompt="consent", **parameters)
        code = scene.browser.submit(again, decision="allow_always").code
        tokens = scene.machine.redeem(client, code).json
        assert scene.machine.userinfo(tokens["access_token"]).status == 200, order
        assert scene.machine.refresh(client, tokens["refresh_token"]).status == 200, order
        assert scene.machine.refresh(client, refresh_token).json["error"] == "invalid_grant", order
        assert scene.browser.authorize(client, prompt="none", **parameters).code, order
    refused = {(False, False)} if decision == "allow_always" else set()
    assert outcomes == {(True, True), (True, False)} | refused


# ---- refresh tokens


@pytest.mark.spec("RFC 7009 §2.1")
@pytest.mark.spec("RFC 9700 §4.14.2")
def test_concurrent_refreshes_revocation_and_sign_out_leave_no_valid_token(scene: Scene, wire: Wire) -> None:
    def actions() -> list[Action]:
        scene.start_with_tokens()
        refreshes: list[Action] = [("refresh", scene.refresh)] * 2
        return [*refreshes, ("revoke", scene.revoke), ("sign out", sign_out(scene))]

    successes = set()
    for order in every_order(wire, actions):
        answers = order.results_of("refresh")
        successes.add(len(refresh_tokens_of(answers)))
        assert len(set(refresh_tokens_of(answers))) <= 1, order
        scene.assert_ended(order)
    assert successes == {0, 1, 2}


def test_concurrent_refreshes_and_sign_out_leave_one_successor_to_a_grant_with_offline_access(
    scene: Scene, wire: Wire
) -> None:
    def actions() -> list[Action]:
        scene.start_with_tokens(OFFLINE)
        return [
            ("refresh", scene.refresh),
            ("refresh twice", scene.refresh_twice),
            ("sign out", sign_out(scene)),
        ]

    for order in every_order(wire, actions):
        ((successor,), (newest,)) = (refresh_tokens_of(order.results_of(name)) for name in ("refresh", "refresh twice"))
        for older in {scene.refresh_token, successor} - {newest}:
            assert refresh_tokens_of([scene.refresh(older)]) == [newest], order
        scene.assert_valid(order)


def test_revocation_wins_over_concurrent_refreshes_of_the_successor(scene: Scene, wire: Wire) -> None:
    def actions() -> list[Action]:
        scene.start_with_tokens()
        refreshes: list[Action] = [("refresh twice", scene.refresh_twice)] * 2
        return [*refreshes, ("revoke", scene.revoke)]

    for order in every_order(wire, actions):
        scene.assert_ended(order)


@pytest.mark.spec("RFC 9700 §4.14.2")
def test_reuse_revokes_the_grant_despite_a_concurrent_refresh(site: Site, scene: Scene, wire: Wire) -> None:
    def actions() -> list[Action]:
        scene.start_with_tokens(OFFLINE)
        successor = scene.refresh().json["refresh_token"]
        site.clock.advance(site.settings.refresh_token_retry_window)
        reuses: list[Action] = [("reuse", scene.refresh)] * 2
        return [*reuses, ("refresh", partial(scene.refresh, successor))]

    for order in every_order(wire, actions):
        assert not refresh_tokens_of(order.results_of("reuse")), order
        scene.assert_ended(order)


# ---- codes


@pytest.mark.spec("RFC 6749 §4.1.2")
def test_code_redeemed_twice_and_with_a_wrong_verifier_leaves_no_valid_token(scene: Scene, wire: Wire) -> None:
    def actions() -> list[Action]:
        scene.start()
        wrong = partial(scene.redeem, code_verifier=VERIFIER[::-1])
        return [("redeem", scene.redeem), ("redeem", scene.redeem), ("wrong", wrong)]

    for order in every_order(wire, actions):
        assert len(refresh_tokens_of(order.results_of("redeem"))) <= 1, order
        assert not refresh_tokens_of(order.results_of("wrong")), order
        scene.assert_ended(order)


@pytest.mark.spec("RFC 6749 §4.1.2")
def test_replay_revokes_a_grant_that_is_refreshed_or_revoked_concurrently(scene: Scene, wire: Wire) -> None:
    def redeem_then(use_token: Callable[[str], Answer]) -> Answer:
        answer = scene.redeem()
        if answer.status == 200:
            use_token(answer.json["refresh_token"])
        return answer

    def actions() -> list[Action]:
        scene.start()
        return [
            ("redeem and refresh", partial(redeem_then, scene.refresh)),
            ("redeem and revoke", partial(redeem_then, scene.revoke)),
        ]

    for order in every_order(wire, actions):
        assert sum(answer.status == 200 for _, answer in order.results) == 1, order
        scene.assert_ended(order)


def test_redemption_with_a_wrong_redirect_uri_revokes_the_code_or_changes_nothing(scene: Scene, wire: Wire) -> None:
    def actions() -> list[Action]:
        scene.start()
        return [("redeem", scene.redeem), ("wrong", partial(scene.redeem, redirect_uri="https://evil.example"))]

    outcomes = set()
    for order in every_order(wire, actions):
        redeemed = bool(refresh_tokens_of(order.results_of("redeem")))
        outcomes.add(redeemed)
        if redeemed:
            scene.assert_valid(order)
        else:
            scene.assert_ended(order)
    assert outcomes == {True, False}


def test_code_that_is_restored_because_signing_failed_is_redeemed_only_once(
    site: Site, scene: Scene, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign = site.server.keys.sign

    def sign_for_some(*claims: Any) -> str:
        if threading.current_thread().name == "unsigned":
            raise TemporarilyUnavailable(detail="kms Sign")
        return sign(*claims)

    monkeypatch.setattr(site.server.keys, "sign", sign_for_some)

    def actions() -> list[Action]:
        scene.start()
        return [("unsigned", scene.redeem), ("redeem", scene.redeem)]

    redemptions = set()
    for order in every_order(wire, actions):
        redemptions.add(len(refresh_tokens_of(order.results_of("redeem"))))
        # The code may still be valid, but not after two more redemptions.
        scene.redeem()
        scene.redeem()
        scene.assert_ended(order)
    assert redemptions == {0, 1}


# ---- decisions


@pytest.mark.parametrize("decisions", [("allow_once", "deny"), ("allow_once", "allow_always")])
def test_two_concurrent_decisions_are_answered_and_a_denial_is_final(
    site: Site, wire: Wire, decisions: tuple[str, ...]
) -> None:
    site.user("alice")
    client, browser = site.client(), GatewayBrowser(site, HTTP_2)
    browser.sign_in(browser.authorize(client))

    pages: list[Answer] = []

    def actions() -> list[Action]:
        page = browser.authorize(client, prompt="consent")
        pages.append(page)
        return [(decision, partial(browser.send, page, decision=decision)) for decision in decisions]

    for order in every_order(wire, actions):
        request = site.server.store.requests.get(pages[-1].form.fields["request_id"])
        assert request
        granted = {decision for decision, answer in order.results if "code" in answer.answer}
        assert "deny" not in granted, order
        assert (request.grant_id is None) == ("deny" in decisions), order
        assert len(granted) == 2 or "deny" in decisions, order


# ---- threads


@pytest.mark.spec("RFC 7009 §2.1")
def test_twenty_refreshes_a_revocation_and_a_sign_out_in_threads_leave_no_valid_token(
    site: Site, browsers: Callable[..., Browser]
) -> None:
    site.user("alice")
    client = site.client(trusted=True)
    senders = [browsers() for _ in range(22)]
    owner, revoker = senders[:2]
    for _ in range(3):
        tokens = owner.tokens(client)
        form = {"token": tokens["access_token"], "client_id": client.id, "client_secret": client.secret}
        actions = [partial(maker.refresh, client, tokens["refresh_token"]) for maker in senders[2:]]
        signing_out = partial(owner.send, owner.get("/oauth2/logout"), decision="sign_out")
        actions[5:5] = [partial(revoker.post, "/oauth2/revoke", form), signing_out]
        answers = [answer for answer in run_concurrently(actions) if answer.url == "/oauth2/token"]
        successes = [answer for answer in answers if answer.status == 200]
        assert len(answers) == 20
        assert len({answer.json["refresh_token"] for answer in successes}) <= 1
        for members in [tokens, *(answer.json for answer in successes)]:
            assert owner.userinfo(members["access_token"]).status == 401
            assert owner.refresh(client, members["refresh_token"]).json["error"] == "invalid_grant"
