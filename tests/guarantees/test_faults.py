"""Faults of DynamoDB at each call of each endpoint: unreachable, throttled, conflicting, response lost."""

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from chalicelib import events
from chalicelib.authentication import passwords
from chalicelib.aws.messages import Request, Response
from chalicelib.keys.stored_ring import RING
from chalicelib.mail import proof_codes
from chalicelib.protocol.durations import MINUTE
from chalicelib.protocol.records import Consent, Identifier, User
from chalicelib.protocol.resource import Resource
from chalicelib.protocol.scheduled_deletion import DELETIONS
from chalicelib.storage.table import Table
from chalicelib.users import email_address
from tests.support import faults
from tests.support.account import account_form, submit_form
from tests.support.browser import Answer, Browser, authorization_parameters, basic
from tests.support.faults import ALWAYS, Fault, Proceed, Wire
from tests.support.grants import update_client
from tests.support.mail_flows import ADDRESS, choose, send_choice
from tests.support.mailbox import SENDER
from tests.support.resource_servers import API
from tests.support.second_factor import REFEDS, add_second_factor
from tests.support.site import PASSWORD, STAGE, Registered, Site, tables

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

NEW_PASSWORD = "a new password of her own"
# All other faults are handled like one of these (tests/storage_keys/test_store.py).
PERMANENT_FAULTS: list[Fault] = [faults.unreachable, faults.throttled, faults.answer_lost]
TRANSIENT_FAULTS: list[Fault] = [faults.unreachable, faults.answer_lost, faults.conflict]
WRITES = ("PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems")
R = TypeVar("R", bound="DataclassInstance")


