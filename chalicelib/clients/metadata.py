"""The checks of client metadata (RFC 7591 section 2, OpenID Connect Registration section 2)."""

import re
import unicodedata
from collections.abc import Collection
from typing import NoReturn
from urllib.parse import unquote, urlsplit

from chalicelib import builtin_clients
from chalicelib.clients.credentials import ALL_METHODS
from chalicelib.clients.signed_messages import check_algorithms, check_signed_requests
from chalicelib.keys.client_keys import read_jwks
from chalicelib.keys.signing import ALGORITHMS
from chalicelib.protocol import response_types
from chalicelib.protocol.client import SUBJECT_TYPES, Client
from chalicelib.protocol.errors import InvalidClientMetadata, InvalidRedirectUri
from chalicelib.protocol.redirect_uris import origin_of
from chalicelib.protocol.response_types import GRANT_TYPES
from chalicelib.protocol.scopes import MAX_SCOPE_TOKENS, SCOPE_TOKEN, SCOPES
from chalicelib.protocol.texts import is_printable
from chalicelib.settings import LIMITS, LOOPBACK

MAX_REDIRECT_URIS = 20
ASSERTION_AUDIENCES = ("issuer", "token_endpoint")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]{1,253}|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_LOCAL_HOST = re.compile(r"(?:127\.0\.0\.1|\[::1\]|(?:[a-z0-9-]+\.)*localhost)(?::[0-9]+)?")
MAX_URI = 2000
MAX_RESOURCE_URI = 128
_CLIENT_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")
# RFC 3986 section 2: the characters of a URI
_URI = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
# The host is part of a page's Content-Security-Policy, where other characters have a meaning.
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
# What a browser or the system does itself with such an address, instead of starting the application.
_NEVER = (
    *("javascript", "data", "vbscript", "file", "filesystem", "about", "blob", "view-source", "intent", "chrome"),
    *("ftp", "ws", "wss", "mailto", "urn"),
)


def check_client(client: Client, algorithms: Collection[str] = ALGORITHMS) -> None:
    """Check a client's registration. Raises InvalidRedirectUri or InvalidClientMetadata.

    `algorithms`: those that this server can sign tokens with.
    """
    if not is_printable(client.client_name):
        raise InvalidClientMetadata("The name must have 1 to 200 printable characters.")
    if client.client_id in builtin_clients.RESERVED:
        raise InvalidClientMetadata(f"The client_id {client.client_id} is reserved for the server itself.")
    if client.document is None and not _CLIENT_ID.fullmatch(client.client_id):
        _check_resource_server(client)
    _check_auth_methods(client)
    _check_keys(client)
    _check_grant_types(client)
    _check_redirect_uris(client)
    _check_allowed_origins(client)
    _check_scope(client)
    _check_other_uris(client)
    check_signed_requests(client)
    check_algorithms(client, algorithms)
    if client.subject_type not in SUBJECT_TYPES:
        raise InvalidClientMetadata("The subject_type must be one of: " + ", ".join(SUBJECT_TYPES))
    if client.subject_type == "pairwise":
        _check_sector(client)
    for name in (
        *("authorization_code_lifetime", "access_token_lifetime"),
        *("refresh_token_lifetime", "refresh_token_retry_window"),
    ):
        (low, high), seconds = LIMITS[name], getattr(client, name)
        if seconds is not None and not low <= seconds <= high:
            raise InvalidClientMetadata(f"The {name} must be {low} to {high} seconds.")
    if client.public and not client.require_pkce:
        raise InvalidClientMetadata("A public client must use PKCE.")
    if client.public and client.direct_sign_in:
        raise InvalidClientMetadata("Direct sign-in is for confidential clients.")


def is_resource_server(client_id: str) -> bool:
    """Return whether this is the URI of a resource server, or is meant to be."""
    return "://" in client_id


def warnings(client: Client) -> list[str]:
    """Return what the operator should know about a client that can be registered."""
    schemes = dict.fromkeys(urlsplit(uri).scheme for uri in (*client.redirect_uris, *client.post_logout_redirect_uris))
    return [
        f"Any application can use the scheme {scheme}: and receive the responses. A scheme of your own is a reversed "
        f"domain name, such as com.example.app: (RFC 8252 section 7.1)."
        for scheme in schemes
        if scheme not in ("http", "https") and "." not in scheme
    ]


def _check_resource_server(client: Client) -> None:
    """Check the registration of a resource server, whose client_id is its URI (the `resource` of RFC 8707).

    It may introspect the tokens whose audience it is.
    """
    uri = client.client_id
    if not is_resource_server(uri) or len(uri) > MAX_RESOURCE_URI:
        raise InvalidClientMetadata(
            "The client_id must have 1 to 128 letters, digits and ._~- characters, or be the https URI of a resource "
            "server, of at most 128 characters."
        )
    if problem := problem_with_resource_uri(uri):
        raise InvalidClientMetadata(f"The client_id {uri} {problem}.")
    # Its URI is the audience of access tokens. ID tokens must have another, or one could be used as the other.
    if "authorization_code" in client.grant_types:
        raise InvalidClientMetadata(
            "A resource server cannot sign users in: register the application as another client."
        )


