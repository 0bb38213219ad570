"""The outbox: logout tokens that are sent until each application has taken its own, or a day is over."""

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import jwt
import pytest

import app
from chalicelib import audit, backchannel, deliveries
from chalicelib.deliveries import FIRST_PAUSE, LOGOUT_EVENT
from chalicelib.errors import InvalidClientMetadata
from chalicelib.models import Delivery, User
from chalicelib.server import AuthorizationServer
from chalicelib.subjects import sid
from infra import embedded
from tests import faults
from tests.browser import Browser
from tests.faults import Wire
from tests.receivers import OK, PATIENCE, Behaviour, Receiver, answer, one_after_the_other, silence, status
from tests.site import Registered, Site
from tests.threads import at_once

SPEC = "OpenID Connect Back-Channel Logout"
DAY = 24 * 3600
Receivers = Callable[..., Receiver]
Browsers = Callable[..., Browser]


@pytest.fixture
def receivers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receivers]:
    """Makes applications' servers; who waits for one, waits for a short time only."""
    monkeypatch.setattr(backchannel, "SECONDS", 0.5)
    made: list[Receiver] = []

    def make(behave: Behaviour | None = None) -> Receiver:
        made.append(Receiver(behave))
        return made[-1]

    yield make
    for receiver in made:
        receiver.close()


@pytest.fixture
def op(site_with: Callable[..., Site]) -> Site:
    """A server that may send to this machine."""
    made = site_with(backchannel_networks=("127.0.0.0/8",))
    made.user("alice")
    return made


@pytest.fixture
def there(op: Site, browsers: Browsers) -> Browser:
    """Alice's browser."""
    return browsers(op)


@pytest.fixture
def alice(op: Site) -> User:
    (user,) = op.server.store.users.scan()
    return user


def hearing(op: Site, receiver: Receiver, **members: Any) -> Registered:
    """An application that wants to hear of it."""
    return op.client(**({"trusted": True, "backchannel_logout_uri": receiver.url} | members))


def log_out(there: Browser, *clients: Registered) -> list[dict[str, Any]]:
    """Use these applications, and sign out: what their ID tokens said."""
    tokens = [there.tokens(client)["id_token"] for client in clients]
    assert there.get("/oauth2/logout", id_token_hint=tokens[0]).status == 200
    return [jwt.decode(token, options={"verify_signature": False}) for token in tokens]


def outbox(op: Site) -> list[Delivery]:
    return list(op.server.store.deliveries.scan())


def run_until_it_is_over(op: Site) -> None:
    """The schedule, each time that something is due."""
    while records := outbox(op):
        op.clock.time = max(op.clock.time, records[0].not_before)
        op.run("deliver")


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[tuple[str, str, str]]]]:
    """What was logged of deliveries: event, client, detail."""
    with caplog.at_level(logging.INFO, "signet"):
        caplog.clear()

        def found() -> list[tuple[str, str, str]]:
            lines = [json.loads(record.getMessage()) for record in caplog.records if record.name.startswith("signet")]
            return [
                (line["event"], line["client_id"], line.get("detail", ""))
                for line in lines
                if line.get("event") in (audit.LOGOUT_DELIVERED, audit.LOGOUT_UNDELIVERED)
            ]

        yield found


Events = Callable[[], list[tuple[str, str, str]]]


# ---- the logout token


def verified(there: Browser, token: str, client: Registered, alg: str) -> dict[str, Any]:
    """As a careful application reads it (section 2.6)."""
    keys = jwt.PyJWKSet.from_dict(there.get("/oauth2/jwks").json)
    header = jwt.get_unverified_header(token)
    claims: dict[str, Any] = jwt.decode(
        token,
        keys[header["kid"]],
        algorithms=[alg],
        audience=client.id,
        issuer=there.site.settings.issuer,
        options={"require": ["iss", "aud", "iat", "exp", "jti", "sub", "sid", "events"]},
    )
    return claims


