"""The OpenID Foundation's conformance plans RP-Initiated Logout OP and Back-Channel Logout OP.

A test for each module that the suite runs against a server with registered clients, in our own words, over HTTP. Each
docstring names its modules; MODULES is the list of them all. What the suite needs of an operator is told in
docs/certification.md: a confidential client with `--post-logout-redirect-uri` and `--backchannel-logout-uri`, and a
person who presses "Sign out" when asked.
"""

import base64
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.browser import Answer, Browser
from tests.receivers import Receiver
from tests.site import Site

MODULES = (
    "oidcc-rp-initiated-logout-discovery-endpoint-verification",
    "oidcc-rp-initiated-logout",
    "oidcc-rp-initiated-logout-bad-post-logout-redirect-uri",
    "oidcc-rp-initiated-logout-modified-id-token-hint",
    "oidcc-rp-initiated-logout-no-id-token-hint",
    "oidcc-rp-initiated-logout-no-params",
    "oidcc-rp-initiated-logout-no-post-logout-redirect-uri",
    "oidcc-rp-initiated-logout-no-state",
    "oidcc-rp-initiated-logout-only-state",
    "oidcc-rp-initiated-logout-query-added-to-post-logout-redirect-uri",
    "oidcc-rp-initiated-logout-bad-id-token-hint",
    "oidcc-backchannel-logout-discovery-endpoint-verification",
    "oidcc-backchannel-rp-initiated-logout",
)
HOME = "https://www.certification.openid.net/test/a/signet"


class Suite:
    """The suite as a relying party, and the browser of the person who runs it."""

    def __init__(self, site: Site, browser: Browser, **members: Any):
        self.site, self.browser = site, browser
        self.state = "".join(map(chr, range(0x21, 0x7F)))  # RFC 6749 appendix A.5, whole but for the space
        self.client = site.client(
            redirect_uris=[f"{HOME}/callback"], post_logout_redirect_uris=(f"{HOME}/post_logout_redirect",), **members
        )
        site.user("buffy")
        page = browser.authorize(self.client)
        browser.submit(browser.sign_in(page, "buffy"), decision="allow_always")
        tokens = browser.tokens(self.client)
        assert browser.userinfo(tokens["access_token"]).status == 200
        self.id_token: str = tokens["id_token"]

    def end_session(self, **changes: str | None) -> Answer:
        """The request that all of these modules make, changed; None leaves a parameter out."""
        given: dict[str, str | None] = {
            "id_token_hint": self.id_token,
            "post_logout_redirect_uri": f"{HOME}/post_logout_redirect",
            "state": self.state,
        }
        endpoint = self.browser.get("/.well-known/openid-configuration").json["end_session_endpoint"]
        present: dict[str, Any] = {name: value for name, value in (given | changes).items() if value is not None}
        return self.browser.get(endpoint, **present)

    def press(self, page: Answer) -> Answer:
        """The person does what the page asks for."""
        assert page.status == 200
        return self.browser.send(page, decision="sign_out")

    @property
    def signed_in(self) -> bool:
        answer = self.browser.authorize(self.client, prompt="none").answer
        assert answer.get("error", "login_required") == "login_required"
        return "code" in answer


@pytest.fixture
def suite(site: Site, browser: Browser) -> Suite:
    return Suite(site, browser)


def came_back_to(answer: Answer) -> dict[str, list[str]]:
    """The parameters with which the browser came to the post_logout_redirect_uri."""
    parts = urlsplit(answer.location)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{HOME}/post_logout_redirect"
    assert not parts.fragment
    return parse_qs(parts.query, keep_blank_values=True)


@pytest.mark.spec("OpenID Connect RP-Initiated Logout §2.1 a", "OpenID Connect RP-Initiated Logout §2.1 b")
@pytest.mark.spec("OpenID Connect Back-Channel Logout §2.1")
def test_the_metadata_has_the_end_session_endpoint_and_back_channel_logout(site_with: Callable[..., Site]) -> None:
    """oidcc-rp-initiated-logout-discovery-endpoint-verification,
    oidcc-backchannel-logout-discovery-endpoint-verification
    """
    site = site_with(issuer="https://login.example.com")
    browser = Browser(site)
    metadata = browser.get("/.well-known/openid-configuration").json
    browser.close()
    assert metadata["end_session_endpoint"] == "https://login.example.com/oauth2/logout"
    assert metadata["backchannel_logout_supported"] is True
    assert metadata["backchannel_logout_session_supported"] is True


def test_logging_out_leads_back_with_the_state(suite: Suite) -> None:
    """oidcc-rp-initiated-logout"""
    assert came_back_to(suite.end_session()) == {"state": [suite.state]}
    assert not suite.signed_in


def test_without_a_state_it_leads_back_without_one(suite: Suite) -> None:
    """oidcc-rp-initiated-logout-no-state"""
    assert came_back_to(suite.end_session(state=None)) == {}
    assert not suite.signed_in


