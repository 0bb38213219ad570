"""Mails that tell users what happened to their account, and the one that restores a deleted account."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from chalicelib import events
from chalicelib.keys import rotation
from chalicelib.mail import proof_codes
from chalicelib.protocol.durations import DAY, MINUTE
from chalicelib.protocol.outgoing_mail import MAIL_OUTBOX
from chalicelib.protocol.proof import RESTORE, Proof
from chalicelib.users import accounts, deletion
from tests.endpoints.second_factor.test_setup import PATH, press, set_up
from tests.support.account import sign_in_to_account, submit_action
from tests.support.authenticator import Authenticator, add_passkey, passkey_site, post_passkeys
from tests.support.browser import Answer, Browser
from tests.support.faults import Wire
from tests.support.mail_flows import ADDRESS, NEW_PASSWORD, open_link, verified_user
from tests.support.mailbox import SENDER, Mailbox, ReceivedMail
from tests.support.operator import RunCommand
from tests.support.second_factor import Authenticator as Phone
from tests.support.second_factor import add_second_factor, enter_password
from tests.support.site import PASSWORD, Site

Browsers = Callable[..., Browser]
NEW = {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}


@dataclass(frozen=True)
class Scene:
    """A server with a sender, alice with a verified address, a browser without a session, the operator's commands."""

    site: Site
    browser: Browser
    run: RunCommand

    def command(self, *arguments: str) -> None:
        result = self.run(*arguments)
        assert result.code == 0, result.err

    def sign_in(self) -> Browser:
        sign_in_to_account(self.browser)
        return self.browser

    def mails(self) -> int:
        return len([each for each in self.site.server.store.mails.scan() if each.outbox == MAIL_OUTBOX])


@pytest.fixture
def site(site_with: Callable[..., Site], mailbox: Mailbox) -> Site:
    """A server with a sender, at http://localhost, where passkeys are possible."""
    return passkey_site(site_with, email_from=SENDER)


@pytest.fixture
def scene(site: Site, browsers: Browsers, run_command: RunCommand) -> Scene:
    verified_user(site)
    site.secrets.add(NEW_PASSWORD)
    return Scene(site, browsers(site), run_command)


def deliver(scene: Scene, mailbox: Mailbox) -> list[ReceivedMail]:
    """Deliver the mails; those of commands too, whose clock is the real one."""
    scene.site.clock.advance(2 * MINUTE)
    return sorted(mailbox.deliver(scene.site), key=lambda mail: mail.subject)


# ---- what happens to an account


def change_password(scene: Scene) -> None:
    assert submit_action(scene.sign_in(), "change_password", password=PASSWORD, **NEW).status == 303


def change_required_password(scene: Scene) -> None:
    store, browser = scene.site.server.store, scene.browser
    store.users.put(replace(scene.site.read_user(), password_change_required=True))
    page = browser.sign_in(browser.authorize(scene.site.client(trusted=True)))
    assert browser.submit(page, None, **NEW).code


def set_password(scene: Scene) -> None:
    scene.command("user", "set-password", "alice", "--yes")


def sign_in_with_recovery_code(scene: Scene) -> None:
    phone = add_second_factor(scene.site)
    page = enter_password(scene.browser, scene.site.client(trusted=True))
    assert scene.browser.submit(page, recovery_code=phone.recovery_codes[0]).code


def turn_second_factor_on(scene: Scene) -> None:
    set_up(scene.site, scene.sign_in())


def second_factor(scene: Scene) -> Phone:
    """Turn the second factor on in a browser that is signed in, and forget the mail about it."""
    phone = set_up(scene.site, scene.sign_in())
    clear(scene)
    return phone


def turn_second_factor_off(scene: Scene) -> None:
    phone, browser = second_factor(scene), scene.browser
    press(browser, browser.get(PATH), "turn_off", one_time_code=phone.code(1))
    assert not scene.site.read_user().has_second_factor


