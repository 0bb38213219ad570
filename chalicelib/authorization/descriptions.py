"""What a request asks for, in words for the user: the permissions, and when the access ends."""

from chalicelib.protocol import claims
from chalicelib.protocol.authorization_details import Description, describe, type_of, types_in
from chalicelib.protocol.client import Client
from chalicelib.protocol.durations import in_words
from chalicelib.protocol.errors import InvalidAuthorizationDetails
from chalicelib.protocol.grant import ends_with_session
from chalicelib.protocol.records import AuthorizationRequest, Consent
from chalicelib.protocol.resource import Resource
from chalicelib.protocol.texts import Text
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.tokens.authorization_details import find_types
from chalicelib.tokens.issue import access_token_lifetime, max_refresh_lifetime, refresh_token_lifetime

NamedResources = list[Resource]
Details = list[Description]


@dataclass(frozen=True)
class Permission:
    """A scope or a claim that the client asks for: its name, its description, and whether it was allowed before.

    `resource`: the one whose scope it is, None if no named resource understands it.
    """

    name: str
    description: str
    allowed: bool
    resource: Resource | None = None


def named_resources(server: AuthorizationServer, request: AuthorizationRequest) -> NamedResources:
    """Return the resources that a request names, in the order of their names; without the issuer."""
    resources = server.resources(request.resource - {server.issuer}).values()
    return sorted(resources, key=lambda resource: (resource.name, resource.uri))


def describe_permissions(
    server: AuthorizationServer, request: AuthorizationRequest, consent: Consent | None
) -> list[Permission]:
    """Return what is asked for and what was allowed before, scopes and then claims, in the order for users to read.

    A scope and a claim may have one name, and are two permissions; so are one scope of two resources. Of the scopes of
    resources, only those that are asked for are returned.
    """
    consent = consent or Consent("", "")
    scope = request.scope_of_no_resource | consent.scope
    names = claims.requested_outside_scope(request.claims, scope) | claims.outside_scope(consent.claims, scope)
    descriptions = server.scope_descriptions(scope | request.scope)
    scopes = [
        Permission(name, description, name in consent.scope)
        for name, description in descriptions.items()
        if name in scope
    ]
    scopes += [
        Permission(name, description, key in consent.resource_scope, resource)
        for resource in named_resources(server, request)
        for name, description in descriptions.items()
        if (key := f"{resource.uri} {name}") in request.resource_scope
    ]
    return scopes + [Permission(name, claims.describe_claim(name), name in consent.claims) for name in sorted(names)]


def describe_details(server: AuthorizationServer, request: AuthorizationRequest) -> Details:
    """Return the authorization details of a request in words for the user, with every value.

    Raises InvalidAuthorizationDetails when a type was deleted since: the user would not see what is allowed.
    """
    texts = request.authorization_details or ()
    types = find_types(server, types_in(texts))
    if missing := sorted(types_in(texts) - types.keys()):
        raise InvalidAuthorizationDetails(f"No type {missing[0]} is registered any longer.")
    return [describe(types[type_of(text)], text) for text in texts]


def describe_access_end(server: AuthorizationServer, client: Client, scope: frozenset[str]) -> str:
    """Return a sentence for the user that says when the access of an application ends by itself."""
    settings, with_session = server.settings, ends_with_session(scope)
    longest, idle = max_refresh_lifetime(server, client), refresh_token_lifetime(server, client)
    if not idle:  # no refresh tokens
        access = in_words(access_token_lifetime(server, client))
        if with_session:
            return Text("Access ends when you sign out, and after %(longest)s at the latest.", longest=access)
        return Text("Access ends after %(longest)s at the latest.", longest=access)
    unused = in_words(min(idle, settings.session_idle_lifetime) if with_session else idle)
    if with_session and settings.session_absolute_lifetime < longest:
        return Text(
            "Access ends when you sign out, when it is not used for %(unused)s, and %(longest)s after you last signed "
            "in.",
            unused=unused,
            longest=in_words(settings.session_absolute_lifetime),
        )
    if with_session:
        return Text(
            "Access ends when you sign out, when it is not used for %(unused)s, and after %(longest)s at the latest.",
            unused=unused,
            longest=in_words(longest),
        )
    return Text(
        "Access continues when you sign out. It ends when it is not used for %(unused)s, and after %(longest)s at the "
        "latest.",
        unused=unused,
        longest=in_words(longest),
    )
