"""Clients that register themselves (RFC 7591) and manage their registration (RFC 7592).

The registration access token is stored as its SHA-256. An update replaces it; the one that was used works a minute
longer, so that an update whose answer was lost can be repeated.
"""

import secrets
from dataclasses import asdict, replace
from typing import Any

from chalicelib.clients.authorization_types import self_registered_types
from chalicelib.clients.client_lifetime import UNUSED_LIFETIME
from chalicelib.clients.registration import checked
from chalicelib.clients.registration_body import client_members
from chalicelib.clients.registration_limits import CHALLENGE
from chalicelib.http.messages import with_query
from chalicelib.protocol.client import Client
from chalicelib.protocol.durations import MINUTE
from chalicelib.protocol.errors import InvalidClientMetadata, InvalidRedirectUri, InvalidToken, TemporarilyUnavailable
from chalicelib.protocol.handles import new_id, secret_hash
from chalicelib.server import AuthorizationServer
from chalicelib.storage.dynamodb import Condition, attr
from chalicelib.storage.table import Refused

RETRY_WINDOW = MINUTE
OPEN = "open"  # `registered_with` of a client without an initial access token
_NO_HASH = secret_hash("")
# The members of a response that are those of the record.
_RETURNED = (
    *("client_id", "client_id_issued_at", "client_name", "redirect_uris", "grant_types", "response_types"),
    *("token_endpoint_auth_method", "jwks", "jwks_uri", "logo_uri", "client_uri", "policy_uri", "tos_uri"),
    *("post_logout_redirect_uris", "backchannel_logout_uri", "id_token_signed_response_alg"),
    *("userinfo_signed_response_alg", "subject_type", "authorization_signed_response_alg", "default_acr_values"),
    *("introspection_signed_response_alg", "request_object_signing_alg"),
    "authorization_details_types",
)
_IF_TRUE = (
    *("backchannel_logout_session_required", "require_pushed_authorization_requests"),
    *("dpop_bound_access_tokens", "require_signed_request_object"),
)
# Who may get the responses and tokens of a client: another value ends what users have allowed.
_IDENTITY = ("redirect_uris", "public", "has_secret_method", "jwks", "jwks_uri")


def new_client(server: AuthorizationServer, body: dict[str, Any]) -> tuple[Client, dict[str, Any]]:
    """Return a client to be stored, and the response that tells its secrets.

    Raises InvalidRedirectUri and InvalidClientMetadata.
    """
    now, token, secret = server.now(), secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    client = Client(
        client_id=new_id(),
        client_id_issued_at=now,
        registration_id=new_id(),
        registered_with=OPEN,
        registration_token_hash=secret_hash(token),
        expires_at=now + UNUSED_LIFETIME,
        authorization_details_types=self_registered_types(server.store, body),
        **client_members(body, server.settings.open_client_policy),
    )
    client = _checked(server, client)
    if client.has_secret_method:
        client = replace(client, secret_hashes=(secret_hash(secret),))
    return client, response_members(server, client, token, secret if client.has_secret_method else None)


def response_members(
    server: AuthorizationServer, client: Client, token: str, secret: str | None = None
) -> dict[str, Any]:
    """Return a client information response (RFC 7591 section 3.2.1, RFC 7592 section 3)."""
    record = asdict(client)
    members = {name: list(value) if isinstance(value := record[name], tuple) else value for name in _RETURNED} | {
        name: record[name] or None for name in _IF_TRUE
    }
    members["scope"] = client.default_scope or client.scope
    if secret:
        members |= {"client_secret": secret, "client_secret_expires_at": 0}
    uri = server.issuer + server.addresses["registration_endpoint"]
    uri = with_query(uri, {"client_id": client.client_id})
    return members | {"registration_access_token": token, "registration_client_uri": uri}


def authenticate(server: AuthorizationServer, client_id: str | None, token: str | None) -> Client:
    """Return the client that a registration access token is for.

    Raises InvalidToken, in the same way and after the same read for an unknown client as for a wrong token.
    """
    client = server.store.clients.get(client_id or "-")
    if not _is_authentic(server, client, secret_hash(token or "")) or client is None:
        raise _invalid()
    return client


