"""Remove a stage from AWS, and its data on request: the command `signet destroy`."""

from typing import Any

import boto3
import click
from botocore.exceptions import ClientError

from infra.aws import front
from infra.aws.deployment import Deployment
from infra.aws.stacks import Stack, resumable
from infra.operator.commands import example, require_aws_stage, require_terminal

KEY_DELETION_DAYS = 30


@click.command(epilog=example("destroy --stage prod"))
@click.option("--with-data", is_flag=True, help="Delete its tables, keys and code too. This cannot be undone.")
@click.option("--confirm", metavar="STAGE", help="The stage's name, instead of the prompt.")
@click.pass_obj
def destroy(stage: str, /, with_data: bool, confirm: str | None) -> None:
    """Remove a stage's server, and with --with-data its data."""
    stage = require_aws_stage(stage)
    deployment = Deployment(stage, {}, boto3.Session())
    if not confirm:
        require_terminal(f"--confirm {stage}")
    what = "the server AND ALL DATA" if with_data else "the server, but not the data,"
    answer = confirm or click.prompt(f"This deletes {what} of {stage!r}. Type the stage's name to confirm", err=True)
    if answer != stage:
        raise click.Abort
    log_group = deployment.api.outputs().get("LogGroupName")
    with resumable():
        if front.exists(deployment):
            deployment.front_stack.delete()
            click.echo(f"The front of {stage} was deleted.")
        deployment.api.delete()
        click.echo(f"The server of {stage} was deleted.")
        if with_data:
            remove_data(deployment.session, deployment.data)
    if with_data:
        click.echo("The tables and the code were deleted. DynamoDB keeps their last backups for 35 days.")
        click.echo(f"KMS deletes the keys in {KEY_DELETION_DAYS} days; until then you can cancel their deletion.")
    elif deployment.data.status():
        click.echo(f"{deployment.data.name} is kept: the tables, the keys, and the deployed code.")
        click.echo(f"`signet deploy --stage {stage}` creates the server again. The API then gets a new address.")
        click.echo("`--with-data` deletes the rest.")
    if log_group:
        click.echo(f"The log is kept: {log_group}. Its lines expire after their retention period.")


def remove_data(session: Any, stack: Stack) -> None:
    """Delete the resources that a data stack retains, then the stack.

    The stack is deleted last because it lists the resources: an interrupted removal can be run again.
    """
    stack.settle()
    if stack.status() is None:
        return
    dynamodb, kms, s3 = (session.client(name) for name in ("dynamodb", "kms", "s3"))
    for table in stack.resources("AWS::DynamoDB::Table"):
        _remove_table(dynamodb, table)
        click.echo(f"Deleted the table {table}.")
    for bucket in stack.resources("AWS::S3::Bucket"):
        remove_bucket(s3, bucket)
    for alias in stack.resources("AWS::KMS::Alias"):
        _unless_missing(kms.delete_alias, AliasName=alias)
    for key in stack.resources("AWS::KMS::Key"):
        state = kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"]
        if state != "PendingDeletion":
            kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=KEY_DELETION_DAYS)
    stack.delete()


def _remove_table(dynamodb: Any, table: str) -> None:
    _unless_missing(dynamodb.update_table, TableName=table, DeletionProtectionEnabled=False)
    dynamodb.get_waiter("table_exists" if _exists(dynamodb, table) else "table_not_exists").wait(TableName=table)
    _unless_missing(dynamodb.delete_table, TableName=table)
    dynamodb.get_waiter("table_not_exists").wait(TableName=table)


def _exists(dynamodb: Any, table: str) -> bool:
    return _unless_missing(dynamodb.describe_table, TableName=table) is not None


def remove_bucket(s3: Any, bucket: str) -> None:
    """Delete a bucket, if it exists, with every version of its objects."""
    try:
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            for item in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                s3.delete_object(Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])
    except s3.exceptions.NoSuchBucket:
        return
    s3.delete_bucket(Bucket=bucket)


def _unless_missing(call: Any, **parameters: str | bool) -> Any:
    """Return the answer of a call, or None when its resource does not exist."""
    try:
        return call(**parameters)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("ResourceNotFoundException", "NotFoundException"):
            return None
        raise
