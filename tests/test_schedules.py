"""What runs by the clock: through which doors, what is logged of it, and the keys that are replaced by it."""

import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import pytest

import app
from chalicelib import audit, rotation, web
from chalicelib.deliveries import logout_token
from chalicelib.handles import new_secret
from chalicelib.models import Delivery
from chalicelib.schedules import Schedule
from chalicelib.server import AuthorizationServer
from chalicelib.settings import SettingsError
from tests import faults
from tests.browser import Browser
from tests.faults import Wire
from tests.gateways import FRONTS, Sent
from tests.site import Site

pytestmark = pytest.mark.usefixtures("ring_comes_back")
DAY = 24 * 3600
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """The log, read and emptied."""
    # In Lambda the log has an output of its own, which the other tests must not inherit.
    monkeypatch.setattr(audit, "_bare", lambda: None)
    with caplog.at_level(logging.INFO, "signet"):

        def read() -> list[dict[str, Any]]:
            found = [json.loads(one.getMessage()) for one in caplog.records if one.name.startswith("signet")]
            caplog.clear()
            return found

        read()
        yield read


def states(site: Site) -> list[str]:
    found = rotation.keys_of(site.server.keys, site.settings, site.server.now())
    return [key.state for key in found if key.alg == "RS256"]


# ---- the doors, and the log


@pytest.mark.parametrize("name", [schedule.name for schedule in app.SCHEDULES])
def test_a_run_is_one_line_in_the_log(site: Site, lines: Lines, name: str) -> None:
    site.run(name)
    (line,) = lines()
    assert (line["schedule"], line["outcome"], line["level"]) == (name, "ok", "INFO")
    assert line["dynamodb_calls"] == (1 if name == "deliver" else 2)
    assert line["duration_ms"] >= 0


@pytest.mark.parametrize("name", [schedule.name for schedule in app.SCHEDULES])
def test_chalices_own_function_for_it_does_the_same(site: Site, lines: Lines, name: str) -> None:
    event = {"version": "0", "source": "aws.events", "detail-type": "Scheduled Event", "detail": {}, "region": "x"}
    event |= {"account": "1", "time": "2026-11-20T12:00:00Z", "id": "1", "resources": [f"rule/{name}"]}
    assert site.app.handler_map[name](event, None) is None
    assert [line["schedule"] for line in lines()] == [name]
    assert getattr(app, name) is app.app.handler_map[name]


def test_nobody_can_ask_for_a_schedule_over_http(site: Site, lines: Lines) -> None:
    for front in FRONTS:
        event = front.event(Sent("POST", "/", "schedule=deliver", [("schedule", "deliver")], b"{}"), front.domain, "x")
        assert site.http_handler({**event, "schedule": "deliver"}, None)["statusCode"] in (404, 405)
    assert not [line for line in lines() if "schedule" in line]


def test_a_schedule_that_is_unknown_fails_loudly(site: Site) -> None:
    with pytest.raises(KeyError):
        site.run("something")


def failing(error: Exception) -> Schedule:
    def job(_server: AuthorizationServer) -> None:
        raise error

    return Schedule("rate(1 minute)", job)


@pytest.mark.parametrize(
    ("error", "outcome", "counted", "detail"),
    [
        (RuntimeError("a secret"), "server_error", "server_error", "RuntimeError at "),
        (SettingsError("SIGNET_X must be set"), "server_error", "server_error", "SIGNET_X must be set"),
    ],
    ids=["a mistake", "a setting"],
)
def test_a_run_that_fails_is_an_error_in_the_log_and_is_counted(
    site_with: Callable[..., Site], lines: Lines, error: Exception, outcome: str, counted: str, detail: str
) -> None:
    site = site_with(metrics=True)
    failing(error).run(lambda: site.server)
    (line,) = lines()
    assert (line["level"], line["outcome"], line[counted]) == ("ERROR", outcome, 1)
    assert line["detail"].startswith(detail)
    assert "a secret" not in json.dumps(line)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert [metric["Name"] for metric in directive["Metrics"]] == [counted]


