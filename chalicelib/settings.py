"""What the operator can set. The only reader of the environment; read once, then a frozen value.

Every setting is an environment variable `SIGNET_…`, checked at start: a wrong value stops the server with a message
that names it and what it may be.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LOOPBACK = ("127.0.0.1", "[::1]", "localhost")
_DAY = 24 * 60 * 60
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9._~-]+)*"
)


class SettingsError(Exception):
    """A setting has a value it must not have; the text names the setting and its legal values."""


@dataclass(frozen=True)
class Settings:
    """All settings. Lifetimes are in seconds.

    `embedded`: no DynamoDB is named and this is not Lambda, so the embedded one is to be started.
    `dynamodb_endpoint`: an endpoint other than AWS's own. `sealing_key`: 32 bytes that seal the key ring where there
    is no KMS. `kms_key_id`: the KMS key that seals it otherwise, by default the one that infra/tables.yaml makes.
    `signing`: whether private signing keys lie in the `ring` or stay in `kms`. `issuer` may be empty in Lambda: it is
    then the gateway's own address. `operator_token_hash`: SHA-256 of the token that opens the deep health check.
    `metrics`: log lines carry CloudWatch metrics (EMF).
    """

    stage: str = "local"
    issuer: str = "http://127.0.0.1:8000"
    name: str = "Signet"
    embedded: bool = False
    dynamodb_endpoint: str | None = None
    region: str | None = None
    kms_key_id: str = "alias/signet-local"
    signing: str = "ring"
    operator_token_hash: str | None = None
    metrics: bool = False
    sealing_key: bytes | None = None
    authorization_code_lifetime: int = 60
    access_token_lifetime: int = 600
    refresh_token_lifetime: int = 30 * _DAY
    refresh_token_absolute_lifetime: int = 180 * _DAY
    refresh_token_retry_window: int = 10
    session_idle_lifetime: int = _DAY // 2
    request_lifetime: int = 600

    @property
    def secure(self) -> bool:
        """Whether the issuer is https, and so are our cookies."""
        return self.issuer.startswith("https://")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """The settings in force. Raises SettingsError."""
        in_lambda = "AWS_LAMBDA_FUNCTION_NAME" in environ
        endpoint = _endpoint(environ.get("SIGNET_DYNAMODB_ENDPOINT", ""))
        issuer = environ.get("SIGNET_ISSUER", "")
        stage = _stage(environ.get("SIGNET_STAGE", "local"))
        numbers: dict[str, Any] = {
            name: _number(environ, f"SIGNET_{name.upper()}", getattr(cls, name), low, high)
            for name, (low, high) in LIMITS.items()
        }
        return cls(
            stage=stage,
            # In Lambda, without one, the gateway's own address is taken from each event.
            issuer="" if in_lambda and not issuer else _issuer(issuer or f"http://127.0.0.1:{_port(environ)}"),
            name=environ.get("SIGNET_NAME", "") or cls.name,
            embedded=not in_lambda and endpoint is None,
            dynamodb_endpoint=endpoint,
            region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION"),
            kms_key_id=environ.get("SIGNET_KMS_KEY_ID") or f"alias/signet-{stage}",
            signing=_one_of(environ, "SIGNET_SIGNING", ("ring", "kms")),
            operator_token_hash=_operator_token_hash(environ.get("SIGNET_OPERATOR_TOKEN_HASH", "")),
            metrics=in_lambda,
            **numbers,
        )


# the least and the most of each lifetime, in seconds
LIMITS = {
    "authorization_code_lifetime": (10, 600),
    "access_token_lifetime": (60, _DAY),
    "refresh_token_lifetime": (60, 366 * _DAY),
    "refresh_token_absolute_lifetime": (3600, 3660 * _DAY),  # longer than any code lives
    "refresh_token_retry_window": (0, 60),
    "session_idle_lifetime": (60, 366 * _DAY),
    "request_lifetime": (60, 3600),
}


def _number(environ: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = environ.get(name, "") or str(default)
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and low <= int(text) <= high):
        raise SettingsError(f"{name} is {text!r}; it must be a whole number from {low} to {high}")
    return int(text)


def _port(environ: Mapping[str, str]) -> int:
    return _number(environ, "PORT", 8000, 1, 65535)


def _one_of(environ: Mapping[str, str], name: str, legal: tuple[str, ...]) -> str:
    text = environ.get(name, "") or legal[0]
    if text not in legal:
        raise SettingsError(f"{name} is {text!r}; it must be one of: {', '.join(legal)}")
    return text


def _operator_token_hash(text: str) -> str | None:
    if text and not re.fullmatch(r"[0-9a-f]{64}", text):
        raise SettingsError("SIGNET_OPERATOR_TOKEN_HASH must be the SHA-256 of the token, 64 hexadecimal digits")
    return text or None


def _stage(text: str) -> str:
    if not (text.isascii() and text.replace("-", "").isalnum() and len(text) <= 32):
        raise SettingsError(f"SIGNET_STAGE is {text!r}; it must be letters, digits and hyphens, 32 at most")
    return text


def _url(text: str) -> re.Match[str] | None:
    """An http or https URL of scheme, host, port and path only, without dot segments and trailing slash."""
    url = _URL.fullmatch(text)
    return url if url and int(url["port"] or 1) in range(1, 65536) else None


def _issuer(text: str) -> str:
    """OpenID Connect Discovery section 3: https, no query, no fragment. http for loopback addresses only."""
    url = _url(text)
    if not url or (url["scheme"] == "http" and url["host"] not in LOOPBACK):
        raise SettingsError(
            f"SIGNET_ISSUER is {text!r}; it must be an https URL without query, fragment and trailing slash "
            "(http for 127.0.0.1, [::1] and localhost only)"
        )
    return text


def _endpoint(text: str) -> str | None:
    if text and not _url(text.removesuffix("/")):
        raise SettingsError(f"SIGNET_DYNAMODB_ENDPOINT is {text!r}; it must be an http or https URL, or not set")
    return text or None
