"""The playground in a real browser, from start to end, as a newcomer goes through it."""

import json
import re
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from tests.site import Site
from tests.windows import Window, scripted_or_not, violations

pytestmark = pytest.mark.browser


@pytest.fixture
def there(site_with: Callable[..., Site]) -> Site:
    """A server with a playground, and a person on it."""
    made = site_with(playground=True)
    made.user("alice", claims={"email": "alice@example.com"})
    return made


@pytest.fixture
def open_window(there: Site, windows: Callable[..., Window]) -> Callable[[bool], Window]:
    """Opens a window at the beginning of the playground."""

    def at_the_beginning(script: bool) -> Window:
        window = windows(java_script_enabled=script)
        window.page.goto(f"{there.settings.issuer}/playground")
        return window

    return at_the_beginning


def step(window: Window) -> str:
    """Where one is, as the page says."""
    return window.page.locator("[aria-current=step]").inner_text()


def shown(window: Window) -> list[str]:
    """The requests and answers on the page."""
    return window.page.locator("pre").all_inner_texts()


def members(answer: str) -> dict[str, Any]:
    """The JSON of an answer."""
    found: dict[str, Any] = json.loads(answer.partition("\n\n")[2])
    return found


def tokens(window: Window, there: Site, answer: str) -> dict[str, Any]:
    found = members(answer)
    there.secrets.update(found[name] for name in ("access_token", "refresh_token", "id_token"))
    return found


def code(window: Window, there: Site) -> str:
    """That which the page shows."""
    (arrived,) = shown(window)
    found = re.search(r"\?code=(code_[\w-]+)\n", arrived)
    assert found, arrived
    there.secrets.add(found[1])
    return found[1]


def follow(window: Window, name: str) -> None:
    """Press the button that the page suggests."""
    assert window.page.locator(".primary").all_inner_texts() == [name]
    window.press(name)


@scripted_or_not
def test_from_the_photos_to_the_end_of_the_grant(
    there: Site, open_window: Callable[[bool], Window], script: bool
) -> None:
    window = open_window(script)
    assert step(window) == "Ask"
    (asked,) = shown(window)
    assert "code_challenge_method=S256" in asked
    follow(window, "Import photos")
    assert window.heading() == "Sign in"
    assert "Photo Print" in window.text()
    window.sign_in()
    assert window.heading() == "Allow access?"
    assert f"127.0.0.1:{there.port}" in window.text()
    window.press("Allow once")

    assert step(window) == "Code"
    given = code(window, there)
    follow(window, "Get access token")
    assert step(window) == "Tokens"
    request, answer, *decoded = shown(window)
    assert f"&code={given}\n" in request
    assert "&code_verifier=" in request
    assert answer.startswith("HTTP/1.1 200 OK\n")
    first = tokens(window, there, answer)
    for name, header, claims in (("access_token", *decoded[:2]), ("id_token", *decoded[2:])):
        assert json.loads(header) == jwt.get_unverified_header(first[name])
        assert json.loads(claims) == jwt.decode(first[name], options={"verify_signature": False})
    assert "that the nonce is its own: it is." in window.text()

    follow(window, "Call a protected resource")
    assert step(window) == "Resource"
    request, answer = shown(window)
    assert f"Authorization: Bearer {first['access_token']}" in request
    assert members(answer)["email"] == "alice@example.com"

    follow(window, "Refresh")
    request, answer, *_ = shown(window)
    assert f"&refresh_token={first['refresh_token']}" in request
    second = tokens(window, there, answer)
    assert second["refresh_token"] != first["refresh_token"]

    follow(window, "Use the old code again")
    assert step(window) == "Old code"
    request, refused, resource, dead = shown(window)
    assert f"&code={given}\n" in request
    assert refused.startswith("HTTP/1.1 400 ")
    assert members(refused)["error"] == "invalid_grant"
    assert second["access_token"] in resource
    assert dead.startswith("HTTP/1.1 401 ")
    window.press("Refresh")
    _, answer = shown(window)
    assert members(answer)["error"] == "invalid_grant", "the whole grant has ended"
    window.page.get_by_role("link", name="Start again").click()
    assert step(window) == "Ask"


@scripted_or_not
def test_the_second_time_nobody_signs_in_and_what_was_given_is_given_back(
    there: Site, open_window: Callable[[bool], Window], script: bool
) -> None:
    window = open_window(script)
    window.press("Import photos")
    window.sign_in()
    window.press("Deny")
    assert step(window) == "Code"
    assert "access_denied" in window.page.get_by_role("alert").inner_text()
    assert window.page.get_by_role("button").count() == 0
    window.page.get_by_role("link", name="Start again").click()
    window.press("Import photos")
    assert window.heading() == "Allow access?"
    window.press("Allow once")
    code(window, there)
    window.press("Get access token")
    tokens(window, there, shown(window)[1])
    window.press("Revoke")
    assert step(window) == "Revoke"
    request, answer, _, dead = shown(window)
    assert request.startswith("POST /oauth2/revoke ")
    assert answer.startswith("HTTP/1.1 200 ")
    assert dead.startswith("HTTP/1.1 401 ")


@scripted_or_not
def test_the_keyboard_is_enough(there: Site, open_window: Callable[[bool], Window], script: bool) -> None:
    window = open_window(script)
    window.enter("Import photos")
    window.type_in()
    window.enter("Allow once")
    code(window, there)
    window.enter("Get access token")
    tokens(window, there, shown(window)[1])
    window.enter("Call a protected resource")
    window.enter("Refresh")
    tokens(window, there, shown(window)[1])
    window.enter("Use the old code again")
    window.enter("Revoke")
    assert step(window) == "Revoke"
    window.enter("Start again")
    assert step(window) == "Ask"


def test_an_answer_to_another_question_is_not_used_and_the_page_says_so(
    there: Site, open_window: Callable[[bool], Window]
) -> None:
    window = open_window(True)
    window.page.goto(f"{there.settings.issuer}/playground/callback?code=code_of_somebody_else&state=x")
    assert "The state is not one that" in window.page.get_by_role("alert").inner_text()
    assert window.page.get_by_role("button").count() == 0
    assert violations(window.page) == []
