"""The domain for mutual TLS as an option of `deploy`: its template, and its truststore."""

from types import SimpleNamespace
from typing import cast

import boto3
import pytest
import yaml

from chalicelib.keys.certificates import read_pem
from chalicelib.settings import SettingsError
from infra.aws import deploy, front, mutual_tls
from infra.aws.deployment import Deployment
from infra.aws.package import API
from infra.operator.commands import CommandError
from tests.support.client_certificates import DOMAIN, authority
from tests.support.site import STAGE
from tests.support.truststores import Gateway
from tests.support.truststores import gateway as gateway

CERTIFICATE = "arn:aws:acm:eu-central-1:123456789012:certificate/1"
SERVER = {"MtlsDomain": DOMAIN, "MtlsCertificateArn": CERTIFICATE, "Issuer": "", "DomainName": "login.example.com"}


def deployment(**parameters: str) -> Deployment:
    """Return a deployment in progress, whose stage has these parameters."""
    return Deployment(STAGE, parameters, boto3.Session())


def test_template_demands_certificates_at_the_second_domain_only() -> None:
    resources = yaml.safe_load(API.read_text())["Resources"]
    second, first = resources["SecondDomain"]["Properties"], resources["Domain"]["Properties"]
    assert second["MutualTlsAuthentication"] == {
        "TruststoreUri": {"Ref": "MtlsTruststoreUri"},
        "TruststoreVersion": {"Ref": "MtlsTruststoreVersion"},
    }
    assert "MutualTlsAuthentication" not in first
    assert resources["SecondDomainMapping"]["Properties"]["ApiId"] == {"Ref": "HttpApi"}
    assert {resources[name]["Condition"] for name in ("SecondDomain", "SecondDomainMapping")} == {"HasMtlsDomain"}


def test_deployment_uses_the_truststore_as_it_is_now(gateway: Gateway) -> None:
    gateway.store.add(read_pem(authority().pem))
    mutual_tls.check_mutual_tls(deployment(), SERVER)
    parameters = mutual_tls.truststore_parameters(deployment(), SERVER)
    assert parameters == {
        "MtlsTruststoreUri": f"s3://{gateway.bucket}/truststore.pem",
        "MtlsTruststoreVersion": gateway.store.read().version,
    }
    assert set(mutual_tls.truststore_parameters(deployment(), SERVER | {"MtlsDomain": ""}).values()) == {""}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"MtlsCertificateArn": ""}, "Set both"),
        ({"MtlsDomain": ""}, "Set both"),
        ({"DomainName": ""}, "requires your own domain"),
        ({}, "signet truststore add authority.pem --stage test"),
    ],
)
def test_deployment_that_cannot_work_is_refused(gateway: Gateway, changes: dict[str, str], problem: str) -> None:
    with pytest.raises(CommandError) as refused:
        mutual_tls.check_mutual_tls(deployment(), SERVER | changes)
    assert problem in refused.value.message


@pytest.mark.usefixtures("_moto")
def test_deployment_before_its_bucket_is_refused() -> None:
    with pytest.raises(CommandError, match="signet data --stage test"):
        mutual_tls.check_mutual_tls(deployment(), SERVER)


@pytest.mark.usefixtures("_moto")
def test_stage_without_the_domain_needs_no_truststore() -> None:
    mutual_tls.check_mutual_tls(deployment(), SERVER | {"MtlsDomain": "", "MtlsCertificateArn": ""})


@pytest.mark.parametrize("name", sorted(mutual_tls.COMPUTED))
def test_operator_does_not_choose_the_version(name: str) -> None:
    with pytest.raises(Exception, match="there is no parameter"):
        deploy._known({name: "x"})


def test_settings_with_the_domain_are_checked_before_the_deployment() -> None:
    deploy.check_settings(SERVER)
    with pytest.raises(SettingsError, match="another domain"):
        deploy.check_settings(SERVER | {"DomainName": DOMAIN})


def test_record_of_the_domain_is_printed() -> None:
    stage = SimpleNamespace(
        outputs={"Address": "https://login.example.com", "DomainTarget": "d-1", "MtlsDomainTarget": "d-2"},
        api=SimpleNamespace(parameters=lambda: {"MtlsDomain": DOMAIN}),
        front=None,
    )
    assert front.dns_records(cast(Deployment, stage)) == {"login.example.com": "d-1", DOMAIN: "d-2"}
