"""The `resource` parameter: the resource servers that an access token is for (RFC 8707 section 2)."""

from collections.abc import Iterable
from functools import reduce
from operator import or_
from urllib.parse import urlsplit

from chalicelib.http.messages import Params
from chalicelib.protocol.errors import InvalidRequest, InvalidTarget
from chalicelib.protocol.resource_uris import find, spellings
from chalicelib.server import AuthorizationServer
from chalicelib.storage.dynamodb import Condition, attr

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
    """Return the resources that a request names as they are registered: resource servers, or the issuer.

    Raises InvalidTarget for any other resource.
    """
    return frozenset(_registered(server, resource) for resource in sorted(parse_resources(params)))


def _registered(server: AuthorizationServer, resource: str) -> str:
    """Return a resource as it is registered. Raises InvalidTarget."""
    try:
        parts = urlsplit(resource)
    except ValueError as error:
        raise InvalidTarget("The resource must be an absolute URI.") from error
    if not parts.scheme or "#" in resource:
        raise InvalidTarget("The resource must be an absolute URI without a fragment.")
    if find((server.issuer,), resource):
        return server.issuer
    for spelling in spellings(resource):
        if server.client(spelling) is not None:
            return spelling
    raise InvalidTarget("No resource server is registered with this URI.")


def granted(resource: str) -> Condition:
    """Return the condition on a grant that the resource was granted, in whichever spelling it is registered."""
    return reduce(or_, (attr("resource").contains(spelling) for spelling in spellings(resource)))


def are_granted(resources: Iterable[str], granted_resources: frozenset[str]) -> bool:
    """Return whether a grant with these resources allows those of a token request."""
    return all(find(granted_resources, resource) for resource in resources)


def as_granted(resources: Iterable[str], granted_resources: frozenset[str]) -> frozenset[str]:
    """Return the resources of a token request, all of which were granted, as they are in the grant."""
    return frozenset(filter(None, (find(granted_resources, resource) for resource in resources)))
