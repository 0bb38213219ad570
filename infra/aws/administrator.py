"""The first account of a stage, with which its operator signs in."""

import sys

import click

from chalicelib.authentication import passwords
from chalicelib.protocol.errors import AccessDenied
from chalicelib.protocol.identifiers import username_identifier
from chalicelib.storage.store import Store
from chalicelib.users.password_change import change_password
from chalicelib.users.registration import register_user

ADMINISTRATOR = "admin"


def create_administrator(store: Store, stage: str) -> None:
    """Create an administrator and show the password, or, if the output is not a terminal, show the command for it.

    A file or the log of a CI job would keep the password. Until the administrator has changed it, each deployment sets
    and shows a new one, because the first may have been lost or never shown.
    """
    identifier = store.identifiers.get(username_identifier(ADMINISTRATOR))
    user = store.users.get(identifier.sub) if identifier else None
    if user and not user.password_change_required:
        return
    if not sys.stdout.isatty():
        command = f"user set-password {ADMINISTRATOR}" if user else f"user create --username {ADMINISTRATOR} --admin"
        click.echo("\nNo password is set or shown, because the output is not a terminal. In a terminal, run:")
        click.echo(f"  signet {command} --stage {stage}")
        return
    if user is None:
        password = register_user(store, username=ADMINISTRATOR, admin=True)[1]
    else:
        password = passwords.generate_password()
        try:
            change_password(store, user, password, must_be_replaced=True)
        except AccessDenied:
            return  # the administrator has just changed it
    click.echo(f"\nFirst account: {ADMINISTRATOR}, password {password}")
    click.echo("The password is shown only once and must be changed at the first sign-in.")
