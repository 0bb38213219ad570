"""HTTP requests and responses as values. No sockets, no Chalice, and of OAuth only the error codes."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote_plus, urlencode

from chalicelib.protocol.compact_json import to_json
from chalicelib.protocol.errors import InvalidRequest, OAuthError, ServerError

if TYPE_CHECKING:
    from chalicelib.protocol.client import Client
    from chalicelib.protocol.dpop import Proof
    from chalicelib.protocol.mutual_tls import Certificate, PresentedCertificate
    from chalicelib.protocol.recipient import Recipient

MAX_BODY = 64 * 1024
MAX_PARAMETERS = 100
NOT_DECODED = "The parameters are not valid UTF-8, or there are too many."
# C0 and C1 controls, and lone surrogates: no parameter may contain one.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
JSON_SPACE = re.compile(r"[\t\n\r]")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


class Params:
    """The parameters of a query or a body, in order, with repeated ones.

    RFC 6749 section 3.1: a parameter without a value is treated as omitted; none may be repeated.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()):
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    @classmethod
    def from_urlencoded(cls, text: str | bytes) -> "Params":
        """Parse `application/x-www-form-urlencoded`.

        Raises InvalidRequest when it is not UTF-8 or has more than MAX_PARAMETERS parameters.
        """
        try:
            if isinstance(text, bytes):
                text = text.decode("utf-8")
            pairs = parse_qsl(
                text, keep_blank_values=True, encoding="utf-8", errors="strict", max_num_fields=MAX_PARAMETERS
            )
        except ValueError as error:  # UnicodeDecodeError is one
            raise InvalidRequest(NOT_DECODED) from error
        return cls(pairs)

    @classmethod
    def from_json(cls, text: bytes) -> "Params":
        """Parse a JSON object whose members are strings. Raises InvalidRequest for anything else."""

        def keep_repeated(pairs: list[tuple[str, object]]) -> list[tuple[str, object]]:
            return pairs

        try:
            pairs = json.loads(text.decode("utf-8"), object_pairs_hook=keep_repeated)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest("The body is not valid JSON.") from error
        is_object = isinstance(pairs, list) and all(isinstance(pair, tuple) for pair in pairs)
        if not is_object or (not pairs and text.strip().startswith(b"[")):
            raise InvalidRequest("The JSON body must be an object.")
        if len(pairs) > MAX_PARAMETERS:
            raise InvalidRequest("There are too many parameters.")
        if not all(isinstance(value, str) for _, value in pairs):
            raise InvalidRequest("Every member of the JSON body must be a string.")
        return cls(pairs)

    def get(
        self, name: str, *, at_most: int = 2048, at_most_encoded: int | None = None, is_json: bool = False
    ) -> str | None:
        """Return the value of a parameter, or None when it is missing or empty.

        Raises InvalidRequest when it is repeated, longer than `at_most` characters (or, percent-encoded, longer than
        `at_most_encoded`), or contains a control character. JSON may have tabs and line breaks (RFC 8259 section 2).
        """
        values = self._values.get(name, [])
        if len(values) > 1:
            raise InvalidRequest(f"The parameter {name} is repeated.")
        if not values or not values[0]:
            return None
        if len(values[0]) > at_most:
            raise InvalidRequest(f"The parameter {name} is longer than {at_most} characters.")
        if CONTROL.search(JSON_SPACE.sub("", values[0]) if is_json else values[0]):
            raise InvalidRequest(f"The parameter {name} contains a control character or is not valid UTF-8.")
        if at_most_encoded is not None and len(quote_plus(values[0])) > at_most_encoded:
            raise InvalidRequest(f"The parameter {name} is longer than {at_most_encoded} characters when encoded.")
        return values[0]

    def get_all(self, name: str, *, at_most: int = 2048) -> tuple[str, ...]:
        """Return the non-empty values of a parameter that may be repeated (RFC 8707 section 2), checked as by `get`."""
        values = (Params([(name, value)]).get(name, at_most=at_most) for value in self._values.get(name, []))
        return tuple(value for value in values if value is not None)

    def require(self, name: str, *, at_most: int = 2048) -> str:
        """Return the value of a parameter as `get` does; raise InvalidRequest also when it is missing or empty."""
        value = self.get(name, at_most=at_most)
        if value is None:
            raise InvalidRequest(f"The parameter {name} is missing.")
        return value

    def raw(self, name: str) -> str | None:
        """Return the last value unchecked, or None: for passwords, which are never stored or shown."""
        values = self._values.get(name)
        return values[-1] if values else None

    def different(self, name: str) -> set[str]:
        """Return the different values of a parameter, unchecked."""
        return {*self._values.get(name, [])}

    def with_fallback(self, fallback: "Params") -> "Params":
        """Return these parameters, with those of `fallback` for names that are missing."""
        merged = Params()
        merged._values = {**fallback._values, **self._values}
        return merged

    def only(self, *names: str) -> "Params":
        """Return these parameters, without those that have another name."""
        return Params((name, value) for name in names for value in self._values.get(name, []))

    def replaced(self, name: str, value: str | None) -> "Params":
        """Return these parameters with another value of one of them; None leaves it out."""
        replaced = Params()
        replaced._values = {each: values for each, values in self._values.items() if each != name}
        if value is not None:
            replaced._values[name] = [value]
        return replaced

    def encoded(self) -> str:
        """Return the parameters as `application/x-www-form-urlencoded`, sorted by name: the same for every gateway."""
        pairs = [(name, value) for name in sorted(self._values) for value in self._values[name]]
        return urlencode(pairs, errors="replace")

    def __contains__(self, name: str) -> bool:
        return name in self._values


