"""The clients that are part of the server: the account page, and the playground where it is on. They have no record."""

from collections.abc import Callable

from chalicelib.handles import secret_hash
from chalicelib.models import Client
from chalicelib.settings import Settings

ACCOUNT = "account"
PLAYGROUND = "playground"
PLAYGROUND_CALLBACK = "/playground/callback"
# Nobody can register a client under these.
RESERVED = frozenset({ACCOUNT, PLAYGROUND})


def find(client_id: str, settings: Settings, playground_secret: Callable[[], str]) -> Client | None:
    """The client of this name, None when there is none of ours."""
    if client_id == ACCOUNT:
        # It has no secret and gets no code: what it needs is that the person is signed in, in this browser.
        return Client(
            client_id=ACCOUNT,
            client_name=f"Your account at {settings.name}",
            redirect_uris=(settings.issuer + "/account",),
            grant_types=("authorization_code",),
            require_pkce=False,
            trusted=True,
        )
    if client_id == PLAYGROUND and settings.playground:
        return Client(
            client_id=PLAYGROUND,
            client_name="Photo Print, the playground",
            redirect_uris=(settings.issuer + PLAYGROUND_CALLBACK,),
            post_logout_redirect_uris=(settings.issuer + "/playground",),
            scope="openid profile email offline_access",
            secret_hashes=(secret_hash(playground_secret()),),
        )
    return None
