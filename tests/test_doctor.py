"""The doctor: finds nothing wrong where nothing is, and each fault by its name where there is one."""

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

from infra.doctor import check
from tests.between import Between, Spoil, Spoiled, answer, change, drop, header, key, names, one
from tests.operator import HARM, Operate
from tests.site import Site

TOKEN = "operators-token"
TOKEN_HASH = hashlib.sha256(TOKEN.encode()).hexdigest()


@pytest.fixture
def between(site_with: Callable[..., Site]) -> Iterator[Between]:
    """A server between the doctor and a site that has its address for an issuer."""
    made = Between()
    made.target = f"http://127.0.0.1:{site_with(issuer=made.url, operator_token_hash=TOKEN_HASH).port}"
    yield made
    made.close()


# ---- from outside


def test_a_server_without_a_fault_is_well(site: Site) -> None:
    site.client()
    findings = check(site.settings.issuer, site.server.store)
    assert names(findings) == []
    assert names(findings, None)[:2] == ["TLS", "plain http"]
    assert len(names(findings, True)) >= 15
    assert all(finding.detail.endswith(".") for finding in findings)


def test_it_is_well_through_the_server_between_too(between: Between) -> None:
    findings = check(between.url, operator_token=TOKEN)
    assert names(findings) == []
    assert one(findings, "deep health").detail == "The server reaches 12 tables and 4 keys."


def test_the_doctor_leaves_nothing_behind(site: Site) -> None:
    site.client()
    site.server.keys.jwks()
    store = site.server.store
    before = [list(table.scan()) for table in store.tables]
    check(site.settings.issuer, store, operator_token=TOKEN)
    assert [list(table.scan()) for table in store.tables] == before


GATEWAY = '{"message":"Missing Authentication Token"}'
OPENID, OAUTH, KEYS = "openid-configuration", "oauth-authorization-server", "jwks"
FAULTS: list[tuple[str, Spoil, str, str]] = [
    ("no metadata", answer(OPENID, 404), "discovery", "status 404"),
    ("a gateway in its place", answer(OPENID, 403, GATEWAY), "discovery", "by the gateway itself"),
    ("metadata that is no JSON", answer(OPENID, 200, "<html>"), "discovery", "gives no metadata"),
    ("another issuer", change("/.well-known/", issuer="https://other.example"), "issuer", "https://other.example"),
    ("an issuer with a slash", change("/.well-known/", issuer="http://127.0.0.1/"), "issuer", "was asked for at"),
    ("one place that says otherwise", change(OAUTH, issuer="https://o.example"), "metadata in both places", "same"),
    ("one place that is not there", answer(OAUTH, 404), "metadata in both places", "status 404"),
    (
        "an endpoint elsewhere",
        change("/.well-known/", token_endpoint="https://o.example/token"),
        "endpoints",
        "token_endpoint is https://o.example/token, elsewhere",
    ),
    ("an endpoint that fails", answer("/oauth2/revoke", 500), "endpoints", "revocation_endpoint answers 500"),
    ("an endpoint behind the gateway", answer("/oauth2/revoke", 403, GATEWAY), "endpoints", "answers 403"),
    ("no keys", answer(KEYS, 200, "[]"), "keys", "no JWK Set"),
    ("keys that are none", answer(KEYS, 200, '{"keys":[1]}'), "keys", "no JWK Set"),
    ("a key without an id", key(kid=None), "keys", "has no kid"),
    ("a key without an algorithm", key(alg=None), "keys", "has no alg"),
    ("a key without a use", key(use=None), "keys", "has no use"),
    ("a private key", key(d="AQAB"), "keys", "PRIVATE"),
    ("a key that is broken", key(n="!"), "keys", "cannot be read"),
    ("a key that is too short", key(n="x" * 171), "keys", "shorter than 2048 bits"),
    (
        "an algorithm without a key",
        change(OPENID, id_token_signing_alg_values_supported=["RS256", "RS512"]),
        "keys",
        "RS512 is advertised without a key",
    ),
    ("no nosniff", drop(OPENID, "X-Content-Type-Options"), "security headers", "lacks X-Content-Type-Options"),
    ("no referrer policy", drop("authorize", "Referrer-Policy"), "security headers", "the page lacks Referrer-Policy"),
    (
        "a page that can be framed",
        header("authorize", "Content-Security-Policy", "default-src 'self'"),
        "security headers",
        "framed",
    ),
    ("a page that is kept", header("authorize", "Cache-Control", "max-age=60"), "security headers", "stored"),
    ("a clock that is ahead", header(OPENID, "Date", "Fri, 20 Nov 2099 12:00:00 GMT"), "clock", "ahead of"),
    ("a clock that is behind", header(OPENID, "Date", "Fri, 20 Nov 2020 12:00:00 GMT"), "clock", "behind"),
    (
        "an open redirector",
        answer("nobody-of-the-doctor", 302, "", Location="https://doctor.invalid/callback"),
        "unknown client",
        "open redirector",
    ),
    ("an unknown client that is let in", answer("nobody-of-the-doctor", 200), "unknown client", "status 200"),
    ("a token error with another status", answer("/oauth2/token", 400), "token errors", "answers 400"),
    ("a token error that is kept", drop("/oauth2/token", "Cache-Control"), "token errors", "a cache may store it"),
    ("a token error that is no JSON", header("/oauth2/token", "Content-Type", "text/html"), "token errors", "not JSON"),
    ("anything for everybody", answer("finds-nothing", 200), "unknown address", "status 200"),
    ("no challenge", drop("userinfo", "Www-Authenticate"), "WWW-Authenticate", "without WWW-Authenticate"),
    ("keys that no page can read", drop(KEYS, "Access-Control-Allow-Origin"), "cross-origin", "cannot read the keys"),
    (
        "cookies across origins",
        header(KEYS, "Access-Control-Allow-Credentials", "true"),
        "cross-origin",
        "cookies are let",
    ),
    ("a server that is ill", answer("/healthz", 503), "health", "answers 503"),
    ("a deep check for everybody", answer("deep=1", 200), "deep health", "answers strangers"),
]


