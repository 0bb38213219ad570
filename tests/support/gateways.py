"""The gateways of a Lambda function: each turns an HTTP request into an event, and the result into a response.

The events follow AWS's documentation: Lambda proxy integration of a REST API; payload formats 1.0 and 2.0 of an HTTP
API; Function URL. HTTP APIs and Function URLs send header names in lower case, and forms in base64.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.support.browser import Answer, Browser
from tests.support.site import Site

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]
REQUEST_ID = "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"
ADDRESS = "192.0.2.7"
MAX_HEAD = 10_240  # bytes of request line and header fields that API Gateway accepts
_TIMES = {"time": "20/Nov/2026:12:00:00 +0000", "timeEpoch": 1795176000000}
_TEXT = ("text/", "application/json", "application/javascript", "application/xml")


@dataclass(frozen=True)
class GatewayRequest:
    """An HTTP request to a gateway. Header fields may be repeated."""

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    body: bytes | None

    @property
    def head_size(self) -> int:
        """The bytes of the request line and of the header fields."""
        line = f"{self.method} {self.path}?{self.query} HTTP/1.1"
        lines = [line, *(f"{name}: {value}" for name, value in self.headers)]
        return sum(len(text.encode(errors="replace")) + 2 for text in lines)

    def joined(self, by: str) -> dict[str, str]:
        """Return the header fields by their names in lower case, repeated ones joined, without cookies."""
        fields: dict[str, str] = {}
        for name, value in self.headers:
            key = name.lower()
            if key != "cookie":
                fields[key] = fields[key] + by + value if key in fields else value
        return fields

    @property
    def cookies(self) -> list[str]:
        return [part for name, value in self.headers if name.lower() == "cookie" for part in value.split("; ")]


@dataclass(frozen=True)
class Gateway:
    """A gateway: the function that makes its events, and its domain and stage."""

    name: str
    event: Callable[[GatewayRequest, str, str], dict[str, Any]]
    domain: str
    stage: str = "$default"

    @property
    def url(self) -> str:
        """The gateway's own address, as AWS assigns it."""
        return f"https://{self.domain}" + ("" if self.stage == "$default" else f"/{self.stage}")


def _many(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values


def _payload_1(sent: GatewayRequest, domain: str, stage: str, *, in_path: bool, lower: bool) -> dict[str, Any]:
    headers = _many([(name.lower() if lower else name, value) for name, value in sent.headers])
    query = _many(parse_qsl(sent.query, keep_blank_values=True))
    prefix = "" if stage == "$default" else f"/{stage}"
    path = unquote(sent.path)
    return {
        "resource": path,
        "path": prefix + path if in_path else path,
        "httpMethod": sent.method,
        "headers": {name: values[-1] for name, values in headers.items()} or None,
        "multiValueHeaders": headers or None,
        "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
        "multiValueQueryStringParameters": query or None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": domain.partition(".")[0],
            "domainName": domain,
            "domainPrefix": domain.partition(".")[0],
            "extendedRequestId": "AbCdEfGhIjK=",
            "httpMethod": sent.method,
            "identity": {"sourceIp": ADDRESS, "userAgent": "test", "accessKey": None, "user": None},
            "path": prefix + path,
            "protocol": "HTTP/1.1",
            "requestId": REQUEST_ID,
            "requestTime": _TIMES["time"],
            "requestTimeEpoch": _TIMES["timeEpoch"],
            "resourceId": "abc123",
            "resourcePath": path,
            "stage": stage,
        },
    }


def rest(sent: GatewayRequest, domain: str, stage: str) -> dict[str, Any]:
    """A REST API: the stage is in requestContext only, header names are unchanged, text is not encoded."""
    body = None if sent.body is None else sent.body.decode()
    return {**_payload_1(sent, domain, stage, in_path=False, lower=False), "body": body, "isBase64Encoded": False}


def rest_binary(sent: GatewayRequest, domain: str, stage: str) -> dict[str, Any]:
    """A REST API with the binary media type `*/*`: every body is in base64."""
    event = rest(sent, domain, stage)
    return event if sent.body is None else {**event, **_base64(sent.body)}


def http_1(sent: GatewayRequest, domain: str, stage: str) -> dict[str, Any]:
    """An HTTP API, payload format version 1.0."""
    return {"version": "1.0", **_payload_1(sent, domain, stage, in_path=True, lower=True), **_encoded(sent)}


