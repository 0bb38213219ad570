"""POST /oauth2/token: what is refused, and what codes and refresh tokens do."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import jwt
import pytest

from tests.browser import VERIFIER, Answer, Browser, basic
from tests.shortcut import born, change, code_of
from tests.site import Registered, Site, dump

FORM = "application/x-www-form-urlencoded"
DAY = 24 * 60 * 60
LONG = "x" * 2049


@dataclass
class Ground:
    """Clients, and a code that would be redeemed if nothing were wrong with the request."""

    site: Site
    browser: Browser
    client: Registered
    public: Registered
    code: str

    @property
    def right(self) -> dict[str, Any]:
        """The form of the request that is right."""
        return {
            "grant_type": "authorization_code",
            "code": self.code,
            "redirect_uri": "https://client.example.com/cb",
            "code_verifier": VERIFIER,
        }

    @property
    def basic(self) -> dict[str, str]:
        return basic(self.client.id, self.client.secret or "")

    def send(self, body: str | bytes | None, headers: dict[str, str], path: str = "/oauth2/token") -> Answer:
        return self.browser.request("POST", path, body, headers)


@pytest.fixture
def ground(site: Site, browser: Browser) -> Ground:
    client = site.client()
    public = site.client(client_name="On a phone", public=True)
    return Ground(site, browser, client, public, code_of(site, client))


@pytest.fixture(autouse=True)
def _well_formed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the token endpoint answers in a test of this module, its form is right (RFC 6749 sections 5.1, 5.2)."""
    request = Browser.request

    def checked(browser: Browser, method: str, url: str, *arguments: Any, **more: Any) -> Answer:
        answer = request(browser, method, url, *arguments, **more)
        if url.startswith("/oauth2/token") and method == "POST":
            assert answer.header("content-type") == "application/json"
            assert answer.header("cache-control") == "no-store"
            assert answer.header("pragma") == "no-cache"
            members = answer.json  # no member is null
            if answer.status == 200:
                assert set(members) - {"refresh_token", "id_token"} == {
                    "access_token",
                    "token_type",
                    "expires_in",
                    "scope",
                }
                assert type(members["expires_in"]) is int
                assert members["expires_in"] > 0
            else:
                assert set(members) == {"error", "error_description"}
            assert ("basic" in (answer.header("www-authenticate") or "").lower()) == (answer.status == 401)
        return answer

    monkeypatch.setattr(Browser, "request", checked)


# ---- what is refused, and changes nothing

Send = Callable[[Ground], Answer]
Row = tuple[str, int, str, Send]


def form(**changed: Any) -> Send:
    """The right form but for these parameters: None leaves one out, a list repeats it. With Basic."""

    def send(ground: Ground) -> Answer:
        present = {name: value for name, value in (ground.right | changed).items() if value is not None}
        return ground.send(urlencode(present, doseq=True), {"Content-Type": FORM, **ground.basic})

    return send


def added(text: bytes) -> Send:
    """The right form with something at its end that is already encoded, or should be."""
    return lambda ground: ground.send(urlencode(ground.right).encode() + text, {"Content-Type": FORM, **ground.basic})


def raw(body: bytes | None, content_type: str | None) -> Send:
    """A body, {right} and {json} replaced by the right form and the right JSON members. With Basic."""

    def send(ground: Ground) -> Answer:
        members = json.dumps(ground.right)[1:-1].encode()
        filled = body and body.replace(b"{right}", urlencode(ground.right).encode()).replace(b"{json}", members)
        return ground.send(filled, ground.basic | ({"Content-Type": content_type} if content_type else {}))

    return send


def as_json(body: bytes) -> Send:
    return raw(body, "application/json")


def by(client: str, secret: str | None = None, header: str | tuple[str, str] | None = None, **parameters: Any) -> Send:
    """The right form with other credentials.

    `client`: "client", "public", "" for none, or another id. `secret` goes into the body, "right" being the client's
    own. `header` is (user-id, password) for Basic, or the whole Authorization header.
    """

    def send(ground: Ground) -> Answer:
        ids = {"client": ground.client.id, "public": ground.public.id}
        secrets = {"right": ground.client.secret or ""}
        body = ground.right | parameters
        if client:
            body["client_id"] = ids.get(client, client)
        if secret is not None:
            body["client_secret"] = secrets.get(secret, secret)
        headers = {"Content-Type": FORM}
        if isinstance(header, tuple):
            user_id, password = header
            headers |= basic(ids.get(user_id, user_id), secrets.get(password, password))
        elif header is not None:
            headers["Authorization"] = header
        return ground.send(urlencode(body, doseq=True), headers)

    return send


def encoded(text: bytes) -> str:
    return "Basic " + base64.b64encode(text).decode()


