"""RFC 7592: OAuth 2.0 Dynamic Client Registration Management Protocol."""

from tests.specifications.clauses.clause import Clause, Specification

OWN = "Each client may read, change and delete its own registration."

SPECIFICATION = Specification(
    "RFC 7592",
    "OAuth 2.0 Dynamic Client Registration Management Protocol",
    (
        Clause("2 a", "MUST", "The endpoint is protected by TLS.", note="For local development it can be http."),
        Clause("2 b", "MUST", "A method that is not supported gets an error."),
        Clause("2.1 a", "MUST", "A request for an unknown client is answered with status 401."),
        Clause("2.1 b", "SHOULD", "The token of such a request is revoked."),
        Clause("2.1 c", "MUST", "An invalid token gets an error of RFC 6750."),
        Clause("2.1 d", "MUST", "A client that may not read gets status 403.", not_applicable=OWN),
        Clause("2.1 e", "SHOULD NOT", "Reading changes nothing."),
        Clause("2.2 a", "MUST", "The values of an update replace the earlier ones."),
        Clause(
            "2.2 b",
            "MUST",
            "Members that an update leaves out are deleted.",
            note="They get the values of a registration without them: a deleted scope is the default scope.",
        ),
        Clause("2.2 c", "MUST", "The client_id in an update is that of the client."),
        Clause("2.2 d", "MUST", "A client_secret in an update is that of the client."),
        Clause("2.2 e", "MUST NOT", "A client cannot choose its client_secret."),
        Clause("2.2 f", "MUST", "The response has the values that replace invalid ones."),
        Clause("2.2 g", "MUST", "An update of an unknown client is answered with status 401."),
        Clause("2.2 h", "SHOULD", "The token of such an update is revoked."),
        Clause("2.2 i", "MUST", "A client that may not update gets status 403.", not_applicable=OWN),
        Clause("2.3 a", "SHOULD", "Deleting a client ends its grants and tokens at once."),
        Clause("2.3 b", "MUST", "A deletion is answered with status 204."),
        Clause("2.3 c", "MUST", "A server without deletion answers 405.", not_applicable="Clients can be deleted."),
        Clause("2.3 d", "MUST", "The deletion of an unknown client is answered with status 401."),
        Clause("2.3 e", "SHOULD", "The token of such a deletion is revoked."),
        Clause("2.3 f", "MUST", "A client that may not delete itself gets status 403.", not_applicable=OWN),
        Clause("3 a", "REQUIRED", "Responses have the registration_client_uri, a complete URL."),
        Clause("3 b", "REQUIRED", "Responses have the registration_access_token."),
        Clause("3 c", "MUST", "Responses have all registered members."),
        Clause("5 a", "SHOULD NOT", "A registration access token does not expire while the client is registered."),
        Clause("5 b", "MUST", "The token of a client ends with it."),
        Clause("5 c", "MUST", "A request with such a token is answered with status 401."),
        Clause("5 d", "MUST", "The endpoint requires TLS.", note="For local development it can be http."),
        Clause(
            "5 e",
            "SHOULD",
            "Failed requests are limited.",
            not_held="A token has 256 random bits and cannot be guessed. A limit would let other callers keep a client "
            "from its registration.",
        ),
    ),
)
