"""/playground: the authorization code flow step by step, with the HTTP request and response of each step.

The playground is a client of this server. It stores nothing: its tokens are in hidden fields of the page's forms, and
state, nonce and code_verifier, which bind a response to the browser that made the request, are in a cookie.
"""

import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

from chalicelib import pages
from chalicelib.builtin_clients import PLAYGROUND
from chalicelib.http.csrf import require_same_origin
from chalicelib.http.messages import NO_STORE, Request, Response, json_response, redirect
from chalicelib.keys.signing import SigningKey, generate
from chalicelib.pages.exchange_texts import Exchange, decoded_tokens, is_for_another_api, request_text, response_text
from chalicelib.protocol import dpop, pkce
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import NotFound, OAuthError
from chalicelib.protocol.handles import new_id
from chalicelib.protocol.values import dataclass
from chalicelib.server import AuthorizationServer
from chalicelib.sessions.playground_requests import PendingRequest, begin_request, find_request
from chalicelib.tokens.issue import MAX_TOKEN
from chalicelib.tokens.playground_details import example_text, granted_details, playground_types

_FIELDS = ("state", "code", "access_token", "refresh_token", "id_token")
_NOT_PENDING = (
    "The playground no longer remembers this flow. It remembers a flow for one hour, in a cookie. Start again."
)


def get(server: AuthorizationServer, http: Request) -> Response:
    """Show the authorization request that the button sends. Raises NotFound when the playground is off."""
    client, host = _client(server), (http.header("host") or "").partition(":")[0]
    own = urlsplit(server.issuer).hostname
    if host != own and {host, own} == {"localhost", "127.0.0.1"}:  # the cookie must be set for the callback's host
        return redirect(http, f"{server.issuer}/playground")
    return _start(server, http, client)


def _start(server: AuthorizationServer, http: Request, client: Client, problem: str = "") -> Response:
    pending, remembering = begin_request(server, http)
    types = playground_types(server)
    parameters = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": client.redirect_uris[0],
        "scope": client.scope,
        "state": pending.state,
        "nonce": pending.nonce,
        "code_challenge": pkce.challenge(pending.code_verifier),
        "code_challenge_method": "S256",
        "prompt": "consent",
    }
    endpoint = server.issuer + server.addresses["authorization_endpoint"]
    text = request_text("GET", f"{endpoint}?{urlencode(parameters)}")
    shown = {"request_text": text, "endpoint": endpoint, "parameters": parameters, "problem": problem}
    page = _page(server, "start", types=types, example=example_text(server, types), **shown)
    return page.add(remembering)


def callback(server: AuthorizationServer, http: Request) -> Response:
    """Show the authorization response: a code, or an error (RFC 6749 section 4.1.2)."""
    client = _client(server)
    answer = {name: http.query.get(name) for name in ("code", "error", "error_description", "state", "iss")}
    present = {name: value for name, value in answer.items() if value is not None}
    problem = ""
    if find_request(server, http, answer["state"]) is None:
        problem = (
            "The state does not match a request that this browser made in the last hour. The response may be meant for "
            "another user. A real client stops here."
        )
    elif answer["iss"] != server.issuer:
        problem = "The iss parameter does not name this server (RFC 9207). A real client stops here."
    text = request_text("GET", f"{client.redirect_uris[0]}?{urlencode(present)}")
    fields = {"state": answer["state"], "code": answer["code"]} if answer["code"] and not problem else {}
    return _page(server, "code", request_text=text, problem=problem, answer=answer, fields=fields)


