"""Password hashes and rules, and that signing in does not reveal which usernames exist."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.authentication import passwords
from chalicelib.protocol.records import User
from tests.support.browser import Answer, Browser
from tests.support.site import PASSWORD, Site

pytestmark = pytest.mark.usefixtures("full_cost_passwords")
PARAMETERS = "$argon2id$v=19$m=19456,t=2,p=1$"


def stored_hash(site: Site, user: User) -> str:
    record = site.server.store.users.get(user.sub)
    assert record
    return record.password_hash


def sign_in(site: Site, browser: Browser, username: str = "alice", password: str = PASSWORD) -> Answer:
    """Send an authorization request of a trusted client and sign in; success is a redirect with a code."""
    site.secrets.add(password)
    browser.cookies.clear()
    client = site.client(trusted=True)
    return browser.sign_in(browser.authorize(client), username, password)


@pytest.fixture
def hash_operations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hashes that are verified against or created from now on."""
    context, hashes = passwords._context(), []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(context, name)

        def verify(self, secret: str, password_hash: str) -> bool:
            hashes.append(password_hash)
            matches: bool = context.verify(secret, password_hash)
            return matches

        def hash(self, secret: str) -> str:
            hashes.append(password_hash := context.hash(secret))
            return str(password_hash)

    monkeypatch.setattr(passwords, "_context", Counting)
    return hashes


def test_hash_is_argon2id_with_its_own_salt() -> None:
    first, second = passwords.hash_password(PASSWORD), passwords.hash_password(PASSWORD)
    assert first != second
    for password_hash in (first, second):
        assert password_hash.startswith(PARAMETERS)
        assert passwords.verify(PASSWORD, password_hash)
        assert not passwords.verify(PASSWORD + " ", password_hash)
        assert not passwords.needs_rehash(password_hash)


@pytest.mark.parametrize(
    "weaker_parameters", [{"memory_cost": 8192}, {"time_cost": 1}, {"memory_cost": 1024, "time_cost": 1}]
)
def test_sign_in_replaces_a_weaker_hash_once(site: Site, browser: Browser, weaker_parameters: dict[str, int]) -> None:
    from passlib.hash import argon2

    parameters = {"type": "ID", "memory_cost": 19456, "time_cost": 2, "parallelism": 1} | weaker_parameters
    alice = replace(site.user(), password_hash=argon2.using(**parameters).hash(PASSWORD))
    site.server.store.users.put(alice)
    assert passwords.needs_rehash(alice.password_hash)

    assert sign_in(site, browser, password="not this one").status == 400
    assert stored_hash(site, alice) == alice.password_hash  # a failed sign-in changes nothing

    assert sign_in(site, browser).code
    assert stored_hash(site, alice).startswith(PARAMETERS)
    assert passwords.verify(PASSWORD, stored_hash(site, alice))

    replaced = stored_hash(site, alice)
    assert sign_in(site, browser).code
    assert stored_hash(site, alice) == replaced  # only once


@pytest.mark.spec("RFC 9700 §4.16")
def test_unknown_username_costs_and_shows_the_same_as_a_wrong_password(
    site: Site, browser: Browser, hash_operations: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    site.user("alice")
    disabled = site.user("dora")
    site.server.store.users.put(replace(disabled, disabled_at=1))
    seen = []
    for username in ("alice", "nobody", "dora", "", "x" * 3000, "nul\0", "ｎｏｂｏｄｙ"):
        password = PASSWORD if username == "dora" else "not this one"
        page = browser.authorize(site.client())
        caplog.clear()
        hash_operations.clear()
        answer = browser.sign_in(page, username, password)
        assert len(hash_operations) == 1, username
        assert hash_operations[0].startswith(PARAMETERS)
        line = json.loads(caplog.records[-1].getMessage())
        # The page contains the request, its tag and the entered username; the rest must be the same.
        masked_page = re.sub(r' value="[^"]*"| autofocus', "", answer.body)
        seen.append((answer.status, masked_page, line["dynamodb_calls"] if len(username) < 9 and username else None))
    assert {entry[:2] for entry in seen} == {seen[0][:2]}
    assert {calls for *_, calls in seen} - {None} == {seen[0][2]}


def test_verifying_without_a_stored_hash_fails_and_still_computes_a_hash(hash_operations: list[str]) -> None:
    for password in ("", PASSWORD, "x" * 2000, "\0", "\ud800", "\udfff" * 50):
        assert not passwords.verify(password, None)
    assert len(hash_operations) == 6


@pytest.mark.spec("RFC 8265 §4.2.2")
@pytest.mark.parametrize(
    ("stored_password", "entered_password"),
    [
        ("Zoë's geheimnis", "Zoe\u0308's geheimnis"),
        ("Zoe\u0308's geheimnis", "Zoë's geheimnis"),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af 8 letters", "한글 8 letters"),
    ],
)
def test_passwords_are_compared_in_one_unicode_normal_form(
    site: Site, browser: Browser, stored_password: str, entered_password: str
) -> None:
    site.user(password=stored_password)
    assert sign_in(site, browser, password=entered_password).code


@pytest.mark.spec("RFC 8265 §4.2.2")
@pytest.mark.parametrize("other", ["Correct Horse Battery Staple", "ｃorrect horse battery staple", PASSWORD + "\n"])
def test_case_width_and_whitespace_of_a_password_matter(site: Site, browser: Browser, other: str) -> None:
    site.user()
    assert sign_in(site, browser, password=other).status == 400


@pytest.mark.parametrize("password", ["x" * 1024, "☃" * 1024, " leading and trailing ", "tab\tand\nline"])
def test_password_may_be_long_and_contain_any_character(site: Site, browser: Browser, password: str) -> None:
    site.user(password=password)
    assert sign_in(site, browser, password=password).code


@pytest.mark.parametrize("password", ["", "x" * 1025, "x" * 20_000, "nul\0 in the middle"])
def test_invalid_password_is_a_wrong_password(site: Site, browser: Browser, password: str) -> None:
    site.user()
    assert sign_in(site, browser, password=password or "\0").status == 400


@pytest.mark.spec("NIST SP 800-63B §3.1.1")
@pytest.mark.parametrize(
    ("password", "valid"),
    [
        ("12345678", True),
        ("x" * 1024, True),
        ("☃☃☃☃☃☃☃☃", True),
        ("1234567", False),
        ("", False),
        ("x" * 1025, False),
        ("12345678\0", False),
        ("12345678\ud800", False),
    ],
)
def test_new_password_is_checked_by_its_length(password: str, valid: bool) -> None:
    assert (passwords.find_problem(password) is None) == valid
    if valid:
        assert passwords.verify(password, passwords.hash_password(password))


def test_random_password_is_readable_and_unique() -> None:
    generated = {passwords.generate_password() for _ in range(100)}
    assert len(generated) == 100
    for password in generated:
        assert re.fullmatch(r"(?:[A-HJ-NP-Za-km-z2-9]{5}-){3}[A-HJ-NP-Za-km-z2-9]{5}", password), password
        assert passwords.find_problem(password) is None
