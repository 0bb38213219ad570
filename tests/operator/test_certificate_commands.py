"""The commands for certificates: those of clients, and the truststore of the gateway (mutual TLS)."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from chalicelib.clients.certificates import certificates_of
from chalicelib.keys.certificates import read_pem
from chalicelib.protocol.client import Client
from chalicelib.protocol.mutual_tls import SELF_SIGNED, TLS_CLIENT_AUTH
from infra.operator import truststore
from infra.operator.commands import CommandError
from infra.operator.doctor import mutual_tls
from infra.operator.doctor.findings import Verdict
from infra.operator.doctor.stage import Inside
from infra.operator.truststore import KEY, Truststore
from tests.support.client_certificates import (
    DAY,
    DOMAIN,
    SUBJECT,
    Pair,
    authority,
    issue,
    of_authority,
    pki_client,
    self_signed,
    self_signed_client,
)
from tests.support.grants import update_client
from tests.support.operator import RunCommand, output_json
from tests.support.site import Site
from tests.support.truststores import Gateway
from tests.support.truststores import gateway as gateway

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes certificates into a file."""

    def write(*pairs: Pair, name: str = "certificate.pem") -> Path:
        file = tmp_path / name
        file.write_text("".join(pair.pem for pair in pairs))
        return file

    return write


@pytest.fixture
def client(site: Site) -> Client:
    """A client that authenticates by certificates of its own, and has none."""
    return site.client(client_id="bank", token_endpoint_auth_methods=(SELF_SIGNED,)).record


def registered(site: Site) -> list[str]:
    client = site.server.store.clients.get("bank")
    assert client
    return [each.thumbprint for each in certificates_of(client)]


# ---- clients


def test_client_is_created_with_the_subject_of_its_certificate(run_command: RunCommand) -> None:
    result = output_json(
        run_command(
            *("client", "create", "--name", "Bank", "--redirect-uri", "https://bank.example/cb"),
            *("--tls-client-auth-subject-dn", SUBJECT, "--tls-client-certificate-bound-access-tokens", "--json"),
        )
    )
    assert result["token_endpoint_auth_methods"] == [TLS_CLIENT_AUTH]
    assert result["tls_client_auth_subject_dn"] == SUBJECT
    assert "client_secret" not in result


def test_certificate_is_registered_and_trusted(
    site: Site, run_command: RunCommand, client: Client, gateway: Gateway, write: Write
) -> None:
    file = write(self_signed())
    result = output_json(run_command("client", "add-certificate", "bank", file, "--json"))
    assert result["thumbprint"] == self_signed().x5t
    assert registered(site) == [self_signed().x5t]
    assert gateway.trusted == {self_signed().x5t}
    assert gateway.updates == [], "there is no domain yet"
    gateway.add_domain()
    another = issue("CN=next")
    text = run_command("client", "add-certificate", "bank", write(another)).out
    assert "Its other certificates are still accepted." in text
    assert gateway.updates == [gateway.store.read().version]
    listed = output_json(run_command("client", "list-certificates", "bank", "--json"))
    assert {each["thumbprint"] for each in listed} == {self_signed().x5t, another.x5t}
    assert another.x5t in run_command("client", "list-certificates", "bank").out
    shown = output_json(run_command("client", "show", "bank", "--json"))
    assert shown["tls_client_certificates"] == [self_signed().x5t, another.x5t]


def test_command_that_was_interrupted_is_completed_by_the_next_one(
    site: Site, run_command: RunCommand, client: Client, gateway: Gateway, write: Write
) -> None:
    gateway.store.add(*_read(authority()))
    gateway.add_domain()
    file = write(self_signed())
    run_command("client", "add-certificate", "bank", file)
    (first,) = gateway.updates
    # As if it had ended after the truststore was stored.
    boto3.client("s3").put_object(Bucket=gateway.bucket, Key=KEY, Body=b"")
    gateway.store.add(*_read(authority()), *_read(self_signed()))
    gateway.updates.clear()
    boto3.client("apigatewayv2").delete_domain_name(DomainName=DOMAIN)
    boto3.client("apigatewayv2").create_domain_name(
        DomainName=DOMAIN, MutualTlsAuthentication={"TruststoreUri": gateway.store.uri, "TruststoreVersion": first}
    )
    run_command("client", "add-certificate", "bank", file)
    assert gateway.updates == [gateway.store.read().version]
    run_command("client", "add-certificate", "bank", file)
    assert len(gateway.updates) == 1, "nothing is left to do"


