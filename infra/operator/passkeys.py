"""`signet user passkey …`: the passkeys of a user, for support."""

from dataclasses import asdict
from typing import Any

import click

from chalicelib import events
from chalicelib.mail.notices import tell_later
from chalicelib.protocol.passkey import Passkey
from chalicelib.users import passkeys
from infra.operator.commands import (
    CommandError,
    confirm,
    example,
    json_option,
    open_store,
    present_members,
    record_event,
    yes_option,
)
from infra.operator.terminal import print_json, print_list, time_text, visible
from infra.operator.users import find_user


@click.group("passkey")
def passkey_() -> None:
    """List and remove the passkeys of a user."""


@passkey_.command("list", epilog=example("user passkey list alice"))
@click.argument("username")
@json_option
@click.pass_obj
def list_passkeys(stage: str, /, username: str, as_json: bool) -> None:
    """List the passkeys of a user. USERNAME may be a `sub`."""
    with open_store(stage) as store:
        listed = passkeys.list_passkeys(store, find_user(store, username).sub)
    head = ("NAME", "ADDED", "LAST USED", "DOMAIN", "SYNCED", "ID")
    print_list(listed, as_json, passkey_document, head, _row, "This user has no passkey.")


@passkey_.command("remove", epilog=example("user passkey remove alice --all --yes"))
@click.argument("username")
@click.argument("passkey_id", required=False)
@click.option("--all", "all_", is_flag=True, help="Remove all passkeys of the user.")
@yes_option
@json_option
@click.pass_obj
def remove_passkey(stage: str, /, username: str, passkey_id: str | None, all_: bool, yes: bool, as_json: bool) -> None:
    """Remove a passkey by the ID that `list` shows, or all. USERNAME may be a `sub`.

    Sessions that it has started stay: `user sign-out` ends them.
    """
    if (passkey_id is None) is not all_:
        raise click.UsageError("Give the ID of a passkey, or --all.")
    with open_store(stage) as store:
        user = find_user(store, username)
        listed = passkeys.list_passkeys(store, user.sub)
        chosen = [each for each in listed if all_ or each.passkey_id == passkey_id]
        if not chosen and not all_:
            raise CommandError(f"{visible(user.username)} has no such passkey.")
        names = ", ".join(each.name or each.passkey_id for each in chosen)
        left = "" if user.password_hash or len(chosen) < len(listed) else " No other way to sign in is left."
        if chosen:
            confirm(f"Remove {names} of {user.username}?{left}", yes)
        telling = tell_later(store, user, "passkey_removed")  # one mail for all
        for each in chosen:
            if passkeys.remove(store, each, *telling):
                telling = ()
                record_event(store, events.PASSKEY_REMOVED, sub=user.sub, detail=each.name)
    if as_json:
        print_json([passkey_document(each) for each in chosen])
    else:
        name = visible(user.username)
        click.echo(f"Removed {visible(names)} of {name}." if chosen else f"{name} has no passkey.")


def passkey_document(passkey: Passkey) -> dict[str, Any]:
    """Return a passkey as JSON: without its key and the ID that only browsers use."""
    return present_members(asdict(passkey), "credential_id", "public_key")


def _row(passkey: Passkey) -> tuple[str, ...]:
    used, synced = time_text(passkey.last_used_at), "yes" if passkey.backed_up else "no"
    return passkey.name, time_text(passkey.created_at), used, passkey.rp_id, synced, passkey.passkey_id
