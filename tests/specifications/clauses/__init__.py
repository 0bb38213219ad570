"""Every MUST and SHOULD for an authorization server, from each specification that Signet implements.

Requirements for clients, registries and resource servers are left out, except for the server's own protected resources.
The sentences are short summaries; the text of the specification is what counts.
"""

from tests.specifications.clauses import (
    client_id_metadata_document,
    oidc_backchannel_logout,
    oidc_core,
    oidc_discovery,
    oidc_rp_initiated_logout,
    rfc6749,
    rfc6750,
    rfc7009,
    rfc7591,
    rfc7592,
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
    rfc7591.SPECIFICATION,
    rfc7592.SPECIFICATION,
    rfc7636.SPECIFICATION,
    rfc7662.SPECIFICATION,
    rfc8252.SPECIFICATION,
    rfc8414.SPECIFICATION,
    rfc9068.SPECIFICATION,
    rfc9207.SPECIFICATION,
    rfc9700.SPECIFICATION,
    client_id_metadata_document.SPECIFICATION,
    oidc_core.SPECIFICATION,
    oidc_discovery.SPECIFICATION,
    oidc_rp_initiated_logout.SPECIFICATION,
    oidc_backchannel_logout.SPECIFICATION,
)

# Specifications and documents without a list of clauses here, which `spec` marks can also name.
ELSEWHERE = (
    "Aidbox",
    "Fetch",
    "NIST SP 800-63B",
    "OAuth 2.0 Form Post Response Mode",
    "OAuth 2.0 Multiple Response Type Encoding Practices",
    "OAuth 2.0 Simplified",
    "RFC 6265",
    "RFC 6265bis",
    "RFC 6585",
    "RFC 7515",
    "RFC 7516",
    "RFC 7517",
    "RFC 7518",
    "RFC 7519",
    "RFC 7523",
    "RFC 7617",
    "RFC 7638",
    "RFC 8037",
    "RFC 8176",
    "RFC 8265",
    "RFC 8707",
    "RFC 8725",
    "RFC 9110",
    "RFC 9126",
    "RFC 9864",
    "WCAG 2.2",
    "WSO2 API Manager",
    "WSO2 Identity Server",
    "light-oauth2",
)