def test_certificate_is_removed_and_no_longer_trusted(
    site: Site, run_command: RunCommand, client: Client, gateway: Gateway, write: Write
) -> None:
    gateway.store.add(*_read(authority()))
    for pair in (self_signed(), self_signed("CN=next")):
        run_command("client", "add-certificate", "bank", write(pair))
    gateway.add_domain()
    result = run_command("client", "remove-certificate", "bank", self_signed().x5t, "--yes")
    assert (result.code, registered(site)) == (0, [self_signed("CN=next").x5t])
    assert gateway.trusted == {authority().x5t, self_signed("CN=next").x5t}
    assert gateway.updates == [gateway.store.read().version]
    result = run_command("client", "remove-certificate", "bank", self_signed().x5t, "--yes")
    assert result.code == 2


def test_certificate_that_another_client_has_too_stays_trusted(
    site: Site, run_command: RunCommand, client: Client, gateway: Gateway, write: Write
) -> None:
    self_signed_client(site)
    run_command("client", "add-certificate", "bank", write(self_signed()))
    run_command("client", "remove-certificate", "bank", self_signed().x5t, "--yes")
    assert gateway.trusted == {self_signed().x5t}


def test_last_certificate_stays_in_the_truststore_while_it_is_used(
    site: Site, run_command: RunCommand, client: Client, gateway: Gateway, write: Write
) -> None:
    """The gateway needs one. No client is registered with it, so it authenticates none."""
    run_command("client", "add-certificate", "bank", write(self_signed()))
    gateway.add_domain()
    result = run_command("client", "remove-certificate", "bank", self_signed().x5t, "--yes")
    assert (result.code, registered(site)) == (0, [])
    assert "this is the last one" in result.err
    assert gateway.trusted == {self_signed().x5t}


def test_stage_without_aws_has_no_truststore(
    site: Site, run_command: RunCommand, client: Client, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Inside, "in_aws", False)
    assert run_command("client", "add-certificate", "bank", write(self_signed())).code == 0
    assert run_command("client", "remove-certificate", "bank", self_signed().x5t, "--yes").code == 0


def test_stage_without_a_bucket_is_named(site: Site, run_command: RunCommand, client: Client, write: Write) -> None:
    result = run_command("client", "add-certificate", "bank", write(self_signed()))
    assert (result.code, "signet data --stage test" in result.err) == (2, True)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff", b"A" * 1_000_001], ids=["", "garbage", "ff", "long"])
