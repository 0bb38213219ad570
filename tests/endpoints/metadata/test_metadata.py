"""The metadata and the keys: every listed value works, and no other value does."""

import json
from typing import Any

import jwt
import pytest

from chalicelib import __version__
from chalicelib.aws.messages import Request, Response
from chalicelib.grants import GRANTS
from chalicelib.keys import signing
from chalicelib.protocol import pkce
from chalicelib.protocol.claims import TOKEN_CLAIMS
from chalicelib.protocol.errors import InvalidClientMetadata
from chalicelib.protocol.response_types import GRANT_TYPES
from tests.support.assertions import claims_of_assertion, key_client, key_pair, sign, signed, with_assertion
from tests.support.browser import CHALLENGE, VERIFIER, Answer, Browser, basic
from tests.support.faults import Fault, Proceed, Wire, refusal, throttled, unreachable
from tests.support.grants import create_code
from tests.support.resource_servers import register_resource, register_resource_server
from tests.support.second_factor import SECRET, add_second_factor, hotp, is_code_page
from tests.support.site import Registered, Site

OPENID = "/.well-known/openid-configuration"
AUTHENTICATED = ("token", "revocation", "introspection")
OAUTH = "/.well-known/oauth-authorization-server"


@pytest.fixture
def metadata(site: Site, browser: Browser) -> dict[str, Any]:
    return browser.get(OPENID).json


def path_of(metadata: dict[str, Any], name: str) -> str:
    """Return the path of an endpoint on the issuer."""
    issuer, address = metadata["issuer"], metadata[name]
    assert address.startswith(issuer + "/")
    return str(address[len(issuer) :])


# ---- documents


@pytest.mark.spec("RFC 8414 §3 a", "RFC 8414 §3.1", "RFC 8414 §3.2 a", "RFC 9068 §4 b", "OpenID Connect Core §10.2.1 a")
@pytest.mark.spec("OpenID Connect Discovery §4 a", "OpenID Connect Discovery §4 b", "OpenID Connect Discovery §4.1")
@pytest.mark.spec("OpenID Connect Discovery §4.2 a")
@pytest.mark.spec("RFC 8414 §3")
@pytest.mark.spec("OpenID Connect Discovery §4")
def test_both_documents_are_the_same_and_cacheable(site: Site, browser: Browser) -> None:
    openid, oauth = browser.get(OPENID), browser.get(OAUTH)
    assert openid.status == oauth.status == 200
    assert openid.body == oauth.body
    for answer, seconds in ((openid, 300), (oauth, 300), (browser.get("/oauth2/jwks"), 60)):
        assert answer.header("content-type") == "application/json"
        assert answer.header("cache-control") == f"public, max-age={seconds}"
        assert answer.header("pragma") is None


@pytest.mark.spec("RFC 8414 §2 b", "RFC 8414 §2 c", "RFC 8414 §2 f", "RFC 8414 §2 g", "RFC 8414 §3.2 b")
@pytest.mark.spec("RFC 9068 §4 a", "RFC 9700 §2.6 a", "OpenID Connect Discovery §3 c", "OpenID Connect Discovery §3 d")
@pytest.mark.spec("OpenID Connect Discovery §3 e", "OpenID Connect Discovery §3 f", "OpenID Connect Discovery §3 l")
@pytest.mark.spec("OpenID Connect Discovery §3 o", "OpenID Connect Discovery §3 q", "OpenID Connect Discovery §3 r")
@pytest.mark.spec("OpenID Connect Discovery §4.2 b", "OpenID Connect Discovery §4.3 a")
@pytest.mark.spec("RFC 8414 §2")
@pytest.mark.spec("OpenID Connect Discovery §3")
def test_documents_have_all_required_members_and_no_empty_ones(
    site: Site, metadata: dict[str, Any], browser: Browser
) -> None:
    assert metadata["issuer"] == site.settings.issuer
    assert set(metadata) >= {
        "issuer",
        "authorization_endpoint",
        "token_endpoint",
        "userinfo_endpoint",
        "jwks_uri",
        "scopes_supported",
        "response_types_supported",
        "grant_types_supported",
        "subject_types_supported",
        "id_token_signing_alg_values_supported",
        "token_endpoint_auth_methods_supported",
        "code_challenge_methods_supported",
        "revocation_endpoint",
    }
    for name, value in metadata.items():
        assert value or value is False, name
        assert not isinstance(value, list) or len(set(value)) == len(value), name


