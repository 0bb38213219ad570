"""The rule that decides whether a grant is still valid, by the records that it depends on.

No clocks are compared: the grant holds copies of numbers in these records, and an ending changes the number. Whether
the grant itself was revoked or has expired is in its own record.
"""

from chalicelib.protocol.client import Client
from chalicelib.protocol.grant import Grant, GrantEntry
from chalicelib.protocol.records import Consent, Session, User

NO_CLIENT = "the client was deleted or is disabled"


def why_ended(
    grant: Grant, client: Client | None, user: User | None, session: Session | None, consent: Consent | None
) -> str | None:
    """Return why a grant has ended, or None when it is valid.

    Each record is None when it is absent, expired, or (a client) disabled.
    """
    if client is None:
        return NO_CLIENT
    if grant.registration_id != client.registration_id:
        return "the client was registered again"
    if grant.client_generation != client.grants_generation:
        return "all grants of the client were ended"
    if not grant.has_user:
        return None
    ended = why_entry_ended(grant, user, consent)
    if ended is None and grant.depends_on_session and not _in_valid_session(grant, client, user, session):
        return "the session has ended"
    return ended


def why_entry_ended(entry: GrantEntry, user: User | None, consent: Consent | None) -> str | None:
    """Return why a grant of a user has ended, if its entry in the index says so already."""
    if user is None or not user.active:
        return "the user was deleted or is disabled"
    if entry.user_generation != user.grants_generation:
        return "all grants of the user were ended"
    if entry.consent_generation != (consent.generation if consent else 0):
        return "the access of the client was removed"
    return None


def _in_valid_session(grant: Grant, client: Client, user: User | None, session: Session | None) -> bool:
    if session is not None:
        return user is not None and session.is_valid_for(user)
    if grant.session_stored is None:  # a record of version 1: only HTTP Basic sign-in stored no session
        return client.direct_sign_in
    return not grant.session_stored and user is not None and grant.sessions_generation == user.sessions_generation
