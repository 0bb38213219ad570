"""DynamoDB and KMS in another process, so that their CPU time is not counted.

DynamoDB is the embedded database, KMS is moto's server. Copies of a record can be stored in large numbers without a
call for each.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from infra.local.state import CHECKOUT
from tests.bench.flow import ORIGIN

STAGE = "bench"
REGION = "us-east-1"


# Stores copies of an item: the table, the item in DynamoDB's typed form, the text attributes that differ in each copy,
# and the number of copies.
Copy = Callable[[str, Mapping[str, Any], tuple[str, ...], int], None]


@contextmanager
def services() -> Iterator[dict[str, str]]:
    """Run both services, and yield the environment of the function as in Lambda."""
    with services_with_copies() as (environment, _):
        yield environment


@contextmanager
def services_with_copies() -> Iterator[tuple[dict[str, str], Copy]]:
    """Run both services, and yield the environment of the function, and the function that stores copies."""
    with TemporaryDirectory(prefix="signet-bench-") as folder:
        command = [sys.executable, "-m", "tests.bench.services", folder]
        with subprocess.Popen(
            command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin
            assert process.stdout
            try:
                dynamodb, kms = process.stdout.readline().split()
                yield _environment(dynamodb, kms), partial(_request_copies, process)
            finally:
                process.stdin.close()  # the process ends with its input


def _request_copies(
    process: subprocess.Popen[str], table: str, item: Mapping[str, Any], names: tuple[str, ...], copies: int
) -> None:
    assert process.stdin
    assert process.stdout
    print(json.dumps([table, item, names, copies]), file=process.stdin, flush=True)
    assert process.stdout.readline() == "stored\n"


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
    for line in sys.stdin:
        _store_copies(*json.loads(line))
        print("stored", flush=True)
    server.stop()
    database.close()


def _store_copies(name: str, item: dict[str, Any], names: list[str], copies: int) -> None:
    """Store copies in moto's memory only: nothing changes them, and they need not survive this process.

    They share all values but the named ones, so that 100,000 take about 0.2 GB.
    """
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.dynamodb.models import dynamodb_backends
    from moto.dynamodb.models.dynamo_type import DynamoType, Item

    table = dynamodb_backends[DEFAULT_ACCOUNT_ID][REGION].tables[name]
    shared = {attribute: DynamoType(value) for attribute, value in item.items()}
    items = {}
    for number in range(copies):
        # Of the same length, so that a copy has the same size as the record.
        own = {each: DynamoType({"S": f"{number:08x}{item[each]['S'][8:]}"}) for each in names}
        copy = Item(own[table.hash_key_attr], own.get(table.range_key_attr), {})
        for attribute, value in (shared | own).items():
            dict.__setitem__(copy.attrs, attribute, value)  # without moto's check of the size for each attribute
        items[copy.hash_key] = {copy.range_key: copy} if table.has_range_key else copy
    table.items.update(items)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
