"""`make run`, and what it shares with plain `chalice local`: a port that is free, a database, a welcome."""

import errno
import io
import os
import signal
import socket
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import click

from chalicelib.settings import Settings, SettingsError
from infra import embedded
from infra.state import CHECKOUT, StateError, StateFolder

MAKE = "make run PORT="
CHALICE = "chalice local --port "


def serve(port: int, *, fresh: bool = False) -> None:
    """Serve this checkout on 127.0.0.1 until Ctrl-C or SIGTERM. `fresh` removes the local state first.

    Raises StateError when the port is taken or the state cannot be used, SettingsError for a wrong setting.
    """
    _check_port(port)
    if fresh:
        StateFolder().clear()
    signal.signal(signal.SIGTERM, _end)
    try:
        _start(port)
        _chalice_local(port)
    except (KeyboardInterrupt, click.Abort):
        print(flush=True)  # the shell's prompt starts on a line of its own


def prepare() -> None:
    """Do the same for plain `chalice local`: app.py calls this when chalice's command has loaded it.

    Does nothing under any other command. What is wrong is one line, and ends the process with code 2.
    """
    port = _port_of_chalice_local(sys.argv[1:]) if Path(sys.argv[0]).name == "chalice" else None
    if port is None:
        return
    try:
        _check_port(port, CHALICE)
        _start(port)
    except (StateError, SettingsError) as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(2)  # chalice loads us in a thread, whose end the process would outlive


def _start(port: int) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # chalice does not flush what it says into a pipe
    os.environ.setdefault("SIGNET_ISSUER", f"http://127.0.0.1:{port}")
    embedded.cure_chalice_local()
    settings = Settings.from_environ()
    if settings.embedded:
        embedded.start(settings)


def _port_of_chalice_local(arguments: list[str]) -> int | None:
    """The port, as chalice's own command reads it; None under another command."""
    from chalice.cli import cli, local

    _, command, _ = cli.make_parser(click.Context(cli)).parse_args(arguments)
    if command[:1] != ["local"]:
        return None
    port: int = local.make_context("local", command[1:], resilient_parsing=True).params["port"]
    return port


def _check_port(port: int, how: str = MAKE) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise _cannot_listen(port, error, how) from error


def _cannot_listen(port: int, error: OSError, how: str) -> StateError:
    problem = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
    return StateError(f"Port {port} {problem}. Choose another one: {how}{port + 1 if port < 65535 else 8000}")


def _chalice_local(port: int) -> None:
    from chalice.cli import cli

    options = ["--no-autoreload", "--host", "127.0.0.1", "--port", str(port)]
    arguments: list[Any] = ["--project-dir", str(CHECKOUT), "local", *options]
    try:
        cli(arguments, obj={}, standalone_mode=False)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise _cannot_listen(port, error, MAKE) from error


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