INVALID_REQUESTS: list[tuple[str, Send]] = [
    ("no grant_type", form(grant_type=None)),
    ("an empty grant_type", form(grant_type="")),
    ("grant_type twice", form(grant_type=["authorization_code"] * 2)),
    ("a long grant_type", form(grant_type=LONG)),
    ("a grant_type with NUL", form(grant_type="authorization_code\0")),
    ("no code", form(code=None)),
    ("an empty code", form(code="")),
    ("a long code", form(code=LONG)),
    ("a code with NUL", form(code="code_\0")),
    ("a code with CR and LF", form(code="code_\r\nSet-Cookie: a=b")),
    ("code twice", added(b"&code=x")),
    ("redirect_uri twice", added(b"&redirect_uri=https%3A%2F%2Fclient.example.com%2Fcb")),
    ("a long redirect_uri", form(redirect_uri="https://client.example.com/" + LONG)),
    ("a redirect_uri with a control character", form(redirect_uri="https://client.example.com/cb\x85")),
    ("code_verifier twice", added(b"&code_verifier=" + VERIFIER.encode())),
    ("a code_verifier with NUL", form(code_verifier=VERIFIER + "\0")),
    ("client_id twice", form(client_id=["a", "a"])),
    ("client_secret twice", by("client", client_secret=["a", "a"])),
    ("a client_secret that is too long", by("client", LONG)),
    ("a client_id with NUL", by("client\0", "right")),
    ("a client_secret without client_id", by("", "right")),
    ("no refresh_token", form(grant_type="refresh_token")),
    ("an empty refresh_token", form(grant_type="refresh_token", refresh_token="")),
    ("refresh_token twice", form(grant_type="refresh_token", refresh_token=["a", "b"])),
    ("a refresh_token with NUL", form(grant_type="refresh_token", refresh_token="rt_\0")),
    ("a percent sequence that is not UTF-8", added(b"&state=%ff")),
    ("a lone surrogate, percent-encoded", added(b"&state=%ed%a0%80")),
    ("bytes that are not UTF-8", added(b"&state=\xff")),
    ("too many parameters", added(b"&a=b" * 100)),
    ("more than 64 KiB", added(b"&a=" + b"x" * 65536)),
    ("more than 64 KiB of JSON", as_json(b'{"a": "' + b"x" * 65536 + b'", {json}}')),
    ("no body", raw(None, FORM)),
    ("no media type", raw(b"{right}", None)),
    ("an empty media type", raw(b"{right}", "")),
    ("text/plain", raw(b"{right}", "text/plain")),
    ("multipart/form-data", raw(b"{right}", "multipart/form-data; boundary=x")),
    ("XML", raw(b"<grant_type>authorization_code</grant_type>", "application/xml")),
    ("a media type that only begins as JSON's does", raw(b"{{json}}", "application/json-patch+json")),
    ("a form that says it is JSON", as_json(b"{right}")),
    ("JSON that says it is a form", raw(b"{{json}}", FORM)),
    ("an empty body that should be JSON", as_json(b"")),
    ("JSON cut short", as_json(b"{{json}")),
    ("JSON with more after it", as_json(b"{{json}} {}")),
    ("a JSON array", as_json(b"[]")),
    ("a JSON array of pairs", as_json(b'[["grant_type", "authorization_code"]]')),
    ("a JSON object in an array", as_json(b"[{{json}}]")),
    ("a JSON string", as_json(b'"grant_type"')),
    ("a JSON number", as_json(b"1")),
    ("a JSON number without end", as_json(b"1" * 5000)),
    ("JSON null", as_json(b"null")),
    ("JSON NaN", as_json(b"NaN")),
    ("an empty JSON object", as_json(b"{}")),
    ("JSON arrays nested deeply", as_json(b"[" * 60_000)),
    ("JSON objects nested deeply", as_json(b'{"a":' * 12_000)),
    ("JSON nested 100,000 deep", as_json(b"[" * 100_000)),
    ("JSON with a member twice", as_json(b'{"grant_type": "refresh_token", {json}}')),
    ("JSON with a number as a member", as_json(b'{"scope": 1, {json}}')),
    ("JSON with null as a member", as_json(b'{"scope": null, {json}}')),
    ("JSON with true as a member", as_json(b'{"scope": true, {json}}')),
    ("JSON with an object as a member", as_json(b'{"scope": {"a": "b"}, {json}}')),
    ("JSON with an array as a member", as_json(b'{"scope": ["openid"], {json}}')),
    ("JSON with a lone surrogate", as_json(b'{"grant_type": "\\ud800"}')),
    ("JSON with NUL", as_json(b'{"grant_type": "\\u0000"}')),
    ("JSON that is not UTF-8", as_json('{"scope": "é", {json}}'.encode("latin-1"))),
    ("JSON with too many members", as_json(b"{" + b'"a": "b", ' * 100 + b"{json}}")),
    (
        "the parameters in the query",
        lambda g: g.send("", {"Content-Type": FORM, **g.basic}, f"/oauth2/token?{urlencode(g.right)}"),
    ),
    ("Basic and credentials in the body", by("client", "right", header=("client", "right"))),
    ("Basic, and a secret alone in the body", by("", "right", header=("client", "right"))),
    ("Basic, and another client_id in the body", by("public", header=("client", "right"))),
]
INVALID_CLIENTS: list[tuple[str, Send]] = [
    ("no authentication", by("")),
    ("a confidential client without its secret", by("client")),
    ("a wrong secret in Basic", by("", header=("client", "wrong"))),
    ("a wrong secret in the body", by("client", "wrong")),
    ("an empty secret in Basic", by("", header=("client", ""))),
    ("an empty secret in the body", by("client", "")),
    ("an unknown client in Basic", by("", header=("nobody", "right"))),
    ("an unknown client in the body", by("nobody", "right")),
    ("an unknown public client", by("nobody")),
    ("a client_id that no table could hold", by("", header=("é" * 1500, "right"))),
    ("an empty user-id in Basic", by("", header=("", "right"))),
    ("a public client with a secret", by("public", "right")),
    ("a public client with a secret in Basic", by("", header=("public", "right"))),
    ("a client_id in another case", by("", header=("CLIENT", "right"))),
    ("Basic without credentials", by("", header="Basic")),
    ("Basic that is not base64", by("", header="Basic !!!!")),
    ("Basic with base64 cut short", by("", header="Basic YTpi=")),
    ("Basic with characters that are not ASCII", by("", header="Basic \xe9\xe9")),
    ("Basic that is not UTF-8", by("", header=encoded(b"client:\xff"))),
    ("Basic without a colon", by("", header=encoded(b"client"))),
    ("Basic with NUL", by("", header=encoded(b"\0:\0"))),
    ("Basic with a percent sequence that is not UTF-8", by("", header=encoded(b"%ff:%ff"))),
    ("Bearer", by("", header="Bearer YTpi")),
    (
        "credentials in the query",
        lambda g: g.send(
            urlencode(g.right),
            {"Content-Type": FORM},
            f"/oauth2/token?client_id={g.client.id}&client_secret={g.client.secret}",
        ),
    ),
]
UNSUPPORTED: list[tuple[str, Send]] = [
    ("the password grant", form(grant_type="password", username="alice", password="x")),
    ("the implicit grant", form(grant_type="implicit")),
    ("a grant type in another case", form(grant_type="Authorization_Code")),
    ("a grant type with a space", form(grant_type="authorization_code ")),
    ("a grant type that is a URN", form(grant_type="urn:ietf:params:oauth:grant-type:jwt-bearer")),
]
INVALID_GRANTS: list[tuple[str, Send]] = [
    ("a code that is nonsense", form(code="SplxlOBeZQQYbYS6WxSbIA")),
    ("a code of the greatest length", form(code="x" * 2048)),
    ("a code that is only its kind", form(code="code_")),
    ("a code that is not ASCII", form(code="code_é☃")),
    ("a code that is not base64url", form(code="code_!!!!")),
    ("a code with padding", lambda g: form(code=g.code + "=")(g)),
    ("a code with a space after it", lambda g: form(code=g.code + " ")(g)),
    ("a code of a grant that never was", lambda g: form(code=g.site.server.keys.make_handle("code", "never"))(g)),
    (
        "a code for a key of no possible length",
        lambda g: form(code=g.site.server.keys.make_handle("code", "x" * 300))(g),
    ),
    ("a refresh token as a code", lambda g: form(code=g.site.server.keys.make_handle("rt", "x", 1))(g)),
    ("a code as a refresh token", lambda g: form(grant_type="refresh_token", refresh_token=g.code)(g)),
    ("a refresh token that is nonsense", form(grant_type="refresh_token", refresh_token="8xLOxBtZp8")),
    (
        "a refresh token of a grant that never was",
        lambda g: form(grant_type="refresh_token", refresh_token=g.site.server.keys.make_handle("rt", "never", 1))(g),
    ),
    (
        "a code that another client presents",
        lambda g: g.send(urlencode(g.right | {"client_id": g.public.id}), {"Content-Type": FORM}),
    ),
]
REFUSALS: list[Row] = [
    *((what, 400, "invalid_request", send) for what, send in INVALID_REQUESTS),
    *((what, 401, "invalid_client", send) for what, send in INVALID_CLIENTS),
    *((what, 400, "unsupported_grant_type", send) for what, send in UNSUPPORTED),
    *((what, 400, "invalid_grant", send) for what, send in INVALID_GRANTS),
]


