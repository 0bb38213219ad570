"""The language of pages and mails: how it is chosen, what chooses it, and texts that are translated at the edge."""

import json
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from chalicelib.http.messages import Params, Request
from chalicelib.pages import languages
from chalicelib.pages.languages import answer_menu, date_text, language_of, menu, translate
from chalicelib.protocol.languages import LANGUAGES, accepted, match
from chalicelib.protocol.texts import Text, from_json, plural_text, to_json
from chalicelib.settings import Settings
from tests.support.account import sign_in_to_account, submit_action
from tests.support.assertions import key_client
from tests.support.browser import Answer, Browser, authorization_parameters
from tests.support.request_objects import authorize_signed, request_object
from tests.support.site import Registered, Site

SETTINGS = Settings()
COOKIE = SETTINGS.cookie_name("language")


def shown_language(answer: Answer) -> str:
    """Return the language of a page, which it says in two places."""
    code = answer.header("content-language") or ""
    direction = LANGUAGES[code].direction
    assert f'<html lang="{code}" dir="{direction}">' in answer.body
    return code


def authorize(browser: Browser, client: Registered, language: str) -> Answer:
    """Send an authorization request in a browser whose user reads this language."""
    headers = {"Accept-Language": language}
    return browser.get("/oauth2/authorize", headers, **authorization_parameters(client))


# ---- the choice

CHOICES = [
    ("nothing", {}, "en"),
    ("setting", {"setting": "ar"}, "ar"),
    ("browser", {"setting": "ar", "header": "de-AT,de;q=0.9,en;q=0.8"}, "de"),
    ("browser with another language", {"setting": "ar", "header": "pt-BR,pt;q=0.9"}, "ar"),
    ("menu", {"setting": "ar", "header": "de", "cookie": "fr"}, "fr"),
    ("menu with an unknown language", {"header": "de", "cookie": "pt"}, "de"),
    ("menu with nonsense", {"header": "de", "cookie": "fr\r\nSet-Cookie: x=y"}, "de"),
    ("request", {"setting": "ar", "header": "de", "cookie": "fr", "stored": ("es-419", "ja")}, "es"),
    ("request with other languages only", {"cookie": "fr", "stored": ("pt", "tlh")}, "fr"),
    ("address before the request", {"cookie": "fr", "stored": ("es",), "address": "tlh ja"}, "ja"),
    ("address with too many", {"address": " ".join(["pt"] * 200 + ["de"])}, "en"),
    ("address with a long one", {"address": "d" * 100_000}, "en"),
    ("address with nonsense", {"address": "<script> {{7*7}} \u202e de"}, "de"),
]


@pytest.mark.parametrize(("given", "expected"), [row[1:] for row in CHOICES], ids=[row[0] for row in CHOICES])
def test_language_is_the_first_that_there_is(given: dict[str, object], expected: str) -> None:
    headers = {}
    if "header" in given:
        headers["accept-language"] = str(given["header"])
    if "cookie" in given:
        headers["cookie"] = f"other=de; {COOKIE}={given['cookie']}"
    query = Params([("ui_locales", str(given["address"]))] if "address" in given else [])
    stored = given.get("stored", ())
    assert isinstance(stored, tuple)
    http = Request("GET", "/account", query=query, headers=headers, ui_locales=stored)
    settings = replace(SETTINGS, language=str(given.get("setting", "en")))
    assert language_of(settings, http).code == expected


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("de", "de"),
        ("DE", "de"),
        ("de-AT", "de"),
        ("de-Latn-DE-1996", "de"),
        ("ar-EG-u-nu-latn", "ar"),
        ("den", None),
        ("d", None),
        ("*", None),
        ("", None),
        ("de_AT", None),
        ("de-", None),
        ("-de", None),
        ("de\n", None),
        ("x-de", None),
        (None, None),
        (7, None),
    ],
)
def test_tag_matches_without_its_last_parts(tag: object, expected: str | None) -> None:
    language = match(tag)
    assert (language.code if language else None) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("de", "de"),
        ("en;q=0.5, de", "de"),
        ("en;q=0.5,de;q=0.7,fr;q=0.6", "de"),
        ("fr;q=0.7,de;q=0.7", "fr"),
        ("fr ; q=1.000 , de", "fr"),
        ("de;q=0,fr;q=0.1", "fr"),
        ("de;q=0.000", None),
        ("*", None),
        ("*,de;q=0.1", "de"),
        ("de;q=2,fr;q=0.1", "fr"),
        ("de;Q = 0,fr;q=0.1", "fr"),
        ("de;q=0.5;x=1,fr;q=0.1", "fr"),
        ("de;q=1.5,fr;q=0.1", "fr"),
        ("de;q=-1,fr;q=0.1", "fr"),
        ("de;q=nan,fr;q=0.1", "fr"),
        ("de;q=1e9,fr;q=0.1", "fr"),
        ("de;level=1,fr;q=0.1", "fr"),
        ("tlh,pt-BR;q=0.9", None),
        (",,, ,de,,", "de"),
        ("", None),
        (";q=1", None),
        ("de\x00,fr", "fr"),
        ("x" * 10_000 + ",de", None),
        (",".join(["pt"] * 5000), None),
        ("de," * 5000, "de"),
        ("a-" * 5000, None),
        ("q=" + " " * 10_000, None),
    ],
)
def test_browser_chooses_the_language_that_it_prefers(header: str, expected: str | None) -> None:
    language = accepted(header)
    assert (language.code if language else None) == expected


