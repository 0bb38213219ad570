"""The step of a deployment that creates and updates the tables, the keys, and the bucket for the code."""

import click

from chalicelib.aws.client import AwsError
from infra import access
from infra.aws.deployment import Deployment
from infra.aws.tables import Tables
from infra.aws.upgrade import OLD_INDEX, check_records_version, old_grants_index
from infra.operator.commands import CommandError
from infra.schema import SCHEMA


def deploy_data(deployment: Deployment) -> None:
    """Deploy the tables, the keys, and the bucket for the code."""
    stack = deployment.data
    if not deployment.force:
        check_records_version(stack, SCHEMA)
    old_index = deployment.overrides.get(OLD_INDEX) or old_grants_index(stack, deployment.api)
    parameters = deployment.parameters(SCHEMA, stack, {"Stage": deployment.stage, OLD_INDEX: old_index})
    _check_signing(deployment, stack.parameters().get("Signing"), parameters["Signing"])
    deployment.change(stack, SCHEMA.read_text(), parameters)
    tables = Tables(deployment.session, deployment.stage, old_index)
    tables.require()
    tables.repair(deployment.yes)
    if old_index == "kept":
        click.echo("The old index of the grants is kept for the code that is running. The next deployment removes it.")


def _check_signing(deployment: Deployment, current: str | None, signing: str) -> None:
    """Raise CommandError when `signing` differs from the current value and the key ring already has keys."""
    if current in (None, signing):
        return
    store = access.open_store(deployment.settings)
    try:
        if not any(store.keys.scan()):
            return
    except AwsError.named("ResourceNotFoundException"):  # the first deployment did not create the table
        return
    reason = "they cannot be moved to KMS" if current == "ring" else "the server's role would lose access to them"
    keys = f"the key ring of {deployment.stage} already has keys, and {reason}"
    raise CommandError(f"Signing cannot be changed from {current} to {signing}: {keys}.")
