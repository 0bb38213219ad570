"""`signet key rotate|list|retire`: the key ring of a stage."""

from dataclasses import asdict
from typing import Any

import click

from chalicelib import events
from chalicelib.keys import rotation
from chalicelib.keys.ring import KeyRing
from chalicelib.protocol.durations import HOUR
from chalicelib.storage.store import Store
from infra.operator.commands import (
    CommandError,
    confirm,
    example,
    json_option,
    not_found,
    open_store,
    present_members,
    record_event,
    yes_option,
)
from infra.operator.terminal import print_json, print_table, time_text


@click.group()
def key() -> None:
    """Rotate the keys that sign tokens and handles."""


@key.command("list", epilog=example("key list"))
@json_option
@click.pass_obj
def list_keys(stage: str, /, as_json: bool) -> None:
    """List the keys of the ring, without their secrets."""
    with open_store(stage) as store:
        keys = _keys(store)
    if as_json:
        print_json([_document(key) for key in keys])
        return
    rows = [(key.name, key.alg, key.state, time_text(key.used_from), time_text(key.ends_at)) for key in keys]
    print_table(("KEY", "ALG", "STATE", "USED FROM", "NEEDED UNTIL"), rows, "The key ring is empty.")


@key.command("rotate", epilog=example("key rotate"))
@click.option("--now", is_flag=True, help="Use the new keys at once, because a current one is compromised.")
@json_option
@click.pass_obj
def rotate_keys(stage: str, /, now: bool, as_json: bool) -> None:
    """Add new keys. They are published at once, and used after 24 hours, when every verifier has fetched them."""
    wait = 0 if now else rotation.PUBLISHED_BEFORE_USE
    with open_store(stage) as store:
        names_before = {key.name for key in _keys(store)}
        try:
            rotation.rotate(KeyRing(store), store.now(), wait)
        except rotation.RotationRefused as refused:
            raise CommandError(str(refused)) from refused
        new_keys = [key for key in _keys(store) if key.name not in names_before]
        record_event(store, events.KEYS_ROTATED, detail=", ".join(key.name for key in new_keys))
    if as_json:
        print_json([_document(key) for key in new_keys])
        return
    when = f"in {wait // HOUR} hours" if wait else "within ten minutes, when each function has read the ring again"
    click.echo(f"Published new keys. They are used {when}.")


@key.command("retire", epilog=example("key retire", "key retire yQ4cNBvXKcRf-A0dlTSSZ2X5g_zYWFCt8DnL2X3sDGo --yes"))
@click.argument("kid", required=False)
@yes_option
@json_option
@click.pass_obj
def retire_keys(stage: str, /, kid: str | None, yes: bool, as_json: bool) -> None:
    """Remove keys that no valid token needs. With KID, remove that signing key and reject every token it signed."""
    with open_store(stage) as store:
        keys = {key.name: key for key in _keys(store)}
        if kid and kid not in keys:
            raise not_found("key", kid, keys)
        if kid:
            confirm(f"Remove {kid} and reject every token that it signed?", yes)
        try:
            removed = rotation.retire(KeyRing(store), store.settings, store.now(), kid)
        except rotation.RotationRefused as refused:
            raise CommandError(str(refused)) from refused
        if removed:
            record_event(store, events.KEYS_RETIRED, detail=", ".join(removed))
    if as_json:
        print_json([_document(keys[name]) for name in removed if name in keys])
        return
    click.echo(
        "\n".join(f"Removed {name}." for name in removed)
        or "No key was removed: every key in the ring is still needed."
    )


def _keys(store: Store) -> list[rotation.RingKey]:
    return rotation.list_keys(KeyRing(store), store.settings, store.now())


def _document(key: rotation.RingKey) -> dict[str, Any]:
    return present_members(asdict(key))
