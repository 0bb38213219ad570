"""The embedded DynamoDB: moto over HTTP on the loopback address, with its items stored in a file.

The same address takes the mails of the local server, as Amazon SES does.

moto keeps its data in memory. Before a write is answered, one SQLite transaction stores the changed items, so that
answered writes survive a killed process, at a cost that does not depend on the number of items. Tables are not stored
but created from infra/aws/tables.yaml at each start, so that a change of the schema takes effect.
"""

import base64
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.request import Request
from moto.dynamodb.models import dynamodb_backends
from moto.dynamodb.models.utilities import dynamo_json_dump
from moto.dynamodb.responses import DynamoHandler

from infra.local import mailbox
from infra.local.faults import Killed, changed_items
from infra.local.moto_memory import drop_empty_partitions, forget_instances, without_size_check
from infra.local.state import StateError

REGION = "us-east-1"
SWEEP_EVERY = 60  # seconds
_ADDRESS = f"http://dynamodb.{REGION}.amazonaws.com/"
_HEADERS = ("content-type", "x-amz-crc32", "x-amzn-requestid")


class Database:
    """A DynamoDB on 127.0.0.1 whose items are stored in `file`. One per process, because moto's memory is global.

    `name` is the response to a plain GET; `lock` makes moto atomic. It starts to listen on a free port, through which
    its tables must be created. Raises StateError when the file is not a database.
    """

    def __init__(self, file: Path, name: str, lock: AbstractContextManager[Any]):
        self.name = name
        self.mailbox = file.with_name(mailbox.FOLDER)
        self._file = file
        self._lock = lock
        self._swept = 0.0
        self._items = self._open()
        self._listeners: list[_Listener] = []
        self.port = self.listen(0)

    def listen(self, port: int) -> int:
        """Listen on another port, 0 for any free one, and return it. Raises OSError when it is in use."""
        listener = _Listener(("127.0.0.1", port), partial(_Handler, self))
        self._listeners.append(listener)
        threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return listener.server_port

    def close(self) -> None:
        """Stop listening and close the file."""
        for listener in self._listeners:
            listener.shutdown()
            listener.server_close()
        with self._lock:
            self._items.close()

    def load(self) -> None:
        """Load the items of the file into the tables, which must exist. Raises StateError."""
        with self._lock, without_size_check():
            try:
                for table, item in self._items.execute("SELECT table_name, item FROM items").fetchall():
                    if table in self._backend.tables:
                        self._backend.put_item(table, json.loads(item, object_hook=_with_bytes))
            except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
                raise self._damaged(error) from error
            finally:
                forget_instances()

    @contextmanager
    def first_time(self) -> Iterator[bool]:
        """Yield whether this block runs for the first time on this state. Its writes are stored together at its end."""
        if self._items.execute("PRAGMA user_version").fetchone()[0]:
            yield False
            return
        self._items.execute("BEGIN")
        try:
            yield True
        except BaseException:
            self._items.execute("ROLLBACK")
            raise
        self._items.execute("PRAGMA user_version = 1")
        self._items.execute("COMMIT")

    def perform(self, target: str, content_type: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Perform one call of DynamoDB's API. Return the status, header fields and body of the response."""
        handler = DynamoHandler()
        headers = {"X-Amz-Target": target, "Content-Type": content_type}
        handler.setup_class(Request.from_primitives("POST", _ADDRESS, headers, body))
        handler.current_account, handler.region = DEFAULT_ACCOUNT_ID, REGION
        changed = list(changed_items(target.rpartition(".")[2], handler.params))
        with self._lock:
            try:
                status, fields, answer = handler.call_action()
            except Killed:  # perhaps after this write was made
                self._store(changed)
                raise
            if int(status) == 200 and changed:
                self._store(changed)
        headers = {name: str(value) for name, value in fields.items() if name.lower() in _HEADERS}
        return int(status), headers, answer.encode() if isinstance(answer, str) else answer

    # ---- internals

    @property
    def _backend(self) -> Any:
        return dynamodb_backends[DEFAULT_ACCOUNT_ID][REGION]

    def _open(self) -> sqlite3.Connection:
        self._file.touch(mode=0o600)
        items = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False)
        try:
            # No other process reads this file, so SQLite needs no shared memory file. An answered write is in the
            # operating system's cache: it survives the end of this process, which is enough for a local state.
            for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = NORMAL"):
                items.execute(f"PRAGMA {pragma}")
            if (result := items.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(result)
            items.execute(
                "CREATE TABLE IF NOT EXISTS items (table_name, item_key, item, PRIMARY KEY (table_name, item_key))"
            )
        except sqlite3.Error as error:
            items.close()
            raise self._damaged(error) from error
        return items

    def _damaged(self, error: Exception) -> StateError:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        return StateError(f"{self._file} cannot be read ({reason}). To start over: make run FRESH=1")

    def _store(self, changed: list[tuple[str, dict[str, Any]]]) -> None:
        own_transaction = not self._items.in_transaction
        if own_transaction:
            self._items.execute("BEGIN")
        try:
            for table, attributes in changed:
                key = {name: attributes[name] for name in self._backend.get_table(table).table_key_attrs}
                self._store_item(table, key, self._backend.get_item(table, key))
            if time.monotonic() - self._swept > SWEEP_EVERY:
                self._sweep()
        except BaseException:
            if own_transaction:
                self._items.execute("ROLLBACK")
            raise
        if own_transaction:
            self._items.execute("COMMIT")

    def _store_item(self, table: str, key: dict[str, Any], item: Any) -> None:
        name = json.dumps(key, sort_keys=True)
        if item is None:
            self._items.execute("DELETE FROM items WHERE table_name = ? AND item_key = ?", (table, name))
        else:
            text = json.dumps(json.loads(dynamo_json_dump(item))["Attributes"])
            self._items.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?)", (table, name, text))

    def _sweep(self) -> None:
        """Delete expired items, as DynamoDB does, and what moto keeps of deleted ones."""
        self._swept, now = time.monotonic(), time.time()
        for name, table in self._backend.tables.items():
            expiry = table.ttl.get("AttributeName")
            for item in list(table.all_items()):
                if expiry in item.attrs and item.attrs[expiry].type == "N" and float(item.attrs[expiry].value) < now:
                    table.delete_item(item.hash_key, item.range_key)
                    key = {attribute: item.attrs[attribute].to_regular_json() for attribute in table.table_key_attrs}
                    self._store_item(name, key, None)
            drop_empty_partitions(table)


