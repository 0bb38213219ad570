"""Rules for the registration of clients, redirect URIs and users, and storage of their secrets."""

import base64
import hashlib
import re
from typing import Any

import pytest

from chalicelib.clients.metadata import check_client, check_redirect_uri, warnings
from chalicelib.protocol import redirect_uris
from chalicelib.protocol.client import SECRET_METHODS, Client
from chalicelib.protocol.errors import InvalidClientMetadata, InvalidRedirectUri, OAuthError
from chalicelib.protocol.identifiers import username_identifier
from chalicelib.protocol.response_types import GRANT_TYPES
from chalicelib.users.registration import register_user
from tests.support.browser import Browser
from tests.support.site import PASSWORD, Site, dump_tables

# ---- redirect URIs

GOOD_URIS = [
    "https://client.example.com/cb",
    "https://client.example.com",
    "https://client.example.com:8443/cb?a=b&c=%20d",
    "https://xn--exmple-cua.com/cb",
    "https://192.0.2.1/cb",
    "https://[2001:db8::1]/cb",
    "https://localhost/cb",
    "http://localhost/cb",
    "http://localhost:3000/cb",
    "http://127.0.0.1/cb",
    "http://127.0.0.1:3000/cb",
    "http://[::1]/cb",
    "http://[::1]:3000/cb",
    "com.example.app:/cb",
    "com.example.app://cb",
    "cursor://anysphere.cursor-retrieval/oauth/callback",
    "vscode:/cb",
    "https://client.example.com/" + "x" * (2000 - 27),
]
BAD_URIS = [
    "",
    " ",
    "/cb",
    "//client.example.com/cb",
    "client.example.com/cb",
    "cb",
    "https:",
    "https://",
    "https:///cb",
    "https:cb",
    "https://:443/cb",
    "https://client.example.com/cb#",
    "https://client.example.com/cb#a",
    "com.example.app:/cb#a",
    "https://user@client.example.com/cb",
    "https://user:password@client.example.com/cb",
    "https://client.example.com@evil.example/cb",
    "https://client.example.com:99999/cb",
    "https://client.example.com:port/cb",
    "https://client.example.com/a/../cb",
    "https://client.example.com/./cb",
    "https://client.example.com/..",
    "https://client.example.com/%2e%2E/cb",
    "https://client.example.com/.%2e/cb",
    "https://client.example.com/c b",
    " https://client.example.com/cb",
    "https://client.example.com/cb\n",
    "https://client.example.com/cb\r\nSet-Cookie: a=b",
    "https://client.example.com/\0",
    "https://client.example.com\\@evil.example/cb",
    'https://client.example.com/"',
    "https://client.example.com/<script>",
    "https://exämple.com/cb",
    "https://client.example.com/é",
    "https://client.example.com/\ud800",
    # characters with a meaning in a Content-Security-Policy
    "https://*.example.com/cb",
    "https://client.example.com;sandbox/cb",
    "https://client.example.com,evil.example/cb",
    "https://'self'/cb",
    "https://[::1/cb",
    "https://[client]/cb",
    "http://client.example.com/cb",
    "http://localhost.evil.example/cb",
    "http://127.0.0.1.evil.example/cb",
    "http://127.0.0.2/cb",
    "http://[::2]/cb",
    "http://0.0.0.0/cb",
    "javascript:alert(1)",
    "JavaScript:alert(1)",
    "data:text/html,x",
    "file:///etc/passwd",
    "vbscript:x",
    "about:blank",
    "blob:https://client.example.com/x",
    "ftp://client.example.com/cb",
    *(
        f"{scheme}:{rest}"
        for scheme in (
            "View-Source",
            "intent",
            "chrome",
            "filesystem",
            "wss",
            "DATA",
            "Blob",
            "vbScript",
            "FILE",
            "About",
        )
        for rest in ("//client.example.com/cb", "/cb")
    ),
    "HTTP://client.example.com/cb",
    "urn:ietf:wg:oauth:2.0:oob",
    # a scheme was forgotten, and the host would be one
    "localhost:3000/cb",
    "localhost:",
    "myapp:cb",
    "cursor:",
    "https://client.example.com/" + "x" * (2001 - 27),
]


