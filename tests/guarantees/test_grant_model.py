"""Model-based test of grants: Hypothesis chooses steps, which run on the server and on a model.

`ModelGrant` implements the rules for codes and refresh tokens a second time, in plain Python, without a database and
without chalicelib. After each step, responses, tables, UserInfo and introspection must match the model.

HYPOTHESIS_PROFILE=deep runs a hundred times as many random steps, for an hour.
"""

import os
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
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

from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.users.password_change import change_password
from tests.support.browser import VERIFIER, Answer, basic
from tests.support.gateways import GATEWAYS, GatewayBrowser
from tests.support.site import PASSWORD, STAGE, Registered, Site, tables

OPENID = frozenset({"openid", "email", "profile"})
OFFLINE = frozenset({"offline_access"})
ACCESS_TOKEN_LIFETIME, ABSOLUTE_LIFETIME, RETRY_WINDOW, RETRY_GENERATIONS, OUTAGE_RETRY_WINDOW = 600, 7200, 10, 4, 600
CODE_LIFETIMES = {"web": 60, "phone": 30, "kiosk": 60}
# None: no refresh tokens. Those of `phone` expire before its access tokens would.
REFRESH_TOKEN_LIFETIMES: dict[str, int | None] = {"web": 3600, "phone": 300, "kiosk": None}
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


@dataclass(repr=False)
class ModelGrant:
    """A grant in the model. `expires_at` is extended by each refresh, `ends_at` is final.

    `replaced` has the time when each generation was replaced.
    """

    client: str
    username: str
    session: int
    scope: frozenset[str]
    redirect_uri_sent: bool
    challenged: bool
    code: str
    expires_at: int
    ends_at: int
    code_expires_at: int
    redeemed: bool = False
    revoked: bool = False
    generation: int = 0
    replaced: dict[int, int] = field(default_factory=dict)
    refresh_tokens: dict[int, str] = field(default_factory=dict)
    access_tokens: list[tuple[str, int, frozenset[str]]] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"{self.client}, generation {self.generation}"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:  # used by Hypothesis
        printer.text(repr(self))

    def is_active(self, now: int) -> bool:
        return not self.revoked and now < self.expires_at

    def redeem(self, now: int, client: str, verifier: str | None, redirect_uri: str | None) -> str:
        """Return the outcome of a code exchange."""
        if not self.is_active(now):
            return "ended"
        if client != self.client:
            return "another client's"
        uri_correct = redirect_uri == REDIRECT_URI or (redirect_uri is None and not self.redirect_uri_sent)
        correct = uri_correct and verifier == (VERIFIER if self.challenged else None)
        if self.redeemed:
            self.revoked = correct
            return "replayed" if correct else "redeemed, wrong proof"
        if not correct:
            self.revoked = True
            return "wrong proof"
        self.redeemed, self.generation = True, 1
        self.expires_at = now + (REFRESH_TOKEN_LIFETIMES[client] or ACCESS_TOKEN_LIFETIME)
        return "redeemed"

    def fail_redemption(self) -> str:
        """Undo the redemption because no token could be signed: the code is valid again."""
        self.redeemed, self.generation, self.expires_at = False, 0, self.code_expires_at
        return "not redeemed"

    def refresh(self, now: int, client: str, generation: int, scope: frozenset[str]) -> str:
        """Return the outcome of a refresh."""
        if REFRESH_TOKEN_LIFETIMES[client] is None:
            return "unauthorized"
        if not self.is_active(now) or now >= self.ends_at or not self.redeemed:
            return "ended"
        if client != self.client:
            return "another client's"
        if not scope <= self.scope:
            return "scope too wide"
        if generation == self.generation:
            self.replaced[generation] = now
            self.generation += 1
            self.expires_at = now + (REFRESH_TOKEN_LIFETIMES[client] or 0)
            return "rotated"
        if self.generation - generation <= RETRY_GENERATIONS and now - self.replaced[generation] < RETRY_WINDOW:
            return "retried"
        self.revoked = True
        return "reused"

    def fail_refresh(self, now: int, generation: int) -> str:
        """Extend the retry window to ten minutes because no token could be signed."""
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
        access_tokens = (expires_at for _, expires_at, _ in self.access_tokens)
        return [self.expires_at, self.ends_at, self.code_expires_at, *windows, *access_tokens]


