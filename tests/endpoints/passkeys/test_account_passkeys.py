"""/account/passkeys: adding, renaming and removing a passkey."""

import html
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from chalicelib.authentication.passkeys import PasskeyError
from chalicelib.http.messages import Request
from chalicelib.protocol.handles import base64url, from_base64url
from chalicelib.protocol.next_step import RECENT_ELSEWHERE, SignedInUser
from chalicelib.protocol.passkey import MAX_PASSKEYS, Passkey, passkey_id_of, passkey_identifier
from chalicelib.protocol.records import Identifier, Session, User
from chalicelib.users import accounts, passkeys
from tests.support.account import sign_in_to_account
from tests.support.authenticator import (
    AT,
    BS,
    SYNCED,
    UP,
    UV,
    Authenticator,
    add_passkey,
    options_of,
    passkey_site,
    post_passkeys,
)
from tests.support.browser import Answer, Browser
from tests.support.faults import Wire
from tests.support.site import PASSWORD, Site
from tests.support.threads import run_concurrently

NOT_VERIFIED = "The passkey could not be verified."
EXPIRED = "This took too long, or the passkey was used already."


@pytest.fixture
def user(local: Site, browser: Browser) -> User:
    """A user who has just signed in to the account page."""
    created = local.user("alice", claims={"name": "Alice Liddell"})
    sign_in_to_account(browser)
    return created


def passkeys_of(site: Site, user: User) -> list[Passkey]:
    return passkeys.list_passkeys(site.server.store, user.sub)


def events_of(site: Site, user: User) -> list[tuple[str, str | None]]:
    events = site.server.store.events.find("sub", user.sub)
    return [(event.name, event.detail) for event in events if event.name.startswith("passkey")]


def new_options(browser: Browser) -> dict[str, Any]:
    return options_of(browser.get("/account/passkeys"), "data-new-passkey")


def send_new(browser: Browser, answer: dict[str, Any] | str, name: str = "") -> Answer:
    return post_passkeys(browser, "add", passkey=answer if isinstance(answer, str) else json.dumps(answer), name=name)


def test_options_ask_for_a_passkey_of_this_user_and_exclude_those_that_exist(
    local: Site, browser: Browser, user: User, authenticator: Authenticator
) -> None:
    options = new_options(browser)
    assert options["rp"] == {"id": "localhost", "name": "Signet"}
    assert from_base64url(options["user"]["id"]).decode() == user.sub
    assert (options["user"]["name"], options["user"]["displayName"]) == ("alice", "Alice Liddell")
    assert [each["alg"] for each in options["pubKeyCredParams"]] == [-8, -7, -257]
    assert options["authenticatorSelection"] == {
        "residentKey": "required",
        "requireResidentKey": True,
        "userVerification": "required",
    }
    assert (options["attestation"], options["excludeCredentials"], options["timeout"]) == ("none", [], 300_000)
    add_passkey(browser, authenticator)
    (excluded,) = new_options(browser)["excludeCredentials"]
    assert from_base64url(excluded["id"]) == authenticator.credentials[-1].id


def test_a_passkey_is_added_once_with_its_identifier_and_event(
    local: Site, browser: Browser, user: User, authenticator: Authenticator
) -> None:
    answer = add_passkey(browser, authenticator, name="  My phone ")
    assert answer.location == "/account/passkeys?done=passkey_added"
    assert "Your passkey is added." in browser.get(answer.location).body
    (passkey,) = passkeys_of(local, user)
    credential_id = authenticator.credentials[-1].id
    assert (passkey.passkey_id, passkey.credential_id) == (passkey_id_of(credential_id), base64url(credential_id))
    assert (passkey.name, passkey.created_at, passkey.last_used_at) == ("My phone", local.clock.time, None)
    assert passkey.transports == ("internal", "hybrid")
    key = passkey_identifier(passkey.passkey_id)
    assert local.server.store.identifiers.get(key) == Identifier(key, user.sub)
    assert events_of(local, user) == [("passkey_added", "My phone")]
    assert "Passkey added: My phone" in browser.get("/account/activity").body


def test_a_passkey_without_a_name_is_named_after_the_browser(
    local: Site, browser: Browser, user: User, authenticator: Authenticator
) -> None:
    answer = json.dumps(authenticator.create(new_options(browser)))
    tag = browser.get("/account/password").form.fields["tag"]
    firefox = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"}
    form = {"tag": tag, "action": "add", "passkey": answer}
    browser.post("/account/passkeys", form, {"Sec-Fetch-Site": "same-origin", **firefox})
    assert [passkey.name for passkey in passkeys_of(local, user)] == ["Firefox on Linux"]


