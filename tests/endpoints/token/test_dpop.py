"""DPoP at the token endpoint: tokens are bound to a key, codes and refresh tokens too, and a proof is used once."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.grants.refresh_token import ROTATIONS_KEPT
from chalicelib.keys.signing import thumbprint
from chalicelib.protocol.dpop import NONCE_PERIOD
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.tokens import issue
from tests.endpoints.userinfo.conftest import claims_of
from tests.support.assertions import key_client, key_pair, signed
from tests.support.browser import Answer, Browser, basic
from tests.support.grants import create_code, insert_grant, update_client
from tests.support.proofs import TOKEN, bound_tokens, make_proof, public_jwk, userinfo, with_proof
from tests.support.site import Registered, Site, dump_tables
from tests.support.threads import run_concurrently

JKT = thumbprint(public_jwk(key_pair()))
OTHER = key_pair("ES256", "another key")
OTHER_JKT = thumbprint(public_jwk(OTHER))


@pytest.fixture
def client(site: Site) -> Registered:
    site.user()
    return site.client()


@pytest.fixture
def public(site: Site) -> Registered:
    site.user()
    return site.client(public=True)


def refresh(browser: Browser, client: Registered, token: str, proof: str | None, **parameters: Any) -> Answer:
    return browser.refresh(client, token, headers={"DPoP": proof} if proof else {}, **parameters)


def is_refused(answer: Answer, error: str) -> bool:
    return (answer.status, answer.json["error"]) == (400, error)


# ---- tokens that are bound


@pytest.mark.parametrize("kind", ["confidential", "public"])
@pytest.mark.spec("RFC 9449 §5 a", "RFC 9449 §6 a", "RFC 9449 §6.1")
@pytest.mark.spec("RFC 9700 §2.2.1", "RFC 9700 §4.9.3 a", "RFC 9700 §4.10 a")
def test_tokens_are_bound_to_the_key_of_the_proof(site: Site, browser: Browser, kind: str) -> None:
    site.user("alice", claims={"name": "Alice"})
    client = site.client(public=kind == "public", scope="openid profile offline_access")
    tokens = bound_tokens(browser, client, scope="openid profile offline_access")
    assert tokens["token_type"] == "DPoP"
    assert claims_of(tokens["access_token"])["cnf"] == {"jkt": JKT}
    assert "cnf" not in claims_of(tokens["id_token"])
    assert userinfo(browser, tokens["access_token"]).json["name"] == "Alice"
    refreshed = refresh(browser, client, tokens["refresh_token"], make_proof(site)).json
    assert (refreshed["token_type"], claims_of(refreshed["access_token"])["cnf"]) == ("DPoP", {"jkt": JKT})
    assert userinfo(browser, refreshed["access_token"]).status == 200


@pytest.mark.spec("RFC 9449 §6 a", "RFC 9449 §6.2")
def test_introspection_tells_the_key(site: Site, browser: Browser, client: Registered) -> None:
    tokens = bound_tokens(browser, client)
    credentials = basic(client.id, client.secret or "")
    answer = browser.post("/oauth2/introspect", {"token": tokens["access_token"]}, credentials).json
    assert (answer["active"], answer["token_type"], answer["cnf"]) == (True, "DPoP", {"jkt": JKT})
    bearer = browser.tokens(client)["access_token"]
    answer = browser.post("/oauth2/introspect", {"token": bearer}, credentials).json
    assert (answer["token_type"], "cnf" in answer) == ("Bearer", False)
    assert "cnf" not in browser.post("/oauth2/introspect", {"token": tokens["refresh_token"]}, credentials).json


def test_introspection_of_a_bound_refresh_token_tells_its_key(site: Site, browser: Browser) -> None:
    """Of a client that has become confidential since: only such clients can introspect."""
    client = site.client()
    grant = insert_grant(site, client, redeemed_at=site.clock.time, generation=1, refresh_token_jkt=JKT)
    token = site.server.keys.make_handle("rt", grant.grant_id, 1)
    site.secrets.add(token)
    credentials = basic(client.id, client.secret or "")
    assert browser.post("/oauth2/introspect", {"token": token}, credentials).json["cnf"] == {"jkt": JKT}


def test_client_credentials_are_bound_to_the_key(site: Site, browser: Browser) -> None:
    machine = machine_client(site)
    answer = browser.token(machine, with_proof(site), grant_type="client_credentials")
    assert (answer.json["token_type"], claims_of(answer.json["access_token"])["cnf"]) == ("DPoP", {"jkt": JKT})


def machine_client(site: Site, **members: Any) -> Registered:
    return site.client(
        **({"scope": "photos", "grant_types": ("client_credentials",), "response_types": ()} | members),
        redirect_uris=(),
    )


@pytest.mark.spec("RFC 9449 §5.2", "RFC 9700 §2.2.1")
def test_client_that_is_registered_for_bound_tokens_gets_no_others(site: Site, browser: Browser) -> None:
    site.user()
    for client in (site.client(dpop_bound_access_tokens=True), site.client(public=True, dpop_bound_access_tokens=True)):
        code = browser.code(client)
        assert is_refused(browser.redeem(client, code), "invalid_dpop_proof")
        tokens = browser.redeem(client, code, headers=with_proof(site)).json
        assert is_refused(browser.refresh(client, tokens["refresh_token"]), "invalid_dpop_proof")
        assert refresh(browser, client, tokens["refresh_token"], make_proof(site)).status == 200
    machine = machine_client(site, dpop_bound_access_tokens=True)
    assert is_refused(browser.token(machine, grant_type="client_credentials"), "invalid_dpop_proof")


# ---- codes that are bound


@pytest.mark.parametrize("kind", ["confidential", "public"])
@pytest.mark.spec("RFC 9449 §10")
def test_code_is_bound_to_the_key_that_the_request_names(site: Site, browser: Browser, kind: str) -> None:
    site.user()
    client = site.client(public=kind == "public")
    code = browser.code(client, dpop_jkt=JKT)
    before = dump_tables()
    assert is_refused(browser.redeem(client, code), "invalid_grant")
    assert is_refused(browser.redeem(client, code, headers=with_proof(site, pair=OTHER)), "invalid_grant")
    assert dump_tables() == before, "the code is not consumed: a key cannot be guessed"
    assert browser.redeem(client, code, headers=with_proof(site)).status == 200


def test_code_whose_key_and_verifier_are_wrong_is_revoked(site: Site, browser: Browser, client: Registered) -> None:
    code = browser.code(client, dpop_jkt=JKT)
    assert is_refused(browser.redeem(client, code, code_verifier="x" * 43), "invalid_grant")
    assert is_refused(browser.redeem(client, code, headers=with_proof(site)), "invalid_grant")


@pytest.mark.parametrize("text", ["x", "x" * 42, "x" * 44, "x" * 42 + "=", "x" * 42 + "\u0661"])
def test_malformed_thumbprint_is_rejected(browser: Browser, client: Registered, text: str) -> None:
    answer = browser.authorize(client, dpop_jkt=text)
    assert answer.answer["error"] == "invalid_request"
    assert "dpop_jkt" in answer.answer["error_description"]


@pytest.mark.parametrize("pair", [None, OTHER], ids=["same key", "another key"])
def test_second_redemption_revokes_the_grant_whatever_its_key(
    site: Site, browser: Browser, public: Registered, pair: Any
) -> None:
    """RFC 6749 section 4.1.2: a thief with a key of its own may have been first."""
    code = browser.code(public)
    tokens = browser.redeem(public, code, headers=with_proof(site)).json
    assert is_refused(browser.redeem(public, code, headers=with_proof(site, pair=pair)), "invalid_grant")
    assert userinfo(browser, tokens["access_token"]).status == 401


def test_second_redemption_with_a_key_that_the_code_is_not_bound_to_revokes_nothing(
    site: Site, browser: Browser, public: Registered
) -> None:
    code = browser.code(public, dpop_jkt=JKT)
    tokens = browser.redeem(public, code, headers=with_proof(site)).json
    assert is_refused(browser.redeem(public, code, headers=with_proof(site, pair=OTHER)), "invalid_grant")
    assert is_refused(browser.redeem(public, code), "invalid_grant")
    assert userinfo(browser, tokens["access_token"]).status == 200


# ---- refresh tokens that are bound


@pytest.mark.spec("RFC 9449 §5 b", "RFC 9449 §5 c")
def test_refresh_token_of_a_public_client_is_bound(site: Site, browser: Browser, public: Registered) -> None:
    token = bound_tokens(browser, public)["refresh_token"]
    before = dump_tables()
    assert is_refused(refresh(browser, public, token, None), "invalid_grant")
    assert is_refused(refresh(browser, public, token, make_proof(site, pair=OTHER)), "invalid_grant")
    assert dump_tables() == before
    successor = refresh(browser, public, token, make_proof(site)).json["refresh_token"]
    assert is_refused(refresh(browser, public, successor, None), "invalid_grant")
    assert is_refused(refresh(browser, public, token, make_proof(site, pair=OTHER)), "invalid_grant")
    site.clock.advance(site.settings.refresh_token_retry_window)
    assert is_refused(refresh(browser, public, token, make_proof(site, pair=OTHER)), "invalid_grant")
    assert refresh(browser, public, successor, make_proof(site)).status == 200, "nothing was revoked"


def test_refresh_token_of_a_public_client_is_bound_when_it_first_sends_a_proof(
    site: Site, browser: Browser, public: Registered
) -> None:
    token = browser.tokens(public)["refresh_token"]
    bearer = browser.refresh(public, token)
    assert (bearer.status, bearer.json["token_type"]) == (200, "Bearer")
    bound = refresh(browser, public, bearer.json["refresh_token"], make_proof(site))
    assert (bound.status, bound.json["token_type"]) == (200, "DPoP")
    assert is_refused(browser.refresh(public, bearer.json["refresh_token"]), "invalid_grant"), "no retry without proof"
    assert is_refused(browser.refresh(public, bound.json["refresh_token"]), "invalid_grant")
    assert refresh(browser, public, bound.json["refresh_token"], make_proof(site)).status == 200


@pytest.mark.spec("RFC 9449 §5")
def test_refresh_token_of_a_confidential_client_is_not_bound(site: Site, browser: Browser, client: Registered) -> None:
    """Its authentication binds it, so that it can change its key."""
    tokens = bound_tokens(browser, client, dpop_jkt=JKT)
    refreshed = refresh(browser, client, tokens["refresh_token"], make_proof(site, pair=OTHER)).json
    assert claims_of(refreshed["access_token"])["cnf"] == {"jkt": OTHER_JKT}
    assert browser.refresh(client, refreshed["refresh_token"]).json["token_type"] == "Bearer"


def test_retry_with_a_new_proof_gets_the_current_token(site: Site, browser: Browser, public: Registered) -> None:
    token = bound_tokens(browser, public)["refresh_token"]
    first = refresh(browser, public, token, make_proof(site)).json
    again = refresh(browser, public, token, make_proof(site)).json
    assert again["refresh_token"] == first["refresh_token"]
    assert again["token_type"] == "DPoP"


# ---- a proof is used once


@pytest.mark.spec("RFC 9449 §11.1")
def test_repeated_refresh_with_the_same_proof_is_refused(site: Site, browser: Browser, client: Registered) -> None:
    token = bound_tokens(browser, client)["refresh_token"]
    proof = make_proof(site)
    successor = refresh(browser, client, token, proof).json["refresh_token"]
    before = dump_tables()
    for each in (token, successor):  # within the retry window, and with the next token
        assert is_refused(refresh(browser, client, each, proof), "invalid_dpop_proof")
    site.clock.advance(site.settings.refresh_token_retry_window)
    assert is_refused(refresh(browser, client, token, proof), "invalid_dpop_proof")
    assert dump_tables() == before, "nothing is revoked: the proof shows that this is not the client"
    assert refresh(browser, client, successor, make_proof(site)).status == 200


def test_proof_of_a_code_is_refused_for_a_refresh(site: Site, browser: Browser, client: Registered) -> None:
    proof = make_proof(site)
    token = browser.redeem(client, browser.code(client), headers={"DPoP": proof}).json["refresh_token"]
    assert is_refused(refresh(browser, client, token, proof), "invalid_dpop_proof")
    assert refresh(browser, client, token, make_proof(site)).status == 200


def test_repeated_redemption_with_the_same_proof_is_refused(site: Site, browser: Browser, client: Registered) -> None:
    code, proof = browser.code(client), make_proof(site)
    tokens = browser.redeem(client, code, headers={"DPoP": proof}).json
    before = dump_tables()
    assert is_refused(browser.redeem(client, code, headers={"DPoP": proof}), "invalid_dpop_proof")
    assert dump_tables() == before
    assert userinfo(browser, tokens["access_token"]).status == 200


def test_same_jti_of_another_key_is_another_proof(site: Site, browser: Browser, client: Registered) -> None:
    token = bound_tokens(browser, client)["refresh_token"]
    first = refresh(browser, client, token, make_proof(site, jti="1"))
    second = refresh(browser, client, first.json["refresh_token"], make_proof(site, jti="1", pair=OTHER))
    assert second.status == 200


@pytest.mark.parametrize("lifetime", [None, 60])
def test_repeated_client_credentials_with_the_same_proof_are_refused(
    site: Site, browser: Browser, lifetime: int | None
) -> None:
    """As long as the proof could be used, also when the access token has expired before."""
    machine, other = (machine_client(site, access_token_lifetime=lifetime) for _ in range(2))
    proof = make_proof(site, iat=site.clock.time + 10)
    answer = browser.token(machine, {"DPoP": proof}, grant_type="client_credentials")
    assert answer.json["expires_in"] == (lifetime or site.settings.access_token_lifetime)
    assert browser.token(other, {"DPoP": proof}, grant_type="client_credentials").status == 200
    for seconds in (0, 60, 10):
        site.clock.advance(seconds)
        assert is_refused(
            browser.token(machine, {"DPoP": proof}, grant_type="client_credentials"), "invalid_dpop_proof"
        )
    assert browser.token(machine, with_proof(site), grant_type="client_credentials").status == 200


@pytest.mark.parametrize("use", ["code", "refresh", "client_credentials"])
def test_one_proof_at_the_same_time_has_one_winner(site: Site, browsers: Callable[..., Browser], use: str) -> None:
    site.user()
    several = [browsers() for _ in range(4)]
    proof = make_proof(site)
    client = machine_client(site) if use == "client_credentials" else site.client(public=True)
    form: dict[str, Any] = {"grant_type": "client_credentials"}
    if use == "code":
        uri = client.record.redirect_uris[0]
        code = create_code(site, client)
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": uri}
        form |= {"code_verifier": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"}
    elif use == "refresh":
        tokens = browsers().redeem(client, create_code(site, client), headers=with_proof(site)).json
        form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    requests = [lambda each=each: each.token(client, {"DPoP": proof}, **form) for each in several]
    answers = run_concurrently(requests)
    assert sorted(answer.json.get("error", "") for answer in answers) == ["", *["invalid_dpop_proof"] * 3]
    assert all(grant.revoked_at is None for grant in site.server.store.grants.scan())


def test_parallel_refreshes_with_proofs_of_their_own_get_the_same_token(
    site: Site, browsers: Callable[..., Browser], public: Registered
) -> None:
    several = [browsers() for _ in range(4)]
    token = bound_tokens(several[0], public)["refresh_token"]
    proofs = [make_proof(site) for _ in several]
    requests = [
        lambda each=each, proof=proof: refresh(each, public, token, proof)
        for each, proof in zip(several, proofs, strict=True)
    ]
    assert len({answer.json["refresh_token"] for answer in run_concurrently(requests)}) == 1


def test_proof_may_be_repeated_when_no_token_was_issued(
    site: Site, browser: Browser, public: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code is valid again, and bound to no key: the transition is undone."""
    code, proof = create_code(site, public), make_proof(site)

    def fail(*_: Any) -> str:
        raise TemporarilyUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(issue, "_access_token", fail)
        assert browser.redeem(public, code, headers={"DPoP": proof}).status == 503
    answer = browser.redeem(public, code, headers={"DPoP": proof})
    assert answer.status == 200
    other = create_code(site, public)
    with monkeypatch.context() as patch:
        patch.setattr(issue, "_access_token", fail)
        assert browser.redeem(public, other, headers={"DPoP": make_proof(site)}).status == 503
    token = browser.redeem(public, other).json["refresh_token"]
    assert browser.refresh(public, token).status == 200


