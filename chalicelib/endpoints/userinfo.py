"""/oauth2/userinfo: the UserInfo endpoint (OpenID Connect Core section 5.3), a protected resource (RFC 6750)."""

from chalicelib import claims
from chalicelib.errors import InsufficientScope, InvalidRequest, InvalidToken, OAuthError
from chalicelib.messages import NO_STORE, Request, Response, json_response
from chalicelib.models import Client, Grant, User
from chalicelib.server import AuthorizationServer
from chalicelib.subjects import subject_of
from chalicelib.tokens import ACCESS_TOKEN_TYPE

REALM = 'Bearer realm="userinfo"'


def get(server: AuthorizationServer, http: Request) -> Response:
    """The claims that the access token's scope releases. The grant is looked at, so revocation is immediate."""
    try:
        return _answer(server, http)
    except OAuthError as error:
        if error.status in (400, 401, 403):  # RFC 6750 section 3
            parameters = "".join(f', {name}="{value}"' for name, value in error.parameters().items())
            scope = ', scope="openid"' if isinstance(error, InsufficientScope) else ""
            error.headers = {"WWW-Authenticate": REALM + parameters + scope}
        raise


def _answer(server: AuthorizationServer, http: Request) -> Response:
    token = _access_token(http)
    if token is None:
        # RFC 6750 section 3.1: who shows nothing is told nothing.
        return json_response({}, 401, {"WWW-Authenticate": REALM, "Cache-Control": "no-store"})
    known = server.keys.verify(token, ACCESS_TOKEN_TYPE, server.issuer, audience=server.issuer)
    client = http.client = server.client(known["client_id"])
    if client is None:
        raise InvalidToken("The access token has been revoked.")
    grant, user = _read(server, client, known["grant_id"], known["sub"])
    if grant is None or grant.revoked_at is not None:
        raise InvalidToken("The access token has been revoked.")
    scope = frozenset(known["scope"].split())
    if "openid" not in scope:
        raise InsufficientScope("The access token has no openid scope.")
    if user is None or user.disabled_at is not None or subject_of(server, client, grant) != known["sub"]:
        raise InvalidToken("The account is not active.")
    members = {"sub": known["sub"]} | claims.of_user(user, scope, claims.named(grant.claims, "userinfo"))
    if client.userinfo_signed_response_alg is None:
        return json_response(members)
    # OpenID Connect Core section 5.3.2: with issuer and audience, or it could be passed on.
    named = {"iss": server.issuer, "aud": client.client_id} | members
    signed = server.keys.sign(named, "JWT", client.userinfo_signed_response_alg)
    return Response(body=signed).add({"Content-Type": "application/jwt", **NO_STORE})


def _read(server: AuthorizationServer, client: Client, grant_id: str, sub: str) -> tuple[Grant | None, User | None]:
    """The grant and its person, at once where the token names the person: a pairwise subject does not."""
    store = server.store
    if client.subject_type == "public":
        grant, user = store.read((store.grants, (grant_id,)), (store.users, (sub,)))
        return grant, user
    grant = store.grants.get(grant_id)
    return grant, store.users.get(grant.sub) if grant else None


def _access_token(http: Request) -> str | None:
    """RFC 6750 section 2: from the header, or from the body of a POST; never from the query, never from both."""
    scheme, _, token = (http.header("authorization") or "").strip().partition(" ")
    in_header = token.strip() if scheme.lower() == "bearer" else None
    has_form = http.method == "POST" and (http.header("content-type") or "").lower().startswith(
        "application/x-www-form-urlencoded"
    )
    in_body = http.form().one("access_token", at_most=8192) if has_form else None
    if in_header is not None and in_body is not None:
        raise InvalidRequest("Send the access token in one way only.")
    if "access_token" in http.query:
        raise InvalidRequest("An access token does not belong in a URL.")
    return in_body if in_header is None else in_header
