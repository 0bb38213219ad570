"""What OpenID Connect adds to an authorization request: prompt, max_age, hints, wishes, claims; and `resource`."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib import claims_parameter, signing
from chalicelib.claims import ACR_VALUES, SCOPES
from chalicelib.dynamodb import pack, unpack
from chalicelib.errors import InvalidRequest, UnmetAuthenticationRequirements
from chalicelib.models import AuthorizationRequest, Client, Event
from tests.browser import CHALLENGE, Answer, Browser, basic
from tests.shortcut import change
from tests.site import PASSWORD, Registered, Site

HOME = "https://client.example.com/cb"
API = "https://api.example.com/"
(ACR,) = ACR_VALUES
BOTH = ("code", "code id_token")


@pytest.fixture
def client(site: Site) -> Registered:
    """An application of the operator's own, which asks for no consent; alice and bob are known."""
    site.user("alice", claims={"name": "Alice", "email": "alice@example.com", "phone_number": "+1 555"})
    site.user("bob")
    return site.client(trusted=True, response_types=BOTH)


@pytest.fixture
def hint(site: Site, browser: Browser, client: Registered) -> str:
    """An ID token of alice's, who is signed in in `browser`."""
    return str(browser.tokens(client)["id_token"])


def asked_on(site: Site, page: Answer) -> AuthorizationRequest:
    """The request that this page asks the person about."""
    handle = site.server.keys.read_handle("req", page.form.fields["request_uri"])
    assert handle
    request = site.server.store.requests.get(handle.id)
    assert request
    return request


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def is_sign_in(page: Answer) -> bool:
    return page.status == 200 and "password" in page.form.fields


# ---- id_token_hint


@pytest.mark.spec("OpenID Connect Core §3.1.2.2 f", "OpenID Connect Core §3.1.2.2 g")
@pytest.mark.parametrize("age", [0, 601, 90 * 24 * 3600])
def test_a_hint_of_whoever_is_signed_in_is_answered_at_once_whatever_its_age(
    site: Site, browser: Browser, client: Registered, hint: str, age: int
) -> None:
    site.clock.advance(age)
    browser.answer(client, prompt="login")
    assert browser.authorize(client, id_token_hint=hint, prompt="none").code
    assert browser.authorize(client, id_token_hint=hint).code


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 q", "OpenID Connect Core §3.1.2.2 e")
def test_a_hint_of_somebody_else_with_prompt_none_is_login_required(
    browsers: Callable[..., Browser], client: Registered, hint: str
) -> None:
    bob, stranger = browsers(), browsers()
    bob.sign_in(bob.authorize(client), "bob")
    for browser in (bob, stranger):
        for response_type in BOTH:
            answer = browser.authorize(
                client, id_token_hint=hint, prompt="none", response_type=response_type, nonce="n"
            )
            assert answer.answer["error"] == "login_required"
            assert not {"code", "id_token"} & set(answer.answer)
    assert bob.authorize(client, prompt="none").code, "without the hint he is answered"


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 q", "OpenID Connect Core §3.1.2.2 d", "OpenID Connect Core §3.1.2.2 e")
@pytest.mark.parametrize("by", ["id_token_hint", "claims"])
def test_somebody_else_is_asked_to_sign_in_and_refused_if_it_is_another_again(
    site: Site, browsers: Callable[..., Browser], client: Registered, hint: str, by: str
) -> None:
    sub = claims_of(hint)["sub"]
    named = {"id_token_hint": hint, "claims": json.dumps({"id_token": {"sub": {"value": sub}}})}
    browser = browsers()
    browser.sign_in(browser.authorize(client), "bob")
    session = dict(browser.cookies)
    page = browser.authorize(client, **{by: named[by]})
    assert is_sign_in(page)
    refused = browser.sign_in(page, "bob")
    assert refused.answer["error"] == "login_required"
    assert refused.location.startswith(HOME + "?")
    # Nothing has happened: bob is signed in as before, and the page can still be answered by the right one.
    assert browser.cookies == session
    assert browser.authorize(client, prompt="none").code
    answer = browser.sign_in(page, "alice")
    assert claims_of(browser.redeem(client, answer.code).json["id_token"])["sub"] == sub


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 q")
def test_a_hint_is_no_proof_of_a_sign_in(browsers: Callable[..., Browser], client: Registered, hint: str) -> None:
    stranger = browsers()
    assert is_sign_in(stranger.authorize(client, id_token_hint=hint))
    page = stranger.authorize(client, id_token_hint=hint, login_hint="alice")
    assert page.form.fields["username"] == "alice"
    assert stranger.sign_in(page, password="wrong password").status == 400
    assert stranger.authorize(client, id_token_hint=hint, prompt="none").answer["error"] == "login_required"


