"""RFC 7636: Proof Key for Code Exchange by OAuth Public Clients."""

from tests.clauses.clause import Clause, Specification

SPECIFICATION = Specification(
    "RFC 7636",
    "Proof Key for Code Exchange",
    (
        Clause("4.2", "MUST", "The server knows the method S256."),
        Clause("4.4 a", "MUST", "The challenge and its method are bound to the code."),
        Clause("4.4 b", "MUST NOT", "Nobody can read the challenge out of the code."),
        Clause("4.4.1 a", "MUST", "A request without the challenge that is asked for is an invalid_request."),
        Clause("4.4.1 b", "SHOULD", "The description says so."),
        Clause("4.4.1 c", "MUST", "A method that the server does not know is an invalid_request."),
        Clause("4.4.1 d", "SHOULD", "The description says so."),
        Clause("4.5", "MUST", "The verifier is checked by the method that was bound to the code."),
        Clause("4.6 a", "MUST", "The verifier is transformed and compared with the challenge."),
        Clause("4.6 b", "MUST", "If they are equal, the request goes on."),
        Clause("4.6 c", "MUST", "If they are not, it is an invalid_grant."),
        Clause("7.2 a", "SHOULD NOT", "The method plain is not used."),
        Clause(
            "7.2 b",
            "MUST",
            "A plain challenge inside the code is encrypted.",
            not_applicable="There is no plain method, and no challenge inside the code.",
        ),
    ),
    also=("B", "4", "4.1", "4.3"),
)
