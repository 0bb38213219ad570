"""Signing in by username or verified email address and password, no faster than `throttle` allows."""

from dataclasses import replace
from typing import Any

from chalicelib import events
from chalicelib.authentication import passwords
from chalicelib.authentication.sign_in_addresses import note_sign_in, telling_user
from chalicelib.authentication.throttle import Account, Counted, Throttle, TooManyAttempts, try_again_text
from chalicelib.events import history
from chalicelib.http.messages import Params, Request
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import LoginRequired
from chalicelib.protocol.identifiers import sign_in_identifiers, trim
from chalicelib.protocol.next_step import WRONG_USER, is_intended_user
from chalicelib.protocol.records import AuthorizationRequest, Consent, User
from chalicelib.protocol.texts import Text
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.store import Records, Store
from chalicelib.storage.table import Lookup, Refused, Write
from chalicelib.tokens.subjects import subject

WRONG = Text("The username or the password is not right.")
MAX_USERNAME = 320
NO_USER = "no user"  # no sub has a space


class NotSignedIn(Exception):
    """The sign-in was rejected. `code` and `text` say why, for programs and for the user.

    `retry_after`: in how many seconds the next attempt is possible; 0 for at once. `attempt`: one that was counted.
    """

    def __init__(self, code: str, text: str, retry_after: int = 0, attempt: "CountedAttempt | None" = None):
        super().__init__(code)
        self.code = code
        self.text = text
        self.retry_after = retry_after
        self.attempt = attempt

    def status(self, otherwise: int) -> int:
        """Return the HTTP status: 429 where the next attempt must wait (RFC 6585 section 4), else `otherwise`."""
        return 429 if self.retry_after else otherwise

    @property
    def headers(self) -> dict[str, str]:
        """Header fields of the response."""
        return {"Retry-After": str(self.retry_after)} if self.retry_after else {}


@dataclass(frozen=True)
class CountedAttempt:
    """An attempt that counts as a failure, until it is known that it was none. `unrecorded` deletes its event."""

    counted: Counted
    unrecorded: tuple[Write[Any], ...]

    def writes_if_repeated(self, user: User) -> tuple[Write[Any], ...]:
        """Return the writes when another copy of the same form was successful: the history tells of that one only."""
        return *self.counted.taking_back(user.password_generation), *self.unrecorded


@dataclass(frozen=True)
class VerifiedSignIn:
    """Who has signed in, the consent that they gave this client, and the writes for the next transaction.

    Until these are made, the attempt counts as a failure. `recorded`: the event in the history. `complete`: whether the
    user need not enter a code of the second factor, so that the browser and the network become known.
    `in_unknown_browser`: whether the browser was not known before.
    """

    user: User
    consent: Consent | None
    attempt: CountedAttempt
    recorded: tuple[Write[Any], ...]
    complete: bool = True
    in_unknown_browser: bool = False

    @property
    def writes(self) -> tuple[Write[Any], ...]:
        """The writes that take the failure back, and make the browser and the network known if it is complete."""
        return self.writes_for(self.user)

    def writes_for(self, user: User) -> tuple[Write[Any], ...]:
        """Return the same writes for a transaction that changes the user's password: `user` is the new record."""
        taking_back = self.attempt.counted.taking_back(user.password_generation, remember=self.complete)
        return *taking_back, *self.recorded

    def checked_writes(self, store: Store) -> tuple[Write[Any], ...]:
        """Return the writes for a transaction that does not check the user itself.

        It is refused if the password has been changed in between: the attempt stays a failure, and nothing is known.
        """
        same_password = store.users.unchanged(self.user, "password_generation")
        return store.users.checking((self.user.sub,), same_password), *self.writes

    def commit_without_session(self, store: Store) -> None:
        """Make the writes alone, when no session is started although the password was right."""
        store.transact(*self.checked_writes(store))


