"""Gateway events as our messages, and back: REST API, HTTP API payload 1.0 and 2.0, Function URL."""

import base64
import binascii
import re
import secrets
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from chalicelib.errors import InvalidRequest
from chalicelib.messages import Params, Request, Response

Event = dict[str, Any]
_DOMAIN = re.compile(r"[a-z0-9.-]{1,253}")


def read(event: Event) -> Request:
    """The HTTP request in a gateway's event. Raises InvalidRequest when its query or body cannot be decoded."""
    context = event["requestContext"]
    request = _read_2(event, context) if "http" in context else _read_1(event, context)
    stage = context.get("stage")
    prefix = f"/{stage}" if stage and stage != "$default" else ""
    if prefix and (request.path == prefix or request.path.startswith(prefix + "/")):
        request.path = request.path[len(prefix) :]
    request.path = request.path.rstrip("/") or "/"
    domain = str(context.get("domainName", ""))
    if _DOMAIN.fullmatch(domain):  # API Gateway sets it, and no client can
        request.base_url = f"https://{domain}{prefix}"
    request.request_id = str(context.get("requestId") or secrets.token_hex(8))
    return request


def decode(event: Event, request: Request) -> Request:
    """Fill in the query and the body. Raises InvalidRequest when they cannot be decoded."""
    if "rawQueryString" in event:
        request.query = Params.from_urlencoded(event["rawQueryString"])
    else:
        many = event.get("multiValueQueryStringParameters") or {}
        one = event.get("queryStringParameters") or {}
        values = many or {name: [value] for name, value in one.items()}
        request.query = Params((name, value) for name, all_ in values.items() for value in all_)
    body = event.get("body") or b""
    if event.get("isBase64Encoded"):
        try:
            body = base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidRequest("The body cannot be decoded.") from error
    request.body = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
    return request


def _read_1(event: Event, context: dict[str, Any]) -> Request:
    """REST API, HTTP API payload 1.0, and `chalice local`, which leaves out some of it."""
    many = event.get("multiValueHeaders") or {}
    one = event.get("headers") or {}
    values = many or {name: [value] for name, value in one.items()}
    return Request(
        method=event.get("httpMethod") or context["httpMethod"],
        path=event.get("path") or context.get("path") or context["resourcePath"],
        headers=_headers((name, value) for name, all_ in values.items() for value in all_),
        source_ip=context.get("identity", {}).get("sourceIp", ""),
    )


def _read_2(event: Event, context: dict[str, Any]) -> Request:
    """HTTP API payload 2.0 and Function URL: repeated headers are joined, cookies stand apart."""
    pairs = [*event.get("headers", {}).items(), *(("cookie", value) for value in event.get("cookies", []))]
    return Request(
        method=context["http"]["method"],
        path=unquote(event.get("rawPath", "/"), errors="replace"),
        headers=_headers(pairs),
        source_ip=context["http"].get("sourceIp", ""),
    )


def _headers(pairs: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """By lower-case name; a repeated field is joined, as RFC 9110 section 5.3 has it (cookies by a semicolon)."""
    headers: dict[str, str] = {}
    for name, value in pairs:
        key, joint = name.lower(), "; " if name.lower() == "cookie" else ", "
        headers[key] = headers[key] + joint + str(value) if key in headers else str(value)
    return headers


def write(response: Response, event: Event) -> dict[str, Any]:
    """The response in the form that this event's gateway expects."""
    single = {name: value for name, value in response.headers if name != "Set-Cookie"}
    # API Gateway renames WWW-Authenticate; infra/api.yaml has an HTTP API write it from this one.
    if challenge := single.get("WWW-Authenticate"):
        single["x-signet-www-authenticate"] = challenge
    answer: dict[str, Any] = {"statusCode": response.status, "headers": single, "body": response.body}
    cookies = response.values("Set-Cookie")
    if event.get("version") == "2.0" or "http" in event["requestContext"]:
        return answer | ({"cookies": cookies} if cookies else {})
    return answer | {"multiValueHeaders": {"Set-Cookie": cookies} if cookies else {}}
