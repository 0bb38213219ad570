"""RFC 9207: OAuth 2.0 Authorization Server Issuer Identification."""

from tests.specifications.clauses.clause import Clause, Specification

SPECIFICATION = Specification(
    "RFC 9207",
    "Authorization Server Issuer Identification",
    (
        Clause("2 a", "MUST", "Every authorization response includes the issuer, error responses too."),
        Clause(
            "2 b",
            "MUST",
            "The issuer is an https URL without query and fragment.",
            note="On a loopback address it can be http, for local development.",
        ),
        Clause("2.3 a", "MUST", "Clients can obtain the issuer."),
        Clause("2.3 b", "MUST", "The issuer is identical to the one in the metadata."),
        Clause("2.3 c", "MUST", "The metadata announces the iss parameter."),
        Clause("2.4", "MUST", "The issuer is identical to the iss of an ID token in the same response."),
    ),
    also=("2", "3"),
)
