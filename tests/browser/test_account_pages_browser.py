"""The account pages in Chromium: times in the zone of the reader, staying signed in, deleting and restoring."""

from collections.abc import Callable

import pytest

from tests.support.chromium import Window, with_and_without_javascript
from tests.support.site import PASSWORD, Site


@pytest.mark.parametrize(("zone", "hour"), [("Asia/Tokyo", "13:05"), ("America/New_York", "23:05")])
def test_times_are_shown_in_the_time_zone_of_the_reader(
    site: Site, windows: Callable[..., Window], zone: str, hour: str
) -> None:
    site.user("alice")
    site.clock.time -= site.clock.time % 86400
    site.clock.advance(4 * 3600 + 300)
    window = windows(timezone_id=zone, locale="en-GB")
    window.to("/account")
    window.sign_in_by_keyboard()
    window.to("/account/browsers")
    time = window.page.locator("time").first
    assert hour in time.inner_text()
    assert "04:05 UTC" in (time.get_attribute("title") or "")


def test_times_are_utc_without_javascript(site: Site, windows: Callable[..., Window]) -> None:
    site.user("alice")
    window = windows(timezone_id="Asia/Tokyo", java_script_enabled=False)
    window.to("/account")
    window.sign_in_by_keyboard()
    window.to("/account/browsers")
    assert window.page.locator("time").first.inner_text().endswith(" UTC")


@with_and_without_javascript
def test_account_is_deleted_and_restored_with_the_keyboard(
    site: Site, windows: Callable[..., Window], script: bool
) -> None:
    site.user("alice")
    window = windows(java_script_enabled=script)
    window.to("/account")
    window.sign_in_by_keyboard()
    window.enter("Your data")
    window.enter("Delete my account")
    window.page.locator("#password").focus()
    window.page.keyboard.type(PASSWORD)
    window.enter("Delete my account")
    assert window.heading() == "Your account is deleted"
    assert site.read_user().deleted_at
    window.enter("Restore my account")
    assert window.heading() == "Your account is restored"
    window.enter("Sign in")
    window.sign_in_by_keyboard()
    assert window.heading() == "Applications with access"


def test_data_is_saved_as_a_file(site: Site, windows: Callable[..., Window]) -> None:
    site.user("alice")
    window = windows()
    window.to("/account")
    window.sign_in_by_keyboard()
    window.to("/account/data")
    window.expected_errors.append("failed: net::ERR_ABORTED [/account/data]")  # Chromium stays on the page
    with window.page.expect_download() as download:
        window.page.get_by_role("button", name="Download my data").click()
    assert download.value.suggested_filename == "account-data.json"
    assert window.heading() == "Your data"
