"""The second factor after the password: the code, its limits, recovery codes, and what an attacker cannot do."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from chalicelib.authentication import recovery_codes, second_factor, totp
from chalicelib.protocol.records import Session
from tests.endpoints.authorize.conftest import read_claims
from tests.support.account import open_sign_in
from tests.support.browser import Answer, Browser, authorization_parameters, basic
from tests.support.second_factor import (
    PASSWORD_ONLY,
    REFEDS,
    Authenticator,
    enter_password,
    is_code_page,
    sign_in_with_code,
)
from tests.support.site import PASSWORD, Registered, Site
from tests.support.threads import run_concurrently


def sessions(site: Site) -> list[Session]:
    return list(site.server.store.sessions.scan())


def test_password_and_code_sign_in_with_two_factors(
    site: Site, browser: Browser, client: Registered, phone: Authenticator
) -> None:
    page = enter_password(browser, client)
    assert is_code_page(page)
    assert not sessions(site), "no session before the second factor"
    assert not any("session" in name for name in browser.cookies)
    site.clock.advance(20)
    answer = browser.submit(page, one_time_code=phone.code())
    tokens = browser.redeem(client, answer.code).json
    id_token, access_token = read_claims(tokens["id_token"]), read_claims(tokens["access_token"])
    assert (id_token["acr"], id_token["amr"]) == (REFEDS, ["pwd", "otp", "mfa"])
    assert id_token["auth_time"] == access_token["auth_time"] == site.clock()
    assert access_token["acr"] == REFEDS
    (session,) = sessions(site)
    assert session.mfa_time == session.auth_time == site.clock()


def test_refresh_and_introspection_keep_the_acr_and_auth_time(
    site: Site, browser: Browser, client: Registered, phone: Authenticator
) -> None:
    signed_in_at = site.clock()
    answer = sign_in_with_code(browser, client, phone, scope="openid offline_access")
    tokens = browser.redeem(client, answer.code).json
    site.clock.advance(1000)
    refreshed = browser.refresh(client, tokens["refresh_token"]).json
    claims = read_claims(refreshed["access_token"])
    assert (claims["acr"], claims["auth_time"]) == (REFEDS, signed_in_at)
    for name in ("access_token", "refresh_token"):
        secret = client.secret or ""
        described = browser.post(
            "/oauth2/introspect", {"token": refreshed[name], "client_id": client.id, "client_secret": secret}
        ).json
        assert (described["acr"], described["auth_time"]) == (REFEDS, signed_in_at)


def test_password_alone_has_the_acr_of_one_factor(site: Site, browser: Browser, client: Registered) -> None:
    site.user("bob")
    tokens = browser.redeem(client, enter_password(browser, client, "bob").code).json
    assert read_claims(tokens["id_token"])["acr"] == read_claims(tokens["access_token"])["acr"] == PASSWORD_ONLY


WINDOW = [(-2, False), (-1, True), (0, True), (1, True), (2, False)]


@pytest.mark.parametrize(("steps", "right"), WINDOW, ids=[str(steps) for steps, _ in WINDOW])
def test_clock_of_the_phone_may_differ_by_one_step(
    browser: Browser, client: Registered, phone: Authenticator, steps: int, right: bool
) -> None:
    answer = browser.submit(enter_password(browser, client), one_time_code=phone.code(steps))
    assert "code" in answer.answer if right else is_code_page(answer), answer.body


def arabic(code: str) -> str:
    return code.translate({ord(digit): ord("٠") + int(digit) for digit in "0123456789"})


def full_width(code: str) -> str:
    return code.translate({ord(digit): ord("０") + int(digit) for digit in "0123456789"})


SPELLINGS = {
    "space": lambda code: f" {code[:3]} {code[3:]} ",
    "hyphen": lambda code: f"{code[:3]}-{code[3:]}",
    "no-break space": lambda code: f"{code[:3]}\u00a0{code[3:]}",
    "direction mark": lambda code: f"\u200e{code}\u200f",
    "Arabic-Indic digits": arabic,
    "full-width digits": full_width,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_code_may_be_typed_in_other_digits_and_with_spaces(
    browser: Browser, client: Registered, phone: Authenticator, spelling: str
) -> None:
    answer = browser.submit(enter_password(browser, client), one_time_code=SPELLINGS[spelling](phone.code()))
    assert "code" in answer.answer


WRONG_CODES = ("", "1", "0000000", "abcdef", "12345６7", "²³¹¹²³", "一二三四五六", "\x00" * 6, "1" * 5000, "½½½½½½")


@pytest.mark.parametrize("code", WRONG_CODES, ids=range(len(WRONG_CODES)))
def test_malformed_code_is_wrong(
    site: Site, browser: Browser, client: Registered, phone: Authenticator, code: str
) -> None:
    page = browser.submit(enter_password(browser, client), one_time_code=code)
    assert is_code_page(page)
    assert page.status == 400
    assert not sessions(site)


def test_code_is_used_once(browsers: Any, client: Registered, phone: Authenticator) -> None:
    first, second = browsers(), browsers()
    code = phone.code()
    pages = [enter_password(browser, client) for browser in (first, second)]
    assert "code" in first.submit(pages[0], one_time_code=code).answer
    again = second.submit(pages[1], one_time_code=code)
    assert is_code_page(again)
    assert "was used already" in again.body


def test_older_code_than_one_that_was_used_is_rejected(browsers: Any, client: Registered, phone: Authenticator) -> None:
    first, second = browsers(), browsers()
    assert "code" in first.submit(enter_password(first, client), one_time_code=phone.code(1)).answer
    assert is_code_page(second.submit(enter_password(second, client), one_time_code=phone.code()))


def test_fifty_requests_with_one_code_start_one_session(
    site: Site, browsers: Any, client: Registered, phone: Authenticator
) -> None:
    many = [browsers() for _ in range(50)]
    pages = [enter_password(browser, client) for browser in many]
    code = phone.code()

    def send(browser: Browser, page: Answer) -> int:
        return browser.send(page, one_time_code=code).status

    run_concurrently([partial(send, browser, page) for browser, page in zip(many, pages, strict=True)])
    assert len(sessions(site)) == 1


def test_wrong_codes_are_limited_for_the_user_from_everywhere(
    site: Site, browsers: Any, client: Registered, phone: Authenticator
) -> None:
    for _ in range(second_factor.ATTEMPTS):
        browser = browsers()
        assert browser.submit(enter_password(browser, client), one_time_code="000000").status == 400
    browser = browsers()
    page = browser.submit(enter_password(browser, client), one_time_code=phone.code())
    assert page.status == 429
    assert "Please try again in 15 minutes" in page.body
    assert page.header("retry-after") == "900"
    assert not sessions(site)
    site.clock.advance(15 * 60)
    assert "code" in sign_in_with_code(browser, client, phone).answer


def test_wrong_codes_are_limited_in_a_day(
    site: Site, browser: Browser, client: Registered, phone: Authenticator
) -> None:
    for _ in range(second_factor.ATTEMPTS_PER_DAY // second_factor.ATTEMPTS):
        page = enter_password(browser, client)
        for _ in range(second_factor.ATTEMPTS):
            page = browser.submit(page, one_time_code="000000")
            assert page.status == 400
        site.clock.advance(15 * 60)
    page = browser.submit(enter_password(browser, client), one_time_code=phone.code())
    assert page.status == 429
    assert int(page.header("retry-after") or 0) > 20 * 3600


def test_recovery_code_works_while_codes_are_limited(
    site: Site, browser: Browser, client: Registered, phone: Authenticator
) -> None:
    page = enter_password(browser, client)
    for _ in range(second_factor.ATTEMPTS + 1):
        page = browser.submit(page, one_time_code="000000")
    assert page.status == 429
    assert "code" in browser.submit(page, one_time_code="", recovery_code=phone.recovery_codes[0]).answer


def test_wrong_recovery_codes_are_limited(browser: Browser, client: Registered, phone: Authenticator) -> None:
    page = enter_password(browser, client)
    for _ in range(second_factor.ATTEMPTS):
        page = browser.submit(page, one_time_code="", recovery_code="AAAA-AAAA-AA")
    page = browser.submit(page, one_time_code="", recovery_code=phone.recovery_codes[0])
    assert page.status == 429


def test_right_code_does_not_take_back_wrong_passwords(
    site: Site, browsers: Any, client: Registered, phone: Authenticator
) -> None:
    browser = browsers()
    for _ in range(2):
        browser.sign_in(browser.authorize(client), password="wrong")
    before = {record.attempts_id: record for record in site.server.store.attempts.scan()}
    assert "code" in sign_in_with_code(browser, client, phone).answer
    after = {record.attempts_id: record for record in site.server.store.attempts.scan()}
    assert all(after[name].day_failures == record.day_failures for name, record in before.items())


def test_browser_is_not_known_before_the_code(
    site: Site, browser: Browser, client: Registered, phone: Authenticator
) -> None:
    page = enter_password(browser, client)
    assert all(record.generation is None for record in site.server.store.attempts.scan())
    browser.submit(page, one_time_code=phone.code())
    assert any(record.generation is not None for record in site.server.store.attempts.scan())


def test_wrong_password_says_nothing_about_a_second_factor(
    site: Site, browsers: Any, client: Registered, phone: Authenticator
) -> None:
    site.user("bob")
    pages = []
    for name in ("alice", "bob", "nobody"):
        browser = browsers()
        answer = browser.sign_in(browser.authorize(client), name, "wrong")
        pages.append((answer.status, set(answer.form.fields), "username or the password is not right" in answer.body))
    assert pages[0] == pages[1] == pages[2]
    assert pages[0][2]


# ---- recovery codes


def test_recovery_code_signs_in_once(site: Site, browsers: Any, client: Registered, phone: Authenticator) -> None:
    code = phone.recovery_codes[3]
    first, second = browsers(), browsers()
    answer = first.submit(enter_password(first, client), one_time_code="", recovery_code=f" {code.lower()} ")
    assert read_claims(first.redeem(client, answer.code).json["id_token"])["acr"] == REFEDS
    assert is_code_page(second.submit(enter_password(second, client), one_time_code="", recovery_code=code))
    assert len(site.read_user().recovery_codes) == recovery_codes.CODES - 1
    assert "recovery_code_used" in {event.name for event in site.server.store.events.scan()}


def test_recovery_code_raced_by_ten_browsers_starts_one_session(
    site: Site, browsers: Any, client: Registered, phone: Authenticator
) -> None:
    many = [browsers() for _ in range(10)]
    pages = [enter_password(browser, client) for browser in many]

    def send(browser: Browser, page: Answer) -> int:
        return browser.send(page, one_time_code="", recovery_code=phone.recovery_codes[0]).status

    run_concurrently([partial(send, browser, page) for browser, page in zip(many, pages, strict=True)])
    assert len(sessions(site)) == 1
    assert len(site.read_user().recovery_codes) == recovery_codes.CODES - 1


def test_different_recovery_codes_raced_are_all_spent(
    site: Site, browsers: Any, client: Registered, phone: Authenticator
) -> None:
    many = [browsers() for _ in range(4)]
    pages = [enter_password(browser, client) for browser in many]

    def send(index: int) -> int:
        answer: Answer = many[index].send(pages[index], one_time_code="", recovery_code=phone.recovery_codes[index])
        return answer.status

    run_concurrently([partial(send, index) for index in range(4)])
    assert len(site.read_user().recovery_codes) == recovery_codes.CODES - len(sessions(site))


def test_recovery_codes_have_fifty_random_bits_in_groups(phone: Authenticator) -> None:
    codes = phone.recovery_codes
    assert len(set(codes)) == 10
    assert all([len(part) for part in code.split("-")] == [4, 4, 2] for code in codes)


# ---- the waiting request


def test_waiting_ends_after_five_minutes(
    site: Site, browser: Browser, client: Registered, phone: Authenticator
) -> None:
    page = enter_password(browser, client)
    site.clock.advance(299)
    assert is_code_page(browser.submit(page, one_time_code="000000"))
    site.clock.advance(1)
    answer = browser.submit(page, one_time_code=phone.code())
    assert "password" in answer.form.fields
    assert "too long" in answer.body
    assert not sessions(site)


def test_code_page_can_be_reloaded_and_belongs_to_its_browser(
    browsers: Any, client: Registered, phone: Authenticator
) -> None:
    browser, other = browsers(), browsers()
    sign_in_page = browser.authorize(client)
    address = browser.send(sign_in_page, username="alice", password=PASSWORD).location
    assert is_code_page(browser.get(address))
    page = browser.get(address)
    assert is_code_page(page)
    other.authorize(client)  # it has a cookie of its own
    assert not is_code_page(other.get(address))
    stolen = other.send(page, one_time_code=phone.code())
    assert not is_code_page(stolen)
    assert "code=" not in stolen.location


ENDINGS = {
    "new password": {"password_generation": 1},
    "signed out everywhere": {"sessions_generation": 1},
    "disabled": {"disabled_at": 1},
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_waiting_ends_with_the_users_password_and_sessions(
    site: Site, browser: Browser, client: Registered, phone: Authenticator, ending: str
) -> None:
    page = enter_password(browser, client)
    user = site.read_user()
    changes = {name: (getattr(user, name) or 0) + value for name, value in ENDINGS[ending].items()}
    site.server.store.users.transition((user.sub,), None, changes)
    answer = browser.submit(page, one_time_code=phone.code())
    assert "password" in answer.form.fields, answer.body
    assert not sessions(site)


def test_another_user_can_sign_in_instead(
    site: Site, browser: Browser, client: Registered, phone: Authenticator
) -> None:
    site.user("bob")
    page = browser.submit(enter_password(browser, client), again="yes")
    assert "password" in page.form.fields
    assert "code" in browser.sign_in(page, "bob").answer


def test_form_sent_twice_is_answered_twice(site: Site, browsers: Any, client: Registered, phone: Authenticator) -> None:
    browser = browsers()
    page = enter_password(browser, client)
    second_tab = browsers(tab_of=browser)
    code = phone.code()
    first = browser.submit(page, one_time_code=code)
    second = second_tab.submit(page, one_time_code=code)
    assert first.code
    assert "code" in second.answer
    assert len(sessions(site)) == 1
    assert "code=" not in second_tab.send(page, one_time_code="000000").location, "another code is another form"


def test_form_sent_twice_at_once_starts_one_session(
    site: Site, browsers: Any, client: Registered, phone: Authenticator
) -> None:
    browser = browsers()
    page = enter_password(browser, client)
    tabs = [browsers(tab_of=browser) for _ in range(3)]
    code = phone.code()
    answers = run_concurrently([partial(tab.send, page, one_time_code=code) for tab in tabs])
    assert len(sessions(site)) == 1
    assert any("code=" in answer.location for answer in answers)


def test_one_password_and_two_codes_start_one_session(
    site: Site, browsers: Any, client: Registered, phone: Authenticator
) -> None:
    browser = browsers()
    page = enter_password(browser, client)
    tabs = [browsers(tab_of=browser) for _ in range(3)]
    codes = [phone.code(-1), phone.code(0), phone.code(1)]
    run_concurrently([partial(tab.send, page, one_time_code=code) for tab, code in zip(tabs, codes, strict=True)])
    assert len(sessions(site)) == 1


# ---- other ways to sign in


def test_account_page_asks_for_the_code(site: Site, browser: Browser, phone: Authenticator) -> None:
    page = browser.submit(open_sign_in(browser), username="alice", password=PASSWORD)
    assert is_code_page(page)
    assert browser.get("/account").status in (302, 303)
    answer = browser.send(page, one_time_code=phone.code())
    assert answer.location == site.settings.issuer + "/account"
    assert browser.get("/account").status == 200
    assert browser.get("/account/second-factor").status == 200


def test_http_basic_is_refused_with_what_to_do(browser: Browser, site: Site, phone: Authenticator) -> None:
    client = site.client(direct_sign_in=True)
    answer = browser.get("/oauth2/code", headers=basic("alice", PASSWORD), **authorization_parameters(client))
    assert answer.answer["error"] == "interaction_required"
    assert "authorization endpoint" in answer.answer["error_description"]
    assert not sessions(site)
    wrong = browser.get("/oauth2/code", headers=basic("alice", "wrong"), **authorization_parameters(client))
    assert wrong.status == 401


def test_switched_off_server_asks_for_no_code(
    site_with: Any, site: Site, client: Registered, phone: Authenticator
) -> None:
    without = site_with(mfa="off")
    browser = Browser(without)
    assert "code" in enter_password(browser, client).answer
    assert browser.get("/account/second-factor").status == 404
    assert browser.get("/.well-known/openid-configuration").json["acr_values_supported"] == [PASSWORD_ONLY]
    browser.close()


def test_secret_of_another_user_or_stage_is_not_accepted(site: Site, phone: Authenticator) -> None:
    user = site.read_user()
    assert totp.unseal(site.server.keys, user) == phone.secret
    assert totp.unseal(site.server.keys, replace(user, sub="another")) is None
    assert user.totp_secret
    damaged = bytes([*user.totp_secret[:-1], user.totp_secret[-1] ^ 1])
    assert totp.unseal(site.server.keys, replace(user, totp_secret=damaged)) is None
    assert totp.unseal(site.server.keys, replace(user, totp_secret=b"\x01")) is None
    assert phone.secret not in user.totp_secret
