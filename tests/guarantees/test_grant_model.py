"""Model-based test of grants: Hypothesis chooses steps, which run on the server and on a model.

`ModelGrant` and `ModelSession` implement the rules for codes, refresh tokens and sessions a second time, in plain
Python, without a database and without chalicelib. The model has no generations: each ending marks what it ends,
by ENDED. After each step, responses, tables, UserInfo and introspection must match the model.

HYPOTHESIS_PROFILE=deep runs a hundred times as many random steps, for an hour.
"""

import copy
import os
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chalicelib.clients import registration
from chalicelib.keys.signing import thumbprint
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.protocol.records import User
from chalicelib.users import accounts
from chalicelib.users.password_change import change_password
from infra.operator.client_changes import with_profile
from tests.support.assertions import key_pair, signed
from tests.support.browser import VERIFIER, Answer, authorization_parameters, basic
from tests.support.gateways import HTTP_2, GatewayBrowser
from tests.support.proofs import PAR, public_jwk, userinfo, with_proof
from tests.support.site import PASSWORD, STAGE, Site, tables

OPENID = frozenset({"openid", "email", "profile"})
OFFLINE = frozenset({"offline_access"})
REGISTERED_SCOPE = OPENID | OFFLINE
STRICT = {"phone"}  # the clients that may not ask for more than was granted
ACCESS_TOKEN_LIFETIME, ABSOLUTE_LIFETIME, RETRY_WINDOW, RETRY_GENERATIONS, OUTAGE_RETRY_WINDOW = 600, 7200, 10, 4, 600
# Of sessions: shorter than the lifetime of most refresh tokens.
IDLE_LIFETIME, SESSION_LIFETIME = 400, 1000
CODE_LIFETIMES = {"web": 60, "phone": 30, "kiosk": 60, "terminal": 60, "wallet": 60, "bank": 60}
# None: no refresh tokens. Those of `phone` expire before its access tokens would.
REFRESH_TOKEN_LIFETIMES: dict[str, int | None] = {
    "web": 3600,
    "phone": 300,
    "kiosk": None,
    "terminal": 3600,
    "wallet": 3600,
    "bank": 3600,
}
# Clients that prove a key (DPoP): a public one, whose refresh tokens are bound to it, and one with the profile fapi2,
# whose refresh tokens are not rotated, and which gets no token without a proof.
WITH_KEY = {"wallet", "bank"}
KEYS = {name: key_pair("ES256", name) for name in ("own", "other")}
JKT = {name: thumbprint(public_jwk(pair)) for name, pair in KEYS.items()}
REDIRECT_URI = "https://client.example.com/cb"
OTHER_REDIRECT_URI = "https://client.example.com/other"
OTHER_VERIFIER = VERIFIER[::-1]

_common = settings(
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)
settings.register_profile("quick", _common, derandomize=True, max_examples=15, stateful_step_count=25)
settings.register_profile("prove", settings.get_profile("quick"), phases=[Phase.generate])
settings.register_profile("deep", _common, max_examples=1_000, stateful_step_count=50, print_blob=True)
PROFILE = settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


# ---- the model


BUTTONS = ("sign_out_others", "change_password", "revoke_application", "revoke_all")
OPERATOR_ENDINGS = ("user sign-out", "user disable", "user set-password", "grant revoke --user")
CLIENT_ENDINGS = ("grant revoke --client", "client registered again")
# ending -> the kinds of grants that it ends, of those of its session, user, user and client, or client
BOUND, WITHOUT_SESSION, WITH_OFFLINE, PLAIN = "bound to a session", "bound, HTTP Basic", "offline_access", "no openid"
ALL = {BOUND, WITHOUT_SESSION, WITH_OFFLINE, PLAIN}
ENDED = {
    "session": {BOUND},
    "all sessions": {BOUND, WITHOUT_SESSION},
    "user": ALL,
    "access": ALL,
    "client": ALL,
}


@dataclass(eq=False)
class ModelSession:
    """The session of a user in a browser. Its grants are valid until `expires_at`, the browser's until `active_until`.

    `id` is known once it has been stored.
    """

    username: str
    auth_time: int
    expires_at: int = 0
    active_until: int = 0
    ended: bool = False
    id: str = ""

    def sign_in(self, now: int) -> None:
        self.auth_time = now
        self.expires_at = self.active_until = self._end(now)

    def is_valid(self, now: int) -> bool:
        """Return whether the grants in it are valid."""
        return not self.ended and now < self.expires_at

    def is_signed_in(self, now: int) -> bool:
        return self.is_valid(now) and now < self.active_until

    def use_in_browser(self, now: int) -> bool:
        """Extend both times after a quarter of the shorter one; return whether they are extended."""
        if not self._is_due(min(self.active_until, self.expires_at), now):
            return False
        self.expires_at = self.active_until = self._end(now)
        return True

    def refresh(self, now: int) -> bool:
        """Extend the time of the grants after a quarter of it; return whether it is extended."""
        if not self._is_due(self.expires_at, now):
            return False
        self.expires_at = self._end(now)
        return True

    def _end(self, now: int) -> int:
        return min(now + IDLE_LIFETIME, self.auth_time + SESSION_LIFETIME)

    def _is_due(self, until: int, now: int) -> bool:
        return until < self._end(now) and until - now <= IDLE_LIFETIME * 3 // 4

    def boundary_times(self) -> list[int]:
        """Return the times at which the outcome of a request changes."""
        due = IDLE_LIFETIME * 3 // 4
        return [self.expires_at, self.active_until, self.expires_at - due, self.active_until - due]


