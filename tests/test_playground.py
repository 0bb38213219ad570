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
def there(site_with: Callable[..., Site]) -> Site:
    """A server with a playground, and a person on it."""
    made = site_with(playground=True)
    made.user("alice", claims={"email": "alice@example.com"})
    return made


@pytest.fixture
def visitor(there: Site, browsers: Callable[..., Browser]) -> Browser:
    return browsers(there)


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


def test_the_whole_flow_from_the_photos_to_the_end_of_the_grant(there: Site, visitor: Browser) -> None:
    first = visitor.get("/playground")
    assert "response_type=code" in shown(first)
    assert "code_challenge_method=S256" in shown(first)
    page = with_code(visitor)
    assert set(page.form.fields) == {"code"}
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
    first_tokens = tokens_of(page, there)
    assert set(first_tokens) == {"code", "access_token", "refresh_token", "id_token"}

    page = visitor.send(page, step="userinfo")
    assert "GET /oauth2/userinfo HTTP/1.1" in shown(page)
    assert '"email": "alice@example.com"' in shown(page)

    page = visitor.send(page, step="refresh")
    assert "grant_type=refresh_token" in shown(page)
    second_tokens = tokens_of(page, there)
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


def test_revoke_ends_a_living_grant(there: Site, visitor: Browser) -> None:
    page = visitor.send(with_code(visitor), step="token")
    tokens = tokens_of(page, there)
    assert visitor.userinfo(tokens["access_token"]).status == 200
    page = visitor.send(page, step="revoke")
    assert "HTTP/1.1 401 Unauthorized" in shown(page)
    assert visitor.userinfo(tokens["access_token"]).status == 401


def test_the_client_secret_is_not_shown(there: Site, visitor: Browser) -> None:
    secret = there.server.playground_secret()
    there.secrets.add(secret)
    page = visitor.send(with_code(visitor), step="token")
    tokens_of(page, there)
    assert "client_id:client_secret, base64" in shown(page)
    assert secret not in page.body
    assert "cGxheWdyb3VuZDo" not in page.body  # "playground:" in base64


def test_a_denial_is_shown_as_what_it_is(there: Site, visitor: Browser) -> None:
    page = with_code(visitor, decision="deny")
    assert page.status == 200
    assert "access_denied" in page.body
    assert page.form.action is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state": "another"}, "The state is not the one"),
        ({"state": None}, "The state is not the one"),
        ({"iss": "https://evil.example.com"}, "The iss is not this server"),
        ({"iss": None}, "The iss is not this server"),
    ],
)
def test_an_answer_to_somebody_elses_question_is_not_used(
    visitor: Browser, there: Site, change: dict[str, str | None], said: str
) -> None:
    answer = visitor.submit(visitor.sign_in(ask(visitor)), decision="allow_once")
    parameters = {name: values[0] for name, values in parse_qs(urlsplit(answer.location).query).items()} | change
    page = visitor.get("/playground/callback", None, **{name: value for name, value in parameters.items() if value})
    assert page.status == 200
    assert said in page.body
    assert page.form.action is None


def test_without_its_cookie_the_state_proves_nothing(there: Site, visitor: Browser) -> None:
    answer = visitor.submit(visitor.sign_in(ask(visitor)), decision="allow_once")
    del visitor.cookies["signet-playground"]
    assert "The state is not the one" in visitor.get(answer.location).body


def test_a_wrong_verifier_kills_the_code(there: Site, visitor: Browser) -> None:
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


@pytest.mark.parametrize("step", ["token", "userinfo", "refresh", "replay", "revoke"])
def test_what_was_made_up_is_refused_by_the_server_and_shown(visitor: Browser, step: str) -> None:
    visitor.get("/playground")
    hostile = {"code": "<script>1</script>", "access_token": "{{7*7}}", "refresh_token": "${7*7}\N{PILE OF POO}"}
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
