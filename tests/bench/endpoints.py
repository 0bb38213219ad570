"""The cost of a request by endpoint, through the Lambda handler.

Beside it, in the same run: the same requests with boto3 as the client of AWS, and the minimum work of a code exchange.
"""

import io
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, NamedTuple

import app
from chalicelib import web
from chalicelib.clients import registration
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.records import Consent, Session
from chalicelib.server import AuthorizationServer
from chalicelib.storage.attribute_values import pack
from chalicelib.users.registration import register_user
from tests.bench import flow
from tests.bench.boto3_client import Boto3Client
from tests.bench.calibration import calibrate
from tests.bench.capacity import Meter, item_size
from tests.bench.services import REGION

# What all servers of this process log: the log keeps the first stream that it gets.
LOG = io.StringIO()


@dataclass
class Endpoint:
    """The measurements of one kind of request; times in CPU milliseconds, also those with boto3."""

    times: list[float] = field(default_factory=list)
    boto3_times: list[float] = field(default_factory=list)
    calls: int = 0
    reads: float = 0.0
    writes: float = 0.0
    log_bytes: int = 0
    table_writes: Mapping[str, int] = field(default_factory=dict)

    @property
    def milliseconds(self) -> float:
        return median(self.times)

    @property
    def boto3_milliseconds(self) -> float:
        return median(self.boto3_times)


class Exchange(NamedTuple):
    """The medians of a code exchange, a refresh, and their minimum work, in CPU milliseconds."""

    exchange: float
    refresh: float
    minimum: float


