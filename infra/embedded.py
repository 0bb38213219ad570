"""DynamoDB for `chalice local`, the operator's command and the tests, embedded in the process: made by moto.

`create_tables` and `lock_moto` stand alone, for tests that let moto answer inside the process; `start` and `opened`
give the database of this checkout, which lies in its state folder (`infra.state`) and is shared by all its processes.
"""

import functools
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from chalicelib.deliveries import deliver
from chalicelib.dynamodb import DynamoDB
from chalicelib.server import AuthorizationServer
from chalicelib.settings import Settings
from chalicelib.store import Store
from infra import demo
from infra.state import StateError, StateFolder

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

    from infra.database import Database

SCHEMA = Path(__file__).with_name("tables.yaml")
STAGE = "local"
PAUSE = 1.0
PAUSE_AFTER_FAILURE = 60.0
_FOR_CREATION = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")


def create_tables(client: "DynamoDBClient", stage: str) -> None:
    """Make the tables of infra/tables.yaml that do not exist, with their indexes, TTL and backups.

    Encryption and protection from deletion are left to AWS: they mean nothing here.
    """
    existing = {name for page in client.get_paginator("list_tables").paginate() for name in page["TableNames"]}
    for resource in yaml.safe_load(SCHEMA.read_text())["Resources"].values():
        properties = resource["Properties"]
        if resource["Type"] != "AWS::DynamoDB::Table":
            continue
        name = properties["TableName"]["Fn::Sub"].replace("${Stage}", stage)
        if name in existing:
            continue
        shape: dict[str, Any] = {part: properties[part] for part in _FOR_CREATION if part in properties}
        client.create_table(TableName=name, **shape)
        if ttl := properties.get("TimeToLiveSpecification"):
            client.update_time_to_live(TableName=name, TimeToLiveSpecification=ttl)
        if recovery := properties.get("PointInTimeRecoverySpecification"):
            client.update_continuous_backups(TableName=name, PointInTimeRecoverySpecification=recovery)


@functools.cache
def lock_moto() -> AbstractContextManager[Any]:
    """Make moto do one call after the other: it is not atomic by itself. The lock that does it, which may be entered
    again; calling this twice changes nothing.
    """
    from moto.dynamodb.responses import DynamoHandler

    lock = threading.RLock()
    call_action = DynamoHandler.call_action

    @functools.wraps(call_action)
    def one_at_a_time(handler: Any) -> Any:
        with lock:
            return call_action(handler)

    DynamoHandler.call_action = one_at_a_time
    return lock


def cure_chalice_local() -> None:
    """Cure chalice's local server: 44 ms of waiting in each request on a kept connection, room for five callers, a log
    with whole URLs, where the playground's code would stand, and an answer of its own for an address that there is not.
    """
    import chalice.local

    def log_request(handler: Any, code: int | str = "-", _size: int | str = "-") -> None:
        handler.log_message('"%s %s" %s', handler.command, handler.path.partition("?")[0], int(code))

    known_route = chalice.local.RouteMatcher.match_route

    def match_route(matcher: Any, url: str) -> Any:
        try:
            return known_route(matcher, url)
        except ValueError:  # any route will do: our own answer goes by the address, not by the route
            return known_route(matcher, "/")

    if known_route.__module__ != __name__:  # not cured before
        chalice.local.RouteMatcher.match_route = match_route
    chalice.local.ChaliceRequestHandler.log_request = log_request
    chalice.local.ChaliceRequestHandler.disable_nagle_algorithm = True
    chalice.local.ThreadedHTTPServer.request_queue_size = 128


def keep_aws_away() -> None:
    """Make this process blind to the AWS profiles and the proxy of the machine: nothing here is meant for either, and
    a profile that does not exist, or a proxy that does not know 127.0.0.1, would stop boto3.
    """
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        os.environ.pop(name, None)
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    os.environ["no_proxy"] = ",".join(filter(None, [direct, "127.0.0.1"]))


_starting = threading.Lock()
_started: dict[Path, Settings] = {}


def start(settings: Settings) -> Settings:
    """The settings with the embedded database of this checkout in them: started, or found running in another process.

    Starts it once in a process, fills a state that never served before with `infra.demo`, and prints the welcome.
    The stage becomes `local`. Raises StateError.
    """
    keep_aws_away()
    cure_chalice_local()  # for plain `chalice local`: in time for all connections but the first ones
    with _starting:
        folder = StateFolder()
        if folder.path not in _started:
            _started[folder.path] = _start(folder, settings)
        found = _started[folder.path]
    return replace(
        settings,
        stage=STAGE,
        embedded=False,
        region=found.region,
        dynamodb_endpoint=found.dynamodb_endpoint,
        sealing_key=found.sealing_key,
    )


def deliver_at_once(server: AuthorizationServer) -> threading.Event:
    """Send logout tokens from now on, in a thread, until the event is set: `chalice local` runs no schedule, and nobody
    wants to wait here.

    It looks into the outbox each second, so that whatever ends a session is heard of, the operator's command too. The
    keys are not replaced by themselves: nobody keeps a local server for so long.
    """
    enough = threading.Event()

    def work() -> None:
        pause = PAUSE
        while not enough.wait(pause):
            try:
                deliver(server)
                pause = PAUSE
            except Exception as error:  # the database may be on its way to another process
                print(f"Logout tokens cannot be sent now ({type(error).__name__}).", flush=True)
                pause = PAUSE_AFTER_FAILURE

    threading.Thread(target=work, daemon=True).start()
    return enough


@contextmanager
def opened(settings: Settings) -> Iterator[Settings]:
    """The same for a single piece of work: nothing is printed or added, and the database is closed in the end if it
    was not running. Raises StateError.
    """
    keep_aws_away()
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
            # Printed before it is stored: killed in between, the next start makes and prints another one.
            print(demo.welcome(store, demo.seed(store) if first else None), flush=True)
        folder.publish(database.port)
    except BaseException:
        if database:
            database.close()
        folder.release()
        raise
    return settings


def _serve(folder: StateFolder, settings: Settings) -> "Database":
    from infra.database import Database

    database = Database(folder.items, folder.name, lock_moto())
    try:
        create_tables(DynamoDB(_settings(settings, folder, database.port)).client, STAGE)
        database.load()
    except BaseException:
        database.close()
        raise
    return database


def _stand_by(folder: StateFolder, settings: Settings, port: int) -> None:
    """Take the database over, on the same port, when the process that serves it ends before this one does."""
    import infra.database  # noqa: F401  (half a second that nobody should wait for then)

    folder.acquire(wait=True)
    try:
        # Only now that it is filled does anybody reach it where they knew it.
        folder.publish(_serve(folder, settings).listen(port))
    except (StateError, OSError) as error:
        folder.release()
        print(f"The embedded database has ended and could not be started again ({error}). Restart.", flush=True)


def _settings(settings: Settings, folder: StateFolder, port: int) -> Settings:
    return replace(
        settings,
        stage=STAGE,
        embedded=False,
        region="us-east-1",
        dynamodb_endpoint=f"http://127.0.0.1:{port}",
        sealing_key=folder.sealing_key(),
    )
