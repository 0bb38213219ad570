"""Proving who somebody is, by username and password, tried no faster than `throttle` allows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chalicelib import audit, history, passwords
from chalicelib.authorization import refuse_others
from chalicelib.dynamodb import attr
from chalicelib.errors import LoginRequired
from chalicelib.messages import Params, Request
from chalicelib.models import AuthorizationRequest, Client, Consent, User
from chalicelib.registration import username_identifier
from chalicelib.server import AuthorizationServer
from chalicelib.store import Store
from chalicelib.table import Refused, Step, Table
from chalicelib.throttle import Throttle, TooManyAttempts

WRONG = "The username or the password is not right."
LONGEST_USERNAME = 320
_NOBODY = "nobody at all"  # no sub has a space


class NotSignedIn(Exception):
    """Nobody has signed in. `code` and `text` say why, for programs and for the person.

    `retry_after`: in how many seconds there may be another try; 0 for at once.
    """

    def __init__(self, code: str, text: str, retry_after: int = 0):
        super().__init__(code)
        self.code = code
        self.text = text
        self.retry_after = retry_after

    def status(self, otherwise: int) -> int:
        """The status of the answer: RFC 6585 section 4 where another try has to wait."""
        return 429 if self.retry_after else otherwise

    @property
    def headers(self) -> dict[str, str]:
        """Header fields that the answer has to carry."""
        return {"Retry-After": str(self.retry_after)} if self.retry_after else {}


@dataclass(frozen=True)
class SignedIn:
    """Who has signed in, what they have allowed the client for good, and what the next transaction has to write.

    Until that is written, the sign-in counts as a failure.
    """

    user: User
    consent: Consent | None
    steps: tuple[Step[Any], ...]

    def begins_nothing(self, store: Store) -> None:
        """Write that, when no other transaction is made: the password was right all the same."""
        store.transact(*self.steps)


class Credentials:
    """A username and a password, as somebody has sent them. `browser_id`: None for a browser without our cookie;
    `here`: whether it is known that this browser has sent them.
    """

    def __init__(
        self,
        server: AuthorizationServer,
        http: Request,
        username: str,
        password: str,
        browser_id: str | None,
        *,
        here: bool = True,
    ):
        self.username = username
        self._server, self._http = server, http
        self._password = password
        # Nobody has a longer one, and to bring 60 kB of accents into their order takes seconds.
        self._identifier = username_identifier(username if len(username) <= LONGEST_USERNAME else "")
        self._throttle = Throttle(server.store, self._identifier, http.source_ip, browser_id, here=here)

    @classmethod
    def of_form(
        cls, server: AuthorizationServer, http: Request, form: Params, browser_id: str | None, *, here: bool = True
    ) -> "Credentials":
        """Those in a form, under our names of the fields or under those that many login pages have."""
        username = form.raw("username") or form.raw("j_username") or ""
        password = form.raw("password") or form.raw("j_password") or ""
        return cls(server, http, username, password, browser_id, here=here)

    @property
    def wanted(self) -> tuple[tuple[Table[Any], tuple[str, ...]], ...]:
        """The records that `verify` needs, for `Store.read`."""
        return (self._server.store.identifiers, (self._identifier,)), *self._throttle.wanted

    def verify(
        self,
        found: Sequence[Any],
        client: Client,
        request: AuthorizationRequest | None = None,
        purpose: str = audit.SIGN_IN,
    ) -> SignedIn:
        """The person whose credentials these are. `found` is what was read for `wanted`. Raises NotSignedIn, and
        LoginRequired when it is not the one whom the request, if there is one, is meant for.

        `purpose`: what the person does with them, one of `audit.EVENTS`, as which it is kept if they are right.
        One write, which counts the try, and one read, for a name that nobody has as for any other.
        """
        store, (identifier, *counts) = self._server.store, found
        sub = identifier.sub if identifier else None
        # What the person will see: it has failed, until it has not.
        event = history.by_request(store, self._http, sub, audit.SIGN_IN_FAILED, client) if sub else None
        try:
            counted = self._throttle.count(counts, *([store.events.inserting(event)] if event else []))
        except TooManyAttempts as refused:
            audit.note(self._http, audit.SIGN_IN_THROTTLED, sub=sub)
            raise NotSignedIn("too_many_attempts", _come_back(refused.retry_after), refused.retry_after) from refused
        user, consent = store.read(
            (store.users, (sub or _NOBODY,)), (store.consents, (sub or _NOBODY, client.client_id))
        )
        # A wrong password takes as long for a name that nobody has.
        right = passwords.verify(self._password, user.password_hash if user else None)
        if not right or user is None or user.disabled_at is not None:
            audit.note(self._http, audit.SIGN_IN_FAILED, sub=sub)
            raise NotSignedIn("wrong_credentials", WRONG)
        if purpose == audit.SIGN_IN:  # anything else is still to be done
            audit.note(self._http, audit.SIGN_IN, sub=sub)
        if passwords.needs_rehash(user.password_hash):
            unchanged = attr("password_hash").eq(user.password_hash)
            better = {"password_hash": passwords.hash_password(self._password)}
            rehashed = store.users.transition((user.sub,), unchanged, better)
            user = user if isinstance(rehashed, Refused) else rehashed
        steps = counted.taking_back()
        if event:
            steps.append(store.events.changing((event.sub, event.event_id), None, {"name": purpose}))
        signed_in = SignedIn(user, consent, tuple(steps))
        try:
            if request:
                refuse_others(self._server, client, request, user)
        except LoginRequired:
            signed_in.begins_nothing(store)
            raise
        return signed_in


def in_browser(server: AuthorizationServer, http: Request, user: User, browser_id: str | None) -> list[Step[Any]]:
    """The steps after which a browser is known as one of this person's, who has signed in with it."""
    return Throttle(server.store, username_identifier(user.username), http.source_ip, browser_id).knowing()


def _come_back(seconds: int) -> str:
    minutes = -(-seconds // 60)
    wait = f"{seconds} seconds" if seconds <= 90 else f"{minutes} minutes"
    return f"There were too many attempts. Please try again in {wait}."
