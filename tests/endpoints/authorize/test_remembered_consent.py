"""/oauth2/authorize: what ends a remembered consent, and how a new one is remembered afterwards or at the same time."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.clients import registration
from chalicelib.protocol.records import Consent
from chalicelib.users import accounts
from tests.endpoints.authorize.conftest import asks_for_consent, read_grant
from tests.support.account import submit_action
from tests.support.browser import Answer, Browser, basic
from tests.support.faults import Wire
from tests.support.site import PASSWORD, Registered, Site

Browsers = Callable[..., Browser]
EMAIL = '{"userinfo": {"email": null}}'
NEW_PASSWORD = "quite another password"


def read_consent(site: Site) -> Consent:
    (consent,) = site.server.store.consents.scan()
    return consent


# ---- endings: each ends the grants of the client too


def remove_access(browser: Browser, client: Registered) -> None:
    assert submit_action(browser, "revoke", client_id=client.id).status == 303


def remove_all_access(browser: Browser, _client: Registered) -> None:
    assert submit_action(browser, "revoke_all").status == 303


def end_all_grants_of_user(browser: Browser, _client: Registered) -> None:
    accounts.end_all_grants(browser.site.server.store, browser.site.read_user())


def register_again(browser: Browser, client: Registered) -> None:
    store = browser.site.server.store
    store.clients.delete(client.id)
    registration.register_client(
        store,
        client_id=client.id,
        client_secret=client.secret,
        client_name=client.record.client_name,
        redirect_uris=client.record.redirect_uris,
        scope=client.record.scope,
        trusted=client.record.trusted,
        direct_sign_in=client.record.direct_sign_in,
    )
    browser.site.server.forget_cached_records()


def end_grants_of_client(browser: Browser, client: Registered) -> None:
    registration.end_all_grants(browser.site.server.store, client.record)
    browser.site.server.forget_cached_records()


ENDINGS = [remove_access, remove_all_access, end_all_grants_of_user, register_again, end_grants_of_client]
RECORDS = [remove_access, remove_all_access, register_again]  # one for each record that an ending changes
End = Callable[[Browser, Registered], None]


@pytest.mark.parametrize("end", ENDINGS)
def test_remembered_consent_no_longer_counts_after(site: Site, browser: Browser, end: End) -> None:
    site.user()
    client = site.client()
    browser.code(client, "allow_always", scope="openid email")
    assert browser.authorize(client, prompt="none").code
    end(browser, client)
    assert browser.authorize(client, prompt="none").answer["error"] == "consent_required"
    page = browser.authorize(client)
    assert asks_for_consent(page)
    assert "You have already allowed it to" not in page.body
    assert "badge new" not in page.body, "all is new, as in a first request"


@pytest.mark.parametrize("decision", ["allow_once", "allow_always"])
@pytest.mark.parametrize("end", ENDINGS)
def test_consent_given_after_an_ending_remembers_the_new_scope_only(
    site: Site, browser: Browser, end: End, decision: str
) -> None:
    site.user()
    client = site.client()
    old = browser.tokens(client, decision=decision, scope="openid email offline_access", claims=EMAIL)
    end(browser, client)
    tokens = browser.tokens(client, decision="allow_always", scope="openid profile offline_access")
    consent = read_consent(site)
    assert consent.scope == {"openid", "profile", "offline_access"}
    assert not consent.claims
    assert browser.userinfo(tokens["access_token"]).status == 200
    assert browser.refresh(client, tokens["refresh_token"]).status == 200
    assert browser.refresh(client, old["refresh_token"]).json["error"] == "invalid_grant"
    assert browser.authorize(client, prompt="none", scope="openid profile").code
    assert browser.authorize(client, prompt="none", scope="openid email").answer["error"] == "consent_required"


def test_consent_is_extended_after_it_was_given_again(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client()
    for scope in ("openid", "openid email"):
        browser.code(client, "allow_always", scope=scope)
    remove_access(browser, client)
    for scope in ("openid", "openid profile"):
        browser.tokens(client, decision="allow_always", scope=scope)
    assert read_consent(site).scope == {"openid", "profile"}
    assert read_consent(site).generation == 1


# ---- at the same time


@pytest.fixture(params=[None, *RECORDS], ids=lambda end: end.__name__ if end else "first consent")
def asking_client(request: pytest.FixtureRequest, site: Site, browser: Browser) -> Registered:
    """Return a client that alice has not allowed yet, or to which her consent was ended; she is signed in."""
    site.user()
    client = site.client()
    if request.param:
        browser.code(client, "allow_always", scope="openid offline_access")
        request.param(browser, client)
    else:
        browser.sign_in(browser.authorize(client))
    return client


def test_allow_always_in_two_tabs_at_once_remembers_both(
    site: Site, browser: Browser, browsers: Browsers, asking_client: Registered, wire: Wire
) -> None:
    tab = browsers(tab_of=browser)
    page, other_page = (
        each.authorize(asking_client, scope=f"openid {scope}")
        for each, scope in zip((browser, tab), ("email", "profile"), strict=True)
    )
    codes: list[str] = []
    with wire.before("TransactWriteItems", lambda: codes.append(tab.submit(other_page, decision="allow_always").code)):
        answer = browser.submit(page, decision="allow_always")
    if asks_for_consent(answer):  # what the first tab has remembered was not known when this page was shown
        answer = browser.submit(answer, decision="allow_always")
    for code in (*codes, answer.code):
        assert browser.redeem(asking_client, code).status == 200
    assert read_consent(site).scope == {"openid", "email", "profile"}


def test_same_request_allowed_in_two_tabs_at_once_continues_without_a_question(
    site: Site, browser: Browser, browsers: Browsers, asking_client: Registered, wire: Wire
) -> None:
    tab = browsers(tab_of=browser)
    page, other_page = browser.authorize(asking_client), tab.authorize(asking_client)
    codes: list[str] = []
    with wire.before("TransactWriteItems", lambda: codes.append(tab.submit(other_page, decision="allow_always").code)):
        codes.append(browser.submit(page, decision="allow_always").code)
    assert [browser.redeem(asking_client, code).status for code in codes] == [200, 200]
    assert read_consent(site).scope == {"openid"}


@pytest.mark.parametrize("end", [remove_access, remove_all_access, end_all_grants_of_user])
def test_consent_is_not_recorded_when_access_is_removed_at_the_same_time(
    site: Site, browser: Browser, browsers: Browsers, asking_client: Registered, wire: Wire, end: End
) -> None:
    """The request is shown again, and can be answered."""
    tab = browsers(tab_of=browser)
    page = browser.authorize(asking_client)
    before = list(site.server.store.grants.scan())
    with wire.before("TransactWriteItems", lambda: end(tab, asking_client)):
        answer = browser.send(page, decision="allow_always")
    assert (answer.status, answer.location.partition("?")[0]) == (303, "/oauth2/authorize")
    assert list(site.server.store.grants.scan()) == before
    page = browser.follow(answer)
    assert asks_for_consent(page)
    code = browser.submit(page, decision="allow_always").code
    assert browser.redeem(asking_client, code).status == 200
    assert read_consent(site).scope == {"openid"}
    assert browser.authorize(asking_client, prompt="none").code


@pytest.mark.parametrize(
    ("name", "value"), [("consents_generation", 7), ("registration_id", "another"), ("client_generation", 7)]
)
def test_consent_is_added_only_to_one_that_counts(
    site: Site, browser: Browser, asking_client: Registered, wire: Wire, name: str, value: Any
) -> None:
    browser.submit(browser.authorize(asking_client), decision="allow_always")
    page = browser.authorize(asking_client, scope="openid email")
    other = replace(read_consent(site), **{name: value})
    with wire.before("TransactWriteItems", lambda: site.server.store.consents.put(other)):
        answer = browser.send(page, decision="allow_always")
    assert (answer.status, answer.location.partition("?")[0]) == (303, "/oauth2/authorize")
    assert read_consent(site) == other
    assert asks_for_consent(browser.follow(answer))


@pytest.mark.parametrize("name", ["grants_generation", "consents_generation"])
def test_consent_is_recorded_only_while_both_generations_of_the_user_are_current(
    site: Site, browser: Browser, wire: Wire, name: str
) -> None:
    """A changed password increments the first one alone."""
    site.user()
    page = browser.sign_in(browser.authorize(site.client()))
    user = site.read_user()
    changed = replace(user, **{name: getattr(user, name) + 1})
    with wire.before("TransactWriteItems", lambda: site.server.store.users.put(changed)):
        answer = browser.send(page, decision="allow_always")
    assert list(site.server.store.consents.scan()) == []
    assert list(site.server.store.grants.scan()) == []
    assert asks_for_consent(browser.follow(answer))


@pytest.mark.parametrize("end", ENDINGS)
def test_code_of_consent_given_once_is_rejected_when_access_is_removed_at_the_same_time(
    site: Site, browser: Browser, browsers: Browsers, wire: Wire, end: End
) -> None:
    """The grant copies what was read before."""
    site.user()
    client = site.client()
    page = browser.sign_in(browser.authorize(client, scope="openid offline_access"))
    tab = browsers(tab_of=browser)
    with wire.before("TransactWriteItems", lambda: end(tab, client)):
        code = browser.submit(page, decision="allow_once").code
    assert browser.redeem(client, code).json["error"] == "invalid_grant"
    assert read_grant(site, code).revoked_at == site.clock()


@pytest.mark.parametrize("end", RECORDS)
def test_consent_page_shown_before_an_ending_can_be_answered_after_it(
    site: Site, browser: Browser, browsers: Browsers, asking_client: Registered, end: End
) -> None:
    page = browser.authorize(asking_client)
    end(browser, asking_client)
    code = browser.submit(page, decision="allow_always").code
    assert browser.redeem(asking_client, code).status == 200
    assert browser.authorize(asking_client, prompt="none").code


# ---- every way to a code copies the generation of a consent without scope


def in_the_session(browser: Browser, client: Registered) -> Answer:
    return browser.authorize(client)


def by_signing_in(browser: Browser, client: Registered) -> Answer:
    return browser.sign_in(browser.authorize(client, prompt="login"))


def in_a_new_browser(browser: Browser, client: Registered) -> Answer:
    browser.cookies.clear()
    return browser.sign_in(browser.authorize(client))


def by_http_basic(browser: Browser, client: Registered) -> Answer:
    browser.cookies.clear()
    return browser.authorize(client, "/oauth2/code", headers=basic("alice", PASSWORD))


def by_http_basic_in_the_session(browser: Browser, client: Registered) -> Answer:
    return browser.authorize(client, "/oauth2/code", headers=basic("alice", PASSWORD))


def by_consent(browser: Browser, client: Registered) -> Answer:
    return browser.submit(browser.authorize(client, prompt="consent"), decision="allow_once")


def by_changing_the_password(browser: Browser, client: Registered) -> Answer:
    browser.site.server.store.users.put(replace(browser.site.read_user(), password_change_required=True))
    browser.site.secrets.add(NEW_PASSWORD)
    page = browser.authorize(client)
    return browser.submit(page, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD)


@pytest.mark.parametrize(
    "authorize",
    [
        in_the_session,
        by_signing_in,
        in_a_new_browser,
        by_http_basic,
        by_http_basic_in_the_session,
        by_consent,
        by_changing_the_password,
    ],
)
@pytest.mark.parametrize("end", RECORDS)
def test_trusted_client_gets_valid_tokens_after_an_ending(
    site: Site, browser: Browser, end: End, authorize: Callable[[Browser, Registered], Answer]
) -> None:
    site.user()
    client = site.client(trusted=True, direct_sign_in=True)
    browser.tokens(client)
    end(browser, client)
    tokens = browser.redeem(client, authorize(browser, client).code).json
    assert browser.refresh(client, tokens["refresh_token"]).status == 200
    assert browser.userinfo(tokens["access_token"]).status == 200
