"""The doctor on the addresses that SES suppresses. moto has no such list, so the answers are given here."""

from datetime import UTC, datetime
from typing import Any

import pytest

from chalicelib.settings import Settings
from chalicelib.storage.store import Store
from infra.operator.doctor import suppression
from infra.operator.doctor.findings import Verdict
from infra.operator.doctor.stage import Inside

SENDER = {"SIGNET_EMAIL_FROM": "login@example.com"}


def entry(address: str, day: int, reason: str = "BOUNCE") -> dict[str, Any]:
    return {"EmailAddress": address, "Reason": reason, "LastUpdateTime": datetime(2026, 11, day, tzinfo=UTC)}


class Ses:
    """A suppression list in pages."""

    def __init__(self, *pages: list[dict[str, Any]]):
        self.pages = pages
        self.calls = 0

    def list_suppressed_destinations(self, **parameters: Any) -> dict[str, Any]:
        assert parameters["PageSize"] == 1000  # the maximum
        number = int(parameters.get("NextToken", 0))
        self.calls += 1
        more = {"NextToken": str(number + 1)} if number + 1 < len(self.pages) else {}
        return {"SuppressedDestinationSummaries": self.pages[number], **more}


def examined(monkeypatch: pytest.MonkeyPatch, ses: Ses, variables: dict[str, str]) -> Verdict:
    monkeypatch.setattr(Inside, "aws", lambda _inside, _service: ses)
    monkeypatch.setattr(Inside, "variables", variables)
    return suppression.addresses(Inside(Store(Settings(stage="ward", region="eu-central-1"))))


def test_suppressed_addresses_of_all_pages_are_counted_and_the_newest_are_shown_masked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = [entry("alice@example.com", 1), entry("bob@example.org", 20, "COMPLAINT")]
    second = [entry(f"user{day}@example.com", day) for day in range(2, 7)]
    verdict = examined(monkeypatch, Ses(first, second), SENDER)
    assert verdict.ok
    assert verdict.detail.startswith(
        "7 addresses of this account get no mail: b…@example.org (complaint), u…@example.com (bounce)"
    )
    assert ", and 2 more." in verdict.detail
    assert "alice" not in verdict.detail
    assert "bob" not in verdict.detail


def test_long_suppression_list_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ses = Ses(*([entry("alice@example.com", 1)] for _ in range(12)))
    assert examined(monkeypatch, ses, SENDER).detail.startswith("More than 10 addresses")
    assert ses.calls == 10


def test_empty_suppression_list_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert examined(monkeypatch, Ses([]), SENDER) == Verdict(True, "SES suppresses no address of this account.")


def test_suppression_list_is_not_read_where_no_mail_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    ses = Ses([])
    assert examined(monkeypatch, ses, {}).ok is None
    assert ses.calls == 0
