"""The sign-in step answered with a passkey instead of a password."""

from dataclasses import replace
from typing import Any

from chalicelib.authentication.passkey_sign_in import FIELD, PasskeyAttempt, VerifiedPasskey
from chalicelib.authentication.passkeys import TEXTS, PasskeyError
from chalicelib.authorization.flow import proceed, stored_if_continued
from chalicelib.authorization.forms import SentForm, query_of
from chalicelib.authorization.interaction import Interaction
from chalicelib.authorization.problems import Problem, redirect_with_problem
from chalicelib.authorization.request import ended
from chalicelib.authorization.restoration import offer_restoration
from chalicelib.http.messages import Params, Request, Response
from chalicelib.protocol.errors import LoginRequired, RequestEnded
from chalicelib.protocol.next_step import WRONG_USER, Step, is_intended_user
from chalicelib.protocol.records import Consent
from chalicelib.server import AuthorizationServer
from chalicelib.sessions import browser_sessions
from chalicelib.storage.store import Records
from chalicelib.storage.table import Lookup
from chalicelib.tokens.subjects import subject


class PasskeyForm:
    """The sign-in form with the answer of a passkey, of a browser with this id."""

    def __init__(self, server: AuthorizationServer, http: Request, text: str, browser_id: str, sent: SentForm):
        self.attempt = PasskeyAttempt(server, http, text, browser_id, sent.request_id)
        self.sent = sent
        self._of_consent = server.store.consents.lookup(self.attempt.sub, http.query.raw("client_id") or "")

    @classmethod
    def read(
        cls, server: AuthorizationServer, http: Request, form: Params, browser_id: str, sent: SentForm
    ) -> "PasskeyForm | None":
        """Return the form if it has the answer of a passkey, else None."""
        text = form.raw(FIELD)
        return cls(server, http, text, browser_id, sent) if text else None

    @property
    def lookups(self) -> tuple[Lookup[Any], ...]:
        """The records that `answer` needs."""
        return (*self.attempt.lookups, self._of_consent) if self.attempt.lookups else ()

    def consent(self, interaction: Interaction, records: Records, sub: str) -> Consent | None:
        """Return the consent of the user for the client, read again only if the address does not name the client."""
        client_id = interaction.client.client_id
        if self._of_consent.key == (sub, client_id):
            return records.get(self._of_consent)
        return interaction.server.store.consents.get(sub, client_id)

    def answer(self, interaction: Interaction, records: Records) -> Response:
        """Sign in the user of the passkey and continue with the request, or show the page again with the problem.

        A user who has deleted the account is offered to restore it, and nothing else.
        `records` were read for `lookups`. Raises LoginRequired when the request is meant for another user.
        """
        server, request = interaction.server, interaction.request
        try:
            verified = self.attempt.verify(records, interaction.client)
            if not is_intended_user(request, subject(server, interaction.client, verified.user.sub)):
                raise LoginRequired(WRONG_USER)
            return self._start(interaction, verified, self.consent(interaction, records, verified.user.sub))
        except PasskeyError as failure:
            if request.answered:  # its address leads to the answer for the user who has signed in
                raise ended(request) from failure
            return _show_problem(interaction, failure.code)

    def _start(self, interaction: Interaction, verified: VerifiedPasskey, consent: Consent | None) -> Response:
        server, http = interaction.server, interaction.http
        if verified.user.deleted_at is not None:
            if server.store.transact(*verified.writes):  # the challenge is spent, or the counter has moved
                return _show_problem(interaction, "passkey_expired")
            return offer_restoration(interaction, verified.user)
        request, storing_it = stored_if_continued(interaction, verified.user, consent, self.attempt.amr)
        writes = (*verified.writes, *storing_it)
        try:
            how = browser_sessions.SignIn(self.attempt.amr, self.sent.digest, kept=bool(request.keep_signed_in))
            signed_in = browser_sessions.start_session(
                server, http, verified.user, request.request_id, interaction.signed_in, writes, how
            )
        except RequestEnded:  # the challenge is spent, or the counter has moved
            if interaction.request.answered:
                raise
            return _show_problem(interaction, "passkey_expired")
        return proceed(replace(interaction, request=request, signed_in=signed_in, consent=consent))


def _show_problem(interaction: Interaction, code: str) -> Response:
    keep = bool(interaction.request.keep_signed_in)
    problem = Problem(TEXTS[code], code, 400, Step.SIGN_IN.name, keep=keep)
    return redirect_with_problem(interaction.server, interaction.http, query_of(interaction), problem)
