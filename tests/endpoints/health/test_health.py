"""GET /healthz: the shallow check, and the deep check with the operator's token."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalicelib import __version__
from chalicelib.keys.envelope import Seal
from chalicelib.protocol.sealed_key_ring import SealedKeyRing
from tests.support import faults
from tests.support.faults import Wire
from tests.support.gateways import GATEWAYS, GatewayBrowser
from tests.support.site import Site, tables

TOKEN = "op-5Yc0T8w2m9"
HASH = hashlib.sha256(TOKEN.encode()).hexdigest()


def bearer(token: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {token}"}


def last_line(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """Return the last log line."""
    line: dict[str, Any] = json.loads(caplog.records[-1].getMessage())
    return line


@pytest.fixture
def operator_browser(site_with: Callable[..., Site]) -> GatewayBrowser:
    """A browser that calls a server with an operator token."""
    site = site_with(operator_token_hash=HASH)
    site.secrets.add(TOKEN)
    return GatewayBrowser(site, GATEWAYS[0])


def test_deep_check_with_the_operator_token_reads_every_table_and_the_keys(
    operator_browser: GatewayBrowser, caplog: pytest.LogCaptureFixture
) -> None:
    names = [table.name for table in operator_browser.site.server.store.tables]
    assert set(names) == set(tables())
    for scheme in ("Bearer", "bearer"):
        answer = operator_browser.get("/healthz", bearer(TOKEN, scheme), deep="1")
        assert answer.status == 200
        kids = [key["kid"] for key in operator_browser.get("/oauth2/jwks").json["keys"]]
        assert answer.json == {"status": "ok", "version": __version__, "tables": names, "keys": kids}
    assert TOKEN not in caplog.text


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
@pytest.mark.parametrize("token_hash", [HASH, None], ids=["a hash", "no hash"])
def test_deep_check_without_a_valid_token_reads_nothing(
    site_with: Callable[..., Site], caplog: pytest.LogCaptureFixture, token_hash: str | None, headers: dict[str, str]
) -> None:
    browser = GatewayBrowser(site_with(operator_token_hash=token_hash), GATEWAYS[0])
    answer = browser.get("/healthz", headers, deep="1")
    assert (answer.status, answer.json["error"]) == (401, "invalid_token")
    assert answer.header("www-authenticate") == 'Bearer realm="health"'
    assert set(answer.json) == {"error", "error_description"}
    assert last_line(caplog)["dynamodb_calls"] == 0
    # The shallow check needs no token.
    assert browser.get("/healthz", headers).json == {"status": "ok", "version": __version__}


@pytest.mark.parametrize("token", [TOKEN, "", "None", hashlib.sha256(b"").hexdigest()])
def test_deep_check_rejects_every_token_when_no_hash_is_set(site: Site, token: str) -> None:
    browser = GatewayBrowser(site, GATEWAYS[0])
    assert browser.site.settings.operator_token_hash is None
    assert browser.get("/healthz", bearer(token), deep="1").status == 401


@pytest.mark.parametrize("fault", [faults.unreachable, faults.no_response, faults.throttled, faults.failing])
def test_deep_check_is_503_when_a_table_is_unreachable(
    operator_browser: GatewayBrowser, wire: Wire, caplog: pytest.LogCaptureFixture, fault: faults.Fault
) -> None:
    count = len(tables())
    for number in (0, count - 1):  # the first and the last table
        with wire.fault(number, fault):
            answer = operator_browser.get("/healthz", bearer(TOKEN), deep="1")
        assert (answer.status, answer.header("retry-after")) == (503, "2")
        assert answer.json["error"] == "temporarily_unavailable"
        line = last_line(caplog)
        assert (line["level"], line["endpoint"], line["dynamodb_calls"]) == ("ERROR", "/healthz", number + 1)
        assert line["detail"].startswith("dynamodb GetItem: ")
        # The shallow check still succeeds.
        assert operator_browser.get("/healthz").status == 200
    assert operator_browser.get("/healthz", bearer(TOKEN), deep="1").status == 200


def test_deep_check_is_500_when_a_table_is_missing(operator_browser: GatewayBrowser, wire: Wire) -> None:
    def missing(request: Any, _proceed: Any) -> Any:
        return faults.refusal(request, 400, "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException")

    with wire.fault(0, missing):
        answer = operator_browser.get("/healthz", bearer(TOKEN), deep="1")
    assert (answer.status, answer.json["error"]) == (500, "server_error")


def test_deep_check_is_500_when_the_key_ring_cannot_be_opened(
    site_without_ring: Site, operator_browser: GatewayBrowser, caplog: pytest.LogCaptureFixture
) -> None:
    other = Seal(replace(operator_browser.site.settings, sealing_key=b"x" * 32))
    site_without_ring.server.store.keys.put(SealedKeyRing("main", other.seal(b"{}", 1)))
    answer = operator_browser.get("/healthz", bearer(TOKEN), deep="1")
    assert (answer.status, answer.json["error"]) == (500, "server_error")
    assert (
        last_line(caplog)["detail"]
        == "The key ring was encrypted with another key, in another stage, or for another version"
    )
    assert operator_browser.get("/healthz").status == 200
