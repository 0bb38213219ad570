"""The doctor's check of the domain for mutual TLS from outside."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from infra.operator.doctor import aliases
from infra.operator.doctor.findings import Verdict
from infra.operator.doctor.visit import Answer, Unreachable, Visit
from tests.support.client_certificates import authority, issue
from tests.support.ports import free_port
from tests.support.site import Site

Start = Callable[..., str]


class Handler(BaseHTTPRequestHandler):
    """Answers every request with the status of its server."""

    def do_POST(self) -> None:
        self.send_response(getattr(self.server, "status"))  # noqa: B009
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: Any) -> None:
        """Print nothing."""


class Server(HTTPServer):
    """A server for one test."""

    status = 200

    def handle_error(self, *_arguments: Any) -> None:
        """Print nothing."""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A function that starts a TLS server and returns its address. `demands`: a client certificate."""
    servers: list[Server] = []

    def start(
        status: int = 200, *, demands: bool = False, version: ssl.TLSVersion | None = None, name: str = "localhost"
    ) -> str:
        server = Server(("127.0.0.1", 0), Handler)
        server.status = status
        pair, file = issue(f"CN={name}", authority(), names=[x509.DNSName(name)]), tmp_path / "server.pem"
        file.write_text(pair.key_pem + pair.pem, "utf-8")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        if demands:
            context.load_verify_locations(cadata=authority().pem)
            context.verify_mode = ssl.CERT_REQUIRED
        if version:
            context.minimum_version = context.maximum_version = version
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        return f"https://localhost:{server.server_port}/oauth2/token"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def check(site: Site, given: object) -> Verdict:
    """Check a server whose metadata has these aliases."""
    trust = ssl.create_default_context(cadata=authority().pem)
    visit = Visit(site.settings.issuer, trust=trust)
    visit.discovery = Answer(200, {}, b"")
    visit.metadata.update({"mtls_endpoint_aliases": given})
    return aliases.check(visit)


@pytest.mark.parametrize(
    "options",
    [
        {"demands": True, "version": ssl.TLSVersion.TLSv1_2},
        {"demands": True, "version": ssl.TLSVersion.TLSv1_3},
        {"status": 403},
    ],
    ids=str,
)
def test_domain_that_refuses_connections_without_a_certificate_is_healthy(
    site: Site, start: Start, options: dict[str, Any]
) -> None:
    address = start(**options)
    verdict = check(site, {"token_endpoint": address, "userinfo_endpoint": f"{address}/x"})
    domain = address.split("/")[2]
    assert verdict == Verdict(True, f"{domain} accepts no connection without a client certificate.")


def test_domain_that_closes_the_connection_in_the_handshake_is_healthy(site: Site) -> None:
    """As API Gateway does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reset() -> None:
            connection, _ = listener.accept()
            connection.recv(1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

        thread = threading.Thread(target=reset)
        thread.start()
        verdict = check(site, {"token_endpoint": f"https://localhost:{listener.getsockname()[1]}/oauth2/token"})
        thread.join()
    assert verdict.ok, verdict.detail


def alert(reason: str) -> ssl.SSLError:
    return ssl.SSLError(1, f"[SSL: {reason}] its text (_ssl.c:1006)")


ERRORS: dict[str, tuple[Exception, bool]] = {
    "closed while sending": (BrokenPipeError(), True),
    "closed without an alert": (ssl.SSLEOFError(), True),
    "a certificate is missing": (alert("TLSV13_ALERT_CERTIFICATE_REQUIRED"), True),
    "a certificate is missing, as older servers say": (alert("SSLV3_ALERT_BAD_CERTIFICATE"), True),
    "the server has another name": (alert("TLSV1_UNRECOGNIZED_NAME"), False),
    "the server is no TLS server": (alert("WRONG_VERSION_NUMBER"), False),
    "no answer": (TimeoutError("timed out"), False),
}


@pytest.mark.parametrize("case", ERRORS)
def test_error_of_the_connection_says_whether_a_certificate_is_demanded(
    site: Site, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    error, demanded = ERRORS[case]

    def ask(*_arguments: Any, **_headers: str) -> None:
        raise Unreachable(str(error)) from error

    monkeypatch.setattr(Visit, "ask", ask)
    assert check(site, {"token_endpoint": "https://mtls.login.example.com/oauth2/token"}).ok is demanded


@pytest.mark.parametrize("status", [200, 400, 401, 404, 503])
def test_domain_that_accepts_connections_without_a_certificate_is_reported(
    site: Site, start: Start, status: int
) -> None:
    verdict = check(site, {"token_endpoint": start(status)})
    assert verdict.ok is False
    assert f"accepts connections without a client certificate (status {status})." in verdict.detail
    assert "docs/mtls.md" in verdict.fix


def test_domain_that_does_not_answer_is_reported(site: Site, start: Start) -> None:
    with HTTPServer(("127.0.0.1", 0), Handler) as plain:
        threading.Thread(target=plain.handle_request, daemon=True).start()
        addresses = {
            "nothing listens": (f"https://localhost:{free_port()}/", "Connection refused"),
            "no DNS record": ("https://mtls.login.invalid/", ""),
            "the certificate of another server": (start(demands=True, name="another.example"), "its certificate"),
            "no TLS": (f"https://localhost:{plain.server_port}/", "SSL"),
        }
        for case, (address, reason) in addresses.items():
            verdict = check(site, {"token_endpoint": address})
            assert verdict.ok is False, case
            assert f"{address.split('/')[2]} does not answer: " in verdict.detail, case
            assert reason in verdict.detail, case
            assert "DNS record" in verdict.fix, case


def test_each_domain_is_checked(site: Site, start: Start) -> None:
    good, bad = start(demands=True), start(401)
    verdict = check(site, {"token_endpoint": good, "userinfo_endpoint": bad})
    assert verdict.ok is False
    assert verdict.detail.startswith(bad.split("/")[2])


@pytest.mark.parametrize("given", [[], "text", {"token_endpoint": 1}, {"token_endpoint": "http://localhost/"}])
def test_malformed_aliases_are_reported(site: Site, given: object) -> None:
    assert check(site, given) == Verdict(False, "The mtls_endpoint_aliases are not addresses with https.", aliases._FIX)


def test_server_without_the_domain_is_not_checked(site: Site) -> None:
    from infra.operator import doctor

    (finding,) = [each for each in doctor.check(site.settings.issuer) if each.name == "mutual TLS domain"]
    assert (finding.ok, finding.detail) == (None, "The server has no domain for mutual TLS.")
