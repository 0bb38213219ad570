"""The test vectors of Web Authentication Level 3 section 16, each with every byte changed.

`vectors.json` has them in hexadecimal, for the relying party example.org. The packed attestations are not looked at.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chalicelib.authentication.passkeys import (
    Assertion,
    Attestation,
    PasskeyError,
    check_assertion,
    check_attestation,
)
from chalicelib.protocol.handles import base64url
from chalicelib.protocol.passkey import Passkey, passkey_id_of

VECTORS: dict[str, Any] = json.loads(Path(__file__).with_name("vectors.json").read_text())
RP_ID, ORIGINS = VECTORS["rp_id"], (VECTORS["origin"],)
UV, BE = 0x04, 0x08
COSE_ALGORITHMS = {"26": -7, "27": -8, "390100": -257}  # the value of the label 3, CBOR

Parts = dict[str, bytes]


def parts(vector: dict[str, str]) -> Parts:
    return {name: bytes.fromhex(value) for name, value in vector.items()}


def register(vector: Parts) -> Passkey:
    answer = Attestation(vector["client_data"], vector["attestation_object"])
    is_challenge = vector["challenge"].__eq__
    return check_attestation(answer, "u-1", RP_ID, ORIGINS, is_challenge, user_verification=False)


def authenticate(vector: Parts, passkey: Passkey, *, user_verification: bool = False) -> None:
    answer = Assertion(b"id", vector["client_data"], vector["authenticator_data"], vector["signature"], "u-1")
    check_assertion(answer, passkey, ORIGINS, vector["challenge"].__eq__, user_verification=user_verification)


def passkey_for(vector: Parts) -> Passkey:
    """Return the record of the passkey that a vector authenticates with."""
    key, flags = vector["public_key"], vector["authenticator_data"][32]
    text = key.hex()[4:] if key.hex()[2:4] != "01" else key.hex()[6:]
    alg = next(alg for encoded, alg in COSE_ALGORITHMS.items() if text.startswith("03" + encoded))
    public_key = base64url(key)
    return Passkey("u-1", "id", "id", public_key, alg, RP_ID, backup_eligible=bool(flags & BE))


@pytest.mark.spec("WebAuthn Level 3 §16")
@pytest.mark.parametrize("name", VECTORS["registrations"])
def test_registrations_are_accepted(name: str) -> None:
    vector = parts(VECTORS["registrations"][name])
    passkey = register(vector)
    assert passkey.alg == -7
    assert (passkey.sign_count, passkey.rp_id) == (0, "example.org")


@pytest.mark.spec("WebAuthn Level 3 §16.2")
def test_a_registered_passkey_authenticates() -> None:
    name = "16.2 no attestation, ES256"
    passkey = register(parts(VECTORS["registrations"][name]))
    credential_id = bytes.fromhex("f91f391db4c9b2fde0ea70189cba3fb63f579ba6122b33ad94ff3ec330084be4")
    assert passkey.credential_id == base64url(credential_id)
    assert passkey.passkey_id == passkey_id_of(credential_id)
    assert passkey.aaguid == "8446ccb9-ab1d-b374-750b-2367ff6f3a1f"
    authenticate(parts(VECTORS["authentications"][name]), passkey)


@pytest.mark.parametrize("name", VECTORS["framed"])
def test_registrations_in_a_frame_of_another_origin_are_refused(name: str) -> None:
    with pytest.raises(PasskeyError) as refused:
        register(parts(VECTORS["framed"][name]))
    assert refused.value.detail == "the page was in a frame of another origin"


@pytest.mark.spec("WebAuthn Level 3 §16")
@pytest.mark.parametrize("name", VECTORS["authentications"])
def test_authentications_are_accepted_and_need_user_verification_if_it_is_required(name: str) -> None:
    vector = parts(VECTORS["authentications"][name])
    passkey = passkey_for(vector)
    authenticate(vector, passkey)
    if vector["authenticator_data"][32] & UV:
        authenticate(vector, passkey, user_verification=True)
    else:
        with pytest.raises(PasskeyError, match="passkey_not_verified"):
            authenticate(vector, passkey, user_verification=True)


@pytest.mark.parametrize("part", ["client_data", "authenticator_data", "signature", "challenge"])
@pytest.mark.parametrize("name", VECTORS["authentications"])
def test_an_authentication_with_one_byte_changed_is_refused(name: str, part: str) -> None:
    vector = parts(VECTORS["authentications"][name])
    passkey = passkey_for(vector)
    for place in range(len(vector[part])):
        for bit in (0x01, 0x80):
            with pytest.raises(PasskeyError):
                authenticate(vector | {part: changed(vector[part], place, bit)}, passkey)
    for shorter in (vector[part][:-1], vector[part][1:], b""):
        with pytest.raises(PasskeyError):
            authenticate(vector | {part: shorter}, passkey)


@pytest.mark.parametrize("name", VECTORS["authentications"])
def test_an_authentication_does_not_verify_with_another_key(name: str) -> None:
    vector = parts(VECTORS["authentications"][name])
    passkey = passkey_for(vector)
    for place in range(12, 40):  # of the x coordinate, the Ed25519 key or the modulus
        key = base64url(changed(vector["public_key"], place, 0x01))
        with pytest.raises(PasskeyError):
            authenticate(vector, replace(passkey, public_key=key))


@pytest.mark.parametrize("name", VECTORS["registrations"])
def test_a_registration_with_one_byte_changed_is_refused_or_another_passkey(name: str) -> None:
    """Without an attestation, nothing signs the new key: what matters is that every answer can be read safely."""
    vector = parts(VECTORS["registrations"][name])
    expected = register(vector)
    start = vector["attestation_object"].index(b"authData")
    # fido2 reads what there is, if it is less than the length of a byte string says.
    lengths = (start + len("authData") + 1, len(vector["attestation_object"]) - 33)
    for place in range(start, len(vector["attestation_object"])):
        try:
            passkey = register(vector | {"attestation_object": changed(vector["attestation_object"], place, 0x01)})
        except PasskeyError:
            continue
        assert passkey != expected or place in lengths
    for place in range(len(vector["client_data"])):
        changed_data = changed(vector["client_data"], place, 0x01)
        if place >= vector["client_data"].index(b'"crossOrigin"'):
            break  # this member may be absent, and what the client adds is not read
        with pytest.raises(PasskeyError):
            register(vector | {"client_data": changed_data})


def changed(data: bytes, place: int, bit: int) -> bytes:
    return data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]
