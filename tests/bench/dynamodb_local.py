"""DynamoDB Local, AWS's own emulator in Java: the request units that it reports beside those that `capacity` computes.

Its folder has DynamoDBLocal.jar with its libraries, as in the archive of AWS or as Maven collects them.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chalicelib.settings import Settings
from infra import schema
from infra.access import dynamodb_client
from tests.bench.services import REGION
from tests.support.ports import free_port

MAIN = "com.amazonaws.services.dynamodbv2.local.main.ServerRunner"
START = 30  # seconds
# What it knows of a table: no backups, no protection, no expiry.
_MEMBERS = ("AttributeDefinitions", "KeySchema", "BillingMode", "GlobalSecondaryIndexes")


class Skipped(Exception):
    """It cannot run here. The text says why."""


@contextmanager
def dynamodb_local(folder: Path | None, stage: str) -> Iterator[str]:
    """Run it in memory with the tables of a stage, and yield its endpoint. Raises Skipped."""
    if folder is None:
        raise Skipped("no folder: --dynamodb-local FOLDER names that of DynamoDBLocal.jar")
    java = shutil.which("java")
    if java is None:
        raise Skipped("no Java")
    archives = sorted(folder.rglob("*.jar"))
    if not any(archive.name.startswith("DynamoDBLocal") for archive in archives):
        raise Skipped(f"no DynamoDBLocal.jar in {folder}")
    port = free_port()
    natives = {str(library.parent) for library in folder.rglob("libsqlite4java-*")}
    command = [
        *(java, f"-Djava.library.path={os.pathsep.join(sorted(natives))}", "-DDDBLocalTelemetryEnabled=false"),
        *(
            "-cp",
            os.pathsep.join(map(str, archives)),
            MAIN,
            "-inMemory",
            "-sharedDb",
            "-port",
            str(port),
            "-disableTelemetry",
        ),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _await(process, port)
            endpoint = f"http://127.0.0.1:{port}"
            create_tables(dynamodb_client(Settings(region=REGION, dynamodb_endpoint=endpoint)), stage)
            yield endpoint
        finally:
            process.terminate()


def create_tables(client: Any, stage: str) -> None:
    """Create the tables of a stage in an emulator. `client`: of boto3."""
    for name, properties in schema.tables(stage).items():
        members: Any = {member: properties[member] for member in _MEMBERS if member in properties}
        client.create_table(**members | {"TableName": name})


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise Skipped(f"it did not start in {START} seconds")
