"""The mail that tells users of the deletion of their account, with a link and a code that restore it."""

from typing import Any

from chalicelib.authentication import proofs
from chalicelib.authentication.proofs import Content
from chalicelib.http.messages import Request
from chalicelib.mail.notices import locale_for, tell, verified_address
from chalicelib.mail.outbox import Mail, sending
from chalicelib.protocol.durations import DAY
from chalicelib.protocol.proof import RESTORE
from chalicelib.protocol.records import User
from chalicelib.server import AuthorizationServer
from chalicelib.storage.table import Write


def tell_of_deletion(server: AuthorizationServer, http: Request | None, deleted: User) -> tuple[Write[Any], ...]:
    """Return the writes that tell users of the deletion of their account. `deleted`: the new record.

    Empty without a sender, or when the user has no verified address. The link is valid for as long as the account can
    be restored, and for this deletion only; where it is removed at once, the mail has none.
    """
    to, deleted_at, due_at = verified_address(deleted), deleted.deleted_at, deleted.deletion_due_at
    if to is None or deleted_at is None or due_at is None or not server.settings.can_send_mail:
        return ()
    lifetime = due_at - deleted_at
    if lifetime <= 0:
        return tell(server, http, deleted, "account_removed")
    days, content = lifetime // DAY, Content(to, to)
    proof = proofs.new_proof(
        server, RESTORE, deleted.sub, content, sub=deleted.sub, generation=deleted_at, lifetime=lifetime
    )
    values = {"username": deleted.username, "period": f"{days} days" if days > 1 else "1 day"}
    locale = locale_for(server, http, deleted)
    mail = Mail("account_deleted", to, deleted.sub, values, locale, proof.proof_id)
    return proofs.storing(server, proof), sending(server, mail)
