"""Updating a stage from the version before: the old index of the grants, and the version of the records."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import Mock

import pytest
import yaml

from infra import schema
from infra.aws import data, deploy, deployment, package
from infra.aws.stacks import ChangeSet
from infra.aws.upgrade import RECORDS_VERSION
from tests.support.operator import CommandResult, RunCommand, command_runner

STAGE = "prod"
DATA, API = f"signet-data-{STAGE}", f"signet-api-{STAGE}"
VERSION = yaml.safe_load(schema.SCHEMA.read_text())["Outputs"][RECORDS_VERSION]["Value"]


@dataclass
class Deployed:
    """What CloudFormation has of a stack."""

    parameters: dict[str, str]
    outputs: dict[str, str] = field(default_factory=dict)
    status: str = "UPDATE_COMPLETE"


class Account:
    """An AWS account with stacks by name, and a replacement for `infra.aws.stacks.Stack`."""

    def __init__(self) -> None:
        self.stacks: dict[str, Deployed] = {}
        self.proposed = 0

    def stack(self, _client: Any, name: str, **_options: Any) -> "FakeStack":
        return FakeStack(self, name)

    def indexes(self) -> set[str]:
        """Return the indexes of the grants, as the template has them with the parameters of the deployment."""
        parameters = {name: value for name, value in self.stacks[DATA].parameters.items() if name != "Stage"}
        grants = schema.tables(STAGE, **parameters)[f"signet-{STAGE}-grants"]
        return {index["IndexName"] for index in grants["GlobalSecondaryIndexes"]}


class FakeStack:
    def __init__(self, account: Account, name: str):
        self.name = name
        self._account = account
        self._proposed = Deployed({})

    @property
    def _stack(self) -> Deployed | None:
        return self._account.stacks.get(self.name)

    def status(self) -> str | None:
        return self._stack.status if self._stack else None

    def outputs(self) -> dict[str, str]:
        return self._stack.outputs if self._stack else {}

    def parameters(self) -> dict[str, str]:
        return self._stack.parameters if self._stack else {}

    def propose(self, template: str, parameters: Mapping[str, str]) -> ChangeSet:
        self._account.proposed += 1
        outputs = yaml.safe_load(template)["Outputs"]
        self._proposed = Deployed(
            dict(parameters),
            {name: output["Value"] for name, output in outputs.items() if isinstance(output["Value"], str)},
        )
        return ChangeSet("", "", ())

    def execute(self, _change_set: ChangeSet) -> None:
        self._account.stacks[self.name] = self._proposed


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Account:
    account = Account()
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setattr(deployment, "Stack", account.stack)
    monkeypatch.setattr(deploy, "create_ring_of_new_stage", lambda _: None)  # the account has no tables
    monkeypatch.setattr(data, "Tables", Mock())
    return account


@pytest.fixture
def stage_of_version_1(account: Account) -> Account:
    account.stacks = {name: Deployed({"Stage": STAGE, "Signing": "ring"}, {"KeyArn": "x"}) for name in (DATA, API)}
    return account


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunCommand:
    return command_runner(monkeypatch, capsys, STAGE)


def update(run: RunCommand, *options: str) -> CommandResult:
    result = run("data", "--yes", *options)
    assert (result.code, result.err) == (0, "")
    return result


# ---- the index of version 1


def test_new_stage_never_has_the_old_index(account: Account, run: RunCommand) -> None:
    for _ in range(2):
        assert "old index" not in update(run).out
        assert account.indexes() == {"user"}


def test_update_from_version_1_adds_the_new_index_and_keeps_the_old_one(
    stage_of_version_1: Account, run: RunCommand
) -> None:
    assert "The old index of the grants is kept" in update(run).out
    assert stage_of_version_1.indexes() == {"user", "sub"}
    assert stage_of_version_1.stacks[DATA].outputs[RECORDS_VERSION] == VERSION


def test_old_index_is_removed_when_the_server_was_deployed_too(stage_of_version_1: Account, run: RunCommand) -> None:
    for _ in range(2):  # the code of version 1 still runs
        update(run)
        assert stage_of_version_1.indexes() == {"user", "sub"}
    stage_of_version_1.stacks[API].outputs[RECORDS_VERSION] = VERSION
    for _ in range(2):
        assert "old index" not in update(run).out
        assert stage_of_version_1.indexes() == {"user"}


def test_old_index_is_removed_by_the_second_update_of_a_stage_without_server(
    stage_of_version_1: Account, run: RunCommand
) -> None:
    del stage_of_version_1.stacks[API]
    update(run)
    assert stage_of_version_1.indexes() == {"user", "sub"}
    update(run)
    assert stage_of_version_1.indexes() == {"user"}


def test_removed_index_does_not_come_back_while_the_code_of_version_1_runs(
    stage_of_version_1: Account, run: RunCommand
) -> None:
    update(run, "--param", "OldGrantsIndex=removed")
    assert stage_of_version_1.indexes() == {"user"}
    update(run)
    assert stage_of_version_1.indexes() == {"user"}


@pytest.mark.parametrize("status", ["CREATE_FAILED", "REVIEW_IN_PROGRESS"])
def test_new_stage_whose_creation_did_not_end_has_no_old_index(account: Account, run: RunCommand, status: str) -> None:
    parameters = {"Stage": STAGE, "OldGrantsIndex": "removed"} if status == "CREATE_FAILED" else {}
    account.stacks[DATA] = Deployed(parameters, {}, status)
    update(run)
    assert account.indexes() == {"user"}


def test_parameter_given_by_the_operator_decides(account: Account, run: RunCommand) -> None:
    update(run, "--param", "OldGrantsIndex=kept")
    assert account.indexes() == {"user", "sub"}
    update(run)
    assert account.indexes() == {"user"}


# ---- the version of the records


@pytest.fixture
def stage_of_a_newer_version(account: Account) -> Account:
    parameters = {"Stage": STAGE, "Signing": "ring", "OldGrantsIndex": "removed"}
    account.stacks[DATA] = Deployed(parameters, {RECORDS_VERSION: str(int(VERSION) + 1)})
    return account


@pytest.mark.parametrize("command", ["data", "deploy"])
def test_newer_records_are_not_deployed_over(stage_of_a_newer_version: Account, run: RunCommand, command: str) -> None:
    result = run(command, "--yes")
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert f"records of version {int(VERSION) + 1}, and this checkout writes version {VERSION}" in result.err
    assert "would revive sessions and grants" in result.err
    assert "--force" in result.err
    assert stage_of_a_newer_version.proposed == 0


def test_force_deploys_over_newer_records(stage_of_a_newer_version: Account, run: RunCommand) -> None:
    update(run, "--force")
    assert stage_of_a_newer_version.stacks[DATA].outputs[RECORDS_VERSION] == VERSION


def test_force_is_passed_to_the_steps_of_deploy(
    stage_of_a_newer_version: Account, run: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy, "STEPS", deploy.STEPS[:1])
    assert run("deploy", "--yes", "--force").code == 0
    assert stage_of_a_newer_version.stacks[DATA].outputs[RECORDS_VERSION] == VERSION


def test_server_has_the_version_of_the_records_as_an_output() -> None:
    server = yaml.safe_load(package.API.read_text())
    assert re.fullmatch(r"\d+", VERSION)
    assert server["Outputs"][RECORDS_VERSION]["Value"] == {"Ref": RECORDS_VERSION}
    # `deploy` passes the outputs of the data stack as parameters.
    assert RECORDS_VERSION in server["Parameters"]
