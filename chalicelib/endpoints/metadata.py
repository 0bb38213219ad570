"""The server's metadata (RFC 8414, OpenID Connect Discovery) and its keys, computed from what does the work."""

from chalicelib import authentication_request, claims, client_auth, pkce, response_modes, subjects
from chalicelib.grants import GRANTS
from chalicelib.messages import Request, Response, json_response
from chalicelib.server import AuthorizationServer

CACHEABLE = {"Cache-Control": "public, max-age=300"}


def get(server: AuthorizationServer, _http: Request) -> Response:
    """The metadata document: the same at both well-known addresses."""
    endpoints = {name: server.issuer + path for name, path in server.addresses.items()}
    methods = list(client_auth.METHODS)
    return json_response(
        {
            "issuer": server.issuer,
            **endpoints,
            "scopes_supported": list(claims.SCOPES),
            "claims_supported": [*claims.OF_TOKENS, *(claim for _, names in claims.SCOPES.values() for claim in names)],
            "claim_types_supported": ["normal"],
            "response_types_supported": list(response_modes.RESPONSE_TYPES),
            "response_modes_supported": list(response_modes.RESPONSE_MODES),
            "grant_types_supported": list(GRANTS),
            "prompt_values_supported": list(authentication_request.PROMPTS),
            "display_values_supported": list(authentication_request.DISPLAYS),
            "ui_locales_supported": list(authentication_request.UI_LOCALES),
            "acr_values_supported": list(claims.ACR_VALUES),
            "subject_types_supported": list(subjects.SUBJECT_TYPES),
            "id_token_signing_alg_values_supported": list(server.keys.algorithms),
            "userinfo_signing_alg_values_supported": list(server.keys.algorithms),
            "token_endpoint_auth_methods_supported": methods,
            "revocation_endpoint_auth_methods_supported": methods,
            "introspection_endpoint_auth_methods_supported": [method for method in methods if method != "none"],
            "code_challenge_methods_supported": list(pkce.METHODS),
            "authorization_response_iss_parameter_supported": True,
            "backchannel_logout_supported": True,
            "backchannel_logout_session_supported": True,
            "claims_parameter_supported": True,
            "request_parameter_supported": False,
            "request_uri_parameter_supported": False,
        },
        headers=CACHEABLE,
    )


def jwks(server: AuthorizationServer, _http: Request) -> Response:
    """The public keys (RFC 7517)."""
    return json_response(server.keys.jwks(), headers=CACHEABLE)
