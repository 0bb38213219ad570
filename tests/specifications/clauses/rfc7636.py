"""RFC 7636: Proof Key for Code Exchange by OAuth Public Clients."""

from tests.specifications.clauses.clause import Clause, Specification

SPECIFICATION = Specification(
    "RFC 7636",
    "Proof Key for Code Exchange",
    (
        Clause("4.2", "MUST", "The server supports the method S256."),
        Clause("4.4 a", "MUST", "The challenge and its method are bound to the code."),
        Clause("4.4 b", "MUST NOT", "The challenge cannot be extracted from the code."),
        Clause("4.4.1 a", "MUST", "A request without a required code challenge returns invalid_request."),
        Clause("4.4.1 b", "SHOULD", "The error description explains the error."),
        Clause("4.4.1 c", "MUST", "An unsupported method returns invalid_request."),
        Clause("4.4.1 d", "SHOULD", "The error description explains the error."),
        Clause("4.5", "MUST", "The verifier is checked with the method that is bound to the code."),
        Clause("4.6 a", "MUST", "The verifier is transformed and compared with the challenge."),
        Clause("4.6 b", "MUST", "If they are equal, processing continues."),
        Clause("4.6 c", "MUST", "If they are not equal, the response is invalid_grant."),
        Clause("7.2 a", "SHOULD NOT", "The method plain is not used."),
        Clause(
            "7.2 b",
            "MUST",
            "A plain challenge inside the code is encrypted.",
            not_applicable="The method plain is not supported, and a code contains no challenge.",
        ),
    ),
    also=("B", "4", "4.1", "4.3"),
)
