"""An authorization request on its way to an answer."""

from dataclasses import field

from chalicelib.authentication.passkey_sign_in import usable_passkeys
from chalicelib.http.messages import Request
from chalicelib.protocol.client import Client
from chalicelib.protocol.next_step import SignedInUser
from chalicelib.protocol.passkey import Passkey
from chalicelib.protocol.recipient import Recipient
from chalicelib.protocol.records import AuthorizationRequest, Consent, User
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer


@dataclass(frozen=True)
class Interaction:
    """An authorization request, and what is known when an HTTP request advances it.

    `signed_in` is the user of this browser, `consent` their stored consent for this client; each may be None.
    `waiting`: the user who has proved the password for this request, and must still prove the second factor.
    `read_passkeys`: what `passkeys_of` has read during this HTTP request.
    """

    server: AuthorizationServer
    http: Request
    client: Client
    request: AuthorizationRequest
    signed_in: SignedInUser | None = None
    consent: Consent | None = None
    waiting: User | None = None
    read_passkeys: dict[str, list[Passkey]] = field(default_factory=dict)

    @property
    def recipient(self) -> Recipient:
        """Who gets the answer, and how."""
        return self.http.recipient or Recipient.of(self.client, self.request)

    @property
    def remembered(self) -> Consent | None:
        """What the user has allowed this client before, as far as it still counts."""
        if self.signed_in is None or self.consent is None:
            return None
        return self.consent.valid_for(self.signed_in.user, self.client)

    def passkeys_of(self, sub: str) -> list[Passkey]:
        """Return the passkeys of a user that can be used at this server. One call for each HTTP request."""
        if sub not in self.read_passkeys:
            self.read_passkeys[sub] = usable_passkeys(self.server, sub)
        return self.read_passkeys[sub]
