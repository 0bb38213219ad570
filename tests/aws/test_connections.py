"""Connections to AWS: kept, replaced when they were closed, never shared by two answers, limited in time and size."""

import json
import socket
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chalicelib.aws import connections
from chalicelib.aws.messages import NoAnswer, Request
from chalicelib.http import tls
from chalicelib.protocol.errors import TemporarilyUnavailable
from tests.aws.conftest import Servers, client_of
from tests.support.aws_server import AwsServer, Behaviour, Received, close, response, send, silence
from tests.support.certificates import tls_context
from tests.support.threads import run_concurrently

OK = {"ok": True}


def used(server: AwsServer) -> list[int]:
    """Return the number of the connection of each request."""
    return [request.connection for request in server.requests]


# ---- kept connections


def test_calls_one_after_the_other_use_one_connection(servers: Servers) -> None:
    server = servers()
    client = client_of(server)
    assert [client.call("GetItem", number=number) for number in range(3)] == [OK] * 3
    assert used(server) == [0, 0, 0]
    assert [json.loads(request.body) for request in server.requests] == [{"number": number} for number in range(3)]


def test_request_has_the_headers_of_the_protocol(servers: Servers) -> None:
    server = servers()
    client_of(server).call("GetItem")
    client_of(server, service="kms").call("Sign")
    first, second = (request.headers for request in server.requests)
    assert (first["x-amz-target"], first["content-type"]) == ("DynamoDB_20120810.GetItem", "application/x-amz-json-1.0")
    assert (second["x-amz-target"], second["content-type"]) == ("TrentService.Sign", "application/x-amz-json-1.1")
    assert first["host"] == f"127.0.0.1:{server.port}"
    assert first["x-amz-security-token"] == "token"
    assert first["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKID/")


def test_connection_that_was_closed_while_idle_is_replaced_without_an_attempt(servers: Servers) -> None:
    server = servers(send(response(), close=True))
    client = client_of(server)
    client.call("GetItem")
    server.closed.acquire()
    assert client.call("GetItem") == OK
    assert used(server) == [0, 1]


def test_connections_that_are_closed_when_they_are_used_are_replaced_without_an_attempt(servers: Servers) -> None:
    """As after a process was frozen: the end of the connection is not known before the request is sent."""
    server = servers()
    client = client_of(server)
    barrier = threading.Barrier(2)

    def wait(connection: socket.socket, request: Received) -> None:
        barrier.wait()
        send(response())(connection, request)

    server.plan += [wait, wait]
    run_concurrently([lambda: client.call("GetItem")] * 2)
    server.plan += [close, close, close, close]
    assert client.call("GetItem") == OK
    # The first attempt used both kept connections and a new one, the two others a new one each.
    assert sorted(used(server)[2:4]) == [0, 1]
    assert used(server)[4:] == [2, 3, 4]


def test_connection_is_not_used_after_a_long_pause(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    server = servers()
    client = client_of(server)
    client.call("GetItem")
    monkeypatch.setattr(connections, "MAX_IDLE", 0)
    client.call("GetItem")
    assert used(server) == [0, 1]


@pytest.mark.parametrize("answer", [response(Connection="close"), response().replace(b"HTTP/1.1", b"HTTP/1.0")])
def test_connection_that_the_server_will_close_is_not_kept(servers: Servers, answer: bytes) -> None:
    server = servers(send(answer), send(answer))
    client = client_of(server)
    assert client.call("GetItem") == client.call("GetItem") == OK
    assert used(server) == [0, 1]


def test_late_answer_is_never_given_to_the_next_request(servers: Servers) -> None:
    released = threading.Event()

    def late(connection: socket.socket, request: Received) -> None:
        released.wait(5)
        send(response(b'{"for": "the first"}'))(connection, request)

    server = servers(late, late, late)
    server.otherwise = send(response(b'{"for": "the next"}'))
    client = client_of(server, read_timeout=0.05)
    with pytest.raises(TemporarilyUnavailable):
        client.call("GetItem")
    released.set()
    assert client.call("GetItem") == {"for": "the next"}


def test_bytes_after_an_answer_are_never_given_to_the_next_request(servers: Servers) -> None:
    server = servers(send(response() + response(b'{"for": "another"}')))
    client = client_of(server)
    assert client.call("GetItem") == client.call("GetItem") == OK
    assert used(server) == [0, 1]


def test_each_thread_gets_the_answer_to_its_own_request(servers: Servers) -> None:
    def echo(connection: socket.socket, request: Received) -> None:
        send(response(request.body))(connection, request)

    server = servers()
    server.otherwise = echo
    client = client_of(server)

    def ask(number: int) -> list[dict[str, Any]]:
        return [client.call("GetItem", n=number, i=i) for i in range(20)]

    answers = run_concurrently([partial(ask, number) for number in range(8)])
    assert answers == [[{"n": number, "i": i} for i in range(20)] for number in range(8)]
    assert server.connections <= 8


# ---- slow, damaged and strange answers


def _chunked(body: bytes, *, trailer: bytes = b"") -> bytes:
    chunks = b"".join(f"{len(part):x};ext=1\r\n".encode() + part + b"\r\n" for part in (body[:3], body[3:]))
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + chunks + b"0\r\n" + trailer + b"\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        response(),
        _chunked(b'{"ok": true}'),
        _chunked(b'{"ok": true}', trailer=b"x-checksum: 1\r\n"),
        response(Connection="Keep-Alive", X_Other="a: b"),
        response().replace(b"HTTP/1.1 200 Any", b"HTTP/1.1 200"),
        response(X_amz_crc32=""),
    ],
    ids=["plain", "chunked", "trailer", "headers", "no reason", "no checksum"],
)
def test_answer_in_single_bytes_is_read_completely(servers: Servers, answer: bytes) -> None:
    server = servers(send(*(answer[i : i + 1] for i in range(len(answer)))))
    client = client_of(server)
    assert client.call("GetItem") == client.call("GetItem") == OK
    assert used(server) == [0, 0]


