"""The outbox: logout tokens for the applications that were used in a session which has ended.

OpenID Connect Back-Channel Logout 1.0. Ending a session stores which clients must be told; this module sends the
tokens, again with longer and longer pauses, until each client has accepted its own or a day has passed. The index `due`
lists what is due, the oldest first, so that a run reads nothing else.

When all sessions of a user end, by one write on the user, a single entry says so. Its sessions are found here by the
index, at once and again later, because an index lags behind its table. Each is ended by a conditional write with an
entry of its own, so that its clients are told once.
"""

import time
from dataclasses import dataclass, field
from urllib.parse import urlencode

from chalicelib import events
from chalicelib.events.log import log_event
from chalicelib.http import outbound
from chalicelib.protocol.client import Client
from chalicelib.protocol.durations import MINUTE
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.records import OUTBOX, Delivery, Session, User
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.revocation import end_session
from chalicelib.settings import SettingsError
from chalicelib.storage.due import work_off
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.table import Refused
from chalicelib.tokens.subjects import sid, subject

LOGOUT_TOKEN_TYPE = "logout+jwt"  # noqa: S105
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
LOGOUT_TOKEN_LIFETIME = 120
FIRST_PAUSE = 60  # seconds after the first attempt; each further pause is twice as long
SECOND_SEARCH = 15 * MINUTE
MAX_PARALLEL = 16
# Seconds in which attempts are started: with the time that the last one takes, less than the function may run.
START_WITHIN = 6.0
# A client that did not answer in time is not called for so long: a few such clients would use up the time of every run.
SILENCE_PAUSE = 5 * MINUTE
ADOPT_EVERY = 15 * MINUTE


@dataclass
class _Memory:
    """What a process remembers between runs: when it has adopted deliveries, and until when clients are not called."""

    adopted_at: int = -ADOPT_EVERY
    silent: dict[str, int] = field(default_factory=dict)


def deliver(server: AuthorizationServer) -> None:
    """Send what is due, for START_WITHIN seconds; a later run does the rest.

    Runs at the same time take different records. Raises SettingsError when no issuer is set; TemporarilyUnavailable.
    """
    run = _Run(server)
    run.work_off()
    if run.searched:
        run.work_off()
    if run.adopt_unindexed():
        run.work_off()


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
    """One run of the schedule: until when it searches and starts attempts, and which clients have failed in it."""

    def __init__(self, server: AuthorizationServer):
        self._server = server
        self._until = time.monotonic() + START_WITHIN
        self._search_until = self._until - START_WITHIN / 2  # many sessions of one user do not delay the rest
        self._memory: _Memory = server.process_memory.setdefault("backchannel_logout", _Memory())
        now = server.now()
        self._memory.silent = {client: until for client, until in self._memory.silent.items() if until > now}
        self._failing = dict.fromkeys(self._memory.silent, "no response in the last minutes")
        self.searched = False

    def work_off(self) -> None:
        """Handle the deliveries that are due, the oldest first, until there are none or the time has passed."""
        until_now = attr("not_before").lte(self._server.now())
        due = self._server.store.deliveries.find("outbox", OUTBOX, index="due", range_=until_now)
        work_off(due, self._handle, threads=MAX_PARALLEL, until=self._until, prepare=self._require_issuer)

    def _handle(self, delivery: Delivery) -> None:
        (self.attempt if delivery.sessions_below is None else self.end_sessions)(delivery)

    def _require_issuer(self) -> None:
        if not self._server.issuer:
            raise SettingsError("SIGNET_ISSUER must be set: without it no logout token can be issued")

    def adopt_unindexed(self) -> bool:
        """Add deliveries that the version before this index has written to it; return whether there were any.

        Its code may run until the alias has moved, so each process searches at once and then every ADOPT_EVERY. The
        next version removes this, and the permission to scan.
        """
        store, now = self._server.store, self._server.now()
        if now - self._memory.adopted_at < ADOPT_EVERY:
            return False
        adopted = False
        for delivery in store.deliveries.scan():
            if time.monotonic() >= self._until:
                return adopted
            if delivery.outbox is None:
                store.deliveries.transition((delivery.delivery_id,), None, {"outbox": OUTBOX})
                adopted = True
        self._memory.adopted_at = now
        return adopted

    def end_sessions(self, delivery: Delivery) -> None:
        """End the sessions of a user that the index shows and whose clients must be told. A later run does the rest."""
        self.searched = True
        store, key, now = self._server.store, (delivery.delivery_id,), self._server.now()
        user = store.users.get(delivery.sub)
        for session in store.sessions.find("sub", delivery.sub, index="sub"):
            if not _must_be_told(delivery, session, user):
                continue
            if time.monotonic() >= self._search_until:
                return
            current = store.sessions.get(session.session_id)
            if current and _must_be_told(delivery, current, user):  # the index may show a session as it was before
                end_session(store, current)
        second = delivery.created_at + SECOND_SEARCH
        if now < second:
            store.deliveries.transition(key, None, {"not_before": second})
        else:
            store.deliveries.delete(*key)

    def attempt(self, delivery: Delivery) -> None:
        """Attempt one delivery. Moving its next attempt claims it, so that no other run sends the same tokens."""
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
        settings = self._server.settings
        networks = (*settings.outbound_networks, *settings.backchannel_networks)
        body = urlencode({"logout_token": logout_token(self._server, client, delivery)}).encode()
        try:
            status = outbound.post(client.backchannel_logout_uri, body, networks)
        except outbound.Undeliverable as failure:
            reason = str(failure)
            if isinstance(failure, outbound.NoResponse):
                self._memory.silent[client_id] = self._server.now() + SILENCE_PAUSE
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


def _must_be_told(delivery: Delivery, session: Session, user: User | None) -> bool:
    """Return whether a session must still be ended with all others of its user: its clients must be told, or
    `end_session` does more for it.
    """
    below, generation = delivery.sessions_below or 0, session.sessions_generation
    # A user who was deleted and imported again has other generations.
    valid = user is not None and user.active and generation == user.sessions_generation
    ends = session.ended_at is None and generation < below and not valid
    return ends and (bool(session.backchannel_clients) or session.version == 1)
