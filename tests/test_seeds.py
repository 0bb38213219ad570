"""The exchanges of the five documents that the project was asked to implement, as they show them.

Paths, hosts and credentials are ours; the rest is theirs: the headers, the encoding, the curl lines (sent by curl), and
authorization URLs without PKCE, hence confidential clients registered with `require_pkce=False`.
"""

import json
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from html import unescape
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest

from chalicelib.models import User
from tests.browser import CHALLENGE, VERIFIER, Answer, Browser, basic
from tests.site import PASSWORD, Registered, Site

CURL = shutil.which("curl")
needs_curl = pytest.mark.skipif(CURL is None, reason="curl is not installed")


@dataclass(frozen=True)
class Curled:
    """What curl printed: `shown` is what -v tells, with `>` and `<` before what was sent and came back."""

    answer: Answer
    shown: str


def curl(site: Site, *arguments: str) -> Curled:
    """Run curl as the documents do, always with -v; secrets in the answer are noted."""
    assert CURL
    done = subprocess.run(
        [CURL, "--silent", "--noproxy", "*", "--max-time", "30", "-v", *arguments],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    received = [line[2:] for line in done.stderr.splitlines() if line.startswith("< ")]
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in received[1:]) if name]
    answer = Answer(int(received[0].split()[1]), headers, done.stdout, arguments[-1])
    browser = Browser(site)
    browser._note_secrets(answer)
    browser.close()
    return Curled(answer, done.stderr)


def wire(site: Site, request: bytes) -> Answer:
    """Send these very bytes, read the answer to its end."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as stream:
            status = int(stream.readline().split()[1])
            headers = []
            while line := stream.readline().decode("latin-1").strip():
                name, _, value = line.partition(":")
                headers.append((name, value.strip()))
            length = next(int(value) for name, value in headers if name.lower() == "content-length")
            answer = Answer(status, headers, stream.read(length).decode(), "")
    browser = Browser(site)
    browser._note_secrets(answer)
    browser.close()
    return answer


def is_sign_in_page(answer: Answer) -> bool:
    return "Sign in" in answer.body and "password" in answer.form.fields and "new_password" not in answer.form.fields


def is_consent_page(answer: Answer) -> bool:
    return answer.status == 200 and "Allow access?" in answer.body and ("decision", "deny") in answer.form.buttons


def consented(site: Site, user: User, client: Registered, *scope: str) -> None:
    """The person has allowed this client these scopes for good."""
    browser = Browser(site)
    browser.code(client, "allow_always", scope=" ".join(scope), code_challenge=None, code_challenge_method=None)
    browser.close()
    assert site.server.store.consents.get(user.sub, client.id)


# ---- 000: the light-oauth2 code endpoint

CODE_CLIENT = "f7d42348-c647-4efb-a52d-4c5787421e72"
CODE_GOAL = "http://localhost:8080/authorization"
CODE_QUERY = f"response_type=code&client_id={CODE_CLIENT}&redirect_uri={CODE_GOAL}"


@pytest.fixture
def light(site: Site) -> Callable[..., Registered]:
    """Registers the document's client; its person is admin."""

    def register(**members: Any) -> Registered:
        given = {
            "client_id": CODE_CLIENT,
            "redirect_uris": [CODE_GOAL],
            "scope": "openid email",
            "require_pkce": False,
            "direct_sign_in": True,
            "trusted": True,
        }
        return site.client(**(given | members))

    return register


@needs_curl
@pytest.mark.spec("seed 000")
def test_seed_000_curl_gets_a_code_with_the_credentials_in_the_header(
    site: Site, light: Callable[..., Registered], browser: Browser
) -> None:
    client = light()
    site.user("admin")
    encoded = basic("admin", PASSWORD, "BASIC")["Authorization"]
    asked = curl(site, "-k", "-H", f"Authorization: {encoded}", f"{site.settings.issuer}/oauth2/code?{CODE_QUERY}")
    assert f"> GET /oauth2/code?{CODE_QUERY} HTTP/1.1" in asked.shown
    assert f"> Authorization: {encoded}" in asked.shown
    assert "> Accept: */*" in asked.shown
    assert asked.answer.status == 302
    assert asked.answer.location.startswith(f"{CODE_GOAL}?code=")
    assert set(asked.answer.answer) == {"code", "iss"}
    assert asked.answer.header("content-length") == "0"
    assert asked.answer.body == ""
    # It is a code like any other; `redirect_uri` was sent, so it is sent again.
    tokens = browser.redeem(client, asked.answer.code, code_verifier=None)
    assert tokens.status == 200
    assert set(tokens.json["scope"].split()) == {"openid", "email"}


