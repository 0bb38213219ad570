"""What OpenID Connect adds to an authorization request: its parameters, checked (OpenID Connect Core 3.1.2.1)."""

import base64
import json
import re

from chalicelib.errors import InvalidRequest, InvalidScope, InvalidToken, LoginRequired, UnknownKey
from chalicelib.messages import Params
from chalicelib.models import Client
from chalicelib.server import AuthorizationServer
from chalicelib.tokens import ID_TOKEN_TYPE

PROMPTS = ("none", "login", "consent", "select_account")
# Accepted: the pages are the same for all, and fit into each.
DISPLAYS = ("page", "popup", "touch", "wap")
UI_LOCALES = ("en",)
LONGEST_ID_TOKEN = 8192
LONGEST_REQUEST_OBJECT = 65536
MAX_PREFERENCES = 10
# RFC 5646 section 2.1, but for its finer points
_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8}){0,7}")
_ACR = re.compile(r"[\x21-\x7e]{1,255}")


def of_request_object(params: Params) -> Params:
    """How a request object wants to be answered: `response_mode` and `state`; nothing where it cannot be read.

    Request objects are refused (section 6.1), whoever has signed them. But the client waits for the refusal in the way
    that it has named, and that may stand in the object alone.
    """
    try:
        payload = (params.one("request", at_most=LONGEST_REQUEST_OBJECT) or "").split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (InvalidRequest, IndexError, ValueError, RecursionError):
        return Params()
    if not isinstance(claims, dict):
        return Params()
    return Params((name, claims[name]) for name in ("response_mode", "state") if isinstance(claims.get(name), str))


def check_id_token(response_type: str, scope: frozenset[str], nonce: str | None) -> None:
    """What a request for an ID token from this endpoint has to have (sections 3.3.2.1 and 3.2.2.1).

    Raises InvalidScope without `openid`, InvalidRequest without `nonce`.
    """
    if "id_token" not in response_type.split():
        return
    if "openid" not in scope:
        raise InvalidScope("An ID token is for the scope openid only.")
    if nonce is None:
        raise InvalidRequest("The nonce is missing: an ID token from this endpoint must bear one.")


def prompt(params: Params) -> frozenset[str]:
    """What the person is to be asked again. Raises InvalidRequest for unknown values, and for `none` with another."""
    values = frozenset((params.one("prompt") or "").split(" ")) - {""}
    if not values <= set(PROMPTS):
        raise InvalidRequest("The prompt must be made of " + ", ".join(PROMPTS) + ".")
    if "none" in values and len(values) > 1:
        raise InvalidRequest("prompt=none goes with no other value.")
    return values


def max_age(params: Params) -> int | None:
    """How long ago the person may have signed in, in seconds. Raises InvalidRequest when it is no number."""
    text = params.one("max_age")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise InvalidRequest("The max_age must be a number of seconds.")
    return int(text)


def hinted_sub(server: AuthorizationServer, params: Params, client: Client) -> str | None:
    """Whom the ID token names that comes as `id_token_hint` (sections 3.1.2.1 and 3.1.2.2). It may have expired.

    Raises InvalidRequest for one that is not of this client; LoginRequired for one that can no longer be checked, its
    key being retired: nobody can be said to be that person.
    """
    hint = params.one("id_token_hint", at_most=LONGEST_ID_TOKEN)
    if hint is None:
        return None
    try:
        return str(server.keys.verify(hint, ID_TOKEN_TYPE, server.issuer, client.client_id, expired=True)["sub"])
    except UnknownKey as unknown:
        raise LoginRequired("The id_token_hint is too old to be checked: ask without it.") from unknown
    except InvalidToken as wrong:
        raise InvalidRequest("The id_token_hint is not an ID token of this application.") from wrong


def acr_values(params: Params) -> tuple[str, ...]:
    """The kinds of sign-in that are wished for, the best first; a wish, so what is malformed is left out."""
    return _preferences(params, "acr_values", _ACR)


def ui_locales(params: Params) -> tuple[str, ...]:
    """The languages that are wished for, the best first; a wish, so what is malformed is left out."""
    return _preferences(params, "ui_locales", _LANGUAGE)


def _preferences(params: Params, name: str, wanted: re.Pattern[str]) -> tuple[str, ...]:
    values = (params.one(name) or "").split(" ")
    return tuple(value for value in values if wanted.fullmatch(value))[:MAX_PREFERENCES]
