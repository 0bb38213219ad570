"""How long a session lasts: for the browser, for the grants that depend on it, and at the latest."""

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.protocol.durations import DAY, HOUR
from chalicelib.protocol.records import Session
from tests.support.browser import Answer, Browser
from tests.support.faults import Fault, Wire, answer_lost, failing, throttled, unreachable
from tests.support.site import Registered, Site

IDLE = 12 * HOUR
QUARTER = IDLE // 4
ABSOLUTE = 2 * DAY


@pytest.fixture
def server(site_with: Callable[..., Site]) -> Site:
    """Return a server whose sessions last two days at the latest, with the user alice."""
    server = site_with(session_idle_lifetime=IDLE, session_absolute_lifetime=ABSOLUTE)
    server.user("alice")
    return server


@pytest.fixture
def browser(server: Site, browsers: Callable[..., Browser]) -> Browser:
    return browsers(server)


@pytest.fixture
def client(server: Site) -> Registered:
    return server.client(trusted=True)


def read_session(server: Site) -> Session:
    (session,) = server.server.store.sessions.scan()
    return session


def change_session(server: Site, **changes: Any) -> None:
    """Change attributes of the only session; one that is None is removed."""
    sessions, session = server.server.store.sessions, read_session(server)
    removed = tuple(name for name, value in changes.items() if value is None)
    present = {name: value for name, value in changes.items() if value is not None}
    sessions.transition((session.session_id,), None, present, removed)


def is_signed_in(browser: Browser, client: Registered) -> bool:
    """Return whether the browser is signed in, for an application and for the account page alike."""
    answer = browser.authorize(client, prompt="none").answer
    assert "code" in answer or answer["error"] == "login_required"
    assert (browser.get("/account").status == 200) is ("code" in answer)
    return "code" in answer


class Application:
    """A client that refreshes its tokens."""

    def __init__(self, browser: Browser, client: Registered, scope: str = "openid"):
        self._browser, self._client = browser, client
        self._token = browser.tokens(client, scope=scope)["refresh_token"]

    def use_connection_of(self, browser: Browser) -> None:
        """Send further requests while the first browser waits for an answer."""
        self._browser = browser

    def refresh(self) -> Answer:
        answer = self._browser.refresh(self._client, self._token)
        self._token = answer.json.get("refresh_token", self._token)
        return answer

    @property
    def has_access(self) -> bool:
        answer = self.refresh()
        assert answer.status == 200 or answer.json["error"] == "invalid_grant"
        return answer.status == 200


# use -> the times of the session that it moves
MOVED = {
    "authorization request": {"active_until", "expires_at"},
    "account page": {"active_until", "expires_at"},
    "refresh": {"expires_at"},
}


def use_session(use: str, browser: Browser, client: Registered, application: Application) -> Answer:
    """Use a session in one of these ways."""
    if use == "refresh":
        return application.refresh()
    return browser.get("/account/password") if use == "account page" else browser.authorize(client, prompt="none")


def extension_of(use: str) -> int:
    """Return how many UpdateItem calls precede the extension: a refresh has rotated the token."""
    return int(use == "refresh")


# ---- the two times


@pytest.mark.parametrize(("use", "moved"), MOVED.items())
def test_use_after_a_quarter_of_the_time_extends_the_session_once(
    server: Site, browser: Browser, client: Registered, wire: Wire, use: str, moved: set[str]
) -> None:
    application = Application(browser, client)
    started = read_session(server)
    assert started.active_until == started.expires_at == server.clock() + IDLE

    def writes() -> int:
        with wire.counted() as calls:
            assert use_session(use, browser, client, application).status in (200, 302)
        return calls.count("UpdateItem")

    server.clock.advance(QUARTER - 1)
    usual = writes()
    assert read_session(server) == started
    server.clock.advance(1)
    assert writes() == usual + 1
    extended = read_session(server)
    assert {
        name for name in ("active_until", "expires_at") if getattr(extended, name) == server.clock() + IDLE
    } == moved
    assert {name for name in vars(extended) if getattr(extended, name) != getattr(started, name)} == moved
    assert writes() == usual


def test_browser_is_signed_in_for_longer_when_a_refresh_has_just_extended_the_session(
    server: Site, browser: Browser, client: Registered
) -> None:
    application = Application(browser, client)
    server.clock.advance(QUARTER)
    assert application.has_access
    assert is_signed_in(browser, client)
    server.clock.advance(IDLE - 1)
    assert is_signed_in(browser, client)


