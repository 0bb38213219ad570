"""Signing out: who is asked, where the browser goes afterwards, and what ends."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest

from chalicelib import audit, ending, rotation
from chalicelib.errors import InvalidClientMetadata
from chalicelib.handles import new_id
from chalicelib.models import Delivery, Grant, Session, User
from tests import faults
from tests.browser import Answer, Browser
from tests.faults import Wire
from tests.site import Registered, Site
from tests.threads import at_once

RP = "OpenID Connect RP-Initiated Logout"
GOAL = "https://client.example.com/bye?lang=en"
HEARS = "https://client.example.com/backchannel"
Browsers = Callable[..., Browser]


@pytest.fixture
def alice(site: Site) -> User:
    return site.user("alice")


@pytest.fixture
def client(site: Site) -> Registered:
    """An application that nobody is asked for, so that `prompt=none` tells whether somebody is signed in."""
    return site.client(trusted=True, post_logout_redirect_uris=(GOAL, "com.example.app:/bye"))


def log_out(browser: Browser, headers: Any = None, **parameters: str | None) -> Answer:
    present = {name: value for name, value in parameters.items() if value is not None}
    return browser.get("/oauth2/logout", headers, **present)


def signed_in(browser: Browser, client: Registered) -> bool:
    answer = browser.authorize(client, prompt="none").answer
    assert "code" in answer or answer["error"] == "login_required"
    return "code" in answer


def is_question(answer: Answer) -> bool:
    return answer.status == 200 and [name for name, _ in answer.form.buttons] == ["decision", "decision"]


def sessions_of(site: Site) -> list[Session]:
    return list(site.server.store.sessions.scan())


def grants_of(site: Site) -> list[Grant]:
    return list(site.server.store.grants.scan())


def outbox(site: Site) -> list[Delivery]:
    return list(site.server.store.deliveries.scan())


# ---- with an ID token of this session


@pytest.mark.spec(f"{RP} §3 b")
def test_an_id_token_of_this_session_ends_it_without_a_question(
    site: Site, browser: Browser, client: Registered, alice: User
) -> None:
    tokens = browser.tokens(client)
    answer = log_out(browser, id_token_hint=tokens["id_token"], post_logout_redirect_uri=GOAL, state="ü & 1")
    assert (answer.status, answer.location) == (302, f"{GOAL}&state=%C3%BC+%26+1")
    assert answer.header("cache-control") == "no-store"
    assert (answer.header("set-cookie") or "").startswith("signet-session=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0")
    assert "signet-session" not in browser.cookies
    assert not signed_in(browser, client)
    (session,) = sessions_of(site)
    assert session.ended_at == site.clock.time


def test_without_a_place_to_go_a_page_says_so(browser: Browser, client: Registered, alice: User) -> None:
    answer = log_out(browser, id_token_hint=browser.tokens(client)["id_token"], state="x")
    assert answer.status == 200
    assert "You are signed out" in answer.body
    assert "Photo Print" not in answer.body  # it has no address to go back to
    assert not signed_in(browser, client)


def test_the_page_leads_back_to_the_application_if_that_has_a_page(site: Site, browser: Browser, alice: User) -> None:
    client = site.client(client_uri="https://client.example.com/")
    answer = log_out(browser, id_token_hint=browser.tokens(client)["id_token"])
    assert 'href="https://client.example.com/"' in answer.body


def test_a_goal_with_a_scheme_of_its_own_is_as_good(browser: Browser, client: Registered, alice: User) -> None:
    hint = browser.tokens(client)["id_token"]
    goal = "com.example.app:/bye"
    assert log_out(browser, id_token_hint=hint, post_logout_redirect_uri=goal, state="1").location == f"{goal}?state=1"


@pytest.mark.spec(f"{RP} §2 e")
def test_the_id_token_counts_after_it_has_expired_too(
    site: Site, browser: Browser, client: Registered, alice: User
) -> None:
    hint = browser.tokens(client)["id_token"]
    site.clock.advance(site.settings.session_idle_lifetime - 1)
    assert log_out(browser, id_token_hint=hint, post_logout_redirect_uri=GOAL).location == GOAL
    assert not signed_in(browser, client)


def test_an_id_token_of_a_refresh_is_as_good(browser: Browser, client: Registered, alice: User) -> None:
    hint = browser.refresh(client, browser.tokens(client)["refresh_token"]).json["id_token"]
    assert log_out(browser, id_token_hint=hint, post_logout_redirect_uri=GOAL).location == GOAL


def test_the_id_token_of_a_client_with_pairwise_subjects_is_as_good(site: Site, browser: Browser, alice: User) -> None:
    client = site.client(trusted=True, post_logout_redirect_uris=(GOAL,), subject_type="pairwise")
    hint = browser.tokens(client)["id_token"]
    assert log_out(browser, id_token_hint=hint, client_id=client.id, post_logout_redirect_uri=GOAL).location == GOAL
    assert not signed_in(browser, client)


def test_signing_in_again_in_the_same_browser_does_not_make_the_id_token_another_ones(
    browser: Browser, client: Registered, alice: User
) -> None:
    hint = browser.tokens(client)["id_token"]
    browser.sign_in(browser.authorize(client, prompt="login"))
    assert log_out(browser, id_token_hint=hint, post_logout_redirect_uri=GOAL).location == GOAL
    assert not signed_in(browser, client)


# ---- what ends


@pytest.mark.spec("OpenID Connect Back-Channel Logout §2.7 a", "OpenID Connect Back-Channel Logout §2.7 b")
def test_tokens_end_with_the_session_but_those_with_offline_access_live_on(
    site: Site, browser: Browser, client: Registered, alice: User
) -> None:
    other = site.client(trusted=True)
    bound = [browser.tokens(client), browser.tokens(other)]
    offline = browser.tokens(client, scope="openid offline_access")
    code = browser.code(other)
    log_out(browser, id_token_hint=bound[0]["id_token"])
    for tokens, of in zip(bound, (client, other), strict=True):
        assert browser.userinfo(tokens["access_token"]).status == 401
        assert browser.refresh(of, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert browser.redeem(other, code).json["error"] == "invalid_grant"
    assert browser.userinfo(offline["access_token"]).status == 200
    assert browser.refresh(client, offline["refresh_token"]).status == 200


def test_only_this_browser_is_signed_out(browser: Browser, browsers: Browsers, client: Registered, alice: User) -> None:
    there = browsers()
    tokens = there.tokens(client)
    log_out(browser, id_token_hint=browser.tokens(client)["id_token"])
    assert signed_in(there, client)
    assert there.userinfo(tokens["access_token"]).status == 200


def test_what_had_ended_before_is_left_as_it_was(site: Site, browser: Browser, client: Registered, alice: User) -> None:
    tokens = browser.tokens(client)
    browser.tokens(client)
    site.server.store.grants.put(replace(grants_of(site)[0], revoked_at=7))
    log_out(browser, id_token_hint=tokens["id_token"])
    assert sorted(grant.revoked_at or 0 for grant in grants_of(site)) == [7, site.clock.time]


def test_it_is_logged_and_kept_for_the_person_once(
    site: Site, browser: Browser, client: Registered, alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    hint = browser.tokens(client)["id_token"]
    cookies = dict(browser.cookies)
    with caplog.at_level(logging.INFO, "signet"):
        log_out(browser, id_token_hint=hint)
        browser.cookies.update(cookies)
        log_out(browser, id_token_hint=hint)
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name.startswith("signet")]
    (event,) = [line for line in lines if line.get("event") == audit.SIGNED_OUT]
    assert (event["sub"], event["client_id"]) == (alice.sub, client.id)
    assert not [record for record in caplog.records if hint in record.getMessage()]
    kept = [event.name for event in site.server.store.events.find("sub", alice.sub)]
    assert kept.count(audit.SIGNED_OUT) == 1


def test_the_applications_that_want_to_hear_of_it_are_written_down_with_it(
    site: Site, browser: Browser, client: Registered, alice: User, wire: Wire
) -> None:
    hears = [site.client(trusted=True, backchannel_logout_uri=HEARS) for _ in range(2)]
    for each in (client, *hears, hears[0]):
        hint = browser.tokens(each)["id_token"]
    with wire.fault_in("TransactWriteItems", faults.failing):
        assert log_out(browser, id_token_hint=hint).status == 503
    assert outbox(site) == []
    assert signed_in(browser, client)
    log_out(browser, id_token_hint=hint)
    (delivery,) = outbox(site)
    (session,) = sessions_of(site)
    assert (delivery.sub, delivery.session_id) == (alice.sub, session.session_id)
    assert delivery.clients == {each.id for each in hears}


def test_nothing_is_written_down_when_nobody_wants_to_hear_of_it(
    site: Site, browser: Browser, client: Registered, alice: User
) -> None:
    log_out(browser, id_token_hint=browser.tokens(client)["id_token"])
    assert outbox(site) == []


# ---- who is asked: a hint that is missing, of somebody else, or not ours


def no_hint(site: Site, browser: Browser, client: Registered) -> str | None:
    return None


def nonsense(site: Site, browser: Browser, client: Registered) -> str:
    return "nonsense"


def three_parts(site: Site, browser: Browser, client: Registered) -> str:
    return "a.b.c"


def _claims(site: Site, browser: Browser, client: Registered) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(browser.tokens(client)["id_token"], options={"verify_signature": False})
    return claims


def unsigned(site: Site, browser: Browser, client: Registered) -> str:
    return jwt.encode(_claims(site, browser, client), "", algorithm="none")


def with_the_public_key_as_a_secret(site: Site, browser: Browser, client: Registered) -> str:
    (key, *_) = browser.get("/oauth2/jwks").json["keys"]
    secret = key["n"].encode()
    return jwt.encode(_claims(site, browser, client), secret, algorithm="HS256", headers={"kid": key["kid"]})


def with_the_clients_secret(site: Site, browser: Browser, client: Registered) -> str:
    return jwt.encode(_claims(site, browser, client), client.secret or "", algorithm="HS256")


def with_another_signature(site: Site, browser: Browser, client: Registered) -> str:
    one, two = browser.tokens(client)["id_token"], browser.tokens(client, nonce="other")["id_token"]
    return ".".join([*one.split(".")[:2], two.split(".")[2]])


def of_another_issuer(site: Site, browser: Browser, client: Registered) -> str:
    return site.server.keys.sign(_claims(site, browser, client) | {"iss": "https://other.example"}, "JWT")


def an_access_token(site: Site, browser: Browser, client: Registered) -> str:
    token: str = browser.tokens(client)["access_token"]
    return token


def a_logout_token(site: Site, browser: Browser, client: Registered) -> str:
    return site.server.keys.sign(_claims(site, browser, client), "logout+jwt")


def a_refresh_token(site: Site, browser: Browser, client: Registered) -> str:
    token: str = browser.tokens(client)["refresh_token"]
    return token


NOT_OURS = [
    nonsense,
    three_parts,
    unsigned,
    with_the_public_key_as_a_secret,
    with_the_clients_secret,
    with_another_signature,
    of_another_issuer,
    an_access_token,
    a_logout_token,
    a_refresh_token,
]


@pytest.mark.spec(f"{RP} §2 d", f"{RP} §2 h", f"{RP} §4 a", f"{RP} §4 b", f"{RP} §4 c")
@pytest.mark.parametrize("make", NOT_OURS, ids=lambda make: make.__name__)
def test_a_hint_that_is_not_ours_is_no_hint_and_nobody_is_sent_on(
    site: Site,
    browser: Browser,
    client: Registered,
    alice: User,
    make: Callable[[Site, Browser, Registered], str],
) -> None:
    browser.tokens(client)
    hint = make(site, browser, client)
    site.secrets.add(hint) if len(hint) > 20 else None
    question = log_out(browser, id_token_hint=hint, client_id=client.id, post_logout_redirect_uri=GOAL, state="x")
    assert is_question(question)
    assert "alice" in question.body
    assert "Photo Print" not in question.body
    assert signed_in(browser, client)
    answer = browser.send(question, decision="sign_out")
    assert answer.status == 200
    assert "You are signed out" in answer.body
    assert not signed_in(browser, client)


def test_an_id_token_whose_key_has_been_retired_is_no_hint_any_more(
    site: Site, browser: Browser, client: Registered, alice: User
) -> None:
    record = site.server.store.keys.get("main")
    assert record
    try:
        hint = browser.tokens(client)["id_token"]
        rotation.rotate(site.server.keys, site.server.now(), 0)
        rotation.retire(site.server.keys, site.settings, site.server.now(), jwt.get_unverified_header(hint)["kid"])
        question = log_out(browser, id_token_hint=hint, post_logout_redirect_uri=GOAL)
        assert is_question(question)
        assert browser.send(question, decision="sign_out").status == 200
    finally:
        site.server.store.keys.put(record)
        site.server.keys._known = None


def of_another_person(site: Site, browsers: Browsers, client: Registered) -> str:
    site.user("bob")
    there = browsers()
    there.sign_in(there.authorize(client), "bob")
    token: str = there.tokens(client)["id_token"]
    return token


def of_another_browser(site: Site, browsers: Browsers, client: Registered) -> str:
    token: str = browsers().tokens(client)["id_token"]
    return token


def of_this_person_at_another_client(site: Site, browsers: Browsers, client: Registered) -> str:
    other = site.client(trusted=True, post_logout_redirect_uris=(GOAL,))
    token: str = browsers().tokens(other)["id_token"]
    return token


OTHERS = [of_another_person, of_another_browser, of_this_person_at_another_client]


@pytest.mark.spec(f"{RP} §2 f", f"{RP} §2 h")
@pytest.mark.parametrize("make", OTHERS, ids=lambda make: make.__name__)
def test_a_hint_of_another_session_is_asked_about(
    site: Site,
    browser: Browser,
    browsers: Browsers,
    client: Registered,
    alice: User,
    make: Callable[[Site, Browsers, Registered], str],
) -> None:
    browser.tokens(client)
    hint = make(site, browsers, client)
    question = log_out(browser, id_token_hint=hint, post_logout_redirect_uri=GOAL, state="x")
    assert is_question(question)
    assert signed_in(browser, client)
    # The ID token is one of ours, and says who asks: so it is known where to go.
    answer = browser.send(question, decision="sign_out")
    assert (answer.status, answer.location) == (303, f"{GOAL}&state=x")
    assert not signed_in(browser, client)


@pytest.mark.spec(f"{RP} §2 h", f"{RP} §2 i", f"{RP} §6")
@pytest.mark.parametrize(
    ("parameters", "goal"),
    [
        ({}, None),
        ({"state": "x"}, None),
        ({"client_id": "CLIENT"}, None),
        ({"client_id": "CLIENT", "post_logout_redirect_uri": GOAL}, GOAL),
        ({"client_id": "CLIENT", "post_logout_redirect_uri": GOAL, "state": "x"}, f"{GOAL}&state=x"),
        ({"client_id": "nobody"}, None),
        ({"logout_hint": "alice"}, None),
        ({"id_token_hint": ""}, None),
    ],
)
def test_without_a_hint_the_person_is_asked(
    browser: Browser, client: Registered, alice: User, parameters: dict[str, str], goal: str | None
) -> None:
    browser.tokens(client)
    given = {name: client.id if value == "CLIENT" else value for name, value in parameters.items()}
    question = log_out(browser, **given)
    assert is_question(question)
    assert ("Photo Print" in question.body) is (given.get("client_id") == client.id)
    assert signed_in(browser, client)
    answer = browser.send(question, decision="sign_out")
    assert answer.header("location") == goal
    assert answer.status == (303 if goal else 200)
    assert not signed_in(browser, client)


@pytest.mark.parametrize("goal", [GOAL, None])
def test_whoever_says_no_stays_signed_in(browser: Browser, client: Registered, alice: User, goal: str | None) -> None:
    tokens = browser.tokens(client)
    question = log_out(browser, client_id=client.id, post_logout_redirect_uri=goal)
    answer = browser.send(question, decision="stay")
    assert answer.status == 200
    assert "You are still signed in" in answer.body
    assert signed_in(browser, client)
    assert browser.userinfo(tokens["access_token"]).status == 200


def test_the_questions_form_may_lead_where_the_application_wants_to_and_nowhere_else(
    browser: Browser, client: Registered, alice: User
) -> None:
    browser.tokens(client)
    with_goal = log_out(browser, client_id=client.id, post_logout_redirect_uri="com.example.app:/bye")
    assert "form-action 'self' com.example.app:" in (with_goal.header("content-security-policy") or "")
    assert (log_out(browser).header("content-security-policy") or "").endswith("form-action 'self'")


@pytest.mark.spec(f"{RP} §2 b")
def test_languages_that_are_not_there_are_no_error(browser: Browser, client: Registered, alice: User) -> None:
    hint = browser.tokens(client)["id_token"]
    answer = log_out(browser, id_token_hint=hint, post_logout_redirect_uri=GOAL, ui_locales="tlh fr-CA")
    assert answer.location == GOAL


# ---- nobody is signed in


def test_whoever_is_not_signed_in_is_sent_on_all_the_same(
    browser: Browser, browsers: Browsers, client: Registered, alice: User
) -> None:
    hint = browsers().tokens(client)["id_token"]
    for given in ({"id_token_hint": hint}, {"client_id": client.id}):
        answer = log_out(browser, **given, post_logout_redirect_uri=GOAL, state="x")
        assert answer.location == f"{GOAL}&state=x"
    assert "You are signed out" in log_out(browser).body


def test_logging_out_twice_is_no_error(browser: Browser, client: Registered, alice: User) -> None:
    hint = browser.tokens(client)["id_token"]
    cookies = dict(browser.cookies)
    for _ in range(2):
        browser.cookies.update(cookies)
        assert log_out(browser, id_token_hint=hint, post_logout_redirect_uri=GOAL).location == GOAL


def test_an_expired_session_is_none(site: Site, browser: Browser, client: Registered, alice: User) -> None:
    browser.tokens(client)
    site.clock.advance(site.settings.session_idle_lifetime)
    assert "You are signed out" in log_out(browser).body


def test_an_older_cookie_of_the_session_is_worth_nothing(browser: Browser, client: Registered, alice: User) -> None:
    hint = browser.tokens(client)["id_token"]
    before = dict(browser.cookies)
    browser.sign_in(browser.authorize(client, prompt="login"))
    after = dict(browser.cookies)
    browser.cookies.update(before)
    log_out(browser, id_token_hint=hint)
    browser.cookies.update(after)
    assert signed_in(browser, client)


@pytest.mark.parametrize("cookie", ["", "nonsense", "sid_AAAA"])
def test_a_forged_cookie_is_none(browser: Browser, client: Registered, alice: User, cookie: str) -> None:
    browser.cookies["signet-session"] = cookie
    assert "You are signed out" in log_out(browser).body


# ---- refusals: nothing happens, and nobody is sent anywhere


@pytest.mark.spec(f"{RP} §3.1")
@pytest.mark.parametrize("uri", ["http://client.example.com/bye", "ftp://client.example.com/bye", "/bye"])
def test_a_goal_is_https_or_on_the_persons_own_device(site: Site, uri: str) -> None:
    with pytest.raises(InvalidClientMetadata, match="post_logout_redirect_uris"):
        site.client(post_logout_redirect_uris=(uri,))


def _long(number: int) -> str:
    return "x" * number


@pytest.mark.spec(f"{RP} §2 a", f"{RP} §2 c", f"{RP} §3 a", f"{RP} §3 b", f"{RP} §4 a", f"{RP} §4 c")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"post_logout_redirect_uri": "https://evil.example/"}, "not one that the application has registered"),
        ({"post_logout_redirect_uri": GOAL + "&a=b"}, "not one that"),
        ({"post_logout_redirect_uri": GOAL + "/"}, "not one that"),
        ({"post_logout_redirect_uri": GOAL + "#x"}, "not one that"),
        ({"post_logout_redirect_uri": GOAL.partition("?")[0]}, "not one that"),
        ({"post_logout_redirect_uri": GOAL.replace("https", "http")}, "not one that"),
        ({"post_logout_redirect_uri": GOAL.replace("client", "CLIENT")}, "not one that"),
        ({"post_logout_redirect_uri": GOAL.replace(".com", ".com:443")}, "not one that"),
        ({"post_logout_redirect_uri": "https://client.example.com/cb"}, "not one that"),
        ({"post_logout_redirect_uri": "javascript:alert(1)"}, "not one that"),
        ({"post_logout_redirect_uri": " " + GOAL}, "not one that"),
        ({"client_id": "another"}, "issued to another client"),
        ({"client_id": "OTHER"}, "issued to another client"),
        ({"id_token_hint": None}, "needs the id_token_hint or the client_id"),
        ({"id_token_hint": None, "client_id": "nobody"}, "not one that"),
        ({"id_token_hint": None, "client_id": "OTHER"}, "not one that"),
        ({"id_token_hint": _long(8193)}, "longer than 8192"),
        ({"client_id": _long(129)}, "longer than 128"),
        ({"post_logout_redirect_uri": _long(2049)}, "longer than 2048"),
        ({"state": _long(2049)}, "longer than 2048"),
        ({"state": "\U0001f600" * 1000}, "longer than 8192 characters when encoded"),
        ({"state": "a\r\nSet-Cookie: x=y"}, "control character"),
        ({"logout_hint": _long(321)}, "longer than 320"),
        ({"ui_locales": "en\0"}, "control character"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_is_wrong_is_shown_and_changes_nothing(
    site: Site,
    browser: Browser,
    client: Registered,
    alice: User,
    method: str,
    changed: dict[str, str | None],
    message: str,
) -> None:
    other = site.client()
    right = {"id_token_hint": browser.tokens(client)["id_token"], "post_logout_redirect_uri": GOAL, "state": "x"}
    given = {name: other.id if value == "OTHER" else value for name, value in (right | changed).items() if value}
    answer = log_out(browser, **given) if method == "GET" else browser.post("/oauth2/logout", given)
    assert answer.status == 400, answer.body
    assert answer.header("location") is None
    assert "evil" not in answer.body
    assert message in answer.body
    assert signed_in(browser, client)


@pytest.mark.parametrize("name", ["id_token_hint", "client_id", "post_logout_redirect_uri", "state", "ui_locales"])
def test_a_repeated_parameter_is_refused(browser: Browser, client: Registered, alice: User, name: str) -> None:
    hint = browser.tokens(client)["id_token"]
    pairs = [("id_token_hint", hint), ("post_logout_redirect_uri", GOAL), (name, GOAL), (name, GOAL)]
    answer = browser.request("GET", f"/oauth2/logout?{urlencode(pairs)}")
    assert answer.status == 400
    assert f"{name} is repeated" in answer.body
    assert signed_in(browser, client)


def test_what_is_not_utf_8_is_refused(browser: Browser, client: Registered, alice: User) -> None:
    browser.tokens(client)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert browser.request("POST", "/oauth2/logout", b"state=%ff", form).status == 400
    assert browser.request("POST", "/oauth2/logout", b"{}", {"Content-Type": "application/json"}).status == 400
    assert signed_in(browser, client)


def test_nobody_is_sent_on_to_an_application_that_was_switched_off(
    site: Site, browser: Browser, client: Registered, alice: User
) -> None:
    hint = browser.tokens(client)["id_token"]
    site.server.store.clients.put(replace(client.record, disabled_at=1))
    site.clock.advance(60)
    assert log_out(browser, id_token_hint=hint, post_logout_redirect_uri=GOAL).status == 400
    assert is_question(log_out(browser, id_token_hint=hint))


def test_a_goal_that_was_registered_a_moment_ago_counts(
    site: Site, browser: Browser, client: Registered, alice: User
) -> None:
    hint = browser.tokens(client)["id_token"]
    new = "https://client.example.com/new"
    site.server.store.clients.put(replace(client.record, post_logout_redirect_uris=(new,)))
    assert log_out(browser, id_token_hint=hint, post_logout_redirect_uri=new).location == new


# ---- other sites


EMBEDDED = {
    "an image": {"Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors"},
    "a frame": {"Sec-Fetch-Dest": "iframe", "Sec-Fetch-Mode": "navigate"},
    "a script's request": {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Mode": "cors"},
    "a style sheet": {"Sec-Fetch-Dest": "style", "Sec-Fetch-Mode": "no-cors"},
}


@pytest.mark.spec(f"{RP} §6")
@pytest.mark.parametrize("how", EMBEDDED)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nobody_is_signed_out_behind_their_back(
    browser: Browser, client: Registered, alice: User, how: str, method: str
) -> None:
    """Not even with an ID token: a page of the application's own site could have it, and the Lax cookie goes along."""
    given = {"id_token_hint": browser.tokens(client)["id_token"]}
    headers = EMBEDDED[how] | {"Sec-Fetch-Site": "same-site"}
    answer = log_out(browser, headers, **given) if method == "GET" else browser.post("/oauth2/logout", given, headers)
    assert answer.status == 400
    assert "top-level navigation" in answer.body
    assert signed_in(browser, client)


