"""Answers of a software authenticator, changed by Hypothesis: this server and py_webauthn must judge them equally."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webauthn import verify_authentication_response, verify_registration_response
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.exceptions import WebAuthnException

from chalicelib.authentication.passkeys import (
    PasskeyError,
    check_assertion,
    check_attestation,
    may_be_copied,
    read_assertion,
    read_attestation,
)
from chalicelib.protocol.handles import base64url, from_base64url
from chalicelib.protocol.passkey import ALGORITHMS, Passkey
from tests.support.authenticator import AT, BE, BS, ED, ES, RS, UP, UV, Authenticator

RP_ID, ORIGIN, CHALLENGE = "login.example.com", "https://login.example.com", b"c" * 36
OPTIONS: dict[str, Any] = {
    "challenge": base64url(CHALLENGE),
    "rp": {"id": RP_ID},
    "user": {"id": base64url(b"u-1")},
}


@cache
def registered(alg: int, flags: int) -> tuple[Authenticator, Passkey]:
    authenticator = Authenticator(ORIGIN, flags, alg)
    answer = read_attestation(json.dumps(authenticator.create(OPTIONS)))
    return authenticator, check_attestation(answer, "u-1", RP_ID, (ORIGIN,), CHALLENGE.__eq__)


def accepted_here(answer: dict[str, Any], passkey: Passkey) -> bool:
    try:
        assertion = read_assertion(json.dumps(answer))
        use = check_assertion(assertion, passkey, (ORIGIN,), CHALLENGE.__eq__)
    except PasskeyError:
        return False
    return not may_be_copied(passkey, use)


def accepted_there(answer: dict[str, Any], passkey: Passkey) -> bool:
    response = {name: answer[name] for name in ("clientDataJSON", "authenticatorData", "signature", "userHandle")}
    credential = {"id": answer["id"], "rawId": answer["id"], "type": "public-key", "response": response}
    try:
        verify_authentication_response(
            credential=credential,
            expected_challenge=CHALLENGE,
            expected_rp_id=RP_ID,
            expected_origin=ORIGIN,
            credential_public_key=from_base64url(passkey.public_key),
            credential_current_sign_count=passkey.sign_count,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, KeyError, IndexError, TypeError):
        return False
    return True


def is_stricter_here(flags: int, eligible: bool, client_data: dict[str, Any]) -> bool:
    """Return whether the answer is one that only this server refuses, by its policy."""
    changes_eligibility = bool(flags & BE) != eligible
    in_frame = client_data.get("crossOrigin") is True or "topOrigin" in client_data
    return changes_eligibility or in_frame


FLAGS = st.integers(0, 31).map(lambda bits: (bits & 1) | (bits & 2) << 1 | (bits & 4) << 1 | (bits & 8) << 1)
CLIENT_DATA = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["webauthn.get", "webauthn.create", "payment.get", ""]),
        "origin": st.sampled_from([ORIGIN, ORIGIN + "/", "https://example.com", "https://x.login.example.com", ""]),
        "challenge": st.sampled_from([base64url(CHALLENGE), base64url(b"d" * 36), ""]),
        "crossOrigin": st.booleans(),
        "topOrigin": st.just("https://example.com"),
        "other": st.text(max_size=20),
    },
)


@given(
    alg=st.sampled_from([ES, ED]),
    eligible=st.booleans(),
    flags=FLAGS,
    stored=st.integers(0, 3),
    count=st.integers(0, 3),
    client_data=CLIENT_DATA,
)
@settings(max_examples=400, deadline=None)
def test_both_agree_about_flags_counters_and_client_data(
    alg: int, eligible: bool, flags: int, stored: int, count: int, client_data: dict[str, Any]
) -> None:
    authenticator, passkey = registered(alg, UP | UV | (BE if eligible else 0))
    passkey = replace(passkey, sign_count=stored)
    credential = replace(authenticator.credentials[-1], count=count)
    answer = authenticator.get(OPTIONS, flags=flags, credential=credential, **client_data)
    own, there = accepted_here(answer, passkey), accepted_there(answer, passkey)
    if own != there:
        assert there
        assert is_stricter_here(flags, eligible, client_data), (hex(flags), client_data)


@given(
    alg=st.sampled_from([ES, ED, RS]),
    member=st.sampled_from(["clientDataJSON", "authenticatorData", "signature"]),
    place=st.integers(0, 500),
    bits=st.integers(1, 255),
)
@settings(max_examples=300, deadline=None)
def test_both_refuse_an_answer_with_one_byte_changed(alg: int, member: str, place: int, bits: int) -> None:
    authenticator, passkey = registered(alg, UP | UV)
    answer = authenticator.get(OPTIONS)
    assert accepted_here(answer, passkey)
    assert accepted_there(answer, passkey)
    data = bytearray(from_base64url(answer[member]))
    data[place % len(data)] ^= bits
    changed = answer | {member: base64url(bytes(data))}
    assert not accepted_here(changed, passkey)
    assert not accepted_there(changed, passkey)


@given(flags=FLAGS, client_data=CLIENT_DATA, change=st.sampled_from(["", "alg", "key", "id"]))
@settings(max_examples=200, deadline=None)
def test_both_agree_about_registrations(flags: int, client_data: dict[str, Any], change: str) -> None:
    authenticator = Authenticator(ORIGIN)
    authenticator.create(OPTIONS)
    credential = authenticator.credentials[-1]
    changes: dict[str, Callable[[], Any]] = {
        "": lambda: credential,
        "alg": lambda: replace(credential, public_key=type(credential.public_key)({**credential.public_key, 3: -35})),
        "key": lambda: replace(credential, public_key=type(credential.public_key)({**credential.public_key, -2: b"x"})),
        "id": lambda: replace(credential, id=b""),
    }
    answer = authenticator.attestation(changes[change](), OPTIONS, flags | AT, **client_data)
    try:
        check_attestation(read_attestation(json.dumps(answer)), "u-1", RP_ID, (ORIGIN,), CHALLENGE.__eq__)
        own = True
    except PasskeyError:
        own = False
    there = _registers_there(answer, base64url(changes[change]().id))
    if own != there:
        assert there
        # py_webauthn does not load the key, and has no rule for frames, empty ids and the backup flags.
        assert change in ("key", "id") or is_stricter_here(flags, bool(flags & BE), client_data) or flags & BS, flags


def _registers_there(answer: dict[str, Any], credential_id: str) -> bool:
    response = {name: answer[name] for name in ("clientDataJSON", "attestationObject")}
    credential = {"id": credential_id, "rawId": credential_id, "type": "public-key", "response": response}
    try:
        verify_registration_response(
            credential=credential,
            expected_challenge=CHALLENGE,
            expected_rp_id=RP_ID,
            expected_origin=ORIGIN,
            require_user_verification=True,
            supported_pub_key_algs=[COSEAlgorithmIdentifier(alg) for alg in ALGORITHMS],
        )
    except (WebAuthnException, ValueError, KeyError, IndexError, TypeError):
        return False
    return True


@pytest.mark.parametrize("alg", [ES, ED, RS])
def test_both_accept_every_algorithm(alg: int) -> None:
    authenticator, passkey = registered(alg, UP | UV | BE | BS)
    answer = authenticator.get(OPTIONS)
    assert accepted_here(answer, passkey)
    assert accepted_there(answer, passkey)
