"""`python -m infra data|deploy|destroy`: a stage in AWS, made, changed and removed.

Each step looks at what is there and does what is missing, so that a deployment that was cut off at any point is
finished by starting it again.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import boto3
import click
import yaml
from botocore.exceptions import ClientError

from chalicelib import passwords
from chalicelib.dynamodb import attr
from chalicelib.registration import register_user, username_identifier
from chalicelib.server import AuthorizationServer
from chalicelib.settings import Settings
from chalicelib.store import Store
from infra import package
from infra.commands import Refusal, example, near
from infra.doctor import check
from infra.embedded import SCHEMA
from infra.package import API, ARCHITECTURES, Package
from infra.stacks import Stack, resumable
from infra.terminal import visible

ADMINISTRATOR = "admin"


@dataclass
class Deployment:
    """A stage that is being deployed: what the operator wants, and what the steps have found out so far."""

    stage: str
    wanted: dict[str, str]
    session: Any
    yes: bool = False
    architecture: str = ARCHITECTURES[0]
    folder: Path = Path()
    package: Package | None = None
    code_key: str = ""
    outputs: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Stack:
        """The stack of the tables and keys. What was made stays when the making fails: tables cannot be unmade."""
        return Stack(self.session.client("cloudformation"), f"signet-data-{self.stage}", keep_on_failure=True)

    @property
    def api(self) -> Stack:
        """The stack of the server."""
        return Stack(self.session.client("cloudformation"), f"signet-api-{self.stage}")

    def change(self, stack: Stack, template: str, parameters: Mapping[str, str]) -> None:
        """Show what would change in a stack, ask, and change it. Raises Refusal, also when the answer is no."""
        click.echo(f"\n{stack.name}: asking CloudFormation what would change.")
        proposal = stack.propose(template, parameters)
        if proposal is None:
            click.echo("Nothing to do.")
            return
        for change in proposal.changes:
            mark = "  (made anew)" if change.replaced else ""
            click.echo(f"  {change.action:8}{change.name:24} {change.kind}{mark}")
        if not self.yes:
            try:
                click.confirm(f"Make these {len(proposal.changes)} changes?", abort=True, err=True)
            except click.Abort as no:
                stack.withdraw(proposal)
                raise Refusal(f"{stack.name} stays as it was.") from no
        stack.execute(proposal)

    def parameters(self, template: Path, stack: Stack, found: Mapping[str, str]) -> dict[str, str]:
        """What a template's parameters shall be: found out here, else wanted, else as last time, else its default."""
        declared = yaml.safe_load(template.read_text())["Parameters"]
        before = stack.parameters()
        values = {name: str(one["Default"]) for name, one in declared.items() if "Default" in one}
        values |= {name: value for name, value in before.items() if name in declared}
        return values | {name: value for name, value in {**self.wanted, **found}.items() if name in declared}


# ---- the steps


def make_data(deployment: Deployment) -> None:
    """The tables, the keys, and the bucket for the code."""
    stack = deployment.data
    parameters = deployment.parameters(SCHEMA, stack, {"Stage": deployment.stage})
    _keep_signing(deployment, stack.parameters().get("Signing"), parameters["Signing"])
    deployment.change(stack, SCHEMA.read_text(), parameters)


def _keep_signing(deployment: Deployment, before: str | None, wanted: str) -> None:
    """Raises Refusal when there are keys that were made another way than the `wanted` one."""
    if before in (None, wanted):
        return
    store = Store(_settings(deployment))
    try:
        if not any(store.keys.scan()):
            return
    except store.dynamodb.client.exceptions.ResourceNotFoundException:  # the first deployment did not get that far
        return
    end = "they cannot move to KMS" if before == "ring" else "the server's role would not be allowed to use them"
    held = f"the key ring of {deployment.stage} holds keys that were made that way"
    raise Refusal(f"Signing stays {before}: {held}, and {end}.")


def build(deployment: Deployment) -> None:
    """The zip and its template."""
    click.echo(f"\nBuilding for {package.runtime()} on {deployment.architecture}.")
    made = package.build(deployment.stage, deployment.folder, deployment.architecture)
    deployment.package = made
    click.echo(f"The zip has {made.zip.stat().st_size / 1e6:.1f} MB, SHA-256 {made.sha256[:16]}…")
    for note in made.notes:
        click.echo(f"Note: {note}")


