"""RFC 9700: Best Current Practice for OAuth 2.0 Security."""

from tests.specifications.clauses.clause import Clause, Specification

BOUND = "By DPoP or mutual TLS, for clients that use them, and always for those that are registered for it."
NO_MESSAGE = "Responses are redirects or forms; postMessage is not used."

SPECIFICATION = Specification(
    "RFC 9700",
    "Best Current Practice for OAuth 2.0 Security",
    (
        Clause(
            "2.1 a", "MUST", "Redirect URIs are compared exactly, except for the loopback port of a native application."
        ),
        Clause("2.1 b", "MUST NOT", "The server is no open redirector."),
        Clause("2.1 c", "MUST", "A redirect does not forward user credentials."),
        Clause("2.1.1 a", "MUST", "The server supports PKCE."),
        Clause(
            "2.1.1 b",
            "MUST",
            "A code challenge in the authorization request requires the verifier in the token request.",
        ),
        Clause("2.1.1 c", "MUST", "A verifier without a code challenge in the authorization request is rejected."),
        Clause("2.1.1 d", "MUST", "Clients can detect that PKCE is supported."),
        Clause("2.1.1 e", "RECOMMENDED", "The metadata lists the PKCE methods."),
        Clause("2.2.1", "SHOULD", "Access tokens are sender-constrained.", note=BOUND),
        Clause("2.2.2", "MUST", "Refresh tokens of public clients are sender-constrained or rotated."),
        Clause("2.3 a", "SHOULD", "The privileges of an access token are the minimum required."),
        Clause("2.3 b", "SHOULD", "The audience of an access token is one resource server or a small set."),
        Clause("2.3 c", "MUST", "The server's own resource server rejects a token for another audience."),
        Clause("2.3 d", "SHOULD", "An access token is restricted to certain resources and actions."),
        Clause("2.4", "MUST NOT", "There is no password grant."),
        Clause("2.5 a", "SHOULD", "Clients that can keep a secret must authenticate."),
        Clause("2.5 b", "RECOMMENDED", "Clients authenticate with asymmetric keys."),
        Clause("2.6 a", "RECOMMENDED", "The server publishes its metadata."),
        Clause("2.6 b", "SHOULD NOT", "A client cannot choose a client_id that could be confused with a user."),
        Clause(
            "2.6 c",
            "RECOMMENDED",
            "TLS is end-to-end between client and resource server.",
            not_applicable="The server's own resource server is behind API Gateway, which terminates TLS.",
        ),
        Clause("2.6 d", "MUST NOT", "Authorization responses are not transmitted over unencrypted networks."),
        Clause(
            "2.6 e",
            "MUST NOT",
            "http redirect URIs are allowed only for native applications at a loopback address.",
            not_held="Confidential clients and localhost can use http too, so that an application can be "
            "tested on its developer's machine. No other http address is allowed.",
        ),
        Clause("2.6 f", "MUST", "Sender and receiver of in-browser messages are verified.", not_applicable=NO_MESSAGE),
        Clause("2.6 g", "MUST NOT", "The authorization endpoint does not support CORS."),
        Clause(
            "3",
            "MUST",
            "All attackers of the threat model are considered.",
            not_applicable="Not testable by itself; the clauses of section 4 cover the consequences.",
        ),
        Clause("4.1.3 a", "MUST", "Redirect URIs are compared by exact string matching."),
        Clause("4.1.3 b", "MUST", "A native application can use any port of a loopback address."),
        Clause(
            "4.2.4 a",
            "SHOULD NOT",
            "Pages contain neither third-party resources nor external links.",
            note="Except for those that the operator adds: a logo, a help page. The consent page links to the website "
            "of the application, in a new tab and without a referrer.",
        ),
        Clause("4.2.4 b", "MUST", "A code is invalid after its first use."),
        Clause("4.2.4 c", "SHOULD", "A second use revokes the tokens of the first."),
        Clause("4.7.1 a", "MUST", "Clients can detect that PKCE is supported."),
        Clause("4.7.1 b", "RECOMMENDED", "The metadata announces PKCE support."),
        Clause("4.8.2 a", "MUST", "PKCE downgrade attacks are prevented."),
        Clause("4.8.2 b", "MUST", "A verifier without a code challenge in the authorization request is rejected."),
        Clause("4.9.3 a", "SHOULD", "Access tokens are sender-constrained.", note=BOUND),
        Clause("4.9.3 b", "SHOULD", "Access tokens are restricted to one resource server."),
        Clause("4.9.3 c", "MUST", "The server's own resource server does not store access tokens."),
        Clause("4.10 a", "SHOULD", "Access tokens are sender-constrained.", note=BOUND),
        Clause("4.10 b", "SHOULD", "Access tokens are restricted to one resource server."),
        Clause("4.11.2 a", "MUST", "The server cannot be misused as an open redirector."),
        Clause(
            "4.11.2 b",
            "MUST",
            "The user is authenticated before any redirect.",
            not_held="An error is returned at once (RFC 6749 §4.1.2.1), but only to redirect URIs that are registered. "
            "By default only the operator registers them; in the mode open, of documents or registration, anyone does.",
        ),
        Clause("4.11.2 c", "SHOULD", "Automatic redirects go to trusted URIs only."),
        Clause("4.12 a", "MUST NOT", "No redirect is a 307."),
        Clause(
            "4.12 b",
            "SHOULD",
            "A redirect after credentials is a 303.",
            note="After a GET it is a 302: Basic credentials are bound to the server's origin.",
        ),
        Clause("4.13 a", "MUST", "Headers that a client can set itself are not trusted."),
        Clause(
            "4.13 b",
            "MUST",
            "Communication between gateway and server is protected.",
            not_applicable="API Gateway invokes the function through AWS's encrypted API.",
        ),
        Clause("4.14.2 a", "MUST", "The server decides for each client whether it issues refresh tokens."),
        Clause("4.14.2 b", "MUST", "A refresh token is bound to the scope that the user consented to."),
        Clause("4.14.2 c", "MUST", "Replay of a public client's refresh token is detected."),
        Clause("4.14.2 d", "MUST", "A refresh token that encodes its grant is protected against modification."),
        Clause("4.14.2 e", "SHOULD", "A refresh token expires if it is not used."),
        Clause("4.15.1 a", "SHOULD NOT", "A client cannot choose a client_id that is a user's identifier."),
        Clause("4.15.1 b", "MUST", "Tokens of users and of clients can be distinguished."),
        Clause("4.16 a", "MUST", "Pages are protected against clickjacking."),
        Clause("4.16 b", "SHOULD", "Content-Security-Policy is used for that."),
        Clause(
            "4.16 c",
            "SHOULD",
            "The origins that can frame pages are configurable for each client.",
            not_held="No origin can frame pages, and no setting changes that.",
        ),
        Clause("4.16 d", "SHOULD", "X-Frame-Options is used in addition."),
        Clause("4.17.2 a", "MUST", "Origins of receivers are compared exactly.", not_applicable=NO_MESSAGE),
        Clause("4.17.2 b", "MUST", "Messages are sent to trusted origins only.", not_applicable=NO_MESSAGE),
        Clause("4.17.2 c", "MUST NOT", "No message is sent with a wildcard origin.", not_applicable=NO_MESSAGE),
    ),
    also=("4.3", "4.3.2"),
)
