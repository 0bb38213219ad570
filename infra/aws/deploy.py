"""Create, update and deploy a stage in AWS: the commands `signet data` and `signet deploy`.

Each step checks the current state and does only what is missing, so that an interrupted deployment can be run again.
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

from chalicelib.server import AuthorizationServer
from chalicelib.settings import Settings
from chalicelib.storage.store import Store
from infra.aws import code, package
from infra.aws.administrator import create_administrator
from infra.aws.advisories import known_vulnerabilities, summary
from infra.aws.libraries import ARCHITECTURES
from infra.aws.package import API, Package
from infra.aws.stacks import Stack, resumable
from infra.aws.upgrade import OLD_INDEX, check_records_version, old_grants_index
from infra.local.embedded import STAGE
from infra.local.state import CHECKOUT
from infra.operator.commands import CommandError, did_you_mean, example
from infra.operator.doctor import check
from infra.operator.keys import create_ring_of_new_stage
from infra.operator.terminal import visible
from infra.schema import SCHEMA


@dataclass
class Deployment:
    """A deployment in progress: the operator's options, and the results of the steps so far.

    `overrides` are template parameters by name; `force` deploys over records of a newer version; `folder` is where the
    package is built; `code_key` and `code_version` are where it is uploaded.
    """

    stage: str
    overrides: dict[str, str]
    session: Any
    yes: bool = False
    force: bool = False
    architecture: str = ARCHITECTURES[0]
    admin: bool = True
    folder: Path = Path()
    package: Package | None = None
    code_key: str = ""
    code_version: str = ""
    outputs: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Stack:
        """The stack of the tables and keys. Resources are kept when its creation fails: they may hold data."""
        return Stack(self.session.client("cloudformation"), f"signet-data-{self.stage}", keep_on_failure=True)

    @property
    def api(self) -> Stack:
        """The stack of the server."""
        return Stack(self.session.client("cloudformation"), f"signet-api-{self.stage}")

    def change(self, stack: Stack, template: str, parameters: Mapping[str, str]) -> None:
        """Show the changes of a stack, ask for confirmation, and apply them.

        Raises CommandError when the operator declines or CloudFormation fails.
        """
        click.echo(f"\n{stack.name}: computing changes.")
        proposal = stack.propose(template, parameters)
        if proposal is None:
            click.echo("No changes.")
            return
        for change in proposal.changes:
            mark = "  (replaced)" if change.replaced else ""
            click.echo(f"  {change.action:8}{change.name:24} {change.kind}{mark}")
        if not self.yes:
            try:
                click.confirm(f"Apply these {len(proposal.changes)} changes?", abort=True, err=True)
            except click.Abort as abort:
                stack.discard(proposal)
                raise CommandError(f"{stack.name} was not changed.") from abort
        stack.execute(proposal)

    def parameters(self, template: Path, stack: Stack, required: Mapping[str, str]) -> dict[str, str]:
        """Return the values of a template's parameters.

        In order of precedence: `required`, the operator's overrides, the values of the last deployment, the defaults.
        """
        declared = yaml.safe_load(template.read_text())["Parameters"]
        previous = stack.parameters()
        values = {name: str(parameter["Default"]) for name, parameter in declared.items() if "Default" in parameter}
        values |= {name: value for name, value in previous.items() if name in declared}
        return values | {name: value for name, value in {**self.overrides, **required}.items() if name in declared}


# ---- the steps


def deploy_data(deployment: Deployment) -> None:
    """Deploy the tables, the keys, and the bucket for the code."""
    stack = deployment.data
    if not deployment.force:
        check_records_version(stack, SCHEMA)
    old_index = deployment.overrides.get(OLD_INDEX) or old_grants_index(stack, deployment.api)
    parameters = deployment.parameters(SCHEMA, stack, {"Stage": deployment.stage, OLD_INDEX: old_index})
    _check_signing(deployment, stack.parameters().get("Signing"), parameters["Signing"])
    deployment.change(stack, SCHEMA.read_text(), parameters)
    if old_index == "kept":
        click.echo("The old index of the grants is kept for the code that is running. The next deployment removes it.")


def _check_signing(deployment: Deployment, current: str | None, signing: str) -> None:
    """Raise CommandError when `signing` differs from the current value and the key ring already has keys."""
    if current in (None, signing):
        return
    store = Store(_settings(deployment))
    try:
        if not any(store.keys.scan()):
            return
    except store.dynamodb.client.exceptions.ResourceNotFoundException:  # the first deployment did not create the table
        return
    reason = "they cannot be moved to KMS" if current == "ring" else "the server's role would lose access to them"
    keys = f"the key ring of {deployment.stage} already has keys, and {reason}"
    raise CommandError(f"Signing cannot be changed from {current} to {signing}: {keys}.")


def build(deployment: Deployment) -> None:
    """Build the zip and its template."""
    click.echo(f"\nBuilding for {package.runtime()} on {deployment.architecture}.")
    built = package.build(deployment.stage, deployment.folder, deployment.architecture)
    deployment.package = built
    click.echo(f"The zip has {built.zip.stat().st_size / 1e6:.1f} MB, SHA-256 {built.sha256[:16]}…")
    click.echo(summary(known_vulnerabilities([CHECKOUT / package.REQUIREMENTS])))
    for note in built.notes:
        click.echo(f"Note: {note}")


def upload(deployment: Deployment) -> None:
    """Upload the zip with its checksum, and its bill of materials."""
    bucket = deployment.data.outputs()["CodeBucket"]
    location = code.upload(deployment.session.client("s3"), bucket, _built(deployment))
    deployment.code_key, deployment.code_version = location
    click.echo(f"Bill of materials: s3://{bucket}/{deployment.code_key.removesuffix('.zip')}.cdx.json")


def deploy_api(deployment: Deployment) -> None:
    """Deploy the function, its gateway, and its alarms."""
    built, stack, data = _built(deployment), deployment.api, deployment.data.outputs()
    required = {"Stage": deployment.stage, "Signing": deployment.data.parameters()["Signing"], **data}
    parameters = deployment.parameters(API, stack, required)
    parameters = {name: value for name, value in parameters.items() if name in built.template["Parameters"]}
    template = built.at(data["CodeBucket"], deployment.code_key, deployment.code_version, parameters)
    deployment.change(stack, template, parameters)
    deployment.outputs = stack.outputs()


def verify_code(deployment: Deployment) -> None:
    """Verify that the gateway's alias runs the zip that was built."""
    (alias,) = deployment.api.resources("AWS::Lambda::Alias")
    code.verify(deployment.session.client("lambda"), alias, _built(deployment))