@pytest.mark.spec("RFC 7617 §2")
@pytest.mark.parametrize("scheme", ["BASIC", "Basic", "basic", "bAsIc"])
def test_seed_000_the_scheme_of_the_header_may_be_in_any_case(
    site: Site, light: Callable[..., Registered], browser: Browser, scheme: str
) -> None:
    light()
    site.user("admin")
    answer = browser.get(f"/oauth2/code?{CODE_QUERY}", headers=basic("admin", PASSWORD, scheme))
    assert answer.code
    assert browser.cookies == {}  # credentials that a browser repeats by itself sign nobody in


@pytest.mark.spec("RFC 7617 §2")
def test_seed_000_without_credentials_the_browser_is_asked_for_them(
    site: Site, light: Callable[..., Registered], browser: Browser
) -> None:
    light()
    site.user("admin")
    answer = browser.get(f"/oauth2/code?{CODE_QUERY}")
    assert answer.status == 401
    assert (answer.header("www-authenticate") or "").startswith('Basic realm="')
    # Who closes the popup, or has a browser without one, signs in on the page in its body.
    assert is_sign_in_page(answer)
    assert browser.sign_in(answer, "admin").location.startswith(f"{CODE_GOAL}?code=")


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("Basic YWRtaW46MTIzNDU2", id="admin:123456, of the document"),
        pytest.param(basic("nobody", PASSWORD)["Authorization"], id="an unknown name"),
        pytest.param(basic("admin", PASSWORD + " ")["Authorization"], id="a wrong password"),
        pytest.param(basic("admin", "")["Authorization"], id="no password"),
        pytest.param("Basic", id="no credentials"),
        pytest.param("Basic !!!", id="not base64"),
        pytest.param("Basic YWRtaW4=", id="no colon"),
        pytest.param("Basic /zr/", id="not UTF-8"),
        pytest.param("Bearer abc", id="another scheme"),
    ],
)
def test_seed_000_wrong_credentials_are_asked_for_again(
    site: Site, light: Callable[..., Registered], browser: Browser, value: str
) -> None:
    light()
    site.user("admin")
    answer = browser.get(f"/oauth2/code?{CODE_QUERY}", headers={"Authorization": value})
    assert answer.status == 401
    assert (answer.header("www-authenticate") or "").startswith("Basic ")
    assert is_sign_in_page(answer)
    assert "session" not in "".join(browser.cookies)


@pytest.mark.spec("RFC 6749 §3.1.2.3")
def test_seed_000_the_redirect_uri_passed_in_or_the_default_of_the_registration_is_used(
    site: Site, light: Callable[..., Registered], browser: Browser
) -> None:
    other = "http://localhost:8080/other"
    light()
    light(client_id="several", redirect_uris=[other, CODE_GOAL], default_redirect_uri=CODE_GOAL)
    light(client_id="no-default", redirect_uris=[other, CODE_GOAL])
    site.user("admin")
    credentials = basic("admin", PASSWORD)

    def ask(client_id: str, **parameters: str) -> Answer:
        return browser.get("/oauth2/code", credentials, response_type="code", client_id=client_id, **parameters)

    assert ask(CODE_CLIENT).location.startswith(f"{CODE_GOAL}?code=")
    assert ask("several").location.startswith(f"{CODE_GOAL}?code=")
    assert ask("several", redirect_uri=other).location.startswith(f"{other}?code=")
    assert ask("no-default").status == 400
    assert ask("several", redirect_uri="http://localhost:8080/third").status == 400


@pytest.mark.spec("OpenID Connect Core §3.1.2.1")
def test_seed_000_a_request_with_openid_must_name_its_redirect_uri(
    site: Site, light: Callable[..., Registered], browser: Browser
) -> None:
    light()
    site.user("admin")
    answer = browser.get(
        f"/oauth2/code?response_type=code&client_id={CODE_CLIENT}&scope=openid", basic("admin", PASSWORD)
    )
    assert answer.status == 400
    assert answer.header("location") is None


@pytest.mark.parametrize("parameter", ["prompt=login", "prompt=select_account", "max_age=3600", "max_age=0"])
def test_seed_000_repeated_credentials_are_no_new_sign_in(
    site: Site, light: Callable[..., Registered], browser: Browser, parameter: str
) -> None:
    light()
    site.user("admin")
    answer = browser.get(f"/oauth2/code?{CODE_QUERY}&{parameter}", basic("admin", PASSWORD))
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
def test_seed_000_only_a_top_level_navigation_gets_a_code(
    site: Site, light: Callable[..., Registered], browser: Browser, headers: dict[str, str]
) -> None:
    light()
    site.user("admin")
    answer = browser.get(f"/oauth2/code?{CODE_QUERY}", basic("admin", PASSWORD) | headers)
    assert answer.status == 400
    assert answer.header("location") is None


def test_seed_000_a_navigation_of_a_browser_gets_a_code(
    site: Site, light: Callable[..., Registered], browser: Browser
) -> None:
    light()
    site.user("admin")
    navigation = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}
    assert browser.get(f"/oauth2/code?{CODE_QUERY}", basic("admin", PASSWORD) | navigation).code


