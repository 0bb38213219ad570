"""Scheduled jobs, run by EventBridge as often as app.py says. Each run is logged, and none raises.

A job imports what it needs, which no request needs.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from chalicelib import events
from chalicelib.events import log as event_log
from chalicelib.protocol.errors import OAuthError, ServerError, unexpected_error
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.settings import Settings, SettingsError


@dataclass(frozen=True)
class Schedule:
    """A job and its rate, an EventBridge expression. The job may return a message for the operator's log."""

    rate: str
    job: Callable[[AuthorizationServer], str | None]

    @property
    def name(self) -> str:
        """The name of the job in the log and in AWS."""
        return self.job.__name__

    def run(self, connect: Callable[[], AuthorizationServer]) -> None:
        """Run the job once, on the server that `connect` returns, and log the outcome."""
        started = time.perf_counter()
        server: AuthorizationServer | None = None
        error: OAuthError | None = None
        message: str | None = None
        try:
            server = connect()
            server.store.dynamodb.take_counts()
            message = self.job(server)
        except OAuthError as oauth_error:
            error = oauth_error
        except SettingsError as settings_error:  # its text contains no secret and is meant for the operator
            error = ServerError(detail=str(settings_error))
        except Exception as exception:
            error = unexpected_error(exception)
        settings = server.settings if server else Settings()
        calls, capacity = server.store.dynamodb.take_counts() if server else (0, 0.0)
        event_log.log_schedule(settings, self.name, error, message, time.perf_counter() - started, calls, capacity)


def job_for(event: Mapping[str, Any], schedules: Mapping[str, Schedule]) -> Schedule:
    """Return the job for an event that is no request: mails that a request has handed over (`{"deliver": ids}`), what
    SES reports about one, or a schedule. Raises KeyError for any other event.
    """

    def deliver_now(server: AuthorizationServer) -> None:
        from chalicelib.mail import delivery

        delivery.deliver_now(server, event["deliver"])

    def receive_feedback(server: AuthorizationServer) -> None:
        from chalicelib.mail import feedback

        feedback.receive(server, event["detail"])

    if "deliver" in event:
        return Schedule("", deliver_now)
    if event.get("source") == "aws.ses":
        return Schedule("", receive_feedback)
    return schedules[event["schedule"]]


def deliver(server: AuthorizationServer) -> None:
    """Send the mails and the logout tokens that are due."""
    from chalicelib.mail import delivery
    from chalicelib.sessions import backchannel_logout

    try:
        delivery.deliver(server)
    finally:
        backchannel_logout.deliver(server)


def remove_accounts(server: AuthorizationServer) -> None:
    """Remove the accounts that their users have deleted, once they can no longer be restored."""
    from chalicelib.users import deletion

    deletion.remove_due(server)


def rotate_keys(server: AuthorizationServer) -> str | None:
    """Rotate the keys when they have reached the age in the settings, and retire those that nothing needs.

    Return why the keys could not be rotated, or None.
    """
    from chalicelib.keys import rotation

    ring, settings, now = server.keys, server.settings, server.now()
    message = None
    try:
        due = rotation.is_due(ring, settings, now)
        if due and settings.signing == "kms":
            message = (
                "The signing keys are due for rotation. "
                "Create new keys in KMS, point the aliases to them, then run `signet key rotate`."
            )
        elif due:
            rotation.rotate(ring, now)
            event_log.log_event(settings, events.KEYS_ROTATED)
        if retired := rotation.retire(ring, settings, now):
            event_log.log_event(settings, events.KEYS_RETIRED, detail=", ".join(retired))
    except rotation.RotationRefused as refused:
        message = str(refused)
    return message
