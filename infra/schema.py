"""The schema: the tables of infra/aws/tables.yaml, with the parameters and conditions of the template resolved.

CloudFormation resolves them in AWS; the embedded database, the doctor and the tests read the tables here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

SCHEMA = Path(__file__).with_name("aws") / "tables.yaml"
_NO_VALUE = {"Ref": "AWS::NoValue"}


def tables(stage: str, **parameters: str) -> dict[str, dict[str, Any]]:
    """Return the properties of the tables of a stage, by their names in DynamoDB.

    They are those of a new stage, where every parameter of the template has its default, unless `parameters` differ.
    """
    template = yaml.safe_load(SCHEMA.read_text())
    declared = template["Parameters"].items()
    values = {name: str(parameter["Default"]) for name, parameter in declared if "Default" in parameter}
    values |= {"Stage": stage, **parameters}
    conditions = {name: _resolve(node, values, {}) for name, node in template["Conditions"].items()}
    resources = template["Resources"].values()
    properties = [resource["Properties"] for resource in resources if resource["Type"] == "AWS::DynamoDB::Table"]
    return {table["TableName"]: table for table in _resolve(properties, values, conditions)}


def _resolve(node: Any, values: Mapping[str, str], conditions: Mapping[str, bool]) -> Any:
    match node:
        case {"Ref": str(name)} if name in values:
            return values[name]
        case {"Fn::Sub": str(text)}:
            for name, value in values.items():
                text = text.replace(f"${{{name}}}", value)
            return text
        case {"Fn::Equals": [first, second]}:
            return _resolve(first, values, conditions) == _resolve(second, values, conditions)
        case {"Fn::If": [str(condition), then, otherwise]}:
            return _resolve(then if conditions[condition] else otherwise, values, conditions)
        case dict():
            members = {name: _resolve(member, values, conditions) for name, member in node.items()}
            return {name: member for name, member in members.items() if member != _NO_VALUE}
        case list():
            elements = [_resolve(element, values, conditions) for element in node]
            return [element for element in elements if element != _NO_VALUE]
    return node
