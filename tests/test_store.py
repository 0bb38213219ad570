"""The laws of the storage, for every kind of record."""

import json
from dataclasses import MISSING, dataclass, fields, replace
from functools import partial
from typing import Any

import pytest
import yaml
from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from chalicelib.dynamodb import attr, pack
from chalicelib.errors import TemporarilyUnavailable
from chalicelib.models import (
    Attempts,
    AuthorizationRequest,
    Client,
    Consent,
    Delivery,
    Event,
    Grant,
    Identifier,
    Scope,
    SealedKeyRing,
    Session,
    User,
)
from chalicelib.store import Store
from chalicelib.table import Refused, Table
from infra.embedded import SCHEMA
from tests import faults
from tests.faults import Wire
from tests.site import Site
from tests.threads import at_once

NOW = 1_800_000_000
# kind -> a record, and a field of it to change
EXAMPLES: dict[str, tuple[Any, str]] = {
    "clients": (
        Client(
            "c-1",
            "Fotodruck Zürich 🖼 ‮evil",
            ("https://client.example.com/cb?a=ä", "com.example.app:/cb"),
            default_scope="",
            trusted=True,
            access_token_lifetime=300,
        ),
        "client_name",
    ),
    "users": (
        User(
            "u-1",
            "Алиса",
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA",
            {"name": "爱丽丝", "email_verified": True, "address": {"locality": "Zürich", "more": {}}, "nothing": None},
            admin=True,
        ),
        "username",
    ),
    "identifiers": (Identifier("username:алиса", "u-1"), "sub"),
    "consents": (Consent("u-1", "c-1", frozenset({"openid", "PRODUCTION"}), NOW), "updated_at"),
    "grants": (
        Grant(
            grant_id="g-1",
            client_id="c-1",
            sub="u-1",
            session_id="u-1.s-1",
            redirect_uri="https://client.example.com/cb",
            redirect_uri_sent=False,
            scope=frozenset(),
            auth_time=NOW,
            created_at=NOW,
            code_expires_at=NOW + 60,
            expires_at=NOW + 600,
            ends_at=NOW + 6000,
            nonce="\u0000 \u2028 \U0010ffff",
            rotated_at={"0": NOW, "3": NOW + 1},
        ),
        "generation",
    ),
    "requests": (
        AuthorizationRequest(
            request_id="r-1",
            client_id="c-1",
            redirect_uri="https://client.example.com/cb",
            scope=frozenset({"openid"}),
            expires_at=NOW + 600,
            created_at=NOW,
            state="é" * 2000,
            max_age=0,
        ),
        "created_at",
    ),
    "sessions": (Session("u-1.s-1", "u-1", NOW, NOW + 600, amr=("pwd", "otp")), "auth_time"),
    "scopes": (Scope("photos.read", "See your 写真 👀"), "description"),
    "attempts": (Attempts("account 1", NOW + 900, failures=3), "failures"),
    "events": (Event("u-1", "1800000000.1", "sign_in", NOW, NOW + 600, client_name="Zürich"), "name"),
    "deliveries": (Delivery("d-1", "u-1", "u-1.s-1", frozenset({"c-1", "c-2"}), NOW, NOW + 600), "tries"),
    "keys": (SealedKeyRing("other", bytes(range(256))), "version"),
}
IMPOSSIBLE = {
    "empty": "",
    "too long": "k" * 2049,
    "too long in UTF-8": "é" * 1025,
    "a lone surrogate": "k\ud800",
}


@dataclass
class Kind:
    """A kind of record, with its table and its example."""

    store: Store
    table: Table[Any]
    record: Any
    field: str

    @property
    def key(self) -> tuple[str, ...]:
        return key_of(self.table, self.record)

    @property
    def change(self) -> dict[str, Any]:
        return {self.field: self.value(0)}

    @property
    def changed(self) -> Any:
        return replace(self.record, **self.change)

    def value(self, number: int) -> Any:
        """A new value for the field, of its type."""
        return f"new {number}" if isinstance(getattr(self.record, self.field), str) else number + 1000

    def unchanged(self) -> Any:
        return attr(self.field).eq(getattr(self.record, self.field))

    def other(self, number: int) -> Any:
        """A record like the example, with another key."""
        return replace(self.record, **{self.table.key[-1]: f"other-{number}"})

    def raw(self) -> dict[str, Any] | None:
        """What really lies in the table."""
        client = self.store.dynamodb.client
        item = client.get_item(TableName=self.table.name, Key=self.table.pack_key(self.key))
        return dict(item["Item"]) if "Item" in item else None

    def put_raw(self, item: dict[str, Any]) -> None:
        self.store.dynamodb.client.put_item(TableName=self.table.name, Item=item)


