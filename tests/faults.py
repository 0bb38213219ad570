"""What can go wrong between us and DynamoDB: put between botocore, whose retries are real, and moto."""

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
    """No connection."""
    raise ConnectTimeoutError(endpoint_url=request.url)


def silent(request: AWSPreparedRequest, _proceed: Proceed) -> AWSResponse:
    """A connection, but nobody does anything."""
    raise ReadTimeoutError(endpoint_url=request.url)


def answer_lost(request: AWSPreparedRequest, proceed: Proceed) -> AWSResponse:
    """DynamoDB does its work, and we never hear of it."""
    proceed()
    raise ReadTimeoutError(endpoint_url=request.url)


def throttled(request: AWSPreparedRequest, _proceed: Proceed) -> AWSResponse:
    """Too much for the table."""
    return refusal(request, 400, "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException")


def throttled_by_account(request: AWSPreparedRequest, _proceed: Proceed) -> AWSResponse:
    """Too much for the account."""
    return refusal(request, 400, "com.amazon.coral.availability#ThrottlingException")


def failing(request: AWSPreparedRequest, _proceed: Proceed) -> AWSResponse:
    """DynamoDB's own fault."""
    return refusal(request, 500, "com.amazonaws.dynamodb.v20120810#InternalServerError")


def conflict(request: AWSPreparedRequest, proceed: Proceed) -> AWSResponse:
    """Another transaction holds the item, which only a write (or a transaction) can notice."""
    operation = operation_of(request)
    if operation == "TransactWriteItems":
        steps = asked(request)["TransactItems"]
        reasons = [{"Code": "TransactionConflict"}, *({"Code": "None"} for _ in steps[1:])]
        name = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException"
        return refusal(request, 400, name, CancellationReasons=reasons)
    if operation in ("PutItem", "UpdateItem", "DeleteItem"):
        return refusal(request, 400, "com.amazonaws.dynamodb.v20120810#TransactionConflictException")
    return proceed()


def refusal(request: AWSPreparedRequest, status: int, name: str, **members: Any) -> AWSResponse:
    """An error response as DynamoDB sends it."""
    body = json.dumps({"__type": name, "message": "no", "Message": "no", **members})
    return answer(request, body, status)


def answer(request: AWSPreparedRequest, body: str, status: int = 200) -> AWSResponse:
    """A response as botocore's transport would give it."""
    headers = HTTPHeaders()
    headers["Content-Type"] = "application/x-amz-json-1.0"
    return AWSResponse(request.url, status, headers, MockRawResponse(body))


def asked(request: AWSPreparedRequest) -> dict[str, Any]:
    """The parameters of a call."""
    assert isinstance(request.body, str | bytes)
    parameters: dict[str, Any] = json.loads(request.body)
    return parameters


def operation_of(request: AWSPreparedRequest) -> str:
    """`GetItem` and the like; nothing when the request is for another service."""
    service, _, operation = _text(request.headers.get("X-Amz-Target", "")).partition(".")
    return operation if service.startswith("DynamoDB") else ""


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@dataclass
class Wire:
    """The calls that were made, and the faults that some of them are to meet."""

    calls: list[str] = field(default_factory=list)
    _tries: dict[str, int] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)
    _plan: Callable[[int, str], tuple[Fault, int] | None] = lambda _number, _operation: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def fault(self, number: int, fault: Fault, tries: int = ALWAYS) -> Iterator[None]:
        """The call of this number, from 0, meets the fault; `tries`: botocore's first tries only."""
        with self._planned(lambda n, _: (fault, tries) if n == number else None):
            yield

    @contextmanager
    def fault_in(self, operation: str, fault: Fault, tries: int = ALWAYS, *, spared: int = 0) -> Iterator[None]:
        """The first call of this operation meets the fault; or the first after those that are `spared`."""
        passed: list[int] = []
        met: list[int] = []

        def plan(number: int, called: str) -> tuple[Fault, int] | None:
            if called == operation and number not in passed and len(passed) < spared:
                passed.append(number)
            elif called == operation and number not in passed and not met:
                met.append(number)
            return (fault, tries) if number in met else None

        with self._planned(plan):
            yield
        assert met, f"no {operation} among {self.calls}"

    @contextmanager
    def every(self, operation: str, fault: Fault) -> Iterator[None]:
        """All calls of this operation meet the fault."""
        with self._planned(lambda _, called: (fault, ALWAYS) if called == operation else None):
            yield

    @contextmanager
    def before(self, operation: str, happens: Callable[[], object], *, spared: int = 0) -> Iterator[None]:
        """Something happens just before the first call of this operation reaches DynamoDB, or the first after some."""

        def meanwhile(_request: AWSPreparedRequest, proceed: Proceed) -> AWSResponse:
            happens()
            return proceed()

        with self.fault_in(operation, meanwhile, tries=1, spared=spared):
            yield

    @contextmanager
    def counted(self) -> Iterator[list[str]]:
        """The operations that are called meanwhile, each once however often botocore tries."""
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

    def meet(self, request: AWSPreparedRequest, proceed: Proceed) -> AWSResponse:
        """Let a request through, or have it meet its fault."""
        operation = operation_of(request)
        if not operation:
            return proceed()
        with self._lock:
            call = _text(request.headers["amz-sdk-invocation-id"])
            if call not in self._numbers:
                self._numbers[call] = len(self.calls)
                self.calls.append(operation)
            self._tries[call] = self._tries.get(call, 0) + 1
            found = self._plan(self._numbers[call], operation)
            tried = self._tries[call]
        if found and tried <= found[1]:
            return found[0](request, proceed)
        return proceed()


@contextmanager
def wire() -> Iterator[Wire]:
    """Stand on the wire: botocore retries without a pause, and never tires of it."""
    stands = Wire()
    through = BotocoreStubber.__call__

    def meet(stubber: Any, event_name: str, request: AWSPreparedRequest, **parameters: Any) -> Any:
        return stands.meet(request, lambda: through(stubber, event_name, request, **parameters))

    no_pause = SimpleNamespace(sleep=lambda _seconds: None)
    with (
        mock.patch.object(BotocoreStubber, "__call__", meet),
        mock.patch("botocore.endpoint.time", no_pause),
        mock.patch("chalicelib.dynamodb.time", no_pause),
        mock.patch("botocore.retries.quota.RetryQuota.acquire", return_value=True),
    ):
        yield stands
