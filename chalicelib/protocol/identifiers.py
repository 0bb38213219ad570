"""Sign-in identifiers: the names that a user signs in with, as storage keys."""

import unicodedata


def username_identifier(username: str) -> str:
    """Return the storage key of a username, equal for all spellings in case and width (RFC 8265 section 3.3)."""
    return "username:" + unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", username).casefold())


def trim(username: str) -> str:
    """Return a username without the spaces and invisible characters around it, which people paste or phones add."""
    visible = [index for index, character in enumerate(username) if not _is_invisible(character)]
    return username[visible[0] : visible[-1] + 1] if visible else ""


def _is_invisible(character: str) -> bool:
    """Return whether this is a space, a line break or a format character such as U+200B."""
    return character.isspace() or unicodedata.category(character) == "Cf"
