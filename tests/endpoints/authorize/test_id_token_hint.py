"""/oauth2/authorize with `id_token_hint`: the user whom the client expects."""

import base64
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from chalicelib.keys import signing
from tests.endpoints.authorize.conftest import REDIRECT_URI, asks_to_sign_in, read_claims
from tests.support.browser import Browser, authorization_parameters, basic
from tests.support.grants import update_client
from tests.support.site import PASSWORD, Registered, Site


@pytest.fixture
def client(hybrid_client: Registered) -> Registered:
    return hybrid_client


@pytest.mark.spec("OpenID Connect Core §3.1.2.2 f", "OpenID Connect Core §3.1.2.2 g")
@pytest.mark.parametrize("age", [0, 601, 90 * 24 * 3600])
def test_hint_of_the_signed_in_user_is_accepted_at_any_age(
    site: Site, browser: Browser, client: Registered, hint: str, age: int
) -> None:
    site.clock.advance(age)
    browser.answer(client, prompt="login")
    assert browser.authorize(client, id_token_hint=hint, prompt="none").code
    assert browser.authorize(client, id_token_hint=hint).code


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 q", "OpenID Connect Core §3.1.2.2 e")
def test_hint_of_another_user_with_prompt_none_is_login_required(
    browsers: Callable[..., Browser], client: Registered, hint: str
) -> None:
    bob, signed_out = browsers(), browsers()
    bob.sign_in(bob.authorize(client), "bob")
    for browser in (bob, signed_out):
        for response_type in ("code", "code id_token"):
            answer = browser.authorize(
                client, id_token_hint=hint, prompt="none", response_type=response_type, nonce="n"
            )
            assert answer.answer["error"] == "login_required"
            assert not {"code", "id_token"} & set(answer.answer)
    assert bob.authorize(client, prompt="none").code, "without the hint, bob gets a code"


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 q", "OpenID Connect Core §3.1.2.2 d", "OpenID Connect Core §3.1.2.2 e")
@pytest.mark.parametrize("parameter", ["id_token_hint", "claims"])
def test_another_user_must_sign_in_as_the_expected_one(
    site: Site, browsers: Callable[..., Browser], client: Registered, hint: str, parameter: str
) -> None:
    sub = read_claims(hint)["sub"]
    values = {"id_token_hint": hint, "claims": json.dumps({"id_token": {"sub": {"value": sub}}})}
    browser = browsers()
    browser.sign_in(browser.authorize(client), "bob")
    cookies = dict(browser.cookies)
    page = browser.authorize(client, **{parameter: values[parameter]})
    assert asks_to_sign_in(page)
    error = browser.sign_in(page, "bob")
    assert error.answer["error"] == "login_required"
    assert error.location.startswith(REDIRECT_URI + "?")
    # Bob is still signed in, and alice can still sign in on the page.
    assert browser.cookies == cookies
    assert browser.authorize(client, prompt="none").code
    answer = browser.sign_in(page, "alice")
    assert read_claims(browser.redeem(client, answer.code).json["id_token"])["sub"] == sub


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 q")
def test_hint_does_not_sign_its_user_in(browsers: Callable[..., Browser], client: Registered, hint: str) -> None:
    signed_out = browsers()
    assert asks_to_sign_in(signed_out.authorize(client, id_token_hint=hint))
    page = signed_out.authorize(client, id_token_hint=hint, login_hint="alice")
    assert page.form.fields["username"] == "alice"
    assert signed_out.sign_in(page, password="wrong password").status == 400
    assert signed_out.authorize(client, id_token_hint=hint, prompt="none").answer["error"] == "login_required"


def test_hint_does_not_replace_consent_or_a_new_sign_in(
    site: Site, browser: Browser, client: Registered, hint: str
) -> None:
    update_client(site, client, trusted=False)
    assert "decision" in dict(browser.authorize(client, id_token_hint=hint).form.buttons)
    assert asks_to_sign_in(browser.authorize(client, id_token_hint=hint, prompt="login"))
    assert asks_to_sign_in(browser.authorize(client, id_token_hint=hint, max_age="0"))
    assert browser.authorize(client, id_token_hint=hint, prompt="none").answer["error"] == "consent_required"


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 a")
def test_hint_is_accepted_by_post(browsers: Callable[..., Browser], client: Registered, hint: str) -> None:
    parameters = authorization_parameters(client, state=None, id_token_hint=hint)
    bob = browsers()
    bob.sign_in(bob.authorize(client), "bob")
    page = bob.follow(bob.post("/oauth2/authorize", parameters))
    assert asks_to_sign_in(page)
    assert bob.sign_in(page, "bob").answer["error"] == "login_required"
    assert (
        bob.follow(bob.post("/oauth2/authorize", parameters | {"prompt": "none"})).answer["error"] == "login_required"
    )


def test_direct_sign_in_of_another_user_than_the_hint_is_rejected(
    site: Site, browsers: Callable[..., Browser], client: Registered, hint: str
) -> None:
    update_client(site, client, direct_sign_in=True)
    browser = browsers()
    error = browser.authorize(client, "/oauth2/code", headers=basic("bob", PASSWORD), id_token_hint=hint)
    assert error.answer["error"] == "login_required"
    assert browser.authorize(client, "/oauth2/code", headers=basic("alice", PASSWORD), id_token_hint=hint).code
    assert not any("session" in name for name in browser.cookies)


