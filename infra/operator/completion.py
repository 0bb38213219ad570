"""`signet completion bash|zsh`: completion of commands and options in the shell."""

import shlex
import sys
from typing import Any

import click
from click.shell_completion import BashComplete, ShellComplete, ZshComplete

from infra.local.state import CHECKOUT
from infra.operator.commands import example

NAME = "signet"
VARIABLE = "_SIGNET_COMPLETE"
LAUNCHER = CHECKOUT / ".venv/bin/signet"  # installed by infra/venv.sh
_SHELLS: dict[str, tuple[type[ShellComplete], str]] = {
    "bash": (BashComplete, "~/.bashrc"),
    "zsh": (ZshComplete, "~/.zshrc"),
}


@click.command(epilog=example('completion bash   # in ~/.bashrc: eval "$(/path/to/signet completion bash)"'))
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script for completion in the shell.

    It also defines the command `signet` for every directory.
    Add this line to ~/.bashrc and open a new terminal; for zsh, use `completion zsh` in ~/.zshrc, after compinit:

    \b
      eval "$(/path/to/checkout/.venv/bin/signet completion bash)"
    """
    click.echo(script(context.find_root().command, shell))


def script(command: click.Command, shell: str) -> str:
    """Return a shell function that runs the command from any directory, and click's completion for it.

    click's script runs the command by its name, which does not work for a function: the program replaces the name.
    """
    program = f"PYTHONPATH={shlex.quote(str(CHECKOUT))} {shlex.quote(sys.executable)} -P -m infra"
    complete, file = _SHELLS[shell]
    source = complete(command, {}, NAME, VARIABLE).source()
    replacements: dict[str, Any] = {
        "bash": [("=bash_complete $1)", f"=bash_complete {program})")],
        "zsh": [
            (f"=zsh_complete {NAME})", f"=zsh_complete {program})"),
            (f"    (( ! $+commands[{NAME}] )) && return 1\n", ""),
        ],
    }
    for original, replacement in replacements[shell]:
        if original not in source:
            raise click.ClickException(
                "This version of click generates an unexpected script. See infra/operator/completion.py."
            )
        source = source.replace(original, replacement)
    line = f'eval "$({shlex.quote(str(LAUNCHER))} completion {shell})"'
    return f'# Add this line to {file}:\n#   {line}\n{NAME}() {{ {program} "$@"; }}\n{source}'