@pytest.mark.spec(
    f"{SPEC} §2.4 a", f"{SPEC} §2.4 b", f"{SPEC} §2.4 c", f"{SPEC} §2.4 d", f"{SPEC} §2.4 e", f"{SPEC} §2.4 f"
)
@pytest.mark.spec(f"{SPEC} §2.4 g", f"{SPEC} §2.4 i", f"{SPEC} §2.5", f"{SPEC} §2.6 a", f"{SPEC} §2.6 b")
@pytest.mark.spec(f"{SPEC} §2.2 b", f"{SPEC} §4.1")
@pytest.mark.parametrize("alg", ["RS256", "ES256", "PS256", "EdDSA"])
@pytest.mark.parametrize("subject_type", ["public", "pairwise"])
def test_the_logout_token_says_who_is_signed_out_of_which_session(
    op: Site, there: Browser, alice: User, receivers: Receivers, alg: str, subject_type: str
) -> None:
    receiver = receivers()
    client = hearing(op, receiver, id_token_signed_response_alg=alg, subject_type=subject_type)
    (id_token,) = log_out(there, client)
    op.run("deliver")
    (request,) = receiver.requests
    assert request.startswith(b"POST /backchannel?rp=1 HTTP/1.1\r\n")
    assert b"\r\nContent-Type: application/x-www-form-urlencoded\r\n" in request
    (token,) = receiver.tokens
    op.secrets.add(token)
    assert jwt.get_unverified_header(token)["typ"] == "logout+jwt"
    claims = verified(there, token, client, alg)
    assert claims["events"] == {"http://schemas.openid.net/event/backchannel-logout": {}}
    assert (claims["sub"], claims["sid"]) == (id_token["sub"], id_token["sid"])
    assert (claims["sub"] == alice.sub) is (subject_type == "public")
    assert claims["aud"] == client.id
    assert claims["iat"] == op.clock.time
    assert claims["exp"] - claims["iat"] == 120
    assert "nonce" not in claims
    assert outbox(op) == []


@pytest.mark.spec(f"{SPEC} §2.3")
def test_every_application_of_the_session_hears_of_it_and_no_other(
    op: Site, there: Browser, browsers: Browsers, receivers: Receivers, events: Events
) -> None:
    first, second, stranger = receivers(), receivers(), receivers()
    heard = [hearing(op, first), hearing(op, second)]
    deaf, elsewhere = op.client(trusted=True), hearing(op, stranger)
    browsers(op).tokens(elsewhere)
    claims = log_out(there, heard[0], deaf, heard[1], heard[0])
    assert [*first.requests, *second.requests] == []  # the person is not kept waiting
    op.run("deliver")
    assert stranger.requests == []
    for receiver, client, id_token in ((first, heard[0], claims[0]), (second, heard[1], claims[2])):
        (token,) = receiver.tokens
        assert verified(there, token, client, "RS256")["sid"] == id_token["sid"]
    assert sorted(events()) == sorted((audit.LOGOUT_DELIVERED, client.id, "") for client in heard)
    assert claims[0]["sid"] != claims[2]["sid"]  # so that the two cannot compare


def test_sid_is_not_the_name_that_the_session_has_here(op: Site, there: Browser, receivers: Receivers) -> None:
    (id_token,) = log_out(there, hearing(op, receivers()))
    (session,) = op.server.store.sessions.scan()
    assert id_token["sid"] == sid(session.session_id, id_token["aud"])
    assert session.sub not in id_token["sid"]


# ---- again and again


def test_what_was_not_taken_is_sent_again_with_longer_and_longer_pauses(
    op: Site, there: Browser, receivers: Receivers, events: Events
) -> None:
    receiver = receivers(status(500))
    log_out(there, hearing(op, receiver))
    tried: list[int] = []
    for minute in range(20):
        before = len(receiver.requests)
        op.run("deliver")
        tried += [minute] * (len(receiver.requests) - before)
        op.clock.advance(60)
    assert tried == [0, 1, 3, 7, 15]
    assert events() == []
    receiver.behave = answer(OK)
    op.clock.advance(3600)
    op.run("deliver")
    assert [event for event, _, _ in events()] == [audit.LOGOUT_DELIVERED]
    assert outbox(op) == []
    claims = [jwt.decode(token, options={"verify_signature": False}) for token in receiver.tokens]
    assert len({one["jti"] for one in claims}) == len(claims)  # none is a replay of another
    assert len({one["sid"] for one in claims}) == 1


