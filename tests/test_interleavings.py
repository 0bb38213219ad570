"""Every order of the calls of several requests at once: one successor, revocation wins, nothing outlives its grant."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from chalicelib import sessions
from chalicelib.errors import TemporarilyUnavailable
from chalicelib.handles import new_id
from chalicelib.models import Grant, Session, User
from tests.browser import VERIFIER, Answer, Browser
from tests.faults import Wire
from tests.gateways import FRONTS, FrontBrowser
from tests.orders import Action, Order, every_order
from tests.shortcut import born
from tests.site import Registered, Site
from tests.threads import at_once

OPENID = frozenset({"openid", "email"})
OFFLINE = OPENID | {"offline_access"}


class Scene:
    """Somebody who is signed in, and a grant of theirs, anew in each order; and what can be done."""

    def __init__(self, site: Site, user: User, client: Registered):
        self.site, self.user, self.client = site, user, client
        self.browser = FrontBrowser(site, FRONTS[4])
        self.session: Session
        self.question: Answer
        self.grant: Grant
        self.code = self.refresh_token = ""
        self.access_tokens: list[str] = []
        self.begins = site.clock.time
        # What a server knows by itself after its first minute.
        site.server.keys.jwks()
        site.server.client(client.id)

    def signed_in(self, *grants: Grant) -> None:
        """A session in which these grants were born."""
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
        self.question = self.browser.get("/oauth2/logout")

    def waiting(self, scope: frozenset[str] = OPENID) -> None:
        """A code waits to be redeemed."""
        self.site.clock.time = self.begins
        self.grant = born(self.site, self.client, self.user, scope=scope)
        self.code = self.site.server.keys.make_handle("code", self.grant.grant_id)
        self.access_tokens = []

    def redeemed(self, scope: frozenset[str] = OPENID) -> None:
        """It has been redeemed, in a session."""
        self.waiting(scope)
        self.refresh_token = self.redeem().json["refresh_token"]
        self.signed_in(self.grant)

    # ---- what can be done

    def redeem(self, **parameters: Any) -> Answer:
        return self._noted(self.browser.redeem(self.client, self.code, **parameters))

    def refresh(self, refresh_token: str | None = None) -> Answer:
        return self._noted(self.browser.refresh(self.client, refresh_token or self.refresh_token))

    def refresh_twice(self) -> Answer:
        """And the successor, if there is one."""
        first = self.refresh()
        return self.refresh(first.json["refresh_token"]) if first.status == 200 else first

    def revoke(self, token: str | None = None) -> Answer:
        form = {"token": token or self.refresh_token, "client_id": self.client.id, "client_secret": self.client.secret}
        answer = self.browser.post("/oauth2/revoke", form)
        assert answer.status == 200
        return answer

    def log_out(self) -> Answer:
        """By the page that asks whether that is meant."""
        return self.browser.send(self.question, decision="sign_out")

    def _noted(self, answer: Answer) -> Answer:
        if answer.status == 200:
            self.access_tokens.append(answer.json["access_token"])
        else:
            assert answer.json["error"] in ("invalid_grant", "temporarily_unavailable")
        return answer

    # ---- what is to be seen

    def record(self) -> Grant:
        record = self.site.server.store.grants.get(self.grant.grant_id)
        assert record
        return record

    def assert_dead(self, order: Order) -> None:
        """Nothing that was ever given out opens anything."""
        for token in self.access_tokens:
            assert self.browser.userinfo(token).status == 401, order
        record = self.record()
        assert record.revoked_at is not None, order
        newest = self.site.server.keys.make_handle("rt", record.grant_id, record.generation)
        assert self.browser.refresh(self.client, newest).json["error"] == "invalid_grant", order
        assert self.browser.redeem(self.client, self.code).json["error"] == "invalid_grant", order

    def assert_dead_at_birth(self, answer: Answer, order: Order) -> None:
        """There is a code that is worth nothing, or the page that asks who it is."""
        if answer.status == 302:
            assert self.browser.redeem(self.client, answer.code).json["error"] == "invalid_grant", order
        else:
            assert "password" in answer.form.fields, order

    def assert_alive(self, order: Order) -> None:
        """All that was given out is good for something, and one refresh token is the current one."""
        assert self.record().revoked_at is None, order
        for token in self.access_tokens:
            assert self.browser.userinfo(token).status == 200, order


@pytest.fixture
def scene(site: Site) -> Scene:
    return Scene(site, site.user("alice"), site.client(trusted=True, scope="openid email profile offline_access"))


def given(answers: list[Answer]) -> list[str]:
    """The refresh tokens in those answers that have one."""
    return [answer.json["refresh_token"] for answer in answers if answer.status == 200]


# ---- refresh tokens


@pytest.mark.spec("RFC 7009 §2.1")
@pytest.mark.spec("RFC 9700 §4.14.2")
def test_refreshes_a_revocation_and_a_sign_out_leave_nothing_alive(scene: Scene, wire: Wire) -> None:
    def actions() -> list[Action]:
        scene.redeemed()
        refreshes: list[Action] = [("refresh", scene.refresh)] * 2
        return [*refreshes, ("revoke", scene.revoke), ("log out", scene.log_out)]

    orders = 0
    for order in every_order(wire, actions):
        orders += 1
        answers = order.results_of("refresh")
        assert len(set(given(answers))) <= 1, order
        # Whoever came before the end got a token, and whoever came after it got none.
        end = min(order.place("revoke: UpdateItem grants"), order.place("log out: UpdateItem grants", "log out: Trans"))
        assert len(given(answers)) == sum(call.startswith("refresh") for call in order.calls[:end]), order
        scene.assert_dead(order)
    assert orders >= 10


def test_refreshes_and_a_sign_out_leave_one_successor_to_a_grant_with_offline_access(scene: Scene, wire: Wire) -> None:
    def actions() -> list[Action]:
        scene.redeemed(OFFLINE)
        return [("refresh", scene.refresh), ("refresh twice", scene.refresh_twice), ("log out", scene.log_out)]

    for order in every_order(wire, actions):
        ((successor,), (newest,)) = (given(order.results_of(name)) for name in ("refresh", "refresh twice"))
        for older in {scene.refresh_token, successor} - {newest}:
            assert given([scene.refresh(older)]) == [newest], order
        scene.assert_alive(order)


def test_a_revocation_wins_over_refreshes_of_the_successor_too(scene: Scene, wire: Wire) -> None:
    def actions() -> list[Action]:
        scene.redeemed()
        refreshes: list[Action] = [("refresh twice", scene.refresh_twice)] * 2
        return [*refreshes, ("revoke", scene.revoke)]

    for order in every_order(wire, actions):
        scene.assert_dead(order)


@pytest.mark.spec("RFC 9700 §4.14.2")
def test_reuse_ends_the_grant_whatever_the_owner_does_meanwhile(site: Site, scene: Scene, wire: Wire) -> None:
    def actions() -> list[Action]:
        scene.redeemed(OFFLINE)
        successor = scene.refresh().json["refresh_token"]
        site.clock.advance(site.settings.refresh_token_retry_window)
        thefts: list[Action] = [("theft", scene.refresh)] * 2
        return [*thefts, ("refresh", partial(scene.refresh, successor))]

    for order in every_order(wire, actions):
        assert not given(order.results_of("theft")), order
        scene.assert_dead(order)


# ---- codes


@pytest.mark.spec("RFC 6749 §4.1.2")
def test_a_code_redeemed_twice_and_guessed_at_leaves_nothing_alive(scene: Scene, wire: Wire) -> None:
    def actions() -> list[Action]:
        scene.waiting()
        guess = partial(scene.redeem, code_verifier=VERIFIER[::-1])
        return [("redeem", scene.redeem), ("redeem", scene.redeem), ("guess", guess)]

    for order in every_order(wire, actions):
        assert len(given(order.results_of("redeem"))) <= 1, order
        assert not given(order.results_of("guess")), order
        scene.assert_dead(order)


@pytest.mark.spec("RFC 6749 §4.1.2")
def test_a_replay_ends_what_is_refreshed_or_revoked_meanwhile(scene: Scene, wire: Wire) -> None:
    def redeem_then(act: Callable[[str], Answer]) -> Answer:
        answer = scene.redeem()
        if answer.status == 200:
            act(answer.json["refresh_token"])
        return answer

    def actions() -> list[Action]:
        scene.waiting()
        return [
            ("redeem and refresh", partial(redeem_then, scene.refresh)),
            ("redeem and revoke", partial(redeem_then, scene.revoke)),
        ]

    for order in every_order(wire, actions):
        assert sum(answer.status == 200 for _, answer in order.results) == 1, order
        scene.assert_dead(order)


def test_a_guess_ends_a_code_or_changes_nothing(scene: Scene, wire: Wire) -> None:
    def actions() -> list[Action]:
        scene.waiting()
        return [("redeem", scene.redeem), ("guess", partial(scene.redeem, redirect_uri="https://evil.example"))]

    seen = set()
    for order in every_order(wire, actions):
        won = bool(given(order.results_of("redeem")))
        seen.add(won)
        if won:
            scene.assert_alive(order)
        else:
            scene.assert_dead(order)
    assert seen == {True, False}


def test_a_code_that_comes_back_because_nothing_was_signed_is_still_redeemed_once(
    site: Site, scene: Scene, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign = site.server.keys.sign

    def sign_for_some(*claims: Any) -> str:
        if threading.current_thread().name == "unsigned":
            raise TemporarilyUnavailable(detail="kms Sign")
        return sign(*claims)

    monkeypatch.setattr(site.server.keys, "sign", sign_for_some)

    def actions() -> list[Action]:
        scene.waiting()
        return [("unsigned", scene.redeem), ("redeem", scene.redeem)]

    won = set()
    for order in every_order(wire, actions):
        won.add(len(given(order.results_of("redeem"))))
        # It may still be good for something, but never again after this.
        scene.redeem()
        scene.redeem()
        scene.assert_dead(order)
    assert won == {0, 1}


# ---- birth


def test_whatever_is_born_while_its_session_ends_ends_with_it(site: Site, scene: Scene, wire: Wire) -> None:
    def actions() -> list[Action]:
        scene.signed_in()
        return [("authorize", partial(scene.browser.authorize, scene.client)), ("log out", scene.log_out)]

    seen = set()
    for order in every_order(wire, actions):
        (answer,) = order.results_of("authorize")
        seen.add(answer.status)
        scene.assert_dead_at_birth(answer, order)
    assert seen == {200, 302}


def test_whatever_is_born_while_the_password_changes_ends_with_it(site: Site, scene: Scene, wire: Wire) -> None:
    def actions() -> list[Action]:
        users = site.server.store.users
        users.put(scene.user)
        scene.signed_in()
        change = partial(sessions.change_password, site.server.store, scene.user, "another pass phrase")
        return [("authorize", partial(scene.browser.authorize, scene.client)), ("change", change)]

    seen = set()
    for order in every_order(wire, actions):
        (answer,) = order.results_of("authorize")
        seen.add(answer.status)
        scene.assert_dead_at_birth(answer, order)
        for grant in list(site.server.store.grants.scan()):
            site.server.store.grants.delete(grant.grant_id)
    assert seen == {200, 302}


@pytest.mark.parametrize("decisions", [("allow_once", "deny"), ("allow_once", "allow_always")])
def test_a_request_is_answered_once_whatever_is_decided(site: Site, wire: Wire, decisions: tuple[str, ...]) -> None:
    site.user("alice")
    client, browser = site.client(), FrontBrowser(site, FRONTS[4])
    browser.sign_in(browser.authorize(client))

    def actions() -> list[Action]:
        page = browser.authorize(client, prompt="consent")
        return [(decision, partial(browser.send, page, decision=decision)) for decision in decisions]

    for order in every_order(wire, actions):
        assert sorted(answer.status for _, answer in order.results) == [303, 400], order


# ---- as it happens


@pytest.mark.spec("RFC 7009 §2.1")
def test_twenty_refreshes_a_revocation_and_a_sign_out_in_threads_leave_nothing_alive(
    site: Site, browsers: Callable[..., Browser]
) -> None:
    site.user("alice")
    client = site.client(trusted=True)
    makers = [browsers() for _ in range(22)]
    owner, revoker = makers[:2]
    for _ in range(3):
        tokens = owner.tokens(client)
        form = {"token": tokens["access_token"], "client_id": client.id, "client_secret": client.secret}
        actions = [partial(maker.refresh, client, tokens["refresh_token"]) for maker in makers[2:]]
        signing_out = partial(owner.send, owner.get("/oauth2/logout"), decision="sign_out")
        actions[5:5] = [partial(revoker.post, "/oauth2/revoke", form), signing_out]
        answers = [answer for answer in at_once(actions) if answer.url == "/oauth2/token"]
        winners = [answer for answer in answers if answer.status == 200]
        assert len(answers) == 20
        assert len({answer.json["refresh_token"] for answer in winners}) <= 1
        for members in [tokens, *(answer.json for answer in winners)]:
            assert owner.userinfo(members["access_token"]).status == 401
            assert owner.refresh(client, members["refresh_token"]).json["error"] == "invalid_grant"
