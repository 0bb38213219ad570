"""`signet history`: the recorded events of a user, a client or the keys."""

from dataclasses import asdict

import click

from chalicelib.events import history
from infra.operator.clients import find_client
from infra.operator.commands import example, json_option, open_store, present_members
from infra.operator.terminal import print_json, print_table, time_text
from infra.operator.users import find_user


@click.command("history", epilog=example("history --user alice", "history --client demo --json"))
@click.option("--user", "username", metavar="USERNAME", help="The history of this user, by username or `sub`.")
@click.option("--client", "client_id", metavar="CLIENT_ID", help="What the operator changed in this client.")
@click.option("--keys", is_flag=True, help="What the operator changed in the key ring.")
@json_option
@click.pass_obj
def history_(stage: str, /, username: str | None, client_id: str | None, keys: bool, as_json: bool) -> None:
    """List the events of the last 90 days, newest first."""
    if bool(username) + bool(client_id) + keys != 1:
        raise click.UsageError("Give exactly one of --user, --client and --keys.")
    with open_store(stage) as store:
        # Deleted clients and users have a history too, by client_id and `sub`.
        subject = username or (history.about_client(client_id) if client_id else history.KEYS)
        events = list(store.events.find("sub", subject))
        if not events and username:
            events = list(store.events.find("sub", find_user(store, username).sub))
        if not events and client_id:
            find_client(store, client_id)
    events.sort(key=lambda event: event.event_id, reverse=True)
    if as_json:
        print_json([present_members(asdict(event), "event_id", "expires_at", "sub") for event in events])
        return
    rows = [
        (
            time_text(event.created_at),
            event.name,
            event.client_name or event.client_id or "",
            event.source_ip or "",
            event.device or "",
            event.detail or "",
        )
        for event in events
    ]
    print_table(("WHEN", "WHAT", "CLIENT", "ADDRESS", "DEVICE", "DETAIL"), rows, "No events in the last 90 days.")
