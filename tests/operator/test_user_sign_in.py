"""`signet user let-in` and `signet user unlock`: support for a user whom failed sign-ins keep out."""

import json
import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest

from chalicelib.keys.stored_ring import RING
from chalicelib.protocol.durations import HOUR
from chalicelib.protocol.records import User
from chalicelib.users import accounts
from infra.operator.doctor import inside
from tests.support.browser import Browser
from tests.support.faults import Wire
from tests.support.let_in import WRONG, lock_out, sign_in_status
from tests.support.operator import CommandResult, RunCommand, output_json
from tests.support.site import Registered, Site, dump_tables

pytestmark = pytest.mark.usefixtures("with_keys")

ACCOUNT_LINK = re.compile(r"\S+/account/let-in\?link=let_[A-Za-z0-9_-]+")
Browsers = Callable[..., Browser]


@pytest.fixture
def alice(site: Site) -> User:
    return site.user("alice")


@pytest.fixture
def client(site: Site, alice: User) -> Registered:
    return site.client(trusted=True)


def link_in(site: Site, result: CommandResult) -> str:
    """Return the link that a command has printed."""
    assert (result.code, result.err) == (0, "")
    (link,) = ACCOUNT_LINK.findall(result.out)
    site.secrets.add(parse_qs(urlsplit(link).query)["link"][0])
    return str(link)


def history(run_command: RunCommand) -> list[str]:
    events = output_json(run_command("history", "--user", "alice", "--json"))
    return [f"{event['name']}: {event['detail']}" for event in events if event.get("device") == "operator"]


# ---- let-in


def test_printed_link_lets_a_browser_in(
    site: Site, run_command: RunCommand, browsers: Browsers, browser: Browser, client: Registered
) -> None:
    lock_out(browsers, client)
    result = run_command("user", "let-in", "ALICE")
    link = link_in(site, result)
    assert link.startswith(f"{site.settings.issuer}/account/let-in?link=")
    assert "five tries" in result.out
    browser.submit(browser.request("GET", link))
    assert sign_in_status(browser, client) == 303


def test_link_is_valid_for_an_hour_and_its_json_says_until_when(
    site: Site, run_command: RunCommand, alice: User
) -> None:
    result = run_command("user", "let-in", alice.sub, "--json")
    link_in(site, result)
    assert output_json(result)["expires_at"] == site.clock.time + HOUR


def test_each_link_is_another_one(site: Site, run_command: RunCommand, browsers: Browsers, alice: User) -> None:
    links = [link_in(site, run_command("user", "let-in", "alice")) for _ in range(2)]
    for link in links:
        browser = browsers()
        assert browser.submit(browser.request("GET", link)).status == 200


def test_url_of_the_link_can_be_given(site: Site, run_command: RunCommand, alice: User) -> None:
    result = run_command("user", "let-in", "alice", "--url", "https://login.example.com/base/")
    assert link_in(site, result).startswith("https://login.example.com/base/account/let-in?link=let_")


def test_link_needs_a_known_address(
    site: Site, run_command: RunCommand, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside, "stage_url", lambda _store: None)
    before = dump_tables()
    result = run_command("user", "let-in", "alice")
    assert (result.code, result.out) == (2, "")
    assert "--url" in result.err
    assert dump_tables() == before


def test_disabled_user_gets_no_link(site: Site, run_command: RunCommand, alice: User) -> None:
    accounts.disable(site.server.store, alice)
    before = dump_tables()
    result = run_command("user", "let-in", "alice")
    assert (result.code, result.err) == (2, "alice is disabled, and cannot sign in in any browser.\n")
    assert dump_tables() == before


def test_link_is_in_the_history_but_not_its_text(site: Site, run_command: RunCommand, alice: User) -> None:
    link = link_in(site, run_command("user", "let-in", "alice"))
    assert history(run_command) == ["user_changed: link that makes a browser known"]
    assert link[-20:] not in dump_tables()


# ---- unlock


def test_unlock_lets_the_user_try_again_at_once_from_everywhere(
    site: Site, run_command: RunCommand, browsers: Browsers, client: Registered
) -> None:
    lock_out(browsers, client)
    result = run_command("user", "unlock", "alice")
    assert (result.code, result.err) == (0, "")
    assert "The limit for an address" in result.out
    assert "not reset" in result.out
    assert sign_in_status(browsers(), client) == 303
    assert history(run_command) == ["user_changed: unlocked"]


def test_unlock_starts_the_counts_again_and_does_not_end_them(
    run_command: RunCommand, browsers: Browsers, client: Registered
) -> None:
    lock_out(browsers, client)
    assert run_command("user", "unlock", "alice").code == 0
    lock_out(browsers, client)


def test_unlock_does_not_reset_the_limit_for_an_address(
    site_with: Callable[..., Site], run_command: RunCommand, browsers: Browsers
) -> None:
    site = site_with(sign_in_attempts_per_address=3)
    site.user("alice")
    client = site.client(trusted=True)
    browser = browsers(site)
    for _ in range(3):
        assert sign_in_status(browser, client, WRONG) == 400
    assert run_command("user", "unlock", "alice").code == 0
    assert sign_in_status(browser, client) == 429


def test_unlock_writes_once_for_each_count_besides_its_event(
    site: Site, run_command: RunCommand, alice: User, wire: Wire
) -> None:
    with wire.counted() as calls:
        assert output_json(run_command("user", "unlock", "alice", "--json")) == {"sub": alice.sub, "username": "alice"}
    assert [call for call in calls if call != "GetItem"] == ["UpdateItem", "DeleteItem", "DeleteItem", "PutItem"]


@pytest.mark.parametrize("command", ["let-in", "unlock"])
def test_commands_need_a_key_ring(
    site: Site, restore_key_ring: None, run_command: RunCommand, alice: User, command: str
) -> None:
    site.server.store.keys.delete(RING)
    result = run_command("user", command, "alice")
    assert (result.code, result.out) == (2, "")
    assert "signet key create" in result.err


def test_local_stage_without_a_ring_gets_one(
    site: Site, restore_key_ring: None, run_command: RunCommand, alice: User
) -> None:
    site.server.store.keys.delete(RING)
    assert json.loads(run_command("user", "let-in", "alice", "--stage", "local", "--json").out)["link"]
