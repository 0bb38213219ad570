"""An MCP server that accepts access tokens of Signet, and asks for more access when a tool needs it."""

import asyncio
import json
import os
from typing import Any
from urllib.parse import urlsplit

import jwt
import uvicorn
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from starlette.responses import JSONResponse

ISSUER = os.environ["ISSUER"]
URL = os.environ["MCP_URL"]
READ, WRITE = "notes.read", "notes.write"
NOTES: dict[str, list[str]] = {}


class Verifier:
    """Verifies JWT access tokens with the keys of the issuer (RFC 9068 section 4)."""

    keys = jwt.PyJWKClient(f"{ISSUER}/oauth2/jwks")

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return the content of a token, or None if it is not valid here."""
        try:
            key = await asyncio.to_thread(self.keys.get_signing_key_from_jwt, token)
            content = jwt.decode_complete(token, key, algorithms=["RS256"], issuer=ISSUER, audience=URL)
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
            resource=URL,
            subject=claims["sub"],
        )


class StepUp:
    """Rejects the call of the tool `add_note` without its scope, so that the client asks the user for it."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request (ASGI)."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self.app(scope, receive, send)
        messages = [await receive()]
        while messages[-1].get("more_body"):
            messages.append(await receive())
        body = b"".join(message.get("body", b"") for message in messages)
        token = await Verifier().verify_token(
            dict(scope["headers"]).get(b"authorization", b"").decode()[len("Bearer ") :]
        )
        if token and calls_add_note(body) and WRITE not in token.scopes:
            challenge = (
                f'Bearer error="insufficient_scope", scope="{READ} {WRITE}", resource_metadata="{metadata_url()}"'
            )
            response = JSONResponse({"error": "insufficient_scope"}, 403, {"WWW-Authenticate": challenge})
            return await response(scope, receive, send)

        async def receive_again() -> Any:
            return messages.pop(0) if messages else await receive()

        return await self.app(scope, receive_again, send)


def calls_add_note(body: bytes) -> bool:
    """Return whether a request calls the tool `add_note`."""
    try:
        message = json.loads(body)
        return message["method"] == "tools/call" and message["params"]["name"] == "add_note"
    except (ValueError, KeyError, TypeError):
        return False


def metadata_url() -> str:
    """Return where the SDK serves the metadata of this server (RFC 9728)."""
    parts = urlsplit(URL)
    return f"{parts.scheme}://{parts.netloc}/.well-known/oauth-protected-resource{parts.path}"


def user() -> str:
    """Return the user of the access token."""
    return str(get_access_token().subject)


def list_notes() -> str:
    """Return the notes of the user."""
    return "\n".join(NOTES.get(user(), []))


def add_note(text: str) -> str:
    """Add a note of the user."""
    if WRITE not in get_access_token().scopes:  # the tool is safe without StepUp too
        raise PermissionError(WRITE)
    NOTES.setdefault(user(), []).append(text)
    return "Added."


server = MCPServer(
    "Notes",
    token_verifier=Verifier(),
    auth=AuthSettings(
        issuer_url=ISSUER, resource_server_url=URL, required_scopes=[READ], validate_token_resource=False
    ),
)
server.add_tool(list_notes)
server.add_tool(add_note)

if __name__ == "__main__":
    address = urlsplit(URL)
    app = StepUp(server.streamable_http_app(streamable_http_path=address.path))
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", address.port or 3000)))
