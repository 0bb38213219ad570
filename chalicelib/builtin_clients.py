"""The clients that are part of the server and have no record: the account page, and the playground when it is on."""

from collections.abc import Callable

from chalicelib.protocol.client import Client
from chalicelib.protocol.handles import secret_hash
from chalicelib.protocol.texts import Text
from chalicelib.settings import Settings

ACCOUNT = "account"
PLAYGROUND = "playground"
PLAYGROUND_CALLBACK = "/playground/callback"
# Client ids that cannot be registered.
RESERVED = frozenset({ACCOUNT, PLAYGROUND})


def find(
    client_id: str, settings: Settings, playground_secret: Callable[[], str], playground_types: Callable[[], list[str]]
) -> Client | None:
    """Return the built-in client with this id, or None.

    `playground_secret`, `playground_types`: the secret of the playground's client, and the names of the types of
    authorization details that it may ask for.
    """
    if client_id == ACCOUNT:
        # It has no secret and gets no code: it only needs a user who is signed in.
        return Client(
            client_id=ACCOUNT,
            client_name=Text("Your account at %(name)s", name=settings.name),
            # Pages that ask the user to sign in again are returned to.
            redirect_uris=tuple(settings.issuer + "/account" + page for page in ("", "/second-factor", "/passkeys")),
            default_redirect_uri=settings.issuer + "/account",
            default_acr_values=(settings.mfa_acr,),
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
            authorization_details_types=tuple(playground_types()) or None,
        )
    return None