@pytest.mark.spec("RFC 6749 §3.1.2")
@pytest.mark.spec("RFC 8252 §7")
@pytest.mark.parametrize("uri", GOOD_URIS, ids=lambda uri: uri[:60])
def test_valid_redirect_uri_is_accepted(uri: str) -> None:
    check_redirect_uri(uri)


@pytest.mark.spec("RFC 6749 §3.1.2 a", "RFC 6749 §3.1.2 c", "RFC 6749 §3.1.2.1 a", "RFC 6749 §3.1.2.2 c")
@pytest.mark.spec("RFC 8252 §8.4 b", "RFC 8252 §8.4 d", "RFC 8252 §8.4 e", "OpenID Connect Core §3.1.2.1 e")
@pytest.mark.spec("RFC 6749 §3.1.2")
@pytest.mark.spec("RFC 8252 §7.1")
@pytest.mark.parametrize("uri", BAD_URIS, ids=lambda uri: ascii(uri[:60]))
def test_invalid_redirect_uri_is_rejected(uri: str) -> None:
    with pytest.raises(InvalidRedirectUri):
        check_redirect_uri(uri)


MATCHES = [
    ("http://127.0.0.1/cb", "http://127.0.0.1:51004/cb", True),
    ("http://127.0.0.1/cb", "http://127.0.0.1/cb", True),
    ("http://127.0.0.1:8000/cb", "http://127.0.0.1/cb", True),
    ("http://127.0.0.1:8000/cb?a=b", "http://127.0.0.1:9000/cb?a=b", True),
    ("http://[::1]/cb", "http://[::1]:51004/cb", True),
    ("http://127.0.0.1", "http://127.0.0.1:51004", True),
    ("http://127.0.0.1/cb", "http://127.0.0.1:0/cb", False),
    ("http://127.0.0.1/cb", "http://127.0.0.1:65536/cb", False),
    ("http://127.0.0.1/cb", "http://127.0.0.1:/cb", False),
    ("http://127.0.0.1/cb", "http://127.0.0.1:٨٠/cb", False),
    ("http://127.0.0.1/cb", "http://127.0.0.1:80@evil.example/cb", False),
    ("http://127.0.0.1/cb", "http://127.0.0.1.evil.example/cb", False),
    ("http://127.0.0.1/cb", "http://127.0.0.1:80/cb/", False),
    ("http://127.0.0.1/cb", "http://127.0.0.1:80/CB", False),
    ("http://127.0.0.1/cb", "http://127.0.0.1:80/cb?a=b", False),
    ("http://127.0.0.1/cb", "http://127.0.0.1:80/cb#a", False),
    ("http://127.0.0.1/cb", "http://127.0.0.1:80/cb\n", False),
    ("http://127.0.0.1/cb", "HTTP://127.0.0.1:80/cb", False),
    ("http://127.0.0.1/cb", "https://127.0.0.1/cb", False),
    ("http://127.0.0.1/cb", "http://[::1]/cb", False),
    ("http://127.0.0.1/cb", "http://localhost/cb", False),
    ("http://localhost/cb", "http://localhost:3000/cb", True),
    ("http://localhost:3000/cb", "http://localhost/cb", True),
    ("http://localhost/cb", "http://127.0.0.1:3000/cb", False),
    ("http://localhost/cb", "http://localhost:3000/cb/", False),
    ("http://localhost/cb", "http://localhost:0/cb", False),
    ("http://localhost/cb", "http://localhost:80@evil.example/cb", False),
    ("http://localhost/cb", "http://localhost.evil.example/cb", False),
    ("http://localhost/cb", "http://localhost:3000.evil.example/cb", False),
    ("http://localhost/cb", "http://LOCALHOST:3000/cb", False),
    ("https://localhost/cb", "https://localhost:3000/cb", False),
    ("https://127.0.0.1/cb", "https://127.0.0.1:8443/cb", False),
    ("https://client.example.com/cb", "https://client.example.com:443/cb", False),
    ("https://client.example.com/cb", "https://CLIENT.example.com/cb", False),
]