class Bench:
    """A server in this process, as Lambda runs it, with a user and two clients, of which one has the user's consent."""

    def __init__(self) -> None:
        self.server: AuthorizationServer = app.connect()
        self.server.keys.create()
        _, self._handler = web.build(app.JSON_ROUTES, app.PAGE_ROUTES, lambda: self.server)
        store = self.server.store
        members: dict[str, Any] = {"redirect_uris": [flow.REDIRECT_URI], "scope": flow.SCOPE}
        client, secret = registration.register_client(store, client_name="Photo Print", **members)
        remembered, remembered_secret = registration.register_client(store, client_name="Photo Album", **members)
        self.client = (client.client_id, secret or "")
        self.remembered = (remembered.client_id, remembered_secret or "")
        claims = {"name": "Alice Liddell", "email": "alice@example.com", "email_verified": True}
        self._user, _ = register_user(store, username=flow.USERNAME, password=flow.PASSWORD, claims=claims)
        store.consents.put(
            Consent(
                self._user.sub,
                remembered.client_id,
                frozenset(flow.SCOPE.split()),
                consents_generation=self._user.consents_generation,
                registration_id=remembered.registration_id,
            )
        )
        self._registration_id = client.registration_id
        self._grant: Grant | None = None
        self._boto3: Boto3Client | None = None

    def endpoints(self, repetitions: int) -> tuple[dict[str, Endpoint], list[float]]:
        """Return the costs of each endpoint, in the order of a visit, and the calibrations in between.

        Every third visit is made again with boto3.
        """
        calibrations = []
        with redirect_stdout(LOG):
            with self.with_boto3():
                self.warm()
            self.warm()
            results, count = self.counting()
            self.visit(count)
            for repetition in range(repetitions):
                calibrations.append(calibrate())
                self.visit(self.timing({name: result.times for name, result in results.items()}))
                if repetition % 3 == 0:
                    with self.with_boto3():
                        self.visit(self.timing({name: result.boto3_times for name, result in results.items()}))
        return results, calibrations

    def counting(self) -> tuple[dict[str, Endpoint], flow.Send]:
        """Return a function that sends requests and counts their calls and units, and where it stores them, by name."""
        results: dict[str, Endpoint] = {}
        meter = Meter(self.server.store.dynamodb.client)

        def send(name: str, event: flow.Event) -> dict[str, Any]:
            with meter.listening():
                answer = self.handle(event)
            line = LOG.getvalue()
            calls = json.loads(line.splitlines()[-1])["dynamodb_calls"]  # the lines before are events
            results[name] = Endpoint(
                calls=calls,
                reads=meter.reads,
                writes=meter.writes,
                log_bytes=len(line.encode()),
                table_writes=meter.table_writes,
            )
            return answer

        return results, send

    def timing(self, times: dict[str, list[float]]) -> flow.Send:
        """Return a function that sends requests and adds their CPU milliseconds to `times`."""

        def send(name: str, event: flow.Event) -> dict[str, Any]:
            self._empty_log()
            started = time.process_time()
            answer: dict[str, Any] = self._handler(event, None)
            times[name].append((time.process_time() - started) * 1000)
            return answer

        return send

    @contextmanager
    def with_boto3(self) -> Iterator[None]:
        """Let the server make its DynamoDB calls by boto3 in this block."""
        dynamodb = self.server.store.dynamodb
        own = dynamodb.client
        if self._boto3 is None:
            self._boto3 = Boto3Client("dynamodb", REGION, own.url)
        vars(dynamodb)["client"] = self._boto3
        try:
            yield
        finally:
            vars(dynamodb)["client"] = own

    def warm(self) -> None:
        """Create what is created once (connections, pages), and cache the key ring and the clients."""
        self.visit(lambda _, event: self.handle(event))

    def visit(self, send: flow.Send) -> None:
        """Send one request of each kind."""
        flow.visit(send, self.client, self.remembered)

    def exchange(self, repetitions: int) -> Exchange:
        """Return the medians of a code exchange, of a refresh, and of the minimum work of either with boto3.

        That is one UpdateItem and two RS256 signatures. The server also reads the user, the session and the consent.
        """
        exchange: list[float] = []
        refresh: list[float] = []
        minimum: list[float] = []
        with redirect_stdout(LOG):
            send = self.timing({flow.EXCHANGE: exchange, flow.REFRESH: refresh})
            do_minimum = self._minimum_work()
            for _ in range(repetitions):
                answer = send(flow.EXCHANGE, flow.code_exchange(self.code(), self.client))
                event = flow.refresh(json.loads(answer["body"])["refresh_token"], self.client)
                assert send(flow.REFRESH, event)["statusCode"] == 200
                grant_id = self._create_grant()
                started = time.process_time()
                do_minimum(grant_id)
                minimum.append((time.process_time() - started) * 1000)
        return Exchange(median(exchange), median(refresh), median(minimum))

    def reported_units(self) -> dict[str, float]:
        """Return the capacity units that the log has for each endpoint: those that DynamoDB reports."""
        units: dict[str, float] = {}

        def send(name: str, event: flow.Event) -> dict[str, Any]:
            answer = self.handle(event)
            units[name] = json.loads(LOG.getvalue().splitlines()[-1])["consumed_capacity"]
            return answer

        with redirect_stdout(LOG):
            self.warm()
            self.visit(send)
        return units

    def key_ring_bytes(self) -> int:
        """Return the size of the record of the key ring."""
        (ring,) = self.server.store.keys.scan()
        return item_size(pack(vars(ring)))

    def code(self) -> str:
        """Return a code of a new grant."""
        return self.server.keys.make_handle("code", self._create_grant())

    def handle(self, event: flow.Event) -> dict[str, Any]:
        """Return the response, and leave only its line in the log."""
        self._empty_log()
        answer: dict[str, Any] = self._handler(event, None)
        return answer

    def _empty_log(self) -> None:
        LOG.seek(0)
        LOG.truncate()

    def _create_grant(self) -> str:
        if self._grant is None:
            now = self.server.now()
            session_id, generation = f"{self._user.sub}.{new_id()}", self._user.sessions_generation
            session = Session(session_id, self._user.sub, now, now + 86400, sessions_generation=generation)
            self.server.store.sessions.put(session)
            self._grant = Grant(
                grant_id="",
                client_id=self.client[0],
                sub=self._user.sub,
                session_id=session_id,
                session_stored=True,
                user_generation=self._user.grants_generation,
                sessions_generation=generation,
                registration_id=self._registration_id,
                redirect_uri=flow.REDIRECT_URI,
                redirect_uri_sent=True,
                scope=frozenset(flow.SESSION_SCOPE.split()),
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

    def _minimum_work(self) -> Callable[[str], None]:
        from cryptography.hazmat.primitives.asymmetric import padding, rsa
        from cryptography.hazmat.primitives.hashes import SHA256

        client, store = default_client(self.server), self.server.store
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)

        def work(grant_id: str) -> None:
            client.update_item(
                TableName=store.grants.name,
                Key={"grant_id": {"S": grant_id}},
                UpdateExpression="SET redeemed_at = :now",
                ConditionExpression="attribute_not_exists(redeemed_at)",
                ExpressionAttributeValues={":now": {"N": "1800000000"}},
                ReturnValues="ALL_NEW",
            )
            for _ in range(2):
                private.sign(bytes(500), padding.PKCS1v15(), SHA256())

        work(self._create_grant())
        return work


def default_client(server: AuthorizationServer) -> Any:
    """Return a DynamoDB client with boto3's defaults, for the same tables."""
    import boto3

    endpoint = server.settings.dynamodb_endpoint
    return boto3.Session("local", "local", region_name=REGION).client("dynamodb", endpoint_url=endpoint)
