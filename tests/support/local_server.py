"""`make run` and plain `chalice local` as processes."""

import http.client
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.state import CHECKOUT

CHALICE = str(Path(sys.executable).with_name("chalice"))
COMMANDS = {
    "make run": [sys.executable, "-m", "infra", "serve"],
    "chalice local": [sys.executable, CHALICE, "local", "--no-autoreload"],
}


class Program:
    """A running server, and its output until it was ready."""

    def __init__(self, arguments: list[str], port: int, state: Path):
        self.port = port
        self.process = subprocess.Popen(
            [*arguments, "--port", str(port)],
            cwd=CHECKOUT,
            env=environment(state),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A shell makes background processes and their children ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        assert self.process.stdout
        self.printed = ""
        while "Serving on" not in self.printed:
            line = self.process.stdout.readline()
            if not line:
                self.process.communicate(timeout=30)
                pytest.fail(f"The server did not start: {self.printed}")
            self.printed += line

    def get(self, path: str, host: str = "127.0.0.1") -> int:
        """Return the status of a GET request."""
        return self.answer(path, host).status

    def answer(self, path: str, host: str = "127.0.0.1") -> http.client.HTTPResponse:
        """Return the response to a GET request, whose body has been read."""
        connection = http.client.HTTPConnection(host, self.port, timeout=30)
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer

    def end(self, how: signal.Signals) -> tuple[int, str]:
        """End the process by a signal. Return the exit code, and the output since the start."""
        self.process.send_signal(how)
        rest, _ = self.process.communicate(timeout=30)
        return self.process.returncode, rest


def environment(state: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(state), "XDG_STATE_HOME": str(state)}
