"""DynamoDB and KMS in another process, so that their CPU time is not counted.

DynamoDB is the embedded database, KMS is moto's server.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from infra.local.state import CHECKOUT
from tests.bench.flow import ORIGIN

STAGE = "bench"
REGION = "us-east-1"


@contextmanager
def services() -> Iterator[dict[str, str]]:
    """Run both services, and yield the environment of the function as in Lambda."""
    with TemporaryDirectory(prefix="signet-bench-") as folder:
        command = [sys.executable, "-m", "tests.bench.services", folder]
        with subprocess.Popen(
            command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin
            assert process.stdout
            try:
                dynamodb, kms = process.stdout.readline().split()
                yield _environment(dynamodb, kms)
            finally:
                process.stdin.close()  # the process ends with its input


def _environment(dynamodb: str, kms: str) -> dict[str, str]:
    return {
        "AWS_LAMBDA_FUNCTION_NAME": "signet-bench",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_ENDPOINT_URL_KMS": f"http://127.0.0.1:{kms}",
        "no_proxy": "127.0.0.1",
        "SIGNET_STAGE": STAGE,
        "SIGNET_ISSUER": ORIGIN,
        "SIGNET_DYNAMODB_ENDPOINT": f"http://127.0.0.1:{dynamodb}",
    }


def _serve(folder: Path) -> None:
    import logging

    import boto3
    from moto.server import ThreadedMotoServer

    from chalicelib.settings import Settings
    from infra.access import dynamodb_client
    from infra.local.database import Database
    from infra.local.embedded import create_tables, ignore_aws_configuration, lock_moto

    ignore_aws_configuration()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    database = Database(folder / "items", "bench", lock_moto())
    endpoint = f"http://127.0.0.1:{database.port}"
    create_tables(dynamodb_client(Settings(region=REGION, dynamodb_endpoint=endpoint)), STAGE)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    session = boto3.Session("local", "local", region_name=REGION)
    kms = session.client("kms", endpoint_url=f"http://127.0.0.1:{port}")
    kms.create_alias(AliasName=f"alias/signet-{STAGE}", TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])
    print(database.port, port, flush=True)
    sys.stdin.read()
    server.stop()
    database.close()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
