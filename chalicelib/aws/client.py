"""A client of one service of AWS: names of errors, attempts, and what a wrong clock or expired credentials need.

The protocols are AWS JSON 1.0 and 1.1 (https://smithy.io/2.0/aws/protocols/aws-json-1_0-protocol.html), and REST JSON
for SES and Lambda (https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html).
"""

import json
import secrets
import time
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from chalicelib.aws.connections import READ, Connections
from chalicelib.aws.credentials import CredentialsSource, EnvironmentCredentials
from chalicelib.aws.messages import NoAnswer, NotConfigured, Request, Response, Transport
from chalicelib.aws.signature import Signer
from chalicelib.protocol.errors import TemporarilyUnavailable

ATTEMPTS = 3
# The longest pauses before the second attempt, in seconds; they double with each further one.
PAUSE = 0.05
PAUSE_AFTER_THROTTLING = 0.5
MAX_SKEW = 240  # seconds; AWS rejects signatures after 300
# The rest of a region's host name, by the prefix of the region.
_SUFFIXES = {"cn-": "amazonaws.com.cn", "us-iso-": "c2s.ic.gov", "us-isob-": "sc2s.sgov.gov"}
_WRONG_CLOCK = ("InvalidSignatureException", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "RequestExpired")
_IN_PROGRESS = "TransactionInProgressException"  # of the same transaction, sent before
_EXPIRED = ("ExpiredTokenException", "ExpiredToken")


class Service(NamedTuple):
    """A service: its media type, the prefix of its operations, and its host where it is not named like the service."""

    media_type: str
    target: str = ""
    host: str = ""


SERVICES = {
    "dynamodb": Service("application/x-amz-json-1.0", "DynamoDB_20120810"),
    "kms": Service("application/x-amz-json-1.1", "TrentService"),
    "lambda": Service("application/json"),
    "ses": Service("application/json", host="email"),
}


class AwsError(Exception):
    """An answer that rejects a request. `code` is the name of the error, `answer` all of its members.

    `except AwsError.named("ConditionalCheckFailedException")` catches the errors of one name.
    """

    def __init__(self, code: str, operation: str, answer: dict[str, Any], request_id: str):
        message = answer.get("message") or answer.get("Message") or "no message"
        super().__init__(f"An error occurred ({code}) when calling the {operation} operation: {message}")
        self.code = code
        self.answer = answer
        # Can be logged: the message of an error may contain values of the request.
        self.reference = f"{operation}: {code} {request_id}".strip()

    @classmethod
    @cache
    def named(cls, code: str) -> "type[AwsError]":
        """Return the class of the errors with this name."""
        return type(code, (AwsError,), {})


class Account:
    """What the clients of all services share: the region, the credentials and the way to AWS.

    `environ` returns the environment variables of AWS. A process that is restored from a snapshot needs another
    Account, because the connections and credentials of the snapshot are no longer valid.
    """

    def __init__(
        self,
        region: str | None,
        environ: Callable[[], Mapping[str, str]],
        credentials: CredentialsSource | None = None,
        transport: Transport | None = None,
    ):
        self._region = region
        self._environ = environ
        self._transport = transport or Connections().send
        self._credentials = credentials or EnvironmentCredentials(environ, self._transport)

    @property
    def region(self) -> str | None:
        """The region."""
        return self._region

    def client(self, service: str, read_timeout: float | None = None) -> "Client":
        """Return a client of a service, at the endpoint of the environment or of the region. Raises NotConfigured.

        `read_timeout`: seconds without a byte, for a service that needs longer than others.
        """
        if not self.region:
            raise NotConfigured("You must specify a region.", "AWS_DEFAULT_REGION")
        environ = self._environ()
        url = environ.get(f"AWS_ENDPOINT_URL_{service.upper()}") or environ.get("AWS_ENDPOINT_URL")
        transport = Connections(read_timeout).send if read_timeout else self._transport
        return Client(service, self.region, url or endpoint_of(service, self.region), self._credentials, transport)


