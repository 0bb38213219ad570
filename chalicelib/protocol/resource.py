"""The record of a protected resource, with the conventions of `protocol.records`."""

from functools import cached_property

from chalicelib.protocol.client import Client
from chalicelib.protocol.resource_uris import normalize
from chalicelib.protocol.values import dataclass


@dataclass(frozen=True)
class Resource:
    """A protected resource, such as an API or an MCP server, which access tokens are for (RFC 8707, RFC 9728).

    `resource_id`: its URI in normal form, so that every spelling finds the record. `uri`: as it is registered, the
    audience of its access tokens. `scope`: the scopes that it understands, separated by spaces; without any, it accepts
    every client with every scope. `access_token_lifetime`, in seconds, and `access_token_signed_response_alg` are of
    its access tokens, by default those of the client.
    """

    resource_id: str
    uri: str
    name: str
    scope: str = ""
    access_token_lifetime: int | None = None
    access_token_signed_response_alg: str | None = None

    @classmethod
    def of_client(cls, client: Client) -> "Resource":
        """Return the resource that a client is whose id is a URI, as before resources had records."""
        return cls(normalize(client.client_id), client.client_id, client.client_name)

    @cached_property
    def scopes(self) -> frozenset[str]:
        """The scopes that it understands; none if it accepts every scope."""
        return frozenset(self.scope.split())