@pytest.mark.spec("RFC 6749 §2.2 a", "RFC 6749 §2.3.1 b", "RFC 6749 §3.2 d", "RFC 6749 §3.2 f", "RFC 6749 §4.1.3 a")
@pytest.mark.spec("RFC 6749 §4.1.3 b", "RFC 6749 §4.1.3 c", "RFC 6749 §4.1.3 d", "RFC 6749 §5.2 b", "RFC 6749 §10.2 a")
@pytest.mark.spec("RFC 6749 §10.5 d", "RFC 6749 §10.7", "RFC 9700 §2.4", "RFC 9700 §2.5 a")
@pytest.mark.spec("OpenID Connect Core §3.1.3.2 a", "OpenID Connect Core §3.1.3.2 b")
@pytest.mark.spec("RFC 6749 §5.2")
@pytest.mark.spec("RFC 6749 §3.2")
@pytest.mark.spec("RFC 6749 §2.3")
@pytest.mark.parametrize(("what", "status", "error", "send"), REFUSALS, ids=[row[0] for row in REFUSALS])
def test_a_bad_request_is_refused_and_changes_nothing(
    ground: Ground, what: str, status: int, error: str, send: Send
) -> None:
    before = dump()
    answer = send(ground)
    assert (answer.status, answer.json["error"]) == (status, error), answer.body
    assert dump() == before
    # Only what the row says was wrong: the right request still goes through.
    assert form()(ground).status == 200


@pytest.mark.spec("RFC 6749 §4.1.3 d", "OpenID Connect Core §3.1.3.2 c")
@pytest.mark.spec("RFC 6749 §4.1.2")
def test_a_code_changed_in_any_place_is_refused(ground: Ground) -> None:
    for place in range(len(ground.code)):
        other = "A" if ground.code[place] != "A" else "B"
        answer = form(code=ground.code[:place] + other + ground.code[place + 1 :])(ground)
        assert answer.json["error"] == "invalid_grant", place
    for cut in (1, 5, 30, len(ground.code) - 1):
        assert form(code=ground.code[:cut])(ground).json["error"] == "invalid_grant"
    assert form()(ground).status == 200


@pytest.mark.spec("RFC 6749 §5.2")
def test_a_client_may_use_only_the_grant_types_it_is_registered_for(ground: Ground) -> None:
    change(ground.site, ground.client, grant_types=("refresh_token",))
    assert form()(ground).json["error"] == "unauthorized_client"
    change(ground.site, ground.client, grant_types=("authorization_code",))
    answer = form(grant_type="refresh_token", refresh_token="x")(ground)
    assert (answer.status, answer.json["error"]) == (400, "unauthorized_client")
    assert form()(ground).status == 200


def test_a_disabled_client_is_refused_when_the_cached_record_is_old_and_works_again_at_once(ground: Ground) -> None:
    assert form(code="x")(ground).json["error"] == "invalid_grant"  # its record is cached now
    ground.site.server.store.clients.put(change(ground.site, ground.client, disabled_at=1))
    answer = form()(ground)
    assert (answer.status, answer.json["error"]) == (401, "invalid_client")
    change(ground.site, ground.client, disabled_at=None)
    assert form()(ground).status == 200
    ground.site.server.store.clients.delete(ground.client.id)
    ground.site.clock.advance(60)
    assert form()(ground).status == 401


