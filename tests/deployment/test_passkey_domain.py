"""`signet deploy` warns before it changes the domain of the passkeys."""

import sys
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import click
import pytest

from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.protocol.passkey import Passkey
from chalicelib.storage.store import Store
from infra.aws import deploy, passkey_domain
from infra.aws.deployment import Deployment
from infra.aws.stacks import Stack
from infra.operator.commands import CommandError
from tests.support.operator import command_runner
from tests.support.site import Site

LOGIN, ELSEWHERE = {"Issuer": "https://login.example.com"}, {"Issuer": "https://id.example.org"}
OWN = "abc.execute-api.eu-central-1.amazonaws.com"


@pytest.fixture
def passkeys(site: Site) -> Store:
    """Return a store with two passkeys of login.example.com."""
    store = site.server.store
    for number in range(2):
        passkey = Passkey("u-1", f"p-{number}", "id", "key", -7, "login.example.com", backup_eligible=True)
        store.passkeys.put(passkey)
    return store


def confirm(
    store: Any, previous: dict[str, str], server: dict[str, str], *, yes: bool = True, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = SimpleNamespace(parameters=lambda: previous, outputs=lambda: {"Issuer": f"https://{OWN}"})
    monkeypatch.setattr(Deployment, "api", stack)
    monkeypatch.setattr(Deployment, "open_store", lambda _: store)
    passkey_domain.confirm_change(Deployment("prod", {}, None, yes), server)


LOST = "2 passkeys belong to login.example.com, and stop working, because the domain becomes "
CHANGES: list[tuple[str, dict[str, str], dict[str, str], str]] = [
    ("another host", LOGIN, ELSEWHERE, LOST + "id.example.org."),
    ("a parent domain", LOGIN, {**LOGIN, "RpId": "example.com"}, LOST + "example.com."),
    ("another domain of the API", {"DomainName": "login.example.com"}, ELSEWHERE, LOST + "id.example.org."),
    ("the address of the API", LOGIN, {}, LOST + "another domain."),
    ("an IP address", LOGIN, {"Issuer": "https://192.0.2.1"}, LOST + "another domain."),
    (
        "a related origin removed",
        {**LOGIN, "RelatedOrigins": "https://a.example https://b.example"},
        {**LOGIN, "RelatedOrigins": "https://b.example"},
        "2 passkeys can no longer be used at https://a.example (RelatedOrigins).",
    ),
]
NO_CHANGES: list[tuple[str, dict[str, str], dict[str, str]]] = [
    ("a new stage", {}, LOGIN),
    ("the same", LOGIN, LOGIN),
    ("kept by RpId", LOGIN, {**ELSEWHERE, "RpId": "login.example.com"}),
    ("the same host, now by DomainName", LOGIN, {"DomainName": "login.example.com"}),
    ("the address of the API as before", {"Name": "A"}, {"Name": "B"}),
    ("no passkey of the domain before", ELSEWHERE, LOGIN),
    ("a related origin added", LOGIN, {**LOGIN, "RelatedOrigins": "https://a.example"}),
]


@pytest.mark.parametrize(("case", "previous", "server", "warning"), CHANGES, ids=[row[0] for row in CHANGES])
def test_change_that_makes_passkeys_useless_is_told_before_the_deployment(
    passkeys: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: str,
    previous: dict[str, str],
    server: dict[str, str],
    warning: str,
) -> None:
    confirm(passkeys, previous, server, monkeypatch=monkeypatch)
    printed = capsys.readouterr().out
    assert f"Warning: {warning}" in printed
    assert ("--param RpId=login.example.com" in printed) is (case != "a related origin removed")


@pytest.mark.parametrize(("case", "previous", "server"), NO_CHANGES, ids=[row[0] for row in NO_CHANGES])
def test_nothing_is_asked_where_passkeys_keep_working(
    passkeys: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: str,
    previous: dict[str, str],
    server: dict[str, str],
) -> None:
    confirm(passkeys, previous, server, yes=False, monkeypatch=monkeypatch)
    assert capsys.readouterr().out == ""


def test_passkeys_that_cannot_be_read_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = SimpleNamespace(passkeys=Mock(scan=Mock(side_effect=TemporarilyUnavailable("No access."))))
    confirm(store, LOGIN, ELSEWHERE, monkeypatch=monkeypatch)
    assert "Warning: Passkeys belong to login.example.com, and stop working" in capsys.readouterr().out


def test_change_of_the_domain_needs_an_answer(passkeys: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match="--yes is required"):
        confirm(passkeys, LOGIN, ELSEWHERE, yes=False, monkeypatch=monkeypatch)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(click, "confirm", lambda *_, **__: False)
    with pytest.raises(CommandError, match=r"Nothing has been changed\."):
        confirm(passkeys, LOGIN, ELSEWHERE, yes=False, monkeypatch=monkeypatch)
    monkeypatch.setattr(click, "confirm", lambda *_, **__: True)
    confirm(passkeys, LOGIN, ELSEWHERE, yes=False, monkeypatch=monkeypatch)


def test_deploy_warns_before_its_first_step(
    passkeys: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setattr(Stack, "parameters", lambda stack: LOGIN if "api" in stack.name else {"Signing": "ring"})
    monkeypatch.setattr(Stack, "status", lambda _: None)
    monkeypatch.setattr(Stack, "outputs", lambda _: {})
    monkeypatch.setattr(Deployment, "open_store", lambda _: passkeys)
    steps: list[str] = []
    monkeypatch.setattr(deploy, "STEPS", [lambda _: steps.append("a step")])
    run = command_runner(monkeypatch, capsys, "prod")
    refused = run("deploy", "--issuer", "https://id.example.org", "--no-doctor")
    assert (refused.code, steps) == (2, [])
    result = run("deploy", "--yes", "--issuer", "https://id.example.org", "--no-doctor")
    assert "Warning: 2 passkeys belong to login.example.com" in result.out
    assert steps == ["a step"]
