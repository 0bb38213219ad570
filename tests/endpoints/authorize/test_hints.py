"""Optional parameters that are not supported, and sign-in that fails at the last moment, in authorization requests."""

from typing import Any

import pytest

from chalicelib.authentication import passwords
from tests.support.browser import Browser
from tests.support.site import Site

HINTS: list[dict[str, str]] = [
    *({"display": value} for value in ("page", "popup", "touch", "wap", "hologram")),
    *({"ui_locales": value} for value in ("de", "fr-CA fr en", "tlh", "x-nonsense")),
    *({"claims_locales": value} for value in ("de", "fr-CA fr en", "x-nonsense")),
    *({"acr_values": value} for value in ("0", "urn:mace:incommon:iap:silver", "gold silver")),
    {"login_hint": "unknown@example.com"},
]


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 p", "OpenID Connect Core §5.2 d", "OpenID Connect Core §15.1 c")
@pytest.mark.spec("OpenID Connect Core §15.1 d", "OpenID Connect Core §15.1 g", "OpenID Connect Core §3.1.2.1 f")
@pytest.mark.parametrize("hint", HINTS, ids=str)
def test_unsupported_hint_is_not_an_error(site: Site, browser: Browser, hint: dict[str, str]) -> None:
    site.user()
    client = site.client(trusted=True)
    page = browser.authorize(client, **hint)
    assert page.status == 200
    assert browser.sign_in(page).code
    assert browser.authorize(client, prompt="none", **hint).code


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
