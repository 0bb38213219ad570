"""The requests of a user and a client, as events of an HTTP API (payload 1.0).

Depends on nothing of the server but its addresses, and does not import test modules: these load moto, whose hooks would
slow down the measured calls.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urljoin, urlsplit

Event = dict[str, Any]
# Sends a named event and returns the response to the gateway.
Send = Callable[[str, Event], dict[str, Any]]

ORIGIN = "https://id.example.com"
USERNAME, PASSWORD = "alice", "correct horse battery staple"
REDIRECT_URI = "https://client.example.com/cb"
SCOPE = "openid profile email offline_access"
SESSION_SCOPE = "openid profile email"  # of a grant that ends with its session
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # RFC 7636 appendix B
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()

DISCOVERY = "discovery"
SIGN_IN_PAGE = "authorize: the sign-in page"
SIGN_IN = "code: sign-in, the consent page"
CONSENT = "code: consent, the code"
EXCHANGE = "token: the code exchange"
REFRESH = "token: a refresh"
USERINFO = "userinfo"
INTROSPECTION = "introspect"
COMPLETE = (SIGN_IN_PAGE, SIGN_IN, CONSENT, EXCHANGE, REFRESH, USERINFO)
AUTHORIZE_AGAIN = "authorize: session and consent, the code"
EXCHANGE_AGAIN = f"{EXCHANGE} of a session"
REFRESH_AGAIN = f"{REFRESH} of a session"
USERINFO_AGAIN = f"{USERINFO}, of a session"
RETURNING = (AUTHORIZE_AGAIN, EXCHANGE_AGAIN, REFRESH_AGAIN, USERINFO_AGAIN)
# A redirect within the server is a request of its own, counted with the request before.
REDIRECTED = ", redirected"
ACCOUNT = "account page"
SIGN_OUT = "sign out"


def event(
    method: str,
    path: str,
    query: dict[str, str] | None = None,
    form: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> Event:
    """Return the event of a request from a browser or a client."""
    all_headers = {"host": "id.example.com", "user-agent": "bench/1", "accept": "*/*", **(headers or {})}
    if form:
        all_headers["content-type"] = "application/x-www-form-urlencoded"
    return {
        "version": "1.0",
        "resource": "$default",
        "path": path,
        "httpMethod": method,
        "headers": all_headers,
        "multiValueHeaders": {name: [value] for name, value in all_headers.items()},
        "queryStringParameters": query,
        "multiValueQueryStringParameters": {name: [value] for name, value in query.items()} if query else None,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "a1b2c3",
            "domainName": "a1b2c3.execute-api.us-east-1.amazonaws.com",
            "httpMethod": method,
            "identity": {"sourceIp": "192.0.2.7", "userAgent": "bench/1"},
            "path": path,
            "protocol": "HTTP/1.1",
            "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            "stage": "$default",
        },
        # HTTP APIs encode a form.
        "body": base64.b64encode(urlencode(form).encode()).decode() if form else None,
        "isBase64Encoded": bool(form),
    }


def discovery() -> Event:
    """Return a request for the metadata."""
    return event("GET", "/.well-known/openid-configuration")


def code_exchange(code: str, client: tuple[str, str]) -> Event:
    """Return a code exchange of a confidential client. `client`: its id and its secret."""
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT_URI, "code_verifier": VERIFIER}
    return event("POST", "/oauth2/token", form=form, headers=_basic(client))


def refresh(refresh_token: str, client: tuple[str, str]) -> Event:
    """Return a refresh of a confidential client. `client`: its id and its secret."""
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    return event("POST", "/oauth2/token", form=form, headers=_basic(client))


def visit(send: Send, client: tuple[str, str], remembered: tuple[str, str]) -> None:
    """Send one request of each kind, in the order of a complete flow and one of a user who returns.

    `client` and `remembered`: each an id and its secret. The latter client needs no consent.
    """
    send(DISCOVERY, discovery())
    send("jwks", event("GET", "/oauth2/jwks"))
    send("health", event("GET", "/healthz"))
    send("home", event("GET", "/"))
    send("style sheet", event("GET", "/style.css"))

    cookies: dict[str, str] = {}
    page = _browse(send, SIGN_IN_PAGE, event("GET", "/oauth2/authorize", _request(client[0], SCOPE)), cookies)
    page = _browse(send, SIGN_IN, _submit(page, cookies, username=USERNAME, password=PASSWORD), cookies)
    answer = _browse(send, CONSENT, _submit(page, cookies, decision="allow_once"), cookies)
    tokens = _use(send, (EXCHANGE, REFRESH, USERINFO), answer, client)
    form = {"token": tokens["access_token"]}
    send(INTROSPECTION, event("POST", "/oauth2/introspect", form=form, headers=_basic(client)))
    form = {"token": tokens["refresh_token"]}
    send("revoke", event("POST", "/oauth2/revoke", form=form, headers=_basic(client)))
    return_to(send, cookies, remembered)


def return_to(send: Send, cookies: dict[str, str], remembered: tuple[str, str]) -> dict[str, Any]:
    """Send the requests of a user who returns with the cookies of a session; return the tokens."""
    request = event(
        "GET", "/oauth2/authorize", _request(remembered[0], SESSION_SCOPE), headers={"cookie": _cookie(cookies)}
    )
    answer = _browse(send, AUTHORIZE_AGAIN, request, cookies)
    return _use(send, (EXCHANGE_AGAIN, REFRESH_AGAIN, USERINFO_AGAIN), answer, remembered)


def sign_in(send: Send, remembered: tuple[str, str]) -> dict[str, str]:
    """Sign in to an application that needs no consent; return the cookies of the session."""
    cookies: dict[str, str] = {}
    page = _browse(send, SIGN_IN_PAGE, event("GET", "/oauth2/authorize", _request(remembered[0], SCOPE)), cookies)
    _browse(send, SIGN_IN, _submit(page, cookies, username=USERNAME, password=PASSWORD), cookies)
    return cookies


def end(send: Send, cookies: dict[str, str], id_token: str) -> None:
    """Show the account page, and sign the user out as an application does."""
    headers = {"cookie": _cookie(cookies)}
    send(ACCOUNT, event("GET", "/account", headers=headers))
    send(SIGN_OUT, event("GET", "/oauth2/logout", {"id_token_hint": id_token}, headers=headers))


def _use(send: Send, names: tuple[str, str, str], answer: dict[str, Any], client: tuple[str, str]) -> dict[str, Any]:
    """Redeem the code of an answer, refresh once, and send a UserInfo request; return the current tokens."""
    exchange, refresh_again, userinfo = names
    tokens = json.loads(send(exchange, code_exchange(_code(answer), client))["body"])
    tokens = json.loads(send(refresh_again, refresh(tokens["refresh_token"], client))["body"])
    send(userinfo, event("GET", "/oauth2/userinfo", headers={"authorization": f"Bearer {tokens['access_token']}"}))
    return dict(tokens)


def _request(client_id: str, scope: str) -> dict[str, str]:
    return {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": REDIRECT_URI,
        "scope": scope,
        "state": "af0ifjsldkj",
        "nonce": "n-0S6_WzA2Mj",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }


def _browse(send: Send, name: str, event_: Event, cookies: dict[str, str]) -> dict[str, Any]:
    """Send an event as a browser does: store the cookies of the response, and follow redirects within the server."""
    answer = send(name, event_)
    for line in answer["multiValueHeaders"].get("Set-Cookie", []):
        key, _, rest = line.partition("=")
        cookies[key] = rest.partition(";")[0]
    location = urljoin(ORIGIN, answer["headers"].get("Location", REDIRECT_URI))
    if not location.startswith(f"{ORIGIN}/"):
        return answer
    parts = urlsplit(location)
    redirected = event("GET", parts.path, dict(parse_qsl(parts.query)), headers={"cookie": _cookie(cookies)})
    return _browse(send, name + REDIRECTED, redirected, cookies)


def _submit(page: dict[str, Any], cookies: dict[str, str], **values: str) -> Event:
    """Return the event of submitting the form of a page, with the browser's cookies."""
    body = page["body"].partition("<footer")[0]  # without the language menu
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', body))
    (action,) = re.findall(r'<form method="post" action="([^"]*)">', body)
    target = urlsplit(html.unescape(action))
    headers = {"cookie": _cookie(cookies), "sec-fetch-site": "same-origin", "origin": ORIGIN}
    return event("POST", target.path, dict(parse_qsl(target.query)), form=hidden | values, headers=headers)


def _cookie(cookies: dict[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in cookies.items())


def _code(answer: dict[str, Any]) -> str:
    location: str = answer["headers"]["Location"]
    return parse_qs(urlsplit(location).query)["code"][0]


def _basic(client: tuple[str, str]) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(":".join(client).encode()).decode()}
