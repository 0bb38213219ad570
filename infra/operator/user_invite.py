"""`signet user invite`: an email with which a person creates an account."""

import click

from chalicelib import events
from chalicelib.events import log as event_log
from chalicelib.protocol.email_addresses import masked
from chalicelib.server import AuthorizationServer
from chalicelib.users import sign_up
from infra.operator.clients import find_client
from infra.operator.commands import CommandError, example, json_option
from infra.operator.keys import open_ring
from infra.operator.terminal import print_json, time_text, visible


@click.command("invite", epilog=example("user invite bob@example.com", "user invite bob@example.com --client demo"))
@click.argument("email")
@click.option("--client", "client_id", help="The application to which the person continues.")
@json_option
@click.pass_obj
def invite_user(stage: str, /, email: str, client_id: str | None, as_json: bool) -> None:
    """Send an invitation to EMAIL. The person confirms the address, and chooses a username and a password.

    The server sends it within a minute; it needs SIGNET_EMAIL_FROM. It is valid for 7 days, and ends an earlier one to
    the same address. There is no user before it is used.
    """
    with open_ring(stage) as (store, keys):
        if client_id:
            find_client(store, client_id)
        server = AuthorizationServer(store.settings, store, keys, store.now)
        try:
            proof = sign_up.invite(server, email, client_id or "")
        except ValueError as error:
            raise CommandError(str(error)) from error
        event_log.log_event(store.settings, events.USER_CHANGED, detail=f"invited: {masked(email)}")
    if as_json:
        print_json({"email": email, "expires_at": proof.expires_at})
        return
    click.echo(f"The server sends an invitation to {visible(email)}. It is valid until {time_text(proof.expires_at)}.")
