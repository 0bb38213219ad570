"""The checks of client metadata documents: those that are pinned, and those that the settings name by their URL."""

import os
from collections.abc import Iterator

from chalicelib.clients.document_content import read_document
from chalicelib.clients.documents import MAX_BYTES, SECONDS
from chalicelib.http.outbound import Undeliverable, get_with_headers
from chalicelib.protocol.client_document import is_allowed, is_document_url
from chalicelib.settings import Settings
from infra.operator.doctor.findings import Finding
from infra.operator.doctor.stage import Inside

_NAMES = (
    *("SIGNET_CLIENT_DOCUMENTS", "SIGNET_CLIENT_DOCUMENT_HOSTS"),
    *("SIGNET_OPEN_CLIENT_SCOPE", "SIGNET_OPEN_CLIENT_REDIRECTS", "SIGNET_OPEN_CLIENT_GRANT_TYPES"),
    "SIGNET_OUTBOUND_NETWORKS",
)


def inspect(inside: Inside) -> Iterator[Finding]:
    """Yield the findings about each pinned document, and each that is allowed by its URL."""
    settings = _settings(inside)
    mode, listed = settings.client_documents, settings.client_document_hosts
    documents = {document.document_id: document for document in inside.store.documents.scan()}
    for url in sorted(documents):
        if documents[url].pinned_at is not None and not is_allowed(url, mode, listed):
            fix = "Add its host to SIGNET_CLIENT_DOCUMENT_HOSTS, or run `signet client unpin …`."
            yield Finding(f"document {url}", False, "It is pinned, but the settings do not allow it.", fix)
    for url in listed if mode != "off" else ():
        pinned = url in documents and documents[url].pinned_at is not None
        if not is_document_url(url) or pinned:
            continue
        try:
            content, _ = get_with_headers(url, settings.outbound_networks, at_most=MAX_BYTES, seconds=SECONDS)
            read_document(url, content, settings.open_client_policy)
        except (Undeliverable, ValueError) as error:
            fix = "Ask the people who run the application, or use a copy: `signet client pin …`."
            yield Finding(f"document {url}", False, f"It cannot be used: {error}.", fix)
        else:
            yield Finding(f"document {url}", True, "It can be fetched and used.")


def _settings(inside: Inside) -> Settings:
    """Return the settings about documents of the stage's function, or of this environment."""
    variables = inside.variables if inside.in_aws else os.environ
    return Settings.from_environ({name: variables[name] for name in _NAMES if name in variables})
