"""The options of `user create`, `user update` and `user set-password`: claims, and a password that nobody looks at."""

import json
import sys
from typing import Any

import click

from chalicelib import users
from infra.commands import Refusal, near

password_stdin_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input; random by default."
)


def _claims(_context: Any, _option: Any, given: tuple[str, ...]) -> dict[str, Any]:
    """`name=value` pairs as claims; None for a value that is empty."""
    found: dict[str, Any] = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals:
            raise click.BadParameter(f"{pair!r} is not such as nickname=Al.")
        if name not in users.CLAIMS:
            raise click.BadParameter(f"there is no claim {name!r}.{near(name, users.CLAIMS)}")
        found[name] = _value(name, text)
    return found


def _value(name: str, text: str) -> Any:
    if not text:
        return None
    if users.type_of(name) is str and not text.startswith('"'):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"the value of {name} is no JSON.") from error


claim_option = click.option(
    "--claim",
    "claims",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_claims,
    help='A standard claim, such as locale=de or address=\'{"locality": "Bonn"}\'; without a value it is taken away.',
)


def password_from_stdin() -> str:
    """The password on standard input; asked for, twice, when that is a terminal. Raises Refusal."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise Refusal("The password on standard input is not UTF-8.") from error
    return text.removesuffix("\n").removesuffix("\r")
