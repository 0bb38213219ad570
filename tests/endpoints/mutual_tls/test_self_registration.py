"""Clients that the operator has not registered do not authenticate by certificates."""

import json
from collections.abc import Callable

import pytest

from chalicelib.clients.document_content import read_document
from chalicelib.protocol.mutual_tls import METHODS, SUBJECT_MEMBERS
from chalicelib.protocol.open_clients import OpenClientPolicy
from tests.support.client_certificates import DOMAIN, ISSUER, SUBJECT
from tests.support.gateways import HTTP_2, GatewayBrowser
from tests.support.site import Site


@pytest.fixture
def browser(site_with: Callable[..., Site]) -> GatewayBrowser:
    """Return a browser at a server where all applications register themselves."""
    return GatewayBrowser(site_with(issuer=ISSUER, mtls_domain=DOMAIN, client_registration="open"), HTTP_2)


def register(browser: GatewayBrowser, **members: object) -> tuple[int, dict[str, object]]:
    body = json.dumps({"redirect_uris": ["https://client.example.com/cb"], **members})
    answer = browser.request("POST", "/oauth2/register", body, {"Content-Type": "application/json"})
    return answer.status, answer.json


@pytest.mark.parametrize("method", METHODS)
def test_application_does_not_register_itself_for_certificates(browser: GatewayBrowser, method: str) -> None:
    status, members = register(browser, token_endpoint_auth_method=method, tls_client_auth_subject_dn=SUBJECT)
    assert (status, members["error"]) == (400, "invalid_client_metadata")


def test_application_that_registers_itself_has_no_member_of_mutual_tls(browser: GatewayBrowser) -> None:
    """They are ignored, as other members that are not supported."""
    given = {**dict.fromkeys(SUBJECT_MEMBERS, "x"), "tls_client_certificate_bound_access_tokens": True}
    status, members = register(browser, token_endpoint_auth_method="none", **given, tls_client_certificates=["AAAA"])
    assert status == 201, members
    assert not [name for name in members if name.startswith("tls_")]
    (record,) = browser.site.server.store.clients.scan()
    assert not [value for name, value in vars(record).items() if name.startswith("tls_") and value is not None]


@pytest.mark.parametrize("method", METHODS)
def test_document_of_a_client_cannot_name_certificates(method: str) -> None:
    url = "https://app.example.com/oauth/client.json"
    members = {"client_id": url, "client_name": "App", "redirect_uris": ["https://app.example.com/cb"]}
    read_document(url, json.dumps(members).encode(), OpenClientPolicy("openid"))
    named = members | {"token_endpoint_auth_method": method, "tls_client_auth_subject_dn": SUBJECT}
    with pytest.raises(ValueError, match="authentication method"):
        read_document(url, json.dumps(named).encode(), OpenClientPolicy("openid"))
