"""The code of a stage in AWS: the zip in the bucket, and the function that runs it."""

from typing import Any

from botocore.exceptions import ClientError

from infra.aws.package import Package
from infra.operator.commands import CommandError


def upload(s3: Any, bucket: str, package: Package) -> tuple[str, str]:
    """Upload the zip under its own hash, unless it is there already. Return its key and its version in the bucket.

    S3 verifies the checksum, and the version can be deployed whatever is written to the key later; it is empty while
    the bucket has no versions yet. The bill of materials is stored before the zip, so that an interrupted upload is
    repeated.
    """
    key = f"{package.sha256}.zip"
    stored = _stored(s3, bucket, key)
    # Other deployments have stored neither a checksum nor versions.
    if stored.get("ChecksumSHA256") != package.checksum or stored.get("VersionId", "null") == "null":
        materials = package.bill_of_materials.encode()
        s3.put_object(Bucket=bucket, Key=f"{package.sha256}.cdx.json", Body=materials, ContentType="application/json")
        checksum = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": package.checksum}
        stored = s3.put_object(Bucket=bucket, Key=key, Body=package.zip.read_bytes(), **checksum)
    return key, stored.get("VersionId", "")


def verify(function: Any, alias: str, package: Package) -> None:
    """Raise CommandError unless the version behind the alias runs exactly this zip. `function` is Lambda's client."""
    running = function.get_function_configuration(FunctionName=alias)["CodeSha256"]
    if running != package.checksum:
        difference = f"its CodeSha256 is {running}, and that of the zip is {package.checksum}"
        advice = "Find out in CloudTrail who changed the function or its alias."
        raise CommandError(f"The function does not run the zip that was uploaded: {difference}. {advice}")


def _stored(s3: Any, bucket: str, key: str) -> dict[str, Any]:
    try:
        stored: dict[str, Any] = s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        return {}
    return stored
