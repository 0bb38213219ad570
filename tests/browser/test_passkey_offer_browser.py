"""The offer to add a passkey, and the confirmation by one, in Chromium with its virtual authenticator."""

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import expect

from chalicelib.authentication import passwords
from tests.browser.test_look import MAX_BYTES, check_reflow, check_targets_and_fields
from tests.browser.test_passkeys_browser import Keys, add_passkey, hold_list, passkeys, sign_out
from tests.browser.test_passkeys_browser import client as client
from tests.browser.test_passkeys_browser import site as site
from tests.browser.test_passkeys_browser import window as window
from tests.support.chromium import Application, Window, redeem_latest_code, violations
from tests.support.mail_flows import NEW_PASSWORD
from tests.support.second_factor import add_second_factor
from tests.support.site import PASSWORD, Registered, Site

pytestmark = pytest.mark.browser


def sign_in_until_offered(window: Window, client: Registered, application: Application) -> None:
    hold_list(window)
    window.authorize(client, application.url())
    expect(window.page.locator("input[name=can_add_passkey]")).to_have_value("yes")
    window.sign_in()


def test_passkey_is_added_after_the_first_sign_in_and_used_at_the_next(
    site: Site, window: Window, client: Registered, application: Application
) -> None:
    Keys(window)
    sign_in_until_offered(window, client, application)
    assert window.heading() == "Sign in faster next time"
    assert violations(window.page) == []
    check_targets_and_fields(window.page, "offer_passkey")
    check_reflow(window.page, "offer_passkey")
    assert len(window.page.content()) < MAX_BYTES - 15_000  # which the style sheet takes at most
    expect(window.page.get_by_text("you need JavaScript")).to_be_hidden()
    with window.page.expect_navigation(url="**/cb**"):
        window.page.get_by_role("button", name="Add a passkey").click()
    assert redeem_latest_code(site, client, application, application.url())["amr"] == ["pwd"]
    assert len(passkeys(site)) == 1
    sign_out(window)
    window.authorize(client, application.url())
    with window.page.expect_navigation(url="**/cb**"):
        window.page.get_by_role("button", name="Sign in with a passkey").click()
    assert redeem_latest_code(site, client, application, application.url())["amr"] == ["pop", "user", "mfa"]


def test_offer_is_declined_by_the_keyboard_and_not_made_again(
    site: Site, window: Window, client: Registered, application: Application
) -> None:
    keys = Keys(window)
    sign_in_until_offered(window, client, application)
    window.page.reload()
    assert window.heading() == "Sign in faster next time"
    window.enter("Not now")
    assert redeem_latest_code(site, client, application, application.url())["amr"] == ["pwd"]
    assert keys.credentials == []
    sign_out(window)
    site.clock.advance(1)
    window.authorize(client, application.url())
    expect(window.page.locator("input[name=can_add_passkey]")).to_have_value("yes")
    window.sign_in()
    assert window.heading() == "Welcome back"


def test_user_who_cancels_stays_on_the_page_and_can_continue(
    site: Site, window: Window, client: Registered, application: Application
) -> None:
    keys = Keys(window)
    sign_in_until_offered(window, client, application)
    keys.call("setUserVerified", isUserVerified=False)
    button = window.page.get_by_role("button", name="Add a passkey")
    button.click()
    expect(button).to_be_enabled()
    assert window.heading() == "Sign in faster next time"
    window.press("Not now")
    assert window.heading() == "Welcome back"
    assert passkeys(site) == []


@pytest.mark.parametrize("case", ["no JavaScript", "no WebAuthn", "no authenticator in the device"])
def test_browser_that_cannot_add_a_passkey_continues_without_a_further_page(
    site: Site, windows: Callable[..., Window], client: Registered, application: Application, case: str
) -> None:
    site.user("alice")
    window = windows(java_script_enabled=case != "no JavaScript")
    if case == "no WebAuthn":
        window.page.add_init_script("delete window.PublicKeyCredential")
    window.authorize(client, application.url())
    window.sign_in()
    assert window.heading() == "Welcome back"
    assert redeem_latest_code(site, client, application, application.url())["amr"] == ["pwd"]
    assert site.read_user().passkey_offered_at is None


@pytest.mark.parametrize("has_password", [True, False])
def test_account_is_deleted_with_a_passkey(site: Site, window: Window, has_password: bool) -> None:
    keys = Keys(window)
    hold_list(window)
    add_passkey(window)
    if not has_password:
        site.server.store.users.put(replace(site.read_user(), password_hash=""))
    window.to("/account/delete")
    assert window.page.locator("#password").count() == has_password
    assert violations(window.page) == []
    keys.call("setResponseOverrideBits", isBogusSignature=True)
    window.expected_errors.append("400 (Bad Request)")
    window.press("Delete my account with a passkey")
    assert "The passkey could not be verified." in window.text()
    assert violations(window.page) == []
    keys.call("setResponseOverrideBits", isBogusSignature=False)
    window.press("Delete my account with a passkey")
    assert window.heading() == "Your account is deleted"
    assert site.read_user().deleted_at
    window.press("Restore my account")
    assert window.heading() == "Your account is restored"