def test_file_that_is_no_certificate_is_refused(
    run_command: RunCommand, client: Client, gateway: Gateway, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    for command in (("client", "add-certificate", "bank", file), ("truststore", "add", file)):
        result = run_command(*command)
        assert (result.code, result.err.count("\n")) == (2, 1)
    assert gateway.trusted == set()


# ---- the truststore


def _read(*pairs: Pair) -> list[Any]:
    return [read_pem(pair.pem) for pair in pairs]


def test_authorities_are_trusted_listed_and_removed(run_command: RunCommand, gateway: Gateway, write: Write) -> None:
    another = issue("CN=Another authority", authority=True)
    result = run_command("truststore", "add", write(authority(), another))
    assert "MtlsDomain" in result.out
    gateway.add_domain()
    assert "had them already" in run_command("truststore", "add", write(authority())).out
    listed = output_json(run_command("truststore", "list", "--json"))
    assert {each["thumbprint"] for each in listed} == {authority().x5t, another.x5t}
    assert "An authority" in run_command("truststore", "list").out
    assert run_command("truststore", "remove", another.x5t, "--yes").code == 0
    assert gateway.trusted == {authority().x5t}
    assert gateway.updates == [gateway.store.read().version]
    for thumbprint, problem in ((another.x5t, "has no certificate"), (authority().x5t, "the last one")):
        refused = run_command("truststore", "remove", thumbprint, "--yes")
        assert (refused.code, problem in refused.err) == (2, True)


@pytest.mark.parametrize("pair", [of_authority(), self_signed()], ids=["of an authority", "self-signed"])
def test_only_authorities_are_added_to_the_truststore(
    run_command: RunCommand, gateway: Gateway, write: Write, pair: Pair
) -> None:
    result = run_command("truststore", "add", write(authority(), pair))
    assert (result.code, "cannot be trusted" in result.err) == (2, True)
    assert gateway.trusted == set()


def test_certificate_of_a_client_is_not_removed_from_the_truststore(
    run_command: RunCommand, client: Client, gateway: Gateway, write: Write
) -> None:
    run_command("client", "add-certificate", "bank", write(self_signed()))
    result = run_command("truststore", "remove", self_signed().x5t, "--yes")
    assert (result.code, "client remove-certificate bank" in result.err) == (2, True)
    assert gateway.trusted == {self_signed().x5t}


def test_truststore_gets_the_certificates_of_imported_clients(
    site: Site, run_command: RunCommand, gateway: Gateway, tmp_path: Path
) -> None:
    client = self_signed_client(site, self_signed(), self_signed("CN=next"), client_id="bank").record
    pki_client(site, client_id="pki", tls_client_certificate_bound_access_tokens=True)
    file = tmp_path / "export.jsonl"
    assert run_command("export", "--out", file).code == 0
    for each in site.server.store.clients.scan():
        site.server.store.clients.delete(each.client_id)
    assert run_command("import", file).code == 0
    imported = site.server.store.clients.get("bank")
    assert imported
    assert replace(imported, registration_id=None) == replace(client, registration_id=None)
    pki = site.server.store.clients.get("pki")
    assert pki
    assert (pki.tls_client_auth_subject_dn, pki.tls_client_certificate_bound_access_tokens) == (SUBJECT, True)
    gateway.store.add(*_read(self_signed()))
    added = output_json(run_command("truststore", "sync", "--json"))
    assert [each["thumbprint"] for each in added] == [self_signed("CN=next").x5t]
    assert gateway.trusted == {self_signed().x5t, self_signed("CN=next").x5t}
    assert "has all of them" in run_command("truststore", "sync").out


@pytest.mark.parametrize(
    "change",
    [
        {"tls_client_certificates": ["AAAA"]},
        {"tls_client_auth_subject_dn": "CN=x"},
        {"tls_client_certificate_bound_access_tokens": True, "dpop_bound_access_tokens": True},
    ],
)
def test_import_refuses_a_client_that_could_not_be_registered(
    site: Site, run_command: RunCommand, tmp_path: Path, change: dict[str, Any]
) -> None:
    site.client(client_id="bank", token_endpoint_auth_methods=(TLS_CLIENT_AUTH,), tls_client_auth_san_dns="a.example")
    file = tmp_path / "export.jsonl"
    run_command("export", "--out", file)
    site.server.store.clients.delete("bank")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    changed = [each | change if each["kind"] == "client" else each for each in lines]
    file.write_text("".join(json.dumps(each) + "\n" for each in changed))
    run_command("import", file)
    assert site.server.store.clients.get("bank") is None


def test_truststore_is_for_a_stage_in_aws(run_command: RunCommand) -> None:
    assert "is not in AWS" in run_command("truststore", "list", "--stage", "local").err


def test_two_commands_at_once_lose_no_certificate(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The object is written on the condition that it is still the one that was read."""
    gateway.store.add(*_read(authority()))
    read, between = Truststore.read, [self_signed(), self_signed("CN=next")]

    def read_and_wait(store: Truststore) -> truststore.Content:
        content = read(store)
        if between:
            other = between.pop()
            with monkeypatch.context() as patched:
                patched.setattr(Truststore, "read", read)
                store.add(*_read(other))
        return content

    monkeypatch.setattr(Truststore, "read", read_and_wait)
    gateway.store.add(*_read(issue("CN=x")))
    assert len(gateway.trusted) == 4


def test_truststore_that_changes_each_time_is_an_error(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Truststore, "_write", lambda *_arguments: None)
    with pytest.raises(CommandError, match="Try again"):
        gateway.store.add(*_read(authority()))


def test_truststore_has_a_limit(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truststore, "MAX_CERTIFICATES", 1)
    with pytest.raises(CommandError, match="at most 1"):
        gateway.store.add(*_read(authority(), self_signed()))


# ---- the doctor


def examine(site: Site) -> Verdict:
    return mutual_tls.clients(Inside(site.server.store))


def test_doctor_skips_mutual_tls_without_a_client_that_uses_it(site: Site) -> None:
    site.client()
    assert examine(site).ok is None
    assert list(mutual_tls.inspect(Inside(site.server.store))) == []


def test_doctor_names_certificates_that_end(site: Site) -> None:
    client = self_signed_client(site, issue("CN=x", ends=40 * DAY))
    pki_client(site)
    assert examine(site).ok is True
    soon, gone = issue("CN=x", ends=29 * DAY), issue("CN=x", ends=DAY)
    self_signed_client(site, soon, gone)
    verdict = examine(site)
    assert verdict.ok is False
    (finding,) = mutual_tls.inspect(Inside(site.server.store))
    assert (finding.name, finding.ok, finding.detail) == ("mutual TLS", False, verdict.detail)
    assert (soon.x5t in verdict.detail, gone.x5t in verdict.detail) == (True, True)
    for each in site.server.store.clients.scan():
        if each.client_id != client.id:
            site.server.store.clients.put(replace(each, disabled_at=1))
    assert examine(site).ok is True


def test_doctor_names_a_client_without_a_certificate(site: Site) -> None:
    site.client(client_id="bank", token_endpoint_auth_methods=(SELF_SIGNED,))
    assert "bank authenticates by self_signed_tls_client_auth and has no certificate" in examine(site).detail


@pytest.mark.parametrize("kind", ["authentication", "binding"])
def test_doctor_names_clients_that_need_a_domain(site: Site, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    client = pki_client(site) if kind == "authentication" else site.client()
    if kind == "binding":
        update_client(site, client, tls_client_certificate_bound_access_tokens=True)
    monkeypatch.setattr(Inside, "in_aws", True)
    monkeypatch.setattr(Inside, "function", {"FunctionName": "signet"})
    for variables, ok in (({}, False), ({"SIGNET_MTLS_DOMAIN": DOMAIN}, True)):
        monkeypatch.setattr(Inside, "variables", variables)
        assert examine(site).ok is ok


@pytest.fixture
def verdict(site: Site, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Verdict]:
    """Return a function that examines the truststore of a stage with a domain."""
    monkeypatch.setattr(Inside, "function", {"FunctionName": "signet"})
    monkeypatch.setattr(Inside, "variables", {"SIGNET_MTLS_DOMAIN": DOMAIN})
    gateway.store.add(*_read(authority()))
    return lambda: mutual_tls.truststore(Inside(site.server.store))


def test_doctor_finds_nothing_wrong_with_a_truststore(
    site: Site, gateway: Gateway, verdict: Callable[[], Verdict]
) -> None:
    gateway.store.add(*_read(self_signed()))
    self_signed_client(site)
    gateway.add_domain()
    assert (verdict().ok, verdict().detail) == (True, f"The gateway demands certificates at {DOMAIN}, and trusts 2.")


def test_doctor_names_a_domain_that_is_missing_or_demands_nothing(
    gateway: Gateway, verdict: Callable[[], Verdict], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "has no domain" in verdict().detail
    gateway.add_domain(TruststoreUri="")
    assert "demands no certificate" in verdict().detail
    monkeypatch.setattr(Inside, "variables", {})
    assert verdict().ok is None


def test_doctor_names_what_is_wrong_with_a_truststore(
    site: Site, gateway: Gateway, verdict: Callable[[], Verdict]
) -> None:
    gateway.add_domain()
    ending = issue("CN=Old authority", authority=True, ends=DAY)
    Truststore(boto3.Session(), gateway.bucket).add(*_read(ending, self_signed("CN=nobody")))
    self_signed_client(site)
    detail = verdict().detail
    for part in (
        "does not use the newest version",
        f"{ending.x5t} of CN=Old authority ends at",
        f"registered with {self_signed().x5t}, which the gateway does not trust",
        f"{self_signed('CN=nobody').x5t}, which no client is registered with",
    ):
        assert part in detail
