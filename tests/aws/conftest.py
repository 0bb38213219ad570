"""Servers that speak AWS's protocol, and clients of them."""

from collections.abc import Callable, Iterator

import pytest

from chalicelib.aws.client import Client
from chalicelib.aws.connections import Connections
from chalicelib.aws.credentials import Credentials
from tests.support.aws_server import AwsServer
from tests.support.faults import no_pauses

Servers = Callable[..., AwsServer]
KEYS = Credentials("AKID", "secret", "token")


@pytest.fixture
def servers() -> Iterator[Servers]:
    """A function that starts a server."""
    started: list[AwsServer] = []

    def start(*plan: object, **members: object) -> AwsServer:
        started.append(AwsServer(*plan, **members))  # type: ignore[arg-type]
        return started[-1]

    with no_pauses():
        yield start
    for server in started:
        server.close()


def client_of(server: AwsServer, read_timeout: float = 5.0, service: str = "dynamodb") -> Client:
    """Return a client of a server."""
    send = Connections(read_timeout).send
    return Client(service, "eu-west-1", server.url, lambda _renew: KEYS, send)
