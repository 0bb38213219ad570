"""Everything that is stored about a user, as a document for that user: docs/account-pages.md describes its format.

Each kind of record has a list of the fields that are given, and of those that are left out: secrets, and numbers by
which the server compares records. A test asks for a decision about every new field.
"""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from chalicelib.events.activity import LABELS
from chalicelib.pages import iso_time
from chalicelib.protocol.identifiers import username_identifier
from chalicelib.protocol.records import Identifier, User
from chalicelib.server import AuthorizationServer
from chalicelib.storage.store import Store
from chalicelib.users.identifiers import address_identifier

FORMAT = "signet-account-data"
VERSION = 1
# Records of one kind, the newest first: the answer of a function is limited to 6 MB.
MOST_RECORDS = 5000
# kind of record -> the fields that the document has
GIVEN: Mapping[str, tuple[str, ...]] = {
    "user": (
        *("sub", "username", "claims", "admin", "password_change_required"),
        *("created_at", "disabled_at", "deleted_at", "deletion_due_at", "groups", "email_undeliverable"),
        *("totp_confirmed_at", "passkey_offered_at"),
    ),
    "passkey": ("name", "rp_id", "transports", "backed_up", "created_at", "last_used_at"),
    "identifier": ("identifier",),
    "consent": ("client_id", "scope", "resource_scope", "claims", "updated_at"),
    "session": (
        *("device", "network", "amr", "kept", "created_at", "auth_time", "active_until", "expires_at", "ended_at"),
        "backchannel_clients",
    ),
    "grant": (
        *("client_id", "scope", "resource", "resource_scope", "claims", "redirect_uri", "device", "amr"),
        *("authorization_details", "refreshed_at"),
        *("created_at", "auth_time", "redeemed_at", "rotated_at", "revoked_at", "expires_at", "ends_at"),
    ),
    "event": ("name", "created_at", "expires_at", "client_id", "client_name", "source_ip", "device", "detail"),
}
# kind of record -> the fields that it has not: secrets, digests, and numbers that only this server understands
LEFT_OUT: Mapping[str, tuple[str, ...]] = {
    "user": (
        *("password_hash", "password_generation", "sessions_generation", "grants_generation", "consents_generation"),
        *("totp_secret", "totp_step", "totp_generation", "recovery_batch", "recovery_codes"),
        *("email_changes", "email_void_from", "email_void_until"),
    ),
    "identifier": ("sub",),
    "consent": (
        *("sub", "generation", "consents_generation", "registration_id", "client_generation", "document_digest"),
    ),
    "session": (
        *("session_id", "sub", "generation", "sessions_generation", "request_id", "version"),
        *("renewed_at", "renewed_by", "repeats", "mfa_time"),
    ),
    "grant": (
        *("grant_id", "sub", "session_id", "session_stored", "redirect_uri_sent", "nonce", "code_challenge"),
        *("code_expires_at", "generation", "user_generation", "consent_generation", "client_generation"),
        *("registration_id", "sessions_generation", "auth_method"),
        *("dpop_jkt", "dpop_jti", "refresh_token_jkt", "refresh_token_x5t"),
    ),
    "event": ("sub", "event_id"),
}
_TIMES = {"auth_time", "active_until"}


def account_data(server: AuthorizationServer, user: User) -> dict[str, Any]:
    """Return the document about a user. Lists have the newest first, and at most MOST_RECORDS.

    `truncated` names those that have been cut off.
    """
    store, sub = server.store, user.sub
    entries = sorted(store.grant_entries.find("sub", sub, index="user"), key=lambda entry: -entry.created_at)
    grants = store.read(*(store.grants.lookup(entry.grant_id) for entry in entries[: MOST_RECORDS + 1]))
    sessions = sorted(store.sessions.find("sub", sub, index="sub"), key=lambda session: -session.auth_time)
    events = store.events.find("sub", sub, newest=MOST_RECORDS + 1)
    lists: dict[str, list[dict[str, Any]]] = {
        "identifiers": [_members("identifier", each) for each in _identifiers(store, user)],
        "passkeys": [_members("passkey", each) for each in store.passkeys.find("sub", sub)],
        "consents": [_members("consent", each) for each in store.consents.find("sub", sub) if not each.empty],
        "sessions": [_members("session", each) for each in sessions[: MOST_RECORDS + 1]],
        "grants": [_members("grant", each) for each in grants if each],
        "activity": [_members("event", each) | _text(each.name) for each in islice(events, MOST_RECORDS + 1)],
    }
    _add_client_names(store, [*lists["consents"], *lists["grants"]])
    truncated = [name for name, records in lists.items() if len(records) > MOST_RECORDS]
    return {
        "format": FORMAT,
        "version": VERSION,
        "issuer": server.issuer,
        "created_at": iso_time(server.now()),
        "truncated": truncated,
        "user": _members("user", user),
        **{name: records[:MOST_RECORDS] for name, records in lists.items()},
    }


def _identifiers(store: Store, user: User) -> list[Identifier]:
    """Return the records of the names by which the user signs in: the username, and a verified address."""
    keys = [username_identifier(user.username), address_identifier(user)]
    records = store.read(*(store.identifiers.lookup(key) for key in keys if key))
    return [record for record in records if record and record.sub == user.sub]


def _members(kind: str, record: object) -> dict[str, Any]:
    """Return the given fields of a record that have a value, with times as in ISO 8601."""
    members = {name: _value(name, getattr(record, name)) for name in GIVEN[kind]}
    return {name: value for name, value in members.items() if value not in (None, "", [], {})}


def _value(name: str, value: Any) -> Any:
    if name == "rotated_at":
        return sorted(map(iso_time, value.values()))
    if value is not None and (name.endswith("_at") or name in _TIMES):
        return iso_time(value)
    return sorted(value) if isinstance(value, frozenset) else value


def _text(name: str) -> dict[str, str]:
    return {"text": LABELS[name]} if name in LABELS else {}


def _add_client_names(store: Store, records: list[dict[str, Any]]) -> None:
    """Add the names of the clients that still exist, by one read of them all."""
    client_ids = {record["client_id"] for record in records}
    read = store.read_all(lookup for client_id in sorted(client_ids) for lookup in store.lookups_of_client(client_id))
    for record in records:
        client = store.client_in(read, record["client_id"])
        if client:
            record["client_name"] = client.client_name
