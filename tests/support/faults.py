"""Faults between the server and DynamoDB, injected between botocore, whose retries are real, and moto."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError
from moto.core.botocore_stubber import BotocoreStubber, MockRawResponse

Proceed = Callable[[], AWSResponse]
Fault = Callable[[AWSPreparedRequest, Proceed], AWSResponse]
ALWAYS = 1000


def unreachable(request: AWSPreparedRequest, _proceed: Proceed) -> AWSResponse:
    """Raise a timeout while connecting."""
    raise ConnectTimeoutError(endpoint_url=request.url)


def no_response(request: AWSPreparedRequest, _proceed: Proceed) -> AWSResponse:
    """Connect, but never answer and execute nothing."""
    raise ReadTimeoutError(endpoint_url=request.url)


def answer_lost(request: AWSPreparedRequest, proceed: Proceed) -> AWSResponse:
    """Execute the request, but lose the answer."""
    proceed()
    raise ReadTimeoutError(endpoint_url=request.url)


def throttled(request: AWSPreparedRequest, _proceed: Proceed) -> AWSResponse:
    """Throttle the request because of the table."""
    return refusal(request, 400, "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException")


def throttled_by_account(request: AWSPreparedRequest, _proceed: Proceed) -> AWSResponse:
    """Throttle the request because of the account."""
    return refusal(request, 400, "com.amazon.coral.availability#ThrottlingException")


def failing(request: AWSPreparedRequest, _proceed: Proceed) -> AWSResponse:
    """Fail with an internal error of DynamoDB."""
    return refusal(request, 500, "com.amazonaws.dynamodb.v20120810#InternalServerError")


def conflict(request: AWSPreparedRequest, proceed: Proceed) -> AWSResponse:
    """Reject a write because another transaction holds the item; other requests succeed."""
    operation = operation_of(request)
    if operation == "TransactWriteItems":
        steps = parameters_of(request)["TransactItems"]
        reasons = [{"Code": "TransactionConflict"}, *({"Code": "None"} for _ in steps[1:])]
        name = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException"
        return refusal(request, 400, name, CancellationReasons=reasons)
    if operation in ("PutItem", "UpdateItem", "DeleteItem"):
        return refusal(request, 400, "com.amazonaws.dynamodb.v20120810#TransactionConflictException")
    return proceed()


def refusal(request: AWSPreparedRequest, status: int, name: str, **members: Any) -> AWSResponse:
    """Return an error response as DynamoDB sends it."""
    body = json.dumps({"__type": name, "message": "no", "Message": "no", **members})
    return answer(request, body, status)


def answer(request: AWSPreparedRequest, body: str, status: int = 200) -> AWSResponse:
    """Return a response as botocore's transport returns it."""
    headers = HTTPHeaders()
    headers["Content-Type"] = "application/x-amz-json-1.0"
    return AWSResponse(request.url, status, headers, MockRawResponse(body))


def parameters_of(request: AWSPreparedRequest) -> dict[str, Any]:
    """Return the parameters of a call."""
    assert isinstance(request.body, str | bytes)
    parameters: dict[str, Any] = json.loads(request.body)
    return parameters


def operation_of(request: AWSPreparedRequest) -> str:
    """Return the operation, such as `GetItem`, or "" when the request is for another service."""
    service, _, operation = _text(request.headers.get("X-Amz-Target", "")).partition(".")
    return operation if service.startswith("DynamoDB") else ""


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@dataclass
class Wire:
    """The DynamoDB calls that were made, and the plan of faults for them."""

    calls: list[str] = field(default_factory=list)
    _tries: dict[str, int] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)
    _plan: Callable[[int, str], tuple[Fault, int] | None] = lambda _number, _operation: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def fault(self, number: int, fault: Fault, tries: int = ALWAYS) -> Iterator[None]:
        """Inject the fault into the call with this number, counted from 0, for the first `tries` tries of botocore."""
        with self._planned(lambda n, _: (fault, tries) if n == number else None):
            yield

    @contextmanager
    def fault_in(self, operation: str, fault: Fault, tries: int = ALWAYS, *, skip: int = 0) -> Iterator[None]:
        """Inject the fault into the first call of this operation after `skip` calls of it."""
        skipped: list[int] = []
        hit: list[int] = []

        def plan(number: int, called: str) -> tuple[Fault, int] | None:
            if called == operation and number not in skipped and len(skipped) < skip:
                skipped.append(number)
            elif called == operation and number not in skipped and not hit:
                hit.append(number)
            return (fault, tries) if number in hit else None

        with self._planned(plan):
            yield
        assert hit, f"no {operation} among {self.calls}"

    @contextmanager
    def every(self, operation: str, fault: Fault) -> Iterator[None]:
        """Inject the fault into every call of this operation."""
        with self._planned(lambda _, called: (fault, ALWAYS) if called == operation else None):
            yield

    @contextmanager
    def before(self, operation: str, action: Callable[[], object], *, skip: int = 0) -> Iterator[None]:
        """Run an action just before the first call of this operation after `skip` calls reaches DynamoDB."""

        def act_first(_request: AWSPreparedRequest, proceed: Proceed) -> AWSResponse:
            action()
            return proceed()

        with self.fault_in(operation, act_first, tries=1, skip=skip):
            yield

    @contextmanager
    def counted(self) -> Iterator[list[str]]:
        """Yield the list of the operations that are called in the block; retries of botocore do not count."""
        with self._planned(lambda _number, _operation: None):
            yield self.calls

    @contextmanager
    def _planned(self, plan: Callable[[int, str], tuple[Fault, int] | None]) -> Iterator[None]:
        before, self._plan = self._plan, plan
        self.calls = []
        self._tries.clear()
        self._numbers.clear()
        try:
            yield
        finally:
            self._plan = before

    def handle(self, request: AWSPreparedRequest, proceed: Proceed) -> AWSResponse:
        """Send a request to moto, or to the fault that is planned for it."""
        operation = operation_of(request)
        if not operation:
            return proceed()
        with self._lock:
            call = _text(request.headers["amz-sdk-invocation-id"])
            if call not in self._numbers:
                self._numbers[call] = len(self.calls)
                self.calls.append(operation)
            self._tries[call] = self._tries.get(call, 0) + 1
            planned = self._plan(self._numbers[call], operation)
            tries = self._tries[call]
        if planned and tries <= planned[1]:
            return planned[0](request, proceed)
        return proceed()


@contextmanager
def wire() -> Iterator[Wire]:
    """Intercept the calls of botocore, which retries without a pause and without its retry quota."""
    intercepted = Wire()
    call_moto = BotocoreStubber.__call__

    def handle(stubber: Any, event_name: str, request: AWSPreparedRequest, **parameters: Any) -> Any:
        return intercepted.handle(request, lambda: call_moto(stubber, event_name, request, **parameters))

    no_pause = SimpleNamespace(sleep=lambda _seconds: None)
    with (
        mock.patch.object(BotocoreStubber, "__call__", handle),
        mock.patch("botocore.endpoint.time", no_pause),
        mock.patch("chalicelib.storage.dynamodb.time", no_pause),
        mock.patch("botocore.retries.quota.RetryQuota.acquire", return_value=True),
    ):
        yield intercepted
