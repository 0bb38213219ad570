"""The settings that a server starts with, and the issuer that it takes from its gateway when none is set."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

import app
from chalicelib import web
from chalicelib.server import AuthorizationServer
from chalicelib.settings import Settings, SettingsError
from tests.browser import Answer
from tests.gateways import FRONTS, Front, FrontBrowser, Handler
from tests.site import Site

IN_LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "signet"}

# ---- what a setting may be

_LIFETIMES = [
    ("SIGNET_AUTHORIZATION_CODE_LIFETIME", 10, 600),
    ("SIGNET_ACCESS_TOKEN_LIFETIME", 60, 86400),
    ("SIGNET_REFRESH_TOKEN_LIFETIME", 60, 31622400),
    ("SIGNET_REFRESH_TOKEN_ABSOLUTE_LIFETIME", 3600, 316224000),
    ("SIGNET_REFRESH_TOKEN_RETRY_WINDOW", 0, 60),
    ("SIGNET_SESSION_IDLE_LIFETIME", 60, 31622400),
    ("SIGNET_REQUEST_LIFETIME", 60, 3600),
    ("PORT", 1, 65535),
]


@pytest.mark.spec("RFC 6749 §4.1.2 c")
@pytest.mark.parametrize(("name", "low", "high"), _LIFETIMES)
def test_a_number_must_be_whole_and_within_its_bounds(name: str, low: int, high: int) -> None:
    for wrong in (low - 1, high + 1, -1, "1.5", "1e3", "ten", " 60", "60 ", "0x3c", "٦٠", "+60", "1_0", "9" * 5000):
        with pytest.raises(SettingsError) as refusal:
            Settings.from_environ({name: str(wrong)})
        assert name in str(refusal.value)
        assert f"from {low} to {high}" in str(refusal.value)
    for right in (low, high):
        Settings.from_environ({name: str(right)})
    Settings.from_environ({name: ""})


@pytest.mark.parametrize("stage", ["", " ", "a b", "a_b", "é", "a/b", "x" * 33, "-", "a\n"])
def test_a_stage_must_fit_into_the_name_of_a_table(stage: str) -> None:
    with pytest.raises(SettingsError, match=r"SIGNET_STAGE is .* letters, digits and hyphens"):
        Settings.from_environ({"SIGNET_STAGE": stage})


@pytest.mark.spec("OpenID Connect Discovery §3")
@pytest.mark.spec("RFC 8414 §2")
@pytest.mark.parametrize(
    "issuer",
    [
        "example.com",
        "http://example.com",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.2",
        "ftp://example.com",
        "https://",
        "https:///path",
        "https://:443",
        "https://:",
        "https://example.com/",
        "https://example.com/auth/",
        "https://example.com?",
        "https://example.com?a=b",
        "https://example.com#",
        "https://example.com#a",
        "https://user@example.com",
        "https://user:password@example.com",
        "https://example.com:99999",
        "https://example.com:port",
        "https://[::1",
        "https://exämple.com",
        "https://exa mple.com",
        "https://exam\nple.com",
        "https://example.com\r\n",
        " https://example.com",
        'https://example.com/"',
        "https://example.com/<b>",
        "https://example.com/a/../b",
        "https://example.com//a",
        "HTTPS://example.com",
        "Http://127.0.0.1",
        "https://example.com\\a",
        "https://example.com/%zz",
    ],
)
def test_an_issuer_must_be_an_https_url(issuer: str) -> None:
    with pytest.raises(SettingsError, match=r"SIGNET_ISSUER is .*must be an https URL"):
        Settings.from_environ({"SIGNET_ISSUER": issuer})


@pytest.mark.parametrize(
    "issuer",
    [
        "https://example.com",
        "https://example.com:8443",
        "https://example.com/auth",
        "https://example.com/a/b-c_d.e~f",
        "https://abc123.execute-api.us-east-1.amazonaws.com/dev",
        "https://[2001:db8::1]:8443",
        "http://127.0.0.1",
        "http://127.0.0.1:8000",
        "http://[::1]",
        "http://[::1]:8000",
        "http://localhost:8000",
    ],
)
def test_an_issuer_is_taken_as_it_is(issuer: str) -> None:
    settings = Settings.from_environ({"SIGNET_ISSUER": issuer})
    assert settings.issuer == issuer
    assert settings.secure == issuer.startswith("https:")


@pytest.mark.parametrize("name", ["SIGNET_ISSUER", "SIGNET_LOGIN_URL", "SIGNET_DYNAMODB_ENDPOINT"])
@pytest.mark.parametrize("host", ["[1]", "[::1::2]", "[:::]", "[127.0.0.1]"])
def test_what_stands_in_brackets_is_an_ipv6_address(name: str, host: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_environ({name: f"https://{host}"})


@pytest.mark.parametrize("name", [" ", "\u200b\u2060\xa0", "x" * 201, "a\nb", "a\x1b[2Jb", "\u202eelpmaxe", "\udcff"])
def test_the_name_of_the_server_is_one_line_that_people_can_read(name: str) -> None:
    with pytest.raises(SettingsError, match=r"SIGNET_NAME is .*; it must have 1 to 200 printable characters"):
        Settings.from_environ({"SIGNET_NAME": name})
    assert Settings.from_environ({"SIGNET_NAME": "\u200fخدمات & <b>Söhne</b> 👍" * 8}).name.endswith("👍")


@pytest.mark.parametrize(
    ("url", "listed", "origins"),
    [
        ("https://Login.Example.com/in", "", ["https://login.example.com"]),
        ("https://login.example.com:443/", "", ["https://login.example.com"]),
        ("http://127.0.0.1:080/", "", ["http://127.0.0.1"]),
        ("http://[::1]:8081/", "", ["http://[::1]:8081"]),
        (
            "https://a.example/",
            "https://B.example:443 https://b.example:0444",
            ["https://b.example", "https://b.example:444"],
        ),
    ],
)
def test_a_login_application_may_be_written_in_any_way_that_names_its_origin(
    url: str, listed: str, origins: list[str]
) -> None:
    """A browser has one way to write an origin (RFC 6454 section 6.2), and that is compared."""
    settings = Settings.from_environ({"SIGNET_LOGIN_URL": url, "SIGNET_LOGIN_ORIGINS": listed})
    assert list(settings.login_origins) == origins


def test_in_lambda_the_issuer_may_be_the_gateways_and_the_database_is_awss_own() -> None:
    assert Settings.from_environ({"AWS_LAMBDA_FUNCTION_NAME": "signet"}).issuer == ""
    settings = Settings.from_environ({"AWS_LAMBDA_FUNCTION_NAME": "signet", "SIGNET_ISSUER": "https://a.example"})
    assert (settings.embedded, settings.dynamodb_endpoint) == (False, None)


def test_elsewhere_the_database_is_embedded_unless_another_is_named() -> None:
    assert Settings.from_environ({}).embedded
    assert Settings.from_environ({"PORT": "9000"}).issuer == "http://127.0.0.1:9000"
    settings = Settings.from_environ({"SIGNET_DYNAMODB_ENDPOINT": "http://127.0.0.1:8001"})
    assert (settings.embedded, settings.dynamodb_endpoint) == (False, "http://127.0.0.1:8001")


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:8001", "ftp://127.0.0.1", "http://", "http://a b", "é", "http://a:port"]
)
def test_an_endpoint_must_be_a_url(endpoint: str) -> None:
    with pytest.raises(SettingsError, match=r"SIGNET_DYNAMODB_ENDPOINT is .*must be an http"):
        Settings.from_environ({"SIGNET_DYNAMODB_ENDPOINT": endpoint})


# ---- keys and the operator's token


def test_private_keys_lie_in_the_ring_unless_kms_is_to_have_them() -> None:
    assert Settings.from_environ({}).signing == "ring"
    assert Settings.from_environ({"SIGNET_SIGNING": ""}).signing == "ring"
    assert Settings.from_environ({"SIGNET_SIGNING": "ring"}).signing == "ring"
    assert Settings.from_environ({"SIGNET_SIGNING": "kms"}).signing == "kms"


@pytest.mark.parametrize("wrong", ["KMS", " kms", "kms\n", "both", "alias/signet", "é", "0"])
def test_nothing_else_signs(wrong: str) -> None:
    with pytest.raises(SettingsError, match=r"SIGNET_SIGNING is .*; it must be one of: ring, kms"):
        Settings.from_environ({"SIGNET_SIGNING": wrong})


def test_the_ring_is_sealed_by_the_key_of_its_stage_unless_another_is_named() -> None:
    assert Settings.from_environ({}).kms_key_id == "alias/signet-local"
    assert Settings.from_environ({"SIGNET_STAGE": "prod"}).kms_key_id == "alias/signet-prod"
    assert Settings.from_environ({"SIGNET_STAGE": "prod", "SIGNET_KMS_KEY_ID": ""}).kms_key_id == "alias/signet-prod"
    for name in ("alias/mine", "mrk-1234abcd", "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab"):
        assert Settings.from_environ({"SIGNET_KMS_KEY_ID": name}).kms_key_id == name
    for wrong in (" ", "alias/my key", "é", "alias/mine\n"):
        with pytest.raises(SettingsError, match=r"SIGNET_KMS_KEY_ID is .*; it must be the id, alias or ARN"):
            Settings.from_environ({"SIGNET_KMS_KEY_ID": wrong})


HASH = hashlib.sha256(b"the token").hexdigest()


def test_the_operators_token_is_known_by_its_hash_or_not_at_all() -> None:
    assert Settings.from_environ({"SIGNET_OPERATOR_TOKEN_HASH": HASH}).operator_token_hash == HASH
    for none in ({}, {"SIGNET_OPERATOR_TOKEN_HASH": ""}):
        assert Settings.from_environ(none).operator_token_hash is None


@pytest.mark.parametrize(
    "wrong", [HASH[1:], HASH + "0", HASH.upper(), "g" + HASH[1:], HASH + "\n", "hunter2", "٠" * 64]
)
def test_what_is_no_sha_256_is_refused_and_not_repeated(wrong: str) -> None:
    with pytest.raises(SettingsError, match="SIGNET_OPERATOR_TOKEN_HASH must be the SHA-256") as refusal:
        Settings.from_environ({"SIGNET_OPERATOR_TOKEN_HASH": wrong})
    assert wrong not in str(refusal.value)  # somebody may have put the token itself there


def test_the_log_carries_metrics_in_lambda_only() -> None:
    assert Settings.from_environ(IN_LAMBDA).metrics
    assert not Settings.from_environ({}).metrics


@pytest.mark.parametrize("name", ["SIGNET_ISSUER", "SIGNET_STAGE", "SIGNET_SIGNING", "SIGNET_REQUEST_LIFETIME"])
def test_in_lambda_a_wrong_setting_is_as_wrong(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_environ(IN_LAMBDA | {name: "http://a b"})


# ---- the issuer, when none is set

METADATA = "/.well-known/openid-configuration"


@pytest.fixture
def handler(site: Site) -> Handler:
    """The function as Lambda starts it without SIGNET_ISSUER, on the tables of the tests."""
    settings = Settings.from_environ(IN_LAMBDA | {"SIGNET_STAGE": site.settings.stage, "AWS_REGION": "us-east-1"})
    assert settings.issuer == ""
    # The metrics belong to test_audit: they would change the log for good.
    server = AuthorizationServer(replace(settings, metrics=False), site.server.store, site.server.keys)
    return web.build(app.JSON_ROUTES, app.PAGE_ROUTES, lambda: server)[1]


def asked(
    site: Site, front: Front, handler: Handler, headers: list[tuple[str, str]] | None = None, **context: Any
) -> Answer:
    """The metadata through a front, with some of its event's requestContext replaced; None leaves a member out."""

    def replaced(event: dict[str, Any], _context: Any) -> dict[str, Any]:
        members = {n: value for n, value in {**event["requestContext"], **context}.items() if value is not None}
        return handler({**event, "requestContext": members}, None)

    return FrontBrowser(site, front, replaced).deliver("GET", METADATA, headers or [])


