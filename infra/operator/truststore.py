"""The truststore of a stage: the certificates that API Gateway accepts at the domain for mutual TLS.

It is one object with certificates in PEM, in the bucket of the stage's code. A change is a new version of the object,
which the gateway uses once its domain name names it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.exceptions import ClientError

from chalicelib.keys.certificates import pem_of, split_pem
from chalicelib.protocol.mutual_tls import Certificate
from infra.operator.commands import CommandError

KEY = "truststore.pem"
MAX_CERTIFICATES = 1000
_ATTEMPTS = 5


@dataclass(frozen=True)
class Content:
    """The certificates of a truststore by their thumbprints, and the version of the object; no `etag` without one."""

    certificates: dict[str, Certificate]
    version: str = ""
    etag: str = ""


@dataclass(frozen=True)
class Truststore:
    """The truststore of a stage. `domain` is empty while the gateway has no domain for mutual TLS."""

    session: Any
    bucket: str
    domain: str = ""

    @classmethod
    def of_stage(cls, stage: str, session: Any = None) -> "Truststore":
        """Return the truststore of a stage in AWS. Raises CommandError when the stage is not deployed."""
        session = session or boto3.Session()
        cloudformation = session.client("cloudformation")
        data = _stack(cloudformation, f"signet-data-{stage}")
        bucket = {each["OutputKey"]: each["OutputValue"] for each in data.get("Outputs", ())}.get("CodeBucket")
        if not bucket:
            raise CommandError(f"The stage {stage} has no bucket yet. Run: signet data --stage {stage}")
        server = _stack(cloudformation, f"signet-api-{stage}").get("Parameters", ())
        parameters = {each["ParameterKey"]: each["ParameterValue"] for each in server}
        return cls(session, bucket, parameters.get("MtlsDomain", ""))

    @property
    def uri(self) -> str:
        """Return where the gateway reads it."""
        return f"s3://{self.bucket}/{KEY}"

    def read(self) -> Content:
        """Return the content, which is empty if there is no object."""
        try:
            stored = self._s3.get_object(Bucket=self.bucket, Key=KEY)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            return Content({})
        certificates = {each.thumbprint: each for each in split_pem(stored["Body"].read().decode())}
        return Content(certificates, stored.get("VersionId", ""), stored["ETag"])

    def add(self, *certificates: Certificate) -> bool:
        """Add certificates; return False when it has all of them already. Raises CommandError for too many."""
        return self._change(lambda before: before | {each.thumbprint: each for each in certificates})

    def remove(self, thumbprint: str) -> bool:
        """Remove a certificate; return False when it is not there. Raises CommandError for the last one in use."""
        return self._change(lambda before: {name: each for name, each in before.items() if name != thumbprint})

    def _change(self, change: Callable[[dict[str, Certificate]], dict[str, Certificate]]) -> bool:
        for _ in range(_ATTEMPTS):
            before = self.read()
            after = change(before.certificates)
            if after == before.certificates:
                self._use(before.version)  # an earlier command may have been interrupted
                return False
            if len(after) > MAX_CERTIFICATES:
                raise CommandError(f"A truststore has at most {MAX_CERTIFICATES} certificates.")
            if not after and self.domain:
                raise CommandError(f"{self.domain} needs a certificate to trust, and this is the last one.")
            if (version := self._write(after, before.etag)) is not None:
                self._use(version)
                return True
        raise CommandError("The truststore was changed by another command each time. Try again.")

    def _write(self, certificates: dict[str, Certificate], etag: str) -> str | None:
        """Store the content unless it has changed since it was read; return its version, or None."""
        condition = {"ChecksumAlgorithm": "SHA256"} | ({"IfMatch": etag} if etag else {"IfNoneMatch": "*"})
        body = "".join(pem_of(each.der) for each in certificates.values()).encode()
        try:
            stored = self._s3.put_object(Bucket=self.bucket, Key=KEY, Body=body, **condition)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("PreconditionFailed", "ConditionalRequestConflict"):
                raise
            return None
        return str(stored.get("VersionId", ""))

    def _use(self, version: str) -> None:
        """Let the gateway use a version, unless it does, or has no domain for mutual TLS."""
        if not self.domain:
            return
        gateway = self.session.client("apigatewayv2")
        current = gateway.get_domain_name(DomainName=self.domain).get("MutualTlsAuthentication", {})
        if current.get("TruststoreVersion") != version or current.get("TruststoreUri") != self.uri:
            used = {"TruststoreUri": self.uri, "TruststoreVersion": version}
            gateway.update_domain_name(DomainName=self.domain, MutualTlsAuthentication=used)

    @property
    def _s3(self) -> Any:
        return self.session.client("s3")


def _stack(cloudformation: Any, name: str) -> dict[str, Any]:
    """Return the description of a stack, which is empty if there is none."""
    try:
        (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        return {}
    described: dict[str, Any] = stack
    return described
