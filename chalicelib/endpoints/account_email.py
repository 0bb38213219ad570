"""/account/email: the user's email address, how it is confirmed, and how it is changed."""

from chalicelib import pages
from chalicelib.authentication import proofs
from chalicelib.authentication.proofs import WrongCode
from chalicelib.http.messages import Params, Request, Response, redirect, with_query
from chalicelib.mail.notices import verified_address
from chalicelib.protocol.email_addresses import sendable
from chalicelib.protocol.errors import RequestEnded, TooManyEmails
from chalicelib.protocol.next_step import RECENT_ELSEWHERE
from chalicelib.protocol.proof import VERIFY, Proof
from chalicelib.protocol.texts import Text
from chalicelib.server import AuthorizationServer
from chalicelib.sessions import browser_sessions
from chalicelib.users import email_address
from chalicelib.users.account_visit import Action, Visit, answer_form, show_page, sign_in_address

PATH = "/account/email"
ALREADY = Text("This address is confirmed already.")


def get(server: AuthorizationServer, http: Request) -> Response:
    """Show the address, and the form that changes it, or the one that asks for the code of the email."""
    return show_page(server, http, _show)


def post(server: AuthorizationServer, http: Request) -> Response:
    """Send an email to a new address, or confirm it by its code."""
    return answer_form(server, http, _ACTIONS)


def _show(visit: Visit, problem: str = "", typed: str = "", proof: Proof | None = None) -> Response:
    if proof is None and (proof_id := visit.http.query.get("proof", at_most=128)):
        proof = _own_proof(visit, proof_id)
    user = visit.signed_in.user
    page_address = with_query(pages.base(visit.server.settings) + PATH, {"proof": proof.proof_id}) if proof else ""
    return visit.page(
        "email",
        400 if problem else 200,
        page_address,
        address=user.claims.get("email") or "",
        verified=verified_address(user) is not None,
        typed=typed,
        proof=proof,
        new_address=proofs.content_of(visit.server, proof).typed if proof else "",
        can_send=visit.server.settings.can_send_mail,
        sign_in_again="" if visit.is_recent else sign_in_address(visit.server, max_age=str(RECENT_ELSEWHERE)),
        problem=problem,
    )


def _own_proof(visit: Visit, proof_id: str) -> Proof:
    """Return the proof whose email this user has asked for, and not used. Raises RequestEnded."""
    proof = proofs.find(visit.server, proof_id)
    if proof is None or proof.purpose != VERIFY or proof.sub != visit.signed_in.user.sub or proof.spent_at is not None:
        raise proofs.ended(visit.server, VERIFY)
    email_address.require_current(visit.server, visit.signed_in.user, proof)
    return proof


def _change(visit: Visit, form: Params) -> Response:
    server, http, user = visit.server, visit.http, visit.signed_in.user
    typed = form.get("email", at_most=2048) or ""
    if not server.settings.can_send_mail or not visit.is_recent:
        return _show(visit, Text("Sign in again to change your email address."), typed)
    try:
        if verified_address(user) == sendable(typed):
            return _show(visit, ALREADY, typed)
        proof = email_address.ask(server, http, user, typed, browser_sessions.browser_id_of(server, http))
    except ValueError as error:
        return _show(visit, str(error), typed)
    except TooManyEmails as limit:
        response = _show(visit, limit.description, typed).add(limit.headers)
        response.status = limit.status
        return response
    path = pages.base(server.settings) + PATH
    return redirect(http, with_query(path, {"proof": proof.proof_id}))


def _confirm(visit: Visit, form: Params) -> Response:
    server, http = visit.server, visit.http
    proof_id = form.require("proof", at_most=128)
    try:
        proof = _own_proof(visit, proof_id)
        proofs.check_code(server, http, proof, form.get("code") or "")
        email_address.confirm(server, http, visit.signed_in.user, proof)
    except WrongCode as wrong:
        return _show(visit, str(wrong), proof=proof)
    except email_address.AddressTaken as taken:
        return _show(visit, str(taken))
    except RequestEnded:  # the same form, sent twice, is answered again
        if not _was_confirmed(visit, proof_id):
            raise
    return visit.back(PATH, "email_changed")


def _was_confirmed(visit: Visit, proof_id: str) -> bool:
    proof = proofs.find(visit.server, proof_id)
    return proof is not None and proof.sub == visit.signed_in.user.sub and proof.spent_at is not None


_ACTIONS: dict[str, Action] = {"change_email": _change, "confirm_email": _confirm}
