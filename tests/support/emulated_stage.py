"""A stage of Signet in an emulated AWS, operated by commands in processes of their own."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from chalicelib.protocol.client import Client
from chalicelib.settings import Settings
from infra.local.state import CHECKOUT
from infra.schema import SCHEMA
from tests.support.browser import Answer, Browser
from tests.support.emulator import ApiProxy, Emulator
from tests.support.packaging import ARCHITECTURE
from tests.support.site import PASSWORD, Registered, Site

# Failures that the emulator causes, with the reasons.
EXPECTED_FAILURES = {
    "cross-origin": "ministack answers OPTIONS itself",
    "alarms": "its CloudWatch has no alarms of CloudFormation",
    "runtime": "the Python of the tests may be near its end of support",
    "sign-in addresses": "all sign-ins of the tests come from 127.0.0.1",
}


@dataclass
class Stage:
    """A stage in the emulated AWS, and its operator's command."""

    name: str
    emulator: Emulator
    front: ApiProxy
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
        stop_at: str = "never",
        stdin: str = "",
        terminal: bool = False,
        package: Path | None = None,
        schema: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run the operator's command with the shared package, ended at the point `stop_at`."""
        variables = {"SIGNET_TEST_PACKAGE": str(package or self.package), "SIGNET_TEST_SCHEMA": str(schema or SCHEMA)}
        variables["TMPDIR"] = str(self.package.parent)  # an interrupted command leaves a folder behind
        return self._run("tests.support.powercut", stop_at, *arguments, stdin=stdin, terminal=terminal, **variables)

    def run_unpatched(self, *arguments: str, terminal: bool = False) -> subprocess.CompletedProcess[str]:
        """Run the operator's command without any test replacement."""
        return self._run("infra", *arguments, terminal=terminal)

    def _run(
        self, module: str, *arguments: str, stdin: str = "", terminal: bool = False, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SIGNET_"))}
        command, environment = [sys.executable, "-m", module, *arguments], {**inherited, **self.emulator.environment}
        if terminal:
            return run_in_terminal(command, environment | variables)
        return subprocess.run(
            command,
            cwd=CHECKOUT,
            env=environment | variables,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def deploy(
        self, *more: str, stop_at: str = "never", terminal: bool = False, package: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        options = ["--stage", self.name, "--yes", "--architecture", ARCHITECTURE, "--issuer", self.front.url]
        options.append("--no-doctor")  # `first_deployment` runs it, and finds what the emulator lacks
        done = self.run("deploy", *options, *more, stop_at=stop_at, terminal=terminal, package=package)
        self.secrets.update(re.findall(r"First account: admin, password (\S+)", done.stdout))
        self.open_key()
        return done

    def open_key(self) -> None:
        """Allow the function to use the key with any encryption context, a condition that ministack does not support.

        All other calls need the permissions of infra/aws/api.yaml.
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

    # ---- its data

    def client(self) -> Registered:
        uri, scope = "https://client.example.com/cb", "openid profile email offline_access"
        options = ["--name", "Photo Print", "--redirect-uri", uri, "--scope", scope, "--json"]
        created = json.loads(self.ok("--stage", self.name, "client", "create", *options))
        self.secrets.add(created["client_secret"])
        return Registered(Client(created["client_id"], "Photo Print", (uri,)), created["client_secret"])

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

    # ---- its state in AWS

    def stack(self, kind: str) -> dict[str, Any]:
        stacks = self.emulator.client("cloudformation").describe_stacks()["Stacks"]
        matching = [stack for stack in stacks if stack["StackName"] == f"signet-{kind}-{self.name}"]
        return matching[0] if matching else {"StackStatus": None}

    def outputs(self, kind: str) -> dict[str, str]:
        return {output["OutputKey"]: output["OutputValue"] for output in self.stack(kind).get("Outputs", ())}

    def versions(self) -> list[str]:
        """Return the published versions of the function, followed by the version of the alias."""
        aws = self.emulator.client("lambda")
        (name,) = (
            function["FunctionName"]
            for function in aws.list_functions()["Functions"]
            if function["FunctionName"].startswith(f"signet-api-{self.name}-")
        )
        published = [function["Version"] for function in aws.list_versions_by_function(FunctionName=name)["Versions"]]
        alias = aws.get_alias(FunctionName=name, Name="live")["FunctionVersion"]
        return [*(version for version in published if version != "$LATEST"), alias]

    def tables(self) -> list[str]:
        names = self.emulator.client("dynamodb").list_tables()["TableNames"]
        return [name for name in names if name.startswith(f"signet-{self.name}-")]


def run_in_terminal(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command whose standard output is a terminal."""
    leader, follower = pty.openpty()
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdin=pipe, stdout=follower, stderr=pipe) as process:
        os.close(follower)
        output = b""
        with contextlib.suppress(OSError):  # Linux's way to tell that the process has ended
            while chunk := os.read(leader, 65536):
                output += chunk
        os.close(leader)
        errors = process.stderr.read() if process.stderr else b""
    text = output.decode().replace("\r\n", "\n")
    return subprocess.CompletedProcess(command, process.returncode, text, errors.decode())
