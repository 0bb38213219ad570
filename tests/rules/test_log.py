"""Log lines, the events in them, and CloudWatch metrics."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib import __version__
from chalicelib.events import log as event_log
from tests.support import faults
from tests.support.assertions import key_client, signed
from tests.support.browser import VERIFIER, Browser, basic
from tests.support.faults import Wire
from tests.support.gateways import ADDRESS, GATEWAYS, REQUEST_ID, GatewayBrowser
from tests.support.grants import create_code
from tests.support.site import PASSWORD, STAGE, Site

Lines = Callable[[], list[dict[str, Any]]]
COMMON_MEMBERS = {
    "level",
    "request_id",
    "stage",
    "version",
    "endpoint",
    "method",
    "path",
    "status",
    "outcome",
    "source_ip",
    "duration_ms",
    "dynamodb_calls",
    "consumed_capacity",
}


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """Return the log lines since the last call, without the records of events."""

    def read() -> list[dict[str, Any]]:
        parsed = [json.loads(record.getMessage()) for record in caplog.records if record.name == event_log.log.name]
        caplog.clear()
        return [line for line in parsed if "event" not in line]

    return read


@pytest.fixture
def rest_browser(site: Site) -> GatewayBrowser:
    """A browser that calls the server through a REST API."""
    return GatewayBrowser(site, GATEWAYS[0])


# ---- lines


def test_line_of_a_successful_request(site: Site, rest_browser: GatewayBrowser, lines: Lines) -> None:
    client = site.client()
    lines()
    assert rest_browser.redeem(client, create_code(site, client)).status == 200
    [line] = lines()
    assert set(line) == {*COMMON_MEMBERS, "client_id", "events"}
    measured = {name: line.pop(name) for name in ("duration_ms", "dynamodb_calls", "consumed_capacity")}
    assert line == {
        "level": "INFO",
        "request_id": REQUEST_ID,
        "stage": STAGE,
        "version": __version__,
        "endpoint": "/oauth2/token",
        "method": "POST",
        "path": "/oauth2/token",
        "status": 200,
        "outcome": "ok",
        "events": ["code_redeemed"],
        "client_id": client.id,
        "source_ip": ADDRESS,
    }
    assert 0 < measured["duration_ms"] < 60000
    assert measured["dynamodb_calls"] == 3  # the client, the grant, the batch of what it depends on
    assert measured["consumed_capacity"] > 0


def test_lines_of_redirects(site: Site, rest_browser: GatewayBrowser, lines: Lines) -> None:
    site.user()
    client = site.client(trusted=True)
    page = rest_browser.authorize(client)
    lines()
    assert rest_browser.send(page, username="alice", password=PASSWORD).status == 303
    assert rest_browser.authorize(client).status == 302
    signed_in, authorized = lines()
    assert set(signed_in) == {*COMMON_MEMBERS, "client_id", "events"}
    assert (signed_in["status"], signed_in["outcome"]) == (303, "redirect")
    assert signed_in["events"] == ["sign_in", "code_issued"]
    assert set(authorized) == {*COMMON_MEMBERS, "client_id", "events"}
    assert (authorized["status"], authorized["outcome"], authorized["client_id"]) == (302, "redirect", client.id)
    assert authorized["events"] == ["code_issued"]


def test_line_of_an_error_has_code_description_and_operator_detail(
    site: Site, rest_browser: GatewayBrowser, lines: Lines
) -> None:
    client = site.client()
    lines()
    answer = rest_browser.redeem(client, "code_x")
    [line] = lines()
    assert set(line) == {*COMMON_MEMBERS, "client_id", "code", "description", "detail"}
    assert (line["level"], line["status"], line["outcome"]) == ("INFO", 400, "invalid_grant")
    assert line["code"] == "invalid_grant"
    assert line["description"] == answer.json["error_description"]
    assert line["detail"] == "not a code of this server"
    assert line["detail"] not in answer.body


def test_outcome_of_an_error_redirect_is_its_error_code(site: Site, rest_browser: GatewayBrowser, lines: Lines) -> None:
    client = site.client()
    lines()
    assert rest_browser.authorize(client, prompt="none").answer["error"] == "login_required"
    [line] = lines()
    assert (line["status"], line["outcome"], line["client_id"]) == (302, "login_required", client.id)


def test_unexpected_exception_is_logged_at_error_level_without_its_message(
    site: Site,
    rest_browser: GatewayBrowser,
    lines: Lines,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def boom() -> None:
        raise RuntimeError(PASSWORD)

    monkeypatch.setattr(site.server.keys, "jwks", boom)
    assert rest_browser.get("/oauth2/jwks").status == 500
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert PASSWORD not in caplog.text
    [line] = lines()
    assert (line["level"], line["status"], line["outcome"]) == ("ERROR", 500, "server_error")
    assert line["detail"].startswith("RuntimeError at ")
    assert "test_log.py:" in line["detail"]


def test_unknown_path_has_endpoint_none_and_is_truncated(
    site: Site, rest_browser: GatewayBrowser, lines: Lines
) -> None:
    rest_browser.get("/nothing/" + "x" * 5000)
    rest_browser.request("DELETE", "/oauth2/token")
    unknown_path, wrong_method = lines()
    assert (unknown_path["endpoint"], unknown_path["outcome"], len(unknown_path["path"])) == ("none", "not_found", 200)
    assert (wrong_method["endpoint"], wrong_method["outcome"]) == ("/oauth2/token", "method_not_allowed")


def test_control_characters_in_the_path_are_escaped(
    site: Site, rest_browser: GatewayBrowser, caplog: pytest.LogCaptureFixture
) -> None:
    rest_browser.get("/a%0A%7B%22level%22%3A%20%22ERROR%22%7D%0D%E2%80%A8%1b%5B31m")
    [record] = caplog.records
    text = record.getMessage()
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text)["path"] == '/a\n{"level": "ERROR"}\r\u2028\x1b[31m'


def test_line_contains_no_query_body_or_header_values(site: Site, rest_browser: GatewayBrowser, lines: Lines) -> None:
    site.user()
    client = site.client()
    lines()
    tokens = rest_browser.tokens(client, nonce="n-0S6")
    rest_browser.userinfo(tokens["access_token"])
    rest_browser.post(
        "/oauth2/revoke", {"token": tokens["refresh_token"], "client_id": client.id, "client_secret": "hunter2"}
    )
    text = json.dumps(lines())
    handles = [tokens["access_token"], tokens["refresh_token"], tokens["id_token"], *rest_browser.cookies.values()]
    for secret in (PASSWORD, VERIFIER, "n-0S6", "hunter2", "alice", client.secret or "", *handles):
        assert secret not in text
        assert secret[-12:] not in text


# ---- events


def test_sign_in_and_failed_sign_in_are_events(site: Site, browser: Browser, lines: Lines) -> None:
    site.user()
    client = site.client(direct_sign_in=True)
    page = browser.authorize(client)
    lines()
    for username, password in (("alice", "wrong"), ("nobody", PASSWORD), ("alice", "")):
        assert browser.submit(page, username=username, password=password).status == 400
        failed, shown = lines()
        assert (failed["endpoint"], failed["outcome"], failed["events"]) == (
            "/oauth2/code",
            "redirect",
            ["sign_in_failed"],
        )
        assert (shown["endpoint"], shown["outcome"], shown.get("events")) == ("/oauth2/authorize", "ok", None)
        for line in (failed, shown):
            assert line["client_id"] == client.id
            # The line does not identify the user.
            assert {username, password} & {str(value) for value in line.values()} == set()
    browser.send(page, username="alice", password=PASSWORD)
    [line] = lines()
    assert line["events"] == ["sign_in"]


def test_direct_sign_in_is_an_event_and_a_challenge_is_not(
    site: Site, browsers: Callable[..., Browser], lines: Lines
) -> None:
    site.user()
    client = site.client(direct_sign_in=True, trusted=True)
    lines()
    events = {}
    for case, headers in {
        "none": {},
        "wrong": basic("alice", "wrong"),
        "right": basic("alice", PASSWORD),
    }.items():
        browsers().authorize(client, "/oauth2/code", headers=headers)
        [line] = lines()
        events[case] = line.get("events")
    assert events == {"none": None, "wrong": ["sign_in_failed"], "right": ["sign_in", "code_issued"]}


@pytest.mark.spec("RFC 6749 §4.1.2")
def test_replayed_code_is_a_reuse_event(site: Site, browser: Browser, lines: Lines) -> None:
    client = site.client()
    code = create_code(site, client)
    browser.redeem(client, code)
    lines()
    # Without the verifier, a code proves nothing: no event.
    assert browser.redeem(client, code, code_verifier="x" * 43).status == 400
    assert "events" not in lines()[0]
    assert browser.redeem(client, code).status == 400
    [line] = lines()
    assert (line["outcome"], line["events"]) == ("invalid_grant", ["reuse_detected"])
    assert (line["client_id"], line["detail"]) == (client.id, "replayed: the grant has been revoked")
    assert browser.redeem(client, code).status == 400
    assert "events" not in lines()[0]  # only once per grant


@pytest.mark.spec("RFC 9700 §4.14.2")
def test_reused_refresh_token_is_a_reuse_event(site: Site, browser: Browser, lines: Lines) -> None:
    client = site.client()
    old = browser.redeem(client, create_code(site, client)).json["refresh_token"]
    assert browser.refresh(client, old).status == 200
    lines()
    assert browser.refresh(client, old).status == 200
    assert lines()[0]["events"] == ["token_refreshed"]  # a retry after a lost response
    site.clock.advance(site.settings.refresh_token_retry_window)
    assert browser.refresh(client, old).status == 400
    [line] = lines()
    assert (line["outcome"], line["events"]) == ("invalid_grant", ["reuse_detected"])
    assert line["detail"] == "reused long after its rotation: the grant has been revoked"


# ---- CloudWatch metrics


@pytest.fixture
def _restore_log() -> Iterator[None]:
    """Restore the log, which gets its own handler for the rest of the process when metrics are on."""
    handlers, propagate = list(event_log.log.handlers), event_log.log.propagate
    event_log._write_bare_json.cache_clear()
    yield
    event_log.log.handlers[:] = handlers
    event_log.log.propagate = propagate
    event_log._write_bare_json.cache_clear()


Printed = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def printed(_restore_log: None, capsys: pytest.CaptureFixture[str]) -> Printed:
    """Return the metric lines on stdout since the last call; fail if anything else was printed."""
    capsys.readouterr()

    def read() -> list[dict[str, Any]]:
        out = capsys.readouterr().out
        assert out == "" or out.endswith("\n")
        printed_lines = [line for line in map(json.loads, out.splitlines()) if "event" not in line]
        for line in printed_lines:
            check_embedded_metrics(line)
        return printed_lines

    return read


@pytest.fixture
def lambda_browser(printed: Printed, site_with: Callable[..., Site]) -> GatewayBrowser:
    """A browser that calls a server configured as in Lambda."""
    return GatewayBrowser(site_with(metrics=True), GATEWAYS[0])


def check_embedded_metrics(line: dict[str, Any]) -> None:
    """Check a line against CloudWatch's embedded metric format; CloudWatch drops invalid lines silently."""
    aws = line["_aws"]
    assert set(aws) == {"Timestamp", "CloudWatchMetrics"}
    assert type(aws["Timestamp"]) is int
    assert 10**12 < aws["Timestamp"] < 10**13  # milliseconds since 1970
    [directive] = aws["CloudWatchMetrics"]
    assert set(directive) == {"Namespace", "Dimensions", "Metrics"}
    assert directive["Namespace"] == "Signet"
    for dimensions in directive["Dimensions"]:
        assert 1 <= len(dimensions) <= 30
        for name in dimensions:
            assert isinstance(line[name], str)
            assert 1 <= len(line[name]) <= 1024
    names = [metric["Name"] for metric in directive["Metrics"]]
    assert 1 <= len(names) == len(set(names)) <= 100
    for metric in directive["Metrics"]:
        assert set(metric) == {"Name", "Unit"}
        assert metric["Unit"] in ("Milliseconds", "Count")
        assert type(line[metric["Name"]]) in (int, float), metric
        assert not set(metric["Name"]) & set("$.[]")
    # A metric must not also be a dimension.
    assert not set(names) & {name for dimensions in directive["Dimensions"] for name in dimensions}


