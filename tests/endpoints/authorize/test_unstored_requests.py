"""GET /oauth2/authorize stores nothing: the pages carry the request; what is stored without a person is limited."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from chalicelib.authorization.problems import MAX_COOKIE
from chalicelib.authorization.stored_request import MAX_QUERY, MAX_STORED
from chalicelib.protocol.durations import HOUR
from tests.endpoints.authorize.conftest import asks_for_consent, asks_to_sign_in
from tests.support.browser import Answer, Browser, authorization_parameters, basic
from tests.support.faults import Wire
from tests.support.gateways import GATEWAYS, MAX_HEAD, BrowserAt, Gateway, GatewayBrowser
from tests.support.site import PASSWORD, STAGE, Registered, Site, dump_tables, tables

# About what Chromium sends besides the cookies and the Referer.
CHROMIUM = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 "
    "Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
    "application/signed-exchange;v=b3;q=0.7",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-US,en;q=0.9,de;q=0.8,fr;q=0.7",
    "Sec-Ch-Ua": '"Chromium";v="140", "Not=A?Brand";v="24", "Google Chrome";v="140"',
    "Sec-Ch-Ua-Mobile": "?0",
    "Sec-Ch-Ua-Platform": '"Linux"',
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-User": "?1",
    "Sec-Fetch-Dest": "document",
    "Upgrade-Insecure-Requests": "1",
    "Cache-Control": "max-age=0",
}


@pytest.fixture
def client(site: Site) -> Registered:
    """A client that needs the consent of alice, who has an account."""
    site.user()
    return site.client()


def count_requests() -> int:
    return len(tables()[f"signet-{STAGE}-requests"].items)


def with_length(client: Registered, size: int) -> dict[str, Any]:
    """Return the parameters of a request whose query has this many bytes."""
    parameters = authorization_parameters(client, state="")
    for name in ("state", "nonce", "ui_locales", "login_hint_"):
        missing = size - len(urlencode(parameters))
        parameters[name] = "s" * max(0, min(missing - (0 if name == "state" else len(name) + 2), 2048))
    assert len(urlencode({name: value for name, value in parameters.items() if value})) == size
    return {name: value for name, value in parameters.items() if value}


# ---- nothing is stored


@pytest.mark.slow
def test_a_thousand_requests_leave_the_tables_empty(site: Site, wire: Wire, client: Registered) -> None:
    before = dump_tables()
    browser = GatewayBrowser(site, GATEWAYS[0])
    browser.authorize(client)
    called = len(wire.calls)
    for number in range(1_000):
        browser.cookies.clear()
        answer = browser.authorize(client, state=f"{number}", scope="openid email")
        assert answer.status == 200
    assert dump_tables() == before
    assert len(wire.calls) - called <= 2, "only the client and the keys are read, once a minute"


def test_page_carries_the_request_and_the_answer_creates_its_record(
    site: Site, browser: Browser, client: Registered
) -> None:
    page = browser.authorize(client, state="a b+c&d=é", ui_locales="de")
    action = urlsplit(page.form.action or "")
    assert action.path == "/oauth2/code"
    assert dict(parse_qsl(action.query)) == dict(parse_qsl(urlsplit(page.url).query))
    assert set(page.form.fields) == {"request_id", "shown_at", "terms", "tag", "username", "password"}
    assert count_requests() == 0
    browser.sign_in(page)
    (stored,) = site.server.store.requests.scan()
    assert stored.request_id == page.form.fields["request_id"]
    assert (stored.state, stored.taken_at) == ("a b+c&d=é", None)


def test_consent_page_of_a_signed_in_user_stores_nothing_until_it_is_answered(
    site: Site, browser: Browser, client: Registered
) -> None:
    browser.code(client)
    before = count_requests()
    page = browser.authorize(client)
    assert asks_for_consent(page)
    assert count_requests() == before
    assert browser.submit(page, decision="allow_once").code
    assert count_requests() == before + 1


def test_sign_in_at_the_last_moment_leaves_a_full_lifetime_for_the_consent_page(
    site: Site, browser: Browser, client: Registered
) -> None:
    page = browser.authorize(client)
    lifetime = site.settings.request_lifetime
    site.clock.advance(lifetime - 1)
    consent = browser.sign_in(page)
    assert asks_for_consent(consent)
    site.clock.advance(lifetime - 1)
    assert browser.submit(consent, decision="allow_once").code


def test_record_of_an_answered_request_outlives_its_form(site: Site, browser: Browser, client: Registered) -> None:
    browser.code(client)
    page = browser.authorize(client)
    site.clock.advance(site.settings.request_lifetime - 1)
    assert browser.submit(page, decision="allow_once").code
    (*_, stored) = (record for record in site.server.store.requests.scan() if record.taken_at == site.clock.time)
    assert stored.expires_at == site.clock.time + 60
    site.clock.advance(1)
    assert browser.send(page, decision="allow_once").code, "the form has expired, but was answered a moment ago"
    site.clock.advance(60)
    assert browser.send(page, decision="allow_once").location.startswith("/oauth2/authorize?")
    assert not [*site.server.store.grants.scan()], "the codes have expired"


def test_reload_shows_another_form_for_the_same_request(browser: Browser, client: Registered) -> None:
    first, second = browser.authorize(client), browser.authorize(client)
    assert first.form.action == second.form.action
    assert first.form.fields["request_id"] != second.form.fields["request_id"]
    assert asks_for_consent(browser.sign_in(first)), "both are usable"
    assert asks_for_consent(browser.sign_in(second))


def test_pages_of_a_request_send_only_the_origin_as_referrer(browser: Browser, client: Registered) -> None:
    page = browser.authorize(client)
    for answer in (page, browser.sign_in(page), browser.authorize(client, "/oauth2/code")):
        if "tag" in answer.form.fields:
            assert [value for name, value in answer.headers if name.lower() == "referrer-policy"] == ["origin"]
    assert browser.get("/").header("referrer-policy") == "same-origin"


# ---- after a form that was rejected


@pytest.mark.parametrize("path", ["/oauth2/authorize", "/oauth2/code"])
def test_wrong_password_leads_back_to_the_address_of_the_request(site: Site, browser: Browser, path: str) -> None:
    site.user()
    client = site.client(direct_sign_in=True)
    page = browser.authorize(client, path, ui_locales="tlh")
    sent = browser.send(page, username="Alicia", password="wrong")
    target = urlsplit(sent.location)
    assert sent.status == 303
    assert target.path == "/oauth2/authorize"
    assert dict(parse_qsl(target.query)) == dict(parse_qsl(urlsplit(page.url).query))
    cookie = browser.cookies["signet-problem"]
    assert len(f"signet-problem={cookie}") <= 600
    assert "Alicia" not in cookie
    shown = browser.get(sent.location)
    assert shown.status == 400
    assert "is not right" in shown.body
    assert shown.form.fields["username"] == "Alicia"
    assert "signet-problem" not in browser.cookies
    reloaded = browser.get(sent.location)
    assert asks_to_sign_in(reloaded)
    assert reloaded.form.fields["username"] == ""
    assert count_requests() == 0
    assert asks_for_consent(browser.sign_in(shown))


def test_message_is_shown_for_its_request_only(browser: Browser, client: Registered) -> None:
    page, other = browser.authorize(client), browser.authorize(client, state="another tab")
    sent = browser.send(page, username="alice", password="wrong")
    assert asks_to_sign_in(browser.request("GET", other.url)), "a reload of the other tab shows no message"
    assert "is not right" in browser.get(sent.location).body


@pytest.mark.parametrize("change", ["cut", "another character", "of another server", "long", "empty"])
def test_message_that_this_server_did_not_write_is_ignored(browser: Browser, client: Registered, change: str) -> None:
    page = browser.authorize(client)
    sent = browser.send(page, username="alice", password="wrong")
    cookie = browser.cookies["signet-problem"]
    browser.cookies["signet-problem"] = {
        "cut": cookie[:-2],
        "another character": cookie[:20] + ("A" if cookie[20] != "A" else "B") + cookie[21:],
        "of another server": "AQ" * 40,
        "long": cookie + "A" * 2000,
        "empty": "",
    }[change]
    assert asks_to_sign_in(browser.get(sent.location))


@pytest.mark.parametrize("username", ["x" * 320, "\U0001f511" * 320, "\ud800", "é" * 90])
def test_message_of_a_long_username_fits_into_a_small_cookie(
    browser: Browser, client: Registered, username: str
) -> None:
    page = browser.authorize(client)
    body = urlencode(page.form.fields | {"username": username, "password": "wrong"}, errors="surrogatepass")
    sent = browser.request("POST", page.form.action or "", body, {"Content-Type": "application/x-www-form-urlencoded"})
    assert len(browser.cookies["signet-problem"]) <= MAX_COOKIE
    shown = browser.get(sent.location)
    assert shown.status == 400
    assert 'class="problem"' in shown.body


def test_message_about_a_password_is_not_shown_on_the_consent_page(browser: Browser, client: Registered) -> None:
    """Another tab has signed in in between."""
    page, other = browser.authorize(client), browser.authorize(client, state="another tab")
    browser.sign_in(other)
    sent = browser.send(page, username="alice", password="wrong")
    assert "signet-problem" in browser.cookies
    shown = browser.get(sent.location)
    assert asks_for_consent(shown)
    assert "is not right" not in shown.body
    assert "signet-problem" not in browser.cookies, "it is removed, and never shown later"
    assert browser.submit(shown, decision="allow_once").code


def test_message_about_a_new_password_is_not_shown_on_the_sign_in_page(
    site: Site, browser: Browser, client: Registered
) -> None:
    site.server.store.users.put(replace(site.user("carol"), password_change_required=True))
    page = browser.sign_in(browser.authorize(client), "carol")
    sent = browser.send(page, new_password="short", new_password_again="short")
    del browser.cookies["signet-session"]
    shown = browser.get(sent.location)
    assert asks_to_sign_in(shown)
    assert "at least 12 characters" not in shown.body
    assert "signet-problem" not in browser.cookies


def test_wrong_password_for_a_stored_request_leads_back_to_its_handle(browser: Browser, client: Registered) -> None:
    answer = browser.post("/oauth2/authorize", authorization_parameters(client, login_hint="alice"))
    page = browser.get(answer.location)
    sent = browser.send(page, username="alice", password="wrong")
    assert sent.location == answer.location
    assert "is not right" in browser.get(sent.location).body
    assert asks_for_consent(browser.sign_in(page))


# ---- what is stored after all


def test_long_query_is_stored_and_led_on_by_its_handle(browser: Browser, client: Registered) -> None:
    assert asks_to_sign_in(browser.get("/oauth2/authorize", **with_length(client, MAX_QUERY)))
    assert count_requests() == 0
    answer = browser.get("/oauth2/authorize", **with_length(client, MAX_QUERY + 1))
    assert answer.status == 302
    assert answer.location.startswith("/oauth2/authorize?request_uri=req_")
    assert count_requests() == 1
    page = browser.get(answer.location)
    assert asks_for_consent(browser.sign_in(page))


def test_long_query_that_needs_no_page_is_answered_without_being_stored(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client(trusted=True)
    browser.code(client)
    before = count_requests()
    assert browser.get("/oauth2/authorize", **with_length(client, MAX_QUERY + 500)).code
    assert count_requests() == before


def test_basic_sign_in_for_a_long_query_beyond_the_limit_continues_and_keeps_the_user_signed_in(
    site_with: Callable[..., Site],
) -> None:
    site = site_with(stored_requests_per_address=1)
    site.user()
    client, direct = site.client(), site.client(direct_sign_in=True)
    browser = BrowserAt(site, "192.0.2.1")
    browser.code(client)
    parameters = authorization_parameters(client, login_hint="x")
    BrowserAt(site, "192.0.2.1").post("/oauth2/authorize", parameters)  # the only one
    own = browser.cookies["signet-session"]
    answer = browser.get("/oauth2/code", basic("alice", PASSWORD), **with_length(direct, MAX_QUERY + 1))
    assert "request_uri=req_" in answer.location, "a request of a signed-in user is not counted"
    assert browser.cookies["signet-session"] != own
    assert asks_for_consent(browser.get(answer.location))
    assert asks_for_consent(browser.authorize(client))


def test_basic_sign_in_for_a_query_that_is_too_long_to_be_stored_keeps_the_user_signed_in(
    site: Site, browser: Browser
) -> None:
    """The session continues under a new cookie, which must be sent with the error: the old one is invalid."""
    site.user()
    client = site.client(direct_sign_in=True)
    browser.code(client)
    filler = {f"x{number}": "x" * 2000 for number in range(MAX_STORED // 2000 + 1)}
    answer = browser.get("/oauth2/code", basic("alice", PASSWORD), **authorization_parameters(client), **filler)
    assert answer.answer["error"] == "invalid_request"
    assert asks_for_consent(browser.authorize(client)), "the user is still signed in"


@pytest.mark.parametrize("gateway", GATEWAYS, ids=lambda gateway: gateway.name)
def test_longest_query_passes_every_gateway(site_with: Callable[..., Site], gateway: Gateway) -> None:
    site = site_with(issuer=gateway.url)
    site.user()
    client = site.client()
    browser = GatewayBrowser(site, gateway)
    headers = {**CHROMIUM, "Referer": gateway.url + "/"}
    query = urlencode(with_length(client, MAX_QUERY))

    def get(url: str) -> Answer:
        return browser.request("GET", url, headers=headers)

    page = get(f"{gateway.url}/oauth2/authorize?{query}")
    for password in ("wrong", "wrong again"):
        sent = browser.send(page, headers, username="alice" * 20, password=password)
        assert sent.status == 303, sent.body
        page = get(sent.location)
        assert page.status == 400, page.body
    sent = browser.send(
        page,
        headers | {"Origin": "https://" + gateway.domain},
        username="alice",
        password=PASSWORD,
    )
    assert sent.status == 303, sent.body
    assert browser.submit(get(sent.location), decision="allow_once").code


def test_gateways_of_these_tests_reject_more_than_api_gateway_accepts(site: Site, client: Registered) -> None:
    browser = GatewayBrowser(site, GATEWAYS[0])
    assert browser.request("GET", "/oauth2/authorize?x=" + "x" * MAX_HEAD).status == 431


def test_posted_request_is_sent_on_by_get_and_not_stored(browser: Browser, client: Registered) -> None:
    sent = authorization_parameters(client, state="a b+c&d=é", claims='{"userinfo": {"email": null}}', ui_locales="de")
    answer = browser.post("/oauth2/authorize", sent, {"Sec-Fetch-Site": "cross-site"})
    target = urlsplit(answer.location)
    assert answer.status == 303
    assert (target.path, dict(parse_qsl(target.query))) == ("/oauth2/authorize", sent)
    assert count_requests() == 0
    assert asks_for_consent(browser.sign_in(browser.get(answer.location)))


def test_posted_request_that_names_a_person_is_stored_and_not_in_an_address(
    browser: Browser, client: Registered
) -> None:
    token = browser.tokens(client)["id_token"]
    before = count_requests()
    person = ("login_hint", "alice@example.com"), ("id_token_hint", token)
    claims = [
        ("claims", f'{{"{member}": {{"sub": {subject}}}}}')
        for member in ("id_token", "userinfo")
        for subject in ('{"value": "alice-1"}', '{"values": ["alice-1", "bob-2"]}')
    ]
    for name, value in (*person, *claims):
        answer = browser.post("/oauth2/authorize", authorization_parameters(client, **{name: value}))
        assert answer.location.startswith("/oauth2/authorize?request_uri=req_")
        for text in (value, "alice"):
            assert text not in answer.location
    assert count_requests() == before + 6


@pytest.mark.parametrize("name", ["client_secret", "username", "password", "tag", "unknown", "é"])
def test_parameter_that_is_not_of_the_protocol_is_not_repeated_in_an_address(
    browser: Browser, client: Registered, name: str
) -> None:
    """A client may send its secret by mistake, which must not be in a log or in the history of a browser."""
    genuine = authorization_parameters(client)
    answer = browser.post("/oauth2/authorize", genuine | {name: "s3cret-value"})
    assert dict(parse_qsl(urlsplit(answer.location).query)) == genuine
    assert count_requests() == 0


def test_posted_request_is_limited_in_bytes(browser: Browser, client: Registered) -> None:
    filler = "&".join(f"x{number}={'x' * 2000}" for number in range(MAX_STORED // 2000 + 1))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    sent = authorization_parameters(client, login_hint="alice", state="xyz")
    answer = browser.request("POST", "/oauth2/authorize", urlencode(sent) + "&" + filler, form)
    assert answer.answer["error"] == "invalid_request"
    assert answer.answer["state"] == "xyz"
    assert not tables()[f"signet-{STAGE}-attempts"].items
    assert count_requests() == 0


@pytest.mark.parametrize(
    ("addresses", "another"),
    [
        (["2001:db8::1", "2001:db8::2", "2001:db8:0:1::3", "2001:db8:0:ff:ffff::4"], "2001:db8:0:100::1"),
        (["192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"], "192.0.2.2"),
    ],
    ids=["IPv6 /56", "IPv4"],
)
def test_stored_requests_are_limited_for_an_address(
    site_with: Callable[..., Site], addresses: list[str], another: str
) -> None:
    site = site_with(stored_requests_per_address=3)
    client = site.client()
    parameters = authorization_parameters(client, login_hint="alice")
    site.clock.time += -site.clock.time % HOUR  # the beginning of an hour

    def post(address: str) -> Answer:
        return BrowserAt(site, address).post("/oauth2/authorize", parameters)

    answers = [post(address) for address in addresses]
    assert ["request_uri" in answer.location for answer in answers] == [True, True, True, False]
    assert answers[-1].answer["error"] == "temporarily_unavailable"
    assert count_requests() == 3
    assert "request_uri" in post(another).location, "another network"
    site.clock.advance(HOUR)
    assert "request_uri" in post(addresses[0]).location, "an hour later"


def test_request_beyond_the_limit_makes_no_call_in_the_rest_of_the_hour(
    site_with: Callable[..., Site], wire: Wire
) -> None:
    """Otherwise a flood would cost a write for each of its requests."""
    site = site_with(stored_requests_per_address=2)
    client = site.client()
    parameters = authorization_parameters(client, login_hint="alice")
    site.clock.time += -site.clock.time % HOUR
    calls: list[list[str]] = []

    def post(address: str = "203.0.113.9") -> Answer:
        before = len(wire.calls)
        answer = BrowserAt(site, address).post("/oauth2/authorize", parameters)
        calls.append(wire.calls[before:])
        return answer

    for _ in range(8):
        answer = post()
    assert answer.answer["error"] == "temporarily_unavailable"
    assert "PutItem" in calls[1], "the last one within the limit is stored"
    assert "PutItem" not in calls[2]
    assert len(calls[2]) == 1, "the refused write"
    assert calls[3:] == [[]] * 5
    assert "request_uri" in post("203.0.113.10").location, "another address"
    site.clock.advance(HOUR - 1)
    site.server.client(client.id)
    calls.clear()
    post()
    assert not [call for call in calls[0] if call not in ("GetItem", "BatchGetItem")], "keys and client only"
    site.clock.advance(1)
    assert "request_uri" in post().location, "the next hour"


def test_requests_of_a_signed_in_user_are_not_counted_for_the_address(
    site_with: Callable[..., Site], browsers: Callable[..., Browser]
) -> None:
    """Users behind one address cannot be locked out by others there."""
    site = site_with(stored_requests_per_address=1)
    site.user()
    client, browser, other = site.client(), browsers(site), browsers(site)
    browser.code(client)
    long_query = with_length(client, MAX_QUERY + 1)
    assert "request_uri" in other.get("/oauth2/authorize", **long_query).location
    assert other.get("/oauth2/authorize", **long_query).answer["error"] == "temporarily_unavailable"
    for _ in range(3):
        page = browser.follow(browser.get("/oauth2/authorize", **long_query))
        assert asks_for_consent(page)
    assert browser.submit(page, decision="allow_once").code


def test_login_application_is_asked_about_a_stored_request_within_the_same_limit(
    site_with: Callable[..., Site], browsers: Callable[..., Browser]
) -> None:
    site = site_with(stored_requests_per_address=2, login_url="https://login.example.com/")
    client, browser = site.client(), browsers(site)
    for _ in range(2):
        assert browser.authorize(client).location.startswith("https://login.example.com/?request_uri=req_")
    assert browser.authorize(client).answer["error"] == "temporarily_unavailable"
    assert count_requests() == 2


# ---- bounded parameters


@pytest.mark.parametrize(("count", "error"), [(5, None), (6, "invalid_request")])
def test_claims_name_at_most_five_subjects(browser: Browser, client: Registered, count: int, error: str | None) -> None:
    values = ", ".join(f'"sub-{number}"' for number in range(count))
    answer = browser.authorize(client, claims=f'{{"id_token": {{"sub": {{"values": [{values}]}}}}}}')
    assert answer.status == (302 if error else 200)
    if error:
        assert answer.answer["error"] == error


def test_unknown_acr_values_are_dropped(site: Site, browser: Browser, client: Registered) -> None:
    supported = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"
    unknown = " ".join(f"urn:example:{number}" for number in range(20))
    browser.sign_in(browser.authorize(client, acr_values=f"{unknown} {supported} {supported}"))
    (stored,) = site.server.store.requests.scan()
    assert stored.acr_values == (supported,)
