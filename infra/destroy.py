"""`python -m infra destroy`: a stage taken out of AWS, its data only when that is asked for."""

from typing import Any

import boto3
import click
from botocore.exceptions import ClientError

from infra.commands import example
from infra.deploy import Deployment, stage_option
from infra.stacks import Stack, resumable

KEY_REPENTANCE_DAYS = 30


@click.command(epilog=example("destroy --stage prod"))
@stage_option
@click.option("--with-data", is_flag=True, help="Its tables, keys and code too: nobody can bring them back.")
@click.option("--confirm", metavar="STAGE", help="The stage's name, instead of being asked for it.")
def destroy(stage: str, with_data: bool, confirm: str | None) -> None:
    """Remove a stage's server, and its data only if told to."""
    deployment = Deployment(stage, {}, boto3.Session())
    what = "the server AND ALL DATA" if with_data else "the server, but not the data,"
    answer = confirm or click.prompt(f"This removes {what} of {stage!r}. Type the stage's name", err=True)
    if answer != stage:
        raise click.Abort
    log_group = deployment.api.outputs().get("LogGroupName")
    with resumable():
        deployment.api.delete()
        click.echo(f"The server of {stage} is gone.")
        if with_data:
            remove_data(deployment.session, deployment.data)
    if with_data:
        click.echo(f"The tables and the code are gone. The keys can be saved for {KEY_REPENTANCE_DAYS} days more, and")
        click.echo("DynamoDB keeps a last backup of the tables that had backups for 35 days.")
    elif deployment.data.status():
        click.echo(f"What stays is {deployment.data.name}: the tables, the keys, and the code that was deployed.")
        click.echo(f"`python -m infra deploy --stage {stage}` brings the server back, under another address unless")
        click.echo("it had a domain of its own; --with-data removes the rest.")
    if log_group:
        click.echo(f"The log stays too: {log_group}; its lines end with their retention.")


def remove_data(session: Any, stack: Stack) -> None:
    """Remove what a data stack keeps when it is deleted, then the stack.

    The stack goes last: it knows what belongs to it, should this be cut off and started again.
    """
    stack.settle()
    if stack.status() is None:
        return
    dynamodb, kms, s3 = (session.client(name) for name in ("dynamodb", "kms", "s3"))
    for table in stack.resources("AWS::DynamoDB::Table"):
        _remove_table(dynamodb, table)
        click.echo(f"Removed the table {table}.")
    for bucket in stack.resources("AWS::S3::Bucket"):
        _remove_bucket(s3, bucket)
    for alias in stack.resources("AWS::KMS::Alias"):
        _unless_gone(kms.delete_alias, AliasName=alias)
    for key in stack.resources("AWS::KMS::Key"):
        state = kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"]
        if state != "PendingDeletion":
            kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=KEY_REPENTANCE_DAYS)
    stack.delete()


def _remove_table(dynamodb: Any, table: str) -> None:
    _unless_gone(dynamodb.update_table, TableName=table, DeletionProtectionEnabled=False)
    dynamodb.get_waiter("table_exists" if _exists(dynamodb, table) else "table_not_exists").wait(TableName=table)
    _unless_gone(dynamodb.delete_table, TableName=table)
    dynamodb.get_waiter("table_not_exists").wait(TableName=table)


def _exists(dynamodb: Any, table: str) -> bool:
    return _unless_gone(dynamodb.describe_table, TableName=table) is not None


def _remove_bucket(s3: Any, bucket: str) -> None:
    try:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for item in page.get("Contents", ()):
                s3.delete_object(Bucket=bucket, Key=item["Key"])
    except s3.exceptions.NoSuchBucket:
        return
    s3.delete_bucket(Bucket=bucket)


def _unless_gone(call: Any, **parameters: str | bool) -> Any:
    """The answer of a call; None when what it is about does not exist."""
    try:
        return call(**parameters)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("ResourceNotFoundException", "NotFoundException"):
            return None
        raise
