"""What one request costs, by endpoint, through the Lambda entry point; and the code exchange beside its bare needs."""

import io
import json
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import app
from chalicelib import registration, web
from chalicelib.handles import new_id
from chalicelib.models import Grant
from chalicelib.server import AuthorizationServer
from tests.bench import flow
from tests.bench.calibration import calibrate
from tests.bench.capacity import Meter
from tests.bench.services import REGION


@dataclass
class Endpoint:
    """Measurements of one kind of request; times in milliseconds of CPU."""

    times: list[float] = field(default_factory=list)
    calls: int = 0
    reads: float = 0.0
    writes: float = 0.0
    log_bytes: int = 0

    @property
    def milliseconds(self) -> float:
        return median(self.times)


class Bench:
    """A server as Lambda runs it, in this process, with a person and two clients."""

    def __init__(self) -> None:
        self.server: AuthorizationServer = app.connect()
        _, self._handler = web.build(app.JSON_ROUTES, app.PAGE_ROUTES, lambda: self.server)
        self._log = io.StringIO()
        store = self.server.store
        members: dict[str, Any] = {"redirect_uris": [flow.REDIRECT_URI], "scope": flow.SCOPE}
        client, secret = registration.register_client(store, client_name="Photo Print", **members)
        trusted, _ = registration.register_client(store, client_name="Intranet", trusted=True, **members)
        self.client = (client.client_id, secret or "")
        self._trusted = trusted.client_id
        claims = {"name": "Alice Liddell", "email": "alice@example.com", "email_verified": True}
        registration.register_user(store, username=flow.USERNAME, password=flow.PASSWORD, claims=claims)
        self._grant: Grant | None = None

    def endpoints(self, repetitions: int) -> tuple[dict[str, Endpoint], list[float]]:
        """Each endpoint's costs, in the order of a visit, and the calibration in between."""
        found: dict[str, Endpoint] = {}
        calibrations = []

        def timed(name: str, event: flow.Event) -> dict[str, Any]:
            started = time.process_time()
            answer = self._handler(event, None)
            found[name].times.append((time.process_time() - started) * 1000)
            return answer

        meter = Meter(self.server.store.dynamodb.client, default_client(self.server))

        def counted(name: str, event: flow.Event) -> dict[str, Any]:
            with meter.listening():
                answer = self.handle(event)
            line = self._log.getvalue()
            calls = json.loads(line.splitlines()[-1])["dynamodb_calls"]  # those before it are of events
            found[name] = Endpoint([], calls, meter.reads, meter.writes, len(line.encode()))
            return answer

        with redirect_stdout(self._log):
            self.warm()
            self.visit(counted)
            for _ in range(repetitions):
                self._empty_log()
                calibrations.append(calibrate())
                self.visit(timed)
        return found, calibrations

    def warm(self) -> None:
        """Make what is made once: connections, the key ring, the pages; and read the clients."""
        self.visit(lambda _, event: self.handle(event))

    def visit(self, send: flow.Send) -> None:
        """One request of every kind."""
        flow.visit(send, self.client, self._trusted)

    def exchange(self, repetitions: int) -> tuple[float, float]:
        """The medians of a code exchange, and of what it cannot do without: one UpdateItem and two RS256 signatures."""
        bare, whole = [], []
        with redirect_stdout(self._log):
            needs = self._bare_needs()
            for _ in range(repetitions):
                self._empty_log()
                event = flow.code_exchange(self.code(), self.client)
                whole.append(_cpu(lambda event=event: self._checked(event)))  # type: ignore[misc]
                grant_id = self._born()
                bare.append(_cpu(lambda grant_id=grant_id: needs(grant_id)))  # type: ignore[misc]
        return median(whole), median(bare)

    def code(self) -> str:
        """A code, of a grant like that of the last visit."""
        return self.server.keys.make_handle("code", self._born())

    def handle(self, event: flow.Event) -> dict[str, Any]:
        """The answer, its line alone in the log."""
        self._empty_log()
        answer: dict[str, Any] = self._handler(event, None)
        return answer

    def _empty_log(self) -> None:
        self._log.seek(0)
        self._log.truncate()

    def _checked(self, event: flow.Event) -> None:
        assert self._handler(event, None)["statusCode"] == 200

    def _born(self) -> str:
        if self._grant is None:
            now = self.server.now()
            self._grant = Grant(
                grant_id="",
                client_id=self.client[0],
                sub=new_id(),
                session_id=f"{new_id()}.{new_id()}",
                redirect_uri=flow.REDIRECT_URI,
                redirect_uri_sent=True,
                scope=frozenset(flow.SCOPE.split()),
                auth_time=now,
                created_at=now,
                code_expires_at=now + 3600,
                expires_at=now + 3600,
                ends_at=now + 86400,
                nonce="n-0S6_WzA2Mj",
                code_challenge=flow.CHALLENGE,
            )
        grant = replace(self._grant, grant_id=new_id())
        assert self.server.store.grants.insert(grant)
        return grant.grant_id

    def _bare_needs(self) -> Callable[[str], None]:
        from cryptography.hazmat.primitives.asymmetric import padding, rsa
        from cryptography.hazmat.primitives.hashes import SHA256

        client, table = default_client(self.server), self.server.store.grants.name
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)

        def needs(grant_id: str) -> None:
            client.update_item(
                TableName=table,
                Key={"grant_id": {"S": grant_id}},
                UpdateExpression="SET redeemed_at = :now",
                ConditionExpression="attribute_not_exists(redeemed_at)",
                ExpressionAttributeValues={":now": {"N": "1800000000"}},
                ReturnValues="ALL_NEW",
            )
            for _ in range(2):
                private.sign(bytes(500), padding.PKCS1v15(), SHA256())

        needs(self._born())
        return needs


def default_client(server: AuthorizationServer) -> Any:
    """A client as everybody makes it, on the same tables."""
    import boto3

    endpoint = server.settings.dynamodb_endpoint
    return boto3.Session("local", "local", region_name=REGION).client("dynamodb", endpoint_url=endpoint)


def _cpu(work: Callable[[], None]) -> float:
    started = time.process_time()
    work()
    return (time.process_time() - started) * 1000
