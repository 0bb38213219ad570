"""The types of authorization details (RFC 9396), and what of them a client may have and an access token carries."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field

from chalicelib.http.messages import Params
from chalicelib.keys.client_keys import read_json
from chalicelib.protocol.authorization_details import (
    MAX_LENGTH,
    PARAMETER,
    are_part,
    check_array,
    check_members,
    from_text,
    type_of,
    types_in,
)
from chalicelib.protocol.authorization_type import AuthorizationType, type_key
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidAuthorizationDetails
from chalicelib.protocol.resource import Resource
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.storage.store import Records
from chalicelib.storage.table import Lookup
from chalicelib.tokens.resources import MAX_RESOURCES

MAX_PARAMETER = 65536  # what is longer is an invalid request; what is longer than MAX_LENGTH, invalid details
Types = Mapping[str, AuthorizationType]


@dataclass(frozen=True)
class RequestedDetails:
    """Authorization details that a client asks for, and by URI the resources whose access tokens carry them."""

    texts: tuple[str, ...] = ()
    types: Types = field(default_factory=dict)
    resources: Mapping[str, Resource] = field(default_factory=dict)


def parse_details(params: Params) -> tuple[str, ...] | None:
    """Return the stored form of the details in a request, None without any.

    Raises InvalidRequest for a repeated parameter, InvalidAuthorizationDetails for what is no array of details.
    """
    text = params.get(PARAMETER, at_most=MAX_PARAMETER, is_json=True)
    if text is None:
        return None
    if len(text) > MAX_LENGTH:
        raise InvalidAuthorizationDetails(f"The authorization_details are longer than {MAX_LENGTH} characters.")
    try:
        value = read_json(text)
    except ValueError as error:
        raise InvalidAuthorizationDetails("The authorization_details are not JSON, or repeat a member.") from error
    return check_array(value)


def read_details(server: AuthorizationServer, client: Client, params: Params) -> RequestedDetails:
    """Return the details in a request, which the client may ask for. Raises InvalidAuthorizationDetails, else as above.

    Only types that the client is registered for are looked up. No request is rejected because of a cached type.
    """
    texts = parse_details(params)
    if texts is None:
        return RequestedDetails()
    names = types_in(texts)
    if unregistered := sorted(names - client.details_types):
        raise InvalidAuthorizationDetails(f"The client is not registered for the type {unregistered[0][:100]}.")
    try:
        return _checked(server, texts, find_types(server, names))
    except InvalidAuthorizationDetails:
        server.caches.authorization_types.drop(names)
        return _checked(server, texts, find_types(server, names))


def _checked(server: AuthorizationServer, texts: tuple[str, ...], types: Types) -> RequestedDetails:
    for text in texts:
        if type_of(text) not in types:
            raise InvalidAuthorizationDetails(f"No type {type_of(text)[:100]} is registered.")
        check_members(types[type_of(text)], text)
    uris = frozenset[str]().union(*(target_uris(types[type_of(text)], text) or () for text in texts))
    if len(uris) > MAX_RESOURCES:  # before they are read, because any caller can name them
        raise InvalidAuthorizationDetails(f"The authorization_details are for more than {MAX_RESOURCES} resources.")
    resources = server.resources(uris - {server.issuer})
    if server.issuer in uris:
        raise InvalidAuthorizationDetails("The issuer is no location of authorization details.")
    for uri in sorted(uris):  # compared as they are written (RFC 9396 section 12)
        if uri not in resources or resources[uri].uri != uri:
            raise InvalidAuthorizationDetails(f"No resource is registered with the location {uri[:200]}.")
    for text in texts:
        of_type, locations = types[type_of(text)].uri, from_text(text).get("locations", [])
        if of_type and any(location != of_type for location in locations):
            raise InvalidAuthorizationDetails(f"The type {type_of(text)} has the only location {of_type}.")
    return RequestedDetails(texts, types, resources)


def target_uris(type_: AuthorizationType, text: str) -> frozenset[str] | None:
    """Return the resources whose access tokens carry an object, None for all: that of its type, or its locations."""
    if type_.uri:
        return frozenset({type_.uri})
    locations = from_text(text).get("locations")
    return None if locations is None else frozenset(locations)


def issuable(client: Client, texts: Iterable[str] | None, types: Types) -> tuple[str, ...]:
    """Return the granted objects that tokens can carry: their type exists, and the client is registered for it."""
    allowed = types.keys() & client.details_types
    return tuple(text for text in texts or () if type_of(text) in allowed)


def carried(
    client: Client, granted: Collection[str] | None, requested: tuple[str, ...] | None, types: Types
) -> tuple[str, ...]:
    """Return the objects that the access tokens of a grant carry, each for its resource.

    `requested`: what a token request asks for, None for all that was granted. Raises InvalidAuthorizationDetails when
    it asks for more, or for what can no longer be issued.
    """
    possible = issuable(client, granted, types)
    if requested is None:
        return possible
    if not are_part(requested, possible):
        raise InvalidAuthorizationDetails("The authorization_details exceed what was granted, or is still registered.")
    return requested


def split_by_resource(texts: Iterable[str], types: Types, uri: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the objects that access tokens for a resource carry, and the others. Their types are among `types`."""
    included: list[str] = []
    excluded: list[str] = []
    for text in texts:
        targets = target_uris(types[type_of(text)], text)
        (included if targets is None or uri in targets else excluded).append(text)
    return tuple(included), tuple(excluded)


# ---- the cache of types, as that of scopes


def find_types(server: AuthorizationServer, names: Collection[str]) -> Types:
    """Return the registered types among these, by name. They are cached for 60 s; the others are read in one call."""
    cached, lookups = cached_types(server, names)
    return {**cached, **cache_types(server, lookups, server.store.read_all(lookups))}


def cached_types(server: AuthorizationServer, names: Collection[str]) -> tuple[Types, list[Lookup[AuthorizationType]]]:
    """Return the types among these that are cached, and the lookups of the others.

    For a caller that reads them together with other records, and calls `cache_types`.
    """
    if not names:  # as those of most grants
        return {}, []
    recent = server.caches.authorization_types.recent(sorted(names), server.now())
    missing = sorted({*names} - recent.keys())
    return recent, [server.store.authorization_types.lookup(type_key(name)) for name in missing]


def cache_types(server: AuthorizationServer, lookups: Sequence[Lookup[AuthorizationType]], records: Records) -> Types:
    """Cache the types that a read has looked up, and return them by name. That there is none is never cached."""
    read = {type_.name: type_ for lookup in lookups if (type_ := records.get(lookup))}
    server.caches.authorization_types.update(read, server.now())
    return read
