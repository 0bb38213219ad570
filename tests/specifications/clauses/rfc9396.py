"""RFC 9396: OAuth 2.0 Rich Authorization Requests."""

from tests.specifications.clauses.clause import Clause, Specification

SPECIFICATION = Specification(
    "RFC 9396",
    "Rich Authorization Requests",
    (
        Clause("2", "REQUIRED", "Each object of the array has a type, which determines its members."),
        Clause("3.1 a", "MUST", "The scope and the details of a request are processed together."),
        Clause("3.1 b", "MUST", "The consent page shows both together."),
        Clause("5 a", "MUST", "Unknown types, and objects that do not conform to their type, are not processed."),
        Clause(
            "5 b",
            "MUST",
            "The error invalid_authorization_details is for an unknown type or member, a member of the wrong type or "
            "value, and a missing required member.",
            note="Members of a type's own are any JSON: the API checks their values.",
        ),
        Clause("7", "MUST", "The token response has the details that were granted for the access token."),
        Clause(
            "8", "MUST", "A token request with an unknown type, or with objects that do not conform to it, is refused."
        ),
        Clause("9", "MUST", "The details are available to the resource server."),
        Clause("9.1", "RECOMMENDED", "A JWT access token has the details, filtered for its audience."),
        Clause("9.2 a", "MUST", "An introspection response has the details as a member of its top level."),
        Clause("9.2 b", "MUST", "They have the same structure, filtered for the resource server."),
        Clause(
            "12 a",
            "MUST",
            "Details are protected against changes by the user.",
            not_applicable="This is for clients: they can push their requests.",
        ),
        Clause("12 b", "MUST", "The data in the details cannot inject anything."),
    ),
    also=("2.2", "3", "3.2", "6", "6.1", "10", "12", "13"),
)
