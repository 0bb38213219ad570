"""HTTP requests to clients, protected against SSRF and DNS rebinding.

The URL comes from the client's registration, and its owner can change the DNS records of the host at any time.
Therefore the host is resolved once, every address is checked, and the connection uses a checked address. Redirects are
not followed, no proxy is used, and the time and the size of a response are limited.
"""

import io
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from chalicelib.http import tls
from chalicelib.http.addresses import Address, unmapped

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

T = TypeVar("T")
Endpoint = tuple[int, tuple[str, int]]  # address family; address and port
SECONDS = 4.0
MOST_ADDRESSES = 4
_MAX_RESPONSE = 8192  # bytes
_MAX_HEAD = 16 * 1024  # bytes of the status line and the header fields, and of the framing of chunks
_GRACE = 0.5  # seconds
_PORTS = {"http": 80, "https": 443}
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: |\r?\n)")
_PRINTABLE = re.compile(r"[\x21-\x7e]+")
# The public IPv6 addresses (RFC 4291 section 2.5.4), without the tunnels to arbitrary IPv4 addresses: Teredo (RFC 4380)
# and 6to4 (RFC 3056).
_GLOBAL_UNICAST = ip_network("2000::/3")
_TUNNELS = (ip_network("2001::/32"), ip_network("2002::/16"))


class Undeliverable(Exception):
    """The request was not sent or got no response. The text says why, without any content of the request."""


class NoResponse(Undeliverable):
    """The request took as long as a request may take."""


