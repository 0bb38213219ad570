"""The IAM policies of deployer, operator and doctor: generated from the code, and enough for the commands."""

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import botocore.client
import pytest

from chalicelib.aws.client import Client
from chalicelib.storage.store import Store
from infra.operator.doctor import check
from tests.operator.test_doctor_inside import create_ring, stage
from tests.support.operator import RunCommand, output_json
from tests.support.site import Site
from tests.tools import policies

__all__ = ["stage"]  # a fixture
NAMES = ["deployer", "deployer-front", "doctor", "operator", "operator-certificates"]
URI = "https://print.example.com/callback"
MUTATING = re.compile(r":(?!Get|GET$|List|list|Describe|Scan|Query|BatchGet|Decrypt)")
# Calls whose permission is that of their parts.
COMPOSED = {"dynamodb:TransactWriteItems", "dynamodb:TransactGetItems"}


def stored(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((policies.FOLDER / f"{name}.json").read_text())
    return document


def actions(name: str) -> set[str]:
    return {action for statement in stored(name)["Statement"] for action in statement["Action"]}


def test_policies_are_those_of_the_code() -> None:
    """If this fails: `python -m tests.tools.policies`."""
    generated = policies.policies()
    assert sorted(path.stem for path in policies.FOLDER.iterdir()) == sorted(generated) == NAMES
    for name, document in generated.items():
        assert (policies.FOLDER / f"{name}.json").read_text() == policies.text(document), name


@pytest.mark.parametrize("name", NAMES)
def test_policy_names_every_action_and_fits_a_managed_policy(name: str) -> None:
    document = stored(name)
    assert len(json.dumps(document, separators=(",", ":"))) <= policies.MAX_SIZE
    assert not [action for action in actions(name) if "*" in action]
    assert all(statement["Action"] for statement in document["Statement"])


def test_doctor_may_change_nothing() -> None:
    assert [action for action in actions("doctor") if MUTATING.search(action)] == []


def test_what_cloudformation_does_for_the_deployer_the_deployer_may_do_in_no_other_way() -> None:
    for name in ("deployer", "deployer-front"):
        for statement in stored(name)["Statement"]:
            changes = [action for action in statement["Action"] if MUTATING.search(action)]
            if statement["Resource"] == "*" and changes:
                assert set(statement.get("Condition", {})) & {"ForAnyValue:StringEquals", "ForAnyValue:StringLike"}, (
                    statement
                )
    for action in ("dynamodb:DeleteTable", "kms:ScheduleKeyDeletion", "s3:DeleteBucket", "dynamodb:GetItem"):
        assert action not in actions("deployer"), action


def test_deployer_may_create_every_resource_of_the_templates() -> None:
    for action in (
        *(
            "dynamodb:CreateTable",
            "kms:CreateKey",
            "kms:CreateAlias",
            "s3:CreateBucket",
            "s3:PutBucketOwnershipControls",
        ),
        *("lambda:CreateFunction", "lambda:PublishVersion", "lambda:CreateAlias", "lambda:AddPermission"),
        *("iam:CreateRole", "iam:PassRole", "iam:PutRolePolicy", "apigateway:POST", "events:PutRule"),
        *("events:PutTargets", "logs:CreateLogGroup", "logs:PutRetentionPolicy", "cloudwatch:PutMetricAlarm"),
        *("cloudwatch:PutDashboard", "budgets:ModifyBudget", "cloudformation:ExecuteChangeSet", "s3:PutObject"),
    ):
        assert action in actions("deployer"), action
    for action in ("cloudfront:CreateDistribution", "wafv2:CreateWebACL", "cloudfront:PublishFunction"):
        assert action in actions("deployer-front"), action


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """Record the calls of AWS, as permissions, with the table if there is one."""
    recorded: set[tuple[str, str]] = set()
    original = botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]

    def call(client: Any, operation: str, parameters: Any) -> Any:
        service = client.meta.service_model.service_name
        recorded.add((f"{service}:{operation}", parameters.get("TableName", "") if service == "dynamodb" else ""))
        return original(client, operation, parameters)

    def call_by_the_server(client: Client, operation: str, **parameters: Any) -> Any:
        service = client.service
        recorded.add((f"{service}:{operation}", parameters.get("TableName", "") if service == "dynamodb" else ""))
        return own(client, operation, **parameters)

    own = Client.call
    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", call)
    monkeypatch.setattr(Client, "call", call_by_the_server)
    return recorded


def is_allowed(name: str, action: str, table: str) -> bool:
    resource = f"arn:aws:dynamodb:eu-central-1:123456789012:table/{table}" if table else "*"
    return any(
        action in statement["Action"]
        and any(fnmatchcase(resource, pattern) for pattern in _list(statement["Resource"]))
        for statement in stored(name)["Statement"]
    )


def _list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def test_operator_may_do_what_the_commands_do(site: Site, run_command: RunCommand, calls: set[tuple[str, str]]) -> None:
    created = output_json(run_command("client", "create", "--id", "p", "--name", "P", "--redirect-uri", URI, "--json"))
    site.secrets.add(created["client_secret"])
    site.secrets.add(output_json(run_command("user", "create", "--username", "bob", "--json"))["password"])
    for command in (
        *(
            ("client", "update", "p", "--trusted"),
            ("client", "disable", "p", "--yes"),
            ("user", "update", "bob", "--admin"),
        ),
        *(
            ("grant", "list"),
            ("grant", "revoke", "--user", "bob", "--yes"),
            ("scope", "set", "photos.read", "See photos"),
        ),
        *(("scope", "delete", "photos.read", "--yes"), ("history", "--user", "bob"), ("user", "unlock", "bob")),
        *(("export",), ("user", "delete", "bob", "--yes"), ("client", "delete", "p", "--yes")),
    ):
        run_command(*command)
    checked = {call for call in calls if call[0] not in COMPOSED}
    assert len(checked) > 10
    assert {call for call in checked if not is_allowed("operator", *call)} == set()


def test_doctor_may_do_what_it_does(stage: Store, calls: set[tuple[str, str]]) -> None:
    create_ring(stage)
    calls.clear()
    check(None, stage)
    assert {action.partition(":")[0] for action, _ in calls} == {"dynamodb", "kms", "lambda", "cloudwatch"}
    assert {call for call in calls if not is_allowed("doctor", *call)} == set()


def test_documentation_names_every_policy() -> None:
    text = (Path(policies.ROOT) / "docs" / "deploy.md").read_text()
    for name in NAMES:
        assert f"(../infra/aws/iam/{name}.json)" in text
