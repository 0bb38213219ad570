"""`signet registration-token …`: initial access tokens, with which applications register themselves (RFC 7591)."""

from dataclasses import asdict
from typing import Any

import click

from chalicelib import events
from chalicelib.clients.registration_limits import create_token
from chalicelib.protocol.durations import DAY
from chalicelib.protocol.registration_token import RegistrationToken
from chalicelib.protocol.texts import is_printable
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.store import Store
from chalicelib.storage.table import Refused
from infra.operator.commands import (
    CommandError,
    WholeNumber,
    confirm,
    example,
    json_option,
    not_found,
    open_store,
    present_members,
    record_event,
    yes_option,
)
from infra.operator.keys import open_ring
from infra.operator.terminal import print_json, print_list, print_record, time_text, visible

MAX_DAYS = 90


@click.group("registration-token")
def registration_token() -> None:
    """Create and revoke tokens with which applications register themselves (initial access tokens)."""


@registration_token.command("create", epilog=example('registration-token create --label "Partner portal" --uses 5'))
@click.option("--label", default="", help="What the token is for, for the list.")
@click.option("--days", type=WholeNumber(1, MAX_DAYS), default=7, show_default=True, help="How long it is valid.")
@click.option("--uses", type=WholeNumber(1, 1_000_000), help="How many clients it may register; by default any.")
@json_option
@click.pass_obj
def create_registration_token(stage: str, /, label: str, days: int, uses: int | None, as_json: bool) -> None:
    """Create a token, which is shown only once. The server must have SIGNET_CLIENT_REGISTRATION=token or open."""
    if label and not is_printable(label):
        raise CommandError("The label must have 1 to 200 printable characters.")
    with open_ring(stage) as (store, keys):
        token_id, token = create_token(store, keys, label, days * DAY, uses)
        record = store.registration_tokens.get(token_id)
        record_event(store, events.CLIENT_CHANGED, detail=f"registration token {token_id} created")
    document = token_document(record) if record else {}
    print_record(document | {"initial_access_token": token}, as_json)
    if not as_json:
        click.echo("\nThe token is shown only once.")


@registration_token.command("list", epilog=example("registration-token list"))
@json_option
@click.pass_obj
def list_registration_tokens(stage: str, /, as_json: bool) -> None:
    """List the tokens that have not expired."""
    with open_store(stage) as store:
        tokens = sorted(store.registration_tokens.scan(), key=lambda token: (token.created_at, token.label))
    head = ("ID", "LABEL", "USES", "VALID UNTIL")
    print_list(tokens, as_json, token_document, head, _row, "There is no registration token.")


def _row(token: RegistrationToken) -> tuple[str, ...]:
    uses = f"{token.uses} of {token.max_uses}" if token.max_uses else str(token.uses)
    until = "revoked" if token.revoked_at is not None else time_text(token.expires_at)
    return token.registration_token_id, token.label, uses, until


@registration_token.command("revoke", epilog=example("registration-token revoke TOKEN_ID --yes"))
@click.argument("token_id")
@yes_option
@json_option
@click.pass_obj
def revoke_registration_token(stage: str, /, token_id: str, yes: bool, as_json: bool) -> None:
    """Revoke a token by its ID. The clients that it has registered stay."""
    with open_store(stage) as store:
        token = _find_token(store, token_id)
        confirm(f"Revoke the registration token {token.label or token_id}?", yes)
        unrevoked, revocation = attr("revoked_at").not_exists(), {"revoked_at": store.now()}
        changed = store.registration_tokens.transition((token_id,), unrevoked, revocation)
        if isinstance(changed, Refused):
            changed = changed.record or token  # another command has revoked it
        record_event(store, events.CLIENT_CHANGED, detail=f"registration token {token_id} revoked")
    if as_json:
        print_json(token_document(changed))
    else:
        click.echo(f"Revoked {visible(token_id)}.")


def token_document(token: RegistrationToken) -> dict[str, Any]:
    """Return the members of a token that have a value."""
    return present_members(asdict(token))


def _find_token(store: Store, token_id: str) -> RegistrationToken:
    token = store.registration_tokens.get(token_id)
    if token is None:
        raise not_found(
            "registration token", token_id, (t.registration_token_id for t in store.registration_tokens.scan())
        )
    return token
