"""The checks of request objects (RFC 9101), one at a time: each says what is wrong."""

import re
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from chalicelib import builtin_clients
from chalicelib.authorization.request_object import (
    CLOCK_DIFFERENCE,
    MAX_LIFETIME,
    SentRequest,
    verified_parameters,
)
from chalicelib.http.messages import Params
from chalicelib.protocol.errors import (
    InvalidRequest,
    InvalidRequestObject,
    OAuthError,
    RequestNotSupported,
    RequestUriNotSupported,
)
from tests.support.assertions import KeyPair, key_pair, sign
from tests.support.grants import update_client
from tests.support.request_objects import claims_of_request, request_object
from tests.support.site import Registered, Site

NAMES = ("state", "nonce", "redirect_uri", "max_age", "resource", "claims", "authorization_details")
SIGNER = ("The iss and the client_id in the request object", InvalidRequestObject)
AUDIENCE = ("The aud of the request object", InvalidRequestObject)
TIMES = ("times must be numbers", InvalidRequestObject)
TYPE = ("The typ of the request object", InvalidRequestObject)
WRONG_TYPE = ("has the wrong type", InvalidRequestObject)


@pytest.fixture
def client(site: Site) -> Registered:
    return site.client(jwks={"keys": [key_pair().jwk, key_pair("PS256", "rsa").jwk]})


def verify(site: Site, client: Registered, text: str | None, *, pushed: bool = False, **beside: str) -> Params:
    """Return the parameters of a request with this object, in which the record of the client is as it is now."""
    given = {"client_id": client.id, **({"request": text} if text else {}), **beside}
    record = site.server.store.clients.get(client.id)
    assert record
    params, now = Params(given.items()), site.clock.time
    return verified_parameters(site.server, record, SentRequest(params), NAMES, pushed=pushed, seen_at=now)


def of(site: Site, client: Registered, header: dict[str, Any] | None = None, **changes: Any) -> str:
    """Return a request object. Times count from now, CLIENT is the client_id, ISSUER the issuer, NULL null."""
    names = {"CLIENT": client.id, "ISSUER": site.settings.issuer, "NULL": None}

    def resolved(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [resolved("", each) for each in value]
        if name in ("exp", "nbf", "iat") and isinstance(value, int) and not isinstance(value, bool):
            return site.clock.time + value
        return names.get(value, value) if isinstance(value, str) else value

    claims = claims_of_request(site, client)
    claims |= {name: resolved(name, value) for name, value in changes.items()}
    given = {"alg": "ES256", "kid": "key-1"} | (header or {})
    pair = key_pair("PS256", "rsa") if given["kid"] == "rsa" else key_pair()
    return sign(pair, given, {name: value for name, value in claims.items() if value != "ABSENT"})


def without(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, "ABSENT")


REJECTED: dict[str, tuple[dict[str, Any], tuple[str, type[OAuthError]]]] = {
    "iss of another": ({"iss": "other"}, SIGNER),
    "client_id of another": ({"client_id": "other"}, SIGNER),
    "no iss": (without("iss"), SIGNER),
    "aud of another": ({"aud": "https://other.example.com"}, AUDIENCE),
    "aud with a number": ({"aud": ["ISSUER", 1]}, AUDIENCE),
    "aud empty": ({"aud": []}, AUDIENCE),
    "request inside": ({"request": "x"}, ("has no request and no request_uri", InvalidRequestObject)),
    "request_uri inside": ({"request_uri": "x"}, ("has no request and no request_uri", InvalidRequestObject)),
    "sub the client": ({"sub": "CLIENT"}, ("never the client_id", InvalidRequestObject)),
    "no exp": (without("exp"), TIMES),
    "exp true": ({"exp": True}, TIMES),
    "exp a text": ({"exp": "9999999999"}, TIMES),
    "exp huge": ({"exp": 2**53}, TIMES),
    "exp zero": ({"exp": 0.0, **without("nbf", "iat")}, TIMES),
    "nbf null": ({"nbf": "NULL"}, TIMES),
    "nbf false": ({"nbf": False}, TIMES),
    "iat a text": ({"iat": "1"}, TIMES),
    "expired": ({"exp": -CLOCK_DIFFERENCE, **without("nbf")}, ("has expired", InvalidRequestObject)),
    "exp far ahead": (
        {"exp": MAX_LIFETIME + CLOCK_DIFFERENCE + 1, **without("nbf")},
        ("more than an hour ahead", InvalidRequestObject),
    ),
    "nbf ahead": ({"nbf": CLOCK_DIFFERENCE + 1}, ("not valid yet", InvalidRequestObject)),
    "iat ahead": ({"iat": CLOCK_DIFFERENCE + 1, **without("nbf")}, ("not valid yet", InvalidRequestObject)),
    "nbf long ago": (
        {"nbf": -MAX_LIFETIME - CLOCK_DIFFERENCE - 1, "exp": -CLOCK_DIFFERENCE + 1},
        ("for more than an hour", InvalidRequestObject),
    ),
    "valid for too long": ({"nbf": -1, "exp": MAX_LIFETIME}, ("for more than an hour", InvalidRequestObject)),
    "state a number": ({"state": 1}, WRONG_TYPE),
    "state a list": ({"state": ["a"]}, WRONG_TYPE),
    "max_age true": ({"max_age": True}, WRONG_TYPE),
    "max_age a fraction": ({"max_age": 1.5}, WRONG_TYPE),
    "nonce an integer": ({"nonce": 7}, WRONG_TYPE),
    "resource with a number": ({"resource": ["https://a.example", 1]}, WRONG_TYPE),
    "resource an object": ({"resource": {}}, WRONG_TYPE),
    "redirect_uri a list": ({"redirect_uri": ["https://a.example"]}, WRONG_TYPE),
    "claims a number": ({"claims": 1}, WRONG_TYPE),
    "state an object": ({"state": {}}, WRONG_TYPE),
}


@pytest.mark.spec("RFC 9101 §6.3 c")
@pytest.mark.parametrize("case", REJECTED)
def test_error_says_what_is_wrong_with_a_request_object(site: Site, client: Registered, case: str) -> None:
    changes, (text, error) = REJECTED[case]
    with pytest.raises(error, match=re.escape(text)):
        verify(site, client, of(site, client, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1 - CLOCK_DIFFERENCE},
        {"exp": MAX_LIFETIME + CLOCK_DIFFERENCE, **without("nbf")},
        {"nbf": CLOCK_DIFFERENCE, "iat": CLOCK_DIFFERENCE},
        {"nbf": 1 - CLOCK_DIFFERENCE - MAX_LIFETIME, "exp": 1 - CLOCK_DIFFERENCE},
        without("nbf", "iat", "jti"),
        {"aud": ["https://other.example.com", "ISSUER"]},
        {"sub": "alice"},
        {"max_age": 60, "resource": ["https://a.example", "https://b.example"], "claims": {"userinfo": {}}},
        {"authorization_details": [{"type": "x"}], "resource": "https://a.example", "claims": "{}"},
    ],
)
def test_limits_of_a_request_object_are_accepted(site: Site, client: Registered, changes: dict[str, Any]) -> None:
    assert verify(site, client, of(site, client, **changes)).get("state") == "af0ifjsldkj"