def upload(deployment: Deployment) -> None:
    """The zip, under its own hash: what is there already need not be sent again."""
    made, s3, bucket = _made(deployment), deployment.session.client("s3"), deployment.data.outputs()["CodeBucket"]
    deployment.code_key = f"{made.sha256}.zip"
    try:
        s3.head_object(Bucket=bucket, Key=deployment.code_key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        s3.put_object(Bucket=bucket, Key=deployment.code_key, Body=made.zip.read_bytes())


def make_api(deployment: Deployment) -> None:
    """The function, its gateway, and what watches over them."""
    made, stack, data = _made(deployment), deployment.api, deployment.data.outputs()
    found = {"Stage": deployment.stage, "Signing": deployment.data.parameters()["Signing"], **data}
    parameters = deployment.parameters(API, stack, found)
    parameters = {name: value for name, value in parameters.items() if name in made.template["Parameters"]}
    deployment.change(stack, made.at(data["CodeBucket"], deployment.code_key, parameters), parameters)
    deployment.outputs = stack.outputs()


def make_first_things(deployment: Deployment) -> None:
    """The key ring, and an administrator, whose password is shown.

    Until the administrator has replaced it, each deployment makes another: whoever lost it, or was cut off before they
    could read it, is not locked out.
    """
    server = _server(deployment)
    server.keys.jwks()
    users, identifiers = server.store.users, server.store.identifiers
    identifier = identifiers.get(username_identifier(ADMINISTRATOR))
    user = users.get(identifier.sub) if identifier else None
    if user is None:
        password = register_user(server.store, username=ADMINISTRATOR, admin=True)[1]
    elif user.password_change_required:
        password = passwords.new_password()
        changed = {"password_hash": passwords.hash_password(password)}
        users.transition((user.sub,), attr("password_change_required").eq(True), changed)
    else:
        return
    click.echo(f"\nAdministrator: {ADMINISTRATOR}, password {password}")
    click.echo("It is shown this once, and has to be replaced at the first sign-in.")


def report(deployment: Deployment) -> None:
    """Where the server is, and what to do next."""
    outputs, stage = deployment.outputs, deployment.stage
    click.echo(f"\nIssuer: {outputs['Issuer']}")
    if target := outputs.get("DomainTarget"):
        click.echo(f"DNS: point {outputs['Address'].removeprefix('https://')} to {target} (CNAME or alias).")
    click.echo(f"Log: {outputs['LogGroupName']}; dashboard and alarms: signet-{stage} in CloudWatch.")
    click.echo(f"Check it: python -m infra doctor {outputs['Issuer']} --stage {stage}")
    click.echo(f"Next: python -m infra --stage {stage} client create --name … --redirect-uri …")


def examine(deployment: Deployment) -> None:
    """What the doctor finds wrong, if anything."""
    click.echo("\nExamining it from outside and inside.")
    wrong = [one for one in check(deployment.outputs["Issuer"], _server(deployment).store) if one.ok is False]
    for finding in wrong:
        click.echo(f"✗ {finding.name}: {visible(finding.detail)}\n  → {visible(finding.fix)}")
    if not wrong:
        click.echo("All is well.")


# In this order; each leaves behind what the next one needs.
STEPS: list[Callable[[Deployment], None]] = [make_data, build, upload, make_api, make_first_things, examine, report]


def _made(deployment: Deployment) -> Package:
    assert deployment.package  # noqa: S101  `build` is the step before
    return deployment.package


def _server(deployment: Deployment) -> AuthorizationServer:
    signing = deployment.data.parameters()["Signing"]
    return AuthorizationServer.connect(replace(_settings(deployment), signing=signing))


def _settings(deployment: Deployment) -> Settings:
    settings = Settings.from_environ({**os.environ, "SIGNET_STAGE": deployment.stage})
    return replace(settings, embedded=False, region=deployment.session.region_name)


# ---- the commands


def _parameters(_context: Any, _option: Any, given: tuple[str, ...]) -> dict[str, str]:
    pairs = dict(pair.partition("=")[::2] for pair in given)
    legal = {name for file in (SCHEMA, API) for name in yaml.safe_load(file.read_text())["Parameters"]} - {"Stage"}
    for name in pairs:
        if name not in legal:
            raise click.BadParameter(f"there is no parameter {name!r}.{near(name, legal)}")
    return pairs


def _stage(context: click.Context, _option: Any, given: str | None) -> str:
    stage = given or str(context.obj)
    if stage == "local":
        raise click.UsageError("Name the stage, such as --stage prod: `local` is this checkout's own.")
    return Settings.from_environ({"SIGNET_STAGE": stage}).stage


stage_option = click.option("--stage", callback=_stage, help="Which stage; its name is in the tables' names.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")
_param = click.option(
    "--param", "wanted", multiple=True, metavar="K=V", callback=_parameters,
    help="A parameter of infra/tables.yaml or infra/api.yaml; kept until it is given again.",
)  # fmt: skip


@click.command(epilog=example("data --stage dev"))
@stage_option
@_yes
@_param
def data(stage: str, yes: bool, wanted: dict[str, str]) -> None:
    """Make or change a stage's tables and keys, and nothing else."""
    with resumable():
        make_data(Deployment(stage, wanted, boto3.Session(), yes))


@click.command(epilog=example("deploy --stage prod --param AlarmTopicArn=arn:aws:sns:eu-central-1:123456789012:alarms"))
@stage_option
@_yes
@_param
@click.option("--issuer", help='The URL that clients know the server by; "" for the address that it gets.')
@click.option("--architecture", type=click.Choice(ARCHITECTURES), default=ARCHITECTURES[0], show_default=True)
def deploy(stage: str, yes: bool, wanted: dict[str, str], issuer: str | None, architecture: str) -> None:
    """Deploy a stage: tables, keys, code, server, administrator."""
    if issuer is not None:
        wanted["Issuer"] = issuer and Settings.from_environ({"SIGNET_ISSUER": issuer}).issuer
    with resumable(), TemporaryDirectory(prefix="signet-") as folder:
        deployment = Deployment(stage, wanted, boto3.Session(), yes, architecture, Path(folder))
        server = deployment.parameters(API, deployment.api, {})
        if bool(server["DomainName"]) != bool(server["CertificateArn"]):
            raise Refusal("DomainName and CertificateArn go together.")
        for step in STEPS:
            step(deployment)
