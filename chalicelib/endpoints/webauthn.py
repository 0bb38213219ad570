"""/.well-known/webauthn: the other origins that may use the passkeys of this domain (Web Authentication 5.11)."""

from chalicelib.http.messages import Request, Response, json_response
from chalicelib.protocol.errors import NotFound
from chalicelib.server import AuthorizationServer

CACHEABLE = {"Cache-Control": "public, max-age=300"}


def get(server: AuthorizationServer, _http: Request) -> Response:
    """Return the origins. Raises NotFound when SIGNET_RELATED_ORIGINS names none."""
    settings = server.settings
    if not settings.related_origins or settings.passkey_domain is None:
        raise NotFound("There is nothing at this address.")
    return json_response({"origins": list(settings.passkey_origins)}, headers=CACHEABLE)