def http_2(sent: GatewayRequest, domain: str, stage: str) -> dict[str, Any]:
    """An HTTP API, payload format version 2.0."""
    path = ("" if stage == "$default" else f"/{stage}") + sent.path
    query = {name: ",".join(values) for name, values in _many(parse_qsl(sent.query, keep_blank_values=True)).items()}
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": unquote(path),
        "rawQueryString": sent.query,
        "headers": sent.joined(","),
        "requestContext": {
            "accountId": "123456789012",
            "apiId": domain.partition(".")[0],
            "domainName": domain,
            "domainPrefix": domain.partition(".")[0],
            "http": {
                "method": sent.method,
                "path": unquote(path),
                "protocol": "HTTP/1.1",
                "sourceIp": ADDRESS,
                "userAgent": "test",
            },
            "requestId": REQUEST_ID,
            "routeKey": "$default",
            "stage": stage,
            **_TIMES,
        },
        **_encoded(sent),
    }
    # Without cookies or query, AWS leaves the member out.
    return (
        event
        | ({"cookies": sent.cookies} if sent.cookies else {})
        | ({"queryStringParameters": query} if query else {})
    )


def function_url(sent: GatewayRequest, domain: str, stage: str) -> dict[str, Any]:
    """A Function URL: payload 2.0, but the account is `anonymous`, and without a body there is no member `body`."""
    event = http_2(sent, domain, stage)
    event["requestContext"] |= {"accountId": "anonymous", "authentication": None}
    return event if sent.body is not None else {name: value for name, value in event.items() if name != "body"}


def _encoded(sent: GatewayRequest) -> dict[str, Any]:
    media_type = sent.joined(",").get("content-type", "")
    if sent.body is None or media_type.startswith(_TEXT):
        return {"body": None if sent.body is None else sent.body.decode(), "isBase64Encoded": False}
    return _base64(sent.body)


def _base64(body: bytes) -> dict[str, Any]:
    return {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}


HTTP_2 = Gateway("HTTP 2.0", http_2, "h2.execute-api.eu-west-1.amazonaws.com")
GATEWAYS = (
    Gateway("REST", rest, "r3st.execute-api.eu-west-1.amazonaws.com", "api"),
    Gateway("REST in base64", rest_binary, "r64.execute-api.eu-west-1.amazonaws.com", "api"),
    Gateway("HTTP 1.0", http_1, "h1.execute-api.eu-west-1.amazonaws.com"),
    Gateway("HTTP 1.0 with a stage", http_1, "h1s.execute-api.eu-west-1.amazonaws.com", "v1"),
    HTTP_2,
    Gateway("HTTP 2.0 with a stage", http_2, "h2s.execute-api.eu-west-1.amazonaws.com", "v1"),
    Gateway("Function URL", function_url, "furl.lambda-url.eu-west-1.on.aws"),
)


class GatewayBrowser(Browser):
    """A browser whose requests reach the handler as events of a gateway."""

    def __init__(self, site: Site, gateway: Gateway, handler: Handler | None = None):
        self.site = site
        self.gateway = gateway
        self.cookies = {}
        self._handler = handler or site.http_handler

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def request(
        self, method: str, url: str, body: str | bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send one request; redirects are not followed."""
        pairs = list((headers or {}).items())
        if self.cookies and "Cookie" not in (headers or {}):
            pairs.append(("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items())))
        return self.deliver(method, url, pairs, body.encode() if isinstance(body, str) else body)

    def deliver(self, method: str, url: str, headers: list[tuple[str, str]], body: bytes | None = None) -> Answer:
        """Send one request whose header fields may be repeated."""
        parts = urlsplit(url)
        path = parts.path.removeprefix(urlsplit(self.gateway.url).path) or "/"  # the event adds the stage again
        sent = GatewayRequest(method, path, parts.query, [("Host", self.gateway.domain), *headers], body)
        if sent.head_size > MAX_HEAD:
            return Answer(431, [], "Request Header Fields Too Large", url)
        event = self.gateway.event(sent, self.gateway.domain, self.gateway.stage)
        # Lambda passes event and result as JSON.
        result = json.loads(json.dumps(self._handler(json.loads(json.dumps(event)), None)))
        answer = Answer(
            result["statusCode"], _response_headers(result, "http" in event["requestContext"]), result["body"], url
        )
        self._store_cookies(answer)
        self.record_secrets(answer)
        return answer


class BrowserAt(GatewayBrowser):
    """A browser with its own IP address."""

    def __init__(self, site: Site, address: str):
        super().__init__(site, HTTP_2, self._at_address)
        self.address = address

    def _at_address(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        event["requestContext"]["http"]["sourceIp"] = self.address
        return self.site.http_handler(event, context)


def _response_headers(result: dict[str, Any], payload_2: bool) -> list[tuple[str, str]]:
    """Return the header fields that the gateway sends: from `cookies` in payload 2.0, else from `multiValueHeaders`."""
    assert not result.get("isBase64Encoded")
    fields = list(result.get("headers", {}).items())
    assert all(isinstance(value, str) for _, value in fields), fields
    # `headers` can hold only one Set-Cookie, and it would be sent in addition to the others.
    assert "Set-Cookie" not in result["headers"]
    assert ("multiValueHeaders" if payload_2 else "cookies") not in result
    if payload_2:
        return fields + [("Set-Cookie", value) for value in result.get("cookies", ())]
    return fields + [(name, value) for name, values in result.get("multiValueHeaders", {}).items() for value in values]
