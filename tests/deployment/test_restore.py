"""Restores from backups: what they bring back, what ends with them, and the commands of docs/operate.md."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.dynamodb.models import dynamodb_backends

from chalicelib.keys.ring import KeyRing
from chalicelib.settings import Settings
from chalicelib.storage.store import Store
from infra import schema
from infra.aws.tables import Tables
from infra.local.state import CHECKOUT
from infra.operator.commands import CommandError
from infra.operator.doctor import check
from tests.support.browser import Browser
from tests.support.emulated_stage import EXPECTED_FAILURES, Stage
from tests.support.emulator import REGION, ApiProxy, Emulator, interpreter
from tests.support.operator import RunCommand, command_runner, output_json, use_site_store
from tests.support.site import PASSWORD, STAGE, Site
from tests.support.tampering_proxy import finding_names, get_finding

OPERATE = (CHECKOUT / "docs/operate.md").read_text("utf-8")
DURABLE = ("clients", "documents", "users", "identifiers", "consents", "passkeys", "scopes", "resources")
RESTORED = "signet-restored-keys"
OFFLINE = "openid email offline_access"


# ---- the tables


@pytest.fixture
def ward(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A stage in AWS (moto) without tables. moto does not change the encryption of a table."""
    kms = boto3.client("kms")
    monkeypatch.setattr("infra.aws.tables._BACKUPS_PAUSE", 0)
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.enable_key_rotation(KeyId=key)
    kms.create_alias(AliasName="alias/signet-ward", TargetKeyId=key)
    store, names = (
        Store(Settings(stage="ward", region="us-east-1", kms_key_id="alias/signet-ward")),
        schema.tables("ward"),
    )
    yield store
    backend = moto_backend()
    for name in names:
        backend.tables.pop(name, None)
    kms.delete_alias(AliasName="alias/signet-ward")


def moto_backend() -> Any:
    return next(iter(dynamodb_backends.values()))["us-east-1"]


def repair(store: Store) -> None:
    Tables(boto3.Session(), store.settings.stage).repair(yes=True)


TABLE_CHECKS = ("tables", "expiry", "backups", "deletion protection", "encryption")


def failed_checks(store: Store) -> list[str]:
    return sorted(set(finding_names(check(None, store))) & set(TABLE_CHECKS))


def test_missing_tables_are_created_as_the_schema_describes_them(ward: Store) -> None:
    repair(ward)
    assert failed_checks(ward) == []
    assert {get_finding(check(None, ward), name).ok for name in TABLE_CHECKS} == {True}


def test_complete_tables_need_no_repair(ward: Store, capsys: pytest.CaptureFixture[str]) -> None:
    repair(ward)
    assert "signet-ward-grants: create it" in capsys.readouterr().out
    repair(ward)
    assert capsys.readouterr().out == ""


FAULTS: list[tuple[str, str, Callable[[Any], object]]] = [
    ("tables", "grants", lambda dynamodb: dynamodb.delete_table(TableName="signet-ward-grants")),
    (
        "expiry",
        "sessions",
        lambda dynamodb: dynamodb.update_time_to_live(
            TableName="signet-ward-sessions",
            TimeToLiveSpecification={"Enabled": False, "AttributeName": "expires_at"},
        ),
    ),
    (
        "backups",
        "users",
        lambda dynamodb: dynamodb.update_continuous_backups(
            TableName="signet-ward-users", PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": False}
        ),
    ),
    (
        "deletion protection",
        "keys",
        lambda dynamodb: dynamodb.update_table(TableName="signet-ward-keys", DeletionProtectionEnabled=False),
    ),
]


@pytest.mark.parametrize(("name", "kind", "fault"), FAULTS, ids=[name for name, _, _ in FAULTS])
def test_table_that_lacks_a_setting_is_repaired(
    ward: Store, capsys: pytest.CaptureFixture[str], name: str, kind: str, fault: Callable[[Any], object]
) -> None:
    repair(ward)
    fault(boto3.client("dynamodb"))
    assert failed_checks(ward) == [name]
    capsys.readouterr()
    repair(ward)
    assert set(re.findall(r"^  (\S+):", capsys.readouterr().out, re.MULTILINE)) == {f"signet-ward-{kind}"}
    assert failed_checks(ward) == []