def turn_second_factor_off_with_recovery_code(scene: Scene) -> None:
    phone, browser = second_factor(scene), scene.browser
    press(browser, browser.get(PATH), "turn_off", recovery_code=phone.recovery_codes[0])
    assert not scene.site.read_user().has_second_factor


def replace_recovery_codes(scene: Scene) -> None:
    phone, browser = second_factor(scene), scene.browser
    page = press(browser, browser.get(PATH), "new_codes", one_time_code=phone.code(1))
    codes = re.search(r'<pre id="codes"[^>]*>([^<]*)</pre>', page.body)
    assert codes, page.body
    scene.site.secrets.update(codes[1].split())


def reset_second_factor(scene: Scene) -> None:
    add_second_factor(scene.site)
    scene.command("user", "mfa", "reset", "alice", "--yes")


def add_a_passkey(scene: Scene) -> None:
    assert add_passkey(scene.sign_in(), Authenticator(scene.site.settings.issuer)).status == 303


def remove_passkey(scene: Scene) -> None:
    add_a_passkey(scene)
    clear(scene)
    (passkey,) = scene.site.server.store.passkeys.scan()
    assert post_passkeys(scene.browser, "remove", passkey_id=passkey.passkey_id).status == 303


def remove_all_passkeys(scene: Scene) -> None:
    add_a_passkey(scene)
    assert add_passkey(scene.browser, Authenticator(scene.site.settings.issuer)).status == 303
    clear(scene)
    scene.command("user", "passkey", "remove", "alice", "--all", "--yes")


def delete_account(scene: Scene) -> Answer:
    browser = scene.sign_in()
    page = browser.submit(browser.get("/account/delete"), action="delete", password=PASSWORD)
    assert scene.site.read_user().deleted_at is not None
    return page


def restore_account(scene: Scene) -> None:
    page = delete_account(scene)
    clear(scene)
    scene.browser.submit(page)
    assert scene.site.read_user().deleted_at is None


def restore_by_operator(scene: Scene) -> None:
    delete_account(scene)
    clear(scene)
    scene.command("user", "restore", "alice")


def clear(scene: Scene) -> None:
    """Forget the mails about what came before."""
    for mail in scene.site.server.store.mails.scan():
        scene.site.server.store.mails.delete(mail.delivery_id)


CHANGED, USED = "Your password was changed", "A recovery code was used"
ON, OFF = "Two-step sign-in is on", "Two-step sign-in is off"
ACTIONS: list[tuple[Callable[[Scene], object], tuple[str, ...]]] = [
    (change_password, (CHANGED,)),
    (change_required_password, (CHANGED,)),
    (set_password, (CHANGED,)),
    (sign_in_with_recovery_code, (USED,)),
    (turn_second_factor_on, (ON,)),
    (turn_second_factor_off, (OFF,)),
    (turn_second_factor_off_with_recovery_code, (USED, OFF)),
    (replace_recovery_codes, ("New recovery codes",)),
    (reset_second_factor, (OFF,)),
    (add_a_passkey, ("A passkey was added",)),
    (remove_passkey, ("A passkey was removed",)),
    (remove_all_passkeys, ("A passkey was removed",)),
    (delete_account, ("Your account will be deleted",)),
    (restore_account, ("Your account is restored",)),
    (restore_by_operator, ("Your account is restored",)),
]
NAMES = [action.__name__ for action, _ in ACTIONS]


@pytest.mark.parametrize(("act", "subjects"), ACTIONS, ids=NAMES)
def test_user_is_told_by_mail(
    scene: Scene, mailbox: Mailbox, act: Callable[[Scene], object], subjects: tuple[str, ...]
) -> None:
    act(scene)
    mails = deliver(scene, mailbox)
    assert [mail.subject for mail in mails] == [f"{subject} · Signet" for subject in subjects]
    for mail in mails:
        assert mail.to == ADDRESS
        assert "alice" in mail.text
        assert mail.link.startswith(f"{scene.site.settings.issuer}/account")
    assert scene.mails() == 0


