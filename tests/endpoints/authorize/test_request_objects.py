"""Signed authorization requests (RFC 9101): what is signed is the request, and nothing beside it."""

import json
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest

from chalicelib.authorization.request_object import CLOCK_DIFFERENCE, MAX_LIFETIME
from chalicelib.clients.registration import update_client as change_client
from chalicelib.keys.client_keys import ACCEPTED
from chalicelib.protocol.errors import InvalidClientMetadata
from tests.endpoints.authorize.conftest import asks_for_consent, asks_to_sign_in
from tests.support.assertions import KeyPair, key_client, key_pair, make_assertion, resolve_claims, sign
from tests.support.browser import CHALLENGE, Browser, authorization_parameters, basic
from tests.support.grants import update_client
from tests.support.request_objects import TYPE, answer_signed, authorize_signed, claims_of_request, request_object
from tests.support.resource_servers import API, register_resource
from tests.support.site import PASSWORD, Registered, Site

pytestmark = pytest.mark.spec("RFC 9101 §4", "RFC 9101 §5", "RFC 9101 §6")
OTHER = "https://client.example.com/other"


@pytest.fixture
def client(site: Site) -> Registered:
    site.user("alice")
    return site.client(jwks=key_pair().jwks, redirect_uris=["https://client.example.com/cb", OTHER])


# ---- what is accepted


@pytest.mark.spec("RFC 9101 §6.2 a", "RFC 9101 §6.3 a", "OpenID Connect Core §6.3", "OpenID Connect Core §16.7")
@pytest.mark.parametrize("alg", ["RS256", "PS256", "ES256", "EdDSA", "Ed25519"])
def test_signed_request_is_answered(site: Site, browser: Browser, client: Registered, alg: str) -> None:
    pair = key_pair("EdDSA" if alg == "Ed25519" else alg)
    update_client(site, client, jwks=pair.jwks)
    answer = answer_signed(browser, client, request_object(site, client, pair, {"alg": alg}, state="signed"))
    assert answer.answer["state"] == "signed"
    assert browser.redeem(client, answer.code).status == 200
    metadata = browser.get("/.well-known/openid-configuration").json
    assert alg in metadata["request_object_signing_alg_values_supported"]
    assert metadata["request_object_signing_alg_values_supported"] == list(ACCEPTED)
    assert metadata["request_parameter_supported"] is True


@pytest.mark.spec("RFC 9101 §10.8")
@pytest.mark.parametrize("typ", [None, "JWT", "jwt", TYPE, TYPE.upper(), f"application/{TYPE}"])
def test_type_of_a_request_object_is_its_own_or_general(
    site: Site, browser: Browser, client: Registered, typ: str | None
) -> None:
    assert asks_to_sign_in(authorize_signed(browser, client, request_object(site, client, header={"typ": typ})))


ACCEPTED_CLAIMS: dict[str, dict[str, Any]] = {
    "aud is an array": {"aud": ["ISSUER"]},
    "aud names other servers too": {"aud": ["https://other.example.com", "ISSUER"]},
    "no nbf, iat and jti": {"nbf": None, "iat": None, "jti": None},
    "by a clock that is ahead": {"nbf": CLOCK_DIFFERENCE, "iat": CLOCK_DIFFERENCE},
    "by a clock that is late": {"exp": 1 - CLOCK_DIFFERENCE},
    "valid for an hour": {"exp": MAX_LIFETIME},
    "made an hour ago": {"nbf": 1 - MAX_LIFETIME, "iat": 1 - MAX_LIFETIME, "exp": 1},
    "a fraction of a second": {"exp": 59.5},
    "sub of a user": {"sub": "alice"},
    "max_age is a number": {"max_age": 60},
    "max_age is a text": {"max_age": "60"},
    "claims is a text": {"claims": '{"userinfo":{"email":null}}'},
    "unknown members of any type": {"vtr": ["P1"], "x": {"y": 1}, "z": None, "aud_": True},
}


@pytest.mark.parametrize("case", ACCEPTED_CLAIMS)
def test_request_object_is_accepted(site: Site, browser: Browser, client: Registered, case: str) -> None:
    claims = claims_of_request(site, client, **resolve_claims(site, client, ACCEPTED_CLAIMS[case]))
    text = sign(key_pair(), {"alg": "ES256", "kid": "key-1"}, claims)
    assert asks_to_sign_in(authorize_signed(browser, client, text)), case


