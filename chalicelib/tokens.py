"""What a redeemed grant is turned into: access token, ID token, and the token response that carries them."""

import hashlib
from typing import Any

from chalicelib.handles import base64url, new_id
from chalicelib.models import Client, Grant
from chalicelib.server import AuthorizationServer

ACCESS_TOKEN_TYPE = "at+jwt"  # noqa: S105  RFC 9068 section 2.1


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
    refresh_token: str | None,
    nonce: str | None = None,
) -> dict[str, Any]:
    """The members of a token response (RFC 6749 section 5.1, OpenID Connect Core section 3.1.3.3).

    `scope` is what this access token is good for, the grant's own or less. `nonce` goes into the ID token, which is
    there when `scope` has `openid`.
    """
    now = server.now()
    # A token does not outlive its grant.
    end = grant.expires_at if refresh_token is None else min(grant.expires_at, grant.ends_at)
    expires_in = min(access_token_lifetime(server, client), end - now)
    access_token = server.keys.sign(
        {
            "iss": server.issuer,
            "sub": grant.sub,
            "aud": server.issuer,
            "exp": now + expires_in,
            "iat": now,
            "jti": new_id(),
            "client_id": client.client_id,
            "scope": words(scope),
            "auth_time": grant.auth_time,
            "grant_id": grant.grant_id,
        },
        ACCESS_TOKEN_TYPE,
    )
    members = {
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": expires_in,
        "refresh_token": refresh_token,
        "scope": words(scope),
    }
    if "openid" in scope:
        members["id_token"] = _id_token(server, client, grant, access_token, nonce, now + expires_in)
    return members


def words(scope: frozenset[str]) -> str:
    """A scope as a string (RFC 6749 section 3.3), in a stable order."""
    return " ".join(sorted(scope))


def _id_token(
    server: AuthorizationServer, client: Client, grant: Grant, access_token: str, nonce: str | None, expires_at: int
) -> str:
    """OpenID Connect Core section 2. One audience, hence no `azp`."""
    claims: dict[str, Any] = {
        "iss": server.issuer,
        "sub": grant.sub,
        "aud": client.client_id,
        "exp": expires_at,
        "iat": server.now(),
        "auth_time": grant.auth_time,
        "amr": list(grant.amr),
        "at_hash": half_hash(access_token),
    }
    claims |= {} if nonce is None else {"nonce": nonce}
    return server.keys.sign(claims, "JWT", client.id_token_signed_response_alg)


def half_hash(value: str) -> str:
    """`at_hash` (OpenID Connect Core section 3.1.3.6): the left half of the SHA-256, base64url."""
    return base64url(hashlib.sha256(value.encode()).digest()[:16])