def test_values_become_what_a_query_would_have(site: Site, client: Registered) -> None:
    text = of(
        site, client, max_age=0, resource=["a:b", "c:d"], claims={"a": [1]}, authorization_details=[{"type": "é"}]
    )
    params = verify(site, client, text, nonce="outside")
    assert (params.get("max_age"), params.get_all("resource"), params.get("nonce")) == ("0", ("a:b", "c:d"), None)
    assert (params.get("claims"), params.get("authorization_details")) == ('{"a":[1]}', '[{"type":"\\u00e9"}]')


@pytest.mark.spec("RFC 9101 §10.8")
@pytest.mark.parametrize("typ", ["dpop+jwt", "at+jwt", "", 1, None, ["jwt"], "application/x+jwt"])
def test_error_names_the_type(site: Site, client: Registered, typ: object) -> None:
    text, error = TYPE
    with pytest.raises(error, match=text):
        verify(site, client, of(site, client, {"typ": typ}))


@pytest.mark.parametrize(
    "typ", ["jwt", "JWT", "application/jwt", "OAUTH-AUTHZ-REQ+JWT", "application/oauth-authz-req+jwt"]
)
def test_type_is_compared_without_case_and_prefix(site: Site, client: Registered, typ: str) -> None:
    assert verify(site, client, of(site, client, {"typ": typ})).get("state")


def test_error_names_the_algorithm_that_is_registered(site: Site, client: Registered) -> None:
    """It is told before anything else, also for an algorithm that the server does not have."""
    hs256, forged = of(site, client, {"alg": "HS256"}, iss="other"), of(site, client, iss="other")
    with pytest.raises(InvalidRequestObject, match="algorithm that is not supported"):
        verify(site, client, hs256)
    update_client(site, client, request_object_signing_alg="PS256")
    for text in (hs256, forged):
        with pytest.raises(InvalidRequestObject, match="must be signed with PS256"):
            verify(site, client, text)
    assert verify(site, client, of(site, client, {"alg": "PS256", "kid": "rsa"})).get("state")


def test_client_id_beside_the_object_is_that_of_its_client(site: Site, client: Registered) -> None:
    for beside in ("other", ""):
        with pytest.raises(InvalidRequestObject, match="must be that of the request object"):
            verify(site, client, of(site, client), client_id=beside)


def test_audience_is_not_a_text_that_contains_the_issuer(site: Site, client: Registered) -> None:
    for aud in (f"{site.settings.issuer}.evil.example", f"https://evil.example/{site.settings.issuer}"):
        with pytest.raises(InvalidRequestObject, match="The aud of the request object"):
            verify(site, client, of(site, client, aud=aud))


