"""RFC 6750: The OAuth 2.0 Authorization Framework: Bearer Token Usage."""

from tests.clauses.clause import Clause, Specification

LOOPBACK = "Locally, over a loopback address, plain http is allowed."

SPECIFICATION = Specification(
    "RFC 6750",
    "Bearer Token Usage (the UserInfo endpoint is a resource server)",
    (
        Clause("2.1", "MUST", "A token may come in the Authorization header."),
        Clause("2.3 a", "SHOULD NOT", "A token in the URL is not taken."),
        Clause(
            "2.3 b",
            "SHOULD",
            "An answer to a token in the URL may be cached for its reader only.",
            not_applicable="A token in the URL is refused.",
        ),
        Clause("3 a", "MUST", "A request without a token, or with one that does not do, gets WWW-Authenticate."),
        Clause("3 b", "MUST", "The scheme of the challenge is Bearer."),
        Clause("3 c", "MUST", "The challenge has an attribute at least."),
        Clause("3 d", "MUST NOT", "It has one realm at most."),
        Clause("3 e", "MUST NOT", "It has one scope at most."),
        Clause("3 f", "SHOULD", "It tells the error when there was a token."),
        Clause("3 g", "MUST NOT", "It has each of error, error_description and error_uri once at most."),
        Clause("3 h", "MUST NOT", "Its values have no character that they must not have."),
        Clause("3.1 a", "SHOULD", "A malformed request is a 400."),
        Clause("3.1 b", "SHOULD", "A token that does not count is a 401."),
        Clause("3.1 c", "SHOULD", "A scope that does not suffice is a 403."),
        Clause("3.1 d", "SHOULD NOT", "Who shows no token is told no error."),
        Clause("5.2 a", "MUST", "A token that is a reference cannot be guessed."),
        Clause("5.2 b", "MUST", "A token that was changed is noticed."),
        Clause("5.2 c", "RECOMMENDED", "A token has a scope."),
        Clause("5.2 d", "MUST", "The server speaks TLS."),
        Clause("5.2 e", "MUST", "Tokens travel over TLS only.", note=LOOPBACK),
        Clause(
            "5.2 f",
            "MUST",
            "A token that the client must not read is encrypted.",
            not_applicable="Nothing in an access token is secret from its client.",
        ),
        Clause("5.2 g", "MUST NOT", "No token is in a cookie that travels in the clear."),
        Clause(
            "5.2 h",
            "MUST",
            "Tokens stay confidential between the front and what is behind it.",
            not_applicable="API Gateway calls the function by AWS's own encrypted API.",
        ),
        Clause("5.2 i", "MUST", "The lifetime of a token is limited."),
        Clause("5.3 a", "MUST NOT", "No token is kept in a cookie that travels in the clear."),
        Clause(
            "5.3 b",
            "SHOULD",
            "A token lives for an hour at most.",
            note="Ten minutes, unless the operator sets more, up to a day.",
        ),
        Clause("5.3 c", "SHOULD", "A token has an audience."),
        Clause("5.3 d", "SHOULD NOT", "No token is in the URL of a page."),
    ),
    also=("2", "2.2"),
)