def create_keys_and_administrator(deployment: Deployment) -> None:
    """Create the key ring, and the first account unless the operator does not want it."""
    store = _server(deployment).store
    create_ring_of_new_stage(store)
    if deployment.admin:
        create_administrator(store, deployment.stage)


def report(deployment: Deployment) -> None:
    """Print where the server is, and the next steps."""
    outputs, stage = deployment.outputs, deployment.stage
    click.echo(f"\nIssuer: {outputs['Issuer']}")
    if target := outputs.get("DomainTarget"):
        click.echo(f"DNS: point {outputs['Address'].removeprefix('https://')} to {target} (CNAME or alias).")
    click.echo(f"Log: {outputs['LogGroupName']}; dashboard and alarms: signet-{stage} in CloudWatch.")
    click.echo(f"Check it: signet doctor {outputs['Issuer']} --stage {stage}")
    click.echo(f"Next: signet client create --stage {stage} --name … --redirect-uri …")


def examine(deployment: Deployment) -> None:
    """Run the doctor, and print the problems that it finds."""
    click.echo("\nRunning the doctor.")
    findings = check(deployment.outputs["Issuer"], _server(deployment).store)
    problems = [finding for finding in findings if finding.ok is False]
    for finding in problems:
        click.echo(f"✗ {finding.name}: {visible(finding.detail)}\n  → {visible(finding.fix)}")
    if not problems:
        click.echo("No problems found.")


