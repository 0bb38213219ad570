"""The authorization requests of the playground that a browser remembers, in a cookie: one for each tab."""

import secrets

from chalicelib.http.messages import Request, cookie
from chalicelib.protocol import pkce
from chalicelib.protocol.durations import HOUR
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_sessions import cookie_name

_LIFETIME = HOUR
_MAX_PENDING = 4  # flows at the same time in one browser, one per tab


@dataclass(frozen=True)
class PendingRequest:
    """An authorization request that this browser made, as the client remembers it."""

    state: str
    nonce: str
    code_verifier: str


def begin_request(server: AuthorizationServer, http: Request) -> tuple[PendingRequest, dict[str, str]]:
    """Return a new request, and the header of the cookie that remembers it beside the latest ones."""
    pending = PendingRequest(*(secrets.token_urlsafe(32) for _ in range(3)))
    newest = [pending, *_pending_requests(server, http)][:_MAX_PENDING]
    value = ".".join(part for each in newest for part in (each.state, each.nonce, each.code_verifier))
    return pending, cookie(_cookie(server), value, secure=server.settings.secure, max_age=_LIFETIME)


def find_request(server: AuthorizationServer, http: Request, state: str | None) -> PendingRequest | None:
    """Return the request with this state that this browser made, or None."""
    state_bytes = (state or "").encode()
    requests = _pending_requests(server, http)
    return next((each for each in requests if secrets.compare_digest(each.state.encode(), state_bytes)), None)


def _cookie(server: AuthorizationServer) -> str:
    return cookie_name(server, "playground")


def _pending_requests(server: AuthorizationServer, http: Request) -> list[PendingRequest]:
    """Return the requests in the browser's cookie, newest first; none when the cookie is malformed."""
    parts = (http.cookie(_cookie(server)) or "").split(".")
    valid = len(parts) % 3 == 0 and all(map(pkce.is_verifier, parts))
    return [PendingRequest(*parts[start : start + 3]) for start in range(0, len(parts), 3)] if valid else []
