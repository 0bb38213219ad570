"""/oauth2/introspect: token introspection (RFC 7662)."""

from collections.abc import Mapping
from typing import Any

from chalicelib.client_auth import CHALLENGE, authenticate_client
from chalicelib.errors import InvalidClient, InvalidToken
from chalicelib.handles import Handle
from chalicelib.messages import Request, Response, json_response
from chalicelib.models import Client
from chalicelib.server import AuthorizationServer
from chalicelib.subjects import subject_of
from chalicelib.tokens import ACCESS_TOKEN_TYPE, words

INACTIVE = {"active": False}
# The members of an access token that its holder and its audience may read (RFC 7662 section 2.2)
TOLD = ("scope", "client_id", "sub", "aud", "iss", "exp", "iat", "jti", "auth_time")


def post(server: AuthorizationServer, http: Request) -> Response:
    """What a token is good for at this moment: the grant is looked at, so revocation counts at once.

    A caller learns of tokens that it holds, and of access tokens that are meant for it. Anything else is not active,
    and the answer does not say why (section 2.2). Raises InvalidClient unless the caller proves who it is.
    """
    form = http.form()
    caller = authenticate_client(server, http, form)
    if caller.public:  # section 2.1: or anybody could try tokens here
        raise InvalidClient("Only a client that can keep a secret may ask about tokens.", headers=CHALLENGE)
    token = form.required("token", at_most=8192)
    form.one("token_type_hint")  # of no use: a handle is told from a JWT by its looks (section 2.1)
    handle = server.keys.read_handle("rt", token)
    found = _refresh_token(server, caller, handle) if handle else _access_token(server, caller, token)
    return json_response(found or INACTIVE)


def _refresh_token(server: AuthorizationServer, caller: Client, handle: Handle) -> Mapping[str, Any] | None:
    grant = server.store.grants.get(handle.id)
    if grant is None or grant.revoked_at is not None or grant.client_id != caller.client_id:
        return None
    # One that has been replaced is at best the retry of a lost answer: only its successor is told to be good.
    if (
        grant.generation != handle.generation
        or grant.ends_at <= server.now()
        or "refresh_token" not in caller.grant_types
    ):
        return None
    return {
        "active": True,
        "scope": words(grant.scope),
        "client_id": grant.client_id,
        "sub": subject_of(server, caller, grant),
        "iss": server.issuer,
        "exp": min(grant.expires_at, grant.ends_at),
        "auth_time": grant.auth_time,
    }


def _access_token(server: AuthorizationServer, caller: Client, token: str) -> Mapping[str, Any] | None:
    try:
        known = server.keys.verify(token, ACCESS_TOKEN_TYPE, server.issuer)
    except InvalidToken:
        return None
    audience = [known["aud"]] if isinstance(known["aud"], str) else known["aud"]
    if caller.client_id not in (known["client_id"], *audience):
        return None
    grant = server.store.grants.get(known["grant_id"])
    if grant is None or grant.revoked_at is not None or server.client(known["client_id"]) is None:
        return None
    return {"active": True, "token_type": "Bearer"} | {name: known[name] for name in TOLD if name in known}
