"""Scheduled runs: how they are started and logged, and key rotation."""

import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import pytest

import app
from chalicelib import events, web
from chalicelib.events import log as event_log
from chalicelib.keys import rotation
from chalicelib.protocol.durations import DAY
from chalicelib.protocol.handles import new_secret
from chalicelib.protocol.records import Delivery
from chalicelib.schedules import Schedule
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.backchannel_logout import logout_token
from chalicelib.settings import SettingsError
from tests.support import faults
from tests.support.browser import Browser
from tests.support.faults import Wire
from tests.support.gateways import GATEWAYS, GatewayRequest
from tests.support.site import Site

pytestmark = pytest.mark.usefixtures("restore_key_ring")
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """Return the log lines since the last call."""
    # With metrics, the log gets its own handler, which the other tests must not inherit.
    monkeypatch.setattr(event_log, "_write_bare_json", lambda: None)
    with caplog.at_level(logging.INFO, "signet"):

        def read() -> list[dict[str, Any]]:
            parsed = [json.loads(record.getMessage()) for record in caplog.records if record.name.startswith("signet")]
            caplog.clear()
            return parsed

        read()
        yield read


def states(site: Site) -> list[str]:
    keys = rotation.list_keys(site.server.keys, site.settings, site.server.now())
    return [key.state for key in keys if key.alg == "RS256"]


# ---- runs and the log


@pytest.mark.parametrize("name", [schedule.name for schedule in app.SCHEDULES])
def test_run_logs_one_line(site: Site, lines: Lines, name: str) -> None:
    site.run(name)
    (line,) = lines()
    assert (line["schedule"], line["outcome"], line["level"]) == (name, "ok", "INFO")
    assert line["dynamodb_calls"] == {"remove_accounts": 1}.get(name, 2)
    assert line["duration_ms"] >= 0


@pytest.mark.parametrize("name", [schedule.name for schedule in app.SCHEDULES])
def test_chalice_function_of_a_schedule_runs_it(site: Site, lines: Lines, name: str) -> None:
    event = {"version": "0", "source": "aws.events", "detail-type": "Scheduled Event", "detail": {}, "region": "x"}
    event |= {"account": "1", "time": "2026-11-20T12:00:00Z", "id": "1", "resources": [f"rule/{name}"]}
    assert site.app.handler_map[name](event, None) is None
    assert [line["schedule"] for line in lines()] == [name]
    assert getattr(app, name) is app.app.handler_map[name]


def test_schedule_cannot_be_run_over_http(site: Site, lines: Lines) -> None:
    for gateway in GATEWAYS:
        event = gateway.event(
            GatewayRequest("POST", "/", "schedule=deliver", [("schedule", "deliver")], b"{}"), gateway.domain, "x"
        )
        assert site.http_handler({**event, "schedule": "deliver"}, None)["statusCode"] in (404, 405)
    assert not [line for line in lines() if "schedule" in line]


def test_unknown_schedule_raises_key_error(site: Site) -> None:
    with pytest.raises(KeyError):
        site.run("something")


def failing_schedule(error: Exception) -> Schedule:
    def job(_server: AuthorizationServer) -> None:
        raise error

    return Schedule("rate(1 minute)", job)


@pytest.mark.parametrize(
    ("error", "outcome", "error_metric", "detail"),
    [
        (RuntimeError("a secret"), "server_error", "server_error", "RuntimeError at "),
        (SettingsError("SIGNET_X must be set"), "server_error", "server_error", "SIGNET_X must be set"),
    ],
    ids=["an exception", "a setting"],
)
def test_failed_run_logs_an_error_with_a_metric(
    site_with: Callable[..., Site], lines: Lines, error: Exception, outcome: str, error_metric: str, detail: str
) -> None:
    site = site_with(metrics=True)
    failing_schedule(error).run(lambda: site.server)
    (line,) = lines()
    assert (line["level"], line["outcome"], line[error_metric]) == ("ERROR", outcome, 1)
    assert line["detail"].startswith(detail)
    assert "a secret" not in json.dumps(line)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert [metric["Name"] for metric in directive["Metrics"]] == [error_metric]


def test_run_with_an_unreachable_database_counts_as_throttled(
    site_with: Callable[..., Site], wire: Wire, lines: Lines
) -> None:
    site = site_with(metrics=True)
    with wire.every("Query", faults.unreachable):
        site.run("deliver")
    (line,) = lines()
    assert (line["level"], line["outcome"], line["throttled"]) == ("ERROR", "temporarily_unavailable", 1)
    assert line["detail"].startswith("dynamodb Query")


