"""/oauth2/userinfo: the UserInfo endpoint (OpenID Connect Core section 5.3), a protected resource (RFC 6750)."""

from chalicelib.http.messages import NO_STORE, Request, Response, json_response
from chalicelib.protocol import claims
from chalicelib.protocol.errors import (
    InsufficientScope,
    InvalidDpopProof,
    InvalidRequest,
    InvalidToken,
    OAuthError,
    UseDpopNonce,
)
from chalicelib.protocol.own_scope import released_claims
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.validity import read_state
from chalicelib.tokens import dpop, mutual_tls
from chalicelib.tokens.issue import ACCESS_TOKEN_TYPE
from chalicelib.tokens.subjects import grant_subject

BEARER = 'Bearer realm="userinfo"'
DPOP = f'DPoP algs="{" ".join(dpop.ALGORITHMS)}"'  # RFC 9449 section 7.1


def get(server: AuthorizationServer, http: Request) -> Response:
    """Return the claims that the access token's scope allows. Whatever ends the grant takes effect at once."""
    try:
        return _userinfo(server, http)
    except OAuthError as error:
        if isinstance(error, InvalidDpopProof | UseDpopNonce):
            error.status = 401
        if error.status in (400, 401, 403) and not error.headers:
            error.headers = _challenge(DPOP if http.credentials("dpop") is not None else BEARER, error)
        raise


def _challenge(scheme: str, error: OAuthError) -> dict[str, str]:
    """Return the header field that tells the error (RFC 6750 section 3, RFC 9449 section 7.1)."""
    parameters = "".join(f', {name}="{value}"' for name, value in error.parameters().items())
    scope = ', scope="openid"' if isinstance(error, InsufficientScope) else ""
    return {"WWW-Authenticate": scheme + parameters + scope}


def _userinfo(server: AuthorizationServer, http: Request) -> Response:
    token, with_proof = _access_token(http), http.credentials("dpop") is not None
    if token is None:
        # RFC 6750 section 3.1: no error code when the request has no token.
        return json_response({}, 401, {"WWW-Authenticate": f"{BEARER}, {DPOP}", "Cache-Control": "no-store"})
    token_claims = server.keys.verify(token, ACCESS_TOKEN_TYPE, server.issuer, audience=server.issuer)
    client = http.client = server.client(token_claims["client_id"])
    if client is None:
        raise InvalidToken("The access token has been revoked.")
    bound_to = token_claims.get("cnf", {}).get("jkt")
    if not with_proof and bound_to is not None:
        bound = InvalidToken("The access token is bound to a key: send it with the scheme DPoP and a proof (RFC 9449).")
        bound.headers = _challenge(DPOP, bound)
        raise bound
    mutual_tls.require_same_certificate(server, http, token_claims)
    if with_proof and dpop.verify_proof(server, http, client, token).jkt != bound_to:
        raise InvalidToken("The access token is not bound to the key of the DPoP proof.")
    grant = server.store.grants.get(token_claims["grant_id"])
    if grant is None or grant.revoked_at is not None:
        raise InvalidToken("The access token has been revoked.")
    scope = frozenset(token_claims.get("scope", "").split())
    if "openid" not in scope:
        raise InsufficientScope("The access token has no openid scope.")
    state = read_state(server, client, grant)
    if state.ended is not None or state.user is None or grant_subject(server, client, grant) != token_claims["sub"]:
        raise InvalidToken("The access token is no longer valid.", detail=state.ended or "")
    names = claims.requested_claims(grant.claims, "userinfo")
    names |= released_claims(state.scopes, scope, "userinfo", client)
    members = {"sub": token_claims["sub"]} | claims.user_claims(state.user, scope, names)
    if client.userinfo_signed_response_alg is None:
        return json_response(members, keep_empty=True)
    # OpenID Connect Core section 5.3.2: issuer and audience, so that no other client accepts the response.
    payload = members | {"iss": server.issuer, "aud": client.client_id}
    signed = server.keys.sign(payload, "JWT", client.userinfo_signed_response_alg)
    return Response(body=signed).add({"Content-Type": "application/jwt", **NO_STORE})


def _access_token(http: Request) -> str | None:
    """Return the access token from the Authorization header or from the body of a POST, or None (RFC 6750 section 2).

    Raises InvalidRequest for a token in the query, or in both places.
    """
    in_header = http.credentials("bearer") if http.credentials("dpop") is None else http.credentials("dpop")
    has_form = http.method == "POST" and (http.header("content-type") or "").lower().startswith(
        "application/x-www-form-urlencoded"
    )
    in_body = http.form().get("access_token", at_most=8192) if has_form else None
    if in_header is not None and in_body is not None:
        raise InvalidRequest("Send the access token in one place only.")
    if "access_token" in http.query:
        raise InvalidRequest("Do not send an access token in a URL.")
    return in_body if in_header is None else in_header