@dataclass(repr=False)
class ModelGrant:
    """A grant in the model. `expires_at` is extended by each refresh, `ends_at` is final.

    `revoked`: by itself. `ended`: by the ending of what it depends on. `session`: None for HTTP Basic sign-in.
    `replaced` has the time when each generation was replaced. `code_key` and `refresh_key`: of KEYS, the one that the
    code and the refresh tokens are bound to, None without one. Each access token has its key too.
    """

    client: str
    username: str
    session: ModelSession | None
    scope: frozenset[str]
    redirect_uri_sent: bool
    challenged: bool
    code: str
    expires_at: int
    ends_at: int
    code_expires_at: int
    redeemed: bool = False
    revoked: bool = False
    ended: bool = False
    generation: int = 0
    replaced: dict[int, int] = field(default_factory=dict)
    refresh_tokens: dict[int, str] = field(default_factory=dict)
    access_tokens: list[tuple[str, int, frozenset[str], str | None]] = field(default_factory=list)
    code_key: str | None = None
    refresh_key: str | None = None

    def __repr__(self) -> str:
        return f"{self.client}, generation {self.generation}"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:  # used by Hypothesis
        printer.text(repr(self))

    @property
    def kind(self) -> str:
        if self.scope >= OFFLINE:
            return WITH_OFFLINE
        if "openid" not in self.scope:
            return PLAIN
        return BOUND if self.session else WITHOUT_SESSION

    def is_active(self, now: int) -> bool:
        """Return whether its own record is not revoked and not expired."""
        return not self.revoked and now < self.expires_at

    def is_valid(self, now: int) -> bool:
        in_valid_session = self.kind != BOUND or self.session is None or self.session.is_valid(now)
        return self.is_active(now) and not self.ended and in_valid_session

    def end(self, ending: str) -> None:
        """Mark it as ended if this ending ends grants of its kind."""
        self.ended = self.ended or self.kind in ENDED[ending]

    def redeem(
        self, now: int, client: str, verifier: str | None, redirect_uri: str | None, key: str | None = None
    ) -> str:
        """Return the outcome of a code exchange with a proof of a key, or without one."""
        if client == "bank" and key is None:
            return "no proof"
        if not self.is_active(now):
            return "ended"
        if client != self.client:
            return "another client's"
        uri_correct = redirect_uri == REDIRECT_URI or (redirect_uri is None and not self.redirect_uri_sent)
        correct = uri_correct and verifier == (VERIFIER if self.challenged else None)
        same_key = self.code_key in (None, key)
        if self.redeemed:
            self.revoked = correct and same_key
            return "replayed" if self.revoked else "redeemed, wrong proof"
        if not correct:
            self.revoked = True
            return "wrong proof"
        if not same_key:
            return "another key"
        if now >= self.code_expires_at:  # the record stays for a minute, so that the answer can be repeated
            return "ended"
        valid = self.is_valid(now)
        self.redeemed, self.generation = True, 1
        self.refresh_key = key if client == "wallet" else None
        self.expires_at = now + (REFRESH_TOKEN_LIFETIMES[client] or ACCESS_TOKEN_LIFETIME)
        self.revoked = not valid
        return "redeemed" if valid else "code no longer valid"

    def fail_redemption(self) -> str:
        """Undo the redemption because no token could be signed: the code is valid again."""
        self.redeemed, self.generation, self.expires_at = False, 0, self.code_expires_at
        self.refresh_key = None
        return "not redeemed"

    def refresh(self, now: int, client: str, generation: int, scope: frozenset[str], key: str | None = None) -> str:
        """Return the outcome of a refresh with a proof of a key, or without one."""
        if REFRESH_TOKEN_LIFETIMES[client] is None:
            return "unauthorized"
        if client == "bank" and key is None:
            return "no proof"
        if scope and not scope & REGISTERED_SCOPE:
            return "scope too wide"
        if not self.is_active(now) or now >= self.ends_at or not self.redeemed:
            return "ended"
        if client != self.client:
            return "another client's"
        if self.refresh_key not in (None, key):
            return "another key"
        if scope and not (scope <= self.scope if client in STRICT else scope & self.scope):
            return "scope too wide"
        outcome = "retried"
        if generation == self.generation:
            outcome = "kept"
            if client != "bank":
                outcome = "rotated"
                self.replaced[generation] = now
                self.generation += 1
            if client == "wallet":
                self.refresh_key = self.refresh_key or key
            self.expires_at = now + (REFRESH_TOKEN_LIFETIMES[client] or 0)
        elif self.generation - generation > RETRY_GENERATIONS or now - self.replaced[generation] >= RETRY_WINDOW:
            self.revoked = True
            return "reused"
        self.revoked = not self.is_valid(now)
        return "refresh token no longer valid" if self.revoked else outcome

    def fail_refresh(self, now: int, generation: int) -> str:
        """Extend the retry window to ten minutes because no token could be signed."""
        if generation != self.generation:
            self.replaced[generation] = now + OUTAGE_RETRY_WINDOW
        return "not refreshed"

    def revoke(self, now: int, client: str) -> str:
        """Return the outcome of a revocation request for a token of the grant."""
        if now >= self.expires_at:
            return "nothing to revoke"
        if client != self.client:
            return "another client's"
        self.revoked = True
        return "revoked"

    def boundary_times(self) -> list[int]:
        """Return the times at which the outcome of a request changes."""
        windows = (time + RETRY_WINDOW for time in self.replaced.values())
        access_tokens = (expires_at for _, expires_at, _, _ in self.access_tokens)
        return [self.expires_at, self.ends_at, self.code_expires_at, *windows, *access_tokens]


