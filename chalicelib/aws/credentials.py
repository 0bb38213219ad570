"""Credentials from the environment, or from the endpoint that a container has.

A Lambda function with SnapStart has no keys in its environment, but such an endpoint:
https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html. Other sources, such as profiles, are
for the operator's command (`infra.operator.access`).
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from chalicelib.aws.messages import NoAnswer, NotConfigured, Request, Transport

RENEW = 300  # seconds before credentials expire
KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_PREFIX = "AWS_CONTAINER_CREDENTIALS_"
_TOKEN = "AWS_CONTAINER_AUTHORIZATION_TOKEN"  # noqa: S105  the name of a variable
_ECS = "http://169.254.170.2"
# The addresses of ECS, EKS and Lambda. Any other endpoint must be https, because it gets and sends secrets.
_PLAIN_HOSTS = ("127.0.0.1", "localhost", "::1", "169.254.170.2", "169.254.170.23", "fd00:ec2::23")


class Credentials(NamedTuple):
    """The keys that sign requests. `expires_at`: seconds since 1970."""

    access_key_id: str
    secret_access_key: str
    session_token: str = ""
    expires_at: float = float("inf")

    def __repr__(self) -> str:
        return f"Credentials({self.access_key_id!r})"


# Returns the credentials; with True, those that replace rejected ones.
CredentialsSource = Callable[[bool], Credentials]


class EnvironmentCredentials:
    """The credentials of the environment variables, or of the endpoint that these name, until shortly before they end.

    Raises NotConfigured when the environment has none, NoAnswer when the endpoint gives none.
    """

    def __init__(self, environ: Callable[[], Mapping[str, str]], fetch: Transport):
        self._environ = environ
        self._fetch = fetch
        self._lock = threading.Lock()
        self._current: Credentials | None = None

    def __call__(self, renew: bool = False) -> Credentials:
        """Return the credentials; with `renew`, those of now, because AWS has rejected the earlier ones."""
        current = self._current
        if current and not renew and time.time() < current.expires_at - RENEW:
            return current
        with self._lock:
            if self._current is not None and self._current is not current:  # another thread has renewed them
                return self._current
            try:
                self._current = self._read()
            except NoAnswer:
                if renew or current is None or time.time() >= current.expires_at:
                    raise
                return current
            return self._current

    def _read(self) -> Credentials:
        environ = self._environ()
        access, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
        if access and secret:
            return Credentials(access, secret, environ.get("AWS_SESSION_TOKEN", ""))
        relative, url = environ.get(_PREFIX + "RELATIVE_URI"), environ.get(_PREFIX + "FULL_URI")
        if not relative and not url:
            raise NotConfigured("Unable to locate credentials.", KEYS)
        return self._ask(_ECS + relative if relative else url or "", environ)

    def _ask(self, url: str, environ: Mapping[str, str]) -> Credentials:
        parts = urlsplit(url)
        if parts.scheme != "https" and (parts.scheme != "http" or parts.hostname not in _PLAIN_HOSTS):
            raise NotConfigured(f"{_PREFIX}FULL_URI must be https, or http on this machine.", KEYS)
        headers = {"Accept": "application/json", "Connection": "close"}
        token = environ.get(_TOKEN, "")
        if path := environ.get(_TOKEN + "_FILE"):
            with open(path, encoding="utf-8") as file:  # read each time: its content is replaced
                token = file.read()
        if token:
            if "\r" in token or "\n" in token:
                raise NotConfigured(f"{_TOKEN} contains a line break.", KEYS)
            headers["Authorization"] = token
        response = self._fetch(Request("GET", url, headers))
        try:
            answer = json.loads(response.body)
            return Credentials(
                answer["AccessKeyId"], answer["SecretAccessKey"], answer["Token"], _seconds(answer["Expiration"])
            )
        except (ValueError, KeyError, TypeError):
            raise NoAnswer(f"no credentials from their endpoint: status {response.status}") from None


def _seconds(text: str) -> float:
    """Return the seconds since 1970 of a time such as 2026-11-30T12:00:00Z."""
    from calendar import timegm

    return timegm(time.strptime(text.partition(".")[0].removesuffix("Z"), "%Y-%m-%dT%H:%M:%S"))
