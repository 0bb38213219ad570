"""The authorization details of connected applications on the account page."""

from chalicelib.protocol.authorization_details import to_text
from tests.support.account import sign_in_to_account
from tests.support.authorization_details import ALBUM, PAYMENT, as_json, register_asking_client
from tests.support.browser import Browser
from tests.support.site import Site


def test_account_page_shows_what_an_application_was_granted(site: Site, browser: Browser) -> None:
    site.user()
    client = register_asking_client(site)
    sign_in_to_account(browser)
    for details in (as_json(PAYMENT), as_json(PAYMENT | {"creditorName": "<b>B</b>"}, ALBUM)):
        browser.redeem(client, browser.authorize(client, scope="openid other", authorization_details=details).code,
                       resource="https://api.example.com/payments")  # fmt: skip
    page = browser.get("/account").body
    assert (page.count("Make a payment"), page.count("Use one of your albums")) == (2, 1)
    assert "<bdi>Merchant A</bdi>" in page
    assert "&lt;b&gt;B&lt;/b&gt;" in page
    site.server.store.authorization_types.delete("authorization_type payment")
    site.clock.advance(60)
    page = browser.get("/account").body
    assert (page.count("Make a payment"), page.count("Use one of your albums")) == (0, 1), "no token has it"


def test_download_of_the_users_data_has_the_details(site: Site, browser: Browser) -> None:
    site.user()
    client = register_asking_client(site)
    sign_in_to_account(browser)
    browser.redeem(client, browser.authorize(client, scope="openid", authorization_details=as_json(PAYMENT)).code)
    data = browser.send(browser.get("/account/data"), action="download").json
    assert [grant["authorization_details"] for grant in data["grants"]] == [[to_text(PAYMENT)]]
