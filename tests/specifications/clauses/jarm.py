"""JARM: JWT Secured Authorization Response Mode for OAuth 2.0."""

from tests.specifications.clauses.clause import Clause, Specification

SPECIFICATION = Specification(
    "JARM",
    "JWT Secured Authorization Response Mode for OAuth 2.0",
    (
        Clause("2.1 a", "MUST", "The JWT has iss, the issuer."),
        Clause("2.1 b", "MUST", "The JWT has aud, the client_id."),
        Clause("2.1 c", "MUST", "The JWT has exp."),
        Clause("2.1 d", "RECOMMENDED", "The JWT is valid for at most ten minutes."),
        Clause("2.1 e", "MUST", "The JWT has the parameters of the response, with state."),
        Clause("2.1 f", "MUST", "An error is sent in a JWT too."),
        Clause("2.2 a", "MUST", "The JWT is signed."),
        Clause("2.2 b", "MUST", "The algorithm is that of the client."),
        Clause(
            "2.2 c",
            "MUST",
            "A JWT that is encrypted is signed first.",
            not_applicable="Tokens and responses are not encrypted, except by TLS.",
        ),
        Clause("2.3.1 a", "MUST", "With query.jwt, the JWT is the parameter response of the query."),
        Clause("2.3.1 b", "MUST NOT", "query.jwt is not used for tokens, unless the JWT is encrypted."),
        Clause("2.3.2", "MUST", "With fragment.jwt, the JWT is the parameter response of the fragment."),
        Clause("2.3.3", "MUST", "With form_post.jwt, the JWT is the field response of a form that is posted."),
        Clause("2.3.4", "MUST", "jwt is the default of the response type: query.jwt for code, else fragment.jwt."),
        Clause("3 a", "MUST", "authorization_signed_response_alg is RS256 by default."),
        Clause("3 b", "MUST NOT", "authorization_signed_response_alg is not none."),
        Clause("4", "RECOMMENDED", "The metadata lists the response modes and the algorithms."),
    ),
    also=("2",),
)
