"""A call of AWS: names of errors, attempts and pauses, a wrong clock, expired credentials, endpoints."""

import calendar
import time
from email.utils import formatdate
from typing import Any

import boto3
import pytest

from chalicelib.aws.client import Account, AwsError, Client, endpoint_of
from chalicelib.aws.credentials import Credentials
from chalicelib.aws.messages import NotConfigured, Request, Response
from chalicelib.protocol.errors import TemporarilyUnavailable, unexpected_error
from chalicelib.settings import Settings
from chalicelib.storage.store import Store
from tests.aws.conftest import KEYS, Servers, client_of
from tests.support.aws_server import AwsServer, error, response, send
from tests.support.threads import run_concurrently

HOUR = 3600

# ---- errors


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (error("ValidationException"), "ValidationException"),
        (response(b'{"__type": "ValidationException"}', 400), "ValidationException"),
        (response(b'{"code": "ValidationException:http://internal.example.com/"}', 400), "ValidationException"),
        (response(b"{}", 400, x_amzn_ErrorType="ValidationException:http://x/"), "ValidationException"),
        (response(b"<html>Forbidden</html>", 403), "HTTP 403"),
        (response(b"", 404), "HTTP 404"),
        (response(b"", 301, Location="https://example.com/"), "HTTP 301"),
    ],
)
def test_rejected_call_raises_an_error_with_its_name_at_once(servers: Servers, answer: bytes, code: str) -> None:
    server = servers(send(answer))
    with pytest.raises(AwsError.named(code)) as caught:
        client_of(server).call("PutItem")
    assert caught.value.code == code
    assert len(server.requests) == 1


def test_error_is_not_caught_under_another_name(servers: Servers) -> None:
    with pytest.raises(AwsError) as caught:
        client_of(servers(send(error("ValidationException")))).call("PutItem")
    assert not isinstance(caught.value, AwsError.named("ConditionalCheckFailedException"))


def test_error_has_the_members_of_the_answer(servers: Servers) -> None:
    body = b'{"__type": "x#ConditionalCheckFailedException", "Item": {"a": {"S": "b"}}}'
    with pytest.raises(AwsError) as caught:
        client_of(servers(send(response(body, 400)))).call("PutItem")
    assert caught.value.answer["Item"] == {"a": {"S": "b"}}


def test_unexpected_error_is_logged_with_its_name_and_request_id_and_without_its_message(servers: Servers) -> None:
    with pytest.raises(AwsError) as caught:
        client_of(servers(send(error("ValidationException")))).call("PutItem", Item="a secret")
    detail = unexpected_error(caught.value).detail
    assert "PutItem: ValidationException THE-ID" in detail
    assert "secret" not in detail


# ---- attempts

TEMPORARY = [
    error("ProvisionedThroughputExceededException"),
    error("ThrottlingException"),
    error("RequestLimitExceeded"),
    error("LimitExceededException"),
    error("TransactionInProgressException"),
    error("InternalServerError", 500),
    error("KMSInternalException", 500),
    response(b"<html>Bad gateway</html>", 502),
    response(b"", 503),
]


@pytest.mark.parametrize("answer", TEMPORARY)
def test_temporary_error_is_an_attempt(servers: Servers, answer: bytes) -> None:
    server = servers(send(answer), send(answer))
    assert client_of(server).call("PutItem") == {"ok": True}
    assert len(server.requests) == 3
    assert len({request.body for request in server.requests}) == 1


@pytest.mark.parametrize("answer", TEMPORARY)
def test_three_temporary_errors_raise_temporarily_unavailable(servers: Servers, answer: bytes) -> None:
    server = servers(*[send(answer)] * 3)
    with pytest.raises(TemporarilyUnavailable):
        client_of(server).call("PutItem")
    assert len(server.requests) == 3


def test_log_of_a_temporary_error_has_the_request_id(servers: Servers) -> None:
    server = servers(*[send(error("ThrottlingException"))] * 3)
    with pytest.raises(TemporarilyUnavailable) as caught:
        client_of(server).call("PutItem")
    assert caught.value.detail == "dynamodb PutItem: ThrottlingException THE-ID"


@pytest.mark.parametrize(("answer", "longest"), [(error("InternalServerError", 500), 0.05), (TEMPORARY[0], 0.5)])
def test_pauses_are_random_up_to_a_limit_that_doubles(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, answer: bytes, longest: float
) -> None:
    server = servers(*[send(answer)] * 300)
    client = client_of(server)
    pauses: list[float] = []
    monkeypatch.setattr("chalicelib.aws.client.time.sleep", pauses.append)
    for _ in range(100):
        with pytest.raises(TemporarilyUnavailable):
            client.call("PutItem")
    for pause, limit in ((pauses[::2], longest), (pauses[1::2], 2 * longest)):
        assert len(pause) == 100
        assert 0 <= min(pause) < 0.2 * limit
        assert 0.8 * limit < max(pause) <= limit


# ---- a wrong clock


