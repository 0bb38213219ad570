"""A grant as the authorization endpoint gives birth to it, without the pages that come before."""

from dataclasses import replace
from typing import Any

from chalicelib.handles import new_id
from chalicelib.models import Client, Grant, User
from tests.browser import CHALLENGE
from tests.site import Registered, Site


def born(site: Site, client: Registered, user: User | None = None, **members: Any) -> Grant:
    """A stored grant whose code waits to be redeemed."""
    now, settings = site.clock(), site.settings
    lifetime = client.record.authorization_code_lifetime or settings.authorization_code_lifetime
    given: dict[str, Any] = {
        "grant_id": new_id(),
        "client_id": client.id,
        "sub": user.sub if user else "nobody",
        "session_id": "nobody.nowhere",
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
    grant = Grant(**(given | members))
    assert site.server.store.grants.insert(grant)
    return grant


def code_of(site: Site, client: Registered, user: User | None = None, **members: Any) -> str:
    """The code of such a grant."""
    code = site.server.keys.make_handle("code", born(site, client, user, **members).grant_id)
    site.secrets.add(code)
    return code


def change(site: Site, client: Registered, **members: Any) -> Client:
    """The operator changes a client's record; our server forgets what it knew of it."""
    record = replace(client.record, **members)
    site.server.store.clients.put(record)
    site.server._clients.clear()
    return record
