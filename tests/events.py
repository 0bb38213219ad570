"""The events that AWS's gateways send, as the Lambda and API Gateway developer guides document them."""

import base64
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

Event = dict[str, Any]
Pairs = list[tuple[str, str]]
SOURCE_IP = "203.0.113.7"
AGENT = "Mozilla/5.0"


def _body(body: str | bytes | None, encode: bool) -> dict[str, Any]:
    if encode or isinstance(body, bytes):
        raw = body.encode() if isinstance(body, str) else body or b""
        return {"body": base64.b64encode(raw).decode(), "isBase64Encoded": True}
    return {"body": body, "isBase64Encoded": False}


def _last(pairs: Pairs) -> dict[str, str] | None:
    return dict(pairs) or None


def _all(pairs: Pairs) -> dict[str, list[str]] | None:
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values or None


def _joined(pairs: Pairs) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        if key != "cookie":
            joined[key] = f"{joined[key]},{value}" if key in joined else value
    return joined


def rest(
    method: str,
    path: str,
    query: str,
    headers: Pairs,
    body: str | bytes | None,
    encode: bool = False,
    stage: str = "api",
) -> Event:
    """API Gateway REST API, proxy integration: the stage is not in `path`."""
    pairs = parse_qsl(query, keep_blank_values=True)
    return {
        "resource": path,
        "path": path,
        "httpMethod": method,
        "headers": _last(headers),
        "multiValueHeaders": _all(headers),
        "queryStringParameters": _last(pairs),
        "multiValueQueryStringParameters": _all(pairs),
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {
            "resourceId": "2gxmpl",
            "resourcePath": path,
            "httpMethod": method,
            "extendedRequestId": "JJbxmplHYosFVYQ=",
            "requestTime": "10/Mar/2020:00:03:59 +0000",
            "path": f"/{stage}{path}",
            "accountId": "123456789012",
            "protocol": "HTTP/1.1",
            "stage": stage,
            "domainPrefix": "70ixmpl4fl",
            "requestTimeEpoch": 1583798639428,
            "requestId": "77375676-xmpl-4b79-853a-f982474efe18",
            "identity": {"sourceIp": SOURCE_IP, "userAgent": AGENT, "accountId": None},
            "domainName": "70ixmpl4fl.execute-api.us-east-2.amazonaws.com",
            "apiId": "70ixmpl4fl",
        },
        **_body(body, encode),
    }


def http_1(
    method: str,
    path: str,
    query: str,
    headers: Pairs,
    body: str | bytes | None,
    encode: bool = False,
    stage: str = "prod",
) -> Event:
    """API Gateway HTTP API, payload format 1.0: the stage is in `path`, unless it is $default."""
    prefix = "" if stage == "$default" else f"/{stage}"
    event = rest(method, path, query, headers, body, encode, stage)
    event["requestContext"] |= {"path": prefix + path, "resourcePath": "$default", "resourceId": "$default"}
    return {"version": "1.0", **event, "resource": "$default", "path": prefix + path}


def http_2(
    method: str,
    path: str,
    query: str,
    headers: Pairs,
    body: str | bytes | None,
    encode: bool = False,
    stage: str = "$default",
) -> Event:
    """API Gateway HTTP API, payload format 2.0: headers in lower case and joined, cookies apart."""
    prefix = "" if stage == "$default" else f"/{stage}"
    cookies = [part for name, value in headers if name.lower() == "cookie" for part in value.split("; ")]
    pairs = parse_qsl(query, keep_blank_values=True)
    event: Event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": prefix + path,
        "rawQueryString": query,
        "headers": _joined(headers),
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "api-id",
            "domainName": "id.execute-api.us-east-1.amazonaws.com",
            "domainPrefix": "id",
            "http": {
                "method": method,
                "path": prefix + path,
                "protocol": "HTTP/1.1",
                "sourceIp": SOURCE_IP,
                "userAgent": AGENT,
            },
            "requestId": "id",
            "routeKey": "$default",
            "stage": stage,
            "time": "12/Mar/2020:19:03:58 +0000",
            "timeEpoch": 1583348638390,
        },
        **_body(body, encode),
    }
    # What there is none of is left out.
    if cookies:
        event["cookies"] = cookies
    if query:
        event["queryStringParameters"] = {name: ",".join(values) for name, values in (_all(pairs) or {}).items()}
    if body is None:
        event = {**event, "isBase64Encoded": False}
        del event["body"]
    return event


def function_url(
    method: str, path: str, query: str, headers: Pairs, body: str | bytes | None, encode: bool = True
) -> Event:
    """A Lambda function URL: payload format 2.0, bodies always in base64."""
    event = http_2(method, path, query, headers, body, encode and body is not None)
    event["requestContext"] |= {
        "domainName": "url-id.lambda-url.us-west-2.on.aws",
        "domainPrefix": "url-id",
        "apiId": "url-id",
        "authentication": None,
        "authorizer": None,
    }
    return event


Builder = Callable[..., Event]
GATEWAYS: Mapping[str, Builder] = {
    "REST API": rest,
    "REST API, base64": partial(rest, encode=True),
    "HTTP API 1.0": http_1,
    "HTTP API 1.0 at $default": partial(http_1, stage="$default"),
    "HTTP API 2.0": http_2,
    "HTTP API 2.0, base64": partial(http_2, encode=True),
    "HTTP API 2.0 at a stage": partial(http_2, stage="prod"),
    "Function URL": function_url,
}
