"""Every way to write a client makes the same checks: what one refuses, none stores."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

import pytest

from chalicelib.clients.document_content import MAX_REDIRECT_URIS, read_document
from chalicelib.clients.record_checks import check_record
from chalicelib.clients.registration import register_client, update_client
from chalicelib.protocol.client import SECRET_METHODS, Client
from chalicelib.protocol.client_document import NEVER, ClientDocument
from chalicelib.protocol.errors import InvalidClientMetadata, InvalidRedirectUri
from chalicelib.protocol.open_clients import OpenClientPolicy
from infra.operator.transfer.insertion import insert_record
from tests.endpoints.register.conftest import manage, register, registered, replacement
from tests.support.assertions import key_pair
from tests.support.browser import Browser
from tests.support.resource_servers import register_resource
from tests.support.site import Site

URI = "https://app.example.com/callback"
DOCUMENT = "https://app.example.com/client"
OTHER = "https://other.example/"
PUBLIC = {"token_endpoint_auth_methods": ("none",)}
SELF_SIGNED = {"token_endpoint_auth_methods": ("self_signed_tls_client_auth",)}
MACHINE = {"grant_types": ("client_credentials",), "response_types": (), "redirect_uris": ()}
FAPI: dict[str, Any] = {
    "profile": "fapi2",
    "token_endpoint_auth_methods": ("private_key_jwt",),
    "jwks": key_pair().jwks,
    "require_pushed_authorization_requests": True,
    "dpop_bound_access_tokens": True,
    **{
        f"{kind}_signed_response_alg": "ES256"
        for kind in ("id_token", "access_token", "authorization", "introspection")
    },
}
# What is refused: by the name of the case, the members, and a part of the message.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "client_name": ({"client_name": "a\nb"}, "The name must have"),
    "redirect_uris": ({"redirect_uris": ("http://app.example.com/",)}, "must be https"),
    "no redirect_uris": ({"redirect_uris": ()}, "Register 1 to 20"),
    "default_redirect_uri": ({"default_redirect_uri": OTHER}, "one of the redirect URIs"),
    "allowed_origins": ({"allowed_origins": ("*",)}, "must be an origin"),
    "grant_types": ({"grant_types": ("authorization_code", "password")}, "grant_types must be"),
    "grant_types for users": ({**MACHINE, "scope": "openid"}, "needs a scope of your own"),
    "response_types": ({"response_types": ("token",)}, "response_types must be"),
    "token_endpoint_auth_methods": ({"token_endpoint_auth_methods": ("client_secret_jwt",)}, "must be distinct"),
    "none beside a secret": ({"token_endpoint_auth_methods": ("none", "client_secret_basic")}, "has no other one"),
    "private_key_jwt": ({"token_endpoint_auth_methods": ("private_key_jwt",)}, "needs public keys"),
    "jwks": ({"jwks": {"keys": []}}, "The jwks cannot be registered"),
    "jwks_uri": ({"jwks_uri": "http://app.example.com/jwks"}, "The jwks_uri must be https"),
    "jwks and jwks_uri": ({"jwks": key_pair().jwks, "jwks_uri": OTHER}, "Register either"),
    "assertion_audience": ({"assertion_audience": OTHER}, "assertion_audience must be"),
    **{
        f"{kind}_signed_response_alg": ({f"{kind}_signed_response_alg": "HS256"}, f"The {kind}_signed_response_alg")
        for kind in ("id_token", "access_token", "userinfo", "authorization", "introspection")
    },
    "request_object_signing_alg": ({"request_object_signing_alg": "none"}, "request_object_signing_alg must be"),
    "require_signed_request_object": ({"require_signed_request_object": True}, "register public keys"),
    "subject_type": ({"subject_type": "secret"}, "subject_type must be"),
    "pairwise subjects": ({"subject_type": "pairwise", "redirect_uris": (URI, OTHER)}, "must have one host"),
    **{
        name: ({name: "javascript:alert(1)"}, f"The {name} must be")
        for name in ("logo_uri", "client_uri", "policy_uri", "tos_uri", "backchannel_logout_uri")
    },
    "post_logout_redirect_uris": ({"post_logout_redirect_uris": ("javascript:alert(1)",)}, "post_logout_redirect_uris"),
    "scope": ({"scope": 'openid "email"'}, "The scope must be"),
    "default_scope": ({"default_scope": "phone"}, "must contain the default scope"),
    **{
        name: ({name: -1}, f"The {name} must be")
        for name in (
            *("authorization_code_lifetime", "access_token_lifetime"),
            *("refresh_token_lifetime", "refresh_token_retry_window"),
        )
    },
    "require_pkce": ({**PUBLIC, "require_pkce": False}, "must use PKCE"),
    "direct_sign_in": ({**PUBLIC, "direct_sign_in": True}, "for confidential clients"),
    "tls_client_auth": ({"token_endpoint_auth_methods": ("tls_client_auth",)}, "needs one of"),
    "tls_client_auth_subject_dn": ({"tls_client_auth_subject_dn": "client"}, "distinguished name"),
    "tls_client_auth_san_dns": ({"tls_client_auth_san_dns": "*.example.com"}, "a DNS name"),
    "tls_client_auth_san_uri": ({"tls_client_auth_san_uri": "client"}, "a URI"),
    "tls_client_auth_san_ip": ({"tls_client_auth_san_ip": "localhost"}, "an IP address"),
    "tls_client_auth_san_email": ({"tls_client_auth_san_email": "client"}, "an email address"),
    "tls_client_certificates": ({**SELF_SIGNED, "tls_client_certificates": ("AAAA",)}, "A certificate cannot be"),
    "tls_client_certificate_bound_access_tokens": (
        {"tls_client_certificate_bound_access_tokens": True, "dpop_bound_access_tokens": True},
        "choose one",
    ),
    "default_acr_values": ({"default_acr_values": ("two words",)}, "The default_acr_values must be"),
    "require_acr": ({"require_acr": "two words"}, "The require_acr must have"),
    "profile": ({"profile": "fapi1"}, "The profile must be"),
    "profile and PKCE": ({**FAPI, "require_pkce": False}, "5.3.2.2-5"),
    "authorization_details_types": (
        {"authorization_details_types": ("two words",)},
        "details_types must have",
    ),
    "21 authorization_details_types": (
        {"authorization_details_types": tuple(f"type{number}" for number in range(21))},
        "at most 20",
    ),
}
# The members with nothing to check: flags without a condition, and what the server itself sets.
UNCHECKED = {"backchannel_logout_session_required", "require_pushed_authorization_requests", "trusted", "strict_scope"}
UNCHECKED |= {"id_token_claims_from_scope", "dpop_bound_access_tokens", "dpop_nonce_required"}
SET_BY_SERVER = {"client_id_issued_at", "secret_hashes", "disabled_at", "registration_id", "grants_generation"}
SET_BY_SERVER |= {"registered_with", "registration_token_hash", "previous_registration_token_hash", "document"}
SET_BY_SERVER |= {"registration_token_replaced_at", "expires_at", "token_endpoint_auth_method"}


@pytest.fixture
def site(site_with: Callable[..., Site]) -> Site:
    """A server at which every application can register itself."""
    return site_with(client_registration="open")


@pytest.fixture
def browser(browsers: Callable[..., Browser], site: Site) -> Browser:
    return browsers(site)


def record(**members: Any) -> Client:
    """Return a record, as an export has it."""
    given = {"client_id": "app", "client_name": "App", "redirect_uris": (URI,), **members}
    methods = given.setdefault("token_endpoint_auth_methods", SECRET_METHODS)
    return Client(token_endpoint_auth_method=methods[0], **given)


def create(site: Site, _browser: Browser, members: dict[str, Any]) -> None:
    given = {"client_name": "App", "redirect_uris": (URI,), **members}
    register_client(site.server.store, **given)


def update(site: Site, _browser: Browser, members: dict[str, Any]) -> None:
    client, _ = register_client(site.server.store, client_name="App", redirect_uris=(URI,))
    try:
        update_client(site.server.store, client, lambda current: replace(current, **members))
    finally:
        if site.server.store.clients.get(client.client_id) == client:
            site.server.store.clients.delete(client.client_id)


def import_(site: Site, _browser: Browser, members: dict[str, Any]) -> None:
    outcome = insert_record(site.server.store, record(**members))
    if not outcome.added:
        raise InvalidClientMetadata(outcome.problem)


def as_body(members: dict[str, Any]) -> dict[str, Any]:
    """Return members as the JSON of a registration has them."""
    body: dict[str, Any] = json.loads(json.dumps(members))
    methods = body.pop("token_endpoint_auth_methods", None)
    return body | ({"token_endpoint_auth_method": methods[0]} if methods else {})


def register_itself(_site: Site, browser: Browser, members: dict[str, Any]) -> None:
    answer = register(browser, **as_body(members))
    if answer.status != 201:
        raise InvalidClientMetadata(answer.json["error_description"])


def update_itself(site: Site, browser: Browser, members: dict[str, Any]) -> None:
    client = registered(browser)
    answer = manage(browser, "PUT", client, replacement(client, **as_body(members)))
    if answer.status != 200:
        site.server.store.clients.delete(client["client_id"])
        raise InvalidClientMetadata(answer.json["error_description"])


BY_THE_OPERATOR: dict[str, Callable[[Site, Browser, dict[str, Any]], None]] = {
    "create": create,
    "update": update,
    "import": import_,
}
BY_APPLICATIONS: dict[str, Callable[[Site, Browser, dict[str, Any]], None]] = {
    "registration": register_itself,
    "update of a registration": update_itself,
}


def test_every_member_of_a_client_has_a_row() -> None:
    rows = {name for members, _ in REFUSED.values() for name in members}
    assert {field.name for field in fields(Client)} - {"client_id"} == rows | UNCHECKED | SET_BY_SERVER


def test_members_of_the_table_are_otherwise_accepted(site: Site, browser: Browser) -> None:
    """Each way accepts a client without the refused members, and one with a profile."""
    for way in (*BY_THE_OPERATOR.values(), *BY_APPLICATIONS.values()):
        way(site, browser, {})
    create(site, browser, FAPI)
    check_record(record(**FAPI))


@pytest.mark.parametrize("case", REFUSED)
def test_member_that_one_way_refuses_is_stored_by_none(site: Site, browser: Browser, case: str) -> None:
    """The operator is told the same in every way. Applications cannot set all members: the others are ignored."""
    members, message = REFUSED[case]
    clients = site.server.store.clients
    for way, write in BY_THE_OPERATOR.items():
        with pytest.raises((InvalidClientMetadata, InvalidRedirectUri)) as refused:
            write(site, browser, members)
        assert message in refused.value.description, way
        assert list(clients.scan()) == [], way
    for way, write in BY_APPLICATIONS.items():
        with suppress(InvalidClientMetadata):
            write(site, browser, members)
            (stored,) = clients.scan()
            check_record(stored)
            assert any(getattr(stored, name) != value for name, value in members.items()), way
            clients.delete(stored.client_id)
        assert list(clients.scan()) == [], way


@pytest.mark.parametrize("way", ["create", "import"])
@pytest.mark.parametrize(
    ("client_id", "message"),
    [
        ("two words", "The client_id must have"),
        ("playground", "reserved"),
        ("https://api.example.com:443/photos", "in its normal form: https://api.example.com/photos"),
        ("https://api.example.com", "The resource https://api.example.com/ exists"),
        ("SUB", "is the sub of a user"),
    ],
)
def test_id_of_a_new_client_is_refused_in_every_way_that_can_choose_it(
    site: Site, browser: Browser, way: str, client_id: str, message: str
) -> None:
    register_resource(site, "https://api.example.com/")
    if client_id == "SUB":
        client_id = site.user().sub
    server = {"grant_types": (), "response_types": (), "redirect_uris": ()} if "://" in client_id else {}
    with pytest.raises(InvalidClientMetadata) as refused:
        BY_THE_OPERATOR[way](site, browser, {"client_id": client_id, **server})
    assert message in refused.value.description
    assert list(site.server.store.clients.scan()) == []


def test_imported_client_has_no_secret_that_it_may_not_send_and_only_what_is_needed_of_its_keys(site: Site) -> None:
    jwk = {**key_pair().jwks["keys"][0], "x5c": ["AAAA"], "use": "sig"}
    imported = record(
        token_endpoint_auth_methods=("private_key_jwt",), jwks={"keys": (jwk,)}, secret_hashes=("a-hash",)
    )
    assert insert_record(site.server.store, imported).added
    (stored,) = site.server.store.clients.scan()
    assert stored.secret_hashes == ()
    assert stored.jwks
    assert set(stored.jwks["keys"][0]) & {"x5c", "use"} == set()
    assert insert_record(site.server.store, imported).existing, "the same again"


# ---- client metadata documents

# Changes of a document's record, and of the document itself.
DOCUMENTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "no redirect URI": ({"redirect_uris": ()},) * 2,
    "too many redirect URIs": (
        {"redirect_uris": tuple(f"https://app.example.com/{number}" for number in range(MAX_REDIRECT_URIS + 1))},
    )
    * 2,
    "a bad redirect URI": ({"redirect_uris": ("http://app.example.com/",)},) * 2,
    "a bad name": ({"client_name": "a\nb"},) * 2,
    "a shared secret": (
        {"auth_methods": ("client_secret_basic",)},
        {"token_endpoint_auth_method": "client_secret_basic"},
    ),
    "a certificate": ({"auth_methods": ("tls_client_auth",)}, {"token_endpoint_auth_method": "tls_client_auth"}),
    "no keys": ({"auth_methods": ("private_key_jwt",)}, {"token_endpoint_auth_method": "private_key_jwt"}),
    "keys over http": ({"jwks_uri": "http://127.0.0.1/jwks"},) * 2,
    "bad keys": ({"jwks": {"keys": ({"kty": "oct", "k": "AAAA"},)}},) * 2,
    "another grant type": ({"grant_types": ("client_credentials",)},) * 2,
    "a bad algorithm": ({"request_object_signing_alg": "none"},) * 2,
    "signed requests without keys": ({"require_signed_request_object": True},) * 2,
}


@pytest.mark.parametrize("case", DOCUMENTS)
def test_document_that_is_refused_when_it_is_fetched_is_not_imported_either(site: Site, case: str) -> None:
    stored, members = DOCUMENTS[case]
    document = {"client_id": DOCUMENT, "client_name": "App", "redirect_uris": [URI], **members}
    with pytest.raises(ValueError, match=r"\w"):
        read_document(DOCUMENT, json.dumps(document).encode(), OpenClientPolicy("openid"))
    given: dict[str, Any] = {"client_name": "App", "redirect_uris": (URI,), **stored}
    outcome = insert_record(site.server.store, ClientDocument(DOCUMENT, NEVER, **given))
    assert outcome.problem
    assert list(site.server.store.documents.scan()) == []


def test_document_with_none_of_these_is_fetched_and_imported(site: Site) -> None:
    read = read_document(
        DOCUMENT, json.dumps({"client_id": DOCUMENT, "redirect_uris": [URI]}).encode(), OpenClientPolicy("openid")
    )
    assert insert_record(site.server.store, replace(read, expires_at=NEVER)).added
