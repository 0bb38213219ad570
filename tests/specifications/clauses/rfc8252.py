"""RFC 8252: OAuth 2.0 for Native Apps."""

from tests.specifications.clauses.clause import Clause, Specification

SPECIFICATION = Specification(
    "RFC 8252",
    "OAuth 2.0 for Native Apps",
    (
        Clause("6", "MUST", "Native applications can use PKCE."),
        Clause("7", "MUST", "Redirect URIs with a private-use scheme, https or a loopback address are supported."),
        Clause("7.3", "MUST", "Any port is accepted for a loopback redirect URI."),
        Clause("8.1", "SHOULD", "A request of a native application without PKCE is rejected."),
        Clause(
            "8.2",
            "NOT RECOMMENDED",
            "Native applications do not use the implicit grant.",
            not_applicable="There is none.",
        ),
        Clause("8.4 a", "MUST", "The type of the client is part of its registration."),
        Clause("8.4 b", "MUST", "The complete redirect URI is registered."),
        Clause("8.4 c", "MUST", "Any other redirect URI is rejected, except for the port of a loopback address."),
        Clause("8.4 d", "SHOULD", "A private-use scheme is a reversed domain name."),
        Clause("8.4 e", "SHOULD", "A scheme without a dot is rejected."),
        Clause("8.5 a", "NOT RECOMMENDED", "A native application does not need a shared secret."),
        Clause(
            "8.5 b",
            "MUST",
            "If one is required, the client is still a public client.",
            not_applicable="None is required: only confidential clients send a secret.",
        ),
        Clause(
            "8.6 a", "SHOULD NOT", "No request is allowed without consent unless the identity of the client is assured."
        ),
        Clause("8.6 b", "SHOULD", "A previous consent does not change that."),
    ),
    also=("7.1",),
)
