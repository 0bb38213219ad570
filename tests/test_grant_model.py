"""The life of a grant: the real server beside the written rules, in steps that Hypothesis chooses.

`Ruled` is the oracle: the rules for codes and refresh tokens, told once more in plain Python over plain values, with
no condition, no database and nothing of chalicelib. After each step the server must have answered as the rules say,
and the tables, and UserInfo, must agree with them.

HYPOTHESIS_PROFILE=deep walks a hundred times as far, at random: for an hour.
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

from chalicelib import sessions
from chalicelib.errors import TemporarilyUnavailable
from tests.browser import VERIFIER, Answer, basic
from tests.gateways import FRONTS, FrontBrowser
from tests.site import PASSWORD, STAGE, Registered, Site, tables

OPENID = frozenset({"openid", "email", "profile"})
OFFLINE = frozenset({"offline_access"})
ACCESS, ABSOLUTE, WINDOW, KEPT, OUTAGE = 600, 7200, 10, 4, 600
CODE = {"web": 60, "phone": 30, "kiosk": 60}
# None: gets no refresh token. The phone's ends before an access token would.
REFRESH: dict[str, int | None] = {"web": 3600, "phone": 300, "kiosk": None}
HOME = "https://client.example.com/cb"
ELSEWHERE = "https://client.example.com/other"
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


# ---- the rules


@dataclass(repr=False)
class Ruled:
    """A grant as the rules see it. `until` is the end of its record, which slides; `end` is the end of refreshing.

    `replaced`: when each generation was. `codes` and the like are what was handed out.
    """

    client: str
    person: str
    session: int
    scope: frozenset[str]
    redirect_uri_sent: bool
    challenged: bool
    code: str
    until: int
    end: int
    code_end: int
    redeemed: bool = False
    revoked: bool = False
    generation: int = 0
    replaced: dict[int, int] = field(default_factory=dict)
    refresh_tokens: dict[int, str] = field(default_factory=dict)
    access_tokens: list[tuple[str, int, frozenset[str]]] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"{self.client}, generation {self.generation}"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:  # what Hypothesis prints
        printer.text(repr(self))

    def lives(self, now: int) -> bool:
        return not self.revoked and now < self.until

    def redeem(self, now: int, client: str, verifier: str | None, redirect_uri: str | None) -> str:
        """What becomes of it when its code is presented."""
        if not self.lives(now):
            return "ended"
        if client != self.client:
            return "another client's"
        uri_right = redirect_uri == HOME or (redirect_uri is None and not self.redirect_uri_sent)
        right = uri_right and verifier == (VERIFIER if self.challenged else None)
        if self.redeemed:
            self.revoked = right
            return "replayed" if right else "used, and wrong"
        if not right:
            self.revoked = True
            return "guessed"
        self.redeemed, self.generation = True, 1
        self.until = now + (REFRESH[client] or ACCESS)
        return "redeemed"

    def not_redeemed(self) -> str:
        """No token could be signed: the code counts again."""
        self.redeemed, self.generation, self.until = False, 0, self.code_end
        return "not redeemed"

    def refresh(self, now: int, client: str, generation: int, scope: frozenset[str]) -> str:
        """What becomes of it when a refresh token is presented."""
        if REFRESH[client] is None:
            return "unauthorized"
        if not self.lives(now) or now >= self.end or not self.redeemed:
            return "ended"
        if client != self.client:
            return "another client's"
        if not scope <= self.scope:
            return "too much"
        if generation == self.generation:
            self.replaced[generation] = now
            self.generation += 1
            self.until = now + (REFRESH[client] or 0)
            return "rotated"
        if self.generation - generation <= KEPT and now - self.replaced[generation] < WINDOW:
            return "again"
        self.revoked = True
        return "stolen"

    def not_refreshed(self, now: int, generation: int) -> str:
        """No token could be signed: whoever comes back within ten minutes gets the current one."""
        self.replaced[generation] = now + OUTAGE
        return "not refreshed"

    def revoke(self, now: int, client: str) -> str:
        """What becomes of it when its client revokes a token of it."""
        if now >= self.until:
            return "nothing to revoke"
        if client != self.client:
            return "another client's"
        self.revoked = True
        return "revoked"

    def boundaries(self) -> list[int]:
        """The moments at which a rule begins to say something else."""
        windows = (time + WINDOW for time in self.replaced.values())
        return [self.until, self.end, self.code_end, *windows, *(end for _, end, _ in self.access_tokens)]


ERRORS = {
    "ended": "invalid_grant",
    "another client's": "invalid_grant",
    "replayed": "invalid_grant",
    "used, and wrong": "invalid_grant",
    "guessed": "invalid_grant",
    "stolen": "invalid_grant",
    "too much": "invalid_scope",
    "unauthorized": "unauthorized_client",
    "not redeemed": "temporarily_unavailable",
    "not refreshed": "temporarily_unavailable",
}
GOOD = {"redeemed", "rotated", "again", "revoked", "nothing to revoke"}


# ---- the machine


class World:
    """What is there from the start, and only made once: applications, people, and the browsers of both people."""

    def __init__(self, site: Site):
        self.site = site
        shared: dict[str, Any] = {"trusted": True, "scope": "openid email profile offline_access"}
        self.clients: dict[str, Registered] = {
            "web": site.client(
                require_pkce=False, redirect_uris=[HOME], refresh_token_lifetime=REFRESH["web"], **shared
            ),
            "phone": site.client(
                public=True,
                redirect_uris=[HOME, ELSEWHERE],
                refresh_token_lifetime=REFRESH["phone"],
                authorization_code_lifetime=CODE["phone"],
                **shared,
            ),
            "kiosk": site.client(redirect_uris=[HOME], grant_types=["authorization_code"], **shared),
        }
        # Alice has two browsers, Bob has one.
        self.people = ["alice", "alice", "bob"]
        self.passwords = dict.fromkeys(self.people, PASSWORD)
        self.users = {name: site.user(name).sub for name in self.passwords}
        self.browsers = [FrontBrowser(site, FRONTS[4]) for _ in self.people]
        self.signed_in = [False] * 3
        self.born = site.clock.time

    def start_again(self) -> None:
        """Everybody is signed in, and there is no grant."""
        for name, table in tables().items():
            if name.endswith(("-grants", "-requests")):
                table.items.clear()
            elif name.endswith("-sessions"):
                for item in table.all_items():
                    item.attrs.pop("grants", None)
        self.site.clock.time = self.born
        for session, here in enumerate(self.signed_in):
            if not here:
                browser = self.browsers[session]
                self.sign_in(session, browser.authorize(self.clients["kiosk"]))

    def sign_in(self, session: int, page: Answer) -> Answer:
        """Fill in the page that asks who it is."""
        name = self.people[session]
        self.signed_in[session] = True
        return self.browsers[session].sign_in(page, name, self.passwords[name])


class Life(RuleBasedStateMachine):
    """The real server, and beside it what the rules say."""

    def __init__(self, world: World, seen: Counter[str]):
        super().__init__()
        world.start_again()
        self.world, self.site, self.seen = world, world.site, seen
        self.clients, self.browsers, self.people = world.clients, world.browsers, world.people
        self.signed_in = world.signed_in
        self.grants: list[Ruled] = []
        self.touched: list[Ruled] = []
        self.turn = 0

    @property
    def now(self) -> int:
        return self.site.clock.time

    @property
    def living(self) -> list[Ruled]:
        return [grant for grant in self.grants if grant.lives(self.now)]

    # ---- birth

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """Some grants to start with; two have been redeemed."""
        for session in range(3):
            self._issue(data, session)
        for grant in self.grants[:2]:
            self._redeem(grant, grant.client, VERIFIER if grant.challenged else None, HOME)

    @rule(data=st.data(), session=st.integers(0, 2))
    def issue(self, data: st.DataObject, session: int) -> None:
        """An authorization request, answered at once where the person is signed in."""
        self._issue(data, session)

    def _issue(self, data: st.DataObject, session: int) -> None:
        client = data.draw(st.sampled_from(["web", "web", "phone", "kiosk"]), "client")
        named = client != "web" or data.draw(st.booleans(), "redirect_uri named")
        challenged = client != "web" or data.draw(st.booleans(), "challenged")
        scope = OPENID if named else OPENID - {"openid"}
        scope |= OFFLINE if data.draw(st.booleans(), "offline") else frozenset()
        given: dict[str, Any] = {} if challenged else {"code_challenge": None, "code_challenge_method": None}
        given |= {"redirect_uri": HOME if named else None, "scope": " ".join(sorted(scope))}
        answer = self.browsers[session].authorize(self.clients[client], **given)
        name = self.people[session]
        if not self.signed_in[session]:
            self.seen["no grant after sign-out"] += 1
            assert answer.status == 200
            answer = self.world.sign_in(session, answer)
        code_end = self.now + CODE[client]
        end = self.now + (ABSOLUTE if REFRESH[client] else 0)
        self._touch(Ruled(client, name, session, scope, named, challenged, answer.code, code_end, end, code_end))
        self.grants.append(self.touched[0])

    # ---- the code

    @precondition(lambda self: self.living)
    @rule(
        data=st.data(),
        first=st.sampled_from(["right", "right", "unsigned", "somehow"]),
        then=st.sampled_from([None, None, "right", "somehow", "somehow"]),
    )
    def redeem(self, data: st.DataObject, first: str, then: str | None) -> None:
        """The code: rightly presented, or with whatever proof; then perhaps once more."""
        waiting = [grant for grant in self.living if not grant.redeemed]
        grant = data.draw(st.sampled_from([*waiting, *self.living]), "grant")
        for how in filter(None, (first, then)):
            proof: tuple[str, str | None, str | None] = grant.client, VERIFIER if grant.challenged else None, HOME
            if how == "somehow":  # mostly one thing is wrong
                proof = (
                    data.draw(st.sampled_from([proof[0], proof[0], *self.clients]), "client"),
                    data.draw(st.sampled_from([proof[1], proof[1], VERIFIER, OTHER_VERIFIER, None]), "verifier"),
                    data.draw(st.sampled_from([HOME, HOME, ELSEWHERE, None]), "redirect_uri"),
                )
            self._redeem(grant, *proof, signs=how != "unsigned")

    def _redeem(
        self, grant: Ruled, client: str, verifier: str | None, redirect_uri: str | None, *, signs: bool = True
    ) -> None:
        with nullcontext() if signs else self._signer_fails():
            answer = self.browsers[0].redeem(
                self.clients[client], grant.code, code_verifier=verifier, redirect_uri=redirect_uri
            )
        outcome = grant.redeem(self.now, client, verifier, redirect_uri)
        if outcome == "redeemed" and not signs:
            outcome = grant.not_redeemed()
        self._expect(grant, answer, outcome, grant.scope)

    # ---- its refresh tokens

    @precondition(lambda self: any(grant.refresh_tokens for grant in self.living))
    @rule(
        data=st.data(),
        times=st.integers(0, 6),
        seconds=st.sampled_from([0, 0, 1, 3, 10]),
        then=st.sampled_from(["no more", "the first", "the first", "the first, unsigned", "the last, unsigned"]),
    )
    def refresh(self, data: st.DataObject, times: int, seconds: int, then: str) -> None:
        """The newest refresh token, some times over; then again the one that was the newest before."""
        grant = data.draw(st.sampled_from([grant for grant in self.living if grant.refresh_tokens]), "grant")
        first = max(grant.refresh_tokens)
        for _ in range(times):
            self._refresh(grant, grant.client, max(grant.refresh_tokens))
            self.site.clock.advance(seconds)
        if then != "no more":
            presented = first if "first" in then else max(grant.refresh_tokens)
            self._refresh(grant, grant.client, presented, signs="unsigned" not in then)

    @precondition(lambda self: any(grant.refresh_tokens for grant in self.grants))
    @rule(data=st.data())
    def refresh_somehow(self, data: st.DataObject) -> None:
        """Any refresh token that was ever given out, by whatever client, for whatever scope."""
        grant = data.draw(st.sampled_from([grant for grant in self.grants if grant.refresh_tokens]), "grant")
        client = data.draw(st.sampled_from([grant.client, grant.client, *self.clients]), "client")
        scopes = [frozenset[str](), frozenset({"email"}), OPENID, OFFLINE, frozenset({"phone"})]
        generation = data.draw(st.sampled_from(sorted(grant.refresh_tokens)), "generation")
        self._refresh(grant, client, generation, data.draw(st.sampled_from(scopes), "scope"))

    def _refresh(
        self, grant: Ruled, client: str, generation: int, scope: frozenset[str] = frozenset(), *, signs: bool = True
    ) -> None:
        with nullcontext() if signs else self._signer_fails():
            asked = " ".join(sorted(scope)) or None
            answer = self.browsers[0].refresh(self.clients[client], grant.refresh_tokens[generation], scope=asked)
        outcome = grant.refresh(self.now, client, generation, scope)
        if outcome in ("rotated", "again") and not signs:
            outcome = grant.not_refreshed(self.now, generation)
        self._expect(grant, answer, outcome, scope or grant.scope)

    # ---- the end

    @precondition(lambda self: len(self.living) > 1)
    @rule(data=st.data(), how=st.sampled_from(["revoke", "revoke", "log out", "log out", "change the password"]))
    def end(self, data: st.DataObject, how: str) -> None:
        """A grant ends, or those of a session, or all that a person has."""
        known = [grant for grant in self.grants if grant.access_tokens]
        if how == "revoke" and known:
            self._revoke(data, data.draw(st.sampled_from(known), "grant"))
        elif how == "change the password":
            self._change_password(data.draw(st.sampled_from(self.people), "person"))
        else:
            self._log_out(data.draw(st.integers(0, 2), "session"))

    def _revoke(self, data: st.DataObject, grant: Ruled) -> None:
        """Any token of a grant, revoked by whatever client."""
        client = data.draw(st.sampled_from([grant.client, grant.client, *self.clients]), "client")
        handles = list(grant.refresh_tokens.values())
        by_handle = data.draw(st.booleans(), "by refresh token")
        if handles and by_handle:
            token, counts = data.draw(st.sampled_from(handles)), True
        else:
            token, end, _ = data.draw(st.sampled_from(grant.access_tokens))
            counts = self.now < end
        registered = self.clients[client]
        form = {"token": token, "client_id": registered.id, "client_secret": registered.secret}
        answer = self.browsers[0].post("/oauth2/revoke", {name: value for name, value in form.items() if value})
        outcome = grant.revoke(self.now, client) if counts else "nothing to revoke"
        self._note(grant, outcome)
        assert answer.status == (200 if outcome in GOOD else 400), (outcome, answer.body)
        assert answer.json.get("error") == ERRORS.get(outcome)

    def _log_out(self, session: int) -> None:
        """A session ends, and with it what has no `offline_access`."""
        if not self.signed_in[session]:
            return
        browser = self.browsers[session]
        assert browser.send(browser.get("/oauth2/logout"), decision="sign_out").status in (200, 303)
        self.signed_in[session] = False
        self.seen["logged out"] += 1
        self.touched = [grant for grant in self.living if grant.session == session]
        for grant in self.touched:
            grant.revoked = not grant.scope >= OFFLINE
            self.seen["kept by offline_access"] += not grant.revoked

    def _change_password(self, name: str) -> None:
        """Everything of a person's ends: their sessions, and all of their grants."""
        user = self.site.server.store.users.get(self.world.users[name])
        assert user
        password = f"{PASSWORD} {user.sessions_generation}"
        self.world.passwords[name] = password
        self.site.secrets.add(password)
        sessions.change_password(self.site.server.store, user, password)
        self.seen["password changed"] += 1
        for session, other in enumerate(self.people):
            self.signed_in[session] &= other != name
        self.touched = [grant for grant in self.living if grant.person == name]
        for grant in self.touched:
            grant.revoked = True

    # ---- time

    @rule(data=st.data(), seconds=st.sampled_from([-12, -1, 1, 3, 9, 10, 11, 30, 60, 300, None, None, None, None]))
    def wait(self, data: st.DataObject, seconds: int | None) -> None:
        """Time passes: so many seconds, or until just before, when, or just after something ends.

        It goes back when a request is answered by a server whose clock is behind.
        """
        moments = sorted({end for grant in self.grants for end in grant.boundaries() if end > self.now + 1})
        if seconds is not None:
            self.site.clock.advance(seconds)
        elif moments:
            self.site.clock.time = data.draw(st.sampled_from(moments[:4]), "moment") + data.draw(st.integers(-1, 1))

    # ---- what always holds

    @invariant()
    def the_table_agrees(self) -> None:
        """Read past the wire: it is looked at often, and a scan costs more than all the rest."""
        items = {item.hash_key.value: item.attrs for item in tables()[f"signet-{STAGE}-grants"].all_items()}
        for grant in self.grants:
            handle = self.site.server.keys.read_handle("code", grant.code)
            assert handle
            record = items[handle.id]
            assert ("revoked_at" in record) == grant.revoked, "what is revoked never comes back"
            assert int(record["generation"].value) == grant.generation, "there is one successor"
            assert ("redeemed_at" in record) == grant.redeemed
            assert int(record["expires_at"].value) == grant.until

    @invariant()
    def tokens_are_good_as_long_as_the_grant_lives(self) -> None:
        """Asked for the newest of what this step has touched; in the end for the oldest of all."""
        for grant in self.touched[:2]:
            for token in grant.access_tokens[-1:]:
                self._ask(grant, *token)
            if grant.client == "web":  # of the refresh tokens one is good, or none
                for generation in sorted(grant.refresh_tokens)[-2:]:
                    good = grant.lives(self.now) and self.now < grant.end and generation == grant.generation
                    assert self._introspect(grant, grant.refresh_tokens[generation]) == good
        self.touched = []

    def teardown(self) -> None:
        """In the end all are asked, and whatever has ended is tried once more."""
        for grant in self.grants:
            for token in grant.access_tokens[:1]:
                self._ask(grant, *token)
            if grant.refresh_tokens and not grant.lives(self.now):
                self._refresh(grant, grant.client, max(grant.refresh_tokens))
            elif not grant.lives(self.now):
                self._redeem(grant, grant.client, VERIFIER if grant.challenged else None, HOME)
        self.the_table_agrees()

    # ---- underneath

    def _signer_fails(self) -> Any:
        return mock.patch.object(self.site.server.keys, "sign", side_effect=TemporarilyUnavailable(detail="kms Sign"))

    def _touch(self, grant: Ruled) -> None:
        self.touched = [grant]

    def _note(self, grant: Ruled, outcome: str) -> None:
        self._touch(grant)
        self.seen[outcome] += 1

    def _expect(self, grant: Ruled, answer: Answer, outcome: str, scope: frozenset[str]) -> None:
        """The token endpoint answers as the rules say."""
        self._note(grant, outcome)
        members = answer.json
        assert members.get("error") == ERRORS.get(outcome), (outcome, members)
        if outcome not in GOOD:
            assert not {"access_token", "refresh_token", "id_token"} & set(members)
            return
        refreshes = REFRESH[grant.client] is not None
        end = min(self.now + ACCESS, grant.until, *([grant.end] if refreshes else []))
        assert members["expires_in"] == end - self.now
        assert members["scope"] == " ".join(sorted(scope))
        assert ("id_token" in members) == ("openid" in scope)
        grant.access_tokens.append((members["access_token"], end, scope))
        assert ("refresh_token" in members) == refreshes
        if refreshes:
            # One live successor, the same string however often it is asked for.
            current = members["refresh_token"]
            assert grant.refresh_tokens.setdefault(grant.generation, current) == current
            assert len(set(grant.refresh_tokens.values())) == len(grant.refresh_tokens)

    def _ask(self, grant: Ruled, token: str, end: int, scope: frozenset[str]) -> None:
        """UserInfo and introspection agree with the rules."""
        good = grant.lives(self.now) and self.now < end
        if "openid" not in scope:  # UserInfo never answers
            assert self._introspect(grant, token) == good
            return
        answer = self.browsers[0].userinfo(token)
        assert answer.status == (200 if good else 401), answer.body
        assert not good or answer.json["sub"] == self.world.users[grant.person]

    def _introspect(self, grant: Ruled, token: str) -> bool:
        client = self.clients[grant.client]
        answer = self.browsers[0].post("/oauth2/introspect", {"token": token}, basic(client.id, client.secret or ""))
        active: bool = answer.json["active"]
        return active


@pytest.mark.spec("RFC 6749 §4.1.2")
@pytest.mark.spec("RFC 6749 §6")
@pytest.mark.spec("RFC 7009 §2.1")
@pytest.mark.spec("RFC 7662 §2.2")
@pytest.mark.spec("RFC 9700 §4.14.2")
def test_the_life_of_grants_is_as_the_rules_have_it(site_with: Callable[..., Site]) -> None:
    year = 365 * 24 * 60 * 60
    site = site_with(refresh_token_absolute_lifetime=ABSOLUTE, session_idle_lifetime=year)
    seen: Counter[str] = Counter()

    world = World(site)

    class Here(Life):
        def __init__(self) -> None:
            super().__init__(world, seen)

    run_state_machine_as_test(Here, settings=PROFILE)
    if PROFILE.derandomize:
        # Otherwise it would prove nothing; what is left out here happens mostly.
        often = {"redeemed", "replayed", "rotated", "again", "stolen", "revoked", "logged out", "ended"}
        assert often <= set(seen), seen
