"""The log: a record a request, and one for each security event in it; CloudWatch counts the events.

A line never holds a handle, code, token, secret, verifier or password; hence no query and no body. In AWS it carries
its numbers in CloudWatch's embedded metric format, so that metrics cost no call.
"""

import json
import logging
import sys
import time
from functools import cache
from typing import Any

from chalicelib.errors import OAuthError
from chalicelib.messages import Request, Response
from chalicelib.settings import Settings

NAMESPACE = "Signet"
SIGN_IN = "sign_in"
SIGN_IN_FAILED = "sign_in_failed"
SIGN_IN_THROTTLED = "sign_in_throttled"
PASSWORD_CHANGED = "password_changed"  # noqa: S105
CONSENT_GIVEN = "consent_given"
CONSENT_DENIED = "consent_denied"
CODE_ISSUED = "code_issued"
CODE_REDEEMED = "code_redeemed"
TOKEN_REFRESHED = "token_refreshed"  # noqa: S105
TOKEN_ISSUED = "token_issued"  # noqa: S105
REUSE_DETECTED = "reuse_detected"
TOKEN_REVOKED = "token_revoked"  # noqa: S105
ACCESS_REVOKED = "access_revoked"
SIGNED_OUT = "signed_out"
LOGOUT_DELIVERED = "logout_delivered"
LOGOUT_UNDELIVERED = "logout_undelivered"
KEYS_ROTATED = "keys_rotated"
KEYS_RETIRED = "keys_retired"
CLIENT_CHANGED = "client_changed"
USER_CHANGED = "user_changed"
# What can happen; each is a record of its own in the log, and a metric that counts it.
EVENTS: dict[str, str] = {
    SIGN_IN: "Somebody has signed in.",
    SIGN_IN_FAILED: "A username or a password was wrong, or the account is disabled.",
    SIGN_IN_THROTTLED: "A sign-in was not even tried, because too many had failed before.",
    PASSWORD_CHANGED: "A password was changed; every other session of the person has ended.",
    CONSENT_GIVEN: "Somebody has allowed an application what it asked for.",
    CONSENT_DENIED: "Somebody has denied it.",
    CODE_ISSUED: "A grant was born: an application was sent a code.",
    CODE_REDEEMED: "A code was exchanged for tokens.",
    TOKEN_REFRESHED: "A refresh token was exchanged for new tokens.",
    TOKEN_ISSUED: "An application got a token for itself (client_credentials).",
    REUSE_DETECTED: "A code or refresh token came twice, and its grant was ended.",
    TOKEN_REVOKED: "An application has given back a grant.",
    ACCESS_REVOKED: "Somebody has taken an application's access away.",
    SIGNED_OUT: "A session has ended.",
    LOGOUT_DELIVERED: "An application has taken a logout token.",
    LOGOUT_UNDELIVERED: "An application has not taken a logout token, and is not asked any more.",
    KEYS_ROTATED: "New keys were added to the ring.",
    KEYS_RETIRED: "Keys that nothing depends on were removed from the ring.",
    CLIENT_CHANGED: "The operator has registered, changed or removed a client.",
    USER_CHANGED: "The operator has registered, changed or removed a person.",
}
_UNITS = {"duration_ms": "Milliseconds", "dynamodb_calls": "Count", "consumed_capacity": "Count"}
_LONGEST_PATH = 200
# Chalice has a logger of the name "signet", and silences it.
log = logging.getLogger("signet.requests")
log.setLevel(logging.INFO)


def note(request: Request, name: str, **members: str | None) -> None:
    """Note that something of EVENTS has happened in this request. `members`: such as the `sub` it happened to."""
    request.events.append({"event": name} | {key: value for key, value in members.items() if value is not None})


