"""The options that every command accepts, before and behind its name: --stage and --verbose."""

import logging
from typing import Any

import click

from chalicelib.events import log as event_log
from infra.local.embedded import STAGE

_VERBOSE = "signet.verbose"


def add_common_options(command: click.Command) -> None:
    """Let a command, and every command of a group, accept --stage and --verbose.

    The stage is the context's `obj`, which `click.pass_obj` passes to the command. The last --stage wins.
    """
    command.params += [
        click.Option(
            ["--stage"],
            metavar="STAGE",
            expose_value=False,
            callback=_set_stage,
            help=f"Work on this stage in AWS. By default {STAGE}, the data of this checkout.",
        ),
        click.Option(
            ["--verbose"],
            is_flag=True,
            expose_value=False,
            callback=_log_to_stderr,
            help="Write the log events of changes to standard error.",
        ),
    ]
    if isinstance(command, click.Group):
        for subcommand in command.commands.values():
            add_common_options(subcommand)


def _set_stage(context: click.Context, _option: Any, stage: str | None) -> None:
    # A context starts with the `obj` of its parent. An empty stage, as of an unset shell variable, is an error later.
    if stage is not None or context.obj is None:
        context.obj = STAGE if stage is None else stage


def _log_to_stderr(context: click.Context, _option: Any, verbose: bool) -> None:
    if not verbose or _VERBOSE in context.meta:
        return
    context.meta[_VERBOSE] = True  # shared with the contexts of parents
    handler = logging.StreamHandler()
    event_log.log.addHandler(handler)
    context.find_root().call_on_close(lambda: event_log.log.removeHandler(handler))
