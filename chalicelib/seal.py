"""Closes and opens the key ring, so that the table that holds it is worth nothing alone."""

import secrets
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from chalicelib.dynamodb import new_session, unavailable
from chalicelib.settings import Settings, SettingsError

if TYPE_CHECKING:
    from boto3 import Session
    from types_boto3_kms import KMSClient

_NONCE_BYTES = 12


class Seal:
    """AES-256-GCM with a key that the settings hold, or, in AWS, with a data key that KMS wraps.

    The wrapped key lies before the sealed text; KMS is told the stage as encryption context, so that one stage's ring
    never opens in another. Every call of KMS raises TemporarilyUnavailable when KMS is throttled or out of reach.
    """

    def __init__(self, settings: Settings, session: "Callable[[], Session]" = new_session):
        self._settings = settings
        self._session = session
        self._context = {"signet-stage": settings.stage}

    @cached_property
    def kms(self) -> "KMSClient":
        """The client, made on first use."""
        from botocore.config import Config

        config = Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 3})
        return self._session().client("kms", region_name=self._settings.region, config=config)

    def seal(self, plain: bytes) -> bytes:
        """Sealed bytes that only `unseal` of the same stage opens."""
        if self._settings.sealing_key:
            return self._encrypt(self._settings.sealing_key, plain)
        with unavailable("kms"):
            made = self.kms.generate_data_key(
                KeyId=self._settings.kms_key_id, KeySpec="AES_256", EncryptionContext=self._context
            )
        wrapped = made["CiphertextBlob"]
        return len(wrapped).to_bytes(2, "big") + wrapped + self._encrypt(made["Plaintext"], plain)

    def unseal(self, sealed: bytes) -> bytes:
        """What was sealed: one Decrypt where KMS holds the key. Raises SettingsError for another key or stage."""
        from cryptography.exceptions import InvalidTag

        key = self._settings.sealing_key
        if not key:
            end = 2 + int.from_bytes(sealed[:2], "big")
            key, sealed = self._unwrap(sealed[2:end]), sealed[end:]
        nonce, text = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            plain: bytes = _aead(key).decrypt(nonce, text, self._settings.stage.encode())
        except InvalidTag as error:
            raise SettingsError("The key ring was sealed with another key than the one in force") from error
        return plain

    def _unwrap(self, wrapped: bytes) -> bytes:
        with unavailable("kms"):
            try:
                return self.kms.decrypt(
                    KeyId=self._settings.kms_key_id, CiphertextBlob=wrapped, EncryptionContext=self._context
                )["Plaintext"]
            except self.kms.exceptions.InvalidCiphertextException as error:
                raise SettingsError("The key ring was sealed with another key than the one in force") from error

    def _encrypt(self, key: bytes, plain: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed: bytes = _aead(key).encrypt(nonce, plain, self._settings.stage.encode())
        return nonce + sealed


def _aead(key: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)
