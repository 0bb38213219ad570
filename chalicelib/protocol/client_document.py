"""Client metadata documents (draft-ietf-oauth-client-id-metadata-document-02): their record, and which may be used.

A client that no operator has registered names itself by the https URL of a document about it. The rules of all records
are in `protocol.records`.
"""

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import unquote

from chalicelib.protocol.values import dataclass

MAX_URL = 512
MODES = ("list", "off", "open")  # the first is the default
# The expiry of a record that never expires: the last second of the year 9999.
NEVER = 253_402_300_799
BLOCKED_HOSTS = "blocked hosts"  # the key of their record
# One spelling for each host, in ASCII and small letters: without user information, fragment and final dot.
_HOST = r"[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})*(?::[1-9][0-9]{0,4})?"
_URL = re.compile(
    rf"https://(?P<host>{_HOST})(?P<path>/[A-Za-z0-9\-._~:/@!$&'()*+,;=%]*)(?:\?[A-Za-z0-9\-._~:/?@!$&'()*+,;=%]*)?"
)


@dataclass(frozen=True)
class ClientDocument:
    """A document as it was read and checked.

    `digest`: of the redirect URIs, authentication methods and keys; another one means that users are asked again.
    `fresh_until`: when it is fetched again, by one process until `refreshing_until`. `pinned_at`: the operator has
    given this copy, which is never fetched. `blocked_at`: the operator has blocked this URL; such a record may have no
    content (`redirect_uris` is empty). `expires_at` moves while grants of the client are used.
    """

    document_id: str
    expires_at: int
    client_name: str = ""
    redirect_uris: tuple[str, ...] = ()
    grant_types: tuple[str, ...] = ("authorization_code", "refresh_token")
    auth_methods: tuple[str, ...] = ("none",)
    jwks: dict[str, Any] | None = None
    jwks_uri: str | None = None
    client_uri: str | None = None
    policy_uri: str | None = None
    tos_uri: str | None = None
    digest: str = ""
    fetched_at: int = 0
    fresh_until: int = 0
    refreshing_until: int = 0
    first_seen_at: int = 0
    pinned_at: int | None = None
    blocked_at: int | None = None
    dpop_bound_access_tokens: bool = False
    require_signed_request_object: bool | None = None
    request_object_signing_alg: str | None = None
    require_pushed_authorization_requests: bool = False


@dataclass(frozen=True)
class BlockedHosts:
    """The hosts whose documents the operator has blocked, on every port: one record in the table of the documents."""

    document_id: str
    hosts: frozenset[str] = frozenset()
    expires_at: int = NEVER


def is_document_url(client_id: str) -> bool:
    """Return whether a client_id can be the URL of a document (section 3 of the draft).

    It is https, with a path, in ASCII; without user information, fragment, dot segments, and another spelling of the
    host than in small letters.
    """
    url = _URL.fullmatch(client_id) if len(client_id) <= MAX_URL else None
    return url is not None and not any(segment in (".", "..") for segment in unquote(url["path"]).split("/"))


def is_host(text: str) -> bool:
    """Return whether a text is a host, with or without a port, as it is written in the URL of a document."""
    return re.fullmatch(_HOST, text) is not None


def host_of_document(url: str) -> str:
    """Return the host of the URL of a document, with its port if it names one."""
    return url.split("/", 3)[2]


def is_allowed(url: str, mode: str, listed: Collection[str]) -> bool:
    """Return whether the operator allows a document: any in the mode `open`, in the mode `list` by its URL or host."""
    return mode == "open" or (mode == "list" and (url in listed or host_of_document(url) in listed))


def is_on_host(url: str, hosts: Collection[str]) -> bool:
    """Return whether a document is on one of these hosts, on any port."""
    return host_of_document(url).partition(":")[0] in hosts
