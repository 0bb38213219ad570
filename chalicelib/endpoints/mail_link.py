"""/account/link: what the links in emails open, and where the code of an email is typed.

Opening a link changes nothing: programs open links in messages, and some send the forms on the pages behind them. What
an email allows is done in the browser that asked for it. In another one its code must be typed, or, to confirm an
address, its user be signed in. The address contains a secret: it is sent to no other page as a referrer.
"""

from collections.abc import Callable
from typing import Any

from chalicelib import pages
from chalicelib.authentication import proofs
from chalicelib.authentication.proofs import LINK_PARAMETER, LINK_PATH, Content, WrongCode
from chalicelib.authorization import email_link
from chalicelib.authorization.problems import address_of
from chalicelib.http.csrf import require_own_page, send_no_referrer
from chalicelib.http.messages import Params, Request, Response, redirect, with_query
from chalicelib.protocol.email_addresses import masked
from chalicelib.protocol.identifiers import trim
from chalicelib.protocol.proof import INVITATION, RESET, RESTORE, SIGN_IN, SIGN_UP, UNDO, VERIFY, Proof
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.sessions import browser_sessions
from chalicelib.sessions.browser_forms import NOT_SHOWN, browser_of_form, browser_tag
from chalicelib.users import email_address, password_reset, restoration, sign_up
from chalicelib.users.account_visit import user_of_account_pages


@dataclass(frozen=True)
class Visit:
    """A request about a proof. `link`: the handle in its link; None for the browser that asked, which has its id."""

    server: AuthorizationServer
    http: Request
    proof: Proof
    content: Content
    link: str | None

    @property
    def browser_id(self) -> str | None:
        """The id of this browser, None if it has none yet."""
        return browser_sessions.browser_id_of(self.server, self.http)

    @property
    def is_own_browser(self) -> bool:
        """Whether this browser may use the proof: it has asked for it, or its code was typed here."""
        return self.proof.browser_id is not None and self.proof.browser_id == self.browser_id

    @property
    def next_page(self) -> str:
        """The address at which the user continues once all is done: the authorization request, or the account."""
        query, client_id = self.content.query, self.content.client_id
        home = pages.home_of(self.server.client(client_id)) if client_id else None
        return address_of(self.server, query) if query else home or f"{pages.base(self.server.settings)}/account"

    def page(self, name: str, problem: str = "", redirect_uri: str | None = None, **values: Any) -> Response:
        """Return a page with a form that is sent to this address. `redirect_uri`: to which it may lead."""
        server, http, query = self.server, self.http, self.content.query
        browser_id, new_cookie = browser_sessions.identify_browser(server, http)
        about = (LINK_PARAMETER, self.link) if self.link else ("proof", self.proof.proof_id)
        ask_again = proofs.ASK_AGAIN.get(self.proof.purpose, "")
        common: dict[str, Any] = {
            "action": pages.base(server.settings) + LINK_PATH,
            "fields": [about, ("tag", browser_tag(server, _about(self.proof), browser_id))],
            "purpose": self.proof.purpose,
            "address": masked(self.content.address) if self.content.address else "",
            "typed": self.content.typed,
            "next_page": self.next_page,
            "ask_again": ask_again and pages.base(server.settings) + ask_again + (f"?{query}" if query else ""),
            "problem": problem,
        }
        page_address = with_query(pages.base(server.settings) + LINK_PATH, dict([about]))
        page = pages.page(name, server.settings, http, page_address, **(common | values))
        return pages.response(page, 400 if problem else 200, redirect_uri).add(new_cookie)


def get(server: AuthorizationServer, http: Request) -> Response:
    """Show what the email is for, with a button, or ask for its code."""
    send_no_referrer(http)
    return _show(_visit(server, http, http.query))


def post(server: AuthorizationServer, http: Request) -> Response:
    """Check a code that was typed, or do what the email is for."""
    send_no_referrer(http)
    require_own_page(server.issuer, http)
    form = http.form()
    visit = _visit(server, http, form)
    browser_id = browser_of_form(server, http, form, _about(visit.proof))
    if browser_id is None:
        return _show(visit, NOT_SHOWN)
    if visit.proof.purpose == SIGN_IN:
        return _sign_in(visit, browser_id)
    if "code" in form:
        return _check_code(visit, form.get("code") or "", browser_id)
    if visit.proof.purpose == VERIFY:
        return _confirm(visit)
    if not visit.is_own_browser or visit.link is None:
        return _show(visit)
    return _ACTIONS[visit.proof.purpose](visit, form, browser_id)


