"""RFC 7009: OAuth 2.0 Token Revocation."""

from tests.specifications.clauses.clause import Clause, Specification

SPECIFICATION = Specification(
    "RFC 7009",
    "OAuth 2.0 Token Revocation",
    (
        Clause("2 a", "MUST", "Refresh tokens can be revoked."),
        Clause(
            "2 b",
            "SHOULD",
            "Access tokens can be revoked.",
            note="UserInfo rejects them at once. An API that checks only the signature accepts them until they expire.",
        ),
        Clause("2 c", "MUST", "The endpoint's address has no fragment."),
        Clause(
            "2 d",
            "MUST",
            "The endpoint's address is https.",
            note="On a loopback address it can be http, for local development.",
        ),
        Clause("2 e", "MUST", "The server supports TLS."),
        Clause(
            "2 f",
            "SHOULD",
            "A revocation request sent over http by mistake is processed too.",
            not_applicable="API Gateway answers https only.",
        ),
        Clause("2 g", "MUST NOT", "No http address is published."),
        Clause("2.1 a", "REQUIRED", "A request without a token is rejected."),
        Clause("2.1 b", "MUST", "A token is found even if its hint is wrong."),
        Clause("2.1 c", "SHOULD", "Revoking a refresh token also revokes the access tokens of the grant."),
        Clause("5 a", "MUST", "The endpoint is protected against denial of service like the token endpoint."),
        Clause("5 b", "MUST", "A wrong hint does not make a request more expensive."),
    ),
    also=("2.2", "2.2.1"),
)
