"""The consent form: "Allow" with the box "Remember my choice", and the values of forms of earlier versions."""

from collections.abc import Callable

import pytest

from tests.endpoints.authorize.conftest import NATIVE_URIS, asks_for_consent
from tests.support.browser import Browser
from tests.support.site import Registered, Site


@pytest.fixture
def client(site: Site) -> Registered:
    site.user("alice")
    return site.client()


# What the form sends, and whether it is remembered.
DECISIONS: list[tuple[dict[str, str], bool]] = [
    ({"decision": "allow"}, False),
    ({"decision": "allow", "remember": "on"}, True),
    ({"decision": "allow", "remember": ""}, False),
    ({"decision": "allow", "remember": "off"}, False),
    ({"decision": "allow_once"}, False),
    ({"decision": "allow_once", "remember": "on"}, False),
    ({"decision": "allow_always"}, True),
]


@pytest.mark.parametrize(("form", "remembered"), DECISIONS, ids=[str(form) for form, _ in DECISIONS])
def test_choice_is_remembered_with_the_box_only(
    browser: Browser, client: Registered, form: dict[str, str], remembered: bool
) -> None:
    page = browser.sign_in(browser.authorize(client))
    assert page.form.buttons[:2] == [("decision", "allow"), ("decision", "deny")]
    assert "remember" not in page.form.fields, "the box is not checked"
    assert browser.submit(page, None, **form).code
    assert asks_for_consent(browser.authorize(client)) is not remembered


def test_denial_is_not_remembered_whatever_the_box_says(site: Site, browser: Browser, client: Registered) -> None:
    page = browser.sign_in(browser.authorize(client))
    assert browser.submit(page, decision="deny", remember="on").answer["error"] == "access_denied"
    assert asks_for_consent(browser.authorize(client))
    assert [*site.server.store.consents.scan()] == []


@pytest.mark.parametrize("decision", ["", "Allow", "always", "remember"])
def test_unknown_decision_is_rejected(browser: Browser, client: Registered, decision: str) -> None:
    page = browser.sign_in(browser.authorize(client))
    answer = browser.submit(page, decision=decision)
    assert answer.status == 400
    assert "form_not_ours" in answer.body


def test_box_that_is_sent_twice_is_rejected(browser: Browser, client: Registered) -> None:
    page = browser.sign_in(browser.authorize(client))
    form = [*page.form.fields.items(), ("decision", "allow"), ("remember", "on"), ("remember", "off")]
    headers = {"Sec-Fetch-Site": "same-origin", "Origin": browser.site.settings.issuer}
    assert "code" not in (browser.post(page.form.action or "", form, headers).header("location") or "")


@pytest.mark.parametrize("redirect_uri", NATIVE_URIS)
def test_there_is_no_box_where_consent_cannot_be_remembered(
    site: Site, browser: Browser, client: Registered, redirect_uri: str
) -> None:
    native = site.client(redirect_uris=NATIVE_URIS, public=True)
    page = browser.sign_in(browser.authorize(native, redirect_uri=redirect_uri))
    assert asks_for_consent(page)
    assert "Remember my choice" not in page.body
    assert browser.submit(page, decision="allow", remember="on").code
    assert asks_for_consent(browser.authorize(native, redirect_uri=redirect_uri))
    assert "Remember my choice" in browser.authorize(client).body


def test_links_of_a_page_with_a_form_open_in_a_new_tab(
    site_with: Callable[..., Site], browsers: Callable[..., Browser]
) -> None:
    site = site_with(support_url="https://help.example.com/")
    site.user("alice")
    client = site.client(client_uri="https://print.example.com/")
    browser = browsers(site)
    page = browser.authorize(client)
    assert '<a href="https://help.example.com/" target="_blank" rel="noopener noreferrer">Get help</a>' in page.body
    consent = browser.sign_in(page)
    main = consent.body.partition("<main>")[2]
    links = [part.partition(">")[0] for part in main.split("<a ")[1:]]
    assert len(links) == 3
    assert all('target="_blank"' in link and 'rel="noopener' in link for link in links), links
    assert "/account" in "".join(links)


def test_mail_address_of_the_support_opens_no_tab(
    site_with: Callable[..., Site], browsers: Callable[..., Browser]
) -> None:
    site = site_with(support_url="mailto:help@example.com")
    page = browsers(site).authorize(site.client())
    assert '<a href="mailto:help@example.com">Get help</a>' in page.body
