"""The second factor in a real browser: set up on the account page, and asked for at the sign-in."""

from collections.abc import Callable
from urllib.parse import unquote

import pytest
from playwright.sync_api import expect

from chalicelib.authentication import recovery_codes
from tests.support.chromium import Window, violations, with_and_without_javascript
from tests.support.second_factor import Authenticator, add_second_factor
from tests.support.site import Site

pytestmark = pytest.mark.browser


def press(window: Window, name: str) -> None:
    """Press a button, and wait for the next page."""
    with window.page.expect_navigation():
        window.page.get_by_role("button", name=name, exact=True).click()


@with_and_without_javascript
def test_second_factor_is_set_up_and_the_codes_can_be_downloaded(
    site: Site, windows: Callable[..., Window], script: bool
) -> None:
    site.user("alice")
    window = windows(java_script_enabled=script)
    window.to("/account")
    window.sign_in()
    window.to("/account/second-factor?set_up=yes")
    assert window.heading() == "Second factor"
    window.page.get_by_text("I cannot scan it").click()
    secret = window.page.locator("#secret").inner_text()
    phone = Authenticator.of_text(site, secret)
    window.page.get_by_label("Code of six digits").fill(phone.code())
    window.page.keyboard.press("Enter")
    expect(window.page.get_by_role("heading", name="Save your recovery codes")).to_be_visible()
    codes = window.page.locator("#codes").inner_text().split()
    site.secrets.update(codes)
    assert len(codes) == recovery_codes.CODES
    link = window.page.get_by_role("link", name="Download the codes")
    assert unquote((link.get_attribute("href") or "").partition(",")[2]).split() == codes
    with window.page.expect_download() as download:
        link.click()
    assert download.value.suggested_filename == "recovery-codes.txt"
    window.page.get_by_label("I have saved the recovery codes").check()
    press(window, "Turn on")
    assert window.page.get_by_role("status").inner_text() == "Your second factor is on."
    assert not script or violations(window.page) == []


@with_and_without_javascript
def test_code_or_recovery_code_is_asked_for_after_the_password(
    site: Site, windows: Callable[..., Window], script: bool
) -> None:
    site.user("alice")
    phone = add_second_factor(site)
    window = windows(java_script_enabled=script)
    window.expected_errors.append("status of 400 (Bad Request)")
    window.to("/account")
    window.sign_in()
    assert window.heading() == "Enter the code"
    field = window.page.get_by_label("Code of six digits")
    expect(field).to_be_focused()
    assert (field.get_attribute("autocomplete"), field.get_attribute("inputmode")) == ("one-time-code", "numeric")
    field.fill("000000")
    press(window, "Continue")
    assert "Is its clock right?" in window.page.get_by_role("alert").inner_text()
    window.page.reload()
    assert window.heading() == "Enter the code"
    window.page.get_by_text("Use a recovery code").click()
    window.page.get_by_label("Recovery code", exact=True).fill(phone.recovery_codes[0].lower())
    press(window, "Continue")
    assert window.heading() == "Applications with access"
