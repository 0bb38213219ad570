"""The log: what a line says, the events that operators count, CloudWatch's metrics, and the deep health check."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from chalicelib import audit
from chalicelib.models import SealedKeyRing
from chalicelib.seal import Seal
from tests import faults
from tests.browser import VERIFIER, Browser, basic
from tests.faults import Wire
from tests.gateways import ADDRESS, FRONTS, REQUEST_ID, FrontBrowser
from tests.shortcut import code_of
from tests.site import PASSWORD, STAGE, Site, tables

Lines = Callable[[], list[dict[str, Any]]]
ALWAYS = {
    "level",
    "request_id",
    "stage",
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
    """The lines since it was last asked."""

    def since() -> list[dict[str, Any]]:
        found = [json.loads(record.getMessage()) for record in caplog.records if record.name == audit.log.name]
        caplog.clear()
        return [line for line in found if "event" not in line]  # those are records of their own

    return since


@pytest.fixture
def at(site: Site) -> FrontBrowser:
    """A browser at a REST API."""
    return FrontBrowser(site, FRONTS[0])


# ---- a line


def test_a_request_that_went_well(site: Site, at: FrontBrowser, lines: Lines) -> None:
    client = site.client()
    lines()
    assert at.redeem(client, code_of(site, client)).status == 200
    [line] = lines()
    assert set(line) == {*ALWAYS, "client_id", "events"}
    measured = {name: line.pop(name) for name in ("duration_ms", "dynamodb_calls", "consumed_capacity")}
    assert line == {
        "level": "INFO",
        "request_id": REQUEST_ID,
        "stage": STAGE,
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
    assert measured["dynamodb_calls"] == 2
    assert measured["consumed_capacity"] > 0


def test_a_redirect(site: Site, at: FrontBrowser, lines: Lines) -> None:
    site.user()
    client = site.client(trusted=True)
    page = at.authorize(client)
    lines()
    assert at.send(page, username="alice", password=PASSWORD).status == 303
    assert at.authorize(client).status == 302
    signed_in, known = lines()
    assert set(signed_in) == {*ALWAYS, "client_id", "events"}
    assert (signed_in["status"], signed_in["outcome"]) == (303, "redirect")
    assert signed_in["events"] == ["sign_in", "code_issued"]
    assert set(known) == {*ALWAYS, "client_id", "events"}
    assert (known["status"], known["outcome"], known["client_id"]) == (302, "redirect", client.id)
    assert known["events"] == ["code_issued"]


def test_an_error_has_its_code_its_description_and_what_only_the_operator_may_know(
    site: Site, at: FrontBrowser, lines: Lines
) -> None:
    client = site.client()
    lines()
    answer = at.redeem(client, "code_x")
    [line] = lines()
    assert set(line) == {*ALWAYS, "client_id", "code", "description", "detail"}
    assert (line["level"], line["status"], line["outcome"]) == ("INFO", 400, "invalid_grant")
    assert line["code"] == "invalid_grant"
    assert line["description"] == answer.json["error_description"]
    assert line["detail"] == "not a code of ours"
    assert line["detail"] not in answer.body


def test_an_error_by_redirect_is_an_error(site: Site, at: FrontBrowser, lines: Lines) -> None:
    client = site.client()
    lines()
    assert at.authorize(client, prompt="none").answer["error"] == "login_required"
    [line] = lines()
    assert (line["status"], line["outcome"], line["client_id"]) == (302, "login_required", client.id)


def test_a_mistake_of_ours_is_an_error_of_the_highest_level(
    site: Site, at: FrontBrowser, lines: Lines, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def boom() -> None:
        raise RuntimeError(PASSWORD)

    monkeypatch.setattr(site.server.keys, "jwks", boom)
    assert at.get("/oauth2/jwks").status == 500
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert PASSWORD not in caplog.text
    [line] = lines()
    assert (line["level"], line["status"], line["outcome"]) == ("ERROR", 500, "server_error")
    assert line["detail"].startswith("RuntimeError at ")
    assert "test_audit.py:" in line["detail"]


def test_nobodys_address_has_no_endpoint_and_a_long_one_is_cut(site: Site, at: FrontBrowser, lines: Lines) -> None:
    at.get("/nothing/" + "x" * 5000)
    at.request("DELETE", "/oauth2/token")
    nowhere, not_so = lines()
    assert (nowhere["endpoint"], nowhere["outcome"], len(nowhere["path"])) == ("none", "not_found", 200)
    assert (not_so["endpoint"], not_so["outcome"]) == ("/oauth2/token", "method_not_allowed")


def test_a_line_is_one_line_whatever_stands_in_the_path(
    site: Site, at: FrontBrowser, caplog: pytest.LogCaptureFixture
) -> None:
    at.get("/a%0A%7B%22level%22%3A%20%22ERROR%22%7D%0D%E2%80%A8%1b%5B31m")
    [record] = caplog.records
    text = record.getMessage()
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text)["path"] == '/a\n{"level": "ERROR"}\r\u2028\x1b[31m'


def test_neither_query_nor_body_nor_header_is_in_a_line(site: Site, at: FrontBrowser, lines: Lines) -> None:
    site.user()
    client = site.client()
    lines()
    tokens = at.tokens(client, nonce="n-0S6")
    at.userinfo(tokens["access_token"])
    at.post("/oauth2/revoke", {"token": tokens["refresh_token"], "client_id": client.id, "client_secret": "hunter2"})
    text = json.dumps(lines())
    handles = [tokens["access_token"], tokens["refresh_token"], tokens["id_token"], *at.cookies.values()]
    for secret in (PASSWORD, VERIFIER, "n-0S6", "hunter2", "alice", client.secret or "", *handles):
        assert secret not in text
        assert secret[-12:] not in text


# ---- events


def test_a_sign_in_and_one_that_failed(site: Site, browser: Browser, lines: Lines) -> None:
    site.user()
    client = site.client(direct_sign_in=True)
    page = browser.authorize(client)
    lines()
    for username, password in (("alice", "wrong"), ("nobody", PASSWORD), ("alice", "")):
        assert browser.send(page, username=username, password=password).status == 400
        [line] = lines()
        assert (line["endpoint"], line["outcome"], line["events"]) == ("/oauth2/code", "ok", ["sign_in_failed"])
        assert line["client_id"] == client.id
        # Who it was is nobody's business but theirs.
        assert {username, password} & {str(value) for value in line.values()} == set()
    browser.send(page, username="alice", password=PASSWORD)
    [line] = lines()
    assert line["events"] == ["sign_in"]


def test_a_direct_sign_in_counts_too_and_no_question_does(
    site: Site, browsers: Callable[..., Browser], lines: Lines
) -> None:
    site.user()
    client = site.client(direct_sign_in=True, trusted=True)
    lines()
    found = {}
    for what, headers in {
        "nobody": {},
        "wrong": basic("alice", "wrong"),
        "right": basic("alice", PASSWORD),
    }.items():
        browsers().authorize(client, "/oauth2/code", headers=headers)
        [line] = lines()
        found[what] = line.get("events")
    assert found == {"nobody": None, "wrong": ["sign_in_failed"], "right": ["sign_in", "code_issued"]}


@pytest.mark.spec("RFC 6749 §4.1.2")
def test_a_code_that_is_replayed_is_reuse(site: Site, browser: Browser, lines: Lines) -> None:
    client = site.client()
    code = code_of(site, client)
    browser.redeem(client, code)
    lines()
    # Whoever has the code but not the verifier proves nothing, and rings no bell.
    assert browser.redeem(client, code, code_verifier="x" * 43).status == 400
    assert "events" not in lines()[0]
    assert browser.redeem(client, code).status == 400
    [line] = lines()
    assert (line["outcome"], line["events"]) == ("invalid_grant", ["reuse_detected"])
    assert (line["client_id"], line["detail"]) == (client.id, "replayed: the grant has been revoked")
    assert browser.redeem(client, code).status == 400
    assert "events" not in lines()[0]  # once a grant


@pytest.mark.spec("RFC 9700 §4.14.2")
def test_a_refresh_token_that_is_used_again_is_reuse(site: Site, browser: Browser, lines: Lines) -> None:
    client = site.client()
    old = browser.redeem(client, code_of(site, client)).json["refresh_token"]
    assert browser.refresh(client, old).status == 200
    lines()
    assert browser.refresh(client, old).status == 200
    assert lines()[0]["events"] == ["token_refreshed"]  # an answer that was lost
    site.clock.advance(site.settings.refresh_token_retry_window)
    assert browser.refresh(client, old).status == 400
    [line] = lines()
    assert (line["outcome"], line["events"]) == ("invalid_grant", ["reuse_detected"])
    assert line["detail"] == "reused long after its rotation: the grant has been revoked"


# ---- CloudWatch's metrics


@pytest.fixture
def _as_it_was() -> Iterator[None]:
    """In Lambda the log has an output of its own, for the rest of the process."""
    handlers, propagate = list(audit.log.handlers), audit.log.propagate
    audit._bare.cache_clear()
    yield
    audit.log.handlers[:] = handlers
    audit.log.propagate = propagate
    audit._bare.cache_clear()


Printed = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def printed(_as_it_was: None, capsys: pytest.CaptureFixture[str]) -> Printed:
    """What stdout has got since it was last asked, each line of which must be a metric line and nothing else."""
    capsys.readouterr()

    def since() -> list[dict[str, Any]]:
        out = capsys.readouterr().out
        assert out == "" or out.endswith("\n")
        found = [line for line in map(json.loads, out.splitlines()) if "event" not in line]
        for line in found:
            check_embedded_metrics(line)
        return found

    return since


@pytest.fixture
def in_lambda(printed: Printed, site_with: Callable[..., Site]) -> FrontBrowser:
    """A browser at a function as it runs in Lambda."""
    return FrontBrowser(site_with(metrics=True), FRONTS[0])


def check_embedded_metrics(line: dict[str, Any]) -> None:
    """CloudWatch's embedded metric format specification: what it demands of a line, or else it drops it silently."""
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
    # What is a metric is not a dimension, and the whole is no member of itself.
    assert not set(names) & {name for dimensions in directive["Dimensions"] for name in dimensions}


