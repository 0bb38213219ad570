"""The outbox of mails: they are stored with what they are about, sent once, and again when SES does not take them."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from chalicelib import events
from chalicelib.aws.client import Client
from chalicelib.aws.messages import NoAnswer, NotSent, Request, Response
from chalicelib.mail import delivery, proof_codes
from chalicelib.mail.notices import tell
from chalicelib.mail.outbox import Mail, hand_over, sending
from chalicelib.protocol.durations import DAY, MINUTE
from chalicelib.protocol.outgoing_mail import MAIL_OUTBOX, OutgoingMail
from chalicelib.protocol.records import Delivery
from chalicelib.settings import SettingsError
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.table import Refused
from infra.local.faults import IndexLag
from tests.support import faults
from tests.support.faults import Wire
from tests.support.mailbox import SENDER, Mailbox
from tests.support.site import Site
from tests.support.threads import run_concurrently

NOTICE = Mail("password_changed", "alice@example.com", "alice", {"username": "alice"})
Answer = Callable[[Request], Response]
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """Return the events in the log since the last call."""
    caplog.set_level("INFO", "signet.requests")

    def read() -> list[dict[str, Any]]:
        parsed = [json.loads(record.getMessage()) for record in caplog.records if record.name == "signet.requests"]
        caplog.clear()
        return [line for line in parsed if "event" in line]

    return read


@pytest.fixture
def ses(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer | None], list[Request]]]:
    """Let SES answer as told, from now on; returns the list of the requests that it gets. None is moto."""
    send = Client.transport
    requests: list[Request] = []
    answers: list[Answer | None] = [None]

    def transport(client: Client, request: Request) -> Response:
        if client.service != "ses":
            return send(client, request)
        requests.append(request)
        answer = answers[-1]
        return answer(request) if answer else send(client, request)

    def tell_ses(answer: Answer | None) -> list[Request]:
        answers.append(answer)
        requests.clear()
        return requests

    monkeypatch.setattr(Client, "transport", transport)
    with faults.no_pauses():
        yield tell_ses


def error(code: str, status: int = 400) -> Answer:
    headers = {"x-amzn-errortype": f"{code}:http://internal.amazon.com/coral/com.amazonaws.services.sesv2/"}
    body = json.dumps({"message": "alice@example.com is not verified"}).encode()
    return lambda _request: Response(status, headers, body)


def lost(_request: Request) -> Response:
    raise NoAnswer("no answer in time")


def unreachable(_request: Request) -> Response:
    raise NotSent("cannot be reached")


def put(site: Site, mail: Mail = NOTICE, **members: Any) -> OutgoingMail:
    """Put a mail into the outbox, and return its record."""
    write = sending(site.server, replace(mail, **members))
    assert site.server.store.transact(write) is None
    record = site.server.store.mails.get(write.parameters["Item"]["delivery_id"]["S"])
    assert record
    return record


def stored(site: Site) -> list[OutgoingMail]:
    return list(site.server.store.mails.scan())


# ---- stored and sent


def test_mail_is_sent_by_the_schedule_and_leaves_the_outbox(mail_site: Site, mailbox: Mailbox) -> None:
    put(mail_site)
    (mail,) = mailbox.deliver(mail_site)
    assert (mail.to, mail.destinations[0]) == ("alice@example.com", "alice@example.com")
    assert stored(mail_site) == []
    assert mailbox.deliver(mail_site) == []


def test_mail_of_a_refused_transaction_is_not_sent(mail_site: Site, mailbox: Mailbox) -> None:
    store = mail_site.server.store
    refused = store.users.checking(("nobody",))
    assert store.transact(sending(mail_site.server, NOTICE), refused) is not None
    assert mailbox.deliver(mail_site) == []


def test_server_without_a_sender_sends_nothing_and_reads_nothing(site: Site, mailbox: Mailbox, wire: Wire) -> None:
    record = put(site)
    with wire.counted() as calls:
        delivery.deliver(site.server)
        delivery.deliver_now(site.server, [record.delivery_id])
    assert (calls, mailbox.messages) == ([], [])


def test_decoy_is_claimed_and_deleted_and_not_sent(
    mail_site: Site, mailbox: Mailbox, ses: Any, lines: Lines, wire: Wire
) -> None:
    requests = ses(None)
    put(mail_site, to="")
    with wire.counted() as calls:
        delivery.deliver(mail_site.server)
    assert calls == ["Query", "UpdateItem", "DeleteItem"]
    assert (requests, mailbox.messages, stored(mail_site), lines()) == ([], [], [], [])


def test_outbox_has_neither_the_code_nor_the_link(mail_site: Site, mailbox: Mailbox) -> None:
    server, proof_id = mail_site.server, "reset.digest.nonce"
    record = put(mail_site, template="password_changed", proof_id=proof_id)
    code, link = proof_codes.code_of(server, proof_id, "reset"), proof_codes.link_handle(server, proof_id)
    assert not [text for text in (code, proof_codes.readable(code), link) if text in repr(record)]


def test_mail_expires_with_its_lifetime(mail_site: Site, mailbox: Mailbox) -> None:
    put(mail_site, lifetime=10 * MINUTE)
    mail_site.clock.advance(10 * MINUTE)
    assert mailbox.deliver(mail_site) == []


def test_mails_and_logout_tokens_have_partitions_of_their_own(mail_site: Site, mailbox: Mailbox) -> None:
    put(mail_site)
    store, now = mail_site.server.store, mail_site.clock()
    token = Delivery("d-1", "alice", now, now + DAY, "alice.s", frozenset({"c-1"}), outbox="outbox", not_before=now)
    store.deliveries.put(token)
    assert [record.delivery_id for record in store.deliveries.find("outbox", "outbox", index="due")] == ["d-1"]
    (mail,) = store.mails.find("outbox", MAIL_OUTBOX, index="due")
    assert mail.delivery_id != "d-1"
    assert len(mailbox.deliver(mail_site)) == 1
    assert mailbox.deliver(mail_site) == []


def test_logout_tokens_are_sent_when_mails_cannot_be_read(mail_site: Site, mailbox: Mailbox, wire: Wire) -> None:
    with wire.fault_in("Query", faults.unreachable):
        mail_site.run("deliver")
    assert wire.calls.count("Query") == 2


# ---- handed over


def test_request_hands_its_mail_over_to_the_alias(
    site_with: Callable[..., Site], mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = site_with(email_from=SENDER, function="signet-api-test-APIHandler-1")
    send, invoked = Client.transport, list[Request]()

    def transport(client: Client, request: Request) -> Response:
        if client.service != "lambda":
            return send(client, request)
        invoked.append(request)
        return Response(202, {}, b"")

    monkeypatch.setattr(Client, "transport", transport)
    record = put(site)
    (request,) = invoked
    path = "/2015-03-31/functions/signet-api-test-APIHandler-1/invocations?Qualifier=live"
    assert request.url == f"https://lambda.us-east-1.amazonaws.com{path}"
    assert request.headers["X-Amz-Invocation-Type"] == "Event"
    event = json.loads(request.body)
    assert event == {"deliver": [record.delivery_id]}
    assert site.http_handler(event, None) == {}
    assert len(mailbox.messages) == 1


@pytest.mark.parametrize(
    "answer",
    [lost, error("TooManyRequestsException", 429), error("AccessDeniedException", 403)],
    ids=("lost", "throttled", "denied"),
)
def test_request_succeeds_when_its_mail_cannot_be_handed_over(
    site_with: Callable[..., Site], mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    site = site_with(email_from=SENDER, function="f")
    send, calls = Client.transport, list[Request]()

    def transport(client: Client, request: Request) -> Response:
        if client.service != "lambda":
            return send(client, request)
        calls.append(request)
        return answer(request)

    monkeypatch.setattr(Client, "transport", transport)
    put(site)
    assert len(calls) == 1, "an invocation whose answer is lost is not repeated"
    assert len(mailbox.deliver(site)) == 1


def test_server_behind_no_alias_hands_nothing_over(mail_site: Site, wire: Wire) -> None:
    hand_over(mail_site.server, "x")
    assert mail_site.settings.function is None


def test_mail_that_is_handed_over_twice_is_sent_once(mail_site: Site, mailbox: Mailbox) -> None:
    record = put(mail_site)
    for _ in range(2):
        mail_site.http_handler({"deliver": [record.delivery_id, "unknown"]}, None)
    assert len(mailbox.messages) == 1


def test_ids_of_logout_tokens_are_not_sent_as_mails(mail_site: Site, mailbox: Mailbox) -> None:
    now = mail_site.clock()
    token = Delivery("d-1", "alice", now, now + DAY, "alice.s", frozenset({"c-1"}), outbox="outbox", not_before=now)
    mail_site.server.store.deliveries.put(token)
    mail_site.http_handler({"deliver": ["d-1"]}, None)
    assert mail_site.server.store.deliveries.get("d-1") == token


# ---- two runs at once


def test_two_runs_at_once_send_each_mail_once(mail_site: Site, mailbox: Mailbox) -> None:
    for number in range(6):
        put(mail_site, to=f"user{number}@example.com")
    ids = [mail.delivery_id for mail in stored(mail_site)]
    run_concurrently([lambda: delivery.deliver(mail_site.server), lambda: delivery.deliver_now(mail_site.server, ids)])
    assert sorted(mail.to for mail in mailbox.messages) == [f"user{number}@example.com" for number in range(6)]


def test_mail_that_the_index_still_shows_as_due_is_not_sent_again(
    mail_site: Site, mailbox: Mailbox, ses: Any, index_lag: IndexLag
) -> None:
    requests = ses(error("SendingPausedException"))
    put(mail_site)
    index_lag.reset(mail_site.clock)
    index_lag.seconds = 5
    delivery.deliver(mail_site.server)
    delivery.deliver(mail_site.server)
    assert len(requests) == 1


# ---- attempts


@pytest.mark.parametrize(
    "answer",
    [
        error("TooManyRequestsException", 429),
        error("LimitExceededException"),
        error("SendingPausedException"),
        error("AccountSuspendedException"),
        error("MailFromDomainNotVerifiedException"),
        error("NotFoundException", 404),
        error("AccessDeniedException", 403),
        error("InternalServiceErrorException", 500),
        unreachable,
    ],
    ids=["throttled", "limit", "paused", "suspended", "domain", "no set", "denied", "failed", "unreachable"],
)
def test_mail_that_ses_did_not_take_is_sent_again_with_longer_pauses(
    mail_site: Site, mailbox: Mailbox, ses: Any, lines: Lines, answer: Answer
) -> None:
    requests = ses(answer)
    put(mail_site)
    pauses = []
    for tries in range(1, 6):
        mail_site.run("deliver")
        (mail,) = stored(mail_site)
        assert (mail.tries, mail.unanswered, len(requests)) == (tries, 0, tries)
        pauses.append(mail.not_before - mail_site.clock())
        mail_site.clock.advance(pauses[-1] - 1)
        mail_site.run("deliver")
        assert len(requests) == tries
        mail_site.clock.advance(1)
    assert pauses == [60, 120, 240, 480, 960]
    assert {line["event"] for line in lines()} == {events.EMAIL_DELAYED}
    ses(None)
    assert len(mailbox.deliver(mail_site)) == 1


def test_mail_that_ses_does_not_take_for_its_lifetime_is_dropped_with_an_event(
    mail_site: Site, mailbox: Mailbox, ses: Any, lines: Lines
) -> None:
    ses(error("SendingPausedException"))
    put(mail_site)
    while stored(mail_site):
        mail_site.run("deliver")
        mail_site.clock.advance(MINUTE)
    last = lines()[-1]
    assert last["event"] == events.EMAIL_UNDELIVERED
    assert (last["sub"], last["detail"]) == ("alice", "password_changed: SendingPausedException")


@pytest.mark.parametrize("code", ["MessageRejected", "BadRequestException"])
def test_mail_that_ses_rejects_is_dropped_with_an_event_without_the_address(
    mail_site: Site, mailbox: Mailbox, ses: Any, lines: Lines, code: str
) -> None:
    requests = ses(error(code))
    put(mail_site)
    mail_site.run("deliver")
    (line,) = lines()
    assert (line["event"], line["detail"]) == (events.EMAIL_UNDELIVERED, f"password_changed: {code}")
    assert (len(requests), stored(mail_site)) == (1, [])
    assert "alice@example.com" not in json.dumps(line)


def test_mail_whose_answer_is_lost_is_sent_at_most_twice(
    mail_site: Site, mailbox: Mailbox, ses: Any, lines: Lines
) -> None:
    requests = ses(lost)
    put(mail_site)
    for _ in range(20):
        mail_site.run("deliver")
        mail_site.clock.advance(10 * MINUTE)
    assert len(requests) == 2
    assert [line["event"] for line in lines()] == [events.EMAIL_DELAYED] * 2 + [events.EMAIL_UNDELIVERED]
    assert stored(mail_site) == []


def test_mail_whose_process_ended_while_sending_is_sent_at_most_twice(
    mail_site: Site, mailbox: Mailbox, wire: Wire
) -> None:
    put(mail_site)
    for _ in range(4):
        with wire.every("DeleteItem", faults.unreachable):
            mail_site.run("deliver")
        mail_site.clock.advance(10 * MINUTE)
    assert len(mailbox.messages) == 2
    mail_site.run("deliver")
    assert (len(mailbox.messages), stored(mail_site)) == (2, [])


def test_attempts_that_were_answered_do_not_count_as_lost_ones(mail_site: Site, mailbox: Mailbox, ses: Any) -> None:
    put(mail_site)
    for answer in (lost, unreachable, unreachable, lost):
        ses(answer)
        mail_site.run("deliver")
        mail_site.clock.advance(DAY // 20)
    (mail,) = stored(mail_site)
    assert (mail.tries, mail.unanswered) == (4, 2)


def test_text_that_does_not_exist_is_dropped_and_does_not_stop_the_others(
    mail_site: Site, mailbox: Mailbox, lines: Lines
) -> None:
    put(mail_site, template="nothing")
    put(mail_site, values={})  # without the username
    put(mail_site, to="bob@example.com")
    assert [mail.to for mail in mailbox.deliver(mail_site)] == ["bob@example.com"]
    dropped = [line["detail"] for line in lines() if line["event"] == events.EMAIL_UNDELIVERED]
    assert sorted(dropped) == ["nothing: TemplateNotFound", "password_changed: UndefinedError"]
    assert stored(mail_site) == []


@pytest.mark.parametrize("operation", ["Query", "UpdateItem", "DeleteItem"])
@pytest.mark.parametrize("fault", [faults.unreachable, faults.answer_lost, faults.throttled], ids=lambda f: f.__name__)
def test_no_fault_of_the_database_loses_a_mail(
    mail_site: Site, mailbox: Mailbox, wire: Wire, operation: str, fault: faults.Fault
) -> None:
    put(mail_site)
    with wire.fault_in(operation, fault):
        mail_site.run("deliver")
    for _ in range(3):
        mail_site.clock.advance(5 * MINUTE)
        mail_site.run("deliver")
    assert len(mailbox.messages) in ((1, 2) if operation == "DeleteItem" else (1,))
    assert stored(mail_site) == []


# ---- the server's ceiling


def test_mails_beyond_the_ceiling_wait_for_the_next_day(
    site_with: Callable[..., Site], mailbox: Mailbox, lines: Lines
) -> None:
    site = site_with(email_from=SENDER, emails_per_day=2)
    site.clock.time -= site.clock.time % DAY  # midnight
    for number in range(3):
        put(site, to=f"user{number}@example.com", lifetime=2 * DAY)
    assert len(mailbox.deliver(site)) == 2
    assert [line["event"] for line in lines()].count(events.EMAIL_LIMITED) == 1
    site.clock.advance(DAY - 1)
    assert mailbox.deliver(site) == []
    site.clock.advance(1)
    assert len(mailbox.deliver(site)) == 1


def test_mails_that_have_waited_count_for_the_ceiling_of_their_day(
    site_with: Callable[..., Site], mailbox: Mailbox
) -> None:
    site = site_with(email_from=SENDER, emails_per_day=1)
    site.clock.time -= site.clock.time % DAY
    for number in range(3):
        put(site, to=f"user{number}@example.com", lifetime=5 * DAY)
    for _ in range(3):
        assert len(mailbox.deliver(site)) == 1
        site.clock.advance(DAY)
    assert mailbox.deliver(site) == []


def test_further_attempts_do_not_count_for_the_ceiling(
    site_with: Callable[..., Site], mailbox: Mailbox, ses: Any
) -> None:
    site = site_with(email_from=SENDER, emails_per_day=1)
    site.clock.time -= site.clock.time % DAY
    ses(error("SendingPausedException"))
    put(site)
    site.run("deliver")
    ses(None)
    site.clock.advance(MINUTE)
    assert len(mailbox.deliver(site)) == 1


# ---- notices


def test_user_is_told_at_the_verified_address_only(mail_site: Site, mailbox: Mailbox) -> None:
    claims = {"email": "Alice@EXAMPLE.com", "email_verified": True}
    verified = mail_site.user("alice", claims=claims)
    store = mail_site.server.store
    assert store.transact(*tell(mail_site.server, None, verified, "password_changed")) is None
    (mail,) = mailbox.deliver(mail_site)
    assert mail.to == "Alice@example.com"
    assert "account alice" in mail.text
    for other in ({"email": "a@example.com"}, {**claims, "email_verified": "true"}, {**claims, "email": "no"}, {}):
        assert tell(mail_site.server, None, replace(verified, claims=other), "password_changed") == ()


def test_nothing_is_told_without_a_sender(site: Site) -> None:
    user = site.user("alice", claims={"email": "alice@example.com", "email_verified": True})
    assert tell(site.server, None, user, "password_changed") == ()


def test_time_of_a_run_is_limited_and_a_later_run_sends_the_rest(
    mail_site: Site, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        put(mail_site, to=f"user{number}@example.com")
    monkeypatch.setattr(delivery, "START_WITHIN", -1.0)
    assert mailbox.deliver(mail_site) == []
    monkeypatch.undo()
    assert len(mailbox.deliver(mail_site)) == 3


def test_run_reads_only_what_is_due(mail_site: Site, mailbox: Mailbox, wire: Wire) -> None:
    store, later = mail_site.server.store, mail_site.clock() + MINUTE
    for number in range(5):
        record = put(mail_site, to=f"user{number}@example.com")
        store.mails.transition((record.delivery_id,), None, {"not_before": later})
    read: list[int] = []

    def count(_request: Request, proceed: faults.Proceed) -> Response:
        response = proceed()
        read.append(json.loads(response.body)["Count"])
        return response

    with wire.every("Query", count):
        delivery.deliver(mail_site.server)
    assert (wire.calls, read) == (["Query"], [0])


def test_claim_is_refused_before_the_mail_is_due(mail_site: Site, mailbox: Mailbox) -> None:
    record = put(mail_site)
    store = mail_site.server.store
    later = store.mails.transition((record.delivery_id,), attr("tries").eq(0), {"not_before": mail_site.clock() + 60})
    assert not isinstance(later, Refused)
    mail_site.http_handler({"deliver": [record.delivery_id]}, None)
    assert mailbox.messages == []


def test_runs_share_no_page_of_the_index(mail_site: Site, mailbox: Mailbox) -> None:
    for number in range(20):
        put(mail_site, to=f"user{number}@example.com")
    threads = threading.active_count()
    assert len(mailbox.deliver(mail_site)) == 20
    assert threading.active_count() == threads


# ---- without SIGNET_ISSUER


def test_no_mail_is_sent_without_an_issuer_because_its_links_would_lead_nowhere(
    site_with: Callable[..., Site], mailbox: Mailbox, lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    """Without SIGNET_ISSUER, the issuer is the address of the HTTP request, which neither run has."""
    site = site_with(email_from=SENDER, issuer="")
    store = site.server.store
    store.transact(sending(site.server, NOTICE))
    (record,) = store.mails.scan()
    assert mailbox.deliver(site) == []
    with pytest.raises(SettingsError, match="SIGNET_ISSUER must be set"):
        delivery.deliver_now(site.server, [record.delivery_id])
    logged = [json.loads(each.getMessage()) for each in caplog.records if each.name == "signet.requests"]
    assert "SIGNET_ISSUER must be set" in logged[-1]["detail"]
    assert list(store.mails.scan()) == [record], "it waits for the setting, and is not counted as tried"
    sender = site_with(email_from=SENDER)
    sender.clock = site.clock
    (mail,) = mailbox.deliver(sender)
    assert mail.link == f"{sender.settings.issuer}/account"
