"""Grant types: each module verifies one kind of credential and returns the token response for it.

Owns the rules of the authorization code, the refresh token and the client credentials. It must not know how the client
was authenticated, which the token endpoint does.
"""

from collections.abc import Callable
from typing import Any

from chalicelib.grants import authorization_code, client_credentials, refresh_token
from chalicelib.http.messages import Params, Request
from chalicelib.protocol.client import Client
from chalicelib.server import AuthorizationServer

# grant_type -> the function that returns the members of the token response, or raises OAuthError
GRANTS: dict[str, Callable[[AuthorizationServer, Request, Client, Params], dict[str, Any]]] = {
    "authorization_code": authorization_code.redeem,
    "refresh_token": refresh_token.redeem,
    "client_credentials": client_credentials.redeem,
}
