"""`signet deploy`: its parameters, the questions before a change, and the exit code of its final examination."""

import json
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import click
import pytest
import yaml

from chalicelib.settings import Settings
from infra.aws import deploy, front, package
from infra.aws.deployment import Deployment
from infra.aws.stacks import Change, ChangeSet, Stack
from infra.operator.commands import CommandError
from infra.operator.doctor.findings import Finding
from tests.support.operator import CommandResult, command_runner
from tests.support.packaging import packaged

PROBLEM = Finding("endpoints", False, "token_endpoint returns 500.", "Look in the log at that time.")
PASSED = Finding("issuer", True, "The issuer is https://id.example.com.")
SKIPPED = Finding("TLS", None, "Not checked.")


@pytest.fixture
def run_deploy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[CommandResult, Mock]]:
    """Return a function that runs the last steps of `deploy`, with these findings of the doctor."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setattr(Stack, "parameters", lambda _: {})
    monkeypatch.setattr(Stack, "status", lambda _: None)
    monkeypatch.setattr(Deployment, "open_store", Mock())
    monkeypatch.setattr(front, "dns_records", lambda _: {})
    run = command_runner(monkeypatch, capsys, "prod")

    def set_outputs(deployment: Deployment) -> None:
        deployment.outputs = {"Issuer": "https://id.example.com", "LogGroupName": "log"}

    def deploy_with(*options: str, findings: list[Finding]) -> tuple[CommandResult, Mock]:
        check = Mock(return_value=findings)
        monkeypatch.setattr(deploy, "check", check)
        monkeypatch.setattr(deploy, "STEPS", [set_outputs, *deploy.STEPS[-2:]])
        return run("deploy", "--yes", *options), check

    return deploy_with


def test_deployment_with_a_problem_found_by_the_doctor_has_exit_code_1(run_deploy: Callable[..., Any]) -> None:
    result, _ = run_deploy(findings=[PASSED, PROBLEM, SKIPPED])
    assert result.code == 1
    assert "✗ endpoints: token_endpoint returns 500.\n  → Look in the log" in result.out
    assert "Issuer: https://id.example.com" in result.out, "the deployment is complete"
    assert result.err == "The new version serves, but the doctor found problems: 1.\n"


def test_deployment_without_a_problem_has_exit_code_0(run_deploy: Callable[..., Any]) -> None:
    result, _ = run_deploy(findings=[PASSED, SKIPPED])
    assert (result.code, result.err) == (0, "")
    assert "No problems found." in result.out


def test_deployment_without_the_doctor_examines_nothing(run_deploy: Callable[..., Any]) -> None:
    result, check = run_deploy("--no-doctor", findings=[PROBLEM])
    assert result.code == 0
    assert not check.called
    assert "doctor." not in result.out


# ---- the question before a change

CHANGES = ChangeSet("id", "stack", (Change("Add", "Clients", "AWS::DynamoDB::Table", False),))


@pytest.mark.parametrize(
    ("terminal", "answer", "error"),
    [
        (True, True, None),
        (True, False, "signet-data-prod was not changed."),
        (False, True, "Nothing has been changed. Without a terminal to ask for confirmation, --yes is required."),
    ],
)
def test_change_is_applied_only_after_an_answer_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, answer: bool, error: str | None
) -> None:
    def confirm(*_: Any, **__: Any) -> None:
        if not answer:
            raise click.Abort

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: terminal))
    monkeypatch.setattr(click, "confirm", confirm)
    stack = Mock(propose=Mock(return_value=CHANGES))
    stack.name = "signet-data-prod"
    deployment = Deployment("prod", {}, None)
    if error is None:
        deployment.change(cast(Stack, stack), "", {})
        stack.execute.assert_called_once_with(CHANGES)
        return
    with pytest.raises(CommandError, match=error):
        deployment.change(cast(Stack, stack), "", {})
    stack.discard.assert_called_once_with(CHANGES)
    assert not stack.execute.called


# ---- parameters

# What the template or the environment of Lambda sets.
NOT_SETTABLE = {"stage", "embedded", "dynamodb_endpoint", "region", "kms_key_id", "sealing_key"} | {
    *("email_configuration_set", "function", "mailbox"),
}


def test_every_setting_is_a_parameter_whose_default_is_that_of_the_server() -> None:
    parameters = yaml.safe_load(package.API.read_text())["Parameters"]
    variables = set(package.setting_parameters().values()) | {"SIGNET_ISSUER"}
    assert {f"SIGNET_{field.name.upper()}" for field in fields(Settings)} - variables == {
        f"SIGNET_{name.upper()}" for name in NOT_SETTABLE - {"stage", "kms_key_id"}
    }
    for parameter, variable in package.setting_parameters().items():
        if variable not in ("SIGNET_STAGE", "SIGNET_KMS_KEY_ID"):
            assert parameters[parameter]["Default"] in ("", "ring", "on"), parameter
    empty = dict.fromkeys(package.setting_parameters().values(), "") | {"SIGNET_STAGE": "prod"}
    in_lambda = {"AWS_LAMBDA_FUNCTION_NAME": "f"}
    assert Settings.from_environ(empty | in_lambda) == Settings.from_environ({"SIGNET_STAGE": "prod"} | in_lambda)


def test_setting_of_a_parameter_comes_before_that_of_the_configuration() -> None:
    built = replace(packaged(), configured={"SIGNET_LOGO_URL": "https://a.example/logo", "SIGNET_STAGE": "other"})
    own = {"Stage": "prod", "KeyArn": "arn", "SupportUrl": "https://a.example/help"}

    def variables(**parameters: str) -> dict[str, Any]:
        template = json.loads(built.at("bucket", "zip", "", own | parameters))
        return cast(dict[str, Any], template["Resources"]["APIHandler"]["Properties"]["Environment"]["Variables"])

    assert variables(LogoUrl="")["SIGNET_LOGO_URL"] == "https://a.example/logo"
    assert variables(LogoUrl="https://b.example/logo")["SIGNET_LOGO_URL"] == {"Ref": "LogoUrl"}
    assert variables()["SIGNET_SUPPORT_URL"] == {"Ref": "SupportUrl"}
    assert variables()["SIGNET_STAGE"] == {"Ref": "Stage"}


def test_parameters_of_a_file_are_texts_and_those_of_the_command_line_come_first(
    run_deploy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file, seen = tmp_path / "prod.yaml", list[dict[str, str]]()
    file.write_text("# our stage\nPlayground: on\nSessionIdleLifetime: 3600\nName: 'Acme: Accounts'\n")
    monkeypatch.setattr(deploy, "check_settings", lambda server: seen.append(dict(server)))
    result, _ = run_deploy("--param-file", str(file), "--param", "SessionIdleLifetime=7200", findings=[])
    assert result.code == 0, result.err
    given = {name: seen[0][name] for name in ("Playground", "SessionIdleLifetime", "Name", "LogoUrl")}
    assert given == {"Playground": "on", "SessionIdleLifetime": "7200", "Name": "Acme: Accounts", "LogoUrl": ""}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SesionIdleLifetime: 1", "there is no parameter 'SesionIdleLifetime'. Did you mean 'SessionIdleLifetime'?"),
        ("Name: [a]", "must have lines of the form NAME: VALUE."),
        ("- Name", "must have lines of the form NAME: VALUE."),
        ("{", "is not YAML"),
        ("SessionIdleLifetime: 5", "SIGNET_SESSION_IDLE_LIFETIME is '5'; it must be a whole number from 60"),
        ("LoginUrl: http://a.example", "SIGNET_LOGIN_URL is 'http://a.example'; it must be"),
        ("Issuer: ftp://a.example", "SIGNET_ISSUER is 'ftp://a.example'; it must be"),
    ],
)
def test_wrong_parameters_of_a_file_are_rejected_before_anything_is_deployed(
    run_deploy: Callable[..., Any], tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "prod.yaml"
    file.write_text(text)
    result, check = run_deploy("--param-file", str(file), findings=[])
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert message in result.err
    assert not check.called