# ---- pages


def test_page_is_in_the_language_of_the_browser(site: Site, browser: Browser) -> None:
    client = site.client()
    assert shown_language(browser.authorize(client)) == "en"
    page = authorize(browser, client, "ar-EG")
    assert shown_language(page) == "ar"
    assert "no-store" in (page.header("cache-control") or "")


def test_setting_is_for_readers_who_ask_for_no_language(
    site_with: Callable[..., Site], browsers: Callable[..., Browser]
) -> None:
    site = site_with(language="de")
    client = site.client()
    browser = browsers(site)
    assert shown_language(browser.authorize(client)) == "de"
    assert shown_language(authorize(browser, client, "fr")) == "fr"


def test_languages_of_a_request_survive_its_steps(site: Site, browser: Browser) -> None:
    site.user()
    page = browser.authorize(site.client(), ui_locales="tlh de-AT en")
    assert shown_language(page) == "de"
    wrong = browser.follow(browser.send(page, username="alice", password="wrong"))
    assert shown_language(wrong) == "de"
    consent = browser.follow(browser.sign_in(wrong))
    assert shown_language(consent) == "de"
    other = browser.follow(browser.submit(consent, decision="switch"))
    assert "request_uri=req_" in other.url
    assert shown_language(other) == "de"


def test_languages_of_a_stored_request_survive(site: Site, browser: Browser) -> None:
    page = browser.follow(browser.authorize(site.client(), ui_locales="de", state="x" * 2000, nonce="y" * 2000))
    assert shown_language(page) == "de"


def test_languages_of_a_signed_request_survive(site: Site, browser: Browser) -> None:
    site.user()
    client = key_client(site, scope="openid email")
    page = authorize_signed(browser, client, request_object(site, client, ui_locales="de"))
    assert shown_language(page) == "de"
    assert shown_language(choose(browser, page, "fr")) == "fr", "the menu is preferred"
    other = authorize_signed(browser, client, request_object(site, client, ui_locales="ja"), ui_locales="ja")
    assert shown_language(browser.follow(browser.sign_in(other))) == "ja"


def test_errors_of_a_request_object_are_in_its_languages(site: Site, browser: Browser) -> None:
    client = key_client(site)
    text = request_object(site, client, ui_locales="de", redirect_uri="https://other.example/")
    page = authorize_signed(browser, client, text)
    assert (page.status, shown_language(page)) == (400, "de")


def test_errors_are_in_the_languages_of_the_request(browser: Browser) -> None:
    page = browser.get("/oauth2/authorize?client_id=unknown&ui_locales=fr")
    assert page.status == 400
    assert shown_language(page) == "fr"
    assert shown_language(browser.get("/nothing", {"Accept-Language": "ja"})) == "ja"


