"""Stored records: frozen dataclasses, one per table. Field names are attribute names in DynamoDB and never change.

Times are seconds since 1970 (integers). A field that is None or an empty set is not stored. A new field needs a
default, because old and new code read each other's records. DynamoDB's TTL uses `expires_at`.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

NO_SCOPE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Client:
    """A registered client. Names that RFC 7591 section 2 defines have its meaning.

    `secret_hashes`: SHA-256 of the client secrets, base64url; two during a rotation. `default_scope`: the scope of a
    request without `scope`; by default `scope` without `offline_access`. `trusted`: the operator's own application,
    which needs no consent. `direct_sign_in`: may use HTTP Basic at /oauth2/code. Lifetimes are in seconds and override
    the settings. `subject_type` pairwise: the client gets its own `sub` for each user.
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

    @cached_property
    def public(self) -> bool:
        """Whether the client cannot keep a secret (RFC 6749 section 2.1)."""
        return self.token_endpoint_auth_method == "none"  # noqa: S105

    @cached_property
    def scopes(self) -> frozenset[str]:
        """All scopes that the client may request."""
        return frozenset(self.scope.split())

    @cached_property
    def default_scopes(self) -> frozenset[str]:
        """The scopes of a request without `scope`."""
        if self.default_scope is not None:
            return frozenset(self.default_scope.split())
        return self.scopes - {"offline_access"}


@dataclass(frozen=True)
class User:
    """A user. `claims` contains standard claims (OpenID Connect Core section 5.1).

    `password_hash` is empty for an imported user who has no password yet. `sessions_generation` is incremented when
    every session must end (password changed, user disabled): a session with another number is invalid, so that one
    write ends them all.
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
    """A name that a user signs in with, such as `username:alice`; unique, because it is the key."""

    identifier: str
    sub: str


@dataclass(frozen=True)
class Consent:
    """The remembered consent of a user for a client. `claims` are requested by name, beyond the `scope`."""

    sub: str
    client_id: str
    scope: frozenset[str] = NO_SCOPE
    updated_at: int = 0
    claims: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Session:
    """The session of a user in a browser. `session_id` starts with the `sub`, so that one batch reads both records.

    `generation` counts sign-ins: the cookie of an earlier one is invalid; 0 is a session that is not stored.
    `request_id`: the authorization request of the last sign-in. `grants`: the ids of the grants created in the session.
    `backchannel_clients`: their clients that get a logout token. `device`: a description of the browser.
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
    """A validated authorization request (RFC 6749 section 4.1.1, OpenID Connect Core section 3.1.2.1).

    `redirect_uri_sent`: whether the request had a `redirect_uri`. `browser_id`: the browser that it is bound to, None
    until the first GET. `taken_at`: when it was answered. `claims`: the stored form of the `claims` parameter.
    `hinted_sub`: the user that `id_token_hint` names.

    With a login application: `asked_sub` is the user that it asks for consent, None while it authenticates the user;
    `answer` is what it has posted, until the same browser continues the request.
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
    """A user's grant to a client: first an authorization code, then its refresh tokens.

    `generation` is 0 until the code is redeemed, then the number of the current refresh token. `rotated_at`: when the
    last four refresh tokens were replaced; generation n has the key n modulo 4, so that a rotation writes one entry
    without a read. `expires_at` moves with each refresh; no refresh is possible after `ends_at`. `claims`: requested by
    name (OpenID Connect Core section 5.5). `device`: a description of the browser.
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
    def valid_until(self) -> int:
        """When the grant ends if it is not used again; without refresh tokens, with its code or access token."""
        return min(self.expires_at, self.ends_at) if self.ends_at > self.created_at else self.expires_at


@dataclass(frozen=True)
class Scope:
    """A scope that the operator has defined, with its description for users."""

    scope: str
    description: str


@dataclass(frozen=True)
class Attempts:
    """Recent failed sign-ins: for one account from one IP address, or from one IP address for any account."""

    attempts_id: str
    expires_at: int
    failures: int = 0
    blocked_until: int = 0


@dataclass(frozen=True)
class Event:
    """An entry of a user's activity history: what was done with the account, by which client, from where.

    `name` is one of the names in `events.log`. `event_id` starts with the time, so that events are stored in order.
    Operator actions on clients and keys have a `sub` that no user can have.
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
    """An outbox entry: logout tokens to send (OpenID Connect Back-Channel Logout 1.0 section 2.5).

    `clients`: those whose logout token is not delivered yet. `not_before`: when the next attempt is due.
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
    """The encrypted key ring. Only `keys.envelope.Seal` can decrypt `sealed`."""

    ring: str
    sealed: bytes
    version: int = 1