@pytest.mark.parametrize("front", FRONTS, ids=lambda front: front.name)
def test_the_issuer_is_the_domain_of_each_gateway_with_its_stage(site: Site, handler: Handler, front: Front) -> None:
    for domain in ("a.example", front.domain, "b.example"):
        issuer = asked(site, front, handler, domainName=domain).json["issuer"]
        assert issuer == front.url.replace(front.domain, domain)


HOSTILE = [
    "evil.example/",
    "evil.example/a",
    "evil.example?a",
    "evil.example#a",
    "evil.example:443",
    "user@evil.example",
    "evil.example\r\nX-Evil: 1",
    "evil.example\n",
    "EVIL.EXAMPLE",
    "evil example",
    "évil.example",
    "<b>evil</b>",
    "a" * 254,
    "",
    None,
]


@pytest.mark.parametrize("front", FRONTS, ids=lambda front: front.name)
@pytest.mark.parametrize("domain", HOSTILE, ids=ascii)
def test_without_an_honest_domain_there_is_no_issuer_and_only_the_log_says_why(
    site: Site, handler: Handler, front: Front, domain: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    named = [(name, "evil.example") for name in ("Host", "X-Forwarded-Host", "X-Forwarded-Server", "X-Original-Host")]
    forged = [*named, ("X-Forwarded-Proto", "http"), ("Forwarded", "host=evil.example;proto=http")]
    answer = asked(site, front, handler, forged, domainName=domain)
    assert answer.status == 500
    assert answer.json == {"error": "server_error", "error_description": "The server has made a mistake."}
    assert "evil" not in str(answer.headers)
    line = json.loads(caplog.records[-1].getMessage())
    assert (line["level"], line["status"], line["outcome"]) == ("ERROR", 500, "server_error")
    assert line["stage"] == site.settings.stage
    assert line["detail"] == "SIGNET_ISSUER must be set: this gateway does not tell its address"
    # It is the request that lacks something, not the server: the next one is answered.
    assert asked(site, front, handler, forged).json["issuer"] == front.url


def test_an_issuer_that_is_set_needs_no_domain(site: Site) -> None:
    for front in FRONTS:
        answer = asked(site, front, site.http_handler, domainName=None)
        assert answer.json["issuer"] == site.settings.issuer
