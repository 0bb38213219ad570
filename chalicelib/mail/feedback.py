"""What Amazon SES reports about mails that were sent: bounces and complaints.

https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html. EventBridge calls the function
with these events (infra/aws/api.yaml). A temporary bounce needs nothing: SES itself tries again for hours.
"""

from dataclasses import replace
from typing import Any

from chalicelib import events
from chalicelib.events.log import log_event
from chalicelib.mail.sender import SUB_TAG
from chalicelib.protocol.email_addresses import canonical
from chalicelib.protocol.handles import from_base64url
from chalicelib.protocol.records import User
from chalicelib.server import AuthorizationServer


def receive(server: AuthorizationServer, detail: dict[str, Any]) -> None:
    """Mark the address of a user as undeliverable, as far as it is still theirs. `detail`: of the event.

    Raises TemporarilyUnavailable, and KeyError when the event has not the form of one.
    """
    recipients = _recipients(detail)
    if recipients is None:
        return
    addresses = {text for entry in recipients if (text := _canonical(entry["emailAddress"]))}
    sub = _sub(detail)
    log_event(server.settings, events.EMAIL_BOUNCED, sub=sub, detail=detail["eventType"].lower())
    user = server.store.users.get(sub) if sub else None
    if user:
        server.store.amend(server.store.users, user, lambda user: _marked(user, addresses))


def is_undeliverable(user: User) -> bool:
    """Return whether mails to the present address of a user have been returned, or were complained about."""
    return user.email_undeliverable is not None and user.email_undeliverable == current_address(user)


def current_address(user: User) -> str | None:
    """Return the canonical form of a user's email address; None without one, or when it is none."""
    return _canonical(user.claims.get("email"))


def _marked(user: User, addresses: set[str]) -> User:
    address = current_address(user)
    return replace(user, email_undeliverable=address) if address in addresses else user


def _recipients(detail: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return the recipients of a permanent bounce or a complaint, None of anything else."""
    match detail:
        case {"eventType": "Bounce", "bounce": {"bounceType": "Permanent", "bouncedRecipients": [*recipients]}}:
            return recipients
        # The reader has said that the mail is no spam.
        case {"eventType": "Complaint", "complaint": {"complaintFeedbackType": "not-spam"}}:
            return None
        case {"eventType": "Complaint", "complaint": {"complainedRecipients": [*recipients]}}:
            return recipients
    return None


def _sub(detail: dict[str, Any]) -> str | None:
    values = detail["mail"].get("tags", {}).get(SUB_TAG)
    try:
        return from_base64url(values[0]).decode() if values else None
    except ValueError:
        return None


def _canonical(address: object) -> str | None:
    try:
        return canonical(address.rpartition("<")[2].removesuffix(">")) if isinstance(address, str) else None
    except ValueError:
        return None
