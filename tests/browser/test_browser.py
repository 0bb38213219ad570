"""Sign-in and consent in a real browser (Chromium, Playwright), with an application at another origin.

The look of the pages is tested in test_look.py.
"""

from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import expect

from chalicelib.protocol.durations import HOUR
from tests.support.browser import VERIFIER, Browser
from tests.support.chromium import Application, Window, authorization, redeem_latest_code, with_and_without_javascript
from tests.support.site import PASSWORD, Site

pytestmark = pytest.mark.browser

ANSWERED = "This request has expired or has been answered already."


# ---- the flow


@pytest.mark.spec("RFC 6749 §4.1")
@with_and_without_javascript
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_sign_in_and_consent_return_to_an_application_at_another_origin(
    site: Site, applications: Callable[..., Application], windows: Callable[..., Window], host: str, script: bool
) -> None:
    try:
        application = applications("::1" if host == "[::1]" else "127.0.0.1")
    except OSError:
        pytest.skip("IPv6 is not available.")
    site.user("alice")
    redirect_uri = application.url(host=host)
    client = site.client(redirect_uris=[redirect_uri])
    window = windows(java_script_enabled=script)
    application.pages["/"] = (
        f'<a href="{site.settings.issuer}{authorization(client, redirect_uri)}">Sign in with Signet</a>'
    )
    window.page.goto(application.url("/", host))
    window.page.get_by_role("link").click()
    window.page.wait_for_url("**/oauth2/authorize?*")  # until the script has been loaded too
    assert window.heading() == "Sign in"
    assert "Photo Print" in window.text()
    window.sign_in()
    assert window.heading() == "Allow access?"
    assert f"{host}:{application.port}" in window.text()
    assert application.answers == []
    window.press("Allow")
    assert window.heading() == "Welcome back"
    assert window.page.url.startswith(f"{redirect_uri}?code=code_")
    redeem_latest_code(site, client, application, redirect_uri)


@pytest.mark.spec("RFC 6749 §4.1.2.1")
@pytest.mark.spec("RFC 9207 §2")
@with_and_without_javascript
def test_deny_returns_to_the_application_with_access_denied(
    site: Site, application: Application, windows: Callable[..., Window], script: bool
) -> None:
    site.user("alice")
    redirect_uri = application.url(host="localhost")
    window = windows(java_script_enabled=script)
    window.authorize(site.client(redirect_uris=[redirect_uri]), redirect_uri)
    window.sign_in()
    window.press("Deny")
    assert window.heading() == "Welcome back"
    answer = dict(application.answer)
    assert answer.pop("error_description")
    assert answer == {"error": "access_denied", "state": "af0ifjsldkj", "iss": site.settings.issuer}


def test_callback_may_redirect_to_a_third_origin(
    site: Site, applications: Callable[..., Application], window: Window
) -> None:
    """Chromium applies `form-action` to every redirect after a form, including the application's."""
    site.user("alice")
    application, third = applications(), applications()
    redirect_uri = application.url(host="localhost")
    application.redirects["/cb"] = third.url("/home")
    client = site.client(redirect_uris=[redirect_uri])
    window.authorize(client, redirect_uri)
    window.sign_in()
    window.press("Allow")
    assert window.page.url == third.url("/home")
    redeem_latest_code(site, client, application, redirect_uri)


@pytest.mark.spec("RFC 8252 §7.1")
def test_redirect_to_a_private_use_scheme_is_attempted(site: Site, window: Window) -> None:
    """No application handles the scheme, so Chromium stays on the page; the policy must not block the attempt."""
    site.user("alice")
    redirect_uri = "com.example.app:/cb"
    window.authorize(site.client(public=True, redirect_uris=[redirect_uri]), redirect_uri)
    window.sign_in()
    assert "com.example.app, an application on this device" in window.text()
    window.expected_errors.append("net::ERR_ABORTED [/cb]")
    with window.page.expect_event("requestfailed") as request:
        window.page.get_by_role("button", name="Allow", exact=True).click()
    assert request.value.url.startswith(f"{redirect_uri}?code=")
    assert window.heading() == "Allow access?"


