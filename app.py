"""Every address of the authorization server, on one page."""

import sys

from chalicelib import web
from chalicelib.endpoints import authorize, code, health, home, metadata, playground, revoke, token, userinfo
from chalicelib.server import AuthorizationServer
from chalicelib.settings import Settings
from chalicelib.web import Route

# Answers are for clients: errors are JSON.
JSON_ROUTES = (
    Route("POST", "/oauth2/token", token.post, "token_endpoint", cross_origin="client"),
    Route("GET", "/oauth2/userinfo", userinfo.get, "userinfo_endpoint", cross_origin="client"),
    Route("POST", "/oauth2/userinfo", userinfo.get, "userinfo_endpoint", cross_origin="client"),
    Route("POST", "/oauth2/revoke", revoke.post, "revocation_endpoint", cross_origin="client"),
    Route("GET", "/oauth2/jwks", metadata.jwks, "jwks_uri", cross_origin="any"),
    Route("GET", "/.well-known/openid-configuration", metadata.get, cross_origin="any"),
    Route("GET", "/.well-known/oauth-authorization-server", metadata.get, cross_origin="any"),
    Route("GET", "/healthz", health.get),
)
# Answers are for people: errors are pages.
PAGE_ROUTES = (
    Route("GET", "/", home.get),
    Route("GET", "/style.css", home.style),
    Route("GET", "/oauth2/authorize", authorize.get, "authorization_endpoint"),
    Route("POST", "/oauth2/authorize", authorize.post, "authorization_endpoint"),
    Route("GET", "/oauth2/code", code.get),
    Route("POST", "/oauth2/code", code.post),
    Route("GET", "/playground", playground.get),
    Route("POST", "/playground", playground.post),
    Route("GET", "/playground/callback", playground.callback),
)


def connect() -> AuthorizationServer:
    """The server that the environment describes; outside Lambda, on the embedded DynamoDB unless another is named."""
    settings = Settings.from_environ()
    if settings.embedded:
        from infra import embedded  # never in the zip

        settings = embedded.start(settings)
    return AuthorizationServer.connect(settings)


def prepare() -> None:
    """Check the port, start the embedded database, say what to do next."""
    from infra import local  # never in the zip

    local.prepare()


if "chalice.cli" in sys.modules and "local" in sys.argv:  # `chalice local`, and no other command of Chalice's
    prepare()
app, http_handler = web.build(JSON_ROUTES, PAGE_ROUTES, connect)
