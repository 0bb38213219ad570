"""Create, update and deploy a stage in AWS: the commands `signet data` and `signet deploy`.

Each step checks the current state and does only what is missing, so that an interrupted deployment can be run again.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import boto3
import click
import yaml

from chalicelib.settings import Settings
from infra.aws import code, front, mutual_tls, package, passkey_domain
from infra.aws.administrator import create_administrator
from infra.aws.advisories import known_vulnerabilities, summary
from infra.aws.data import deploy_data
from infra.aws.deployment import Deployment
from infra.aws.libraries import ARCHITECTURES
from infra.aws.package import API, Package
from infra.aws.stacks import resumable
from infra.operator.commands import CommandError, did_you_mean, example, require_aws_stage
from infra.operator.doctor import check
from infra.operator.keys import create_ring_of_new_stage
from infra.operator.terminal import visible
from infra.schema import SCHEMA

_CHECKOUT = Path(__file__).resolve().parents[2]

# ---- the steps


def build(deployment: Deployment) -> None:
    """Build the zip and its template."""
    click.echo(f"\nBuilding for {package.runtime()} on {deployment.architecture}.")
    built = package.build(deployment.stage, deployment.folder, deployment.architecture)
    deployment.package = built
    click.echo(f"The zip has {built.zip.stat().st_size / 1e6:.1f} MB, SHA-256 {built.sha256[:16]}…")
    click.echo(summary(known_vulnerabilities([_CHECKOUT / package.REQUIREMENTS])))
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
    parameters |= mutual_tls.truststore_parameters(deployment, parameters)
    parameters = {name: value for name, value in parameters.items() if name in built.template["Parameters"]}
    template = built.at(data["CodeBucket"], deployment.code_key, deployment.code_version, parameters)
    deployment.change(stack, template, parameters)
    deployment.outputs = stack.outputs()


def verify_code(deployment: Deployment) -> None:
    """Verify that the gateway's alias runs the zip that was built."""
    (alias,) = deployment.api.resources("AWS::Lambda::Alias")
    code.verify(deployment.session.client("lambda"), alias, _built(deployment))


def settle_front(deployment: Deployment) -> None:
    """Let the server accept only what the front now sends."""
    if front.settle(deployment):
        deploy_api(deployment)
        verify_code(deployment)


def create_keys_and_administrator(deployment: Deployment) -> None:
    """Create the key ring, and the first account unless the operator does not want it."""
    store = deployment.open_store()
    create_ring_of_new_stage(store)
    if deployment.admin:
        create_administrator(store, deployment.stage)


def report(deployment: Deployment) -> None:
    """Print where the server is, and the next steps."""
    outputs, stage = deployment.outputs, deployment.stage
    click.echo(f"\nIssuer: {outputs['Issuer']}")
    for host, target in front.dns_records(deployment).items():
        click.echo(f"DNS: point {host} to {target} (CNAME or alias).")
    click.echo(f"Log: {outputs['LogGroupName']}; dashboard and alarms: signet-{stage} in CloudWatch.")
    click.echo(f"Check it: signet doctor {outputs['Issuer']} --stage {stage}")
    click.echo(f"Next: signet client create --stage {stage} --name … --redirect-uri …")


def examine(deployment: Deployment) -> None:
    """Run the doctor unless the operator does not want it, and print the problems that it finds."""
    if not deployment.doctor:
        return
    click.echo("\nRunning the doctor.")
    findings = check(deployment.outputs["Issuer"], deployment.open_store())
    problems = [finding for finding in findings if finding.ok is False]
    for finding in problems:
        click.echo(f"✗ {finding.name}: {visible(finding.detail)}\n  → {visible(finding.fix)}")
    deployment.problems = len(problems)
    if not problems:
        click.echo("No problems found.")


# In order: each step needs the results of the one before.
STEPS: list[Callable[[Deployment], None]] = [
    deploy_data,
    build,
    upload,
    front.choose_secret,
    deploy_api,
    verify_code,
    front.deploy_front,
    settle_front,
    create_keys_and_administrator,
    examine,
    report,
]


def _built(deployment: Deployment) -> Package:
    assert deployment.package  # noqa: S101  set by `build`
    return deployment.package


# ---- the commands


def _parameters(_context: Any, _option: Any, values: tuple[str, ...]) -> dict[str, str]:
    return _known(dict(value.partition("=")[::2] for value in values))


def _parameters_of_file(_context: Any, _option: Any, file: Path | None) -> dict[str, str]:
    if file is None:
        return {}
    try:
        # The base loader keeps every value as it is written: `on` is no truth value, and 0123 no number.
        pairs = yaml.load(file.read_text("utf-8-sig"), Loader=yaml.BaseLoader)  # noqa: S506  it creates texts only
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{file} is not YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(pairs, dict) or not all(isinstance(value, str) for value in pairs.values()):
        raise click.BadParameter(f"{file} must have lines of the form NAME: VALUE.")
    return _known(pairs)