def metrics(line: dict[str, Any]) -> dict[str, Any]:
    return {metric["Name"]: line[metric["Name"]] for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]}


COSTS = {"duration_ms", "dynamodb_calls", "consumed_capacity"}


def test_in_lambda_stdout_has_a_line_of_json_a_request_and_nothing_else(
    in_lambda: FrontBrowser, printed: Printed, caplog: pytest.LogCaptureFixture
) -> None:
    for path in ("/", "/healthz", "/oauth2/jwks", "/nothing", "/oauth2/authorize?client_id=x"):
        in_lambda.get(path)
    found = printed()
    assert [line["path"] for line in found] == ["/", "/healthz", "/oauth2/jwks", "/nothing", "/oauth2/authorize"]
    assert not caplog.records  # Lambda's own handler, at the root, would print each line once more, behind its words
    assert in_lambda.get("/healthz").status == 200
    [line] = printed()
    dimensions = line.pop("_aws")["CloudWatchMetrics"][0]["Dimensions"]
    assert dimensions == [["stage"], ["stage", "endpoint"]]
    assert set(line) == ALWAYS  # all that a line has elsewhere, too


def test_two_servers_of_one_process_print_a_line_once(
    in_lambda: FrontBrowser, printed: Printed, site_with: Callable[..., Site]
) -> None:
    in_lambda.get("/healthz")
    FrontBrowser(site_with(metrics=True), FRONTS[0]).get("/healthz")
    in_lambda.get("/healthz")
    assert len(printed()) == 3


