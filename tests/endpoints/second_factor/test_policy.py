"""What demands a second factor: the setting, the client, a scope, and the request; and step-up (RFC 9470)."""

import json
from typing import Any

import pytest

from chalicelib.protocol.authentication_context import PHISHING_RESISTANT
from chalicelib.protocol.own_scope import Scope
from tests.endpoints.authorize.conftest import read_claims
from tests.support.account import sign_in_to_account
from tests.support.browser import Answer, Browser, authorization_parameters, basic
from tests.support.second_factor import (
    PASSWORD_ONLY,
    REFEDS,
    Authenticator,
    add_second_factor,
    enter_password,
    is_code_page,
    sign_in_with_code,
)
from tests.support.site import PASSWORD, Registered, Site


def is_setup_page(page: Answer) -> bool:
    """Return whether a page lets the user set up a second factor."""
    return page.status == 200 and page.form.fields.get("set_up") == "code"


def essential(*values: str) -> str:
    return json.dumps({"id_token": {"acr": {"essential": True, "values": values}}})


@pytest.fixture
def one_factor(site: Site, browser: Browser, client: Registered) -> Authenticator:
    """Alice, who signed in with the password, and then set up a second factor in another browser."""
    site.user("alice")
    assert "code" in enter_password(browser, client).answer
    return add_second_factor(site)


def test_request_without_demand_is_answered_for_a_session_with_one_factor(
    browser: Browser, client: Registered, one_factor: Authenticator
) -> None:
    tokens = browser.redeem(client, browser.authorize(client).code).json
    assert read_claims(tokens["id_token"])["acr"] == PASSWORD_ONLY


DEMANDS: dict[str, dict[str, str]] = {
    "acr_values": {"acr_values": REFEDS},
    "acr_values, preferred to one factor": {"acr_values": f"urn:unknown {REFEDS} {PASSWORD_ONLY}"},
    "acr_values, and a higher one that cannot be reached": {"acr_values": f"{PHISHING_RESISTANT} {REFEDS}"},
    "essential": {"claims": essential(REFEDS)},
    "essential, preferred to one factor": {"claims": essential(REFEDS, PASSWORD_ONLY)},
    "not essential": {"claims": json.dumps({"id_token": {"acr": {"value": REFEDS}}})},
}


@pytest.mark.parametrize("demand", DEMANDS)
def test_session_with_one_factor_is_stepped_up_without_the_password(
    site: Site, browser: Browser, client: Registered, one_factor: Authenticator, demand: str
) -> None:
    signed_in_at, before = site.clock(), dict(browser.cookies)
    site.clock.advance(3600)
    page = browser.authorize(client, **DEMANDS[demand])
    assert is_code_page(page), page.body
    answer = browser.submit(page, one_time_code=one_factor.code())
    claims = read_claims(browser.redeem(client, answer.code).json["id_token"])
    assert (claims["acr"], claims["amr"], claims["auth_time"]) == (REFEDS, ["pwd", "otp", "mfa"], site.clock())
    (session,) = site.server.store.sessions.scan()
    assert (session.auth_time, session.mfa_time, session.generation) == (signed_in_at, site.clock(), 2)
    earlier = Browser(site)
    earlier.cookies = before
    assert earlier.get("/account").status in (302, 303), "the cookie of before is invalid"
    earlier.close()


LOWER = {
    "acr_values": {"acr_values": f"{PASSWORD_ONLY} {REFEDS}"},
    "essential": {"claims": essential(PASSWORD_ONLY, REFEDS)},
    "unknown": {"acr_values": "urn:unknown"},
}


@pytest.mark.parametrize("demand", LOWER)
def test_demand_for_one_factor_is_satisfied(
    browser: Browser, client: Registered, one_factor: Authenticator, demand: str
) -> None:
    assert "code" in browser.authorize(client, **LOWER[demand]).answer


def test_demand_for_one_factor_is_answered_with_the_level_that_was_reached(
    browser: Browser, client: Registered, phone: Authenticator
) -> None:
    answer = sign_in_with_code(browser, client, phone, claims=essential(PASSWORD_ONLY))
    assert read_claims(browser.redeem(client, answer.code).json["id_token"])["acr"] == REFEDS


