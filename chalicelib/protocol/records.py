"""Stored records: frozen dataclasses, one per table. Field names are attribute names in DynamoDB and never change.

Times are seconds since 1970 (integers). A field that is None or an empty set is not stored. A new field needs a
default, because old and new code read each other's records. DynamoDB's TTL uses `expires_at`.
"""

from dataclasses import field, replace
from typing import Any

from chalicelib.protocol.client import Client
from chalicelib.protocol.event import Event as Event
from chalicelib.protocol.proof import Proof as Proof
from chalicelib.protocol.second_factor import SecondFactor
from chalicelib.protocol.values import dataclass

NO_SCOPE: frozenset[str] = frozenset()
OUTBOX = "outbox"


def scopes_of(resource_scope: frozenset[str]) -> frozenset[str]:
    """Return the scopes of a set of "URI scope"."""
    return frozenset(each.partition(" ")[2] for each in resource_scope)


@dataclass(frozen=True)
class User(SecondFactor):
    """A user. `claims`: standard claims (OpenID Connect Core section 5.1), and custom ones (`custom_claims`).

    `password_hash` is empty for an imported user who has no password yet.

    Sessions, grants and consents hold copies of the generations, and are valid only while their copy equals the number
    here, so that incrementing it ends them all in one write. A new user starts with random ones: whatever was stored
    for a deleted user with the same `sub` stays invalid. `password_generation` is incremented with each new password:
    the browsers and networks that have signed in before hold copies of it (`Attempts`).

    `deleted_at`: when the user has deleted the account, which can be restored until `deletion_due_at`.
    `email_undeliverable`: the address whose mails were returned, or whose reader has complained about them, in
    canonical form. `passkey_offered_at`: when the user was first asked to add a passkey, or has added one.

    `email_changes` counts changes of the email address. An undo of the change number n is valid unless
    `email_void_from` < n <= `email_void_until`: changes that an earlier undo has taken back with its own.
    """

    sub: str
    username: str
    password_hash: str
    claims: dict[str, Any]
    admin: bool = False
    password_change_required: bool = False
    sessions_generation: int = 0
    grants_generation: int = 0
    consents_generation: int = 0
    created_at: int = 0
    disabled_at: int | None = None
    password_generation: int = 0
    groups: frozenset[str] = frozenset()
    deleted_at: int | None = None
    deletion_due_at: int | None = None
    email_undeliverable: str | None = None
    email_changes: int = 0
    email_void_from: int = 0
    email_void_until: int = 0
    passkey_offered_at: int | None = None

    @property
    def active(self) -> bool:
        """Whether the user can have sessions and grants: the account is neither disabled nor deleted."""
        return self.disabled_at is None and self.deleted_at is None

    def is_gone(self, now: int) -> bool:
        """Return whether the user has deleted the account, and it can no longer be restored."""
        return self.deletion_due_at is not None and self.deletion_due_at <= now


@dataclass(frozen=True)
class Identifier:
    """A name that a user signs in with: `username:alice`, or a verified `email:alice@example.com`. It is unique."""

    identifier: str
    sub: str


