"""Introspection responses as signed JWTs (RFC 9701)."""

from typing import Any
from urllib.parse import quote_plus

import jwt
import pytest

from chalicelib.endpoints.introspect import JWT_TYPE
from chalicelib.keys.signing import ALGORITHMS
from chalicelib.protocol.errors import TemporarilyUnavailable
from tests.endpoints.introspect.conftest import Setup
from tests.support.browser import Answer, basic
from tests.support.grants import update_client
from tests.support.resource_servers import introspect, register_resource_server
from tests.support.site import Registered

pytestmark = pytest.mark.spec("RFC 9701 §4", "RFC 9701 §5")
MEDIA_TYPE = f"application/{JWT_TYPE}"


def introspect_signed(
    setup: Setup,
    caller: Registered,
    token: str,
    accept: str = MEDIA_TYPE,
) -> Answer:
    headers = basic(quote_plus(caller.id), quote_plus(caller.secret or "")) | {"Accept": accept}
    return introspect(setup.browser, caller, token, headers)


def verified(setup: Setup, caller: Registered, answer: Answer, alg: str = "RS256") -> dict[str, Any]:
    """Return the claims of a signed response, after every check of the resource server."""
    assert (answer.status, answer.header("content-type")) == (200, MEDIA_TYPE), answer.body
    assert answer.header("cache-control") == "no-store"
    header = jwt.get_unverified_header(answer.body)
    assert (header["typ"], header["alg"]) == (JWT_TYPE, alg)
    key = jwt.PyJWKSet.from_dict(setup.browser.get("/oauth2/jwks").json)[header["kid"]]
    options: Any = {"require": ["iss", "aud", "iat"], "verify_iat": False}
    issuer = setup.site.settings.issuer
    claims: dict[str, Any] = jwt.decode(
        answer.body, key, algorithms=[alg], issuer=issuer, audience=caller.id, options=options
    )
    return claims


@pytest.mark.spec("RFC 9701 §5 a", "RFC 9701 §5 b", "RFC 9701 §5 c", "RFC 9701 §5 d", "RFC 9701 §8.1 a")
@pytest.mark.spec("RFC 9701 §5 e")
def test_response_is_signed_for_the_resource_server(setup: Setup) -> None:
    token = setup.tokens["access_token"]
    plain = introspect(setup.browser, setup.resource_server, token).json
    claims = verified(setup, setup.resource_server, introspect_signed(setup, setup.resource_server, token))
    assert claims == {
        "iss": setup.site.settings.issuer,
        "aud": setup.resource_server.id,
        "iat": setup.site.clock.time,
        "token_introspection": plain,
    }
    assert plain["active"] is True


def test_refresh_token_is_introspected_by_its_client(setup: Setup) -> None:
    token = setup.tokens["refresh_token"]
    claims = verified(setup, setup.client, introspect_signed(setup, setup.client, token))
    assert claims["token_introspection"] == introspect(setup.browser, setup.client, token).json
    assert None not in claims["token_introspection"].values()


@pytest.mark.spec("RFC 9701 §5 f", "RFC 9701 §5 g")
def test_nothing_is_said_about_an_inactive_token(setup: Setup) -> None:
    other = register_resource_server(setup.site, "https://api.example.com/contacts")
    expected = {"active": False}
    for caller, token in (
        (other, setup.tokens["access_token"]),
        (setup.resource_server, setup.tokens["refresh_token"]),
        (setup.client, "unknown"),
        (setup.client, setup.tokens["access_token"][:-4] + "AAAA"),
    ):
        claims = verified(setup, caller, introspect_signed(setup, caller, token))
        assert claims["token_introspection"] == expected
        assert set(claims) == {"iss", "aud", "iat", "token_introspection"}
    setup.site.clock.advance(600)
    answer = introspect_signed(setup, setup.client, setup.tokens["access_token"])
    assert verified(setup, setup.client, answer)["token_introspection"] == expected


