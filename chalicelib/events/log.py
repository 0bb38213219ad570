"""The log: one line for each request, one for each security event in it, and one for each run of a schedule.

A line never holds a handle, code, token, secret, verifier or password, and so no query and no body. In AWS it carries
its numbers in CloudWatch's embedded metric format, so that metrics cost no call.
"""

import json
import logging
import sys
import time
from functools import cache
from typing import Any

from chalicelib import __version__
from chalicelib.http.messages import Request, Response
from chalicelib.protocol.errors import ClientUnavailable, OAuthError
from chalicelib.settings import Settings

NAMESPACE = "Signet"
_UNITS = {"duration_ms": "Milliseconds", "dynamodb_calls": "Count", "consumed_capacity": "Count"}
_MAX_PATH = 200
# The logger "signet" is Chalice's own, and silent.
log = logging.getLogger("signet.requests")
log.setLevel(logging.INFO)


def note(http: Request, name: str, **members: str | None) -> None:
    """Add one of EVENTS to this request, to be logged with it. `members`: such as the `sub` that it happened to."""
    http.events.append({"event": name} | {key: value for key, value in members.items() if value is not None})


def log_event(settings: Settings, name: str, **members: str | None) -> None:
    """Log one of EVENTS that happened outside a request: by the operator's command or by a schedule."""
    counted = _directive({name: 1}, {}) if settings.metrics else {}
    _write({"level": "INFO", "stage": settings.stage, "endpoint": "none", "event": name, **members} | counted, settings)


def log_request(
    settings: Settings, http: Request, response: Response, seconds: float, calls: int, capacity: float
) -> None:
    """Log a request that has been answered: a line for each event, and one for the request.

    `calls` and `capacity` are DynamoDB calls and capacity units.
    """
    error = http.error
    client_id = http.client.client_id if http.client else None
    for event in http.events:
        about = {"request_id": http.request_id, "stage": settings.stage, "endpoint": http.endpoint or "none"}
        _write({"level": "INFO", **about, "client_id": client_id, "source_ip": http.source_ip, **event}, settings)
    events = [event["event"] for event in http.events]
    line: dict[str, Any] = {
        "level": "ERROR" if response.status >= 500 else "INFO",
        "request_id": http.request_id,
        "stage": settings.stage,
        "version": __version__,
        "endpoint": http.endpoint or "none",
        "method": http.method,
        "path": http.path[:_MAX_PATH],
        "status": response.status,
        "outcome": _outcome(response, error),
        "code": error.code if error else None,
        "events": events,
        "client_id": client_id,
        "description": error.description if error else None,
        "detail": error.detail if error else None,
        "source_ip": http.source_ip,
        "duration_ms": round(seconds * 1000, 1),
        "dynamodb_calls": calls,
        "consumed_capacity": capacity,
    }
    if settings.metrics:
        line |= _embedded_metrics(response, events, error)
    _write(line, settings)


def log_schedule(
    settings: Settings,
    name: str,
    error: OAuthError | None,
    message: str | None,
    seconds: float,
    calls: int,
    capacity: float,
) -> None:
    """Log a run of a schedule. Only failures are counted in metrics."""
    line: dict[str, Any] = {
        "level": "ERROR" if error else "INFO",
        "stage": settings.stage,
        "endpoint": "none",
        "schedule": name,
        "outcome": error.error if error else "ok",
        "detail": error.detail if error else message,
        "duration_ms": round(seconds * 1000, 1),
        "dynamodb_calls": calls,
        "consumed_capacity": capacity,
    }
    if settings.metrics and error:
        line |= _directive(_failure(error.status), {})
    _write(line, settings)


def _write(line: dict[str, Any], settings: Settings) -> None:
    """Write one log record without its empty members."""
    if settings.metrics:
        _write_bare_json()
    present = {name: value for name, value in line.items() if value not in (None, "", [])}
    level = logging.ERROR if line["level"] == "ERROR" else logging.INFO
    # `log.log` would search the stack for its caller, which takes as long as the rest.
    if log.isEnabledFor(level):
        log.handle(log.makeRecord(log.name, level, __file__, 0, json.dumps(present), (), None))


@cache
def _write_bare_json() -> None:
    """Write lines that are JSON only: CloudWatch finds no metrics behind the prefix of Lambda's own handler."""
    log.addHandler(logging.StreamHandler(sys.stdout))
    log.propagate = False


def _outcome(response: Response, error: OAuthError | None) -> str:
    if error:
        return error.error
    return "redirect" if response.status in (302, 303) else "ok"


def _embedded_metrics(response: Response, events: list[str], error: OAuthError | None) -> dict[str, Any]:
    """Return the members of CloudWatch's embedded metric format: metrics by stage, and by stage and endpoint.

    The website of a client that fails is no failure of this server, and any caller can name such a client.
    """
    counts = dict.fromkeys(events, 1)
    if not isinstance(error, ClientUnavailable):
        counts |= _failure(response.status)
    return _directive(counts, _UNITS)


def _failure(status: int) -> dict[str, int]:
    """Return the metric of a failure: `throttled` for 503, `server_error` for every other 5xx."""
    return {"throttled" if status == 503 else "server_error": 1} if status >= 500 else {}


def _directive(counts: dict[str, int], units: dict[str, str]) -> dict[str, Any]:
    metrics = [{"Name": name, "Unit": unit} for name, unit in units.items()]
    metrics += [{"Name": name, "Unit": "Count"} for name in counts]
    directive = {"Namespace": NAMESPACE, "Dimensions": [["stage"], ["stage", "endpoint"]], "Metrics": metrics}
    return {**counts, "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}}
