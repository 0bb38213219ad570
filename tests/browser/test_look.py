"""The look and the accessibility of every page in a real browser: both themes, a phone, enlarged, without JavaScript.

Texts from clients, users and requests may be long, hostile, or written from right to left.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from chalicelib import pages
from tests.support.chromium import PHONE, Window, violations
from tests.support.gallery import HOME, Gallery, Words, local_settings
from tests.support.hostile import BIDI, EMOJI, MARKUP, TEMPLATE
from tests.support.site import PASSWORD, Site

pytestmark = pytest.mark.browser

MAX_BYTES = 30_000  # of a page with its style sheet
ALL_PAGES = {
    *(
        "home",
        "errors",
        "errors_sign_in",
        "errors_applications",
        "error",
        "error_of_a_request",
        "sign_in",
        "sign_in_again",
    ),
    *("change_password", "change_password_again", "consent", "consent_to_more"),
    *("consent_for_an_api", "consent_with_details", "consent_on_this_device", "consent_own_scheme", "form_post"),
    *("sign_out", "sign_out_unregistered", "still_signed_in", "signed_out", "signed_out_unregistered"),
    *("recover", "email_code", "email_code_elsewhere", "reset_password", "reset_password_done"),
    *("email_sign_in", "email_sign_in_again", "email_sign_in_link", "email_sign_in_link_elsewhere"),
    *("sign_up", "new_account", "new_account_done"),
    *("account_email", "account_email_code", "confirm_address", "undo_address", "undo_address_done"),
    *("let_in", "let_in_done", "mailbox"),
    *("playground", "playground_code", "playground_tokens", "playground_resource", "playground_old_code"),
    *("account_second_factor_off", "account_second_factor_setup", "account_second_factor"),
    *("enrol_second_factor", "enrol_second_factor_again", "enrol_second_factor_codes"),
    *("second_factor", "second_factor_again"),
    *(
        "account_applications",
        "account_browsers",
        "account_activity",
        "account_password",
        "account_passkeys",
        "account_done",
    ),
    *("account_profile", "account_profile_again", "account_data", "account_delete", "account_delete_again"),
    *("account_restore", "account_restored", "account_restore_nothing"),
    *("email_code_to_restore", "restore_account", "restore_account_done"),
}
# What other templates extend or include, a page that sends its form by itself (tested in endpoints/logout), and one
# that needs a domain name (tested in test_passkey_offer_browser.py).
NOT_IN_GALLERY = {
    "authorization_details",
    "base",
    "form",
    "account",
    "account_parts",
    "second_factor_parts",
    "parts",
    "script",
    "language_menu",
    "links",
    "hidden_fields",
    "sign_out_again",
    "offer_passkey",
}
EXPECTED_ERRORS = ["status of 400 (Bad Request)", "net::ERR_ABORTED [/callback]"]


def fits(page: Page) -> bool:
    """Return whether the page fits its window without horizontal scrolling."""
    width: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width <= 0


@pytest.mark.spec("WCAG 2.2")
def test_every_page_is_accessible_reflows_and_is_small(
    site_with: Callable[..., Site], windows: Callable[..., Window]
) -> None:
    site = site_with(**local_settings())
    window = windows(viewport={"width": 1280, "height": 800})
    window.expected_errors += EXPECTED_ERRORS
    page, seen, urls = window.page, set(), []
    page.on("request", lambda request: urls.append(request.url))
    for name in Gallery(site, page).pages():
        seen.add(name)
        problem = page.locator(".problem").count() > 0
        assert page.title() == f"{'Error: ' * problem}{page.title().removeprefix('Error: ')}"
        assert page.title().endswith(" · Signet")
        assert page.get_by_role("heading", level=1).count() == 1
        assert violations(page) == [], name
        check_targets_and_fields(page, name)
        check_reflow(page, name)
        weight = page.request.get(site.settings.issuer + style_sheet_url(page)).text() + page.content()
        assert len(weight.encode()) < MAX_BYTES, name
    assert seen == ALL_PAGES
    external = [url for url in urls if not url.startswith((f"{site.settings.issuer}/", "data:"))]
    assert set(external) == {HOME}, "only the form that forwards a response"


def test_gallery_opens_every_template() -> None:
    templates = {path.stem for path in Path(pages.__file__).parent.glob("*.html")}
    assert templates - NOT_IN_GALLERY <= ALL_PAGES


def style_sheet_url(page: Page) -> str:
    (address,) = [link.get_attribute("href") or "" for link in page.locator("link[rel=stylesheet]").all()]
    return address


def check_targets_and_fields(page: Page, name: str) -> None:
    """WCAG 2.2, 2.5.8 and 1.3.5: buttons are large enough, and fields have a label and an autocomplete value."""
    for button in page.get_by_role("button").all():
        box = button.bounding_box()
        assert box
        assert box["height"] >= 24
    fields = page.locator("input:not([type=hidden])").all()
    for field in fields:
        assert field.evaluate("field => field.labels.length") == 1
    boxes = [field for field in fields if field.get_attribute("type") == "checkbox"]
    assert all(min(box["width"], box["height"]) >= 24 for box in map(Locator.bounding_box, boxes) if box)
    autocomplete = [field.get_attribute("autocomplete") for field in fields if field not in boxes]
    expected = {
        "sign_in": ["username", "current-password"],
        "change_password": ["username", "new-password", "new-password"],
        "second_factor": ["one-time-code", "off"],
        "enrol_second_factor": ["one-time-code"],
        "account_second_factor_setup": ["one-time-code"],
        "account_second_factor": ["one-time-code", "off"] * 2,
        "reset_password": ["username", "new-password", "new-password"],
        "recover": ["username"],
        "sign_up": ["email"],
        "new_account": ["username", "new-password", "new-password"],
        "email_code": ["one-time-code"],
        "email_sign_in": ["one-time-code"],
        "email_code_elsewhere": ["one-time-code"],
        "email_code_to_restore": ["one-time-code"],
        "account_email": ["email"],
        "account_email_code": ["one-time-code"],
        "account_password": ["username", "current-password", "new-password", "new-password"],
        "account_profile": [
            *("name", "given-name", "family-name", "nickname", "bday", "url", "language", "off"),
        ],
        "account_delete": ["username", "current-password"],
        "account_passkeys": ["off", "off"],
    }
    assert autocomplete == expected.get(name.removesuffix("_again"), [])


def check_reflow(page: Page, name: str) -> None:
    """WCAG 2.2, 1.4.10 and 1.4.4: no horizontal scrolling at 320 pixels, or with text of twice the size."""
    shapes = [(320, ["100%"]), (640, ["100%", "200%"]), (1280, ["200%"])]  # 640: a window of 1280 at 200 % zoom
    for width, sizes in shapes:
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(TOO_WIDE, sizes) == [], (name, width)
        assert page.evaluate(LONE_DOTS) == [], (name, width)
    page.set_viewport_size({"width": 1280, "height": 800})


TOO_WIDE = """sizes => {
    const page = document.documentElement
    const shapes = sizes.flatMap(size => [[size, 'rtl'], [size, 'ltr']])
    const wide = shapes.filter(([size, direction]) => {
        page.style.fontSize = size
        page.dir = direction
        return page.scrollWidth > page.clientWidth
    })
    page.removeAttribute('style')
    return wide
}"""

# Dots without a phrase before and behind them on the same line. A dot is in the text, or stands before an element.
LONE_DOTS = """() => [...document.querySelectorAll('.parts')].flatMap(parts => {
    const rects = node => {
        const range = document.createRange()
        range.selectNodeContents(node)
        return [...range.getClientRects()].filter(rect => rect.width)
    }
    const phrases = [...parts.children].flatMap(rects)
    const texts = [...parts.childNodes].filter(node => node.nodeType === 3 && node.data.includes('·')).flatMap(rects)
    const before = [...parts.children].flatMap(element => {
        const dot = getComputedStyle(element, '::before')
        if (!dot.content.includes('·')) return []
        const box = element.getBoundingClientRect(), left = box.left + parseFloat(dot.left)
        return [{left, right: left + parseFloat(dot.width), top: box.top, bottom: rects(element)[0].bottom}]
    })
    const edge = parts.getBoundingClientRect().left
    return [...texts, ...before].filter(dot => dot.left >= edge && !(
        phrases.some(each => each.right <= dot.left + 1 && each.top < dot.bottom && each.bottom > dot.top) &&
        phrases.some(each => each.left >= dot.left && each.top < dot.bottom && each.bottom > dot.top)
    )).map(() => parts.textContent)
})"""


# ---- hostile texts

LONG = "W" * 10_000
HOSTILE = {
    "markup and templates": Words(
        client_name=MARKUP + TEMPLATE,
        username=(MARKUP + TEMPLATE)[:200],
        description=MARKUP + TEMPLATE,
        state=MARKUP + TEMPLATE,
        login_hint=MARKUP + TEMPLATE,
        unknown_client="<img/src=x/onerror=window.hit=1>{{1337*1337}}",
    ),
    "10 kB without a space": Words(
        client_name=LONG,
        username="w" * 300,
        scope="s" * 128,
        description=LONG,
        state="x" * 2048,
        login_hint="w" * 320,
        unknown_client="x" * 2000,
    ),
    "emoji and bidirectional controls": Words(
        client_name=f"{BIDI}{EMOJI}شركة الصور",
        username=f"{EMOJI}{BIDI}عَلِيّ",
        description=f"{BIDI}{EMOJI}" * 50,
        state=f"{BIDI}{EMOJI}",
        login_hint=f"{BIDI}{EMOJI}",
        unknown_client=f"{BIDI}{EMOJI}",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_texts_are_shown_as_text_and_fit(
    site_with: Callable[..., Site], windows: Callable[..., Window], kind: str
) -> None:
    words, site = HOSTILE[kind], site_with(**local_settings())
    window = windows(**PHONE)
    window.expected_errors += EXPECTED_ERRORS
    page = window.page
    for name in Gallery(site, page, words).pages():
        assert page.evaluate("window.hit") is None, name
        assert page.locator("img, iframe, script:not([src])").count() == 0, name
        assert page.locator("main").count() == 1, name
        assert str(1337 * 1337) not in page.content(), name
        assert fits(page), name
        page.evaluate("document.documentElement.style.fontSize = '200%'")
        assert fits(page), name
        page.evaluate("document.documentElement.removeAttribute('style')")
        if name == "consent":
            # The text around a right-to-left value keeps its direction.
            before = page.locator(".lead").evaluate("node => node.lastChild.previousElementSibling.outerHTML")
            assert before.startswith("<strong><bdi>")
            shown = page.locator(".scopes bdi").all_inner_texts()
            assert words.description.replace(" ", "") in [text.replace(" ", "") for text in shown]
            name_, button = page.locator(".aside bdi").bounding_box(), page.locator(".aside button").bounding_box()
            assert name_
            assert button
            assert button["y"] > name_["y"] or button["x"] >= name_["x"] + name_["width"], (
                "the button stays after the name"
            )
        if name == "sign_in":
            assert page.locator("#username").input_value() == words.login_hint


# ---- with and without JavaScript


def test_every_page_works_without_javascript(site_with: Callable[..., Site], windows: Callable[..., Window]) -> None:
    site = site_with(**local_settings())
    window = windows(java_script_enabled=False)
    window.expected_errors += EXPECTED_ERRORS
    seen, page = set(), window.page
    for name in Gallery(site, page).pages():
        seen.add(name)
        assert page.get_by_role("button", name="Show").count() == 0
    assert seen == ALL_PAGES
    page.unroute(HOME)
    page.route(HOME, lambda route: route.fulfill(body=f"<h1>{route.request.method}</h1>", content_type="text/html"))
    window.press("Continue")
    assert window.heading() == "POST"


def test_password_can_be_pasted_and_shown_and_is_hidden_before_it_is_sent(site: Site, window: Window) -> None:
    site.user()
    page = window.page
    client = site.client()
    page.set_content("<input>")  # scripts of our pages cannot use the clipboard
    page.locator("input").fill(PASSWORD)
    page.keyboard.press("Control+A")
    page.keyboard.press("Control+C")
    window.authorize(client, client.record.redirect_uris[0])
    field = page.locator("#password")
    page.get_by_label("Username").fill("alice")
    field.focus()
    page.keyboard.press("Control+V")
    expect(field).to_have_value(PASSWORD)
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Show password", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(field).to_have_attribute("type", "text")
    page.get_by_role("button", name="Hide password", exact=True).click()
    expect(field).to_have_attribute("type", "password")
    page.get_by_role("button", name="Show password", exact=True).click()
    page.evaluate("document.forms[0].addEventListener('submit', (sent) => sent.preventDefault())")
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(field).to_have_attribute("type", "password")
    expect(field).to_have_value(PASSWORD)


def test_focus_is_on_the_first_field_and_visible(site: Site, windows: Callable[..., Window]) -> None:
    window = windows()
    window.expected_errors += EXPECTED_ERRORS
    page = window.page
    expected = {
        "sign_in": "username",
        "sign_in_again": "password",
        "change_password": "new_password",
        "change_password_again": "new_password",
    }
    for name in Gallery(site, page).pages():
        focused = page.locator(":focus")
        assert (focused.get_attribute("id") if focused.count() else None) == expected.get(name), name
        if name.endswith("_again"):
            described = (focused.get_attribute("aria-describedby") or "").split()
            alert = page.get_by_role("alert")
            assert alert.get_attribute("id") in described
            assert focused.get_attribute("aria-invalid") == "true"
            assert page.get_by_role("textbox", name="Username").input_value() == "alice", "the username is kept"
            assert focused.input_value() == ""
            assert page.title().startswith("Error: ")
        for _ in range(page.locator("a, button:not([hidden]), input:not([type=hidden])").count()):
            page.keyboard.press("Tab")
            style = "node => [getComputedStyle(node).outlineStyle, parseFloat(getComputedStyle(node).outlineWidth)]"
            if page.locator(":focus").count():
                kind, width = page.locator(":focus").evaluate(style)
                assert (kind, width) == ("solid", 3), name
        if name == "consent_own_scheme":
            break
