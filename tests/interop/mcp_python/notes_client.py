"""An MCP client of docs/mcp_server.py, made with the Python SDK, version 2. It reads its task as client.py does."""

import asyncio
from typing import Any

import httpx2 as httpx
from client import Storage, innermost, open_browser, read, wait_for_redirect, write  # type: ignore[import-not-found]  # of this folder
from mcp import ClientSession
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata


async def use_server(task: dict[str, Any]) -> dict[str, Any]:
    """Read the notes, add one, which needs another scope, and read them again."""
    members = {
        "redirect_uris": [task["redirect_uri"]],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "none",
    }
    storage = Storage(OAuthClientInformationFull(client_id=task["client_id"], **members))
    metadata = OAuthClientMetadata(client_name="Notes client", **members)
    provider = OAuthClientProvider(
        task["url"], metadata, storage, redirect_handler=open_browser, callback_handler=wait_for_redirect
    )
    results = []
    async with (
        httpx.AsyncClient(auth=provider, timeout=30) as http,
        streamable_http_client(task["url"], http_client=http) as streams,
        ClientSession(*streams[:2]) as session,
    ):
        await session.initialize()
        for tool, arguments in (("list_notes", {}), ("add_note", {"text": "Buy milk"}), ("list_notes", {})):
            result = await session.call_tool(tool, arguments)
            results.append(result.content[0].text if result.content else "")
    return {"results": results, "tokens": storage.received}


async def main() -> None:
    try:
        write(await use_server(read()))
    except Exception as error:
        write({"error": f"{type(innermost(error)).__name__}: {innermost(error)}"})


if __name__ == "__main__":
    asyncio.run(main())
