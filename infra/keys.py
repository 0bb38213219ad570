"""`python -m infra key rotate|list|retire`: the key ring of a stage."""

from dataclasses import asdict
from typing import Any

import click

from chalicelib import audit, rotation
from chalicelib.keys import KeyRing
from chalicelib.store import Store
from infra.commands import Refusal, as_json, confirm, example, noted, storage, unknown, without, yes
from infra.terminal import print_json, print_table, time_text

HOUR = 3600


@click.group()
def key() -> None:
    """Rotate the keys that sign tokens and make handles."""


@key.command("list", epilog=example("key list"))
@as_json
@click.pass_obj
def list_keys(stage: str, /, as_json: bool) -> None:
    """List the keys of the ring, without their secrets."""
    with storage(stage) as store:
        found = _keys(store)
    if as_json:
        print_json([_document(one) for one in found])
        return
    rows = [(one.name, one.alg, one.state, time_text(one.used_from), time_text(one.ends_at)) for one in found]
    print_table(("KEY", "ALG", "STATE", "USED FROM", "NEEDED UNTIL"), rows, "There is no key.")


@key.command("rotate", epilog=example("key rotate"))
@click.option("--now", is_flag=True, help="Use the new keys at once: the present ones have been seen by others.")
@as_json
@click.pass_obj
def rotate_keys(stage: str, /, now: bool, as_json: bool) -> None:
    """Add new keys. They are published at once and used after 24 hours, when every verifier knows them."""
    wait = 0 if now else rotation.PUBLISHED_BEFORE_USE
    with storage(stage) as store:
        before = {one.name for one in _keys(store)}
        try:
            rotation.rotate(KeyRing(store), store.now(), wait)
        except rotation.RotationRefused as refused:
            raise Refusal(str(refused)) from refused
        made = [one for one in _keys(store) if one.name not in before]
        noted(store, audit.KEYS_ROTATED, detail=", ".join(one.name for one in made))
    if as_json:
        print_json([_document(one) for one in made])
        return
    when = f"in {wait // HOUR} hours" if wait else "within ten minutes, as each function reads the ring"
    click.echo(f"New keys are published, and used {when}.")


@key.command("retire", epilog=example("key retire", "key retire yQ4cNBvXKcRf-A0dlTSSZ2X5g_zYWFCt8DnL2X3sDGo --yes"))
@click.argument("kid", required=False)
@yes
@as_json
@click.pass_obj
def retire_keys(stage: str, /, kid: str | None, yes: bool, as_json: bool) -> None:
    """Remove keys that nothing alive depends on. With KID that signing key, and every token it has signed."""
    with storage(stage) as store:
        known = {one.name: one for one in _keys(store)}
        if kid and kid not in known:
            raise unknown("key", kid, known)
        if kid:
            confirm(f"Remove {kid}? Every token that it has signed will be refused.", yes)
        try:
            gone = rotation.retire(KeyRing(store), store.settings, store.now(), kid)
        except rotation.RotationRefused as refused:
            raise Refusal(str(refused)) from refused
        if gone:
            noted(store, audit.KEYS_RETIRED, detail=", ".join(gone))
    if as_json:
        print_json([_document(known[name]) for name in gone if name in known])
        return
    click.echo("\n".join(f"Removed {name}." for name in gone) or "Every key in the ring is still needed.")


def _keys(store: Store) -> list[rotation.RingKey]:
    return rotation.keys_of(KeyRing(store), store.settings, store.now())


def _document(key: rotation.RingKey) -> dict[str, Any]:
    return without(asdict(key))
