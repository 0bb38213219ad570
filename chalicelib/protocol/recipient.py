"""Who gets the answer to an authorization request, and how."""

from chalicelib.protocol.client import Client
from chalicelib.protocol.records import AuthorizationRequest
from chalicelib.protocol.values import dataclass


@dataclass(frozen=True)
class Recipient:
    """The client that asked, where and by which response mode every answer goes, and with which `state`.

    `sent` says whether the request named the redirect URI.
    """

    client: Client
    redirect_uri: str
    sent: bool
    state: str | None
    response_mode: str

    @classmethod
    def of(cls, client: Client, request: AuthorizationRequest) -> "Recipient":
        """Return the recipient of the answer to a request that has passed every check."""
        return cls(client, request.redirect_uri, request.redirect_uri_sent, request.state, request.response_mode)
