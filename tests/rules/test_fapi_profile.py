"""The rules of FAPI 2.0 for the record of a client, one at a time: what a profile derives, refuses and leaves alone."""

from collections.abc import Collection
from typing import Any

import pytest

from chalicelib.protocol import fapi
from chalicelib.protocol.client import Client
from chalicelib.protocol.fapi import MESSAGE_SIGNING, SECURITY, derived_members, find_deviations
from chalicelib.protocol.mutual_tls import SELF_SIGNED, TLS_CLIENT_AUTH
from tests.support.assertions import key_pair

SIGNED = ("id_token", "access_token", "authorization", "introspection")
BY_KEY, BY_CERTIFICATE = "dpop_bound_access_tokens", "tls_client_certificate_bound_access_tokens"


def ordinary(**members: Any) -> Client:
    """Return a client without a profile, which authenticates by a key."""
    given: dict[str, Any] = {
        "client_id": "bank",
        "client_name": "Bank",
        "redirect_uris": ("https://bank.example.com/callback",),
        "token_endpoint_auth_method": "private_key_jwt",
        "token_endpoint_auth_methods": ("private_key_jwt",),
        "jwks": key_pair().jwks,
    }
    return Client(**(given | members))


def compliant(**members: Any) -> Client:
    """Return a client that meets the Security Profile, with changes."""
    given: dict[str, Any] = {
        "require_pushed_authorization_requests": True,
        BY_KEY: True,
        **{f"{kind}_signed_response_alg": "ES256" for kind in SIGNED},
    }
    return ordinary(**(given | members))


def derived(client: Client, given: Collection[str] = ()) -> dict[str, Any]:
    return derived_members(client, given)


def problems(client: Client, profile: str = SECURITY) -> list[str]:
    return [deviation.problem for deviation in find_deviations(client, profile)]


# ---- what follows from a profile


@pytest.mark.parametrize(
    ("methods", "kept", "bound"),
    [
        (("private_key_jwt",), ("private_key_jwt",), BY_KEY),
        (("client_secret_basic",), ("private_key_jwt",), BY_KEY),
        (("client_secret_post", TLS_CLIENT_AUTH), (TLS_CLIENT_AUTH,), BY_CERTIFICATE),
        ((SELF_SIGNED,), (SELF_SIGNED,), BY_CERTIFICATE),
        ((TLS_CLIENT_AUTH, "private_key_jwt"), (TLS_CLIENT_AUTH, "private_key_jwt"), BY_KEY),
    ],
)
def test_tokens_are_bound_to_what_the_client_authenticates_by(
    methods: tuple[str, ...], kept: tuple[str, ...], bound: str
) -> None:
    members = derived(ordinary(token_endpoint_auth_methods=methods))
    assert members["token_endpoint_auth_methods"] == kept
    assert {name: members.get(name) for name in (BY_KEY, BY_CERTIFICATE) if name in members} == {bound: True}


@pytest.mark.parametrize("bound", [BY_KEY, BY_CERTIFICATE])
def test_client_whose_tokens_are_bound_is_not_bound_in_the_other_way_too(bound: str) -> None:
    assert {BY_KEY, BY_CERTIFICATE}.isdisjoint(derived(ordinary(**{bound: True})))


@pytest.mark.parametrize(("seconds", "replaced"), [(None, False), (30, False), (60, False), (61, True)])
def test_lifetime_of_codes_is_replaced_only_beyond_a_minute(seconds: int | None, *, replaced: bool) -> None:
    members = derived(ordinary(authorization_code_lifetime=seconds))
    assert ("authorization_code_lifetime" in members) == replaced
    assert members.get("authorization_code_lifetime") is None


@pytest.mark.parametrize("kind", [*SIGNED, "userinfo"])
@pytest.mark.parametrize(("alg", "replaced"), [("RS256", True), ("PS256", False), ("EdDSA", False), ("ES256", False)])
def test_algorithm_is_replaced_only_where_the_profile_forbids_it(kind: str, alg: str, *, replaced: bool) -> None:
    name = f"{kind}_signed_response_alg"
    assert derived(ordinary(**{name: alg})).get(name) == ("ES256" if replaced else None)


def test_response_that_need_not_be_signed_stays_unsigned() -> None:
    members = derived(ordinary())
    assert "userinfo_signed_response_alg" not in members
    assert {members[f"{kind}_signed_response_alg"] for kind in SIGNED} == {"ES256"}


def test_client_without_response_types_gets_none() -> None:
    assert derived(ordinary(response_types=()))["response_types"] == ()
    assert derived(ordinary(response_types=("code", "code id_token")))["response_types"] == ("code",)


