"""The style sheet, the operator's colors, name and logo, and links that clients provide."""

import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from chalicelib.pages import stylesheet
from chalicelib.pages.stylesheet import AA, DARK, LIGHT, contrast
from chalicelib.settings import Settings
from tests.support.hostile import EMOJI, MARKUP, TEMPLATE
from tests.support.site import Site

# ---- the operator's colors

TEXT_ON = {
    "text": ("page", "card", "inset", "error-background", "warning-background"),
    "muted": ("page", "card", "inset"),
    "accent": ("page", "card", "inset"),
    "error": ("card", "error-background"),
    "success": ("card",),
    "on-brand": ("brand",),
}


@pytest.mark.spec("WCAG 2.2")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    "color", ["#1f4fa3", "#8db4f5", "#ffffff", "#000000", "#ffdd00", "#ff0000", "#00ff00", "#808080", "#767676"]
)
def test_text_is_readable_with_any_operator_color(theme: str, color: str) -> None:
    colors, target = (LIGHT, "#000000") if theme == "light" else (DARK, "#ffffff")
    colors = stylesheet.theme(colors, color, target)
    assert colors["brand"] == color, "buttons have exactly this color"
    for text, backgrounds in TEXT_ON.items():
        for background in backgrounds:
            assert contrast(colors[text], colors[background]) >= AA, (text, background)
    assert contrast(colors["field-border"], colors["card"]) >= 3, "borders of fields"
    if all(contrast(color, colors[background]) >= AA for background in TEXT_ON["accent"]):
        assert colors["accent"] == color, "a readable color is not changed"


def test_contrast_matches_the_wcag_definition() -> None:
    assert contrast("#000000", "#ffffff") == 21
    assert round(contrast("#777777", "#ffffff"), 2) == 4.48
    assert round(contrast("#ff0000", "#ffffff"), 2) == 4.0


def test_version_of_the_style_sheet_changes_with_the_colors() -> None:
    settings = [Settings(accent_color=light, accent_color_dark=dark) for light, dark in COLORS]
    sheets = [stylesheet.style_sheet(each) for each in settings]
    assert len({version for _, version in sheets}) == len({text for text, _ in sheets}) == len(COLORS)
    assert "--brand: #112233;" in sheets[1][0]


COLORS = [(None, None), ("#112233", None), ("#112233", "#aabbcc"), (None, "#aabbcc")]


def test_style_sheet_loads_nothing_and_uses_logical_directions() -> None:
    text, _ = stylesheet.style_sheet(Settings())
    assert not re.search(r"url\(|@import|@font-face|expression", text)
    rules = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    physical = re.findall(r"(?:margin|padding|border|inset)-(?:left|right)|(?<![-\w])(?:left|right|float):", rules)
    assert physical == []


def test_style_sheet_and_script_are_cached_for_a_year_only_under_their_current_url(site: Site, browser: Any) -> None:
    page = browser.authorize(site.client())
    for address in re.findall(r'(?:href|src)="(/(?:style\.css|script\.js)\?v=[0-9a-f]{12})"', page.body):
        current = browser.get(address)
        assert (current.status, current.header("cache-control")) == (200, "public, max-age=31536000, immutable")
        path = urlsplit(address).path
        assert browser.get(f"{path}?v=000000000000").header("cache-control") == "no-store"
        assert browser.get(path).header("cache-control") == "no-store"
    style, script = browser.get("/style.css"), browser.get("/script.js")
    assert (style.status, style.header("content-type")) == (200, "text/css; charset=utf-8")
    assert (script.status, script.header("content-type")) == (200, "text/javascript; charset=utf-8")
    assert len(re.findall(r"\?v=[0-9a-f]{12}", page.body)) == 2


# ---- the operator's name, logo and support address


@pytest.mark.parametrize("logo", ["https://logo.example.com/a.svg", "https://logo.example.com:8443/a.svg?b=c"])
def test_operators_logo_is_the_only_image_that_the_policy_allows(
    site: Site, site_with: Any, browsers: Any, logo: str
) -> None:
    own = site_with(name="Ex & Ample", logo_url=logo, support_url="mailto:help@example.com")
    page = browsers(own).get("/")
    assert f'<img src="{logo}" alt="Ex &amp; Ample">' in page.body
    assert '<a href="mailto:help@example.com">' in page.body
    assert "<title>Authorization server · Ex &amp; Ample</title>" in page.body
    policy = dict(part.partition(" ")[::2] for part in (page.header("content-security-policy") or "").split("; "))
    origin = logo.partition("/a.svg")[0]
    assert policy["img-src"] == f"data: {origin}"


def test_hostile_settings_are_shown_as_text(site: Site, browsers: Any, site_with: Any) -> None:
    own = site_with()
    hostile = {"name": MARKUP + TEMPLATE + EMOJI, "support_url": f"mailto:{MARKUP}"}
    own.server = replace(own.server, settings=replace(own.settings, **hostile))
    page = browsers(own).get("/")
    assert page.status == 200
    assert "<img" not in page.body
    assert "<script>" not in page.body
    assert TEMPLATE.replace("<", "&lt;").replace(">", "&gt;") in page.body


@pytest.mark.parametrize("uri", ["javascript:alert(1)", "data:text/html,x", "//evil.example/", "https://[::1", "x", ""])
def test_link_that_is_not_a_web_address_is_not_shown(site: Site, browser: Any, uri: str) -> None:
    site.user()
    client = site.client()
    about: dict[str, Any] = dict.fromkeys(("client_uri", "policy_uri", "tos_uri"), uri)
    site.server.store.clients.put(replace(client.record, **about))
    page = browser.sign_in(browser.authorize(client))
    assert page.status == 200
    assert "Privacy policy" not in page.body
    site.server.store.clients.put(replace(client.record, policy_uri="https://print.example.com/privacy?a=b&c=d"))
    site.server.forget_cached_records()
    page = browser.authorize(client)
    link = '<a href="https://print.example.com/privacy?a=b&amp;c=d" target="_blank" rel="noopener noreferrer">'
    assert link in page.body
