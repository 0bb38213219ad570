"""`signet user restore`: bring an account back that its user has deleted."""

import click

from chalicelib import events
from chalicelib.mail.notices import tell_later
from chalicelib.protocol.errors import AccessDenied
from chalicelib.users import deletion
from infra.operator.commands import CommandError, example, json_option, open_store, record_event
from infra.operator.terminal import print_record, visible
from infra.operator.users import find_user, user_document


@click.command("restore", epilog=example("user restore alice"))
@click.argument("username")
@json_option
@click.pass_obj
def restore_user(stage: str, /, username: str, as_json: bool) -> None:
    """Restore an account that its user has deleted, until it is removed. USERNAME may be a `sub`.

    Sessions and grants that ended stay ended. A user who is disabled stays disabled. Make sure that it is the user who
    asks you.
    """
    with open_store(stage) as store:
        user = find_user(store, username)
        try:
            restored = deletion.restore(
                store, user.sub, user.deleted_at, lambda restored: tell_later(store, restored, "account_restored")
            )
        except AccessDenied as error:
            raise CommandError(f"{visible(user.username)} cannot be restored: {error.description}") from error
        if user.deleted_at is not None:
            record_event(store, events.USER_CHANGED, sub=user.sub, detail="restored")
    print_record(user_document(restored), as_json)
