"""Kept HTTP/1.1 connections (RFC 9112) to AWS, with limits in time and size.

The library `http.client` would take as long to load as the rest of a first call, and three times the processor time.
"""

import re
import socket
import time
from functools import cache
from select import POLLIN, poll
from threading import Lock
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from chalicelib.aws.messages import NoAnswer, NotSent, Request, Response
from chalicelib.aws.signature import target_of
from chalicelib.http import tls

CONNECT = 1.0  # seconds
READ = 2.0  # seconds without a byte
MOST_READS = 5  # a response takes at most so many times READ
MAX_IDLE = 300  # seconds; NAT gateways forget a connection after 350
MAX_BODY = 16 * 1024 * 1024  # the most that BatchGetItem returns
_MAX_HEAD = 65536
_PIECE = 65536
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([2-5][0-9]{2})(?: .*)?")
_HEX = re.compile(r"[0-9A-Fa-f]{1,8}")


class _Closed(Exception):
    """The other side has closed a kept connection, and has not answered."""


class _Address(NamedTuple):
    encrypted: bool
    host: str
    port: int


class Connections:
    """Connections to any number of addresses, used again by one request after the other. Safe for threads."""

    def __init__(self, read_timeout: float = READ):
        self._read_timeout = read_timeout
        self._lock = Lock()
        self._idle: dict[_Address, list[tuple[socket.socket, float]]] = {}

    def send(self, request: Request) -> Response:
        """Send a request and return its response, of any status. Raises NoAnswer.

        A kept connection that was closed in the meantime is replaced at once, which is no attempt: it happens whenever
        a process was frozen. The caller's writes may be sent twice, as in any attempt.
        """
        address, message = _address(request.url), _message(request)
        try:
            while kept := self._take(address):
                try:
                    return self._exchange(kept, address, message, kept=True)
                except _Closed:
                    continue
            connection = self._connect(request, address)
            return self._exchange(connection, address, message)
        except TimeoutError as error:
            raise NoAnswer(f"{request.url} does not answer in time") from error
        except OSError as error:
            raise NoAnswer(f"{request.url} cannot be reached ({type(error).__name__})") from error

    def close(self) -> None:
        """Close the kept connections."""
        with self._lock:
            for idle in self._idle.values():
                while idle:
                    idle.pop()[0].close()

    def __del__(self) -> None:
        self.close()

    def _take(self, address: _Address) -> socket.socket | None:
        while True:
            with self._lock:
                idle = self._idle.get(address)
                if not idle:
                    return None
                connection, since = idle.pop()
            # Something to read, without a request, is the end of the connection.
            poller = poll()
            poller.register(connection, POLLIN)
            if time.monotonic() - since < MAX_IDLE and not poller.poll(0):
                return connection
            connection.close()

    def _connect(self, request: Request, address: _Address) -> socket.socket:
        try:
            return self._open(address)
        except TimeoutError as error:
            raise NotSent(f"{request.url} does not answer in time") from error
        except OSError as error:  # includes the errors of ssl
            raise NotSent(f"{request.url} cannot be reached ({type(error).__name__})") from error

    def _open(self, address: _Address) -> socket.socket:
        host: Any = address.host.encode("ascii")  # a text would load the codec for international names
        connection = socket.create_connection((host, address.port), CONNECT)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if address.encrypted:
                return tls.context().wrap_socket(connection, server_hostname=host)
        except BaseException:
            connection.close()
            raise
        return connection

    def _exchange(
        self, connection: socket.socket, address: _Address, message: bytes, *, kept: bool = False
    ) -> Response:
        reader = _Reader(connection, self._read_timeout)
        try:
            try:
                connection.settimeout(self._read_timeout)
                connection.sendall(message)
                reader.receive()
            except TimeoutError:
                raise
            except (OSError, EOFError) as error:  # OSError includes the errors of ssl
                if kept:
                    raise _Closed from error
                raise NoAnswer(f"{address.host} has closed the connection ({type(error).__name__})") from error
            response, reusable = _read_response(reader)
        except BaseException:  # also an interruption: the rest of this response must not answer another request
            connection.close()
            raise
        if reusable and not reader.buffer:
            with self._lock:
                self._idle.setdefault(address, []).append((connection, time.monotonic()))
        else:
            connection.close()
        return response


class _Reader:
    """Reads a response from a connection. Raises EOFError at its end, TimeoutError when it takes too long."""

    def __init__(self, connection: socket.socket, timeout: float):
        self.buffer = bytearray()
        self._connection = connection
        self._timeout = timeout
        self._deadline = time.monotonic() + MOST_READS * timeout

    def receive(self) -> None:
        """Wait for more bytes."""
        if (left := self._deadline - time.monotonic()) <= 0:
            raise TimeoutError
        if left < self._timeout:
            self._connection.settimeout(left)
        piece = self._connection.recv(_PIECE)
        if not piece:
            raise EOFError
        self.buffer += piece

    def line(self, end: bytes = b"\r\n") -> str:
        """Return the text up to a line break, or up to another end."""
        while (length := self.buffer.find(end)) < 0:
            if len(self.buffer) > _MAX_HEAD:
                raise NoAnswer("the head of a response is too long")
            self.receive()
        text = self.buffer[:length].decode("latin-1")
        del self.buffer[: length + len(end)]
        return text

    def exactly(self, length: int) -> bytes:
        """Return so many bytes."""
        if length > MAX_BODY:
            raise NoAnswer("a response is too large")
        while len(self.buffer) < length:
            self.receive()
        content = bytes(self.buffer[:length])
        del self.buffer[:length]
        return content


def _read_response(reader: _Reader) -> tuple[Response, bool]:
    """Return a response, and whether its connection can be used again."""
    try:
        first, *lines = reader.line(b"\r\n\r\n").split("\r\n")
        status_line = _STATUS_LINE.fullmatch(first)
        if not status_line:
            raise NoAnswer("a response is not HTTP/1.1")
        fields = [line.partition(":") for line in lines]
        headers = {name.lower(): value.strip() for name, _, value in fields}
        reusable = status_line[1] == "1" and "close" not in headers.get("connection", "").lower()
        if "transfer-encoding" in headers:
            body = _read_chunks(reader)
        else:
            length = headers.get("content-length", "")
            if not (length.isascii() and length.isdigit()):
                raise NoAnswer("a response does not tell its length")
            body = reader.exactly(int(length))
    except EOFError as error:
        raise NoAnswer("a response ended too early") from error
    return Response(int(status_line[2]), headers, body), reusable


def _read_chunks(reader: _Reader) -> bytes:
    """Return a chunked body (RFC 9112 section 7.1)."""
    body = bytearray()
    while True:
        size = reader.line().partition(";")[0].strip()
        if not _HEX.fullmatch(size):
            raise NoAnswer("a response has an invalid chunk")
        if not int(size, 16):
            break
        body += reader.exactly(int(size, 16))
        if len(body) > MAX_BODY:
            raise NoAnswer("a response is too large")
        reader.line()
    while reader.line():  # trailers
        pass
    return bytes(body)


def _message(request: Request) -> bytes:
    host, path = target_of(request.url)
    fields = "".join([f"{name}: {value}\r\n" for name, value in request.headers.items()])
    head = f"{request.method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}Content-Length: {len(request.body)}\r\n\r\n"
    return head.encode("ascii") + request.body


@cache
def _address(url: str) -> _Address:
    parts = urlsplit(url)
    encrypted = parts.scheme == "https"
    return _Address(encrypted, parts.hostname or "", parts.port or (443 if encrypted else 80))
