"""Who a person, and a session of theirs, is to one client: `sub` and `sid`."""

import hashlib
from urllib.parse import urlsplit

from chalicelib.handles import base64url
from chalicelib.models import Client, Grant
from chalicelib.server import AuthorizationServer

SUBJECT_TYPES = ("public", "pairwise")


def subject(server: AuthorizationServer, client: Client, sub: str) -> str:
    """The `sub` that a client knows a person by (OpenID Connect Core section 8).

    A pairwise one is the same for all clients whose answers go to the same host, and another for any other host.
    """
    return sub if client.subject_type == "public" else server.keys.pairwise(sector(client), sub)


def subject_of(server: AuthorizationServer, client: Client, grant: Grant) -> str:
    """The `sub` in the tokens of a grant: a person, or the client itself where there is none (client_credentials)."""
    return subject(server, client, grant.sub) if grant.session_id else grant.sub


def sector(client: Client) -> str:
    """The host of its redirect URIs, which registration holds to one (OpenID Connect Core section 8.1)."""
    return urlsplit(client.redirect_uris[0]).hostname or ""


def sid(session_id: str, client_id: str) -> str:
    """The `sid` that a client knows a session by (OpenID Connect Back-Channel Logout section 2.1).

    It tells nobody whose session it is, nor two clients that theirs are one: that would defeat pairwise subjects.
    """
    # The random part of the id, which no client learns, is the secret of the hash.
    random = session_id.rpartition(".")[2]
    return base64url(hashlib.sha256(f"{random} {client_id}".encode()).digest()[:16])
