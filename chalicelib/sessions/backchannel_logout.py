"""The outbox: logout tokens for the applications that were used in a session which has ended.

OpenID Connect Back-Channel Logout 1.0. Ending a session stores which clients must be told; this module sends the
tokens, again with longer and longer pauses, until each client has accepted its own or a day has passed.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

from chalicelib import events
from chalicelib.events.log import log_event
from chalicelib.http import outbound
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.records import Client, Delivery
from chalicelib.server import AuthorizationServer
from chalicelib.settings import SettingsError
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.table import Refused
from chalicelib.tokens.subjects import sid, subject

LOGOUT_TOKEN_TYPE = "logout+jwt"  # noqa: S105
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
LOGOUT_TOKEN_LIFETIME = 120
FIRST_PAUSE = 60  # seconds after the first attempt; each further pause is twice as long
MAX_PARALLEL = 16
# Seconds in which attempts are started: with the time that the last one takes, less than the function may run.
START_WITHIN = 6.0


def deliver(server: AuthorizationServer) -> None:
    """Send what is due. Runs at the same time take different records.

    Raises SettingsError when no issuer is set; TemporarilyUnavailable.
    """
    now = server.now()
    due = [delivery for delivery in server.store.deliveries.scan() if delivery.not_before <= now]
    if not due:
        return
    if not server.issuer:
        raise SettingsError("SIGNET_ISSUER must be set: without it no logout token can be issued")
    run = _Run(server)
    with ThreadPoolExecutor(min(MAX_PARALLEL, len(due))) as pool:
        attempts = [pool.submit(run.attempt, delivery) for delivery in sorted(due, key=lambda each: each.not_before)]
    for attempt in attempts:
        attempt.result()  # raises the first error, once all have finished


def logout_token(server: AuthorizationServer, client: Client, delivery: Delivery) -> str:
    """Return the token that tells a client that a session has ended (Back-Channel Logout 1.0 section 2.4).

    Each attempt has its own token: a client that accepted the last one, and whose answer was lost, would reject it as a
    replay.
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
    """One run of the schedule: until when it starts attempts, and which clients have failed in it."""

    def __init__(self, server: AuthorizationServer):
        self._server = server
        self._until = time.monotonic() + START_WITHIN
        self._failing: dict[str, str] = {}

    def attempt(self, delivery: Delivery) -> None:
        """Attempt one delivery. Moving its next attempt claims it, so that no other run sends the same tokens."""
        if time.monotonic() >= self._until:
            return
        deliveries, key, now = self._server.store.deliveries, (delivery.delivery_id,), self._server.now()
        changes = {"not_before": now + FIRST_PAUSE * 2**delivery.tries, "tries": delivery.tries + 1}
        claimed = deliveries.transition(key, attr("not_before").lte(now), changes)
        if isinstance(claimed, Refused):
            return
        # Each attempt starts with another client, so that slow clients do not block the last ones for ever.
        clients = sorted(claimed.clients)
        first = claimed.tries % len(clients)
        in_turn = clients[first:] + clients[:first]
        failures = {client: reason for client in in_turn if (reason := self._send(claimed, client))}
        if claimed.not_before >= claimed.expires_at:
            for client_id, reason in failures.items():
                self._give_up(claimed, client_id, reason)
            failures = {}
        if not failures:
            deliveries.delete(*key)
        elif failures.keys() != claimed.clients:
            deliveries.transition(key, None, {"clients": frozenset(failures)})

    def _send(self, delivery: Delivery, client_id: str) -> str | None:
        """Send a client its token; return why it must be sent again, or None."""
        client = self._server.client(client_id)
        if client is None or client.backchannel_logout_uri is None:
            return None  # it was deleted, or no longer wants logout tokens
        if time.monotonic() >= self._until:
            return "not attempted"
        if client_id in self._failing:  # a client that is down is called once in a run
            return self._failing[client_id]
        body = urlencode({"logout_token": logout_token(self._server, client, delivery)}).encode()
        try:
            status = outbound.post(client.backchannel_logout_uri, body, self._server.settings.backchannel_networks)
        except outbound.Undeliverable as failure:
            reason = str(failure)
        else:
            if 200 <= status < 300:
                log_event(self._server.settings, events.LOGOUT_DELIVERED, sub=delivery.sub, client_id=client_id)
                return None
            reason = f"status {status}"
            if status == 400:  # section 2.8: the client rejected it, and would reject it again
                self._give_up(delivery, client_id, reason)
                return None
        self._failing[client_id] = reason
        return reason

    def _give_up(self, delivery: Delivery, client_id: str, reason: str) -> None:
        log_event(
            self._server.settings, events.LOGOUT_UNDELIVERED, sub=delivery.sub, client_id=client_id, detail=reason
        )