def key_of(table: Table[Any], record: Any) -> tuple[str, ...]:
    return tuple(getattr(record, part) for part in table.key)


def all_tables(store: Store) -> dict[str, Table[Any]]:
    return {name: table for name, table in vars(store).items() if isinstance(table, Table)}


@pytest.fixture
def store(site: Site) -> Store:
    site.clock.time = NOW
    return site.server.store


@pytest.fixture(params=list(EXAMPLES))
def kind(request: pytest.FixtureRequest, store: Store) -> Kind:
    record, field = EXAMPLES[request.param]
    return Kind(store, all_tables(store)[request.param], record, field)


@pytest.fixture(params=[name for name, (record, _) in EXAMPLES.items() if hasattr(record, "expires_at")])
def mortal(request: pytest.FixtureRequest, store: Store) -> Kind:
    """A kind of record that expires."""
    record, field = EXAMPLES[request.param]
    return Kind(store, all_tables(store)[request.param], record, field)


# ---- the schema


def test_every_table_has_an_example_and_stands_in_the_schema_with_its_key_and_its_ttl(store: Store) -> None:
    resources = yaml.safe_load(SCHEMA.read_text())["Resources"].values()
    schema = {
        resource["Properties"]["TableName"]["Fn::Sub"].replace("${Stage}", store.settings.stage): resource["Properties"]
        for resource in resources
        if resource["Type"] == "AWS::DynamoDB::Table"
    }
    found = all_tables(store)
    assert set(found) == set(EXAMPLES)
    assert set(schema) == {table.name for table in found.values()}
    for name, table in found.items():
        properties, record = schema[table.name], EXAMPLES[name][0]
        keys = {key["KeyType"]: key["AttributeName"] for key in properties["KeySchema"]}
        assert (keys["HASH"], keys.get("RANGE")) == (table.key[0], table.key[1] if len(table.key) == 2 else None)
        assert set(table.key) <= {field.name for field in fields(record)}
        ttl = properties.get("TimeToLiveSpecification")
        assert ttl == ({"AttributeName": "expires_at", "Enabled": True} if hasattr(record, "expires_at") else None)
        assert properties["BillingMode"] == "PAY_PER_REQUEST"
        assert properties["SSESpecification"]["SSEEnabled"] is True
        # What cannot be made again is backed up, and cannot be deleted by mistake.
        forever = not hasattr(record, "expires_at")
        assert properties.get("DeletionProtectionEnabled", False) is forever
        assert ("PointInTimeRecoverySpecification" in properties) is forever


# ---- what goes in comes out


def test_what_goes_in_comes_out(kind: Kind) -> None:
    assert kind.table.insert(kind.record)
    assert kind.table.get(*kind.key) == kind.record
    assert [record for record in kind.table.scan() if key_of(kind.table, record) == kind.key] == [kind.record]


def test_put_replaces_what_is_there(kind: Kind) -> None:
    kind.table.put(kind.record)
    kind.table.put(kind.changed)
    assert kind.table.get(*kind.key) == kind.changed


def test_none_and_empty_sets_are_not_stored(kind: Kind) -> None:
    kind.table.put(kind.record)
    absent = {field.name for field in fields(kind.record) if getattr(kind.record, field.name) in (None, frozenset())}
    stored = kind.raw()
    assert stored is not None
    assert set(stored) == {field.name for field in fields(kind.record)} - absent
    assert not [value for value in stored.values() if "NULL" in value]


def test_insert_never_overwrites(kind: Kind) -> None:
    assert kind.table.insert(kind.record)
    assert not kind.table.insert(kind.changed)
    assert kind.table.get(*kind.key) == kind.record


def test_unknown_is_none(kind: Kind) -> None:
    assert kind.table.get(*kind.key) is None
    assert kind.table.transition(kind.key, None, kind.change) == Refused(None)
    assert kind.table.take(kind.key, NOW) == Refused(None)
    assert list(kind.table.find(kind.table.key[0], kind.key[0])) == []
    kind.table.delete(*kind.key)
    assert kind.raw() is None