def update(
    server: AuthorizationServer, client: Client, token: str, body: dict[str, Any]
) -> tuple[Client, dict[str, Any]]:
    """Replace the metadata of a client (RFC 7592 section 2.2); return its record and the response with a new token.

    Another redirect URI, key or authentication method ends its grants and consents. Raises InvalidToken, when the
    client was deleted or its token replaced in between, InvalidRedirectUri and InvalidClientMetadata.
    """
    new_token, new_secret, presented = secrets.token_urlsafe(32), secrets.token_urlsafe(32), secret_hash(token)
    if body.get("client_id") != client.client_id:
        raise InvalidClientMetadata("The client_id in the body must be that of the client.")
    _check_secret(client, body.get("client_secret"))
    types = self_registered_types(server.store, body)

    def change(current: Client) -> Client:
        if not _is_authentic(server, current, presented):
            raise _invalid()
        repeated = presented != current.registration_token_hash
        # What the operator has set stays, except privileges: they were given to the earlier application.
        changed = replace(
            current,
            trusted=False,
            direct_sign_in=False,
            default_redirect_uri=None,
            authorization_details_types=types,
            registration_token_hash=secret_hash(new_token),
            previous_registration_token_hash=presented,
            # A repeated update does not make the earlier token last longer.
            registration_token_replaced_at=current.registration_token_replaced_at if repeated else server.now(),
            **client_members(body, server.settings.open_client_policy),
        )
        changed = _checked(server, changed)
        if not changed.has_secret_method or not changed.secret_hashes:
            changed = replace(changed, secret_hashes=(secret_hash(new_secret),) if changed.has_secret_method else ())
        elif repeated and "client_secret" not in body:  # the answer that was lost may have had the secret
            changed = replace(changed, secret_hashes=(*changed.secret_hashes[-1:], secret_hash(new_secret)))
        if any(getattr(changed, name) != getattr(current, name) for name in _IDENTITY):
            changed = replace(changed, grants_generation=current.grants_generation + 1)
        return changed

    changed = server.store.amend(server.store.clients, client, change)
    if isinstance(changed, Refused):
        raise _invalid()
    server.cache_client(changed.client_id, changed)
    shown = new_secret if secret_hash(new_secret) in changed.secret_hashes else None
    return changed, response_members(server, changed, new_token, shown)


def delete(server: AuthorizationServer, client: Client, token: str) -> None:
    """Delete a client, which ends its grants (RFC 7592 section 2.3). Raises InvalidToken when it was deleted before."""
    store = server.store
    deleting = store.clients.deleting((client.client_id,), _proof(server, secret_hash(token)))
    refused = store.transact(deleting)
    server.cache_client(client.client_id, None)
    if refused:
        raise _invalid()


def _checked(server: AuthorizationServer, client: Client) -> Client:
    """Return a client whose members are valid, and allowed by the operator's policy.

    Raises InvalidRedirectUri and InvalidClientMetadata.
    """
    client, policy = checked(server.store, client), server.settings.open_client_policy
    if policy.allowed(client.redirect_uris) != client.redirect_uris:
        raise InvalidRedirectUri(
            "An application may register redirect URIs of these kinds here: " + ", ".join(policy.redirects)
        )
    return client


def _check_secret(client: Client, secret: object) -> None:
    """Check the secret that an update repeats, which it cannot choose (RFC 7592 section 2.2)."""
    if secret is None:
        return
    presented = secret_hash(secret) if isinstance(secret, str) else ""
    if not any(secrets.compare_digest(presented, stored) for stored in client.secret_hashes):
        raise InvalidClientMetadata("The client_secret in the body must be that of the client.")


def _is_authentic(server: AuthorizationServer, client: Client | None, presented: str) -> bool:
    """Return whether a client has a registration access token with this hash. Compares in constant time."""
    current = (client and client.registration_token_hash) or _NO_HASH
    previous = (client and client.previous_registration_token_hash) or _NO_HASH
    replaced_at = (client and client.registration_token_replaced_at) or 0
    is_current, is_previous = (secrets.compare_digest(presented, stored) for stored in (current, previous))
    recent = server.now() - replaced_at < RETRY_WINDOW
    usable = client is not None and client.registered_with is not None and client.disabled_at is None
    return usable and presented != _NO_HASH and (is_current or (is_previous and recent))


def _proof(server: AuthorizationServer, presented: str) -> Condition:
    """Return the condition that a stored client has a registration access token with this hash, and is enabled."""
    recent = attr("registration_token_replaced_at").gt(server.now() - RETRY_WINDOW)
    valid = attr("registration_token_hash").eq(presented)
    valid |= attr("previous_registration_token_hash").eq(presented) & recent
    return valid & attr("disabled_at").not_exists()


def _invalid() -> InvalidToken:
    text = "The client is unknown, or the registration access token is not its current one."
    return InvalidToken(text, headers={"WWW-Authenticate": CHALLENGE + ', error="invalid_token"'})


def store_new(server: AuthorizationServer, client: Client) -> None:
    """Store a new client. Raises TemporarilyUnavailable."""
    if not server.store.clients.insert(client):
        raise TemporarilyUnavailable(detail="a client with this random id exists")
