"""Which email belongs to a request: of several names, of several requests, and of none."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.authentication import proofs
from chalicelib.authentication.proofs import Content
from chalicelib.authorization import email_link
from chalicelib.authorization.forms import MAX_KEPT_QUERY
from chalicelib.http.messages import Request
from chalicelib.mail import proof_codes
from chalicelib.protocol.durations import MINUTE
from chalicelib.protocol.errors import RequestEnded
from chalicelib.protocol.proof import MAX_TRIES, RESET, SIGN_IN
from chalicelib.protocol.records import AuthorizationRequest
from tests.endpoints.email_sign_in.flow import ask, email_site, enter, is_code_form, is_password_form
from tests.support.account import is_signed_in
from tests.support.browser import Browser
from tests.support.faults import Wire
from tests.support.mail_flows import open_link, receive, verified_user
from tests.support.mailbox import Mailbox
from tests.support.site import Registered, Site

Browsers = Callable[..., Browser]
READS = {"GetItem", "BatchGetItem", "TransactGetItems"}


@pytest.fixture
def site(site_with: Callable[..., Site], mailbox: Mailbox) -> Site:
    site = email_site(site_with)
    verified_user(site)
    verified_user(site, "bob", "bob@example.com")
    return site


@pytest.fixture
def client(site: Site) -> Registered:
    return site.client(trusted=True)


@pytest.fixture
def browser(site: Site, browsers: Browsers) -> Browser:
    return browsers(site)


def stored_request(site: Site) -> AuthorizationRequest:
    (request,) = site.server.store.requests.scan()
    return request


def test_name_in_the_form_gets_the_email_though_another_one_has_been_sent_a_code(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox
) -> None:
    """As when the sign-in page was open in another tab. Then the code of the first name is not asked for any longer."""
    page = browser.authorize(client)
    ask(browser, page, "alice")
    of_alice = receive(site, mailbox)
    after = ask(browser, page, "bob")
    of_bob = receive(site, mailbox)
    assert (of_alice.to, of_bob.to) == ("alice@example.com", "bob@example.com")
    opened = open_link(browser, of_alice)
    answer = browser.send(opened) if opened.form.action else opened
    assert answer.status == 400
    assert not is_signed_in(browser)
    assert enter(browser, after, of_bob.code).code


def test_link_of_an_email_is_for_its_request_alone(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox
) -> None:
    ask(browser, browser.authorize(client))
    receive(site, mailbox)
    request = stored_request(site)
    proof = proofs.find(site.server, request.email_proof)
    assert proof
    email_link._require_email_of(site.server, request, proof)
    for other in (replace(proof, nonce="other"), replace(proof, browser_id="other"), replace(proof, browser_id=None)):
        with pytest.raises(RequestEnded):
            email_link._require_email_of(site.server, request, other)
    off = replace(site.server, settings=replace(site.settings, email_code_sign_in=False))
    with pytest.raises(RequestEnded):
        email_link._require_email_of(off, request, proof)


def test_email_without_a_request_signs_no_one_in(site: Site) -> None:
    content = Content("alice@example.com", "alice", "state=x")
    proof = proofs.new_proof(site.server, SIGN_IN, "alice", content, browser_id="b")
    http = Request("POST", "/account/link")
    with pytest.raises(RequestEnded):
        email_link.request_of(site.server, http, proof, content)
    with pytest.raises(RequestEnded):
        email_link.sign_in(site.server, http, proof, content, "b")


def test_request_that_was_answered_asks_for_no_email(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox, wire: Wire
) -> None:
    page = ask(browser, browser.authorize(client))
    assert enter(browser, page, receive(site, mailbox).code).code
    with wire.counted() as counted:
        assert "already answered" in browser.submit(page, username="bob", email_me="yes").body
    assert {*counted} <= READS
    for seconds in (0, MINUTE + 1):
        site.clock.advance(seconds)
        answer = browser.submit(page, email_me="again")
        assert (answer.status, "already answered" in answer.body) == (400, True)
    assert mailbox.deliver(site) == []


def test_page_whose_email_has_ended_asks_for_the_name_again(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox
) -> None:
    page = ask(browser, browser.authorize(client))
    receive(site, mailbox)
    for _ in range(MAX_TRIES):
        enter(browser, page, "WRNG2345")
    answer = browser.submit(page, email_me="again")
    assert is_password_form(answer)
    assert "Enter your username or your email address" in answer.body
    assert mailbox.deliver(site) == []


def test_code_of_a_request_that_has_asked_for_no_email_has_ended(
    site: Site, browser: Browser, client: Registered
) -> None:
    answer = browser.submit(browser.authorize(client), username="alice", email_code="ABCD2345")
    assert is_password_form(answer)
    assert "The code has expired, was used, or was replaced" in answer.body


def test_way_back_to_the_password_needs_no_email(site: Site, browser: Browser, client: Registered, wire: Wire) -> None:
    page = browser.authorize(client)
    with wire.counted() as counted:
        answer = browser.submit(page, username="alice", use_password="yes")
    assert (answer.status, is_password_form(answer)) == (200, True)
    assert {*counted} <= READS


@pytest.mark.parametrize("change", ["another purpose", "another browser"])
def test_only_an_email_of_this_purpose_and_browser_signs_in(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox, change: str
) -> None:
    """Whatever the record of the request names: each check holds alone."""
    page = ask(browser, browser.authorize(client))
    receive(site, mailbox)
    request, user = stored_request(site), site.read_user()
    purpose = RESET if change == "another purpose" else SIGN_IN
    browser_id = "other" if change == "another browser" else request.browser_id
    content = Content("alice@example.com", "alice")
    proof = proofs.new_proof(site.server, purpose, "x", content, browser_id=browser_id, sub=user.sub)
    site.server.store.transact(proofs.storing(site.server, proof))
    site.server.store.requests.put(replace(request, email_proof=proof.proof_id))
    code = proof_codes.code_of(site.server, proof.proof_id, purpose)
    site.secrets.add(code)
    answer = enter(browser, page, code)
    assert "The code has expired, was used, or was replaced" in answer.body
    assert not is_signed_in(browser)
    assert proofs.find(site.server, proof.proof_id) == proof, "no try is counted"


def test_request_that_was_answered_by_the_password_takes_no_code(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, mailbox: Mailbox
) -> None:
    page = browser.authorize(client)
    after = ask(browser, page)
    mail = receive(site, mailbox)
    request = stored_request(site)
    site.server.store.requests.put(replace(request, taken_at=site.clock.time, sent=1))
    answer = enter(browser, after, mail.code)
    assert (answer.status, answer.header("location")) == (400, None)
    assert not is_signed_in(browser)
    proof = proofs.find(site.server, request.email_proof)
    assert proof
    assert (proof.spent_at, proof.tries) == (None, 0)


def test_code_of_a_user_who_has_changed_says_that_it_has_ended(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox
) -> None:
    page = ask(browser, browser.authorize(client))
    mail = receive(site, mailbox)
    user = site.read_user()
    site.server.store.users.put(replace(user, sessions_generation=user.sessions_generation + 1))
    assert "The code has expired, was used, or was replaced" in enter(browser, page, mail.code).body


@pytest.mark.parametrize("change", ["answered", "gone", "asked again"])
def test_request_that_changes_while_an_email_is_asked_for(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox, wire: Wire, change: str
) -> None:
    page = browser.authorize(client)
    ask(browser, page, "alice")
    receive(site, mailbox)
    request = stored_request(site)

    def act() -> None:
        if change == "answered":
            site.server.store.requests.put(replace(request, taken_at=site.clock.time, sent=1))
        elif change == "gone":
            site.server.store.requests.delete(request.request_id)
        else:
            site.server.store.requests.put(replace(request, email_proof="signin.x.y"))

    with wire.before("TransactWriteItems", act):
        answer = browser.submit(page, username="bob", email_me="yes")
    assert answer.status == (200 if change == "asked again" else 400), answer.body


def test_page_of_a_request_whose_email_was_used_asks_for_the_password(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox
) -> None:
    page = ask(browser, browser.authorize(client))
    receive(site, mailbox)
    assert is_code_form(page)
    proof = proofs.find(site.server, stored_request(site).email_proof)
    assert proof
    site.server.store.proofs.put(replace(proof, spent_at=site.clock.time))
    assert is_password_form(browser.get(page.url))


@pytest.mark.parametrize("change", [{"disabled_at": 1}, {"claims": {"email": "alice@example.com"}}])
def test_user_who_cannot_get_the_email_is_sent_none(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox, change: dict[str, Any]
) -> None:
    """A disabled one, and one whose address is not verified. The page is the same as for everyone."""
    site.server.store.users.put(replace(site.read_user(), **change))
    assert is_code_form(ask(browser, browser.authorize(client)))
    assert mailbox.deliver(site) == []
    (proof,) = site.server.store.proofs.scan()
    assert (proof.sub, proofs.content_of(site.server, proof).address) == (None, "")


def test_code_that_is_used_in_between_offers_no_restoration(
    site: Site, browser: Browser, client: Registered, mailbox: Mailbox, wire: Wire
) -> None:
    user = site.read_user()
    page = ask(browser, browser.authorize(client))
    mail = receive(site, mailbox)
    now = site.clock.time
    site.server.store.users.put(replace(user, deleted_at=now, deletion_due_at=now + 86400))
    request = stored_request(site)

    def spend() -> None:
        proof = proofs.find(site.server, request.email_proof)
        assert proof
        site.server.store.proofs.put(replace(proof, spent_at=now))

    with wire.before("TransactWriteItems", spend):
        answer = enter(browser, page, mail.code)
    assert "/account/restore" not in answer.url
    assert "The code has expired, was used, or was replaced" in answer.body


@pytest.mark.parametrize(
    ("length_of_nonce", "length_of_languages", "kept"),
    [
        (10, 10, ("client_id", "request_uri", "ui_locales")),
        (MAX_KEPT_QUERY, 10, ("request_uri", "ui_locales")),
        (10, MAX_KEPT_QUERY, ("request_uri",)),
    ],
)
def test_email_of_a_long_request_has_only_its_reference(
    site: Site,
    browser: Browser,
    client: Registered,
    mailbox: Mailbox,
    length_of_nonce: int,
    length_of_languages: int,
    kept: tuple[str, ...],
) -> None:
    languages = " ".join(["en"] * (length_of_languages // 3))
    page = ask(browser, browser.authorize(client, nonce="n" * length_of_nonce, ui_locales=languages))
    mail = receive(site, mailbox)
    proof = proofs.find(site.server, stored_request(site).email_proof)
    assert proof
    query = proofs.content_of(site.server, proof).query
    assert tuple(name for name in ("client_id", "request_uri", "ui_locales") if name in query) == kept
    assert len(query) <= MAX_KEPT_QUERY
    assert enter(browser, page, mail.code).code
