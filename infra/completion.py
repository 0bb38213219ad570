"""`python -m infra completion bash|zsh`: the shell completes what the operator types."""

import shlex
import sys
from typing import Any

import click
from click.shell_completion import BashComplete, ShellComplete, ZshComplete

from infra.commands import example
from infra.state import CHECKOUT

NAME = "signet"
VARIABLE = "_SIGNET_COMPLETE"
_SHELLS: dict[str, tuple[type[ShellComplete], str]] = {
    "bash": (BashComplete, "~/.bashrc"),
    "zsh": (ZshComplete, "~/.zshrc"),
}


@click.command(epilog=example('completion bash   # in ~/.bashrc: eval "$(… completion bash)"'))
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what gives your shell the short command `signet`. It is completed by Tab.

    In bash, put this line into ~/.bashrc, and open another terminal; for zsh into ~/.zshrc, after compinit:

    \b
      eval "$(/path/to/signet/.venv/bin/python -m infra completion bash)"
    """
    click.echo(script(context.find_root().command, shell))


def script(command: click.Command, shell: str) -> str:
    """A shell function that runs the operator's command from anywhere, and click's own completion of it.

    click completes a program by running it; a function it cannot run, so the program is named in its place.
    """
    program = f"PYTHONPATH={shlex.quote(str(CHECKOUT))} {shlex.quote(sys.executable)} -P -m infra"
    complete, file = _SHELLS[shell]
    source = complete(command, {}, NAME, VARIABLE).source()
    asked: dict[str, Any] = {
        "bash": [("=bash_complete $1)", f"=bash_complete {program})")],
        "zsh": [
            (f"=zsh_complete {NAME})", f"=zsh_complete {program})"),
            (f"    (( ! $+commands[{NAME}] )) && return 1\n", ""),
        ],
    }
    for there, instead in asked[shell]:
        if there not in source:
            raise click.ClickException("This version of click makes another script: see infra/completion.py.")
        source = source.replace(there, instead)
    how = f'# To have it in each terminal, put into {file}:\n#   eval "$({sys.executable} -m infra completion {shell})"'
    return f'{how}\n{NAME}() {{ {program} "$@"; }}\n{source}'
