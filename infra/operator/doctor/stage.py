"""A stage from inside: its tables and function, read from AWS or the embedded database."""

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import boto3
from botocore.config import Config

from chalicelib.storage.store import Store
from infra import access, schema


@dataclass
class Inside:
    """A stage, read with the operator's credentials."""

    store: Store

    @property
    def stage(self) -> str:
        """Return its name."""
        return self.store.settings.stage

    @property
    def in_aws(self) -> bool:
        """Return whether it is in AWS: the embedded database has its own sealing key instead of KMS."""
        return self.store.settings.sealing_key is None

    def aws(self, service: Any) -> Any:
        """Return a boto3 client with short timeouts."""
        config = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2})
        return boto3.client(service, region_name=self.store.settings.region, config=config)

    @cached_property
    def dynamodb(self) -> Any:
        """Return a boto3 client of the DynamoDB that the store uses."""
        return access.dynamodb_client(self.store.settings)

    @cached_property
    def schema(self) -> dict[str, dict[str, Any]]:
        """Return the properties of the tables in infra/aws/tables.yaml, by name."""
        return schema.tables(self.stage)

    @cached_property
    def schema_between_deployments(self) -> dict[str, dict[str, Any]]:
        """Return the same for a stage that keeps an old index until the next deployment."""
        return schema.tables(self.stage, OldGrantsIndex="kept")

    @cached_property
    def tables(self) -> dict[str, Any]:
        """Return DynamoDB's description of each existing table, by name."""
        client, tables = self.dynamodb, {}
        for name in self.schema:
            with suppress(client.exceptions.ResourceNotFoundException):
                tables[name] = client.describe_table(TableName=name)["Table"]
        return tables

    @property
    def variables(self) -> dict[str, str]:
        """Return the environment variables of the function, none without a function."""
        variables: dict[str, str] = (self.function or {}).get("Environment", {}).get("Variables", {})
        return variables

    @cached_property
    def function(self) -> dict[str, Any] | None:
        """Return the configuration of the Lambda function whose environment names the stage, or None."""
        for page in self.aws("lambda").get_paginator("list_functions").paginate():
            for function in page["Functions"]:
                environment = function.get("Environment", {}).get("Variables", {})
                if environment.get("SIGNET_STAGE") == self.stage:
                    configuration: dict[str, Any] = function
                    return configuration
        return None
