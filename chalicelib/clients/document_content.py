"""The content of client metadata documents: which members count, and what is refused (section 4 of the draft).

The rules of registered clients hold for documents too (`clients.metadata`); what only documents have is here.
"""

import hashlib
import json
from dataclasses import replace
from typing import Any

from chalicelib.clients.metadata import problem_with_https
from chalicelib.clients.record_checks import check_record
from chalicelib.clients.registration_body import flag_member, text_member, texts_member
from chalicelib.keys.client_keys import read_json, read_jwks
from chalicelib.protocol.client import Client
from chalicelib.protocol.client_document import ClientDocument, host_of_document
from chalicelib.protocol.errors import InvalidClientMetadata, InvalidRedirectUri
from chalicelib.protocol.handles import base64url
from chalicelib.protocol.open_clients import GRANT_TYPES, OpenClientPolicy

MAX_REDIRECT_URIS = 10
AUTH_METHODS = ("none", "private_key_jwt")
_SHARED_SECRET = "client_secret"  # noqa: S105


def read_document(url: str, content: bytes, policy: OpenClientPolicy) -> ClientDocument:
    """Return the record of the document at a URL, without its times. `policy`: for its client.

    Raises ValueError, whose text says what cannot be accepted.
    """
    members = read_json(content.decode("utf-8"))
    if not isinstance(members, dict):
        raise ValueError("the document is no JSON object")
    if members.get("client_id") != url:
        raise ValueError("the client_id in the document is not its URL")
    if any(name.startswith(_SHARED_SECRET) for name in members):
        raise ValueError("the document has a client secret")
    members = {name: value for name, value in members.items() if value is not None}
    try:
        document = _document(url, members)
        check_document(document, policy.scope)
        if not policy.allowed(document.redirect_uris):
            raise ValueError("no redirect URI in the document is of a kind that is allowed")
    except (InvalidClientMetadata, InvalidRedirectUri) as error:
        raise ValueError(error.description) from error
    return replace(document, digest=_digest(document))


def check_document(document: ClientDocument, scope: str) -> None:
    """Check the record of a document, also of one that was exported. `scope`: that its client would have.

    Raises InvalidRedirectUri and InvalidClientMetadata.
    """
    if not 1 <= len(document.redirect_uris) <= MAX_REDIRECT_URIS:
        raise InvalidRedirectUri(f"The document must have 1 to {MAX_REDIRECT_URIS} redirect_uris.")
    if document.jwks_uri is not None and not document.jwks_uri.startswith("https://"):
        raise InvalidClientMetadata("The jwks_uri of the document must be https.")
    if not document.auth_methods or set(document.auth_methods) - set(AUTH_METHODS):
        raise InvalidClientMetadata("The authentication methods of a document are: " + ", ".join(AUTH_METHODS))
    if "authorization_code" not in document.grant_types or set(document.grant_types) - set(GRANT_TYPES):
        raise InvalidClientMetadata("A document has the grant type authorization_code, and may have refresh_token.")
    check_record(Client.of_document(document, OpenClientPolicy(scope)))


def _document(url: str, members: dict[str, Any]) -> ClientDocument:
    jwks = members.get("jwks")
    return ClientDocument(
        url,
        0,
        client_name=_optional(members, "client_name") or host_of_document(url),
        redirect_uris=texts_member(members, "redirect_uris"),
        grant_types=_grant_types(members),
        auth_methods=_auth_methods(members),
        jwks=None if jwks is None else read_jwks(jwks),
        jwks_uri=_optional(members, "jwks_uri"),
        client_uri=_https_address(members, "client_uri"),
        policy_uri=_https_address(members, "policy_uri"),
        tos_uri=_https_address(members, "tos_uri"),
        require_pushed_authorization_requests=flag_member(members, "require_pushed_authorization_requests"),
        dpop_bound_access_tokens=flag_member(members, "dpop_bound_access_tokens"),
        require_signed_request_object=flag_member(members, "require_signed_request_object") or None,
        request_object_signing_alg=_optional(members, "request_object_signing_alg"),
    )


def _digest(document: ClientDocument) -> str:
    """Return a digest of where answers go and who can be the client; consent is remembered while it is the same."""
    relied_on = [sorted(document.redirect_uris), sorted(document.auth_methods), document.jwks, document.jwks_uri]
    return base64url(hashlib.sha256(json.dumps(relied_on, sort_keys=True).encode()).digest())


def _auth_methods(members: dict[str, Any]) -> tuple[str, ...]:
    """Return the methods that a client may use: those of its list that this server accepts, else its only one.

    Raises ValueError for one with a shared secret, and when none is left.
    """
    several = "token_endpoint_auth_methods_supported"
    named = texts_member(members, several) if several in members else ()
    if not named:
        named = (_optional(members, "token_endpoint_auth_method") or "none",)
    if any(method.startswith(_SHARED_SECRET) for method in (*named, str(members.get("token_endpoint_auth_method")))):
        raise ValueError("the document names an authentication method with a shared secret")
    if accepted := tuple(method for method in AUTH_METHODS if method in named):
        return accepted
    raise ValueError("the document names no authentication method of: " + ", ".join(AUTH_METHODS))


def _grant_types(members: dict[str, Any]) -> tuple[str, ...]:
    """Return the grant types that this server has for documents; both, if none is named. Others are ignored."""
    response_types = texts_member(members, "response_types") if "response_types" in members else ("code",)
    if "code" not in response_types:
        raise ValueError("the document does not name the response type code")
    if "grant_types" not in members:
        return GRANT_TYPES
    named = texts_member(members, "grant_types")
    if "authorization_code" not in named:
        raise ValueError("the document does not name the grant type authorization_code")
    return tuple(name for name in GRANT_TYPES if name in named)


def _optional(members: dict[str, Any], name: str) -> str | None:
    return text_member(members, name) if name in members else None


def _https_address(members: dict[str, Any], name: str) -> str | None:
    """Return an address for people, if it is https: whatever else is dropped."""
    value = members.get(name)
    return value if isinstance(value, str) and not problem_with_https(value) else None
