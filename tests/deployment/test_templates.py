"""The CloudFormation templates: their content, and that CloudFormation accepts them."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
import yaml

import app
from chalicelib import events
from chalicelib.events import log as event_log
from chalicelib.protocol.durations import DAY
from chalicelib.settings import Settings
from infra import schema
from infra.aws import package
from infra.aws.package import API
from infra.local.state import CHECKOUT
from infra.schema import SCHEMA
from tests.bench import cost
from tests.support.packaging import packaged

PARAMETERS = {"Stage": "prod", "KeyArn": "arn:aws:kms:us-east-1:123456789012:key/1"}
_CFN_LINT = "import sys; from cfnlint.runner import main; sys.exit(main())"
Template = dict[str, Any]


@pytest.fixture(scope="module")
def merged() -> Template:
    """Return the template that is sent to CloudFormation."""
    template: Template = json.loads(packaged().at("a-bucket", "code.zip", "v1", PARAMETERS))
    return template


@pytest.fixture(scope="module")
def translated(merged: Template) -> Template:
    """Return the template after the SAM transformation, as CloudFormation does it."""
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
    """Yield a node and all nodes below it."""
    yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(child)


@pytest.fixture(scope="module")
def with_snapstart(merged: Template) -> Template:
    """Return the template for a Python with SnapStart in Lambda, which may not be the one of the tests."""
    server, template = yaml.safe_load(API.read_text()), json.loads(json.dumps(merged))
    function = template["Resources"]["APIHandler"]["Properties"]
    function |= {"Runtime": "python3.13", "SnapStart": server["Resources"]["APIHandler"]["Properties"]["SnapStart"]}
    template["Parameters"]["SnapStart"] = server["Parameters"]["SnapStart"]
    return cast(Template, template)


def test_cfn_lint_reports_nothing(
    merged: Template, translated: Template, with_snapstart: Template, tmp_path: Path
) -> None:
    forms = {"merged": merged, "translated": translated, "with-snapstart": with_snapstart}
    for name, template in forms.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(template, indent=1))
    assert not lint(SCHEMA, *tmp_path.iterdir())


def test_templates_are_within_the_size_limit() -> None:
    assert len(packaged().at("a-bucket", "code.zip", "v1", PARAMETERS).encode()) < 51200  # CloudFormation's limit
    assert len(SCHEMA.read_bytes()) < 51200


def test_rest_api_of_chalice_is_not_deployed(translated: Template) -> None:
    kinds = {resource["Type"] for resource in translated["Resources"].values()}
    assert not [kind for kind in kinds if kind.startswith("AWS::ApiGateway::")]
    assert len(of_kind(translated, "AWS::IAM::Role")) == 1
    assert len(of_kind(translated, "AWS::Lambda::Function")) == 1
    assert "EndpointURL" not in translated["Outputs"]


def test_gateway_calls_the_alias_of_a_published_version(translated: Template) -> None:
    resources = translated["Resources"]
    (version,) = of_kind(translated, "AWS::Lambda::Version")
    assert resources["Integration"]["Properties"]["IntegrationUri"] == {"Ref": "Alias"}
    assert resources["Integration"]["Properties"]["PayloadFormatVersion"] == "1.0"
    assert resources["Permission"]["Properties"]["FunctionName"] == {"Ref": "Alias"}
    assert resources["Alias"]["Properties"]["FunctionVersion"] == {"Fn::GetAtt": [version, "Version"]}
    assert resources["Route"]["Properties"]["RouteKey"] == "$default"
    assert resources["HttpStage"]["Properties"]["StageName"] == "$default"


def test_only_the_gateway_and_the_schedules_may_call_the_alias(translated: Template) -> None:
    permissions = of_kind(translated, "AWS::Lambda::Permission")
    rules = {"DeliverPermission", "RotateKeysPermission", "RemoveAccountsPermission", "EmailFeedbackPermission"}
    assert set(permissions) == {"Permission", *rules}
    for name, permission in permissions.items():
        assert (permission["FunctionName"], permission["Action"]) == ({"Ref": "Alias"}, "lambda:InvokeFunction")
        if name != "Permission":
            assert permission["Principal"] == "events.amazonaws.com"
            assert permission["SourceArn"] == {"Fn::GetAtt": [name.replace("Permission", "Rule"), "Arn"]}


def test_each_schedule_has_a_rule_that_calls_the_same_alias_as_the_gateway(translated: Template) -> None:
    schedules = []
    for rule in of_kind(translated, "AWS::Events::Rule").values():
        (target,) = rule["Targets"]
        assert target["Arn"] == {"Ref": "Alias"}
        if "EventPattern" in rule:
            continue
        schedules.append((json.loads(target["Input"]), rule["ScheduleExpression"]))
    assert schedules == [({"schedule": schedule.name}, schedule.rate) for schedule in app.SCHEDULES]


def test_version_changes_exactly_with_the_code_and_the_parameters() -> None:
    def version(sha256: str, parameters: dict[str, str]) -> tuple[str, str]:
        built = replace(packaged(), sha256=sha256 * 64)
        resources = json.loads(built.at("a-bucket", f"{sha256}.zip", "v1", parameters))["Resources"]
        (name,) = (name for name in resources if name.startswith("Version"))
        # Lambda publishes a version only if the function has changed; the description makes sure of that.
        return name, resources["APIHandler"]["Properties"]["Description"]

    first = version("1", PARAMETERS)
    assert version("1", dict(reversed(PARAMETERS.items()))) == first
    changed = [version("2", PARAMETERS), version("1", PARAMETERS | {"Issuer": "https://login.example.com"})]
    assert len({name for name, _ in [first, *changed]}) == 3
    assert len({description for _, description in [first, *changed]}) == 3


def test_template_pins_the_uploaded_object_and_the_hash_of_its_code(translated: Template) -> None:
    function = translated["Resources"]["APIHandler"]["Properties"]
    assert function["Code"] == {"S3Bucket": "a-bucket", "S3Key": "code.zip", "S3ObjectVersion": "v1"}
    (version,) = of_kind(translated, "AWS::Lambda::Version").values()
    # Lambda then publishes no version of other code, and the alias does not move.
    assert base64.b64decode(version["CodeSha256"]) == hashlib.sha256(packaged().zip.read_bytes()).digest()
    # While the bucket has no versions yet:
    unpinned = json.loads(packaged().at("a-bucket", "code.zip", "", PARAMETERS))["Resources"]["APIHandler"]
    assert unpinned["Properties"]["CodeUri"] == {"Bucket": "a-bucket", "Key": "code.zip"}


def test_function_has_the_handler_and_the_architecture_of_the_package(translated: Template) -> None:
    function = translated["Resources"]["APIHandler"]["Properties"]
    assert function["Handler"] == "app.http_handler"
    assert function["Runtime"] == package.runtime()
    assert function["Architectures"] == packaged().template["Resources"]["APIHandler"]["Properties"]["Architectures"]
    assert function["TracingConfig"] == {"Mode": {"Ref": "Tracing"}}
    assert translated["Parameters"]["Tracing"]["Default"] == "PassThrough"
    assert function["LoggingConfig"]["LogGroup"] == {"Ref": "LogGroup"}


def test_snapstart_is_used_if_lambda_supports_it(merged: Template) -> None:
    supported = sys.version_info >= (3, 12)
    assert ("SnapStart" in merged["Resources"]["APIHandler"]["Properties"]) is supported
    assert ("SnapStart" in merged["Parameters"]) is supported


@pytest.mark.parametrize(
    ("version", "today", "note"),
    [
        ((3, 11), date(2026, 1, 1), "SnapStart is not used"),
        ((3, 12), date(2026, 1, 1), None),
        ((3, 12), date(2028, 1, 1), "AWS support for python3.12 ends"),
        ((3, 99), date(2028, 1, 1), "unknown whether Lambda supports"),
    ],
)
def test_notes_mention_snapstart_and_the_end_of_the_runtime(
    version: tuple[int, int], today: date, note: str | None
) -> None:
    notes = package.notes(version, today)
    assert bool(notes) is bool(note)
    assert note is None or note in " ".join(notes)


def test_environment_variables_of_the_template_are_settings(merged: Template) -> None:
    named = merged["Resources"]["APIHandler"]["Properties"]["Environment"]["Variables"]
    settings = {f"SIGNET_{field.name.upper()}" for field in fields(Settings)}
    assert set(named) <= settings
    assert {"SIGNET_STAGE", "SIGNET_ISSUER", "SIGNET_KMS_KEY_ID", "SIGNET_SIGNING"} <= set(named)


# ---- the role


def statements(template: Template) -> list[dict[str, Any]]:
    (role,) = of_kind(template, "AWS::IAM::Role").values()
    items = [item for policy in role["Policies"] for item in policy["PolicyDocument"]["Statement"]]
    return [item["Fn::If"][1] if "Fn::If" in item else item for item in items]


def as_list(node: Any) -> list[Any]:
    return node if isinstance(node, list) else [node]


def test_role_has_no_wildcards(translated: Template) -> None:
    for statement in statements(translated):
        assert statement["Effect"] == "Allow"
        assert not {"NotAction", "NotResource"} & set(statement)
        assert not [text for text in nodes(statement["Resource"]) if isinstance(text, str) and "*" in text]
        assert not [action for action in as_list(statement["Action"]) if "*" in action]


def test_role_may_use_the_key_only_for_this_stage_and_its_tables(translated: Template) -> None:
    key_statements = [statement for statement in statements(translated) if statement["Resource"] == {"Ref": "KeyArn"}]
    contexts = {name for statement in key_statements for test in statement["Condition"].values() for name in test}
    assert len(key_statements) == 2
    assert {"kms:EncryptionContext:signet-stage", "kms:EncryptionContext:aws:dynamodb:tableName"} <= contexts
    assert all(statement["Condition"] for statement in key_statements)
    (tables,) = (
        values["kms:EncryptionContext:aws:dynamodb:tableName"]
        for statement in key_statements
        if "kms:ViaService" in (values := statement["Condition"]["StringEquals"])
    )
    assert {table["Fn::Sub"] for table in tables} == {f"signet-${{Stage}}-{kind}" for kind in kinds()}


def kinds() -> set[str]:
    return {
        properties["TableName"]["Fn::Sub"].rpartition("-")[2]
        for properties in of_kind(yaml.safe_load(SCHEMA.read_text()), "AWS::DynamoDB::Table").values()
    }


def indexes() -> set[str]:
    tables = {name.rpartition("-")[2]: table for name, table in schema.tables("prod").items()}
    return {
        f"{kind}/index/{index['IndexName']}"
        for kind, table in tables.items()
        for index in table.get("GlobalSecondaryIndexes", ())
    }


def actions_by_table(statements: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Return the actions that are allowed on each table."""
    allowed: dict[str, set[str]] = {}
    for statement in statements:
        for resource in as_list(statement["Resource"]):
            text = resource.get("Fn::Sub", "") if isinstance(resource, dict) else resource
            if match := re.search(r":table/signet-(?:\$\{Stage\}|prod)-(.+)$", text):
                allowed.setdefault(match[1], set()).update(as_list(statement["Action"]))
    return allowed


