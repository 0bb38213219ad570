"""SIGNET_MFA=required from a day on: before it, users are asked to set up a second factor, and can decline."""

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.protocol.durations import DAY
from tests.endpoints.authorize.conftest import read_claims
from tests.endpoints.second_factor.test_policy import essential
from tests.endpoints.second_factor.test_setup import secret_text
from tests.support.account import is_signed_in, sign_in_to_account
from tests.support.authenticator import Authenticator as SecurityKey
from tests.support.authenticator import passkey_site, user_with_passkey
from tests.support.browser import Answer, Browser, authorization_parameters, basic
from tests.support.second_factor import (
    PASSWORD_ONLY,
    REFEDS,
    Authenticator,
    add_second_factor,
    enter_password,
    is_code_page,
)
from tests.support.site import PASSWORD, Registered, Site


@pytest.fixture
def early(site: Site, site_with: Callable[..., Site]) -> Site:
    """A server that requires a second factor from tomorrow on, with alice, who has none."""
    site.user("alice")
    return site_with(mfa="required", mfa_required_from=site.clock() + DAY)


@pytest.fixture
def browser(early: Site, browsers: Callable[..., Browser]) -> Browser:
    return browsers(early)


@pytest.fixture
def client(early: Site) -> Registered:
    return early.client(grant_types=("authorization_code", "refresh_token"), trusted=True)


def is_setup(page: Answer) -> bool:
    """Return whether a page lets the user set up a second factor, also with a problem."""
    return page.form.fields.get("set_up") == "code"


def can_decline(page: Answer) -> bool:
    return is_setup(page) and 'name="later"' in page.body


def test_before_the_day_the_user_is_asked_and_can_decline(early: Site, browser: Browser, client: Registered) -> None:
    page = enter_password(browser, client)
    assert can_decline(page)
    assert "you need more than your password to sign in" in page.body
    answer = browser.submit(page, later="yes")
    assert read_claims(browser.redeem(client, answer.code).json["id_token"])["acr"] == PASSWORD_ONLY
    assert browser.authorize(client).code, "the user is asked once for each sign-in"
    browser.cookies.clear()
    assert can_decline(enter_password(browser, client))


def test_before_the_day_a_second_factor_is_set_up_inside_the_request(
    early: Site, browser: Browser, client: Registered
) -> None:
    page = enter_password(browser, client)
    phone = Authenticator.of_text(early, secret_text(page))
    page = browser.submit(page, one_time_code=phone.code())
    assert page.form.fields["set_up"] == "codes"
    assert 'name="later"' in page.body
    answer = browser.submit(page, saved="yes")
    assert read_claims(browser.redeem(client, answer.code).json["id_token"])["acr"] == REFEDS


def test_user_can_still_decline_after_the_first_code(early: Site, browser: Browser, client: Registered) -> None:
    page = enter_password(browser, client)
    phone = Authenticator.of_text(early, secret_text(page))
    page = browser.submit(page, one_time_code=phone.code())
    assert browser.submit(page, later="yes").code
    assert not early.read_user().has_second_factor


def test_consent_follows_what_was_declined(early: Site, browser: Browser) -> None:
    page = browser.submit(enter_password(browser, early.client()), later="yes")
    assert "decision" in page.body
    assert browser.submit(page, decision="allow").code


def test_from_the_day_on_the_user_cannot_decline(early: Site, browser: Browser, client: Registered) -> None:
    early.clock.advance(DAY - 1)
    page = enter_password(browser, client)
    assert can_decline(page)
    early.clock.advance(1)
    page = browser.submit(page, later="yes")
    assert is_setup(page)
    assert not can_decline(page)
    assert "needs more than your password" in page.body


def test_session_of_before_the_day_is_asked_after_it(early: Site, browser: Browser, client: Registered) -> None:
    assert browser.submit(enter_password(browser, client), later="yes").code
    early.clock.advance(DAY)
    sign_in_page = browser.authorize(client)
    assert "password" in sign_in_page.form.fields, "what is set up needs a recent sign-in"


def test_account_pages_are_open_until_the_day(early: Site, browser: Browser) -> None:
    sign_in_to_account(browser)
    assert is_signed_in(browser)
    early.clock.advance(DAY)
    assert not is_signed_in(browser)


@pytest.mark.parametrize("by", ["client", "request"])
def test_client_or_request_that_demands_it_is_not_declined(early: Site, browser: Browser, by: str) -> None:
    client = early.client(trusted=True, **({"require_acr": REFEDS} if by == "client" else {}))
    demand = {"claims": essential(REFEDS)} if by == "request" else {}
    page = enter_password(browser, client, **demand)
    assert is_setup(page)
    assert not can_decline(page)
    page = browser.submit(page, later="yes")
    assert is_setup(page)
    assert page.status == 400


def test_silent_request_is_answered_until_the_day(early: Site, browser: Browser, client: Registered) -> None:
    browser.submit(enter_password(browser, client), later="yes")
    assert browser.authorize(client, prompt="none").code
    early.clock.advance(DAY)
    answer = browser.authorize(client, prompt="none").answer
    assert answer["error"] in ("login_required", "interaction_required")


def test_http_basic_is_answered_until_the_day(early: Site, browser: Browser) -> None:
    direct = early.client(direct_sign_in=True, trusted=True)

    def send() -> dict[str, str]:
        return browser.get("/oauth2/code", headers=basic("alice", PASSWORD), **authorization_parameters(direct)).answer

    assert "code" in send()
    early.clock.advance(DAY)
    assert send()["error"] == "interaction_required"


def test_user_with_a_second_factor_is_not_asked(early: Site, browser: Browser, client: Registered) -> None:
    phone = add_second_factor(early)
    page = enter_password(browser, client)
    assert is_code_page(page)
    assert browser.submit(page, one_time_code=phone.code()).code


def test_user_with_a_passkey_is_not_asked(site: Site, site_with: Callable[..., Site], browsers: Any) -> None:
    local = passkey_site(site_with, mfa="required", mfa_required_from=site.clock() + DAY)
    browser = browsers(local)
    local.user("alice")
    user_with_passkey(browser, SecurityKey(local.settings.issuer))
    assert enter_password(browser, local.client(trusted=True)).code


def test_question_can_be_reloaded(early: Site, browser: Browser, client: Registered) -> None:
    page = browser.get(enter_password(browser, client).url)
    assert can_decline(page)
    assert browser.submit(page, later="yes").code
