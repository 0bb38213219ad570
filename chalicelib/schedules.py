"""What runs by the clock: app.py says how often, EventBridge calls it. Each run is logged, and none raises."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from chalicelib import audit, deliveries, rotation
from chalicelib.errors import OAuthError, ServerError, unexpected
from chalicelib.server import AuthorizationServer
from chalicelib.settings import Settings, SettingsError


@dataclass(frozen=True)
class Schedule:
    """A job, and how often it runs, in EventBridge's words. The job may say something for the operator's log."""

    rate: str
    job: Callable[[AuthorizationServer], str | None]

    @property
    def name(self) -> str:
        """What the job is called, in the log and in AWS."""
        return self.job.__name__

    def run(self, connect: Callable[[], AuthorizationServer]) -> None:
        """Do the job once, on the server that `connect` gives, and log how it went."""
        started = time.perf_counter()
        server: AuthorizationServer | None = None
        error: OAuthError | None = None
        said: str | None = None
        try:
            server = connect()
            server.store.dynamodb.consumed()
            said = self.job(server)
        except OAuthError as known:
            error = known
        except SettingsError as wrong:  # its message is ours, and meant for the operator
            error = ServerError(detail=str(wrong))
        except Exception as mistake:
            error = unexpected(mistake)
        settings = server.settings if server else Settings()
        calls, capacity = server.store.dynamodb.consumed() if server else (0, 0.0)
        audit.log_schedule(settings, self.name, error, said, time.perf_counter() - started, calls, capacity)


def deliver(server: AuthorizationServer) -> None:
    """Send the logout tokens that are due."""
    deliveries.deliver(server)


def rotate_keys(server: AuthorizationServer) -> str | None:
    """Replace the keys when they are as old as the operator lets them get, and remove those that nothing needs any
    more; why they were not replaced, if they should have been.
    """
    ring, settings, now = server.keys, server.settings, server.now()
    said = None
    try:
        due = rotation.is_due(ring, settings, now)
        if due and settings.signing == "kms":
            said = "The signing keys are due: make new ones in KMS, let the aliases name them, then run `key rotate`."
        elif due:
            rotation.rotate(ring, now)
            audit.log_event(settings, audit.KEYS_ROTATED)
        if gone := rotation.retire(ring, settings, now):
            audit.log_event(settings, audit.KEYS_RETIRED, detail=", ".join(gone))
    except rotation.RotationRefused as refused:
        said = str(refused)
    return said
