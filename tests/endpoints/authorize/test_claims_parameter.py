"""The `claims` parameter (OpenID Connect Core section 5.5): values of `sub` and `acr`, limits, any input."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.protocol import claims_parameter
from chalicelib.protocol.authentication_context import Policy
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidRequest, UnmetAuthenticationRequirements
from chalicelib.protocol.records import AuthorizationRequest
from chalicelib.protocol.scopes import SCOPES
from chalicelib.storage.attribute_values import pack, unpack
from tests.endpoints.authorize.conftest import REDIRECT_URI, read_claims
from tests.support.browser import Browser, authorization_parameters
from tests.support.site import Registered, Site

ACR = Policy().acr_values[0]


@pytest.fixture
def client(hybrid_client: Registered) -> Registered:
    return hybrid_client


@pytest.mark.spec("OpenID Connect Core §5.5.1 b", "OpenID Connect Core §3.1.2.2 d")
@pytest.mark.parametrize("member", ["id_token", "userinfo"])
def test_requested_sub_must_be_that_of_the_user(browser: Browser, client: Registered, hint: str, member: str) -> None:
    sub = read_claims(hint)["sub"]
    for request, matches in (
        ({"value": sub}, True),
        ({"values": ["another", sub]}, True),
        ({"essential": True, "value": sub}, True),
        ({"value": "another"}, False),
        ({"values": ["another", "else"]}, False),
        ({"value": sub.lower() + "x"}, False),
        (None, True),
        ({"essential": True}, True),
        ({"values": []}, True),
    ):
        answer = browser.authorize(client, prompt="none", claims=json.dumps({member: {"sub": request}})).answer
        assert ("code" in answer) is matches, request
        assert answer.get("error") == (None if matches else "login_required"), request


@pytest.mark.spec("OpenID Connect Core §5.5.1.1 a", "OpenID Connect Core §5.5.1.1 b", "OpenID Connect Core §5.5.1.1 c")
@pytest.mark.parametrize(
    ("request_of_acr", "error"),
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
def test_essential_acr_that_cannot_be_met_is_an_error(
    browser: Browser, client: Registered, request_of_acr: Any, error: str | None
) -> None:
    browser.answer(client)
    claims = json.dumps({"id_token": {"acr": request_of_acr}})
    for prompt in ("none", ""):
        answer = browser.authorize(client, claims=claims, prompt=prompt)
        assert answer.answer.get("error") == error
        if error is None:
            assert read_claims(browser.redeem(client, answer.code).json["id_token"])["acr"] == ACR


def test_claims_of_8192_characters_are_accepted_by_post(browser: Browser, client: Registered) -> None:
    browser.answer(client)
    parameters = authorization_parameters(client, state=None)
    text = json.dumps({"userinfo": {"email": None}, "padding": ""})
    longest = text.replace('""', '"' + "x" * (8192 - len(text)) + '"')
    assert len(longest) == 8192
    answer = browser.follow(browser.post("/oauth2/authorize", parameters | {"claims": longest}))
    assert browser.userinfo(browser.redeem(client, answer.code).json["access_token"]).json["email"]
    answer = browser.post("/oauth2/authorize", parameters | {"claims": longest + " "})
    assert answer.answer["error"] == "invalid_request"


def test_only_the_names_of_known_claims_are_stored(site: Site, browser: Browser, client: Registered) -> None:
    """A grant is written often, so only what is needed later is stored."""
    claims = {"userinfo": {f"claim {n}": {"values": ["x" * 50]} for n in range(80)} | {"email": {"value": "x" * 1000}}}
    browser.answer(client, claims=json.dumps(claims))
    (grant,) = site.server.store.grants.scan()
    assert grant.claims == {"userinfo": {"email": {}}}


# ---- any input

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([ACR, "sub", "\ud800", ""]),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["value", "values", "essential"]) | st.text(), inner)
    ),
    max_leaves=8,
)
REQUESTED_CLAIMS = st.dictionaries(st.sampled_from(["sub", "acr", "email", "name", "x"]) | st.text(), JSON_VALUES)
CLAIMS_OF_SCOPES = {name for scope in ("profile", "email") for name in SCOPES[scope].claims}
CLAIMS_OBJECTS = st.dictionaries(st.sampled_from(["userinfo", "id_token", "x"]), REQUESTED_CLAIMS | JSON_VALUES)


@settings(deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(text=(CLAIMS_OBJECTS | JSON_VALUES).map(json.dumps) | st.text())
def test_any_claims_parameter_is_rejected_or_can_be_stored(text: str) -> None:
    registered = Client("c", "C", (REDIRECT_URI,), scope="openid email profile")
    try:
        claims = claims_parameter.read(text, registered, Policy().acr_values)
    except (InvalidRequest, UnmetAuthenticationRequirements):
        return
    request = AuthorizationRequest("r", "c", REDIRECT_URI, 1, 1, claims=claims)
    assert unpack(json.loads(json.dumps(pack({"claims": claims})))) == {"claims": claims}
    assert claims_parameter.allows_subject(request, "subject") in (True, False)
    for names in claims.values():
        assert set(names) <= {"sub", "acr", *CLAIMS_OF_SCOPES}