ERRORS = {
    "ended": "invalid_grant",
    "another client's": "invalid_grant",
    "replayed": "invalid_grant",
    "redeemed, wrong proof": "invalid_grant",
    "wrong proof": "invalid_grant",
    "reused": "invalid_grant",
    "code no longer valid": "invalid_grant",
    "refresh token no longer valid": "invalid_grant",
    "another key": "invalid_grant",
    "no proof": "invalid_dpop_proof",
    "scope too wide": "invalid_scope",
    "unauthorized": "unauthorized_client",
    "not redeemed": "temporarily_unavailable",
    "not refreshed": "temporarily_unavailable",
}
SUCCESSES = {"redeemed", "rotated", "kept", "retried", "revoked", "nothing to revoke"}


# ---- the state machine


class Environment:
    """Clients, users and browsers, which are created once, and restored for each run."""

    def __init__(self, site: Site):
        self.site = site
        shared: dict[str, Any] = {"scope": " ".join(REGISTERED_SCOPE), "redirect_uris": [REDIRECT_URI]}
        self.members: dict[str, dict[str, Any]] = {
            # The only one that asks for consent.
            "web": shared | {"require_pkce": False, "refresh_token_lifetime": REFRESH_TOKEN_LIFETIMES["web"]},
            "phone": shared
            | {
                "trusted": True,
                "public": True,
                "strict_scope": True,
                "redirect_uris": [REDIRECT_URI, OTHER_REDIRECT_URI],
                "refresh_token_lifetime": REFRESH_TOKEN_LIFETIMES["phone"],
                "authorization_code_lifetime": CODE_LIFETIMES["phone"],
            },
            "kiosk": shared | {"trusted": True, "grant_types": ["authorization_code"]},
            "terminal": shared
            | {
                "trusted": True,
                "direct_sign_in": True,
                "refresh_token_lifetime": REFRESH_TOKEN_LIFETIMES["terminal"],
            },
            "wallet": shared
            | {"trusted": True, "public": True, "refresh_token_lifetime": REFRESH_TOKEN_LIFETIMES["wallet"]},
        }
        bank = shared | {"trusted": True, "refresh_token_lifetime": REFRESH_TOKEN_LIFETIMES["bank"]}
        bank |= {"profile": "fapi2", "jwks": key_pair().jwks}
        self.members["bank"] = with_profile(bank, bank)
        self.clients = {name: site.client(**members) for name, members in self.members.items()}
        self.users = {name: site.user(name).sub for name in ("alice", "bob")}
        self.start_time = site.clock.time
        # Alice has two browsers.
        self.sessions: list[ModelSession] = []
        self.browsers = [self._sign_in(name) for name in ("alice", "alice", "bob")]
        self._cookies = [dict(browser.cookies) for browser in self.browsers]
        self._items = {name: copy.deepcopy(table.items) for name, table in tables().items() if "-keys" not in name}

    def _sign_in(self, username: str) -> GatewayBrowser:
        """Return a browser in which a user has signed in and has allowed OPENID."""
        browser = GatewayBrowser(self.site, HTTP_2)
        page = browser.sign_in(browser.authorize(self.clients["web"], scope=" ".join(OPENID)), username)
        if page.form.buttons:  # not allowed in another browser before
            page = browser.submit(page, decision="allow_always")
        assert page.code
        session = ModelSession(username, self.start_time)
        session.sign_in(self.start_time)
        session.id = self.session_id(browser)
        self.sessions.append(session)
        return browser

    def session_id(self, browser: GatewayBrowser) -> str:
        """Return the id of the session that a browser has a cookie for."""
        handle = self.site.server.keys.read_handle("sid", browser.cookies["signet-session"])
        assert handle
        return handle.id

    def restore(self) -> None:
        """Restore the tables, the cookies and the clock."""
        for name, table in tables().items():
            if name in self._items:
                table.items.clear()
                table.items.update(copy.deepcopy(self._items[name]))
        self.site.server.forget_cached_records()
        self.site.clock.time = self.start_time
        for browser, cookies in zip(self.browsers, self._cookies, strict=True):
            browser.cookies = dict(cookies)