@pytest.fixture
def abandoned(server: Site, browser: Browser, client: Registered) -> Application:
    """Return an application that has refreshed its tokens since the browser was used last, for longer than IDLE."""
    application = Application(browser, client)
    for _ in range(5):
        server.clock.advance(QUARTER)
        assert application.has_access
    return application


def test_refreshing_application_does_not_keep_the_browser_signed_in(
    server: Site, browser: Browser, browsers: Callable[..., Browser], client: Registered
) -> None:
    application = Application(browser, client)
    for each in range(1, 6):
        server.clock.advance(QUARTER)
        assert application.has_access
        assert (server.clock() < read_session(server).signed_in_until) is (each < 4)
    assert not is_signed_in(browser, client)
    other = browsers(server)
    other.sign_in(other.authorize(client))
    page = other.get("/account/browsers")
    assert page.body.count("You have to sign in again there") == 1
    assert application.has_access
    assert other.send(page, None, action="sign_out").status == 303
    assert not application.has_access


def test_signing_out_in_a_browser_that_is_no_longer_signed_in_ends_its_grants(
    browser: Browser, abandoned: Application
) -> None:
    assert browser.send(browser.get("/oauth2/logout"), decision="sign_out").status == 200
    assert not abandoned.has_access


def test_signing_in_again_in_such_a_browser_continues_the_session(
    server: Site, browser: Browser, client: Registered, abandoned: Application
) -> None:
    """So that signing out there ends its grants, as the consent page says."""
    session_id = read_session(server).session_id
    assert browser.sign_in(browser.authorize(client)).code
    assert read_session(server).session_id == session_id
    assert is_signed_in(browser, client)
    assert abandoned.has_access
    assert browser.send(browser.get("/oauth2/logout"), decision="sign_out").status == 200
    assert not abandoned.has_access


def test_another_user_who_signs_in_in_such_a_browser_ends_the_session(
    server: Site, browser: Browser, client: Registered, abandoned: Application
) -> None:
    server.user("bob")
    assert browser.sign_in(browser.authorize(client), "bob").code
    assert not abandoned.has_access


def test_sign_in_in_a_browser_whose_session_has_expired_starts_a_new_session(
    server: Site, browser: Browser, client: Registered
) -> None:
    application = Application(browser, client)
    session_id = read_session(server).session_id
    server.clock.advance(IDLE)
    assert browser.sign_in(browser.authorize(client)).code
    assert [session.session_id for session in server.server.store.sessions.scan()] != [session_id]
    assert not application.has_access


@pytest.mark.parametrize(
    ("scope", "lasts"),
    [("openid", False), ("openid email", False), ("openid offline_access", True), ("email", True)],
)
def test_grant_that_is_not_used_ends_with_its_session(
    server: Site, browser: Browser, client: Registered, scope: str, lasts: bool
) -> None:
    application = Application(browser, client, scope)
    server.clock.advance(IDLE - 1)
    server.server.forget_cached_records()
    other = Application(browser, client, scope)  # the browser is used, so that all grants of the session go on
    server.clock.advance(IDLE - 1)
    assert application.has_access
    server.clock.advance(IDLE)
    assert [application.has_access, other.has_access] == [lasts, lasts]


def test_session_and_its_grants_end_at_the_absolute_lifetime(
    server: Site, browser: Browser, client: Registered, wire: Wire
) -> None:
    bound, offline = Application(browser, client), Application(browser, client, "openid offline_access")
    start = server.clock()
    while server.clock() < start + ABSOLUTE - QUARTER:
        server.clock.advance(QUARTER)
        assert is_signed_in(browser, client)
        assert bound.has_access
    session = read_session(server)
    assert session.expires_at == session.active_until == start + ABSOLUTE
    with wire.counted() as calls:
        assert is_signed_in(browser, client)
        assert bound.has_access
    assert calls.count("UpdateItem") == 1, "the refresh: there is nothing to extend"
    server.clock.time = start + ABSOLUTE - 1
    assert is_signed_in(browser, client)
    assert bound.has_access
    server.clock.advance(1)
    assert not is_signed_in(browser, client)
    assert [bound.has_access, offline.has_access] == [False, True]