@pytest.mark.parametrize("act", [action for action, _ in ACTIONS], ids=NAMES)
def test_address_that_is_not_verified_is_not_told(scene: Scene, act: Callable[[Scene], object]) -> None:
    user = scene.site.read_user()
    scene.site.server.store.users.put(replace(user, claims={"email": ADDRESS}))
    act(scene)
    assert scene.mails() == 0


@pytest.mark.parametrize("act", [change_password, turn_second_factor_on, add_a_passkey, delete_account])
def test_server_without_a_sender_stores_no_mail(
    scene: Scene, site_with: Callable[..., Site], browsers: Browsers, act: Callable[[Scene], object]
) -> None:
    silent = passkey_site(site_with)
    act(Scene(silent, browsers(silent), scene.run))
    assert scene.mails() == 0
    assert list(silent.server.store.proofs.scan()) == []


def test_what_is_refused_is_not_told(scene: Scene) -> None:
    second_factor(scene)
    browser = scene.browser
    assert submit_action(browser, "change_password", password="wrong password", **NEW).status == 400
    press(browser, browser.get(PATH), "turn_off", one_time_code="000000")
    assert scene.site.read_user().has_second_factor
    assert scene.mails() == 0


def test_mail_is_stored_in_the_transaction_of_the_change(scene: Scene, wire: Wire) -> None:
    browser = scene.sign_in()
    form = {"action": "change_password", "password": PASSWORD, **NEW}
    form["tag"] = browser.get("/account/password").form.fields["tag"]
    with wire.counted() as calls:
        browser.post("/account", form, {"Sec-Fetch-Site": "same-origin"})
    assert calls.count("TransactWriteItems") == 2, "the attempt is counted, then everything is one transaction"
    assert "PutItem" not in calls
    browser.post("/account", form, {"Sec-Fetch-Site": "same-origin"})
    assert scene.mails() == 1, "the same form, sent twice, is told once"


# ---- the mail that restores an account


def proof_of(scene: Scene) -> Proof:
    (proof,) = (proof for proof in scene.site.server.store.proofs.scan() if proof.purpose == RESTORE)
    return proof


@pytest.fixture
def mail(scene: Scene, mailbox: Mailbox) -> ReceivedMail:
    """The mail that alice has got after she has deleted her account, and its browser has no session any longer."""
    delete_account(scene)
    scene.browser.cookies.clear()
    (received,) = deliver(scene, mailbox)
    return received


def test_deleted_account_is_restored_by_the_mail_in_any_browser(
    scene: Scene, mail: ReceivedMail, mailbox: Mailbox, browsers: Browsers
) -> None:
    site, other, deleted = scene.site, browsers(scene.site), scene.site.read_user()
    assert "in 14 days" in mail.text
    assert mail.link.startswith(f"{site.settings.issuer}/account/link?link=em_")
    site.clock.advance(13 * DAY)
    page = open_link(other, mail)
    assert "was deleted. With the code" in page.body
    assert "alice" not in page.body, "the page of the link tells who has the link no name"
    page = other.submit(page, code=mail.code)
    assert "Restore your account?" in page.body
    assert site.read_user() == deleted, "nothing is changed before the button is pressed"
    answer = other.send(page)
    assert answer.status == 303
    assert "Your account is restored" in other.follow(answer).body
    assert other.send(page).status == 303, "pressed twice"
    user = site.read_user()
    assert user == replace(deleted, deleted_at=None, deletion_due_at=None)
    names = [event.name for event in site.server.store.events.find("sub", user.sub)]
    assert names.count(events.ACCOUNT_RESTORED) == 1
    assert [notice.subject for notice in deliver(scene, mailbox)] == ["Your account is restored · Signet"]
    assert sign_in_to_account(other).status == 200, "it signs in no one"


