"""A stage in moto whose gateway has a domain for mutual TLS, with its truststore."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import botocore.client
import pytest
from moto.apigatewayv2.models import apigatewayv2_backends
from moto.core import DEFAULT_ACCOUNT_ID

from infra.aws.destroy import remove_bucket
from infra.operator.truststore import Truststore
from tests.support.client_certificates import DOMAIN
from tests.support.site import STAGE

_REGION = "us-east-1"
_BUCKET = "signet-data-test-codebucket-1"
_RESOURCES = {"Topic": {"Type": "AWS::SNS::Topic"}}


@dataclass(frozen=True)
class Gateway:
    """The gateway of a stage. `updates` are the versions of the truststore that it was told to use."""

    bucket: str
    updates: list[str]

    @property
    def store(self) -> Truststore:
        """The truststore, as the commands find it."""
        return Truststore.of_stage(STAGE)

    @property
    def trusted(self) -> set[str]:
        """The thumbprints of the certificates in the truststore."""
        return set(self.store.read().certificates)

    def add_domain(self, **mutual_tls: str) -> None:
        """Create the domain for mutual TLS, as `deploy` does."""
        stored = self.store.read()
        used = {"TruststoreUri": self.store.uri, "TruststoreVersion": stored.version} | mutual_tls
        boto3.client("apigatewayv2", region_name=_REGION).create_domain_name(
            DomainName=DOMAIN, MutualTlsAuthentication=used
        )
        _create_stack(f"signet-api-{STAGE}", _RESOURCES, MtlsDomain=DOMAIN)


def _create_stack(name: str, resources: Any, outputs: Any = None, **parameters: str) -> None:
    template = {
        "Parameters": {each: {"Type": "String"} for each in parameters},
        "Resources": resources,
        "Outputs": outputs or {},
    }
    given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
    boto3.client("cloudformation", region_name=_REGION).create_stack(
        StackName=name, TemplateBody=json.dumps(template), Parameters=given
    )


def _let_moto_update_domains(monkeypatch: pytest.MonkeyPatch, updates: list[str]) -> None:
    """Add UpdateDomainName, which moto lacks. As API Gateway, it reads the version that it is told to use."""
    original = botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]

    def call(client: Any, operation: str, parameters: Any) -> Any:
        if operation != "UpdateDomainName":
            return original(client, operation, parameters)
        used = parameters["MutualTlsAuthentication"]
        bucket, _, key = used["TruststoreUri"].removeprefix("s3://").partition("/")
        version = used["TruststoreVersion"]
        boto3.client("s3", region_name=_REGION).get_object(Bucket=bucket, Key=key, VersionId=version)
        updates.append(version)
        domain = apigatewayv2_backends[DEFAULT_ACCOUNT_ID][_REGION].domain_names[parameters["DomainName"]]
        domain.mutual_tls_authentication = {"truststoreUri": used["TruststoreUri"], "truststoreVersion": version}
        return {}

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", call)


@pytest.fixture
def gateway(_moto: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """A stage with the bucket of its code, and without a domain for mutual TLS."""
    s3 = boto3.client("s3", region_name=_REGION)
    s3.create_bucket(Bucket=_BUCKET)  # moto's CloudFormation enables no versions
    s3.put_bucket_versioning(Bucket=_BUCKET, VersioningConfiguration={"Status": "Enabled"})
    _create_stack(f"signet-data-{STAGE}", _RESOURCES, {"CodeBucket": {"Value": _BUCKET}})
    updates: list[str] = []
    _let_moto_update_domains(monkeypatch, updates)
    yield Gateway(_BUCKET, updates)
    remove_bucket(s3, _BUCKET)
    cloudformation = boto3.client("cloudformation", region_name=_REGION)
    for stack in (f"signet-data-{STAGE}", f"signet-api-{STAGE}"):
        cloudformation.delete_stack(StackName=stack)
    apigatewayv2_backends[DEFAULT_ACCOUNT_ID][_REGION].domain_names.clear()