def test_only_message_signing_requires_signed_requests() -> None:
    assert "require_signed_request_object" not in derived(ordinary(profile=SECURITY))
    assert derived(ordinary(profile=MESSAGE_SIGNING))["require_signed_request_object"] is True


def test_what_the_operator_gives_is_not_derived() -> None:
    given = {"require_pkce", BY_KEY}
    assert given.isdisjoint(derived(ordinary(), given))
    assert derived(ordinary()).keys() == derived(ordinary(), given).keys() | given


# ---- what contradicts it


def test_compliant_client_does_not_deviate() -> None:
    assert problems(compliant()) == []
    assert problems(compliant(require_signed_request_object=True), MESSAGE_SIGNING) == []


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"token_endpoint_auth_methods": ("none",)}, "is a public client"),
        ({"token_endpoint_auth_methods": ("private_key_jwt", "client_secret_jwt")}, "by client_secret_jwt"),
        ({BY_KEY: None}, "gets bearer tokens"),
        ({"assertion_audience": "token_endpoint"}, "another audience"),
        ({"authorization_code_lifetime": 61}, "valid for 61 seconds"),
        ({"response_types": ("code", "none")}, "the response type none"),
        ({"require_pushed_authorization_requests": None}, "by the browser"),
        ({"direct_sign_in": True}, "by HTTP Basic"),
        ({"require_pkce": False}, "may omit PKCE"),
        ({"redirect_uris": ("https://a.example/", "http://a.example/")}, "unencrypted to http://a.example/"),
        ({"redirect_uris": ("http://127.0.0.1.a.example/",)}, "unencrypted"),
        ({"redirect_uris": ("http://127.0.0.12/",)}, "unencrypted"),
        ({"redirect_uris": ("http://[::1].a.example/",)}, "unencrypted"),
        ({"redirect_uris": ("http://localhost/cb",)}, "unencrypted"),
        ({"id_token_signed_response_alg": "RS256"}, "id_token_signed_response_alg is RS256"),
        ({"userinfo_signed_response_alg": "RS256"}, "userinfo_signed_response_alg is RS256"),
        ({"introspection_signed_response_alg": "RS256"}, "introspection_signed_response_alg is RS256"),
        ({"request_object_signing_alg": "RS256"}, "request_object_signing_alg is RS256"),
        ({"authorization_signed_response_alg": None}, "is the default, RS256"),
    ],
)
def test_each_deviation_is_found_alone(members: dict[str, Any], problem: str) -> None:
    (deviation,) = problems(compliant(**members))
    assert problem in deviation


@pytest.mark.parametrize(
    "members",
    [
        {"authorization_code_lifetime": 60},
        {"token_endpoint_auth_methods": (TLS_CLIENT_AUTH, SELF_SIGNED)},
        {BY_KEY: None, BY_CERTIFICATE: True},
        {"response_types": ()},
        {"redirect_uris": ("http://127.0.0.1/cb", "http://127.0.0.1:8080/cb", "http://[::1]/", "http://[::1]:1/")},
        {"redirect_uris": ("http://127.0.0.1", "http://[::1]?a=b")},
        {"redirect_uris": ("com.example.app:/cb",)},
        {"userinfo_signed_response_alg": "EdDSA", "request_object_signing_alg": "PS256"},
        {"jwks": None, "jwks_uri": "https://bank.example.com/jwks"},
    ],
)
def test_what_the_profile_allows_is_no_deviation(members: dict[str, Any]) -> None:
    assert problems(compliant(**members)) == []


def test_keys_deviate_if_all_of_them_are_for_rs256() -> None:
    rsa, other = {**key_pair("RS256").jwk, "alg": "RS256"}, key_pair().jwk
    assert problems(compliant(jwks={"keys": [rsa]})) == ["Its keys are for RS256 only"]
    for keys in ([rsa, other], [other], [{**rsa, "alg": "PS256"}], [key_pair("RS256").jwk]):
        assert problems(compliant(jwks={"keys": keys})) == []


# ---- requests


def test_profile_limits_algorithms_codes_and_responses() -> None:
    without, security, signing = (ordinary(profile=profile) for profile in (None, SECURITY, MESSAGE_SIGNING))
    assert [fapi.allows_algorithm(client, "RS256") for client in (without, security, signing)] == [True, False, False]
    assert all(fapi.allows_algorithm(client, alg) for client in (security, signing) for alg in fapi.ALGORITHMS)
    assert [fapi.code_lifetime(client, 300) for client in (without, security, signing)] == [300, 60, 60]
    assert [fapi.code_lifetime(client, 20) for client in (without, security)] == [20, 20]
    assert [fapi.requires_signed_response(client) for client in (without, security, signing)] == [False, False, True]
