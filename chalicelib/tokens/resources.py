"""The `resource` parameter: the protected resource that an access token is for (RFC 8707 section 2).

A resource that names its scopes gets access tokens with only these. All others, which are the issuer (for UserInfo) and
resources without scopes, get what no other resource of the same grant understands.
"""

from collections.abc import Callable, Mapping
from functools import cached_property, reduce
from operator import or_
from urllib.parse import urlsplit

from chalicelib.http.messages import Params
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidRequest, InvalidScope, InvalidTarget
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.records import NO_SCOPE, scopes_of
from chalicelib.protocol.resource import Resource
from chalicelib.protocol.resource_uris import find, near_misses, normalize, spellings
from chalicelib.protocol.scopes import SCOPES
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.storage.cache import LIFETIME
from chalicelib.storage.dynamodb import Condition, attr
from chalicelib.storage.store import RegisteredNames

MAX_RESOURCES = 10


@dataclass(frozen=True)
class Resources:
    """Resources of one request or grant, by their registered URIs. The issuer is one without scopes."""

    by_uri: Mapping[str, Resource]

    @cached_property
    def named_scopes(self) -> frozenset[str]:
        """The scopes that these resources name."""
        return NO_SCOPE.union(*(resource.scopes for resource in self.by_uri.values()))

    def named_in(self, scope: frozenset[str]) -> frozenset[str]:
        """Return the part of a scope that these resources name, each scope with the URI of its resource."""
        return frozenset(f"{uri} {token}" for uri, each in self.by_uri.items() for token in scope & each.scopes)

    def limit(self, client: Client, scope: frozenset[str], detailed: frozenset[str] = NO_SCOPE) -> frozenset[str]:
        """Return the part of a scope that can be granted for these resources; standard scopes can beside any.

        `detailed`: those that authorization details are requested for, which need no scope. Raises InvalidTarget when
        the client may have no scope of another one, InvalidScope when the scope has none.
        """
        for uri, resource in self.by_uri.items():
            if uri in detailed:
                continue
            if resource.scopes and not resource.scopes & client.scopes:
                raise InvalidTarget("The client is not registered for any scope of this resource.", detail=uri)
            if resource.scopes and not resource.scopes & scope:
                raise InvalidScope(f"The scope has none of the resource {uri}.")
        if all(resource.scopes for resource in self.by_uri.values()):
            return scope & (self.named_scopes | SCOPES.keys())
        return scope


def parse_resources(params: Params) -> frozenset[str]:
    """Return the resources that a request names. Raises InvalidTarget when they are malformed or too many."""
    try:
        resources = frozenset(params.get_all("resource"))
    except InvalidRequest as error:
        raise InvalidTarget(error.description) from error
    if len(resources) > MAX_RESOURCES:
        raise InvalidTarget(f"A request may name at most {MAX_RESOURCES} resources.")
    return resources


def parse_resource(params: Params) -> str | None:
    """Return the resource that a token request names, None for none. Raises InvalidTarget for several."""
    resources = parse_resources(params)
    if len(resources) > 1:
        raise InvalidTarget("A token request may name one resource: an access token is for one.")
    return next(iter(resources), None)


def grantable(
    server: AuthorizationServer,
    client: Client,
    resources: frozenset[str],
    scope: frozenset[str],
    detailed: frozenset[str] = NO_SCOPE,
) -> tuple[Resources, frozenset[str]]:
    """Return the resources that a request names, and the scope that can be granted for them.

    Without a resource, this is the whole scope. What none of them understands is left out. Raises InvalidTarget for an
    unknown resource, and as `Resources.limit`; also InvalidScope with `strict_scope` when anything would be left out.
    """
    if not resources:
        return Resources({}), scope
    registered = find_resources(server, resources)
    try:
        allowed = registered.limit(client, scope, detailed)
    except (InvalidTarget, InvalidScope):  # no client is rejected because of a cached record
        registered = find_resources(server, resources, fresh=True)
        allowed = registered.limit(client, scope, detailed)
    if client.strict_scope and allowed != scope:
        raise InvalidScope("Not of a named resource: " + " ".join(sorted(scope - allowed)))
    return registered, allowed


