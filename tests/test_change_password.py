"""A password that somebody else has set is replaced at the first sign-in, and yields no code before that."""

import html
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalicelib import registration
from chalicelib.models import User
from tests.browser import Answer, Browser, basic
from tests.site import PASSWORD, STAGE, Registered, Site, tables

NEW = "a better pass phrase"


@pytest.fixture
def admin(site: Site) -> tuple[User, str]:
    """The first administrator, and the random password that set-up shows once."""
    site.secrets.add(NEW)
    user, made = registration.register_user(site.server.store, username="admin", admin=True)
    assert made
    site.secrets.add(made)
    return user, made


@pytest.fixture
def client(site: Site) -> Registered:
    """An application that asks nothing, so that only the password stands before a code."""
    return site.client(trusted=True, direct_sign_in=True)


@pytest.fixture
def page(browser: Browser, client: Registered, admin: tuple[User, str]) -> Answer:
    """The page that asks for a new password."""
    answer = browser.sign_in(browser.authorize(client), "admin", admin[1])
    assert asks_for_a_password(answer)
    return answer


def asks_for_a_password(answer: Answer) -> bool:
    return "new_password" in answer.form.fields and answer.header("location") is None


def minted() -> int:
    return len(tables()[f"signet-{STAGE}-grants"].items)


def test_seed_000_the_first_password_is_random_and_replaced_at_the_first_sign_in(
    site: Site, browsers: Callable[..., Browser], client: Registered, admin: tuple[User, str], page: Answer
) -> None:
    browser, made = browsers(), admin[1]
    assert len(made) >= 20
    answer = browser.sign_in(browser.authorize(client), "admin", made)
    answer = browser.submit(answer, new_password=NEW, new_password_again=NEW)
    assert answer.code
    assert browser.authorize(client, prompt="none").code, "and is signed in"
    again = browsers()
    assert again.sign_in(again.authorize(client), "admin", made).status == 400, "the old one is worth nothing now"
    assert again.sign_in(again.authorize(client), "admin", NEW).code, "and the new one needs no other"


def test_there_is_no_code_before_the_password_is_changed(
    site: Site, browser: Browser, client: Registered, admin: tuple[User, str], page: Answer
) -> None:
    assert asks_for_a_password(browser.authorize(client))
    assert asks_for_a_password(browser.sign_in(browser.authorize(client, prompt="login"), "admin", admin[1]))
    assert asks_for_a_password(browser.get("/oauth2/authorize", request_uri=page.form.fields["request_uri"]))
    direct = browser.authorize(client, "/oauth2/code", headers=basic("admin", admin[1]))
    assert asks_for_a_password(direct)
    assert browser.authorize(client, prompt="none").answer["error"] == "interaction_required"
    assert minted() == 0
    assert browser.submit(direct, new_password=NEW, new_password_again=NEW).code


@pytest.mark.parametrize("decision", ["allow_once", "allow_always"])
def test_a_forged_decision_does_not_pass_by_the_change(
    site: Site, browser: Browser, page: Answer, decision: str
) -> None:
    fields = {name: page.form.fields[name] for name in ("request_uri", "tag")}
    answer = browser.post("/oauth2/code", fields | {"decision": decision}, {"Sec-Fetch-Site": "same-origin"})
    assert (answer.status, answer.header("location")) == (400, None)
    both = browser.submit(page, decision=decision, new_password=NEW, new_password_again=NEW)
    assert (both.status, both.header("location")) == (400, None)
    assert minted() == 0


def test_a_consent_page_of_before_does_not_pass_by_the_change(site: Site, browser: Browser) -> None:
    user = site.user()
    consent = browser.sign_in(browser.authorize(site.client()))
    site.server.store.users.put(replace(user, password_change_required=True))
    assert asks_for_a_password(browser.submit(consent, decision="allow_once"))
    assert minted() == 0


