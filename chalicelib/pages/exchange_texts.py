"""HTTP requests, responses and JWTs as the playground shows them."""

import base64
import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from chalicelib.http.messages import Response
from chalicelib.protocol.values import dataclass

_SHOWN_HEADERS = ("Content-Type", "Cache-Control", "WWW-Authenticate", "DPoP-Nonce")


@dataclass(frozen=True)
class Exchange:
    """An HTTP request that the client made, the response, and what they show."""

    title: str
    request: str
    response: str
    lesson: str
    members: dict[str, Any]


def request_text(method: str, url: str, headers: dict[str, str] | None = None, body: str = "") -> str:
    """Return an HTTP request as it is sent, with a line for each parameter."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    text = "\n".join(lines) + (f"\n\n{body}" if body else "")
    return text.replace("?", "\n  ?", 1).replace("&", "\n  &")


def response_text(response: Response) -> str:
    """Return an HTTP response with the header fields that matter here, and its JSON in lines."""
    lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
    lines += [f"{name}: {value}" for name in _SHOWN_HEADERS for value in response.values(name)]
    body = json.dumps(json.loads(response.body), indent=2) if response.body.startswith("{") else response.body
    return "\n".join(lines) + f"\n\n{body}"


def decoded_tokens(exchanges: Iterable[Exchange]) -> list[tuple[str, str, str]]:
    """Return the JWTs in the responses as (name, header, claims), the last two as JSON (RFC 7519 section 3)."""
    tokens: list[tuple[str, str, str]] = []
    for members in (exchange.members for exchange in exchanges):
        for name in ("access_token", "id_token"):
            if name in members:
                header, claims = (_json_of(part) for part in members[name].split(".")[:2])
                tokens.append((name, header, claims))
    return tokens


def is_for_another_api(token: str, issuer: str) -> bool:
    """Return whether an access token names another audience than this server. It is not verified: only for display."""
    try:
        audience = _content_of(token.split(".")[1])["aud"]
        return issuer not in ([audience] if isinstance(audience, str) else audience)
    except (ValueError, LookupError, TypeError):
        return False


def _json_of(part: str) -> str:
    return json.dumps(_content_of(part), indent=2)


def _content_of(part: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
