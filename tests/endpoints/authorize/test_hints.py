"""Optional parameters that are not supported, and sign-in that fails at the last moment, in authorization requests."""

from typing import Any

import pytest

from chalicelib.authentication import passwords
from tests.endpoints.authorize.conftest import METHODS, register_clients, send_request
from tests.support.browser import Browser
from tests.support.site import Site

HINTS: list[dict[str, str]] = [
    *({"display": value} for value in ("page", "popup", "touch", "wap", "hologram")),
    *({"ui_locales": value} for value in ("de", "fr-CA fr en", "tlh", "x-nonsense")),
    *({"claims_locales": value} for value in ("de", "fr-CA fr en", "x-nonsense")),
    *({"acr_values": value} for value in ("0", "urn:mace:incommon:iap:silver", "gold silver")),
    *({"login_hint": hint} for hint in ("unknown@example.com", "a" * 321, "a" * 3000)),
]


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 p", "OpenID Connect Core §5.2 d", "OpenID Connect Core §15.1 c")
@pytest.mark.spec("OpenID Connect Core §15.1 d", "OpenID Connect Core §15.1 g", "OpenID Connect Core §3.1.2.1 f")
@pytest.mark.parametrize("hint", HINTS, ids=lambda hint: str(hint)[:40])
def test_unsupported_hint_is_not_an_error(site: Site, browser: Browser, hint: dict[str, str]) -> None:
    site.user()
    client = site.client(trusted=True)
    page = browser.authorize(client, **hint)
    assert page.status == 200
    assert browser.sign_in(page).code
    assert browser.authorize(client, prompt="none", **hint).code


@pytest.mark.parametrize("method", METHODS)
def test_login_hint_of_320_characters_is_filled_in_and_a_longer_one_is_ignored(
    site: Site, browser: Browser, method: str
) -> None:
    register_clients(site, {})
    for hint, username in (("a" * 320, "a" * 320), ("a" * 321, ""), ("a" * 3000, "")):
        page = browser.follow(send_request(browser, method, {"login_hint": hint}))
        assert page.form.fields["username"] == username


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 i", "OpenID Connect Core §3.1.2.1 m")
@pytest.mark.parametrize("prompt", ["login", "select_account"])
def test_account_deleted_during_sign_in_returns_access_denied(
    site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch, prompt: str
) -> None:
    alice = site.user()
    client = site.client(trusted=True)
    browser.code(client)
    page = browser.authorize(client, prompt=prompt)
    verify = passwords.verify

    def verify_and_delete_the_account(*arguments: Any) -> bool:
        correct = verify(*arguments)
        site.server.store.users.delete(alice.sub)
        return correct

    monkeypatch.setattr(passwords, "verify", verify_and_delete_the_account)
    answer = browser.sign_in(page)
    assert answer.answer["error"] == "access_denied"
    assert answer.answer["state"] == "af0ifjsldkj"
