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
def open_window(with_playground: Site, windows: Callable[..., Window]) -> Callable[[bool], Window]:
    """Opens a window at the beginning of the playground."""

    def at_the_beginning(script: bool) -> Window:
        window = windows(java_script_enabled=script)
        window.page.goto(f"{with_playground.settings.issuer}/playground")
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


def tokens(window: Window, with_playground: Site, answer: str) -> dict[str, Any]:
    found = members(answer)
    with_playground.secrets.update(found[name] for name in ("access_token", "refresh_token", "id_token"))
    return found


def code(window: Window, with_playground: Site) -> str:
    """That which the page shows."""
    (arrived,) = shown(window)
    found = re.search(r"\?code=(code_[\w-]+)\n", arrived)
    assert found, arrived
    with_playground.secrets.add(found[1])
    return found[1]


def follow(window: Window, name: str) -> None:
    """Press the button that the page suggests."""
    assert window.page.locator(".primary").all_inner_texts() == [name]
    window.press(name)


@scripted_or_not
def test_from_the_photos_to_the_end_of_the_grant(
    with_playground: Site, open_window: Callable[[bool], Window], script: bool
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
    assert f"127.0.0.1:{with_playground.port}" in window.text()
    window.press("Allow once")

    assert step(window) == "Code"
    given = code(window, with_playground)
    follow(window, "Get access token")
    assert step(window) == "Tokens"
    request, answer, *decoded = shown(window)
    assert f"&code={given}\n" in request
    assert "&code_verifier=" in request
    assert answer.startswith("HTTP/1.1 200 OK\n")
    first = tokens(window, with_playground, answer)
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
    second = tokens(window, with_playground, answer)
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
    with_playground: Site, open_window: Callable[[bool], Window], script: bool
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
    code(window, with_playground)
    window.press("Get access token")
    tokens(window, with_playground, shown(window)[1])
    window.press("Revoke")
    assert step(window) == "Revoke"
    request, answer, _, dead = shown(window)
    assert request.startswith("POST /oauth2/revoke ")
    assert answer.startswith("HTTP/1.1 200 ")
    assert dead.startswith("HTTP/1.1 401 ")


@scripted_or_not
def test_the_keyboard_is_enough(with_playground: Site, open_window: Callable[[bool], Window], script: bool) -> None:
    window = open_window(script)
    window.enter("Import photos")
    window.type_in()
    window.enter("Allow once")
    code(window, with_playground)
    window.enter("Get access token")
    tokens(window, with_playground, shown(window)[1])
    window.enter("Call a protected resource")
    window.enter("Refresh")
    tokens(window, with_playground, shown(window)[1])
    window.enter("Use the old code again")
    window.enter("Revoke")
    assert step(window) == "Revoke"
    window.enter("Start again")
    assert step(window) == "Ask"


def test_an_answer_to_another_question_is_not_used_and_the_page_says_so(
    with_playground: Site, open_window: Callable[[bool], Window]
) -> None:
    window = open_window(True)
    window.page.goto(f"{with_playground.settings.issuer}/playground/callback?code=code_of_somebody_else&state=x")
    assert "The state is not one that" in window.page.get_by_role("alert").inner_text()
    assert window.page.get_by_role("button").count() == 0
    assert violations(window.page) == []
