"""`python -m infra key rotate|list|retire`: the key ring of a stage."""

from dataclasses import asdict

import click

from chalicelib import rotation
from chalicelib.keys import KeyRing
from infra.commands import Refusal, as_json, print_json, print_table, storage, time_text

HOUR = 3600


@click.group()
def key() -> None:
    """Rotate the keys that sign tokens and make handles."""


@key.command("list")
@as_json
@click.pass_obj
def list_keys(stage: str, /, as_json: bool) -> None:
    """List the keys of the ring, without their secrets."""
    with storage(stage) as store:
        found = rotation.keys_of(KeyRing(store), store.settings, store.now())
    if as_json:
        print_json([{name: value for name, value in asdict(one).items() if value is not None} for one in found])
        return
    rows = [(one.name, one.alg, one.state, time_text(one.used_from), time_text(one.ends_at)) for one in found]
    print_table(("KEY", "ALG", "STATE", "USED FROM", "NEEDED UNTIL"), rows)


@key.command("rotate")
@click.option("--now", is_flag=True, help="Use the new keys at once: the present ones have been seen by others.")
@click.pass_obj
def rotate_keys(stage: str, /, now: bool) -> None:
    """Add new keys. They are published at once and used after 24 hours, when every verifier knows them."""
    wait = 0 if now else rotation.PUBLISHED_BEFORE_USE
    with storage(stage) as store:
        try:
            rotation.rotate(KeyRing(store), store.now(), wait)
        except rotation.RotationRefused as refused:
            raise Refusal(str(refused)) from refused
    when = f"in {wait // HOUR} hours" if wait else "within ten minutes, as each function reads the ring"
    print(f"New keys are published, and used {when}.")


@key.command("retire")
@click.argument("kid", required=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def retire_keys(stage: str, /, kid: str | None, yes: bool) -> None:
    """Remove keys that nothing alive depends on; or the signing key KID, and with it every token it has signed."""
    if kid and not yes:
        click.confirm(f"Remove {kid}? Every token that it has signed will be refused.", abort=True, err=True)
    with storage(stage) as store:
        try:
            gone = rotation.retire(KeyRing(store), store.settings, store.now(), kid)
        except rotation.RotationRefused as refused:
            raise Refusal(str(refused)) from refused
    print("\n".join(f"Removed {name}." for name in gone) or "Every key in the ring is still needed.")
