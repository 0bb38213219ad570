"""Comparison of the URIs of resource servers (RFC 8707 section 2), after normalization (RFC 3986 section 6.2).

Clients write the same URI in several ways: SDKs of MCP send `https://mcp.example.com/` for `https://mcp.example.com`.
"""

import re
from collections.abc import Iterable
from itertools import islice
from urllib.parse import urlsplit

_URI = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[^\]/?#@]*\]|[^:/?#@\[\]]+)(?::(?P<port>[0-9]*))?(?P<rest>[/?].*)?",
    re.IGNORECASE | re.ASCII,
)
_EMPTY_PATH = re.compile(r"\A(https?://[^/?]+)/(?=\?|\Z)")
_PERCENT = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
MAX_NEAR_MISSES = 3
_MOST_COMPARED = 1000
_DEFAULT_PORTS = {"http": ("", "80"), "https": ("", "443")}


def normalize(uri: str) -> str:
    """Return the normal form of an http or https URI; any other text as it is.

    Scheme and host are in lower case, the default port is left out, encoded unreserved characters are decoded, other
    percent-encodings are in capitals, and an empty path is "/".
    """
    match = _URI.fullmatch(uri) if uri.isascii() else None
    if not match:
        return uri
    scheme, host, port, rest = match["scheme"].lower(), match["host"].lower(), match["port"] or "", match["rest"] or ""
    authority = host if port in _DEFAULT_PORTS[scheme] else f"{host}:{port}"
    path_and_query = rest if rest.startswith("/") else f"/{rest}"
    return f"{scheme}://{authority}{_PERCENT.sub(_normalize_percent, path_and_query)}"


def spellings(uri: str) -> tuple[str, ...]:
    """Return how a resource server that `uri` names may be registered: as it is written, or in normal form.

    A normal form without a path may be registered with "/" or without.
    """
    normal = normalize(uri)
    return tuple(dict.fromkeys((uri, normal, _EMPTY_PATH.sub(r"\1", normal))))


def find(registered: Iterable[str], uri: str) -> str | None:
    """Return which of the registered URIs `uri` names, the same spelling first; None if it names none of them."""
    candidates = sorted(registered, key=lambda candidate: candidate != uri)
    return next((candidate for candidate in candidates if normalize(candidate) == normalize(uri)), None)


def near_misses(registered: Iterable[str], uri: str) -> list[str]:
    """Return the first registered URIs of the same host as `uri`, or of a host above or below it.

    They differ in scheme, port, path or query, or in a label before the host. Only so many are compared that any caller
    may cause it.
    """
    host = _host(uri)
    near = (each for each in islice(registered, _MOST_COMPARED) if _is_near(host, _host(each)))
    return list(islice(near, MAX_NEAR_MISSES))


def _host(uri: str) -> str:
    try:
        return (urlsplit(uri).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_near(host: str, other: str) -> bool:
    if host == other:
        return bool(host)
    above, below = sorted((host, other), key=len)
    return "." in above and below.endswith(f".{above}")


def _normalize_percent(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return character if _UNRESERVED.fullmatch(character) else match[0].upper()