def test_a_link_without_an_id_token_signs_nobody_out(browser: Browser, client: Registered, alice: User) -> None:
    browser.tokens(client)
    link = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "cross-site"}
    assert is_question(log_out(browser, link, client_id=client.id, post_logout_redirect_uri=GOAL))
    assert signed_in(browser, client)


CROSS_SITE = [
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate"},
    {"Origin": "https://client.example.com"},
    {"Origin": "null"},
]


@pytest.mark.spec(f"{RP} §2 c")
@pytest.mark.parametrize("headers", CROSS_SITE, ids=["Sec-Fetch-Site", "Origin", "no origin"])
def test_a_post_of_another_site_comes_without_cookies_and_is_sent_again_by_a_page_of_ours(
    browser: Browser, client: Registered, alice: User, headers: dict[str, str]
) -> None:
    hint = browser.tokens(client)["id_token"]
    given = {"id_token_hint": hint, "post_logout_redirect_uri": GOAL, "state": "x", "unknown": "y"}
    page = browser.post("/oauth2/logout", given, {**headers, "Cookie": ""})
    assert page.status == 200
    assert "set-cookie" not in {name.lower() for name, _ in page.headers}
    assert page.form.action == "/oauth2/logout"
    assert page.form.fields == {name: given[name] for name in ("id_token_hint", "post_logout_redirect_uri", "state")}
    # Browsers apply `form-action` to the redirect that follows the form too.
    assert "form-action 'self' https:" in (page.header("content-security-policy") or "").split("; ")
    assert signed_in(browser, client)
    answer = browser.send(page)
    assert (answer.status, answer.location) == (303, f"{GOAL}&state=x")
    assert not signed_in(browser, client)


