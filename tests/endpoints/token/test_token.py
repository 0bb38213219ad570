"""POST /oauth2/token: client authentication, and the form of a token request (RFC 6749 sections 2.3, 3.2, 5.2)."""

import base64
import json
from dataclasses import replace
from urllib.parse import quote, quote_plus, urlencode

import pytest

from chalicelib.protocol.handles import secret_hash
from tests.endpoints.token.conftest import FORM, Send, Setup, post_as, post_form
from tests.support.browser import VERIFIER, Answer, Browser, basic
from tests.support.grants import create_code, update_client
from tests.support.site import Site, dump_tables

LONG = "x" * 2049


# ---- rejected requests


def post_form_with_suffix(text: bytes) -> Send:
    """Return a function that posts the valid form with raw bytes appended."""
    return lambda setup: setup.post(urlencode(setup.valid_form).encode() + text, {"Content-Type": FORM, **setup.basic})


def post_body(body: bytes | None, content_type: str | None) -> Send:
    """Return a function that posts a body with HTTP Basic.

    `{form}` and `{json}` in it are replaced by the valid form and by the members of the valid JSON object.
    """

    def send(setup: Setup) -> Answer:
        members = json.dumps(setup.valid_form)[1:-1].encode()
        sent = body and body.replace(b"{form}", urlencode(setup.valid_form).encode()).replace(b"{json}", members)
        return setup.post(sent, setup.basic | ({"Content-Type": content_type} if content_type else {}))

    return send


def post_json(body: bytes) -> Send:
    return post_body(body, "application/json")


def basic_header(text: bytes) -> str:
    """Return an Authorization header whose credentials are these bytes."""
    return "Basic " + base64.b64encode(text).decode()


