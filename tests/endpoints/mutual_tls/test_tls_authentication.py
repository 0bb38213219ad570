"""Client authentication by a certificate (RFC 8705 section 2), at every endpoint and behind every gateway."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.clients.authentication import authenticate_client
from chalicelib.http.messages import Params, Request
from chalicelib.protocol.mutual_tls import METHODS, SELF_SIGNED, SUBJECT_MEMBERS, TLS_CLIENT_AUTH, PresentedCertificate
from tests.support.assertions import key_pair, signed
from tests.support.browser import Answer, Browser, authorization_parameters, basic
from tests.support.client_certificates import (
    DOMAIN,
    KINDS,
    SUBJECT,
    CertificateBrowser,
    Pair,
    authority,
    client_cert,
    issue,
    names_of_all_kinds,
    of_authority,
    pki_client,
    put_certificate,
    self_signed,
    self_signed_client,
)
from tests.support.gateways import GATEWAYS, Gateway, GatewayBrowser
from tests.support.grants import create_code, update_client
from tests.support.site import Registered, Site

PATHS = ("/oauth2/token", "/oauth2/revoke", "/oauth2/introspect", "/oauth2/par")


def send(browser: Browser, client: Registered, path: str = PATHS[0], **parameters: Any) -> Answer:
    """Send a request by which a client must authenticate; it succeeds apart from that."""
    body = {"client_id": client.id, "token": "x", "grant_type": "authorization_code", "code": "x"}
    if path == "/oauth2/par":
        body = authorization_parameters(client)
    return browser.post(path, {**body, **parameters})


def is_authenticated(answer: Answer) -> bool:
    """Return whether the client has authenticated, whatever came of its request."""
    assert answer.status in (200, 201, 400, 401), answer.body
    if answer.status == 401:
        assert answer.json["error"] == "invalid_client"
    return answer.status != 401


# ---- the two methods


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.spec("RFC 8705 §2 a", "RFC 8705 §2.1", "RFC 8705 §2.2")
def test_client_authenticates_by_its_certificate(mtls_site: Site, kind: str, path: str) -> None:
    for client, pair in ((pki_client(mtls_site), of_authority()), (self_signed_client(mtls_site), self_signed())):
        assert is_authenticated(send(CertificateBrowser(mtls_site, pair, kind), client, path))
        other = of_authority("CN=another,O=Example")
        assert not is_authenticated(send(CertificateBrowser(mtls_site, other, kind), client, path))


def test_whole_flow_works_with_a_certificate(mtls_site: Site, ordinary: GatewayBrowser) -> None:
    client, browser = pki_client(mtls_site), CertificateBrowser(mtls_site)
    tokens = browser.redeem(client, ordinary.code(client, scope="openid profile offline_access")).json
    refreshed = browser.refresh(client, tokens["refresh_token"]).json
    assert browser.userinfo(refreshed["access_token"]).json["name"] == "Alice"
    assert ordinary.userinfo(refreshed["access_token"]).json["name"] == "Alice", "it is not bound to the certificate"
    introspected = browser.post("/oauth2/introspect", {"client_id": client.id, "token": refreshed["access_token"]})
    assert introspected.json["active"] is True
    form = {"client_id": client.id, "token": refreshed["refresh_token"]}
    assert browser.post("/oauth2/revoke", form).status == 200
    assert browser.userinfo(refreshed["access_token"]).status == 401


def test_request_is_pushed_with_a_certificate(mtls_site: Site, ordinary: GatewayBrowser) -> None:
    client, browser = pki_client(mtls_site), CertificateBrowser(mtls_site)
    pushed = send(browser, client, "/oauth2/par").json["request_uri"]
    mtls_site.secrets.add(pushed.rpartition(":")[2])
    page = ordinary.get("/oauth2/authorize", client_id=client.id, request_uri=pushed)
    answer = ordinary.submit(ordinary.sign_in(ordinary.follow(page)), decision="allow_once")
    assert browser.redeem(client, answer.code).status == 200


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("tls_client_auth_subject_dn", "C=US+O=x"),
        ("tls_client_auth_san_dns", "client.example.com"),
        ("tls_client_auth_san_dns", "CLIENT.example.com"),
        ("tls_client_auth_san_uri", "https://client.example.com/id"),
        ("tls_client_auth_san_ip", "2001:db8:0:0::1"),
        ("tls_client_auth_san_ip", "192.0.2.1"),
        ("tls_client_auth_san_email", "client@example.com"),
    ],
)
@pytest.mark.spec("RFC 8705 §2.1.2 a", "RFC 8705 §2.1.2 b")
def test_certificate_is_found_by_the_registered_name(mtls_site: Site, member: str, value: str) -> None:
    pair = issue("O=x+C=US", authority(), names=names_of_all_kinds())
    nothing: dict[str, Any] = dict.fromkeys(SUBJECT_MEMBERS)
    client = pki_client(mtls_site, **(nothing | {member: value}))
    assert is_authenticated(send(CertificateBrowser(mtls_site, pair), client))
    assert not is_authenticated(send(CertificateBrowser(mtls_site, of_authority()), client))


@pytest.mark.parametrize(
    "subject",
    [
        "CN=client,OU=Payments,O=Example\\, Inc.,C=DE",
        "CN=Client,OU=Payments,O=Example\\, Inc.,C=US",
        "OU=Payments,CN=client,O=Example\\, Inc.,C=US",
        "CN=client,OU=Payments,O=Example\\, Inc.",
        "CN=x,CN=client,OU=Payments,O=Example\\, Inc.,C=US",
        "CN=client+OU=Payments,O=Example\\, Inc.,C=US",
        "C=US,O=Example\\, Inc.,OU=Payments,CN=client",
        "CN=client\\,OU=Payments\\,O=Example\\\\\\, Inc.\\,C=US",
    ],
)
def test_certificate_with_a_similar_subject_is_refused(mtls_site: Site, subject: str) -> None:
    browser = CertificateBrowser(mtls_site, issue(subject, authority()))
    assert not is_authenticated(send(browser, pki_client(mtls_site)))


@pytest.mark.spec("RFC 8705 §7.4")
def test_certificate_that_anyone_can_sign_does_not_name_a_client(mtls_site: Site) -> None:
    """The gateway trusts the certificates that other clients have signed themselves."""
    impostor = self_signed(SUBJECT)
    self_signed_client(mtls_site, impostor)
    assert not is_authenticated(send(CertificateBrowser(mtls_site, impostor), pki_client(mtls_site)))


@pytest.mark.spec("RFC 8705 §2.2")
def test_self_signed_certificate_of_another_client_is_refused(mtls_site: Site) -> None:
    self_signed_client(mtls_site)
    client = self_signed_client(mtls_site, self_signed("CN=another"))
    assert not is_authenticated(send(CertificateBrowser(mtls_site, self_signed()), client))
    same_name = issue("CN=another")
    assert not is_authenticated(send(CertificateBrowser(mtls_site, same_name), client))


def test_each_of_several_certificates_is_accepted(mtls_site: Site) -> None:
    pairs = [issue("CN=an application") for _ in range(3)]
    client = self_signed_client(mtls_site, *pairs)
    assert all(is_authenticated(send(CertificateBrowser(mtls_site, pair), client)) for pair in pairs)


def test_cached_record_refuses_no_new_certificate(mtls_site: Site) -> None:
    from chalicelib.clients.certificates import add_certificate, remove_certificate

    client, new = self_signed_client(mtls_site), issue("CN=an application")
    assert is_authenticated(send(CertificateBrowser(mtls_site, self_signed()), client))
    record, _ = add_certificate(mtls_site.server.store, client.record, new.pem)
    assert is_authenticated(send(CertificateBrowser(mtls_site, new), client))
    remove_certificate(mtls_site.server.store, record, self_signed().x5t)
    mtls_site.clock.advance(61)
    assert not is_authenticated(send(CertificateBrowser(mtls_site, self_signed()), client))


# ---- one method for a request


def test_certificate_is_no_second_method(mtls_site: Site) -> None:
    """It is part of the connection, which a client may also use to bind its tokens."""
    browser, client = CertificateBrowser(mtls_site), mtls_site.client()
    assert is_authenticated(browser.post(PATHS[0], {"grant_type": "x"}, basic(client.id, client.secret or "")))
    assert not is_authenticated(browser.post(PATHS[0], {"grant_type": "x"}, basic(client.id, "wrong")))
    assert not is_authenticated(send(browser, client)), "it is not registered for a certificate"


def test_certificate_does_not_make_up_for_a_wrong_secret(mtls_site: Site) -> None:
    """Of a client that may use either: a request authenticates by what it presents."""
    client = pki_client(mtls_site, token_endpoint_auth_methods=("client_secret_basic", TLS_CLIENT_AUTH))
    browser = CertificateBrowser(mtls_site)
    assert not is_authenticated(browser.post(PATHS[0], {"grant_type": "x"}, basic(client.id, "wrong")))
    assert is_authenticated(browser.post(PATHS[0], {"grant_type": "x"}, basic(client.id, client.secret or "")))
    assert is_authenticated(send(browser, client))


def test_method_of_a_request_is_the_one_by_which_it_has_authenticated(mtls_site: Site) -> None:
    """Not that of the certificate, if the client has presented something else beside it."""
    methods = (TLS_CLIENT_AUTH, "private_key_jwt")
    client = pki_client(mtls_site, token_endpoint_auth_methods=methods, jwks=key_pair().jwks)
    http = Request("POST", PATHS[0], presented_certificate=PresentedCertificate(of_authority().pem, SUBJECT))
    for presented, method in ((signed(mtls_site, client), methods[1]), ({"client_id": client.id}, methods[0])):
        authenticate_client(mtls_site.server, http, Params(presented.items()))
        assert http.client_auth_method == method


def test_log_asks_only_clients_with_that_method_for_a_certificate(
    mtls_site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    browser = CertificateBrowser(mtls_site)
    for client in (mtls_site.client(), self_signed_client(mtls_site)):
        assert not is_authenticated(send(browser, client))
    assert caplog.text.count("wrong or missing client secret") == 1
    assert caplog.text.count("the certificate is not the client's") == 1


def test_client_may_be_registered_for_an_assertion_too(mtls_site: Site) -> None:
    methods = (TLS_CLIENT_AUTH, "private_key_jwt")
    client = pki_client(mtls_site, token_endpoint_auth_methods=methods, jwks=key_pair().jwks)
    assert is_authenticated(send(CertificateBrowser(mtls_site), client))
    other = CertificateBrowser(mtls_site, of_authority("CN=another"))
    assert not is_authenticated(send(other, client))
    assert is_authenticated(send(other, client, **signed(mtls_site, client)))


def test_client_without_that_method_is_refused(mtls_site: Site) -> None:
    """A name in its record is not enough, nor a registered certificate."""
    client = pki_client(mtls_site)
    update_client(mtls_site, client, token_endpoint_auth_methods=(SELF_SIGNED,))
    assert not is_authenticated(send(CertificateBrowser(mtls_site), client))
    client = self_signed_client(mtls_site)
    update_client(
        mtls_site, client, token_endpoint_auth_methods=(TLS_CLIENT_AUTH,), tls_client_auth_subject_dn="CN=another"
    )
    assert not is_authenticated(send(CertificateBrowser(mtls_site, self_signed()), client))


def test_public_client_stays_public_with_a_certificate(mtls_site: Site) -> None:
    client = mtls_site.client(public=True)
    assert is_authenticated(send(CertificateBrowser(mtls_site), client))
    answer = CertificateBrowser(mtls_site).post("/oauth2/introspect", {"client_id": client.id, "token": "x"})
    assert answer.json["error"] == "invalid_client"


@pytest.mark.spec("RFC 8705 §2 b", "RFC 8705 §2 c")
def test_client_id_is_required(mtls_site: Site) -> None:
    pki_client(mtls_site)
    answer = CertificateBrowser(mtls_site).post(PATHS[0], {"grant_type": "authorization_code", "code": "x"})
    assert (answer.status, answer.json["error"]) == (401, "invalid_client")


def test_code_is_not_consumed_without_the_certificate(mtls_site: Site, ordinary: GatewayBrowser) -> None:
    client = pki_client(mtls_site)
    code = create_code(mtls_site, client)
    wrong = CertificateBrowser(mtls_site, of_authority("CN=another"))
    for browser in (ordinary, wrong):
        assert browser.redeem(client, code).json["error"] == "invalid_client"
    assert CertificateBrowser(mtls_site).redeem(client, code).status == 200


# ---- the certificate comes from the gateway, at one domain

HEADERS = (
    *("X-Client-Cert", "Client-Cert", "X-Amzn-Mtls-Clientcert", "X-Amzn-Mtls-Clientcert-Leaf", "X-SSL-Client-Cert"),
    *("X-Forwarded-Client-Cert", "SSL_CLIENT_CERT", "clientCert", "X-SSL-Client-S-DN", "X-Forwarded-Host", "Host"),
)


def encoded(pair: Pair) -> str:
    """Return a certificate in one line, as proxies put it into a header."""
    return pair.pem.replace("\n", "%0A").replace(" ", "%20")


@pytest.mark.parametrize("gateway", GATEWAYS, ids=lambda gateway: gateway.name)
@pytest.mark.spec("RFC 8705 §6.5")
def test_no_header_carries_a_certificate(mtls_site: Site, gateway: Gateway) -> None:
    client, browser = pki_client(mtls_site), GatewayBrowser(mtls_site, gateway)
    for name in HEADERS:
        value = DOMAIN if name in ("Host", "X-Forwarded-Host") else encoded(of_authority())
        headers = [(name, value), ("Content-Type", "application/x-www-form-urlencoded")]
        body = f"client_id={client.id}&grant_type=authorization_code&code=x".encode()
        assert not is_authenticated(browser.deliver("POST", "/oauth2/token", headers, body)), name


@pytest.mark.parametrize("domain", ["login.example.com", DOMAIN.upper(), f"x.{DOMAIN}", f"{DOMAIN}.", "", None])
@pytest.mark.parametrize("kind", KINDS)
def test_certificate_does_not_exist_at_another_domain(mtls_site: Site, kind: str, domain: str | None) -> None:
    def put(event: dict[str, Any]) -> None:
        put_certificate(event, client_cert(of_authority()))
        event["requestContext"]["domainName"] = domain
        if domain is None:
            del event["requestContext"]["domainName"]

    client = pki_client(mtls_site)
    assert not is_authenticated(send(CertificateBrowser(mtls_site, kind=kind, put=put), client))
    assert is_authenticated(send(CertificateBrowser(mtls_site, kind=kind), client))


@pytest.mark.parametrize("kind", KINDS)
def test_certificate_does_not_exist_without_the_setting(site: Site, kind: str) -> None:
    assert not is_authenticated(send(CertificateBrowser(site, kind=kind), pki_client(site)))


def _elsewhere(place: str) -> Any:
    """Return what puts the certificate into a part of the event that a caller or an authorizer could fill in."""

    def put(event: dict[str, Any]) -> None:
        certificate, context = client_cert(of_authority()), event["requestContext"]
        match place:
            case "event":
                event["clientCert"] = certificate
            case "context":
                context["clientCert"] = certificate
            case "authorizer":
                context["authorizer"] = {"clientCert": certificate, "identity": {"clientCert": certificate}}
            case "field of the other version":
                holder = "identity" if "http" in context else "authentication"
                context[holder] = {**(context.get(holder) or {}), "clientCert": certificate}
            case "stage variables":
                event["stageVariables"] = {"clientCert": certificate}
            case "text":
                put_certificate(event, of_authority().pem)
            case "list":
                put_certificate(event, [certificate])
            case "nothing":
                put_certificate(event, None)

    return put


@pytest.mark.parametrize(
    "place",
    ["event", "context", "authorizer", "field of the other version", "stage variables", "text", "list", "nothing"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_certificate_from_any_other_field_is_not_read(mtls_site: Site, kind: str, place: str) -> None:
    answer = send(CertificateBrowser(mtls_site, kind=kind, put=_elsewhere(place)), pki_client(mtls_site))
    assert (answer.status, answer.json["error"]) == (403, "forbidden"), "the gateway demands one at this domain"


def _chain() -> str:
    return of_authority().pem + authority().pem


HOSTILE: dict[str, dict[str, Any]] = {
    "no PEM": {"clientCertPem": None},
    "an empty PEM": {"clientCertPem": ""},
    "garbage": {"clientCertPem": "garbage"},
    "garbage in PEM": {"clientCertPem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
    "no end": {"clientCertPem": of_authority().pem.replace("-----END CERTIFICATE-----", "")},
    "beyond ASCII": {"clientCertPem": of_authority().pem + "é"},
    "a number": {"clientCertPem": 7},
    "a list": {"clientCertPem": [of_authority().pem]},
    "a chain": {"clientCertPem": _chain()},
    "twice the same": {"clientCertPem": of_authority().pem * 2},
    "with a key": {"clientCertPem": of_authority().pem + of_authority().key_pem},
    "a key": {"clientCertPem": of_authority().key_pem},
    "too long": {"clientCertPem": of_authority().pem + " " * 16384},
    "another subject": {"subjectDN": "CN=another,OU=Payments,O=Example\\, Inc.,C=US"},
    "part of the subject": {"subjectDN": "CN=client,O=Example\\, Inc.,C=US"},
    "more than the subject": {"subjectDN": f"CN=x,{SUBJECT}"},
    "another order": {"subjectDN": "OU=Payments,CN=client,O=Example\\, Inc.,C=US"},
    "a subject that is no name": {"subjectDN": "client"},
    "the certificate of another subject": {"clientCertPem": of_authority("CN=another").pem},
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.spec("RFC 8705 §7.5")
def test_certificate_that_cannot_be_used_is_refused(mtls_site: Site, kind: str, name: str) -> None:
    certificate = client_cert(of_authority(), **HOSTILE[name])
    browser = CertificateBrowser(mtls_site, kind=kind, put=lambda event: put_certificate(event, certificate))
    answer = send(browser, pki_client(mtls_site))
    assert (answer.status, answer.json["error"]) == (401, "invalid_client")
    assert "certificate" in answer.json["error_description"]
    confidential = mtls_site.client()
    assert not is_authenticated(
        browser.post(PATHS[0], {"grant_type": "x"}, basic(confidential.id, confidential.secret or ""))
    ), "whatever else the client has"


@pytest.mark.parametrize(
    "subject",
    [
        "C=US,O=Example\\, Inc.,OU=Payments,CN=client",
        "CN=client, OU=Payments, O=Example\\, Inc., C=US",
        "C=US, O=Example\\2c Inc., OU=Payments, CN=client",
        "CN=client,OU=Payments,O=#0c0d4578616d706c652c20496e632e,C=US",
        None,
    ],
)
def test_gateway_may_spell_the_subject_in_its_own_way(mtls_site: Site, subject: str | None) -> None:
    certificate = client_cert(of_authority(), subjectDN=subject)
    browser = CertificateBrowser(mtls_site, put=lambda event: put_certificate(event, certificate))
    assert is_authenticated(send(browser, pki_client(mtls_site)))


@pytest.mark.parametrize(
    ("begins", "ends", "problem"),
    [
        (timedelta(days=-9), timedelta(seconds=-5), "it has expired"),
        (timedelta(hours=1), timedelta(days=9), "it is not valid yet"),
    ],
)
def test_certificate_outside_of_its_time_is_refused(
    mtls_site: Site, begins: timedelta, ends: timedelta, problem: str
) -> None:
    pair = issue(SUBJECT, authority(), begins=begins, ends=ends)
    answer = send(CertificateBrowser(mtls_site, pair), pki_client(mtls_site))
    assert not is_authenticated(answer)
    assert problem in answer.json["error_description"]


def test_registered_certificate_is_refused_once_it_has_expired(mtls_site: Site) -> None:
    pair = issue("CN=an application", ends=timedelta(days=2))
    client = self_signed_client(mtls_site, pair)
    assert is_authenticated(send(CertificateBrowser(mtls_site, pair), client))
    mtls_site.clock.advance(2 * 86400 + 60)
    assert not is_authenticated(send(CertificateBrowser(mtls_site, pair), client))


# ---- what the domain serves


@pytest.mark.parametrize("path", ["/", "/oauth2/authorize", "/account", "/oauth2/jwks", "/healthz", "/style.css"])
def test_domain_for_mutual_tls_serves_only_the_endpoints_of_clients(mtls_site: Site, path: str) -> None:
    assert CertificateBrowser(mtls_site).get(path).status == 404


def test_domain_for_mutual_tls_needs_no_proxy(mtls_site: Site) -> None:
    """A proxy would end the TLS connection, so it is in front of the other address only."""
    server = mtls_site.server
    settings = replace(server.settings, caller_address_header="X-Address", proxy_secret_hash=("0" * 64,))
    mtls_site.server = replace(server, settings=settings)
    client = pki_client(mtls_site)
    assert is_authenticated(send(CertificateBrowser(mtls_site), client))
    assert GatewayBrowser(mtls_site, GATEWAYS[2]).post(PATHS[0], {}).status == 403

    def put(event: dict[str, Any]) -> None:
        put_certificate(event, client_cert(of_authority()))
        event["requestContext"]["domainName"] = "h1.execute-api.eu-west-1.amazonaws.com"

    assert send(CertificateBrowser(mtls_site, put=put), client).status == 403


@pytest.mark.spec("RFC 8705 §5", "RFC 8705 §3.3")
def test_metadata_has_the_aliases(mtls_site: Site, ordinary: GatewayBrowser, site: Site, browser: Browser) -> None:
    metadata = ordinary.get("/.well-known/oauth-authorization-server").json
    names = ("token", "revocation", "introspection", "pushed_authorization_request", "userinfo")
    assert set(metadata["mtls_endpoint_aliases"]) == {f"{name}_endpoint" for name in names}
    for name, address in metadata["mtls_endpoint_aliases"].items():
        assert address == metadata[name].replace("https://login.", "https://mtls.login.")
        assert CertificateBrowser(mtls_site).post(address, {}).status in (400, 401)
    assert metadata["tls_client_certificate_bound_access_tokens"] is True
    for name in names[:3]:
        assert set(METHODS) <= set(metadata[f"{name}_endpoint_auth_methods_supported"])
    without = browser.get("/.well-known/oauth-authorization-server").json
    assert not {"mtls_endpoint_aliases", "tls_client_certificate_bound_access_tokens"} & set(without)
    assert set(METHODS).isdisjoint(without["token_endpoint_auth_methods_supported"])


def test_aliases_are_below_the_path_of_the_issuer(site_with: Any) -> None:
    below = site_with(issuer="https://login.example.com/auth", mtls_domain=DOMAIN)
    metadata = GatewayBrowser(below, GATEWAYS[2]).get("/.well-known/oauth-authorization-server").json
    address = metadata["mtls_endpoint_aliases"]["token_endpoint"]
    assert address == f"https://{DOMAIN}/auth/oauth2/token"
    client = pki_client(below)
    for path in ("/auth/oauth2/token", "/oauth2/token"):
        assert is_authenticated(send(CertificateBrowser(below), client, path))
