"""Reading the value of one setting: each function checks a text and says which values are allowed."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

from chalicelib.http import proxy
from chalicelib.protocol import authentication_context, email_addresses
from chalicelib.protocol.claims import DEFAULT_PROFILE_CLAIMS, PROFILE_CLAIMS
from chalicelib.protocol.client_document import is_document_url, is_host
from chalicelib.protocol.redirect_uris import origin_of
from chalicelib.protocol.scopes import MAX_SCOPE_TOKENS, SCOPE_TOKEN
from chalicelib.protocol.texts import is_printable
from chalicelib.protocol.urls import match_url

LOOPBACK = ("127.0.0.1", "[::1]", "localhost")
LOOPBACK_NAMES = frozenset(host.strip("[]") for host in LOOPBACK)  # as urlsplit returns them
FIRST_YEAR = 2020  # of a date in a setting: an earlier one is a mistake


class SettingsError(Exception):
    """A setting has an invalid value; the text names the setting and its allowed values."""


def number(environ: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    """Return a whole number. Raises SettingsError."""
    text = environ.get(name, "") or str(default)
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and low <= int(text) <= high):
        raise SettingsError(f"{name} is {text!r}; it must be a whole number from {low} to {high}")
    return int(text)


def choice(environ: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    """Return one of the choices, by default the first. Raises SettingsError."""
    text = environ.get(name, "") or choices[0]
    if text not in choices:
        raise SettingsError(f"{name} is {text!r}; it must be one of: {', '.join(choices)}")
    return text


def operator_token_hash(text: str) -> str | None:
    """Return the SHA-256 of the operator's token, or None. Raises SettingsError."""
    if text and not re.fullmatch(r"[0-9a-f]{64}", text):
        raise SettingsError("SIGNET_OPERATOR_TOKEN_HASH must be the SHA-256 of the token, 64 hexadecimal digits")
    return text or None


def stage(text: str) -> str:
    """Return the name of a stage. Raises SettingsError."""
    if not (text.isascii() and text.replace("-", "").isalnum() and len(text) <= 32):
        raise SettingsError(f"SIGNET_STAGE is {text!r}; it must be at most 32 letters, digits and hyphens")
    return text


def name(text: str) -> str:
    """Return the name of the server. Raises SettingsError."""
    if not is_printable(text):
        raise SettingsError(f"SIGNET_NAME is {text!r}; it must have 1 to 200 printable characters")
    return text


def kms_key_id(text: str) -> str:
    """Return the id, alias or ARN of a KMS key. Raises SettingsError."""
    if not re.fullmatch(r"[A-Za-z0-9:/_-]{1,2048}", text):
        raise SettingsError(f"SIGNET_KMS_KEY_ID is {text!r}; it must be the id, alias or ARN of a KMS key, or not set")
    return text


def issuer(text: str) -> str:
    """Check an issuer (OpenID Connect Discovery section 3): https, or http for loopback, no query, no fragment."""
    url = match_url(text)
    if not url or (url["scheme"] == "http" and url["host"] not in LOOPBACK):
        raise SettingsError(
            f"SIGNET_ISSUER is {text!r}; it must be an https URL without query, fragment and trailing slash "
            "(http for 127.0.0.1, [::1] and localhost only)"
        )
    return text


def endpoint(text: str) -> str | None:
    """Return the URL of a DynamoDB, or None. Raises SettingsError."""
    if text and not match_url(text.removesuffix("/")):
        raise SettingsError(f"SIGNET_DYNAMODB_ENDPOINT is {text!r}; it must be an http or https URL, or not set")
    return text or None


def https_url(environ: Mapping[str, str], name: str, *, mailto: bool = False) -> str | None:
    """Read an https URL, which may have a query; with `mailto`, also an email address as a mailto URL."""
    text = environ.get(name, "")
    if not text:
        return None
    form = "https URL" + (" or a mailto: address" if mailto else "")
    plain = re.fullmatch(r"[!#-;=?-Z_a-z~]{1,2000}", text) is not None  # ASCII that is safe in an HTML attribute
    url = match_url(text.partition("?")[0].removesuffix("/"))
    if plain and ((url and url["scheme"] == "https") or (mailto and re.fullmatch(r"mailto:[^@?]+@[^@?]+", text))):
        return text
    raise SettingsError(f"{name} is {text!r}; it must be an {form}, or not set")


