"""An authenticator application of the tests, which computes its codes itself (RFC 6238), and users who have one."""

import base64
import hmac
from dataclasses import dataclass, replace

from chalicelib.authentication import recovery_codes, totp
from tests.support.browser import Answer, Browser
from tests.support.site import PASSWORD, Registered, Site

REFEDS = "https://refeds.org/profile/mfa"
PASSWORD_ONLY = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"
SECRET = b"12345678901234567890"  # RFC 4226 appendix D


def hotp(secret: bytes, counter: int, digits: int = 6) -> str:
    """Return the one-time password for a counter (RFC 4226 section 5.3)."""
    mac = hmac.digest(secret, counter.to_bytes(8, "big"), "sha1")
    offset = mac[-1] & 15
    return f"{(int.from_bytes(mac[offset : offset + 4], 'big') & 0x7FFFFFFF) % 10**digits:0{digits}}"


@dataclass(frozen=True)
class Authenticator:
    """The application on a user's phone, with the recovery codes that the user has saved."""

    site: Site
    secret: bytes = SECRET
    recovery_codes: tuple[str, ...] = ()

    def code(self, steps: int = 0) -> str:
        """Return the code of now, or of so many steps later."""
        return hotp(self.secret, self.site.clock() // 30 + steps)

    @classmethod
    def of_text(cls, site: Site, text: str) -> "Authenticator":
        """Return the application into which a user has entered the secret as text."""
        site.secrets.add(text.replace(" ", ""))
        return cls(site, base64.b32decode(text.replace(" ", "")))


def add_second_factor(site: Site, username: str = "alice", secret: bytes = SECRET) -> Authenticator:
    """Turn the second factor of a user on, without the pages."""
    keys, store, user = site.server.keys, site.server.store, site.read_user(username)
    batch = recovery_codes.new_batch(site.clock(), "")
    changed = replace(
        user,
        totp_secret=totp.seal(keys, user.sub, secret),
        totp_confirmed_at=site.clock(),
        totp_generation=1,
        recovery_codes=recovery_codes.digests(keys, user.sub, batch),
    )
    store.users.put(changed)
    codes = tuple(recovery_codes.codes_of(keys, user.sub, batch))
    site.secrets.update((totp.as_text(secret), *codes))
    return Authenticator(site, secret, codes)


def enter_password(browser: Browser, client: Registered, username: str = "alice", **parameters: str) -> Answer:
    """Send the right password of a user; return the page that follows."""
    return browser.sign_in(browser.follow(browser.authorize(client, **parameters)), username, PASSWORD)


def is_code_page(page: Answer) -> bool:
    """Return whether a page asks for the code of the second factor, or a recovery code."""
    return page.status in (200, 400, 429) and "recovery_code" in page.form.fields


def sign_in_with_code(browser: Browser, client: Registered, phone: Authenticator, **parameters: str) -> Answer:
    """Enter the password and the code; return what follows."""
    page = enter_password(browser, client, **parameters)
    assert is_code_page(page), page.body
    return browser.submit(page, one_time_code=phone.code())
