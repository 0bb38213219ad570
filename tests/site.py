"""The real application on the real local server, over moto: one for the whole run, emptied between tests."""

import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

from chalice.config import Config
from chalice.local import LocalDevServer, create_local_server
from moto.dynamodb.models import dynamodb_backends

import app
from chalicelib import registration, web
from chalicelib.keys import RING
from chalicelib.models import Client, User
from chalicelib.server import AuthorizationServer
from chalicelib.settings import Settings

STAGE = "test"
PASSWORD = "correct horse battery staple"


@dataclass
class Clock:
    """A clock that stands still until a test moves it."""

    time: int = field(default_factory=lambda: int(time.time()))

    def __call__(self) -> int:
        return self.time

    def advance(self, seconds: int) -> None:
        self.time += seconds


class Site:
    """A running server, and what tests put into it."""

    def __init__(self, **settings: Any):
        self.clock = Clock()
        self.secrets: set[str] = set()
        self.settings = Settings(stage=STAGE, region="us-east-1", sealing_key=b"k" * 32)
        self._server: AuthorizationServer | None = None
        self.app, self.http_handler = web.build(app.JSON_ROUTES, app.PAGE_ROUTES, self._connect, app.SCHEDULES)
        self.local = self._listen()
        self.port = self.local.server.server_port
        given = {"issuer": f"http://127.0.0.1:{self.port}"} | settings
        self.settings = replace(self.settings, **given)
        self.server = AuthorizationServer.connect(self.settings, self.clock)
        threading.Thread(target=self.local.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def _connect(self) -> AuthorizationServer:
        return self.server

    def _listen(self) -> LocalDevServer:
        config = Config(chalice_stage="dev", config_from_disk={"app_name": "signet", "stages": {"dev": {}}})
        return create_local_server(self.app, config, "127.0.0.1", 0)

    def close(self) -> None:
        self.local.server.shutdown()
        self.local.server.server_close()

    def empty(self) -> None:
        """Forget everything but the key ring, whose making would cost every test a fifth of a second."""
        self.server.keys.jwks()
        for name, table in tables().items():
            for key in list(table.items):
                if (name, key.value) != (self.server.store.keys.name, RING):
                    table.items.pop(key, None)
        self.server._clients.clear()
        self.server._scopes.clear()
        self.clock.time = int(time.time())

    def run(self, schedule: str) -> None:
        """What EventBridge does when it is time: the event that infra/api.yaml describes."""
        self.http_handler({"schedule": schedule}, None)

    # ---- what is in it

    def client(self, **members: Any) -> "Registered":
        """A registered client, confidential unless `public=True`."""
        given: dict[str, Any] = {
            "client_name": "Photo Print",
            "redirect_uris": ["https://client.example.com/cb"],
            "scope": "openid profile email offline_access",
        }
        client, secret = registration.register_client(self.server.store, **(given | members))
        if secret:
            self.secrets.add(secret)
        return Registered(client, secret)

    def user(self, username: str = "alice", password: str | None = PASSWORD, **members: Any) -> User:
        """A person; the password is PASSWORD unless another is given."""
        user, made = registration.register_user(self.server.store, username=username, password=password, **members)
        self.secrets.update(filter(None, [made, password]))
        return user


@dataclass(frozen=True)
class Registered:
    """A client and its secret."""

    record: Client
    secret: str | None

    @property
    def id(self) -> str:
        return self.record.client_id


def tables() -> dict[str, Any]:
    """moto's tables of this stage."""
    backend = next(iter(dynamodb_backends.values()))["us-east-1"]
    return {name: table for name, table in backend.tables.items() if name.startswith(f"signet-{STAGE}-")}


def dump() -> str:
    """Everything that lies in the tables, as text."""
    return "\n".join(str(item.to_json()) for table in tables().values() for item in table.all_items())