def test_what_costs_is_measured_with_every_request(in_lambda: FrontBrowser, printed: Printed) -> None:
    client = in_lambda.site.client()
    in_lambda.get("/healthz")
    in_lambda.authorize(client)
    idle, busy = (metrics(line) for line in printed())
    assert set(idle) == set(busy) == COSTS
    assert (idle["dynamodb_calls"], idle["consumed_capacity"]) == (0, 0)
    assert busy["dynamodb_calls"] > 0
    assert busy["consumed_capacity"] > 0


def test_each_event_is_a_metric_that_counts_it(in_lambda: FrontBrowser, printed: Printed) -> None:
    site = in_lambda.site
    site.user()
    client = site.client()
    page = in_lambda.authorize(client)
    printed()
    in_lambda.send(page, username="alice", password="wrong")
    consent = in_lambda.sign_in(page)
    failed, signed_in, _shown = printed()
    assert metrics(failed).keys() - COSTS == {"sign_in_failed"}
    assert failed["sign_in_failed"] == 1
    assert metrics(signed_in).keys() - COSTS == {"sign_in"}
    code = in_lambda.submit(consent, decision="allow_once").code
    old = in_lambda.redeem(client, code).json["refresh_token"]
    in_lambda.refresh(client, old)
    allowed, redeemed, refreshed = (metrics(line).keys() - COSTS for line in printed())
    assert allowed == {"consent_given", "code_issued"}
    assert redeemed == {"code_redeemed"}
    assert refreshed == {"token_refreshed"}
    site.clock.advance(site.settings.refresh_token_retry_window)
    in_lambda.refresh(client, old)
    other = code_of(site, client)
    in_lambda.redeem(client, other)
    in_lambda.redeem(client, other)
    reused, _redeemed, replayed = printed()
    for line in (reused, replayed):
        assert metrics(line).keys() - COSTS == {"reuse_detected"}
        assert (line["reuse_detected"], line["events"]) == (1, ["reuse_detected"])


