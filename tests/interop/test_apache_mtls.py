"""Apache with mod_oauth2 as a resource server whose access tokens are bound to the certificate of the connection."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from cryptography import x509

from infra.local.state import CHECKOUT
from tests.interop.apache import CERTIFICATE, MTLS, VERIFIED, Apache, require_apache, tls_lines, use_real_time
from tests.support.browser import VERIFIER
from tests.support.client_certificates import (
    DOMAIN,
    CertificateBrowser,
    Pair,
    authority,
    issue,
    of_authority,
    pki_client,
    self_signed,
    self_signed_client,
)
from tests.support.grants import create_code
from tests.support.proofs import TOKEN
from tests.support.resource_servers import register_resource_server
from tests.support.site import Registered, Site

pytestmark = [pytest.mark.slow, pytest.mark.programs, pytest.mark.spec("RFC 8705 §3")]

API = "https://api.example.com"
LOCATIONS = ("keys", "introspection")
CLIENTS: dict[str, tuple[Callable[..., Registered], Callable[[], Pair]]] = {
    "tls_client_auth": (pki_client, of_authority),
    "self_signed_tls_client_auth": (self_signed_client, self_signed),
}


@pytest.fixture
def mtls_site(site: Site, site_with: Callable[..., Site]) -> Site:
    """A server with a domain for mutual TLS, whose address Apache reaches."""
    require_apache()
    site = site_with(mtls_domain=DOMAIN)
    use_real_time(site)
    return site


@pytest.fixture
def apache(mtls_site: Site, tmp_path: Path) -> Iterator[Apache]:
    """Apache over TLS, with one location for each way to verify an access token, and one that compares nothing."""
    api, issuer = register_resource_server(mtls_site, API), mtls_site.settings.issuer
    keys = f"OAuth2TokenVerify jwks_uri {issuer}/oauth2/jwks jwks_uri.ssl_verify=false"
    options = f"introspect.ssl_verify=false&introspect.auth=client_secret_basic&client_id={quote(api.id, safe='')}"
    introspection = f"OAuth2TokenVerify introspect {issuer}/oauth2/introspect {options}&client_secret={api.secret}"
    audience = f"Require oauth2_claim aud:{API}"
    server = issue("CN=127.0.0.1", names=[x509.DNSName("localhost")])
    apache = Apache(
        tmp_path,
        {
            "keys": f"{CERTIFICATE}\n{keys}&{MTLS}\n{audience}",
            "introspection": f"{CERTIFICATE}\n{introspection}&{MTLS}\n{audience}",
            "bearer": f"{CERTIFICATE}\n{keys}\n{audience}",
        },
        tls_lines(tmp_path, server),
    )
    yield apache
    apache.close()


@pytest.fixture
def issue_token(mtls_site: Site) -> Callable[..., str]:
    """A function that returns an access token of a client, which uses its certificate to get it."""

    def token(method: str = "tls_client_auth", *, bound: bool = True) -> str:
        register, certificate = CLIENTS[method]
        client = register(mtls_site, tls_client_certificate_bound_access_tokens=bound)
        code = create_code(mtls_site, client, resource=frozenset({API}))
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER, "resource": API}
        form |= {"redirect_uri": client.record.redirect_uris[0], "client_id": client.id}
        answer = CertificateBrowser(mtls_site, certificate()).post(TOKEN, form)
        assert answer.status == 200, answer.body
        mtls_site.secrets.add(answer.json["access_token"])
        return str(answer.json["access_token"])

    return token


@pytest.fixture
def call(apache: Apache, tmp_path: Path) -> Callable[..., int]:
    """A function that requests the document of a location with a token and a certificate, and returns the status."""

    def call(location: str, token: str, pair: Pair | None) -> int:
        file = tmp_path / "client.pem"
        file.write_text(f"{pair.key_pem}{pair.pem}" if pair else "", "utf-8")
        headers = {"Authorization": f"Bearer {token}"}
        cert = str(file) if pair else None
        url = f"{apache.url}/{location}/"
        answer = requests.get(url, headers=headers, cert=cert, verify=False, timeout=30)
        assert answer.status_code != 200 or answer.text == f"The document of {location}."
        return answer.status_code

    return call


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("method", CLIENTS)
@pytest.mark.parametrize("location", LOCATIONS)
def test_bound_token_is_accepted_with_its_certificate_only(
    apache: Apache, issue_token: Callable[..., str], call: Callable[..., int], location: str, method: str
) -> None:
    token, certificate = issue_token(method), CLIENTS[method][1]()
    assert call(location, token, certificate) == 200, apache.log.read_text("utf-8")
    cases = {
        "no certificate": None,
        "another certificate of the authority": issue("CN=another,O=Example", authority()),
        "another certificate with the same subject": issue(certificate.certificate.subject, authority()),
        "a renewed certificate with the same key": issue(
            certificate.certificate.subject, authority(), key=certificate.key
        ),
        "a self-signed certificate": self_signed("CN=another"),
    }
    for case, pair in cases.items():
        assert call(location, token, pair) == 401, case
    assert call(location, f"{token[:-8]}AAAAAAAA", certificate) == 401


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("location", LOCATIONS)
def test_token_that_is_not_bound_is_refused(
    issue_token: Callable[..., str], call: Callable[..., int], location: str
) -> None:
    token = issue_token(bound=False)
    assert call("bearer", token, of_authority()) == 200, "it is valid otherwise"
    for pair in (of_authority(), None):
        assert call(location, token, pair) == 401


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_api_that_compares_no_certificate_accepts_a_bound_token_from_anyone(
    issue_token: Callable[..., str], call: Callable[..., int]
) -> None:
    """As docs/mtls.md warns."""
    assert call("bearer", issue_token(), None) == 200


def test_documented_configuration_is_the_one_that_is_tested() -> None:
    text = (CHECKOUT / "docs" / "mtls.md").read_text("utf-8")
    assert MTLS in text
    assert CERTIFICATE in text
    assert VERIFIED in text
