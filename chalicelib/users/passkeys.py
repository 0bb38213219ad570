"""The passkeys of a user: adding, renaming and removing them."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from chalicelib import events
from chalicelib.authentication.passkey_options import for_creation, spending
from chalicelib.authentication.passkeys import PasskeyError, check_attestation, read_attestation
from chalicelib.events import history
from chalicelib.http.messages import Request
from chalicelib.mail.notices import tell
from chalicelib.protocol.identifiers import trim
from chalicelib.protocol.next_step import SignedInUser
from chalicelib.protocol.passkey import MAX_NAME, MAX_PASSKEYS, Passkey, passkey_identifier, user_handle
from chalicelib.protocol.records import Identifier, User
from chalicelib.protocol.texts import Text, is_printable
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.lifetime import REPEATED_FOR
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.store import Store
from chalicelib.storage.table import Write


def list_passkeys(store: Store, sub: str) -> list[Passkey]:
    """Return the passkeys of a user, the oldest first. One call."""
    return sorted(store.passkeys.find("sub", sub), key=lambda passkey: (passkey.created_at, passkey.passkey_id))


def check_name(name: str) -> str:
    """Return the name of a passkey, without spaces around it. Raises ValueError with a sentence for the user."""
    name = trim(name)
    if not is_printable(name) or len(name) > MAX_NAME:
        raise ValueError(Text("The name must have 1 to %(most)s printable characters.", most=MAX_NAME))
    return name


def add(server: AuthorizationServer, http: Request, signed_in: SignedInUser, answer: str, name: str) -> Passkey:
    """Store a new passkey of the signed-in user, named after the browser if `name` is empty; return it.

    `answer`: that of the browser to the options of this session. One read of the user's passkeys and one transaction,
    with the event and the mail that tells the user. The same answer, sent twice, adds it once. Raises PasskeyError, and
    ValueError for a name or when the user has too many.
    """
    rp_id, user, now = server.settings.passkey_domain, signed_in.user, server.now()
    if rp_id is None or user_handle(user.sub) is None:
        raise PasskeyError("passkey_unavailable")
    name = check_name(name or history.device(http) or "Passkey")
    attestation = read_attestation(answer)
    purpose = for_creation(signed_in.session.session_id, user.sub)
    passkey = check_attestation(attestation, user.sub, rp_id, server.settings.passkey_origins, purpose.checks(server))
    passkey = replace(passkey, name=name, created_at=now)
    if len(list_passkeys(server.store, user.sub)) >= MAX_PASSKEYS:
        raise ValueError(
            Text("You can have at most %(most)s passkeys. Remove one that you no longer use.", most=MAX_PASSKEYS)
        )
    store = server.store
    inserting = store.passkeys.inserting(passkey)
    refused = store.transact(
        inserting,
        store.identifiers.inserting(Identifier(passkey_identifier(passkey.passkey_id), user.sub)),
        _of_active_user(server, user),
        spending(server, attestation.client_data),
        events.record(store, http, events.PASSKEY_ADDED, user.sub, detail=name),
        *tell(server, http, user, "passkey_added"),
    )
    if refused is None:
        return passkey
    refusal = refused.of(inserting)
    existing = refusal.record if refusal else None
    if existing and existing.public_key == passkey.public_key and now - existing.created_at < REPEATED_FOR:
        return existing  # by the same form, a moment ago
    raise PasskeyError("passkey_in_use")


def _of_active_user(server: AuthorizationServer, user: User) -> Write[User]:
    """Return the write after which the user is no longer asked to add a passkey; refused as `require_active_user`.

    Also when a second factor was set up in between, which the session may not have.
    """
    users = server.store.users
    active = users.unchanged(user, "disabled_at", "deleted_at", "sessions_generation", "totp_generation")
    return users.changing((user.sub,), active, {"passkey_offered_at": user.passkey_offered_at or server.now()})


def rename(server: AuthorizationServer, http: Request, user: User, passkey_id: str, name: str) -> bool:
    """Give a passkey of a user another name, with the event. Return False when there is no such passkey.

    Raises ValueError for a name that is not acceptable.
    """
    store, name = server.store, check_name(name)
    changing = store.passkeys.changing((user.sub, passkey_id), None, {"name": name})
    return store.transact(changing, events.record(store, http, events.PASSKEY_RENAMED, user.sub, detail=name)) is None


def remove(store: Store, passkey: Passkey, *also: Write[Any]) -> bool:
    """Delete a passkey, so that another account may have it, with the writes `also`. Return False when it is gone."""
    of_user = attr("sub").eq(passkey.sub)
    refused = store.transact(
        store.passkeys.deleting((passkey.sub, passkey.passkey_id)),
        store.identifiers.deleting((passkey_identifier(passkey.passkey_id),), of_user),
        *also,
    )
    return refused is None


def remove_all(store: Store, sub: str) -> None:
    """Delete all passkeys of a user who is being deleted. An interrupted deletion can be repeated."""
    for passkey in store.passkeys.find("sub", sub):
        store.transact(store.identifiers.deleting((passkey_identifier(passkey.passkey_id),), attr("sub").eq(sub)))
        store.passkeys.delete(sub, passkey.passkey_id)


def is_last_way_in(user: User, passkeys: Iterable[Passkey]) -> bool:
    """Return whether the user could no longer sign in without the only one of these passkeys."""
    return not user.password_hash and len(list(passkeys)) == 1
