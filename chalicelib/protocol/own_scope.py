"""The operator's own scopes: their record, and the claims that they release."""

from collections.abc import Iterable

from chalicelib.protocol.client import Client
from chalicelib.protocol.values import dataclass

# Where a scope can release claims.
DESTINATIONS = ("userinfo", "id_token", "access_token")


@dataclass(frozen=True)
class Scope:
    """A scope that the operator has defined, with its description for users and the claims that it releases.

    `claims_in`: where it releases them, some of DESTINATIONS. Empty: as a standard scope does, at UserInfo, and in the
    ID tokens of clients with `id_token_claims_from_scope`. `acr`: what a sign-in must reach to get the scope.
    """

    scope: str
    description: str
    claims: frozenset[str] = frozenset()
    claims_in: frozenset[str] = frozenset()
    acr: str | None = None

    def releases_in(self, destination: str, client: Client) -> bool:
        """Return whether its claims are released there because the scope was granted."""
        if self.claims_in:
            return destination in self.claims_in
        return destination == "userinfo" or (destination == "id_token" and client.id_token_claims_from_scope)

    def may_release_in(self, destination: str) -> bool:
        """Return whether its claims may be requested there by name (OpenID Connect Core section 5.5)."""
        return destination in (self.claims_in or ("userinfo", "id_token"))


def released_claims(own: Iterable[Scope], granted: frozenset[str], destination: str, client: Client) -> frozenset[str]:
    """Return the claims that the operator's scopes among those that were granted release in a token or at UserInfo."""
    releasing = (scope for scope in own if scope.scope in granted and scope.releases_in(destination, client))
    return frozenset[str]().union(*(scope.claims for scope in releasing))
