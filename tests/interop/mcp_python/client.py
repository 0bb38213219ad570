"""An MCP client, made with the Python SDK, version 1 or 2, whose OAuth client is registered beforehand.

It reads its task from standard input and writes to standard output, as lines of JSON: `open`, the URL for the user's
browser, and when it has read the `url` of the redirect, the result, or the `error`.
"""

import asyncio
import json
import sys
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mcp import ClientSession
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

try:
    import httpx2 as httpx
    from mcp.shared.auth import AuthorizationCodeResult
except ImportError:
    import httpx

    AuthorizationCodeResult = None


def read() -> Any:
    return json.loads(sys.stdin.readline())


def write(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


class Storage:
    """The client information and the tokens of one MCP server, and all token responses that were `received`."""

    def __init__(self, client: OAuthClientInformationFull | None):
        self.client = client
        self.tokens: OAuthToken | None = None
        self.received: list[dict[str, Any]] = []

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens
        self.received.append(tokens.model_dump(mode="json", exclude_none=True))

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        assert self.client is None, "The client is registered already."
        self.client = client_info


async def open_browser(url: str) -> None:
    write({"open": url})


async def wait_for_redirect() -> Any:
    """Return the authorization response, of which version 1 takes only the code and the state."""
    answer = {name: values[0] for name, values in parse_qs(urlsplit(read()["url"]).query).items()}
    if AuthorizationCodeResult is None:
        return answer["code"], answer["state"]
    return AuthorizationCodeResult(**answer)


async def call_tool(url: str, http: httpx.AsyncClient) -> str:
    """Return the text that the tool `whoami` returns."""
    async with streamable_http_client(url, http_client=http) as streams, ClientSession(*streams[:2]) as session:
        await session.initialize()
        result = await session.call_tool("whoami", {})
        return str(result.content[0].text)


async def use_server(task: dict[str, Any]) -> dict[str, Any]:
    """Call the tool, once with a new token and once with a refreshed one."""
    members = {
        "redirect_uris": [task["redirect_uri"]],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": task["auth_method"],
    }
    credentials = {name: task[name] for name in ("client_id", "client_secret")}
    storage = Storage(OAuthClientInformationFull(**members, **credentials))
    provider = OAuthClientProvider(
        task["url"],
        OAuthClientMetadata(client_name="Notes client", **members),
        storage,
        redirect_handler=open_browser,
        callback_handler=wait_for_redirect,
    )
    requests: list[str] = []

    async def record(request: httpx.Request) -> None:
        requests.append(f"{request.method} {request.url}")

    async with httpx.AsyncClient(auth=provider, event_hooks={"request": [record]}, timeout=30) as http:
        user = await call_tool(task["url"], http)
        provider.context.token_expiry_time = 1  # in 1970, as if the token had expired
        user_after_refresh = await call_tool(task["url"], http)
    return {
        "user": user,
        "user_after_refresh": user_after_refresh,
        "tokens": storage.received,
        "requests": requests,
    }


def innermost(error: BaseException) -> BaseException:
    """Return the first error inside groups of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def main() -> None:
    try:
        write(await use_server(read()))
    except Exception as error:
        write({"error": f"{type(innermost(error)).__name__}: {innermost(error)}"})


if __name__ == "__main__":
    asyncio.run(main())
