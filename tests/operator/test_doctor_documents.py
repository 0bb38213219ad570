"""What `signet doctor` says about client metadata documents."""

from unittest import mock

import pytest

from chalicelib.http import outbound
from chalicelib.protocol.client_document import NEVER, ClientDocument
from infra.operator.doctor.documents import inspect
from infra.operator.doctor.stage import Inside
from tests.support.site import Site

URL = "https://app.example.com/client"


@pytest.fixture
def inside(site: Site, monkeypatch: pytest.MonkeyPatch) -> Inside:
    for name in ("SIGNET_CLIENT_DOCUMENTS", "SIGNET_CLIENT_DOCUMENT_HOSTS", "SIGNET_OUTBOUND_NETWORKS"):
        monkeypatch.delenv(name, raising=False)
    return Inside(site.server.store)


def pin(site: Site) -> None:
    site.server.store.documents.put(ClientDocument(URL, NEVER, pinned_at=1))


@pytest.mark.parametrize(("listed", "problems"), [("", 1), ("app.example.com", 0), (URL, 0)])
def test_pinned_document_that_the_settings_do_not_allow_is_named(
    site: Site, inside: Inside, monkeypatch: pytest.MonkeyPatch, listed: str, problems: int
) -> None:
    pin(site)
    monkeypatch.setenv("SIGNET_CLIENT_DOCUMENT_HOSTS", listed)
    findings = list(inspect(inside))
    assert [(finding.name, finding.ok) for finding in findings] == [(f"document {URL}", False)] * problems


@pytest.mark.parametrize(
    ("content", "ok"),
    [(f'{{"client_id": "{URL}", "redirect_uris": ["https://app.example.com/cb"]}}'.encode(), True), (b"{}", False)],
)
def test_document_that_is_allowed_by_its_url_is_fetched(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, content: bytes, ok: bool
) -> None:
    monkeypatch.setenv("SIGNET_CLIENT_DOCUMENT_HOSTS", f"{URL} claude.ai")
    with mock.patch("infra.operator.doctor.documents.get_with_headers", return_value=(content, {})):
        (finding,) = inspect(inside)
    assert (finding.name, finding.ok) == (f"document {URL}", ok)


def test_document_that_cannot_be_fetched_is_named(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNET_CLIENT_DOCUMENT_HOSTS", URL)
    failure = outbound.Undeliverable("the response has status 403, or is compressed")
    with mock.patch("infra.operator.doctor.documents.get_with_headers", side_effect=failure):
        (finding,) = inspect(inside)
    assert (finding.ok, "status 403" in finding.detail, "client pin" in finding.fix) == (False, True, True)
