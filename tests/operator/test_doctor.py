"""The doctor from outside: no findings for a healthy server, and a finding with its name for each fault."""

import datetime
import hashlib
import ipaddress
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from infra.operator.doctor import check
from tests.support.operator import TERMINAL_CONTROL_CHARACTERS, RunCommand
from tests.support.site import Site
from tests.support.tampering_proxy import (
    ProxiedResponse,
    Tamper,
    TamperingProxy,
    change_key,
    change_members,
    drop_header,
    finding_names,
    get_finding,
    replace_response,
    set_header,
)

TOKEN = "operators-token"
TOKEN_HASH = hashlib.sha256(TOKEN.encode()).hexdigest()


@pytest.fixture
def proxy(site_with: Callable[..., Site]) -> Iterator[TamperingProxy]:
    """Return a proxy between the doctor and a site, whose issuer is the proxy's address."""
    proxy = TamperingProxy()
    proxy.target = f"http://127.0.0.1:{site_with(issuer=proxy.url, operator_token_hash=TOKEN_HASH).port}"
    yield proxy
    proxy.close()


# ---- from outside


def test_healthy_server_passes_all_checks(site: Site) -> None:
    site.client()
    findings = check(site.settings.issuer, site.server.store)
    assert finding_names(findings) == []
    assert finding_names(findings, None)[:2] == ["TLS", "plain http"]
    assert len(finding_names(findings, True)) >= 15
    assert all(finding.detail.endswith(".") for finding in findings)


def test_healthy_server_behind_the_proxy_passes_all_checks(proxy: TamperingProxy) -> None:
    findings = check(proxy.url, operator_token=TOKEN)
    assert finding_names(findings) == []
    assert get_finding(findings, "deep health").detail == "The server reaches 17 tables and 4 keys."


def test_doctor_changes_no_record(site: Site) -> None:
    site.client()
    site.server.keys.jwks()
    store = site.server.store
    before = [list(table.scan()) for table in store.tables]
    check(site.settings.issuer, store, operator_token=TOKEN)
    assert [list(table.scan()) for table in store.tables] == before