@pytest.mark.spec("RFC 6749 §3.1.2.3 b", "RFC 8252 §8.4 c", "RFC 9700 §2.1 a", "RFC 9700 §4.1.3 a", "RFC 9700 §4.1.3 b")
@pytest.mark.spec("RFC 8252 §7.3")
@pytest.mark.spec("RFC 9700 §2.1")
@pytest.mark.parametrize(("registered", "presented", "same"), MATCHES)
def test_redirect_uris_match_exactly_except_for_the_port_of_a_loopback_address(
    registered: str, presented: str, same: bool
) -> None:
    assert redirect_uris.matches(registered, presented) == same


# ---- clients


def client_with(**members: Any) -> Client:
    defaults: dict[str, Any] = {
        "client_id": "s6BhdRkqt3",
        "client_name": "Photo Print",
        "redirect_uris": ("https://client.example.com/cb", "https://client.example.com/other"),
        "scope": "openid email",
    }
    methods = members.setdefault("token_endpoint_auth_methods", SECRET_METHODS)
    return Client(**(defaults | {"token_endpoint_auth_method": next(iter(methods), "")} | members))


PAGES = ("logo", "client", "policy", "tos")
BAD_LINKS = {
    "plain http": "http://client.example.com/",
    "a script": "javascript:alert(1)",
    "data": "data:image/png;base64,AAAA",
    "relative": "/logo.png",
    "without a scheme": "//client.example.com/logo.png",
    "without a host": "https:///logo.png",
    "with a password": "https://user:password@client.example.com/",
    "with a quote": 'https://client.example.com/"',
    "with a space": "https://client.example.com/a b",
    "with a line break": "https://client.example.com/\r\nSet-Cookie: a=b",
    "with a non-ASCII letter": "https://client.example.com/é",
    "with a wildcard host": "https://*.example.com/logo.png",
    "with an invalid port": "https://client.example.com:99999/",
    "empty": "",
    "long": "https://client.example.com/" + "x" * (2001 - 27),
}
MACHINE: dict[str, Any] = {
    "grant_types": ("client_credentials",),
    "response_types": (),
    "redirect_uris": (),
    "scope": "photos",
}
RESOURCE_SERVER: dict[str, Any] = {
    "client_id": "https://api.example.com/photos",
    "grant_types": (),
    "response_types": (),
    "redirect_uris": (),
}
GOOD_CLIENTS: list[tuple[str, dict[str, Any]]] = [
    ("defaults", {}),
    ("a name in any script", {"client_name": "写真印刷 🖨️"}),
    ("the longest name", {"client_name": "x" * 200}),
    ("an id with every character allowed", {"client_id": "aZ09._~-" + "x" * 120}),
    ("twenty redirect URIs", {"redirect_uris": tuple(f"https://a.example/{n}" for n in range(20))}),
    ("a default redirect URI", {"default_redirect_uri": "https://client.example.com/other"}),
    ("custom scopes", {"scope": "PRODUCTION urn:x:y https://api.example.com/read"}),
    ("a default scope", {"default_scope": "openid"}),
    ("no default scope", {"default_scope": ""}),
    ("a hundred scopes", {"scope": " ".join(f"s{n}" for n in range(100))}),
    ("no PKCE, and confidential", {"require_pkce": False}),
    ("direct sign-in, and confidential", {"direct_sign_in": True}),
    ("public", {"token_endpoint_auth_methods": ("none",)}),
    (
        "origins of applications",
        {
            "allowed_origins": (
                *("capacitor://localhost", "ionic://localhost", "tauri://localhost", "http://tauri.localhost"),
                *("chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb", "https://a.example", "https://a.example:8443"),
                *("http://localhost:3000", "http://[::1]", "moz-extension://5f3f6f3c-1c2d-4e5f-8a9b-0c1d2e3f4a5b"),
            )
        },
    ),
    ("only HTTP Basic", {"token_endpoint_auth_methods": ("client_secret_basic",)}),
    ("the shortest lifetimes", {"authorization_code_lifetime": 10, "access_token_lifetime": 60}),
    ("the longest lifetimes", {"authorization_code_lifetime": 600, "refresh_token_lifetime": 366 * 86400}),
    ("no retry window", {"refresh_token_retry_window": 0}),
    ("the longest retry window", {"refresh_token_retry_window": 300}),
    ("links to pages", {f"{page}_uri": f"https://client.example.com/{page}?a=b#c" for page in PAGES}),
    ("post-logout redirect URIs", {"post_logout_redirect_uris": ("http://127.0.0.1/bye", "com.example.app:/bye")}),
    ("a logout URI with a query", {"backchannel_logout_uri": "https://client.example.com/logout?tenant=1"}),
    ("a logout URI at a loopback address", {"backchannel_logout_uri": "http://127.0.0.1:3000/logout"}),
    ("other algorithms", {f"{name}_signed_response_alg": "EdDSA" for name in ("id_token", "access_token", "userinfo")}),
    ("unsigned UserInfo responses", {"userinfo_signed_response_alg": None}),
    ("pairwise subjects", {"subject_type": "pairwise"}),
    ("a hybrid flow, values in any order", {"response_types": ("code", "id_token code")}),
    ("no refresh tokens", {"grant_types": ("authorization_code",)}),
    ("only client credentials", {**MACHINE}),
    ("tokens for users and client credentials", {"scope": "openid photos", "grant_types": GRANT_TYPES}),
    ("the URI of a resource server", {**RESOURCE_SERVER}),
    (
        "a resource server that calls another",
        {**RESOURCE_SERVER, "scope": "photos", "grant_types": ("client_credentials",)},
    ),
    *(
        (f"the resource server {uri}", {**RESOURCE_SERVER, "client_id": uri})
        for uri in ("http://127.0.0.1:3000/mcp", "http://[::1]:3000", "http://localhost/mcp?a=b", "https://localhost/")
    ),
    ("the longest URI of a resource server", {**RESOURCE_SERVER, "client_id": "https://api.example.com/" + "x" * 104}),
]
BAD_CLIENTS: list[tuple[str, type[OAuthError], dict[str, Any]]] = [
    ("no name", InvalidClientMetadata, {"client_name": ""}),
    ("a blank name", InvalidClientMetadata, {"client_name": "  "}),
    ("a long name", InvalidClientMetadata, {"client_name": "x" * 201}),
    ("a name with a line break", InvalidClientMetadata, {"client_name": "Photo\nPrint"}),
    ("a name with a bidirectional override", InvalidClientMetadata, {"client_name": "Photo\u202ePrint"}),
    ("a name with a lone surrogate", InvalidClientMetadata, {"client_name": "\ud800"}),
    ("no id", InvalidClientMetadata, {"client_id": ""}),
    ("a long id", InvalidClientMetadata, {"client_id": "x" * 129}),
    ("an id with a colon", InvalidClientMetadata, {"client_id": "a:b"}),
    ("an id with a line break", InvalidClientMetadata, {"client_id": "a\n"}),
    ("an id that is not ASCII", InvalidClientMetadata, {"client_id": "é"}),
    ("no redirect URI", InvalidRedirectUri, {"redirect_uris": ()}),
    ("a redirect URI twice", InvalidRedirectUri, {"redirect_uris": ("https://a.example/cb",) * 2}),
    ("21 redirect URIs", InvalidRedirectUri, {"redirect_uris": tuple(f"https://a.example/{n}" for n in range(21))}),
    ("one bad redirect URI", InvalidRedirectUri, {"redirect_uris": ("https://a.example/cb", "http://a.example/cb")}),
    (
        "a default redirect URI that is not registered",
        InvalidRedirectUri,
        {"default_redirect_uri": "https://a.example/"},
    ),
    ("no scope", InvalidClientMetadata, {"scope": ""}),
    ("a blank scope", InvalidClientMetadata, {"scope": " "}),
    ("a scope with two spaces", InvalidClientMetadata, {"scope": "openid  email"}),
    ("a scope with a tab", InvalidClientMetadata, {"scope": "openid\temail"}),
    ("a scope with quotation marks", InvalidClientMetadata, {"scope": 'openid "email"'}),
    ("a scope that is not ASCII", InvalidClientMetadata, {"scope": "openid é"}),
    ("a long scope token", InvalidClientMetadata, {"scope": "x" * 129}),
    ("101 scopes", InvalidClientMetadata, {"scope": " ".join(f"s{n}" for n in range(101))}),
    ("a default scope beyond the scope", InvalidClientMetadata, {"default_scope": "openid phone"}),
    ("a malformed default scope", InvalidClientMetadata, {"default_scope": " openid"}),
    *(
        (f"the authentication methods {methods}", InvalidClientMetadata, {"token_endpoint_auth_methods": methods})
        for methods in (
            (),
            ("private_key_jwt",),
            ("client_secret_basic", "none"),
            ("client_secret_post", "client_secret_post"),
        )
    ),
    *(
        (f"the allowed origin {origin!a}", InvalidClientMetadata, {"allowed_origins": (origin,)})
        for origin in (
            *("*", "null", "", "localhost", "capacitor:", "capacitor://", "file://", "file://localhost", "data://a"),
            *("http://a.example", "http://localhost.evil.example", "https://a.example/", "https://a.example:443"),
            *("https://A.example", "https://user@a.example", "https://a.example:8443:1", "https://a.example\n"),
            *("https://*.example", "https://é.example", "https://a.example, https://b.example", "javascript://x"),
        )
    ),
    ("an allowed origin twice", InvalidClientMetadata, {"allowed_origins": ("https://a.example",) * 2}),
    (
        "21 allowed origins",
        InvalidClientMetadata,
        {"allowed_origins": tuple(f"https://{n}.example" for n in range(21))},
    ),
    ("public, and no PKCE", InvalidClientMetadata, {"token_endpoint_auth_methods": ("none",), "require_pkce": False}),
    (
        "public, with direct sign-in",
        InvalidClientMetadata,
        {"token_endpoint_auth_methods": ("none",), "direct_sign_in": True},
    ),
    ("a code lifetime that is too long", InvalidClientMetadata, {"authorization_code_lifetime": 601}),
    ("a code lifetime of 0", InvalidClientMetadata, {"authorization_code_lifetime": 0}),
    ("a retry window of more than 5 minutes", InvalidClientMetadata, {"refresh_token_retry_window": 301}),
    ("a negative retry window", InvalidClientMetadata, {"refresh_token_retry_window": -1}),
    ("an access token lifetime of 0", InvalidClientMetadata, {"access_token_lifetime": 0}),
    ("a negative access token lifetime", InvalidClientMetadata, {"access_token_lifetime": -600}),
    ("an access token lifetime of a week", InvalidClientMetadata, {"access_token_lifetime": 7 * 86400}),
    ("a refresh token lifetime of two years", InvalidClientMetadata, {"refresh_token_lifetime": 730 * 86400}),
    *(
        (f"a {page}_uri that is {kind}", InvalidClientMetadata, {f"{page}_uri": uri})
        for page in (*PAGES, "backchannel_logout")
        for kind, uri in BAD_LINKS.items()
    ),
    ("a logo at a loopback address", InvalidClientMetadata, {"logo_uri": "http://127.0.0.1/logo.png"}),
    (
        "a logout URI with a fragment",
        InvalidClientMetadata,
        {"backchannel_logout_uri": "https://client.example.com/#x"},
    ),
    ("a logout URI with a custom scheme", InvalidClientMetadata, {"backchannel_logout_uri": "com.example.app:/logout"}),
    (
        "a post-logout redirect URI twice",
        InvalidClientMetadata,
        {"post_logout_redirect_uris": ("https://a.example/",) * 2},
    ),
    (
        "21 post-logout redirect URIs",
        InvalidClientMetadata,
        {"post_logout_redirect_uris": tuple(f"https://a.example/{n}" for n in range(21))},
    ),
    *(
        (
            f"the post-logout redirect URI {uri[:60]!a}",
            InvalidClientMetadata,
            {"post_logout_redirect_uris": (uri,)},
        )
        for uri in BAD_URIS
    ),
    *(
        (f"{name} signed with {alg!r}", InvalidClientMetadata, {f"{name}_signed_response_alg": alg})
        for name in ("id_token", "access_token", "userinfo")
        for alg in ("none", "HS256", "")
    ),
    ("unsigned access tokens", InvalidClientMetadata, {"access_token_signed_response_alg": None}),
    ("an unknown subject type", InvalidClientMetadata, {"subject_type": "Public"}),
    (
        "pairwise subjects, and two hosts",
        InvalidClientMetadata,
        {"subject_type": "pairwise", "redirect_uris": ("https://a.example/cb", "https://b.example/cb")},
    ),
    ("an unknown grant type", InvalidClientMetadata, {"grant_types": ("authorization_code", "password")}),
    ("a grant type twice", InvalidClientMetadata, {"grant_types": ("authorization_code",) * 2}),
    (
        "refresh tokens without another grant type",
        InvalidClientMetadata,
        {"grant_types": ("refresh_token",), "response_types": ()},
    ),
    ("an unknown response type", InvalidClientMetadata, {"response_types": ("code", "token")}),
    ("response type id_token alone", InvalidClientMetadata, {"response_types": ("id_token",)}),
    ("codes without a response type", InvalidClientMetadata, {"response_types": ()}),
    ("a response type without codes", InvalidClientMetadata, {**MACHINE, "response_types": ("code",)}),
    ("client credentials, and public", InvalidClientMetadata, {**MACHINE, "token_endpoint_auth_methods": ("none",)}),
    ("client credentials, and only user scopes", InvalidClientMetadata, {**MACHINE, "scope": "openid email"}),
    ("a resource server that signs users in", InvalidClientMetadata, {"client_id": "https://api.example.com/"}),
    *(
        (f"a resource server called {uri[:50]!a}", InvalidClientMetadata, {**RESOURCE_SERVER, "client_id": uri})
        for uri in (
            "http://api.example.com/",
            "http://127.0.0.2/",
            "http://localhost.evil.example/",
            "cursor://api.example.com/",
            "HTTPS://api.example.com/",
            "https://",
            "https:api",
            "https://api.example.com/#x",
            "https://user@api.example.com/",
            "https://api.example.com/ ",
            "https://api.example.com/a/../b",
            "https://api.example.com:99999/",
            "https://[::1/",
            "urn:example:api",
            "https://api.example.com/" + "x" * 105,
        )
    ),
]


