"""The playground: a client that this server runs, and that shows its requests and responses."""

import json
import re
from collections.abc import Callable
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest

from chalicelib.protocol import pkce
from tests.support.browser import Answer, Browser, basic
from tests.support.site import PASSWORD, Registered, Site

SAME_SITE = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def visitor(playground_site: Site, browsers: Callable[..., Browser]) -> Browser:
    return browsers(playground_site)


def start(visitor: Browser) -> Answer:
    """Open the playground and press its button; return the sign-in page, or the consent page of a signed-in user."""
    page = visitor.get("/playground")
    assert page.status == 200
    return visitor.get(urlsplit(page.form.action or "").path, None, **page.form.fields)


def callback_page(visitor: Browser, decision: str = "allow_once") -> Answer:
    """Sign in and answer the consent page; return the page that shows the authorization response."""
    answer = visitor.submit(visitor.sign_in(start(visitor)), decision=decision)
    assert urlsplit(answer.location).path == "/playground/callback"
    return visitor.get(answer.location)


def messages(page: Answer) -> list[str]:
    """Return the requests, responses and JWT parts on a page."""
    blocks = re.findall(r'<pre class="http[^>]*>(.*?)</pre>', page.body, re.DOTALL)
    return [unescape(re.sub(r"</?span[^>]*>", "", block)) for block in blocks]


def shown(page: Answer) -> str:
    """Return the requests, responses and JWT parts on a page as one text."""
    return "\n".join(messages(page))


def members(response: str) -> dict[str, Any]:
    """Return the JSON body of a response that a page shows."""
    decoded: dict[str, Any] = json.loads(response.partition("\n\n")[2])
    return decoded


def current_step(page: Answer) -> list[str]:
    return re.findall(r'<li aria-current="step">([^<]+)</li>', page.body)


def primary_buttons(page: Answer) -> list[str]:
    """Return the buttons and links that the page suggests."""
    return re.findall(r'class="(?:button )?primary"[^>]*>([^<]+)<', page.body)


def tokens_of(page: Answer, site: Site) -> dict[str, str]:
    """Return the hidden fields of the page, and record them as secrets."""
    fields = {name: value for name, value in page.form.fields.items() if value}
    site.secrets.update(value for name, value in fields.items() if name != "step")
    return fields


