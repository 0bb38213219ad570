"""Back-channel logout when all sessions of a user end by one write: each client is told of each session once."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import jwt
import pytest

from chalicelib import events
from chalicelib.aws.messages import Request, Response
from chalicelib.protocol.durations import MINUTE
from chalicelib.protocol.records import Session
from chalicelib.sessions import backchannel_logout
from chalicelib.sessions.backchannel_logout import SECOND_SEARCH
from chalicelib.storage.table import Refused
from chalicelib.tokens.subjects import sid
from chalicelib.users import accounts
from chalicelib.users.password_change import change_password
from infra.local.faults import IndexLag
from tests.endpoints.logout.conftest import Browsers, Receivers, log_out, outbox_of, register_client, sessions_of
from tests.support import faults
from tests.support.account import account_form, submit_form
from tests.support.browser import Browser
from tests.support.faults import Wire
from tests.support.run_time import let_runs_read
from tests.support.site import PASSWORD, Site

NEW_PASSWORD = "quite another password"
NEW = {"password": PASSWORD, "new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}
End = Callable[[Browser], object]


class World:
    """Alice, signed in in several browsers, with two clients that get logout tokens and one that does not."""

    def __init__(self, op: Site, browsers: Browsers, receivers: Receivers):
        self.op, self._open = op, browsers
        self.receivers = [receivers(), receivers()]
        self.clients = [register_client(op, receiver) for receiver in self.receivers]
        self.other_client = op.client(trusted=True)
        self.browser = browsers(op)
        for client in (*self.clients, self.other_client):
            self.browser.tokens(client)
        self.kept = self.sessions()[0]
        second, third = browsers(op), browsers(op)
        second.tokens(self.clients[0])
        third.tokens(self.other_client)

    def sessions(self) -> list[Session]:
        return sessions_of(self.op)

    def expected(self, sessions: list[Session]) -> set[tuple[str, str]]:
        """Return what clients must be told about these sessions: each client with its `sid`."""
        return {
            (client_id, sid(session.session_id, client_id))
            for session in sessions
            for client_id in session.backchannel_clients
        }

    def received(self) -> list[tuple[str, str]]:
        """Return what clients were told."""
        tokens = [token for receiver in self.receivers for token in receiver.tokens]
        claims = [jwt.decode(token, options={"verify_signature": False}) for token in tokens]
        return [(each["aud"], each["sid"]) for each in claims]

    def add_sessions(self, number: int) -> None:
        """Store further sessions of alice in which the first client was used."""
        for each in range(number):
            self.op.server.store.sessions.put(
                replace(
                    self.kept,
                    session_id=f"{self.kept.sub}.added-{each}",
                    backchannel_clients=frozenset({self.clients[0].id}),
                )
            )

    def deliver_and_search_again(self) -> None:
        """Run the schedule now and when it searches for sessions again."""
        self.op.run("deliver")
        self.op.clock.advance(SECOND_SEARCH)
        self.op.run("deliver")


@pytest.fixture
def world(op: Site, browsers: Browsers, receivers: Receivers) -> World:
    op.secrets.add(NEW_PASSWORD)
    return World(op, browsers, receivers)


# ---- endings


def disable(browser: Browser) -> None:
    accounts.disable(browser.site.server.store, browser.site.read_user())


def disable_and_enable(browser: Browser) -> None:
    store = browser.site.server.store
    accounts.enable(store, accounts.disable(store, browser.site.read_user()))


def sign_out(browser: Browser) -> None:
    accounts.sign_out(browser.site.server.store, browser.site.read_user())


def set_password(browser: Browser) -> None:
    change_password(browser.site.server.store, browser.site.read_user(), NEW_PASSWORD)


def delete(browser: Browser) -> None:
    accounts.delete(browser.site.server.store, browser.site.read_user())


def sign_out_others(browser: Browser) -> None:
    page = browser.get("/account/browsers")
    assert browser.send(page, None, action="sign_out_others").status == 303


def change_own_password(browser: Browser) -> None:
    page = browser.get("/account/password")
    assert browser.send(page, None, action="change_password", **NEW).status == 303


def change_required_password(browser: Browser) -> None:
    site = browser.site
    site.server.store.users.put(replace(site.read_user(), password_change_required=True))
    page = browser.authorize(site.client(trusted=True))
    assert browser.submit(page, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD).code


ALL: list[End] = [disable, disable_and_enable, sign_out, set_password, delete]
KEEPING: list[End] = [sign_out_others, change_own_password, change_required_password]


@pytest.mark.parametrize("end", [*ALL, *KEEPING])
def test_each_client_of_each_ended_session_is_told_once(world: World, end: End) -> None:
    before = world.sessions()
    ended = [session for session in before if end in ALL or session != world.kept]
    end(world.browser)
    assert world.received() == [], "the user does not wait for the deliveries"
    world.op.run("deliver")
    assert sorted(world.received()) == sorted(world.expected(ended))
    (delivery,) = outbox_of(world.op)
    assert delivery.not_before == delivery.created_at + SECOND_SEARCH
    world.op.clock.advance(SECOND_SEARCH)
    world.op.run("deliver")
    assert sorted(world.received()) == sorted(world.expected(ended))
    assert outbox_of(world.op) == []


@pytest.mark.parametrize("end", [*ALL, *KEEPING])
def test_session_that_the_index_shows_later_is_told_by_the_second_search(world: World, end: End, wire: Wire) -> None:
    ended = [session for session in world.sessions() if end in ALL or session != world.kept]
    end(world.browser)

    def empty_index(request: Request, proceed: faults.Proceed) -> Response:
        if faults.parameters_of(request).get("IndexName") != "sub":
            return proceed()
        return faults.answer(request, '{"Items": [], "Count": 0, "ScannedCount": 0}')

    with wire.every("Query", empty_index):
        world.op.run("deliver")
    assert world.received() == []
    world.op.clock.advance(SECOND_SEARCH - 1)
    world.op.run("deliver")
    assert world.received() == []
    world.op.clock.advance(1)
    world.op.run("deliver")
    assert sorted(world.received()) == sorted(world.expected(ended))


@pytest.mark.parametrize("end", KEEPING)
def test_session_that_was_kept_is_not_told_when_the_index_shows_it_as_before(
    world: World, end: End, wire: Wire
) -> None:
    before: list[bytes] = []

    def keep_answer(_request: Request, proceed: faults.Proceed) -> Response:
        response = proceed()
        before.append(response.body)
        return response

    with wire.every("Query", keep_answer):
        sessions = list(world.op.server.store.sessions.find("sub", world.kept.sub, index="sub"))
    end(world.browser)

    def answer_as_before(request: Request, proceed: faults.Proceed) -> Response:
        of_sessions = faults.parameters_of(request).get("IndexName") == "sub"
        return faults.answer(request, before[0].decode()) if of_sessions else proceed()

    with wire.every("Query", answer_as_before):
        world.op.run("deliver")
    assert sorted(world.received()) == sorted(world.expected([each for each in sessions if each != world.kept]))
    assert world.browser.get("/account").status == 200


def test_session_that_is_kept_again_during_the_search_is_not_told(world: World, wire: Wire) -> None:
    """The user was read before."""
    form = account_form(world.browser, "sign_out_others")
    ended = [session for session in world.sessions() if session != world.kept]

    def sign_out_again() -> None:
        assert submit_form(world.browser, form).status == 303

    sign_out_again()
    with wire.before("Query", sign_out_again, skip=1):  # the first one reads the outbox
        world.op.run("deliver")
    assert sorted(world.received()) == sorted(world.expected(ended))
    assert world.browser.get("/account").status == 200


def test_session_that_was_kept_is_told_when_it_ends(world: World) -> None:
    hint = world.browser.tokens(world.clients[0])["id_token"]
    sign_out_others(world.browser)
    world.op.run("deliver")
    assert log_out(world.browser, id_token_hint=hint).status == 200
    world.deliver_and_search_again()
    assert sorted(world.received()) == sorted(world.expected(world.sessions()))


@pytest.mark.parametrize("order", ["sign-out first", "sign-out last"])
def test_session_that_is_signed_out_too_is_told_once(world: World, order: str) -> None:
    hint = world.browser.tokens(world.clients[0])["id_token"]
    if order == "sign-out first":
        log_out(world.browser, id_token_hint=hint)
    sign_out(world.browser)
    if order == "sign-out last":
        log_out(world.browser, id_token_hint=hint)
    world.deliver_and_search_again()
    assert sorted(world.received()) == sorted(world.expected(world.sessions()))


def test_two_endings_tell_each_client_once(world: World) -> None:
    sign_out(world.browser)
    disable(world.browser)
    assert len(outbox_of(world.op)) == 2
    world.deliver_and_search_again()
    assert sorted(world.received()) == sorted(world.expected(world.sessions()))
    assert outbox_of(world.op) == []


def test_deletion_keeps_a_session_whose_client_the_index_does_not_show_yet(
    op: Site, browsers: Browsers, receivers: Receivers, index_lag: IndexLag
) -> None:
    """The client must still be told."""
    receiver, browser = receivers(), browsers(op)
    client = register_client(op, receiver)
    index_lag.reset(op.clock)
    browser.tokens(op.client(trusted=True))
    index_lag.seconds = 5
    op.clock.advance(5)
    browser.tokens(client)
    store = op.server.store
    (indexed,), (session,) = store.sessions.find("sub", op.read_user().sub, index="sub"), sessions_of(op)
    assert indexed.backchannel_clients == frozenset()
    assert session.backchannel_clients == {client.id}
    delete(browser)
    assert list(store.users.scan()) == []
    for pause in (SECOND_SEARCH, MINUTE, MINUTE):  # the index of the outbox lags too
        op.run("deliver")
        op.clock.advance(pause)
    (token,) = receiver.tokens
    assert jwt.decode(token, options={"verify_signature": False})["sid"] == sid(session.session_id, client.id)


def test_session_of_a_new_sign_in_is_not_told(world: World) -> None:
    old = world.sessions()
    sign_out(world.browser)
    world.browser.cookies.clear()
    world.browser.tokens(world.clients[0])
    world.deliver_and_search_again()
    assert sorted(world.received()) == sorted(world.expected(old))
    assert world.browser.get("/account").status == 200


def test_session_of_a_user_imported_again_is_not_told(world: World) -> None:
    """Generations are random, so that those of the new user may be lower."""
    old, user, store = world.sessions(), world.op.read_user(), world.op.server.store
    (identifier,) = store.identifiers.scan()
    delete(world.browser)
    store.users.put(replace(user, sessions_generation=user.sessions_generation - 5))
    store.identifiers.put(identifier)
    world.browser.cookies.clear()
    world.browser.tokens(world.clients[0])
    world.deliver_and_search_again()
    assert sorted(world.received()) == sorted(world.expected(old))
    assert world.browser.get("/account").status == 200


def test_client_that_is_added_during_the_search_is_told(world: World, wire: Wire) -> None:
    """A request in flight adds it to sessions that were read before, also to one that had no such client."""
    store = world.op.server.store
    added = {"backchannel_clients": frozenset({world.clients[1].id})}
    sign_out(world.browser)

    def add_client() -> None:
        for session in world.sessions():
            adding = store.sessions.changing((session.session_id,), None, add=added)
            assert not isinstance(store.sessions.write(adding), Refused)

    with wire.before("TransactWriteItems", add_client):
        world.deliver_and_search_again()
    assert len(world.expected(world.sessions())) == 5
    assert sorted(world.received()) == sorted(world.expected(world.sessions()))


def test_ending_without_clients_to_be_told_ends_without_a_delivery(op: Site, browsers: Browsers) -> None:
    browser = browsers(op)
    browser.tokens(op.client(trusted=True))
    sign_out(browser)
    op.run("deliver")
    op.clock.advance(SECOND_SEARCH)
    op.run("deliver")
    assert outbox_of(op) == []
    (session,) = sessions_of(op)
    assert session.ended_at is None, "no write where no client must be told"


# ---- time and failures


@pytest.fixture
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let half a second pass whenever the time is read, so that few sessions and attempts fit into a run."""
    monkeypatch.setattr(backchannel_logout, "MAX_PARALLEL", 1)
    half_seconds = count()
    let_runs_read(monkeypatch, lambda: next(half_seconds) / 2)


