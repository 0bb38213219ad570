"""Refusals of a client's record for the operator: with the options of the command that the message is about."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from chalicelib.protocol.errors import InvalidClientMetadata, InvalidRedirectUri
from infra.operator.client_options import flags_of_members
from infra.operator.commands import CommandError

_BOUND = ("tls_client_certificate_bound_access_tokens", "dpop_bound_access_tokens")
# What messages say without naming a member of the record.
_PHRASES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("redirect URI", ("redirect_uris",)),
    ("default redirect URI", ("default_redirect_uri",)),
    ("allowed origin", ("allowed_origins",)),
    ("The name ", ("client_name",)),
    ("The scope ", ("scope",)),
    ("default scope", ("default_scope",)),
    ("scope of your own", ("scope",)),
    ("PKCE", ("require_pkce",)),
    ("Direct sign-in", ("direct_sign_in",)),
    ("confidential clients", ("token_endpoint_auth_methods",)),
    ("public client", ("token_endpoint_auth_methods",)),
    ("authentication method", ("token_endpoint_auth_methods",)),
    ("grant type", ("grant_types",)),
    ("pairwise", ("subject_type",)),
    ("Access tokens are bound", _BOUND),
)
_ONE_OF_TWO = ("Register either", "found by one name")  # one of the two may have been registered before


@contextmanager
def naming_options(*, updating: bool) -> Iterator[None]:
    """Turn a refusal of the record into a CommandError that names the options of `client create` or `client update`."""
    try:
        yield
    except (InvalidClientMetadata, InvalidRedirectUri) as error:
        raise CommandError(with_options(error.description, updating=updating)) from error


def with_options(message: str, *, updating: bool) -> str:
    """Return a refusal with the options that it is about, unless it names options itself."""
    if " --" in message:
        return message if updating else _of_create(message)
    flags = flags_of_members(updating=updating)
    places = [(message.index(phrase), name) for phrase, names in _PHRASES if phrase in message for name in names]
    for name in flags:
        named = re.search(rf"(?<![\w.:/-]){name}(?![\w/-])", message) if "_" in name or name == "jwks" else None
        places += [(named.start(), name)] if named else []
    places = [(at, name) for at, name in places if name in flags]
    options = [flags[name] for _, name in sorted(places)]
    if not options and message.startswith(("http://", "https://")):  # a redirect URI that cannot be registered
        options = [flags["redirect_uris"]]
    if updating and any(phrase in message for phrase in _ONE_OF_TWO):
        options.append("--unset")
    command = " of `client update`" if updating else ""
    text = f"{message.removesuffix('.')}. Options{command}: {', '.join(dict.fromkeys(options))}."
    return text if options else message


def _of_create(message: str) -> str:
    """Return a refusal with the options of `client create` in place of those of `client update`."""
    message = message.replace("--add-redirect-uri HTTPS_URI ", "")
    message = message.replace("--remove-redirect-uri ", "leave out --redirect-uri ")
    return message.replace("--unset ", "leave out --")
