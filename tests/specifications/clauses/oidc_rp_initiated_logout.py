"""OpenID Connect RP-Initiated Logout 1.0."""

from tests.specifications.clauses.clause import Clause, Specification

SPECIFICATION = Specification(
    "OpenID Connect RP-Initiated Logout",
    "OpenID Connect RP-Initiated Logout 1.0",
    (
        Clause("2 a", "MUST", "The client_id matches the ID token."),
        Clause("2 b", "SHOULD NOT", "Unsupported ui_locales are not an error."),
        Clause("2 c", "MUST", "The endpoint supports GET and POST."),
        Clause("2 d", "MUST", "An id_token_hint was issued by this server."),
        Clause("2 e", "SHOULD", "An expired id_token_hint is accepted."),
        Clause("2 f", "SHOULD", "An id_token_hint of another session is treated as suspect."),
        Clause(
            "2 g",
            "SHOULD",
            "The user is asked whether to sign out of the provider too.",
            not_held="Not if the ID token is of the current session, which identifies application and user.",
        ),
        Clause(
            "2 h",
            "MUST",
            "The user is asked if the hint is missing, or belongs to another user or session.",
        ),
        Clause("2 i", "MUST", "A user who confirms is signed out."),
        Clause("2.1 a", "REQUIRED", "The metadata includes the end_session_endpoint."),
        Clause("2.1 b", "MUST", "The URI is https."),
        Clause(
            "3 a",
            "MUST NOT",
            "Without a hint there is no redirect, unless the request is confirmed by other means.",
        ),
        Clause("3 b", "MUST NOT", "Redirects after logout go to registered URIs only."),
        Clause("3.1", "SHOULD", "The URI is https."),
        Clause("4 a", "MUST", "Actions that depend on an invalid parameter are not performed."),
        Clause("4 b", "MUST NOT", "Invalid parameters are not used."),
        Clause("4 c", "MUST NOT", "There is no redirect after an error."),
    ),
    also=("5", "6"),
)
