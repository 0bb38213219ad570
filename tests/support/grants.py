"""Grants and codes made in the tables, without going through the pages of the authorization endpoint."""

from dataclasses import replace
from typing import Any

from chalicelib.protocol.client import Client
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.records import User
from tests.support.browser import CHALLENGE
from tests.support.site import Registered, Site

NO_USER = "no-user"


def insert_grant(site: Site, client: Registered, user: User | None = None, **members: Any) -> Grant:
    """Insert a grant whose code can be redeemed, and return it; `members` replace its fields.

    It is like one of HTTP Basic sign-in, so that it needs no session; by default its user is one without a name.
    """
    now, settings = site.clock(), site.settings
    if user is None:
        user = User(NO_USER, NO_USER, "", {})
        site.server.store.users.insert(user)
    lifetime = client.record.authorization_code_lifetime or settings.authorization_code_lifetime
    fields: dict[str, Any] = {
        "grant_id": new_id(),
        "client_id": client.id,
        "sub": user.sub,
        "session_id": f"{user.sub}.no-session",
        "session_stored": False,
        "user_generation": user.grants_generation,
        "sessions_generation": user.sessions_generation,
        "registration_id": client.record.registration_id,
        "redirect_uri": client.record.redirect_uris[0],
        "redirect_uri_sent": True,
        "scope": frozenset({"openid", "email", "profile"}),
        "auth_time": now - 5,
        "created_at": now,
        "code_expires_at": now + lifetime,
        "expires_at": now + lifetime,
        "ends_at": now + settings.refresh_token_absolute_lifetime,
        "code_challenge": CHALLENGE,
    }
    grant = Grant(**(fields | members))
    assert site.server.store.grants.insert(grant)
    return grant


def create_code(site: Site, client: Registered, user: User | None = None, **members: Any) -> str:
    """Insert such a grant and return its code."""
    code = site.server.keys.make_handle("code", insert_grant(site, client, user, **members).grant_id)
    site.secrets.add(code)
    return code


def update_client(site: Site, client: Registered, **members: Any) -> Client:
    """Change a client's record as the operator would, and clear the server's cache of clients."""
    record = replace(client.record, **members)
    site.server.store.clients.put(record)
    site.server.forget_cached_records()
    return record