def test_seed_000_only_a_client_registered_for_it_may_sign_people_in_directly(
    site: Site, light: Callable[..., Registered], browser: Browser
) -> None:
    light(direct_sign_in=False)
    site.user("admin")
    answer = browser.get(f"/oauth2/code?{CODE_QUERY}&state=xyz", basic("admin", PASSWORD))
    assert answer.location.startswith(f"{CODE_GOAL}?")
    assert answer.answer["error"] == "unauthorized_client"
    assert answer.answer["state"] == "xyz"
    assert answer.answer["iss"] == site.settings.issuer


def test_seed_000_a_client_that_is_not_trusted_gets_a_code_once_the_person_has_allowed_it(
    site: Site, light: Callable[..., Registered], browser: Browser
) -> None:
    light(trusted=False)
    site.user("admin")
    credentials = basic("admin", PASSWORD)
    asked = browser.get(f"/oauth2/code?{CODE_QUERY}", credentials)
    assert is_consent_page(asked)
    assert browser.submit(asked, decision="allow_once").code
    asked = browser.get(f"/oauth2/code?{CODE_QUERY}", credentials)
    assert is_consent_page(asked)
    assert browser.submit(asked, decision="allow_always").code
    assert browser.get(f"/oauth2/code?{CODE_QUERY}", credentials).code


@pytest.mark.parametrize(("name", "word"), [("j_username", "j_password"), ("username", "password")])
def test_seed_000_the_form_of_a_login_page_takes_both_names_of_its_fields(
    site: Site, light: Callable[..., Registered], browser: Browser, name: str, word: str
) -> None:
    light()
    site.user("admin")
    page = browser.get(f"/oauth2/code?{CODE_QUERY}")
    hidden = {field: page.form.fields[field] for field in ("request_uri", "tag")}
    answer = browser.post("/oauth2/code", {**hidden, name: "admin", word: PASSWORD})
    assert answer.location.startswith(f"{CODE_GOAL}?code=")
    assert answer.header("set-cookie")


def test_seed_000_credentials_posted_without_a_request_of_ours_are_refused(
    site: Site, light: Callable[..., Registered], browser: Browser
) -> None:
    light()
    site.user("admin")
    answer = browser.post("/oauth2/code", {"j_username": "admin", "j_password": PASSWORD})
    assert answer.status == 400
    assert browser.cookies == {}


def test_seed_000_the_first_administrator_gets_no_code_before_the_random_password_is_replaced(
    site: Site, light: Callable[..., Registered], browsers: Callable[..., Browser]
) -> None:
    light()
    known = set(site.secrets)
    user = site.user("admin", password=None, admin=True)
    (random,) = site.secrets - known
    assert user.admin
    assert "123456" not in random
    assert len(random) >= 20
    browser, query = browsers(), f"/oauth2/code?{CODE_QUERY}"

    # By HTTP Basic, by the form, and silently: no code.
    page = browser.get(query, basic("admin", random))
    assert page.status == 200
    assert {"new_password", "new_password_again"} <= set(page.form.fields)
    assert "decision" not in dict(page.form.buttons)
    by_form = browsers()
    assert "new_password" in by_form.sign_in(by_form.get(query), "admin", random).form.fields
    silent = browsers().get(f"{query}&prompt=none", basic("admin", random))
    assert silent.answer["error"] == "interaction_required"
    assert [*site.server.store.grants.scan()] == []

    # The old one, a short one, and two that differ will not do.
    for new, again in [(random, random), ("123456", "123456"), (PASSWORD, PASSWORD + "x")]:
        page = browser.submit(page, new_password=new, new_password_again=again)
        assert page.status == 400
        assert "new_password" in page.form.fields
    answer = browser.submit(page, new_password=PASSWORD, new_password_again=PASSWORD)
    assert answer.location.startswith(f"{CODE_GOAL}?code=")

    # From now on the new one is what counts; whoever signed in with the old one is out.
    assert browsers().get(query, basic("admin", random)).status == 401
    assert browsers().get(query, basic("admin", PASSWORD)).code
    assert is_sign_in_page(by_form.get("/oauth2/authorize?" + CODE_QUERY))


# ---- 001: the WSO2 identity server behind an API manager

TRUST_GOAL = "https://client.example.com/oauth2client"


@pytest.fixture
def wso2(site: Site) -> Registered:
    return site.client(client_name="My API client", redirect_uris=[TRUST_GOAL], require_pkce=False)


def trust_url(client: Registered) -> str:
    return (
        f"/oauth2/authorize?response_type=code&client_id={client.id}&redirect_uri={TRUST_GOAL}"
        "&scope=openid&state=myteststate"
    )


