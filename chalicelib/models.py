"""What is stored: frozen dataclasses, one per table, fields named as on the wire.

Times are seconds since 1970 (integers). A field that is None, or an empty set, is not stored. New fields need a
default: old and new code read each other's records. Expiry is in `expires_at` wherever DynamoDB's TTL applies.
"""

from dataclasses import dataclass, field
from typing import Any

NO_SCOPE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Client:
    """A registered client (RFC 7591 section 2 gives the names; the rest is ours).

    `secret_hashes`: SHA-256 of its secrets, base64url; two while one is being replaced. `default_scope`: what a
    request without `scope` means; by default the whole `scope` but for `offline_access`. `trusted`: the operator's own
    application, which asks nobody for consent. `direct_sign_in`: may use HTTP Basic at /oauth2/code. Lifetimes in
    seconds replace the server's. `subject_type` pairwise: its `sub` for a person is another than everybody else's.
    """

    client_id: str
    client_name: str
    redirect_uris: tuple[str, ...]
    grant_types: tuple[str, ...] = ("authorization_code", "refresh_token")
    response_types: tuple[str, ...] = ("code",)
    token_endpoint_auth_method: str = "client_secret_basic"  # noqa: S105
    id_token_signed_response_alg: str = "RS256"  # noqa: S105
    access_token_signed_response_alg: str = "RS256"  # noqa: S105
    userinfo_signed_response_alg: str | None = None
    subject_type: str = "public"
    logo_uri: str | None = None
    client_uri: str | None = None
    policy_uri: str | None = None
    tos_uri: str | None = None
    post_logout_redirect_uris: tuple[str, ...] = ()
    backchannel_logout_uri: str | None = None
    backchannel_logout_session_required: bool = False
    scope: str = "openid"
    default_scope: str | None = None
    default_redirect_uri: str | None = None
    secret_hashes: tuple[str, ...] = ()
    client_id_issued_at: int = 0
    require_pkce: bool = True
    trusted: bool = False
    direct_sign_in: bool = False
    authorization_code_lifetime: int | None = None
    access_token_lifetime: int | None = None
    refresh_token_lifetime: int | None = None
    disabled_at: int | None = None

    @property
    def public(self) -> bool:
        """Whether it can keep no secret (RFC 6749 section 2.1)."""
        return self.token_endpoint_auth_method == "none"  # noqa: S105

    @property
    def scopes(self) -> frozenset[str]:
        """All scopes it may ask for."""
        return frozenset(self.scope.split())

    @property
    def default_scopes(self) -> frozenset[str]:
        """What it gets when it names none."""
        if self.default_scope is not None:
            return frozenset(self.default_scope.split())
        return self.scopes - {"offline_access"}


@dataclass(frozen=True)
class User:
    """A person. `claims` holds standard claims (OpenID Connect Core section 5.1).

    `password_hash` is empty for somebody who has come from elsewhere and must be given a password first.
    `sessions_generation` is counted up when every session must end (password changed, user disabled): a session
    counts only while it bears the same number, so that one write ends them all.
    """

    sub: str
    username: str
    password_hash: str
    claims: dict[str, Any]
    admin: bool = False
    password_change_required: bool = False
    sessions_generation: int = 0
    created_at: int = 0
    disabled_at: int | None = None


@dataclass(frozen=True)
class Identifier:
    """A name that a person signs in with, `username:alice`: unique, because it is the key."""

    identifier: str
    sub: str


@dataclass(frozen=True)
class Consent:
    """What a person has allowed a client for good. `claims` are those asked for by name, beyond the `scope`."""

    sub: str
    client_id: str
    scope: frozenset[str] = NO_SCOPE
    updated_at: int = 0
    claims: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Session:
    """A browser in which a person is signed in. `session_id` starts with the `sub`, so that one batch reads both.

    `generation` counts sign-ins: the cookie of an earlier one is worth nothing; 0 is a session that is not stored.
    `request_id` is the authorization request that the last sign-in was for. `grants` are the ids of the grants born in
    it, `backchannel_clients` those of their clients that want to hear of its end. `device`: what kind of browser it is,
    in words.
    """

    session_id: str
    sub: str
    auth_time: int
    expires_at: int
    amr: tuple[str, ...] = ("pwd",)
    generation: int = 1
    sessions_generation: int = 0
    request_id: str | None = None
    grants: frozenset[str] = frozenset()
    backchannel_clients: frozenset[str] = frozenset()
    device: str | None = None
    created_at: int = 0
    ended_at: int | None = None