def test_whole_flow_from_authorization_to_replay_and_revocation(playground_site: Site, visitor: Browser) -> None:
    assert 'href="/playground"' in visitor.get("/").body
    first = visitor.get("/playground")
    assert current_step(first) == ["Authorize"]
    assert primary_buttons(first) == ["Import photos"]
    assert "response_type=code" in shown(first)
    assert "code_challenge_method=S256" in shown(first)
    page = callback_page(visitor)
    assert current_step(page) == ["Code"]
    assert primary_buttons(page) == ["Get access token"]
    assert set(page.form.fields) == {"state", "code"}
    assert "GET /playground/callback" in shown(page)
    code = page.form.fields["code"]
    assert f"?code={code}\n" in shown(page)

    page = visitor.send(page, step="token")
    assert current_step(page) == ["Tokens"]
    assert primary_buttons(page) == ["Call a protected resource"]
    request, response, *decoded = messages(page)
    assert "POST /oauth2/token HTTP/1.1" in request
    assert "grant_type=authorization_code" in request
    assert f"&code={code}\n" in request
    assert "&code_verifier=" in request
    assert response.startswith("HTTP/1.1 200 OK\n")
    assert '"token_type": "Bearer"' in response
    assert '"typ": "at+jwt"' in shown(page)
    assert '"client_id": "playground"' in shown(page)
    assert '"nonce":' in shown(page)
    assert "The <code>nonce</code> matches the request." in page.body
    first_tokens = tokens_of(page, playground_site)
    assert set(first_tokens) == {"state", "code", "access_token", "refresh_token", "id_token"}
    assert first_tokens.items() >= {name: members(response)[name] for name in ("access_token", "id_token")}.items()
    for name, header, claims in (("access_token", *decoded[:2]), ("id_token", *decoded[2:])):
        assert json.loads(header) == jwt.get_unverified_header(first_tokens[name])
        assert json.loads(claims) == jwt.decode(first_tokens[name], options={"verify_signature": False})

    page = visitor.send(page, step="userinfo")
    assert current_step(page) == ["Resource"]
    assert primary_buttons(page) == ["Refresh"]
    request, response = messages(page)
    assert "GET /oauth2/userinfo HTTP/1.1" in request
    assert f"Authorization: Bearer {first_tokens['access_token']}" in request
    assert members(response)["email"] == "alice@example.com"

    page = visitor.send(page, step="refresh")
    assert current_step(page) == ["Refresh"]
    assert primary_buttons(page) == ["Use the code again"]
    assert "grant_type=refresh_token" in shown(page)
    assert f"&refresh_token={first_tokens['refresh_token']}" in shown(page)
    second_tokens = tokens_of(page, playground_site)
    assert second_tokens["refresh_token"] != first_tokens["refresh_token"]
    assert second_tokens["access_token"] != first_tokens["access_token"]
    assert visitor.userinfo(second_tokens["access_token"]).status == 200

    page = visitor.send(page, step="replay")
    assert current_step(page) == ["Replay"]
    request, response, resource_request, resource_response = messages(page)
    assert f"&code={code}\n" in request
    assert response.startswith("HTTP/1.1 400 ")
    assert members(response)["error"] == "invalid_grant"
    assert second_tokens["access_token"] in resource_request
    assert resource_response.startswith("HTTP/1.1 401 Unauthorized")
    assert visitor.userinfo(second_tokens["access_token"]).status == 401
    assert '<a class="button primary" href="/playground">Start again</a>' in page.body

    refreshed = visitor.send(page, step="refresh")
    assert members(messages(refreshed)[1])["error"] == "invalid_grant", "the grant was revoked"

    page = visitor.send(page, step="revoke")
    assert current_step(page) == ["Revoke"]
    assert "POST /oauth2/revoke HTTP/1.1" in shown(page)
    assert "HTTP/1.1 200 OK" in shown(page)


def test_revoke_ends_an_active_grant(playground_site: Site, visitor: Browser) -> None:
    page = visitor.send(callback_page(visitor), step="token")
    tokens = tokens_of(page, playground_site)
    assert visitor.userinfo(tokens["access_token"]).status == 200
    page = visitor.send(page, step="revoke")
    request, response, _, resource_response = messages(page)
    assert request.startswith("POST /oauth2/revoke ")
    assert response.startswith("HTTP/1.1 200 ")
    assert resource_response.startswith("HTTP/1.1 401 Unauthorized")
    assert visitor.userinfo(tokens["access_token"]).status == 401


@pytest.mark.spec("RFC 9449 §5 a", "RFC 9449 §7.2 a")
def test_token_that_is_bound_to_a_key_works_with_a_proof_only(playground_site: Site, visitor: Browser) -> None:
    page = visitor.send(callback_page(visitor), step="token")
    tokens = tokens_of(page, playground_site)
    page = visitor.send(page, step="bind")
    after = tokens_of(page, playground_site)
    assert current_step(page) == ["Key"]
    request, response, used, accepted, stolen, rejected, header, claims = messages(page)[:8]
    assert "\nDPoP: eyJ" in request
    assert members(response)["token_type"] == "DPoP"
    bound = members(response)["access_token"]
    playground_site.secrets.add(bound)
    assert json.loads(header)["typ"] == "at+jwt"
    assert set(json.loads(claims)["cnf"]) == {"jkt"}
    assert f"Authorization: DPoP {bound}\nDPoP: eyJ" in used
    assert members(accepted)["email"] == "alice@example.com"
    assert (f"Authorization: Bearer {bound}" in stolen, "DPoP: " in stolen) == (True, False)
    assert rejected.startswith("HTTP/1.1 401 Unauthorized")
    assert 'WWW-Authenticate: DPoP algs="ES256' in rejected
    # The key is gone, so the next steps use the access token from before, and the new refresh token.
    assert (after["access_token"], after["refresh_token"]) == (
        tokens["access_token"],
        members(response)["refresh_token"],
    )
    assert len(page.body) < 30_000
    for step, status in (("userinfo", 200), ("refresh", 200), ("revoke", 200)):
        page = visitor.send(page, step=step)
        tokens_of(page, playground_site)
        assert messages(page)[1].startswith(f"HTTP/1.1 {status} ")
    page = visitor.send(page, step="bind")
    assert messages(page)[1].startswith("HTTP/1.1 400 "), "the grant has ended"


