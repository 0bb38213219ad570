"""A declared proxy in front of every gateway: its secret is required, and the caller's address is the one it tells."""

import json
from collections.abc import Callable
from typing import Any

import pytest

import app
from chalicelib.http import gateway as gateways
from chalicelib.http.proxy import SECRET_HEADER, read_address, secret_hash
from chalicelib.settings import Settings, SettingsError
from tests.support.browser import Answer
from tests.support.faults import Wire
from tests.support.gateways import ADDRESS, GATEWAYS, HTTP_2, Gateway, GatewayBrowser, GatewayRequest
from tests.support.site import Site

SECRET, NEXT_SECRET = "the-secret-of-the-proxy", "the-next-secret-of-the-proxy"
CLOUDFRONT, PLAIN = "CloudFront-Viewer-Address", "X-Caller"
CALLER = "203.0.113.9"
WRONG = "not the password"
Pairs = list[tuple[str, str]]


class ProxiedBrowser(GatewayBrowser):
    """A browser at a proxy, which replaces the headers that it adds, as CloudFront does."""

    def __init__(self, site: Site, gateway: Gateway, *, secret: str = SECRET, address: str = f"{CALLER}:46532"):
        super().__init__(site, gateway)
        self.added = [("X-Signet-Proxy-Secret", secret), (CLOUDFRONT, address)]

    def deliver(self, method: str, url: str, headers: Pairs, body: bytes | None = None) -> Answer:
        names = {name.lower() for name, _ in self.added}
        kept = [(name, value) for name, value in headers if name.lower() not in names]
        return super().deliver(method, url, [*kept, *self.added], body)


