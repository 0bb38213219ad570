"""The quick way to AWS, `chalice deploy`, against moto: deployed, deployed again, used, looked at, deleted."""

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
from chalicelib import audit, web
from chalicelib.settings import Settings
from chalicelib.store import Store
from infra.doctor import check
from infra.embedded import create_tables
from infra.state import CHECKOUT
from tests.gateways import Front, FrontBrowser, rest
from tests.operator import operator
from tests.site import PASSWORD, Registered, Site

REGION = "eu-west-1"
STAGE = "dev"
NEVER_DEPLOYED = ("infra", "tests", ".git", ".venv", "deployed", "deployments", "__pycache__")


@pytest.fixture(scope="module")
def moto_server(_moto: None) -> Iterator[str]:
    """moto over HTTP, for a chalice that runs in a process of its own; what lies in it is seen in this process too.

    moto reads OpenAPI 3 only, and wants a description; chalice sends Swagger 2, which differs in nothing that moto
    looks at (paths, methods, integrations). So the version is taken off, and a description given.
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
    """A copy of the project, so that chalice's records of what it deployed do not land in the checkout."""

    folder: Path
    endpoint: str

    def chalice(self, command: str) -> str:
        """Run a chalice command; what it printed."""
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
        """What chalice says that it has deployed."""
        resources: list[dict[str, Any]] = json.loads((self.folder / f".chalice/deployed/{STAGE}.json").read_text())[
            "resources"
        ]
        return resources


