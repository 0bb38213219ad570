"""Clauses of OpenID Connect Core that no other test is about."""

import base64
import hmac
import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jwt
import pytest

from chalicelib import passwords
from tests.browser import Browser
from tests.shortcut import code_of
from tests.site import Site


def id_token(site: Site, browser: Browser, **parameters: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of the ID token that a request of alice's leads to."""
    client = site.client(trusted=True)
    page = browser.authorize(client, **parameters)
    token = browser.redeem(client, browser.sign_in(page).code).json["id_token"]
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return jwt.get_unverified_header(token), claims | {"client": client.id}


@pytest.mark.spec("OpenID Connect Core §2 b", "OpenID Connect Core §2 c", "OpenID Connect Core §2 d")
@pytest.mark.spec("OpenID Connect Core §2 e", "OpenID Connect Core §2 f", "OpenID Connect Core §2 g")
@pytest.mark.spec("OpenID Connect Core §2 m", "OpenID Connect Core §2 o", "OpenID Connect Core §2 p")
def test_an_id_token_has_what_it_must_have_and_a_header_without_keys(site: Site, browser: Browser) -> None:
    alice = site.user()
    header, claims = id_token(site, browser)
    assert claims["sub"] == alice.sub
    assert claims["sub"].isascii()
    assert 0 < len(claims["sub"]) <= 255
    assert claims["aud"] == claims["client"]
    assert (claims["iat"], claims["auth_time"]) == (site.clock.time, site.clock.time)
    assert claims["exp"] == site.clock.time + 600
    assert set(header) == {"alg", "kid", "typ"}
    assert header["alg"] == "RS256"


@pytest.mark.spec("OpenID Connect Core §2 j")
def test_the_acr_is_a_uri_and_the_metadata_lists_it(site: Site, browser: Browser) -> None:
    site.user()
    _, claims = id_token(site, browser)
    assert claims["acr"].startswith("urn:")
    assert claims["acr"] in browser.get("/.well-known/openid-configuration").json["acr_values_supported"]


@pytest.mark.spec("RFC 9207 §2.4")
def test_an_id_token_that_comes_along_names_the_same_issuer(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client(trusted=True, response_types=("code", "code id_token"))
    page = browser.authorize(client, response_type="code id_token", nonce="n-0S6_WzA2Mj")
    given = dict(parse_qsl(urlsplit(browser.sign_in(page).location).fragment))
    claims: dict[str, Any] = jwt.decode(given["id_token"], options={"verify_signature": False})
    assert claims["iss"] == given["iss"] == site.settings.issuer


@pytest.mark.spec("OpenID Connect Core §2 h", "OpenID Connect Core §2 i")
@pytest.mark.parametrize("nonce", ["n-0S6_WzA2Mj", " n ", 'ü☃"\\%41+&=', "0", "x" * 2048])
def test_a_nonce_comes_back_as_it_was_sent_and_may_come_again(site: Site, browser: Browser, nonce: str) -> None:
    site.user()
    for _ in range(2):  # whether it is new is for the client to see
        assert id_token(site, browser, nonce=nonce, prompt="login")[1]["nonce"] == nonce


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 o", "OpenID Connect Core §2 g", "OpenID Connect Core §15.1 e")
def test_with_max_age_the_id_token_tells_when_the_person_signed_in(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client(trusted=True)
    browser.sign_in(browser.authorize(client))
    signed_in = site.clock.time
    site.clock.advance(50)
    code = browser.authorize(client, max_age="100").code
    token = browser.redeem(client, code).json["id_token"]
    assert jwt.decode(token, options={"verify_signature": False})["auth_time"] == signed_in


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 i", "OpenID Connect Core §3.1.2.1 m")
@pytest.mark.parametrize("prompt", ["login", "select_account"])
def test_who_cannot_sign_in_again_goes_back_with_an_error(
    site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch, prompt: str
) -> None:
    alice = site.user()
    client = site.client(trusted=True)
    browser.code(client)
    page = browser.authorize(client, prompt=prompt)
    verify = passwords.verify

    def and_then_the_account_is_gone(*arguments: Any) -> bool:
        right = verify(*arguments)
        site.server.store.users.delete(alice.sub)
        return right

    monkeypatch.setattr(passwords, "verify", and_then_the_account_is_gone)
    answer = browser.sign_in(page)
    assert answer.answer["error"] == "access_denied"
    assert answer.answer["state"] == "af0ifjsldkj"


HINTS: list[dict[str, str]] = [
    *({"display": value} for value in ("page", "popup", "touch", "wap", "hologram")),
    *({"ui_locales": value} for value in ("de", "fr-CA fr en", "tlh", "x-nonsense")),
    *({"claims_locales": value} for value in ("de", "fr-CA fr en", "x-nonsense")),
    *({"acr_values": value} for value in ("0", "urn:mace:incommon:iap:silver", "gold silver")),
    {"login_hint": "nobody@example.com"},
]


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 p", "OpenID Connect Core §5.2 d", "OpenID Connect Core §15.1 c")
@pytest.mark.spec("OpenID Connect Core §15.1 d", "OpenID Connect Core §15.1 g", "OpenID Connect Core §3.1.2.1 f")
@pytest.mark.parametrize("hint", HINTS, ids=str)
def test_a_wish_that_cannot_be_fulfilled_is_no_error(site: Site, browser: Browser, hint: dict[str, str]) -> None:
    site.user()
    client = site.client(trusted=True)
    page = browser.authorize(client, **hint)
    assert page.status == 200
    assert browser.sign_in(page).code
    assert browser.authorize(client, prompt="none", **hint).code


@pytest.mark.spec("OpenID Connect Core §5.7")
def test_a_sub_never_becomes_another_persons(site: Site) -> None:
    store = site.server.store
    first = site.user("alice")
    store.users.delete(first.sub)
    store.identifiers.delete("username:alice")
    second = site.user("alice")
    assert second.sub != first.sub
    assert len(base64.urlsafe_b64decode(second.sub + "==")) == 16


@pytest.mark.spec("OpenID Connect Core §5.3.2 a", "OpenID Connect Core §5.3.2 e", "OpenID Connect Core §5.3.2 f")
@pytest.mark.spec("OpenID Connect Core §5.3.2 g", "OpenID Connect Core §5.6")
def test_claims_in_any_script_come_as_json_in_utf_8(site: Site, browser: Browser) -> None:
    person = {"name": "\u5199\u771f \U0001f5a8 Zo\u00eb", "birthdate": "0000-03-22", "address": {"country": "\u00d6"}}
    bob = site.user("bob", claims=person)
    client = site.client(scope="openid profile address")
    code = code_of(site, client, bob, scope=frozenset({"openid", "profile", "address"}))
    answer = browser.userinfo(browser.redeem(client, code).json["access_token"])
    assert answer.header("content-type") == "application/json"
    body = answer.body.encode("utf-8")
    assert json.loads(body.decode("utf-8")) == {"sub": bob.sub, "preferred_username": "bob", **person}


@pytest.mark.spec("OpenID Connect Core §16.12 a", "OpenID Connect Core §16.12 b")
def test_whatever_is_secret_is_compared_in_constant_time(
    site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[Any, Any]] = []
    really = hmac.compare_digest

    def compare(one: Any, other: Any) -> bool:
        compared.append((one, other))
        return really(one, other)

    client = site.client()
    code = code_of(site, client)
    monkeypatch.setattr("chalicelib.client_auth.secrets.compare_digest", compare)
    monkeypatch.setattr("chalicelib.handles.hmac.compare_digest", compare)
    wrong = code[:20] + ("A" if code[20] != "A" else "B") + code[21:]  # within the tag
    assert browser.redeem(client, wrong).json["error"] == "invalid_grant"
    assert len(compared) == 2  # the secret of the client, the tag of the code
    assert browser.redeem(client, code).status == 200
    assert len(compared) == 4