class GrantMachine(RuleBasedStateMachine):
    """Runs each step on the server and on the model."""

    def __init__(self, env: Environment, outcomes: Counter[str]):
        super().__init__()
        env.restore()
        self.env, self.site, self.store, self.outcomes = env, env.site, env.site.server.store, outcomes
        self.clients, self.browsers = env.clients, env.browsers
        self.sessions = [replace(session) for session in env.sessions]
        # Of each browser; None after it has signed out.
        self.current: list[ModelSession | None] = [*self.sessions]
        self.passwords = dict.fromkeys(env.users, PASSWORD)
        self.remembered = dict.fromkeys(env.users, OPENID)  # by the client that asks for consent
        self.grants: list[ModelGrant] = []
        self.changed: list[ModelGrant] = []

    @property
    def now(self) -> int:
        return self.site.clock.time

    @property
    def active_grants(self) -> list[ModelGrant]:
        return [grant for grant in self.grants if grant.is_active(self.now)]

    # ---- creation

    @initialize(data=st.data())
    def create_initial_grants(self, data: st.DataObject) -> None:
        """Create grants, and redeem the codes of two."""
        for browser in range(3):
            self._issue(data, browser)
        for grant in self.grants[:2]:
            self._redeem(grant, grant.client, VERIFIER if grant.challenged else None, REDIRECT_URI)
        self._issue(data, 0, data.draw(st.sampled_from(sorted(WITH_KEY)), "with a key"))
        for key in data.draw(st.sampled_from([("own",), ("other", "own"), (None, "own")]), "keys"):
            self._redeem(self.grants[-1], self.grants[-1].client, VERIFIER, REDIRECT_URI, key=key)

    @rule(
        data=st.data(),
        browser=st.sampled_from([0, 1, 2, 0, 1, 2, None]),
        again=st.sampled_from([False, False, False, True]),
    )
    def issue(self, data: st.DataObject, browser: int | None, again: bool) -> None:
        """Send an authorization request, and sign in if there is no session, or again: perhaps as another user."""
        if browser is None:
            self._issue_directly(data)
        else:
            self._issue(data, browser, again=again)

    def _issue(self, data: st.DataObject, browser: int, client: str = "", *, again: bool = False) -> None:
        names = ["web", "web", "phone", "kiosk", *sorted(WITH_KEY)]
        client = client or data.draw(st.sampled_from(names), "client")
        uri_sent = client != "web" or data.draw(st.booleans(), "redirect_uri sent")
        challenged = client != "web" or data.draw(st.booleans(), "challenged")
        scope = OPENID if uri_sent else OPENID - {"openid"}
        scope |= OFFLINE if data.draw(st.booleans(), "offline") else frozenset()
        parameters: dict[str, Any] = {} if challenged else {"code_challenge": None, "code_challenge_method": None}
        parameters |= {"redirect_uri": REDIRECT_URI if uri_sent else None, "scope": " ".join(sorted(scope))}
        prompt = "login" if again and uri_sent else None
        code_key = data.draw(st.sampled_from(["own", "own", None]), "key of the code") if client in WITH_KEY else None
        parameters |= {"prompt": prompt, "dpop_jkt": JKT.get(code_key or "")}
        answer = self._authorize(browser, client, **parameters)
        if not self._use(browser) or prompt:
            self.outcomes["signed in again" if prompt else "no grant without a session"] += 1
            assert "password" in answer.form.fields, answer.body
            answer = self._sign_in(browser, answer, data.draw(st.sampled_from(["alice", "bob"]), "user"))
        session = self.current[browser]
        assert session
        if client == "web" and not scope <= self.remembered[session.username]:
            self.outcomes["asked for consent"] += 1
            assert ("decision", "allow") in answer.form.buttons, answer.body
            decision = data.draw(st.sampled_from(["allow_once", "allow_always"]), "decision")
            answer = self.browsers[browser].submit(answer, decision=decision)
            self.remembered[session.username] |= scope if decision == "allow_always" else frozenset()
        self._add_grant(answer, client, session.username, session, scope, uri_sent, challenged)
        self.grants[-1].code_key = code_key

    def _authorize(self, browser: int, client: str, **parameters: Any) -> Answer:
        """Send an authorization request; one with the profile fapi2 is pushed."""
        tab, registered = self.browsers[browser], self.clients[client]
        if client != "bank":
            return tab.authorize(registered, **parameters)
        answer = tab.post(PAR, authorization_parameters(registered, **parameters) | signed(self.site, registered))
        uri = answer.json["request_uri"]
        self.site.secrets.add(uri.rpartition(":")[2])
        return tab.get("/oauth2/authorize", client_id=registered.id, request_uri=uri)

    def _credentials(self, client: str) -> dict[str, str]:
        """Return the parameters of a client that authenticates by its key."""
        return signed(self.site, self.clients[client]) if client == "bank" else {}

    def _proof(self, key: str | None) -> dict[str, str]:
        return with_proof(self.site, pair=KEYS[key]) if key else {}

    def _issue_directly(self, data: st.DataObject) -> None:
        """Send an authorization request with HTTP Basic, which starts no session, and redeem the code."""
        username = data.draw(st.sampled_from(sorted(self.env.users)), "user")
        scope = data.draw(st.sampled_from([OPENID, OPENID, REGISTERED_SCOPE]), "scope")
        answer = GatewayBrowser(self.site, HTTP_2).authorize(
            self.clients["terminal"],
            "/oauth2/code",
            headers=basic(username, self.passwords[username]),
            scope=" ".join(sorted(scope)),
        )
        self._add_grant(answer, "terminal", username, None, scope, True, True)
        self._redeem(self.grants[-1], "terminal", VERIFIER, REDIRECT_URI)

    def _add_grant(
        self,
        answer: Answer,
        client: str,
        username: str,
        session: ModelSession | None,
        scope: frozenset[str],
        uri_sent: bool,
        challenged: bool,
    ) -> None:
        code_end = self.now + CODE_LIFETIMES[client]
        ends_at = self.now + (ABSOLUTE_LIFETIME if REFRESH_TOKEN_LIFETIMES[client] else 0)
        grant = ModelGrant(
            client, username, session, scope, uri_sent, challenged, answer.code, self.now + 60, ends_at, code_end
        )
        self.grants.append(grant)
        self.changed = [grant]

    # ---- sessions

    def _use(self, browser: int) -> bool:
        """Record that a browser has sent a request; return whether its user is signed in."""
        session = self.current[browser]
        if session is None or not session.is_signed_in(self.now):
            return False
        self.outcomes["session extended by the browser"] += session.use_in_browser(self.now)
        return True

    def _sign_in(self, browser: int, page: Answer, username: str) -> Answer:
        """Sign in on the sign-in page: a valid session of the same user continues, that of another one ends."""
        answer = self.browsers[browser].sign_in(page, username, self.passwords[username])
        session = self.current[browser]
        if session and session.is_valid(self.now) and session.username != username:
            self.outcomes["another user signed in"] += 1
            self._end_session(session)
        if session is None or not session.is_valid(self.now):
            session = ModelSession(username, self.now)
            self.sessions.append(session)
        session.sign_in(self.now)
        assert session.id in ("", self.env.session_id(self.browsers[browser]))
        session.id = self.env.session_id(self.browsers[browser])
        self.current[browser] = session
        return answer

    def _end_session(self, session: ModelSession) -> None:
        session.ended = True
        self._end_grants("session", lambda grant: grant.session is session)

    def _end_grants(self, ending: str, concerned: Callable[[ModelGrant], bool]) -> None:
        """End the grants that an ending is about, as far as it ends grants of their kind."""
        self.changed = [grant for grant in self.active_grants if concerned(grant)]
        for grant in self.grants:
            if concerned(grant):
                grant.end(ending)
        self.outcomes[f"ended with {ending}"] += sum(grant.ended for grant in self.changed)
        self.outcomes[f"not ended with {ending}"] += sum(not grant.ended for grant in self.changed)

    def _end_user_sessions(self, username: str, kept: ModelSession | None = None) -> None:
        for session in self.sessions:
            session.ended = session.ended or (session.username == username and session is not kept)

    # ---- the code

    @precondition(lambda self: self.active_grants)
    @rule(
        data=st.data(),
        first=st.sampled_from(["correct", "correct", "unsigned", "any"]),
        then=st.sampled_from([None, None, "correct", "any", "any"]),
    )
    def redeem(self, data: st.DataObject, first: str, then: str | None) -> None:
        """Redeem a code, with correct or any parameters, and perhaps once more."""
        unredeemed = [grant for grant in self.active_grants if not grant.redeemed]
        grant = data.draw(st.sampled_from([*unredeemed, *self.active_grants]), "grant")
        for variant in filter(None, (first, then)):
            verifier = VERIFIER if grant.challenged else None
            sent: tuple[str, str | None, str | None] = grant.client, verifier, REDIRECT_URI
            key = self._key(data, grant.client, any_key=False)
            if variant == "any":  # mostly one parameter is wrong
                sent = (
                    data.draw(st.sampled_from([sent[0], sent[0], *self.clients]), "client"),
                    data.draw(st.sampled_from([sent[1], sent[1], VERIFIER, OTHER_VERIFIER, None]), "verifier"),
                    data.draw(st.sampled_from([REDIRECT_URI, REDIRECT_URI, OTHER_REDIRECT_URI, None]), "redirect_uri"),
                )
                key = self._key(data, sent[0], any_key=True)
            self._redeem(grant, *sent, signed=variant != "unsigned", key=key)

    def _key(self, data: st.DataObject, client: str, *, any_key: bool) -> str | None:
        """Return the key that a client proves: mostly its own."""
        if client not in WITH_KEY:
            return None
        return data.draw(st.sampled_from(["own", "own", "other", None]), "key") if any_key else "own"

    def _redeem(
        self,
        grant: ModelGrant,
        client: str,
        verifier: str | None,
        redirect_uri: str | None,
        *,
        signed: bool = True,
        key: str | None = None,
    ) -> None:
        with nullcontext() if signed else self._signer_fails():
            answer = self.browsers[0].redeem(
                self.clients[client],
                grant.code,
                code_verifier=verifier,
                redirect_uri=redirect_uri,
                headers=self._proof(key),
                **self._credentials(client),
            )
        outcome = grant.redeem(self.now, client, verifier, redirect_uri, key)
        if outcome == "redeemed" and not signed:
            outcome = grant.fail_redemption()
        self._check_response(grant, answer, outcome, grant.scope, key)

    # ---- refresh tokens

    @precondition(lambda self: any(grant.refresh_tokens for grant in self.active_grants))
    @rule(
        data=st.data(),
        times=st.integers(0, 6),
        seconds=st.sampled_from([0, 0, 1, 3, 10]),
        due=st.sampled_from([None, None, 0, 0, -1]),
        then=st.sampled_from(["nothing", "the first", "the first", "the first, unsigned", "the last, unsigned"]),
    )
    def refresh(self, data: st.DataObject, times: int, seconds: int, due: int | None, then: str) -> None:
        """Use the newest refresh token several times, then perhaps the one that was the newest before.

        `due`: wait until so many seconds before or after the session is due to be extended.
        """
        grant = data.draw(st.sampled_from([grant for grant in self.active_grants if grant.refresh_tokens]), "grant")
        if due is not None and grant.session:
            self.site.clock.time = max(self.now, grant.session.boundary_times()[2] + due)
            times = max(times, 1)
        first, key = max(grant.refresh_tokens), self._key(data, grant.client, any_key=False)
        for _ in range(times):
            self._refresh(grant, grant.client, max(grant.refresh_tokens), key=key)
            self.site.clock.advance(seconds)
        if then != "nothing":
            presented = first if "first" in then else max(grant.refresh_tokens)
            self._refresh(grant, grant.client, presented, signed="unsigned" not in then, key=key)

    @precondition(lambda self: any(grant.refresh_tokens for grant in self.grants))
    @rule(data=st.data())
    def refresh_with_any_token(self, data: st.DataObject) -> None:
        """Use any refresh token that was ever issued, with any client and scope."""
        grants = [grant for grant in (*self.grants, *self.active_grants) if grant.refresh_tokens]
        grant = data.draw(st.sampled_from(grants), "grant")
        client = data.draw(st.sampled_from([*4 * [grant.client], *self.clients]), "client")
        scopes = [
            frozenset[str](),
            frozenset({"email"}),
            OPENID,
            OFFLINE,
            frozenset({"phone"}),
            frozenset({"email", "phone"}),
        ]
        generation = data.draw(st.sampled_from(sorted(grant.refresh_tokens)), "generation")
        key = self._key(data, client, any_key=True)
        self._refresh(grant, client, generation, data.draw(st.sampled_from(scopes), "scope"), key=key)

    def _refresh(
        self,
        grant: ModelGrant,
        client: str,
        generation: int,
        scope: frozenset[str] = frozenset(),
        *,
        signed: bool = True,
        key: str | None = None,
    ) -> None:
        with nullcontext() if signed else self._signer_fails():
            answer = self.browsers[0].refresh(
                self.clients[client],
                grant.refresh_tokens[generation],
                scope=" ".join(sorted(scope)) or None,
                headers=self._proof(key),
                **self._credentials(client),
            )
        outcome = grant.refresh(self.now, client, generation, scope, key)
        if outcome in ("rotated", "kept", "retried") and not signed:
            outcome = grant.fail_refresh(self.now, generation)
        elif outcome in ("rotated", "kept", "retried") and grant.kind == BOUND and grant.session:
            self.outcomes["session extended by a refresh"] += grant.session.refresh(self.now)
        self._check_response(grant, answer, outcome, scope & grant.scope or grant.scope, key)

    # ---- endings

    @precondition(lambda self: len(self.active_grants) > 1)
    @rule(
        data=st.data(), browser=st.integers(0, 2), ending=st.sampled_from(["sign out", *BUTTONS, "revoke_application"])
    )
    def end_in_browser(self, data: st.DataObject, browser: int, ending: str) -> None:
        """End a session, or what a button of the account page ends."""
        if ending == "sign out":
            self._sign_out(browser)
        else:
            self._press(browser, ending, data.draw(st.sampled_from(self.active_grants), "grant").client)

    @precondition(lambda self: len(self.active_grants) > 1)
    @rule(data=st.data(), ending=st.sampled_from([*5 * ["revoke"], *OPERATOR_ENDINGS, *CLIENT_ENDINGS]))
    def end_elsewhere(self, data: st.DataObject, ending: str) -> None:
        """End one grant, those of a user, or those of a client."""
        with_tokens = [grant for grant in self.grants if grant.access_tokens]
        if ending in OPERATOR_ENDINGS:
            self._end_by_operator(data.draw(st.sampled_from(sorted(self.env.users)), "user"), ending)
        elif ending in CLIENT_ENDINGS:
            self._end_with_client(data.draw(st.sampled_from(self.active_grants), "grant").client, ending)
        elif with_tokens:
            self._revoke(data, data.draw(st.sampled_from(with_tokens), "grant"))

    def _revoke(self, data: st.DataObject, grant: ModelGrant) -> None:
        """Revoke any token of a grant, with any client."""
        client = data.draw(st.sampled_from([*4 * [grant.client], *self.clients]), "client")
        handles = list(grant.refresh_tokens.values())
        by_handle = data.draw(st.booleans(), "by refresh token")
        if handles and by_handle:
            token, token_valid = data.draw(st.sampled_from(handles)), True
        else:
            token, expires_at, _, _ = data.draw(st.sampled_from(grant.access_tokens))
            token_valid = self.now < expires_at
        registered = self.clients[client]
        form = {"token": token, "client_id": registered.id, "client_secret": registered.secret}
        form |= self._credentials(client)
        answer = self.browsers[0].post("/oauth2/revoke", {name: value for name, value in form.items() if value})
        outcome = grant.revoke(self.now, client) if token_valid else "nothing to revoke"
        self._record_outcome(grant, outcome)
        assert answer.status == (200 if outcome in SUCCESSES else 400), (outcome, answer.body)
        assert answer.json.get("error") == ERRORS.get(outcome)

    def _sign_out(self, browser: int) -> None:
        """Sign out, which ends the session even if the user is no longer signed in."""
        session, tab = self.current[browser], self.browsers[browser]
        if session and session.is_valid(self.now):
            assert tab.send(tab.get("/oauth2/logout"), decision="sign_out").status in (200, 303)
            self._end_session(session)
            self.current[browser] = None

    def _press(self, browser: int, action: str, client: str) -> None:
        """Press a button of the account page, if the user is signed in."""
        session, page = self.current[browser], self.browsers[browser].get("/account/password")
        assert (page.status == 200) == self._use(browser)
        if page.status != 200 or session is None:
            return
        name = session.username
        fields: dict[str, str] = {}
        if action == "revoke_application":
            action, fields = "revoke", {"client_id": self.clients[client].id}
        elif action == "change_password":
            current, password = self.passwords[name], self._new_password(name)
            fields = {"password": current, "new_password": password, "new_password_again": password}
        answer = self.browsers[browser].send(page, None, action=action, **fields)
        assert answer.status == 303, answer.body
        if action == "sign_out_others":
            self._end_user_sessions(name, kept=session)
            self._end_grants("all sessions", lambda grant: grant.username == name and grant.session is not session)
        elif action == "change_password":
            self._end_user_sessions(name, kept=session)
            session.sign_in(self.now)
            self._end_grants("user", lambda grant: grant.username == name)
        elif action == "revoke":
            self._forget_consent(name, client)
            self._end_grants("access", lambda grant: grant.username == name and grant.client == client)
        else:
            self._forget_consent(name, "web")
            self._end_grants("user", lambda grant: grant.username == name)

    def _end_by_operator(self, username: str, action: str) -> None:
        user = self.store.users.get(self.env.users[username])
        assert user
        functions: dict[str, Callable[[User], User]] = {
            "user sign-out": lambda user: accounts.sign_out(self.store, user),
            "user disable": lambda user: accounts.enable(self.store, accounts.disable(self.store, user)),
            "user set-password": lambda user: change_password(self.store, user, self._new_password(username)),
            "grant revoke --user": lambda user: accounts.end_all_grants(self.store, user),
        }
        functions[action](user)
        if action == "grant revoke --user":
            self._forget_consent(username, "web")
        else:
            self._end_user_sessions(username)
        ending = "all sessions" if action == "user sign-out" else "user"
        self._end_grants(ending, lambda grant: grant.username == username)

    def _end_with_client(self, client: str, ending: str) -> None:
        """End all grants of a client, or delete it and register another one with the same id."""
        registered = self.clients[client]
        record = self.store.clients.get(registered.id)
        assert record
        if ending == "client registered again":
            self.store.clients.delete(registered.id)
            self.site.client(client_id=registered.id, client_secret=registered.secret, **self.env.members[client])
        else:
            registration.end_all_grants(self.store, record)
        self.site.server.forget_cached_records()  # as after a minute
        self._end_grants("client", lambda grant: grant.client == client)
        for name in self.env.users:
            self._forget_consent(name, client)

    def _forget_consent(self, username: str, client: str) -> None:
        if client == "web":
            self.remembered[username] = frozenset()

    def _new_password(self, name: str) -> str:
        self.passwords[name] += "."
        self.site.secrets.add(self.passwords[name])
        return self.passwords[name]

    # ---- time

    @rule(data=st.data(), seconds=st.sampled_from([-12, -1, 1, 3, 9, 10, 11, 30, 60, 300, None, None, None, None]))
    def change_time(self, data: st.DataObject, seconds: int | None) -> None:
        """Change the time by some seconds, or to just before, at or just after a boundary time.

        It goes back when a request reaches a server whose clock is behind.
        """
        times = {time for grant in self.grants for time in grant.boundary_times()}
        times |= {time for session in self.sessions for time in session.boundary_times()}
        moments = sorted(time for time in times if time > self.now + 1)
        if seconds is not None:
            self.site.clock.advance(seconds)
        elif moments:
            self.site.clock.time = data.draw(st.sampled_from(moments[:4]), "moment") + data.draw(st.integers(-1, 1))

    # ---- invariants

    @invariant()
    def table_matches_the_model(self) -> None:
        """Read the tables of moto directly, which is much faster than a scan."""
        items = {item.hash_key.value: item.attrs for item in tables()[f"signet-{STAGE}-grants"].all_items()}
        for grant in self.grants:
            handle = self.site.server.keys.read_handle("code", grant.code)
            assert handle
            record = items[handle.id]
            assert ("revoked_at" in record) == grant.revoked, "a revoked grant stays revoked"
            assert int(record["generation"].value) == grant.generation, "one successor per refresh token"
            assert ("redeemed_at" in record) == grant.redeemed
            assert int(record["expires_at"].value) == grant.expires_at

    @invariant()
    def sessions_match_the_model(self) -> None:
        """A session that has ended stays so; all others have the times of the model."""
        items = {item.hash_key.value: item.attrs for item in tables()[f"signet-{STAGE}-sessions"].all_items()}
        users = {item.hash_key.value: item.attrs for item in tables()[f"signet-{STAGE}-users"].all_items()}
        for session in self.sessions:
            record, user = items[session.id], users[self.env.users[session.username]]
            same = record["sessions_generation"].value == user["sessions_generation"].value
            assert ("ended_at" in record or not same) == session.ended
            if not session.ended:
                times = (record["auth_time"], record["expires_at"], record["active_until"])
                expected = (session.auth_time, session.expires_at, session.active_until)
                assert tuple(int(time.value) for time in times) == expected

    @invariant()
    def tokens_are_valid_while_the_grant_is_active(self) -> None:
        """Check the newest tokens of the grants that the step has changed; teardown checks the oldest of all."""
        for grant in self.changed[:2]:
            for token in grant.access_tokens[-1:]:
                self._check_access_token(grant, *token)
            if grant.client in ("web", "terminal", "bank"):  # at most one refresh token is valid
                for generation in sorted(grant.refresh_tokens)[-2:]:
                    valid = grant.is_valid(self.now) and self.now < grant.ends_at and generation == grant.generation
                    assert self._is_active_by_introspection(grant, grant.refresh_tokens[generation]) == valid
        self.changed = []

    def teardown(self) -> None:
        """Check the oldest tokens, and use those of ended grants once more."""
        for grant in self.grants:
            for token in grant.access_tokens[:1]:
                self._check_access_token(grant, *token)
            key = "own" if grant.client in WITH_KEY else None
            if grant.refresh_tokens and not grant.is_valid(self.now):
                self._refresh(grant, grant.client, max(grant.refresh_tokens), key=key)
            elif not grant.is_valid(self.now):
                self._redeem(grant, grant.client, VERIFIER if grant.challenged else None, REDIRECT_URI, key=key)
        self.table_matches_the_model()
        self.sessions_match_the_model()

    # ---- helpers

    def _signer_fails(self) -> Any:
        return mock.patch.object(self.site.server.keys, "sign", side_effect=TemporarilyUnavailable(detail="kms Sign"))

    def _record_outcome(self, grant: ModelGrant, outcome: str) -> None:
        self.changed = [grant]
        self.outcomes[outcome] += 1

    def _check_response(
        self, grant: ModelGrant, answer: Answer, outcome: str, scope: frozenset[str], key: str | None
    ) -> None:
        """Check a response of the token endpoint to a request with a key against the outcome in the model."""
        self._record_outcome(grant, outcome)
        members = answer.json
        assert members.get("error") == ERRORS.get(outcome), (outcome, members)
        if outcome not in SUCCESSES:
            assert not {"access_token", "refresh_token", "id_token"} & set(members)
            return
        has_refresh_tokens = REFRESH_TOKEN_LIFETIMES[grant.client] is not None
        grant_end = min(grant.expires_at, grant.ends_at) if has_refresh_tokens else grant.expires_at
        expires_at = min(self.now + ACCESS_TOKEN_LIFETIME, grant_end)
        assert members["expires_in"] == expires_at - self.now
        assert members["scope"] == " ".join(sorted(scope))
        assert ("id_token" in members) == ("openid" in scope)
        assert members["token_type"] == ("DPoP" if key else "Bearer")
        grant.access_tokens.append((members["access_token"], expires_at, scope, key))
        assert ("refresh_token" in members) == has_refresh_tokens
        if has_refresh_tokens:
            # One valid successor, the same string in each retry.
            current = members["refresh_token"]
            assert grant.refresh_tokens.setdefault(grant.generation, current) == current
            assert len(set(grant.refresh_tokens.values())) == len(grant.refresh_tokens)

    def _check_access_token(
        self, grant: ModelGrant, token: str, expires_at: int, scope: frozenset[str], key: str | None
    ) -> None:
        """Check an access token at UserInfo, or by introspection without the scope `openid`.

        With a key, it is valid with a proof of this one only.
        """
        valid = grant.is_valid(self.now) and self.now < expires_at
        if "openid" not in scope:  # UserInfo rejects it
            if grant.client in ("phone", "wallet"):  # a public client cannot introspect
                return
            assert self._is_active_by_introspection(grant, token) == valid
            return
        browser = self.browsers[0]
        answer = userinfo(browser, token, pair=KEYS[key]) if key else browser.userinfo(token)
        assert answer.status == (200 if valid else 401), answer.body
        assert not valid or answer.json["sub"] == self.env.users[grant.username]
        if key:
            other = KEYS["other" if key == "own" else "own"]
            assert userinfo(browser, token, pair=other).status == browser.userinfo(token).status == 401

    def _is_active_by_introspection(self, grant: ModelGrant, token: str) -> bool:
        client = self.clients[grant.client]
        form, header = {"token": token} | self._credentials(grant.client), basic(client.id, client.secret or "")
        answer = self.browsers[0].post("/oauth2/introspect", form, header if client.secret else {})
        active: bool = answer.json["active"]
        return active


