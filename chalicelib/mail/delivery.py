"""The delivery of the mails in the outbox: those that are due, and those that a request has just handed over.

An attempt first claims its mail by one conditional write that moves the next attempt, so that two runs at once send one
mail. When the answer of SES is lost, or the process ends before it has stored the outcome, the mail is sent once more:
a user may get it twice, and no user gets none. It is never sent a third time for this reason.
"""

import time
from collections.abc import Iterable

from chalicelib import events
from chalicelib.events.log import log_event
from chalicelib.mail import limits, message, sender
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.protocol.outgoing_mail import MAIL_OUTBOX, OutgoingMail
from chalicelib.server import AuthorizationServer
from chalicelib.settings import SettingsError
from chalicelib.storage.due import work_off
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.table import Refused

FIRST_PAUSE = 60  # seconds after the first attempt; each further pause is twice as long
MAX_UNANSWERED = 2
WORKERS = 4
# Seconds in which a run starts attempts. The function runs for 15, and sends logout tokens after this.
START_WITHIN = 1.5


def deliver(server: AuthorizationServer) -> None:
    """Send the mails that are due, the oldest first, for START_WITHIN seconds; a later run sends the rest.

    Raises TemporarilyUnavailable when a record cannot be read or written, SettingsError when no issuer is set.
    """
    if not server.settings.can_send_mail:
        return
    until = time.monotonic() + START_WITHIN
    due = server.store.mails.find("outbox", MAIL_OUTBOX, index="due", range_=attr("not_before").lte(server.now()))
    work_off(
        due,
        lambda mail: _attempt(server, mail.delivery_id, mail.tries),
        threads=WORKERS,
        until=until,
        prepare=lambda: _require_issuer(server),
    )


def deliver_now(server: AuthorizationServer, delivery_ids: Iterable[str]) -> None:
    """Send the mails with these ids, if they are due. Raises TemporarilyUnavailable and SettingsError."""
    if server.settings.can_send_mail:
        _require_issuer(server)
        for delivery_id in delivery_ids:
            _attempt(server, delivery_id, 0)


def _require_issuer(server: AuthorizationServer) -> None:
    """Raise SettingsError when no setting names the issuer: no request is there to tell it, and links need it."""
    if not server.issuer:
        raise SettingsError("SIGNET_ISSUER must be set: without it no mail can have a link")


def _attempt(server: AuthorizationServer, delivery_id: str, tries: int) -> None:
    """Claim a mail, send it, and note what came of it. `tries`: perhaps fewer than there were, as an index lags."""
    mails, now, key = server.store.mails, server.now(), (delivery_id,)
    is_due = attr("outbox").eq(MAIL_OUTBOX) & attr("not_before").lte(now)
    pause = {"not_before": now + FIRST_PAUSE * 2**tries}
    mail = mails.write(mails.changing(key, is_due, pause, {"tries": 1, "unanswered": 1}))
    if isinstance(mail, Refused):
        return
    if not mail.to:
        mails.delete(*key)
        return
    if mail.unanswered > MAX_UNANSWERED:
        _give_up(server, mail, "no answer")
        return
    if mail.tries == 1 and (ceiling_ends := limits.count_sent(server)):
        log_event(server.settings, events.EMAIL_LIMITED, sub=mail.sub, detail=mail.template)
        mails.transition(key, None, {"not_before": ceiling_ends, "tries": 0, "unanswered": 0})
        return
    outcome = _send(server, mail)
    if outcome.kind == "sent":
        mails.delete(*key)
        log_event(server.settings, events.EMAIL_SENT, sub=mail.sub, detail=mail.template)
    elif outcome.kind == "never" or mail.not_before >= mail.expires_at:
        _give_up(server, mail, outcome.reason)
    else:
        log_event(server.settings, events.EMAIL_DELAYED, sub=mail.sub, detail=f"{mail.template}: {outcome.reason}")
        if outcome.kind == "later":
            mails.transition(key, None, {"unanswered": mail.unanswered - 1})


def _send(server: AuthorizationServer, mail: OutgoingMail) -> sender.Outcome:
    try:
        content = message.compose(server, mail)
    except TemporarilyUnavailable:
        return sender.Outcome("later", "key ring")
    except Exception as error:  # a text without one of its values: no attempt will succeed
        return sender.Outcome("never", type(error).__name__)
    return sender.send(server, mail, content)


def _give_up(server: AuthorizationServer, mail: OutgoingMail, reason: str) -> None:
    log_event(server.settings, events.EMAIL_UNDELIVERED, sub=mail.sub, detail=f"{mail.template}: {reason}")
    server.store.mails.delete(mail.delivery_id)
