"""An authorization request on its way to an answer."""

from chalicelib.http.messages import Request
from chalicelib.protocol.client import Client
from chalicelib.protocol.next_step import SignedInUser
from chalicelib.protocol.records import AuthorizationRequest, Consent, User
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer


@dataclass(frozen=True)
class Interaction:
    """An authorization request, and what is known when an HTTP request advances it.

    `signed_in` is the user of this browser, `consent` their stored consent for this client; each may be None.
    `waiting`: the user who has proved the password for this request, and must still prove the second factor.
    """

    server: AuthorizationServer
    http: Request
    client: Client
    request: AuthorizationRequest
    signed_in: SignedInUser | None = None
    consent: Consent | None = None
    waiting: User | None = None

    @property
    def remembered(self) -> Consent | None:
        """What the user has allowed this client before, as far as it still counts."""
        if self.signed_in is None or self.consent is None:
            return None
        return self.consent.valid_for(self.signed_in.user, self.client)
