"""Time-based one-time passwords (TOTP, RFC 6238): secrets, codes, and the URI in the QR code; pyotp.

SHA-1, six digits and 30 seconds, because that is what all authenticator applications support.
"""

import base64
import unicodedata

from chalicelib.keys.ring import KeyRing
from chalicelib.protocol.handles import from_base64url
from chalicelib.protocol.records import User

DIGITS = 6
STEP = 30  # seconds
WINDOW = 1  # steps before and after the current one, for a clock that is not exact (RFC 6238 section 5.2)
SECRET_BYTES = 20  # RFC 4226 section 4
_MAX_INPUT = 64


def normalize(text: str) -> str:
    """Return a code in the digits 0 to 9, without spaces and hyphens; it may be typed in those of another script."""
    digits = (str(unicodedata.decimal(character, "")) or character for character in text[:_MAX_INPUT])
    return "".join(each for each in digits if not each.isspace() and unicodedata.category(each[0]) not in ("Pd", "Cf"))


def matching_step(secret: bytes, code: str, now: int) -> int | None:
    """Return the time step that a normalized code belongs to, or None if it is wrong now."""
    if len(code) != DIGITS or not (code.isascii() and code.isdigit()):
        return None
    import pyotp
    from pyotp.exceptions import OTPVerificationError

    try:
        step: int = pyotp.TOTP(as_text(secret)).verify_and_get_timecode(code, for_time=now, valid_window=WINDOW)
    except OTPVerificationError:
        return None
    return step


def as_text(secret: bytes) -> str:
    """Return a secret in base32, as authenticator applications take it."""
    return base64.b32encode(secret).decode()


def key_uri(secret: bytes, username: str, issuer: str) -> str:
    """Return the otpauth URI that adds a secret to an authenticator application."""
    import pyotp

    uri: str = pyotp.TOTP(as_text(secret)).provisioning_uri(name=username, issuer_name=issuer)
    return uri


def secret_for_session(keys: KeyRing, user: User, session_id: str) -> bytes:
    """Return the secret that a user sets up in a session: the same until the second factor is turned on or off.

    It is computed, so that the page that shows it stores nothing, and can be reloaded.
    """
    digest = keys.digest("totp secret", session_id, str(user.totp_generation), user.sub)
    return from_base64url(digest)[:SECRET_BYTES]


def seal(keys: KeyRing, sub: str, secret: bytes) -> bytes:
    """Return a secret as it is stored: encrypted for this user, in this stage."""
    return keys.seal_data(secret, f"{sub} totp")


def unseal(keys: KeyRing, user: User) -> bytes | None:
    """Return the secret of a user; None without one, or when it was encrypted for another user or stage."""
    return keys.unseal_data(user.totp_secret, f"{user.sub} totp") if user.totp_secret else None
