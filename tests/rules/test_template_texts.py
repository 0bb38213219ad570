"""Texts in the templates: whatever a user reads there is a message that can be translated."""

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, nodes

from chalicelib import pages
from chalicelib.authorization.forms import Form
from chalicelib.protocol.languages import LANGUAGES
from chalicelib.protocol.resource import Resource
from tests.support.site import Site
from tests.tools.messages import read

FOLDER = Path(pages.__file__).parent
# Pages for developers and operators are in English, and so is what a template includes without a text.
ENGLISH = {"home.html", "errors.html", "mailbox.html", "playground.html"}
TEMPLATES = sorted(
    str(path.relative_to(FOLDER))
    for path in (*FOLDER.glob("*.html"), *FOLDER.glob("mail/*"))
    if path.name not in ENGLISH
)
SHOWN_ATTRIBUTES = ("alt", "aria-label", "placeholder", "title")
MESSAGE_FUNCTIONS = {"_", "gettext", "ngettext"}
LETTER = re.compile(r"[^\W\d_]")
NO_TEXT = {" on ", " ", "wide"}  # what stored values are split at, and the layout of a page
ATTRIBUTES = re.compile(r'(?:[a-z-]+="[^"]*"\s*)+')  # of a tag that another part of the template has


class _Texts(HTMLParser):
    """The texts of a document, and the attributes that a user sees or hears."""

    def __init__(self, html: str):
        super().__init__()
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.texts += [value for name, value in attributes if name in SHOWN_ATTRIBUTES and value]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def unmarked(source: str) -> list[str]:
    """Return the texts of a template that are in no message: in its HTML, and in its expressions."""
    environment = Environment(autoescape=True, extensions=["jinja2.ext.i18n"])
    tree = environment.parse(source)
    html = "".join(data.data for data in tree.find_all(nodes.TemplateData))
    messages = [call for call in tree.find_all(nodes.Call) if _name(call.node) in MESSAGE_FUNCTIONS]
    marked = {id(constant) for call in messages for constant in call.find_all(nodes.Const)}
    constants = [
        constant.value
        for constant in tree.find_all(nodes.Const)
        if isinstance(constant.value, str) and id(constant) not in marked and _is_text(constant.value)
    ]
    texts = [text.strip() for text in (*_Texts(html).texts, *constants) if LETTER.search(text)]
    return [text for text in texts if text not in NO_TEXT and not ATTRIBUTES.fullmatch(text)]


def _name(node: nodes.Node) -> str:
    return node.name if isinstance(node, nodes.Name) else ""


def _is_text(value: str) -> bool:
    """Return whether a constant reads as a text: it begins with a capital letter, or has several words."""
    return value not in NO_TEXT and bool(re.match(r"[A-Z]|.*\w \w", value)) and not value.startswith("data:")


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_text_of_a_template_is_a_message(template: str) -> None:
    assert unmarked((FOLDER / template).read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        ("<p>{% trans %}Sign in{% endtrans %}</p>", []),
        ('<p aria-label="{{ _("Pages") }}">{{ name }} · 1</p>', []),
        ("<p>Sign in</p>", ["Sign in"]),
        ("{% if a %}<p{% if b %} class='x'{% endif %}>{% trans %}A{% endtrans %} or</p>{% endif %}", ["or"]),
        ('<p aria-label="Pages">1</p>', ["Pages"]),
        ('{{ "Turn on" if new else _("Save") }}', ["Turn on"]),
        ('{{ field("Code", "problem") }}', ["Code"]),
        ('{{ problem|default("not found") }}', ["not found"]),
    ],
)
def test_text_outside_of_messages_is_found(source: str, texts: list[str]) -> None:
    assert unmarked(source) == texts


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_message_of_an_attribute_has_a_quotation_mark(template: str) -> None:
    """Messages are HTML, so a quotation mark would end the attribute."""
    source = (FOLDER / template).read_text("utf-8")
    for message in re.findall(r"""="\{\{ _\("(.*?)"[,)]""", source):
        assert not re.search(r"[\"<>]", message)


