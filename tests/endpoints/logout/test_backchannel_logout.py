"""Back-channel logout: logout tokens, and their delivery from the outbox until each client has accepted its own."""

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import jwt
import pytest

import app
from chalicelib import events
from chalicelib.protocol.durations import DAY
from chalicelib.protocol.errors import InvalidClientMetadata
from chalicelib.protocol.records import User
from chalicelib.server import AuthorizationServer
from chalicelib.sessions import backchannel_logout
from chalicelib.sessions.backchannel_logout import FIRST_PAUSE, LOGOUT_EVENT
from chalicelib.tokens.subjects import sid
from infra.local import embedded
from tests.endpoints.logout.conftest import Browsers, Receivers, outbox_of, register_client
from tests.support import faults
from tests.support.browser import Browser
from tests.support.faults import Wire
from tests.support.listener import TIMEOUT
from tests.support.receivers import OK, Behaviour, answer, in_sequence, silence, status
from tests.support.run_time import let_runs_read
from tests.support.site import Registered, Site
from tests.support.threads import run_concurrently

SPEC = "OpenID Connect Back-Channel Logout"


@pytest.fixture
def browser(op: Site, browsers: Browsers) -> Browser:
    """Return alice's browser."""
    return browsers(op)


@pytest.fixture
def alice(op: Site) -> User:
    (user,) = op.server.store.users.scan()
    return user


def use_and_log_out(browser: Browser, *clients: Registered) -> list[dict[str, Any]]:
    """Get tokens for these clients, sign out, and return the claims of their ID tokens."""
    tokens = [browser.tokens(client)["id_token"] for client in clients]
    assert browser.get("/oauth2/logout", id_token_hint=tokens[0]).status == 200
    return [jwt.decode(token, options={"verify_signature": False}) for token in tokens]


def deliver_until_empty(op: Site) -> None:
    """Run the schedule whenever a delivery is due, until the outbox is empty."""
    while deliveries := outbox_of(op):
        op.clock.time = max(op.clock.time, deliveries[0].not_before)
        op.run("deliver")


LoggedDeliveries = Callable[[], list[tuple[str, str, str]]]


@pytest.fixture
def logged_deliveries(caplog: pytest.LogCaptureFixture) -> Iterator[LoggedDeliveries]:
    """Yield a function that reads the logged delivery events: event, client_id, detail."""
    with caplog.at_level(logging.INFO, "signet"):
        caplog.clear()

        def read() -> list[tuple[str, str, str]]:
            lines = [json.loads(record.getMessage()) for record in caplog.records if record.name.startswith("signet")]
            return [
                (line["event"], line["client_id"], line.get("detail", ""))
                for line in lines
                if line.get("event") in (events.LOGOUT_DELIVERED, events.LOGOUT_UNDELIVERED)
            ]

        yield read


# ---- the logout token


