"""/account/email: an address is confirmed by its user, changed, and changed back from the old one."""

from collections.abc import Callable
from html import unescape

import pytest

from chalicelib import events
from chalicelib.http.messages import Request
from chalicelib.mail import limits
from chalicelib.protocol.durations import DAY, HOUR
from chalicelib.protocol.identifiers import email_identifier, username_identifier
from chalicelib.protocol.records import User
from chalicelib.users import accounts, email_address
from tests.support.account import is_signed_in, sign_in_to_account
from tests.support.browser import Answer, Browser
from tests.support.faults import Wire, throttled
from tests.support.mail_flows import (
    ADDRESS,
    NEW_PASSWORD,
    ask,
    choose,
    open_link,
    receive,
    signs_in,
    verified_user,
)
from tests.support.mailbox import Mailbox, ReceivedMail
from tests.support.site import PASSWORD, Registered, Site, dump_tables
from tests.support.threads import run_concurrently

Browsers = Callable[..., Browser]
NEW = "alice@new.example"
UNCONFIRMED = "is not confirmed"


@pytest.fixture
def site(mail_site: Site) -> Site:
    return mail_site


@pytest.fixture
def browser(site: Site, browsers: Browsers) -> Browser:
    return browsers(site)


@pytest.fixture
def client(site: Site) -> Registered:
    return site.client(trusted=True, scope="openid email")


@pytest.fixture
def alice(site: Site, browser: Browser) -> User:
    """A user with an address that is not verified, signed in in `browser`."""
    user = site.user("alice", claims={"email": ADDRESS})
    sign_in_to_account(browser)
    return user


@pytest.fixture
def verified(site: Site, browser: Browser) -> User:
    """A user with a verified address, signed in in `browser`."""
    verified_user(site)
    sign_in_to_account(browser)
    return site.read_user()


def send_change(browser: Browser, address: str = NEW) -> Answer:
    """Ask for an email to an address on the account page; return the page that follows."""
    return browser.submit(browser.get("/account/email"), email=address, action="change_email")


def type_code(browser: Browser, page: Answer, code: str) -> Answer:
    """Type the code on the account page; return the page that follows."""
    return browser.submit(page, code=code, action="confirm_email")


def confirm_change(site: Site, browser: Browser, mailbox: Mailbox, address: str = NEW) -> None:
    """Change the address by the code."""
    page = send_change(browser, address)
    assert "is confirmed" in type_code(browser, page, receive(site, mailbox).code).body


def change(site: Site, browser: Browser, mailbox: Mailbox, address: str = NEW) -> ReceivedMail:
    """Change the address by the code; return the email to the old address."""
    confirm_change(site, browser, mailbox, address)
    return receive(site, mailbox)


def claims_of(site: Site) -> tuple[object, object]:
    claims = site.read_user().claims
    return claims.get("email"), claims.get("email_verified")


def identifiers(site: Site) -> set[str]:
    return {record.identifier for record in site.server.store.identifiers.scan()}


# ---- confirm


def test_address_is_verified_by_its_code_and_then_signs_in_and_is_told_to_applications(
    site: Site, browser: Browser, client: Registered, alice: User, mailbox: Mailbox
) -> None:
    assert UNCONFIRMED in browser.get("/account/email").body
    page = send_change(browser, ADDRESS)
    mail = receive(site, mailbox)
    assert mail.to == ADDRESS
    assert claims_of(site) == (ADDRESS, None)
    page = type_code(browser, page, mail.code)
    assert "Your email address is confirmed." in page.body
    assert claims_of(site) == (ADDRESS, True)
    answer = browser.redeem(client, browser.code(client, scope="openid email")).json
    assert browser.userinfo(answer["access_token"]).json["email_verified"] is True
    assert signs_in(browser, client, ADDRESS, PASSWORD)
    assert "Email address confirmed" in browser.get("/account/activity").body


