"""The doctor's look from inside: the registered clients, and the tables, keys, function and alarms of a stage."""

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest

from chalicelib import rotation
from chalicelib.handles import secret_hash
from chalicelib.keys import KeyRing
from chalicelib.settings import Settings
from chalicelib.store import Store
from infra.doctor import check
from infra.doctor import clients as doctor_clients
from infra.doctor import function as doctor_function
from infra.doctor.stage import Inside
from tests.between import names, one
from tests.site import Site

REGION = "eu-central-1"


# ---- the clients


@pytest.mark.parametrize(
    ("changes", "clause"),
    [
        ({"require_pkce": False}, "RFC 9700 §2.1.1"),
        ({"redirect_uris": ("http://client.example.com/cb",)}, "RFC 9700 §2.6"),
        ({"redirect_uris": ("http://localhost:3000/cb",)}, "RFC 8252 §8.3"),
        ({"redirect_uris": ("https://*.example.com/cb",)}, "RFC 9700 §2.1, §4.1.3"),
        ({"redirect_uris": ("https://c.example/cb?next=https://c.example/home",)}, "RFC 9700 §4.11.1"),
        ({"grant_types": ("authorization_code", "password")}, "RFC 9700 §2.1.2, §2.4"),
        ({"response_types": ("code", "token")}, "RFC 9700 §2.1.2, §2.4"),
        ({"direct_sign_in": True}, "RFC 9700 §2.4"),
        ({"scope": "openid " + " ".join(f"s{n}" for n in range(12)), "public": True}, "RFC 9700 §2.3"),
        ({"authorization_code_lifetime": 600}, "RFC 6749 §4.1.2"),
        ({"access_token_lifetime": 86400}, "RFC 6750 §5.3"),
        ({"refresh_token_lifetime": 366 * 86400}, "RFC 9700 §4.14.2"),
        ({"secret_hashes": ("a", "b")}, "2 secrets that work"),
        ({"secret_hashes": ()}, "RFC 6749 §2.3.1"),
        ({"secret_hashes": (secret_hash("demo-secret"),)}, "RFC 6749 §10.1"),
        ({"client_name": ""}, "RFC 7591 §3.2.2"),
    ],
)
def test_a_client_that_breaks_a_rule_is_named_with_the_clause_and_the_fix(
    site: Site, changes: dict[str, Any], clause: str
) -> None:
    site.client(client_id="good")
    given = dict(changes)
    bad = site.client(client_id="bad", public=bool(given.pop("public", False)))
    site.server.store.clients.put(replace(bad.record, **given))
    findings = list(doctor_clients.look(site.server.store))
    assert {finding.name for finding in findings} == {"client bad"}
    (found,) = [finding for finding in findings if clause in finding.detail]
    assert found.fix
    # A disabled client breaks nothing.
    site.server.store.clients.put(replace(bad.record, **given, disabled_at=1))
    (found,) = doctor_clients.look(site.server.store)
    assert (found.ok, found.detail[:9]) == (True, "1 clients")


# ---- from inside, in AWS


@pytest.fixture
def stage(site: Site) -> Iterator[Store]:
    """A stage in (moto's) AWS, as the data stack makes it."""
    dynamodb, kms = aws("dynamodb"), aws("kms")
    name = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.enable_key_rotation(KeyId=name)
    kms.create_alias(AliasName="alias/signet-ward", TargetKeyId=name)
    store = Store(Settings(stage="ward", region=REGION, kms_key_id="alias/signet-ward"))
    for table_name, properties in Inside(store).schema.items():
        make_table(table_name, properties, kms.describe_key(KeyId=name)["KeyMetadata"]["Arn"])
    yield store
    for table in store.tables:
        if table.name in dynamodb.list_tables()["TableNames"]:
            dynamodb.update_table(TableName=table.name, DeletionProtectionEnabled=False)
            dynamodb.delete_table(TableName=table.name)
    kms.delete_alias(AliasName="alias/signet-ward")


