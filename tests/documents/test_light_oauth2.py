"""The code endpoint of light-oauth2, with the requests of its documentation.

Only the host and the credentials differ. The requests have no PKCE, so the clients are registered with
`require_pkce=False`.
"""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.browser import Answer, Browser, basic
from tests.support.exchanges import curl, is_consent_page, is_sign_in_page, needs_curl
from tests.support.site import PASSWORD, Registered, Site

CLIENT_ID = "f7d42348-c647-4efb-a52d-4c5787421e72"
REDIRECT_URI = "http://localhost:8080/authorization"
QUERY = f"response_type=code&client_id={CLIENT_ID}&redirect_uri={REDIRECT_URI}"


@pytest.fixture
def light(site: Site) -> Callable[..., Registered]:
    """A function that registers the client of the document."""

    def register(**members: Any) -> Registered:
        fields = {
            "client_id": CLIENT_ID,
            "redirect_uris": [REDIRECT_URI],
            "scope": "openid email",
            "require_pkce": False,
            "direct_sign_in": True,
            "trusted": True,
        }
        return site.client(**(fields | members))

    return register


@needs_curl
@pytest.mark.spec("light-oauth2")
def test_curl_gets_a_code_with_credentials_in_the_authorization_header(
    site: Site, light: Callable[..., Registered], browser: Browser
) -> None:
    client = light()
    site.user("admin")
    encoded = basic("admin", PASSWORD, "BASIC")["Authorization"]
    result = curl(site, "-k", "-H", f"Authorization: {encoded}", f"{site.settings.issuer}/oauth2/code?{QUERY}")
    assert f"> GET /oauth2/code?{QUERY} HTTP/1.1" in result.verbose
    assert f"> Authorization: {encoded}" in result.verbose
    assert "> Accept: */*" in result.verbose
    assert result.answer.status == 302
    assert result.answer.location.startswith(f"{REDIRECT_URI}?code=")
    assert set(result.answer.answer) == {"code", "iss"}
    assert result.answer.header("content-length") == "0"
    assert result.answer.body == ""
    # The code can be redeemed; `redirect_uri` was sent, so it must be sent again.
    tokens = browser.redeem(client, result.answer.code, code_verifier=None)
    assert tokens.status == 200
    assert set(tokens.json["scope"].split()) == {"openid", "email"}


@pytest.mark.spec("RFC 7617 §2")
@pytest.mark.parametrize("scheme", ["BASIC", "Basic", "basic", "bAsIc"])
def test_the_authorization_scheme_is_case_insensitive(
    site: Site, light: Callable[..., Registered], browser: Browser, scheme: str
) -> None:
    light()
    site.user("admin")
    answer = browser.get(f"/oauth2/code?{QUERY}", headers=basic("admin", PASSWORD, scheme))
    assert answer.code
    assert browser.cookies == {}  # browsers repeat Basic credentials by themselves, so they create no session


@pytest.mark.spec("RFC 7617 §2")
def test_a_request_without_credentials_gets_a_basic_challenge_and_the_sign_in_page(
    site: Site, light: Callable[..., Registered], browser: Browser
) -> None:
    light()
    site.user("admin")
    answer = browser.get(f"/oauth2/code?{QUERY}")
    assert answer.status == 401
    assert (answer.header("www-authenticate") or "").startswith('Basic realm="')
    # A user who closes the browser's dialog can sign in on the page in the body.
    assert is_sign_in_page(answer)
    assert browser.sign_in(answer, "admin").location.startswith(f"{REDIRECT_URI}?code=")


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("Basic YWRtaW46MTIzNDU2", id="admin:123456, as in the document"),
        pytest.param(basic("unknown", PASSWORD)["Authorization"], id="an unknown username"),
        pytest.param(basic("admin", PASSWORD + " ")["Authorization"], id="a wrong password"),
        pytest.param(basic("admin", "")["Authorization"], id="no password"),
        pytest.param("Basic", id="no credentials"),
        pytest.param("Basic !!!", id="not base64"),
        pytest.param("Basic YWRtaW4=", id="no colon"),
        pytest.param("Basic /zr/", id="not UTF-8"),
        pytest.param("Bearer abc", id="another scheme"),
    ],
)
def test_wrong_credentials_get_a_basic_challenge_and_the_sign_in_page(
    site: Site, light: Callable[..., Registered], browser: Browser, value: str
) -> None:
    light()
    site.user("admin")
    answer = browser.get(f"/oauth2/code?{QUERY}", headers={"Authorization": value})
    assert answer.status == 401
    assert (answer.header("www-authenticate") or "").startswith("Basic ")
    assert is_sign_in_page(answer)
    assert "session" not in "".join(browser.cookies)