def test_a_hint_lets_nobody_skip_consent_or_a_new_sign_in(
    site: Site, browser: Browser, client: Registered, hint: str
) -> None:
    change(site, client, trusted=False)
    assert "decision" in dict(browser.authorize(client, id_token_hint=hint).form.buttons)
    assert is_sign_in(browser.authorize(client, id_token_hint=hint, prompt="login"))
    assert is_sign_in(browser.authorize(client, id_token_hint=hint, max_age="0"))
    assert browser.authorize(client, id_token_hint=hint, prompt="none").answer["error"] == "consent_required"


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 a")
def test_a_hint_may_come_by_post(browsers: Callable[..., Browser], client: Registered, hint: str) -> None:
    given = {"response_type": "code", "client_id": client.id, "redirect_uri": HOME, "scope": "openid"}
    given |= {"code_challenge": CHALLENGE, "code_challenge_method": "S256", "id_token_hint": hint}
    bob = browsers()
    bob.sign_in(bob.authorize(client), "bob")
    page = bob.follow(bob.post("/oauth2/authorize", given))
    assert is_sign_in(page)
    assert bob.sign_in(page, "bob").answer["error"] == "login_required"
    assert bob.follow(bob.post("/oauth2/authorize", given | {"prompt": "none"})).answer["error"] == "login_required"


def test_a_direct_sign_in_of_another_than_the_hint_names_is_refused(
    site: Site, browsers: Callable[..., Browser], client: Registered, hint: str
) -> None:
    change(site, client, direct_sign_in=True)
    browser = browsers()
    wrong = browser.authorize(client, "/oauth2/code", headers=basic("bob", PASSWORD), id_token_hint=hint)
    assert wrong.answer["error"] == "login_required"
    assert browser.authorize(client, "/oauth2/code", headers=basic("alice", PASSWORD), id_token_hint=hint).code
    assert not any("session" in name for name in browser.cookies)


@pytest.mark.spec("OpenID Connect Core §8.1")
def test_a_hint_of_a_client_with_pairwise_subjects_names_the_person_too(
    site: Site, browsers: Callable[..., Browser], client: Registered
) -> None:
    pairwise = site.client(client_name="Pairwise", subject_type="pairwise", trusted=True)
    alice, bob = browsers(), browsers()
    hint = alice.tokens(pairwise)["id_token"]
    bob.sign_in(bob.authorize(pairwise), "bob")
    assert claims_of(hint)["sub"] != next(iter(site.server.store.sessions.scan())).sub
    by_name = json.dumps({"id_token": {"sub": {"value": claims_of(hint)["sub"]}}})
    for named in ({"id_token_hint": hint}, {"claims": by_name}):
        assert alice.authorize(pairwise, prompt="none", **named).code
        assert bob.authorize(pairwise, prompt="none", **named).answer["error"] == "login_required"
    public = claims_of(alice.tokens(client)["id_token"])["sub"]
    by_public = json.dumps({"id_token": {"sub": {"value": public}}})
    assert alice.authorize(pairwise, prompt="none", claims=by_public).answer["error"] == "login_required"


