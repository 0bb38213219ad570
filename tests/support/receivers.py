"""Servers on 127.0.0.1 that receive logout tokens, and can answer badly in many ways."""

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import parse_qs

from tests.support.listener import Listener

Behaviour = Callable[[socket.socket], None]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nCache-Control: no-store\r\n\r\n"


def answer(*parts: bytes) -> Behaviour:
    """Send these bytes and close the connection."""

    def behave(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)

    return behave


def status(number: int, *headers: str) -> Behaviour:
    """Answer with a status and no body."""
    lines = "".join(f"{header}\r\n" for header in headers)
    return answer(f"HTTP/1.1 {number} Whatever\r\n{lines}Content-Length: 0\r\n\r\n".encode())


def json_answer(body: bytes) -> Behaviour:
    """Answer with a JSON document."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return answer(head.encode() + body)


def in_sequence(*behaviours: Behaviour) -> Behaviour:
    """Use the next behaviour for each request, and the last one for all that follow."""
    remaining = list(behaviours)
    return lambda connection: (remaining.pop(0) if len(remaining) > 1 else remaining[0])(connection)


def endless(start: bytes, part: bytes, pause: float = 0.0) -> Behaviour:
    """Send `part` again and again, with `pause` seconds in between."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(start)
        waiting = threading.Event()
        while True:
            connection.sendall(part)
            waiting.wait(pause)

    return behave


def silence(connection: socket.socket) -> None:
    """Send nothing until the other side closes the connection."""
    with suppress(OSError):
        connection.recv(1)


class Receiver(Listener):
    """A server that records every request, and then answers as `behave` does."""

    def __init__(self, behave: Behaviour | None = None, tls: ssl.SSLContext | None = None):
        self.behave = behave or answer(OK)
        self.requests: list[bytes] = []
        self.arrived = threading.Semaphore(0)
        super().__init__(tls)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/backchannel?rp=1"

    @property
    def tokens(self) -> list[str]:
        """The logout tokens that were received, each the only parameter of a form."""
        tokens = []
        for request in self.requests:
            form = parse_qs(request.partition(b"\r\n\r\n")[2].decode(), strict_parsing=True)
            assert list(form) == ["logout_token"], form
            tokens += form["logout_token"]
        return tokens

    def connected(self, connection: socket.socket, number: int) -> None:
        self.requests.append(_request(connection))
        self.arrived.release()
        self.behave(connection)


def _request(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length")]
    length = lengths[0] if lengths else 0
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body