@pytest.mark.parametrize("wrong", IMPOSSIBLE)
def test_a_key_that_dynamodb_would_refuse_is_unknown_and_nobody_is_asked(kind: Kind, wire: Wire, wrong: str) -> None:
    kind.table.put(kind.record)
    for place in range(len(kind.key)):
        key = tuple(IMPOSSIBLE[wrong] if i == place else part for i, part in enumerate(kind.key))
        with wire.counted() as calls:
            assert kind.table.get(*key) is None
            assert kind.table.transition(key, None, kind.change) == Refused(None)
            assert kind.table.take(key, NOW) == Refused(None)
            kind.table.delete(*key)
            if place == 0:
                assert list(kind.table.find(kind.table.key[0], key[0])) == []
        assert calls == []
        assert kind.store.read((kind.table, key), (kind.table, kind.key)) == (None, kind.record)


def test_a_sort_key_over_1024_bytes_is_unknown_too(store: Store) -> None:
    assert store.consents.get("u-1", "c" * 1025) is None
    assert store.consents.transition(("u-1", "c" * 1025), None, {"updated_at": 1}) == Refused(None)


def test_delete_removes_it(kind: Kind) -> None:
    kind.table.put(kind.record)
    kind.table.delete(*kind.key)
    assert kind.table.get(*kind.key) is None
    assert kind.raw() is None


# ---- expiry


def test_expired_is_none_before_any_sweep(mortal: Kind) -> None:
    table, store = mortal.table, mortal.store
    table.put(replace(mortal.record, expires_at=NOW + 1))
    assert table.get(*mortal.key) is not None
    table.put(replace(mortal.record, expires_at=NOW))
    before = mortal.raw()
    assert table.get(*mortal.key) is None
    assert store.read((table, mortal.key), (store.clients, ("c-1",))) == (None, None)
    assert list(table.find(table.key[0], mortal.key[0])) == []
    assert list(table.scan()) == []
    assert table.transition(mortal.key, None, mortal.change) == Refused(None)
    assert table.take(mortal.key, NOW) == Refused(None)
    refused = store.transact(table.changing(mortal.key, None, mortal.change))
    assert refused == (Refused(None),)
    assert store.transact(table.checking(mortal.key)) == (Refused(None),)
    assert mortal.raw() == before


def test_an_expired_record_is_no_obstacle_to_a_new_one(mortal: Kind) -> None:
    mortal.table.put(replace(mortal.changed, expires_at=NOW))
    assert mortal.table.insert(mortal.record)
    assert mortal.table.get(*mortal.key) == mortal.record


# ---- one winner


def test_a_transition_has_one_winner_among_fifty_and_the_losers_get_the_record_as_it_was(kind: Kind) -> None:
    kind.table.put(kind.record)
    outcomes = at_once(
        partial(kind.table.transition, kind.key, kind.unchanged(), {kind.field: kind.value(n)}) for n in range(50)
    )
    winners = [(n, outcome) for n, outcome in enumerate(outcomes) if not isinstance(outcome, Refused)]
    assert len(winners) == 1
    number, winner = winners[0]
    assert winner == replace(kind.record, **{kind.field: kind.value(number)})
    assert [outcome for outcome in outcomes if isinstance(outcome, Refused)] == [Refused(winner)] * 49
    assert kind.table.get(*kind.key) == winner


def test_a_record_is_taken_once_among_fifty(kind: Kind) -> None:
    kind.table.put(kind.record)
    outcomes = at_once([lambda: kind.table.take(kind.key, NOW)] * 50)
    taken = replace(kind.record, taken_at=NOW) if hasattr(kind.record, "taken_at") else kind.record
    assert outcomes.count(taken) == 1
    assert outcomes.count(Refused(taken)) == 49


def test_an_insert_has_one_winner_among_fifty(kind: Kind) -> None:
    records = [replace(kind.record, **{kind.field: kind.value(n)}) for n in range(50)]
    outcomes = at_once(partial(kind.table.insert, record) for record in records)
    assert outcomes.count(True) == 1
    assert kind.table.get(*kind.key) == records[outcomes.index(True)]


