"""Generate the IAM policies in infra/aws/iam from the code and the templates: `python -m tests.tools.policies`.

What the commands call themselves is read from their modules. What CloudFormation calls for them is in the handlers of
the resource types, which AWS publishes and cfn-lint contains: the deployer may do it through CloudFormation only.
"""

import ast
import json
import re
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import botocore.session
import yaml
from botocore import xform_name

from infra.operator.truststore import KEY

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "aws" / "iam"
MAX_SIZE = 6144  # characters of a managed policy, without white space
_CFN_LINT = find_spec("cfnlint")  # importing it takes half a second
assert _CFN_LINT
assert _CFN_LINT.origin
_SCHEMAS = Path(_CFN_LINT.origin).parent / "data" / "schemas"
_TABLES = ["arn:aws:dynamodb:*:*:table/signet-*", "arn:aws:dynamodb:*:*:table/signet-*/index/*"]
_ALIAS = {"ForAnyValue:StringLike": {"kms:ResourceAliases": "alias/signet-*"}}
_THROUGH_DYNAMODB = {"StringLike": {"kms:ViaService": "dynamodb.*.amazonaws.com"}}
_THROUGH_CLOUDFORMATION = {"ForAnyValue:StringEquals": {"aws:CalledVia": "cloudformation.amazonaws.com"}}
# Services whose permissions have the name of another one.
_PREFIXES = {"sesv2": "ses"}
# Methods whose permission has another name.
_PERMISSIONS = {
    "head_object": ("s3:GetObject", "s3:ListBucket"),
    "list_object_versions": ("s3:ListBucketVersions",),
    "transact_write_items": (),  # each of its writes has its own permission
    "table_exists": ("dynamodb:DescribeTable",),
    "list_functions": ("lambda:ListFunctions",),  # and not those of CloudFront
}
# The actions on an item that a transaction can be made of, for the operator, who may write every record.
_ITEMS = {f"dynamodb:{verb}Item" for verb in ("ConditionCheck", "Delete", "Get", "Put", "Update")}
# What handlers of resource types need for properties that the templates do not have.
_UNUSED = re.compile(
    "Abac|Accelerate|Acl|Analytics|BearerToken|CORS|CapacityProvider|CodeSigning|ConnectionGroup|ContributorInsights|"
    "Cors|DataProtection|Delivery|DisableKey$|Import|IndexPolic|IntelligentTiering|Inventory|Kinesis|Logging|Metadata|"
    "Metrics|Notification|ObjectLock|PermissionsBoundary|ProvisionedConcurrency|RecursionConfig|"
    "Replica|ResourcePolicy|RuntimeAlias|RuntimeManagement|ScalingConfig|ServiceLinkedRole|StagingConfig|VpcOrigin|"
    "Website|GroupPolicy|UserPolicy|GroupDeletionProtection|KmsKey|LayerVersion"
)
_DATA = re.compile(r"dynamodb:(Batch\w+|\w+Item|Query|Scan)$")  # the handler of tables copies items of an import
# Other services that a handler calls for what the templates have.
_ALSO = {
    *("iam:PassRole", "s3:GetObject", "s3:GetObjectVersion"),
    *("kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:Encrypt"),
}
_VERBS = {"get": "dynamodb:GetItem", "scan": "dynamodb:Scan"}
_TABLE_OF = {"key_sets": "documents"}  # further records of a table


def called(*modules: str, services: Iterable[str]) -> set[str]:
    """Return the permissions for the calls of AWS in these modules: methods, paginators and waiters."""
    actions: set[str] = set()
    for module in modules:
        for file in sorted(ROOT.glob(module)):
            for node in ast.walk(ast.parse(file.read_text())):
                actions.update(_permissions(_name(node), services))
    return actions


def _name(node: ast.AST) -> str:
    match node:
        case ast.Attribute(attr=str(name)) | ast.Constant(value=str(name)):
            return name
    return ""


def _permissions(method: str, services: Iterable[str]) -> Iterable[str]:
    method = next((name for service in services for name in _methods_of(service, method)), method)
    if method in _PERMISSIONS:
        return _PERMISSIONS[method]
    named = [(service, _operations(service)) for service in services]
    return [f"{_PREFIXES.get(service, service)}:{names[method]}" for service, names in named if method in names]


def _methods_of(service: str, operation: str) -> list[str]:
    """Return boto3's method for an operation that the server's own client calls by its name in the API."""
    return [method for method, name in _operations(service).items() if name == operation]


@cache
def _operations(service: str) -> dict[str, str]:
    model = botocore.session.get_session().get_service_model(service)
    return {xform_name(name): name for name in model.operation_names}


def _reads() -> dict[str, set[str]]:
    """Return the permissions for the records that the doctor reads, by table."""
    reads: dict[str, set[str]] = {}
    for file in sorted((ROOT / "infra/operator/doctor").glob("*.py")):
        for kind, verb in re.findall(r"store\.(\w+)\.(get|scan)\(", file.read_text()):
            reads.setdefault(_TABLE_OF.get(kind, kind), set()).add(_VERBS[verb])
    return dict(sorted(reads.items()))


def handled(*templates: str) -> set[str]:
    """Return the permissions that CloudFormation needs for the resources of these templates."""
    actions: set[str] = set()
    for template in templates:
        for resource in yaml.safe_load((ROOT / "infra" / "aws" / template).read_text())["Resources"].values():
            kind = resource["Type"].replace("Serverless", "Lambda")
            own = kind.split("::")[1].lower().replace("apigatewayv2", "apigateway")
            for name, handler in _handlers(kind).items():
                if name == "delete" and resource.get("DeletionPolicy") == "Retain":
                    continue
                needed = (action for action in handler["permissions"] if action.split(":")[0] == own or action in _ALSO)
                actions.update(action for action in needed if not _UNUSED.search(action) and not _DATA.search(action))
    return actions


