"""Calls of the protocol REST JSON, SES and Lambda, which are not repeated when they may have been executed."""

import datetime
import json
import socket
import time
from email.utils import formatdate
from unittest import mock

import boto3
import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials

from chalicelib.aws.client import Account, AwsError, Client, endpoint_of
from chalicelib.aws.connections import Connections
from chalicelib.aws.messages import NoAnswer, NotSent, Request, Response
from chalicelib.aws.signature import Signer
from chalicelib.protocol.errors import TemporarilyUnavailable
from tests.aws.conftest import KEYS, Servers, client_of
from tests.support.aws_server import error, response, send
from tests.support.faults import no_pauses
from tests.support.ports import free_port

PATH = "/v2/email/outbound-emails"
INVOKE = "/2015-03-31/functions/signet-api-prod-APIHandler-1AbC/invocations?Qualifier=live"


def test_call_has_its_path_its_query_and_its_headers(servers: Servers) -> None:
    server = servers(send(response(b"", 202)))
    client, urls = client_of(server, service="lambda"), list[str]()
    transport = client.transport

    def recorded(request: Request) -> Response:
        urls.append(request.url)
        return transport(request)

    with mock.patch.object(client, "transport", recorded):
        assert client.post(INVOKE, "Invoke", b'{"deliver": []}', {"X-Amz-Invocation-Type": "Event"}) == {}
    assert urls == [server.url.removesuffix("/") + INVOKE]
    (request,) = server.requests
    assert json.loads(request.body) == {"deliver": []}
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-amz-invocation-type"] == "Event"
    assert "x-amz-target" not in request.headers
    assert "/lambda/aws4_request" in request.headers["authorization"]


@pytest.mark.parametrize(("service", "url"), [("lambda", INVOKE), ("ses", PATH)])
def test_signature_is_that_of_botocore(service: str, url: str) -> None:
    moment = datetime.datetime(2026, 11, 30, tzinfo=datetime.UTC)
    request = Request("POST", f"https://x.example.com{url}", {"Content-Type": "application/json"}, b"{}")
    expected = AWSRequest("POST", request.url, dict(request.headers), request.body)
    with mock.patch.object(auth, "get_current_datetime", return_value=moment):
        auth.SigV4Auth(BotocoreCredentials(*KEYS[:3]), service, "eu-west-1").add_auth(expected)
    Signer(service, "eu-west-1").sign(request, KEYS, moment.timestamp())
    assert request.headers["Authorization"] == expected.headers["Authorization"]


@pytest.mark.parametrize("region", ["eu-central-1", "us-gov-west-1", "cn-north-1"])
@pytest.mark.parametrize(("service", "named"), [("ses", "sesv2"), ("lambda", "lambda")])
def test_endpoint_is_that_of_botocore(service: str, named: str, region: str) -> None:
    client = boto3.Session("a", "b").client(named, region_name=region)  # type: ignore[call-overload]
    assert endpoint_of(service, region) == f"{client.meta.endpoint_url}/"


@pytest.mark.parametrize(
    "answer",
    [error("InternalServiceErrorException", 500), error("TooManyRequestsException", 429), response(b"not JSON")],
    ids=["failed", "throttled", "damaged"],
)
def test_call_that_may_have_been_executed_is_made_once(servers: Servers, answer: bytes) -> None:
    server = servers(send(answer))
    with pytest.raises(TemporarilyUnavailable):
        client_of(server, service="ses").post(PATH, "SendEmail", b"{}")
    assert len(server.requests) == 1


def test_call_whose_answer_is_lost_is_made_once(servers: Servers) -> None:
    calls: list[Request] = []

    def lose(request: Request) -> Response:
        calls.append(request)
        raise NoAnswer("no answer in time")

    client = Client("ses", "eu-west-1", "https://email.example", lambda _renew: KEYS, lose)
    with pytest.raises(TemporarilyUnavailable) as caught:
        client.post(PATH, "SendEmail", b"{}")
    assert len(calls) == 1
    assert isinstance(caught.value.__cause__, NoAnswer)


def test_call_with_rejected_credentials_or_time_is_made_again(servers: Servers) -> None:
    wrong_time = response(b'{"__type": "RequestExpired"}', 403, Date=formatdate(time.time() + 3600, usegmt=True))
    server = servers(send(error("ExpiredTokenException")), send(wrong_time))
    assert client_of(server, service="ses").post(PATH, "SendEmail", b"{}") == {"ok": True}
    assert len(server.requests) == 3


def test_lost_answer_after_rejected_credentials_is_not_repeated() -> None:
    answers = [Response(403, {}, b'{"__type": "ExpiredTokenException"}')]
    calls: list[Request] = []

    def lose(request: Request) -> Response:
        calls.append(request)
        if answers:
            return answers.pop()
        raise NoAnswer("no answer in time")

    client = Client("ses", "eu-west-1", "https://email.example", lambda _renew: KEYS, lose)
    with no_pauses(), pytest.raises(TemporarilyUnavailable):
        client.post(PATH, "SendEmail", b"{}")
    assert len(calls) == 2


@pytest.mark.parametrize("name", ["MessageRejected", "SendingPausedException"])
def test_error_has_the_name_in_its_header(servers: Servers, name: str) -> None:
    answer = response(b'{"message": "no"}', 400, x_amzn_ErrorType=f"{name}:http://internal.amazon.com/")
    with pytest.raises(AwsError.named(name)):
        client_of(servers(send(answer)), service="ses").post(PATH, "SendEmail", b"{}")


def test_request_that_reached_no_server_was_certainly_not_executed() -> None:
    with pytest.raises(NotSent):
        Connections().send(Request("POST", f"http://127.0.0.1:{free_port()}/"))


def test_request_whose_connection_was_closed_may_have_been_executed(servers: Servers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        from threading import Thread

        def close() -> None:
            connection, _ = listener.accept()
            connection.recv(1000)
            connection.close()

        thread = Thread(target=close)
        thread.start()
        with pytest.raises(NoAnswer) as caught:
            Connections().send(Request("POST", f"http://127.0.0.1:{listener.getsockname()[1]}/"))
        thread.join()
    assert not isinstance(caught.value, NotSent)


def test_client_with_its_own_timeout_has_its_own_connections() -> None:
    def transport(_request: Request) -> Response:
        raise AssertionError("not this one")

    account = Account(
        "eu-west-1", lambda: {"AWS_ENDPOINT_URL_SES": "http://127.0.0.1:9"}, lambda _renew: KEYS, transport
    )
    with no_pauses(), pytest.raises(TemporarilyUnavailable):
        account.client("ses", 5.0).post(PATH, "SendEmail", b"{}")
