"""Passkeys as the second factor, what demands them (`phr`), and what all ways to sign in have in common."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from chalicelib import events
from chalicelib.protocol.authentication_context import PHISHING_RESISTANT
from chalicelib.protocol.durations import DAY
from chalicelib.protocol.own_scope import Scope
from chalicelib.protocol.records import Session, User
from tests.endpoints.account.test_keep_signed_in import max_age
from tests.endpoints.authorize.conftest import authorize_stored, read_claims
from tests.support.account import is_signed_in, shows_account_of, sign_in_to_account
from tests.support.authenticator import (
    BE,
    BS,
    UP,
    Authenticator,
    options_of,
    passkey_site,
    send_passkey,
    sign_in_with_passkey,
)
from tests.support.browser import Answer, Browser, authorization_parameters, basic
from tests.support.second_factor import (
    PASSWORD_ONLY,
    REFEDS,
    add_second_factor,
    enter_password,
    is_code_page,
    sign_in_with_code,
)
from tests.support.second_factor import Authenticator as Phone
from tests.support.site import PASSWORD, Registered, Site
from tests.support.threads import run_concurrently

BY_BOTH = ["pwd", "pop", "user", "mfa"]


def essential(*values: str) -> str:
    return json.dumps({"id_token": {"acr": {"essential": True, "values": values}}})


def is_passkey_page(page: Answer) -> bool:
    """Return whether a page asks for a passkey, and for no code."""
    is_second_factor = "one_time_code" in page.form.fields and "recovery_code" not in page.form.fields
    return is_second_factor and 'data-passkey="' in page.body


def of_passkeys(site: Site) -> list[Session]:
    """Return the sessions with more than a password: the fixtures add passkeys in one."""
    return [session for session in site.server.store.sessions.scan() if session.amr != ("pwd",)]


def history(site: Site, user: User) -> list[tuple[str, str | None]]:
    listed = sorted(site.server.store.events.find("sub", user.sub), key=lambda event: event.event_id)
    return [(event.name, event.detail) for event in listed]


@pytest.fixture
def phone(local: Site, alice: User) -> Phone:
    """The application of alice, who has a passkey too."""
    return add_second_factor(local)


# ---- after the password, in place of a code


def test_a_passkey_replaces_the_code_after_the_password(
    local: Site, browser: Browser, client: Registered, alice: User, authenticator: Authenticator, phone: Phone
) -> None:
    page = enter_password(browser, client)
    assert is_code_page(page), "the code works too"
    options = options_of(page)
    assert [each["type"] for each in options["allowCredentials"]] == ["public-key"]
    assert of_passkeys(local) == []
    answer = send_passkey(browser, page, authenticator.get(options))
    claims = read_claims(browser.redeem(client, answer.code).json["id_token"])
    assert (claims["amr"], claims["acr"], claims["sub"]) == (BY_BOTH, PHISHING_RESISTANT, alice.sub)
    (session,) = of_passkeys(local)
    assert session.mfa_time == session.auth_time == local.clock()
    assert {("second_factor_asked", None), ("sign_in", "passkey")} <= set(history(local, alice))


def test_the_password_verifies_the_user_where_the_passkey_does_not(
    browser: Browser, client: Registered, authenticator: Authenticator, phone: Phone
) -> None:
    page = enter_password(browser, client)
    assert send_passkey(browser, page, authenticator.get(options_of(page), flags=UP | BE | BS)).code


def test_a_wrong_passkey_is_a_problem_on_the_page_and_the_code_still_works(
    local: Site, browser: Browser, client: Registered, authenticator: Authenticator, phone: Phone, caplog: Any
) -> None:
    page = enter_password(browser, client)
    wrong = authenticator.get(options_of(page)) | {"signature": "AAAA"}
    page = browser.follow(send_passkey(browser, page, wrong))
    assert page.status == 400
    assert "The passkey could not be verified." in page.body
    assert "aria-invalid" not in page.body, "nothing was wrong with the code"
    assert of_passkeys(local) == []
    assert events.SECOND_FACTOR_FAILED in caplog.text
    assert browser.submit(page, one_time_code=phone.code()).code


def test_an_answer_of_another_request_or_of_the_sign_in_page_is_no_second_factor(
    local: Site, browser: Browser, browsers: Any, client: Registered, authenticator: Authenticator, phone: Phone
) -> None:
    of_sign_in = authenticator.get(options_of(browser.authorize(client)))
    of_another = authenticator.get(options_of(enter_password(browsers(local), client)))
    page = enter_password(browser, client)
    for answer in (of_sign_in, of_another):
        page = browser.follow(send_passkey(browser, page, answer))
        assert page.status == 400
        assert "This took too long" in page.body
    assert of_passkeys(local) == []


def test_a_passkey_of_another_user_is_no_second_factor(
    local: Site, browser: Browser, client: Registered, authenticator: Authenticator, phone: Phone
) -> None:
    local.user("bob")
    add_second_factor(local, "bob", b"another secret of 20")
    page = enter_password(browser, client, "bob")
    assert "data-passkey" not in page.body, "bob has none"
    answer = authenticator.get(options_of(browser.authorize(client, prompt="login")))
    page = browser.follow(send_passkey(browser, page, answer))
    assert "This passkey does not belong to an account here." in page.body
    assert of_passkeys(local) == []


def test_a_passkey_of_another_domain_is_not_offered(
    local: Site, browser: Browser, client: Registered, alice: User, phone: Phone
) -> None:
    (passkey,) = local.server.store.passkeys.find("sub", alice.sub)
    local.server.store.passkeys.put(replace(passkey, rp_id="old.example"))
    page = enter_password(browser, client)
    assert is_code_page(page)
    assert "data-passkey" not in page.body


def test_the_same_answer_sent_twice_is_answered_twice(
    local: Site, browser: Browser, browsers: Any, client: Registered, authenticator: Authenticator, phone: Phone
) -> None:
    page = enter_password(browser, client)
    answer = authenticator.get(options_of(page))
    first = send_passkey(browsers(tab_of=browser), page, answer)
    second = send_passkey(browser, page, answer)
    assert first.code
    assert second.code
    (session,) = of_passkeys(local)
    local.clock.advance(61)
    del browser.cookies["signet-session"]
    assert send_passkey(browser, page, answer).status in (303, 400)
    assert of_passkeys(local) == [local.server.store.sessions.get(session.session_id)]
    assert "signet-session" not in browser.cookies


def test_the_same_answer_sent_twice_at_once_signs_in_once(
    local: Site, browser: Browser, browsers: Any, client: Registered, authenticator: Authenticator, phone: Phone
) -> None:
    page = enter_password(browser, client)
    answer = authenticator.get(options_of(page))
    tabs = [browsers(tab_of=browser) for _ in range(2)]
    answers = run_concurrently([partial(send_passkey, tab, page, answer) for tab in tabs])
    assert [each.status for each in answers] == [303, 303] or all(each.code for each in answers)
    assert len(of_passkeys(local)) == 1


# ---- a user without a code: what demands the passkey

ASKED = {
    "acr_values": {"acr_values": REFEDS},
    "phr": {"acr_values": PHISHING_RESISTANT},
    "essential": {"claims": essential(REFEDS)},
    "essential phr": {"claims": essential(PHISHING_RESISTANT)},
}


@pytest.mark.parametrize("demand", ASKED)
def test_a_session_of_the_password_is_stepped_up_by_the_passkey(
    local: Site, browser: Browser, client: Registered, alice: User, authenticator: Authenticator, demand: str
) -> None:
    assert enter_password(browser, client).code, "without a demand the password is enough"
    before = browser.cookies["signet-session"]
    page = browser.authorize(client, **ASKED[demand])
    assert is_passkey_page(page), page.body
    answer = sign_in_with_passkey(browser, page, authenticator)
    claims = read_claims(browser.redeem(client, answer.code).json["id_token"])
    assert (claims["amr"], claims["acr"]) == (BY_BOTH, PHISHING_RESISTANT)
    (session,) = of_passkeys(local)
    assert (session.generation, session.mfa_time) == (2, local.clock())
    assert browser.cookies["signet-session"] != before
    assert ("second_factor_proved", "passkey") in history(local, alice)
    assert browser.authorize(client, **ASKED[demand]).code, "it is not asked for again"


def test_a_step_up_that_is_sent_twice_is_answered_twice(
    local: Site, browser: Browser, browsers: Any, client: Registered, alice: User, authenticator: Authenticator
) -> None:
    enter_password(browser, client)
    page = browser.authorize(client, acr_values=PHISHING_RESISTANT)
    answer = authenticator.get(options_of(page))
    tabs = [browsers(tab_of=browser) for _ in range(2)]
    answers = run_concurrently([partial(send_passkey, tab, page, answer) for tab in tabs])
    assert all("error" not in each.answer for each in answers), [each.answer for each in answers]
    assert [session.generation for session in of_passkeys(local)] == [2]


def test_a_used_answer_does_not_step_up_another_session(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator
) -> None:
    client = local.client()  # which asks for consent, so that the request stays open
    enter_password(browser, client)
    page = browser.authorize(client, acr_values=PHISHING_RESISTANT)
    answer = authenticator.get(options_of(page))
    assert "decision" in browser.follow(send_passkey(browser, page, answer)).body
    local.clock.advance(61)
    browser.cookies.pop("signet-session")
    enter_password(browser, client)
    shown = browser.follow(send_passkey(browser, page, answer))
    assert is_passkey_page(shown)
    assert "This took too long, or the passkey was used already." in shown.body
    assert len(of_passkeys(local)) == 1


@pytest.mark.parametrize("by", ["client", "scope"])
def test_phr_is_demanded_by_a_client_or_a_scope(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator, phone: Phone, by: str
) -> None:
    local.server.store.scopes.put(Scope("payments", "Pay", acr=PHISHING_RESISTANT))
    required = {"require_acr": PHISHING_RESISTANT} if by == "client" else {}
    scope = "openid" if by == "client" else "openid payments"
    client = local.client(trusted=True, scope="openid payments", **required)
    page = enter_password(browser, client, scope=scope)
    assert is_passkey_page(page), "a code would not be enough"
    answer = sign_in_with_passkey(browser, page, authenticator)
    assert read_claims(browser.redeem(client, answer.code).json["id_token"])["acr"] == PHISHING_RESISTANT
    browser.cookies.clear()
    page = browser.authorize(client, scope=scope)
    assert sign_in_with_passkey(browser, page, authenticator).code, "a passkey alone is enough"


def test_a_session_with_a_code_does_not_reach_phr(
    browser: Browser, client: Registered, authenticator: Authenticator, phone: Phone
) -> None:
    answer = sign_in_with_code(browser, client, phone)
    assert read_claims(browser.redeem(client, answer.code).json["id_token"])["acr"] == REFEDS
    page = browser.authorize(client, acr_values=PHISHING_RESISTANT)
    assert is_passkey_page(page)
    assert browser.authorize(client, acr_values=PHISHING_RESISTANT, prompt="none").answer["error"] == "login_required"
    answer = sign_in_with_passkey(browser, page, authenticator)
    claims = read_claims(browser.redeem(client, answer.code).json["id_token"])
    assert (claims["acr"], claims["amr"]) == (PHISHING_RESISTANT, ["pwd", "otp", "pop", "user", "mfa"])


@pytest.mark.parametrize("has_code", [False, True])
def test_phr_is_an_error_for_a_user_without_a_passkey(
    local: Site, browser: Browser, client: Registered, has_code: bool
) -> None:
    user = local.user("alice")
    demand = {"claims": essential(PHISHING_RESISTANT)}
    if has_code:
        answer = sign_in_with_code(browser, client, add_second_factor(local), **demand)
    else:
        answer = enter_password(browser, client, **demand)
    assert answer.answer["error"] == "unmet_authentication_requirements"
    assert answer.answer["error_description"] == "This needs a passkey, and the user has none."
    assert events.SIGN_IN_FAILED not in dict(history(local, user)), "the password was right"


@pytest.mark.parametrize(("has_code", "acr"), [(False, PASSWORD_ONLY), (True, REFEDS)])
def test_preferred_phr_is_no_error_for_a_user_without_a_passkey(
    local: Site, browser: Browser, client: Registered, has_code: bool, acr: str
) -> None:
    local.user("alice")
    demand = {"acr_values": f"{PHISHING_RESISTANT} {REFEDS}"}
    if has_code:
        answer = sign_in_with_code(browser, client, add_second_factor(local), **demand)
    else:
        answer = enter_password(browser, client, **demand)
    assert read_claims(browser.redeem(client, answer.code).json["id_token"])["acr"] == acr


WITHOUT = 'name="without"'
VOLUNTARY = {
    "acr_values": {"acr_values": PHISHING_RESISTANT},
    "not essential": {"claims": json.dumps({"id_token": {"acr": {"values": [PHISHING_RESISTANT]}}})},
    "two factors, by a passkey alone": {"acr_values": REFEDS},
}


@pytest.mark.parametrize("demand", VOLUNTARY)
def test_request_that_prefers_a_passkey_is_continued_without_it(
    local: Site, browser: Browser, client: Registered, alice: User, demand: str
) -> None:
    enter_password(browser, client)
    page = browser.authorize(client, **VOLUNTARY[demand])
    assert is_passkey_page(page)
    assert WITHOUT in page.body
    answer = browser.submit(page, without="yes")
    assert read_claims(browser.redeem(client, answer.code).json["id_token"])["acr"] == PASSWORD_ONLY
    assert is_passkey_page(browser.authorize(client, **VOLUNTARY[demand])), "it is declined for one request"
    assert of_passkeys(local) == []


@pytest.mark.parametrize("stored", [False, True])
def test_what_was_declined_is_kept_until_the_request_is_answered(
    local: Site, browser: Browser, alice: User, stored: bool
) -> None:
    client = local.client()
    enter_password(browser, client)
    demand = VOLUNTARY["acr_values"]
    page = (
        browser.follow(authorize_stored(browser, client, **demand)) if stored else browser.authorize(client, **demand)
    )
    page = browser.submit(page, without="yes")
    assert "decision" in page.body
    page = browser.get(page.url)
    assert "decision" in page.body, "also after a reload"
    assert browser.submit(page, decision="allow").code


@pytest.mark.parametrize("demand", ["essential", "essential phr"])
def test_essential_passkey_cannot_be_declined(browser: Browser, client: Registered, alice: User, demand: str) -> None:
    enter_password(browser, client)
    page = browser.authorize(client, **ASKED[demand])
    assert is_passkey_page(page)
    assert WITHOUT not in page.body
    assert is_passkey_page(browser.submit(page, without="yes"))


def test_code_is_enough_where_a_passkey_is_preferred(
    browser: Browser, client: Registered, alice: User, phone: Phone
) -> None:
    page = enter_password(browser, client, **VOLUNTARY["acr_values"])
    assert is_code_page(page)
    assert "data-passkey" in page.body
    assert WITHOUT not in page.body
    answer = browser.submit(page, one_time_code=phone.code())
    assert read_claims(browser.redeem(client, answer.code).json["id_token"])["acr"] == REFEDS


@pytest.mark.parametrize("stored", [False, True])
def test_code_is_enough_for_a_step_up_that_prefers_a_passkey(
    local: Site, browser: Browser, alice: User, stored: bool
) -> None:
    client = local.client()
    enter_password(browser, client)
    phone = add_second_factor(local)
    demand = VOLUNTARY["acr_values"]
    page = (
        browser.follow(authorize_stored(browser, client, **demand)) if stored else browser.authorize(client, **demand)
    )
    assert is_code_page(page)
    page = browser.submit(page, one_time_code=phone.code())
    assert "decision" in page.body
    code = browser.submit(page, decision="allow").code
    assert read_claims(browser.redeem(client, code).json["id_token"])["acr"] == REFEDS


def test_a_user_who_has_lost_the_passkey_opens_the_account_with_the_password(browser: Browser, alice: User) -> None:
    sign_in_to_account(browser)
    assert shows_account_of(browser, "alice")
    assert browser.get("/account/passkeys").status == 200


def test_metadata_lists_phr_where_passkeys_are_possible(site: Site, local: Site, browser: Browser) -> None:
    def values(of: Browser) -> Any:
        return of.get("/.well-known/openid-configuration").json["acr_values_supported"]

    assert values(browser) == [PASSWORD_ONLY, REFEDS, PHISHING_RESISTANT]
    at_an_ip_address = Browser(site)
    assert values(at_an_ip_address) == [PASSWORD_ONLY, REFEDS]
    at_an_ip_address.close()


# ---- SIGNET_MFA=required


@pytest.fixture
def strict(site: Site, site_with: Callable[..., Site], alice: User, authenticator: Authenticator) -> Site:
    """A server that requires a second factor of alice, who has a passkey alone; the authenticator is for it now."""
    other = passkey_site(site_with, mfa="required")
    authenticator.origin = other.settings.issuer
    return other


def test_required_second_factor_is_satisfied_by_a_passkey_alone(
    strict: Site, browsers: Any, client: Registered, authenticator: Authenticator
) -> None:
    browser = browsers(strict)
    assert sign_in_with_passkey(browser, browser.authorize(client), authenticator).code
    assert shows_account_of(browser, "alice")


def test_required_second_factor_is_the_passkey_and_none_is_set_up(
    strict: Site, browsers: Any, client: Registered, authenticator: Authenticator
) -> None:
    browser = browsers(strict)
    page = enter_password(browser, client)
    assert is_passkey_page(page)
    assert not is_signed_in(browser), "no account page before that"
    assert sign_in_with_passkey(browser, page, authenticator).code
    assert shows_account_of(browser, "alice")


def test_http_basic_is_refused_where_the_passkey_is_needed(strict: Site, browsers: Any, client: Registered) -> None:
    direct = strict.client(direct_sign_in=True)
    browser = browsers(strict)
    answer = browser.get("/oauth2/code", headers=basic("alice", PASSWORD), **authorization_parameters(direct))
    assert answer.answer["error"] == "interaction_required"


# ---- "Keep me signed in"


@pytest.mark.parametrize("keep", [True, False])
def test_the_cookie_of_a_passkey_lasts_as_the_user_wants(
    local: Site, browser: Browser, client: Registered, alice: User, authenticator: Authenticator, keep: bool
) -> None:
    fields = {"keep": "on"} if keep else {}
    answer = sign_in_with_passkey(browser, browser.authorize(client), authenticator, **fields)
    assert max_age(answer) == (30 * DAY if keep else None)
    assert [session.kept for session in of_passkeys(local)] == [keep]


def test_the_box_stays_ticked_after_a_passkey_that_was_refused(
    browser: Browser, client: Registered, alice: User, authenticator: Authenticator
) -> None:
    page = browser.authorize(client)
    wrong = authenticator.get(options_of(page)) | {"signature": "AAAA"}
    page = browser.follow(send_passkey(browser, page, wrong, keep="on"))
    assert page.form.fields["keep"] == "on"


@pytest.mark.parametrize("by", ["code", "passkey"])
@pytest.mark.parametrize("stored", [False, True])
def test_the_choice_survives_the_second_factor(
    local: Site,
    browser: Browser,
    client: Registered,
    authenticator: Authenticator,
    phone: Phone,
    by: str,
    stored: bool,
) -> None:
    page = browser.authorize(client)
    if stored:  # by a first try, whose choice does not count
        page = browser.submit(page, username="alice", password=PASSWORD, keep="on")
        page = browser.submit(page, again="yes")
        page = browser.submit(page, username="alice", password=PASSWORD)
        assert max_age(browser.send(page, one_time_code=phone.code())) is None
        browser.cookies.clear()
        local.clock.advance(30)
        page = browser.submit(browser.authorize(client), username="alice", password=PASSWORD)
        page = browser.submit(page, again="yes")
    page = browser.submit(page, username="alice", password=PASSWORD, keep="on")
    assert is_code_page(page)
    if by == "code":
        answer = browser.send(page, one_time_code=phone.code())
    else:
        answer = sign_in_with_passkey(browser, page, authenticator)
    assert max_age(answer) == 30 * DAY
    assert sorted(session.kept for session in of_passkeys(local)) == ([False, True] if stored else [True])


def test_a_step_up_keeps_the_choice(
    browser: Browser, client: Registered, alice: User, authenticator: Authenticator
) -> None:
    browser.submit(browser.authorize(client), username="alice", password=PASSWORD, keep="on")
    page = browser.authorize(client, acr_values=PHISHING_RESISTANT)
    assert max_age(sign_in_with_passkey(browser, page, authenticator)) == 30 * DAY


# ---- a deleted account


def delete(site: Site) -> None:
    user = site.read_user()
    ended = replace(user, deleted_at=site.clock(), deletion_due_at=site.clock() + 14 * DAY)
    site.server.store.users.put(replace(ended, sessions_generation=user.sessions_generation + 1))


@pytest.mark.parametrize("by", ["passkey alone", "code", "recovery code", "passkey"])
def test_a_deleted_account_is_offered_to_be_restored_after_all_factors(
    local: Site, browser: Browser, client: Registered, authenticator: Authenticator, phone: Phone, by: str
) -> None:
    before = len(list(local.server.store.sessions.scan()))
    delete(local)
    if by == "passkey alone":
        page = browser.follow(sign_in_with_passkey(browser, browser.authorize(client), authenticator))
    else:
        page = enter_password(browser, client)
        assert is_code_page(page), "the password alone restores nothing"
        assert "signet-restore" not in browser.cookies
        if by == "passkey":
            page = browser.follow(sign_in_with_passkey(browser, page, authenticator))
        elif by == "code":
            page = browser.submit(page, one_time_code=phone.code())
        else:
            page = browser.submit(page, one_time_code="", recovery_code=phone.recovery_codes[0])
    assert page.status == 200
    assert "Your account is deleted" in page.body
    assert len(list(local.server.store.sessions.scan())) == before
    assert "signet-session" not in browser.cookies
    browser.send(page)
    assert local.read_user().deleted_at is None


def test_proof_of_a_deleted_account_is_used_up(
    local: Site, browser: Browser, browsers: Any, client: Registered, authenticator: Authenticator, phone: Phone
) -> None:
    delete(local)
    code, page = phone.code(), enter_password(browser, client)
    assert "restore" in browser.send(page, one_time_code=code).location
    other = browsers(local)
    page = other.submit(enter_password(other, client), one_time_code=code)
    assert "This code was used already." in page.body
    page = browser.authorize(client)
    answer = authenticator.get(options_of(page))
    assert "restore" in send_passkey(browser, page, answer).location
    assert "restore" not in send_passkey(browser, page, answer).location


def test_an_account_that_can_no_longer_be_restored_cannot_sign_in(
    local: Site, browser: Browser, client: Registered, authenticator: Authenticator, phone: Phone
) -> None:
    delete(local)
    waiting = enter_password(browser, client)
    user = local.read_user()
    local.server.store.users.put(replace(user, deletion_due_at=local.clock()))
    page = browser.submit(waiting, one_time_code=phone.code())
    assert "password" in page.form.fields
    page = browser.follow(sign_in_with_passkey(browser, page, authenticator))
    assert "The passkey could not be verified." in page.body
    assert "signet-restore" not in browser.cookies