@pytest.mark.spec("OpenID Connect Core §8.1")
def test_hint_with_a_pairwise_subject_identifies_the_user(
    site: Site, browsers: Callable[..., Browser], client: Registered
) -> None:
    pairwise = site.client(client_name="Pairwise", subject_type="pairwise", trusted=True)
    alice, bob = browsers(), browsers()
    hint = alice.tokens(pairwise)["id_token"]
    bob.sign_in(bob.authorize(pairwise), "bob")
    assert read_claims(hint)["sub"] != next(iter(site.server.store.sessions.scan())).sub
    claims_with_sub = json.dumps({"id_token": {"sub": {"value": read_claims(hint)["sub"]}}})
    for parameters in ({"id_token_hint": hint}, {"claims": claims_with_sub}):
        assert alice.authorize(pairwise, prompt="none", **parameters).code
        assert bob.authorize(pairwise, prompt="none", **parameters).answer["error"] == "login_required"
    public = read_claims(alice.tokens(client)["id_token"])["sub"]
    claims_with_public_sub = json.dumps({"id_token": {"sub": {"value": public}}})
    assert alice.authorize(pairwise, prompt="none", claims=claims_with_public_sub).answer["error"] == "login_required"


def test_hint_signed_with_a_deleted_key_is_login_required(
    site: Site, browser: Browser, client: Registered, hint: str
) -> None:
    """Its signature cannot be verified, so no user matches it. The client can repeat the request without it."""
    keys = site.server.keys
    kid = jwt.get_unverified_header(hint)["kid"]
    document, version = keys.read_document()
    other_keys = [key for key in document["signing"] if key["kid"] != kid]
    new_key = signing.new_entry("RS256", site.clock())
    assert keys.replace_document({**document, "signing": [*other_keys, new_key]}, version)
    try:
        for prompt in ("none", "", "login"):
            assert browser.authorize(client, id_token_hint=hint, prompt=prompt).answer["error"] == "login_required"
        assert browser.authorize(client).code
    finally:
        assert keys.replace_document(document, version + 1)


def test_hint_and_sub_claim_that_differ_are_login_required(browser: Browser, client: Registered, hint: str) -> None:
    parameters = {"id_token_hint": hint, "claims": json.dumps({"id_token": {"sub": {"value": "nobody"}}})}
    assert browser.authorize(client, prompt="none", **parameters).answer["error"] == "login_required"
    assert browser.sign_in(browser.authorize(client, **parameters)).answer["error"] == "login_required"


# ---- invalid hints


def encoded(claims: dict[str, Any]) -> str:
    """Return the payload of a JWT, encoded."""
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()


def forge_hint(site: Site, hint: str, kind: str, other: str, tokens: dict[str, Any]) -> str:
    """Return a token that is not an ID token of this issuer for this client."""
    header, claims = jwt.get_unverified_header(hint), read_claims(hint)
    keys = site.server.keys
    if kind in ("access token", "refresh token"):
        return str(tokens[kind.replace(" ", "_")])
    signed_by_server: dict[str, tuple[dict[str, Any], str]] = {
        "of another client": ({"aud": other}, "JWT"),
        "of several others": ({"aud": [other, "third"]}, "JWT"),
        "of another issuer": ({"iss": "https://other.example.com"}, "JWT"),
        "logout token": ({"events": {}}, "logout+jwt"),
        "without subject": ({"sub": None}, "JWT"),
        "without expiry": ({"exp": None}, "JWT"),
    }
    if kind in signed_by_server:
        changes, typ = signed_by_server[kind]
        changed = {name: value for name, value in (claims | changes).items() if value is not None}
        return keys.sign(changed, typ)
    parts = hint.split(".")
    if kind == "tampered":
        return f"{parts[0]}.{encoded(claims | {'sub': 'bob'})}.{parts[2]}"
    if kind == "by HS256":
        return jwt.encode(claims, "a secret of thirty-two characters", "HS256", {"kid": header["kid"]})
    if kind == "unsigned":
        return jwt.encode(claims, "", "none", {"kid": header["kid"]})
    return {"cut off": hint[:-5], "without signature": ".".join(parts[:2]) + ".", "too long": hint + "A" * 8192}[kind]


@pytest.mark.spec("OpenID Connect Core §3.1.2.2 f")
@pytest.mark.parametrize(
    "kind",
    [
        "access token",
        "refresh token",
        "of another client",
        "of several others",
        "of another issuer",
        "logout token",
        "without subject",
        "without expiry",
        "tampered",
        "by HS256",
        "unsigned",
        "cut off",
        "without signature",
        "too long",
    ],
)
def test_hint_that_is_not_an_id_token_for_this_client_is_an_invalid_request(
    site: Site, browser: Browser, client: Registered, kind: str
) -> None:
    tokens = browser.tokens(client)
    other = site.client(client_name="Other", trusted=True)
    invalid_hint = forge_hint(site, tokens["id_token"], kind, other.id, tokens)
    site.secrets.add(invalid_hint)
    for prompt in ("none", ""):
        answer = browser.authorize(client, id_token_hint=invalid_hint, prompt=prompt)
        assert answer.answer["error"] == "invalid_request"


@pytest.mark.parametrize("changes", [{"code_challenge": None}, {"code_challenge_method": "plain"}, {"claims": "\x01"}])
def test_malformed_request_with_an_unverifiable_hint_is_invalid_request(
    browser: Browser, client: Registered, hint: str, changes: dict[str, Any]
) -> None:
    """Not login_required, which would hide the client's mistake until it repeats the request without the hint."""
    header = json.dumps({**jwt.get_unverified_header(hint), "kid": "unknown"}).encode()
    old_hint = base64.urlsafe_b64encode(header).decode().rstrip("=") + hint[hint.index(".") :]
    assert browser.authorize(client, id_token_hint=old_hint).answer["error"] == "login_required"
    assert browser.authorize(client, id_token_hint=old_hint, **changes).answer["error"] == "invalid_request"
