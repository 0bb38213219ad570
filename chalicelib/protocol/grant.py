"""The record of a grant, and the part of it that never changes. See `protocol.records` for the rules of all records."""

from dataclasses import field
from typing import Any

from chalicelib.protocol.records import NO_SCOPE
from chalicelib.protocol.values import dataclass


def ends_with_session(scope: frozenset[str]) -> bool:
    """Return whether a user's grant of this scope ends with the session: OpenID Connect's, without `offline_access`.

    RFC 6749 knows no sessions: a grant without `openid` outlasts them too.
    """
    return "openid" in scope and "offline_access" not in scope


@dataclass(frozen=True, kw_only=True)
class GrantEntry:
    """What the index of a user's grants has: attributes that never change, so that only a new grant is written to it.

    `sub` is None for a client's own grant (client_credentials), which has no user and no session. No refresh is
    possible after `ends_at`. Copies from the creation, by which `protocol.validity` decides: `user_generation` is the
    `grants_generation` of the user, `consent_generation` the `generation` of the consent.
    """

    grant_id: str
    client_id: str
    sub: str | None = None
    created_at: int
    ends_at: int
    scope: frozenset[str] = NO_SCOPE
    session_id: str = ""
    user_generation: int = 0
    consent_generation: int = 0

    @property
    def has_user(self) -> bool:
        """Whether a user has granted it. For client_credentials, version 1 stored the client_id as `sub`."""
        return self.sub is not None and not (self.sub == self.client_id and not self.session_id)

    @property
    def ends_at_sign_out(self) -> bool:
        """Whether it ends when the user signs out in the browser where it was granted."""
        return self.depends_on_session

    @property
    def last_end(self) -> int:
        """When the grant ends at the latest. `ends_at` is its creation if it has no refresh tokens."""
        return self.ends_at

    @property
    def depends_on_session(self) -> bool:
        """Whether it ends with its session: it is OpenID Connect's, without `offline_access`."""
        return ends_with_session(self.scope)


@dataclass(frozen=True, kw_only=True)
class Grant(GrantEntry):
    """A user's grant to a client: first an authorization code, then its refresh tokens.

    `generation` is 0 until the code is redeemed, then the number of the current refresh token. `rotated_at`: when the
    last four refresh tokens were replaced; generation n has the key n modulo 4, so that a rotation writes one entry
    without a read. `refreshed_at`: when the current one was used last, by a client whose tokens are not rotated.
    `expires_at` moves with each refresh. `claims`: requested by name (OpenID Connect Core section 5.5).
    `resource_scope`: the part of the `scope` that was granted for resources that name theirs ("URI scope"); what is
    granted for one is in no access token for another. `device`: a description of the browser. `session_stored`: whether
    the session is stored; False for HTTP Basic sign-in, where `session_id` only makes the `sid`; None in records of
    version 1.

    `dpop_jkt`: the thumbprint of the key that the code is bound to. `refresh_token_jkt`: of the one that the refresh
    tokens of a client without authentication are bound to. `dpop_jti`: the last proof that a token was issued for.
    `refresh_token_x5t`: the thumbprint of the certificate that they are bound to (RFC 8705 section 4).

    `authorization_details`: the objects that were granted, in their stored form; never changed.

    `auth_method`: how a client with a document authenticated when it redeemed the code; None for others.

    Further copies: `registration_id` and `client_generation` of the client, `sessions_generation` of the user, which is
    None in records of version 1.
    """

    redirect_uri: str = ""
    redirect_uri_sent: bool
    auth_time: int
    code_expires_at: int
    expires_at: int
    amr: tuple[str, ...] = ("pwd",)
    nonce: str | None = None
    code_challenge: str | None = None
    generation: int = 0
    redeemed_at: int | None = None
    revoked_at: int | None = None
    rotated_at: dict[str, int] = field(default_factory=dict)
    refreshed_at: int | None = None
    claims: dict[str, Any] = field(default_factory=dict)
    resource: frozenset[str] = frozenset()
    resource_scope: frozenset[str] = NO_SCOPE
    device: str | None = None
    session_stored: bool | None = None
    registration_id: str | None = None
    client_generation: int = 0
    sessions_generation: int | None = None
    auth_method: str | None = None
    dpop_jkt: str | None = None
    refresh_token_jkt: str | None = None
    dpop_jti: str | None = None
    refresh_token_x5t: str | None = None
    authorization_details: tuple[str, ...] | None = None

    @property
    def ends_at_sign_out(self) -> bool:
        """Whether it ends when the user signs out in the browser where it was granted; not after HTTP Basic sign-in."""
        return self.depends_on_session and self.session_stored is not False

    def last_used(self, now: int) -> int | None:
        """Return when a token was last issued, None if none was.

        A rotation whose token could not be signed is recorded with a later time.
        """
        used = [time for time in (self.redeemed_at, self.refreshed_at, *self.rotated_at.values()) if time is not None]
        return min(now, max(used)) if used else None

    @property
    def last_end(self) -> int:
        """When the grant ends at the latest; without refresh tokens, with its code or access token."""
        return self.ends_at if self.ends_at > self.created_at else self.expires_at

    @property
    def valid_until(self) -> int:
        """When the grant ends if it is not used again."""
        return min(self.expires_at, self.last_end)
