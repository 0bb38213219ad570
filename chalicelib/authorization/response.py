"""How an authorization response is sent: in the query, in the fragment, or posted by a form; as a signed JWT, or not.

OAuth 2.0 Multiple Response Type Encoding Practices section 2.1, OAuth 2.0 Form Post Response Mode, JARM.
"""

from collections.abc import Mapping
from typing import Any

from chalicelib import pages
from chalicelib.http.messages import Request, Response, redirect, with_fragment, with_query
from chalicelib.keys.signing import ALGORITHMS
from chalicelib.protocol.durations import MINUTE
from chalicelib.protocol.recipient import Recipient
from chalicelib.protocol.response_types import is_signed, transport_of
from chalicelib.server import AuthorizationServer

LIFETIME = 10 * MINUTE  # of a signed response (JARM section 2.1)


def send_response(
    server: AuthorizationServer, http: Request, recipient: Recipient, answer: Mapping[str, str]
) -> Response:
    """Return the authorization response or error (RFC 6749 sections 4.1.2 and 4.1.2.1), with `state` and `iss`.

    A redirect, or a page that posts it. Raises TemporarilyUnavailable when it must be signed and cannot.
    """
    return send_prepared(server, http, recipient, prepare_response(server, recipient, answer))


def prepare_response(
    server: AuthorizationServer, recipient: Recipient, answer: Mapping[str, str]
) -> dict[str, str | None]:
    """Return the parameters of an authorization response as they are sent, with `state` and `iss`: in a JWT or not.

    The issuer is in it by RFC 9207 section 2. Raises TemporarilyUnavailable when it must be signed and cannot.
    """
    parameters = {**answer, "state": recipient.state, "iss": server.issuer}
    return {"response": _sign(server, recipient, parameters)} if is_signed(recipient.response_mode) else parameters


def send_prepared(
    server: AuthorizationServer, http: Request, recipient: Recipient, parameters: Mapping[str, str | None]
) -> Response:
    """Return what `prepare_response` has prepared, as the response mode sends it."""
    transport = transport_of(recipient.response_mode)
    if transport == "form_post":
        fields = [(name, value) for name, value in parameters.items() if value is not None]
        page = pages.page(
            "form_post", server.settings, http, client=recipient.client, action=recipient.redirect_uri, fields=fields
        )
        return pages.response(page, redirect_uri=recipient.redirect_uri)
    add_parameters = with_fragment if transport == "fragment" else with_query
    response = redirect(http, add_parameters(recipient.redirect_uri, parameters))
    if recipient.client.profile:  # FAPI 2.0 Security Profile section 5.3.2.2, clause 11
        response.status = 303
    return response


def _sign(server: AuthorizationServer, recipient: Recipient, parameters: Mapping[str, str | None]) -> str:
    """Return the JWT of a signed response (JARM section 2.1)."""
    client = recipient.client
    claims: dict[str, Any] = {name: value for name, value in parameters.items() if value is not None}
    claims |= {"aud": client.client_id, "exp": server.now() + LIFETIME}
    return server.keys.sign(claims, "JWT", client.authorization_signed_response_alg or ALGORITHMS[0])
