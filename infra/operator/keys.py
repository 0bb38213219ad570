"""`signet key create|restore|copy|list|rotate|retire|reseal`: the key ring of a stage."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import click

from chalicelib import events
from chalicelib.aws.client import AwsError
from chalicelib.keys import rotation
from chalicelib.keys.ring import KeyRing
from chalicelib.keys.rotation import RingKey, RotationRefused
from chalicelib.keys.stored_ring import RING, KeyRingMissing
from chalicelib.protocol.durations import HOUR
from chalicelib.protocol.sealed_key_ring import SealedKeyRing
from chalicelib.storage.store import Store
from chalicelib.storage.table import Table
from infra import access
from infra.local.embedded import STAGE
from infra.operator.commands import (
    CommandError,
    confirm,
    example,
    json_option,
    not_found,
    open_store,
    present_members,
    record_event,
    require_aws_stage,
    yes_option,
)
from infra.operator.terminal import print_json, print_table, time_text


@click.group()
def key() -> None:
    """Create, rotate and retire the keys that sign tokens and handles."""


@key.command("create", epilog=example("key create"))
@yes_option
@json_option
@click.pass_obj
def create_ring(stage: str, /, yes: bool, as_json: bool) -> None:
    """Create the key ring of a stage that has none. `data` and `deploy` do this for a new stage.

    In a stage that has lost its ring, all earlier sessions, codes and tokens are invalid with the new one, and pairwise
    subjects differ.
    """
    with open_store(stage) as store:
        ring = KeyRing(store)
        if not ring.exists() and _is_in_use(store):
            confirm("End all sessions and grants, and change all pairwise subjects, with a new key ring?", yes)
        created = ring.create()
        keys = _keys(store)
        if created:
            record_event(store, events.KEYS_ROTATED, detail=_names(keys))
    if as_json:
        print_json([_document(key) for key in keys] if created else [])
        return
    click.echo("Created the key ring." if created else "There is a key ring already. Nothing has been changed.")


@key.command("restore", epilog=example("key restore signet-restored-keys --stage prod"))
@click.argument("table")
@json_option
@click.pass_obj
def restore_ring(stage: str, /, table: str, as_json: bool) -> None:
    """Copy the key ring from TABLE, a backup of this stage's table of keys, to a stage that has lost its ring."""
    with open_store(stage) as store:
        keys = restore_from_backup(store, table)
    if as_json:
        print_json([_document(key) for key in keys])
        return
    click.echo("Restored the key ring. Running functions use it within a few seconds.")


@key.command("copy", epilog=example("key copy eu-west-1 --stage prod"))
@click.argument("region")
@json_option
@click.pass_obj
def copy_ring(stage: str, /, region: str, as_json: bool) -> None:
    """Copy the key ring to the same stage in REGION, encrypted with the key there. It must have no users and clients.

    `data` creates the tables and the key of that stage. Copy the ring again after each rotation.
    """
    stage = require_aws_stage(stage)
    with open_ring(stage) as (store, ring):
        target = access.open_store(store.settings, region=region)
        if region == store.account.region:
            raise CommandError(f"The stage {stage} is in {region} itself.")
        try:
            in_use = _is_in_use(target)
        except AwsError.named("ResourceNotFoundException") as missing:
            create = f"AWS_DEFAULT_REGION={region} signet data --stage {stage}"
            raise CommandError(f"The stage {stage} has no tables in {region}. Create them first: {create}") from missing
        if in_use:
            raise CommandError(f"The stage {stage} in {region} has users or clients. Its key ring was not replaced.")
        rotation.copy(ring, KeyRing(target))
        keys = _keys(target)
        record_event(target, events.KEYS_ROTATED, detail=_names(keys))
    if as_json:
        print_json([_document(key) for key in keys])
        return
    click.echo(f"Copied {len(keys)} keys to {region}.")


@key.command("list", epilog=example("key list"))
@json_option
@click.pass_obj
def list_keys(stage: str, /, as_json: bool) -> None:
    """List the keys of the ring, without their secrets."""
    with open_ring(stage) as (store, _):
        keys = _keys(store)
    if as_json:
        print_json([_document(key) for key in keys])
        return
    rows = [(key.name, key.alg, key.state, time_text(key.used_from), time_text(key.ends_at)) for key in keys]
    print_table(("KEY", "ALG", "STATE", "USED FROM", "NEEDED UNTIL"), rows, "The key ring is empty.")


@key.command("rotate", epilog=example("key rotate"))
@click.option("--now", is_flag=True, help="Use the new keys after two minutes, because a current one is compromised.")
@yes_option
@json_option
@click.pass_obj
def rotate_keys(stage: str, /, now: bool, yes: bool, as_json: bool) -> None:
    """Add new keys. They are published at once, and used after 24 hours, when every verifier has fetched them.

    With --now, the current keys sign for two more minutes. Until then, verifiers that follow Cache-Control have fetched
    the new ones; those that cache keys for longer reject new tokens for a while.
    """
    wait = rotation.SHORTEST_WAIT if now else rotation.PUBLISHED_BEFORE_USE
    with open_ring(stage) as (store, ring):
        if now:
            question = "Replace all current keys in two minutes? Verifiers that cache keys for hours reject new tokens."
            confirm(question, yes)
        names_before = {key.name for key in _keys(store)}
        rotation.rotate(ring, store.now(), wait)
        new_keys = [key for key in _keys(store) if key.name not in names_before]
        record_event(store, events.KEYS_ROTATED, detail=_names(new_keys))
    if as_json:
        print_json([_document(key) for key in new_keys])
        return
    if now:
        click.echo(f"Published new keys. The current keys sign for two more minutes, until {_first_use(new_keys)}.")
        click.echo("Then remove the compromised key with `signet key retire KID`; `signet key list` shows its KID.")
        return
    click.echo(f"Published new keys. They are used in {wait // HOUR} hours.")