def test_a_transaction_has_one_winner_among_fifty(kind: Kind) -> None:
    """Each changes the record and inserts one of its own: only the winner's own is there."""
    kind.table.put(kind.record)
    store = kind.store
    outcomes = at_once(
        partial(
            store.transact,
            kind.table.inserting(kind.other(n)),
            kind.table.changing(kind.key, kind.unchanged(), {kind.field: kind.value(n)}),
        )
        for n in range(50)
    )
    assert outcomes.count(None) == 1
    winner = outcomes.index(None)
    changed = replace(kind.record, **{kind.field: kind.value(winner)})
    assert [outcome for outcome in outcomes if outcome] == [(None, Refused(changed))] * 49
    born = [n for n in range(50) if kind.table.get(*key_of(kind.table, kind.other(n)))]
    assert born == [winner]


# ---- a lost answer is no loss


@pytest.mark.parametrize("lost", [1, 2])
def test_a_lost_answer_is_no_loss(kind: Kind, wire: Wire, lost: int) -> None:
    with wire.fault(0, faults.answer_lost, lost):
        assert kind.table.insert(kind.record)
    with wire.fault(0, faults.answer_lost, lost):
        assert kind.table.transition(kind.key, kind.unchanged(), kind.change) == kind.changed
    with wire.fault(0, faults.answer_lost, lost):
        taken = kind.table.take(kind.key, NOW)
    assert not isinstance(taken, Refused)
    with wire.fault(0, faults.answer_lost, lost):
        kind.table.put(kind.record)
    with wire.fault(0, faults.answer_lost, lost):
        assert kind.table.get(*kind.key) == kind.record
    with wire.fault(0, faults.answer_lost, lost):
        kind.table.delete(*kind.key)
    assert kind.raw() is None


def test_a_transaction_recognises_its_own_attempt(kind: Kind, wire: Wire) -> None:
    store = kind.store
    with wire.fault(0, faults.answer_lost, 1):
        assert store.transact(kind.table.inserting(kind.record)) is None
    with wire.fault(0, faults.answer_lost, 1):
        done = store.transact(
            kind.table.inserting(kind.other(1)), kind.table.changing(kind.key, kind.unchanged(), kind.change)
        )
    assert done is None
    assert kind.table.get(*kind.key) == kind.changed


def test_the_attempt_of_somebody_else_is_no_success_of_ours(kind: Kind, wire: Wire) -> None:
    """Our first try never arrives, somebody else changes the record, and our second try must lose."""
    kind.table.put(kind.record)

    def overtaken(request: AWSPreparedRequest, proceed: faults.Proceed) -> AWSResponse:
        taken = kind.table.transition(kind.key, kind.unchanged(), {kind.field: kind.value(7)})
        assert not isinstance(taken, Refused)
        return faults.silent(request, proceed)

    theirs = replace(kind.record, **{kind.field: kind.value(7)})
    with wire.fault(0, overtaken, 1):
        assert kind.table.transition(kind.key, kind.unchanged(), kind.change) == Refused(theirs)
    assert kind.table.get(*kind.key) == theirs


@pytest.mark.parametrize(
    "fault", [faults.unreachable, faults.silent, faults.throttled, faults.throttled_by_account, faults.failing]
)
def test_what_does_not_get_through_is_temporarily_unavailable(store: Store, wire: Wire, fault: faults.Fault) -> None:
    record = EXAMPLES["grants"][0]
    with wire.fault(0, fault), pytest.raises(TemporarilyUnavailable) as raised:
        store.grants.insert(record)
    assert raised.value.status == 503
    assert raised.value.headers["Retry-After"]
    assert store.grants.get(record.grant_id) is None
    with wire.fault(0, fault, 2):
        assert store.grants.insert(record)


def test_a_write_that_meets_another_transaction_is_tried_again(kind: Kind, wire: Wire) -> None:
    kind.table.put(kind.record)
    with wire.fault(0, faults.conflict, 1):
        assert kind.table.transition(kind.key, kind.unchanged(), kind.change) == kind.changed
    with wire.fault(0, faults.conflict, 1):
        assert kind.store.transact(kind.table.inserting(kind.other(1))) is None
    assert kind.table.get(*key_of(kind.table, kind.other(1))) == kind.other(1)


def test_a_write_that_meets_other_transactions_for_ever_is_temporarily_unavailable(store: Store, wire: Wire) -> None:
    record = EXAMPLES["grants"][0]
    with wire.every("PutItem", faults.conflict), pytest.raises(TemporarilyUnavailable):
        store.grants.insert(record)
    with wire.every("TransactWriteItems", faults.conflict), pytest.raises(TemporarilyUnavailable):
        store.transact(store.grants.inserting(record), store.users.checking(("u-1",)))
    assert store.grants.get(record.grant_id) is None


