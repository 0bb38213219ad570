"""Passkeys: the DynamoDB calls of each request, faults at each of them, and what the log and the tables contain."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from chalicelib.protocol.authentication_context import PHISHING_RESISTANT
from chalicelib.protocol.passkey import Passkey
from chalicelib.protocol.records import User
from tests.bench.capacity import Meter
from tests.endpoints.passkeys.conftest import alice, authenticator, browser
from tests.guarantees.test_round_trips import calls_in_last_line, granted_permissions, required_permissions
from tests.support import faults
from tests.support.account import open_sign_in, shows_account_of, sign_in_to_account
from tests.support.authenticator import (
    Authenticator,
    options_of,
    passkey_site,
    post_passkeys,
    send_passkey,
)
from tests.support.browser import Answer, Browser
from tests.support.faults import Wire
from tests.support.leaks import find_leaks
from tests.support.second_factor import add_second_factor
from tests.support.site import PASSWORD, Registered, Site, dump_tables

__all__ = ["alice", "authenticator", "browser", "required_permissions"]  # fixtures


@pytest.fixture
def local(site: Site, site_with: Callable[..., Site]) -> Site:
    other = passkey_site(site_with)
    other.server.keys.jwks()  # cached from now on
    return other


@pytest.fixture
def client(local: Site) -> Registered:
    registered = local.client()
    local.server.client(registered.id)
    return registered


Send = Callable[[], Answer]


def sign_in(browser: Browser, authenticator: Authenticator, client: Registered) -> Send:
    page = browser.authorize(client)
    return partial(send_passkey, browser, page, authenticator.get(options_of(page)))


def sign_in_with_remembered_consent(browser: Browser, authenticator: Authenticator, client: Registered) -> Send:
    browser.submit(browser.follow(sign_in(browser, authenticator, client)()), decision="allow_always")
    browser.cookies.clear()
    return sign_in(browser, authenticator, client)


def second_factor_page(browser: Browser, client: Registered, **parameters: str) -> Send:
    answer = browser.send(browser.authorize(client, **parameters), username="alice", password=PASSWORD)
    return partial(browser.request, "GET", answer.location)


def password_of_two_factors(browser: Browser, authenticator: Authenticator, client: Registered) -> Send:
    add_second_factor(browser.site)
    return partial(browser.send, browser.authorize(client), username="alice", password=PASSWORD)


def page_with_code(browser: Browser, authenticator: Authenticator, client: Registered) -> Send:
    add_second_factor(browser.site)
    return second_factor_page(browser, client)


def page_without_code(browser: Browser, authenticator: Authenticator, client: Registered) -> Send:
    return second_factor_page(browser, client, acr_values=PHISHING_RESISTANT)


def password_where_a_passkey_is_demanded(browser: Browser, authenticator: Authenticator, client: Registered) -> Send:
    page = browser.authorize(client, acr_values=PHISHING_RESISTANT)
    return partial(browser.send, page, username="alice", password=PASSWORD)


def second_factor(
    browser: Browser, authenticator: Authenticator, client: Registered, *, with_code: bool = True, right: bool = True
) -> Send:
    page = (page_with_code if with_code else page_without_code)(browser, authenticator, client)()
    answer = authenticator.get(options_of(page)) | ({} if right else {"signature": "AAAA"})
    return partial(send_passkey, browser, page, answer)


def a_wrong_answer(browser: Browser, authenticator: Authenticator, client: Registered) -> Send:
    page = browser.authorize(client)
    return partial(send_passkey, browser, page, authenticator.get(options_of(page), flags=0))


def account(browser: Browser, send: Send) -> Send:
    sign_in_to_account(browser)
    return send


def add(browser: Browser, authenticator: Authenticator, client: Registered) -> Send:
    sign_in_to_account(browser)
    page = browser.get("/account/passkeys")
    answer = json.dumps(authenticator.create(options_of(page, "data-new-passkey")))
    form = {"tag": page.form.fields["tag"], "action": "add", "passkey": answer}
    return partial(browser.post, "/account/passkeys", form, {"Sec-Fetch-Site": "same-origin"})


def act(action: str, browser: Browser, authenticator: Authenticator, client: Registered, **fields: str) -> Send:
    sign_in_to_account(browser)
    page = browser.get("/account/passkeys")
    passkey_id = page.form.fields["passkey_id"]
    form = {"tag": page.form.fields["tag"], "action": action, "passkey_id": passkey_id, **fields}
    return partial(browser.post, "/account/passkeys", form, {"Sec-Fetch-Site": "same-origin"})


# request, status, calls, read units, write units
TABLE: list[tuple[str, Callable[[Browser, Authenticator, Registered], Send], int, int, float, float]] = [
    ("sign-in page", lambda b, a, c: partial(b.authorize, c), 200, 0, 0, 0),
    ("sign-in: batch; one transaction", sign_in, 303, 2, 4, 15),
    ("sign-in with remembered consent: batch; one transaction; grant", sign_in_with_remembered_consent, 303, 3, 4, 18),
    ("a wrong answer: batch", a_wrong_answer, 303, 1, 4, 0),
    ("password, a code follows: batch; user; counts; one transaction", password_of_two_factors, 303, 4, 8, 20),
    ("page of the second factor: request; batch; passkeys", page_with_code, 200, 3, 3, 0),
    ("second factor: batch; user; passkey; one transaction; consent", second_factor, 303, 5, 4, 15),
    ("second factor, a wrong answer: batch; user; passkey", partial(second_factor, right=False), 303, 3, 3, 0),
    ("password, phr is demanded: as without; passkeys", password_where_a_passkey_is_demanded, 303, 5, 9, 25),
    ("page of the passkey, for a session: request; batch; passkeys", page_without_code, 200, 3, 5, 0),
    (
        "passkey for a session: batch; passkeys; passkey; one transaction; consent",
        partial(second_factor, with_code=False),
        303,
        5,
        6,
        11,
    ),
    ("account page: batch; passkeys", lambda b, a, c: account(b, partial(b.get, "/account/passkeys")), 200, 2, 3, 0),
    ("add: batch; passkeys; one transaction", add, 303, 3, 3, 10),
    ("rename: batch; one transaction", partial(act, "rename", name="x"), 303, 2, 2, 4),
    ("remove: batch; passkeys; one transaction", partial(act, "remove"), 303, 3, 3, 6),
]


@pytest.mark.parametrize(
    ("name", "prepare", "status", "calls", "reads", "writes"), TABLE, ids=[row[0] for row in TABLE]
)
def test_calls_and_units_of_requests_with_passkeys(
    local: Site,
    browser: Browser,
    alice: User,
    authenticator: Authenticator,
    client: Registered,
    caplog: pytest.LogCaptureFixture,
    required_permissions: set[tuple[str, str]],
    name: str,
    prepare: Callable[[Browser, Authenticator, Registered], Send],
    status: int,
    calls: int,
    reads: float,
    writes: float,
) -> None:
    send = prepare(browser, authenticator, client)
    required_permissions.clear()
    meter = Meter(local.server.store.dynamodb.client)
    with caplog.at_level("INFO", "signet"), meter.listening():
        caplog.clear()
        answer = send()
    assert answer.status == status, answer.body
    assert (calls_in_last_line(caplog), meter.reads, meter.writes) == (calls, reads, writes)
    assert required_permissions <= granted_permissions(), "the deployed function lacks a permission"


# ---- faults


def passkeys_of(site: Site, user: User) -> list[Passkey]:
    return list(site.server.store.passkeys.find("sub", user.sub))


@pytest.mark.parametrize("fault", [faults.unreachable, faults.throttled, faults.answer_lost])
@pytest.mark.parametrize("call", range(2))
def test_a_sign_in_that_fails_at_any_call_can_be_sent_again(
    local: Site,
    browser: Browser,
    alice: User,
    authenticator: Authenticator,
    wire: Wire,
    fault: Any,
    call: int,
) -> None:
    page = open_sign_in(browser)
    answer = authenticator.get(options_of(page))
    with wire.fault(call, fault):
        failed = send_passkey(browser, page, answer)
    assert failed.status == 503, failed.body
    assert "signet-session" not in browser.cookies
    assert send_passkey(browser, page, answer).status == 303
    assert shows_account_of(browser, "alice")
    (session,) = [each for each in local.server.store.sessions.scan() if each.amr != ("pwd",)]
    assert session.amr == ("pop", "user", "mfa")


@pytest.mark.parametrize("fault", [faults.unreachable, faults.throttled, faults.answer_lost])
@pytest.mark.parametrize("call", range(4))
@pytest.mark.parametrize("with_code", [True, False])
def test_a_second_factor_that_fails_at_any_call_can_be_sent_again(
    local: Site,
    browser: Browser,
    alice: User,
    authenticator: Authenticator,
    client: Registered,
    wire: Wire,
    fault: Any,
    call: int,
    with_code: bool,
) -> None:
    send = second_factor(browser, authenticator, client, with_code=with_code)
    before = browser.cookies.get("signet-session")
    with wire.fault(call, fault):
        failed = send()
    # Once the request is read, its client is told.
    assert failed.status == 503 or failed.answer["error"] == "temporarily_unavailable", failed.body
    assert browser.cookies.get("signet-session") == before
    assert send().status == 303
    assert [each.mfa_time for each in local.server.store.sessions.scan() if "pop" in each.amr] == [local.clock()]


@pytest.mark.parametrize("call", range(3))
def test_a_new_passkey_that_fails_at_any_call_can_be_sent_again(
    local: Site, browser: Browser, alice: User, authenticator: Authenticator, client: Registered, wire: Wire, call: int
) -> None:
    send = add(browser, authenticator, client)
    with wire.fault(call, faults.answer_lost):
        assert send().status == 503
    assert send().status == 303
    assert len(passkeys_of(local, alice)) == 2


# ---- what is stored and logged


def test_neither_log_nor_tables_contain_what_signs_in(
    local: Site,
    browser: Browser,
    alice: User,
    authenticator: Authenticator,
    client: Registered,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO", "signet"):
        page = browser.authorize(client)
        answer = authenticator.get(options_of(page))
        send_passkey(browser, page, answer | {"signature": "AAAA"})
        send_passkey(browser, browser.authorize(client), "not an answer at all")
        send_passkey(browser, page, answer)
        post_passkeys(browser, "add", passkey=json.dumps(answer))
    secrets = {options_of(page)["challenge"], *answer.values()} - {answer["id"], answer["userHandle"]}
    log = "\n".join(record.getMessage() for record in caplog.records)
    assert "passkey_not_verified: the answer is too long, or has other members" not in log
    assert "passkey_not_verified: the answer is not JSON" in log
    assert find_leaks(log, {*secrets, answer["id"], "not an answer at all"}) == set()
    assert find_leaks(dump_tables(), secrets) == set()
