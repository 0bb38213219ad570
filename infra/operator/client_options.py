"""The options of `client create` and `client update`; `client_changes` says what they mean for the record.

JSON, records and messages use the member names of RFC 7591 and related specifications. Options use them with hyphens,
except for the few that are typed most.
"""

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any, TypeVar

import click

from chalicelib.clients import credentials as client_auth
from chalicelib.clients.metadata import ASSERTION_AUDIENCES
from chalicelib.grants import GRANTS
from chalicelib.keys import signing
from chalicelib.protocol import response_types
from chalicelib.protocol.client import Client
from chalicelib.protocol.fapi import PROFILES
from infra.operator.client_changes import LISTS, PUBLIC_SCOPE, ClientChanges
from infra.operator.joined_values import ListChoice, reject_joined_values
from infra.operator.jwks_file import JwksFile
from infra.operator.tls_options import TLS_OPTIONS

F = TypeVar("F", bound=Callable[..., Any])

_ALGORITHM = click.Choice(signing.ALGORITHMS)
_SECONDS = {"type": int, "metavar": "SECONDS"}
_URI = {"metavar": "URI"}
_LIST = {"multiple": True}
# Options of both commands: flags, member of Client, arguments of click.option, help.
_BOTH: tuple[tuple[str, str, dict[str, Any], str], ...] = (
    ("--redirect-uri", "redirect_uris", {**_LIST, **_URI}, "Where responses may be sent. Compared exactly."),
    (
        "--default-redirect-uri",
        "default_redirect_uri",
        _URI,
        "Used for a request without redirect_uri when several are registered.",
    ),
    (
        "--allowed-origin",
        "allowed_origins",
        {**_LIST, "metavar": "ORIGIN"},
        "An origin whose pages may read its responses, beside those of its redirect URIs (CORS).",
    ),
    (
        "--scope",
        "scope",
        {},
        f"The scopes it may request, separated by spaces. Of a new public client: {PUBLIC_SCOPE}.",
    ),
    ("--default-scope", "default_scope", {}, "The scope of a request that names none."),
    (
        "--strict-scope/--no-strict-scope",
        "strict_scope",
        {},
        "Reject a request for a scope that is not registered, instead of ignoring that scope.",
    ),
    ("--grant-type", "grant_types", {**_LIST, "type": ListChoice(list(GRANTS))}, "The grant types it may use."),
    (
        "--response-type",
        "response_types",
        {**_LIST, "type": ListChoice(response_types.RESPONSE_TYPES)},
        "The response types it may request.",
    ),
    (
        "--auth-method",
        "token_endpoint_auth_methods",
        {**_LIST, "type": ListChoice(list(client_auth.ALL_METHODS))},
        "How it authenticates: by default with its secret in the header or in the body, or with keys by "
        "private_key_jwt; none means --public.",
    ),
    ("--jwks", "jwks", {"type": JwksFile()}, "Its public keys, with which private_key_jwt is verified: a JWK Set."),
    ("--jwks-uri", "jwks_uri", _URI, "Where its public keys are, instead of --jwks."),
    (
        "--assertion-audience",
        "assertion_audience",
        {"type": click.Choice(ASSERTION_AUDIENCES)},
        "token_endpoint: its assertions may also name the token endpoint, which older libraries do.",
    ),
    (
        "--default-acr-value",
        "default_acr_values",
        {**_LIST, "metavar": "ACR"},
        "What a sign-in should reach if a request does not say, best first; no error if it cannot.",
    ),
    ("--require-acr", "require_acr", {"metavar": "ACR"}, "What every sign-in for it must reach."),
    (
        "--profile",
        "profile",
        {"type": click.Choice(PROFILES)},
        "Make it meet FAPI 2.0: sets what follows from it, and refuses what contradicts it.",
    ),
    (
        "--authorization-details-type",
        "authorization_details_types",
        {**_LIST, "metavar": "TYPE"},
        "A type of authorization details that it may ask for (RFC 9396).",
    ),
    ("--trusted/--no-trusted", "trusted", {}, "Skip the consent page, for an application of your own."),
    ("--direct-sign-in/--no-direct-sign-in", "direct_sign_in", {}, "Allow HTTP Basic sign-in at /oauth2/code."),
    ("--pkce/--no-pkce", "require_pkce", {}, "Require PKCE. Only a confidential client can do without."),
    (
        "--require-pushed-authorization-requests/--no-require-pushed-authorization-requests",
        "require_pushed_authorization_requests",
        {},
        "Reject an authorization request that it has not pushed (RFC 9126).",
    ),
    (
        "--require-signed-request-object/--no-require-signed-request-object",
        "require_signed_request_object",
        {},
        "Reject an authorization request that it has not signed (RFC 9101).",
    ),
    (
        "--request-object-signing-alg",
        "request_object_signing_alg",
        {"type": _ALGORITHM},
        "The only algorithm that it signs its requests with.",
    ),
    (
        "--dpop-bound-access-tokens/--no-dpop-bound-access-tokens",
        "dpop_bound_access_tokens",
        {},
        "Issue no bearer tokens to it: its access tokens are bound to a key (DPoP, RFC 9449).",
    ),
    (
        "--dpop-nonce-required/--no-dpop-nonce-required",
        "dpop_nonce_required",
        {},
        "Reject its DPoP proofs without a nonce of the last minutes.",
    ),
    *TLS_OPTIONS,
    ("--authorization-code-lifetime", "authorization_code_lifetime", _SECONDS, "Overrides the server setting."),
    ("--access-token-lifetime", "access_token_lifetime", _SECONDS, "Overrides the server setting."),
    ("--refresh-token-lifetime", "refresh_token_lifetime", _SECONDS, "Overrides the server setting."),
    ("--refresh-token-retry-window", "refresh_token_retry_window", _SECONDS, "Overrides the server setting."),
    (
        "--id-token-claims-from-scope/--no-id-token-claims-from-scope",
        "id_token_claims_from_scope",
        {},
        "Include the claims of the scope in ID tokens, for an application that does not call UserInfo.",
    ),
    (
        "--id-token-signed-response-alg",
        "id_token_signed_response_alg",
        {"type": _ALGORITHM},
        "Signature algorithm of its ID tokens.",
    ),
    (
        "--access-token-signed-response-alg",
        "access_token_signed_response_alg",
        {"type": _ALGORITHM},
        "Signature algorithm of its access tokens.",
    ),
    (
        "--userinfo-signed-response-alg",
        "userinfo_signed_response_alg",
        {"type": _ALGORITHM},
        "Make UserInfo respond with a JWT signed with this algorithm.",
    ),
    (
        "--authorization-signed-response-alg",
        "authorization_signed_response_alg",
        {"type": _ALGORITHM},
        "Signature algorithm of its authorization responses by jwt.",
    ),
    (
        "--introspection-signed-response-alg",
        "introspection_signed_response_alg",
        {"type": _ALGORITHM},
        "Signature algorithm of introspection responses to it, where it asks for a JWT.",
    ),
    (
        "--subject-type",
        "subject_type",
        {"type": click.Choice(["public", "pairwise"])},
        "pairwise: a different `sub` for each user than other hosts' applications get.",
    ),
    ("--logo-uri", "logo_uri", _URI, "Its logo."),
    ("--client-uri", "client_uri", _URI, "Its home page."),
    ("--policy-uri", "policy_uri", _URI, "Its privacy policy."),
    ("--tos-uri", "tos_uri", _URI, "Its terms of service."),
    (
        "--post-logout-redirect-uri",
        "post_logout_redirect_uris",
        {**_LIST, **_URI},
        "Where users may be sent after signing out.",
    ),
    (
        "--backchannel-logout-uri",
        "backchannel_logout_uri",
        _URI,
        "Where it receives logout tokens when a user signs out.",
    ),
    (
        "--backchannel-logout-session-required/--no-backchannel-logout-session-required",
        "backchannel_logout_session_required",
        {},
        "Include the session id in logout tokens.",
    ),
)
# The members of options that have an opposite, such as --no-trusted.
_FLAGS = frozenset(member for flags, member, *_ in _BOTH if "/" in flags)
# The members that `--unset` can remove.
_OPTIONAL = tuple(
    field.name
    for field in fields(Client)
    if field.default is None
    and field.name
    not in ("disabled_at", "expires_at", "registered_with", "document", "tls_client_certificates", *_FLAGS)
    and "registration_" not in field.name
)