def test_a_hint_of_a_retired_key_tells_nothing(site: Site, browser: Browser, client: Registered, hint: str) -> None:
    """It cannot be checked, so nobody can be said to be that person; the client can ask without it."""
    keys = site.server.keys
    kid = jwt.get_unverified_header(hint)["kid"]
    document, version = keys.read_document()
    kept = [key for key in document["signing"] if key["kid"] != kid]
    made = signing.new_entry("RS256", site.clock())
    assert keys.replace_document({**document, "signing": [*kept, made]}, version)
    try:
        for prompt in ("none", "", "login"):
            assert browser.authorize(client, id_token_hint=hint, prompt=prompt).answer["error"] == "login_required"
        assert browser.authorize(client).code
    finally:
        assert keys.replace_document(document, version + 1)


def encoded(claims: dict[str, Any]) -> str:
    """The middle of a JWT."""
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()


def _forged(site: Site, hint: str, kind: str, other: str, tokens: dict[str, Any]) -> str:
    """A token that is no ID token of this client and this issuer."""
    header, claims = jwt.get_unverified_header(hint), claims_of(hint)
    keys = site.server.keys
    if kind in ("access token", "refresh token"):
        return str(tokens[kind.replace(" ", "_")])
    signed_by_us: dict[str, tuple[dict[str, Any], str]] = {
        "of another client": ({"aud": other}, "JWT"),
        "of several others": ({"aud": [other, "third"]}, "JWT"),
        "of another issuer": ({"iss": "https://other.example.com"}, "JWT"),
        "logout token": ({"events": {}}, "logout+jwt"),
        "without subject": ({"sub": None}, "JWT"),
        "without expiry": ({"exp": None}, "JWT"),
    }
    if kind in signed_by_us:
        changes, typ = signed_by_us[kind]
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
def test_what_is_no_id_token_of_this_client_is_no_hint(
    site: Site, browser: Browser, client: Registered, kind: str
) -> None:
    tokens = browser.tokens(client)
    other = site.client(client_name="Other", trusted=True)
    forged = _forged(site, tokens["id_token"], kind, other.id, tokens)
    site.secrets.add(forged)
    for prompt in ("none", ""):
        answer = browser.authorize(client, id_token_hint=forged, prompt=prompt)
        assert answer.answer["error"] == "invalid_request"


# ---- prompt and max_age


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 h", "OpenID Connect Core §3.1.2.1 j", "OpenID Connect Core §3.1.2.1 l")
@pytest.mark.parametrize(
    "prompt", ["login", "select_account", "consent", "login consent", "consent  login", "consent select_account login"]
)
def test_each_prompt_of_several_is_heeded(site: Site, browser: Browser, client: Registered, prompt: str) -> None:
    browser.answer(client)
    site.clock.advance(5)
    answer = browser.authorize(client, prompt=prompt)
    if {"login", "select_account"} & {*prompt.split()}:
        assert is_sign_in(answer)
        answer = browser.sign_in(answer)
    if "consent" in prompt:
        assert ("decision", "allow_once") in answer.form.buttons
        answer = browser.submit(answer, decision="allow_once")
    claims = claims_of(browser.redeem(client, answer.code).json["id_token"])
    assert claims["auth_time"] == site.clock() - (5 if prompt == "consent" else 0)


@pytest.mark.spec("OpenID Connect Core §3.1.2.3 c")
@pytest.mark.parametrize(
    "prompt", ["none login", "none consent", "select_account none", "login none consent", "none create"]
)
def test_none_goes_with_no_other_prompt(browser: Browser, client: Registered, prompt: str) -> None:
    for further in ({}, {"response_type": "code id_token", "nonce": "n"}):
        assert browser.authorize(client, prompt=prompt, **further).answer["error"] == "invalid_request"


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 n", "OpenID Connect Core §3.1.2.1 o")
@pytest.mark.parametrize(
    ("max_age", "later", "asked"), [(0, 0, True), (1, 1, False), (1, 2, True), (10000, 9999, False)]
)
def test_who_signed_in_longer_ago_than_max_age_signs_in_again(
    site: Site, browser: Browser, client: Registered, max_age: int, later: int, asked: bool
) -> None:
    browser.answer(client)
    site.clock.advance(later)
    answer = browser.authorize(client, max_age=str(max_age))
    assert is_sign_in(answer) is asked
    silent = browser.authorize(client, max_age=str(max_age), prompt="none").answer
    assert silent.get("error") == ("login_required" if asked else None)
    answer = browser.sign_in(answer) if asked else answer
    claims = claims_of(browser.redeem(client, answer.code).json["id_token"])
    assert claims["auth_time"] == site.clock() - (0 if asked else later)


