"""RFC 8705: OAuth 2.0 Mutual-TLS Client Authentication and Certificate-Bound Access Tokens."""

from tests.specifications.clauses.clause import Clause, Specification

SPECIFICATION = Specification(
    "RFC 8705",
    "Mutual-TLS Client Authentication and Certificate-Bound Access Tokens (the gateway ends the TLS connection)",
    (
        Clause("2 a", "MUST", "A certificate authenticates a client only if the TLS connection was made with it."),
        Clause("2 b", "MUST", "The client_id is in the request."),
        Clause("2 c", "MUST", "The certificate is that of the client; without it, or with another, invalid_client."),
        Clause("2.1.2 a", "MUST", "A client of tls_client_auth has exactly one name that its certificate must have."),
        Clause("2.1.2 b", "MUST", "IP addresses are compared in binary form."),
        Clause(
            "2.2",
            "MUST",
            "A certificate of self_signed_tls_client_auth is one of those that are registered for the client.",
        ),
        Clause(
            "2.2.2",
            "REQUIRED",
            "The certificates are registered by x5c in jwks or jwks_uri.",
            not_held="The gateway accepts a certificate only once its operator trusts it, so the operator registers "
            "it: `signet client add-certificate`.",
        ),
        Clause("3 a", "MUST", "The certificate of a bound access token is that of the request to the token endpoint."),
        Clause("3 b", "MUST", "A bound access token with another certificate, or none, is 401 invalid_token."),
        Clause("3.1", "MUST", "The x5t#S256 is the SHA-256 of the DER encoding, in base64url without padding."),
        Clause("3.2", "REQUIRED", "Introspection tells the certificate of a bound access token."),
        Clause("3.4", "REQUIRED", "A client that is registered for bound access tokens gets no others."),
        Clause("4", "SHOULD", "The refresh token of a public client is bound to its certificate, and this is checked."),
        Clause("7.1", "MUST", "The refresh token of another client needs its client authentication."),
        Clause(
            "7.2",
            "MUST",
            "A hash function without known collisions is used.",
            not_applicable="SHA-256 is the only one that is registered for this.",
        ),
        Clause(
            "7.3",
            "SHOULD",
            "TLS follows BCP 195.",
            not_applicable="API Gateway ends the connection; the template demands TLS 1.2.",
        ),
        Clause("7.4", "SHOULD", "Only a limited number of authorities is trusted, and no client can be one."),
        Clause("7.5", "SHOULD", "Certificates are parsed by a library that is well tested, and errors are refusals."),
    ),
    also=("2.1", "2.1.2", "3", "3.3", "5", "6.3", "6.5"),
)
