"""A real browser: Chromium, by Playwright, from an application at another origin through our pages and back.

How the pages look and behave is in test_look.
"""

from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.sync_api import Error as PlaywrightError

from tests.browser import VERIFIER, Browser
from tests.site import PASSWORD, Site
from tests.windows import Application, Window, authorization, redeemed, scripted_or_not

pytestmark = pytest.mark.browser

ANSWERED = "This request has expired or has been answered already."


# ---- the flow


@pytest.mark.spec("RFC 6749 §4.1")
@scripted_or_not
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_sign_in_and_consent_lead_back_to_an_application_at_another_origin(
    site: Site, applications: Callable[..., Application], windows: Callable[..., Window], host: str, script: bool
) -> None:
    try:
        application = applications("::1" if host == "[::1]" else "127.0.0.1")
    except OSError:
        pytest.skip("There is no IPv6 here.")
    site.user("alice")
    goal = application.url(host=host)
    client = site.client(redirect_uris=[goal])
    window = windows(java_script_enabled=script)
    application.pages["/"] = f'<a href="{site.settings.issuer}{authorization(client, goal)}">Sign in with Signet</a>'
    window.page.goto(application.url("/", host))
    window.page.get_by_role("link").click()
    assert window.heading() == "Sign in"
    assert "Photo Print" in window.text()
    window.sign_in()
    assert window.heading() == "Allow access?"
    assert f"{host}:{application.port}" in window.text()
    assert application.answers == []
    window.press("Allow once")
    assert window.heading() == "Welcome back"
    assert window.page.url.startswith(f"{goal}?code=code_")
    redeemed(site, client, application, goal)


@pytest.mark.spec("OAuth 2.0 Form Post Response Mode §2")
@scripted_or_not
def test_an_answer_may_be_posted_by_a_form_that_sends_itself_or_by_a_button(
    site: Site, application: Application, windows: Callable[..., Window], script: bool
) -> None:
    site.user("alice")
    goal = application.url(host="localhost")
    client = site.client(redirect_uris=[goal])
    window = windows(java_script_enabled=script)
    window.authorize(client, goal, response_mode="form_post")
    window.sign_in()
    if script:
        window.page.get_by_role("button", name="Allow once", exact=True).click()
        window.page.wait_for_url(goal)
    else:
        window.press("Allow once")
        assert window.heading() == "Back to Photo Print"
        assert application.posted == []
        window.press("Continue")
    assert window.heading() == "Welcome back"
    assert window.page.url == goal, "nothing of the answer is in a URL"
    ((_, answer),) = application.posted
    site.secrets.add(answer.pop("code"))
    assert answer == {"state": "af0ifjsldkj", "iss": site.settings.issuer}


@pytest.mark.spec("RFC 6749 §4.1.2.1")
@pytest.mark.spec("RFC 9207 §2")
@scripted_or_not
def test_deny_leads_back_with_the_error(
    site: Site, application: Application, windows: Callable[..., Window], script: bool
) -> None:
    site.user("alice")
    goal = application.url(host="localhost")
    window = windows(java_script_enabled=script)
    window.authorize(site.client(redirect_uris=[goal]), goal)
    window.sign_in()
    window.press("Deny")
    assert window.heading() == "Welcome back"
    answer = dict(application.answer)
    assert answer.pop("error_description")
    assert answer == {"error": "access_denied", "state": "af0ifjsldkj", "iss": site.settings.issuer}


def test_a_callback_that_leads_on_to_a_third_origin_is_not_stopped_by_our_policy(
    site: Site, applications: Callable[..., Application], window: Window
) -> None:
    """Chromium applies `form-action` to every redirect that follows a form, the application's own ones too."""
    site.user("alice")
    application, third = applications(), applications()
    goal = application.url(host="localhost")
    application.redirects["/cb"] = third.url("/home")
    client = site.client(redirect_uris=[goal])
    window.authorize(client, goal)
    window.sign_in()
    window.press("Allow once")
    assert window.page.url == third.url("/home")
    redeemed(site, client, application, goal)


