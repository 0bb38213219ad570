"""Token responses: the access token and the ID token of a grant."""

from collections.abc import Iterable
from typing import Any

from chalicelib.keys.signing import half_hash
from chalicelib.protocol import claims, fapi
from chalicelib.protocol.authorization_details import PARAMETER, from_text
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidAuthorizationDetails, InvalidScope, ServerError
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.own_scope import Scope, released_claims
from chalicelib.protocol.records import NO_SCOPE, User
from chalicelib.protocol.resource import Resource
from chalicelib.server import AuthorizationServer
from chalicelib.tokens import resources
from chalicelib.tokens.authorization_details import Types, carried, split_by_resource
from chalicelib.tokens.subjects import grant_subject, sid

ACCESS_TOKEN_TYPE = "at+jwt"  # noqa: S105  RFC 9068 section 2.1
ID_TOKEN_TYPE = "JWT"  # noqa: S105
MAX_TOKEN = 16384  # characters of a token in a form; authorization details make an access token long


def access_token_lifetime(server: AuthorizationServer, client: Client, resource: Resource | None = None) -> int:
    """Return the lifetime of an access token in seconds: the shorter one of those of its client and its resource."""
    own = (client.access_token_lifetime, resource.access_token_lifetime if resource else None)
    return min(filter(None, own), default=server.settings.access_token_lifetime)


def refresh_token_lifetime(server: AuthorizationServer, client: Client) -> int:
    """Return the lifetime of an unused refresh token in seconds; 0 for a client that gets none."""
    if "refresh_token" not in client.grant_types:
        return 0
    return client.refresh_token_lifetime or server.settings.refresh_token_lifetime


def refresh_token_retry_window(server: AuthorizationServer, client: Client) -> int:
    """Return for how many seconds an earlier refresh token returns the current one again; 0 is never."""
    own = client.refresh_token_retry_window
    return server.settings.refresh_token_retry_window if own is None else own


def rotates_refresh_tokens(client: Client) -> bool:
    """Return whether each refresh replaces the refresh token.

    Not with a profile of FAPI 2.0 (Security Profile section 5.3.2.1, clause 9): such a token is useless without the
    authentication of the client, and nothing is lost with an answer that did not arrive.
    """
    return client.profile is None


def max_refresh_lifetime(server: AuthorizationServer, client: Client) -> int:
    """Return for how many seconds after its creation a grant can be refreshed; 0 without refresh tokens."""
    return server.settings.refresh_token_absolute_lifetime if refresh_token_lifetime(server, client) else 0


def issue(
    server: AuthorizationServer,
    client: Client,
    grant: Grant,
    scope: frozenset[str],
    refresh_token: str | None = None,
    nonce: str | None = None,
    resource: str | None = None,
    user: User | None = None,
    jkt: str | None = None,
    x5t: str | None = None,
    own_scopes: Iterable[Scope] = (),
    details: tuple[str, ...] | None = None,
    types: Types | None = None,
) -> dict[str, Any]:
    """Return the members of a token response (RFC 6749 section 5.1, OpenID Connect Core section 3.1.3.3).

    `scope` limits the access token, and is that of the grant or less. `resource`: the one of the grant that the access
    token is for, None if the request names none. `nonce` is for the ID token, which is issued when `scope` has
    `openid`; `user` is the user of the grant, `own_scopes` are the operator's among its scopes. `jkt`: the
    key that the access token is bound to, or `x5t`: the certificate. `details`: the authorization details that the
    token request asks for, None for all that the resource may have; `types` are those of the grant's. Raises
    InvalidScope when the client is no longer registered for any of the scope, as `resources.choose`, and
    InvalidAuthorizationDetails.
    """
    if client.tls_client_certificate_bound_access_tokens and not (x5t or jkt):
        current = server.read_client(client.client_id)  # the caller's may be an older copy
        if current is None or current.tls_client_certificate_bound_access_tokens:
            raise ServerError(detail="a grant type does not bind its access token to the client's certificate")
    now, scope = server.now(), limit_to_registration(server, client, scope) if scope else scope
    types = types or {}
    of_grant = carried(client, grant.authorization_details, details, types)

    def has_details(uri: str) -> bool:
        return bool(split_by_resource(of_grant, types, uri)[0])

    target, token_scope = resources.choose(server, grant, resource, scope, has_details)
    included, excluded = split_by_resource(of_grant, types, target.uri if target else server.issuer)
    if details is not None and excluded:
        raise InvalidAuthorizationDetails("The authorization_details are not all for the resource of the token.")
    # A token does not outlive its grant.
    end = grant.expires_at if refresh_token is None else min(grant.expires_at, grant.ends_at)
    expires_in = min(access_token_lifetime(server, client, target), end - now)
    names = released_claims(own_scopes, token_scope, "access_token", client)
    about_user = claims.user_claims(user, NO_SCOPE, names) if user else {}
    confirmation = {"jkt": jkt} if jkt else {"x5t#S256": x5t} if x5t else {}  # RFC 9449 6.1, RFC 8705 3.1
    further = about_user | ({PARAMETER: [from_text(text) for text in included]} if included else {})
    access_token = _access_token(server, client, grant, token_scope, target, now + expires_in, further, confirmation)
    members = {
        "access_token": access_token,
        "token_type": "DPoP" if jkt else "Bearer",
        "expires_in": expires_in,
        "refresh_token": refresh_token,
        "scope": format_scope(token_scope),
        PARAMETER: further.get(PARAMETER),
    }
    if "openid" in scope:
        released = scope if client.id_token_claims_from_scope else NO_SCOPE
        members["id_token"] = id_token(
            server,
            client,
            grant,
            user=user,
            nonce=nonce,
            access_token=access_token,
            expires_at=now + expires_in,
            released=released,
            also=released_claims(own_scopes, scope, "id_token", client),
        )
    return members


