"""The proxy in front of the gateway, if the settings declare one: proves that a request came through it, and by whom.

The address header can be trusted only with the secret: a caller who reaches the gateway directly may send any header.
"""

import hashlib
import re
import secrets
from typing import Any

from chalicelib.http.addresses import parse_address
from chalicelib.http.messages import Request
from chalicelib.protocol.errors import Forbidden, ServerError

SECRET_HEADER = "x-signet-proxy-secret"  # noqa: S105  the name of a header
_ADDRESS_SETTING = "SIGNET_CALLER_ADDRESS_HEADER"
_HASH_SETTING = "SIGNET_PROXY_SECRET_HASH"
# Lists that callers begin and gateways continue: which entry is the caller's depends on how many proxies there are.
_LISTS = ("forwarded", "x-forwarded-for")
# `address:port`, for IPv6 also without brackets, so that the last group of digits is always the port.
_ALWAYS_WITH_PORT = ("cloudfront-viewer-address",)
_IPV4_AND_PORT = re.compile(r"([0-9.]{7,15}):[0-9]{1,5}")
_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.]{2,45})\](?::[0-9]{1,5})?")
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,45}")


def declared(header: str, hashes_text: str) -> dict[str, Any]:
    """Return the settings `caller_address_header` and `proxy_secret_hash` of their variables. Raises ValueError.

    One without the other is an error: the header alone could be forged, and with the secret alone all callers would
    have the address of the proxy.
    """
    hashes = hashes_text.split()
    if header.lower() in _LISTS:
        reason = "it is a list to which callers and gateways add; let the proxy send a header of one address"
        raise ValueError(f"{_ADDRESS_SETTING} is {header!r}; {reason}")
    if header and (header.lower() == SECRET_HEADER or not re.fullmatch(r"[A-Za-z0-9-]{1,64}", header)):
        raise ValueError(f"{_ADDRESS_SETTING} is {header!r}; it must be the name of a header, or not set")
    if len(hashes) > 2 or not all(re.fullmatch(r"[0-9a-f]{64}", value) for value in hashes):
        form = "64 hexadecimal digits, or of two secrets, separated by a space"
        raise ValueError(f"{_HASH_SETTING} must be the SHA-256 of the proxy's secret, {form}")
    if header and not hashes:
        raise ValueError(
            f"{_ADDRESS_SETTING} requires {_HASH_SETTING}: without a secret, any caller can send the header"
        )
    if hashes and not header:
        raise ValueError(
            f"{_HASH_SETTING} requires {_ADDRESS_SETTING}: otherwise everyone has the address of the proxy"
        )
    return {"caller_address_header": header or None, "proxy_secret_hash": tuple(hashes)}


def secret_hash(secret: str) -> str:
    """Return the form in which the settings contain the proxy's secret: its SHA-256, in hexadecimal."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def admit(http: Request, address_header: str | None, secret_hashes: tuple[str, ...]) -> None:
    """Set the caller's address from the proxy's header. Does nothing when no proxy is declared.

    Raises Forbidden when the request did not come through the proxy, and ServerError when the proxy does not tell the
    address: no caller can cause this, only a wrong configuration, and the operator is alarmed.
    """
    if not secret_hashes or address_header is None:
        return
    presented = secret_hash(http.proxy_secret)
    # All are compared, so that the time does not tell which one is right.
    if not sum(secrets.compare_digest(presented, expected) for expected in secret_hashes):
        raise Forbidden("The request did not come through the proxy of this server.")
    with_port = address_header.lower() in _ALWAYS_WITH_PORT
    address = read_address(http.header(address_header) or "", always_with_port=with_port)
    if address is None:
        raise ServerError(detail=f"{_ADDRESS_SETTING}: the header {address_header} is missing or is not one address")
    http.source_ip = address


def read_address(text: str, *, always_with_port: bool = False) -> str | None:
    """Return the IP address of a header's value, in its shortest form and without its port; None if it is not one.

    Accepted are an address, an IPv4 address with a port, and an IPv6 address in brackets with or without a port. With
    `always_with_port`, an IPv6 address without brackets has one too.
    """
    text = text.strip()
    if match := _IPV4_AND_PORT.fullmatch(text) or _BRACKETED.fullmatch(text):
        text = match[1]
    elif always_with_port:
        text, _, port = text.rpartition(":")
        if not re.fullmatch(r"[0-9]{1,5}", port):
            return None
    if not _ADDRESS.fullmatch(text):
        return None
    address = parse_address(text)
    return None if address is None else str(address)