def test_data_is_downloaded_with_a_passkey(site: Site, window: Window) -> None:
    Keys(window)
    hold_list(window)
    add_passkey(window)
    site.clock.advance(301)
    window.to("/account/data")
    window.expected_errors.append("failed: net::ERR_ABORTED [/account/data]")  # Chromium stays on the page
    with window.page.expect_download() as download:
        window.page.get_by_role("button", name="Download my data with a passkey").click()
    assert download.value.suggested_filename == "account-data.json"


@pytest.mark.parametrize("has_password", [True, False])
def test_password_is_changed_with_a_passkey(site: Site, window: Window, has_password: bool) -> None:
    keys = Keys(window)
    hold_list(window)
    add_passkey(window)
    if not has_password:
        site.server.store.users.put(replace(site.read_user(), password_hash=""))
    site.secrets.add(NEW_PASSWORD)
    window.to("/account/password")
    assert window.page.locator("#password").count() == has_password
    assert violations(window.page) == []
    name = "Change password with a passkey" if has_password else "Save password with a passkey"
    button = window.page.get_by_role("button", name=name)
    button.click()
    expect(window.page.locator("#new_password")).to_be_focused()
    assert [credential["signCount"] for credential in keys.credentials] == [1], "no new password, no question"
    fill_new_password(window)
    keys.call("setResponseOverrideBits", isBogusSignature=True)
    window.expected_errors.append("400 (Bad Request)")
    window.press(name)
    assert "The passkey could not be verified." in window.text()
    assert violations(window.page) == []
    keys.call("setResponseOverrideBits", isBogusSignature=False)
    fill_new_password(window)
    window.page.locator("button[data-shows^=new_password]").click()
    if has_password:
        window.page.locator("#password").fill("a wrong password")
    window.press(name)
    assert "Your password is changed." in window.text()
    assert passwords.matches(NEW_PASSWORD, site.read_user().password_hash)


def fill_new_password(window: Window) -> None:
    for field in ("#new_password", "#new_password_again"):
        window.page.locator(field).fill(NEW_PASSWORD)


def test_current_password_is_not_sent_with_a_passkey(site: Site, window: Window) -> None:
    Keys(window)
    hold_list(window)
    add_passkey(window)
    window.to("/account/password")
    fill_new_password(window)
    window.page.locator("#password").fill(PASSWORD)
    window.page.locator("button[data-shows=password]").click()
    with window.page.expect_request(lambda sent: sent.method == "POST") as request:
        window.press("Change password with a passkey")
    sent = parse_qs(request.value.post_data or "", keep_blank_values=True)
    assert (sent["password"], sent["new_password"]) == ([""], [NEW_PASSWORD])


def plain_page(window: Window, windows: Callable[..., Window], path: str, button: str) -> Window:
    """Add a passkey, and open a page in a browser without JavaScript. Check that it does not show the button."""
    Keys(window)
    add_passkey(window)
    plain = windows(java_script_enabled=False)
    plain.to("/account")
    plain.sign_in()
    plain.to(path)
    expect(plain.page.get_by_role("button", name=button)).to_be_hidden()
    return plain


def test_password_is_changed_with_the_current_one_without_javascript(
    site: Site, window: Window, windows: Callable[..., Window]
) -> None:
    plain = plain_page(window, windows, "/account/password", "Change password with a passkey")
    plain.page.locator("#password").fill(PASSWORD)
    fill_new_password(plain)
    plain.press("Change password")
    assert "Your password is changed." in plain.text()


def test_second_factor_is_turned_off_with_a_passkey(site: Site, window: Window) -> None:
    Keys(window)
    hold_list(window)
    add_passkey(window)
    sign_out(window)
    add_second_factor(site)
    window.to("/account")
    window.press("Sign in with a passkey")
    window.to("/account/second-factor")
    window.page.get_by_text("Turn the second factor off").click()
    assert violations(window.page) == []
    window.press("Turn off with a passkey")
    assert "Your second factor is off." in window.text()
    assert not site.read_user().has_second_factor


def test_account_is_deleted_with_the_password_without_javascript(
    site: Site, window: Window, windows: Callable[..., Window]
) -> None:
    plain = plain_page(window, windows, "/account/delete", "Delete my account with a passkey")
    plain.page.locator("#password").fill(PASSWORD)
    plain.press("Delete my account")
    assert plain.heading() == "Your account is deleted"


def test_request_that_prefers_a_passkey_is_continued_without_it(
    site: Site, window: Window, client: Registered, application: Application
) -> None:
    Keys(window)
    hold_list(window)
    add_passkey(window)
    window.authorize(client, application.url(), acr_values="phr")
    assert window.heading() == "Use your passkey"
    assert violations(window.page) == []
    window.enter("Continue without a passkey")
    assert redeem_latest_code(site, client, application, application.url())["amr"] == ["pwd"]
