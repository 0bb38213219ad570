"""The DynamoDB calls of endings and of the account page do not grow with the sessions and grants of a user."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
from moto.dynamodb.models.dynamo_type import DynamoType, Item

from chalicelib.authentication import passwords
from chalicelib.aws.messages import Request, Response
from chalicelib.protocol.client import Client
from chalicelib.protocol.durations import DAY, MINUTE
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.identifiers import username_identifier
from chalicelib.protocol.records import Consent, Identifier, Session, User
from chalicelib.server import system_time
from chalicelib.storage.attribute_values import pack
from infra import schema
from tests.bench.capacity import item_size
from tests.support import faults
from tests.support.account import account_form, submit_form
from tests.support.browser import CHALLENGE, Answer, Browser
from tests.support.faults import Fault, Proceed, Wire
from tests.support.operator import CommandResult, RunCommand
from tests.support.site import PASSWORD, STAGE, Registered, Site, tables

SIZES = (1, 100, 10_000)
PAGE = 1 << 20  # bytes of a page of a query
NEW_PASSWORD = "a new password of her own"
GENERATION = 1 << 47  # as long as the random ones of a new user
REGISTRATION = "Zm9vYmFyYmF6cXV4MDEyMw"
APPLICATIONS = tuple(f"dGhlLWNsaWVudC1pZC0wM{number}" for number in range(10))  # as long as the random ones
SCOPE = frozenset({"openid", "profile", "email"})


# ---- records in bulk


class SharedItem(Item):  # type: ignore[misc]
    """An item that no test changes, so that moto need not copy it with its table in every transaction."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "SharedItem":
        return self


class Bulk:
    """Many records of one table, which differ from a template in the fields of each variation.

    `typed`: the records in DynamoDB's typed form.
    """

    def __init__(self, kind: str, key: str, template: Any, variations: Iterable[dict[str, Any]]):
        self._kind = kind
        self._items: dict[DynamoType, SharedItem] = {}
        common = pack(vars(template))
        self.typed = [common | pack(variation) for variation in variations]
        values = {name: DynamoType(value) for name, value in common.items()}
        for attributes in self.typed:
            item = SharedItem(DynamoType(attributes[key]), None, {})
            for name, value in attributes.items():  # without moto's check of the size for each attribute
                same = common.get(name) is value
                dict.__setitem__(item.attrs, name, values[name] if same else DynamoType(value))
            self._items[item.hash_key] = item

    def insert(self) -> None:
        """Store the records in moto's table."""
        tables()[f"signet-{STAGE}-{self._kind}"].items.update(self._items)


def user_of(size: int) -> User:
    """Return the user who has so many sessions and grants."""
    return User(
        sub=f"dGhlLXN1Yi1vZi1{size:07}",
        username=f"alice{size}",
        password_hash="",
        claims={},
        sessions_generation=GENERATION,
        grants_generation=GENERATION,
        consents_generation=GENERATION,
    )


def session_of(user: User, now: int) -> Session:
    return Session(
        session_id="",
        sub=user.sub,
        auth_time=now - DAY,
        created_at=now - DAY,
        expires_at=now + DAY,
        active_until=now + DAY,
        sessions_generation=user.sessions_generation,
        device="Firefox on Linux",
        backchannel_clients=frozenset(APPLICATIONS[:3]),
    )


def grant_of(user: User, now: int) -> Grant:
    return Grant(
        grant_id="",
        client_id="",
        sub=user.sub,
        created_at=now - DAY,
        ends_at=now + 90 * DAY,
        scope=SCOPE,
        user_generation=user.grants_generation,
        sessions_generation=user.sessions_generation,
        registration_id=REGISTRATION,
        session_stored=True,
        redirect_uri="https://photos.example.com/oauth/callback",
        redirect_uri_sent=True,
        auth_time=now - DAY,
        code_expires_at=now - DAY + MINUTE,
        expires_at=now + 30 * DAY,
        redeemed_at=now - DAY,
        generation=1,
        nonce="n-0S6_WzA2MjYtNDQ0",
        code_challenge=CHALLENGE,
        device="Firefox on Linux",
    )


