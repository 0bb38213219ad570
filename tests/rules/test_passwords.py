"""Password hashes and rules, and that signing in does not reveal which usernames exist."""

import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from chalicelib.authentication import password_rules, passwords
from chalicelib.protocol.records import User
from chalicelib.settings import Settings
from infra.local import demo
from tests.conftest import FULL_COST
from tests.support.browser import Answer, Browser
from tests.support.site import PASSWORD, Site
from tests.tools import common_passwords

PARAMETERS = "$argon2id$v=19$m=19456,t=2,p=1$"
SALT = "c2FsdHNhbHQ"
OWN_HASH = f"{PARAMETERS}{SALT}${'A' * 43}"
IMPORTED_HASHES = [
    f"$pbkdf2-sha512$210000${SALT}${'A' * 86}",
    f"$pbkdf2-sha256$27500${SALT}${'A' * 43}",
    f"$pbkdf2$20000${SALT}${'A' * 27}",
    f"$argon2id$v=19$m=7168,t=5,p=1${SALT}${'A' * 43}",
]
EXPENSIVE_HASHES = [
    f"$pbkdf2-sha512$1000000${SALT}${'A' * 86}",
    f"$argon2id$v=19$m=65536,t=10,p=16${SALT}${'A' * 43}",
]
TOO_EXPENSIVE_HASHES = [
    f"$pbkdf2-sha512$1000001${SALT}${'A' * 86}",
    f"$pbkdf2-sha256$1000001${SALT}${'A' * 43}",
    f"$pbkdf2$1000001${SALT}${'A' * 27}",
    f"$argon2id$v=19$m=65537,t=1,p=1${SALT}${'A' * 43}",
    f"$argon2i$v=19$m=8,t=11,p=1${SALT}${'A' * 43}",
    f"$argon2d$v=19$m=65536,t=1,p=17${SALT}${'A' * 43}",
]


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


class Machine:
    """A machine that counts what passwords cost instead of hashing. Its clock measures hashes of this server.

    `rounds`: how many rounds of PBKDF2 take as long as one hash, which differs between machines and digests.
    """

    def __init__(self, rounds: int = 45_000):
        self.clock = 0.0
        self._rounds, self._context = rounds, FULL_COST()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def cpu_time(self) -> float:
        return self.clock

    def verify(self, secret: str, password_hash: str) -> bool:
        parsed = passwords._parse(password_hash)
        if hasattr(parsed, "memory_cost"):
            self.clock += parsed.memory_cost * parsed.rounds / (passwords.MEMORY_COST * passwords.TIME_COST)
        else:
            self.clock += parsed.rounds / self._rounds
        return False

    def hash(self, secret: str) -> str:
        self.clock += 1
        return OWN_HASH

    def handler(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(memory_cost=passwords.MEMORY_COST, using=self._using)

    def _using(self, memory_cost: int) -> SimpleNamespace:
        return SimpleNamespace(hash=lambda secret: self._add(memory_cost / passwords.MEMORY_COST))

    def _add(self, hashes: float) -> None:
        self.clock += hashes


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Machine]:
    """A function that has passwords hashed by another machine from now on."""

    def use(*arguments: int) -> Machine:
        machine = Machine(*arguments)
        monkeypatch.setattr(passwords, "_context", lambda: machine)
        monkeypatch.setattr(passwords, "_cpu_time", machine.cpu_time)
        return machine

    return use


@pytest.mark.usefixtures("full_cost_passwords")
def test_hash_is_argon2id_with_its_own_salt() -> None:
    first, second = passwords.hash_password(PASSWORD), passwords.hash_password(PASSWORD)
    assert first != second
    for password_hash in (first, second):
        assert password_hash.startswith(PARAMETERS)
        assert passwords.verify(PASSWORD, password_hash)
        assert not passwords.matches(PASSWORD + " ", password_hash)
        assert not passwords.needs_rehash(password_hash)


