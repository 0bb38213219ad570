"""/playground: the authorization code flow step by step, each with the HTTP request and answer that it made.

Its client is our own server. What a client keeps for a person stands in the page's forms, and what binds an answer to
the browser that asked (state, nonce, code_verifier) in a cookie, for each tab its own, so that nothing is stored.
"""

import base64
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode, urlsplit

from chalicelib import pages, pkce
from chalicelib.errors import NotFound, OAuthError
from chalicelib.forms import refuse_other_sites
from chalicelib.messages import NO_STORE, Request, Response, cookie, json_response, redirect
from chalicelib.models import Client
from chalicelib.own_clients import PLAYGROUND
from chalicelib.server import AuthorizationServer
from chalicelib.sessions import cookie_name

_SHOWN_HEADERS = ("Content-Type", "Cache-Control", "WWW-Authenticate")
_HOUR = 3600
_TABS = 4  # as many runs may be under way in one browser
_KEPT = ("state", "code", "access_token", "refresh_token", "id_token")
_LOST = "The playground has lost the thread: it remembers a run for an hour, in a cookie. Here is a new beginning."


@dataclass(frozen=True)
class Exchange:
    """An HTTP request that the client made, the answer, and what there is to learn from both."""

    title: str
    request: str
    response: str
    lesson: str
    members: dict[str, Any]


@dataclass(frozen=True)
class _Secrets:
    """What the client remembers about the authorization request that this browser has made."""

    state: str
    nonce: str
    code_verifier: str


def get(server: AuthorizationServer, http: Request) -> Response:
    """The beginning: the authorization request that the button makes. Raises NotFound where the playground is off."""
    client, host = _client(server), (http.header("host") or "").partition(":")[0]
    if host == "localhost" and "//127.0.0.1" in server.issuer:  # where cookie and callback are
        return redirect(http, f"{server.issuer}/playground")
    return _begin(server, http, client)


def _begin(server: AuthorizationServer, http: Request, client: Client, problem: str = "") -> Response:
    made = _Secrets(*(secrets.token_urlsafe(32) for _ in range(3)))
    parameters = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": client.redirect_uris[0],
        "scope": client.scope,
        "state": made.state,
        "nonce": made.nonce,
        "code_challenge": pkce.challenge(made.code_verifier),
        "code_challenge_method": "S256",
        "prompt": "consent",
    }
    address = server.issuer + server.addresses["authorization_endpoint"]
    page = _page(
        server,
        "start",
        asked=_request_text("GET", f"{address}?{urlencode(parameters)}"),
        address=address,
        ask=parameters,
        problem=problem,
    )
    runs = [made, *_runs(server, http)][:_TABS]
    value = ".".join(part for run in runs for part in (run.state, run.nonce, run.code_verifier))
    return page.add(cookie(_cookie(server), value, secure=server.settings.secure, max_age=_HOUR))


def callback(server: AuthorizationServer, http: Request) -> Response:
    """Where the authorization response arrives: the code, or an error (RFC 6749 section 4.1.2)."""
    client = _client(server)
    answer = {name: http.query.one(name) for name in ("code", "error", "error_description", "state", "iss")}
    present = {name: value for name, value in answer.items() if value is not None}
    if _remembered(server, http, answer["state"]) is None:
        problem = (
            "The state is not one that this browser was sent away with in the last hour. The answer may be meant for "
            "somebody else: a real client stops here."
        )
    elif answer["iss"] != server.issuer:
        problem = "The iss is not this server (RFC 9207): a real client stops here."
    else:
        problem = ""
    arrived = _request_text("GET", f"{client.redirect_uris[0]}?{urlencode(present)}")
    kept = {"state": answer["state"], "code": answer["code"]} if answer["code"] and not problem else {}
    return _page(server, "code", arrived=arrived, problem=problem, answer=answer, kept=kept)


