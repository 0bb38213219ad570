"""Races: concurrent HTTP requests, and changes between a read and the write that follows."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from chalicelib.aws import messages as aws
from chalicelib.http.messages import Request
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.records import Session, User
from chalicelib.sessions import browser_sessions, connected_applications
from chalicelib.users import accounts
from tests.support import faults
from tests.support.account import is_signed_in, read_form, submit_form
from tests.support.browser import VERIFIER, Answer, Browser, authorization_parameters, basic
from tests.support.faults import Wire
from tests.support.site import PASSWORD, Registered, Site
from tests.support.threads import run_concurrently

Browsers = Callable[..., Browser]
WRONG_VERIFIER = VERIFIER[::-1]


@pytest.fixture
def user(site: Site) -> User:
    return site.user("alice")


def all_grants(site: Site) -> list[Grant]:
    return list(site.server.store.grants.scan())


def only_grant(site: Site) -> Grant:
    (grant,) = all_grants(site)
    return grant


def with_status(answers: list[Answer], status: int) -> list[Answer]:
    return [answer for answer in answers if answer.status == status]


def assert_invalid(browser: Browser, client: Registered, tokens: Answer) -> None:
    """Assert that the access token and the refresh token are invalid."""
    assert browser.userinfo(tokens.json["access_token"]).status == 401
    assert browser.refresh(client, tokens.json["refresh_token"]).json["error"] == "invalid_grant"


# ---- codes


@pytest.mark.spec("RFC 6749 §4.1.2 d", "RFC 6749 §4.1.2 e")
@pytest.mark.spec("RFC 6749 §4.1.2")
@pytest.mark.spec("RFC 9700 §2.1.1")
def test_fifty_concurrent_redemptions_of_a_code_give_one_response_with_tokens_and_revoke_the_grant(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client()
    code = browser.code(client)
    senders = [browsers() for _ in range(50)]
    answers = run_concurrently(partial(sender.redeem, client, code) for sender in senders)
    (winner,) = with_status(answers, 200)
    rejected = with_status(answers, 400)
    assert len(rejected) == 49
    assert {answer.json["error"] for answer in rejected} == {"invalid_grant"}
    assert not [answer for answer in rejected if "token" in answer.body.replace("code", "")]
    assert only_grant(site).revoked_at is not None
    assert_invalid(browser, client, winner)


@pytest.mark.spec("RFC 6749 §4.1.2")
def test_wrong_verifier_among_fifty_concurrent_redemptions_leaves_no_valid_token(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client()
    code = browser.code(client)
    verifiers = [VERIFIER] * 25 + [WRONG_VERIFIER] + [VERIFIER] * 24
    senders = [(browsers(), verifier) for verifier in verifiers]
    answers = run_concurrently(
        partial(sender.redeem, client, code, code_verifier=verifier) for sender, verifier in senders
    )
    winners = with_status(answers, 200)
    assert len(winners) <= 1
    assert len(with_status(answers, 400)) == 50 - len(winners)
    assert answers[25].status == 400
    assert only_grant(site).revoked_at is not None
    for winner in winners:
        assert_invalid(browser, client, winner)


@pytest.mark.spec("RFC 7636 §4.6")
def test_wrong_verifier_just_before_the_correct_one_revokes_the_code(
    site: Site, browser: Browser, browsers: Browsers, user: User, wire: Wire
) -> None:
    client, attacker = site.client(), browsers()
    code = browser.code(client)
    with wire.before("UpdateItem", lambda: attacker.redeem(client, code, code_verifier=WRONG_VERIFIER)):
        assert browser.redeem(client, code).json["error"] == "invalid_grant"
    assert only_grant(site).revoked_at is not None
    assert only_grant(site).redeemed_at is None


def test_wrong_verifier_just_after_the_correct_one_changes_nothing(
    site: Site, browser: Browser, browsers: Browsers, user: User, wire: Wire
) -> None:
    """Its first write fails because of the verifier; before its second, the code is redeemed with the correct one."""
    client, attacker = site.client(), browsers()
    code = browser.code(client)
    redemptions: list[Answer] = []
    calls: list[str] = []

    def redeem_before_second_call(request: aws.Request, proceed: faults.Proceed) -> aws.Response:
        calls.append("UpdateItem")
        if len(calls) == 2:
            redemptions.append(browser.redeem(client, code))
        return proceed()

    with wire.every("UpdateItem", redeem_before_second_call):
        assert attacker.redeem(client, code, code_verifier=WRONG_VERIFIER).json["error"] == "invalid_grant"
    assert redemptions[0].status == 200
    assert only_grant(site).revoked_at is None
    assert browser.userinfo(redemptions[0].json["access_token"]).status == 200


# ---- refresh tokens


@pytest.mark.spec("RFC 9700 §4.14.2")
def test_twenty_concurrent_refreshes_rotate_once_and_all_return_the_successor(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client()
    tokens = browser.tokens(client)
    senders = [browsers() for _ in range(20)]
    answers = run_concurrently(partial(sender.refresh, client, tokens["refresh_token"]) for sender in senders)
    assert len(with_status(answers, 200)) == 20
    (successor,) = {answer.json["refresh_token"] for answer in answers}
    assert successor != tokens["refresh_token"]
    assert only_grant(site).generation == 2
    assert only_grant(site).revoked_at is None
    assert browser.userinfo(answers[7].json["access_token"]).status == 200
    assert browser.refresh(client, successor).status == 200


@pytest.mark.spec("RFC 7009 §2.1")
def test_revocation_wins_over_concurrent_refreshes(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client()
    for _ in range(5):
        tokens = browser.tokens(client)
        senders = [browsers() for _ in range(10)]
        refreshing = [partial(sender.refresh, client, tokens["refresh_token"]) for sender in senders]
        revoker = browsers()
        form = {"token": tokens["refresh_token"], "client_id": client.id, "client_secret": client.secret}
        revoking = partial(revoker.post, "/oauth2/revoke", form)
        answers = run_concurrently([*refreshing[:5], revoking, *refreshing[5:]])
        assert answers.pop(5).status == 200
        for answer in answers:
            if answer.status == 200:
                assert_invalid(browser, client, answer)
            else:
                assert answer.json["error"] == "invalid_grant"
        assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert not [grant for grant in all_grants(site) if grant.revoked_at is None]


def test_revocation_just_before_a_rotation_wins(
    site: Site, browser: Browser, browsers: Browsers, user: User, wire: Wire
) -> None:
    client, revoker = site.client(), browsers()
    tokens = browser.tokens(client)
    form = {"token": tokens["access_token"], "client_id": client.id, "client_secret": client.secret}
    with wire.before("UpdateItem", lambda: revoker.post("/oauth2/revoke", form)):
        assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert only_grant(site).generation == 1


# ---- forms


def test_ten_concurrent_posts_of_a_consent_form_give_the_answer_and_repeat_it_three_times(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client()
    page = browser.sign_in(browser.authorize(client))
    tabs = [browsers(tab_of=browser) for _ in range(10)]
    answers = run_concurrently(partial(tab.submit, page, decision="allow_once") for tab in tabs)
    given, rejected = with_status(answers, 303), with_status(answers, 400)
    assert (len(given), len(rejected)) == (4, 6)
    assert all("answered already" in answer.body for answer in rejected)
    assert len({answer.code for answer in given}) == len(all_grants(site)) == 4
    assert all(browser.redeem(client, answer.code).status == 200 for answer in given)


def test_concurrent_allow_and_deny_give_codes_until_the_first_denial(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client()
    page = browser.sign_in(browser.authorize(client))
    decisions = ["allow_once", "deny", "allow_always", "deny"] * 2
    tabs = zip([browsers(tab_of=browser) for _ in decisions], decisions, strict=True)
    answers = run_concurrently(partial(tab.submit, page, decision=decision) for tab, decision in tabs)
    request = site.server.store.requests.get(page.form.fields["request_id"])
    assert request
    assert request.grant_id is None
    codes = ["code" in answer.answer for answer in answers]
    assert not any(code for code, decision in zip(codes, decisions, strict=True) if decision == "deny")
    assert len(all_grants(site)) == sum(codes)
    assert browser.submit(page, decision="allow_once").answer["error"] == "access_denied"


def test_five_concurrent_posts_of_a_sign_in_form_start_one_session_and_give_four_codes(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client(trusted=True)
    page = browser.authorize(client)
    tabs = [browsers(tab_of=browser) for _ in range(site.settings.sign_in_attempts)]
    answers = run_concurrently(partial(tab.sign_in, page) for tab in tabs)
    given = with_status(answers, 303)
    assert (len(given), len(with_status(answers, 400))) == (4, 1)
    assert len({answer.code for answer in given}) == len(all_grants(site)) == 4
    assert all(browser.redeem(client, answer.code).status == 200 for answer in given)
    assert len([*site.server.store.sessions.scan()]) == 1
    assert len({tab.cookies["signet-session"] for tab in tabs}) == 1


def test_five_concurrent_sign_ins_in_a_session_continue_it_or_start_another_and_invalidate_the_earlier_cookie(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client()
    tokens = browser.tokens(client)
    tabs = [browsers(tab_of=browser) for _ in range(site.settings.sign_in_attempts)]
    forms = [(tab, tab.authorize(client, prompt="login")) for tab in tabs]
    answers = run_concurrently(partial(tab.send, page, username="alice", password=PASSWORD) for tab, page in forms)
    assert [answer.status for answer in answers] == [303] * 5
    assert len({tab.cookies["signet-session"] for tab in tabs}) == 5
    sessions = list(site.server.store.sessions.scan())
    (continued,) = (session for session in sessions if session.generation > 1)
    assert continued.generation - 1 + len(sessions) - 1 == 5
    # Of the cookies for the continued session, the last one is valid.
    pages = [tab.authorize(client) for tab in tabs]
    assert sum("decision" in page.body for page in pages) == len(sessions)
    assert "password" in browser.authorize(client).form.fields
    assert browser.refresh(client, tokens["refresh_token"]).status == 200


def test_concurrent_consents_with_different_scopes_are_all_remembered(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client(scope="openid email profile phone address")
    browser.sign_in(browser.authorize(client))
    scopes = ["openid email", "openid profile", "openid phone", "openid address"]
    pages = [browser.authorize(client, scope=scope) for scope in scopes]
    tabs = zip([browsers(tab_of=browser) for _ in pages], pages, strict=True)
    answers = run_concurrently(partial(tab.submit, page, decision="allow_always") for tab, page in tabs)
    assert [answer.status for answer in answers] == [303] * 4
    assert len({answer.code for answer in answers}) == 4
    consent = site.server.store.consents.get(user.sub, client.id)
    assert consent is not None
    assert consent.scope == client.record.scopes
    # All scopes are remembered: no consent page.
    assert browser.authorize(client, scope=client.record.scope).code


def test_request_opened_by_two_browsers_is_bound_to_one(
    site: Site, browser: Browser, browsers: Browsers, wire: Wire
) -> None:
    client, other_browser = site.client(), browsers()
    parameters = authorization_parameters(client, state=None, login_hint="alice")
    location = browser.post("/oauth2/authorize", parameters).location
    assert location.startswith("/oauth2/authorize?request_uri=req_"), "stored, because it names a person"
    answers: list[Answer] = []
    with wire.before("UpdateItem", lambda: answers.append(other_browser.get(location))):
        assert browser.get(location).status == 400
    assert answers[0].status == 200
    assert other_browser.get(location).status == 200


def test_sign_in_while_the_session_ends_creates_another_session(
    site: Site, browser: Browser, browsers: Browsers, user: User, wire: Wire
) -> None:
    client = site.client(trusted=True)
    browser.code(client)
    tab = browsers(tab_of=browser)
    sign_out_page, page = tab.get("/oauth2/logout"), browser.authorize(client, prompt="login")
    with wire.before("TransactWriteItems", lambda: tab.send(sign_out_page, decision="sign_out")):
        assert browser.sign_in(page).code
    assert browser.authorize(client, prompt="none").code


def test_sign_ins_again_in_two_tabs_continue_one_session(
    site: Site, browser: Browser, browsers: Browsers, user: User, wire: Wire
) -> None:
    client = site.client(trusted=True)
    tokens = browser.tokens(client)
    tab = browsers(tab_of=browser)
    page, page_of_tab = browser.authorize(client, prompt="login"), tab.authorize(client, prompt="login")
    codes: list[str] = []
    with wire.before("TransactWriteItems", lambda: codes.append(tab.sign_in(page_of_tab).code), skip=1):
        codes.append(browser.sign_in(page).code)
    assert [session.generation for session in site.server.store.sessions.scan()] == [3]
    assert browser.authorize(client, prompt="none").code
    for code in codes:
        assert browser.redeem(client, code).status == 200
    # Signing out ends all of it.
    new_tokens = browser.tokens(client)
    browser.send(browser.get("/oauth2/logout"), decision="sign_out")
    for members in (tokens, new_tokens):
        assert browser.refresh(client, members["refresh_token"]).json["error"] == "invalid_grant"


# ---- changes of sessions and accounts


def end_sessions(site: Site, user: User) -> None:
    for session in list(site.server.store.sessions.find("sub", user.sub, index="sub")):
        browser_sessions.sign_out(site.server, Request("POST", "/"), session)


# Each is made by a function of the user's record.
CHANGES: dict[str, Callable[[Site, User], object]] = {
    "the session is ended": end_sessions,
    "the account is disabled": lambda site, user: accounts.disable(site.server.store, user),
    "all sessions are ended": lambda site, user: accounts.sign_out(site.server.store, user),
    "the account is deleted": lambda site, user: accounts.delete(site.server.store, user),
}
REMOVALS: dict[str, Callable[[Site, User, Registered], object]] = {
    "one": lambda site, user, client: connected_applications.remove_access(
        site.server, Request("POST", "/"), user.sub, client.id
    ),
    "all": lambda site, user, _client: connected_applications.remove_all_access(
        site.server, Request("POST", "/"), user
    ),
}


def assert_invalid_code(browser: Browser, client: Registered, answer: Answer) -> None:
    assert browser.redeem(client, answer.code).json["error"] == "invalid_grant"


@pytest.mark.parametrize("prompt", [None, "none"])
@pytest.mark.parametrize("change", CHANGES)
def test_code_for_a_remembered_consent_is_invalid_when_concurrently(
    site: Site, browser: Browser, user: User, wire: Wire, change: str, prompt: str | None
) -> None:
    client = site.client()
    browser.code(client, decision="allow_always")
    with wire.before("PutItem", lambda: CHANGES[change](site, user)):
        answer = browser.authorize(client, prompt=prompt)
    assert_invalid_code(browser, client, answer)
    assert "password" in browser.authorize(client).form.fields


@pytest.mark.spec("OpenID Connect Core §3.1.2.6")
@pytest.mark.parametrize("change", CHANGES)
def test_prompt_none_is_login_required_when_just_before_the_read(
    site: Site, browser: Browser, user: User, wire: Wire, change: str
) -> None:
    client = site.client()
    browser.code(client, decision="allow_always")
    with wire.before("BatchGetItem", lambda: CHANGES[change](site, user)):
        assert browser.authorize(client, prompt="none").answer["error"] == "login_required"


@pytest.mark.parametrize("applications", REMOVALS)
def test_code_is_invalid_and_consent_is_asked_for_when_it_is_removed_concurrently(
    site: Site, browser: Browser, browsers: Browsers, user: User, wire: Wire, applications: str
) -> None:
    client = site.client(direct_sign_in=True)

    def remove() -> object:
        return REMOVALS[applications](site, user, client)

    browser.code(client, decision="allow_always")
    with wire.before("PutItem", remove):
        answer = browser.authorize(client)
    assert_invalid_code(browser, client, answer)
    assert browser.authorize(client, prompt="none").answer["error"] == "consent_required"
    # The form was shown before: it asks again.
    page = browser.authorize(client)
    with wire.before("TransactWriteItems", remove):
        page = browser.submit(page, decision="allow_always")
    assert "allow" in [value for _, value in page.form.buttons]
    assert browser.redeem(client, browser.submit(page, decision="allow_always").code).status == 200
    # The first transaction counts the attempt.
    with wire.before("TransactWriteItems", remove, skip=1):
        direct = browsers().authorize(client, "/oauth2/code", headers=basic("alice", PASSWORD))
    assert_invalid_code(browser, client, direct)


@pytest.mark.parametrize("change", CHANGES)
def test_decision_yields_no_valid_grant_when_concurrently(
    site: Site, browser: Browser, user: User, wire: Wire, change: str
) -> None:
    client = site.client()
    page = browser.sign_in(browser.authorize(client))
    with wire.before("TransactWriteItems", lambda: CHANGES[change](site, user)):
        answer = browser.submit(page, decision="allow_always")
    # What also ends grants and consents is a condition of the transaction.
    if change in ("the account is disabled", "the account is deleted"):
        assert "password" in answer.form.fields
        assert all_grants(site) == []
        assert site.server.store.consents.get(user.sub, client.id) is None
    else:
        assert_invalid_code(browser, client, answer)
        # The user has allowed it.
        assert browser.sign_in(browser.authorize(client)).code


@pytest.mark.parametrize("change", ["the account is disabled", "all sessions are ended", "the account is deleted"])
def test_no_session_is_created_when_concurrently(
    site: Site, browser: Browser, user: User, wire: Wire, change: str
) -> None:
    client = site.client(trusted=True)
    page = browser.authorize(client)
    # The first transaction counts the attempt, the second creates the session.
    with wire.before("TransactWriteItems", lambda: CHANGES[change](site, user), skip=1):
        assert browser.sign_in(page).answer["error"] == "access_denied"
    assert list(site.server.store.sessions.scan()) == []
    assert all_grants(site) == []
    assert "signet-session" not in browser.cookies


def test_code_is_valid_when_another_tab_signs_in_again_concurrently(
    site: Site, browser: Browser, browsers: Browsers, user: User, wire: Wire
) -> None:
    """The earlier cookie becomes invalid, but the session and its grants stay."""
    client = site.client(trusted=True)
    browser.code(client)
    tab = browsers(tab_of=browser)
    page = tab.authorize(client, prompt="login")
    with wire.before("PutItem", lambda: tab.sign_in(page)):
        code = browser.authorize(client).code
    assert browser.redeem(client, code).status == 200
    assert "password" in browser.authorize(client).form.fields


def test_codes_created_while_their_session_ends_are_invalid(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client()
    browser.code(client, decision="allow_always")
    tabs = [browsers(tab_of=browser) for _ in range(12)]
    actions: list[Callable[[], Answer | None]] = [partial(tab.authorize, client) for tab in tabs]
    actions.insert(6, partial(end_sessions, site, user))
    answers = [answer for answer in run_concurrently(actions) if answer]
    codes = with_status(answers, 302)
    assert len(codes) + len(with_status(answers, 200)) == 12
    assert len(all_grants(site)) == len(codes) + 1
    for answer in codes:
        assert_invalid_code(browser, client, answer)


# ---- the buttons of the account page


def button(browser: Browser, path: str, action: str, **fields: str) -> Callable[[], Answer]:
    """Return the function that presses a button of an account page as it is shown now."""
    return partial(submit_form, browser, read_form(browser.get(path), action, **fields))


def test_sign_out_of_all_other_browsers_in_two_tabs_ends_the_others_once(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client(trusted=True)
    tokens, second_browser = browser.tokens(client), browsers()
    second_tokens = second_browser.tokens(client)
    tabs = [browsers(tab_of=browser) for _ in range(2)]
    answers = run_concurrently([button(tab, "/account/browsers", "sign_out_others") for tab in tabs])
    assert [answer.status for answer in answers] == [303] * 2
    assert is_signed_in(browser)
    assert not is_signed_in(second_browser)
    assert browser.refresh(client, tokens["refresh_token"]).status == 200
    assert browser.refresh(client, second_tokens["refresh_token"]).json["error"] == "invalid_grant"
    changed = site.server.store.users.get(user.sub)
    assert changed
    assert changed.sessions_generation == user.sessions_generation + 1


def test_sign_out_of_all_other_browsers_in_two_browsers_leaves_one(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client(trusted=True)
    both = [browser, browsers()]
    tokens = [each.tokens(client) for each in both]
    run_concurrently([button(each, "/account/browsers", "sign_out_others") for each in both])
    signed_in = [is_signed_in(each) for each in both]
    assert sorted(signed_in) == [False, True]
    refreshed = [browser.refresh(client, members["refresh_token"]).status == 200 for members in tokens]
    assert refreshed == signed_in


def test_sign_out_of_all_other_browsers_is_refused_when_the_other_one_was_faster(
    site: Site, browser: Browser, browsers: Browsers, user: User, wire: Wire
) -> None:
    second_browser = browsers()
    for each in (browser, second_browser):
        each.tokens(site.client(trusted=True))
    # Without the generation, which the page shows.
    press, press_second = (
        partial(each.send, each.get("/account/password"), action="sign_out_others")
        for each in (browser, second_browser)
    )
    with wire.before("TransactWriteItems", press_second):
        assert press().status == 400
    assert not is_signed_in(browser)
    assert is_signed_in(second_browser)


@pytest.mark.parametrize("change", ["sign in again", "sign out"])
def test_sign_out_of_all_other_browsers_is_done_or_refused_when_another_tab_changes_the_session(
    site: Site, browser: Browser, browsers: Browsers, user: User, wire: Wire, change: str
) -> None:
    client = site.client(trusted=True)
    tokens, second_browser = browser.tokens(client), browsers()
    second_browser.tokens(client)
    tab = browsers(tab_of=browser)
    sign_in_page, sign_out_page = tab.authorize(client, prompt="login"), tab.get("/oauth2/logout")
    changes: dict[str, Callable[[], Answer]] = {
        "sign in again": partial(tab.sign_in, sign_in_page),
        "sign out": partial(tab.send, sign_out_page, decision="sign_out"),
    }
    press = button(browser, "/account/browsers", "sign_out_others")
    with wire.before("TransactWriteItems", changes[change]):
        answer = press()
    stays = change == "sign in again"
    assert answer.status == (303 if stays else 400)
    assert is_signed_in(second_browser) != stays
    assert is_signed_in(tab) == stays
    assert (browser.refresh(client, tokens["refresh_token"]).status == 200) == stays


@pytest.mark.parametrize("action", ["revoke", "revoke_all"])
def test_access_removed_in_two_tabs_is_removed_once(
    site: Site, browser: Browser, browsers: Browsers, user: User, action: str
) -> None:
    clients = [site.client(scope="openid offline_access") for _ in range(2)]
    tokens = [browser.tokens(client, decision="allow_always", scope="openid offline_access") for client in clients]
    fields = {"client_id": clients[0].id} if action == "revoke" else {}
    tabs = [browsers(tab_of=browser) for _ in range(2)]
    answers = run_concurrently([button(tab, "/account", action, **fields) for tab in tabs])
    assert [answer.status for answer in answers] == [303] * 2
    statuses = [
        browser.refresh(client, members["refresh_token"]).status
        for client, members in zip(clients, tokens, strict=True)
    ]
    assert statuses == ([400, 200] if action == "revoke" else [400, 400])
    assert is_signed_in(browser)
    removals = [event for event in site.server.store.events.find("sub", user.sub) if event.name == "access_revoked"]
    assert len(removals) == 1


@pytest.mark.parametrize("action", ["revoke", "revoke_all"])
def test_form_that_was_shown_before_access_was_removed_ends_nothing_that_was_allowed_since(
    site: Site, browser: Browser, user: User, action: str
) -> None:
    clients = [site.client() for _ in range(2)]
    for client in clients:
        browser.tokens(client)
    fields = {"client_id": clients[0].id} if action == "revoke" else {}
    press = button(browser, "/account", action, **fields)
    assert press().status == 303
    tokens = browser.tokens(clients[0], decision="allow_always")
    assert press().status == 303
    assert browser.refresh(clients[0], tokens["refresh_token"]).status == 200
    assert browser.authorize(clients[0]).code


# ---- the extension of a session


@pytest.fixture
def soon_ended(site: Site, browser: Browser, user: User) -> tuple[Registered, dict[str, Any]]:
    """A client and its tokens, in a session that is extended at its next use."""
    client = site.client(trusted=True)
    tokens = browser.tokens(client)
    site.clock.advance(site.settings.session_idle_lifetime // 2)
    return client, tokens


def only_session(site: Site) -> Session:
    (session,) = site.server.store.sessions.scan()
    return session


@pytest.mark.parametrize("change", CHANGES)
def test_refresh_does_not_revive_a_session_that_ends_before_it_is_extended(
    site: Site, browser: Browser, user: User, wire: Wire, soon_ended: tuple[Registered, dict[str, Any]], change: str
) -> None:
    client, tokens = soon_ended
    # The first one rotates the refresh token, the second one extends the session.
    with wire.before("UpdateItem", lambda: CHANGES[change](site, user), skip=1):
        answer = browser.refresh(client, tokens["refresh_token"])
    assert answer.status == 200
    assert_invalid(browser, client, answer)
    assert not is_signed_in(browser)


def test_use_of_the_browser_does_not_revive_a_session_that_ends_before_it_is_extended(
    site: Site, browser: Browser, user: User, wire: Wire, soon_ended: tuple[Registered, dict[str, Any]]
) -> None:
    client, tokens = soon_ended
    before = only_session(site)
    with wire.before("UpdateItem", lambda: end_sessions(site, user)):
        answer = browser.authorize(client)
    assert_invalid_code(browser, client, answer)
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert only_session(site) == replace(before, ended_at=site.clock.time)


@pytest.mark.parametrize("use", ["refresh", "authorize"])
def test_extension_does_not_shorten_a_session_in_which_the_user_signs_in_again(
    site: Site, browser: Browser, browsers: Browsers, user: User, wire: Wire, use: str
) -> None:
    """The absolute lifetime of the earlier sign-in ends soon."""
    client = site.client(trusted=True)
    tokens = browser.tokens(client)
    settings = site.settings
    soon = site.clock.time + settings.session_idle_lifetime // 2
    changes = {"auth_time": soon + 60 - settings.session_absolute_lifetime, "expires_at": soon, "active_until": soon}
    store = site.server.store
    store.sessions.transition((only_session(site).session_id,), None, changes)
    tab = browsers(tab_of=browser)
    page = tab.authorize(client, prompt="login")
    store.sessions.transition((only_session(site).session_id,), None, changes)
    uses: dict[str, Callable[[], Answer]] = {
        "refresh": partial(browser.refresh, client, tokens["refresh_token"]),
        "authorize": partial(browser.authorize, client),
    }
    with wire.before("UpdateItem", lambda: tab.sign_in(page), skip=1 if use == "refresh" else 0):
        answer = uses[use]()
    assert answer.status in (200, 302)
    end = site.clock.time + settings.session_idle_lifetime
    assert (only_session(site).expires_at, only_session(site).active_until) == (end, end)
    assert is_signed_in(tab)


def test_extension_by_a_refresh_keeps_no_browser_signed_in(
    site: Site, browser: Browser, user: User, soon_ended: tuple[Registered, dict[str, Any]]
) -> None:
    client, tokens = soon_ended
    tokens = browser.refresh(client, tokens["refresh_token"]).json
    site.clock.advance(site.settings.session_idle_lifetime // 2)
    assert browser.refresh(client, tokens["refresh_token"]).status == 200
    assert not is_signed_in(browser)


@pytest.mark.parametrize("username", ["alice", "bob"])
def test_sign_in_in_a_lapsed_browser_continues_the_session_or_ends_that_of_another_user(
    site: Site, browser: Browser, user: User, soon_ended: tuple[Registered, dict[str, Any]], username: str
) -> None:
    """Otherwise its grants, which a refresh has kept valid, would not end when this browser is signed out."""
    site.user("bob")
    client, tokens = soon_ended
    tokens = browser.refresh(client, tokens["refresh_token"]).json
    site.clock.advance(site.settings.session_idle_lifetime // 2)
    assert browser.sign_in(browser.authorize(client), username).code
    answer = browser.refresh(client, tokens["refresh_token"])
    assert answer.status == (200 if username == "alice" else 400)
    browser.send(browser.get("/oauth2/logout"), decision="sign_out")
    if answer.status == 200:
        assert_invalid(browser, client, answer)


# ---- the key ring


def test_one_of_five_concurrent_creations_of_the_key_ring_succeeds_and_all_servers_use_its_ring(
    site_without_ring: Site, browsers: Browsers, site_with: Callable[..., Site]
) -> None:
    servers = [site_with() for _ in range(5)]
    created = run_concurrently(each.server.keys.create for each in servers)
    assert created.count(True) == 1
    senders = [browsers(servers[number % 5]) for number in range(50)]
    answers = run_concurrently(partial(sender.get, "/oauth2/jwks") for sender in senders)
    assert [answer.status for answer in answers] == [200] * 50
    assert len({answer.body for answer in answers}) == 1
    assert len(list(site_without_ring.server.store.keys.scan())) == 1
    # A handle of one server is valid in all.
    handle = servers[0].server.keys.make_handle("req", "some-request")
    assert all(server.server.keys.read_handle("req", handle) for server in servers)