@pytest.mark.spec("RFC 6749 §3.1.2.3")
def test_the_redirect_uri_of_the_request_or_the_registered_default_is_used(
    site: Site, light: Callable[..., Registered], browser: Browser
) -> None:
    other = "http://localhost:8080/other"
    light()
    light(client_id="several", redirect_uris=[other, REDIRECT_URI], default_redirect_uri=REDIRECT_URI)
    light(client_id="no-default", redirect_uris=[other, REDIRECT_URI])
    site.user("admin")
    credentials = basic("admin", PASSWORD)

    def request_code(client_id: str, **parameters: str) -> Answer:
        return browser.get("/oauth2/code", credentials, response_type="code", client_id=client_id, **parameters)

    assert request_code(CLIENT_ID).location.startswith(f"{REDIRECT_URI}?code=")
    assert request_code("several").location.startswith(f"{REDIRECT_URI}?code=")
    assert request_code("several", redirect_uri=other).location.startswith(f"{other}?code=")
    assert request_code("no-default").status == 400
    assert request_code("several", redirect_uri="http://localhost:8080/third").status == 400


@pytest.mark.spec("OpenID Connect Core §3.1.2.1")
def test_a_request_with_the_scope_openid_requires_redirect_uri(
    site: Site, light: Callable[..., Registered], browser: Browser
) -> None:
    light()
    site.user("admin")
    answer = browser.get(
        f"/oauth2/code?response_type=code&client_id={CLIENT_ID}&scope=openid", basic("admin", PASSWORD)
    )
    assert answer.status == 400
    assert answer.header("location") is None


@pytest.mark.parametrize("parameter", ["prompt=login", "prompt=select_account", "max_age=3600", "max_age=0"])
def test_basic_credentials_do_not_count_as_a_new_sign_in(
    site: Site, light: Callable[..., Registered], browser: Browser, parameter: str
) -> None:
    light()
    site.user("admin")
    answer = browser.get(f"/oauth2/code?{QUERY}&{parameter}", basic("admin", PASSWORD))
    assert answer.status == 200
    assert is_sign_in_page(answer)
    assert browser.sign_in(answer, "admin").code


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Dest": "iframe", "Sec-Fetch-Mode": "navigate"},
        {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "no-cors"},
    ],
)
def test_a_request_that_is_no_top_level_navigation_is_rejected(
    site: Site, light: Callable[..., Registered], browser: Browser, headers: dict[str, str]
) -> None:
    light()
    site.user("admin")
    answer = browser.get(f"/oauth2/code?{QUERY}", basic("admin", PASSWORD) | headers)
    assert answer.status == 400
    assert answer.header("location") is None


def test_a_top_level_navigation_gets_a_code(site: Site, light: Callable[..., Registered], browser: Browser) -> None:
    light()
    site.user("admin")
    navigation = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}
    assert browser.get(f"/oauth2/code?{QUERY}", basic("admin", PASSWORD) | navigation).code


