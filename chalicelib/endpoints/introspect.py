"""/oauth2/introspect: token introspection (RFC 7662), in JSON or as a signed JWT (RFC 9701)."""

from collections.abc import Mapping
from typing import Any

from chalicelib.clients.authentication import authenticate_client
from chalicelib.http.messages import NO_STORE, Request, Response, json_response, present_members
from chalicelib.keys.signing import ALGORITHMS
from chalicelib.protocol.authorization_details import PARAMETER, from_text, to_text
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidClient, InvalidToken
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.handles import Handle
from chalicelib.protocol.weights import weighted
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.validity import read_state
from chalicelib.tokens.authorization_details import issuable
from chalicelib.tokens.issue import ACCESS_TOKEN_TYPE, MAX_TOKEN, format_scope
from chalicelib.tokens.subjects import grant_subject

INACTIVE = {"active": False}
JWT_TYPE = "token-introspection+jwt"
# The claims of an access token that the response contains (RFC 7662 section 2.2).
RETURNED_CLAIMS = ("scope", "client_id", "sub", "aud", "iss", "exp", "iat", "jti", "auth_time", "acr", "cnf")


def post(server: AuthorizationServer, http: Request) -> Response:
    """Return whether a token is active, and what it allows. Whatever ends the grant takes effect at once.

    As a JWT if the request accepts one (RFC 9701 section 4).

    A client can introspect its own tokens, and access tokens that have it as audience. Any other token is inactive, and
    the response does not say why (section 2.2). Raises InvalidClient when client authentication fails.
    """
    form = http.form()
    caller = authenticate_client(server, http, form)
    if caller.public:  # section 2.1: or this would be an oracle for token guessing
        raise InvalidClient("Only confidential clients can introspect tokens.")
    token = form.require("token", at_most=MAX_TOKEN)
    form.get("token_type_hint")  # optional (section 2.1): the format shows the token type
    handle = server.keys.read_handle("rt", token)
    members = _refresh_token(server, caller, handle) if handle else _access_token(server, caller, token)
    if _accepts_jwt(http):
        return _signed(server, caller, members or INACTIVE)
    return json_response(members or INACTIVE)


def _accepts_jwt(http: Request) -> bool:
    """Return whether the request prefers a JWT to JSON, which is what a request without preference gets."""
    items = weighted((http.header("accept") or "").lower())
    weights = {item.partition(";")[0]: weight for item, weight in items}
    jwt, json = weights.get(f"application/{JWT_TYPE}", 0), weights.get("application/json", 0)
    return jwt > 0 and jwt >= json


def _signed(server: AuthorizationServer, caller: Client, members: Mapping[str, Any]) -> Response:
    """Return the response as a JWT for the caller (RFC 9701 section 5).

    The members are in one claim, so that the JWT itself cannot be used as a token (section 8.1).
    """
    claims = {
        "iss": server.issuer,
        "aud": caller.client_id,
        "iat": server.now(),
        "token_introspection": present_members(members),
    }
    jwt = server.keys.sign(claims, JWT_TYPE, caller.introspection_signed_response_alg or ALGORITHMS[0])
    return Response(body=jwt).add({"Content-Type": f"application/{JWT_TYPE}", **NO_STORE})


def _refresh_token(server: AuthorizationServer, caller: Client, handle: Handle) -> Mapping[str, Any] | None:
    grant = server.store.grants.get(handle.id)
    if grant is None or grant.revoked_at is not None or grant.client_id != caller.client_id:
        return None
    # A replaced refresh token can at most retry a lost response: only its successor is active.
    if (
        grant.generation != handle.generation
        or grant.ends_at <= server.now()
        or "refresh_token" not in caller.grant_types
    ):
        return None
    state = read_state(server, caller, grant)
    if state.ended is not None:
        return None
    ends = (grant.expires_at, grant.ends_at, *([state.session.expires_at] if state.session else []))
    return {
        "active": True,
        "scope": format_scope(grant.scope),
        "client_id": grant.client_id,
        "sub": grant_subject(server, caller, grant),
        "iss": server.issuer,
        "exp": min(ends),
        "auth_time": grant.auth_time,
        "cnf": _confirmation(grant) or None,
        PARAMETER: [from_text(text) for text in issuable(caller, grant.authorization_details, state.types)],
        "acr": server.settings.authentication_policy.reached(grant.amr),  # RFC 9470 section 6.2
    }


def _confirmation(grant: Grant) -> dict[str, str]:
    """Return what the refresh tokens of a grant are bound to."""
    bound_to = {"jkt": grant.refresh_token_jkt, "x5t#S256": grant.refresh_token_x5t}
    return {name: value for name, value in bound_to.items() if value}


def _access_token(server: AuthorizationServer, caller: Client, token: str) -> Mapping[str, Any] | None:
    try:
        claims = server.keys.verify(token, ACCESS_TOKEN_TYPE, server.issuer)
    except InvalidToken:
        return None
    audience = [claims["aud"]] if isinstance(claims["aud"], str) else claims["aud"]
    if caller.client_id not in (claims["client_id"], *audience):
        return None
    grant = server.store.grants.get(claims["grant_id"])
    client = server.client(claims["client_id"])
    if grant is None or grant.revoked_at is not None or client is None:
        return None
    state = read_state(server, client, grant)
    if state.ended is not None:
        return None
    token_type = "DPoP" if "jkt" in claims.get("cnf", {}) else "Bearer"  # RFC 9449 section 6.2
    returned = {name: claims[name] for name in RETURNED_CLAIMS if name in claims}
    texts = [to_text(each) for each in claims.get(PARAMETER, [])]  # those of its audience (RFC 9396 section 9.2)
    details = [from_text(text) for text in issuable(client, texts, state.types)]
    return {"active": True, "token_type": token_type, PARAMETER: details} | returned