def test_a_post_of_another_site_without_an_id_token_is_asked_about(
    browser: Browser, client: Registered, alice: User
) -> None:
    browser.tokens(client)
    page = browser.post("/oauth2/logout", {"client_id": client.id}, {**CROSS_SITE[0], "Cookie": ""})
    question = browser.send(page)
    assert is_question(question)
    assert browser.send(question, decision="sign_out").status == 200
    assert not signed_in(browser, client)


def test_what_is_sent_again_without_a_session_goes_on(browser: Browser, client: Registered) -> None:
    given = {"client_id": client.id, "post_logout_redirect_uri": GOAL}
    page = browser.post("/oauth2/logout", given, CROSS_SITE[0])
    assert browser.send(page).location == GOAL


@pytest.mark.spec(f"{RP} §2 c")
def test_a_post_that_brings_the_cookie_needs_no_page(browser: Browser, client: Registered, alice: User) -> None:
    """From another host of the same site, or from a program."""
    for headers in ({"Sec-Fetch-Site": "same-site"}, {}):
        given = {"id_token_hint": browser.tokens(client)["id_token"], "post_logout_redirect_uri": GOAL}
        assert browser.post("/oauth2/logout", given, headers).location == GOAL
        assert not signed_in(browser, client)


@pytest.mark.parametrize("headers", [*CROSS_SITE, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "none"}])
def test_an_answer_to_the_question_that_another_site_sends_does_not_count(
    browser: Browser, client: Registered, alice: User, headers: dict[str, str]
) -> None:
    browser.tokens(client)
    question = log_out(browser)
    answer = browser.post("/oauth2/logout", question.form.fields | {"decision": "sign_out"}, headers)
    assert answer.status == 400
    assert signed_in(browser, client)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"tag": "nonsense"}, 400),
        ({"tag": ""}, 400),
        ({"decision": "maybe"}, 400),
        ({"decision": ""}, 400),
        ({"post_logout_redirect_uri": "https://evil.example/"}, 400),
        ({"client_id": "nobody"}, 400),
    ],
)
def test_a_question_that_was_not_asked_like_this_is_not_answered(
    browser: Browser, client: Registered, alice: User, changed: dict[str, Any], status: int
) -> None:
    browser.tokens(client)
    question = log_out(browser, client_id=client.id, post_logout_redirect_uri=GOAL)
    answer = browser.send(question, **({"decision": "sign_out"} | changed))
    assert answer.status == status
    assert answer.header("location") is None
    assert signed_in(browser, client)


