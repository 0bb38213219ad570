"""The OpenID Foundation's conformance plan Dynamic OP, with `code` and `private_key_jwt`.

Its clients register themselves. There is a test for each module that Signet can meet, with two differences: the suite's
clients use no PKCE, and they name the token endpoint as the audience of their assertions, which Signet accepts only of
clients that its operator has registered so. Here they use PKCE, and name the issuer. Each docstring names its modules;
MODULES lists all of them, and NOT_MET what Signet does not do.
"""

import json
import re
import secrets
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest

from chalicelib.clients.key_sets import PAUSE
from infra.local.state import CHECKOUT
from tests.support.assertions import KeyPair, key_pair, make_assertion, with_assertion
from tests.support.browser import CHALLENGE, VERIFIER, Answer, Browser
from tests.support.receivers import Receiver, json_answer
from tests.support.site import Site

MODULES = (
    "oidcc-idtoken-rs256",
    "oidcc-idtoken-unsigned",
    "oidcc-userinfo-rs256",
    "oidcc-ensure-redirect-uri-in-authorization-request",
    "oidcc-redirect-uri-query-OK",
    "oidcc-redirect-uri-query-mismatch",
    "oidcc-redirect-uri-query-added",
    "oidcc-redirect-uri-regfrag",
    "oidcc-discovery-endpoint-verification",
    "oidcc-server",
    "oidcc-registration-policy-uri",
    "oidcc-registration-tos-uri",
    "oidcc-registration-jwks-uri",
    "oidcc-registration-sector-bad",
    "oidcc-refresh-token-rp-key-rotation",
    "oidcc-ensure-request-object-with-redirect-uri",
    "oidcc-refresh-token",
    "oidcc-ensure-client-assertion-with-iss-aud-succeeds",
)
NOT_MET = (
    "oidcc-registration-logo-uri",  # no page shows a logo
    "oidcc-registration-sector-uri",
    "oidcc-server-rotate-keys",  # see docs/certification.md
    "oidcc-request-uri-unsigned",
    "oidcc-request-uri-signed-rs256",
)
REGISTER = "/oauth2/register"
HOME = "https://www.certification.openid.net/test/a/signet/callback"
PAIR = key_pair("RS256", "first")


