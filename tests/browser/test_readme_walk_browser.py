"""The README's walk of a user, from sign-up to recovery, on the server that `make run` starts."""

import base64
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from playwright.sync_api import Locator, expect

from infra.local.state import CHECKOUT
from tests.browser.test_passkeys_browser import Keys, hold_list
from tests.support.chromium import Profiles, Window
from tests.support.local_server import COMMANDS, Program
from tests.support.ports import free_port
from tests.support.second_factor import hotp
from tests.support.site import Site

pytestmark = [pytest.mark.browser, pytest.mark.slow]

USERNAME, ADDRESS = "carol", "carol@example.com"
PASSWORDS = ["the first long password", "the second long password"]
CODE = re.compile(r"\b[0-9A-Z]{4}-[0-9A-Z]{4}\b")


def steps() -> list[str]:
    """Return the numbered steps of the README, each on one line."""
    section = (CHECKOUT / "README.md").read_text("utf-8").partition("## Be a user for five minutes")[2]
    numbered = section.partition("\n## ")[0].partition("\n1. ")[2]
    return [" ".join(step.split()) for step in re.split(r"\n\d\. ", numbered)]


class Walk:
    """A user who reads the README: what a step does must be in its text."""

    def __init__(self, window: Window, issuer: str):
        self.window, self.page, self.issuer = window, window.page, issuer
        self.done: list[set[str]] = []

    def begin(self) -> None:
        """Begin the next step."""
        self.done.append(set())

    def press(self, *names: str) -> None:
        """Press buttons or links that lead to another page, one after the other."""
        for name in names:
            self.done[-1].add(name)
            with self.page.expect_navigation():
                self._named(name).click()

    def unfold(self, name: str) -> None:
        """Open a part of the page."""
        self.done[-1].add(name)
        self.page.get_by_text(name, exact=True).click()

    def see(self, name: str) -> None:
        """See a button that the README names as the other choice."""
        self.done[-1].add(name)
        expect(self._named(name)).to_be_visible()

    def _named(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True).or_(
            self.page.get_by_role("link", name=name, exact=True)
        )

    def fill(self, **values: str) -> None:
        """Fill in fields by their ids."""
        for field, value in values.items():
            self.page.locator(f"#{field}").fill(value)

    def sign_in(self, password: str) -> None:
        """Fill in the sign-in form, and press its button."""
        self.fill(username=USERNAME, password=password)
        with self.page.expect_navigation():
            self._named("Sign in").click()

    def code_from_mailbox(self, before: int) -> str:
        """Return the code of the newest mail with one, once it is among those after the first `before`."""
        tab = self.window.context.new_page()
        end = time.monotonic() + 20
        codes: list[str] = []
        while not codes:
            assert time.monotonic() < end
            tab.goto(f"{self.issuer}/mailbox")
            cards = tab.locator(".cards > li").all_inner_texts()  # the newest first
            # A mail about what was done before may arrive later than the one that was asked for.
            codes = [code[0] for card in cards[: len(cards) - before] if (code := CODE.search(card))]
            time.sleep(0.2)
        tab.close()
        return codes[0]

    def mails(self) -> int:
        tab = self.window.context.new_page()
        tab.goto(f"{self.issuer}/mailbox")
        count = tab.locator(".cards > li").count()
        tab.close()
        return count

    def heading(self) -> str:
        return self.window.heading()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    started = Program(["env", "SIGNET_SIGN_UP=on", *COMMANDS["make run"]], free_port(), tmp_path)
    yield started
    started.end(signal.SIGTERM)


@pytest.fixture
def walk(program: Program, profiles: Profiles, site: Site) -> Iterator[Walk]:
    issuer = f"http://localhost:{program.port}"
    local: Any = SimpleNamespace(settings=SimpleNamespace(issuer=issuer), secrets=site.secrets)
    window = Window(profiles, cast(Site, local))
    Keys(window)
    hold_list(window)
    yield Walk(window, issuer)
    window.close()


def test_user_walks_from_sign_up_to_recovery_as_the_readme_says(walk: Walk) -> None:
    page = walk.page

    walk.begin()
    page.goto(f"{walk.issuer}/playground")
    walk.press("Import photos", "Create an account")
    walk.fill(email=ADDRESS)
    walk.press("Send email")
    walk.fill(code=walk.code_from_mailbox(0))
    walk.press("Continue")
    walk.fill(username=USERNAME, new_password=PASSWORDS[0], new_password_again=PASSWORDS[0])
    walk.press("Create account", "Continue to sign in")

    walk.begin()
    expect(page.locator("input[name=can_add_passkey]")).to_have_value("yes")
    walk.fill(username=ADDRESS, password=PASSWORDS[0])
    walk.press("Sign in")
    walk.see("Not now")
    walk.press("Add a passkey")
    assert walk.heading() == "Allow access?"
    walk.press("Allow")
    assert page.locator("[aria-current=step]").inner_text() == "Code"

    walk.begin()
    page.goto(f"{walk.issuer}/account")
    walk.press("Second factor", "Set up")
    secret = base64.b32decode((page.locator("#secret").text_content() or "").replace(" ", ""))
    walk.fill(one_time_code=hotp(secret, int(time.time()) // 30))
    walk.press("Continue")
    recovery_codes = (page.locator("#codes").text_content() or "").split()
    page.locator("#saved").check()
    walk.press("Turn on")
    assert walk.window.page.get_by_role("status").inner_text() == "Your second factor is on."

    walk.begin()
    walk.press("Sign out", "Sign out")
    page.goto(f"{walk.issuer}/account")
    walk.press("Sign in with a passkey")
    assert walk.heading() == "Applications with access"

    walk.begin()
    walk.window.context.clear_cookies()
    page.goto(f"{walk.issuer}/account")
    before = walk.mails()
    walk.press("Forgot your password?")
    walk.fill(username=USERNAME)
    walk.press("Send email")
    walk.fill(code=walk.code_from_mailbox(before))
    walk.press("Continue")
    walk.fill(new_password=PASSWORDS[1], new_password_again=PASSWORDS[1])
    walk.press("Save new password", "Continue to sign in")
    walk.sign_in(PASSWORDS[1])
    walk.unfold("Use a recovery code")
    walk.fill(recovery_code=recovery_codes[0])
    walk.window.press("Continue")
    assert walk.heading() == "Applications with access"

    walk.begin()
    walk.press("Your data")
    walk.done[-1].add("Download my data")
    walk.window.expected_errors.append("failed: net::ERR_ABORTED [/account/data]")  # Chromium stays on the page
    with page.expect_download() as download:
        page.get_by_role("button", name="Download my data", exact=True).click()
    assert download.value.suggested_filename == "account-data.json"
    walk.press("Delete my account")
    walk.fill(password=PASSWORDS[1])
    walk.press("Delete my account")
    assert walk.heading() == "Your account is deleted"
    walk.press("Restore my account")
    assert walk.heading() == "Your account is restored"

    named = [set(re.findall(r'"([^"]+)"', step)) for step in steps()]
    assert walk.done == named, "the README names what the user does, and nothing else"
