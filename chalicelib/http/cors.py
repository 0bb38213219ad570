"""Cross-origin requests (CORS, Fetch section 3.3): which web pages may read a response, never with cookies."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from chalicelib.http.messages import Request
from chalicelib.protocol.redirect_uris import matches, origin_is_registered

if TYPE_CHECKING:
    from chalicelib.protocol.client import Client

# Who may read the answers of a route: "any" web page, or those of the "client" that asks.
Readers = Literal["any", "client"]
_FIELD_NAMES = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")
_MAX_FIELD_NAMES = 2048
_EXPOSED = {"Access-Control-Expose-Headers": "WWW-Authenticate, DPoP-Nonce"}


def preflight_headers(http: Request, methods: Iterable[str]) -> dict[str, str]:
    """Return the header fields of the answer to a preflight request, which allow the header fields it asks for.

    The client is not known yet. The answer to the request itself is readable only for its origins.
    """
    requested = http.header("access-control-request-headers") or ""
    allowed = requested if len(requested) <= _MAX_FIELD_NAMES and _FIELD_NAMES.fullmatch(requested) else ""
    return {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Allow-Methods": ", ".join(methods),
        "Access-Control-Allow-Headers": allowed or "Authorization, Content-Type",
        "Access-Control-Max-Age": "600",
        "Vary": "Access-Control-Request-Headers",
    }


def response_headers(http: Request, readers: Readers | None, status: int) -> dict[str, str]:
    """Return the CORS header fields of a response.

    Errors sent before the client is known are readable from any origin, so that a page can tell an expired token from a
    network failure.
    """
    if readers == "any":
        return {"Access-Control-Allow-Origin": "*", **_EXPOSED}
    if readers is None:
        return {}
    origin, client = http.header("origin"), http.client
    if origin and client is None and status >= 400:
        return {"Access-Control-Allow-Origin": "*", **_EXPOSED, "Vary": "Origin"}
    if origin and client and _is_origin_of(client, origin):
        return {"Access-Control-Allow-Origin": origin, **_EXPOSED, "Vary": "Origin"}
    return {"Vary": "Origin"}


def _is_origin_of(client: "Client", origin: str) -> bool:
    """Return whether an origin is that of a redirect URI of the client, or is registered in its `allowed_origins`."""
    if origin_is_registered(origin, client.redirect_uris):
        return True
    return any(matches(allowed, origin) for allowed in client.allowed_origins)