@pytest.mark.parametrize(("case", "members"), GOOD_CLIENTS, ids=[row[0] for row in GOOD_CLIENTS])
def test_valid_client_metadata_is_accepted(case: str, members: dict[str, Any]) -> None:
    check_client(client_with(**members))


@pytest.mark.spec("RFC 6749 §3.1.2.2 b", "RFC 6749 §4.1.2 c", "RFC 6749 §10.6 c")
@pytest.mark.spec("RFC 7591 §3.2.2")
@pytest.mark.parametrize(("case", "error", "members"), BAD_CLIENTS, ids=[row[0] for row in BAD_CLIENTS])
def test_invalid_client_metadata_is_rejected(case: str, error: type[OAuthError], members: dict[str, Any]) -> None:
    with pytest.raises(error) as error_info:
        check_client(client_with(**members))
    assert error_info.value.description


@pytest.mark.parametrize(
    ("client_id", "reason"),
    [
        ("http://api.example.com/", "must be https (http is for 127.0.0.1, [::1] and localhost)"),
        ("https://api.example.com/#x", "must have no fragment"),
        ("https://user@api.example.com/", "without user information"),
        ("https://api.example.com/a/../b", "must have no dot segments"),
        ("urn:example:api", "or be the https URI of a resource server"),
        ("https://api.example.com/" + "x" * 105, "at most 128 characters"),
    ],
)
def test_error_says_what_is_wrong_with_the_uri_of_a_resource_server(client_id: str, reason: str) -> None:
    with pytest.raises(InvalidClientMetadata) as error_info:
        check_client(client_with(**RESOURCE_SERVER | {"client_id": client_id}))
    assert reason in error_info.value.description


