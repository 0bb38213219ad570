"""Conversion of gateway events to requests, and of responses back: REST API, HTTP API 1.0 and 2.0, Function URL."""

import base64
import binascii
import re
import secrets
from collections.abc import Container, Iterable, Iterator
from typing import Any
from urllib.parse import unquote

from chalicelib.http.messages import NOT_DECODED, Params, Request, Response
from chalicelib.http.proxy import SECRET_HEADER
from chalicelib.protocol.errors import InvalidRequest
from chalicelib.protocol.mutual_tls import PresentedCertificate

Event = dict[str, Any]
_DOMAIN = re.compile(r"[a-z0-9.-]{1,253}")


def read(event: Event) -> Request:
    """Return the HTTP request in a gateway's event, without its query and body, which `decode` adds.

    The secret of a proxy is not among the headers, so that nothing can log or show it.
    """
    context = event["requestContext"]
    http = _read_2(event, context) if "http" in context else _read_1(event, context)
    http.proxy_secret = http.headers.get(SECRET_HEADER, "")
    http.headers = {name: value for name, value in http.headers.items() if name != SECRET_HEADER}
    prefix = _stage_path(event)
    if prefix and (http.path == prefix or http.path.startswith(prefix + "/")):
        http.path = http.path[len(prefix) :]
    http.path = http.path.rstrip("/") or "/"
    domain = str(context.get("domainName", ""))
    if _DOMAIN.fullmatch(domain):  # API Gateway sets it, and no client can
        http.base_url, http.domain = f"https://{domain}{prefix}", domain
    http.request_id = str(context.get("requestId") or secrets.token_hex(8))
    return http


def remove_base_path(event: Event, http: Request, base: str, routes: Container[str]) -> None:
    """Remove the path of the issuer, `base`, from that of the request: a custom domain leaves its base path in events.

    A well-known address has the issuer's path behind it (RFC 8414 section 3) or before it (OpenID Connect Discovery
    section 4). A path without it is kept: the front may have removed it. `routes`: the paths of this server.
    """
    if not base:
        return
    path, stage = http.path, _stage_path(event)
    # `read` has removed the stage, also where it is how the base path begins.
    starts = [base, *([base[len(stage) :]] if stage and base.startswith(stage + "/") else [])]
    below = [path[len(start) :] or "/" for start in starts if path == start or path.startswith(start + "/")]
    if path.startswith("/.well-known/") and path.endswith(base):
        below.append(path[: -len(base)])
    http.path = next((each for each in below if each in routes), path)


def _stage_path(event: Event) -> str:
    """Return the stage as the beginning of a path; empty for the default stage."""
    stage = event["requestContext"].get("stage")
    return f"/{stage}" if stage and stage != "$default" else ""


def decode(event: Event, http: Request) -> Request:
    """Add the query and the body of the event to the request. Raises InvalidRequest when they cannot be decoded."""
    if "rawQueryString" in event:
        http.query = Params.from_urlencoded(event["rawQueryString"])
    else:
        pairs = list(_pairs(event, "multiValueQueryStringParameters", "queryStringParameters"))
        # What is not UTF-8 was replaced, and cannot be told from this character as it was sent: no value is guessed.
        if any("\ufffd" in text for pair in pairs for text in pair):
            raise InvalidRequest(NOT_DECODED)
        http.query = Params(pairs)
    body = event.get("body") or b""
    if event.get("isBase64Encoded"):
        try:
            body = base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidRequest("The body cannot be decoded.") from error
    http.body = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
    return http


def _read_1(event: Event, context: dict[str, Any]) -> Request:
    """Read an event of a REST API, an HTTP API with payload 1.0, or `chalice local`, which omits some members."""
    return Request(
        method=event.get("httpMethod") or context["httpMethod"],
        path=event.get("path") or context.get("path") or context["resourcePath"],
        headers=_headers(_pairs(event, "multiValueHeaders", "headers")),
        source_ip=context.get("identity", {}).get("sourceIp", ""),
        presented_certificate=_certificate(context.get("identity")),
    )


def _read_2(event: Event, context: dict[str, Any]) -> Request:
    """Read an event of an HTTP API with payload 2.0 or a Function URL: headers are joined, cookies are separate."""
    pairs = [*event.get("headers", {}).items(), *(("cookie", value) for value in event.get("cookies", []))]
    return Request(
        method=context["http"]["method"],
        path=unquote(event.get("rawPath", "/"), errors="replace"),
        headers=_headers(pairs),
        source_ip=context["http"].get("sourceIp", ""),
        presented_certificate=_certificate(context.get("authentication")),
    )


def _certificate(holder: Any) -> PresentedCertificate | None:
    """Return the certificate of the client, from the member of an event that only the gateway fills in."""
    given = holder.get("clientCert") if isinstance(holder, dict) else None
    if not isinstance(given, dict):
        return None
    return PresentedCertificate(str(given.get("clientCertPem") or ""), str(given.get("subjectDN") or ""))


def _pairs(event: Event, repeated: str, single: str) -> Iterator[tuple[str, Any]]:
    """Return the pairs of the member `repeated`, which has lists of values, or else those of the member `single`."""
    if values_of := event.get(repeated):
        return ((name, value) for name, values in values_of.items() for value in values)
    return iter((event.get(single) or {}).items())


def _headers(pairs: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """Return header fields by lower-case name, repeated ones joined (RFC 9110 section 5.3; cookies by a semicolon)."""
    headers: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        separator = "; " if key == "cookie" else ", "
        headers[key] = headers[key] + separator + str(value) if key in headers else str(value)
    return headers


def write(response: Response, event: Event) -> dict[str, Any]:
    """Return the response in the form that the event's gateway expects."""
    single = {name: value for name, value in response.headers if name != "Set-Cookie"}
    # API Gateway renames WWW-Authenticate; the HTTP API in infra/aws/api.yaml restores it from this field.
    if challenge := single.get("WWW-Authenticate"):
        single["x-signet-www-authenticate"] = challenge
    result: dict[str, Any] = {"statusCode": response.status, "headers": single, "body": response.body}
    cookies = response.values("Set-Cookie")
    if event.get("version") == "2.0" or "http" in event["requestContext"]:
        return result | ({"cookies": cookies} if cookies else {})
    return result | {"multiValueHeaders": {"Set-Cookie": cookies} if cookies else {}}