@pytest.mark.usefixtures("full_cost_passwords")
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
@pytest.mark.parametrize(("cost", "imported"), [(1, ()), (passwords.MAX_COST, ("ines",))])
def test_unknown_username_costs_and_shows_the_same_as_a_wrong_password(
    site_with: Callable[..., Site],
    browsers: Callable[..., Browser],
    machine: Callable[..., Machine],
    caplog: pytest.LogCaptureFixture,
    cost: int,
    imported: tuple[str, ...],
) -> None:
    site = site_with(password_failure_cost=cost)
    browser = browsers(site)
    for username in ("alice", "dora", "ines"):
        site.user(username)
    users = {user.username: user for user in site.server.store.users.scan()}
    site.server.store.users.put(replace(users["dora"], disabled_at=1))
    site.server.store.users.put(replace(users["ines"], password_hash=EXPENSIVE_HASHES[0]))
    site.server.store.users.put(replace(users["alice"], password_hash=OWN_HASH))
    counted, seen = machine(), []
    for username in ("alice", "nobody", "dora", *imported, "", "x" * 3000, "nul\0", "ｎｏｂｏｄｙ"):
        password = PASSWORD if username == "dora" else "not this one"
        page = browser.authorize(site.client())
        caplog.clear()
        counted.clock = 0
        sent = browser.send(page, username=username, password=password)
        assert counted.clock == pytest.approx(cost, abs=0.001), username
        line = json.loads(caplog.records[-1].getMessage())
        assert (sent.status, sent.location) == (303, (page.form.action or "").replace("/code?", "/authorize?"))
        answer = browser.follow(sent)
        # The page contains the request, its tag and the entered username; the rest must be the same.
        masked_page = re.sub(r' (value|action)="[^"]*"| autofocus', "", answer.body)
        seen.append((answer.status, masked_page, line["dynamodb_calls"] if len(username) < 9 and username else None))
    assert {entry[:2] for entry in seen} == {seen[0][:2]}
    assert {calls for *_, calls in seen} - {None} == {seen[0][2]}


@pytest.mark.parametrize("rounds_per_hash", [45_000, 90_000, 300_000])
@pytest.mark.parametrize("password", ["not this one", "accents: é and ï", "x" * 2000, "", "\0", "\ud800"])
def test_failing_costs_the_same_with_every_hash_and_without_one_on_every_machine(
    machine: Callable[..., Machine], password: str, rounds_per_hash: int
) -> None:
    counted = machine(rounds_per_hash)
    for password_hash in (None, "", OWN_HASH, *IMPORTED_HASHES, *EXPENSIVE_HASHES):
        counted.clock = 0
        assert not passwords.verify(password, password_hash, passwords.MAX_COST)
        assert counted.clock == pytest.approx(passwords.MAX_COST, abs=0.001), password_hash


@pytest.mark.parametrize("password", ["not this one", "accents: é and ï", "x" * 2000, "", "\0", "\ud800"])
def test_failing_costs_one_hash_for_each_form_by_default(machine: Callable[..., Machine], password: str) -> None:
    counted, costs = machine(), []
    for password_hash in (None, "", OWN_HASH):
        counted.clock = 0
        assert not passwords.verify(password, password_hash)
        costs.append(counted.clock)
    assert costs == [2 if "é" in password else 1] * 3


def test_hash_is_affordable_up_to_the_limit_of_each_parameter() -> None:
    for password_hash in (OWN_HASH, *IMPORTED_HASHES, *EXPENSIVE_HASHES):
        assert passwords.is_supported_hash(password_hash)
        assert passwords.is_affordable_hash(password_hash)
    for password_hash in TOO_EXPENSIVE_HASHES:
        assert passwords.is_supported_hash(password_hash)
        assert not passwords.is_affordable_hash(password_hash)


@pytest.mark.parametrize(
    "password_hash",
    [
        "",
        "plain",
        f"$argon2id$v=19$m=8,t=1,p=1${SALT}",
        f"$argon2id$v=19$m=8,t=1,p=1${SALT}$AA",
        f"$argon2id$v=19$m=8,t=1,p=2${SALT}${'A' * 43}",
        f"$argon2id$v=19$m=8,t=0,p=1${SALT}${'A' * 43}",
        f"$argon2id$v=19$m=8,t=1,p=1,data=AAAA${SALT}${'A' * 43}",
        f"$argon2id$v=19$m=8,t=1,p=1${SALT * 100}${'A' * 43}",
        f"$pbkdf2-sha512$1${SALT}",
        f"$pbkdf2-sha512$0${SALT}${'A' * 86}",
        f"$pbkdf2-sha512$1${SALT}${'A' * 43}",
        f"$pbkdf2-sha512$1${SALT * 100}${'A' * 86}",
    ],
)
def test_malformed_hash_is_not_supported(password_hash: str) -> None:
    assert not passwords.is_supported_hash(password_hash)


