"""The names of this machine: the local server has one issuer, and browsers may open it under another name."""

from typing import Any
from urllib.parse import SplitResult, urlsplit

from chalicelib.settings import LOOPBACK_NAMES


def redirect_to_issuer(issuer: str) -> None:
    """Redirect pages that a browser opens at another name of this machine, such as 127.0.0.1 for localhost.

    Cookies and passkeys belong to the host of the issuer: at another one, a sign-in would end at the issuer's sign-in
    page. Only browsers ask for `text/html`, so the requests of applications are answered as they are.
    """
    import chalice.local

    own = urlsplit(issuer)
    if own.hostname not in LOOPBACK_NAMES:
        return
    handler = chalice.local.ChaliceRequestHandler
    handle = handler.do_GET

    def do_get(self: Any) -> None:
        if "text/html" in self.headers.get("Accept", "") and _is_other_name(self.headers.get("Host", ""), own):
            self.send_response(302)
            self.send_header("Location", f"{own.scheme}://{own.netloc}{self.path}")
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            handle(self)

    handler.do_GET = do_get


def _is_other_name(host: str, own: SplitResult) -> bool:
    """Return whether a Host header field names this server by another name than that of the issuer."""
    try:
        other = urlsplit(f"//{host}")
        return other.hostname in LOOPBACK_NAMES and other.hostname != own.hostname and other.port == own.port
    except ValueError:
        return False


def serving_line(issuer: str, host: str, port: int) -> str:
    """Return what the server prints once it listens: the address to open, and how to stop it."""
    own = urlsplit(issuer)
    is_here = own.hostname in LOOPBACK_NAMES and (own.port or 80) == port
    where = issuer if is_here else f"http://{host}:{port}, for the issuer {issuer}"
    return f"Serving on {where}. Press Ctrl-C to stop."