def _with_bytes(value: dict[str, Any]) -> dict[str, Any]:
    """Decode binary values: base64 in JSON, bytes in moto."""
    match value:
        case {"B": str(text)} if len(value) == 1:
            return {"B": base64.b64decode(text)}
        case {"BS": [*texts]} if len(value) == 1:
            return {"BS": [base64.b64decode(text) for text in texts]}
    return value


class _Listener(ThreadingHTTPServer):
    request_queue_size = 128

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection, and close it when a fault kills the database."""
        with suppress(Killed):
            super().process_request_thread(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore callers that have disconnected."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise each response on a persistent connection waits 40 ms
    wbufsize = -1
    server: _Listener

    def __init__(self, database: Database, *rest: Any):
        self._database = database
        super().__init__(*rest)

    def do_GET(self) -> None:
        """Return the name of the database."""
        self._answer(200, {"Content-Type": "text/plain"}, self._database.name.encode())

    def do_POST(self) -> None:
        """Serve DynamoDB's API, and the one call of SES."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        # A web page can reach this port too, also under its own host name (CSRF, DNS rebinding).
        if "Origin" in self.headers or self.headers.get("Host") != f"127.0.0.1:{self.server.server_port}":
            self._answer(403, {}, b"")
            return
        if self.path == mailbox.PATH:
            status, members = mailbox.receive(self._database.mailbox, body)
            self._answer(status, {"Content-Type": "application/json"}, json.dumps(members).encode())
            return
        try:
            target, content_type = self.headers.get("X-Amz-Target", ""), self.headers.get("Content-Type", "")
            self._answer(*self._database.perform(target, content_type, body))
        except Exception as error:
            problem = {"__type": "InternalServerError", "message": f"{type(error).__name__}: {error}"}
            self._answer(500, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(problem).encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing: the authorization server has its own log."""

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