def test_delivery_without_a_due_token_makes_one_call(site: Site, lines: Lines) -> None:
    site.run("deliver")
    lines()
    site.run("deliver")
    (line,) = lines()
    assert line["dynamodb_calls"] == 1


def test_successful_run_has_no_metrics(site_with: Callable[..., Site], lines: Lines) -> None:
    """A metric every minute would cost more than the runs."""
    site = site_with(metrics=True)
    site.run("deliver")
    (line,) = lines()
    assert "_aws" not in line


def test_failure_to_connect_logs_an_error(lines: Lines) -> None:
    def connect() -> AuthorizationServer:
        raise SettingsError("SIGNET_STAGE is wrong")

    _, handler = web.build((), (), connect, app.SCHEDULES)
    assert handler({"schedule": "deliver"}, None) == {}
    (line,) = lines()
    assert (line["level"], line["detail"]) == ("ERROR", "SIGNET_STAGE is wrong")


# ---- key rotation


def rotated(log: list[dict[str, Any]]) -> bool:
    return events.KEYS_ROTATED in [line.get("event") for line in log]


@pytest.mark.parametrize(("days", "after", "due"), [(90, 90, True), (90, 89, False), (1, 1, True), (0, 5000, False)])
def test_keys_are_rotated_when_they_reach_the_configured_age(
    site_with: Callable[..., Site], lines: Lines, days: int, after: int, due: bool
) -> None:
    site = site_with(key_rotation_days=days)
    created = max(key.created_at for key in rotation.list_keys(site.server.keys, site.settings, site.server.now()))
    site.clock.time = created + after * DAY
    site.run("rotate_keys")
    assert rotated(lines()) is due
    assert states(site)[0] == ("next" if due else "current")
    site.clock.advance(3600)
    site.run("rotate_keys")
    assert not rotated(lines())  # the new keys are too young


def test_keys_are_not_rotated_one_second_early(site: Site, lines: Lines) -> None:
    keys = rotation.list_keys(site.server.keys, site.settings, site.server.now())
    site.clock.time = min(key.created_at for key in keys if key.alg != "HS256") + 90 * DAY - 1
    site.run("rotate_keys")
    assert not rotated(lines())


def test_keys_are_rotated_when_the_key_of_one_algorithm_is_old_enough(site: Site, lines: Lines) -> None:
    ring = site.server.keys
    document, version = ring.read_document()
    for key in document["signing"]:
        key["created_at"] = site.clock.time - (90 * DAY if key["alg"] == "ES256" else 0)
    assert ring.replace_document(document, version)
    site.run("rotate_keys")
    assert rotated(lines())


def test_unneeded_keys_are_removed_and_logged(site: Site, lines: Lines) -> None:
    old = {key["kid"] for key in site.server.keys.jwks()["keys"]}
    rotation.rotate(site.server.keys, site.server.now())
    site.clock.advance(DAY)
    site.run("rotate_keys")
    assert events.KEYS_RETIRED not in [line.get("event") for line in lines()]
    site.clock.advance(DAY)
    site.run("rotate_keys")
    event, run = lines()
    assert event["event"] == events.KEYS_RETIRED
    assert set(event["detail"].split(", ")) == old
    assert run["outcome"] == "ok"
    assert not old & {key["kid"] for key in site.server.keys.jwks()["keys"]}


