"""The playground: a client that our own server runs, and that shows what it does."""

import re
from collections.abc import Callable
from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest

from chalicelib import pkce
from tests.browser import Answer, Browser
from tests.site import PASSWORD, Site

SAME_SITE = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def visitor(with_playground: Site, browsers: Callable[..., Browser]) -> Browser:
    return browsers(with_playground)


def ask(visitor: Browser) -> Answer:
    """The button of the first page, up to the sign-in page."""
    page = visitor.get("/playground")
    assert page.status == 200
    return visitor.get(urlsplit(page.form.action or "").path, None, **page.form.fields)


def with_code(visitor: Browser, decision: str = "allow_once") -> Answer:
    """The page that the answer of the authorization endpoint leads to."""
    answer = visitor.submit(visitor.sign_in(ask(visitor)), decision=decision)
    assert urlsplit(answer.location).path == "/playground/callback"
    return visitor.get(answer.location)


def shown(page: Answer) -> str:
    """The requests and answers on a page."""
    return unescape("\n".join(re.findall(r'<pre class="http[^>]*>(.*?)</pre>', page.body, re.DOTALL)))


def tokens_of(page: Answer, site: Site) -> dict[str, str]:
    fields = {name: value for name, value in page.form.fields.items() if value}
    site.secrets.update(value for name, value in fields.items() if name != "step")
    return fields


def test_the_whole_flow_from_the_photos_to_the_end_of_the_grant(with_playground: Site, visitor: Browser) -> None:
    assert 'href="/playground"' in visitor.get("/").body
    first = visitor.get("/playground")
    assert "response_type=code" in shown(first)
    assert "code_challenge_method=S256" in shown(first)
    page = with_code(visitor)
    assert set(page.form.fields) == {"state", "code"}
    assert "GET /playground/callback" in shown(page)

    page = visitor.send(page, step="token")
    assert "POST /oauth2/token HTTP/1.1" in shown(page)
    assert "grant_type=authorization_code" in shown(page)
    assert "HTTP/1.1 200 OK" in shown(page)
    assert '"token_type": "Bearer"' in shown(page)
    assert '"typ": "at+jwt"' in shown(page)
    assert '"client_id": "playground"' in shown(page)
    assert '"nonce":' in shown(page)
    assert "that the <code>nonce</code> is its own: it is." in page.body
    first_tokens = tokens_of(page, with_playground)
    assert set(first_tokens) == {"state", "code", "access_token", "refresh_token", "id_token"}

    page = visitor.send(page, step="userinfo")
    assert "GET /oauth2/userinfo HTTP/1.1" in shown(page)
    assert '"email": "alice@example.com"' in shown(page)

    page = visitor.send(page, step="refresh")
    assert "grant_type=refresh_token" in shown(page)
    second_tokens = tokens_of(page, with_playground)
    assert second_tokens["refresh_token"] != first_tokens["refresh_token"]
    assert second_tokens["access_token"] != first_tokens["access_token"]
    assert visitor.userinfo(second_tokens["access_token"]).status == 200

    page = visitor.send(page, step="replay")
    assert '"error": "invalid_grant"' in shown(page)
    assert "HTTP/1.1 401 Unauthorized" in shown(page)
    assert visitor.userinfo(second_tokens["access_token"]).status == 401

    page = visitor.send(page, step="revoke")
    assert "POST /oauth2/revoke HTTP/1.1" in shown(page)
    assert "HTTP/1.1 200 OK" in shown(page)


def test_revoke_ends_a_living_grant(with_playground: Site, visitor: Browser) -> None:
    page = visitor.send(with_code(visitor), step="token")
    tokens = tokens_of(page, with_playground)
    assert visitor.userinfo(tokens["access_token"]).status == 200
    page = visitor.send(page, step="revoke")
    assert "HTTP/1.1 401 Unauthorized" in shown(page)
    assert visitor.userinfo(tokens["access_token"]).status == 401


def test_the_client_secret_is_not_shown(with_playground: Site, visitor: Browser) -> None:
    secret = with_playground.server.playground_secret()
    with_playground.secrets.add(secret)
    page = visitor.send(with_code(visitor), step="token")
    tokens_of(page, with_playground)
    assert "client_id:client_secret, base64" in shown(page)
    assert secret not in page.body
    assert "cGxheWdyb3VuZDo" not in page.body  # "playground:" in base64


