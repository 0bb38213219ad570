"""HTTP as values: what came in, what goes out. No sockets, no Chalice, no knowledge of OAuth beyond its error codes."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

from chalicelib.errors import InvalidRequest, OAuthError, ServerError

if TYPE_CHECKING:
    from chalicelib.models import Client

MAX_BODY = 64 * 1024
MAX_PARAMETERS = 100
# C0 and C1 controls, and lone surrogates: no parameter of ours may hold one.
_UNWANTED = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


class Params:
    """The parameters of a query or a body, in their order, repeated ones included.

    RFC 6749 section 3.1: a parameter without a value is treated as omitted; none may come more than once.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()):
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    @classmethod
    def from_urlencoded(cls, text: str | bytes) -> "Params":
        """Read `application/x-www-form-urlencoded`. Raises InvalidRequest when it is not UTF-8 or too much."""
        try:
            if isinstance(text, bytes):
                text = text.decode("utf-8")
            pairs = parse_qsl(
                text, keep_blank_values=True, encoding="utf-8", errors="strict", max_num_fields=MAX_PARAMETERS
            )
        except ValueError as error:  # UnicodeDecodeError is one
            raise InvalidRequest("The parameters are not valid UTF-8, or there are too many.") from error
        return cls(pairs)

    @classmethod
    def from_json(cls, text: bytes) -> "Params":
        """Read a JSON object whose members are strings. Raises InvalidRequest for anything else."""

        def members(pairs: list[tuple[str, object]]) -> list[tuple[str, object]]:
            return pairs

        try:
            pairs = json.loads(text.decode("utf-8"), object_pairs_hook=members)
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

    def one(self, name: str, *, at_most: int = 2048) -> str | None:
        """The value of a parameter, None when it is missing or empty.

        Raises InvalidRequest when it is repeated, longer than `at_most` characters, or holds a control character.
        """
        values = self._values.get(name, [])
        if len(values) > 1:
            raise InvalidRequest(f"The parameter {name} is repeated.")
        if not values or not values[0]:
            return None
        if len(values[0]) > at_most:
            raise InvalidRequest(f"The parameter {name} is longer than {at_most} characters.")
        if _UNWANTED.search(values[0]):
            raise InvalidRequest(f"The parameter {name} holds a control character or is not valid UTF-8.")
        return values[0]

    def all(self, name: str, *, at_most: int = 2048) -> tuple[str, ...]:
        """The values of a parameter that may be repeated (RFC 8707 section 2), but for empty ones; each as by `one`."""
        values = (Params([(name, value)]).one(name, at_most=at_most) for value in self._values.get(name, []))
        return tuple(value for value in values if value is not None)

    def required(self, name: str, *, at_most: int = 2048) -> str:
        """As `one`; raises InvalidRequest when the parameter is missing or empty too."""
        value = self.one(name, at_most=at_most)
        if value is None:
            raise InvalidRequest(f"The parameter {name} is missing.")
        return value

    def raw(self, name: str) -> str | None:
        """The last value as it came, whatever it holds: for passwords, which are compared and never stored or shown."""
        values = self._values.get(name)
        return values[-1] if values else None

    def or_else(self, others: "Params") -> "Params":
        """These parameters, and of `others` those whose names are not among them."""
        both = Params()
        both._values = {**others._values, **self._values}
        return both

    def __contains__(self, name: str) -> bool:
        return name in self._values


@dataclass
class Request:
    """An HTTP request, whichever gateway brought it.

    `headers` have lower-case names; `source_ip` and `base_url` are what the
    gateway saw, never a header. `client` and `error` are
    noted by the endpoint as soon as they are known: the log line needs both, and the CORS answer the client. `events`
    are what the operator wants to hear of, as `audit.note` has them.
    """

    method: str
    path: str
    query: Params = field(default_factory=Params)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    source_ip: str = ""
    request_id: str = ""
    base_url: str = ""
    client: "Client | None" = None
    error: OAuthError | None = None
    endpoint: str = ""
    events: list[dict[str, str]] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """A header field's value, or None."""
        return self.headers.get(name.lower())

    def cookie(self, name: str) -> str | None:
        """The value of a cookie, or None. Of two with one name the first counts."""
        for part in self.headers.get("cookie", "").split(";"):
            key, _, value = part.strip().partition("=")
            if key == name:
                return value
        return None

    def form(self, *, json_allowed: bool = False) -> Params:
        """The parameters in the body.

        Raises InvalidRequest when the media type is not `application/x-www-form-urlencoded` (or, where allowed,
        `application/json`), the body exceeds 64 KiB or cannot be read.
        """
        if len(self.body) > MAX_BODY:
            raise InvalidRequest(f"The body exceeds {MAX_BODY} bytes.")
        media_type = (self.header("content-type") or "").partition(";")[0].strip().lower()
        if media_type == "application/json" and json_allowed:
            return Params.from_json(self.body)
        if media_type == "application/x-www-form-urlencoded":
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
        """All values of a header field."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


def json_response(members: Mapping[str, object], status: int = 200, headers: Mapping[str, str] = NO_STORE) -> Response:
    """A JSON object. Members that are None or empty are left out: no JSON member of ours is ever null."""
    present = {name: value for name, value in members.items() if value is not None and value not in ("", [], {})}
    body = json.dumps(present, separators=(",", ":"))
    return Response(status, body=body).add({"Content-Type": "application/json", **headers})


def redirect(request: Request, url: str) -> Response:
    """A redirect, to be followed by GET whatever the request was; never stored by a cache.

    303 after a POST, so that no browser sends a password on (RFC 9700 section 4.12). `url` must be printable ASCII,
    which `with_query` sees to.
    """
    return Response(303 if request.method == "POST" else 302).add(
        {"Location": url, "Content-Type": "text/plain; charset=utf-8", **NO_STORE}
    )


def with_query(url: str, parameters: Mapping[str, str | None]) -> str:
    """`url` with parameters added to its query, which is kept (RFC 6749 section 3.1.2). None is left out."""
    base, _, own = url.partition("?")
    query = urlencode({name: value for name, value in parameters.items() if value is not None})
    return f"{base}?{own}{'&' if own else ''}{query}" if query else url


def with_fragment(url: str, parameters: Mapping[str, str | None]) -> str:
    """`url`, which has no fragment, with parameters in one (RFC 6749 section 4.2.2). None is left out."""
    return f"{url}#" + urlencode({name: value for name, value in parameters.items() if value is not None})


def cookie(name: str, value: str, *, secure: bool, max_age: int | None = None) -> dict[str, str]:
    """A Set-Cookie header: host-only, HttpOnly, SameSite=Lax.

    `max_age` in seconds; None lasts until the browser closes, 0 removes the cookie.
    """
    parts = [f"{name}={value}", "Path=/", "HttpOnly", "SameSite=Lax"]
    if secure:
        parts.append("Secure")
    if max_age is not None:
        parts.append(f"Max-Age={max_age}")
    return {"Set-Cookie": "; ".join(parts)}


def origin_of(url: str) -> str | None:
    """The web origin of an http(s) URL (RFC 6454), None for any other scheme."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    default = {"http": 80, "https": 443}[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port and parts.port != default else "")