@pytest.mark.spec("RFC 9101 §4 b")
def test_values_that_are_json_are_members_of_the_object(site: Site, browser: Browser, client: Registered) -> None:
    register_resource(site, API, scope="photos.read")
    update_client(site, client, scope="openid email photos.read")
    claims: dict[str, Any] = {"userinfo": {"email": {}}}
    text = request_object(
        site, client, scope="openid photos.read", resource=[API], claims=claims, max_age=0, prompt="login"
    )
    answer = answer_signed(browser, client, text)
    (grant,) = site.server.store.grants.scan()
    assert (grant.claims, grant.resource) == (claims, frozenset({API}))
    assert browser.redeem(client, answer.code, resource=API).status == 200


def test_keys_without_a_kid_fit_by_their_algorithm(site: Site, browser: Browser, client: Registered) -> None:
    jwks = {"keys": [key_pair(alg, alg).jwk for alg in ("RS256", "ES256", "EdDSA")]}
    update_client(site, client, jwks=jwks)
    for alg in ("RS256", "ES256", "EdDSA"):
        text = request_object(site, client, key_pair(alg, alg), {"kid": None})
        assert asks_to_sign_in(authorize_signed(browser, client, text)), alg
    two = {"keys": [key_pair("ES256", kid).jwk for kid in ("a", "b")]}
    update_client(site, client, jwks=two)
    answer = authorize_signed(browser, client, request_object(site, client, key_pair("ES256", "a"), {"kid": None}))
    assert answer.answer["error"] == "invalid_request_object"
    assert asks_to_sign_in(authorize_signed(browser, client, request_object(site, client, key_pair("ES256", "b"))))


def test_public_client_signs_its_requests(site: Site, browser: Browser) -> None:
    site.user("alice")
    client = site.client(public=True, jwks=key_pair().jwks, require_signed_request_object=True)
    assert browser.redeem(client, answer_signed(browser, client, request_object(site, client)).code).status == 200


# ---- what is beside it


@pytest.mark.spec("RFC 9101 §6.3 a", "OpenID Connect Core §6.1 b")
def test_parameters_beside_the_object_are_ignored(site: Site, browser: Browser, client: Registered) -> None:
    beside: dict[str, Any] = {
        "redirect_uri": OTHER,
        "state": "outside",
        "nonce": "outside",
        "scope": "openid email",
        "response_type": "token",
        "response_mode": "fragment",
        "prompt": "none",
        "code_challenge": "x" * 43,
        "code_challenge_method": "plain",
        "resource": "https://unknown.example.com",
        "claims": "{",
        "max_age": "x",
        "registration": "{}",
        "id_token_hint": "x",
    }
    answer = answer_signed(browser, client, request_object(site, client, state="inside", nonce="inside"), **beside)
    assert answer.location.startswith("https://client.example.com/cb?")
    assert answer.answer["state"] == "inside"
    tokens = browser.redeem(client, answer.code).json
    claims = jwt.decode(tokens["id_token"], options={"verify_signature": False})
    assert (claims["nonce"], tokens.get("scope", "openid")) == ("inside", "openid")


@pytest.mark.parametrize("name", ["state", "nonce", "code_challenge", "redirect_uri", "response_type"])
def test_parameter_only_beside_the_object_is_missing(
    site: Site, browser: Browser, client: Registered, name: str
) -> None:
    changes: dict[str, Any] = {name: None} | ({"code_challenge_method": None} if name == "code_challenge" else {})
    text = request_object(site, client, **changes)
    answer = authorize_signed(browser, client, text, **authorization_parameters(client, nonce="outside"))
    if name in ("state", "nonce"):
        assert asks_to_sign_in(answer)
        (page, decision) = (browser.sign_in(answer), "allow_once")
        assert "state" not in browser.submit(page, decision=decision).answer or name != "state"
        (grant,) = site.server.store.grants.scan()
        assert grant.nonce is None
    elif name == "redirect_uri":
        assert (answer.status, answer.header("location")) == (400, None)
    else:
        assert (answer.answer["error"], answer.answer["state"]) == ("invalid_request", "af0ifjsldkj")


