"""The history as a user sees it: the order of events, and the names of browsers."""

import re

import pytest

from tests.endpoints.account.conftest import visible_text
from tests.support.account import sign_in_to_account, submit_action
from tests.support.browser import Browser
from tests.support.site import PASSWORD, Site

ANDROID = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko)"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
DEVICES = {
    f"{ANDROID} Chrome/142.0.0.0 Mobile Safari/537.36 EdgA/142.0.0.0": "Edge on Android",
    f"{IPHONE} Version/18.0 EdgiOS/142.0.3595.66 Mobile/15E148 Safari/604.1": "Edge on iPhone",
    f"{WINDOWS} Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0": "Edge on Windows",
    f"{WINDOWS} Chrome/64.0.3282.140 Safari/537.36 Edge/18.17763": "Edge on Windows",
    f"{ANDROID} SamsungBrowser/29.0 Chrome/136.0.0.0 Mobile Safari/537.36": "Samsung Internet on Android",
    f"{IPHONE} FxiOS/145.0 Mobile/15E148 Safari/605.1.15": "Firefox on iPhone",
    "Mozilla/5.0 (Android 15; Mobile; rv:145.0) Gecko/145.0 Firefox/145.0": "Firefox on Android",
    f"{IPHONE} CriOS/142.0.7444.77 Mobile/15E148 Safari/604.1": "Chrome on iPhone",
    f"{ANDROID} Chrome/142.0.0.0 Mobile Safari/537.36": "Chrome on Android",
    f"{ANDROID} Chrome/141.0.0.0 Mobile Safari/537.36 OPR/92.0.0.0": "Opera on Android",
    f"{IPHONE} Version/18.0 Mobile/15E148 Safari/604.1 OPT/5.6.0": "Opera on iPhone",
    f"{IPHONE} Version/18.1 Mobile/15E148 Safari/604.1": "Safari on iPhone",
    f"{MAC} Version/18.1 Safari/605.1.15": "Safari on Mac",
}


@pytest.mark.parametrize("user_agent", DEVICES, ids=DEVICES.values())
def test_browser_is_named_in_the_list_of_browsers_and_in_the_activity(
    site: Site, browser: Browser, user_agent: str
) -> None:
    site.user("alice")
    page = browser.follow(browser.get("/account"))
    answer = browser.send(page, {"User-Agent": user_agent}, username="alice", password=PASSWORD)
    assert answer.status == 303
    assert f"<h2>{DEVICES[user_agent]} <span" in browser.get("/account/browsers").body
    assert f" UTC {DEVICES[user_agent]} 127.0.0.1" in visible_text(browser.get("/account/activity"))


def test_events_of_one_second_are_listed_in_the_order_in_which_they_happened(site: Site, browser: Browser) -> None:
    site.user("alice")
    sign_in_to_account(browser)
    for number in range(6):
        client = site.client(client_name=f"Number {number}")
        browser.submit(browser.authorize(client), decision="allow_always")
        submit_action(browser, "revoke", client_id=client.id)
    listed = re.findall(r"(Access \w+) Number (\d)", visible_text(browser.get("/account/activity")))
    expected = [(label, str(number)) for number in range(5, -1, -1) for label in ("Access removed", "Access allowed")]
    assert listed == expected
    assert len({event.created_at for event in site.server.store.events.scan()}) == 1, "the clock has not moved"
