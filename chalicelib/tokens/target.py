"""What a token request asks for of what was granted: the resource (RFC 8707) and authorization details (RFC 9396)."""

from dataclasses import replace
from functools import reduce
from operator import and_

from chalicelib.http.messages import Params
from chalicelib.protocol.authorization_details import are_part
from chalicelib.protocol.errors import InvalidAuthorizationDetails, InvalidTarget, OAuthError
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.storage.dynamodb import Condition, attr
from chalicelib.tokens import resources
from chalicelib.tokens.authorization_details import parse_details


@dataclass(frozen=True)
class Target:
    """The resource that a token request names, and the details that it asks for, each None if it has none.

    `proved`: the details were compared with those of the grant, which never change.
    """

    resource: str | None
    details: tuple[str, ...] | None = None
    proved: bool = False

    def granted(self, server: AuthorizationServer) -> Condition:
        """Return the condition on a grant that this was granted, each object of the details as it is."""
        compared = () if self.proved else self.details or ()
        exact = (attr("authorization_details").contains(text) for text in compared)
        return reduce(and_, exact, resources.granted(server, self.resource))

    def is_narrower(self, grant: Grant | None) -> bool:
        """Return whether a write was refused because the details are less than what was granted, which is allowed.

        No condition can compare them; so the write is made again, with `as_proved`.
        """
        if self.proved or self.details is None or grant is None:
            return False
        granted = grant.authorization_details or ()
        return not {*self.details} <= {*granted} and are_part(self.details, granted)

    def as_proved(self) -> "Target":
        """Return this target, whose details need no further proof."""
        return replace(self, proved=True)

    def refusal(self, server: AuthorizationServer, grant: Grant) -> OAuthError | None:
        """Return the error if this was not granted, None if it was."""
        if not resources.is_granted(server, self.resource, grant):
            text = "The resource was not granted, or none was named of several: an access token is for one."
            return InvalidTarget(text)
        if self.details is not None and not are_part(self.details, grant.authorization_details or ()):
            return InvalidAuthorizationDetails("The authorization_details exceed what was granted.")
        return None


def parse_target(params: Params) -> Target:
    """Return what a token request asks for. Raises InvalidTarget and InvalidAuthorizationDetails."""
    return Target(resources.parse_resource(params), parse_details(params))