def metrics(line: dict[str, Any]) -> dict[str, Any]:
    return {metric["Name"]: line[metric["Name"]] for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]}


COST_METRICS = {"duration_ms", "dynamodb_calls", "consumed_capacity"}


def test_lambda_prints_one_json_line_per_request(
    lambda_browser: GatewayBrowser, printed: Printed, caplog: pytest.LogCaptureFixture
) -> None:
    for path in ("/", "/healthz", "/oauth2/jwks", "/nothing", "/oauth2/authorize?client_id=x"):
        lambda_browser.get(path)
    requests = printed()
    assert [line["path"] for line in requests] == ["/", "/healthz", "/oauth2/jwks", "/nothing", "/oauth2/authorize"]
    assert not caplog.records  # Lambda's root handler would print each line again, with a prefix
    assert lambda_browser.get("/healthz").status == 200
    [line] = printed()
    dimensions = line.pop("_aws")["CloudWatchMetrics"][0]["Dimensions"]
    assert dimensions == [["stage"], ["stage", "endpoint"]]
    assert set(line) == COMMON_MEMBERS  # the same members as outside Lambda


def test_two_servers_in_one_process_print_each_line_once(
    lambda_browser: GatewayBrowser, printed: Printed, site_with: Callable[..., Site]
) -> None:
    lambda_browser.get("/healthz")
    GatewayBrowser(site_with(metrics=True), GATEWAYS[0]).get("/healthz")
    lambda_browser.get("/healthz")
    assert len(printed()) == 3


