"""The metadata (RFC 8414, OpenID Connect Discovery) and the keys, generated from the implementation."""

from chalicelib.authorization import openid_parameters
from chalicelib.clients.credentials import ALL_METHODS, METHODS
from chalicelib.grants import GRANTS
from chalicelib.http.messages import Request, Response, json_response
from chalicelib.keys.client_keys import ACCEPTED
from chalicelib.keys.ring import JWKS_LIFETIME
from chalicelib.protocol import claims, pkce, response_types, scopes
from chalicelib.protocol.client import SUBJECT_TYPES
from chalicelib.protocol.languages import LANGUAGES
from chalicelib.server import AuthorizationServer
from chalicelib.tokens import dpop, resources

CACHEABLE = {"Cache-Control": "public, max-age=300"}


def get(server: AuthorizationServer, _http: Request) -> Response:
    """Return the metadata document, which is the same at both well-known addresses."""
    endpoints = {name: server.issuer + path for name, path in server.addresses.items()}
    if server.settings.client_registration == "off":
        endpoints.pop("registration_endpoint", None)
    methods = list(ALL_METHODS if server.settings.mtls_domain else METHODS)
    signed = ("token", "revocation", "introspection")
    return json_response(
        {
            "issuer": server.issuer,
            **endpoints,
            "scopes_supported": list(scopes.SCOPES),
            "claims_supported": [*claims.TOKEN_CLAIMS, *scopes.CLAIMS],
            "claim_types_supported": ["normal"],
            "response_types_supported": list(response_types.RESPONSE_TYPES),
            "response_modes_supported": list(response_types.RESPONSE_MODES),
            "grant_types_supported": list(GRANTS),
            "prompt_values_supported": list(openid_parameters.prompts(server)),
            "display_values_supported": list(openid_parameters.DISPLAYS),
            "ui_locales_supported": list(LANGUAGES),
            "acr_values_supported": list(server.settings.authentication_policy.acr_values),
            "subject_types_supported": list(SUBJECT_TYPES),
            "id_token_signing_alg_values_supported": list(server.keys.algorithms),
            "userinfo_signing_alg_values_supported": list(server.keys.algorithms),
            "token_endpoint_auth_methods_supported": methods,
            "revocation_endpoint_auth_methods_supported": methods,
            "introspection_endpoint_auth_methods_supported": [method for method in methods if method != "none"],
            # RFC 8414 section 2: required with private_key_jwt
            **{f"{each}_endpoint_auth_signing_alg_values_supported": list(ACCEPTED) for each in signed},
            "authorization_signing_alg_values_supported": list(server.keys.algorithms),  # JARM section 4
            "dpop_signing_alg_values_supported": list(dpop.ALGORITHMS),
            "code_challenge_methods_supported": list(pkce.METHODS),
            "authorization_response_iss_parameter_supported": True,
            "backchannel_logout_supported": True,
            "backchannel_logout_session_supported": True,
            "claims_parameter_supported": True,
            "require_pushed_authorization_requests": server.settings.require_pushed_authorization_requests,
            "introspection_signing_alg_values_supported": list(server.keys.algorithms),  # RFC 9701 section 7
            "request_parameter_supported": True,
            "request_object_signing_alg_values_supported": list(ACCEPTED),
            "request_uri_parameter_supported": False,
            **_mutual_tls(server),
            **_client_documents(server),
            **_protected_resources(server),
        },
        headers=CACHEABLE,
    )


def _mutual_tls(server: AuthorizationServer) -> dict[str, object]:
    """Return where clients use their certificates (RFC 8705 sections 3.3 and 5); nothing without such a domain."""
    aliases = server.mtls_addresses
    return {"tls_client_certificate_bound_access_tokens": True, "mtls_endpoint_aliases": aliases} if aliases else {}


def _client_documents(server: AuthorizationServer) -> dict[str, bool]:
    """Return that documents are accepted; nothing where none could be, so that clients register in another way."""
    mode, listed = server.settings.client_documents, server.settings.client_document_hosts
    accepted = mode == "open" or (mode == "list" and bool(listed))
    return {"client_id_metadata_document_supported": True} if accepted else {}


def _protected_resources(server: AuthorizationServer) -> dict[str, list[str]]:
    """Return the registered resources (RFC 9728 section 4) and types of authorization details (RFC 9396 section 10).

    Nothing without any.
    """
    uris, types = resources.list_registered(server)
    members = {"protected_resources": uris, "authorization_details_types_supported": types}
    return {name: values for name, values in members.items() if values}


def jwks(server: AuthorizationServer, _http: Request) -> Response:
    """Return the public keys as a JWK Set (RFC 7517)."""
    return json_response(server.keys.jwks(), headers={"Cache-Control": f"public, max-age={JWKS_LIFETIME}"})