@pytest.mark.spec("RFC 8252 §7.1")
def test_an_application_with_a_scheme_of_its_own_is_tried(site: Site, window: Window) -> None:
    """There is none on this machine, so Chromium stays where it is; our policy did not keep it from trying."""
    site.user("alice")
    goal = "com.example.app:/cb"
    window.authorize(site.client(public=True, redirect_uris=[goal]), goal)
    window.sign_in()
    assert "com.example.app, an application on this device" in window.text()
    window.forgiven.append("net::ERR_ABORTED [/cb]")
    with window.page.expect_event("requestfailed") as request:
        window.page.get_by_role("button", name="Allow once").click()
    assert request.value.url.startswith(f"{goal}?code=")
    assert window.heading() == "Allow access?"


@scripted_or_not
def test_who_always_allows_passes_silently_the_second_time(
    site: Site, application: Application, windows: Callable[..., Window], script: bool
) -> None:
    site.user("alice")
    goal = application.url()
    client = site.client(redirect_uris=[goal])
    window = windows(java_script_enabled=script)
    window.authorize(client, goal, prompt="none")
    assert application.answers[-1]["error"] == "login_required"
    window.authorize(client, goal)
    window.sign_in()
    window.press("Always allow")
    first = redeemed(site, client, application, goal)
    for prompt in ("", "none"):
        window.authorize(client, goal, prompt=prompt)
        assert window.heading() == "Welcome back"
        assert redeemed(site, client, application, goal)["sub"] == first["sub"]
    assert len(application.answers) == 4


@scripted_or_not
def test_who_always_allows_is_asked_again_when_there_is_more_to_allow(
    site: Site, application: Application, windows: Callable[..., Window], script: bool
) -> None:
    site.user("alice")
    goal = application.url()
    client = site.client(redirect_uris=[goal])
    window = windows(java_script_enabled=script)
    who, name, email = "Know who you are here", "See your name and profile", "See your e-mail address"
    window.authorize(client, goal, scope="openid profile")
    window.sign_in()
    lists = window.page.get_by_role("list")
    assert [each.splitlines() for each in lists.all_inner_texts()] == [[who, name]]
    window.press("Always allow")
    more = "openid profile email"
    window.authorize(client, goal, scope=more)
    assert window.heading() == "Allow access?"
    assert window.page.get_by_role("heading", level=2).all_inner_texts() == [
        "It now also asks to",
        "You have already allowed it to",
    ]
    new, known = lists.all_inner_texts()
    assert new.split("\n")[0].startswith(f"{email} new")
    assert known.splitlines() == [who, name]
    window.press("Deny")
    assert application.answers[-1]["error"] == "access_denied"
    # A refusal takes nothing away of what was allowed before, and adds nothing.
    window.authorize(client, goal, scope="openid profile")
    redeemed(site, client, application, goal)
    window.authorize(client, goal, scope=more)
    window.press("Always allow")
    window.authorize(client, goal, scope=more)
    redeemed(site, client, application, goal)
    assert ["code" in answer for answer in application.answers] == [True, False, True, True, True]
    site.secrets.update(answer["code"] for answer in application.answers if "code" in answer)


@pytest.mark.spec("OpenID Connect Core §3.1.2.1")
def test_prompt_login_asks_for_the_password_again(site: Site, application: Application, window: Window) -> None:
    site.user("alice")
    goal = application.url()
    client = site.client(redirect_uris=[goal])
    window.authorize(client, goal)
    window.sign_in()
    window.press("Always allow")
    first = redeemed(site, client, application, goal)
    site.clock.advance(100)
    window.authorize(client, goal, prompt="login", login_hint="alice")
    assert window.heading() == "Sign in"
    assert window.page.get_by_label("Username").input_value() == "alice"
    window.sign_in()
    assert window.heading() == "Welcome back"
    assert redeemed(site, client, application, goal)["auth_time"] == first["auth_time"] + 100


