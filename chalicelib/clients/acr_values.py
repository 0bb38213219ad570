"""The checks of what a client prefers and requires of a sign-in: `default_acr_values` and `require_acr`."""

import re

from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidClientMetadata

MAX_VALUES = 10
_VALUE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,200}")


def is_acr(text: str) -> bool:
    """Return whether this can be an `acr` value."""
    return _VALUE.fullmatch(text) is not None


def check_acr_values(client: Client) -> None:
    """Check the form of what a client prefers, and of what it requires. Raises InvalidClientMetadata.

    A preference that no sign-in has is ignored; a requirement that none has rejects every request.
    """
    preferred, required = client.default_acr_values, client.require_acr
    if len(preferred) > MAX_VALUES or not all(map(is_acr, preferred)):
        raise InvalidClientMetadata(f"The default_acr_values must be at most {MAX_VALUES} values without spaces.")
    if required is not None and not is_acr(required):
        raise InvalidClientMetadata("The require_acr must have 1 to 200 characters without spaces.")
