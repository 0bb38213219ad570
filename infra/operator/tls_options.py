"""The options of `client create` and `client update` for mutual TLS (RFC 8705), in the form of `client_options`."""

from typing import Any

TLS_OPTIONS: tuple[tuple[str, str, dict[str, Any], str], ...] = (
    (
        "--tls-client-auth-subject-dn",
        "tls_client_auth_subject_dn",
        {"metavar": "DN"},
        "The subject of its certificate, by which tls_client_auth finds it, such as CN=client,O=Example,C=US.",
    ),
    (
        "--tls-client-auth-san-dns",
        "tls_client_auth_san_dns",
        {"metavar": "NAME"},
        "Instead of the subject, a DNS name among the alternative names of its certificate.",
    ),
    (
        "--tls-client-auth-san-uri",
        "tls_client_auth_san_uri",
        {"metavar": "URI"},
        "Instead of the subject, a URI among the alternative names of its certificate.",
    ),
    (
        "--tls-client-auth-san-ip",
        "tls_client_auth_san_ip",
        {"metavar": "ADDRESS"},
        "Instead of the subject, an IP address among the alternative names of its certificate.",
    ),
    (
        "--tls-client-auth-san-email",
        "tls_client_auth_san_email",
        {"metavar": "ADDRESS"},
        "Instead of the subject, an email address among the alternative names of its certificate.",
    ),
    (
        "--tls-client-certificate-bound-access-tokens/--no-tls-client-certificate-bound-access-tokens",
        "tls_client_certificate_bound_access_tokens",
        {},
        "Issue no bearer tokens to it: its access tokens are bound to its certificate (RFC 8705).",
    ),
)