@pytest.mark.spec("RFC 9101 §5 a", "RFC 9101 §6.3 b")
def test_client_id_beside_the_object_is_equal_and_not_missing(site: Site, browser: Browser, client: Registered) -> None:
    other = site.client(jwks=key_pair().jwks, redirect_uris=client.record.redirect_uris)
    text = request_object(site, client)
    answer = authorize_signed(browser, client, text, client_id=other.id)
    assert answer.answer["error"] == "invalid_request_object"
    answer = browser.get("/oauth2/authorize", request=text)
    assert (answer.status, answer.header("location")) == (400, None)


@pytest.mark.spec("RFC 9101 §5 b", "OpenID Connect Core §6.2 a")
def test_reference_is_not_supported_beside_an_object_either(site: Site, browser: Browser, client: Registered) -> None:
    text = request_object(site, client)
    for beside in ({}, {"request": text}):
        uri = "https://client.example.com/request.jwt"
        parameters = authorization_parameters(client) | {"request_uri": uri, **beside}
        assert browser.get("/oauth2/authorize", **parameters).answer["error"] == "request_uri_not_supported"
    assert browser.get("/.well-known/openid-configuration").json["request_uri_parameter_supported"] is False


# ---- where errors go


@pytest.mark.spec("RFC 9101 §6.3 c")
def test_error_of_the_request_goes_where_the_object_says(site: Site, browser: Browser, client: Registered) -> None:
    changes: dict[str, Any] = {"redirect_uri": OTHER, "state": "inside", "response_mode": "fragment", "prompt": "none"}
    answer = authorize_signed(
        browser, client, request_object(site, client, **changes), redirect_uri="https://x.example"
    )
    assert answer.location.startswith(f"{OTHER}#")
    assert (answer.answer["error"], answer.answer["state"]) == ("login_required", "inside")


@pytest.mark.spec("RFC 9101 §6.2 c")
def test_error_of_the_object_goes_to_a_registered_redirect_uri_only(
    site: Site, browser: Browser, client: Registered
) -> None:
    forged = key_pair("ES256", "forged")
    header = {"kid": "key-1"}
    text = request_object(site, client, forged, header, redirect_uri=OTHER, state="inside", response_mode="form_post")
    answer = authorize_signed(browser, client, text)
    assert (answer.mode, answer.form.action) == ("form_post", OTHER)
    assert (answer.answer["error"], answer.answer["state"]) == ("invalid_request_object", "inside")
    for wrong in ("https://evil.example/cb", f"{OTHER}/", "javascript:alert(1)", 1, None, ["https://evil.example"]):
        for pair in (forged, key_pair()):
            text = request_object(site, client, pair, header, redirect_uri=wrong)
            answer = authorize_signed(browser, client, text, redirect_uri=OTHER if pair is forged else None)
            assert (answer.status, answer.header("location")) == (400, None), wrong
    answer = authorize_signed(browser, client, "x.y.z", redirect_uri=OTHER, state="outside")
    assert answer.location.startswith(f"{OTHER}?")
    assert (answer.answer["error"], answer.answer["state"]) == ("invalid_request_object", "outside")


def test_error_of_the_object_is_signed_where_the_object_asks_for_it(
    site: Site, browser: Browser, client: Registered
) -> None:
    answer = authorize_signed(browser, client, request_object(site, client, exp=1, response_mode="jwt"))
    claims = jwt.decode(answer.answer["response"], options={"verify_signature": False})
    assert (claims["error"], claims["aud"], claims["state"]) == ("invalid_request_object", client.id, "af0ifjsldkj")


# ---- while pages are shown


def test_page_carries_the_signed_request_and_nothing_is_stored(
    site: Site, browser: Browser, client: Registered
) -> None:
    page = authorize_signed(browser, client, request_object(site, client, login_hint="alice"))
    assert set(parse_qs(urlsplit(page.form.action or "").query)) == {"client_id", "request"}
    assert page.form.fields["username"] == "alice"
    assert not list(site.server.store.requests.scan())
    again = browser.submit(page, username="alice", password="wrong")
    assert "password" in again.form.fields
    assert asks_for_consent(browser.sign_in(again))