def test_every_request_has_cost_metrics(lambda_browser: GatewayBrowser, printed: Printed) -> None:
    client = lambda_browser.site.client()
    lambda_browser.get("/healthz")
    lambda_browser.authorize(client)
    idle, busy = (metrics(line) for line in printed())
    assert set(idle) == set(busy) == COST_METRICS
    assert (idle["dynamodb_calls"], idle["consumed_capacity"]) == (0, 0)
    assert busy["dynamodb_calls"] > 0
    assert busy["consumed_capacity"] > 0


def test_each_event_has_a_metric(lambda_browser: GatewayBrowser, printed: Printed) -> None:
    site = lambda_browser.site
    site.user()
    client = site.client()
    page = lambda_browser.authorize(client)
    printed()
    lambda_browser.send(page, username="alice", password="wrong")
    consent = lambda_browser.sign_in(page)
    failed, signed_in, _shown = printed()
    assert metrics(failed).keys() - COST_METRICS == {"sign_in_failed"}
    assert failed["sign_in_failed"] == 1
    assert metrics(signed_in).keys() - COST_METRICS == {"sign_in"}
    code = lambda_browser.submit(consent, decision="allow_once").code
    old = lambda_browser.redeem(client, code).json["refresh_token"]
    lambda_browser.refresh(client, old)
    allowed, redeemed, refreshed = (metrics(line).keys() - COST_METRICS for line in printed())
    assert allowed == {"consent_given", "code_issued"}
    assert redeemed == {"code_redeemed"}
    assert refreshed == {"token_refreshed"}
    site.clock.advance(site.settings.refresh_token_retry_window)
    lambda_browser.refresh(client, old)
    other = create_code(site, client)
    lambda_browser.redeem(client, other)
    lambda_browser.redeem(client, other)
    reused, _redeemed, replayed = printed()
    for line in (reused, replayed):
        assert metrics(line).keys() - COST_METRICS == {"reuse_detected"}
        assert (line["reuse_detected"], line["events"]) == (1, ["reuse_detected"])


