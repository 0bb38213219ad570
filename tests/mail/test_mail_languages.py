"""The language of mails: of the page for those that a reader asks for, and of the user for all others."""

import re
from collections.abc import Callable
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from chalicelib import pages
from chalicelib.http.messages import Request
from chalicelib.mail.message import compose
from chalicelib.mail.notices import tell, tell_later
from chalicelib.pages import languages
from chalicelib.protocol.outgoing_mail import OutgoingMail
from chalicelib.protocol.records import User
from tests.rules.test_languages import Marked
from tests.support.assertions import key_client, signed
from tests.support.browser import Answer, Browser, authorization_parameters
from tests.support.mail_flows import NEW_PASSWORD, link_in, verified_user
from tests.support.mailbox import SENDER, Mailbox, ReceivedMail
from tests.support.request_objects import authorize_signed, request_object
from tests.support.site import Site

TEMPLATES = sorted(path.stem for path in (Path(pages.__file__).parent / "mail").glob("*.txt"))
NEW_PASSWORDS: dict[str, Any] = {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}
PROOF = "reset.digest-of-43-characters.nonce"
VALUES = {
    "passkeys": "2",
    "newest": "{newest}",
    "username": "{alice}",
    "device": "{device}",
    "source_ip": "{address}",
    "time": "{time}",
    "period": "14 days",
    "new_address": "{new}",
}


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Translate by brackets."""
    monkeypatch.setattr(languages, "catalogue", lambda _code: Marked())


def composed(site: Site, **members: Any) -> ReceivedMail:
    now = site.clock()
    mail = replace(OutgoingMail("d-1", now, now + 60, "alice", "password_changed", "a@example.com", VALUES), **members)
    message = message_from_bytes(compose(site.server, mail), policy=policy.default)
    assert isinstance(message, EmailMessage)
    return ReceivedMail(message, [])


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_text_of_a_mail_is_a_message(site_with: Callable[..., Site], marked: None, template: str) -> None:
    site = site_with(email_from=SENDER, name="N", support_url="mailto:help@example.com")
    mail = composed(site, template=template, locale="ar", proof_id=PROOF)
    assert mail.message["Content-Language"] == "ar"
    assert '<html lang="ar" dir="rtl">' in mail.html
    for paragraph in (mail.subject.removesuffix(" · N"), *mail.text.split("\n\n")):
        paragraph = paragraph.strip()
        is_value = paragraph == mail.link or re.fullmatch(r"[2-9A-Z]{4}-[2-9A-Z]{4}", paragraph)
        assert is_value or (paragraph.startswith("⟦") and paragraph.endswith("⟧")), paragraph


@pytest.mark.parametrize(
    ("locale", "expected"), [("de", "de"), ("de-AT", "de"), ("und", "fr"), ("", "fr"), ("pt-BR", "fr"), ("<b>", "fr")]
)
def test_mail_in_an_unknown_language_is_in_that_of_the_setting(
    site_with: Callable[..., Site], locale: str, expected: str
) -> None:
    site = site_with(email_from=SENDER, language="fr")
    assert composed(site, locale=locale).message["Content-Language"] == expected


def user_with(site: Site, **claims: str) -> User:
    return site.user("alice", claims={"email": "alice@example.com", "email_verified": True, **claims})


def test_notice_is_in_the_language_of_the_user(site_with: Callable[..., Site]) -> None:
    site = site_with(email_from=SENDER, language="ja")
    in_french = Request("POST", "/account", headers={"accept-language": "fr"})
    user = user_with(site, locale="de-CH")
    assert read_locale(site, user, in_french) == "de", "the claim, as others could choose the language of the page"
    for locale in ("pt", "", "<script>"):
        other = replace(user, claims={**user.claims, "locale": locale})
        assert read_locale(site, other, in_french) == "fr", "the page"
        assert read_locale(site, other, None) == "ja", "the setting"


def read_locale(site: Site, user: User, http: Request | None) -> str:
    """Tell a user something, and return the language of the mail that waits in the outbox."""
    assert site.server.store.transact(*tell(site.server, http, user, "password_changed")) is None
    (mail,) = [each for each in site.server.store.mails.scan() if each.template == "password_changed"]
    site.server.store.mails.delete(mail.delivery_id)
    return mail.locale


def test_mail_of_a_command_is_in_the_language_of_the_user_or_of_the_setting(
    site_with: Callable[..., Site], mailbox: Mailbox
) -> None:
    site = site_with(email_from=SENDER, language="ja")
    user = user_with(site)
    for user_now, expected in ((replace(user, claims={**user.claims, "locale": "ar"}), "ar"), (user, "ja")):
        assert site.server.store.transact(*tell_later(site.server.store, user_now, "password_changed")) is None
        (mail,) = mailbox.deliver(site)
        assert mail.message["Content-Language"] == expected


def test_mail_that_a_reader_asks_for_is_in_the_language_of_the_page_and_so_is_its_link(
    mail_site: Site, browsers: Callable[..., Browser], mailbox: Mailbox
) -> None:
    verified_user(mail_site)
    browser = browsers(mail_site)
    sign_in = browser.authorize(mail_site.client(), ui_locales="pt fr")
    recover = browser.get(re.findall(r'href="(/account/recover[^"]*)"', sign_in.body)[0].replace("&amp;", "&"))
    assert recover.header("content-language") == "fr"
    page_after = browser.submit(recover, username="alice")
    assert page_after.header("content-language") == "fr"
    (mail,) = mailbox.deliver(mail_site)
    assert mail.message["Content-Language"] == "fr"
    link = browser.get(mail.link.removeprefix(mail_site.settings.issuer))
    assert link.status == 200
    assert link.header("content-language") == "fr"
    again = browser.submit(link, new_password="short", new_password_again="short")
    assert (again.status, again.header("content-language")) == (400, "fr")
    menu = again.body[again.body.index('class="languages"') :]
    assert 'name="link"' in menu, "the menu leads back to the page with the form"


def open_request(site: Site, browser: Browser, how: str) -> Answer:
    """Open the sign-in page of a request that asks for French, and whose address does not say so."""
    client = key_client(site, scope="openid email")
    if how == "signed":
        return authorize_signed(browser, client, request_object(site, client, ui_locales="pt fr"))
    parameters = authorization_parameters(client, ui_locales="pt fr", login_hint="alice")
    if how == "posted":
        return browser.follow(browser.post("/oauth2/authorize", parameters))
    uri = str(browser.post("/oauth2/par", parameters | signed(site, client)).json["request_uri"])
    site.secrets.add(uri)
    return browser.get("/oauth2/authorize", client_id=client.id, request_uri=uri)


@pytest.mark.parametrize("how", ["signed", "pushed", "posted"])
def test_new_password_is_in_the_language_of_a_request_whose_address_does_not_say_it(
    mail_site: Site, browsers: Callable[..., Browser], mailbox: Mailbox, how: str
) -> None:
    verified_user(mail_site)
    browser = browsers(mail_site)
    recover = browser.get(link_in(open_request(mail_site, browser, how), "/account/recover"))
    assert recover.header("content-language") == "fr"
    browser.submit(recover, username="alice")
    (mail,) = mailbox.deliver(mail_site)
    assert mail.message["Content-Language"] == "fr"
    mail_site.secrets.add(mail.code)
    done = browser.submit(browser.get(mail.link.removeprefix(mail_site.settings.issuer)), **NEW_PASSWORDS)
    back = browser.get(link_in(browser.follow(done), "/oauth2/authorize"))
    assert (back.status, back.header("content-language")) == (200, "fr"), "the request is continued"


@pytest.mark.parametrize("how", ["signed", "pushed", "posted"])
def test_code_to_sign_in_is_in_the_language_of_a_request_whose_address_does_not_say_it(
    site_with: Callable[..., Site], browsers: Callable[..., Browser], mailbox: Mailbox, how: str
) -> None:
    site = site_with(email_from=SENDER, email_code_sign_in=True)
    verified_user(site)
    browser = browsers(site)
    page = browser.follow(browser.submit(open_request(site, browser, how), username="alice", email_me="email_me"))
    assert page.header("content-language") == "fr"
    (mail,) = mailbox.deliver(site)
    assert mail.message["Content-Language"] == "fr"
    site.secrets.add(mail.code)
    link = mail.link.removeprefix(site.settings.issuer)
    assert browser.get(link).header("content-language") == "fr"
    assert browsers(site).get(link).header("content-language") == "fr", "in another browser too"


def test_time_and_unknown_browser_in_a_notice_are_in_its_language(
    site_with: Callable[..., Site], browsers: Callable[..., Browser], mailbox: Mailbox, marked: None
) -> None:
    site = site_with(email_from=SENDER, sign_in_notice=True)
    verified_user(site)
    browser = browsers(site)
    page = browser.authorize(site.client(), ui_locales="es")
    browser.sign_in(page)
    (mail,) = mailbox.deliver(site)
    assert mail.message["Content-Language"] == "es"
    assert "⟦an unknown browser⟧" in mail.text
    assert " de 20" in mail.text
