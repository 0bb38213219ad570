"""Complete a stage whose tables were restored from backups: the command `signet restore`."""

import boto3
import click

from chalicelib.keys.ring import KeyRing
from infra.aws.stacks import resumable
from infra.aws.tables import Tables
from infra.operator.commands import CommandError, confirm, example, open_store, require_aws_stage, yes_option
from infra.operator.keys import replace_handles, restore_from_backup


@click.command(epilog=example("restore signet-restored-keys --stage prod"))
@click.argument("table", required=False)
@click.option(
    "--keep-sessions", is_flag=True, help="Keep them, because every table is as it was when the server last used it."
)
@yes_option
@click.pass_obj
def restore(stage: str, /, table: str | None, keep_sessions: bool, yes: bool) -> None:
    """Complete a stage whose tables were restored from backups. TABLE is the restored table of its keys.

    Creates the tables that have no backups, sets what DynamoDB does not restore, and copies the key ring from TABLE. If
    the stage still has its key ring, leave out TABLE. All sessions, codes and refresh tokens end, because a backup is
    older than some of their endings.
    """
    stage = require_aws_stage(stage)
    with resumable(), open_store(stage) as store:
        tables = Tables(boto3.Session(region_name=store.settings.region), stage)
        tables.require(*([store.keys.name] if table else []))
        if not table and not KeyRing(store).exists():
            raise CommandError(
                "The key ring is missing: restore its table under another name too, and give that TABLE."
            )
        if not keep_sessions:
            confirm("End all sessions, codes and refresh tokens?", yes)
        tables.repair(yes)
        if table:
            restore_from_backup(store, table, new_handles=not keep_sessions)
            click.echo("The key ring was restored.")
        elif not keep_sessions:
            replace_handles(store)
        if not keep_sessions:
            click.echo("All sessions, codes and refresh tokens have ended.")
    click.echo(f"Check it: signet doctor --stage {stage}")
