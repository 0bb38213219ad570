"""Changing a password: by the operator, or by the user who is signed in."""

from dataclasses import replace
from typing import Any

from chalicelib import events
from chalicelib.authentication import passwords
from chalicelib.http.messages import Request
from chalicelib.protocol.errors import AccessDenied
from chalicelib.protocol.next_step import SignedInUser
from chalicelib.protocol.records import User
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_sessions import start_session
from chalicelib.sessions.revocation import end_all
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.store import Store
from chalicelib.storage.table import Write


def change_password(
    store: Store, user: User, password: str, *also: Write[Any], must_be_replaced: bool = False, keep: str | None = None
) -> User:
    """Change a user's password, and end every session and grant of theirs; return the new record.

    The password is changed in one transaction with the writes `also`. The session whose id is `keep` loses its grants,
    and can be continued by signing in. Raises AccessDenied when the record is no longer as in `user`.
    """
    unchanged = attr("password_hash").eq(user.password_hash) & attr("sessions_generation").eq(user.sessions_generation)
    disabled = attr("disabled_at")
    unchanged &= disabled.not_exists() if user.disabled_at is None else disabled.eq(user.disabled_at)
    changes: dict[str, Any] = {
        "password_hash": passwords.hash_password(password),
        "password_change_required": must_be_replaced,
        "sessions_generation": user.sessions_generation + 1,
    }
    # Before the change, which is made only if all can be ended and the applications told; and after it, when no session
    # or grant can be created any longer. These are the PASSES of an index.
    end_all(store, user.sub, keep, offline_access=True)
    if store.transact(store.users.changing((user.sub,), unchanged, changes), *also):
        raise AccessDenied("This account has been changed by another request.")
    end_all(store, user.sub, keep, offline_access=True)
    return replace(user, **changes)


def change_own_password(
    server: AuthorizationServer,
    http: Request,
    signed_in: SignedInUser,
    password: str,
    request_id: str,
    recorded: tuple[Write[Any], ...] = (),
) -> SignedInUser:
    """Change the password of the signed-in user, whose session continues under a new cookie.

    `recorded`: the writes that record it in the history, where a sign-in attempt has them. Raises AccessDenied.
    """
    writes = recorded or (events.record(server.store, http, events.PASSWORD_CHANGED, signed_in.user.sub),)
    changed = change_password(server.store, signed_in.user, password, *writes, keep=signed_in.session.session_id)
    return start_session(server, http, changed, request_id, replace(signed_in, user=changed))
