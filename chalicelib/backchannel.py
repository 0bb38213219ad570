"""One HTTP request to an application, over a network that may be hostile on both sides. Owns the sockets.

Whose server it is, the client's registration says; what that name leads to, whoever runs it may change at any time. So
a name is looked up once, each address is checked, and the connection goes to that address; no redirect is followed,
no proxy is used, and time and size have a limit, however slowly or endlessly the other side answers.
"""

import re
import socket
import time
from collections.abc import Iterable
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ssl

Address = IPv4Address | IPv6Address
Endpoint = tuple[int, tuple[str, int]]  # the family of an address; the address and the port
SECONDS = 4.0
MOST_ADDRESSES = 4
_LARGEST_ANSWER = 8192
_GRACE = 0.5
_PORTS = {"http": 80, "https": 443}
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: |\r?\n)")
_PRINTABLE = re.compile(r"[\x21-\x7e]+")
# All that the IPv6 internet has (RFC 4291 section 2.5.4), but for what is a tunnel to an IPv4 address, which may be
# any: Teredo (RFC 4380) and 6to4 (RFC 3056).
_GLOBAL_UNICAST = ip_network("2000::/3")
_TUNNELS = (ip_network("2001::/32"), ip_network("2002::/16"))


class Undeliverable(Exception):
    """The request was not made, or nobody answered it; the text says why, and holds nothing of what was sent."""


def post(url: str, body: bytes, networks: Iterable[str] = ()) -> int:
    """Send a form to a server and give the status of its answer, whatever that is. Raises Undeliverable.

    Only to https, and to public addresses; `networks` are those that it may go to besides, by plain http too. All of it
    takes SECONDS at most, but for the lookup of the name, which the system's resolver has its own limit for.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError as error:
        raise Undeliverable("the URL cannot be read") from error
    if not host or port is None or parts.scheme not in _PORTS or "@" in parts.netloc or not _PRINTABLE.fullmatch(url):
        raise Undeliverable("the URL is not one to send to")
    found = _look_up(host, port)
    for _, (address, _) in found:  # a name with one address out there and one in here is no honest one
        listed = any(_plain(ip_address(address)) in ip_network(network) for network in networks)
        if not listed and not is_public(ip_address(address)):
            raise Undeliverable("the name leads to an address that is not public")
        if not listed and parts.scheme != "https":
            raise Undeliverable("plain http is for the networks that the operator has listed")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    head = (
        f"POST {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(body)}\r\nAccept: */*\r\nUser-Agent: Signet\r\nConnection: close\r\n\r\n"
    )
    deadline = time.monotonic() + SECONDS
    try:
        with _connected(found, deadline) as connection:
            if parts.scheme == "http":
                return _exchange(connection, head.encode() + body, deadline)
            connection.settimeout(_left(deadline))
            with _tls().wrap_socket(connection, server_hostname=host) as secured:
                return _exchange(secured, head.encode() + body, deadline)
    except TimeoutError as error:
        raise Undeliverable(f"no answer within {SECONDS:g} seconds") from error
    except OSError as error:  # ssl's errors are some of these
        raise Undeliverable(f"the connection failed: {type(error).__name__}") from error


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet, and stands for no other."""
    plain = _plain(address)
    if plain.version == 6 and (plain not in _GLOBAL_UNICAST or any(plain in tunnel for tunnel in _TUNNELS)):
        return False
    return plain.is_global and not plain.is_multicast


def _plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 one is another spelling of (RFC 4291 section 2.5.5.2): systems connect to that."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _look_up(host: str, port: int) -> list[Endpoint]:
    """Where the name leads to; the only time that anybody asks."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Undeliverable("the name is not known") from error
    # Without its scope an address of a link is still none of the public ones.
    endpoints = {(int(family), (str(address[0]).partition("%")[0], port)) for family, _, _, _, address in found}
    return sorted(endpoints)[:MOST_ADDRESSES]


def _connected(found: list[Endpoint], deadline: float) -> socket.socket:
    """A connection to the first address that takes one; none of them may use up the time of those after it."""
    failure = OSError("no address")
    for tried, (family, address) in enumerate(found):
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(_left(deadline) / (len(found) - tried))
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure


def _exchange(connection: socket.socket, message: bytes, deadline: float) -> int:
    """Send a request, and read the answer until its end or the limit: the status is what counts."""
    connection.settimeout(_left(deadline))
    connection.sendall(message)
    answer, status = b"", 0
    try:
        while len(answer) < _LARGEST_ANSWER:
            connection.settimeout(_left(deadline))
            received = connection.recv(_LARGEST_ANSWER - len(answer))
            if not received:
                break
            answer += received
            if not status and (status := _status(answer)):
                # Whoever is still writing should not find the door shut, but nobody is waited for.
                deadline = min(deadline, time.monotonic() + _GRACE)
    except OSError:
        if not status:
            raise
    if not status:
        raise Undeliverable("the answer is not HTTP")
    return status


def _status(answer: bytes) -> int:
    """The status of an answer that begins like this, 0 if it is not known. Interim ones (RFC 9110 section 15.2) are
    passed over.
    """
    for head in re.split(rb"\r?\n\r?\n", answer):
        match = _STATUS_LINE.match(head + b"\n")
        if match is None or not match[1].startswith(b"1"):
            return int(match[1]) if match else 0
    return 0


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


@cache
def _tls() -> "ssl.SSLContext":
    import ssl

    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