@pytest.mark.spec("NIST SP 800-63B §3.1.1")
@pytest.mark.parametrize(
    ("what", "fields", "problem"),
    [
        ("too short", {"new_password": "7 chars"}, "at least 8 characters"),
        ("empty", {"new_password": ""}, "at least 8 characters"),
        ("too long", {"new_password": "x" * 1025}, "at most 1024 characters"),
        ("with NUL", {"new_password": "good enough\0"}, "written down"),
        ("not repeated", {"new_password": NEW, "new_password_again": None}, "differ"),
        ("repeated otherwise", {"new_password": NEW, "new_password_again": NEW.upper()}, "differ"),
        ("the same as before", {"new_password": "OLD"}, "another password"),
        ("as HTML, not repeated", {"new_password": "<script>alert(1)</script>", "new_password_again": ""}, "differ"),
    ],
)
def test_a_new_password_that_will_not_do_is_asked_for_again(
    site: Site,
    browser: Browser,
    admin: tuple[User, str],
    page: Answer,
    what: str,
    fields: dict[str, Any],
    problem: str,
) -> None:
    given = {"new_password_again": fields["new_password"]} | fields
    sent = {name: admin[1] if value == "OLD" else value for name, value in given.items() if value is not None}
    form = {name: value for name, value in page.form.fields.items() if not name.startswith("new_")}
    answer = browser.post("/oauth2/code", form | sent, {"Sec-Fetch-Site": "same-origin"})
    assert answer.status == 400
    assert asks_for_a_password(answer)
    assert problem in html.unescape(answer.body)
    assert "<script>" not in answer.body
    assert answer.form.fields["new_password"] == answer.form.fields["new_password_again"] == ""
    assert site.server.store.users.get(admin[0].sub) == admin[0]
    assert minted() == 0


def test_a_new_password_ends_all_other_sessions_and_grants(site: Site, browsers: Callable[..., Browser]) -> None:
    user = site.user()
    client = site.client(trusted=True)
    here, there = browsers(), browsers()
    tokens = there.tokens(client, scope="openid offline_access")
    here.code(client)
    site.server.store.users.put(replace(user, password_change_required=True))
    waiting = there.authorize(client)
    site.secrets.add(NEW)
    assert here.submit(here.authorize(client), new_password=NEW, new_password_again=NEW).code

    assert here.authorize(client, prompt="none").code
    assert there.authorize(client, prompt="none").answer["error"] == "login_required"
    assert there.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert there.userinfo(tokens["access_token"]).status == 401
    signed_out = there.submit(waiting, new_password=PASSWORD, new_password_again=PASSWORD)
    assert signed_out.status == 400
    assert "signed out" in signed_out.body
    assert there.sign_in(signed_out).status == 400, "with the old password"
    assert there.sign_in(signed_out, "alice", NEW).code


def test_the_form_for_a_new_password_counts_once(browser: Browser, page: Answer) -> None:
    assert browser.submit(page, new_password=NEW, new_password_again=NEW).code
    answer = browser.submit(page, new_password=PASSWORD, new_password_again=PASSWORD)
    assert (answer.status, answer.header("location")) == (400, None)
    assert minted() == 1


def test_the_form_for_a_new_password_counts_once_while_the_request_waits_too(site: Site, browser: Browser) -> None:
    """It asks for no present password, so whoever comes to the browser next must not find it open."""
    user = site.user()
    site.server.store.users.put(replace(user, password_change_required=True))
    page = browser.sign_in(browser.authorize(site.client()))
    consent = browser.submit(page, new_password=NEW, new_password_again=NEW)
    assert "allow_once" in consent.body
    changed = site.server.store.users.get(user.sub)
    for password in ("another of a stranger's", NEW):
        again = browser.submit(page, new_password=password, new_password_again=password)
        assert again.status == 200
        assert "allow_once" in again.body, "nor is it said whether that is the password"
        assert site.server.store.users.get(user.sub) == changed
    assert browser.submit(consent, decision="allow_once").code


@pytest.mark.spec("RFC 8265 §4.2")
def test_a_password_is_the_same_however_its_accents_were_typed(site: Site, browser: Browser) -> None:
    composed, decomposed = "cr\u00e8me br\u00fbl\u00e9e", "cre\u0300me bru\u0302le\u0301e"
    client = site.client(trusted=True)
    for username, password in (("composed", composed), ("decomposed", decomposed)):
        site.user(username, password)
        for typed in (composed, decomposed):
            assert browser.sign_in(browser.authorize(client, prompt="login"), username, typed).code
    assert browser.sign_in(browser.authorize(client, prompt="login"), "composed", "creme brulee").status == 400
