"""Every page in other languages, in a real browser: with a pseudo-locale, in German, and from right to left."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from chalicelib.pages import languages
from chalicelib.protocol.languages import LANGUAGES
from tests.browser.test_look import EXPECTED_ERRORS, fits
from tests.support.chromium import PHONE, Window, violations
from tests.support.gallery import Gallery, local_settings
from tests.support.site import Site
from tests.tools.messages import is_translated, read

pytestmark = pytest.mark.browser

IN_ENGLISH = ("home", "errors", "mailbox", "playground")  # for developers and operators
MAX_BYTES = 30_000
# The texts on a page, with the attributes that are read aloud, except values and what is for developers.
TEXTS = """() => {
    const skipped = 'script, style, time, bdi, code, pre, input, option, .languages, .brand, .qr, [lang=en]:not(html)'
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
    const texts = []
    while (walker.nextNode()) {
        const node = walker.currentNode
        texts.push([node.data, node.parentElement.closest(skipped) !== null])
    }
    const attributes = [...document.querySelectorAll('[aria-label], [title], [placeholder], [alt]')]
        .filter(element => !element.closest(skipped))
        .flatMap(element => ['aria-label', 'title', 'placeholder', 'alt'].map(name => element.getAttribute(name) || ''))
    return [texts, attributes]
}"""
_LETTER = re.compile(r"[^\W\d_]")


class Pseudo:
    """A catalogue that puts each message into brackets, and makes it two fifths longer."""

    def gettext(self, message: str, /) -> str:
        """Return the message in brackets."""
        return f"⟦{message}{' ~~~~' * (len(message) * 2 // 25)}⟧"

    def ngettext(self, singular: str, plural: str, n: int, /) -> str:
        """Return the message for a number in brackets."""
        return self.gettext(singular if n == 1 else plural)


def untranslated(page: Page) -> list[str]:
    """Return the texts of a page outside of the brackets of a message."""
    texts, attributes = page.evaluate(TEXTS)
    outer, depth = [], 0
    for text, skipped in [*texts, *((each, False) for each in attributes)]:
        outside = ""
        for character in text:
            depth += (character == "⟦") - (character == "⟧")
            if depth == 0 and character != "⟧" and not skipped:
                outside += character
        if _LETTER.search(outside):
            outer.append(outside.strip())
    assert depth == 0
    return outer


def test_text_outside_of_a_message_is_found(window: Window) -> None:
    window.page.set_content("<p>⟦a <b>b</b>⟧, <bdi>name</bdi> <code>x</code> 12</p><p title='⟦t⟧'>⟦c⟧</p>")
    assert untranslated(window.page) == []
    window.page.set_content("<p>⟦a <b>b</b>⟧ and ⟦c⟧</p><p title='t'>⟦d⟧</p><label>e</label>")
    assert untranslated(window.page) == ["and", "e", "t"]


def pages_in(site: Site, window: Window) -> Iterator[str]:
    """Open every page that is for users."""
    window.expected_errors += EXPECTED_ERRORS
    for name in Gallery(site, window.page).pages():
        if not name.startswith(IN_ENGLISH):
            yield name


def test_every_text_for_users_is_a_message(
    site_with: Callable[..., Site], windows: Callable[..., Window], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(languages, "catalogue", lambda _code: Pseudo())
    site, seen = site_with(**local_settings()), {}
    window = windows(locale="de", **PHONE)
    for name in pages_in(site, window):
        page = window.page
        assert page.evaluate("document.documentElement.lang") == "de", name
        title = page.title()
        seen[name] = [*untranslated(page), *(["title: " + title] if not title.startswith("⟦") else [])]
        seen[name] += [] if fits(page) else ["does not fit"]
    assert {name: texts for name, texts in seen.items() if texts} == {}


def has_translations(code: str) -> bool:
    """Return whether translators have begun with a language."""
    return any(is_translated(message) for message in read(code) if message.id)


@pytest.mark.parametrize("code", [code for code in ("de", "ar") if has_translations(code)])
@pytest.mark.spec("WCAG 2.2")
def test_every_page_is_accessible_and_fits_in_other_languages(
    site_with: Callable[..., Site], windows: Callable[..., Window], code: str
) -> None:
    site, window = site_with(**local_settings()), windows(locale=code, viewport={"width": 320, "height": 800})
    page, direction = window.page, LANGUAGES[code].direction
    for name in pages_in(site, window):
        shown = page.evaluate("[document.documentElement.lang, document.documentElement.dir]")
        assert shown == [code, direction], name
        assert fits(page), name
        page.evaluate("document.documentElement.style.fontSize = '200%'")
        assert fits(page), name
        page.evaluate("document.documentElement.removeAttribute('style')")
        assert violations(page) == [], name
        assert len(page.content().encode()) < MAX_BYTES, name


@pytest.mark.parametrize("script", [True, False])
def test_menu_changes_the_language_and_keeps_the_request(
    site: Site, windows: Callable[..., Window], script: bool
) -> None:
    site.user()
    client = site.client()
    window = windows(java_script_enabled=script)
    page = window.page
    window.authorize(client, client.record.redirect_uris[0])
    menu = page.locator("details.languages")
    expect(menu.get_by_role("button", name="العربية")).to_be_hidden()
    menu.locator("summary").press("Enter")
    menu.get_by_role("button", name="العربية").press("Enter")
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    expect(page.locator("html")).to_have_attribute("lang", "ar")
    expect(page.locator("#username")).to_be_visible()
    page.goto(f"{site.settings.issuer}/oauth2/logout")
    expect(page.locator("html")).to_have_attribute("lang", "ar")
