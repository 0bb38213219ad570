"""Grants and codes made in the tables, without going through the pages of the authorization endpoint."""

from dataclasses import replace
from typing import Any

from chalicelib.protocol.handles import new_id
from chalicelib.protocol.records import Client, Grant, User
from tests.support.browser import CHALLENGE
from tests.support.site import Registered, Site


def insert_grant(site: Site, client: Registered, user: User | None = None, **members: Any) -> Grant:
    """Insert a grant whose code can be redeemed, and return it; `members` replace its fields."""
    now, settings = site.clock(), site.settings
    lifetime = client.record.authorization_code_lifetime or settings.authorization_code_lifetime
    fields: dict[str, Any] = {
        "grant_id": new_id(),
        "client_id": client.id,
        "sub": user.sub if user else "no-user",
        "session_id": "no-user.no-session",
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
