"""The MCP clients that `doctor --as` can act as: what each registers, and what it sends."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Assistant:
    """An MCP client, as it behaved when this was written.

    `document`: its client ID metadata document, if it has one. `redirect_uris`: those of its registration; it uses the
    first in the authorization request. `metadata`: what else it registers. `offline`: it asks for `offline_access`, if
    the server offers it or (`always_offline`) in any case, with `prompt=consent` if `asks_for_consent`.
    `typed_resource`: it names the resource as its user has typed the URL. `document_needs_iss`: it uses the document
    only if responses name the issuer (RFC 9207). `signs`: it prefers private_key_jwt with the keys of its document.
    `origin`: it is a page of this origin in a browser, so that CORS is needed.
    """

    name: str
    redirect_uris: tuple[str, ...]
    document: str = ""
    metadata: tuple[tuple[str, Any], ...] = ()
    offline: bool = False
    always_offline: bool = False
    asks_for_consent: bool = False
    typed_resource: bool = False
    document_needs_iss: bool = False
    signs: bool = False
    all_scopes: bool = False
    origin: str = ""

    def registration(self, scope: str) -> dict[str, Any]:
        """Return the body of its registration (RFC 7591 section 3.1)."""
        return {
            "client_name": self.name,
            "redirect_uris": list(self.redirect_uris),
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
            **({"scope": scope} if scope else {}),
            **dict(self.metadata),
        }

    def scope(self, needed: str, offered: list[str]) -> str:
        """Return the scope that it asks for: what the resource needs, and what it adds of those that are offered.

        A leading space, if nothing is needed, is what some clients send.
        """
        if not needed and self.all_scopes:
            needed = " ".join(scope for scope in offered if scope != "offline_access")
        adds = self.always_offline or (self.offline and "offline_access" in offered)
        if not adds or "offline_access" in needed.split():
            return needed
        return f"{needed} offline_access" if needed or self.always_offline else "offline_access"


ASSISTANTS = {
    "claude": Assistant(
        "Claude",
        ("https://claude.ai/api/mcp/auth_callback",),
        document="https://claude.ai/oauth/mcp-oauth-client-metadata",
        always_offline=True,
        asks_for_consent=True,
        typed_resource=True,
    ),
    "chatgpt": Assistant(
        "ChatGPT",
        ("https://chatgpt.com/connector_platform_oauth_redirect",),
        document="https://chatgpt.com/oauth/client.json",
        offline=True,
        document_needs_iss=True,
        signs=True,
        all_scopes=True,
    ),
    "cursor": Assistant(
        "Cursor",
        (
            "cursor://anysphere.cursor-mcp/oauth/callback",
            "https://www.cursor.com/agents/mcp/oauth/callback",
            "http://localhost:8787/callback",
        ),
    ),
    "vscode": Assistant(
        "Visual Studio Code",
        (
            "http://127.0.0.1:33418/",
            "http://127.0.0.1/",
            "https://vscode.dev/redirect",
            "https://insiders.vscode.dev/redirect",
        ),
        document="https://vscode.dev/oauth/client-metadata.json",
        metadata=(
            ("client_uri", "https://code.visualstudio.com"),
            ("application_type", "native"),
            (
                "grant_types",
                ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
            ),
        ),
    ),
    "inspector": Assistant(
        "MCP Inspector",
        ("http://localhost:6274/oauth/callback",),
        metadata=(("client_uri", "https://github.com/modelcontextprotocol/inspector"),),
        offline=True,
        asks_for_consent=True,
        origin="http://localhost:6274",
    ),
}