def test_policy_of_chalice_deploy_allows_the_same(translated: Template) -> None:
    chalice_policy = json.loads((CHECKOUT / ".chalice" / "policy-prod.json").read_text())["Statement"]
    allowed = actions_by_table(statements(translated))
    assert allowed == actions_by_table(chalice_policy)
    assert {name.partition("/")[0] for name in allowed} == kinds()
    assert indexes() <= set(allowed)


def test_role_allows_what_the_code_of_version_1_needs_until_the_alias_moves(translated: Template) -> None:
    allowed = actions_by_table(statements(translated))
    assert allowed["grants/index/sub"] == {"dynamodb:Query"}
    assert {"dynamodb:ConditionCheckItem", "dynamodb:DeleteItem"} <= allowed["consents"]


def test_policies_of_chalice_deploy_differ_only_in_the_stage() -> None:
    dev, prod = ((CHECKOUT / ".chalice" / f"policy-{stage}.json").read_text() for stage in ("dev", "prod"))
    assert dev.replace("signet-dev", "signet-prod").replace(': "dev"', ': "prod"') == prod


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_policy_of_chalice_deploy_names_every_table_and_log_of_its_stage(stage: str) -> None:
    """No `*` continues the name of the stage: it would also allow those of a stage such as prod-eu."""
    text = (CHECKOUT / ".chalice" / f"policy-{stage}.json").read_text()
    assert re.findall(rf"signet-{stage}[\w-]*\*", text) == []
    policy = json.loads(text)["Statement"]
    contexts = [item.get("Condition", {}).get("StringEquals", {}) for item in policy]
    (tables,) = (names for item in contexts if (names := item.get("kms:EncryptionContext:aws:dynamodb:tableName")))
    assert set(tables) == {f"signet-{stage}-{kind}" for kind in kinds()}
    (logs,) = (item["Resource"] for item in policy if "logs:PutLogEvents" in item["Action"])
    functions = [f"signet-{stage}", *(f"signet-{stage}-{schedule.name}" for schedule in app.SCHEDULES)]
    groups = [f"arn:aws:logs:*:*:log-group:/aws/lambda/{function}" for function in functions]
    assert logs == [f"{group}{streams}" for group in groups for streams in ("", ":*")]