def post(server: AuthorizationServer, http: Request) -> Response:
    """Run the step of the button: send the client's request, and show it with the response."""
    client = _client(server)
    require_same_origin(server.issuer, http)
    form = http.form()
    fields = {name: value for name in _FIELDS if (value := form.get(name, at_most=MAX_TOKEN))}
    pending = find_request(server, http, fields.get("state"))
    step = form.get("step") or ""
    if step not in _STEPS or pending is None or "code" not in fields:
        return _start(server, http, client, _NOT_PENDING)
    exchanges = _STEPS[step](_Flow(server, http, client, fields, pending))
    for exchange in exchanges:
        # The key of a bound access token is not kept, so the next steps use the one before.
        bound = {"access_token"} if exchange.members.get("token_type") == "DPoP" else set()
        fields |= {name: exchange.members[name] for name in _FIELDS if name in exchange.members.keys() - bound}
    return _page(
        server,
        step,
        exchanges=exchanges,
        fields=fields,
        tokens=decoded_tokens(exchanges),
        nonce=pending.nonce,
        granted=granted_details(server, exchanges[0].members),
        for_api=is_for_another_api(fields.get("access_token", ""), server.issuer),
    )


# ---- the steps: each makes one or two requests


@dataclass(frozen=True)
class _Flow:
    """The client in the middle of a flow: what it has received so far, and what it remembers of the request."""

    server: AuthorizationServer
    http: Request
    client: Client
    fields: dict[str, str]
    pending: PendingRequest

    def post(self, endpoint: str, title: str, lesson: str, proof: str = "", **form: str) -> Exchange:
        """Send a form with client authentication, and a DPoP proof if given, to an endpoint of the metadata."""
        secret = self.server.playground_secret()
        basic = base64.b64encode(f"{PLAYGROUND}:{secret}".encode()).decode()
        headers = {"authorization": f"Basic {basic}", "content-type": "application/x-www-form-urlencoded"}
        shown = {"Authorization": f"Basic {basic[:8]}… (client_id:client_secret, base64)"}
        shown["Content-Type"] = headers["content-type"]
        if proof:
            headers["dpop"] = shown["DPoP"] = proof
        return self._send("POST", endpoint, title, lesson, headers, shown, urlencode(form))

    def redeem(self, title: str, lesson: str) -> Exchange:
        """Send the code to the token endpoint (RFC 6749 section 4.1.3)."""
        return self.post(
            "token_endpoint",
            title,
            lesson,
            grant_type="authorization_code",
            code=self.fields["code"],
            redirect_uri=self.client.redirect_uris[0],
            code_verifier=self.pending.code_verifier,
        )

    def introspect(self, title: str, lesson: str) -> Exchange:
        """Ask the server what the access token of the flow allows (RFC 7662)."""
        return self.post("introspection_endpoint", title, lesson, token=self.fields.get("access_token", ""))

    def use_again(self, lesson: str) -> Exchange:
        """Use the access token of the flow where it is accepted: at UserInfo, else at introspection."""
        if is_for_another_api(self.fields.get("access_token", ""), self.server.issuer):
            return self.introspect("Ask again what the token allows", lesson)
        return self.userinfo("Call the protected resource again", lesson)

    def userinfo(self, title: str, lesson: str, token: str | None = None, proof: str = "") -> Exchange:
        """Call this server's own protected resource, by default with the access token of the flow."""
        token = self.fields.get("access_token", "") if token is None else token
        shown = {"Authorization": f"{'DPoP' if proof else 'Bearer'} {token}", **({"DPoP": proof} if proof else {})}
        headers = {name.lower(): value for name, value in shown.items()}
        return self._send("GET", "userinfo_endpoint", title, lesson, headers, shown)

    def prove(self, key: SigningKey, method: str, endpoint: str, **claims: str) -> str:
        """Return a DPoP proof for a request (RFC 9449 section 4.2)."""
        address = self.server.issuer + self.server.addresses[endpoint]
        members = {"jti": new_id(), "htm": method, "htu": address, "iat": self.server.now(), **claims}
        return key.jwt(members, dpop.TYPE, with_key=True)

    def _send(
        self,
        method: str,
        endpoint: str,
        title: str,
        lesson: str,
        headers: dict[str, str],
        shown: dict[str, str],
        body: str = "",
    ) -> Exchange:
        path = self.server.addresses[endpoint]
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
        text = request_text(method, self.server.issuer + path, shown, body)
        members = json.loads(response.body) if response.body.startswith("{") else {}
        return Exchange(title, text, response_text(response), lesson, members)


