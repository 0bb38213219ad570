"""The operator's access to AWS: profiles, other sources of credentials, regions and proxies, as with boto3."""

import sys
from pathlib import Path

import pytest

from chalicelib.aws.messages import NotConfigured
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.settings import Settings
from infra.access import open_store
from tests.aws.conftest import Servers, servers  # noqa: F401  a fixture
from tests.support.aws_server import AwsServer, response, send

CONFIG = """
[profile operator]
region = eu-north-1
credential_process = {program}
"""
KEYS = '{"Version": 1, "AccessKeyId": "FROM-PROCESS", "SecretAccessKey": "s", "SessionToken": "t"}'


@pytest.fixture
def server(servers: Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AwsServer:  # noqa: F811
    """A DynamoDB, and a profile whose credentials are printed by a program."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    program, config = tmp_path / "keys.py", tmp_path / "config"
    program.write_text(f"print({KEYS!r})")
    config.write_text(CONFIG.format(program=f"{sys.executable} {program}"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "operator")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    started = servers(send(response(b'{"Items": []}')))
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", started.url)
    return started


def test_store_has_the_credentials_and_the_region_of_the_profile(server: AwsServer) -> None:
    store = open_store(Settings(stage="prod"))
    assert store.account.region == "eu-north-1"
    assert list(store.clients.scan()) == []
    [request] = server.requests
    assert "Credential=FROM-PROCESS/" in request.headers["authorization"]
    assert "/eu-north-1/dynamodb/" in request.headers["authorization"]
    assert request.headers["x-amz-security-token"] == "t"


def test_region_of_the_settings_comes_before_that_of_the_profile(server: AwsServer) -> None:
    assert open_store(Settings(region="eu-west-1")).account.region == "eu-west-1"
    assert open_store(Settings(region="eu-west-1"), region="eu-west-2").account.region == "eu-west-2"


def test_requests_use_the_proxy_of_the_environment(server: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://dynamodb.example.com/")
    monkeypatch.setenv("http_proxy", server.url)
    assert list(open_store(Settings()).clients.scan()) == []
    assert server.requests[0].target == "http://dynamodb.example.com/"


def test_missing_credentials_are_reported_at_the_first_call(server: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("AWS_PROFILE")
    store = open_store(Settings(region="eu-west-1"))
    with pytest.raises(NotConfigured, match="credentials"):
        list(store.clients.scan())


def test_unreachable_endpoint_is_temporarily_unavailable(server: AwsServer) -> None:
    server.close()
    with pytest.raises(TemporarilyUnavailable) as caught:
        list(open_store(Settings()).clients.scan())
    assert server.url.rstrip("/") in caught.value.detail