def test_a_mistake_and_a_throttled_table_are_metrics(
    in_lambda: FrontBrowser, printed: Printed, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = in_lambda.site.client()
    with wire.every("GetItem", faults.throttled):
        assert in_lambda.redeem(client, "code_x").status == 503
    [line] = printed()
    assert metrics(line).keys() - COSTS == {"throttled"}
    assert (line["throttled"], line["level"]) == (1, "ERROR")

    def boom() -> None:
        raise RuntimeError

    monkeypatch.setattr(in_lambda.site.server.keys, "jwks", boom)
    assert in_lambda.get("/oauth2/jwks").status == 500
    [line] = printed()
    assert metrics(line).keys() - COSTS == {"server_error"}
    assert line["server_error"] == 1
    # What a client does wrong is no metric of ours.
    assert in_lambda.redeem(client, "code_x").status == 400
    assert metrics(printed()[0]).keys() == COSTS


def test_a_gateway_without_an_address_is_counted_as_a_mistake_of_this_stage(
    printed: Printed, site_with: Callable[..., Site]
) -> None:
    site = site_with(metrics=True, issuer="")
    event = {"httpMethod": "GET", "path": "/healthz", "headers": {}, "requestContext": {"httpMethod": "GET"}}
    assert site.http_handler(event, None)["statusCode"] == 500
    [line] = printed()
    assert metrics(line).keys() - COSTS == {"server_error"}
    assert (line["stage"], line["endpoint"]) == (STAGE, "none")


def test_elsewhere_nothing_is_printed_and_no_metric_made(
    site: Site, printed: Printed, at: FrontBrowser, lines: Lines
) -> None:
    at.get("/healthz")
    assert printed() == []
    [line] = lines()
    assert "_aws" not in line


# ---- the deep health check

TOKEN = "op-5Yc0T8w2m9"
HASH = hashlib.sha256(TOKEN.encode()).hexdigest()


def bearer(token: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {token}"}


@pytest.fixture
def watched(site_with: Callable[..., Site]) -> FrontBrowser:
    """A browser at a server whose operator has a token."""
    site = site_with(operator_token_hash=HASH)
    site.secrets.add(TOKEN)
    return FrontBrowser(site, FRONTS[0])


def test_with_the_token_it_reads_every_table_and_the_keys(watched: FrontBrowser, lines: Lines) -> None:
    names = [table.name for table in watched.site.server.store.tables]
    assert set(names) == set(tables())
    for scheme in ("Bearer", "bearer"):
        answer = watched.get("/healthz", bearer(TOKEN, scheme), deep="1")
        assert answer.status == 200
        kids = [key["kid"] for key in watched.get("/oauth2/jwks").json["keys"]]
        assert answer.json == {"status": "ok", "tables": names, "keys": kids}
    assert TOKEN not in json.dumps(lines())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": TOKEN},
        bearer(TOKEN, "Basic"),
        bearer(TOKEN[:-1]),
        bearer(TOKEN + "x"),
        bearer(TOKEN.upper()),
        bearer(HASH),
        bearer("\ud800"),
        bearer("é"),
    ],
    ids=str,
)
@pytest.mark.parametrize("known", [HASH, None], ids=["a hash", "no hash"])
def test_without_it_nothing_is_read(
    site_with: Callable[..., Site], lines: Lines, known: str | None, headers: dict[str, str]
) -> None:
    at = FrontBrowser(site_with(operator_token_hash=known), FRONTS[0])
    answer = at.get("/healthz", headers, deep="1")
    assert (answer.status, answer.json["error"]) == (401, "invalid_token")
    assert answer.header("www-authenticate") == 'Bearer realm="health"'
    assert set(answer.json) == {"error", "error_description"}
    assert lines()[-1]["dynamodb_calls"] == 0
    # The load balancer's own check needs nothing.
    assert at.get("/healthz", headers).json == {"status": "ok"}


