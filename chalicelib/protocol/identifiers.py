"""Sign-in identifiers: the names that a user signs in with, as storage keys."""

import unicodedata

from chalicelib.protocol.email_addresses import canonical


def username_identifier(username: str) -> str:
    """Return the storage key of a username, equal for all spellings in case and width (RFC 8265 section 3.3)."""
    return "username:" + unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", username).casefold())


def email_identifier(address: str) -> str:
    """Return the storage key of a verified email address. Raises ValueError when it is none."""
    return "email:" + canonical(address)


def sign_in_identifiers(typed: str) -> tuple[str, ...]:
    """Return the storage keys of what a user typed to sign in, in the order in which they count: a username wins.

    How many there are depends on what was typed, not on what exists.
    """
    name = username_identifier(typed)
    try:
        return (name, email_identifier(typed)) if "@" in typed else (name,)
    except ValueError:
        return (name,)


def trim(username: str) -> str:
    """Return a username without the spaces and invisible characters around it, which people paste or phones add."""
    visible = [index for index, character in enumerate(username) if not _is_invisible(character)]
    return username[visible[0] : visible[-1] + 1] if visible else ""


def _is_invisible(character: str) -> bool:
    """Return whether this is a space, a line break or a format character such as U+200B."""
    return character.isspace() or unicodedata.category(character) == "Cf"
