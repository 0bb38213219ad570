"""The embedded DynamoDB of `chalice local`, the operator's command and the tests, emulated by moto.

`start` and `opened` give access to the database of this checkout, which is stored in its state folder
(`infra.local.state`) and shared by all its processes. `create_tables` and `lock_moto` are also used by tests that run
moto inside the process.
"""

import functools
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chalicelib.keys.ring import KeyRing
from chalicelib.schedules import deliver
from chalicelib.server import AuthorizationServer
from chalicelib.settings import Settings
from chalicelib.storage.store import Store
from infra import access, schema
from infra.local import demo, moto_memory
from infra.local.faults import FAULTS
from infra.local.http_server import fix_chalice_local
from infra.local.mailbox import FOLDER
from infra.local.state import StateError, StateFolder

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

    from infra.local.database import Database

STAGE = "local"
PAUSE = 1.0  # seconds
PAUSE_AFTER_FAILURE = 60.0
_CREATE_TABLE_MEMBERS = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")


def create_tables(client: "DynamoDBClient", stage: str) -> None:
    """Create the missing tables of infra/aws/tables.yaml, with their indexes, TTL and backups.

    Encryption and deletion protection have no meaning in an emulation and are left out.
    """
    existing = {name for page in client.get_paginator("list_tables").paginate() for name in page["TableNames"]}
    for name, properties in schema.tables(stage).items():
        if name in existing:
            continue
        members: dict[str, Any] = {part: properties[part] for part in _CREATE_TABLE_MEMBERS if part in properties}
        client.create_table(TableName=name, **members)
        if ttl := properties.get("TimeToLiveSpecification"):
            client.update_time_to_live(TableName=name, TimeToLiveSpecification=ttl)
        if recovery := properties.get("PointInTimeRecoverySpecification"):
            client.update_continuous_backups(TableName=name, PointInTimeRecoverySpecification=recovery)


@functools.cache
def lock_moto() -> AbstractContextManager[Any]:
    """Serialize moto's calls, which are not atomic, and return the reentrant lock. Idempotent.

    All of them also go through FAULTS, and leave nothing in memory but the items.
    """
    from moto.dynamodb.responses import DynamoHandler

    lock = threading.RLock()
    call_action = DynamoHandler.call_action

    @functools.wraps(call_action)
    def locked(handler: Any) -> Any:
        with lock:
            try:
                return FAULTS.perform(handler, call_action)
            finally:
                moto_memory.forget_instances()

    moto_memory.bound_transactions()
    DynamoHandler.call_action = locked
    return lock


def ignore_aws_configuration() -> None:
    """Make boto3 ignore this machine's AWS profiles and, for 127.0.0.1, its proxy.

    A profile that does not exist, or a proxy that cannot reach 127.0.0.1, would make boto3 fail.
    """
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        os.environ.pop(name, None)
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    os.environ["no_proxy"] = ",".join(filter(None, [direct, "127.0.0.1"]))


_starting = threading.Lock()
_started: dict[Path, Settings] = {}


def start(settings: Settings) -> Settings:
    """Return the settings with this checkout's embedded database and the stage `local`.

    Starts the database once per process, or uses the one that another process serves. Adds the demo data to a new
    state and prints the next steps. Creates a missing key ring. Raises StateError.
    """
    ignore_aws_configuration()
    fix_chalice_local()  # for plain `chalice local`: in time for all connections but the first ones
    with _starting:
        folder = StateFolder()
        if folder.path not in _started:
            _started[folder.path] = _start(folder, settings)
            KeyRing(Store(_started[folder.path])).create()
        started = _started[folder.path]
    return replace(
        settings,
        stage=STAGE,
        embedded=False,
        region=started.region,
        dynamodb_endpoint=started.dynamodb_endpoint,
        sealing_key=started.sealing_key,
        mailbox=started.mailbox,
    )


def deliver_at_once(server: AuthorizationServer) -> threading.Event:
    """Send the mails and logout tokens in the outbox, every second in a thread, until the returned event is set.

    `chalice local` runs no schedules. Polling the outbox also covers sessions that other processes end. Keys are not
    rotated, because a local server does not run long enough.
    """
    stopped = threading.Event()

    def work() -> None:
        pause = PAUSE
        while not stopped.wait(pause):
            try:
                deliver(server)
                pause = PAUSE
            except Exception as error:  # another process may be taking over the database
                print(
                    f"Mails and logout tokens cannot be sent ({type(error).__name__}); trying again in a minute.",
                    flush=True,
                )
                pause = PAUSE_AFTER_FAILURE

    threading.Thread(target=work, daemon=True).start()
    return stopped


@contextmanager
def opened(settings: Settings) -> Iterator[Settings]:
    """Yield the same settings for a single command: prints and adds nothing, and closes a database that it has opened.

    Raises StateError.
    """
    ignore_aws_configuration()
    folder = StateFolder()
    port = folder.acquire_or_find()
    if port is not None:
        yield _settings(settings, folder, port)
        return
    database = None
    try:
        database = _serve(folder, settings)
        yield _settings(settings, folder, database.port)
    finally:
        if database:
            database.close()
        folder.release()


def _start(folder: StateFolder, settings: Settings) -> Settings:
    port = folder.acquire_or_find()
    if port is not None:
        threading.Thread(target=_stand_by, args=(folder, settings, port), daemon=True).start()
        settings = _settings(settings, folder, port)
        print(demo.welcome(Store(settings), None), flush=True)
        return settings
    database = None
    try:
        database = _serve(folder, settings)
        settings = _settings(settings, folder, database.port)
        with database.first_time() as first:
            store = Store(settings)
            # Print the password before it is stored: if the process is killed in between, the next start sets another.
            print(demo.welcome(store, demo.seed(store) if first else None), flush=True)
        folder.publish(database.port)
    except BaseException:
        if database:
            database.close()
        folder.release()
        raise
    return settings


def _serve(folder: StateFolder, settings: Settings) -> "Database":
    from infra.local.database import Database

    database = Database(folder.items, folder.name, lock_moto())
    try:
        create_tables(access.dynamodb_client(_settings(settings, folder, database.port)), STAGE)
        database.load()
    except BaseException:
        database.close()
        raise
    return database


def _stand_by(folder: StateFolder, settings: Settings, port: int) -> None:
    """Take over the database, on the same port, when the process that serves it ends first."""
    import infra.local.database  # noqa: F401  imported in advance, because it takes half a second

    folder.acquire(wait=True)
    try:
        # Listen on the known port only when the items are loaded.
        folder.publish(_serve(folder, settings).listen(port))
    except (StateError, OSError) as error:
        folder.release()
        print(f"The embedded database has stopped and cannot be restarted ({error}). Restart the server.", flush=True)


def _settings(settings: Settings, folder: StateFolder, port: int) -> Settings:
    return replace(
        settings,
        stage=STAGE,
        embedded=False,
        region="us-east-1",
        dynamodb_endpoint=f"http://127.0.0.1:{port}",
        sealing_key=folder.sealing_key(),
        mailbox=str(folder.path / FOLDER),
    )