def test_missing_table_with_backups_is_not_created_empty(ward: Store) -> None:
    repair(ward)
    dynamodb = boto3.client("dynamodb")
    for kind in ("users", "keys"):
        dynamodb.update_table(TableName=f"signet-ward-{kind}", DeletionProtectionEnabled=False)
        dynamodb.delete_table(TableName=f"signet-ward-{kind}")
    tables = Tables(boto3.Session(), "ward")
    with pytest.raises(CommandError, match=r"backups first .*: signet-ward-users, signet-ward-keys\."):
        tables.require()
    with pytest.raises(CommandError, match=r": signet-ward-users\."):
        tables.require("signet-ward-keys")


def test_backups_of_a_new_table_are_enabled_as_soon_as_dynamodb_allows_it(
    ward: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = Tables(boto3.Session(), "ward")
    dynamodb, refusals = tables._dynamodb, ["users", "users"]
    update = dynamodb.update_continuous_backups

    def refuse(**parameters: Any) -> Any:
        if refusals:
            refusals.pop()
            error = {"Error": {"Code": "ContinuousBackupsUnavailableException"}}
            raise dynamodb.exceptions.ContinuousBackupsUnavailableException(error, "UpdateContinuousBackups")
        return update(**parameters)

    monkeypatch.setattr(dynamodb, "update_continuous_backups", refuse)
    tables.repair(yes=True)
    assert refusals == []
    assert failed_checks(ward) == []


# ---- what a restore brings back


class Backups:
    """Backups of the tables of the tests, which are lost and restored as docs/operate.md describes it."""

    def __init__(self, site: Site):
        self.site, self.dynamodb = site, boto3.client("dynamodb")
        self.arns: dict[str, str] = {}

    def take(self, *kinds: str) -> None:
        """Back up these tables, or all."""
        for name in self.names(*kinds):
            details = self.dynamodb.create_backup(TableName=name, BackupName="drill")["BackupDetails"]
            self.arns[name] = details["BackupArn"]

    def lose(self, *kinds: str) -> None:
        """Delete these tables, or all. Every process forgets what it has read, as it does within a minute."""
        for name in self.names(*kinds):
            self.dynamodb.update_table(TableName=name, DeletionProtectionEnabled=False)
            self.dynamodb.delete_table(TableName=name)
        self.forget()

    def restore(self, *kinds: str) -> None:
        """Restore these tables under their own names, and the table of keys as RESTORED."""
        for name in self.names(*kinds):
            target = RESTORED if name == self.site.server.store.keys.name else name
            self.dynamodb.restore_table_from_backup(TargetTableName=target, BackupArn=self.arns[name])

    def names(self, *kinds: str) -> list[str]:
        return [f"signet-{STAGE}-{kind}" for kind in kinds] or list(schema.tables(STAGE))

    def forget(self) -> None:
        self.site.server.forget_cached_records()
        self.site.server.keys.forget_cached_keys()


@pytest.fixture
def backups(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backups]:
    """Backups of the tables. Afterwards the tables are those of before, and have the same key ring."""
    backend, kms = moto_backend(), boto3.client("kms")
    before = dict(backend.tables)
    kms.create_alias(AliasName=f"alias/signet-{STAGE}", TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])
    use_site_store(site, monkeypatch)
    yield Backups(site)
    backend.tables.clear()
    backend.tables.update(before)
    for table in before.values():
        table.deletion_protection_enabled = False
    backend.backups.clear()
    kms.delete_alias(AliasName=f"alias/signet-{STAGE}")
    site.server.keys.forget_cached_keys()


class Drill:
    """Alice with a session, an unredeemed code, a refresh token and a remembered consent."""

    def __init__(self, site: Site, browsers: Callable[..., Browser]):
        self.site, self.machine, self._open = site, browsers(), browsers
        self.sub = site.user("alice").sub
        self.client = site.client(subject_type="pairwise")
        browser = browsers()
        self.tokens = browser.tokens(self.client, decision="allow_always", scope=OFFLINE)
        self.code = browser.code(self.client, scope=OFFLINE)
        self.cookies = dict(browser.cookies)
        self.password = PASSWORD
        self.subject = self.machine.userinfo(self.tokens["access_token"]).json["sub"]

    def end_everything(self, run_command: RunCommand) -> None:
        """Use the code and the refresh token, remove the access of the client, and set another password."""
        assert self.machine.redeem(self.client, self.code).status == 200
        refreshed = self.machine.refresh(self.client, self.tokens["refresh_token"])
        assert refreshed.status == 200
        self.next_refresh_token = refreshed.json["refresh_token"]
        assert run_command("grant", "revoke", "--user", "alice", "--client", self.client.id, "--yes").code == 0
        self.set_password(run_command)

    def set_password(self, run_command: RunCommand) -> None:
        """Set a random password."""
        self.password = output_json(run_command("user", "set-password", self.sub, "--yes", "--json"))["password"]
        self.site.secrets.add(self.password)

    def outcomes(self) -> set[str]:
        """Return what of the state of the backup works."""
        works = set()
        if self.machine.refresh(self.client, self.tokens["refresh_token"]).status == 200:
            works.add("refresh token")
        if self.machine.redeem(self.client, self.code).status == 200:
            works.add("code")
        with_session = self._open()
        with_session.cookies.update(self.cookies)
        if "password" not in with_session.authorize(self.client, scope=OFFLINE).form.fields:
            works.add("session")
        page = self._open()
        answer = page.sign_in(page.authorize(self.client, scope=OFFLINE), "alice", PASSWORD)
        if answer.status != 400:
            works.add("password")
            if answer.status == 303:
                works.add("consent")
        return works