def test_a_denial_is_shown_as_what_it_is(with_playground: Site, visitor: Browser) -> None:
    page = with_code(visitor, decision="deny")
    assert page.status == 200
    assert "access_denied" in page.body
    assert page.form.action is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state": "another"}, "The state is not one that"),
        ({"state": None}, "The state is not one that"),
        ({"iss": "https://evil.example.com"}, "The iss is not this server"),
        ({"iss": None}, "The iss is not this server"),
    ],
)
def test_an_answer_to_somebody_elses_question_is_not_used(
    visitor: Browser, with_playground: Site, change: dict[str, str | None], said: str
) -> None:
    answer = visitor.submit(visitor.sign_in(ask(visitor)), decision="allow_once")
    parameters = {name: values[0] for name, values in parse_qs(urlsplit(answer.location).query).items()} | change
    page = visitor.get("/playground/callback", None, **{name: value for name, value in parameters.items() if value})
    assert page.status == 200
    assert said in page.body
    assert page.form.action is None


def test_without_its_cookie_the_state_proves_nothing(with_playground: Site, visitor: Browser) -> None:
    answer = visitor.submit(visitor.sign_in(ask(visitor)), decision="allow_once")
    del visitor.cookies["signet-playground"]
    assert "The state is not one that" in visitor.get(answer.location).body


def test_a_wrong_verifier_kills_the_code(with_playground: Site, visitor: Browser) -> None:
    page = with_code(visitor)
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
def test_what_does_not_come_from_its_pages_gets_a_page_that_says_so(
    visitor: Browser, form: dict[str, str] | list[tuple[str, str]], headers: dict[str, str]
) -> None:
    visitor.get("/playground")
    answer = visitor.post("/playground", form, headers)
    assert answer.status == 400
    assert "<h1>" in answer.body


def test_two_tabs_do_not_disturb_each_other(visitor: Browser, with_playground: Site) -> None:
    first = ask(visitor)
    second = visitor.get("/playground")
    page = visitor.send(
        visitor.get(visitor.submit(visitor.sign_in(first), decision="allow_once").location), step="token"
    )
    tokens_of(page, with_playground)
    assert "that the <code>nonce</code> is its own: it is." in page.body
    asked = visitor.get(urlsplit(second.form.action or "").path, None, **second.form.fields)
    page = visitor.send(visitor.get(visitor.submit(asked, decision="allow_once").location), step="token")
    tokens_of(page, with_playground)
    assert "that the <code>nonce</code> is its own: it is." in page.body
    for _ in range(9):
        visitor.get("/playground")
    assert len(visitor.cookies["signet-playground"]) < 600, "the oldest are forgotten"
    page = visitor.send(page, step="token")
    assert page.status == 400
    assert "lost the thread" in page.body
    assert page.form.fields["response_type"] == "code", "a new beginning"


def test_whoever_calls_this_machine_by_its_other_name_is_led_to_the_issuers(
    visitor: Browser, with_playground: Site
) -> None:
    answer = visitor.get("/playground", {"Host": f"localhost:{with_playground.port}"})
    assert answer.location == f"{with_playground.settings.issuer}/playground"
    assert visitor.get("/playground", {"Host": f"127.0.0.1:{with_playground.port}"}).status == 200


def test_a_page_that_is_reloaded_says_why_it_is_refused(visitor: Browser, with_playground: Site) -> None:
    given = with_code(visitor)
    tokens_of(visitor.send(given, step="token"), with_playground)
    page = visitor.send(given, step="token")
    assert "makes its request again" in page.body
    assert "Start again" in page.body
    assert page.form.action is None


@pytest.mark.parametrize("step", ["token", "userinfo", "refresh", "replay", "revoke"])
def test_what_was_made_up_is_refused_by_the_server_and_shown(visitor: Browser, step: str) -> None:
    state = visitor.get("/playground").form.fields["state"]
    hostile = {
        "state": state,
        "code": "<script>1</script>",
        "access_token": "{{7*7}}",
        "refresh_token": "${7*7}\N{PILE OF POO}",
    }
    page = visitor.post("/playground", hostile | {"step": step}, SAME_SITE)
    assert page.status == 200
    assert "<script" not in page.body.replace("<script src=", "")
    assert re.search(r"HTTP/1.1 (400|401|200) ", shown(page))


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/playground"), ("POST", "/playground"), ("GET", "/playground/callback")]
)
def test_where_it_is_off_there_is_nothing(browser: Browser, method: str, path: str) -> None:
    assert browser.request(method, path, headers={"Content-Type": "application/x-www-form-urlencoded"}).status == 404


def test_where_it_is_off_its_client_is_unknown(site: Site, browser: Browser) -> None:
    assert site.server.client("playground") is None
    refused = browser.get("/oauth2/authorize", client_id="playground", response_type="code")
    assert refused.status == 400


def test_its_pages_are_light(visitor: Browser) -> None:
    page = visitor.send(with_code(visitor), step="token")
    tokens_of(page, visitor.site)
    assert len(page.body.encode()) <= 30_000
    assert visitor.site.settings.playground
    assert PASSWORD not in page.body