def test_a_new_secret_counts_at_once_and_the_old_one_until_it_is_taken_away(ground: Ground) -> None:
    from chalicelib.handles import secret_hash

    old, new = ground.client.record.secret_hashes[0], secret_hash("new and long enough")
    ground.site.secrets.add("new and long enough")
    assert form(code="x")(ground).status == 400
    ground.site.server.store.clients.put(
        type(ground.client.record)(**{**vars(ground.client.record), "secret_hashes": (old, new)})
    )
    assert by("client", "new and long enough", code="x")(ground).json["error"] == "invalid_grant"
    assert by("client", "right", code="x")(ground).json["error"] == "invalid_grant"
    change(ground.site, ground.client, secret_hashes=(new,))
    assert by("client", "right", code="x")(ground).json["error"] == "invalid_client"


# ---- how a request may be made

WAYS: list[tuple[str, Send]] = [
    ("Basic", form()),
    ("Basic with the same client_id in the body", by("client", header=("client", "right"))),
    ("credentials in the body", by("client", "right")),
    ("a form with a charset", raw(b"{right}", "application/x-www-form-urlencoded; charset=UTF-8")),
    ("a media type in capitals", raw(b"{right}", "Application/X-WWW-Form-Urlencoded")),
    ("JSON", as_json(b"{{json}}")),
    ("JSON with a charset", raw(b"{{json}}", "application/json;charset=utf-8")),
    ("JSON with white space around it", as_json(b" \n{{json}}\r\n ")),
    (
        "JSON with credentials in it",
        lambda g: g.send(
            json.dumps(g.right | {"client_id": g.client.id, "client_secret": g.client.secret}),
            {"Content-Type": "application/json"},
        ),
    ),
    ("an empty secret beside Basic, which is as none", by("", "", header=("client", "right"))),
    ("parameters that nobody knows", form(audience="x", foo=["a", "b"])),
    ("a hundred parameters", added(b"&a=b" * 96)),
]


@pytest.mark.spec("RFC 6749 §2.3.1 a", "RFC 6749 §3.2 d", "RFC 6749 §3.2 e")
@pytest.mark.spec("RFC 6749 §2.3.1")
@pytest.mark.spec("RFC 6749 §3.2")
@pytest.mark.parametrize(("way", "send"), WAYS, ids=[way[0] for way in WAYS])
def test_a_token_request_may_be_made_in_any_of_these_ways(ground: Ground, way: str, send: Send) -> None:
    assert send(ground).status == 200


@pytest.mark.spec("RFC 7617 §2")
@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC", "bAsIc"])
def test_the_scheme_of_basic_may_be_in_any_case(ground: Ground, scheme: str) -> None:
    headers = basic(ground.client.id, ground.client.secret or "", scheme)
    assert ground.send(urlencode(ground.right), {"Content-Type": FORM, **headers}).status == 200


@pytest.mark.spec("RFC 6749 §2.3.1 a")
@pytest.mark.spec("RFC 6749 §2.3.1")
def test_basic_credentials_are_form_urlencoded_before_they_are_joined(site: Site, browser: Browser) -> None:
    secret = "p%2B:ä +&=☃ and long enough"
    client = site.client(client_id="a.b~c-d_1", client_secret=secret)
    site.secrets.update((quote_plus(secret), quote(secret)))
    for escape in (quote_plus, quote):
        headers = basic(escape(client.id), escape(secret, safe=""))
        answer = browser.post(
            "/oauth2/token",
            {"grant_type": "authorization_code", "code": "x"},
            headers,
        )
        assert answer.json["error"] == "invalid_grant"
    bare = browser.post("/oauth2/token", {"grant_type": "authorization_code", "code": "x"}, basic(client.id, secret))
    assert bare.status == 401


@pytest.mark.spec("RFC 8252 §6", "RFC 8252 §8.5 a", "RFC 9700 §2.1.1 a")
@pytest.mark.spec("RFC 6749 §2.1")
@pytest.mark.spec("RFC 7636 §4.5")
@pytest.mark.parametrize(
    "send",
    [by("public"), by("public", ""), by("", header=("public", "")), by("public", "", header=("public", ""))],
    ids=["no secret", "an empty one", "an empty one in Basic", "an empty one in both"],
)
def test_a_public_client_redeems_with_its_client_id_and_verifier(ground: Ground, send: Send) -> None:
    """Some libraries authenticate with HTTP Basic whatever the client: an empty secret is as none (section 2.3.1)."""
    ground.code = code_of(ground.site, ground.public)
    assert send(ground).status == 200


# ---- codes

WRONG_PROOFS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("a wrong verifier", {}, {"code_verifier": "x" * 43}),
    ("a verifier of 42 characters", {}, {"code_verifier": VERIFIER[:42]}),
    ("a verifier of 129 characters", {}, {"code_verifier": "x" * 129}),
    ("a verifier with a character that it must not have", {}, {"code_verifier": VERIFIER[:-1] + "+"}),
    ("a verifier with a line break", {}, {"code_verifier": VERIFIER[:-1] + "é"}),
    ("the challenge as the verifier", {}, {"code_verifier": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}),
    ("no verifier", {}, {"code_verifier": None}),
    ("an empty verifier", {}, {"code_verifier": ""}),
    ("a verifier that nobody asked for", {"code_challenge": None}, {}),
    ("a bad verifier that nobody asked for", {"code_challenge": None}, {"code_verifier": "x"}),
    ("no redirect_uri", {}, {"redirect_uri": None}),
    ("an empty redirect_uri", {}, {"redirect_uri": ""}),
    ("another redirect_uri", {}, {"redirect_uri": "https://client.example.com/other"}),
    ("a redirect_uri in another case", {}, {"redirect_uri": "https://client.example.com/CB"}),
    ("a redirect_uri with a slash more", {}, {"redirect_uri": "https://client.example.com/cb/"}),
    ("a redirect_uri with its port", {}, {"redirect_uri": "https://client.example.com:443/cb"}),
    ("another redirect_uri where none was sent", {"redirect_uri_sent": False}, {"redirect_uri": "https://a.example/"}),
]