REFUSALS: dict[str, tuple[Callable[[Authenticator, dict[str, Any]], Any], str]] = {
    "nothing": (lambda a, o: "", NOT_VERIFIED),
    "no JSON": (lambda a, o: "{", NOT_VERIFIED),
    "another member": (lambda a, o: a.create(o) | {"x": ""}, NOT_VERIFIED),
    "transports that are no list": (lambda a, o: a.create(o) | {"transports": "internal"}, NOT_VERIFIED),
    "too many transports": (lambda a, o: a.create(o) | {"transports": ["usb"] * 11}, NOT_VERIFIED),
    "no CBOR": (lambda a, o: a.create(o) | {"attestationObject": base64url(b"\xff")}, NOT_VERIFIED),
    "CBOR that is no map": (lambda a, o: a.create(o) | {"attestationObject": base64url(b"\x01")}, NOT_VERIFIED),
    "nested CBOR": (lambda a, o: a.create(o) | {"attestationObject": base64url(b"\x81" * 9000)}, NOT_VERIFIED),
    "no key": (lambda a, o: a.attestation(_credential(a, o), o, SYNCED), NOT_VERIFIED),
    "another origin": (lambda a, o: a.create(o, origin="https://evil.example.com"), NOT_VERIFIED),
    "another type": (lambda a, o: a.create(o, type="webauthn.get"), NOT_VERIFIED),
    "in a frame": (lambda a, o: a.create(o, crossOrigin=True), NOT_VERIFIED),
    "another challenge": (lambda a, o: a.create(o, challenge=base64url(bytes(36))), EXPIRED),
    "another domain": (lambda a, o: a.create(o | {"rp": {"id": "example.com"}}), NOT_VERIFIED),
    "user not present": (lambda a, o: a.create(o, flags=SYNCED & ~UP), NOT_VERIFIED),
    "user not verified": (lambda a, o: a.create(o, flags=SYNCED & ~UV), NOT_VERIFIED),
    "backed up, and cannot be": (lambda a, o: a.create(o, flags=UP | UV | BS), NOT_VERIFIED),
    "an algorithm that was not offered": (lambda a, o: _with_key(a, o, {3: -35}), NOT_VERIFIED),
    "a point that is not on the curve": (lambda a, o: _with_key(a, o, {-2: bytes(32), -3: bytes(32)}), NOT_VERIFIED),
    "another curve": (lambda a, o: _with_key(a, o, {-1: 2}), NOT_VERIFIED),
    "another key type": (lambda a, o: _with_key(a, o, {1: 3}), NOT_VERIFIED),
    "a short RSA key": (
        lambda a, o: _with_key(a, o, {1: 3, 3: -257, -1: b"\xff" * 128, -2: b"\1\0\1"}),
        NOT_VERIFIED,
    ),
}


def _credential(authenticator: Authenticator, options: dict[str, Any]) -> Any:
    authenticator.create(options)
    return authenticator.credentials[-1]


def _with_key(authenticator: Authenticator, options: dict[str, Any], changes: dict[int, Any]) -> dict[str, Any]:
    credential = _credential(authenticator, options)
    key = type(credential.public_key)({**credential.public_key, **changes})
    return authenticator.attestation(replace(credential, public_key=key), options, SYNCED | AT)


@pytest.mark.parametrize("case", REFUSALS)
def test_answers_that_are_not_valid_add_nothing(
    local: Site, browser: Browser, user: User, authenticator: Authenticator, case: str
) -> None:
    change, text = REFUSALS[case]
    answer = send_new(browser, change(authenticator, new_options(browser)))
    assert (answer.status, text in answer.body) == (400, True), answer.body
    assert passkeys_of(local, user) == []
    assert events_of(local, user) == []


def test_a_passkey_is_added_only_soon_after_a_sign_in(
    local: Site, browser: Browser, user: User, authenticator: Authenticator
) -> None:
    answer = authenticator.create(new_options(browser))
    local.clock.advance(RECENT_ELSEWHERE + 1)
    page = browser.get("/account/passkeys")
    assert "data-new-passkey" not in page.body
    assert "Sign in again to add a passkey" in page.body
    late = send_new(browser, answer)
    assert (late.status, "Sign in again before you add a passkey." in late.body) == (400, True)
    link = html.unescape(page.body.partition('<a class="button" href="')[2].partition('"')[0])
    signed_in = browser.send(browser.get(link), username="alice", password=PASSWORD)
    assert signed_in.location == f"{local.settings.issuer}/account/passkeys"
    assert add_passkey(browser, authenticator).status == 303