@with_and_without_javascript
def test_remembered_choice_skips_the_consent_page_the_next_time(
    site: Site, application: Application, windows: Callable[..., Window], script: bool
) -> None:
    site.user("alice")
    redirect_uri = application.url()
    client = site.client(redirect_uris=[redirect_uri])
    window = windows(java_script_enabled=script)
    window.authorize(client, redirect_uri, prompt="none")
    assert application.answers[-1]["error"] == "login_required"
    window.authorize(client, redirect_uri)
    window.sign_in()
    window.allow_and_remember()
    first = redeem_latest_code(site, client, application, redirect_uri)
    for prompt in ("", "none"):
        window.authorize(client, redirect_uri, prompt=prompt)
        assert window.heading() == "Welcome back"
        assert redeem_latest_code(site, client, application, redirect_uri)["sub"] == first["sub"]
    assert len(application.answers) == 4


@with_and_without_javascript
def test_consent_page_returns_after_a_remembered_choice_when_more_scopes_are_requested(
    site: Site, application: Application, windows: Callable[..., Window], script: bool
) -> None:
    site.user("alice")
    redirect_uri = application.url()
    client = site.client(redirect_uris=[redirect_uri])
    window = windows(java_script_enabled=script)
    openid, profile, email = "Recognize you (your user ID here)", "See your name and profile", "See your email address"
    window.authorize(client, redirect_uri, scope="openid profile")
    window.sign_in()
    lists = window.page.get_by_role("list")
    assert [scopes.splitlines() for scopes in lists.all_inner_texts()] == [[openid, profile]]
    window.allow_and_remember()
    more_scopes = "openid profile email"
    window.authorize(client, redirect_uri, scope=more_scopes)
    assert window.heading() == "Allow access?"
    assert window.page.get_by_role("heading", level=2).all_inner_texts() == [
        "It now also wants to",
        "You have already allowed it to",
    ]
    new, allowed_before = lists.all_inner_texts()
    assert new.split("\n")[0].startswith(f"{email} new")
    assert allowed_before.splitlines() == [openid, profile]
    window.press("Deny")
    assert application.answers[-1]["error"] == "access_denied"
    # Deny neither removes what was allowed before nor adds anything.
    window.authorize(client, redirect_uri, scope="openid profile")
    redeem_latest_code(site, client, application, redirect_uri)
    window.authorize(client, redirect_uri, scope=more_scopes)
    window.allow_and_remember()
    window.authorize(client, redirect_uri, scope=more_scopes)
    redeem_latest_code(site, client, application, redirect_uri)
    assert ["code" in answer for answer in application.answers] == [True, False, True, True, True]
    site.secrets.update(answer["code"] for answer in application.answers if "code" in answer)


@with_and_without_javascript
def test_wrong_passwords_are_reported_then_throttled_and_the_right_one_signs_in_later(
    site: Site, application: Application, windows: Callable[..., Window], script: bool
) -> None:
    site.user("alice")
    redirect_uri = application.url()
    client = site.client(redirect_uris=[redirect_uri])
    window = windows(java_script_enabled=script)
    window.authorize(client, redirect_uri)
    window.expected_errors += [
        "status of 400 (Bad Request) [/oauth2/authorize]",
        "status of 429 (Too Many Requests) [/oauth2/authorize]",
    ]
    for _ in range(site.settings.sign_in_attempts):
        window.sign_in(password=PASSWORD.title())
        assert window.page.get_by_role("alert").inner_text() == "The username or the password is not right."
        assert window.page.get_by_label("Username").input_value() == "alice"
        assert window.page.get_by_label("Password").input_value() == ""
    window.sign_in()
    waits = (
        "There were too many attempts. Please try again in 60 minutes, or now in a browser or on a network that you "
        "have signed in from before."
    )
    assert window.page.get_by_role("alert").inner_text() == waits
    assert window.page.get_by_label("Username").input_value() == "alice"
    site.clock.advance(HOUR)
    window.sign_in()  # with a page that has expired
    assert "This page was out of date." in window.text()
    window.sign_in()
    window.press("Allow")
    redeem_latest_code(site, client, application, redirect_uri)