@pytest.mark.spec("RFC 8707 §2")
@pytest.mark.parametrize(
    ("uri", "normal"),
    [
        ("https://API.example.com/photos", "https://api.example.com/photos"),
        ("https://api.example.com:443/photos", "https://api.example.com/photos"),
        ("https://api.example.com/%7Ephotos", "https://api.example.com/~photos"),
        ("https://api.example.com/a%2fb", "https://api.example.com/a%2Fb"),
        ("https://api.example.com:443", "https://api.example.com"),
    ],
)
def test_resource_server_is_registered_in_normal_form(site: Site, uri: str, normal: str) -> None:
    with pytest.raises(InvalidClientMetadata, match=f": {re.escape(normal)}$"):
        site.client(**RESOURCE_SERVER | {"client_id": uri})
    assert site.client(**RESOURCE_SERVER | {"client_id": normal}).id == normal


def test_resource_server_cannot_be_registered_in_two_spellings(site: Site) -> None:
    for first, second in (("https://a.example", "https://a.example/"), ("https://b.example/?c", "https://b.example?c")):
        site.client(**RESOURCE_SERVER | {"client_id": first})
        with pytest.raises(InvalidClientMetadata, match="is the same URI"):
            site.client(**RESOURCE_SERVER | {"client_id": second})
    site.client(**RESOURCE_SERVER | {"client_id": "https://a.example/photos"})
    site.client(**RESOURCE_SERVER | {"client_id": "https://a.example/photos/"})


