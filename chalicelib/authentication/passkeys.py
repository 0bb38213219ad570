"""The checks of passkeys: all that makes an answer of an authenticator valid (Web Authentication Level 3 section 7).

This file has the whole list, in the order of the specification. It reads no record and writes none: `passkey_sign_in`
and `users.passkeys` do that. An answer is what the script of the pages sends: a JSON object of base64url strings.
"""

import hashlib
import json
import re
import struct
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from chalicelib.keys import cose_keys
from chalicelib.protocol.handles import base64url, from_base64url
from chalicelib.protocol.passkey import ALGORITHMS, MAX_ANSWER, MAX_CREDENTIAL_ID, Passkey, passkey_id_of
from chalicelib.protocol.texts import Text
from chalicelib.protocol.values import dataclass

if TYPE_CHECKING:
    from fido2.webauthn import AuthenticatorData

TEXTS = {
    "passkey_unknown": Text("This passkey does not belong to an account here. Sign in in another way."),
    "passkey_not_verified": Text("The passkey could not be verified. Try again, or sign in in another way."),
    "passkey_expired": Text("This took too long, or the passkey was used already. Please try again."),
    "passkey_counter": Text("This passkey may have been copied, so it was rejected. Sign in in another way."),
    "passkey_in_use": Text("This passkey was added already."),
    "passkey_unavailable": Text("Passkeys cannot be used here."),
}
_TRANSPORT = re.compile(r"[a-z-]{1,32}")
_MAX_TRANSPORTS = 10
# What fido2 raises for data that is not as the specification says.
_MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError, struct.error)


class PasskeyError(Exception):
    """An answer that is not accepted. `code` and `text` say why, for programs and users; `detail` is for the log."""

    def __init__(self, code: str, detail: str = ""):
        super().__init__(code)
        self.code = code
        self.text = TEXTS[code]
        self.detail = detail


@dataclass(frozen=True)
class Assertion:
    """The answer of an authenticator to a sign-in. `user_handle` is "" if it names no user."""

    credential_id: bytes
    client_data: bytes
    authenticator_data: bytes
    signature: bytes
    user_handle: str

    @property
    def passkey_id(self) -> str:
        """The key of the record of the passkey."""
        return passkey_id_of(self.credential_id)


@dataclass(frozen=True)
class Attestation:
    """The answer of an authenticator that has created a passkey. Its attestation statement is not looked at."""

    client_data: bytes
    attestation_object: bytes
    transports: tuple[str, ...] = ()


@dataclass(frozen=True)
class Use:
    """What a valid assertion says: the signature counter, whether it is backed up, whether the user was verified."""

    sign_count: int
    backed_up: bool
    user_verified: bool


# Whether a challenge was made by this server, for this, a moment ago. Raises PasskeyError when it has expired.
IsChallenge = Callable[[bytes], bool]


def read_assertion(text: str) -> Assertion:
    """Return the answer to a sign-in. Raises PasskeyError for a malformed one."""
    members = _members(text, ("id", "clientDataJSON", "authenticatorData", "signature", "userHandle"))
    credential_id, client_data, authenticator_data, signature, handle = (_bytes(member) for member in members)
    if not 0 < len(credential_id) <= MAX_CREDENTIAL_ID:
        raise PasskeyError("passkey_not_verified", "the credential id has a wrong length")
    try:
        return Assertion(credential_id, client_data, authenticator_data, signature, handle.decode("ascii"))
    except UnicodeDecodeError as error:
        raise PasskeyError("passkey_unknown", "the user handle is not one of this server") from error


def read_attestation(text: str) -> Attestation:
    """Return the answer with a new passkey. Raises PasskeyError for a malformed one."""
    client_data, attestation_object, transports = _members(text, ("clientDataJSON", "attestationObject", "transports"))
    if not isinstance(transports, list) or len(transports) > _MAX_TRANSPORTS:
        raise PasskeyError("passkey_not_verified", "the transports are no list, or too many")
    valid = tuple(each for each in transports if isinstance(each, str) and _TRANSPORT.fullmatch(each))
    return Attestation(_bytes(client_data), _bytes(attestation_object), valid)


def check_assertion(
    answer: Assertion,
    passkey: Passkey,
    origins: Collection[str],
    is_challenge: IsChallenge,
    *,
    user_verification: bool = True,
) -> Use:
    """Check the answer to a sign-in with a passkey (section 7.2), except its counter.

    `user_verification`: the authenticator must have verified the user. Raises PasskeyError.
    """
    _check_client_data(answer.client_data, "webauthn.get", origins, is_challenge)
    data = _authenticator_data(answer.authenticator_data)
    _check_flags(data, passkey.rp_id, user_verification=user_verification)
    if data.is_backup_eligible() != passkey.backup_eligible:
        raise PasskeyError("passkey_not_verified", "the passkey has changed whether it can be backed up")
    if passkey.alg not in ALGORITHMS:
        raise PasskeyError("passkey_not_verified", "the algorithm is not accepted")
    message = answer.authenticator_data + hashlib.sha256(answer.client_data).digest()
    try:
        signed = cose_keys.verifies(from_base64url(passkey.public_key), message, answer.signature)
    except _MALFORMED as error:
        raise PasskeyError("passkey_not_verified", "the stored key or the signature cannot be read") from error
    if not signed:
        raise PasskeyError("passkey_not_verified", "the signature is wrong")
    return Use(data.counter, data.is_backed_up(), data.is_user_verified())


