"""RFC 7009: OAuth 2.0 Token Revocation."""

from tests.clauses.clause import Clause, Specification

SPECIFICATION = Specification(
    "RFC 7009",
    "OAuth 2.0 Token Revocation",
    (
        Clause("2 a", "MUST", "Refresh tokens can be revoked."),
        Clause(
            "2 b",
            "SHOULD",
            "Access tokens can be revoked.",
            note="UserInfo refuses them at once. An API that looks only at the signature takes them until they expire.",
        ),
        Clause("2 c", "MUST", "The endpoint's address has no fragment."),
        Clause("2 d", "MUST", "The endpoint's address is https.", note="Locally it may be http, on loopback."),
        Clause("2 e", "MUST", "The server speaks TLS."),
        Clause(
            "2 f",
            "SHOULD",
            "Who revokes over plain http by mistake is served too.",
            not_applicable="API Gateway answers https only.",
        ),
        Clause("2 g", "MUST NOT", "An address over plain http is not published."),
        Clause("2.1 a", "REQUIRED", "Without a token the request is refused."),
        Clause("2.1 b", "MUST", "A token is found whatever its hint says."),
        Clause("2.1 c", "SHOULD", "With a refresh token, the access tokens of the grant end."),
        Clause("5 a", "MUST", "The endpoint is protected from floods as the token endpoint is."),
        Clause("5 b", "MUST", "A wrong hint makes nothing dearer."),
    ),
    also=("2.2", "2.2.1"),
)
