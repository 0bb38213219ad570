"""Proofs by email: creating one, finding it by its link, checking its code, and spending it once.

Opening a link changes nothing, because programs open links in messages, and send the forms behind them. A proof is
used in the browser that asked for it. In another browser, the code must be typed, which only a person does.
"""

import json
import secrets
from dataclasses import fields
from typing import Any

from chalicelib import events, pages
from chalicelib.http.messages import Request, with_query
from chalicelib.mail import proof_codes
from chalicelib.mail.proof_codes import LINK_PARAMETER as LINK_PARAMETER  # parts of this interface
from chalicelib.mail.proof_codes import LINK_PATH as LINK_PATH
from chalicelib.protocol.durations import HOUR
from chalicelib.protocol.errors import RequestEnded
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.proof import LIFETIMES, MAX_LINK_TRIES, MAX_TRIES, RESET, SIGN_IN, SIGN_UP, VERIFY, Proof
from chalicelib.protocol.texts import Text
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.storage.dynamodb import Condition, attr
from chalicelib.storage.table import Refused, Write

NO_USER = "no user"  # no sub has a space
# purpose -> where a new email can be asked for
ASK_AGAIN = {RESET: "/account/recover", VERIFY: "/account/email", SIGN_UP: "/account/sign-up", SIGN_IN: "/account"}
ENDED = "The link or the code has expired, was used, or was replaced by that of a newer email."
WRONG_CODE = Text("This is not the code from the newest email.")
TOO_MANY = "There were too many wrong codes."


class WrongCode(Exception):
    """The code is not right, but another one may be tried."""


@dataclass(frozen=True)
class Content:
    """What a proof keeps encrypted. `address`: where the email was sent, "" for a decoy. `typed`: what was asked for.

    `query`: leads to the authorization request with which to continue, "" for the account page. `client_id`: of an
    invitation.
    """

    address: str = ""
    typed: str = ""
    query: str = ""
    client_id: str = ""


def new_proof(
    server: AuthorizationServer,
    purpose: str,
    about: str | None,
    content: Content,
    *,
    browser_id: str | None = None,
    sub: str | None = None,
    generation: int = 0,
    lifetime: int | None = None,
) -> Proof:
    """Return a new proof. `about`: whom it is for, of which only a digest is stored; None replaces no other proof.

    `lifetime`: in seconds, by default that of the purpose.
    """
    digest = server.keys.digest("proof", purpose, new_id() if about is None else about)
    key, now = f"{purpose}.{digest}", server.now()
    sealed = server.keys.seal(json.dumps(list(vars(content).values())), f"proof {key}")
    expires_at = now + (LIFETIMES[purpose] if lifetime is None else lifetime)
    return Proof(key, new_id(), now, expires_at, browser_id, sub, sealed, generation)


def storing(server: AuthorizationServer, proof: Proof) -> Write[Proof]:
    """Return the write that stores a proof, and so ends an earlier one for the same purpose."""
    names = [field.name for field in fields(proof) if field.name != "proof_key"]
    set_ = {name: value for name in names if (value := getattr(proof, name)) is not None}
    remove = tuple(name for name in names if name not in set_)
    return server.store.proofs.changing((proof.proof_key,), None, set_, remove=remove, create=True)


def content_of(server: AuthorizationServer, proof: Proof) -> Content:
    """Return what a proof keeps encrypted. Raises RequestEnded when its key was retired."""
    text = server.keys.unseal(proof.sealed or "", f"proof {proof.proof_key}")
    if text is None:
        raise ended(server, proof.purpose)
    return Content(*json.loads(text))


def find(server: AuthorizationServer, proof_id: str | None) -> Proof | None:
    """Return a proof by its id, spent or not; None when it has expired or was replaced. One read."""
    key, _, nonce = (proof_id or "").rpartition(".")
    proof = server.store.proofs.get(key)
    return proof if proof and secrets.compare_digest(proof.nonce.encode(), nonce.encode()) else None


def find_by_link(server: AuthorizationServer, handle: str | None) -> Proof:
    """Return the proof of a link. Raises RequestEnded without one; a forged link is rejected without a read."""
    proof_id = proof_codes.read_link(server, handle)
    proof = find(server, proof_id)
    if proof is None:
        raise ended(server, (proof_id or "").partition(".")[0])
    return proof


