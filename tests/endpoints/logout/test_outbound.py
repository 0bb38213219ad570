"""Outbound requests: protection against SSRF and DNS rebinding, and limits on time and size of a response."""

import ipaddress
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from chalicelib.http import outbound
from chalicelib.http.outbound import Undeliverable
from tests.endpoints.logout.conftest import Receivers
from tests.support.certificates import tls_context
from tests.support.listener import TIMEOUT
from tests.support.receivers import OK, Behaviour, answer, endless, json_answer, silence, status

LOOPBACK = ("127.0.0.0/8",)
BODY = b"logout_token=x"


# ---- addresses

PRIVATE = [
    "https://127.0.0.1/",
    "https://127.0.0.1:8443/logout",
    "https://localhost/",
    "https://[::1]/",
    "https://0.0.0.0/",
    "https://[::]/",
    "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://192.168.1.1/",
    "https://100.64.0.1/",
    "https://198.18.0.1/",
    "https://192.0.2.1/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://224.0.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://[fd00:ec2::254]/latest/meta-data/",
    "https://[fe80::1]/",
    "https://[fc00::1]/",
    "https://[fec0::1]/",
    "https://[ff02::1]/",
    "https://[2001:db8::1]/",
    # an IPv4 address in an IPv6 address
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:169.254.169.254]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::169.254.169.254]/",
    "https://[64:ff9b:1::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2001:0:7f00:1::]/",
    # other notations of 127.0.0.1 that a system's resolver accepts
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://0/",
]


@pytest.mark.parametrize("url", PRIVATE)
def test_private_address_is_rejected(url: str) -> None:
    with pytest.raises(Undeliverable, match=r"not public|cannot be resolved"):
        outbound.post(url, BODY)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "52.94.236.248", "2606:4700:4700::1111", "2a05:d018::1", "::ffff:1.1.1.1"]
)
def test_public_address_is_recognized(address: str) -> None:
    assert outbound.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https:///nowhere",
        "ftp://1.1.1.1/",
        "file:///etc/passwd",
        "gopher://1.1.1.1/",
        "https://user:password@1.1.1.1/",
        "https://1.1.1.1:0x50/",
        "https://1.1.1.1:99999/",
        "https://[::1/",
        "https://1.1.1.1/a b",
        "https://1.1.1.1/\r\nHost: evil.example",
        "https://1.1.1.1/é",
    ],
)
def test_invalid_url_is_rejected_without_a_connection(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", None)
    with pytest.raises(Undeliverable):
        outbound.post(url, BODY)


def test_plain_http_is_rejected_outside_the_listed_networks() -> None:
    with pytest.raises(Undeliverable, match="plain http"):
        outbound.post("http://1.1.1.1/", BODY)
    with pytest.raises(Undeliverable, match="plain http"):
        outbound.post("http://1.1.1.1/", BODY, LOOPBACK)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::ffff:127.0.0.1]"])
def test_listed_network_is_reached_by_plain_http(receivers: Receivers, host: str) -> None:
    receiver = receivers()
    assert outbound.post(f"http://{host}:{receiver.port}/a/b?c=d", BODY, ("10.0.0.0/8", *LOOPBACK)) == 200
    head, _, body = receiver.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /a/b?c=d HTTP/1.1"
    assert f"Host: {host}:{receiver.port}" in lines
    assert "Content-Type: application/x-www-form-urlencoded" in lines
    assert not [line for line in lines if line.lower().startswith(("cookie", "authorization", "proxy"))]
    assert body == BODY


def test_url_without_a_path_requests_the_root(receivers: Receivers) -> None:
    receiver = receivers()
    assert outbound.post(f"http://127.0.0.1:{receiver.port}?x=1", BODY, LOOPBACK) == 200
    assert receiver.requests[0].startswith(b"POST /?x=1 HTTP/1.1\r\n")


