"""What limits mails: three for an address in 15 minutes and ten in a day, twenty for a caller in an hour.

A request makes the same calls whether its address is limited or not, and counts for its caller in any case. A caller
beyond the limit is told so before anything is written, which tells nothing of the address. The periods are those of the
clock: the counters need no read. The server's ceiling for a day counts what is sent, when it is sent: so no request
waits for that counter, which all share.
"""

from chalicelib import events
from chalicelib.http.addresses import network_of
from chalicelib.http.messages import Request
from chalicelib.protocol.durations import DAY, HOUR, MINUTE
from chalicelib.protocol.errors import TooManyEmails
from chalicelib.protocol.mail_count import MailCount
from chalicelib.server import AuthorizationServer
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.table import Refused, Write

# what is counted -> the period in seconds, and the most mails in it
FOR_ADDRESS = ((15 * MINUTE, 3), (DAY, 10))
FOR_CALLER = (HOUR, 20)


def admit(server: AuthorizationServer, http: Request, counted: str) -> bool:
    """Count a mail that a request asks for; return whether its address may get one.

    `counted`: its address in the canonical form, or the text that was typed where an address is looked up. Always two
    calls with the same writes. The caller's is made for itself: a caller who asks for an address at its limit is
    counted as for any other, so that the own limit does not tell which names are of one account. Raises TooManyEmails
    when the caller has asked for too many.
    """
    caller, (period, limit) = network_of(http.source_ip or ""), FOR_CALLER
    if isinstance(server.store.mail_counts.write(_counting(server, "caller", caller, period, limit)), Refused):
        events.note(http, events.EMAIL_LIMITED)
        raise TooManyEmails(period - server.now() % period)
    of_address = [_counting(server, "address", counted, *period_and_limit) for period_and_limit in FOR_ADDRESS]
    allowed = server.store.transact(*of_address) is None
    if not allowed:
        events.note(http, events.EMAIL_LIMITED)
    return allowed


def count_sent(server: AuthorizationServer) -> int:
    """Count a mail that is about to be sent; return 0, or when the server has reached its ceiling when that ends."""
    counting = _counting(server, "server", "", DAY, server.settings.emails_per_day)
    if isinstance(server.store.mail_counts.write(counting), Refused):
        return (server.now() // DAY + 1) * DAY
    return 0


def _counting(server: AuthorizationServer, kind: str, counted: str, period: int, limit: int) -> Write[MailCount]:
    number = server.now() // period
    key = "mails." + server.keys.digest(f"mails of {kind}", str(period), str(number), counted)
    # Deleted when the clock of no process is in this period.
    expiry = {"expires_at": (number + 1) * period + HOUR}
    return server.store.mail_counts.changing((key,), attr("mails").lt(limit), expiry, {"mails": 1}, create=True)