def test_a_question_shown_in_another_session_is_not_answered_here(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, alice: User
) -> None:
    there = browsers()
    there.tokens(client)
    browser.tokens(client)
    assert browser.send(log_out(there), decision="sign_out").status == 400
    assert signed_in(browser, client)
    assert signed_in(there, client)


def test_an_answer_that_comes_too_late_finds_what_it_wanted(browser: Browser, client: Registered, alice: User) -> None:
    hint = browser.tokens(client)["id_token"]
    question = log_out(browser, client_id=client.id, post_logout_redirect_uri=GOAL)
    cookies = dict(browser.cookies)
    log_out(browser, id_token_hint=hint)
    for kept in ({}, cookies):
        browser.cookies.update(kept)
        assert browser.send(question, decision="sign_out").location == GOAL


# ---- at once, and cut off


def test_two_log_outs_at_once_are_one(site: Site, browser: Browser, browsers: Browsers, alice: User) -> None:
    client = site.client(trusted=True, backchannel_logout_uri=HEARS)
    hint = browser.tokens(client)["id_token"]
    tabs = [browsers() for _ in range(10)]
    for tab in tabs:
        tab.cookies.update(browser.cookies)
    answers = at_once(partial(log_out, tab, id_token_hint=hint) for tab in tabs)
    assert [answer.status for answer in answers] == [200] * 10
    assert len(outbox(site)) == 1
    kept = [event.name for event in site.server.store.events.find("sub", alice.sub)]
    assert kept.count(audit.SIGNED_OUT) == 1


