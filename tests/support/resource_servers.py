"""Resources, and clients that introspect access tokens and get none themselves (RFC 7662, RFC 8707)."""

from typing import Any
from urllib.parse import quote_plus

from chalicelib.clients.resources import create_resource
from chalicelib.protocol.resource import Resource
from tests.support.browser import Answer, Browser, basic
from tests.support.site import Registered, Site

API = "https://api.example.com/photos"


def register_resource_server(site: Site, uri: str = API) -> Registered:
    """Register a resource server whose client_id is its URI."""
    return site.client(client_id=uri, client_name="Photos", redirect_uris=(), grant_types=(), response_types=())


def register_resource(site: Site, uri: str = API, scope: str = "", **members: Any) -> Resource:
    """Register a resource with a record of its own."""
    return create_resource(site.server.store, uri, "Photos", scope=scope, **members)


def introspect(
    browser: Browser, caller: Registered, token: str, headers: dict[str, str] | None = None, **parameters: str
) -> Answer:
    """Send an introspection request; without `headers`, the caller authenticates with HTTP Basic.

    The client_id of a resource server has a colon, so it is form-encoded (RFC 6749 section 2.3.1).
    """
    credentials = basic(quote_plus(caller.id), quote_plus(caller.secret or ""))
    form = {"token": token, **parameters}
    return browser.post("/oauth2/introspect", form, credentials if headers is None else headers)
