"""Every way through a request ends at the application, however the request came: plain, posted, signed or pushed.

Each page on the way is reloaded, and is in the language that the request asks for.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from chalicelib.protocol.authentication_context import REFEDS_MFA
from tests.endpoints.second_factor.test_setup import secret_text, shown_codes
from tests.support.assertions import key_pair
from tests.support.browser import Answer, Browser, authorization_parameters, basic
from tests.support.mail_flows import ADDRESS, NEW_PASSWORD, VERIFIED, link_in, receive
from tests.support.mailbox import SENDER, Mailbox
from tests.support.request_objects import authorize_signed, request_object
from tests.support.second_factor import Authenticator, add_second_factor
from tests.support.site import Registered, Site

LANGUAGE = "de"
STATE = "where the user was"
Open = Callable[[Site, Browser, Registered], Answer]


def open_plain(_site: Site, browser: Browser, client: Registered) -> Answer:
    return browser.authorize(client, state=STATE, ui_locales=LANGUAGE)


def open_posted(_site: Site, browser: Browser, client: Registered) -> Answer:
    parameters = authorization_parameters(client, state=STATE, ui_locales=LANGUAGE, login_hint="someone")
    return browser.post("/oauth2/authorize", parameters)


def open_long(_site: Site, browser: Browser, client: Registered) -> Answer:
    return browser.authorize(client, state=STATE, ui_locales=LANGUAGE, nonce="n" * 2000, login_hint="h" * 2000)


def open_signed(site: Site, browser: Browser, client: Registered) -> Answer:
    text = request_object(site, client, state=STATE, ui_locales=LANGUAGE)
    return authorize_signed(browser, client, text)


def open_pushed(site: Site, browser: Browser, client: Registered) -> Answer:
    return _push(site, browser, client, authorization_parameters(client, state=STATE, ui_locales=LANGUAGE))


def open_pushed_and_signed(site: Site, browser: Browser, client: Registered) -> Answer:
    text = request_object(site, client, state=STATE, ui_locales=LANGUAGE)
    return _push(site, browser, client, {"client_id": client.id, "request": text})


def _push(site: Site, browser: Browser, client: Registered, parameters: dict[str, str]) -> Answer:
    assert client.secret
    uri = str(browser.post("/oauth2/par", parameters, basic(client.id, client.secret)).json["request_uri"])
    site.secrets.add(uri)
    return browser.get("/oauth2/authorize", client_id=client.id, request_uri=uri)


REQUESTS: dict[str, Open] = {
    "in the address": open_plain,
    "posted": open_posted,
    "long": open_long,
    "signed": open_signed,
    "pushed": open_pushed,
    "pushed and signed": open_pushed_and_signed,
}


class Visit:
    """A browser on its way through a request; each page that it comes to is reloaded first."""

    def __init__(self, site: Site, browser: Browser, mailbox: Mailbox):
        self.site, self.browser, self.mailbox = site, browser, mailbox
        self.page: Answer

    def reach(self, answer: Answer) -> None:
        """Follow the redirects of this server to a page, and reload it."""
        while answer.status in (302, 303) and answer.location.startswith("/"):
            answer = self.browser.get(answer.location)
        if answer.status in (302, 303):
            self.page = answer
            return
        again = self.browser.follow(self.browser.get(answer.url))
        assert again.form.fields.keys() == answer.form.fields.keys(), answer.url
        assert again.header("content-language") == answer.header("content-language") == LANGUAGE
        self.page = again

    def send(self, **values: str) -> None:
        """Send the form of the page."""
        self.reach(self.browser.send(self.page, None, **values))

    def open(self, path: str) -> None:
        """Open the link on the page that begins with this path."""
        self.reach(self.browser.get(link_in(self.page, path)))

    def sign_in(self, username: str = "alice", password: str | None = None) -> None:
        assert "password" in self.page.form.fields, self.page.body
        self.reach(self.browser.sign_in(self.page, username, *([password] if password else [])))


# ---- from the sign-in page to the question for consent


def by_password(visit: Visit) -> None:
    visit.sign_in()


def after_a_wrong_password(visit: Visit) -> None:
    wrong = visit.browser.follow(visit.browser.sign_in(visit.page, password="a wrong password"))
    visit.reach(visit.browser.get(wrong.url))
    visit.sign_in()


def as_another_user(visit: Visit) -> None:
    visit.site.user("bob")
    visit.sign_in("bob")
    visit.send(decision="switch")
    visit.sign_in()


def by_a_code_from_an_email(visit: Visit) -> None:
    visit.send(username=ADDRESS, email_me="yes")
    visit.send(email_code=receive(visit.site, visit.mailbox).code)


def by_the_link_in_an_email(visit: Visit) -> None:
    visit.send(username=ADDRESS, email_me="yes")
    link = receive(visit.site, visit.mailbox).link
    visit.reach(visit.browser.get(link.removeprefix(visit.site.settings.issuer)))
    visit.send()


def with_a_second_factor(visit: Visit) -> None:
    phone = add_second_factor(visit.site)
    visit.sign_in()
    wrong = visit.browser.follow(visit.browser.send(visit.page, one_time_code="000000"))
    visit.reach(visit.browser.get(wrong.url))
    visit.send(one_time_code=phone.code())


def setting_up_a_second_factor(visit: Visit) -> None:
    visit.sign_in()
    phone = Authenticator.of_text(visit.site, secret_text(visit.page))
    visit.send(one_time_code=phone.code())
    visit.site.secrets.update(shown_codes(visit.page))
    visit.send(saved="yes")


def choosing_a_required_password(visit: Visit) -> None:
    store = visit.site.server.store
    store.users.put(replace(visit.site.read_user(), password_change_required=True))
    visit.sign_in()
    visit.send(new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD)


def after_a_forgotten_password(visit: Visit) -> None:
    visit.open("/account/recover")
    visit.send(username="alice")
    visit.send(code=receive(visit.site, visit.mailbox).code)
    visit.send(new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD)
    visit.open("/oauth2/authorize")
    visit.sign_in(password=NEW_PASSWORD)


def as_a_new_user(visit: Visit) -> None:
    visit.open("/account/sign-up")
    visit.send(email="bob@example.com")
    visit.send(code=receive(visit.site, visit.mailbox).code)
    visit.send(username="bob", new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD)
    visit.open("/oauth2/authorize")
    visit.sign_in("bob", NEW_PASSWORD)


WAYS = [
    by_password,
    after_a_wrong_password,
    as_another_user,
    by_a_code_from_an_email,
    by_the_link_in_an_email,
    with_a_second_factor,
    setting_up_a_second_factor,
    choosing_a_required_password,
    after_a_forgotten_password,
    as_a_new_user,
]


@pytest.mark.parametrize("go", WAYS, ids=lambda go: go.__name__)
@pytest.mark.parametrize("how", REQUESTS)
def test_every_way_through_a_request_ends_at_the_application(
    site_with: Callable[..., Site],
    browsers: Callable[..., Browser],
    mailbox: Mailbox,
    how: str,
    go: Callable[[Visit], None],
) -> None:
    site = site_with(email_from=SENDER, sign_up=True, email_code_sign_in=True)
    site.user("alice", claims=VERIFIED)
    acr = {"require_acr": REFEDS_MFA} if go is setting_up_a_second_factor else {}
    client = site.client(jwks=key_pair().jwks, scope="openid email", **acr)
    visit = Visit(site, browsers(site), mailbox)
    visit.reach(REQUESTS[how](site, visit.browser, client))
    go(visit)
    assert ("decision", "allow") in visit.page.form.buttons, visit.page.body
    visit.send(decision="allow")
    assert visit.page.answer["state"] == STATE
    tokens = visit.browser.redeem(client, visit.page.code).json
    assert visit.browser.userinfo(tokens["access_token"]).status == 200
