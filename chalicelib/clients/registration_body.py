"""The client metadata in a registration request, as members of Client (RFC 7591 section 2).

Members that this server does not support are ignored, and not in the response; so are addresses for people that are not
https, which applications on the user's own machine send. What it could not do as the application
expects is rejected: an unknown authentication method or algorithm, or a sector_identifier_uri.
"""

import json
from dataclasses import fields
from typing import Any
from urllib.parse import urlsplit

from chalicelib.clients.credentials import METHODS
from chalicelib.clients.metadata import problem_with_https
from chalicelib.http.messages import Request
from chalicelib.keys.client_keys import ACCEPTED, read_json
from chalicelib.protocol import response_types
from chalicelib.protocol.client import SECRET_METHODS, Client
from chalicelib.protocol.errors import InvalidClientMetadata, InvalidRedirectUri
from chalicelib.protocol.open_clients import OpenClientPolicy

MAX_BODY = 16 * 1024
_ADDRESSES = ("logo_uri", "client_uri", "policy_uri", "tos_uri")
_TEXTS = (
    *("client_name", *_ADDRESSES, "jwks_uri", "backchannel_logout_uri"),
    *("id_token_signed_response_alg", "userinfo_signed_response_alg", "subject_type"),
    *("authorization_signed_response_alg", "introspection_signed_response_alg", "request_object_signing_alg"),
)
_LISTS = ("post_logout_redirect_uris", "default_acr_values")
_FLAGS = (
    *("backchannel_logout_session_required", "require_pushed_authorization_requests"),
    *("dpop_bound_access_tokens", "require_signed_request_object"),
)
# What a registration sets, also where it leaves a member out.
_SET = {*_TEXTS, *_LISTS, *_FLAGS, "jwks", "default_scope"}
_DEFAULTS: dict[str, Any] = {
    field.name: field.default for field in fields(Client) if field.name in _SET - {"client_name"}
}


def read_body(http: Request) -> dict[str, Any]:
    """Return the members of a JSON object, without those that are null. Raises InvalidClientMetadata."""
    if http.media_type != "application/json":
        raise InvalidClientMetadata("The body must be application/json.")
    if len(http.body) > MAX_BODY:
        raise InvalidClientMetadata(f"The body exceeds {MAX_BODY} bytes.")
    try:
        body = read_json(http.body.decode("utf-8"))
        json.dumps(body, ensure_ascii=False).encode()  # a lone surrogate is no text
    except (ValueError, RecursionError) as error:
        raise InvalidClientMetadata("The body is not valid JSON, or it repeats a member.") from error
    if not isinstance(body, dict):
        raise InvalidClientMetadata("The body must be a JSON object.")
    return {name: value for name, value in body.items() if value is not None}


def client_members(body: dict[str, Any], policy: OpenClientPolicy) -> dict[str, Any]:
    """Return all members of Client that a registration sets. `check_client` checks their values.

    `policy`: which scopes and grant types such a client may have. Raises InvalidRedirectUri and InvalidClientMetadata.
    """
    if "sector_identifier_uri" in body:
        raise InvalidClientMetadata("A sector_identifier_uri is not supported: register redirect URIs of one host.")
    members = dict(_DEFAULTS)
    members |= {name: text_member(body, name) for name in _TEXTS if body.get(name) not in (None, "")}
    members |= {name: None for name in _ADDRESSES if members[name] and problem_with_https(members[name])}
    members |= {name: texts_member(body, name) for name in _LISTS if name in body}
    members |= {name: flag_member(body, name) for name in _FLAGS if name in body}
    redirect_uris = _redirect_uris(body)
    members["redirect_uris"] = redirect_uris
    members["client_name"] = members.get("client_name") or _name_from(redirect_uris)
    members["grant_types"] = _supported(body, "grant_types", policy.grant_types, ("authorization_code",))
    members["response_types"] = _response_types(body)
    named = "token_endpoint_auth_method"
    method = text_member(body, named) if named in body else next(iter(METHODS))
    if method not in METHODS:
        raise InvalidClientMetadata("The token_endpoint_auth_method must be one of: " + ", ".join(METHODS))
    # A secret may be sent in both ways, because libraries do not always use the registered one.
    methods = (method, *SECRET_METHODS) if method in SECRET_METHODS else (method,)
    members |= {"token_endpoint_auth_method": method, "token_endpoint_auth_methods": tuple(dict.fromkeys(methods))}
    if method == "private_key_jwt" and body.get("token_endpoint_auth_signing_alg", ACCEPTED[0]) not in ACCEPTED:
        raise InvalidClientMetadata("The token_endpoint_auth_signing_alg must be one of: " + ", ".join(ACCEPTED))
    if "jwks" in body:
        if not isinstance(body["jwks"], dict):
            raise InvalidClientMetadata("The jwks must be a JSON object.")
        members["jwks"] = body["jwks"]
    return members | _scopes(body, policy.scope)