@pytest.mark.parametrize("parameters", [{"prompt": "login"}, {"max_age": "1"}], ids=str)
def test_new_sign_in_starts_the_absolute_lifetime_again(
    server: Site, browser: Browser, client: Registered, parameters: dict[str, str]
) -> None:
    application = Application(browser, client)
    first = read_session(server)
    for _ in range(2):
        for _ in range(ABSOLUTE // QUARTER - 2):
            server.clock.advance(QUARTER)
            assert is_signed_in(browser, client)
        assert browser.sign_in(browser.authorize(client, **parameters)).code
    session = read_session(server)
    assert session.session_id == first.session_id
    assert session.auth_time == server.clock()
    assert session.expires_at == session.active_until == server.clock() + IDLE
    assert application.has_access, "the grants of the session go on"


# ---- extensions that fail, or at the same time as other changes


@pytest.mark.parametrize("fault", [unreachable, answer_lost, failing, throttled])
@pytest.mark.parametrize("use", MOVED)
def test_extension_that_cannot_be_written_is_made_by_the_next_use_and_no_answer_changes(
    server: Site, browser: Browser, client: Registered, wire: Wire, use: str, fault: Fault
) -> None:
    application = Application(browser, client)
    server.clock.advance(QUARTER)
    with wire.fault_in("UpdateItem", fault, skip=extension_of(use)):
        answer = use_session(use, browser, client, application)
    assert answer.status == 200 or answer.code
    server.clock.advance(1)
    answer = use_session(use, browser, client, application)
    assert answer.status == 200 or answer.code
    late = server.clock() - 1 if fault is answer_lost else server.clock()
    session = read_session(server)
    assert {getattr(session, name) for name in MOVED[use]} == {late + IDLE}


@pytest.mark.parametrize("earlier", MOVED)
@pytest.mark.parametrize("later", MOVED)
def test_request_does_not_undo_an_extension_that_was_made_since_it_read_the_session(
    server: Site,
    browser: Browser,
    browsers: Callable[..., Browser],
    client: Registered,
    wire: Wire,
    earlier: str,
    later: str,
) -> None:
    applications, tab = [Application(browser, client), Application(browser, client)], browsers(tab_of=browser)
    applications[1].use_connection_of(tab)
    server.clock.advance(QUARTER)

    def use_in_another_tab() -> None:
        server.clock.advance(1)
        use_session(later, tab, client, applications[1])

    with wire.before("UpdateItem", use_in_another_tab, skip=extension_of(earlier)):
        answer = use_session(earlier, browser, client, applications[0])
    assert answer.status == 200 or answer.code
    session = read_session(server)
    assert {getattr(session, name) for name in MOVED[later]} == {server.clock() + IDLE}


def end_session(server: Site) -> None:
    change_session(server, ended_at=server.clock())


def delete_session(server: Site) -> None:
    server.server.store.sessions.delete(read_session(server).session_id)


@pytest.mark.parametrize("end", [end_session, delete_session])
def test_browser_does_not_extend_a_session_that_ends_at_the_same_time(
    server: Site, browser: Browser, client: Registered, wire: Wire, end: Callable[[Site], None]
) -> None:
    browser.tokens(client)
    server.clock.advance(QUARTER)
    with wire.before("UpdateItem", lambda: end(server)):
        answer = browser.authorize(client, prompt="none")
    ended = list(server.server.store.sessions.scan())
    assert [(each.ended_at, each.expires_at) for each in ended] == (
        [(server.clock(), server.clock() + IDLE - QUARTER)] if end is end_session else []
    )
    assert browser.redeem(client, answer.code).json["error"] == "invalid_grant"
    assert not is_signed_in(browser, client)


@pytest.mark.parametrize("end", [end_session, delete_session])
def test_refresh_does_not_extend_a_session_that_ends_at_the_same_time(
    server: Site, browser: Browser, client: Registered, wire: Wire, end: Callable[[Site], None]
) -> None:
    """The refresh was in flight: it is answered, and the next one is rejected."""
    application = Application(browser, client)
    server.clock.advance(QUARTER)
    with wire.before("UpdateItem", lambda: end(server), skip=1):
        assert application.has_access
    assert [session.expires_at for session in server.server.store.sessions.scan()] == (
        [server.clock() + IDLE - QUARTER] if end is end_session else []
    )
    assert not application.has_access


def test_extension_does_not_shorten_a_session_whose_user_signs_in_again_at_the_same_time(
    server: Site, browser: Browser, browsers: Callable[..., Browser], client: Registered, wire: Wire
) -> None:
    browser.tokens(client)
    tab = browsers(tab_of=browser)
    start, late = server.clock(), server.clock() + ABSOLUTE - QUARTER
    change_session(server, active_until=late + 60, expires_at=late + 60)
    server.clock.time = late
    page = tab.authorize(client, prompt="login")
    change_session(server, active_until=late + 60, expires_at=late + 60)
    with wire.before("UpdateItem", lambda: tab.sign_in(page)):
        browser.get("/account/password")
    session = read_session(server)
    assert session.auth_time == late
    assert session.expires_at == session.active_until == late + IDLE > start + ABSOLUTE


# ---- records of version 1, which have no `active_until` and a list of grants


@pytest.fixture
def old_record(server: Site, browser: Browser, client: Registered) -> Application:
    """Return an application whose session is a record of version 1."""
    application = Application(browser, client)
    change_session(server, active_until=None, grants=frozenset({"first", "second"}))
    assert read_session(server).active_until is None
    assert "grants" in read_attributes(server)
    return application


def read_attributes(server: Site) -> set[str]:
    """Return the names of the stored attributes of the only session."""
    sessions, session = server.server.store.sessions, read_session(server)
    key = {"session_id": {"S": session.session_id}}
    item = server.server.store.dynamodb.call("GetItem", TableName=sessions.name, Key=key, ConsistentRead=True)["Item"]
    return set(item)


def test_session_of_version_1_ends_at_its_time_when_it_is_not_used(
    server: Site, browser: Browser, client: Registered, old_record: Application
) -> None:
    server.clock.advance(IDLE - 1)
    page = browser.get("/account/browsers")
    assert page.status == 200
    change_session(server, active_until=None, expires_at=server.clock() + 1)
    server.clock.advance(1)
    assert not is_signed_in(browser, client)
    assert not old_record.has_access


def test_browser_extends_a_session_of_version_1(
    server: Site, browser: Browser, client: Registered, old_record: Application
) -> None:
    server.clock.advance(QUARTER)
    assert is_signed_in(browser, client)
    session = read_session(server)
    assert session.active_until == session.expires_at == server.clock() + IDLE
    assert "grants" not in read_attributes(server)
    assert old_record.has_access


def test_refresh_extends_the_grants_of_a_session_of_version_1_only(
    server: Site, browser: Browser, client: Registered, old_record: Application
) -> None:
    signed_in_until = read_session(server).expires_at
    server.clock.advance(QUARTER)
    assert old_record.has_access
    session = read_session(server)
    assert (session.active_until, session.expires_at) == (signed_in_until, server.clock() + IDLE)
    assert "grants" not in read_attributes(server)
    server.clock.time = signed_in_until
    assert not is_signed_in(browser, client)
    assert old_record.has_access


@pytest.mark.parametrize("both", [True, False], ids=["by a request", "that time alone"])
def test_refresh_does_not_undo_what_the_browser_moved_in_a_session_of_version_1(
    server: Site,
    browser: Browser,
    browsers: Callable[..., Browser],
    client: Registered,
    wire: Wire,
    old_record: Application,
    both: bool,
) -> None:
    """The refresh has read the record without `active_until`."""
    tab = browsers(tab_of=browser)
    server.clock.advance(QUARTER)

    def move() -> None:
        if both:
            assert tab.get("/account/password").status == 200
        else:
            change_session(server, active_until=server.clock() + IDLE)

    with wire.before("UpdateItem", move, skip=extension_of("refresh")):
        assert old_record.has_access
    assert read_session(server).active_until == server.clock() + IDLE


@pytest.mark.parametrize("by_browser", [True, False])
def test_session_of_version_1_older_than_the_absolute_lifetime_is_not_extended(
    server: Site, browser: Browser, client: Registered, old_record: Application, by_browser: bool
) -> None:
    until = read_session(server).expires_at
    change_session(server, auth_time=server.clock() - ABSOLUTE - 1)
    server.clock.advance(QUARTER)
    assert is_signed_in(browser, client) if by_browser else old_record.has_access
    assert read_session(server).expires_at == until
    server.clock.time = until
    assert not is_signed_in(browser, client)
    assert not old_record.has_access
