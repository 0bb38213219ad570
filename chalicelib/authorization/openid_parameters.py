"""The parameters that OpenID Connect adds to an authorization request, checked (OpenID Connect Core 3.1.2.1)."""

from collections.abc import Callable
from typing import Any

from chalicelib.http.messages import MAX_BODY, Params
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidRequest, InvalidScope, InvalidToken, LoginRequired, UnknownKey
from chalicelib.protocol.languages import is_tag
from chalicelib.server import AuthorizationServer
from chalicelib.tokens.issue import ID_TOKEN_TYPE

PROMPTS = ("none", "login", "consent", "select_account")
# Accepted: the pages are the same for all, and fit into each.
DISPLAYS = ("page", "popup", "touch", "wap")
MAX_ID_TOKEN = 8192
MAX_LOGIN_HINT = 320
MAX_PREFERENCES = 10


def read_openid_parameters(
    server: AuthorizationServer, params: Params, client: Client, response_type: str, scope: frozenset[str]
) -> dict[str, Any]:
    """Return the fields of AuthorizationRequest that OpenID Connect defines, except `claims`.

    Raises InvalidScope, InvalidRequest, and LoginRequired for an `id_token_hint` that can no longer be checked.
    """
    nonce = params.get("nonce")
    _check_id_token(response_type, scope, nonce)
    for name in ("display", "claims_locales"):  # accepted without effect, unless repeated
        params.get(name)
    return {
        "nonce": nonce,
        "prompt": _prompt(params, prompts(server)),
        "max_age": _max_age(params),
        "login_hint": _login_hint(params),
        "hinted_sub": _hinted_sub(server, params, client),
        "acr_values": _preferences(params, "acr_values", server.settings.authentication_policy.acr_values.__contains__),
        "ui_locales": _preferences(params, "ui_locales", is_tag),
    }


def _check_id_token(response_type: str, scope: frozenset[str], nonce: str | None) -> None:
    """Check what a request for an ID token from the authorization endpoint needs (sections 3.3.2.1 and 3.2.2.1).

    Raises InvalidScope without `openid`, InvalidRequest without `nonce`.
    """
    if "id_token" not in response_type.split():
        return
    if "openid" not in scope:
        raise InvalidScope("An ID token needs the scope openid.")
    if nonce is None:
        raise InvalidRequest("The nonce is missing: an ID token from this endpoint must have one.")


def prompts(server: AuthorizationServer) -> tuple[str, ...]:
    """Return the values of `prompt` that are supported: `create` (Initiating User Registration 1.0) by a setting."""
    return (*PROMPTS, "create") if server.settings.offers_sign_up else PROMPTS


def _prompt(params: Params, supported: tuple[str, ...]) -> frozenset[str]:
    """Return the values of `prompt`. Raises InvalidRequest for unknown ones, and for `none` with another."""
    values = frozenset((params.get("prompt") or "").split(" ")) - {""}
    if not values <= set(supported):
        raise InvalidRequest("The prompt must be made of " + ", ".join(supported) + ".")
    if "none" in values and len(values) > 1:
        raise InvalidRequest("prompt=none cannot be combined with another value.")
    return values


def _max_age(params: Params) -> int | None:
    """Return how long ago the user may have signed in, in seconds. Raises InvalidRequest for anything else."""
    text = params.get("max_age")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise InvalidRequest("The max_age must be a number of seconds.")
    return int(text)


def _login_hint(params: Params) -> str | None:
    """Return who may want to sign in. It is a hint, so one that is too long for a username or address is ignored."""
    hint = params.get("login_hint", at_most=MAX_BODY)
    return hint if hint and len(hint) <= MAX_LOGIN_HINT else None


def _hinted_sub(server: AuthorizationServer, params: Params, client: Client) -> str | None:
    """Return the `sub` of the ID token in `id_token_hint` (sections 3.1.2.1 and 3.1.2.2), which may have expired.

    Raises InvalidRequest for another client's token; LoginRequired for one whose key has been retired, because it
    cannot be said that a user is the one it names.
    """
    hint = params.get("id_token_hint", at_most=MAX_ID_TOKEN)
    if hint is None:
        return None
    try:
        return str(server.keys.verify(hint, ID_TOKEN_TYPE, server.issuer, client.client_id, expired=True)["sub"])
    except UnknownKey as unknown:
        raise LoginRequired("The id_token_hint is too old to be checked. Send the request without it.") from unknown
    except InvalidToken as wrong:
        raise InvalidRequest("The id_token_hint is not an ID token of this application.") from wrong


def _preferences(params: Params, name: str, is_usable: Callable[[str], object]) -> tuple[str, ...]:
    """Return the values in order of preference. They are preferences, so malformed and unknown ones are left out."""
    values = dict.fromkeys((params.get(name) or "").split(" "))
    return tuple(value for value in values if is_usable(value))[:MAX_PREFERENCES]
