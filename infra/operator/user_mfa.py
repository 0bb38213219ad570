"""`signet user mfa …`: support for a user who has lost the second factor."""

import click

from chalicelib import events
from chalicelib.mail.notices import tell_later
from chalicelib.users import accounts
from infra.operator.commands import confirm, example, json_option, open_store, record_event, yes_option
from infra.operator.terminal import print_json, visible
from infra.operator.users import find_user, user_document


@click.group("mfa")
def mfa() -> None:
    """Remove the second factor of a user who has lost it."""


@mfa.command("reset", epilog=example("user mfa reset alice --yes"))
@click.argument("username")
@yes_option
@json_option
@click.pass_obj
def reset(stage: str, /, username: str, yes: bool, as_json: bool) -> None:
    """Remove the second factor of a user with the recovery codes, and end their sessions. USERNAME may be a `sub`.

    The password alone is enough then, until the user sets up another one: make sure that it is the user who asks. Where
    a second factor is required, the next sign-in sets one up.
    """
    with open_store(stage) as store:
        user = find_user(store, username)
        has_one = user.totp_secret is not None
        if has_one:
            confirm(f"Remove the second factor of {user.username}, and end all their sessions?", yes)
            user = accounts.reset_second_factor(store, user, *tell_later(store, user, "second_factor_off"))
            record_event(store, events.SECOND_FACTOR_REMOVED, sub=user.sub, detail="by the operator")
    if as_json:
        print_json(user_document(user))
    elif has_one:
        click.echo(f"Removed the second factor of {visible(user.username)}, and ended all their sessions.")
    else:
        click.echo(f"{visible(user.username)} has no second factor. Nothing was changed.")
