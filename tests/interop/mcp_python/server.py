"""An MCP server with one tool, made with the Python SDK, version 1 or 2. It accepts the JWT access tokens of an issuer.

Its argument is JSON: `issuer`, `url`, the address of the server, and `scope`, the scope that a token must have, if any.
"""

import asyncio
import json
import sys
from typing import Any
from urllib.parse import urlsplit

import jwt
import uvicorn
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings

try:
    from mcp.server.mcpserver import MCPServer
except ImportError:
    MCPServer = None
    from mcp.server.fastmcp import FastMCP


class Verifier:
    """Verifies JWT access tokens with the keys of the issuer (RFC 9068 section 4)."""

    def __init__(self, issuer: str, resource: str):
        self._issuer, self._resource = issuer, resource
        self._keys = jwt.PyJWKClient(f"{issuer}/oauth2/jwks")

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return the content of a token, or None if it is not valid here."""
        try:
            key = await asyncio.to_thread(self._keys.get_signing_key_from_jwt, token)
            content = jwt.decode_complete(
                token,
                key,
                algorithms=["RS256"],
                issuer=self._issuer,
                audience=self._resource,
                options={"require": ["exp", "sub"]},
            )
        except jwt.PyJWTError:
            return None
        if content["header"].get("typ") != "at+jwt":
            return None
        claims = content["payload"]
        return AccessToken(
            token=token,
            client_id=claims["client_id"],
            scopes=claims["scope"].split(),
            expires_at=claims["exp"],
            resource=self._resource,
            subject=claims["sub"],
        )


def whoami() -> str:
    """Return the user of the access token."""
    token = get_access_token()
    return str(token.subject)


def create_app(issuer: str, url: str, scope: str | None) -> Any:
    """Return the server as an ASGI application."""
    path = urlsplit(url).path or "/"
    auth = AuthSettings(
        issuer_url=issuer,
        resource_server_url=url,
        required_scopes=[scope] if scope else None,
        validate_token_resource=False,  # the verifier does it
    )
    verifier = Verifier(issuer, url)
    if MCPServer is None:
        server = FastMCP("Notes", token_verifier=verifier, auth=auth, streamable_http_path=path)
        server.add_tool(whoami)
        return server.streamable_http_app()
    server = MCPServer("Notes", token_verifier=verifier, auth=auth)
    server.add_tool(whoami)
    return server.streamable_http_app(streamable_http_path=path)


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    uvicorn.run(create_app(**task), host="127.0.0.1", port=urlsplit(task["url"]).port, log_level="warning")
