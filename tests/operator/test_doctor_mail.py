"""The doctor on what sends mail. moto knows identities only, so the answers of SES are given here."""

from types import SimpleNamespace
from typing import Any

import pytest

from chalicelib.settings import Settings
from chalicelib.storage.store import Store
from infra.operator.doctor import mail
from infra.operator.doctor.stage import Inside

VERIFIED = {"VerifiedForSendingStatus": True, "DkimAttributes": {"Status": "SUCCESS", "Tokens": ["t1", "t2"]}}
PENDING = {"VerifiedForSendingStatus": False, "DkimAttributes": {"Status": "PENDING", "Tokens": ["t1", "t2"]}}
PRODUCTION = {
    "ProductionAccessEnabled": True,
    "SendingEnabled": True,
    "EnforcementStatus": "HEALTHY",
    "SendQuota": {"Max24HourSend": 50000.0},
}
SUPPRESSING = {"SuppressionOptions": {"SuppressedReasons": ["BOUNCE", "COMPLAINT"]}}
ISSUER = {"SIGNET_ISSUER": "https://login.example.com"}
SENDER = {**ISSUER, "SIGNET_EMAIL_FROM": "login@example.com"}
DEPLOYED = {**SENDER, "SIGNET_EMAIL_CONFIGURATION_SET": "signet-ward"}


class NotFoundException(Exception):
    """The error of boto3."""


class Ses:
    """What SES answers."""

    exceptions = SimpleNamespace(NotFoundException=NotFoundException)

    def __init__(self, identities: dict[str, Any], account: dict[str, Any], sets: dict[str, Any]):
        self.identities, self.account, self.sets = identities, account, sets

    def get_email_identity(self, **parameters: str) -> Any:
        return self._find(self.identities, parameters["EmailIdentity"])

    def get_account(self) -> Any:
        return self.account

    def get_configuration_set(self, **parameters: str) -> Any:
        return self._find(self.sets, parameters["ConfigurationSetName"])

    @staticmethod
    def _find(answers: dict[str, Any], name: str) -> Any:
        if name not in answers:
            raise NotFoundException(name)
        return answers[name]


def examined(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str] | None = None, **answers: dict[str, Any]
) -> Any:
    given: dict[str, Any] = {
        "identities": {"example.com": VERIFIED},
        "account": PRODUCTION,
        "sets": {"signet-ward": SUPPRESSING},
    }
    monkeypatch.setattr(Inside, "aws", lambda _inside, _service: Ses(**(given | answers)))
    monkeypatch.setattr(Inside, "function", {"FunctionName": "signet"})
    monkeypatch.setattr(Inside, "variables", DEPLOYED if variables is None else variables)
    return mail.sending(Inside(Store(Settings(stage="ward", region="eu-central-1"))))


def test_sender_that_is_ready_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = examined(monkeypatch)
    assert (verdict.ok, verdict.detail) == (True, "Mail is sent from login@example.com.")
    address = examined(monkeypatch, identities={"login@example.com": {"VerifiedForSendingStatus": True}})
    assert address.ok


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        ({"identities": {}}, "There is no identity for login@example.com"),
        ({"identities": {"example.com": PENDING}}, "t1._domainkey.example.com CNAME t1.dkim.amazonses.com, t2."),
        ({"identities": {"login@example.com": PENDING}}, "login@example.com is not verified."),
        (
            {"identities": {"example.com": {**VERIFIED, "DkimAttributes": {"Status": "FAILED"}}}},
            "not signed with DKIM (status FAILED)",
        ),
        ({"account": {**PRODUCTION, "ProductionAccessEnabled": False}}, "in its sandbox"),
        ({"account": {**PRODUCTION, "SendingEnabled": False}}, "has paused sending"),
        ({"account": {**PRODUCTION, "EnforcementStatus": "PROBATION"}}, "is PROBATION"),
        ({"account": {**PRODUCTION, "SendQuota": {"Max24HourSend": 999.0}}}, "SES sends 999 mails a day"),
        ({"sets": {}}, "There is no configuration set signet-ward"),
        ({"sets": {"signet-ward": {}}}, "does not suppress addresses after BOUNCE and COMPLAINT"),
        ({"variables": SENDER}, "No configuration set is used"),
        ({"variables": {**DEPLOYED, "SIGNET_ISSUER": ""}}, "SIGNET_ISSUER is not set, so no mail is sent"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_keeps_mails_from_their_readers_is_reported(
    monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any], text: str
) -> None:
    verdict = examined(monkeypatch, **answers)
    assert verdict.ok is False
    assert text in verdict.detail
    assert "docs/email.md" in verdict.fix


def test_quota_without_a_limit_and_a_lower_ceiling_are_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert examined(monkeypatch, account={**PRODUCTION, "SendQuota": {"Max24HourSend": -1.0}}).ok
    few = {**PRODUCTION, "SendQuota": {"Max24HourSend": 200.0}}
    assert examined(monkeypatch, {**DEPLOYED, "SIGNET_EMAILS_PER_DAY": "200"}, account=few).ok
    assert not examined(monkeypatch, {**DEPLOYED, "SIGNET_EMAILS_PER_DAY": "201"}, account=few).ok


def test_stage_without_a_sender_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = examined(monkeypatch, {})
    assert verdict.ok is None
    assert "--stage ward --param EmailFrom=" in verdict.detail
    assert "SIGNET_SUPPORT_URL" in verdict.detail
    helped = examined(monkeypatch, {"SIGNET_SUPPORT_URL": "mailto:help@example.com"})
    assert "SIGNET_SUPPORT_URL" not in helped.detail


def test_sign_in_by_email_that_no_page_can_offer_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    on = {"SIGNET_EMAIL_CODE_SIGN_IN": "on"}
    without_sender = examined(monkeypatch, {**ISSUER, **on})
    assert without_sender.ok is False
    assert "SIGNET_EMAIL_FROM is not set" in without_sender.detail
    assert "--stage ward --param EmailFrom=" in without_sender.fix
    replaced = examined(monkeypatch, {**DEPLOYED, **on, "SIGNET_LOGIN_URL": "https://login.example.com/"})
    assert replaced.ok is False
    assert "SIGNET_LOGIN_URL" in replaced.detail
    assert examined(monkeypatch, {**DEPLOYED, **on}).ok
    assert examined(monkeypatch, {**DEPLOYED, "SIGNET_LOGIN_URL": "https://login.example.com/"}).ok