def make_table(name: str, properties: dict[str, Any], key_arn: str | None) -> None:
    """A table of infra/tables.yaml, encrypted with this key."""
    shape = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode", "DeletionProtectionEnabled")
    given = {part: properties[part] for part in shape if part in properties}
    if key_arn:
        given["SSESpecification"] = {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": key_arn}
    aws("dynamodb").create_table(TableName=name, **given)
    if ttl := properties.get("TimeToLiveSpecification"):
        aws("dynamodb").update_time_to_live(TableName=name, TimeToLiveSpecification=ttl)
    if recovery := properties.get("PointInTimeRecoverySpecification"):
        aws("dynamodb").update_continuous_backups(TableName=name, PointInTimeRecoverySpecification=recovery)


@functools.cache
def aws(service: Any) -> Any:
    return boto3.client(service, region_name=REGION)


def make_ring(store: Store) -> None:
    KeyRing(store).jwks()


def test_a_stage_as_the_data_stack_makes_it_is_well(stage: Store) -> None:
    findings = check(None, stage)
    assert names(findings) == []
    assert one(findings, "key ring").ok is None  # no request has needed one yet
    assert stage.keys.get("main") is None
    make_ring(stage)
    assert one(check(None, stage), "key ring").ok
    assert names(check(None, stage), None) == ["function", "runtime", "pinned issuer", "alarms"]


def no_protection(store: Store) -> None:
    aws("dynamodb").update_table(TableName=store.users.name, DeletionProtectionEnabled=False)


def no_table(store: Store) -> None:
    aws("dynamodb").delete_table(TableName=store.grants.name)


def another_schema(store: Store) -> None:
    no_table(store)
    aws("dynamodb").create_table(
        TableName=store.grants.name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )


def no_expiry(store: Store) -> None:
    off = {"Enabled": False, "AttributeName": "expires_at"}
    aws("dynamodb").update_time_to_live(TableName=store.sessions.name, TimeToLiveSpecification=off)


def no_backups(store: Store) -> None:
    off = {"PointInTimeRecoveryEnabled": False}
    aws("dynamodb").update_continuous_backups(TableName=store.users.name, PointInTimeRecoverySpecification=off)


def no_encryption(store: Store) -> None:
    no_table(store)
    make_table(store.grants.name, Inside(store).schema[store.grants.name], None)


def kms_key(store: Store) -> str:
    found: str = aws("kms").describe_key(KeyId="alias/signet-ward")["KeyMetadata"]["KeyId"]
    return found


def no_rotation(store: Store) -> None:
    aws("kms").disable_key_rotation(KeyId=kms_key(store))


def key_disabled(store: Store) -> None:
    aws("kms").disable_key(KeyId=kms_key(store))


def another_ring(store: Store) -> None:
    make_ring(store)
    record = store.keys.get("main")
    assert record
    store.keys.put(replace(record, sealed=record.sealed[:-1] + b"\0\0"))


def an_old_ring(store: Store) -> None:
    now, store.now = store.now, lambda: int(time.time()) - 500 * 86400
    make_ring(store)
    store.now = now


INSIDE: list[tuple[str, Callable[[Store], None], str, str]] = [
    ("a table is missing", no_table, "tables", "signet-ward-grants is missing"),
    ("a table has another key", another_schema, "tables", "other keys or indexes"),
    ("a table keeps everything", no_expiry, "expiry", "signet-ward-sessions keeps what has expired"),
    ("a table has no backup", no_backups, "backups", "signet-ward-users cannot be restored"),
    ("a table can be deleted", no_protection, "deletion protection", "signet-ward-users can be deleted"),
    ("a table is not encrypted", no_encryption, "encryption", "signet-ward-grants is not encrypted"),
    ("the key does not rotate", no_rotation, "KMS key", "does not rotate"),
    ("the key is disabled", key_disabled, "KMS key", "is Disabled"),
    ("the ring does not open", another_ring, "key ring", "cannot be opened"),
    ("the ring is old", an_old_ring, "key ring", "500 days old"),
]


@pytest.mark.parametrize(("what", "spoil", "name", "said"), INSIDE, ids=[what for what, _, _, _ in INSIDE])
def test_a_fault_is_found_from_inside(
    stage: Store, what: str, spoil: Callable[[Store], None], name: str, said: str
) -> None:
    spoil(stage)
    found = one(check(None, stage), name)
    assert found.ok is False
    assert said in found.detail
    assert found.fix


def test_an_old_key_that_has_a_successor_is_no_fault(stage: Store) -> None:
    an_old_ring(stage)
    assert "key rotate" in one(check(None, stage), "key ring").fix
    rotation.rotate(KeyRing(stage), stage.now(), rotation.PUBLISHED_BEFORE_USE)
    assert one(check(None, stage), "key ring").ok


@pytest.fixture
def function(stage: Store) -> Iterator[Callable[..., None]]:
    """Makes the stage's Lambda function, among others."""
    role = aws("iam").create_role(RoleName="ward", AssumeRolePolicyDocument="{}")["Role"]["Arn"]

    def make(runtime: str = "python3.13", **variables: str) -> None:
        for name, environment in (("other", {}), ("ward", {"SIGNET_STAGE": "ward", **variables})):
            aws("lambda").create_function(
                FunctionName=name,
                Runtime=runtime,
                Role=role,
                Handler="app.app",
                Code={"ZipFile": b"PK\x05\x06" + b"\0" * 18},
                Environment={"Variables": environment},
            )

    yield make
    for found in aws("lambda").list_functions()["Functions"]:
        aws("lambda").delete_function(FunctionName=found["FunctionName"])
    aws("iam").delete_role(RoleName="ward")


@pytest.mark.parametrize(
    ("days", "variables", "ok"),
    [
        (96, {}, True),
        (98, {}, False),
        (36, {"SIGNET_KEY_ROTATION_DAYS": "30"}, True),
        (38, {"SIGNET_KEY_ROTATION_DAYS": "30"}, False),
        (399, {"SIGNET_KEY_ROTATION_DAYS": "0"}, True),
        (401, {"SIGNET_KEY_ROTATION_DAYS": "0"}, False),
        (399, {"SIGNET_SIGNING": "kms"}, True),
    ],
)
def test_keys_that_the_schedule_should_have_replaced_are_a_fault(
    stage: Store, function: Callable[..., None], days: int, variables: dict[str, str], ok: bool
) -> None:
    function(**variables)
    now = stage.now()
    stage.now = lambda: now - days * 86400
    make_ring(stage)
    stage.now = lambda: now
    found = one(check(None, stage), "key ring")
    assert found.ok is ok
    assert ("rotate_keys" in (found.fix or "")) is (not ok and variables != {"SIGNET_KEY_ROTATION_DAYS": "0"})


def test_the_function_its_runtime_and_its_issuer_are_looked_at(
    stage: Store, function: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    function(SIGNET_ISSUER="https://id.example.com")
    findings = check(None, stage)
    for name in ("function", "runtime", "pinned issuer"):
        assert one(findings, name).ok, one(findings, name)
    monkeypatch.setattr(doctor_function, "OLDEST_ZIP", -1)
    assert "and so are its libraries" in one(check(None, stage), "function").detail


def test_an_old_runtime_and_an_issuer_that_nobody_set_are_found(stage: Store, function: Callable[..., None]) -> None:
    function("python3.10")
    findings = check(None, stage)
    assert "python3.10 ends on 2026-10-31" in one(findings, "runtime").detail
    assert one(findings, "runtime").fix == "Deploy from a virtual environment of python3.14."
    assert "may become several" in one(findings, "pinned issuer").detail


def test_an_alarm_that_rings_is_heard(stage: Store) -> None:
    cloudwatch = aws("cloudwatch")
    for name in ("signet-ward-errors", "signet-ward2-errors"):
        cloudwatch.put_metric_alarm(
            AlarmName=name,
            AlarmDescription="Requests fail. Look into the log.",
            Namespace="Signet",
            MetricName="server_error",
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanThreshold",
        )
    cloudwatch.set_alarm_state(AlarmName="signet-ward2-errors", StateValue="ALARM", StateReason="test")
    assert one(check(None, stage), "alarms").detail == "1 alarms, all quiet."
    cloudwatch.set_alarm_state(AlarmName="signet-ward-errors", StateValue="ALARM", StateReason="test")
    assert one(check(None, stage), "alarms").detail == "signet-ward-errors: Requests fail. Look into the log."
    cloudwatch.delete_alarms(AlarmNames=["signet-ward-errors", "signet-ward2-errors"])