# ---- mail


def test_function_may_send_mails_from_the_configured_address_only(translated: Template) -> None:
    (mail,) = (statement for statement in statements(translated) if statement.get("Sid") == "SendMail")
    assert mail["Action"] == ["ses:SendEmail", "ses:SendRawEmail"]
    assert mail["Condition"] == {"StringEqualsIgnoreCase": {"ses:FromAddress": {"Ref": "EmailFrom"}}}
    identity, configuration_set = mail["Resource"]
    domain = {"Fn::Select": [1, {"Fn::Split": ["@", {"Ref": "EmailFrom"}]}]}
    assert identity["Fn::Join"][1][1] == {"Fn::If": ["AddsIdentity", domain, {"Ref": "EmailIdentity"}]}
    assert configuration_set["Fn::Sub"].endswith(":configuration-set/${ConfigurationSet}")
    (policy,) = of_kind(translated, "AWS::IAM::Policy").values()
    (invoke,) = policy["PolicyDocument"]["Statement"]
    assert (invoke["Action"], invoke["Resource"]) == ("lambda:InvokeFunction", {"Ref": "Alias"})


def test_addresses_that_bounced_or_complained_are_suppressed_and_told_to_the_function(translated: Template) -> None:
    (configuration_set,) = of_kind(translated, "AWS::SES::ConfigurationSet").values()
    assert configuration_set["SuppressionOptions"] == {"SuppressedReasons": ["BOUNCE", "COMPLAINT"]}
    (destination,) = of_kind(translated, "AWS::SES::ConfigurationSetEventDestination").values()
    assert destination["EventDestination"]["MatchingEventTypes"] == ["BOUNCE", "COMPLAINT"]
    pattern = translated["Resources"]["EmailFeedbackRule"]["Properties"]["EventPattern"]
    assert pattern["source"] == ["aws.ses"]
    assert pattern["detail"]["eventType"] == ["Bounce", "Complaint"]
    assert pattern["detail"]["mail"] == {"tags": {"ses:configuration-set": [{"Ref": "ConfigurationSet"}]}}


