"""All routes and schedules of the authorization server."""

import sys

from chalicelib import schedules, web
from chalicelib.endpoints import Endpoints
from chalicelib.schedules import Schedule
from chalicelib.server import AuthorizationServer
from chalicelib.settings import Settings
from chalicelib.web import Route

account = Endpoints("account")
account_second_factor = Endpoints("account_second_factor")
account_data = Endpoints("account_data")
account_delete = Endpoints("account_delete")
account_profile = Endpoints("account_profile")
account_restore = Endpoints("account_restore")
account_passkeys = Endpoints("account_passkeys")
account_email = Endpoints("account_email")
authorize = Endpoints("authorize")
change_password_url = Endpoints("change_password_url")
code = Endpoints("code")
health = Endpoints("health")
home = Endpoints("home")
introspect = Endpoints("introspect")
let_in = Endpoints("let_in")
logout = Endpoints("logout")
mail_link = Endpoints("mail_link")
mailbox = Endpoints("mailbox")
metadata = Endpoints("metadata")
par = Endpoints("par")
playground = Endpoints("playground")
recover = Endpoints("recover")
register = Endpoints("register")
revoke = Endpoints("revoke")
sign_up = Endpoints("sign_up")
token = Endpoints("token")
userinfo = Endpoints("userinfo")
webauthn = Endpoints("webauthn")

# For clients: errors are JSON.
JSON_ROUTES = (
    Route("POST", "/oauth2/token", token.post, "token_endpoint", cross_origin="client"),
    Route("POST", "/oauth2/par", par.post, "pushed_authorization_request_endpoint", cross_origin="client"),
    Route("GET", "/oauth2/userinfo", userinfo.get, "userinfo_endpoint", cross_origin="client"),
    Route("POST", "/oauth2/userinfo", userinfo.get, "userinfo_endpoint", cross_origin="client"),
    Route("POST", "/oauth2/revoke", revoke.post, "revocation_endpoint", cross_origin="client"),
    Route("POST", "/oauth2/introspect", introspect.post, "introspection_endpoint"),
    Route("POST", "/oauth2/register", register.post, "registration_endpoint", cross_origin="any"),
    Route("GET", "/oauth2/register", register.get, "registration_endpoint", cross_origin="any"),
    Route("PUT", "/oauth2/register", register.put, "registration_endpoint", cross_origin="any"),
    Route("DELETE", "/oauth2/register", register.delete, "registration_endpoint", cross_origin="any"),
    Route("GET", "/oauth2/jwks", metadata.jwks, "jwks_uri", cross_origin="any"),
    Route("GET", "/.well-known/openid-configuration", metadata.get, cross_origin="any"),
    Route("GET", "/.well-known/oauth-authorization-server", metadata.get, cross_origin="any"),
    Route("GET", "/.well-known/webauthn", webauthn.get, cross_origin="any"),
    Route("GET", "/healthz", health.get),
)
# For users: errors are pages.
PAGE_ROUTES = (
    Route("GET", "/", home.get),
    Route("GET", "/errors", home.errors),
    Route("GET", "/style.css", home.style),
    Route("GET", "/script.js", home.script),
    Route("GET", "/oauth2/authorize", authorize.get, "authorization_endpoint", in_popup=True),
    Route("POST", "/oauth2/authorize", authorize.post, "authorization_endpoint", in_popup=True),
    Route("GET", "/oauth2/code", code.get, in_popup=True),
    Route("POST", "/oauth2/code", code.post, in_popup=True),
    Route("GET", "/oauth2/logout", logout.get, "end_session_endpoint", in_popup=True),
    Route("POST", "/oauth2/logout", logout.post, "end_session_endpoint", in_popup=True),
    Route("GET", "/account", account.applications),
    Route("POST", "/account", account.post),
    Route("GET", "/account/browsers", account.browsers),
    Route("GET", "/account/activity", account.activity),
    Route("GET", "/account/password", account.password),
    Route("GET", "/account/second-factor", account_second_factor.get),
    Route("POST", "/account/second-factor", account_second_factor.post),
    Route("GET", "/account/profile", account_profile.get),
    Route("POST", "/account/profile", account_profile.post),
    Route("GET", "/account/data", account_data.get),
    Route("POST", "/account/data", account_data.post),
    Route("GET", "/account/delete", account_delete.get),
    Route("POST", "/account/delete", account_delete.post),
    Route("GET", "/account/restore", account_restore.get),
    Route("POST", "/account/restore", account_restore.post),
    Route("GET", "/.well-known/change-password", change_password_url.get),
    Route("GET", "/account/passkeys", account_passkeys.get),
    Route("POST", "/account/passkeys", account_passkeys.post),
    Route("GET", "/account/email", account_email.get),
    Route("POST", "/account/email", account_email.post),
    Route("GET", "/account/recover", recover.get),
    Route("POST", "/account/recover", recover.post),
    Route("GET", "/account/sign-up", sign_up.get),
    Route("POST", "/account/sign-up", sign_up.post),
    Route("GET", "/account/link", mail_link.get),
    Route("POST", "/account/link", mail_link.post),
    Route("GET", "/account/let-in", let_in.get),
    Route("POST", "/account/let-in", let_in.post),
    Route("GET", "/playground", playground.get),
    Route("POST", "/playground", playground.post),
    Route("GET", "/playground/callback", playground.callback),
    Route("GET", "/mailbox", mailbox.get),
    Route("GET", "/mailbox/raw", mailbox.raw),
)
SCHEDULES = (
    Schedule("rate(1 minute)", schedules.deliver),
    Schedule("rate(1 hour)", schedules.remove_accounts),
    Schedule("rate(1 day)", schedules.rotate_keys),
)


def connect() -> AuthorizationServer:
    """Return the server for the environment's settings; by default on the embedded DynamoDB when outside Lambda."""
    settings = Settings.from_environ()
    if settings.embedded:
        from infra.local import embedded  # not in the zip

        server = AuthorizationServer.connect(embedded.start(settings))
        embedded.deliver_at_once(server)
        return server
    return AuthorizationServer.connect(settings)


def prepare() -> None:
    """Check the port, start the embedded database, print the next steps."""
    from infra.local import serve  # not in the zip

    serve.prepare()


if "chalice.cli" in sys.modules and "local" in sys.argv:  # `chalice local`, no other command of chalice
    prepare()
app, http_handler = web.build(JSON_ROUTES, PAGE_ROUTES, connect, SCHEDULES)
# `chalice deploy` makes Lambda call them by these names.
deliver, rotate_keys = app.handler_map["deliver"], app.handler_map["rotate_keys"]
remove_accounts = app.handler_map["remove_accounts"]
