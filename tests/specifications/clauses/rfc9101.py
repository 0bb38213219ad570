"""RFC 9101: The OAuth 2.0 Authorization Framework: JWT-Secured Authorization Request (JAR)."""

from tests.specifications.clauses.clause import Clause, Specification

BY_REFERENCE = "Request objects are taken by value, or pushed (RFC 9126); none is fetched from an address."

SPECIFICATION = Specification(
    "RFC 9101",
    "JWT-Secured Authorization Request (JAR)",
    (
        Clause("4 a", "MUST NOT", "A request object has no request and no request_uri."),
        Clause("4 b", "MUST", "Its members have the JSON types of their parameters."),
        Clause("4 c", "SHOULD", "A signed request object has the client as iss, and the server as aud."),
        Clause("5 a", "MUST", "The client_id parameter is that of the request object."),
        Clause("5 b", "MUST NOT", "The parameters request and request_uri are not used together."),
        Clause("5.2", "MUST", "A request object is fetched from an https address.", not_applicable=BY_REFERENCE),
        Clause(
            "6.1",
            "MUST",
            "An encrypted request object is decrypted.",
            not_applicable="Encryption is not supported: such an object is rejected with invalid_request_object.",
        ),
        Clause("6.2 a", "MUST", "The signature is verified with a key of the client."),
        Clause("6.2 b", "MUST", "The algorithm is one that the client is registered for."),
        Clause("6.2 c", "MUST", "If the request object is not valid, the error is invalid_request_object."),
        Clause("6.3 a", "MUST", "Only the parameters in the request object are used."),
        Clause("6.3 b", "MUST", "The client_id is the same in the request and in the request object."),
        Clause("6.3 c", "MUST", "If the request is not valid, an error is returned to the client."),
        Clause("10.2", "MUST", "The source of a request object is authenticated by its signature."),
        Clause("10.4.1", "MUST", "Addresses of request objects are limited.", not_applicable=BY_REFERENCE),
        Clause("10.5 a", "MUST", "With require_signed_request_object, a request without a request object is rejected."),
        Clause("10.5 b", "MUST", "With require_signed_request_object, an unsigned request object is rejected."),
        Clause("10.8", "SHOULD", "A request object cannot be used as another JWT, nor another JWT as one."),
    ),
    also=("6",),
)
