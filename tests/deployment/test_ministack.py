"""`signet deploy` against an emulated AWS, and the whole flow over HTTP against the deployed server."""

import base64
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml

import app
from infra.local.state import CHECKOUT
from infra.schema import SCHEMA
from tests.support import powercut
from tests.support.emulated_stage import EXPECTED_FAILURES, Stage
from tests.support.emulator import ApiProxy, Emulator
from tests.support.packaging import ARCHITECTURE

TOKEN = "operator-token-of-the-tests"
TOKEN_HASH = hashlib.sha256(TOKEN.encode()).hexdigest()


@pytest.fixture(scope="module")
def broken(package: Path) -> Path:
    """Return a package with an invalid zip, and with a template whose alarm has no threshold."""
    document, file = json.loads(package.read_text()), package.with_name("broken.json")
    del document["template"]["Resources"]["Throttled"]["Properties"]["Threshold"]
    content = package.with_name("broken.zip")
    content.write_bytes(b"not a zip")
    file.write_text(
        json.dumps(document | {"zip": str(content), "sha256": hashlib.sha256(content.read_bytes()).hexdigest()})
    )
    return file


@pytest.fixture(scope="module")
def stages(emulator: Emulator, package: Path) -> Iterator[dict[str, Stage]]:
    """Return stages by name, each with its own address."""
    stages_by_name = {
        name: Stage(name, emulator, ApiProxy(emulator, name), package)
        for name in ("prod", "vault", "cut", "odd", "old", "edge")
    }
    yield stages_by_name
    for stage in stages_by_name.values():
        stage.close()


@pytest.fixture(scope="module")
def first_deployment(stages: dict[str, Stage]) -> subprocess.CompletedProcess[str]:
    """Run the first deployment, without any test replacement."""
    stage = stages["prod"]
    options = [
        "--architecture",
        ARCHITECTURE,
        "--issuer",
        stage.front.url,
        "--param",
        f"OperatorTokenHash={TOKEN_HASH}",
    ]
    done = stage.run_unpatched("deploy", "--stage", "prod", "--yes", *options, terminal=True)
    stage.open_key()
    return done


@pytest.fixture
def prod(stages: dict[str, Stage], first_deployment: subprocess.CompletedProcess[str]) -> Stage:
    assert first_deployment.returncode in (0, 1), first_deployment.stderr
    return stages["prod"]


def test_first_deployment_lists_each_resource_and_shows_the_administrator_password(
    prod: Stage, first_deployment: subprocess.CompletedProcess[str]
) -> None:
    for name in ("Clients", "Grants", "Key", "APIHandler", "Alias", "HttpApi", "ServerErrors"):
        assert re.search(rf"Add +{name} ", first_deployment.stdout), name
        assert re.search(rf"\d s +\d+/\d+ +{name} +create complete", first_deployment.stdout), name
    assert f"Issuer: {prod.front.url}" in first_deployment.stdout
    (password,) = re.findall(r"First account: admin, password (\S+)", first_deployment.stdout)
    browser, client = prod.browser(), prod.client()
    page = browser.sign_in(browser.authorize(client), "admin", password)
    assert "new_password" in page.body