def test_pages_for_developers_are_in_english(browser: Browser) -> None:
    for path in ("/", "/errors"):
        page = browser.get(path, {"Accept-Language": "de"})
        assert shown_language(page) == "en"
        assert "set_language" not in page.body


def test_metadata_lists_the_languages(browser: Browser) -> None:
    metadata = browser.get("/.well-known/openid-configuration").json
    assert metadata["ui_locales_supported"] == ["en", "de", "fr", "es", "ja", "ar"]


# ---- the menu


def choose(browser: Browser, page: Answer, code: str) -> Answer:
    """Send the language menu of a page, and return the page that follows."""
    start = page.body.index('<details class="languages">')
    form = Answer(200, [], page.body[start : page.body.index("</details>", start)], page.url).form
    assert ("set_language", code) in form.buttons
    query = Params([*form.fields.items(), ("set_language", code)]).encoded()
    answer = browser.get(f"{form.action}?{query}")
    assert answer.status == 302
    assert urlsplit(answer.location).path == form.action
    return browser.follow(answer)


def test_menu_keeps_the_request_and_all_later_pages_have_the_language(site: Site, browser: Browser) -> None:
    site.user()
    page = browser.authorize(site.client(), state="a b+c&d=é")
    german = choose(browser, page, "de")
    assert shown_language(german) == "de"
    answer = browser.follow(browser.sign_in(german))
    assert shown_language(answer) == "de"
    assert browser.submit(answer, decision="allow").answer["state"] == "a b+c&d=é"
    assert shown_language(browser.get("/account")) == "de"
    assert shown_language(browser.get("/oauth2/logout")) == "de"