@with_and_without_javascript
def test_initial_password_must_be_changed_before_consent(
    site: Site, application: Application, windows: Callable[..., Window], script: bool
) -> None:
    secrets_before = set(site.secrets)
    site.user("admin", password=None, admin=True)
    (initial_password,) = site.secrets - secrets_before
    redirect_uri = application.url()
    client = site.client(redirect_uris=[redirect_uri])
    window = windows(java_script_enabled=script)
    window.authorize(client, redirect_uri)
    window.sign_in("admin", initial_password)
    assert window.heading() == "Choose a new password"
    window.expected_errors.append("status of 400 (Bad Request) [/oauth2/authorize]")
    new = window.page.get_by_label("New password", exact=True)
    confirmation = window.page.get_by_label("Confirm new password")
    new.fill(PASSWORD)
    confirmation.fill(PASSWORD + "!")
    window.press("Save and continue")
    assert window.page.get_by_role("alert").inner_text() == "The two entries differ."
    assert application.answers == []
    new.fill(PASSWORD)
    confirmation.fill(PASSWORD)
    window.press("Save and continue")
    assert window.heading() == "Allow access?"
    window.press("Allow")
    redeem_latest_code(site, client, application, redirect_uri)
    window.context.clear_cookies()
    window.authorize(client, redirect_uri)
    window.sign_in("admin")
    assert window.heading() == "Allow access?"


# ---- Back button, repeated forms, two tabs


def test_back_after_consent_shows_that_the_request_was_answered(
    site: Site, application: Application, window: Window
) -> None:
    site.user("alice")
    redirect_uri = application.url(host="localhost")
    client = site.client(redirect_uris=[redirect_uri])
    window.authorize(client, redirect_uri)
    window.sign_in()
    window.page.reload()  # the consent page is the response to a GET, so no form is sent again
    assert window.heading() == "Allow access?"
    window.press("Allow")
    window.expected_errors.append("status of 400 (Bad Request) [/oauth2/authorize]")
    window.page.go_back()
    assert ANSWERED in window.text()
    assert len(application.answers) == 1
    # The user is still signed in, and the application's link works.
    window.authorize(client, redirect_uri)
    assert window.heading() == "Allow access?"


def test_consent_form_that_is_submitted_in_two_tabs_is_answered_in_both_and_not_after_a_minute(
    site: Site, application: Application, windows: Callable[..., Window]
) -> None:
    window = windows(java_script_enabled=False)  # the script disables a button that was pressed
    site.user("alice")
    redirect_uri = application.url(host="localhost")
    client = site.client(redirect_uris=[redirect_uri])
    window.authorize(client, redirect_uri)
    window.sign_in()
    window.expected_errors.append("status of 400 (Bad Request) [/oauth2/code]")
    window.page.locator("main form").evaluate("form => { form.target = '_blank' }")
    pages = []
    for name in ("Allow", "Allow", "Deny"):
        site.clock.advance(60 if name == "Deny" else 0)
        with window.page.expect_popup() as popup:
            window.page.get_by_role("button", name=name, exact=True).click()
        popup.value.wait_for_load_state()
        pages.append(popup.value)
    assert window.heading(pages[0]) == window.heading(pages[1]) == "Welcome back"
    assert ANSWERED in window.text(pages[2])
    first, second = application.answers
    assert first["code"] != second["code"]
    assert len(application.answers) == 2


def test_two_tabs_with_two_users(site: Site, application: Application, window: Window) -> None:
    """The second sign-in replaces the session; the consent page of the first user is rejected."""
    site.user("alice")
    bob = site.user("bob")
    redirect_uri = application.url()
    client = site.client(redirect_uris=[redirect_uri])
    first, second = window.page, window.context.new_page()
    window.authorize(client, redirect_uri, first)
    window.authorize(client, redirect_uri, second)
    window.sign_in("alice", page=first)
    window.sign_in("bob", page=second)
    assert "alice" in window.text(first)
    assert "bob" in window.text(second)
    window.expected_errors.append("status of 400 (Bad Request) [/oauth2/authorize]")
    window.press("Allow", first)
    assert "This page was out of date." in window.text(first)
    assert "bob" in window.text(first)
    assert application.answers == []
    window.press("Allow", second)
    assert redeem_latest_code(site, client, application, redirect_uri)["sub"] == bob.sub


