"""Signing in with a passkey, on the ordinary sign-in form."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest

from chalicelib.authentication.passkey_options import LIFETIME, for_second_factor
from chalicelib.authentication.passkey_sign_in import second_factor_options, usable_passkeys, verify_passkey_of
from chalicelib.authentication.passkeys import PasskeyError
from chalicelib.http.messages import Request
from chalicelib.protocol.handles import base64url, from_base64url
from chalicelib.protocol.passkey import Passkey, passkey_id_of
from chalicelib.protocol.records import User
from chalicelib.users import accounts
from tests.support.account import open_sign_in, shows_account_of, sign_in_to_account
from tests.support.authenticator import (
    BE,
    BS,
    ED,
    ES,
    RS,
    SYNCED,
    UP,
    UV,
    Authenticator,
    add_passkey,
    options_of,
    send_passkey,
    sign_in_with_passkey,
    user_with_passkey,
)
from tests.support.browser import Answer, Browser
from tests.support.site import PASSWORD, Registered, Site
from tests.support.threads import run_concurrently


def passkey_of(site: Site, user: User) -> Passkey:
    (passkey,) = site.server.store.passkeys.find("sub", user.sub)
    return passkey


def problem_of(browser: Browser, answer: Answer) -> str:
    """Return the problem that the page after a redirect shows."""
    assert answer.status == 303, answer.body
    page = browser.get(answer.location)
    assert page.status == 400, page.body
    assert "data-passkey=" in page.body, "the next page offers passkeys again"
    return page.body.partition('id="problem" role="alert">')[2].partition("<")[0]


@pytest.mark.parametrize("alg", [ES, ED, RS])
def test_a_passkey_signs_in_and_its_tokens_say_how(local: Site, browser: Browser, client: Registered, alg: int) -> None:
    user = local.user("alice")
    authenticator = Authenticator(local.settings.issuer, alg=alg)
    user_with_passkey(browser, authenticator)
    answer = sign_in_with_passkey(browser, browser.authorize(client), authenticator)
    tokens = browser.redeem(client, answer.code).json
    claims = jwt.decode(tokens["id_token"], options={"verify_signature": False})
    assert (claims["sub"], claims["amr"]) == (user.sub, ["pop", "user", "mfa"])
    passkey = passkey_of(local, user)
    assert (passkey.alg, passkey.rp_id, passkey.last_used_at) == (alg, "localhost", local.clock.time)
    assert (passkey.user_verified, passkey.backup_eligible, passkey.backed_up) == (True, True, True)


def test_sign_in_options_name_no_passkey_and_no_user(browser: Browser, alice: User, client: Registered) -> None:
    page = browser.authorize(client, login_hint="alice")
    options = options_of(page)
    assert options.keys() == {"challenge", "rpId", "timeout", "userVerification", "ownDomain"}
    assert not options["ownDomain"], "all local servers share localhost"
    assert (options["rpId"], options["userVerification"]) == ("localhost", "required")
    assert len(from_base64url(options["challenge"])) == 36
    assert 'autocomplete="username webauthn"' in page.body
    assert options_of(browser.authorize(client))["challenge"] != options["challenge"], "each page has its own challenge"


def test_a_user_signs_in_to_the_account_page(browser: Browser, alice: User, authenticator: Authenticator) -> None:
    assert sign_in_with_passkey(browser, open_sign_in(browser), authenticator).status == 303
    assert shows_account_of(browser, "alice")


def test_a_password_sign_in_afterwards_is_recorded_as_one(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator, client: Registered
) -> None:
    sign_in_with_passkey(browser, browser.authorize(client), authenticator)
    page = browser.authorize(client, prompt="login")
    answer = browser.send(page, username="alice", password=PASSWORD)
    claims = jwt.decode(browser.redeem(client, answer.code).json["id_token"], options={"verify_signature": False})
    assert claims["amr"] == ["pwd"]


def test_remembered_consent_counts_after_a_passkey(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator
) -> None:
    client = local.client()
    answer = sign_in_with_passkey(browser, browser.authorize(client), authenticator)
    assert "request_uri" in parse_qs(urlsplit(answer.location).query), "consent is asked for after a redirect"
    assert browser.submit(browser.get(answer.location), decision="allow_always").code
    browser.cookies.clear()
    assert sign_in_with_passkey(browser, browser.authorize(client), authenticator).code


def test_a_sign_in_is_in_the_history_and_makes_the_browser_known(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator, client: Registered
) -> None:
    sign_in_with_passkey(browser, browser.authorize(client), authenticator)
    events = list(local.server.store.events.find("sub", alice.sub))
    assert ("sign_in", "passkey") in {(event.name, event.detail) for event in events}
    records = local.server.store.attempts.scan()
    assert any(getattr(record, "generation", None) == alice.password_generation for record in records)


def test_another_user_of_this_browser_is_signed_out(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator, client: Registered
) -> None:
    local.user("bob")
    sign_in_to_account(browser, "bob")
    (session,) = [each for each in local.server.store.sessions.scan() if each.sub != alice.sub]
    page = browser.authorize(client, prompt="login")
    assert sign_in_with_passkey(browser, page, authenticator).code
    ended = local.server.store.sessions.get(session.session_id)
    assert ended is not None
    assert ended.ended_at is not None
    assert shows_account_of(browser, "alice")


# ---- refusals: (what is changed in the answer, the text that the page shows)

NOT_VERIFIED = "The passkey could not be verified. Try again, or sign in in another way."
UNKNOWN = "This passkey does not belong to an account here. Sign in in another way."
EXPIRED = "This took too long, or the passkey was used already. Please try again."
COPIED = "This passkey may have been copied, so it was rejected. Sign in in another way."


def flip(text: str, place: int = -1) -> str:
    """Return base64url in which one byte is changed."""
    data = bytearray(from_base64url(text))
    data[place] ^= 1
    return base64url(bytes(data))


REFUSALS: dict[str, tuple[Callable[[Authenticator, dict[str, Any]], Any], str]] = {
    "no JSON": (lambda a, o: "x", NOT_VERIFIED),
    "a list": (lambda a, o: "[]", NOT_VERIFIED),
    "nested 4,000 deep": (lambda a, o: "[" * 4000, NOT_VERIFIED),
    "too long": (lambda a, o: a.get(o) | {"signature": "A" * 20_000}, NOT_VERIFIED),
    "another member": (lambda a, o: a.get(o) | {"x": ""}, NOT_VERIFIED),
    "a missing member": (lambda a, o: {k: v for k, v in a.get(o).items() if k != "signature"}, NOT_VERIFIED),
    "a repeated member": (lambda a, o: json.dumps(a.get(o))[:-1] + ', "id": "AA"}', NOT_VERIFIED),
    "a number": (lambda a, o: a.get(o) | {"signature": 1}, NOT_VERIFIED),
    "no base64url": (lambda a, o: a.get(o) | {"signature": "+"}, NOT_VERIFIED),
    "an empty id": (lambda a, o: a.get(o) | {"id": ""}, NOT_VERIFIED),
    "an id that is too long": (lambda a, o: a.get(o) | {"id": base64url(bytes(1024))}, NOT_VERIFIED),
    "an unknown id": (lambda a, o: a.get(o) | {"id": base64url(bytes(32))}, UNKNOWN),
    "no user": (lambda a, o: a.get(o) | {"userHandle": ""}, UNKNOWN),
    "another user": (lambda a, o: a.get(o) | {"userHandle": base64url(b"u-1")}, UNKNOWN),
    "a user that is no text": (lambda a, o: a.get(o) | {"userHandle": base64url(b"\xff")}, UNKNOWN),
    "a user with a NUL": (lambda a, o: a.get(o) | {"userHandle": base64url(b"\0")}, UNKNOWN),
    "a wrong signature": (lambda a, o: a.get(o) | {"signature": flip(a.get(o)["signature"])}, NOT_VERIFIED),
    "an empty signature": (lambda a, o: a.get(o) | {"signature": ""}, NOT_VERIFIED),
    "other authenticator data": (lambda a, o: _with(a.get(o), "authenticatorData", flip), NOT_VERIFIED),
    "short authenticator data": (lambda a, o: a.get(o) | {"authenticatorData": base64url(bytes(36))}, NOT_VERIFIED),
    "another type": (lambda a, o: a.get(o, type="webauthn.create"), NOT_VERIFIED),
    "another origin": (lambda a, o: a.get(o, origin="https://evil.example.com"), NOT_VERIFIED),
    "an origin with a slash": (lambda a, o: a.get(o, origin=a.origin + "/"), NOT_VERIFIED),
    "a subdomain": (lambda a, o: a.get(o, origin=a.origin.replace("//", "//x.")), NOT_VERIFIED),
    "an origin that is a list": (lambda a, o: a.get(o, origin=[a.origin]), NOT_VERIFIED),
    "cross origin": (lambda a, o: a.get(o, crossOrigin=True), NOT_VERIFIED),
    "a top origin": (lambda a, o: a.get(o, topOrigin=a.origin), NOT_VERIFIED),
    "no challenge": (lambda a, o: a.get(o, challenge=None), NOT_VERIFIED),
    "another challenge": (lambda a, o: a.get(o, challenge=base64url(bytes(36))), EXPIRED),
    "a changed challenge": (lambda a, o: a.get(o, challenge=flip(o["challenge"], 17)), EXPIRED),
    "a longer challenge": (lambda a, o: a.get(o, challenge=o["challenge"] + "AA"), EXPIRED),
    "user not present": (lambda a, o: a.get(o, flags=SYNCED & ~UP), NOT_VERIFIED),
    "user not verified": (lambda a, o: a.get(o, flags=SYNCED & ~UV), NOT_VERIFIED),
    "backed up, and cannot be": (lambda a, o: a.get(o, flags=UP | UV | BS), NOT_VERIFIED),
    "can no longer be backed up": (lambda a, o: a.get(o, flags=UP | UV), NOT_VERIFIED),
    "another domain": (lambda a, o: _of_domain(a, o, "example.com"), NOT_VERIFIED),
}


def _with(answer: dict[str, Any], name: str, change: Callable[[str], str]) -> dict[str, Any]:
    return answer | {name: change(answer[name])}


def _of_domain(authenticator: Authenticator, options: dict[str, Any], rp_id: str) -> dict[str, Any]:
    return authenticator.get(options, credential=replace(authenticator.credentials[-1], rp_id=rp_id))


@pytest.mark.parametrize("case", REFUSALS)
def test_answers_that_are_not_valid_are_refused(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator, case: str
) -> None:
    change, text = REFUSALS[case]
    page = open_sign_in(browser)
    before = passkey_of(local, alice)
    answer = change(authenticator, options_of(page))
    assert problem_of(browser, send_passkey(browser, page, answer)) == text
    assert "signet-session" not in browser.cookies
    assert passkey_of(local, alice) == before


def test_a_challenge_is_valid_for_five_minutes(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator
) -> None:
    page = open_sign_in(browser)
    local.clock.advance(LIFETIME - 1)
    answer = authenticator.get(options_of(page))
    local.clock.advance(1)
    assert problem_of(browser, send_passkey(browser, page, answer)) == EXPIRED
    local.clock.advance(-1)
    assert send_passkey(browser, page, answer).status == 303
    assert shows_account_of(browser, "alice")


def test_a_challenge_of_another_browser_or_request_is_refused(
    local: Site, browser: Browser, browsers: Any, alice: User, authenticator: Authenticator, client: Registered
) -> None:
    other = options_of(open_sign_in(browsers(local)))
    assert problem_of(browser, send_passkey(browser, open_sign_in(browser), authenticator.get(other))) == EXPIRED
    of_another_request = options_of(browser.authorize(client))
    answer = authenticator.get(of_another_request)
    assert problem_of(browser, send_passkey(browser, open_sign_in(browser), answer)) == EXPIRED


def test_a_challenge_of_a_new_passkey_does_not_sign_in(
    local: Site, browser: Browser, authenticator: Authenticator
) -> None:
    local.user("alice")
    sign_in_to_account(browser)
    add_passkey(browser, authenticator)
    creation = options_of(browser.get("/account/passkeys"), "data-new-passkey")
    page = browser.get("/oauth2/authorize", client_id="account", response_type="code", prompt="login")
    assert problem_of(browser, send_passkey(browser, page, authenticator.get(creation))) == EXPIRED


def test_an_answer_is_used_once(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator, client: Registered
) -> None:
    page = browser.authorize(client)
    answer = authenticator.get(options_of(page))
    assert send_passkey(browser, page, answer).code
    local.clock.advance(61)  # then it is no longer the second press of a button
    again = send_passkey(browser, page, answer)
    assert again.status == 400
    assert "already answered" in again.body


def test_a_spent_challenge_is_refused_with_another_form(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator
) -> None:
    page = open_sign_in(browser)
    answer = authenticator.get(options_of(page))
    assert send_passkey(browser, page, answer).status == 303
    local.clock.advance(61)
    del browser.cookies["signet-session"]
    assert problem_of(browser, send_passkey(browser, page, answer)) == EXPIRED
    assert "signet-session" not in browser.cookies


def test_the_same_form_sent_twice_signs_in_once(
    local: Site, browser: Browser, browsers: Any, alice: User, authenticator: Authenticator, client: Registered
) -> None:
    page = browser.authorize(client)
    answer = authenticator.get(options_of(page))
    tabs = [browsers(tab_of=browser) for _ in range(2)]
    answers = run_concurrently([partial(send_passkey, tab, page, answer) for tab in tabs])
    assert [each.status for each in answers] == [303, 303] or [bool(each.code) for each in answers] == [True, True]
    sessions = [each for each in local.server.store.sessions.scan() if each.amr != ("pwd",)]
    assert len(sessions) == 1
    names = [event.name for event in local.server.store.events.find("sub", alice.sub)]
    assert names.count("sign_in") == 2, "of the password, to add the passkey, and of the passkey"


def test_two_browsers_do_not_share_an_answer(
    local: Site, browser: Browser, browsers: Any, alice: User, authenticator: Authenticator
) -> None:
    page = open_sign_in(browser)
    answer = authenticator.get(options_of(page))
    thief = browsers(local)
    own = open_sign_in(thief)
    assert problem_of(thief, send_passkey(thief, own, answer)) == EXPIRED
    assert send_passkey(browser, page, answer).status == 303
    assert shows_account_of(browser, "alice")


# ---- the signature counter


@pytest.mark.parametrize(("flags", "accepted"), [(SYNCED, True), (UP | UV, False)])
def test_a_counter_that_does_not_increase_is_an_event_and_refused_unless_the_passkey_can_be_copied(
    local: Site, browser: Browser, flags: int, accepted: bool
) -> None:
    user = local.user("alice")
    authenticator = Authenticator(local.settings.issuer, flags)
    user_with_passkey(browser, authenticator)
    credential = authenticator.credentials[-1]
    credential.counts, credential.count = True, 6
    assert sign_in_with_passkey(browser, open_sign_in(browser), authenticator).status == 303
    assert passkey_of(local, user).sign_count == 7
    browser.cookies.clear()
    credential.count = 6  # the next use has 7 again
    answer = sign_in_with_passkey(browser, open_sign_in(browser), authenticator)
    if accepted:
        assert shows_account_of(browser, "alice")
    else:
        assert problem_of(browser, answer) == COPIED
    assert passkey_of(local, user).sign_count == 7
    events = [
        event.detail for event in local.server.store.events.find("sub", user.sub) if event.name == "passkey_counter"
    ]
    assert events == [f"Passkey, {'accepted' if accepted else 'rejected'}"]


def test_of_two_copies_with_the_same_counter_one_signs_in(local: Site, browsers: Any, browser: Browser) -> None:
    user = local.user("alice")
    authenticator = Authenticator(local.settings.issuer, UP | UV)
    user_with_passkey(browser, authenticator)
    credential = authenticator.credentials[-1]
    credential.counts = True
    tabs = [browsers(local) for _ in range(2)]
    pages = [open_sign_in(tab) for tab in tabs]
    answers = []
    for page in pages:
        credential.count = 4
        answers.append(authenticator.get(options_of(page)))
    jobs = zip(tabs, pages, answers, strict=True)
    run_concurrently([partial(send_passkey, *job) for job in jobs])
    assert [shows_account_of(tab, "alice") for tab in tabs].count(True) == 1
    assert passkey_of(local, user).sign_count == 5


# ---- the user and the passkey


def test_a_disabled_user_cannot_sign_in(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator
) -> None:
    page = open_sign_in(browser)
    accounts.disable(local.server.store, alice)
    assert problem_of(browser, sign_in_with_passkey(browser, page, authenticator)) == NOT_VERIFIED


def test_a_removed_passkey_is_unknown(local: Site, browser: Browser, alice: User, authenticator: Authenticator) -> None:
    page = open_sign_in(browser)
    local.server.store.passkeys.delete(alice.sub, passkey_id_of(authenticator.credentials[-1].id))
    answer = sign_in_with_passkey(browser, page, authenticator)
    assert problem_of(browser, answer) == UNKNOWN


def test_another_user_than_the_hinted_one_is_not_signed_in(
    local: Site, browser: Browser, browsers: Any, alice: User, authenticator: Authenticator, client: Registered
) -> None:
    local.user("bob")
    other = browsers(local)
    sign_in = other.send(other.authorize(client), username="bob", password=PASSWORD)
    hint = other.redeem(client, sign_in.code).json["id_token"]
    page = browser.authorize(client, id_token_hint=hint)
    answer = sign_in_with_passkey(browser, page, authenticator)
    assert answer.answer["error"] == "login_required"
    assert "signet-session" not in browser.cookies


def test_a_user_who_must_change_the_password_is_asked_to(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator, client: Registered
) -> None:
    local.server.store.users.put(replace(local.read_user(), password_change_required=True))
    answer = sign_in_with_passkey(browser, browser.authorize(client), authenticator)
    assert "new_password" in browser.get(answer.location).form.fields


def test_passkeys_of_an_address_are_not_offered(site: Site, browsers: Any) -> None:
    browser = browsers(site)
    site.user("alice")
    page = open_sign_in(browser)
    assert "data-passkey" not in page.body
    assert 'autocomplete="username"' in page.body
    answer = send_passkey(browser, page, "{}")
    shown = browser.get(answer.location)
    assert "Passkeys cannot be used here." in shown.body


# ---- as a second factor


def test_a_passkey_is_a_second_factor_without_user_verification(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator
) -> None:
    purpose = for_second_factor("a browser", "a request", alice.sub)
    options = json.loads(second_factor_options(local.server, usable_passkeys(local.server, alice.sub), purpose))
    (allowed,) = options["allowCredentials"]
    assert from_base64url(allowed["id"]) == authenticator.credentials[-1].id
    assert (allowed["transports"], options["userVerification"]) == (["internal", "hybrid"], "preferred")
    http = Request("POST", "/oauth2/code")
    answer = authenticator.get(options, flags=UP | BE | BS)
    verified = verify_passkey_of(local.server, http, alice, json.dumps(answer), purpose)
    assert (verified.user, verified.use.user_verified) == (alice, False)
    assert local.server.store.transact(*verified.writes) is None
    again = verify_passkey_of(local.server, http, alice, json.dumps(answer), purpose)
    assert local.server.store.transact(*again.writes) is not None, "its challenge is spent"


def test_a_second_factor_belongs_to_its_user_and_request(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator
) -> None:
    bob = local.user("bob")
    http, purpose = Request("POST", "/oauth2/code"), for_second_factor("browser", "request", alice.sub)
    options = json.loads(second_factor_options(local.server, usable_passkeys(local.server, alice.sub), purpose))
    answer = json.dumps(authenticator.get(options))
    for user, other in [
        (bob, for_second_factor("browser", "request", bob.sub)),
        (alice, for_second_factor("browser", "another request", alice.sub)),
        (alice, for_second_factor("another browser", "request", alice.sub)),
    ]:
        with pytest.raises(PasskeyError):
            verify_passkey_of(local.server, http, user, answer, other)
    assert second_factor_options(local.server, usable_passkeys(local.server, bob.sub), purpose) == ""