@pytest.mark.parametrize("client_id", [None, "https://127.0.0.1:1/client.json"], ids=["key set", "document"])
def test_failing_website_of_a_client_is_no_failure_of_the_server(
    site_with: Callable[..., Site], printed: Printed, client_id: str | None
) -> None:
    """Any caller can name such a client: the alarm for DynamoDB must not tell of it."""
    site = site_with(metrics=True, client_documents="open")
    client = key_client(site, jwks=None, jwks_uri="https://127.0.0.1:1/jwks")
    authentication = {"client_id": client_id} if client_id else signed(site, client)
    answer = GatewayBrowser(site, GATEWAYS[0]).post("/oauth2/token", {"grant_type": "refresh_token", **authentication})
    assert (answer.status, answer.json["error"]) == (503, "temporarily_unavailable")
    [line] = printed()
    assert metrics(line).keys() == COST_METRICS


def test_server_errors_and_throttling_have_metrics(
    lambda_browser: GatewayBrowser, printed: Printed, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = lambda_browser.site.client()
    with wire.every("GetItem", faults.throttled):
        assert lambda_browser.redeem(client, "code_x").status == 503
    [line] = printed()
    assert metrics(line).keys() - COST_METRICS == {"throttled"}
    assert (line["throttled"], line["level"]) == (1, "ERROR")

    def boom() -> None:
        raise RuntimeError

    monkeypatch.setattr(lambda_browser.site.server.keys, "jwks", boom)
    assert lambda_browser.get("/oauth2/jwks").status == 500
    [line] = printed()
    assert metrics(line).keys() - COST_METRICS == {"server_error"}
    assert line["server_error"] == 1
    # Client errors have no metric.
    assert lambda_browser.redeem(client, "code_x").status == 400
    assert metrics(printed()[0]).keys() == COST_METRICS


def test_gateway_without_a_domain_counts_as_a_server_error_of_the_stage(
    printed: Printed, site_with: Callable[..., Site]
) -> None:
    site = site_with(metrics=True, issuer="")
    event = {"httpMethod": "GET", "path": "/healthz", "headers": {}, "requestContext": {"httpMethod": "GET"}}
    assert site.http_handler(event, None)["statusCode"] == 500
    [line] = printed()
    assert metrics(line).keys() - COST_METRICS == {"server_error"}
    assert (line["stage"], line["endpoint"]) == (STAGE, "none")


def test_outside_lambda_nothing_is_printed_and_no_metrics_are_added(
    site: Site, printed: Printed, rest_browser: GatewayBrowser, lines: Lines
) -> None:
    rest_browser.get("/healthz")
    assert printed() == []
    [line] = lines()
    assert "_aws" not in line
