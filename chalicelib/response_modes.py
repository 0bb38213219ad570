"""What an authorization response is made of, and how it travels: in the query, in the fragment, or posted by a form.

OAuth 2.0 Multiple Response Type Encoding Practices section 2.1, OAuth 2.0 Form Post Response Mode.
"""

from collections.abc import Mapping

from chalicelib import pages
from chalicelib.errors import InvalidRequest
from chalicelib.messages import Params, Request, Response, origin_of, redirect, with_fragment, with_query
from chalicelib.models import Client
from chalicelib.settings import Settings

RESPONSE_TYPES = ("code", "code id_token")
RESPONSE_MODES = ("query", "fragment", "form_post")


def normal(response_type: str) -> str:
    """A response type with its words in order: they are a set (RFC 6749 section 8.4)."""
    return " ".join(sorted(filter(None, response_type.split(" "))))


def default(response_type: str) -> str:
    """How an answer travels when the request does not say: tokens do so in the fragment."""
    return "fragment" if {"token", "id_token"} & set(response_type.split()) else "query"


def problem_with(response_mode: str, response_type: str, redirect_uri: str) -> str | None:
    """Why an answer must not travel so; None if it may."""
    if response_mode not in RESPONSE_MODES:
        return "The response_mode must be " + " or ".join(RESPONSE_MODES) + "."
    if response_mode == "query" and default(response_type) != "query":
        return "A token must not stand in a query: leave the response_mode out, or use form_post."
    if response_mode == "form_post" and origin_of(redirect_uri) is None:
        return "A form cannot be posted to a redirect URI of this scheme."
    return None


def of_errors(params: Params, redirect_uri: str) -> str:
    """How an error goes back for a request that is not yet checked: as it asks, if that can be made out and may be."""
    try:
        response_type = normal(params.one("response_type") or "")
    except InvalidRequest:
        response_type = ""
    try:
        response_mode = params.one("response_mode")
    except InvalidRequest:
        response_mode = None
    if response_mode is None or problem_with(response_mode, response_type, redirect_uri):
        return default(response_type)
    return response_mode


def send(
    settings: Settings,
    http: Request,
    client: Client,
    redirect_uri: str,
    response_mode: str,
    parameters: Mapping[str, str | None],
) -> Response:
    """The authorization response (RFC 6749 sections 4.1.2 and 4.1.2.1): a redirect, or a page that posts it."""
    if response_mode == "form_post":
        fields = [(name, value) for name, value in parameters.items() if value is not None]
        page = pages.page("form_post", settings, client=client, action=redirect_uri, fields=fields)
        return pages.response(page, redirect_uri=redirect_uri)
    put = with_fragment if response_mode == "fragment" else with_query
    return redirect(http, put(redirect_uri, parameters))