def _token(flow: _Flow) -> list[Exchange]:
    lesson = (
        "The client authenticates with its secret. The code_verifier proves that this client started the flow: the "
        "code_challenge in the first request is its hash. No other client can use the code, and it works only once."
    )
    return [flow.redeem("Get access token", lesson)]


def _userinfo(flow: _Flow) -> list[Exchange]:
    lesson = "The access token is all that the request needs. The response has the claims that its scope allows."
    return [flow.userinfo("Call a protected resource", lesson)]


def _introspect(flow: _Flow) -> list[Exchange]:
    lesson = (
        "This access token is for another API, so UserInfo would reject it. The API reads in the token what is "
        "allowed, or asks the server, as here. A client can ask about its own tokens too."
    )
    return [flow.introspect("Ask what the token allows", lesson)]


def _refresh(flow: _Flow) -> list[Exchange]:
    lesson = (
        "The access token expires after a few minutes. The refresh token gets a new one without the user, and is "
        "replaced too. If an old refresh token is used later, it may have been stolen, and the grant is revoked."
    )
    token = flow.fields.get("refresh_token", "")
    return [flow.post("token_endpoint", "Refresh", lesson, grant_type="refresh_token", refresh_token=token)]


def _bind(flow: _Flow) -> list[Exchange]:
    """Refresh with a key that is made for this step, and use the token with and without it."""
    key, token = generate("ES256"), flow.fields.get("refresh_token", "")
    lesson = (
        "The client makes a key pair, and signs a proof for this request (DPoP). The access token is bound to the key: "
        "cnf in it has the hash of the public key."
    )
    proof = flow.prove(key, "POST", "token_endpoint")
    form = {"grant_type": "refresh_token", "refresh_token": token}
    refreshed = flow.post("token_endpoint", "Get a token that is bound to a key", lesson, proof=proof, **form)
    bound = str(refreshed.members.get("access_token", ""))
    proof = flow.prove(key, "GET", "userinfo_endpoint", ath=dpop.access_token_hash(bound))
    lesson = "The client proves with each request that it has the key. The proof has the hash of the access token."
    used = flow.userinfo("Call the protected resource with a proof", lesson, bound, proof)
    lesson = "A stolen access token cannot be used without the key."
    return [refreshed, used, flow.userinfo("Call it without a proof", lesson, bound)]


def _replay(flow: _Flow) -> list[Exchange]:
    lesson = "A code that is used twice may have been stolen. The server rejects it and revokes the grant."
    after = "The grant is revoked, so its access token is rejected too. Start again to get a new grant."
    replayed = flow.redeem("Use the code again", lesson)
    return [replayed, flow.use_again(after)]


def _revoke(flow: _Flow) -> list[Exchange]:
    lesson = (
        "The client revokes its token, for example when the user disconnects it. The grant ends with all its tokens."
    )
    after = "The access token is rejected immediately."
    token = flow.fields.get("refresh_token", "") or flow.fields.get("access_token", "")
    revoked = flow.post("revocation_endpoint", "Revoke", lesson, token=token)
    return [revoked, flow.use_again(after)]


_STEPS: dict[str, Callable[[_Flow], list[Exchange]]] = {
    "token": _token,
    "userinfo": _userinfo,
    "introspect": _introspect,
    "refresh": _refresh,
    "bind": _bind,
    "replay": _replay,
    "revoke": _revoke,
}


# ---- helpers


def _client(server: AuthorizationServer) -> Client:
    client = server.client(PLAYGROUND) if server.settings.playground else None
    if client is None:
        raise NotFound("There is nothing at this address.")
    return client


def _page(server: AuthorizationServer, step: str, **values: Any) -> Response:
    blank: dict[str, Any] = dict.fromkeys(("endpoint", "request_text", "nonce", "problem"), "")
    blank |= {"parameters": {}, "answer": {}, "exchanges": [], "tokens": [], "demo": server.settings.stage == "local"}
    blank |= {"types": [], "example": "", "granted": [], "for_api": False}
    values["fields"] = dict.fromkeys(_FIELDS, "") | values.get("fields", {})
    page = pages.page("playground", server.settings, None, step=step, **(blank | values))
    return pages.response(page, 400 if step == "start" and values.get("problem") else 200)