def test_everything_has_ended_before_the_tables_are_lost(
    site: Site, browsers: Callable[..., Browser], run_command: RunCommand
) -> None:
    drill = Drill(site, browsers)
    drill.end_everything(run_command)
    assert drill.outcomes() == set()


def test_tables_of_an_earlier_time_make_valid_again_what_has_ended(
    site: Site, browsers: Callable[..., Browser], run_command: RunCommand, backups: Backups
) -> None:
    drill = Drill(site, browsers)
    backups.take()
    drill.end_everything(run_command)
    backups.lose()
    backups.restore()
    assert run_command("restore", RESTORED, "--keep-sessions", "--yes").code == 0
    assert drill.machine.refresh(drill.client, drill.next_refresh_token).json["error"] == "invalid_grant"
    assert drill.outcomes() == {"refresh token", "code", "session", "password", "consent"}


def test_restore_ends_sessions_codes_and_refresh_tokens_and_the_documented_steps_end_the_rest(
    site: Site, browsers: Callable[..., Browser], run_command: RunCommand, backups: Backups
) -> None:
    drill = Drill(site, browsers)
    backups.take()
    published = site.server.keys.jwks()
    drill.end_everything(run_command)
    backups.lose()
    assert drill.machine.get("/oauth2/jwks").status == 500
    backups.restore()
    assert run_command("restore", RESTORED, "--yes").out.endswith(
        "The key ring was restored.\nAll sessions, codes and refresh tokens have ended.\n"
        f"Check it: signet doctor --stage {STAGE}\n"
    )
    assert site.server.keys.jwks() == published
    assert drill.outcomes() == {"password", "consent"}
    drill.set_password(run_command)
    assert run_command("grant", "revoke", "--client", drill.client.id, "--yes").code == 0
    backups.forget()
    assert drill.outcomes() == set()
    # With the new password and another consent, everything works, and the pairwise subject is the same.
    browser = browsers()
    page = browser.sign_in(browser.authorize(drill.client, scope=OFFLINE), "alice", drill.password)
    page = browser.submit(page, new_password=f"{PASSWORD} 2", new_password_again=f"{PASSWORD} 2")
    site.secrets.add(f"{PASSWORD} 2")
    assert "Photo Print" in page.body
    tokens = browser.redeem(drill.client, browser.submit(page, decision="allow_once").code).json
    assert browser.refresh(drill.client, tokens["refresh_token"]).status == 200
    assert browser.userinfo(tokens["access_token"]).json["sub"] == drill.subject


def test_sessions_end_although_their_tables_and_the_key_ring_were_not_lost(
    site: Site, browsers: Callable[..., Browser], run_command: RunCommand, backups: Backups
) -> None:
    drill = Drill(site, browsers)
    backups.take(*DURABLE)
    drill.end_everything(run_command)
    backups.lose(*DURABLE)
    backups.restore(*DURABLE)
    assert run_command("restore", "--yes").out.count("have ended") == 1
    backups.forget()
    assert drill.outcomes() == {"password", "consent"}


def test_ring_from_its_sealed_copy_keeps_sessions_codes_refresh_tokens_and_subjects(
    site: Site, browsers: Callable[..., Browser], run_command: RunCommand, backups: Backups
) -> None:
    drill = Drill(site, browsers)
    backups.take("keys")
    backups.lose("keys")
    repair(site.server.store)
    assert drill.machine.get("/oauth2/jwks").status == 503
    assert drill.machine.refresh(drill.client, drill.tokens["refresh_token"]).status == 503
    backups.restore("keys")
    assert run_command("key", "restore", RESTORED).code == 0
    assert drill.machine.userinfo(drill.tokens["access_token"]).json["sub"] == drill.subject
    assert drill.outcomes() == {"refresh token", "code", "session", "password", "consent"}