@dataclass
class Request:
    """An HTTP request, independent of the gateway.

    `headers` have lower-case names. `base_url` comes from the gateway, never from a header; so does `source_ip`, unless
    the settings declare a proxy, which `proxy_secret` proves (`http.proxy`). The endpoint sets `client`, `error` and
    `events` for the log line; CORS needs the `client` too. Once `recipient` is set, errors are sent to it.
    `ui_locales`: the languages that its authorization request asks for, in order of preference, unchecked.
    `client_auth_method`: by which the client has authenticated. `proof`: its verified DPoP proof. `domain`: where the
    request came in, and `presented_certificate`: that of the client, at one domain only (`http.mutual_tls`); both come
    from the gateway. `certificate`: the same once it was read; `x5t`: its thumbprint, if tokens are bound to it.
    `answer_headers` are added to the response, also if it is an error: such as the cookie of a new session.
    """

    method: str
    path: str
    query: Params = field(default_factory=Params)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    source_ip: str = ""
    proxy_secret: str = field(default="", repr=False)
    request_id: str = ""
    base_url: str = ""
    domain: str = ""
    presented_certificate: "PresentedCertificate | None" = field(default=None, repr=False)
    client: "Client | None" = None
    client_auth_method: str = ""
    proof: "Proof | None" = None
    certificate: "Certificate | None" = field(default=None, repr=False)
    x5t: str | None = None
    recipient: "Recipient | None" = None
    ui_locales: tuple[str, ...] = ()
    answer_headers: list[Mapping[str, str]] = field(default_factory=list)
    error: OAuthError | None = None
    endpoint: str = ""
    events: list[dict[str, str]] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """Return the value of a header field, or None."""
        return self.headers.get(name.lower())

    def cookie(self, name: str) -> str | None:
        """Return the value of a cookie, the first one when the name is repeated, or None."""
        for part in self.headers.get("cookie", "").split(";"):
            key, _, value = part.strip().partition("=")
            if key == name:
                return value
        return None

    def credentials(self, scheme: str) -> str | None:
        """Return what follows an authentication scheme, in any case, in the Authorization header (RFC 9110 11.4).

        None without the header, or with another scheme.
        """
        sent, _, credentials = self.headers.get("authorization", "").strip().partition(" ")
        return credentials.strip() if sent.lower() == scheme else None

    @property
    def media_type(self) -> str:
        """The media type of the body, in small letters and without parameters; empty without one."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def form(self, *, json_allowed: bool = False) -> Params:
        """Return the parameters in the body.

        Raises InvalidRequest when the media type is not `application/x-www-form-urlencoded` (or, where allowed,
        `application/json`), or the body exceeds 64 KiB or cannot be parsed.
        """
        if len(self.body) > MAX_BODY:
            raise InvalidRequest(f"The body exceeds {MAX_BODY} bytes.")
        if self.media_type == "application/json" and json_allowed:
            return Params.from_json(self.body)
        if self.media_type == "application/x-www-form-urlencoded":
            return Params.from_urlencoded(self.body)
        expected = "application/x-www-form-urlencoded" + (" or application/json" if json_allowed else "")
        raise InvalidRequest(f"The body must be {expected}.")


@dataclass
class Response:
    """An HTTP response. A header field may have several values (Set-Cookie)."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: str = ""

    def add(self, headers: Mapping[str, str]) -> "Response":
        """Add header fields and return self. Raises ServerError for one that is not printable ASCII."""
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                raise ServerError("A header field could not be built.", detail=f"header {name} is not printable ASCII")
            self.headers.append((name, value))
        return self

    def values(self, name: str) -> list[str]:
        """Return all values of a header field."""
        field_name = name.lower()
        return [value for key, value in self.headers if key.lower() == field_name]


