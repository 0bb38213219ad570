"""/healthz: that the function runs, and, for the operator, that it reaches what it needs."""

import hashlib
import secrets

from chalicelib.errors import InvalidToken
from chalicelib.messages import Request, Response, json_response
from chalicelib.server import AuthorizationServer


def get(server: AuthorizationServer, http: Request) -> Response:
    """Shallow: asks nothing of anybody. `deep=1`, with the operator's token as Bearer: reads every table and the keys.

    Raises InvalidToken for a deep check without the token; TemporarilyUnavailable when a part does not answer.
    """
    if http.query.one("deep") is None:
        return json_response({"status": "ok"})
    scheme, _, token = (http.header("authorization") or "").partition(" ")
    presented = hashlib.sha256(token.strip().encode("utf-8", "replace")).hexdigest()
    expected = server.settings.operator_token_hash
    if scheme.lower() != "bearer" or expected is None or not secrets.compare_digest(presented, expected):
        raise InvalidToken(
            "The deep check needs the operator's token.", headers={"WWW-Authenticate": 'Bearer realm="health"'}
        )
    tables = server.store.tables
    for table in tables:
        table.get(*("health-check" for _ in table.key))
    keys = server.keys.jwks()["keys"]
    return json_response(
        {"status": "ok", "tables": [table.name for table in tables], "keys": [key["kid"] for key in keys]}
    )