def test_a_client_without_direct_sign_in_gets_unauthorized_client(
    site: Site, light: Callable[..., Registered], browser: Browser
) -> None:
    light(direct_sign_in=False)
    site.user("admin")
    answer = browser.get(f"/oauth2/code?{QUERY}&state=xyz", basic("admin", PASSWORD))
    assert answer.location.startswith(f"{REDIRECT_URI}?")
    assert answer.answer["error"] == "unauthorized_client"
    assert answer.answer["state"] == "xyz"
    assert answer.answer["iss"] == site.settings.issuer


def test_an_untrusted_client_gets_a_code_after_consent(
    site: Site, light: Callable[..., Registered], browser: Browser
) -> None:
    light(trusted=False)
    site.user("admin")
    credentials = basic("admin", PASSWORD)
    page = browser.get(f"/oauth2/code?{QUERY}", credentials)
    assert is_consent_page(page)
    assert browser.submit(page, decision="allow_once").code
    page = browser.get(f"/oauth2/code?{QUERY}", credentials)
    assert is_consent_page(page)
    assert browser.submit(page, decision="allow_always").code
    assert browser.get(f"/oauth2/code?{QUERY}", credentials).code


@pytest.mark.parametrize(("username_field", "password_field"), [("j_username", "j_password"), ("username", "password")])
def test_the_login_form_accepts_both_names_of_its_fields(
    site: Site, light: Callable[..., Registered], browser: Browser, username_field: str, password_field: str
) -> None:
    light()
    site.user("admin")
    page = browser.get(f"/oauth2/code?{QUERY}")
    hidden = {field: page.form.fields[field] for field in ("request_id", "shown_at", "terms", "tag")}
    answer = browser.post(page.form.action or "", {**hidden, username_field: "admin", password_field: PASSWORD})
    assert answer.location.startswith(f"{REDIRECT_URI}?code=")
    assert answer.header("set-cookie")


def test_credentials_posted_without_a_request_are_rejected(
    site: Site, light: Callable[..., Registered], browser: Browser
) -> None:
    light()
    site.user("admin")
    answer = browser.post("/oauth2/code", {"j_username": "admin", "j_password": PASSWORD})
    assert answer.status == 400
    assert browser.cookies == {}


def test_the_first_administrator_gets_no_code_before_changing_the_random_password(
    site: Site, light: Callable[..., Registered], browsers: Callable[..., Browser]
) -> None:
    light()
    earlier_secrets = set(site.secrets)
    user = site.user("admin", password=None, admin=True)
    (random,) = site.secrets - earlier_secrets
    assert user.admin
    assert "123456" not in random
    assert len(random) >= 20
    browser, query = browsers(), f"/oauth2/code?{QUERY}"

    # No code by HTTP Basic, by the form, or with prompt=none.
    page = browser.get(query, basic("admin", random))
    assert page.status == 200
    assert {"new_password", "new_password_again"} <= set(page.form.fields)
    assert "decision" not in dict(page.form.buttons)
    by_form = browsers()
    assert "new_password" in by_form.sign_in(by_form.get(query), "admin", random).form.fields
    silent = browsers().get(f"{query}&prompt=none", basic("admin", random))
    assert silent.answer["error"] == "interaction_required"
    assert [*site.server.store.grants.scan()] == []

    # The old password, a short one, and two that differ are rejected.
    for new, again in [(random, random), ("123456", "123456"), (PASSWORD, PASSWORD + "x")]:
        page = browser.submit(page, new_password=new, new_password_again=again)
        assert page.status == 400
        assert "new_password" in page.form.fields
    answer = browser.submit(page, new_password=PASSWORD, new_password_again=PASSWORD)
    assert answer.location.startswith(f"{REDIRECT_URI}?code=")

    # Only the new password is valid, and sessions from before the change have ended.
    assert browsers().get(query, basic("admin", random)).status == 401
    assert browsers().get(query, basic("admin", PASSWORD)).code
    assert is_sign_in_page(by_form.get("/oauth2/authorize?" + QUERY))