def test_stage_without_a_sender_has_nothing_of_mail(translated: Template) -> None:
    conditions = translated["Conditions"]
    assert conditions["SendsMail"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "EmailFrom"}, ""]}]}
    assert {"Condition": "SendsMail"} in conditions["AddsIdentity"]["Fn::And"]
    kinds_of_mail = ("AWS::SES::", "AWS::IAM::Policy")
    for name, resource in translated["Resources"].items():
        if resource["Type"].startswith(kinds_of_mail) or name.startswith("Email"):
            assert resource["Condition"] in ("SendsMail", "AddsIdentity"), name


# ---- alarms and the dashboard


def logged_metrics() -> set[str]:
    source = Path(event_log.__file__).read_text()
    numbers = r'"(server_error|throttled|duration_ms|dynamodb_calls|consumed_capacity)"'
    return {*events.EVENTS, *re.findall(numbers, source)}


def test_alarms_use_logged_metrics_and_say_what_to_do(translated: Template) -> None:
    alarms = of_kind(translated, "AWS::CloudWatch::Alarm")
    watched = {alarm["MetricName"] for alarm in alarms.values() if alarm["Namespace"] == event_log.NAMESPACE}
    of_sign_ins = {"sign_in_failed", "sign_in_throttled", "sign_in_limit_reached", "sign_ins_from_one_address"}
    assert watched == {"server_error", "throttled", "reuse_detected", "duration_ms", "email_undelivered"} | of_sign_ins
    assert watched <= logged_metrics()
    for name, alarm in alarms.items():
        assert re.fullmatch(r"[A-Z].{20,}: .{40,}\.", alarm["AlarmDescription"]), name
        assert alarm["TreatMissingData"] == "notBreaching", name
        assert ("Statistic" in alarm) is not ("ExtendedStatistic" in alarm), name
        if alarm["Namespace"] == event_log.NAMESPACE:
            assert alarm["Dimensions"] == [{"Name": "stage", "Value": {"Ref": "Stage"}}], name


