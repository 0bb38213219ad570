"""RP-initiated logout: confirmation, redirects, rejected requests and requests of other sites."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest

from chalicelib.keys import rotation
from chalicelib.protocol.errors import InvalidClientMetadata
from chalicelib.protocol.records import User
from tests.endpoints.logout.conftest import TARGET, Browsers, has_session, log_out, sessions_of
from tests.support.account import sign_in_to_account, submit_action
from tests.support.browser import Answer, Browser
from tests.support.links import next_steps
from tests.support.site import Registered, Site

RP = "OpenID Connect RP-Initiated Logout"


def is_confirmation(answer: Answer) -> bool:
    return answer.status == 200 and [name for name, _ in answer.form.buttons] == ["decision", "decision"]


# ---- with an ID token of the session


@pytest.mark.spec(f"{RP} §3 b")
def test_id_token_of_the_session_ends_it_without_confirmation(
    site: Site, browser: Browser, client: Registered, alice: User
) -> None:
    tokens = browser.tokens(client)
    answer = log_out(browser, id_token_hint=tokens["id_token"], post_logout_redirect_uri=TARGET, state="ü & 1")
    assert (answer.status, answer.location) == (302, f"{TARGET}&state=%C3%BC+%26+1")
    assert answer.header("cache-control") == "no-store"
    assert (answer.header("set-cookie") or "").startswith("signet-session=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0")
    assert "signet-session" not in browser.cookies
    assert not has_session(browser, client)
    (session,) = sessions_of(site)
    assert session.ended_at == site.clock.time


def test_signed_out_page_is_shown_without_a_redirect_uri(browser: Browser, client: Registered, alice: User) -> None:
    answer = log_out(browser, id_token_hint=browser.tokens(client)["id_token"], state="x")
    assert answer.status == 200
    assert "You are signed out" in answer.body
    assert next_steps(answer) == {"Back to Photo Print": TARGET, "Sign in to your account": "/account"}
    assert not has_session(browser, client)


def test_signed_out_page_links_to_the_client_uri(site: Site, browser: Browser, alice: User) -> None:
    client = site.client(client_uri="https://client.example.com/", post_logout_redirect_uris=(TARGET,))
    answer = log_out(browser, id_token_hint=browser.tokens(client)["id_token"])
    assert next_steps(answer)["Back to Photo Print"] == "https://client.example.com/"


def test_redirect_to_a_private_use_scheme(browser: Browser, client: Registered, alice: User) -> None:
    hint = browser.tokens(client)["id_token"]
    uri = "com.example.app:/bye"
    assert log_out(browser, id_token_hint=hint, post_logout_redirect_uri=uri, state="1").location == f"{uri}?state=1"


@pytest.mark.spec(f"{RP} §2 e")
def test_expired_id_token_is_accepted(site: Site, browser: Browser, client: Registered, alice: User) -> None:
    hint = browser.tokens(client)["id_token"]
    site.clock.advance(site.settings.session_idle_lifetime - 1)
    assert log_out(browser, id_token_hint=hint, post_logout_redirect_uri=TARGET).location == TARGET
    assert not has_session(browser, client)


def test_id_token_of_a_refresh_is_accepted(browser: Browser, client: Registered, alice: User) -> None:
    hint = browser.refresh(client, browser.tokens(client)["refresh_token"]).json["id_token"]
    assert log_out(browser, id_token_hint=hint, post_logout_redirect_uri=TARGET).location == TARGET


def test_id_token_with_a_pairwise_sub_is_accepted(site: Site, browser: Browser, alice: User) -> None:
    client = site.client(trusted=True, post_logout_redirect_uris=(TARGET,), subject_type="pairwise")
    hint = browser.tokens(client)["id_token"]
    assert log_out(browser, id_token_hint=hint, client_id=client.id, post_logout_redirect_uri=TARGET).location == TARGET
    assert not has_session(browser, client)


def test_id_token_is_accepted_after_another_sign_in_in_the_same_browser(
    browser: Browser, client: Registered, alice: User
) -> None:
    hint = browser.tokens(client)["id_token"]
    browser.sign_in(browser.authorize(client, prompt="login"))
    assert log_out(browser, id_token_hint=hint, post_logout_redirect_uri=TARGET).location == TARGET
    assert not has_session(browser, client)


# ---- confirmation: the hint is missing, invalid, or of another session


def nonsense(site: Site, browser: Browser, client: Registered) -> str:
    return "nonsense"


def three_parts(site: Site, browser: Browser, client: Registered) -> str:
    return "a.b.c"


def id_token_claims(site: Site, browser: Browser, client: Registered) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(browser.tokens(client)["id_token"], options={"verify_signature": False})
    return claims


def unsigned(site: Site, browser: Browser, client: Registered) -> str:
    return jwt.encode(id_token_claims(site, browser, client), "", algorithm="none")


def with_the_public_key_as_a_secret(site: Site, browser: Browser, client: Registered) -> str:
    (key, *_) = browser.get("/oauth2/jwks").json["keys"]
    secret = key["n"].encode()
    return jwt.encode(id_token_claims(site, browser, client), secret, algorithm="HS256", headers={"kid": key["kid"]})


def with_the_clients_secret(site: Site, browser: Browser, client: Registered) -> str:
    return jwt.encode(id_token_claims(site, browser, client), client.secret or "", algorithm="HS256")


def with_another_signature(site: Site, browser: Browser, client: Registered) -> str:
    first, second = browser.tokens(client)["id_token"], browser.tokens(client, nonce="other")["id_token"]
    return ".".join([*first.split(".")[:2], second.split(".")[2]])


def of_another_issuer(site: Site, browser: Browser, client: Registered) -> str:
    return site.server.keys.sign(id_token_claims(site, browser, client) | {"iss": "https://other.example"}, "JWT")


def an_access_token(site: Site, browser: Browser, client: Registered) -> str:
    token: str = browser.tokens(client)["access_token"]
    return token


def a_logout_token(site: Site, browser: Browser, client: Registered) -> str:
    return site.server.keys.sign(id_token_claims(site, browser, client), "logout+jwt")


def a_refresh_token(site: Site, browser: Browser, client: Registered) -> str:
    token: str = browser.tokens(client)["refresh_token"]
    return token


INVALID_HINTS = [
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
@pytest.mark.parametrize("make", INVALID_HINTS, ids=lambda make: make.__name__)
def test_invalid_hint_is_ignored_and_confirmation_is_required(
    site: Site,
    browser: Browser,
    client: Registered,
    alice: User,
    make: Callable[[Site, Browser, Registered], str],
) -> None:
    browser.tokens(client)
    hint = make(site, browser, client)
    site.secrets.add(hint) if len(hint) > 20 else None
    confirmation = log_out(browser, id_token_hint=hint, client_id=client.id, post_logout_redirect_uri=TARGET, state="x")
    assert is_confirmation(confirmation)
    assert "alice" in confirmation.body
    assert "Photo Print" not in confirmation.body
    assert has_session(browser, client)
    answer = browser.send(confirmation, decision="sign_out")
    assert answer.status == 200
    assert "You are signed out" in answer.body
    assert not has_session(browser, client)


@pytest.mark.usefixtures("restore_key_ring")
def test_hint_signed_with_a_retired_key_is_ignored(
    site: Site, browser: Browser, client: Registered, alice: User
) -> None:
    hint = browser.tokens(client)["id_token"]
    rotation.rotate(site.server.keys, site.server.now(), 0)
    rotation.retire(site.server.keys, site.settings, site.server.now(), jwt.get_unverified_header(hint)["kid"])
    confirmation = log_out(browser, id_token_hint=hint, post_logout_redirect_uri=TARGET)
    assert is_confirmation(confirmation)
    assert browser.send(confirmation, decision="sign_out").status == 200


def of_another_user(site: Site, browsers: Browsers, client: Registered) -> str:
    site.user("bob")
    other = browsers()
    other.sign_in(other.authorize(client), "bob")
    token: str = other.tokens(client)["id_token"]
    return token


def of_another_browser(site: Site, browsers: Browsers, client: Registered) -> str:
    token: str = browsers().tokens(client)["id_token"]
    return token


def of_this_user_at_another_client(site: Site, browsers: Browsers, client: Registered) -> str:
    other = site.client(trusted=True, post_logout_redirect_uris=(TARGET,))
    token: str = browsers().tokens(other)["id_token"]
    return token


HINTS_OF_OTHER_SESSIONS = [of_another_user, of_another_browser, of_this_user_at_another_client]


@pytest.mark.spec(f"{RP} §2 f", f"{RP} §2 h")
@pytest.mark.parametrize("make", HINTS_OF_OTHER_SESSIONS, ids=lambda make: make.__name__)
def test_hint_of_another_session_requires_confirmation(
    site: Site,
    browser: Browser,
    browsers: Browsers,
    client: Registered,
    alice: User,
    make: Callable[[Site, Browsers, Registered], str],
) -> None:
    browser.tokens(client)
    hint = make(site, browsers, client)
    confirmation = log_out(browser, id_token_hint=hint, post_logout_redirect_uri=TARGET, state="x")
    assert is_confirmation(confirmation)
    assert has_session(browser, client)
    # The hint is valid and names the client, so the redirect URI can be checked.
    answer = browser.send(confirmation, decision="sign_out")
    assert (answer.status, answer.location) == (303, f"{TARGET}&state=x")
    assert not has_session(browser, client)


@pytest.mark.spec(f"{RP} §2 h", f"{RP} §2 i", f"{RP} §6")
@pytest.mark.parametrize(
    ("parameters", "target"),
    [
        ({}, None),
        ({"state": "x"}, None),
        ({"client_id": "CLIENT"}, None),
        ({"client_id": "CLIENT", "post_logout_redirect_uri": TARGET}, TARGET),
        ({"client_id": "CLIENT", "post_logout_redirect_uri": TARGET, "state": "x"}, f"{TARGET}&state=x"),
        ({"client_id": "unknown"}, None),
        ({"logout_hint": "alice"}, None),
        ({"id_token_hint": ""}, None),
    ],
)
def test_request_without_a_hint_requires_confirmation(
    browser: Browser, client: Registered, alice: User, parameters: dict[str, str], target: str | None
) -> None:
    browser.tokens(client)
    given = {name: client.id if value == "CLIENT" else value for name, value in parameters.items()}
    confirmation = log_out(browser, **given)
    assert is_confirmation(confirmation)
    assert ("Photo Print" in confirmation.body) is (given.get("client_id") == client.id)
    assert has_session(browser, client)
    answer = browser.send(confirmation, decision="sign_out")
    assert answer.header("location") == target
    assert answer.status == (303 if target else 200)
    assert not has_session(browser, client)


@pytest.mark.parametrize("state", ["x" * 4096, "ü" * 1360])
def test_state_of_4096_bytes_is_returned(browser: Browser, client: Registered, alice: User, state: str) -> None:
    hint = browser.tokens(client)["id_token"]
    answer = log_out(browser, id_token_hint=hint, post_logout_redirect_uri=TARGET, state=state)
    assert answer.location == f"{TARGET}&{urlencode({'state': state})}"


@pytest.mark.parametrize("target", [TARGET, None])
def test_declined_confirmation_keeps_the_session(
    browser: Browser, client: Registered, alice: User, target: str | None
) -> None:
    tokens = browser.tokens(client)
    confirmation = log_out(browser, client_id=client.id, post_logout_redirect_uri=target)
    answer = browser.send(confirmation, decision="stay")
    assert answer.status == 200
    assert "You are still signed in" in answer.body
    assert next_steps(answer) == {"Back to Photo Print": TARGET, "Your account": "/account"}
    assert has_session(browser, client)
    assert browser.userinfo(tokens["access_token"]).status == 200


def test_browser_that_must_sign_in_again_is_not_told_that_it_is_signed_in(
    site: Site, browser: Browser, client: Registered, alice: User
) -> None:
    """A refresh token keeps the session after the browser is signed out of it by time."""
    refresh_token = browser.tokens(client)["refresh_token"]
    site.clock.advance(site.settings.session_idle_lifetime - 1)
    assert browser.refresh(client, refresh_token).status == 200
    site.clock.advance(2)
    assert not has_session(browser, client)
    confirmation = log_out(browser)
    assert is_confirmation(confirmation)
    assert "You are signed in as" not in confirmation.body
    answer = browser.send(confirmation, decision="stay")
    assert "You did not sign out" in answer.body
    assert "still signed in" not in answer.body
    assert next_steps(answer) == {"Sign in to your account": "/account"}


def test_session_that_was_ended_from_another_browser_needs_no_confirmation(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, alice: User
) -> None:
    browser.tokens(client)
    confirmation, other = log_out(browser), browsers()
    sign_in_to_account(other)
    submit_action(other, "sign_out_others")
    before = len(list(site.server.store.events.scan()))
    assert "You are signed out" in browser.send(confirmation, decision="stay").body
    assert len(list(site.server.store.events.scan())) == before, "there was nothing to end"


def test_confirmation_allows_form_action_to_the_redirect_target_only(
    browser: Browser, client: Registered, alice: User
) -> None:
    browser.tokens(client)
    with_target = log_out(browser, client_id=client.id, post_logout_redirect_uri="com.example.app:/bye")
    assert "form-action 'self' com.example.app:" in (with_target.header("content-security-policy") or "")
    assert (log_out(browser).header("content-security-policy") or "").endswith("form-action 'self'")


@pytest.mark.spec(f"{RP} §2 b")
def test_unsupported_ui_locales_are_ignored(browser: Browser, client: Registered, alice: User) -> None:
    hint = browser.tokens(client)["id_token"]
    answer = log_out(browser, id_token_hint=hint, post_logout_redirect_uri=TARGET, ui_locales="tlh fr-CA")
    assert answer.location == TARGET


@pytest.mark.spec(f"{RP} §2 b")
@pytest.mark.parametrize("decision", ["sign_out", "stay"])
def test_all_pages_are_in_the_language_that_the_request_asks_for(
    browser: Browser, client: Registered, alice: User, decision: str
) -> None:
    browser.tokens(client)
    given = {"client_id": client.id, "ui_locales": "tlh de"}
    for page in (log_out(browser, **given), browser.post("/oauth2/logout", given)):
        assert (is_confirmation(page), page.header("content-language")) == (True, "de")
    again = browser.post("/oauth2/logout", given, {**CROSS_SITE[0], "Cookie": ""})
    assert again.header("content-language") == "de"
    confirmation = browser.send(again)
    assert confirmation.header("content-language") == "de"
    assert browser.send(confirmation, decision=decision).header("content-language") == "de"


# ---- without a session


def test_redirect_without_a_session(browser: Browser, browsers: Browsers, client: Registered, alice: User) -> None:
    hint = browsers().tokens(client)["id_token"]
    for given in ({"id_token_hint": hint}, {"client_id": client.id}):
        answer = log_out(browser, **given, post_logout_redirect_uri=TARGET, state="x")
        assert answer.location == f"{TARGET}&state=x"
    assert "You are signed out" in log_out(browser).body


def test_repeated_logout_succeeds(browser: Browser, client: Registered, alice: User) -> None:
    hint = browser.tokens(client)["id_token"]
    cookies = dict(browser.cookies)
    for _ in range(2):
        browser.cookies.update(cookies)
        assert log_out(browser, id_token_hint=hint, post_logout_redirect_uri=TARGET).location == TARGET


def test_expired_session_needs_no_confirmation(site: Site, browser: Browser, client: Registered, alice: User) -> None:
    browser.tokens(client)
    site.clock.advance(site.settings.session_idle_lifetime)
    assert "You are signed out" in log_out(browser).body


def test_session_cookie_before_a_new_sign_in_is_invalid(browser: Browser, client: Registered, alice: User) -> None:
    hint = browser.tokens(client)["id_token"]
    before = dict(browser.cookies)
    browser.sign_in(browser.authorize(client, prompt="login"))
    after = dict(browser.cookies)
    browser.cookies.update(before)
    log_out(browser, id_token_hint=hint)
    browser.cookies.update(after)
    assert has_session(browser, client)


@pytest.mark.parametrize("cookie", ["", "nonsense", "sid_AAAA"])
def test_forged_cookie_is_ignored(browser: Browser, client: Registered, alice: User, cookie: str) -> None:
    browser.cookies["signet-session"] = cookie
    assert "You are signed out" in log_out(browser).body


# ---- rejected requests


@pytest.mark.spec(f"{RP} §3.1")
@pytest.mark.parametrize("uri", ["http://client.example.com/bye", "ftp://client.example.com/bye", "/bye"])
def test_post_logout_redirect_uri_must_be_https_or_a_private_use_scheme(site: Site, uri: str) -> None:
    with pytest.raises(InvalidClientMetadata, match="post_logout_redirect_uris"):
        site.client(post_logout_redirect_uris=(uri,))


UNREGISTERED = [
    "https://evil.example/",
    TARGET + "&a=b",
    TARGET + "/",
    TARGET + "#x",
    TARGET.partition("?")[0],
    TARGET.replace("https", "http"),
    TARGET.replace("client", "CLIENT"),
    TARGET.replace(".com", ".com:443"),
    "https://client.example.com/cb",
    "javascript:alert(1)",
    " " + TARGET,
]
NOT_SENT = "asked to send you to an address that is not registered for it. You are not sent there."


def is_not_sent(answer: Answer, heading: str) -> bool:
    """Return whether a page says that the post_logout_redirect_uri is not registered, without repeating it."""
    page = answer.status == 200 and answer.header("location") is None and heading in answer.body
    return page and NOT_SENT in answer.body and "evil" not in answer.body and "javascript:" not in answer.body


@pytest.mark.spec(f"{RP} §2 c", f"{RP} §3 a", f"{RP} §3 b")
@pytest.mark.parametrize("uri", UNREGISTERED)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_id_token_with_an_unregistered_uri_ends_the_session_without_a_redirect(
    site: Site,
    browser: Browser,
    client: Registered,
    alice: User,
    caplog: pytest.LogCaptureFixture,
    method: str,
    uri: str,
) -> None:
    given = {"id_token_hint": browser.tokens(client)["id_token"], "post_logout_redirect_uri": uri, "state": "x"}
    answer = log_out(browser, **given) if method == "GET" else browser.post("/oauth2/logout", given)
    assert is_not_sent(answer, "You are signed out")
    assert next_steps(answer)["Back to Photo Print"] == TARGET
    assert "signet-session" not in browser.cookies
    line = json.loads(caplog.records[-1].getMessage())
    assert (line["code"], line["client_id"]) == ("post_logout_redirect_uri_mismatch", client.id)
    assert line["detail"] == f"client {client.id} sent post_logout_redirect_uri {uri}"
    assert line["request_id"] in answer.body
    assert not has_session(browser, client)
    (session,) = sessions_of(site)
    assert session.ended_at == site.clock.time


@pytest.mark.spec(f"{RP} §2 h", f"{RP} §3 a", f"{RP} §6")
@pytest.mark.parametrize(
    ("client_id", "uri"),
    [("CLIENT", "https://evil.example/"), (None, TARGET), ("unknown", TARGET), ("OTHER", TARGET)],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unregistered_uri_without_an_id_token_requires_confirmation_and_is_not_followed(
    site: Site, browser: Browser, client: Registered, alice: User, method: str, client_id: str | None, uri: str
) -> None:
    ids = {"CLIENT": client.id, "OTHER": site.client().id}
    given = {"post_logout_redirect_uri": uri, "state": "x"}
    given |= {"client_id": ids.get(client_id, client_id)} if client_id else {}
    browser.tokens(client)
    confirmation = log_out(browser, **given) if method == "GET" else browser.post("/oauth2/logout", given)
    assert is_confirmation(confirmation)
    assert is_not_sent(confirmation, "Do you want to sign out of")
    assert (confirmation.header("content-security-policy") or "").endswith("form-action 'self'")
    assert has_session(browser, client)
    answer = browser.send(confirmation, decision="sign_out")
    assert (answer.status, answer.header("location")) == (200, None)
    assert "You are signed out" in answer.body
    assert not has_session(browser, client)


def test_unregistered_uri_in_a_browser_without_a_session_shows_the_signed_out_page(
    browser: Browser, client: Registered
) -> None:
    answer = log_out(browser, client_id=client.id, post_logout_redirect_uri="https://evil.example/")
    assert is_not_sent(answer, "You are signed out")
    assert "still signed in" not in answer.body


@pytest.mark.spec(f"{RP} §2 a", f"{RP} §2 c", f"{RP} §3 a", f"{RP} §3 b", f"{RP} §4 a", f"{RP} §4 c")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"client_id": "another"}, "issued to another client"),
        ({"client_id": "OTHER"}, "issued to another client"),
        ({"id_token_hint": "x" * 8193}, "longer than 8192"),
        ({"client_id": "x" * 129}, "longer than 128"),
        ({"post_logout_redirect_uri": "x" * 2049}, "longer than 2048"),
        ({"state": "x" * 4097}, "longer than 4096"),
        ({"state": "x" * 3000 + "ü" * 600}, "longer than 4096 bytes"),
        ({"state": "\U0001f600" * 1000}, "longer than 8192 characters when encoded"),
        ({"state": "a\r\nSet-Cookie: x=y"}, "control character"),
        ({"logout_hint": "x" * 321}, "longer than 320"),
        ({"ui_locales": "en\0"}, "control character"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_invalid_request_shows_an_error_and_keeps_the_session(
    site: Site,
    browser: Browser,
    client: Registered,
    alice: User,
    method: str,
    changed: dict[str, str | None],
    message: str,
) -> None:
    other = site.client()
    right = {"id_token_hint": browser.tokens(client)["id_token"], "post_logout_redirect_uri": TARGET, "state": "x"}
    given = {name: other.id if value == "OTHER" else value for name, value in (right | changed).items() if value}
    answer = log_out(browser, **given) if method == "GET" else browser.post("/oauth2/logout", given)
    assert answer.status == 400, answer.body
    assert answer.header("location") is None
    assert message in answer.body
    assert next_steps(answer) == {"Sign out here": "/oauth2/logout", "Your account": "/account"}
    assert has_session(browser, client)


@pytest.mark.parametrize("name", ["id_token_hint", "client_id", "post_logout_redirect_uri", "state", "ui_locales"])
def test_repeated_parameter_is_rejected(browser: Browser, client: Registered, alice: User, name: str) -> None:
    hint = browser.tokens(client)["id_token"]
    pairs = [("id_token_hint", hint), ("post_logout_redirect_uri", TARGET), (name, TARGET), (name, TARGET)]
    answer = browser.request("GET", f"/oauth2/logout?{urlencode(pairs)}")
    assert answer.status == 400
    assert f"{name} is repeated" in answer.body
    assert has_session(browser, client)


def test_body_that_is_not_a_utf_8_form_is_rejected(browser: Browser, client: Registered, alice: User) -> None:
    browser.tokens(client)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert browser.request("POST", "/oauth2/logout", b"state=%ff", form).status == 400
    assert browser.request("POST", "/oauth2/logout", b"{}", {"Content-Type": "application/json"}).status == 400
    assert has_session(browser, client)


def test_disabled_client_is_not_redirected_to(site: Site, browser: Browser, client: Registered, alice: User) -> None:
    hint = browser.tokens(client)["id_token"]
    site.server.store.clients.put(replace(client.record, disabled_at=1))
    site.clock.advance(60)
    confirmation = log_out(browser, id_token_hint=hint, post_logout_redirect_uri=TARGET)
    assert is_confirmation(confirmation)
    assert is_not_sent(confirmation, "Do you want to sign out of")
    assert is_confirmation(log_out(browser, id_token_hint=hint))


def test_redirect_uri_registered_a_moment_ago_is_accepted(
    site: Site, browser: Browser, client: Registered, alice: User
) -> None:
    hint = browser.tokens(client)["id_token"]
    new = "https://client.example.com/new"
    site.server.store.clients.put(replace(client.record, post_logout_redirect_uris=(new,)))
    assert log_out(browser, id_token_hint=hint, post_logout_redirect_uri=new).location == new


# ---- requests of other sites

EMBEDDED = {
    "an image": {"Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors"},
    "a frame": {"Sec-Fetch-Dest": "iframe", "Sec-Fetch-Mode": "navigate"},
    "a script's request": {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Mode": "cors"},
    "a style sheet": {"Sec-Fetch-Dest": "style", "Sec-Fetch-Mode": "no-cors"},
}


@pytest.mark.spec(f"{RP} §6")
@pytest.mark.parametrize("how", EMBEDDED)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_embedded_request_is_rejected(browser: Browser, client: Registered, alice: User, how: str, method: str) -> None:
    """Also with an ID token: a page of the same site could have it, and its requests carry the Lax cookie."""
    given = {"id_token_hint": browser.tokens(client)["id_token"]}
    headers = EMBEDDED[how] | {"Sec-Fetch-Site": "same-site"}
    answer = log_out(browser, headers, **given) if method == "GET" else browser.post("/oauth2/logout", given, headers)
    assert answer.status == 400
    assert "top-level navigation" in answer.body
    assert has_session(browser, client)


def test_cross_site_link_without_a_hint_requires_confirmation(
    browser: Browser, client: Registered, alice: User
) -> None:
    browser.tokens(client)
    link = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "cross-site"}
    assert is_confirmation(log_out(browser, link, client_id=client.id, post_logout_redirect_uri=TARGET))
    assert has_session(browser, client)


CROSS_SITE = [
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate"},
    {"Origin": "https://client.example.com"},
    {"Origin": "null"},
]


@pytest.mark.spec(f"{RP} §2 c")
@pytest.mark.parametrize("headers", CROSS_SITE, ids=["Sec-Fetch-Site", "Origin", "null origin"])
def test_cross_site_post_is_sent_again_from_a_page_with_cookies(
    browser: Browser, client: Registered, alice: User, headers: dict[str, str]
) -> None:
    hint = browser.tokens(client)["id_token"]
    given = {"id_token_hint": hint, "post_logout_redirect_uri": TARGET, "state": "x", "unknown": "y"}
    page = browser.post("/oauth2/logout", given, {**headers, "Cookie": ""})
    assert page.status == 200
    assert "set-cookie" not in {name.lower() for name, _ in page.headers}
    assert page.form.action == "/oauth2/logout"
    assert page.form.fields == {name: given[name] for name in ("id_token_hint", "post_logout_redirect_uri", "state")}
    # Browsers also apply `form-action` to the redirect after the form.
    assert "form-action 'self' https:" in (page.header("content-security-policy") or "").split("; ")
    assert has_session(browser, client)
    answer = browser.send(page)
    assert (answer.status, answer.location) == (303, f"{TARGET}&state=x")
    assert not has_session(browser, client)


def test_cross_site_post_without_a_hint_requires_confirmation(
    browser: Browser, client: Registered, alice: User
) -> None:
    browser.tokens(client)
    page = browser.post("/oauth2/logout", {"client_id": client.id}, {**CROSS_SITE[0], "Cookie": ""})
    confirmation = browser.send(page)
    assert is_confirmation(confirmation)
    assert browser.send(confirmation, decision="sign_out").status == 200
    assert not has_session(browser, client)


def test_cross_site_post_without_a_session_redirects(browser: Browser, client: Registered) -> None:
    given = {"client_id": client.id, "post_logout_redirect_uri": TARGET}
    page = browser.post("/oauth2/logout", given, CROSS_SITE[0])
    assert browser.send(page).location == TARGET


@pytest.mark.spec(f"{RP} §2 c")
def test_same_site_post_is_answered_directly(browser: Browser, client: Registered, alice: User) -> None:
    """The request comes from another host of the same site, or from a program, and carries the cookie."""
    for headers in ({"Sec-Fetch-Site": "same-site"}, {}):
        given = {"id_token_hint": browser.tokens(client)["id_token"], "post_logout_redirect_uri": TARGET}
        assert browser.post("/oauth2/logout", given, headers).location == TARGET
        assert not has_session(browser, client)


@pytest.mark.parametrize("headers", [*CROSS_SITE, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "none"}])
def test_confirmation_sent_by_another_site_is_rejected(
    browser: Browser, client: Registered, alice: User, headers: dict[str, str]
) -> None:
    browser.tokens(client)
    confirmation = log_out(browser)
    answer = browser.post("/oauth2/logout", confirmation.form.fields | {"decision": "sign_out"}, headers)
    assert answer.status == 400
    assert has_session(browser, client)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"tag": "nonsense"}, 400),
        ({"tag": ""}, 400),
        ({"decision": "maybe"}, 400),
        ({"decision": ""}, 400),
    ],
)
def test_changed_confirmation_is_rejected(
    browser: Browser, client: Registered, alice: User, changed: dict[str, Any], status: int
) -> None:
    browser.tokens(client)
    confirmation = log_out(browser, client_id=client.id, post_logout_redirect_uri=TARGET)
    answer = browser.send(confirmation, **({"decision": "sign_out"} | changed))
    assert answer.status == status
    assert answer.header("location") is None
    assert has_session(browser, client)


@pytest.mark.parametrize("changed", [{"post_logout_redirect_uri": "https://evil.example/"}, {"client_id": "unknown"}])
def test_confirmation_with_an_unregistered_uri_signs_out_without_a_redirect(
    browser: Browser, client: Registered, alice: User, changed: dict[str, Any]
) -> None:
    browser.tokens(client)
    confirmation = log_out(browser, client_id=client.id, post_logout_redirect_uri=TARGET)
    answer = browser.send(confirmation, decision="sign_out", **changed)
    assert is_not_sent(answer, "You are signed out")
    assert not has_session(browser, client)


def test_confirmation_of_another_session_is_rejected(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, alice: User
) -> None:
    other = browsers()
    other.tokens(client)
    browser.tokens(client)
    assert browser.send(log_out(other), decision="sign_out").status == 400
    assert has_session(browser, client)
    assert has_session(other, client)


def test_confirmation_after_the_session_has_ended_redirects(browser: Browser, client: Registered, alice: User) -> None:
    hint = browser.tokens(client)["id_token"]
    confirmation = log_out(browser, client_id=client.id, post_logout_redirect_uri=TARGET)
    cookies = dict(browser.cookies)
    log_out(browser, id_token_hint=hint)
    for sent in ({}, cookies):
        browser.cookies.update(sent)
        assert browser.send(confirmation, decision="sign_out").location == TARGET