def test_refresh_can_be_repeated_with_a_new_proof_when_no_token_was_issued(
    site: Site, browser: Browser, public: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = bound_tokens(browser, public)["refresh_token"]
    with monkeypatch.context() as patch:
        patch.setattr(issue, "_access_token", lambda *_: 1 / 0)
        assert refresh(browser, public, token, make_proof(site)).status == 500
    site.clock.advance(site.settings.refresh_token_retry_window + 1)
    assert refresh(browser, public, token, make_proof(site)).status == 200


def test_older_token_with_a_new_proof_is_a_replay(site: Site, browser: Browser, client: Registered) -> None:
    first = token = bound_tokens(browser, client)["refresh_token"]
    for _ in range(ROTATIONS_KEPT + 1):
        token = refresh(browser, client, token, make_proof(site)).json["refresh_token"]
    assert is_refused(refresh(browser, client, first, make_proof(site)), "invalid_grant")
    assert is_refused(refresh(browser, client, token, make_proof(site)), "invalid_grant")


# ---- nonces


@pytest.mark.spec("RFC 9449 §8 b", "RFC 9449 §8 c", "RFC 9449 §8.1", "RFC 9449 §8.2", "RFC 9449 §11.3")
def test_nonce_is_demanded_of_a_client_that_is_registered_for_it(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client(dpop_nonce_required=True)
    code = browser.code(client)
    before = dump_tables()
    answer = browser.redeem(client, code, headers=with_proof(site))
    assert is_refused(answer, "use_dpop_nonce")
    assert answer.header("cache-control") == "no-store"
    assert dump_tables() == before
    nonce = answer.header("dpop-nonce")
    answer = browser.redeem(client, code, headers=with_proof(site, nonce=nonce))
    assert (answer.status, answer.header("dpop-nonce")) == (200, nonce)
    site.clock.advance(NONCE_PERIOD)
    token = answer.json["refresh_token"]
    answer = refresh(browser, client, token, make_proof(site, nonce=nonce))
    assert answer.status == 200
    assert answer.header("dpop-nonce") not in (None, nonce)
    site.clock.advance(NONCE_PERIOD)
    answer = refresh(browser, client, answer.json["refresh_token"], make_proof(site, nonce=nonce))
    assert is_refused(answer, "use_dpop_nonce")


@pytest.mark.spec("RFC 9449 §8.2", "RFC 9449 §11.3")
def test_only_a_client_that_needs_a_nonce_is_given_one(site: Site, browser: Browser, client: Registered) -> None:
    """It gets one with every answer, also with an error. Another client would have to send it from then on."""
    for required in (True, False):
        update_client(site, client, dpop_nonce_required=required)
        headers = with_proof(site)
        answers = [
            browser.token(client, {"DPoP": "no proof"}, grant_type="refresh_token"),
            browser.token(client, headers, grant_type="authorization_code", code="code_forged"),
        ]
        assert [answer.status for answer in answers] == [400, 400]
        nonces = [[value for name, value in answer.headers if name.lower() == "dpop-nonce"] for answer in answers]
        assert [len(each) for each in nonces] == ([1, 1] if required else [0, 0])


@pytest.mark.spec("RFC 9449 §8 c")
def test_old_nonce_is_refused_of_every_client(site: Site, browser: Browser, client: Registered) -> None:
    """The operator may no longer require one: the client gets the next one, and goes on."""
    update_client(site, client, dpop_nonce_required=True)
    code = browser.code(client)
    nonce = browser.redeem(client, code, headers=with_proof(site)).header("dpop-nonce")
    update_client(site, client, dpop_nonce_required=False)
    assert nonce
    site.clock.advance(2 * NONCE_PERIOD)
    code = browser.code(client)
    answer = browser.redeem(client, code, headers=with_proof(site, nonce=nonce))
    assert is_refused(answer, "use_dpop_nonce")
    nonce = answer.header("dpop-nonce")
    assert browser.redeem(client, code, headers=with_proof(site, nonce=nonce)).status == 200


def test_nonce_of_another_process_is_accepted(site: Site, site_with: Callable[..., Site], browser: Browser) -> None:
    site.user()
    client = site.client(dpop_nonce_required=True)
    other = site_with()
    other.clock.time = site.clock.time
    other_browser = Browser(other)
    nonce = other_browser.token(client, with_proof(other), grant_type="refresh_token").header("dpop-nonce")
    other_browser.close()
    code = browser.code(client)
    assert browser.redeem(client, code, headers=with_proof(site, nonce=nonce)).status == 200


# ---- with other kinds of client authentication


def test_proof_and_client_assertion_are_sent_together(site: Site, browser: Browser) -> None:
    site.user()
    client = key_client(site, dpop_bound_access_tokens=True)
    code = create_code(site, client)
    uri = client.record.redirect_uris[0]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": uri}
    form |= {"code_verifier": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"}
    answer = browser.post(TOKEN, form | signed(site, client), with_proof(site, pair=OTHER))
    assert claims_of(answer.json["access_token"])["cnf"] == {"jkt": OTHER_JKT}
    form = {"grant_type": "refresh_token", "refresh_token": answer.json["refresh_token"]}
    answer = browser.post(TOKEN, form | signed(site, client), with_proof(site))
    assert claims_of(answer.json["access_token"])["cnf"] == {"jkt": JKT}, "its authentication binds the refresh token"


def test_proof_is_checked_after_the_client(site: Site, browser: Browser, client: Registered) -> None:
    answer = browser.post(TOKEN, {"client_id": client.id, "client_secret": "wrong"}, {"DPoP": "no proof"})
    assert (answer.status, answer.json["error"]) == (401, "invalid_client")


@pytest.mark.spec("Fetch §3.3")
def test_page_of_the_client_may_send_a_proof_and_read_the_nonce(site: Site, browser: Browser) -> None:
    client = site.client(public=True, redirect_uris=["https://app.example.com/cb"])
    origin = {"Origin": "https://app.example.com"}
    requested = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "dpop"}
    preflight = browser.request("OPTIONS", TOKEN, headers=origin | requested)
    assert "dpop" in (preflight.header("access-control-allow-headers") or "").lower()
    answer = browser.redeem(client, create_code(site, client), headers=origin | with_proof(site))
    assert answer.header("access-control-allow-origin") == origin["Origin"]
    exposed = (answer.header("access-control-expose-headers") or "").split(", ")
    assert {"DPoP-Nonce", "WWW-Authenticate"} <= {*exposed}


def test_operator_ends_bearer_tokens_of_a_client_by_its_registration(
    site: Site, browser: Browser, client: Registered
) -> None:
    token = browser.tokens(client)["refresh_token"]
    update_client(site, client, dpop_bound_access_tokens=True)
    assert is_refused(browser.refresh(client, token), "invalid_dpop_proof")
    assert refresh(browser, client, token, make_proof(site)).json["token_type"] == "DPoP"


def test_client_is_not_rejected_because_of_a_cached_record(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client(dpop_bound_access_tokens=True)
    code = browser.code(client)
    assert is_refused(browser.redeem(client, code), "invalid_dpop_proof")
    site.server.store.clients.put(replace(client.record, dpop_bound_access_tokens=False))
    assert browser.redeem(client, code).json["token_type"] == "Bearer"