class Resolver:
    """A replacement for `socket.getaddrinfo` that returns other addresses at each lookup (DNS rebinding)."""

    def __init__(self, *answers: tuple[str, ...]):
        self._answers = list(answers)
        self.lookups = 0

    def __call__(self, host: str, port: int, **_: Any) -> list[Any]:
        self.lookups += 1
        addresses = self._answers.pop(0)
        families = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [(families[ipaddress.ip_address(a).version], socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]


def test_host_is_resolved_once_and_the_checked_address_is_used(
    receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, resolver = receivers(), Resolver(("127.0.0.1",), ("10.0.0.1",))
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    assert outbound.post(f"http://rp.example:{receiver.port}/", BODY, LOOPBACK) == 200
    assert resolver.lookups == 1
    assert f"Host: rp.example:{receiver.port}".encode() in receiver.requests[0]


def test_host_with_any_private_address_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Resolver(("1.1.1.1", "127.0.0.1")))
    monkeypatch.setattr(socket, "socket", None)
    with pytest.raises(Undeliverable, match="not public"):
        outbound.post("https://rp.example/", BODY)


def test_next_address_is_tried_when_the_first_refuses(receivers: Receivers, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = receivers()
    monkeypatch.setattr(socket, "getaddrinfo", Resolver(("::1", "127.0.0.1")))
    assert outbound.post(f"http://rp.example:{receiver.port}/", BODY, (*LOOPBACK, "::1/128")) == 200


def test_next_address_is_tried_in_time_when_the_first_hangs(
    receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = receivers()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as first:
        first.connect(full.getsockname())  # fills the backlog: further connections hang
        endpoints = [(int(socket.AF_INET), full.getsockname()), (int(socket.AF_INET), ("127.0.0.1", receiver.port))]
        monkeypatch.setattr(outbound, "_look_up", lambda *_: endpoints)
        assert outbound.post(receiver.url, BODY, LOOPBACK) == 200


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_no_proxy_is_used(receivers: Receivers, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert outbound.post(receivers().url, BODY, LOOPBACK) == 200


# ---- responses


@pytest.mark.parametrize(
    ("behave", "expected"),
    [
        (answer(OK), 200),
        (answer(b"HTTP/1.0 200 OK\r\n\r\nsome text"), 200),
        (answer(b"HTTP/1.1 204\r\n\r\n"), 204),
        (answer(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", OK), 200),
        (answer(b"HTTP/1.1 ", b"400 Bad Request\r\nContent-Type: application/json\r\n\r\n{}"), 400),
        (status(501), 501),
        (status(302, "Location: http://127.0.0.1:1/"), 302),
        (status(307, "Location: http://169.254.169.254/"), 307),
        (endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536), 200),
        (endless(b"HTTP/1.1 200 OK\r\n", b"X-Header: more\r\n" * 100), 200),
        (endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x", pause=0.05), 200),
    ],
    ids=[
        "200",
        "HTTP/1.0 without a length",
        "204 without a reason",
        "after interim responses",
        "in pieces",
        "501",
        "a redirect",
        "a redirect to the instance metadata",
        "an endless body",
        "an endless head",
        "a slow body",
    ],
)
def test_status_of_the_response_is_returned(receivers: Receivers, behave: Behaviour, expected: int) -> None:
    receiver = receivers(behave)
    assert outbound.post(receiver.url, BODY, LOOPBACK) == expected
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (silence, "no response within"),
        (endless(b"H", b"T", pause=0.05), "not HTTP|no response within"),
        (endless(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"), "not HTTP"),
        (endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n", pause=0.05), "no response within"),
        (endless(b"\0", b"\0" * 65536), "not HTTP"),
        (answer(b""), "not HTTP"),
        (answer(b"SSH-2.0-OpenSSH_9.6\r\n"), "not HTTP"),
        (answer(b"HTTP/2 200\r\n\r\n"), "not HTTP"),
        (answer(b"HTTP/1.1 20"), "not HTTP"),
        (answer(b"HTTP/1.1 2000\r\n\r\n"), "not HTTP"),
    ],
    ids=[
        "silence",
        "one byte at a time",
        "endless interim responses",
        "slow endless interim responses",
        "endless garbage",
        "connection closed",
        "another protocol",
        "another version",
        "an incomplete status",
        "a status of four digits",
    ],
)
def test_missing_or_invalid_response_is_reported_in_time(receivers: Receivers, behave: Behaviour, reason: str) -> None:
    with pytest.raises(Undeliverable, match=reason):
        outbound.post(receivers(behave).url, BODY, LOOPBACK)


def test_refused_connection_is_reported(receivers: Receivers) -> None:
    receiver = receivers()
    receiver.close()
    with pytest.raises(Undeliverable, match="the connection failed: ConnectionRefusedError"):
        outbound.post(receiver.url, BODY, LOOPBACK)


def test_unknown_host_is_reported() -> None:
    with pytest.raises(Undeliverable, match="cannot be resolved"):
        outbound.post("https://unknown.invalid/", BODY)


def test_slow_dns_lookup_ends_at_the_deadline_of_the_request(
    receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    receivers()  # with it, requests time out after half a second
    released = threading.Event()

    def resolve_slowly(*_: Any, **__: Any) -> Any:
        released.wait(TIMEOUT)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", resolve_slowly)
    started = time.monotonic()
    with pytest.raises(Undeliverable, match=r"cannot be resolved within 0\.5 seconds"):
        outbound.post("https://rp.example/", BODY)
    assert time.monotonic() - started < TIMEOUT / 2
    released.set()


def test_time_of_the_dns_lookup_is_part_of_the_time_of_the_request(
    receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, resolve, pause = receivers(silence), Resolver(("127.0.0.1",)), threading.Event()

    def resolve_slowly(*arguments: Any, **options: Any) -> Any:
        pause.wait(0.25)
        return resolve(*arguments, **options)

    timeouts: list[float] = []
    real = socket.socket.settimeout

    def record(connection: socket.socket, seconds: float | None) -> None:
        timeouts.append(seconds or 0)
        real(connection, seconds)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_slowly)
    monkeypatch.setattr(socket.socket, "settimeout", record)
    with pytest.raises(Undeliverable, match="no response within"):
        outbound.post(f"http://rp.example:{receiver.port}/", BODY, LOOPBACK)
    own = [seconds for seconds in timeouts if seconds != TIMEOUT]  # without that of the receiver
    assert own
    assert max(own) <= 0.25


# ---- TLS


def test_https_with_a_trusted_certificate(receivers: Receivers, certificate: Path, trust_certificate: None) -> None:
    receiver = receivers(tls=tls_context(certificate))
    assert outbound.post(f"https://127.0.0.1:{receiver.port}/", BODY, LOOPBACK) == 200
    assert receiver.requests[0].endswith(BODY)


@pytest.mark.spec("FAPI 2.0 Security Profile §5.2.1 e")
def test_certificate_of_another_host_is_rejected_before_the_request(
    receivers: Receivers, certificate: Path, trust_certificate: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = receivers(tls=tls_context(certificate))
    monkeypatch.setattr(socket, "getaddrinfo", Resolver(("127.0.0.1",)))
    with pytest.raises(Undeliverable, match="SSLCertVerificationError"):
        outbound.post(f"https://rp.example:{receiver.port}/", BODY, LOOPBACK)
    assert receiver.requests == []


@pytest.mark.spec("FAPI 2.0 Security Profile §5.2.1 e")
def test_untrusted_certificate_is_rejected_before_the_request(receivers: Receivers, certificate: Path) -> None:
    receiver = receivers(tls=tls_context(certificate))
    with pytest.raises(Undeliverable, match="SSLCertVerificationError"):
        outbound.post(f"https://127.0.0.1:{receiver.port}/", BODY, LOOPBACK)
    assert receiver.requests == []


def test_silent_tls_server_times_out(receivers: Receivers, trust_certificate: None) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    with listening, pytest.raises(Undeliverable, match="no response within"):
        outbound.post(f"https://127.0.0.1:{listening.getsockname()[1]}/", BODY, LOOPBACK)


# ---- documents

AT_MOST = 100
HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("behave", "content"),
    [
        (json_answer(b"{}"), b"{}"),
        (json_answer(b"x" * AT_MOST), b"x" * AT_MOST),
        (answer(HEAD + b"\r\n", b"{", b"}"), b"{}"),
        (answer(b"HTTP/1.0 200 OK\r\n\r\n{}"), b"{}"),
        (answer(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"), b"{}"),
        (answer(HEAD + b"Content-Length: 2\r\nContent-Encoding: identity\r\n\r\n{}"), b"{}"),
        (answer(HEAD + b"Content-Length: 2\r\n\r\n{}more"), b"{}"),
    ],
    ids=["with a length", "as long as allowed", "in pieces", "HTTP/1.0", "chunked", "identity", "bytes after its end"],
)
def test_document_is_read(receivers: Receivers, behave: Behaviour, content: bytes) -> None:
    receiver = receivers(behave)
    assert outbound.get(receiver.url, LOOPBACK, at_most=AT_MOST) == content
    head, body = receiver.requests[0].split(b"\r\n\r\n")
    assert head.startswith(b"GET /backchannel?rp=1 HTTP/1.1\r\nHost: 127.0.0.1:")
    assert body == b""


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (json_answer(b"x" * (AT_MOST + 1)), "too long"),
        (endless(HEAD + b"\r\n", b"x" * 65536), "too long"),
        (endless(HEAD, b"X-Header: more\r\n"), "not HTTP|too long"),
        (endless(HEAD, b"x" * 65536), "not HTTP|too long"),
        (endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 1000 + b"\r\nx\r\n"), "too long"),
        (endless(HEAD + b"Content-Length: 50\r\n\r\n", b"x", pause=0.05), "no response within"),
        (endless(HEAD, b"X: x\r\n", pause=0.05), "no response within"),
        (answer(HEAD + b"Content-Length: 50\r\n\r\n{}"), "cut off"),
        (answer(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"), "not HTTP"),
        (answer(HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n{"), "not HTTP"),
        (answer(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"), "compressed"),
        (status(302, "Location: http://169.254.169.254/"), "status 302"),
        (status(404), "status 404"),
        (status(304), "status 304"),
        (answer(b"SSH-2.0-OpenSSH_9.6\r\n"), "not HTTP"),
        (answer(b""), "not HTTP"),
        (silence, "no response within"),
    ],
    ids=[
        "one byte too long",
        "an endless body",
        "endless header fields",
        "an endless header field",
        "endless chunks",
        "a slow body",
        "a slow head",
        "cut off",
        "a chunk cut off",
        "a chunk without a size",
        "compressed",
        "a redirect",
        "not found",
        "not modified",
        "another protocol",
        "connection closed",
        "silence",
    ],
)
def test_bad_document_is_reported_in_time(receivers: Receivers, behave: Behaviour, reason: str) -> None:
    started = time.monotonic()
    with pytest.raises(Undeliverable, match=reason):
        outbound.get(receivers(behave).url, LOOPBACK, at_most=AT_MOST)
    assert time.monotonic() - started < 5


def test_document_of_a_private_address_is_not_requested(receivers: Receivers) -> None:
    receiver = receivers(json_answer(b"{}"))
    with pytest.raises(Undeliverable, match="not public"):
        outbound.get(receiver.url, at_most=AT_MOST)
    assert receiver.requests == []