@pytest.mark.spec("RFC 9701 §6", "RFC 9701 §7")
@pytest.mark.parametrize("alg", ALGORITHMS)
def test_response_is_signed_with_the_algorithm_of_the_caller(setup: Setup, alg: str) -> None:
    update_client(setup.site, setup.resource_server, introspection_signed_response_alg=alg)
    answer = introspect_signed(setup, setup.resource_server, setup.tokens["access_token"])
    assert verified(setup, setup.resource_server, answer, alg)["token_introspection"]["active"] is True
    metadata = setup.browser.get("/.well-known/openid-configuration").json
    assert alg in metadata["introspection_signing_alg_values_supported"]


JSON = "application/json"
ACCEPTS = [
    (MEDIA_TYPE, True),
    (MEDIA_TYPE.upper(), True),
    (f"{JSON}, {MEDIA_TYPE}", True),
    (f"{MEDIA_TYPE};q=0.5", True),
    (f"{JSON};q=0.5, {MEDIA_TYPE}; q=0.9", True),
    (f"{JSON}, {MEDIA_TYPE};q=0.9", False),
    (f"{MEDIA_TYPE};version=1;q=0.9, {JSON};q=0.5", True),
    (f"{MEDIA_TYPE};version=1", True),
    (f"{MEDIA_TYPE};q=0", False),
    (f"{MEDIA_TYPE};q=x", False),
    (f"{MEDIA_TYPE};q=nan", False),
    (f"{MEDIA_TYPE};q=2", False),
    (f"{MEDIA_TYPE};q = 0", False),
    (f"{MEDIA_TYPE};profile=a;q=0.5;x=1", True),
    (JSON, False),
    ("*/*", False),
    ("application/*", False),
    ("application/jwt", False),
    (",;q=,;", False),
    ("", False),
]


@pytest.mark.spec("RFC 9701 §4 a")
@pytest.mark.parametrize(("accept", "signed"), ACCEPTS)
def test_response_is_signed_where_the_request_prefers_it(setup: Setup, accept: str, signed: bool) -> None:
    update_client(setup.site, setup.client, introspection_signed_response_alg="ES256")
    answer = introspect_signed(setup, setup.client, setup.tokens["access_token"], accept)
    assert answer.status == 200
    assert (answer.header("content-type") == MEDIA_TYPE) is signed
    if not signed:
        assert answer.json["active"] is True


@pytest.mark.spec("RFC 9701 §8.1 b")
def test_signed_response_is_no_token(setup: Setup) -> None:
    answer = introspect_signed(setup, setup.client, setup.tokens["access_token"])
    assert setup.browser.userinfo(answer.body).status == 401
    assert introspect(setup.browser, setup.client, answer.body).json == {"active": False}
    hint = setup.browser.authorize(setup.client, id_token_hint=answer.body)
    assert hint.answer["error"] == "invalid_request"
    claims = jwt.decode(answer.body, options={"verify_signature": False})
    assert not {"sub", "exp", "client_id", "scope"} & set(claims)


def test_errors_are_json(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = basic(setup.client.id, "wrong") | {"Accept": MEDIA_TYPE}
    answer = introspect(setup.browser, setup.client, "x", wrong)
    assert (answer.status, answer.json["error"]) == (401, "invalid_client")

    def fail(*_: Any) -> str:
        raise TemporarilyUnavailable(detail="KMS does not sign")

    monkeypatch.setattr(setup.site.server.keys, "sign", fail)
    answer = introspect_signed(setup, setup.client, setup.tokens["access_token"])
    assert (answer.status, answer.json["error"]) == (503, "temporarily_unavailable")


def test_public_client_gets_no_signed_response_either(setup: Setup) -> None:
    public = setup.site.client(public=True)
    answer = setup.browser.post("/oauth2/introspect", {"token": "x", "client_id": public.id}, {"Accept": MEDIA_TYPE})
    assert (answer.status, answer.json["error"]) == (401, "invalid_client")
