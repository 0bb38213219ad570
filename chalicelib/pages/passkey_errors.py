"""Explanations of the errors of passkeys: a part of the table in `explanations`."""

from chalicelib.pages.client_errors import Explanation, user_explanation
from chalicelib.protocol.texts import Text

_OTHER_WAY = Text("Sign in in another way, and look at the passkeys in your account.")

PASSKEY_ERRORS: dict[str, Explanation] = {
    "passkey_unknown": user_explanation(
        "This passkey is not known here",
        "The passkey was removed from the account, or belongs to another server.",
        _OTHER_WAY,
        "No user has a passkey with this ID. `user passkey list` shows those of a user.",
    ),
    "passkey_not_verified": user_explanation(
        "The passkey could not be verified",
        "The answer of your device was not valid, or your device did not check that it is you.",
        "Try again and confirm with your fingerprint, your face or the PIN of your device. Sign in in another way, and "
        "look at the passkeys in your account.",
        "The detail of the event sign_in_failed in the log says which check has failed, such as the origin.",
    ),
    "passkey_expired": user_explanation(
        "The passkey was used too late",
        "The page was open for more than five minutes, or the same answer was sent before.",
        "Try again with the page that is shown now.",
        "A challenge is valid for five minutes, once, and in the browser that it was shown to.",
    ),
    "passkey_counter": user_explanation(
        "This passkey may have been copied",
        "Your security key has counted fewer uses than this server. Another device may have the same key.",
        "Sign in in another way, remove this passkey from your account, and add a new one.",
        "The signature counter did not increase, and the passkey cannot be backed up. See docs/passkeys.md.",
    ),
    "passkey_in_use": user_explanation(
        "This passkey was added already",
        "The passkey belongs to an account of this server already.",
        "Use another device or password manager for a second passkey.",
        "The ID of a passkey is unique among all users.",
    ),
    "passkey_unavailable": user_explanation(
        "Passkeys cannot be used here",
        "Passkeys need JavaScript and a browser that supports them, and a server with a domain name.",
        "Sign in with your password.",
        "Browsers allow no passkeys at an IP address: use http://localhost:8000 locally. `doctor` checks it.",
    ),
}
