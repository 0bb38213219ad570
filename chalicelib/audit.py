"""The log: one structured line a request, with the events that an operator wants to hear of, counted by CloudWatch.

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
REUSE_DETECTED = "reuse_detected"
# Events of one request; each is a metric that counts it.
EVENTS = (SIGN_IN, SIGN_IN_FAILED, REUSE_DETECTED)
_UNITS = {"duration_ms": "Milliseconds", "dynamodb_calls": "Count", "consumed_capacity": "Count"}
_LONGEST_PATH = 200
# Chalice has a logger of the name "signet", and silences it.
log = logging.getLogger("signet.requests")
log.setLevel(logging.INFO)


def log_request(
    settings: Settings, request: Request, response: Response, seconds: float, calls: int, capacity: float
) -> None:
    """Log a request that has been answered. `calls` and `capacity`: of DynamoDB."""
    error = request.error
    events = [*request.events, *([error.event] if error and error.event else [])]
    line: dict[str, Any] = {
        "level": "ERROR" if response.status >= 500 else "INFO",
        "request_id": request.request_id,
        "stage": settings.stage,
        "endpoint": request.endpoint or "none",
        "method": request.method,
        "path": request.path[:_LONGEST_PATH],
        "status": response.status,
        "outcome": _outcome(response, error),
        "events": events,
        "client_id": request.client.client_id if request.client else None,
        "description": error.description if error else None,
        "detail": error.detail if error else None,
        "source_ip": request.source_ip,
        "duration_ms": round(seconds * 1000, 1),
        "dynamodb_calls": calls,
        "consumed_capacity": capacity,
    }
    line = {name: value for name, value in line.items() if value not in (None, "", [])}
    if settings.metrics:
        line |= _embedded_metrics(response, events)
        _bare()
    log.log(logging.ERROR if response.status >= 500 else logging.INFO, json.dumps(line))


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
    counts = {event: 1 for event in EVENTS if event in events}
    if response.status >= 500:
        counts["throttled" if response.status == 503 else "server_error"] = 1
    metrics = [{"Name": name, "Unit": unit} for name, unit in _UNITS.items()]
    metrics += [{"Name": name, "Unit": "Count"} for name in counts]
    directive = {"Namespace": NAMESPACE, "Dimensions": [["stage"], ["stage", "endpoint"]], "Metrics": metrics}
    return {**counts, "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}}
