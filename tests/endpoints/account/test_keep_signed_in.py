"""The box "Keep me signed in", the devices of the account page, and the address for password managers."""

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.http.addresses import masked
from chalicelib.protocol.durations import DAY, HOUR
from tests.endpoints.account.conftest import CHANGE, visible_text
from tests.support.account import is_signed_in, open_sign_in, sign_in_to_account, submit_action
from tests.support.browser import Answer, Browser
from tests.support.site import PASSWORD, Site

CREDENTIALS: dict[str, Any] = {"username": "alice", "password": PASSWORD}


def session_cookie(answer: Answer) -> list[str]:
    (cookie,) = [value for name, value in answer.headers if name.lower() == "set-cookie" and "signet-session=" in value]
    return cookie.split("; ")


def max_age(answer: Answer) -> int | None:
    ages = [part for part in session_cookie(answer) if part.startswith("Max-Age=")]
    return int(ages[0].partition("=")[2]) if ages else None


def test_box_is_shown_and_not_ticked(site: Site, browser: Browser) -> None:
    page = open_sign_in(browser)
    assert "Keep me signed in" in visible_text(page)
    assert "checked" not in page.body


def test_cookie_lasts_as_long_as_the_session_only_if_the_user_wants_it(site: Site, browser: Browser) -> None:
    site.user("alice")
    assert max_age(browser.send(open_sign_in(browser), **CREDENTIALS)) is None
    browser.cookies.clear()
    answer = browser.send(open_sign_in(browser), **CREDENTIALS, keep="on")
    assert max_age(answer) == site.settings.session_absolute_lifetime == 30 * DAY
    # The idle lifetime is the same.
    site.clock.advance(12 * HOUR)
    assert not is_signed_in(browser)


def test_choice_is_kept_when_a_request_goes_on_and_when_the_password_is_changed(site: Site, browser: Browser) -> None:
    site.user("alice")
    answer = browser.send(browser.authorize(site.client()), **CREDENTIALS, keep="on")
    assert max_age(answer) == 30 * DAY
    site.secrets.add(CHANGE["new_password"])
    site.clock.advance(HOUR)
    assert max_age(submit_action(browser, "change_password", **CHANGE)) == 30 * DAY, "it is a new sign-in"


def test_new_choice_replaces_the_old_one_when_the_user_signs_in_again(site: Site, browser: Browser) -> None:
    site.user("alice")
    client = site.client()
    browser.send(browser.authorize(client), **CREDENTIALS, keep="on")
    answer = browser.send(browser.authorize(client, prompt="login"), **CREDENTIALS)
    assert max_age(answer) is None
    (session,) = site.server.store.sessions.scan()
    assert not session.kept


def test_box_stays_ticked_after_a_wrong_password(site: Site, browser: Browser) -> None:
    site.user("alice")
    page = browser.submit(open_sign_in(browser), username="alice", password="wrong password", keep="on")
    assert page.form.fields["keep"] == "on"
    assert max_age(browser.send(page, **CREDENTIALS)) == 30 * DAY


def test_box_is_neither_shown_nor_accepted_where_the_setting_is_off(site_with: Callable[..., Site]) -> None:
    site = site_with(keep_signed_in=False)
    site.user("alice")
    browser = Browser(site)
    page = open_sign_in(browser)
    assert "Keep me signed in" not in page.body
    answer = browser.send(page, **CREDENTIALS, keep="on")
    assert not [value for name, value in answer.headers if "session" in value and "Max-Age" in value]
    browser.close()


# ---- devices


def test_devices_show_network_and_last_use_for_programs_and_readers(site: Site, browser: Browser) -> None:
    site.user("alice")
    sign_in_to_account(browser)
    page = browser.get("/account/browsers")
    assert "IP address 127.0.0.*" in visible_text(page)
    assert page.body.count("<time datetime=") == 2
    assert " UTC</time>" in page.body
    (session,) = site.server.store.sessions.scan()
    assert session.network == "127.0.0.*"


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("203.0.113.77", "203.0.113.*"),
        ("::ffff:203.0.113.77", "203.0.113.*"),
        ("2001:db8:1:2::3", "2001:db8:1:*"),
        ("::1", "0:0:0:*"),
        ("", None),
        ("unknown", None),
    ],
)
def test_address_is_masked(address: str, text: str | None) -> None:
    assert masked(address) == text


# ---- /.well-known/change-password


def test_password_managers_are_led_to_the_page_that_changes_the_password(site: Site, browser: Browser) -> None:
    answer = browser.get("/.well-known/change-password")
    assert (answer.status, answer.location) == (302, "/account/password")
    site.user("alice")
    sign_in_to_account(browser)
    assert browser.follow(answer).form.fields.keys() >= {"password", "new_password"}


def test_unknown_well_known_address_is_not_found(browser: Browser) -> None:
    """By this address, password managers see that status codes can be relied on (W3C, section 3.1)."""
    name = "resource-that-should-not-exist-whose-status-code-should-not-be-200"
    assert browser.get(f"/.well-known/{name}").status == 404
