"""A small HTTP browser with cookies and forms, which also acts as the client. It records every secret it receives."""

import base64
import http.client
import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urljoin, urlsplit

from chalicelib.protocol import pkce
from tests.support.site import PASSWORD, Registered, Site

VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # RFC 7636 appendix B
CHALLENGE = pkce.challenge(VERIFIER)
SECRET_MEMBERS = ("access_token", "refresh_token", "id_token", "client_secret", "registration_access_token")


class _Form(HTMLParser):
    def __init__(self, body: str):
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.buttons: list[tuple[str, str]] = []
        self.feed(body)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "form":
            self.action = values.get("action")
        elif tag == "input" and values.get("type") == "checkbox" and "checked" not in values:
            pass  # browsers leave it out
        elif values.get("type") == "checkbox" and "checked" not in values:
            pass  # not sent, unless the user ticks it
        elif tag == "input" and values.get("name"):
            self.fields[values["name"] or ""] = values.get("value") or ""
        elif tag == "button" and values.get("name"):
            self.buttons.append((values["name"] or "", values.get("value") or ""))


@dataclass
class Answer:
    """A response of the server, with its form if it is a page."""

    status: int
    headers: list[tuple[str, str]]
    body: str
    url: str
    form: _Form = field(init=False)

    def __post_init__(self) -> None:
        # Only the forms are parsed, to save time.
        end = self.body.find("<footer")  # where the language menu is
        main = self.body[:end] if end >= 0 else self.body
        self.form = _Form(main[main.find("<form") : main.rfind("</form>")])

    def header(self, name: str) -> str | None:
        """Return a header field, the last one if it is repeated, or None."""
        return next((value for key, value in reversed(self.headers) if key.lower() == name.lower()), None)

    @property
    def json(self) -> dict[str, Any]:
        """The members of a JSON response, none of which may be null."""
        assert (self.header("content-type") or "").startswith("application/json"), self
        members: dict[str, Any] = json.loads(self.body)
        assert None not in members.values(), members
        return members

    @property
    def location(self) -> str:
        """The Location header of a redirect."""
        assert self.status in (302, 303), (self.status, self.body)
        return self.header("location") or ""

    @property
    def mode(self) -> str:
        """The response mode of an authorization response: `query`, `fragment` or `form_post`."""
        if self.status == 200 and self.form.action and not self.form.action.startswith("/"):
            return "form_post"
        return "fragment" if "#" in self.location else "query"

    @property
    def answer(self) -> dict[str, str]:
        """The parameters of an authorization response, none of which may be repeated."""
        if self.mode == "form_post":
            assert self.header("location") is None
            return self.form.fields
        target = urlsplit(self.location)
        pairs = parse_qsl(target.fragment if self.mode == "fragment" else target.query, keep_blank_values=True)
        assert len(dict(pairs)) == len(pairs), pairs
        return dict(pairs)

    @property
    def code(self) -> str:
        """The authorization code in the authorization response."""
        assert "code" in self.answer, self.answer
        return self.answer["code"]