def present_members(members: Mapping[str, object], *, keep_empty: bool = False) -> dict[str, object]:
    """Return the members of a JSON object without those that are None or, unless `keep_empty`, empty."""
    absent: tuple[object, ...] = () if keep_empty else ("", [], {})
    return {name: value for name, value in members.items() if value is not None and value not in absent}


def json_response(
    members: Mapping[str, object], status: int = 200, headers: Mapping[str, str] = NO_STORE, *, keep_empty: bool = False
) -> Response:
    """Return a response with a JSON object, without the members that `present_members` leaves out."""
    body = to_json(present_members(members, keep_empty=keep_empty))
    return Response(status, body=body).add({"Content-Type": "application/json", **headers})


def redirect(http: Request, url: str) -> Response:
    """Return a redirect that is followed by GET and never cached.

    303 after a POST, so that no browser forwards a password (RFC 9700 section 4.12). `url` must be printable ASCII, as
    `with_query` returns it.
    """
    return Response(303 if http.method == "POST" else 302).add(
        {"Location": url, "Content-Type": "text/plain; charset=utf-8", **NO_STORE}
    )


def with_query(url: str, parameters: Mapping[str, str | None]) -> str:
    """Return `url` with parameters added to its query (RFC 6749 section 3.1.2), without those that are None."""
    base, _, present = url.partition("?")
    query = urlencode({name: value for name, value in parameters.items() if value is not None})
    return f"{base}?{present}{'&' if present else ''}{query}" if query else url


def with_fragment(url: str, parameters: Mapping[str, str | None]) -> str:
    """Return `url` with parameters in a fragment (RFC 6749 section 4.2.2), without those that are None."""
    return f"{url}#" + urlencode({name: value for name, value in parameters.items() if value is not None})


def cookie(name: str, value: str, *, secure: bool, max_age: int | None = None) -> dict[str, str]:
    """Return a Set-Cookie header field: host-only, HttpOnly, SameSite=Lax.

    `max_age` is in seconds: None lasts until the browser closes, 0 removes the cookie.
    """
    parts = [f"{name}={value}", "Path=/", "HttpOnly", "SameSite=Lax"]
    if secure:
        parts.append("Secure")
    if max_age is not None:
        parts.append(f"Max-Age={max_age}")
    return {"Set-Cookie": "; ".join(parts)}
