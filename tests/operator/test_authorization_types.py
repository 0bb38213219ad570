"""`signet authorization-type …`, and types in exports, in doctor, and in the options of clients."""

import json
from pathlib import Path
from typing import Any

import pytest

from chalicelib.protocol.authorization_type import AuthorizationType, type_key
from chalicelib.storage.store import Store
from infra.operator.doctor import check
from tests.support.authorization_details import PAYMENT, PAYMENTS, as_json, register_types
from tests.support.browser import Browser
from tests.support.operator import RunCommand, output_json
from tests.support.resource_servers import register_resource
from tests.support.site import Site

SET = ("authorization-type", "set", "payment", "Make a payment")
MEMBERS = ("--member", "instructedAmount=Amount to pay", "--member", "creditorName", "--required", "instructedAmount")


def test_type_is_set_changed_listed_and_deleted(site: Site, run_command: RunCommand, store: Store) -> None:
    register_resource(site, PAYMENTS)
    document = {
        "name": "payment",
        "text": "Make a payment",
        "members": {"instructedAmount": "Amount to pay", "creditorName": "Creditor name"},
        "required": ["instructedAmount"],
        "resource": PAYMENTS,
    }
    created = output_json(run_command(*SET, *MEMBERS, "--resource", "HTTPS://api.example.com:443/payments", "--json"))
    assert created == document
    record = store.authorization_types.get(type_key("payment"))
    members = ("instructedAmount=Amount to pay", "creditorName")
    assert record == AuthorizationType(
        type_key("payment"), "payment", "Make a payment", PAYMENTS, members, frozenset({"instructedAmount"})
    )
    changed = output_json(run_command(*SET[:3], "Pay someone", "--self-registered", "--json"))
    assert changed == document | {"text": "Pay someone", "self_registered": True}, "the rest is kept"
    listed = run_command("authorization-type", "list")
    assert listed.out.splitlines()[1].split("  ") == [
        *("payment", "Pay someone", "instructedAmount creditorName", PAYMENTS)
    ]
    assert output_json(run_command("authorization-type", "list", "--json")) == [changed]
    assert len(run_command("resource", "list").out.splitlines()) == 2, "a type is no resource"
    bare = output_json(
        run_command(*SET, "--member", "", "--required", "", "--resource", "", "--no-self-registered", "--json")
    )
    assert bare == {"name": "payment", "text": "Make a payment"}
    assert run_command("authorization-type", "delete", "payment", "--yes").out == "Removed payment.\n"
    assert run_command("authorization-type", "list").out == "No type is registered.\n"
    assert [resource.uri for resource in store.all_resources()] == [PAYMENTS]


@pytest.mark.spec("RFC 9396 §10")
def test_metadata_lists_the_types_and_only_resources_as_resources(site: Site, browser: Browser) -> None:
    assert "authorization_details_types_supported" not in browser.get("/.well-known/openid-configuration").json
    register_types(site)
    site.server.forget_cached_records()
    metadata = browser.get("/.well-known/oauth-authorization-server").json
    assert metadata["authorization_details_types_supported"] == ["album", "anywhere", "payment"]
    assert metadata["protected_resources"] == ["https://api.example.com/albums", PAYMENTS]


def test_running_server_follows_a_change_within_a_minute(site: Site, run_command: RunCommand, browser: Browser) -> None:
    register_types(site)
    run_command("client", "create", "--id", "shop", "--name", "Shop", "--redirect-uri", "https://shop.example.com/cb")
    run_command("client", "update", "shop", "--add-authorization-details-type", "payment", "--trusted")
    client = site.client(authorization_details_types=("payment",), trusted=True)
    site.user()
    browser.code(client, scope="openid", authorization_details=as_json(PAYMENT))
    run_command("authorization-type", "delete", "payment", "--yes")
    site.clock.advance(60)
    answer = browser.authorize(client, scope="openid", authorization_details=as_json(PAYMENT)).answer
    assert answer["error"] == "invalid_authorization_details"
    assert site.server.store.clients.get("shop") is not None
    assert run_command("client", "show", "shop").out.count("payment") == 1


