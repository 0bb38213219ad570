"""Requests to AWS and their responses, as values."""

from collections.abc import Callable
from dataclasses import dataclass, field


class NoAnswer(Exception):
    """No complete response came. Whether the request was executed is unknown. The text says why, without content."""


class NotSent(NoAnswer):
    """No connection could be made: the request was certainly not executed."""


class NotConfigured(Exception):
    """There are no credentials, or there is no region. `variables`: what to set in the environment."""

    def __init__(self, text: str, variables: str):
        super().__init__(text)
        self.variables = variables


@dataclass(slots=True)
class Request:
    """A request. It stays the same object when it is sent again: then `attempt`, counted from 1, is higher."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    attempt: int = 1


@dataclass(slots=True)
class Response:
    """A complete response. The names of `headers` are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes = field(default=b"", repr=False)


Transport = Callable[[Request], Response]
