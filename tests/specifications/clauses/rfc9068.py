"""RFC 9068: JSON Web Token (JWT) Profile for OAuth 2.0 Access Tokens."""

from tests.specifications.clauses.clause import Clause, Specification

NO_APIS = "Without a `resource`, the audience is the issuer, so that APIs reject the access token."

SPECIFICATION = Specification(
    "RFC 9068",
    "JWT Profile for Access Tokens (the UserInfo endpoint is a resource server)",
    (
        Clause("2.1 a", "MUST", "An access token is signed."),
        Clause("2.1 b", "MUST NOT", "An access token is not signed with none."),
        Clause("2.1 c", "RECOMMENDED", "Access tokens are signed with an asymmetric algorithm."),
        Clause("2.1 d", "MUST", "RS256 is one of the algorithms."),
        Clause("2.1 e", "MUST", "The header declares the type of the token."),
        Clause("2.1 f", "SHOULD", "The type is `at+jwt`."),
        Clause("2.2 a", "REQUIRED", "The token has iss, exp, aud, sub, client_id, iat and jti."),
        Clause("2.2 b", "SHOULD", "The sub is the user who granted access."),
        Clause("2.2 c", "SHOULD", "Without a user, the sub is the client."),
        Clause(
            "2.2.2",
            "SHOULD",
            "Claims about the user have registered names.",
            not_applicable="The token has no claim about the user except sub.",
        ),
        Clause("2.2.3 a", "SHOULD", "The token has a scope claim."),
        Clause(
            "2.2.3 b",
            "MUST",
            "Each scope has a meaning for the audience.",
            note="For resources that name their scopes.",
        ),
        Clause(
            "2.2.3.1",
            "SHOULD",
            "Roles, groups and entitlements use the claims of SCIM.",
            not_applicable="Tokens contain none of them.",
        ),
        Clause("3 a", "SHOULD", "The audience is the requested resource."),
        Clause("3 b", "MUST", "Without a requested resource, the audience is a default one."),
        Clause("3 c", "SHOULD", "The default audience follows from the scope.", not_held=NO_APIS),
        Clause("3 d", "SHOULD", "A request with scopes of several resources is rejected.", not_held=NO_APIS),
        Clause("3 e", "MUST NOT", "No token is issued whose authorization is ambiguous."),
        Clause("4 a", "SHOULD", "The metadata includes the issuer and the jwks_uri."),
        Clause("4 b", "MUST", "Both metadata documents are consistent."),
        Clause("4 c", "MUST", "The resource server accepts tokens of type `at+jwt` only."),
        Clause("4 d", "MUST", "The resource server compares the issuer exactly."),
        Clause("4 e", "MUST", "The resource server rejects a token for another audience."),
        Clause("4 f", "MUST", "The resource server validates the signature and rejects none."),
        Clause("4 g", "MUST", "The resource server uses the keys of the authorization server."),
        Clause("4 h", "MUST", "The resource server rejects an expired token."),
        Clause("4 i", "MUST", "The resource server returns invalid_token."),
        Clause("4 j", "SHOULD", "The resource server authorizes by the claims of the token."),
        Clause("5", "MUST", "Tokens for different resources have different audiences."),
    ),
    also=("4",),
)
