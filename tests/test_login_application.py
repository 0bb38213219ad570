"""The operator's own login application: what it is asked, what it posts from its own origin, and where that counts."""

import html
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from chalicelib.login_application import ANSWER_LIFETIME
from chalicelib.models import AuthorizationRequest, Scope, User
from tests.browser import CHALLENGE, Answer, Browser
from tests.gateways import FRONTS, Front, FrontBrowser
from tests.site import PASSWORD, STAGE, Registered, Site, dump, tables
from tests.threads import at_once

ORIGIN = "https://login.example.com"
LOGIN = f"{ORIGIN}/sign-in"
CREDENTIALS = {"username": "alice", "password": PASSWORD}
JSON = {"Accept": "application/json"}
FROM_THERE = {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
CALLBACK = "https://client.example.com/cb"


@pytest.fixture
def site(site_with: Callable[..., Site]) -> Site:
    """A server that has a login application."""
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
def house(site: Site, user: User) -> Registered:
    """An application that asks nothing."""
    return site.client(trusted=True)


def sent_to(answer: Answer, **more: str) -> str:
    """The handle with which the person was sent to the login application, and with what else."""
    address, _, query = answer.location.partition("?")
    assert address == LOGIN, answer.location
    given = dict(parse_qsl(query))
    handle = given.pop("request_uri")
    assert handle.startswith("req_")
    assert {name: given.get(name) for name in more} == more, given
    assert given.keys() - {"error_description"} == more.keys()
    return handle


def post(browser: Browser, handle: str | None, origin: str | None = ORIGIN, **fields: Any) -> Answer:
    """A form of the login application: from another site, so no cookie comes along; what is set is kept."""
    headers = {**FROM_THERE, "Content-Type": "application/x-www-form-urlencoded", "Cookie": ""}
    headers = {name: value for name, value in (headers | {"Origin": origin}).items() if value is not None}
    given = {"request_uri": handle, **fields}
    body = urlencode({name: value for name, value in given.items() if value is not None}, doseq=True)
    return browser.request("POST", "/oauth2/code", body, headers)


def on(browser: Browser, handle: str | None, **fields: Any) -> Answer:
    """The same, and where the redirect leads."""
    return browser.follow(post(browser, handle, **fields))


def ask(browser: Browser, handle: str, **headers: str) -> Answer:
    """What a script of the login application does: no cookie comes along."""
    return browser.get("/oauth2/code", {**JSON, "Cookie": "", **headers}, request_uri=handle)


def waiting(site: Site) -> AuthorizationRequest:
    (request,) = site.server.store.requests.scan()
    return request


def counts() -> tuple[int, int]:
    """How many sessions and grants there are."""
    sessions, grants = (len(tables()[f"signet-{STAGE}-{kind}"].items) for kind in ("sessions", "grants"))
    return sessions, grants


def is_page(answer: Answer, status: int, text: str = "") -> bool:
    """Whether it is a page of our own, with nothing to fill in, and nobody is signed in by it."""
    return (
        answer.status == status
        and answer.header("location") is None
        and answer.header("set-cookie") is None
        and answer.form.action is None
        and text in html.unescape(answer.body)
    )


# ---- the flow


def test_sign_in_and_consent_by_the_login_application(site: Site, browser: Browser, client: Registered) -> None:
    start = browser.authorize(client, scope="openid email", nonce="n")
    assert start.status == 302
    assert start.header("cache-control") == "no-store"
    handle = sent_to(start)
    assert set(browser.cookies) == {"signet-browser"}
    signed_in = post(browser, handle, **CREDENTIALS)
    assert signed_in.status == 303  # RFC 9700 section 4.12
    assert signed_in.location == f"/oauth2/authorize?request_uri={handle}"
    assert counts() == (0, 0), "nothing has begun yet"
    consent = browser.follow(signed_in)
    assert sent_to(consent) == handle
    assert counts() == (1, 0)
    answer = on(browser, handle, decision="allow_always")
    assert set(answer.answer) == {"code", "state", "iss"}
    assert browser.redeem(client, answer.code).status == 200
    assert browser.authorize(client, scope="openid email", prompt="none").code, "and it is remembered"


def test_seed_000_fields_of_other_names_work_too(browser: Browser, house: Registered) -> None:
    handle = sent_to(browser.authorize(house))
    assert on(browser, handle, j_username="ALICE", j_password=PASSWORD).code


@pytest.mark.parametrize("decision", ["allow_once", "deny"])
def test_a_decision_counts_once(browser: Browser, client: Registered, decision: str) -> None:
    handle = sent_to(browser.authorize(client))
    on(browser, handle, **CREDENTIALS)
    posted = post(browser, handle, decision=decision)
    answer = browser.follow(posted)
    assert answer.answer.get("error", "code") == ("code" if decision == "allow_once" else "access_denied")
    for again in (browser.follow(posted), post(browser, handle, decision="allow_once"), ask(browser, handle)):
        assert again.status == 400
        assert again.header("location") is None
    assert counts() == (1, int(decision == "allow_once"))


def test_credentials_posted_twice_do_no_harm(browser: Browser, client: Registered) -> None:
    handle = sent_to(browser.authorize(client))
    first = post(browser, handle, **CREDENTIALS)
    second = post(browser, handle, **CREDENTIALS)
    assert sent_to(browser.follow(second)) == handle
    assert sent_to(browser.follow(first)) == handle, "signed in, and asked"
    assert counts() == (1, 0)
    assert on(browser, handle, decision="allow_once").code
    assert is_page(post(browser, handle, **CREDENTIALS), 400, "answered")


def test_a_person_who_is_signed_in_is_only_asked_for_consent(browser: Browser, client: Registered) -> None:
    handle = sent_to(browser.authorize(client))
    on(browser, handle, **CREDENTIALS)
    again = sent_to(browser.authorize(client))
    assert ask(browser, again).json["step"] == "consent"
    assert on(browser, again, decision="allow_once").code


def test_a_new_password_is_for_our_own_page(site: Site, browser: Browser, client: Registered, user: User) -> None:
    site.server.store.users.put(replace(user, password_change_required=True))
    handle = sent_to(browser.authorize(client))
    page = on(browser, handle, **CREDENTIALS)
    assert page.status == 200
    assert "new_password" in page.form.fields
    site.secrets.add("another pass phrase")
    assert post(browser, handle, new_password="another pass phrase", **CREDENTIALS).status == 303, "taken as a sign-in"
    assert site.server.store.users.get(user.sub) == replace(user, password_change_required=True)
    page = browser.get("/oauth2/authorize", request_uri=handle)
    answer = browser.submit(page, new_password="another pass phrase", new_password_again="another pass phrase")
    assert sent_to(answer) == handle
    assert on(browser, handle, decision="allow_once").code


@pytest.mark.spec("OpenID Connect Core §3.1.2.1")
@pytest.mark.parametrize("asked", [{"prompt": "login"}, {"max_age": "0"}, {"prompt": "login consent"}], ids=str)
def test_a_new_sign_in_is_asked_for_where_the_request_wants_one(
    site: Site, browser: Browser, house: Registered, asked: dict[str, str]
) -> None:
    on(browser, sent_to(browser.authorize(house)), **CREDENTIALS)
    site.clock.advance(100)
    handle = sent_to(browser.authorize(house, **asked))
    assert ask(browser, handle).json["step"] == "sign_in"
    answer = on(browser, handle, **CREDENTIALS)
    if "consent" in asked.get("prompt", ""):
        answer = on(browser, handle, decision="allow_once")
    assert answer.code
    assert max(grant.auth_time for grant in site.server.store.grants.scan()) == site.clock.time


@pytest.mark.spec("OpenID Connect Core §3.1.2.6")
def test_prompt_none_sends_nobody_there(browser: Browser, client: Registered) -> None:
    assert browser.authorize(client, prompt="none").answer["error"] == "login_required"


def test_another_person_signs_in_in_place_of_the_first_whose_session_ends(
    site: Site, browser: Browser, client: Registered, user: User
) -> None:
    bob = site.user("bob")
    handle = sent_to(browser.authorize(client))
    on(browser, handle, **CREDENTIALS)
    on(browser, handle, **CREDENTIALS | {"username": "bob"})
    ended = {session.sub: session.ended_at is not None for session in site.server.store.sessions.scan()}
    assert ended == {user.sub: True, bob.sub: False}
    assert on(browser, handle, decision="allow_once").code
    (grant,) = site.server.store.grants.scan()
    assert grant.sub == bob.sub


def test_direct_sign_in_still_has_the_browsers_own_popup(site: Site, browser: Browser, user: User) -> None:
    client = site.client(direct_sign_in=True)
    page = browser.authorize(client, "/oauth2/code")
    assert page.status == 401
    assert page.header("www-authenticate")
    handle = sent_to(browser.sign_in(page))
    assert on(browser, handle, decision="allow_once").code


# ---- what it is asked


def test_what_the_request_is_about(site: Site, browser: Browser, user: User) -> None:
    site.server.store.scopes.put(Scope("photos.read", "See your photographs"))
    client = site.client(
        client_name="Photo <Print>",
        client_uri="https://print.example.com",
        policy_uri="https://print.example.com/privacy",
        scope="openid email photos.read",
    )
    start = partial(browser.authorize, client, scope="openid photos.read", state="s3cret-state", nonce="s3cret-nonce")
    handle = sent_to(start(login_hint="alice@example.com", ui_locales="de-AT en"))
    answer = ask(browser, handle, Origin=ORIGIN)
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
            {"scope": "openid", "description": "Know who you are here", "allowed": False},
            {"scope": "photos.read", "description": "See your photographs", "allowed": False},
        ],
        "decisions": ["allow_once", "allow_always", "deny"],
        "login_hint": "alice@example.com",
        "ui_locales": ["de-AT", "en"],
        "action": f"{site.settings.issuer}/oauth2/code",
        "expires_in": site.settings.request_lifetime,
    }
    assert answer.header("cache-control") == "no-store"
    on(browser, handle, **CREDENTIALS)
    on(browser, handle, decision="allow_always")
    again = ask(browser, sent_to(browser.authorize(client, scope="openid email"))).json
    assert again["step"] == "consent"
    assert {scope["scope"]: scope["allowed"] for scope in again["scopes"]} == {
        "openid": True,
        "email": False,
        "photos.read": True,
    }
    assert "alice" not in str(again), "it does not tell who is signed in"


