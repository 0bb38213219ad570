"""Users with grants of every kind, and what each grant can still be used for.

A use that consumes something has a grant of its own, so that the uses do not influence each other.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from chalicelib.protocol.records import User
from chalicelib.storage.store import Store
from tests.support.account import (
    account_form,
    listed_clients,
    open_sign_in,
    read_form,
    shows_account_of,
    sign_in_to_account,
    submit_form,
)
from tests.support.browser import Answer, Browser, basic
from tests.support.resource_servers import API, introspect
from tests.support.site import PASSWORD, Registered, Site

# kind -> the scope of its grants
KINDS = {
    "bound": "openid email",
    "remembered": "openid email",
    "offline": "openid email offline_access",
    "plain": "print",
    "basic": "openid email",
    "client_credentials": "print",
}
# The clients that the endings of a client are about: one for each kind, and that of the second browser.
CLIENTS = (*KINDS, "second")
CLIENT_IDS = (API, *CLIENTS, "other", "trusted", "asking")
BOBS_KINDS = ("bound", "remembered", "offline", "plain")
# The columns that the account page lists while they have an active grant. That of a remembered consent stays listed.
LISTED = ("bound", "offline", "plain", "basic", "second browser's bound", "other client's offline")
PAUSE = 14  # seconds between the sign-in and the grants: less than a quarter of the shortest session
CACHED = 60  # seconds, as in `chalicelib.server`
SETTINGS = {"refresh_token_retry_window": 60}
BYE = "https://client.example.com/bye"
Outcomes = dict[str, bool]
W = TypeVar("W", bound="World")


@dataclass
class Grants:
    """The grants of one kind to one client: one for each use that consumes something.

    `code` is unredeemed, `tokens` are those of another grant, with an access token for the API and one for `userinfo`,
    `retried` those of a third one, which were refreshed once. `redeemed_codes`: the codes of the latter two.
    """

    world: "World"
    client_id: str
    kind: str
    tokens: dict[str, Any]
    code: str = ""
    retried: dict[str, Any] = field(default_factory=dict)
    redeemed_codes: tuple[str, ...] = ()

    @property
    def client(self) -> Registered:
        """The client, with its present secret."""
        return self.world.registered[self.client_id]

    def read_uses(self) -> Outcomes:
        """Return which uses work that change nothing."""
        machine, api, access_token = self.world.machine, self.world.registered[API], self.tokens["access_token"]
        outcomes = {"access token introspected": _is_active(introspect(machine, api, access_token))}
        if "openid" in KINDS[self.kind]:
            outcomes["UserInfo"] = _works(machine.userinfo(self.tokens.get("userinfo", access_token)), "invalid_token")
        if "refresh_token" in self.tokens:
            answer = introspect(machine, self.client, self.tokens["refresh_token"])
            outcomes["refresh token introspected"] = answer.status == 200 and _is_active(answer)
        return outcomes

    def consuming_uses(self) -> Outcomes:
        """Return which uses work that consume something."""
        machine, client, errors = self.world.machine, self.client, ("invalid_grant", "invalid_client")
        outcomes = {}
        if self.code:
            outcomes["code"] = _works(machine.redeem(client, self.code), *errors)
        if "refresh_token" in self.tokens:
            outcomes["refresh"] = _works(machine.refresh(client, self.tokens["refresh_token"]), *errors)
        if self.retried:
            outcomes["refresh retried"] = _works(machine.refresh(client, self.retried["refresh_token"]), *errors)
        return outcomes


class World:
    """Alice with grants of every kind in her browser, a second browser and a second client; bob with the same clients.

    `site` has at least SETTINGS. Each kind has a client, so that the account page shows which kinds have an active
    grant. All clients have been in the server's cache for PAUSE seconds.
    """

    def __init__(self, site: Site):
        self.site, self.store = site, site.server.store
        self.password, self.shown = PASSWORD, True
        self.registered: dict[str, Registered] = {}
        self.subs: dict[str, str] = {}
        self.grants: dict[str, Grants] = {}
        self._browsers: list[Browser] = []
        self.machine = self.open_browser()
        self._create()
        self._save()

    def _create(self) -> None:
        """Create the records, cookies, codes and tokens."""
        for client_id in CLIENT_IDS:
            self.register_client(client_id)
        self._cache_clients()
        for name in ("alice", "bob"):
            self.subs[name] = self.site.user(name, claims={"email": f"{name}@example.com"}).sub
        self.browser = self.sign_in("alice")
        self.site.clock.advance(PAUSE)
        self.second_browser, self.bobs_browser = self.sign_in("alice"), self.sign_in("bob")
        self.grants.update((kind, self._grant(kind, kind, "alice", self.browser)) for kind in KINDS)
        for column, client_id, kind, username, browser in (
            ("second browser's bound", "second", "bound", "alice", self.second_browser),
            ("other client's offline", "other", "offline", "alice", self.browser),
            ("other client's client_credentials", "other", "client_credentials", "alice", self.browser),
            *((f"bob's {kind}", kind, kind, "bob", self.bobs_browser) for kind in BOBS_KINDS),
        ):
            self.grants[column] = self._grant(client_id, kind, username, browser, few=True)
        self.consent_page = self.browser.authorize(self.registered["asking"])

    # ---- users, clients, browsers

    def user(self, username: str = "alice") -> User:
        """Return the record of a user as it is now."""
        user = self.store.users.get(self.subs[username])
        assert user
        return user

    def alices_grants(self) -> list[Grants]:
        """Return alice's grants of all kinds in her first browser."""
        return [self.grants[kind] for kind in KINDS]

    def open_browser(self) -> Browser:
        """Return a new browser without cookies."""
        self._browsers.append(Browser(self.site))
        return self._browsers[-1]

    def sign_in(self, username: str) -> Browser:
        """Return a new browser in which a user has signed in."""
        browser = self.open_browser()
        assert sign_in_to_account(browser, username).status == 200
        return browser

    def register_client(self, client_id: str) -> None:
        """Register one of the clients, again if it was deleted."""
        if client_id == API:
            members: dict[str, Any] = {"redirect_uris": (), "grant_types": (), "response_types": ()}
        else:
            members = {
                "scope": "openid email offline_access print",
                "trusted": client_id not in ("remembered", "asking"),
                "direct_sign_in": client_id == "basic",
                "grant_types": ("authorization_code", "refresh_token", "client_credentials"),
                "subject_type": "pairwise" if client_id in ("basic", "offline") else "public",
                "authorization_code_lifetime": 600,
                "post_logout_redirect_uris": (BYE,),
            }
        # It has the same secret when it is registered again.
        secret = f"the secret of {client_id}"
        self.registered[client_id] = self.site.client(
            client_id=client_id, client_name=client_id, client_secret=secret, **members
        )

    def _cache_clients(self) -> None:
        for client_id in self.registered:
            assert self.site.server.client(client_id)

    def _grant(self, client_id: str, kind: str, username: str, browser: Browser, *, few: bool = False) -> Grants:
        """Create the grants of one kind; `few`: only one, for a test that expects that nothing happens to it."""
        client, machine = self.registered[client_id], self.machine
        parameters: dict[str, Any] = {"scope": KINDS[kind], "resource": API}
        if kind != "client_credentials":
            parameters["resource"] = [API, self.site.settings.issuer]  # the issuer's is UserInfo
        else:
            return Grants(self, client_id, kind, _members(machine.token(client, grant_type=kind, **parameters)))

        def authorize() -> str:
            if kind == "basic":
                credentials = basic(username, PASSWORD)
                return machine.authorize(client, "/oauth2/code", headers=credentials, **parameters).code
            return browser.code(client, "allow_always", **parameters)

        codes = tuple(authorize() for _ in range(1 if few else 2))
        tokens, *rest = (_members(machine.redeem(client, code)) for code in codes)
        for_api = _members(machine.refresh(client, tokens["refresh_token"], resource=API))
        tokens = {**for_api, "userinfo": tokens["access_token"]}
        if few:
            return Grants(self, client_id, kind, tokens, redeemed_codes=codes)
        (retried,) = rest
        _members(machine.refresh(client, retried["refresh_token"]))
        return Grants(self, client_id, kind, tokens, authorize(), retried, codes)

    # ---- the same world for several tests

    def _save(self) -> None:
        client = self.store.dynamodb.client
        self._items = {table.name: client.call("Scan", TableName=table.name)["Items"] for table in self.store.tables}
        del self._items[self.store.keys.name]
        self._cookies = [dict(browser.cookies) for browser in self._browsers]
        self._time, self._first_clients = self.site.clock.time, dict(self.registered)

    def restore(self, *, shown: bool = True) -> None:
        """Write all records to empty tables as they were at first, and restore the rest.

        `shown`: whether the account page lists them; not while its index lags.
        """
        self.site.clock.time, self.shown = self._time, shown
        put_items(self.store, [(name, item) for name, items in self._items.items() for item in items])
        while len(self._browsers) > len(self._cookies):
            self._browsers.pop().close()
        for browser, cookies in zip(self._browsers, self._cookies, strict=True):
            browser.cookies = dict(cookies)
        self.password, self.registered = PASSWORD, dict(self._first_clients)
        self.site.server.forget_cached_records()
        self.site.clock.advance(-PAUSE)
        self._cache_clients()
        self.site.clock.advance(PAUSE)

    def close(self) -> None:
        """Close the connections of all browsers."""
        for browser in self._browsers:
            browser.close()

    # ---- outcomes

    def press(self, browser: Browser, path: str, action: str, **fields: str) -> None:
        """Press the only button of an account page whose form has these fields."""
        page = browser.get(path)
        assert page.status == 200, page.location
        # A button that the lagging index hides was shown before.
        form = read_form(page, action, **fields) if self.shown else account_form(browser, action, **fields)
        answer = submit_form(browser, form)
        assert answer.status == 303, answer.body

    def outcomes(self, *, consuming: bool = True) -> Outcomes:
        """Return for each grant, session and consent, and for each of its uses, whether it works.

        Alice signs in again in another browser, which shows what the account page lists. Without `consuming`, codes and
        refresh tokens are not redeemed.
        """
        outcomes: Outcomes = {}

        def add(column: str, uses: Mapping[str, bool]) -> None:
            outcomes.update((f"{column}: {use}", works) for use, works in uses.items())

        for column, grants in self.grants.items():
            add(column, grants.read_uses())
        viewer, remembered = self.open_browser(), self.registered["remembered"]
        answer = viewer.send(open_sign_in(viewer), username="alice", password=self.password)
        can_sign_in = answer.status == 303 and "/account/restore" not in answer.location
        can_sign_in = can_sign_in and viewer.request("GET", answer.location).status == 200
        if self.shown:
            listed = listed_clients(viewer) if can_sign_in else set()
            for column in LISTED:
                add(column, {"listed": self.grants[column].client_id in listed})
            add("consent", {"listed": remembered.id in listed})
        add("consent", {"prompt=none": can_sign_in and self._is_answered_silently(viewer, remembered)})
        add("bob's consent", {"prompt=none": self._is_answered_silently(self.bobs_browser, remembered)})
        for column, browser, username in (
            ("browser", self.browser, "alice"),
            ("second browser", self.second_browser, "alice"),
            ("bob's browser", self.bobs_browser, "bob"),
        ):
            add(column, {"account page": shows_account_of(browser, username)})
            add(column, {"prompt=none": self._is_answered_silently(browser, self.registered["trusted"], username)})
        answer = self.browser.send(self.consent_page, decision="allow_once")
        add("browser", {"consent form": answer.status == 303 and "code" in answer.answer})
        if consuming:
            for column, grants in self.grants.items():
                add(column, grants.consuming_uses())
        return outcomes

    def _is_answered_silently(self, browser: Browser, client: Registered, username: str | None = None) -> bool:
        """Return whether `prompt=none` yields a code, for this user if one is given."""
        answer = browser.authorize(client, prompt="none")
        if answer.status == 400:  # the client was deleted
            return False
        if "error" in answer.answer:
            assert answer.answer["error"] in ("login_required", "consent_required"), answer.answer
            return False
        if username is None:
            return True
        userinfo = browser.userinfo(_members(browser.redeem(client, answer.code))["access_token"])
        return bool(userinfo.json["sub"] == self.subs[username])


