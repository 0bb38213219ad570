"""OpenID Connect Discovery 1.0, with errata set 2."""

from tests.specifications.clauses.clause import Clause, Specification

LOCAL = "On a loopback address it can be http, for local development."

SPECIFICATION = Specification(
    "OpenID Connect Discovery",
    "OpenID Connect Discovery 1.0",
    (
        Clause(
            "2",
            "MUST",
            "WebFinger returns the issuer of a user.",
            not_applicable="WebFinger is optional and not supported: clients are configured with the issuer.",
        ),
        Clause(
            "3 a", "REQUIRED", "The metadata includes the issuer, an https URL without query and fragment.", note=LOCAL
        ),
        Clause("3 b", "MUST", "The issuer is identical to the iss of ID tokens."),
        Clause("3 c", "REQUIRED", "The metadata includes the authorization endpoint."),
        Clause("3 d", "REQUIRED", "The metadata includes the token endpoint."),
        Clause("3 e", "RECOMMENDED", "The metadata includes the UserInfo endpoint."),
        Clause("3 f", "REQUIRED", "The metadata includes the jwks_uri."),
        Clause("3 g", "MUST", "All these addresses are https.", note=LOCAL),
        Clause(
            "3 h",
            "REQUIRED",
            "If there are encryption keys, each key has a use.",
            not_applicable="All keys are signing keys, with `use: sig`.",
        ),
        Clause("3 i", "MUST", "Certificates match the bare keys.", not_applicable="Keys have no certificates."),
        Clause("3 j", "MUST NOT", "No private or symmetric key is published."),
        Clause("3 k", "RECOMMENDED", "The metadata includes the registration endpoint."),
        Clause("3 l", "RECOMMENDED", "The metadata lists the scopes."),
        Clause("3 m", "MUST", "The scope openid is supported."),
        Clause("3 n", "SHOULD", "The scopes of OpenID Connect Core are listed."),
        Clause("3 o", "REQUIRED", "The metadata lists the response types."),
        Clause(
            "3 p",
            "MUST",
            "The required response types and grant types are supported.",
            not_held="A dynamic provider would send tokens through the browser (the implicit grant). OAuth 2.1 removes "
            "this.",
        ),
        Clause("3 q", "REQUIRED", "The metadata lists the subject types."),
        Clause("3 r", "REQUIRED", "The metadata lists the algorithms of ID tokens."),
        Clause("3 s", "MUST", "RS256 is one of the algorithms."),
        Clause("3 t", "MUST NOT", "none is not used for ID tokens in authorization responses."),
        Clause(
            "3 u",
            "SHOULD",
            "none and RS256 are supported for request objects.",
            not_held="RS256 is; without a signature, a request object proves nothing.",
        ),
        Clause("3 v", "SHOULD", "RS256 is supported for JWTs of clients."),
        Clause("3 w", "MUST NOT", "none is not supported for JWTs of clients."),
        Clause("3 x", "RECOMMENDED", "The metadata lists the claims."),
        Clause(
            "3 y",
            "SHOULD",
            "Policy and terms are displayed to the person who registers a client.",
            not_applicable="The metadata names neither: the operator registers clients.",
        ),
        Clause("3 z", "SHOULD", "Token endpoint, UserInfo and keys support CORS."),
        Clause("3 aa", "NOT RECOMMENDED", "The authorization endpoint does not support CORS."),
        Clause("4 a", "MUST", "The document is at the issuer followed by `/.well-known/openid-configuration`."),
        Clause("4 b", "MUST", "The document is application/json."),
        Clause("4 c", "SHOULD", "The document supports CORS."),
        Clause("4.1", "MUST", "The document is served for GET."),
        Clause("4.2 a", "MUST", "The response is 200 with a JSON object."),
        Clause("4.2 b", "MUST", "Members without a value are omitted."),
        Clause("4.3 a", "MUST", "The issuer in the document is identical to the one of its address."),
        Clause("4.3 b", "MUST", "The issuer is identical to the iss of ID tokens."),
        Clause("5", "MUST", "Strings are compared by code points, without Unicode normalization."),
        Clause("7.1 a", "MUST", "The server supports TLS."),
        Clause("7.1 b", "SHOULD", "TLS follows BCP 195."),
        Clause("7.1 c", "MUST", "The document is protected by TLS.", note=LOCAL),
    ),
    also=("3", "4"),
)