# ---- wishes


@pytest.mark.spec("OpenID Connect Core §3.1.2.1 p", "OpenID Connect Core §5.2 d", "OpenID Connect Core §3.1.2.2 h")
@pytest.mark.parametrize(
    ("wish", "kept"),
    [
        ({"display": "page"}, {}),
        ({"display": "popup"}, {}),
        ({"display": "touch"}, {}),
        ({"display": "wap"}, {}),
        ({"display": "hologram"}, {}),
        ({"ui_locales": "fr-CA fr en"}, {"ui_locales": ("fr-CA", "fr", "en")}),
        ({"ui_locales": "tlh x!y en"}, {"ui_locales": ("tlh", "en")}),
        ({"ui_locales": "<script> {{7*7}} \u202e"}, {"ui_locales": ()}),
        ({"ui_locales": " ".join(["de"] * 200)}, {"ui_locales": ("de",) * 10}),
        ({"claims_locales": "de ja-Kana-JP"}, {}),
        ({"acr_values": f"urn:mace:incommon:iap:silver {ACR}"}, {"acr_values": ("urn:mace:incommon:iap:silver", ACR)}),
        ({"acr_values": "2"}, {"acr_values": ("2",)}),
        ({"login_hint": "buffy@example.com"}, {"login_hint": "buffy@example.com"}),
        ({"nobody_knows_this": "x", "extra[]": "y"}, {}),
    ],
    ids=repr,
)
def test_a_wish_is_no_error(
    site: Site, browser: Browser, client: Registered, wish: dict[str, str], kept: dict[str, Any]
) -> None:
    page = browser.authorize(client, **wish)
    assert is_sign_in(page)
    for name, value in kept.items():
        assert getattr(asked_on(site, page), name) == value
    answer = browser.sign_in(page)
    claims = claims_of(browser.redeem(client, answer.code).json["id_token"])
    assert claims["acr"] == ACR, "what it was, whatever was wished for"


# ---- claims


@pytest.mark.spec("OpenID Connect Core §5.5 b", "OpenID Connect Core §5.5.1 a", "OpenID Connect Core §5.5.1 c")
@pytest.mark.parametrize(
    ("asked", "userinfo", "id_token"),
    [
        ({"userinfo": {"name": {"essential": True}}}, {"name"}, set()),
        ({"userinfo": {"name": None, "email": None}}, {"name", "email"}, set()),
        ({"userinfo": {"email": {"value": "another@example.com"}}}, {"email"}, set()),
        ({"userinfo": {"email": {"values": ["a", 1, None], "essential": False, "purpose": "ads"}}}, {"email"}, set()),
        ({"id_token": {"email": None}}, set(), {"email"}),
        ({"id_token": {"name": None}, "userinfo": {"email": None}}, {"email"}, {"name"}),
        ({"id_token": {"auth_time": {"essential": True}}}, set(), set()),
        ({"id_token": {"nickname": {"essential": True}}}, set(), set()),  # essential, and she has none
        ({"userinfo": {"phone_number": {"essential": True}}}, set(), set()),  # the client is not registered for it
        ({"userinfo": {"password_hash": None, "sub": None, "": None, "name#fr": None}}, set(), set()),
        ({"userinfo": {}, "id_token": {}, "banana": {"x": [1]}}, set(), set()),
        ({"banana": 7}, set(), set()),
        ({}, set(), set()),
    ],
    ids=repr,
)
def test_claims_are_released_as_they_are_asked_for(
    site: Site, browser: Browser, client: Registered, asked: Any, userinfo: set[str], id_token: set[str]
) -> None:
    tokens = browser.tokens(client, claims=json.dumps(asked), nonce="n")
    told = set(browser.userinfo(tokens["access_token"]).json)
    assert told == {"sub"} | userinfo
    protocol = {"iss", "sub", "aud", "exp", "iat", "auth_time", "amr", "acr", "sid", "nonce", "at_hash"}
    assert set(claims_of(tokens["id_token"])) == protocol | id_token


