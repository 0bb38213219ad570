"""What the operator's commands share: a stage's data, questions, refusals in one line, the record of what was done."""

import getpass
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import click

from chalicelib import audit, history
from chalicelib.models import Client
from chalicelib.settings import Settings
from chalicelib.store import Store
from infra import embedded
from infra.terminal import visible

as_json = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
yes = click.option("--yes", is_flag=True, help="Do not ask.")


class Refusal(click.ClickException):
    """What the operator asked for cannot be done; the text says why."""

    exit_code = 2


def example(*commands: str) -> str:
    """What stands below a command's help."""
    lines = [f"python -m infra {command}" for command in commands]
    return "\b\n" + "\n".join(["Example:" if len(lines) == 1 else "Examples:", *(f"  {line}" for line in lines)])


@contextmanager
def storage(stage: str) -> Iterator[Store]:
    """The data of a stage: this checkout's embedded database for `local`, AWS for any other.

    Raises StateError, SettingsError.
    """
    settings = Settings.from_environ({**os.environ, "SIGNET_STAGE": stage})
    if stage == embedded.STAGE and settings.embedded:
        with embedded.opened(settings) as opened:
            yield Store(opened)
    else:
        yield Store(replace(settings, embedded=False))


def near(name: str, known: Iterable[str]) -> str:
    """The question whether another name was meant, with a space before it; nothing when none is like it."""
    found = get_close_matches(name, known, n=1)
    return f" Did you mean {found[0]!r}?" if found else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> Refusal:
    """The refusal that says there is no such thing, and which name it may have been meant to be."""
    return Refusal(f"There is no {kind} {name!r}.{near(name, known)}")


def confirm(question: str, yes: bool) -> None:
    """Ask before something is destroyed, unless the operator has said `yes` already; of a stage in AWS, by its name.

    Raises click.Abort when the answer is no, and Refusal when there is nobody to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refusal("Nothing has been changed: there is no terminal to ask at, and no --yes.")
    stage = click.get_current_context().find_root().obj
    of_stage = "" if stage == embedded.STAGE else f"Stage {stage}: "
    click.confirm(visible(of_stage + question), abort=True, err=True)


def noted(
    store: Store, name: str, *, sub: str | None = None, client: Client | None = None, detail: str | None = None
) -> None:
    """Keep that the operator has done `name`, one of `audit.EVENTS`: in the log, and for 90 days in the history.

    The history is that of the person `sub`, else of the client, else of the keys.
    """
    about = sub or (history.about_client(client.client_id) if client else history.KEYS)
    members = {"sub": sub, "client_id": client.client_id if client else None, "detail": detail, "by": _operator()}
    audit.log_event(store.settings, name, **members)
    store.events.put(history.by_operator(store, about, name, client=client, detail=detail))


def _operator() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name
        return "operator"


def without(members: dict[str, Any], *hidden: str) -> dict[str, Any]:
    """The members that have a value and are not hidden."""
    return {name: value for name, value in members.items() if value is not None and name not in hidden}