INVALID_REQUESTS: list[tuple[str, Send]] = [
    ("no grant_type", post_form(grant_type=None)),
    ("an empty grant_type", post_form(grant_type="")),
    ("grant_type twice", post_form(grant_type=["authorization_code"] * 2)),
    ("a long grant_type", post_form(grant_type=LONG)),
    ("a grant_type with NUL", post_form(grant_type="authorization_code\0")),
    ("no code", post_form(code=None)),
    ("an empty code", post_form(code="")),
    ("a long code", post_form(code=LONG)),
    ("a code with NUL", post_form(code="code_\0")),
    ("a code with CR and LF", post_form(code="code_\r\nSet-Cookie: a=b")),
    ("code twice", post_form_with_suffix(b"&code=x")),
    ("redirect_uri twice", post_form_with_suffix(b"&redirect_uri=https%3A%2F%2Fclient.example.com%2Fcb")),
    ("a long redirect_uri", post_form(redirect_uri="https://client.example.com/" + LONG)),
    ("a redirect_uri with a control character", post_form(redirect_uri="https://client.example.com/cb\x85")),
    ("code_verifier twice", post_form_with_suffix(b"&code_verifier=" + VERIFIER.encode())),
    ("a code_verifier with NUL", post_form(code_verifier=VERIFIER + "\0")),
    ("client_id twice", post_form(client_id=["a", "a"])),
    ("client_secret twice", post_as("client", client_secret=["a", "a"])),
    ("a client_secret that is too long", post_as("client", LONG)),
    ("a client_id with NUL", post_as("client\0", "right")),
    ("a client_secret without client_id", post_as("", "right")),
    ("no refresh_token", post_form(grant_type="refresh_token")),
    ("an empty refresh_token", post_form(grant_type="refresh_token", refresh_token="")),
    ("refresh_token twice", post_form(grant_type="refresh_token", refresh_token=["a", "b"])),
    ("a refresh_token with NUL", post_form(grant_type="refresh_token", refresh_token="rt_\0")),
    ("a percent sequence that is not UTF-8", post_form_with_suffix(b"&state=%ff")),
    ("a lone surrogate, percent-encoded", post_form_with_suffix(b"&state=%ed%a0%80")),
    ("bytes that are not UTF-8", post_form_with_suffix(b"&state=\xff")),
    ("too many parameters", post_form_with_suffix(b"&a=b" * 100)),
    ("more than 64 KiB", post_form_with_suffix(b"&a=" + b"x" * 65536)),
    ("more than 64 KiB of JSON", post_json(b'{"a": "' + b"x" * 65536 + b'", {json}}')),
    ("no body", post_body(None, FORM)),
    ("no media type", post_body(b"{form}", None)),
    ("an empty media type", post_body(b"{form}", "")),
    ("text/plain", post_body(b"{form}", "text/plain")),
    ("multipart/form-data", post_body(b"{form}", "multipart/form-data; boundary=x")),
    ("XML", post_body(b"<grant_type>authorization_code</grant_type>", "application/xml")),
    ("a media type that only starts like JSON's", post_body(b"{{json}}", "application/json-patch+json")),
    ("a form with the media type of JSON", post_json(b"{form}")),
    ("JSON with the media type of a form", post_body(b"{{json}}", FORM)),
    ("an empty body with the media type of JSON", post_json(b"")),
    ("JSON cut short", post_json(b"{{json}")),
    ("JSON with more after it", post_json(b"{{json}} {}")),
    ("a JSON array", post_json(b"[]")),
    ("a JSON array of pairs", post_json(b'[["grant_type", "authorization_code"]]')),
    ("a JSON object in an array", post_json(b"[{{json}}]")),
    ("a JSON string", post_json(b'"grant_type"')),
    ("a JSON number", post_json(b"1")),
    ("a JSON number without end", post_json(b"1" * 5000)),
    ("JSON null", post_json(b"null")),
    ("JSON NaN", post_json(b"NaN")),
    ("an empty JSON object", post_json(b"{}")),
    ("JSON arrays nested deeply", post_json(b"[" * 60_000)),
    ("JSON objects nested deeply", post_json(b'{"a":' * 12_000)),
    ("JSON nested 100,000 deep", post_json(b"[" * 100_000)),
    ("JSON with a member twice", post_json(b'{"grant_type": "refresh_token", {json}}')),
    ("JSON with a number as a member", post_json(b'{"scope": 1, {json}}')),
    ("JSON with null as a member", post_json(b'{"scope": null, {json}}')),
    ("JSON with true as a member", post_json(b'{"scope": true, {json}}')),
    ("JSON with an object as a member", post_json(b'{"scope": {"a": "b"}, {json}}')),
    ("JSON with an array as a member", post_json(b'{"scope": ["openid"], {json}}')),
    ("JSON with a lone surrogate", post_json(b'{"grant_type": "\\ud800"}')),
    ("JSON with NUL", post_json(b'{"grant_type": "\\u0000"}')),
    ("JSON that is not UTF-8", post_json('{"scope": "é", {json}}'.encode("latin-1"))),
    ("JSON with too many members", post_json(b"{" + b'"a": "b", ' * 100 + b"{json}}")),
    (
        "the parameters in the query",
        lambda setup: setup.post(
            "", {"Content-Type": FORM, **setup.basic}, f"/oauth2/token?{urlencode(setup.valid_form)}"
        ),
    ),
    ("Basic and credentials in the body", post_as("client", "right", header=("client", "right"))),
    ("Basic, and a secret alone in the body", post_as("", "right", header=("client", "right"))),
    ("Basic, and another client_id in the body", post_as("public", header=("client", "right"))),
]
INVALID_CLIENTS: list[tuple[str, Send]] = [
    ("no authentication", post_as("")),
    ("a confidential client without its secret", post_as("client")),
    ("a wrong secret in Basic", post_as("", header=("client", "wrong"))),
    ("a wrong secret in the body", post_as("client", "wrong")),
    ("an empty secret in Basic", post_as("", header=("client", ""))),
    ("an empty secret in the body", post_as("client", "")),
    ("an unknown client in Basic", post_as("", header=("unknown", "right"))),
    ("an unknown client in the body", post_as("unknown", "right")),
    ("an unknown public client", post_as("unknown")),
    ("a client_id longer than a DynamoDB key", post_as("", header=("é" * 1500, "right"))),
    ("an empty user-id in Basic", post_as("", header=("", "right"))),
    ("a public client with a secret", post_as("public", "right")),
    ("a public client with a secret in Basic", post_as("", header=("public", "right"))),
    ("a client_id in another case", post_as("", header=("CLIENT", "right"))),
    ("Basic without credentials", post_as("", header="Basic")),
    ("Basic that is not base64", post_as("", header="Basic !!!!")),
    ("Basic with base64 cut short", post_as("", header="Basic YTpi=")),
    ("Basic with characters that are not ASCII", post_as("", header="Basic \xe9\xe9")),
    ("Basic that is not UTF-8", post_as("", header=basic_header(b"client:\xff"))),
    ("Basic without a colon", post_as("", header=basic_header(b"client"))),
    ("Basic with NUL", post_as("", header=basic_header(b"\0:\0"))),
    ("Basic with a percent sequence that is not UTF-8", post_as("", header=basic_header(b"%ff:%ff"))),
    ("Bearer", post_as("", header="Bearer YTpi")),
    (
        "credentials in the query",
        lambda setup: setup.post(
            urlencode(setup.valid_form),
            {"Content-Type": FORM},
            f"/oauth2/token?client_id={setup.client.id}&client_secret={setup.client.secret}",
        ),
    ),
]
UNSUPPORTED: list[tuple[str, Send]] = [
    ("the password grant", post_form(grant_type="password", username="alice", password="x")),
    ("the implicit grant", post_form(grant_type="implicit")),
    ("a grant type in another case", post_form(grant_type="Authorization_Code")),
    ("a grant type with a space", post_form(grant_type="authorization_code ")),
    ("a grant type that is a URN", post_form(grant_type="urn:ietf:params:oauth:grant-type:jwt-bearer")),
]
INVALID_GRANTS: list[tuple[str, Send]] = [
    ("a code that is nonsense", post_form(code="SplxlOBeZQQYbYS6WxSbIA")),
    ("a code of the greatest length", post_form(code="x" * 2048)),
    ("a code that is only its prefix", post_form(code="code_")),
    ("a code that is not ASCII", post_form(code="code_é☃")),
    ("a code that is not base64url", post_form(code="code_!!!!")),
    ("a code with padding", lambda setup: post_form(code=setup.code + "=")(setup)),
    ("a code with a space after it", lambda setup: post_form(code=setup.code + " ")(setup)),
    (
        "a code of an unknown grant",
        lambda setup: post_form(code=setup.site.server.keys.make_handle("code", "never"))(setup),
    ),
    (
        "a code with a grant_id longer than a DynamoDB key",
        lambda setup: post_form(code=setup.site.server.keys.make_handle("code", "x" * 300))(setup),
    ),
    (
        "a refresh token as a code",
        lambda setup: post_form(code=setup.site.server.keys.make_handle("rt", "x", 1))(setup),
    ),
    ("a code as a refresh token", lambda setup: post_form(grant_type="refresh_token", refresh_token=setup.code)(setup)),
    ("a refresh token that is nonsense", post_form(grant_type="refresh_token", refresh_token="8xLOxBtZp8")),
    (
        "a refresh token of an unknown grant",
        lambda setup: post_form(
            grant_type="refresh_token", refresh_token=setup.site.server.keys.make_handle("rt", "never", 1)
        )(setup),
    ),
    (
        "a code of another client",
        lambda setup: setup.post(
            urlencode(setup.valid_form | {"client_id": setup.public_client.id}), {"Content-Type": FORM}
        ),
    ),
]
REJECTED_REQUESTS: list[tuple[str, int, str, Send]] = [
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
@pytest.mark.parametrize(
    ("what", "status", "error", "send"), REJECTED_REQUESTS, ids=[row[0] for row in REJECTED_REQUESTS]
)
def test_invalid_request_is_rejected_and_changes_nothing(
    setup: Setup, what: str, status: int, error: str, send: Send
) -> None:
    before = dump_tables()
    answer = send(setup)
    assert (answer.status, answer.json["error"]) == (status, error), answer.body
    assert dump_tables() == before
    # Only that part of the request was wrong: the valid request succeeds.
    assert post_form()(setup).status == 200


@pytest.mark.spec("RFC 6749 §4.1.3 d", "OpenID Connect Core §3.1.3.2 c")
@pytest.mark.spec("RFC 6749 §4.1.2")
def test_code_changed_at_any_position_is_rejected(setup: Setup) -> None:
    for position in range(len(setup.code)):
        replacement = "A" if setup.code[position] != "A" else "B"
        answer = post_form(code=setup.code[:position] + replacement + setup.code[position + 1 :])(setup)
        assert answer.json["error"] == "invalid_grant", position
    for length in (1, 5, 30, len(setup.code) - 1):
        assert post_form(code=setup.code[:length])(setup).json["error"] == "invalid_grant"
    assert post_form()(setup).status == 200


@pytest.mark.spec("RFC 6749 §5.2")
def test_unregistered_grant_type_is_rejected(setup: Setup) -> None:
    update_client(setup.site, setup.client, grant_types=("refresh_token",))
    assert post_form()(setup).json["error"] == "unauthorized_client"
    update_client(setup.site, setup.client, grant_types=("authorization_code",))
    answer = post_form(grant_type="refresh_token", refresh_token="x")(setup)
    assert (answer.status, answer.json["error"]) == (400, "unauthorized_client")
    assert post_form()(setup).status == 200


def test_disabled_client_is_rejected_and_accepted_again_once_enabled(setup: Setup) -> None:
    assert post_form(code="x")(setup).json["error"] == "invalid_grant"  # its record is cached now
    update_client(setup.site, setup.client, disabled_at=1)
    answer = post_form()(setup)
    assert (answer.status, answer.json["error"]) == (401, "invalid_client")
    update_client(setup.site, setup.client, disabled_at=None)
    assert post_form()(setup).status == 200
    setup.site.server.store.clients.delete(setup.client.id)
    setup.site.clock.advance(60)
    assert post_form()(setup).status == 401


def test_new_secret_is_accepted_immediately_and_the_old_one_until_it_is_removed(setup: Setup) -> None:
    old, new = setup.client.record.secret_hashes[0], secret_hash("new and long enough")
    setup.site.secrets.add("new and long enough")
    assert post_form(code="x")(setup).status == 400
    # Past the cache, which still has the record without the new secret.
    setup.site.server.store.clients.put(replace(setup.client.record, secret_hashes=(old, new)))
    assert post_as("client", "new and long enough", code="x")(setup).json["error"] == "invalid_grant"
    assert post_as("client", "right", code="x")(setup).json["error"] == "invalid_grant"
    update_client(setup.site, setup.client, secret_hashes=(new,))
    assert post_as("client", "right", code="x")(setup).json["error"] == "invalid_client"


# ---- accepted requests

ACCEPTED_REQUESTS: list[tuple[str, Send]] = [
    ("Basic", post_form()),
    ("Basic with the same client_id in the body", post_as("client", header=("client", "right"))),
    ("credentials in the body", post_as("client", "right")),
    ("a form with a charset", post_body(b"{form}", "application/x-www-form-urlencoded; charset=UTF-8")),
    ("a media type in capitals", post_body(b"{form}", "Application/X-WWW-Form-Urlencoded")),
    ("JSON", post_json(b"{{json}}")),
    ("JSON with a charset", post_body(b"{{json}}", "application/json;charset=utf-8")),
    ("JSON with white space around it", post_json(b" \n{{json}}\r\n ")),
    (
        "JSON with credentials in it",
        lambda setup: setup.post(
            json.dumps(setup.valid_form | {"client_id": setup.client.id, "client_secret": setup.client.secret}),
            {"Content-Type": "application/json"},
        ),
    ),
    ("Basic and an empty secret in the body", post_as("", "", header=("client", "right"))),
    ("unknown parameters", post_form(audience="x", foo=["a", "b"])),
    ("a hundred parameters", post_form_with_suffix(b"&a=b" * 96)),
]


@pytest.mark.spec("RFC 6749 §2.3.1 a", "RFC 6749 §3.2 d", "RFC 6749 §3.2 e")
@pytest.mark.spec("RFC 6749 §2.3.1")
@pytest.mark.spec("RFC 6749 §3.2")
@pytest.mark.parametrize(("way", "send"), ACCEPTED_REQUESTS, ids=[way for way, _ in ACCEPTED_REQUESTS])
def test_token_request_is_accepted(setup: Setup, way: str, send: Send) -> None:
    assert send(setup).status == 200


@pytest.mark.spec("RFC 7617 §2")
@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC", "bAsIc"])
def test_scheme_of_basic_is_case_insensitive(setup: Setup, scheme: str) -> None:
    headers = basic(setup.client.id, setup.client.secret or "", scheme)
    assert setup.post(urlencode(setup.valid_form), {"Content-Type": FORM, **headers}).status == 200


@pytest.mark.spec("RFC 6749 §2.3.1 a")
@pytest.mark.spec("RFC 6749 §2.3.1")
def test_basic_credentials_are_form_urlencoded(site: Site, browser: Browser) -> None:
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
    unencoded = basic(client.id, secret)
    answer = browser.post("/oauth2/token", {"grant_type": "authorization_code", "code": "x"}, unencoded)
    assert answer.status == 401


@pytest.mark.spec("RFC 8252 §6", "RFC 8252 §8.5 a", "RFC 9700 §2.1.1 a")
@pytest.mark.spec("RFC 6749 §2.1")
@pytest.mark.spec("RFC 7636 §4.5")
@pytest.mark.parametrize(
    "send",
    [
        post_as("public"),
        post_as("public", ""),
        post_as("", header=("public", "")),
        post_as("public", "", header=("public", "")),
    ],
    ids=["no secret", "an empty secret", "an empty secret in Basic", "an empty secret in both"],
)
def test_public_client_redeems_with_its_client_id_and_verifier(setup: Setup, send: Send) -> None:
    """Some libraries always send HTTP Basic: an empty secret means none (RFC 6749 section 2.3.1)."""
    setup.code = create_code(setup.site, setup.public_client)
    assert send(setup).status == 200


def test_secret_in_the_body_beside_basic_is_named_as_a_second_method(setup: Setup) -> None:
    body = urlencode(setup.valid_form | {"client_secret": setup.client.secret}).encode()
    answer = setup.post(body, {"Content-Type": FORM, **setup.basic})
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert answer.json["error_description"].startswith("Authenticate by one method")