@dataclass(frozen=True)
class AuthorizationRequest:
    """An authorization request that has passed every check (RFC 6749 section 4.1.1, OpenID Connect Core 3.1.2.1).

    `redirect_uri` is where the answer goes; `redirect_uri_sent` tells whether the request named it. `browser_id`: the
    browser it is bound to, None until a GET has bound it. `taken_at`: it has been answered. `claims` is the request's
    parameter of that name (OpenID Connect Core section 5.5), `hinted_sub` the person that its `id_token_hint` names.

    With a login application of the operator's own: `asked_sub` is the person whom it asks for consent, None while it
    asks who is there; `answer` is what it has posted, until the browser that did so takes it.
    """

    request_id: str
    client_id: str
    redirect_uri: str
    expires_at: int
    created_at: int
    scope: frozenset[str] = NO_SCOPE
    response_type: str = "code"
    response_mode: str = "query"
    redirect_uri_sent: bool = True
    state: str | None = None
    nonce: str | None = None
    code_challenge: str | None = None
    prompt: frozenset[str] = frozenset()
    max_age: int | None = None
    login_hint: str | None = None
    hinted_sub: str | None = None
    acr_values: tuple[str, ...] = ()
    ui_locales: tuple[str, ...] = ()
    claims: dict[str, Any] = field(default_factory=dict)
    resource: frozenset[str] = frozenset()
    browser_id: str | None = None
    asked_sub: str | None = None
    answer: dict[str, Any] = field(default_factory=dict)
    taken_at: int | None = None


@dataclass(frozen=True)
class Grant:
    """What a person has granted to a client: an authorization code when born, its refresh tokens afterwards.

    `generation` is 0 until the code is redeemed, then the number of the current refresh token. `rotated_at` tells when
    the last four were replaced: the time of generation n stands under n modulo 4, so that a rotation writes one place
    and need not read. `expires_at` slides with each refresh; `ends_at` is the end of all refreshing. `claims` are those
    asked for by name (OpenID Connect Core section 5.5). `device`: what kind of browser the person used, in words.
    """

    grant_id: str
    client_id: str
    sub: str
    session_id: str
    redirect_uri: str
    redirect_uri_sent: bool
    auth_time: int
    created_at: int
    code_expires_at: int
    expires_at: int
    ends_at: int
    scope: frozenset[str] = NO_SCOPE
    amr: tuple[str, ...] = ("pwd",)
    nonce: str | None = None
    code_challenge: str | None = None
    generation: int = 0
    redeemed_at: int | None = None
    revoked_at: int | None = None
    rotated_at: dict[str, int] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    resource: frozenset[str] = frozenset()
    device: str | None = None

    @property
    def good_until(self) -> int:
        """When it ends if nobody uses it again. Without refresh tokens it lives as long as its code or access token."""
        return min(self.expires_at, self.ends_at) if self.ends_at > self.created_at else self.expires_at


@dataclass(frozen=True)
class Scope:
    """A scope of the operator's own, in words that people understand."""

    scope: str
    description: str


@dataclass(frozen=True)
class Attempts:
    """Failed sign-ins of late: for one account from one address, or from one address whatever the account."""

    attempts_id: str
    expires_at: int
    failures: int = 0
    blocked_until: int = 0


@dataclass(frozen=True)
class Event:
    """Something that a person should be able to see later: what was done with their account, by whom, from where.

    `name` is one of `audit`'s, `detail` says more of it. `event_id` starts with the time, so that events lie in their
    order. What the operator did to a client or to the keys stands under a `sub` that no person can have.
    """

    sub: str
    event_id: str
    name: str
    created_at: int
    expires_at: int
    client_id: str | None = None
    client_name: str | None = None
    source_ip: str | None = None
    device: str | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Delivery:
    """Logout tokens that are still to be sent (OpenID Connect Back-Channel Logout 1.0 section 2.5): the outbox.

    `clients` are those that have not got theirs yet. `not_before`: when the next try is due.
    """

    delivery_id: str
    sub: str
    session_id: str
    clients: frozenset[str]
    created_at: int
    expires_at: int
    tries: int = 0
    not_before: int = 0


@dataclass(frozen=True)
class SealedKeyRing:
    """The key ring as it lies in the table: `sealed` opens only with the key that `keys.Seal` holds."""

    ring: str
    sealed: bytes
    version: int = 1
