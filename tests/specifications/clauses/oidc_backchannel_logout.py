"""OpenID Connect Back-Channel Logout 1.0."""

from tests.specifications.clauses.clause import Clause, Specification

SPECIFICATION = Specification(
    "OpenID Connect Back-Channel Logout",
    "OpenID Connect Back-Channel Logout 1.0",
    (
        Clause("2.1", "SHOULD", "The metadata announces whether logout tokens include sid."),
        Clause("2.2 a", "MUST", "A logout URI is absolute."),
        Clause("2.2 b", "MUST", "The query of a logout URI is retained."),
        Clause("2.2 c", "MUST NOT", "A logout URI has no fragment."),
        Clause("2.2 d", "SHOULD", "The URI is https."),
        Clause("2.4 a", "REQUIRED", "A logout token has iss, aud, iat, exp and jti."),
        Clause("2.4 b", "REQUIRED", "A logout token has events with the back-channel logout event."),
        Clause("2.4 c", "MUST", "The value of that event is an object."),
        Clause("2.4 d", "SHOULD", "The event object is empty."),
        Clause("2.4 e", "MUST", "A logout token has sub, sid or both."),
        Clause("2.4 f", "MUST NOT", "The token has no nonce."),
        Clause("2.4 g", "MUST", "The token is signed."),
        Clause(
            "2.4 h",
            "SHOULD",
            "The header of an encrypted logout token has the iss.",
            not_applicable="Tokens are not encrypted.",
        ),
        Clause("2.4 i", "RECOMMENDED", "A logout token is explicitly typed."),
        Clause("2.6 a", "SHOULD", "The algorithm of a logout token is RS256 or that of the client's ID tokens."),
        Clause("2.6 b", "MUST NOT", "The token is not signed with none."),
        Clause("2.7 a", "SHOULD", "Refresh tokens without offline_access are revoked at logout."),
        Clause("2.7 b", "SHOULD NOT", "Refresh tokens with offline_access are not revoked at logout."),
    ),
    also=("2.3", "2.5", "2.8", "4", "4.1"),
)
