"""Flows with mails: ask for one, read it, type its code, open its link."""

from dataclasses import replace
from urllib.parse import urlsplit

from chalicelib.protocol.durations import DAY
from tests.support.browser import Answer, Browser
from tests.support.mailbox import Mailbox, ReceivedMail
from tests.support.site import Registered, Site
from tests.support.user_changes import disable

ADDRESS = "alice@example.com"
NEW_PASSWORD = "seven green bicycles sing"
VERIFIED = {"email": ADDRESS, "email_verified": True}
# Names for which no email is sent, once there are the users of `create_users_without_mail`.
WITHOUT_MAIL = {
    "an unknown username": "nobody",
    "an unknown address": "nobody@example.com",
    "a user without an address": "bob",
    "a user whose address is not verified": "carol",
    "an address that is not verified": "carol@example.com",
    "a disabled user": "dave",
    "an account that the schedule is about to remove": "grace",
    "something that is no address": "a b@c d",
    "a text that is too long": "x" * 321,
}


def verified_user(site: Site, username: str = "alice", address: str = ADDRESS) -> None:
    """Create a user whose address is verified."""
    site.user(username, claims={"email": address, "email_verified": True})


def create_users_without_mail(site: Site) -> None:
    """Create a user for each name in WITHOUT_MAIL that is one's."""
    site.user("bob")
    site.user("carol", claims={"email": "carol@example.com"})
    verified_user(site, "dave", "dave@example.com")
    disable(site, site.read_user("dave"))
    verified_user(site, "grace", "grace@example.com")
    now = site.clock.time
    site.server.store.users.put(replace(site.read_user("grace"), deleted_at=now - DAY, deletion_due_at=now))


def mask_ids(body: str) -> str:
    """Return a page without the values of its hidden fields."""
    parts = body.split('value="')
    return parts[0] + "".join(part.partition('"')[2] for part in parts[1:])


def open_recovery(browser: Browser, client: Registered) -> Answer:
    """Open the sign-in page of a client, and follow its link "Forgot your password?"."""
    return browser.get(link_in(browser.authorize(client), "/account/recover"))


def link_in(page: Answer, path: str) -> str:
    """Return the address of the link on a page that begins with this path."""
    start = page.body.index(f'href="{path}') + len('href="')
    return page.body[start : page.body.index('"', start)].replace("&amp;", "&")


def ask(browser: Browser, username: str = "alice") -> Answer:
    """Ask for a mail at /account/recover; return the page that asks for its code."""
    return browser.submit(browser.get("/account/recover"), username=username)


def receive(site: Site, mailbox: Mailbox) -> ReceivedMail:
    """Deliver the only mail that is due, and return it as its reader sees it."""
    (mail,) = mailbox.deliver(site)
    return note_secrets(site, mail)


def note_secrets(site: Site, mail: ReceivedMail) -> ReceivedMail:
    """Let the leak test search for the code and the link of a mail."""
    if "link=" in mail.link:
        site.secrets |= {mail.code, mail.link.partition("link=")[2]}
    return mail


def open_link(browser: Browser, mail: ReceivedMail) -> Answer:
    """Open the link of a mail in a browser."""
    parts = urlsplit(mail.link)
    return browser.get(f"{parts.path}?{parts.query}")


def choose(browser: Browser, page: Answer, password: str = NEW_PASSWORD) -> Answer:
    """Send the form with a new password; return the page that follows."""
    return browser.follow(send_choice(browser, page, password))


def send_choice(browser: Browser, page: Answer, password: str) -> Answer:
    """Send the form with a new password."""
    return browser.send(page, new_password=password, new_password_again=password)


def signs_in(browser: Browser, client: Registered, username: str, password: str) -> bool:
    """Return whether this username and password sign a user in, in a browser that may have a session."""
    answer = browser.send(browser.authorize(client, prompt="login"), username=username, password=password)
    return "session" in " ".join(value for name, value in answer.headers if name.lower() == "set-cookie")
