"""The options of `user create`, `user update` and `user set-password`: claims, and a password from standard input."""

import json
import sys
from typing import Any

import click

from chalicelib.users import accounts
from infra.operator.commands import CommandError, did_you_mean

password_stdin_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input. Random by default."
)


def _parse_claims(_context: Any, _option: Any, pairs: tuple[str, ...]) -> dict[str, Any]:
    """Return `name=value` pairs as claims, with None for an empty value."""
    claims: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise click.BadParameter(f"{pair!r} must have the form NAME=VALUE, such as nickname=Al.")
        if name not in accounts.CLAIMS:
            raise click.BadParameter(f"there is no claim {name!r}.{did_you_mean(name, accounts.CLAIMS)}")
        claims[name] = _parse_value(name, text)
    return claims


def _parse_value(name: str, text: str) -> Any:
    if not text:
        return None
    if accounts.type_of(name) is str and not text.startswith('"'):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"the value of {name} is not valid JSON.") from error


claim_option = click.option(
    "--claim",
    "claims",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_parse_claims,
    help='A claim, such as locale=de or address=\'{"locality": "Bonn"}\'; without a value, the claim is removed.',
)


def password_from_stdin() -> str:
    """Read the password from standard input, with two prompts on a terminal. Raises CommandError."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig")  # some programs begin a file with a byte order mark
    except UnicodeDecodeError as error:
        raise CommandError("The password on standard input is not UTF-8.") from error
    return text.removesuffix("\n").removesuffix("\r")