ERRORS = {
    "ended": "invalid_grant",
    "another client's": "invalid_grant",
    "replayed": "invalid_grant",
    "redeemed, wrong proof": "invalid_grant",
    "wrong proof": "invalid_grant",
    "reused": "invalid_grant",
    "scope too wide": "invalid_scope",
    "unauthorized": "unauthorized_client",
    "not redeemed": "temporarily_unavailable",
    "not refreshed": "temporarily_unavailable",
}
SUCCESSES = {"redeemed", "rotated", "retried", "revoked", "nothing to revoke"}


# ---- the state machine


class Environment:
    """Clients, users and browsers, which are created once."""

    def __init__(self, site: Site):
        self.site = site
        shared: dict[str, Any] = {"trusted": True, "scope": "openid email profile offline_access"}
        self.clients: dict[str, Registered] = {
            "web": site.client(
                require_pkce=False,
                redirect_uris=[REDIRECT_URI],
                refresh_token_lifetime=REFRESH_TOKEN_LIFETIMES["web"],
                **shared,
            ),
            "phone": site.client(
                public=True,
                redirect_uris=[REDIRECT_URI, OTHER_REDIRECT_URI],
                refresh_token_lifetime=REFRESH_TOKEN_LIFETIMES["phone"],
                authorization_code_lifetime=CODE_LIFETIMES["phone"],
                **shared,
            ),
            "kiosk": site.client(redirect_uris=[REDIRECT_URI], grant_types=["authorization_code"], **shared),
        }
        # The user of each browser: Alice has two.
        self.usernames = ["alice", "alice", "bob"]
        self.passwords = dict.fromkeys(self.usernames, PASSWORD)
        self.users = {name: site.user(name).sub for name in self.passwords}
        self.browsers = [GatewayBrowser(site, GATEWAYS[4]) for _ in self.usernames]
        self.signed_in = [False] * 3
        self.start_time = site.clock.time

    def reset(self) -> None:
        """Delete all grants and sign all users in."""
        for name, table in tables().items():
            if name.endswith(("-grants", "-requests")):
                table.items.clear()
            elif name.endswith("-sessions"):
                for item in table.all_items():
                    item.attrs.pop("grants", None)
        self.site.clock.time = self.start_time
        for session, is_signed_in in enumerate(self.signed_in):
            if not is_signed_in:
                browser = self.browsers[session]
                self.sign_in(session, browser.authorize(self.clients["kiosk"]))

    def sign_in(self, session: int, page: Answer) -> Answer:
        """Sign in on the sign-in page."""
        name = self.usernames[session]
        self.signed_in[session] = True
        return self.browsers[session].sign_in(page, name, self.passwords[name])