@pytest.mark.parametrize(("what", "spoil", "name", "said"), FAULTS, ids=[what for what, _, _, _ in FAULTS])
def test_a_fault_is_found_from_outside(between: Between, what: str, spoil: Spoil, name: str, said: str) -> None:
    between.spoil = spoil
    findings = check(between.url)
    found = one(findings, name)
    assert found.ok is False
    assert said in found.detail
    assert found.fix
    assert name in names(findings)


def test_the_issuer_in_a_redirect_is_looked_at_with_a_registered_client(between: Between, site: Site) -> None:
    store, client = site.server.store, site.client()
    assert one(check(between.url, store), "issuer in redirects").ok
    between.spoil = header("prompt=none", "Location", "https://client.example.com/cb?error=login_required&state=doctor")
    found = one(check(between.url, store), "issuer in redirects")
    assert "iss is None" in found.detail
    between.spoil = answer("prompt=none", 400)
    assert one(check(between.url, store), "issuer in redirects").ok is False
    between.spoil = lambda _: None
    store.clients.put(replace(client.record, disabled_at=1))
    assert one(check(between.url, store), "issuer in redirects").ok is None


def test_what_a_rest_api_does_is_explained_and_no_fault(between: Between) -> None:
    def rest(spoiled: Spoiled) -> None:
        if value := spoiled.headers.pop("Www-Authenticate", None):
            spoiled.headers["X-Amzn-Remapped-Www-Authenticate"] = value
        if spoiled.status == 404:
            spoiled.status, spoiled.body = 403, GATEWAY

    between.spoil = rest
    findings = check(between.url)
    assert names(findings) == []
    assert "renames WWW-Authenticate" in one(findings, "WWW-Authenticate").detail
    assert "answered by the gateway itself" in one(findings, "unknown address").detail


def test_what_a_stage_in_the_path_makes_impossible_is_said(site_with: Callable[..., Site]) -> None:
    staged = Between()
    site = site_with(issuer=f"{staged.url}/api")
    staged.target = f"http://127.0.0.1:{site.port}"

    def stage(spoiled: Spoiled) -> None:
        if not spoiled.path.startswith("/api/"):
            spoiled.status, spoiled.body = 403, GATEWAY

    class Stripped(str):
        def __add__(self, path: str) -> str:
            return str(self) + path.removeprefix("/api")

    staged.target, staged.spoil = Stripped(staged.target), stage
    try:
        findings = check(f"{staged.url}/api")
        assert names(findings) == []
        found = one(findings, "metadata in both places")
        assert found.ok is None
        assert f"{staged.url}/.well-known/oauth-authorization-server/api (RFC 8414 3)" in found.detail
        assert f"{staged.url}/api/.well-known/openid-configuration, which works" in found.detail
    finally:
        staged.close()


def test_where_nobody_answers_that_is_all_there_is_to_say(site: Site) -> None:
    (found,) = check("http://127.0.0.1:9")
    assert (found.name, found.ok) == ("reachable", False)
    assert "Connection refused" in found.detail


def test_a_server_that_falls_silent_midway_stops_nothing(between: Between) -> None:
    def cut(spoiled: Spoiled) -> None:
        if "jwks" in spoiled.path:
            raise ConnectionError

    between.server.handle_error = lambda *_: None  # type: ignore[method-assign]
    between.spoil = cut
    findings = check(between.url)
    assert "keys" in names(findings)
    assert "No answer" in one(findings, "keys").detail
    assert one(findings, "health").ok


# ---- TLS