@pytest.mark.spec("RFC 6749 §4.1.3 e", "RFC 6749 §10.6 a", "RFC 7636 §4.4 a", "RFC 7636 §4.6 a", "RFC 7636 §4.6 c")
@pytest.mark.spec("RFC 9700 §2.1.1 b", "RFC 9700 §2.1.1 c", "RFC 9700 §4.8.2 b", "OpenID Connect Core §3.1.3.2 e")
@pytest.mark.spec("RFC 7636 §4.6")
@pytest.mark.spec("RFC 6749 §4.1.3")
@pytest.mark.spec("RFC 9700 §2.1.1")
@pytest.mark.parametrize(("what", "asked", "presented"), WRONG_PROOFS, ids=[row[0] for row in WRONG_PROOFS])
def test_a_code_with_a_wrong_proof_is_refused_and_worth_nothing_afterwards(
    ground: Ground, what: str, asked: dict[str, Any], presented: dict[str, Any]
) -> None:
    ground.code = code_of(ground.site, ground.client, **asked)
    answer = form(**presented)(ground)
    assert (answer.status, answer.json["error"]) == (400, "invalid_grant")
    right = {"code_verifier": None} if "code_challenge" in asked else {}
    assert form(**right)(ground).json["error"] == "invalid_grant"


@pytest.mark.spec("RFC 6749 §4.1.3")
@pytest.mark.parametrize("redirect_uri", [None, "https://client.example.com/cb"])
def test_a_redirect_uri_that_was_not_sent_need_not_be_sent_but_may(ground: Ground, redirect_uri: str | None) -> None:
    ground.code = code_of(ground.site, ground.client, redirect_uri_sent=False)
    assert form(redirect_uri=redirect_uri)(ground).status == 200


@pytest.mark.spec("RFC 7636 §4.5")
def test_a_code_without_challenge_is_redeemed_without_verifier(ground: Ground) -> None:
    ground.code = code_of(ground.site, ground.client, code_challenge=None)
    assert form(code_verifier=None)(ground).status == 200


@pytest.mark.spec("RFC 7636 §4.6 b")
@pytest.mark.spec("RFC 7636 §4.1")
@pytest.mark.parametrize("length", [43, 128])
def test_the_shortest_and_the_longest_verifier_work(ground: Ground, length: int) -> None:
    from chalicelib import pkce

    verifier = ("-._~" + "aZ09" * 32)[:length]
    ground.code = code_of(ground.site, ground.client, code_challenge=pkce.challenge(verifier))
    assert form(code_verifier=verifier)(ground).status == 200


@pytest.mark.spec("RFC 6749 §4.1.2 b", "RFC 6749 §10.5 b", "OpenID Connect Core §16.9")
@pytest.mark.spec("RFC 6749 §4.1.2")
def test_a_code_lives_for_sixty_seconds_though_it_is_stored_for_longer(ground: Ground) -> None:
    second = code_of(ground.site, ground.client)
    ground.site.clock.advance(59)
    assert form(code=second)(ground).status == 200
    ground.site.clock.advance(2)
    before = dump()
    assert form()(ground).json["error"] == "invalid_grant"
    assert dump() == before


@pytest.mark.spec("RFC 6749 §4.1.2 d", "RFC 6749 §4.1.2 e", "RFC 6749 §10.5 b", "RFC 6749 §10.5 c", "RFC 9700 §4.2.4 b")
@pytest.mark.spec("RFC 9700 §4.2.4 c", "OpenID Connect Core §3.1.3.2 d")
@pytest.mark.spec("RFC 6749 §4.1.2")
@pytest.mark.spec("RFC 9700 §2.1.1")
@pytest.mark.parametrize("seconds", [0, 30, 3600])
def test_a_code_used_twice_ends_the_grant(site: Site, browser: Browser, seconds: int) -> None:
    site.user()
    client = site.client(access_token_lifetime=7200)
    code = browser.code(client)
    tokens = browser.redeem(client, code).json
    site.clock.advance(seconds)
    assert browser.userinfo(tokens["access_token"]).status == 200
    assert browser.redeem(client, code).json["error"] == "invalid_grant"
    assert browser.userinfo(tokens["access_token"]).status == 401
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"


@pytest.mark.spec("RFC 6749 §4.1.2")
@pytest.mark.parametrize(
    "presented",
    [
        {"code_verifier": "x" * 43},
        {"code_verifier": None},
        {"redirect_uri": None},
        {"redirect_uri": "https://client.example.com/other"},
    ],
)
def test_a_replay_with_anything_wrong_ends_nothing(ground: Ground, presented: dict[str, Any]) -> None:
    tokens = form()(ground).json
    before = dump()
    assert form(**presented)(ground).json["error"] == "invalid_grant"
    assert dump() == before
    assert ground.browser.refresh(ground.client, tokens["refresh_token"]).status == 200


def test_a_replay_by_another_client_ends_nothing(ground: Ground) -> None:
    tokens = form()(ground).json
    assert by("public")(ground).json["error"] == "invalid_grant"
    assert ground.browser.refresh(ground.client, tokens["refresh_token"]).status == 200


# ---- what comes of them