class StrictServer(AwsServer):
    """A server that compares the time of each signature with its own clock, as AWS does."""

    def __init__(self, ahead: float, name: str):
        super().__init__()
        self.ahead, self.name = ahead, name
        self.otherwise = self._check

    def _check(self, connection: Any, request: Any) -> None:
        signed = calendar.timegm(time.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ"))
        now = time.time() + self.ahead
        wrong = error(self.name, Date=formatdate(now, usegmt=True))
        send(wrong if abs(now - signed) > 300 else response())(connection, request)


@pytest.mark.parametrize("ahead", [HOUR, -HOUR, 400])
@pytest.mark.parametrize(
    "name", ["InvalidSignatureException", "RequestTimeTooSkewed", "RequestExpired", "SignatureDoesNotMatch"]
)
def test_wrong_clock_is_corrected_by_one_rejected_request(servers: Servers, ahead: float, name: str) -> None:
    server = StrictServer(ahead, name)
    client = client_of(server)
    try:
        assert client.call("GetItem") == client.call("GetItem") == {"ok": True}
    finally:
        server.close()
    assert len(server.requests) == 3


def test_threads_with_a_wrong_clock_are_all_corrected() -> None:
    server = StrictServer(HOUR, "RequestTimeTooSkewed")
    client = client_of(server)
    try:
        assert run_concurrently([lambda: client.call("GetItem")] * 8) == [{"ok": True}] * 8
    finally:
        server.close()


@pytest.mark.parametrize("date", ["now", "yesterday", ""])
def test_wrong_signature_with_the_right_time_is_an_error_at_once(servers: Servers, date: str) -> None:
    date = formatdate(usegmt=True) if date == "now" else date
    server = servers(send(error("InvalidSignatureException", Date=date)))
    with pytest.raises(AwsError.named("InvalidSignatureException")):
        client_of(server).call("GetItem")
    assert len(server.requests) == 1


# ---- expired credentials


def _with_credentials(server: AwsServer, *sources: Credentials) -> Client:
    given = list(sources)

    def source(renew: bool) -> Credentials:
        if renew and len(given) > 1:
            given.pop(0)
        return given[0]

    return Client("dynamodb", "eu-west-1", server.url, source)


@pytest.mark.parametrize("name", ["ExpiredTokenException", "ExpiredToken"])
def test_expired_credentials_are_replaced(servers: Servers, name: str) -> None:
    server = servers(send(error(name)))
    client = _with_credentials(server, KEYS, KEYS._replace(session_token="new"))
    assert client.call("GetItem") == {"ok": True}
    assert [request.headers["x-amz-security-token"] for request in server.requests] == ["token", "new"]


def test_credentials_that_stay_expired_are_an_error(servers: Servers) -> None:
    server = servers(*[send(error("ExpiredTokenException"))] * 3)
    with pytest.raises(AwsError.named("ExpiredTokenException")):
        _with_credentials(server, KEYS).call("GetItem")
    assert len(server.requests) == 2


# ---- endpoints


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("eu-central-1", "https://kms.eu-central-1.amazonaws.com/"),
        ("us-gov-west-1", "https://kms.us-gov-west-1.amazonaws.com/"),
        ("cn-north-1", "https://kms.cn-north-1.amazonaws.com.cn/"),
        ("us-iso-east-1", "https://kms.us-iso-east-1.c2s.ic.gov/"),
        ("us-isob-east-1", "https://kms.us-isob-east-1.sc2s.sgov.gov/"),
    ],
)
def test_endpoint_of_a_region_is_that_of_botocore(region: str, url: str) -> None:
    expected = boto3.Session("a", "b").client("kms", region_name=region).meta.endpoint_url
    assert endpoint_of("kms", region) == url == f"{expected}/"


def test_environment_can_name_other_endpoints() -> None:
    environ = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_KMS": "http://127.0.0.1:2"}
    account = Account("eu-west-1", lambda: environ)
    assert account.client("kms").url == "http://127.0.0.1:2"
    assert account.client("dynamodb").url == "http://127.0.0.1:1"


def test_account_without_a_region_raises_not_configured() -> None:
    with pytest.raises(NotConfigured) as caught:
        Account(None, dict).client("kms")
    assert caught.value.variables == "AWS_DEFAULT_REGION"


def test_local_endpoint_of_dynamodb_never_receives_the_real_credentials(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers(send(response(b'{"Items": []}')))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "REAL")
    store = Store(Settings(region="eu-west-1", dynamodb_endpoint=server.url))
    assert list(store.clients.scan()) == []
    assert "Credential=local/" in server.requests[0].headers["authorization"]
    assert not any("REAL" in value for value in server.requests[0].headers.values())


def test_account_sends_all_requests_by_its_transport() -> None:
    sent: list[Request] = []

    def transport(request: Request) -> Response:
        sent.append(request)
        return Response(200, {}, b"{}")

    environ = {"AWS_ENDPOINT_URL_KMS": "https://kms.example", "AWS_ENDPOINT_URL_DYNAMODB": "https://dynamodb.example"}
    account = Account("eu-west-1", lambda: environ, lambda _renew: KEYS, transport)
    account.client("kms").call("Sign")
    account.client("dynamodb").call("GetItem")
    assert [request.url.split(".")[0] for request in sent] == ["https://kms", "https://dynamodb"]
