"""POST /oauth2/introspect: what a token is good for, told to those whom it concerns (RFC 7662)."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

import jwt
import pytest

from chalicelib.tokens import ACCESS_TOKEN_TYPE
from tests.browser import Answer, Browser, basic
from tests.operator import operator
from tests.shortcut import change, code_of
from tests.site import Registered, Site, dump

pytestmark = pytest.mark.spec("RFC 7662 §2")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
API = "https://api.example.com/photos"
INACTIVE = '{"active":false}'


def introspect(
    browser: Browser, caller: Registered, token: str, headers: dict[str, str] | None = None, **more: str
) -> Answer:
    """The caller authenticates with HTTP Basic, its id form-encoded (RFC 6749 section 2.3.1)."""
    credentials = basic(quote_plus(caller.id), quote_plus(caller.secret or ""))
    return browser.post("/oauth2/introspect", {"token": token, **more}, credentials if headers is None else headers)


def api(site: Site, uri: str = API) -> Registered:
    """A resource server, under its own URI."""
    return site.client(client_id=uri, client_name="Photos", redirect_uris=(), grant_types=(), response_types=())


@dataclass
class Ground:
    """A client and its tokens, which are meant for the API and for UserInfo."""

    site: Site
    browser: Browser
    client: Registered
    api: Registered
    tokens: dict[str, Any]
    sub: str


@pytest.fixture
def ground(site: Site, browser: Browser) -> Ground:
    client, alice = site.client(scope="openid email photos"), site.user()
    resource_server = api(site)
    code = code_of(site, client, alice, scope=frozenset({"openid", "photos"}), resource=frozenset({API}))
    return Ground(site, browser, client, resource_server, browser.redeem(client, code).json, alice.sub)


# ---- who learns what


@pytest.mark.spec("RFC 7662 §2.2 a", "RFC 7662 §2.2 b")
def test_its_client_learns_what_an_access_token_is_good_for(ground: Ground) -> None:
    answer = introspect(ground.browser, ground.client, ground.tokens["access_token"])
    assert answer.status == 200
    assert (answer.header("content-type"), answer.header("cache-control")) == ("application/json", "no-store")
    known = jwt.decode(ground.tokens["access_token"], options={"verify_signature": False})
    now = ground.site.clock.time
    assert answer.json == {
        "active": True,
        "token_type": "Bearer",
        "scope": "openid photos",
        "client_id": ground.client.id,
        "sub": ground.sub,
        "aud": sorted([API, ground.site.settings.issuer]),
        "iss": ground.site.settings.issuer,
        "exp": now + 600,
        "iat": now,
        "jti": known["jti"],
        "auth_time": now - 5,
    }


@pytest.mark.spec("RFC 7662 §2.2 a", "RFC 7662 §2.2 b")
def test_its_client_learns_what_a_refresh_token_is_good_for(ground: Ground) -> None:
    answer = introspect(ground.browser, ground.client, ground.tokens["refresh_token"])
    assert answer.json == {
        "active": True,
        "scope": "openid photos",
        "client_id": ground.client.id,
        "sub": ground.sub,
        "iss": ground.site.settings.issuer,
        "exp": ground.site.clock.time + ground.site.settings.refresh_token_lifetime,
        "auth_time": ground.site.clock.time - 5,
    }


@pytest.mark.spec("RFC 7662 §4 f", "RFC 7662 §4 h", "RFC 9068 §3")
def test_a_resource_server_learns_of_the_access_tokens_that_are_meant_for_it(ground: Ground) -> None:
    token = ground.tokens["access_token"]
    mine = introspect(ground.browser, ground.api, token)
    assert mine.json == introspect(ground.browser, ground.client, token).json
    other = api(ground.site, "https://api.example.com/contacts")
    assert introspect(ground.browser, other, token).body == INACTIVE


@pytest.mark.spec(
    "RFC 7662 §2.2 c", "RFC 7662 §2.2 d", "RFC 7662 §2.3", "RFC 7662 §4 f", "RFC 7662 §4 j", "RFC 7662 §5"
)
def test_nobody_else_learns_anything(ground: Ground) -> None:
    other = ground.site.client(client_name="Other")
    for name in ("access_token", "refresh_token"):
        answer = introspect(ground.browser, other, ground.tokens[name])
        assert (answer.status, answer.body) == (200, INACTIVE), name
    # A refresh token is for its client alone: no resource server should ever see one.
    assert introspect(ground.browser, ground.api, ground.tokens["refresh_token"]).body == INACTIVE


@pytest.mark.spec("RFC 7662 §2.1 b")
@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "pqc_token", ""])
@pytest.mark.parametrize("name", ["access_token", "refresh_token"])
def test_a_hint_changes_nothing(ground: Ground, name: str, hint: str) -> None:
    assert introspect(ground.browser, ground.client, ground.tokens[name], token_type_hint=hint).json["active"] is True


def test_asking_changes_nothing(ground: Ground) -> None:
    before = dump()
    for name in ("access_token", "refresh_token"):
        introspect(ground.browser, ground.client, ground.tokens[name])
    assert dump() == before


# ---- what is not active

Spoil = Callable[[Ground], str]


def _forged(ground: Ground, **members: Any) -> str:
    """An access token of ours but for these claims; None leaves one out."""
    claims = jwt.decode(ground.tokens["access_token"], options={"verify_signature": False}) | members
    present = {name: value for name, value in claims.items() if value is not None}
    return ground.site.server.keys.sign(present, ACCESS_TOKEN_TYPE)


def _unsigned(ground: Ground) -> str:
    header, claims, _ = ground.tokens["access_token"].split(".")
    members = json.loads(base64.urlsafe_b64decode(header + "==")) | {"alg": "none"}
    return base64.urlsafe_b64encode(json.dumps(members).encode()).rstrip(b"=").decode() + f".{claims}."


def _after(ground: Ground, seconds: int, name: str) -> str:
    ground.site.clock.advance(seconds)
    return str(ground.tokens[name])


def _revoked(ground: Ground, name: str) -> str:
    credentials = basic(ground.client.id, ground.client.secret or "")
    assert ground.browser.post("/oauth2/revoke", {"token": ground.tokens["refresh_token"]}, credentials).status == 200
    return str(ground.tokens[name])


def _replaced(ground: Ground) -> str:
    assert ground.browser.refresh(ground.client, ground.tokens["refresh_token"]).status == 200
    return str(ground.tokens["refresh_token"])


def _client_disabled(ground: Ground) -> str:
    change(ground.site, ground.client, disabled_at=1)
    return str(ground.tokens["access_token"])


def _client_without_refresh_tokens(ground: Ground) -> str:
    change(ground.site, ground.client, grant_types=("authorization_code",))
    return str(ground.tokens["refresh_token"])


# With who asks: the client itself, unless it is the resource server.
SPOILT: dict[str, Spoil] = {
    "a word": lambda ground: "garbage",
    "a refresh token that was never issued": lambda ground: ground.site.server.keys.make_handle("rt", "never", 1),
    "a forged refresh token": lambda ground: "rt_" + str(ground.tokens["refresh_token"])[:2:-1],
    "a code": lambda ground: code_of(ground.site, ground.client),
    "an ID token": lambda ground: str(ground.tokens["id_token"]),
    "an access token without signature": _unsigned,
    "an access token of another issuer": lambda ground: _forged(ground, iss="https://evil.example"),
    "an access token without issuer": lambda ground: _forged(ground, iss=None),
    "an access token without audience": lambda ground: _forged(ground, aud=None),
    "an access token of another grant": lambda ground: _forged(ground, grant_id="never"),
    "an access token that has just expired": lambda ground: _after(ground, 600, "access_token"),
    "a refresh token that has expired": lambda ground: _after(ground, 30 * 24 * 3600, "refresh_token"),
    "a revoked access token": lambda ground: _revoked(ground, "access_token"),
    "a revoked refresh token": lambda ground: _revoked(ground, "refresh_token"),
    "a refresh token that was replaced": _replaced,
    "one of a disabled client": _client_disabled,
    "a refresh token of a client that gets none any more": _client_without_refresh_tokens,
    "8,192 characters": lambda ground: "x" * 8192,
    "what is not ASCII": lambda ground: "é☃",
}


@pytest.mark.spec("RFC 7662 §2.1 c", "RFC 7662 §2.2 c", "RFC 7662 §2.2 d", "RFC 7662 §2.3")
@pytest.mark.spec("RFC 7662 §4 a", "RFC 7662 §4 b", "RFC 7662 §4 d", "RFC 7662 §4 e", "RFC 7662 §4 j")
@pytest.mark.parametrize("what", SPOILT)
def test_it_is_not_active_and_nothing_more_is_said(ground: Ground, what: str) -> None:
    token = SPOILT[what](ground)
    caller = ground.api if what == "one of a disabled client" else ground.client
    answer = introspect(ground.browser, caller, token)
    assert (answer.status, answer.body) == (200, INACTIVE)
    assert answer.header("cache-control") == "no-store"


def test_an_access_token_is_active_to_its_last_second(ground: Ground) -> None:
    ground.site.clock.advance(599)
    assert introspect(ground.browser, ground.client, ground.tokens["access_token"]).json["active"] is True


def test_a_refresh_token_is_active_no_longer_than_all_refreshing(ground: Ground) -> None:
    token = ground.tokens["refresh_token"]
    longest, step = ground.site.settings.refresh_token_absolute_lifetime, 20 * 24 * 3600
    end = ground.site.clock.time + longest
    while ground.site.clock.time + step < end:
        ground.site.clock.advance(step)
        token = ground.browser.refresh(ground.client, token).json["refresh_token"]
    assert introspect(ground.browser, ground.client, token).json["exp"] == end
    ground.site.clock.advance(end - ground.site.clock.time)
    assert introspect(ground.browser, ground.client, token).body == INACTIVE


# ---- who may ask

REFUSED: list[tuple[str, int, str, Callable[[Ground], Answer]]] = [
    (
        "no authentication",
        401,
        "invalid_client",
        lambda g: introspect(g.browser, g.client, g.tokens["access_token"], {}),
    ),
    (
        "a wrong secret",
        401,
        "invalid_client",
        lambda g: introspect(g.browser, g.client, g.tokens["access_token"], basic(g.client.id, "wrong")),
    ),
    (
        "another client's secret",
        401,
        "invalid_client",
        lambda g: introspect(g.browser, g.client, g.tokens["access_token"], basic(g.client.id, g.api.secret or "")),
    ),
    (
        "an unknown client",
        401,
        "invalid_client",
        lambda g: introspect(g.browser, g.client, g.tokens["access_token"], basic("nobody", "x")),
    ),
    (
        "an access token instead",
        401,
        "invalid_client",
        lambda g: introspect(
            g.browser, g.client, g.tokens["access_token"], {"Authorization": f"Bearer {g.tokens['access_token']}"}
        ),
    ),
    (
        "the person's password",
        401,
        "invalid_client",
        lambda g: introspect(
            g.browser, g.client, g.tokens["access_token"], basic("alice", "correct horse battery staple")
        ),
    ),
    (
        "a client_id without its secret",
        401,
        "invalid_client",
        lambda g: introspect(g.browser, g.client, g.tokens["access_token"], {}, client_id=g.client.id),
    ),
    (
        "two ways at once",
        400,
        "invalid_request",
        lambda g: introspect(
            g.browser, g.client, g.tokens["access_token"], client_id=g.client.id, client_secret=g.client.secret or ""
        ),
    ),
    ("no token", 400, "invalid_request", lambda g: introspect(g.browser, g.client, "")),
    ("a token of 8,193 characters", 400, "invalid_request", lambda g: introspect(g.browser, g.client, "x" * 8193)),
    (
        "two tokens",
        400,
        "invalid_request",
        lambda g: g.browser.request(
            "POST", "/oauth2/introspect", "token=a&token=b", FORM | basic(g.client.id, g.client.secret or "")
        ),
    ),
    (
        "a token in the query",
        400,
        "invalid_request",
        lambda g: g.browser.post("/oauth2/introspect?token=x", {}, basic(g.client.id, g.client.secret or "")),
    ),
    (
        "a body of JSON",
        400,
        "invalid_request",
        lambda g: g.browser.request(
            "POST",
            "/oauth2/introspect",
            json.dumps({"token": "x"}),
            {"Content-Type": "application/json", **basic(g.client.id, g.client.secret or "")},
        ),
    ),
]


@pytest.mark.spec("RFC 7662 §2.1 a", "RFC 7662 §2.1 d", "RFC 7662 §2.3", "RFC 7662 §4 g", "RFC 6749 §5.2")
@pytest.mark.parametrize(("what", "status", "error", "ask"), REFUSED, ids=[row[0] for row in REFUSED])
def test_who_does_not_prove_who_they_are_is_told_nothing(
    ground: Ground, what: str, status: int, error: str, ask: Callable[[Ground], Answer]
) -> None:
    answer = ask(ground)
    assert (answer.status, answer.json["error"]) == (status, error)
    assert "active" not in answer.json
    assert (answer.header("www-authenticate") is not None) == (status == 401)
    assert answer.header("cache-control") == "no-store"


@pytest.mark.spec("RFC 7662 §2.1 d", "RFC 7662 §4 g")
def test_a_public_client_may_not_ask_even_of_its_own(site: Site, browser: Browser) -> None:
    public = site.client(public=True)
    tokens = browser.redeem(public, code_of(site, public)).json
    for name in ("access_token", "refresh_token"):
        answer = introspect(browser, public, tokens[name], {}, client_id=public.id)
        assert (answer.status, answer.json["error"]) == (401, "invalid_client")


@pytest.mark.spec("RFC 7662 §2.1")
def test_it_is_asked_by_post_only(ground: Ground) -> None:
    credentials = basic(ground.client.id, ground.client.secret or "")
    answer = ground.browser.get("/oauth2/introspect", credentials, token=ground.tokens["access_token"])
    assert (answer.status, answer.json["error"]) == (405, "method_not_allowed")
    assert "active" not in answer.body


def test_no_page_of_another_origin_may_read_the_answer(ground: Ground) -> None:
    credentials = basic(ground.client.id, ground.client.secret or "")
    headers = credentials | {"Origin": "https://client.example.com"}
    answer = introspect(ground.browser, ground.client, ground.tokens["access_token"], headers)
    assert answer.header("access-control-allow-origin") is None


# ---- resource servers


@pytest.mark.spec("RFC 6749 §2.3.1")
def test_a_resource_server_authenticates_in_either_way_though_its_id_has_a_colon(ground: Ground) -> None:
    token, server = ground.tokens["access_token"], ground.api
    assert introspect(ground.browser, server, token).json["active"] is True
    posted = introspect(ground.browser, server, token, {}, client_id=server.id, client_secret=server.secret or "")
    assert posted.json["active"] is True
    # Who does not encode is taken at their word: the user-id of HTTP Basic ends at the first colon.
    assert introspect(ground.browser, server, token, basic(server.id, server.secret or "")).status == 401


def test_the_operator_registers_a_resource_server_by_its_uri_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    operate = operator(monkeypatch, capsys)
    printed = operate("client", "create", "--id", API, "--name", "Photos", "--json")
    assert printed.code == 0, printed.err
    made = json.loads(printed.out)
    site.secrets.add(made["client_secret"])
    record = site.server.store.clients.get(API)
    assert record
    assert (record.grant_types, record.response_types, record.redirect_uris) == ((), (), ())
    assert not record.public


@pytest.mark.spec("RFC 6749 §5.2")
def test_a_resource_server_gets_no_tokens(ground: Ground) -> None:
    for grant_type in ("authorization_code", "refresh_token", "client_credentials"):
        form = {"grant_type": grant_type, "code": "x", "refresh_token": "x"}
        credentials = basic(quote_plus(ground.api.id), ground.api.secret or "")
        answer = ground.browser.post("/oauth2/token", form, credentials)
        assert answer.json["error"] == "unauthorized_client", grant_type
