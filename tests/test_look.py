"""How every page looks and behaves in a real browser: in both themes, on a phone, enlarged, without script.

What comes from elsewhere and stands on a page may be long, hostile, or written from right to left.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from chalicelib.pages import stylesheet
from chalicelib.pages.stylesheet import AA, DARK, LIGHT, contrast
from chalicelib.settings import Settings
from tests.gallery import HOME, Gallery, Words
from tests.site import PASSWORD, Site
from tests.windows import PHONE, Window, violations

HEAVIEST = 30_000
ALL = {
    *("home", "errors", "error", "error_of_a_request", "sign_in", "sign_in_again"),
    *("change_password", "change_password_again", "consent", "consent_to_more"),
    *("consent_on_this_device", "consent_own_scheme", "form_post"),
    *("sign_out", "still_signed_in", "signed_out"),
    *("playground", "playground_code", "playground_tokens", "playground_resource", "playground_old_code"),
    *("account_applications", "account_browsers", "account_activity", "account_password"),
}
FORGIVEN = ["status of 400 (Bad Request)", "net::ERR_ABORTED [/callback]"]
browser_test = pytest.mark.browser


def fits(page: Page) -> bool:
    """Whether nothing has to be scrolled to sideways."""
    width: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width <= 0


@browser_test
@pytest.mark.spec("WCAG 2.2")
def test_every_page_in_every_shape(site_with: Callable[..., Site], windows: Callable[..., Window]) -> None:
    site = site_with(playground=True)
    window = windows(viewport={"width": 1280, "height": 800})
    window.forgiven += FORGIVEN
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
        weight = page.request.get(site.settings.issuer + style_of(page)).text() + page.content()
        assert len(weight.encode()) < HEAVIEST, name
    assert seen == ALL
    elsewhere = [url for url in urls if not url.startswith((f"{site.settings.issuer}/", "data:"))]
    assert set(elsewhere) == {HOME}, "only the form that carries an answer on"


def style_of(page: Page) -> str:
    (address,) = [link.get_attribute("href") or "" for link in page.locator("link[rel=stylesheet]").all()]
    return address


def check_targets_and_fields(page: Page, name: str) -> None:
    """WCAG 2.2, 2.5.8 and 1.3.5: what can be pressed is not too small, and what is to be filled in is known."""
    for button in page.get_by_role("button").all():
        box = button.bounding_box()
        assert box
        assert box["height"] >= 24
    fields = page.locator("input:not([type=hidden])").all()
    for field in fields:
        assert field.evaluate("field => field.labels.length") == 1
    names = [field.get_attribute("autocomplete") for field in fields]
    known = {
        "sign_in": ["username", "current-password"],
        "change_password": ["username", "new-password", "new-password"],
        "account_password": ["username", "current-password", "new-password", "new-password"],
    }
    assert names == known.get(name.removesuffix("_again"), [])


def check_reflow(page: Page, name: str) -> None:
    """WCAG 2.2, 1.4.10 and 1.4.4: no scrolling sideways at 320 pixels, nor with text of twice the size."""
    shapes = [(320, ["100%"]), (640, ["100%", "200%"]), (1280, ["200%"])]  # 640: a window of 1280 at 200 % zoom
    for width, sizes in shapes:
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(TOO_WIDE, sizes) == [], (name, width)
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


# ---- what comes from elsewhere

MARKUP = "</p></title><script>window.hit=1</script><img src=x onerror=window.hit=1>\"'><svg/onload=window.hit=1>"
TEMPLATE = "{{1337*1337}}${1337*1337}#{1337*1337}{% raw %}<%= 1337*1337 %>"
BIDI = "\u202eevil\u2066\u2067\u200f\u061c"
EMOJI = "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467\ufe0f\u0301"
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


@browser_test
@pytest.mark.parametrize("what", HOSTILE)
def test_what_comes_from_elsewhere_is_text_and_breaks_no_page(
    site_with: Callable[..., Site], windows: Callable[..., Window], what: str
) -> None:
    words, site = HOSTILE[what], site_with(playground=True)
    window = windows(**PHONE)
    window.forgiven += FORGIVEN
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
            # What surrounds a foreign value is not turned round with it.
            before = page.locator(".lead").evaluate("node => node.lastChild.previousElementSibling.outerHTML")
            assert before.startswith("<strong><bdi>")
            shown = page.locator(".scopes bdi").all_inner_texts()
            assert words.description.replace(" ", "") in [text.replace(" ", "") for text in shown]
            name_, button = page.locator(".aside bdi").bounding_box(), page.locator(".aside button").bounding_box()
            assert name_
            assert button
            assert button["y"] > name_["y"] or button["x"] >= name_["x"] + name_["width"], "it stays where it belongs"
        if name == "sign_in":
            assert page.locator("#username").input_value() == words.login_hint


# ---- script, or none


@browser_test
def test_every_page_works_without_script(site_with: Callable[..., Site], windows: Callable[..., Window]) -> None:
    site = site_with(playground=True)
    window = windows(java_script_enabled=False)
    window.forgiven += FORGIVEN
    seen, page = set(), window.page
    for name in Gallery(site, page).pages():
        seen.add(name)
        assert page.get_by_role("button", name="Show").count() == 0
    assert seen == ALL
    page.unroute(HOME)
    page.route(HOME, lambda route: route.fulfill(body=f"<h1>{route.request.method}</h1>", content_type="text/html"))
    window.press("Continue")
    assert window.heading() == "POST"


@browser_test
def test_a_password_can_be_shown_and_pasted_and_is_hidden_before_it_is_sent(site: Site, window: Window) -> None:
    site.user()
    page = window.page
    window.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.settings.issuer)
    client = site.client()
    page.goto(f"{site.settings.issuer}/oauth2/authorize?client_id=nobody")
    window.forgiven += FORGIVEN
    page.evaluate("text => navigator.clipboard.writeText(text)", PASSWORD)
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


@browser_test
def test_the_focus_is_on_the_right_field_and_can_be_seen(site: Site, windows: Callable[..., Window]) -> None:
    window = windows()
    window.forgiven += FORGIVEN
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
            assert page.get_by_role("textbox", name="Username").input_value() == "alice", "what was typed is kept"
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


# ---- the operator's colours

TEXT_ON = {
    "ink": ("ground", "paper", "quiet", "bad-ground", "warn-ground"),
    "soft": ("ground", "paper", "quiet"),
    "accent": ("ground", "paper", "quiet"),
    "bad": ("paper", "bad-ground"),
    "good": ("paper",),
    "on-brand": ("brand",),
}


@pytest.mark.spec("WCAG 2.2")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    "color", ["#1f4fa3", "#8db4f5", "#ffffff", "#000000", "#ffdd00", "#ff0000", "#00ff00", "#808080", "#767676"]
)
def test_text_can_be_read_whatever_colour_the_operator_has_chosen(theme: str, color: str) -> None:
    colors, ink = (LIGHT, "#000000") if theme == "light" else (DARK, "#ffffff")
    colors = stylesheet.theme(colors, color, ink)
    assert colors["brand"] == color, "a button bears the very colour"
    for text, grounds in TEXT_ON.items():
        for ground in grounds:
            assert contrast(colors[text], colors[ground]) >= AA, (text, ground)
    assert contrast(colors["line"], colors["paper"]) >= 3, "what surrounds a field"
    if all(contrast(color, colors[ground]) >= AA for ground in TEXT_ON["accent"]):
        assert colors["accent"] == color, "nor is it changed where it can be read"


def test_the_contrast_is_that_of_the_guidelines() -> None:
    assert contrast("#000000", "#ffffff") == 21
    assert round(contrast("#777777", "#ffffff"), 2) == 4.48
    assert round(contrast("#ff0000", "#ffffff"), 2) == 4.0


def test_the_address_of_the_style_sheet_changes_with_the_colours() -> None:
    settings = [Settings(accent_color=light, accent_color_dark=dark) for light, dark in COLORS]
    sheets = [stylesheet.style_sheet(one) for one in settings]
    assert len({version for _, version in sheets}) == len({text for text, _ in sheets}) == len(COLORS)
    assert "--brand: #112233;" in sheets[1][0]


COLORS = [(None, None), ("#112233", None), ("#112233", "#aabbcc"), (None, "#aabbcc")]


def test_the_style_sheet_asks_for_nothing_and_knows_no_left_and_right() -> None:
    text, _ = stylesheet.style_sheet(Settings())
    assert not re.search(r"url\(|@import|@font-face|expression", text)
    rules = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    physical = re.findall(r"(?:margin|padding|border|inset)-(?:left|right)|(?<![-\w])(?:left|right|float):", rules)
    assert physical == []


def test_the_style_sheet_and_the_script_are_kept_for_a_year_under_their_own_address_only(
    site: Site, browser: Any
) -> None:
    page = browser.authorize(site.client())
    for address in re.findall(r'(?:href|src)="(/(?:style\.css|script\.js)\?v=[0-9a-f]{12})"', page.body):
        assert browser.get(address).header("cache-control") == "public, max-age=31536000, immutable"
        path = urlsplit(address).path
        assert browser.get(f"{path}?v=000000000000").header("cache-control") == "no-store"
        assert browser.get(path).header("cache-control") == "no-store"
    assert browser.get("/script.js").header("content-type") == "text/javascript; charset=utf-8"
    assert len(re.findall(r"\?v=[0-9a-f]{12}", page.body)) == 2


# ---- the operator's name, logo and help


@pytest.mark.parametrize("logo", ["https://logo.example.com/a.svg", "https://logo.example.com:8443/a.svg?b=c"])
def test_the_operators_logo_is_the_only_image_and_its_origin_the_only_one(
    site: Site, site_with: Any, browsers: Any, logo: str
) -> None:
    own = site_with(name="Ex & Ample", logo_url=logo, support_url="mailto:help@example.com")
    page = browsers(own).get("/")
    assert f'<img src="{logo}" alt="Ex &amp; Ample">' in page.body
    assert '<a href="mailto:help@example.com">' in page.body
    assert "<title>An authorization server runs here · Ex &amp; Ample</title>" in page.body
    policy = dict(part.partition(" ")[::2] for part in (page.header("content-security-policy") or "").split("; "))
    origin = logo.partition("/a.svg")[0]
    assert policy["img-src"] == f"data: {origin}"


def test_hostile_settings_are_text_too(site: Site, browsers: Any, site_with: Any) -> None:
    own = site_with()
    hostile = {"name": MARKUP + TEMPLATE + EMOJI, "support_url": f"mailto:{MARKUP}"}
    own.server = replace(own.server, settings=replace(own.settings, **hostile))
    page = browsers(own).get("/")
    assert page.status == 200
    assert "<img" not in page.body
    assert "<script>" not in page.body
    assert TEMPLATE.replace("<", "&lt;").replace(">", "&gt;") in page.body


@pytest.mark.parametrize("uri", ["javascript:alert(1)", "data:text/html,x", "//evil.example/", "https://[::1", "x", ""])
def test_a_link_that_is_no_web_address_is_not_shown(site: Site, browser: Any, uri: str) -> None:
    site.user()
    client = site.client()
    about: dict[str, Any] = dict.fromkeys(("client_uri", "policy_uri", "tos_uri"), uri)
    site.server.store.clients.put(replace(client.record, **about))
    page = browser.sign_in(browser.authorize(client))
    assert page.status == 200
    assert "Privacy policy" not in page.body
    site.server.store.clients.put(replace(client.record, policy_uri="https://print.example.com/privacy?a=b&c=d"))
    site.server.client(client.id, fresh=True)
    page = browser.authorize(client)
    link = '<a href="https://print.example.com/privacy?a=b&amp;c=d" target="_blank" rel="noopener noreferrer">'
    assert link in page.body