def test_a_native_application_cannot_be_allowed_for_good(site: Site, browser: Browser, user: User) -> None:
    client = site.client(public=True, redirect_uris=["com.example.app:/cb"])
    asked = ask(browser, sent_to(browser.authorize(client))).json
    assert asked["decisions"] == ["allow_once", "deny"]
    assert asked["host"] == "com.example.app:"


@pytest.mark.spec("RFC 9700 §2.6")
@pytest.mark.parametrize(
    ("origin", "reads"),
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
def test_pages_of_the_listed_origins_can_read_it(
    browser: Browser, client: Registered, origin: str | None, reads: bool
) -> None:
    handle = sent_to(browser.authorize(client))
    for asked in (handle, handle[:-2]):  # the error too
        answer = ask(browser, asked, **({"Origin": origin} if origin else {}))
        assert answer.header("access-control-allow-origin") == (origin if reads else None)
        assert answer.header("access-control-allow-credentials") is None
        assert "Origin" in (answer.header("vary") or "")


@pytest.mark.parametrize("method", ["OPTIONS", "PUT"])
@pytest.mark.parametrize("front", FRONTS, ids=lambda front: front.name)
def test_no_preflight_opens_the_rest_of_the_address(site: Site, front: Front, method: str) -> None:
    answer = FrontBrowser(site, front).request(method, "/oauth2/code", headers={"Origin": ORIGIN})
    assert answer.status == 405
    assert answer.header("access-control-allow-origin") is None


@pytest.mark.parametrize("what", ["cut", "another kind", "unknown", "expired", "answered", "twice", "empty"])
def test_a_request_that_does_not_wait_is_about_nothing(
    site: Site, browser: Browser, client: Registered, what: str
) -> None:
    handle = sent_to(browser.authorize(client))
    make = site.server.keys.make_handle
    asked = {
        "cut": handle[:-1],
        "another kind": make("code", waiting(site).request_id),
        "unknown": make("req", "unknown"),
        "empty": "",
    }.get(what, handle)
    if what == "expired":
        site.clock.advance(site.settings.request_lifetime)
    elif what == "answered":
        site.server.store.requests.put(replace(waiting(site), taken_at=1))
    answer = ask(browser, asked)
    if what == "twice":
        answer = browser.get(f"/oauth2/code?request_uri={handle}&request_uri={handle}", JSON)
    assert answer.status == 400
    assert answer.json["error"] in ("request_expired", "request_answered", "invalid_request")
    assert answer.header("cache-control") == "no-store"


def test_without_a_login_application_there_is_nothing_to_ask(user: User, client: Registered) -> None:
    plain = Site(login_origins=(ORIGIN,))
    browser = Browser(plain)
    page = browser.authorize(client)
    assert "password" in page.form.fields
    handle = page.form.fields["request_uri"]
    assert not ask(browser, handle).body.startswith("{")
    assert is_page(post(browser, handle, **CREDENTIALS), 400, "another site")
    browser.close()
    plain.close()


# ---- what goes wrong


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"password": "not this one"}, "wrong_credentials"),
        ({"username": "nobody"}, "wrong_credentials"),
        ({"username": None}, "wrong_credentials"),
        ({"username": "x" * 10_000, "password": "\0"}, "wrong_credentials"),
    ],
)
def test_wrong_credentials_lead_back_with_a_code_and_a_text(
    site: Site, browser: Browser, house: Registered, fields: dict[str, Any], error: str
) -> None:
    handle = sent_to(browser.authorize(house))
    answer = post(browser, handle, **CREDENTIALS | fields)
    assert answer.status == 303
    assert sent_to(answer, error=error) == handle
    assert answer.answer["error_description"] == "The username or the password is not right."
    assert answer.header("set-cookie") is None
    assert counts() == (0, 0)
    for value in (*CREDENTIALS.values(), *filter(None, fields.values())):
        assert value not in answer.location
    assert on(browser, handle, **CREDENTIALS).code