@dataclass(frozen=True)
class Consent:
    """The remembered consent of a user for a client. `claims` are requested by name, beyond the `scope`.

    `resource_scope`: the scopes of resources that name theirs, each with the URI of its resource ("URI scope"). They
    are not in `scope`: what is allowed for one resource is not allowed for another.

    `generation` is incremented when access is removed, and ends the grants that hold another copy. The record then
    stays, without scope and claims, because an absent one would have the generation 0 again: it is deleted only with
    its user, and never expires. `consents_generation` is a copy of the user's, `registration_id`, `client_generation`
    and `document_digest` of the client's: consent is remembered only while they are equal.
    """

    sub: str
    client_id: str
    scope: frozenset[str] = NO_SCOPE
    updated_at: int = 0
    claims: frozenset[str] = frozenset()
    generation: int = 0
    consents_generation: int = 0
    registration_id: str | None = None
    client_generation: int = 0
    resource_scope: frozenset[str] = NO_SCOPE
    document_digest: str | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing is remembered: access was removed."""
        return not self.scope and not self.claims and not self.resource_scope

    @property
    def all_scopes(self) -> frozenset[str]:
        """The scopes that are remembered, of whichever resource."""
        return self.scope | scopes_of(self.resource_scope)

    def valid_for(self, user: User, client: Client) -> "Consent":
        """Return this consent, without scope and claims if the user or the client has ended it since."""
        copies = (self.consents_generation, self.registration_id, self.client_generation, self.document_digest)
        digest = client.document_digest
        if copies == (user.consents_generation, client.registration_id, client.grants_generation, digest):
            return self
        return replace(self, scope=NO_SCOPE, claims=frozenset(), resource_scope=NO_SCOPE)


@dataclass(frozen=True)
class Session:
    """The session of a user in a browser. `session_id` starts with the `sub`, so that one batch reads both records.

    `generation` counts sign-ins: the cookie of an earlier one is invalid; 0 is a session that is not stored.
    `sessions_generation`: a copy of the user's. `request_id`: the authorization request of the last sign-in.
    `backchannel_clients`: the clients that get a logout token. `device`: a description of the browser.

    `renewed_by`: a digest of the form by which the user last signed in or changed the password, "" when it was
    none, and `renewed_at` when. `repeats`: how often the same form has come again (`sessions.repeated_form`).

    `version`: of the records, when the session was created. `active_until`: how long the browser is signed in, moved by
    the browser; None in records of version 1, where it is `expires_at`. `expires_at`: how long the grants of the
    session are valid, moved by refresh tokens too. `mfa_time`: when the user last proved a second factor in it, or 0.

    `kept`: whether the user asked to stay signed in, so that the cookie outlives the window of the browser. `network`:
    from which network the session was started, as `http.addresses.masked` shows it.
    """

    session_id: str
    sub: str
    auth_time: int
    expires_at: int
    amr: tuple[str, ...] = ("pwd",)
    generation: int = 1
    sessions_generation: int = 0
    request_id: str | None = None
    backchannel_clients: frozenset[str] = frozenset()
    device: str | None = None
    created_at: int = 0
    version: int = 1
    active_until: int | None = None
    ended_at: int | None = None
    renewed_at: int = 0
    renewed_by: str = ""
    repeats: int = 0
    mfa_time: int = 0
    kept: bool = False
    network: str | None = None

    @property
    def signed_in_until(self) -> int:
        """When the browser is no longer signed in."""
        return self.expires_at if self.active_until is None else self.active_until

    def is_valid_for(self, user: User) -> bool:
        """Return whether neither this session nor all sessions of its user have ended."""
        return self.ended_at is None and self.sessions_generation == user.sessions_generation


@dataclass(frozen=True)
class AuthorizationRequest:
    """A validated authorization request (RFC 6749 section 4.1.1, OpenID Connect Core section 3.1.2.1).

    `redirect_uri_sent`: whether the request had a `redirect_uri`. `browser_id`: the browser that it is bound to, None
    until the first GET. `claims`: the stored form of the `claims` parameter. `hinted_sub`: the user that
    `id_token_hint` names. `resource_scope`: the part of the `scope` that named resources understand ("URI scope").

    `taken_at`: when it was answered; with the grant `grant_id`, or denied if there is none. `sent`: how often that
    answer was sent; None in records that an earlier version has answered.

    `pushed`: the client has sent it to /oauth2/par (RFC 9126), and only with its client_id can it be opened first.
    `dpop_jkt`: the thumbprint of the key that its code is bound to (RFC 9449 section 10).
    `authorization_details`: the objects in their stored form (`protocol.authorization_details`).
    `keep_signed_in`: the user wants the session that this request starts to be `kept`.
    `offer_passkey`: the browser can add a passkey, and the user may be asked once. `declined`: what the user does not
    want for this request, of `authentication_context.DECLINED_…`.

    With a login application: `asked_sub` is the user that it asks for consent, None while it authenticates the user;
    `answer` is what it has posted, until the same browser continues the request; `answers` counts what it posted.
    `waiting`: who has proved the password, and must still prove the second factor (`authorization.second_factor`).
    `email_proof`: the id of the email for whose code its sign-in page asks (`authorization.email_request`).
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
    resource_scope: frozenset[str] = NO_SCOPE
    browser_id: str | None = None
    asked_sub: str | None = None
    answer: dict[str, Any] = field(default_factory=dict)
    answers: int = 0
    taken_at: int | None = None
    grant_id: str | None = None
    sent: int | None = None
    pushed: bool | None = None
    dpop_jkt: str | None = None
    waiting: dict[str, Any] = field(default_factory=dict)
    keep_signed_in: bool | None = None
    authorization_details: tuple[str, ...] | None = None
    email_proof: str | None = None
    offer_passkey: bool | None = None
    declined: frozenset[str] = NO_SCOPE

    @property
    def scope_of_no_resource(self) -> frozenset[str]:
        """The part of the scope that no named resource understands."""
        return self.scope - scopes_of(self.resource_scope)

    @property
    def stored(self) -> bool:
        """Whether there is a record of it, which belongs to a browser."""
        return self.browser_id is not None

    @property
    def answered(self) -> bool:
        """Whether it was answered. The same browser can get the answer again for a minute."""
        return self.taken_at is not None

    def answered_as(self, stored: "AuthorizationRequest") -> "AuthorizationRequest":
        """Return this request with the answer that its record has."""
        return replace(self, taken_at=stored.taken_at, grant_id=stored.grant_id, sent=stored.sent)


@dataclass(frozen=True)
class RequestClient:
    """The client of an authorization request, also while an expired record is not deleted yet: for a link to it."""

    request_id: str
    client_id: str


@dataclass(frozen=True)
class Delivery:
    """An outbox entry: logout tokens to send (OpenID Connect Back-Channel Logout 1.0 section 2.5).

    `clients`: those whose logout token is not delivered yet. `not_before`: when the next attempt is due.
    `sessions_below`: instead of one session, all sessions of the user with a lower `sessions_generation`.
    `outbox`: OUTBOX, the partition of the index `due`, in the order of `not_before`; None in records that an earlier
    version has written. Read by this index, a record has neither `session_id` nor `clients`.
    """

    delivery_id: str
    sub: str
    created_at: int
    expires_at: int
    session_id: str = ""
    clients: frozenset[str] = frozenset()
    sessions_below: int | None = None
    tries: int = 0
    not_before: int = 0
    outbox: str | None = None