class Browser:
    """A user's browser: stores cookies and sends forms. It has one connection, so use it in one thread only."""

    def __init__(self, site: Site):
        self.site = site
        self.cookies: dict[str, str] = {}
        self._connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)

    def close(self) -> None:
        self._connection.close()

    def request(
        self, method: str, url: str, body: str | bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send one request; redirects are not followed."""
        sent = dict(headers or {})
        if self.cookies:
            sent.setdefault("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        parts = urlsplit(urljoin(self.site.settings.issuer, url))
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        self._connection.request(method, target, body.encode() if isinstance(body, str) else body, sent)
        response = self._connection.getresponse()
        answer = Answer(response.status, response.getheaders(), response.read().decode(), url)
        self._store_cookies(answer)
        self.record_secrets(answer)
        return answer

    def _store_cookies(self, answer: Answer) -> None:
        for name, value in answer.headers:
            if name.lower() == "set-cookie":
                key, _, rest = value.partition("=")
                self.cookies[key] = rest.partition(";")[0]
                if "Max-Age=0" in rest.split("; "):
                    del self.cookies[key]

    def record_secrets(self, answer: Answer) -> None:
        """Add the cookies, handles, codes and tokens of a response to the secrets of the site."""
        secrets = self.site.secrets
        secrets.update(value for name, value in self.cookies.items() if not name.endswith("signet-language"))
        secrets.update(filter(None, (answer.form.fields.get(name) for name in ("tag", "code", "id_token"))))
        for address in (answer.form.action or "", (answer.status in (302, 303) and answer.header("location")) or ""):
            target = urlsplit(address)
            for parameters in (parse_qs(target.query), parse_qs(target.fragment)):
                for name in ("code", "id_token"):
                    secrets.update(parameters.get(name, []))
                secrets.update(text for text in parameters.get("request_uri", []) if text.startswith("req_"))
        if "token" in answer.body and answer.body.startswith("{"):
            members = json.loads(answer.body)
            secrets.update(members[name] for name in members if name in SECRET_MEMBERS)

    def get(self, path: str, headers: dict[str, str] | None = None, **parameters: Any) -> Answer:
        return self.request(
            "GET", path + (f"?{urlencode(parameters, doseq=True)}" if parameters else ""), headers=headers
        )

    def post(self, path: str, parameters: Any, headers: dict[str, str] | None = None) -> Answer:
        """Send a form."""
        sent = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        return self.request("POST", path, urlencode(parameters, doseq=True), sent)

    def send(self, page: Answer, headers: dict[str, str] | None = None, **values: str) -> Answer:
        """Fill in the page's form and send it with the headers of a same-origin request."""
        assert page.form.action, page.body
        sent = {"Sec-Fetch-Site": "same-origin", "Origin": self.site.settings.issuer, **(headers or {})}
        return self.post(page.form.action, page.form.fields | values, sent)

    def submit(self, page: Answer, headers: dict[str, str] | None = None, **values: str) -> Answer:
        """Send the page's form, and follow a redirect to the server's next page."""
        return self.follow(self.send(page, headers, **values))

    def follow(self, answer: Answer) -> Answer:
        """Return the next page if the answer is a redirect within the server, else the answer itself."""
        internal = answer.status in (302, 303) and answer.location.startswith("/")
        return self.get(answer.location) if internal else answer

    # ---- the flow

    def authorize(self, client: Registered, path: str = "/oauth2/authorize", **parameters: Any) -> Answer:
        """Send an authorization request with PKCE; a parameter of None is left out."""
        return self.get(path, **authorization_parameters(client, **parameters))

    def sign_in(self, page: Answer, username: str = "alice", password: str = PASSWORD) -> Answer:
        """Send the sign-in form of a page."""
        return self.submit(page, username=username, password=password)

    def answer(self, client: Registered, decision: str = "allow_once", **parameters: Any) -> Answer:
        """Go through sign-in and consent, as far as they are shown, and return the authorization response."""
        answer = self.follow(self.authorize(client, **parameters))
        if "password" in answer.form.fields:
            answer = self.sign_in(answer)
        if "tag" in answer.form.fields:
            answer = self.submit(answer, decision=decision)
        return answer

    def code(self, client: Registered, decision: str = "allow_once", **parameters: Any) -> str:
        """Go through sign-in and consent, and return the authorization code."""
        return self.answer(client, decision, **parameters).code

    # ---- requests of the client

    def token(self, client: Registered, headers: dict[str, str] | None = None, **parameters: Any) -> Answer:
        """Send a token request; a confidential client authenticates with HTTP Basic."""
        given: dict[str, str | None] = dict(parameters)
        if client.secret is None:
            given.setdefault("client_id", client.id)
        else:
            headers = {**basic(client.id, client.secret), **(headers or {})}
        return self.post("/oauth2/token", {k: v for k, v in given.items() if v is not None}, headers)

    def redeem(self, client: Registered, code: str, **parameters: Any) -> Answer:
        """Redeem a code, with the verifier and the redirect URI that `authorize` uses."""
        given: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": client.record.redirect_uris[0],
            "code_verifier": VERIFIER,
        }
        return self.token(client, **(given | parameters))

    def refresh(self, client: Registered, refresh_token: str, **parameters: Any) -> Answer:
        return self.token(client, grant_type="refresh_token", refresh_token=refresh_token, **parameters)

    def tokens(self, client: Registered, **parameters: Any) -> dict[str, Any]:
        """Go through the whole flow and return the token response."""
        answer = self.redeem(client, self.code(client, **parameters))
        assert answer.status == 200, answer.body
        return answer.json

    def userinfo(self, access_token: str) -> Answer:
        return self.get("/oauth2/userinfo", headers={"Authorization": f"Bearer {access_token}"})


def authorization_parameters(client: Registered, **changes: Any) -> dict[str, Any]:
    """Return the parameters of an authorization request with PKCE; one of None is left out."""
    given = {
        "response_type": "code",
        "client_id": client.id,
        "redirect_uri": client.record.redirect_uris[0],
        "scope": "openid",
        "state": "af0ifjsldkj",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }
    return {name: value for name, value in (given | changes).items() if value is not None}


def basic(user_id: str, password: str, scheme: str = "Basic") -> dict[str, str]:
    """Return an Authorization header for HTTP Basic."""
    return {"Authorization": f"{scheme} " + base64.b64encode(f"{user_id}:{password}".encode()).decode()}