def email_from(text: str) -> str | None:
    """Return the address that mails are sent from, or None. Raises SettingsError."""
    try:
        return email_addresses.sendable(text) if text else None
    except ValueError as error:
        raise SettingsError(
            f"SIGNET_EMAIL_FROM is {text!r}; it must be an email address such as login@example.com, or not set"
        ) from error


def domains(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    """Return the domains of email addresses in a list with spaces or commas. Raises SettingsError."""
    listed = environ.get(name, "").replace(",", " ").split()
    try:
        return tuple(email_addresses.sendable(f"x@{domain}").removeprefix("x@") for domain in listed)
    except ValueError as error:
        text = environ[name]
        raise SettingsError(f"{name} is {text!r}; it must be domains such as example.com, or not set") from error


def configuration_set(text: str) -> str | None:
    """Return the name of a configuration set of SES, or None. Raises SettingsError."""
    if text and not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise SettingsError(
            f"SIGNET_EMAIL_CONFIGURATION_SET is {text!r}; it must be the name of a configuration set of SES, or not set"
        )
    return text or None


def color(environ: Mapping[str, str], name: str) -> str | None:
    """Return a color, or None. Raises SettingsError."""
    text = environ.get(name, "")
    if text and not re.fullmatch(r"#[0-9A-Fa-f]{6}", text):
        raise SettingsError(f"{name} is {text!r}; it must be a colour such as #1f4fa3, or not set")
    return text or None


def login_url(text: str) -> str | None:
    """Return the URL of the login application, or None. Raises SettingsError."""
    url = match_url(text.removesuffix("/"))
    if text and (not url or (url["scheme"] == "http" and url["host"] not in LOOPBACK)):
        raise SettingsError(
            f"SIGNET_LOGIN_URL is {text!r}; it must be an https URL without query and fragment "
            "(http for 127.0.0.1, [::1] and localhost only), or not set"
        )
    return text or None


def login_origins(text: str, login_url: str | None) -> tuple[str, ...]:
    """Read origins and return them as browsers write them; by default that of the login application."""
    return _origins("SIGNET_LOGIN_ORIGINS", text, login_url or "")


def related_origins(text: str) -> tuple[str, ...]:
    """Read the origins that use the passkeys of this server too. Raises SettingsError."""
    return _origins("SIGNET_RELATED_ORIGINS", text)


def _origins(name: str, text: str, default: str = "") -> tuple[str, ...]:
    origins = text.split()
    for origin in origins:
        url = match_url(origin)
        if not url or origin.count("/") != 2 or (url["scheme"] == "http" and url["host"] not in LOOPBACK):
            raise SettingsError(
                f"{name} has {origin!r}; it must be origins such as https://login.example.com, "
                "separated by spaces (http for 127.0.0.1, [::1] and localhost only)"
            )
    return tuple(dict.fromkeys(filter(None, map(origin_of, origins or [default]))))


def rp_id(text: str) -> str | None:
    """Return the domain of passkeys, or None. Raises SettingsError."""
    labels = text.split(".")
    valid = all(re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", label) for label in labels)
    if text and (len(text) > 253 or not valid or labels[-1].isdigit() or (len(labels) == 1 and text != "localhost")):
        raise SettingsError(
            f"SIGNET_RP_ID is {text!r}; it must be a domain in small letters such as example.com, and no IP address, "
            "or not set"
        )
    return text or None


def mfa_acr(text: str) -> str:
    """Return the `acr` of a sign-in with two factors. Raises SettingsError."""
    text = text or authentication_context.REFEDS_MFA
    reserved = (authentication_context.PASSWORD, authentication_context.PHISHING_RESISTANT)
    if not re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]{1,200}", text) or text in reserved:
        raise SettingsError(
            f"SIGNET_MFA_ACR is {text!r}; it must have 1 to 200 characters without spaces, and be neither "
            + " nor ".join(reserved)
        )
    return text


def mfa_required_from(environ: Mapping[str, str]) -> int | None:
    """Return when a second factor becomes required: the begin of a day in UTC, or None. Raises SettingsError."""
    name = "SIGNET_MFA_REQUIRED_FROM"
    text = environ.get(name, "")
    if not text:
        return None
    if environ.get("SIGNET_MFA") != "required":
        raise SettingsError(f"{name} is {text!r}; it needs SIGNET_MFA=required")
    try:
        day = date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text) else None
    except ValueError:
        day = None
    if day is None or day.year < FIRST_YEAR:
        raise SettingsError(f"{name} is {text!r}; it must be a date such as 2027-03-01, or not set")
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def document_hosts(text: str) -> tuple[str, ...]:
    """Return the hosts and URLs of client metadata documents. Raises SettingsError."""
    for each in text.split():
        if not is_host(each) and not is_document_url(each):
            raise SettingsError(
                f"SIGNET_CLIENT_DOCUMENT_HOSTS has {each!r}; it must be hosts such as app.example.com, in small "
                "letters, or https URLs of documents, separated by spaces"
            )
    return tuple(dict.fromkeys(text.split()))


