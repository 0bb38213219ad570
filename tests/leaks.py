"""Looks for secrets in what was written down."""

import json
from urllib.parse import quote, quote_plus

from tests.browser import VERIFIER
from tests.site import PASSWORD

SHORTEST = 8
_ENDING = 12


def leaks(text: str, secrets: set[str]) -> set[str]:
    """The secrets that stand in the text, as they are or as a URL or JSON would have them.

    Thousands of secrets in megabytes of text: their endings are looked up at every place (their beginnings are alike).
    """
    forms = {form: secret for secret in secrets for form in _spellings(secret)}
    found = {secret for form, secret in forms.items() if len(form) < _ENDING and form in text}
    endings: dict[str, list[str]] = {}
    for form in forms:
        if len(form) >= _ENDING:
            endings.setdefault(form[-_ENDING:], []).append(form)
    for place in range(_ENDING, len(text) + 1):
        for form in endings.get(text[place - _ENDING : place], ()):
            if text.endswith(form, 0, place):
                found.add(forms[form])
    return found


def _spellings(secret: str) -> set[str]:
    return {secret, quote(secret), quote_plus(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1]}


def all_secrets(site_secrets: set[str]) -> set[str]:
    return {secret for secret in (*site_secrets, VERIFIER, PASSWORD) if len(secret) >= SHORTEST}
