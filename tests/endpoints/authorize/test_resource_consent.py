"""Consent for resources that name their scopes: what the page shows, and what is remembered."""

from collections.abc import Callable
from pathlib import Path

import pytest

from chalicelib.protocol.own_scope import Scope
from chalicelib.protocol.resource import Resource
from tests.endpoints.authorize.conftest import asks_for_consent, list_new_scopes, read_grant
from tests.support.account import submit_action
from tests.support.browser import Browser
from tests.support.operator import RunCommand
from tests.support.resource_servers import register_resource, register_resource_server
from tests.support.site import Registered, Site

PHOTOS, ORDERS, OPEN, OLD = (f"https://{name}.example.com/api" for name in ("photos", "orders", "open", "old"))


@pytest.fixture
def client(site: Site) -> Registered:
    site.user()
    register_resource(site, PHOTOS, "read write")
    register_resource(site, ORDERS, "read")
    register_resource(site, OPEN)
    register_resource_server(site, OLD)
    return site.client(scope="openid offline_access read write")


def remembered(site: Site) -> tuple[set[str], set[str]]:
    """Return the scope and the scopes of resources that the only consent has."""
    (consent,) = site.server.store.consents.scan()
    return set(consent.scope), set(consent.resource_scope)


def test_consent_page_names_the_api_and_its_host(site: Site, browser: Browser, client: Registered) -> None:
    site.server.store.resources.put(Resource(PHOTOS, PHOTOS, "<b>Fotos", "read"))
    site.server.store.scopes.put(Scope("read", "Read everything"))
    site.server.forget_cached_records()
    page = browser.sign_in(browser.authorize(client, scope="openid read", resource=PHOTOS))
    host = '<span class="whole">(<bdi>photos.example.com</bdi>)</span>'
    text = f"This access is for <strong><bdi>&lt;b&gt;Fotos</bdi></strong> {host}."
    assert text in page.body
    assert "<li><bdi>Read everything</bdi></li>" in page.body


def test_consent_page_says_which_scope_is_for_which_api(site: Site, browser: Browser, client: Registered) -> None:
    resources = [PHOTOS, ORDERS, OPEN, site.settings.issuer]
    page = browser.sign_in(browser.authorize(client, scope="openid read write", resource=resources))
    for host in ("orders", "open", "photos"):
        in_brackets = f'<span class="whole">(<bdi>{host}.example.com</bdi>)</span>'
        assert f"<strong><bdi>Photos</bdi></strong> {in_brackets}" in page.body
    photos = '<span class="whole">(<bdi>Photos</bdi>)</span>'
    assert page.body.count(f"<li><bdi>read</bdi> {photos}</li>") == 2, "one for each of two APIs"
    assert page.body.count(f"<li><bdi>write</bdi> {photos}</li>") == 1
    assert "<li><bdi>Recognize you (your user ID here)</bdi></li>" in page.body


@pytest.mark.parametrize("resource", [None, OPEN, OLD])
def test_consent_page_without_scopes_of_a_resource_lists_them_as_before(
    site: Site, browser: Browser, client: Registered, resource: str | None
) -> None:
    page = browser.sign_in(browser.authorize(client, scope="openid read", resource=resource))
    assert "<li><bdi>read</bdi></li>" in page.body
    assert ("This access is for" in page.body) is (resource is not None)


def test_consent_is_remembered_for_each_scope_of_a_resource(site: Site, browser: Browser, client: Registered) -> None:
    browser.code(client, "allow_always", scope="openid read", resource=PHOTOS)
    assert remembered(site) == ({"openid"}, {f"{PHOTOS} read"})
    assert browser.authorize(client, scope="openid read", resource=PHOTOS).code
    assert browser.authorize(client, scope="openid").code
    for resource in (ORDERS, OPEN, OLD, None, [PHOTOS, ORDERS], site.settings.issuer):
        page = browser.authorize(client, scope="openid read", resource=resource)
        assert asks_for_consent(page), resource
    page = browser.authorize(client, scope="openid read write", resource=PHOTOS)
    assert list_new_scopes(page) == ["write"]
    browser.submit(page, decision="allow_always")
    browser.code(client, "allow_always", scope="openid read", resource=ORDERS)
    assert remembered(site) == ({"openid"}, {f"{PHOTOS} read", f"{PHOTOS} write", f"{ORDERS} read"})
    assert browser.authorize(client, scope="openid read write", resource=[PHOTOS, ORDERS]).code


