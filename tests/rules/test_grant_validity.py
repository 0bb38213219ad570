"""Uses of a grant whose user, session, consent or client has changed, or cannot be read."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from chalicelib.aws.messages import Request, Response
from chalicelib.grants.refresh_token import MAX_OUTAGE
from chalicelib.protocol.grant import Grant
from chalicelib.protocol.records import Consent, Session, User
from chalicelib.storage.store import Store
from tests.support import faults
from tests.support.account import submit_action
from tests.support.browser import Answer, Browser
from tests.support.faults import Wire
from tests.support.grants import insert_grant
from tests.support.resource_servers import introspect
from tests.support.site import Registered, Site


@dataclass
class Setup:
    """Alice, signed in in a browser, and grants that depend on her session: one for each use that consumes it."""

    site: Site
    browser: Browser
    client: Registered
    code: str
    tokens: dict[str, Any]
    retried: dict[str, Any]

    @property
    def store(self) -> Store:
        return self.site.server.store

    @property
    def user(self) -> User:
        (user,) = self.store.users.scan()
        return user

    @property
    def session(self) -> Session:
        (session,) = self.store.sessions.scan()
        return session

    def grant(self, use: str) -> Grant:
        """Return the grant that a use is about."""
        keys = self.site.server.keys
        tokens = self.retried if use == "retried refresh" else self.tokens
        handle = (
            keys.read_handle("code", self.code) if use == "code" else keys.read_handle("rt", tokens["refresh_token"])
        )
        assert handle
        grant = self.store.grants.get(handle.id)
        assert grant
        return grant

    def use(self, use: str) -> Answer:
        """Use a grant, or the session in the browser."""
        uses: dict[str, Callable[[], Answer]] = {
            "code": partial(self.browser.redeem, self.client, self.code),
            "refresh": partial(self.browser.refresh, self.client, self.tokens["refresh_token"]),
            "retried refresh": partial(self.browser.refresh, self.client, self.retried["refresh_token"]),
            "UserInfo": partial(self.browser.userinfo, self.tokens["access_token"]),
            "access token introspected": partial(introspect, self.browser, self.client, self.tokens["access_token"]),
            "refresh token introspected": partial(introspect, self.browser, self.client, self.tokens["refresh_token"]),
            "account page": partial(self.browser.get, "/account/password"),
            "prompt=none": partial(self.browser.authorize, self.client, prompt="none"),
        }
        return uses[use]()

    def works(self, use: str) -> bool:
        """Use a grant, or the session in the browser, and return whether that works."""
        answer = self.use(use)
        if use.endswith("introspected"):
            return bool(answer.json["active"])
        return answer.status == 200 or (answer.status == 302 and "code" in answer.answer)


CONSUMING = ("code", "refresh", "retried refresh")
READING = ("UserInfo", "access token introspected", "refresh token introspected")
IN_BROWSER = ("account page", "prompt=none")


@pytest.fixture
def setup(site: Site, browser: Browser) -> Setup:
    """Return alice's grants to a trusted client."""
    site.user("alice")
    client = site.client(trusted=True)
    tokens, retried = (browser.tokens(client, scope="openid email") for _ in range(2))
    browser.refresh(client, retried["refresh_token"])
    return Setup(site, browser, client, browser.code(client), tokens, retried)


# ---- endings


def change_user(setup: Setup, **changes: Any) -> None:
    setup.store.users.put(replace(setup.user, **changes))


def change_session(setup: Setup, **changes: Any) -> None:
    setup.store.sessions.put(replace(setup.session, **changes))


def change_client(setup: Setup, **changes: Any) -> None:
    setup.store.clients.put(replace(setup.client.record, **changes))
    setup.site.server.forget_cached_records()


def delete_user(setup: Setup) -> None:
    setup.store.users.delete(setup.user.sub)


def delete_session(setup: Setup) -> None:
    setup.store.sessions.delete(setup.session.session_id)