def test_with_kms_keys_the_log_asks_for_manual_rotation(
    site: Site, site_with: Callable[..., Site], lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    kms = site_with(signing="kms")
    monkeypatch.setattr(rotation, "rotate", None)  # must not be called
    kms.clock.advance(91 * DAY)
    kms.run("rotate_keys")
    (line,) = lines()
    assert (line["level"], line["outcome"]) == ("INFO", "ok")
    assert "Create new keys in KMS" in line["detail"]
    assert states(site) == ["current"]


def test_impossible_rotation_is_logged(site: Site, lines: Lines) -> None:
    ring = site.server.keys
    document, version = ring.read_document()
    used = {"secret": new_secret(), "created_at": 1, "used_from": 1}
    document["handles"] = [{"version": number, **used} for number in range(1, 256)]
    for number, secret in enumerate(document["handles"]):
        secret["used_from"] = site.clock.time + number  # all still needed
    assert ring.replace_document(document, version)
    site.clock.advance(90 * DAY)
    site.run("rotate_keys")
    log = lines()
    assert not rotated(log)
    assert "no version left" in log[-1]["detail"]


def test_version_number_of_a_removed_secret_is_reused(site: Site) -> None:
    ring = site.server.keys
    document, version = ring.read_document()
    old = site.server.keys.make_handle("code", "x")
    (first,) = document["handles"]
    document["handles"] = [{**first, "version": 255}]
    assert ring.replace_document(document, version)
    rotation.rotate(ring, site.server.now(), 0)
    document, _ = ring.read_document()
    assert [secret["version"] for secret in document["handles"]] == [255, 1]
    assert ring.read_handle("code", old) is None  # a handle of the removed secret is invalid
    assert ring.read_handle("code", ring.make_handle("code", "x"))


def test_ten_concurrent_runs_rotate_the_keys_once(site: Site, site_with: Callable[..., Site], lines: Lines) -> None:
    site.clock.advance(91 * DAY)
    servers = [site_with() for _ in range(10)]
    for each in servers:
        each.clock = site.clock
        each.server = AuthorizationServer.connect(each.settings, site.clock)
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda each: each.run("rotate_keys"), servers))
    log = lines()
    assert [line.get("event") for line in log].count(events.KEYS_ROTATED) == 1
    assert {line["outcome"] for line in log if "schedule" in line} == {"ok"}
    site.server.keys.forget_cached_keys()
    assert states(site) == ["next", "current"]


class Verifier:
    """An application that caches the public keys for a day and never reads them earlier."""

    def __init__(self, site: Site, browser: Browser):
        self._site, self._browser = site, browser
        self._read_at = 0
        self.seen: set[str] = set()

    def update_cache(self) -> None:
        """Read the keys again when the cache is a day old."""
        if self._site.clock.time - self._read_at >= DAY:
            self._keys = {key["kid"]: key for key in self._browser.get("/oauth2/jwks").json["keys"]}
            self._read_at = self._site.clock.time

    def verify(self, token: str, typ: str) -> dict[str, Any]:
        header = jwt.get_unverified_header(token)
        assert header["typ"] == typ
        self.seen.add(header["kid"])
        key = jwt.PyJWK(self._keys[header["kid"]])
        options: Any = {"verify_exp": False, "verify_iat": False, "verify_aud": False}
        claims: dict[str, Any] = jwt.decode(
            token, key, algorithms=[header["alg"]], issuer=self._site.settings.issuer, options=options
        )
        return claims


def test_verifier_that_caches_keys_for_a_day_never_fails_through_six_rotations(
    site: Site, site_with: Callable[..., Site], browsers: Callable[..., Browser]
) -> None:
    server_site = site_with(key_rotation_days=30)
    server_site.clock = site.clock
    server_site.server = AuthorizationServer.connect(server_site.settings, site.clock)
    server_site.user("alice")
    browser = browsers(server_site)
    verifier = Verifier(server_site, browser)
    algorithms = server_site.server.keys.algorithms
    clients = [
        server_site.client(
            trusted=True,
            id_token_signed_response_alg=alg,
            access_token_signed_response_alg=alg,
            userinfo_signed_response_alg=alg,
        )
        for alg in algorithms
    ]
    tokens = {client.id: browser.tokens(client, scope="openid offline_access") for client in clients}
    for eight_hours in range(190 * 3):
        # Worst case: the keys are cached just before a rotation, for a whole day.
        verifier.update_cache()
        if eight_hours % 3 == 0:
            server_site.run("rotate_keys")
        for alg in algorithms:
            verifier.verify(server_site.server.keys.sign({"iss": server_site.settings.issuer}, "JWT", alg), "JWT")
        if eight_hours % 30 == 0:  # every ten days, the applications refresh their tokens
            for client in clients:
                if eight_hours % 300 == 0:  # every hundred days, the user signs in again
                    browser.cookies.clear()
                    tokens[client.id] = browser.tokens(client, scope="openid offline_access")
                answer = browser.refresh(client, tokens[client.id]["refresh_token"])
                assert answer.status == 200, answer.body
                tokens[client.id] = answer.json
                verifier.verify(answer.json["access_token"], "at+jwt")
                verifier.verify(answer.json["id_token"], "JWT")
                userinfo = browser.userinfo(answer.json["access_token"])
                assert userinfo.status == 200
                verifier.verify(userinfo.body, "JWT")
                delivery = Delivery("x", "alice", created_at=0, expires_at=0, session_id="alice.x")
                verifier.verify(logout_token(server_site.server, client.record, delivery), "logout+jwt")
        server_site.clock.advance(8 * 3600)
    assert len(verifier.seen) == len(algorithms) * 7  # the first keys and those of six rotations
