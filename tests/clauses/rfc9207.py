"""RFC 9207: OAuth 2.0 Authorization Server Issuer Identification."""

from tests.clauses.clause import Clause, Specification

SPECIFICATION = Specification(
    "RFC 9207",
    "Authorization Server Issuer Identification",
    (
        Clause("2 a", "MUST", "Every answer of the authorization endpoint has the issuer, errors too."),
        Clause(
            "2 b",
            "MUST",
            "It is an https URL without query and fragment.",
            note="Locally it may be http, on a loopback address.",
        ),
        Clause("2.3 a", "MUST", "Clients can find out the issuer."),
        Clause("2.3 b", "MUST", "It is the issuer of the metadata."),
        Clause("2.3 c", "MUST", "The metadata tells that answers have it."),
        Clause("2.4", "MUST", "It is the iss of an ID token that comes along."),
    ),
    also=("2", "3"),
)