@pytest.fixture(scope="module")
def authority() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@contextmanager
def over_tls(
    between: Between, private: ec.EllipticCurvePrivateKey, days: float, folder: Path
) -> Iterator[ssl.SSLContext]:
    """Put the server behind TLS, with a certificate good for so many days: what trusts it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
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
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, pem)
    between.server.socket = server.wrap_socket(between.server.socket, server_side=True)
    between.server.handle_error = lambda *_: None  # type: ignore[method-assign]
    yield ssl.create_default_context(cafile=str(certificate))


@pytest.fixture
def secure(site_with: Callable[..., Site]) -> Iterator[Between]:
    """A server between, whose site believes itself behind https."""
    made = Between()
    site = site_with(issuer=made.url.replace("http:", "https:"))
    made.target = f"http://127.0.0.1:{site.port}"
    yield made
    made.close()


@pytest.mark.parametrize(("days", "ok"), [(90, True), (5, False)])
def test_the_days_of_the_certificate_are_counted(
    secure: Between, authority: ec.EllipticCurvePrivateKey, tmp_path: Path, days: int, ok: bool
) -> None:
    with over_tls(secure, authority, days + 0.5, tmp_path) as trust:
        findings = check(secure.url.replace("http:", "https:"), trust=trust)
    assert names(findings) == ([] if ok else ["TLS"])
    assert f"{days} " in one(findings, "TLS").detail


def test_without_hsts_https_is_not_well(secure: Between, authority: ec.EllipticCurvePrivateKey, tmp_path: Path) -> None:
    secure.spoil = drop("", "Strict-Transport-Security")
    with over_tls(secure, authority, 90, tmp_path) as trust:
        findings = check(secure.url.replace("http:", "https:"), trust=trust)
    assert names(findings) == ["security headers"]


def test_a_certificate_that_nobody_trusts_is_said_to_be_one(
    secure: Between, authority: ec.EllipticCurvePrivateKey, tmp_path: Path
) -> None:
    with over_tls(secure, authority, 90, tmp_path):
        (found,) = check(secure.url.replace("http:", "https:"))
    assert "certificate is not valid here" in found.detail


# ---- the command


def test_the_command_tells_people_and_programs(site: Site, between: Between, operate: Operate) -> None:
    printed = operate("doctor", between.url, "--outside")
    assert printed.code == 0
    assert "✓ issuer " in printed.out
    assert printed.out.endswith(" not judged, for the reasons given.\n")
    between.spoil = drop("userinfo", "Www-Authenticate")
    printed = operate("doctor", between.url, "--outside")
    assert printed.code == 1
    assert "✗ WWW-Authenticate " in printed.out
    assert "→ The HTTP API's response mapping" in printed.out
    told = json.loads(operate("doctor", between.url, "--outside", "--json").out)
    assert [set(finding) for finding in told] == [{"name", "ok", "detail", "fix"}] * len(told)
    assert [finding["name"] for finding in told if finding["ok"] is False] == ["WWW-Authenticate"]


def test_what_a_server_says_of_itself_does_nothing_to_the_terminal(between: Between, operate: Operate) -> None:
    between.spoil = change("/.well-known/", issuer="https://x\x1b[2J\u202e\x9b.example")
    printed = operate("doctor", between.url, "--outside")
    assert "The metadata says https://x\\u001b[2J\\u202e\\u009b.example" in printed.out
    for out in (printed.out, operate("doctor", between.url, "--outside", "--json").out):
        assert not HARM.search(out)


def test_the_token_of_the_operator_comes_from_the_environment(
    between: Between, operate: Operate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNET_OPERATOR_TOKEN", TOKEN)
    assert "✓ deep health" in operate("doctor", between.url, "--outside").out
    monkeypatch.setenv("SIGNET_OPERATOR_TOKEN", "another")
    printed = operate("doctor", between.url, "--outside")
    assert "does not take the token" in printed.out
    assert "another" not in printed.out


@pytest.mark.parametrize("arguments", [["--outside"], ["id.example.com", "--outside"], ["https://[", "--outside"]])
def test_a_wrong_call_is_one_line(operate: Operate, arguments: list[str]) -> None:
    printed = operate("doctor", *arguments)
    assert (printed.code, len(printed.err.splitlines())) == (2, 1)


def test_where_nothing_can_be_judged_that_is_not_well(operate: Operate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "of-nobody")
    printed = operate("doctor", "--stage", "nowhere")
    assert printed.code == 1
    assert printed.out.endswith("\nNothing could be judged.\n")


def test_a_redirect_instead_of_metadata_is_shown_and_not_followed(between: Between) -> None:
    between.spoil = answer("openid-configuration", 301, "", Location="https://id.example.com/")
    found = check(between.url)[-1]
    assert (found.name, found.ok) == ("discovery", False)
    assert "status 301, to https://id.example.com/" in found.detail