@pytest.mark.spec("RFC 6585 §4")
def test_too_many_of_them_lead_back_with_the_time_to_wait(site: Site, browser: Browser, house: Registered) -> None:
    handle = sent_to(browser.authorize(house))
    for _ in range(5):
        post(browser, handle, **CREDENTIALS | {"password": "wrong"})
    answer = post(browser, handle, **CREDENTIALS)
    assert sent_to(answer, error="too_many_attempts", retry_after="30") == handle
    site.clock.advance(30)
    assert on(browser, handle, **CREDENTIALS).code


def test_a_browser_that_has_signed_in_there_before_is_known(
    site: Site, browsers: Callable[..., Browser], house: Registered
) -> None:
    own, stranger = browsers(), browsers()
    assert on(own, sent_to(own.authorize(house)), **CREDENTIALS).code
    handle = sent_to(stranger.authorize(house))
    for _ in range(5):
        post(stranger, handle, **CREDENTIALS | {"password": "wrong"})
    assert sent_to(post(stranger, handle, **CREDENTIALS), error="too_many_attempts", retry_after="30")
    assert on(own, sent_to(own.authorize(house, prompt="login")), **CREDENTIALS).code


def test_a_person_lured_to_a_request_of_somebody_elses_makes_that_browser_known_to_nobody(
    browsers: Callable[..., Browser], house: Registered
) -> None:
    """Or whoever started it could try passwords there that are not counted for the account."""
    thief, victim = browsers(), browsers()
    lure = sent_to(thief.authorize(house))
    assert is_page(on(victim, lure, **CREDENTIALS), 400, "another browser")
    stranger = browsers()
    for _ in range(5):
        post(stranger, sent_to(stranger.authorize(house)), **CREDENTIALS | {"password": "wrong"})
    assert sent_to(post(thief, lure, **CREDENTIALS), error="too_many_attempts", retry_after="30") == lure


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
@pytest.mark.parametrize("what", ["sign_in", "decision", "whole"])
def test_an_origin_that_is_not_listed_is_refused(
    site: Site, browser: Browser, client: Registered, origin: str | None, what: str
) -> None:
    handle = sent_to(browser.authorize(client))
    if what == "decision":
        on(browser, handle, **CREDENTIALS)
    before = dump()
    fields = {"sign_in": CREDENTIALS, "decision": {"decision": "allow_once"}, "whole": whole(client)}[what]
    answer = post(browser, None if what == "whole" else handle, origin, **fields)
    assert is_page(answer, 400, "another site")
    assert dump() == before