def test_a_challenge_is_used_once_and_only_in_its_session(
    local: Site, browser: Browser, browsers: Any, user: User, authenticator: Authenticator
) -> None:
    options = new_options(browser)
    assert send_new(browser, authenticator.create(options)).status == 303
    second = send_new(browser, authenticator.create(options))
    assert (second.status, "This passkey was added already." in second.body) == (400, True)
    other = browsers(local)
    sign_in_to_account(other)
    assert EXPIRED in send_new(other, authenticator.create(new_options(browser))).body
    assert len(passkeys_of(local, user)) == 1


def test_the_same_answer_sent_twice_adds_one_passkey(
    local: Site, browser: Browser, browsers: Any, user: User, authenticator: Authenticator
) -> None:
    answer = authenticator.create(new_options(browser))
    tabs = [browsers(tab_of=browser) for _ in range(2)]
    answers = run_concurrently([partial(send_new, tab, answer) for tab in tabs])
    assert [each.status for each in answers] == [303, 303]
    assert len(passkeys_of(local, user)) == 1
    assert len(events_of(local, user)) == 1


def test_a_passkey_belongs_to_one_user(
    local: Site, browser: Browser, browsers: Any, user: User, authenticator: Authenticator
) -> None:
    add_passkey(browser, authenticator)
    credential = authenticator.credentials[-1]
    local.user("bob")
    other = browsers(local)
    sign_in_to_account(other, "bob")
    options = new_options(other)
    answer = send_new(other, authenticator.attestation(credential, options, SYNCED | AT))
    assert (answer.status, "This passkey was added already." in answer.body) == (400, True)


def test_a_user_has_at_most_twenty_passkeys(
    local: Site, browser: Browser, user: User, authenticator: Authenticator
) -> None:
    for number in range(MAX_PASSKEYS):
        local.server.store.passkeys.put(Passkey(user.sub, f"p-{number}", "AA", "AA", -7, "localhost", name="x"))
    answer = add_passkey(browser, authenticator)
    assert (answer.status, "at most 20 passkeys" in answer.body) == (400, True)


@pytest.mark.parametrize("name", [" ", "x" * 61, "a\u202eb", "\u200b"])
def test_names_that_are_not_acceptable_are_refused(
    local: Site, browser: Browser, user: User, authenticator: Authenticator, name: str
) -> None:
    add_passkey(browser, authenticator, name="phone")
    (passkey,) = passkeys_of(local, user)
    answer = post_passkeys(browser, "rename", passkey_id=passkey.passkey_id, name=name)
    assert (answer.status, "1 to 60 printable characters" in answer.body) == (400, True)
    assert passkeys_of(local, user) == [passkey]


def test_a_passkey_is_renamed_and_removed_with_an_event(
    local: Site, browser: Browser, user: User, authenticator: Authenticator
) -> None:
    add_passkey(browser, authenticator, name="phone")
    (passkey,) = passkeys_of(local, user)
    answer = post_passkeys(browser, "rename", passkey_id=passkey.passkey_id, name="<b>tablet</b>")
    assert "The passkey has its new name." in (page := browser.get(answer.location)).body
    assert "&lt;b&gt;tablet&lt;/b&gt;" in page.body
    answer = post_passkeys(browser, "remove", passkey_id=passkey.passkey_id)
    assert answer.location == "/account/passkeys?done=passkey_removed"
    assert passkeys_of(local, user) == []
    assert local.server.store.identifiers.get(passkey_identifier(passkey.passkey_id)) is None
    names = [name for name, _ in events_of(local, user)]
    assert names == ["passkey_added", "passkey_renamed", "passkey_removed"]
    again = post_passkeys(browser, "remove", passkey_id=passkey.passkey_id)
    assert again.status == 303, "the same form twice"
    assert post_passkeys(browser, "rename", passkey_id=passkey.passkey_id, name="x").location.endswith("done=changed")


def test_a_passkey_of_another_user_is_neither_renamed_nor_removed(
    local: Site, browser: Browser, browsers: Any, user: User, authenticator: Authenticator
) -> None:
    add_passkey(browser, authenticator, name="phone")
    (passkey,) = passkeys_of(local, user)
    local.user("bob")
    other = browsers(local)
    sign_in_to_account(other, "bob")
    post_passkeys(other, "rename", passkey_id=passkey.passkey_id, name="mine")
    post_passkeys(other, "remove", passkey_id=passkey.passkey_id)
    assert passkeys_of(local, user) == [passkey]
    assert local.server.store.identifiers.get(passkey_identifier(passkey.passkey_id))