def test_menu_is_preferred_to_the_languages_of_the_request(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client()
    in_address = choose(browser, browser.authorize(client, ui_locales="de"), "fr")
    assert shown_language(in_address) == "fr"
    stored = browser.follow(browser.authorize(client, ui_locales="de", state="x" * 2000, nonce="y" * 2000))
    chosen = choose(browser, stored, "ja")
    assert shown_language(chosen) == "ja"
    assert shown_language(browser.follow(browser.sign_in(chosen))) == "ja"


def test_menu_after_a_form_leads_to_the_page_with_the_form(site: Site, browser: Browser) -> None:
    site.user()
    sign_in_to_account(browser)
    rejected = submit_action(
        browser, "change_password", password="wrong", new_password="x" * 20, new_password_again="x" * 20
    )
    assert rejected.status == 400
    page = choose(browser, rejected, "de")
    assert page.status == 200
    assert shown_language(page) == "de"
    assert 'name="new_password"' in page.body


def test_menu_after_an_error_of_a_form_leads_to_the_request(site: Site, browser: Browser) -> None:
    page = browser.authorize(site.client())
    error = browser.request("POST", page.form.action or "", body="username=a", headers={"Sec-Fetch-Site": "cross-site"})
    assert error.status == 400
    assert shown_language(choose(browser, error, "de")) == "de"


def test_cookie_of_the_menu_is_like_the_others() -> None:
    settings = replace(SETTINGS, issuer="https://login.example.com")
    response = answer_menu(settings, Request("GET", "/account", query=Params([("set_language", "de")])))
    assert response
    cookie = "__Host-signet-language=de; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=31536000"
    assert response.values("set-cookie") == [cookie]
    assert response.values("location") == ["/account"]


@pytest.mark.parametrize("code", ["pt", "", "DE", "de\r\nX: y", "<script>"])
def test_menu_sets_no_unknown_language(browser: Browser, code: str) -> None:
    query = Params([("set_language", code), ("ui_locales", "fr")]).encoded()
    answer = browser.get(f"/account/recover?{query}")
    assert (answer.status, urlsplit(answer.location).query) == (302, "ui_locales=fr")
    assert answer.header("set-cookie") is None


@pytest.mark.parametrize("path", ["//evil.example.com", "//evil.example.com/x", "/\\evil.example.com"])
def test_menu_leads_to_no_other_host(path: str) -> None:
    http = Request("GET", path, query=Params([("set_language", "de")]))
    assert answer_menu(SETTINGS, http) is None
    assert menu(SETTINGS, http) is None


def test_menu_repeats_no_longer_query_than_pages_have() -> None:
    shown = menu(SETTINGS, Request("GET", "/account", query=Params([("x", "y" * 3998)])))
    assert shown
    assert shown.fields == [("x", "y" * 3998)]
    assert menu(SETTINGS, Request("GET", "/account", query=Params([("x", "y" * 3999)]))) is None


def test_menu_of_an_unknown_address_stays_there(browser: Browser) -> None:
    page = choose(browser, browser.get("/nothing%22here/%C3%A9?a=1"), "de")
    assert page.status == 404
    assert shown_language(page) == "de"
    assert parse_qs(urlsplit(page.url).query) == {"a": ["1"]}


def test_endpoints_for_clients_have_no_menu(browser: Browser) -> None:
    answer = browser.get("/oauth2/jwks?set_language=de")
    assert answer.status == 200
    assert answer.header("set-cookie") is None


# ---- texts


class Marked:
    """A catalogue that puts every message into brackets."""

    def gettext(self, message: str, /) -> str:
        """Return the message in brackets."""
        return f"⟦{message}⟧"

    def ngettext(self, singular: str, plural: str, n: int, /) -> str:
        """Return the message for a number in brackets."""
        return f"⟦{singular if n == 1 else plural}⟧"


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Translate into German by brackets."""
    monkeypatch.setattr(languages, "catalogue", lambda _code: Marked())


def test_text_is_english_until_it_is_translated(marked: None) -> None:
    text = Text("Try again in %(time)s.", time=plural_text("%(n)s day", "%(n)s days", 2))
    assert text == "Try again in 2 days."
    assert json.dumps({"problem": text}) == '{"problem": "Try again in 2 days."}'
    assert translate(text, "de") == "⟦Try again in ⟦2 days⟧.⟧"
    assert translate(text, "en") == text


def test_only_own_texts_are_translated(marked: None) -> None:
    assert translate("See your photos", "de") == "See your photos"
    assert translate(Text("See %(name)s", name="100% <b>"), "de") == "⟦See 100% <b>⟧"


def test_text_survives_an_exception_and_json(marked: None) -> None:
    text = Text("At most %(most)s, in %(time)s", most=5, time=plural_text("%(n)s day", "%(n)s days", 1))
    assert translate(str(ValueError(text)), "de") == "⟦At most 5, in ⟦1 day⟧⟧"
    restored = from_json(json.loads(json.dumps(to_json(text))))
    assert translate(restored, "de") == "⟦At most 5, in ⟦1 day⟧⟧"
    assert translate(from_json(to_json("as it is")), "de") == "as it is"


def test_problem_is_translated_for_the_reader_of_the_page(site: Site, browser: Browser, marked: None) -> None:
    site.user()
    page = browser.authorize(site.client())
    redirect = browser.send(page, username="alice", password="wrong")
    german = browser.get(redirect.location, {"Accept-Language": "de"})
    assert "⟦The username or the password is not right.⟧" in german.body


def test_operators_texts_are_shown_as_they_are(site: Site, browser: Browser, marked: None) -> None:
    site.user()
    page = authorize(browser, site.client(client_name="Sign in"), "de")
    assert "<bdi>Sign in</bdi>" in page.body
    assert "⟦Sign in⟧" in page.body


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("en", "4 March 2026, 05:06 UTC"),
        ("de", "4. März 2026, 05:06 UTC"),
        ("fr", "4 mars 2026, 05:06 UTC"),
        ("es", "4 de marzo de 2026, 05:06 UTC"),
        ("ja", "2026年3月4日 05:06 UTC"),
        ("ar", "4 مارس 2026، 05:06 UTC"),
    ],
)
def test_dates_are_in_the_language_of_the_page(code: str, expected: str) -> None:
    assert date_text(1772600786, code) == expected


def test_name_of_the_account_pages_is_in_the_language_of_the_reader(site: Site, browser: Browser) -> None:
    site.user("alice")
    german = {"Accept-Language": "de"}
    page = browser.get(browser.get("/account", german).location, german)
    assert "um fortzufahren zu <strong><bdi>Ihr Konto bei Signet</bdi></strong>" in page.body
    page = browser.get(browser.get("/account").location)
    assert "to continue to <strong><bdi>Your account at Signet</bdi></strong>" in page.body