def test_consent_for_a_scope_of_no_resource_does_not_count_for_one_that_names_it(
    site: Site, browser: Browser, client: Registered
) -> None:
    browser.code(client, "allow_always", scope="openid read write")
    assert remembered(site) == ({"openid", "read", "write"}, set())
    for resource in (None, OPEN, OLD, site.settings.issuer):
        assert browser.authorize(client, scope="openid read", resource=resource).code, "as before"
    assert asks_for_consent(browser.authorize(client, scope="openid read", resource=PHOTOS))
    answer = browser.authorize(client, scope="openid read", resource=PHOTOS, prompt="none").answer
    assert answer["error"] == "consent_required"


def test_consent_that_names_only_scopes_of_a_resource_is_remembered(
    site: Site, browser: Browser, client: Registered
) -> None:
    code = browser.code(client, "allow_always", scope="read", resource=PHOTOS)
    assert read_grant(site, code).scope == {"read"}
    assert remembered(site) == (set(), {f"{PHOTOS} read"})
    assert browser.authorize(client, scope="read", resource=PHOTOS).code


def test_removed_access_forgets_the_scopes_of_resources(site: Site, browser: Browser, client: Registered) -> None:
    tokens = browser.tokens(client, decision="allow_always", scope="openid read", resource=PHOTOS)
    browser.code(client, "allow_always", scope="openid read write", resource=PHOTOS)
    page = browser.get("/account")
    assert all(
        f"<li><bdi>{text}</bdi></li>" in page.body for text in ("Recognize you (your user ID here)", "read", "write")
    )
    submit_action(browser, "revoke", client_id=client.id)
    assert remembered(site) == (set(), set())
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert asks_for_consent(browser.authorize(client, scope="openid read", resource=PHOTOS))


def test_ending_of_the_client_forgets_the_scopes_of_resources(
    site: Site, browser: Browser, client: Registered, run_command: RunCommand
) -> None:
    browser.code(client, "allow_always", scope="read", resource=PHOTOS)
    run_command("grant", "revoke", "--client", client.id, "--yes")
    site.clock.advance(60)
    assert asks_for_consent(browser.authorize(client, scope="read", resource=PHOTOS))
    browser.code(client, "allow_always", scope="read", resource=ORDERS)
    assert remembered(site) == (set(), {f"{ORDERS} read"}), "what was ended does not come back"


def test_consent_for_resources_is_exported_and_imported(
    site: Site, browser: Browser, client: Registered, run_command: RunCommand, tmp_path: Path
) -> None:
    browser.code(client, "allow_always", scope="read", resource=PHOTOS)
    file = tmp_path / "export.jsonl"
    run_command("export", "--with-password-hashes", "--out", file)
    assert "Already existing: 2 clients, 3 resources, 1 user, 1 consent." in run_command("import", file).out
    store = site.server.store
    (consent,) = store.consents.scan()
    store.consents.delete(consent.sub, consent.client_id)
    assert "Added: 1 consent." in run_command("import", file).out
    assert remembered(site) == (set(), {f"{PHOTOS} read"})
    assert browser.authorize(client, scope="read", resource=PHOTOS).code
    browser.code(client, "allow_always", scope="read", resource=ORDERS)
    assert "a different consent" in run_command("import", file).err


def test_login_application_learns_the_resources(
    site_with: Callable[..., Site], browsers: Callable[..., Browser], client: Registered
) -> None:
    site = site_with(login_url="https://login.example.com/sign-in", login_origins=("https://login.example.com",))
    browser = browsers(site)
    page = browser.authorize(client, scope="openid read", resource=[PHOTOS, OPEN])
    handle = page.location.partition("request_uri=")[2]
    details = browser.get(f"/oauth2/code?request_uri={handle}", headers={"Accept": "application/json"}).json
    assert details["resources"] == [{"uri": OPEN, "name": "Photos"}, {"uri": PHOTOS, "name": "Photos"}]
    assert details["scopes"] == [
        {"scope": "openid", "description": "Recognize you (your user ID here)", "allowed": False},
        {"scope": "read", "description": "read", "allowed": False, "resource": PHOTOS},
    ]


def test_account_page_lists_a_consent_that_has_only_scopes_of_a_resource(
    site: Site, browser: Browser, client: Registered
) -> None:
    browser.code(client, "allow_always", scope="read", resource=PHOTOS)
    for grant in site.server.store.grants.scan():
        site.server.store.grants.delete(grant.grant_id)
    assert "<li><bdi>read</bdi></li>" in browser.get("/account").body