def _visit(server: AuthorizationServer, http: Request, parameters: Params) -> Visit:
    """Return the visit about the proof of a link, or about one that this browser asked for. Raises RequestEnded."""
    visit = _find_visit(server, http, parameters)
    # The page continues the request from which the user came.
    pages.prefer_languages(http, Params.from_urlencoded(visit.content.query))
    return visit


def _find_visit(server: AuthorizationServer, http: Request, parameters: Params) -> Visit:
    link = parameters.get(LINK_PARAMETER, at_most=512)
    if link or "proof" not in parameters:
        of_link = proofs.find_by_link(server, link)
        return Visit(server, http, of_link, proofs.content_of(server, of_link), link)
    proof_id = parameters.get("proof", at_most=128) or ""
    proof = proofs.find(server, proof_id)
    if proof is None or proof.browser_id is None or proof.browser_id != browser_sessions.browser_id_of(server, http):
        raise proofs.ended(server, proof_id.partition(".")[0])
    return Visit(server, http, proof, proofs.content_of(server, proof), None)


def _show(visit: Visit, problem: str = "") -> Response:
    purpose = visit.proof.purpose
    if purpose == SIGN_IN:
        return _show_sign_in(visit, problem)
    if visit.link is None:
        return visit.page("email_code", problem, waiting=True)
    if purpose == VERIFY:
        return _show_confirmation(visit, problem)
    if visit.proof.spent_at is not None:
        if not visit.is_own_browser:
            raise proofs.ended(visit.server, purpose)
        passkeys = password_reset.remaining_passkeys(visit.server, visit.proof) if purpose == RESET else []
        return visit.page(f"{_PAGES[purpose]}_done", passkeys=passkeys)
    if not visit.is_own_browser:
        return visit.page("email_code", problem, waiting=False)
    return _FORMS[purpose](visit, problem)


def _check_code(visit: Visit, code: str, browser_id: str) -> Response:
    """Continue with the page of the link if the code is right, and let this browser use it."""
    server, proof = visit.server, visit.proof
    try:
        by_link = visit.link is not None and not visit.is_own_browser
        proofs.check_code(server, visit.http, proof, code, by_link=by_link)
    except WrongCode as wrong:
        return visit.page("email_code", str(wrong), waiting=visit.link is None)
    proofs.let_browser_use(server, proof, browser_id)
    handle = proofs.link_handle(server, proof)
    return redirect(visit.http, with_query(pages.base(server.settings) + LINK_PATH, {LINK_PARAMETER: handle}))


def _again(visit: Visit) -> Response:
    """Return the redirect to the page of the link, which says what was done."""
    path = pages.base(visit.server.settings) + LINK_PATH
    return redirect(visit.http, with_query(path, {LINK_PARAMETER: visit.link}))


# ---- a sign-in


def _show_sign_in(visit: Visit, problem: str) -> Response:
    """Show the button that signs in, in the browser that asked; any other one is told to enter the code there."""
    if visit.proof.spent_at is not None and not visit.is_own_browser:
        raise proofs.ended(visit.server, SIGN_IN)
    if visit.link is not None and not visit.is_own_browser:
        return visit.page("email_sign_in_link", client=None)
    if visit.link is None or visit.proof.spent_at is not None:
        return redirect(visit.http, visit.next_page)
    request, client = email_link.request_of(visit.server, visit.http, visit.proof, visit.content)
    return visit.page("email_sign_in_link", problem, request.redirect_uri, client=client)


def _sign_in(visit: Visit, browser_id: str) -> Response:
    if visit.link is None or not visit.is_own_browser:
        return _show_sign_in(visit, "")
    return email_link.sign_in(visit.server, visit.http, visit.proof, visit.content, browser_id)


# ---- a new password


def _show_new_password(visit: Visit, problem: str) -> Response:
    user = password_reset.user_of(visit.server, visit.proof)
    return visit.page("reset_password", problem, username=user.username)


