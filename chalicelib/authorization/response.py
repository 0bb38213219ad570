"""How an authorization response is sent: in the query, in the fragment, or posted by a form.

OAuth 2.0 Multiple Response Type Encoding Practices section 2.1, OAuth 2.0 Form Post Response Mode.
"""

from collections.abc import Mapping

from chalicelib import pages
from chalicelib.http.messages import Request, Response, redirect, with_fragment, with_query
from chalicelib.protocol.recipient import Recipient
from chalicelib.server import AuthorizationServer


def send_response(
    server: AuthorizationServer, http: Request, recipient: Recipient, answer: Mapping[str, str]
) -> Response:
    """Return the authorization response or error (RFC 6749 sections 4.1.2 and 4.1.2.1), with `state` and `iss`.

    A redirect, or a page that posts it. The issuer is in it by RFC 9207 section 2.
    """
    parameters = {**answer, "state": recipient.state, "iss": server.issuer}
    if recipient.response_mode == "form_post":
        fields = [(name, value) for name, value in parameters.items() if value is not None]
        page = pages.page(
            "form_post", server.settings, client=recipient.client, action=recipient.redirect_uri, fields=fields
        )
        return pages.response(page, redirect_uri=recipient.redirect_uri)
    add_parameters = with_fragment if recipient.response_mode == "fragment" else with_query
    return redirect(http, add_parameters(recipient.redirect_uri, parameters))
