"""The record of a mail that waits in the outbox."""

from dataclasses import field

from chalicelib.protocol.values import dataclass

MAIL_OUTBOX = "mail"


@dataclass(frozen=True)
class OutgoingMail:
    """A mail to be sent, in the table of deliveries. It has no code and no link: these are computed from `proof_id`.

    `template`: the name of its text. `to`: its address; "" is a decoy, which is stored and claimed like a mail, and not
    sent. `sub`: the user that it is about, "" for none. `values`: what the text needs. `proof_id`: of the proof that
    its code and its link are for. `tries`: attempts to send it; `unanswered`: those of them whose outcome is unknown.
    `not_before`: when the next attempt is due. `outbox`: MAIL_OUTBOX, its partition of the index `due`. Read by this
    index, a record has neither text nor address.
    """

    delivery_id: str
    created_at: int
    expires_at: int
    sub: str = ""
    template: str = ""
    to: str = ""
    values: dict[str, str] = field(default_factory=dict)
    locale: str = "en"
    proof_id: str | None = None
    tries: int = 0
    unanswered: int = 0
    not_before: int = 0
    outbox: str | None = None