def link_handle(server: AuthorizationServer, proof: Proof) -> str:
    """Return the handle of a proof's link."""
    return proof_codes.link_handle(server, proof.proof_id)


def code_address(server: AuthorizationServer, proof: Proof) -> str:
    """Return where the browser that asked for the email types its code."""
    return with_query(pages.base(server.settings) + proof_codes.LINK_PATH, {"proof": proof.proof_id})


def check_code(server: AuthorizationServer, http: Request, proof: Proof, code: str, *, by_link: bool = False) -> None:
    """Count one try of the code, and compare it. Raises WrongCode, and RequestEnded when no try is left.

    The try is counted before the comparison, so that parallel tries get no further. A right code counts too. `by_link`:
    it was typed in a browser that did not ask for the email, but has its link: this counts apart, because programs that
    read messages send forms, and must not use up the tries of the person.
    """
    content, sent = content_of(server, proof), proof_codes.normalize(code)
    if len(sent) != proof_codes.CODE_LENGTH or not set(sent) <= set(proof_codes.ALPHABET):
        raise WrongCode(WRONG_CODE)
    counter, limit = ("link_tries", MAX_LINK_TRIES) if by_link else ("tries", MAX_TRIES)
    few = _unspent(proof) & ~attr(counter).gte(limit)
    counting = server.store.proofs.changing((proof.proof_key,), few, add={counter: 1})
    counted = server.store.proofs.write(counting)
    if isinstance(counted, Refused):
        current = counted.record
        is_same = current is not None and current.nonce == proof.nonce and current.spent_at is None
        raise ended(server, proof.purpose, content.query, TOO_MANY if is_same else ENDED)
    expected = proof_codes.code_of(server, proof.proof_id, proof.purpose)
    if not secrets.compare_digest(expected.encode(), sent.encode()) or not content.address:
        events.note(http, events.EMAIL_CODE_REJECTED, sub=proof.sub)
        if getattr(counted, counter) >= limit:
            raise ended(server, proof.purpose, content.query, TOO_MANY)
        raise WrongCode(WRONG_CODE)


def let_browser_use(server: AuthorizationServer, proof: Proof, browser_id: str) -> None:
    """Let this browser use the proof in place of the one that asked, once its code was typed. Raises RequestEnded."""
    if proof.browser_id == browser_id:
        return
    bound = server.store.proofs.transition((proof.proof_key,), _unspent(proof), {"browser_id": browser_id})
    if isinstance(bound, Refused):
        raise ended(server, proof.purpose)


def spending(server: AuthorizationServer, proof: Proof, browser_id: str | None = None) -> Write[Proof]:
    """Return the write that spends a proof, once, for the transaction that does what it is for.

    `browser_id`: the browser that must still be the one that may use it. The record stays for an hour, so that the
    same browser can be told again what was done.
    """
    condition = _unspent(proof)
    if browser_id is not None:
        condition &= attr("browser_id").eq(browser_id)
    now = server.now()
    set_: dict[str, Any] = {"spent_at": now, "expires_at": now + HOUR}
    return server.store.proofs.changing((proof.proof_key,), condition, set_)


def is_spent(current: Proof | None, proof: Proof, browser_id: str | None = None) -> bool:
    """Return whether this proof was spent, by `browser_id` if it is given: the same form was sent twice.

    `current`: the record as it is now.
    """
    if current is None or current.spent_at is None or current.nonce != proof.nonce:
        return False
    return browser_id in (None, current.browser_id)


def ended(server: AuthorizationServer, purpose: str = "", query: str = "", text: str = ENDED) -> RequestEnded:
    """Return the error for a link or a code that cannot be used, or not again. Its page leads to where to ask again.

    `query`: of the authorization request with which to continue.
    """
    path = ASK_AGAIN.get(purpose, "")
    retry = pages.base(server.settings) + path + (f"?{query}" if query else "") if path else ""
    return RequestEnded(text, code="email_link_ended", retry=retry)


def _unspent(proof: Proof) -> Condition:
    return attr("nonce").eq(proof.nonce) & attr("spent_at").not_exists()