def test_run_that_is_cut_off_by_its_time_continues_in_the_next_one(world: World, short_runs: None) -> None:
    world.add_sessions(20)
    sessions = world.sessions()
    sign_out(world.browser)
    numbers = [0]
    while numbers[-1] < len(world.expected(sessions)) and len(numbers) < SECOND_SEARCH // 60:
        world.op.run("deliver")
        world.op.clock.advance(60)
        numbers.append(len(world.received()))
    assert 0 < numbers[1] < numbers[2] < len(world.expected(sessions)), "a run does as much as it can"
    assert sorted(world.received()) == sorted(world.expected(sessions))
    world.op.clock.advance(SECOND_SEARCH)
    world.op.run("deliver")
    assert sorted(world.received()) == sorted(world.expected(sessions))
    assert outbox_of(world.op) == []


def test_sessions_of_one_user_do_not_delay_the_tokens_of_another(
    world: World, browsers: Browsers, receivers: Receivers, short_runs: None
) -> None:
    world.add_sessions(50)
    sign_out(world.browser)
    receiver, bob = receivers(), browsers(world.op)
    world.op.user("bob")
    client = register_client(world.op, receiver)
    tokens = bob.redeem(client, bob.sign_in(bob.authorize(client), "bob").code).json
    assert log_out(bob, id_token_hint=tokens["id_token"]).status == 200
    world.op.clock.advance(1)
    world.op.run("deliver")
    assert len(receiver.tokens) == 1