def test_types_are_exported_and_imported(site: Site, run_command: RunCommand, store: Store, tmp_path: Path) -> None:
    file = tmp_path / "export.jsonl"
    register_resource(site, PAYMENTS)
    run_command(*SET, *MEMBERS, "--resource", PAYMENTS)
    run_command("export", "--out", file)
    (before,) = store.all_authorization_types()
    site.reset()
    assert run_command("import", file).out == "Added: 1 resource, 1 authorization_type. Already existing: none.\n"
    assert store.all_authorization_types() == [before]
    again = run_command("import", file)
    assert again.out == "Added: none. Already existing: 1 resource, 1 authorization_type.\n"
    run_command(*SET[:3], "Something else")
    problem = "line 3: the authorization type payment exists with other data and was not changed"
    assert run_command("import", file).err.startswith(problem)
    site.reset()
    lines = file.read_text("utf-8").splitlines()
    file.write_text("\n".join([lines[0], lines[2], json.dumps({"kind": "end", "records": 1})]), "utf-8")
    assert f"the resource {PAYMENTS} of the type payment does not exist" in run_command("import", file).err


@pytest.mark.parametrize(
    "change",
    [
        {"name": "two words"},
        {"resource_id": "https://api.example.com/payments"},
        {"resource_id": type_key("other")},
        {"text": "\u202e"},
        {"members": ["a", "a"]},
        {"members": "a"},
        {"required": ["b"]},
    ],
    ids=str,
)
def test_invalid_type_in_a_file_is_not_imported(
    site: Site, run_command: RunCommand, store: Store, tmp_path: Path, change: dict[str, Any]
) -> None:
    file = tmp_path / "export.jsonl"
    run_command(*SET, *MEMBERS)
    run_command("export", "--out", file)
    site.reset()
    lines = file.read_text("utf-8").splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | change)
    file.write_text("\n".join(lines), "utf-8")
    result = run_command("import", file)
    assert (result.code, result.err.startswith("line 2: ")) == (1, True)
    assert store.all_authorization_types() == []


def findings(store: Store) -> dict[str, tuple[bool | None, str]]:
    return {finding.name: (finding.ok, finding.detail) for finding in check(None, store)}


def test_doctor_reports_types_that_cannot_be_used(site: Site, run_command: RunCommand, store: Store) -> None:
    register_resource(site, PAYMENTS, "payments.read")
    run_command(*SET, *MEMBERS, "--resource", PAYMENTS)
    client = site.client(authorization_details_types=("payment",)).id
    reported = findings(store)
    assert reported["authorization type payment"] == (True, "Its members: instructedAmount creditorName.")
    assert f"client {client}" not in reported
    store.resources.delete(PAYMENTS)
    store.authorization_types.put(AuthorizationType(type_key("bad"), "bad", "", members=("a",)))
    site.client(client_id="shop", authorization_details_types=("payment", "gone"))
    reported = findings(store)
    assert reported["authorization type payment"][0] is False
    assert "is not registered, so every request for it is rejected" in reported["authorization type payment"][1]
    assert reported["authorization type bad"] == (False, "The text must have 1 to 200 printable characters.")
    assert reported["client shop"] == (False, "It may ask for the type gone, which is not registered.")
    run_command("authorization-type", "set", "bad", "Nothing", "--member", "")
    assert "says no more than a scope" in findings(store)["authorization type bad"][1]


def test_grant_list_shows_the_details(site: Site, run_command: RunCommand, browser: Browser) -> None:
    site.user()
    register_types(site)
    client = site.client(authorization_details_types=("payment",))
    browser.redeem(client, browser.code(client, scope="openid", authorization_details=as_json(PAYMENT)))
    (grant,) = output_json(run_command("grant", "list", "--json"))
    assert grant["authorization_details"] == [PAYMENT]
