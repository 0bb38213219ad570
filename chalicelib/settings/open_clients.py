"""The settings about clients that the operator has not registered: what they may have at most."""

from collections.abc import Mapping, Sequence
from typing import Any

from chalicelib.protocol.open_clients import GRANT_TYPES, REDIRECTS
from chalicelib.protocol.scopes import OPEN_SCOPES
from chalicelib.settings.values import SettingsError, scope


def read(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings `open_client_…`. Raises SettingsError."""
    grant_types = _some_of(environ, "SIGNET_OPEN_CLIENT_GRANT_TYPES", GRANT_TYPES)
    if GRANT_TYPES[0] not in grant_types:
        raise SettingsError(f"SIGNET_OPEN_CLIENT_GRANT_TYPES lacks {GRANT_TYPES[0]}, which all of them need")
    return {
        "open_client_scope": scope(environ, "SIGNET_OPEN_CLIENT_SCOPE", " ".join(OPEN_SCOPES)),
        "open_client_redirects": _some_of(environ, "SIGNET_OPEN_CLIENT_REDIRECTS", REDIRECTS),
        "open_client_grant_types": grant_types,
    }


def _some_of(environ: Mapping[str, str], name: str, legal: Sequence[str]) -> tuple[str, ...]:
    """Return the words of a setting in their own order; all of them, if it is not set. Raises SettingsError."""
    words = environ.get(name, "").split()
    for word in words:
        if word not in legal:
            raise SettingsError(
                f"{name} has {word!r}; it must be some of these, separated by spaces: {' '.join(legal)}"
            )
    return tuple(word for word in legal if word in (words or legal))
