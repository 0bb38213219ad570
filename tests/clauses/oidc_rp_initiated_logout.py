"""OpenID Connect RP-Initiated Logout 1.0."""

from tests.clauses.clause import Clause, Specification

SPECIFICATION = Specification(
    "OpenID Connect RP-Initiated Logout",
    "OpenID Connect RP-Initiated Logout 1.0",
    (
        Clause("2 a", "MUST", "A client_id is that of the ID token."),
        Clause("2 b", "SHOULD NOT", "ui_locales that are not there are no error."),
        Clause("2 c", "MUST", "A request may come by GET and by POST."),
        Clause("2 d", "MUST", "An id_token_hint is one of ours."),
        Clause("2 e", "SHOULD", "It counts after it has expired too."),
        Clause("2 f", "SHOULD", "One of another session is suspect."),
        Clause(
            "2 g",
            "SHOULD",
            "The person is asked whether to sign out here too.",
            not_held="Not with an ID token of this very session: the application has asked, and proves whom it means.",
        ),
        Clause(
            "2 h",
            "MUST",
            "They are asked when there is no hint, or one of somebody else or of another session.",
        ),
        Clause("2 i", "MUST", "Who says yes is signed out."),
        Clause("2.1 a", "REQUIRED", "The metadata has the end_session_endpoint."),
        Clause("2.1 b", "MUST", "It is https."),
        Clause(
            "3 a",
            "MUST NOT",
            "Without a hint nobody is sent on, unless it is known otherwise that this is right.",
        ),
        Clause("3 b", "MUST NOT", "Nobody is sent on but to a URI that is registered."),
        Clause("3.1", "SHOULD", "It is https."),
        Clause("4 a", "MUST", "What depends on something that is wrong is not done."),
        Clause("4 b", "MUST NOT", "What is wrong is not used."),
        Clause("4 c", "MUST NOT", "Nobody is sent on after an error."),
    ),
    also=("5", "6"),
)
