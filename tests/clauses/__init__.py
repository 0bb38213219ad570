"""Every MUST and SHOULD for an authorization server, of each specification that Signet is measured by.

What a specification asks of clients, resource servers and registries is left out, but for the protected resources that
the server has itself. The sentences are ours; the specification's own words count.
"""

from tests.clauses import (
    oidc_backchannel_logout,
    oidc_core,
    oidc_discovery,
    oidc_rp_initiated_logout,
    rfc6749,
    rfc6750,
    rfc7009,
    rfc7636,
    rfc7662,
    rfc8252,
    rfc8414,
    rfc9068,
    rfc9207,
    rfc9700,
)

SPECIFICATIONS = (
    rfc6749.SPECIFICATION,
    rfc6750.SPECIFICATION,
    rfc7009.SPECIFICATION,
    rfc7636.SPECIFICATION,
    rfc7662.SPECIFICATION,
    rfc8252.SPECIFICATION,
    rfc8414.SPECIFICATION,
    rfc9068.SPECIFICATION,
    rfc9207.SPECIFICATION,
    rfc9700.SPECIFICATION,
    oidc_core.SPECIFICATION,
    oidc_discovery.SPECIFICATION,
    oidc_rp_initiated_logout.SPECIFICATION,
    oidc_backchannel_logout.SPECIFICATION,
)

# What marks may name besides: no table is kept of these, so whoever cites another one adds it here.
ELSEWHERE = (
    "Fetch",
    "NIST SP 800-63B",
    "OAuth 2.0 Form Post Response Mode",
    "OAuth 2.0 Multiple Response Type Encoding Practices",
    "RFC 6265",
    "RFC 6265bis",
    "RFC 6585",
    "RFC 7515",
    "RFC 7516",
    "RFC 7517",
    "RFC 7518",
    "RFC 7519",
    "RFC 7591",
    "RFC 7617",
    "RFC 7638",
    "RFC 8037",
    "RFC 8176",
    "RFC 8265",
    "RFC 8707",
    "RFC 8725",
    "RFC 9110",
    "RFC 9864",
    "WCAG 2.2",
    "seed",
)
