"""/account/profile: users change the claims that the settings allow (OpenID Connect Core section 5.1)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from chalicelib import events
from chalicelib.protocol.claims import DEFAULT_PROFILE_CLAIMS, LABELS, PROFILE_CLAIMS
from chalicelib.users.profile_values import offered_time_zones, read_value, time_zones
from tests.endpoints.account.conftest import read_events, visible_text
from tests.support.account import sign_in_to_account
from tests.support.browser import Answer, Browser
from tests.support.site import Site

TODAY = date(2026, 11, 30)


def change(browser: Browser, page: Answer | None = None, **values: Any) -> Answer:
    return browser.send(page or browser.get("/account/profile"), action="change_profile", **values)


def stored_claims(site: Site) -> dict[str, Any]:
    return site.read_user().claims


# ---- values

ACCEPTED = [
    ("name", " Alice Liddell ", "Alice Liddell"),
    ("nickname", "爱丽丝", "爱丽丝"),
    ("birthdate", "1990-12-31", "1990-12-31"),
    ("birthdate", "0000-02-29", "0000-02-29"),
    ("birthdate", "1990", "1990"),
    ("birthdate", "2026-11-30", "2026-11-30"),
    ("zoneinfo", "Europe/Berlin", "Europe/Berlin"),
    ("zoneinfo", "America/New York", "America/New_York"),
    ("zoneinfo", "UTC", "UTC"),
    ("locale", "de_ch", "de-CH"),
    ("locale", "ZH-hant-tw", "zh-Hant-TW"),
    ("locale", "es-419", "es-419"),
    ("locale", "sl-rozaj", "sl-rozaj"),
    ("website", "https://alice.example/home?a=b#c", "https://alice.example/home?a=b#c"),
    ("picture", "https://alice.example", "https://alice.example"),
    ("name", "  ", None),
    ("zoneinfo", "", None),
]
REJECTED = [
    ("name", "x" * 201),
    ("name", "Ali\nce"),
    ("name", "Ali\u202ece"),
    ("birthdate", "31.12.1990"),
    ("birthdate", "1990-13-01"),
    ("birthdate", "1990-02-30"),
    ("birthdate", "1879-01-01"),
    ("birthdate", "2026-12-01"),
    ("birthdate", "2027"),
    ("birthdate", "0000"),
    ("birthdate", "1990-12"),
    ("birthdate", "\u0661990-12-31"),
    ("zoneinfo", "Europe/Atlantis"),
    ("zoneinfo", "../../etc/passwd"),
    ("zoneinfo", "+01:00"),
    ("locale", "German"),
    ("locale", "d"),
    ("locale", "de-"),
    ("locale", "de-DE-x-private-part"),
    ("website", "http://alice.example"),
    ("website", "javascript:alert(1)"),
    ("website", "https://alice@evil.example"),
    ("website", "https://alice.example/" + "a" * 1000),
    ("website", "https://al ice.example"),
    ("picture", 'https://alice.example/"><script>'),
    ("profile", "//alice.example"),
]


@pytest.mark.parametrize(("claim", "text", "value"), ACCEPTED)
def test_value_is_accepted_in_its_usual_form(claim: str, text: str, value: str | None) -> None:
    assert read_value(claim, text, TODAY) == value


@pytest.mark.parametrize(("claim", "text"), REJECTED)
def test_value_that_the_claim_cannot_have_is_rejected(claim: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"^[A-Z].*\.$"):
        read_value(claim, text, TODAY)


def test_time_zones_are_those_of_the_time_zone_database() -> None:
    for name in ("Europe/Berlin", "Asia/Calcutta", "America/Argentina/Buenos_Aires"):
        assert ZoneInfo(name).key in time_zones()
    assert {"Europe/Berlin", "Asia/Kolkata"} < set(offered_time_zones()) < time_zones()
    assert 300 < len(offered_time_zones()) < 330
    assert len(time_zones()) > 500
    assert "localtime" not in time_zones()


def test_every_claim_that_may_be_allowed_has_a_label() -> None:
    assert set(PROFILE_CLAIMS) <= LABELS.keys()
    assert set(DEFAULT_PROFILE_CLAIMS) <= set(PROFILE_CLAIMS)
    assert not {"preferred_username", "email", "email_verified", "phone_number", "sub"} & set(PROFILE_CLAIMS)


# ---- over HTTP


def test_user_changes_the_profile_and_applications_get_it(site: Site, alice: Browser) -> None:
    client = site.client()
    answer = change(alice, name="Alice Liddell", birthdate="1990-12-31", locale="de_ch", zoneinfo="Europe/Berlin")
    assert answer.location == "/account/profile?done=profile_changed"
    page = alice.get(answer.location)
    assert "Your profile is changed." in visible_text(page)
    assert (page.form.fields["name"], page.form.fields["locale"]) == ("Alice Liddell", "de-CH")
    claims = alice.userinfo(alice.tokens(client, scope="openid profile")["access_token"]).json
    expected = {"name": "Alice Liddell", "birthdate": "1990-12-31", "locale": "de-CH", "zoneinfo": "Europe/Berlin"}
    assert claims | expected | {"updated_at": site.clock()} == claims
    (event,) = read_events(site, events.PROFILE_CHANGED)
    assert event.detail == "birthdate, locale, name, zoneinfo"
    assert "Profile changed: birthdate, locale, name, zoneinfo" in visible_text(alice.get("/account/activity"))


def test_empty_field_removes_the_claim(site: Site, alice: Browser) -> None:
    change(alice, name="Alice", nickname="Al")
    change(alice, name="Alice", nickname=" ")
    assert stored_claims(site).keys() == {"name", "updated_at"}


def test_claims_that_are_not_allowed_are_shown_and_ignored(
    site: Site, site_with: Callable[..., Site], browsers: Callable[..., Browser]
) -> None:
    other = site_with(profile_claims=("nickname",))
    other.user("alice", claims={"name": "Alice", "email": "a@example.com", "email_verified": True})
    browser = Browser(other)
    sign_in_to_account(browser)
    page = browser.get("/account/profile")
    assert "name" not in page.form.fields
    assert {"Alice", "a@example.com"} <= set(visible_text(page).split())
    forged: dict[str, Any] = {
        "name": "Mallory",
        "email": "m@example.com",
        "phone_number_verified": "true",
        "preferred_username": "root",
    }
    assert change(browser, page, nickname="Al", **forged).status == 303
    claims = other.read_user().claims
    assert {**claims, "updated_at": 0} == {
        "name": "Alice",
        "email": "a@example.com",
        "email_verified": True,
        "nickname": "Al",
        "updated_at": 0,
    }
    browser.close()


def test_page_without_any_allowed_claim_has_no_form(site_with: Callable[..., Site]) -> None:
    site = site_with(profile_claims=())
    site.user("alice", claims={"name": "Alice"})
    browser = Browser(site)
    sign_in_to_account(browser)
    page = browser.get("/account/profile")
    assert page.form.action is None
    assert "Full name Alice" in visible_text(page)
    browser.close()


@pytest.mark.parametrize(
    ("claim", "text"), [("birthdate", "yesterday"), ("website", "http://a.example"), ("locale", "x")]
)
def test_rejected_value_changes_nothing_and_is_shown_again_with_its_problem(
    site: Site, alice: Browser, claim: str, text: str
) -> None:
    rejected: dict[str, Any] = {claim: text}
    page = change(alice, name="Alice", **rejected)
    assert page.status == 400
    assert (page.form.fields[claim], page.form.fields["name"]) == (text, "Alice")
    assert f'aria-describedby="{claim}-problem' in page.body
    assert stored_claims(site) == {}
    again: dict[str, Any] = {"name": "Alice", claim: ""}
    assert change(alice, page, **again).status == 303
    assert stored_claims(site)["name"] == "Alice"


def test_profile_that_was_changed_in_another_tab_is_not_overwritten(site: Site, alice: Browser) -> None:
    page = alice.get("/account/profile")
    change(alice, name="Alice", nickname="Al")
    answer = change(alice, page, name="Alice Liddell")
    assert answer.location == "/account/profile?done=changed"
    assert "The page had changed in between." in visible_text(alice.get(answer.location))
    assert stored_claims(site)["name"] == "Alice"
    assert stored_claims(site)["nickname"] == "Al"


def test_same_form_sent_twice_changes_the_profile_once(site: Site, alice: Browser) -> None:
    page = alice.get("/account/profile")
    locations = [change(alice, page, name="Alice").location for _ in range(2)]
    assert locations == ["/account/profile?done=profile_changed"] * 2
    assert len(read_events(site, events.PROFILE_CHANGED)) == 1


def test_change_of_another_claim_by_the_operator_is_kept(site: Site, alice: Browser) -> None:
    page = alice.get("/account/profile")
    user = site.read_user()
    site.server.store.users.put(replace(user, claims={"email": "a@example.com"}))
    assert change(alice, page, name="Alice").location == "/account/profile?done=profile_changed"
    assert stored_claims(site)["email"] == "a@example.com"


def test_form_of_another_session_is_rejected(site: Site, alice: Browser, browsers: Callable[..., Browser]) -> None:
    site.user("bob")
    other = browsers()
    sign_in_to_account(other, "bob")
    assert change(alice, other.get("/account/profile"), name="Bob").status == 400
    forged = alice.post("/account/profile", {"action": "change_profile", "name": "x"}, {"Sec-Fetch-Site": "cross-site"})
    assert forged.status == 400
    assert stored_claims(site) == {}