def test_client_secret_is_not_shown(playground_site: Site, visitor: Browser) -> None:
    secret = playground_site.server.playground_secret()
    playground_site.secrets.add(secret)
    page = visitor.send(callback_page(visitor), step="token")
    tokens_of(page, playground_site)
    assert "client_id:client_secret, base64" in shown(page)
    assert secret not in page.body
    assert "cGxheWdyb3VuZDo" not in page.body  # "playground:" in base64


def test_client_of_the_playground_must_authenticate(playground_site: Site, visitor: Browser) -> None:
    record = playground_site.server.client("playground")
    assert record
    for wrong in ("wrong", None):
        assert visitor.redeem(Registered(record, wrong), "code_x").status == 401
    secret = playground_site.server.playground_secret()
    playground_site.secrets.add(secret)
    assert visitor.redeem(Registered(record, secret), "code_x").json["error"] == "invalid_grant"


def test_client_of_the_playground_cannot_use_direct_sign_in(playground_site: Site, visitor: Browser) -> None:
    record = playground_site.server.client("playground")
    assert record
    answer = visitor.authorize(Registered(record, None), "/oauth2/code", headers=basic("alice", PASSWORD))
    assert answer.answer["error"] == "unauthorized_client"


def test_denial_is_shown_and_the_next_run_needs_no_sign_in(playground_site: Site, visitor: Browser) -> None:
    page = callback_page(visitor, decision="deny")
    assert page.status == 200
    assert current_step(page) == ["Code"]
    assert re.search(r'role="alert">[^\n]*access_denied', page.body)
    assert page.form.action is None
    assert '<a class="button primary" href="/playground">Start again</a>' in page.body
    consent = start(visitor)
    assert "decision" in dict(consent.form.buttons), "the user is still signed in"
    page = visitor.get(visitor.submit(consent, decision="allow_once").location)
    tokens_of(visitor.send(page, step="token"), playground_site)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"state": "another"}, "The state does not match a request"),
        ({"state": None}, "The state does not match a request"),
        ({"iss": "https://evil.example.com"}, "The iss parameter does not name this server"),
        ({"iss": None}, "The iss parameter does not name this server"),
    ],
)
def test_response_with_a_wrong_state_or_issuer_is_not_used(
    visitor: Browser, playground_site: Site, change: dict[str, str | None], problem: str
) -> None:
    answer = visitor.submit(visitor.sign_in(start(visitor)), decision="allow_once")
    parameters = {name: values[0] for name, values in parse_qs(urlsplit(answer.location).query).items()} | change
    page = visitor.get("/playground/callback", None, **{name: value for name, value in parameters.items() if value})
    assert page.status == 200
    assert problem in page.body
    assert page.form.action is None


def test_state_is_rejected_without_the_cookie(playground_site: Site, visitor: Browser) -> None:
    answer = visitor.submit(visitor.sign_in(start(visitor)), decision="allow_once")
    del visitor.cookies["signet-playground"]
    assert "The state does not match a request" in visitor.get(answer.location).body


def test_wrong_code_verifier_is_rejected(playground_site: Site, visitor: Browser) -> None:
    page = callback_page(visitor)
    state, nonce, _ = visitor.cookies["signet-playground"].split(".")
    visitor.cookies["signet-playground"] = f"{state}.{nonce}.{'x' * 43}"
    assert not pkce.challenge("x" * 43).startswith("x")
    page = visitor.send(page, step="token")
    assert '"error": "invalid_grant"' in shown(page)


