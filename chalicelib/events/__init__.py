"""Events: what happened, for the operator's log and metrics and for the user's history.

Owns the format of a log line, CloudWatch's embedded metrics, and the event records. It must not know which endpoint
calls it, and never writes a handle, token, secret or password.
"""

from dataclasses import replace

from chalicelib.events import history
from chalicelib.events.log import note as note  # a part of this interface
from chalicelib.http.messages import Request
from chalicelib.protocol.client import Client
from chalicelib.protocol.records import Event
from chalicelib.storage.store import Store
from chalicelib.storage.table import Write

SIGN_IN = "sign_in"
SIGN_IN_FAILED = "sign_in_failed"
SIGN_IN_THROTTLED = "sign_in_throttled"
SIGN_IN_LIMIT_REACHED = "sign_in_limit_reached"
SIGN_INS_FROM_ONE_ADDRESS = "sign_ins_from_one_address"
BROWSER_LET_IN = "browser_let_in"
SECOND_FACTOR_ASKED = "second_factor_asked"
SECOND_FACTOR_FAILED = "second_factor_failed"
SECOND_FACTOR_THROTTLED = "second_factor_throttled"
SECOND_FACTOR_PROVED = "second_factor_proved"
SECOND_FACTOR_ADDED = "second_factor_added"
SECOND_FACTOR_REMOVED = "second_factor_removed"
RECOVERY_CODE_USED = "recovery_code_used"
RECOVERY_CODES_CREATED = "recovery_codes_created"
PASSWORD_CHANGED = "password_changed"  # noqa: S105
PROFILE_CHANGED = "profile_changed"
DATA_DOWNLOADED = "data_downloaded"
ACCOUNT_DELETED = "account_deleted"
ACCOUNT_RESTORED = "account_restored"
ACCOUNT_REMOVED = "account_removed"
PASSKEY_ADDED = "passkey_added"
PASSKEY_RENAMED = "passkey_renamed"
PASSKEY_REMOVED = "passkey_removed"
PASSKEY_COUNTER = "passkey_counter"
SIGN_IN_CODE_REQUESTED = "sign_in_code_requested"
PASSWORD_RESET_REQUESTED = "password_reset_requested"  # noqa: S105
PASSWORD_RESET = "password_reset"  # noqa: S105
SIGNED_UP = "signed_up"
EMAIL_CHANGED = "email_changed"
EMAIL_CHANGE_UNDONE = "email_change_undone"
EMAIL_CODE_REJECTED = "email_code_rejected"
CONSENT_GIVEN = "consent_given"
CONSENT_DENIED = "consent_denied"
CODE_ISSUED = "code_issued"
CODE_REDEEMED = "code_redeemed"
TOKEN_REFRESHED = "token_refreshed"  # noqa: S105
TOKEN_ISSUED = "token_issued"  # noqa: S105
REUSE_DETECTED = "reuse_detected"
TOKEN_REVOKED = "token_revoked"  # noqa: S105
ACCESS_REVOKED = "access_revoked"
SIGNED_OUT = "signed_out"
LOGOUT_DELIVERED = "logout_delivered"
LOGOUT_UNDELIVERED = "logout_undelivered"
KEYS_ROTATED = "keys_rotated"
KEYS_RETIRED = "keys_retired"
CLIENT_REGISTERED = "client_registered"
CLIENT_UPDATED = "client_updated"
CLIENT_DELETED = "client_deleted"
CLIENT_CHANGED = "client_changed"
CLIENT_DOCUMENT_CHANGED = "client_document_changed"
USER_CHANGED = "user_changed"
RESOURCE_CHANGED = "resource_changed"
EMAIL_SENT = "email_sent"
EMAIL_DELAYED = "email_delayed"
EMAIL_UNDELIVERED = "email_undelivered"
EMAIL_LIMITED = "email_limited"
EMAIL_BOUNCED = "email_bounced"
# details: how the user has proved who it is
BY_PASSKEY = "passkey"
BY_EMAIL_CODE = "email code"
# Each is a record of its own in the log, and a metric that counts it.
EVENTS: dict[str, str] = {
    SIGN_IN: "A user signed in.",
    SIGN_IN_FAILED: "The username or the password was wrong, or the account is disabled.",
    SIGN_IN_THROTTLED: "A sign-in was rejected without checking the password, after too many failures.",
    SIGN_IN_LIMIT_REACHED: "An account had so many failed sign-ins in a day that unknown networks must wait.",
    SIGN_INS_FROM_ONE_ADDRESS: "Nearly all recent sign-ins came from this address, which may be that of a proxy.",
    BROWSER_LET_IN: "A link of the operator made a browser known for a user.",
    SECOND_FACTOR_ASKED: "A password or the code of an email was right, and the user was asked for the second factor.",
    SECOND_FACTOR_FAILED: "After the right password, the code or the passkey of the second factor was wrong.",
    SECOND_FACTOR_THROTTLED: "A code was rejected without checking it, after too many wrong ones.",
    SECOND_FACTOR_PROVED: "A user who was signed in proved the second factor.",
    SECOND_FACTOR_ADDED: "A user turned the second factor on.",
    SECOND_FACTOR_REMOVED: "A user turned the second factor off.",
    RECOVERY_CODE_USED: "A recovery code was used in place of the second factor.",
    RECOVERY_CODES_CREATED: "A user replaced the recovery codes.",
    PASSWORD_CHANGED: "A password was changed; every other session of the user has ended.",
    PROFILE_CHANGED: "A user changed their own profile.",
    DATA_DOWNLOADED: "A user downloaded what is stored about them.",
    ACCOUNT_DELETED: "A user deleted their account, which ended all access; it can be restored for some days.",
    ACCOUNT_RESTORED: "A deleted account was restored by its user, after a sign-in or by the email about it.",
    ACCOUNT_REMOVED: "The schedule removed a deleted account with all its records.",
    PASSKEY_ADDED: "A user added a passkey.",
    PASSKEY_RENAMED: "A user gave a passkey another name.",
    PASSKEY_REMOVED: "A user or the operator removed a passkey.",
    PASSKEY_COUNTER: "The counter of a passkey did not increase: its key may have been copied.",
    SIGN_IN_CODE_REQUESTED: "An email to sign in with was asked for; with a `sub`, it is sent to this user.",
    PASSWORD_RESET_REQUESTED: "An email for a new password was asked for; with a `sub`, it is sent to this user.",
    PASSWORD_RESET: "A user chose a new password by an email; every session of the user has ended.",
    SIGNED_UP: "A person created an account, with an invitation or without, after confirming the email address.",
    EMAIL_CHANGED: "A user confirmed an email address, which is verified now.",
    EMAIL_CHANGE_UNDONE: "A change of an email address was undone from the old one; every session has ended.",
    EMAIL_CODE_REJECTED: "A code that was typed is not the one in the email.",
    CONSENT_GIVEN: "A user allowed an application what it asked for.",
    CONSENT_DENIED: "A user denied an application access.",
    CODE_ISSUED: "A grant was created: an application was sent an authorization code.",
    CODE_REDEEMED: "An authorization code was exchanged for tokens.",
    TOKEN_REFRESHED: "A refresh token was exchanged for new tokens.",
    TOKEN_ISSUED: "An application got a token for itself (client_credentials).",
    REUSE_DETECTED: "A code or refresh token was used twice, and its grant was revoked.",
    TOKEN_REVOKED: "An application revoked a grant.",
    ACCESS_REVOKED: "A user or the operator removed the access of an application.",
    SIGNED_OUT: "A session ended.",
    LOGOUT_DELIVERED: "An application accepted a logout token.",
    LOGOUT_UNDELIVERED: "An application did not accept a logout token, which is not sent again.",
    KEYS_ROTATED: "New keys were added to the key ring.",
    KEYS_RETIRED: "Keys that nothing depends on were removed from the key ring.",
    CLIENT_REGISTERED: "An application registered itself.",
    CLIENT_UPDATED: "An application changed its own registration.",
    CLIENT_DELETED: "An application deleted its own registration, and its grants ended.",
    CLIENT_CHANGED: "The operator registered, changed or removed a client.",
    CLIENT_DOCUMENT_CHANGED: "An application changed its document; its users are asked for consent again.",
    USER_CHANGED: "The operator registered, changed or removed a user.",
    RESOURCE_CHANGED: "The operator registered, changed or removed a resource.",
    EMAIL_SENT: "Amazon SES accepted a mail.",
    EMAIL_DELAYED: "A mail could not be sent, and will be sent again.",
    EMAIL_UNDELIVERED: "A mail could not be sent, and will not be sent again.",
    EMAIL_LIMITED: "A mail was not sent, or not yet, because a limit was reached.",
    EMAIL_BOUNCED: "A mail was returned as undeliverable, or its reader has complained about it.",
}


def record(
    store: Store, http: Request, name: str, sub: str, client: Client | None = None, detail: str | None = None
) -> Write[Event]:
    """Return the write that keeps an event in a user's history for 90 days.

    Once it succeeds, alone or in a transaction, the event is logged and counted too.
    """
    event = history.by_request(store, http, sub, name, client, detail)
    client_id = client.client_id if client else None
    return replace(store.events.inserting(event), on_success=lambda: note(http, name, sub=sub, client_id=client_id))