@pytest.mark.spec("OpenID Connect Core §3.1.2.4")
def test_the_person_is_asked_about_each_claim_that_no_scope_covers(
    site: Site, browser: Browser, client: Registered
) -> None:
    asks = change(site, client, trusted=False)
    email = json.dumps({"userinfo": {"email": None}})
    page = browser.sign_in(browser.authorize(client, claims=email))
    assert "See your e-mail address" in page.body
    browser.submit(page, decision="allow_always")
    assert browser.authorize(client, claims=email, prompt="none").code, "remembered"
    assert browser.authorize(client, prompt="none").code
    more = json.dumps({"userinfo": {"email": None}, "id_token": {"name": None}})
    assert browser.authorize(client, claims=more, prompt="none").answer["error"] == "consent_required"
    page = browser.authorize(client, claims=more)
    assert "See your name" in page.body
    # One claim of a scope is not the scope.
    assert browser.authorize(client, scope="openid email", prompt="none").answer["error"] == "consent_required"
    browser.answer(client, "allow_always", scope="openid profile")
    assert browser.authorize(client, claims=more, prompt="none").code, "covered by the scope that is remembered"
    assert asks.client_id == client.id


def test_what_is_remembered_of_one_claim_holds_for_no_other(site: Site, browser: Browser, client: Registered) -> None:
    change(site, client, trusted=False)
    name = json.dumps({"id_token": {"given_name": None}})
    browser.answer(client, "allow_always", claims=name)
    (consent,) = site.server.store.consents.scan()
    assert consent.scope == {"openid"}
    assert consent.claims == {"given_name"}
    other = json.dumps({"id_token": {"birthdate": None}})
    assert browser.authorize(client, claims=other, prompt="none").answer["error"] == "consent_required"


@pytest.mark.spec("OpenID Connect Core §5.5.1 b", "OpenID Connect Core §3.1.2.2 d")
@pytest.mark.parametrize("member", ["id_token", "userinfo"])
def test_a_sub_that_is_asked_for_is_that_of_the_person(
    browser: Browser, client: Registered, hint: str, member: str
) -> None:
    sub = claims_of(hint)["sub"]
    for how, right in (
        ({"value": sub}, True),
        ({"values": ["nobody", sub]}, True),
        ({"essential": True, "value": sub}, True),
        ({"value": "nobody"}, False),
        ({"values": ["nobody", "else"]}, False),
        ({"value": sub.lower() + "x"}, False),
        (None, True),
        ({"essential": True}, True),
        ({"values": []}, True),
    ):
        answer = browser.authorize(client, prompt="none", claims=json.dumps({member: {"sub": how}})).answer
        assert ("code" in answer) is right, how
        assert answer.get("error") == (None if right else "login_required"), how


def test_a_hint_and_a_sub_that_differ_fit_nobody(browser: Browser, client: Registered, hint: str) -> None:
    asked = {"id_token_hint": hint, "claims": json.dumps({"id_token": {"sub": {"value": "nobody"}}})}
    assert browser.authorize(client, prompt="none", **asked).answer["error"] == "login_required"
    assert browser.sign_in(browser.authorize(client, **asked)).answer["error"] == "login_required"


