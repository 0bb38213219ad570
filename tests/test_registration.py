"""What may be registered: clients, their redirect URIs, people; and what is kept of their secrets."""

import base64
import hashlib
from typing import Any

import pytest

from chalicelib import redirect_uris, registration
from chalicelib.client_metadata import GRANT_TYPES, check_client, check_redirect_uri
from chalicelib.errors import InvalidClientMetadata, InvalidRedirectUri, OAuthError
from chalicelib.models import Client
from chalicelib.registration import register_user, username_identifier
from tests.browser import Browser
from tests.site import PASSWORD, Site, dump

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
    # What would mean something else in a Content-Security-Policy
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
    "myapp:/cb",
    "urn:ietf:wg:oauth:2.0:oob",
    "https://client.example.com/" + "x" * (2001 - 27),
]


@pytest.mark.spec("RFC 6749 §3.1.2")
@pytest.mark.spec("RFC 8252 §7")
@pytest.mark.parametrize("uri", GOOD_URIS, ids=lambda uri: uri[:60])
def test_answers_may_be_sent_there(uri: str) -> None:
    check_redirect_uri(uri)


@pytest.mark.spec("RFC 6749 §3.1.2 a", "RFC 6749 §3.1.2 c", "RFC 6749 §3.1.2.1 a", "RFC 6749 §3.1.2.2 c")
@pytest.mark.spec("RFC 8252 §8.4 b", "RFC 8252 §8.4 d", "RFC 8252 §8.4 e", "OpenID Connect Core §3.1.2.1 e")
@pytest.mark.spec("RFC 6749 §3.1.2")
@pytest.mark.spec("RFC 8252 §7.1")
@pytest.mark.parametrize("uri", BAD_URIS, ids=lambda uri: ascii(uri[:60]))
def test_answers_may_not_be_sent_there(uri: str) -> None:
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
    ("http://localhost/cb", "http://localhost:3000/cb", False),
    ("https://127.0.0.1/cb", "https://127.0.0.1:8443/cb", False),
    ("https://client.example.com/cb", "https://client.example.com:443/cb", False),
    ("https://client.example.com/cb", "https://CLIENT.example.com/cb", False),
]


@pytest.mark.spec("RFC 6749 §3.1.2.3 b", "RFC 8252 §8.4 c", "RFC 9700 §2.1 a", "RFC 9700 §4.1.3 a", "RFC 9700 §4.1.3 b")
@pytest.mark.spec("RFC 8252 §7.3")
@pytest.mark.spec("RFC 9700 §2.1")
@pytest.mark.parametrize(("registered", "presented", "same"), MATCHES)
def test_a_redirect_uri_is_compared_exactly_but_for_the_port_of_a_loopback_address(
    registered: str, presented: str, same: bool
) -> None:
    assert redirect_uris.matches(registered, presented) == same


# ---- clients


