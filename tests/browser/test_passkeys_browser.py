"""Passkeys in Chromium, with its virtual authenticator (Chrome DevTools Protocol)."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from chalicelib.protocol.authentication_context import PHISHING_RESISTANT
from chalicelib.protocol.passkey import Passkey
from tests.support.authenticator import passkey_site
from tests.support.chromium import Application, Window, redeem_latest_code, violations
from tests.support.second_factor import add_second_factor
from tests.support.site import Registered, Site

pytestmark = pytest.mark.browser


class Keys:
    """The virtual authenticator of a window: a phone or computer that verifies the user by itself."""

    def __init__(self, window: Window, **options: Any):
        self.session = window.context.new_cdp_session(window.page)
        self.session.send("WebAuthn.enable")
        given = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
            "defaultBackupEligibility": True,
            "defaultBackupState": True,
        }
        added = self.session.send("WebAuthn.addVirtualAuthenticator", {"options": given | options})
        self.id = added["authenticatorId"]

    def call(self, method: str, **parameters: Any) -> Any:
        return self.session.send(f"WebAuthn.{method}", {"authenticatorId": self.id, **parameters})

    @property
    def credentials(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.call("getCredentials")["credentials"]
        return listed


@pytest.fixture
def site(site_with: Callable[..., Site]) -> Site:
    return passkey_site(site_with)


@pytest.fixture
def window(site: Site, windows: Callable[..., Window]) -> Window:
    site.user("alice")
    return windows()


@pytest.fixture
def client(site: Site, application: Application) -> Registered:
    return site.client(redirect_uris=[application.url()], trusted=True)


def add_passkey(window: Window) -> None:
    """Sign in with the password, and add a passkey on the account page."""
    window.to("/account")
    window.sign_in()
    window.to("/account/passkeys")
    window.press("Add a passkey")


def sign_out(window: Window) -> None:
    """Forget the session; the authenticator stays."""
    window.context.clear_cookies()


def passkeys(site: Site) -> list[Passkey]:
    return list(site.server.store.passkeys.scan())


def hold_list(window: Window) -> None:
    """Let the list of passkeys at the username stay empty, so that a test presses the button instead."""
    hide = "PublicKeyCredential.isConditionalMediationAvailable = () => Promise.resolve(false)"
    window.page.add_init_script(hide)


def test_a_passkey_is_added_and_signs_in_by_the_button(
    site: Site, window: Window, client: Registered, application: Application
) -> None:
    keys = Keys(window)
    hold_list(window)
    add_passkey(window)
    assert window.page.get_by_role("status").inner_text() == "Your passkey is added. You can sign in with it now."
    (passkey,) = passkeys(site)
    assert (passkey.rp_id, passkey.backup_eligible, passkey.user_verified) == ("localhost", True, True)
    assert violations(window.page) == []
    sign_out(window)
    window.authorize(client, application.url())
    assert violations(window.page) == []
    window.page.get_by_label("Password").fill("half a password")
    with window.page.expect_navigation(url="**/cb**"):
        window.page.get_by_role("button", name="Sign in with a passkey").click()
    claims = redeem_latest_code(site, client, application, application.url())
    assert claims["amr"] == ["pop", "user", "mfa"]
    assert len(keys.credentials) == 1


def test_a_passkey_signs_in_from_the_list_at_the_username(
    site: Site, window: Window, client: Registered, application: Application
) -> None:
    Keys(window)
    add_passkey(window)
    sign_out(window)
    with window.page.expect_navigation(url="**/cb**"):
        # Chromium's virtual authenticator chooses the only passkey by itself.
        window.authorize(client, application.url())
    assert redeem_latest_code(site, client, application, application.url())["amr"] == ["pop", "user", "mfa"]


def test_a_failed_user_verification_stays_on_the_page_and_the_button_works_again(site: Site, window: Window) -> None:
    keys = Keys(window)
    hold_list(window)
    add_passkey(window)
    sign_out(window)
    window.to("/account")
    keys.call("setUserVerified", isUserVerified=False)
    button = window.page.get_by_role("button", name="Sign in with a passkey")
    button.click()
    expect(button).to_be_enabled()
    assert window.heading() == "Sign in"
    keys.call("setUserVerified", isUserVerified=True)
    with window.page.expect_navigation():
        button.click()
    expect(window.page.get_by_role("heading", level=1)).to_have_text("Applications with access")


def test_a_passkey_is_used_after_the_password_in_place_of_the_code(
    site: Site, window: Window, client: Registered, application: Application
) -> None:
    Keys(window)
    hold_list(window)
    add_passkey(window)
    add_second_factor(site)
    sign_out(window)
    window.authorize(client, application.url())
    window.page.get_by_label("Keep me signed in").check()
    window.sign_in()
    assert window.heading() == "Enter the code"
    assert violations(window.page) == []
    with window.page.expect_navigation(url="**/cb**"):
        window.page.get_by_role("button", name="Use a passkey").click()
    claims = redeem_latest_code(site, client, application, application.url())
    assert (claims["amr"], claims["acr"]) == (["pwd", "pop", "user", "mfa"], PHISHING_RESISTANT)
    (session,) = [each for each in site.server.store.sessions.scan() if each.amr != ("pwd",)]
    assert session.kept


def test_the_page_asks_for_the_passkey_alone_where_no_code_is_enough(
    site: Site, window: Window, application: Application
) -> None:
    keys = Keys(window)
    hold_list(window)
    add_passkey(window)
    client = site.client(redirect_uris=[application.url()], trusted=True, require_acr=PHISHING_RESISTANT)
    window.authorize(client, application.url())
    assert window.heading() == "Use your passkey"
    assert violations(window.page) == []
    expect(window.page.get_by_text("For this, you need JavaScript")).to_be_hidden()
    expect(window.page.get_by_label("Code of six digits")).to_have_count(0)
    keys.call("setResponseOverrideBits", isBogusSignature=True)
    window.expected_errors.append("400 (Bad Request)")
    window.press("Use a passkey")
    assert "The passkey could not be verified." in window.text()
    assert violations(window.page) == []
    keys.call("setResponseOverrideBits", isBogusSignature=False)
    with window.page.expect_navigation(url="**/cb**"):
        window.page.get_by_role("button", name="Use a passkey").click()
    assert redeem_latest_code(site, client, application, application.url())["acr"] == PHISHING_RESISTANT


def test_the_button_works_while_the_list_is_waiting(site: Site, window: Window) -> None:
    """A pending request for the list would make that of the button fail: it is aborted first."""
    keys = Keys(window)
    add_passkey(window)
    sign_out(window)
    keys.call("setAutomaticPresenceSimulation", enabled=False)
    window.to("/account")
    window.page.wait_for_timeout(200)
    keys.call("setAutomaticPresenceSimulation", enabled=True)
    window.page.wait_for_timeout(200)
    assert window.heading() == "Sign in", "the list is waiting"
    window.press("Sign in with a passkey")
    expect(window.page.get_by_role("heading", level=1)).to_have_text("Applications with access")


def test_a_wrong_signature_is_refused_with_a_text_on_the_page(site: Site, window: Window) -> None:
    keys = Keys(window)
    hold_list(window)
    add_passkey(window)
    sign_out(window)
    window.to("/account")
    keys.call("setResponseOverrideBits", isBogusSignature=True)
    window.expected_errors.append("400 (Bad Request)")
    window.press("Sign in with a passkey")
    assert "The passkey could not be verified." in window.text()
    keys.call("setResponseOverrideBits", isBogusSignature=False)
    window.press("Sign in with a passkey")
    assert window.heading() == "Applications with access"


def test_a_removed_passkey_is_unknown_and_the_page_says_so(site: Site, window: Window) -> None:
    Keys(window)
    hold_list(window)
    add_passkey(window)
    (passkey,) = passkeys(site)
    sign_out(window)
    window.to("/account")
    site.server.store.passkeys.delete(passkey.sub, passkey.passkey_id)
    window.expected_errors.append("400 (Bad Request)")
    window.press("Sign in with a passkey")
    assert "This passkey does not belong to an account here." in window.text()
    window.sign_in()
    assert window.heading() == "Applications with access"


def test_removing_a_passkey_tells_the_password_manager(site: Site, window: Window) -> None:
    keys = Keys(window)
    hold_list(window)
    add_passkey(window)
    assert len(keys.credentials) == 1
    window.page.get_by_text("Rename or remove").click()
    window.page.get_by_role("button", name="Remove", exact=False).last.click()
    expect(window.page.get_by_text("You have no passkey yet.")).to_be_visible()
    assert passkeys(site) == []
    assert window.page.evaluate("'signalAllAcceptedCredentials' in PublicKeyCredential")
    window.page.wait_for_timeout(200)
    assert keys.credentials == []


def test_a_counter_that_does_not_increase_is_rejected(site: Site, window: Window) -> None:
    Keys(window, defaultBackupEligibility=False, defaultBackupState=False)
    hold_list(window)
    add_passkey(window)
    (passkey,) = passkeys(site)
    site.server.store.passkeys.transition((passkey.sub, passkey.passkey_id), None, {"sign_count": 1000})
    sign_out(window)
    window.to("/account")
    window.expected_errors.append("400 (Bad Request)")
    window.press("Sign in with a passkey")
    assert "This passkey may have been copied" in window.text()


def test_the_same_device_adds_only_one_passkey(site: Site, window: Window) -> None:
    Keys(window)
    hold_list(window)
    add_passkey(window)
    window.page.get_by_role("button", name="Add a passkey").click()
    expect(window.page.get_by_text("This device already has a passkey for your account.")).to_be_visible()
    assert len(passkeys(site)) == 1


def test_pages_work_without_javascript(site: Site, windows: Callable[..., Window]) -> None:
    site.user("alice")
    window = windows(java_script_enabled=False)
    window.to("/account")
    expect(window.page.get_by_role("button", name="Sign in with a passkey")).to_be_hidden()
    window.sign_in()
    window.to("/account/passkeys")
    assert window.heading() == "Passkeys"
    expect(window.page.get_by_role("button", name="Add a passkey")).to_be_hidden()
    assert "you need JavaScript" in window.text()


def test_a_browser_without_passkeys_shows_the_password_form(site: Site, window: Window) -> None:
    window.page.add_init_script("delete window.PublicKeyCredential")
    window.to("/account")
    expect(window.page.get_by_role("button", name="Sign in with a passkey")).to_be_hidden()
    window.sign_in()
    window.to("/account/passkeys")
    assert "a browser that supports passkeys" in window.text()


def test_list_that_the_browser_refuses_is_no_error_before_the_button_is_pressed(site: Site, window: Window) -> None:
    window.page.add_init_script("""
        const get = navigator.credentials.get.bind(navigator.credentials);
        navigator.credentials.get = (options) => {
          const asking = get(options);
          asking.catch(() => { window.refused = true; });
          return asking;
        };
    """)
    window.page.goto(f"http://127.0.0.1:{site.port}/oauth2/authorize?client_id=account&response_type=code")
    window.page.wait_for_function("window.refused")  # passkeys belong to localhost
    expect(window.page.locator("#passkey_problem")).to_be_hidden()
    window.page.get_by_role("button", name="Sign in with a passkey").click()
    expect(window.page.locator("#passkey_problem")).to_be_visible()