class GrantMachine(RuleBasedStateMachine):
    """Runs each step on the server and on the model."""

    def __init__(self, env: Environment, outcomes: Counter[str]):
        super().__init__()
        env.reset()
        self.env, self.site, self.outcomes = env, env.site, outcomes
        self.clients, self.browsers, self.usernames = env.clients, env.browsers, env.usernames
        self.signed_in = env.signed_in
        self.grants: list[ModelGrant] = []
        self.changed: list[ModelGrant] = []
        self.turn = 0

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
        for session in range(3):
            self._issue(data, session)
        for grant in self.grants[:2]:
            self._redeem(grant, grant.client, VERIFIER if grant.challenged else None, REDIRECT_URI)

    @rule(data=st.data(), session=st.integers(0, 2))
    def issue(self, data: st.DataObject, session: int) -> None:
        """Send an authorization request, and sign in if there is no session."""
        self._issue(data, session)

    def _issue(self, data: st.DataObject, session: int) -> None:
        client = data.draw(st.sampled_from(["web", "web", "phone", "kiosk"]), "client")
        uri_sent = client != "web" or data.draw(st.booleans(), "redirect_uri sent")
        challenged = client != "web" or data.draw(st.booleans(), "challenged")
        scope = OPENID if uri_sent else OPENID - {"openid"}
        scope |= OFFLINE if data.draw(st.booleans(), "offline") else frozenset()
        parameters: dict[str, Any] = {} if challenged else {"code_challenge": None, "code_challenge_method": None}
        parameters |= {"redirect_uri": REDIRECT_URI if uri_sent else None, "scope": " ".join(sorted(scope))}
        answer = self.browsers[session].authorize(self.clients[client], **parameters)
        name = self.usernames[session]
        if not self.signed_in[session]:
            self.outcomes["no grant after sign-out"] += 1
            assert answer.status == 200
            answer = self.env.sign_in(session, answer)
        code_end = self.now + CODE_LIFETIMES[client]
        ends_at = self.now + (ABSOLUTE_LIFETIME if REFRESH_TOKEN_LIFETIMES[client] else 0)
        grant = ModelGrant(client, name, session, scope, uri_sent, challenged, answer.code, code_end, ends_at, code_end)
        self.grants.append(grant)
        self.changed = [grant]

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
            if variant == "any":  # mostly one parameter is wrong
                sent = (
                    data.draw(st.sampled_from([sent[0], sent[0], *self.clients]), "client"),
                    data.draw(st.sampled_from([sent[1], sent[1], VERIFIER, OTHER_VERIFIER, None]), "verifier"),
                    data.draw(st.sampled_from([REDIRECT_URI, REDIRECT_URI, OTHER_REDIRECT_URI, None]), "redirect_uri"),
                )
            self._redeem(grant, *sent, signed=variant != "unsigned")

    def _redeem(
        self, grant: ModelGrant, client: str, verifier: str | None, redirect_uri: str | None, *, signed: bool = True
    ) -> None:
        with nullcontext() if signed else self._signer_fails():
            answer = self.browsers[0].redeem(
                self.clients[client], grant.code, code_verifier=verifier, redirect_uri=redirect_uri
            )
        outcome = grant.redeem(self.now, client, verifier, redirect_uri)
        if outcome == "redeemed" and not signed:
            outcome = grant.fail_redemption()
        self._check_response(grant, answer, outcome, grant.scope)

    # ---- refresh tokens

    @precondition(lambda self: any(grant.refresh_tokens for grant in self.active_grants))
    @rule(
        data=st.data(),
        times=st.integers(0, 6),
        seconds=st.sampled_from([0, 0, 1, 3, 10]),
        then=st.sampled_from(["nothing", "the first", "the first", "the first, unsigned", "the last, unsigned"]),
    )
    def refresh(self, data: st.DataObject, times: int, seconds: int, then: str) -> None:
        """Use the newest refresh token several times, then perhaps the one that was the newest before."""
        grant = data.draw(st.sampled_from([grant for grant in self.active_grants if grant.refresh_tokens]), "grant")
        first = max(grant.refresh_tokens)
        for _ in range(times):
            self._refresh(grant, grant.client, max(grant.refresh_tokens))
            self.site.clock.advance(seconds)
        if then != "nothing":
            presented = first if "first" in then else max(grant.refresh_tokens)
            self._refresh(grant, grant.client, presented, signed="unsigned" not in then)

    @precondition(lambda self: any(grant.refresh_tokens for grant in self.grants))
    @rule(data=st.data())
    def refresh_with_any_token(self, data: st.DataObject) -> None:
        """Use any refresh token that was ever issued, with any client and scope."""
        grant = data.draw(st.sampled_from([grant for grant in self.grants if grant.refresh_tokens]), "grant")
        client = data.draw(st.sampled_from([grant.client, grant.client, *self.clients]), "client")
        scopes = [frozenset[str](), frozenset({"email"}), OPENID, OFFLINE, frozenset({"phone"})]
        generation = data.draw(st.sampled_from(sorted(grant.refresh_tokens)), "generation")
        self._refresh(grant, client, generation, data.draw(st.sampled_from(scopes), "scope"))

    def _refresh(
        self,
        grant: ModelGrant,
        client: str,
        generation: int,
        scope: frozenset[str] = frozenset(),
        *,
        signed: bool = True,
    ) -> None:
        with nullcontext() if signed else self._signer_fails():
            scope_parameter = " ".join(sorted(scope)) or None
            answer = self.browsers[0].refresh(
                self.clients[client], grant.refresh_tokens[generation], scope=scope_parameter
            )
        outcome = grant.refresh(self.now, client, generation, scope)
        if outcome in ("rotated", "retried") and not signed:
            outcome = grant.fail_refresh(self.now, generation)
        self._check_response(grant, answer, outcome, scope or grant.scope)

    # ---- revocation

    @precondition(lambda self: len(self.active_grants) > 1)
    @rule(data=st.data(), variant=st.sampled_from(["revoke", "revoke", "sign out", "sign out", "change the password"]))
    def end_grants(self, data: st.DataObject, variant: str) -> None:
        """End one grant, those of a session, or all of a user."""
        with_tokens = [grant for grant in self.grants if grant.access_tokens]
        if variant == "revoke" and with_tokens:
            self._revoke(data, data.draw(st.sampled_from(with_tokens), "grant"))
        elif variant == "change the password":
            self._change_password(data.draw(st.sampled_from(self.usernames), "user"))
        else:
            self._sign_out(data.draw(st.integers(0, 2), "session"))

    def _revoke(self, data: st.DataObject, grant: ModelGrant) -> None:
        """Revoke any token of a grant, with any client."""
        client = data.draw(st.sampled_from([grant.client, grant.client, *self.clients]), "client")
        handles = list(grant.refresh_tokens.values())
        by_handle = data.draw(st.booleans(), "by refresh token")
        if handles and by_handle:
            token, token_valid = data.draw(st.sampled_from(handles)), True
        else:
            token, expires_at, _ = data.draw(st.sampled_from(grant.access_tokens))
            token_valid = self.now < expires_at
        registered = self.clients[client]
        form = {"token": token, "client_id": registered.id, "client_secret": registered.secret}
        answer = self.browsers[0].post("/oauth2/revoke", {name: value for name, value in form.items() if value})
        outcome = grant.revoke(self.now, client) if token_valid else "nothing to revoke"
        self._record_outcome(grant, outcome)
        assert answer.status == (200 if outcome in SUCCESSES else 400), (outcome, answer.body)
        assert answer.json.get("error") == ERRORS.get(outcome)

    def _sign_out(self, session: int) -> None:
        """Sign out, which ends the session and its grants without `offline_access`."""
        if not self.signed_in[session]:
            return
        browser = self.browsers[session]
        assert browser.send(browser.get("/oauth2/logout"), decision="sign_out").status in (200, 303)
        self.signed_in[session] = False
        self.outcomes["signed out"] += 1
        self.changed = [grant for grant in self.active_grants if grant.session == session]
        for grant in self.changed:
            grant.revoked = not grant.scope >= OFFLINE
            self.outcomes["kept by offline_access"] += not grant.revoked

    def _change_password(self, name: str) -> None:
        """Change the password, which ends all sessions and grants of the user."""
        user = self.site.server.store.users.get(self.env.users[name])
        assert user
        password = f"{PASSWORD} {user.sessions_generation}"
        self.env.passwords[name] = password
        self.site.secrets.add(password)
        change_password(self.site.server.store, user, password)
        self.outcomes["password changed"] += 1
        for session, owner in enumerate(self.usernames):
            self.signed_in[session] &= owner != name
        self.changed = [grant for grant in self.active_grants if grant.username == name]
        for grant in self.changed:
            grant.revoked = True

    # ---- time

    @rule(data=st.data(), seconds=st.sampled_from([-12, -1, 1, 3, 9, 10, 11, 30, 60, 300, None, None, None, None]))
    def change_time(self, data: st.DataObject, seconds: int | None) -> None:
        """Change the time by some seconds, or to just before, at or just after a boundary time.

        It goes back when a request reaches a server whose clock is behind.
        """
        times = {time for grant in self.grants for time in grant.boundary_times() if time > self.now + 1}
        moments = sorted(times)
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
    def tokens_are_valid_while_the_grant_is_active(self) -> None:
        """Check the newest tokens of the grants that the step has changed; teardown checks the oldest of all."""
        for grant in self.changed[:2]:
            for token in grant.access_tokens[-1:]:
                self._check_access_token(grant, *token)
            if grant.client == "web":  # at most one refresh token is valid
                for generation in sorted(grant.refresh_tokens)[-2:]:
                    valid = grant.is_active(self.now) and self.now < grant.ends_at and generation == grant.generation
                    assert self._is_active_by_introspection(grant, grant.refresh_tokens[generation]) == valid
        self.changed = []

    def teardown(self) -> None:
        """Check the oldest tokens, and use those of ended grants once more."""
        for grant in self.grants:
            for token in grant.access_tokens[:1]:
                self._check_access_token(grant, *token)
            if grant.refresh_tokens and not grant.is_active(self.now):
                self._refresh(grant, grant.client, max(grant.refresh_tokens))
            elif not grant.is_active(self.now):
                self._redeem(grant, grant.client, VERIFIER if grant.challenged else None, REDIRECT_URI)
        self.table_matches_the_model()

    # ---- helpers

    def _signer_fails(self) -> Any:
        return mock.patch.object(self.site.server.keys, "sign", side_effect=TemporarilyUnavailable(detail="kms Sign"))

    def _record_outcome(self, grant: ModelGrant, outcome: str) -> None:
        self.changed = [grant]
        self.outcomes[outcome] += 1

    def _check_response(self, grant: ModelGrant, answer: Answer, outcome: str, scope: frozenset[str]) -> None:
        """Check a response of the token endpoint against the outcome in the model."""
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
        grant.access_tokens.append((members["access_token"], expires_at, scope))
        assert ("refresh_token" in members) == has_refresh_tokens
        if has_refresh_tokens:
            # One valid successor, the same string in each retry.
            current = members["refresh_token"]
            assert grant.refresh_tokens.setdefault(grant.generation, current) == current
            assert len(set(grant.refresh_tokens.values())) == len(grant.refresh_tokens)

    def _check_access_token(self, grant: ModelGrant, token: str, expires_at: int, scope: frozenset[str]) -> None:
        """Check an access token at UserInfo, or by introspection without the scope `openid`."""
        valid = grant.is_active(self.now) and self.now < expires_at
        if "openid" not in scope:  # UserInfo rejects it
            assert self._is_active_by_introspection(grant, token) == valid
            return
        answer = self.browsers[0].userinfo(token)
        assert answer.status == (200 if valid else 401), answer.body
        assert not valid or answer.json["sub"] == self.env.users[grant.username]

    def _is_active_by_introspection(self, grant: ModelGrant, token: str) -> bool:
        client = self.clients[grant.client]
        answer = self.browsers[0].post("/oauth2/introspect", {"token": token}, basic(client.id, client.secret or ""))
        active: bool = answer.json["active"]
        return active


@pytest.mark.spec("RFC 6749 §4.1.2")
@pytest.mark.spec("RFC 6749 §6")
@pytest.mark.spec("RFC 7009 §2.1")
@pytest.mark.spec("RFC 7662 §2.2")
@pytest.mark.spec("RFC 9700 §4.14.2")
def test_grants_behave_as_the_model(site_with: Callable[..., Site]) -> None:
    year = 365 * 24 * 60 * 60
    site = site_with(refresh_token_absolute_lifetime=ABSOLUTE_LIFETIME, session_idle_lifetime=year)
    outcomes: Counter[str] = Counter()

    env = Environment(site)

    class Machine(GrantMachine):
        def __init__(self) -> None:
            super().__init__(env, outcomes)

    run_state_machine_as_test(Machine, settings=PROFILE)
    if PROFILE.derandomize:
        # Without these outcomes the run would prove little.
        frequent_outcomes = {"redeemed", "replayed", "rotated", "retried", "reused", "revoked", "signed out", "ended"}
        assert frequent_outcomes <= set(outcomes), outcomes