@dataclass
class Environment:
    """The state before the request under test, which can be saved and restored."""

    site: Site
    browser: Browser
    wire: Wire
    user: User
    client: Registered
    _saved: dict[str, Any] = field(default_factory=dict)

    def save(self) -> None:
        items = {name: copy.deepcopy(table.items) for name, table in tables().items()}
        self._saved = {"items": items, "cookies": dict(self.browser.cookies)}

    def restore(self) -> None:
        for name, table in tables().items():
            table.items = copy.deepcopy(self._saved["items"][name])
        self.browser.cookies = dict(self._saved["cookies"])
        # Reading the client is a call that can fail too.
        self.site.server.forget_cached_records()

    def stored(self, table: Table[R]) -> list[R]:
        """Return all records of a table, without a DynamoDB call."""
        items = tables()[table.name].all_items()
        return [record for item in items if (record := table.live(item.to_json()["Attributes"]))]

    def assert_consistent(self, *, denied: bool = False) -> None:
        """Assert that each grant has its session, and was created together with its request and consent."""
        store = self.site.server.store
        grants = self.stored(store.grants)
        sessions = {session.session_id for session in self.stored(store.sessions)}
        assert {grant.session_id for grant in grants if grant.session_stored} <= sessions
        of_users = [grant for grant in grants if grant.has_user]
        assert all((grant.generation > 0) == (grant.redeemed_at is not None) for grant in of_users)
        answered = [request for request in self.stored(store.requests) if request.taken_at is not None]
        assert len(answered) <= len(grants) + denied
        assert len(self.stored(store.consents)) <= len(grants)

    def let_mail_be_sent(self) -> None:
        """Let the server have a sender, and the user a verified address."""
        object.__setattr__(self.site.server, "settings", replace(self.site.settings, email_from=SENDER))
        email_address.mark_verified(self.site.server.store, self.user, ADDRESS)

    def let_codes_be_sent(self) -> None:
        """Let users sign in with the code of an email."""
        self.let_mail_be_sent()
        object.__setattr__(self.site.server, "settings", replace(self.site.server.settings, email_code_sign_in=True))

    def code_to_sign_in(self) -> str:
        """Return the code of the only email."""
        (proof,) = self.stored(self.site.server.store.proofs)
        code = proof_codes.code_of(self.site.server, proof.proof_id, proof.purpose)
        self.site.secrets.add(code)
        return code

    def pass_a_quarter_of_the_session(self) -> None:
        """Advance the clock until the next use extends the session; cache the key ring again."""
        self.site.clock.advance(self.site.settings.session_idle_lifetime // 4 + 1)
        self.site.server.keys.jwks()

    # ---- the rest of the flow

    def complete_from_sign_in(self, answer: Answer) -> None:
        assert answer.status == 200, answer.body
        self.complete_from_consent(self.browser.sign_in(answer))

    def complete_from_consent(self, answer: Answer) -> None:
        answer = self.browser.follow(answer)
        assert answer.status == 200, answer.body
        self.complete_from_code(self.browser.submit(answer, decision="allow_once"))

    def complete_from_code(self, answer: Answer) -> None:
        self.complete_from_tokens(self.browser.redeem(self.client, answer.code))

    def complete_from_tokens(self, answer: Answer) -> None:
        assert answer.status == 200, answer.body
        assert self.browser.userinfo(answer.json["access_token"]).json["sub"] == self.user.sub
        refreshed = self.browser.refresh(self.client, answer.json["refresh_token"])
        assert refreshed.status == 200, refreshed.body


@dataclass
class CheckedRequest:
    """The request under test.

    `finish` completes the flow from its response, which must work. `redirects_after` is the number of calls after
    which errors are sent to the redirect URI (None: never).
    `consumed_by` is the operation after which the request cannot be repeated; `check_consumed` checks the response of
    the repetition. `recover` completes the flow after a failure when the request is not simply repeated.
    `ignored_call`: the number of the call whose failure is ignored, because the next use makes up for it.
    """

    send: Callable[[], Answer]
    finish: Callable[[Answer], None]
    redirects_after: int | None = None
    consumed_by: str | None = None
    check_consumed: Callable[[Answer], None] = lambda _answer: None
    recover: Callable[[], None] | None = None
    ignored_call: int | None = None
    denies: bool = False


def assert_invalid_grant(answer: Answer) -> None:
    assert answer.status == 400
    assert answer.json["error"] == "invalid_grant"


# ---- the requests


def authorize_without_a_session(env: Environment) -> CheckedRequest:
    return CheckedRequest(partial(env.browser.authorize, env.client), env.complete_from_sign_in, redirects_after=1)


def authorize_by_post(env: Environment) -> CheckedRequest:
    request = authorization_parameters(env.client, scope=None)

    def finish(answer: Answer) -> None:
        env.complete_from_sign_in(env.browser.request("GET", answer.location))

    return CheckedRequest(partial(env.browser.post, "/oauth2/authorize", request), finish, redirects_after=1)


def continue_a_posted_request(env: Environment) -> CheckedRequest:
    stored = authorize_by_post(env).send()
    send = partial(env.browser.request, "GET", stored.location)

    def check_consumed(answer: Answer) -> None:
        """The request is bound to a browser that has not received its cookie."""
        assert answer.status == 400
        assert "another browser" in answer.body

    return CheckedRequest(
        send, env.complete_from_sign_in, redirects_after=3, consumed_by="UpdateItem", check_consumed=check_consumed
    )


def start_an_expired_request_anew(env: Environment) -> CheckedRequest:
    page = env.browser.sign_in(env.browser.authorize(env.client))
    env.site.clock.advance(env.site.settings.request_lifetime)
    env.site.server.keys.jwks()  # cached again
    return CheckedRequest(partial(env.browser.get, page.url), env.complete_from_consent, redirects_after=2)


def authorize_with_a_session_and_remembered_consent(env: Environment) -> CheckedRequest:
    env.browser.code(env.client, decision="allow_always")
    return CheckedRequest(partial(env.browser.authorize, env.client), env.complete_from_code, redirects_after=1)


def authorize_when_the_session_is_extended(env: Environment) -> CheckedRequest:
    env.browser.tokens(env.client, decision="allow_always")
    checked = authorize_with_a_session_and_remembered_consent(env)
    return when_the_session_is_extended(env, replace(checked, ignored_call=2))


def when_the_session_is_extended(env: Environment, checked: CheckedRequest) -> CheckedRequest:
    """Return a request that extends the session, or else the end of the flow does."""
    env.pass_a_quarter_of_the_session()
    end = env.site.clock() + env.site.settings.session_idle_lifetime

    def finish(answer: Answer) -> None:
        checked.finish(answer)
        assert [session.expires_at for session in env.stored(env.site.server.store.sessions)] == [end]

    return replace(checked, finish=finish)


def authorize_the_first_client_with_backchannel_logout(env: Environment) -> CheckedRequest:
    env.browser.code(env.client)
    client = env.client = env.site.client(trusted=True, backchannel_logout_uri="https://client.example.com/backchannel")

    def finish(answer: Answer) -> None:
        (session,) = env.stored(env.site.server.store.sessions)
        assert session.backchannel_clients == {client.id}
        env.complete_from_code(answer)

    return CheckedRequest(partial(env.browser.authorize, client), finish, redirects_after=1)


def authorize_with_a_session(env: Environment) -> CheckedRequest:
    env.browser.code(env.client)
    return CheckedRequest(partial(env.browser.authorize, env.client), env.complete_from_consent, redirects_after=1)


def sign_in(env: Environment) -> CheckedRequest:
    page = env.browser.authorize(env.client)
    return CheckedRequest(
        partial(env.browser.send, page, username="alice", password=PASSWORD),
        env.complete_from_consent,
        redirects_after=2,
    )


def password_of_two_factors(env: Environment) -> CheckedRequest:
    phone = add_second_factor(env.site)
    page = env.browser.authorize(env.client)

    def finish(answer: Answer) -> None:
        page = env.browser.follow(answer)
        env.complete_from_consent(env.browser.submit(page, one_time_code=phone.code()))

    return CheckedRequest(
        partial(env.browser.send, page, username="alice", password=PASSWORD), finish, redirects_after=2
    )


def code_of_the_second_factor(env: Environment) -> CheckedRequest:
    phone = add_second_factor(env.site)
    page = env.browser.sign_in(env.browser.authorize(env.client))
    send = partial(env.browser.send, page, one_time_code=phone.code())
    return CheckedRequest(send, env.complete_from_consent, redirects_after=2)


def recovery_code(env: Environment) -> CheckedRequest:
    phone = add_second_factor(env.site)
    page = env.browser.sign_in(env.browser.authorize(env.client))
    send = partial(env.browser.send, page, one_time_code="", recovery_code=phone.recovery_codes[0])
    return CheckedRequest(send, env.complete_from_consent, redirects_after=2)


def step_up(env: Environment) -> CheckedRequest:
    env.browser.code(env.client)
    phone = add_second_factor(env.site)
    page = env.browser.authorize(env.client, acr_values=REFEDS)
    send = partial(env.browser.send, page, one_time_code=phone.code())
    return CheckedRequest(send, env.complete_from_consent, redirects_after=2)


def sign_in_again(env: Environment) -> CheckedRequest:
    env.browser.code(env.client)
    page = env.browser.authorize(env.client, prompt="login")
    return CheckedRequest(
        partial(env.browser.send, page, username="alice", password=PASSWORD),
        env.complete_from_consent,
        redirects_after=2,
    )


def sign_in_as_another_user(env: Environment) -> CheckedRequest:
    other = replace(env.user, sub="another", username="bob")
    env.site.server.store.users.put(other)
    env.site.server.store.identifiers.put(Identifier("username:bob", other.sub))
    page = env.browser.authorize(env.client)
    env.browser.submit(env.browser.sign_in(page, "bob"), decision="allow_once")
    page = env.browser.authorize(env.client, prompt="login")
    return CheckedRequest(
        partial(env.browser.send, page, username="alice", password=PASSWORD),
        env.complete_from_consent,
        redirects_after=2,
    )


def sign_in_with_remembered_consent(env: Environment) -> CheckedRequest:
    env.browser.code(env.client, decision="allow_always")
    env.browser.cookies.clear()
    page = env.browser.authorize(env.client)
    return CheckedRequest(
        partial(env.browser.send, page, username="alice", password=PASSWORD),
        env.complete_from_code,
        redirects_after=2,
    )


def sign_in_pressed_again(env: Environment) -> CheckedRequest:
    env.browser.code(env.client, decision="allow_always")
    env.browser.cookies.clear()
    page = env.browser.authorize(env.client)
    cookies = dict(env.browser.cookies)

    def send() -> Answer:
        env.browser.cookies = dict(cookies)
        return env.browser.send(page, username="alice", password=PASSWORD)

    assert send().code
    return CheckedRequest(send, env.complete_from_code, redirects_after=2)


def wrong_password(env: Environment) -> CheckedRequest:
    page = env.browser.authorize(env.client)

    def finish(answer: Answer) -> None:
        page = env.browser.follow(answer)
        assert page.status == 400
        env.complete_from_consent(env.browser.sign_in(page))

    return CheckedRequest(
        partial(env.browser.send, page, username="alice", password="wrong password"), finish, redirects_after=2
    )


def allow_once(env: Environment) -> CheckedRequest:
    page = env.browser.sign_in(env.browser.authorize(env.client))
    return CheckedRequest(
        partial(env.browser.send, page, decision="allow_once"), env.complete_from_code, redirects_after=2
    )


def allow_pressed_again(env: Environment) -> CheckedRequest:
    checked = allow_once(env)
    assert checked.send().code
    return checked


def give_the_answer_by_form_post(env: Environment) -> CheckedRequest:
    page = env.browser.sign_in(env.browser.authorize(env.client, response_mode="form_post"))
    address = env.browser.send(page, decision="allow_once").location
    return CheckedRequest(partial(env.browser.get, address), env.complete_from_code, redirects_after=2)


def allow_always(env: Environment) -> CheckedRequest:
    page = env.browser.sign_in(env.browser.authorize(env.client))

    def finish(answer: Answer) -> None:
        env.complete_from_code(answer)
        env.complete_from_code(env.browser.authorize(env.client))

    send = partial(env.browser.send, page, decision="allow_always")
    return CheckedRequest(send, finish, redirects_after=2)


def deny(env: Environment) -> CheckedRequest:
    page = env.browser.sign_in(env.browser.authorize(env.client))

    def finish(answer: Answer) -> None:
        assert answer.answer["error"] == "access_denied"
        assert list(env.site.server.store.grants.scan()) == []

    send = partial(env.browser.send, page, decision="deny")
    return CheckedRequest(
        send,
        finish,
        redirects_after=2,
        denies=True,
    )


def change_password(env: Environment) -> CheckedRequest:
    earlier = env.browser.tokens(env.client, scope="openid offline_access")
    env.browser.cookies.clear()
    env.site.server.store.users.put(replace(env.user, password_change_required=True))
    page = env.browser.sign_in(env.browser.authorize(env.client))

    def finish(answer: Answer) -> None:
        assert env.browser.refresh(env.client, earlier["refresh_token"]).json["error"] == "invalid_grant"
        env.complete_from_consent(answer)

    def recover() -> None:
        """Start again; the password may have been changed or not."""
        env.browser.cookies.clear()
        page = env.browser.authorize(env.client)
        answer = env.browser.sign_in(page, password=NEW_PASSWORD)
        if answer.status == 400:
            answer = env.browser.sign_in(answer)
            answer = env.browser.submit(answer, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD)
        # Once the new password is in force, earlier tokens are invalid.
        finish(answer)

    send = partial(env.browser.send, page, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD)
    return CheckedRequest(send, finish, redirects_after=2, recover=recover)


def code_by_basic(env: Environment) -> CheckedRequest:
    send = partial(env.browser.authorize, env.client, "/oauth2/code", headers=basic("alice", PASSWORD))
    return CheckedRequest(send, env.complete_from_consent, redirects_after=1)


def code_by_basic_with_remembered_consent(env: Environment) -> CheckedRequest:
    env.browser.code(env.client, decision="allow_always")
    return replace(code_by_basic(env), finish=env.complete_from_code)


def code_exchange(env: Environment) -> CheckedRequest:
    code = env.browser.code(env.client)
    send = partial(env.browser.redeem, env.client, code)
    return CheckedRequest(send, env.complete_from_tokens, consumed_by="UpdateItem", check_consumed=assert_invalid_grant)


def name_a_resource(env: Environment) -> frozenset[str]:
    """Register a resource, and let the client have its scope; return the resources to name."""
    env.site.server.store.resources.put(Resource(API, API, "Photos", "photos.read"))
    update_client(env.site, env.client, scope="openid offline_access photos.read", trusted=True)
    env.browser.code(env.client, scope="openid")
    return frozenset({API, env.site.settings.issuer})


def authorize_for_a_resource(env: Environment) -> CheckedRequest:
    resources = sorted(name_a_resource(env))
    send = partial(env.browser.authorize, env.client, scope="openid photos.read", resource=resources)

    def finish(answer: Answer) -> None:
        env.complete_from_tokens(env.browser.redeem(env.client, answer.code))

    return CheckedRequest(send, finish, redirects_after=1)


def code_exchange_for_a_resource(env: Environment) -> CheckedRequest:
    resources = sorted(name_a_resource(env))
    code = env.browser.code(env.client, scope="openid photos.read", resource=resources)

    def finish(answer: Answer) -> None:
        assert answer.json["scope"] == "photos.read"
        assert env.browser.refresh(env.client, answer.json["refresh_token"], resource=API).status == 200

    send = partial(env.browser.redeem, env.client, code, resource=API)
    return CheckedRequest(send, finish, consumed_by="UpdateItem", check_consumed=assert_invalid_grant)


def code_exchange_with_a_wrong_verifier(env: Environment) -> CheckedRequest:
    code = env.browser.code(env.client)

    def finish(answer: Answer) -> None:
        assert_invalid_grant(answer)
        assert_invalid_grant(env.browser.redeem(env.client, code))

    return CheckedRequest(partial(env.browser.redeem, env.client, code, code_verifier="w" * 43), finish)


def replayed_code(env: Environment) -> CheckedRequest:
    code = env.browser.code(env.client)
    tokens = env.browser.redeem(env.client, code).json

    def finish(answer: Answer) -> None:
        assert_invalid_grant(answer)
        assert_invalid_grant(env.browser.refresh(env.client, tokens["refresh_token"]))

    return CheckedRequest(partial(env.browser.redeem, env.client, code), finish)


def refresh(env: Environment) -> CheckedRequest:
    tokens = env.browser.tokens(env.client)
    return CheckedRequest(partial(env.browser.refresh, env.client, tokens["refresh_token"]), env.complete_from_tokens)


def refresh_when_the_session_is_extended(env: Environment) -> CheckedRequest:
    return when_the_session_is_extended(env, replace(refresh(env), ignored_call=3))


def refresh_after_sign_out(env: Environment) -> CheckedRequest:
    checked = refresh(env)
    env.browser.send(env.browser.get("/oauth2/logout"), decision="sign_out")

    def finish(answer: Answer) -> None:
        assert_invalid_grant(answer)
        (grant,) = env.stored(env.site.server.store.grants)
        assert grant.revoked_at is not None

    return replace(checked, finish=finish)


def code_exchange_after_sign_out(env: Environment) -> CheckedRequest:
    checked = code_exchange(env)
    env.browser.send(env.browser.get("/oauth2/logout"), decision="sign_out")
    return replace(checked, finish=assert_invalid_grant)


def client_credentials(env: Environment) -> CheckedRequest:
    machine = env.site.client(scope="photos", grant_types=("client_credentials",), response_types=(), redirect_uris=())

    def finish(answer: Answer) -> None:
        assert introspect_token(env, machine, answer.json["access_token"])["active"] is True

    return CheckedRequest(partial(env.browser.token, machine, grant_type="client_credentials"), finish)


def introspect_token(env: Environment, client: Registered, token: str) -> dict[str, Any]:
    credentials = basic(client.id, client.secret or "")
    return env.browser.post("/oauth2/introspect", {"token": token}, credentials).json


def introspect(env: Environment) -> CheckedRequest:
    token = env.browser.tokens(env.client)["refresh_token"]
    credentials = basic(env.client.id, env.client.secret or "")

    def finish(answer: Answer) -> None:
        assert answer.json["active"] is True

    return CheckedRequest(partial(env.browser.post, "/oauth2/introspect", {"token": token}, credentials), finish)


def reused_refresh_token(env: Environment) -> CheckedRequest:
    tokens = env.browser.tokens(env.client)
    current = env.browser.refresh(env.client, tokens["refresh_token"]).json
    env.site.clock.advance(60)
    env.site.server.keys.jwks()  # cached again

    def finish(answer: Answer) -> None:
        assert_invalid_grant(answer)
        assert_invalid_grant(env.browser.refresh(env.client, current["refresh_token"]))

    return CheckedRequest(partial(env.browser.refresh, env.client, tokens["refresh_token"]), finish)


def userinfo(env: Environment) -> CheckedRequest:
    tokens = env.browser.tokens(env.client)

    def finish(answer: Answer) -> None:
        assert answer.json["sub"] == env.user.sub

    return CheckedRequest(partial(env.browser.userinfo, tokens["access_token"]), finish)


def revoke(env: Environment) -> CheckedRequest:
    tokens = env.browser.tokens(env.client)
    form = {"token": tokens["refresh_token"], "client_id": env.client.id, "client_secret": env.client.secret}

    def finish(answer: Answer) -> None:
        assert answer.status == 200
        assert_invalid_grant(env.browser.refresh(env.client, tokens["refresh_token"]))
        assert env.browser.userinfo(tokens["access_token"]).status == 401

    return CheckedRequest(partial(env.browser.post, "/oauth2/revoke", form), finish)


# ---- endings


def sign_out_by_the_application(env: Environment) -> CheckedRequest:
    update_client(env.site, env.client, backchannel_logout_uri="https://client.example.com/backchannel")
    tokens = env.browser.tokens(env.client)

    def finish(answer: Answer) -> None:
        assert answer.status == 200
        assert len(env.stored(env.site.server.store.deliveries)) == 1
        assert_invalid_grant(env.browser.refresh(env.client, tokens["refresh_token"]))

    return CheckedRequest(partial(env.browser.get, "/oauth2/logout", id_token_hint=tokens["id_token"]), finish)


def press(env: Environment, action: str, **fields: str) -> CheckedRequest:
    """Return the request of a button on the account page, which ends the grant of another browser."""
    other = Browser(env.site)
    tokens = other.tokens(env.client)
    handle = env.site.server.keys.read_handle("sid", other.cookies["signet-session"])
    other.close()
    assert handle
    env.browser.code(env.client)
    form = account_form(env.browser, action, client_id=env.client.id, session=handle.id, **fields)

    def finish(answer: Answer) -> None:
        assert answer.location.startswith("/account")
        assert_invalid_grant(env.browser.refresh(env.client, tokens["refresh_token"]))
        assert env.browser.get("/account").status == 200, "this browser stays signed in"

    return CheckedRequest(partial(submit_form, env.browser, form), finish)


def remove_one_application(env: Environment) -> CheckedRequest:
    return press(env, "revoke")


def remove_all_applications(env: Environment) -> CheckedRequest:
    return press(env, "revoke_all")


def sign_out_one_browser(env: Environment) -> CheckedRequest:
    return press(env, "sign_out")


def sign_out_all_other_browsers(env: Environment) -> CheckedRequest:
    return press(env, "sign_out_others")


def change_password_on_the_account_page(env: Environment) -> CheckedRequest:
    new = {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}
    checked = press(env, "change_password", password=PASSWORD, **new)

    def recover() -> None:
        """Sign in again; the password may have been changed or not."""
        answer = checked.send()
        if answer.location.startswith("/account"):
            checked.finish(answer)
            return
        env.browser.cookies.clear()
        answer = env.browser.sign_in(env.browser.authorize(env.client), password=NEW_PASSWORD)
        env.complete_from_consent(answer)

    return replace(checked, recover=recover)


def open_a_let_in_link(env: Environment) -> CheckedRequest:
    link = env.site.let_in_link(env.user)

    def finish(answer: Answer) -> None:
        assert "This browser is known now" in env.browser.submit(answer).body

    return CheckedRequest(partial(env.browser.request, "GET", link), finish)


def use_a_let_in_link(env: Environment) -> CheckedRequest:
    page = open_a_let_in_link(env).send()

    def finish(answer: Answer) -> None:
        assert "This browser is known now" in env.browser.follow(answer).body
        names = [event.name for event in env.stored(env.site.server.store.events)]
        assert names.count(events.BROWSER_LET_IN) == 1

    return CheckedRequest(partial(env.browser.send, page), finish)


def change_the_profile(env: Environment) -> CheckedRequest:
    env.browser.code(env.client)
    page = env.browser.get("/account/profile")

    def finish(answer: Answer) -> None:
        assert answer.location == "/account/profile?done=profile_changed"
        names = [event.name for event in env.stored(env.site.server.store.events)]
        assert names.count(events.PROFILE_CHANGED) == 1

    return CheckedRequest(partial(env.browser.send, page, action="change_profile", name="Alice"), finish)


def download_the_data(env: Environment) -> CheckedRequest:
    env.browser.tokens(env.client)
    page = env.browser.get("/account/data")

    def finish(answer: Answer) -> None:
        assert answer.json["user"]["username"] == "alice"

    return CheckedRequest(partial(env.browser.send, page, action="download"), finish)


def delete_the_account(env: Environment) -> CheckedRequest:
    tokens = env.browser.tokens(env.client)
    page = env.browser.get("/account/delete")

    def finish(answer: Answer) -> None:
        assert answer.location == "/account/restore"
        assert_invalid_grant(env.browser.refresh(env.client, tokens["refresh_token"]))
        store = env.site.server.store
        (user,) = env.stored(store.users)
        (due,) = (each for each in env.stored(store.deletions) if each.outbox == DELETIONS)
        assert (user.deleted_at, user.deletion_due_at) == (due.created_at, due.not_before)

    return CheckedRequest(partial(env.browser.send, page, action="delete", password=PASSWORD), finish)


def restore_the_account(env: Environment) -> CheckedRequest:
    page = env.browser.follow(delete_the_account(env).send())

    def finish(answer: Answer) -> None:
        assert "Your account is restored" in env.browser.follow(answer).body
        assert [user.deleted_at for user in env.stored(env.site.server.store.users)] == [None]

    return CheckedRequest(partial(env.browser.send, page), finish)


def ask_for_a_new_password(env: Environment) -> CheckedRequest:
    env.let_mail_be_sent()
    page = env.browser.get("/account/recover")

    def finish(answer: Answer) -> None:
        page = env.browser.follow(answer)
        code = proof_codes.code_of(env.site.server, page.form.fields["proof"], "reset")
        env.site.secrets.add(code)
        choice = env.browser.submit(page, code=code)
        assert "Your password is changed" in choose(env.browser, choice, NEW_PASSWORD).body

    def recover() -> None:
        """Ask again after a quarter of an hour: moto counts a mail again when the lost call is repeated."""
        env.site.clock.advance(15 * MINUTE)
        env.site.server.keys.jwks()
        finish(env.browser.send(page, username="alice"))

    return CheckedRequest(partial(env.browser.send, page, username="alice"), finish, recover=recover)


def ask_for_a_sign_in_code(env: Environment) -> CheckedRequest:
    env.let_codes_be_sent()
    page = env.browser.authorize(env.client)

    def finish(answer: Answer) -> None:
        page = env.browser.follow(answer)
        assert "email_code" in page.form.fields, page.body
        env.complete_from_consent(env.browser.send(page, email_code=env.code_to_sign_in()))

    def recover() -> None:
        """Ask again as if no mail had been counted: moto counts one again when the lost call is repeated."""
        counts = env.site.server.store.mail_counts
        for count in env.stored(counts):
            counts.delete(getattr(count, counts.key[0]))
        finish(send())

    send = partial(env.browser.send, page, username="alice", email_me="yes")
    return CheckedRequest(send, finish, redirects_after=2, recover=recover)


def enter_a_sign_in_code(env: Environment) -> CheckedRequest:
    env.let_codes_be_sent()
    page = env.browser.submit(env.browser.authorize(env.client), username="alice", email_me="yes")
    send = partial(env.browser.send, page, email_code=env.code_to_sign_in())
    return CheckedRequest(send, env.complete_from_consent, redirects_after=2)


def choose_a_new_password(env: Environment) -> CheckedRequest:
    page = env.browser.follow(ask_for_a_new_password(env).send())
    link = proof_codes.link_handle(env.site.server, page.form.fields["proof"])
    env.site.secrets.add(link)
    choice = env.browser.get("/account/link", link=link)

    def finish(answer: Answer) -> None:
        assert "Your password is changed" in env.browser.follow(answer).body
        names = [event.name for event in env.stored(env.site.server.store.events)]
        assert names.count(events.PASSWORD_RESET) == 1

    return CheckedRequest(partial(send_choice, env.browser, choice, NEW_PASSWORD), finish)


def account_page(env: Environment) -> CheckedRequest:
    env.browser.tokens(env.client)

    def finish(answer: Answer) -> None:
        assert f"Remove access for {env.client.record.client_name}" in answer.body

    return CheckedRequest(partial(env.browser.get, "/account"), finish)


def _send_with_a_cold_ring(env: Environment, send: Callable[[], Answer]) -> Answer:
    env.site.server.keys.forget_cached_keys()
    return send()


def jwks_with_a_cold_ring(env: Environment) -> CheckedRequest:
    keys = env.browser.get("/oauth2/jwks").json

    def finish(answer: Answer) -> None:
        assert answer.json == keys

    return CheckedRequest(partial(_send_with_a_cold_ring, env, partial(env.browser.get, "/oauth2/jwks")), finish)


def metadata_with_a_cold_ring(env: Environment) -> CheckedRequest:
    def finish(answer: Answer) -> None:
        assert answer.json["issuer"] == env.site.settings.issuer

    path = "/.well-known/openid-configuration"
    send = partial(_send_with_a_cold_ring, env, partial(env.browser.get, path))
    return CheckedRequest(send, finish, ignored_call=0)  # the resources are left out


def authorize_with_a_cold_ring(env: Environment) -> CheckedRequest:
    """With a cookie, which cannot be read without the ring."""
    env.browser.code(env.client)
    send = partial(_send_with_a_cold_ring, env, partial(env.browser.authorize, env.client))
    return CheckedRequest(send, env.complete_from_consent, redirects_after=1)


def refresh_with_a_cold_ring(env: Environment) -> CheckedRequest:
    checked = refresh(env)
    return replace(checked, send=partial(_send_with_a_cold_ring, env, checked.send))


SCENARIOS: list[Callable[[Environment], CheckedRequest]] = [
    authorize_without_a_session,
    authorize_by_post,
    continue_a_posted_request,
    start_an_expired_request_anew,
    authorize_with_a_session_and_remembered_consent,
    authorize_when_the_session_is_extended,
    authorize_the_first_client_with_backchannel_logout,
    authorize_with_a_session,
    sign_in,
    password_of_two_factors,
    code_of_the_second_factor,
    recovery_code,
    ask_for_a_sign_in_code,
    enter_a_sign_in_code,
    step_up,
    sign_in_again,
    sign_in_as_another_user,
    sign_in_with_remembered_consent,
    sign_in_pressed_again,
    wrong_password,
    allow_once,
    allow_pressed_again,
    give_the_answer_by_form_post,
    allow_always,
    deny,
    change_password,
    code_by_basic,
    code_by_basic_with_remembered_consent,
    code_exchange,
    authorize_for_a_resource,
    code_exchange_for_a_resource,
    code_exchange_after_sign_out,
    code_exchange_with_a_wrong_verifier,
    replayed_code,
    refresh,
    refresh_when_the_session_is_extended,
    refresh_after_sign_out,
    reused_refresh_token,
    client_credentials,
    userinfo,
    introspect,
    revoke,
    sign_out_by_the_application,
    remove_one_application,
    remove_all_applications,
    sign_out_one_browser,
    sign_out_all_other_browsers,
    change_password_on_the_account_page,
    open_a_let_in_link,
    use_a_let_in_link,
    ask_for_a_new_password,
    choose_a_new_password,
    account_page,
    change_the_profile,
    download_the_data,
    delete_the_account,
    restore_the_account,
    jwks_with_a_cold_ring,
    metadata_with_a_cold_ring,
    authorize_with_a_cold_ring,
    refresh_with_a_cold_ring,
]


@pytest.fixture
def env(site: Site, browser: Browser) -> Iterator[Environment]:
    """A user and a client; restores the shared key ring afterwards."""
    ring = site.server.store.keys.get(RING)
    user = User("alices-own-id", "alice", passwords.hash_password(PASSWORD), {})
    site.server.store.users.put(user)
    site.server.store.identifiers.put(Identifier("username:alice", user.sub))
    site.secrets.update([PASSWORD, NEW_PASSWORD])
    with faults.wire() as wire:
        yield Environment(site, browser, wire, user, site.client(direct_sign_in=True))
    object.__setattr__(site.server, "settings", site.settings)
    if ring:
        site.server.store.keys.put(ring)
    site.server.keys.forget_cached_keys()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_single_failed_try_of_any_call_is_retried_with_full_success(
    env: Environment, scenario: Callable[[Environment], CheckedRequest]
) -> None:
    """botocore retries: the response is the same, the flow works, and the retry revokes nothing."""
    checked = scenario(env)
    calls, expected = _run_without_fault(env, checked)
    for number, operation in enumerate(calls):
        for fault in TRANSIENT_FAULTS if operation in WRITES else TRANSIENT_FAULTS[:1]:
            env.restore()
            with env.wire.fault(number, fault, tries=1):
                answer = checked.send()
            assert env.wire.calls[number] == operation, "the fault was injected"
            assert _shape(answer) == _shape(expected), f"{fault.__name__} at {operation}, call {number}: {answer}"
            env.assert_consistent(denied=checked.denies)
            if fault is faults.answer_lost:
                checked.finish(answer)
                env.assert_consistent(denied=checked.denies)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_permanently_failing_call_is_temporarily_unavailable_and_leaves_a_consistent_state(
    env: Environment, scenario: Callable[[Environment], CheckedRequest]
) -> None:
    """No 500, no partly stored grant, and a later repetition succeeds."""
    checked = scenario(env)
    calls, expected = _run_without_fault(env, checked)
    for number, operation in enumerate(calls):
        for fault in PERMANENT_FAULTS if operation in WRITES else PERMANENT_FAULTS[:2]:
            env.restore()
            with env.wire.fault(number, fault, tries=ALWAYS):
                answer = checked.send()
            description = f"{fault.__name__} at {operation}, call {number}: {answer}"
            assert env.wire.calls[number] == operation, "the fault was injected"
            if number == checked.ignored_call:
                assert _shape(answer) == _shape(expected), description
                checked.finish(answer)
                continue
            _assert_unavailable(
                env,
                answer,
                by_redirect=checked.redirects_after is not None and number >= checked.redirects_after,
                description=description,
            )
            env.assert_consistent(denied=checked.denies)
            if fault is faults.throttled:
                continue  # continues as after `unreachable`
            if checked.recover:
                checked.recover()
            elif fault is faults.answer_lost and operation == checked.consumed_by:
                checked.check_consumed(checked.send())
            else:
                answer = checked.send()
                assert _shape(answer) == _shape(expected), f"repeated after {description}: {answer}"
                if operation in WRITES:
                    checked.finish(answer)
            env.assert_consistent(denied=checked.denies)


# ---- reading whether a grant is still valid

TOKEN_REQUESTS = [code_exchange, refresh, refresh_when_the_session_is_extended]
READING = [code_exchange, refresh, userinfo, introspect, authorize_with_a_session_and_remembered_consent]


@pytest.mark.parametrize("seconds", [0, 30])
@pytest.mark.parametrize("scenario", TOKEN_REQUESTS, ids=lambda scenario: scenario.__name__)
def test_token_request_succeeds_on_the_next_try_when_the_state_of_the_grant_could_not_be_read(
    env: Environment, scenario: Callable[[Environment], CheckedRequest], seconds: int
) -> None:
    checked = scenario(env)
    with env.wire.every("BatchGetItem", faults.unreachable):
        assert checked.send().status == 503
    env.site.clock.advance(seconds)
    answer = checked.send()
    assert answer.status == 200, answer.body
    env.complete_from_tokens(answer)


def test_refresh_token_can_be_used_after_an_outage_of_several_minutes_with_many_tries(env: Environment) -> None:
    checked = refresh(env)
    with env.wire.every("BatchGetItem", faults.unreachable):
        for _ in range(9):
            assert checked.send().status == 503
            env.site.clock.advance(MINUTE)
    env.complete_from_tokens(checked.send())


@pytest.mark.parametrize("kind", ["users", "sessions", "consents"])
@pytest.mark.parametrize("scenario", READING, ids=lambda scenario: scenario.__name__)
def test_record_whose_key_stays_unprocessed_is_not_absent(
    env: Environment, scenario: Callable[[Environment], CheckedRequest], kind: str
) -> None:
    """Without the user, the session or the consent the grant would have ended, and no user would be signed in."""
    env.site.server.store.consents.put(Consent(env.user.sub, env.client.id, generation=1))
    checked = scenario(env)
    with env.wire.every("BatchGetItem", leave_unprocessed(kind)):
        answer = checked.send()
    _assert_unavailable(env, answer, by_redirect=checked.redirects_after is not None, description=answer.body)
    assert all(grant.revoked_at is None for grant in env.stored(env.site.server.store.grants))
    checked.finish(checked.send())


def leave_unprocessed(kind: str) -> Fault:
    """Return a fault of BatchGetItem that leaves the keys of one table unprocessed, as throttling does."""
    table = f"signet-{STAGE}-{kind}"

    def fault(request: Request, proceed: Proceed) -> Response:
        answer, requested = json.loads(proceed().body), faults.parameters_of(request)["RequestItems"]
        answer["Responses"].pop(table, None)
        answer["UnprocessedKeys"] = {table: requested[table]} if table in requested else {}
        return faults.answer(request, json.dumps(answer))

    return fault


def _run_without_fault(env: Environment, checked: CheckedRequest) -> tuple[list[str], Answer]:
    """Return the calls of the request without a fault, and its response, after completing the flow."""
    env.save()
    env.restore()
    with env.wire.counted() as calls:
        answer = checked.send()
        calls_made = list(calls)
    checked.finish(answer)
    env.assert_consistent(denied=checked.denies)
    return calls_made, answer


def _shape(answer: Answer) -> tuple[int, set[str]]:
    """Return what all successful responses to the same request have in common."""
    if answer.status in (302, 303):
        return answer.status, set(answer.answer)
    is_json = (answer.header("content-type") or "").startswith("application/json") and answer.body
    return answer.status, set(answer.json) if is_json else set(answer.form.fields) | dict(answer.form.buttons).keys()


def _assert_unavailable(env: Environment, answer: Answer, *, by_redirect: bool, description: str) -> None:
    if by_redirect:
        assert answer.answer["error"] == "temporarily_unavailable", description
        assert answer.answer["state"] == "af0ifjsldkj"
        assert answer.answer["iss"] == env.site.settings.issuer
        return
    assert answer.status == 503, description
    assert int(answer.header("retry-after") or "") > 0
    assert answer.header("cache-control") == "no-store"
    if (answer.header("content-type") or "").startswith("application/json"):
        assert answer.json["error"] == "temporarily_unavailable"
    else:
        assert "Please try again" in answer.body