def test_address_is_verified_by_the_link_in_any_browser_in_which_its_user_is_signed_in(
    site: Site, browser: Browser, browsers: Browsers, alice: User, mailbox: Mailbox
) -> None:
    send_change(browser)
    mail = receive(site, mailbox)
    phone = browsers(site)
    page = open_link(phone, mail)
    assert "Sign in to the account" in page.body
    assert 'href="/account/email">Sign in</a>' in page.body
    sign_in_to_account(phone)
    page = open_link(phone, mail)
    assert NEW in page.body
    assert claims_of(site) == (ADDRESS, None)
    assert "Your email address is confirmed." in phone.submit(page).body
    assert claims_of(site) == (NEW, True)
    assert "Your email address is confirmed" in open_link(browser, mail).body


def test_user_without_an_address_adds_one(site: Site, browser: Browser, mailbox: Mailbox) -> None:
    site.user("alice")
    sign_in_to_account(browser)
    assert "has no email address" in browser.get("/account/email").body
    confirm_change(site, browser, mailbox)
    assert mailbox.deliver(site) == []
    assert claims_of(site) == (NEW, True)


def test_address_is_stored_as_mail_is_sent_to_it_and_compared_without_case(
    site: Site, browser: Browser, client: Registered, alice: User, mailbox: Mailbox
) -> None:
    page = send_change(browser, "  Alice.B+x@BÜCHER.example ")
    mail = receive(site, mailbox)
    assert mail.to == "Alice.B+x@xn--bcher-kva.example"
    type_code(browser, page, mail.code)
    assert claims_of(site) == (mail.to, True)
    assert "email:alice.b+x@xn--bcher-kva.example" in identifiers(site)
    assert signs_in(browser, client, "alice.b+x@bücher.EXAMPLE", PASSWORD)
    assert not signs_in(browser, client, "aliceb+x@bücher.example", PASSWORD)


def scan(scanner: Browser, mail: ReceivedMail) -> None:
    """Open the link, and send its forms, as programs that read messages do."""
    scanner.request("HEAD", mail.link)
    for values in ({}, {}, {"code": "aaaaaaaa"}, {"code": ""}, {"email": "x@example.com"}):
        page = open_link(scanner, mail)
        assert page.status == 200
        if page.form.action:
            scanner.submit(page, None, **values)


def test_scanner_confirms_nothing_and_the_person_still_can(
    site: Site, browser: Browser, browsers: Browsers, alice: User, mailbox: Mailbox
) -> None:
    page = send_change(browser)
    mail = receive(site, mailbox)
    before = dump_tables()
    for _ in range(3):
        scan(browsers(site), mail)
    assert dump_tables() == before
    assert "is confirmed" in type_code(browser, page, mail.code).body


def test_another_user_cannot_confirm_a_forwarded_email(
    site: Site, browser: Browser, browsers: Browsers, alice: User, mailbox: Mailbox
) -> None:
    site.user("bob")
    send_change(browser)
    mail = receive(site, mailbox)
    bob = browsers(site)
    sign_in_to_account(bob, "bob")
    page = open_link(bob, mail)
    assert "This email is for another account" in page.body
    bobs = send_change(bob, "bob@example.com")
    tag = bobs.form.fields["tag"]
    form = {"tag": tag, "proof": mail_proof(site, alice), "code": mail.code, "action": "confirm_email"}
    answer = bob.post("/account/email", form, {"Sec-Fetch-Site": "same-origin"})
    assert "email_link_ended" in answer.body
    assert claims_of(site) == (ADDRESS, None)


def mail_proof(site: Site, user: User) -> str:
    (proof,) = (proof for proof in site.server.store.proofs.scan() if proof.sub == user.sub)
    return proof.proof_id


def test_link_sent_as_a_form_without_a_session_confirms_nothing(
    site: Site, browser: Browser, browsers: Browsers, alice: User, mailbox: Mailbox
) -> None:
    send_change(browser)
    mail = receive(site, mailbox)
    form = open_link(browser, mail).form.fields
    browser.cookies = {name: value for name, value in browser.cookies.items() if "session" not in name}
    answer = browser.post("/account/link", form, {"Sec-Fetch-Site": "same-origin"})
    assert "Sign in to the account" in answer.body
    assert claims_of(site) == (ADDRESS, None)


