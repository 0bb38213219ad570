"""What an application needs after `client create`, as text that can be pasted: issuer, client_id, secret, a snippet."""

import json
import shlex

from chalicelib.clients.metadata import is_resource_server
from chalicelib.protocol.client import Client

_UNKNOWN = "https://…"  # the address of a stage that cannot be read with these credentials
_WEB = """\
# Python with Authlib. docs/quickstarts has whole applications, also for Node.js.
signet = OAuth(app).register(
    "signet",
    client_id=os.environ["CLIENT_ID"],
    client_secret=os.environ["CLIENT_SECRET"],
    server_metadata_url=os.environ["ISSUER"] + "/.well-known/openid-configuration",
    client_kwargs={{"scope": {scope}, "code_challenge_method": "S256"}},
)"""
_PUBLIC = """\
// JavaScript with oidc-client-ts. docs/quickstarts has a whole application.
const manager = new UserManager({settings});"""
_AUTHENTICATION = '--data-urlencode "client_id=$CLIENT_ID" --data-urlencode "client_secret=$CLIENT_SECRET"'
_BASIC = '-u "$CLIENT_ID:$CLIENT_SECRET"'
_KEYS = """\
# authenticates by private_key_jwt: its library needs the private key, its kid, and the issuer as the audience"""
_MACHINE = """\
# gets an access token
curl {authentication} "$ISSUER/oauth2/token" \\
  -d grant_type=client_credentials --data-urlencode scope={scope}"""
_API = """\
# asks whether an access token is valid; docs/quickstarts/api_access_tokens verifies it without a request
curl {authentication} "$ISSUER/oauth2/introspect" \\
  --data-urlencode "token=$TOKEN\""""


def paste_block(client: Client, secret: str | None, issuer: str | None) -> str:
    """Return the values that the application is configured with, and a snippet for this kind of client."""
    values = {"ISSUER": issuer or _UNKNOWN, "CLIENT_ID": client.client_id, "CLIENT_SECRET": secret}
    lines = [f"{name}={shlex.quote(value)}" for name, value in values.items() if value]
    return "\n".join([*lines, "", _snippet(client, values["ISSUER"] or "")]).rstrip()


def _snippet(client: Client, issuer: str) -> str:
    # The colon of a URI would end the user name of HTTP Basic.
    by_basic = "client_secret_basic" in client.auth_methods and ":" not in client.client_id
    authentication = _BASIC if by_basic else _AUTHENTICATION
    if client.public:
        settings = {
            "authority": issuer,
            "client_id": client.client_id,
            "redirect_uri": next(iter(client.redirect_uris), ""),
            "scope": client.scope,
        }
        return _PUBLIC.format(settings=json.dumps(settings, indent=2, ensure_ascii=False))
    if not client.has_secret_method:
        return _KEYS
    if "authorization_code" in client.grant_types:
        return _WEB.format(scope=json.dumps(client.scope))
    if is_resource_server(client.client_id):
        return _API.format(authentication=authentication)
    if "client_credentials" in client.grant_types:
        return _MACHINE.format(authentication=authentication, scope=shlex.quote(client.scope))
    return ""
