"""Races: concurrent HTTP requests, and changes between a read and the write that follows."""

from collections.abc import Callable
from functools import partial

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from chalicelib.http.messages import Request
from chalicelib.protocol.records import Grant, User
from chalicelib.sessions import browser_sessions, connected_applications
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.table import Refused
from tests.support import faults
from tests.support.browser import CHALLENGE, VERIFIER, Answer, Browser, basic
from tests.support.faults import Wire
from tests.support.site import PASSWORD, Registered, Site
from tests.support.threads import run_concurrently

Browsers = Callable[..., Browser]
WRONG_VERIFIER = VERIFIER[::-1]


@pytest.fixture
def user(site: Site) -> User:
    return site.user("alice")


def copies_of_browser(browsers: Browsers, browser: Browser, tabs: int) -> list[Browser]:
    """Return browsers with the same cookies, each with its own connection."""
    copies = [browsers() for _ in range(tabs)]
    for tab in copies:
        tab.cookies.update(browser.cookies)
    return copies


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

    def redeem_before_second_call(request: AWSPreparedRequest, proceed: faults.Proceed) -> AWSResponse:
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


def test_ten_concurrent_posts_of_a_consent_form_give_one_code(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client()
    page = browser.sign_in(browser.authorize(client))
    tabs = copies_of_browser(browsers, browser, 10)
    answers = run_concurrently(partial(tab.submit, page, decision="allow_once") for tab in tabs)
    (winner,) = with_status(answers, 303)
    rejected = with_status(answers, 400)
    assert len(rejected) == 9
    assert all("answered already" in answer.body for answer in rejected)
    assert len(all_grants(site)) == 1
    assert browser.redeem(client, winner.code).status == 200


def test_concurrent_allow_and_deny_give_one_response(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client()
    page = browser.sign_in(browser.authorize(client))
    decisions = ["allow_once", "deny", "allow_always", "deny"] * 2
    tabs = zip(copies_of_browser(browsers, browser, 8), decisions, strict=True)
    answers = run_concurrently(partial(tab.submit, page, decision=decision) for tab, decision in tabs)
    (winner,) = with_status(answers, 303)
    assert len(with_status(answers, 400)) == 7
    assert len(all_grants(site)) == ("code" in winner.answer)


def test_five_concurrent_posts_of_a_sign_in_form_give_one_code(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client(trusted=True)
    page = browser.authorize(client)
    tabs = copies_of_browser(browsers, browser, site.settings.sign_in_attempts)
    answers = run_concurrently(partial(tab.sign_in, page) for tab in tabs)
    (winner,) = with_status(answers, 303)
    assert len(with_status(answers, 400)) == 4
    assert len(all_grants(site)) == 1
    assert browser.redeem(client, winner.code).status == 200


def test_five_concurrent_sign_ins_with_a_session_give_a_session_each_and_continue_the_old_one_once(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client()
    browser.tokens(client)
    before = dict(browser.cookies)
    page = browser.authorize(client, prompt="login")
    tabs = copies_of_browser(browsers, browser, site.settings.sign_in_attempts)
    answers = run_concurrently(partial(tab.sign_in, page) for tab in tabs)
    assert [answer.status for answer in answers] == [200] * 5
    assert len({tab.cookies["signet-session"] for tab in tabs}) == 5
    for tab in tabs:
        assert "decision" in tab.authorize(client).body
    # The earlier cookie is invalid.
    browser.cookies.update(before)
    assert "password" in browser.authorize(client).form.fields
    continued = [session for session in site.server.store.sessions.scan() if session.generation > 1]
    assert [session.generation for session in continued] == [2]
    answers = run_concurrently(
        partial(tab.submit, page, decision="allow_once") for tab, page in zip(tabs, answers, strict=True)
    )
    assert len(with_status(answers, 303)) == 1


def test_concurrent_consents_with_different_scopes_are_all_remembered(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client(scope="openid email profile phone address")
    browser.sign_in(browser.authorize(client))
    scopes = ["openid email", "openid profile", "openid phone", "openid address"]
    pages = [browser.authorize(client, scope=scope) for scope in scopes]
    tabs = zip(copies_of_browser(browsers, browser, 4), pages, strict=True)
    answers = run_concurrently(partial(tab.submit, page, decision="allow_always") for tab, page in tabs)
    assert [answer.status for answer in answers] == [303] * 4
    assert len({answer.code for answer in answers}) == 4
    consent = site.server.store.consents.get(user.sub, client.id)
    assert consent is not None
    assert consent.scope == client.record.scopes
    # All scopes are remembered: no consent page.
    assert browser.authorize(client, scope=client.record.scope).code
    (session,) = site.server.store.sessions.scan()
    assert session.grants == {grant.grant_id for grant in all_grants(site)}


def test_request_opened_by_two_browsers_is_bound_to_one(
    site: Site, browser: Browser, browsers: Browsers, wire: Wire
) -> None:
    client, other_browser = site.client(), browsers()
    parameters = {"response_type": "code", "client_id": client.id, "redirect_uri": client.record.redirect_uris[0]}
    parameters |= {"scope": "openid", "code_challenge": CHALLENGE, "code_challenge_method": "S256"}
    location = browser.post("/oauth2/authorize", parameters).location
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
    (tab,) = copies_of_browser(browsers, browser, 1)
    sign_out_page, page = tab.get("/oauth2/logout"), browser.authorize(client, prompt="login")
    with wire.before("TransactWriteItems", lambda: tab.send(sign_out_page, decision="sign_out")):
        assert browser.sign_in(page).code
    assert browser.authorize(client, prompt="none").code


def test_sign_ins_again_in_two_tabs_have_a_session_each(
    site: Site, browser: Browser, browsers: Browsers, user: User, wire: Wire
) -> None:
    client = site.client(trusted=True)
    browser.code(client)
    (tab,) = copies_of_browser(browsers, browser, 1)
    page, page_of_tab = browser.authorize(client, prompt="login"), tab.authorize(client, prompt="login")
    with wire.before("TransactWriteItems", lambda: tab.sign_in(page_of_tab)):
        assert browser.sign_in(page).code
    assert browser.cookies["signet-session"] != tab.cookies["signet-session"]
    for each in (browser, tab):
        assert each.authorize(client, prompt="none").code


# ---- changes of sessions and accounts


def end_sessions(site: Site, user: User) -> None:
    for session in list(site.server.store.sessions.find("sub", user.sub, index="sub")):
        browser_sessions.sign_out(site.server, Request("POST", "/"), session)


def disable(site: Site, user: User) -> None:
    site.server.store.users.transition((user.sub,), None, {"disabled_at": site.clock.time})


def end_all_sessions(site: Site, user: User) -> None:
    step = attr("sessions_generation").eq(user.sessions_generation)
    changed = site.server.store.users.transition((user.sub,), step, {"sessions_generation": 9})
    assert not isinstance(changed, Refused)


def delete(site: Site, user: User) -> None:
    site.server.store.users.delete(user.sub)


CHANGES = {
    "the session is ended": end_sessions,
    "the account is disabled": disable,
    "all sessions are ended": end_all_sessions,
    "the account is deleted": delete,
}


@pytest.mark.parametrize("change", CHANGES)
def test_no_grant_is_created_with_a_remembered_consent_when_concurrently(
    site: Site, browser: Browser, user: User, wire: Wire, change: str
) -> None:
    client = site.client()
    browser.code(client, decision="allow_always")
    existing = all_grants(site)
    with wire.before("TransactWriteItems", lambda: CHANGES[change](site, user)):
        page = browser.authorize(client)
    assert page.status == 200
    assert "password" in page.form.fields
    assert [grant.grant_id for grant in all_grants(site)] == [grant.grant_id for grant in existing]


@pytest.mark.spec("OpenID Connect Core §3.1.2.6")
@pytest.mark.parametrize("change", CHANGES)
def test_prompt_none_is_login_required_when_concurrently(
    site: Site, browser: Browser, user: User, wire: Wire, change: str
) -> None:
    client = site.client()
    browser.code(client, decision="allow_always")
    with wire.before("TransactWriteItems", lambda: CHANGES[change](site, user)):
        assert browser.authorize(client, prompt="none").answer["error"] == "login_required"
    assert len(all_grants(site)) == 1


@pytest.mark.parametrize("applications", ["one", "all"])
def test_no_grant_is_created_when_the_consent_is_revoked_concurrently(
    site: Site, browser: Browser, browsers: Browsers, user: User, wire: Wire, applications: str
) -> None:
    client = site.client(direct_sign_in=True)

    def revoke_access() -> None:
        connected_applications.remove_access(
            site.server, Request("POST", "/"), user.sub, client.id if applications == "one" else None
        )

    browser.code(client, decision="allow_always")
    with wire.before("TransactWriteItems", revoke_access):
        page = browser.authorize(client)
    assert "allow_once" in [value for _, value in page.form.buttons]
    assert browser.submit(page, decision="allow_always").code
    with wire.before("TransactWriteItems", revoke_access):
        assert browser.authorize(client, prompt="none").answer["error"] == "consent_required"
    assert browser.answer(client, decision="allow_always").code
    # The first transaction counts the attempt.
    with wire.before("TransactWriteItems", revoke_access, skip=1):
        direct = browsers().authorize(client, "/oauth2/code", headers=basic("alice", PASSWORD))
    assert "password" in direct.form.fields
    assert [grant for grant in all_grants(site) if grant.revoked_at is None] == []


@pytest.mark.parametrize("change", CHANGES)
def test_decision_creates_no_grant_and_no_consent_when_concurrently(
    site: Site, browser: Browser, user: User, wire: Wire, change: str
) -> None:
    client = site.client()
    page = browser.sign_in(browser.authorize(client))
    with wire.before("TransactWriteItems", lambda: CHANGES[change](site, user)):
        answer = browser.submit(page, decision="allow_always")
    assert answer.status == 200
    assert "password" in answer.form.fields
    assert all_grants(site) == []
    assert site.server.store.consents.get(user.sub, client.id) is None
    # The request can still be answered after a new sign-in.
    if change in ("the session is ended", "all sessions are ended"):
        assert browser.submit(browser.sign_in(answer), decision="allow_once").code


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


def test_no_grant_is_created_with_a_session_cookie_that_has_just_been_replaced(
    site: Site, browser: Browser, browsers: Browsers, user: User, wire: Wire
) -> None:
    """Another tab signs in again, which invalidates the earlier cookie."""
    client = site.client(trusted=True)
    browser.code(client)
    (tab,) = copies_of_browser(browsers, browser, 1)
    page = tab.authorize(client, prompt="login")
    with wire.before("TransactWriteItems", lambda: tab.sign_in(page)):
        answer = browser.authorize(client)
    assert answer.status == 200
    assert "password" in answer.form.fields


def test_grants_created_while_their_session_ends_are_revoked(
    site: Site, browser: Browser, browsers: Browsers, user: User
) -> None:
    client = site.client()
    browser.code(client, decision="allow_always")
    tabs = copies_of_browser(browsers, browser, 12)
    actions: list[Callable[[], Answer | None]] = [partial(tab.authorize, client) for tab in tabs]
    actions.insert(6, partial(end_sessions, site, user))
    answers = [answer for answer in run_concurrently(actions) if answer]
    codes = [answer.code for answer in answers if answer.status == 302]
    assert len(codes) + len(with_status(answers, 200)) == 12
    assert len(all_grants(site)) == len(codes) + 1
    assert not [grant for grant in all_grants(site) if grant.revoked_at is None]
    for code in codes:
        assert browser.redeem(client, code).json["error"] == "invalid_grant"


# ---- the key ring


def test_fifty_concurrent_first_requests_to_five_servers_create_one_key_ring(
    site_without_ring: Site, browsers: Browsers, site_with: Callable[..., Site]
) -> None:
    servers = [site_with() for _ in range(5)]
    senders = [browsers(servers[number % 5]) for number in range(50)]
    answers = run_concurrently(partial(sender.get, "/oauth2/jwks") for sender in senders)
    assert [answer.status for answer in answers] == [200] * 50
    assert len({answer.body for answer in answers}) == 1
    assert len(list(site_without_ring.server.store.keys.scan())) == 1
    # A handle of one server is valid in all.
    handle = servers[0].server.keys.make_handle("req", "some-request")
    assert all(server.server.keys.read_handle("req", handle) for server in servers)
