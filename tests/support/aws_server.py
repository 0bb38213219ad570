"""A server on 127.0.0.1 that speaks AWS's JSON protocol, on kept connections, and can answer badly in many ways."""

import json
import socket
import ssl
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from tests.support.listener import Listener


@dataclass(frozen=True)
class Received:
    """A request: the number of its connection, counted from 0, its header fields in lower case, and its body."""

    connection: int
    target: str
    headers: dict[str, str]
    body: bytes


# Answers a request on its connection. Raises Close to close the connection.
Behaviour = Callable[[socket.socket, Received], None]


class Close(Exception):
    """Closes the connection."""


def response(body: bytes = b'{"ok": true}', status: int = 200, crc: int | None = None, **headers: str) -> bytes:
    """Return a response with a checksum, `crc` or the right one. `headers`: `_` stands for a hyphen."""
    fields = {"Content-Type": "application/x-amz-json-1.0", "Date": formatdate(usegmt=True)}
    fields |= {"x-amz-crc32": str(zlib.crc32(body) if crc is None else crc), "Content-Length": str(len(body))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
    return f"HTTP/1.1 {status} Any\r\n{head}\r\n".encode() + body


def error(name: str, status: int = 400, **headers: str) -> bytes:
    """Return a response that rejects a request."""
    body = json.dumps({"__type": f"com.amazonaws.example#{name}", "message": "no"}).encode()
    return response(body, status, None, x_amzn_RequestId="THE-ID", **headers)


def send(*parts: bytes, pause: float = 0.0, close: bool = False) -> Behaviour:
    """Send these bytes, with a pause between them; with `close`, close the connection then."""

    def behave(connection: socket.socket, _request: Received) -> None:
        for number, part in enumerate(parts):
            if number:
                threading.Event().wait(pause)
            connection.sendall(part)
        if close:
            raise Close

    return behave


def silence(connection: socket.socket, _request: Received) -> None:
    """Send nothing until the other side closes the connection."""
    with suppress(OSError):
        connection.recv(1)
    raise Close


def close(_connection: socket.socket, _request: Received) -> None:
    """Close the connection without an answer."""
    raise Close


class AwsServer(Listener):
    """A server. `plan`: the behaviours for the first requests; all others get a success."""

    def __init__(self, *plan: Behaviour, tls: ssl.SSLContext | None = None):
        self.plan = list(plan)
        self.requests: list[Received] = []
        self.otherwise: Behaviour = send(response())
        self._lock = threading.Lock()
        super().__init__(tls)

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/"

    def connected(self, connection: socket.socket, number: int) -> None:
        with suppress(OSError, EOFError, Close), connection.makefile("rb") as reader:
            while True:
                request = _read(reader, number)
                with self._lock:
                    self.requests.append(request)
                    behave = self.plan.pop(0) if self.plan else self.otherwise
                behave(connection, request)


def _read(reader: Any, connection: int) -> Received:
    first = reader.readline().decode()
    if not first:
        raise EOFError
    headers = {}
    while line := reader.readline().decode().strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return Received(connection, first.split(" ")[1], headers, reader.read(int(headers.get("content-length", 0))))
