"""Hostile values in every field of the forms about accounts: each is answered, and none with an error of the server."""

import json
from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_plus, urlencode

import pytest

from tests.support.account import sign_in_to_account
from tests.support.authenticator import Authenticator, options_of, passkey_site
from tests.support.browser import Answer, Browser
from tests.support.mail_flows import ask, receive, verified_user
from tests.support.mailbox import SENDER, Mailbox
from tests.support.site import Site

# As they are sent: percent-encoded. A lone surrogate can come in JSON only.
VALUES = {
    "empty": "",
    "space": "+",
    "dot": ".",
    "dots": "...",
    "NUL": "%00",
    "NUL in text": "a%00b%40example.com",
    "broken UTF-8": "%ff%fe",
    "surrogate in UTF-8": "%ed%a0%80",
    "broken escape": "%zz%",
    "line breaks": "a%0d%0aBcc%3A+eve%40example.com",
    "huge": "a" * 70_000,
    "long": "a" * 3000,
    "many combining characters": quote("e\u0301\u0327" * 300),
    "expanding characters": quote("\ufdfa" * 150),
    "nested arrays": quote_plus("[" * 3000),
    "nested objects": quote_plus('{"a":' * 1000),
    "JSON null": "null",
    "JSON list": "%5B%5D",
    "JSON number": "1" * 5000,
    "JSON surrogate": quote_plus('{"id":"\\ud800","clientDataJSON":"\\ud800","userHandle":"\\ud800"}'),
    "other digits": quote("\u0661\u0662\u0663\u0664\u0665\u0666"),
    "superscripts": quote("\u00b2\u00b2\u00b2\u00b2\u00b2\u00b2"),
    "internationalized": quote("x@b\u00fccher.example"),
    "empty label": "a%40.example..com",
    "long label": "a%40" + quote("\u00fc" * 80) + ".example",
    "year 0": "0000-02-30",
    "future": "9999-12-31",
    "URL": quote_plus("https://[::1%25]/"),
}
WRONG_KINDS = {
    "list": json.dumps(["a"]),
    "surrogate": json.dumps({"action": "\ud800", "username": "\ud800", "email": "\ud800", "proof": "\ud800"}),
}


def send_raw(browser: Browser, path: str, body: str, content_type: str = "application/x-www-form-urlencoded") -> Answer:
    headers = {"Content-Type": content_type, "Sec-Fetch-Site": "same-origin"}
    return browser.request("POST", path, body, headers)


def bodies(fields: dict[str, str], changed: str) -> Iterator[tuple[str, str]]:
    """Return bodies of a form in which one field is hostile, missing or repeated."""
    rest = urlencode({name: value for name, value in fields.items() if name != changed})
    for name, value in VALUES.items():
        yield name, f"{rest}&{changed}={value}"
    yield "missing", rest
    yield "repeated", f"{rest}&{changed}={quote_plus(fields[changed])}&{changed}={quote_plus(fields[changed])}"


def try_form(browser: Browser, path: str, fields: dict[str, str]) -> int:
    """Send a form with each hostile value in each field; return how many requests there were."""
    cookies, tries = dict(browser.cookies), 0
    for changed in fields:
        for name, body in bodies(fields, changed):
            browser.cookies = dict(cookies)
            answer = send_raw(browser, path, body)
            assert answer.status < 500, (path, changed, name, answer.body)
            tries += 1
    for name, body in WRONG_KINDS.items():
        assert send_raw(browser, path, body, "application/json").status < 500, (path, name)
    return tries


@pytest.fixture
def site(site: Site, site_with: Callable[..., Site], mailbox: Mailbox) -> Site:
    return passkey_site(site_with, email_from=SENDER, sign_up=True, email_code_sign_in=True)


@pytest.fixture
def browser(site: Site, browsers: Callable[..., Browser]) -> Browser:
    return browsers(site)


@pytest.mark.parametrize(("path", "field"), [("/account/recover", "username"), ("/account/sign-up", "email")])
def test_forms_that_ask_for_an_email(site: Site, browser: Browser, path: str, field: str) -> None:
    verified_user(site)
    form = browser.get(path).form.fields | {field: "alice@example.com"}
    assert try_form(browser, path, form) > 30


@pytest.mark.parametrize("code", [True, False])
def test_form_behind_a_link(site: Site, browser: Browser, mailbox: Mailbox, code: bool) -> None:
    verified_user(site)
    ask(browser)
    mail = receive(site, mailbox)
    page = browser.get("/account/link", link=mail.link.partition("link=")[2])
    form = page.form.fields | {"new_password": "a", "new_password_again": "b"}
    assert try_form(browser, "/account/link", form | ({"code": "22222222"} if code else {})) > 60