@pytest.mark.spec("RFC 8252 §7.1")
def test_warning_tells_of_schemes_without_a_dot() -> None:
    uris = ("cursor://a/cb", "cursor://b/cb", "com.example.app:/cb", "http://localhost/cb", "https://a.example/cb")
    client = client_with(redirect_uris=uris, post_logout_redirect_uris=("vscode:/bye",))
    check_client(client)
    cursor, vscode = warnings(client)
    assert "cursor:" in cursor
    assert "vscode:" in vscode
    assert warnings(client_with(redirect_uris=uris[2:])) == []


def test_rejected_client_is_not_stored(site: Site) -> None:
    before = dump_tables()
    with pytest.raises(InvalidClientMetadata):
        site.client(client_name="")
    assert dump_tables() == before


def test_client_id_is_unique(site: Site) -> None:
    first = site.client(client_id="portal")
    with pytest.raises(InvalidClientMetadata, match="portal already exists"):
        site.client(client_id="portal", client_name="Another")
    assert site.server.store.clients.get("portal") == first.record


@pytest.mark.spec("RFC 6749 §10.10")
def test_client_secret_is_random_and_only_its_hash_is_stored(site: Site) -> None:
    client, other = site.client(), site.client()
    assert client.secret
    assert client.secret != other.secret
    assert client.id != other.id
    assert len(base64.urlsafe_b64decode(client.secret + "=")) == 32
    digest = base64.urlsafe_b64encode(hashlib.sha256(client.secret.encode()).digest()).rstrip(b"=").decode()
    assert client.record.secret_hashes == (digest,)
    assert digest in dump_tables()
    assert client.secret not in dump_tables()


