"""Changing a password: by the operator, or by the user who is signed in."""

from dataclasses import replace
from typing import Any

from chalicelib import events
from chalicelib.authentication import passwords
from chalicelib.authentication.password import VerifiedSignIn, remember_browser, remember_network
from chalicelib.http.messages import Request
from chalicelib.mail.notices import tell
from chalicelib.protocol.errors import AccessDenied
from chalicelib.protocol.next_step import SignedInUser
from chalicelib.protocol.records import User
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_sessions import browser_id_of, signed_in_again
from chalicelib.sessions.lifetime import renewed
from chalicelib.sessions.repeated_form import find_repeated
from chalicelib.sessions.revocation import keep_session, tell_clients, without_grants, without_sessions
from chalicelib.storage.store import Store
from chalicelib.storage.table import Write


def change_password(store: Store, user: User, password: str, *also: Write[Any], must_be_replaced: bool = False) -> User:
    """Change a user's password, and end every session and grant of theirs; return the new record.

    `also`: further writes of the transaction. Raises AccessDenied when the record is no longer as in `user`.
    """
    changed = _with_password(user, password, must_be_replaced=must_be_replaced)
    _write(store, user, changed, *also)
    return changed


def change_own_password(
    server: AuthorizationServer,
    http: Request,
    signed_in: SignedInUser,
    password: str,
    form: str,
    verified: VerifiedSignIn | None = None,
    by_passkey: tuple[Write[Any], ...] = (),
) -> SignedInUser:
    """Change the password of the signed-in user, whose session continues under a new cookie. All others end.

    `form`: the digest of the form. `verified`: the attempt that has proved the current password, if it was asked for:
    it is a new sign-in, and records the change in the history. `by_passkey`: the writes of a passkey that was used in
    its place, with the event. This browser and its network stay known. All is one transaction, with the mail that tells
    the user. The same form, sent twice, changes the password once. Raises AccessDenied when the user or the session has
    been changed in between, or the passkey was used.
    """
    store, user, session = server.store, signed_in.user, signed_in.session
    changed = _with_password(user, password)
    writes: tuple[Write[Any], ...]
    if verified:
        changes = signed_in_again(server, session, session.request_id or "", form)
        writes = verified.writes_for(changed)
    else:
        changes = renewed(server, session, form)
        recorded = by_passkey or (events.record(store, http, events.PASSWORD_CHANGED, user.sub),)
        browser = remember_browser(server, http, changed, browser_id_of(server, http))
        writes = (*recorded, *browser, *remember_network(server, http, changed))
    try:
        kept_session = keep_session(store, session, user, changed, **changes)
        _write(store, user, changed, kept_session, *writes, *tell(server, http, changed, "password_changed"))
    except AccessDenied:
        signed_in_now = find_repeated(server, http, session.sub, form, password)
        if signed_in_now is None:
            raise
        if verified:
            store.transact(*verified.attempt.writes_if_repeated(signed_in_now.user))
        return signed_in_now
    kept = replace(session, sessions_generation=changed.sessions_generation, **changes)
    return SignedInUser(changed, kept)


def _with_password(user: User, password: str, *, must_be_replaced: bool = False) -> User:
    return replace(
        without_grants(without_sessions(user)),
        password_hash=passwords.hash_password(password),
        password_change_required=must_be_replaced,
        password_generation=user.password_generation + 1,
    )


def changing_password(
    store: Store, user: User, password: str, *compared: str, must_be_replaced: bool = False
) -> tuple[User, tuple[Write[Any], ...]]:
    """Return the user with a new password, and the writes that change it and end every session and grant of theirs.

    They are refused when the record is no longer as in `user`, also in the fields `compared`.
    """
    changed = _with_password(user, password, must_be_replaced=must_be_replaced)
    return changed, _writes(store, user, changed, *compared)


def _write(store: Store, before: User, after: User, *also: Write[Any]) -> None:
    if store.transact(*_writes(store, before, after), *also):
        raise AccessDenied("This account has been changed by another request.")


def _writes(store: Store, before: User, after: User, *compared: str) -> tuple[Write[Any], ...]:
    """Return the writes of a change of the password. The first one is refused when `before` is out of date."""
    compared = ("password_hash", "sessions_generation", "grants_generation", "disabled_at", "deleted_at", *compared)
    generations = ("password_generation", "sessions_generation", "grants_generation")
    written = ("password_hash", "password_change_required", *generations)
    changes = {name: getattr(after, name) for name in written}
    change = store.users.changing((before.sub,), store.users.unchanged(before, *compared), changes)
    return change, tell_clients(store, after)
