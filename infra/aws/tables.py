"""Bring the tables of a stage to the state that infra/aws/tables.yaml describes.

CloudFormation compares templates and not tables, so it does not see that a table was deleted or restored from a
backup. DynamoDB restores items, keys and indexes, but neither expiry nor backups nor protection from deletion.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import click

from infra import schema
from infra.aws.upgrade import OLD_INDEX
from infra.operator.commands import CommandError, confirm

_MEMBERS = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode", "DeletionProtectionEnabled")
_WAIT = {"Delay": 5, "MaxAttempts": 720}  # an hour: DynamoDB takes minutes to hours to restore a large table
_BACKUPS_PAUSE, _BACKUPS_TRIES = 5, 60  # seconds; a new table has no backups for a moment


@dataclass(frozen=True)
class Repair:
    """A table that is missing or lacks a setting. `text` says what `make` does."""

    text: str
    make: Callable[[], None]


class Tables:
    """The tables of a stage whose stack exists. `old_index`: the template's parameter OldGrantsIndex."""

    def __init__(self, session: Any, stage: str, old_index: str = "removed"):
        self._dynamodb = session.client("dynamodb")
        self._schema = schema.tables(stage, **{OLD_INDEX: old_index})
        self._key: str = session.client("kms").describe_key(KeyId=f"alias/signet-{stage}")["KeyMetadata"]["Arn"]

    def require(self, *optional: str) -> None:
        """Raise CommandError when a table that has backups is missing, except for `optional` ones.

        An empty one in its place would look like a new stage.
        """
        durable = [name for name, properties in self._schema.items() if _is_durable(properties)]
        missing = [name for name in durable if name not in optional and self._describe(name) is None]
        if missing:
            raise CommandError(f"Restore these tables from backups first (docs/operate.md): {', '.join(missing)}.")

    def repair(self, yes: bool) -> None:
        """Show what is missing, ask for confirmation unless `yes`, and set it. Waits for tables that are restored."""
        repairs = [repair for name in self._schema for repair in self._repairs(name)]
        if not repairs:
            return
        click.echo("\nThese tables differ from infra/aws/tables.yaml:")
        for repair in repairs:
            click.echo(f"  {repair.text}")
        confirm(f"Make these {len(repairs)} changes?", yes)
        for repair in repairs:
            repair.make()
        click.echo("The tables are complete.")

    def _repairs(self, name: str) -> Iterator[Repair]:
        properties, exists = self._schema[name], self._describe(name) is not None
        table = self._wait(name) if exists else self._expected(name)
        if not exists:
            yield Repair(f"{name}: create it", partial(self._create, name))
        if table.get("SSEDescription", {}).get("KMSMasterKeyArn") != self._key:
            encrypt = partial(self._update, name, SSESpecification=self._encryption)
            yield Repair(f"{name}: encrypt it with the key of the stage", encrypt)
        if properties.get("DeletionProtectionEnabled") and not table.get("DeletionProtectionEnabled"):
            protect = partial(self._update, name, DeletionProtectionEnabled=True)
            yield Repair(f"{name}: protect it from deletion", protect)
        if expiry := properties.get("TimeToLiveSpecification"):
            current = self._dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"] if exists else {}
            if current.get("TimeToLiveStatus") not in ("ENABLED", "ENABLING"):
                yield Repair(f"{name}: delete expired items", partial(self._set_expiry, name, expiry))
        if _is_durable(properties) and not (exists and self._has_backups(name)):
            yield Repair(f"{name}: back it up continuously", partial(self._set_backups, name))

    @property
    def _encryption(self) -> dict[str, Any]:
        return {"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": self._key}

    def _expected(self, name: str) -> dict[str, Any]:
        """Return what `_create` makes of a table, as DynamoDB describes it."""
        return {"SSEDescription": {"KMSMasterKeyArn": self._key}, **self._schema[name]}

    def _describe(self, name: str) -> dict[str, Any] | None:
        with suppress(self._dynamodb.exceptions.ResourceNotFoundException):
            table: dict[str, Any] = self._dynamodb.describe_table(TableName=name)["Table"]
            return table
        return None

    def _wait(self, name: str) -> dict[str, Any]:
        """Wait until a table is active, and return its description."""
        table = self._describe(name) or {}
        if table.get("TableStatus") == "ACTIVE":
            return table
        click.echo(f"Waiting for {name}, which is {table.get('TableStatus')}.")
        self._dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig=_WAIT)
        return self._describe(name) or {}

    def _create(self, name: str) -> None:
        members = {member: self._schema[name][member] for member in _MEMBERS if member in self._schema[name]}
        self._dynamodb.create_table(TableName=name, SSESpecification=self._encryption, **members)
        self._wait(name)

    def _update(self, name: str, **settings: Any) -> None:
        self._dynamodb.update_table(TableName=name, **settings)
        self._wait(name)

    def _set_expiry(self, name: str, expiry: dict[str, Any]) -> None:
        self._dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=expiry)

    def _has_backups(self, name: str) -> bool:
        backups = self._dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
        status: str = backups.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus", "")
        return status == "ENABLED"

    def _set_backups(self, name: str) -> None:
        settings = self._schema[name]["PointInTimeRecoverySpecification"]
        for _ in range(_BACKUPS_TRIES):
            with suppress(self._dynamodb.exceptions.ContinuousBackupsUnavailableException):
                self._dynamodb.update_continuous_backups(TableName=name, PointInTimeRecoverySpecification=settings)
                return
            time.sleep(_BACKUPS_PAUSE)
        raise CommandError(f"DynamoDB does not enable the backups of {name}. Run the same command again.")


def _is_durable(properties: dict[str, Any]) -> bool:
    return "PointInTimeRecoverySpecification" in properties
