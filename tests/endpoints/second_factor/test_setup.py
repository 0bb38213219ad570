"""Setting up the second factor on the account page and inside a request, turning it off, and new recovery codes."""

import re
from html import unescape
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import zxingcpp

from chalicelib.authentication import recovery_codes
from tests.endpoints.authorize.conftest import read_claims
from tests.support.account import read_form, sign_in_to_account
from tests.support.browser import Answer, Browser
from tests.support.second_factor import (
    REFEDS,
    Authenticator,
    enter_password,
    is_code_page,
    sign_in_with_code,
)
from tests.support.site import Registered, Site

PATH = "/account/second-factor"


def scan(body: str) -> str:
    """Return the text of the QR code on a page, as a phone's camera reads it."""
    svg = re.search(r'<div class="qr".*?(<svg.*?</svg>)', body, re.DOTALL)
    assert svg
    size = int(re.search(r'viewBox="0 0 (\d+) \d+"', svg[1])[1])  # type: ignore[index]
    image = [[255] * size for _ in range(size)]
    dark = re.search(r'<path[^>]*stroke="#000"[^>]*d="([^"]*)"', svg[1]) or re.search(
        r'<path[^>]*d="([^"]*)"[^>]*stroke="#000"', svg[1]
    )
    assert dark, svg[1][:300]
    x = y = 0.0
    for command, arguments in re.findall(r"([MmhHvV])([^MmhHvV]*)", dark[1]):
        values = [float(value) for value in re.findall(r"-?\d*\.?\d+", arguments)]
        if command == "M":
            x, y = values
        elif command == "m":
            x, y = x + values[0], y + values[1]
        elif command == "h":
            image[int(y)][int(x) : int(x + values[0])] = [0] * int(values[0])
            x += values[0]
    enlarged = bytes(pixel for line in image for _ in range(6) for pixel in line for _ in range(6))
    (code,) = zxingcpp.read_barcodes(memoryview(enlarged).cast("B", shape=[6 * size, 6 * size]))
    return str(code.text)


def secret_text(page: Answer) -> str:
    """Return the secret that a page shows as text."""
    match = re.search(r'id="secret">([A-Z2-7 ]+)<', page.body)
    assert match
    return match[1]


def shown_codes(page: Answer) -> tuple[str, ...]:
    """Return the recovery codes on a page."""
    match = re.search(r'<pre id="codes"[^>]*>([^<]*)</pre>', page.body)
    return tuple(unescape(match[1]).split()) if match else ()


def press(browser: Browser, page: Answer, action: str, **fields: str) -> Answer:
    """Press a button of the page; return the page that follows."""
    form = read_form(page, action) | fields
    answer = browser.post(PATH, form, {"Sec-Fetch-Site": "same-origin"})
    return browser.follow(answer)


def open_setup(browser: Browser) -> Answer:
    return browser.get(PATH, set_up="yes")


def set_up(site: Site, browser: Browser) -> Authenticator:
    """Set up the second factor on the account page."""
    page = open_setup(browser)
    phone = Authenticator.of_text(site, secret_text(page))
    page = press(browser, page, "first_code", one_time_code=phone.code())
    codes = shown_codes(page)
    site.secrets.update(codes)
    assert "Your second factor is on" in press(browser, page, "turn_on", saved="yes").body
    return Authenticator(site, phone.secret, codes)


def test_second_factor_is_set_up_on_the_account_page(
    site: Site, browser: Browser, browsers: Any, client: Registered
) -> None:
    site.user("alice")
    sign_in_to_account(browser)
    assert "Second factor" in browser.get("/account").body
    page = open_setup(browser)
    phone = Authenticator.of_text(site, secret_text(page))
    assert secret_text(open_setup(browser)) == secret_text(page), "the page can be reloaded"
    page = press(browser, page, "first_code", one_time_code=phone.code())
    codes = shown_codes(page)
    site.secrets.update(codes)
    assert len(codes) == recovery_codes.CODES
    assert shown_codes(browser.get(PATH)) == codes, "the page can be reloaded"
    assert not site.read_user().has_second_factor, "not before the codes are saved"
    other = browsers()
    assert not is_code_page(enter_password(other, client)), "the password is enough until then"
    assert not shown_codes(other.get(PATH)), "another session neither sees the codes"
    assert not shown_codes(open_setup(other))
    site.secrets.add(secret_text(open_setup(other)).replace(" ", ""))
    form = read_form(page, "turn_on") | {"tag": other.get("/account/password").form.fields["tag"]}
    other.post(PATH, form, {"Sec-Fetch-Site": "same-origin"})
    assert not site.read_user().has_second_factor, "nor turns it on"
    refused = press(browser, page, "turn_on", saved="")
    assert "confirm that you have" in refused.body
    assert not site.read_user().has_second_factor
    page = press(browser, page, "turn_on", saved="yes")
    assert "10 recovery codes left" in page.body
    assert not shown_codes(browser.get(PATH)), "they are shown once"
    (session,) = [each for each in site.server.store.sessions.scan() if each.mfa_time]
    assert session.amr == ("pwd", "otp", "mfa")
    third = browsers()
    page = third.submit(enter_password(third, client), one_time_code=phone.code())
    assert "was used already" in page.body, "the first code was spent by the setup"
    assert "code" in third.submit(page, one_time_code=phone.code(1)).answer
    assert {"second_factor_added"} <= {event.name for event in site.server.store.events.scan()}


