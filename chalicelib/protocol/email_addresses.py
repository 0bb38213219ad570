"""Email addresses: which ones mail can be sent to, and when two are the same.

The syntax is that of the HTML standard (https://html.spec.whatwg.org/multipage/input.html#valid-e-mail-address), which
browsers check too, and a domain may also be an internationalized one (RFC 5890).
"""

import re
import unicodedata

from chalicelib.protocol.texts import Text

MAX_LENGTH = 254  # RFC 3696, erratum 1690
_MAX_LOCAL = 64  # RFC 5321 section 4.5.3.1.1
_LOCAL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")
# Two standards of internationalized domains read these differently: a mail could go to another domain.
_AMBIGUOUS = re.compile("[ßςẞ\u200c\u200d]")


def sendable(address: str) -> str:
    """Return an address as mail is sent to it: its domain in ASCII and lower case, the rest unchanged.

    Raises ValueError, with a sentence for users, when no mail can be sent to it.
    """
    text = unicodedata.normalize("NFC", address.strip(" "))
    local, at, domain = text.rpartition("@")
    if not (at and local and domain):
        raise ValueError(Text("Enter an email address such as alice@example.com."))
    if not local.isascii():
        raise ValueError(Text("Mail cannot be sent to an address with such letters before the @. Use another address."))
    if _AMBIGUOUS.search(domain):
        raise ValueError(Text("Enter the domain of the address in its form for computers, which starts with xn--."))
    domain = _ascii(domain)
    dots_fit = not local.startswith(".") and not local.endswith(".") and ".." not in local
    if not (_LOCAL.fullmatch(local) and len(local) <= _MAX_LOCAL and dots_fit and _DOMAIN.fullmatch(domain)):
        raise ValueError(Text("Enter an email address such as alice@example.com."))
    if len(local) + 1 + len(domain) > MAX_LENGTH:
        raise ValueError(Text("An email address has at most %(most)s characters.", most=MAX_LENGTH))
    return f"{local}@{domain}"


def canonical(address: str) -> str:
    """Return the form by which addresses are compared: `sendable`, and in lower case. Dots and plus signs are kept.

    Raises ValueError, with a sentence for users, when no mail can be sent to it.
    """
    return sendable(address).casefold()


def masked(address: str) -> str:
    """Return an address as pages show it to those who may not know it, such as `a•••@example.com`."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}•••@{domain}"


def _ascii(domain: str) -> str:
    """Return a domain in ASCII and lower case, or "" when it has no such form."""
    if domain.isascii():
        return domain.lower()
    try:
        return domain.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return ""