def _known(pairs: dict[str, str]) -> dict[str, str]:
    """Return the parameters. Raises click.BadParameter for one that no template has."""
    files = (SCHEMA, API, front.TEMPLATE)
    names = {name for file in files for name in yaml.safe_load(file.read_text())["Parameters"]}
    names -= front.COMPUTED | mutual_tls.COMPUTED
    for name in pairs:
        if name not in names:
            raise click.BadParameter(f"there is no parameter {name!r}.{did_you_mean(name, names)}")
    return pairs


def check_settings(server: Mapping[str, str]) -> None:
    """Raise SettingsError when the server would not start with the settings in its parameters."""
    variables = {name: server.get(parameter, "") for parameter, name in package.setting_parameters().items()}
    given = {name: value for name, value in {**variables, "SIGNET_ISSUER": front.issuer_of(server)}.items() if value}
    Settings.from_environ({"AWS_LAMBDA_FUNCTION_NAME": "signet", **given})


_yes = click.option("--yes", is_flag=True, help="Do not ask.")
_force = click.option("--force", is_flag=True, help="Deploy over newer records, which revives what was ended since.")
_param = click.option(
    "--param", "overrides", multiple=True, metavar="K=V", callback=_parameters,
    help="A parameter of a template in infra/aws; later deployments keep its value.",
)  # fmt: skip
_param_file = click.option(
    "--param-file", "given", type=click.Path(exists=True, dir_okay=False, path_type=Path), callback=_parameters_of_file,
    help="A YAML file of parameters, NAME: VALUE. --param comes before it.",
)  # fmt: skip


@click.command(epilog=example("data --stage dev"))
@_yes
@_force
@_param
@_param_file
@click.pass_obj
def data(stage: str, /, yes: bool, force: bool, overrides: dict[str, str], given: dict[str, str]) -> None:
    """Create or update a stage's tables, keys and key ring, and nothing else."""
    with resumable():
        deployment = Deployment(require_aws_stage(stage), {**given, **overrides}, boto3.Session(), yes, force)
        deploy_data(deployment)
        create_ring_of_new_stage(deployment.open_store())


@click.command(epilog=example("deploy --stage prod --param AlarmTopicArn=arn:aws:sns:eu-central-1:123456789012:alarms"))
@_yes
@_force
@_param
@_param_file
@click.option("--issuer", help='The issuer URL, as clients use it; "" for the address of the API.')
@click.option("--architecture", type=click.Choice(ARCHITECTURES), default=ARCHITECTURES[0], show_default=True)
@click.option("--no-admin", is_flag=True, help="Do not create the first account.")
@click.option(
    "--front", "front_", type=click.Choice(front.CHOICES), help="Add CloudFront with a firewall, or remove it."
)
@click.option("--rotate-front-secret", is_flag=True, help="Replace the secret that proves the front to the server.")
@click.option("--no-doctor", is_flag=True, help="Do not examine the deployed server.")
@click.pass_obj
def deploy(
    stage: str, /, yes: bool, force: bool, overrides: dict[str, str], issuer: str | None, architecture: str,
    no_admin: bool, front_: str | None, rotate_front_secret: bool, no_doctor: bool, given: dict[str, str],
) -> int:  # fmt: skip
    """Deploy a stage: tables, keys, code, server, administrator.

    At the end, the doctor examines the server. The exit code is 1 when it finds a problem; the new version serves.
    """
    stage, overrides = require_aws_stage(stage), {**given, **overrides}
    if issuer is not None:
        overrides["Issuer"] = issuer and Settings.from_environ({"SIGNET_ISSUER": issuer}).issuer
    with resumable(), TemporaryDirectory(prefix="signet-") as folder:
        deployment = Deployment(
            stage, overrides, boto3.Session(), yes, force, architecture, admin=not no_admin, folder=Path(folder),
            front=front_, rotate_secret=rotate_front_secret, doctor=not no_doctor,
        )  # fmt: skip
        server = deployment.parameters(API, deployment.api, {})
        if bool(server["DomainName"]) != bool(server["CertificateArn"]):
            raise CommandError("Set both DomainName and CertificateArn, or neither.")
        if bool(server["MonthlyBudget"].strip("0.")) != bool(server["BudgetEmail"]):
            raise CommandError("Set both MonthlyBudget and BudgetEmail, or neither.")
        if server["EmailIdentity"] and not server["EmailFrom"]:
            raise CommandError("EmailIdentity requires EmailFrom, the address that mails are sent from.")
        check_settings(server)
        front.check_front(deployment, server)
        mutual_tls.check_mutual_tls(deployment, server)
        passkey_domain.confirm_change(deployment, server)
        for step in STEPS:
            step(deployment)
    if deployment.problems:
        click.echo(f"The new version serves, but the doctor found problems: {deployment.problems}.", err=True)
    return 1 if deployment.problems else 0