def test_form_of_another_browser_confirms_nothing(
    site: Site, browser: Browser, browsers: Browsers, alice: User, mailbox: Mailbox
) -> None:
    send_change(browser)
    mail = receive(site, mailbox)
    form = open_link(browser, mail).form.fields
    other = browsers(site)
    sign_in_to_account(other)
    answer = other.post("/account/link", form, {"Sec-Fetch-Site": "same-origin"})
    assert (answer.status, "press the button again" in answer.body) == (400, True)
    assert browser.post("/account/link", form, {"Sec-Fetch-Site": "cross-site"}).status == 400
    assert claims_of(site) == (ADDRESS, None)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("", "Enter an email address"),
        ("alice", "Enter an email address"),
        ("a b@example.com", "Enter an email address"),
        ("alice@example", "Enter an email address"),
        ("älice@example.com", "before the @"),
        ("x" * 65 + "@example.com", "Enter an email address"),
        ("a@" + "x." * 130 + "example", "address"),
        ("a@example.com\r\nBcc: b@example.com", "control character"),
        ("a@example.com\x00", "control character"),
        ("a@example.com,b@example.com", "Enter an email address"),
        ("<a@example.com>", "Enter an email address"),
        ('"a"@example.com', "Enter an email address"),
    ],
)
def test_text_that_is_no_address_gets_no_email(
    site: Site, browser: Browser, alice: User, mailbox: Mailbox, address: str, text: str
) -> None:
    answer = send_change(browser, address)
    assert (answer.status, text in unescape(answer.body)) == (400, True), answer.body
    assert mailbox.deliver(site) == []


def test_address_that_is_confirmed_already_gets_no_email(
    site: Site, browser: Browser, verified: User, mailbox: Mailbox
) -> None:
    assert "confirmed already" in send_change(browser, ADDRESS).body
    assert mailbox.deliver(site) == []


def test_wrong_and_late_and_superseded_codes_are_rejected(
    site: Site, browser: Browser, alice: User, mailbox: Mailbox
) -> None:
    first = send_change(browser)
    old = receive(site, mailbox)
    page = send_change(browser, ADDRESS)
    mail = receive(site, mailbox)
    assert type_code(browser, first, old.code).status == 400
    assert "This is not the code" in type_code(browser, page, old.code).body
    assert "This is not the code" in type_code(browser, page, "").body
    site.clock.advance(DAY)
    sign_in_to_account(browser)
    tag = browser.get("/account/email").form.fields["tag"]
    answer = browser.post(
        "/account/email", {**page.form.fields, "tag": tag, "code": mail.code, "action": "confirm_email"}, SAME
    )
    assert "email_link_ended" in answer.body
    assert 'href="/account/email">Try again' in answer.body
    assert claims_of(site) == (ADDRESS, None)


SAME = {"Sec-Fetch-Site": "same-origin"}


def test_session_that_is_not_recent_must_sign_in_again(
    site: Site, browser: Browser, alice: User, mailbox: Mailbox
) -> None:
    form = browser.get("/account/email").form.fields
    site.clock.advance(601)
    page = browser.get("/account/email")
    assert "sign in again" in page.body
    answer = browser.post("/account/email", {**form, "email": NEW, "action": "change_email"}, SAME)
    assert answer.status == 400
    assert mailbox.deliver(site) == []
    start = page.body.partition('class="button" href="')[2].partition('"')[0].replace("&amp;", "&")
    browser.sign_in(browser.get(start))
    assert "on its way" in send_change(browser).body


def test_server_without_a_sender_shows_the_address_and_whom_to_ask(
    site: Site, site_with: Callable[..., Site], browsers: Browsers
) -> None:
    site = site_with(support_url="https://support.example.com/")
    site.user("alice", claims={"email": ADDRESS})
    browser = browsers(site)
    sign_in_to_account(browser)
    page = browser.get("/account/email")
    assert ADDRESS in page.body
    assert "Ask support to change your address" in page.body
    assert "change_email" not in page.body
    form = {"tag": browser.get("/account/password").form.fields["tag"], "email": NEW, "action": "change_email"}
    assert browser.post("/account/email", form, SAME).status == 400
    assert list(site.server.store.proofs.scan()) == []


