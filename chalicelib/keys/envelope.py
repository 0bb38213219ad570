"""Envelope encryption of the key ring, so that a copy of its table is useless without the key."""

import secrets
from base64 import b64decode, b64encode
from contextlib import suppress
from functools import cached_property
from typing import Any

from chalicelib.aws.client import Account, AwsError, Client
from chalicelib.settings import Settings, SettingsError, aws_environment

_NONCE_BYTES = 12
_WRONG_KEY = "The key ring was encrypted with another key, in another stage, or for another version"


class Seal:
    """AES-256-GCM with a key from the settings, or, in AWS, with a data key that KMS wraps.

    The wrapped key precedes the ciphertext. The stage is the encryption context of the wrapped key. Stage and version
    of the ring are associated data of the ciphertext (RFC 5116 section 2.1), so that a ring is only decrypted in its
    own stage, and under its own version. Every call of KMS raises TemporarilyUnavailable when KMS is throttled or
    unreachable.
    """

    def __init__(self, settings: Settings, account: Account | None = None):
        self._settings = settings
        self._account = account or Account(settings.region, aws_environment)
        self._context = {"signet-stage": settings.stage}

    @cached_property
    def kms(self) -> Client:
        """The KMS client, created on first use."""
        return self._account.client("kms")

    def seal(self, plain: bytes, version: int) -> bytes:
        """Return the encrypted bytes, which only `unseal` with the same version, in the same stage, decrypts."""
        if self._settings.sealing_key:
            return self._encrypt(self._settings.sealing_key, plain, version)
        data_key = self.kms.call(
            "GenerateDataKey", KeyId=self._settings.kms_key_id, KeySpec="AES_256", EncryptionContext=self._context
        )
        wrapped, key = b64decode(data_key["CiphertextBlob"]), b64decode(data_key["Plaintext"])
        return len(wrapped).to_bytes(2, "big") + wrapped + self._encrypt(key, plain, version)

    def unseal(self, sealed: bytes, version: int) -> bytes:
        """Return the decrypted bytes, with one call of KMS unless the settings have the key.

        Accepts envelopes of Signet 0.1.0, whose associated data has no version. Raises SettingsError when the bytes
        were encrypted with another key, in another stage, or for another version.
        """
        from cryptography.exceptions import InvalidTag

        key = self._settings.sealing_key
        if not key:
            end = 2 + int.from_bytes(sealed[:2], "big")
            key, sealed = self._unwrap(sealed[2:end]), sealed[end:]
        for associated_data in (self._associated_data(version), self._settings.stage.encode()):
            with suppress(InvalidTag):
                return decrypt(key, sealed, associated_data)
        raise SettingsError(_WRONG_KEY)

    def _unwrap(self, wrapped: bytes) -> bytes:
        blob = b64encode(wrapped).decode()
        try:
            answer = self.kms.call(
                "Decrypt", KeyId=self._settings.kms_key_id, CiphertextBlob=blob, EncryptionContext=self._context
            )
        except AwsError.named("InvalidCiphertextException") as error:
            raise SettingsError(_WRONG_KEY) from error
        return b64decode(answer["Plaintext"])

    def _encrypt(self, key: bytes, plain: bytes, version: int) -> bytes:
        return encrypt(key, plain, self._associated_data(version))

    def _associated_data(self, version: int) -> bytes:
        return f"{self._settings.stage} {version}".encode()  # a stage contains no space


def encrypt(key: bytes, plain: bytes, associated_data: bytes) -> bytes:
    """Return the bytes encrypted with AES-256-GCM, after their nonce."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed: bytes = _aead(key).encrypt(nonce, plain, associated_data)
    return nonce + sealed


def decrypt(key: bytes, sealed: bytes, associated_data: bytes) -> bytes:
    """Return the bytes that `encrypt` was given. Raises InvalidTag of cryptography for anything else."""
    plain: bytes = _aead(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], associated_data)
    return plain


def _aead(key: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)