def log_event(settings: Settings, name: str, **members: str | None) -> None:
    """Log something of EVENTS that has happened outside a request: by the operator's command or on schedule."""
    counted = _directive({name: 1}, {}) if settings.metrics else {}
    _write({"level": "INFO", "stage": settings.stage, "endpoint": "none", "event": name, **members} | counted, settings)


def log_request(
    settings: Settings, request: Request, response: Response, seconds: float, calls: int, capacity: float
) -> None:
    """Log a request that has been answered. `calls` and `capacity`: of DynamoDB."""
    error = request.error
    client_id = request.client.client_id if request.client else None
    for event in request.events:
        about = {"request_id": request.request_id, "stage": settings.stage, "endpoint": request.endpoint or "none"}
        _write({"level": "INFO", **about, "client_id": client_id, "source_ip": request.source_ip, **event}, settings)
    events = [event["event"] for event in request.events]
    line: dict[str, Any] = {
        "level": "ERROR" if response.status >= 500 else "INFO",
        "request_id": request.request_id,
        "stage": settings.stage,
        "endpoint": request.endpoint or "none",
        "method": request.method,
        "path": request.path[:_LONGEST_PATH],
        "status": response.status,
        "outcome": _outcome(response, error),
        "code": error.code if error else None,
        "events": events,
        "client_id": client_id,
        "description": error.description if error else None,
        "detail": error.detail if error else None,
        "source_ip": request.source_ip,
        "duration_ms": round(seconds * 1000, 1),
        "dynamodb_calls": calls,
        "consumed_capacity": capacity,
    }
    if settings.metrics:
        line |= _embedded_metrics(response, events)
    _write(line, settings)


def log_schedule(
    settings: Settings,
    name: str,
    error: OAuthError | None,
    said: str | None,
    seconds: float,
    calls: int,
    capacity: float,
) -> None:
    """Log a run of the schedule of this name; failures alone are counted, for nobody waits for a schedule."""
    line: dict[str, Any] = {
        "level": "ERROR" if error else "INFO",
        "stage": settings.stage,
        "endpoint": "none",
        "schedule": name,
        "outcome": error.error if error else "ok",
        "detail": error.detail if error else said,
        "duration_ms": round(seconds * 1000, 1),
        "dynamodb_calls": calls,
        "consumed_capacity": capacity,
    }
    if settings.metrics and error:
        line |= _directive(_failure(error.status), {})
    _write(line, settings)


def _write(line: dict[str, Any], settings: Settings) -> None:
    """One record; what is not known is left out."""
    if settings.metrics:
        _bare()
    present = {name: value for name, value in line.items() if value not in (None, "", [])}
    log.log(logging.ERROR if line["level"] == "ERROR" else logging.INFO, json.dumps(present))


@cache
def _bare() -> None:
    """CloudWatch finds metrics only in a line that is nothing but JSON; Lambda's own handler puts words before it."""
    log.addHandler(logging.StreamHandler(sys.stdout))
    log.propagate = False


def _outcome(response: Response, error: OAuthError | None) -> str:
    if error:
        return error.error
    return "redirect" if response.status in (302, 303) else "ok"


def _embedded_metrics(response: Response, events: list[str]) -> dict[str, Any]:
    """CloudWatch's embedded metric format: metrics by stage, and by stage and endpoint."""
    counts = {event: 1 for event in EVENTS if event in events} | _failure(response.status)
    return _directive(counts, _UNITS)


def _failure(status: int) -> dict[str, int]:
    """What a failure of our own, or of what we depend on, is counted as."""
    return {"throttled" if status == 503 else "server_error": 1} if status >= 500 else {}


def _directive(counts: dict[str, int], units: dict[str, str]) -> dict[str, Any]:
    metrics = [{"Name": name, "Unit": unit} for name, unit in units.items()]
    metrics += [{"Name": name, "Unit": "Count"} for name in counts]
    directive = {"Namespace": NAMESPACE, "Dimensions": [["stage"], ["stage", "endpoint"]], "Metrics": metrics}
    return {**counts, "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}}
