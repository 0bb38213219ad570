"""Bounces and complaints, as EventBridge delivers them from SES."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from chalicelib import events
from chalicelib.mail.feedback import is_undeliverable
from chalicelib.protocol.records import User
from tests.support.faults import Wire
from tests.support.gateways import GATEWAYS, GatewayRequest
from tests.support.operator import RunCommand, output_json
from tests.support.site import Site

ADDRESS = "alice@example.com"


@pytest.fixture
def alice(site: Site) -> User:
    return site.user("alice", claims={"email": "Alice@example.com", "email_verified": True})


def tag(sub: str) -> str:
    return base64.urlsafe_b64encode(sub.encode()).rstrip(b"=").decode()


def bounce(user: User | None, address: str = ADDRESS, kind: str = "Permanent") -> dict[str, Any]:
    return _event(user, "Bounce", {"bounce": {"bounceType": kind, "bouncedRecipients": [{"emailAddress": address}]}})


def complaint(user: User | None, address: str = ADDRESS, **members: str) -> dict[str, Any]:
    return _event(user, "Complaint", {"complaint": {"complainedRecipients": [{"emailAddress": address}], **members}})


def _event(user: User | None, kind: str, members: dict[str, Any]) -> dict[str, Any]:
    tags = {"ses:configuration-set": ["signet-test"]} | ({"signet-sub": [tag(user.sub)]} if user else {})
    mail = {"messageId": "1", "destination": [ADDRESS], "tags": tags}
    detail_type = {"Bounce": "Email Bounced", "Complaint": "Email Complaint Received"}[kind]
    detail = {"eventType": kind, **members, "mail": mail}
    return {"version": "0", "source": "aws.ses", "detail-type": detail_type, "detail": detail}


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(record.getMessage()) for record in caplog.records if record.name == "signet.requests"]


@pytest.mark.parametrize(
    "event",
    [bounce, complaint, lambda user: bounce(user, "Alice <ALICE@Example.com>")],
    ids=["bounce", "complaint", "name"],
)
def test_address_that_bounced_or_complained_is_marked(
    site: Site, alice: User, caplog: pytest.LogCaptureFixture, event: Any
) -> None:
    caplog.set_level("INFO", "signet.requests")
    assert site.http_handler(event(alice), None) == {}
    marked = site.read_user()
    assert marked.email_undeliverable == ADDRESS
    assert is_undeliverable(marked)
    logged = [line for line in lines(caplog) if "event" in line]
    assert [(line["event"], line["sub"]) for line in logged] == [(events.EMAIL_BOUNCED, alice.sub)]
    assert ADDRESS not in json.dumps(logged)


@pytest.mark.parametrize("kind", ["Transient", "Undetermined"])
def test_temporary_bounce_marks_nothing(site: Site, alice: User, kind: str) -> None:
    site.http_handler(bounce(alice, kind=kind), None)
    assert site.read_user() == alice


def test_mail_that_its_reader_calls_no_spam_marks_nothing(site: Site, alice: User) -> None:
    site.http_handler(complaint(alice, complaintFeedbackType="not-spam"), None)
    assert site.read_user() == alice


def test_address_that_the_user_no_longer_has_marks_nothing(site: Site, alice: User) -> None:
    site.http_handler(bounce(alice, "old@example.com"), None)
    assert site.read_user() == alice


def test_another_address_of_the_user_is_deliverable(site: Site, alice: User) -> None:
    site.http_handler(bounce(alice), None)
    assert not is_undeliverable(replace(site.read_user(), claims={"email": "new@example.com"}))
    assert not is_undeliverable(alice)


def test_change_of_the_address_at_the_same_moment_is_kept(site: Site, alice: User, wire: Wire) -> None:
    users = site.server.store.users

    def change() -> None:
        users.put(replace(alice, claims={"email": "new@example.com"}))

    with wire.before("UpdateItem", change):
        site.http_handler(bounce(alice), None)
    assert site.read_user() == replace(alice, claims={"email": "new@example.com"})


@pytest.mark.parametrize(
    "tags",
    [{}, {"signet-sub": []}, {"signet-sub": ["%"]}, {"signet-sub": [tag("unknown")]}, {"signet-sub": ["_w"]}],
    ids=["none", "empty", "not base64", "unknown user", "not UTF-8"],
)
def test_report_without_a_user_is_logged_and_marks_nothing(
    site: Site, alice: User, caplog: pytest.LogCaptureFixture, tags: dict[str, list[str]]
) -> None:
    caplog.set_level("INFO", "signet.requests")
    event = bounce(alice)
    event["detail"]["mail"]["tags"] = tags
    site.http_handler(event, None)
    assert site.read_user() == alice
    assert [line["event"] for line in lines(caplog) if "event" in line] == [events.EMAIL_BOUNCED]
    assert "ERROR" not in {line["level"] for line in lines(caplog)}


def test_report_of_another_form_is_an_error_in_the_log(
    site: Site, alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "signet.requests")
    event = bounce(alice)
    event["detail"]["bounce"]["bouncedRecipients"] = [{}]
    site.http_handler(event, None)
    assert [line["level"] for line in lines(caplog)] == ["ERROR"]


def test_report_cannot_be_sent_over_http(site: Site, alice: User) -> None:
    for gateway in GATEWAYS:
        request = gateway.event(GatewayRequest("POST", "/", "", [], b"{}"), gateway.domain, "x")
        assert site.http_handler({**bounce(alice), **request}, None)["statusCode"] in (404, 405)
    assert site.read_user() == alice


def test_operator_sees_the_mark_and_removes_it_by_naming_the_address(
    site: Site, alice: User, run_command: RunCommand
) -> None:
    assert "email_undeliverable" not in output_json(run_command("user", "show", "alice", "--json"))
    site.http_handler(bounce(alice), None)
    assert output_json(run_command("user", "show", "alice", "--json"))["email_undeliverable"] == ADDRESS
    run_command("user", "update", "alice", "--name", "Alice")
    assert is_undeliverable(site.read_user())
    run_command("user", "update", "alice", "--email", "Alice@example.com")
    assert site.read_user().email_undeliverable is None
    assert site.read_user().claims["email_verified"] is True