@pytest.mark.parametrize(
    "goal",
    [f"{HOME}/post_logout_redirect_bad", f"{HOME}/post_logout_redirect?foo=bar"],
    ids=["another", "with a query"],
)
def test_a_goal_that_is_not_registered_is_an_error_page(suite: Suite, goal: str) -> None:
    """oidcc-rp-initiated-logout-bad-post-logout-redirect-uri,
    oidcc-rp-initiated-logout-query-added-to-post-logout-redirect-uri
    """
    answer = suite.end_session(post_logout_redirect_uri=goal)
    assert answer.status == 400
    assert answer.header("location") is None
    assert "not one that the application has registered" in answer.body


def alg_none(suite: Suite) -> str:
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).rstrip(b"=").decode()
    return f"{header}.{suite.id_token.split('.')[1]}."


def signed_by_somebody_else(suite: Suite) -> str:
    claims = jwt.decode(suite.id_token, options={"verify_signature": False})
    return jwt.encode(claims, rsa.generate_private_key(65537, 2048), algorithm="RS256")


def signed_by_the_client(suite: Suite) -> str:
    """As the suite does: the client has issued it to the server."""
    claims = jwt.decode(suite.id_token, options={"verify_signature": False})
    issued = claims | {"iss": suite.client.id, "aud": suite.site.settings.issuer}
    return jwt.encode(issued, suite.client.secret or "", algorithm="HS256")


@pytest.mark.parametrize("forged", [alg_none, signed_by_somebody_else, signed_by_the_client])
def test_an_id_token_that_is_not_ours_leads_nowhere(suite: Suite, forged: Callable[[Suite], str]) -> None:
    """oidcc-rp-initiated-logout-modified-id-token-hint, oidcc-rp-initiated-logout-bad-id-token-hint"""
    question = suite.end_session(id_token_hint=forged(suite))
    assert suite.signed_in
    answer = suite.press(question)
    assert answer.status == 200
    assert "You are signed out" in answer.body


def test_a_goal_without_an_id_token_is_an_error_page(suite: Suite) -> None:
    """oidcc-rp-initiated-logout-no-id-token-hint"""
    answer = suite.end_session(id_token_hint=None)
    assert answer.status == 400
    assert answer.header("location") is None
    assert suite.signed_in


@pytest.mark.parametrize("state", [None, "only"])
def test_without_an_id_token_the_person_is_asked_and_signed_out_here(suite: Suite, state: str | None) -> None:
    """oidcc-rp-initiated-logout-no-params, oidcc-rp-initiated-logout-only-state"""
    question = suite.end_session(id_token_hint=None, post_logout_redirect_uri=None, state=state)
    assert suite.signed_in
    answer = suite.press(question)
    assert answer.status == 200
    assert "You are signed out" in answer.body
    assert not suite.signed_in


def test_without_a_goal_a_page_says_that_it_is_done(suite: Suite) -> None:
    """oidcc-rp-initiated-logout-no-post-logout-redirect-uri"""
    answer = suite.end_session(post_logout_redirect_uri=None)
    assert answer.status == 200
    assert "You are signed out" in answer.body
    assert not suite.signed_in


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def test_the_application_hears_of_it_by_the_back_channel(
    site_with: Callable[..., Site], browsers: Callable[..., Browser], receiver: Receiver
) -> None:
    """oidcc-backchannel-rp-initiated-logout"""
    site = site_with(backchannel_networks=("127.0.0.0/8",))
    suite = Suite(
        site,
        browsers(site),
        backchannel_logout_uri=receiver.url,
        backchannel_logout_session_required=True,
    )
    assert came_back_to(suite.end_session()) == {"state": [suite.state]}
    site.run("deliver")
    (token,) = receiver.tokens
    keys = jwt.PyJWKSet.from_dict(suite.browser.get("/oauth2/jwks").json)
    claims = jwt.decode(
        token,
        keys[jwt.get_unverified_header(token)["kid"]],
        algorithms=["RS256"],
        audience=suite.client.id,
        issuer=site.settings.issuer,
    )
    id_token = jwt.decode(suite.id_token, options={"verify_signature": False})
    assert isinstance(claims["jti"], str)
    assert claims["events"] == {"http://schemas.openid.net/event/backchannel-logout": {}}
    assert (claims["sub"], claims["sid"]) == (id_token["sub"], id_token["sid"])
    assert "nonce" not in claims
    assert not suite.signed_in


def test_every_module_has_its_test() -> None:
    docstrings = [getattr(test, "__doc__", None) or "" for test in vars(sys.modules[__name__]).values()]
    named = {word.strip(",") for text in docstrings for word in text.split() if word.startswith("oidcc-")}
    assert named == set(MODULES)