def create_session_ids(user: User, number: int) -> list[str]:
    return [f"{user.sub}.{new_id()}" for _ in range(number)]


# ---- endings


@pytest.fixture(scope="module")
def bulk() -> list[Bulk]:
    """A session with one grant, 100 of them, and 10,000 of them, each of another user."""
    now, records = system_time(), []
    for size in SIZES:
        user = user_of(size)
        ids = create_session_ids(user, size)
        grants = [
            {"grant_id": new_id(), "client_id": APPLICATIONS[number % 10], "session_id": session_id}
            for number, session_id in enumerate(ids)
        ]
        records += [
            Bulk("sessions", "session_id", session_of(user, now), ({"session_id": each} for each in ids)),
            Bulk("grants", "grant_id", grant_of(user, now), grants),
        ]
    return records


@dataclass
class Situation:
    """A user with many sessions and grants, who is signed in in a browser and has granted an application access."""

    site: Site
    browser: Browser
    user: User
    client: Registered
    run_command: RunCommand
    tokens: dict[str, Any] = field(default_factory=dict)

    def press(self, action: str, **fields: str) -> Callable[[], Answer]:
        """Return the request of a button on the account page."""
        form = account_form(self.browser, action, client_id=self.client.id, **fields)
        return partial(submit_form, self.browser, form)


def sign_out_by_the_application(situation: Situation) -> Callable[[], Answer]:
    return partial(situation.browser.get, "/oauth2/logout", id_token_hint=situation.tokens["id_token"])


def sign_out_on_the_logout_page(situation: Situation) -> Callable[[], Answer]:
    page = situation.browser.get("/oauth2/logout")
    return partial(situation.browser.send, page, decision="sign_out")


def sign_out_one_on_the_account_page(situation: Situation) -> Callable[[], Answer]:
    other = Browser(situation.site)
    other.sign_in(other.authorize(situation.client), situation.user.username)
    handle = situation.site.server.keys.read_handle("sid", other.cookies["signet-session"])
    other.close()
    assert handle
    return situation.press("sign_out", session=handle.id)


def sign_out_others_on_the_account_page(situation: Situation) -> Callable[[], Answer]:
    return situation.press("sign_out_others")


def remove_one_on_the_account_page(situation: Situation) -> Callable[[], Answer]:
    return situation.press("revoke")


def remove_all_on_the_account_page(situation: Situation) -> Callable[[], Answer]:
    return situation.press("revoke_all")


def change_password_on_the_account_page(situation: Situation) -> Callable[[], Answer]:
    new = {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}
    return situation.press("change_password", password=PASSWORD, **new)


def forced_password_change(situation: Situation) -> Callable[[], Answer]:
    users, browser = situation.site.server.store.users, situation.browser
    current = users.get(situation.user.sub)
    assert current
    users.put(replace(current, password_change_required=True))
    page = browser.authorize(situation.client)
    return partial(browser.send, page, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD)


def second_person_in_the_same_browser(situation: Situation) -> Callable[[], Answer]:
    bob = situation.site.user(f"bob beside {situation.user.username}")
    page = situation.browser.authorize(situation.client, prompt="login")
    return partial(situation.browser.send, page, username=bob.username, password=PASSWORD)


def run(situation: Situation, *words: str) -> Callable[[], CommandResult]:
    return partial(situation.run_command, *words, situation.user.username)


