"""/healthz: whether the function runs, and for the operator, whether the tables and keys are available."""

import hashlib
import secrets

from chalicelib import __version__
from chalicelib.http.messages import Request, Response, json_response
from chalicelib.protocol.errors import InvalidToken
from chalicelib.server import AuthorizationServer


def get(server: AuthorizationServer, http: Request) -> Response:
    """Return status and version. With `deep=1` and the operator's token as Bearer token, read tables and keys first.

    Raises InvalidToken for a deep check without the token, TemporarilyUnavailable when a table or key is unavailable.
    """
    if http.query.get("deep") is None:
        return json_response({"status": "ok", "version": __version__})
    token = http.credentials("bearer")
    presented = hashlib.sha256((token or "").encode("utf-8", "replace")).hexdigest()
    expected = server.settings.operator_token_hash
    if token is None or expected is None or not secrets.compare_digest(presented, expected):
        raise InvalidToken(
            "The deep check requires the operator's token.", headers={"WWW-Authenticate": 'Bearer realm="health"'}
        )
    tables = server.store.tables
    for table in tables:
        table.get(*("health-check" for _ in table.key))
    keys = server.keys.jwks()["keys"]
    return json_response(
        {
            "status": "ok",
            "version": __version__,
            "tables": [table.name for table in tables],
            "keys": [key["kid"] for key in keys],
        }
    )