def test_comparing_a_password_with_the_users_own_costs_one_hash(machine: Callable[..., Machine]) -> None:
    counted = machine()
    assert not passwords.matches("not this one", OWN_HASH)
    assert counted.clock == 1
    assert not passwords.matches("not this one", "")


@pytest.mark.spec("RFC 8265 §4.2.2")
@pytest.mark.parametrize(
    ("stored_password", "entered_password"),
    [
        ("Zoë's geheimnis", "Zoe\u0308's geheimnis"),
        ("Zoe\u0308's geheimnis", "Zoë's geheimnis"),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af 8 letters", "한글 8 letters"),
        ("three\u00a0words\u3000here", "three words here"),
        ("three words here", "three\u2009words\u202fhere"),
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


ACCENTS = "Zoë\u00a0ﬁnds a café"
NFD = unicodedata.normalize("NFD", ACCENTS)


@pytest.mark.spec("RFC 8265 §4.2.2")
@pytest.mark.parametrize("hashed", [ACCENTS, NFD, ACCENTS.replace("\u00a0", " ")])
@pytest.mark.parametrize("scheme", ["argon2", "pbkdf2_sha256"])
def test_imported_hash_of_another_normalisation_is_verified_and_replaced(
    site: Site, browser: Browser, hashed: str, scheme: str
) -> None:
    """Also one with this server's own parameters, and one that this server made before it compared all spaces alike."""
    password_hash = passwords._context().handler(scheme).hash(hashed)
    user = replace(site.user(), password_hash=password_hash)
    site.server.store.users.put(user)
    site.secrets.update((ACCENTS, NFD))
    assert sign_in(site, browser, password="x" + ACCENTS).status == 400
    assert sign_in(site, browser, password=ACCENTS).code
    upgraded = stored_hash(site, user)
    assert (upgraded == password_hash) == (scheme == "argon2" and hashed == passwords.normalize(ACCENTS))
    assert passwords._context().verify(passwords.normalize(ACCENTS), upgraded)
    assert sign_in(site, browser, password=NFD).code
    assert stored_hash(site, user) == upgraded


USER = User("1", "robert.cook", "", {"email": "bobby@mail.example"})


@pytest.mark.spec("NIST SP 800-63B §3.1.1")
@pytest.mark.parametrize(
    ("password", "problem"),
    [
        ("123 567 9a12", None),
        ("x" * 1024, None),
        ("☃" * 12, None),
        ("a long password", None),
        ("robert cooks well", None),
        ("not robert.cook", None),
        ("bobby at mail.example", None),
        ("my dragon 1234", None),
        ("dragonfly sonata", None),
        ("12345678901", "Use at least 12 characters."),
        ("e\u0301" * 11, "Use at least 12 characters."),
        ("", "Use at least 12 characters."),
        ("x" * 1025, "Use at most 1024 characters."),
        ("12345678901\0", "cannot be used"),
        ("12345678901\ud800", "cannot be used"),
        ("password1234", "most common"),
        ("1234password", "most common"),
        ("!!!DRAGON !!! 2024", "most common"),
        ("Ｄｒａｇｏｎ❤❤❤❤❤❤", "most common"),
        ("1qaz2wsx3edc4rfv", "most common"),
        ("123456789012", "most common"),
        ("qwerty\u00a01234567", "most common"),
        ("Robert.Cook1", "your username"),
        ("2024 ROBERT.COOK!", "your username"),
        ("bobby@mail.example", "your email address"),
        ("Bobby@Mail.Example.1", "your email address"),
        ("Bobby-123456", "the name in your email address"),
        ("examplebank!", "the name of this server"),
        ("1234 ExampleBank", "the name of this server"),
    ],
)
def test_new_password_is_long_and_neither_common_nor_a_name(password: str, problem: str | None) -> None:
    text = password_rules.find_problem(Settings(name="ExampleBank"), USER, password)
    assert problem in text if problem and text else text is problem
    if problem is None:
        assert passwords.verify(password, passwords.hash_password(password))


@pytest.mark.parametrize("claims", [{}, {"email": 7}, {"email": "@"}, {"email": ""}])
def test_user_without_an_email_address_has_no_name_that_is_rejected_for_it(claims: dict[str, Any]) -> None:
    assert password_rules.find_problem(Settings(), replace(USER, claims=claims), "1-9-7-5-3-0--") is None


def test_minimum_length_is_a_setting() -> None:
    for least in (8, 64):
        settings = Settings(password_min_length=least)
        assert password_rules.find_problem(settings, USER, "s" * least) is None
        problem = password_rules.find_problem(settings, USER, "s" * (least - 1))
        assert problem
        assert f"Use at least {least} characters." in problem


@pytest.mark.parametrize("password", ["short", "password1234", "alice1234567"])
def test_existing_password_that_would_be_rejected_today_works(site: Site, browser: Browser, password: str) -> None:
    site.server.store.users.put(replace(site.user(), password_hash=passwords.hash_password(password)))
    assert sign_in(site, browser, password=password).code


def test_common_passwords_are_read_only_when_a_password_is_chosen(site: Site, browser: Browser) -> None:
    user = site.user()
    password_rules.common_passwords.cache_clear()
    assert sign_in(site, browser).code
    assert sign_in(site, browser, password="not this one").status == 400
    assert password_rules.common_passwords.cache_info().currsize == 0
    assert password_rules.find_problem(site.server.settings, user, "another long one") is None
    assert password_rules.common_passwords.cache_info().currsize == 1


def test_list_of_common_passwords_is_small_names_its_licence_and_rejects_its_whole_source() -> None:
    header, _, packed = password_rules.COMMON_PASSWORDS.read_bytes().partition(password_rules.END_OF_HEADER)
    assert header.decode() == common_passwords.HEADER
    assert "MIT License" in common_passwords.HEADER
    assert "https://github.com/dropbox/zxcvbn" in common_passwords.HEADER
    assert len(header) + len(packed) < 150_000
    leaked = common_passwords.leaked_passwords()
    assert password_rules.common_passwords() == frozenset(common_passwords.listed_passwords(leaked))
    assert len(leaked) == 30_000
    assert [word for word in sorted(leaked) if not password_rules.is_common(word + "!2024")] == []


@pytest.mark.parametrize("least", [8, 20])
def test_pages_ask_for_the_minimum_length(
    site: Site, site_with: Callable[..., Site], browsers: Callable[..., Browser], least: int
) -> None:
    other = site_with(password_min_length=least)
    site.server.store.users.put(replace(site.user(), password_change_required=True))
    browser = browsers(other)
    page = browser.sign_in(browser.authorize(site.client(trusted=True)))
    new = "a pass phrase that is new"
    site.secrets.add(new)
    assert browser.submit(page, new_password=new, new_password_again=new).code
    for shown in (page, browser.get("/account/password")):
        assert f"At least {least} characters." in shown.body
        assert f'minlength="{least}"' in shown.body


def test_demo_shows_its_password_only_while_it_is_the_users(site: Site) -> None:
    store = site.server.store
    demo.seed(store)
    assert f"{demo.USERNAME}, password {demo.PASSWORD}" in demo.welcome(store, None)
    (alice,) = (user for user in store.users.scan() if user.username == demo.USERNAME)
    store.users.put(replace(alice, password_hash=passwords.hash_password("wonderland")))
    assert demo.USERNAME in demo.welcome(store, None)
    assert "password" not in demo.welcome(store, None)


def test_random_password_is_readable_and_unique() -> None:
    generated = {passwords.generate_password() for _ in range(100)}
    assert len(generated) == 100
    for password in generated:
        assert re.fullmatch(r"(?:[A-HJ-NP-Za-km-z2-9]{5}-){3}[A-HJ-NP-Za-km-z2-9]{5}", password), password
        assert password_rules.find_problem(Settings(), USER, password) is None