def test_documented_monthly_costs_are_those_of_the_template(translated: Template) -> None:
    prices = {name: price["price"] for name, price in cost.prices()["prices"].items()}
    memory = yaml.safe_load(API.read_text())["Parameters"]["MemorySize"]["Default"] / 1024
    amounts = {
        "the KMS key": prices["kms_key_month"],
        "eleven alarms": len(of_kind(translated, "AWS::CloudWatch::Alarm")) * prices["alarm_month"],
        "the dashboard": len(of_kind(translated, "AWS::CloudWatch::Dashboard")) * prices["dashboard_month"],
        "the snapshot of 1 GB": memory * 30 * DAY * prices["snapshot_gb_second"],
        "the schedules": 0.03,
    }
    documented = (CHECKOUT / "docs" / "deploy.md").read_text()
    for name, amount in {**amounts, "together": sum(amounts.values())}.items():
        assert f"| {name} | {amount:.2f} |" in documented, (name, amount)
    unavoidable = amounts["the KMS key"] + amounts["the schedules"]
    assert f"| {unavoidable:.2f} with both switches |" in documented
    assert (
        f"up to 100 metrics, by the hours in which they have values | {100 * prices['metric_month']:.2f} |"
        in documented
    )


def test_without_monitoring_there_are_no_alarms_no_dashboard_and_no_metrics(translated: Template) -> None:
    assert translated["Conditions"]["Monitored"] == {"Fn::Equals": [{"Ref": "Monitoring"}, "on"]}
    for name, resource in translated["Resources"].items():
        assert ("CloudWatch" in resource["Type"]) is (resource.get("Condition") == "Monitored"), name
    variables = translated["Resources"]["APIHandler"]["Properties"]["Environment"]["Variables"]
    assert variables["SIGNET_METRICS"] == {"Ref": "Monitoring"}
    in_lambda = {"AWS_LAMBDA_FUNCTION_NAME": "f"}
    assert Settings.from_environ(in_lambda).metrics
    assert not Settings.from_environ({**in_lambda, "SIGNET_METRICS": "off"}).metrics


@pytest.mark.parametrize("text", ["your firewall", "block it", "block them", "lambda_memory_size"])
def test_no_advice_needs_what_the_deployment_does_not_have(text: str) -> None:
    assert text not in API.read_text()
    assert text not in (CHECKOUT / "docs" / "operate.md").read_text()


def test_budget_is_an_option_that_sends_an_email_before_and_when_it_is_used_up(translated: Template) -> None:
    resource = translated["Resources"]["Budget"]
    assert resource["Condition"] == "HasBudget"
    assert translated["Conditions"]["HasBudget"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "MonthlyBudget"}, 0]}]}
    assert translated["Parameters"]["MonthlyBudget"]["Default"] == 0
    budget, notifications = (resource["Properties"][name] for name in ("Budget", "NotificationsWithSubscribers"))
    assert budget["BudgetLimit"] == {"Amount": {"Ref": "MonthlyBudget"}, "Unit": "USD"}
    assert (budget["BudgetType"], budget["TimeUnit"]) == ("COST", "MONTHLY")
    conditions = [each["Notification"] for each in notifications]
    thresholds = [(condition["NotificationType"], condition["Threshold"]) for condition in conditions]
    assert thresholds == [("ACTUAL", 80), ("ACTUAL", 100), ("FORECASTED", 100)]
    assert {condition["ThresholdType"] for condition in conditions} == {"PERCENTAGE"}
    for each in notifications:
        assert each["Subscribers"] == [{"SubscriptionType": "EMAIL", "Address": {"Ref": "BudgetEmail"}}]