@pytest.mark.spec("RFC 6749 §3.3 a", "RFC 6749 §5.1 a", "RFC 6749 §5.1 b", "RFC 6749 §5.1 c", "RFC 6749 §5.1 e")
@pytest.mark.spec("RFC 6749 §5.1 f", "RFC 6750 §5.2 i", "RFC 6750 §5.3 b", "OpenID Connect Core §3.1.3.3 a")
@pytest.mark.spec("OpenID Connect Core §3.1.3.3 c", "OpenID Connect Core §16.18 a")
def test_the_answer_has_what_was_granted(ground: Ground) -> None:
    tokens = form()(ground).json
    assert tokens["token_type"] == "Bearer"
    assert tokens["scope"] == "email openid profile"
    assert tokens["expires_in"] == 600
    assert tokens["refresh_token"].startswith("rt_")
    claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 600
    assert claims["aud"] == claims["iss"] == ground.site.settings.issuer
    assert set(claims) >= {"iss", "sub", "aud", "exp", "iat", "jti", "client_id", "scope"}


@pytest.mark.spec("OpenID Connect Core §3.1.2.2 b", "OpenID Connect Core §3.1.3.2 f")
@pytest.mark.spec("OpenID Connect Core §3.1.3.3")
def test_without_openid_there_is_no_id_token(ground: Ground) -> None:
    ground.code = code_of(ground.site, ground.client, scope=frozenset({"email"}))
    assert "id_token" not in form()(ground).json