def test_a_database_out_of_reach_is_counted_as_that(site_with: Callable[..., Site], wire: Wire, lines: Lines) -> None:
    site = site_with(metrics=True)
    with wire.every("Scan", faults.unreachable):
        site.run("deliver")
    (line,) = lines()
    assert (line["level"], line["outcome"], line["throttled"]) == ("ERROR", "temporarily_unavailable", 1)
    assert line["detail"].startswith("dynamodb scan")


def test_a_run_that_goes_well_counts_nothing(site_with: Callable[..., Site], lines: Lines) -> None:
    """A metric of each minute would cost more than the runs."""
    site = site_with(metrics=True)
    site.run("deliver")
    (line,) = lines()
    assert "_aws" not in line


def test_a_server_that_cannot_be_connected_is_an_error_in_the_log(lines: Lines) -> None:
    def connect() -> AuthorizationServer:
        raise SettingsError("SIGNET_STAGE is wrong")

    _, handler = web.build((), (), connect, app.SCHEDULES)
    assert handler({"schedule": "deliver"}, None) == {}
    (line,) = lines()
    assert (line["level"], line["detail"]) == ("ERROR", "SIGNET_STAGE is wrong")


# ---- the keys


def rotated(found: list[dict[str, Any]]) -> bool:
    return audit.KEYS_ROTATED in [line.get("event") for line in found]


@pytest.mark.parametrize(("days", "after", "due"), [(90, 90, True), (90, 89, False), (1, 1, True), (0, 5000, False)])
def test_keys_are_replaced_when_they_are_as_old_as_the_operator_lets_them_get(
    site_with: Callable[..., Site], lines: Lines, days: int, after: int, due: bool
) -> None:
    site = site_with(key_rotation_days=days)
    created = max(key.created_at for key in rotation.keys_of(site.server.keys, site.settings, site.server.now()))
    site.clock.time = created + after * DAY
    site.run("rotate_keys")
    assert rotated(lines()) is due
    assert states(site)[0] == ("next" if due else "current")
    site.clock.advance(3600)
    site.run("rotate_keys")
    assert not rotated(lines())  # the new ones are young


def test_one_second_before_they_are_not_replaced(site: Site, lines: Lines) -> None:
    keys = rotation.keys_of(site.server.keys, site.settings, site.server.now())
    site.clock.time = min(key.created_at for key in keys if key.alg != "HS256") + 90 * DAY - 1
    site.run("rotate_keys")
    assert not rotated(lines())


def test_an_algorithm_whose_key_is_older_than_the_others_is_enough(site: Site, lines: Lines) -> None:
    ring = site.server.keys
    document, version = ring.read_document()
    for key in document["signing"]:
        key["created_at"] = site.clock.time - (90 * DAY if key["alg"] == "ES256" else 0)
    assert ring.replace_document(document, version)
    site.run("rotate_keys")
    assert rotated(lines())


def test_what_nothing_needs_any_more_is_removed_and_that_is_logged(site: Site, lines: Lines) -> None:
    old = {key["kid"] for key in site.server.keys.jwks()["keys"]}
    rotation.rotate(site.server.keys, site.server.now())
    site.clock.advance(DAY)
    site.run("rotate_keys")
    assert audit.KEYS_RETIRED not in [line.get("event") for line in lines()]
    site.clock.advance(DAY)
    site.run("rotate_keys")
    event, run = lines()
    assert event["event"] == audit.KEYS_RETIRED
    assert set(event["detail"].split(", ")) == old
    assert run["outcome"] == "ok"
    assert not old & {key["kid"] for key in site.server.keys.jwks()["keys"]}