def check_attestation(
    answer: Attestation,
    sub: str,
    rp_id: str,
    origins: Collection[str],
    is_challenge: IsChallenge,
    *,
    user_verification: bool = True,
) -> Passkey:
    """Check the answer with a new passkey (section 7.1), and return it. Raises PasskeyError.

    The format of the attestation is ignored, whatever it is: none is asked for, and some clients keep one.
    """
    _check_client_data(answer.client_data, "webauthn.create", origins, is_challenge)
    data = _authenticator_data(_authenticator_data_in(answer.attestation_object))
    _check_flags(data, rp_id, user_verification=user_verification)
    created = data.credential_data
    if created is None or not 0 < len(created.credential_id) <= MAX_CREDENTIAL_ID:
        raise PasskeyError("passkey_not_verified", "there is no passkey in the answer")
    alg = cose_keys.algorithm_of(created.public_key)
    if alg is None:
        raise PasskeyError("passkey_not_verified", "the key or its algorithm is not accepted")
    from fido2 import cbor

    return Passkey(
        sub,
        passkey_id_of(created.credential_id),
        credential_id=base64url(created.credential_id),
        public_key=base64url(cbor.encode(dict(created.public_key))),
        alg=alg,
        rp_id=rp_id,
        sign_count=data.counter,
        backup_eligible=data.is_backup_eligible(),
        backed_up=data.is_backed_up(),
        user_verified=data.is_user_verified(),
        transports=answer.transports,
        aaguid=str(created.aaguid),
    )


def may_be_copied(passkey: Passkey, use: Use) -> bool:
    """Return whether the counter has not increased: another authenticator may have the same key (section 6.1.1)."""
    return (passkey.sign_count or use.sign_count) > 0 and use.sign_count <= passkey.sign_count


# ---- the parts of the list


def _check_client_data(client_data: bytes, kind: str, origins: Collection[str], is_challenge: IsChallenge) -> None:
    """Check what the browser says about the request that it has made of the authenticator."""
    try:
        members = json.loads(client_data.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise PasskeyError("passkey_not_verified", "the client data is not JSON") from error
    if not isinstance(members, dict) or members.get("type") != kind:
        raise PasskeyError("passkey_not_verified", "the client data has another type")
    if not is_challenge(_bytes(members.get("challenge"))):
        raise PasskeyError("passkey_expired", "the challenge was made for something else")
    if members.get("origin") not in origins:
        raise PasskeyError("passkey_not_verified", "the origin is not one of this server")
    if members.get("crossOrigin") not in (None, False) or "topOrigin" in members:
        raise PasskeyError("passkey_not_verified", "the page was in a frame of another origin")


def _check_flags(data: "AuthenticatorData", rp_id: str, *, user_verification: bool) -> None:
    if data.rp_id_hash != hashlib.sha256(rp_id.encode()).digest():
        raise PasskeyError("passkey_not_verified", "the passkey belongs to another domain")
    if not data.is_user_present():
        raise PasskeyError("passkey_not_verified", "the user was not present")
    if user_verification and not data.is_user_verified():
        raise PasskeyError("passkey_not_verified", "the user was not verified")
    if data.is_backed_up() and not data.is_backup_eligible():
        raise PasskeyError("passkey_not_verified", "the passkey is backed up, and cannot be")


def _authenticator_data(data: bytes) -> "AuthenticatorData":
    from fido2.webauthn import AuthenticatorData

    try:
        return AuthenticatorData(data)
    except _MALFORMED as error:
        raise PasskeyError("passkey_not_verified", "the authenticator data cannot be read") from error


def _authenticator_data_in(attestation_object: bytes) -> bytes:
    from fido2 import cbor

    try:
        members: Any = cbor.decode(attestation_object)
        data = members["authData"]
    except _MALFORMED as error:
        raise PasskeyError("passkey_not_verified", "the attestation object cannot be read") from error
    if not isinstance(data, bytes):
        raise PasskeyError("passkey_not_verified", "the attestation object has no authenticator data")
    return data


def _members(text: str, names: tuple[str, ...]) -> list[Any]:
    """Return the members of a JSON object that has exactly these names."""
    try:
        members = json.loads(text, object_pairs_hook=_unique) if len(text) <= MAX_ANSWER else None
    except (ValueError, RecursionError) as error:
        raise PasskeyError("passkey_not_verified", "the answer is not JSON") from error
    if not isinstance(members, dict) or members.keys() != set(names):
        raise PasskeyError("passkey_not_verified", "the answer is too long, or has other members")
    return [members[name] for name in names]


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object. Raises ValueError for a repeated name, which parsers read differently."""
    listed = list(pairs)
    members = dict(listed)
    if len(members) != len(listed):
        raise ValueError("a name is repeated")
    return members


def _bytes(value: object) -> bytes:
    """Return the bytes of base64url, which some clients pad. Raises PasskeyError for anything else."""
    try:
        if isinstance(value, str):
            return from_base64url(value.rstrip("="))
    except ValueError:
        pass
    raise PasskeyError("passkey_not_verified", "a member of the answer is not base64url")
