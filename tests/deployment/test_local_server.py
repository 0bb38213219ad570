"""Chalice's local server, as `make run` and the tests use it: bodies, repeated fields, HEAD, and callers that leave."""

import http.client
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import chalice.local
import pytest

from infra.local.http_server import MAX_BODY_BYTES
from infra.local.loopback_names import redirect_to_issuer, serving_line
from tests.support.browser import Browser, basic
from tests.support.site import Registered, Site

GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@contextmanager
def connection(site: Site) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", site.port), timeout=10) as opened:
        yield opened


def answer(opened: socket.socket, method: str = "POST") -> tuple[int, bytes]:
    """Read one response."""
    response = http.client.HTTPResponse(opened, method=method)
    response.begin()
    return response.status, response.read()


def head(*fields: str) -> bytes:
    return "\r\n".join(["POST /oauth2/token HTTP/1.1", "Host: 127.0.0.1", *fields, "", ""]).encode()


@pytest.fixture
def token_request(site: Site) -> str:
    """The Authorization field of a client that may ask for a token at the token endpoint."""
    client = site.client(grant_types=("client_credentials",), response_types=(), redirect_uris=(), scope="read")
    return authorization(client)


def authorization(client: Registered) -> str:
    assert client.secret
    return "Authorization: " + basic(client.id, client.secret)["Authorization"]


def test_chunked_body_is_read(site: Site, token_request: str) -> None:
    form = "Content-Type: application/x-www-form-urlencoded"
    with connection(site) as opened:
        opened.sendall(head(token_request, form, "Transfer-Encoding: Chunked"))
        for part in (b"B;x=1\r\ngrant_type=\r\n", b"12\r\nclient_credentials\r\n", b"0\r\nTrailer: x\r\n\r\n"):
            opened.sendall(part)
        assert b"access_token" in answer(opened)[1]
        opened.sendall(GET)
        assert answer(opened)[0] == 200, "the next request begins behind the body"