def test_after_a_day_it_is_given_up_and_the_operator_hears_of_it(
    op: Site, there: Browser, receivers: Receivers, events: Events
) -> None:
    receiver = receivers(status(503))
    client = hearing(op, receiver)
    log_out(there, client)
    run_until_it_is_over(op)
    assert events() == [(audit.LOGOUT_UNDELIVERED, client.id, "status 503")]
    assert len(receiver.requests) == 11
    op.clock.advance(DAY)
    op.run("deliver")
    assert len(receiver.requests) == 11


@pytest.mark.spec(f"{SPEC} §2.8")
def test_an_application_that_refuses_it_is_not_asked_again(
    op: Site, there: Browser, receivers: Receivers, events: Events
) -> None:
    receiver = receivers(status(400))
    client = hearing(op, receiver)
    log_out(there, client)
    op.run("deliver")
    assert events() == [(audit.LOGOUT_UNDELIVERED, client.id, "status 400")]
    assert outbox(op) == []


@pytest.mark.parametrize(
    ("behave", "again"),
    [
        (answer(OK), False),
        (status(204), False),
        (status(202), False),
        (status(302, "Location: http://127.0.0.1:1/"), True),
        (status(401), True),
        (status(404), True),
        (status(429), True),
        (status(504), True),
        (silence, True),
        (answer(b""), True),
    ],
    ids=["200", "204", "202", "302", "401", "404", "429", "504", "silence", "hangs up"],
)
def test_every_2xx_is_a_yes_and_anything_else_but_a_refusal_is_tried_again(
    op: Site, there: Browser, receivers: Receivers, behave: Behaviour, again: bool
) -> None:
    receiver = receivers(behave)
    log_out(there, hearing(op, receiver))
    op.run("deliver")
    assert len(receiver.requests) == 1
    assert bool(outbox(op)) is again


def test_who_has_taken_it_is_not_asked_again_when_another_has_not(
    op: Site, there: Browser, receivers: Receivers, events: Events
) -> None:
    well, ill = receivers(), receivers(one_after_the_other(status(500), answer(OK)))
    clients = [hearing(op, well), hearing(op, ill)]
    log_out(there, *clients)
    op.run("deliver")
    (left,) = outbox(op)
    assert left.clients == {clients[1].id}
    op.clock.advance(FIRST_PAUSE)
    op.run("deliver")
    assert (len(well.requests), len(ill.requests)) == (1, 2)
    assert [(event, client) for event, client, _ in events()] == [
        (audit.LOGOUT_DELIVERED, client.id) for client in clients
    ]
    assert outbox(op) == []


def test_a_server_that_is_down_is_asked_once_in_a_run_however_many_wait_for_it(
    op: Site, browsers: Browsers, receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "AT_ONCE", 1)
    down, up = receivers(status(500)), receivers()
    clients = [hearing(op, down), hearing(op, up)]
    for _ in range(3):
        log_out(browsers(op), *clients)
    op.run("deliver")
    assert (len(down.requests), len(up.requests)) == (1, 3)
    assert len(outbox(op)) == 3