# ---- nothing is resurrected


def test_nothing_is_resurrected(kind: Kind) -> None:
    store = kind.store
    kind.table.put(kind.record)
    kind.table.delete(*kind.key)
    assert kind.table.transition(kind.key, None, kind.change) == Refused(None)
    # A condition that an absent record fulfils as well.
    assert kind.table.transition(kind.key, attr("revoked_at").not_exists(), kind.change) == Refused(None)
    assert kind.table.transition(kind.key, None, {}, remove=(kind.field,)) == Refused(None)
    assert kind.table.take(kind.key, NOW) == Refused(None)
    assert store.transact(kind.table.changing(kind.key, None, kind.change)) == (Refused(None),)
    assert kind.raw() is None


# ---- old and new code read each other's records


def test_an_unknown_attribute_is_ignored_and_kept(kind: Kind) -> None:
    item = {**kind.table._pack(kind.record), "from_the_future": {"M": {"a": {"S": "b"}}}}
    kind.put_raw(item)
    assert kind.table.get(*kind.key) == kind.record
    assert kind.table.transition(kind.key, None, kind.change) == kind.changed
    stored = kind.raw()
    assert stored is not None
    assert stored["from_the_future"] == item["from_the_future"]


def test_an_absent_field_has_its_default(kind: Kind) -> None:
    needed = {
        field.name: getattr(kind.record, field.name)
        for field in fields(kind.record)
        if field.default is MISSING and field.default_factory is MISSING
    }
    kind.put_raw(pack(needed))
    assert kind.table.get(*kind.key) == type(kind.record)(**needed)


# ---- transactions


def test_a_transaction_is_all_or_nothing_and_says_which_step_was_refused(store: Store) -> None:
    grant, session = EXAMPLES["grants"][0], EXAMPLES["sessions"][0]
    user, request = EXAMPLES["users"][0], EXAMPLES["requests"][0]
    store.sessions.put(replace(session, ended_at=NOW))
    store.users.put(user)
    refused = store.transact(
        store.grants.inserting(grant),
        store.sessions.changing((session.session_id,), attr("ended_at").not_exists(), {"expires_at": NOW + 1}),
        store.users.checking((user.sub,), attr("disabled_at").not_exists()),
        store.requests.changing((request.request_id,), None, {"taken_at": NOW}),
    )
    assert refused == (None, Refused(replace(session, ended_at=NOW)), None, Refused(None))
    assert store.grants.get(grant.grant_id) is None
    assert store.requests.get(request.request_id) is None
    assert store.sessions.get(session.session_id) == replace(session, ended_at=NOW)


def test_a_transaction_adds_to_sets_and_makes_what_may_be_absent(store: Store) -> None:
    key = ("u-9", "c-9")
    for scope in ("openid", "email"):
        step = store.consents.changing(key, None, {"updated_at": NOW}, add={"scope": frozenset({scope})}, create=True)
        assert store.transact(step) is None
    assert store.consents.get(*key) == Consent(*key, frozenset({"openid", "email"}), NOW)


def test_a_map_is_changed_by_one_member(store: Store) -> None:
    grant = EXAMPLES["grants"][0]
    store.grants.put(grant)
    changed = store.grants.transition((grant.grant_id,), None, {"rotated_at.1": NOW + 7})
    assert changed == replace(grant, rotated_at={"0": NOW, "3": NOW + 1, "1": NOW + 7})


# ---- several at once


def test_a_batch_comes_back_in_the_order_asked_for(store: Store, wire: Wire) -> None:
    for name, (record, _) in EXAMPLES.items():
        all_tables(store)[name].put(record)
    wanted = [(table, key_of(table, EXAMPLES[name][0])) for name, table in all_tables(store).items()]
    for order in (wanted, wanted[::-1], [*wanted, *wanted]):
        with wire.counted() as calls:
            found = store.read(*order)
        assert calls == ["BatchGetItem"]
        assert list(found) == [EXAMPLES[table.name.rpartition("-")[2]][0] for table, _ in order]
    with wire.counted() as calls:
        assert store.read((store.clients, ("",)), (store.users, ("nobody",))) == (None, None)
        assert store.read() == ()
    assert calls == ["GetItem"]


