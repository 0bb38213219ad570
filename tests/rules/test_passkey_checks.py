"""The checks of passkeys (Web Authentication Level 3 section 7), one at a time: the log says what is wrong."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fido2 import cbor

from chalicelib.authentication.passkey_options import LIFETIME, for_confirmation, for_sign_in, sign_in_options, spending
from chalicelib.authentication.passkey_sign_in import PasskeyAttempt, usable_passkeys, verify_passkey_of
from chalicelib.authentication.passkeys import (
    PasskeyError,
    Use,
    check_assertion,
    check_attestation,
    may_be_copied,
    read_assertion,
    read_attestation,
)
from chalicelib.http.messages import Request
from chalicelib.protocol.handles import base64url, from_base64url
from chalicelib.protocol.passkey import MAX_ANSWER, MAX_CREDENTIAL_ID, Passkey
from chalicelib.protocol.records import User
from tests.support.authenticator import AT, BE, BS, SYNCED, UP, UV, Authenticator, passkey_site
from tests.support.site import Site

ORIGIN, DOMAIN = "https://login.example.com", "example.com"
CHALLENGE = base64url(b"a challenge")
OPTIONS = {"challenge": CHALLENGE, "rp": {"id": DOMAIN}, "user": {"id": base64url(b"sub")}}


def is_challenge(challenge: bytes) -> bool:
    return challenge == b"a challenge"


@pytest.fixture
def authenticator() -> Authenticator:
    return Authenticator(ORIGIN)


def created(answer: dict[str, Any], **more: Any) -> Passkey:
    attestation = read_attestation(json.dumps(answer))
    return check_attestation(attestation, "sub", DOMAIN, {ORIGIN}, is_challenge, **more)


def used(passkey: Passkey, answer: dict[str, Any], **more: Any) -> Use:
    return check_assertion(read_assertion(json.dumps(answer)), passkey, {ORIGIN}, is_challenge, **more)


def assert_rejected(detail: str, check: Callable[[], object], code: str = "passkey_not_verified") -> None:
    with pytest.raises(PasskeyError) as error:
        check()
    assert (error.value.code, detail in error.value.detail) == (code, True), error.value.detail


# ---- how an answer is read


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "null", '{"a":1}', '{"clientDataJSON":"AA","attestationObject":"AA","transports":[],"x":1}'],
)
def test_answer_has_its_members_and_no_others(text: str) -> None:
    for read in (read_assertion, read_attestation):
        with pytest.raises(PasskeyError):
            read(text)


def test_answer_has_no_member_twice_and_is_not_too_long(authenticator: Authenticator) -> None:
    answer = json.dumps(authenticator.create(OPTIONS))
    assert_rejected("not JSON", lambda: read_attestation('{"transports":[],' + answer[1:]))
    padded = answer[:-1] + " " * (MAX_ANSWER - len(answer)) + "}"
    assert len(padded) == MAX_ANSWER
    assert read_attestation(padded)
    assert_rejected("too long", lambda: read_attestation(padded + " "))


@pytest.mark.parametrize("value", [1, None, "é", "A", ["AA"]])
def test_members_are_base64url(authenticator: Authenticator, value: Any) -> None:
    answer = authenticator.create(OPTIONS)
    assert_rejected("not base64url", lambda: read_attestation(json.dumps(answer | {"clientDataJSON": value})))
    answer = authenticator.get(OPTIONS)
    assert_rejected("not base64url", lambda: read_assertion(json.dumps(answer | {"signature": value})))
    padded = answer | {"signature": answer["signature"] + "=="}
    assert read_assertion(json.dumps(padded)) == read_assertion(json.dumps(answer))


def test_transports_are_a_short_list_of_which_unknown_ones_are_left_out(authenticator: Authenticator) -> None:
    answer = authenticator.create(OPTIONS)
    for transports in ("internal", {"a": 1}, ["usb"] * 11):
        changed = json.dumps(answer | {"transports": transports})
        assert_rejected("transports are no list", lambda text=changed: read_attestation(text))  # type: ignore[misc]
    given = ["usb", "x" * 32, "x" * 33, "USB", "a b", 1, None, ""]
    assert read_attestation(json.dumps(answer | {"transports": given})).transports == ("usb", "x" * 32)
    assert len(read_attestation(json.dumps(answer | {"transports": ["usb"] * 10})).transports) == 10


def test_credential_id_and_user_handle_have_a_form(authenticator: Authenticator) -> None:
    authenticator.create(OPTIONS)
    answer = authenticator.get(OPTIONS)
    for length in (0, MAX_CREDENTIAL_ID + 1):
        changed = json.dumps(answer | {"id": base64url(bytes(length))})
        assert_rejected("a wrong length", lambda text=changed: read_assertion(text))  # type: ignore[misc]
    assert read_assertion(json.dumps(answer | {"id": base64url(bytes(MAX_CREDENTIAL_ID))}))
    foreign = json.dumps(answer | {"userHandle": base64url("é".encode())})
    assert_rejected("user handle", lambda: read_assertion(foreign), "passkey_unknown")


# ---- a new passkey


def test_new_passkey_is_what_the_authenticator_says(authenticator: Authenticator) -> None:
    passkey = created(authenticator.create(OPTIONS))
    assert (passkey.sub, passkey.rp_id, passkey.alg, passkey.sign_count) == ("sub", DOMAIN, -7, 0)
    assert (passkey.backup_eligible, passkey.backed_up, passkey.user_verified) == (True, True, True)
    passkey = created(authenticator.create(OPTIONS, flags=UP), user_verification=False)
    assert (passkey.backup_eligible, passkey.backed_up, passkey.user_verified) == (False, False, False)


CLIENT_DATA: list[tuple[dict[str, Any], str, str]] = [
    ({"type": "webauthn.other"}, "another type", "passkey_not_verified"),
    ({"type": None}, "another type", "passkey_not_verified"),
    ({"challenge": base64url(b"another")}, "made for something else", "passkey_expired"),
    ({"challenge": None}, "not base64url", "passkey_not_verified"),
    ({"origin": "https://evil.example"}, "the origin", "passkey_not_verified"),
    ({"origin": None}, "the origin", "passkey_not_verified"),
    ({"crossOrigin": True}, "in a frame", "passkey_not_verified"),
    ({"crossOrigin": "false"}, "in a frame", "passkey_not_verified"),
    ({"topOrigin": ORIGIN}, "in a frame", "passkey_not_verified"),
]
FLAGS: list[tuple[int, str]] = [
    (UV | BE | BS, "the user was not present"),
    (UP | BE | BS, "the user was not verified"),
    (UP | UV | BS, "is backed up, and cannot be"),
]


@pytest.mark.parametrize(("changes", "detail", "code"), CLIENT_DATA)
def test_client_data_is_about_this_request(
    authenticator: Authenticator, changes: dict[str, Any], detail: str, code: str
) -> None:
    passkey = created(authenticator.create(OPTIONS))
    assert_rejected(detail, lambda: used(passkey, authenticator.get(OPTIONS, **changes)), code)
    assert_rejected(detail, lambda: created(authenticator.create(OPTIONS, **changes)), code)


def test_client_data_may_leave_out_that_there_is_no_frame(authenticator: Authenticator) -> None:
    passkey = created(authenticator.create(OPTIONS, crossOrigin=None))
    assert used(passkey, authenticator.get(OPTIONS, crossOrigin=None))


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"type":"webauthn.get","type":"webauthn.get"}', b"\xff"])
def test_client_data_is_an_object(authenticator: Authenticator, data: bytes) -> None:
    passkey = created(authenticator.create(OPTIONS))
    answer = authenticator.get(OPTIONS) | {"clientDataJSON": base64url(data)}
    with pytest.raises(PasskeyError) as error:
        used(passkey, answer)
    assert error.value.code == "passkey_not_verified"


@pytest.mark.parametrize(("flags", "detail"), FLAGS)
def test_flags_say_that_the_user_was_there(authenticator: Authenticator, flags: int, detail: str) -> None:
    passkey = created(authenticator.create(OPTIONS))
    assert_rejected(detail, lambda: used(passkey, authenticator.get(OPTIONS, flags=flags)))
    assert_rejected(detail, lambda: created(authenticator.create(OPTIONS, flags=flags)))
    if detail == "the user was not verified":
        answer = authenticator.get(OPTIONS, flags=flags, credential=authenticator.credentials[0])
        assert not used(passkey, answer, user_verification=False).user_verified


def test_passkey_of_another_domain_is_rejected(authenticator: Authenticator) -> None:
    passkey = created(authenticator.create(OPTIONS))
    other = replace(passkey, rp_id="other.example")
    assert_rejected("another domain", lambda: used(other, authenticator.get(OPTIONS)))
    elsewhere = OPTIONS | {"rp": {"id": "other.example"}}
    assert_rejected("another domain", lambda: created(authenticator.create(elsewhere)))


def test_answer_without_a_passkey_or_with_an_id_of_a_wrong_length_creates_none(authenticator: Authenticator) -> None:
    authenticator.create(OPTIONS)
    (credential,) = authenticator.credentials
    none = authenticator.attestation(credential, OPTIONS, SYNCED)
    assert_rejected("no passkey in the answer", lambda: created(none))
    for length in (0, MAX_CREDENTIAL_ID + 1):
        answer = authenticator.attestation(replace(credential, id=bytes(length)), OPTIONS, SYNCED | AT)
        assert_rejected("no passkey in the answer", lambda given=answer: created(given))  # type: ignore[misc]
    longest = authenticator.attestation(replace(credential, id=bytes(MAX_CREDENTIAL_ID)), OPTIONS, SYNCED | AT)
    assert created(longest)


def test_attestation_object_has_authenticator_data(authenticator: Authenticator) -> None:
    answer = authenticator.create(OPTIONS)
    for content, detail in (
        (b"\xff", "cannot be read"),
        (cbor.encode({}), "cannot be read"),
        (cbor.encode({"authData": "x"}), "has no authenticator data"),
        (cbor.encode({"authData": b"x"}), "the authenticator data cannot be read"),
    ):
        changed = answer | {"attestationObject": base64url(content)}
        assert_rejected(detail, lambda given=changed: created(given))  # type: ignore[misc]


# ---- a use


def test_signature_is_by_the_key_of_the_passkey_with_an_accepted_algorithm(authenticator: Authenticator) -> None:
    passkey = created(authenticator.create(OPTIONS))
    other = created(authenticator.create(OPTIONS))
    answer = authenticator.get(OPTIONS, credential=authenticator.credentials[0])
    assert used(passkey, answer)
    assert_rejected("signature is wrong", lambda: used(other, answer))
    assert_rejected("algorithm is not accepted", lambda: used(replace(passkey, alg=-65535), answer))
    assert_rejected("cannot be read", lambda: used(replace(passkey, public_key="AA"), answer))


def test_passkey_does_not_change_whether_it_can_be_backed_up(authenticator: Authenticator) -> None:
    passkey = created(authenticator.create(OPTIONS))
    assert_rejected("has changed", lambda: used(passkey, authenticator.get(OPTIONS, flags=UP | UV)))
    assert_rejected("has changed", lambda: used(replace(passkey, backup_eligible=False), authenticator.get(OPTIONS)))


@pytest.mark.parametrize(
    ("before", "now", "copied"),
    [(0, 0, False), (0, 1, False), (5, 6, False), (5, 5, True), (5, 4, True), (5, 0, True), (1, 0, True)],
)
def test_counter_that_does_not_increase_may_be_that_of_a_copy(
    authenticator: Authenticator, before: int, now: int, *, copied: bool
) -> None:
    passkey = replace(created(authenticator.create(OPTIONS)), sign_count=before)
    assert may_be_copied(passkey, Use(now, True, True)) is copied


# ---- challenges


@pytest.fixture
def local(site_with: Callable[..., Site]) -> Site:
    return passkey_site(site_with)


def test_challenge_is_for_one_action_session_and_user_and_expires(local: Site) -> None:
    purpose = for_confirmation("session", "alice", "delete")
    challenge = from_base64url(purpose.challenge(local.server))
    assert purpose.checks(local.server)(challenge)
    for other in (
        for_confirmation("other", "alice", "delete"),
        for_confirmation("session", "bob", "delete"),
        for_confirmation("session", "alice", "download"),
    ):
        assert not other.checks(local.server)(challenge)
    for changed in (challenge[:-1], challenge + b"x", b"x" + challenge[1:], challenge[:-1] + b"x", b""):
        assert not purpose.checks(local.server)(changed)
    local.clock.advance(LIFETIME - 1)
    assert purpose.checks(local.server)(challenge)
    local.clock.advance(1)
    assert_rejected("expired", lambda: purpose.checks(local.server)(challenge), "passkey_expired")


def test_challenge_by_a_clock_that_is_far_ahead_is_rejected(local: Site) -> None:
    purpose, now = for_confirmation("session", "alice", "delete"), local.clock.time
    local.clock.advance(60)
    accepted = from_base64url(purpose.challenge(local.server))
    local.clock.advance(1)
    rejected = from_base64url(purpose.challenge(local.server))
    local.clock.time = now
    assert purpose.checks(local.server)(accepted)
    assert_rejected("expired", lambda: purpose.checks(local.server)(rejected), "passkey_expired")


def test_challenge_is_spent_once(local: Site) -> None:
    data = json.dumps({"challenge": for_confirmation("s", "alice", "delete").challenge(local.server)}).encode()
    assert not local.server.store.transact(spending(local.server, data))
    assert local.server.store.transact(spending(local.server, data))


def test_options_demand_the_verification_of_the_user_unless_it_is_a_second_factor(
    local: Site, site: Site, authenticator: Authenticator
) -> None:
    passkey, purpose = created(authenticator.create(OPTIONS)), for_confirmation("s", "alice", "delete")

    def verification(*passkeys: Passkey, **more: bool) -> str:
        options: dict[str, Any] = json.loads(sign_in_options(local.server, purpose, passkeys, **more))
        assert ("allowCredentials" in options) == bool(passkeys)
        return str(options["userVerification"])

    assert (verification(), verification(passkey)) == ("required", "preferred")
    assert verification(passkey, user_verification=True) == "required"
    assert sign_in_options(site.server, purpose, [passkey]) == "", "an address has no passkeys"


def test_answer_that_names_no_user_reads_nothing(local: Site, authenticator: Authenticator) -> None:
    authenticator.create(OPTIONS)
    for changes, detail in (({"userHandle": ""}, "names no user"), ({"id": 1}, "not base64url")):
        text = json.dumps(authenticator.get(OPTIONS) | changes)
        attempt = PasskeyAttempt(local.server, Request("POST", "/"), text, "browser", "request")
        assert (attempt.sub, attempt.lookups) == ("", ())
        nothing = local.server.store.read_all(attempt.lookups)
        code = "passkey_unknown" if "user" in detail else "passkey_not_verified"
        assert_rejected(detail, lambda tried=attempt, read=nothing: tried.verify(read), code)  # type: ignore[misc]
    text = json.dumps(authenticator.get(OPTIONS))
    attempt = PasskeyAttempt(local.server, Request("POST", "/"), text, "browser", "request")
    assert attempt.sub == "sub"
    assert len(attempt.lookups) == 2
    nothing = local.server.store.read_all(attempt.lookups)
    assert_rejected("no such passkey", lambda: attempt.verify(nothing), "passkey_unknown")


def of_local(local: Site) -> tuple[Authenticator, dict[str, Any], Passkey]:
    """Return an authenticator at a server, options of a sign-in there, and a stored passkey of the user alice."""
    authenticator = Authenticator(local.settings.issuer)
    challenge, rp_id = for_sign_in("browser", "request").challenge(local.server), local.server.settings.passkey_domain
    assert rp_id
    options = {"challenge": challenge, "rp": {"id": rp_id}, "user": {"id": base64url(b"alice")}}
    attestation = read_attestation(json.dumps(authenticator.create(options)))
    passkey = check_attestation(attestation, "alice", rp_id, {local.settings.issuer}, lambda _challenge: True)
    local.server.store.passkeys.put(passkey)
    return authenticator, options, passkey


@pytest.mark.parametrize(
    ("user", "detail", "code"),
    [
        (None, "no such passkey", "passkey_unknown"),
        ({"disabled_at": 1}, "disabled, or deleted", "passkey_not_verified"),
        ({"deleted_at": 1, "deletion_due_at": 2}, "disabled, or deleted", "passkey_not_verified"),
        ({}, "", ""),
    ],
)
def test_passkey_signs_in_a_user_who_is_active(
    local: Site, user: dict[str, Any] | None, detail: str, code: str
) -> None:
    authenticator, options, _ = of_local(local)
    if user is not None:
        local.server.store.users.put(User("alice", "alice", "", {}, **user))
    text = json.dumps(authenticator.get(options))
    attempt = PasskeyAttempt(local.server, Request("POST", "/"), text, "browser", "request")
    records = local.server.store.read_all(attempt.lookups)
    if detail:
        assert_rejected(detail, lambda: attempt.verify(records), code)
    else:
        assert attempt.verify(records).user.sub == "alice"


def test_passkey_of_a_known_user_is_one_of_theirs(local: Site, site: Site) -> None:
    authenticator, options, _ = of_local(local)
    alice, bob = (User(sub, sub, "", {}) for sub in ("alice", "bob"))

    def verify(server: Site, user: User, **changes: str) -> object:
        answer, purpose = authenticator.get(options) | changes, for_sign_in("browser", "request")
        return verify_passkey_of(server.server, Request("POST", "/"), user, json.dumps(answer), purpose)

    assert verify(local, alice)
    assert verify(local, alice, userHandle="")
    assert_rejected("belongs to another user", lambda: verify(local, bob), "passkey_unknown")
    assert_rejected("no such passkey", lambda: verify(local, bob, userHandle=""), "passkey_unknown")
    assert_rejected("", lambda: verify(site, alice), "passkey_unavailable")


def test_usable_passkeys_are_those_of_the_domain(local: Site, site: Site) -> None:
    _, _, passkey = of_local(local)
    local.server.store.passkeys.put(replace(passkey, passkey_id="other", rp_id="other.example"))
    assert usable_passkeys(local.server, "alice") == [passkey]
    assert usable_passkeys(site.server, "alice") == usable_passkeys(local.server, "bob") == []