@needs_curl
@pytest.mark.spec("seed 001")
@pytest.mark.spec("RFC 6749 §5.1")
def test_seed_001_sign_in_allow_and_curl_turns_the_code_into_a_token_that_opens_a_resource(
    site: Site, wso2: Registered, browser: Browser
) -> None:
    user = site.user("alice")
    # A to G: the sign-in page, as nobody is signed in; then the trust message, with Allow and Deny.
    sign_in = browser.get(trust_url(wso2))
    assert sign_in.status == 200
    assert is_sign_in_page(sign_in)
    trust = browser.sign_in(sign_in)
    assert is_consent_page(trust)
    assert "My API client" in trust.body
    # H: redirect_uri?code=authorization code&state=myteststate
    answer = browser.submit(trust, decision="allow_once")
    assert answer.location.startswith(f"{TRUST_GOAL}?code=")
    assert answer.answer["state"] == "myteststate"
    # I, J
    body = f"grant_type=authorization_code&code={answer.code}&redirect_uri={TRUST_GOAL}"
    token_url = f"{site.settings.issuer}/oauth2/token"
    tokens = curl(site, "-k", "-u", f"{wso2.id}:{wso2.secret}", "-d", body, token_url)
    assert "> POST /oauth2/token HTTP/1.1" in tokens.shown
    assert "> Authorization: Basic " in tokens.shown
    assert "> Accept: */*" in tokens.shown
    assert "> Content-Type: application/x-www-form-urlencoded" in tokens.shown
    assert tokens.answer.status == 200
    assert tokens.answer.header("content-type") == "application/json"
    assert tokens.answer.header("cache-control") == "no-store"
    assert tokens.answer.header("pragma") == "no-cache"
    assert tokens.answer.header("set-cookie") is None
    assert "refresh_token" in tokens.answer.json
    # K
    bearer = f"Authorization: Bearer {tokens.answer.json['access_token']}"
    resource = curl(site, "-k", "-H", bearer, f"{site.settings.issuer}/oauth2/userinfo")
    assert resource.answer.status == 200
    assert resource.answer.json == {"sub": user.sub}


def test_seed_001_who_is_signed_in_already_gets_the_trust_message_at_once(
    site: Site, wso2: Registered, browser: Browser
) -> None:
    site.user("alice")
    browser.sign_in(browser.get(trust_url(wso2)))
    assert is_consent_page(browser.get(trust_url(wso2)))


def test_seed_001_deny_takes_the_state_back_as_well(site: Site, wso2: Registered, browser: Browser) -> None:
    site.user("alice")
    trust = browser.sign_in(browser.get(trust_url(wso2)))
    answer = browser.submit(trust, decision="deny")
    assert answer.location.startswith(f"{TRUST_GOAL}?error=access_denied&")
    assert answer.answer["state"] == "myteststate"


@needs_curl
@pytest.mark.spec("RFC 6750 §3")
def test_seed_001_without_a_token_the_resource_stays_shut(site: Site) -> None:
    url = f"{site.settings.issuer}/oauth2/userinfo"
    without = curl(site, "-k", url).answer
    assert without.status == 401
    assert without.header("www-authenticate") == 'Bearer realm="userinfo"'
    wrong = curl(site, "-k", "-H", "Authorization: Bearer abc", url).answer
    assert wrong.status == 401
    assert 'error="invalid_token"' in (wrong.header("www-authenticate") or "")


# ---- 002: Aidbox

AIDBOX_GOAL = "http://localhost:4200"
AIDBOX_BASIC = "Basic d2ViLWFwcDpjbGllbnQtc2VjcmV0"  # web-app:client-secret


@pytest.fixture
def aidbox(site: Site) -> Registered:
    """The document's client, its id and secret included."""
    return site.client(
        client_id="web-app",
        client_secret="client-secret",
        client_name="Web app",
        redirect_uris=[AIDBOX_GOAL, "http://localhost:4200/second"],
        default_redirect_uri=AIDBOX_GOAL,
        default_scope="openid",
        require_pkce=False,
    )


def aidbox_code(site: Site, browser: Browser, **parameters: str) -> str:
    """A code for a request that names neither scope nor redirect URI."""
    site.user("alice")
    page = browser.get("/oauth2/authorize", None, response_type="code", client_id="web-app", **parameters)
    assert page.status == 200
    assert (page.header("content-type") or "").startswith("text/html")
    assert is_sign_in_page(page)
    answer = browser.submit(browser.sign_in(page), decision="allow_once")
    goal = urlsplit(answer.location)
    assert (goal.scheme, goal.netloc, goal.path) == ("http", "localhost:4200", "")
    return answer.code