def find_resources(server: AuthorizationServer, uris: frozenset[str], *, fresh: bool = False) -> Resources:
    """Return the resources with these URIs, in any spelling. Raises InvalidTarget when one is unknown.

    `fresh`: by their records as they are now, whatever is cached.
    """
    for uri in sorted(uris):
        _check_uri(uri)
    issuer = {uri for uri in uris if find((server.issuer,), uri)}
    records = server.resources(uris - issuer, fresh=fresh)
    if unknown := uris - issuer - records.keys():
        raise InvalidTarget("No resource is registered with this URI.", detail=_unknown(server, min(unknown)))
    by_uri = {record.uri: record for record in records.values()}
    if issuer:
        by_uri[server.issuer] = Resource(normalize(server.issuer), server.issuer, server.settings.name)
    return Resources(by_uri)


def list_registered(server: AuthorizationServer) -> RegisteredNames:
    """Return all registered resources and types of authorization details. They are read once in 60 s.

    While they cannot be read, those that were read last: clients must find the other metadata.
    """
    read_at, names = _remembered(server)
    if server.now() - read_at >= LIFETIME:
        read_at, names = server.now(), server.store.registered_names() or names
        server.process_memory["registered names"] = (read_at, names)
    return names


def _remembered(server: AuthorizationServer) -> tuple[int, RegisteredNames]:
    """Return what this process remembers of the registered names, and when it was read."""
    nothing = (-LIFETIME, RegisteredNames([], []))
    remembered: tuple[int, RegisteredNames] = server.process_memory.get("registered names", nothing)
    return remembered


def _unknown(server: AuthorizationServer, uri: str) -> str:
    """Return for the log which resource is unknown, and the similar ones of those that this process remembers.

    It reads nothing, because any caller can name an unknown resource.
    """
    near = near_misses(_remembered(server)[1].uris, uri)
    return f"{uri} (similar, registered: {' '.join(near)})" if near else uri


def _check_uri(uri: str) -> None:
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise InvalidTarget("The resource must be an absolute URI.") from error
    if not parts.scheme or "#" in uri:
        raise InvalidTarget("The resource must be an absolute URI without a fragment.")


def granted(server: AuthorizationServer, resource: str | None) -> Condition:
    """Return the condition on a grant that the resource was granted, in whichever spelling it is registered.

    None is the only one that was granted, or else the issuer.
    """
    if resource is None:
        at_most_one = attr("resource").not_exists() | attr("resource").size().lte(1)
        return at_most_one | attr("resource").contains(server.issuer)
    return reduce(or_, (attr("resource").contains(spelling) for spelling in spellings(resource)))


def is_granted(server: AuthorizationServer, resource: str | None, grant: Grant) -> bool:
    """Return whether `granted` holds for the resource of a token request."""
    if resource is None:
        return len(grant.resource) <= 1 or server.issuer in grant.resource
    return find(grant.resource, resource) is not None


def choose(
    server: AuthorizationServer,
    grant: Grant,
    resource: str | None,
    scope: frozenset[str],
    has_details: Callable[[str], bool] = lambda _uri: False,
) -> tuple[Resource | None, frozenset[str]]:
    """Return the resource that an access token of a grant is for, None for the issuer, and the scope that it carries.

    `resource`: the one that the token request names, which was granted. `has_details`: whether the token for this URI
    carries authorization details, and so needs no scope. Raises InvalidTarget when it is no longer
    registered, and InvalidScope when none of the scope is for it.
    """
    if not grant.resource:
        return None, scope
    default = next(iter(grant.resource)) if len(grant.resource) == 1 else server.issuer
    uri = default if resource is None else find(grant.resource, resource)
    if uri is None or uri not in grant.resource:
        raise InvalidTarget("The resource was not granted.")
    record = server.resources({uri}).get(uri) if uri != server.issuer else None
    if record is None and uri != server.issuer:
        raise InvalidTarget("The resource is no longer registered.", detail=uri)
    named = scopes_of(frozenset(each for each in grant.resource_scope if each.partition(" ")[0] == uri))
    carried = scope & named if named else scope - scopes_of(grant.resource_scope)
    if record and record.scopes:  # it may name fewer since, or was granted before it named any
        carried &= record.scopes
    if not carried and not has_details(uri):
        raise InvalidScope(f"The scope has none of the resource {uri}. Name another resource.")
    return record, carried
