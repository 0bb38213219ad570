"""Dynamic client registration: applications register themselves, with the members that the server supports."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.clients.client_lifetime import UNUSED_LIFETIME
from chalicelib.clients.metadata import check_redirect_uri
from chalicelib.clients.registration_body import MAX_BODY
from chalicelib.events import log as event_log
from chalicelib.protocol.errors import InvalidRedirectUri
from tests.endpoints.register.conftest import (
    BODY,
    JSON,
    REGISTER,
    URI,
    as_client,
    bearer,
    initial_token,
    manage,
    record,
    register,
    registered,
    replacement,
    send,
)
from tests.operator.test_operator_clients import JWKS
from tests.rules.test_security_events import documented_fields
from tests.support import faults
from tests.support.browser import Browser
from tests.support.faults import Wire
from tests.support.proofs import with_proof
from tests.support.site import Site, dump_tables

pytestmark = pytest.mark.spec("RFC 7591 §2", "RFC 7591 §3")
Browsers = Callable[..., Browser]


@pytest.fixture
def app(open_site: Site, browsers: Browsers) -> Browser:
    return browsers(open_site)


@pytest.mark.spec("RFC 7591 §3 a", "RFC 7591 §3 c", "RFC 7591 §5 e", "RFC 7591 §5 f", "RFC 7592 §2.3 a")
@pytest.mark.spec("RFC 7592 §2.3 b", "RFC 7592 §3 c", "RFC 7592 §5 b", "RFC 7592 §5 c", "RFC 7592 §2.1 b")
@pytest.mark.spec("RFC 7592 §2.2 h", "RFC 7592 §2.3 e")
def test_application_registers_itself_and_deletes_its_registration(open_site: Site, app: Browser) -> None:
    open_site.user()
    answer = register(app, scope="openid offline_access")
    assert (answer.status, answer.header("cache-control")) == (201, "no-store")
    members = answer.json
    client = as_client(open_site, members)
    page = app.sign_in(app.authorize(client, scope="openid offline_access"))
    assert "app.example.com" in page.body, "the client is not trusted, and the page shows where the response goes"
    code = app.submit(page, decision="allow_once").code
    tokens = app.redeem(client, code).json
    assert app.userinfo(tokens["access_token"]).status == 200
    read = manage(app, "GET", members)
    assert (read.status, read.header("cache-control"), read.json) == (200, "no-store", members)
    changed = manage(app, "PUT", members, replacement(members, client_name="Notes 2"))
    assert changed.status == 200
    assert changed.json["client_name"] == "Notes 2"
    assert changed.json["registration_access_token"] != members["registration_access_token"]
    tokens = app.refresh(client, tokens["refresh_token"]).json
    deleted = manage(app, "DELETE", changed.json)
    assert (deleted.status, deleted.body) == (204, "")
    assert app.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_client"
    assert app.userinfo(tokens["access_token"]).status == 401
    assert app.authorize(client).status == 400
    for method in ("GET", "PUT", "DELETE"):
        assert manage(app, method, changed.json, replacement(changed.json)).status == 401


def test_events_are_logged_without_a_token(open_site: Site, app: Browser, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", event_log.log.name)
    members = registered(app)
    changed = manage(app, "PUT", members, replacement(members)).json
    manage(app, "DELETE", changed)
    lines = [json.loads(entry.getMessage()) for entry in caplog.records if entry.name == event_log.log.name]
    logged = [line for line in lines if "event" in line]
    assert [line["event"] for line in logged] == ["client_registered", "client_updated", "client_deleted"]
    assert {line["client_id"] for line in logged} == {members["client_id"]}
    assert logged[0]["detail"] == "with open"
    assert {key for line in logged for key in line} <= documented_fields()


@pytest.mark.spec("RFC 7591 §3.2.1 a", "RFC 7591 §3.2.1 d", "RFC 7591 §3.2.1 e", "RFC 7592 §3 a", "RFC 7592 §3 b")
def test_response_has_every_registered_member_and_no_null(open_site: Site, app: Browser) -> None:
    members = registered(app, grant_types=None, token_endpoint_auth_method=None, client_name=None)
    uri = members.pop("registration_client_uri")
    assert uri == f"{open_site.settings.issuer}{REGISTER}?client_id={members['client_id']}"
    for name in ("client_id", "client_secret", "registration_access_token"):
        assert len(members.pop(name)) >= 22
    assert members == {
        "client_id_issued_at": open_site.clock(),
        "client_secret_expires_at": 0,
        "client_name": "app.example.com",
        "redirect_uris": [URI],
        "grant_types": ["authorization_code"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "client_secret_basic",
        "id_token_signed_response_alg": "RS256",
        "subject_type": "public",
        "scope": open_site.settings.open_client_scope,
    }


def test_members_of_the_registration_are_returned_as_they_were_sent(app: Browser) -> None:
    sent = {
        "client_uri": "https://app.example.com/",
        "logo_uri": "https://app.example.com/logo.png",
        "policy_uri": "https://app.example.com/privacy",
        "tos_uri": "https://app.example.com/terms",
        "post_logout_redirect_uris": ["https://app.example.com/bye"],
        "backchannel_logout_uri": "https://app.example.com/logout",
        "backchannel_logout_session_required": True,
        "require_pushed_authorization_requests": True,
        "dpop_bound_access_tokens": True,
        "id_token_signed_response_alg": "ES256",
        "userinfo_signed_response_alg": "RS256",
        "authorization_signed_response_alg": "PS256",
        "introspection_signed_response_alg": "EdDSA",
        "request_object_signing_alg": "ES256",
        "require_signed_request_object": True,
        "jwks": JWKS,
        "subject_type": "pairwise",
        "response_types": ["code", "code id_token"],
        "scope": "openid email",
    }
    members = registered(app, **sent)
    assert {name: members[name] for name in sent} == sent


@pytest.mark.spec("RFC 7591 §3.2.1 b", "RFC 7591 §3.2.1 c", "RFC 7591 §5 k", "Client ID Metadata Document §7.1")
def test_each_registration_has_its_own_id_secret_and_token(app: Browser) -> None:
    same = [registered(app, token_endpoint_auth_method="client_secret_basic") for _ in range(3)]
    for name in ("client_id", "client_secret", "registration_access_token"):
        assert len({members[name] for members in same}) == 3
    assert not any(members["client_id"].startswith("https:") for members in same)


@pytest.mark.spec("RFC 7591 §2.2")
def test_name_is_shown_as_it_was_sent(open_site: Site, app: Browser) -> None:
    """Names for languages, which are unknown members here, are ignored."""
    open_site.user()
    name = "Заметки ノート"
    members = registered(app, client_name=name, **{"client_name#ja": "ノート"})
    assert members["client_name"] == name
    assert "client_name#ja" not in members
    assert f"<bdi>{name}</bdi>" in app.sign_in(app.authorize(as_client(open_site, members))).body


@pytest.mark.spec("RFC 7591 §2 b", "RFC 7591 §2 d")
@pytest.mark.spec("RFC 7591 §5 e", "RFC 7591 §5 f")
@pytest.mark.parametrize("site_name", ["open_site", "token_site"])
def test_consent_page_says_that_the_application_has_registered_itself(
    request: pytest.FixtureRequest, browsers: Browsers, site_name: str
) -> None:
    site: Site = request.getfixturevalue(site_name)
    site.user()
    browser = browsers(site)
    headers = bearer(initial_token(site)[1]) if site_name == "token_site" else None
    own = as_client(site, register(browser, headers).json)
    of_operator = site.client(client_name="Notes")
    text = "This application has registered itself and chosen its name itself: Signet has not checked it."
    assert text in browser.sign_in(browser.authorize(own)).body
    assert "has not checked it" not in browser.authorize(of_operator).body


def test_website_of_the_application_is_a_link_on_the_consent_page(open_site: Site, app: Browser) -> None:
    open_site.user()
    names = ("client_uri", "policy_uri", "tos_uri")
    members = registered(app, **{name: f"https://app.example.com/{name}" for name in names})
    page = app.sign_in(app.authorize(as_client(open_site, members)))
    for name in names:
        assert f'<a href="https://app.example.com/{name}" target="_blank" rel="noopener noreferrer">' in page.body


@pytest.mark.spec("RFC 9449 §5.2")
def test_application_registers_itself_for_tokens_that_are_bound(open_site: Site, app: Browser) -> None:
    open_site.user()
    members = registered(app, token_endpoint_auth_method="none", dpop_bound_access_tokens=True)
    client = as_client(open_site, members)
    code = app.code(client)
    assert app.redeem(client, code).json["error"] == "invalid_dpop_proof"
    assert app.redeem(client, code, headers=with_proof(open_site)).json["token_type"] == "DPoP"
    changed = manage(app, "PUT", members, replacement(members, dpop_bound_access_tokens=False)).json
    assert "dpop_bound_access_tokens" not in changed
    assert record(open_site, members).dpop_bound_access_tokens is False


def test_secrets_are_stored_as_hashes(open_site: Site, app: Browser) -> None:
    members = registered(app, token_endpoint_auth_method="client_secret_post")
    dump = dump_tables()
    assert members["client_id"] in dump
    assert members["client_secret"] not in dump
    assert members["registration_access_token"] not in dump


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_secret_is_accepted_in_the_header_and_in_the_body(open_site: Site, app: Browser, method: str) -> None:
    open_site.user()
    members = registered(app, token_endpoint_auth_method=method)
    client = as_client(open_site, members)
    assert members["token_endpoint_auth_method"] == method
    tokens = app.tokens(client, scope="openid offline_access")
    body = {"client_id": client.id, "client_secret": client.secret, "refresh_token": tokens["refresh_token"]}
    assert app.post("/oauth2/token", body | {"grant_type": "refresh_token"}).status == 200
    body["client_secret"] = "wrong"
    assert app.post("/oauth2/token", body | {"grant_type": "refresh_token"}).status == 401


IGNORED: dict[str, Any] = {
    "an unknown member": {"x": {"y": [1]}},
    "a privilege": {"trusted": True, "direct_sign_in": True, "require_pkce": False, "disabled_at": 1},
    "fields of the record": {"client_id": "mine", "secret_hashes": ["x"], "registered_with": "y", "expires_at": 1},
    "a software statement": {"software_statement": "e30.e30."},
    "a signing algorithm with none": {"token_endpoint_auth_signing_alg": "HS256"},
    "another grant type": {"grant_types": ["authorization_code", "refresh_token", "client_credentials", "x:y"]},
    "another response type": {"response_types": ["code", "token"]},
    "an empty URI": {"logo_uri": ""},
    "the address of an application on this machine": {"client_uri": "http://localhost:6274"},
    "addresses that are not https": {
        "logo_uri": "http://app.example.com/x",
        "client_uri": "javascript:alert(1)",
        "policy_uri": "data:text/html,x",
        "tos_uri": "https://user@app.example.com/",
    },
    "members of OpenID Connect": {"application_type": "web", "default_max_age": 5, "request_uris": ["https://a.b/#c"]},
    "an unknown scope": {"scope": "admin openid"},
}


@pytest.mark.spec("RFC 7591 §2 f", "RFC 7591 §5 e")
@pytest.mark.parametrize("case", IGNORED)
def test_what_is_not_supported_is_ignored_and_not_returned(open_site: Site, app: Browser, case: str) -> None:
    plain, members = registered(app, scope="openid"), registered(app, **({"scope": "openid"} | IGNORED[case]))
    own = ("client_id", "registration_access_token", "registration_client_uri")
    assert {**members, **dict.fromkeys(own)} == {**plain, **dict.fromkeys(own)}
    client = record(open_site, members)
    assert (client.trusted, client.direct_sign_in, client.require_pkce) == (False, False, True)
    assert client.registered_with == "open"
    assert client.expires_at == open_site.clock() + UNUSED_LIFETIME


def test_null_is_the_same_as_no_member(app: Browser) -> None:
    body = BODY | dict.fromkeys(("scope", "jwks", "logo_uri", "subject_type", "response_types", "software_id"))
    assert send(app, json.dumps(body)).status == 201


@pytest.mark.spec("RFC 7591 §2 a", "RFC 7591 §5 d")
def test_redirect_uris_of_all_kinds_are_registered_together(app: Browser) -> None:
    uris = ["http://127.0.0.1/cb", "http://localhost:8787/cb", "cursor://anysphere.cursor-mcp/oauth/callback", URI]
    assert registered(app, redirect_uris=uris)["redirect_uris"] == uris


def test_registered_scope_is_the_default_and_no_upper_bound(open_site: Site, app: Browser) -> None:
    open_site.user()
    client = as_client(open_site, registered(app, scope="openid"))
    assert app.tokens(client, scope=None)["scope"] == "openid"
    assert set(app.tokens(client, scope="openid email")["scope"].split()) == {"openid", "email"}
    assert set(app.tokens(client, scope="openid photos.read")["scope"].split()) == {"openid"}


def test_scope_is_limited_by_the_setting(site_with: Callable[..., Site], browsers: Browsers) -> None:
    app = browsers(site_with(client_registration="open", open_client_scope="openid notes.read"))
    assert registered(app, scope="notes.read email notes.write")["scope"] == "notes.read"
    assert registered(app)["scope"] == "openid notes.read"
    assert register(app, scope="email").json["error"] == "invalid_client_metadata"


def test_keys_are_registered(app: Browser) -> None:
    members = registered(app, token_endpoint_auth_method="private_key_jwt", jwks=JWKS)
    assert members["jwks"] == JWKS
    assert "client_secret" not in members
    uri = "https://app.example.com/jwks"
    assert registered(app, token_endpoint_auth_method="private_key_jwt", jwks_uri=uri)["jwks_uri"] == uri


METADATA, REDIRECT = "invalid_client_metadata", "invalid_redirect_uri"
DEEP = "[" * 7000 + "]" * 7000
REJECTED: dict[str, tuple[str | bytes | dict[str, Any], str]] = {
    "nothing": (b"", METADATA),
    "no JSON": (b"{", METADATA),
    "a list": (b"[]", METADATA),
    "a text": (b'"x"', METADATA),
    "null": (b"null", METADATA),
    "not UTF-8": (b'{"client_name": "\xff"}', METADATA),
    "a repeated member": (f'{{"redirect_uris": ["{URI}"], "redirect_uris": ["{URI}"]}}', METADATA),
    "a repeated member inside": (f'{{"redirect_uris": ["{URI}"], "x": {{"a": 1, "a": 2}}}}', METADATA),
    "NaN": (f'{{"redirect_uris": ["{URI}"], "x": NaN}}', METADATA),
    "a lone surrogate": (f'{{"redirect_uris": ["{URI}"], "x": "\\ud800"}}', METADATA),
    "nested too deeply": (f'{{"redirect_uris": ["{URI}"], "x": {DEEP}}}', METADATA),
    "too long": ({"x": "x" * MAX_BODY}, METADATA),
    "no redirect_uris": ({"redirect_uris": None}, REDIRECT),
    "empty redirect_uris": ({"redirect_uris": []}, REDIRECT),
    "redirect_uris as a text": ({"redirect_uris": URI}, REDIRECT),
    "redirect_uris of numbers": ({"redirect_uris": [1]}, REDIRECT),
    "a fragment": ({"redirect_uris": [URI + "#x"]}, REDIRECT),
    "an empty fragment": ({"redirect_uris": [URI + "#"]}, REDIRECT),
    "one bad URI of two": ({"redirect_uris": [URI, "http://app.example.com/cb"]}, REDIRECT),
    "javascript": ({"redirect_uris": ["javascript:alert(1)"]}, REDIRECT),
    "data": ({"redirect_uris": ["data:text/html,x"]}, REDIRECT),
    "file": ({"redirect_uris": ["file:///etc/passwd"]}, REDIRECT),
    "user information": ({"redirect_uris": ["https://google.com@evil.example/"]}, REDIRECT),
    "a homograph": ({"redirect_uris": ["https://clаude.ai/cb"]}, REDIRECT),
    "a wildcard host": ({"redirect_uris": ["https://*.example.com/cb"]}, REDIRECT),
    "no host": ({"redirect_uris": ["https://"]}, REDIRECT),
    "no URI": ({"redirect_uris": ["http://["], "client_name": None}, REDIRECT),
    "21 redirect_uris": ({"redirect_uris": [f"{URI}{n}" for n in range(21)]}, REDIRECT),
    "a control character": ({"client_name": "a\u0000b"}, METADATA),
    "an override of the direction": ({"client_name": "a\u202eb"}, METADATA),
    "a long name": ({"client_name": "x" * 201}, METADATA),
    "client_secret_jwt": ({"token_endpoint_auth_method": "client_secret_jwt"}, METADATA),
    "no keys": ({"token_endpoint_auth_method": "private_key_jwt"}, METADATA),
    "keys twice": ({"jwks": JWKS, "jwks_uri": "https://app.example.com/jwks"}, METADATA),
    "a symmetric key": ({"jwks": {"keys": [{"kty": "oct", "k": "AAAA"}]}}, METADATA),
    "a private key": ({"jwks": {"keys": [JWKS["keys"][0] | {"d": "AAAA"}]}}, METADATA),
    "a key with a number as key_ops": (
        {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [JWKS["keys"][0] | {"key_ops": 1}]}},
        METADATA,
    ),
    "keys over http": (
        {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "http://app.example.com/"},
        METADATA,
    ),
    "a signing algorithm": (
        {"token_endpoint_auth_method": "private_key_jwt", "jwks": JWKS, "token_endpoint_auth_signing_alg": "none"},
        METADATA,
    ),
    "a list as signing algorithm": (
        {"token_endpoint_auth_method": "private_key_jwt", "jwks": JWKS, "token_endpoint_auth_signing_alg": ["RS256"]},
        METADATA,
    ),
    "only client_credentials": ({"grant_types": ["client_credentials"]}, METADATA),
    "only refresh_token": ({"grant_types": ["refresh_token"]}, METADATA),
    "no grant type": ({"grant_types": []}, METADATA),
    "only token": ({"response_types": ["token"]}, METADATA),
    "an unsigned ID token": ({"id_token_signed_response_alg": "none"}, METADATA),
    "another subject type": ({"subject_type": "secret"}, METADATA),
    "a sector": ({"sector_identifier_uri": "https://app.example.com/sector"}, METADATA),
    "only unknown scopes": ({"scope": "admin"}, METADATA),
    "a logout over http": ({"backchannel_logout_uri": "http://169.254.169.254/"}, METADATA),
    "a logout redirect": ({"post_logout_redirect_uris": ["javascript:alert(1)"]}, METADATA),
}
TYPES: dict[str, Any] = {"number": 1, "list": [1], "object": {"a": 1}, "flag": True, "text": "x", "zero": 0}
ALLOWED_TYPES = {
    "redirect_uris": (),
    "grant_types": (),
    "response_types": (),
    "post_logout_redirect_uris": (),
    "jwks": (),
    "backchannel_logout_session_required": ("flag",),
    "require_pushed_authorization_requests": ("flag",),
    "dpop_bound_access_tokens": ("flag",),
    "client_name": ("text",),
    **dict.fromkeys(("logo_uri", "client_uri", "policy_uri", "tos_uri"), ("text",)),
    **dict.fromkeys(("jwks_uri", "backchannel_logout_uri"), ()),
    **dict.fromkeys(("scope", "token_endpoint_auth_method", "subject_type"), ()),
    **dict.fromkeys(("id_token_signed_response_alg", "userinfo_signed_response_alg"), ()),
    **dict.fromkeys(("authorization_signed_response_alg", "introspection_signed_response_alg"), ()),
    "request_object_signing_alg": (),
    "require_signed_request_object": (),
}
for member, allowed in ALLOWED_TYPES.items():
    for kind in (kind for kind in TYPES if kind not in allowed):
        error = REDIRECT if member == "redirect_uris" else METADATA
        REJECTED[f"{member} as {kind}"] = ({member: TYPES[kind]}, error)


@pytest.mark.spec("RFC 7591 §2 e", "RFC 7591 §2.1", "RFC 7591 §3.2.2", "RFC 7591 §5 c", "RFC 7591 §5 d")
@pytest.mark.parametrize("case", REJECTED)
def test_bad_registration_is_rejected_and_stores_nothing(open_site: Site, app: Browser, case: str) -> None:
    body, error = REJECTED[case]
    answer = register(app, **body) if isinstance(body, dict) else send(app, body)
    assert (answer.status, answer.json["error"]) == (400, error)
    assert answer.header("cache-control") == "no-store"
    assert not list(open_site.server.store.clients.scan())
    assert not list(open_site.server.store.attempts.scan()), "it is not counted"


def test_host_that_is_too_long_is_not_written_in_punycode() -> None:
    """Which takes seconds: its time grows with the square of the length."""
    host = "".join(chr(0x4E00 + number) for number in range(254))
    with pytest.raises(InvalidRedirectUri, match="absolute URI"):
        check_redirect_uri(f"https://{host}/")


def test_body_of_the_maximal_size_is_read(app: Browser) -> None:
    text = json.dumps(BODY)
    assert send(app, text + " " * (MAX_BODY - len(text))).status == 201
    assert send(app, text + " " * (MAX_BODY - len(text) + 1)).status == 400


@pytest.mark.parametrize("media_type", ["application/x-www-form-urlencoded", "text/plain", ""])
def test_body_must_be_declared_as_json(app: Browser, media_type: str) -> None:
    answer = app.request("POST", REGISTER, json.dumps(BODY), JSON | {"Content-Type": media_type})
    assert (answer.status, answer.json["error"]) == (400, METADATA)


# ---- modes


def test_registration_is_off_by_default(site: Site, browser: Browser) -> None:
    assert site.settings.client_registration == "off"
    assert register(browser).status == 404
    assert "registration_endpoint" not in browser.get("/.well-known/openid-configuration").json
    assert not list(site.server.store.clients.scan())


@pytest.mark.spec("OpenID Connect Core §15.3", "OpenID Connect Discovery §3 k")
@pytest.mark.parametrize("mode", ["token", "open"])
def test_metadata_names_the_endpoint(site_with: Callable[..., Site], browsers: Browsers, mode: str) -> None:
    site = site_with(client_registration=mode)
    metadata = browsers(site).get("/.well-known/oauth-authorization-server").json
    assert metadata["registration_endpoint"] == site.settings.issuer + REGISTER


def test_registration_can_be_managed_after_it_was_turned_off(site: Site, browser: Browser, app: Browser) -> None:
    members = registered(app)
    members["registration_client_uri"] = f"{REGISTER}?client_id={members['client_id']}"
    assert manage(browser, "GET", members).status == 200
    assert manage(browser, "DELETE", members).status == 204


def test_initial_access_token_registers_as_often_as_it_may(token_site: Site, browsers: Browsers) -> None:
    app = browsers(token_site)
    token_id, token = initial_token(token_site, max_uses=2)
    assert token not in dump_tables()
    for _ in range(2):
        answer = register(app, bearer(token))
        assert answer.status == 201
        assert record(token_site, answer.json).registered_with == token_id
    answer = register(app, bearer(token))
    assert (answer.status, answer.json["error"]) == (401, "invalid_token")
    stored = token_site.server.store.registration_tokens.get(token_id)
    assert stored
    assert stored.uses == 2


def test_bad_registration_uses_no_token(token_site: Site, browsers: Browsers) -> None:
    app = browsers(token_site)
    _, token = initial_token(token_site, max_uses=1)
    assert register(app, bearer(token), redirect_uris=[]).status == 400
    assert register(app, bearer(token)).status == 201


@pytest.mark.parametrize("call", [0, 1])
def test_failed_registration_uses_no_token(token_site: Site, browsers: Browsers, wire: Wire, call: int) -> None:
    app = browsers(token_site)
    _, token = initial_token(token_site, max_uses=2)
    with wire.fault(call, faults.throttled):
        register(app, bearer(token))
    clients = list(token_site.server.store.clients.scan())
    (stored,) = token_site.server.store.registration_tokens.scan()
    assert stored.uses == len(clients)


def test_missing_or_invalid_initial_access_token_is_rejected(token_site: Site, browsers: Browsers) -> None:
    app = browsers(token_site)
    token_id, token = initial_token(token_site)
    _, expired = initial_token(token_site, lifetime=60)
    code = token_site.server.keys.make_handle("code", token_id)
    token_site.clock.advance(60)
    cases: list[dict[str, str]] = [
        *({}, {"Authorization": f"Basic {token}"}, {"Authorization": "Bearer"}),
        *(bearer(text) for text in (token[:-1], token + "A", code, expired, "iat_", "x" * 600)),
    ]
    for headers in cases:
        answer = register(app, headers)
        assert (answer.status, answer.json["error"]) == (401, "invalid_token"), headers
        assert (answer.header("www-authenticate") or "").startswith('Bearer realm="registration"')
    token_site.server.store.registration_tokens.transition((token_id,), None, {"revoked_at": token_site.clock()})
    assert register(app, bearer(token)).status == 401
    assert not list(token_site.server.store.clients.scan())


def test_invalid_token_is_rejected_in_open_mode_too(open_site: Site, app: Browser) -> None:
    assert register(app, bearer("iat_AAAA")).status == 401
    token_id, token = initial_token(open_site)
    assert record(open_site, register(app, bearer(token)).json).registered_with == token_id
    assert not list(open_site.server.store.attempts.scan()), "it is not counted for its address"


def test_any_page_can_read_the_responses(app: Browser) -> None:
    origin = {"Origin": "http://localhost:6274"}
    members = registered(app)
    answers = [register(app, origin), register(app, origin, redirect_uris=[]), register(app, origin | bearer("x"))]
    answers.append(app.request("GET", members["registration_client_uri"], headers=origin))
    for answer in answers:
        assert answer.header("access-control-allow-origin") == "*"
        assert answer.header("access-control-allow-credentials") is None
    preflight = app.request("OPTIONS", REGISTER, headers=origin | {"Access-Control-Request-Method": "PUT"})
    assert {"POST", "GET", "PUT", "DELETE"} <= set((preflight.header("access-control-allow-methods") or "").split(", "))


@pytest.mark.parametrize("fault", [faults.no_response, faults.throttled, faults.failing])
@pytest.mark.parametrize("call", [0, 1])
def test_fault_of_the_database_is_a_503_without_a_client(
    open_site: Site, app: Browser, wire: Wire, fault: faults.Fault, call: int
) -> None:
    with wire.fault(call, fault):
        answer = register(app)
    assert (answer.status, answer.json["error"]) == (503, "temporarily_unavailable")
    assert not list(open_site.server.store.clients.scan())
    assert register(app).status == 201
