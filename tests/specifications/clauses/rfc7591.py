"""RFC 7591: OAuth 2.0 Dynamic Client Registration Protocol."""

from tests.specifications.clauses.clause import Clause, Specification

STATEMENTS = "Software statements are ignored, as section 2.3 allows."

SPECIFICATION = Specification(
    "RFC 7591",
    "OAuth 2.0 Dynamic Client Registration Protocol",
    (
        Clause("2 a", "MUST", "Redirect URIs can be registered."),
        Clause(
            "2 b",
            "SHOULD",
            "The website of the client (client_uri) is shown to users as a link.",
            note="If it is https. Other addresses are ignored, because applications on the user's machine send theirs.",
        ),
        Clause(
            "2 c",
            "SHOULD",
            "The logo of the client (logo_uri) is shown to users.",
            not_held="An application could show the logo of another one, and its website would learn of each user. "
            "A login application can show it.",
        ),
        Clause("2 d", "SHOULD", "The terms of service (tos_uri) and the privacy policy (policy_uri) are shown."),
        Clause("2 e", "MUST NOT", "The members jwks and jwks_uri are not registered together."),
        Clause("2 f", "MUST", "Unknown members are ignored."),
        Clause(
            "2 g",
            "MUST",
            "The values of a trusted software statement take precedence.",
            not_applicable=STATEMENTS,
        ),
        Clause("2.1", "SHOULD", "Grant types and response types that do not fit each other are rejected."),
        Clause("2.2", "MUST", "A name without a language tag is shown as it was sent."),
        Clause("3 a", "MUST", "The endpoint accepts POST with a JSON body."),
        Clause("3 b", "MUST", "The endpoint is protected by TLS.", note="For local development it can be http."),
        Clause(
            "3 c",
            "SHOULD",
            "Registration is possible without an initial access token.",
            note="In the mode open. By default no application can register itself.",
        ),
        Clause("3.2.1 a", "REQUIRED", "The response has a client_id."),
        Clause("3.2.1 b", "SHOULD NOT", "The client_id is not that of another client."),
        Clause("3.2.1 c", "MUST", "Each client has its own client_secret."),
        Clause("3.2.1 d", "REQUIRED", "A response with a client_secret has client_secret_expires_at."),
        Clause("3.2.1 e", "MUST", "The response has all registered members, also those that the server has set."),
        Clause("3.2.1 f", "MUST", "The response has the software statement.", not_applicable=STATEMENTS),
        Clause("3.2.2", "REQUIRED", "An error is a response with status 400 and the member error."),
        Clause("5 a", "MUST", "The endpoint requires TLS.", note="For local development it can be http."),
        Clause("5 b", "MUST", "The server supports TLS 1.2."),
        Clause("5 c", "MUST", "Clients that use redirects must register their redirect URIs."),
        Clause("5 d", "MUST", "A redirect URI is https, or on this machine, or of an installed application."),
        Clause("5 e", "MUST", "All members are treated as claims of the client about itself."),
        Clause(
            "5 f",
            "MUST",
            "The server takes steps against applications that impersonate others.",
            note="Users are asked about each application, and see where its response goes and that it has registered "
            "itself.",
        ),
        Clause(
            "5 g",
            "SHOULD",
            "The addresses shown to users have the host and scheme of a redirect URI, and are valid web pages.",
            not_held="Installed applications have no redirect URI on their website, and the server requests no address "
            "that only people open. The addresses must be https.",
        ),
        Clause(
            "5 h",
            "SHOULD",
            "Users are protected from malicious content at these addresses.",
            not_held="The server does not request them. They are links in a new tab, which cannot change the page.",
        ),
        Clause("5 i", "MUST", "A signed software statement takes precedence.", not_applicable=STATEMENTS),
        Clause(
            "5 j",
            "SHOULD",
            "A second registration of the same application is suspect, and rejected.",
            note="Applications of today register for each user or connection: those that look the same are limited.",
        ),
        Clause("5 k", "SHOULD NOT", "Instances of an application do not get the same client_secret."),
    ),
    also=("3.1",),
)