def test_two_tabs_of_one_user(site: Site, application: Application, window: Window) -> None:
    """Two requests at the same time do not disturb each other."""
    site.user("alice")
    redirect_uri = application.url()
    client = site.client(redirect_uris=[redirect_uri])
    first, second = window.page, window.context.new_page()
    for page in (first, second):
        window.authorize(client, redirect_uri, page)
    for page in (first, second):
        window.sign_in(page=page)
    window.press("Allow", second)
    redeem_latest_code(site, client, application, redirect_uri)
    window.press("Allow", first)
    redeem_latest_code(site, client, application, redirect_uri)
    assert len({answer["code"] for answer in application.answers}) == 2


# ---- other sites


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["another site", "another port"])
def test_sign_in_form_from_another_site_is_rejected(
    site: Site, application: Application, window: Window, browser: Browser, host: str
) -> None:
    """Login CSRF: the attacker's account and request, submitted in the victim's browser."""
    site.user("mallory")
    redirect_uri = application.url(host="localhost")
    page = browser.authorize(site.client(redirect_uris=[redirect_uri]))
    fields = page.form.fields | {"username": "mallory", "password": PASSWORD}
    application.pages["/attack"] = self_submitting_form(f"{site.settings.issuer}/oauth2/code", fields)
    window.expected_errors.append("status of 400 (Bad Request) [/oauth2/code]")
    with window.page.expect_navigation(url=f"{site.settings.issuer}/oauth2/code"):
        window.page.goto(application.url("/attack", host), wait_until="commit")
    assert "This form was sent from another site." in window.text()
    assert "signet-session" not in window.cookies
    assert application.answers == []


@pytest.mark.spec("OpenID Connect Core §3.1.2.1")
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["another site", "another port"])
def test_authorization_request_posted_by_another_site_keeps_the_session(
    site: Site, application: Application, window: Window, host: str
) -> None:
    """A cross-site POST has no Lax cookies; the GET after the 303 redirect has them, so the user stays signed in."""
    site.user("alice")
    redirect_uri = application.url(host=host)
    client = site.client(redirect_uris=[redirect_uri])
    window.authorize(client, redirect_uri)
    window.sign_in()
    fields = dict(parse_qsl(urlsplit(authorization(client, redirect_uri)).query))
    application.pages["/start"] = self_submitting_form(f"{site.settings.issuer}/oauth2/authorize", fields)
    with window.page.expect_navigation(url="**/oauth2/authorize?client_id=*"):
        window.page.goto(application.url("/start", host), wait_until="commit")
    assert window.heading() == "Allow access?"
    assert "alice" in window.text()
    window.press("Allow")
    redeem_latest_code(site, client, application, redirect_uri)
    window.page.go_back()  # to the address of the request, which asks again
    assert window.heading() == "Allow access?"


def self_submitting_form(action: str, fields: dict[str, str]) -> str:
    inputs = "".join(f'<input type="hidden" name="{name}" value="{value}">' for name, value in fields.items())
    return f'<form method="post" action="{action}">{inputs}</form><script>document.forms[0].submit()</script>'


def test_pages_cannot_be_framed(site: Site, application: Application, window: Window) -> None:
    redirect_uri = application.url(host="localhost")
    url = site.settings.issuer + authorization(site.client(redirect_uris=[redirect_uri]), redirect_uri).replace(
        "&", "&amp;"
    )
    application.pages["/frame"] = f'<iframe src="{url}"></iframe>'
    window.expected_errors += ["frame-ancestors", "net::ERR_BLOCKED_BY_RESPONSE", "[/frame]"]
    with window.page.expect_console_message(lambda message: "frame-ancestors" in message.text):
        window.page.goto(application.url("/frame", "localhost"))
    (frame,) = window.page.main_frame.child_frames
    assert frame.locator("form").count() == 0