def registered_scope(server: AuthorizationServer, client: Client, scope: frozenset[str]) -> frozenset[str]:
    """Return the part of a scope that the client is registered for; if that is not all, by a record read again."""
    if scope <= client.scopes:
        return scope
    current = server.read_client(client.client_id)
    return scope & current.scopes if current else NO_SCOPE


def limit_to_registration(server: AuthorizationServer, client: Client, scope: frozenset[str]) -> frozenset[str]:
    """Return the part of a scope that the client is still registered for. Raises InvalidScope when that is nothing."""
    allowed = registered_scope(server, client, scope)
    if not allowed:
        raise InvalidScope("The client is no longer registered for the scope of this grant.")
    return allowed


def format_scope(scope: frozenset[str]) -> str:
    """Return a scope as a string (RFC 6749 section 3.3), sorted."""
    return " ".join(sorted(scope))


def _access_token(
    server: AuthorizationServer,
    client: Client,
    grant: Grant,
    scope: frozenset[str],
    resource: Resource | None,
    expires_at: int,
    further: dict[str, Any],
    confirmation: dict[str, str],
) -> str:
    """Return an access token (RFC 9068 section 2.2) for a resource, or for UserInfo when there is none.

    With the issuer in its audience, every resource server could read the claims of the user at UserInfo. `further`: the
    claims that the operator's scopes release in it, and the authorization details (RFC 9396 section 9.1).
    """
    members: dict[str, Any] = further | {
        "iss": server.issuer,
        "sub": grant_subject(server, client, grant),
        "aud": resource.uri if resource else server.issuer,
        "exp": expires_at,
        "iat": server.now(),
        "jti": new_id(),
        "client_id": client.client_id,
        "grant_id": grant.grant_id,
    }
    if scope:
        members["scope"] = format_scope(scope)
    if confirmation:
        members["cnf"] = confirmation
    if grant.has_user:  # no user signs in with client_credentials
        members["auth_time"] = grant.auth_time
        members["acr"] = server.settings.authentication_policy.reached(grant.amr)  # RFC 9470 section 6.1
    alg = resource.access_token_signed_response_alg if resource else None
    if alg is None or not fapi.allows_algorithm(client, alg):
        alg = client.access_token_signed_response_alg
    return server.keys.sign(members, ACCESS_TOKEN_TYPE, alg)


def id_token(
    server: AuthorizationServer,
    client: Client,
    grant: Grant,
    *,
    user: User | None,
    nonce: str | None = None,
    access_token: str | None = None,
    code: str | None = None,
    expires_at: int | None = None,
    released: frozenset[str] = NO_SCOPE,
    also: frozenset[str] = frozenset(),
) -> str:
    """Return an ID token (OpenID Connect Core section 2). It has one audience, so that it needs no `azp`.

    It has the hash of the `access_token` or `code` that is issued with it. By default it expires with an access token.
    `user`: the user of the grant, whose claims it has if the `claims` parameter requests them in the ID token, or a
    standard scope in `released` includes them, or they are in `also`.
    """
    now, alg = server.now(), client.id_token_signed_response_alg
    members: dict[str, Any] = {
        "iss": server.issuer,
        "sub": grant_subject(server, client, grant),
        "aud": client.client_id,
        "exp": expires_at or now + access_token_lifetime(server, client),
        "iat": now,
        "auth_time": grant.auth_time,
        "acr": server.settings.authentication_policy.reached(grant.amr),
        "amr": list(grant.amr),
        "sid": sid(grant.session_id, client.client_id),
        "nonce": nonce,
        "at_hash": half_hash(alg, access_token) if access_token else None,
        "c_hash": half_hash(alg, code) if code else None,
    }
    present = {name: value for name, value in members.items() if value is not None}
    if user:
        names = claims.requested_claims(grant.claims, "id_token") if grant.claims else frozenset[str]()
        present = claims.user_claims(user, released, names | also) | present
    return server.keys.sign(present, ID_TOKEN_TYPE, alg)
