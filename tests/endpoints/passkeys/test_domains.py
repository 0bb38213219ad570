"""The domain of passkeys: SIGNET_RP_ID, SIGNET_RELATED_ORIGINS, and their values that are refused."""

import pytest

from chalicelib.protocol.passkey import is_own_domain, origins_of, rp_id_of
from chalicelib.settings import Settings, SettingsError

ISSUER = "https://login.example.com/id"


@pytest.mark.parametrize(
    ("setting", "issuer", "domain"),
    [
        (None, ISSUER, "login.example.com"),
        ("example.com", ISSUER, "example.com"),
        ("old.example.org", ISSUER, "old.example.org"),
        (None, "http://localhost:8000", "localhost"),
        (None, "https://LOGIN.example.com:8443", "login.example.com"),
        (None, "http://127.0.0.1:8000", None),
        (None, "http://[::1]:8000", None),
        ("example.com", "https://192.0.2.1", None),
        (None, "", None),
    ],
)
def test_the_domain_is_the_host_of_the_issuer_or_the_setting_and_never_an_address(
    setting: str | None, issuer: str, domain: str | None
) -> None:
    assert rp_id_of(setting, issuer) == domain


def test_origins_are_that_of_the_issuer_and_the_related_ones() -> None:
    assert origins_of(ISSUER, ("https://a.example", "https://login.example.com")) == (
        "https://login.example.com",
        "https://a.example",
    )
    assert origins_of("https://login.example.com:443", ()) == ("https://login.example.com",)


@pytest.mark.parametrize(
    ("rp_id", "own"), [("login.example.com", True), ("example.com", False), ("localhost", False), ("", False)]
)
def test_only_a_whole_host_is_the_domain_of_one_server(rp_id: str, own: bool) -> None:
    assert is_own_domain(rp_id, ISSUER if rp_id != "localhost" else "http://localhost:8000") is own


def test_settings_of_the_environment() -> None:
    environ = {
        "SIGNET_ISSUER": ISSUER,
        "SIGNET_RP_ID": "example.com",
        "SIGNET_RELATED_ORIGINS": "https://a.example:443 https://b.example:8443 https://a.example",
    }
    settings = Settings.from_environ(environ)
    assert settings.passkey_domain == "example.com"
    assert settings.related_origins == ("https://a.example", "https://b.example:8443")
    assert settings.passkey_origins == ("https://login.example.com", *settings.related_origins)
    assert Settings.from_environ({}).passkey_domain == "localhost"


@pytest.mark.parametrize(
    "value",
    [
        *("com", "Example.com", "192.0.2.1", "[::1]", "example.com.", ".example.com", "exa mple.com", "a..b"),
        *("https://example.com", "-a.example", "a-.example", "é.example", "a" * 64 + ".example", "a." * 127 + "com"),
    ],
)
def test_domains_that_browsers_do_not_accept_are_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="SIGNET_RP_ID"):
        Settings.from_environ({"SIGNET_RP_ID": value})


@pytest.mark.parametrize(
    "value", ["example.com", "http://example.com", "https://a.example/x", "https://a.example/", "*"]
)
def test_related_origins_that_are_none_are_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="SIGNET_RELATED_ORIGINS"):
        Settings.from_environ({"SIGNET_RELATED_ORIGINS": f"https://ok.example {value}"})
