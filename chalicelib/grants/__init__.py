"""The grant types: each proves a credential, and says what it is good for. The token endpoint does all the rest."""

from collections.abc import Callable
from typing import Any

from chalicelib.grants import authorization_code, client_credentials, refresh_token
from chalicelib.messages import Params, Request
from chalicelib.models import Client
from chalicelib.server import AuthorizationServer

# grant_type -> what redeems it: the members of the token response, or an OAuthError
GRANTS: dict[str, Callable[[AuthorizationServer, Request, Client, Params], dict[str, Any]]] = {
    "authorization_code": authorization_code.redeem,
    "refresh_token": refresh_token.redeem,
    "client_credentials": client_credentials.redeem,
}
