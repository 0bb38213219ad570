"""An MCP client of docs/mcp_server.py, made with the Python SDK, version 1 or 2. It reads its task as client.py does.

With a `client_id` it is registered beforehand. Otherwise it uses its `client_metadata_url`, if the server accepts
documents, or registers itself.
"""

import asyncio
from typing import Any

from client import (  # type: ignore[import-not-found]  # of this folder
    Storage,
    httpx,
    innermost,
    open_browser,
    read,
    wait_for_redirect,
    write,
)
from mcp import ClientSession
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata


async def use_server(task: dict[str, Any]) -> dict[str, Any]:
    """Call the tools that the task names, each with its arguments, and return their results."""
    members = {
        "redirect_uris": [task["redirect_uri"]],
        "grant_types": task["grant_types"],
        "token_endpoint_auth_method": "none",
    }
    client_id = task.get("client_id")
    storage = Storage(OAuthClientInformationFull(client_id=client_id, **members) if client_id else None)
    metadata = OAuthClientMetadata(client_name="Notes client", **members)
    provider = OAuthClientProvider(
        task["url"],
        metadata,
        storage,
        redirect_handler=open_browser,
        callback_handler=wait_for_redirect,
        client_metadata_url=task.get("client_metadata_url"),
    )
    results = []
    async with (
        httpx.AsyncClient(auth=provider, timeout=30) as http,
        streamable_http_client(task["url"], http_client=http) as streams,
        ClientSession(*streams[:2]) as session,
    ):
        await session.initialize()
        for tool, arguments in task["calls"]:
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
