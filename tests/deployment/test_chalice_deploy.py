"""Plain `chalice deploy` against moto: deploy, deploy again, run the flow, check with the doctor, delete."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import pytest
from moto.apigateway.models import APIGatewayBackend
from moto.server import ThreadedMotoServer

import app
from chalicelib import web
from chalicelib.events import log as event_log
from chalicelib.keys.ring import KeyRing
from chalicelib.settings import Settings
from chalicelib.storage.store import Store
from infra.local.embedded import create_tables
from infra.local.state import CHECKOUT
from infra.operator.doctor import check
from tests.support.gateways import Gateway, GatewayBrowser, rest
from tests.support.operator import command_runner
from tests.support.site import PASSWORD, Registered, Site

REGION = "eu-west-1"
STAGE = "dev"
NEVER_DEPLOYED = ("infra", "tests", ".git", ".venv", "deployed", "deployments", "__pycache__")


@pytest.fixture(scope="module")
def moto_server(_moto: None) -> Iterator[str]:
    """Serve moto over HTTP for chalice in another process. Its data is also visible in this process.

    moto supports only OpenAPI 3 and requires a description, but chalice sends Swagger 2. Both are the same in what moto
    reads (paths, methods, integrations), so the version is removed and a description added.
    """
    put, import_ = APIGatewayBackend.put_rest_api, APIGatewayBackend.import_rest_api

    def put_swagger(backend: Any, function_id: str, api_doc: dict[str, Any], *rest_: Any, **more: Any) -> Any:
        return put(backend, function_id, {k: v for k, v in api_doc.items() if k != "swagger"}, *rest_, **more)

    def import_swagger(backend: Any, api_doc: dict[str, Any], fail_on_warnings: bool) -> Any:
        api_doc["info"].setdefault("description", "")
        return import_(backend, api_doc, fail_on_warnings)

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with (
        mock.patch.object(APIGatewayBackend, "put_rest_api", put_swagger),
        mock.patch.object(APIGatewayBackend, "import_rest_api", import_swagger),
    ):
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


@dataclass(frozen=True)
class Project:
    """A copy of the project, so that chalice does not write its deployment records into the checkout."""

    folder: Path
    endpoint: str

    def chalice(self, command: str) -> str:
        """Run a chalice command and return its output."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SIGNET_"))},
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "PIP_NO_INDEX": "1",
        }
        run = [str(Path(sys.executable).with_name("chalice")), command, "--stage", STAGE]
        done = subprocess.run(run, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def records(self) -> list[dict[str, Any]]:
        """Return chalice's records of the deployed resources."""
        resources: list[dict[str, Any]] = json.loads((self.folder / f".chalice/deployed/{STAGE}.json").read_text())[
            "resources"
        ]
        return resources


@pytest.fixture(scope="module")
def project(moto_server: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("project") / "signet"
    shutil.copytree(CHECKOUT, folder, ignore=shutil.ignore_patterns(*NEVER_DEPLOYED))
    # Without libraries, which would need the network and half a minute; test_package.py tests them.
    (folder / "requirements.txt").write_text("")
    return Project(folder, moto_server)


@pytest.fixture(scope="module")
def deployed(project: Project) -> Iterator[str]:
    """Deploy the stage, and return the id of its REST API."""
    printed = project.chalice("deploy")
    assert "Rest API URL: https://" in printed
    (api,) = aws("apigateway").get_rest_apis()["items"]
    yield api["id"]
    project.chalice("delete")
    assert api["id"] not in [remaining["id"] for remaining in aws("apigateway").get_rest_apis()["items"]]
    functions = aws("lambda").list_functions()["Functions"]
    assert not [remaining for remaining in functions if remaining["FunctionName"].startswith("signet-dev")]
    assert aws("events").list_rules(NamePrefix="signet-dev")["Rules"] == []
    assert not [role for role in aws("iam").list_roles()["Roles"] if role["RoleName"].startswith("signet-dev")]
    assert project.records == []


@pytest.fixture(scope="module")
def data(deployed: str) -> Iterator[None]:
    """Create the stage's tables, key and key ring."""
    create_tables(aws("dynamodb"), STAGE)
    key = aws("kms").create_key()["KeyMetadata"]["KeyId"]
    aws("kms").enable_key_rotation(KeyId=key)
    aws("kms").create_alias(AliasName=f"alias/signet-{STAGE}", TargetKeyId=key)
    KeyRing(Store(Settings(stage=STAGE, region=REGION, kms_key_id=f"alias/signet-{STAGE}"))).create()
    yield
    for table in Store(Settings(stage=STAGE, region=REGION)).tables:
        aws("dynamodb").delete_table(TableName=table.name)
    aws("kms").delete_alias(AliasName=f"alias/signet-{STAGE}")


def aws(service: Any) -> Any:
    return boto3.client(service, region_name=REGION)


def routes(api: str) -> set[tuple[str, str]]:
    resources = aws("apigateway").get_resources(restApiId=api, limit=500)["items"]
    return {(method, resource["path"]) for resource in resources for method in resource.get("resourceMethods", ())}


def test_api_has_exactly_the_routes_of_the_application(deployed: str) -> None:
    expected = (*app.JSON_ROUTES, *app.PAGE_ROUTES)
    further = {("OPTIONS", route.path) for route in expected if route.cross_origin}
    further |= {("HEAD", route.path) for route in expected if route.method == "GET"}
    assert routes(deployed) == {(route.method, route.path) for route in expected} | further
    gateway = aws("apigateway")
    function = aws("lambda").get_function(FunctionName="signet-dev")["Configuration"]["FunctionArn"]
    for resource in gateway.get_resources(restApiId=deployed, limit=500)["items"]:
        for method in resource.get("resourceMethods", ()):
            integration = gateway.get_integration(restApiId=deployed, resourceId=resource["id"], httpMethod=method)
            assert integration["type"] == "aws_proxy"
            assert f"{function}/invocations" in integration["uri"]
    assert [stage["stageName"] for stage in gateway.get_stages(restApiId=deployed)["item"]] == ["api"]


def test_function_has_the_configuration_of_the_project(deployed: str) -> None:
    configuration = aws("lambda").get_function(FunctionName="signet-dev")["Configuration"]
    assert configuration["Handler"] == "app.app"
    assert configuration["Runtime"] == f"python{sys.version_info.major}.{sys.version_info.minor}"
    assert configuration["Architectures"] == ["arm64"]
    assert (configuration["MemorySize"], configuration["Timeout"]) == (1024, 15)
    assert configuration["Environment"]["Variables"] == {"SIGNET_STAGE": "dev"}
    (statement,) = json.loads(aws("lambda").get_policy(FunctionName="signet-dev")["Policy"])["Statement"]
    assert statement["Principal"] == {"Service": "apigateway.amazonaws.com"}
    assert f":{deployed}/" in json.dumps(statement["Condition"])


def test_function_has_exactly_the_permissions_of_its_policy(deployed: str, project: Project) -> None:
    role = aws("lambda").get_function(FunctionName="signet-dev")["Configuration"]["Role"].rpartition("/")[2]
    (name,) = aws("iam").list_role_policies(RoleName=role)["PolicyNames"]
    policy = aws("iam").get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    assert policy == json.loads((project.folder / f".chalice/policy-{STAGE}.json").read_text())
    for statement in policy["Statement"]:
        assert "*" not in statement["Action"]
        assert statement["Resource"] != "*"
    assert aws("iam").list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []


def test_second_deployment_updates_the_code_and_keeps_the_address(deployed: str, project: Project) -> None:
    before, records = routes(deployed), project.records
    code = aws("lambda").get_function(FunctionName="signet-dev")["Configuration"]["CodeSha256"]
    assert "Updating rest API" in project.chalice("deploy")
    assert routes(deployed) == before
    assert [api["id"] for api in aws("apigateway").get_rest_apis()["items"]] == [deployed]
    assert aws("lambda").get_function(FunctionName="signet-dev")["Configuration"]["CodeSha256"] == code
    assert len(project.records) == len(records)
    # A changed source is deployed, and the address does not change.
    with (project.folder / "chalicelib/__init__.py").open("a") as file:
        file.write("\n# changed\n")
    project.chalice("deploy")
    assert aws("lambda").get_function(FunctionName="signet-dev")["Configuration"]["CodeSha256"] != code
    assert [api["id"] for api in aws("apigateway").get_rest_apis()["items"]] == [deployed]


def test_each_schedule_calls_its_own_function_with_the_same_policy(deployed: str) -> None:
    events, functions = aws("events"), aws("lambda")
    rules = {rule["Name"]: rule["ScheduleExpression"] for rule in events.list_rules(NamePrefix="signet-dev")["Rules"]}
    assert sorted(rules.values()) == sorted(schedule.rate for schedule in app.SCHEDULES)
    for schedule in app.SCHEDULES:
        configuration = functions.get_function(FunctionName=f"signet-dev-{schedule.name}")["Configuration"]
        assert configuration["Handler"] == f"app.{schedule.name}"
        assert configuration["Environment"]["Variables"] == {"SIGNET_STAGE": "dev"}
        (rule,) = events.list_rule_names_by_target(TargetArn=configuration["FunctionArn"])["RuleNames"]
        assert rules[rule] == schedule.rate
        assert callable(getattr(app, schedule.name))
        role = configuration["Role"].rpartition("/")[2]
        (name,) = aws("iam").list_role_policies(RoleName=role)["PolicyNames"]
        policy = aws("iam").get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        assert policy == json.loads((CHECKOUT / f".chalice/policy-{STAGE}.json").read_text())


@pytest.fixture
def browser(
    site: Site, deployed: str, data: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> GatewayBrowser:
    """Return a browser of the REST API, whose function runs in this process with the deployed environment."""
    variables = aws("lambda").get_function(FunctionName="signet-dev")["Configuration"]["Environment"]["Variables"]
    for name, value in {**variables, "AWS_LAMBDA_FUNCTION_NAME": "signet-dev", "AWS_REGION": REGION}.items():
        monkeypatch.setenv(name, value)
    # In Lambda the log has its own handler, which must not affect other tests.
    monkeypatch.setattr(event_log, "_write_bare_json", lambda: None, raising=False)
    handler, _ = web.build(app.JSON_ROUTES, app.PAGE_ROUTES, app.connect)
    gateway = Gateway("deployed", rest, f"{deployed}.execute-api.{REGION}.amazonaws.com", "api")
    return GatewayBrowser(site, gateway, handler)


def test_whole_flow_works_at_the_address_of_the_gateway(
    browser: GatewayBrowser, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_command = command_runner(monkeypatch, capsys, STAGE)
    client_options = (
        "--name",
        "Photo Print",
        "--redirect-uri",
        "https://client.example.com/cb",
        "--scope",
        "openid email",
    )
    created = json.loads(run_command("client", "create", "--json", *client_options).out)
    monkeypatch.setattr("infra.operator.users.password_from_stdin", lambda: PASSWORD)
    options = ["--username", "alice", "--email", "alice@example.com", "--password-stdin"]
    assert run_command("user", "create", *options).code == 0
    store = Store(Settings(stage=STAGE, region=REGION))
    record = store.clients.get(created["client_id"])
    assert record
    client = Registered(record, created["client_secret"])

    issuer = browser.gateway.url
    assert browser.get("/.well-known/openid-configuration").json["issuer"] == issuer
    consent = browser.sign_in(browser.authorize(client, scope="openid email"))
    answer = browser.submit(consent, decision="allow_once").answer
    assert answer["iss"] == issuer
    tokens = browser.redeem(client, answer["code"]).json
    assert browser.userinfo(tokens["access_token"]).json["email"] == "alice@example.com"
    # The key ring is sealed by KMS: the table contains no private key.
    ring = store.keys.get("main")
    assert ring
    assert b"PRIVATE" not in ring.sealed


def test_doctor_reports_what_chalice_deploy_lacks(browser: GatewayBrowser, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(Settings(stage=STAGE, region=REGION, kms_key_id=f"alias/signet-{STAGE}"))
    findings = {finding.name: finding for finding in check(None, store)}
    healthy = ("tables", "expiry", "backups", "KMS key", "key ring", "function")
    assert {name: findings[name].ok for name in healthy} == dict.fromkeys(healthy, True)
    # moto lacks deletion protection and encryption; `signet deploy` pins the issuer and creates alarms.
    assert not findings["deletion protection"].ok
    assert not findings["encryption"].ok
    assert findings["pinned issuer"].ok is False
    assert "SIGNET_ISSUER" in findings["pinned issuer"].fix
    assert findings["alarms"].ok is None