def _half(request: AWSPreparedRequest, proceed: faults.Proceed) -> AWSResponse:
    """DynamoDB does the first key of each table only."""
    asked = faults.asked(request)["RequestItems"]
    done = {name: {**keys, "Keys": keys["Keys"][:1]} for name, keys in asked.items()}
    left = {name: {**keys, "Keys": keys["Keys"][1:]} for name, keys in asked.items() if keys["Keys"][1:]}
    request.body = json.dumps({"RequestItems": done}).encode()
    return faults.answer(request, json.dumps(json.loads(proceed().text) | {"UnprocessedKeys": left}))


def _nothing(request: AWSPreparedRequest, _proceed: faults.Proceed) -> AWSResponse:
    asked = faults.asked(request)["RequestItems"]
    return faults.answer(request, json.dumps({"Responses": {}, "UnprocessedKeys": asked}))


def test_a_batch_that_was_done_in_part_is_asked_for_the_rest(kind: Kind, wire: Wire) -> None:
    records = [kind.record, kind.other(1)]
    for record in records:
        kind.table.put(record)
    wanted = [(kind.table, key_of(kind.table, record)) for record in records]
    with wire.fault(0, _half):
        assert list(kind.store.read(*wanted)) == records
    assert wire.calls == ["BatchGetItem", "BatchGetItem"]


def test_a_batch_that_is_never_done_is_temporarily_unavailable(store: Store, wire: Wire) -> None:
    with wire.every("BatchGetItem", _nothing), pytest.raises(TemporarilyUnavailable):
        store.read((store.clients, ("a",)), (store.users, ("b",)))


def _two_a_page(request: AWSPreparedRequest, proceed: faults.Proceed) -> AWSResponse:
    request.body = json.dumps(faults.asked(request) | {"Limit": 2}).encode()
    return proceed()


@pytest.mark.parametrize("name", ["grants", "sessions"])
def test_find_goes_through_all_pages_of_an_index(store: Store, wire: Wire, name: str) -> None:
    kind = Kind(store, all_tables(store)[name], *EXAMPLES[name])
    records = [kind.other(number) for number in range(5)]
    for record in [*records, replace(kind.other(5), expires_at=NOW), replace(kind.other(6), sub="somebody else")]:
        kind.table.put(record)
    with wire.every("Query", _two_a_page):
        found = list(kind.table.find("sub", kind.record.sub, index="sub"))
    assert len(wire.calls) >= 3
    assert sorted(found, key=repr) == sorted(records, key=repr)


def test_find_and_scan_go_through_all_pages_of_a_table(store: Store, wire: Wire) -> None:
    records = [Consent("u-1", f"c-{number}", frozenset({"openid"})) for number in range(5)]
    for record in [*records, Consent("u-2", "c-1")]:
        store.consents.put(record)
    with wire.every("Query", _two_a_page):
        assert sorted(store.consents.find("sub", "u-1"), key=repr) == records
    with wire.every("Scan", _two_a_page):
        assert len(list(store.consents.scan())) == 6
    assert len(wire.calls) >= 3


# ---- amending


def test_an_amendment_writes_what_differs_and_leaves_the_rest(kind: Kind) -> None:
    kind.table.put(kind.record)
    stored = kind.raw()
    assert stored
    kind.put_raw({**stored, "more": {"S": "of a later version"}})
    assert kind.store.amend(kind.table, kind.record, lambda _: kind.changed) == kind.changed
    assert kind.table.get(*kind.key) == kind.changed
    again = kind.raw()
    assert again
    assert again["more"] == {"S": "of a later version"}


def test_an_amendment_of_nothing_writes_nothing(kind: Kind, wire: Wire) -> None:
    with wire.counted() as calls:
        assert kind.store.amend(kind.table, kind.record, lambda record: record) == kind.record
    assert calls == []


def test_a_member_can_be_taken_away_and_come_back(store: Store) -> None:
    client = replace(EXAMPLES["clients"][0], trusted=False)
    store.clients.put(client)
    without = store.amend(store.clients, client, lambda known: replace(known, access_token_lifetime=None))
    assert store.clients.get("c-1") == without == replace(client, access_token_lifetime=None)
    assert isinstance(without, Client)
    assert store.amend(store.clients, without, lambda known: replace(known, access_token_lifetime=300)) == client
    assert store.clients.get("c-1") == client