def test_what_does_not_fit_into_a_run_waits_for_the_next_one(
    op: Site, browsers: Browsers, receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = receivers()
    client = hearing(op, receiver)
    log_out(browsers(op), client)
    monkeypatch.setattr(deliveries, "BEGUN_WITHIN", -1.0)
    op.run("deliver")
    assert receiver.requests == []
    (waiting,) = outbox(op)
    assert waiting.tries == 0
    monkeypatch.undo()
    op.run("deliver")
    assert len(receiver.requests) == 1


def test_a_client_after_the_end_of_a_run_is_not_begun(
    op: Site, there: Browser, receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = [0.0]
    monkeypatch.setattr(deliveries, "time", SimpleNamespace(monotonic=lambda: passed[0]))

    def take_time(connection: socket.socket) -> None:
        passed[0] += deliveries.BEGUN_WITHIN
        connection.sendall(OK)

    first, second = receivers(take_time), receivers(take_time)
    log_out(there, hearing(op, first), hearing(op, second))
    op.run("deliver")
    assert len(first.requests) + len(second.requests) == 1
    (left,) = outbox(op)
    assert len(left.clients) == 1


def test_clients_that_take_long_do_not_keep_another_from_ever_being_told(
    op: Site, there: Browser, receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = [0.0]
    monkeypatch.setattr(deliveries, "time", SimpleNamespace(monotonic=lambda: passed[0]))

    def take_all_the_time(connection: socket.socket) -> None:
        passed[0] += deliveries.BEGUN_WITHIN
        connection.sendall(b"HTTP/1.1 500 Whatever\r\n\r\n")

    slow, well = [receivers(take_all_the_time) for _ in range(2)], receivers()
    clients = [hearing(op, each, client_id=name) for each, name in zip([*slow, well], "abc", strict=True)]
    log_out(there, *clients)
    for _ in clients:
        op.run("deliver")
        op.clock.time = outbox(op)[0].not_before
    assert len(well.requests) == 1
    assert outbox(op)[0].clients == {"a", "b"}


# ---- who is not told any more


@pytest.mark.parametrize("what", ["removed", "switched off", "deaf now"])
def test_a_client_that_is_gone_or_wants_to_hear_nothing_any_more_is_left_out(
    op: Site, there: Browser, receivers: Receivers, events: Events, what: str
) -> None:
    receiver = receivers()
    client = hearing(op, receiver)
    log_out(there, client)
    clients = op.server.store.clients
    if what == "removed":
        clients.delete(client.id)
    elif what == "switched off":
        clients.put(replace(client.record, disabled_at=1))
    else:
        clients.put(replace(client.record, backchannel_logout_uri=None))
    op.server._clients.clear()
    op.run("deliver")
    assert receiver.requests == []
    assert outbox(op) == []
    assert events() == []


def test_nothing_goes_to_this_machine_unless_the_operator_has_listed_it(
    site: Site, browsers: Browsers, receivers: Receivers, events: Events
) -> None:
    receiver = receivers()
    site.user("alice")
    client = hearing(site, receiver)
    log_out(browsers(site), client)
    run_until_it_is_over(site)
    assert receiver.requests == []
    assert events() == [(audit.LOGOUT_UNDELIVERED, client.id, "the name leads to an address that is not public")]


def test_a_redirect_to_a_private_address_is_not_followed(op: Site, there: Browser, receivers: Receivers) -> None:
    secret = receivers()
    receiver = receivers(status(307, f"Location: {secret.url}"))
    log_out(there, hearing(op, receiver))
    op.run("deliver")
    assert len(receiver.requests) == 1
    assert secret.requests == []


# ---- at once, and when something goes wrong


def test_of_many_runs_at_once_one_sends(
    op: Site, there: Browser, receivers: Receivers, site_with: Callable[..., Site]
) -> None:
    receiver = receivers()
    log_out(there, hearing(op, receiver))
    servers = [op, *(site_with(backchannel_networks=("127.0.0.0/8",)) for _ in range(3))]
    for each in servers:
        each.clock = op.clock
    at_once([partial(each.run, "deliver") for each in servers * 3])
    assert len(receiver.requests) == 1
    assert outbox(op) == []


def test_a_record_that_somebody_else_has_taken_in_this_moment_is_left_to_them(
    op: Site, there: Browser, receivers: Receivers, wire: Wire
) -> None:
    receiver = receivers()
    log_out(there, hearing(op, receiver))
    (record,) = outbox(op)
    taken = replace(record, not_before=op.clock.time + FIRST_PAUSE, tries=1)
    with wire.before("UpdateItem", lambda: op.server.store.deliveries.put(taken)):
        op.run("deliver")
    assert receiver.requests == []
    assert outbox(op) == [taken]


def test_whoever_dies_while_sending_loses_nothing(
    op: Site, there: Browser, receivers: Receivers, wire: Wire, events: Events
) -> None:
    receiver = receivers()
    log_out(there, hearing(op, receiver))
    with wire.fault_in("DeleteItem", faults.unreachable):
        op.run("deliver")
    assert len(outbox(op)) == 1
    op.clock.advance(FIRST_PAUSE)
    op.run("deliver")
    assert len(receiver.requests) == 2  # an application takes it twice without harm
    assert outbox(op) == []


def test_one_that_fails_does_not_keep_the_others(
    op: Site, browsers: Browsers, receivers: Receivers, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = receivers()
    client = hearing(op, receiver)
    for _ in range(3):
        log_out(browsers(op), client)
    with caplog.at_level(logging.INFO, "signet"), wire.fault_in("UpdateItem", faults.throttled):
        op.run("deliver")
    assert len(receiver.requests) == 2
    assert len(outbox(op)) == 1
    line = json.loads(caplog.records[-1].getMessage())
    assert (line["schedule"], line["level"], line["outcome"]) == ("deliver", "ERROR", "temporarily_unavailable")


def test_an_application_that_was_used_in_many_sessions_hears_of_each(
    op: Site, browsers: Browsers, receivers: Receivers
) -> None:
    receiver = receivers()
    client = hearing(op, receiver)
    sids = {log_out(browsers(op), client)[0]["sid"] for _ in range(5)}
    op.run("deliver")
    told = {jwt.decode(token, options={"verify_signature": False})["sid"] for token in receiver.tokens}
    assert told == sids
    assert len(sids) == 5


def test_without_an_issuer_no_logout_token_is_made(
    site_with: Callable[..., Site], site: Site, browsers: Browsers, caplog: pytest.LogCaptureFixture
) -> None:
    """A gateway's own address is in its events, and a schedule has none."""
    site.user("alice")
    log_out(browsers(site), site.client(trusted=True, backchannel_logout_uri="https://client.example.com/bye"))
    unpinned = site_with(issuer="")
    unpinned.clock = site.clock
    with caplog.at_level(logging.INFO, "signet"):
        unpinned.run("deliver")
    line = json.loads(caplog.records[-1].getMessage())
    assert line["outcome"] == "server_error"
    assert "SIGNET_ISSUER must be set" in line["detail"]
    assert len(outbox(site)) == 1


# ---- the local server, which has no schedule


def test_the_local_server_delivers_by_itself(op: Site, there: Browser, receivers: Receivers) -> None:
    receiver = receivers()
    client = hearing(op, receiver)
    tokens = there.tokens(client)
    enough = embedded.deliver_at_once(op.server)
    assert there.get("/oauth2/logout", id_token_hint=tokens["id_token"]).status == 200
    assert receiver.arrived.acquire(timeout=PATIENCE)
    enough.set()
    (token,) = receiver.tokens
    assert verified(there, token, client, "RS256")["events"] == {LOGOUT_EVENT: {}}


def test_the_local_servers_thread_outlives_a_database_that_does_not_answer(
    op: Site, there: Browser, receivers: Receivers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver, failed = receivers(), threading.Event()
    client = hearing(op, receiver)
    log_out(there, client)
    real = deliveries.deliver

    def fails_first(server: Any) -> None:
        if not failed.is_set():
            failed.set()
            raise OSError("nobody there")
        real(server)

    monkeypatch.setattr(embedded, "deliver", fails_first)
    monkeypatch.setattr(embedded, "PAUSE", 0.05)
    monkeypatch.setattr(embedded, "PAUSE_AFTER_FAILURE", 0.05)
    enough = embedded.deliver_at_once(op.server)
    assert receiver.arrived.acquire(timeout=PATIENCE)
    enough.set()
    assert "Logout tokens cannot be sent now (OSError)." in capsys.readouterr().out


@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:1"])
def test_it_does_so_with_the_embedded_database_only(site: Site, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    served: list[AuthorizationServer] = []
    monkeypatch.setenv("SIGNET_DYNAMODB_ENDPOINT", endpoint)
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME", raising=False)
    monkeypatch.setattr(embedded, "start", lambda settings: settings)
    monkeypatch.setattr(embedded, "deliver_at_once", served.append)
    server = app.connect()
    assert served == ([] if endpoint else [server])


# ---- what may be registered


@pytest.mark.spec(f"{SPEC} §2.2 a", f"{SPEC} §2.2 c", f"{SPEC} §2.2 d")
@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/backchannel",
        "//client.example.com/backchannel",
        "client.example.com/backchannel",
        "https:///backchannel",
        "https://client.example.com/backchannel#",
        "https://client.example.com/backchannel#x",
        "https://user:password@client.example.com/backchannel",
        "http://client.example.com/backchannel",
        "com.example.app:/backchannel",
        "javascript:alert(1)",
    ],
)
def test_a_logout_uri_is_an_absolute_https_url_without_a_fragment(site: Site, uri: str) -> None:
    with pytest.raises(InvalidClientMetadata, match="backchannel_logout_uri"):
        site.client(backchannel_logout_uri=uri)
