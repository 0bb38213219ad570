"""Settings from environment variables, and the issuer that is derived from the gateway when none is set."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

import app
from chalicelib import web
from chalicelib.protocol.authentication_context import PASSWORD as PASSWORD_ACR
from chalicelib.protocol.open_clients import GRANT_TYPES, REDIRECTS
from chalicelib.server import AuthorizationServer
from chalicelib.settings import Settings, SettingsError
from tests.support.browser import Answer
from tests.support.gateways import GATEWAYS, Gateway, GatewayBrowser, Handler
from tests.support.site import Site

LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "signet"}

# ---- valid and invalid values

NUMBERS = [
    ("SIGNET_AUTHORIZATION_CODE_LIFETIME", 10, 600),
    ("SIGNET_ACCESS_TOKEN_LIFETIME", 60, 86400),
    ("SIGNET_REFRESH_TOKEN_LIFETIME", 60, 31622400),
    ("SIGNET_REFRESH_TOKEN_ABSOLUTE_LIFETIME", 3600, 316224000),
    ("SIGNET_REFRESH_TOKEN_RETRY_WINDOW", 0, 300),
    ("SIGNET_SESSION_IDLE_LIFETIME", 60, 31622400),
    ("SIGNET_SESSION_ABSOLUTE_LIFETIME", 60, 31622400),
    ("SIGNET_REQUEST_LIFETIME", 60, 3600),
    ("PORT", 1, 65535),
]
NOT_NUMBERS = (-1, "1.5", "1e3", "ten", " 60", "60 ", "0x3c", "٦٠", "+60", "1_0", "9" * 5000)


@pytest.mark.spec("RFC 6749 §4.1.2 c")
@pytest.mark.parametrize(("name", "minimum", "maximum"), NUMBERS)
def test_number_must_be_an_integer_within_its_bounds(name: str, minimum: int, maximum: int) -> None:
    for invalid in (minimum - 1, maximum + 1, *NOT_NUMBERS):
        with pytest.raises(SettingsError) as error_info:
            Settings.from_environ({name: str(invalid)})
        assert name in str(error_info.value)
        assert f"from {minimum} to {maximum}" in str(error_info.value)
    for valid in (minimum, maximum):
        Settings.from_environ({name: str(valid)})
    Settings.from_environ({name: ""})


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("SIGNET_KEEP_SIGNED_IN", "yes", "one of: on, off"),
        ("SIGNET_EMAIL_CODE_SIGN_IN", "yes", "one of: off, on"),
        ("SIGNET_PROFILE_CLAIMS", "name email", "it must be `none`, or claims of these"),
        ("SIGNET_PROFILE_CLAIMS", "none name", "it must be `none`, or claims of these"),
        ("SIGNET_PROFILE_CLAIMS", "preferred_username", "it must be `none`, or claims of these"),
        ("SIGNET_LANGUAGE", "de-AT", "one of: en, de, fr, es, ja, ar"),
        ("SIGNET_LANGUAGE", "DE", "one of: en, de, fr, es, ja, ar"),
        ("SIGNET_DELETION_GRACE_DAYS", "366", "a whole number from 0 to 365"),
        ("SIGNET_DELETION_GRACE_DAYS", "-1", "a whole number from 0 to 365"),
    ],
)
def test_invalid_setting_of_the_account_pages_is_rejected(name: str, value: str, allowed: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} .*{allowed}"):
        Settings.from_environ({name: value})


@pytest.mark.parametrize("mode", ["on", "OPEN", "closed", "token "])
def test_mode_of_client_registration_is_one_of_three(mode: str) -> None:
    with pytest.raises(SettingsError, match=r"SIGNET_CLIENT_REGISTRATION is .* one of: off, token, open"):
        Settings.from_environ({"SIGNET_CLIENT_REGISTRATION": mode})


@pytest.mark.parametrize("mode", ["on", "OFF", "none", "required "])
def test_mode_of_the_second_factor_is_one_of_three(mode: str) -> None:
    with pytest.raises(SettingsError, match=r"SIGNET_MFA is .* one of: optional, off, required"):
        Settings.from_environ({"SIGNET_MFA": mode})


@pytest.mark.parametrize(
    "day", [" ", "2027-3-1", "20270301", "2027-02-30", "2027-03-01T00:00", "1999-01-01", "tomorrow"]
)
def test_day_from_which_a_second_factor_is_required_is_a_date(day: str) -> None:
    with pytest.raises(SettingsError, match=r"SIGNET_MFA_REQUIRED_FROM is .* a date such as 2027-03-01"):
        Settings.from_environ({"SIGNET_MFA": "required", "SIGNET_MFA_REQUIRED_FROM": day})
    right = {"SIGNET_MFA": "required", "SIGNET_MFA_REQUIRED_FROM": "2027-03-01"}
    assert Settings.from_environ(right).authentication_policy.required_from == 1_803_859_200


@pytest.mark.parametrize("mode", ["", "optional", "off"])
def test_day_without_the_requirement_is_rejected(mode: str) -> None:
    with pytest.raises(SettingsError, match=r"SIGNET_MFA_REQUIRED_FROM is .* needs SIGNET_MFA=required"):
        Settings.from_environ({"SIGNET_MFA": mode, "SIGNET_MFA_REQUIRED_FROM": "2027-03-01"})


@pytest.mark.parametrize("acr", [" ", "a b", "é", "a\n", 'a"', "x" * 201, "phr", PASSWORD_ACR])
def test_acr_of_two_factors_is_no_other_one(acr: str) -> None:
    with pytest.raises(SettingsError, match=r"SIGNET_MFA_ACR is .* without spaces"):
        Settings.from_environ({"SIGNET_MFA_ACR": acr})
    assert Settings.from_environ({"SIGNET_MFA_ACR": "urn:x"}).authentication_policy.acr == "urn:x"


@pytest.mark.parametrize("stage", ["", " ", "a b", "a_b", "é", "a/b", "x" * 33, "-", "a\n"])
def test_stage_must_be_valid_in_table_names(stage: str) -> None:
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
def test_issuer_must_be_an_https_url(issuer: str) -> None:
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
def test_valid_issuer_is_used_unchanged(issuer: str) -> None:
    settings = Settings.from_environ({"SIGNET_ISSUER": issuer})
    assert settings.issuer == issuer
    assert settings.secure == issuer.startswith("https:")


@pytest.mark.parametrize("name", ["SIGNET_ISSUER", "SIGNET_LOGIN_URL", "SIGNET_DYNAMODB_ENDPOINT"])
@pytest.mark.parametrize("host", ["[1]", "[::1::2]", "[:::]", "[127.0.0.1]"])
def test_bracketed_host_must_be_an_ipv6_address(name: str, host: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_environ({name: f"https://{host}"})


@pytest.mark.parametrize("name", [" ", "\u200b\u2060\xa0", "x" * 201, "a\nb", "a\x1b[2Jb", "\u202eelpmaxe", "\udcff"])
def test_server_name_must_be_printable_text_in_one_line(name: str) -> None:
    with pytest.raises(SettingsError, match=r"SIGNET_NAME is .*; it must have 1 to 200 printable characters"):
        Settings.from_environ({"SIGNET_NAME": name})
    assert Settings.from_environ({"SIGNET_NAME": "\u200fخدمات & <b>Söhne</b> 👍" * 8}).name.endswith("👍")


@pytest.mark.parametrize(
    ("url", "allowed_origins", "origins"),
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
def test_login_origins_are_normalized(url: str, allowed_origins: str, origins: list[str]) -> None:
    """They are compared with the Origin header, which has one form per origin (RFC 6454 section 6.2)."""
    settings = Settings.from_environ({"SIGNET_LOGIN_URL": url, "SIGNET_LOGIN_ORIGINS": allowed_origins})
    assert list(settings.login_origins) == origins


def test_in_lambda_issuer_is_optional_and_the_database_is_not_embedded() -> None:
    assert Settings.from_environ({"AWS_LAMBDA_FUNCTION_NAME": "signet"}).issuer == ""
    settings = Settings.from_environ({"AWS_LAMBDA_FUNCTION_NAME": "signet", "SIGNET_ISSUER": "https://a.example"})
    assert (settings.embedded, settings.dynamodb_endpoint) == (False, None)


def test_outside_lambda_the_database_is_embedded_by_default() -> None:
    assert Settings.from_environ({}).embedded
    assert Settings.from_environ({"PORT": "9000"}).issuer == "http://localhost:9000"
    settings = Settings.from_environ({"SIGNET_DYNAMODB_ENDPOINT": "http://127.0.0.1:8001"})
    assert (settings.embedded, settings.dynamodb_endpoint) == (False, "http://127.0.0.1:8001")


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:8001", "ftp://127.0.0.1", "http://", "http://a b", "é", "http://a:port"]
)
def test_dynamodb_endpoint_must_be_a_url(endpoint: str) -> None:
    with pytest.raises(SettingsError, match=r"SIGNET_DYNAMODB_ENDPOINT is .*must be an http"):
        Settings.from_environ({"SIGNET_DYNAMODB_ENDPOINT": endpoint})


# ---- keys and the operator's token


def test_private_keys_are_in_the_ring_by_default() -> None:
    assert Settings.from_environ({}).signing == "ring"
    assert Settings.from_environ({"SIGNET_SIGNING": ""}).signing == "ring"
    assert Settings.from_environ({"SIGNET_SIGNING": "ring"}).signing == "ring"
    assert Settings.from_environ({"SIGNET_SIGNING": "kms"}).signing == "kms"


@pytest.mark.parametrize("invalid", ["KMS", " kms", "kms\n", "both", "alias/signet", "é", "0"])
def test_signing_must_be_ring_or_kms(invalid: str) -> None:
    with pytest.raises(SettingsError, match=r"SIGNET_SIGNING is .*; it must be one of: ring, kms"):
        Settings.from_environ({"SIGNET_SIGNING": invalid})


def test_kms_key_defaults_to_the_alias_of_the_stage() -> None:
    assert Settings.from_environ({}).kms_key_id == "alias/signet-local"
    assert Settings.from_environ({"SIGNET_STAGE": "prod"}).kms_key_id == "alias/signet-prod"
    assert Settings.from_environ({"SIGNET_STAGE": "prod", "SIGNET_KMS_KEY_ID": ""}).kms_key_id == "alias/signet-prod"
    for name in ("alias/mine", "mrk-1234abcd", "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab"):
        assert Settings.from_environ({"SIGNET_KMS_KEY_ID": name}).kms_key_id == name
    for invalid in (" ", "alias/my key", "é", "alias/mine\n"):
        with pytest.raises(SettingsError, match=r"SIGNET_KMS_KEY_ID is .*; it must be the id, alias or ARN"):
            Settings.from_environ({"SIGNET_KMS_KEY_ID": invalid})


HASH = hashlib.sha256(b"the token").hexdigest()


def test_operator_token_hash_is_optional() -> None:
    assert Settings.from_environ({"SIGNET_OPERATOR_TOKEN_HASH": HASH}).operator_token_hash == HASH
    for environ in ({}, {"SIGNET_OPERATOR_TOKEN_HASH": ""}):
        assert Settings.from_environ(environ).operator_token_hash is None


@pytest.mark.parametrize(
    "invalid", [HASH[1:], HASH + "0", HASH.upper(), "g" + HASH[1:], HASH + "\n", "hunter2", "٠" * 64]
)
def test_operator_token_hash_must_be_a_sha_256_and_is_not_shown_in_the_error(invalid: str) -> None:
    with pytest.raises(SettingsError, match="SIGNET_OPERATOR_TOKEN_HASH must be the SHA-256") as error_info:
        Settings.from_environ({"SIGNET_OPERATOR_TOKEN_HASH": invalid})
    assert invalid not in str(error_info.value)  # it may be the token itself


def test_metrics_are_on_only_in_lambda() -> None:
    assert Settings.from_environ(LAMBDA).metrics
    assert not Settings.from_environ({}).metrics


@pytest.mark.parametrize("name", ["SIGNET_ISSUER", "SIGNET_STAGE", "SIGNET_SIGNING", "SIGNET_REQUEST_LIFETIME"])
def test_invalid_setting_is_rejected_in_lambda_too(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_environ(LAMBDA | {name: "http://a b"})


# ---- the issuer, when none is set

METADATA = "/.well-known/openid-configuration"


@pytest.fixture
def handler(site: Site) -> Handler:
    """The Lambda handler of a server without SIGNET_ISSUER, on the tables of the tests."""
    settings = Settings.from_environ(LAMBDA | {"SIGNET_STAGE": site.settings.stage, "AWS_REGION": "us-east-1"})
    assert settings.issuer == ""
    # Metrics would change the log for the rest of the process (see test_log.py).
    server = AuthorizationServer(replace(settings, metrics=False), site.server.store, site.server.keys, site.clock)
    return web.build(app.JSON_ROUTES, app.PAGE_ROUTES, lambda: server)[1]


def get_metadata(
    site: Site, gateway: Gateway, handler: Handler, headers: list[tuple[str, str]] | None = None, **context: Any
) -> Answer:
    """Request the metadata through a gateway; `context` replaces members of requestContext, None removes one."""

    def replaced(event: dict[str, Any], _context: Any) -> dict[str, Any]:
        members = {n: value for n, value in {**event["requestContext"], **context}.items() if value is not None}
        return handler({**event, "requestContext": members}, None)

    return GatewayBrowser(site, gateway, replaced).deliver("GET", METADATA, headers or [])


@pytest.mark.parametrize("gateway", GATEWAYS, ids=lambda gateway: gateway.name)
def test_issuer_is_derived_from_the_gateways_domain_and_stage(site: Site, handler: Handler, gateway: Gateway) -> None:
    for domain in ("a.example", gateway.domain, "b.example"):
        issuer = get_metadata(site, gateway, handler, domainName=domain).json["issuer"]
        assert issuer == gateway.url.replace(gateway.domain, domain)


INVALID_DOMAINS = [
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


@pytest.mark.parametrize("gateway", GATEWAYS, ids=lambda gateway: gateway.name)
@pytest.mark.parametrize("domain", INVALID_DOMAINS, ids=ascii)
def test_invalid_gateway_domain_is_a_server_error_explained_only_in_the_log(
    site: Site, handler: Handler, gateway: Gateway, domain: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    host_headers = [
        (name, "evil.example") for name in ("Host", "X-Forwarded-Host", "X-Forwarded-Server", "X-Original-Host")
    ]
    forged = [*host_headers, ("X-Forwarded-Proto", "http"), ("Forwarded", "host=evil.example;proto=http")]
    answer = get_metadata(site, gateway, handler, forged, domainName=domain)
    assert answer.status == 500
    assert answer.json == {
        "error": "server_error",
        "error_description": "The server encountered an unexpected condition.",
    }
    assert "evil" not in str(answer.headers)
    line = json.loads(caplog.records[-1].getMessage())
    assert (line["level"], line["status"], line["outcome"]) == ("ERROR", 500, "server_error")
    assert line["stage"] == site.settings.stage
    assert line["detail"] == "SIGNET_ISSUER must be set: this gateway does not tell its address"
    # The error concerns only that request: the next one succeeds.
    assert get_metadata(site, gateway, handler, forged).json["issuer"] == gateway.url


def test_configured_issuer_needs_no_gateway_domain(site: Site) -> None:
    for gateway in GATEWAYS:
        answer = get_metadata(site, gateway, site.http_handler, domainName=None)
        assert answer.json["issuer"] == site.settings.issuer


@pytest.mark.parametrize(
    ("environ", "suffix"),
    [
        ({}, ""),
        ({"PORT": "9000"}, "-9000"),
        ({"SIGNET_ISSUER": "http://localhost:9000/id"}, "-9000"),
        ({"SIGNET_ISSUER": "http://localhost"}, "-80"),
        ({"SIGNET_ISSUER": "https://a.example:9000"}, ""),
        ({"SIGNET_ISSUER": "http://localhost:9000", "SIGNET_STAGE": "prod"}, ""),
        ({"AWS_LAMBDA_FUNCTION_NAME": "signet"}, ""),
    ],
)
def test_cookies_of_local_servers_are_kept_apart_by_port(environ: dict[str, str], suffix: str) -> None:
    """Browsers send the cookies of a host to all its ports (RFC 6265 section 8.5)."""
    assert Settings.from_environ(environ).cookie_suffix == suffix


@pytest.mark.parametrize(
    "entry",
    [
        "*.example.com",
        "APP.example.com",
        "http://app.example.com/x",
        "https://app.example.com",
        "app.example.com/x",
        ",",
    ],
)
def test_hosts_of_documents_are_hosts_or_urls_of_documents(entry: str) -> None:
    with pytest.raises(SettingsError, match=r"SIGNET_CLIENT_DOCUMENT_HOSTS has .* must be hosts"):
        Settings.from_environ({"SIGNET_CLIENT_DOCUMENT_HOSTS": f"claude.ai {entry}"})


def test_hosts_of_documents_are_read() -> None:
    text = "claude.ai  127.0.0.1:8443 https://app.example.com/client claude.ai"
    settings = Settings.from_environ({"SIGNET_CLIENT_DOCUMENT_HOSTS": text})
    assert settings.client_document_hosts == ("claude.ai", "127.0.0.1:8443", "https://app.example.com/client")


@pytest.mark.parametrize("text", [" ", 'openid "x"', "openid é", "openid,profile\\"])
def test_scope_of_open_clients_must_be_scope_tokens(text: str) -> None:
    with pytest.raises(SettingsError, match="SIGNET_OPEN_CLIENT_SCOPE is"):
        Settings.from_environ({"SIGNET_OPEN_CLIENT_SCOPE": text})


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("REDIRECTS", "http", "it must be some of these, separated by spaces: https loopback private-use"),
        ("REDIRECTS", "https,loopback", "it must be some of these"),
        ("REDIRECTS", "https none", "it must be some of these"),
        ("GRANT_TYPES", "authorization_code client_credentials", "of these, .*: authorization_code refresh_token"),
        ("GRANT_TYPES", "refresh_token", "lacks authorization_code"),
    ],
)
def test_policy_of_open_clients_has_only_what_there_is(name: str, text: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=f"SIGNET_OPEN_CLIENT_{name} .*{problem}"):
        Settings.from_environ({f"SIGNET_OPEN_CLIENT_{name}": text})


def test_policy_of_open_clients_allows_all_that_it_does_not_restrict() -> None:
    policy = Settings.from_environ({}).open_client_policy
    assert policy == Settings().open_client_policy
    assert (policy.redirects, policy.grant_types) == (REDIRECTS, GRANT_TYPES)
    environ = {"SIGNET_OPEN_CLIENT_REDIRECTS": " loopback  https loopback", "SIGNET_OPEN_CLIENT_GRANT_TYPES": " "}
    policy = Settings.from_environ(environ).open_client_policy
    assert (policy.redirects, policy.grant_types) == (("https", "loopback"), GRANT_TYPES)


def test_mode_of_documents_is_one_of_three() -> None:
    with pytest.raises(SettingsError, match="must be one of: list, off, open"):
        Settings.from_environ({"SIGNET_CLIENT_DOCUMENTS": "on"})


@pytest.mark.parametrize(
    ("domain", "issuer", "problem"),
    [
        ("https://mtls.example.com", "https://example.com", "must be a domain"),
        ("mtls.example.com/x", "https://example.com", "must be a domain"),
        ("mtls.example.com:8443", "https://example.com", "must be a domain"),
        ("MTLS.example.com", "https://example.com", "must be a domain"),
        ("localhost", "https://example.com", "must be a domain"),
        ("example.com", "https://example.com", "another domain"),
        ("example.com", "https://example.com/auth", "another domain"),
        ("mtls.example.com", "", "requires SIGNET_ISSUER"),
    ],
)
def test_domain_for_mutual_tls_is_another_one(domain: str, issuer: str, problem: str) -> None:
    environ = {"AWS_LAMBDA_FUNCTION_NAME": "signet", "SIGNET_MTLS_DOMAIN": domain, "SIGNET_ISSUER": issuer}
    with pytest.raises(SettingsError, match=f"SIGNET_MTLS_DOMAIN.*{problem}"):
        Settings.from_environ(environ)
    given = {"AWS_LAMBDA_FUNCTION_NAME": "signet", "SIGNET_MTLS_DOMAIN": "mtls.example.com"}
    assert Settings.from_environ(given | {"SIGNET_ISSUER": "https://example.com"}).mtls_domain == "mtls.example.com"
    assert Settings.from_environ({"SIGNET_ISSUER": "https://example.com"}).mtls_domain is None
