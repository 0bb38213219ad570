"""The playground's client: a confidential one that our own server runs. It has no record: the setting is all there is."""

from chalicelib.handles import secret_hash
from chalicelib.models import Client

CLIENT_ID = "playground"
CALLBACK = "/playground/callback"


def client(issuer: str, client_secret: str) -> Client:
    """The client, as if it had been registered with this secret."""
    return Client(
        client_id=CLIENT_ID,
        client_name="Photo Print, the playground",
        redirect_uris=(issuer + CALLBACK,),
        post_logout_redirect_uris=(issuer + "/playground",),
        scope="openid profile email offline_access",
        secret_hashes=(secret_hash(client_secret),),
    )
