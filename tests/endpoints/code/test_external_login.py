"""The external login application: what it reads and posts, and in which browser its answers take effect."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from chalicelib.authorization.external_login import ANSWER_LIFETIME, MAX_ANSWERS
from chalicelib.protocol.own_scope import Scope
from chalicelib.protocol.records import User
from tests.endpoints.authorize.conftest import read_stored_request
from tests.endpoints.code.conftest import CREDENTIALS, WRONG_CREDENTIALS, count_sessions_and_grants, is_error_page
from tests.support.browser import Answer, Browser, authorization_parameters
from tests.support.faults import Wire
from tests.support.gateways import GATEWAYS, Gateway, GatewayBrowser
from tests.support.site import PASSWORD, Registered, Site, dump_tables
from tests.support.threads import run_concurrently

ORIGIN = "https://login.example.com"
LOGIN = f"{ORIGIN}/sign-in"
JSON = {"Accept": "application/json"}
LOGIN_HEADERS = {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
REDIRECT_URI = "https://client.example.com/cb"


@pytest.fixture
def site(site_with: Callable[..., Site]) -> Site:
    """A server with a login application."""
    return site_with(login_url=LOGIN, login_origins=(ORIGIN,))


@pytest.fixture
def browsers(site: Site, browsers: Callable[..., Browser]) -> Callable[..., Browser]:
    return partial(browsers, site)


@pytest.fixture
def browser(browsers: Callable[..., Browser]) -> Browser:
    return browsers()


@pytest.fixture
def user(site: Site) -> User:
    return site.user("alice", claims={"name": "Alice"})


@pytest.fixture
def client(site: Site, user: User) -> Registered:
    return site.client()


@pytest.fixture
def trusted_client(site: Site, user: User) -> Registered:
    return site.client(trusted=True)


def read_handle(answer: Answer, **parameters: str) -> str:
    """Return the handle in a redirect to the login application. Check that it has these other parameters."""
    address, _, query = answer.location.partition("?")
    assert address == LOGIN, answer.location
    sent = dict(parse_qsl(query))
    handle = sent.pop("request_uri")
    assert handle.startswith("req_")
    assert {name: sent.get(name) for name in parameters} == parameters, sent
    assert sent.keys() - {"error_description"} == parameters.keys()
    return handle


def post_form(browser: Browser, handle: str | None, origin: str | None = ORIGIN, **fields: Any) -> Answer:
    """Post a form of the login application, which is cross-site: no cookie is sent, but new cookies are stored."""
    headers = {**LOGIN_HEADERS, "Content-Type": "application/x-www-form-urlencoded", "Cookie": ""}
    headers = {name: value for name, value in (headers | {"Origin": origin}).items() if value is not None}
    form = {"request_uri": handle, **fields}
    body = urlencode({name: value for name, value in form.items() if value is not None}, doseq=True)
    return browser.request("POST", "/oauth2/code", body, headers)


def post_and_follow(browser: Browser, handle: str | None, **fields: Any) -> Answer:
    """Post a form of the login application and follow the redirect."""
    return browser.follow(post_form(browser, handle, **fields))


def fetch_request(browser: Browser, handle: str, **headers: str) -> Answer:
    """Fetch the details of the request, as a script of the login application does: without cookies."""
    return browser.get("/oauth2/code", {**JSON, "Cookie": "", **headers}, request_uri=handle)


# ---- the flow


def test_sign_in_and_consent_in_the_login_application(site: Site, browser: Browser, client: Registered) -> None:
    start = browser.authorize(client, scope="openid email", nonce="n")
    assert start.status == 302
    assert start.header("cache-control") == "no-store"
    handle = read_handle(start)
    assert set(browser.cookies) == {"signet-browser"}
    signed_in = post_form(browser, handle, **CREDENTIALS)
    assert signed_in.status == 303  # RFC 9700 section 4.12
    assert signed_in.location == f"/oauth2/authorize?request_uri={handle}"
    assert count_sessions_and_grants() == (0, 0), "the session is created in the browser, not by the login application"
    redirect = browser.follow(signed_in)
    assert read_handle(redirect) == handle
    assert count_sessions_and_grants() == (1, 0)
    answer = post_and_follow(browser, handle, decision="allow_always")
    assert set(answer.answer) == {"code", "state", "iss"}
    assert browser.redeem(client, answer.code).status == 200
    assert browser.authorize(client, scope="openid email", prompt="none").code, "the consent is remembered"


def test_user_who_has_deleted_the_account_can_only_restore_it(
    site: Site, browser: Browser, user: User, trusted_client: Registered
) -> None:
    users, now = site.server.store.users, site.clock()
    users.put(replace(user, deleted_at=now, deletion_due_at=now + 1000))
    handle = read_handle(browser.authorize(trusted_client))
    answer = post_and_follow(browser, handle, **CREDENTIALS)
    assert answer.location.startswith("/account/restore?")
    assert count_sessions_and_grants() == (0, 0)
    page = browser.submit(browser.follow(answer))
    assert "Your account is restored" in page.body
    assert site.read_user() == user
    handle = read_handle(browser.authorize(trusted_client))
    assert post_and_follow(browser, handle, **CREDENTIALS).code


def test_other_names_of_the_form_fields_are_accepted(browser: Browser, trusted_client: Registered) -> None:
    handle = read_handle(browser.authorize(trusted_client))
    assert post_and_follow(browser, handle, j_username="ALICE", j_password=PASSWORD).code


@pytest.mark.parametrize("decision", ["allow_once", "deny"])
def test_decision_is_accepted_once(browser: Browser, client: Registered, decision: str) -> None:
    handle = read_handle(browser.authorize(client))
    post_and_follow(browser, handle, **CREDENTIALS)
    posted = post_form(browser, handle, decision=decision)
    answer = browser.follow(posted)
    assert answer.answer.get("error", "code") == ("code" if decision == "allow_once" else "access_denied")
    for repeated in (
        browser.follow(posted),
        post_form(browser, handle, decision="allow_once"),
        fetch_request(browser, handle),
    ):
        assert repeated.status == 400
        assert repeated.header("location") is None
    assert count_sessions_and_grants() == (1, int(decision == "allow_once"))


def test_credentials_posted_twice_create_one_session(browser: Browser, client: Registered) -> None:
    handle = read_handle(browser.authorize(client))
    first = post_form(browser, handle, **CREDENTIALS)
    second = post_form(browser, handle, **CREDENTIALS)
    assert read_handle(browser.follow(second)) == handle
    assert read_handle(browser.follow(first)) == handle, "signed in, so only consent is needed"
    assert count_sessions_and_grants() == (1, 0)
    assert post_and_follow(browser, handle, decision="allow_once").code
    assert is_error_page(post_form(browser, handle, **CREDENTIALS), "answered")


def test_sign_in_keeps_the_browser_known_for_another_year(browser: Browser, client: Registered) -> None:
    handle = read_handle(browser.authorize(client))
    before = browser.cookies["signet-browser"]
    answer = post_and_follow(browser, handle, **CREDENTIALS)
    (renewed,) = (value for name, value in answer.headers if value.startswith("signet-browser="))
    assert "Max-Age=31536000" in renewed.split("; ")
    assert browser.cookies["signet-browser"] == before


def test_signed_in_user_is_only_asked_for_consent(browser: Browser, client: Registered) -> None:
    handle = read_handle(browser.authorize(client))
    post_and_follow(browser, handle, **CREDENTIALS)
    handle = read_handle(browser.authorize(client))
    assert fetch_request(browser, handle).json["step"] == "consent"
    assert post_and_follow(browser, handle, decision="allow_once").code


def test_password_change_is_done_on_the_page_of_the_server(
    site: Site, browser: Browser, client: Registered, user: User
) -> None:
    site.server.store.users.put(replace(user, password_change_required=True))
    handle = read_handle(browser.authorize(client))
    page = post_and_follow(browser, handle, **CREDENTIALS)
    assert page.status == 200
    assert "new_password" in page.form.fields
    site.secrets.add("another pass phrase")
    assert post_form(browser, handle, new_password="another pass phrase", **CREDENTIALS).status == 303, (
        "treated as a sign-in"
    )
    assert site.server.store.users.get(user.sub) == replace(user, password_change_required=True)
    page = browser.get("/oauth2/authorize", request_uri=handle)
    answer = browser.submit(page, new_password="another pass phrase", new_password_again="another pass phrase")
    assert read_handle(answer) == handle
    assert post_and_follow(browser, handle, decision="allow_once").code


@pytest.mark.spec("OpenID Connect Core §3.1.2.1")
@pytest.mark.parametrize("parameters", [{"prompt": "login"}, {"max_age": "0"}, {"prompt": "login consent"}], ids=str)
def test_new_sign_in_is_required_when_the_request_requires_one(
    site: Site, browser: Browser, trusted_client: Registered, parameters: dict[str, str]
) -> None:
    post_and_follow(browser, read_handle(browser.authorize(trusted_client)), **CREDENTIALS)
    site.clock.advance(100)
    handle = read_handle(browser.authorize(trusted_client, **parameters))
    assert fetch_request(browser, handle).json["step"] == "sign_in"
    answer = post_and_follow(browser, handle, **CREDENTIALS)
    if "consent" in parameters.get("prompt", ""):
        answer = post_and_follow(browser, handle, decision="allow_once")
    assert answer.code
    assert max(grant.auth_time for grant in site.server.store.grants.scan()) == site.clock.time


@pytest.mark.spec("OpenID Connect Core §3.1.2.6")
def test_prompt_none_does_not_redirect_to_the_login_application(browser: Browser, client: Registered) -> None:
    assert browser.authorize(client, prompt="none").answer["error"] == "login_required"


def test_sign_in_of_another_user_ends_the_first_session(
    site: Site, browser: Browser, client: Registered, user: User
) -> None:
    bob = site.user("bob")
    handle = read_handle(browser.authorize(client))
    post_and_follow(browser, handle, **CREDENTIALS)
    post_and_follow(browser, handle, **CREDENTIALS | {"username": "bob"})
    ended = {session.sub: session.ended_at is not None for session in site.server.store.sessions.scan()}
    assert ended == {user.sub: True, bob.sub: False}
    assert post_and_follow(browser, handle, decision="allow_once").code
    (grant,) = site.server.store.grants.scan()
    assert grant.sub == bob.sub


def test_direct_sign_in_still_uses_http_basic(site: Site, browser: Browser, user: User) -> None:
    client = site.client(direct_sign_in=True)
    page = browser.authorize(client, "/oauth2/code")
    assert page.status == 401
    assert page.header("www-authenticate")
    handle = read_handle(browser.sign_in(page))
    assert post_and_follow(browser, handle, decision="allow_once").code


# ---- the details of the request


def test_details_of_the_request(site: Site, browser: Browser, user: User) -> None:
    site.server.store.scopes.put(Scope("photos.read", "See your photographs"))
    client = site.client(
        client_name="Photo <Print>",
        client_uri="https://print.example.com",
        policy_uri="https://print.example.com/privacy",
        scope="openid email photos.read",
    )
    authorize = partial(
        browser.authorize, client, scope="openid photos.read", state="s3cret-state", nonce="s3cret-nonce"
    )
    handle = read_handle(authorize(login_hint="alice@example.com", ui_locales="de-AT en"))
    answer = fetch_request(browser, handle, Origin=ORIGIN)
    assert answer.status == 200
    assert answer.json == {
        "step": "sign_in",
        "client": {
            "client_name": "Photo <Print>",
            "client_uri": "https://print.example.com",
            "policy_uri": "https://print.example.com/privacy",
        },
        "host": "client.example.com",
        "scopes": [
            {"scope": "openid", "description": "Recognize you (your user ID here)", "allowed": False},
            {"scope": "photos.read", "description": "See your photographs", "allowed": False},
        ],
        "decisions": ["allow_once", "allow_always", "deny"],
        "access_end": "Access ends when you sign out, when it is not used for 12 hours, "
        "and 30 days after you last signed in.",
        "login_hint": "alice@example.com",
        "ui_locales": ["de-AT", "en"],
        "action": f"{site.settings.issuer}/oauth2/code",
        "expires_in": site.settings.request_lifetime,
    }
    assert answer.header("cache-control") == "no-store"
    post_and_follow(browser, handle, **CREDENTIALS)
    post_and_follow(browser, handle, decision="allow_always")
    details = fetch_request(browser, read_handle(browser.authorize(client, scope="openid email"))).json
    assert details["step"] == "consent"
    assert {scope["scope"]: scope["allowed"] for scope in details["scopes"]} == {
        "openid": True,
        "email": False,
        "photos.read": True,
    }
    assert "alice" not in str(details), "the user who is signed in is not disclosed"


def test_native_application_cannot_be_allowed_always(site: Site, browser: Browser, user: User) -> None:
    client = site.client(public=True, redirect_uris=["com.example.app:/cb"])
    details = fetch_request(browser, read_handle(browser.authorize(client))).json
    assert details["decisions"] == ["allow_once", "deny"]
    assert details["host"] == "com.example.app:"
    assert details["on_device"] is True


def test_application_that_has_registered_itself_has_an_unchecked_name(site: Site, browser: Browser, user: User) -> None:
    client = site.client()
    site.server.store.clients.put(replace(client.record, registered_with="token"))
    details = fetch_request(browser, read_handle(browser.authorize(client))).json
    assert details["client"]["name_not_checked"] is True
    assert "on_device" not in details


@pytest.mark.spec("RFC 9700 §2.6")
@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (ORIGIN, True),
        (None, False),
        ("null", False),
        ("https://login.example.com:8443", False),
        ("http://login.example.com", False),
        ("https://login.example.com.evil.example", False),
        ("https://evil.example", False),
        ("https://client.example.com", False),
    ],
)
def test_only_listed_origins_can_read_the_details(
    browser: Browser, client: Registered, origin: str | None, allowed: bool
) -> None:
    handle = read_handle(browser.authorize(client))
    for value in (handle, handle[:-2]):  # also for the error
        answer = fetch_request(browser, value, **({"Origin": origin} if origin else {}))
        assert answer.header("access-control-allow-origin") == (origin if allowed else None)
        assert answer.header("access-control-allow-credentials") is None
        assert "Origin" in (answer.header("vary") or "")


@pytest.mark.parametrize("method", ["OPTIONS", "PUT"])
@pytest.mark.parametrize("gateway", GATEWAYS, ids=lambda gateway: gateway.name)
def test_preflight_and_other_methods_are_not_allowed(site: Site, gateway: Gateway, method: str) -> None:
    answer = GatewayBrowser(site, gateway).request(method, "/oauth2/code", headers={"Origin": ORIGIN})
    assert answer.status == 405
    assert answer.header("access-control-allow-origin") is None


@pytest.mark.parametrize("case", ["cut", "another kind", "unknown", "expired", "answered", "twice", "empty"])
def test_details_of_an_unavailable_request_are_an_error(
    site: Site, browser: Browser, client: Registered, case: str
) -> None:
    handle = read_handle(browser.authorize(client))
    make = site.server.keys.make_handle
    value = {
        "cut": handle[:-1],
        "another kind": make("code", read_stored_request(site).request_id),
        "unknown": make("req", "unknown"),
        "empty": "",
    }.get(case, handle)
    if case == "expired":
        site.clock.advance(site.settings.request_lifetime)
    elif case == "answered":
        site.server.store.requests.put(replace(read_stored_request(site), taken_at=1))
    answer = fetch_request(browser, value)
    if case == "twice":
        answer = browser.get(f"/oauth2/code?request_uri={handle}&request_uri={handle}", JSON)
    assert answer.status == 400
    assert answer.json["error"] in ("request_expired", "request_answered", "invalid_request")
    assert answer.header("cache-control") == "no-store"


def test_without_a_login_application_there_are_no_details(user: User, client: Registered) -> None:
    site = Site(login_origins=(ORIGIN,))
    browser = Browser(site)
    page = browser.authorize(client)
    assert "password" in page.form.fields
    browser.sign_in(page)
    handle = site.server.keys.make_handle("req", read_stored_request(site).request_id)
    assert not fetch_request(browser, handle).body.startswith("{")
    assert is_error_page(post_form(browser, handle, **CREDENTIALS), "another site")
    browser.close()
    site.close()


# ---- errors


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"password": "not this one"}, "wrong_credentials"),
        ({"username": "unknown"}, "wrong_credentials"),
        ({"username": None}, "wrong_credentials"),
        ({"username": "x" * 10_000, "password": "\0"}, "wrong_credentials"),
    ],
)
def test_wrong_credentials_redirect_back_with_an_error_code_and_description(
    site: Site, browser: Browser, trusted_client: Registered, fields: dict[str, Any], error: str
) -> None:
    handle = read_handle(browser.authorize(trusted_client))
    answer = post_form(browser, handle, **CREDENTIALS | fields)
    assert answer.status == 303
    assert read_handle(answer, error=error) == handle
    assert answer.answer["error_description"] == WRONG_CREDENTIALS
    assert answer.header("set-cookie") is None
    assert count_sessions_and_grants() == (0, 0)
    for value in (*CREDENTIALS.values(), *filter(None, fields.values())):
        assert value not in answer.location
    assert post_and_follow(browser, handle, **CREDENTIALS).code


@pytest.mark.spec("RFC 6585 §4")
def test_too_many_attempts_redirect_back_with_retry_after(
    site: Site, browser: Browser, trusted_client: Registered
) -> None:
    handle = read_handle(browser.authorize(trusted_client))
    for _ in range(5):
        post_form(browser, handle, **CREDENTIALS | {"password": "wrong"})
    answer = post_form(browser, handle, **CREDENTIALS)
    assert read_handle(answer, error="too_many_attempts", retry_after="3600") == handle
    site.clock.advance(3600)
    handle = read_handle(browser.authorize(trusted_client))
    assert post_and_follow(browser, handle, **CREDENTIALS).code


def test_whole_request_that_must_wait_is_not_stored(site: Site, browser: Browser, client: Registered) -> None:
    wrong = build_request(client, password="wrong password")
    for _ in range(5):
        assert "request_uri" in post_form(browser, None, **wrong).location
    before = dump_tables()
    answer = post_form(browser, None, **wrong)
    parameters = dict(parse_qsl(urlsplit(answer.location).query))
    assert (parameters["error"], parameters["retry_after"]) == ("too_many_attempts", "3600")
    assert "request_uri" not in parameters
    assert dump_tables() == before


def test_sign_in_for_the_request_of_another_browser_does_not_make_that_browser_trusted(
    browsers: Callable[..., Browser], trusted_client: Registered
) -> None:
    """Otherwise the attacker could try passwords in that browser without them being counted for the account."""
    attacker, victim = browsers(), browsers()
    handle = read_handle(attacker.authorize(trusted_client))
    assert is_error_page(post_and_follow(victim, handle, **CREDENTIALS), "another browser")
    other = browsers()
    for _ in range(5):
        post_form(other, read_handle(other.authorize(trusted_client)), **CREDENTIALS | {"password": "wrong"})
    answer = post_form(attacker, handle, **CREDENTIALS)
    assert read_handle(answer, error="too_many_attempts", retry_after="3600") == handle


@pytest.mark.spec("RFC 6749 §10.12")
@pytest.mark.parametrize(
    "origin",
    [
        None,
        "null",
        "",
        "https://evil.example",
        "http://login.example.com",
        "https://login.example.com/",
        "https://login.example.com:443",
        "https://LOGIN.example.com",
        "https://login.example.com.evil.example",
        f"{ORIGIN}, {ORIGIN}",
    ],
)
@pytest.mark.parametrize("case", ["sign_in", "decision", "complete"])
def test_unlisted_origin_is_rejected(
    site: Site, browser: Browser, client: Registered, origin: str | None, case: str
) -> None:
    handle = read_handle(browser.authorize(client))
    if case == "decision":
        post_and_follow(browser, handle, **CREDENTIALS)
    before = dump_tables()
    fields = {"sign_in": CREDENTIALS, "decision": {"decision": "allow_once"}, "complete": build_request(client)}[case]
    answer = post_form(browser, None if case == "complete" else handle, origin, **fields)
    assert is_error_page(answer, "another site")
    assert dump_tables() == before


@pytest.mark.parametrize("case", ["cut", "another kind", "unknown", "expired", "answered", "twice"])
def test_answer_to_an_unavailable_request_is_an_error_page(
    site: Site, browser: Browser, client: Registered, case: str
) -> None:
    handle = read_handle(browser.authorize(client))
    make = site.server.keys.make_handle
    value: Any = {
        "cut": handle[:-1],
        "another kind": make("code", read_stored_request(site).request_id),
        "unknown": make("req", "unknown"),
        "twice": [handle, handle],
    }.get(case, handle)
    if case == "expired":
        site.clock.advance(site.settings.request_lifetime)
    elif case == "answered":
        site.server.store.requests.put(replace(read_stored_request(site), taken_at=1))
    for fields in (CREDENTIALS, {"decision": "allow_once"}):
        assert is_error_page(post_form(browser, value, **fields))
    assert count_sessions_and_grants() == (0, 0)


@pytest.mark.parametrize("decision", ["", "always", "ALLOW_ONCE", "switch", ["deny", "allow_once"], "\0"])
def test_unknown_decision_is_rejected(browser: Browser, client: Registered, decision: Any) -> None:
    handle = read_handle(browser.authorize(client))
    post_and_follow(browser, handle, **CREDENTIALS)
    answer = post_form(browser, handle, decision=decision)
    assert (answer.status, answer.header("set-cookie")) in ((400, None), (303, None))
    assert count_sessions_and_grants() == (1, 0)
    assert post_and_follow(browser, handle, decision="allow_once").code


def test_decision_before_the_sign_in_has_no_effect(browser: Browser, client: Registered) -> None:
    handle = read_handle(browser.authorize(client))
    early = post_form(browser, handle, decision="allow_always")
    assert early.header("set-cookie") is None
    assert read_handle(browser.follow(early)) == handle
    post_and_follow(browser, handle, **CREDENTIALS)
    assert count_sessions_and_grants() == (1, 0), "the decision has no effect later"


def test_decisions_for_a_request_that_no_user_was_asked_about_write_nothing(
    browser: Browser, wire: Wire, client: Registered
) -> None:
    """The Origin header of a program is no proof: a flood would cost a write for each decision."""
    handle = read_handle(browser.authorize(client))
    before = dump_tables()
    for decision in ("allow_once", "allow_always", "deny") * 10:
        called = len(wire.calls)
        answer = post_form(browser, handle, decision=decision)
        assert answer.status == 303
        assert answer.location == f"/oauth2/authorize?request_uri={handle}"
        assert "signet-answer" not in browser.cookies
        assert [call for call in wire.calls[called:] if call != "GetItem"] == []
    assert dump_tables() == before


def test_decisions_beyond_twenty_answers_write_nothing(
    site: Site, browser: Browser, browsers: Callable[..., Browser], wire: Wire, client: Registered
) -> None:
    handle = read_handle(browser.authorize(client))
    post_and_follow(browser, handle, **CREDENTIALS)
    attacker = browsers()
    written: list[bool] = []
    for _ in range(25):
        called = len(wire.calls)
        answer = post_form(attacker, handle, decision="deny")
        assert answer.status == 303
        written.append(wire.calls[called:] != ["GetItem"])
    assert written == [True] * 19 + [False] * 6, "the sign-in was the first answer"
    assert read_stored_request(site).answers == MAX_ANSWERS == 20
    assert read_handle(post_and_follow(browser, handle, decision="allow_once")) == handle
    handle = read_handle(browser.authorize(client))
    assert post_and_follow(browser, handle, decision="allow_once").code, "a new request can be answered"


# ---- the browser, request and time in which an answer takes effect


def test_answer_takes_effect_only_in_the_browser_that_posted_it(
    site: Site, browsers: Callable[..., Browser], client: Registered
) -> None:
    """A caller who has learned the handle can neither sign in nor give consent in the browser of the request."""
    own, attacker = browsers(), browsers()
    site.user("mallory")
    handle = read_handle(own.authorize(client))
    posted = post_form(attacker, handle, **CREDENTIALS | {"username": "mallory"})
    assert is_error_page(attacker.get(posted.location), "another browser")
    assert read_handle(own.get(posted.location)) == handle
    assert count_sessions_and_grants() == (0, 0)
    post_and_follow(own, handle, **CREDENTIALS)
    posted = post_form(attacker, handle, decision="allow_always")
    assert is_error_page(attacker.get(posted.location), "another browser")
    assert read_handle(own.get(posted.location)) == handle
    assert count_sessions_and_grants() == (1, 0)
    assert "signet-session" not in attacker.cookies


def test_answer_takes_effect_only_for_its_request(browser: Browser, client: Registered) -> None:
    first, second = (read_handle(browser.authorize(client)) for _ in range(2))
    post_form(browser, first, **CREDENTIALS)
    assert read_handle(browser.get("/oauth2/authorize", request_uri=second)) == second
    assert count_sessions_and_grants() == (0, 0)
    assert read_handle(browser.get("/oauth2/authorize", request_uri=first)) == first
    assert count_sessions_and_grants() == (1, 0)


def test_answer_expires_after_a_minute(site: Site, browser: Browser, trusted_client: Registered) -> None:
    handle = read_handle(browser.authorize(trusted_client))
    posted = post_form(browser, handle, **CREDENTIALS)
    assert "Max-Age=60" in (posted.header("set-cookie") or "")
    site.clock.advance(ANSWER_LIFETIME)
    assert read_handle(browser.follow(posted)) == handle
    posted = post_form(browser, handle, **CREDENTIALS)
    site.clock.advance(ANSWER_LIFETIME - 1)
    assert browser.follow(posted).code


@pytest.mark.parametrize("case", ["missing", "cut", "another kind", "another answer"])
def test_answer_requires_its_cookie(site: Site, browser: Browser, trusted_client: Registered, case: str) -> None:
    handle = read_handle(browser.authorize(trusted_client))
    posted = post_form(browser, handle, **CREDENTIALS)
    genuine = browser.cookies.pop("signet-answer")
    make, answer = site.server.keys.make_handle, read_stored_request(site).answer
    forged = {"cut": genuine[:-1], "another kind": make("sid", answer["id"]), "another answer": make("ans", "another")}
    if case in forged:
        browser.cookies["signet-answer"] = forged[case]
    assert read_handle(browser.follow(posted)) == handle
    assert count_sessions_and_grants() == (0, 0)
    browser.cookies["signet-answer"] = genuine
    answered = browser.follow(posted)
    assert answered.code
    assert "Max-Age=0" in " ".join(value for name, value in answered.headers if "signet-answer" in value)


@pytest.mark.parametrize("case", ["disabled", "password changed", "deleted"])
def test_answer_is_discarded_when_the_account_has_changed(
    site: Site, browser: Browser, trusted_client: Registered, user: User, case: str
) -> None:
    posted = post_form(browser, read_handle(browser.authorize(trusted_client)), **CREDENTIALS)
    users = site.server.store.users
    if case == "deleted":
        users.delete(user.sub)
    else:
        changed: dict[str, Any] = {"disabled_at": 1} if case == "disabled" else {"sessions_generation": 1}
        users.put(replace(user, **changed))
    assert read_handle(browser.follow(posted))
    assert count_sessions_and_grants() == (0, 0)


def test_decision_is_bound_to_the_user_who_was_asked(site: Site, browser: Browser, client: Registered) -> None:
    """Two tabs: alice gets the consent page in the first, bob signs in in the second."""
    site.user("bob")
    first = read_handle(browser.authorize(client))
    post_and_follow(browser, first, **CREDENTIALS)
    second = read_handle(browser.authorize(client, prompt="login"))
    post_and_follow(browser, second, **CREDENTIALS | {"username": "bob"})
    assert read_handle(post_and_follow(browser, first, decision="allow_always")) == first, "bob gets the consent page"
    assert count_sessions_and_grants() == (2, 0)
    assert not [*site.server.store.consents.scan()]
    del browser.cookies["signet-session"]
    assert read_handle(post_and_follow(browser, first, decision="allow_always")) == first
    assert fetch_request(browser, first).json["step"] == "sign_in"
    assert count_sessions_and_grants() == (2, 0)


def test_concurrent_uses_of_an_answer_create_one_session(
    site: Site, browser: Browser, browsers: Callable[..., Browser], client: Registered
) -> None:
    posted = post_form(browser, read_handle(browser.authorize(client)), **CREDENTIALS)
    tabs = [browsers(tab_of=browser) for _ in range(10)]
    answers = run_concurrently(partial(tab.follow, posted) for tab in tabs)
    assert {answer.status for answer in answers} <= {302, 400}
    assert count_sessions_and_grants() == (1, 0)


def test_answer_cookie_and_password_are_not_in_the_tables_or_the_url(
    site: Site, browser: Browser, client: Registered
) -> None:
    handle = read_handle(browser.authorize(client))
    posted = post_form(browser, handle, **CREDENTIALS)
    cookie = browser.cookies["signet-answer"]
    assert cookie not in dump_tables()
    assert PASSWORD not in dump_tables()
    assert cookie not in posted.location
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set((posted.header("set-cookie") or "").split("; "))


# ---- a complete authorization request


def build_request(client: Registered, **fields: Any) -> dict[str, Any]:
    """Return an authorization request with the user's credentials."""
    return authorization_parameters(client, **({"j_username": "alice", "j_password": PASSWORD} | fields))


