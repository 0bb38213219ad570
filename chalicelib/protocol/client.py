"""The record of a registered client, with the conventions of `protocol.records`."""

from functools import cached_property
from typing import Any

from chalicelib.protocol.client_document import ClientDocument, host_of_document
from chalicelib.protocol.open_clients import OpenClientPolicy
from chalicelib.protocol.values import dataclass

# The authentication methods that send a client secret (RFC 6749 section 2.3.1).
SECRET_METHODS = ("client_secret_basic", "client_secret_post")
SUBJECT_TYPES = ("public", "pairwise")  # OpenID Connect Core section 8


@dataclass(frozen=True)
class Client:
    """A registered client. Names that RFC 7591 section 2 defines have its meaning.

    `secret_hashes`: SHA-256 of the client secrets, base64url; two during a rotation. `default_scope`: the scope of a
    request without `scope`; by default `scope` without `offline_access`. `trusted`: the operator's own application,
    which needs no consent. `strict_scope`: to request a scope that is not registered is an error, and not ignored.
    `direct_sign_in`: may use HTTP Basic at /oauth2/code. Lifetimes are in seconds and override the settings.
    `subject_type` pairwise: the client gets its own `sub` for each user.

    `registration_id`: random, another one when a client with the same id is registered later; None for records of
    version 1 and built-in clients. `grants_generation`: incremented to end all grants of the client.

    `id_token_claims_from_scope`: ID tokens of the token endpoint have the claims that the scope releases at UserInfo.
    `allowed_origins`: of pages that may read its responses, beside those of its redirect URIs (CORS).
    `token_endpoint_auth_methods`: all methods that it may authenticate with, at every endpoint, and
    `token_endpoint_auth_method` is the first of them; empty in records of version 1 (`auth_methods`).
    `jwks`: its public keys, as `keys.client_keys.read_jwks` returns them, or `jwks_uri`, where they are.
    `assertion_audience`: whom its client
    assertions may name: the `issuer` alone, or also the `token_endpoint`.
    `dpop_bound_access_tokens`: it gets no bearer tokens (RFC 9449 section 5.2). `dpop_nonce_required`: its DPoP proofs
    must have a nonce of the last minutes. Neither is stored, so that the record does not grow, unless it was set.

    `tls_client_auth_…`: whom its certificate must name, for the method tls_client_auth (RFC 8705 section 2.1.2).
    `tls_client_certificates`: those that it has signed itself, DER in base64, for self_signed_tls_client_auth.
    `tls_client_certificate_bound_access_tokens`: it gets only tokens that are bound to its certificate (section 3).

    `registered_with`: how it has registered itself, by the id of its initial access token or `open`; None if the
    operator has registered it. `registration_token_hash`: SHA-256 of its registration access token, with the one that
    was replaced last. `expires_at`: when it is deleted unless it is used; None is never.
    `require_signed_request_object`: its authorization requests must be signed (RFC 9101), with
    `request_object_signing_alg` if it names one. `introspection_signed_response_alg`: RFC 9701 section 6.
    `default_acr_values`: what a request without `acr_values` prefers; `require_acr`: what every sign-in must reach.
    `profile`: of FAPI 2.0, one of `protocol.fapi.PROFILES`, which all other members agree with.
    `authorization_details_types`: the types of authorization details that it may ask for (RFC 9396 section 10), None
    for none.
    `document`: of a client that is not registered, and names itself by the URL of a document; never stored.
    """

    client_id: str
    client_name: str
    redirect_uris: tuple[str, ...]
    grant_types: tuple[str, ...] = ("authorization_code", "refresh_token")
    response_types: tuple[str, ...] = ("code",)
    token_endpoint_auth_method: str = "client_secret_basic"  # noqa: S105
    token_endpoint_auth_methods: tuple[str, ...] = ()
    jwks: dict[str, Any] | None = None
    jwks_uri: str | None = None
    assertion_audience: str = "issuer"
    id_token_signed_response_alg: str = "RS256"  # noqa: S105
    access_token_signed_response_alg: str = "RS256"  # noqa: S105
    userinfo_signed_response_alg: str | None = None
    subject_type: str = "public"
    logo_uri: str | None = None
    client_uri: str | None = None
    policy_uri: str | None = None
    tos_uri: str | None = None
    post_logout_redirect_uris: tuple[str, ...] = ()
    backchannel_logout_uri: str | None = None
    backchannel_logout_session_required: bool = False
    scope: str = "openid"
    default_scope: str | None = None
    default_redirect_uri: str | None = None
    allowed_origins: tuple[str, ...] = ()
    secret_hashes: tuple[str, ...] = ()
    client_id_issued_at: int = 0
    require_pkce: bool = True
    require_pushed_authorization_requests: bool = False
    trusted: bool = False
    strict_scope: bool = False
    direct_sign_in: bool = False
    authorization_code_lifetime: int | None = None
    access_token_lifetime: int | None = None
    refresh_token_lifetime: int | None = None
    refresh_token_retry_window: int | None = None
    id_token_claims_from_scope: bool = False
    disabled_at: int | None = None
    registration_id: str | None = None
    grants_generation: int = 0
    registered_with: str | None = None
    registration_token_hash: str | None = None
    previous_registration_token_hash: str | None = None
    registration_token_replaced_at: int | None = None
    expires_at: int | None = None
    document: ClientDocument | None = None
    dpop_bound_access_tokens: bool | None = None
    dpop_nonce_required: bool | None = None
    authorization_signed_response_alg: str | None = None
    tls_client_auth_subject_dn: str | None = None
    tls_client_auth_san_dns: str | None = None
    tls_client_auth_san_uri: str | None = None
    tls_client_auth_san_ip: str | None = None
    tls_client_auth_san_email: str | None = None
    tls_client_certificates: tuple[str, ...] | None = None
    tls_client_certificate_bound_access_tokens: bool | None = None
    require_signed_request_object: bool | None = None
    request_object_signing_alg: str | None = None
    introspection_signed_response_alg: str | None = None
    default_acr_values: tuple[str, ...] = ()
    require_acr: str | None = None
    profile: str | None = None
    authorization_details_types: tuple[str, ...] | None = None

    @classmethod
    def of_document(cls, document: ClientDocument, policy: OpenClientPolicy) -> "Client":
        """Return the client that a document describes, with what the operator gives and allows such clients."""
        return cls(
            client_id=document.document_id,
            client_name=document.client_name,
            redirect_uris=policy.allowed(document.redirect_uris),
            grant_types=tuple(each for each in document.grant_types if each in policy.grant_types),
            token_endpoint_auth_method=document.auth_methods[0],
            token_endpoint_auth_methods=document.auth_methods,
            jwks=document.jwks,
            jwks_uri=document.jwks_uri,
            client_uri=document.client_uri,
            policy_uri=document.policy_uri,
            tos_uri=document.tos_uri,
            scope=policy.scope,
            client_id_issued_at=document.first_seen_at,
            require_pushed_authorization_requests=document.require_pushed_authorization_requests,
            dpop_bound_access_tokens=document.dpop_bound_access_tokens or None,
            require_signed_request_object=document.require_signed_request_object,
            request_object_signing_alg=document.request_object_signing_alg,
            document=document,
        )

    @property
    def document_host(self) -> str:
        """The host of its document, "" for a registered client."""
        return host_of_document(self.client_id) if self.document else ""

    @property
    def document_digest(self) -> str | None:
        """The digest of its document, None for a registered client."""
        return self.document.digest if self.document else None

    @cached_property
    def public(self) -> bool:
        """Whether the client cannot keep a secret (RFC 6749 section 2.1)."""
        return self.token_endpoint_auth_method == "none"  # noqa: S105

    @cached_property
    def auth_methods(self) -> tuple[str, ...]:
        """The methods that the client may authenticate with: both that send a secret, unless its record names them."""
        if self.public:
            return self.token_endpoint_auth_methods or ("none",)
        return self.token_endpoint_auth_methods or SECRET_METHODS

    @cached_property
    def has_secret_method(self) -> bool:
        """Whether one of its methods sends a client secret."""
        return not set(SECRET_METHODS).isdisjoint(self.auth_methods)

    @cached_property
    def details_types(self) -> frozenset[str]:
        """All types of authorization details that the client may ask for."""
        return frozenset(self.authorization_details_types or ())

    @cached_property
    def scopes(self) -> frozenset[str]:
        """All scopes that the client may request."""
        return frozenset(self.scope.split())

    @cached_property
    def default_scopes(self) -> frozenset[str]:
        """The scopes of a request without `scope`."""
        if self.default_scope is not None:
            return frozenset(self.default_scope.split())
        return self.scopes - {"offline_access"}
