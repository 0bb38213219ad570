"""RFC 8252: OAuth 2.0 for Native Apps."""

from tests.clauses.clause import Clause, Specification

SPECIFICATION = Specification(
    "RFC 8252",
    "OAuth 2.0 for Native Apps",
    (
        Clause("6", "MUST", "Native applications can use PKCE."),
        Clause("7", "MUST", "They may be answered at a scheme of their own, at https, and at a loopback address."),
        Clause("7.3", "MUST", "At a loopback address any port will do."),
        Clause("8.1", "SHOULD", "A native application without PKCE is refused."),
        Clause(
            "8.2",
            "NOT RECOMMENDED",
            "Native applications do not use the implicit grant.",
            not_applicable="There is none.",
        ),
        Clause("8.4 a", "MUST", "The type of the client is part of its registration."),
        Clause("8.4 b", "MUST", "The complete redirect URI is registered."),
        Clause("8.4 c", "MUST", "Any other is refused, but for the port of a loopback address."),
        Clause("8.4 d", "SHOULD", "A scheme of an application's own is a domain name turned round."),
        Clause("8.4 e", "SHOULD", "A scheme without a dot is refused."),
        Clause("8.5 a", "NOT RECOMMENDED", "No shared secret is asked of a native application."),
        Clause(
            "8.5 b",
            "MUST",
            "Where one is, the client is public all the same.",
            not_applicable="None is: a client that sends a secret has to be a confidential one.",
        ),
        Clause("8.6 a", "SHOULD NOT", "No request is allowed silently unless it is certain who asks."),
        Clause("8.6 b", "SHOULD", "What was allowed before does not count then."),
    ),
    also=("7.1",),
)