@pytest.mark.parametrize("what", ["cut", "another kind", "unknown", "expired", "answered", "twice"])
def test_an_answer_to_a_request_that_does_not_wait_is_refused_on_a_page(
    site: Site, browser: Browser, client: Registered, what: str
) -> None:
    handle = sent_to(browser.authorize(client))
    make = site.server.keys.make_handle
    named: Any = {
        "cut": handle[:-1],
        "another kind": make("code", waiting(site).request_id),
        "unknown": make("req", "unknown"),
        "twice": [handle, handle],
    }.get(what, handle)
    if what == "expired":
        site.clock.advance(site.settings.request_lifetime)
    elif what == "answered":
        site.server.store.requests.put(replace(waiting(site), taken_at=1))
    for fields in (CREDENTIALS, {"decision": "allow_once"}):
        assert is_page(post(browser, named, **fields), 400)
    assert counts() == (0, 0)


@pytest.mark.parametrize("decision", ["", "allow", "ALLOW_ONCE", "switch", ["deny", "allow_once"], "\0"])
def test_a_decision_that_is_none_is_refused(browser: Browser, client: Registered, decision: Any) -> None:
    handle = sent_to(browser.authorize(client))
    on(browser, handle, **CREDENTIALS)
    answer = post(browser, handle, decision=decision)
    assert (answer.status, answer.header("set-cookie")) in ((400, None), (303, None))
    assert counts() == (1, 0)
    assert on(browser, handle, decision="allow_once").code


