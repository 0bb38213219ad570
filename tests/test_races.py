"""What happens at once: real threads over HTTP, and changes put exactly between a read and the write that follows."""

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from chalicelib import access, passwords, sessions
from chalicelib.dynamodb import attr
from chalicelib.messages import Request
from chalicelib.models import Grant, User
from chalicelib.table import Refused
from tests import faults
from tests.browser import VERIFIER, Answer, Browser, basic
from tests.faults import Wire
from tests.site import PASSWORD, Registered, Site
from tests.threads import PATIENCE, at_once

Browsers = Callable[..., Browser]
WRONG_VERIFIER = VERIFIER[::-1]


@pytest.fixture
def user(site: Site) -> User:
    return site.user("alice")


def same_browser(browsers: Browsers, browser: Browser, tabs: int) -> list[Browser]:
    """The same browser several times, each with a connection of its own."""
    made = [browsers() for _ in range(tabs)]
    for tab in made:
        tab.cookies.update(browser.cookies)
    return made


def grants(site: Site) -> list[Grant]:
    return list(site.server.store.grants.scan())


def the_grant(site: Site) -> Grant:
    (grant,) = grants(site)
    return grant


def answers_with(answers: list[Answer], status: int) -> list[Answer]:
    return [answer for answer in answers if answer.status == status]


def assert_dead(browser: Browser, client: Registered, tokens: Answer) -> None:
    """None of these tokens opens anything."""
    assert browser.userinfo(tokens.json["access_token"]).status == 401
    assert browser.refresh(client, tokens.json["refresh_token"]).json["error"] == "invalid_grant"


# ---- codes


