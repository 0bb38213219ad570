"""Access and refresh tokens that are bound to a certificate (RFC 8705 sections 3 and 4)."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.protocol.errors import ServerError, TemporarilyUnavailable
from chalicelib.tokens import issue as tokens
from tests.endpoints.userinfo.conftest import claims_of
from tests.support.browser import Answer, Browser, basic
from tests.support.client_certificates import (
    DOMAIN,
    SUBJECT,
    CertificateBrowser,
    authority,
    client_cert,
    issue,
    of_authority,
    pki_client,
    put_certificate,
    self_signed,
)
from tests.support.gateways import GatewayBrowser
from tests.support.grants import create_code, insert_grant, update_client
from tests.support.proofs import USERINFO, make_proof, with_token
from tests.support.site import Registered, Site, dump_tables

BOUND = {"tls_client_certificate_bound_access_tokens": True}
SCOPE = "openid profile offline_access"


@pytest.fixture
def client(mtls_site: Site) -> Registered:
    """Return a public client whose tokens are bound."""
    return mtls_site.client(public=True, scope=SCOPE, **BOUND)


@pytest.fixture
def holder(mtls_site: Site) -> CertificateBrowser:
    """Return a client with the certificate that the tokens are bound to."""
    return CertificateBrowser(mtls_site, self_signed())


@pytest.fixture
def thief(mtls_site: Site) -> CertificateBrowser:
    """Return a client with another certificate."""
    return CertificateBrowser(mtls_site, self_signed("CN=thief"))


def is_refused(answer: Answer, error: str, status: int = 400) -> bool:
    return (answer.status, answer.json["error"]) == (status, error)


def bound_tokens(holder: Browser, ordinary: Browser, client: Registered, **parameters: Any) -> dict[str, Any]:
    """Go through the whole flow, with the certificate at the token endpoint; return the token response."""
    answer = holder.redeem(client, ordinary.code(client, scope=SCOPE, **parameters))
    assert answer.status == 200, answer.body
    return answer.json


# ---- access tokens


@pytest.mark.parametrize("kind", ["confidential", "public", "by certificate"])
@pytest.mark.spec("RFC 8705 §3 a", "RFC 8705 §3 b", "RFC 8705 §3.1", "RFC 8705 §3.4")
@pytest.mark.spec("RFC 9700 §2.2.1", "RFC 9700 §4.9.3 a", "RFC 9700 §4.10 a")
def test_access_token_is_bound_to_the_certificate(
    mtls_site: Site, ordinary: GatewayBrowser, thief: CertificateBrowser, kind: str
) -> None:
    client = (
        pki_client(mtls_site, scope=SCOPE, **BOUND)
        if kind == "by certificate"
        else mtls_site.client(public=kind == "public", scope=SCOPE, **BOUND)
    )
    holder = CertificateBrowser(mtls_site, of_authority())
    answer = bound_tokens(holder, ordinary, client)
    assert answer["token_type"] == "Bearer"
    assert claims_of(answer["access_token"])["cnf"] == {"x5t#S256": of_authority().x5t}
    assert "cnf" not in claims_of(answer["id_token"])
    assert holder.userinfo(answer["access_token"]).json["name"] == "Alice"
    refreshed = holder.refresh(client, answer["refresh_token"]).json
    for token in (answer["access_token"], refreshed["access_token"]):
        for other in (thief, ordinary):
            refused = other.userinfo(token)
            assert is_refused(refused, "invalid_token", 401)
            assert 'error="invalid_token"' in (refused.header("x-signet-www-authenticate") or "")


@pytest.mark.spec("RFC 8705 §3.1")
def test_thumbprint_is_that_of_the_library() -> None:
    from cryptography.hazmat.primitives import hashes

    from chalicelib.protocol.handles import base64url

    pair = of_authority()
    assert pair.x5t == base64url(pair.certificate.fingerprint(hashes.SHA256()))
    assert "=" not in pair.x5t


def test_client_credentials_are_bound(mtls_site: Site, ordinary: GatewayBrowser) -> None:
    members: dict[str, Any] = {"scope": "photos", "grant_types": ("client_credentials",), "response_types": ()}
    client = pki_client(mtls_site, **members, **BOUND)
    form = {"client_id": client.id, "grant_type": "client_credentials"}
    token = CertificateBrowser(mtls_site).post("/oauth2/token", form).json["access_token"]
    assert claims_of(token)["cnf"] == {"x5t#S256": of_authority().x5t}


@pytest.mark.spec("RFC 8705 §3.2")
def test_introspection_tells_the_certificate(mtls_site: Site, ordinary: GatewayBrowser) -> None:
    client, holder = pki_client(mtls_site, scope=SCOPE, **BOUND), CertificateBrowser(mtls_site)
    answer = bound_tokens(holder, ordinary, client)
    introspected = holder.post("/oauth2/introspect", {"client_id": client.id, "token": answer["access_token"]}).json
    assert introspected["cnf"] == {"x5t#S256": of_authority().x5t}
    assert introspected["token_type"] == "Bearer"
    refresh = holder.post("/oauth2/introspect", {"client_id": client.id, "token": answer["refresh_token"]}).json
    assert "cnf" not in refresh, "client authentication binds it"


def test_introspection_of_a_bound_refresh_token_tells_its_certificate(site: Site, browser: Browser) -> None:
    """Of a client that has become confidential since: only such clients can introspect."""
    client = site.client()
    grant = insert_grant(site, client, redeemed_at=site.clock.time, generation=1, refresh_token_x5t="x5t")
    token = site.server.keys.make_handle("rt", grant.grant_id, 1)
    site.secrets.add(token)
    credentials = basic(client.id, client.secret or "")
    assert browser.post("/oauth2/introspect", {"token": token}, credentials).json["cnf"] == {"x5t#S256": "x5t"}


def test_client_that_has_not_asked_gets_bearer_tokens(mtls_site: Site, ordinary: GatewayBrowser) -> None:
    client, holder = pki_client(mtls_site, scope=SCOPE), CertificateBrowser(mtls_site)
    answer = bound_tokens(holder, ordinary, client)
    assert "cnf" not in claims_of(answer["access_token"])
    assert ordinary.userinfo(answer["access_token"]).status == 200


@pytest.mark.spec("RFC 8705 §3.4")
def test_client_that_has_asked_gets_no_other_tokens(
    client: Registered, ordinary: GatewayBrowser, holder: CertificateBrowser
) -> None:
    code = ordinary.code(client, scope=SCOPE)
    before = dump_tables()
    assert is_refused(ordinary.redeem(client, code), "invalid_request")
    assert dump_tables() == before, "the code is not consumed"
    answer = holder.redeem(client, code).json
    assert is_refused(ordinary.refresh(client, answer["refresh_token"]), "invalid_request")
    assert holder.refresh(client, answer["refresh_token"]).status == 200


def test_cached_record_binds_no_tokens_any_longer(
    mtls_site: Site, client: Registered, ordinary: GatewayBrowser, holder: CertificateBrowser
) -> None:
    code = ordinary.code(client, scope=SCOPE)
    assert is_refused(ordinary.redeem(client, code), "invalid_request")
    record = mtls_site.server.store.clients.get(client.id)
    assert record
    mtls_site.server.store.clients.delete(client.id)
    assert is_refused(ordinary.redeem(client, code), "invalid_request"), "deleted, and still cached"
    mtls_site.server.store.clients.put(replace(record, tls_client_certificate_bound_access_tokens=None))
    assert ordinary.redeem(client, code).status == 200


def test_grant_type_that_forgets_the_certificate_issues_no_token(mtls_site: Site, client: Registered) -> None:
    grant = insert_grant(mtls_site, client, redeemed_at=mtls_site.clock.time)
    with pytest.raises(ServerError):
        tokens.issue(mtls_site.server, client.record, grant, grant.scope)


# ---- refresh tokens of clients that do not authenticate


@pytest.mark.spec("RFC 8705 §4")
def test_refresh_token_of_a_public_client_is_bound(
    mtls_site: Site, client: Registered, ordinary: GatewayBrowser, holder: CertificateBrowser, thief: CertificateBrowser
) -> None:
    answer = bound_tokens(holder, ordinary, client)
    before = dump_tables()
    assert is_refused(thief.refresh(client, answer["refresh_token"]), "invalid_grant")
    assert dump_tables() == before, "a thief ends nothing"
    refreshed = holder.refresh(client, answer["refresh_token"]).json
    assert is_refused(thief.refresh(client, refreshed["refresh_token"]), "invalid_grant")
    assert is_refused(thief.refresh(client, answer["refresh_token"]), "invalid_grant"), "within the retry window too"
    assert holder.refresh(client, answer["refresh_token"]).json["refresh_token"] == refreshed["refresh_token"]


def test_refresh_token_stays_bound_when_the_client_no_longer_asks(
    mtls_site: Site, client: Registered, ordinary: GatewayBrowser, holder: CertificateBrowser, thief: CertificateBrowser
) -> None:
    answer = bound_tokens(holder, ordinary, client)
    update_client(mtls_site, client, tls_client_certificate_bound_access_tokens=None)
    for other in (thief, ordinary):
        assert is_refused(other.refresh(client, answer["refresh_token"]), "invalid_grant")
    refreshed = holder.refresh(client, answer["refresh_token"])
    assert "cnf" not in claims_of(refreshed.json["access_token"])


def test_unbound_refresh_token_becomes_bound_by_its_next_use(
    mtls_site: Site, ordinary: GatewayBrowser, holder: CertificateBrowser, thief: CertificateBrowser
) -> None:
    client = mtls_site.client(public=True, scope=SCOPE)
    answer = ordinary.redeem(client, ordinary.code(client, scope=SCOPE)).json
    update_client(mtls_site, client, **BOUND)
    refreshed = holder.refresh(client, answer["refresh_token"]).json
    assert is_refused(thief.refresh(client, refreshed["refresh_token"]), "invalid_grant")
    assert holder.refresh(client, refreshed["refresh_token"]).status == 200


@pytest.mark.spec("RFC 8705 §7.1")
def test_refresh_token_of_a_client_that_authenticates_can_change_its_certificate(
    mtls_site: Site, ordinary: GatewayBrowser
) -> None:
    """Client authentication binds it, so that certificates can be renewed (section 6.3)."""
    client = pki_client(mtls_site, scope=SCOPE, **BOUND)
    answer = bound_tokens(CertificateBrowser(mtls_site), ordinary, client)
    renewed = issue(SUBJECT, authority())
    refreshed = CertificateBrowser(mtls_site, renewed).refresh(client, answer["refresh_token"]).json
    assert claims_of(refreshed["access_token"])["cnf"] == {"x5t#S256": renewed.x5t}
    other = CertificateBrowser(mtls_site, of_authority("CN=another"))
    assert is_refused(other.refresh(client, refreshed["refresh_token"]), "invalid_client", 401)


def test_code_that_could_not_be_answered_is_bound_to_no_certificate(
    mtls_site: Site,
    client: Registered,
    holder: CertificateBrowser,
    thief: CertificateBrowser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = create_code(mtls_site, client)

    def fail(*_arguments: Any, **_members: Any) -> None:
        raise TemporarilyUnavailable(detail="KMS does not sign")

    with monkeypatch.context() as patched:
        patched.setattr(tokens, "issue", fail)
        assert holder.redeem(client, code).status == 503
    (grant,) = mtls_site.server.store.grants.scan()
    assert (grant.refresh_token_x5t, grant.redeemed_at) == (None, None)
    assert thief.redeem(client, code).status == 200, "a public client proves nothing but its code and its verifier"


# ---- certificates and DPoP


def test_token_is_bound_to_one_key(
    mtls_site: Site, client: Registered, ordinary: GatewayBrowser, holder: CertificateBrowser
) -> None:
    """RFC 7800 section 3.1: `cnf` is about one key. A client that has asked for its certificate sends no proof."""
    code = ordinary.code(client, scope=SCOPE)
    proof = make_proof(mtls_site, htu=f"https://{DOMAIN}/oauth2/token")
    answer = holder.redeem(client, code, headers={"DPoP": proof})
    assert is_refused(answer, "invalid_request")
    assert "send no DPoP proof" in answer.json["error_description"]
    assert holder.redeem(client, code).status == 200


def test_client_with_a_certificate_binds_its_tokens_by_dpop(mtls_site: Site, ordinary: GatewayBrowser) -> None:
    """As FAPI 2.0 allows: it authenticates by its certificate. The proof is for the address that it uses."""
    client, holder = pki_client(mtls_site, scope=SCOPE, dpop_bound_access_tokens=True), CertificateBrowser(mtls_site)
    code = ordinary.code(client, scope=SCOPE)
    for_other_address = make_proof(mtls_site)
    assert is_refused(holder.redeem(client, code, headers={"DPoP": for_other_address}), "invalid_dpop_proof")
    proof = make_proof(mtls_site, htu=f"https://{DOMAIN}/oauth2/token")
    answer = holder.redeem(client, code, headers={"DPoP": proof})
    assert answer.json["token_type"] == "DPoP"
    assert list(claims_of(answer.json["access_token"])["cnf"]) == ["jkt"]
    token = answer.json["access_token"]
    assert ordinary.get(USERINFO, with_token(mtls_site, token)).status == 200
    at_alias = with_token(mtls_site, token, htu=f"https://{DOMAIN}{USERINFO}")
    assert holder.get(USERINFO, at_alias).status == 200
    assert holder.get(USERINFO, with_token(mtls_site, token)).status == 401


def test_bound_token_is_refused_with_a_proof(
    mtls_site: Site, client: Registered, ordinary: GatewayBrowser, holder: CertificateBrowser
) -> None:
    token = bound_tokens(holder, ordinary, client)["access_token"]
    headers = with_token(mtls_site, token, htu=f"https://{DOMAIN}{USERINFO}")
    assert is_refused(holder.get(USERINFO, headers), "invalid_token", 401)


# ---- UserInfo


@pytest.mark.parametrize(
    "changes",
    [{"clientCertPem": "garbage"}, {"subjectDN": "CN=another"}, {"clientCertPem": self_signed("CN=thief").pem}],
)
@pytest.mark.spec("RFC 8705 §3 b")
def test_bound_token_is_refused_with_a_certificate_that_cannot_be_used(
    mtls_site: Site,
    client: Registered,
    ordinary: GatewayBrowser,
    holder: CertificateBrowser,
    changes: dict[str, Any],
) -> None:
    token = bound_tokens(holder, ordinary, client)["access_token"]
    certificate = client_cert(self_signed(), **changes)
    browser = CertificateBrowser(mtls_site, put=lambda event: put_certificate(event, certificate))
    assert is_refused(browser.userinfo(token), "invalid_token", 401)


def test_bound_token_is_refused_once_the_certificate_has_expired(mtls_site: Site, ordinary: GatewayBrowser) -> None:
    client = mtls_site.client(public=True, scope=SCOPE, **BOUND)
    holder = CertificateBrowser(mtls_site, issue("CN=short", ends=timedelta(seconds=200)))
    token = bound_tokens(holder, ordinary, client)["access_token"]
    assert holder.userinfo(token).status == 200
    mtls_site.clock.advance(210)
    assert is_refused(holder.userinfo(token), "invalid_token", 401)
