"""OpenID Connect Discovery 1.0, with errata set 2."""

from tests.clauses.clause import Clause, Specification

LOCAL = "Locally it may be http, on a loopback address."
NO_OBJECT = "Request objects are not supported yet."
NO_JWT = "No client authenticates with a JWT yet."
NO_DYNAMIC = "Clients are registered by the operator only."

SPECIFICATION = Specification(
    "OpenID Connect Discovery",
    "OpenID Connect Discovery 1.0",
    (
        Clause(
            "2",
            "MUST",
            "WebFinger tells the issuer of a person.",
            not_applicable="It is optional, and not there: clients know their issuer.",
        ),
        Clause("3 a", "REQUIRED", "The metadata has the issuer, an https URL without query and fragment.", note=LOCAL),
        Clause("3 b", "MUST", "It is the iss of ID tokens."),
        Clause("3 c", "REQUIRED", "It has the authorization endpoint."),
        Clause("3 d", "REQUIRED", "It has the token endpoint."),
        Clause("3 e", "RECOMMENDED", "It has the UserInfo endpoint."),
        Clause("3 f", "REQUIRED", "It has the jwks_uri."),
        Clause("3 g", "MUST", "All of these are https.", note=LOCAL),
        Clause(
            "3 h",
            "REQUIRED",
            "Where some keys encrypt, each key tells its use.",
            not_applicable="All keys sign. They tell so.",
        ),
        Clause("3 i", "MUST", "Certificates match the bare keys.", not_applicable="Keys have no certificates."),
        Clause("3 j", "MUST NOT", "No private or symmetric key is published."),
        Clause("3 k", "RECOMMENDED", "It has the registration endpoint.", not_applicable=NO_DYNAMIC),
        Clause("3 l", "RECOMMENDED", "It lists scopes."),
        Clause("3 m", "MUST", "openid is supported."),
        Clause("3 n", "SHOULD", "The scopes of OpenID Connect Core are among them."),
        Clause("3 o", "REQUIRED", "It lists the response types."),
        Clause("3 p", "MUST", "Certain response and grant types are among them.", not_applicable=NO_DYNAMIC),
        Clause("3 q", "REQUIRED", "It lists the types of subjects."),
        Clause("3 r", "REQUIRED", "It lists the algorithms of ID tokens."),
        Clause("3 s", "MUST", "RS256 is one of them."),
        Clause("3 t", "MUST NOT", "none is not used for an ID token that the browser brings."),
        Clause("3 u", "SHOULD", "none and RS256 are supported for request objects.", not_applicable=NO_OBJECT),
        Clause("3 v", "SHOULD", "RS256 is supported for JWTs of clients.", not_applicable=NO_JWT),
        Clause("3 w", "MUST NOT", "none is not supported for them.", not_applicable=NO_JWT),
        Clause("3 x", "RECOMMENDED", "It lists claims."),
        Clause(
            "3 y",
            "SHOULD",
            "Who registers a client sees policy and terms.",
            not_applicable="The metadata names neither: the operator registers clients.",
        ),
        Clause("3 z", "SHOULD", "Token endpoint, UserInfo and keys support CORS."),
        Clause("3 aa", "NOT RECOMMENDED", "The authorization endpoint does not."),
        Clause("4 a", "MUST", "The document is at the issuer's address with `/.well-known/openid-configuration`."),
        Clause("4 b", "MUST", "It is application/json."),
        Clause("4 c", "SHOULD", "It supports CORS."),
        Clause("4.1", "MUST", "The document is there for a GET."),
        Clause("4.2 a", "MUST", "The answer is a 200 with a JSON object."),
        Clause("4.2 b", "MUST", "A member without a value is left out."),
        Clause("4.3 a", "MUST", "The issuer in the document is the one that it was asked of."),
        Clause("4.3 b", "MUST", "It is the iss of ID tokens."),
        Clause("5", "MUST", "Strings are compared code point by code point, and never normalised."),
        Clause("7.1 a", "MUST", "The server speaks TLS."),
        Clause("7.1 b", "SHOULD", "It does so as BCP 195 says."),
        Clause("7.1 c", "MUST", "The document is protected by TLS.", note=LOCAL),
    ),
    also=("3", "4"),
)