# In order: each step needs the results of the one before.
STEPS: list[Callable[[Deployment], None]] = [
    deploy_data,
    build,
    upload,
    deploy_api,
    verify_code,
    create_keys_and_administrator,
    examine,
    report,
]


def _built(deployment: Deployment) -> Package:
    assert deployment.package  # noqa: S101  set by `build`
    return deployment.package


def _server(deployment: Deployment) -> AuthorizationServer:
    signing = deployment.data.parameters()["Signing"]
    return AuthorizationServer.connect(replace(_settings(deployment), signing=signing))


def _settings(deployment: Deployment) -> Settings:
    settings = Settings.from_environ({**os.environ, "SIGNET_STAGE": deployment.stage})
    return replace(settings, embedded=False, region=deployment.session.region_name)


# ---- the commands


def _parameters(_context: Any, _option: Any, values: tuple[str, ...]) -> dict[str, str]:
    pairs = dict(value.partition("=")[::2] for value in values)
    names = {name for file in (SCHEMA, API) for name in yaml.safe_load(file.read_text())["Parameters"]} - {"Stage"}
    for name in pairs:
        if name not in names:
            raise click.BadParameter(f"there is no parameter {name!r}.{did_you_mean(name, names)}")
    return pairs


def require_aws_stage(stage: str) -> str:
    """Return the stage. Raises click.UsageError for `local`, and SettingsError for a name that is not allowed."""
    if stage == STAGE:
        raise click.UsageError(f"Name the stage, for example --stage prod; `{STAGE}` is not in AWS.")
    return Settings.from_environ({"SIGNET_STAGE": stage}).stage


_yes = click.option("--yes", is_flag=True, help="Do not ask.")
_force = click.option("--force", is_flag=True, help="Deploy over newer records, which revives what was ended since.")
_param = click.option(
    "--param", "overrides", multiple=True, metavar="K=V", callback=_parameters,
    help="A parameter of infra/aws/tables.yaml or infra/aws/api.yaml; later deployments keep its value.",
)  # fmt: skip


@click.command(epilog=example("data --stage dev"))
@_yes
@_force
@_param
@click.pass_obj
def data(stage: str, /, yes: bool, force: bool, overrides: dict[str, str]) -> None:
    """Create or update a stage's tables, keys and key ring, and nothing else."""
    with resumable():
        deployment = Deployment(require_aws_stage(stage), overrides, boto3.Session(), yes, force)
        deploy_data(deployment)
        create_ring_of_new_stage(_server(deployment).store)


@click.command(epilog=example("deploy --stage prod --param AlarmTopicArn=arn:aws:sns:eu-central-1:123456789012:alarms"))
@_yes
@_force
@_param
@click.option("--issuer", help='The issuer URL, as clients use it; "" for the address of the API.')
@click.option("--architecture", type=click.Choice(ARCHITECTURES), default=ARCHITECTURES[0], show_default=True)
@click.option("--no-admin", is_flag=True, help="Do not create the first account.")
@click.pass_obj
def deploy(
    stage: str, /, yes: bool, force: bool, overrides: dict[str, str], issuer: str | None, architecture: str,
    no_admin: bool,
) -> None:  # fmt: skip
    """Deploy a stage: tables, keys, code, server, administrator."""
    stage = require_aws_stage(stage)
    if issuer is not None:
        overrides["Issuer"] = issuer and Settings.from_environ({"SIGNET_ISSUER": issuer}).issuer
    with resumable(), TemporaryDirectory(prefix="signet-") as folder:
        deployment = Deployment(stage, overrides, boto3.Session(), yes, force, architecture, not no_admin, Path(folder))
        server = deployment.parameters(API, deployment.api, {})
        if bool(server["DomainName"]) != bool(server["CertificateArn"]):
            raise CommandError("Set both DomainName and CertificateArn, or neither.")
        if bool(server["MonthlyBudget"].strip("0.")) != bool(server["BudgetEmail"]):
            raise CommandError("Set both MonthlyBudget and BudgetEmail, or neither.")
        for step in STEPS:
            step(deployment)
