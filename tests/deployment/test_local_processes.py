"""The embedded database and the operator's command, as processes with their own state folder."""

import http.client
import json
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import boto3
import pytest

from infra import schema
from infra.local.embedded import create_tables, lock_moto
from infra.local.state import CHECKOUT, StateError, StateFolder

# `make run` without the web server.
SERVER = """
import sys
from chalicelib.settings import Settings
from chalicelib.storage.store import Store
from infra.local import embedded
settings = embedded.start(Settings(embedded=True))
print(settings.stage, settings.dynamodb_endpoint, flush=True)
from chalicelib.protocol.records import Identifier
store = Store(settings)
for line in sys.stdin:
    print(store.identifiers.insert(Identifier(line.strip(), "x")), flush=True)
"""

# Runs the command once per argument list, in one process, because each start of Python takes a third of a second.
COMMANDS = """
import contextlib, io, json, sys
from infra.__main__ import main
answers = []
for arguments in json.load(sys.stdin):
    sys.argv = ["infra", *arguments]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main()
    answers.append((code, out.getvalue(), err.getvalue()))
json.dump(answers, sys.stdout)
"""


def environment(state: Path, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(state), "XDG_STATE_HOME": str(state), **more}


def command(
    state: Path, *arguments: str, stdin: bytes = b"", code: int = 0, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the operator's command, and check its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "infra", *arguments],
        cwd=CHECKOUT,
        env=environment(state, **more),
        input=stdin,
        capture_output=True,
        timeout=60,
    )
    answer = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
    assert answer.returncode == code, answer.stderr
    return answer


def folder(state: Path) -> Path:
    (path,) = (state / "signet").iterdir()
    return path


