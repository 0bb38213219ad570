"""Faults between the server and DynamoDB, injected between its client, whose attempts are real, and moto."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

from chalicelib.aws.client import Client
from chalicelib.aws.messages import NoAnswer, Request, Response

Proceed = Callable[[], Response]
Fault = Callable[[Request, Proceed], Response]
ALWAYS = 1000


def unreachable(request: Request, _proceed: Proceed) -> Response:
    """Raise a timeout while connecting."""
    raise NoAnswer(f"{request.url} cannot be reached")


def no_response(request: Request, _proceed: Proceed) -> Response:
    """Connect, but never answer and execute nothing."""
    raise NoAnswer(f"{request.url} does not answer in time")


def answer_lost(request: Request, proceed: Proceed) -> Response:
    """Execute the request, but lose the answer."""
    proceed()
    raise NoAnswer(f"{request.url} does not answer in time")


def throttled(request: Request, _proceed: Proceed) -> Response:
    """Throttle the request because of the table."""
    return refusal(request, 400, "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException")


def throttled_by_account(request: Request, _proceed: Proceed) -> Response:
    """Throttle the request because of the account."""
    return refusal(request, 400, "com.amazon.coral.availability#ThrottlingException")


def failing(request: Request, _proceed: Proceed) -> Response:
    """Fail with an internal error of DynamoDB."""
    return refusal(request, 500, "com.amazonaws.dynamodb.v20120810#InternalServerError")


def conflict(request: Request, proceed: Proceed) -> Response:
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


def refusal(request: Request, status: int, name: str, **members: Any) -> Response:
    """Return an error response as DynamoDB sends it."""
    body = json.dumps({"__type": name, "message": "no", "Message": "no", **members})
    return answer(request, body, status)


def answer(request: Request, body: str, status: int = 200) -> Response:
    """Return a response with this body."""
    return Response(status, {"content-type": "application/x-amz-json-1.0"}, body.encode())


def parameters_of(request: Request) -> dict[str, Any]:
    """Return the parameters of a call."""
    parameters: dict[str, Any] = json.loads(request.body)
    return parameters


def operation_of(request: Request) -> str:
    """Return the operation, such as `GetItem`, or "" when the request is for another service."""
    service, _, operation = request.headers.get("X-Amz-Target", "").partition(".")
    return operation if service.startswith("DynamoDB") else ""


@dataclass
class Wire:
    """The DynamoDB calls that were made, and the plan of faults for them."""

    calls: list[str] = field(default_factory=list)
    # The requests of the calls, by their identity: an attempt sends the same object again.
    _numbers: dict[int, tuple[int, Request]] = field(default_factory=dict)
    _plan: Callable[[int, str], tuple[Fault, int] | None] = lambda _number, _operation: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def fault(self, number: int, fault: Fault, tries: int = ALWAYS) -> Iterator[None]:
        """Inject the fault into the call with this number, counted from 0, for the first `tries` attempts."""
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

        def act_first(_request: Request, proceed: Proceed) -> Response:
            action()
            return proceed()

        with self.fault_in(operation, act_first, tries=1, skip=skip):
            yield

    @contextmanager
    def counted(self) -> Iterator[list[str]]:
        """Yield the list of the operations that are called in the block; further attempts do not count."""
        with self._planned(lambda _number, _operation: None):
            yield self.calls

    @contextmanager
    def _planned(self, plan: Callable[[int, str], tuple[Fault, int] | None]) -> Iterator[None]:
        before, self._plan = self._plan, plan
        self.calls = []
        self._numbers.clear()
        try:
            yield
        finally:
            self._plan = before

    def handle(self, request: Request, proceed: Proceed) -> Response:
        """Send a request to moto, or to the fault that is planned for it."""
        operation = operation_of(request)
        if not operation:
            return proceed()
        with self._lock:
            if id(request) not in self._numbers:
                self._numbers[id(request)] = len(self.calls), request
                self.calls.append(operation)
            planned = self._plan(self._numbers[id(request)][0], operation)
        if planned and request.attempt <= planned[1]:
            return planned[0](request, proceed)
        return proceed()


@contextmanager
def wire() -> Iterator[Wire]:
    """Intercept the calls of the server's client, which makes its attempts without a pause."""
    intercepted = Wire()
    send = Client.transport

    def handle(client: Client, request: Request) -> Response:
        return intercepted.handle(request, lambda: send(client, request))

    with mock.patch.object(Client, "transport", handle), no_pauses():
        yield intercepted


@contextmanager
def no_pauses() -> Iterator[None]:
    """Let the server's client, and calls that conflict with a transaction, be repeated without a pause."""
    no_pause = SimpleNamespace(sleep=lambda _seconds: None, time=time.time, strptime=time.strptime)
    with (
        mock.patch("chalicelib.aws.client.time", no_pause),
        mock.patch("chalicelib.storage.dynamodb.time", no_pause),
    ):
        yield
