"""Find secrets in log lines, table dumps and other text."""

import json
from urllib.parse import quote, quote_plus

from tests.support.browser import VERIFIER
from tests.support.site import PASSWORD

MIN_LENGTH = 8
_ENDING = 12


def find_leaks(text: str, secrets: set[str]) -> set[str]:
    """Return the secrets that occur in the text: as they are, URL-encoded, or escaped as in JSON.

    There are thousands of secrets and megabytes of text, so every position is looked up in a dictionary of the secrets'
    last characters. (Their first characters are often the same.)
    """
    forms = {form: secret for secret in secrets for form in _spellings(secret)}
    leaked = {secret for form, secret in forms.items() if len(form) < _ENDING and form in text}
    endings: dict[str, list[str]] = {}
    for form in forms:
        if len(form) >= _ENDING:
            endings.setdefault(form[-_ENDING:], []).append(form)
    for place in range(_ENDING, len(text) + 1):
        for form in endings.get(text[place - _ENDING : place], ()):
            if text.endswith(form, 0, place):
                leaked.add(forms[form])
    return leaked


def _spellings(secret: str) -> set[str]:
    return {secret, quote(secret), quote_plus(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1]}


def all_secrets(site_secrets: set[str]) -> set[str]:
    """Return the secrets of a site and those that all tests share, without the ones too short to search for."""
    return {secret for secret in (*site_secrets, VERIFIER, PASSWORD) if len(secret) >= MIN_LENGTH}