@pytest.mark.parametrize("grants", [0, 1, 3])
def test_a_grant_that_is_born_in_this_moment_ends_with_the_session(
    site: Site, browser: Browser, browsers: Browsers, alice: User, wire: Wire, grants: int
) -> None:
    client = site.client(trusted=True, backchannel_logout_uri=HEARS, post_logout_redirect_uris=(GOAL,))
    hint = browser.tokens(client)["id_token"]
    (session,) = sessions_of(site)
    nothing = replace(session, grants=frozenset(), backchannel_clients=frozenset())
    site.server.store.sessions.put(session if grants else nothing)
    for _ in range(grants - 1):
        browser.code(client)
    tab = browsers()
    tab.cookies.update(browser.cookies)
    codes: list[str] = []
    with wire.before("TransactWriteItems", lambda: codes.append(tab.code(client))):
        assert log_out(browser, id_token_hint=hint, post_logout_redirect_uri=GOAL).location == GOAL
    (session,) = sessions_of(site)
    assert len(session.grants) == grants + 1
    assert session.ended_at
    assert browser.redeem(client, codes[0]).json["error"] == "invalid_grant"
    (delivery,) = outbox(site)
    assert delivery.clients == {client.id}


def test_a_session_that_ends_in_this_moment_is_not_ended_twice(
    site: Site, browser: Browser, browsers: Browsers, alice: User, wire: Wire
) -> None:
    client = site.client(trusted=True, backchannel_logout_uri=HEARS)
    hint = browser.tokens(client)["id_token"]
    tab = browsers()
    tab.cookies.update(browser.cookies)

    def meanwhile() -> None:
        log_out(tab, id_token_hint=hint)
        site.clock.advance(1)

    with wire.before("TransactWriteItems", meanwhile):
        assert log_out(browser, id_token_hint=hint).status == 200
    (session,) = sessions_of(site)
    assert session.ended_at == site.clock.time - 1
    assert len(outbox(site)) == 1