def test_nobody_decides_before_somebody_has_signed_in(browser: Browser, client: Registered) -> None:
    handle = sent_to(browser.authorize(client))
    early = post(browser, handle, decision="allow_always")
    assert early.header("set-cookie") is None
    assert sent_to(browser.follow(early)) == handle
    on(browser, handle, **CREDENTIALS)
    assert counts() == (1, 0), "and it does not count later"


# ---- where it counts


def test_an_answer_counts_in_the_browser_that_has_posted_it(
    site: Site, browsers: Callable[..., Browser], client: Registered
) -> None:
    """Whoever has learnt the handle signs nobody in, and allows nothing, in the browser in which it began."""
    own, thief = browsers(), browsers()
    site.user("mallory")
    handle = sent_to(own.authorize(client))
    there = post(thief, handle, **CREDENTIALS | {"username": "mallory"})
    assert is_page(thief.get(there.location), 400, "another browser")
    assert sent_to(own.get(there.location)) == handle
    assert counts() == (0, 0)
    on(own, handle, **CREDENTIALS)
    there = post(thief, handle, decision="allow_always")
    assert is_page(thief.get(there.location), 400, "another browser")
    assert sent_to(own.get(there.location)) == handle
    assert counts() == (1, 0)
    assert "signet-session" not in thief.cookies


def test_it_counts_for_the_request_that_it_was_posted_for(browser: Browser, client: Registered) -> None:
    first, second = (sent_to(browser.authorize(client)) for _ in range(2))
    post(browser, first, **CREDENTIALS)
    assert sent_to(browser.get("/oauth2/authorize", request_uri=second)) == second
    assert counts() == (0, 0)
    assert sent_to(browser.get("/oauth2/authorize", request_uri=first)) == first
    assert counts() == (1, 0)


def test_it_counts_for_a_minute(site: Site, browser: Browser, house: Registered) -> None:
    handle = sent_to(browser.authorize(house))
    posted = post(browser, handle, **CREDENTIALS)
    assert "Max-Age=60" in (posted.header("set-cookie") or "")
    site.clock.advance(ANSWER_LIFETIME)
    assert sent_to(browser.follow(posted)) == handle
    posted = post(browser, handle, **CREDENTIALS)
    site.clock.advance(ANSWER_LIFETIME - 1)
    assert browser.follow(posted).code


