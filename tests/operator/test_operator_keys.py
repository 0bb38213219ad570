"""`signet key`: create, restore, retire and encrypt the key ring of a stage."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import cast

import boto3
import click
import pytest

from chalicelib.keys.ring import KeyRing
from chalicelib.keys.stored_ring import RING
from chalicelib.storage.store import Store
from infra.aws import deploy
from infra.operator.commands import CommandError
from infra.operator.keys import create_ring_of_new_stage
from tests.support.operator import RunCommand, output_json
from tests.support.site import Site, dump_tables

RESTORED = "signet-restored-keys"


@pytest.fixture(autouse=True)
def with_keys(site: Site, restore_key_ring: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the commands use the key ring of the site, whose key the settings of the environment do not have."""

    @contextmanager
    def opened(_stage: str) -> Iterator[Store]:
        yield site.server.store

    monkeypatch.setattr("infra.operator.keys.open_store", opened)


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
def test_deployment_does_not_replace_a_lost_ring(site: Site, monkeypatch: pytest.MonkeyPatch, record: str) -> None:
    getattr(site, record)()
    lose_ring(site)
    monkeypatch.setattr(deploy, "_server", lambda _: site.server)
    with pytest.raises(CommandError, match="signet key create --stage test"):
        deploy.create_keys_and_administrator(cast(deploy.Deployment, SimpleNamespace()))
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
    lose_ring(site)
    restored = output_json(run_command("key", "restore", restored_table, "--json"))
    assert site.server.keys.jwks() == published
    assert site.server.keys.read_handle("code", handle)
    assert history_of_keys(run_command) == [("keys_rotated", ", ".join(key["name"] for key in restored))]


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
