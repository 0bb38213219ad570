"""Start the local server, for `make run` and plain `chalice local`: check the port, start the database, print help."""

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
from infra.local import embedded
from infra.local.http_server import fix_chalice_local
from infra.local.loopback_names import redirect_to_issuer, serving_line
from infra.local.state import CHECKOUT, StateError, StateFolder

MAKE = "make run PORT="
CHALICE = "chalice local --port "
LOOPBACK = "127.0.0.1"


def serve(port: int, host: str = LOOPBACK, *, fresh: bool = False) -> None:
    """Serve this checkout on an address of this machine until Ctrl-C or SIGTERM, which end the process.

    `fresh` removes the local state first. Raises StateError when the port is taken or the state cannot be used,
    SettingsError for a wrong setting.
    """
    _check_port(port, host=host)
    if fresh:
        StateFolder().clear()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        issuer = _start(port)
        if host != LOOPBACK:
            print(f"Listening on {host}: others may reach this server, and the demo data is public.", flush=True)
        _chalice_local(port, host, serving_line(issuer, host, port))
    except (KeyboardInterrupt, click.Abort):
        print(flush=True)  # the shell's prompt starts on a new line
        os._exit(0)  # Python would free the whole database first, which takes seconds; all writes are stored


def prepare() -> None:
    """Do the same for plain `chalice local`, whose command imports app.py, which calls this.

    Does nothing under any other command. An error is printed as one line, and the process ends with code 2.
    """
    port = _port_of_chalice_local(sys.argv[1:]) if Path(sys.argv[0]).name == "chalice" else None
    if port is None:
        return
    try:
        _check_port(port, CHALICE)
        _start(port)
    except (StateError, SettingsError) as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(2)  # chalice imports app.py in a thread, which could not end the process otherwise


def _start(port: int) -> str:
    """Start the database, and return the issuer."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # chalice does not flush its output to a pipe
    if not os.environ.get("SIGNET_ISSUER"):
        os.environ["SIGNET_ISSUER"] = f"http://localhost:{port}"
    fix_chalice_local()
    settings = Settings.from_environ()
    redirect_to_issuer(settings.issuer)
    if settings.embedded:
        embedded.start(settings)
        StateFolder().announce(settings.issuer)
    return settings.issuer


def _port_of_chalice_local(arguments: list[str]) -> int | None:
    """Return the port, as chalice's own parser reads it, or None under another command."""
    from chalice.cli import cli, local

    _, command, _ = cli.make_parser(click.Context(cli)).parse_args(arguments)
    if command[:1] != ["local"]:
        return None
    port: int = local.make_context("local", command[1:], resilient_parsing=True).params["port"]
    return port


def _check_port(port: int, command: str = MAKE, host: str = LOOPBACK) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise _cannot_listen(port, error, command) from error


def _cannot_listen(port: int, error: OSError, command: str) -> StateError:
    problem = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
    return StateError(f"Port {port} {problem}. Choose another one: {command}{port + 1 if port < 65535 else 8000}")


def _chalice_local(port: int, host: str, line: str) -> None:
    """Run the server of `chalice local`, with `line` in place of its own first line."""
    from chalice.cli import cli
    from chalice.local import LocalDevServer

    def serve_forever(server: Any) -> None:
        print(line, flush=True)
        server.server.serve_forever()

    LocalDevServer.serve_forever = serve_forever
    options = ["--no-autoreload", "--host", host, "--port", str(port)]
    arguments: list[Any] = ["--project-dir", str(CHECKOUT), "local", *options]
    try:
        cli(arguments, obj={}, standalone_mode=False)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise _cannot_listen(port, error, MAKE) from error


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
