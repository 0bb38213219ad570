"""`python -m infra history`: what was done of late with an account, a client or the keys, and by whom."""

from dataclasses import asdict

import click

from chalicelib import history
from infra.clients import find_client
from infra.commands import as_json, example, storage, without
from infra.terminal import print_json, print_table, time_text
from infra.users import find_user


@click.command("history", epilog=example("history --user alice", "history --client demo --json"))
@click.option("--user", "username", metavar="USERNAME", help="Of this account, named by username or `sub`.")
@click.option("--client", "client_id", metavar="CLIENT_ID", help="What the operator did to this client.")
@click.option("--keys", is_flag=True, help="What was done to the key ring.")
@as_json
@click.pass_obj
def history_(stage: str, /, username: str | None, client_id: str | None, keys: bool, as_json: bool) -> None:
    """List what was done in the last 90 days, newest first."""
    if bool(username) + bool(client_id) + keys != 1:
        raise click.UsageError("Name one --user, one --client, or --keys.")
    with storage(stage) as store:
        # What has been removed has a history too: a client by its id, a user by the `sub`.
        about = username or (history.about_client(client_id) if client_id else history.KEYS)
        found = list(store.events.find("sub", about))
        if not found and username:
            found = list(store.events.find("sub", find_user(store, username).sub))
        if not found and client_id:
            find_client(store, client_id)
    found.sort(key=lambda event: event.event_id, reverse=True)
    if as_json:
        print_json([without(asdict(event), "event_id", "expires_at", "sub") for event in found])
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
        for event in found
    ]
    print_table(("WHEN", "WHAT", "CLIENT", "ADDRESS", "DEVICE", "DETAIL"), rows, "Nothing has been done of late.")
