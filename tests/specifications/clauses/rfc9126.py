"""RFC 9126: OAuth 2.0 Pushed Authorization Requests."""

from tests.specifications.clauses.clause import Clause, Specification

SPECIFICATION = Specification(
    "RFC 9126",
    "Pushed Authorization Requests",
    (
        Clause("2 a", "MUST", "The address of the endpoint is https."),
        Clause("2 b", "SHOULD", "The metadata have the address of the endpoint."),
        Clause(
            "2 c",
            "MUST",
            "The issuer, the token endpoint and the endpoint itself are accepted as the audience of an assertion.",
            not_held="Only the issuer is, as draft-ietf-oauth-rfc7523bis and FAPI 2.0 demand. The operator can also "
            "allow the token endpoint.",
        ),
        Clause("2.1 a", "MUST NOT", "A pushed request has no request_uri."),
        Clause("2.1 b", "MUST", "The client authenticates as at the token endpoint."),
        Clause("2.1 c", "MUST", "A pushed request with a request_uri is rejected."),
        Clause("2.1 d", "MUST", "A pushed request is validated as one at the authorization endpoint."),
        Clause("2.2 a", "MUST", "A request_uri has a part that cannot be guessed."),
        Clause("2.2 b", "MUST", "A request_uri is bound to the client that has pushed the request."),
        Clause("2.2 c", "MUST", "A success has the status 201, with request_uri and expires_in."),
        Clause("2.3 a", "MUST", "An error has the format of those of the token endpoint."),
        Clause("2.3 b", "MUST", "A request that must be signed and is not is refused with invalid_request."),
        Clause("3 a", "MUST", "The signature of a pushed request object is verified."),
        Clause("3 b", "MUST", "The client_id of a pushed request object is that of the client that has authenticated."),
        Clause("4 a", "SHOULD", "A request_uri is used once."),
        Clause("4 b", "MUST", "An expired request_uri is rejected."),
        Clause("4 c", "MUST", "The request is validated again when it is opened, as far as anything may have changed."),
        Clause("5", "MUST", "A server that requires it says so, and accepts no other request."),
        Clause("6", "MUST", "A client that is registered for it can send no other request."),
        Clause("7.1", "MUST", "A request_uri has enough entropy that it cannot be guessed."),
        Clause("7.3", "SHOULD", "A request is replaced only by its client: a request_uri is used once."),
    ),
    also=("2",),
)
