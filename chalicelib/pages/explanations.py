"""Explanations of all errors: a stable short code, what happened, and what to do.

The error page, `GET /errors` and docs/errors.md are generated from this table. An OAuth error is explained by its own
code. Where the user sees a page instead of a redirect, the code is more specific.
"""

from chalicelib.pages.client_errors import CLIENT_ERRORS, Explanation, user_explanation
from chalicelib.pages.passkey_errors import PASSKEY_ERRORS
from chalicelib.protocol.texts import Text

_START_AGAIN = Text("Go back to the application and start again.")
_CONTACT_APPLICATION = Text("Go back and contact the people who run the application. You cannot fix this yourself.")

EXPLANATIONS: dict[str, Explanation] = {
    # ---- pages: the redirect URI is not trusted yet, or the response was already sent
    "unknown_client": user_explanation(
        "This application is not registered",
        "The application that sent you here is not registered with this server, or it was disabled.",
        _CONTACT_APPLICATION,
        "Compare the client_id with the one that the operator gave you. `client list` shows the registered clients.",
    ),
    "client_document_unusable": user_explanation(
        "This application cannot be used here",
        "The application that sent you here describes itself in a document on its own website. This server does not "
        "accept that document, or could not read it. Nothing was sent to the application.",
        _CONTACT_APPLICATION,
        "The client_id is the https URL of a client metadata document. It is fetched only if the operator's settings "
        "allow its host and `client block` does not name it. The detail in the log entry says what was wrong.",
    ),
    "redirect_uri_mismatch": user_explanation(
        "The application's address is not registered",
        "The application asked to send the response to an address that is not registered for it. To protect your "
        "account, nothing was sent.",
        _CONTACT_APPLICATION,
        "Register exactly this redirect_uri, or send a registered one. They are compared character by character; only "
        "the port of http://127.0.0.1 and http://[::1] may differ.",
    ),
    "redirect_uri_missing": user_explanation(
        "The application did not say where to send the response",
        "The application has several registered addresses, or uses OpenID Connect, and must name one of them.",
        _CONTACT_APPLICATION,
        "Send redirect_uri. It is optional only without the openid scope, and only if the client has one registered "
        "redirect URI or a default one.",
    ),
    "post_logout_redirect_uri_mismatch": user_explanation(
        "The application's address is not registered",
        "The application asked to send you to an address that is not registered for it. You were not sent there.",
        "To sign out, open the sign-out page of this server, and press the button there.",
        "Register exactly this post_logout_redirect_uri, or send a registered one, with the id_token_hint or the "
        "client_id. They are compared character by character.",
    ),
    "request_expired": user_explanation(
        "This sign-in page has expired",
        "For your security, a sign-in must be completed within a few minutes. No access was given.",
        _START_AGAIN,
        "SIGNET_REQUEST_LIFETIME sets how long a request is valid. A request also ends when its client is removed, or "
        "loses the redirect URI or a requested scope. A handle from another server is rejected.",
    ),
    "request_answered": user_explanation(
        "You have already answered this request",
        "This request was already answered, perhaps in another tab or before you went back. Each request can be "
        "answered once.",
        "Continue in the application. If you are not signed in there, start again from the application.",
        "Each authorization request can be answered once. Create a new one, with its own state, for each sign-in.",
    ),
    "request_ended": user_explanation(
        "This page is no longer valid",
        "The sign-in or session that this page belongs to has ended.",
        _START_AGAIN,
        "The log entry of this request has more details.",
    ),
    "wrong_browser": user_explanation(
        "This was started in another browser",
        "A sign-in must be completed in the browser where it was started. The address may have been copied, or cookies "
        "may have been deleted.",
        "Go back to the application and start again. If someone sent you this link, do not sign in with it.",
        "A stored request belongs to the first browser that opens it, by a cookie.",
    ),
    "wrong_site": user_explanation(
        "This form came from another site",
        "Another website tried to submit a form in your name. It was rejected.",
        "Close that website. To sign in, start from the application that you want to use.",
        "Forms are accepted only from pages of this server. Behind a proxy, SIGNET_ISSUER must be the address that "
        "browsers use.",
    ),
    "form_not_ours": user_explanation(
        "This form is not valid",
        "It belongs to no request of this server, or it was changed.",
        _START_AGAIN,
        "A form is valid only for the request for which it was shown. Programs should not submit it.",
    ),
    "cookies_blocked": user_explanation(
        "Your browser did not send our cookie",
        "Signing in needs a cookie of this site. Your browser blocks it, or has deleted it.",
        "Allow cookies for this site, then try again.",
        "Users cannot sign in inside an embedded frame, or with cookies blocked.",
    ),
    "navigation_only": user_explanation(
        "This page must be opened directly",
        "A website tried to sign you in or out in the background. The request was rejected.",
        _START_AGAIN,
        "GET /oauth2/code and /oauth2/logout accept only top-level navigation: no frames, images or scripts (Fetch "
        "Metadata).",
    ),
    "email_link_ended": user_explanation(
        "This link or code is no longer valid",
        "A link or code from an email works once and for a limited time. A newer email replaces it.",
        "Ask for a new email, and use the newest one. Nothing was changed.",
        "A link also ends when the user has a new password or another address, or is disabled, after five wrong codes, "
        "and with `key retire --handles`. The events password_reset and email_changed say when one was used.",
    ),
    "let_in_ended": user_explanation(
        "This link is no longer valid",
        "A link that makes a browser known works in one browser and for an hour, until the password is changed.",
        "Ask the people who run this server for a new link. If the link was used, but not by you, tell them.",
        "`user let-in` prints a new link. The event browser_let_in says when and where a link was used. A link also "
        "ends with `key retire --handles`, and works for no disabled or deleted user.",
    ),
    "not_found": user_explanation(
        "Page not found",
        "There is nothing at this address. It may be mistyped or out of date.",
        "Start from the application that you want to use.",
        "The metadata at /.well-known/openid-configuration lists the endpoints.",
    ),
    "method_not_allowed": user_explanation(
        "This kind of request is not allowed",
        "The address exists, but it does not accept this HTTP method.",
        _START_AGAIN,
        "The Allow header lists the accepted methods.",
    ),
    "forbidden": user_explanation(
        "This address is not the public one",
        "The request did not come through the proxy that this server expects. Nothing was read or changed.",
        "Start from the application that you want to use.",
        "Use the address of the issuer. Operator: the proxy must send X-Signet-Proxy-Secret, and its SHA-256 must be "
        "in SIGNET_PROXY_SECRET_HASH.",
    ),
    # ---- errors that a page or a response can have
    "invalid_request": user_explanation(
        "This request is not valid",
        "A parameter of the request is missing, repeated, too long or malformed.",
        "Go back to the application and start again. If it happens again, contact the people who run the application.",
        "The description names the parameter.",
    ),
    "server_error": user_explanation(
        "Something went wrong",
        "An error occurred on the server. You did nothing wrong.",
        "Go back to the application and try again later.",
        "Search the log for the request ID: `detail` says where the error occurred.",
    ),
    "temporarily_unavailable": user_explanation(
        "Please try again in a moment",
        "The server is busy. Nothing was lost.",
        "Reload this page in a few seconds.",
        "The database or KMS was unreachable or throttled. Repeat the same request after the number of seconds in the "
        "Retry-After header.",
    ),
    "access_denied": user_explanation(
        "Access was denied",
        "The user did not allow access, or the account cannot be used at the moment.",
        "If this was a mistake, start again from the application.",
        "Let the user continue without access, or ask again when the user wants to. Do not ask again immediately.",
    ),
    "wrong_credentials": user_explanation(
        "The username or the password is not right",
        "No account has this username and password, or the account was disabled.",
        "Try again. If you forgot your password, contact the people who run this server.",
        "The sign_in_failed event in the log names the user, if the username exists. `user set-password` sets a new "
        "password.",
    ),
    "wrong_code": user_explanation(
        "The code is not right",
        "The password was right, but not the code of the second factor, or the recovery code was used before.",
        "Enter the code that your authenticator application shows now, and check the clock of your phone. If you have "
        "lost it, use a recovery code.",
        "The second_factor_failed event in the log names the user. `user mfa reset` removes a second factor that was "
        "lost.",
    ),
    "code_used": user_explanation(
        "The code was used already",
        "Each code of an authenticator application signs you in once, and no older one after it.",
        "Wait until the application shows the next code, and enter it.",
        "If the user did not sign in a moment ago, another person may have seen the code and the password.",
    ),
    "too_many_attempts": user_explanation(
        "Too many attempts",
        "You or someone else entered a wrong password too often. The next attempt must wait, even with the right "
        "password. A browser or network that you have signed in from before has limits of its own.",
        "Wait for the time that the page shows, or use a browser or network that you have signed in from before. If "
        "you cannot, ask the people who run this server.",
        "The response has the status 429 and a Retry-After header. The settings SIGNET_SIGN_IN_ATTEMPTS… are the "
        "limits. `user let-in` makes one more browser known, `user unlock` resets the limits of a user.",
    ),
    **PASSKEY_ERRORS,
    **CLIENT_ERRORS,
}


# The page of errors has parts, so that each is small: part -> its title.
PARTS = {"": "Errors and what to do", "sign-in": "Errors of a sign-in", "applications": "Errors that applications get"}
_SIGN_IN = frozenset({"wrong_credentials", "wrong_code", "code_used", "too_many_attempts", *PASSKEY_ERRORS})


def part_of(code: str) -> str:
    """Return the part of the page of errors that explains a code."""
    if code in _SIGN_IN:
        return "sign-in"
    return "applications" if code in CLIENT_ERRORS else ""


def path_of_part(part: str) -> str:
    """Return the path of a part of the page of errors."""
    return f"/errors?part={part}" if part else "/errors"


def explanation_path(code: str) -> str:
    """Return the path of the page that explains an error code, at its place there."""
    return f"{path_of_part(part_of(code))}#{code}"


def explain(code: str) -> Explanation:
    """Return the explanation of an error code; of server_error for a code that is missing (a test prevents that)."""
    return EXPLANATIONS.get(code, EXPLANATIONS["server_error"])
