"""The guarantees of the storage, for every kind of record."""

import json
from dataclasses import MISSING, dataclass, fields, replace
from functools import partial
from typing import Any

import pytest

from chalicelib.aws.messages import Request, Response
from chalicelib.protocol.attempts import Attempts
from chalicelib.protocol.client import Client
from chalicelib.protocol.client_document import ClientDocument
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.protocol.grant import Grant, GrantEntry
from chalicelib.protocol.own_scope import Scope
from chalicelib.protocol.passkey import Passkey
from chalicelib.protocol.proof import Proof
from chalicelib.protocol.records import (
    AuthorizationRequest,
    Consent,
    Delivery,
    Event,
    Identifier,
    Session,
    User,
)
from chalicelib.protocol.registration_token import RegistrationToken
from chalicelib.protocol.resource import Resource
from chalicelib.protocol.sealed_key_ring import SealedKeyRing
from chalicelib.storage.attribute_values import pack
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.store import Store
from chalicelib.storage.table import Refused, Table
from infra import schema
from tests.support import faults
from tests.support.faults import Wire
from tests.support.site import Site
from tests.support.threads import run_concurrently

NOW = 1_800_000_000
# kind -> a record, and the field that tests change
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
    "documents": (
        ClientDocument(
            "https://app.example.com/client?ä",
            NOW + 60,
            "Anwendung",
            ("https://app.example.com/cb", "com.example.app:/cb"),
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
    "passkeys": (
        Passkey("u-1", "p-1", "AQ", "oQ", -7, "example.com", transports=("usb",), name="Телефон", last_used_at=NOW),
        "sign_count",
    ),
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
    "resources": (Resource("https://api.example.com/", "https://api.example.com", "写真 👀", "photos.read"), "name"),
    "registration_tokens": (RegistrationToken("t-1", "Partner", NOW, NOW + 600, max_uses=2), "label"),
    "proofs": (Proof("reset.digest", "nonce", NOW, NOW + 600, "b-1", "u-1", "sealed"), "tries"),
    "attempts": (Attempts("account 1", NOW + 900, failures=3), "failures"),
    "events": (Event("u-1", "1800000000.1", "sign_in", NOW, NOW + 600, client_name="Zürich"), "name"),
    "deliveries": (Delivery("d-1", "u-1", NOW, NOW + 600, "u-1.s-1", frozenset({"c-1", "c-2"})), "tries"),
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
    """A kind of record, with its table and an example. `field`: the one that tests change."""

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
        """Return a new value of the type of the field."""
        return f"new {number}" if isinstance(getattr(self.record, self.field), str) else number + 1000

    def unchanged(self) -> Any:
        return attr(self.field).eq(getattr(self.record, self.field))

    def other(self, number: int) -> Any:
        """Return the example with another key."""
        return replace(self.record, **{self.table.key[-1]: f"other-{number}"})

    def raw(self) -> dict[str, Any] | None:
        """Return the stored item."""
        client = self.store.dynamodb.client
        item = client.call("GetItem", TableName=self.table.name, Key=self.table.pack_key(self.key))
        return dict(item["Item"]) if "Item" in item else None

    def put_raw(self, item: dict[str, Any]) -> None:
        self.store.dynamodb.client.call("PutItem", TableName=self.table.name, Item=item)


def key_of(table: Table[Any], record: Any) -> tuple[str, ...]:
    return tuple(getattr(record, part) for part in table.key)


def take(kind: Kind, key: tuple[str, ...] | None = None) -> Any:
    """Set `taken_at` of a record that has none yet, and return the outcome."""
    return kind.table.transition(key or kind.key, attr("taken_at").not_exists(), {"taken_at": NOW})


def all_tables(store: Store) -> dict[str, Table[Any]]:
    return {name: table for name, table in vars(store).items() if isinstance(table, Table) and table in store.tables}


@pytest.fixture
def store(site: Site) -> Store:
    site.clock.time = NOW
    return site.server.store


@pytest.fixture(params=list(EXAMPLES))
def kind(request: pytest.FixtureRequest, store: Store) -> Kind:
    record, field = EXAMPLES[request.param]
    return Kind(store, all_tables(store)[request.param], record, field)


@pytest.fixture(params=[name for name, (record, _) in EXAMPLES.items() if hasattr(record, "expires_at")])
def expiring(request: pytest.FixtureRequest, store: Store) -> Kind:
    """Return a kind of record that expires."""
    record, field = EXAMPLES[request.param]
    return Kind(store, all_tables(store)[request.param], record, field)


# ---- the schema


def test_every_table_has_an_example_and_matches_the_schema(store: Store) -> None:
    in_schema = schema.tables(store.settings.stage)
    tables = all_tables(store)
    assert set(tables) == set(EXAMPLES)
    assert set(in_schema) == {table.name for table in tables.values()}
    for name, table in tables.items():
        properties, record = in_schema[table.name], EXAMPLES[name][0]
        keys = {key["KeyType"]: key["AttributeName"] for key in properties["KeySchema"]}
        assert (keys["HASH"], keys.get("RANGE")) == (table.key[0], table.key[1] if len(table.key) == 2 else None)
        assert set(table.key) <= {field.name for field in fields(record)}
        ttl = properties.get("TimeToLiveSpecification")
        assert ttl == ({"AttributeName": "expires_at", "Enabled": True} if hasattr(record, "expires_at") else None)
        assert properties["BillingMode"] == "PAY_PER_REQUEST"
        assert properties["SSESpecification"]["SSEEnabled"] is True
        # Records that need not expire, such as pinned documents, are backed up, and their table is protected.
        permanent = getattr(record, "expires_at", None) is None or name == "documents"
        assert properties.get("DeletionProtectionEnabled", False) is permanent
        assert ("PointInTimeRecoverySpecification" in properties) is permanent


def test_index_of_grants_has_exactly_the_attributes_of_an_entry(store: Store) -> None:
    properties = schema.tables(store.settings.stage)[store.grants.name]
    (index,) = properties["GlobalSecondaryIndexes"]
    keys = {key["AttributeName"] for key in [*properties["KeySchema"], *index["KeySchema"]]}
    assert index["Projection"]["ProjectionType"] == "INCLUDE"
    assert keys | set(index["Projection"]["NonKeyAttributes"]) == {field.name for field in fields(GrantEntry)}


# ---- reading and writing


def test_inserted_record_is_read_back_unchanged(kind: Kind) -> None:
    assert kind.table.insert(kind.record)
    assert kind.table.get(*kind.key) == kind.record
    assert [record for record in kind.table.scan() if key_of(kind.table, record) == kind.key] == [kind.record]


def test_put_replaces_an_existing_record(kind: Kind) -> None:
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


def test_unknown_key_gives_none_or_refused(kind: Kind) -> None:
    assert kind.table.get(*kind.key) is None
    assert kind.table.transition(kind.key, None, kind.change) == Refused(None)
    assert take(kind) == Refused(None)
    assert list(kind.table.find(kind.table.key[0], kind.key[0])) == []
    kind.table.delete(*kind.key)
    assert kind.raw() is None


@pytest.mark.parametrize("wrong", IMPOSSIBLE)
def test_invalid_key_is_unknown_without_a_call(kind: Kind, wire: Wire, wrong: str) -> None:
    kind.table.put(kind.record)
    for position in range(len(kind.key)):
        key = tuple(IMPOSSIBLE[wrong] if i == position else part for i, part in enumerate(kind.key))
        with wire.counted() as calls:
            assert kind.table.get(*key) is None
            assert kind.table.transition(key, None, kind.change) == Refused(None)
            assert take(kind, key) == Refused(None)
            kind.table.delete(*key)
            if position == 0:
                assert list(kind.table.find(kind.table.key[0], key[0])) == []
        assert calls == []
        assert kind.store.read(kind.table.lookup(*key), kind.table.lookup(*kind.key)) == (None, kind.record)


def test_sort_key_over_1024_bytes_is_unknown(store: Store) -> None:
    assert store.consents.get("u-1", "c" * 1025) is None
    assert store.consents.transition(("u-1", "c" * 1025), None, {"updated_at": 1}) == Refused(None)


def test_delete_removes_the_record(kind: Kind) -> None:
    kind.table.put(kind.record)
    kind.table.delete(*kind.key)
    assert kind.table.get(*kind.key) is None
    assert kind.raw() is None


# ---- expiry


def test_expired_record_is_absent_before_dynamodb_deletes_it(expiring: Kind) -> None:
    table, store = expiring.table, expiring.store
    table.put(replace(expiring.record, expires_at=NOW + 1))
    assert table.get(*expiring.key) is not None
    table.put(replace(expiring.record, expires_at=NOW))
    before = expiring.raw()
    assert table.get(*expiring.key) is None
    assert store.read(table.lookup(*expiring.key), store.clients.lookup("c-1")) == (None, None)
    assert list(table.find(table.key[0], expiring.key[0])) == []
    assert list(table.scan()) == []
    assert table.transition(expiring.key, None, expiring.change) == Refused(None)
    assert take(expiring) == Refused(None)
    refused = store.transact(table.changing(expiring.key, None, expiring.change))
    assert refused == (Refused(None),)
    assert store.transact(table.checking(expiring.key)) == (Refused(None),)
    assert expiring.raw() == before


def test_insert_replaces_an_expired_record(expiring: Kind) -> None:
    expiring.table.put(replace(expiring.changed, expires_at=NOW))
    assert expiring.table.insert(expiring.record)
    assert expiring.table.get(*expiring.key) == expiring.record


# ---- concurrent writes: one succeeds


def test_one_of_fifty_concurrent_transitions_succeeds_and_the_others_get_its_record(kind: Kind) -> None:
    kind.table.put(kind.record)
    outcomes = run_concurrently(
        partial(kind.table.transition, kind.key, kind.unchanged(), {kind.field: kind.value(n)}) for n in range(50)
    )
    winners = [(n, outcome) for n, outcome in enumerate(outcomes) if not isinstance(outcome, Refused)]
    assert len(winners) == 1
    number, winner = winners[0]
    assert winner == replace(kind.record, **{kind.field: kind.value(number)})
    assert [outcome for outcome in outcomes if isinstance(outcome, Refused)] == [Refused(winner)] * 49
    assert kind.table.get(*kind.key) == winner


def test_one_of_fifty_concurrent_transitions_that_set_taken_at_succeeds(kind: Kind) -> None:
    kind.table.put(kind.record)
    outcomes = run_concurrently([lambda: take(kind)] * 50)
    taken = replace(kind.record, taken_at=NOW) if hasattr(kind.record, "taken_at") else kind.record
    assert outcomes.count(taken) == 1
    assert outcomes.count(Refused(taken)) == 49


def test_one_of_fifty_concurrent_inserts_succeeds(kind: Kind) -> None:
    records = [replace(kind.record, **{kind.field: kind.value(n)}) for n in range(50)]
    outcomes = run_concurrently(partial(kind.table.insert, record) for record in records)
    assert outcomes.count(True) == 1
    assert kind.table.get(*kind.key) == records[outcomes.index(True)]


def test_one_of_fifty_concurrent_transactions_succeeds(kind: Kind) -> None:
    """Each changes the same record and inserts another one: only that of the winner is stored."""
    kind.table.put(kind.record)
    store = kind.store
    outcomes = run_concurrently(
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
    inserted = [n for n in range(50) if kind.table.get(*key_of(kind.table, kind.other(n)))]
    assert inserted == [winner]


# ---- lost responses and retries


@pytest.mark.parametrize("lost", [1, 2])
def test_write_succeeds_when_its_response_is_lost(kind: Kind, wire: Wire, lost: int) -> None:
    with wire.fault(0, faults.answer_lost, lost):
        assert kind.table.insert(kind.record)
    with wire.fault(0, faults.answer_lost, lost):
        assert kind.table.transition(kind.key, kind.unchanged(), kind.change) == kind.changed
    with wire.fault(0, faults.answer_lost, lost):
        taken = take(kind)
    assert not isinstance(taken, Refused)
    with wire.fault(0, faults.answer_lost, lost):
        kind.table.put(kind.record)
    with wire.fault(0, faults.answer_lost, lost):
        assert kind.table.get(*kind.key) == kind.record
    with wire.fault(0, faults.answer_lost, lost):
        kind.table.delete(*kind.key)
    assert kind.raw() is None


def test_transaction_succeeds_when_its_response_is_lost(kind: Kind, wire: Wire) -> None:
    store = kind.store
    with wire.fault(0, faults.answer_lost, 1):
        assert store.transact(kind.table.inserting(kind.record)) is None
    with wire.fault(0, faults.answer_lost, 1):
        done = store.transact(
            kind.table.inserting(kind.other(1)), kind.table.changing(kind.key, kind.unchanged(), kind.change)
        )
    assert done is None
    assert kind.table.get(*kind.key) == kind.changed


def test_retry_is_refused_when_another_process_changed_the_record_before(kind: Kind, wire: Wire) -> None:
    """The first attempt never arrives, another process changes the record, and the retry is refused."""
    kind.table.put(kind.record)

    def lose_race(request: Request, proceed: faults.Proceed) -> Response:
        taken = kind.table.transition(kind.key, kind.unchanged(), {kind.field: kind.value(7)})
        assert not isinstance(taken, Refused)
        return faults.no_response(request, proceed)

    changed_by_other = replace(kind.record, **{kind.field: kind.value(7)})
    with wire.fault(0, lose_race, 1):
        assert kind.table.transition(kind.key, kind.unchanged(), kind.change) == Refused(changed_by_other)
    assert kind.table.get(*kind.key) == changed_by_other


@pytest.mark.parametrize(
    "fault", [faults.unreachable, faults.no_response, faults.throttled, faults.throttled_by_account, faults.failing]
)
def test_failing_storage_raises_temporarily_unavailable(store: Store, wire: Wire, fault: faults.Fault) -> None:
    record = EXAMPLES["grants"][0]
    with wire.fault(0, fault), pytest.raises(TemporarilyUnavailable) as raised:
        store.grants.insert(record)
    assert raised.value.status == 503
    assert raised.value.headers["Retry-After"]
    assert store.grants.get(record.grant_id) is None
    with wire.fault(0, fault, 2):
        assert store.grants.insert(record)


def test_write_that_conflicts_with_a_transaction_is_retried(kind: Kind, wire: Wire) -> None:
    kind.table.put(kind.record)
    with wire.fault(0, faults.conflict, 1):
        assert kind.table.transition(kind.key, kind.unchanged(), kind.change) == kind.changed
    with wire.fault(0, faults.conflict, 1):
        assert kind.store.transact(kind.table.inserting(kind.other(1))) is None
    assert kind.table.get(*key_of(kind.table, kind.other(1))) == kind.other(1)


def test_write_that_always_conflicts_raises_temporarily_unavailable(store: Store, wire: Wire) -> None:
    record = EXAMPLES["grants"][0]
    with wire.every("PutItem", faults.conflict), pytest.raises(TemporarilyUnavailable):
        store.grants.insert(record)
    with wire.every("TransactWriteItems", faults.conflict), pytest.raises(TemporarilyUnavailable):
        store.transact(store.grants.inserting(record), store.users.checking(("u-1",)))
    assert store.grants.get(record.grant_id) is None


# ---- deleted records


def test_deleted_record_is_not_created_again_by_a_change(kind: Kind) -> None:
    store = kind.store
    kind.table.put(kind.record)
    kind.table.delete(*kind.key)
    assert kind.table.transition(kind.key, None, kind.change) == Refused(None)
    # A condition that is true for an absent record.
    assert kind.table.transition(kind.key, attr("revoked_at").not_exists(), kind.change) == Refused(None)
    assert kind.table.transition(kind.key, None, {}, remove=(kind.field,)) == Refused(None)
    assert take(kind) == Refused(None)
    assert store.transact(kind.table.changing(kind.key, None, kind.change)) == (Refused(None),)
    assert kind.raw() is None


# ---- records of older and newer versions


def test_unknown_attribute_is_ignored_and_kept(kind: Kind) -> None:
    item = {**kind.table._pack(kind.record), "from_the_future": {"M": {"a": {"S": "b"}}}}
    kind.put_raw(item)
    assert kind.table.get(*kind.key) == kind.record
    assert kind.table.transition(kind.key, None, kind.change) == kind.changed
    stored = kind.raw()
    assert stored is not None
    assert stored["from_the_future"] == item["from_the_future"]


def test_missing_field_is_read_as_its_default(kind: Kind) -> None:
    needed = {
        field.name: getattr(kind.record, field.name)
        for field in fields(kind.record)
        if field.default is MISSING and field.default_factory is MISSING
    }
    kind.put_raw(pack(needed))
    assert kind.table.get(*kind.key) == type(kind.record)(**needed)


# ---- transactions


def test_transaction_is_all_or_nothing_and_returns_the_refused_steps(store: Store) -> None:
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


def test_transaction_adds_to_sets_and_creates_an_absent_record(store: Store) -> None:
    key = ("u-9", "c-9")
    for scope in ("openid", "email"):
        step = store.consents.changing(key, None, {"updated_at": NOW}, add={"scope": frozenset({scope})}, create=True)
        assert store.transact(step) is None
    assert store.consents.get(*key) == Consent(*key, frozenset({"openid", "email"}), NOW)


def test_transition_changes_one_member_of_a_map(store: Store) -> None:
    grant = EXAMPLES["grants"][0]
    store.grants.put(grant)
    changed = store.grants.transition((grant.grant_id,), None, {"rotated_at.1": NOW + 7})
    assert changed == replace(grant, rotated_at={"0": NOW, "3": NOW + 1, "1": NOW + 7})


# ---- several records at once


def test_batch_read_returns_records_in_the_requested_order(store: Store, wire: Wire) -> None:
    for name, (record, _) in EXAMPLES.items():
        all_tables(store)[name].put(record)
    lookups = [table.lookup(*key_of(table, EXAMPLES[name][0])) for name, table in all_tables(store).items()]
    for order in (lookups, lookups[::-1], [*lookups, *lookups]):
        with wire.counted() as calls:
            records = store.read(*order)
        assert calls == ["BatchGetItem"]
        assert list(records) == [EXAMPLES[lookup.table.name.rpartition("-")[2]][0] for lookup in order]
    with wire.counted() as calls:
        assert store.read(store.clients.lookup(""), store.users.lookup("unknown")) == (None, None)
        assert store.read() == ()
    assert calls == ["GetItem"]


def _process_first_keys(request: Request, proceed: faults.Proceed) -> Response:
    """Process only the first key of each table."""
    items = faults.parameters_of(request)["RequestItems"]
    processed = {name: {**keys, "Keys": keys["Keys"][:1]} for name, keys in items.items()}
    unprocessed = {name: {**keys, "Keys": keys["Keys"][1:]} for name, keys in items.items() if keys["Keys"][1:]}
    request.body = json.dumps({"RequestItems": processed}).encode()
    return faults.answer(request, json.dumps(json.loads(proceed().body) | {"UnprocessedKeys": unprocessed}))


def _process_nothing(request: Request, _proceed: faults.Proceed) -> Response:
    items = faults.parameters_of(request)["RequestItems"]
    return faults.answer(request, json.dumps({"Responses": {}, "UnprocessedKeys": items}))


def test_batch_read_requests_unprocessed_keys_again(kind: Kind, wire: Wire) -> None:
    records = [kind.record, kind.other(1)]
    for record in records:
        kind.table.put(record)
    lookups = [kind.table.lookup(*key_of(kind.table, record)) for record in records]
    with wire.fault(0, _process_first_keys):
        assert list(kind.store.read(*lookups)) == records
    assert wire.calls == ["BatchGetItem", "BatchGetItem"]


def test_batch_read_that_never_completes_raises_temporarily_unavailable(store: Store, wire: Wire) -> None:
    with wire.every("BatchGetItem", _process_nothing), pytest.raises(TemporarilyUnavailable):
        store.read(store.clients.lookup("a"), store.users.lookup("b"))


def _limit_pages_to_two(request: Request, proceed: faults.Proceed) -> Response:
    request.body = json.dumps(faults.parameters_of(request) | {"Limit": 2}).encode()
    return proceed()


def entry_of(grant: Grant) -> GrantEntry:
    return GrantEntry(**{field.name: getattr(grant, field.name) for field in fields(GrantEntry)})


def test_find_reads_all_pages_of_an_index(store: Store, wire: Wire) -> None:
    kind = Kind(store, store.sessions, *EXAMPLES["sessions"])
    records = [kind.other(number) for number in range(5)]
    for record in [*records, replace(kind.other(5), expires_at=NOW), replace(kind.other(6), sub="another user")]:
        kind.table.put(record)
    with wire.every("Query", _limit_pages_to_two):
        records_found = list(kind.table.find("sub", kind.record.sub, index="sub"))
    assert len(wire.calls) >= 3
    assert sorted(records_found, key=repr) == sorted(records, key=repr)


def test_find_reads_all_pages_of_the_entries_of_grants(store: Store, wire: Wire) -> None:
    kind = Kind(store, store.grants, *EXAMPLES["grants"])
    grants = [kind.other(number) for number in range(5)]
    # Only grants of a user have an entry, which does not say whether the grant has expired.
    grants.append(replace(kind.other(5), expires_at=NOW))
    for grant in [*grants, replace(kind.other(6), sub="another user"), replace(kind.other(7), sub=None)]:
        kind.table.put(grant)
    with wire.every("Query", _limit_pages_to_two):
        entries = list(store.grant_entries.find("sub", kind.record.sub, index="user"))
    assert len(wire.calls) >= 3
    assert sorted(entries, key=repr) == sorted(map(entry_of, grants), key=repr)


def test_find_and_scan_read_all_pages_of_a_table(store: Store, wire: Wire) -> None:
    records = [Consent("u-1", f"c-{number}", frozenset({"openid"})) for number in range(5)]
    for record in [*records, Consent("u-2", "c-1")]:
        store.consents.put(record)
    with wire.every("Query", _limit_pages_to_two):
        assert sorted(store.consents.find("sub", "u-1"), key=repr) == records
    with wire.every("Scan", _limit_pages_to_two):
        assert len(list(store.consents.scan())) == 6
    assert len(wire.calls) >= 3


# ---- amending


def test_amendment_writes_only_what_differs(kind: Kind) -> None:
    kind.table.put(kind.record)
    stored = kind.raw()
    assert stored
    kind.put_raw({**stored, "more": {"S": "of a later version"}})
    assert kind.store.amend(kind.table, kind.record, lambda _: kind.changed) == kind.changed
    assert kind.table.get(*kind.key) == kind.changed
    again = kind.raw()
    assert again
    assert again["more"] == {"S": "of a later version"}


def test_amendment_without_a_difference_writes_nothing(kind: Kind, wire: Wire) -> None:
    with wire.counted() as calls:
        assert kind.store.amend(kind.table, kind.record, lambda record: record) == kind.record
    assert calls == []


def test_amendment_removes_and_restores_an_optional_field(store: Store) -> None:
    client = replace(EXAMPLES["clients"][0], trusted=False)
    store.clients.put(client)
    without = store.amend(store.clients, client, lambda record: replace(record, access_token_lifetime=None))
    assert store.clients.get("c-1") == without == replace(client, access_token_lifetime=None)
    assert isinstance(without, Client)
    assert store.amend(store.clients, without, lambda record: replace(record, access_token_lifetime=300)) == client
    assert store.clients.get("c-1") == client


def test_amendment_empties_and_refills_a_set(store: Store) -> None:
    consent = EXAMPLES["consents"][0]
    store.consents.put(consent)
    empty = store.amend(store.consents, consent, lambda record: replace(record, scope=frozenset()))
    assert store.consents.get("u-1", "c-1") == empty
    assert isinstance(empty, Consent)
    assert not empty.scope
    assert store.amend(store.consents, empty, lambda _: consent) == consent
    assert store.consents.get("u-1", "c-1") == consent


def test_none_of_twenty_concurrent_amendments_is_lost(store: Store) -> None:
    client = EXAMPLES["clients"][0]
    store.clients.put(client)

    def add(number: int) -> Any:
        def change(current: Client) -> Client:
            return replace(current, redirect_uris=(*current.redirect_uris, f"https://client.example.com/{number}"))

        return lambda: store.amend(store.clients, client, change)

    outcomes = run_concurrently(add(number) for number in range(20))
    assert all(isinstance(outcome, Client) for outcome in outcomes)
    stored = store.clients.get("c-1")
    assert stored
    assert stored.redirect_uris[:2] == client.redirect_uris
    assert set(stored.redirect_uris[2:]) == {f"https://client.example.com/{number}" for number in range(20)}


def test_amendment_is_repeated_when_any_field_has_changed(kind: Kind) -> None:
    """The function is called again with the current record, whichever field another process has changed."""
    kind.table.put(kind.record)
    for record_field in fields(kind.record):
        name = record_field.name
        if name in (*kind.table.key, kind.field, "expires_at"):
            continue
        other = replace(kind.record, **{name: _different(getattr(kind.record, name))})
        for before, current in ((kind.record, other), (other, kind.record)):
            kind.table.put(current)
            arguments: list[Any] = []

            def change(record: Any, arguments: list[Any] = arguments) -> Any:
                arguments.append(record)
                return replace(record, **kind.change)

            kind.store.amend(kind.table, before, change)
            assert arguments == [before, current], name
            assert kind.table.get(*kind.key) == replace(current, **kind.change)


def _different(value: Any) -> Any:
    """Return another value of the same type."""
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
    return "x"  # a field that was None


def test_amendment_of_a_record_without_newer_fields_succeeds(kind: Kind) -> None:
    kind.table.put(kind.record)
    stored = kind.raw()
    assert stored
    required = {
        field.name for field in fields(kind.record) if field.default is MISSING and field.default_factory is MISSING
    }
    kind.put_raw({name: value for name, value in stored.items() if name in required})
    old: Any = kind.table.get(*kind.key)
    amended = kind.store.amend(kind.table, old, lambda record: replace(record, **kind.change))
    assert amended == kind.table.get(*kind.key) == replace(old, **kind.change)


def test_deleted_record_is_not_amended(kind: Kind) -> None:
    assert kind.store.amend(kind.table, kind.record, lambda _: kind.changed) == Refused(None)
    assert kind.raw() is None


def test_amendment_is_refused_when_another_step_of_its_transaction_is(store: Store) -> None:
    client, name = EXAMPLES["clients"][0], EXAMPLES["identifiers"][0]
    store.clients.put(client)
    store.identifiers.put(name)
    insert = store.identifiers.inserting(replace(name, sub="another"))
    outcome = store.amend(store.clients, client, lambda record: replace(record, trusted=False), lambda *_: [insert])
    assert outcome == Refused(name)
    assert store.clients.get("c-1") == client


def test_amendment_that_always_loses_the_race_raises_temporarily_unavailable(store: Store) -> None:
    client = EXAMPLES["clients"][0]
    store.clients.put(client)

    def lose_race(record: Client) -> Client:
        store.clients.put(replace(record, client_id_issued_at=record.client_id_issued_at + 1))
        return replace(record, trusted=False)

    with pytest.raises(TemporarilyUnavailable):
        store.amend(store.clients, client, lose_race)


def test_deleting_step_requires_the_record_and_its_condition(kind: Kind) -> None:
    table, store = kind.table, kind.store
    assert store.transact(table.deleting(kind.key)) == (Refused(None),)
    table.put(kind.record)
    assert store.transact(table.deleting(kind.key, attr(kind.field).eq(kind.value(0)))) == (Refused(kind.record),)
    assert table.get(*kind.key) == kind.record
    assert store.transact(table.deleting(kind.key, kind.unchanged())) is None
    assert kind.raw() is None