def test_a_session_that_is_gone_in_this_moment_is_no_error(
    site: Site, browser: Browser, client: Registered, alice: User, wire: Wire
) -> None:
    hint = browser.tokens(client)["id_token"]
    (session,) = sessions_of(site)
    with wire.before("TransactWriteItems", lambda: site.server.store.sessions.delete(session.session_id)):
        assert log_out(browser, id_token_hint=hint).status == 200
    assert sessions_of(site) == []
    (grant,) = grants_of(site)
    assert grant.revoked_at == site.clock.time


def test_revocation_wins_over_refreshes_and_codes_at_the_same_time(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, alice: User
) -> None:
    for _ in range(3):
        tokens, code = browser.tokens(client), browser.code(client)
        apps = [browsers() for _ in range(10)]
        tab = browsers()
        tab.cookies.update(browser.cookies)
        acts: list[Callable[[], Answer]] = [partial(a.refresh, client, tokens["refresh_token"]) for a in apps[:5]]
        acts += [partial(a.redeem, client, code) for a in apps[5:6]]
        acts.insert(3, partial(log_out, browser, id_token_hint=tokens["id_token"]))
        acts.insert(5, partial(tab.authorize, client, prompt="none"))
        answers = at_once(acts)
        for answer in answers:
            if answer.status == 200 and "access_token" in answer.body:
                assert browser.userinfo(answer.json["access_token"]).status == 401
                assert browser.refresh(client, answer.json["refresh_token"]).json["error"] == "invalid_grant"
        assert not [grant for grant in grants_of(site) if grant.revoked_at is None]