def _scopes(body: dict[str, Any], allowed: str) -> dict[str, Any]:
    """Return the scope that the client may request, and the part of it that it named: its default one.

    The second is no upper bound, because applications ask for more when they need it.
    """
    if body.get("scope") in (None, ""):
        return {"scope": allowed}
    named = set(text_member(body, "scope").split(" "))
    narrowed = [token for token in allowed.split(" ") if token in named]
    if not narrowed:
        raise InvalidClientMetadata(f"A client that registers itself may have the scopes: {allowed}")
    return {"scope": allowed, "default_scope": " ".join(narrowed)}


def _redirect_uris(body: dict[str, Any]) -> tuple[str, ...]:
    uris = body.get("redirect_uris")
    if not isinstance(uris, list) or not uris or not all(isinstance(uri, str) for uri in uris):
        raise InvalidRedirectUri("The redirect_uris must be an array of at least one URI.")
    return tuple(uris)


def _name_from(uris: tuple[str, ...]) -> str:
    """Return a name for a client that has none: where it gets its responses."""
    try:
        parts = urlsplit(uris[0])
        return (parts.hostname or parts.scheme)[:200]
    except ValueError as error:
        raise InvalidRedirectUri("A redirect URI is not a URI.") from error


def _response_types(body: dict[str, Any]) -> tuple[str, ...]:
    named = texts_member(body, "response_types") if "response_types" in body else ("code",)
    supported = tuple(each for each in named if response_types.normalize(each) in response_types.RESPONSE_TYPES)
    if not supported:
        raise InvalidClientMetadata("The response_types must be among: " + ", ".join(response_types.RESPONSE_TYPES))
    return tuple(dict.fromkeys(supported))


def _supported(
    body: dict[str, Any], name: str, supported: tuple[str, ...], default: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the supported values that a member names. Raises InvalidClientMetadata when it names no such value."""
    named = texts_member(body, name) if name in body else default
    values = tuple(each for each in supported if each in named)
    if not values:
        raise InvalidClientMetadata(f"The {name} must be among: " + ", ".join(supported))
    return values


def text_member(body: dict[str, Any], name: str) -> str:
    """Return a member that must be a string. Raises InvalidClientMetadata."""
    value = body.get(name)
    if not isinstance(value, str):
        raise InvalidClientMetadata(f"The {name} must be a string.")
    return value


def texts_member(body: dict[str, Any], name: str) -> tuple[str, ...]:
    """Return a member that must be an array of strings. Raises InvalidClientMetadata."""
    value = body.get(name)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidClientMetadata(f"The {name} must be an array of strings.")
    return tuple(value)


def flag_member(body: dict[str, Any], name: str) -> bool:
    """Return a member that must be true or false, False without it. Raises InvalidClientMetadata."""
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise InvalidClientMetadata(f"The {name} must be true or false.")
    return value