def test_failed_search_does_not_block_the_tokens_of_another_user(
    world: World, browsers: Browsers, receivers: Receivers, wire: Wire
) -> None:
    receiver, bob = receivers(), browsers(world.op)
    sessions = world.sessions()
    sign_out(world.browser)
    world.op.user("bob")
    client = register_client(world.op, receiver)
    tokens = bob.redeem(client, bob.sign_in(bob.authorize(client), "bob").code).json
    assert log_out(bob, id_token_hint=tokens["id_token"]).status == 200
    with wire.fault_in("Query", faults.throttled, skip=1):  # the first one reads the outbox
        world.op.run("deliver")
    assert len(receiver.tokens) == 1
    assert world.received() == []
    world.op.run("deliver")
    assert sorted(world.received()) == sorted(world.expected(sessions))


def test_search_that_is_interrupted_tells_each_client_once(world: World, wire: Wire) -> None:
    world.add_sessions(5)
    sessions = world.sessions()
    sign_out(world.browser)
    with wire.fault_in("TransactWriteItems", faults.unreachable, skip=3):
        world.op.run("deliver")
    world.deliver_and_search_again()
    assert sorted(world.received()) == sorted(world.expected(sessions))


def test_ending_that_is_not_stored_tells_no_client(world: World, wire: Wire) -> None:
    page = world.browser.get("/account/browsers")
    with wire.fault_in("TransactWriteItems", faults.unreachable):
        assert world.browser.send(page, None, action="sign_out_others").status == 503
    assert outbox_of(world.op) == []
    world.op.run("deliver")
    assert world.received() == []
    assert not [event for event in world.op.server.store.events.scan() if event.name == events.SIGNED_OUT]
