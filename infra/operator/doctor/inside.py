"""The checks from inside: the tables, the keys, the function and its alarms, the registered clients.

The embedded database of a checkout has no KMS, Lambda or CloudWatch, so checks that need AWS are reported as skipped.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from chalicelib.keys.envelope import Seal
from chalicelib.keys.stored_ring import RING
from chalicelib.protocol.client import Client
from chalicelib.protocol.durations import DAY
from chalicelib.protocol.errors import OAuthError
from chalicelib.settings import Settings, SettingsError
from chalicelib.storage.store import Store
from infra.access import NO_ACCESS, REJECTED
from infra.local.embedded import STAGE
from infra.local.state import StateFolder
from infra.operator.doctor import clients, deployed, function, resources, sign_ins
from infra.operator.doctor.findings import Finding, Verdict, judge, skipped
from infra.operator.doctor.stage import Inside
from infra.operator.doctor.visit import OPENID, Unreachable, ask

OLDEST_KEY = 400 * DAY  # without a schedule that rotates keys
_LATE = 7 * DAY
_DATA = "Run `signet data --stage {stage}`, which applies infra/aws/tables.yaml."


def inspect(store: Store) -> Iterator[Finding]:
    """Yield all findings from inside."""
    inside = Inside(store)
    for name, check, only_in_aws in CHECKS:
        if only_in_aws and not inside.in_aws:
            continue
        try:
            verdict = check(inside)
        except NO_ACCESS as error:  # no credentials, region or connection: other calls would fail too
            yield Finding("inside", None, f"AWS cannot be reached: {' '.join(str(error).split())}")
            return
        except (*REJECTED, OAuthError) as error:
            reason = getattr(error, "detail", "") or " ".join(str(error).split())
            verdict = skipped(f"It cannot be checked with these credentials: {reason}")
        yield Finding(name, verdict.ok, verdict.detail, verdict.fix)
    if not inside.in_aws:
        names = ", ".join(name for name, _, only_in_aws in CHECKS if only_in_aws)
        yield Finding("only in AWS", None, f"Not in the embedded database: {names}.")
    try:
        yield from clients.inspect(store)
    except (*REJECTED, *NO_ACCESS, OAuthError):
        yield Finding("clients", None, "The clients cannot be read with these credentials.")
    try:
        yield from resources.inspect(store, stage_url(store))
    except (*REJECTED, *NO_ACCESS, OAuthError):
        yield Finding("resources", None, "The resources cannot be read with these credentials.")


def find_client(store: Store) -> Client | None:
    """Return a client that may request a code, or None when there is none or clients cannot be read."""
    with suppress(*REJECTED, *NO_ACCESS, OAuthError):
        for client in store.clients.scan():
            if client.disabled_at is None and "code" in client.response_types:
                return client
    return None


def stage_url(store: Store) -> str | None:
    """Return the URL of the stage, or None when it is unknown: the pinned issuer, or that of a running local server."""
    inside = Inside(store)
    if not inside.in_aws:
        return local_url() if inside.stage == STAGE else store.settings.issuer
    with suppress(*REJECTED, *NO_ACCESS):
        return inside.variables.get("SIGNET_ISSUER") or None
    return None


def public_url(store: Store) -> str | None:
    """Return the same, or where a local server will be when none runs."""
    return stage_url(store) or (store.settings.issuer if store.settings.stage == STAGE else None)


def local_url() -> str | None:
    """Return the URL of a running server of this checkout, the one that was started last, or None."""
    for issuer in dict.fromkeys([*StateFolder().announced(), Settings.from_environ().issuer]):
        with suppress(Unreachable):
            if ask("GET", issuer + OPENID).members.get("issuer") == issuer:
                return issuer
    return None


# ---- tables


def _tables(inside: Inside) -> Verdict:
    problems = [f"{name} is missing" for name in inside.schema if name not in inside.tables]
    success = f"{len(inside.tables)} tables, with the schema of infra/aws/tables.yaml."
    for name, table in inside.tables.items():
        shape, expected = _shape(table), _shape(inside.schema[name])
        if table["TableStatus"] not in ("ACTIVE", "UPDATING"):
            problems.append(f"{name} is {table['TableStatus']}")
        if shape not in (expected, _shape(inside.schema_between_deployments[name])):
            problems.append(f"{name} has other keys or indexes than infra/aws/tables.yaml")
        elif shape != expected:
            success += f" {name} has an old index, which the next deployment removes."
        if table.get("Replicas"):
            problems.append(f"{name} is a global table, where conditions of writes do not hold: remove its replicas")
        indexes = {index["IndexName"]: index.get("IndexStatus") for index in table.get("GlobalSecondaryIndexes", ())}
        problems += [f"{name} is creating its index {index}" for index in indexes if indexes[index] == "CREATING"]
    fix = _DATA.format(stage=inside.stage) + " A key cannot be changed: copy the items to a new table."
    return judge(problems, success, fix)


def _shape(table: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a table and its indexes, with their types, and what the indexes project."""
    types = {attribute["AttributeName"]: attribute["AttributeType"] for attribute in table["AttributeDefinitions"]}
    parts = {"": table} | {index["IndexName"]: index for index in table.get("GlobalSecondaryIndexes", ())}
    return {
        name: (
            [(key["AttributeName"], key["KeyType"], types[key["AttributeName"]]) for key in part["KeySchema"]],
            part.get("Projection", {}).get("ProjectionType"),
            sorted(part.get("Projection", {}).get("NonKeyAttributes", ())),
        )
        for name, part in parts.items()
    }


