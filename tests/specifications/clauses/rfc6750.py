"""RFC 6750: The OAuth 2.0 Authorization Framework: Bearer Token Usage."""

from tests.specifications.clauses.clause import Clause, Specification

LOOPBACK = "On a loopback address, http is allowed for local development."

SPECIFICATION = Specification(
    "RFC 6750",
    "Bearer Token Usage (the UserInfo endpoint is a resource server)",
    (
        Clause("2.1", "MUST", "A token can be sent in the Authorization header."),
        Clause("2.3 a", "SHOULD NOT", "A token in the URL is not accepted."),
        Clause(
            "2.3 b",
            "SHOULD",
            "A response to a token in the URL is marked Cache-Control: private.",
            not_applicable="A token in the URL is rejected.",
        ),
        Clause("3 a", "MUST", "A request without a valid token gets WWW-Authenticate."),
        Clause("3 b", "MUST", "The scheme of the challenge is Bearer."),
        Clause("3 c", "MUST", "The challenge has at least one attribute."),
        Clause("3 d", "MUST NOT", "The challenge has at most one realm."),
        Clause("3 e", "MUST NOT", "The challenge has at most one scope."),
        Clause("3 f", "SHOULD", "The challenge includes the error if the request had a token."),
        Clause("3 g", "MUST NOT", "The challenge has error, error_description and error_uri at most once each."),
        Clause("3 h", "MUST NOT", "The values of the challenge contain only permitted characters."),
        Clause("3.1 a", "SHOULD", "A malformed request returns 400."),
        Clause("3.1 b", "SHOULD", "An invalid token returns 401."),
        Clause("3.1 c", "SHOULD", "An insufficient scope returns 403."),
        Clause("3.1 d", "SHOULD NOT", "A request without a token gets no error code."),
        Clause("5.2 a", "MUST", "A token that is a reference is infeasible to guess."),
        Clause("5.2 b", "MUST", "A modified token is detected."),
        Clause("5.2 c", "RECOMMENDED", "A token has a scope."),
        Clause("5.2 d", "MUST", "The server supports TLS."),
        Clause("5.2 e", "MUST", "Tokens are transmitted over TLS only.", note=LOOPBACK),
        Clause(
            "5.2 f",
            "MUST",
            "A token that the client must not be able to read is encrypted.",
            not_applicable="An access token contains nothing that its client must not know.",
        ),
        Clause("5.2 g", "MUST NOT", "No token is sent in a cookie in clear text."),
        Clause(
            "5.2 h",
            "MUST",
            "Tokens are confidential between the gateway and the server.",
            not_applicable="API Gateway invokes the function through AWS's encrypted API.",
        ),
        Clause("5.2 i", "MUST", "The lifetime of a token is limited."),
        Clause("5.3 a", "MUST NOT", "No token is stored in a cookie that can be sent in clear text."),
        Clause(
            "5.3 b",
            "SHOULD",
            "A token is valid for at most one hour.",
            note="Ten minutes by default; the operator can set up to one day.",
        ),
        Clause("5.3 c", "SHOULD", "A token has an audience."),
        Clause("5.3 d", "SHOULD NOT", "No token is in the URL of a page."),
    ),
    also=("2", "2.2"),
)
