"""Every error that people meet: a stable short code, what it means, and what to do. One table.

The error page, `GET /errors` and docs/errors.md are made of it. An OAuth error is explained by its own code; where a
person sees a page instead of it, the code is finer.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """An error in words: what it is (a title, then a sentence or two), and what to do about it.

    `person` is for whoever sees the page, empty where only applications meet the error; `developer` for those who run
    the application or this server.
    """

    title: str
    meaning: str
    person: str
    developer: str


_START_AGAIN = "Go back to the application and start again."
_TELL_THEM = "Go back, and tell the people who run the application. There is nothing that you can do about it here."

EXPLANATIONS: dict[str, Explanation] = {
    # ---- pages, before the server knows where an answer may go, or after it has gone
    "unknown_client": Explanation(
        "We do not know this application",
        "The application that has sent you here is not registered, or it has been switched off.",
        _TELL_THEM,
        "Compare the client_id with the one that the operator gave you; `client list` shows those that there are.",
    ),
    "redirect_uri_mismatch": Explanation(
        "The application's address is not registered",
        "The application has sent you here with an address for the answer that is not registered for it. So that "
        "nobody else gets the answer, it goes nowhere.",
        _TELL_THEM,
        "Register this very redirect_uri, or send one that is registered. They are compared character by character; "
        "only the port of http://127.0.0.1 and http://[::1] may differ.",
    ),
    "redirect_uri_missing": Explanation(
        "The application has not said where the answer goes",
        "The application has several addresses, or uses OpenID Connect, and has to name one.",
        _TELL_THEM,
        "Send redirect_uri. It may be left out only without the scope openid, and if one is registered, or a default.",
    ),
    "post_logout_redirect_uri_mismatch": Explanation(
        "The application's address is not registered",
        "The application wants you to be sent to an address that is not registered for it. You are still signed in.",
        "Go back, and tell the people who run the application. To sign out, open the address of this server's sign-out "
        "page without the application.",
        "Register this very post_logout_redirect_uri, or send one that is registered. They are compared character by "
        "character.",
    ),
    "request_expired": Explanation(
        "This page has waited too long",
        "For your safety a sign-in waits for some minutes only. Nothing has been given away.",
        _START_AGAIN,
        "SIGNET_REQUEST_LIFETIME says how long a request waits. It ends too when its client is removed, or loses the "
        "redirect URI or a scope of it; and the handle of another server is none.",
    ),
    "request_answered": Explanation(
        "This has been answered already",
        "The question on this page was answered before, perhaps in another tab or before you pressed Back. An answer "
        "counts once.",
        "Go on in the application. If it does not know you, start there again.",
        "Each authorization request is answered once. Make a new one for each sign-in, with its own state.",
    ),
    "request_ended": Explanation(
        "This page cannot go on",
        "What this page belongs to is over.",
        _START_AGAIN,
        "The line of this request in the log says more.",
    ),
    "wrong_browser": Explanation(
        "This was started in another browser",
        "A sign-in ends in the browser in which it began. Perhaps the address was copied, or cookies were removed.",
        _START_AGAIN + " If somebody has sent you this address: do not sign in with it.",
        "The browser must keep our cookies: no sign-in in an embedded frame, nor with cookies blocked.",
    ),
    "wrong_site": Explanation(
        "This form came from another site",
        "Another website has tried to send a form in your name. It was not accepted.",
        "Close that website. To sign in, start at the application that you want to use.",
        "Forms are taken from pages of this server only. Behind a proxy, SIGNET_ISSUER must be the address that "
        "browsers see.",
    ),
    "form_not_ours": Explanation(
        "This form does not count any more",
        "It was shown to somebody else, or changed on its way. Perhaps you have signed in as another person meanwhile.",
        _START_AGAIN,
        "A form counts for the request, browser and session that it was shown to. Programs should not fill it in.",
    ),
    "navigation_only": Explanation(
        "This address is for the address bar",
        "A page has tried to sign you in or out without showing you anything. It was not accepted.",
        _START_AGAIN,
        "GET /oauth2/code and /oauth2/logout take top-level navigation only: no frame, picture or script (Fetch "
        "Metadata).",
    ),
    "not_found": Explanation(
        "There is nothing here",
        "The address may be mistyped, or out of date.",
        "Start at the application that you want to use.",
        "The metadata at /.well-known/openid-configuration lists the addresses that there are.",
    ),
    "method_not_allowed": Explanation(
        "This address works in another way",
        "The address exists, but not for this kind of request.",
        _START_AGAIN,
        "The header Allow lists the methods that there are.",
    ),
    # ---- on a page or in an answer
    "invalid_request": Explanation(
        "This request cannot be read",
        "Something in the request is missing, repeated, too long or malformed.",
        _START_AGAIN + " If it happens again, tell the people who run it.",
        "The description names the parameter.",
    ),
    "server_error": Explanation(
        "Something went wrong",
        "The server has made a mistake. It is not your fault.",
        "Go back to the application and try again later.",
        "Look in the log for the number of the request: `detail` says where it happened.",
    ),
    "temporarily_unavailable": Explanation(
        "Please try again in a moment",
        "The server is busy. Nothing is lost.",
        "Reload this page in a few seconds.",
        "The database or KMS was out of reach or throttled. The answer has Retry-After; repeat the same request then.",
    ),
    "access_denied": Explanation(
        "Access was denied",
        "The person said no, or the account cannot be used now.",
        "If you did not mean to, start again at the application.",
        "Let the person go on without, or ask again when they want it. Do not ask at once.",
    ),
    "wrong_credentials": Explanation(
        "The username or the password is not right",
        "No account has this name and this password, or the account has been switched off.",
        "Try again. If you have forgotten your password, ask the people who run this server.",
        "The event sign_in_failed in the log names the person, if the name is known. `user set-password` gives a new "
        "password.",
    ),
    "too_many_attempts": Explanation(
        "Too many wrong passwords",
        "Somebody, perhaps you, has tried wrong passwords. The next try has to wait, whatever the password.",
        "Wait as long as the page says, and try again then.",
        "The answer has the status 429 and Retry-After. SIGNET_SIGN_IN_ATTEMPTS and "
        "SIGNET_SIGN_IN_ATTEMPTS_PER_ADDRESS say how many are too many.",
    ),
    # ---- answers of the authorization endpoint
    "unauthorized_client": Explanation(
        "The application may not do this",
        "It is not registered for what it asks.",
        "",
        "Compare grant_types, response_types and the options of the registration with the request.",
    ),
    "unsupported_response_type": Explanation(
        "This response_type is not supported",
        "The server does not give answers of this kind.",
        "",
        "The metadata lists response_types_supported.",
    ),
    "invalid_scope": Explanation(
        "The scope is not right",
        "It is malformed, or exceeds what the client is registered for or was granted.",
        "",
        "Register the scope for the client, or ask for less.",
    ),
    "login_required": Explanation(
        "Nobody is signed in",
        "The request forbids to ask (prompt=none), and a sign-in is needed.",
        "",
        "Send the person again without prompt=none. In a frame of another site, browsers keep our cookies back: renew "
        "by refresh token there.",
    ),
    "consent_required": Explanation(
        "The person has not agreed yet",
        "The request forbids to ask (prompt=none), and consent is needed.",
        "",
        "Send the person again without prompt=none. “Always allow” is remembered, “Allow once” is not.",
    ),
    "interaction_required": Explanation(
        "The person has something to do first",
        "The request forbids to ask (prompt=none), and a password has to be changed.",
        "",
        "Send the person again without prompt=none.",
    ),
    "request_not_supported": Explanation(
        "Request objects are not supported",
        "The request has the parameter request.",
        "",
        "Send the parameters themselves.",
    ),
    "request_uri_not_supported": Explanation(
        "This request_uri is not supported",
        "The request names a request_uri that is not of this server.",
        "",
        "Send the parameters themselves.",
    ),
    "registration_not_supported": Explanation(
        "A request cannot register an application",
        "The request has the parameter registration.",
        "",
        "Have the operator register the client, and leave the parameter out.",
    ),
    "unmet_authentication_requirements": Explanation(
        "Nobody can sign in as the application wants",
        "The request insists on a way to sign in (acr) that this server does not have.",
        "",
        "The metadata lists acr_values_supported.",
    ),
    "invalid_target": Explanation(
        "This resource is not known",
        "The parameter resource is malformed, or names a resource that was not granted.",
        "",
        "Send an absolute URI without a fragment, one that the grant is for.",
    ),
    # ---- answers of the token endpoint, and of protected resources
    "invalid_client": Explanation(
        "The application could not prove who it is",
        "The client is unknown, or its authentication failed.",
        "",
        "Check client_id and secret, and that both are form-encoded in HTTP Basic; a public client sends no secret. "
        "`client rotate-secret` makes a new one.",
    ),
    "invalid_grant": Explanation(
        "The code or token is worth nothing any more",
        "It has expired, was used, was revoked, or belongs to another client; or redirect_uri or code_verifier are "
        "not those of the request.",
        "",
        "Start a new authorization request. A code works once, within a minute; of a refresh token only the newest "
        "works.",
    ),
    "unsupported_grant_type": Explanation(
        "This grant_type is not supported",
        "The token endpoint does not know it.",
        "",
        "The metadata lists grant_types_supported.",
    ),
    "invalid_token": Explanation(
        "The access token is worth nothing any more",
        "It has expired, was revoked, or is not of this server.",
        "",
        "Get another by the refresh token, or start a new authorization request.",
    ),
    "insufficient_scope": Explanation(
        "The access token does not reach so far",
        "It is good, but was not given for this.",
        "",
        "Ask for the scope that the header WWW-Authenticate names.",
    ),
    # ---- registration, by the operator
    "invalid_redirect_uri": Explanation(
        "This redirect URI cannot be registered",
        "It is not an absolute URI that an answer may safely be sent to.",
        "",
        "https anywhere; http for 127.0.0.1, [::1] and localhost; or the application's own scheme, which has a dot.",
    ),
    "invalid_client_metadata": Explanation(
        "This registration is not possible",
        "A member of the client's registration has a value that it must not have.",
        "",
        "The description names the member and its legal values.",
    ),
}


def explain(code: str) -> Explanation:
    """What a code means; one that is not in the table, which a test forbids, is our mistake."""
    return EXPLANATIONS.get(code, EXPLANATIONS["server_error"])
