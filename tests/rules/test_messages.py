"""The catalogues: complete, with the values and tags of the English texts, and compiled as they are."""

import functools
from collections import Counter
from collections.abc import Iterator

import pytest
from babel.messages.catalog import Catalog

from chalicelib.pages.languages import FOLDER, catalogue
from chalicelib.protocol.languages import LANGUAGES
from tests.tools import date_names, messages
from tests.tools.messages import TRANSLATED, is_translated, mo_bytes, po_path, po_text, problems, updated

read = functools.cache(messages.read)


@pytest.fixture(scope="module", autouse=True)
def _read_once() -> Iterator[None]:
    """Read the texts and the catalogues once: no test of this file changes them."""
    find = functools.cache(messages.find_messages)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "find_messages", find)
        patch.setattr(messages, "read", read)
        yield


@pytest.fixture(params=TRANSLATED)
def begun(request: pytest.FixtureRequest) -> str:
    """The code of a language that has translations."""
    code: str = request.param
    if not any(is_translated(message) for message in read(code) if message.id):
        pytest.skip(f"{code} has no translation yet")
    return code


@pytest.mark.parametrize("code", TRANSLATED)
def test_catalogue_has_exactly_the_messages_that_there_are(code: str) -> None:
    ids = [message.id for message in read(code) if message.id]
    assert Counter(ids) == Counter({each.message_id for each in messages.find_messages()})
    assert po_text(updated(code)) == po_path(code).read_bytes(), "run: python -m tests.tools.messages"


@pytest.mark.parametrize("code", TRANSLATED)
def test_compiled_catalogue_is_that_of_the_translations(code: str) -> None:
    assert mo_bytes(read(code)) == po_path(code).with_suffix(".mo").read_bytes(), "run: python -m tests.tools.messages"


@pytest.mark.parametrize("code", TRANSLATED)
def test_translations_have_the_values_and_tags_of_their_messages(code: str) -> None:
    assert problems(read(code)) == []


def test_every_message_is_translated(begun: str) -> None:
    assert [message.id for message in read(begun) if message.id and not is_translated(message)] == []


def test_compiled_catalogue_is_what_pages_read(begun: str) -> None:
    loaded = catalogue(begun)
    for message in read(begun):
        if isinstance(message.id, str) and message.id and is_translated(message):
            assert loaded.gettext(message.id) == message.string


@pytest.mark.parametrize(
    ("message", "translation", "problem"),
    [
        ("At most %(most)s", "Höchstens %(meist)s", "other values"),
        ("At most %(most)s", "Höchstens", "other values"),
        ("A <b>word</b>", "Ein Wort", "other tags"),
        ("A <b>word</b>", "Ein <b>Wort<b>", "other tags"),
        ("A <b>word</b>", '<b onclick="x()">Wort</b>', "other tags"),
        ("A word", "Ein <script>", "other tags"),
        ("A word", 'Ein "Wort', "a quotation mark or bracket"),
        ("A word", "Ein > Wort", "a quotation mark or bracket"),
        ("A word", "Ein Wort zu 100%", "a percent sign"),
        ("At most %(most)s", "Höchstens %(most)d %(most)s", "a percent sign"),
        ("A word", " Ein Wort", "spaces around it"),
        (("%(n)s day", "%(n)s days"), ("%(n)s Tag", ""), "1 of 2 forms"),
        (("%(n)s day of %(m)s", "%(n)s days of %(m)s"), ("ein Tag", "%(n)s Tage von %(m)s"), "other values"),
    ],
)
def test_wrong_translation_is_found(
    message: str | tuple[str, str], translation: str | tuple[str, str], problem: str
) -> None:
    catalog = Catalog("de")
    catalog.add(message, translation)
    assert [text.partition(":")[0] for text in problems(catalog)] == [problem]


def test_form_for_one_may_leave_out_the_number() -> None:
    catalog = Catalog("de")
    catalog.add(("%(n)s day", "%(n)s days"), ("ein Tag", "%(n)s Tage"))
    assert problems(catalog) == []


def test_names_of_months_are_those_of_the_unicode_cldr() -> None:
    assert date_names.generate() == date_names.FILE.read_text("utf-8")


def test_every_language_has_a_catalogue_of_its_own() -> None:
    folders = {path.name for path in FOLDER.iterdir() if path.is_dir()}
    assert folders == LANGUAGES.keys() - {"en"}