@pytest.fixture
def proxied_site(site_with: Callable[..., Site]) -> Site:
    """A server that declares CloudFront."""
    return site_with(caller_address_header=CLOUDFRONT, proxy_secret_hash=(secret_hash(SECRET),))


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return the log lines of requests and events."""
    messages = [record.getMessage() for record in caplog.records if record.name == "signet.requests"]
    return [json.loads(message) for message in messages]


# ---- through the proxy


def test_whole_flow_has_the_address_that_the_proxy_tells(
    proxied_site: Site, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "signet")
    user, client = proxied_site.user(), proxied_site.client()
    browser = ProxiedBrowser(proxied_site, gateway)
    forged = {CLOUDFRONT: "198.51.100.66:1", "X-Forwarded-For": "198.51.100.66"}
    assert browser.get("/healthz", forged).status == 200
    code = browser.code(client)
    assert browser.redeem(client, code).status == 200
    written = lines(caplog)
    assert {line["source_ip"] for line in written} == {CALLER}
    assert "sign_in" in {line.get("event") for line in written}
    history = [event for event in proxied_site.server.store.events.scan() if event.sub == user.sub]
    assert {event.source_ip for event in history if event.source_ip} == {CALLER}


def test_throttle_counts_by_the_address_that_the_proxy_tells(proxied_site: Site, gateway: Gateway) -> None:
    proxied_site.user()
    client = proxied_site.client()

    def tries(address: str, password: str, number: int = 1) -> list[int]:
        answers = []
        for _ in range(number):
            browser = ProxiedBrowser(proxied_site, gateway, address=address)
            answers.append(browser.sign_in(browser.authorize(client), password=password).status)
        return answers

    limit = proxied_site.settings.sign_in_attempts
    assert tries("203.0.113.9:1001", WRONG, limit + 1) == [400] * limit + [429]
    assert tries("198.51.100.7:1001", WRONG) == [400]


def test_both_secrets_are_accepted_while_it_is_rotated(site_with: Callable[..., Site], gateway: Gateway) -> None:
    hashes = (secret_hash(SECRET), secret_hash(NEXT_SECRET))
    rotating = site_with(caller_address_header=CLOUDFRONT, proxy_secret_hash=hashes)
    statuses = [
        ProxiedBrowser(rotating, gateway, secret=secret).get("/healthz").status
        for secret in (SECRET, NEXT_SECRET, "another")
    ]
    assert statuses == [200, 200, 403]


# ---- past the proxy


def calls(site: Site, wire: Wire, gateway: Gateway, headers: Pairs) -> list[tuple[str, str, Answer, list[str]]]:
    """Send a request for each method and address; return the answers with the calls to DynamoDB that they took."""
    results = []
    methods = [(route.method, route.path) for route in (*app.JSON_ROUTES, *app.PAGE_ROUTES)]
    for method, path in [*methods, ("OPTIONS", "/oauth2/token"), ("DELETE", "/oauth2/token"), ("GET", "/nothing")]:
        browser = GatewayBrowser(site, gateway)
        form = ("Content-Type", "application/x-www-form-urlencoded")
        body = b"client_id=x&grant_type=y" if method == "POST" else None
        with wire.counted() as calls_made:
            answer = browser.deliver(method, f"{path}?client_id=x&request_uri=y", [form, *headers], body)
        results.append((method, path, answer, list(calls_made)))
    return results


@pytest.mark.parametrize("secret", [None, "", "guess", secret_hash(SECRET), f"{SECRET}, {SECRET}", f" {SECRET}x"])
def test_request_without_the_secret_is_rejected_everywhere_and_nothing_is_read_or_written(
    proxied_site: Site, wire: Wire, caplog: pytest.LogCaptureFixture, secret: str | None
) -> None:
    caplog.set_level("INFO", "signet")
    headers = [(CLOUDFRONT, f"{CALLER}:1")] + ([] if secret is None else [(SECRET_HEADER, secret)])
    for method, path, answer, calls_made in calls(proxied_site, wire, GATEWAYS[2], headers):
        assert (answer.status, calls_made) == (403, []), (method, path)
        assert not [name for name, _ in answer.headers if name.lower() == "set-cookie"]
        assert SECRET not in answer.body
        assert "guess" not in answer.body
    assert {line["code"] for line in lines(caplog)} == {"forbidden"}
    # An address is not trusted without the secret.
    assert {line["source_ip"] for line in lines(caplog)} == {ADDRESS}
    assert SECRET not in caplog.text
    assert "guess" not in caplog.text


def test_request_past_the_proxy_is_rejected_behind_every_gateway(proxied_site: Site, gateway: Gateway) -> None:
    direct = GatewayBrowser(proxied_site, gateway)
    assert direct.get("/healthz").status == 403
    page = direct.get("/oauth2/authorize")
    assert (page.status, page.header("content-type")) == (403, "text/html; charset=utf-8")
    token = direct.post("/oauth2/token", {"grant_type": "authorization_code"})
    assert (token.status, token.json["error"]) == (403, "forbidden")
    address = (CLOUDFRONT, "192.0.2.1:1")
    assert direct.deliver("GET", "/healthz", [("x-signet-PROXY-secret", SECRET), address]).status == 200
    # Both values of a repeated header are joined by the gateway.
    twice = [("X-Signet-Proxy-Secret", SECRET)] * 2
    assert direct.deliver("GET", "/healthz", [*twice, address]).status == 403


def test_schedules_do_not_come_through_the_proxy_and_run(proxied_site: Site) -> None:
    for schedule in app.SCHEDULES:
        assert proxied_site.http_handler({"schedule": schedule.name}, None) == {}


def test_no_header_is_trusted_without_the_setting(
    site: Site, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "signet")
    assert ProxiedBrowser(site, gateway).get("/healthz").status == 200
    assert GatewayBrowser(site, gateway).get("/healthz").status == 200
    assert [line["source_ip"] for line in lines(caplog)] == [ADDRESS] * 2
    assert SECRET not in caplog.text


@pytest.mark.parametrize("name", ["X-Signet-Proxy-Secret", "x-signet-proxy-secret"])
def test_secret_is_never_among_the_headers_of_a_request(gateway: Gateway, name: str) -> None:
    sent = GatewayRequest("GET", "/healthz", "", [(name, SECRET), (CLOUDFRONT, "192.0.2.1:1")], None)
    http = gateways.read(gateway.event(sent, gateway.domain, gateway.stage))
    assert http.proxy_secret == SECRET
    assert dict(http.headers) == {CLOUDFRONT.lower(): "192.0.2.1:1"}
    assert SECRET not in repr(http)


# ---- the address

UNREADABLE = ["", "unknown", "192.0.2.1", "192.0.2.1:1, 192.0.2.2:1", "192.0.2.256:1", "x:1", "192.0.2.1:http", ":1"]


@pytest.mark.parametrize("value", [None, *UNREADABLE], ids=str)
def test_missing_or_unreadable_address_is_a_server_error_before_anything_is_read(
    proxied_site: Site, wire: Wire, caplog: pytest.LogCaptureFixture, value: str | None
) -> None:
    caplog.set_level("INFO", "signet")
    address = [] if value is None else [(CLOUDFRONT, value)]
    for method, path, answer, calls_made in calls(proxied_site, wire, HTTP_2, [(SECRET_HEADER, SECRET), *address]):
        assert (answer.status, calls_made) == (500, []), (method, path)
    (detail,) = {line["detail"] for line in lines(caplog)}
    assert detail == f"SIGNET_CALLER_ADDRESS_HEADER: the header {CLOUDFRONT} is missing or is not one address"
    assert {line["level"] for line in lines(caplog)} == {"ERROR"}


@pytest.mark.parametrize(
    ("value", "of_cloudfront", "address"),
    [
        ("198.51.100.10:46532", True, "198.51.100.10"),
        ("2001:db8:85a3:0:0:8a2e:370:7334:46532", True, "2001:db8:85a3::8a2e:370:7334"),
        ("2001:db8::1:4653", True, "2001:db8::1"),
        ("[2001:db8::1]:4653", True, "2001:db8::1"),
        ("2001:db8::1", True, None),
        ("198.51.100.10", True, None),
        ("198.51.100.10", False, "198.51.100.10"),
        (" 198.51.100.10 ", False, "198.51.100.10"),
        ("198.51.100.10:46532", False, "198.51.100.10"),
        ("2001:DB8::1:4653", False, "2001:db8::1:4653"),
        ("[2001:db8::1]", False, "2001:db8::1"),
        ("[2001:db8::1]:443", False, "2001:db8::1"),
        ("::ffff:198.51.100.10", False, "198.51.100.10"),
        ("[::ffff:198.51.100.10]:1", True, "198.51.100.10"),
        ("198.51.100.10, 192.0.2.1", False, None),
        ("198.51.100.10 192.0.2.1", False, None),
        ("fe80::1%eth0", False, None),
        ("198.51.100.10:http", False, None),
        ("198.51.100.010", False, None),
        ("[2001:db8::1", False, None),
        ("for=198.51.100.10", False, None),
        ("\u0661\u0669\u0662.0.2.1", False, None),
        ("", False, None),
        ("", True, None),
    ],
)
def test_address_is_read_with_and_without_a_port(value: str, of_cloudfront: bool, address: str | None) -> None:
    assert read_address(value, always_with_port=of_cloudfront) == address


def test_address_of_another_proxy_has_no_port(
    site_with: Callable[..., Site], gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "signet")
    at = site_with(caller_address_header=PLAIN, proxy_secret_hash=(secret_hash(SECRET),))
    sent = [("X-Signet-Proxy-Secret", SECRET), (PLAIN, "2001:db8::7:4653")]
    assert GatewayBrowser(at, gateway).deliver("GET", "/healthz", sent).status == 200
    assert [line["source_ip"] for line in lines(caplog)] == ["2001:db8::7:4653"]
    # A proxy that adds to what the caller has sent tells nothing that can be trusted.
    assert GatewayBrowser(at, gateway).deliver("GET", "/healthz", [*sent, (PLAIN, "192.0.2.1")]).status == 500


# ---- the settings

HASH = "ab" * 32


def test_secret_is_declared_by_its_sha256() -> None:
    # FIPS 180-2 appendix B.1
    assert secret_hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("header", "hashes", "expected"),
    [
        ("", "", (None, ())),
        (CLOUDFRONT, HASH, (CLOUDFRONT, (HASH,))),
        (PLAIN, f"{HASH} {HASH[::-1]}", (PLAIN, (HASH, HASH[::-1]))),
    ],
)
def test_proxy_is_declared_by_two_settings(header: str, hashes: str, expected: tuple[Any, ...]) -> None:
    environ = {"SIGNET_CALLER_ADDRESS_HEADER": header, "SIGNET_PROXY_SECRET_HASH": hashes}
    settings = Settings.from_environ(environ)
    assert (settings.caller_address_header, settings.proxy_secret_hash) == expected


@pytest.mark.parametrize(
    ("header", "hashes", "message"),
    [
        (CLOUDFRONT, "", "SIGNET_CALLER_ADDRESS_HEADER requires SIGNET_PROXY_SECRET_HASH"),
        ("", HASH, "SIGNET_PROXY_SECRET_HASH requires SIGNET_CALLER_ADDRESS_HEADER"),
        ("X-Forwarded-For", HASH, "SIGNET_CALLER_ADDRESS_HEADER is 'X-Forwarded-For'; it is a list"),
        ("forwarded", HASH, "SIGNET_CALLER_ADDRESS_HEADER is 'forwarded'; it is a list"),
        ("X-Signet-Proxy-Secret", HASH, "SIGNET_CALLER_ADDRESS_HEADER is 'X-Signet-Proxy-Secret'; it must be"),
        ("X Caller", HASH, "SIGNET_CALLER_ADDRESS_HEADER is 'X Caller'; it must be the name of a header"),
        (PLAIN, "secret", "SIGNET_PROXY_SECRET_HASH must be the SHA-256"),
        (PLAIN, HASH.upper(), "SIGNET_PROXY_SECRET_HASH must be the SHA-256"),
        (PLAIN, f"{HASH} {HASH} {HASH}", "SIGNET_PROXY_SECRET_HASH must be the SHA-256"),
    ],
)
def test_proxy_that_cannot_be_trusted_is_rejected_at_start(header: str, hashes: str, message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_environ({"SIGNET_CALLER_ADDRESS_HEADER": header, "SIGNET_PROXY_SECRET_HASH": hashes})
    assert str(raised.value).startswith(message)
    assert "secret'" not in str(raised.value)
