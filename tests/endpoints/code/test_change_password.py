"""A password that an operator has set must be changed at the first sign-in, before a code is issued."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.protocol.next_step import RECENT
from chalicelib.protocol.records import User
from chalicelib.users.registration import register_user
from tests.endpoints.authorize.conftest import read_grant
from tests.endpoints.code.conftest import NEW_PASSWORD, WRONG_CREDENTIALS, count_grants, follow_back
from tests.support.browser import Answer, Browser, basic
from tests.support.site import PASSWORD, Registered, Site, dump_tables


@pytest.fixture
def admin(site: Site) -> tuple[User, str]:
    """The first administrator, and the random password that setup shows once."""
    site.secrets.add(NEW_PASSWORD)
    user, password = register_user(site.server.store, username="admin", admin=True)
    assert password
    site.secrets.add(password)
    return user, password


@pytest.fixture
def client(site: Site) -> Registered:
    """A trusted client, so that only the new password is needed before a code is issued."""
    return site.client(trusted=True, direct_sign_in=True)


@pytest.fixture
def page(browser: Browser, client: Registered, admin: tuple[User, str]) -> Answer:
    """The page that asks for the new password."""
    answer = browser.sign_in(browser.authorize(client), "admin", admin[1])
    assert asks_for_new_password(answer)
    return answer


def asks_for_new_password(answer: Answer) -> bool:
    return "new_password" in answer.form.fields and answer.header("location") is None


def test_first_password_is_random_and_changed_at_the_first_sign_in(
    site: Site, browsers: Callable[..., Browser], client: Registered, admin: tuple[User, str], page: Answer
) -> None:
    browser, first_password = browsers(), admin[1]
    assert len(first_password) >= 20
    answer = browser.sign_in(browser.authorize(client), "admin", first_password)
    answer = browser.submit(answer, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD)
    assert answer.code
    assert browser.authorize(client, prompt="none").code, "the user is signed in"
    other = browsers()
    old = other.sign_in(other.authorize(client), "admin", first_password)
    assert old.status == 400, "the old password is rejected"
    assert other.sign_in(other.authorize(client), "admin", NEW_PASSWORD).code, "the new one need not be changed"


def test_no_code_is_issued_before_the_password_is_changed(
    site: Site, browser: Browser, client: Registered, admin: tuple[User, str], page: Answer
) -> None:
    assert asks_for_new_password(browser.authorize(client))
    assert asks_for_new_password(browser.sign_in(browser.authorize(client, prompt="login"), "admin", admin[1]))
    assert asks_for_new_password(browser.get(page.url))
    direct = browser.authorize(client, "/oauth2/code", headers=basic("admin", admin[1]))
    assert asks_for_new_password(direct)
    assert browser.authorize(client, prompt="none").answer["error"] == "interaction_required"
    assert count_grants() == 0
    assert browser.submit(direct, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD).code


@pytest.mark.parametrize("decision", ["allow_once", "allow_always"])
def test_forged_decision_does_not_bypass_the_change(browser: Browser, page: Answer, decision: str) -> None:
    before = dump_tables()
    proof = {name: text for name, text in page.form.fields.items() if not name.startswith("new_")}
    passwords = {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}
    for fields in ({}, passwords):
        sent = proof | fields | {"decision": decision}
        answer = browser.post(page.form.action or "", sent, {"Sec-Fetch-Site": "same-origin"})
        assert asks_for_new_password(follow_back(browser, page, answer))
    assert dump_tables() == before


def test_earlier_consent_page_does_not_bypass_the_change(site: Site, browser: Browser) -> None:
    user = site.user()
    consent_page = browser.sign_in(browser.authorize(site.client()))
    site.server.store.users.put(replace(user, password_change_required=True))
    assert asks_for_new_password(browser.submit(consent_page, decision="allow_once"))
    assert count_grants() == 0


@pytest.mark.spec("NIST SP 800-63B §3.1.1")
@pytest.mark.parametrize(
    ("case", "fields", "message"),
    [
        ("too short", {"new_password": "7 chars"}, "at least 12 characters"),
        ("empty", {"new_password": ""}, "at least 12 characters"),
        ("common", {"new_password": "Dragon123456"}, "one of the most common ones"),
        ("the username", {"new_password": "admin-123456"}, "must not be your username"),
        ("the server's name", {"new_password": "Signet-123456"}, "must not be the name of this server"),
        ("too long", {"new_password": "x" * 1025}, "at most 1024 characters"),
        ("with NUL", {"new_password": "good enough\0"}, "character that cannot be used"),
        ("not repeated", {"new_password": NEW_PASSWORD, "new_password_again": None}, "differ"),
        (
            "repeated in upper case",
            {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD.upper()},
            "differ",
        ),
        ("the same as before", {"new_password": "OLD"}, "another password"),
        ("as HTML, not repeated", {"new_password": "<script>alert(1)</script>", "new_password_again": ""}, "differ"),
    ],
)
def test_unacceptable_new_password_is_rejected_with_a_message(
    site: Site,
    browser: Browser,
    admin: tuple[User, str],
    page: Answer,
    case: str,
    fields: dict[str, Any],
    message: str,
) -> None:
    passwords = {"new_password_again": fields["new_password"]} | fields
    sent = {name: admin[1] if value == "OLD" else value for name, value in passwords.items() if value is not None}
    form = {name: value for name, value in page.form.fields.items() if not name.startswith("new_")}
    rejected = browser.post(page.form.action or "", form | sent, {"Sec-Fetch-Site": "same-origin"})
    answer = follow_back(browser, page, rejected, message)
    assert asks_for_new_password(answer)
    assert "<script>" not in answer.body
    assert answer.form.fields["new_password"] == answer.form.fields["new_password_again"] == ""
    assert site.server.store.users.get(admin[0].sub) == admin[0]
    assert count_grants() == 0


def test_new_password_ends_all_other_sessions_and_grants(site: Site, browsers: Callable[..., Browser]) -> None:
    user = site.user()
    client = site.client(trusted=True)
    browser, other = browsers(), browsers()
    tokens = other.tokens(client, scope="openid offline_access")
    browser.code(client)
    site.server.store.users.put(replace(user, password_change_required=True))
    waiting_page = other.authorize(client)
    site.secrets.add(NEW_PASSWORD)
    assert browser.submit(browser.authorize(client), new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD).code

    assert browser.authorize(client, prompt="none").code
    assert other.authorize(client, prompt="none").answer["error"] == "login_required"
    assert other.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert other.userinfo(tokens["access_token"]).status == 401
    signed_out = other.submit(waiting_page, new_password=PASSWORD, new_password_again=PASSWORD)
    assert signed_out.status == 400
    assert "signed out" in signed_out.body
    assert WRONG_CREDENTIALS in other.sign_in(signed_out).body, "the old password is rejected"
    assert other.sign_in(signed_out, "alice", NEW_PASSWORD).code


def test_new_password_form_is_accepted_once(browser: Browser, page: Answer) -> None:
    assert browser.submit(page, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD).code
    answer = browser.submit(page, new_password=PASSWORD, new_password_again=PASSWORD)
    assert (answer.status, answer.header("location")) == (400, None)
    assert count_grants() == 1


def test_new_password_form_is_accepted_once_while_the_request_needs_consent(site: Site, browser: Browser) -> None:
    """It does not ask for the current password, so the next user of the browser must not be able to submit it."""
    user = site.user()
    site.server.store.users.put(replace(user, password_change_required=True))
    page = browser.sign_in(browser.authorize(site.client()))
    consent_page = browser.submit(page, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD)
    assert 'value="allow"' in consent_page.body
    changed = site.server.store.users.get(user.sub)
    for password in ("the pass phrase of another user", NEW_PASSWORD):
        answer = browser.submit(page, new_password=password, new_password_again=password)
        assert answer.status == 200
        assert 'value="allow"' in answer.body, "the page does not disclose whether that is the password"
        assert site.server.store.users.get(user.sub) == changed
    assert browser.submit(consent_page, decision="allow_once").code


@pytest.mark.parametrize("shown", [True, False])
def test_new_password_long_after_the_sign_in_requires_another_one(
    site: Site, browser: Browser, client: Registered, admin: tuple[User, str], page: Answer, shown: bool
) -> None:
    """The form does not ask for the current password, and the user may have left the browser."""
    site.clock.advance(RECENT)
    page = browser.authorize(client)
    assert asks_for_new_password(page), "just recent enough"
    site.clock.advance(1)
    fields: dict[str, Any] = {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}
    answer = browser.submit(page, **fields) if shown else browser.authorize(client)
    assert "password" in answer.form.fields
    assert not asks_for_new_password(answer)
    assert site.server.store.users.get(admin[0].sub) == admin[0]
    assert browser.authorize(client, prompt="none").answer["error"] == "login_required"
    new_page = browser.sign_in(answer, "admin", admin[1])
    assert asks_for_new_password(new_page)
    assert browser.submit(new_page, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD).code


@pytest.mark.spec("OpenID Connect Core §3.1.2.1")
def test_forced_new_password_is_no_new_authentication(
    site: Site, browser: Browser, client: Registered, page: Answer
) -> None:
    signed_in_at = site.clock.time
    site.clock.advance(RECENT - 1)
    page = browser.authorize(client)
    code = browser.submit(page, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD).code
    assert read_grant(site, code).auth_time == signed_in_at
    assert browser.authorize(client, max_age=str(RECENT)).code
    page = browser.authorize(client, max_age="10")
    assert "password" in page.form.fields, "max_age counts from the sign-in"


def test_new_password_is_not_taken_when_the_request_needs_a_new_sign_in(
    site: Site, browser: Browser, client: Registered, admin: tuple[User, str], page: Answer
) -> None:
    page = browser.authorize(client, max_age="60")
    assert asks_for_new_password(page)
    site.clock.advance(61)
    answer = browser.submit(page, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD)
    assert "password" in answer.form.fields
    assert site.server.store.users.get(admin[0].sub) == admin[0]


@pytest.mark.spec("RFC 8265 §4.2")
def test_password_is_compared_after_unicode_normalisation(site: Site, browser: Browser) -> None:
    composed, decomposed = "cr\u00e8me br\u00fbl\u00e9e", "cre\u0300me bru\u0302le\u0301e"
    client = site.client(trusted=True)
    for username, password in (("composed", composed), ("decomposed", decomposed)):
        site.user(username, password)
        for typed in (composed, decomposed):
            assert browser.sign_in(browser.authorize(client, prompt="login"), username, typed).code
    assert browser.sign_in(browser.authorize(client, prompt="login"), "composed", "creme brulee").status == 400