@pytest.mark.parametrize("token", [TOKEN, "", "None", hashlib.sha256(b"").hexdigest()])
def test_where_no_hash_is_set_no_token_is_right(at: FrontBrowser, token: str) -> None:
    assert at.site.settings.operator_token_hash is None
    assert at.get("/healthz", bearer(token), deep="1").status == 401


@pytest.mark.parametrize("fault", [faults.unreachable, faults.silent, faults.throttled, faults.failing])
def test_a_table_out_of_reach_makes_it_unavailable(
    watched: FrontBrowser, wire: Wire, lines: Lines, fault: faults.Fault
) -> None:
    count = len(tables())
    for number in (0, count - 1):  # the first one, and the last
        with wire.fault(number, fault):
            answer = watched.get("/healthz", bearer(TOKEN), deep="1")
        assert (answer.status, answer.header("retry-after")) == (503, "2")
        assert answer.json["error"] == "temporarily_unavailable"
        line = lines()[-1]
        assert (line["level"], line["endpoint"], line["dynamodb_calls"]) == ("ERROR", "/healthz", number + 1)
        assert line["detail"].startswith("dynamodb get_item: ")
        # Shallow, it still answers: the function is well.
        assert watched.get("/healthz").status == 200
    assert watched.get("/healthz", bearer(TOKEN), deep="1").status == 200


def test_a_table_that_is_not_there_is_a_mistake(watched: FrontBrowser, wire: Wire) -> None:
    def missing(request: Any, _proceed: Any) -> Any:
        return faults.refusal(request, 400, "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException")

    with wire.fault(0, missing):
        answer = watched.get("/healthz", bearer(TOKEN), deep="1")
    assert (answer.status, answer.json["error"]) == (500, "server_error")


def test_keys_that_cannot_be_opened_are_noticed(without_ring: Site, watched: FrontBrowser, lines: Lines) -> None:
    other = Seal(replace(watched.site.settings, sealing_key=b"x" * 32))
    without_ring.server.store.keys.put(SealedKeyRing("main", other.seal(b"{}")))
    answer = watched.get("/healthz", bearer(TOKEN), deep="1")
    assert (answer.status, answer.json["error"]) == (500, "server_error")
    assert lines()[-1]["detail"] == "The key ring was sealed with another key than the one in force"
    assert watched.get("/healthz").status == 200