def flags_of_members(*, updating: bool) -> dict[str, str]:
    """Return the option of each member of Client that can be set, with its opposite if it has one."""
    flags = {"client_name": "--name", **{member: flag for flag, member, *_ in _BOTH}}
    return flags if updating else {"client_id": "--id", **flags}


def options(*, updating: bool) -> Callable[[F], F]:
    """Return a decorator that adds the options of `client create`, or with `updating` those of `client update`."""

    def decorate(command: F) -> F:
        for option in reversed(list(_options(updating))):
            command = option(command)
        return command

    return decorate


def _options(updating: bool) -> Iterable[Callable[[F], F]]:
    yield click.option("--name", "client_name", required=not updating, help="The name that the consent page shows.")
    for flags, member, arguments, description in _BOTH:
        repeatable = "may be repeated" + ("; replaces the whole list" if updating else "")
        text = f"{description.removesuffix('.')} ({repeatable})." if arguments.get("multiple") else description
        default = getattr(Client, member, None)  # the default of a dataclass field is an attribute of the class
        if not updating and isinstance(default, str | tuple) and default:
            text += f" [default: {default if isinstance(default, str) else ', '.join(default)}]"
        yield click.option(flags, member, default=None, help=text, callback=reject_joined_values, **arguments)
    yield click.option(
        "--public", is_flag=True, help="It cannot keep a secret: an application on a device or in a page."
    )
    if not updating:
        return
    for name, what in LISTS.items():
        flag = name.replace("_", "-").removesuffix("s")
        for verb, text in (("add", f"Add this {what}"), ("remove", f"Remove this {what}")):
            yield click.option(
                f"--{verb}-{flag}",
                f"{verb}_{name}",
                multiple=True,
                metavar=what.rpartition(" ")[2].upper(),
                callback=reject_joined_values,
                help=f"{text} (may be repeated).",
            )
    names = [name.replace("_", "-") for name in _OPTIONAL]
    text = f"Remove the value of this member (may be repeated): {', '.join(names)}."
    yield click.option("--unset", multiple=True, type=ListChoice(names), metavar="MEMBER", help=text)


def given_members(values: dict[str, Any]) -> dict[str, Any]:
    """Return the members whose options were given, of all option values."""
    members = {name: value for name, value in values.items() if value not in (None, ())}
    if members.pop("public", False):
        if members.get("token_endpoint_auth_methods", ("none",)) != ("none",):
            raise click.UsageError("A public client can only have the --auth-method none.")
        members["token_endpoint_auth_methods"] = ("none",)
    return members


def given_changes(values: dict[str, Any]) -> ClientChanges:
    """Return the changes that the options of `client update` ask for. Raises click.UsageError when there are none."""
    add, remove = ({name: values.pop(f"{verb}_{name}") for name in LISTS} for verb in ("add", "remove"))
    unset = dict.fromkeys(name.replace("-", "_") for name in values.pop("unset"))
    members = given_members(values)
    if both := sorted(set(unset) & set(members)):
        flag = flags_of_members(updating=True)[both[0]]
        text = f"Use either {flag} or --unset {both[0].replace('_', '-')}."
        raise click.UsageError(f"{both[0]} is both set and unset. {text}")
    changes = ClientChanges({**members, **unset}, add, remove)
    if not changes:
        raise click.UsageError("Give at least one option to change; --help lists them.")
    return changes