def test_large_answer_is_read_completely(servers: Servers) -> None:
    body = json.dumps({"text": "x" * 3_000_000}).encode()
    assert client_of(servers(send(response(body)))).call("Scan") == json.loads(body)


BAD: dict[str, Behaviour] = {
    "wrong checksum": send(response(crc=1)),
    "HTML": send(response(b"<html>Service unavailable</html>")),
    "JSON, but no members": send(response(b"[]")),
    "no JSON": send(response(b"")),
    "closed without an answer": close,
    "ended in the head": send(b"HTTP/1.1 200 OK\r\nContent-", close=True),
    "ended in the body": send(response()[:-1], close=True),
    "ended in a chunk": send(_chunked(b'{"ok": true}')[:-8], close=True),
    "no length": send(b"HTTP/1.1 200 OK\r\n\r\n{}", close=True),
    "a length that is no number": send(response(Content_Length="-1"), close=True),
    "a chunk without length": send(_chunked(b'{"ok": true}').replace(b"3;ext", b"-3;ext"), close=True),
    "not HTTP": send(b"SSH-2.0-OpenSSH_9\r\n\r\n", close=True),
    "another version": send(response().replace(b"HTTP/1.1", b"HTTP/2.0"), close=True),
    "too large": send(response(Content_Length=str(connections.MAX_BODY + 1)), close=True),
    "an endless head": send(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 40_000, close=True),
}


@pytest.mark.parametrize("name", BAD)
def test_damaged_answer_is_an_attempt(servers: Servers, name: str) -> None:
    server = servers(BAD[name], BAD[name])
    assert client_of(server).call("GetItem") == OK
    assert len(server.requests) == 3


@pytest.mark.parametrize("name", BAD)
def test_damaged_answers_raise_temporarily_unavailable(servers: Servers, name: str) -> None:
    server = servers(*[BAD[name]] * 3)
    with pytest.raises(TemporarilyUnavailable) as caught:
        client_of(server).call("GetItem")
    assert caught.value.detail.startswith("dynamodb GetItem: ")
    assert len(server.requests) == 3


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n"], ids=["nothing", "a part"])
def test_server_that_does_not_answer_costs_three_time_outs(servers: Servers, start: bytes) -> None:
    def behave(connection: socket.socket, request: Received) -> None:
        connection.sendall(start)
        silence(connection, request)

    server = servers(*[behave] * 3)
    began = time.monotonic()
    with pytest.raises(TemporarilyUnavailable, match="try again"):
        client_of(server, read_timeout=0.1).call("GetItem")
    assert 0.3 <= time.monotonic() - began < 3
    assert len(server.requests) == 3


def test_answer_that_arrives_byte_by_byte_has_a_time_limit(servers: Servers) -> None:
    def trickle(connection: socket.socket, _request: Received) -> None:
        while True:
            connection.sendall(b"H")
            time.sleep(0.02)

    server = servers(trickle)
    began = time.monotonic()
    with pytest.raises(NoAnswer, match="in time"):
        connections.Connections(0.05).send(Request("POST", server.url))
    assert time.monotonic() - began < 2


def test_server_that_is_down_is_temporarily_unavailable(servers: Servers) -> None:
    server = servers()
    server.close()
    with pytest.raises(TemporarilyUnavailable) as caught:
        client_of(server).call("GetItem")
    assert f"{server.url} cannot be reached (ConnectionRefusedError)" in caught.value.detail


# ---- TLS


def test_certificate_of_a_private_authority_is_accepted_with_its_trust_anchor(
    servers: Servers, certificate: Path, trust_certificate: None
) -> None:
    server = servers(tls=tls_context(certificate))
    client = client_of(server)
    assert client.call("GetItem") == client.call("GetItem") == OK
    assert used(server) == [0, 0]


def test_closed_tls_connection_is_replaced(servers: Servers, certificate: Path, trust_certificate: None) -> None:
    server = servers(send(response(), close=True), tls=tls_context(certificate))
    client = client_of(server)
    assert client.call("GetItem") == OK
    server.closed.acquire()
    assert client.call("GetItem") == OK
    assert used(server) == [0, 1]


def test_certificate_without_a_trust_anchor_is_rejected(servers: Servers, certificate: Path) -> None:
    tls.context.cache_clear()
    server = servers(tls=tls_context(certificate))
    with pytest.raises(TemporarilyUnavailable) as caught:
        client_of(server).call("GetItem")
    assert "SSLCertVerificationError" in caught.value.detail
    assert server.requests == []


def test_certificate_of_another_host_is_rejected(servers: Servers, certificate: Path, trust_certificate: None) -> None:
    server = servers(tls=tls_context(certificate))
    client = client_of(server)
    client.url = f"https://localhost:{server.port}/"
    with pytest.raises(TemporarilyUnavailable):
        client.call("GetItem")
    assert server.requests == []


def test_interrupted_call_leaves_no_connection_behind(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    server = servers()
    client = client_of(server)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(connections, "_read_response", interrupt)
        with pytest.raises(KeyboardInterrupt):
            client.call("GetItem")
    assert client.call("GetItem") == OK
    assert used(server) == [0, 1]