def test_forms_of_a_sign_in_by_email(site: Site, browser: Browser) -> None:
    verified_user(site)
    page = browser.authorize(site.client(trusted=True))
    path, form = page.form.action or "", page.form.fields | {"username": "alice", "email_me": "yes"}
    assert try_form(browser, path, form) > 200
    page = browser.submit(page, username="alice", email_me="yes")
    for more in ({}, {"email_me": "again"}, {"use_password": "yes"}):
        assert try_form(browser, page.form.action or "", page.form.fields | {"email_code": "22222222"} | more) > 100


ACTIONS: dict[str, list[dict[str, str]]] = {
    "/account": [
        {"action": "revoke", "client_id": "x", "generation": "0"},
        {"action": "sign_out", "session": "x"},
        {"action": "change_password", "password": "x", "new_password": "y", "new_password_again": "y"},
    ],
    "/account/email": [
        {"action": "change_email", "email": "new@example.com"},
        {"action": "confirm_email", "proof": "verify.x.y", "code": "22222222"},
    ],
    "/account/passkeys": [
        {"action": "add", "passkey": "{}", "name": "x"},
        {"action": "rename", "passkey_id": "x", "name": "x"},
        {"action": "remove", "passkey_id": "x", "confirmed": "yes"},
    ],
    "/account/second-factor": [
        {"action": "first_code", "one_time_code": "123456"},
        {"action": "turn_on", "saved": "yes"},
        {"action": "turn_off", "one_time_code": "123456", "recovery_code": ""},
    ],
    "/account/profile": [
        {"action": "change_profile", "seen": "x", "name": "x", "birthdate": "x", "website": "x", "locale": "x"}
        | {"zoneinfo": "x"},
    ],
    "/account/data": [{"action": "download", "password": "x"}],
    "/account/delete": [{"action": "delete", "password": "x"}],
}


@pytest.mark.parametrize("path", ACTIONS)
def test_forms_of_the_account_pages(site: Site, browser: Browser, path: str) -> None:
    site.user("alice")
    sign_in_to_account(browser)
    tag = browser.get("/account/password").form.fields["tag"]
    for form in ACTIONS[path]:
        assert try_form(browser, path, {"tag": tag} | form) > 30


def test_sign_in_form_with_the_answer_of_a_passkey(site: Site, browser: Browser) -> None:
    page = browser.get(browser.get("/account").location)
    authenticator = Authenticator(site.settings.issuer)
    options = options_of(page)
    authenticator.create({"rp": {"id": "localhost"}, "user": {"id": "YWxpY2U"}, "challenge": options["challenge"]})
    answer = authenticator.get(options)
    form = page.form.fields | {"passkey": json.dumps(answer)}
    assert try_form(browser, page.form.action or "", form) > 100
    for member in answer:
        for value in WRONG_MEMBERS:
            text = json.dumps(answer | {member: value})
            sent = send_raw(browser, page.form.action or "", urlencode(page.form.fields | {"passkey": text}))
            assert sent.status < 500, (member, value)


WRONG_MEMBERS: tuple[object, ...] = (
    *(None, 1, 1.5, True, [], {}, "", "\ud800", "\0", "a" * 70_000, "=", "%", [["a"]], "\u00e9"),
)
ADDRESSES = {
    "/account/link": ("link", "proof"),
    "/account/email": ("proof", "done"),
    "/account/recover": ("login_hint", "client_id", "request_uri"),
    "/account/sign-up": ("login_hint", "client_id", "request_uri"),
    "/account/restore": ("done", "client_id", "request_uri"),
    "/account/second-factor": ("set_up", "done"),
    "/account/passkeys": ("done",),
    "/account/activity": ("until", "page"),
}


@pytest.mark.parametrize("path", ADDRESSES)
def test_addresses_of_the_account_pages(site: Site, browser: Browser, path: str) -> None:
    site.user("alice")
    sign_in_to_account(browser)
    for parameter in ADDRESSES[path]:
        for name, value in VALUES.items():
            for text in (value, f"reset.{value}.{value}", f".{value}"):
                if len(text) < 6000:
                    answer = browser.request("GET", f"{path}?{parameter}={text}")
                    assert answer.status < 500, (parameter, name, answer.body)
                    assert "eve@example.com" not in (answer.header("bcc") or "")


@pytest.mark.parametrize("name", ["restore", "answer", "browser", "session"])
def test_cookies(site: Site, browser: Browser, name: str) -> None:
    site.user("alice")
    sign_in_to_account(browser)
    cookie = next(each for each in browser.cookies if "session" in each).replace("session", name)
    cookies = dict(browser.cookies)
    for value in ("", "a", "a" * 2000, "\x01", "em_a", "%00", '"', "é".encode().decode("latin-1"), "." * 50, "e" * 64):
        browser.cookies = cookies | {cookie: value}
        for path in ("/account/restore", "/account/link", "/account/recover", "/account"):
            assert browser.get(path).status < 500
            assert send_raw(browser, path, "tag=x&action=x").status < 500
