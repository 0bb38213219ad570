"""The zip in the bucket, and the check that the function runs it."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import boto3
import pytest

from infra.aws import code
from infra.aws.destroy import remove_bucket
from infra.aws.package import Package
from infra.operator.commands import CommandError

BUCKET = "code-of-a-stage"


@pytest.fixture
def package(tmp_path: Path) -> Package:
    file = tmp_path / "signet.zip"
    file.write_bytes(b"a zip")
    return Package({}, file, hashlib.sha256(b"a zip").hexdigest(), '{"bomFormat": "CycloneDX"}', ())


@pytest.fixture
def s3(_moto: None) -> Iterator[Any]:
    client: Any = boto3.client("s3", region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    yield client
    remove_bucket(client, BUCKET)
    assert BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]


def test_zip_is_uploaded_once_with_its_checksum_and_its_bill_of_materials(s3: Any, package: Package) -> None:
    key, version = code.upload(s3, BUCKET, package)
    assert key == f"{package.sha256}.zip"
    assert s3.get_object(Bucket=BUCKET, Key=key, VersionId=version)["Body"].read() == b"a zip"
    assert s3.head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")["ChecksumSHA256"] == package.checksum
    materials = s3.get_object(Bucket=BUCKET, Key=f"{package.sha256}.cdx.json")
    assert materials["Body"].read().decode() == package.bill_of_materials
    assert code.upload(s3, BUCKET, package) == (key, version)


def test_zip_that_was_overwritten_is_uploaded_again(s3: Any, package: Package) -> None:
    key, first = code.upload(s3, BUCKET, package)
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"another zip")
    assert s3.get_object(Bucket=BUCKET, Key=key, VersionId=first)["Body"].read() == b"a zip"
    key, second = code.upload(s3, BUCKET, package)
    assert s3.get_object(Bucket=BUCKET, Key=key, VersionId=second)["Body"].read() == b"a zip"
    # A deleted object is hidden by a marker, which is removed with the bucket too.
    s3.delete_object(Bucket=BUCKET, Key=key)
    assert code.upload(s3, BUCKET, package)[1] not in (first, second)


def test_zip_of_an_earlier_deployment_gets_a_checksum_and_a_version(s3: Any, package: Package) -> None:
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})
    s3.put_object(Bucket=BUCKET, Key=f"{package.sha256}.zip", Body=b"a zip", ChecksumSHA256=package.checksum)
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    key, version = code.upload(s3, BUCKET, package)
    assert version != "null"
    assert s3.get_object(Bucket=BUCKET, Key=key, VersionId=version)["Body"].read() == b"a zip"


def test_code_of_the_function_is_compared_with_the_zip(package: Package) -> None:
    function = Mock()
    function.get_function_configuration.return_value = {"CodeSha256": package.checksum}
    code.verify(function, "arn:aws:lambda:us-east-1:123456789012:function:signet:live", package)
    other = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    function.get_function_configuration.return_value = {"CodeSha256": other}
    with pytest.raises(CommandError, match=f"does not run the zip .* is {other}, and that of the zip"):
        code.verify(function, "arn:aws:lambda:us-east-1:123456789012:function:signet:live", package)
