"""RFC 8414: OAuth 2.0 Authorization Server Metadata."""

from tests.specifications.clauses.clause import Clause, Specification

LOCAL = "On a loopback address the issuer can be http, for local development."

SPECIFICATION = Specification(
    "RFC 8414",
    "OAuth 2.0 Authorization Server Metadata",
    (
        Clause(
            "2 a", "REQUIRED", "The metadata includes the issuer, an https URL without query and fragment.", note=LOCAL
        ),
        Clause("2 b", "REQUIRED", "The metadata includes the authorization endpoint."),
        Clause("2 c", "REQUIRED", "The metadata includes the token endpoint."),
        Clause("2 d", "MUST", "The jwks_uri is https.", note=LOCAL),
        Clause(
            "2 e",
            "REQUIRED",
            "If there are encryption keys, each key has a use.",
            not_applicable="All keys are signing keys, with `use: sig`.",
        ),
        Clause("2 f", "RECOMMENDED", "The metadata lists the scopes."),
        Clause("2 g", "REQUIRED", "The metadata lists the response types."),
        Clause("2 h", "MUST", "The metadata lists the algorithms for JWT client authentication."),
        Clause("2 i", "SHOULD", "RS256 is one of the algorithms."),
        Clause("2 j", "MUST NOT", "The algorithm none is not listed."),
        Clause(
            "2 k",
            "MUST",
            "The authentication methods for introspection are listed in the metadata or elsewhere.",
        ),
        Clause(
            "2.1 a",
            "MUST",
            "Signed metadata has a signature and an iss.",
            not_applicable="The metadata is not signed.",
        ),
        Clause(
            "2.1 b",
            "SHOULD NOT",
            "Signed metadata does not contain signed_metadata.",
            not_applicable="The metadata is not signed.",
        ),
        Clause(
            "3 a",
            "MUST",
            "The well-known path is inserted between host and path of the issuer.",
            note="If the issuer has a path, its front must route this address too; a stage of a REST API cannot.",
        ),
        Clause("3 b", "MUST", "The address is https.", note=LOCAL),
        Clause("3.1", "MUST", "The document is served for GET."),
        Clause("3.2 a", "MUST", "The response is 200 with a JSON object of type application/json."),
        Clause("3.2 b", "MUST", "Members without a value are omitted."),
        Clause("3.3", "MUST", "The issuer in the document is identical to the one of its address."),
        Clause("4", "MUST", "Strings are compared by code points, without Unicode normalization."),
        Clause("6.1 a", "MUST", "The server supports TLS 1.2."),
        Clause("6.1 b", "MUST", "The document is protected by TLS.", note=LOCAL),
    ),
)