def test_preference_of_a_user_without_second_factor_is_no_error(
    site: Site, browser: Browser, client: Registered
) -> None:
    site.user("alice")
    answer = enter_password(browser, client, acr_values=REFEDS)
    assert read_claims(browser.redeem(client, answer.code).json["id_token"])["acr"] == PASSWORD_ONLY


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"acr_values": REFEDS}, "login_required"),
        ({"claims": essential(REFEDS)}, "login_required"),
        ({"acr_values": PASSWORD_ONLY}, None),
    ],
)
def test_prompt_none_is_an_error_where_the_code_is_needed(
    browser: Browser, client: Registered, one_factor: Authenticator, parameters: dict[str, str], error: str | None
) -> None:
    assert browser.authorize(client, prompt="none", **parameters).answer.get("error") == error


def test_prompt_none_is_an_error_where_a_second_factor_must_be_set_up(
    site: Site, browser: Browser, client: Registered
) -> None:
    site.user("alice")
    enter_password(browser, client)
    answer = browser.authorize(client, prompt="none", claims=essential(REFEDS))
    assert answer.answer["error"] == "interaction_required"


def test_essential_acr_that_no_sign_in_reaches_is_an_error(browser: Browser, client: Registered) -> None:
    answer = browser.authorize(client, claims=essential(PHISHING_RESISTANT, "urn:unknown"))
    assert answer.answer["error"] == "unmet_authentication_requirements"


def test_step_up_counts_for_max_age(
    site: Site, browser: Browser, client: Registered, one_factor: Authenticator
) -> None:
    site.clock.advance(100)
    page = browser.authorize(client, acr_values=REFEDS, max_age="200")
    assert "code" in browser.submit(page, one_time_code=one_factor.code()).answer
    site.clock.advance(150)
    answer = browser.authorize(client, acr_values=REFEDS, max_age="200")
    assert read_claims(browser.redeem(client, answer.code).json["id_token"])["auth_time"] == site.clock() - 150
    site.clock.advance(51)
    assert "password" in browser.authorize(client, acr_values=REFEDS, max_age="200").form.fields


def test_max_age_of_one_factor_counts_from_the_password(
    site: Site, browser: Browser, client: Registered, one_factor: Authenticator
) -> None:
    site.clock.advance(100)
    browser.submit(browser.authorize(client, acr_values=REFEDS), one_time_code=one_factor.code())
    # The user prefers nothing, but has two factors: the password is old.
    assert "password" in browser.authorize(client, acr_values=PASSWORD_ONLY, max_age="50").form.fields


def test_prompt_login_asks_for_password_and_code(browser: Browser, client: Registered, phone: Authenticator) -> None:
    assert "code" in sign_in_with_code(browser, client, phone).answer
    page = browser.authorize(client, prompt="login")
    assert "password" in page.form.fields
    page = browser.sign_in(page)
    assert is_code_page(page)
    assert "code" in browser.submit(page, one_time_code=phone.code(1)).answer


# ---- policy


@pytest.mark.parametrize("member", ["require_acr", "default_acr_values"])
def test_client_demands_a_second_factor(
    site: Site, browser: Browser, client: Registered, one_factor: Authenticator, member: str
) -> None:
    value: Any = REFEDS if member == "require_acr" else (REFEDS,)
    strict = site.client(trusted=True, **{member: value})
    page = browser.authorize(strict)
    assert is_code_page(page)
    assert "code" in browser.submit(page, one_time_code=one_factor.code()).answer


def test_request_overrides_the_preference_of_its_client(
    site: Site, browser: Browser, client: Registered, one_factor: Authenticator
) -> None:
    preferring = site.client(trusted=True, default_acr_values=(REFEDS,))
    assert "code" in browser.authorize(preferring, acr_values=PASSWORD_ONLY).answer
    strict = site.client(trusted=True, require_acr=REFEDS)
    assert is_code_page(browser.authorize(strict, acr_values=PASSWORD_ONLY)), "but not what the client requires"