@pytest.mark.spec("RFC 6749 §10.1 a")
def test_public_client_has_no_secret(site: Site) -> None:
    client = site.client(public=True)
    assert client.secret is None
    assert client.record.secret_hashes == ()
    assert client.record.public


@pytest.mark.spec("RFC 9700 §2.3 a")
def test_default_scope_is_the_scope_without_offline_access(site: Site) -> None:
    assert site.client().record.default_scopes == {"openid", "profile", "email"}
    assert site.client(default_scope="openid").record.default_scopes == {"openid"}
    assert site.client(default_scope="").record.default_scopes == set()


# ---- users

SAME_NAMES = [
    ("alice", "ALICE"),
    ("alice", "Alice"),
    ("alice", "ａｌｉｃｅ"),
    ("zoë", "zoe\u0308"),
    ("straße", "STRASSE"),
    ("ΣΊΣΥΦΟΣ", "σίσυφος"),
    ("file", "ﬁle"),
    ("ﾊﾝｶｸ", "ハンカク"),
]


@pytest.mark.spec("RFC 8265 §3.3")
@pytest.mark.parametrize(("name", "other"), SAME_NAMES)
def test_username_is_unique_regardless_of_case_and_width(site: Site, name: str, other: str) -> None:
    site.user(name)
    before = dump_tables()
    with pytest.raises(ValueError, match="is taken"):
        site.user(other)
    assert dump_tables() == before