class Client:
    """A client of one service at one endpoint. Safe for threads."""

    def __init__(
        self, service: str, region: str, url: str, credentials: CredentialsSource, transport: Transport | None = None
    ):
        self.url = url
        self.service = service
        self._signer = Signer(service, region)
        self._credentials = credentials
        self._send = transport or Connections(READ).send
        self._clock_offset = 0.0  # seconds by which AWS is ahead
        media_type, self._target, _ = SERVICES[service]
        self._headers = {
            "Content-Type": media_type,
            "Accept-Encoding": "identity",  # the checksum is that of the bytes that are sent
            "User-Agent": "signet",
        }

    def transport(self, request: Request) -> Response:
        """Send a signed request and return its response. Raises NoAnswer. Tests replace this method."""
        return self._send(request)

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Make a call and return the members of its answer.

        Raises AwsError when it is rejected, TemporarilyUnavailable when the service throttles, fails or cannot be
        reached, NotConfigured without credentials. The request may have been executed more than once.
        """
        headers = {**self._headers, "X-Amz-Target": f"{self._target}.{operation}"}
        return self._perform(Request("POST", self.url, headers, json.dumps(parameters).encode()), operation)

    def post(self, path: str, operation: str, body: bytes, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Make a call of the protocol REST JSON that must not be executed twice; return the members of its answer.

        It is sent again only when AWS has rejected its signature. Raises as `call`, TemporarilyUnavailable from the
        AwsError or NoAnswer that it is for.
        """
        url = self.url.removesuffix("/") + path
        return self._perform(Request("POST", url, {**self._headers, **(headers or {})}, body), operation, once=True)

    def _perform(self, request: Request, operation: str, *, once: bool = False) -> dict[str, Any]:
        renew = False
        while True:
            rejected, offset = False, self._clock_offset
            try:
                self._signer.sign(request, self._credentials(renew), time.time() + offset)
                response = self.transport(request)
                answer = _members(response)
                if response.status in (200, 202):
                    return answer
                failure: AwsError | NoAnswer = _error(operation, response, answer)
            except NoAnswer as error:
                failure = error
            if isinstance(failure, AwsError):
                renew = failure.code in _EXPIRED and not renew
                temporary = response.status >= 500 or _is_throttled(failure) or failure.code == _IN_PROGRESS
                skewed = failure.code in _WRONG_CLOCK and self._correct_clock(response, offset)
                rejected = renew or skewed
                if not (temporary or rejected):
                    raise failure
            if request.attempt == ATTEMPTS or (once and not rejected):
                reason = failure.reference if isinstance(failure, AwsError) else f"{operation}: {failure}"
                raise TemporarilyUnavailable(detail=f"{self.service} {reason}") from failure
            longest = PAUSE_AFTER_THROTTLING if _is_throttled(failure) else PAUSE
            time.sleep(longest * 2 ** (request.attempt - 1) * secrets.randbelow(1000) / 1000)
            request.attempt += 1

    def _correct_clock(self, response: Response, offset: float) -> bool:
        """Take over the time of a response. Return False if a signature with this offset was not rejected for it."""
        from calendar import timegm

        try:
            moment = time.strptime(response.headers["date"], "%a, %d %b %Y %H:%M:%S GMT")  # RFC 9110 section 5.6.7
        except (KeyError, ValueError):
            return False
        correct = timegm(moment) - time.time()
        if abs(correct - offset) < MAX_SKEW:
            return False
        self._clock_offset = correct
        return True


def endpoint_of(service: str, region: str) -> str:
    """Return the URL of a service in a region."""
    host = SERVICES[service].host or service
    suffix = next((suffix for prefix, suffix in _SUFFIXES.items() if region.startswith(prefix)), "amazonaws.com")
    return f"https://{host}.{region}.{suffix}/"


def _members(response: Response) -> dict[str, Any]:
    """Return the members of a response. Raises NoAnswer when a success is damaged or no JSON."""
    checksum = response.headers.get("x-amz-crc32")
    if checksum is not None and checksum != str(zlib.crc32(response.body)):
        raise NoAnswer("a response has a wrong checksum")
    try:
        members = json.loads(response.body)
    except ValueError:
        members = None
    if isinstance(members, dict):
        return members
    if response.status == 200:
        raise NoAnswer("a response is not JSON")
    return {}


def _error(operation: str, response: Response, answer: dict[str, Any]) -> AwsError:
    name = str(answer.get("__type") or answer.get("code") or response.headers.get("x-amzn-errortype", ""))
    code = name.partition(":")[0].rpartition("#")[2] or f"HTTP {response.status}"
    return AwsError.named(code)(code, operation, answer, response.headers.get("x-amzn-requestid", ""))


def _is_throttled(failure: Exception) -> bool:
    code = failure.code if isinstance(failure, AwsError) else ""
    return any(part in code for part in ("Throttl", "LimitExceeded", "ThroughputExceeded", "TooManyRequests"))