def test_complete_authorization_request_with_credentials_returns_a_code(
    site: Site, browser: Browser, trusted_client: Registered
) -> None:
    posted = post_form(browser, None, **build_request(trusted_client))
    assert posted.status == 303
    assert posted.location.startswith("/oauth2/authorize?request_uri=req_")
    answer = browser.follow(posted)
    assert answer.location.startswith(f"{REDIRECT_URI}?code=")
    assert browser.redeem(trusted_client, answer.code).status == 200


def test_complete_request_of_a_client_that_needs_consent(browser: Browser, client: Registered) -> None:
    handle = read_handle(post_and_follow(browser, None, **build_request(client)))
    assert post_and_follow(browser, handle, decision="allow_once").code


def test_complete_request_with_a_wrong_password_continues_with_a_handle(
    site: Site, browser: Browser, trusted_client: Registered
) -> None:
    handle = read_handle(
        post_form(browser, None, **build_request(trusted_client, j_password="wrong")), error="wrong_credentials"
    )
    assert post_and_follow(browser, handle, **CREDENTIALS).code


def test_complete_request_signs_in_only_the_browser_that_posted_it(
    site: Site, browsers: Callable[..., Browser], trusted_client: Registered
) -> None:
    """The attacker's request is not sent by a browser, so its Origin header can be forged. Only the cookie counts."""
    site.user("mallory")
    attacker, victim = browsers(), browsers()
    posted = post_form(attacker, None, **build_request(trusted_client, j_username="mallory"))
    assert read_handle(victim.get(posted.location))
    assert count_sessions_and_grants() == (0, 0)
    assert "signet-session" not in victim.cookies


