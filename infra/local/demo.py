"""The demo data of a new local state: a user and an application to try the flow, and the first administrator."""

from contextlib import suppress
from urllib.parse import urlencode

from chalicelib.authentication import passwords
from chalicelib.clients.registration import register_client
from chalicelib.protocol.errors import OAuthError
from chalicelib.protocol.identifiers import username_identifier
from chalicelib.storage.store import Store
from chalicelib.users.registration import register_user

USERNAME = "alice"
PASSWORD = "down-the-rabbit-hole"  # noqa: S105
CLAIMS = {"name": "Alice Liddell", "email": "alice@example.com", "email_verified": True}
ADMINISTRATOR = "admin"
CLIENT_ID = "demo"
CLIENT_SECRET = "demo-secret"  # noqa: S105
REDIRECT_URIS = ("http://127.0.0.1:8080/callback", "http://localhost:8080/callback")


def seed(store: Store) -> str | None:
    """Add the missing demo data. Return the password of a new administrator, which is not stored in clear, or None."""
    with suppress(ValueError):  # the operator may have registered this name
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


def welcome(store: Store, administrator_password: str | None) -> str:
    """Return the next steps, as lines for the terminal. Leaves out demo data that has been deleted."""
    issuer = store.settings.issuer
    client, identifier = store.read(
        store.clients.lookup(CLIENT_ID), store.identifiers.lookup(username_identifier(USERNAME))
    )
    user = store.users.get(identifier.sub) if identifier else None
    lines = ["", f"  Signet               {issuer}"]
    if store.settings.playground and user:
        lines.append(f"  playground           {issuer}/playground")
    if store.settings.mailbox:
        lines.append(f"  mailbox              {issuer}/mailbox")
    if user:
        # The data of an earlier version has another password.
        secret = f", password {PASSWORD}" if passwords.matches(PASSWORD, user.password_hash) else ""
        lines.append(f"  demo user            {USERNAME}{secret}")
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
            "                       (if no application of yours listens there, the browser cannot connect,",
            "                       and its address bar has the code)",
            f"  open in a browser    {issuer}/oauth2/authorize?{urlencode(request)}",
        ]
    lines.append(f"  try with curl        curl {issuer}/.well-known/openid-configuration")
    if administrator_password:
        lines += [
            f"  first account        {ADMINISTRATOR}, password {administrator_password}",
            "                       (shown only once; you must change it at the first sign-in)",
        ]
    return "\n".join([*lines, ""])