GATEWAY = '{"message":"Missing Authentication Token"}'
OPENID, OAUTH, KEYS = "openid-configuration", "oauth-authorization-server", "jwks"
FAULTS: list[tuple[str, Tamper, str, str]] = [
    ("no metadata", replace_response(OPENID, 404), "discovery", "status 404"),
    ("a gateway instead of the server", replace_response(OPENID, 403, GATEWAY), "discovery", "by the gateway itself"),
    ("metadata that is not JSON", replace_response(OPENID, 200, "<html>"), "discovery", "returns no metadata"),
    (
        "another issuer",
        change_members("/.well-known/", issuer="https://other.example"),
        "issuer",
        "https://other.example",
    ),
    (
        "an issuer with a slash",
        change_members("/.well-known/", issuer="http://127.0.0.1/"),
        "issuer",
        "but was read from",
    ),
    (
        "different metadata in one place",
        change_members(OAUTH, issuer="https://o.example"),
        "metadata in both places",
        "has other metadata",
    ),
    ("metadata missing in one place", replace_response(OAUTH, 404), "metadata in both places", "status 404"),
    (
        "an endpoint on another server",
        change_members("/.well-known/", token_endpoint="https://o.example/token"),
        "endpoints",
        "token_endpoint is https://o.example/token, on another server",
    ),
    ("an endpoint that fails", replace_response("/oauth2/revoke", 500), "endpoints", "revocation_endpoint returns 500"),
    ("an endpoint behind the gateway", replace_response("/oauth2/revoke", 403, GATEWAY), "endpoints", "returns 403"),
    ("no keys", replace_response(KEYS, 200, "[]"), "keys", "not a JWK Set"),
    ("invalid keys", replace_response(KEYS, 200, '{"keys":[1]}'), "keys", "not a JWK Set"),
    ("a key without an id", change_key(kid=None), "keys", "has no kid"),
    ("a key without an algorithm", change_key(alg=None), "keys", "has no alg"),
    ("a key without a use", change_key(use=None), "keys", "has no use"),
    ("a private key", change_key(d="AQAB"), "keys", "CONTAINS ITS PRIVATE KEY"),
    ("a malformed key", change_key(n="!"), "keys", "cannot be read"),
    ("a short key", change_key(n="x" * 171), "keys", "shorter than 2048 bits"),
    (
        "an algorithm without a key",
        change_members(OPENID, id_token_signing_alg_values_supported=["RS256", "RS512"]),
        "keys",
        "RS512 is advertised but has no key",
    ),
    ("no nosniff", drop_header(OPENID, "X-Content-Type-Options"), "security headers", "lacks X-Content-Type-Options"),
    (
        "no referrer policy",
        drop_header("authorize", "Referrer-Policy"),
        "security headers",
        "the page lacks Referrer-Policy",
    ),
    (
        "a page that can be framed",
        set_header("authorize", "Content-Security-Policy", "default-src 'self'"),
        "security headers",
        "allows framing",
    ),
    ("a cached page", set_header("authorize", "Cache-Control", "max-age=60"), "security headers", "caches may store"),
    ("a clock that is ahead", set_header(OPENID, "Date", "Fri, 20 Nov 2099 12:00:00 GMT"), "clock", "ahead of"),
    ("a clock that is behind", set_header(OPENID, "Date", "Fri, 20 Nov 2020 12:00:00 GMT"), "clock", "behind"),
    (
        "an open redirector",
        replace_response("signet-doctor-unknown&", 302, "", Location="https://doctor.invalid/callback"),
        "unknown client",
        "open redirector",
    ),
    ("an accepted unknown client", replace_response("signet-doctor-unknown&", 200), "unknown client", "status 200"),
    ("a token error with another status", replace_response("/oauth2/token", 400), "token errors", "returns 400"),
    (
        "a cached token error",
        drop_header("/oauth2/token", "Cache-Control"),
        "token errors",
        "caches may store its error",
    ),
    (
        "a token error that is not JSON",
        set_header("/oauth2/token", "Content-Type", "text/html"),
        "token errors",
        "not JSON",
    ),
    (
        "a response for an unknown address",
        replace_response("/signet-doctor-unknown", 200),
        "unknown address",
        "status 200",
    ),
    ("no challenge", drop_header("userinfo", "Www-Authenticate"), "WWW-Authenticate", "without WWW-Authenticate"),
    (
        "keys that pages cannot read",
        drop_header(KEYS, "Access-Control-Allow-Origin"),
        "cross-origin",
        "cannot read the keys",
    ),
    (
        "cookies across origins",
        set_header(KEYS, "Access-Control-Allow-Credentials", "true"),
        "cross-origin",
        "cookies are allowed across origins",
    ),
    ("an unhealthy server", replace_response("/healthz", 503), "health", "returns 503"),
    ("a deep check without a token", replace_response("deep=1", 200), "deep health", "without a token returns 200"),
]


@pytest.mark.parametrize(("what", "tamper", "name", "detail"), FAULTS, ids=[what for what, _, _, _ in FAULTS])
def test_doctor_reports_a_fault_from_outside(
    proxy: TamperingProxy, what: str, tamper: Tamper, name: str, detail: str
) -> None:
    proxy.tamper = tamper
    findings = check(proxy.url)
    finding = get_finding(findings, name)
    assert finding.ok is False
    assert detail in finding.detail
    assert finding.fix
    assert name in finding_names(findings)


def test_issuer_in_redirects_is_checked_with_a_registered_client(proxy: TamperingProxy, site: Site) -> None:
    store, client = site.server.store, site.client()
    assert get_finding(check(proxy.url, store), "issuer in redirects").ok
    proxy.tamper = set_header(
        "prompt=none", "Location", "https://client.example.com/cb?error=login_required&state=doctor"
    )
    finding = get_finding(check(proxy.url, store), "issuer in redirects")
    assert "iss is None" in finding.detail
    proxy.tamper = replace_response("prompt=none", 400)
    assert get_finding(check(proxy.url, store), "issuer in redirects").ok is False
    proxy.tamper = lambda _: None
    store.clients.put(replace(client.record, disabled_at=1))
    assert get_finding(check(proxy.url, store), "issuer in redirects").ok is None


