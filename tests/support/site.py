"""The application on Chalice's local server, with moto as AWS: one for the whole run, emptied for each test."""

import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

from chalice.config import Config
from chalice.local import LocalDevServer, create_local_server
from moto.dynamodb.models import dynamodb_backends

import app
from chalicelib import web
from chalicelib.authentication import let_in
from chalicelib.clients import registration
from chalicelib.keys.stored_ring import RING
from chalicelib.protocol.client import Client
from chalicelib.protocol.records import User
from chalicelib.server import AuthorizationServer
from chalicelib.settings import Settings
from chalicelib.users.registration import register_user

STAGE = "test"
PASSWORD = "correct horse battery staple"


@dataclass
class Clock:
    """A clock that only moves when a test advances it."""

    time: int = field(default_factory=lambda: int(time.time()))

    def __call__(self) -> int:
        return self.time

    def advance(self, seconds: int) -> None:
        self.time += seconds


class Site:
    """A running server with its tables; creates clients and users.

    `secrets` collects every secret that a test has created or received, for the leak test.
    """

    def __init__(self, **settings: Any):
        self.clock = Clock()
        self.secrets: set[str] = set()
        self.settings = Settings(stage=STAGE, region="us-east-1", sealing_key=b"k" * 32)
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

    def reset(self) -> None:
        """Delete every record except the key ring, which takes 0.2 s to create, and clear the caches."""
        if not tables()[self.server.store.keys.name].items:
            self.server.keys.create()
        for name, table in tables().items():
            for key in list(table.items):
                if (name, key.value) != (self.server.store.keys.name, RING):
                    table.items.pop(key, None)
        self.server.forget_cached_records()
        self.clock.time = int(time.time())
        self.server.keys.forget_cached_keys()
        self.server.keys.jwks()  # cached from now on

    def run(self, schedule: str) -> None:
        """Invoke a schedule with the event that infra/aws/api.yaml has EventBridge send."""
        self.http_handler({"schedule": schedule}, None)

    # ---- records

    def client(self, **members: Any) -> "Registered":
        """Register a client, confidential unless `public=True`; `members` are passed to `register_client`."""
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
        """Create a user with PASSWORD unless another password is given; None has the server create one."""
        user, random_password = register_user(self.server.store, username=username, password=password, **members)
        self.secrets.update(filter(None, [random_password, password]))
        return user

    def let_in_link(self, user: User) -> str:
        """Create a link of the operator that makes a browser known for a user."""
        link, _ = let_in.create_link(self.server.store, self.server.keys, self.settings.issuer, user)
        self.secrets.add(link.partition("=")[2])
        return link

    def read_user(self, username: str = "alice") -> User:
        """Return the record of a user as it is now."""
        (user,) = (user for user in self.server.store.users.scan() if user.username == username)
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
    """Return moto's tables of this stage by their names."""
    backend = next(iter(dynamodb_backends.values()))["us-east-1"]
    return {name: table for name, table in backend.tables.items() if name.startswith(f"signet-{STAGE}-")}


def dump_tables() -> str:
    """Return every record of the tables as text."""
    return "\n".join(str(item.to_json()) for table in tables().values() for item in table.all_items())