def with_many_grants(site: Site, number: int) -> Session:
    """The session of the one browser, with so many grants more; one in ten has `offline_access`."""
    store = site.server.store
    (session,), (grant,) = sessions_of(site), grants_of(site)
    offline = grant.scope | {"offline_access"}
    more = [replace(grant, grant_id=new_id(), scope=grant.scope if each % 10 else offline) for each in range(number)]
    for one in more:
        store.grants.put(one)
    session = replace(session, grants=session.grants | {one.grant_id for one in more} | {"long-gone"})
    store.sessions.put(session)
    return session


def test_a_session_with_more_grants_than_a_transaction_takes_ends_with_all_of_them(
    site: Site, browser: Browser, client: Registered, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "MOST_STEPS", 10)
    hint = browser.tokens(client)["id_token"]
    with_many_grants(site, 25)
    assert log_out(browser, id_token_hint=hint).status == 200
    alive = [grant for grant in grants_of(site) if grant.revoked_at is None]
    assert len(alive) == 3
    assert all("offline_access" in grant.scope for grant in alive)


def test_what_was_cut_off_is_taken_up_by_logging_out_again(
    site: Site, browser: Browser, alice: User, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = site.client(trusted=True, backchannel_logout_uri=HEARS, post_logout_redirect_uris=(GOAL,))
    monkeypatch.setattr(ending, "MOST_STEPS", 10)
    hint = browser.tokens(client)["id_token"]
    with_many_grants(site, 25)

    def until_the_session_has_ended(request: Any, proceed: faults.Proceed) -> Any:
        (session,) = sessions_of(site)
        return proceed() if session.ended_at is None else faults.unreachable(request, proceed)

    with wire.every("TransactWriteItems", until_the_session_has_ended):
        assert log_out(browser, id_token_hint=hint).status == 503
    (session,) = sessions_of(site)
    assert session.ended_at is not None
    bound = [grant for grant in grants_of(site) if "offline_access" not in grant.scope]
    assert [grant for grant in bound if grant.revoked_at is None]
    # The browser has kept its cookie, for the answer was an error.
    assert log_out(browser, id_token_hint=hint, post_logout_redirect_uri=GOAL).location == GOAL
    bound = [grant for grant in grants_of(site) if "offline_access" not in grant.scope]
    assert not [grant for grant in bound if grant.revoked_at is None]
    assert len(outbox(site)) == 1


# ---- other ways in which sessions end


def test_another_person_who_signs_in_ends_the_session_before(site: Site, browser: Browser, alice: User) -> None:
    client = site.client(trusted=True, backchannel_logout_uri=HEARS)
    site.user("bob")
    tokens = browser.tokens(client)
    browser.sign_in(browser.authorize(client, prompt="login"), "bob")
    assert browser.userinfo(tokens["access_token"]).status == 401
    (delivery,) = outbox(site)
    assert delivery.sub == alice.sub
    kept = [event.name for event in site.server.store.events.find("sub", alice.sub)]
    assert audit.SIGNED_OUT in kept


def test_a_changed_password_ends_every_other_session_and_they_are_told(
    site: Site, browser: Browser, browsers: Browsers, alice: User
) -> None:
    new = "a new password of her own"
    site.secrets.add(new)
    client = site.client(trusted=True, backchannel_logout_uri=HEARS)
    there = browsers()
    offline = there.tokens(client, scope="openid offline_access")
    here = browser.tokens(client)
    user = site.server.store.users.get(alice.sub)
    assert user
    site.server.store.users.put(replace(user, password_change_required=True))
    page = browser.sign_in(browser.authorize(client, prompt="login"))
    assert browser.submit(page, new_password=new, new_password_again=new).code
    ended = [session for session in sessions_of(site) if session.ended_at]
    assert [delivery.session_id for delivery in outbox(site)] == [ended[0].session_id]
    assert len(ended) == 1
    assert signed_in(browser, client)
    assert not signed_in(there, client)
    for tokens in (offline, here):
        assert browser.userinfo(tokens["access_token"]).status == 401