def test_limits_of_a_rest_api_are_reported_as_skipped(proxy: TamperingProxy) -> None:
    def rest_api(response: ProxiedResponse) -> None:
        if value := response.headers.pop("Www-Authenticate", None):
            response.headers["X-Amzn-Remapped-Www-Authenticate"] = value
        if response.status == 404:
            response.status, response.body = 403, GATEWAY

    proxy.tamper = rest_api
    findings = check(proxy.url)
    assert finding_names(findings) == []
    assert "renames WWW-Authenticate" in get_finding(findings, "WWW-Authenticate").detail
    assert "answered by the gateway itself" in get_finding(findings, "unknown address").detail


def test_metadata_that_a_stage_path_makes_unreachable_is_reported_as_skipped(site_with: Callable[..., Site]) -> None:
    staged = TamperingProxy()
    site = site_with(issuer=f"{staged.url}/api")
    staged.target = f"http://127.0.0.1:{site.port}"

    def stage(response: ProxiedResponse) -> None:
        if not response.path.startswith("/api/"):
            response.status, response.body = 403, GATEWAY

    class Stripped(str):
        def __add__(self, path: str) -> str:
            return str(self) + path.removeprefix("/api")

    staged.target, staged.tamper = Stripped(staged.target), stage
    try:
        findings = check(f"{staged.url}/api")
        assert finding_names(findings) == []
        finding = get_finding(findings, "metadata in both places")
        assert finding.ok is None
        assert f"{staged.url}/.well-known/oauth-authorization-server/api (RFC 8414 3)" in finding.detail
        assert f"{staged.url}/api/.well-known/openid-configuration, which works" in finding.detail
    finally:
        staged.close()


@pytest.mark.parametrize("missing", [(), ("openid-configuration",), ("oauth-authorization-server",)])
def test_issuer_with_a_path_is_checked_at_the_addresses_with_its_path_inserted(
    site_with: Callable[..., Site], missing: tuple[str, ...]
) -> None:
    proxy = TamperingProxy()
    site = site_with(issuer=f"{proxy.url}/auth")
    proxy.target = f"http://127.0.0.1:{site.port}"

    def tamper(response: ProxiedResponse) -> None:
        if response.path in [f"/.well-known/{name}/auth" for name in missing]:
            response.status, response.body = 404, GATEWAY

    proxy.tamper = tamper
    try:
        findings = check(f"{proxy.url}/auth")
        assert finding_names(findings) == []
        finding = get_finding(findings, "metadata in both places")
        assert finding.ok is (None if missing else True)
        for name in missing:
            assert f"{proxy.url}/.well-known/{name}/auth" in finding.detail
        assert ("Map /.well-known of the domain" in finding.detail) == bool(missing)
    finally:
        proxy.close()


def test_unreachable_server_is_the_only_finding(site: Site) -> None:
    (finding,) = check("http://127.0.0.1:9")
    assert (finding.name, finding.ok) == ("reachable", False)
    assert "Connection refused" in finding.detail


def test_doctor_continues_when_one_endpoint_does_not_respond(proxy: TamperingProxy) -> None:
    def disconnect(response: ProxiedResponse) -> None:
        if "jwks" in response.path:
            raise ConnectionError

    proxy.server.handle_error = lambda *_: None  # type: ignore[method-assign]
    proxy.tamper = disconnect
    findings = check(proxy.url)
    assert "keys" in finding_names(findings)
    assert "No response" in get_finding(findings, "keys").detail
    assert get_finding(findings, "health").ok


# ---- TLS