@pytest.mark.spec("RFC 6749 §4.1.2.1")
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_id": "unknown"}, None),
        ({"client_id": None}, None),
        ({"redirect_uri": "https://evil.example/cb"}, None),
        ({"response_type": None}, "invalid_request"),
        ({"scope": "unknown"}, "invalid_scope"),
        ({"code_challenge": None}, "invalid_request"),
        ({"state": ["a", "b"]}, "invalid_request"),
    ],
    ids=str,
)
def test_invalid_complete_request_is_answered_as_at_the_authorization_endpoint(
    site: Site, browser: Browser, trusted_client: Registered, changes: dict[str, Any], error: str | None
) -> None:
    answer = post_form(browser, None, **build_request(trusted_client, **changes))
    if error is None:
        assert is_error_page(answer)
    else:
        assert urlsplit(answer.location)._replace(query="").geturl() == REDIRECT_URI
        assert answer.answer["error"] == error
    assert not [*site.server.store.requests.scan()]
    assert not [*site.server.store.attempts.scan()], "no password was checked"


# ---- calls to DynamoDB


def test_number_of_round_trips(
    site: Site, browser: Browser, client: Registered, caplog: pytest.LogCaptureFixture
) -> None:
    """As in tests/guarantees/test_round_trips.py: a change of a number must be intended."""
    caplog.set_level("INFO", "signet")
    site.server.client(client.id)
    counts: dict[str, int] = {}

    def count(step: str, answer: Answer) -> Answer:
        lines = [json.loads(record.getMessage()) for record in caplog.records if record.name.startswith("signet")]
        counts[step] = lines[-1]["dynamodb_calls"]
        return answer

    site.server.keys.jwks()
    handle = read_handle(count("redirect: count; request", browser.authorize(client)))
    count("details, sign-in: request", fetch_request(browser, handle))
    wrong = CREDENTIALS | {"password": "wrong password"}
    count("wrong password: request; name; count, user", post_form(browser, handle, **wrong))
    posted = count("credentials: request; name; count, user; answer", post_form(browser, handle, **CREDENTIALS))
    count("answer used: request; user; session", browser.follow(posted))
    count("details, consent: request; consent", fetch_request(browser, handle))
    posted = count("decision: request; answer", post_form(browser, handle, decision="allow_always"))
    count("answer used: request; batch; consent; grant", browser.follow(posted))
    handle = read_handle(
        count("redirect for more scopes: batch; request", browser.authorize(client, scope="openid email"))
    )
    for _ in range(5):
        post_form(browser, handle, **wrong)
    count("too many wrong passwords: request; name; user", post_form(browser, handle, **CREDENTIALS))
    posted = post_form(browser, None, **build_request(client, j_username="unknown"))
    count("complete request, wrong password: name; count, user; count; request", posted)
    assert list(counts.values()) == [2, 1, 4, 5, 3, 2, 2, 4, 2, 3, 5], counts
