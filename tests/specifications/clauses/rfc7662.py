"""RFC 7662: OAuth 2.0 Token Introspection."""

from tests.specifications.clauses.clause import Clause, Specification

LOOPBACK = "On a loopback address, http is allowed for local development."

SPECIFICATION = Specification(
    "RFC 7662",
    "OAuth 2.0 Token Introspection",
    (
        Clause("2 a", "MUST", "The endpoint requires TLS.", note=LOOPBACK),
        Clause("2.1 a", "REQUIRED", "A request without a token is rejected."),
        Clause("2.1 b", "MUST", "A token is found even if its hint is wrong."),
        Clause(
            "2.1 c",
            "SHOULD",
            "A token whose state cannot be determined is not active.",
        ),
        Clause("2.1 d", "MUST", "The endpoint requires authorization."),
        Clause("2.2 a", "REQUIRED", "The response includes active."),
        Clause(
            "2.2 b",
            "MUST",
            "Members that other implementations use too are registered.",
        ),
        Clause(
            "2.2 c",
            "MUST",
            "A token that is inactive, unknown or not for the caller returns `active: false`.",
        ),
        Clause("2.2 d", "SHOULD NOT", "The response for an inactive token includes nothing else."),
        Clause("2.3", "MUST", "An inactive token is not an error."),
        Clause("4 a", "MUST", "Every applicable check of the token is made."),
        Clause("4 b", "MUST", "An expired token is not active."),
        Clause(
            "4 c",
            "MUST",
            "A token that is not valid yet is not active.",
            not_applicable="Every token is valid from the moment it is issued.",
        ),
        Clause("4 d", "MUST", "A revoked token is not active."),
        Clause("4 e", "MUST", "The signature of a token is checked."),
        Clause("4 f", "MUST", "A token that the caller must not use is not active."),
        Clause("4 g", "MUST", "Callers must authenticate."),
        Clause("4 h", "SHOULD", "Callers must be authorized."),
        Clause("4 i", "MUST", "The server supports TLS 1.2.", note=LOOPBACK),
        Clause("4 j", "SHOULD NOT", "A response for an inactive token has no other member."),
        Clause("5", "MUST", "Private data in a response is disclosed to the authorized caller only."),
    ),
)