def test_first_deployment_uploads_a_bill_of_materials_and_asks_for_known_vulnerabilities(
    prod: Stage, first_deployment: subprocess.CompletedProcess[str]
) -> None:
    assert "\nKnown vulnerabilities: " in first_deployment.stdout
    (bucket, key) = re.findall(r"Bill of materials: s3://([^/]+)/(\S+)", first_deployment.stdout)[0]
    document = json.loads(prod.emulator.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["metadata"]["component"]["hashes"][0]["content"] == key.removesuffix(".cdx.json")


def flow(stage: Stage, username: str) -> None:
    """Run the whole flow over HTTP: sign-in, consent, code, tokens, UserInfo, refresh, replay."""
    stage.user(username)
    client, browser = stage.client(), stage.browser()
    metadata = browser.get("/.well-known/openid-configuration").json
    assert metadata["issuer"] == stage.front.url
    consent = browser.sign_in(browser.authorize(client, scope="openid email offline_access"), username)
    assert "Photo Print" in consent.body
    answer = browser.submit(consent, decision="allow_once")
    assert answer.answer["iss"] == stage.front.url
    tokens = browser.redeem(client, answer.code)
    assert tokens.status == 200, tokens.body
    key = jwt.PyJWKSet.from_dict(browser.get("/oauth2/jwks").json).keys[0]
    id_token = jwt.decode(
        tokens.json["id_token"], key, algorithms=["RS256"], audience=client.id, issuer=stage.front.url
    )
    userinfo = browser.userinfo(tokens.json["access_token"]).json
    assert (userinfo["sub"], userinfo["email"]) == (id_token["sub"], f"{username}@example.com")
    refreshed = browser.refresh(client, tokens.json["refresh_token"])
    assert refreshed.status == 200, refreshed.body
    assert browser.redeem(client, answer.code).json["error"] == "invalid_grant"
    # The second use of the code has revoked the grant.
    assert browser.userinfo(refreshed.json["access_token"]).status == 401


def test_whole_flow_works_with_the_permissions_of_the_role(prod: Stage) -> None:
    flow(prod, "alice")


def test_role_reaches_every_table_and_the_key(prod: Stage) -> None:
    answer = prod.get("/healthz?deep=1", Authorization=f"Bearer {TOKEN}")
    assert answer.status == 200, answer.body
    assert set(answer.json["tables"]) == set(prod.tables())


def test_schedules_call_the_live_alias_and_succeed(prod: Stage) -> None:
    aws, events = prod.emulator.client("lambda"), prod.emulator.client("events")
    rules = [rule for rule in events.list_rules()["Rules"] if rule["Name"].startswith("signet-api-prod-")]
    assert sorted(rule["ScheduleExpression"] for rule in rules) == sorted(schedule.rate for schedule in app.SCHEDULES)
    invoked = []
    for rule in rules:
        (target,) = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
        assert target["Arn"].endswith(":live")
        answer = aws.invoke(FunctionName=target["Arn"], Payload=target["Input"].encode(), LogType="Tail")
        assert "FunctionError" not in answer, answer["Payload"].read()
        assert json.loads(answer["Payload"].read()) == {}
        log = base64.b64decode(answer["LogResult"]).decode()
        (line,) = (json.loads(text) for text in log.splitlines() if text.startswith("{"))
        assert (line["level"], line["outcome"]) == ("INFO", "ok"), line
        invoked.append(line["schedule"])
    assert sorted(invoked) == sorted(schedule.name for schedule in app.SCHEDULES)


def test_deployment_fails_when_the_doctor_finds_a_problem(
    prod: Stage, first_deployment: subprocess.CompletedProcess[str]
) -> None:
    problems = set(re.findall(r"^✗ ([^:]+):", first_deployment.stdout, re.MULTILINE))
    # Before `open_key`, the emulated role cannot open the key ring.
    assert problems <= {*EXPECTED_FAILURES, "endpoints", "keys"}, first_deployment.stdout
    assert first_deployment.returncode == bool(problems)
    assert ("the doctor found problems" in first_deployment.stderr) is bool(problems)
    assert "Running the doctor" not in prod.deploy().stdout


def test_doctor_reports_only_what_the_emulator_lacks(prod: Stage) -> None:
    done = prod.run_unpatched("--stage", "prod", "doctor", prod.front.url, "--json")
    findings = json.loads(done.stdout)
    failed = {finding["name"]: finding["detail"] for finding in findings if finding["ok"] is False}
    assert set(failed) <= set(EXPECTED_FAILURES), failed
    assert done.returncode == bool(failed)
    passed = {finding["name"] for finding in findings if finding["ok"]}
    assert {"issuer", "keys", "tables", "expiry", "backups", "encryption", "key ring"} <= passed, findings


def test_www_authenticate_is_kept_although_the_gateway_renames_it(prod: Stage) -> None:
    answer = prod.get("/oauth2/userinfo", Authorization="Bearer nonsense")
    assert answer.status == 401
    assert (answer.header("WWW-Authenticate") or "").startswith("Bearer")
    assert answer.header("x-signet-www-authenticate") is None


def test_second_deployment_of_the_same_package_changes_nothing(prod: Stage) -> None:
    """The first deployment built its own package, and this one uses the shared one: builds are reproducible."""
    versions = prod.versions()
    again = prod.deploy()
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("No changes.") == 2
    assert prod.versions() == versions


def test_changed_parameter_publishes_a_version_and_deletes_the_previous_one(prod: Stage) -> None:
    before = prod.versions()[-1]
    done = prod.deploy("--param", "Name=Acme Accounts")
    assert done.returncode == 0, done.stderr
    after = prod.versions()
    assert after[0] == after[1] != before
    assert "Acme Accounts" in prod.get("/").body
    # Parameters of earlier deployments are kept.
    assert "No changes." in prod.deploy().stdout
    assert prod.get("/healthz?deep=1", Authorization=f"Bearer {TOKEN}").status == 200


def test_failed_deployment_reports_the_cause_and_the_previous_version_keeps_serving(prod: Stage, broken: Path) -> None:
    versions = prod.versions()
    done = prod.deploy(package=broken)
    assert done.returncode == 2, done.stdout
    assert re.search(r"failed at APIHandler \(AWS::Lambda::Function\): .*Could not unzip", done.stderr)
    assert "The previous version is still serving." in done.stderr
    assert prod.versions() == versions
    assert prod.get("/healthz").status == 200


def test_deployment_rejects_a_zip_that_does_not_arrive_as_it_was_built(prod: Stage, package: Path) -> None:
    versions, document = prod.versions(), json.loads(package.read_text())
    content, file = package.with_name("damaged.zip"), package.with_name("damaged.json")
    content.write_bytes(b"not what was built")
    file.write_text(json.dumps(document | {"zip": str(content), "sha256": "0" * 64}))
    done = prod.deploy(package=file)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stdout
    assert "checksum" in done.stderr
    assert prod.versions() == versions


def test_deployment_uses_the_uploaded_zip_although_its_key_is_overwritten(prod: Stage, package: Path) -> None:
    key, s3 = f"{json.loads(package.read_text())['sha256']}.zip", prod.emulator.client("s3")
    bucket = prod.outputs("data")["CodeBucket"]
    assert prod.deploy("--param", "Name=Before", stop_at="before deploy_api").returncode == powercut.EXIT_CODE
    s3.put_object(Bucket=bucket, Key=key, Body=b"another zip")
    done = prod.deploy("--param", "Name=Acme Accounts")
    assert done.returncode == 0, done.stderr
    assert prod.get("/healthz").status == 200


def test_deployment_reports_a_function_that_runs_other_code(prod: Stage) -> None:
    aws = prod.emulator.client("lambda")
    (name,) = (
        function["FunctionName"]
        for function in aws.list_functions()["Functions"]
        if function["FunctionName"].startswith("signet-api-prod-")
    )
    live = aws.get_alias(FunctionName=name, Name="live")["FunctionVersion"]
    foreign = io.BytesIO()
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("app.py", "def http_handler(event, context): return {'statusCode': 200}")
    aws.update_function_code(FunctionName=name, ZipFile=foreign.getvalue())
    version = aws.publish_version(FunctionName=name)["Version"]
    aws.update_alias(FunctionName=name, Name="live", FunctionVersion=version)
    done = prod.deploy()
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stdout
    assert "The function does not run the zip that was uploaded" in done.stderr
    aws.update_alias(FunctionName=name, Name="live", FunctionVersion=live)
    aws.delete_function(FunctionName=name, Qualifier=version)
    assert prod.deploy().returncode == 0


def test_signing_cannot_be_changed_when_there_are_keys(prod: Stage) -> None:
    prod.get("/oauth2/jwks")
    done = prod.deploy("--param", "Signing=kms")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stdout
    assert "Signing cannot be changed from ring to kms" in done.stderr
    assert "No changes." in prod.deploy().stdout


def test_whole_flow_works_with_signing_keys_in_kms(stages: dict[str, Stage]) -> None:
    stage = stages["vault"]
    done = stage.deploy("--param", "Signing=kms", "--no-admin")
    assert done.returncode == 0, done.stderr
    assert "signet user create" not in done.stdout
    flow(stage, "victor")


def test_deployment_without_a_terminal_prints_the_command_for_the_first_account(stages: dict[str, Stage]) -> None:
    stage = stages["vault"]
    done = stage.deploy()
    assert done.returncode == 0, done.stderr
    users = json.loads(stage.ok("--stage", "vault", "user", "list", "--json"))
    assert [user["username"] for user in users if user["admin"]] == []
    (command,) = re.findall(r"^  signet (user create .*)$", done.stdout, re.MULTILINE)
    created = json.loads(stage.ok(*command.split(), "--json"))
    stage.secrets.add(created["password"])
    assert (created["username"], created["admin"]) == ("admin", True)


# ---- the update from version 1


def test_update_from_version_1_changes_one_index_at_a_time(stages: dict[str, Stage], tmp_path: Path) -> None:
    stage, schema, file = stages["old"], yaml.safe_load(SCHEMA.read_text()), tmp_path / "tables.yaml"
    del schema["Parameters"]["OldGrantsIndex"], schema["Conditions"]["KeepsOldGrantsIndex"]
    del schema["Outputs"]["RecordsVersion"]
    grants = schema["Resources"]["Grants"]["Properties"]
    grants["GlobalSecondaryIndexes"] = [grants["GlobalSecondaryIndexes"][1]["Fn::If"][1]]
    file.write_text(yaml.safe_dump(schema))
    created = stage.run("data", "--stage", "old", "--yes", "--force", schema=file)  # version 1 does not check records
    assert created.returncode == 0, created.stderr
    dynamodb = stage.emulator.client("dynamodb")
    item = {"grant_id": {"S": "g-1"}, "sub": {"S": "u-1"}, "client_id": {"S": "c-1"}, "nonce": {"S": "n-1"}}
    dynamodb.put_item(TableName="signet-old-grants", Item=item)
    for indexes in ({"sub"}, {"sub", "user"}, {"user"}):
        table = dynamodb.describe_table(TableName="signet-old-grants")["Table"]
        assert {index["IndexName"] for index in table["GlobalSecondaryIndexes"]} == indexes
        done = stage.run("data", "--stage", "old", "--yes")
        assert done.returncode == 0, done.stderr
    assert "No changes." in done.stdout
    entries = dynamodb.query(
        TableName="signet-old-grants",
        IndexName="user",
        KeyConditionExpression="#s = :s",
        ExpressionAttributeNames={"#s": "sub"},
        ExpressionAttributeValues={":s": {"S": "u-1"}},
    )["Items"]
    assert entries == [{name: value for name, value in item.items() if name != "nonce"}]


# ---- interrupted deployments


@pytest.fixture(scope="module")
def interrupted(stages: dict[str, Stage], broken: Path) -> Stage:
    """Return a stage whose first deployment was interrupted at every point and once failed."""
    stage = stages["cut"]
    for point in powercut.POINTS:
        if point == "proposed signet-api":
            failed = stage.deploy(package=broken)
            assert failed.returncode == 2, failed.stdout
            assert "Throttled (AWS::CloudWatch::Alarm): Threshold is required" in failed.stderr
            assert "still serving" not in failed.stderr
            assert stage.stack("api")["StackStatus"] == "ROLLBACK_COMPLETE"
        done = stage.deploy(stop_at=point, terminal=True)
        assert done.returncode == powercut.EXIT_CODE, (point, done.stdout, done.stderr)
    return stage


def test_deployment_interrupted_at_every_point_is_completed_by_running_it_again(interrupted: Stage) -> None:
    done = interrupted.deploy(terminal=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("No changes.") == 2
    assert [interrupted.stack(kind)["StackStatus"] for kind in ("data", "api")] == ["CREATE_COMPLETE"] * 2
    assert interrupted.versions() == ["1", "1"]
    users = json.loads(interrupted.ok("--stage", "cut", "user", "list", "--json"))
    assert [(user["username"], user["admin"]) for user in users] == [("admin", True)]
    # The first password was never shown, so a new one is set and shown.
    (password,) = re.findall(r"First account: admin, password (\S+)", done.stdout)
    browser = interrupted.browser()
    page = browser.sign_in(browser.authorize(interrupted.client()), "admin", password)
    assert "new_password" in page.body
    flow(interrupted, "carol")


def test_destroy_asks_for_the_name_of_the_stage_and_keeps_the_data(interrupted: Stage) -> None:
    tables = interrupted.tables()
    for options, code, message in (
        (["--confirm", "prod"], 1, "Nothing has been changed."),
        ([], 2, "Without a terminal to ask for confirmation, --confirm cut is required."),
    ):
        done = interrupted.run("destroy", "--stage", "cut", *options, stdin="cut\n")
        assert done.returncode == code
        assert message in done.stderr
        assert interrupted.get("/healthz").status == 200
    done = interrupted.run("destroy", "--stage", "cut", "--confirm", "cut")
    assert done.returncode == 0, done.stderr
    assert "signet-data-cut is kept" in done.stdout
    assert interrupted.stack("api")["StackStatus"] is None
    assert interrupted.tables() == tables
    # After another deployment, the users and clients are the same.
    assert interrupted.deploy().returncode == 0
    browser = interrupted.browser()
    assert "Photo Print" in browser.sign_in(browser.authorize(interrupted.client()), "carol").body


def test_interrupted_destroy_with_data_is_completed_by_running_it_again(interrupted: Stage) -> None:
    keys = interrupted.emulator.client("cloudformation").describe_stack_resource(
        StackName="signet-data-cut", LogicalResourceId="Key"
    )["StackResourceDetail"]["PhysicalResourceId"]
    for point in powercut.LAST_POINTS:
        done = interrupted.run("destroy", "--stage", "cut", "--with-data", "--confirm", "cut", stop_at=point)
        assert done.returncode == powercut.EXIT_CODE, (point, done.stdout, done.stderr)
    done = interrupted.run("destroy", "--stage", "cut", "--with-data", "--confirm", "cut")
    assert done.returncode == 0, done.stderr
    assert interrupted.tables() == []
    assert [interrupted.stack(kind)["StackStatus"] for kind in ("data", "api")] == [None, None]
    assert interrupted.emulator.client("kms").describe_key(KeyId=keys)["KeyMetadata"]["KeyState"] == "PendingDeletion"


# ---- the front, as far as the emulator has it: it stores a distribution and a firewall, but answers no request there

EDGE = "login.signet.invalid"
CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"


def deploy_front(stage: Stage, *more: str, stop_at: str = "never") -> str:
    options = ["--architecture", ARCHITECTURE, "--issuer", f"https://{EDGE}", "--no-admin", "--no-doctor"]
    done = stage.run("deploy", "--stage", "edge", "--yes", *options, *more, stop_at=stop_at)
    assert done.returncode == (0 if stop_at == "never" else powercut.EXIT_CODE), done.stderr
    stage.open_key()
    stage.secrets.add(sent_secret(stage))
    assert not [secret for secret in stage.secrets if secret in done.stdout + done.stderr]
    return done.stdout


def distribution(stage: Stage) -> tuple[str, dict[str, Any]]:
    """Return the id and the configuration of the stage's distribution."""
    cloudfront = stage.emulator.client("cloudfront")
    (item,) = cloudfront.list_distributions()["DistributionList"]["Items"]
    return item["Id"], cloudfront.get_distribution_config(Id=item["Id"])["DistributionConfig"]


def sent_secret(stage: Stage) -> str:
    (origin,) = distribution(stage)[1]["Origins"]["Items"]
    (header,) = origin["CustomHeaders"]["Items"]
    assert header["HeaderName"] == "X-Signet-Proxy-Secret"
    return str(header["HeaderValue"])


def through_front(stage: Stage, secret: str) -> int:
    """Return the status of a request that a front with this secret sends."""
    headers = {"X-Signet-Proxy-Secret": secret, "X-Signet-Caller-Address": "203.0.113.9"}
    return stage.browser().get("/healthz", headers).status


@pytest.fixture(scope="module")
def edge(stages: dict[str, Stage]) -> Stage:
    output = deploy_front(stages["edge"], "--front", "cloudfront", "--param", f"FrontCertificateArn={CERTIFICATE}")
    target = distribution(stages["edge"])[0]
    assert re.search(rf"DNS: point {EDGE} to \S+\.cloudfront\.net", output), target
    return stages["edge"]


def test_new_stage_answers_only_what_its_front_sends(edge: Stage) -> None:
    _, config = distribution(edge)
    assert config["Aliases"]["Items"] == [EDGE]
    assert ".execute-api." in config["Origins"]["Items"][0]["DomainName"]
    assert config["WebACLId"].startswith("arn:aws:wafv2:us-east-1:")
    assert edge.get("/healthz").status == 403
    assert through_front(edge, "guess") == 403
    assert through_front(edge, sent_secret(edge)) == 200


def test_doctor_knows_the_front(edge: Stage) -> None:
    findings = json.loads(edge.run("doctor", "--stage", "edge", "--json").stdout)
    (finding,) = [finding for finding in findings if finding["name"] == "front"]
    assert finding["ok"], finding


def test_later_deployment_keeps_the_front_and_its_secret(edge: Stage) -> None:
    secret = sent_secret(edge)
    assert deploy_front(edge).count("No changes.") == 3
    assert sent_secret(edge) == secret
    changed = deploy_front(edge, "--param", "RequestsPerFiveMinutes=100")
    assert re.search(r"Modify +Firewall ", changed)
    assert sent_secret(edge) == secret


def test_interrupted_rotation_of_the_secret_leaves_the_stage_reachable_and_is_completed(edge: Stage) -> None:
    before = sent_secret(edge)
    for point in ("before deploy_front", "before settle_front"):
        deploy_front(edge, "--rotate-front-secret", stop_at=point)
        assert through_front(edge, sent_secret(edge)) == 200
    deploy_front(edge)
    after = sent_secret(edge)
    assert [through_front(edge, secret) for secret in (before, after)] == [403, 200]


def test_destroy_removes_the_front(edge: Stage) -> None:
    done = edge.run("destroy", "--stage", "edge", "--with-data", "--confirm", "edge")
    assert done.returncode == 0, done.stderr
    assert "The front of edge was deleted." in done.stdout
    assert edge.emulator.client("cloudfront").list_distributions()["DistributionList"].get("Items", []) == []


# ---- declined, interrupted and failed commands


@pytest.fixture
def odd(stages: dict[str, Stage]) -> Stage:
    return stages["odd"]


def test_change_without_a_terminal_to_confirm_it_leaves_no_stack(odd: Stage) -> None:
    done = odd.run("data", "--stage", "odd", stdin="y\n")
    assert done.returncode == 2
    assert done.stderr.endswith("Without a terminal to ask for confirmation, --yes is required.\n")
    assert odd.stack("data")["StackStatus"] is None
    assert odd.tables() == []


def test_interrupted_command_says_how_to_continue(odd: Stage) -> None:
    done = odd.run("data", "--stage", "odd", "--yes", stop_at="interrupted signet-data")
    assert done.returncode == 2
    assert done.stderr.startswith("Interrupted.")
    assert odd.run("destroy", "--stage", "odd", "--with-data", "--confirm", "odd").returncode == 0
    assert odd.tables() == []


def test_failed_creation_of_tables_is_resumed_by_the_next_command(odd: Stage, tmp_path: Path) -> None:
    schema, file = yaml.safe_load(SCHEMA.read_text()), tmp_path / "tables.yaml"
    alarm = {"Namespace": "Signet", "MetricName": "x", "ComparisonOperator": "GreaterThanThreshold"}
    schema["Resources"]["Users"]["DependsOn"] = "Broken"
    schema["Resources"]["Broken"] = {"Type": "AWS::CloudWatch::Alarm", "DependsOn": "Clients", "Properties": alarm}
    file.write_text(yaml.safe_dump(schema))
    failed = odd.run("data", "--stage", "odd", "--yes", schema=file)
    assert failed.returncode == 2, failed.stdout
    assert "Broken (AWS::CloudWatch::Alarm): Threshold is required" in failed.stderr
    # Created tables are kept, because they may hold data.
    assert "signet-odd-clients" in odd.tables()
    assert "signet-odd-users" not in odd.tables()
    assert odd.stack("data")["StackStatus"] == "CREATE_FAILED"
    done = odd.run("data", "--stage", "odd", "--yes")
    assert done.returncode == 0, done.stderr
    assert len(odd.tables()) == 17
    assert odd.stack("data")["StackStatus"] == "UPDATE_COMPLETE"


@pytest.mark.parametrize(
    ("parameter", "names"),
    [
        ("DomainName=login.example.com", "DomainName and CertificateArn"),
        ("MonthlyBudget=20", "MonthlyBudget and BudgetEmail"),
        ("BudgetEmail=alice@example.com", "MonthlyBudget and BudgetEmail"),
    ],
)
def test_parameter_without_the_other_that_it_needs_is_rejected_before_any_change(
    odd: Stage, parameter: str, names: str
) -> None:
    done = odd.deploy("--param", parameter)
    assert done.returncode == 2
    assert (done.stdout, done.stderr) == ("", f"Set both {names}, or neither.\n")


def test_identity_of_mails_without_their_sender_is_rejected_before_any_change(odd: Stage) -> None:
    done = odd.deploy("--param", "EmailIdentity=example.com")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "EmailIdentity requires EmailFrom, the address that mails are sent from.\n"


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        (["CallerAddressHeader=X-Caller"], "requires SIGNET_PROXY_SECRET_HASH"),
        ([f"ProxySecretHash={TOKEN_HASH}"], "requires SIGNET_CALLER_ADDRESS_HEADER"),
        (["CallerAddressHeader=X-Forwarded-For", f"ProxySecretHash={TOKEN_HASH}"], "it is a list"),
    ],
)
def test_proxy_that_the_server_would_not_accept_is_rejected_before_any_change(
    odd: Stage, parameters: list[str], reason: str
) -> None:
    done = odd.deploy(*(word for parameter in parameters for word in ("--param", parameter)))
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert reason in done.stderr


def test_error_of_cloudformation_is_reported_in_one_line(odd: Stage) -> None:
    done = odd.deploy("--param", "LogRetentionDays=2")
    assert done.returncode == 2
    assert "LogRetentionDays" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert odd.stack("api")["StackStatus"] in (None, "REVIEW_IN_PROGRESS")


# ---- invalid options


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["deploy"], "Name the stage"),
        (["deploy", "--stage", "local"], "Name the stage"),
        (["data", "--stage", "a/b"], "SIGNET_STAGE"),
        (["deploy", "--stage", "prod", "--param", "DomianName=x"], "Did you mean 'DomainName'?"),
        (["deploy", "--stage", "prod", "--param", "Stage=dev"], "there is no parameter 'Stage'"),
        (["deploy", "--stage", "prod", "--issuer", "http://example.com"], "SIGNET_ISSUER"),
    ],
)
def test_invalid_option_is_rejected_in_one_line(arguments: list[str], message: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SIGNET_"))}
    # Without a region and an endpoint, so that a call to AWS would be another error.
    done = subprocess.run(
        [sys.executable, "-m", "infra", *arguments],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
