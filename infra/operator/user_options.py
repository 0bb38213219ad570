"""The options of `user create`, `user update` and `user set-password`: claims, and a password from standard input."""

import json
import sys
from typing import Any, NoReturn

import click

from chalicelib.protocol.custom_claims import check_claim_name
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
        if text and name not in accounts.CLAIMS:
            _check_name(name)
        claims[name] = _parse_value(name, text)
    return claims


def _check_name(name: str) -> None:
    try:
        check_claim_name(name)
    except ValueError as error:
        raise click.BadParameter(f"{error}{did_you_mean(name, accounts.CLAIMS)}") from error


def _parse_value(name: str, text: str) -> Any:
    """Return a value: a string for the claims that are strings; of a custom claim, what is JSON, else a string."""
    if not text:
        return None
    if accounts.type_of(name) is str and name in accounts.CLAIMS and not text.startswith('"'):
        return text
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        if name not in accounts.CLAIMS and text[0] not in '"{[':
            return text
        raise click.BadParameter(f"the value of {name} is not valid JSON.") from error
    if value is None:
        raise click.BadParameter(f"the value of {name} is null. To remove the claim, give no value.")
    return value


def _refuse_constant(constant: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(f"{constant} is not JSON")


claim_option = click.option(
    "--claim",
    "claims",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_parse_claims,
    help='A claim, such as locale=de, address=\'{"locality": "Bonn"}\', or one of your own, such as level=5; without a '
    "value, the claim is removed.",
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
