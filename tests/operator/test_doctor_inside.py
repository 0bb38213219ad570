"""The doctor from inside: the registered clients, and the tables, keys, function and alarms of a stage."""

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest

from chalicelib import events
from chalicelib.keys import rotation
from chalicelib.keys.ring import KeyRing
from chalicelib.protocol.durations import DAY, HOUR
from chalicelib.protocol.handles import secret_hash
from chalicelib.protocol.records import Event
from chalicelib.protocol.scheduled_deletion import ScheduledDeletion
from chalicelib.settings import Settings
from chalicelib.storage.store import Store
from infra import schema
from infra.operator.doctor import check, sign_ins
from infra.operator.doctor import clients as doctor_clients
from infra.operator.doctor import function as doctor_function
from infra.operator.doctor.inside import CHECKS
from infra.operator.doctor.stage import Inside
from tests.support.assertions import key_pair
from tests.support.site import Site
from tests.support.tampering_proxy import finding_names, get_finding

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
        ({"secret_hashes": ("a", "b")}, "2 valid secrets"),
        ({"secret_hashes": ()}, "RFC 6749 §2.3.1"),
        ({"secret_hashes": (secret_hash("demo-secret"),)}, "RFC 6749 §10.1"),
        ({"client_name": ""}, "RFC 7591 §3.2.2"),
        (
            {
                "token_endpoint_auth_methods": ("private_key_jwt",),
                "token_endpoint_auth_method": "private_key_jwt",
                "jwks": key_pair().jwks,
                "assertion_audience": "token_endpoint",
                "secret_hashes": (),
            },
            "rfc7523bis",
        ),
    ],
)
def test_client_that_breaks_a_rule_is_reported_with_clause_and_fix(
    site: Site, changes: dict[str, Any], clause: str
) -> None:
    site.client(client_id="good")
    fields = dict(changes)
    bad = site.client(client_id="bad", public=bool(fields.pop("public", False)))
    site.server.store.clients.put(replace(bad.record, **fields))
    findings = list(doctor_clients.inspect(site.server.store))
    assert {finding.name for finding in findings} == {"client bad"}
    (finding,) = [finding for finding in findings if clause in finding.detail]
    assert finding.fix
    # Disabled clients are not checked.
    site.server.store.clients.put(replace(bad.record, **fields, disabled_at=1))
    (finding,) = doctor_clients.inspect(site.server.store)
    assert (finding.ok, finding.detail[:13]) == (True, "All 1 clients")


# ---- from inside, in AWS


@pytest.fixture
def stage(site: Site) -> Iterator[Store]:
    """Return a stage in AWS (moto), as the data stack creates it."""
    dynamodb, kms = aws("dynamodb"), aws("kms")
    name = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.enable_key_rotation(KeyId=name)
    kms.create_alias(AliasName="alias/signet-ward", TargetKeyId=name)
    store = Store(Settings(stage="ward", region=REGION, kms_key_id="alias/signet-ward"))
    for table_name, properties in Inside(store).schema.items():
        create_table(table_name, properties, kms.describe_key(KeyId=name)["KeyMetadata"]["Arn"])
    yield store
    for table in store.tables:
        if table.name in dynamodb.list_tables()["TableNames"]:
            dynamodb.update_table(TableName=table.name, DeletionProtectionEnabled=False)
            dynamodb.delete_table(TableName=table.name)
    kms.delete_alias(AliasName="alias/signet-ward")