def test_requirement_that_no_sign_in_reaches_rejects_every_request(site: Site, browser: Browser) -> None:
    site.user("alice")
    for acr in ("urn:other", PHISHING_RESISTANT):
        answer = browser.authorize(site.client(trusted=True, require_acr=acr))
        assert answer.answer["error"] == "unmet_authentication_requirements"


def test_scope_demands_a_second_factor(site: Site, browser: Browser, one_factor: Authenticator) -> None:
    site.server.store.scopes.put(Scope("payments", "Pay", acr=REFEDS))
    site.server.store.scopes.put(Scope("photos", "See photos"))
    client = site.client(trusted=True, scope="openid payments photos")
    assert "code" in browser.authorize(client, scope="openid photos").answer
    page = browser.authorize(client, scope="openid payments")
    assert is_code_page(page)
    assert "code" in browser.submit(page, one_time_code=one_factor.code()).answer


def test_required_setting_makes_every_user_set_one_up(site: Site, site_with: Any, client: Registered) -> None:
    site.user("alice")
    strict = site_with(mfa="required")
    browser = Browser(strict)
    page = enter_password(browser, client)
    assert is_setup_page(page)
    assert browser.get("/account").status in (302, 303), "no account page before that"
    assert is_setup_page(browser.follow(browser.authorize(client)))
    browser.close()


def test_required_setting_asks_a_session_of_before(
    site: Site, site_with: Any, browser: Browser, client: Registered, one_factor: Authenticator
) -> None:
    strict = site_with(mfa="required")
    other = Browser(strict)
    other.cookies = dict(browser.cookies)
    assert is_code_page(other.authorize(client))
    assert is_code_page(other.request("GET", other.get("/account").location))
    other.close()


def test_account_page_asks_a_session_with_one_factor_for_the_code(browser: Browser, one_factor: Authenticator) -> None:
    page = browser.request("GET", browser.get("/account/password").location)
    assert is_code_page(page)
    browser.send(page, one_time_code=one_factor.code())
    assert browser.get("/account/password").status == 200


def test_required_setting_refuses_http_basic_of_users_without_one(site: Site, site_with: Any) -> None:
    site.user("alice")
    client = site.client(direct_sign_in=True)
    browser = Browser(site_with(mfa="required"))
    answer = browser.get("/oauth2/code", headers=basic("alice", PASSWORD), **authorization_parameters(client))
    assert answer.answer["error"] == "interaction_required"
    browser.close()


def test_other_acr_of_two_factors_can_be_set(
    site_with: Any, site: Site, client: Registered, phone: Authenticator
) -> None:
    other = site_with(mfa_acr="urn:example:mfa")
    browser = Browser(other)
    metadata = browser.get("/.well-known/openid-configuration").json
    assert metadata["acr_values_supported"] == [PASSWORD_ONLY, "urn:example:mfa"]
    answer = sign_in_with_code(browser, client, phone, claims=essential("urn:example:mfa"))
    assert read_claims(browser.redeem(client, answer.code).json["id_token"])["acr"] == "urn:example:mfa"
    browser.close()


def test_registering_client_can_prefer_an_acr(site_with: Any) -> None:
    open_site = site_with(client_registration="open")
    browser = Browser(open_site)
    body = {"redirect_uris": ["https://a.example/cb"], "default_acr_values": [REFEDS]}

    def register(**members: Any) -> Answer:
        headers = {"Content-Type": "application/json"}
        return browser.request("POST", "/oauth2/register", json.dumps(body | members), headers)

    registered = register()
    assert registered.status == 201
    assert registered.json["default_acr_values"] == [REFEDS]
    stored = open_site.server.store.clients.get(registered.json["client_id"])
    assert stored is not None
    assert stored.default_acr_values == (REFEDS,)
    assert register(default_acr_values=["a b"]).json["error"] == "invalid_client_metadata"
    assert register(default_acr_values=["x"] * 11).json["error"] == "invalid_client_metadata"
    assert "require_acr" not in register(require_acr=REFEDS).json
    browser.close()


def test_signed_in_user_without_second_factor_sees_the_account(site: Site, browser: Browser) -> None:
    site.user("alice")
    sign_in_to_account(browser)
    assert browser.get("/account").status == 200
