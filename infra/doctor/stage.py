"""A stage from inside: what AWS, or the embedded database, says of it to its operator's credentials."""

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import boto3
import yaml
from botocore.config import Config

from chalicelib.store import Store
from infra.embedded import SCHEMA


@dataclass
class Inside:
    """A stage, as its operator's credentials see it."""

    store: Store

    @property
    def stage(self) -> str:
        """Its name."""
        return self.store.settings.stage

    @property
    def in_aws(self) -> bool:
        """Whether AWS holds it: the embedded database has a sealing key of its own, and no KMS."""
        return self.store.settings.sealing_key is None

    def aws(self, service: Any) -> Any:
        """A boto3 client that does not wait for long."""
        config = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2})
        return boto3.client(service, region_name=self.store.settings.region, config=config)

    @cached_property
    def schema(self) -> dict[str, dict[str, Any]]:
        """The tables of infra/tables.yaml by their names."""
        resources = yaml.safe_load(SCHEMA.read_text())["Resources"].values()
        tables = [resource["Properties"] for resource in resources if resource["Type"] == "AWS::DynamoDB::Table"]
        return {table["TableName"]["Fn::Sub"].replace("${Stage}", self.stage): table for table in tables}

    @cached_property
    def tables(self) -> dict[str, Any]:
        """What DynamoDB says of each table that exists."""
        client, found = self.store.dynamodb.client, {}
        for name in self.schema:
            with suppress(client.exceptions.ResourceNotFoundException):
                found[name] = client.describe_table(TableName=name)["Table"]
        return found

    @cached_property
    def function(self) -> dict[str, Any] | None:
        """The configuration of the stage's Lambda function: the one whose environment names the stage."""
        for page in self.aws("lambda").get_paginator("list_functions").paginate():
            for function in page["Functions"]:
                environment = function.get("Environment", {}).get("Variables", {})
                if environment.get("SIGNET_STAGE") == self.stage:
                    found: dict[str, Any] = function
                    return found
        return None