def test_dashboard_shows_all_logged_metrics_and_alarms(translated: Template) -> None:
    (dashboard,) = of_kind(translated, "AWS::CloudWatch::Dashboard").values()
    body = json.loads(re.sub(r"\$\{([^}]*)\}", r"\1", dashboard["DashboardBody"]["Fn::Sub"]))
    shown = {
        metric[1] for widget in body["widgets"] for metric in widget["properties"].get("metrics", ())
        if metric[0] == event_log.NAMESPACE
    }  # fmt: skip
    assert shown == logged_metrics()
    alarms = of_kind(translated, "AWS::CloudWatch::Alarm")
    assert {arn.removesuffix(".Arn") for arn in body["widgets"][0]["properties"]["alarms"]} == set(alarms)


# ---- WWW-Authenticate, which API Gateway renames


def test_gateway_sets_www_authenticate_from_a_signet_header(translated: Template) -> None:
    mapping = translated["Resources"]["Integration"]["Properties"]["ResponseParameters"]["401"]["ResponseParameters"]
    written = {entry["Destination"]: entry["Source"] for entry in mapping}
    assert written["overwrite:header.WWW-Authenticate"] == "$response.header.x-signet-www-authenticate"
    assert "remove:header.x-signet-www-authenticate" in written
    # AWS rejects a mapping of these reserved names.
    reserved = re.compile(r"header\.(access-control-|apigw-|x-amz|x-forwarded-|authorization$|proxy-)", re.IGNORECASE)
    assert not [name for name in (*written, *written.values()) if reserved.search(name)]


# ---- the data stack


def test_resources_of_the_data_stack_are_retained() -> None:
    for name, resource in yaml.safe_load(SCHEMA.read_text())["Resources"].items():
        assert resource["DeletionPolicy"] == resource["UpdateReplacePolicy"] == "Retain", name


def test_bucket_keeps_every_version_of_the_code() -> None:
    (bucket,) = of_kind(yaml.safe_load(SCHEMA.read_text()), "AWS::S3::Bucket").values()
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}


def test_tables_have_the_old_index_of_the_grants_only_on_request() -> None:
    new, kept = schema.tables("prod"), schema.tables("prod", OldGrantsIndex="kept")
    assert [index["IndexName"] for index in new["signet-prod-grants"]["GlobalSecondaryIndexes"]] == ["user"]
    old = {
        "IndexName": "sub",
        "KeySchema": [{"AttributeName": "sub", "KeyType": "HASH"}],
        "Projection": {"ProjectionType": "ALL"},
    }
    assert kept["signet-prod-grants"].pop("GlobalSecondaryIndexes")[1:] == [old]
    del new["signet-prod-grants"]["GlobalSecondaryIndexes"]
    assert new == kept


def test_kms_keys_have_the_aliases_that_the_key_ring_uses() -> None:
    template = yaml.safe_load(SCHEMA.read_text())
    aliases = {alias["AliasName"]["Fn::Sub"] for alias in of_kind(template, "AWS::KMS::Alias").values()}
    assert aliases == {"alias/signet-${Stage}", "alias/signet-${Stage}-rs256", "alias/signet-${Stage}-es256"}
    specs = {key.get("KeySpec"): key.get("KeyUsage") for key in of_kind(template, "AWS::KMS::Key").values()}
    assert specs == {None: None, "RSA_2048": "SIGN_VERIFY", "ECC_NIST_P256": "SIGN_VERIFY"}


def test_each_parameter_has_a_description_and_a_default_or_a_computed_value() -> None:
    data, server = (yaml.safe_load(file.read_text()) for file in (SCHEMA, API))
    computed = {"Stage", *data["Outputs"]}
    for template in (data, server):
        for name, parameter in template["Parameters"].items():
            assert parameter["Description"].endswith("."), name
            assert "Default" in parameter or name in computed, name
