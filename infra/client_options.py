"""The options of `client create` and `client update`: what an operator may say of a client, and the record it makes.

JSON, records and messages name a member as RFC 7591 and its neighbours do; so do the options, with hyphens, but for the
few that people type most.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import click

from chalicelib import client_auth, response_modes, signing
from chalicelib.grants import GRANTS
from chalicelib.models import Client
from infra.commands import Refusal, near

F = TypeVar("F", bound=Callable[..., Any])

_ALGORITHM = click.Choice(signing.ALGORITHMS)
_SECONDS = {"type": int, "metavar": "SECONDS"}
_URI = {"metavar": "URI"}
_LIST = {"multiple": True}
# Of both commands: flags, the member of Client, further settings, and what it means.
_BOTH: tuple[tuple[str, str, dict[str, Any], str], ...] = (
    ("--redirect-uri", "redirect_uris", {**_LIST, **_URI}, "Where answers may go: compared exactly."),
    ("--default-redirect-uri", "default_redirect_uri", _URI, "Where they go when a request names none of several."),
    ("--scope", "scope", {}, "All it may ask for, separated by spaces."),
    ("--default-scope", "default_scope", {}, "What a request without scope means."),
    ("--grant-type", "grant_types", {**_LIST, "type": click.Choice(list(GRANTS))}, "How it may get tokens."),
    (
        "--response-type",
        "response_types",
        {**_LIST, "type": click.Choice(response_modes.RESPONSE_TYPES)},
        "What it may ask the authorization endpoint for.",
    ),
    (
        "--auth-method",
        "token_endpoint_auth_method",
        {"type": click.Choice(list(client_auth.METHODS))},
        "How it proves itself; none is --public.",
    ),
    ("--trusted/--no-trusted", "trusted", {}, "The operator's own: nobody is asked for consent."),
    ("--direct-sign-in/--no-direct-sign-in", "direct_sign_in", {}, "May use HTTP Basic at /oauth2/code."),
    ("--pkce/--no-pkce", "require_pkce", {}, "Whether it must use PKCE; only a confidential client need not."),
    ("--authorization-code-lifetime", "authorization_code_lifetime", _SECONDS, "Instead of the server's."),
    ("--access-token-lifetime", "access_token_lifetime", _SECONDS, "Instead of the server's."),
    ("--refresh-token-lifetime", "refresh_token_lifetime", _SECONDS, "Instead of the server's."),
    ("--id-token-signed-response-alg", "id_token_signed_response_alg", {"type": _ALGORITHM}, "Signs its ID tokens."),
    (
        "--access-token-signed-response-alg",
        "access_token_signed_response_alg",
        {"type": _ALGORITHM},
        "Signs its access tokens.",
    ),
    (
        "--userinfo-signed-response-alg",
        "userinfo_signed_response_alg",
        {"type": _ALGORITHM},
        "UserInfo answers it with a JWT, signed so.",
    ),
    (
        "--subject-type",
        "subject_type",
        {"type": click.Choice(["public", "pairwise"])},
        "pairwise: it knows people by other names than everybody else does.",
    ),
    ("--logo-uri", "logo_uri", _URI, "Its logo."),
    ("--client-uri", "client_uri", _URI, "Its home page."),
    ("--policy-uri", "policy_uri", _URI, "What it does with people's data."),
    ("--tos-uri", "tos_uri", _URI, "Its terms of service."),
    (
        "--post-logout-redirect-uri",
        "post_logout_redirect_uris",
        {**_LIST, **_URI},
        "Where people may go when they have signed out.",
    ),
    ("--backchannel-logout-uri", "backchannel_logout_uri", _URI, "Where it is told that somebody has signed out."),
    (
        "--backchannel-logout-session-required/--no-backchannel-logout-session-required",
        "backchannel_logout_session_required",
        {},
        "Whether it must be told in which session.",
    ),
)
# What `--unset` takes away: the members that need not be there.
_OPTIONAL = tuple(one.name for one in fields(Client) if one.default is None and one.name != "disabled_at")
# The lists that one can be added to or taken from, in words.
_LISTS = {"redirect_uris": "redirect URI", "post_logout_redirect_uris": "post-logout redirect URI", "scope": "scope"}


@dataclass(frozen=True)
class Wishes:
    """What the operator wants a client to be: members that replace, and members to add to or take from a list."""

    members: dict[str, Any]
    add: dict[str, tuple[str, ...]]
    remove: dict[str, tuple[str, ...]]

    def __bool__(self) -> bool:
        return bool(self.members or any(self.add.values()) or any(self.remove.values()))

    def of(self, client: Client) -> Client:
        """The client as it is wanted. Raises Refusal when something is to be removed that is not there."""
        wanted = replace(client, **fitting(self.members, client.response_types))
        for name, what in _LISTS.items():
            words = name == "scope"
            present = tuple(wanted.scope.split() if words else getattr(wanted, name))
            for one in self.remove.get(name, ()):
                if one not in present:
                    raise Refusal(f"{one} is no {what} of {client.client_id}.{near(one, present)}")
            kept = [one for one in present if one not in self.remove.get(name, ())]
            added = tuple(dict.fromkeys([*kept, *self.add.get(name, ())]))
            if added != present:
                members: dict[str, Any] = {name: " ".join(added) if words else added}
                wanted = replace(wanted, **members)
        return wanted


def options(*, updating: bool) -> Callable[[F], F]:
    """The options of `client create`, or of `client update`."""

    def decorate(command: F) -> F:
        for option in reversed(list(_options(updating))):
            command = option(command)
        return command

    return decorate


def _options(updating: bool) -> Iterable[Callable[[F], F]]:
    yield click.option("--name", "client_name", required=not updating, help="What people read when they are asked.")
    for flags, member, more, meaning in _BOTH:
        several = "may be given several times" + (", instead of those there are" if updating else "")
        text = f"{meaning.removesuffix('.')} ({several})." if more.get("multiple") else meaning
        default = getattr(Client, member, None)  # what a field has by default is an attribute of the class
        if not updating and isinstance(default, str | tuple) and default:
            text += f" [default: {default if isinstance(default, str) else ', '.join(default)}]"
        yield click.option(flags, member, default=None, help=text, **more)
    yield click.option("--public", is_flag=True, help="It can keep no secret: an application on a device or in a page.")
    if not updating:
        return
    for name, what in _LISTS.items():
        flag = name.replace("_", "-").removesuffix("s")
        for verb, text in (("add", f"One more {what}"), ("remove", f"A {what} that shall be gone")):
            yield click.option(
                f"--{verb}-{flag}",
                f"{verb}_{name}",
                multiple=True,
                metavar=what.rpartition(" ")[2].upper(),
                help=f"{text} (may be given several times).",
            )
    names = [name.replace("_", "-") for name in _OPTIONAL]
    text = f"A member that shall have no value (may be given several times): {', '.join(names)}."
    yield click.option("--unset", multiple=True, type=click.Choice(names), metavar="MEMBER", help=text)


def given(values: dict[str, Any]) -> dict[str, Any]:
    """The members that the operator has named, of what click found."""
    members = {name: value for name, value in values.items() if value not in (None, ())}
    if members.pop("public", False):
        if members.get("token_endpoint_auth_method", "none") != "none":
            raise click.UsageError("A public client has no --auth-method but none.")
        members["token_endpoint_auth_method"] = "none"  # noqa: S105
    return members


def wishes(values: dict[str, Any]) -> Wishes:
    """What the operator wants of `client update`. Raises click.UsageError when it is nothing."""
    add, remove = ({name: values.pop(f"{verb}_{name}") for name in _LISTS} for verb in ("add", "remove"))
    gone = dict.fromkeys(name.replace("-", "_") for name in values.pop("unset"))
    members = given(values)
    if both := sorted(set(gone) & set(members)):
        raise click.UsageError(f"{both[0]} is both given and unset.")
    wanted = Wishes({**members, **gone}, add, remove)
    if not wanted:
        raise click.UsageError("Say what to change; --help lists what there is.")
    return wanted


def fitting(members: dict[str, Any], before: tuple[str, ...] = ("code",)) -> dict[str, Any]:
    """The members, with response types that go with the grant types (RFC 7591 section 2.1) unless they are given.

    Who has a URI for a name is a resource server, and gets no tokens unless they are asked for.
    """
    if str(members.get("client_id", "")).startswith("https://"):
        members = {"grant_types": (), **members}
    if "grant_types" not in members or "response_types" in members:
        return members
    types = (before or ("code",)) if "authorization_code" in members["grant_types"] else ()
    return {**members, "response_types": types}