@scripted_or_not
def test_a_wrong_password_is_said_so_and_the_right_one_goes_on(
    site: Site, application: Application, windows: Callable[..., Window], script: bool
) -> None:
    site.user("alice")
    goal = application.url()
    client = site.client(redirect_uris=[goal])
    window = windows(java_script_enabled=script)
    window.authorize(client, goal)
    window.forgiven.append("status of 400 (Bad Request) [/oauth2/code]")
    window.sign_in(password=PASSWORD.title())
    assert window.page.get_by_role("alert").inner_text() == "The username or the password is not right."
    assert window.page.get_by_label("Username").input_value() == "alice"
    assert window.page.get_by_label("Password").input_value() == ""
    window.sign_in()
    window.press("Allow once")
    redeemed(site, client, application, goal)


@scripted_or_not
def test_too_many_wrong_passwords_make_the_next_try_wait_but_not_for_ever(
    site: Site, application: Application, windows: Callable[..., Window], script: bool
) -> None:
    site.user("alice")
    goal = application.url()
    client = site.client(redirect_uris=[goal])
    window = windows(java_script_enabled=script)
    window.authorize(client, goal)
    window.forgiven += [
        "status of 400 (Bad Request) [/oauth2/code]",
        "status of 429 (Too Many Requests) [/oauth2/code]",
    ]
    for _ in range(site.settings.sign_in_attempts):
        window.sign_in(password="not this one")
        assert window.page.get_by_role("alert").inner_text() == "The username or the password is not right."
    window.sign_in()
    waits = "There were too many attempts. Please try again in 30 seconds."
    assert window.page.get_by_role("alert").inner_text() == waits
    assert window.page.get_by_label("Username").input_value() == "alice"
    site.clock.advance(30)
    window.sign_in()
    window.press("Allow once")
    redeemed(site, client, application, goal)


@scripted_or_not
def test_a_random_password_is_replaced_before_anything_else(
    site: Site, application: Application, windows: Callable[..., Window], script: bool
) -> None:
    known = set(site.secrets)
    site.user("admin", password=None, admin=True)
    (random,) = site.secrets - known
    goal = application.url()
    client = site.client(redirect_uris=[goal])
    window = windows(java_script_enabled=script)
    window.authorize(client, goal)
    window.sign_in("admin", random)
    assert window.heading() == "Choose a new password"
    window.forgiven.append("status of 400 (Bad Request) [/oauth2/code]")
    new, again = window.page.get_by_label("New password", exact=True), window.page.get_by_label("New password, again")
    new.fill(PASSWORD)
    again.fill(PASSWORD + "!")
    window.press("Save and continue")
    assert window.page.get_by_role("alert").inner_text() == "The two entries differ."
    assert application.answers == []
    new.fill(PASSWORD)
    again.fill(PASSWORD)
    window.press("Save and continue")
    assert window.heading() == "Allow access?"
    window.press("Allow once")
    redeemed(site, client, application, goal)
    window.context.clear_cookies()
    window.authorize(client, goal)
    window.sign_in("admin")
    assert window.heading() == "Allow access?"


# ---- back, twice, in two tabs


def test_back_after_the_answer_shows_that_it_was_answered(site: Site, application: Application, window: Window) -> None:
    site.user("alice")
    goal = application.url(host="localhost")
    client = site.client(redirect_uris=[goal])
    window.authorize(client, goal)
    window.sign_in()
    window.page.reload()  # the question was shown by a GET: no form is sent again
    assert window.heading() == "Allow access?"
    window.press("Allow once")
    window.forgiven.append("status of 400 (Bad Request) [/oauth2/authorize]")
    window.page.go_back()
    assert ANSWERED in window.text()
    assert len(application.answers) == 1
    # Still signed in: the application's link works as before.
    window.authorize(client, goal)
    assert window.heading() == "Allow access?"


def test_the_consent_form_counts_once(site: Site, application: Application, window: Window) -> None:
    site.user("alice")
    goal = application.url(host="localhost")
    client = site.client(redirect_uris=[goal])
    window.authorize(client, goal)
    window.sign_in()
    window.forgiven.append("status of 400 (Bad Request) [/oauth2/code]")
    window.page.locator("form").evaluate("form => { form.target = '_blank' }")
    pages = []
    for name in ("Allow once", "Allow once", "Deny"):
        with window.page.expect_popup() as popup:
            window.page.get_by_role("button", name=name, exact=True).click()
        popup.value.wait_for_load_state()
        pages.append(popup.value)
    assert window.heading(pages[0]) == "Welcome back"
    assert ANSWERED in window.text(pages[1])
    assert ANSWERED in window.text(pages[2])
    redeemed(site, client, application, goal)
    assert len(application.answers) == 1


