"""FAPI 2.0 Message Signing (Final, 2025): clients with the profile fapi2-message-signing."""

from tests.specifications.clauses.clause import Clause, Specification

SPECIFICATION = Specification(
    "FAPI 2.0 Message Signing",
    "Requirements for authorization servers, of clients with the profile (the letter is the number of the clause)",
    (
        Clause("5.3.1 a", "MUST", "Pushed requests are signed request objects, which are verified."),
        Clause("5.3.1 b", "MUST", "The aud of a request object is the issuer, or an array with it."),
        Clause("5.3.1 c", "MUST", "The nbf of a request object is at most 60 minutes ago."),
        Clause("5.3.1 d", "MUST", "The exp of a request object is at most 60 minutes after its nbf."),
        Clause("5.3.1 e", "MUST", "The typ of a request object may be oauth-authz-req+jwt."),
        Clause("5.4.1", "MUST", "Authorization responses are signed (JARM), and the client must ask for that."),
        Clause("5.5.1", "MUST", "Introspection responses that are JWTs are signed (RFC 9701)."),
    ),
)