@pytest.mark.spec("RFC 9207 §2.3 a", "RFC 9207 §2.3 b", "OpenID Connect Discovery §3 b")
@pytest.mark.spec("RFC 8414 §3.3")
def test_issuer_is_the_same_in_metadata_response_and_tokens(
    site: Site, browser: Browser, metadata: dict[str, Any]
) -> None:
    site.user()
    answer = browser.submit(browser.sign_in(browser.authorize(client := site.client())), decision="allow_once")
    tokens = browser.redeem(client, answer.code).json
    issuers = [answer.answer["iss"], *(_claims(tokens[name])["iss"] for name in ("id_token", "access_token"))]
    assert issuers == [metadata["issuer"]] * 3


def _claims(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def test_every_endpoint_responds(browser: Browser, metadata: dict[str, Any]) -> None:
    expected = {
        "authorization_endpoint": ("GET", 400),
        "token_endpoint": ("POST", 400),
        "pushed_authorization_request_endpoint": ("POST", 400),
        "userinfo_endpoint": ("GET", 401),
        "revocation_endpoint": ("POST", 400),
        "introspection_endpoint": ("POST", 400),
        "end_session_endpoint": ("GET", 200),
        "jwks_uri": ("GET", 200),
    }
    assert {name for name in metadata if name.endswith("_endpoint") or name == "jwks_uri"} == set(expected)
    for name, (method, status) in expected.items():
        assert browser.request(method, path_of(metadata, name)).status == status, name


# ---- each listed value works, and no other does


@pytest.mark.spec("RFC 9700 §2.4")
@pytest.mark.spec("RFC 8414 §2")
def test_only_listed_grant_types_work(site: Site, browser: Browser, metadata: dict[str, Any]) -> None:
    client = site.client(scope="openid photos", grant_types=GRANT_TYPES)
    working: dict[str, dict[str, Any]] = {
        "authorization_code": {"code": create_code(site, client), "redirect_uri": "https://client.example.com/cb"},
        "refresh_token": {},
        "client_credentials": {},
    }
    # The implemented, the registrable and the listed grant types must be the same.
    assert metadata["grant_types_supported"] == list(GRANTS) == list(GRANT_TYPES) == list(working)
    for grant_type, parameters in working.items():
        answer = browser.token(client, grant_type=grant_type, code_verifier=VERIFIER, **parameters)
        assert answer.status == 200, answer.body
        if grant_type == "authorization_code":
            working["refresh_token"] = {"refresh_token": answer.json["refresh_token"]}
    for grant_type in ("password", "implicit", "urn:ietf:params:oauth:grant-type:token-exchange"):
        assert browser.token(client, grant_type=grant_type).json["error"] == "unsupported_grant_type"


def _authenticated(browser: Browser, path: str, method: str, client: Registered, public: Registered) -> Answer:
    body = {"grant_type": "authorization_code", "code": "x", "token": "x"}
    if method == "client_secret_basic":
        return browser.post(path, body, basic(client.id, client.secret or ""))
    if method == "client_secret_post":
        return browser.post(path, body | {"client_id": client.id, "client_secret": client.secret})
    if method == "private_key_jwt":
        site = browser.site
        return browser.post(path, body | signed(site, key_client(site)))
    assert method == "none"
    return browser.post(path, body | {"client_id": public.id})


@pytest.mark.spec("RFC 8414 §2 h", "RFC 8414 §2 i", "RFC 8414 §2 j", "OpenID Connect Discovery §3 v")
@pytest.mark.spec("OpenID Connect Discovery §3 w")
@pytest.mark.spec("RFC 8414 §2")
def test_only_listed_algorithms_of_assertions_work(site: Site, browser: Browser, metadata: dict[str, Any]) -> None:
    members = [f"{endpoint}_endpoint_auth_signing_alg_values_supported" for endpoint in AUTHENTICATED]
    assert {tuple(metadata[member]) for member in members} == {("RS256", "PS256", "ES256", "EdDSA", "Ed25519")}
    for alg in metadata[members[0]]:
        pair = key_pair("EdDSA" if alg == "Ed25519" else alg)
        client = key_client(site, pair)
        claims = claims_of_assertion(site, client.id)
        assertion = sign(pair, {"alg": alg, "kid": pair.kid}, claims)
        site.secrets.add(assertion)
        assert browser.post("/oauth2/revoke", {"token": "x", **with_assertion(assertion)}).status == 200, alg


@pytest.mark.spec("RFC 8414 §2")
def test_only_listed_authentication_methods_work(site: Site, browser: Browser, metadata: dict[str, Any]) -> None:
    client, public = site.client(), site.client(client_name="Public", public=True)
    for endpoint in ("token", "revocation"):
        path = path_of(metadata, f"{endpoint}_endpoint")
        methods = metadata[f"{endpoint}_endpoint_auth_methods_supported"]
        assert set(methods) == {"client_secret_basic", "client_secret_post", "private_key_jwt", "none"}
        for method in methods:
            assert _authenticated(browser, path, method, client, public).status != 401, method
        assertion = {
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": jwt.encode({"iss": client.id, "sub": client.id}, client.secret or "", "HS256"),
        }
        body = {"grant_type": "authorization_code", "code": "x", "token": "x"}
        assert browser.post(path, body | assertion).json["error"] == "invalid_client"


@pytest.mark.spec("RFC 6749 §3.1.1")
@pytest.mark.spec("RFC 8414 §2")
def test_only_listed_response_types_and_modes_work(site: Site, browser: Browser, metadata: dict[str, Any]) -> None:
    types = metadata["response_types_supported"]
    assert types == ["code", "code id_token"]
    modes = metadata["response_modes_supported"]
    assert modes == ["query", "fragment", "form_post", "query.jwt", "fragment.jwt", "form_post.jwt", "jwt"]
    client = site.client(response_types=tuple(types))
    for response_type in types:
        for mode in (*modes, None):
            answer = browser.authorize(client, response_type=response_type, response_mode=mode, nonce="n")
            if (response_type, mode) == ("code id_token", "query"):
                assert answer.answer["error"] == "invalid_request"
            elif (response_type, mode) == ("code id_token", "query.jwt"):
                response = jwt.decode(answer.answer["response"], options={"verify_signature": False})
                assert response["error"] == "invalid_request"
            else:
                assert answer.status == 200, (response_type, mode)
                assert "password" in answer.form.fields, (response_type, mode)
    for other in ("token", "id_token", "code token", "code id_token token", "none", "Code"):
        answer = browser.authorize(client, response_type=other)
        assert answer.answer["error"] == "unsupported_response_type", other
    for other in ("jwt.jwt", "web_message"):
        assert browser.authorize(client, response_mode=other).answer["error"] == "invalid_request", other


@pytest.mark.spec("RFC 7636 §4.2", "RFC 7636 §7.2 a", "RFC 9700 §2.1.1 d", "RFC 9700 §2.1.1 e", "RFC 9700 §4.7.1 a")
@pytest.mark.spec("RFC 9700 §4.7.1 b")
@pytest.mark.spec("RFC 7636 §4.3")
def test_only_listed_code_challenge_methods_work(site: Site, browser: Browser, metadata: dict[str, Any]) -> None:
    client = site.client()
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert browser.authorize(client, code_challenge_method="S256").status == 200
    for other in ("plain", "s256", "S512", None):
        answer = browser.authorize(client, code_challenge_method=other)
        assert answer.answer["error"] == "invalid_request", other


@pytest.mark.spec("OpenID Connect Discovery §3 l", "OpenID Connect Discovery §3 m", "OpenID Connect Discovery §3 n")
@pytest.mark.spec("OpenID Connect Discovery §3 x")
@pytest.mark.spec("OpenID Connect Core §5.4")
def test_every_scope_releases_listed_claims(site: Site, browser: Browser, metadata: dict[str, Any]) -> None:
    scopes, claims = metadata["scopes_supported"], metadata["claims_supported"]
    assert set(TOKEN_CLAIMS) < set(claims)
    about_user = set(claims) - {*TOKEN_CLAIMS, "sub", "groups"}
    user_claims: dict[str, Any] = {name: f"a {name}" for name in about_user}
    alice = site.user(claims=user_claims | {"unlisted": "a claim"}, groups=frozenset({"staff"}))
    client = site.client(scope=" ".join(scopes))
    assert browser.authorize(client, scope=" ".join(scopes)).status == 200
    code = create_code(site, client, alice, scope=frozenset(scopes))
    tokens = browser.redeem(client, code).json
    assert tokens["scope"].split() == sorted(scopes)
    released = {"sub": alice.sub, "groups": ["staff"], **user_claims}
    assert browser.userinfo(tokens["access_token"]).json == released
    assert browser.authorize(client, scope="unlisted").answer["error"] == "invalid_scope"


@pytest.mark.spec("OpenID Connect Core §15.1 b")
@pytest.mark.spec("OpenID Connect Core §3.1.2.1")
def test_only_listed_prompt_values_work(site: Site, browser: Browser, metadata: dict[str, Any]) -> None:
    client = site.client()
    for prompt in metadata["prompt_values_supported"]:
        answer = browser.authorize(client, prompt=prompt)
        if prompt == "none":
            assert answer.answer["error"] == "login_required"
        else:
            assert answer.status == 200, prompt
    assert browser.authorize(client, prompt="create").answer["error"] == "invalid_request"


@pytest.mark.spec("OpenID Connect Core §6.2 a")
@pytest.mark.spec("OpenID Connect Core §6")
def test_parameters_listed_as_unsupported_are_rejected(site: Site, browser: Browser, metadata: dict[str, Any]) -> None:
    client = site.client()
    assert metadata["request_uri_parameter_supported"] is False
    answer = browser.authorize(client, request_uri="https://client.example.com/request.jwt")
    assert answer.answer["error"] == "request_uri_not_supported"
    answer = browser.authorize(client, registration="{}")
    assert answer.answer["error"] == "registration_not_supported"


@pytest.mark.spec("OpenID Connect Discovery §3")
def test_parameters_listed_as_supported_are_accepted(site: Site, browser: Browser, metadata: dict[str, Any]) -> None:
    client = site.client()
    assert metadata["claims_parameter_supported"] is True
    assert metadata["display_values_supported"] == ["page", "popup", "touch", "wap"]
    assert metadata["ui_locales_supported"] == ["en", "de", "fr", "es", "ja", "ar"]
    accepted = {"claims": ['{"userinfo":{"email":null}}'], "ui_locales": metadata["ui_locales_supported"]}
    accepted |= {"display": metadata["display_values_supported"], "acr_values": metadata["acr_values_supported"]}
    for name, values in accepted.items():
        for value in values:
            assert browser.authorize(client, **{name: value}).status == 200, (name, value)
    site.user()
    client = site.client(trusted=True)
    reached = []
    for acr in metadata["acr_values_supported"]:
        claims = json.dumps({"id_token": {"acr": {"essential": True, "value": acr}}})
        answer = browser.answer(client, claims=claims)
        if is_code_page(answer):
            answer = browser.submit(answer, one_time_code=hotp(SECRET, site.clock() // 30))
        reached.append(_claims(browser.redeem(client, answer.code).json["id_token"])["acr"])
        if len(reached) == 1:
            add_second_factor(site)
    assert reached == metadata["acr_values_supported"]


@pytest.mark.spec("RFC 9207 §2 a", "RFC 9207 §2.3 a", "RFC 9207 §2.3 b", "RFC 9207 §2.3 c")
@pytest.mark.spec("RFC 9207 §3")
def test_every_authorization_response_has_the_issuer(site: Site, browser: Browser, metadata: dict[str, Any]) -> None:
    assert metadata["authorization_response_iss_parameter_supported"] is True
    site.user()
    client = site.client(trusted=True)
    assert browser.sign_in(browser.authorize(client)).answer["iss"] == metadata["issuer"]
    assert browser.authorize(client, scope="nothing").answer["iss"] == metadata["issuer"]


@pytest.mark.spec("OpenID Connect Core §8")
def test_only_listed_subject_types_work(site: Site, browser: Browser, metadata: dict[str, Any]) -> None:
    assert metadata["subject_types_supported"] == ["public", "pairwise"]
    alice = site.user()
    for subject_type in metadata["subject_types_supported"]:
        client = site.client(subject_type=subject_type)
        assert (_claims(browser.tokens(client)["id_token"])["sub"] == alice.sub) == (subject_type == "public")
    with pytest.raises(InvalidClientMetadata):
        site.client(subject_type="transient")
    subjects = {_claims(browser.tokens(site.client(client_name=name))["id_token"])["sub"] for name in ("A", "B")}
    assert subjects == {alice.sub}


@pytest.mark.spec("OpenID Connect Discovery §3")
def test_only_listed_algorithms_work_and_none_is_not_listed(
    site: Site, browser: Browser, metadata: dict[str, Any]
) -> None:
    site.user()
    algorithms = metadata["id_token_signing_alg_values_supported"]
    assert algorithms == metadata["userinfo_signing_alg_values_supported"] == ["RS256", "PS256", "ES256", "EdDSA"]
    for alg in algorithms:
        client = site.client(id_token_signed_response_alg=alg, userinfo_signed_response_alg=alg)
        tokens = browser.tokens(client)
        signed = (tokens["id_token"], browser.userinfo(tokens["access_token"]).body)
        assert [jwt.get_unverified_header(token)["alg"] for token in signed] == [alg, alg]
    for kind in ("id_token", "userinfo", "access_token"):
        with pytest.raises(InvalidClientMetadata):
            site.client(**{f"{kind}_signed_response_alg": "none"})


@pytest.mark.spec("OpenID Connect Core §2")
def test_claims_of_an_id_token_are_listed(site: Site, browser: Browser, metadata: dict[str, Any]) -> None:
    site.user()
    claims = _claims(browser.tokens(site.client(), nonce="n-0S6")["id_token"])
    assert set(claims) - {"at_hash"} == {*TOKEN_CLAIMS, "sub"} <= set(metadata["claims_supported"])
    assert claims["acr"] in metadata["acr_values_supported"]
    assert metadata["claim_types_supported"] == ["normal"]


def test_metadata_of_an_issuer_with_a_path_has_that_path(site: Site) -> None:
    from dataclasses import replace

    from chalicelib.server import AuthorizationServer

    settings = replace(site.settings, issuer="https://example.com/auth")
    event = {"httpMethod": "GET", "path": OPENID, "headers": {}, "requestContext": {"stage": "$default"}}
    import app
    from chalicelib import web

    server = AuthorizationServer(settings, site.server.store, site.server.keys, site.clock)
    _, handler = web.build(app.JSON_ROUTES, app.PAGE_ROUTES, lambda: server)
    document = json.loads(handler(event, None)["body"])
    assert document["issuer"] == "https://example.com/auth"
    assert document["token_endpoint"] == "https://example.com/auth/oauth2/token"


# ---- keys


@pytest.mark.spec("OpenID Connect Core §10.1 c", "OpenID Connect Core §10.1 e", "OpenID Connect Discovery §3 j")
@pytest.mark.spec("OpenID Connect Discovery §3 s")
@pytest.mark.spec("RFC 7517 §5")
@pytest.mark.spec("RFC 7518 §6.3")
def test_published_keys_are_public_and_verify_tokens(site: Site, browser: Browser, metadata: dict[str, Any]) -> None:
    published = browser.get(path_of(metadata, "jwks_uri")).json
    assert set(published) == {"keys"}
    for key in published["keys"]:
        # no private members: "d", "p", "q", "dp", "dq", "qi", "oth", "k"
        public_members = {"RSA": {"n", "e"}, "EC": {"crv", "x", "y"}, "OKP": {"crv", "x"}}[key["kty"]]
        assert set(key) == {"kty", *public_members, "kid", "alg", "use"}
        assert key["use"] == "sig"
        assert key["alg"] in metadata["id_token_signing_alg_values_supported"]
        assert key["kty"] == "OKP" or jwt.PyJWK(key).key.key_size >= {"RSA": 2048, "EC": 256}[key["kty"]]
    client = site.client()
    tokens = browser.redeem(client, create_code(site, client)).json
    for name, audience in (("id_token", client.id), ("access_token", metadata["issuer"])):
        header = jwt.get_unverified_header(tokens[name])
        key = next(key for key in published["keys"] if key["kid"] == header["kid"])
        assert header["alg"] == key["alg"] == "RS256"
        jwt.decode(tokens[name], jwt.PyJWK(key), algorithms=["RS256"], audience=audience, issuer=metadata["issuer"])


# RFC 7638 section 3.1
RFC_7638_KEY = {
    "kty": "RSA",
    "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3o"
    "knjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvR"
    "L5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDK"
    "gw",
    "e": "AQAB",
    "alg": "RS256",
    "kid": "2011-04-29",
}
RFC_7638_THUMBPRINT = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.spec("RFC 7638 §3.1")
def test_thumbprint_of_the_rfc_7638_example_key() -> None:
    from joserfc.jwk import RSAKey  # comes with Authlib

    assert signing.thumbprint(RFC_7638_KEY) == RFC_7638_THUMBPRINT
    assert RSAKey.import_key({n: RFC_7638_KEY[n] for n in ("kty", "n", "e")}).thumbprint() == RFC_7638_THUMBPRINT


@pytest.mark.spec("RFC 7638 §3.1")
def test_kid_is_the_thumbprint_of_the_key(site: Site, browser: Browser) -> None:
    for key in browser.get("/oauth2/jwks").json["keys"]:
        assert key["kid"] == signing.thumbprint(key)


@pytest.mark.spec("RFC 7636 §B")
def test_challenge_of_the_rfc_7636_example_verifier() -> None:
    octets = [116, 24, 223, 180, 151, 153, 224, 37, 79, 250, 96, 125, 216, 173, 187, 186]
    octets += [22, 212, 37, 77, 105, 214, 191, 240, 91, 88, 5, 88, 83, 132, 141, 121]
    import base64

    verifier = base64.urlsafe_b64encode(bytes(octets)).rstrip(b"=").decode()
    assert verifier == VERIFIER == "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert pkce.challenge(verifier) == CHALLENGE == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


# ---- health check and home page


def test_health_check_does_not_read_the_database(
    site: Site, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    answer = browser.get("/healthz")
    assert (answer.status, answer.json) == (200, {"status": "ok", "version": __version__})
    line = json.loads(caplog.records[-1].getMessage())
    assert (line["path"], line["dynamodb_calls"]) == ("/healthz", 0)


def test_home_page_lists_endpoints_with_working_links(site: Site, browser: Browser) -> None:
    page = browser.get("/")
    assert page.status == 200
    assert page.header("content-type") == "text/html; charset=utf-8"
    for path in (OPENID, OAUTH, "/oauth2/jwks"):
        assert f'href="{site.settings.issuer}{path}"' in page.body
        assert browser.get(path).status == 200
    for path in ("/oauth2/authorize", "/oauth2/token", "/oauth2/userinfo", "/oauth2/revoke"):
        assert path in page.body
    assert 'href="/account"' in page.body
    assert "playground" not in page.body, "the playground is off"


# ---- resources


def test_metadata_lists_the_registered_resources(site: Site, browser: Browser) -> None:
    assert "protected_resources" not in browser.get(OPENID).json
    register_resource_server(site, "https://old.example.com")  # without a record
    for uri in ("https://photos.example.com", "http://127.0.0.1:3000/mcp"):
        register_resource(site, uri)
    site.clock.advance(60)
    uris = ["http://127.0.0.1:3000/mcp", "https://photos.example.com"]
    assert [browser.get(path).json["protected_resources"] for path in (OPENID, OAUTH)] == [uris, uris]


def not_allowed(request: Request, _proceed: Proceed) -> Response:
    """Reject the request, as when the function's role lacks a permission."""
    return refusal(request, 400, "com.amazon.coral.service#AccessDeniedException")


@pytest.mark.parametrize("fault", [unreachable, throttled, not_allowed], ids=lambda fault: fault.__name__)
def test_metadata_has_the_last_known_resources_while_they_cannot_be_read(
    site: Site, browser: Browser, wire: Wire, fault: Fault
) -> None:
    register_resource(site, "https://photos.example.com")
    with wire.fault_in("Scan", fault):
        answer = browser.get(OPENID)
    assert (answer.status, "protected_resources" in answer.json) == (200, False)
    site.clock.advance(60)
    before = browser.get(OPENID).json
    assert before["protected_resources"] == ["https://photos.example.com"]
    site.clock.advance(60)
    with wire.fault_in("Scan", fault):
        assert browser.get(OPENID).json == before
