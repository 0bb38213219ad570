"""The `sub` and `sid` by which one client knows a user and a session."""

import hashlib
from urllib.parse import urlsplit

from chalicelib.protocol.client import Client
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.handles import base64url
from chalicelib.server import AuthorizationServer


def subject(server: AuthorizationServer, client: Client, sub: str) -> str:
    """Return the `sub` by which a client knows a user (OpenID Connect Core section 8).

    A pairwise one is equal for all clients with redirect URIs of the same host, and different for any other host.
    """
    return sub if client.subject_type == "public" else server.keys.pairwise_subject(sector(client), sub)


def grant_subject(server: AuthorizationServer, client: Client, grant: Grant) -> str:
    """Return the `sub` in the tokens of a grant: of its user, or of the client itself (client_credentials)."""
    # RFC 9068 section 2.2
    return subject(server, client, grant.sub) if grant.sub and grant.has_user else grant.client_id


def sector(client: Client) -> str:
    """Return the host of its redirect URIs; registration requires a single one (OpenID Connect Core section 8.1)."""
    return urlsplit(client.redirect_uris[0]).hostname or ""


def sid(session_id: str, client_id: str) -> str:
    """Return the `sid` by which a client knows a session (OpenID Connect Back-Channel Logout section 2.1).

    It does not reveal the user, and two clients cannot compare theirs: that would defeat pairwise subjects.
    """
    # The random part of the id is the secret of the hash: no client gets it.
    random = session_id.rpartition(".")[2]
    return base64url(hashlib.sha256(f"{random} {client_id}".encode()).digest()[:16])