def create_table(name: str, properties: dict[str, Any], key_arn: str | None) -> None:
    """Create a table of infra/aws/tables.yaml, encrypted with this key."""
    shape = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode", "DeletionProtectionEnabled")
    members = {part: properties[part] for part in shape if part in properties}
    if key_arn:
        members["SSESpecification"] = {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": key_arn}
    aws("dynamodb").create_table(TableName=name, **members)
    if ttl := properties.get("TimeToLiveSpecification"):
        aws("dynamodb").update_time_to_live(TableName=name, TimeToLiveSpecification=ttl)
    if recovery := properties.get("PointInTimeRecoverySpecification"):
        aws("dynamodb").update_continuous_backups(TableName=name, PointInTimeRecoverySpecification=recovery)


@functools.cache
def aws(service: Any) -> Any:
    return boto3.client(service, region_name=REGION)


def create_ring(store: Store) -> None:
    KeyRing(store).create()


def test_stage_of_the_data_stack_passes_all_checks(stage: Store) -> None:
    findings = check(None, stage)
    assert finding_names(findings) == ["key ring"]
    assert "signet key create --stage ward" in get_finding(findings, "key ring").fix
    assert stage.keys.get("main") is None
    create_ring(stage)
    assert get_finding(check(None, stage), "key ring").ok
    skipped = ["passkeys", "function", "runtime", "pinned issuer", "alarms", "sign-in addresses"]
    skipped += ["front", "mail", "truststore"]
    skipped.append("suppressed addresses")
    assert finding_names(check(None, stage), None) == skipped


def disable_protection(store: Store) -> None:
    aws("dynamodb").update_table(TableName=store.users.name, DeletionProtectionEnabled=False)


def delete_table(store: Store) -> None:
    aws("dynamodb").delete_table(TableName=store.grants.name)


def change_schema(store: Store) -> None:
    delete_table(store)
    aws("dynamodb").create_table(
        TableName=store.grants.name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )


def recreate_grants(store: Store, **parameters: str) -> None:
    """Replace the table of grants by one of the schema with these parameters."""
    properties = schema.tables(store.settings.stage, **parameters)[store.grants.name]
    delete_table(store)
    create_table(store.grants.name, properties, aws("kms").describe_key(KeyId=kms_key(store))["KeyMetadata"]["Arn"])


def leave_only_the_old_index(store: Store) -> None:
    recreate_grants(store, OldGrantsIndex="kept")
    change_index(store, Delete={"IndexName": "user"})


def project_all(store: Store) -> None:
    (index,) = Inside(store).schema[store.grants.name]["GlobalSecondaryIndexes"]
    change_index(store, Delete={"IndexName": index["IndexName"]})
    change_index(store, Create={**index, "Projection": {"ProjectionType": "ALL"}})


def change_index(store: Store, **change: Any) -> None:
    types = [{"AttributeName": name, "AttributeType": "S"} for name in ("grant_id", "sub")]
    aws("dynamodb").update_table(
        TableName=store.grants.name, AttributeDefinitions=types, GlobalSecondaryIndexUpdates=[change]
    )


def disable_expiry(store: Store) -> None:
    off = {"Enabled": False, "AttributeName": "expires_at"}
    aws("dynamodb").update_time_to_live(TableName=store.sessions.name, TimeToLiveSpecification=off)


def disable_backups(store: Store) -> None:
    off = {"PointInTimeRecoveryEnabled": False}
    aws("dynamodb").update_continuous_backups(TableName=store.users.name, PointInTimeRecoverySpecification=off)


def remove_encryption(store: Store) -> None:
    delete_table(store)
    create_table(store.grants.name, Inside(store).schema[store.grants.name], None)


def kms_key(store: Store) -> str:
    key_id: str = aws("kms").describe_key(KeyId="alias/signet-ward")["KeyMetadata"]["KeyId"]
    return key_id


def disable_rotation(store: Store) -> None:
    aws("kms").disable_key_rotation(KeyId=kms_key(store))


def disable_key(store: Store) -> None:
    aws("kms").disable_key(KeyId=kms_key(store))


def corrupt_ring(store: Store) -> None:
    create_ring(store)
    record = store.keys.get("main")
    assert record
    store.keys.put(replace(record, sealed=record.sealed[:-1] + b"\0\0"))


def create_old_ring(store: Store) -> None:
    now, store.now = store.now, lambda: int(time.time()) - 500 * 86400
    create_ring(store)
    store.now = now


INSIDE: list[tuple[str, Callable[[Store], None], str, str]] = [
    ("a missing table", delete_table, "tables", "signet-ward-grants is missing"),
    ("a table with other keys", change_schema, "tables", "other keys or indexes"),
    ("a table of version 1", leave_only_the_old_index, "tables", "signet-ward-grants has other keys or indexes"),
    ("an index of other attributes", project_all, "tables", "signet-ward-grants has other keys or indexes"),
    ("a table without TTL", disable_expiry, "expiry", "signet-ward-sessions does not delete expired items"),
    ("a table without backups", disable_backups, "backups", "signet-ward-users cannot be restored"),
    ("an unprotected table", disable_protection, "deletion protection", "signet-ward-users is not protected"),
    ("an unencrypted table", remove_encryption, "encryption", "signet-ward-grants is not encrypted"),
    ("a key that is not rotated", disable_rotation, "KMS key", "is not rotated"),
    ("a disabled key", disable_key, "KMS key", "is Disabled"),
    ("a corrupt ring", corrupt_ring, "key ring", "cannot be unsealed"),
    ("an old ring", create_old_ring, "key ring", "500 days old"),
]


@pytest.mark.parametrize(("what", "break_stage", "name", "detail"), INSIDE, ids=[what for what, _, _, _ in INSIDE])
def test_doctor_reports_a_fault_from_inside(
    stage: Store, what: str, break_stage: Callable[[Store], None], name: str, detail: str
) -> None:
    break_stage(stage)
    finding = get_finding(check(None, stage), name)
    assert finding.ok is False
    assert detail in finding.detail
    assert finding.fix


def test_old_index_between_two_deployments_is_no_problem(stage: Store) -> None:
    recreate_grants(stage, OldGrantsIndex="kept")
    finding = get_finding(check(None, stage), "tables")
    assert (finding.ok, finding.fix) == (True, "")
    assert "signet-ward-grants has an old index, which the next deployment removes." in finding.detail
    recreate_grants(stage)
    assert "old index" not in get_finding(check(None, stage), "tables").detail


def test_index_that_is_being_created_is_reported(stage: Store) -> None:
    inside = Inside(stage)
    (index,) = inside.tables[stage.grants.name]["GlobalSecondaryIndexes"]
    index["IndexStatus"] = "CREATING"
    (verdict,) = [check_tables(inside) for name, check_tables, _ in CHECKS if name == "tables"]
    assert (verdict.ok, verdict.detail) == (False, "signet-ward-grants is creating its index user.")


def test_global_table_is_reported(stage: Store) -> None:
    inside = Inside(stage)
    inside.tables[stage.users.name]["Replicas"] = [{"RegionName": "eu-west-1", "ReplicaStatus": "ACTIVE"}]
    (verdict,) = [check_tables(inside) for name, check_tables, _ in CHECKS if name == "tables"]
    assert verdict.ok is False
    assert "signet-ward-users is a global table" in verdict.detail


def test_old_key_with_a_successor_is_accepted(stage: Store) -> None:
    create_old_ring(stage)
    assert "key rotate" in get_finding(check(None, stage), "key ring").fix
    rotation.rotate(KeyRing(stage), stage.now(), rotation.PUBLISHED_BEFORE_USE)
    assert get_finding(check(None, stage), "key ring").ok


@pytest.fixture
def function(stage: Store) -> Iterator[Callable[..., None]]:
    """Return a function that creates the stage's Lambda function and another one."""
    role = aws("iam").create_role(RoleName="ward", AssumeRolePolicyDocument="{}")["Role"]["Arn"]

    def create(runtime: str = "python3.13", **variables: str) -> None:
        for name, environment in (("other", {}), ("ward", {"SIGNET_STAGE": "ward", **variables})):
            aws("lambda").create_function(
                FunctionName=name,
                Runtime=runtime,
                Role=role,
                Handler="app.app",
                Code={"ZipFile": b"PK\x05\x06" + b"\0" * 18},
                Environment={"Variables": environment},
            )

    yield create
    for existing in aws("lambda").list_functions()["Functions"]:
        aws("lambda").delete_function(FunctionName=existing["FunctionName"])
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
def test_keys_that_the_schedule_should_have_rotated_are_reported(
    stage: Store, function: Callable[..., None], days: int, variables: dict[str, str], ok: bool
) -> None:
    function(**variables)
    now = stage.now()
    stage.now = lambda: now - days * 86400
    create_ring(stage)
    stage.now = lambda: now
    finding = get_finding(check(None, stage), "key ring")
    assert finding.ok is ok
    assert ("rotate_keys" in (finding.fix or "")) is (not ok and variables != {"SIGNET_KEY_ROTATION_DAYS": "0"})


def test_doctor_checks_the_function_its_runtime_and_its_issuer(
    stage: Store, function: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    function(SIGNET_ISSUER="https://id.example.com")
    findings = check(None, stage)
    for name in ("function", "runtime", "pinned issuer"):
        assert get_finding(findings, name).ok, get_finding(findings, name)
    monkeypatch.setattr(doctor_function, "OLDEST_ZIP", -1)
    assert "its libraries are as old" in get_finding(check(None, stage), "function").detail


def test_old_runtime_and_missing_issuer_are_reported(stage: Store, function: Callable[..., None]) -> None:
    function("python3.10")
    findings = check(None, stage)
    assert "AWS support for python3.10 ends on 2026-10-31" in get_finding(findings, "runtime").detail
    assert get_finding(findings, "runtime").fix == "Deploy from a virtual environment of python3.14."
    assert "may be several issuers" in get_finding(findings, "pinned issuer").detail


def test_raised_alarm_is_reported(stage: Store) -> None:
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
    assert get_finding(check(None, stage), "alarms").detail == "1 alarms, none raised."
    cloudwatch.set_alarm_state(AlarmName="signet-ward-errors", StateValue="ALARM", StateReason="test")
    assert get_finding(check(None, stage), "alarms").detail == "signet-ward-errors: Requests fail. Look into the log."
    cloudwatch.delete_alarms(AlarmNames=["signet-ward-errors", "signet-ward2-errors"])


# ---- where sign-ins come from

PROXY, PRIVATE = "54.239.1.9", "10.0.3.7"


def record_sign_ins(store: Store, number: int, users: int, address: str, *, name: str = events.SIGN_IN) -> None:
    """Record sign-ins, or other events, of some users at an address in the history."""
    now = store.now()
    for count in range(number):
        event_id = f"1.{name}{address}{count}"  # the same again replaces an event
        store.events.put(Event(f"user{count % users}", event_id, name, now, now + DAY, source_ip=address))


def addresses_of_sign_ins(store: Store) -> tuple[bool | None, str]:
    finding = get_finding(check(None, store), "sign-in addresses")
    assert bool(finding.fix) is (finding.ok is False)
    return finding.ok, finding.detail


def test_deleted_accounts_that_are_not_removed_in_time_are_reported(stage: Store) -> None:
    now = stage.now()
    for number, due in enumerate((now + DAY, now - HOUR)):
        stage.deletions.put(ScheduledDeletion(f"d-{number}", "u", 1, due, now + 9 * DAY))
    verdict = doctor_function.removals(Inside(stage))
    assert (verdict.ok, verdict.detail) == (True, "2 deleted accounts wait for their removal, none too long.")
    stage.deletions.put(ScheduledDeletion("d-late", "u", 1, now - 25 * HOUR, now + 9 * DAY))
    verdict = doctor_function.removals(Inside(stage))
    assert verdict.ok is False
    assert verdict.detail.startswith("1 deleted accounts should have been removed")


def test_sign_ins_that_nearly_all_come_from_one_address_are_reported(stage: Store) -> None:
    record_sign_ins(stage, 17, 10, PROXY)
    record_sign_ins(stage, 1, 1, "192.0.2.1")
    assert addresses_of_sign_ins(stage) == (True, "18 sign-ins of the last days came from 2 addresses.")
    record_sign_ins(stage, 18, 10, PROXY)
    record_sign_ins(stage, 1, 1, "192.0.2.2")
    assert addresses_of_sign_ins(stage) == (False, f"18 of 20 sign-ins came from {PROXY}.")
    record_sign_ins(stage, 1, 1, "192.0.2.3")
    assert addresses_of_sign_ins(stage) == (True, "21 sign-ins of the last days came from 4 addresses.")


def test_many_sign_ins_of_few_users_from_one_address_are_no_problem(stage: Store) -> None:
    record_sign_ins(stage, 30, 9, PROXY)
    assert addresses_of_sign_ins(stage) == (True, "30 sign-ins of the last days came from 1 addresses.")


@pytest.mark.parametrize("address", [PRIVATE, "100.64.0.1", "fd00::1", "127.0.0.1", "169.254.3.3", "unknown"])
def test_single_sign_in_from_a_private_address_is_reported_at_once(stage: Store, address: str) -> None:
    record_sign_ins(stage, 1, 1, address)
    detail = f"All 1 sign-ins came from {address}, which is a private address."
    assert addresses_of_sign_ins(stage) == (False, detail)
    record_sign_ins(stage, 1, 1, PROXY)
    assert addresses_of_sign_ins(stage)[0]


def test_old_sign_ins_and_other_events_do_not_count_as_sign_ins(stage: Store) -> None:
    now = stage.now()
    stage.now = lambda: now - sign_ins.RECENT
    record_sign_ins(stage, 20, 10, PRIVATE)
    stage.now = lambda: now
    record_sign_ins(stage, 20, 10, PRIVATE, name=events.SIGN_IN_FAILED)
    ok, detail = addresses_of_sign_ins(stage)
    assert ok is None
    assert detail.startswith("There is no sign-in of the last 7 days")


def test_bounded_number_of_events_is_read(stage: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_ins, "MAX_READ", 5)
    record_sign_ins(stage, 30, 10, PROXY)
    assert addresses_of_sign_ins(stage) == (True, "5 sign-ins of the last days came from 1 addresses.")
