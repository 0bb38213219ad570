"""The CloudFormation templates: what they say, and that CloudFormation would understand it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
import yaml

import app
from chalicelib import audit
from chalicelib.settings import Settings
from infra import package
from infra.embedded import SCHEMA
from infra.package import API
from infra.state import CHECKOUT
from tests.packaging import packaged

PARAMETERS = {"Stage": "prod", "KeyArn": "arn:aws:kms:us-east-1:123456789012:key/1"}
_CFN_LINT = "import sys; from cfnlint.runner import main; sys.exit(main())"
Template = dict[str, Any]


@pytest.fixture(scope="module")
def merged() -> Template:
    """What is sent to CloudFormation."""
    template: Template = json.loads(packaged().at("a-bucket", "code.zip", PARAMETERS))
    return template


@pytest.fixture(scope="module")
def translated(merged: Template) -> Template:
    """What CloudFormation makes of it: the same translator runs there."""
    from samtranslator.translator.transform import transform  # type: ignore[import-untyped]

    with mock.patch.dict(os.environ, {"AWS_DEFAULT_REGION": "us-east-1"}):
        template: Template = transform(json.loads(json.dumps(merged)), {}, mock.Mock(load=dict))
    return template


def of_kind(template: Template, kind: str) -> dict[str, dict[str, Any]]:
    return {
        name: resource["Properties"] for name, resource in template["Resources"].items() if resource["Type"] == kind
    }


def lint(*files: Path) -> str:
    done = subprocess.run([sys.executable, "-c", _CFN_LINT, *files], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def nodes(node: Any) -> Iterator[Any]:
    """Every node below this one."""
    yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(child)


@pytest.fixture(scope="module")
def with_snapstart(merged: Template) -> Template:
    """The same from a Python that Lambda has SnapStart for, which may not be the one that runs this."""
    server, template = yaml.safe_load(API.read_text()), json.loads(json.dumps(merged))
    function = template["Resources"]["APIHandler"]["Properties"]
    function |= {"Runtime": "python3.13", "SnapStart": server["Resources"]["APIHandler"]["Properties"]["SnapStart"]}
    template["Parameters"]["SnapStart"] = server["Parameters"]["SnapStart"]
    return cast(Template, template)


def test_cfn_lint_has_nothing_to_say(
    merged: Template, translated: Template, with_snapstart: Template, tmp_path: Path
) -> None:
    forms = {"merged": merged, "translated": translated, "with-snapstart": with_snapstart}
    for name, template in forms.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(template, indent=1))
    assert not lint(SCHEMA, *tmp_path.iterdir())


def test_the_template_may_be_sent_as_it_is() -> None:
    assert len(packaged().at("a-bucket", "code.zip", PARAMETERS).encode()) < 51200  # CloudFormation's limit
    assert len(SCHEMA.read_bytes()) < 51200


def test_chalices_own_front_is_not_deployed(translated: Template) -> None:
    kinds = {resource["Type"] for resource in translated["Resources"].values()}
    assert not [kind for kind in kinds if kind.startswith("AWS::ApiGateway::")]
    assert len(of_kind(translated, "AWS::IAM::Role")) == 1
    assert len(of_kind(translated, "AWS::Lambda::Function")) == 1
    assert "EndpointURL" not in translated["Outputs"]


def test_the_gateway_calls_the_alias_of_a_published_version(translated: Template) -> None:
    resources = translated["Resources"]
    (version,) = of_kind(translated, "AWS::Lambda::Version")
    assert resources["Integration"]["Properties"]["IntegrationUri"] == {"Ref": "Alias"}
    assert resources["Integration"]["Properties"]["PayloadFormatVersion"] == "1.0"
    assert resources["Permission"]["Properties"]["FunctionName"] == {"Ref": "Alias"}
    assert resources["Alias"]["Properties"]["FunctionVersion"] == {"Fn::GetAtt": [version, "Version"]}
    assert resources["Route"]["Properties"]["RouteKey"] == "$default"
    assert resources["HttpStage"]["Properties"]["StageName"] == "$default"


def test_the_gateway_and_the_schedules_may_call_the_alias_and_nobody_else_may(translated: Template) -> None:
    permissions = of_kind(translated, "AWS::Lambda::Permission")
    assert set(permissions) == {"Permission", "DeliverPermission", "RotateKeysPermission"}
    for name, permission in permissions.items():
        assert (permission["FunctionName"], permission["Action"]) == ({"Ref": "Alias"}, "lambda:InvokeFunction")
        if name != "Permission":
            assert permission["Principal"] == "events.amazonaws.com"
            assert permission["SourceArn"] == {"Fn::GetAtt": [name.replace("Permission", "Rule"), "Arn"]}


def test_every_schedule_has_its_rule_and_calls_the_same_version_as_the_gateway(translated: Template) -> None:
    found = []
    for rule in of_kind(translated, "AWS::Events::Rule").values():
        (target,) = rule["Targets"]
        assert target["Arn"] == {"Ref": "Alias"}
        found.append((json.loads(target["Input"]), rule["ScheduleExpression"]))
    assert found == [({"schedule": schedule.name}, schedule.rate) for schedule in app.SCHEDULES]


def test_every_change_of_code_or_parameters_is_a_new_version_and_nothing_else_is() -> None:
    def version(sha256: str, parameters: dict[str, str]) -> tuple[str, str]:
        made = package.Package(packaged().template, packaged().zip, sha256, ())
        resources = json.loads(made.at("a-bucket", f"{sha256}.zip", parameters))["Resources"]
        (name,) = (name for name in resources if name.startswith("Version"))
        # Lambda publishes only what differs from the version before: the description always does.
        return name, resources["APIHandler"]["Properties"]["Description"]

    first = version("1", PARAMETERS)
    assert version("1", dict(reversed(PARAMETERS.items()))) == first
    others = [version("2", PARAMETERS), version("1", PARAMETERS | {"Issuer": "https://login.example.com"})]
    assert len({name for name, _ in [first, *others]}) == 3
    assert len({description for _, description in [first, *others]}) == 3


def test_the_function_is_the_gateways_handler_on_the_processor_that_was_built_for(translated: Template) -> None:
    function = translated["Resources"]["APIHandler"]["Properties"]
    assert function["Handler"] == "app.http_handler"
    assert function["Runtime"] == package.runtime()
    assert function["Architectures"] == packaged().template["Resources"]["APIHandler"]["Properties"]["Architectures"]
    assert function["TracingConfig"] == {"Mode": {"Ref": "Tracing"}}
    assert translated["Parameters"]["Tracing"]["Default"] == "PassThrough"
    assert function["LoggingConfig"]["LogGroup"] == {"Ref": "LogGroup"}


def test_snapstart_is_used_where_lambda_has_it(merged: Template) -> None:
    has_it = sys.version_info >= (3, 12)
    assert ("SnapStart" in merged["Resources"]["APIHandler"]["Properties"]) is has_it
    assert ("SnapStart" in merged["Parameters"]) is has_it


@pytest.mark.parametrize(
    ("version", "today", "said"),
    [
        ((3, 11), date(2026, 1, 1), "SnapStart is left out"),
        ((3, 12), date(2026, 1, 1), None),
        ((3, 12), date(2028, 1, 1), "AWS ends python3.12"),
        ((3, 99), date(2028, 1, 1), "not known here"),
    ],
)
def test_the_operator_is_told_of_snapstart_and_of_the_runtimes_end(
    version: tuple[int, int], today: date, said: str | None
) -> None:
    notes = package.notes(version, today)
    assert bool(notes) is bool(said)
    assert said is None or said in " ".join(notes)


def test_every_setting_in_the_template_is_a_setting(merged: Template) -> None:
    named = merged["Resources"]["APIHandler"]["Properties"]["Environment"]["Variables"]
    known = {f"SIGNET_{field.name.upper()}" for field in fields(Settings)}
    assert set(named) <= known
    assert {"SIGNET_STAGE", "SIGNET_ISSUER", "SIGNET_KMS_KEY_ID", "SIGNET_SIGNING"} <= set(named)


# ---- the role


def statements(template: Template) -> list[dict[str, Any]]:
    (role,) = of_kind(template, "AWS::IAM::Role").values()
    found = [one for policy in role["Policies"] for one in policy["PolicyDocument"]["Statement"]]
    return [one["Fn::If"][1] if "Fn::If" in one else one for one in found]


def as_list(node: Any) -> list[Any]:
    return node if isinstance(node, list) else [node]


def test_the_role_names_every_resource_and_every_action(translated: Template) -> None:
    for statement in statements(translated):
        assert statement["Effect"] == "Allow"
        assert not {"NotAction", "NotResource"} & set(statement)
        assert not [text for text in nodes(statement["Resource"]) if isinstance(text, str) and "*" in text]
        assert not [action for action in as_list(statement["Action"]) if "*" in action]


def test_the_role_opens_the_key_for_this_stage_and_its_tables_only(translated: Template) -> None:
    of_the_key = [one for one in statements(translated) if one["Resource"] == {"Ref": "KeyArn"}]
    contexts = {name for one in of_the_key for test in one["Condition"].values() for name in test}
    assert len(of_the_key) == 2
    assert {"kms:EncryptionContext:signet-stage", "kms:EncryptionContext:aws:dynamodb:tableName"} <= contexts
    assert all(one["Condition"] for one in of_the_key)
    (opened,) = (
        values["kms:EncryptionContext:aws:dynamodb:tableName"]
        for one in of_the_key
        if "kms:ViaService" in (values := one["Condition"]["StringEquals"])
    )
    assert {table["Fn::Sub"] for table in opened} == {f"signet-${{Stage}}-{kind}" for kind in kinds()}


def kinds() -> set[str]:
    return {
        properties["TableName"]["Fn::Sub"].rpartition("-")[2]
        for properties in of_kind(yaml.safe_load(SCHEMA.read_text()), "AWS::DynamoDB::Table").values()
    }


def by_table(found: list[dict[str, Any]]) -> dict[str, set[str]]:
    """The actions that are allowed on each table."""
    allowed: dict[str, set[str]] = {}
    for statement in found:
        for resource in as_list(statement["Resource"]):
            text = resource.get("Fn::Sub", "") if isinstance(resource, dict) else resource
            if match := re.search(r":table/signet-(?:\$\{Stage\}|prod)-(.+)$", text):
                allowed.setdefault(match[1], set()).update(as_list(statement["Action"]))
    return allowed


def test_both_ways_to_deploy_allow_the_same(translated: Template) -> None:
    quick = json.loads((CHECKOUT / ".chalice" / "policy-prod.json").read_text())["Statement"]
    allowed = by_table(statements(translated))
    assert allowed == by_table(quick)
    assert {name.partition("/")[0] for name in allowed} == kinds()


# ---- alarms and the dashboard


def known_metrics() -> set[str]:
    source = Path(audit.__file__).read_text()
    numbers = r'"(server_error|throttled|duration_ms|dynamodb_calls|consumed_capacity)"'
    return {*audit.EVENTS, *re.findall(numbers, source)}


def test_every_alarm_watches_a_metric_that_the_log_carries_and_says_what_to_do(translated: Template) -> None:
    alarms = of_kind(translated, "AWS::CloudWatch::Alarm")
    watched = {alarm["MetricName"] for alarm in alarms.values() if alarm["Namespace"] == audit.NAMESPACE}
    assert watched == {"server_error", "throttled", "reuse_detected", "sign_in_failed", "duration_ms"}
    assert watched <= known_metrics()
    for name, alarm in alarms.items():
        assert re.fullmatch(r"[A-Z].{20,}: .{40,}\.", alarm["AlarmDescription"]), name
        assert alarm["TreatMissingData"] == "notBreaching", name
        assert ("Statistic" in alarm) is not ("ExtendedStatistic" in alarm), name
        if alarm["Namespace"] == audit.NAMESPACE:
            assert alarm["Dimensions"] == [{"Name": "stage", "Value": {"Ref": "Stage"}}], name


def test_the_dashboard_shows_metrics_that_the_log_carries(translated: Template) -> None:
    (dashboard,) = of_kind(translated, "AWS::CloudWatch::Dashboard").values()
    body = json.loads(re.sub(r"\$\{([^}]*)\}", r"\1", dashboard["DashboardBody"]["Fn::Sub"]))
    shown = {
        metric[1] for widget in body["widgets"] for metric in widget["properties"].get("metrics", ())
        if metric[0] == audit.NAMESPACE
    }  # fmt: skip
    assert shown == known_metrics()
    alarms = of_kind(translated, "AWS::CloudWatch::Alarm")
    assert {arn.removesuffix(".Arn") for arn in body["widgets"][0]["properties"]["alarms"]} == set(alarms)


# ---- WWW-Authenticate, which API Gateway renames


def test_www_authenticate_is_written_from_a_header_of_ours(translated: Template) -> None:
    mapping = translated["Resources"]["Integration"]["Properties"]["ResponseParameters"]["401"]["ResponseParameters"]
    written = {one["Destination"]: one["Source"] for one in mapping}
    assert written["overwrite:header.WWW-Authenticate"] == "$response.header.x-signet-www-authenticate"
    assert "remove:header.x-signet-www-authenticate" in written
    # The names that AWS reserves: it refuses a mapping of any of them.
    reserved = re.compile(r"header\.(access-control-|apigw-|x-amz|x-forwarded-|authorization$|proxy-)", re.IGNORECASE)
    assert not [name for name in (*written, *written.values()) if reserved.search(name)]


# ---- the data stack


def test_what_the_data_stack_makes_outlives_it() -> None:
    for name, resource in yaml.safe_load(SCHEMA.read_text())["Resources"].items():
        assert resource["DeletionPolicy"] == resource["UpdateReplacePolicy"] == "Retain", name


def test_keys_that_sign_bear_the_names_that_the_key_ring_looks_for() -> None:
    template = yaml.safe_load(SCHEMA.read_text())
    aliases = {alias["AliasName"]["Fn::Sub"] for alias in of_kind(template, "AWS::KMS::Alias").values()}
    assert aliases == {"alias/signet-${Stage}", "alias/signet-${Stage}-rs256", "alias/signet-${Stage}-es256"}
    specs = {key.get("KeySpec"): key.get("KeyUsage") for key in of_kind(template, "AWS::KMS::Key").values()}
    assert specs == {None: None, "RSA_2048": "SIGN_VERIFY", "ECC_NIST_P256": "SIGN_VERIFY"}


def test_every_parameter_is_explained_and_has_a_default_or_is_found_out() -> None:
    data, server = (yaml.safe_load(file.read_text()) for file in (SCHEMA, API))
    found_out = {"Stage", *data["Outputs"]}
    for template in (data, server):
        for name, parameter in template["Parameters"].items():
            assert parameter["Description"].endswith("."), name
            assert "Default" in parameter or name in found_out, name