def check_aidbox_tokens(site: Site, browser: Browser, answer: Answer) -> None:
    """The reply of the document: an access token, its type, an ID token."""
    assert answer.status == 200, answer.body
    members = answer.json
    assert members["token_type"].lower() == "bearer"
    assert members["scope"] == "openid"  # RFC 6749 section 3.3: it differs from what was asked, so it is said
    key = jwt.PyJWKSet.from_dict(browser.get("/oauth2/jwks").json).keys[0]
    claims = jwt.decode(members["id_token"], key, algorithms=["RS256"], audience="web-app", issuer=site.settings.issuer)
    assert claims["sub"] == browser.userinfo(members["access_token"]).json["sub"]


@needs_curl
@pytest.mark.spec("seed 002")
def test_seed_002_the_token_request_may_be_json_with_the_credentials_in_it(
    site: Site, aidbox: Registered, browser: Browser
) -> None:
    code = aidbox_code(site, browser)
    body = (
        '{"client_id":"web-app","client_secret":"client-secret", \n'
        f'       "code": "{code}", \n'
        '       "grant_type":"authorization_code"}'
    )
    url = f"{site.settings.issuer}/oauth2/token"
    asked = curl(site, "-X", "POST", "-H", "content-type: application/json", "-d", body, url)
    assert "> content-type: application/json" in asked.shown
    check_aidbox_tokens(site, browser, asked.answer)


@needs_curl
@pytest.mark.spec("seed 002")
@pytest.mark.spec("RFC 6749 §4.1.3")
def test_seed_002_the_token_request_may_be_a_form_with_the_credentials_in_the_header(
    site: Site, aidbox: Registered, browser: Browser
) -> None:
    code = aidbox_code(site, browser)
    asked = curl(
        site,
        *("-X", "POST"),
        *("-H", f"Authorization: {AIDBOX_BASIC}"),
        *("-H", "Content-Type: application/x-www-form-urlencoded"),
        *("-d", f"grant_type=authorization_code&code={code}"),
        f"{site.settings.issuer}/oauth2/token",
    )
    check_aidbox_tokens(site, browser, asked.answer)


@pytest.mark.spec("RFC 6749 §4.1.3")
@pytest.mark.parametrize("media_type", ["json", "form"])
def test_seed_002_a_redirect_uri_of_the_first_step_is_required_in_the_second(
    site: Site, aidbox: Registered, browser: Browser, media_type: str
) -> None:
    def token(code: str, **more: str) -> Answer:
        members = {"client_id": "web-app", "client_secret": "client-secret", "code": code, **more}
        members["grant_type"] = "authorization_code"
        if media_type == "form":
            return browser.post("/oauth2/token", members)
        return browser.request("POST", "/oauth2/token", json.dumps(members), {"content-type": "application/json"})

    code = aidbox_code(site, browser, redirect_uri=AIDBOX_GOAL)
    refused = token(code)
    assert refused.status == 400
    assert refused.json["error"] == "invalid_grant"

    def another_code() -> str:
        page = browser.get(
            "/oauth2/authorize", response_type="code", client_id="web-app", redirect_uri=AIDBOX_GOAL, state="x"
        )
        return browser.submit(page, decision="allow_once").code

    assert token(another_code(), redirect_uri="http://localhost:4200/").json["error"] == "invalid_grant"
    check_aidbox_tokens(site, browser, token(another_code(), redirect_uri=AIDBOX_GOAL))


@pytest.mark.spec("RFC 6749 §4.1.2")
def test_seed_002_the_state_is_the_exact_value_received(site: Site, aidbox: Registered, browser: Browser) -> None:
    site.user("alice")
    state = "a b+c&d=é%20/?#\"'<>" + "x" * 1900
    page = browser.get("/oauth2/authorize", response_type="code", client_id="web-app", state=state)
    answer = browser.submit(browser.sign_in(page), decision="allow_once")
    assert answer.answer["state"] == state


@pytest.mark.spec("seed 002")
@pytest.mark.spec("OpenID Connect Core §3.3.2.5")
@pytest.mark.parametrize("response_type", ["code%20id_token", "id_token%20code", "code+id_token"])
def test_seed_002_code_and_id_token_in_one_answer(
    site: Site, aidbox: Registered, browser: Browser, response_type: str
) -> None:
    """The request of the document; OpenID Connect wants `scope` and `nonce` besides."""
    site.server.store.clients.put(replace(aidbox.record, response_types=("code", "code id_token")))
    site.user("alice")
    page = browser.get(
        f"/oauth2/authorize?response_type={response_type}&client_id=web-app&redirect_uri={AIDBOX_GOAL}"
        "&scope=openid&nonce=n-0S6_WzA2Mj"
    )
    assert is_sign_in_page(page)
    answer = browser.submit(browser.sign_in(page), decision="allow_once")
    assert answer.location.startswith(AIDBOX_GOAL + "#")
    assert set(answer.answer) == {"code", "id_token", "iss"}
    key = jwt.PyJWKSet.from_dict(browser.get("/oauth2/jwks").json).keys[0]
    claims = jwt.decode(answer.answer["id_token"], key, algorithms=["RS256"], audience="web-app")
    assert claims["nonce"] == "n-0S6_WzA2Mj"
    body = {"client_id": "web-app", "client_secret": "client-secret", "grant_type": "authorization_code"}
    tokens = browser.post("/oauth2/token", body | {"code": answer.code, "redirect_uri": AIDBOX_GOAL})
    check_aidbox_tokens(site, browser, tokens)


