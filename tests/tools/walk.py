"""`python -m tests.tools.walk [REQUEST …]`: the walk of one request through the modules of chalicelib, call by call.

Without arguments it shows a code exchange; `--list` prints the names of the requests. A protocol module is one that
knows the protocol: not HTTP, storage, keys, pages, settings, the server or the errors. The last lines count the
protocol modules that the request visits, and how often it moves from one to another.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import boto3
from moto import mock_aws

import app
from chalicelib import web
from chalicelib.clients.registration import register_client
from chalicelib.server import AuthorizationServer
from chalicelib.settings import Settings
from chalicelib.users.registration import register_user
from infra.local.embedded import create_tables
from tests.bench import flow
from tests.support.moto_transport import moto_transport

CHALICELIB = Path(web.__file__).parent
NOT_PROTOCOL = ("web", "server", "settings", "http", "storage", "aws", "keys", "pages", "protocol.errors")


@dataclass
class Walk:
    """The calls of functions in chalicelib: depth, module and function, in order."""

    calls: list[tuple[int, str, str]] = field(default_factory=list)
    _positions: list[str | None] = field(default_factory=list)
    _stack: list[str] = field(default_factory=list)

    def profile(self, frame: FrameType, event: str, _argument: Any) -> None:
        """Record a call or a return: for sys.setprofile."""
        path = Path(frame.f_code.co_filename)
        if event not in ("call", "return") or not path.is_relative_to(CHALICELIB) or path.suffix != ".py":
            return
        module = path.relative_to(CHALICELIB).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        if event == "call":
            self.calls.append((len(self._stack), module, frame.f_code.co_name))
            self._stack.append(module)
        elif self._stack:
            self._stack.pop()
        self._positions.append(next((each for each in reversed(self._stack) if is_protocol(each)), None))

    @property
    def modules(self) -> list[str]:
        """The protocol modules that the request visits."""
        return sorted({module for _, module, _ in self.calls if is_protocol(module)})

    @property
    def moves(self) -> int:
        """How often the request moves from one protocol module to another, by a call or a return."""
        return sum(before != after for before, after in pairwise(self._positions) if before and after)

    def lines(self) -> Iterator[str]:
        """Yield the walk as text, module by module."""
        last = ""
        for depth, module, function in self.calls:
            if module != last:
                yield f"{'  ' * depth}{module}: {function}"
            last = module


def is_protocol(module: str) -> bool:
    """Return whether a module of chalicelib knows the protocol."""
    return not any(module == other or module.startswith(f"{other}.") for other in NOT_PROTOCOL)


def walks() -> dict[str, Walk]:
    """Return the walks of one request of every kind, by name, once the caches are warm."""
    os.environ.update(AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing", AWS_DEFAULT_REGION="us-east-1")
    with mock_aws(), moto_transport(), contextlib.redirect_stdout(io.StringIO()):
        create_tables(boto3.client("dynamodb"), "walk")
        settings = Settings(stage="walk", region="us-east-1", sealing_key=b"k" * 32, issuer=flow.ORIGIN)
        server = AuthorizationServer.connect(settings)
        server.keys.create()
        _, handler = web.build(app.JSON_ROUTES, app.PAGE_ROUTES, lambda: server)
        members: dict[str, Any] = {"redirect_uris": [flow.REDIRECT_URI], "scope": flow.SCOPE}
        client, secret = register_client(server.store, client_name="Photo Print", **members)
        trusted, trusted_secret = register_client(server.store, client_name="Intranet", trusted=True, **members)
        register_user(server.store, username=flow.USERNAME, password=flow.PASSWORD)
        result: dict[str, Walk] = {}

        def send(name: str, event: flow.Event) -> dict[str, Any]:
            result[name] = walk = Walk()
            sys.setprofile(walk.profile)
            try:
                answer: dict[str, Any] = handler(event, None)
            finally:
                sys.setprofile(None)
            return answer

        for _ in range(2):
            flow.visit(send, (client.client_id, secret or ""), (trusted.client_id, trusted_secret or ""))
    return result


def main(names: list[str]) -> int:
    """Print the walks of these requests; return the exit code."""
    of_requests = walks()
    if names == ["--list"]:
        print(*of_requests, sep="\n")
        return 0
    for name in names or [flow.EXCHANGE]:
        if name not in of_requests:
            print(f"There is no request {name!r}. --list prints their names.", file=sys.stderr)
            return 2
        walk = of_requests[name]
        print(f"{name}\n", *walk.lines(), "", sep="\n")
        print(f"protocol modules visited: {len(walk.modules)}: {', '.join(walk.modules)}")
        print(f"moves between protocol modules: {walk.moves}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
