"""Grants under every order of the calls of concurrent requests: one successor per refresh, revocation wins."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.records import Grant, Session, User
from chalicelib.users.password_change import change_password
from tests.guarantees.orders import Action, Order, every_order
from tests.support.browser import VERIFIER, Answer, Browser
from tests.support.faults import Wire
from tests.support.gateways import GATEWAYS, GatewayBrowser
from tests.support.grants import insert_grant
from tests.support.site import Registered, Site
from tests.support.threads import run_concurrently

OPENID = frozenset({"openid", "email"})
OFFLINE = OPENID | {"offline_access"}


class Scene:
    """A user with a session and a grant, which are created for each order, and the actions on them."""

    def __init__(self, site: Site, user: User, client: Registered):
        self.site, self.user, self.client = site, user, client
        self.browser = GatewayBrowser(site, GATEWAYS[4])
        self.session: Session
        self.sign_out_page: Answer
        self.grant: Grant
        self.code = self.refresh_token = ""
        self.access_tokens: list[str] = []
        self.start_time = site.clock.time
        # Cached in a running server.
        site.server.keys.jwks()
        site.server.client(client.id)

    def create_session(self, *grants: Grant) -> None:
        """Create a session with these grants."""
        now = self.site.clock.time
        self.session = Session(
            session_id=f"{self.user.sub}.{new_id()}",
            sub=self.user.sub,
            auth_time=now,
            created_at=now,
            expires_at=now + 1000,
            grants=frozenset(grant.grant_id for grant in grants),
        )
        assert self.site.server.store.sessions.insert(self.session)
        self.browser.cookies["signet-session"] = self.site.server.keys.make_handle("sid", self.session.session_id, 1)
        self.sign_out_page = self.browser.get("/oauth2/logout")

    def create_code(self, scope: frozenset[str] = OPENID) -> None:
        """Create a grant whose code can be redeemed."""
        self.site.clock.time = self.start_time
        self.grant = insert_grant(self.site, self.client, self.user, scope=scope)
        self.code = self.site.server.keys.make_handle("code", self.grant.grant_id)
        self.access_tokens = []

    def create_redeemed_grant(self, scope: frozenset[str] = OPENID) -> None:
        """Create a grant, redeem its code, and create its session."""
        self.create_code(scope)
        self.refresh_token = self.redeem().json["refresh_token"]
        self.create_session(self.grant)

    # ---- actions

    def redeem(self, **parameters: Any) -> Answer:
        return self._collect_access_token(self.browser.redeem(self.client, self.code, **parameters))

    def refresh(self, refresh_token: str | None = None) -> Answer:
        return self._collect_access_token(self.browser.refresh(self.client, refresh_token or self.refresh_token))

    def refresh_twice(self) -> Answer:
        """Refresh, then use the successor if there is one."""
        first = self.refresh()
        return self.refresh(first.json["refresh_token"]) if first.status == 200 else first

    def revoke(self, token: str | None = None) -> Answer:
        form = {"token": token or self.refresh_token, "client_id": self.client.id, "client_secret": self.client.secret}
        answer = self.browser.post("/oauth2/revoke", form)
        assert answer.status == 200
        return answer

    def sign_out(self) -> Answer:
        """Confirm the sign-out page."""
        return self.browser.send(self.sign_out_page, decision="sign_out")

    def _collect_access_token(self, answer: Answer) -> Answer:
        if answer.status == 200:
            self.access_tokens.append(answer.json["access_token"])
        else:
            assert answer.json["error"] in ("invalid_grant", "temporarily_unavailable")
        return answer

    # ---- assertions

    def record(self) -> Grant:
        record = self.site.server.store.grants.get(self.grant.grant_id)
        assert record
        return record

    def assert_revoked(self, order: Order) -> None:
        """Assert that the grant is revoked and all issued tokens and the code are invalid."""
        for token in self.access_tokens:
            assert self.browser.userinfo(token).status == 401, order
        record = self.record()
        assert record.revoked_at is not None, order
        newest = self.site.server.keys.make_handle("rt", record.grant_id, record.generation)
        assert self.browser.refresh(self.client, newest).json["error"] == "invalid_grant", order
        assert self.browser.redeem(self.client, self.code).json["error"] == "invalid_grant", order

    def assert_no_valid_code(self, answer: Answer, order: Order) -> None:
        """Assert that the response is the sign-in page or has a code that is invalid."""
        if answer.status == 302:
            assert self.browser.redeem(self.client, answer.code).json["error"] == "invalid_grant", order
        else:
            assert "password" in answer.form.fields, order

    def assert_active(self, order: Order) -> None:
        """Assert that the grant is not revoked and all issued access tokens are valid."""
        assert self.record().revoked_at is None, order
        for token in self.access_tokens:
            assert self.browser.userinfo(token).status == 200, order


@pytest.fixture
def scene(site: Site) -> Scene:
    return Scene(site, site.user("alice"), site.client(trusted=True, scope="openid email profile offline_access"))


def refresh_tokens_of(answers: list[Answer]) -> list[str]:
    """Return the refresh tokens of the successful responses."""
    return [answer.json["refresh_token"] for answer in answers if answer.status == 200]


# ---- refresh tokens


@pytest.mark.spec("RFC 7009 §2.1")
@pytest.mark.spec("RFC 9700 §4.14.2")
def test_concurrent_refreshes_revocation_and_sign_out_leave_no_valid_token(scene: Scene, wire: Wire) -> None:
    def actions() -> list[Action]:
        scene.create_redeemed_grant()
        refreshes: list[Action] = [("refresh", scene.refresh)] * 2
        return [*refreshes, ("revoke", scene.revoke), ("sign out", scene.sign_out)]

    number_of_orders = 0
    for order in every_order(wire, actions):
        number_of_orders += 1
        answers = order.results_of("refresh")
        assert len(set(refresh_tokens_of(answers))) <= 1, order
        # Each refresh before the end of the grant succeeded, each after it failed.
        end = min(
            order.index_of("revoke: UpdateItem grants"),
            order.index_of("sign out: UpdateItem grants", "sign out: Trans"),
        )
        assert len(refresh_tokens_of(answers)) == sum(call.startswith("refresh") for call in order.calls[:end]), order
        scene.assert_revoked(order)
    assert number_of_orders >= 10


def test_concurrent_refreshes_and_sign_out_leave_one_successor_to_a_grant_with_offline_access(
    scene: Scene, wire: Wire
) -> None:
    def actions() -> list[Action]:
        scene.create_redeemed_grant(OFFLINE)
        return [("refresh", scene.refresh), ("refresh twice", scene.refresh_twice), ("sign out", scene.sign_out)]

    for order in every_order(wire, actions):
        ((successor,), (newest,)) = (refresh_tokens_of(order.results_of(name)) for name in ("refresh", "refresh twice"))
        for older in {scene.refresh_token, successor} - {newest}:
            assert refresh_tokens_of([scene.refresh(older)]) == [newest], order
        scene.assert_active(order)


def test_revocation_wins_over_concurrent_refreshes_of_the_successor(scene: Scene, wire: Wire) -> None:
    def actions() -> list[Action]:
        scene.create_redeemed_grant()
        refreshes: list[Action] = [("refresh twice", scene.refresh_twice)] * 2
        return [*refreshes, ("revoke", scene.revoke)]

    for order in every_order(wire, actions):
        scene.assert_revoked(order)


@pytest.mark.spec("RFC 9700 §4.14.2")
def test_reuse_revokes_the_grant_despite_a_concurrent_refresh(site: Site, scene: Scene, wire: Wire) -> None:
    def actions() -> list[Action]:
        scene.create_redeemed_grant(OFFLINE)
        successor = scene.refresh().json["refresh_token"]
        site.clock.advance(site.settings.refresh_token_retry_window)
        reuses: list[Action] = [("reuse", scene.refresh)] * 2
        return [*reuses, ("refresh", partial(scene.refresh, successor))]

    for order in every_order(wire, actions):
        assert not refresh_tokens_of(order.results_of("reuse")), order
        scene.assert_revoked(order)


# ---- codes


@pytest.mark.spec("RFC 6749 §4.1.2")
def test_code_redeemed_twice_and_with_a_wrong_verifier_leaves_no_valid_token(scene: Scene, wire: Wire) -> None:
    def actions() -> list[Action]:
        scene.create_code()
        wrong = partial(scene.redeem, code_verifier=VERIFIER[::-1])
        return [("redeem", scene.redeem), ("redeem", scene.redeem), ("wrong", wrong)]

    for order in every_order(wire, actions):
        assert len(refresh_tokens_of(order.results_of("redeem"))) <= 1, order
        assert not refresh_tokens_of(order.results_of("wrong")), order
        scene.assert_revoked(order)


@pytest.mark.spec("RFC 6749 §4.1.2")
def test_replay_revokes_a_grant_that_is_refreshed_or_revoked_concurrently(scene: Scene, wire: Wire) -> None:
    def redeem_then(use_token: Callable[[str], Answer]) -> Answer:
        answer = scene.redeem()
        if answer.status == 200:
            use_token(answer.json["refresh_token"])
        return answer

    def actions() -> list[Action]:
        scene.create_code()
        return [
            ("redeem and refresh", partial(redeem_then, scene.refresh)),
            ("redeem and revoke", partial(redeem_then, scene.revoke)),
        ]

    for order in every_order(wire, actions):
        assert sum(answer.status == 200 for _, answer in order.results) == 1, order
        scene.assert_revoked(order)


def test_redemption_with_a_wrong_redirect_uri_revokes_the_code_or_changes_nothing(scene: Scene, wire: Wire) -> None:
    def actions() -> list[Action]:
        scene.create_code()
        return [("redeem", scene.redeem), ("wrong", partial(scene.redeem, redirect_uri="https://evil.example"))]

    outcomes = set()
    for order in every_order(wire, actions):
        redeemed = bool(refresh_tokens_of(order.results_of("redeem")))
        outcomes.add(redeemed)
        if redeemed:
            scene.assert_active(order)
        else:
            scene.assert_revoked(order)
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
        scene.create_code()
        return [("unsigned", scene.redeem), ("redeem", scene.redeem)]

    redemptions = set()
    for order in every_order(wire, actions):
        redemptions.add(len(refresh_tokens_of(order.results_of("redeem"))))
        # The code may still be valid, but not after two more redemptions.
        scene.redeem()
        scene.redeem()
        scene.assert_revoked(order)
    assert redemptions == {0, 1}


# ---- creation of grants


def test_grant_created_while_its_session_ends_is_revoked(site: Site, scene: Scene, wire: Wire) -> None:
    def actions() -> list[Action]:
        scene.create_session()
        return [("authorize", partial(scene.browser.authorize, scene.client)), ("sign out", scene.sign_out)]

    statuses = set()
    for order in every_order(wire, actions):
        (answer,) = order.results_of("authorize")
        statuses.add(answer.status)
        scene.assert_no_valid_code(answer, order)
    assert statuses == {200, 302}


def test_grant_created_while_the_password_changes_is_revoked(site: Site, scene: Scene, wire: Wire) -> None:
    def actions() -> list[Action]:
        users = site.server.store.users
        users.put(scene.user)
        scene.create_session()
        change = partial(change_password, site.server.store, scene.user, "another pass phrase")
        return [("authorize", partial(scene.browser.authorize, scene.client)), ("change", change)]

    statuses = set()
    for order in every_order(wire, actions):
        (answer,) = order.results_of("authorize")
        statuses.add(answer.status)
        scene.assert_no_valid_code(answer, order)
        for grant in list(site.server.store.grants.scan()):
            site.server.store.grants.delete(grant.grant_id)
    assert statuses == {200, 302}


@pytest.mark.parametrize("decisions", [("allow_once", "deny"), ("allow_once", "allow_always")])
def test_request_with_two_concurrent_decisions_is_answered_once(
    site: Site, wire: Wire, decisions: tuple[str, ...]
) -> None:
    site.user("alice")
    client, browser = site.client(), GatewayBrowser(site, GATEWAYS[4])
    browser.sign_in(browser.authorize(client))

    def actions() -> list[Action]:
        page = browser.authorize(client, prompt="consent")
        return [(decision, partial(browser.send, page, decision=decision)) for decision in decisions]

    for order in every_order(wire, actions):
        assert sorted(answer.status for _, answer in order.results) == [303, 400], order


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