@pytest.mark.spec("RFC 6749 §4.1.2 d", "RFC 6749 §4.1.2 e")
@pytest.mark.spec("RFC 6749 §4.1.2")
@pytest.mark.spec("RFC 9700 §2.1.1")
def test_a_code_redeemed_by_fifty_at_once_gives_tokens_to_one_and_then_ends(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client()
    code = browser.code(client)
    makers = [browsers() for _ in range(50)]
    answers = at_once(partial(b.redeem, client, code) for b in makers)
    (winner,) = answers_with(answers, 200)
    losers = answers_with(answers, 400)
    assert len(losers) == 49
    assert {answer.json["error"] for answer in losers} == {"invalid_grant"}
    assert not [answer for answer in losers if "token" in answer.body.replace("code", "")]
    assert the_grant(site).revoked_at is not None
    assert_dead(browser, client, winner)


@pytest.mark.spec("RFC 6749 §4.1.2")
def test_a_wrong_verifier_among_fifty_never_leaves_anybody_with_working_tokens(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client()
    code = browser.code(client)
    verifiers = [VERIFIER] * 25 + [WRONG_VERIFIER] + [VERIFIER] * 24
    makers = [(browsers(), verifier) for verifier in verifiers]
    answers = at_once(partial(b.redeem, client, code, code_verifier=v) for b, v in makers)
    winners = answers_with(answers, 200)
    assert len(winners) <= 1
    assert len(answers_with(answers, 400)) == 50 - len(winners)
    assert answers[25].status == 400
    assert the_grant(site).revoked_at is not None
    for winner in winners:
        assert_dead(browser, client, winner)


@pytest.mark.spec("RFC 7636 §4.6")
def test_a_wrong_verifier_that_comes_just_before_the_right_one_ends_the_code(
    site: Site, browser: Browser, browsers: Browsers, user: User, wire: Wire
) -> None:
    client, thief = site.client(), browsers()
    code = browser.code(client)
    with wire.before("UpdateItem", lambda: thief.redeem(client, code, code_verifier=WRONG_VERIFIER)):
        assert browser.redeem(client, code).json["error"] == "invalid_grant"
    assert the_grant(site).revoked_at is not None
    assert the_grant(site).redeemed_at is None


def test_a_wrong_verifier_that_comes_just_after_the_right_one_changes_nothing(
    site: Site, browser: Browser, browsers: Browsers, user: User, wire: Wire
) -> None:
    """Its first write is refused because of the verifier; before its second, the right one redeems the code."""
    client, thief = site.client(), browsers()
    code = browser.code(client)
    won: list[Answer] = []
    calls: list[str] = []

    def right_one_between(request: AWSPreparedRequest, proceed: faults.Proceed) -> AWSResponse:
        calls.append("UpdateItem")
        if len(calls) == 2:
            won.append(browser.redeem(client, code))
        return proceed()

    with wire.every("UpdateItem", right_one_between):
        assert thief.redeem(client, code, code_verifier=WRONG_VERIFIER).json["error"] == "invalid_grant"
    assert won[0].status == 200
    assert the_grant(site).revoked_at is None
    assert browser.userinfo(won[0].json["access_token"]).status == 200


# ---- refresh tokens


@pytest.mark.spec("RFC 9700 §4.14.2")
def test_a_refresh_token_used_by_twenty_at_once_is_rotated_once_and_all_get_its_successor(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client()
    tokens = browser.tokens(client)
    makers = [browsers() for _ in range(20)]
    answers = at_once(partial(b.refresh, client, tokens["refresh_token"]) for b in makers)
    assert len(answers_with(answers, 200)) == 20
    (successor,) = {answer.json["refresh_token"] for answer in answers}
    assert successor != tokens["refresh_token"]
    assert the_grant(site).generation == 2
    assert the_grant(site).revoked_at is None
    assert browser.userinfo(answers[7].json["access_token"]).status == 200
    assert browser.refresh(client, successor).status == 200


@pytest.mark.spec("RFC 7009 §2.1")
def test_revocation_wins_over_refreshes_at_the_same_time(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client()
    for _ in range(5):
        tokens = browser.tokens(client)
        makers = [browsers() for _ in range(10)]
        refreshing = [partial(b.refresh, client, tokens["refresh_token"]) for b in makers]
        revoker = browsers()
        form = {"token": tokens["refresh_token"], "client_id": client.id, "client_secret": client.secret}
        revoking = partial(revoker.post, "/oauth2/revoke", form)
        answers = at_once([*refreshing[:5], revoking, *refreshing[5:]])
        assert answers.pop(5).status == 200
        for answer in answers:
            if answer.status == 200:
                assert_dead(browser, client, answer)
            else:
                assert answer.json["error"] == "invalid_grant"
        assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert not [grant for grant in grants(site) if grant.revoked_at is None]


def test_revocation_just_before_a_rotation_wins(
    site: Site, browser: Browser, browsers: Browsers, user: User, wire: Wire
) -> None:
    client, revoker = site.client(), browsers()
    tokens = browser.tokens(client)
    form = {"token": tokens["access_token"], "client_id": client.id, "client_secret": client.secret}
    with wire.before("UpdateItem", lambda: revoker.post("/oauth2/revoke", form)):
        assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert the_grant(site).generation == 1


# ---- forms


def test_a_consent_form_posted_ten_times_at_once_gives_one_code(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client()
    page = browser.sign_in(browser.authorize(client))
    tabs = same_browser(browsers, browser, 10)
    answers = at_once(partial(tab.submit, page, decision="allow_once") for tab in tabs)
    (winner,) = answers_with(answers, 303)
    losers = answers_with(answers, 400)
    assert len(losers) == 9
    assert all("answered already" in answer.body for answer in losers)
    assert len(grants(site)) == 1
    assert browser.redeem(client, winner.code).status == 200


def test_allow_and_deny_at_once_give_one_answer(site: Site, browser: Browser, browsers: Browsers, user: User) -> None:
    client = site.client()
    page = browser.sign_in(browser.authorize(client))
    decisions = ["allow_once", "deny", "allow_always", "deny"] * 2
    tabs = zip(same_browser(browsers, browser, 8), decisions, strict=True)
    answers = at_once(partial(tab.submit, page, decision=d) for tab, d in tabs)
    (winner,) = answers_with(answers, 303)
    assert len(answers_with(answers, 400)) == 7
    assert len(grants(site)) == ("code" in winner.answer)


def test_a_sign_in_form_posted_five_times_at_once_signs_in_but_gives_one_code(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client(trusted=True)
    page = browser.authorize(client)
    tabs = same_browser(browsers, browser, site.settings.sign_in_attempts)
    answers = at_once(partial(tab.sign_in, page) for tab in tabs)
    (winner,) = answers_with(answers, 303)
    assert len(answers_with(answers, 400)) == 4
    assert len(grants(site)) == 1
    assert browser.redeem(client, winner.code).status == 200


def test_signing_in_again_five_times_at_once_leaves_every_tab_signed_in_and_one_session_carried_on(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client()
    browser.tokens(client)
    before = dict(browser.cookies)
    page = browser.authorize(client, prompt="login")
    tabs = same_browser(browsers, browser, site.settings.sign_in_attempts)
    answers = at_once(partial(tab.sign_in, page) for tab in tabs)
    assert [answer.status for answer in answers] == [200] * 5
    assert len({tab.cookies["signet-session"] for tab in tabs}) == 5
    for tab in tabs:
        assert "decision" in tab.authorize(client).body
    # The cookie of before is worth nothing.
    browser.cookies.update(before)
    assert "password" in browser.authorize(client).form.fields
    carried_on = [session for session in site.server.store.sessions.scan() if session.generation > 1]
    assert [session.generation for session in carried_on] == [2]
    answers = at_once(partial(tab.submit, page, decision="allow_once") for tab, page in zip(tabs, answers, strict=True))
    assert len(answers_with(answers, 303)) == 1


def test_always_allow_from_two_tabs_with_different_scopes_remembers_both(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client(scope="openid email profile phone address")
    browser.sign_in(browser.authorize(client))
    scopes = ["openid email", "openid profile", "openid phone", "openid address"]
    pages = [browser.authorize(client, scope=scope) for scope in scopes]
    tabs = zip(same_browser(browsers, browser, 4), pages, strict=True)
    answers = at_once(partial(t.submit, page, decision="allow_always") for t, page in tabs)
    assert [answer.status for answer in answers] == [303] * 4
    assert len({answer.code for answer in answers}) == 4
    consent = site.server.store.consents.get(user.sub, client.id)
    assert consent is not None
    assert consent.scope == client.record.scopes
    # All are remembered now: nobody is asked.
    assert browser.authorize(client, scope=client.record.scope).code
    (session,) = site.server.store.sessions.scan()
    assert session.grants == {grant.grant_id for grant in grants(site)}


# ---- the end of a session, and of an account


def end_session(site: Site, user: User) -> None:
    for session in list(site.server.store.sessions.find("sub", user.sub, index="sub")):
        sessions.end(site.server, Request("POST", "/"), session)


def disable(site: Site, user: User) -> None:
    site.server.store.users.transition((user.sub,), None, {"disabled_at": site.clock.time})


def end_all_sessions(site: Site, user: User) -> None:
    step = attr("sessions_generation").eq(user.sessions_generation)
    changed = site.server.store.users.transition((user.sub,), step, {"sessions_generation": 9})
    assert not isinstance(changed, Refused)


def delete(site: Site, user: User) -> None:
    site.server.store.users.delete(user.sub)


ENDS = {
    "the session is ended": end_session,
    "the account is disabled": disable,
    "all sessions are ended": end_all_sessions,
    "the account is deleted": delete,
}


@pytest.mark.parametrize("end", ENDS)
def test_no_grant_is_born_with_a_remembered_consent_when_meanwhile(
    site: Site, browser: Browser, user: User, wire: Wire, end: str
) -> None:
    client = site.client()
    browser.code(client, decision="allow_always")
    born = grants(site)
    with wire.before("TransactWriteItems", lambda: ENDS[end](site, user)):
        page = browser.authorize(client)
    assert page.status == 200
    assert "password" in page.form.fields
    assert [grant.grant_id for grant in grants(site)] == [grant.grant_id for grant in born]


@pytest.mark.spec("OpenID Connect Core §3.1.2.6")
@pytest.mark.parametrize("end", ENDS)
def test_with_prompt_none_login_is_required_when_meanwhile(
    site: Site, browser: Browser, user: User, wire: Wire, end: str
) -> None:
    client = site.client()
    browser.code(client, decision="allow_always")
    with wire.before("TransactWriteItems", lambda: ENDS[end](site, user)):
        assert browser.authorize(client, prompt="none").answer["error"] == "login_required"
    assert len(grants(site)) == 1


@pytest.mark.parametrize("who", ["one application", "all of them"])
def test_no_grant_is_born_of_a_consent_that_is_withdrawn_meanwhile(
    site: Site, browser: Browser, browsers: Browsers, user: User, wire: Wire, who: str
) -> None:
    client = site.client(direct_sign_in=True)

    def withdraw() -> None:
        access.revoke(site.server, Request("POST", "/"), user.sub, client.id if who == "one application" else None)

    browser.code(client, decision="allow_always")
    with wire.before("TransactWriteItems", withdraw):
        page = browser.authorize(client)
    assert "allow_once" in [value for _, value in page.form.buttons]
    assert browser.submit(page, decision="allow_always").code
    with wire.before("TransactWriteItems", withdraw):
        assert browser.authorize(client, prompt="none").answer["error"] == "consent_required"
    assert browser.answer(client, decision="allow_always").code
    # The first transaction counts the try.
    with wire.before("TransactWriteItems", withdraw, spared=1):
        direct = browsers().authorize(client, "/oauth2/code", headers=basic("alice", PASSWORD))
    assert "password" in direct.form.fields
    assert [grant for grant in grants(site) if grant.revoked_at is None] == []


@pytest.mark.parametrize("end", ENDS)
def test_no_grant_is_born_and_nothing_is_remembered_by_a_decision_when_meanwhile(
    site: Site, browser: Browser, user: User, wire: Wire, end: str
) -> None:
    client = site.client()
    page = browser.sign_in(browser.authorize(client))
    with wire.before("TransactWriteItems", lambda: ENDS[end](site, user)):
        answer = browser.submit(page, decision="allow_always")
    assert answer.status == 200
    assert "password" in answer.form.fields
    assert grants(site) == []
    assert site.server.store.consents.get(user.sub, client.id) is None
    # The request still waits: who signs in again goes on.
    if end in ("the session is ended", "all sessions are ended"):
        assert browser.submit(browser.sign_in(answer), decision="allow_once").code


@pytest.mark.parametrize("end", ["the account is disabled", "all sessions are ended", "the account is deleted"])
def test_no_session_is_born_when_meanwhile(site: Site, browser: Browser, user: User, wire: Wire, end: str) -> None:
    client = site.client(trusted=True)
    page = browser.authorize(client)
    # The first transaction counts the try, the second begins the session.
    with wire.before("TransactWriteItems", lambda: ENDS[end](site, user), spared=1):
        assert browser.sign_in(page).answer["error"] == "access_denied"
    assert list(site.server.store.sessions.scan()) == []
    assert grants(site) == []
    assert "signet-session" not in browser.cookies


def test_a_grant_born_while_its_session_ends_is_ended_with_it_or_never_born(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client()
    browser.code(client, decision="allow_always")
    tabs = same_browser(browsers, browser, 12)
    actions: list[Callable[[], Answer | None]] = [partial(tab.authorize, client) for tab in tabs]
    actions.insert(6, partial(end_session, site, user))
    answers = [answer for answer in at_once(actions) if answer]
    codes = [answer.code for answer in answers if answer.status == 302]
    assert len(codes) + len(answers_with(answers, 200)) == 12
    assert len(grants(site)) == len(codes) + 1
    assert not [grant for grant in grants(site) if grant.revoked_at is None]
    for code in codes:
        assert browser.redeem(client, code).json["error"] == "invalid_grant"


def test_a_password_is_changed_once_by_two_at_once(
    site: Site, browser: Browser, browsers: Browsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, person = site.client(), site.user("root")
    site.server.store.users.put(replace(person, password_change_required=True))
    page = browser.sign_in(browser.authorize(client), "root")
    assert "new_password" in page.form.fields
    chosen = ["new password number 0", "new password number 1"]
    site.secrets.update(chosen)
    tabs = zip(same_browser(browsers, browser, 2), chosen, strict=True)
    # Both have been let in before one of them writes: whoever comes later is signed out already.
    both, hash_password = threading.Barrier(2, timeout=PATIENCE), passwords.hash_password

    def hash_together(password: str) -> str:
        both.wait()
        return hash_password(password)

    monkeypatch.setattr(passwords, "hash_password", hash_together)
    answers = at_once(partial(tab.submit, page, new_password=new, new_password_again=new) for tab, new in tabs)
    (winner,) = answers_with(answers, 200)
    (loser,) = answers_with(answers, 303)
    assert "decision" in winner.body
    assert loser.answer["error"] == "access_denied"
    another = browsers()
    page = another.authorize(client)
    assert "decision" in another.sign_in(page, "root", chosen[answers.index(winner)]).body


# ---- the key ring


def test_fifty_first_requests_to_five_servers_make_one_key_ring(
    without_ring: Site, browsers: Browsers, site_with: Callable[..., Site]
) -> None:
    servers = [site_with() for _ in range(5)]
    makers = [browsers(servers[number % 5]) for number in range(50)]
    answers = at_once(partial(b.get, "/oauth2/jwks") for b in makers)
    assert [answer.status for answer in answers] == [200] * 50
    assert len({answer.body for answer in answers}) == 1
    assert len(list(without_ring.server.store.keys.scan())) == 1
    # And a handle of one is a handle of all.
    handle = servers[0].server.keys.make_handle("req", "some-request")
    assert all(server.server.keys.read_handle("req", handle) for server in servers)