def post(url: str, body: bytes, networks: Iterable[str] = ()) -> int:
    """Send a form to a server and return the status of the response. Raises Undeliverable."""
    head = f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\nAccept: */*\r\n"
    return _send(url, "POST", head, body, networks, _read_status)


def get(url: str, networks: Iterable[str] = (), *, at_most: int) -> bytes:
    """Return the JSON of a server, which it answers with status 200 and in at most so many bytes.

    Raises Undeliverable. Redirects and compressed answers are not accepted.
    """

    return get_with_headers(url, networks, at_most=at_most, seconds=SECONDS)[0]


def get_with_headers(
    url: str, networks: Iterable[str] = (), *, at_most: int, seconds: float
) -> tuple[bytes, Mapping[str, str]]:
    """Return the JSON of a server as `get` does, and the header fields of the response in small letters.

    Repeated ones are joined (RFC 9110 section 5.3). It takes at most so many seconds. Raises Undeliverable.
    """

    def read(connection: socket.socket, deadline: float) -> tuple[bytes, Mapping[str, str]]:
        return _read_content(connection, deadline, at_most)

    head = "Accept: application/json\r\nAccept-Encoding: identity\r\n"
    return _send(url, "GET", head, b"", networks, read, min(seconds, SECONDS))


def _send(
    url: str,
    method: str,
    head: str,
    body: bytes,
    networks: Iterable[str],
    read: Callable[[socket.socket, float], T],
    seconds: float | None = None,
) -> T:
    """Send a request, and return what `read` makes of the connection until the deadline. Raises Undeliverable.

    Only https and public addresses are allowed, except for addresses in `networks`, which may also be reached by plain
    http. The request takes at most so many seconds, by default SECONDS, with the DNS look-up.
    """
    seconds = SECONDS if seconds is None else seconds
    deadline = time.monotonic() + seconds
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError as error:
        raise Undeliverable("the URL cannot be parsed") from error
    if not host or port is None or parts.scheme not in _PORTS or "@" in parts.netloc or not _PRINTABLE.fullmatch(url):
        raise Undeliverable("the URL must be http or https, with a host and without credentials or spaces")
    endpoints = _look_up(host, port, deadline, seconds)
    for _, (address, _) in endpoints:  # reject a host if any of its addresses is private
        listed = any(unmapped(ip_address(address)) in ip_network(network) for network in networks)
        if not listed and not is_public(ip_address(address)):
            raise Undeliverable("the host has an address that is not public")
        if not listed and parts.scheme != "https":
            raise Undeliverable("plain http is allowed only for the networks that the operator has listed")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    start = f"{method} {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
    message = f"{start}{head}User-Agent: Signet\r\nConnection: close\r\n\r\n".encode() + body
    try:
        with _connect(endpoints, deadline) as connection:
            if parts.scheme == "http":
                return _exchange(connection, message, deadline, read)
            connection.settimeout(_left(deadline))
            with tls.context().wrap_socket(connection, server_hostname=host) as encrypted:
                return _exchange(encrypted, message, deadline, read)
    except TimeoutError as error:
        raise NoResponse(f"no response within {seconds:g} seconds") from error
    except OSError as error:  # includes the errors of ssl
        raise Undeliverable(f"the connection failed: {type(error).__name__}") from error


def is_public(address: Address) -> bool:
    """Return whether an address is one of the public internet and no tunnel to another address."""
    plain = unmapped(address)
    if plain.version == 6 and (plain not in _GLOBAL_UNICAST or any(plain in tunnel for tunnel in _TUNNELS)):
        return False
    return plain.is_global and not plain.is_multicast


def _look_up(host: str, port: int, deadline: float, seconds: float) -> list[Endpoint]:
    """Return the first endpoints of a host. The only DNS look-up, so that rebinding has no effect.

    The system's resolver has no deadline, and the owner of a domain decides how slowly it answers. After the deadline,
    the thread of the look-up waits on alone until the resolver gives up.
    """
    answer: Future[list[Any]] = Future()

    def resolve() -> None:
        try:
            answer.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answer.set_exception(error)

    threading.Thread(target=resolve, daemon=True).start()
    try:
        results = answer.result(_left(deadline))
    except TimeoutError as error:
        raise NoResponse(f"the host cannot be resolved within {seconds:g} seconds") from error
    except (OSError, UnicodeError) as error:
        raise Undeliverable("the host cannot be resolved") from error
    # Without its scope, a link-local address is still not public.
    endpoints = {(int(family), (str(address[0]).partition("%")[0], port)) for family, _, _, _, address in results}
    return sorted(endpoints)[:MOST_ADDRESSES]


def _connect(endpoints: list[Endpoint], deadline: float) -> socket.socket:
    """Return a connection to the first endpoint that accepts one, giving each an equal share of the time left."""
    failure = OSError("no address")
    for tried, (family, address) in enumerate(endpoints):
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(_left(deadline) / (len(endpoints) - tried))
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure


def _exchange(
    connection: socket.socket, message: bytes, deadline: float, read: Callable[[socket.socket, float], T]
) -> T:
    connection.settimeout(_left(deadline))
    connection.sendall(message)
    return read(connection, deadline)


class _Limited(io.RawIOBase):
    """What a connection receives until the deadline, and at most so many bytes."""

    def __init__(self, connection: socket.socket, deadline: float, at_most: int):
        self._connection, self._deadline, self._left = connection, deadline, at_most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        self._connection.settimeout(_left(self._deadline))
        received = self._connection.recv_into(buffer)
        self._left -= received
        if self._left < 0:
            raise Undeliverable("the response is too long")
        return received

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the reader that http.client asks a socket for."""
        return io.BufferedReader(self)


def _read_content(connection: socket.socket, deadline: float, at_most: int) -> tuple[bytes, Mapping[str, str]]:
    """Return the content and the header fields of a response with status 200."""
    from http.client import HTTPException, HTTPResponse

    response = HTTPResponse(_Limited(connection, deadline, at_most + _MAX_HEAD), method="GET")  # type: ignore[arg-type]
    try:
        response.begin()
        if response.status != 200 or response.getheader("Content-Encoding", "identity") != "identity":
            raise Undeliverable(f"the response has status {response.status}, or is compressed")
        content = response.read(at_most + 1)
        if len(content) <= at_most and response.read(1) == b"" and not response.length:
            names = {name.lower() for name, _ in response.getheaders()}
            return content, {name: response.getheader(name, "") for name in names}
    except (HTTPException, ValueError) as error:
        raise Undeliverable("the response is not HTTP") from error
    raise Undeliverable("the response is too long, or was cut off")


def _read_status(connection: socket.socket, deadline: float) -> int:
    """Return the status of a response, which is read to its end or the limit."""
    response, status = b"", 0
    try:
        while len(response) < _MAX_RESPONSE:
            connection.settimeout(_left(deadline))
            received = connection.recv(_MAX_RESPONSE - len(response))
            if not received:
                break
            response += received
            if not status and (status := _status(response)):
                # A server that is still writing gets a moment to finish, so that it sees no reset connection.
                deadline = min(deadline, time.monotonic() + _GRACE)
    except OSError:
        if not status:
            raise
    if not status:
        raise Undeliverable("the response is not HTTP")
    return status


def _status(response: bytes) -> int:
    """Return the status of a response that begins like this, 0 if it is not known yet.

    Interim responses (RFC 9110 section 15.2) are skipped.
    """
    for head in re.split(rb"\r?\n\r?\n", response):
        match = _STATUS_LINE.match(head + b"\n")
        if match is None or not match[1].startswith(b"1"):
            return int(match[1]) if match else 0
    return 0


def _left(deadline: float) -> float:
    """Return the seconds until the deadline. Raises TimeoutError when it has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
