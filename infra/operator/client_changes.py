"""What the options of `client create` and `client update` mean for the record of a client."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from chalicelib.clients.metadata import is_resource_server
from chalicelib.protocol.client import Client
from chalicelib.protocol.fapi import derived_members
from chalicelib.protocol.mutual_tls import SUBJECT_MEMBERS, TLS_CLIENT_AUTH
from infra.operator.joined_values import edit_list

# What an application on a device or in a page needs to sign users in, and to keep them signed in.
PUBLIC_SCOPE = "openid profile email offline_access"
# The members with options to add and remove single values, and what such a value is called.
LISTS = {
    "redirect_uris": "redirect URI",
    "allowed_origins": "allowed origin",
    "post_logout_redirect_uris": "post-logout redirect URI",
    "scope": "scope",
    "authorization_details_types": "authorization details type",
}


@dataclass(frozen=True)
class ClientChanges:
    """The changes of `client update`: members to replace, and values to add to or remove from a list."""

    members: dict[str, Any]
    add: dict[str, tuple[str, ...]]
    remove: dict[str, tuple[str, ...]]

    def __bool__(self) -> bool:
        return bool(self.members or any(self.add.values()) or any(self.remove.values()))

    def apply(self, client: Client) -> Client:
        """Return the changed client. Raises CommandError when a value to remove is not in its list."""
        changed = replace(client, **with_response_types(self.members, client.response_types))
        for name, what in LISTS.items():
            is_text = name == "scope"
            before = tuple(changed.scope.split() if is_text else getattr(changed, name) or ())
            add, remove = self.add.get(name, ()), self.remove.get(name, ())
            article = "an" if what[0] in "aeiou" else "a"
            after = edit_list(before, add, remove, f"{article} {what} of {client.client_id}")
            if after != before:
                members: dict[str, Any] = {name: " ".join(after) if is_text else after}
                changed = replace(changed, **members)
        return replace(changed, **derived_members(changed, self.members)) if self.members.get("profile") else changed


def with_response_types(members: dict[str, Any], before: tuple[str, ...] = ("code",)) -> dict[str, Any]:
    """Return the members with response types that match the grant types (RFC 7591 section 2.1), unless they are given.

    A client whose id is a URI is a resource server, which has no grant types unless they are given.
    """
    if is_resource_server(str(members.get("client_id", ""))):
        members = {"grant_types": (), **members}
    if "grant_types" not in members or "response_types" in members:
        return members
    types = (before or ("code",)) if "authorization_code" in members["grant_types"] else ()
    return {**members, "response_types": types}


def with_key_method(members: dict[str, Any]) -> dict[str, Any]:
    """Return the members of a new client: with keys, it authenticates by them, unless its methods are given.

    So does one whose certificate must have a name (RFC 8705).
    """
    if not members.keys().isdisjoint(SUBJECT_MEMBERS):
        return {"token_endpoint_auth_methods": (TLS_CLIENT_AUTH,), **members}
    if "jwks" not in members and "jwks_uri" not in members:
        return members
    return {"token_endpoint_auth_methods": ("private_key_jwt",), **members}


def with_default_scope(members: dict[str, Any]) -> dict[str, Any]:
    """Return the members of a new client, with the default scope of a public client that signs users in."""
    grant_types = members.get("grant_types", Client.grant_types)
    if members.get("token_endpoint_auth_methods") != ("none",) or "authorization_code" not in grant_types:
        return members
    refreshes = "refresh_token" in grant_types
    return {"scope": PUBLIC_SCOPE if refreshes else PUBLIC_SCOPE.removesuffix(" offline_access"), **members}


def with_profile(members: dict[str, Any], given: Collection[str]) -> dict[str, Any]:
    """Return the members of a new client, with those that follow from its profile and were not `given`."""
    if not members.get("profile"):
        return members
    required = {"client_id": "", "client_name": "", "redirect_uris": ()}
    return {**members, **derived_members(Client(**{**required, **members}), given)}