@key.command("retire", epilog=example("key retire", "key retire yQ4cNBvXKcRf-A0dlTSSZ2X5g_zYWFCt8DnL2X3sDGo --yes"))
@click.argument("kid", required=False)
@click.option("--handles", is_flag=True, help="Replace the secrets of handles: end all sessions and refresh tokens.")
@yes_option
@json_option
@click.pass_obj
def retire_keys(stage: str, /, kid: str | None, handles: bool, yes: bool, as_json: bool) -> None:
    """Remove keys that no valid token needs. With KID, remove that signing key and reject every token it signed.

    With --handles, replace the secrets of handles: all codes, refresh tokens, sessions and open forms become invalid.
    Pairwise subjects stay the same.
    """
    if kid and handles:
        raise click.UsageError("Give either a KID or --handles.")
    with open_ring(stage) as (store, ring):
        keys = {key.name: key for key in _keys(store)}
        if kid and kid not in keys:
            raise not_found("key", kid, keys)
        if kid:
            confirm(f"Remove {kid} and reject every token that it signed?", yes)
        if handles:
            confirm("Replace the secrets of handles, and end every session and refresh token?", yes)
            removed = replace_handles(store)
        else:
            removed = rotation.retire(ring, store.settings, store.now(), kid)
            if removed:
                record_event(store, events.KEYS_RETIRED, detail=", ".join(removed))
    if as_json:
        print_json([_document(keys[name]) for name in removed if name in keys])
        return
    click.echo(
        "\n".join(f"Removed {name}." for name in removed)
        or "No key was removed: every key in the ring is still needed."
    )


@key.command("reseal", epilog=example("key reseal"))
@json_option
@click.pass_obj
def reseal_ring(stage: str, /, as_json: bool) -> None:
    """Encrypt the key ring again, in the current format. The keys stay the same."""
    with open_ring(stage) as (store, ring):
        rotation.reseal(ring)
        keys = _keys(store)
    if as_json:
        print_json([_document(key) for key in keys])
        return
    click.echo("The key ring was encrypted again.")


def create_ring_of_new_stage(store: Store) -> None:
    """Create the key ring of a stage that has no users and no clients yet; an existing one is kept.

    Raises CommandError when the stage has data but no ring: a new one would end what the lost one has signed.
    """
    ring, stage = KeyRing(store), store.settings.stage
    if ring.exists():
        return
    if _is_in_use(store):
        raise CommandError(
            f"The stage {stage} has users or clients, but no key ring. Restore it from a backup (docs/operate.md), or "
            f"create a new one, which ends all sessions and grants: signet key create --stage {stage}"
        )
    ring.create()


def replace_handles(store: Store) -> list[str]:
    """Replace the secrets of handles, which ends all sessions, codes and refresh tokens. Return their names."""
    removed = rotation.retire_handles(KeyRing(store), store.now())
    record_event(store, events.KEYS_ROTATED, detail=_names([key for key in _keys(store) if key.alg == "HS256"]))
    record_event(store, events.KEYS_RETIRED, detail=", ".join(removed))
    return removed


def restore_from_backup(store: Store, table: str, *, new_handles: bool = False) -> list[RingKey]:
    """Copy the key ring from a table that was restored from a backup, and return its keys.

    `new_handles`: with a new secret in place of those of handles. Raises CommandError when there is a ring, or none in
    the table.
    """
    try:
        backup = Table(store.dynamodb, store.now, table, SealedKeyRing, "ring").get(RING)
    except AwsError.named("ResourceNotFoundException") as missing:
        raise CommandError(f"There is no table {table}.") from missing
    if backup is None:
        raise CommandError(f"The table {table} contains no key ring.")
    ring = KeyRing(store)
    if not (rotation.restore_with_new_handles(ring, backup, store.now()) if new_handles else ring.restore(backup)):
        raise CommandError("There is a key ring already. Nothing has been changed.")
    keys = _keys(store)
    record_event(store, events.KEYS_ROTATED, detail=_names(keys))
    return keys


@contextmanager
def open_ring(stage: str) -> Iterator[tuple[Store, KeyRing]]:
    """Open the data of a stage and its key ring. Raises CommandError for a missing ring or a refused change.

    The ring of this checkout is created if it is missing, as the local server does.
    """
    with open_store(stage) as store:
        ring = KeyRing(store)
        if stage == STAGE:
            ring.create()
        try:
            yield store, ring
        except KeyRingMissing as missing:
            raise CommandError(missing.detail) from missing
        except RotationRefused as refused:
            raise CommandError(str(refused)) from refused


def _is_in_use(store: Store) -> bool:
    return any(True for table in (store.users, store.clients) for _ in table.scan())


def _keys(store: Store) -> list[RingKey]:
    return rotation.list_keys(KeyRing(store), store.settings, store.now())


def _first_use(keys: list[RingKey]) -> str:
    return time_text(min(key.used_from for key in keys))


def _names(keys: list[RingKey]) -> str:
    return ", ".join(key.name for key in keys)


def _document(key: RingKey) -> dict[str, Any]:
    return present_members(asdict(key))