@pytest.mark.spec("RFC 6749 §4.1.2.1")
@pytest.mark.parametrize(
    ("response_type", "error", "separator"),
    [
        ("code%20id_token", "unauthorized_client", "#"),
        ("id_token+code", "unauthorized_client", "#"),
        ("id_token", "unsupported_response_type", "#"),
        ("token", "unsupported_response_type", "#"),
        ("code%20code", "unsupported_response_type", "?"),
    ],
)
def test_seed_002_another_response_type_is_refused_by_redirect(
    site: Site, aidbox: Registered, browser: Browser, response_type: str, error: str, separator: str
) -> None:
    answer = browser.get(
        f"/oauth2/authorize?response_type={response_type}&client_id=web-app&redirect_uri={AIDBOX_GOAL}&state=s"
    )
    assert answer.status == 302
    assert answer.location.startswith(AIDBOX_GOAL + separator)
    assert answer.answer["error"] == error
    assert answer.answer["state"] == "s"
    assert answer.answer["iss"] == site.settings.issuer
    assert "code" not in answer.answer


# ---- 003: the WSO2 API manager and its playground

# The header of the document's token request.
PLAYGROUND_BASIC = "Basic SVpzSWk2SERiQjVlOFZLZFpBblVpX2ZaM2Y4YTpHbTBiSjZvV1Y4ZkM1T1FMTGxDNmpzbEFDVzhh"
PLAYGROUND_ID, PLAYGROUND_SECRET = "IZsIi6HDbB5e8VKdZAnUi_fZ3f8a", "Gm0bJ6oWV8fC5OQLLlC6jslACW8a"
ENCODED_GOAL = "https%3A%2F%2Fclient%2Eexample%2Ecom%2Fcb"


@pytest.fixture
def playground(site: Site) -> Registered:
    return site.client(
        client_id=PLAYGROUND_ID,
        client_secret=PLAYGROUND_SECRET,
        client_name="Playground",
        redirect_uris=["https://client.example.com/cb"],
        scope="PRODUCTION SANDBOX openid",
        require_pkce=False,
    )