class Suite:
    """The suite as an application that registers itself, and the user alice."""

    def __init__(self, site: Site, browser: Browser):
        self.site, self.browser = site, browser
        self.client: dict[str, Any] = {}
        self.pair = PAIR
        self.sent: dict[str, Any] = {}
        site.server.keys.jwks()  # cached from now on
        site.user("alice")

    def send_registration(self, **changes: Any) -> Answer:
        """Register a client; a member of None is left out."""
        given: dict[str, Any] = {
            "client_name": f"Conformance suite {secrets.token_hex(4)}",
            "redirect_uris": [HOME],
            "grant_types": ["authorization_code"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "private_key_jwt",
            "jwks": PAIR.jwks,
            "contacts": ["certification@openid.net"],
        }
        body = json.dumps({name: value for name, value in (given | changes).items() if value is not None})
        return self.browser.request("POST", REGISTER, body, {"Content-Type": "application/json"})

    def register(self, **changes: Any) -> dict[str, Any]:
        """Register a client that all following requests use; return the response."""
        answer = self.send_registration(**changes)
        assert answer.status == 201, answer.body
        self.client = answer.json
        self.site.secrets.add(self.client["registration_access_token"])
        assert self.client["registration_client_uri"].startswith(self.site.settings.issuer)
        return self.client

    def open(self, **changes: str | None) -> Answer:
        """Open the authorization endpoint; a parameter of None is left out."""
        given: dict[str, Any] = {
            "client_id": self.client["client_id"],
            "response_type": "code",
            "redirect_uri": self.client["redirect_uris"][0],
            "scope": "openid",
            "state": secrets.token_urlsafe(7),
            "nonce": secrets.token_urlsafe(7),
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        self.sent = {name: value for name, value in (given | changes).items() if value is not None}
        return self.browser.get("/oauth2/authorize", **self.sent)

    def consent_page(self, **changes: str | None) -> Answer:
        """Sign in; return the page that asks the user."""
        page = self.open(**changes)
        page = self.browser.sign_in(page) if "password" in page.form.fields else page
        assert ("decision", "deny") in page.form.buttons, "a client that registered itself is not trusted"
        return page

    def authorize(self, **changes: str | None) -> str:
        answer = self.browser.submit(self.consent_page(**changes), decision="allow_once")
        assert answer.location.startswith(self.sent["redirect_uri"])
        assert (answer.answer["state"], answer.answer["iss"]) == (self.sent["state"], self.site.settings.issuer)
        return answer.code

    def token(self, **form: str) -> Answer:
        """Send a token request with a client assertion for the issuer."""
        assertion = make_assertion(self.site, self.client["client_id"], self.pair)
        return self.browser.post("/oauth2/token", form | with_assertion(assertion))

    def redeem(self, code: str) -> dict[str, Any]:
        answer = self.token(
            grant_type="authorization_code",
            code=code,
            redirect_uri=self.sent["redirect_uri"],
            code_verifier=VERIFIER,
        )
        assert answer.status == 200, answer.body
        return answer.json

    def flow(self, **changes: str | None) -> dict[str, Any]:
        """Complete the whole flow; return the tokens."""
        tokens = self.redeem(self.authorize(**changes))
        assert self.verified(tokens["id_token"])["nonce"] == self.sent["nonce"]
        return tokens

    def verified(self, token: str) -> dict[str, Any]:
        """Verify a JWT that this server has signed with RS256 for the client; return its claims."""
        keys = jwt.PyJWKSet.from_dict(self.browser.get("/oauth2/jwks").json)
        claims: dict[str, Any] = jwt.decode(
            token,
            keys[jwt.get_unverified_header(token)["kid"]],
            algorithms=["RS256"],
            audience=self.client["client_id"],
            issuer=self.site.settings.issuer,
            options={"verify_exp": False, "verify_iat": False},
        )
        return claims


@pytest.fixture
def host() -> Iterator[Receiver]:
    """A server with the key set of a client."""
    receiver = Receiver(json_answer(jwks(PAIR)))
    yield receiver
    receiver.close()


def jwks(*pairs: KeyPair) -> bytes:
    return json.dumps({"keys": [pair.jwk for pair in pairs]}).encode()


@pytest.fixture
def suite(site_with: Callable[..., Site], browsers: Callable[..., Browser]) -> Suite:
    """The suite at a server in open mode, which may send requests to 127.0.0.1."""
    site = site_with(client_registration="open", outbound_networks=("127.0.0.0/8",))
    return Suite(site, browsers(site))


def is_error_page(answer: Answer) -> bool:
    """Return whether the user sees an error, and nothing is redirected: the suite asks for a screenshot of it."""
    return (answer.status, answer.header("location"), "password" in answer.form.fields) == (400, None, False)


def is_rejected(answer: Answer, error: str) -> bool:
    """Return whether a registration was rejected with this error (RFC 7591 section 3.2.2)."""
    return (answer.status, answer.json["error"]) == (400, error)


def test_client_registers_and_completes_the_flow(suite: Suite) -> None:
    """oidcc-server oidcc-idtoken-rs256 oidcc-ensure-client-assertion-with-iss-aud-succeeds"""
    members = suite.register(id_token_signed_response_alg="RS256")
    assert members["token_endpoint_auth_method"] == "private_key_jwt"
    assert "client_secret" not in members
    tokens = suite.flow()
    assert suite.browser.userinfo(tokens["access_token"]).json["sub"] == suite.verified(tokens["id_token"])["sub"]


def test_metadata_name_the_registration_endpoint_and_no_unsigned_id_token(suite: Suite) -> None:
    """oidcc-discovery-endpoint-verification oidcc-idtoken-unsigned: skipped by the suite, as `none` is not listed."""
    metadata = suite.browser.get("/.well-known/openid-configuration").json
    assert metadata["registration_endpoint"] == suite.site.settings.issuer + REGISTER
    assert "none" not in metadata["id_token_signing_alg_values_supported"]
    assert suite.send_registration(id_token_signed_response_alg="none").status == 400


def test_userinfo_is_signed_for_a_client_that_registers_so(suite: Suite) -> None:
    """oidcc-userinfo-rs256"""
    assert suite.register(userinfo_signed_response_alg="RS256")["userinfo_signed_response_alg"] == "RS256"
    tokens = suite.flow()
    answer = suite.browser.userinfo(tokens["access_token"])
    assert answer.header("content-type") == "application/jwt"
    claims = suite.verified(answer.body)
    assert claims["sub"] == suite.verified(tokens["id_token"])["sub"]
    assert "nonce" not in claims


def test_request_without_redirect_uri_is_rejected_by_a_page(suite: Suite) -> None:
    """oidcc-ensure-redirect-uri-in-authorization-request"""
    suite.register()
    assert is_error_page(suite.open(redirect_uri=None))


def test_query_of_a_redirect_uri_is_kept_and_compared(suite: Suite) -> None:
    """oidcc-redirect-uri-query-OK oidcc-redirect-uri-query-mismatch"""
    suite.register(redirect_uris=[f"{HOME}?foo=bar"])
    answer = suite.browser.submit(suite.consent_page(), decision="allow_once")
    assert answer.location.startswith(f"{HOME}?foo=bar&")
    suite.redeem(answer.code)
    assert is_error_page(suite.open(redirect_uri=f"{HOME}?bar=foo"))


def test_query_that_is_not_registered_is_rejected_by_a_page(suite: Suite) -> None:
    """oidcc-redirect-uri-query-added"""
    suite.register()
    assert is_error_page(suite.open(redirect_uri=f"{HOME}?foo=bar"))


def test_redirect_uri_with_a_fragment_cannot_be_registered(suite: Suite) -> None:
    """oidcc-redirect-uri-regfrag"""
    assert is_rejected(suite.send_registration(redirect_uris=[f"{HOME}#foobar"]), "invalid_redirect_uri")


@pytest.mark.parametrize("name", ["policy_uri", "tos_uri"])
def test_consent_page_has_the_links_of_the_client(suite: Suite, name: str) -> None:
    """oidcc-registration-policy-uri oidcc-registration-tos-uri: the suite asks for a screenshot."""
    uri = f"https://www.certification.openid.net/{name}"
    assert suite.register(**{name: uri})[name] == uri
    assert f'href="{uri}"' in suite.consent_page().body


def test_sector_document_without_the_redirect_uri_is_rejected(suite: Suite) -> None:
    """oidcc-registration-sector-bad: as any sector_identifier_uri."""
    uri = "https://www.certification.openid.net/redirect_uris.json"
    answer = suite.send_registration(subject_type="pairwise", sector_identifier_uri=uri)
    assert is_rejected(answer, "invalid_client_metadata")


def test_keys_of_the_client_are_at_its_jwks_uri_and_rotated(suite: Suite, host: Receiver) -> None:
    """oidcc-registration-jwks-uri oidcc-refresh-token-rp-key-rotation"""
    suite.register(jwks=None, jwks_uri=host.url, grant_types=["authorization_code", "refresh_token"])
    tokens = suite.flow(scope="openid offline_access", prompt="consent")
    suite.pair = key_pair("RS256", "second")
    host.behave = json_answer(jwks(suite.pair))
    suite.site.clock.advance(60)
    assert PAUSE <= 60, "the suite waits a minute"
    answer = suite.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert answer.status == 200, answer.body


def test_refresh_token_is_exchanged(suite: Suite) -> None:
    """oidcc-refresh-token"""
    suite.register(grant_types=["authorization_code", "refresh_token"])
    tokens = suite.flow(scope="openid offline_access", prompt="consent")
    refreshed = suite.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"]).json
    first, second = (suite.verified(each["id_token"]) for each in (tokens, refreshed))
    assert (first["sub"], first["iss"], first["aud"]) == (second["sub"], second["iss"], second["aud"])
    assert first["auth_time"] == second["auth_time"]


def test_request_object_is_rejected(suite: Suite) -> None:
    """oidcc-ensure-request-object-with-redirect-uri"""
    suite.register()
    claims = {"redirect_uri": f"{HOME}/other", "client_id": suite.client["client_id"]}
    answer = suite.open(request=jwt.encode(claims, "", "none"))
    assert answer.answer["error"] == "request_not_supported"


def test_every_module_has_a_test_or_a_reason() -> None:
    docstrings = [getattr(test, "__doc__", None) or "" for test in vars(sys.modules[__name__]).values()]
    named = {word for text in docstrings for word in re.findall(r"oidcc-[A-Za-z0-9-]+", text)}
    assert named == {*MODULES}
    assert not {*MODULES} & {*NOT_MET}
    text = (CHECKOUT / "docs" / "certification.md").read_text("utf-8")
    assert all(f"`{name}`" in text for name in NOT_MET)
    assert f"`tests/interop/test_dynamic_plan.py` repeats {len(MODULES)} modules" in text
