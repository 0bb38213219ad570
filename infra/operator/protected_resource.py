"""The metadata that a protected resource should serve (RFC 9728)."""

from typing import Any
from urllib.parse import urlsplit

from chalicelib.protocol.resource import Resource

_WELL_KNOWN = "/.well-known/oauth-protected-resource"


def metadata_url(uri: str) -> str:
    """Return where a resource serves its metadata: the well-known path before its own (RFC 9728 section 3.1)."""
    parts = urlsplit(uri)
    path = "" if parts.path == "/" else parts.path
    return f"{parts.scheme}://{parts.netloc}{_WELL_KNOWN}{path}" + (f"?{parts.query}" if parts.query else "")


def metadata_document(resource: Resource, issuer: str) -> dict[str, Any]:
    """Return the metadata that a resource should serve (RFC 9728 section 2)."""
    scopes = {"scopes_supported": resource.scope.split()} if resource.scopes else {}
    return {
        "resource": resource.uri,
        "authorization_servers": [issuer],
        **scopes,
        "bearer_methods_supported": ["header"],
        "resource_name": resource.name,
    }