@pytest.mark.spec("OpenID Connect Core §5.5.1.1 a", "OpenID Connect Core §5.5.1.1 b", "OpenID Connect Core §5.5.1.1 c")
@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"essential": True, "values": ["2", ACR]}, None),
        ({"essential": True, "value": ACR}, None),
        ({"essential": True}, None),
        ({"values": ["2"]}, None),
        ({"value": "2", "essential": False}, None),
        (None, None),
        ({"essential": True, "values": ["2"]}, "unmet_authentication_requirements"),
        ({"essential": True, "value": "2"}, "unmet_authentication_requirements"),
        ({"essential": True, "value": 1}, "unmet_authentication_requirements"),
        ({"essential": True, "values": [[ACR], {"a": ACR}, None]}, "unmet_authentication_requirements"),
    ],
    ids=repr,
)
def test_an_essential_acr_is_one_of_those_asked_for_or_an_error(
    browser: Browser, client: Registered, how: Any, error: str | None
) -> None:
    browser.answer(client)
    asked = json.dumps({"id_token": {"acr": how}})
    for prompt in ("none", ""):
        answer = browser.authorize(client, claims=asked, prompt=prompt)
        assert answer.answer.get("error") == error
        if error is None:
            assert claims_of(browser.redeem(client, answer.code).json["id_token"])["acr"] == ACR


def test_claims_may_come_by_post_and_of_8192_characters(browser: Browser, client: Registered) -> None:
    browser.answer(client)
    given = {"response_type": "code", "client_id": client.id, "redirect_uri": HOME, "scope": "openid"}
    given |= {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}
    text = json.dumps({"userinfo": {"email": None}, "padding": ""})
    longest = text.replace('""', '"' + "x" * (8192 - len(text)) + '"')
    assert len(longest) == 8192
    answer = browser.follow(browser.post("/oauth2/authorize", given | {"claims": longest}))
    assert browser.userinfo(browser.redeem(client, answer.code).json["access_token"]).json["email"]
    answer = browser.post("/oauth2/authorize", given | {"claims": longest + " "})
    assert answer.answer["error"] == "invalid_request"


def test_claims_of_every_request_are_kept_small(site: Site, browser: Browser, client: Registered) -> None:
    """Whatever is not needed later is not stored: a grant is written many times."""
    asked = {"userinfo": {f"claim {n}": {"values": ["x" * 50]} for n in range(80)} | {"email": {"value": "x" * 1000}}}
    browser.answer(client, claims=json.dumps(asked))
    (grant,) = site.server.store.grants.scan()
    assert grant.claims == {"userinfo": {"email": {}}}


# ---- resource (RFC 8707)


@pytest.fixture
def api(site: Site) -> Registered:
    """A resource server, registered under its URI."""
    return resource_server(site, API)


def resource_server(site: Site, uri: str) -> Registered:
    members: dict[str, Any] = {"grant_types": (), "response_types": (), "redirect_uris": []}
    return site.client(client_id=uri, client_name="API", **members)


@pytest.mark.spec("RFC 8707 §2")
def test_resources_are_kept_with_the_request_and_the_grant(
    site: Site, browser: Browser, client: Registered, api: Registered
) -> None:
    second = resource_server(site, "https://second.example.com/v1?x=y")
    for resources in ([API], [API, second.id], [second.id, API, API], [site.settings.issuer, API], [API, ""]):
        page = browser.request("GET", authorization(client, resources))
        kept = {*resources} - {""}
        assert asked_on(site, page).resource == kept
        answer = browser.sign_in(page)
        grant_id = site.server.keys.read_handle("code", answer.code)
        assert grant_id
        grant = site.server.store.grants.get(grant_id.id)
        assert grant
        assert grant.resource == kept
        browser.cookies.clear()
    assert browser.authorize(client).status == 200
    assert any(request.resource == frozenset() for request in site.server.store.requests.scan())


def authorization(client: Registered, resources: list[str]) -> str:
    from urllib.parse import urlencode

    given: dict[str, Any] = {"response_type": "code", "client_id": client.id, "redirect_uri": HOME, "scope": "openid"}
    given |= {"code_challenge": CHALLENGE, "code_challenge_method": "S256", "resource": resources}
    return "/oauth2/authorize?" + urlencode(given, doseq=True)


