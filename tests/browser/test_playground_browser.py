"""The playground in a real browser. Its steps are tested over HTTP in tests/endpoints/playground."""

import json
import re
from collections.abc import Callable

import pytest

from tests.support.authorization_details import PAYMENTS, register_type
from tests.support.chromium import Window, violations, with_and_without_javascript
from tests.support.resource_servers import register_resource
from tests.support.site import Site

pytestmark = pytest.mark.browser


def current_step(window: Window) -> str:
    """Return the name of the step that the page marks as current."""
    return window.page.locator("[aria-current=step]").inner_text()


def messages(window: Window) -> list[str]:
    """Return the requests, responses and JWT parts on the page."""
    return window.page.locator("pre").all_inner_texts()


def record_tokens(window: Window, site: Site) -> None:
    """Record the tokens on the page as secrets."""
    members = json.loads(messages(window)[1].partition("\n\n")[2])
    site.secrets.update(members[name] for name in ("access_token", "refresh_token", "id_token"))


@with_and_without_javascript
def test_whole_flow_works_with_the_keyboard(
    playground_site: Site, windows: Callable[..., Window], script: bool
) -> None:
    window = windows(java_script_enabled=script)
    window.page.goto(f"{playground_site.settings.issuer}/playground")
    assert current_step(window) == "Authorize"
    window.enter("Import photos")
    assert window.heading() == "Sign in"
    assert "Photo Print" in window.text()
    window.sign_in_by_keyboard()
    assert window.heading() == "Allow access?"
    assert f"127.0.0.1:{playground_site.port}" in window.text()
    window.enter("Allow")
    assert current_step(window) == "Code"
    code = re.search(r"\?code=(code_[\w-]+)\n", messages(window)[0])
    assert code
    playground_site.secrets.add(code[1])
    window.enter("Get access token")
    assert current_step(window) == "Tokens"
    record_tokens(window, playground_site)
    window.enter("Call a protected resource")
    assert current_step(window) == "Resource"
    window.enter("Refresh")
    record_tokens(window, playground_site)
    window.enter("Use the code again")
    assert current_step(window) == "Replay"
    window.enter("Revoke")
    assert current_step(window) == "Revoke"
    window.enter("Start again")
    assert current_step(window) == "Authorize"


def test_single_permission_is_asked_for_and_shown(playground_site: Site, window: Window) -> None:
    """The example is sent as it is, with its line breaks. All pages are accessible, also on a phone."""
    register_resource(playground_site, PAYMENTS)
    register_type(playground_site, "payment", "Make a payment", "payee=Payee", uri=PAYMENTS, self_registered=True)
    page = window.page
    page.set_viewport_size({"width": 320, "height": 640})
    page.goto(f"{playground_site.settings.issuer}/playground")
    field = page.get_by_label("authorization_details")
    assert json.loads(field.input_value()) == [{"type": "payment", "payee": "example"}]
    assert violations(page) == []
    field.fill(field.input_value().replace("example", "Merchant A"))
    window.press("Ask for this permission")
    window.sign_in()
    assert "Merchant A" in window.text()
    window.press("Allow")
    code = page.locator('input[name="code"]').input_value()
    playground_site.secrets.add(code)
    window.press("Get access token")
    record_tokens(window, playground_site)
    assert "Merchant A" in page.locator(".permission").inner_text()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    window.press("Ask what the token allows")
    assert current_step(window) == "Introspect"
    assert '"active": true' in messages(window)[1]
    assert "Merchant A" in page.locator(".permission").inner_text()


def test_callback_page_with_a_wrong_state_is_accessible(playground_site: Site, window: Window) -> None:
    window.page.goto(f"{playground_site.settings.issuer}/playground/callback?code=code_of_another_user&state=x")
    assert "The state does not match a request" in window.page.get_by_role("alert").inner_text()
    assert window.page.get_by_role("button").count() == 0
    assert violations(window.page) == []
