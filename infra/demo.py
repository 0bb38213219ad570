"""What a fresh local state holds: a person and an application to try the flow with, and the first administrator."""

from contextlib import suppress
from urllib.parse import urlencode

from chalicelib.errors import OAuthError
from chalicelib.registration import register_client, register_user, username_identifier
from chalicelib.store import Store

USERNAME = "alice"
PASSWORD = "wonderland"  # noqa: S105
CLAIMS = {"name": "Alice Liddell", "email": "alice@example.com", "email_verified": True}
ADMINISTRATOR = "admin"
CLIENT_ID = "demo"
CLIENT_SECRET = "demo-secret"  # noqa: S105
REDIRECT_URIS = ("http://127.0.0.1:8080/callback", "http://localhost:8080/callback")


def seed(store: Store) -> str | None:
    """Add what is not there; the administrator's password when one was made, which nobody can read again."""
    with suppress(ValueError):  # the operator may have been quicker with that name
        register_user(store, username=USERNAME, password=PASSWORD, claims=CLAIMS)
    with suppress(OAuthError):
        register_client(
            store,
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            client_name="Demo application",
            redirect_uris=REDIRECT_URIS,
            scope="openid profile email offline_access",
            require_pkce=False,  # so that the flow can be tried by hand
        )
    with suppress(ValueError):
        return register_user(store, username=ADMINISTRATOR, admin=True)[1]
    return None


def welcome(store: Store, administrators_password: str | None) -> str:
    """What to do next, a few lines for the terminal. Says nothing of a demo that has been removed."""
    issuer = store.settings.issuer
    client, person = store.read((store.clients, (CLIENT_ID,)), (store.identifiers, (username_identifier(USERNAME),)))
    lines = ["", f"  Signet               {issuer}"]
    if store.settings.playground and person:
        lines.append(f"  playground           {issuer}/playground")
    if person:
        lines.append(f"  demo user            {USERNAME}, password {PASSWORD}")
    if client:
        request = {
            "response_type": "code",
            "client_id": CLIENT_ID,
            "redirect_uri": REDIRECT_URIS[0],
            "scope": "openid profile",
            "state": "1",
        }
        lines += [
            f"  demo client          {CLIENT_ID}, secret {CLIENT_SECRET}, returns to {REDIRECT_URIS[0]}",
            f"  open in a browser    {issuer}/oauth2/authorize?{urlencode(request)}",
        ]
    lines.append(f"  try with curl        curl {issuer}/.well-known/openid-configuration")
    if administrators_password:
        lines += [
            f"  administrator        {ADMINISTRATOR}, password {administrators_password}",
            "                       (shown once; you will be asked to replace it at the first sign-in)",
        ]
    return "\n".join([*lines, ""])