class SignInAttempt:
    """A username and a password, as they were sent.

    `browser_id`: None for a browser without our cookie. `from_browser`: whether that browser is known to have sent
    them.
    """

    def __init__(
        self,
        server: AuthorizationServer,
        http: Request,
        username: str,
        password: str,
        browser_id: str | None,
        *,
        from_browser: bool = True,
    ):
        self.username = username
        self._server, self._http = server, http
        self.password = password
        # No username is longer, and normalising 60 kB of combining characters takes seconds.
        self._identifiers = sign_in_identifiers(trim(username) if len(username) <= MAX_USERNAME else "")
        self._browser_id, self._from_browser = browser_id, from_browser

    @classmethod
    def of_form(
        cls,
        server: AuthorizationServer,
        http: Request,
        form: Params,
        browser_id: str | None,
        *,
        from_browser: bool = True,
    ) -> "SignInAttempt":
        """Return the attempt in a form, with our field names or those that many login pages use."""
        username = form.raw("username") or form.raw("j_username") or ""
        password = form.raw("password") or form.raw("j_password") or ""
        return cls(server, http, username, password, browser_id, from_browser=from_browser)

    @property
    def lookups(self) -> tuple[Lookup[Any], ...]:
        """The records that `verify` needs."""
        return tuple(map(self._server.store.identifiers.lookup, self._identifiers))

    def sub(self, records: Records) -> str | None:
        """Return the user whose username or verified email address it is, None without one.

        `records` were read for `lookups`.
        """
        identifiers = filter(None, map(records.get, self.lookups))
        return next((identifier.sub for identifier in identifiers), None)

    def verify(
        self,
        records: Records,
        client: Client,
        request: AuthorizationRequest | None = None,
        purpose: str = events.SIGN_IN,
    ) -> VerifiedSignIn:
        """Return the user whose credentials these are. `records` were read for `lookups`.

        `purpose`: what the user does with them, one of `events.EVENTS`, recorded when they are right. One read, and one
        write, which counts the attempt, also for a username that does not exist. Raises NotSignedIn, and LoginRequired
        when the request is meant for another user.
        """
        store = self._server.store
        sub = self.sub(records)
        account = Account(sub or self._identifiers[0], is_user=sub is not None)
        throttle = Throttle(
            self._server, account, self._http.source_ip, self._browser_id, from_browser=self._from_browser
        )
        of_user = store.users.lookup(sub or NO_USER)
        of_consent = store.consents.lookup(sub or NO_USER, client.client_id)
        read = store.read_all((of_user, of_consent, *throttle.lookups))
        user, consent = read.get(of_user), read.get(of_consent)
        # The history says that the attempt failed, until it is known that it did not.
        event = history.by_request(store, self._http, sub, events.SIGN_IN_FAILED, client) if sub else None
        generation = user.password_generation if user else None
        try:
            counted = throttle.count(read, generation, *([store.events.inserting(event)] if event else []))
        except TooManyAttempts as too_many:
            events.note(self._http, events.SIGN_IN_THROTTLED, sub=sub)
            text = try_again_text(too_many.retry_after)
            raise NotSignedIn("too_many_attempts", text, too_many.retry_after) from too_many
        failed = attr("name").eq(events.SIGN_IN_FAILED)
        unrecorded = (store.events.deleting((event.sub, event.event_id), failed),) if event else ()
        attempt = CountedAttempt(counted, unrecorded)
        # A wrong password takes as long for a username that does not exist; the right one of a disabled user, too.
        enabled = user if user and user.disabled_at is None and not user.is_gone(self._server.now()) else None
        correct = passwords.verify(
            self.password, enabled.password_hash if enabled else None, self._server.settings.password_failure_cost
        )
        if not correct or user is None:
            events.note(self._http, events.SIGN_IN_FAILED, sub=sub)
            if counted.reaches_limit:
                events.note(self._http, events.SIGN_IN_LIMIT_REACHED, sub=sub)
            raise NotSignedIn("wrong_credentials", WRONG, attempt=attempt)
        complete = True
        if purpose == events.SIGN_IN:
            note_sign_in(self._server, self._http, user.sub)
            complete = not self._server.settings.authentication_policy.asks_for_code(user)
            purpose = purpose if complete else events.SECOND_FACTOR_ASKED
        recorded: list[Write[Any]] = []
        if event:
            rename = store.events.changing((event.sub, event.event_id), failed, {"name": purpose})
            recorded.append(replace(rename, on_success=lambda: events.note(self._http, purpose, sub=sub)))
        if purpose == events.SIGN_IN and self._server.settings.sign_in_notice and not counted.from_known_browser:
            recorded += telling_user(self._server, self._http, user)
        unknown = not counted.from_known_browser
        verified = VerifiedSignIn(self._rehash(user), consent, attempt, tuple(recorded), complete, unknown)
        if request and not is_intended_user(request, subject(self._server, client, user.sub)):
            verified.commit_without_session(store)
            raise LoginRequired(WRONG_USER)
        return verified

    def _rehash(self, user: User) -> User:
        """Return the user, with a new hash if theirs was made elsewhere or with other parameters."""
        if not passwords.needs_rehash(user.password_hash, self.password):
            return user
        unchanged = attr("password_hash").eq(user.password_hash)
        changes = {"password_hash": passwords.hash_password(self.password)}
        rehashed = self._server.store.users.transition((user.sub,), unchanged, changes)
        return user if isinstance(rehashed, Refused) else rehashed


def remember_browser(
    server: AuthorizationServer, http: Request, user: User, browser_id: str | None
) -> list[Write[Any]]:
    """Return the write that makes a browser known for this user, without failures; none for a browser without an id."""
    return _throttle_of(server, http, user.sub, browser_id).remembering_browser(user.password_generation)


def remember_network(server: AuthorizationServer, http: Request, user: User) -> list[Write[Any]]:
    """Return the write that makes the network of a request known for this user; none unless its address is public."""
    return _throttle_of(server, http, user.sub, None).remembering_network(user.password_generation)


def lookups_of_browser(
    server: AuthorizationServer, http: Request, sub: str, browser_id: str | None
) -> tuple[Lookup[Any], ...]:
    """Return what `is_unknown_browser` needs; nothing where no user is told of a sign-in."""
    if not server.settings.sign_in_notice:
        return ()
    return _throttle_of(server, http, sub, browser_id).lookups_of_browser


def is_unknown_browser(
    server: AuthorizationServer, http: Request, user: User, browser_id: str | None, records: Records
) -> bool:
    """Return whether the user is to be told of a sign-in, because this browser is not known.

    `records` were read for `lookups_of_browser`.
    """
    throttle = _throttle_of(server, http, user.sub, browser_id)
    return server.settings.sign_in_notice and not throttle.is_known_browser(records, user.password_generation)


def _throttle_of(server: AuthorizationServer, http: Request, sub: str, browser_id: str | None) -> Throttle:
    return Throttle(server, Account(sub, is_user=True), http.source_ip, browser_id)