@pytest.mark.spec("RFC 9700 §4.14.2 a")
@pytest.mark.spec("RFC 6749 §1.5")
def test_a_client_without_the_grant_type_gets_no_refresh_token(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client(grant_types=("authorization_code",))
    tokens = browser.tokens(client)
    assert "refresh_token" not in tokens
    assert tokens["expires_in"] == 600
    assert browser.userinfo(tokens["access_token"]).status == 200


def test_a_client_that_may_refresh_since_its_code_was_issued_gets_tokens_that_work(
    site: Site, browser: Browser
) -> None:
    site.user()
    client = site.client(grant_types=("authorization_code",))
    code = browser.code(client)
    change(site, client, grant_types=("authorization_code", "refresh_token"))
    site.clock.advance(5)
    tokens = browser.redeem(client, code).json
    assert tokens["expires_in"] == 600
    assert "refresh_token" not in tokens, "this grant was born without a time for them"
    assert browser.userinfo(tokens["access_token"]).status == 200


@pytest.mark.parametrize(
    ("members", "expires_in"),
    [
        ({"access_token_lifetime": 120}, 120),
        ({"access_token_lifetime": 86400}, 86400),
        # No token outlives its grant.
        ({"access_token_lifetime": 600, "refresh_token_lifetime": 60}, 60),
    ],
)
def test_a_client_may_have_lifetimes_of_its_own(site: Site, browser: Browser, members: Any, expires_in: int) -> None:
    client = site.client(**members)
    tokens = browser.redeem(client, code_of(site, client)).json
    assert tokens["expires_in"] == expires_in
    assert browser.refresh(client, tokens["refresh_token"]).json["expires_in"] == expires_in


def test_a_client_may_have_a_code_lifetime_of_its_own(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client(authorization_code_lifetime=300)
    code = browser.code(client)
    again = browser.code(client)
    site.clock.advance(299)
    assert browser.redeem(client, code).status == 200
    site.clock.advance(1)
    assert browser.redeem(client, again).json["error"] == "invalid_grant"


def test_a_client_may_have_a_refresh_token_lifetime_of_its_own(site: Site, browser: Browser) -> None:
    client = site.client(refresh_token_lifetime=60)
    tokens = browser.redeem(client, code_of(site, client)).json
    for _ in range(3):
        site.clock.advance(59)
        tokens = browser.refresh(client, tokens["refresh_token"]).json
    site.clock.advance(60)
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"


# ---- refresh tokens


@pytest.fixture
def tokens(ground: Ground) -> dict[str, Any]:
    """The tokens that the ground's code is good for: openid, email and profile."""
    return form()(ground).json


def refresh(ground: Ground, refresh_token: str, **parameters: Any) -> Answer:
    return ground.browser.refresh(ground.client, refresh_token, **parameters)


@pytest.mark.spec("RFC 6749 §10.4 e", "RFC 9700 §2.2.2")
@pytest.mark.spec("RFC 6749 §6")
@pytest.mark.spec("RFC 9700 §4.14.2")
def test_a_refresh_token_is_replaced_when_it_is_used(ground: Ground, tokens: dict[str, Any]) -> None:
    seen = {tokens["refresh_token"]}
    for _ in range(5):
        ground.site.clock.advance(3600)
        tokens = refresh(ground, tokens["refresh_token"]).json
        assert tokens["refresh_token"] not in seen
        seen.add(tokens["refresh_token"])
    assert tokens["scope"] == "email openid profile"


@pytest.mark.spec("RFC 6749 §6 d", "RFC 6749 §10.4 f", "RFC 9700 §4.14.2 d", "OpenID Connect Core §12.1 a")
def test_a_refresh_token_changed_in_any_place_is_refused(ground: Ground, tokens: dict[str, Any]) -> None:
    right = tokens["refresh_token"]
    for place in range(len(right)):
        wrong = right[:place] + ("A" if right[place] != "A" else "B") + right[place + 1 :]
        assert refresh(ground, wrong).json["error"] == "invalid_grant", place
    assert refresh(ground, right).status == 200


@pytest.mark.spec("RFC 9700 §4.14.2")
def test_within_the_retry_window_the_same_successor_is_given_again(ground: Ground, tokens: dict[str, Any]) -> None:
    successor = refresh(ground, tokens["refresh_token"]).json["refresh_token"]
    ground.site.clock.advance(9)
    again = refresh(ground, tokens["refresh_token"])
    assert again.status == 200
    assert again.json["refresh_token"] == successor
    assert refresh(ground, successor).status == 200


@pytest.mark.spec("RFC 6749 §10.4 e", "RFC 9700 §4.14.2 c")
@pytest.mark.spec("RFC 9700 §4.14.2")
@pytest.mark.parametrize("seconds", [10, 3600, 20 * DAY])
def test_after_the_retry_window_reuse_is_theft_and_ends_the_grant(
    ground: Ground, tokens: dict[str, Any], seconds: int
) -> None:
    successor = refresh(ground, tokens["refresh_token"]).json["refresh_token"]
    ground.site.clock.advance(seconds)
    assert refresh(ground, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert refresh(ground, successor).json["error"] == "invalid_grant"


def test_four_generations_behind_is_a_retry_and_five_is_theft(ground: Ground, tokens: dict[str, Any]) -> None:
    first = current = tokens["refresh_token"]
    for _ in range(4):
        current = refresh(ground, current).json["refresh_token"]
    assert refresh(ground, first).json["refresh_token"] == current
    current = refresh(ground, current).json["refresh_token"]
    assert refresh(ground, first).json["error"] == "invalid_grant"
    assert refresh(ground, current).json["error"] == "invalid_grant"


def test_each_rotation_has_a_window_of_its_own(ground: Ground, tokens: dict[str, Any]) -> None:
    first = tokens["refresh_token"]
    second = refresh(ground, first).json["refresh_token"]
    ground.site.clock.advance(8)
    third = refresh(ground, second).json["refresh_token"]
    ground.site.clock.advance(8)
    assert refresh(ground, second).json["refresh_token"] == third
    assert refresh(ground, first).json["error"] == "invalid_grant"
    assert refresh(ground, third).json["error"] == "invalid_grant"


def test_without_a_retry_window_every_reuse_is_theft(
    site_with: Callable[..., Site], browsers: Callable[..., Browser]
) -> None:
    strict = site_with(refresh_token_retry_window=0)
    browser, client = browsers(strict), strict.client()
    tokens = browser.redeem(client, code_of(strict, client)).json
    successor = browser.refresh(client, tokens["refresh_token"]).json["refresh_token"]
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert browser.refresh(client, successor).json["error"] == "invalid_grant"


@pytest.mark.spec("RFC 6749 §6 c", "RFC 6749 §10.4 b", "RFC 6749 §10.4 d", "OpenID Connect Core §12.1 b")
@pytest.mark.spec("RFC 6749 §6")
def test_another_clients_refresh_token_is_refused_and_nothing_changes(ground: Ground, tokens: dict[str, Any]) -> None:
    successor = refresh(ground, tokens["refresh_token"]).json["refresh_token"]
    ground.site.clock.advance(60)
    before = dump()
    for refresh_token in (tokens["refresh_token"], successor):
        answer = ground.browser.refresh(ground.public, refresh_token)
        assert (answer.status, answer.json["error"]) == (400, "invalid_grant")
    assert dump() == before
    assert refresh(ground, successor).status == 200


@pytest.mark.spec("RFC 6749 §6 a", "RFC 9700 §4.14.2 b")
@pytest.mark.spec("RFC 6749 §6")
@pytest.mark.parametrize(
    "scope",
    [
        "phone",
        "openid phone",
        "openid email profile offline_access",
        "OPENID",
        "openid\u00a0email",
        " ",
        'openid"',
        " ".join(f"s{i}" for i in range(101)),
        " ".join(
            f"{a}{b}" for a in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ" for b in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ"
        ),
    ],
    ids=lambda scope: scope[:30],
)
def test_a_scope_that_was_not_granted_is_refused_and_nothing_changes(
    ground: Ground, tokens: dict[str, Any], scope: str
) -> None:
    before = dump()
    answer = refresh(ground, tokens["refresh_token"], scope=scope)
    assert (answer.status, answer.json["error"]) == (400, "invalid_scope")
    assert dump() == before
    assert refresh(ground, tokens["refresh_token"]).status == 200


@pytest.mark.parametrize(("scope", "error"), [("x" * 4097, "invalid_request"), ("openid\0", "invalid_request")])
def test_a_malformed_scope_changes_nothing(ground: Ground, tokens: dict[str, Any], scope: str, error: str) -> None:
    before = dump()
    assert refresh(ground, tokens["refresh_token"], scope=scope).json["error"] == error
    assert dump() == before


@pytest.mark.spec("RFC 6749 §3.3 a", "RFC 6749 §6 e", "RFC 9700 §2.3 a")
@pytest.mark.spec("RFC 6749 §6")
def test_a_scope_may_be_narrowed_and_widened_back_later(ground: Ground, tokens: dict[str, Any]) -> None:
    narrow = refresh(ground, tokens["refresh_token"], scope="email").json
    assert narrow["scope"] == "email"
    assert "id_token" not in narrow
    assert jwt.decode(narrow["access_token"], options={"verify_signature": False})["scope"] == "email"
    # "identical to that of the refresh token included by the client": narrowing is for the access token only
    wide = refresh(ground, narrow["refresh_token"]).json
    assert wide["scope"] == "email openid profile"
    assert refresh(ground, wide["refresh_token"], scope=" profile  openid email ").json["scope"] == wide["scope"]


def test_a_scope_that_the_operator_has_taken_away_stands_in_no_new_token(
    ground: Ground, tokens: dict[str, Any]
) -> None:
    site = ground.site
    change(site, ground.client, scope="openid")
    answer = refresh(ground, tokens["refresh_token"]).json
    assert (tokens["scope"], answer["scope"]) == ("email openid profile", "openid")
    change(site, ground.client, scope="photos.read")
    nothing = refresh(ground, answer["refresh_token"])
    assert (nothing.status, nothing.json["error"]) == (400, "invalid_scope")
    site.clock.advance(60)  # the same token is asked for again much later
    assert site.server.client(ground.client.id), "the record that is kept for a minute says that nothing is left"
    site.server.store.clients.put(ground.client.record)
    again = refresh(ground, answer["refresh_token"])
    assert again.json["scope"] == "email openid profile", "what is given back counts at once"


def test_a_hundred_scopes_may_be_asked_for_again(site: Site, browser: Browser) -> None:
    scope = " ".join(f"s{i}" for i in range(100))
    client = site.client(scope=scope)
    tokens = browser.redeem(client, code_of(site, client, scope=frozenset(scope.split()))).json
    assert browser.refresh(client, tokens["refresh_token"], scope=scope).status == 200


@pytest.mark.spec("RFC 9700 §4.14.2 e")
@pytest.mark.spec("RFC 9700 §4.14.2")
def test_a_refresh_token_expires_thirty_days_after_it_was_last_used(ground: Ground, tokens: dict[str, Any]) -> None:
    for _ in range(3):
        ground.site.clock.advance(30 * DAY - 1)
        answer = refresh(ground, tokens["refresh_token"])
        assert answer.status == 200
        tokens = answer.json
    ground.site.clock.advance(30 * DAY)
    before = dump()
    assert refresh(ground, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert dump() == before


@pytest.mark.spec("RFC 9700 §4.14.2")
def test_refreshing_ends_180_days_after_the_grant_whatever_its_use(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client()
    code = browser.code(client)
    start = site.clock.time
    site.clock.advance(30)
    tokens = browser.redeem(client, code).json
    for _ in range(6):
        site.clock.advance(29 * DAY)
        tokens = browser.refresh(client, tokens["refresh_token"]).json
        assert tokens["expires_in"] == 600
    site.clock.time = start + 180 * DAY - 1
    tokens = browser.refresh(client, tokens["refresh_token"]).json
    assert tokens["expires_in"] == 1  # no token outlives its grant
    site.clock.advance(1)
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert browser.userinfo(tokens["access_token"]).status == 401


@pytest.mark.spec("OpenID Connect Core §12.2 a", "OpenID Connect Core §12.2 b", "OpenID Connect Core §12.2 c")
@pytest.mark.spec("OpenID Connect Core §12.2 d", "OpenID Connect Core §12.2 e", "OpenID Connect Core §12.2 f")
@pytest.mark.spec("OpenID Connect Core §12.2")
def test_the_id_token_of_a_refresh_tells_the_same_sign_in_and_has_no_nonce(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client()
    tokens = browser.tokens(client, nonce="n-0S6_WzA2Mj")
    site.clock.advance(3600)
    refreshed = browser.refresh(client, tokens["refresh_token"]).json
    first, second = (jwt.decode(t["id_token"], options={"verify_signature": False}) for t in (tokens, refreshed))
    assert first["nonce"] == "n-0S6_WzA2Mj"
    assert "nonce" not in second
    assert second["iat"] == first["iat"] + 3600
    for name in ("iss", "sub", "aud", "auth_time"):
        assert second[name] == first[name]
    assert "azp" not in second


def test_a_revoked_grant_refreshes_nothing(ground: Ground) -> None:
    grant = born(ground.site, ground.client, redeemed_at=1, generation=1, revoked_at=2)
    assert (
        refresh(ground, ground.site.server.keys.make_handle("rt", grant.grant_id, 1)).json["error"] == "invalid_grant"
    )


def test_a_refresh_token_of_a_generation_to_come_is_refused_and_ends_nothing(
    ground: Ground, tokens: dict[str, Any]
) -> None:
    grant_id = jwt.decode(tokens["access_token"], options={"verify_signature": False})["grant_id"]
    before = dump()
    ahead = ground.site.server.keys.make_handle("rt", grant_id, 2)
    assert refresh(ground, ahead).json["error"] == "invalid_grant"
    assert dump() == before
    assert refresh(ground, tokens["refresh_token"]).status == 200


# ---- what is noted of it


@pytest.fixture
def noted(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, str]]]:
    """The events in the log so far, with whom they happened to."""

    def read() -> list[tuple[str, str]]:
        lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "signet.requests"]
        return [(line["event"], line["sub"]) for line in lines if "event" in line]

    return read


def test_a_code_exchange_and_a_refresh_are_noted(
    site: Site, browser: Browser, noted: Callable[[], list[tuple[str, str]]]
) -> None:
    client, alice = site.client(), site.user()
    token = browser.redeem(client, code_of(site, client, alice)).json["refresh_token"]
    browser.refresh(client, token)
    browser.refresh(client, token)  # the retry of a lost answer gives tokens too
    assert noted() == [("code_redeemed", alice.sub), *[("token_refreshed", alice.sub)] * 2]


@pytest.mark.spec("RFC 9700 §4.14.2 c")
@pytest.mark.parametrize("what", ["code", "refresh token"])
def test_a_theft_is_told_to_the_person_once(
    site: Site, browser: Browser, noted: Callable[[], list[tuple[str, str]]], what: str
) -> None:
    client, alice = site.client(), site.user()
    code = code_of(site, client, alice)
    token = browser.redeem(client, code).json["refresh_token"]
    if what == "code":
        answers = [browser.redeem(client, code) for _ in range(3)]
    else:
        browser.refresh(client, token)
        site.clock.advance(3600)
        answers = [browser.refresh(client, token) for _ in range(3)]
    assert {(answer.status, answer.json["error"]) for answer in answers} == {(400, "invalid_grant")}
    assert [event for event in noted() if event[0] == "reuse_detected"] == [("reuse_detected", alice.sub)]
    [event] = site.server.store.events.find("sub", alice.sub)
    assert (event.name, event.client_id, event.client_name) == ("reuse_detected", client.id, client.record.client_name)
    assert event.expires_at == site.clock.time + 90 * DAY
