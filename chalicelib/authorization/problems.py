"""What was wrong with a form, carried over the redirect that follows it, so that Back and reload send nothing again.

The redirect leads to the page of the same request. An encrypted cookie, which is bound to the request, tells that page
the message and the username; it is removed once the page is shown.
"""

import json

from chalicelib.authentication.password import NotSignedIn
from chalicelib.http.messages import Request, Response, redirect
from chalicelib.protocol.next_step import Step
from chalicelib.protocol.texts import Text, from_json, to_json
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.browser_sessions import cookie_name, own_cookie

COOKIE = "problem"
LIFETIME = 120
MAX_COOKIE = 560  # bytes of the value: it must leave room for the request, because gateways limit all header fields


@dataclass(frozen=True)
class Problem:
    """What is wrong with the form that was sent: a sentence for the user, and a code for the page.

    `status`: of the page that says so. `step`: the name of the only step whose page shows it, "" for any. `retry_at`:
    when the next attempt is possible, in seconds since 1970. `username` and `keep`: to fill in again.
    """

    text: str = ""
    code: str = ""
    status: int = 200
    step: str = ""
    retry_at: int = 0
    username: str | None = None
    keep: bool = False

    @classmethod
    def of_sign_in(
        cls,
        server: AuthorizationServer,
        failure: NotSignedIn,
        username: str | None,
        status: int = 400,
        *,
        keep: bool = False,
    ) -> "Problem":
        """Return the problem of a sign-in that was rejected. `status`: where the next attempt need not wait."""
        retry_at = server.now() + failure.retry_after if failure.retry_after else 0
        status, step = failure.status(status), Step.SIGN_IN.name
        return cls(failure.text, failure.code, status, step, retry_at, username, keep)

    def headers(self, now: int) -> dict[str, str]:
        """Return the header fields of the page."""
        return {"Retry-After": str(self.retry_at - now)} if self.retry_at else {}


NO_PROBLEM = Problem()
SIGNED_OUT = Problem(Text("You have been signed out. Sign in again."), "signed_out", 400, Step.SIGN_IN.name)
TOO_LATE = Problem(
    Text("You have taken too long to enter the code. Sign in again."), "signed_out", 400, Step.SIGN_IN.name
)
FORM_EXPIRED = Problem(Text("This page was out of date. Please try again."), "form_expired", 400)


def address_of(server: AuthorizationServer, query: str) -> str:
    """Return the address of the request in `query`."""
    return f"{server.path_of('authorization_endpoint')}?{query}"


def redirect_with_problem(
    server: AuthorizationServer, http: Request, query: str, problem: Problem = NO_PROBLEM
) -> Response:
    """Return the redirect to the page of the request in `query`, with a cookie that tells it the problem."""
    response = redirect(http, address_of(server, query))
    if not problem.text and problem.username is None:
        return response
    for username in (problem.username, None):
        members = [
            to_json(problem.text),
            problem.code,
            problem.status,
            problem.step,
            problem.retry_at,
            username,
            problem.keep,
        ]
        sealed = server.keys.seal(json.dumps(members, separators=(",", ":"), ensure_ascii=False), _purpose(http))
        if len(sealed) <= MAX_COOKIE:
            return response.add(own_cookie(server, COOKIE, sealed, LIFETIME))
    return response


def take_problem(server: AuthorizationServer, http: Request, step: Step) -> tuple[Problem, dict[str, str]]:
    """Return the problem that the page of a step is to show, and the Set-Cookie header that removes it.

    None is shown for another request or step, or once the next attempt is possible.
    """
    sealed = http.cookie(cookie_name(server, COOKIE))
    text = server.keys.unseal(sealed, _purpose(http)) if sealed and len(sealed) <= MAX_COOKIE else None
    if text is None:
        return NO_PROBLEM, {}
    about, *members = json.loads(text)
    problem = Problem(from_json(about), *members)
    remove = own_cookie(server, COOKIE, "", 0)
    if problem.step not in ("", step.name):
        return NO_PROBLEM, remove
    if 0 < problem.retry_at <= server.now():
        return Problem(username=problem.username, keep=problem.keep), remove
    return problem, remove


def _purpose(http: Request) -> str:
    """Return what the cookie is for: the request, whether its record still exists or not."""
    query = http.query
    return f"problem {query.replaced('request_uri', None).encoded() if 'client_id' in query else query.encoded()}"
