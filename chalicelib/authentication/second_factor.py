"""Proving the second factor: a code of the authenticator application, or a recovery code, no faster than allowed.

An attempt is counted before its code is checked, by one conditional write, as for passwords. The counts are those of
the user, wherever the attempt comes from: only who knows the password gets so far. Codes and recovery codes are counted
apart, so that another person who knows the password cannot lock the user out of both with one kind.
"""

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any

from chalicelib import events
from chalicelib.authentication import recovery_codes, totp
from chalicelib.authentication.failure_counts import DAILY, Count, Counter, Window
from chalicelib.authentication.password import NotSignedIn
from chalicelib.events import history
from chalicelib.http.messages import Params, Request
from chalicelib.keys.ring import KeyRing
from chalicelib.mail.notices import tell
from chalicelib.protocol.client import Client
from chalicelib.protocol.durations import DAY, MINUTE, in_words
from chalicelib.protocol.records import User
from chalicelib.protocol.texts import Text
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.storage.dynamodb import Condition, FromSet, attr
from chalicelib.storage.store import Store
from chalicelib.storage.table import Write

SHORT = Window("hour_started", "hour_failures", 15 * MINUTE)
ATTEMPTS = 5  # in a quarter of an hour
ATTEMPTS_PER_DAY = 20
WRONG = Text("The code is not right. Enter the code that the application shows now. Is its clock right?")
_CODE, _RECOVERY_CODE = "code", "recovery code"
_RACES = 20
_RETRY_AFTER = 30


@dataclass(frozen=True)
class EnteredCode:
    """What a user has entered, normalized: a `code` of the application, or a recovery code."""

    code: str = ""
    recovery_code: str = ""

    @classmethod
    def of_form(cls, form: Params) -> "EnteredCode":
        """Return what a form has in the fields `one_time_code` and `recovery_code`."""
        recovery_code = recovery_codes.normalize(form.raw("recovery_code") or "")
        return cls("" if recovery_code else totp.normalize(form.raw("one_time_code") or ""), recovery_code)

    @property
    def text(self) -> str:
        """What was entered, of either kind."""
        return self.recovery_code or self.code


@dataclass(frozen=True)
class Proof:
    """A right code, and the writes for the next transaction: it spends the code, or is refused.

    `also`: the writes that take the count back, and tell the history and the user; `if_repeated`: those of a form that
    came twice.
    """

    user: User
    also: tuple[Write[Any], ...]
    if_repeated: tuple[Write[Any], ...]
    _condition: Condition
    _set: Mapping[str, Any] = field(default_factory=dict)
    _add: Mapping[str, Any] = field(default_factory=dict)

    def spending(
        self, store: Store, set_: Mapping[str, Any] | None = None, remove: tuple[str, ...] = ()
    ) -> Write[User]:
        """Return the write that spends the code, if the user is active, and changes the record further.

        `remove`: fields to remove; those of the code that is spent may be among them.
        """
        unchanged = store.users.unchanged(self.user, "disabled_at", "sessions_generation", "totp_generation")
        changes = {name: value for name, value in {**self._set, **(set_ or {})}.items() if name not in remove}
        replaced = {*changes, *remove}
        add = {name: value for name, value in self._add.items() if name not in replaced}
        return store.users.changing((self.user.sub,), self._condition & unchanged, changes, add, remove)