def test_two_tabs_as_two_people(site: Site, application: Application, window: Window) -> None:
    """The second sign-in is the one that counts in this browser; nobody answers for the other."""
    site.user("alice")
    bob = site.user("bob")
    goal = application.url()
    client = site.client(redirect_uris=[goal])
    first, second = window.page, window.context.new_page()
    window.authorize(client, goal, first)
    window.authorize(client, goal, second)
    window.sign_in("alice", page=first)
    window.sign_in("bob", page=second)
    assert "alice" in window.text(first)
    assert "bob" in window.text(second)
    window.forgiven.append("status of 400 (Bad Request) [/oauth2/code]")
    window.press("Allow once", first)
    assert "This form was shown to somebody else" in window.text(first)
    assert application.answers == []
    window.press("Allow once", second)
    assert redeemed(site, client, application, goal)["sub"] == bob.sub


def test_two_tabs_of_one_person(site: Site, application: Application, window: Window) -> None:
    """Two applications at once, or one twice: neither sign-in spoils the other's page."""
    site.user("alice")
    goal = application.url()
    client = site.client(redirect_uris=[goal])
    first, second = window.page, window.context.new_page()
    for page in (first, second):
        window.authorize(client, goal, page)
    for page in (first, second):
        window.sign_in(page=page)
    window.press("Allow once", second)
    redeemed(site, client, application, goal)
    window.press("Allow once", first)
    redeemed(site, client, application, goal)
    assert len({answer["code"] for answer in application.answers}) == 2


# ---- other sites


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["another site", "another port"])
def test_a_form_that_another_site_sends_signs_nobody_in(
    site: Site, application: Application, window: Window, browser: Browser, host: str
) -> None:
    """Login CSRF: the attacker's own account, the attacker's own request, in the victim's browser."""
    site.user("mallory")
    goal = application.url(host="localhost")
    page = browser.authorize(site.client(redirect_uris=[goal]))
    fields = page.form.fields | {"username": "mallory", "password": PASSWORD}
    application.pages["/attack"] = self_sending_form(f"{site.settings.issuer}/oauth2/code", fields)
    window.forgiven.append("status of 400 (Bad Request) [/oauth2/code]")
    with window.page.expect_navigation(url=f"{site.settings.issuer}/oauth2/code"):
        window.page.goto(application.url("/attack", host), wait_until="commit")
    assert "This form was sent from another site." in window.text()
    assert "signet-session" not in window.cookies
    assert application.answers == []


@pytest.mark.spec("OpenID Connect Core §3.1.2.1")
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["another site", "another port"])
def test_an_authorization_request_that_another_site_posts_goes_on_with_our_cookies(
    site: Site, application: Application, window: Window, host: str
) -> None:
    """A cross-site POST carries no Lax cookie: the 303 to a GET brings them, so who is signed in stays so."""
    site.user("alice")
    goal = application.url(host=host)
    client = site.client(redirect_uris=[goal])
    window.authorize(client, goal)
    window.sign_in()
    fields = dict(parse_qsl(urlsplit(authorization(client, goal)).query))
    application.pages["/start"] = self_sending_form(f"{site.settings.issuer}/oauth2/authorize", fields)
    with window.page.expect_navigation(url="**/oauth2/authorize?request_uri=req_*"):
        window.page.goto(application.url("/start", host), wait_until="commit")
    assert window.heading() == "Allow access?"
    assert "alice" in window.text()
    window.press("Allow once")
    redeemed(site, client, application, goal)
    # Back leads to an address of ours that has been answered, and says so.
    window.forgiven.append("status of 400 (Bad Request) [/oauth2/authorize]")
    window.page.go_back()
    assert ANSWERED in window.text()


def self_sending_form(action: str, fields: dict[str, str]) -> str:
    inputs = "".join(f'<input type="hidden" name="{name}" value="{value}">' for name, value in fields.items())
    return f'<form method="post" action="{action}">{inputs}</form><script>document.forms[0].submit()</script>'


