"""The type of the option `--jwks`: a file with a JWK Set."""

from json import JSONDecodeError
from pathlib import Path
from typing import Any

import click

from chalicelib.keys.client_keys import read_json, read_jwks

MAX_FILE = 65536  # bytes


class JwksFile(click.Path):
    """A file with the public keys of a client as a JWK Set (RFC 7517 section 5)."""

    def __init__(self) -> None:
        super().__init__(exists=True, dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the JWK Set. Fails when the file has none, or has a private key."""
        with open(super().convert(value, param, ctx), "rb") as file:
            content = file.read(MAX_FILE + 1)
        if len(content) > MAX_FILE:
            self.fail(f"{value} has more than {MAX_FILE} bytes.", param, ctx)
        try:
            return read_jwks(read_json(content))
        except (JSONDecodeError, UnicodeDecodeError):
            self.fail(f"{value} cannot be used: it is not JSON. Give a file with a JWK Set.", param, ctx)
        except ValueError as error:
            self.fail(f"{value} cannot be used: {error}.", param, ctx)
