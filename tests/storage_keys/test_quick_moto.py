"""The faster moto of the tests answers as moto alone does."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.core.request import Request as MotoRequest
from moto.dynamodb.responses import DynamoHandler

from chalicelib.aws.messages import Request
from tests.support.moto_transport import ask_moto
from tests.support.quick_moto import moto_alone
from tests.support.site import Site

QUICK, ALONE = "eu-west-1", "eu-west-2"
TABLE = "letters"
KEY = {"id": {"S": "a"}, "place": {"N": "1"}}
ITEM = KEY | {
    "word": {"S": "alpha"},
    "count": {"N": "3"},
    "bytes": {"B": "AAEC"},
    "both": {"BOOL": True},
    "none": {"NULL": True},
    "map": {"M": {"x": {"S": "y"}, "deep": {"M": {"n": {"N": "1.50"}}}}},
    "list": {"L": [{"S": "p"}, {"N": "2"}, {"B": "AAEC"}]},
    "words": {"SS": ["q", "r"]},
    "numbers": {"NS": ["1", "2"]},
    "blobs": {"BS": ["AAEC", "AAED"]},
}
Call = tuple[str, dict[str, Any]]


@pytest.fixture(autouse=True)
def tables(site: Site) -> Iterator[None]:
    """The same table in two regions, with one item."""
    clients = [boto3.client("dynamodb", region_name=region) for region in (QUICK, ALONE)]
    for client in clients:
        client.create_table(
            TableName=TABLE,
            AttributeDefinitions=[
                {"AttributeName": "id", "AttributeType": "S"},
                {"AttributeName": "place", "AttributeType": "N"},
                {"AttributeName": "word", "AttributeType": "S"},
            ],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}, {"AttributeName": "place", "KeyType": "RANGE"}],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "word",
                    "KeySchema": [{"AttributeName": "word", "KeyType": "HASH"}],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
            BillingMode="PAY_PER_REQUEST",
        )
    assert answers("PutItem", {"TableName": TABLE, "Item": ITEM})[0] == 200
    yield
    for client in clients:
        client.delete_table(TableName=TABLE)


def answers(operation: str, parameters: dict[str, Any]) -> tuple[int, Any]:
    """Return the status and the body of a call, which must be the same in both regions."""
    body = json.dumps(parameters).encode()
    headers = {
        "Content-Type": "application/x-amz-json-1.0",
        "X-Amz-Target": f"DynamoDB_20120810.{operation}",
        "Authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/dynamodb/aws4_request",
    }
    quick = ask_moto(Request("POST", f"https://dynamodb.{QUICK}.amazonaws.com/", headers, body))
    with moto_alone():
        url = f"https://dynamodb.{ALONE}.amazonaws.com/"
        request = MotoRequest.from_primitives("POST", url, headers, body)
        status, alone_headers, alone = DynamoHandler.dispatch(request, url, request.headers)
    assert (quick.status, json.loads(quick.body)) == (int(status), json.loads(alone.replace(ALONE, QUICK)))
    names = {name.lower() for name in alone_headers} - {"date"}
    assert set(quick.headers) - {"date"} == names
    return quick.status, json.loads(quick.body)


def update(expression: str, values: dict[str, Any] | None = None, **members: Any) -> Call:
    given: dict[str, Any] = {"TableName": TABLE, "Key": KEY, "UpdateExpression": expression, "ReturnValues": "ALL_NEW"}
    return "UpdateItem", given | ({"ExpressionAttributeValues": values} if values else {}) | members


def put_if(condition: str, values: dict[str, Any] | None = None, **members: Any) -> Call:
    given: dict[str, Any] = {"TableName": TABLE, "Item": ITEM, "ConditionExpression": condition}
    return "PutItem", given | ({"ExpressionAttributeValues": values} if values else {}) | members


def write(*steps: dict[str, Any]) -> Call:
    return "TransactWriteItems", {"TransactItems": [{kind: step} for each in steps for kind, step in each.items()]}


PLAIN = {"#w": "word", "#l": "list", "#n": "numbers", "#h": "hits", "#s": "words", "#b": "both", "#z": "missing"}
NAMES = {"ExpressionAttributeNames": {"#c": "count"}}
OTHER = {"TableName": TABLE, "Key": KEY | {"place": {"N": "2"}}}
CHECK = {"TableName": TABLE, "Key": KEY, "ConditionExpression": "word = :w"}
CALLS: dict[str, list[Call]] = {
    "reads": [
        ("GetItem", {"TableName": TABLE, "Key": KEY}),
        ("GetItem", {"TableName": TABLE, "Key": KEY, "ProjectionExpression": "word, #c", **NAMES}),
        ("GetItem", OTHER),
        ("GetItem", {"TableName": TABLE, "Key": {"id": {"S": "a"}}}),
        ("GetItem", {"TableName": "missing", "Key": KEY}),
        ("BatchGetItem", {"RequestItems": {TABLE: {"Keys": [KEY, OTHER["Key"]], "ConsistentRead": True}}}),
        ("TransactGetItems", {"TransactItems": [{"Get": {"TableName": TABLE, "Key": KEY}}, {"Get": OTHER}]}),
        ("Scan", {"TableName": TABLE, "ReturnConsumedCapacity": "TOTAL", "Limit": 1}),
        (
            "Query",
            {
                "TableName": TABLE,
                "IndexName": "word",
                "KeyConditionExpression": "word = :w",
                "FilterExpression": "#c BETWEEN :low AND :high AND NOT contains(words, :q)",
                "ExpressionAttributeValues": {
                    ":w": {"S": "alpha"},
                    ":low": {"N": "1"},
                    ":high": {"N": "3"},
                    ":q": {"S": "z"},
                },
                **NAMES,
            },
        ),
    ],
    "values of the same condition": [
        put_if("#c = :n AND size(words) = :two", {":n": {"N": number}, ":two": {"N": "2"}}, **NAMES)
        for number in ("3", "4", "3")
    ],
    "names of the same condition": [
        put_if("#c = :n", {":n": {"N": "3"}}, ExpressionAttributeNames={"#c": name})
        for name in ("count", "word", "missing")
    ],
    "conditions": [
        put_if("attribute_not_exists(id)"),
        put_if("attribute_not_exists(id)", ReturnValuesOnConditionCheckFailure="ALL_OLD"),
        put_if("attribute_exists(map.x) AND map.deep.n < :n", {":n": {"N": "2"}}),
        put_if("begins_with(word, :w) OR word IN (:w, :x)", {":w": {"S": "al"}, ":x": {"S": "x"}}),
        put_if(
            "(word = :w OR both = :t) AND NOT (none <> :null)",
            {":w": {"S": "x"}, ":t": {"BOOL": True}, ":null": {"NULL": True}},
        ),
        put_if("attribute_type(bytes, :t) AND bytes = :b", {":t": {"S": "B"}, ":b": {"B": "AAEC"}}),
        put_if("list[1] = :n", {":n": {"N": "2"}}),
    ],
    "invalid conditions": [
        put_if("word = :w", {":w": {"S": "alpha"}, ":unused": {"S": "x"}}),
        put_if("((word = :w))", {":w": {"S": "alpha"}}),
    ],
    "updates": [
        *(
            update("SET word = :w, #c = #c + :n, extra = if_not_exists(extra, :w)", values, **NAMES)
            for values in ({":w": {"S": "b"}, ":n": {"N": "2"}}, {":w": {"S": "c"}, ":n": {"N": "5"}})
        ),
        update("SET #l = list_append(#l, :l)", {":l": {"L": [{"S": "z"}]}}, ExpressionAttributeNames={"#l": "list"}),
        update("REMOVE extra, words ADD numbers :n, hits :one", {":n": {"NS": ["7"]}, ":one": {"N": "1"}}),
        update("DELETE numbers :n", {":n": {"NS": ["7", "1"]}}),
        update(
            "SET bytes = :b, #m.deep.n = :n",
            {":b": {"B": "AQ=="}, ":n": {"N": "9"}},
            ExpressionAttributeNames={"#m": "map"},
        ),
        *(
            update(
                "SET #w = :w, #l = :l ADD #n :n, #h :one DELETE #s :s REMOVE #b, #z",
                values,
                ExpressionAttributeNames=PLAIN,
            )
            for values in (
                {":w": {"S": "x"}, ":l": {"L": []}, ":n": {"NS": ["5"]}, ":one": {"N": "1"}, ":s": {"SS": ["z"]}},
                {
                    ":w": {"S": "y"},
                    ":l": {"L": [{"S": "1"}]},
                    ":n": {"NS": ["6"]},
                    ":one": {"N": "2"},
                    ":s": {"SS": ["q"]},
                },
            )
        ),
        *(
            update(
                "SET #w = :w ADD #h :one",
                {":w": {"S": "y"}, ":one": {"N": "1"}},
                Key=key,
                ExpressionAttributeNames=names,
            )
            for key in (KEY, OTHER["Key"])
            for names in ({"#w": "word", "#h": "hits"}, {"#w": "extra", "#h": "hits"})
        ),
        update("SET word = :w", {":w": {"S": "d"}}, Key=OTHER["Key"]),
        update("SET word = :w", {":w": {"S": "e"}}, ConditionExpression="attribute_not_exists(id)"),
        update("SET word = :w", {":w": {"S": "e"}}, ReturnValues="UPDATED_OLD"),
    ],
    "invalid updates": [
        update("SET id = :w", {":w": {"S": "b"}}),
        update("SET #i = :w", {":w": {"S": "b"}}, ExpressionAttributeNames={"#i": "word"}),
        update("SET #i = :w", {":w": {"S": "b"}}, ExpressionAttributeNames={"#i": "id"}),
        update("SET word = :w, word = :w", {":w": {"S": "b"}}),
        update("SET word = :w SET extra = :w", {":w": {"S": "b"}}),
        update("SET word = :n", {":n": {"N": "1"}}),
        update("SET word = :w", {":w": {"S": ""}}),
        update("SET word = :missing", {":w": {"S": "b"}}),
        update("SET extra = missing + :n", {":n": {"N": "1"}}),
        update("SET missing.x = :w", {":w": {"S": "b"}}),
        update("SET word", {":w": {"S": "b"}}),
        *(
            update("SET #w = :w", values, ExpressionAttributeNames=names)
            for values in ({":w": {"S": "b"}}, {":w": {"S": ""}}, {":w": {"N": "1"}}, {":x": {"S": "b"}})
            for names in ({"#w": "word"}, {"#x": "word"}, {"#w": "id"})
        ),
        *(
            update("ADD #w :w", {":w": value}, ExpressionAttributeNames={"#w": "word"})
            for value in ({"N": "1"}, {"SS": ["b"]}, {"S": "b"})
        ),
    ],
    "transactions": [
        write(
            {"ConditionCheck": CHECK | {"ExpressionAttributeValues": {":w": {"S": "alpha"}}}},
            {"Update": OTHER | {"UpdateExpression": "SET word = :w", "ExpressionAttributeValues": {":w": {"S": "f"}}}},
        ),
        write({"ConditionCheck": CHECK | {"ExpressionAttributeValues": {":w": {"S": "other"}}}}, {"Delete": OTHER}),
        write(
            {"Update": OTHER | {"UpdateExpression": "SET word = :w", "ExpressionAttributeValues": {":w": {"S": "g"}}}},
            {"ConditionCheck": CHECK | {"ExpressionAttributeValues": {":w": {"S": "other"}}}},
        ),
        ("Scan", {"TableName": TABLE}),  # without the first step
        write({"Put": {"TableName": TABLE, "Item": ITEM}}, {"Delete": OTHER}),
    ],
    "writes": [
        ("DeleteItem", {"TableName": TABLE, "Key": KEY, "ReturnValues": "ALL_OLD", "ReturnConsumedCapacity": "TOTAL"}),
        ("DeleteItem", {"TableName": TABLE, "Key": KEY}),
        ("BatchWriteItem", {"RequestItems": {TABLE: [{"PutRequest": {"Item": ITEM}}]}}),
        ("PutItem", {"TableName": TABLE, "Item": ITEM, "ReturnValues": "ALL_OLD"}),
        ("PutItem", {"TableName": TABLE, "Item": {"id": {"S": "a"}}}),
    ],
}


@pytest.mark.parametrize("name", CALLS)
def test_faster_moto_answers_as_moto_alone(name: str) -> None:
    statuses = [answers(*call)[0] for call in CALLS[name]]
    assert (400 if name.startswith("invalid") else 200) in statuses
    assert answers("Scan", {"TableName": TABLE})[1]["Count"] >= 1


def test_answer_with_times_is_that_of_moto_alone() -> None:
    call = "DescribeContinuousBackups", {"TableName": TABLE}
    assert answers(*call)[1]["ContinuousBackupsDescription"]["ContinuousBackupsStatus"] == "ENABLED"
    client = boto3.client("dynamodb", region_name=QUICK)
    client.update_continuous_backups(
        TableName=TABLE, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )
    headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"DynamoDB_20120810.{call[0]}"}
    url = f"https://dynamodb.{QUICK}.amazonaws.com/"
    response = ask_moto(Request("POST", url, headers, json.dumps(call[1]).encode()))
    recovery = json.loads(response.body)["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
    assert recovery["EarliestRestorableDateTime"] <= recovery["LatestRestorableDateTime"]


def test_comparison_is_with_moto_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.moto_transport._without_nothing", lambda value: {**value, "Count": 9})
    with pytest.raises(AssertionError):
        answers("Scan", {"TableName": TABLE})
