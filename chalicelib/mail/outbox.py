"""The outbox: a request stores a mail in its own transaction, and its delivery is asked for when that has succeeded.

The request does not wait for the mail, so its time does not tell whether one was sent. In Lambda, the delivery is an
asynchronous invocation of the own alias; when that fails, and everywhere else, the schedule `deliver` sends the mail.
"""

import json
from dataclasses import field, replace

from chalicelib.aws.client import AwsError
from chalicelib.aws.messages import NoAnswer, NotConfigured
from chalicelib.protocol.durations import DAY
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.outgoing_mail import MAIL_OUTBOX, OutgoingMail
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.storage.store import Store
from chalicelib.storage.table import Write

ALIAS = "live"  # of infra/aws/api.yaml
UNKNOWN_LANGUAGE = "und"  # RFC 5646: undetermined; the mail is in that of the setting
EVENT = "deliver"  # the member of the event that has the ids


@dataclass(frozen=True)
class Mail:
    """A mail. `template`: the name of a text in pages/mail. `to`: its address; "" is a decoy, which is not sent.

    `sub`: the user that it is about. `values`: what the text needs besides `server`, `link` and `code`; each is shown
    on one line. `locale`: the language of its reader. `proof_id`: the proof that its code and its link are for.
    `lifetime`: seconds in which it is sent.
    """

    template: str
    to: str
    sub: str | None
    values: dict[str, str] = field(default_factory=dict)
    locale: str = UNKNOWN_LANGUAGE
    proof_id: str | None = None
    lifetime: int = DAY


def sending(server: AuthorizationServer, mail: Mail) -> Write[OutgoingMail]:
    """Return the write that puts a mail into the outbox. Once it succeeds, `hand_over` is called."""
    record = _record(mail, server.now())
    write = server.store.mails.inserting(record)
    return replace(write, on_success=lambda: hand_over(server, record.delivery_id))


def storing(store: Store, mail: Mail) -> Write[OutgoingMail]:
    """Return the same write for a command, which has only the storage: the server's schedule sends the mail."""
    return store.mails.inserting(_record(mail, store.now()))


def _record(mail: Mail, now: int) -> OutgoingMail:
    return OutgoingMail(
        delivery_id=new_id(),
        created_at=now,
        expires_at=now + mail.lifetime,
        sub=mail.sub or "",
        template=mail.template,
        to=mail.to,
        values=mail.values,
        locale=mail.locale,
        proof_id=mail.proof_id,
        not_before=now,
        outbox=MAIL_OUTBOX,
    )


def hand_over(server: AuthorizationServer, *delivery_ids: str) -> None:
    """Ask for the delivery of mails in the outbox, now. A failure is harmless: the schedule delivers them too."""
    function = server.settings.function
    if function is None:
        return
    path = f"/2015-03-31/functions/{function}/invocations?Qualifier={ALIAS}"
    body = json.dumps({EVENT: delivery_ids}).encode()
    try:
        client = server.store.account.client("lambda")
        client.post(path, "Invoke", body, {"X-Amz-Invocation-Type": "Event"})
    except (AwsError, NoAnswer, NotConfigured, TemporarilyUnavailable):
        return
