"""`signet key`: create, restore, retire and encrypt the key ring of a stage."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import cast

import boto3
import click
import pytest

from chalicelib.keys import rotation
from chalicelib.keys.ring import KeyRing
from chalicelib.keys.stored_ring import RING
from chalicelib.storage.store import Store
from infra.aws import deploy
from infra.aws.deployment import Deployment
from infra.local.embedded import create_tables
from infra.operator.commands import CommandError
from infra.operator.keys import create_ring_of_new_stage
from infra.operator.terminal import time_text
from tests.support.operator import RunCommand, output_json
from tests.support.site import STAGE, Site, dump_tables

pytestmark = pytest.mark.usefixtures("with_keys")

RESTORED = "signet-restored-keys"
STANDBY = "eu-west-1"


def lose_ring(site: Site) -> None:
    site.server.store.keys.delete(RING)
    site.server.keys.forget_cached_keys()


def history_of_keys(run_command: RunCommand) -> list[tuple[str, str]]:
    events = output_json(run_command("history", "--keys", "--json"))
    return sorted((event["name"], event["detail"]) for event in events)


# ---- a missing ring


@pytest.mark.parametrize("arguments", [("list",), ("rotate",), ("retire",), ("retire", "--handles"), ("reseal",)])
def test_commands_without_a_ring_create_none_and_name_the_command(
    site: Site, run_command: RunCommand, arguments: tuple[str, ...]
) -> None:
    lose_ring(site)
    result = run_command("key", *arguments)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert "`signet key create --stage test`" in result.err
    assert not site.server.keys.exists()


def test_ring_of_an_empty_stage_is_created_without_a_question(site: Site, run_command: RunCommand) -> None:
    lose_ring(site)
    created = output_json(run_command("key", "create", "--json"))
    assert {key["name"] for key in created if key["alg"] != "HS256"} == {
        key["kid"] for key in site.server.keys.jwks()["keys"]
    }
    assert history_of_keys(run_command) == [("keys_rotated", ", ".join(key["name"] for key in created))]


@pytest.mark.parametrize("record", ["user", "client"])
def test_ring_of_a_stage_with_data_is_created_only_after_confirmation(
    site: Site, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch, record: str
) -> None:
    getattr(site, record)()
    lose_ring(site)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))
    assert "--yes is required" in run_command("key", "create").err
    assert not site.server.keys.exists()
    assert run_command("key", "create", "--yes").out == "Created the key ring.\n"
    assert site.server.keys.exists()


def test_existing_ring_is_not_replaced_by_create(site: Site, run_command: RunCommand) -> None:
    site.user()
    before = dump_tables()
    result = run_command("key", "create")
    assert (result.code, result.out) == (0, "There is a key ring already. Nothing has been changed.\n")
    assert output_json(run_command("key", "create", "--json")) == []
    assert dump_tables() == before


# ---- a new stage


def test_deployment_creates_the_ring_of_a_new_stage_and_keeps_an_existing_one(site: Site) -> None:
    lose_ring(site)
    create_ring_of_new_stage(site.server.store)
    record = site.server.store.keys.get(RING)
    assert record
    site.user()
    create_ring_of_new_stage(site.server.store)
    assert site.server.store.keys.get(RING) == record


@pytest.mark.parametrize("record", ["user", "client"])
def test_deployment_does_not_replace_a_lost_ring(site: Site, record: str) -> None:
    getattr(site, record)()
    lose_ring(site)
    deployment = SimpleNamespace(open_store=lambda: site.server.store)
    with pytest.raises(CommandError, match="signet key create --stage test"):
        deploy.create_keys_and_administrator(cast(Deployment, deployment))
    assert not site.server.keys.exists()


# ---- a backup


@pytest.fixture
def restored_table(site: Site) -> Iterator[str]:
    """A table as DynamoDB restores it from a backup of the keys, without items."""
    client = boto3.client("dynamodb")
    client.create_table(
        TableName=RESTORED,
        KeySchema=[{"AttributeName": "ring", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "ring", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    yield RESTORED
    client.delete_table(TableName=RESTORED)


def test_ring_is_restored_from_a_restored_table(site: Site, run_command: RunCommand, restored_table: str) -> None:
    site.user()
    published, handle = site.server.keys.jwks(), site.server.keys.make_handle("code", "x")
    result = run_command("key", "restore", restored_table)
    assert (result.code, result.err) == (2, "The table signet-restored-keys contains no key ring.\n")
    client = boto3.client("dynamodb")
    item = client.get_item(TableName=site.server.store.keys.name, Key={"ring": {"S": RING}})["Item"]
    client.put_item(TableName=restored_table, Item=item)
    assert "There is a key ring already" in run_command("key", "restore", restored_table).err
    assert run_command("key", "restore", "signet-nowhere").err == "There is no table signet-nowhere.\n"
    lose_ring(site)
    restored = output_json(run_command("key", "restore", restored_table, "--json"))
    assert site.server.keys.jwks() == published
    assert site.server.keys.read_handle("code", handle)
    assert history_of_keys(run_command) == [("keys_rotated", ", ".join(key["name"] for key in restored))]


def test_restored_ring_with_new_handles_accepts_no_earlier_handle(site: Site) -> None:
    ring, store = site.server.keys, site.server.store
    backup, published = store.keys.get(RING), ring.jwks()
    assert backup
    subject = ring.pairwise_subject("client.example.com", "alice")
    earlier = [ring.make_handle("code", "x")]
    rotation.rotate(ring, store.now(), 0)  # after the backup, which does not know the second secret
    earlier.append(ring.make_handle("code", "x"))
    versions = [handle.key_version for handle in map(partial(ring.read_handle, "code"), earlier) if handle]
    assert versions == [1, 2]
    assert not rotation.restore_with_new_handles(ring, backup, store.now()), "there is a ring"
    lose_ring(site)
    assert rotation.restore_with_new_handles(ring, backup, store.now())
    assert [ring.read_handle("code", handle) for handle in earlier] == [None, None]
    new = ring.make_handle("code", "x")
    assert ring.read_handle("code", new)
    assert (ring.jwks(), ring.pairwise_subject("client.example.com", "alice")) == (published, subject)


# ---- another region


@pytest.fixture
def standby(site: Site) -> Iterator[Store]:
    """The same stage in another region, without users and clients, as `signet data` creates it."""
    client = boto3.client("dynamodb", region_name=STANDBY)
    create_tables(client, STAGE)
    store = Store(replace(site.settings, region=STANDBY))
    KeyRing(store).create()
    yield store
    for table in store.tables:
        client.delete_table(TableName=table.name)


def test_copied_ring_has_the_same_keys_and_subjects(site: Site, run_command: RunCommand, standby: Store) -> None:
    site.user()
    copied = output_json(run_command("key", "copy", STANDBY, "--json"))
    assert copied == output_json(run_command("key", "list", "--json"))
    rings = KeyRing(site.server.store), KeyRing(standby)
    assert rings[0].jwks() == rings[1].jwks()
    assert len({ring.pairwise_subject("client.example.com", "alice") for ring in rings}) == 1
    # Again, after a rotation.
    rotation.rotate(rings[0], site.server.store.now(), 0)
    count = len(output_json(run_command("key", "list", "--json")))
    assert run_command("key", "copy", STANDBY).out == f"Copied {count} keys to {STANDBY}.\n"
    assert KeyRing(standby).jwks() == KeyRing(site.server.store).jwks()


@pytest.mark.parametrize("table", ["users", "clients"])
def test_ring_of_a_stage_with_data_is_not_replaced_by_a_copy(
    site: Site, run_command: RunCommand, standby: Store, table: str
) -> None:
    record = site.user() if table == "users" else site.client().record
    getattr(standby, table).put(record)
    before = standby.keys.get(RING)
    result = run_command("key", "copy", STANDBY)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"The stage test in {STANDBY} has users or clients. Its key ring was not replaced.\n"
    assert standby.keys.get(RING) == before


def test_copy_without_a_stage_there_names_the_command_that_creates_it(site: Site, run_command: RunCommand) -> None:
    result = run_command("key", "copy", STANDBY)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert f"AWS_DEFAULT_REGION={STANDBY} signet data --stage test" in result.err
    assert run_command("key", "copy", "us-east-1").err == "The stage test is in us-east-1 itself.\n"
    assert "Name the stage" in run_command("key", "copy", STANDBY, "--stage", "local").err


def test_signing_keys_in_kms_are_not_copied(site: Site, run_command: RunCommand, standby: Store) -> None:
    ring, before = site.server.keys, standby.keys.get(RING)
    document, version = ring.read_document()
    document["signing"][0]["kms_key_id"] = "arn:aws:kms:us-east-1:123456789012:key/x"
    assert ring.replace_document(document, version)
    result = run_command("key", "copy", STANDBY)
    assert (result.code, result.err) == (2, "The signing keys are in KMS, and cannot be copied.\n")
    assert standby.keys.get(RING) == before


# ---- retire and reseal


def test_retire_handles_replaces_the_secrets_of_handles(site: Site, run_command: RunCommand) -> None:
    ring = KeyRing(site.server.store)
    subject, published = ring.pairwise_subject("client.example.com", "alice"), ring.jwks()
    [removed] = output_json(run_command("key", "retire", "--handles", "--yes", "--json"))
    assert removed["name"] == "handles-1"
    names = [key["name"] for key in output_json(run_command("key", "list", "--json")) if key["alg"] == "HS256"]
    assert names == ["handles-2"]
    ring = KeyRing(site.server.store)
    assert (ring.pairwise_subject("client.example.com", "alice"), ring.jwks()) == (subject, published)
    assert history_of_keys(run_command) == [("keys_retired", "handles-1"), ("keys_rotated", "handles-2")]


def test_retire_handles_asks_and_takes_no_kid(
    site: Site, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dump_tables()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(click, "confirm", _decline)
    assert run_command("key", "retire", "--handles").code == 1
    result = run_command("key", "retire", "some-kid", "--handles", "--yes")
    assert (result.code, result.err) == (2, "Give either a KID or --handles.\n")
    assert dump_tables() == before


def _decline(question: str, **_options: object) -> None:
    assert "end every session and refresh token" in question
    raise click.Abort


def test_reseal_encrypts_the_same_keys_again(site: Site, run_command: RunCommand) -> None:
    before = site.server.store.keys.get(RING)
    keys = output_json(run_command("key", "list", "--json"))
    assert output_json(run_command("key", "reseal", "--json")) == keys
    after = site.server.store.keys.get(RING)
    assert before
    assert after
    assert (after.version, after.sealed != before.sealed) == (before.version + 1, True)
    assert run_command("key", "reseal").out == "The key ring was encrypted again.\n"
    assert "secret" not in json.dumps(keys)


# ---- a compromised key


def test_rotation_of_a_compromised_key_says_when_the_old_key_stops_signing(site: Site, run_command: RunCommand) -> None:
    kid = site.server.keys.jwks()["keys"][0]["kid"]
    printed = run_command("key", "rotate", "--now", "--yes").out
    until = time_text(site.clock.time + 120)
    assert printed.splitlines()[0] == (
        f"Published new keys. The current keys sign for two more minutes, until {until}."
    )
    site.clock.advance(119)
    early = run_command("key", "retire", kid, "--yes")
    assert (early.code, early.err) == (2, "The key that replaces it is used in 1 seconds. Retire this one then.\n")
    site.clock.advance(1)
    assert run_command("key", "retire", kid, "--yes").out == f"Removed {kid}.\n"


@pytest.mark.parametrize(("answer", "rotated"), [("y", True), ("n", False)])
def test_rotation_of_a_compromised_key_asks_first(
    site: Site, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch, answer: str, rotated: bool
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True, readline=lambda: f"{answer}\n"))
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _prompt: answer)
    before = len(site.server.keys.jwks()["keys"])
    result = run_command("key", "rotate", "--now")
    assert result.code == (0 if rotated else 1)
    site.server.keys.forget_cached_keys()
    assert (len(site.server.keys.jwks()["keys"]) > before) is rotated
