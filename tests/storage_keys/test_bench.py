"""What the benchmarks compare with: boto3 in place of the own client, copies of a record, DynamoDB Local."""

from dataclasses import replace
from pathlib import Path

import pytest

from chalicelib.aws.client import AwsError
from chalicelib.protocol.records import User
from chalicelib.protocol.sealed_key_ring import SealedKeyRing
from chalicelib.storage.attribute_values import pack
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.store import Store
from chalicelib.storage.table import Refused
from tests.bench import services
from tests.bench.boto3_client import Boto3Client
from tests.bench.dynamodb_local import Skipped, dynamodb_local
from tests.support.site import STAGE, Site

USER = User("u-000001", "alice-000001", "", {"name": "Alice"})
RING = SealedKeyRing("ring-2", b"\x00sealed\xff")


@pytest.fixture
def store(site: Site) -> Store:
    """The tables of the site, through boto3, which moto answers."""
    store = Store(site.settings, site.clock)
    client = Boto3Client("dynamodb", services.REGION, "https://dynamodb.us-east-1.amazonaws.com")
    vars(store.dynamodb)["client"] = client
    return store


def test_records_are_stored_and_refused_as_by_the_own_client(site: Site, store: Store) -> None:
    assert store.users.insert(USER)
    assert site.server.store.users.get(USER.sub) == USER == store.users.get(USER.sub)
    assert store.users.transition((USER.sub,), attr("username").eq("bob"), {"admin": True}) == Refused(USER)
    again = store.users.inserting(USER)
    refusals = store.transact(store.users.inserting(replace(USER, sub="u-2")), again)
    assert refusals is not None
    assert refusals.of(again) == Refused(USER)


def test_bytes_of_the_key_ring_are_read_with_boto3(site: Site, store: Store) -> None:
    site.server.store.keys.put(RING)
    assert store.keys.get(RING.ring) == RING


def test_other_errors_of_boto3_keep_their_name(store: Store) -> None:
    with pytest.raises(AwsError.named("ResourceNotFoundException")):
        store.dynamodb.call("GetItem", TableName="absent", Key={"a": {"S": "b"}})


def test_copies_are_records_of_the_same_size_with_other_keys(site: Site) -> None:
    store = site.server.store
    name = f"signet-{STAGE}-users"
    services._store_copies(name, pack(vars(USER)), ["sub", "username"], 3)
    copies = [user for user in store.users.scan() if user.claims == USER.claims]
    assert {user.sub for user in copies} == {f"{number:08x}" for number in range(3)}
    assert {len(user.username) for user in copies} == {len(USER.username)}
    assert store.users.get("00000002") == replace(USER, sub="00000002", username="000000020001")


@pytest.mark.parametrize(("folder", "reason"), [(None, "no folder"), ("empty", "no DynamoDBLocal.jar")])
def test_dynamodb_local_is_skipped_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str | None, reason: str
) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: "/usr/bin/java")
    with pytest.raises(Skipped, match=reason), dynamodb_local(tmp_path / folder if folder else None, STAGE):
        pass


def test_dynamodb_local_is_skipped_without_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "DynamoDBLocal.jar").touch()
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(Skipped, match="no Java"), dynamodb_local(tmp_path, STAGE):
        pass