class DatabaseProcess:
    """A process with the embedded database. `welcome` is its output, `endpoint` the address of the database."""

    def __init__(self, state: Path):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            cwd=CHECKOUT,
            env=environment(state),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        lines: list[str] = []
        while not (lines and lines[-1].startswith("local http://")):
            lines.append(self._line())
        self.welcome = "\n".join(lines[:-1])
        self.endpoint = lines[-1].split()[1]

    def _line(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the process has ended"
        return line.rstrip("\n")

    def insert(self, identifier: str) -> bool:
        """Insert a record. Return False when it exists already."""
        assert self.process.stdin
        self.process.stdin.write(identifier + "\n")
        self.process.stdin.flush()
        return self._line() == "True"

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        with self.process as process:
            process.send_signal(how)


@contextmanager
def running(state: Path) -> Iterator[DatabaseProcess]:
    server = DatabaseProcess(state)
    try:
        yield server
    finally:
        server.end()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the parent of the state folder of `server`."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def server(state: Path) -> Iterator[DatabaseProcess]:
    """Run one database for all tests that do not stop it."""
    with running(state) as server:
        yield server


# ---- the schema


@pytest.mark.usefixtures("_moto")
def test_tables_are_created_from_the_schema_and_creation_is_idempotent() -> None:
    client = boto3.client("dynamodb", region_name="us-east-1")
    create_tables(client, "schema")
    create_tables(client, "schema")
    tables = schema.tables("schema")
    assert tables
    for name, expected in tables.items():
        table: Any = client.describe_table(TableName=name)["Table"]
        assert table["KeySchema"] == expected["KeySchema"]
        assert table["AttributeDefinitions"] == expected["AttributeDefinitions"]
        assert table["BillingModeSummary"]["BillingMode"] == expected["BillingMode"]
        for index, created in zip_longest(expected.get("GlobalSecondaryIndexes", []), table["GlobalSecondaryIndexes"]):
            assert {part: created[part] for part in ("IndexName", "KeySchema", "Projection")} == index
        ttl = client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        assert ttl.get("AttributeName") == expected.get("TimeToLiveSpecification", {}).get("AttributeName")
        backups = client.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
        recovery = backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
        assert recovery == ("PointInTimeRecoverySpecification" in expected)
        client.delete_table(TableName=name)


@pytest.mark.usefixtures("_moto")
def test_moto_is_locked_once_and_conditional_writes_are_atomic() -> None:
    assert lock_moto() is lock_moto()
    client = boto3.client("dynamodb", region_name="us-east-1")
    create_tables(client, "race")
    won: list[int] = []

    def insert(number: int) -> None:
        try:
            client.put_item(
                TableName="signet-race-identifiers",
                Item={"identifier": {"S": "contested"}, "sub": {"S": str(number)}},
                ConditionExpression="attribute_not_exists(identifier)",
            )
            won.append(number)
        except client.exceptions.ConditionalCheckFailedException:
            pass

    threads = [threading.Thread(target=insert, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    for name in client.list_tables()["TableNames"]:
        if name.startswith("signet-race-"):
            client.delete_table(TableName=name)


# ---- the state


def test_first_start_adds_the_demo_and_shows_the_administrator_password_once(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        assert "alice, password down-the-rabbit-hole" in first.welcome
        assert "demo, secret demo-secret" in first.welcome
        shown = re.findall(r"admin, password (\S+)", first.welcome)
        assert len(shown) == 1
        assert json.loads(command(tmp_path, "user", "show", "admin", "--json").stdout)["password_change_required"]
        command(tmp_path, "client", "delete", "demo", "--yes")
    with running(tmp_path) as second:
        assert "first account" not in second.welcome
        assert "demo client" not in second.welcome, "deleted demo data is not added again"
        assert "down-the-rabbit-hole" in second.welcome
    content = b"".join(file.read_bytes() for file in folder(tmp_path).iterdir())
    assert shown[0].encode() not in content


def test_answered_writes_survive_a_killed_server(tmp_path: Path) -> None:
    first = DatabaseProcess(tmp_path)
    assert first.insert("username:zoe")
    first.end(signal.SIGKILL)
    assert (folder(tmp_path) / "port").exists(), "this test needs a stale port file"
    with running(tmp_path) as second:
        assert not second.insert("username:zoe")


def test_second_process_shares_the_database_and_takes_it_over(tmp_path: Path) -> None:
    first = DatabaseProcess(tmp_path)
    with running(tmp_path) as second:
        assert second.endpoint == first.endpoint
        assert first.insert("username:zoe")
        assert not second.insert("username:zoe")
        first.end(signal.SIGKILL)
        # A command waits for the takeover, and uses the same database.
        created = json.loads(command(tmp_path, "user", "create", "--username", "yan", "--json").stdout)
        users = json.loads(command(tmp_path, "user", "list", "--json").stdout)
        assert created["sub"] in {user["sub"] for user in users}
        assert not second.insert("username:yan")


def test_processes_that_start_at_the_same_time_share_one_database(tmp_path: Path) -> None:
    started: list[DatabaseProcess] = []
    threads = [threading.Thread(target=lambda: started.append(DatabaseProcess(tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        first, second = started
        assert first.endpoint == second.endpoint
        assert len(re.findall("first account", first.welcome + second.welcome)) == 1
    finally:
        for server in started:
            server.end()


def test_state_is_readable_only_by_its_owner(server: DatabaseProcess, state: Path) -> None:
    path = folder(state)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {0o600}
    assert len((path / "sealing.key").read_bytes()) == 32


def test_web_page_cannot_use_the_database(server: DatabaseProcess) -> None:
    host = server.endpoint.removeprefix("http://")
    for headers in ({"Origin": "https://evil.example"}, {"Host": f"evil.example:{host.rpartition(':')[2]}"}):
        connection = http.client.HTTPConnection(host, timeout=10)
        target = {"X-Amz-Target": "DynamoDB_20120810.ListTables", "Content-Type": "text/plain"}
        connection.request("POST", "/", body="{}", headers={**target, **headers})
        assert connection.getresponse().status == 403
        connection.close()


@pytest.mark.parametrize("content", [b"not a database", b"SQLite format 3\0" + b"\xff" * 4000], ids=["text", "torn"])
def test_damaged_state_is_reported_in_one_line_with_a_fix(tmp_path: Path, content: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path))
        StateFolder().items.write_bytes(content)
    line = command(tmp_path, "client", "list", code=2).stderr
    assert line.count("\n") == 1
    assert str(folder(tmp_path) / "state") in line
    assert "make run FRESH=1" in line


def test_damaged_item_or_key_is_reported(tmp_path: Path) -> None:
    command(tmp_path, "client", "list")
    items = sqlite3.connect(folder(tmp_path) / "state")
    items.execute("INSERT INTO items VALUES ('signet-local-clients', '{}', 'no json')")
    items.commit()
    items.close()
    assert "make run FRESH=1" in command(tmp_path, "client", "list", code=2).stderr
    (folder(tmp_path) / "sealing.key").write_bytes(b"short")
    assert "sealing.key is damaged" in command(tmp_path, "client", "list", code=2).stderr


def test_state_in_use_cannot_be_cleared(tmp_path: Path) -> None:
    owner, other = StateFolder(tmp_path), StateFolder(tmp_path)
    owner.publish(1)
    assert owner.acquire()
    with pytest.raises(StateError, match="Another server of this checkout is running"):
        other.clear()
    owner.release()
    other.clear()
    assert [file.name for file in tmp_path.iterdir()] == ["lock"]


def test_expired_items_are_deleted(tmp_path: Path) -> None:
    script = """
from chalicelib.protocol.records import Session
from chalicelib.settings import Settings
from chalicelib.storage.store import Store
from infra.local import database, embedded
database.SWEEP_EVERY = -1
with embedded.opened(Settings()) as settings:
    store = Store(settings)
    for name, expires_at in (("old", 1), ("new", 2**40)):
        assert store.consents.get("s", name) is None
        store.sessions.put(Session(session_id=name, sub="s", auth_time=0, expires_at=expires_at))
    backend = next(iter(database.dynamodb_backends.values()))["us-east-1"]
    assert not backend.tables[store.consents.name].items, "nothing stays of a read"
"""
    subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, env=environment(tmp_path), check=True, timeout=60)
    items = sqlite3.connect(folder(tmp_path) / "state")
    assert [json.loads(key) for (key,) in items.execute("SELECT item_key FROM items")] == [{"session_id": {"S": "new"}}]
    items.close()


def test_aws_configuration_and_proxy_of_the_machine_are_ignored(tmp_path: Path) -> None:
    command(tmp_path, "client", "list", AWS_PROFILE="nope", HTTP_PROXY="http://127.0.0.1:9", AWS_REGION="eu-west-1")


# ---- the operator's command


def test_command_works_without_a_running_server(tmp_path: Path) -> None:
    """The tests below use it with a running server."""
    created = json.loads(
        command(
            tmp_path,
            *("client", "create", "--name", "Photo Print", "--redirect-uri", "https://photo.example/cb", "--json"),
            *("--redirect-uri", "https://photo.example/cb2", "--scope", "openid email", "--trusted"),
            *("--default-redirect-uri", "https://photo.example/cb", "--direct-sign-in", "--no-pkce"),
        ).stdout
    )
    secret = created.pop("client_secret")
    assert created.pop("client_secret_expires_at") == 0
    assert created["redirect_uris"] == ["https://photo.example/cb", "https://photo.example/cb2"]
    assert created["scope"] == "openid email"
    assert created["token_endpoint_auth_method"] == "client_secret_basic"
    assert (created["trusted"], created["direct_sign_in"], created["require_pkce"]) == (True, True, False)
    assert None not in created.values()
    listed = command(tmp_path, "client", "list", "--json").stdout
    assert json.loads(listed) == [created]
    assert "hash" not in listed
    assert secret not in listed
    command(tmp_path, "client", "delete", created["client_id"], "--yes")
    assert "There is no client" in command(tmp_path, "client", "show", created["client_id"], code=2).stderr


def test_generated_password_is_shown_once_and_a_given_one_never(server: DatabaseProcess, state: Path) -> None:
    created = json.loads(
        command(state, "user", "create", "--username", "Bob", "--email", "bob@example.com", "--json").stdout
    )
    password = created.pop("password")
    assert created["password_change_required"]
    assert created["email"] == "bob@example.com"
    output = command(state, "user", "create", "--username", "eve", "--password-stdin", stdin=b" with space \n").stdout
    assert "with space" not in output
    shown = command(state, "user", "show", "bob", "--json").stdout
    assert json.loads(shown) == created
    rest = shown + command(state, "user", "list", "--json").stdout + command(state, "user", "list").stdout
    assert password not in rest
    assert "hash" not in rest
    assert not json.loads(command(state, "user", "show", "eve", "--json").stdout)["password_change_required"]


def test_client_is_deleted_only_after_confirmation(server: DatabaseProcess, state: Path) -> None:
    assert (
        "Without a terminal to ask for confirmation, --yes is required"
        in command(state, "client", "delete", "demo", stdin=b"y\n", code=2).stderr
    )
    assert "demo" in command(state, "client", "show", "demo").stdout


CREATE = ("client", "create", "--name", "N", "--redirect-uri")
MISTAKES = [
    (("clint", "list"), "Did you mean 'client'?"),
    (("client", "lst"), "Did you mean 'list'?"),
    (("client", "create", "--nam", "N"), "Did you mean '--name'?"),
    (("client", "create", "--name", "N"), "--redirect-uri"),
    (("client", "create", "--redirect-uri", "https://a.example/"), "--name"),
    ((*CREATE, "http://a.example/cb"), "must be https"),
    ((*CREATE, "https://a.example/#f"), "without a fragment"),
    ((*CREATE, "https://a.example/", "--scope", ""), "scope"),
    ((*CREATE, "https://a.example/", "--default-scope", "email"), "default scope"),
    ((*CREATE, "https://a.example/", "--default-redirect-uri", "https://b.example/"), "one of the redirect URIs"),
    ((*CREATE, "https://a.example/", "--public", "--no-pkce"), "PKCE"),
    ((*CREATE, "https://a.example/", "--public", "--direct-sign-in"), "confidential"),
    ((*CREATE, "https://a.example/", "--id", "demo"), "already exists"),
    ((*CREATE, "https://a.example/", "--id", "a b"), "client_id"),
    (("client", "create", "--name", "a\nb", "--redirect-uri", "https://a.example/"), "printable"),
    (("client", "show", "demmo"), "Did you mean 'demo'?"),
    (("client", "show", "quite different"), "There is no client 'quite different'."),
    (("client", "show", ""), "There is no client"),
    (("client", "delete", "demmo", "--yes"), "Did you mean 'demo'?"),
    (("client", "show"), "CLIENT_ID"),
    (("client", "list", "more"), "unexpected"),
    (("user", "create", "--username", "ALICE"), "taken"),
    (("user", "create", "--username", " "), "username"),
    (("user", "show", "alica"), "Did you mean 'alice'?"),
    (("--stage", "no stage", "client", "list"), "SIGNET_STAGE"),
    (("--stage",), "--stage"),
    (("serve", "--port", "x"), "'x' is not a valid whole number"),
    (("serve", "--port", "0"), "--port"),
    (("serve", "--port", "65536"), "--port"),
    (("serve", "--host", "localhost"), "--host must be an IPv4 address"),
]


@pytest.fixture(scope="module")
def answers_to_mistakes(server: DatabaseProcess, state: Path) -> list[tuple[int, str, str]]:
    """Return exit code, output and error output of each of MISTAKES."""
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS],
        cwd=CHECKOUT,
        env=environment(state),
        input=json.dumps([arguments for arguments, _ in MISTAKES]),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    answers: list[tuple[int, str, str]] = json.loads(done.stdout)
    return answers


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=[" ".join(arguments) for arguments, _ in MISTAKES])
def test_mistake_is_one_line_and_exit_code_2(answers_to_mistakes: list[tuple[int, str, str]], number: int) -> None:
    code, out, err = answers_to_mistakes[number]
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert MISTAKES[number][1] in err


def test_unacceptable_password_is_rejected(server: DatabaseProcess, state: Path) -> None:
    for password, reason in ((b"short\n", "at least 12"), (b"\xff" * 10, "not UTF-8"), (b"", "at least 12")):
        answer = command(state, "user", "create", "--username", "mallory", "--password-stdin", stdin=password, code=2)
        assert answer.stderr.count("\n") == 1
        assert reason in answer.stderr


def test_invalid_setting_is_one_line(tmp_path: Path) -> None:
    line = command(tmp_path, "client", "list", code=2, SIGNET_ISSUER="ftp://x").stderr
    assert line.startswith("SIGNET_ISSUER is 'ftp://x'")
    assert line.count("\n") == 1


def test_missing_aws_credentials_are_one_line(tmp_path: Path) -> None:
    line = command(
        tmp_path,
        *("--stage", "prod", "client", "list"),
        code=2,
        AWS_EC2_METADATA_DISABLED="true",
        AWS_DEFAULT_REGION="eu-central-1",
    ).stderr
    assert "credentials" in line
    assert line.count("\n") == 1
    assert not (tmp_path / "signet").exists()