@pytest.mark.parametrize(
    ("form", "headers"),
    [
        ({}, SAME_SITE),
        ({"step": "token"}, SAME_SITE),
        ({"step": "nonsense", "code": "code_x"}, SAME_SITE),
        ({"code": "code_x"}, SAME_SITE),
        ([("step", "token"), ("step", "revoke"), ("code", "code_x")], SAME_SITE),
        ({"step": "token", "code": "x" * 9000}, SAME_SITE),
        ({"step": "token", "code": "code_x"}, {"Sec-Fetch-Site": "cross-site"}),
        ({"step": "token", "code": "code_x"}, {"Origin": "https://evil.example.com"}),
        ({"step": "token", "code": "code_x"}, SAME_SITE | {"Cookie": "signet-playground=nonsense"}),
        ({"step": "token", "code": "code_x"}, SAME_SITE | {"Cookie": "other=1"}),
    ],
)
def test_invalid_form_is_rejected_with_a_page(
    visitor: Browser, form: dict[str, str] | list[tuple[str, str]], headers: dict[str, str]
) -> None:
    visitor.get("/playground")
    answer = visitor.post("/playground", form, headers)
    assert answer.status == 400
    assert "<h1>" in answer.body


def test_two_tabs_do_not_disturb_each_other(visitor: Browser, playground_site: Site) -> None:
    first = start(visitor)
    second = visitor.get("/playground")
    page = visitor.send(
        visitor.get(visitor.submit(visitor.sign_in(first), decision="allow_once").location), step="token"
    )
    tokens_of(page, playground_site)
    assert "The <code>nonce</code> matches the request." in page.body
    consent = visitor.get(urlsplit(second.form.action or "").path, None, **second.form.fields)
    page = visitor.send(visitor.get(visitor.submit(consent, decision="allow_once").location), step="token")
    tokens_of(page, playground_site)
    assert "The <code>nonce</code> matches the request." in page.body
    for _ in range(9):
        visitor.get("/playground")
    assert len(visitor.cookies["signet-playground"]) < 600, "the oldest flows are dropped"
    page = visitor.send(page, step="token")
    assert page.status == 400
    assert "no longer remembers this flow" in page.body
    assert page.form.fields["response_type"] == "code", "the first page again"


def test_localhost_is_redirected_to_the_host_of_the_issuer(visitor: Browser, playground_site: Site) -> None:
    answer = visitor.get("/playground", {"Host": f"localhost:{playground_site.port}"})
    assert answer.location == f"{playground_site.settings.issuer}/playground"
    assert visitor.get("/playground", {"Host": f"127.0.0.1:{playground_site.port}"}).status == 200


def test_reloaded_page_says_why_the_request_is_rejected(visitor: Browser, playground_site: Site) -> None:
    callback = callback_page(visitor)
    tokens_of(visitor.send(callback, step="token"), playground_site)
    page = visitor.send(callback, step="token")
    assert "Reloading the page sends the request again" in page.body
    assert "Start again" in page.body
    assert page.form.action is None


@pytest.mark.parametrize("step", ["token", "userinfo", "refresh", "replay", "revoke"])
def test_forged_tokens_are_rejected_and_shown_escaped(visitor: Browser, step: str) -> None:
    state = visitor.get("/playground").form.fields["state"]
    forged = {
        "state": state,
        "code": "<script>1</script>",
        "access_token": "{{7*7}}",
        "refresh_token": "${7*7}\N{PILE OF POO}",
    }
    page = visitor.post("/playground", forged | {"step": step}, SAME_SITE)
    assert page.status == 200
    assert "<script" not in page.body.replace("<script src=", "")
    assert re.search(r"HTTP/1.1 (400|401|200) ", shown(page))


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/playground"), ("POST", "/playground"), ("GET", "/playground/callback")]
)
def test_playground_that_is_off_is_not_found(browser: Browser, method: str, path: str) -> None:
    assert browser.request(method, path, headers={"Content-Type": "application/x-www-form-urlencoded"}).status == 404


def test_client_of_a_playground_that_is_off_is_unknown(site: Site, browser: Browser) -> None:
    assert site.server.client("playground") is None
    answer = browser.get("/oauth2/authorize", client_id="playground", response_type="code")
    assert answer.status == 400


def test_page_is_at_most_30_kilobytes(visitor: Browser) -> None:
    page = visitor.send(callback_page(visitor), step="token")
    tokens_of(page, visitor.site)
    assert len(page.body.encode()) <= 30_000
    assert visitor.site.settings.playground
    assert PASSWORD not in page.body
