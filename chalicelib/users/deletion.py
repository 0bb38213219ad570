"""A user deletes the own account: at once for everything that has access, and finally after some days.

The deletion is one write on the user. It ends all sessions and grants, and says until when the account can be restored.
Until then, name and records stay, and signing in offers nothing else than to restore the account. The same transaction
stores when the account is due; the schedule finds what is due by an index. A restoration and the schedule may compete:
the condition of both writes is the same deletion in the user's record, so that one of them is refused.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from chalicelib import events
from chalicelib.events.log import log_event
from chalicelib.http.messages import Request
from chalicelib.protocol.durations import DAY, YEAR
from chalicelib.protocol.errors import AccessDenied
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.records import User
from chalicelib.protocol.scheduled_deletion import DELETIONS, ScheduledDeletion
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.lifetime import REPEATED_FOR
from chalicelib.sessions.revocation import tell_clients, without_grants, without_sessions
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.store import Store
from chalicelib.storage.table import Write
from chalicelib.users import accounts
from chalicelib.users.confirmation import Confirmed
from chalicelib.users.deletion_notice import tell_of_deletion

# Seconds in which the schedule begins to remove accounts: less than the function may run.
START_WITHIN = 6.0
_TRIES = 5
# A record of the schedule stays for so long after its time, should the schedule not run.
_KEPT_FOR = 10 * YEAR
_GONE = "This account no longer exists."
_CHANGED = "This account has been changed by another request."


# ---- by the user


def delete_own_account(server: AuthorizationServer, http: Request, confirmed: Confirmed) -> User:
    """Delete the account of a user who has just confirmed it; return the new record.

    One transaction: the user, whose clients are told, the time for the schedule, the event in the history, and the mail
    with which the account can be restored. The same form sent twice deletes once. Raises AccessDenied when the user has
    been changed in between.
    """
    store, now, user = server.store, server.now(), confirmed.user
    if user.deleted_at is not None:  # by another copy of the form, a moment ago
        return _after_same_form(store, user, confirmed)
    due_at = now + store.settings.deletion_grace_days * DAY
    deleted = replace(without_grants(without_sessions(user)), deleted_at=now, deletion_due_at=due_at)
    compared = ("deleted_at", "disabled_at", "sessions_generation", "grants_generation", "password_generation")
    written = ("deleted_at", "deletion_due_at", "sessions_generation", "grants_generation")
    changes = {name: getattr(deleted, name) for name in written}
    change = store.users.changing((user.sub,), store.users.unchanged(user, *compared), changes)
    telling = (tell_clients(store, deleted), *tell_of_deletion(server, http, deleted))
    refused = store.transact(change, schedule(store, deleted), *telling, *confirmed.writes)
    if refused is None:
        return deleted
    refusal = refused.of(change)
    return _after_same_form(store, refusal.record if refusal else None, confirmed)


def _after_same_form(store: Store, user: User | None, confirmed: Confirmed) -> User:
    """Return the user whose account another copy of the form has just deleted. Raises AccessDenied for any other."""
    if user is None or user.deleted_at is None or store.now() - user.deleted_at >= REPEATED_FOR:
        raise AccessDenied(_CHANGED)
    store.transact(*confirmed.if_repeated)
    return user


def schedule(store: Store, user: User) -> Write[ScheduledDeletion]:
    """Return the write that has the schedule remove the account of a user who has deleted it."""
    deleted_at, due_at = user.deleted_at or store.now(), user.deletion_due_at or store.now()
    return store.deletions.inserting(
        ScheduledDeletion(new_id(), user.sub, deleted_at, not_before=due_at, expires_at=due_at + _KEPT_FOR)
    )


def restore(
    store: Store,
    sub: str,
    deleted_at: int | None = None,
    also: Callable[[User], tuple[Write[Any], ...]] = lambda _user: (),
) -> User:
    """Restore an account that its user has deleted; return the record, also if it was restored already.

    Sessions and grants stay ended; remembered consents are kept. `deleted_at`: the deletion that is to be undone, None
    for any. `also` returns further writes of the transaction, such as the event. The schedule's record stays, and
    removes nothing. Raises AccessDenied when the account is removed, due to be removed, or was deleted again.
    """
    for _ in range(_TRIES):
        user = store.users.get(sub)
        if user is None or user.is_gone(store.now()):
            raise AccessDenied(_GONE)
        if user.deleted_at is None:
            return user
        if deleted_at not in (None, user.deleted_at):
            raise AccessDenied("This account was deleted again. Sign in to restore it.")
        same = store.users.unchanged(user, "deleted_at", "deletion_due_at")
        change = store.users.changing((sub,), same, remove=("deleted_at", "deletion_due_at"))
        refused = store.transact(change, *also(user))
        if refused is None:
            return replace(user, deleted_at=None, deletion_due_at=None)
        if refused.of(change) is None:
            break
    raise AccessDenied(_CHANGED)


# ---- by the schedule


def remove_due(server: AuthorizationServer) -> None:
    """Remove the accounts that are due, for START_WITHIN seconds; a later run does the rest."""
    store, until = server.store, time.monotonic() + START_WITHIN
    until_now = attr("not_before").lte(server.now())
    for deletion in store.deletions.find("outbox", DELETIONS, index="due", range_=until_now):
        if time.monotonic() >= until:
            return
        if remove_user(server, deletion.sub, deletion.created_at):
            # Also after an interruption: the user is deleted first.
            accounts.delete_records(store, deletion.sub)
        store.deletions.delete(deletion.delivery_id)


def remove_user(server: AuthorizationServer, sub: str, deleted_at: int) -> bool:
    """Remove the record and the names of a user, if the account is due; return whether there is no such user now."""
    store = server.store
    while (user := store.users.get(sub)) is not None:
        if user.deleted_at != deleted_at or not user.is_gone(server.now()):
            return False
        same = store.users.unchanged(user, "deleted_at", "deletion_due_at")
        if store.transact(*accounts.deleting(store, user, same)) is None:
            log_event(server.settings, events.ACCOUNT_REMOVED, sub=sub)
            return True
    return True