def test_request_that_expires_while_its_page_is_shown_is_continued(
    site: Site, browser: Browser, client: Registered
) -> None:
    page = authorize_signed(browser, client, request_object(site, client, exp=site.clock.time + 60))
    site.clock.advance(200)
    again = browser.submit(page, username="alice", password="wrong")
    assert "password" in again.form.fields
    (stored,) = site.server.store.requests.scan()
    assert stored.client_id == client.id
    consent = browser.sign_in(again)
    assert browser.redeem(client, browser.submit(consent, decision="allow_once").code).status == 200


def test_expired_request_that_is_signed_in_at_once_is_continued(
    site: Site, browser: Browser, client: Registered
) -> None:
    page = authorize_signed(browser, client, request_object(site, client, exp=site.clock.time + 60))
    site.clock.advance(200)
    first, second = (browser.submit(page, username="alice", password=PASSWORD) for _ in range(2))
    assert asks_for_consent(first)
    assert asks_for_consent(second), "the button was pressed twice"
    assert browser.submit(first, decision="allow_once").code


def test_expired_request_is_not_begun_again(site: Site, browser: Browser, client: Registered) -> None:
    text = request_object(site, client)
    assert asks_to_sign_in(authorize_signed(browser, client, text))
    assert asks_to_sign_in(authorize_signed(browser, client, text)), "a page can be reloaded"
    site.clock.advance(300 + CLOCK_DIFFERENCE)
    assert authorize_signed(browser, client, text).answer["error"] == "invalid_request_object"
    assert not list(site.server.store.requests.scan())


def test_page_is_for_the_request_that_it_has_shown(site: Site, browser: Browser, client: Registered) -> None:
    """The object in the address of a form is the one that was verified: its tag proves it."""
    page = authorize_signed(browser, client, request_object(site, client))
    forged = request_object(site, client, key_pair("ES256", "forged"), {"kid": "key-1"}, scope="openid email")
    page.form.action = f"/oauth2/code?client_id={client.id}&request={forged}"
    answer = browser.sign_in(page)
    assert answer.answer["error"] == "invalid_request_object"
    assert not list(site.server.store.sessions.scan())


@pytest.mark.parametrize("size", [100, 6000], ids=["short", "long"])
def test_posted_request_is_continued_by_get(site: Site, browser: Browser, client: Registered, size: int) -> None:
    text = request_object(site, client, state="s" * min(size, 2000), nonce="n" * min(size, 2000))
    form = {"client_id": client.id, "request": text, "scope": "openid email", "state": "outside"}
    answer = browser.post("/oauth2/authorize", form)
    assert ("request_uri" in answer.location) is (size > 4000)
    page = browser.sign_in(browser.follow(answer))
    answer = browser.submit(page, decision="allow_once")
    assert answer.answer["state"] == "s" * min(size, 2000)
    assert browser.redeem(client, answer.code).status == 200


def test_posted_request_with_a_hint_inside_is_not_put_into_an_address(
    site: Site, browser: Browser, client: Registered
) -> None:
    form = {"client_id": client.id, "request": request_object(site, client, login_hint="alice")}
    answer = browser.post("/oauth2/authorize", form)
    assert set(parse_qs(urlsplit(answer.location).query)) == {"request_uri"}
    assert browser.follow(answer).form.fields["username"] == "alice"


def test_direct_sign_in_takes_a_signed_request(site: Site, browser: Browser) -> None:
    site.user("alice")
    client = site.client(jwks=key_pair().jwks, direct_sign_in=True, trusted=True)
    parameters = {"client_id": client.id, "request": request_object(site, client, scope="openid")}
    assert browser.get("/oauth2/code", basic("alice", PASSWORD), **parameters).code
    parameters["request"] = request_object(site, client, key_pair("ES256", "forged"))
    answer = browser.get("/oauth2/code", basic("alice", PASSWORD), **parameters)
    assert answer.answer["error"] == "invalid_request_object"


# ---- what the client registers


@pytest.mark.spec("RFC 9101 §10.5 a", "RFC 9101 §10.5 b")
def test_client_that_must_sign_is_refused_without_a_signature(site: Site, browser: Browser, client: Registered) -> None:
    update_client(site, client, require_signed_request_object=True)
    answer = browser.authorize(client)
    assert (answer.answer["error"], answer.answer["state"]) == ("invalid_request", "af0ifjsldkj")
    unsigned = jwt.encode(claims_of_request(site, client), "", "none")
    answer = authorize_signed(browser, client, unsigned, redirect_uri=OTHER)
    assert answer.answer["error"] == "invalid_request_object"
    answer = authorize_signed(browser, client, request_object(site, client, nbf=None))
    assert answer.answer["error"] == "invalid_request_object"
    assert answer_signed(browser, client, request_object(site, client)).code