@pytest.mark.spec("RFC 8707 §2")
def test_a_resource_that_is_not_registered_is_an_invalid_target(
    site: Site, browser: Browser, client: Registered, api: Registered
) -> None:
    for wrong in (API[:-1], API + "v1", API.upper(), API + "#", API + "#top", "urn:api", client.id, "https:"):
        for resources in ([wrong], [API, wrong]):
            assert browser.request("GET", authorization(client, resources)).answer["error"] == "invalid_target", wrong
    site.server.store.clients.put(replace(api.record, disabled_at=1))
    site.clock.advance(60)
    assert browser.request("GET", authorization(client, [API])).answer["error"] == "invalid_target"


def test_a_resource_server_is_read_once_a_minute(
    site: Site, browser: Browser, client: Registered, api: Registered, caplog: pytest.LogCaptureFixture
) -> None:
    site.server.client(client.id)
    for expected in (1, 0):
        caplog.clear()
        browser.authorize(client, resource=API, prompt="none")
        assert json.loads(caplog.records[-1].getMessage())["dynamodb_calls"] == expected


# ---- what is noted


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the last request noted, and nothing else."""
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name.startswith("signet")]
    noted: list[str] = lines[-1].get("events", [])
    caplog.clear()
    return noted


def kept(site: Site) -> list[tuple[str, str | None]]:
    """What the person can see of what was decided."""
    shown: list[Event] = [event for event in site.server.store.events.scan() if event.name.startswith("consent")]
    return sorted((event.name, event.client_name) for event in shown)


def test_consent_is_noted_when_it_was_asked_for_and_the_code_always(
    site: Site, browser: Browser, client: Registered, caplog: pytest.LogCaptureFixture
) -> None:
    change(site, client, trusted=False)
    page = browser.sign_in(browser.authorize(client))
    assert "consent_given" not in events(caplog)
    browser.submit(page, decision="allow_always")
    assert events(caplog) == ["consent_given", "code_issued"]
    assert kept(site) == [("consent_given", "Photo Print")]
    browser.authorize(client)
    assert events(caplog) == ["code_issued"]
    assert kept(site) == [("consent_given", "Photo Print")], "not at each silent code"
    page = browser.authorize(client, prompt="consent")
    browser.submit(page, decision="deny")
    assert events(caplog) == ["consent_denied"]
    assert kept(site) == [("consent_denied", "Photo Print"), ("consent_given", "Photo Print")]
    again = browser.submit(page, decision="deny")
    assert again.status == 400
    assert events(caplog) == []
    assert len(kept(site)) == 2, "a second time nothing is decided"
    again = browser.submit(page, decision="allow_once")
    assert again.status == 400
    assert len(kept(site)) == 2


# ---- anything at all

JSON_ = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([ACR, "sub", "\ud800", ""]),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["value", "values", "essential"]) | st.text(), inner)
    ),
    max_leaves=8,
)
CLAIMS = st.dictionaries(st.sampled_from(["sub", "acr", "email", "name", "x"]) | st.text(), JSON_)
CLAIMS_OF_SCOPES = {name for scope in ("profile", "email") for name in SCOPES[scope][1]}
OBJECT = st.dictionaries(st.sampled_from(["userinfo", "id_token", "x"]), CLAIMS | JSON_)


@settings(deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(text=(OBJECT | JSON_).map(json.dumps) | st.text())
def test_whatever_the_claims_are_they_are_refused_or_can_be_stored(text: str) -> None:
    registered = Client("c", "C", (HOME,), scope="openid email profile")
    try:
        kept = claims_parameter.read(text, registered)
    except (InvalidRequest, UnmetAuthenticationRequirements):
        return
    request = AuthorizationRequest("r", "c", HOME, 1, 1, claims=kept)
    assert unpack(json.loads(json.dumps(pack({"claims": kept})))) == {"claims": kept}
    assert claims_parameter.fits(request, "somebody") in (True, False)
    for names in kept.values():
        assert set(names) <= {"sub", *CLAIMS_OF_SCOPES}
