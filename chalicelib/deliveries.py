"""The outbox: logout tokens for the applications that were used in a session which has ended.

OpenID Connect Back-Channel Logout 1.0. Whoever ends a session writes down who has to hear of it; this sends it, again
and again with longer and longer pauses, until each has taken it or a day is over.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

from chalicelib import audit, backchannel
from chalicelib.dynamodb import attr
from chalicelib.handles import new_id
from chalicelib.models import Client, Delivery
from chalicelib.server import AuthorizationServer
from chalicelib.settings import SettingsError
from chalicelib.subjects import sid, subject
from chalicelib.table import Refused

LOGOUT_TOKEN_TYPE = "logout+jwt"  # noqa: S105
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
LOGOUT_TOKEN_LIFETIME = 120
FIRST_PAUSE = 60  # seconds after the first try; each further pause is twice as long
AT_ONCE = 16
# Seconds in which tries are begun: with the time that the last of them takes, less than the function may run.
BEGUN_WITHIN = 6.0


def deliver(server: AuthorizationServer) -> None:
    """Send what is due. Who is at it at the same time takes other records.

    Raises SettingsError when nobody knows the issuer; TemporarilyUnavailable.
    """
    now = server.now()
    due = [delivery for delivery in server.store.deliveries.scan() if delivery.not_before <= now]
    if not due:
        return
    if not server.issuer:
        raise SettingsError("SIGNET_ISSUER must be set: without it no logout token can be made")
    run = _Run(server)
    with ThreadPoolExecutor(min(AT_ONCE, len(due))) as pool:
        tries = [pool.submit(run.attempt, one) for one in sorted(due, key=lambda one: one.not_before)]
    for one in tries:
        one.result()  # raises what the first of them has raised, when all have had their turn


def logout_token(server: AuthorizationServer, client: Client, delivery: Delivery) -> str:
    """What tells a client that a session has ended (OpenID Connect Back-Channel Logout 1.0 section 2.4).

    Each try has one of its own: a client that took the last one, whose answer was lost, would take it for a replay.
    """
    now = server.now()
    claims = {
        "iss": server.issuer,
        "sub": subject(server, client, delivery.sub),
        "aud": client.client_id,
        "iat": now,
        "exp": now + LOGOUT_TOKEN_LIFETIME,
        "jti": new_id(),
        "sid": sid(delivery.session_id, client.client_id),
        "events": {LOGOUT_EVENT: {}},
    }
    return server.keys.sign(claims, LOGOUT_TOKEN_TYPE, client.id_token_signed_response_alg)


class _Run:
    """One run of the schedule: how long it lasts, and which clients were found to be out of order in it."""

    def __init__(self, server: AuthorizationServer):
        self._server = server
        self._until = time.monotonic() + BEGUN_WITHIN
        self._failing: dict[str, str] = {}

    def attempt(self, delivery: Delivery) -> None:
        """One try at a record: it is claimed by moving its next try, so that nobody else sends the same."""
        if time.monotonic() >= self._until:
            return
        deliveries, key, now = self._server.store.deliveries, (delivery.delivery_id,), self._server.now()
        next_try = {"not_before": now + FIRST_PAUSE * 2**delivery.tries, "tries": delivery.tries + 1}
        claimed = deliveries.transition(key, attr("not_before").lte(now), next_try)
        if isinstance(claimed, Refused):
            return
        # Each try begins with another client: those that take long must not keep the last ones from ever being asked.
        clients = sorted(claimed.clients)
        first = claimed.tries % len(clients)
        in_turn = clients[first:] + clients[:first]
        left = {client: reason for client in in_turn if (reason := self._send(claimed, client))}
        if claimed.not_before >= claimed.expires_at:
            for client_id, reason in left.items():
                self._give_up(claimed, client_id, reason)
            left = {}
        if not left:
            deliveries.delete(*key)
        elif left.keys() != claimed.clients:
            deliveries.transition(key, None, {"clients": frozenset(left)})

    def _send(self, delivery: Delivery, client_id: str) -> str | None:
        """Send a client its token; why that has to be tried again, or None."""
        client = self._server.client(client_id)
        if client is None or client.backchannel_logout_uri is None:
            return None  # it is not there any more, or wants to hear nothing any more
        if time.monotonic() >= self._until:
            return "not tried"
        if client_id in self._failing:  # a server that is down is asked once in a run, however many wait for it
            return self._failing[client_id]
        body = urlencode({"logout_token": logout_token(self._server, client, delivery)}).encode()
        try:
            status = backchannel.post(client.backchannel_logout_uri, body, self._server.settings.backchannel_networks)
        except backchannel.Undeliverable as failure:
            reason = str(failure)
        else:
            if 200 <= status < 300:
                audit.log_event(self._server.settings, audit.LOGOUT_DELIVERED, sub=delivery.sub, client_id=client_id)
                return None
            reason = f"status {status}"
            if status == 400:  # section 2.8: the client has refused it, and would refuse it again
                self._give_up(delivery, client_id, reason)
                return None
        self._failing[client_id] = reason
        return reason

    def _give_up(self, delivery: Delivery, client_id: str, reason: str) -> None:
        audit.log_event(
            self._server.settings, audit.LOGOUT_UNDELIVERED, sub=delivery.sub, client_id=client_id, detail=reason
        )
