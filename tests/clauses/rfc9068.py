"""RFC 9068: JSON Web Token (JWT) Profile for OAuth 2.0 Access Tokens."""

from tests.clauses.clause import Clause, Specification

NO_APIS = "Which API understands which scope is not registered: the client says what it wants, and for which API."

SPECIFICATION = Specification(
    "RFC 9068",
    "JWT Profile for Access Tokens (the UserInfo endpoint is a resource server)",
    (
        Clause("2.1 a", "MUST", "An access token is signed."),
        Clause("2.1 b", "MUST NOT", "It is never signed with none."),
        Clause("2.1 c", "RECOMMENDED", "It is signed with an asymmetric algorithm."),
        Clause("2.1 d", "MUST", "RS256 is one of the algorithms."),
        Clause("2.1 e", "MUST", "Its header tells that it is an access token."),
        Clause("2.1 f", "SHOULD", "It does so by `at+jwt`."),
        Clause("2.2 a", "REQUIRED", "It has iss, exp, aud, sub, client_id, iat and jti."),
        Clause("2.2 b", "SHOULD", "Its sub is the person who granted it."),
        Clause("2.2 c", "SHOULD", "Without a person, its sub is the client."),
        Clause(
            "2.2.2",
            "SHOULD",
            "What it tells about the person has registered names.",
            not_applicable="It tells nothing but the sub.",
        ),
        Clause("2.2.3 a", "SHOULD", "It has the scope."),
        Clause("2.2.3 b", "MUST", "Each scope means something at its audience.", not_held=NO_APIS),
        Clause(
            "2.2.3.1",
            "SHOULD",
            "Roles, groups and entitlements are those of SCIM.",
            not_applicable="Tokens tell of none.",
        ),
        Clause("3 a", "SHOULD", "Its audience is the resource that was asked for."),
        Clause("3 b", "MUST", "Without one, its audience is a default."),
        Clause("3 c", "SHOULD", "The default follows from the scope.", not_held=NO_APIS),
        Clause("3 d", "SHOULD", "Scopes of several resources are refused together.", not_held=NO_APIS),
        Clause("3 e", "MUST NOT", "No token is issued of which it is not certain what it is good for."),
        Clause("4 a", "SHOULD", "The metadata has the issuer and the keys."),
        Clause("4 b", "MUST", "Both documents of the metadata say the same."),
        Clause("4 c", "MUST", "A resource takes a token of type `at+jwt` only."),
        Clause("4 d", "MUST", "It compares the issuer exactly."),
        Clause("4 e", "MUST", "It refuses a token for another audience."),
        Clause("4 f", "MUST", "It checks the signature, and refuses none."),
        Clause("4 g", "MUST", "It uses the keys of the authorization server."),
        Clause("4 h", "MUST", "It refuses a token that has expired."),
        Clause("4 i", "MUST", "It answers with invalid_token."),
        Clause("4 j", "SHOULD", "It decides by what the token allows."),
        Clause("5", "MUST", "Tokens for different resources have different audiences."),
    ),
    also=("4",),
)
