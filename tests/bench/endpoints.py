"""The cost of a request by endpoint, through the Lambda handler, and of a code exchange beside its minimum work."""

import io
import json
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import app
from chalicelib import web
from chalicelib.clients import registration
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.records import Consent, Session
from chalicelib.server import AuthorizationServer
from chalicelib.storage.table import Lookup
from chalicelib.users.registration import register_user
from tests.bench import flow
from tests.bench.calibration import calibrate
from tests.bench.capacity import Meter
from tests.bench.services import REGION


@dataclass
class Endpoint:
    """The measurements of one kind of request; times in CPU milliseconds."""

    times: list[float] = field(default_factory=list)
    calls: int = 0
    reads: float = 0.0
    writes: float = 0.0
    log_bytes: int = 0

    @property
    def milliseconds(self) -> float:
        return median(self.times)


class Bench:
    """A server in this process, as Lambda runs it, with a user and two clients, of which one has the user's consent."""

    def __init__(self) -> None:
        self.server: AuthorizationServer = app.connect()
        self.server.keys.create()
        _, self._handler = web.build(app.JSON_ROUTES, app.PAGE_ROUTES, lambda: self.server)
        self._log = io.StringIO()
        store = self.server.store
        members: dict[str, Any] = {"redirect_uris": [flow.REDIRECT_URI], "scope": flow.SCOPE}
        client, secret = registration.register_client(store, client_name="Photo Print", **members)
        remembered, remembered_secret = registration.register_client(store, client_name="Photo Album", **members)
        self.client = (client.client_id, secret or "")
        self._remembered = (remembered.client_id, remembered_secret or "")
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

    def endpoints(self, repetitions: int) -> tuple[dict[str, Endpoint], list[float]]:
        """Return the costs of each endpoint, in the order of a visit, and the calibrations in between."""
        results: dict[str, Endpoint] = {}
        calibrations = []

        def timed(name: str, event: flow.Event) -> dict[str, Any]:
            started = time.process_time()
            answer = self._handler(event, None)
            results[name].times.append((time.process_time() - started) * 1000)
            return answer

        meter = Meter(self.server.store.dynamodb.client)

        def counted(name: str, event: flow.Event) -> dict[str, Any]:
            with meter.listening():
                answer = self.handle(event)
            line = self._log.getvalue()
            calls = json.loads(line.splitlines()[-1])["dynamodb_calls"]  # the lines before are events
            results[name] = Endpoint([], calls, meter.reads, meter.writes, len(line.encode()))
            return answer

        with redirect_stdout(self._log):
            self.warm()
            self.visit(counted)
            for _ in range(repetitions):
                self._empty_log()
                calibrations.append(calibrate())
                self.visit(timed)
        return results, calibrations

    def warm(self) -> None:
        """Create what is created once (connections, pages), and cache the key ring and the clients."""
        self.visit(lambda _, event: self.handle(event))

    def visit(self, send: flow.Send) -> None:
        """Send one request of each kind."""
        flow.visit(send, self.client, self._remembered)

    def exchange(self, repetitions: int) -> tuple[float, float]:
        """Return the medians of a code exchange and of its minimum work.

        That is one UpdateItem, one BatchGetItem of user, session and consent, and two RS256 signatures.
        """
        minimum, exchange = [], []
        with redirect_stdout(self._log):
            do_minimum = self._minimum_work()
            for _ in range(repetitions):
                self._empty_log()
                event = flow.code_exchange(self.code(), self.client)
                exchange.append(_cpu(lambda event=event: self._handle_successfully(event)))  # type: ignore[misc]
                grant_id = self._create_grant()
                minimum.append(_cpu(lambda grant_id=grant_id: do_minimum(grant_id)))  # type: ignore[misc]
        return median(exchange), median(minimum)

    def code(self) -> str:
        """Return a code of a new grant."""
        return self.server.keys.make_handle("code", self._create_grant())

    def handle(self, event: flow.Event) -> dict[str, Any]:
        """Return the response, and leave only its line in the log."""
        self._empty_log()
        answer: dict[str, Any] = self._handler(event, None)
        return answer

    def _empty_log(self) -> None:
        self._log.seek(0)
        self._log.truncate()

    def _handle_successfully(self, event: flow.Event) -> None:
        assert self._handler(event, None)["statusCode"] == 200

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
        state = self._state()
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
            client.batch_get_item(RequestItems=state)
            for _ in range(2):
                private.sign(bytes(500), padding.PKCS1v15(), SHA256())

        work(self._create_grant())
        return work

    def _state(self) -> dict[str, Any]:
        """Return the keys of the user, the session and the consent of a grant, for a consistent BatchGetItem."""
        store, grant_id = self.server.store, self._create_grant()
        grant = store.grants.get(grant_id)
        assert grant
        lookups: list[Lookup[Any]] = [
            store.users.lookup(self._user.sub),
            store.sessions.lookup(grant.session_id),
            store.consents.lookup(self._user.sub, self.client[0]),
        ]
        return {
            lookup.table.name: {"Keys": [lookup.table.pack_key(lookup.key)], "ConsistentRead": True}
            for lookup in lookups
        }


def default_client(server: AuthorizationServer) -> Any:
    """Return a DynamoDB client with boto3's defaults, for the same tables."""
    import boto3

    endpoint = server.settings.dynamodb_endpoint
    return boto3.Session("local", "local", region_name=REGION).client("dynamodb", endpoint_url=endpoint)


def _cpu(work: Callable[[], None]) -> float:
    started = time.process_time()
    work()
    return (time.process_time() - started) * 1000
