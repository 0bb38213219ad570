"""Signed authorization responses (JARM): a JWT in each response mode, also of errors."""

from typing import Any

import jwt
import pytest

from chalicelib.keys.signing import ALGORITHMS
from chalicelib.protocol.errors import InvalidClientMetadata, TemporarilyUnavailable
from chalicelib.protocol.response_types import check_response
from tests.endpoints.par.conftest import open_pushed, pushed
from tests.support.browser import Answer, Browser
from tests.support.grants import update_client
from tests.support.site import Registered, Site, dump_tables

pytestmark = pytest.mark.spec("JARM §2")

HYBRID = {"response_type": "code id_token", "nonce": "n"}
# parameters of the request, how the response is sent
MODES: list[tuple[dict[str, str], str]] = [
    ({"response_mode": "query.jwt"}, "query"),
    ({"response_mode": "jwt"}, "query"),
    ({"response_mode": "fragment.jwt"}, "fragment"),
    ({"response_mode": "form_post.jwt"}, "form_post"),
    (HYBRID | {"response_mode": "jwt"}, "fragment"),
    (HYBRID | {"response_mode": "fragment.jwt"}, "fragment"),
    (HYBRID | {"response_mode": "form_post.jwt"}, "form_post"),
]
modes = pytest.mark.parametrize(
    ("parameters", "mode"), MODES, ids=[" ".join(parameters.values()) for parameters, _ in MODES]
)


@pytest.fixture
def client(site: Site) -> Registered:
    site.user("alice")
    return site.client(response_types=("code", "code id_token"))


def verified(site: Site, browser: Browser, client: Registered, answer: Answer, alg: str = "RS256") -> dict[str, Any]:
    """Return the parameters in the JWT of a response, without `iss`, `aud` and `exp`, which are checked."""
    assert set(answer.answer) == {"response"}
    text = answer.answer["response"]
    keys = jwt.PyJWKSet.from_dict(browser.get("/oauth2/jwks").json)
    key = keys[jwt.get_unverified_header(text)["kid"]]
    options: Any = {"verify_exp": False, "require": ["iss", "aud", "exp"]}
    claims = jwt.decode(text, key, algorithms=[alg], issuer=site.settings.issuer, audience=client.id, options=options)
    site.secrets.update(claims[name] for name in ("code", "id_token") if name in claims)
    assert claims.pop("exp") == site.clock.time + 600
    assert claims.pop("aud") == client.id
    assert claims.pop("iss") == site.settings.issuer
    return claims


@modes
@pytest.mark.spec("JARM §2.1 a", "JARM §2.1 b", "JARM §2.1 c", "JARM §2.1 d", "JARM §2.1 e", "JARM §2.2 a")
@pytest.mark.spec("JARM §2.3.1 a", "JARM §2.3.2", "JARM §2.3.3", "JARM §2.3.4")
def test_response_is_a_signed_jwt(
    site: Site, browser: Browser, client: Registered, parameters: dict[str, str], mode: str
) -> None:
    state = "ü\"'<>&\u2028\U0001f600 " * 20
    answer = browser.answer(client, **parameters, state=state)
    assert answer.mode == mode
    response = verified(site, browser, client, answer)
    tokens = {"id_token"} if "nonce" in parameters else set()
    assert set(response) == {"code", "state"} | tokens
    assert response["state"] == state
    assert answer.header("cache-control") == "no-store"
    if mode != "query":
        assert "response" not in (answer.header("location") or "").partition("#")[0]
    assert browser.redeem(client, response["code"]).status == 200


