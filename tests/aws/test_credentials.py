"""Credentials: from the environment, from the endpoint of a container, renewed before they end."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from chalicelib.aws import credentials
from chalicelib.aws.connections import Connections
from chalicelib.aws.credentials import Credentials, EnvironmentCredentials
from chalicelib.aws.messages import NoAnswer, NotConfigured, Request, Response
from tests.aws.conftest import Servers
from tests.support.aws_server import AwsServer, response, send
from tests.support.threads import run_concurrently

FULL_URI = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
TOKEN = "AWS_CONTAINER_AUTHORIZATION_TOKEN"


class Clock:
    """A clock that tests set."""

    strptime = staticmethod(time.strptime)

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(credentials, "time", clock)
    return clock


class Endpoint:
    """An endpoint that gives other keys each time, for an hour; `works`: whether it does."""

    def __init__(self, clock: Clock):
        self.requests: list[Request] = []
        self.works = True
        self._clock = clock

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        if not self.works:
            raise NoAnswer("down")
        number = len(self.requests)
        ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock.now + 3600))
        keys = {"AccessKeyId": f"A{number}", "SecretAccessKey": "s", "Token": "t", "Expiration": ends}
        return Response(200, {}, json.dumps(keys).encode())


@pytest.fixture
def endpoint(clock: Clock) -> Endpoint:
    return Endpoint(clock)


def no_fetch(_request: Request) -> Response:
    raise AssertionError


@pytest.mark.parametrize("token", ["", "token"])
def test_keys_of_the_environment_come_first(token: str) -> None:
    environ = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "S", FULL_URI: "http://127.0.0.1:1/"}
    environ |= {"AWS_SESSION_TOKEN": token} if token else {}
    assert EnvironmentCredentials(lambda: environ, no_fetch)() == Credentials("A", "S", token)


@pytest.mark.parametrize("environ", [{}, {"AWS_ACCESS_KEY_ID": "A"}, {"AWS_SECRET_ACCESS_KEY": "S"}])
def test_environment_without_credentials_raises_not_configured(environ: dict[str, str]) -> None:
    with pytest.raises(NotConfigured, match="Unable to locate credentials"):
        EnvironmentCredentials(lambda: environ, no_fetch)()


def test_endpoint_of_the_container_is_asked_with_its_token(servers: Servers) -> None:
    """As in a Lambda function with SnapStart."""
    keys = {"AccessKeyId": "A", "SecretAccessKey": "S", "Token": "T", "Expiration": "2027-01-15T08:00:00Z"}
    server: AwsServer = servers(send(response(json.dumps(keys).encode())))
    environ = {FULL_URI: f"http://127.0.0.1:{server.port}/2021-04-23/credentials", TOKEN: "the token"}
    source = EnvironmentCredentials(lambda: environ, Connections().send)
    assert source() == source() == Credentials("A", "S", "T", 1_800_000_000)
    [request] = server.requests
    assert (request.target, request.headers["authorization"]) == ("/2021-04-23/credentials", "the token")


def test_token_file_is_read_each_time(endpoint: Endpoint, clock: Clock, tmp_path: Path) -> None:
    file = tmp_path / "token"
    environ = {FULL_URI: "http://169.254.170.23/v1/credentials", f"{TOKEN}_FILE": str(file), TOKEN: "ignored"}
    source = EnvironmentCredentials(lambda: environ, endpoint)
    for token in ("first", "second"):
        file.write_text(token)
        source()
        clock.now += 3600
    assert [request.headers["Authorization"] for request in endpoint.requests] == ["first", "second"]


def test_relative_uri_is_asked_at_the_address_of_ecs(endpoint: Endpoint) -> None:
    environ = {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/1"}
    EnvironmentCredentials(lambda: environ, endpoint)()
    assert endpoint.requests[0].url == "http://169.254.170.2/v2/credentials/1"


@pytest.mark.parametrize(
    "url", ["http://example.com/", "http://10.0.0.1/", "http://127.0.0.1.example.com/", "ftp://127.0.0.1/", "127.0.0.1"]
)
def test_other_endpoints_without_tls_are_not_asked(url: str) -> None:
    with pytest.raises(NotConfigured, match="https"):
        EnvironmentCredentials(lambda: {FULL_URI: url, TOKEN: "secret"}, no_fetch)()


@pytest.mark.parametrize("token", ["a\nX-Other: b", "a\r"])
def test_token_with_a_line_break_is_not_sent(token: str) -> None:
    with pytest.raises(NotConfigured, match="line break"):
        EnvironmentCredentials(lambda: {FULL_URI: "http://127.0.0.1/", TOKEN: token}, no_fetch)()


@pytest.mark.parametrize(
    "answer",
    [Response(404, {}, b"not found"), Response(200, {}, b"[]"), Response(200, {}, b'{"AccessKeyId": "A"}')],
)
def test_endpoint_that_gives_no_credentials_is_no_answer(answer: Response) -> None:
    with pytest.raises(NoAnswer, match="no credentials") as caught:
        EnvironmentCredentials(lambda: {FULL_URI: "http://localhost/"}, lambda _: answer)()
    assert caught.value.__cause__ is None, "the answer may contain a secret"


def _source(endpoint: Endpoint) -> EnvironmentCredentials:
    return EnvironmentCredentials(lambda: {FULL_URI: "http://127.0.0.1/"}, endpoint)


def test_credentials_are_renewed_five_minutes_before_they_end(endpoint: Endpoint, clock: Clock) -> None:
    source = _source(endpoint)
    ids = []
    for seconds in (0, 3299, 2, 0):
        clock.now += seconds
        ids.append(source().access_key_id)
    assert ids == ["A1", "A1", "A2", "A2"]


def test_credentials_are_used_to_their_end_while_the_endpoint_is_down(endpoint: Endpoint, clock: Clock) -> None:
    source = _source(endpoint)
    source()
    endpoint.works = False
    clock.now += 3599
    assert source().access_key_id == "A1"
    clock.now += 1
    with pytest.raises(NoAnswer):
        source()


def test_rejected_credentials_are_renewed_at_once(endpoint: Endpoint) -> None:
    source = _source(endpoint)
    assert [source().access_key_id, source(True).access_key_id, source().access_key_id] == ["A1", "A2", "A2"]
    endpoint.works = False
    with pytest.raises(NoAnswer):
        source(True)


def test_threads_that_need_credentials_at_the_same_time_ask_once(endpoint: Endpoint) -> None:
    source = _source(endpoint)

    def slow(request: Request) -> Any:
        time.sleep(0.05)
        return endpoint(request)

    source._fetch = slow
    assert {given.access_key_id for given in run_concurrently([source] * 8)} == {"A1"}
    assert len(endpoint.requests) == 1
