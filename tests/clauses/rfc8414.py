"""RFC 8414: OAuth 2.0 Authorization Server Metadata."""

from tests.clauses.clause import Clause, Specification

NO_JWT = "No client authenticates with a JWT yet."
LOCAL = "Locally the issuer may be http, on a loopback address."

SPECIFICATION = Specification(
    "RFC 8414",
    "OAuth 2.0 Authorization Server Metadata",
    (
        Clause("2 a", "REQUIRED", "The metadata has the issuer, an https URL without query and fragment.", note=LOCAL),
        Clause("2 b", "REQUIRED", "It has the authorization endpoint."),
        Clause("2 c", "REQUIRED", "It has the token endpoint."),
        Clause("2 d", "MUST", "The jwks_uri is https.", note=LOCAL),
        Clause(
            "2 e",
            "REQUIRED",
            "Where some keys encrypt, each key tells its use.",
            not_applicable="All keys sign. They tell so.",
        ),
        Clause("2 f", "RECOMMENDED", "It lists scopes."),
        Clause("2 g", "REQUIRED", "It lists the response types."),
        Clause("2 h", "MUST", "It lists the algorithms of JWTs that authenticate clients.", not_applicable=NO_JWT),
        Clause("2 i", "SHOULD", "RS256 is one of them.", not_applicable=NO_JWT),
        Clause("2 j", "MUST NOT", "None of them is none.", not_applicable=NO_JWT),
        Clause(
            "2 k",
            "MUST",
            "How clients authenticate for introspection is told, here or elsewhere.",
        ),
        Clause(
            "2.1 a",
            "MUST",
            "Signed metadata is signed and names who signed it.",
            not_applicable="The metadata is not signed.",
        ),
        Clause(
            "2.1 b",
            "SHOULD NOT",
            "Signed metadata does not hold itself.",
            not_applicable="The metadata is not signed.",
        ),
        Clause(
            "3 a",
            "MUST",
            "The document is at the well-known address between host and path of the issuer.",
            note="An issuer with a path (a REST API's, or that of your proxy) has it behind the path only.",
        ),
        Clause("3 b", "MUST", "That address is https.", note=LOCAL),
        Clause("3.1", "MUST", "The document is there for a GET."),
        Clause("3.2 a", "MUST", "The answer is a 200 with a JSON object, application/json."),
        Clause("3.2 b", "MUST", "A member without a value is left out."),
        Clause("3.3", "MUST", "The issuer in the document is the one that it was asked of."),
        Clause("4", "MUST", "Strings are compared code point by code point, and never normalised."),
        Clause("6.1 a", "MUST", "The server speaks TLS 1.2."),
        Clause("6.1 b", "MUST", "The document is protected by TLS.", note=LOCAL),
    ),
)
