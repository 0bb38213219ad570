"""Settings: environment variables `SIGNET_…`, read once and checked at start.

An invalid value stops the server with a message that names the setting and its allowed values. No other module reads
the environment.
"""

import os
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from chalicelib.protocol import authentication_context
from chalicelib.protocol.claims import DEFAULT_PROFILE_CLAIMS
from chalicelib.protocol.client_document import MODES
from chalicelib.protocol.durations import DAY, HOUR
from chalicelib.protocol.languages import ENGLISH, LANGUAGES
from chalicelib.protocol.open_clients import GRANT_TYPES, REDIRECTS, OpenClientPolicy
from chalicelib.protocol.passkey import origins_of, rp_id_of
from chalicelib.protocol.scopes import OPEN_SCOPES
from chalicelib.protocol.values import dataclass
from chalicelib.settings import open_clients, values
from chalicelib.settings.values import LOOPBACK as LOOPBACK
from chalicelib.settings.values import LOOPBACK_NAMES as LOOPBACK_NAMES
from chalicelib.settings.values import SettingsError as SettingsError

LOCAL_SENDER = "signet@signet.example"  # of the local server, which keeps its mails
REQUIRE_PUSHED = "SIGNET_REQUIRE_PUSHED_AUTHORIZATION_REQUESTS"


