"""DPoP at /oauth2/par: the code is bound to the key of the proof (RFC 9449 section 10.1)."""

from collections.abc import Callable
from functools import partial

import pytest

from chalicelib.keys.signing import thumbprint
from tests.endpoints.par.conftest import PAR, open_pushed, push
from tests.support.assertions import key_client, key_pair
from tests.support.browser import Answer, Browser
from tests.support.proofs import make_proof, public_jwk, with_proof
from tests.support.site import Registered, Site, dump_tables
from tests.support.threads import run_concurrently

JKT = thumbprint(public_jwk(key_pair()))
OTHER = key_pair("ES256", "another key")


@pytest.fixture(params=["confidential", "public", "private_key_jwt"])
def client(site: Site, request: pytest.FixtureRequest) -> Registered:
    site.user()
    return key_client(site) if request.param == "private_key_jwt" else site.client(public=request.param == "public")


def code_of(browser: Browser, client: Registered, pushed: Answer) -> str:
    """Sign in and allow a pushed request; return its code."""
    assert pushed.status == 201, pushed.body
    page = open_pushed(browser, client, pushed.json["request_uri"])
    page = browser.sign_in(page) if "password" in page.form.fields else page
    return browser.submit(page, decision="allow_once").code


@pytest.mark.spec("RFC 9449 §10.1 a", "RFC 9449 §10.1 b", "RFC 9449 §10.1 c")
@pytest.mark.parametrize("sent", ["proof", "dpop_jkt", "both"])
def test_code_of_a_pushed_request_is_bound(site: Site, browser: Browser, sent: str) -> None:
    site.user()
    client = site.client(public=True)
    headers = {} if sent == "dpop_jkt" else with_proof(site, PAR)
    jkt = {} if sent == "proof" else {"dpop_jkt": JKT}
    code = code_of(browser, client, push(browser, client, headers, **jkt))
    before = dump_tables()
    assert browser.redeem(client, code).json["error"] == "invalid_grant"
    assert browser.redeem(client, code, headers=with_proof(site, pair=OTHER)).json["error"] == "invalid_grant"
    assert dump_tables() == before
    assert browser.redeem(client, code, headers=with_proof(site)).json["token_type"] == "DPoP"


@pytest.mark.spec("RFC 9449 §10.1 d")
def test_key_of_the_proof_must_be_the_one_in_the_request(site: Site, browser: Browser, client: Registered) -> None:
    answer = push(browser, client, with_proof(site, PAR, pair=OTHER), dpop_jkt=JKT)
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert "dpop_jkt" in answer.json["error_description"]


def test_repeated_proof_is_refused_without_another_write(site: Site, browser: Browser, client: Registered) -> None:
    proof = make_proof(site, PAR)
    assert push(browser, client, {"DPoP": proof}).status == 201
    (stored,) = site.server.store.requests.scan()
    answer = push(browser, client, {"DPoP": proof})
    assert (answer.status, answer.json["error"]) == (400, "invalid_dpop_proof")
    assert list(site.server.store.requests.scan()) == [stored]
    assert push(browser, client, with_proof(site, PAR)).status == 201


def test_repeated_proof_is_refused_after_its_request_was_answered(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client()
    proof = make_proof(site, PAR, iat=site.clock.time + 10)
    code_of(browser, client, push(browser, client, {"DPoP": proof}))
    site.clock.advance(70)
    assert push(browser, client, {"DPoP": proof}).json["error"] == "invalid_dpop_proof"


def test_same_proof_of_another_client_is_another_request(site: Site, browser: Browser) -> None:
    proof = make_proof(site, PAR)
    assert [push(browser, site.client(), {"DPoP": proof}).status for _ in range(2)] == [201, 201]


def test_one_proof_at_the_same_time_makes_one_request(site: Site, browsers: Callable[..., Browser]) -> None:
    client, proof = site.client(), make_proof(site, PAR)
    several = [browsers() for _ in range(4)]
    answers = run_concurrently([partial(push, each, client, {"DPoP": proof}) for each in several])
    assert sorted(answer.status for answer in answers) == [201, 400, 400, 400]
    assert len(list(site.server.store.requests.scan())) == 1


def test_nonce_is_demanded_of_a_client_that_is_registered_for_it(site: Site, browser: Browser) -> None:
    client = site.client(dpop_nonce_required=True)
    answer = push(browser, client, with_proof(site, PAR))
    assert (answer.status, answer.json["error"]) == (400, "use_dpop_nonce")
    assert list(site.server.store.requests.scan()) == []
    assert push(browser, client, with_proof(site, PAR, nonce=answer.header("dpop-nonce"))).status == 201


def test_client_that_is_registered_for_bound_tokens_may_push_without_a_proof(site: Site, browser: Browser) -> None:
    assert push(browser, site.client(dpop_bound_access_tokens=True)).status == 201
