"""Signing in with the code or the link of an email in a real browser."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from chalicelib.mail import proof_codes
from tests.endpoints.email_sign_in.flow import email_site
from tests.support.browser import Browser
from tests.support.chromium import Application, Window, violations, with_and_without_javascript
from tests.support.mail_flows import verified_user
from tests.support.mailbox import Mailbox
from tests.support.site import Site

pytestmark = pytest.mark.browser


@pytest.fixture
def site(site_with: Callable[..., Site], mailbox: Mailbox) -> Site:
    site = email_site(site_with)
    verified_user(site)
    return site


@pytest.fixture
def open_window(site: Site, windows: Callable[..., Window], script: bool) -> Any:
    window = windows(java_script_enabled=script)
    window.site = site
    window.expected_errors.append("status of 400 (Bad Request)")
    return window


def code_of_newest(site: Site) -> tuple[str, str]:
    """Return the code and the path of the link of the only email."""
    (proof,) = site.server.store.proofs.scan()
    code = proof_codes.code_of(site.server, proof.proof_id, proof.purpose)
    link = proof_codes.link_handle(site.server, proof.proof_id)
    site.secrets |= {code, link}
    return code, f"/account/link?link={link}"


@with_and_without_javascript
def test_code_is_asked_for_and_entered_and_the_application_gets_its_answer(
    site: Site, open_window: Window, application: Application, browser: Browser, script: bool
) -> None:
    client = site.client(redirect_uris=[application.url()], trusted=True)
    window, page = open_window, open_window.page
    window.authorize(client, application.url(), state="pending")
    page.get_by_label("Username").fill("alice")
    window.press("Email me a code")
    assert window.heading() == "Check your email"
    assert page.get_by_text("alice", exact=True).is_visible()
    field = page.get_by_label("Code from the email")
    expect(field).to_be_focused()
    assert field.get_attribute("autocomplete") == "one-time-code"
    assert not script or violations(page) == []
    field.fill("2222-2222")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This is not the code from the newest email.")
    page.reload()
    assert window.heading() == "Check your email"
    window.press("Use another way to sign in")
    assert page.get_by_label("Username").input_value() == "alice"
    window.press("Email me a code")
    code, _ = code_of_newest(site)
    page.get_by_label("Code from the email").fill(f"{code[:4]}-{code[4:]}".lower())
    page.keyboard.press("Enter")
    page.wait_for_url(f"{application.url()}?**")
    assert "state=pending" in page.url


@with_and_without_javascript
def test_link_opened_in_a_new_tab_of_the_browser_that_asked_signs_in_after_a_button(
    site: Site, open_window: Window, application: Application, windows: Callable[..., Window], script: bool
) -> None:
    client = site.client(redirect_uris=[application.url()], trusted=True)
    window = open_window
    window.authorize(client, application.url(), state="pending")
    window.page.get_by_label("Username").fill("alice")
    window.press("Email me a code")
    _, link = code_of_newest(site)
    elsewhere = windows(java_script_enabled=script)
    elsewhere.page.goto(site.settings.issuer + link)
    assert elsewhere.page.get_by_role("button").count() == 0
    expect(elsewhere.page.get_by_text("Enter the code from the email there.")).to_be_visible()
    tab = window.context.new_page()
    tab.goto(site.settings.issuer + link)
    assert not script or violations(tab) == []
    window.press("Sign in", tab)
    tab.wait_for_url(f"{application.url()}?**")
    assert "state=pending" in tab.url
