"""RFC 7662: OAuth 2.0 Token Introspection."""

from tests.clauses.clause import Clause, Specification

LOOPBACK = "Locally, over a loopback address, plain http is allowed."

SPECIFICATION = Specification(
    "RFC 7662",
    "OAuth 2.0 Token Introspection",
    (
        Clause("2 a", "MUST", "The endpoint is reached over TLS only.", note=LOOPBACK),
        Clause("2.1 a", "REQUIRED", "Without a token the request is refused."),
        Clause("2.1 b", "MUST", "A token is found whatever its hint says."),
        Clause(
            "2.1 c",
            "SHOULD",
            "A token whose state cannot be told without knowing more is not active.",
        ),
        Clause("2.1 d", "MUST", "Nobody may ask without some authorization."),
        Clause("2.2 a", "REQUIRED", "The answer tells whether the token is active."),
        Clause(
            "2.2 b",
            "MUST",
            "A member that is used elsewhere too is a registered one.",
        ),
        Clause(
            "2.2 c",
            "MUST",
            "What is not active, not known or not for the asker's eyes is `active: false`.",
        ),
        Clause("2.2 d", "SHOULD NOT", "Of such a token nothing else is told."),
        Clause("2.3", "MUST", "Such a token is no error."),
        Clause("4 a", "MUST", "Every check that a token can fail is made."),
        Clause("4 b", "MUST", "A token that has expired is not active."),
        Clause(
            "4 c",
            "MUST",
            "A token whose time has not come is not active.",
            not_applicable="Every token counts from the moment it is issued.",
        ),
        Clause("4 d", "MUST", "A token that was revoked is not active."),
        Clause("4 e", "MUST", "The signature of a token is checked."),
        Clause("4 f", "MUST", "A token that is not for the asker is not active."),
        Clause("4 g", "MUST", "Who asks must authenticate."),
        Clause("4 h", "SHOULD", "Who asks has been allowed to."),
        Clause("4 i", "MUST", "The server speaks TLS 1.2.", note=LOOPBACK),
        Clause("4 j", "SHOULD NOT", "An answer about an inactive token has no other member."),
        Clause("5", "MUST", "What is private in an answer is for the asker alone."),
    ),
)