def problem_with_resource_uri(uri: str) -> str | None:
    """Return why the URI of a resource server cannot be registered, or None if it can."""
    if len(uri) > MAX_RESOURCE_URI:
        return f"must have at most {MAX_RESOURCE_URI} characters"
    problem = "must have no fragment" if "#" in uri else problem_with_https(uri, local=True)
    if not problem and not uri.startswith(("http://", "https://")):
        problem = "must have its scheme in small letters"
    return problem


def _check_auth_methods(client: Client) -> None:
    """Check the authentication methods. A record of version 1 has no list of them."""
    method, methods = client.token_endpoint_auth_method, client.token_endpoint_auth_methods or client.auth_methods
    if set(methods) - set(ALL_METHODS) or len(set(methods)) != len(methods) or method not in methods:
        raise InvalidClientMetadata("The authentication methods must be distinct, and among: " + ", ".join(ALL_METHODS))
    if "none" in methods and len(methods) > 1 and client.document is None:
        raise InvalidClientMetadata("A client with the authentication method none has no other one.")


def _check_keys(client: Client) -> None:
    """Check the public keys, which private_key_jwt needs (RFC 7591 section 2)."""
    if client.assertion_audience not in ASSERTION_AUDIENCES:
        raise InvalidClientMetadata("The assertion_audience must be one of: " + ", ".join(ASSERTION_AUDIENCES))
    if client.jwks is not None and client.jwks_uri is not None:
        raise InvalidClientMetadata("Register either jwks or jwks_uri (RFC 7591 section 2).")
    if "private_key_jwt" in client.auth_methods and client.jwks is None and client.jwks_uri is None:
        raise InvalidClientMetadata("The authentication method private_key_jwt needs public keys: jwks or jwks_uri.")
    try:
        if client.jwks is not None:
            read_jwks(client.jwks)
    except ValueError as error:
        raise InvalidClientMetadata(f"The jwks cannot be registered: {error}.") from error


def _check_grant_types(client: Client) -> None:
    unknown = set(client.grant_types) - set(GRANT_TYPES)
    if unknown or len(set(client.grant_types)) != len(client.grant_types):
        raise InvalidClientMetadata("The grant_types must be distinct, and among: " + ", ".join(GRANT_TYPES))
    normalized = {response_types.normalize(response_type) for response_type in client.response_types}
    if normalized - set(response_types.RESPONSE_TYPES):
        raise InvalidClientMetadata("The response_types must be among: " + ", ".join(response_types.RESPONSE_TYPES))
    # RFC 7591 section 2.1: they must be consistent.
    signs_in = "authorization_code" in client.grant_types
    if signs_in != bool(normalized):
        raise InvalidClientMetadata("The grant type authorization_code and response_types must be registered together.")
    if "refresh_token" in client.grant_types and not signs_in:
        raise InvalidClientMetadata("The grant type refresh_token needs authorization_code.")
    if "client_credentials" in client.grant_types:
        if client.public:
            raise InvalidClientMetadata("The grant type client_credentials is for confidential clients.")
        if not client.scopes - set(SCOPES):
            raise InvalidClientMetadata(
                "The grant type client_credentials needs a scope of your own: the standard scopes are about users."
            )


def _check_redirect_uris(client: Client) -> None:
    uris = client.redirect_uris
    least = 1 if "authorization_code" in client.grant_types else 0
    if not least <= len(uris) <= MAX_REDIRECT_URIS or len(set(uris)) != len(uris):
        raise InvalidRedirectUri(f"Register {least} to {MAX_REDIRECT_URIS} different redirect URIs.")
    for uri in uris:
        check_redirect_uri(uri)
    if client.default_redirect_uri is not None and client.default_redirect_uri not in uris:
        raise InvalidRedirectUri("The default redirect URI must be one of the redirect URIs.")


def _check_allowed_origins(client: Client) -> None:
    """Check that these are origins as browsers send them: https, http on this machine, or an application's scheme."""
    origins = client.allowed_origins
    if len(origins) > MAX_REDIRECT_URIS or len(set(origins)) != len(origins):
        raise InvalidClientMetadata(f"Register at most {MAX_REDIRECT_URIS} different allowed_origins.")
    for origin in origins:
        scheme, _, host = origin.partition("://")
        if not _ORIGIN.fullmatch(origin) or scheme in _NEVER:
            problem = "must be an origin such as https://app.example.com or capacitor://localhost, in lower case"
        elif scheme not in ("http", "https"):
            continue
        elif scheme == "http" and not _LOCAL_HOST.fullmatch(host):
            problem = "must be https (http is for this machine: 127.0.0.1, [::1], localhost and *.localhost)"
        elif origin_of(origin) != origin:
            problem = "must be written without the default port"
        else:
            continue
        raise InvalidClientMetadata(f"The allowed origin {origin} {problem}.")


