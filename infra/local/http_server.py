"""Fix chalice's local server, for `make run`, plain `chalice local` and the tests."""

import re
import sys
from collections.abc import Iterable
from email.message import Message
from http import HTTPStatus
from typing import Any, BinaryIO

MAX_BODY_BYTES = 10 * 1024 * 1024  # as API Gateway
_MAX_LINE_BYTES = 65536
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class BadBody(Exception):
    """A body that cannot be read. `status` is the response, after which the connection is closed."""

    def __init__(self, status: HTTPStatus):
        super().__init__(status)
        self.status = status


def fix_chalice_local() -> None:
    """Fix chalice's local server. Idempotent.

    Without this, each request on a persistent connection waits 44 ms, only five connections are queued, a second line
    with the whole URL (and the playground's code) is logged for each request, and unknown addresses get chalice's own
    response. A chunked body is read as the next request, a wrong Content-Length or a caller that disconnects prints a
    traceback, only the last of repeated header fields is read, and a response to HEAD has a body.
    """
    import chalice.local

    handler, server = chalice.local.ChaliceRequestHandler, chalice.local.ThreadedHTTPServer
    match_route, handle, handle_error = (
        chalice.local.RouteMatcher.match_route,
        handler._generic_handle,
        server.handle_error,
    )
    if match_route.__module__ == __name__:
        return

    def match_any_route(matcher: Any, url: str) -> Any:
        try:
            return match_route(matcher, url)
        except ValueError:  # any route with OPTIONS will do: the application dispatches by the address
            return match_route(matcher, "/oauth2/token?" + url.partition("?")[2])

    def handle_request(self: Any) -> None:
        self.has_own_log_line = True  # of the application
        try:
            handle(self)
        except BadBody as error:
            self.has_own_log_line = False
            self.send_error(error.status)
        finally:
            self.has_own_log_line = False

    def handle_other_error(self: Any, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            handle_error(self, request, client_address)

    chalice.local.RouteMatcher.match_route = match_any_route
    for method in _METHODS:
        setattr(handler, f"do_{method}", handle_request)
    handler.has_own_log_line = False
    handler.log_request, handler.log_error = _log_request, _log_nothing
    handler._parse_payload, handler._send_http_response_with_body = _read_request, _send_response
    handler.disable_nagle_algorithm = True
    server.handle_error = handle_other_error
    server.request_queue_size = 128


def _log_request(self: Any, code: int | str = "-", _size: int | str = "-") -> None:
    """Log a request that the application does not log, because it cannot be read; without its query."""
    if not self.has_own_log_line:
        path = self.path.partition("?")[0] if self.command else "-"
        self.log_message('"%s %s" %s', self.command or "-", path, int(code))


def _log_nothing(_self: Any, _format: str, *_arguments: Any) -> None:
    """Log nothing: the request has its line."""


def _read_request(self: Any) -> tuple[dict[str, str], bytes | None]:
    """Return the header fields and the body. Raises BadBody, and ConnectionError when the caller has disconnected."""
    return joined_fields(self.headers.items()), read_body(self.headers, self.rfile)


def _send_response(self: Any, code: int, headers: dict[str, Any], body: str | bytes) -> None:
    content = body if isinstance(body, bytes) else body.encode()
    self.send_response(code)
    self.send_header("Content-Length", str(len(content)))
    self.send_header("Content-Type", headers.pop("Content-Type", "application/json"))
    self._send_headers(headers)
    if self.command != "HEAD":
        self.wfile.write(content)


def joined_fields(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return header fields, repeated ones joined as the gateways do (RFC 9110 section 5.3)."""
    fields: dict[str, tuple[str, str]] = {}
    for name, value in pairs:
        key = name.lower()
        first, text = fields.get(key, (name, ""))
        fields[key] = (first, text + ("; " if key == "cookie" else ", ") + value if key in fields else value)
    return dict(fields.values())


def read_body(fields: Message, file: BinaryIO) -> bytes | None:
    """Return the body of a request, or None when it has none (RFC 9112 section 6.3).

    Raises BadBody, and ConnectionError when the caller has disconnected.
    """
    encodings, lengths = fields.get_all("Transfer-Encoding", []), fields.get_all("Content-Length", [])
    if encodings:
        if lengths:  # perhaps an attempt to smuggle a request (section 6.1)
            raise BadBody(HTTPStatus.BAD_REQUEST)
        if [encoding.strip().lower() for encoding in encodings] != ["chunked"]:
            raise BadBody(HTTPStatus.NOT_IMPLEMENTED)
        return _read_chunks(file)
    if not lengths:
        return None
    if len(lengths) > 1 or not re.fullmatch(r"[0-9]{1,15}", lengths[0].strip()):
        raise BadBody(HTTPStatus.BAD_REQUEST)
    return _read(file, int(lengths[0])) or None


def _read_chunks(file: BinaryIO) -> bytes:
    """Decode a chunked body, and drop its extensions and trailer fields (RFC 9112 section 7.1)."""
    body = b""
    while size := _chunk_size(_read_line(file)):
        body += _read(file, size, len(body))
        if _read_line(file):
            raise BadBody(HTTPStatus.BAD_REQUEST)
    trailer = 0
    while line := _read_line(file):
        trailer += len(line) + 2
        if trailer > _MAX_LINE_BYTES:
            raise BadBody(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    return body


def _chunk_size(line: bytes) -> int:
    size = line.partition(b";")[0].strip()
    if not re.fullmatch(rb"[0-9A-Fa-f]{1,12}", size):
        raise BadBody(HTTPStatus.BAD_REQUEST)
    return int(size, 16)


def _read(file: BinaryIO, size: int, already: int = 0) -> bytes:
    if already + size > MAX_BODY_BYTES:
        raise BadBody(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    content = file.read(size)
    if len(content) < size:
        raise ConnectionResetError
    return content


def _read_line(file: BinaryIO) -> bytes:
    line = file.readline(_MAX_LINE_BYTES)
    if not line:
        raise ConnectionResetError
    if not line.endswith(b"\r\n"):
        raise BadBody(HTTPStatus.BAD_REQUEST)
    return line[:-2]