@pytest.mark.parametrize("template", TEMPLATES)
def test_macros_are_imported_with_the_language_of_the_page(template: str) -> None:
    """Without its context, a macro does not know which language the page has."""
    imports = re.findall(r"\{% (?:from|import) .*?%\}", (FOLDER / template).read_text("utf-8"))
    assert [statement for statement in imports if not statement.endswith(" with context %}")] == []


@pytest.mark.parametrize("code", [language.code for language in LANGUAGES.values() if language.direction == "rtl"])
def test_translation_from_right_to_left_keeps_the_order_of_dates_and_addresses(code: str) -> None:
    """After Arabic letters, 1990-12-31 would be shown as 31-12-1990: it is between U+2066 and U+2069 (isolates)."""
    strings = [message.string or "" for message in read(code)]
    texts = [text for string in strings for text in ([string] if isinstance(string, str) else string)]
    ordered = re.compile(r"(?<!\u2066)(?<![\d-])(?:\d+-\d+-\d+|https?://)")
    assert [text for text in texts if ordered.search(re.sub("<[^>]*>", "", str(text)))] == []
    assert [text for text in texts if str(text).count("\u2066") != str(text).count("\u2069")] == []


class _Parts(HTMLParser):
    """The tags of the phrases that are joined by dots (`.parts` in the style sheet)."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[str] = []
        self._open: list[bool] = []  # for each open element, whether it has the class
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if self._open and self._open[-1]:
            self.tags.append(tag)
        if tag not in ("input", "img", "link", "meta"):
            self._open.append("parts" in (dict(attributes).get("class") or "").split())

    def handle_endtag(self, tag: str) -> None:
        if self._open:
            self._open.pop()


def test_phrases_between_dots_have_the_direction_of_the_page() -> None:
    """A `bdi` has its own direction, and the dot before it would be on its other side."""
    sources = [re.sub(r"\{[{%#].*?[}%#]\}", "", (FOLDER / name).read_text("utf-8")) for name in TEMPLATES]
    tags = [tag for source in sources for tag in _Parts(source).tags]
    assert len(tags) > 10
    assert set(tags) == {"span"}


@pytest.mark.parametrize(
    ("domains", "text"),
    [
        (["a.example"], "At a.example."),
        (["a.example", "b.example"], "At a.example or b.example."),
        (["a.example", "b.example", "<c>"], "At a.example or b.example or &lt;c&gt;."),
    ],
)
def test_choice_is_one_sentence(site: Site, domains: list[str], text: str) -> None:
    page = pages.page("sign_up", site.settings, None, action="", fields=[], email="", sign_in="/", domains=domains)
    assert text in page.html


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["A"], "A (a.example)."),
        (["A", "B"], "A (a.example) and B (b.example)."),
        (["A", "B", "C"], "A (a.example), B (b.example) and C (c.example)."),
        (["A", "B", "C", "<D>"], "A (a.example), B (b.example), C (c.example) and <D> (<d>.example)."),
    ],
)
def test_list_is_one_sentence(site: Site, names: list[str], text: str) -> None:
    resources = [Resource(uri, uri, name) for name in names for uri in [f"https://{name.lower()}.example/"]]
    values: dict[str, Any] = dict.fromkeys(("new_permissions", "allowed_before"), ()) | {"resources": resources}
    values |= dict.fromkeys(("several", "details", "remembered", "on_device", "own_scheme", "client_host"))
    values |= {"client": site.client().record, "user": site.user(), "access_end": "", "redirect_uri": "https://a.b/"}
    html = pages.page("consent", site.settings, None, form=Form("/", ()), **values).html
    words = " ".join(unescape(re.sub(r"</?(?:strong|bdi|p|span)\b[^>]*>", "", html)).split())
    assert f"This access is for {text}" in words
