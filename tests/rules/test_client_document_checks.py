"""The checks of client metadata documents, one at a time: each says what is wrong, for the log."""

import json
import re
from typing import Any

import pytest

from chalicelib.clients import documents
from chalicelib.clients.document_content import MAX_REDIRECT_URIS, read_document
from chalicelib.clients.documents import FRESH_AT_LEAST, FRESH_AT_MOST, FRESH_FOR
from chalicelib.protocol.client_document import ClientDocument
from chalicelib.protocol.open_clients import OpenClientPolicy
from tests.support.assertions import key_pair

URL = "https://app.example.com/client.json"
POLICY = OpenClientPolicy("openid profile")


def content(**members: Any) -> bytes:
    """Return a document; a member of ABSENT is left out."""
    given = {"client_id": URL, "redirect_uris": ["https://app.example.com/cb"]} | members
    return json.dumps({name: value for name, value in given.items() if value != "ABSENT"}).encode()


def read(**members: Any) -> ClientDocument:
    return read_document(URL, content(**members), POLICY)


def uris(count: int) -> list[str]:
    return [f"https://app.example.com/cb{each}" for each in range(count)]


REJECTED: dict[str, tuple[bytes, str]] = {
    "an array": (b"[]", "is no JSON object"),
    "another client_id": (content(client_id=f"{URL}?"), "is not its URL"),
    "no client_id": (content(client_id="ABSENT"), "is not its URL"),
    "a secret": (content(client_secret="s"), "has a client secret"),
    "a secret of null": (content(client_secret=None), "has a client secret"),
    "when a secret expires": (content(client_secret_expires_at=0), "has a client secret"),
    "http for the keys": (content(jwks_uri="http://localhost/jwks"), "jwks_uri of the document must be https"),
    "no redirect URI": (content(redirect_uris=[]), "1 to 10 redirect_uris"),
    "many redirect URIs": (content(redirect_uris=uris(MAX_REDIRECT_URIS + 1)), "1 to 10 redirect_uris"),
    "redirect URIs absent": (content(redirect_uris="ABSENT"), "redirect_uris must be an array"),
    "a number as name": (content(client_name=1), "client_name must be a string"),
    "a text as flag": (content(dpop_bound_access_tokens="true"), "must be true or false"),
    "a shared secret": (content(token_endpoint_auth_method="client_secret_basic"), "with a shared secret"),
    "a shared secret among others": (
        content(token_endpoint_auth_methods_supported=["none", "client_secret_post"]),
        "with a shared secret",
    ),
    "a shared secret beside others": (
        content(token_endpoint_auth_methods_supported=["none"], token_endpoint_auth_method="client_secret_jwt"),
        "with a shared secret",
    ),
    "an unknown method": (content(token_endpoint_auth_method="x"), "no authentication method of"),
    "no response type code": (content(response_types=["token"]), "does not name the response type code"),
    "no authorization code": (content(grant_types=["refresh_token"]), "the grant type authorization_code"),
    "no keys": (content(token_endpoint_auth_method="private_key_jwt"), "needs public keys"),
    "a private key": (content(jwks={"keys": [key_pair().private_jwk]}), "private or symmetric key"),
}


@pytest.mark.parametrize("case", REJECTED)
def test_error_says_what_is_wrong_with_a_document(case: str) -> None:
    text, problem = REJECTED[case]
    with pytest.raises(ValueError, match=re.escape(problem)):
        read_document(URL, text, POLICY)


def test_members_of_a_document_are_those_of_its_client() -> None:
    document = read(
        redirect_uris=uris(MAX_REDIRECT_URIS),
        client_name=None,
        jwks=key_pair().jwks,
        token_endpoint_auth_methods_supported=["private_key_jwt", "x", "none"],
        token_endpoint_auth_method="private_key_jwt",
        grant_types=["x", "authorization_code"],
        response_types=["code", "token"],
        client_uri="https://app.example.com/",
        policy_uri="http://app.example.com/",
        tos_uri=7,
    )
    assert document.client_name == "app.example.com"
    assert (document.auth_methods, document.grant_types) == (("none", "private_key_jwt"), ("authorization_code",))
    assert (document.client_uri, document.policy_uri, document.tos_uri) == ("https://app.example.com/", None, None)
    assert (document.dpop_bound_access_tokens, document.require_signed_request_object) == (False, None)
    assert document.jwks_uri is None
    plain = read()
    assert (plain.auth_methods, plain.jwks) == (("none",), None)
    assert plain.grant_types == ("authorization_code", "refresh_token")
    assert read(token_endpoint_auth_methods_supported=[]).auth_methods == ("none",)
    by_key: Any = {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://app.example.com/jwks"}
    assert read(**by_key).auth_methods == ("private_key_jwt",)


def test_digest_is_of_where_answers_go_and_who_can_be_the_client() -> None:
    two = uris(2)
    digest = read(redirect_uris=two).digest
    assert read(redirect_uris=two[::-1], client_name="Other", grant_types=["authorization_code"]).digest == digest
    changed: list[dict[str, Any]] = [
        {"redirect_uris": uris(3)},
        {"redirect_uris": two, "jwks": key_pair().jwks},
        {"redirect_uris": two, "jwks_uri": "https://app.example.com/jwks"},
    ]
    assert len({digest, *(read(**members).digest for members in changed)}) == 4


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", FRESH_FOR),
        ("public", FRESH_FOR),
        ("max-age=600", 600),
        ("public, MAX-AGE=600", 600),
        ('max-age="600"', 600),
        ("max-age=0", FRESH_AT_LEAST),
        ("max-age=999999999999", FRESH_AT_MOST),
        ("max-age=9999999999999", FRESH_AT_LEAST),
        ("max-age=-1", FRESH_AT_LEAST),
        ("max-age=", FRESH_AT_LEAST),
        ("max-age=\u0661\u0662\u0660", FRESH_AT_LEAST),
        ("max-age=600, max-age=700", FRESH_AT_LEAST),
        ("no-store, max-age=600", FRESH_AT_LEAST),
        ("max-age=600, No-Cache", FRESH_AT_LEAST),
        ("s-maxage=600", FRESH_FOR),
    ],
)
def test_document_is_fresh_for_as_long_as_its_website_says_within_limits(header: str, seconds: int) -> None:
    assert documents._fresh_for(header) == seconds


@pytest.mark.parametrize(
    ("content_type", "json"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/client+json", True),
        ("text/client+json", False),
        ("application/xml", False),
        ("text/html", False),
        ("", False),
    ],
)
def test_document_is_json(content_type: str, *, json: bool) -> None:
    assert documents._is_json(content_type) is json
