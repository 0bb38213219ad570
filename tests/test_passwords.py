"""Passwords: how they are kept, and that a sign-in tells nobody which names exist."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from chalicelib import passwords
from chalicelib.models import User
from tests.browser import Answer, Browser
from tests.site import PASSWORD, Site

pytestmark = pytest.mark.usefixtures("dear_passwords")
PARAMETERS = "$argon2id$v=19$m=19456,t=2,p=1$"


def stored(site: Site, user: User) -> str:
    found = site.server.store.users.get(user.sub)
    assert found
    return found.password_hash


def sign_in(site: Site, browser: Browser, username: str = "alice", password: str = PASSWORD) -> Answer:
    """One sign-in, from the request on. 302 with a code is a success: the client is trusted."""
    site.secrets.add(password)
    browser.cookies.clear()
    client = site.client(trusted=True)
    return browser.sign_in(browser.authorize(client), username, password)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hash of every verification, and every hash made, from now on."""
    context, hashes = passwords._context(), []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(context, name)

        def verify(self, secret: str, password_hash: str) -> bool:
            hashes.append(password_hash)
            matches: bool = context.verify(secret, password_hash)
            return matches

        def hash(self, secret: str) -> str:
            hashes.append(made := context.hash(secret))
            return str(made)

    monkeypatch.setattr(passwords, "_context", Counting)
    return hashes


def test_a_hash_is_argon2id_with_a_salt_of_its_own() -> None:
    one, two = passwords.hash_password(PASSWORD), passwords.hash_password(PASSWORD)
    assert one != two
    for made in (one, two):
        assert made.startswith(PARAMETERS)
        assert passwords.verify(PASSWORD, made)
        assert not passwords.verify(PASSWORD + " ", made)
        assert not passwords.needs_rehash(made)


@pytest.mark.parametrize("weaker", [{"memory_cost": 8192}, {"time_cost": 1}, {"memory_cost": 1024, "time_cost": 1}])
def test_a_weaker_hash_is_replaced_at_the_next_sign_in(site: Site, browser: Browser, weaker: dict[str, int]) -> None:
    from passlib.hash import argon2

    parameters = {"type": "ID", "memory_cost": 19456, "time_cost": 2, "parallelism": 1} | weaker
    alice = replace(site.user(), password_hash=argon2.using(**parameters).hash(PASSWORD))
    site.server.store.users.put(alice)
    assert passwords.needs_rehash(alice.password_hash)

    assert sign_in(site, browser, password="not this one").status == 400
    assert stored(site, alice) == alice.password_hash  # whoever fails changes nothing

    assert sign_in(site, browser).code
    assert stored(site, alice).startswith(PARAMETERS)
    assert passwords.verify(PASSWORD, stored(site, alice))

    replaced = stored(site, alice)
    assert sign_in(site, browser).code
    assert stored(site, alice) == replaced  # once is enough


@pytest.mark.spec("RFC 9700 §4.16")
def test_an_unknown_name_costs_and_reads_the_same_as_a_wrong_password(
    site: Site, browser: Browser, counted: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    site.user("alice")
    disabled = site.user("dora")
    site.server.store.users.put(replace(disabled, disabled_at=1))
    seen = []
    for username in ("alice", "nobody", "dora", "", "x" * 3000, "nul\0", "ｎｏｂｏｄｙ"):
        password = PASSWORD if username == "dora" else "not this one"
        page = browser.authorize(site.client())
        caplog.clear()
        counted.clear()
        answer = browser.sign_in(page, username, password)
        assert len(counted) == 1, username
        assert counted[0].startswith(PARAMETERS)
        line = json.loads(caplog.records[-1].getMessage())
        # The page repeats the request, its tag and the name that was typed; apart from those it is the same.
        shown = re.sub(r' value="[^"]*"| autofocus', "", answer.body)
        seen.append((answer.status, shown, line["dynamodb_calls"] if len(username) < 9 and username else None))
    assert {entry[:2] for entry in seen} == {seen[0][:2]}
    assert {calls for *_, calls in seen} - {None} == {seen[0][2]}


def test_nobody_has_a_password_and_finding_out_costs_a_hash(counted: list[str]) -> None:
    for password in ("", PASSWORD, "x" * 2000, "\0", "\ud800", "\udfff" * 50):
        assert not passwords.verify(password, None)
    assert len(counted) == 6


@pytest.mark.spec("RFC 8265 §4.2.2")
@pytest.mark.parametrize(
    ("chosen", "typed"),
    [
        ("Zoë's geheimnis", "Zoe\u0308's geheimnis"),
        ("Zoe\u0308's geheimnis", "Zoë's geheimnis"),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af 8 letters", "한글 8 letters"),
    ],
)
def test_it_does_not_matter_how_an_accent_was_composed(site: Site, browser: Browser, chosen: str, typed: str) -> None:
    site.user(password=chosen)
    assert sign_in(site, browser, password=typed).code


@pytest.mark.spec("RFC 8265 §4.2.2")
@pytest.mark.parametrize("other", ["Correct Horse Battery Staple", "ｃorrect horse battery staple", PASSWORD + "\n"])
def test_all_else_matters(site: Site, browser: Browser, other: str) -> None:
    site.user()
    assert sign_in(site, browser, password=other).status == 400


@pytest.mark.parametrize("password", ["x" * 1024, "☃" * 1024, " leading and trailing ", "tab\tand\nline"])
def test_a_password_may_be_long_and_hold_anything(site: Site, browser: Browser, password: str) -> None:
    site.user(password=password)
    assert sign_in(site, browser, password=password).code


@pytest.mark.parametrize("password", ["", "x" * 1025, "x" * 20_000, "nul\0 in the middle"])
def test_a_password_that_nobody_can_have_is_wrong(site: Site, browser: Browser, password: str) -> None:
    site.user()
    assert sign_in(site, browser, password=password or "\0").status == 400


@pytest.mark.spec("NIST SP 800-63B §3.1.1")
@pytest.mark.parametrize(
    ("password", "right"),
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
def test_a_new_password_is_judged_by_its_length(password: str, right: bool) -> None:
    assert (passwords.problem_with(password) is None) == right
    if right:
        assert passwords.verify(password, passwords.hash_password(password))


def test_a_random_password_can_be_read_out_and_is_never_the_same() -> None:
    made = {passwords.new_password() for _ in range(100)}
    assert len(made) == 100
    for password in made:
        assert re.fullmatch(r"(?:[A-HJ-NP-Za-km-z2-9]{5}-){3}[A-HJ-NP-Za-km-z2-9]{5}", password), password
        assert passwords.problem_with(password) is None