def _expiry(inside: Inside) -> Verdict:
    client, problems, count = inside.dynamodb, [], 0
    for name in inside.tables:
        expiry = inside.schema[name].get("TimeToLiveSpecification")
        if not expiry:
            continue
        count += 1
        current = client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        enabled = current.get("TimeToLiveStatus") in ("ENABLED", "ENABLING")
        if not enabled or current.get("AttributeName") != expiry["AttributeName"]:
            problems.append(f"{name} does not delete expired items")
    return judge(problems, f"{count} tables delete expired items.", _DATA.format(stage=inside.stage))


def _backups(inside: Inside) -> Verdict:
    client, problems, durable = inside.dynamodb, [], _durable(inside)
    for name in durable:
        backups = client.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
        if backups.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus") != "ENABLED":
            problems.append(f"{name} cannot be restored to a point in time")
    success = f"{len(durable)} durable tables can be restored to any second of the last 35 days."
    return judge(problems, success, _DATA.format(stage=inside.stage))


def _protection(inside: Inside) -> Verdict:
    unprotected = [name for name in _durable(inside) if not inside.tables[name].get("DeletionProtectionEnabled")]
    problems = [f"{name} is not protected from deletion" for name in unprotected]
    return judge(problems, "The durable tables are protected from deletion.", _DATA.format(stage=inside.stage))


def _durable(inside: Inside) -> list[str]:
    return [name for name in inside.tables if "PointInTimeRecoverySpecification" in inside.schema[name]]


def _encryption(inside: Inside) -> Verdict:
    key = inside.aws("kms").describe_key(KeyId=inside.store.settings.kms_key_id)["KeyMetadata"]["Arn"]
    problems = [
        f"{name} is not encrypted with the key of the stage"
        for name, table in inside.tables.items()
        if table.get("SSEDescription", {}).get("KMSMasterKeyArn") != key
    ]
    return judge(problems, "All tables are encrypted with the key of the stage.", _DATA.format(stage=inside.stage))


# ---- keys


def _kms_key(inside: Inside) -> Verdict:
    alias, kms = inside.store.settings.kms_key_id, inside.aws("kms")
    try:
        key = kms.describe_key(KeyId=alias)["KeyMetadata"]
    except kms.exceptions.NotFoundException:
        return Verdict(False, f"There is no key {alias}.", _DATA.format(stage=inside.stage))
    if key["KeyState"] != "Enabled":
        fix = "Cancel its deletion or enable it at once: without it, tokens cannot be signed and tables cannot be read."
        return Verdict(False, f"{alias} is {key['KeyState']}.", fix)
    rotates = kms.get_key_rotation_status(KeyId=key["KeyId"])["KeyRotationEnabled"]
    problems = [] if rotates else [f"{alias} is not rotated"]
    return judge(problems, f"{alias} is enabled and rotated.", "aws kms enable-key-rotation --key-id " + key["KeyId"])


def _key_ring(inside: Inside) -> Verdict:
    # Not read through KeyRing, which adds missing keys: the doctor changes nothing.
    record = inside.store.keys.get(RING)
    if record is None and not inside.in_aws:
        return skipped("There is no key ring yet. `make run` creates it.")
    if record is None:
        fix = f"Restore it from a backup (docs/operate.md), or run `signet key create --stage {inside.stage}`."
        return Verdict(False, "There is no key ring: every request that needs a key gets status 503.", fix)
    try:
        ring = json.loads(Seal(inside.store.settings, inside.store.account).unseal(record.sealed, record.version))
    except SettingsError as error:
        fix = "Restore the key that sealed it: a new ring would invalidate all sessions and tokens."
        return Verdict(False, f"The key ring cannot be unsealed: {error}.", fix)
    now, problems, oldest_allowed = inside.store.now(), [], _oldest_key(inside)
    newest = {key["alg"]: key for key in sorted(ring["signing"], key=lambda key: int(key["created_at"]))}
    for key in ring["signing"]:
        if key is newest[key["alg"]] and now - key["created_at"] > oldest_allowed:
            problems.append(f"The {key['alg']} key {key['kid']} is {(now - key['created_at']) // DAY} days old")
        if "kms_key_id" in key:
            state = inside.aws("kms").describe_key(KeyId=key["kms_key_id"])["KeyMetadata"]["KeyState"]
            problems += [f"The {key['alg']} key in KMS is {state}"] if state != "Enabled" else []
    oldest = max((now - key["created_at"]) // DAY for key in ring["signing"])
    success = f"The key ring has {len(ring['signing'])} signing keys, the oldest created {oldest} days ago."
    fix = f"Run `signet key rotate --stage {inside.stage}`. Enable a disabled key in KMS."
    if oldest_allowed != OLDEST_KEY:
        fix += " The schedule should have rotated the keys: look in the log for `rotate_keys`."
    return judge(problems, success, fix)


def _oldest_key(inside: Inside) -> int:
    """Return the highest age, in seconds, that the rotation schedule allows for the newest key of an algorithm."""
    variables = inside.variables if inside.in_aws else {}
    days = int(variables.get("SIGNET_KEY_ROTATION_DAYS") or Settings.key_rotation_days)
    if not variables or variables.get("SIGNET_SIGNING") == "kms" or days == 0:
        return OLDEST_KEY
    return days * DAY + _LATE


# name, check, whether it needs AWS
CHECKS: tuple[tuple[str, Callable[[Inside], Verdict], bool], ...] = (
    ("tables", _tables, False),
    ("expiry", _expiry, False),
    ("backups", _backups, True),
    ("deletion protection", _protection, True),
    ("encryption", _encryption, True),
    ("KMS key", _kms_key, True),
    ("key ring", _key_ring, False),
    ("deleted accounts", function.removals, False),
    ("passkeys", lambda inside: sign_ins.passkeys(inside, public_url(inside.store)), False),
    ("second factors", sign_ins.requirements, False),
    *((name, check, True) for name, check in deployed.CHECKS),
)