def test_imported_records_of_a_backup_revive_no_session_and_no_refresh_token(
    site: Site,
    browsers: Callable[..., Browser],
    run_command: RunCommand,
    backups: Backups,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    drill = Drill(site, browsers)
    for kind in ("clients", "users", "passkeys", "consents", "scopes", "resources", "documents"):
        backups.dynamodb.restore_table_to_point_in_time(
            SourceTableName=f"signet-{STAGE}-{kind}",
            TargetTableName=f"signet-restored-{kind}",
            UseLatestRestorableTime=True,
        )
    drill.end_everything(run_command)
    assert run_command("user", "delete", "alice", "--yes").code == 0
    file = tmp_path / "restored.jsonl"
    exported = command_runner(monkeypatch, capsys, "restored")("export", "--with-password-hashes", "--out", file)
    assert (exported.code, exported.err) == (0, "")
    assert "Added: 1 user, 1 consent." in run_command("import", file).out
    backups.forget()
    assert drill.outcomes() == {"password", "consent"}


# ---- the command


def test_restore_without_the_tables_changes_nothing(site: Site, run_command: RunCommand, backups: Backups) -> None:
    backups.take()
    backups.lose()
    result = run_command("restore", RESTORED, "--yes")
    names = ", ".join(f"signet-{STAGE}-{kind}" for kind in DURABLE)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"Restore these tables from backups first (docs/operate.md): {names}.\n"
    assert backups.dynamodb.list_tables()["TableNames"] == []


def test_restore_asks_before_it_ends_sessions(site: Site, run_command: RunCommand, backups: Backups) -> None:
    ring = site.server.store.keys.get("main")
    result = run_command("restore")
    assert (result.code, "--yes is required" in result.err) == (2, True)
    assert site.server.store.keys.get("main") == ring


def test_restore_names_what_is_wrong_with_the_table_of_keys(
    site: Site, run_command: RunCommand, backups: Backups
) -> None:
    backups.take("keys")
    backups.restore("keys")
    assert "There is a key ring already." in run_command("restore", RESTORED, "--yes").err
    assert run_command("restore", "signet-nowhere-keys", "--yes").err == "There is no table signet-nowhere-keys.\n"
    site.server.store.keys.delete("main")
    result = run_command("restore", "--yes")
    assert (result.code, "The key ring is missing" in result.err) == (2, True)
    backups.dynamodb.delete_item(TableName=RESTORED, Key={"ring": {"S": "main"}})
    assert run_command("restore", RESTORED, "--yes").err == f"The table {RESTORED} contains no key ring.\n"
    assert site.server.store.keys.get("main") is None


# ---- the commands of docs/operate.md, in an emulated AWS


def commands(heading: str) -> list[str]:
    """Return the code blocks of a section of docs/operate.md."""
    (section,) = re.findall(rf"^### {re.escape(heading)}\n(.*?)(?=^##)", OPERATE + "##", re.DOTALL | re.MULTILINE)
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


class Terminal:
    """Runs documented commands in bash, with the AWS CLI and `.venv/bin/signet` on an emulated AWS."""

    def __init__(self, emulator: Emulator, folder: Path, package: Path):
        self.folder, self.environment = (
            folder,
            emulator.environment
            | {
                "HOME": str(folder),
                "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
                "PYTHONPATH": str(CHECKOUT),
                "SIGNET_TEST_PACKAGE": str(package),
                "NO_COLOR": "1",
            },
        )
        for name, program in (
            ("bin/aws", f"{interpreter()} -m awscli"),
            (".venv/bin/signet", f"{sys.executable} -m tests.support.powercut never"),
        ):
            script = folder / name
            script.parent.mkdir(parents=True)
            script.write_text(f'#!/bin/sh\nexec {program} "$@"\n')
            script.chmod(0o755)

    def run(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", f"set -eu -o pipefail\n{script}"],
            cwd=self.folder,
            env=self.environment | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def ok(self, script: str) -> str:
        done = self.run(script)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def terminal(emulator: Emulator, package: Path, tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    return Terminal(emulator, tmp_path_factory.mktemp("terminal"), package)


@pytest.fixture(scope="module")
def prod(emulator: Emulator, package: Path) -> Iterator[Stage]:
    """The stage `prod`, deployed."""
    stage = Stage("prod", emulator, ApiProxy(emulator, "prod"), package)
    done = stage.deploy("--no-admin")
    assert done.returncode == 0, done.stderr
    yield stage
    stage.close()


def emulated_store(emulator: Emulator, monkeypatch: pytest.MonkeyPatch, region: str = REGION) -> Store:
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    return Store(Settings(stage="prod", region=region, kms_key_id="alias/signet-prod"))


def test_deleted_tables_are_restored_with_the_documented_commands(prod: Stage, terminal: Terminal) -> None:
    prod.user("alice")
    client, browser = prod.client(), prod.browser()
    tokens = browser.tokens(client, decision="allow_always", scope=OFFLINE)
    kids = {key["kid"] for key in browser.get("/oauth2/jwks").json["keys"]}
    dynamodb = prod.emulator.client("dynamodb")
    names = prod.tables()
    for name in names:
        if "PointInTimeRecoverySpecification" in schema.tables("prod")[name]:
            # The backup that DynamoDB makes when such a table is deleted.
            dynamodb.create_backup(TableName=name, BackupName=f"{name}$DeletedTableBackup")
            dynamodb.update_table(TableName=name, DeletionProtectionEnabled=False)
        dynamodb.delete_table(TableName=name)
    for command in ("data", "deploy"):
        done = prod.run(command, "--stage", "prod", "--yes", *(["--no-admin"] if command == "deploy" else []))
        assert done.returncode == 2
        assert "Restore these tables from backups first (docs/operate.md): signet-prod-clients," in done.stderr
    assert prod.tables() == []
    restoring, checking = commands("Restore deleted tables")
    output = terminal.ok(restoring)
    assert "All sessions, codes and refresh tokens have ended." in output
    assert sorted(prod.tables()) == sorted(names)
    checked = terminal.run(checking)
    failed = re.findall(r"^✗ (.+?)  ", checked.stdout, re.MULTILINE)
    assert set(failed) <= EXPECTED_FAILURES.keys(), checked.stdout + checked.stderr
    # Processes that have read the earlier ring use it for a minute: the next version starts new ones.
    assert prod.deploy("--no-admin", "--param", "Name=Restored").returncode == 0
    assert {key["kid"] for key in browser.get("/oauth2/jwks").json["keys"]} == kids
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
    page = browser.authorize(client, scope=OFFLINE)
    assert "password" in page.form.fields, "the session has ended"
    answer = browser.sign_in(page, "alice", PASSWORD)
    again = browser.redeem(client, answer.code)  # the consent is remembered
    assert browser.refresh(client, again.json["refresh_token"]).status == 200


def test_records_are_restored_and_the_restore_rehearsed_with_the_documented_commands(
    prod: Stage, terminal: Terminal
) -> None:
    prod.user("bob")
    (rehearsing,) = commands("Rehearse a restore")
    terminal.ok(rehearsing)
    assert '"username":"bob"' in (terminal.folder / "rehearsal.jsonl").read_text()
    (restoring,) = commands("Restore records")
    exporting, importing = restoring.split(".venv/bin/signet import")
    terminal.ok(exporting)
    terminal.ok(".venv/bin/signet user delete bob --yes --stage prod")
    assert "Added: 1 user." in terminal.ok(f".venv/bin/signet import{importing}")
    browser = prod.browser()
    assert "Photo Print" in browser.sign_in(browser.authorize(prod.client()), "bob").body


def test_copied_ring_has_the_same_keys_and_subjects_in_another_region(
    prod: Stage, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, standby = (emulated_store(prod.emulator, monkeypatch, region) for region in (REGION, "eu-west-1"))
    preparing, moving = commands("Lose a region")
    assert terminal.run(".venv/bin/signet key copy eu-west-1 --stage prod").returncode == 2, "no tables yet"
    terminal.ok(preparing)
    rings = KeyRing(home), KeyRing(standby)
    assert rings[0].jwks() == rings[1].jwks()
    subjects = {ring.pairwise_subject("client.example.com", "alice") for ring in rings}
    assert len(subjects) == 1
    sealed = [store.keys.get("main") for store in (home, standby)]
    assert sealed[0] != sealed[1]
    terminal.ok(".venv/bin/signet export --with-password-hashes --out backup.jsonl --stage prod")
    terminal.ok(moving.splitlines()[0])
    assert {user.username for user in standby.users.scan()} == {user.username for user in home.users.scan()}
    copied = terminal.run(".venv/bin/signet key copy eu-west-1 --stage prod")
    assert (copied.returncode, "has users or clients. Its key ring was not replaced." in copied.stderr) == (2, True)
