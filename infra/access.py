"""Access to AWS as the operator has configured it: profiles, single sign-on, proxies, as in any program with boto3.

The server's own client (`chalicelib.aws`) knows only what a function has. Here it gets its credentials from boto3's
resolver, and sends its requests by botocore's HTTP session.
"""

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NotConnected
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies

from chalicelib.aws.client import Account, AwsError
from chalicelib.aws.connections import CONNECT, READ
from chalicelib.aws.credentials import KEYS, Credentials
from chalicelib.aws.messages import NoAnswer, NotConfigured, Request, Response
from chalicelib.settings import Settings, aws_environment
from chalicelib.storage.store import Store

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

# An answer of AWS that rejects a call, by either client.
REJECTED = (ClientError, AwsError)
# No credentials, no region or no connection.
NO_ACCESS = (BotoCoreError, NotConfigured)


def new_session() -> Any:
    """Return a session of boto3."""
    return boto3.Session()


def error_code(error: Exception) -> str:
    """Return the name of an error of REJECTED."""
    if isinstance(error, ClientError):
        return error.response.get("Error", {}).get("Code", "")
    return error.code if isinstance(error, AwsError) else ""


def open_store(settings: Settings, **members: Any) -> Store:
    """Return the store of a stage in AWS, or of another endpoint, with the operator's credentials.

    `members`: settings to replace. Without a region in the settings, that of the operator's profile is used. Nothing is
    read before the first call.
    """
    settings = replace(settings, embedded=False, **members)
    return Store(settings, account=_OperatorAccount(settings.region))


class _OperatorAccount(Account):
    """An account with the region, the credentials and the connections of boto3."""

    def __init__(self, region: str | None):
        super().__init__(region, aws_environment, self._find_credentials, self._send)
        self._http: dict[str, URLLib3Session] = {}

    @cached_property
    def _session(self) -> Any:
        return new_session()

    @cached_property
    def _resolved(self) -> Any:
        return self._session.get_credentials()

    @property
    def region(self) -> str | None:
        """The region of the settings, or of the profile."""
        region: str | None = super().region or self._session.region_name
        return region

    def _find_credentials(self, _renew: bool) -> Credentials:
        if self._resolved is None:
            raise NotConfigured("Unable to locate credentials.", KEYS)
        keys = self._resolved.get_frozen_credentials()  # renews them when they expire
        return Credentials(keys.access_key, keys.secret_key, keys.token or "")

    def _send(self, request: Request) -> Response:
        if request.url not in self._http:
            bundle = self._session._session.get_config_variable("ca_bundle")
            self._http[request.url] = URLLib3Session(
                verify=bundle or True,
                proxies=get_environ_proxies(request.url),
                timeout=(CONNECT, READ),  # type: ignore[arg-type]
            )
        prepared = AWSRequest(request.method, request.url, request.headers, request.body).prepare()
        try:
            answer = self._http[request.url].send(prepared)
            body = answer.content
        except (NotConnected, HTTPClientError) as error:
            raise NoAnswer(" ".join(str(error).split())) from error
        return Response(answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, body)


def dynamodb_client(settings: Settings) -> "DynamoDBClient":
    """Return boto3's client of the same DynamoDB, for what the server does not do: tables, and their backups."""
    endpoint, credentials = settings.dynamodb_endpoint, {}
    if endpoint:  # which must never receive the real credentials
        credentials = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
    client: DynamoDBClient = new_session().client(
        "dynamodb",
        region_name=settings.region or ("us-east-1" if endpoint else None),
        endpoint_url=endpoint,
        config=Config(connect_timeout=2, read_timeout=30 if endpoint else 5, retries={"total_max_attempts": 3}),
        **credentials,
    )
    return client
