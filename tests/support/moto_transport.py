"""The server's own AWS client with moto in the same process: requests to AWS go to moto's handlers, and never out."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock
from urllib.parse import urlsplit

from moto.core.request import Request as MotoRequest
from moto.dynamodb.responses import DynamoHandler
from moto.kms.responses import KmsResponse
from moto.sesv2.responses import SESV2Response

from chalicelib.aws.client import Client
from chalicelib.aws.messages import Request, Response

_HANDLERS = {"dynamodb": DynamoHandler, "kms": KmsResponse, "email": SESV2Response}


@contextmanager
def moto_transport() -> Iterator[None]:
    """Send the requests of the server's client for AWS to moto, and those for other endpoints as usual."""
    send = Client.transport

    def transport(client: Client, request: Request) -> Response:
        host = urlsplit(request.url).hostname or ""
        return ask_moto(request) if host.endswith(".amazonaws.com") else send(client, request)

    with mock.patch.object(Client, "transport", transport):
        yield


def ask_moto(request: Request) -> Response:
    """Return the response of moto to a request."""
    service = (urlsplit(request.url).hostname or "").partition(".")[0]
    parsed = MotoRequest.from_primitives(request.method, request.url, request.headers, request.body)
    status, headers, body = _HANDLERS[service].dispatch(parsed, request.url, parsed.headers)
    content = body.encode() if isinstance(body, str) else body
    return Response(int(status), {name.lower(): str(value) for name, value in headers.items()}, content)