def post(server: AuthorizationServer, http: Request) -> Response:
    """A button: the request that the client makes then, and what it was answered."""
    client = _client(server)
    refuse_other_sites(server, http)
    form = http.form()
    kept = {name: value for name in _KEPT if (value := form.one(name, at_most=8192))}
    known = _remembered(server, http, kept.get("state"))
    step = _STEPS.get(form.one("step") or "")
    if step is None or known is None or "code" not in kept:
        return _begin(server, http, client, _LOST)
    exchanges = step(_Caller(server, http, client), kept, known)
    for exchange in exchanges:
        kept |= {name: exchange.members[name] for name in _KEPT if name in exchange.members}
    return _page(
        server, form.one("step") or "", exchanges=exchanges, kept=kept, tokens=_decoded(exchanges), nonce=known.nonce
    )


# ---- the steps: each makes one request or two


@dataclass(frozen=True)
class _Caller:
    server: AuthorizationServer
    http: Request
    client: Client

    def post(self, name: str, title: str, lesson: str, **form: str) -> Exchange:
        """A form, sent to an endpoint by its name in the metadata, with client authentication."""
        secret = self.server.playground_secret()
        basic = base64.b64encode(f"{PLAYGROUND}:{secret}".encode()).decode()
        body = urlencode(form)
        headers = {"authorization": f"Basic {basic}", "content-type": "application/x-www-form-urlencoded"}
        shown = {"Authorization": f"Basic {basic[:8]}… (client_id:client_secret, base64)"}
        shown["Content-Type"] = headers["content-type"]
        return self._exchange("POST", name, title, lesson, headers, shown, body)

    def userinfo(self, title: str, lesson: str, access_token: str) -> Exchange:
        """The protected resource that this server has itself."""
        headers = {"authorization": f"Bearer {access_token}"}
        return self._exchange(
            "GET", "userinfo_endpoint", title, lesson, headers, {"Authorization": headers["authorization"]}
        )

    def _exchange(
        self,
        method: str,
        name: str,
        title: str,
        lesson: str,
        headers: dict[str, str],
        shown: dict[str, str],
        body: str = "",
    ) -> Exchange:
        path = self.server.addresses[name]
        inner = Request(
            method=method,
            path=path,
            headers=headers,
            body=body.encode(),
            source_ip=self.http.source_ip,
            request_id=self.http.request_id,
            events=self.http.events,
        )
        try:
            response = self.server.endpoints[method, path](self.server, inner)
        except OAuthError as error:
            response = json_response(error.parameters(), error.status, NO_STORE | error.headers)
        asked = _request_text(method, self.server.issuer + path, shown, body)
        members = json.loads(response.body) if response.body.startswith("{") else {}
        return Exchange(title, asked, _response_text(response), lesson, members)


def _token(call: _Caller, kept: dict[str, str], known: _Secrets) -> list[Exchange]:
    lesson = (
        "The client proves who it is by its secret, and that it is the one who asked by the code_verifier: the "
        "challenge in the first request was its hash. The code is worth nothing to anybody else, and only once."
    )
    return [_redeem(call, kept, known, "Get access token", lesson)]


def _redeem(call: _Caller, kept: dict[str, str], known: _Secrets, title: str, lesson: str) -> Exchange:
    return call.post(
        "token_endpoint",
        title,
        lesson,
        grant_type="authorization_code",
        code=kept["code"],
        redirect_uri=call.client.redirect_uris[0],
        code_verifier=known.code_verifier,
    )


def _userinfo(call: _Caller, kept: dict[str, str], _known: _Secrets) -> list[Exchange]:
    lesson = "Whoever brings the access token is served: what it may see stands in its scope, and not a claim more."
    return [call.userinfo("Call a protected resource", lesson, kept.get("access_token", ""))]


def _refresh(call: _Caller, kept: dict[str, str], _known: _Secrets) -> list[Exchange]:
    lesson = (
        "The access token lives a few minutes. The refresh token gets the next one, without the person, and is itself "
        "replaced: one that comes back later is a sign of theft, and ends the grant."
    )
    token = kept.get("refresh_token", "")
    return [call.post("token_endpoint", "Refresh", lesson, grant_type="refresh_token", refresh_token=token)]