def client_with(**members: Any) -> Client:
    given: dict[str, Any] = {
        "client_id": "s6BhdRkqt3",
        "client_name": "Photo Print",
        "redirect_uris": ("https://client.example.com/cb", "https://client.example.com/other"),
        "scope": "openid email",
    }
    return Client(**(given | members))


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
    "with another script": "https://client.example.com/é",
    "at a host that means more in a policy": "https://*.example.com/logo.png",
    "at no port": "https://client.example.com:99999/",
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
    ("an ordinary one", {}),
    ("a name in any script", {"client_name": "写真印刷 🖨️"}),
    ("the longest name", {"client_name": "x" * 200}),
    ("an id with every character allowed", {"client_id": "aZ09._~-" + "x" * 120}),
    ("twenty redirect URIs", {"redirect_uris": tuple(f"https://a.example/{n}" for n in range(20))}),
    ("a default redirect URI", {"default_redirect_uri": "https://client.example.com/other"}),
    ("a scope of the operator's own", {"scope": "PRODUCTION urn:x:y https://api.example.com/read"}),
    ("a default scope", {"default_scope": "openid"}),
    ("no default scope", {"default_scope": ""}),
    ("a hundred scopes", {"scope": " ".join(f"s{n}" for n in range(100))}),
    ("no PKCE, and confidential", {"require_pkce": False}),
    ("direct sign-in, and confidential", {"direct_sign_in": True}),
    ("public", {"token_endpoint_auth_method": "none"}),
    ("the shortest lifetimes", {"authorization_code_lifetime": 10, "access_token_lifetime": 60}),
    ("the longest lifetimes", {"authorization_code_lifetime": 600, "refresh_token_lifetime": 366 * 86400}),
    ("links to its pages", {f"{what}_uri": f"https://client.example.com/{what}?a=b#c" for what in PAGES}),
    ("places to go to after sign-out", {"post_logout_redirect_uris": ("http://127.0.0.1/bye", "com.example.app:/bye")}),
    ("a logout URI with a query", {"backchannel_logout_uri": "https://client.example.com/logout?tenant=1"}),
    ("a logout URI on this machine", {"backchannel_logout_uri": "http://127.0.0.1:3000/logout"}),
    ("other algorithms", {f"{what}_signed_response_alg": "EdDSA" for what in ("id_token", "access_token", "userinfo")}),
    ("plain answers of UserInfo", {"userinfo_signed_response_alg": None}),
    ("pairwise subjects", {"subject_type": "pairwise"}),
    ("a hybrid flow, its words in any order", {"response_types": ("code", "id_token code")}),
    ("no refresh tokens", {"grant_types": ("authorization_code",)}),
    ("nothing but its own tokens", {**MACHINE}),
    ("people's tokens and its own", {"scope": "openid photos", "grant_types": GRANT_TYPES}),
    ("the URI of a resource server", {**RESOURCE_SERVER}),
    (
        "a resource server that calls another",
        {**RESOURCE_SERVER, "scope": "photos", "grant_types": ("client_credentials",)},
    ),
    ("the longest URI of a resource server", {**RESOURCE_SERVER, "client_id": "https://api.example.com/" + "x" * 104}),
]
BAD_CLIENTS: list[tuple[str, type[OAuthError], dict[str, Any]]] = [
    ("no name", InvalidClientMetadata, {"client_name": ""}),
    ("a blank name", InvalidClientMetadata, {"client_name": "  "}),
    ("a long name", InvalidClientMetadata, {"client_name": "x" * 201}),
    ("a name with a line break", InvalidClientMetadata, {"client_name": "Photo\nPrint"}),
    ("a name that runs backwards", InvalidClientMetadata, {"client_name": "Photo\u202ePrint"}),
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
    ("a default redirect URI of another", InvalidRedirectUri, {"default_redirect_uri": "https://a.example/"}),
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
    ("public, and no PKCE", InvalidClientMetadata, {"token_endpoint_auth_method": "none", "require_pkce": False}),
    (
        "public, with direct sign-in",
        InvalidClientMetadata,
        {"token_endpoint_auth_method": "none", "direct_sign_in": True},
    ),
    ("a code that lives too long", InvalidClientMetadata, {"authorization_code_lifetime": 601}),
    ("a code that never lives", InvalidClientMetadata, {"authorization_code_lifetime": 0}),
    ("an access token of no time", InvalidClientMetadata, {"access_token_lifetime": 0}),
    ("an access token of the past", InvalidClientMetadata, {"access_token_lifetime": -600}),
    ("an access token of a week", InvalidClientMetadata, {"access_token_lifetime": 7 * 86400}),
    ("a refresh token of two years", InvalidClientMetadata, {"refresh_token_lifetime": 730 * 86400}),
    *(
        (f"a {what}_uri that is {kind}", InvalidClientMetadata, {f"{what}_uri": uri})
        for what in (*PAGES, "backchannel_logout")
        for kind, uri in BAD_LINKS.items()
    ),
    ("a logo on this machine", InvalidClientMetadata, {"logo_uri": "http://127.0.0.1/logo.png"}),
    (
        "a logout URI with a fragment",
        InvalidClientMetadata,
        {"backchannel_logout_uri": "https://client.example.com/#x"},
    ),
    ("a logout URI of its own scheme", InvalidClientMetadata, {"backchannel_logout_uri": "com.example.app:/logout"}),
    ("a place after sign-out twice", InvalidClientMetadata, {"post_logout_redirect_uris": ("https://a.example/",) * 2}),
    (
        "21 places after sign-out",
        InvalidClientMetadata,
        {"post_logout_redirect_uris": tuple(f"https://a.example/{n}" for n in range(21))},
    ),
    *(
        (
            f"answers after sign-out sent to {uri[:60]!a}",
            InvalidClientMetadata,
            {"post_logout_redirect_uris": (uri,)},
        )
        for uri in BAD_URIS
    ),
    *(
        (f"{what} signed with {alg!r}", InvalidClientMetadata, {f"{what}_signed_response_alg": alg})
        for what in ("id_token", "access_token", "userinfo")
        for alg in ("none", "HS256", "")
    ),
    ("tokens signed with nothing", InvalidClientMetadata, {"access_token_signed_response_alg": None}),
    ("another kind of subject", InvalidClientMetadata, {"subject_type": "Public"}),
    (
        "pairwise subjects, and two hosts",
        InvalidClientMetadata,
        {"subject_type": "pairwise", "redirect_uris": ("https://a.example/cb", "https://b.example/cb")},
    ),
    ("an unknown grant type", InvalidClientMetadata, {"grant_types": ("authorization_code", "password")}),
    ("a grant type twice", InvalidClientMetadata, {"grant_types": ("authorization_code",) * 2}),
    ("refresh tokens of nothing", InvalidClientMetadata, {"grant_types": ("refresh_token",), "response_types": ()}),
    ("an unknown response type", InvalidClientMetadata, {"response_types": ("code", "token")}),
    ("an ID token from the front channel alone", InvalidClientMetadata, {"response_types": ("id_token",)}),
    ("codes without a response type", InvalidClientMetadata, {"response_types": ()}),
    ("a response type without codes", InvalidClientMetadata, {**MACHINE, "response_types": ("code",)}),
    ("its own tokens, and public", InvalidClientMetadata, {**MACHINE, "token_endpoint_auth_method": "none"}),
    ("its own tokens, and people's scopes alone", InvalidClientMetadata, {**MACHINE, "scope": "openid email"}),
    ("a resource server that signs people in", InvalidClientMetadata, {"client_id": "https://api.example.com/"}),
    *(
        (f"a resource server called {uri[:50]!a}", InvalidClientMetadata, {**RESOURCE_SERVER, "client_id": uri})
        for uri in (
            "http://api.example.com/",
            "http://127.0.0.1/",
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


@pytest.mark.parametrize(("what", "members"), GOOD_CLIENTS, ids=[row[0] for row in GOOD_CLIENTS])
def test_a_client_may_be_registered_with(what: str, members: dict[str, Any]) -> None:
    check_client(client_with(**members))


@pytest.mark.spec("RFC 6749 §3.1.2.2 b", "RFC 6749 §4.1.2 c", "RFC 6749 §10.6 c")
@pytest.mark.spec("RFC 7591 §3.2.2")
@pytest.mark.parametrize(("what", "error", "members"), BAD_CLIENTS, ids=[row[0] for row in BAD_CLIENTS])
def test_a_client_may_not_be_registered_with(what: str, error: type[OAuthError], members: dict[str, Any]) -> None:
    with pytest.raises(error) as refusal:
        check_client(client_with(**members))
    assert refusal.value.description


def test_what_is_refused_is_not_stored(site: Site) -> None:
    before = dump()
    with pytest.raises(InvalidClientMetadata):
        site.client(client_name="")
    assert dump() == before


def test_an_id_is_given_once(site: Site) -> None:
    first = site.client(client_id="portal")
    with pytest.raises(InvalidClientMetadata, match="portal exists"):
        site.client(client_id="portal", client_name="Another")
    assert site.server.store.clients.get("portal") == first.record


@pytest.mark.spec("RFC 6749 §10.10")
def test_a_secret_is_random_and_only_its_hash_is_kept(site: Site) -> None:
    one, two = site.client(), site.client()
    assert one.secret
    assert one.secret != two.secret
    assert one.id != two.id
    assert len(base64.urlsafe_b64decode(one.secret + "=")) == 32
    digest = base64.urlsafe_b64encode(hashlib.sha256(one.secret.encode()).digest()).rstrip(b"=").decode()
    assert one.record.secret_hashes == (digest,)
    assert digest in dump()
    assert one.secret not in dump()


@pytest.mark.spec("RFC 6749 §10.1 a")
def test_a_public_client_has_no_secret(site: Site) -> None:
    client = site.client(public=True)
    assert client.secret is None
    assert client.record.secret_hashes == ()
    assert client.record.public


@pytest.mark.spec("RFC 9700 §2.3 a")
def test_the_default_scope_is_all_but_offline_access(site: Site) -> None:
    assert site.client().record.default_scopes == {"openid", "profile", "email"}
    assert site.client(default_scope="openid").record.default_scopes == {"openid"}
    assert site.client(default_scope="").record.default_scopes == set()


# ---- people

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
def test_a_username_is_given_once_whatever_its_case_and_width(site: Site, name: str, other: str) -> None:
    site.user(name)
    before = dump()
    with pytest.raises(ValueError, match="is taken"):
        site.user(other)
    assert dump() == before


@pytest.mark.parametrize(("name", "other"), SAME_NAMES)
def test_a_person_signs_in_with_either(site: Site, browser: Browser, name: str, other: str) -> None:
    site.user(name)
    assert browser.sign_in(browser.authorize(site.client(trusted=True)), other).code


def test_different_names_are_different_people(site: Site) -> None:
    names = ["alice", "alicе", "al ice", "alice@example.com", "username:alice", "aliçe", "1", "01"]
    people = {site.user(name).sub for name in names}
    assert len(people) == len(names)
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
def test_a_name_that_cannot_be_typed_or_kept_is_refused(site: Site, name: str) -> None:
    before = dump()
    with pytest.raises(ValueError):
        site.user(name)
    assert dump() == before


def test_the_longest_name_works(site: Site, browser: Browser) -> None:
    name = "☃" * 200
    site.user(name)
    assert browser.sign_in(browser.authorize(site.client(trusted=True)), name).code


@pytest.mark.parametrize("password", ["", "short", "x" * 1025, "nul\0 nul\0", "\ud800" * 8])
def test_a_password_that_is_not_acceptable_is_refused_in_a_sentence(site: Site, password: str) -> None:
    with pytest.raises(ValueError, match=r"^The password is not acceptable\. "):
        register_user(site.server.store, username="alice", password=password)
    assert site.server.store.identifiers.get(username_identifier("alice")) is None


def test_of_a_password_only_the_hash_is_kept(site: Site) -> None:
    user = site.user()
    assert user.password_hash in dump()
    assert PASSWORD not in dump()


def test_a_random_password_is_shown_once_and_must_be_replaced(site: Site) -> None:
    user, made = registration.register_user(site.server.store, username="root", admin=True)
    assert made
    site.secrets.add(made)
    assert user.password_change_required
    assert user.admin
    assert made not in dump()
    assert not site.user("alice").password_change_required