@modes
@pytest.mark.spec("JARM §2.1 f")
def test_error_is_a_signed_jwt(
    site: Site, browser: Browser, client: Registered, parameters: dict[str, str], mode: str
) -> None:
    errors: list[tuple[dict[str, Any], str]] = [
        ({"prompt": "none"}, "login_required"),
        ({"scope": "phone"}, "invalid_scope"),
        ({"code_challenge": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
    ]
    for changes, error in errors:
        answer = browser.authorize(client, **(parameters | changes))
        response = verified(site, browser, client, answer)
        assert response.pop("error_description")
        assert response == {"error": error, "state": "af0ifjsldkj"}
        assert answer.mode == mode or changes.get("response_type")
    page = browser.sign_in(browser.follow(browser.authorize(client, **parameters)))
    denied = browser.submit(page, decision="deny")
    assert (denied.mode, verified(site, browser, client, denied)["error"]) == (mode, "access_denied")


@pytest.mark.spec("JARM §2.2 b", "JARM §3 a", "JARM §4")
@pytest.mark.parametrize("alg", ALGORITHMS)
def test_response_is_signed_with_the_algorithm_of_the_client(
    site: Site, browser: Browser, client: Registered, alg: str
) -> None:
    update_client(site, client, authorization_signed_response_alg=alg)
    answer = browser.answer(client, response_mode="jwt")
    assert verified(site, browser, client, answer, alg)["code"]
    assert alg in browser.get("/.well-known/openid-configuration").json["authorization_signing_alg_values_supported"]


@pytest.mark.spec("JARM §2.3.1 b")
def test_query_does_not_carry_a_token(site: Site, browser: Browser, client: Registered) -> None:
    """JARM section 2.3.1: unless it is encrypted. The error is sent in the fragment, and signed."""
    answer = browser.authorize(client, **HYBRID, response_mode="query.jwt")
    assert answer.mode == "fragment"
    assert verified(site, browser, client, answer)["error"] == "invalid_request"


def test_form_is_not_posted_to_an_application(site: Site, browser: Browser) -> None:
    client = site.client(redirect_uris=["com.example.app:/cb"], public=True)
    answer = browser.authorize(client, response_mode="form_post.jwt")
    assert (answer.mode, verified(site, browser, client, answer)["error"]) == ("query", "invalid_request")


@pytest.mark.parametrize("mode", [".jwt", "jwt.jwt", "query.jwt.jwt", "JWT", "query.JWT", "x.jwt"])
def test_unknown_mode_is_rejected_without_a_signature(browser: Browser, client: Registered, mode: str) -> None:
    answer = browser.authorize(client, response_mode=mode)
    assert (answer.mode, answer.answer["error"]) == ("query", "invalid_request")
    assert "form_post.jwt" in answer.answer["error_description"]


def test_pushed_request_is_answered_by_a_jwt(site: Site, browser: Browser, client: Registered) -> None:
    uri = pushed(browser, client, response_mode="jwt")
    page = browser.sign_in(browser.follow(open_pushed(browser, client, uri)))
    assert verified(site, browser, client, browser.submit(page, decision="allow_once"))["code"]


def test_button_that_is_pressed_twice_gets_two_jwts(site: Site, browser: Browser, client: Registered) -> None:
    page = browser.sign_in(browser.authorize(client, response_mode="form_post.jwt"))
    answers = [browser.submit(page, decision="allow_once") for _ in range(2)]
    codes = [verified(site, browser, client, answer)["code"] for answer in answers]
    assert [browser.redeem(client, code).status for code in codes] == [200, 200]


def test_jwt_is_no_id_token(site: Site, browser: Browser, client: Registered) -> None:
    """It has no sub, so that it cannot be used as an id_token_hint."""
    text = browser.answer(client, response_mode="jwt").answer["response"]
    site.secrets.add(text)
    answer = browser.authorize(client, id_token_hint=text)
    assert answer.answer["error"] == "invalid_request"


@pytest.mark.parametrize("changes", [{}, {"prompt": "none"}], ids=["response", "error"])
def test_user_sees_a_page_when_the_response_cannot_be_signed(
    site: Site, browser: Browser, client: Registered, changes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    browser.code(client, "allow_always")

    def fail(*_: Any) -> str:
        raise TemporarilyUnavailable(detail="KMS does not sign")

    monkeypatch.setattr(site.server.keys, "sign", fail)
    if changes:
        browser.cookies.clear()
    before = dump_tables()
    answer = browser.authorize(client, response_mode="jwt", **changes)
    assert (answer.status, answer.header("location")) == (503, None)
    assert "text/html" in (answer.header("content-type") or "")
    assert dump_tables() == before, "no grant is created for an answer that cannot be sent"


def test_answer_that_could_not_be_signed_is_given_by_the_same_button(
    site: Site, browser: Browser, client: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is signed before anything is written, so the request is not answered, and the button can be pressed again."""
    page = browser.sign_in(browser.authorize(client, response_mode="jwt"))
    before = dump_tables()

    def fail(*_: Any) -> str:
        raise TemporarilyUnavailable(detail="KMS does not sign")

    with monkeypatch.context() as failing:
        failing.setattr(site.server.keys, "sign", fail)
        answer = browser.submit(page, decision="allow_always")
        assert (answer.status, answer.header("location")) == (503, None)
    assert dump_tables() == before
    response = verified(site, browser, client, browser.submit(page, decision="allow_always"))
    assert browser.redeem(client, response["code"]).status == 200


def test_answer_that_could_not_be_signed_again_does_not_count_as_repeated(
    site: Site, browser: Browser, client: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = browser.sign_in(browser.authorize(client, response_mode="jwt"))
    assert verified(site, browser, client, browser.submit(page, decision="allow_once"))["code"]
    before = dump_tables()

    def fail(*_: Any) -> str:
        raise TemporarilyUnavailable(detail="KMS does not sign")

    with monkeypatch.context() as failing:
        failing.setattr(site.server.keys, "sign", fail)
        assert browser.submit(page, decision="allow_once").status == 503
    assert dump_tables() == before
    assert verified(site, browser, client, browser.submit(page, decision="allow_once"))["code"]


@pytest.mark.spec("JARM §3 b")
def test_algorithm_none_cannot_be_registered(site: Site) -> None:
    with pytest.raises(InvalidClientMetadata, match="authorization_signed_response_alg"):
        site.client(authorization_signed_response_alg="none")


def test_default_of_the_mode_jwt_is_stored_by_its_name(site: Site) -> None:
    record = site.client(response_types=("code", "code id_token")).record
    uri = record.redirect_uris[0]
    assert check_response(record, "code", "jwt", uri) == ("code", "query.jwt")
    assert check_response(record, "id_token code", "jwt", uri) == ("code id_token", "fragment.jwt")
