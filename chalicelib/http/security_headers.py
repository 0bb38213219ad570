"""The security header fields of every response."""

from chalicelib.http.messages import Response
from chalicelib.protocol.durations import YEAR


def security_headers(
    response: Response, *, secure: bool, in_popup: bool = False, for_all: bool = False
) -> dict[str, str]:
    """Return the security header fields of a response.

    Cross-Origin-Opener-Policy takes a page from a window that has opened it on another origin. A popup of an
    authorization or logout request must stay connected (`in_popup`): the application waits for it to return.
    Cross-Origin-Resource-Policy keeps what no other origin may read out of their processes; `for_all`: every web page
    may read it. `secure`: the issuer is https.
    """
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Opener-Policy": "unsafe-none" if in_popup else "same-origin",
        "Cross-Origin-Resource-Policy": "cross-origin" if for_all else "same-origin",
    }
    if secure:
        headers["Strict-Transport-Security"] = f"max-age={YEAR}"
    if not response.values("Referrer-Policy"):
        headers["Referrer-Policy"] = "same-origin"
    if not response.values("Content-Security-Policy"):
        headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
    return headers