def _replay(call: _Caller, kept: dict[str, str], known: _Secrets) -> list[Exchange]:
    lesson = "A code that comes twice has been seen by somebody else. It is refused, and all that came of it ends."
    after = "The access token from before is dead too: the grant has ended. Start again to get another."
    replayed = _redeem(call, kept, known, "Use the old code again", lesson)
    return [replayed, call.userinfo("And then", after, kept.get("access_token", ""))]


def _revoke(call: _Caller, kept: dict[str, str], _known: _Secrets) -> list[Exchange]:
    lesson = "The client gives back what it has, as when the person disconnects it. The grant ends with all its tokens."
    after = "The access token is refused at once."
    token = kept.get("refresh_token", "") or kept.get("access_token", "")
    revoked = call.post("revocation_endpoint", "Revoke", lesson, token=token)
    return [revoked, call.userinfo("And then", after, kept.get("access_token", ""))]


_STEPS: dict[str, Callable[[_Caller, dict[str, str], _Secrets], list[Exchange]]] = {
    "token": _token,
    "userinfo": _userinfo,
    "refresh": _refresh,
    "replay": _replay,
    "revoke": _revoke,
}


# ---- underneath


def _client(server: AuthorizationServer) -> Client:
    client = server.client(PLAYGROUND) if server.settings.playground else None
    if client is None:
        raise NotFound("There is nothing at this address.")
    return client


def _page(server: AuthorizationServer, step: str, **values: Any) -> Response:
    blank: dict[str, Any] = dict.fromkeys(("address", "asked", "arrived", "nonce", "problem"), "")
    blank |= {"ask": {}, "answer": {}, "exchanges": [], "tokens": [], "demo": server.settings.stage == "local"}
    values["kept"] = dict.fromkeys(_KEPT, "") | values.get("kept", {})
    page = pages.page("playground", server.settings, step=step, **(blank | values))
    return pages.response(page, 400 if step == "start" and values.get("problem") else 200)


def _cookie(server: AuthorizationServer) -> str:
    return cookie_name(server, "playground")


def _runs(server: AuthorizationServer, http: Request) -> list[_Secrets]:
    """What this browser was sent away with, the newest first."""
    parts = (http.cookie(_cookie(server)) or "").split(".")
    known = len(parts) % 3 == 0 and all(map(pkce.is_verifier, parts))
    return [_Secrets(*parts[at : at + 3]) for at in range(0, len(parts), 3)] if known else []


def _remembered(server: AuthorizationServer, http: Request, state: str | None) -> _Secrets | None:
    given = (state or "").encode()
    return next((run for run in _runs(server, http) if secrets.compare_digest(run.state.encode(), given)), None)


def _request_text(method: str, url: str, headers: dict[str, str] | None = None, body: str = "") -> str:
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    text = "\n".join(lines) + (f"\n\n{body}" if body else "")
    return text.replace("?", "\n  ?", 1).replace("&", "\n  &")


def _response_text(response: Response) -> str:
    lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
    lines += [f"{name}: {value}" for name in _SHOWN_HEADERS for value in response.values(name)]
    body = json.dumps(json.loads(response.body), indent=2) if response.body.startswith("{") else response.body
    return "\n".join(lines) + f"\n\n{body}"


def _decoded(exchanges: list[Exchange]) -> list[tuple[str, str, str]]:
    """The JWTs among the answers: which, header, claims (RFC 7519 section 3)."""
    found: list[tuple[str, str, str]] = []
    for exchange in exchanges:
        for name in ("access_token", "id_token"):
            if name in exchange.members:
                header, claims = (_part(part) for part in exchange.members[name].split(".")[:2])
                found.append((name, header, claims))
    return found


def _part(text: str) -> str:
    decoded = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return json.dumps(decoded, indent=2)
