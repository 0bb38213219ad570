"""Sign-in identifiers: the names that a user signs in with, as storage keys."""

import unicodedata


def username_identifier(username: str) -> str:
    """Return the storage key of a username, equal for all spellings in case and width (RFC 8265 section 3.3)."""
    return "username:" + unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", username).casefold())
