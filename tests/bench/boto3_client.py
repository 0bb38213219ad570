"""A client of AWS over boto3 in place of `chalicelib.aws`, to measure the difference.

It has the options that Signet used before it had a client of its own. A new interpreter (`child.py`) imports this as a
module of its own, so it needs nothing of the other modules here.
"""

from base64 import b64decode, b64encode
from typing import Any

from chalicelib.aws.client import Account, AwsError, Client
from chalicelib.aws.credentials import Credentials

LOCAL = Credentials("local", "local")
# Members of KMS that are bytes for boto3 and base64 for the own client; in DynamoDB, only the key ring has any.
_BYTES = ("CiphertextBlob", "Plaintext", "Message", "Signature", "PublicKey")


class Boto3Client(Client):
    """A client of one service at one endpoint, whose calls are made by boto3."""

    def __init__(self, service: str, region: str, url: str):
        import boto3
        from botocore import xform_name
        from botocore.config import Config

        super().__init__(service, region, url, lambda _renew: LOCAL)
        self._name = xform_name
        config = Config(
            connect_timeout=1,
            read_timeout=30,
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=64,
            parameter_validation=False,
            user_agent="signet",
        )
        session: Any = boto3.Session("local", "local", region_name=region)
        self._boto3 = session.client(service, endpoint_url=url, config=config)

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Make a call and return the members of its answer. Raises AwsError."""
        from botocore.exceptions import ClientError

        if self.service == "kms":
            parameters = _each(parameters, b64decode)
        try:
            answer: dict[str, Any] = getattr(self._boto3, self._name(operation))(**parameters)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            raise AwsError.named(code)(code, operation, dict(error.response), "") from error
        if self.service == "kms":
            return _each(answer, _text)
        if parameters.get("TableName", "").endswith("-keys"):
            for value in answer.get("Item", {}).values():
                value.update({"B": _text(value["B"])} if "B" in value else {})
        return answer


def use_boto3() -> None:
    """Let all accounts of this process, and all their clients of local endpoints, make calls by boto3."""
    from chalicelib.storage import dynamodb

    def client(account: Account, service: str) -> Client:
        return Boto3Client(service, account.region or "", account._environ()[f"AWS_ENDPOINT_URL_{service.upper()}"])

    Account.client = client  # type: ignore[method-assign,assignment]
    vars(dynamodb)["Client"] = lambda service, region, url, *_: Boto3Client(service, region, url)


def _text(value: bytes) -> str:
    return b64encode(value).decode()


def _each(members: dict[str, Any], convert: Any) -> dict[str, Any]:
    return {name: convert(value) if name in _BYTES else value for name, value in members.items()}