Ending = Callable[[Situation], Callable[[], Answer | CommandResult]]
BATCH, GET, PUT, WRITES = "BatchGetItem", "GetItem", "PutItem", "TransactWriteItems"
# ending, its calls
ENDINGS: list[tuple[str, Ending, list[str]]] = [
    ("sign out by the application", sign_out_by_the_application, [BATCH, WRITES]),
    ("sign out on the logout page", sign_out_on_the_logout_page, [BATCH, WRITES]),
    ("sign out one browser", sign_out_one_on_the_account_page, [BATCH, GET, WRITES]),
    ("sign out all other browsers", sign_out_others_on_the_account_page, [BATCH, WRITES]),
    ("second person in the browser", second_person_in_the_same_browser, [BATCH, BATCH, WRITES, WRITES, WRITES, WRITES]),
    ("remove one application", remove_one_on_the_account_page, [BATCH, WRITES]),
    ("remove all applications", remove_all_on_the_account_page, [BATCH, WRITES]),
    ("change the password", change_password_on_the_account_page, [BATCH, GET, BATCH, WRITES, WRITES]),
    ("change the password when it is required", forced_password_change, [BATCH, WRITES, GET, WRITES]),
    ("user sign-out", lambda situation: run(situation, "user", "sign-out", "--yes"), [GET, GET, WRITES, PUT]),
    ("user disable", lambda situation: run(situation, "user", "disable", "--yes"), [GET, GET, WRITES, PUT]),
    ("user set-password", lambda situation: run(situation, "user", "set-password", "--yes"), [GET, GET, WRITES, PUT]),
]


@pytest.mark.parametrize(("name", "ending", "calls"), ENDINGS, ids=[row[0] for row in ENDINGS])
def test_ending_makes_the_same_calls_with_1_and_100_and_10000_sessions_and_grants(
    site: Site,
    browsers: Callable[..., Browser],
    wire: Wire,
    run_command: RunCommand,
    bulk: list[Bulk],
    name: str,
    ending: Ending,
    calls: list[str],
) -> None:
    site.secrets.update([PASSWORD, NEW_PASSWORD])
    client = site.client(trusted=True, backchannel_logout_uri="https://photos.example.com/backchannel")
    for records in bulk:
        records.insert()
    for size in SIZES:
        user = sign_up(site, user_of(size))
        situation = Situation(site, browsers(), user, client, run_command)
        code = situation.browser.sign_in(situation.browser.authorize(client), user.username).code
        situation.tokens = situation.browser.redeem(client, code).json
        send = ending(situation)
        with wire.counted() as counted:
            answer = send()
        assert answer.code == 0 if isinstance(answer, CommandResult) else answer.status in (200, 303), answer
        assert counted == calls, size


def sign_up(site: Site, user: User) -> User:
    """Store a user with PASSWORD."""
    user = replace(user, password_hash=passwords.hash_password(PASSWORD))
    site.server.store.users.put(user)
    site.server.store.identifiers.put(Identifier(username_identifier(user.username), user.sub))
    return user


# ---- the account page