@pytest.mark.spec("RFC 9101 §6.2 b")
def test_only_the_registered_algorithm_is_accepted(site: Site, browser: Browser, client: Registered) -> None:
    keys = {"keys": [key_pair("PS256", "rsa").jwk, key_pair("EdDSA", "ed").jwk]}
    rsa, ed = key_pair("PS256", "rsa"), key_pair("EdDSA", "ed")
    rs256 = KeyPair("RS256", "rsa", rsa.private)
    for alg, accepted in (("PS256", [rsa]), ("Ed25519", [ed]), (None, [rsa, ed, rs256])):
        update_client(site, client, jwks=keys, request_object_signing_alg=alg)
        for pair in (rsa, ed, rs256):
            answer = authorize_signed(browser, client, request_object(site, client, pair))
            assert asks_to_sign_in(answer) is (pair in accepted), (alg, pair.alg)


def test_key_that_the_client_registers_anew_is_accepted_at_once(
    site: Site, browser: Browser, client: Registered
) -> None:
    """The cached record is read again before the request is rejected."""
    assert asks_to_sign_in(authorize_signed(browser, client, request_object(site, client)))
    new = key_pair("ES256", "key-2")
    change_client(site.server.store, client.record, lambda record: replace(record, jwks=new.jwks))
    assert asks_to_sign_in(authorize_signed(browser, client, request_object(site, client, new)))
    assert authorize_signed(browser, client, request_object(site, client)).answer["error"] == "invalid_request_object"


def test_client_without_keys_cannot_sign(site: Site, browser: Browser) -> None:
    site.user("alice")
    client = site.client()
    assert authorize_signed(browser, client, request_object(site, client)).answer["error"] == "invalid_request_object"
    with pytest.raises(InvalidClientMetadata, match="public keys"):
        site.client(require_signed_request_object=True)
    with pytest.raises(InvalidClientMetadata, match="request_object_signing_alg"):
        site.client(jwks=key_pair().jwks, request_object_signing_alg="HS256")


@pytest.mark.spec("OpenID Connect Core §6.1 a", "OpenID Connect Core §6")
def test_unsigned_request_object_is_not_supported(site: Site, browser: Browser, client: Registered) -> None:
    unsigned = jwt.encode(claims_of_request(site, client, state="inside"), "", "none")
    beside = {"redirect_uri": OTHER}
    answer = authorize_signed(browser, client, unsigned, **beside)
    assert answer.location.startswith(f"{OTHER}?"), "an unsigned object changes no parameter"
    assert (answer.answer["error"], answer.answer["state"]) == ("request_not_supported", "inside")


# ---- the same keys for another purpose


@pytest.mark.spec("RFC 9101 §10.8")
def test_request_object_and_assertion_are_not_used_as_each_other(site: Site, browser: Browser) -> None:
    site.user("alice")
    client = key_client(site)
    assertion = make_assertion(site, client.id)
    assert authorize_signed(browser, client, assertion).answer["error"] == "invalid_request_object"
    headers = {"typ": "client-authentication+jwt"}
    text = request_object(site, client, header=headers)
    assert authorize_signed(browser, client, text).answer["error"] == "invalid_request_object"
    for typ in (TYPE, f"application/{TYPE}", "dpop+jwt"):
        for_assertion = make_assertion(site, client.id, headers={"typ": typ})
        form = {"token": "x", "client_assertion": for_assertion}
        form["client_assertion_type"] = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        assert browser.post("/oauth2/revoke", form).json["error"] == "invalid_client", typ


def test_object_is_not_logged(
    site: Site, browser: Browser, client: Registered, caplog: pytest.LogCaptureFixture
) -> None:
    text = request_object(site, client, login_hint="alice@example.com")
    authorize_signed(browser, client, text)
    authorize_signed(browser, client, text[:-8] + "AAAAAAAA")
    assert text[:60] not in caplog.text
    assert "alice@example.com" not in caplog.text
    assert CHALLENGE not in caplog.text
    assert json.dumps(text.split(".")[1])[1:-1] not in caplog.text