@contextmanager
def own_world(shared: Site, kind: type[W], **settings: Any) -> Iterator[W]:
    """Create a world on a server of its own, with these settings too; `shared` is emptied and gets its secrets."""
    shared.reset()
    site = Site(**SETTINGS, **settings)
    world = kind(site)
    yield world
    world.close()
    site.close()
    shared.secrets.update(site.secrets)


def put_items(store: Store, items: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Put items, each with the name of its table, by DynamoDB's API."""
    writes = [(table, {"PutRequest": {"Item": item}}) for table, item in items]
    for start in range(0, len(writes), 25):
        requests: dict[str, list[Any]] = {}
        for table, write in writes[start : start + 25]:
            requests.setdefault(table, []).append(write)
        assert not store.dynamodb.client.call("BatchWriteItem", RequestItems=requests)["UnprocessedItems"]


def ended(outcomes: Outcomes, columns: Iterable[str], *, spared: Iterable[str] = ()) -> Outcomes:
    """Return the outcomes when exactly these columns have ended, and in them all uses except those that are spared."""
    expired, kept = frozenset(columns), frozenset(spared)
    unknown = expired - {outcome.partition(": ")[0] for outcome in outcomes}
    assert not unknown, unknown
    return {
        outcome: outcome.partition(": ")[0] not in expired or outcome.partition(": ")[2] in kept for outcome in outcomes
    }


def _members(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    return answer.json


def _works(answer: Answer, *errors: str) -> bool:
    if answer.status != 200:
        assert answer.json["error"] in errors, answer.body
    return answer.status == 200


def _is_active(answer: Answer) -> bool:
    return bool(answer.json["active"])
