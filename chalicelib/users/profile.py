"""The profile that users may change themselves: which claims, and the one write that changes them."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from chalicelib import events
from chalicelib.http.messages import Request
from chalicelib.protocol.errors import AccessDenied
from chalicelib.protocol.handles import base64url
from chalicelib.protocol.records import User
from chalicelib.server import AuthorizationServer
from chalicelib.storage.table import Refused, Write
from chalicelib.users.accounts import with_claims


def editable(server: AuthorizationServer, user: User) -> dict[str, str]:
    """Return the claims that the user may change, with their values, "" for a missing one."""
    return {name: str(user.claims.get(name) or "") for name in server.settings.profile_claims}


def digest(server: AuthorizationServer, user: User) -> str:
    """Return what the form keeps of the profile that it has shown: the same for the same values only."""
    text = json.dumps(editable(server, user), sort_keys=True)
    return base64url(hashlib.sha256(text.encode()).digest()[:16])


def change(server: AuthorizationServer, http: Request, user: User, values: Mapping[str, str | None], seen: str) -> bool:
    """Change claims of the user, in one write with the event; return False if the profile has changed since `seen`.

    None removes a claim. What would change nothing is done already: the same form sent twice changes once. Raises
    AccessDenied when the user no longer exists.
    """
    store, conflict = server.store, False

    def with_values(current: User) -> User:
        nonlocal conflict
        changed = with_claims(current, values, store.now())
        conflict = changed != current and seen != digest(server, current)
        return current if conflict else changed

    def record(before: User, after: User) -> list[Write[Any]]:
        names = sorted(name for name in values if before.claims.get(name) != after.claims.get(name))
        return [events.record(store, http, events.PROFILE_CHANGED, after.sub, detail=", ".join(names))]

    if isinstance(store.amend(store.users, user, with_values, record), Refused):
        raise AccessDenied("This account no longer exists.")
    return not conflict