# ---- addresses of other users


def test_address_of_another_user_is_told_by_mail_only(
    site: Site, browser: Browser, alice: User, mailbox: Mailbox, wire: Wire
) -> None:
    verified_user(site, "bob", "bob@example.com")
    form = browser.get("/account/email")
    shapes, pages = [], []
    for address in ("free@example.com", "bob@example.com"):
        with wire.counted() as calls:
            answer = browser.send(form, email=address, action="change_email")
        shapes.append(calls)
        page = browser.follow(answer)
        pages.append(page.body.replace(address, "X").replace(page.form.fields["proof"], "P"))
    assert shapes[0] == shapes[1]
    assert pages[0] == pages[1]
    (mail,) = (mail for mail in mailbox.deliver(site) if mail.to == "bob@example.com")
    assert "Another account has it" in mail.text
    assert "account/link" not in mail.text
    from chalicelib.mail import proof_codes

    code = proof_codes.code_of(site.server, mail_proof(site, alice), "verify")
    assert "This is not the code" in type_code(browser, page, code).body
    assert claims_of(site) == (ADDRESS, None)


def test_username_of_another_user_that_is_an_address_cannot_be_taken(
    site: Site, browser: Browser, alice: User, mailbox: Mailbox
) -> None:
    site.user(NEW)
    send_change(browser)
    (mail,) = mailbox.deliver(site)
    assert "Another account has it" in mail.text


def test_two_users_who_confirm_one_address_at_once_have_one_winner(
    site: Site, browsers: Browsers, mailbox: Mailbox
) -> None:
    answers: list[tuple[Browser, Answer, str]] = []
    for name in ("bob", "carol"):
        site.user(name)
        browser = browsers(site)
        sign_in_to_account(browser, name)
        page = send_change(browser)
        answers.append((browser, page, receive(site, mailbox).code))
    done = run_concurrently(
        [
            lambda b=b, p=p, c=c: type_code(b, p, c).body  # type: ignore[misc]
            for b, p, c in answers
        ]
    )
    assert sorted("Your email address is confirmed." in body for body in done) == [False, True]
    (row,) = (row for row in site.server.store.identifiers.scan() if row.identifier == email_identifier(NEW))
    owners = [user.sub for user in site.server.store.users.scan() if user.claims.get("email_verified")]
    assert owners == [row.sub]


def test_unverified_address_signs_no_one_in(site: Site, browser: Browser, client: Registered, alice: User) -> None:
    assert not signs_in(browser, client, ADDRESS, PASSWORD)


# ---- change, and undo


def test_changed_address_replaces_the_old_one_which_is_told_without_the_whole_new_one(
    site: Site, browser: Browser, client: Registered, verified: User, mailbox: Mailbox
) -> None:
    notice = change(site, browser, mailbox)
    assert notice.to == ADDRESS
    assert "a•••@new.example" in notice.text
    assert NEW not in notice.text
    assert signs_in(browser, client, NEW, PASSWORD)
    assert not signs_in(browser, client, ADDRESS, PASSWORD)
    assert identifiers(site) == {"username:alice", f"email:{NEW}"}
    (event,) = [each for each in site.server.store.events.scan() if each.name == events.EMAIL_CHANGED]
    assert event.detail == "a•••@new.example", "the history does not keep it longer than the account does"


def undo(browser: Browser, mail: ReceivedMail) -> Answer:
    """Open the link of the email to the old address, type its code, and press the button."""
    page = open_link(browser, mail)
    page = browser.submit(page, code=mail.code)
    assert page.status == 200, page.body
    return browser.submit(page)