def test_signature_is_checked_last(site: Site, client: Registered) -> None:
    forged = request_object(site, client, key_pair("ES256", "forged"), {"kid": "key-1"})
    with pytest.raises(InvalidRequestObject, match="No key of the client"):
        verify(site, client, forged)


def test_object_of_a_client_with_a_profile_is_signed_with_an_algorithm_of_it(site: Site, client: Registered) -> None:
    pair = KeyPair("RS256", "rsa", key_pair("PS256", "rsa").private)
    text, ps256 = request_object(site, client, pair), of(site, client, {"alg": "PS256", "kid": "rsa"})
    update_client(site, client, jwks={"keys": [pair.jwk]})
    assert verify(site, client, text).get("state")
    update_client(site, client, profile="fapi2")
    with pytest.raises(InvalidRequestObject, match="No key of the client"):
        verify(site, client, text)
    assert verify(site, client, ps256).get("state")


def test_unsigned_object_is_not_supported_unless_it_could_have_been_signed(site: Site, client: Registered) -> None:
    unsigned = jwt.encode(claims_of_request(site, client), "", "none")
    with pytest.raises(RequestNotSupported):
        verify(site, client, unsigned)
    with pytest.raises(InvalidRequestObject, match="not supported"):
        verify(site, client, unsigned, pushed=True)
    update_client(site, client, require_signed_request_object=True)
    with pytest.raises(InvalidRequestObject, match="not supported"):
        verify(site, client, unsigned)


def test_client_that_must_sign_sends_an_object_with_an_nbf(site: Site, client: Registered) -> None:
    assert verify(site, client, None, state="outside").get("state") == "outside"
    update_client(site, client, require_signed_request_object=True)
    with pytest.raises(InvalidRequest, match="must be signed"):
        verify(site, client, None)
    with pytest.raises(InvalidRequestObject, match="must have an nbf"):
        verify(site, client, of(site, client, **without("nbf")))
    assert verify(site, client, of(site, client)).get("state")


def test_reference_and_request_that_was_not_pushed_are_refused_before_the_object(
    site: Site, client: Registered
) -> None:
    with pytest.raises(RequestUriNotSupported):
        verify(site, client, of(site, client), request_uri="x")
    update_client(site, client, require_pushed_authorization_requests=True)
    with pytest.raises(InvalidRequest, match="must be pushed"):
        verify(site, client, of(site, client), request_uri="x")
    assert verify(site, client, of(site, client), pushed=True).get("state")


def test_server_that_requires_pushed_requests_exempts_its_own_pages(site_with: Callable[..., Site]) -> None:
    site = site_with(require_pushed_authorization_requests=True)
    with pytest.raises(InvalidRequest, match="must be pushed"):
        verify(site, site.client(), None)
    own, now = site.server.client(builtin_clients.ACCOUNT), site.clock.time
    assert own
    params = Params([("client_id", own.client_id), ("state", "x")])
    assert verified_parameters(site.server, own, SentRequest(params), NAMES, pushed=False, seen_at=now) is params


def test_expiry_of_a_request_is_that_of_its_object(site: Site, client: Registered) -> None:
    assert SentRequest(Params([("request", of(site, client, exp=59))])).expires_at == site.clock.time + 59
    assert SentRequest(Params([("state", "x")])).expires_at is None


# ---- who gets an error, before anything is verified


def apparent(text: str, **beside: str) -> dict[str, str | None]:
    params = SentRequest(Params([("client_id", "c"), ("request", text), *beside.items()])).apparent
    return {name: params.get(name) for name in ("redirect_uri", "scope", "response_mode", "state", "nonce")}


def test_signed_object_alone_says_who_gets_the_error(site: Site, client: Registered) -> None:
    text = of(site, client, state=1, response_mode="fragment", nonce="inside", redirect_uri="https://a.example/")
    assert apparent(text, state="outside", scope="outside", nonce="outside") == {
        "redirect_uri": "https://a.example/",
        "scope": claims_of_request(site, client)["scope"],
        "response_mode": "fragment",
        "state": None,
        "nonce": None,
    }


def test_unsigned_object_says_only_how_the_error_is_sent(site: Site, client: Registered) -> None:
    """The redirect URI is the one of the request, or the only one of the client."""
    claims = claims_of_request(
        site, client, redirect_uri="https://a.example/", response_mode="fragment", state="inside"
    )
    unsigned = jwt.encode(claims, "", "none")
    nothing = {"redirect_uri": None, "scope": None, "nonce": None}
    assert apparent(unsigned) == {"response_mode": "fragment", "state": "inside", **nothing}
    beside = apparent(unsigned, redirect_uri="https://b.example/", state="outside")
    assert (beside["redirect_uri"], beside["state"]) == ("https://b.example/", "outside")


def test_object_that_cannot_be_read_says_nothing() -> None:
    assert apparent("x.y.z", state="outside")["state"] == "outside"
    assert SentRequest(Params([("state", "x")])).apparent.encoded() == "state=x"
    repeated = Params([("request", "a"), ("request", "b"), ("state", "x")])
    assert SentRequest(repeated).apparent.get("state") == "x"
