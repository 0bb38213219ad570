"""POST /oauth2/introspect: token introspection (RFC 7662)."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote_plus

import jwt
import pytest

from chalicelib.protocol.authentication_context import Policy
from chalicelib.tokens.issue import ACCESS_TOKEN_TYPE
from tests.endpoints.introspect.conftest import Setup
from tests.support.browser import Answer, Browser, basic
from tests.support.grants import create_code, update_client
from tests.support.operator import command_runner
from tests.support.resource_servers import API, introspect, register_resource_server
from tests.support.site import Site, dump_tables

pytestmark = pytest.mark.spec("RFC 7662 §2")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
INACTIVE = '{"active":false}'


# ---- active tokens


@pytest.mark.spec("RFC 7662 §2.2 a", "RFC 7662 §2.2 b")
def test_client_introspects_its_access_token(setup: Setup) -> None:
    answer = introspect(setup.browser, setup.client, setup.tokens["access_token"])
    assert answer.status == 200
    assert (answer.header("content-type"), answer.header("cache-control")) == ("application/json", "no-store")
    claims = jwt.decode(setup.tokens["access_token"], options={"verify_signature": False})
    now = setup.site.clock.time
    assert answer.json == {
        "active": True,
        "token_type": "Bearer",
        "scope": "openid photos",
        "client_id": setup.client.id,
        "sub": setup.sub,
        "aud": API,
        "iss": setup.site.settings.issuer,
        "exp": now + 600,
        "iat": now,
        "jti": claims["jti"],
        "auth_time": now - 5,
        "acr": Policy().acr_values[0],
    }


@pytest.mark.spec("RFC 7662 §2.2 a", "RFC 7662 §2.2 b")
def test_client_introspects_its_refresh_token(setup: Setup) -> None:
    answer = introspect(setup.browser, setup.client, setup.tokens["refresh_token"])
    assert answer.json == {
        "active": True,
        "scope": "openid photos",
        "client_id": setup.client.id,
        "sub": setup.sub,
        "iss": setup.site.settings.issuer,
        "exp": setup.site.clock.time + setup.site.settings.refresh_token_lifetime,
        "auth_time": setup.site.clock.time - 5,
        "acr": Policy().acr_values[0],
    }


@pytest.mark.spec("RFC 7662 §4 f", "RFC 7662 §4 h", "RFC 9068 §3")
def test_resource_server_introspects_access_tokens_of_its_audience_only(setup: Setup) -> None:
    token = setup.tokens["access_token"]
    answer = introspect(setup.browser, setup.resource_server, token)
    assert answer.json == introspect(setup.browser, setup.client, token).json
    other = register_resource_server(setup.site, "https://api.example.com/contacts")
    assert introspect(setup.browser, other, token).body == INACTIVE


@pytest.mark.spec(
    "RFC 7662 §2.2 c", "RFC 7662 §2.2 d", "RFC 7662 §2.3", "RFC 7662 §4 f", "RFC 7662 §4 j", "RFC 7662 §5"
)
def test_token_is_inactive_for_another_client(setup: Setup) -> None:
    other = setup.site.client(client_name="Other")
    for name in ("access_token", "refresh_token"):
        answer = introspect(setup.browser, other, setup.tokens[name])
        assert (answer.status, answer.body) == (200, INACTIVE), name
    # A refresh token is for its client only: a resource server must never receive one.
    assert introspect(setup.browser, setup.resource_server, setup.tokens["refresh_token"]).body == INACTIVE


def test_refresh_token_is_inactive_for_another_client_of_an_older_version(setup: Setup) -> None:
    """Records from before there were registration ids do not tell two clients apart by them."""
    other = setup.site.client(client_name="Other")
    for client in (setup.client, other):
        update_client(setup.site, client, registration_id=None)
    (grant,) = setup.site.server.store.grants.scan()
    setup.site.server.store.grants.put(replace(grant, registration_id=None))
    assert introspect(setup.browser, other, setup.tokens["refresh_token"]).body == INACTIVE
    assert introspect(setup.browser, setup.client, setup.tokens["refresh_token"]).json["active"] is True


def test_access_token_for_several_audiences_is_introspected_by_each(setup: Setup) -> None:
    """As an earlier version issued them: they are valid until they expire."""
    token = forged_token(setup, aud=["https://other.example.com", API])
    assert introspect(setup.browser, setup.resource_server, token).json["aud"] == ["https://other.example.com", API]
    token = forged_token(setup, aud=["https://other.example.com"])
    assert introspect(setup.browser, setup.resource_server, token).body == INACTIVE


@pytest.mark.spec("RFC 7662 §2.1 b")
@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "pqc_token", ""])
@pytest.mark.parametrize("name", ["access_token", "refresh_token"])
def test_token_type_hint_is_ignored(setup: Setup, name: str, hint: str) -> None:
    assert introspect(setup.browser, setup.client, setup.tokens[name], token_type_hint=hint).json["active"] is True


def test_introspection_changes_no_record(setup: Setup) -> None:
    before = dump_tables()
    for name in ("access_token", "refresh_token"):
        introspect(setup.browser, setup.client, setup.tokens[name])
    assert dump_tables() == before


# ---- inactive tokens

MakeToken = Callable[[Setup], str]


def forged_token(setup: Setup, **members: Any) -> str:
    """Return the access token signed again with changed claims; None omits a claim."""
    claims = jwt.decode(setup.tokens["access_token"], options={"verify_signature": False}) | members
    present = {name: value for name, value in claims.items() if value is not None}
    return setup.site.server.keys.sign(present, ACCESS_TOKEN_TYPE)


def unsigned_token(setup: Setup) -> str:
    header, claims, _ = setup.tokens["access_token"].split(".")
    members = json.loads(base64.urlsafe_b64decode(header + "==")) | {"alg": "none"}
    return base64.urlsafe_b64encode(json.dumps(members).encode()).rstrip(b"=").decode() + f".{claims}."


def expired_token(setup: Setup, seconds: int, name: str) -> str:
    setup.site.clock.advance(seconds)
    return str(setup.tokens[name])


def revoked_token(setup: Setup, name: str) -> str:
    credentials = basic(setup.client.id, setup.client.secret or "")
    assert setup.browser.post("/oauth2/revoke", {"token": setup.tokens["refresh_token"]}, credentials).status == 200
    return str(setup.tokens[name])


def rotated_refresh_token(setup: Setup) -> str:
    assert setup.browser.refresh(setup.client, setup.tokens["refresh_token"]).status == 200
    return str(setup.tokens["refresh_token"])


def token_of_a_disabled_client(setup: Setup) -> str:
    update_client(setup.site, setup.client, disabled_at=1)
    return str(setup.tokens["access_token"])


def token_of_a_disabled_user(setup: Setup, name: str) -> str:
    user = setup.site.read_user()
    setup.site.server.store.users.put(replace(user, disabled_at=1))
    return str(setup.tokens[name])


def token_of_a_client_without_the_refresh_grant(setup: Setup) -> str:
    update_client(setup.site, setup.client, grant_types=("authorization_code",))
    return str(setup.tokens["refresh_token"])


# Introspected by the client, or by the resource server when the client is disabled.
INACTIVE_TOKENS: dict[str, MakeToken] = {
    "no token format": lambda setup: "garbage",
    "a refresh token that was never issued": lambda setup: setup.site.server.keys.make_handle("rt", "never", 1),
    "a forged refresh token": lambda setup: "rt_" + str(setup.tokens["refresh_token"])[:2:-1],
    "an authorization code": lambda setup: create_code(setup.site, setup.client),
    "an ID token": lambda setup: str(setup.tokens["id_token"]),
    "an access token without signature": unsigned_token,
    "an access token of another issuer": lambda setup: forged_token(setup, iss="https://evil.example"),
    "an access token without issuer": lambda setup: forged_token(setup, iss=None),
    "an access token without audience": lambda setup: forged_token(setup, aud=None),
    "an access token of another grant": lambda setup: forged_token(setup, grant_id="never"),
    "an access token that has just expired": lambda setup: expired_token(setup, 600, "access_token"),
    "a refresh token that has expired": lambda setup: expired_token(setup, 30 * 24 * 3600, "refresh_token"),
    "a revoked access token": lambda setup: revoked_token(setup, "access_token"),
    "a revoked refresh token": lambda setup: revoked_token(setup, "refresh_token"),
    "a rotated refresh token": rotated_refresh_token,
    "an access token of a disabled client": token_of_a_disabled_client,
    "an access token of a disabled user": lambda setup: token_of_a_disabled_user(setup, "access_token"),
    "a refresh token of a disabled user": lambda setup: token_of_a_disabled_user(setup, "refresh_token"),
    "a refresh token of a client without the grant type": token_of_a_client_without_the_refresh_grant,
    "8,192 characters": lambda setup: "x" * 8192,
    "characters that are not ASCII": lambda setup: "é☃",
}


@pytest.mark.spec("RFC 7662 §2.1 c", "RFC 7662 §2.2 c", "RFC 7662 §2.2 d", "RFC 7662 §2.3")
@pytest.mark.spec("RFC 7662 §4 a", "RFC 7662 §4 b", "RFC 7662 §4 d", "RFC 7662 §4 e", "RFC 7662 §4 j")
@pytest.mark.parametrize("what", INACTIVE_TOKENS)
def test_invalid_token_is_inactive_without_further_members(setup: Setup, what: str) -> None:
    token = INACTIVE_TOKENS[what](setup)
    caller = setup.resource_server if what == "an access token of a disabled client" else setup.client
    answer = introspect(setup.browser, caller, token)
    assert (answer.status, answer.body) == (200, INACTIVE)
    assert answer.header("cache-control") == "no-store"


def test_access_token_is_active_until_it_expires(setup: Setup) -> None:
    setup.site.clock.advance(599)
    assert introspect(setup.browser, setup.client, setup.tokens["access_token"]).json["active"] is True


def test_refresh_token_is_active_until_the_absolute_lifetime_ends(setup: Setup) -> None:
    token = setup.tokens["refresh_token"]
    lifetime, step = setup.site.settings.refresh_token_absolute_lifetime, 20 * 24 * 3600
    end = setup.site.clock.time + lifetime
    while setup.site.clock.time + step < end:
        setup.site.clock.advance(step)
        token = setup.browser.refresh(setup.client, token).json["refresh_token"]
    assert introspect(setup.browser, setup.client, token).json["exp"] == end
    setup.site.clock.advance(end - setup.site.clock.time)
    assert introspect(setup.browser, setup.client, token).body == INACTIVE


def test_refresh_token_expires_when_its_session_does(site: Site, browser: Browser) -> None:
    site.user("alice")
    client, sessions = site.client(trusted=True), site.server.store.sessions
    bound, offline = (browser.tokens(client, scope=scope) for scope in ("openid", "openid offline_access"))
    for _ in range(2):
        (session,) = sessions.scan()
        assert introspect(browser, client, bound["refresh_token"]).json["exp"] == session.expires_at
        site.clock.advance(site.settings.session_idle_lifetime // 2)
        bound = browser.refresh(client, bound["refresh_token"]).json
    offline = browser.refresh(client, offline["refresh_token"]).json
    end = site.clock() + site.settings.refresh_token_lifetime
    assert introspect(browser, client, offline["refresh_token"]).json["exp"] == end
    (session,) = sessions.scan()
    sessions.put(replace(session, expires_at=end + 1))
    assert introspect(browser, client, bound["refresh_token"]).json["exp"] == end, "that of the token, if it is earlier"


# ---- authentication and malformed requests

REJECTED_REQUESTS: list[tuple[str, int, str, Callable[[Setup], Answer]]] = [
    (
        "no authentication",
        401,
        "invalid_client",
        lambda setup: introspect(setup.browser, setup.client, setup.tokens["access_token"], {}),
    ),
    (
        "a wrong secret",
        401,
        "invalid_client",
        lambda setup: introspect(
            setup.browser, setup.client, setup.tokens["access_token"], basic(setup.client.id, "wrong")
        ),
    ),
    (
        "another client's secret",
        401,
        "invalid_client",
        lambda setup: introspect(
            setup.browser,
            setup.client,
            setup.tokens["access_token"],
            basic(setup.client.id, setup.resource_server.secret or ""),
        ),
    ),
    (
        "an unknown client",
        401,
        "invalid_client",
        lambda setup: introspect(setup.browser, setup.client, setup.tokens["access_token"], basic("unknown", "x")),
    ),
    (
        "an access token instead",
        401,
        "invalid_client",
        lambda setup: introspect(
            setup.browser,
            setup.client,
            setup.tokens["access_token"],
            {"Authorization": f"Bearer {setup.tokens['access_token']}"},
        ),
    ),
    (
        "the user's password",
        401,
        "invalid_client",
        lambda setup: introspect(
            setup.browser, setup.client, setup.tokens["access_token"], basic("alice", "correct horse battery staple")
        ),
    ),
    (
        "a client_id without its secret",
        401,
        "invalid_client",
        lambda setup: introspect(
            setup.browser, setup.client, setup.tokens["access_token"], {}, client_id=setup.client.id
        ),
    ),
    (
        "two authentication methods",
        400,
        "invalid_request",
        lambda setup: introspect(
            setup.browser,
            setup.client,
            setup.tokens["access_token"],
            client_id=setup.client.id,
            client_secret=setup.client.secret or "",
        ),
    ),
    ("no token", 400, "invalid_request", lambda setup: introspect(setup.browser, setup.client, "")),
    (
        "a token of 16,385 characters",
        400,
        "invalid_request",
        lambda setup: introspect(setup.browser, setup.client, "x" * 16385),
    ),
    (
        "two tokens",
        400,
        "invalid_request",
        lambda setup: setup.browser.request(
            "POST", "/oauth2/introspect", "token=a&token=b", FORM | basic(setup.client.id, setup.client.secret or "")
        ),
    ),
    (
        "a token in the query",
        400,
        "invalid_request",
        lambda setup: setup.browser.post(
            "/oauth2/introspect?token=x", {}, basic(setup.client.id, setup.client.secret or "")
        ),
    ),
    (
        "a body of JSON",
        400,
        "invalid_request",
        lambda setup: setup.browser.request(
            "POST",
            "/oauth2/introspect",
            json.dumps({"token": "x"}),
            {"Content-Type": "application/json", **basic(setup.client.id, setup.client.secret or "")},
        ),
    ),
]


@pytest.mark.spec("RFC 7662 §2.1 a", "RFC 7662 §2.1 d", "RFC 7662 §2.3", "RFC 7662 §4 g", "RFC 6749 §5.2")
@pytest.mark.parametrize(
    ("what", "status", "error", "send"), REJECTED_REQUESTS, ids=[row[0] for row in REJECTED_REQUESTS]
)
def test_unauthenticated_or_malformed_request_is_rejected(
    setup: Setup, what: str, status: int, error: str, send: Callable[[Setup], Answer]
) -> None:
    answer = send(setup)
    assert (answer.status, answer.json["error"]) == (status, error)
    assert "active" not in answer.json
    assert (answer.header("www-authenticate") is not None) == (status == 401)
    assert answer.header("cache-control") == "no-store"


@pytest.mark.spec("RFC 7662 §2.1 d", "RFC 7662 §4 g")
def test_public_client_cannot_introspect_its_own_tokens(site: Site, browser: Browser) -> None:
    public = site.client(public=True)
    tokens = browser.redeem(public, create_code(site, public)).json
    for name in ("access_token", "refresh_token"):
        answer = introspect(browser, public, tokens[name], {}, client_id=public.id)
        assert (answer.status, answer.json["error"]) == (401, "invalid_client")


@pytest.mark.spec("RFC 7662 §2.1")
def test_get_is_not_allowed(setup: Setup) -> None:
    credentials = basic(setup.client.id, setup.client.secret or "")
    answer = setup.browser.get("/oauth2/introspect", credentials, token=setup.tokens["access_token"])
    assert (answer.status, answer.json["error"]) == (405, "method_not_allowed")
    assert "active" not in answer.body


def test_response_has_no_cors_headers(setup: Setup) -> None:
    credentials = basic(setup.client.id, setup.client.secret or "")
    headers = credentials | {"Origin": "https://client.example.com"}
    answer = introspect(setup.browser, setup.client, setup.tokens["access_token"], headers)
    assert answer.header("access-control-allow-origin") is None


# ---- resource servers


@pytest.mark.spec("RFC 6749 §2.3.1")
def test_resource_server_whose_id_has_a_colon_authenticates_by_either_method(setup: Setup) -> None:
    token, server = setup.tokens["access_token"], setup.resource_server
    assert introspect(setup.browser, server, token).json["active"] is True
    posted = introspect(setup.browser, server, token, {}, client_id=server.id, client_secret=server.secret or "")
    assert posted.json["active"] is True


@pytest.mark.parametrize("uri", ["https://api.example.com", "https://api.example.com:8443/a+b%20c/", API])
def test_resource_server_authenticates_without_encoding_its_id(setup: Setup, uri: str) -> None:
    """As `curl -u https://api.example.com:secret` does: the user-id of HTTP Basic would end at the first colon."""
    server = setup.resource_server if uri == API else register_resource_server(setup.site, uri)
    answer = introspect(setup.browser, server, setup.tokens["access_token"], basic(server.id, server.secret or ""))
    assert answer.json["active"] is (uri == API)
    for user_id, password in (
        (server.id, "wrong"),
        (server.id, ""),
        (f"{server.id}/", server.secret or ""),
        ("https", server.secret or ""),
        ("https", "//"),
        ("https", f"//:{server.secret}"),
    ):
        assert introspect(setup.browser, server, "x", basic(user_id, password)).status == 401, user_id


def test_client_with_the_id_https_still_authenticates(setup: Setup) -> None:
    client = setup.site.client(client_id="https", client_secret="a secret//:of its own")
    encoded = basic(client.id, quote_plus(client.secret or ""))
    assert introspect(setup.browser, client, "x", encoded).json == {"active": False}


def test_operator_registers_a_resource_server_with_its_uri_only(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_command = command_runner(monkeypatch, capsys)
    printed = run_command("client", "create", "--id", API, "--name", "Photos", "--json")
    assert printed.code == 0, printed.err
    site.secrets.add(json.loads(printed.out)["client_secret"])
    record = site.server.store.clients.get(API)
    assert record
    assert (record.grant_types, record.response_types, record.redirect_uris) == ((), (), ())
    assert not record.public


@pytest.mark.spec("RFC 6749 §5.2")
def test_resource_server_cannot_request_tokens(setup: Setup) -> None:
    for grant_type in ("authorization_code", "refresh_token", "client_credentials"):
        form = {"grant_type": grant_type, "code": "x", "refresh_token": "x"}
        credentials = basic(quote_plus(setup.resource_server.id), setup.resource_server.secret or "")
        answer = setup.browser.post("/oauth2/token", form, credentials)
        assert answer.json["error"] == "unauthorized_client", grant_type