@pytest.mark.spec("RFC 6749 §4.1.2")
@pytest.mark.spec("RFC 6749 §6")
@pytest.mark.spec("RFC 7009 §2.1")
@pytest.mark.spec("RFC 7662 §2.2")
@pytest.mark.spec("RFC 9700 §4.14.2")
def test_grants_behave_as_the_model(site_with: Callable[..., Site]) -> None:
    site = site_with(
        refresh_token_absolute_lifetime=ABSOLUTE_LIFETIME,
        session_idle_lifetime=IDLE_LIFETIME,
        session_absolute_lifetime=SESSION_LIFETIME,
    )
    outcomes: Counter[str] = Counter()

    env = Environment(site)

    class Machine(GrantMachine):
        def __init__(self) -> None:
            super().__init__(env, outcomes)

    run_state_machine_as_test(Machine, settings=PROFILE)
    if PROFILE.derandomize:
        # Without these outcomes the run would prove little.
        assert {"redeemed", "replayed", "rotated", "retried", "reused", "revoked", "ended"} <= set(+outcomes), outcomes
        assert {"kept", "another key", "no proof"} <= set(+outcomes), outcomes
        rare_outcomes = {f"ended with {ending}" for ending in ENDED} | {"not ended with session", "asked for consent"}
        rare_outcomes |= {"code no longer valid", "refresh token no longer valid", "signed in again"}
        rare_outcomes |= {"session extended by the browser", "session extended by a refresh"}
        rare_outcomes |= {"another user signed in", "no grant without a session"}
        assert len(rare_outcomes - set(+outcomes)) <= 3, outcomes
