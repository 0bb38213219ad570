"""The OpenID Foundation's conformance plans RP-Initiated Logout OP and Back-Channel Logout OP.

There is a test for each module that the suite runs against a server with registered clients. Each docstring names its
modules; MODULES lists all of them. docs/certification.md says what the suite needs: a confidential client with
`--post-logout-redirect-uri` and `--backchannel-logout-uri`, and a user who presses "Sign out" on the sign-out page.
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

from tests.support.browser import Answer, Browser
from tests.support.receivers import Receiver
from tests.support.site import Site

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
    """The suite as a relying party, and the browser of the user."""

    def __init__(self, site: Site, browser: Browser, **members: Any):
        self.site, self.browser = site, browser
        self.state = "".join(map(chr, range(0x21, 0x7F)))  # all characters of RFC 6749 appendix A.5, except the space
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
        """Send a logout request with changed parameters; None omits a parameter."""
        given: dict[str, str | None] = {
            "id_token_hint": self.id_token,
            "post_logout_redirect_uri": f"{HOME}/post_logout_redirect",
            "state": self.state,
        }
        endpoint = self.browser.get("/.well-known/openid-configuration").json["end_session_endpoint"]
        present: dict[str, Any] = {name: value for name, value in (given | changes).items() if value is not None}
        return self.browser.get(endpoint, **present)

    def confirm(self, page: Answer) -> Answer:
        """Press "Sign out" on the sign-out page."""
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


def returned_parameters(answer: Answer) -> dict[str, list[str]]:
    """Return the parameters of the redirect to the post_logout_redirect_uri."""
    parts = urlsplit(answer.location)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{HOME}/post_logout_redirect"
    assert not parts.fragment
    return parse_qs(parts.query, keep_blank_values=True)


@pytest.mark.spec("OpenID Connect RP-Initiated Logout §2.1 a", "OpenID Connect RP-Initiated Logout §2.1 b")
@pytest.mark.spec("OpenID Connect Back-Channel Logout §2.1")
def test_metadata_has_the_end_session_endpoint_and_back_channel_logout(site_with: Callable[..., Site]) -> None:
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


def test_logout_redirects_with_the_state(suite: Suite) -> None:
    """oidcc-rp-initiated-logout"""
    assert returned_parameters(suite.end_session()) == {"state": [suite.state]}
    assert not suite.signed_in


def test_logout_without_a_state_redirects_without_one(suite: Suite) -> None:
    """oidcc-rp-initiated-logout-no-state"""
    assert returned_parameters(suite.end_session(state=None)) == {}
    assert not suite.signed_in


@pytest.mark.parametrize(
    "uri",
    [f"{HOME}/post_logout_redirect_bad", f"{HOME}/post_logout_redirect?foo=bar"],
    ids=["another", "with a query"],
)
def test_unregistered_post_logout_redirect_uri_ends_the_session_and_the_page_says_so(suite: Suite, uri: str) -> None:
    """oidcc-rp-initiated-logout-bad-post-logout-redirect-uri,
    oidcc-rp-initiated-logout-query-added-to-post-logout-redirect-uri

    The suite asks for a screenshot of a page that says that the request is invalid, as the address is not registered.
    """
    answer = suite.end_session(post_logout_redirect_uri=uri)
    assert answer.status == 200
    assert answer.header("location") is None
    assert "request is not valid: it asked to send you to an address that is not registered" in answer.body
    assert "You are signed out" in answer.body
    assert not suite.signed_in


def alg_none(suite: Suite) -> str:
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).rstrip(b"=").decode()
    return f"{header}.{suite.id_token.split('.')[1]}."


def signed_by_another_key(suite: Suite) -> str:
    claims = jwt.decode(suite.id_token, options={"verify_signature": False})
    return jwt.encode(claims, rsa.generate_private_key(65537, 2048), algorithm="RS256")


def signed_by_the_client(suite: Suite) -> str:
    """As the suite does: the issuer is the client and the audience is the server."""
    claims = jwt.decode(suite.id_token, options={"verify_signature": False})
    issued = claims | {"iss": suite.client.id, "aud": suite.site.settings.issuer}
    return jwt.encode(issued, suite.client.secret or "", algorithm="HS256")


@pytest.mark.parametrize("forged", [alg_none, signed_by_another_key, signed_by_the_client])
def test_forged_id_token_hint_does_not_redirect(suite: Suite, forged: Callable[[Suite], str]) -> None:
    """oidcc-rp-initiated-logout-modified-id-token-hint, oidcc-rp-initiated-logout-bad-id-token-hint"""
    confirmation = suite.end_session(id_token_hint=forged(suite))
    assert suite.signed_in
    answer = suite.confirm(confirmation)
    assert answer.status == 200
    assert "You are signed out" in answer.body


def test_post_logout_redirect_uri_without_an_id_token_asks_and_does_not_redirect(suite: Suite) -> None:
    """oidcc-rp-initiated-logout-no-id-token-hint"""
    confirmation = suite.end_session(id_token_hint=None)
    assert suite.signed_in
    answer = suite.confirm(confirmation)
    assert (answer.status, answer.header("location")) == (200, None)
    assert "You are signed out" in answer.body
    assert not suite.signed_in


@pytest.mark.parametrize("state", [None, "only"])
def test_logout_without_an_id_token_asks_and_shows_a_page(suite: Suite, state: str | None) -> None:
    """oidcc-rp-initiated-logout-no-params, oidcc-rp-initiated-logout-only-state"""
    confirmation = suite.end_session(id_token_hint=None, post_logout_redirect_uri=None, state=state)
    assert suite.signed_in
    answer = suite.confirm(confirmation)
    assert answer.status == 200
    assert "You are signed out" in answer.body
    assert not suite.signed_in


def test_logout_without_a_post_logout_redirect_uri_shows_a_page(suite: Suite) -> None:
    """oidcc-rp-initiated-logout-no-post-logout-redirect-uri"""
    answer = suite.end_session(post_logout_redirect_uri=None)
    assert answer.status == 200
    assert "You are signed out" in answer.body
    assert not suite.signed_in


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_application_gets_a_logout_token_by_back_channel(
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
    assert returned_parameters(suite.end_session()) == {"state": [suite.state]}
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


def test_every_module_has_a_test() -> None:
    docstrings = [getattr(test, "__doc__", None) or "" for test in vars(sys.modules[__name__]).values()]
    named = {word.strip(",") for text in docstrings for word in text.split() if word.startswith("oidcc-")}
    assert named == set(MODULES)