def scope(environ: Mapping[str, str], name: str, default: str) -> str:
    """Return scope tokens separated by single spaces, each once. Raises SettingsError."""
    text = environ.get(name, "") or default
    tokens = tuple(dict.fromkeys(text.split()))
    if not tokens or len(tokens) > MAX_SCOPE_TOKENS or not all(map(SCOPE_TOKEN.fullmatch, tokens)):
        raise SettingsError(f"{name} is {text!r}; it must be scopes such as openid, separated by spaces")
    return " ".join(tokens)


def profile_claims(text: str) -> tuple[str, ...]:
    """Return the claims that users may change themselves, in the order of their page. Raises SettingsError."""
    names = text.split()
    if names == ["none"]:
        return ()
    for name in names:
        if name not in PROFILE_CLAIMS:
            raise SettingsError(
                f"SIGNET_PROFILE_CLAIMS has {name!r}; it must be `none`, or claims of these, separated by spaces: "
                f"{', '.join(PROFILE_CLAIMS)}"
            )
    return tuple(name for name in PROFILE_CLAIMS if name in (names or DEFAULT_PROFILE_CLAIMS))


def networks(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    """Return networks in CIDR notation. Raises SettingsError."""
    text = environ.get(name, "")
    try:
        return tuple(str(ip_network(network)) for network in text.split())
    except ValueError as error:
        form = "networks such as 10.0.0.0/8, separated by spaces"
        raise SettingsError(f"{name} is {text!r}; it must be {form}") from error


def mtls_domain(text: str, issuer: str) -> str | None:
    """Return the domain for mutual TLS, or None. Raises SettingsError.

    It is not the host of the issuer, where browsers have no certificate; and without an issuer in the settings, each
    domain would be another one.
    """
    if not text:
        return None
    if not is_host(text) or "." not in text or ":" in text:
        raise SettingsError(f"SIGNET_MTLS_DOMAIN is {text!r}; it must be a domain such as mtls.login.example.com")
    if not issuer or urlsplit(issuer).hostname == text:
        raise SettingsError("SIGNET_MTLS_DOMAIN requires SIGNET_ISSUER, with another domain")
    return text


def declared_proxy(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the two settings of a declared proxy. Raises SettingsError."""
    header, hashes = environ.get("SIGNET_CALLER_ADDRESS_HEADER", ""), environ.get("SIGNET_PROXY_SECRET_HASH", "")
    try:
        return proxy.declared(header, hashes)
    except ValueError as error:
        raise SettingsError(str(error)) from error