def test_a_set_can_become_empty_and_full_again(store: Store) -> None:
    consent = EXAMPLES["consents"][0]
    store.consents.put(consent)
    empty = store.amend(store.consents, consent, lambda known: replace(known, scope=frozenset()))
    assert store.consents.get("u-1", "c-1") == empty
    assert isinstance(empty, Consent)
    assert not empty.scope
    assert store.amend(store.consents, empty, lambda _: consent) == consent
    assert store.consents.get("u-1", "c-1") == consent


def test_no_amendment_is_lost_among_twenty(store: Store) -> None:
    client = EXAMPLES["clients"][0]
    store.clients.put(client)

    def add(number: int) -> Any:
        def change(known: Client) -> Client:
            return replace(known, redirect_uris=(*known.redirect_uris, f"https://client.example.com/{number}"))

        return lambda: store.amend(store.clients, client, change)

    outcomes = at_once(add(number) for number in range(20))
    assert all(isinstance(outcome, Client) for outcome in outcomes)
    found = store.clients.get("c-1")
    assert found
    assert found.redirect_uris[:2] == client.redirect_uris
    assert set(found.redirect_uris[2:]) == {f"https://client.example.com/{number}" for number in range(20)}


def test_every_field_that_has_changed_meanwhile_is_noticed(kind: Kind) -> None:
    """The function is given what others have made of the record, whichever field they changed."""
    kind.table.put(kind.record)
    for one in fields(kind.record):
        if one.name in (*kind.table.key, kind.field, "expires_at"):
            continue
        value = getattr(kind.record, one.name)
        other = replace(kind.record, **{one.name: _another(value)})
        for before, meanwhile in ((kind.record, other), (other, kind.record)):
            kind.table.put(meanwhile)
            seen: list[Any] = []

            def change(known: Any, seen: list[Any] = seen) -> Any:
                seen.append(known)
                return replace(known, **kind.change)

            kind.store.amend(kind.table, before, change)
            assert seen == [before, meanwhile], one.name
            assert kind.table.get(*kind.key) == replace(meanwhile, **kind.change)


def _another(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case bytes():
            return value + b"x"
        case tuple():
            return (*value, "x")
        case frozenset():
            return value | {"x"}
        case dict():
            return {**value, "x": 1}
        case str():
            return value + "x"
    return "x"  # a member that was not there


def test_a_field_that_an_older_version_did_not_store_has_its_default(kind: Kind) -> None:
    kind.table.put(kind.record)
    stored = kind.raw()
    assert stored
    required = {one.name for one in fields(kind.record) if one.default is MISSING and one.default_factory is MISSING}
    kind.put_raw({name: value for name, value in stored.items() if name in required})
    old: Any = kind.table.get(*kind.key)
    amended = kind.store.amend(kind.table, old, lambda known: replace(known, **kind.change))
    assert amended == kind.table.get(*kind.key) == replace(old, **kind.change)


def test_what_is_gone_is_not_amended(kind: Kind) -> None:
    assert kind.store.amend(kind.table, kind.record, lambda _: kind.changed) == Refused(None)
    assert kind.raw() is None


def test_a_step_that_goes_with_an_amendment_can_refuse_it(store: Store) -> None:
    client, name = EXAMPLES["clients"][0], EXAMPLES["identifiers"][0]
    store.clients.put(client)
    store.identifiers.put(name)
    insert = store.identifiers.inserting(replace(name, sub="another"))
    outcome = store.amend(store.clients, client, lambda known: replace(known, trusted=False), lambda *_: [insert])
    assert outcome == Refused(name)
    assert store.clients.get("c-1") == client


def test_an_amendment_that_others_always_outrun_ends(store: Store) -> None:
    client = EXAMPLES["clients"][0]
    store.clients.put(client)

    def overtaken(known: Client) -> Client:
        store.clients.put(replace(known, client_id_issued_at=known.client_id_issued_at + 1))
        return replace(known, trusted=False)

    with pytest.raises(TemporarilyUnavailable):
        store.amend(store.clients, client, overtaken)


def test_deleting_as_a_step_needs_the_record_and_its_condition(kind: Kind) -> None:
    table, store = kind.table, kind.store
    assert store.transact(table.deleting(kind.key)) == (Refused(None),)
    table.put(kind.record)
    assert store.transact(table.deleting(kind.key, attr(kind.field).eq(kind.value(0)))) == (Refused(kind.record),)
    assert table.get(*kind.key) == kind.record
    assert store.transact(table.deleting(kind.key, kind.unchanged())) is None
    assert kind.raw() is None