def verify_logout_token(browser: Browser, token: str, client: Registered, alg: str) -> dict[str, Any]:
    """Check a logout token as a client must, and return its claims (section 2.6)."""
    keys = jwt.PyJWKSet.from_dict(browser.get("/oauth2/jwks").json)
    header = jwt.get_unverified_header(token)
    claims: dict[str, Any] = jwt.decode(
        token,
        keys[header["kid"]],
        algorithms=[alg],
        audience=client.id,
        issuer=browser.site.settings.issuer,
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
def test_logout_token_has_the_claims_of_the_id_token(
    op: Site, browser: Browser, alice: User, receivers: Receivers, alg: str, subject_type: str
) -> None:
    receiver = receivers()
    client = register_client(op, receiver, id_token_signed_response_alg=alg, subject_type=subject_type)
    (id_token,) = use_and_log_out(browser, client)
    op.run("deliver")
    (request,) = receiver.requests
    assert request.startswith(b"POST /backchannel?rp=1 HTTP/1.1\r\n")
    assert b"\r\nContent-Type: application/x-www-form-urlencoded\r\n" in request
    (token,) = receiver.tokens
    op.secrets.add(token)
    assert jwt.get_unverified_header(token)["typ"] == "logout+jwt"
    claims = verify_logout_token(browser, token, client, alg)
    assert claims["events"] == {"http://schemas.openid.net/event/backchannel-logout": {}}
    assert (claims["sub"], claims["sid"]) == (id_token["sub"], id_token["sid"])
    assert (claims["sub"] == alice.sub) is (subject_type == "public")
    assert claims["aud"] == client.id
    assert claims["iat"] == op.clock.time
    assert claims["exp"] - claims["iat"] == 120
    assert "nonce" not in claims
    assert outbox_of(op) == []


@pytest.mark.spec(f"{SPEC} §2.3")
def test_only_clients_of_the_session_receive_a_logout_token(
    op: Site, browser: Browser, browsers: Browsers, receivers: Receivers, logged_deliveries: LoggedDeliveries
) -> None:
    first, second, uninvolved = receivers(), receivers(), receivers()
    clients = [register_client(op, first), register_client(op, second)]
    without_uri, of_another_session = op.client(trusted=True), register_client(op, uninvolved)
    browsers(op).tokens(of_another_session)
    claims = use_and_log_out(browser, clients[0], without_uri, clients[1], clients[0])
    assert [*first.requests, *second.requests] == []  # the user does not wait for the deliveries
    op.run("deliver")
    assert uninvolved.requests == []
    for receiver, client, id_token in ((first, clients[0], claims[0]), (second, clients[1], claims[2])):
        (token,) = receiver.tokens
        assert verify_logout_token(browser, token, client, "RS256")["sid"] == id_token["sid"]
    assert sorted(logged_deliveries()) == sorted((events.LOGOUT_DELIVERED, client.id, "") for client in clients)
    assert claims[0]["sid"] != claims[2]["sid"]  # so that clients cannot correlate sessions


def test_sid_is_derived_from_the_session_and_the_client(op: Site, browser: Browser, receivers: Receivers) -> None:
    (id_token,) = use_and_log_out(browser, register_client(op, receivers()))
    (session,) = op.server.store.sessions.scan()
    assert id_token["sid"] == sid(session.session_id, id_token["aud"])
    assert session.sub not in id_token["sid"]


# ---- retries


def test_failed_delivery_is_retried_with_exponential_backoff(
    op: Site, browser: Browser, receivers: Receivers, logged_deliveries: LoggedDeliveries
) -> None:
    receiver = receivers(status(500))
    use_and_log_out(browser, register_client(op, receiver))
    minutes_of_tries: list[int] = []
    for minute in range(20):
        before = len(receiver.requests)
        op.run("deliver")
        minutes_of_tries += [minute] * (len(receiver.requests) - before)
        op.clock.advance(60)
    assert minutes_of_tries == [0, 1, 3, 7, 15]
    assert logged_deliveries() == []
    receiver.behave = answer(OK)
    op.clock.advance(3600)
    op.run("deliver")
    assert [event for event, _, _ in logged_deliveries()] == [events.LOGOUT_DELIVERED]
    assert outbox_of(op) == []
    claims = [jwt.decode(token, options={"verify_signature": False}) for token in receiver.tokens]
    assert len({each["jti"] for each in claims}) == len(claims)  # each is a new token, not a replay
    assert len({each["sid"] for each in claims}) == 1


def test_delivery_is_abandoned_after_a_day_and_logged(
    op: Site, browser: Browser, receivers: Receivers, logged_deliveries: LoggedDeliveries
) -> None:
    receiver = receivers(status(503))
    client = register_client(op, receiver)
    use_and_log_out(browser, client)
    deliver_until_empty(op)
    assert logged_deliveries() == [(events.LOGOUT_UNDELIVERED, client.id, "status 503")]
    assert len(receiver.requests) == 11
    op.clock.advance(DAY)
    op.run("deliver")
    assert len(receiver.requests) == 11


@pytest.mark.spec(f"{SPEC} §2.8")
def test_status_400_ends_the_retries(
    op: Site, browser: Browser, receivers: Receivers, logged_deliveries: LoggedDeliveries
) -> None:
    receiver = receivers(status(400))
    client = register_client(op, receiver)
    use_and_log_out(browser, client)
    op.run("deliver")
    assert logged_deliveries() == [(events.LOGOUT_UNDELIVERED, client.id, "status 400")]
    assert outbox_of(op) == []


@pytest.mark.parametrize(
    ("behave", "retried"),
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
    ids=["200", "204", "202", "302", "401", "404", "429", "504", "silence", "connection closed"],
)
def test_any_2xx_ends_the_delivery_and_other_statuses_are_retried(
    op: Site, browser: Browser, receivers: Receivers, behave: Behaviour, retried: bool
) -> None:
    receiver = receivers(behave)
    use_and_log_out(browser, register_client(op, receiver))
    op.run("deliver")
    assert len(receiver.requests) == 1
    assert bool(outbox_of(op)) is retried


def test_retry_goes_to_the_failed_client_only(
    op: Site, browser: Browser, receivers: Receivers, logged_deliveries: LoggedDeliveries
) -> None:
    healthy, failing = receivers(), receivers(in_sequence(status(500), answer(OK)))
    clients = [register_client(op, healthy), register_client(op, failing)]
    use_and_log_out(browser, *clients)
    op.run("deliver")
    (delivery,) = outbox_of(op)
    assert delivery.clients == {clients[1].id}
    op.clock.advance(FIRST_PAUSE)
    op.run("deliver")
    assert (len(healthy.requests), len(failing.requests)) == (1, 2)
    assert [(event, client) for event, client, _ in logged_deliveries()] == [
        (events.LOGOUT_DELIVERED, client.id) for client in clients
    ]
    assert outbox_of(op) == []


def test_failing_receiver_is_tried_once_per_run(
    op: Site, browsers: Browsers, receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backchannel_logout, "MAX_PARALLEL", 1)
    failing, healthy = receivers(status(500)), receivers()
    clients = [register_client(op, failing), register_client(op, healthy)]
    for _ in range(3):
        use_and_log_out(browsers(op), *clients)
    op.run("deliver")
    assert (len(failing.requests), len(healthy.requests)) == (1, 3)
    assert len(outbox_of(op)) == 3


def test_delivery_outside_the_time_of_a_run_waits_for_the_next_run(
    op: Site, browsers: Browsers, receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = receivers()
    client = register_client(op, receiver)
    use_and_log_out(browsers(op), client)
    monkeypatch.setattr(backchannel_logout, "START_WITHIN", -1.0)
    op.run("deliver")
    assert receiver.requests == []
    (delivery,) = outbox_of(op)
    assert delivery.tries == 0
    monkeypatch.undo()
    op.run("deliver")
    assert len(receiver.requests) == 1


def test_no_client_is_started_after_the_time_of_a_run(
    op: Site, browser: Browser, receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    elapsed = [0.0]
    let_runs_read(monkeypatch, lambda: elapsed[0])

    def take_time(connection: socket.socket) -> None:
        elapsed[0] += backchannel_logout.START_WITHIN
        connection.sendall(OK)

    first, second = receivers(take_time), receivers(take_time)
    use_and_log_out(browser, register_client(op, first), register_client(op, second))
    op.run("deliver")
    assert len(first.requests) + len(second.requests) == 1
    (delivery,) = outbox_of(op)
    assert len(delivery.clients) == 1


def test_slow_clients_do_not_starve_another_client(
    op: Site, browser: Browser, receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    elapsed = [0.0]
    let_runs_read(monkeypatch, lambda: elapsed[0])

    def take_time_and_fail(connection: socket.socket) -> None:
        elapsed[0] += backchannel_logout.START_WITHIN
        connection.sendall(b"HTTP/1.1 500 Whatever\r\n\r\n")

    slow, healthy = [receivers(take_time_and_fail) for _ in range(2)], receivers()
    clients = [register_client(op, each, client_id=name) for each, name in zip([*slow, healthy], "abc", strict=True)]
    use_and_log_out(browser, *clients)
    for _ in clients:
        op.run("deliver")
        op.clock.time = outbox_of(op)[0].not_before
    assert len(healthy.requests) == 1
    assert outbox_of(op)[0].clients == {"a", "b"}


# ---- skipped clients and rejected addresses


@pytest.mark.parametrize("what", ["deleted", "disabled", "without a URI"])
def test_deleted_disabled_or_unsubscribed_client_is_skipped(
    op: Site, browser: Browser, receivers: Receivers, logged_deliveries: LoggedDeliveries, what: str
) -> None:
    receiver = receivers()
    client = register_client(op, receiver)
    use_and_log_out(browser, client)
    clients = op.server.store.clients
    if what == "deleted":
        clients.delete(client.id)
    elif what == "disabled":
        clients.put(replace(client.record, disabled_at=1))
    else:
        clients.put(replace(client.record, backchannel_logout_uri=None))
    op.server.forget_cached_records()
    op.run("deliver")
    assert receiver.requests == []
    assert outbox_of(op) == []
    assert logged_deliveries() == []


def test_loopback_receiver_is_rejected_unless_its_network_is_listed(
    site: Site, browsers: Browsers, receivers: Receivers, logged_deliveries: LoggedDeliveries
) -> None:
    receiver = receivers()
    site.user("alice")
    client = register_client(site, receiver)
    use_and_log_out(browsers(site), client)
    deliver_until_empty(site)
    assert receiver.requests == []
    assert logged_deliveries() == [(events.LOGOUT_UNDELIVERED, client.id, "the host has an address that is not public")]


def test_redirect_is_not_followed(op: Site, browser: Browser, receivers: Receivers) -> None:
    private = receivers()
    receiver = receivers(status(307, f"Location: {private.url}"))
    use_and_log_out(browser, register_client(op, receiver))
    op.run("deliver")
    assert len(receiver.requests) == 1
    assert private.requests == []


# ---- concurrency and failures


def test_concurrent_runs_send_once(
    op: Site, browser: Browser, receivers: Receivers, site_with: Callable[..., Site]
) -> None:
    receiver = receivers()
    use_and_log_out(browser, register_client(op, receiver))
    servers = [op, *(site_with(backchannel_networks=("127.0.0.0/8",)) for _ in range(3))]
    for each in servers:
        each.clock = op.clock
    run_concurrently([partial(each.run, "deliver") for each in servers * 3])
    assert len(receiver.requests) == 1
    assert outbox_of(op) == []


def test_delivery_claimed_by_another_run_is_skipped(
    op: Site, browser: Browser, receivers: Receivers, wire: Wire
) -> None:
    receiver = receivers()
    use_and_log_out(browser, register_client(op, receiver))
    (delivery,) = outbox_of(op)
    claimed = replace(delivery, not_before=op.clock.time + FIRST_PAUSE, tries=1)
    with wire.before("UpdateItem", lambda: op.server.store.deliveries.put(claimed)):
        op.run("deliver")
    assert receiver.requests == []
    assert outbox_of(op) == [claimed]


def test_delivery_is_sent_again_when_its_record_could_not_be_deleted(
    op: Site, browser: Browser, receivers: Receivers, wire: Wire, logged_deliveries: LoggedDeliveries
) -> None:
    receiver = receivers()
    use_and_log_out(browser, register_client(op, receiver))
    with wire.fault_in("DeleteItem", faults.unreachable):
        op.run("deliver")
    assert len(outbox_of(op)) == 1
    op.clock.advance(FIRST_PAUSE)
    op.run("deliver")
    assert len(receiver.requests) == 2  # receiving a logout token twice is harmless
    assert outbox_of(op) == []


def test_failure_of_one_delivery_does_not_block_the_rest(
    op: Site, browsers: Browsers, receivers: Receivers, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = receivers()
    client = register_client(op, receiver)
    for _ in range(3):
        use_and_log_out(browsers(op), client)
    with caplog.at_level(logging.INFO, "signet"), wire.fault_in("UpdateItem", faults.throttled):
        op.run("deliver")
    assert len(receiver.requests) == 2
    assert len(outbox_of(op)) == 1
    line = json.loads(caplog.records[-1].getMessage())
    assert (line["schedule"], line["level"], line["outcome"]) == ("deliver", "ERROR", "temporarily_unavailable")


def test_client_receives_a_logout_token_for_each_session(op: Site, browsers: Browsers, receivers: Receivers) -> None:
    receiver = receivers()
    client = register_client(op, receiver)
    sids = {use_and_log_out(browsers(op), client)[0]["sid"] for _ in range(5)}
    op.run("deliver")
    received = {jwt.decode(token, options={"verify_signature": False})["sid"] for token in receiver.tokens}
    assert received == sids
    assert len(sids) == 5


def test_delivery_fails_without_an_issuer(
    site_with: Callable[..., Site], site: Site, browsers: Browsers, caplog: pytest.LogCaptureFixture
) -> None:
    """Without SIGNET_ISSUER, the issuer is the address of the HTTP request, which a schedule does not have."""
    site.user("alice")
    use_and_log_out(browsers(site), site.client(trusted=True, backchannel_logout_uri="https://client.example.com/bye"))
    without_issuer = site_with(issuer="")
    without_issuer.clock = site.clock
    with caplog.at_level(logging.INFO, "signet"):
        without_issuer.run("deliver")
    line = json.loads(caplog.records[-1].getMessage())
    assert line["outcome"] == "server_error"
    assert "SIGNET_ISSUER must be set" in line["detail"]
    assert len(outbox_of(site)) == 1


# ---- the local server


def test_local_server_delivers_without_a_schedule(op: Site, browser: Browser, receivers: Receivers) -> None:
    receiver = receivers()
    client = register_client(op, receiver)
    tokens = browser.tokens(client)
    stop = embedded.deliver_at_once(op.server)
    assert browser.get("/oauth2/logout", id_token_hint=tokens["id_token"]).status == 200
    assert receiver.arrived.acquire(timeout=TIMEOUT)
    stop.set()
    (token,) = receiver.tokens
    assert verify_logout_token(browser, token, client, "RS256")["events"] == {LOGOUT_EVENT: {}}


def test_local_delivery_continues_after_a_database_failure(
    op: Site,
    browser: Browser,
    receivers: Receivers,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    receiver, failed = receivers(), threading.Event()
    client = register_client(op, receiver)
    use_and_log_out(browser, client)
    real = backchannel_logout.deliver

    def fails_first(server: Any) -> None:
        if not failed.is_set():
            failed.set()
            raise OSError("unreachable")
        real(server)

    monkeypatch.setattr(embedded, "deliver", fails_first)
    monkeypatch.setattr(embedded, "PAUSE", 0.05)
    monkeypatch.setattr(embedded, "PAUSE_AFTER_FAILURE", 0.05)
    stop = embedded.deliver_at_once(op.server)
    assert receiver.arrived.acquire(timeout=TIMEOUT)
    stop.set()
    assert "Mails and logout tokens cannot be sent (OSError); trying again in a minute." in capsys.readouterr().out


@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:1"])
def test_local_delivery_runs_with_the_embedded_database_only(
    site: Site, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    servers: list[AuthorizationServer] = []
    monkeypatch.setenv("SIGNET_DYNAMODB_ENDPOINT", endpoint)
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME", raising=False)
    monkeypatch.setattr(embedded, "start", lambda settings: settings)
    monkeypatch.setattr(embedded, "deliver_at_once", servers.append)
    server = app.connect()
    assert servers == ([] if endpoint else [server])


# ---- registration


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
def test_backchannel_logout_uri_must_be_an_absolute_https_url_without_a_fragment(site: Site, uri: str) -> None:
    with pytest.raises(InvalidClientMetadata, match="backchannel_logout_uri"):
        site.client(backchannel_logout_uri=uri)
