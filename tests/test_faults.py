"""DynamoDB throttled, out of reach, failing, or silent after it has written: at each call of each endpoint."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from chalicelib import passwords
from chalicelib.keys import RING
from chalicelib.models import Identifier, User
from chalicelib.table import Table
from tests import faults
from tests.browser import CHALLENGE, Answer, Browser, basic
from tests.faults import ALWAYS, Fault, Wire
from tests.site import PASSWORD, Registered, Site, tables

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

NEW_PASSWORD = "a new password of her own"
# test_store shows that all other faults are like one of these.
FOR_GOOD: list[Fault] = [faults.unreachable, faults.throttled, faults.answer_lost]
FOR_ONCE: list[Fault] = [faults.unreachable, faults.answer_lost, faults.conflict]
WRITES = ("PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems")
R = TypeVar("R", bound="DataclassInstance")


@dataclass
class World:
    """Everything that happened before the request under test, to be had again and again."""

    site: Site
    browser: Browser
    wire: Wire
    user: User
    client: Registered
    _saved: dict[str, Any] = field(default_factory=dict)

    def save(self) -> None:
        items = {name: copy.deepcopy(table.items) for name, table in tables().items()}
        self._saved = {"items": items, "cookies": dict(self.browser.cookies)}

    def restore(self) -> None:
        for name, table in tables().items():
            table.items = copy.deepcopy(self._saved["items"][name])
        self.browser.cookies = dict(self._saved["cookies"])
        # No client is kept: reading it is a call that can fail, too.
        self.site.server._clients.clear()

    def stored(self, table: Table[R]) -> list[R]:
        """All records of a table, read without a call."""
        items = tables()[table.name].all_items()
        return [record for item in items if (record := table.live(item.to_json()["Attributes"]))]

    def check(self, *, denied: bool = False) -> None:
        """What holds whatever went wrong: a grant is born with its session, its request and its consent, or not."""
        store = self.site.server.store
        grants, sessions = self.stored(store.grants), self.stored(store.sessions)
        noted = {grant_id: session.session_id for session in sessions for grant_id in session.grants}
        assert noted == {grant.grant_id: grant.session_id for grant in grants}
        assert all((grant.generation > 0) == (grant.redeemed_at is not None) for grant in grants)
        taken = [request for request in self.stored(store.requests) if request.taken_at is not None]
        assert len(taken) <= len(grants) + denied
        assert len(self.stored(store.consents)) <= len(grants)

    # ---- how the flow goes on

    def sign_in_works(self, answer: Answer) -> None:
        assert answer.status == 200, answer.body
        self.consent_works(self.browser.sign_in(answer))

    def consent_works(self, answer: Answer) -> None:
        answer = self.browser.follow(answer)
        assert answer.status == 200, answer.body
        self.code_works(self.browser.submit(answer, decision="allow_once"))

    def code_works(self, answer: Answer) -> None:
        self.tokens_work(self.browser.redeem(self.client, answer.code))

    def tokens_work(self, answer: Answer) -> None:
        assert answer.status == 200, answer.body
        assert self.browser.userinfo(answer.json["access_token"]).json["sub"] == self.user.sub
        refreshed = self.browser.refresh(self.client, answer.json["refresh_token"])
        assert refreshed.status == 200, refreshed.body


@dataclass
class Act:
    """The request under test.

    `ends` takes its answer to the end of the flow, where everything must work. `shown`: so many of its calls are made
    before the recipient is known; what fails later goes there by redirect (None: nothing does). `spends`: the call
    after which the same request cannot come again; `spent` checks what it gets then. `again`: what follows a failure.
    """

    do: Callable[[], Answer]
    ends: Callable[[Answer], None]
    shown: int | None = None
    spends: str | None = None
    spent: Callable[[Answer], None] = lambda _answer: None
    again: Callable[[], None] | None = None
    denies: bool = False


def answered_already(answer: Answer) -> None:
    assert answer.status == 400
    assert "answered already" in answer.body


def invalid_grant(answer: Answer) -> None:
    assert answer.status == 400
    assert answer.json["error"] == "invalid_grant"


# ---- the requests


def authorize_as_a_stranger(world: World) -> Act:
    return Act(partial(world.browser.authorize, world.client), world.sign_in_works, shown=1)


def authorize_by_post(world: World) -> Act:
    request = {
        "response_type": "code",
        "client_id": world.client.id,
        "redirect_uri": world.client.record.redirect_uris[0],
        "state": "af0ifjsldkj",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }

    def ends(answer: Answer) -> None:
        world.sign_in_works(world.browser.request("GET", answer.location))

    return Act(partial(world.browser.post, "/oauth2/authorize", request), ends, shown=1)


def continue_what_was_posted(world: World) -> Act:
    stored = authorize_by_post(world).do()
    do = partial(world.browser.request, "GET", stored.location)

    def spent(answer: Answer) -> None:
        """It is bound to a browser that has never got its cookie."""
        assert answer.status == 400
        assert "another browser" in answer.body

    return Act(do, world.sign_in_works, shown=3, spends="UpdateItem", spent=spent)


def authorize_with_a_session_and_remembered_consent(world: World) -> Act:
    world.browser.code(world.client, decision="allow_always")
    return Act(partial(world.browser.authorize, world.client), world.code_works, shown=1)


def authorize_with_a_session(world: World) -> Act:
    world.browser.code(world.client)
    return Act(partial(world.browser.authorize, world.client), world.consent_works, shown=1)


def sign_in(world: World) -> Act:
    page = world.browser.authorize(world.client)
    return Act(partial(world.browser.send, page, username="alice", password=PASSWORD), world.consent_works, shown=2)


def sign_in_again(world: World) -> Act:
    world.browser.code(world.client)
    page = world.browser.authorize(world.client, prompt="login")
    return Act(partial(world.browser.send, page, username="alice", password=PASSWORD), world.consent_works, shown=2)


def sign_in_instead_of_somebody_else(world: World) -> Act:
    other = replace(world.user, sub="another", username="bob")
    world.site.server.store.users.put(other)
    world.site.server.store.identifiers.put(Identifier("username:bob", other.sub))
    page = world.browser.authorize(world.client)
    world.browser.submit(world.browser.sign_in(page, "bob"), decision="allow_once")
    page = world.browser.authorize(world.client, prompt="login")
    return Act(partial(world.browser.send, page, username="alice", password=PASSWORD), world.consent_works, shown=2)


def sign_in_with_remembered_consent(world: World) -> Act:
    world.browser.code(world.client, decision="allow_always")
    world.browser.cookies.clear()
    page = world.browser.authorize(world.client)
    return Act(
        partial(world.browser.send, page, username="alice", password=PASSWORD),
        world.code_works,
        shown=2,
        spends="TransactWriteItems",
        spent=lambda answer: None if answer.status in (302, 303) else answered_already(answer),
    )


def wrong_password(world: World) -> Act:
    page = world.browser.authorize(world.client)

    def ends(answer: Answer) -> None:
        assert answer.status == 400
        world.consent_works(world.browser.sign_in(answer))

    return Act(partial(world.browser.send, page, username="alice", password="wrong password"), ends, shown=2)


def allow_once(world: World) -> Act:
    page = world.browser.sign_in(world.browser.authorize(world.client))
    do = partial(world.browser.send, page, decision="allow_once")
    return Act(do, world.code_works, shown=2, spends="TransactWriteItems", spent=answered_already)


def allow_always(world: World) -> Act:
    page = world.browser.sign_in(world.browser.authorize(world.client))

    def ends(answer: Answer) -> None:
        world.code_works(answer)
        world.code_works(world.browser.authorize(world.client))

    do = partial(world.browser.send, page, decision="allow_always")
    return Act(do, ends, shown=2, spends="TransactWriteItems", spent=answered_already)


def deny(world: World) -> Act:
    page = world.browser.sign_in(world.browser.authorize(world.client))

    def ends(answer: Answer) -> None:
        assert answer.answer["error"] == "access_denied"
        assert list(world.site.server.store.grants.scan()) == []

    do = partial(world.browser.send, page, decision="deny")
    return Act(do, ends, shown=2, spends="TransactWriteItems", spent=answered_already, denies=True)


def change_password(world: World) -> Act:
    earlier = world.browser.tokens(world.client, scope="openid offline_access")
    world.browser.cookies.clear()
    world.site.server.store.users.put(replace(world.user, password_change_required=True))
    page = world.browser.sign_in(world.browser.authorize(world.client))

    def ends(answer: Answer) -> None:
        assert world.browser.refresh(world.client, earlier["refresh_token"]).json["error"] == "invalid_grant"
        world.consent_works(answer)

    def again() -> None:
        """The person starts again; one of the two passwords is the one in force."""
        world.browser.cookies.clear()
        page = world.browser.authorize(world.client)
        answer = world.browser.sign_in(page, password=NEW_PASSWORD)
        if answer.status == 400:
            answer = world.browser.sign_in(answer)
            answer = world.browser.submit(answer, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD)
        # Whatever failed before: with the new password in force, no token of before is good for anything.
        ends(answer)

    do = partial(world.browser.send, page, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD)
    return Act(do, ends, shown=2, again=again)


def code_by_basic(world: World) -> Act:
    do = partial(world.browser.authorize, world.client, "/oauth2/code", headers=basic("alice", PASSWORD))
    return Act(do, world.consent_works, shown=1)


def code_by_basic_with_remembered_consent(world: World) -> Act:
    world.browser.code(world.client, decision="allow_always")
    return replace(code_by_basic(world), ends=world.code_works)


def code_exchange(world: World) -> Act:
    code = world.browser.code(world.client)
    do = partial(world.browser.redeem, world.client, code)
    return Act(do, world.tokens_work, spends="UpdateItem", spent=invalid_grant)


def code_exchange_with_a_wrong_verifier(world: World) -> Act:
    code = world.browser.code(world.client)

    def ends(answer: Answer) -> None:
        invalid_grant(answer)
        invalid_grant(world.browser.redeem(world.client, code))

    return Act(partial(world.browser.redeem, world.client, code, code_verifier="w" * 43), ends)


def replayed_code(world: World) -> Act:
    code = world.browser.code(world.client)
    tokens = world.browser.redeem(world.client, code).json

    def ends(answer: Answer) -> None:
        invalid_grant(answer)
        invalid_grant(world.browser.refresh(world.client, tokens["refresh_token"]))

    return Act(partial(world.browser.redeem, world.client, code), ends)


def refresh(world: World) -> Act:
    tokens = world.browser.tokens(world.client)
    return Act(partial(world.browser.refresh, world.client, tokens["refresh_token"]), world.tokens_work)


def reused_refresh_token(world: World) -> Act:
    tokens = world.browser.tokens(world.client)
    current = world.browser.refresh(world.client, tokens["refresh_token"]).json
    world.site.clock.advance(60)

    def ends(answer: Answer) -> None:
        invalid_grant(answer)
        invalid_grant(world.browser.refresh(world.client, current["refresh_token"]))

    return Act(partial(world.browser.refresh, world.client, tokens["refresh_token"]), ends)


def userinfo(world: World) -> Act:
    tokens = world.browser.tokens(world.client)

    def ends(answer: Answer) -> None:
        assert answer.json["sub"] == world.user.sub

    return Act(partial(world.browser.userinfo, tokens["access_token"]), ends)


def revoke(world: World) -> Act:
    tokens = world.browser.tokens(world.client)
    form = {"token": tokens["refresh_token"], "client_id": world.client.id, "client_secret": world.client.secret}

    def ends(answer: Answer) -> None:
        assert answer.status == 200
        invalid_grant(world.browser.refresh(world.client, tokens["refresh_token"]))
        assert world.browser.userinfo(tokens["access_token"]).status == 401

    return Act(partial(world.browser.post, "/oauth2/revoke", form), ends)


def _with_a_cold_ring(world: World, do: Callable[[], Answer]) -> Answer:
    world.site.server.keys._known = None
    return do()


def keys_on_a_cold_ring(world: World) -> Act:
    before = world.browser.get("/oauth2/jwks").json

    def ends(answer: Answer) -> None:
        assert answer.json == before

    return Act(partial(_with_a_cold_ring, world, partial(world.browser.get, "/oauth2/jwks")), ends)


def metadata_on_a_cold_ring(world: World) -> Act:
    def ends(answer: Answer) -> None:
        assert answer.json["issuer"] == world.site.settings.issuer

    path = "/.well-known/openid-configuration"
    return Act(partial(_with_a_cold_ring, world, partial(world.browser.get, path)), ends)


def the_first_request_of_all(world: World) -> Act:
    world.site.server.store.keys.delete(RING)

    def ends(answer: Answer) -> None:
        keys = answer.json
        world.site.server.keys._known = None
        assert world.browser.get("/oauth2/jwks").json == keys

    return Act(partial(_with_a_cold_ring, world, partial(world.browser.get, "/oauth2/jwks")), ends)


def authorize_on_a_cold_ring(world: World) -> Act:
    """Whoever has a cookie: it cannot be read without the ring."""
    world.browser.code(world.client)
    do = partial(_with_a_cold_ring, world, partial(world.browser.authorize, world.client))
    return Act(do, world.consent_works, shown=1)


def refresh_on_a_cold_ring(world: World) -> Act:
    act = refresh(world)
    return replace(act, do=partial(_with_a_cold_ring, world, act.do))


SCENARIOS: list[Callable[[World], Act]] = [
    authorize_as_a_stranger,
    authorize_by_post,
    continue_what_was_posted,
    authorize_with_a_session_and_remembered_consent,
    authorize_with_a_session,
    sign_in,
    sign_in_again,
    sign_in_instead_of_somebody_else,
    sign_in_with_remembered_consent,
    wrong_password,
    allow_once,
    allow_always,
    deny,
    change_password,
    code_by_basic,
    code_by_basic_with_remembered_consent,
    code_exchange,
    code_exchange_with_a_wrong_verifier,
    replayed_code,
    refresh,
    reused_refresh_token,
    userinfo,
    revoke,
    keys_on_a_cold_ring,
    metadata_on_a_cold_ring,
    the_first_request_of_all,
    authorize_on_a_cold_ring,
    refresh_on_a_cold_ring,
]


@pytest.fixture
def world(site: Site, browser: Browser) -> Iterator[World]:
    """A person and a client; the key ring that all tests share is there again afterwards."""
    known, ring = site.server.keys._known, site.server.store.keys.get(RING)
    user = User("alices-own-id", "alice", passwords.hash_password(PASSWORD), {})
    site.server.store.users.put(user)
    site.server.store.identifiers.put(Identifier("username:alice", user.sub))
    site.secrets.update([PASSWORD, NEW_PASSWORD])
    with faults.wire() as wire:
        yield World(site, browser, wire, user, site.client(direct_sign_in=True))
    site.server.keys._known = known
    if ring:
        site.server.store.keys.put(ring)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_one_lost_try_at_any_call_changes_nothing(world: World, scenario: Callable[[World], Act]) -> None:
    """botocore tries again: every flow ends in full success, and nothing is revoked by our own second try."""
    act = scenario(world)
    calls, good = _without_fault(world, act)
    for number, operation in enumerate(calls):
        for fault in FOR_ONCE if operation in WRITES else FOR_ONCE[:1]:
            world.restore()
            with world.wire.fault(number, fault, tries=1):
                answer = act.do()
            assert _shape(answer) == _shape(good), f"{fault.__name__} at {operation}, call {number}: {answer}"
            world.check(denied=act.denies)
            if fault is faults.answer_lost:
                act.ends(answer)
                world.check(denied=act.denies)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_call_that_fails_for_good_is_temporarily_unavailable(world: World, scenario: Callable[[World], Act]) -> None:
    """Never a 500, never half a grant; and who tries again later succeeds."""
    act = scenario(world)
    calls, good = _without_fault(world, act)
    for number, operation in enumerate(calls):
        for fault in FOR_GOOD if operation in WRITES else FOR_GOOD[:2]:
            world.restore()
            with world.wire.fault(number, fault, tries=ALWAYS):
                answer = act.do()
            place = f"{fault.__name__} at {operation}, call {number}: {answer}"
            _assert_unavailable(world, answer, by_redirect=act.shown is not None and number >= act.shown, place=place)
            world.check(denied=act.denies)
            if fault is faults.throttled:
                continue  # what follows is the same as after `unreachable`
            if act.again:
                act.again()
            elif fault is faults.answer_lost and operation == act.spends:
                act.spent(act.do())
            else:
                answer = act.do()
                assert _shape(answer) == _shape(good), f"again after {place}: {answer}"
                if operation in WRITES:
                    act.ends(answer)
            world.check(denied=act.denies)


def _without_fault(world: World, act: Act) -> tuple[list[str], Answer]:
    """The calls that the request makes when nothing goes wrong, and its answer, which is good to the end."""
    world.save()
    world.restore()
    with world.wire.counted() as calls:
        answer = act.do()
        made = list(calls)
    act.ends(answer)
    world.check(denied=act.denies)
    return made, answer


def _shape(answer: Answer) -> tuple[int, set[str]]:
    """What two good answers to the same request have in common."""
    if answer.status in (302, 303):
        return answer.status, set(answer.answer)
    is_json = (answer.header("content-type") or "").startswith("application/json") and answer.body
    return answer.status, set(answer.json) if is_json else set(answer.form.fields) | dict(answer.form.buttons).keys()


def _assert_unavailable(world: World, answer: Answer, *, by_redirect: bool, place: str) -> None:
    if by_redirect:
        assert answer.status in (302, 303), place
        assert answer.answer["error"] == "temporarily_unavailable", place
        assert answer.answer["state"] == "af0ifjsldkj"
        assert answer.answer["iss"] == world.site.settings.issuer
        return
    assert answer.status == 503, place
    assert int(answer.header("retry-after") or "") > 0
    assert answer.header("cache-control") == "no-store"
    if (answer.header("content-type") or "").startswith("application/json"):
        assert answer.json["error"] == "temporarily_unavailable"
    else:
        assert "Please try again" in answer.body