def test_qr_code_holds_the_secret_the_user_and_the_server(site_with: Any) -> None:
    site = site_with(name="Äpfel & Söhne: Konto")
    site.user("bob smith@example.com")
    browser = Browser(site)
    sign_in_to_account(browser, "bob smith@example.com")
    page = open_setup(browser)
    uri = urlsplit(scan(page.body))
    parameters = {name: values[0] for name, values in parse_qs(uri.query).items()}
    assert (uri.scheme, uri.netloc) == ("otpauth", "totp")
    assert unquote(uri.path).endswith(":bob smith@example.com")
    assert parameters["issuer"] == "Äpfel & Söhne: Konto"
    assert parameters["secret"] == secret_text(page).replace(" ", "")
    site.secrets.add(parameters["secret"])
    browser.close()


def test_qr_code_has_a_light_quiet_zone_and_no_style(site: Site, browser: Browser) -> None:
    site.user("alice")
    sign_in_to_account(browser)
    page = open_setup(browser)
    Authenticator.of_text(site, secret_text(page))
    assert "style=" not in page.body
    svg = re.search(r'<div class="qr".*?(<svg.*?</svg>)', page.body, re.DOTALL)
    assert svg
    assert re.search(r'fill="#fff"', svg[1])


def test_wrong_first_code_changes_nothing(site: Site, browser: Browser) -> None:
    site.user("alice")
    sign_in_to_account(browser)
    page = open_setup(browser)
    Authenticator.of_text(site, secret_text(page))
    answer = browser.post(
        PATH, read_form(page, "first_code") | {"one_time_code": "000000"}, {"Sec-Fetch-Site": "same-origin"}
    )
    assert answer.status == 400
    assert "code is not right" in answer.body
    assert secret_text(answer) == secret_text(page)
    assert site.read_user().totp_secret is None


def test_codes_that_were_not_saved_are_shown_for_ten_minutes(site: Site, browser: Browser) -> None:
    site.user("alice")
    sign_in_to_account(browser)
    page = open_setup(browser)
    phone = Authenticator.of_text(site, secret_text(page))
    page = press(browser, page, "first_code", one_time_code=phone.code())
    site.secrets.update(shown_codes(page))
    site.clock.advance(recovery_codes.SHOWN_FOR)
    again = browser.post(PATH, read_form(page, "turn_on") | {"saved": "yes"}, {"Sec-Fetch-Site": "same-origin"})
    assert "max_age=300" in again.location, "the sign-in is too old by then"
    assert not site.read_user().has_second_factor


def test_change_needs_a_recent_sign_in_and_returns_to_the_page(
    site: Site, browser: Browser, phone: Authenticator
) -> None:
    sign_in_page = browser.request("GET", browser.get("/account").location)
    browser.send(browser.sign_in(sign_in_page), one_time_code=phone.code())
    page = browser.get(PATH)
    forms = read_form(page, "turn_off")
    site.clock.advance(301)
    page = browser.get(PATH)
    assert 'value="turn_off"' not in page.body
    link = unescape(re.search(r'href="([^"]+max_age=300[^"]*)"', page.body)[1])  # type: ignore[index]
    answer = browser.post(PATH, forms | {"one_time_code": phone.code()}, {"Sec-Fetch-Site": "same-origin"})
    assert "max_age=300" in answer.location
    assert site.read_user().has_second_factor
    page = browser.sign_in(browser.get(link))
    assert browser.send(page, one_time_code=phone.code()).location == site.settings.issuer + PATH
    assert 'value="turn_off"' in browser.get(PATH).body


def test_turning_off_needs_a_code(site: Site, browser: Browser, client: Registered, browsers: Any) -> None:
    site.user("alice")
    sign_in_to_account(browser)
    phone = set_up(site, browser)
    page = browser.get(PATH)
    for fields in ({"one_time_code": "000000"}, {"recovery_code": "AAAA-AAAA-AA"}, {}):
        refused = press(browser, page, "turn_off", **fields)
        assert refused.status == 400
        assert site.read_user().has_second_factor
    done = press(browser, page, "turn_off", one_time_code=phone.code(1))
    assert "Your second factor is off" in done.body
    user = site.read_user()
    assert (user.totp_secret, user.recovery_codes) == (None, frozenset())
    other = browsers()
    assert "code" in enter_password(other, client).answer
    again = open_setup(browser)
    site.secrets.add(secret_text(again).replace(" ", ""))
    assert Authenticator.of_text(site, secret_text(again)).secret != phone.secret