@pytest.mark.parametrize(("name", "other"), SAME_NAMES)
def test_user_signs_in_with_any_form_of_the_username(site: Site, browser: Browser, name: str, other: str) -> None:
    site.user(name)
    assert browser.sign_in(browser.authorize(site.client(trusted=True)), other).code


def test_different_usernames_are_different_users(site: Site) -> None:
    names = ["alice", "alicе", "al ice", "alice@example.com", "username:alice", "aliçe", "1", "01"]
    subs = {site.user(name).sub for name in names}
    assert len(subs) == len(names)
    assert len({username_identifier(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        " alice",
        "alice ",
        "\u00a0alice",
        "al\nice",
        "al\0ice",
        "alice\u202e",
        "\ud800",
        "x" * 201,
        "\ufdfa" * 200,
    ],
    ids=lambda name: ascii(name[:20]),
)
def test_invalid_username_is_rejected(site: Site, name: str) -> None:
    before = dump_tables()
    with pytest.raises(ValueError):
        site.user(name)
    assert dump_tables() == before


def test_longest_username_can_sign_in(site: Site, browser: Browser) -> None:
    name = "☃" * 200
    site.user(name)
    assert browser.sign_in(browser.authorize(site.client(trusted=True)), name).code


@pytest.mark.parametrize("password", ["", "short", "x" * 1025, "nul\0 nul\0", "\ud800" * 8])
def test_unacceptable_password_is_rejected_with_the_reason(site: Site, password: str) -> None:
    with pytest.raises(ValueError, match=r"^The password is not acceptable\. "):
        register_user(site.server.store, username="alice", password=password)
    assert site.server.store.identifiers.get(username_identifier("alice")) is None


def test_only_the_hash_of_a_password_is_stored(site: Site) -> None:
    user = site.user()
    assert user.password_hash in dump_tables()
    assert PASSWORD not in dump_tables()


def test_random_password_is_not_stored_and_must_be_changed(site: Site) -> None:
    user, password = register_user(site.server.store, username="root", admin=True)
    assert password
    site.secrets.add(password)
    assert user.password_change_required
    assert user.admin
    assert password not in dump_tables()
    assert not site.user("alice").password_change_required


@pytest.mark.spec("RFC 6749 §3.1.2.2 a", "RFC 6749 §3.1.2.2 b", "RFC 6749 §10.2 b")
@pytest.mark.spec("RFC 6749 §10.6 b", "RFC 6749 §10.6 c")
@pytest.mark.parametrize("public", [True, False])
def test_client_for_the_code_grant_needs_a_redirect_uri(site: Site, public: bool) -> None:
    with pytest.raises(InvalidRedirectUri):
        site.client(redirect_uris=[], public=public)


@pytest.mark.parametrize(
    ("host", "written"),
    [
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("www.例え.jp", "www.xn--r8jz45g.jp"),
        ("bu\u0308cher.example:8443", "xn--bcher-kva.example"),
    ],
)
@pytest.mark.parametrize("member", ["redirect_uris", "post_logout_redirect_uris", "client_uri"])
def test_message_about_a_host_that_is_not_ascii_says_how_to_write_it(member: str, host: str, written: str) -> None:
    uri = f"https://{host}/cb"
    with pytest.raises(OAuthError, match=f"write it as {written}"):
        check_client(client_with(**{member: uri if member == "client_uri" else (uri,)}))
