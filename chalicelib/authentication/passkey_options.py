"""What a page asks of the browser: the options of passkeys, with a challenge that only this server can have made.

A challenge is not stored. It is random, says when it expires, and has a tag over its purpose and the browser or session
that it was shown to. It is spent, by its random part, in the transaction of what its answer does.
"""

import json
import secrets
from collections.abc import Iterable
from typing import Any

from chalicelib.authentication.passkeys import IsChallenge, PasskeyError
from chalicelib.protocol.compact_json import to_json
from chalicelib.protocol.durations import MINUTE
from chalicelib.protocol.handles import base64url, from_base64url
from chalicelib.protocol.passkey import ALGORITHMS, Passkey, is_own_domain, user_handle
from chalicelib.protocol.records import User
from chalicelib.protocol.spent_assertion import SpentAssertion
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.storage.table import Write

LIFETIME = 5 * MINUTE
_NONCE, _EXPIRY = 16, 4  # bytes, before the tag
_CLOCK_DIFFERENCE = 60  # seconds by which another process may be ahead


@dataclass(frozen=True)
class Purpose:
    """What a challenge is for: `action`, and who it was shown to, such as a browser and the request that it answers."""

    action: str
    shown_to: tuple[str, ...]

    def challenge(self, server: AuthorizationServer) -> str:
        """Return a new challenge, base64url."""
        head = secrets.token_bytes(_NONCE) + (server.now() + LIFETIME).to_bytes(_EXPIRY, "big")
        return base64url(head + from_base64url(server.keys.form_tag(self._subject(head))))

    def checks(self, server: AuthorizationServer) -> IsChallenge:
        """Return the function that says whether a challenge was made for this, and is not older than LIFETIME."""

        def is_challenge(challenge: bytes) -> bool:
            head, tag = challenge[: _NONCE + _EXPIRY], challenge[_NONCE + _EXPIRY :]
            if not server.keys.is_valid_form_tag(self._subject(head), base64url(tag)):
                return False
            left = int.from_bytes(head[_NONCE:], "big") - server.now()
            if not 0 < left <= LIFETIME + _CLOCK_DIFFERENCE:
                raise PasskeyError("passkey_expired", "the challenge has expired")
            return True

        return is_challenge

    def _subject(self, head: bytes) -> str:
        return " ".join(["passkey", self.action, base64url(head), *self.shown_to])


def for_sign_in(browser_id: str, request_id: str) -> Purpose:
    """Return the purpose of a sign-in for a request, whose page was shown to this browser."""
    return Purpose("sign_in", (browser_id, request_id))


def for_second_factor(browser_id: str, request_id: str, sub: str) -> Purpose:
    """Return the purpose of a second factor, of a user whose password was right."""
    return Purpose("second_factor", (browser_id, request_id, sub))


def for_confirmation(session_id: str, sub: str, action: str) -> Purpose:
    """Return the purpose of confirming an action of the account pages in this session."""
    return Purpose("confirm", (action, session_id, sub))


def for_creation(session_id: str, sub: str) -> Purpose:
    """Return the purpose of a new passkey of a user in this session."""
    return Purpose("create", (session_id, sub))


def spending(server: AuthorizationServer, client_data: bytes) -> Write[Any]:
    """Return the write that spends the challenge of an answer that was checked. Refused when it was spent before."""
    challenge = from_base64url(str(json.loads(client_data)["challenge"]).rstrip("="))
    expires_at = int.from_bytes(challenge[_NONCE : _NONCE + _EXPIRY], "big") + 2 * _CLOCK_DIFFERENCE
    spent = SpentAssertion(f"passkey.{base64url(challenge[:_NONCE])}", expires_at)
    return server.store.spent_assertions.inserting(spent)


# ---- options, as JSON for the script of the pages


def sign_in_options(
    server: AuthorizationServer,
    purpose: Purpose,
    passkeys: Iterable[Passkey] = (),
    *,
    user_verification: bool = False,
) -> str:
    """Return the options of a sign-in (section 5.5), "" where there can be no passkeys.

    `ownDomain`, which is not one of them: whether no other server has passkeys of the domain, so that the browser may
    tell the password manager that one is unknown.

    `passkeys`: those of the user, for a second factor. A sign-in names none, so it tells nothing about any account.
    `user_verification`: the device must verify the user, also where there are `passkeys`.
    """
    rp_id = server.settings.passkey_domain
    if rp_id is None:
        return ""
    allowed = [_descriptor(passkey) for passkey in passkeys]
    options: dict[str, Any] = {"challenge": purpose.challenge(server), "rpId": rp_id, "timeout": LIFETIME * 1000}
    options |= {"userVerification": "preferred" if allowed and not user_verification else "required"}
    options |= {"ownDomain": is_own_domain(rp_id, server.issuer)}
    return to_json(options | ({"allowCredentials": allowed} if allowed else {}))


def creation_options(server: AuthorizationServer, purpose: Purpose, user: User, passkeys: Iterable[Passkey]) -> str:
    """Return the options of a new passkey (section 5.4), "" where there can be none. `passkeys`: that the user has."""
    rp_id, handle = server.settings.passkey_domain, user_handle(user.sub)
    if rp_id is None or handle is None:
        return ""
    options = {
        "challenge": purpose.challenge(server),
        "rp": {"id": rp_id, "name": server.settings.name},
        "user": {
            "id": base64url(handle),
            "name": user.username,
            "displayName": str(user.claims.get("name") or user.username),
        },
        "pubKeyCredParams": [{"type": "public-key", "alg": alg} for alg in ALGORITHMS],
        "excludeCredentials": [_descriptor(passkey) for passkey in passkeys],
        "authenticatorSelection": {"residentKey": "required", "requireResidentKey": True}
        | {"userVerification": "required"},
        "attestation": "none",
        "timeout": LIFETIME * 1000,
        "extensions": {"credProps": True},
    }
    return to_json(options)


def _descriptor(passkey: Passkey) -> dict[str, Any]:
    return {"type": "public-key", "id": passkey.credential_id, "transports": list(passkey.transports)}