@pytest.mark.parametrize(
    ("fields", "body", "status"),
    [
        (["Content-Length: x"], b"", 400),
        (["Content-Length: -1"], b"", 400),
        (["Content-Length: 1", "Content-Length: 2"], b"ab", 400),
        ([f"Content-Length: {MAX_BODY_BYTES + 1}"], b"", 413),
        (["Content-Length: 4", "Transfer-Encoding: chunked"], b"0\r\n\r\n", 400),
        (["Transfer-Encoding: gzip, chunked"], b"0\r\n\r\n", 501),
        (["Transfer-Encoding: chunked"], b"x\r\n", 400),
        (["Transfer-Encoding: chunked"], b"\r\n", 400),
        (["Transfer-Encoding: chunked"], b"-1\r\n", 400),
        (["Transfer-Encoding: chunked"], b"1\r\nabc\r\n", 400),
        (["Transfer-Encoding: chunked"], b"1\n", 400),
        (["Transfer-Encoding: chunked"], b"ffffffff\r\n", 413),
        (["Transfer-Encoding: chunked"], b"0\r\n" + b"T: x\r\n" * 10_923, 431),
    ],
)
def test_body_that_cannot_be_read_is_rejected_and_ends_the_connection(
    fields: list[str], body: bytes, status: int, site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    with connection(site) as opened:
        opened.sendall(head(*fields) + body)
        assert answer(opened)[0] == status
        opened.sendall(GET)
        with suppress(ConnectionResetError):
            assert opened.recv(1) == b"", "the rest is not read as a request"
    assert capfd.readouterr().err.splitlines()[-1].endswith(f'"POST /oauth2/token" {status}')


@pytest.mark.parametrize("sent", [head("Content-Length: 100") + b"abc", head("Transfer-Encoding: chunked"), b"GET /he"])
@pytest.mark.parametrize("reset", [True, False])
def test_caller_that_disconnects_prints_nothing(
    sent: bytes, reset: bool, site: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    server, ended = site.local.server, threading.Event()
    shutdown = server.shutdown_request

    def end(request: Any) -> None:
        shutdown(request)
        ended.set()

    monkeypatch.setattr(server, "shutdown_request", end)
    with connection(site) as opened:
        opened.sendall(sent)
        if reset:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert ended.wait(10)
    assert capfd.readouterr().err == ""


def test_other_errors_of_a_connection_are_still_printed(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    try:
        raise RuntimeError("a defect")
    except RuntimeError:
        site.local.server.handle_error(None, ("127.0.0.1", 1))
    assert "RuntimeError: a defect" in capfd.readouterr().err


def test_request_line_that_cannot_be_read_is_one_line_without_its_query(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    with connection(site) as opened:
        opened.sendall(b"GET /oauth2/authorize?code=x y z HTTP/1.1\r\n\r\n")
        assert answer(opened, "GET")[0] == 400
    with connection(site) as opened:
        opened.sendall(b"BREW /oauth2/authorize?code=x HTTP/1.1\r\n\r\n")
        assert answer(opened, "GET")[0] == 501
    lines = capfd.readouterr().err.splitlines()
    assert [line.partition("] ")[2] for line in lines] == ['"- -" 400', '"BREW /oauth2/authorize" 501']


def test_request_is_logged_by_the_application_only(
    site: Site, browser: Browser, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    browser.get("/healthz")
    assert [record.name for record in caplog.records] == ["signet.requests"]
    assert capfd.readouterr().err == ""


def test_response_to_head_has_no_body(site: Site) -> None:
    with connection(site) as opened:
        opened.sendall(b"HEAD /unknown HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert answer(opened, "HEAD") == (404, b"")
        opened.sendall(GET)
        assert answer(opened)[0] == 200, "the next response begins behind the header fields"


def test_repeated_authorization_is_joined_and_rejected(site: Site, token_request: str) -> None:
    fields = ["Content-Type: application/x-www-form-urlencoded", "Content-Length: 29"]
    with connection(site) as opened:
        opened.sendall(head(token_request, token_request, *fields) + b"grant_type=client_credentials")
        assert answer(opened)[0] in (400, 401)


def location(site: Site, *fields: str) -> str | None:
    """Return where a GET request for the account page is redirected to."""
    with connection(site) as opened:
        opened.sendall("\r\n".join(["GET /account?x=1 HTTP/1.1", *fields, "", ""]).encode())
        response = http.client.HTTPResponse(opened, method="GET")
        response.begin()
        return response.getheader("Location")


@pytest.fixture
def redirecting(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A server whose issuer is at localhost, and which redirects browsers to it."""
    handler = chalice.local.ChaliceRequestHandler
    monkeypatch.setattr(handler, "do_GET", handler.do_GET)
    redirect_to_issuer(f"http://localhost:{site.port}")
    return site


PAGE = "Accept: text/html,*/*;q=0.8"


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_browser_at_another_name_of_this_machine_is_redirected_to_the_issuer(redirecting: Site, host: str) -> None:
    expected = f"http://localhost:{redirecting.port}/account?x=1"
    assert location(redirecting, f"Host: {host}:{redirecting.port}", PAGE) == expected


@pytest.mark.parametrize(
    ("host", "accept"),
    [
        ("127.0.0.1:{port}", "Accept: */*"),  # an application
        ("localhost:{port}", PAGE),
        ("127.0.0.1:1", PAGE),  # the port of a container
        ("login.example.com:{port}", PAGE),
        ("[", PAGE),
    ],
)
def test_other_requests_are_not_redirected_to_the_issuer(redirecting: Site, host: str, accept: str) -> None:
    to = location(redirecting, f"Host: {host.format(port=redirecting.port)}", accept)
    assert to is None or "/oauth2/authorize?" in to


def test_nothing_is_redirected_where_the_issuer_is_another_machine(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = chalice.local.ChaliceRequestHandler
    monkeypatch.setattr(handler, "do_GET", handler.do_GET)
    redirect_to_issuer(f"https://login.example.com:{site.port}")
    to = location(site, f"Host: 127.0.0.1:{site.port}", PAGE)
    assert to is None or "login.example.com" not in to


@pytest.mark.parametrize(
    ("issuer", "host", "line"),
    [
        ("http://localhost:8000", "127.0.0.1", "http://localhost:8000."),
        ("http://localhost:8000", "0.0.0.0", "http://localhost:8000."),
        ("http://localhost:9000", "0.0.0.0", "http://0.0.0.0:8000, for the issuer http://localhost:9000."),
        ("https://a.example", "127.0.0.1", "http://127.0.0.1:8000, for the issuer https://a.example."),
    ],
)
def test_server_prints_the_address_to_open(issuer: str, host: str, line: str) -> None:
    assert serving_line(issuer, host, 8000) == f"Serving on {line} Press Ctrl-C to stop."