def test_the_last_way_to_sign_in_is_removed_only_after_a_confirmation(
    local: Site, browser: Browser, user: User, authenticator: Authenticator
) -> None:
    for name in ("phone", "laptop"):
        add_passkey(browser, authenticator, name=name)
    store = local.server.store
    store.users.put(replace(local.read_user(), password_hash=""))
    first, last = passkeys_of(local, user)
    assert post_passkeys(browser, "remove", passkey_id=first.passkey_id).status == 303, "one is left"
    page = post_passkeys(browser, "remove", passkey_id=last.passkey_id)
    assert (page.status, "you can no longer sign in" in page.body) == (200, True)
    assert passkeys_of(local, user) == [last]
    assert post_passkeys(browser, "remove", passkey_id=last.passkey_id, confirmed="yes").status == 303
    assert passkeys_of(local, user) == []


def test_a_form_with_another_tag_or_from_another_site_changes_nothing(
    local: Site, browser: Browser, user: User, authenticator: Authenticator
) -> None:
    add_passkey(browser, authenticator)
    (passkey,) = passkeys_of(local, user)
    form = {"action": "remove", "passkey_id": passkey.passkey_id}
    for headers, tag in (({"Sec-Fetch-Site": "same-origin"}, "x"), ({"Sec-Fetch-Site": "cross-site"}, "")):
        valid = browser.get("/account/password").form.fields["tag"]
        assert browser.post("/account/passkeys", form | {"tag": tag or valid}, headers).status == 400
    assert passkeys_of(local, user) == [passkey]


def test_passkeys_of_a_deleted_user_are_deleted(
    local: Site, browser: Browser, user: User, authenticator: Authenticator
) -> None:
    add_passkey(browser, authenticator)
    (passkey,) = passkeys_of(local, user)
    accounts.delete(local.server.store, local.read_user())
    assert passkeys_of(local, user) == []
    assert local.server.store.identifiers.get(passkey_identifier(passkey.passkey_id)) is None


@pytest.mark.parametrize("call", range(3))
def test_an_interrupted_deletion_of_passkeys_can_be_repeated(
    local: Site, browser: Browser, user: User, authenticator: Authenticator, wire: Wire, call: int
) -> None:
    for _ in range(2):
        add_passkey(browser, authenticator)
    store, listed = local.server.store, passkeys_of(local, user)
    left = iter(range(call))

    class Interrupted(Exception):
        pass

    original = store.passkeys.delete

    def delete(*key: str) -> None:
        if next(left, None) is None:
            raise Interrupted
        original(*key)

    store.passkeys.delete = delete  # type: ignore[method-assign]
    try:
        if call < 2:
            with pytest.raises(Interrupted):
                passkeys.remove_all(store, user.sub)
    finally:
        store.passkeys.delete = original  # type: ignore[method-assign]
    passkeys.remove_all(store, user.sub)
    assert passkeys_of(local, user) == []
    assert all(store.identifiers.get(passkey_identifier(each.passkey_id)) is None for each in listed)


def test_a_user_whose_sub_is_too_long_has_no_passkeys(local: Site, browser: Browser, user: User) -> None:
    store = local.server.store
    long = replace(user, sub="s" * 65)
    store.users.put(long)
    signed_in = SignedInUser(long, Session("s.1", long.sub, local.clock.time, local.clock.time + 60))
    with pytest.raises(PasskeyError, match="passkey_unavailable"):
        passkeys.add(local.server, Request("POST", "/account/passkeys"), signed_in, "{}", "")


def test_the_page_at_an_address_offers_no_passkeys(site: Site, browsers: Any) -> None:
    browser = browsers(site)
    site.user("alice")
    sign_in_to_account(browser)
    page = browser.get("/account/passkeys")
    assert "Passkeys cannot be added here." in page.body
    answer = send_new(browser, "{}")
    assert (answer.status, "Passkeys cannot be used here." in answer.body) == (400, True)


# ---- related origins


def test_related_origins_are_published_and_their_pages_may_use_passkeys(
    site: Site, site_with: Any, browsers: Any
) -> None:
    other = "https://login.example.org"
    local = passkey_site(site_with, related_origins=(other,))
    local.user("alice")
    browser = browsers(local)
    answer = browser.get("/.well-known/webauthn")
    assert answer.json == {"origins": [local.settings.issuer, other]}
    assert answer.header("access-control-allow-origin") == "*"
    sign_in_to_account(browser)
    assert add_passkey(browser, Authenticator(other)).status == 303
    assert add_passkey(browser, Authenticator("https://evil.example.org")).status == 400


def test_without_related_origins_nothing_is_published(browser: Browser) -> None:
    assert browser.get("/.well-known/webauthn").status == 404


def test_pages_allow_passkeys_of_this_origin_only(browser: Browser) -> None:
    policy = browser.get("/").header("permissions-policy") or ""
    assert "publickey-credentials-create=(self)" in policy
    assert "publickey-credentials-get=(self)" in policy