@dataclass(frozen=True)
class Settings:
    """All settings. Lifetimes are in seconds.

    `embedded`: start the embedded DynamoDB, because no endpoint is set and this is not Lambda. `dynamodb_endpoint`: an
    endpoint other than that of AWS. `sealing_key`: 32 bytes that encrypt the key ring without KMS. `kms_key_id`: the
    KMS key that encrypts it otherwise, by default the one in infra/aws/tables.yaml. `signing`: whether private signing
    keys are stored in the `ring` or stay in `kms`. `issuer` may be empty in Lambda: it is then the address of the
    gateway. `operator_token_hash`: SHA-256 of the token for the deep health check. `metrics`: log lines have CloudWatch
    metrics (EMF). `login_url`: the operator's login application, whose forms come from one of `login_origins`.
    `sign_in_attempts`: wrong passwords for one account in a row from one known browser, or in an hour from one network;
    `sign_in_attempts_per_day`: in a day from one network, `sign_in_attempts_per_day_known` from a known one;
    `sign_in_attempts_per_address`: in an hour from one IP address for any account; `sign_in_attempts_per_account`: in
    a day for one account, and `sign_in_attempts_reserved` more for networks without a failure.
    `password_min_length`: how many characters a new password must have; `password_failure_cost`: how many hashes a
    rejected sign-in computes. `stored_requests_per_address`: requests that are stored in an hour before a sign-in.
    `caller_address_header`: the header in which a proxy tells the caller's address; `proxy_secret_hash`: the SHA-256 of
    the secret that proves it, two while it is rotated.
    `outbound_networks`: networks that are not public and may get requests; `backchannel_networks`: logout tokens only.
    `require_pushed_authorization_requests`: every client must push them (RFC 9126).
    `client_documents`: whether clients may name themselves by the URL of a document; in the mode `list`, those at
    `client_document_hosts`, which are hosts or URLs. `client_registration`: whether applications register themselves,
    never (`off`), with a `token`, or all (`open`); `registrations_per_address`: in an hour without a token.
    `rp_id`: the domain of passkeys, by default the host of the issuer; `related_origins`: other origins that use them.
    `open_client_…`: what these clients, which the operator has not registered, may have (`protocol.open_clients`).
    `mfa`: whether users may (`optional`) or must (`required`) have a second factor; `mfa_acr`: the `acr` of one;
    `mfa_required_from`: when `required` begins, in seconds since 1970; before that, users are asked.
    `email_from`: the address that mails are sent from, None to send none; `email_configuration_set`: the one of SES;
    `emails_per_day`: how many mails are sent in a day at most. `mailbox`: the folder in which the local server keeps
    its mails instead of sending them. `function`: the name of this Lambda function, when it is behind the alias.
    `sign_up`: whether people create accounts, with an address at one of `sign_up_domains` if there are any;
    `sign_up_terms_url`: what they accept. `sign_in_notice`: whether users are told by mail of a sign-in in a browser
    that is not known. `email_code_sign_in`: whether users can sign in with a code from an email.
    `key_rotation_days`: the age at which the schedule replaces a signing key; 0 is never.
    `keep_signed_in`: whether the sign-in page has a box to stay signed in. `profile_claims`: which claims users may
    change themselves. `deletion_grace_days`: how long users can restore an account that they have deleted.
    `language`: of pages and mails for readers who ask for none.
    `mtls_domain`: the domain at which the gateway demands a client certificate (RFC 8705).
    """

    stage: str = "local"
    issuer: str = "http://localhost:8000"
    name: str = "Signet"
    embedded: bool = False
    dynamodb_endpoint: str | None = None
    region: str | None = None
    kms_key_id: str = "alias/signet-local"
    signing: str = "ring"
    operator_token_hash: str | None = None
    metrics: bool = False
    sealing_key: bytes | None = None
    logo_url: str | None = None
    accent_color: str | None = None
    accent_color_dark: str | None = None
    support_url: str | None = None
    login_url: str | None = None
    login_origins: tuple[str, ...] = ()
    playground: bool = False
    rp_id: str | None = None
    related_origins: tuple[str, ...] = ()
    require_pushed_authorization_requests: bool = False
    client_registration: str = "off"
    open_client_scope: str = " ".join(OPEN_SCOPES)
    open_client_redirects: tuple[str, ...] = REDIRECTS
    open_client_grant_types: tuple[str, ...] = GRANT_TYPES
    registrations_per_address: int = 60
    caller_address_header: str | None = None
    proxy_secret_hash: tuple[str, ...] = ()
    client_documents: str = MODES[0]
    client_document_hosts: tuple[str, ...] = ()
    outbound_networks: tuple[str, ...] = ()
    backchannel_networks: tuple[str, ...] = ()
    sign_in_attempts: int = 5
    sign_in_attempts_per_day: int = 15
    sign_in_attempts_per_day_known: int = 20
    sign_in_attempts_per_address: int = 50
    sign_in_attempts_per_account: int = 100
    sign_in_attempts_reserved: int = 20
    known_browser_lifetime: int = 90 * DAY
    known_network_lifetime: int = 30 * DAY
    password_min_length: int = 12
    password_failure_cost: int = 1
    key_rotation_days: int = 90
    authorization_code_lifetime: int = 60
    access_token_lifetime: int = 600
    refresh_token_lifetime: int = 30 * DAY
    refresh_token_absolute_lifetime: int = 180 * DAY
    refresh_token_retry_window: int = 10
    stored_requests_per_address: int = 600
    session_idle_lifetime: int = 12 * HOUR
    session_absolute_lifetime: int = 30 * DAY
    request_lifetime: int = 600
    mfa: str = authentication_context.MODES[0]
    mfa_acr: str = authentication_context.REFEDS_MFA
    mfa_required_from: int | None = None
    keep_signed_in: bool = True
    profile_claims: tuple[str, ...] = DEFAULT_PROFILE_CLAIMS
    deletion_grace_days: int = 14
    language: str = ENGLISH.code
    email_from: str | None = None
    email_configuration_set: str | None = None
    emails_per_day: int = 1000
    mailbox: str | None = None
    function: str | None = None
    sign_up: bool = False
    sign_up_domains: tuple[str, ...] = ()
    sign_up_terms_url: str | None = None
    sign_in_notice: bool = False
    mtls_domain: str | None = None
    email_code_sign_in: bool = False

    @property
    def secure(self) -> bool:
        """Whether the issuer is https, so that cookies have the Secure attribute."""
        return self.issuer.startswith("https://")

    @cached_property
    def authentication_policy(self) -> authentication_context.Policy:
        """What this server demands of every sign-in."""
        has_passkeys = self.passkey_domain is not None
        return authentication_context.Policy(self.mfa, self.mfa_acr, has_passkeys, self.mfa_required_from)

    @cached_property
    def passkey_domain(self) -> str | None:
        """The domain of the passkeys (the relying party identifier); None at an IP address, where there can be none."""
        return rp_id_of(self.rp_id, self.issuer)

    @cached_property
    def open_client_policy(self) -> OpenClientPolicy:
        """What clients may have that the operator has not registered."""
        return OpenClientPolicy(self.open_client_scope, self.open_client_redirects, self.open_client_grant_types)

    @property
    def passkey_origins(self) -> tuple[str, ...]:
        """The origins whose pages may use the passkeys."""
        return origins_of(self.issuer, self.related_origins)

    @property
    def can_send_mail(self) -> bool:
        """Whether a sender is configured, so that pages may offer what needs mail."""
        return self.email_from is not None

    @property
    def offers_sign_up(self) -> bool:
        """Whether pages may offer to create an account."""
        return self.sign_up and self.can_send_mail

    @property
    def offers_email_code(self) -> bool:
        """Whether the sign-in page may offer a code by email: not where a login application replaces it."""
        return self.email_code_sign_in and self.can_send_mail and self.login_url is None

    @property
    def cookie_suffix(self) -> str:
        """The port of a local server except 8000, to tell its cookies apart, which browsers send to all ports."""
        if self.stage != "local" or not self.issuer.startswith("http://"):
            return ""
        port = urlsplit(self.issuer).port or 80
        return "" if port == 8000 else f"-{port}"

    def cookie_name(self, what: str) -> str:
        """Return the name of one of our cookies: with the `__Host-` prefix where the issuer is https."""
        return f"{'__Host-' if self.secure else ''}signet-{what}{self.cookie_suffix}"

    @classmethod
    def for_logging(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Return default settings with the stage and metrics, for the log line about invalid settings."""
        name = environ.get("SIGNET_STAGE", "")
        stage = name if re.fullmatch(r"[A-Za-z0-9-]{1,32}", name) else cls.stage
        return cls(stage=stage, metrics="AWS_LAMBDA_FUNCTION_NAME" in environ)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Return the settings of the environment. Raises SettingsError."""
        in_lambda = "AWS_LAMBDA_FUNCTION_NAME" in environ
        endpoint = values.endpoint(environ.get("SIGNET_DYNAMODB_ENDPOINT", ""))
        embedded = not in_lambda and endpoint is None
        issuer = environ.get("SIGNET_ISSUER", "")
        if not issuer and not in_lambda:
            issuer = f"http://localhost:{values.number(environ, 'PORT', 8000, 1, 65535)}"
        login_url = values.login_url(environ.get("SIGNET_LOGIN_URL", ""))
        stage = values.stage(environ.get("SIGNET_STAGE", "local"))
        numbers: dict[str, Any] = {
            name: values.number(environ, f"SIGNET_{name.upper()}", getattr(cls, name), low, high)
            for name, (low, high) in LIMITS.items()
        }
        return cls(
            stage=stage,
            # In Lambda without the setting, the address of the gateway is taken from each event.
            issuer=values.issuer(issuer) if issuer else "",
            name=values.name(environ.get("SIGNET_NAME", "") or cls.name),
            embedded=embedded,
            dynamodb_endpoint=endpoint,
            region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION"),
            kms_key_id=values.kms_key_id(environ.get("SIGNET_KMS_KEY_ID") or f"alias/signet-{stage}"),
            signing=values.choice(environ, "SIGNET_SIGNING", ("ring", "kms")),
            operator_token_hash=values.operator_token_hash(environ.get("SIGNET_OPERATOR_TOKEN_HASH", "")),
            metrics=in_lambda and values.choice(environ, "SIGNET_METRICS", ("on", "off")) == "on",
            logo_url=values.https_url(environ, "SIGNET_LOGO_URL"),
            accent_color=values.color(environ, "SIGNET_ACCENT_COLOR"),
            accent_color_dark=values.color(environ, "SIGNET_ACCENT_COLOR_DARK"),
            support_url=values.https_url(environ, "SIGNET_SUPPORT_URL", mailto=True),
            login_url=login_url,
            login_origins=values.login_origins(environ.get("SIGNET_LOGIN_ORIGINS", ""), login_url),
            playground=values.choice(environ, "SIGNET_PLAYGROUND", ("on", "off") if embedded else ("off", "on"))
            == "on",
            rp_id=values.rp_id(environ.get("SIGNET_RP_ID", "")),
            related_origins=values.related_origins(environ.get("SIGNET_RELATED_ORIGINS", "")),
            require_pushed_authorization_requests=values.choice(environ, REQUIRE_PUSHED, ("off", "on")) == "on",
            client_documents=values.choice(environ, "SIGNET_CLIENT_DOCUMENTS", MODES),
            client_document_hosts=values.document_hosts(environ.get("SIGNET_CLIENT_DOCUMENT_HOSTS", "")),
            client_registration=values.choice(environ, "SIGNET_CLIENT_REGISTRATION", ("off", "token", "open")),
            outbound_networks=values.networks(environ, "SIGNET_OUTBOUND_NETWORKS"),
            backchannel_networks=values.networks(environ, "SIGNET_BACKCHANNEL_NETWORKS"),
            mfa=values.choice(environ, "SIGNET_MFA", authentication_context.MODES),
            mfa_acr=values.mfa_acr(environ.get("SIGNET_MFA_ACR", "")),
            mfa_required_from=values.mfa_required_from(environ),
            keep_signed_in=values.choice(environ, "SIGNET_KEEP_SIGNED_IN", ("on", "off")) == "on",
            profile_claims=values.profile_claims(environ.get("SIGNET_PROFILE_CLAIMS", "")),
            language=values.choice(environ, "SIGNET_LANGUAGE", tuple(LANGUAGES)),
            email_from=values.email_from(environ.get("SIGNET_EMAIL_FROM", "")) or (LOCAL_SENDER if embedded else None),
            email_configuration_set=values.configuration_set(environ.get("SIGNET_EMAIL_CONFIGURATION_SET", "")),
            # Only a published version is called by the alias; `chalice deploy` publishes none.
            function=environ.get("AWS_LAMBDA_FUNCTION_NAME")
            if environ.get("AWS_LAMBDA_FUNCTION_VERSION", "").isdigit()
            else None,
            sign_up=values.choice(environ, "SIGNET_SIGN_UP", ("off", "on")) == "on",
            sign_up_domains=values.domains(environ, "SIGNET_SIGN_UP_DOMAINS"),
            sign_up_terms_url=values.https_url(environ, "SIGNET_SIGN_UP_TERMS_URL"),
            sign_in_notice=values.choice(environ, "SIGNET_SIGN_IN_NOTICE", ("off", "on")) == "on",
            mtls_domain=values.mtls_domain(environ.get("SIGNET_MTLS_DOMAIN", ""), issuer),
            email_code_sign_in=values.choice(environ, "SIGNET_EMAIL_CODE_SIGN_IN", ("off", "on")) == "on",
            **open_clients.read(environ),
            **values.declared_proxy(environ),
            **numbers,
        )


def aws_environment() -> dict[str, str]:
    """Return the environment variables of AWS as they are now: its credentials and endpoints."""
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


# number -> its minimum and maximum; lifetimes are in seconds
LIMITS = {
    "authorization_code_lifetime": (10, 600),
    "access_token_lifetime": (60, DAY),
    "refresh_token_lifetime": (60, 366 * DAY),
    "refresh_token_absolute_lifetime": (HOUR, 3660 * DAY),  # longer than any authorization code
    "refresh_token_retry_window": (0, 300),
    "session_idle_lifetime": (60, 366 * DAY),
    "session_absolute_lifetime": (60, 366 * DAY),
    "request_lifetime": (60, HOUR),
    "sign_in_attempts": (1, 100),
    "sign_in_attempts_per_day": (1, 1000),
    "sign_in_attempts_per_day_known": (1, 1000),
    "sign_in_attempts_per_address": (1, 10000),
    "sign_in_attempts_per_account": (1, 1000),
    "sign_in_attempts_reserved": (0, 1000),
    "known_browser_lifetime": (DAY, 366 * DAY),
    "known_network_lifetime": (DAY, 366 * DAY),
    "stored_requests_per_address": (1, 100_000),
    "registrations_per_address": (1, 10_000),
    "password_min_length": (8, 64),  # NIST SP 800-63B section 3.1.1.2; 64 must be allowed
    "password_failure_cost": (1, 25),  # passwords.MAX_COST
    "key_rotation_days": (0, 3650),
    "deletion_grace_days": (0, 365),
    "emails_per_day": (1, 1_000_000),
}
