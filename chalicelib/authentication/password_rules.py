"""The rules for new passwords: a minimum length, no names of the account, no common password.

There are no composition rules (NIST SP 800-63B section 3.1.1.2). Passwords that exist already are never checked.
`common_passwords.txt.z` is made by tests/tools/common_passwords.py, and read only when a password is chosen.
"""

import unicodedata
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from chalicelib.authentication.passwords import MAX_LENGTH, matches, normalize
from chalicelib.protocol.records import User
from chalicelib.protocol.texts import Text
from chalicelib.settings import Settings

COMMON_PASSWORDS = Path(__file__).with_name("common_passwords.txt.z")
END_OF_HEADER = b"\n--\n"
# Unicode categories of what makes a name or a common password no better: digits, punctuation, symbols and spaces.
_FILLERS = "NPSZ"
_COMMON = Text(
    "This password is one of the most common ones, or one with digits or punctuation added: attackers try these first. "
    "Use several words that do not belong together, or let a password manager choose."
)
_USERNAME = Text(
    "The password must not be your username, also with digits or punctuation added. Use several words that do not "
    "belong together, or let a password manager choose."
)
_ADDRESS = Text(
    "The password must not be your email address, also with digits or punctuation added. Use several words that do not "
    "belong together, or let a password manager choose."
)
_NAME_IN_ADDRESS = Text(
    "The password must not be the name in your email address, also with digits or punctuation added. Use several words "
    "that do not belong together, or let a password manager choose."
)
_NAME_OF_SERVER = Text(
    "The password must not be the name of this server, also with digits or punctuation added. Use several words that "
    "do not belong together, or let a password manager choose."
)


def find_problem(
    settings: Settings, user: User, password: str, repeated: str | None = None, *, must_differ: bool = False
) -> str | None:
    """Return what is wrong with a new password of this user, as sentences for the user, or None.

    `repeated`: the second entry, where the password is typed twice. `must_differ`: from the user's current password.
    """
    if len(password) > MAX_LENGTH:
        return Text("Use at most %(most)s characters.", most=MAX_LENGTH)
    try:
        normalized = normalize(password)
    except ValueError:
        return Text("The password contains a character that cannot be used. Choose another one.")
    if len(normalized) < settings.password_min_length:
        least = settings.password_min_length
        return Text("Use at least %(least)s characters. Several words are easy to remember.", least=least)
    if problem := _problem_of_name(settings, user, password):
        return problem
    if is_common(password):
        return _COMMON
    if repeated is not None and repeated != password:
        return Text("The two entries differ.")
    if must_differ and matches(password, user.password_hash):
        return Text("Choose another password than the one you have.")
    return None


def is_common(password: str) -> bool:
    """Return whether this is a common password, or one with digits and punctuation before or after it."""
    return not common_passwords().isdisjoint(cores(fold(password)))


@cache
def common_passwords() -> frozenset[str]:
    """Return the common passwords, folded."""
    packed = COMMON_PASSWORDS.read_bytes().partition(END_OF_HEADER)[2]
    return frozenset(zlib.decompress(packed).decode().split("\n"))


def fold(text: str) -> str:
    """Return a text as it is compared: in lower case after NFKC, which replaces full-width letters, for example."""
    return unicodedata.normalize("NFKC", text).lower()


def _problem_of_name(settings: Settings, user: User, password: str) -> Text | None:
    """Return the sentence for a password that is a name of the account, besides digits and punctuation, or None."""
    email = user.claims.get("email")
    address = email if isinstance(email, str) else ""
    names = {
        _USERNAME: user.username,
        _ADDRESS: address,
        _NAME_IN_ADDRESS: address.rpartition("@")[0],
        _NAME_OF_SERVER: settings.name,
    }
    possible = set(cores(fold(password)))
    return next((problem for problem, name in names.items() if fold(name) in possible), None)


def cores(folded: str) -> Iterator[str]:
    """Yield the texts that become this one by adding digits and punctuation: all after it, or also all before it."""
    first = next((index for index, character in enumerate(folded) if not _is_filler(character)), 0)
    for text in {folded, folded[first:]}:
        end = len(text)
        yield text
        while end > 1 and _is_filler(text[end - 1]):
            end -= 1
            yield text[:end]


def _is_filler(character: str) -> bool:
    return unicodedata.category(character)[0] in _FILLERS