@pytest.mark.parametrize("what", ["gone", "cut", "another kind", "another one"])
def test_it_counts_with_its_own_cookie(site: Site, browser: Browser, house: Registered, what: str) -> None:
    handle = sent_to(browser.authorize(house))
    posted = post(browser, handle, **CREDENTIALS)
    mine = browser.cookies.pop("signet-answer")
    make, answer = site.server.keys.make_handle, waiting(site).answer
    forged = {"cut": mine[:-1], "another kind": make("sid", answer["id"]), "another one": make("ans", "another")}
    if what in forged:
        browser.cookies["signet-answer"] = forged[what]
    assert sent_to(browser.follow(posted)) == handle
    assert counts() == (0, 0)
    browser.cookies["signet-answer"] = mine
    done = browser.follow(posted)
    assert done.code
    assert "Max-Age=0" in " ".join(value for name, value in done.headers if "signet-answer" in value)


@pytest.mark.parametrize("what", ["disabled", "another password", "gone"])
def test_it_does_not_count_when_the_account_has_changed_meanwhile(
    site: Site, browser: Browser, house: Registered, user: User, what: str
) -> None:
    posted = post(browser, sent_to(browser.authorize(house)), **CREDENTIALS)
    users = site.server.store.users
    if what == "gone":
        users.delete(user.sub)
    else:
        changed: dict[str, Any] = {"disabled_at": 1} if what == "disabled" else {"sessions_generation": 1}
        users.put(replace(user, **changed))
    assert sent_to(browser.follow(posted))
    assert counts() == (0, 0)


def test_a_decision_counts_for_the_person_who_was_asked(site: Site, browser: Browser, client: Registered) -> None:
    """Two tabs as two people: alice is asked in the first, bob signs in in the second."""
    site.user("bob")
    first = sent_to(browser.authorize(client))
    on(browser, first, **CREDENTIALS)
    second = sent_to(browser.authorize(client, prompt="login"))
    on(browser, second, **CREDENTIALS | {"username": "bob"})
    assert sent_to(on(browser, first, decision="allow_always")) == first, "bob is asked"
    assert counts() == (2, 0)
    assert not [*site.server.store.consents.scan()]
    del browser.cookies["signet-session"]
    assert sent_to(on(browser, first, decision="allow_always")) == first
    assert ask(browser, first).json["step"] == "sign_in"
    assert counts() == (2, 0)


def test_answers_taken_at_once_begin_one_session(
    site: Site, browser: Browser, browsers: Callable[..., Browser], client: Registered
) -> None:
    posted = post(browser, sent_to(browser.authorize(client)), **CREDENTIALS)
    tabs = [browsers() for _ in range(10)]
    for tab in tabs:
        tab.cookies.update(browser.cookies)
    answers = at_once(partial(tab.follow, posted) for tab in tabs)
    assert {answer.status for answer in answers} <= {302, 400}
    assert counts() == (1, 0)


def test_nothing_of_it_lies_in_the_tables_or_in_an_address(site: Site, browser: Browser, client: Registered) -> None:
    handle = sent_to(browser.authorize(client))
    posted = post(browser, handle, **CREDENTIALS)
    cookie = browser.cookies["signet-answer"]
    assert cookie not in dump()
    assert PASSWORD not in dump()
    assert cookie not in posted.location
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set((posted.header("set-cookie") or "").split("; "))


# ---- a whole request


def whole(client: Registered, **fields: Any) -> dict[str, Any]:
    """An authorization request with the person's credentials."""
    return {
        "response_type": "code",
        "client_id": client.id,
        "redirect_uri": CALLBACK,
        "scope": "openid",
        "state": "af0ifjsldkj",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        "j_username": "alice",
        "j_password": PASSWORD,
    } | fields