def playground_request(browser: Browser, scope: str = "PRODUCTION") -> bytes:
    """The request of the document, byte for byte but for our path, this client and the person's cookies."""
    lines = [
        f"GET /oauth2/authorize?response_type=code&client_id={PLAYGROUND_ID}&scope={scope}"
        f"&redirect_uri={ENCODED_GOAL} HTTP/1.1",
        "Host: server.example.com",
        "Content-Type:application/x-www-form-urlencoded",
        "Cookie: " + "; ".join(f"{name}={value}" for name, value in browser.cookies.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.mark.spec("seed 003")
@pytest.mark.spec("RFC 6749 §4.1")
def test_seed_003_the_requests_of_the_document_byte_for_byte(
    site: Site, playground: Registered, browser: Browser
) -> None:
    site.user("alice")
    page = browser.sign_in(browser.authorize(playground, scope="PRODUCTION"))
    assert "PRODUCTION" in page.body
    browser.submit(page, decision="allow_always")
    # The Host header decides nothing; a Content-Type on a GET is ignored.
    found = wire(site, playground_request(browser))
    assert found.status == 302
    assert found.location.startswith("https://client.example.com/cb?code=")
    assert set(found.answer) == {"code", "iss"}
    assert found.answer["iss"] == site.settings.issuer
    body = f"grant_type=authorization_code&code={found.code}&redirect_uri={ENCODED_GOAL}"
    head = (
        "POST /oauth2/token HTTP/1.1\r\nHost: server.example.com\r\n"
        f"Authorization: {PLAYGROUND_BASIC}\r\nContent-Type:application/x-www-form-urlencoded\r\n"
    )
    tokens = wire(site, f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    assert tokens.status == 200, tokens.body
    assert tokens.json["scope"] == "PRODUCTION"
    assert tokens.json["token_type"] == "Bearer"
    assert "id_token" not in tokens.json
    # The document's playground refreshes.
    refreshed = browser.refresh(playground, tokens.json["refresh_token"])
    assert refreshed.status == 200
    assert refreshed.json["scope"] == "PRODUCTION"
    claims = jwt.decode(refreshed.json["access_token"], options={"verify_signature": False})
    assert claims["scope"] == "PRODUCTION"
    assert claims["client_id"] == PLAYGROUND_ID


@pytest.mark.parametrize("media_type", ["application/x-www-form-urlencoded", "application/json", "nonsense", "a/b; c"])
def test_seed_003_the_content_type_of_a_get_is_ignored(
    site: Site, playground: Registered, browser: Browser, media_type: str
) -> None:
    answer = browser.authorize(playground, scope="PRODUCTION", headers={"Content-Type": media_type})
    assert answer.status == 200
    assert is_sign_in_page(answer)


def test_seed_003_who_approves_once_is_asked_again_who_approves_always_is_not(
    site: Site, playground: Registered, browsers: Callable[..., Browser]
) -> None:
    alice, bob = site.user("alice"), site.user("bob")
    browser = browsers()
    page = browser.sign_in(browser.authorize(playground, scope="PRODUCTION"))
    assert {("decision", "allow_once"), ("decision", "allow_always")} <= set(page.form.buttons)
    assert browser.submit(page, decision="allow_once").code
    page = browser.authorize(playground, scope="PRODUCTION")
    assert is_consent_page(page)
    assert browser.submit(page, decision="allow_always").code
    assert browser.authorize(playground, scope="PRODUCTION").code
    # Remembered for the person, not for the browser: elsewhere too, but for nobody else.
    elsewhere = browsers()
    assert elsewhere.sign_in(elsewhere.authorize(playground, scope="PRODUCTION")).code
    bobs = browsers()
    assert is_consent_page(bobs.sign_in(bobs.authorize(playground, scope="PRODUCTION"), "bob"))
    # And for this client, not for another.
    assert is_consent_page(browser.authorize(site.client(client_name="Another"), scope="openid"))
    remembered = site.server.store.consents.get(alice.sub, PLAYGROUND_ID)
    assert remembered
    assert remembered.scope == {"PRODUCTION"}
    assert site.server.store.consents.get(bob.sub, PLAYGROUND_ID) is None


def test_seed_003_more_scope_asks_again_and_names_what_is_new(
    site: Site, playground: Registered, browser: Browser
) -> None:
    alice = site.user("alice")
    consented(site, alice, playground, "PRODUCTION")
    page = browser.sign_in(browser.authorize(playground, scope="PRODUCTION SANDBOX"))
    assert is_consent_page(page)
    lines = [line for line in page.body.splitlines() if line.startswith("<li>")]
    assert [("PRODUCTION" in line, "SANDBOX" in line, "new" in line) for line in lines] == [
        (False, True, True),
        (True, False, False),
    ]
    # Approved once: what was remembered stays as it was.
    assert browser.submit(page, decision="allow_once").code
    assert is_consent_page(browser.authorize(playground, scope="PRODUCTION SANDBOX"))
    assert browser.authorize(playground, scope="PRODUCTION").code
    # Approved always: it grows; and less is covered by it.
    page = browser.authorize(playground, scope="SANDBOX")
    assert browser.submit(page, decision="allow_always").code
    assert browser.authorize(playground, scope="PRODUCTION SANDBOX").code


@pytest.mark.spec("RFC 6749 §3.3")
@pytest.mark.parametrize("scope", ["production", "PRODUCTION ADMIN", "ADMIN"])
def test_seed_003_a_scope_of_the_operators_own_counts_only_where_it_is_registered_and_case_matters(
    site: Site, playground: Registered, browser: Browser, scope: str
) -> None:
    assert browser.authorize(playground, scope=scope).answer["error"] == "invalid_scope"


# ---- 004: OAuth 2.0 simplified

SIMPLE_GOAL = "https://example-app.com/auth"
SIMPLE_URL = (
    "/oauth2/authorize?client_id=a17c21ed&response_type=code&state=5ca75bd30"
    "&redirect_uri=https%3A%2F%2Fexample-app.com%2Fauth&scope=photos"
)


@pytest.fixture
def simple(site: Site) -> Registered:
    return site.client(
        client_id="a17c21ed",
        client_name="Example <App> & Co",
        redirect_uris=[SIMPLE_GOAL],
        scope="photos openid",
        require_pkce=False,
    )


@pytest.mark.spec("seed 004")
@pytest.mark.spec("RFC 9207 §2")
def test_seed_004_the_page_says_who_asks_for_what_and_the_person_approves(
    site: Site, simple: Registered, browser: Browser
) -> None:
    site.user("alice")
    page = browser.sign_in(browser.get(SIMPLE_URL))
    assert is_consent_page(page)
    text = unescape(page.body)
    assert "Example <App> & Co" in text
    assert "<App>" not in page.body
    assert "photos" in text
    assert "example-app.com" in text
    assert "alice" in text
    answer = browser.submit(page, decision="allow_once")
    assert answer.location.startswith(f"{SIMPLE_GOAL}?code=")
    assert answer.answer["state"] == "5ca75bd30"
    assert answer.answer["iss"] == site.settings.issuer
    tokens = browser.redeem(simple, answer.code, code_verifier=None)
    assert tokens.status == 200
    assert tokens.json["scope"] == "photos"
    assert "error" in browser.redeem(simple, answer.code, code_verifier=None).json  # one time only


@pytest.mark.spec("RFC 6749 §4.1.2.1")
@pytest.mark.spec("RFC 9207 §2")
def test_seed_004_the_person_denies(site: Site, simple: Registered, browser: Browser) -> None:
    site.user("alice")
    page = browser.sign_in(browser.get(SIMPLE_URL))
    answer = browser.submit(page, decision="deny")
    assert answer.location.startswith(f"{SIMPLE_GOAL}?")
    assert answer.answer["error"] == "access_denied"
    assert answer.answer["state"] == "5ca75bd30"
    assert answer.answer["iss"] == site.settings.issuer
    assert "code" not in answer.answer
    assert [*site.server.store.grants.scan()] == []


@pytest.mark.spec("RFC 9700 §2.1")
def test_seed_004_the_redirect_url_cannot_change_with_the_request(
    site: Site, simple: Registered, browser: Browser
) -> None:
    answer = browser.get(SIMPLE_URL.replace("%2Fauth", "%2Fauth2"))
    assert answer.status == 400
    assert answer.header("location") is None
    assert "redirect_uri" in answer.body


@pytest.mark.spec("RFC 6749 §3.1.2.3")
def test_seed_004_several_redirect_uris_may_be_registered_and_each_counts_as_it_is(
    site: Site, browser: Browser
) -> None:
    site.user("alice")
    goals = [SIMPLE_GOAL, "https://example-app.com/auth/2?page=1", "com.example.app:/auth"]
    client = site.client(redirect_uris=goals)
    for goal in goals:
        code = browser.code(client, redirect_uri=goal)
        for other in set(goals) - {goal}:
            spoiled = browser.code(client, redirect_uri=goal)
            assert browser.redeem(client, spoiled, redirect_uri=other).json["error"] == "invalid_grant"
        assert browser.redeem(client, code, redirect_uri=goal).status == 200
    missing = browser.authorize(client, redirect_uri=None, scope="profile")
    assert missing.status == 400


@pytest.mark.spec("RFC 7636 §4")
@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "none"])
def test_seed_004_pkce_is_for_every_kind_of_client(site: Site, browser: Browser, method: str) -> None:
    site.user("alice")
    client = site.client(public=method == "none", scope="photos openid")

    def redeem(code: str, verifier: str | None) -> Answer:
        body = {"grant_type": "authorization_code", "code": code, "redirect_uri": client.record.redirect_uris[0]}
        if verifier:
            body["code_verifier"] = verifier
        if method == "client_secret_basic":
            return browser.post("/oauth2/token", body, basic(client.id, client.secret or ""))
        body["client_id"] = client.id
        if method == "client_secret_post":
            body["client_secret"] = client.secret or ""
        return browser.post("/oauth2/token", body)

    for wrong in (None, VERIFIER[::-1], CHALLENGE):
        refused = redeem(browser.code(client, scope="photos"), wrong)
        assert refused.status == 400
        assert refused.json["error"] == "invalid_grant"
    tokens = redeem(browser.code(client, scope="photos"), VERIFIER)
    assert tokens.status == 200
    assert tokens.json["scope"] == "photos"


@pytest.mark.spec("RFC 7636 §4.4.1 a", "RFC 7636 §4.4.1 b")
@pytest.mark.spec("RFC 7636 §4.4.1")
def test_seed_004_a_client_that_must_use_pkce_is_told_so(site: Site, browser: Browser) -> None:
    for client in (site.client(), site.client(public=True)):
        answer = browser.authorize(client, code_challenge=None, code_challenge_method=None)
        assert answer.answer["error"] == "invalid_request"
        assert "code_challenge" in answer.answer["error_description"]


@needs_curl
@pytest.mark.spec("RFC 6749 §2.3.1")
@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_seed_004_curl_authenticates_by_header_or_by_body(
    site: Site, simple: Registered, browser: Browser, method: str
) -> None:
    site.user("alice")
    answer = browser.submit(browser.sign_in(browser.get(SIMPLE_URL)), decision="allow_once")
    fields = ["-d", "grant_type=authorization_code", "-d", f"code={answer.code}"]
    fields += ["--data-urlencode", f"redirect_uri={SIMPLE_GOAL}"]
    if method == "client_secret_basic":
        credentials = ["-u", f"{simple.id}:{simple.secret}"]
    else:
        credentials = ["-d", f"client_id={simple.id}", "-d", f"client_secret={simple.secret}"]
    asked = curl(site, *credentials, *fields, f"{site.settings.issuer}/oauth2/token")
    assert asked.answer.status == 200
    assert asked.answer.json["scope"] == "photos"
