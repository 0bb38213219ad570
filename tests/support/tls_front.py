"""A TLS server that demands a client certificate, and passes each request to the application as API Gateway does."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from cryptography import x509

from infra.local.http_server import read_body
from tests.support.client_certificates import DOMAIN, Pair, client_cert, issue, put_certificate
from tests.support.gateways import GatewayRequest, http_1
from tests.support.site import Site


class TlsFront:
    """The gateway at the domain for mutual TLS, on a port of 127.0.0.1. `trusted`: what its truststore has."""

    def __init__(self, site: Site, folder: Path, *trusted: Pair):
        self.authority = issue("CN=Authority of the server", authority=True)
        server = issue(f"CN={DOMAIN}", self.authority, names=[x509.DNSName(DOMAIN)])
        self._file = folder / "server.pem"
        self._file.write_text(server.key_pem + server.pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._file)
        context.load_verify_locations(cadata="".join(pair.pem for pair in trusted))
        context.verify_mode = ssl.CERT_REQUIRED
        # In a handshake of TLS 1.3, the client has finished before it learns that it was refused.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.events: list[dict[str, Any]] = []
        front = self

        class Handler(BaseHTTPRequestHandler):
            """Answers one request of a connection whose handshake has succeeded."""

            def handle_one_request(self) -> None:
                self.close_connection = True
                self.raw_requestline = self.rfile.readline(65537)
                if self.raw_requestline and self.parse_request():
                    front.answer(self, site)

            def log_message(self, *_arguments: Any) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port: int = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler, site: Site) -> None:
        """Pass a request to the application, with the certificate of its connection."""
        connection: Any = handler.connection
        parts, body = urlsplit(handler.path), read_body(handler.headers, cast(BinaryIO, handler.rfile))
        sent = GatewayRequest(handler.command, parts.path, parts.query, list(handler.headers.items()), body)
        event = http_1(sent, DOMAIN, "$default")
        certificate = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True))
        put_certificate(event, client_cert(Pair(certificate, None)))
        self.events.append(event)
        result = site.http_handler(event, None)
        content = result["body"].encode()
        handler.send_response(result["statusCode"])
        for name, value in result["headers"].items():
            if name != "x-signet-www-authenticate":  # the template removes it
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def tls_front(site: Site, *trusted: Pair) -> Iterator[TlsFront]:
    """Run such a server for the block."""
    with TemporaryDirectory() as folder:
        front = TlsFront(site, Path(folder), *trusted)
        try:
            yield front
        finally:
            front.close()