@pytest.fixture(scope="module")
def project(moto_server: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("project") / "signet"
    shutil.copytree(CHECKOUT, folder, ignore=shutil.ignore_patterns(*NEVER_DEPLOYED))
    # Building the libraries is `infra/package.py`'s to prove; here it would take the network, and half a minute.
    (folder / "requirements.txt").write_text("")
    return Project(folder, moto_server)


@pytest.fixture(scope="module")
def deployed(project: Project) -> Iterator[str]:
    """The stage, deployed: the id of its REST API."""
    printed = project.chalice("deploy")
    assert "Rest API URL: https://" in printed
    (api,) = aws("apigateway").get_rest_apis()["items"]
    yield api["id"]
    project.chalice("delete")
    assert api["id"] not in [left["id"] for left in aws("apigateway").get_rest_apis()["items"]]
    functions = aws("lambda").list_functions()["Functions"]
    assert not [left for left in functions if left["FunctionName"].startswith("signet-dev")]
    assert aws("events").list_rules(NamePrefix="signet-dev")["Rules"] == []
    assert not [role for role in aws("iam").list_roles()["Roles"] if role["RoleName"].startswith("signet-dev")]
    assert project.records == []


@pytest.fixture(scope="module")
def data(deployed: str) -> Iterator[None]:
    """The stage's tables and key."""
    create_tables(aws("dynamodb"), STAGE)
    key = aws("kms").create_key()["KeyMetadata"]["KeyId"]
    aws("kms").enable_key_rotation(KeyId=key)
    aws("kms").create_alias(AliasName=f"alias/signet-{STAGE}", TargetKeyId=key)
    yield
    for table in Store(Settings(stage=STAGE, region=REGION)).tables:
        aws("dynamodb").delete_table(TableName=table.name)
    aws("kms").delete_alias(AliasName=f"alias/signet-{STAGE}")


def aws(service: Any) -> Any:
    return boto3.client(service, region_name=REGION)


def routes(api: str) -> set[tuple[str, str]]:
    found = aws("apigateway").get_resources(restApiId=api, limit=500)["items"]
    return {(method, resource["path"]) for resource in found for method in resource.get("resourceMethods", ())}


def test_every_route_leads_to_the_function_and_no_other_does(deployed: str) -> None:
    given = (*app.JSON_ROUTES, *app.PAGE_ROUTES)
    shared = {("OPTIONS", route.path) for route in given if route.cross_origin}
    assert routes(deployed) == {(route.method, route.path) for route in given} | shared
    gateway = aws("apigateway")
    function = aws("lambda").get_function(FunctionName="signet-dev")["Configuration"]["FunctionArn"]
    for resource in gateway.get_resources(restApiId=deployed, limit=500)["items"]:
        for method in resource.get("resourceMethods", ()):
            found = gateway.get_integration(restApiId=deployed, resourceId=resource["id"], httpMethod=method)
            assert found["type"] == "aws_proxy"
            assert f"{function}/invocations" in found["uri"]
    assert [stage["stageName"] for stage in gateway.get_stages(restApiId=deployed)["item"]] == ["api"]


def test_the_function_is_what_the_project_says(deployed: str) -> None:
    found = aws("lambda").get_function(FunctionName="signet-dev")["Configuration"]
    assert found["Handler"] == "app.app"
    assert found["Runtime"] == f"python{sys.version_info.major}.{sys.version_info.minor}"
    assert found["Architectures"] == ["arm64"]
    assert (found["MemorySize"], found["Timeout"]) == (1024, 15)
    assert found["Environment"]["Variables"] == {"SIGNET_STAGE": "dev"}
    (statement,) = json.loads(aws("lambda").get_policy(FunctionName="signet-dev")["Policy"])["Statement"]
    assert statement["Principal"] == {"Service": "apigateway.amazonaws.com"}
    assert f":{deployed}/" in json.dumps(statement["Condition"])


def test_the_function_may_do_what_its_policy_names_and_nothing_else(deployed: str, project: Project) -> None:
    role = aws("lambda").get_function(FunctionName="signet-dev")["Configuration"]["Role"].rpartition("/")[2]
    (name,) = aws("iam").list_role_policies(RoleName=role)["PolicyNames"]
    policy = aws("iam").get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    assert policy == json.loads((project.folder / f".chalice/policy-{STAGE}.json").read_text())
    for statement in policy["Statement"]:
        assert "*" not in statement["Action"]
        assert statement["Resource"] != "*"
    assert aws("iam").list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []


def test_the_project_can_be_deployed_again(deployed: str, project: Project) -> None:
    before, records = routes(deployed), project.records
    code = aws("lambda").get_function(FunctionName="signet-dev")["Configuration"]["CodeSha256"]
    assert "Updating rest API" in project.chalice("deploy")
    assert routes(deployed) == before
    assert [api["id"] for api in aws("apigateway").get_rest_apis()["items"]] == [deployed]
    assert aws("lambda").get_function(FunctionName="signet-dev")["Configuration"]["CodeSha256"] == code
    assert len(project.records) == len(records)
    # A change arrives, and the address stays.
    with (project.folder / "chalicelib/__init__.py").open("a") as file:
        file.write("\n# changed\n")
    project.chalice("deploy")
    assert aws("lambda").get_function(FunctionName="signet-dev")["Configuration"]["CodeSha256"] != code
    assert [api["id"] for api in aws("apigateway").get_rest_apis()["items"]] == [deployed]


def test_every_schedule_calls_a_function_of_its_own_with_the_same_policy(deployed: str) -> None:
    events, functions = aws("events"), aws("lambda")
    rules = {rule["Name"]: rule["ScheduleExpression"] for rule in events.list_rules(NamePrefix="signet-dev")["Rules"]}
    assert sorted(rules.values()) == sorted(schedule.rate for schedule in app.SCHEDULES)
    for schedule in app.SCHEDULES:
        found = functions.get_function(FunctionName=f"signet-dev-{schedule.name}")["Configuration"]
        assert found["Handler"] == f"app.{schedule.name}"
        assert found["Environment"]["Variables"] == {"SIGNET_STAGE": "dev"}
        (rule,) = events.list_rule_names_by_target(TargetArn=found["FunctionArn"])["RuleNames"]
        assert rules[rule] == schedule.rate
        assert callable(getattr(app, schedule.name))
        role = found["Role"].rpartition("/")[2]
        (name,) = aws("iam").list_role_policies(RoleName=role)["PolicyNames"]
        policy = aws("iam").get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        assert policy == json.loads((CHECKOUT / f".chalice/policy-{STAGE}.json").read_text())


@pytest.fixture
def behind(
    site: Site, deployed: str, data: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> FrontBrowser:
    """A browser at the REST API, whose function runs in this process under the environment that was deployed."""
    variables = aws("lambda").get_function(FunctionName="signet-dev")["Configuration"]["Environment"]["Variables"]
    for name, value in {**variables, "AWS_LAMBDA_FUNCTION_NAME": "signet-dev", "AWS_REGION": REGION}.items():
        monkeypatch.setenv(name, value)
    # In Lambda the log has an output of its own, which the other tests must not inherit.
    monkeypatch.setattr(audit, "_bare", lambda: None, raising=False)
    handler, _ = web.build(app.JSON_ROUTES, app.PAGE_ROUTES, app.connect)
    front = Front("deployed", rest, f"{deployed}.execute-api.{REGION}.amazonaws.com", "api")
    return FrontBrowser(site, front, handler)


def test_the_whole_flow_works_under_the_gateways_address(
    behind: FrontBrowser, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    operate = operator(monkeypatch, capsys, STAGE)
    client_options = (
        "--name",
        "Photo Print",
        "--redirect-uri",
        "https://client.example.com/cb",
        "--scope",
        "openid email",
    )
    made = json.loads(operate("client", "create", "--json", *client_options).out)
    monkeypatch.setattr("infra.users.password_from_stdin", lambda: PASSWORD)
    options = ["--username", "alice", "--email", "alice@example.com", "--password-stdin"]
    assert operate("user", "create", *options).code == 0
    store = Store(Settings(stage=STAGE, region=REGION))
    record = store.clients.get(made["client_id"])
    assert record
    client = Registered(record, made["client_secret"])

    issuer = behind.front.url
    assert behind.get("/.well-known/openid-configuration").json["issuer"] == issuer
    consent = behind.sign_in(behind.authorize(client, scope="openid email"))
    answer = behind.submit(consent, decision="allow_once").answer
    assert answer["iss"] == issuer
    tokens = behind.redeem(client, answer["code"]).json
    assert behind.userinfo(tokens["access_token"]).json["email"] == "alice@example.com"
    # The ring lies sealed by KMS: what is in the table opens nothing.
    ring = store.keys.get("main")
    assert ring
    assert b"PRIVATE" not in ring.sealed


def test_the_doctor_says_what_the_quick_way_lacks(behind: FrontBrowser, monkeypatch: pytest.MonkeyPatch) -> None:
    behind.get("/oauth2/jwks")  # makes the key ring
    store = Store(Settings(stage=STAGE, region=REGION, kms_key_id=f"alias/signet-{STAGE}"))
    found = {finding.name: finding for finding in check(None, store)}
    well = ("tables", "expiry", "backups", "KMS key", "key ring", "function")
    assert {name: found[name].ok for name in well} == dict.fromkeys(well, True)
    # moto's tables were made without what only AWS has; the issuer and the alarms come with `deploy`.
    assert not found["deletion protection"].ok
    assert not found["encryption"].ok
    assert found["pinned issuer"].ok is False
    assert "SIGNET_ISSUER" in found["pinned issuer"].fix
    assert found["alarms"].ok is None
