"""Explanations of the errors that applications get, by a redirect or in the response of an endpoint."""

from chalicelib.protocol.texts import Text
from chalicelib.protocol.values import dataclass


@dataclass(frozen=True)
class Explanation:
    """An error in plain words: a title, what happened, and what to do.

    `for_user` is for the user who sees the page, and empty where only applications get the error. `for_developer` is
    for the developer of the application and the operator of this server.
    """

    title: str
    meaning: str
    for_user: str
    for_developer: str


def user_explanation(title: str, meaning: str, for_user: str, for_developer: str) -> Explanation:
    """Return the explanation of an error that users see: in their language, except what is for developers."""
    return Explanation(Text(title), Text(meaning), Text(for_user), for_developer)


CLIENT_ERRORS: dict[str, Explanation] = {
    # ---- responses of the authorization endpoint
    "unauthorized_client": Explanation(
        "The application is not allowed to do this",
        "It is not registered for this kind of request.",
        "",
        "Compare grant_types, response_types and the other settings of the registration with the request.",
    ),
    "unsupported_response_type": Explanation(
        "This response type is not supported",
        "The server does not support the response_type of the request.",
        "",
        "The metadata lists the supported values in response_types_supported.",
    ),
    "invalid_scope": Explanation(
        "The scope is not valid",
        "It is malformed, or no part of it (with strict_scope: not all) is registered for the client or was granted.",
        "",
        "Register the scope for the client, or request less.",
    ),
    "login_required": Explanation(
        "The user must sign in",
        "The request does not allow a sign-in page (prompt=none), but the user must sign in.",
        "",
        "Send the user again without prompt=none. In a frame on another site, browsers do not send the cookies of this "
        "server: use a refresh token there.",
    ),
    "consent_required": Explanation(
        "The user must allow access",
        "The request does not allow a consent page (prompt=none), but consent is needed.",
        "",
        "Send the user again without prompt=none. Access is remembered if the user chose “Remember my choice”.",
    ),
    "interaction_required": Explanation(
        "The user must change the password",
        "The request does not allow any page (prompt=none), but the user must choose a new password.",
        "",
        "Send the user again without prompt=none.",
    ),
    "request_not_supported": Explanation(
        "A request object that is not signed is not supported",
        "The request has the parameter request, with a JWT that is not signed (alg none).",
        "",
        "Sign the request object with a key that is registered for the client, or send each parameter directly.",
    ),
    "invalid_request_object": Explanation(
        "The signed request is not valid",
        "The request object (parameter request) is malformed, is not for this server, or is not signed by a key of the "
        "client.",
        "",
        "error_description says what is wrong. The request object is a JWT with iss and client_id (the client_id), aud "
        "(the issuer) and exp (at most an hour ahead), signed by a key in the client's jwks or jwks_uri. Make a new "
        "one for each request.",
    ),
    "request_uri_not_supported": Explanation(
        "This request_uri is not supported",
        "The request has a request_uri that was not issued by this server.",
        "",
        "Send each parameter directly, or push the request to /oauth2/par (RFC 9126).",
    ),
    "registration_not_supported": Explanation(
        "A request cannot register an application",
        "The request has the parameter registration.",
        "",
        "Ask the operator to register the client, and leave the parameter out.",
    ),
    "unmet_authentication_requirements": Explanation(
        "The required way to sign in is not available",
        "The request requires an authentication method (acr) that this server does not support.",
        "",
        "The metadata lists the supported values in acr_values_supported.",
    ),
    "invalid_target": Explanation(
        "This resource is unknown",
        "The parameter resource names none that is registered, was granted, and has a scope for this client.",
        "",
        "Send an absolute URI without a fragment that the grant includes. At the token endpoint, name one resource.",
    ),
    "invalid_authorization_details": Explanation(
        "This permission cannot be requested",
        "The parameter authorization_details is not a JSON array of objects, has a type or a member that is not "
        "registered or not for this client, or exceeds what was granted.",
        "",
        "Send an array of objects, each with a type of authorization_details_types_supported that the client is "
        "registered for, and only with its members. error_description says which one is wrong.",
    ),
    # ---- responses of the token endpoint and of protected resources
    "invalid_client": Explanation(
        "Client authentication failed",
        "The client is unknown, or its authentication failed.",
        "",
        "Check the client_id and the secret, form-encoded in HTTP Basic; a public client sends none. `client "
        "rotate-secret` creates another. A client assertion names the issuer as its audience, and is used once. A "
        "certificate is for the mtls_endpoint_aliases.",
    ),
    "invalid_grant": Explanation(
        "The code or token is not valid",
        "It has expired, was used, was revoked, or belongs to another client; or redirect_uri or code_verifier does "
        "not match the authorization request.",
        "",
        "Start a new authorization request. A code can be used once, within a minute. Only the newest refresh token "
        "can be used.",
    ),
    "invalid_dpop_proof": Explanation(
        "The DPoP proof is not valid",
        "It is missing, was used before, was made for another request, is too old or from a clock that is ahead, or "
        "its key cannot be used.",
        "",
        "Make a new proof for each request, also when you repeat one. The description says which part is wrong. A "
        "proof can be used for a minute, and its htu is the address in the metadata.",
    ),
    "use_dpop_nonce": Explanation(
        "The DPoP proof needs another nonce",
        "The nonce of the proof is missing, too old, or not from this server.",
        "",
        "Repeat the request with a new proof that has the value of the DPoP-Nonce header as its nonce. Most libraries "
        "do this themselves.",
    ),
    "unsupported_grant_type": Explanation(
        "This grant type is not supported",
        "The token endpoint does not support the grant_type of the request.",
        "",
        "The metadata lists the supported values in grant_types_supported.",
    ),
    "invalid_token": Explanation(
        "The access token is not valid",
        "It has expired, was revoked, or was not issued by this server.",
        "",
        "Get a new access token with the refresh token, or start a new authorization request. A token that is bound to "
        "a certificate is used with it, at the mtls_endpoint_aliases.",
    ),
    "insufficient_scope": Explanation(
        "The access token does not allow this",
        "It is valid, but its scope does not include this access.",
        "",
        "Request the scope that the WWW-Authenticate header names.",
    ),
    # ---- registration by the operator
    "invalid_redirect_uri": Explanation(
        "This redirect URI cannot be registered",
        "It is not an absolute URI to which a response can be sent safely.",
        "",
        "Use https; http with 127.0.0.1, [::1] or localhost; or a private-use scheme of the application that contains "
        "a dot.",
    ),
    "invalid_client_metadata": Explanation(
        "This registration is not valid",
        "A member of the client's registration has a value that is not allowed.",
        "",
        "The description names the member and the allowed values.",
    ),
}