def test_http_basic_prompt_gets_a_code_but_an_image_on_another_site_does_not(
    site: Site, application: Application, windows: Callable[..., Window]
) -> None:
    site.user("alice")
    redirect_uri = application.url(host="localhost")
    client = site.client(redirect_uris=[redirect_uri], direct_sign_in=True, trusted=True)
    url = site.settings.issuer + authorization(client, redirect_uri).replace("/authorize", "/code")
    window = windows(http_credentials={"username": "alice", "password": PASSWORD})
    window.page.goto(url)
    assert window.heading() == "Welcome back"
    redeem_latest_code(site, client, application, redirect_uri)
    assert window.cookies == {"signet-browser"}
    # The browser has stored the credentials, and would send them again without asking.
    application.pages["/image"] = f'<img src="{url.replace("&", "&amp;")}">'
    window.expected_errors += ["status of 400 (Bad Request) [/oauth2/code]", "[/oauth2/code]"]
    for host in ("localhost", "127.0.0.1"):
        window.page.goto(application.url("/image", host))
    assert len(application.answers) == 1


@pytest.mark.spec("RFC 9700 §2.6")
def test_single_page_application_gets_tokens_with_cors(
    site: Site, applications: Callable[..., Application], window: Window
) -> None:
    """CORS allows the origins of registered redirect URIs, and no others."""
    user = site.user("alice")
    application, other_origin = applications(), applications()
    redirect_uri = application.url(host="localhost")
    client = site.client(public=True, redirect_uris=[redirect_uri])
    window.authorize(client, redirect_uri)
    assert window.heading() == "Sign in"
    window.sign_in()
    # RFC 8252 section 8.6: a public client on this device is not authenticated, so consent is not remembered.
    assert window.page.get_by_role("checkbox").count() == 0
    window.press("Allow")
    code = application.answer["code"]
    site.secrets.add(code)
    fetch_tokens = """async ([issuer, body]) => {
        const metadata = await (await fetch(issuer + '/.well-known/openid-configuration')).json();
        const tokens = await (await fetch(metadata.token_endpoint,
            {method: 'POST', body: new URLSearchParams(body)})).json();
        const authorization = {headers: {Authorization: 'Bearer ' + tokens.access_token}};
        const userinfo = await (await fetch(metadata.userinfo_endpoint, authorization)).json();
        const revoked = await fetch(metadata.revocation_endpoint, {method: 'POST',
            body: new URLSearchParams({token: tokens.refresh_token, client_id: body.client_id})});
        const after = await fetch(metadata.userinfo_endpoint, authorization);
        await Promise.all([revoked.text(), after.text()]);
        return [userinfo.sub, revoked.status, after.status, Object.values(tokens)];
    }"""
    body = {
        "grant_type": "authorization_code",
        "code": code,
        "client_id": client.id,
        "redirect_uri": redirect_uri,
        "code_verifier": VERIFIER,
    }
    window.expected_errors.append("status of 401 (Unauthorized) [/oauth2/userinfo]")
    sub, revoked, after, tokens = window.page.evaluate(fetch_tokens, [site.settings.issuer, body])
    site.secrets.update(token for token in tokens if isinstance(token, str) and len(token) > 40)
    assert (sub, revoked, after) == (user.sub, 200, 401)
    # The same script at another origin can read only the metadata.
    window.expected_errors += ["has been blocked by CORS policy", "net::ERR_FAILED [/oauth2/token]", "[/oauth2/token]"]
    window.page.goto(other_origin.url("/"))
    with pytest.raises(PlaywrightError, match="Failed to fetch"):
        window.page.evaluate(fetch_tokens, [site.settings.issuer, body])
    assert any("blocked by CORS policy" in text for text in window.errors)


# ---- keyboard


@with_and_without_javascript
def test_sign_in_and_consent_work_with_the_keyboard(
    site: Site, application: Application, windows: Callable[..., Window], script: bool
) -> None:
    site.user("alice")
    redirect_uri = application.url()
    client = site.client(redirect_uris=[redirect_uri])
    window = windows(java_script_enabled=script)
    window.authorize(client, redirect_uri)
    window.sign_in_by_keyboard()
    for name in ("Allow", "Deny"):
        window.tab_to(name)
    for _ in range(2):
        window.page.keyboard.press("Shift+Tab")
    expect(window.page.get_by_label("Remember my choice")).to_be_focused()
    window.page.keyboard.press("Space")
    with window.page.expect_navigation():
        window.page.keyboard.press("Enter")
    redeem_latest_code(site, client, application, redirect_uri)
    window.authorize(client, redirect_uri)
    assert window.heading() == "Welcome back", "the choice is remembered"
    site.secrets.add(application.answers[-1]["code"])