def _check_scope(client: Client) -> None:
    for name in ("scope", "default_scope"):
        tokens = (getattr(client, name) or "").split(" ") if getattr(client, name) else []
        if len(tokens) > MAX_SCOPE_TOKENS or not all(SCOPE_TOKEN.fullmatch(token) for token in tokens):
            raise InvalidClientMetadata(f"The {name} must be scope tokens separated by single spaces (RFC 6749 3.3).")
    if not client.scope or not client.default_scopes <= client.scopes:
        raise InvalidClientMetadata("The scope must not be empty, and must contain the default scope.")


def _check_other_uris(client: Client) -> None:
    for name in ("logo_uri", "client_uri", "policy_uri", "tos_uri"):
        uri = getattr(client, name)
        if uri is not None and (problem := problem_with_https(uri)):
            raise InvalidClientMetadata(f"The {name} {problem}.")
    uris = client.post_logout_redirect_uris
    if len(uris) > MAX_REDIRECT_URIS or len(set(uris)) != len(uris):
        raise InvalidClientMetadata(f"Register at most {MAX_REDIRECT_URIS} different post_logout_redirect_uris.")
    try:
        for uri in uris:
            check_redirect_uri(uri)
    except InvalidRedirectUri as error:
        raise InvalidClientMetadata(f"In post_logout_redirect_uris: {error.description}") from error
    for name in ("backchannel_logout_uri", "jwks_uri"):
        uri = getattr(client, name)
        if uri is not None:
            problem = "must have no fragment" if "#" in uri else problem_with_https(uri, local=True)
            if problem:
                raise InvalidClientMetadata(f"The {name} {problem}.")


def _check_sector(client: Client) -> None:
    """Check that all redirect URIs have one host, whose subjects these are (OpenID Connect Core section 8.1)."""
    parts = [urlsplit(uri) for uri in client.redirect_uris]
    hosts = {part.hostname for part in parts if part.scheme in ("http", "https")}
    if len(hosts) != 1 or not all(part.scheme in ("http", "https") for part in parts):
        raise InvalidClientMetadata(
            "With pairwise subjects all redirect URIs must have one host (a sector_identifier_uri is not supported)."
        )


def check_redirect_uri(uri: str) -> None:
    """Check a redirect URI. Raises InvalidRedirectUri.

    It is https; or http on a loopback address (RFC 8252 section 7.3) or localhost; or it has a private-use URI scheme
    (RFC 8252 section 7.1; `warnings` tells of one without a dot). It has no fragment (RFC 6749 section 3.1.2) and no
    user information.
    """

    def reject(problem: str) -> NoReturn:
        raise InvalidRedirectUri(problem)

    try:
        parts = urlsplit(uri)
        _ = parts.hostname, parts.port
    except ValueError:
        reject(f"{uri} is not a URI.")
    if hint := _host_in_ascii(parts.hostname):
        reject(f"The host of a redirect URI must be ASCII: write it as {hint}.")
    if not _URI.fullmatch(uri) or len(uri) > MAX_URI or not parts.scheme or "#" in uri or "@" in parts.netloc:
        reject("A redirect URI must be an absolute URI of at most 2,000 characters, without a fragment.")
    if parts.scheme in ("http", "https"):
        if problem := problem_with_https(uri, local=True):
            reject(f"{uri} {problem}.")
    elif parts.scheme in _NEVER:
        reject(f"{uri}: the scheme {parts.scheme} cannot be used, because it does not start an application.")
    elif "." not in parts.scheme and not uri[len(parts.scheme) :].startswith(":/"):
        reject(f"{uri}: write the scheme with a slash, such as http:// or, for an application, {parts.scheme}:/.")


def _host_in_ascii(host: str | None) -> str | None:
    """Return a host that has other characters than ASCII as browsers write it (Punycode, RFC 3492); else None."""
    if not host or host.isascii() or len(host) > 253:  # a longer one is no host, and would take seconds
        return None
    labels = unicodedata.normalize("NFKC", host).lower().split(".")
    return ".".join(label if label.isascii() else "xn--" + label.encode("punycode").decode() for label in labels)


def problem_with_https(uri: str, *, local: bool = False) -> str | None:
    """Return why a URI is not an https URL, or None if it is. `local` allows http on this machine."""
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not a URI"
    if hint := _host_in_ascii(host):
        return f"must have an ASCII host: write it as {hint}"
    if not _URI.fullmatch(uri) or len(uri) > MAX_URI or "@" in parts.netloc:
        return "must be a URL of at most 2,000 characters, without user information"
    on_loopback = local and (parts.netloc.rsplit(":", 1)[0] in LOOPBACK or parts.netloc in LOOPBACK)
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and on_loopback)):
        return "must be https" + (" (http is for 127.0.0.1, [::1] and localhost)" if local else "")
    if not _HOST.fullmatch(host):
        return "must have a host of letters, digits, hyphens and dots"
    if any(unquote(segment) in (".", "..") for segment in parts.path.split("/")):
        return "must have no dot segments"
    return None