def remove_access(setup: Setup) -> None:
    setup.store.consents.put(Consent(setup.user.sub, setup.client.id, generation=1))


def end_grants_of_user(setup: Setup) -> None:
    change_user(setup, grants_generation=setup.user.grants_generation + 1)


def end_sessions_of_user(setup: Setup) -> None:
    change_user(setup, sessions_generation=setup.user.sessions_generation + 1)


# ending -> the change, and why the log says that the grant has ended
ENDINGS: dict[str, tuple[Callable[[Setup], None], str]] = {
    "user deleted": (delete_user, "the user was deleted or is disabled"),
    "user disabled": (partial(change_user, disabled_at=1), "the user was deleted or is disabled"),
    "grants of the user ended": (end_grants_of_user, "all grants of the user were ended"),
    "sessions of the user ended": (end_sessions_of_user, "the session has ended"),
    "session ended": (partial(change_session, ended_at=1), "the session has ended"),
    "session expired": (partial(change_session, expires_at=1), "the session has ended"),
    "session deleted": (delete_session, "the session has ended"),
    "access removed": (remove_access, "the access of the client was removed"),
    "client registered again": (partial(change_client, registration_id="other"), "the client was registered again"),
    "grants of the client ended": (partial(change_client, grants_generation=1), "all grants of the client were ended"),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("use", CONSUMING)
def test_rejected_code_or_refresh_token_revokes_its_grant_and_the_log_says_why(
    setup: Setup, ending: str, use: str, caplog: pytest.LogCaptureFixture
) -> None:
    end, why = ENDINGS[ending]
    end(setup)
    setup.site.clock.advance(5)
    with caplog.at_level(logging.INFO, "signet"):
        answer = setup.use(use)
    assert (answer.status, answer.json["error"]) == (400, "invalid_grant")
    assert "access has ended" in answer.json["error_description"]
    assert setup.grant(use).revoked_at == setup.site.clock()
    details = [json.loads(record.getMessage()).get("detail") for record in caplog.records]
    assert why in details
    assert not any(detail and detail in answer.body for detail in details), "the client is not told why"
    revoked = setup.grant(use)
    setup.site.clock.advance(5)
    assert setup.use(use).json["error"] == "invalid_grant"
    assert setup.grant(use) == revoked


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("use", READING)
def test_rejected_access_token_and_introspection_write_nothing(setup: Setup, ending: str, use: str, wire: Wire) -> None:
    ENDINGS[ending][0](setup)
    with wire.counted() as calls:
        assert not setup.works(use)
    assert not {"UpdateItem", "PutItem", "TransactWriteItems"} & set(calls)
    assert setup.grant(use).revoked_at is None


# ---- records that cannot be read


def leave_unprocessed(request: Request, _proceed: faults.Proceed) -> Response:
    """Answer that no key was processed, as DynamoDB does when it is throttled."""
    keys = faults.parameters_of(request)["RequestItems"]
    return faults.answer(request, json.dumps({"Responses": {}, "UnprocessedKeys": keys}))


@pytest.mark.parametrize("fault", [faults.unreachable, faults.throttled, leave_unprocessed])
@pytest.mark.parametrize("use", [*CONSUMING, *READING, *IN_BROWSER])
def test_unreadable_records_are_a_temporary_error_and_the_next_try_succeeds(
    setup: Setup, wire: Wire, use: str, fault: faults.Fault
) -> None:
    before = setup.grant(use)
    with wire.every("BatchGetItem", fault):
        answer = setup.use(use)
    if use == "prompt=none":
        assert answer.answer["error"] == "temporarily_unavailable"
    else:
        assert answer.status == 503
    after = setup.grant(use)
    assert (after.revoked_at, after.redeemed_at) == (None, before.redeemed_at)
    assert setup.works(use)


def test_keys_that_are_unprocessed_once_are_read_again(setup: Setup, wire: Wire) -> None:
    with wire.fault_in("BatchGetItem", leave_unprocessed, tries=1):
        assert setup.works("UserInfo")


def test_code_stays_valid_for_its_lifetime_when_records_cannot_be_read(setup: Setup, wire: Wire) -> None:
    lifetime = setup.site.settings.authorization_code_lifetime
    for seconds in (0, lifetime - 1):
        setup.site.clock.advance(seconds)
        with wire.every("BatchGetItem", faults.unreachable):
            assert setup.use("code").status == 503
    assert setup.works("code")


@pytest.mark.parametrize("use", ["refresh", "retried refresh"])
def test_refresh_can_be_retried_for_ten_minutes_when_records_cannot_be_read(setup: Setup, wire: Wire, use: str) -> None:
    with wire.every("BatchGetItem", faults.unreachable):
        assert setup.use(use).status == 503
    setup.site.clock.advance(MAX_OUTAGE - 1)
    first, second = setup.use(use), setup.use(use)
    assert (first.status, second.status) == (200, 200)
    assert first.json["refresh_token"] == second.json["refresh_token"]


@pytest.mark.parametrize("use", CONSUMING)
def test_ending_while_records_cannot_be_read_is_noticed_by_the_next_try(setup: Setup, wire: Wire, use: str) -> None:
    with wire.every("BatchGetItem", faults.unreachable):
        assert setup.use(use).status == 503
    end_grants_of_user(setup)
    assert setup.use(use).json["error"] == "invalid_grant"
    assert setup.grant(use).revoked_at == setup.site.clock()


@pytest.mark.parametrize("use", CONSUMING)
def test_grant_that_could_not_be_revoked_is_rejected_by_the_next_try(setup: Setup, wire: Wire, use: str) -> None:
    """Its first write consumes the credential; the second one revokes the grant."""
    end_grants_of_user(setup)
    with wire.fault_in("UpdateItem", faults.unreachable, skip=1):
        assert setup.use(use).status == 503
    assert setup.use(use).json["error"] == "invalid_grant"
    assert setup.grant(use).revoked_at == setup.site.clock()


# ---- a batch is no snapshot: it may show one record before and another after a transaction


def keep_session(setup: Setup) -> tuple[User, Session]:
    """Sign out all other browsers; return the user and the session as they were before."""
    user, session = setup.user, setup.session
    assert submit_action(setup.browser, "sign_out_others").status == 303
    assert setup.session.sessions_generation == setup.user.sessions_generation == user.sessions_generation + 1
    return user, session


@pytest.mark.parametrize("stale", ["user", "session"])
@pytest.mark.parametrize("use", [*CONSUMING, *READING, *IN_BROWSER])
def test_grant_is_not_rejected_by_a_batch_that_shows_one_record_before_a_transaction(
    setup: Setup, wire: Wire, use: str, stale: str
) -> None:
    old_user, old_session = keep_session(setup)
    new_user, new_session = setup.user, setup.session

    def read_torn(_request: Request, proceed: faults.Proceed) -> Response:
        if stale == "user":
            setup.store.users.put(old_user)
        else:
            setup.store.sessions.put(old_session)
        response = proceed()
        setup.store.users.put(new_user)
        setup.store.sessions.put(new_session)
        return response

    with wire.fault_in("BatchGetItem", read_torn, tries=1):
        assert setup.works(use)
        assert wire.calls.count("BatchGetItem") == 2
    assert setup.grant(use).revoked_at is None


@pytest.mark.parametrize("use", [*CONSUMING, *READING])
def test_valid_grant_is_read_once(setup: Setup, wire: Wire, use: str) -> None:
    with wire.counted() as calls:
        assert setup.works(use)
    assert calls.count("BatchGetItem") == 1


def raise_copy_of_user(setup: Setup) -> None:
    change_user(setup, grants_generation=setup.user.grants_generation - 1)


def raise_copy_of_consent(setup: Setup) -> None:
    setup.store.grants.put(replace(setup.grant("UserInfo"), consent_generation=1))


# Those where a record may have been read as it was before a transaction.
MAYBE_TORN = {
    "sessions of the user ended": end_sessions_of_user,
    "copy of the user's generation is newer": raise_copy_of_user,
    "copy of the consent's generation is newer": raise_copy_of_consent,
}


@pytest.mark.parametrize("ending", dict.fromkeys([*ENDINGS, *MAYBE_TORN]))
def test_rejected_access_token_reads_the_client_again_and_a_batch_only_if_it_may_be_torn(
    setup: Setup, ending: str, wire: Wire
) -> None:
    end = MAYBE_TORN.get(ending) or ENDINGS[ending][0]
    end(setup)
    assert setup.site.server.client(setup.client.id), "it is cached"
    with wire.counted() as calls:
        assert not setup.works("UserInfo")
    batches = ["BatchGetItem"] * (2 if ending in MAYBE_TORN else 1)
    assert calls == ["GetItem", *batches, "GetItem"], "the grant, what it depends on, and the client"


# ---- the cached client


@pytest.mark.parametrize("changes", [{"grants_generation": 1}, {"registration_id": "other"}], ids=str)
def test_new_grant_is_not_rejected_by_a_cached_client(site: Site, browser: Browser, changes: dict[str, Any]) -> None:
    """Another process has created the grant, with the client's present record."""
    client, user = site.client(), site.user("alice")
    assert site.server.client(client.id)
    present = replace(client.record, **changes)
    site.server.store.clients.put(present)
    grant = insert_grant(
        site, client, user, registration_id=present.registration_id, client_generation=present.grants_generation
    )
    assert browser.redeem(client, site.server.keys.make_handle("code", grant.grant_id)).status == 200


@pytest.mark.parametrize("changes", [{"grants_generation": 1}, {"registration_id": "other"}], ids=str)
def test_ending_of_all_grants_of_a_client_is_seen_within_a_minute(
    site: Site, browser: Browser, changes: dict[str, Any]
) -> None:
    client, user = site.client(), site.user("alice")
    grant = insert_grant(site, client, user)
    token = browser.redeem(client, site.server.keys.make_handle("code", grant.grant_id)).json["access_token"]
    site.server.store.clients.put(replace(client.record, **changes))
    site.clock.advance(60)
    assert browser.userinfo(token).status == 401


@pytest.mark.parametrize("use", ["refresh", "retried refresh"])
def test_grant_is_not_revoked_because_its_client_is_disabled(setup: Setup, use: str) -> None:
    """The server has cached an earlier record of the client, to which the grant does not belong."""
    site, clients = setup.site, setup.store.clients
    clients.put(replace(setup.client.record, grants_generation=7))
    site.server.forget_cached_records()
    assert site.server.client(setup.client.id)
    clients.put(replace(setup.client.record, disabled_at=1))
    assert setup.use(use).json["error"] == "invalid_client"
    assert setup.grant(use).revoked_at is None
    assert setup.use(use).json["error"] == "invalid_client", "the cached record was replaced"
    site.clock.advance(30)  # longer than the retry window: neither attempt has used up the code or the refresh token
    clients.put(setup.client.record)
    assert setup.works(use)


# ---- a user whose sub is the client_id, as version 1 stored for client_credentials


def test_grant_of_a_user_whose_sub_is_the_client_id_ends_with_the_user(site: Site, browser: Browser) -> None:
    """A grant without a user has no session id."""
    client, alice = site.client(client_id="same"), site.user("alice", claims={"email": "alice@example.com"})
    user = replace(alice, sub="same")
    site.server.store.users.put(user)
    grant = insert_grant(site, client, user)
    tokens = browser.redeem(client, site.server.keys.make_handle("code", grant.grant_id)).json
    assert browser.userinfo(tokens["access_token"]).json["email"] == "alice@example.com"
    site.server.store.users.put(replace(user, disabled_at=1))
    assert browser.userinfo(tokens["access_token"]).status == 401
    assert introspect(browser, client, tokens["access_token"]).json == {"active": False}
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
