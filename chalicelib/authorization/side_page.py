"""Pages beside an authorization request, for people who cannot sign in: they ask for an email with a code.

The query of such a page is that of the request from whose sign-in page the person came, so that it can be continued.
"""

from typing import Any

from chalicelib import pages
from chalicelib.authorization.forms import query_to_keep
from chalicelib.authorization.problems import address_of
from chalicelib.http.messages import Params, Request, Response
from chalicelib.protocol.errors import TooManyEmails
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_forms import browser_of_form, browser_tag
from chalicelib.sessions.browser_sessions import identify_browser


@dataclass(frozen=True)
class SidePage:
    """One of these pages: the `name` of its template, its `path`, and its one `field`, in which something is typed."""

    name: str
    path: str
    field: str

    def show(
        self, server: AuthorizationServer, http: Request, problem: str = "", typed: str = "", **values: Any
    ) -> Response:
        """Return the page with its form."""
        browser_id, new_cookie = identify_browser(server, http)
        base, query = pages.base(server.settings), query_to_keep(http)
        page = pages.page(
            self.name,
            server.settings,
            http,
            action=base + self.path + (f"?{query}" if query else ""),
            fields=[("tag", browser_tag(server, self._about, browser_id))],
            sign_in=address_of(server, query) if query else f"{base}/account",
            problem=problem,
            **{self.field: typed or http.query.raw("login_hint") or ""},
            **values,
        )
        # The address may be a long one: it must not be repeated in a header field of the next request.
        return pages.response(page, 400 if problem else 200).add({"Referrer-Policy": "origin"}).add(new_cookie)

    def show_limit(
        self, server: AuthorizationServer, http: Request, limit: TooManyEmails, typed: str, **values: Any
    ) -> Response:
        """Return the page with its form for a caller who has asked for too many emails."""
        response = self.show(server, http, limit.description, typed, **values).add(limit.headers)
        response.status = limit.status
        return response

    def browser_of(self, server: AuthorizationServer, http: Request, form: Params) -> str | None:
        """Return the id of this browser, to which the page was shown; None for a form that was not."""
        return browser_of_form(server, http, form, self._about)

    @property
    def _about(self) -> str:
        return self.name.upper()