def test_programs_that_open_the_link_and_send_its_forms_restore_nothing(
    scene: Scene, mail: ReceivedMail, browsers: Browsers
) -> None:
    program = browsers(scene.site)
    page = open_link(program, mail)
    for _ in range(3):
        page = program.submit(page, code="")
    assert scene.site.read_user().deleted_at is not None
    assert proof_of(scene).spent_at is None
    person = browsers(scene.site)
    person.submit(person.submit(open_link(person, mail), code=mail.code))
    assert scene.site.read_user().deleted_at is None


def restored_otherwise(scene: Scene) -> None:
    deletion.restore(scene.site.server.store, scene.site.read_user().sub)


def deleted_again(scene: Scene) -> None:
    restored_otherwise(scene)
    scene.site.clock.advance(1)
    delete_account(scene)


def disabled(scene: Scene) -> None:
    accounts.disable(scene.site.server.store, scene.site.read_user())


def due(scene: Scene) -> None:
    scene.site.clock.advance(14 * DAY)


@pytest.mark.parametrize("end", [restored_otherwise, deleted_again, disabled, due])
def test_link_ends_when_the_account_cannot_be_restored_by_it(
    scene: Scene, mail: ReceivedMail, browsers: Browsers, end: Callable[[Scene], None]
) -> None:
    browser = browsers(scene.site)
    page = browser.submit(open_link(browser, mail), code=mail.code)
    assert "Restore your account?" in page.body
    end(scene)
    before = scene.site.read_user()
    answer = browser.send(page)
    if answer.status == 303:
        answer = browser.follow(answer)
    assert answer.status == 400
    assert "The link or the code has expired" in answer.body
    assert open_link(browser, mail).status == 400
    assert scene.site.read_user() == before


def test_restoration_is_refused_when_the_proof_is_spent_in_between(
    scene: Scene, mail: ReceivedMail, browsers: Browsers
) -> None:
    browser = browsers(scene.site)
    page = browser.submit(open_link(browser, mail), code=mail.code)
    store, proof = scene.site.server.store, proof_of(scene)
    store.proofs.put(replace(proof, browser_id="another browser"))
    assert "enter the code" in browser.submit(page).body.lower(), "only the last browser that typed it may use it"
    assert scene.site.read_user().deleted_at is not None


def test_account_that_is_removed_at_once_gets_a_mail_without_a_link_that_restores_it(
    site: Site, browsers: Browsers, mailbox: Mailbox
) -> None:
    object.__setattr__(site.server, "settings", replace(site.server.settings, deletion_grace_days=0))
    object.__setattr__(site.server.store, "settings", site.server.settings)
    verified_user(site)
    browser = browsers(site)
    sign_in_to_account(browser)
    browser.submit(browser.get("/account/delete"), action="delete", password=PASSWORD)
    assert list(site.server.store.users.scan()) == []
    (received,) = mailbox.deliver(site)
    assert received.subject == "Your account was deleted · Signet"
    assert received.link == f"{site.settings.issuer}/account"
    assert list(site.server.store.proofs.scan()) == []


@pytest.mark.usefixtures("restore_key_ring")
def test_key_of_the_link_is_kept_for_as_long_as_the_account_can_be_restored(site_with: Callable[..., Site]) -> None:
    short = {"refresh_token_absolute_lifetime": 3600, "session_absolute_lifetime": 3600}
    site = site_with(deletion_grace_days=300, **short)
    ring = site.server.keys
    link = proof_codes.link_handle(site.server, f"{RESTORE}.x.y")
    rotation.rotate(ring, site.clock())
    site.clock.advance(DAY + 300 * DAY - 1)
    retired = rotation.retire(ring, site.settings, site.clock())
    assert not [name for name in retired if name.startswith("handles")]
    assert proof_codes.read_link(site.server, link)
    site.clock.advance(1)
    assert [name for name in rotation.retire(ring, site.settings, site.clock()) if name.startswith("handles")]
