"""The server's own AWS client with moto in the same process: requests to AWS go to moto's handlers, and never out."""

import base64
import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import Request as MotoRequest
from moto.core.responses import ActionResult
from moto.core.utils import get_service_model
from moto.dynamodb.responses import DynamoHandler
from moto.kms.responses import KmsResponse
from moto.sesv2.responses import SESV2Response
from werkzeug.datastructures import Headers

from chalicelib.aws.client import Client
from chalicelib.aws.messages import Request, Response

# The calls whose answers have no times.
_WITH_ITEMS = frozenset(
    [
        *("GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "Scan"),
        *("BatchGetItem", "BatchWriteItem", "TransactGetItems", "TransactWriteItems"),
    ]
)
_HANDLERS = {"kms": KmsResponse, "email": SESV2Response}


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
    if service == "dynamodb":
        status, headers, body = _Dynamo(request).call_action()
    else:
        parsed = MotoRequest.from_primitives(request.method, request.url, request.headers, request.body)
        status, headers, body = _HANDLERS[service].dispatch(parsed, request.url, parsed.headers)
    content = body.encode() if isinstance(body, str) else body
    return Response(int(status), {name.lower(): str(value) for name, value in headers.items()}, content)


class _Dynamo(DynamoHandler):  # type: ignore[misc]
    """moto's DynamoDB for one request, whose body is JSON.

    moto's own way through a web request and the shapes of botocore takes a third of the time of a call.
    `tests/storage_keys/test_quick_moto.py` compares the answers.
    """

    def __init__(self, request: Request):
        super().__init__()
        self.headers = Headers(list(request.headers.items()))
        self.querystring: dict[str, Any] = {}
        self.uri_match: dict[str, Any] = {}
        self.response_headers = {"server": "amazon.com"}
        self.region = (urlsplit(request.url).hostname or "").split(".")[1]
        self.current_account = self.get_current_account()
        self.params = self._read(request.body)

    def _read(self, body: bytes) -> Any:
        if b'"B"' not in body and b'"BS"' not in body:
            return json.loads(body)
        operation = get_service_model("dynamodb").operation_model(self._get_action())  # decodes the bytes
        return PROTOCOL_PARSERS["json"](operation, map_type=dict).parse({"headers": self.headers, "body": body})

    def serialized(self, action_result: ActionResult) -> Any:
        """Serialize the answer of a call with items; errors and other answers as moto does."""
        if not isinstance(action_result.result, dict) or self._get_action() not in _WITH_ITEMS:
            return super().serialized(action_result)
        members = _members(self._get_action())
        result = {name: value for name, value in action_result.result.items() if name in members}
        headers = {"Content-Type": "application/x-amz-json-1.0", **self.response_headers}
        return 200, headers, json.dumps(_without_nothing(result), default=_as_text)


@functools.cache
def _members(action: str) -> frozenset[str]:
    """Return the members of the answer to a call."""
    return frozenset(get_service_model("dynamodb").operation_model(action).output_shape.members)


def _without_nothing(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nothing(each) for name, each in value.items() if each is not None}
    return [_without_nothing(each) for each in value] if isinstance(value, list) else value


def _as_text(value: bytes) -> str:
    return base64.b64encode(value).decode()
