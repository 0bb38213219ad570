"""The doctor's check of the `jwks_uri` of clients."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from chalicelib.clients.key_sets import MAX_BYTES
from chalicelib.http import outbound
from chalicelib.protocol.key_set import KeySet, key_set_id
from infra.operator.doctor import inside, key_sets
from infra.operator.doctor.findings import Finding
from infra.operator.terminal import time_text
from tests.support.assertions import key_client, key_pair
from tests.support.fapi import fapi_client
from tests.support.grants import update_client
from tests.support.receivers import Receiver, answer, json_answer, silence, status
from tests.support.site import Registered, Site
from tests.support.tampering_proxy import finding_names

JWKS = json.dumps({"keys": [key_pair().jwk]}).encode()


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A server with a key set; requests to it time out after half a second."""
    monkeypatch.setattr(outbound, "SECONDS", 0.5)
    receiver = Receiver(json_answer(JWKS))
    yield receiver
    receiver.close()


@pytest.fixture
def site(site_with: Callable[..., Site]) -> Site:
    """A server that may send requests to 127.0.0.1."""
    return site_with(outbound_networks=("127.0.0.0/8",))


@pytest.fixture
def client(site: Site, host: Receiver) -> Registered:
    return key_client(site, jwks=None, jwks_uri=host.url)


def inspect(site: Site) -> list[Finding]:
    return list(key_sets.inspect(site.server.store))


def test_key_set_that_two_clients_use_is_fetched_once(site: Site, host: Receiver, client: Registered) -> None:
    key_client(site, jwks=None, jwks_uri=host.url)
    (finding,) = inspect(site)
    assert (finding.name, finding.ok) == ("client keys", True)
    assert len(host.requests) == 1


BAD = {
    "an error": (status(500), "status 500"),
    "no answer": (silence, ""),
    "no JSON": (answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{"), ""),
    "no keys": (json_answer(b'{"keys":"none"}'), "keys"),
    "too long": (json_answer(b" " * (MAX_BYTES + 1)), ""),
}


@pytest.mark.parametrize("case", BAD)
def test_key_set_that_cannot_be_used_is_named_with_its_clients(
    site: Site, host: Receiver, client: Registered, case: str
) -> None:
    host.behave, reason = BAD[case]
    other = key_client(site, jwks=None, jwks_uri=host.url)
    findings = inspect(site)
    assert sorted(finding_names(findings)) == sorted([f"client {client.id}", f"client {other.id}"])
    for finding in findings:
        assert f"Its jwks_uri {host.url} cannot be used from here: " in finding.detail
        assert reason in finding.detail
        assert "--jwks-uri" in finding.fix


def test_copy_that_the_server_uses_is_named(site: Site, host: Receiver, client: Registered) -> None:
    host.behave = status(500)
    (finding,) = inspect(site)
    assert "copy" not in finding.detail
    now = site.clock.time
    site.server.store.key_sets.put(KeySet(key_set_id(host.url), now + 9, {"keys": ()}, now, now))
    (finding,) = inspect(site)
    assert f"The server fetched it at {time_text(now)}, and uses this copy for a day." in finding.detail


def test_private_address_is_not_fetched_without_the_setting(
    site: Site, host: Receiver, client: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.server.store, "settings", replace(site.settings, outbound_networks=()))
    (finding,) = inspect(site)
    assert finding.name == f"client {client.id}"
    assert "SIGNET_OUTBOUND_NETWORKS" in finding.fix
    assert host.requests == []


def test_disabled_client_and_one_without_a_jwks_uri_are_not_checked(
    site: Site, host: Receiver, client: Registered
) -> None:
    key_client(site)
    update_client(site, client, disabled_at=site.clock.time)
    assert inspect(site) == []
    assert host.requests == []


KEY_SETS = {
    "RS256 alone": ([key_pair("RS256", "rsa").jwk | {"alg": "RS256"}], True),
    "an RSA key for any algorithm": ([{**key_pair("RS256", "rsa").jwk, "alg": None}], False),
    "PS256": ([key_pair("RS256", "rsa").jwk | {"alg": "PS256"}], False),
    "RS256 and ES256": ([key_pair("RS256", "rsa").jwk | {"alg": "RS256"}, key_pair("ES256", "ec").jwk], False),
}


@pytest.mark.parametrize("case", KEY_SETS)
def test_key_set_without_an_algorithm_of_the_profile_is_named(site: Site, host: Receiver, case: str) -> None:
    keys, refused = KEY_SETS[case]
    served = [{name: value for name, value in key.items() if value is not None} for key in keys]
    host.behave = json_answer(json.dumps({"keys": served}).encode())
    client = fapi_client(site, jwks_uri=host.url)
    key_client(site, jwks=None, jwks_uri=host.url)  # without a profile
    (finding,) = inspect(site)
    if not refused:
        assert (finding.name, finding.ok) == ("client keys", True)
        return
    assert (finding.name, finding.ok) == (f"client {client.id}", False)
    clause = "which fapi2 does not allow (FAPI 2.0 Security Profile 5.4.1-1)"
    assert finding.detail == f"Its keys are for RS256 only ({host.url}), {clause}."
    assert finding.fix == "Serve a key for PS256, ES256 or EdDSA there, and let the application sign with it."


def test_doctor_includes_the_key_sets(site: Site, client: Registered) -> None:
    assert "client keys" in finding_names(list(inside.inspect(site.server.store)), True)