def test_recovery_code_turns_it_off(site: Site, browser: Browser) -> None:
    site.user("alice")
    sign_in_to_account(browser)
    phone = set_up(site, browser)
    press(browser, browser.get(PATH), "turn_off", recovery_code=phone.recovery_codes[0])
    assert not site.read_user().has_second_factor
    assert {"second_factor_removed", "recovery_code_used"} <= {e.name for e in site.server.store.events.scan()}


@pytest.mark.parametrize("by", ["code", "recovery code"])
def test_new_recovery_codes_replace_all(
    site: Site, browser: Browser, browsers: Any, client: Registered, by: str
) -> None:
    site.user("alice")
    sign_in_to_account(browser)
    phone = set_up(site, browser)
    fields = {"one_time_code": phone.code(1)} if by == "code" else {"recovery_code": phone.recovery_codes[9]}
    page = press(browser, browser.get(PATH), "new_codes", **fields)
    codes = shown_codes(page)
    site.secrets.update(codes)
    assert len(codes) == recovery_codes.CODES
    assert not set(codes) & set(phone.recovery_codes)
    assert "are saved" in press(browser, page, "hide_codes").body
    assert not shown_codes(browser.get(PATH))
    other = browsers()
    page = other.submit(enter_password(other, client), one_time_code="", recovery_code=phone.recovery_codes[1])
    assert is_code_page(page)
    assert "code" in other.submit(page, one_time_code="", recovery_code=codes[1]).answer


def test_page_warns_of_the_last_two_recovery_codes(site: Site, browser: Browser, phone: Authenticator) -> None:
    page = browser.sign_in(browser.request("GET", browser.get("/account").location))
    browser.send(page, one_time_code=phone.code())
    user = site.read_user()
    for left, warns in ((3, False), (2, True), (0, True)):
        codes = frozenset(sorted(user.recovery_codes)[:left])
        remove = () if left else ("recovery_codes",)
        site.server.store.users.transition((user.sub,), None, {"recovery_codes": codes} if left else {}, remove)
        assert ("Get new ones" in browser.get(PATH).body) is warns


def test_second_factor_is_set_up_inside_a_request(
    site: Site, browser: Browser, browsers: Any, client: Registered
) -> None:
    site.user("alice")
    strict = site.client(require_acr=REFEDS)
    page = enter_password(browser, strict)
    assert page.form.fields["set_up"] == "code"
    phone = Authenticator.of_text(site, secret_text(page))
    page = browser.submit(page, one_time_code="000000")
    assert "code is not right" in page.body
    page = browser.submit(page, one_time_code=phone.code())
    site.secrets.update(shown_codes(page))
    assert page.form.fields["set_up"] == "codes"
    page = browser.submit(page, saved="")
    assert "confirm that you have" in page.body
    page = browser.submit(page, saved="yes")
    answer = browser.submit(page, decision="allow_once")
    assert read_claims(browser.redeem(strict, answer.code).json["id_token"])["acr"] == REFEDS
    assert is_code_page(enter_password(browsers(), client)), "every sign-in asks for it from now on"


def test_setup_inside_a_request_needs_a_recent_sign_in(site: Site, browser: Browser, client: Registered) -> None:
    site.user("alice")
    enter_password(browser, client)
    strict = site.client(require_acr=REFEDS)
    page = browser.authorize(strict)
    assert page.form.fields["set_up"] == "code"
    Authenticator.of_text(site, secret_text(page))
    site.clock.advance(601)
    assert "password" in browser.authorize(strict).form.fields
    assert "password" in browser.submit(page, one_time_code="000000").form.fields


def test_session_without_two_factors_cannot_change_the_second_factor(
    site: Site, browser: Browser, client: Registered, phone: Authenticator
) -> None:
    bob = Browser(site)
    site.user("bob")
    sign_in_to_account(bob, "bob")
    tag = bob.get("/account/password").form.fields["tag"]
    for action in ("turn_off", "new_codes", "hide_codes", "turn_on", "first_code"):
        answer = bob.post(PATH, {"tag": tag, "action": action}, {"Sec-Fetch-Site": "same-origin"})
        assert answer.status in (303, 400)
    assert site.read_user("bob").totp_secret is None
    assert "code" in sign_in_with_code(browser, client, phone).answer
    bob.close()