def test_old_address_undoes_the_change_for_72_hours_and_ends_the_sessions_and_grants(
    site: Site, browser: Browser, browsers: Browsers, client: Registered, verified: User, mailbox: Mailbox
) -> None:
    """The thief has changed the address in her session. She has nothing but her mailbox."""
    trusted = site.client(trusted=True)
    tokens = browser.tokens(trusted, scope="openid offline_access")
    notice = change(site, browser, mailbox)
    site.clock.advance(3 * DAY - 1)
    owner = browsers(site)
    done = undo(owner, notice)
    assert "Your account has the address" in done.body
    assert 'href="/account/recover">Choose a new password' in done.body
    assert claims_of(site) == (ADDRESS, True)
    assert not is_signed_in(browser)
    assert browser.refresh(trusted, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert identifiers(site) == {"username:alice", f"email:{ADDRESS}"}
    ask(owner)
    assert "Your password is changed" in choose(owner, open_link(owner, receive(site, mailbox))).body
    assert signs_in(owner, client, ADDRESS, NEW_PASSWORD)


def test_undo_ends_after_72_hours(
    site: Site, browser: Browser, browsers: Browsers, verified: User, mailbox: Mailbox
) -> None:
    notice = change(site, browser, mailbox)
    site.clock.advance(3 * DAY)
    assert "email_link_ended" in open_link(browsers(site), notice).body


def test_scanner_undoes_nothing_and_the_person_still_can(
    site: Site, browser: Browser, browsers: Browsers, verified: User, mailbox: Mailbox
) -> None:
    notice = change(site, browser, mailbox)
    scan(browsers(site), notice)
    assert claims_of(site) == (NEW, True)
    assert "is changed back" in undo(browsers(site), notice).body


def test_undo_of_the_first_change_ends_the_undo_of_the_later_ones(
    site: Site, browser: Browser, browsers: Browsers, verified: User, mailbox: Mailbox
) -> None:
    """A thief changes the address twice: the undo that goes to the thief's first address must not win."""
    first = change(site, browser, mailbox)
    second = change(site, browser, mailbox, "thief@example.com")
    assert (first.to, second.to) == (ADDRESS, NEW)
    thief = browsers(site)
    opened = thief.submit(open_link(thief, second), code=second.code)
    undo(browsers(site), first)
    assert claims_of(site) == (ADDRESS, True)
    assert "email_link_ended" in thief.submit(opened).body
    assert "email_link_ended" in open_link(thief, second).body or "Enter the code" in open_link(thief, second).body
    assert claims_of(site) == (ADDRESS, True)


def test_undo_of_a_later_change_does_not_end_that_of_the_first(
    site: Site, browser: Browser, browsers: Browsers, verified: User, mailbox: Mailbox
) -> None:
    first = change(site, browser, mailbox)
    second = change(site, browser, mailbox, "thief@example.com")
    undo(browsers(site), second)
    assert claims_of(site) == (NEW, True)
    undo(browsers(site), first)
    assert claims_of(site) == (ADDRESS, True)


def test_change_after_an_undo_can_be_undone_too(
    site: Site, browser: Browser, browsers: Browsers, verified: User, mailbox: Mailbox
) -> None:
    first = change(site, browser, mailbox)
    undo(browsers(site), first)
    sign_in_to_account(browser)
    second = change(site, browser, mailbox, "third@example.com")
    assert second.to == ADDRESS
    undo(browsers(site), second)
    assert claims_of(site) == (ADDRESS, True)


def test_button_of_an_undo_pressed_twice_undoes_once(
    site: Site, browser: Browser, browsers: Browsers, verified: User, mailbox: Mailbox
) -> None:
    notice = change(site, browser, mailbox)
    owner = browsers(site)
    page = owner.submit(open_link(owner, notice), code=notice.code)
    assert owner.submit(page).body == owner.submit(page).body
    names = [event.name for event in site.server.store.events.scan()]
    assert names.count(events.EMAIL_CHANGE_UNDONE) == 1


def test_undo_is_refused_once_another_user_has_the_address(
    site: Site, browser: Browser, browsers: Browsers, verified: User, mailbox: Mailbox
) -> None:
    notice = change(site, browser, mailbox)
    verified_user(site, "bob", ADDRESS)
    owner = browsers(site)
    page = owner.submit(open_link(owner, notice), code=notice.code)
    answer = owner.submit(page)
    assert (answer.status, "another account has it" in answer.body) == (400, True)
    assert claims_of(site) == (NEW, True)


def test_code_of_a_confirmation_ends_with_the_sessions_of_an_undo(
    site: Site, browser: Browser, browsers: Browsers, verified: User, mailbox: Mailbox
) -> None:
    notice = change(site, browser, mailbox)
    page = send_change(browser, "thief@example.com")
    mail = receive(site, mailbox)
    undo(browsers(site), notice)
    answer = type_code(browser, page, mail.code)
    assert answer.form.fields.get("username") is not None, "the sign-in page"
    assert claims_of(site) == (ADDRESS, True)


# ---- identifiers


def test_operator_who_verifies_an_address_lets_it_sign_in(site: Site, browser: Browser, client: Registered) -> None:
    user = email_address.mark_verified(site.server.store, site.user("alice", claims={"email": ADDRESS}))
    assert user.claims["email_verified"] is True
    assert signs_in(browser, client, ADDRESS, PASSWORD)
    other = site.user("bob", claims={"email": ADDRESS})
    with pytest.raises(ValueError, match="belongs to another user"):
        email_address.mark_verified(site.server.store, other)
    with pytest.raises(ValueError, match="no email address"):
        email_address.mark_verified(site.server.store, site.user("carol"))
    with pytest.raises(ValueError, match="belongs to another user"):
        email_address.mark_verified(site.server.store, other, "ALICE@example.com")


def test_operator_who_changes_an_address_removes_its_identifier(site: Site) -> None:
    verified_user(site)
    store, now = site.server.store, site.clock()
    accounts.update(store, site.read_user(), lambda user: accounts.with_claims(user, {"email": NEW}, now))
    assert identifiers(site) == {"username:alice"}


def test_deleted_user_leaves_no_identifier(site: Site) -> None:
    verified_user(site)
    accounts.delete(site.server.store, site.read_user())
    assert identifiers(site) == set()


def test_two_users_cannot_be_created_with_one_verified_address(site: Site) -> None:
    verified_user(site)
    with pytest.raises(ValueError, match="email address belongs to another user"):
        verified_user(site, "bob", ADDRESS.upper())
    assert identifiers(site) == {"username:alice", f"email:{ADDRESS}"}


def test_username_wins_over_the_address_of_another_user(site: Site, browser: Browser, client: Registered) -> None:
    """The operator may have given a username that looks like an address before its owner verified it."""
    verified_user(site)
    site.user("bob", password="the password of bob")
    store = site.server.store
    bob = site.read_user("bob")
    store.identifiers.put(store.identifiers._record(username_identifier(ADDRESS), bob.sub))
    assert signs_in(browser, client, ADDRESS, "the password of bob")
    assert not signs_in(browser, client, ADDRESS, PASSWORD)


def test_failures_count_for_the_account_whichever_name_is_typed(
    site: Site, browsers: Browsers, client: Registered
) -> None:
    verified_user(site)
    browser = browsers(site)
    for number in range(site.settings.sign_in_attempts):
        name = "alice" if number % 2 else ADDRESS
        assert browser.sign_in(browser.authorize(client), name, "wrong").status == 400
    assert browser.sign_in(browser.authorize(client), ADDRESS, PASSWORD).status == 429


def test_unknown_address_costs_the_same_calls_as_a_known_one(
    site: Site, browsers: Browsers, client: Registered, wire: Wire
) -> None:
    verified_user(site)
    shapes = []
    for name in (ADDRESS, "nobody@example.com"):
        browser = browsers(site)
        page = browser.authorize(client)
        with wire.counted() as calls:
            browser.send(page, username=name, password="wrong")
        shapes.append(calls)
    assert shapes[0] == shapes[1]


def test_code_sent_twice_confirms_once(
    site: Site, browser: Browser, browsers: Browsers, alice: User, mailbox: Mailbox, wire: Wire
) -> None:
    page = send_change(browser)
    mail, tab = receive(site, mailbox), browsers(tab_of=browser)
    with wire.before("TransactWriteItems", lambda: type_code(tab, page, mail.code)):
        assert "Your email address is confirmed." in type_code(browser, page, mail.code).body
    assert "Your email address is confirmed." in type_code(browser, page, mail.code).body
    names = [event.name for event in site.server.store.events.scan()]
    assert names.count(events.EMAIL_CHANGED) == 1


def test_button_of_the_link_pressed_twice_at_once_confirms_once(
    site: Site, browser: Browser, browsers: Browsers, alice: User, mailbox: Mailbox, wire: Wire
) -> None:
    send_change(browser)
    page = open_link(browser, receive(site, mailbox))
    tab = browsers(tab_of=browser)
    with wire.before("TransactWriteItems", lambda: tab.submit(page)):
        assert "Your email address is confirmed." in browser.submit(page).body
    assert claims_of(site) == (NEW, True)


def test_undo_pressed_twice_at_once_undoes_once(
    site: Site, browser: Browser, browsers: Browsers, verified: User, mailbox: Mailbox, wire: Wire
) -> None:
    notice = change(site, browser, mailbox)
    owner = browsers(site)
    page = owner.submit(open_link(owner, notice), code=notice.code)
    tab = browsers(tab_of=owner)
    with wire.before("TransactWriteItems", lambda: tab.submit(page)):
        assert "is changed back" in owner.submit(page).body
    assert claims_of(site) == (ADDRESS, True)


# ---- faults


def test_unavailable_database_changes_nothing_and_the_code_works_afterwards(
    site: Site, browser: Browser, alice: User, mailbox: Mailbox, wire: Wire
) -> None:
    form = browser.get("/account/email")
    for skip in range(2):
        with wire.fault_in("TransactWriteItems", throttled, skip=skip):
            assert browser.send(form, email=NEW, action="change_email").status == 503
    page = browser.submit(form, email=NEW, action="change_email")
    mail = receive(site, mailbox)
    with wire.fault_in("UpdateItem", throttled):
        assert browser.send(page, code=mail.code, action="confirm_email").status == 503
    with wire.fault_in("TransactWriteItems", throttled):
        assert browser.send(page, code=mail.code, action="confirm_email").status == 503
    assert claims_of(site) == (ADDRESS, None)
    assert "is confirmed" in type_code(browser, page, mail.code).body


def test_user_who_is_changed_at_the_same_moment_keeps_both_changes(
    site: Site, browser: Browser, alice: User, mailbox: Mailbox, wire: Wire
) -> None:
    page = send_change(browser)
    mail = receive(site, mailbox)

    def rename() -> None:
        now = site.clock()
        accounts.update(
            site.server.store, site.read_user(), lambda user: accounts.with_claims(user, {"nickname": "Al"}, now)
        )

    with wire.before("TransactWriteItems", rename):
        assert "is confirmed" in type_code(browser, page, mail.code).body
    assert site.read_user().claims["nickname"] == "Al"


def test_caller_beyond_twenty_emails_in_an_hour_is_told_before_a_proof_is_written(
    site: Site, browser: Browser, alice: User
) -> None:
    site.clock.advance(HOUR - site.clock() % HOUR)
    browser.cookies = {name: value for name, value in browser.cookies.items() if "session" not in name}
    sign_in_to_account(browser)
    for number in range(20):
        limits.admit(site.server, Request("POST", "/", source_ip="127.0.0.1"), f"email:user{number}@example.com")
    page = browser.get("/account/email")
    before = dump_tables()
    answer = browser.submit(page, email=NEW, action="change_email")
    assert (answer.status, answer.header("retry-after")) == (429, str(HOUR))
    assert "Too many emails were asked for from your network." in answer.body
    assert dump_tables() == before
