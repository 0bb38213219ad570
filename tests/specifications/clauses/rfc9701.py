"""RFC 9701: JSON Web Token (JWT) Response for OAuth Token Introspection."""

from tests.specifications.clauses.clause import Clause, Specification

SPECIFICATION = Specification(
    "RFC 9701",
    "JWT Response for OAuth Token Introspection",
    (
        Clause("4 a", "MUST", "A request with `Accept: application/token-introspection+jwt` gets a JWT."),
        Clause("5 a", "MUST", "The media type is application/token-introspection+jwt, the typ of the header its name."),
        Clause("5 b", "MUST", "The JWT has iss, the issuer."),
        Clause("5 c", "MUST", "The JWT has aud, the resource server that receives it."),
        Clause("5 d", "MUST", "The JWT has iat, when it was created."),
        Clause("5 e", "MUST", "The claim token_introspection has the members of RFC 7662."),
        Clause("5 f", "MUST", "An inactive token, or one not for the caller, has active false alone."),
        Clause("5 g", "MUST", "The server knows the resource server, which has authenticated."),
        Clause(
            "5 h",
            "MUST",
            "A JWT that is encrypted is signed first.",
            not_applicable="Tokens and responses are not encrypted, except by TLS.",
        ),
        Clause("6", "REQUIRED", "The response is signed with introspection_signed_response_alg, by default RS256."),
        Clause("7", "RECOMMENDED", "The metadata lists the algorithms."),
        Clause("8.1 a", "SHOULD NOT", "The JWT has no sub and no exp of its own."),
        Clause("8.1 b", "MUST", "The JWT cannot be used as an access token or ID token."),
    ),
)
