"""The `resource` parameter: the resource servers that an access token is for (RFC 8707 section 2)."""

from urllib.parse import urlsplit

from chalicelib.http.messages import Params
from chalicelib.protocol.errors import InvalidRequest, InvalidTarget
from chalicelib.server import AuthorizationServer

MAX_RESOURCES = 10


def parse_resources(params: Params) -> frozenset[str]:
    """Return the resources that a request names. Raises InvalidTarget when they are malformed or too many."""
    try:
        resources = frozenset(params.get_all("resource"))
    except InvalidRequest as error:
        raise InvalidTarget(error.description) from error
    if len(resources) > MAX_RESOURCES:
        raise InvalidTarget(f"A request may name at most {MAX_RESOURCES} resources.")
    return resources


def parse_registered_resources(server: AuthorizationServer, params: Params) -> frozenset[str]:
    """Return the resources that a request names, each the URI of a registered resource server, or the issuer.

    Raises InvalidTarget for any other resource.
    """
    resources = parse_resources(params)
    for resource in sorted(resources):
        try:
            parts = urlsplit(resource)
        except ValueError as error:
            raise InvalidTarget("The resource must be an absolute URI.") from error
        if not parts.scheme or "#" in resource:
            raise InvalidTarget("The resource must be an absolute URI without a fragment.")
        if resource != server.issuer and server.client(resource) is None:
            raise InvalidTarget("No resource server is registered with this URI.")
    return resources