def test_no_page_of_ours_shows_in_a_frame(site: Site, application: Application, window: Window) -> None:
    goal = application.url(host="localhost")
    url = site.settings.issuer + authorization(site.client(redirect_uris=[goal]), goal).replace("&", "&amp;")
    application.pages["/frame"] = f'<iframe src="{url}"></iframe>'
    window.forgiven += ["frame-ancestors", "net::ERR_BLOCKED_BY_RESPONSE", "[/frame]"]
    with window.page.expect_console_message(lambda message: "frame-ancestors" in message.text):
        window.page.goto(application.url("/frame", "localhost"))
    (frame,) = window.page.main_frame.child_frames
    assert frame.locator("form").count() == 0


def test_a_browsers_own_password_popup_gets_a_code_but_no_picture_of_another_site_does(
    site: Site, application: Application, windows: Callable[..., Window]
) -> None:
    site.user("alice")
    goal = application.url(host="localhost")
    client = site.client(redirect_uris=[goal], direct_sign_in=True, trusted=True)
    url = site.settings.issuer + authorization(client, goal).replace("/authorize", "/code")
    window = windows(http_credentials={"username": "alice", "password": PASSWORD})
    window.page.goto(url)
    assert window.heading() == "Welcome back"
    redeemed(site, client, application, goal)
    assert window.cookies == {"signet-browser"}
    # The browser knows the credentials now, and would repeat them by itself.
    application.pages["/picture"] = f'<img src="{url.replace("&", "&amp;")}">'
    window.forgiven += ["status of 400 (Bad Request) [/oauth2/code]", "[/oauth2/code]"]
    for host in ("localhost", "127.0.0.1"):
        window.page.goto(application.url("/picture", host))
    assert len(application.answers) == 1


@pytest.mark.spec("RFC 9700 §2.6")
def test_a_single_page_application_gets_its_tokens_by_script(
    site: Site, applications: Callable[..., Application], window: Window
) -> None:
    """CORS, as a browser sees it: for the origins of registered redirect URIs, and for no other."""
    user = site.user("alice")
    application, stranger = applications(), applications()
    goal = application.url(host="localhost")
    client = site.client(public=True, redirect_uris=[goal])
    window.authorize(client, goal)
    assert window.heading() == "Sign in"
    window.sign_in()
    # RFC 8252 section 8.6: a public client on this device may be anybody, so its consent is not remembered.
    assert window.page.get_by_role("button", name="Always allow").count() == 0
    window.press("Allow once")
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
        "redirect_uri": goal,
        "code_verifier": VERIFIER,
    }
    window.forgiven.append("status of 401 (Unauthorized) [/oauth2/userinfo]")
    sub, revoked, after, tokens = window.page.evaluate(fetch_tokens, [site.settings.issuer, body])
    site.secrets.update(token for token in tokens if isinstance(token, str) and len(token) > 40)
    assert (sub, revoked, after) == (user.sub, 200, 401)
    # The same script on a page of another origin reads the metadata, and nothing else.
    window.forgiven += ["has been blocked by CORS policy", "net::ERR_FAILED [/oauth2/token]", "[/oauth2/token]"]
    window.page.goto(stranger.url("/"))
    with pytest.raises(PlaywrightError, match="Failed to fetch"):
        window.page.evaluate(fetch_tokens, [site.settings.issuer, body])
    assert any("blocked by CORS policy" in text for text in window.complaints)


# ---- the pages themselves


@scripted_or_not
def test_the_keyboard_is_enough(
    site: Site, application: Application, windows: Callable[..., Window], script: bool
) -> None:
    site.user("alice")
    goal = application.url()
    client = site.client(redirect_uris=[goal])
    window = windows(java_script_enabled=script)
    window.authorize(client, goal)
    window.type_in()
    for name in ("Allow once", "Always allow", "Deny"):
        window.tab_to(name)
    window.page.keyboard.press("Shift+Tab")
    with window.page.expect_navigation():
        window.page.keyboard.press("Enter")
    redeemed(site, client, application, goal)
    window.authorize(client, goal)
    assert window.heading() == "Welcome back", "it was allowed always"
    site.secrets.add(application.answers[-1]["code"])
