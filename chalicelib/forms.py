"""Forms of our own pages: where they may be sent from."""

from chalicelib.errors import RequestEnded
from chalicelib.messages import Request, origin_of
from chalicelib.server import AuthorizationServer


def refuse_other_sites(server: AuthorizationServer, http: Request) -> None:
    """Raises RequestEnded for a form that a page of another site has sent.

    Sec-Fetch-Site decides where the browser sends it, else Origin; with neither, the form's tag and the cookie do.
    """
    site, origin = http.header("sec-fetch-site"), http.header("origin")
    ours = origin in (None, origin_of(server.issuer)) if site is None else site == "same-origin"
    if not ours:
        raise RequestEnded("This form was sent from another site.")