def verify(
    server: AuthorizationServer,
    http: Request,
    user: User,
    entered: EnteredCode,
    purpose: str,
    client: Client | None = None,
) -> Proof:
    """Return the proof of a user's second factor. `purpose`: the event that the history has when the code is right.

    `client`: for which the user signs in.
    One read, and one write, which counts the attempt. Raises NotSignedIn.
    """
    store, kind = server.store, _RECOVERY_CODE if entered.recovery_code else _CODE
    if not entered.text:
        raise NotSignedIn("wrong_code", Text("Enter the code."))
    counter = _counter(server.keys, user, kind)
    event = history.by_request(store, http, user.sub, events.SECOND_FACTOR_FAILED, client)
    try:
        _count(server, counter, store.events.inserting(event))
    except _TooManyCodes as too_many:
        events.note(http, events.SECOND_FACTOR_THROTTLED, sub=user.sub)
        wait = in_words(max(too_many.retry_after, 2))
        text = Text("There were too many wrong codes. Please try again in %(time)s.", time=wait)
        raise NotSignedIn("too_many_attempts", text, too_many.retry_after) from too_many
    condition, set_, add = _check(server, http, user, entered)
    failed = attr("name").eq(events.SECOND_FACTOR_FAILED)
    renaming = store.events.changing((event.sub, event.event_id), failed, {"name": purpose})
    renaming = replace(renaming, on_success=lambda: events.note(http, purpose, sub=user.sub))
    taking_back = counter.taking_back(store.attempts, server.now())
    also: list[Write[Any]] = [taking_back, renaming]
    if_repeated = (taking_back, store.events.deleting((event.sub, event.event_id), failed))
    if entered.recovery_code:
        also.append(events.record(store, http, events.RECOVERY_CODE_USED, user.sub, client))
        also += tell(server, http, user, "recovery_code_used")
    return Proof(user, tuple(also), if_repeated, condition, set_, add)


def _check(
    server: AuthorizationServer, http: Request, user: User, entered: EnteredCode
) -> tuple[Condition, dict[str, Any], dict[str, Any]]:
    """Return the condition and the changes that spend a right code. Raises NotSignedIn for a wrong one."""
    confirmed = attr("totp_confirmed_at").exists()
    if entered.recovery_code:
        digest = recovery_codes.digest(server.keys, user.sub, entered.recovery_code)
        if digest not in user.recovery_codes:
            events.note(http, events.SECOND_FACTOR_FAILED, sub=user.sub)
            raise NotSignedIn("wrong_code", Text("This recovery code is not right, or was used already."))
        unused = confirmed & attr("recovery_codes").contains(digest)
        return unused, {}, {"recovery_codes": FromSet(frozenset({digest}))}
    secret = totp.unseal(server.keys, user)
    step = totp.matching_step(secret, entered.code, server.now()) if secret else None
    if secret is None or step is None:
        events.note(http, events.SECOND_FACTOR_FAILED, sub=user.sub)
        raise NotSignedIn("wrong_code", WRONG)
    if step <= user.totp_step:
        raise spent()
    set_: dict[str, Any] = {"totp_step": step}
    if user.totp_secret and not server.keys.is_sealed_with_current_key(user.totp_secret):
        set_["totp_secret"] = totp.seal(server.keys, user.sub, secret)
    return confirmed & (attr("totp_step").not_exists() | attr("totp_step").lt(step)), set_, {}


def spent() -> NotSignedIn:
    """Return the error for a code that was used before, also by another request at the same time."""
    return NotSignedIn("code_used", Text("This code was used already. Wait for the next one, and enter it."))


class _TooManyCodes(Exception):
    def __init__(self, retry_after: int):
        super().__init__(f"no attempt for {retry_after} s")
        self.retry_after = retry_after


def _counter(keys: KeyRing, user: User, kind: str) -> Counter:
    """Return the counter of a kind of code. A second factor that is set up again has other ones."""
    limits = ((SHORT, ATTEMPTS), (DAILY, ATTEMPTS_PER_DAY))
    return Counter(keys.digest("second factor", kind, str(user.totp_generation), user.sub), limits, DAY)


def _count(server: AuthorizationServer, counter: Counter, also: Write[Any]) -> None:
    attempts = server.store.attempts
    record = attempts.get(counter.attempts_id)
    for _ in range(_RACES):
        count = Count(counter, record, server.now())
        if count.wait:
            raise _TooManyCodes(count.wait)
        counting = count.counting(attempts)
        refused = server.store.transact(counting, also)
        if refused is None:
            return
        refusal = refused.of(counting)
        record = refusal.record if refusal else record
    raise _TooManyCodes(_RETRY_AFTER)


def unlock(store: Store, keys: KeyRing, user: User) -> None:
    """Forget the wrong codes of a user. Raises TemporarilyUnavailable."""
    for kind in (_CODE, _RECOVERY_CODE):
        store.attempts.delete(_counter(keys, user, kind).attempts_id)
