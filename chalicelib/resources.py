"""Whom an access token is for: the `resource` parameter, which may be repeated (RFC 8707 section 2)."""

from urllib.parse import urlsplit

from chalicelib.errors import InvalidRequest, InvalidTarget
from chalicelib.messages import Params
from chalicelib.server import AuthorizationServer

MOST = 10


def named(params: Params) -> frozenset[str]:
    """The resources that a request names. Raises InvalidTarget when they are malformed or too many."""
    try:
        resources = frozenset(params.all("resource"))
    except InvalidRequest as malformed:
        raise InvalidTarget(malformed.description) from malformed
    if len(resources) > MOST:
        raise InvalidTarget(f"A request is for {MOST} resources at most.")
    return resources


def registered(server: AuthorizationServer, params: Params) -> frozenset[str]:
    """The same, each the URI of a resource server that is registered, or our own. Raises InvalidTarget for others."""
    resources = named(params)
    for resource in sorted(resources):
        try:
            parts = urlsplit(resource)
        except ValueError as error:
            raise InvalidTarget("The resource must be an absolute URI.") from error
        if not parts.scheme or "#" in resource:
            raise InvalidTarget("The resource must be an absolute URI without a fragment.")
        if resource != server.issuer and server.client(resource) is None:
            raise InvalidTarget("There is no resource server of this URI.")
    return resources