class Index:
    """The index by user of a table, with the pages that DynamoDB makes of it.

    DynamoDB ends a page after 1 MB of entries, which have only the projected attributes. moto has no entries and counts
    whole items: it would divide 10,000 grants into eight pages or more, and DynamoDB into three.
    """

    def __init__(self, kind: str, items: Iterable[Mapping[str, Any]]):
        self.table = f"signet-{STAGE}-{kind}"
        schema_of_table = schema.tables(STAGE)[self.table]
        (index,) = schema_of_table["GlobalSecondaryIndexes"]
        self.name = index["IndexName"]
        self._keys = [part["AttributeName"] for part in (*index["KeySchema"], *schema_of_table["KeySchema"])]
        projected = index["Projection"].get("NonKeyAttributes")
        self.pages: list[list[dict[str, Any]]] = [[]]
        size = 0
        for item in items:
            names = item.keys() if projected is None else item.keys() & {*projected, *self._keys}
            entry = {name: item[name] for name in names}
            size += item_size(entry)
            if size > PAGE:
                self.pages.append([])
                size = item_size(entry)
            self.pages[-1].append(entry)

    def answer(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the next page of a query."""
        start = parameters.get("ExclusiveStartKey")
        number = 0 if start is None else 1 + [self._last_key(page) for page in self.pages].index(start)
        page = self.pages[number]
        more = {"LastEvaluatedKey": self._last_key(page)} if number + 1 < len(self.pages) else {}
        return {"Items": page, "Count": len(page), **more}

    def _last_key(self, page: list[dict[str, Any]]) -> dict[str, Any]:
        return {name: page[-1][name] for name in self._keys}


def answer_queries(*indexes: Index) -> Fault:
    """Return a fault of Query that answers for these indexes, and leaves other queries to moto."""
    by_name = {(index.table, index.name): index for index in indexes}

    def answer(request: Request, proceed: Proceed) -> Response:
        parameters = faults.parameters_of(request)
        index = by_name.get((parameters["TableName"], parameters.get("IndexName", "")))
        return faults.answer(request, json.dumps(index.answer(parameters))) if index else proceed()

    return answer


MANY = 10_000
OLDEST = MANY - len(APPLICATIONS)  # from here on, one grant of each application
# The changed fields of a grant, by its number from the newest, and the number of its session, None for the browser's.
Variation = Callable[[int], tuple[dict[str, Any], int | None]]
# state of the grants, their variation, number of the applications with access, calls: three for the index of the
# grants; where the newest grants have ended with their sessions, also the index of the sessions and a further batch
STATES: list[tuple[str, Variation, int, int]] = [
    ("all active in a session", lambda n: ({}, None), 10, 6),
    ("most ended, all of the user", lambda n: ({"user_generation": GENERATION - (n < OLDEST)}, None), 10, 6),
    ("most ended, all of an application", lambda n: ({"consent_generation": int(n >= OLDEST)}, None), 10, 6),
    ("most ended with 20 sessions", lambda n: ({}, n // 500 if n < OLDEST else None), 10, 8),
    ("most ended with a session each", lambda n: ({}, n if n < OLDEST else None), 10, 11),
    ("all ended with 20 sessions", lambda n: ({}, n // 500), 0, 7),
    ("all ended with a session each", lambda n: ({}, n), 0, 10),
]


@pytest.mark.parametrize(("state", "variation", "listed", "calls"), STATES, ids=[row[0] for row in STATES])
def test_account_page_lists_ten_applications_with_10000_grants_in_few_calls(
    site: Site, browser: Browser, wire: Wire, state: str, variation: Variation, listed: int, calls: int
) -> None:
    site.secrets.add(PASSWORD)
    store, now = site.server.store, site.clock()
    user = sign_up(site, user_of(MANY))
    for number, client_id in enumerate(APPLICATIONS):
        client = Client(client_id, f"Application {number}", ("https://photos.example.com/oauth/callback",))
        store.clients.put(replace(client, registration_id=REGISTRATION))
        if state == "most ended, all of an application":
            store.consents.put(Consent(user.sub, client_id, generation=1))
    browser.sign_in(browser.authorize(site.client()), user.username)
    (current,) = store.sessions.scan()

    variations = [variation(number) for number in range(MANY)]
    ended = dict(enumerate(create_session_ids(user, 1 + max(session or 0 for _, session in variations))))
    sessions = Bulk(
        "sessions",
        "session_id",
        replace(session_of(user, now), ended_at=now - DAY),
        ({"session_id": each} for each in ended.values()),
    )
    grants = Bulk(
        "grants",
        "grant_id",
        grant_of(user, now),
        (
            {
                "grant_id": new_id(),
                "client_id": APPLICATIONS[number % len(APPLICATIONS)],
                "created_at": now - MINUTE * number,
                "session_id": current.session_id if session is None else ended[session],
                **fields,
            }
            for number, (fields, session) in enumerate(variations)
        ),
    )
    sessions.insert()
    grants.insert()
    own_session = pack(vars(current))
    index = Index("grants", grants.typed)
    assert len(index.pages) == 3
    with wire.every("Query", answer_queries(index, Index("sessions", [*sessions.typed, own_session]))):
        answer = browser.get("/account")
    assert answer.status == 200
    assert set(re.findall(r"<bdi>(Application \d)</bdi>", answer.body)) == {f"Application {n}" for n in range(listed)}
    assert len(wire.calls) == calls, wire.calls
