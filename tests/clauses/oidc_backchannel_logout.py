"""OpenID Connect Back-Channel Logout 1.0."""

from tests.clauses.clause import Clause, Specification

SPECIFICATION = Specification(
    "OpenID Connect Back-Channel Logout",
    "OpenID Connect Back-Channel Logout 1.0",
    (
        Clause("2.1", "SHOULD", "The metadata tells whether tokens name the session."),
        Clause("2.2 a", "MUST", "A logout URI is absolute."),
        Clause("2.2 b", "MUST", "Its query is kept."),
        Clause("2.2 c", "MUST NOT", "It has no fragment."),
        Clause("2.2 d", "SHOULD", "It is https."),
        Clause("2.4 a", "REQUIRED", "A logout token has iss, aud, iat, exp and jti."),
        Clause("2.4 b", "REQUIRED", "It has events, with the one of back-channel logout."),
        Clause("2.4 c", "MUST", "The value of that event is an object."),
        Clause("2.4 d", "SHOULD", "The object is empty."),
        Clause("2.4 e", "MUST", "It has sub, or sid, or both."),
        Clause("2.4 f", "MUST NOT", "It has no nonce."),
        Clause("2.4 g", "MUST", "It is signed."),
        Clause(
            "2.4 h",
            "SHOULD",
            "Where it is encrypted, its header has the iss.",
            not_applicable="Nothing is encrypted.",
        ),
        Clause("2.4 i", "RECOMMENDED", "Its header tells that it is a logout token."),
        Clause("2.6 a", "SHOULD", "Its algorithm is RS256, or that of the client's ID tokens."),
        Clause("2.6 b", "MUST NOT", "It is not signed with none."),
        Clause("2.7 a", "SHOULD", "Refresh tokens without offline_access end with the session."),
        Clause("2.7 b", "SHOULD NOT", "Refresh tokens with it do not."),
    ),
    also=("2.3", "2.5", "2.8", "4", "4.1"),
)