def test_seed_000_a_whole_authorization_request_with_the_credentials(
    site: Site, browser: Browser, house: Registered
) -> None:
    posted = post(browser, None, **whole(house))
    assert posted.status == 303
    assert posted.location.startswith("/oauth2/authorize?request_uri=req_")
    answer = browser.follow(posted)
    assert answer.location.startswith(f"{CALLBACK}?code=")
    assert browser.redeem(house, answer.code).status == 200


def test_seed_000_with_consent_to_give(browser: Browser, client: Registered) -> None:
    handle = sent_to(on(browser, None, **whole(client)))
    assert on(browser, handle, decision="allow_once").code


def test_seed_000_with_a_wrong_password_it_goes_on_with_the_handle(
    site: Site, browser: Browser, house: Registered
) -> None:
    handle = sent_to(post(browser, None, **whole(house, j_password="wrong")), error="wrong_credentials")
    assert on(browser, handle, **CREDENTIALS).code


def test_login_csrf_an_answer_to_an_unbound_request_signs_in_the_browser_that_posted_it_alone(
    site: Site, browsers: Callable[..., Browser], house: Registered
) -> None:
    """No browser stands behind the attacker's request, so its Origin proves nothing: the cookie does."""
    site.user("mallory")
    attacker, victim = browsers(), browsers()
    posted = post(attacker, None, **whole(house, j_username="mallory"))
    assert sent_to(victim.get(posted.location))
    assert counts() == (0, 0)
    assert "signet-session" not in victim.cookies


@pytest.mark.spec("RFC 6749 §4.1.2.1")
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_id": "nobody"}, None),
        ({"client_id": None}, None),
        ({"redirect_uri": "https://evil.example/cb"}, None),
        ({"response_type": None}, "invalid_request"),
        ({"scope": "openid unknown"}, "invalid_scope"),
        ({"code_challenge": None}, "invalid_request"),
        ({"state": ["a", "b"]}, "invalid_request"),
    ],
    ids=str,
)
def test_errors_in_a_whole_request_are_those_of_the_authorization_endpoint(
    site: Site, browser: Browser, house: Registered, changes: dict[str, Any], error: str | None
) -> None:
    answer = post(browser, None, **whole(house, **changes))
    if error is None:
        assert is_page(answer, 400)
    else:
        assert urlsplit(answer.location)._replace(query="").geturl() == CALLBACK
        assert answer.answer["error"] == error
    assert not [*site.server.store.requests.scan()]
    assert not [*site.server.store.attempts.scan()], "and nobody's password was tried"


# ---- what it costs


def test_the_number_of_round_trips(
    site: Site, browser: Browser, client: Registered, caplog: pytest.LogCaptureFixture
) -> None:
    """As in tests/test_round_trips.py: adding one is a decision."""
    caplog.set_level("INFO", "signet")
    site.server.client(client.id)
    spent: dict[str, int] = {}

    def calls(what: str, answer: Answer) -> Answer:
        lines = [json.loads(record.getMessage()) for record in caplog.records if record.name.startswith("signet")]
        spent[what] = lines[-1]["dynamodb_calls"]
        return answer

    site.server.keys.jwks()
    handle = sent_to(calls("sent there: request", browser.authorize(client)))
    calls("asked, sign-in: request", ask(browser, handle))
    wrong = CREDENTIALS | {"password": "wrong password"}
    calls("wrong password: request; name; count, person", post(browser, handle, **wrong))
    posted = calls("credentials: request; name; count, person; answer", post(browser, handle, **CREDENTIALS))
    calls("taken: request; person; session", browser.follow(posted))
    calls("asked, consent: request; consent", ask(browser, handle))
    posted = calls("decision: request; answer", post(browser, handle, decision="allow_always"))
    calls("taken: request; batch; birth", browser.follow(posted))
    handle = sent_to(calls("sent there for more: batch; request", browser.authorize(client, scope="openid email")))
    for _ in range(5):
        post(browser, handle, **wrong)
    calls("too many wrong passwords: request; name", post(browser, handle, **CREDENTIALS))
    posted = post(browser, None, **whole(client, j_username="nobody"))
    calls("a whole request, wrong: name; count, person; request", posted)
    assert list(spent.values()) == [1, 1, 4, 5, 3, 2, 2, 3, 2, 2, 4], spent