def _reset_password(visit: Visit, form: Params, browser_id: str) -> Response:
    passwords = form.raw("new_password") or "", form.raw("new_password_again") or ""
    try:
        if visit.proof.spent_at is None:
            password_reset.reset(visit.server, visit.http, visit.proof, *passwords, browser_id)
    except ValueError as problem:
        return _show_new_password(visit, str(problem))
    return _again(visit)


# ---- a new account


def _show_new_account(visit: Visit, problem: str, field: str = "", username: str | None = None) -> Response:
    sign_up.require_offered(visit.server, visit.proof)
    terms = visit.server.settings.sign_up_terms_url
    name = visit.content.typed if username is None else username
    return visit.page("new_account", problem, field=field, username=name, terms=terms)


def _create_account(visit: Visit, form: Params, browser_id: str) -> Response:
    username = trim(form.get("username") or "")
    passwords = form.raw("new_password") or "", form.raw("new_password_again") or ""
    try:
        if visit.proof.spent_at is None:
            sign_up.create(visit.server, visit.http, visit.proof, username, *passwords, browser_id)
    except sign_up.NotCreated as problem:
        return _show_new_account(visit, str(problem), problem.field, username)
    return _again(visit)


# ---- an email address


def _show_confirmation(visit: Visit, problem: str) -> Response:
    """Show the button that confirms an address to its user, and to others where to sign in."""
    user = user_of_account_pages(visit.server, visit.http)
    own = user is not None and user.sub == visit.proof.sub
    if visit.proof.spent_at is not None and not own:
        raise proofs.ended(visit.server, VERIFY)
    if user and own and visit.proof.spent_at is None:
        email_address.require_current(visit.server, user, visit.proof)
    return visit.page("confirm_address", problem, user=user, own=own, done=visit.proof.spent_at is not None)


def _confirm(visit: Visit) -> Response:
    server, user = visit.server, user_of_account_pages(visit.server, visit.http)
    if visit.link is None or user is None or user.sub != visit.proof.sub:
        return _show(visit)
    if visit.proof.spent_at is None:
        try:
            email_address.confirm(server, visit.http, user, visit.proof)
        except email_address.AddressTaken as taken:
            return _show(visit, str(taken))
    path = f"{pages.base(server.settings)}/account/email"
    return redirect(visit.http, with_query(path, {"done": "email_changed"}))


def _show_undo(visit: Visit, problem: str) -> Response:
    user = email_address.user_of_undo(visit.server, visit.proof)
    return visit.page("undo_address", problem, username=user.username, current=masked(user.claims.get("email", "")))


def _undo(visit: Visit, _form: Params, browser_id: str) -> Response:
    if visit.proof.spent_at is None:
        try:
            email_address.undo(visit.server, visit.http, visit.proof, browser_id)
        except email_address.AddressTaken as taken:
            return _show(visit, str(taken))
    return _again(visit)


# ---- a deleted account


def _show_restoration(visit: Visit, problem: str) -> Response:
    user = restoration.user_of(visit.server, visit.proof)
    return visit.page("restore_account", problem, user=user)


def _restore(visit: Visit, _form: Params, browser_id: str) -> Response:
    if visit.proof.spent_at is None:
        restoration.accept_by_email(visit.server, visit.http, visit.proof, browser_id)
    return _again(visit)


_NEW_ACCOUNT = (SIGN_UP, INVITATION)
_PAGES = {RESET: "reset_password", UNDO: "undo_address", RESTORE: "restore_account"}
_PAGES |= dict.fromkeys(_NEW_ACCOUNT, "new_account")
_FORMS: dict[str, Callable[[Visit, str], Response]] = {
    RESET: _show_new_password,
    UNDO: _show_undo,
    RESTORE: _show_restoration,
    **dict.fromkeys(_NEW_ACCOUNT, _show_new_account),
}
_ACTIONS: dict[str, Callable[[Visit, Params, str], Response]] = {
    RESET: _reset_password,
    UNDO: _undo,
    RESTORE: _restore,
    **dict.fromkeys(_NEW_ACCOUNT, _create_account),
}


def _about(proof: Proof) -> str:
    """Return what the tag of the form proves, besides the browser."""
    return f"EMAIL {proof.proof_id}"
