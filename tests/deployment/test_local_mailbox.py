"""The mailbox of the local server: a mail of another process of the checkout arrives there within seconds."""

import http.client
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.local.state import CHECKOUT
from tests.support.local_server import COMMANDS, Program, environment
from tests.support.ports import free_port

pytestmark = pytest.mark.slow

# What a command of the operator does that sends a mail.
SEND = """
from chalicelib.mail.outbox import Mail, sending
from chalicelib.server import AuthorizationServer
from chalicelib.settings import Settings
from infra.local import embedded

with embedded.opened(Settings.from_environ()) as settings:
    server = AuthorizationServer.connect(settings)
    mail = Mail("password_changed", "alice@example.com", "alice", {"username": "alice"})
    assert server.store.transact(sending(server, mail)) is None
"""


def body(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def test_mail_of_another_process_is_shown_and_announced_by_the_local_server(tmp_path: Path) -> None:
    program = Program(COMMANDS["make run"], free_port(), tmp_path)
    try:
        assert f"http://localhost:{program.port}/mailbox" in program.printed
        assert "There is no mail yet" in body(program.port, "/mailbox")
        subprocess.run([sys.executable, "-c", SEND], cwd=CHECKOUT, env=environment(tmp_path), check=True, timeout=60)
        end = time.monotonic() + 20
        while "There is no mail yet" in body(program.port, "/mailbox"):
            assert time.monotonic() < end
            time.sleep(0.2)
        page = body(program.port, "/mailbox")
        assert "Your password was changed" in page
        raw = page.partition("/mailbox/raw?mail=")[2].partition('"')[0]
        assert "To: alice@example.com" in body(program.port, f"/mailbox/raw?mail={raw}")
    finally:
        _, printed = program.end(signal.SIGTERM)
    assert printed.count("Mail to alice@example.com: Your password was changed · Signet (see /mailbox)") == 1