def _handlers(kind: str) -> dict[str, Any]:
    files = json.loads((_SCHEMAS / "providers" / "us-east-1.json").read_text())
    name = files[kind].removesuffix(".json")
    schema: dict[str, Any] = json.loads((_SCHEMAS / "resources" / f"{name}.json").read_text())
    return dict(schema["handlers"])


def policies() -> dict[str, dict[str, Any]]:
    """Return the policies by the names of their files."""
    inside = ("dynamodb", "kms", "lambda", "cloudwatch", "cloudfront", "sesv2")
    seen = called("infra/operator/doctor/*.py", services=inside)
    looks = sorted(action for action in seen if not action.startswith(("dynamodb:", "kms:")))
    key = ["kms:DescribeKey", "kms:GetKeyRotationStatus"]
    records = called("chalicelib/storage/*.py", "infra/operator/transfer/*.py", services=["dynamodb"]) | _ITEMS
    direct = called(*_DEPLOYER, services=("cloudformation", "dynamodb", "lambda", "s3"))
    through = handled("tables.yaml", "api.yaml")
    roles = {action for action in through if action.startswith("iam:")}
    doctor = [
        _statement("Look", looks, "*"),
        _statement("Tables", {a for a in seen if a.startswith("dynamodb:Describe")}, _TABLES[0]),
        *(_statement(kind.capitalize(), actions, f"{_TABLES[0]}-{kind}") for kind, actions in _reads().items()),
        _statement("Keys", key, "*"),
        _statement("OpenTheTables", ["kms:Decrypt"], "*", _THROUGH_DYNAMODB | _ALIAS),
        _statement("OpenTheKeyRing", ["kms:Decrypt"], "*", {"StringLike": {_CONTEXT: "*"}, **_ALIAS}),
        _statement("Truststore", ["s3:GetObject"], _TRUSTSTORE),
        _statement("Domain", ["apigateway:GET"], _DOMAINS),
    ]
    certificates = [
        _statement("Bucket", ["cloudformation:DescribeStacks"], _STACKS),
        # API Gateway reads the version on behalf of the caller.
        _statement("Truststore", ["s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"], _TRUSTSTORE),
        _statement("Missing", ["s3:ListBucket"], _BUCKETS[0]),
        _statement("Domain", ["apigateway:GET", "apigateway:PATCH"], _DOMAINS),
    ]
    operator = [
        _statement("Records", records, _TABLES),
        _statement("OpenTheTables", ["kms:Decrypt"], "*", _THROUGH_DYNAMODB | _ALIAS),
        _statement("KeyRing", ["kms:Decrypt", "kms:GenerateDataKey"], "*", {"StringLike": {_CONTEXT: "*"}, **_ALIAS}),
        _statement("SigningKeys", ["kms:GetPublicKey"], "*", _ALIAS),
        _statement("Issuer", ["lambda:ListFunctions"], "*"),
    ]
    stacks = {action for action in direct if action.startswith("cloudformation:")}
    deployer = [
        _statement("Stacks", stacks, [*_STACKS, "arn:aws:cloudformation:*:aws:transform/Serverless-2016-10-31"]),
        _statement("Tables", {a for a in direct if a.startswith("dynamodb:") and not _DATA.match(a)}, _TABLES[0]),
        _statement("Code", {a for a in direct if a.startswith("s3:")}, _BUCKETS),
        _statement("Function", {a for a in direct if a.startswith("lambda:")}, "arn:aws:lambda:*:*:function:signet-*"),
        # A table that `Tables.repair` creates is encrypted on behalf of the caller.
        _statement("Encrypt", ["kms:CreateGrant", "kms:DescribeKey"], "*", _ALIAS),
        _statement("Role", roles, "arn:aws:iam::*:role/signet-*", _THROUGH_CLOUDFORMATION),
        _statement("Resources", through - roles, "*", _THROUGH_CLOUDFORMATION),
    ]
    front = [
        _statement("Front", handled("front.yaml"), "*", _THROUGH_CLOUDFORMATION),
        _statement("Secret", ["cloudfront:GetDistributionConfig"], "*"),
    ]
    return {
        name: {"Version": "2012-10-17", "Statement": statements}
        for name, statements in {
            "doctor": doctor,
            "operator": operator,
            "deployer": deployer,
            "deployer-front": front,
            "operator-certificates": certificates,
        }.items()
    }


# Without `destroy --with-data`, which deletes everything.
_DEPLOYER = tuple(f"infra/aws/{name}.py" for name in ("code", "data", "deploy", "deployment", "stacks", "tables"))
_CONTEXT = "kms:EncryptionContext:signet-stage"
_STACKS = [f"arn:aws:cloudformation:*:*:stack/signet-{kind}-*/*" for kind in ("api", "data", "front")]
_TRUSTSTORE = f"arn:aws:s3:::signet-data-*/{KEY}"
_DOMAINS = "arn:aws:apigateway:*::/domainnames/*"
_BUCKETS = ["arn:aws:s3:::signet-data-*", "arn:aws:s3:::signet-data-*/*"]


def _statement(sid: str, actions: Iterable[str], resource: Any, condition: Any = None) -> dict[str, Any]:
    statement = {"Sid": sid, "Effect": "Allow", "Action": sorted(actions), "Resource": resource}
    return statement | ({"Condition": condition} if condition else {})


def text(policy: dict[str, Any]) -> str:
    """Return the content of a file."""
    return json.dumps(policy, indent=2) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file_name, document in policies().items():
        (FOLDER / f"{file_name}.json").write_text(text(document))
