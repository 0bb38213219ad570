"""What a redeemed grant is turned into: access token, ID token, and the token response that carries them."""

from typing import Any

from chalicelib import claims
from chalicelib.errors import InvalidScope
from chalicelib.handles import new_id
from chalicelib.models import NO_SCOPE, Client, Grant, User
from chalicelib.server import AuthorizationServer
from chalicelib.signing import half_hash
from chalicelib.subjects import sid, subject_of

ACCESS_TOKEN_TYPE = "at+jwt"  # noqa: S105  RFC 9068 section 2.1
ID_TOKEN_TYPE = "JWT"  # noqa: S105


def access_token_lifetime(server: AuthorizationServer, client: Client) -> int:
    """Seconds: the client's own, or the server's."""
    return client.access_token_lifetime or server.settings.access_token_lifetime


def refresh_token_lifetime(server: AuthorizationServer, client: Client) -> int:
    """Seconds that a refresh token lives unused; 0 for a client that gets none."""
    if "refresh_token" not in client.grant_types:
        return 0
    return client.refresh_token_lifetime or server.settings.refresh_token_lifetime


def issue(
    server: AuthorizationServer,
    client: Client,
    grant: Grant,
    scope: frozenset[str],
    refresh_token: str | None = None,
    nonce: str | None = None,
    resource: frozenset[str] = NO_SCOPE,
) -> dict[str, Any]:
    """The members of a token response (RFC 6749 section 5.1, OpenID Connect Core section 3.1.3.3).

    `scope` and `resource` are what this access token is good for, the grant's own or less; no resource means all.
    `nonce` goes into the ID token, which is there when `scope` has `openid`. Raises InvalidScope when the client may
    ask for nothing of it any more.
    """
    now, scope = server.now(), _still_allowed(server, client, scope)
    # A token does not outlive its grant.
    end = grant.expires_at if refresh_token is None else min(grant.expires_at, grant.ends_at)
    expires_in = min(access_token_lifetime(server, client), end - now)
    access_token = _access_token(server, client, grant, scope, resource or grant.resource, now + expires_in)
    members = {
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": expires_in,
        "refresh_token": refresh_token,
        "scope": words(scope),
    }
    if "openid" in scope:
        members["id_token"] = id_token(
            server, client, grant, nonce=nonce, access_token=access_token, expires_at=now + expires_in
        )
    return members


def _still_allowed(server: AuthorizationServer, client: Client, scope: frozenset[str]) -> frozenset[str]:
    """What of a scope the client may still have: the operator may have taken some of it away since it was granted."""
    if scope <= client.scopes:
        return scope
    known = server.client(client.client_id, fresh=True)  # nothing is left out because of what the cached record says
    left = scope & known.scopes if known else NO_SCOPE
    if not left:
        raise InvalidScope("The client is not registered any more for what was granted.")
    return left


def words(scope: frozenset[str]) -> str:
    """A scope as a string (RFC 6749 section 3.3), in a stable order."""
    return " ".join(sorted(scope))


def _access_token(
    server: AuthorizationServer,
    client: Client,
    grant: Grant,
    scope: frozenset[str],
    resource: frozenset[str],
    expires_at: int,
) -> str:
    """RFC 9068 section 2.2. It is meant for the resources, and for UserInfo where the scope has `openid`."""
    audience = sorted(resource | ({server.issuer} if "openid" in scope or not resource else NO_SCOPE))
    members: dict[str, Any] = {
        "iss": server.issuer,
        "sub": subject_of(server, client, grant),
        "aud": audience if len(audience) > 1 else audience[0],
        "exp": expires_at,
        "iat": server.now(),
        "jti": new_id(),
        "client_id": client.client_id,
        "scope": words(scope),
        "grant_id": grant.grant_id,
    }
    if grant.session_id:  # else nobody has signed in
        members["auth_time"] = grant.auth_time
    return server.keys.sign(members, ACCESS_TOKEN_TYPE, client.access_token_signed_response_alg)


def id_token(
    server: AuthorizationServer,
    client: Client,
    grant: Grant,
    *,
    nonce: str | None = None,
    access_token: str | None = None,
    code: str | None = None,
    expires_at: int | None = None,
    user: User | None = None,
) -> str:
    """An ID token (OpenID Connect Core section 2). One audience, hence no `azp`.

    It vouches for the `access_token` or `code` that comes with it. It lives as long as an access token, if nothing else
    is said. `user`: the person of the grant, if known; otherwise read, should the `claims` parameter have asked for
    something to stand here.
    """
    now, alg = server.now(), client.id_token_signed_response_alg
    members: dict[str, Any] = {
        "iss": server.issuer,
        "sub": subject_of(server, client, grant),
        "aud": client.client_id,
        "exp": expires_at or now + access_token_lifetime(server, client),
        "iat": now,
        "auth_time": grant.auth_time,
        "acr": claims.ACR_VALUES[0],
        "amr": list(grant.amr),
        "sid": sid(grant.session_id, client.client_id),
        "nonce": nonce,
        "at_hash": half_hash(alg, access_token) if access_token else None,
        "c_hash": half_hash(alg, code) if code else None,
    }
    if names := claims.named(grant.claims, "id_token"):
        person = user or server.store.users.get(grant.sub)
        members |= claims.of_user(person, (), names) if person else {}
    present = {name: value for name, value in members.items() if value is not None}
    return server.keys.sign(present, ID_TOKEN_TYPE, alg)
