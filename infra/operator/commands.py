"""What the operator's commands share: the data of a stage, confirmation, errors, and the record of changes."""

import getpass
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import click

from chalicelib.aws.client import AwsError
from chalicelib.events import history
from chalicelib.events import log as event_log
from chalicelib.protocol.client import Client
from chalicelib.protocol.resource import Resource
from chalicelib.settings import Settings
from chalicelib.storage.store import Store
from infra import access
from infra.local import embedded
from infra.operator.terminal import visible

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")


class CommandError(click.ClickException):
    """An error that is printed as one line; the exit code is 2."""

    exit_code = 2


class WholeNumber(click.IntRange):
    """A range of integers, with a name for messages: "'abc' is not a valid whole number"."""

    name = "whole number"


def example(*commands: str) -> str:
    """Return the epilog of a command's help: how to call it."""
    lines = [f"signet {command}" for command in commands]
    return "\b\n" + "\n".join(["Example:" if len(lines) == 1 else "Examples:", *(f"  {line}" for line in lines)])


def require_aws_stage(stage: str) -> str:
    """Return the stage. Raises click.UsageError for `local`, and SettingsError for a name that is not allowed."""
    if stage == embedded.STAGE:
        raise click.UsageError(f"Name the stage, for example --stage prod; `{embedded.STAGE}` is not in AWS.")
    return Settings.from_environ({"SIGNET_STAGE": stage}).stage


@contextmanager
def open_store(stage: str) -> Iterator[Store]:
    """Open the data of a stage: the embedded database of this checkout for `local`, AWS for any other stage.

    Raises StateError or SettingsError, and CommandError with the names of the tables that are missing in AWS.
    """
    # Which documents are accepted is set at the function; commands show those that are stored.
    settings = Settings.from_environ({**os.environ, "SIGNET_STAGE": stage, "SIGNET_CLIENT_DOCUMENTS": "open"})
    if stage == embedded.STAGE and settings.embedded:
        with embedded.opened(settings) as opened:
            yield Store(opened)
    else:
        store = access.open_store(settings)
        try:
            yield store
        except AwsError.named("ResourceNotFoundException") as error:
            if missing := _missing(store):
                raise CommandError(f"The stage {stage} lacks tables: {', '.join(missing)}.") from error
            raise


def _missing(store: Store) -> list[str]:
    """Return the names of the missing tables of a stage; none when all are missing, or they cannot be looked up."""
    missing = []
    for table in store.tables:
        try:
            store.dynamodb.client.call("DescribeTable", TableName=table.name)
        except AwsError.named("ResourceNotFoundException"):
            missing.append(table.name)
        except AwsError:
            return []
    return missing if len(missing) < len(store.tables) else []


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return " Did you mean …?" with the most similar candidate, or an empty text when none is similar."""
    matches = get_close_matches(name, candidates, n=1)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def not_found(kind: str, name: str, candidates: Iterable[str]) -> CommandError:
    """Return the error for a name that does not exist, with the candidate that may have been meant."""
    return CommandError(f"There is no {kind} {name!r}.{did_you_mean(name, candidates)}")


def confirm(question: str, yes: bool) -> None:
    """Ask for confirmation, unless `yes`. The question names the stage if it is in AWS.

    Raises click.Abort when the answer is no, and CommandError when there is no terminal.
    """
    if yes:
        return
    require_terminal("--yes")
    stage = click.get_current_context().obj
    prefix = "" if stage == embedded.STAGE else f"Stage {stage}: "
    click.confirm(visible(prefix + question), abort=True, err=True)


def require_terminal(option: str) -> None:
    """Raise CommandError without a terminal to ask for confirmation. `option` answers the question instead."""
    if not sys.stdin.isatty():
        raise CommandError(
            f"Nothing has been changed. Without a terminal to ask for confirmation, {option} is required."
        )


def record_event(
    store: Store,
    name: str,
    *,
    sub: str | None = None,
    client: Client | None = None,
    resource: Resource | None = None,
    detail: str | None = None,
) -> None:
    """Record the event `name`, one of `events.EVENTS`, in the log and in the history.

    The event belongs to the history of the user `sub`, else of the client, else of the client whose client_id is the
    URI of the resource, else of the keys.
    """
    client_id = client.client_id if client else resource.uri if resource else None
    subject = sub or (history.about_client(client_id) if client_id else history.KEYS)
    detail = f"{resource.uri}: {detail}" if resource else detail
    members = {"sub": sub, "client_id": client.client_id if client else None, "detail": detail, "by": _operator()}
    event_log.log_event(store.settings, name, **members)
    store.events.put(history.by_operator(store, subject, name, client=client, detail=detail))


def _operator() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name
        return "operator"


def present_members(members: dict[str, Any], *hidden: str) -> dict[str, Any]:
    """Return the members that have a value and are not hidden."""
    return {name: value for name, value in members.items() if value is not None and name not in hidden}