def test_with_the_keys_in_kms_the_operator_is_told_what_to_do(
    site: Site, site_with: Callable[..., Site], lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    kms = site_with(signing="kms")
    monkeypatch.setattr(rotation, "rotate", None)  # nobody calls it
    kms.clock.advance(91 * DAY)
    kms.run("rotate_keys")
    (line,) = lines()
    assert (line["level"], line["outcome"]) == ("INFO", "ok")
    assert "make new ones in KMS" in line["detail"]
    assert states(site) == ["current"]


def test_a_rotation_that_is_refused_is_told_too(site: Site, lines: Lines) -> None:
    ring = site.server.keys
    document, version = ring.read_document()
    used = {"secret": new_secret(), "created_at": 1, "used_from": 1}
    document["handles"] = [{"version": number, **used} for number in range(1, 256)]
    for number, secret in enumerate(document["handles"]):
        secret["used_from"] = site.clock.time + number  # all needed still
    assert ring.replace_document(document, version)
    site.clock.advance(90 * DAY)
    site.run("rotate_keys")
    found = lines()
    assert not rotated(found)
    assert "no number left" in found[-1]["detail"]


def test_the_number_of_a_secret_that_is_gone_is_given_again(site: Site) -> None:
    ring = site.server.keys
    document, version = ring.read_document()
    old = site.server.keys.make_handle("code", "x")
    (first,) = document["handles"]
    document["handles"] = [{**first, "version": 255}]
    assert ring.replace_document(document, version)
    rotation.rotate(ring, site.server.now(), 0)
    document, _ = ring.read_document()
    assert [secret["version"] for secret in document["handles"]] == [255, 1]
    assert ring.read_handle("code", old) is None  # what was made with the number before counts no more
    assert ring.read_handle("code", ring.make_handle("code", "x"))


def test_of_ten_runs_at_once_one_replaces_the_keys(site: Site, site_with: Callable[..., Site], lines: Lines) -> None:
    site.clock.advance(91 * DAY)
    servers = [site_with() for _ in range(10)]
    for each in servers:
        each.clock = site.clock
        each.server = AuthorizationServer.connect(each.settings, site.clock)
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda each: each.run("rotate_keys"), servers))
    found = lines()
    assert [line.get("event") for line in found].count(audit.KEYS_ROTATED) == 1
    assert {line["outcome"] for line in found if "schedule" in line} == {"ok"}
    site.server.keys._known = None
    assert states(site) == ["next", "current"]


class Verifier:
    """An application that keeps the public keys for a day, whatever comes."""

    def __init__(self, site: Site, browser: Browser):
        self._site, self._browser = site, browser
        self._read_at = 0
        self.seen: set[str] = set()

    def keep(self) -> None:
        """What it has is read again when it is a day old, and not before."""
        if self._site.clock.time - self._read_at >= DAY:
            self._keys = {key["kid"]: key for key in self._browser.get("/oauth2/jwks").json["keys"]}
            self._read_at = self._site.clock.time

    def verify(self, token: str, typ: str) -> dict[str, Any]:
        header = jwt.get_unverified_header(token)
        assert header["typ"] == typ
        self.seen.add(header["kid"])
        key = jwt.PyJWK(self._keys[header["kid"]])
        ours: Any = {"verify_exp": False, "verify_iat": False, "verify_aud": False}
        claims: dict[str, Any] = jwt.decode(
            token, key, algorithms=[header["alg"]], issuer=self._site.settings.issuer, options=ours
        )
        return claims


def test_a_verifier_that_keeps_the_keys_for_a_day_never_fails_through_six_rotations(
    site: Site, site_with: Callable[..., Site], browsers: Callable[..., Browser]
) -> None:
    here = site_with(key_rotation_days=30)
    here.clock = site.clock
    here.server = AuthorizationServer.connect(here.settings, site.clock)
    here.user("alice")
    browser = browsers(here)
    verifier = Verifier(here, browser)
    algorithms = here.server.keys.algorithms
    clients = [
        here.client(
            trusted=True,
            id_token_signed_response_alg=alg,
            access_token_signed_response_alg=alg,
            userinfo_signed_response_alg=alg,
        )
        for alg in algorithms
    ]
    tokens = {client.id: browser.tokens(client, scope="openid offline_access") for client in clients}
    for eight_hours in range(190 * 3):
        # The worst that may happen: the keys are read just before new ones come, and not again for a whole day.
        verifier.keep()
        if eight_hours % 3 == 0:
            here.run("rotate_keys")
        for alg in algorithms:
            verifier.verify(here.server.keys.sign({"iss": here.settings.issuer}, "JWT", alg), "JWT")
        if eight_hours % 30 == 0:  # each ten days, the applications go on with what they were given
            for client in clients:
                if eight_hours % 300 == 0:  # and the person comes back now and then
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
                told = Delivery("x", "alice", "alice.x", frozenset(), 0, 0)
                verifier.verify(logout_token(here.server, client.record, told), "logout+jwt")
        here.clock.advance(8 * 3600)
    assert len(verifier.seen) == len(algorithms) * 7  # the first ones, and those of six rotations
