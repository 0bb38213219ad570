"""Signing in with a passkey, alone or as a second factor: one read with the records of the browser, and no write.

The writes belong into the transaction of what follows: they spend the challenge, move the counter and record the event.
"""

from typing import Any

from chalicelib import events
from chalicelib.authentication import passkey_options
from chalicelib.authentication.passkey_options import Purpose
from chalicelib.authentication.passkeys import (
    Assertion,
    PasskeyError,
    Use,
    check_assertion,
    may_be_copied,
    read_assertion,
)
from chalicelib.authentication.password import (
    is_unknown_browser,
    lookups_of_browser,
    remember_browser,
    remember_network,
)
from chalicelib.authentication.sign_in_addresses import note_sign_in, telling_user
from chalicelib.http.messages import Request
from chalicelib.protocol.client import Client
from chalicelib.protocol.passkey import AMR, Passkey
from chalicelib.protocol.records import User
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.storage.store import Records
from chalicelib.storage.table import Lookup, Write

FIELD = "passkey"  # of the form


@dataclass(frozen=True)
class VerifiedPasskey:
    """Who has used a passkey, and the writes for the next transaction. `use`: what the authenticator said."""

    user: User
    passkey: Passkey
    use: Use
    writes: tuple[Write[Any], ...]


class PasskeyAttempt:
    """A passkey's answer to the sign-in page of a request, as this browser has sent it. `amr`: its methods."""

    amr = AMR

    def __init__(self, server: AuthorizationServer, http: Request, text: str, browser_id: str, request_id: str):
        self._server, self._http, self._browser_id = server, http, browser_id
        self._purpose = passkey_options.for_sign_in(browser_id, request_id)
        self._answer: Assertion | None = None
        self._problem = PasskeyError("passkey_unavailable")
        if server.settings.passkey_domain is None:
            return
        try:
            self._answer = read_assertion(text)
        except PasskeyError as problem:
            self._problem = problem

    @property
    def sub(self) -> str:
        """The user whom the answer names, unproven; "" if it names none."""
        return self._answer.user_handle if self._answer else ""

    @property
    def lookups(self) -> tuple[Lookup[Any], ...]:
        """The records that `verify` needs: the passkey, its user, and the browser where users are told of sign-ins."""
        answer, store = self._answer, self._server.store
        if answer is None or not answer.user_handle:
            return ()
        sub = answer.user_handle
        of_browser = lookups_of_browser(self._server, self._http, sub, self._browser_id)
        return store.passkeys.lookup(sub, answer.passkey_id), store.users.lookup(sub), *of_browser

    def verify(self, records: Records, client: Client | None = None) -> VerifiedPasskey:
        """Return the user who has used the passkey. `records` were read for `lookups`. Raises PasskeyError."""
        try:
            return self._verify(records, client)
        except PasskeyError as problem:
            events.note(self._http, events.SIGN_IN_FAILED, detail=f"{problem.code}: {problem.detail}")
            raise

    def _verify(self, records: Records, client: Client | None) -> VerifiedPasskey:
        if self._answer is None:
            raise self._problem
        if not self.lookups:
            raise PasskeyError("passkey_unknown", "the answer names no user")
        server, http = self._server, self._http
        passkey = records.get(server.store.passkeys.lookup(self.sub, self._answer.passkey_id))
        user = records.get(server.store.users.lookup(self.sub))
        verified = _verify(server, http, self._answer, self._purpose, passkey, user)
        note_sign_in(server, http, verified.user.sub)
        event = events.record(server.store, http, events.SIGN_IN, verified.user.sub, client, detail=events.BY_PASSKEY)
        browser = remember_browser(server, http, verified.user, self._browser_id)
        network = remember_network(server, http, verified.user)
        unknown = is_unknown_browser(server, http, verified.user, self._browser_id, records)
        notice = telling_user(server, http, verified.user) if unknown else ()
        writes = (*verified.writes, event, *browser, *network, *notice)
        return VerifiedPasskey(verified.user, verified.passkey, verified.use, writes)


def usable_passkeys(server: AuthorizationServer, sub: str) -> list[Passkey]:
    """Return the passkeys of a user that belong to the domain of this server. One call, none without a domain."""
    domain = server.settings.passkey_domain
    passkeys = server.store.passkeys.find("sub", sub) if domain else ()
    return [passkey for passkey in passkeys if passkey.rp_id == domain]


def second_factor_options(server: AuthorizationServer, passkeys: list[Passkey], purpose: Purpose) -> str:
    """Return the options for the page of the second factor, "" if the user has none of these passkeys."""
    return passkey_options.sign_in_options(server, purpose, passkeys) if passkeys else ""


def verify_passkey_of(
    server: AuthorizationServer,
    http: Request,
    user: User,
    answer: str,
    purpose: Purpose,
    *,
    user_verification: bool = False,
) -> VerifiedPasskey:
    """Return the use of a passkey by a user who is known, such as one whose password was right. One read.

    `purpose`: that of the page's options. `user_verification`: the authenticator must have verified the user. Raises
    PasskeyError.
    """
    if server.settings.passkey_domain is None:
        raise PasskeyError("passkey_unavailable")
    assertion = read_assertion(answer)
    if assertion.user_handle not in ("", user.sub):
        raise PasskeyError("passkey_unknown", "the passkey belongs to another user")
    passkey = server.store.passkeys.get(user.sub, assertion.passkey_id)
    return _verify(server, http, assertion, purpose, passkey, user, user_verification=user_verification)


def _verify(
    server: AuthorizationServer,
    http: Request,
    answer: Assertion,
    purpose: Purpose,
    passkey: Passkey | None,
    user: User | None,
    *,
    user_verification: bool = True,
) -> VerifiedPasskey:
    if passkey is None or user is None:
        raise PasskeyError("passkey_unknown", "there is no such passkey")
    origins = server.settings.passkey_origins
    use = check_assertion(answer, passkey, origins, purpose.checks(server), user_verification=user_verification)
    if user.disabled_at is not None or user.is_gone(server.now()):
        raise PasskeyError("passkey_not_verified", "the user is disabled, or deleted")
    copied = may_be_copied(passkey, use)
    accepted = not copied or passkey.backup_eligible  # devices that share a passkey need not share its counter
    writes: tuple[Write[Any], ...] = ()
    if copied:
        detail = f"{passkey.name or 'passkey'}, {'accepted' if accepted else 'rejected'}"
        writes = (events.record(server.store, http, events.PASSKEY_COUNTER, user.sub, detail=detail),)
    if not accepted:
        server.store.transact(*writes)
        raise PasskeyError("passkey_counter", "the counter has not increased")
    changing = _counting(server, passkey, use)
    return VerifiedPasskey(
        user, passkey, use, (changing, passkey_options.spending(server, answer.client_data), *writes)
    )


def _counting(server: AuthorizationServer, passkey: Passkey, use: Use) -> Write[Passkey]:
    """Return the write of this use, which is refused when another one has moved the counter in between."""
    passkeys = server.store.passkeys
    changes: dict[str, Any] = {"last_used_at": server.now(), "backed_up": use.backed_up}
    changes |= {"user_verified": use.user_verified, "sign_count": max(use.sign_count, passkey.sign_count)}
    return passkeys.changing((passkey.sub, passkey.passkey_id), passkeys.unchanged(passkey, "sign_count"), changes)