@pytest.fixture(scope="module")
def authority() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@contextmanager
def over_tls(
    proxy: TamperingProxy, private: ec.EllipticCurvePrivateKey, days: float, folder: Path
) -> Iterator[ssl.SSLContext]:
    """Serve the proxy over TLS, with a certificate valid for `days`. Yields a context that trusts it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    certificate, pem = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    pem.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, pem)
    proxy.server.socket = server.wrap_socket(proxy.server.socket, server_side=True)
    proxy.server.handle_error = lambda *_: None  # type: ignore[method-assign]
    yield ssl.create_default_context(cafile=str(certificate))


@pytest.fixture
def secure(site_with: Callable[..., Site]) -> Iterator[TamperingProxy]:
    """Return a proxy to a site with an https issuer."""
    proxy = TamperingProxy()
    site = site_with(issuer=proxy.url.replace("http:", "https:"))
    proxy.target = f"http://127.0.0.1:{site.port}"
    yield proxy
    proxy.close()


@pytest.mark.parametrize(("days", "ok"), [(90, True), (5, False)])
def test_doctor_counts_the_days_until_the_certificate_expires(
    secure: TamperingProxy, authority: ec.EllipticCurvePrivateKey, tmp_path: Path, days: int, ok: bool
) -> None:
    with over_tls(secure, authority, days + 0.5, tmp_path) as trust:
        findings = check(secure.url.replace("http:", "https:"), trust=trust)
    assert finding_names(findings) == ([] if ok else ["TLS"])
    assert f"{days} " in get_finding(findings, "TLS").detail


def test_https_without_hsts_is_reported(
    secure: TamperingProxy, authority: ec.EllipticCurvePrivateKey, tmp_path: Path
) -> None:
    secure.tamper = drop_header("", "Strict-Transport-Security")
    with over_tls(secure, authority, 90, tmp_path) as trust:
        findings = check(secure.url.replace("http:", "https:"), trust=trust)
    assert finding_names(findings) == ["security headers"]


def test_untrusted_certificate_is_reported(
    secure: TamperingProxy, authority: ec.EllipticCurvePrivateKey, tmp_path: Path
) -> None:
    with over_tls(secure, authority, 90, tmp_path):
        (finding,) = check(secure.url.replace("http:", "https:"))
    assert "certificate is not valid here" in finding.detail


# ---- the command


def test_doctor_prints_text_and_json(site: Site, proxy: TamperingProxy, run_command: RunCommand) -> None:
    printed = run_command("doctor", proxy.url, "--outside")
    assert printed.code == 0
    assert "✓ issuer " in printed.out
    assert printed.out.endswith(" were skipped, for the reasons given.\n")
    proxy.tamper = drop_header("userinfo", "Www-Authenticate")
    printed = run_command("doctor", proxy.url, "--outside")
    assert printed.code == 1
    assert "✗ WWW-Authenticate " in printed.out
    assert "→ The HTTP API sets it by a response mapping" in printed.out
    documents = json.loads(run_command("doctor", proxy.url, "--outside", "--json").out)
    assert [set(document) for document in documents] == [{"name", "ok", "detail", "fix"}] * len(documents)
    assert [document["name"] for document in documents if document["ok"] is False] == ["WWW-Authenticate"]


def test_control_characters_in_metadata_are_escaped_in_the_output(
    proxy: TamperingProxy, run_command: RunCommand
) -> None:
    proxy.tamper = change_members("/.well-known/", issuer="https://x\x1b[2J\u202e\x9b.example")
    printed = run_command("doctor", proxy.url, "--outside")
    assert "The metadata names the issuer https://x\\u001b[2J\\u202e\\u009b.example" in printed.out
    for out in (printed.out, run_command("doctor", proxy.url, "--outside", "--json").out):
        assert not TERMINAL_CONTROL_CHARACTERS.search(out)


def test_operator_token_is_read_from_the_environment(
    proxy: TamperingProxy, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNET_OPERATOR_TOKEN", TOKEN)
    assert "✓ deep health" in run_command("doctor", proxy.url, "--outside").out
    monkeypatch.setenv("SIGNET_OPERATOR_TOKEN", "another")
    printed = run_command("doctor", proxy.url, "--outside")
    assert "rejects the token" in printed.out
    assert "another" not in printed.out


@pytest.mark.parametrize("arguments", [["--outside"], ["id.example.com", "--outside"], ["https://[", "--outside"]])
def test_usage_error_is_one_line(run_command: RunCommand, arguments: list[str]) -> None:
    printed = run_command("doctor", *arguments)
    assert (printed.code, len(printed.err.splitlines())) == (2, 1)


def test_exit_code_is_1_when_nothing_can_be_checked(run_command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "missing-profile")
    printed = run_command("doctor", "--stage", "nowhere")
    assert printed.code == 1
    assert printed.out.endswith("\nNothing could be checked.\n")


def test_redirect_of_the_metadata_is_reported_and_not_followed(proxy: TamperingProxy) -> None:
    proxy.tamper = replace_response("openid-configuration", 301, "", Location="https://id.example.com/")
    finding = check(proxy.url)[-1]
    assert (finding.name, finding.ok) == ("discovery", False)
    assert "status 301, to https://id.example.com/" in finding.detail
