"""What a caller can read, by its Accept header field (RFC 9110 section 12.5.1)."""

from chalicelib.http.messages import Request


def may_show_page(http: Request) -> bool:
    """Return whether a caller may be a browser: it asks for a page, or for anything, by GET or HEAD."""
    accepted = (http.header("accept") or "*/*").lower()
    return http.method in ("GET", "HEAD") and ("text/html" in accepted or "*/*" in accepted)
