"""/account/restore: restore an account that its user has deleted. It needs no session, but the cookie of the offer.

Its query is the authorization request with which the user has signed in, so that it can go on.
"""

from chalicelib import pages
from chalicelib.authorization.forms import leads_to_request
from chalicelib.authorization.problems import address_of
from chalicelib.http.csrf import is_cross_origin, require_same_origin
from chalicelib.http.messages import Request, Response, redirect
from chalicelib.server import AuthorizationServer
from chalicelib.users import restoration
from chalicelib.users.account_visit import sign_in_address

RESTORED = "restored"


def get(server: AuthorizationServer, http: Request) -> Response:
    """Show the button that restores the account or, once it was pressed, the way to sign in. Changes nothing."""
    offer = restoration.read_offer(server, http)
    user = restoration.find_deleted(server, offer)
    # A link on another site must not make the page report something that was not done.
    done = http.query.raw("done") == RESTORED and not is_cross_origin(server.issuer, http)
    page = pages.page(
        "account_restore",
        server.settings,
        http,
        user=user,
        restored=done and user is None,
        action=f"{_path(server)}?{http.query.encoded()}",
        tag=server.keys.form_tag(_subject(offer)) if offer and user else "",
        sign_in=_sign_in_address(server, http),
        grace_days=server.settings.deletion_grace_days,
    )
    return pages.response(page)


def post(server: AuthorizationServer, http: Request) -> Response:
    """Restore the account of the offer, once; without a valid offer, show the page again."""
    require_same_origin(server.issuer, http)
    form, offer = http.form(), restoration.read_offer(server, http)
    query = http.query
    if offer and server.keys.is_valid_form_tag(_subject(offer), form.get("tag") or ""):
        restoration.accept(server, http, offer)
        http.answer_headers.append(restoration.end_offer(server))
        query = query.replaced("done", RESTORED)
    return redirect(http, f"{_path(server)}?{query.encoded()}".removesuffix("?"))


def _sign_in_address(server: AuthorizationServer, http: Request) -> str:
    """Return the address of the request in the query, or that of the account page."""
    query = http.query.replaced("done", None)
    if leads_to_request(query):
        return address_of(server, query.encoded())
    return sign_in_address(server)


def _subject(offer: restoration.Offer) -> str:
    return f"RESTORE {offer.proof}"


def _path(server: AuthorizationServer) -> str:
    return pages.base(server.settings) + restoration.PATH
