"""The real `deploy` against an emulated AWS, and the whole flow over HTTP against what it has made."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import jwt
import pytest
import yaml

import app
from chalicelib.models import Client
from chalicelib.settings import Settings
from infra.embedded import SCHEMA
from infra.state import CHECKOUT
from tests import powercut
from tests.browser import Answer, Browser
from tests.emulator import Emulator, Front, NotInstallable, interpreter
from tests.packaging import ARCHITECTURE, packaged
from tests.site import PASSWORD, Registered, Site

TOKEN = "operator-token-of-the-tests"
TOKEN_HASH = hashlib.sha256(TOKEN.encode()).hexdigest()


@dataclass
class Stage:
    """A stage in the emulated AWS, and the operator's command for it."""

    name: str
    emulator: Emulator
    front: Front
    package: Path
    secrets: set[str] = field(default_factory=set)
    browsers: list[Browser] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        return Settings(stage=self.name, issuer=self.front.url)

    @property
    def port(self) -> int:
        return self.front.port

    def run(
        self,
        *arguments: str,
        cut: str = "never",
        stdin: str = "",
        package: Path | None = None,
        schema: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """The operator's command, with the package that the tests share."""
        instead = {"SIGNET_TEST_PACKAGE": str(package or self.package), "SIGNET_TEST_SCHEMA": str(schema or SCHEMA)}
        instead["TMPDIR"] = str(self.package.parent)  # who is cut off leaves a folder behind
        return self._run("tests.powercut", cut, *arguments, stdin=stdin, **instead)

    def really(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The operator's command as it is."""
        return self._run("infra", *arguments)

    def _run(self, module: str, *arguments: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SIGNET_"))}
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=CHECKOUT,
            env={**kept, **self.emulator.environment, **more},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def deploy(self, *more: str, cut: str = "never", package: Path | None = None) -> subprocess.CompletedProcess[str]:
        options = ["--stage", self.name, "--yes", "--architecture", ARCHITECTURE, "--issuer", self.front.url]
        done = self.run("deploy", *options, *more, cut=cut, package=package)
        self.secrets.update(re.findall(r"Administrator: admin, password (\S+)", done.stdout))
        self.open_key()
        return done

    def open_key(self) -> None:
        """Let the function use the key, whatever the encryption context: ministack knows no such condition.

        Everything else is held to what infra/api.yaml allows.
        """
        iam, data = self.emulator.client("iam"), self.outputs("data")
        for role in iam.list_roles()["Roles"]:
            if role["RoleName"].startswith(f"signet-api-{self.name}-"):
                allowed = {
                    "Effect": "Allow",
                    "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
                    "Resource": data["KeyArn"],
                }
                document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
                iam.put_role_policy(RoleName=role["RoleName"], PolicyName="no-conditions", PolicyDocument=document)

    # ---- what is in it

    def client(self) -> Registered:
        uri, scope = "https://client.example.com/cb", "openid profile email offline_access"
        options = ["--name", "Photo Print", "--redirect-uri", uri, "--scope", scope, "--json"]
        made = json.loads(self.ok("--stage", self.name, "client", "create", *options))
        self.secrets.add(made["client_secret"])
        return Registered(Client(made["client_id"], "Photo Print", (uri,)), made["client_secret"])

    def user(self, username: str) -> None:
        options = ["--username", username, "--email", f"{username}@example.com", "--password-stdin"]
        self.ok("--stage", self.name, "user", "create", *options, stdin=PASSWORD)

    def ok(self, *arguments: str, stdin: str = "") -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def browser(self) -> Browser:
        self.browsers.append(Browser(cast(Site, self)))
        return self.browsers[-1]

    def get(self, path: str, **headers: str) -> Answer:
        return self.browser().get(path, headers=headers)

    def close(self) -> None:
        for browser in self.browsers:
            browser.close()
        self.front.close()

    # ---- what AWS says of it

    def stack(self, kind: str) -> dict[str, Any]:
        stacks = self.emulator.client("cloudformation").describe_stacks()["Stacks"]
        found = [one for one in stacks if one["StackName"] == f"signet-{kind}-{self.name}"]
        return found[0] if found else {"StackStatus": None}

    def outputs(self, kind: str) -> dict[str, str]:
        return {one["OutputKey"]: one["OutputValue"] for one in self.stack(kind).get("Outputs", ())}

    def versions(self) -> list[str]:
        """The published versions of the function, and then where the alias points."""
        aws = self.emulator.client("lambda")
        (name,) = (
            one["FunctionName"]
            for one in aws.list_functions()["Functions"]
            if one["FunctionName"].startswith(f"signet-api-{self.name}-")
        )
        published = [one["Version"] for one in aws.list_versions_by_function(FunctionName=name)["Versions"]]
        alias = aws.get_alias(FunctionName=name, Name="live")["FunctionVersion"]
        return [*(version for version in published if version != "$LATEST"), alias]

    def tables(self) -> list[str]:
        names = self.emulator.client("dynamodb").list_tables()["TableNames"]
        return [name for name in names if name.startswith(f"signet-{self.name}-")]


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    try:
        interpreter()
    except NotInstallable as reason:
        if os.environ.get("CI"):
            pytest.fail(f"In CI the emulated AWS has to be there, but {reason}")
        pytest.skip(f"The emulated AWS is not there: {reason}")
    emulator = Emulator(tmp_path_factory.mktemp("ministack"))
    yield emulator
    emulator.close()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = packaged()
    file = tmp_path_factory.mktemp("package") / "package.json"
    file.write_text(json.dumps({"template": made.template, "zip": str(made.zip), "sha256": made.sha256}))
    return file


@pytest.fixture(scope="module")
def broken(package: Path) -> Path:
    """A package whose zip is none, and whose template has an alarm without a threshold."""
    made, file = json.loads(package.read_text()), package.with_name("broken.json")
    del made["template"]["Resources"]["Throttled"]["Properties"]["Threshold"]
    content = package.with_name("broken.zip")
    content.write_bytes(b"not a zip")
    file.write_text(
        json.dumps(made | {"zip": str(content), "sha256": hashlib.sha256(content.read_bytes()).hexdigest()})
    )
    return file


@pytest.fixture(scope="module")
def stages(emulator: Emulator, package: Path) -> Iterator[dict[str, Stage]]:
    """Stages by name, each behind an address of its own."""
    made = {name: Stage(name, emulator, Front(emulator, name), package) for name in ("prod", "vault", "cut", "odd")}
    yield made
    for stage in made.values():
        stage.close()


@pytest.fixture(scope="module")
def first(stages: dict[str, Stage]) -> subprocess.CompletedProcess[str]:
    """The first deployment, with nothing put in its place."""
    stage = stages["prod"]
    options = [
        "--architecture",
        ARCHITECTURE,
        "--issuer",
        stage.front.url,
        "--param",
        f"OperatorTokenHash={TOKEN_HASH}",
    ]
    done = stage.really("deploy", "--stage", "prod", "--yes", *options)
    stage.open_key()
    return done


@pytest.fixture
def prod(stages: dict[str, Stage], first: subprocess.CompletedProcess[str]) -> Stage:
    assert first.returncode == 0, first.stderr
    return stages["prod"]


def test_the_first_deployment_names_each_resource_and_shows_the_administrators_password_once(
    prod: Stage, first: subprocess.CompletedProcess[str]
) -> None:
    for name in ("Clients", "Grants", "Key", "APIHandler", "Alias", "HttpApi", "ServerErrors"):
        assert re.search(rf"Add +{name} ", first.stdout), name
        assert re.search(rf"\d s +\d+/\d+ +{name} +create complete", first.stdout), name
    assert f"Issuer: {prod.front.url}" in first.stdout
    (password,) = re.findall(r"Administrator: admin, password (\S+)", first.stdout)
    browser, client = prod.browser(), prod.client()
    page = browser.sign_in(browser.authorize(client), "admin", password)
    assert "new_password" in page.body


def flow(stage: Stage, username: str) -> None:
    """Sign in, allow, code, tokens, UserInfo, refresh, over HTTP."""
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
    assert browser.userinfo(refreshed.json["access_token"]).status == 401  # a code used twice ends its grant


def test_the_whole_flow_over_http_under_the_roles_own_permissions(prod: Stage) -> None:
    flow(prod, "alice")


def test_the_role_reaches_every_table_and_the_key(prod: Stage) -> None:
    answer = prod.get("/healthz?deep=1", Authorization=f"Bearer {TOKEN}")
    assert answer.status == 200, answer.body
    assert set(answer.json["tables"]) == set(prod.tables())


def test_the_schedules_call_the_version_that_serves_and_it_does_their_jobs(prod: Stage) -> None:
    aws, events = prod.emulator.client("lambda"), prod.emulator.client("events")
    rules = [rule for rule in events.list_rules()["Rules"] if rule["Name"].startswith("signet-api-prod-")]
    assert sorted(rule["ScheduleExpression"] for rule in rules) == sorted(one.rate for one in app.SCHEDULES)
    asked = []
    for rule in rules:
        (target,) = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
        assert target["Arn"].endswith(":live")
        answer = aws.invoke(FunctionName=target["Arn"], Payload=target["Input"].encode(), LogType="Tail")
        assert "FunctionError" not in answer, answer["Payload"].read()
        assert json.loads(answer["Payload"].read()) == {}
        log = base64.b64decode(answer["LogResult"]).decode()
        (line,) = (json.loads(text) for text in log.splitlines() if text.startswith("{"))
        assert (line["level"], line["outcome"]) == ("INFO", "ok"), line
        asked.append(line["schedule"])
    assert sorted(asked) == sorted(one.name for one in app.SCHEDULES)


# What the doctor may complain of here, and why it is not the deployment's fault.
EXPLAINED = {
    "cross-origin": "ministack answers OPTIONS itself",
    "expiry": "its CloudFormation makes tables without TTL",
    "backups": "and without point-in-time recovery",
    "deletion protection": "and without deletion protection",
    "encryption": "and without encryption",
    "alarms": "its CloudWatch holds no alarms that CloudFormation has made",
    "runtime": "the Python that runs the tests may be near its end",
}


def test_the_doctor_has_nothing_to_say_of_the_deployment_but_what_the_emulator_lacks(prod: Stage) -> None:
    done = prod.really("--stage", "prod", "doctor", prod.front.url, "--json")
    findings = json.loads(done.stdout)
    wrong = {finding["name"]: finding["detail"] for finding in findings if finding["ok"] is False}
    assert set(wrong) <= set(EXPLAINED), wrong
    assert done.returncode == bool(wrong)
    well = {finding["name"] for finding in findings if finding["ok"]}
    assert {"issuer", "keys", "tables", "key ring"} <= well, findings


def test_www_authenticate_arrives_although_the_gateway_renames_it(prod: Stage) -> None:
    answer = prod.get("/oauth2/userinfo", Authorization="Bearer nonsense")
    assert answer.status == 401
    assert (answer.header("WWW-Authenticate") or "").startswith("Bearer")
    assert answer.header("x-signet-www-authenticate") is None


def test_the_same_again_changes_nothing(prod: Stage) -> None:
    """The first deployment has built its package itself, and this one comes with the tests' own: building again gives
    the same bytes and the same template.
    """
    versions = prod.versions()
    again = prod.deploy()
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("Nothing to do.") == 2
    assert prod.versions() == versions


def test_another_parameter_is_another_version_and_the_one_before_is_gone(prod: Stage) -> None:
    before = prod.versions()[-1]
    done = prod.deploy("--param", "Name=Acme Accounts")
    assert done.returncode == 0, done.stderr
    after = prod.versions()
    assert after[0] == after[1] != before
    assert "Acme Accounts" in prod.get("/").body
    # What was given once is kept.
    assert "Nothing to do." in prod.deploy().stdout
    assert prod.get("/healthz?deep=1", Authorization=f"Bearer {TOKEN}").status == 200


def test_a_failed_deployment_says_where_and_why_and_leaves_the_version_before_serving(
    prod: Stage, broken: Path
) -> None:
    versions = prod.versions()
    done = prod.deploy(package=broken)
    assert done.returncode == 2, done.stdout
    assert re.search(r"failed at APIHandler \(AWS::Lambda::Function\): .*Could not unzip", done.stderr)
    assert "The version before it goes on serving." in done.stderr
    assert prod.versions() == versions
    assert prod.get("/healthz").status == 200


def test_where_the_keys_lie_cannot_be_changed_any_more(prod: Stage) -> None:
    prod.get("/oauth2/jwks")
    done = prod.deploy("--param", "Signing=kms")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stdout
    assert "Signing stays ring" in done.stderr
    assert "Nothing to do." in prod.deploy().stdout


def test_with_the_keys_in_kms_kms_signs(stages: dict[str, Stage]) -> None:
    stage = stages["vault"]
    done = stage.deploy("--param", "Signing=kms")
    assert done.returncode == 0, done.stderr
    flow(stage, "victor")


# ---- power cuts


@pytest.fixture(scope="module")
def cut(stages: dict[str, Stage], broken: Path) -> Stage:
    """A stage whose first deployment was cut off at every point, and failed once, each time started again."""
    stage = stages["cut"]
    for point in powercut.POINTS:
        if point == "proposed signet-api":
            failed = stage.deploy(package=broken)
            assert failed.returncode == 2, failed.stdout
            assert "Throttled (AWS::CloudWatch::Alarm): Threshold is required" in failed.stderr
            assert "goes on serving" not in failed.stderr
            assert stage.stack("api")["StackStatus"] == "ROLLBACK_COMPLETE"
        done = stage.deploy(cut=point)
        assert done.returncode == powercut.EXIT_CODE, (point, done.stdout, done.stderr)
    return stage


def test_cut_off_at_each_point_and_started_again_it_is_as_if_it_had_never_been(cut: Stage) -> None:
    done = cut.deploy()
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Nothing to do.") == 2
    assert [cut.stack(kind)["StackStatus"] for kind in ("data", "api")] == ["CREATE_COMPLETE"] * 2
    assert cut.versions() == ["1", "1"]
    users = json.loads(cut.ok("--stage", "cut", "user", "list", "--json"))
    assert [(user["username"], user["admin"]) for user in users] == [("admin", True)]
    # Whoever lost the first password, for it was made and never shown, is shown another.
    (password,) = re.findall(r"Administrator: admin, password (\S+)", done.stdout)
    browser = cut.browser()
    page = browser.sign_in(browser.authorize(cut.client()), "admin", password)
    assert "new_password" in page.body
    flow(cut, "carol")


def test_destroy_asks_for_the_stages_name_and_keeps_the_data(cut: Stage) -> None:
    tables = cut.tables()
    done = cut.run("destroy", "--stage", "cut", stdin="prod\n")
    assert done.returncode == 1
    assert "Nothing has been changed." in done.stderr
    assert cut.get("/healthz").status == 200
    done = cut.run("destroy", "--stage", "cut", stdin="cut\n")
    assert done.returncode == 0, done.stderr
    assert "What stays is signet-data-cut" in done.stdout
    assert cut.stack("api")["StackStatus"] is None
    assert cut.tables() == tables
    # The server comes back to the same people.
    assert cut.deploy().returncode == 0
    browser = cut.browser()
    assert "Photo Print" in browser.sign_in(browser.authorize(cut.client()), "carol").body


def test_destroy_with_data_cut_off_and_started_again_leaves_nothing_but_keys_that_can_be_saved(cut: Stage) -> None:
    keys = cut.emulator.client("cloudformation").describe_stack_resource(
        StackName="signet-data-cut", LogicalResourceId="Key"
    )["StackResourceDetail"]["PhysicalResourceId"]
    for point in powercut.LAST_POINTS:
        done = cut.run("destroy", "--stage", "cut", "--with-data", "--confirm", "cut", cut=point)
        assert done.returncode == powercut.EXIT_CODE, (point, done.stdout, done.stderr)
    done = cut.run("destroy", "--stage", "cut", "--with-data", "--confirm", "cut")
    assert done.returncode == 0, done.stderr
    assert cut.tables() == []
    assert [cut.stack(kind)["StackStatus"] for kind in ("data", "api")] == [None, None]
    assert cut.emulator.client("kms").describe_key(KeyId=keys)["KeyMetadata"]["KeyState"] == "PendingDeletion"


# ---- odd ways


@pytest.fixture
def odd(stages: dict[str, Stage]) -> Stage:
    return stages["odd"]


def test_whoever_says_no_leaves_nothing_behind(odd: Stage) -> None:
    done = odd.run("data", "--stage", "odd", stdin="n\n")
    assert done.returncode == 2
    assert done.stderr.endswith("signet-data-odd stays as it was.\n")
    assert odd.stack("data")["StackStatus"] is None
    assert odd.tables() == []


def test_whoever_interrupts_is_told_how_to_go_on(odd: Stage) -> None:
    done = odd.run("data", "--stage", "odd", "--yes", cut="interrupted signet-data")
    assert done.returncode == 2
    assert done.stderr.startswith("Interrupted.")
    assert odd.run("destroy", "--stage", "odd", "--with-data", "--confirm", "odd").returncode == 0
    assert odd.tables() == []


def test_a_failed_making_of_the_tables_goes_on_where_it_stopped(odd: Stage, tmp_path: Path) -> None:
    schema, file = yaml.safe_load(SCHEMA.read_text()), tmp_path / "tables.yaml"
    alarm = {"Namespace": "Signet", "MetricName": "x", "ComparisonOperator": "GreaterThanThreshold"}
    schema["Resources"]["Users"]["DependsOn"] = "Broken"
    schema["Resources"]["Broken"] = {"Type": "AWS::CloudWatch::Alarm", "DependsOn": "Clients", "Properties": alarm}
    file.write_text(yaml.safe_dump(schema))
    failed = odd.run("data", "--stage", "odd", "--yes", schema=file)
    assert failed.returncode == 2, failed.stdout
    assert "Broken (AWS::CloudWatch::Alarm): Threshold is required" in failed.stderr
    # What was made is kept: a table that held data could not be made again.
    assert "signet-odd-clients" in odd.tables()
    assert "signet-odd-users" not in odd.tables()
    assert odd.stack("data")["StackStatus"] == "CREATE_FAILED"
    done = odd.run("data", "--stage", "odd", "--yes")
    assert done.returncode == 0, done.stderr
    assert len(odd.tables()) == 12
    assert odd.stack("data")["StackStatus"] == "UPDATE_COMPLETE"


def test_a_domain_without_a_certificate_is_refused_before_anything_is_done(odd: Stage) -> None:
    done = odd.deploy("--param", "DomainName=login.example.com")
    assert done.returncode == 2
    assert (done.stdout, done.stderr) == ("", "DomainName and CertificateArn go together.\n")


def test_what_cloudformation_refuses_is_said_in_one_line(odd: Stage) -> None:
    done = odd.deploy("--param", "LogRetentionDays=2")
    assert done.returncode == 2
    assert "LogRetentionDays" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert odd.stack("api")["StackStatus"] in (None, "REVIEW_IN_PROGRESS")


# ---- what is refused before anything is done


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["deploy"], "Name the stage"),
        (["deploy", "--stage", "local"], "Name the stage"),
        (["data", "--stage", "a/b"], "SIGNET_STAGE"),
        (["deploy", "--stage", "prod", "--param", "DomianName=x"], "Did you mean 'DomainName'?"),
        (["deploy", "--stage", "prod", "--param", "Stage=dev"], "there is no parameter 'Stage'"),
        (["deploy", "--stage", "prod", "--issuer", "http://example.com"], "SIGNET_ISSUER"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(arguments: list[str], said: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SIGNET_"))}
    # No region, no endpoint: it would be an error of another kind if it got so far.
    done = subprocess.run(
        [sys.executable, "-m", "infra", *arguments], cwd=CHECKOUT, env=kept, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
