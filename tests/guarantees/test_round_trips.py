"""The DynamoDB calls and request units of every request: adding one is a decision, made in this table."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import app
from chalicelib.authorization import flow, grant
from chalicelib.clients import key_sets
from chalicelib.clients.document_content import read_document
from chalicelib.clients.registration_limits import create_token
from chalicelib.http import outbound
from chalicelib.http.messages import Request
from chalicelib.keys.signing import thumbprint
from chalicelib.mail import limits, proof_codes
from chalicelib.protocol.authorization_details import to_text
from chalicelib.protocol.client import Client
from chalicelib.protocol.client_document import NEVER
from chalicelib.protocol.durations import HOUR
from chalicelib.protocol.key_set import KeySet, key_set_id
from chalicelib.protocol.open_clients import OpenClientPolicy
from chalicelib.protocol.proof import Proof
from chalicelib.storage.dynamodb import DynamoDB
from chalicelib.users import accounts, email_address
from tests.bench.capacity import Meter
from tests.support.account import sign_in_to_account, submit_form
from tests.support.assertions import key_client, key_pair, signed
from tests.support.authorization_details import ANYWHERE, PAYMENT, TYPES, as_json, register_types
from tests.support.browser import CHALLENGE, Answer, Browser, authorization_parameters, basic
from tests.support.gateways import BrowserAt
from tests.support.grants import create_code, update_client
from tests.support.mail_flows import ADDRESS
from tests.support.mailbox import SENDER
from tests.support.proofs import public_jwk, with_proof, with_token
from tests.support.request_objects import authorize_signed, request_object
from tests.support.resource_servers import API, register_resource
from tests.support.second_factor import REFEDS, Authenticator, add_second_factor
from tests.support.site import PASSWORD, STAGE, Registered, Site, tables

SendRequest = Callable[[], Answer]
Measure = Callable[[SendRequest, int], "Cost"]
NEW_PASSWORD = "a new password of her own"
FIREFOX = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"}
JSON = {"Content-Type": "application/json"}
TYPICAL_SCOPE = "openid profile email"


# ---- requests: each function prepares the state and returns the request; the client is cached


def authorize_without_a_session(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.authorize, client)


def authorize_with_remembered_consent(site: Site, browser: Browser, client: Registered) -> SendRequest:
    browser.code(client, decision="allow_always")
    return partial(browser.authorize, client)


def authorize_when_the_session_is_extended(site: Site, browser: Browser, client: Registered) -> SendRequest:
    send = authorize_with_remembered_consent(site, browser, client)
    pass_a_quarter_of_the_session(site, client)
    return send


def pass_a_quarter_of_the_session(site: Site, client: Registered) -> None:
    """Advance the clock until the next use extends the session."""
    advance(site, client, site.settings.session_idle_lifetime // 4 + 1)


def advance(site: Site, client: Registered, seconds: int) -> None:
    """Advance the clock, and cache the client and the key ring again."""
    site.clock.advance(seconds)
    site.server.client(client.id)
    site.server.keys.jwks()


def authorize_the_first_client_with_backchannel_logout(site: Site, browser: Browser, client: Registered) -> SendRequest:
    browser.code(client)
    other = site.client(trusted=True, backchannel_logout_uri="https://client.example.com/backchannel")
    site.server.client(other.id)
    return partial(browser.authorize, other)


def authorize_with_a_session(site: Site, browser: Browser, client: Registered) -> SendRequest:
    browser.code(client)
    return partial(browser.authorize, client)


def authorize_with_a_custom_scope(site: Site, browser: Browser, client: Registered) -> SendRequest:
    browser.code(client)
    site.server.store.clients.put(replace(client.record, scope="openid photos.read"))
    site.server.read_client(client.id)
    return partial(browser.authorize, client, scope="openid photos.read")


def get_metadata(site: Site, browser: Browser, client: Registered) -> SendRequest:
    register_resource(site, API, "photos.read")
    return partial(browser.get, "/.well-known/openid-configuration")


def get_metadata_again(site: Site, browser: Browser, client: Registered) -> SendRequest:
    send = get_metadata(site, browser, client)
    send()
    return send


def authorize_for_a_resource(site: Site, browser: Browser, client: Registered) -> SendRequest:
    api = register_resource(site, API, "photos.read")
    site.server.store.clients.put(replace(client.record, scope="openid photos.read", trusted=True))
    site.server.read_client(client.id)
    browser.code(client, scope="openid")
    return partial(browser.authorize, client, scope="openid photos.read", resource=api.uri)


def authorize_for_a_cached_resource(site: Site, browser: Browser, client: Registered) -> SendRequest:
    send = authorize_for_a_resource(site, browser, client)
    send()
    return send


def authorize_with_details(site: Site, browser: Browser, client: Registered) -> SendRequest:
    register_types(site)
    asking = replace(client.record, authorization_details_types=TYPES, trusted=True)
    site.server.store.clients.put(asking)
    site.server.read_client(client.id)
    browser.code(client, scope="openid")
    return partial(browser.authorize, client, scope="openid", authorization_details=as_json(PAYMENT))


def authorize_with_cached_details(site: Site, browser: Browser, client: Registered) -> SendRequest:
    send = authorize_with_details(site, browser, client)
    send()
    return send


def redeem_with_details(site: Site, browser: Browser, client: Registered, *, cached: bool) -> SendRequest:
    code = authorize_with_details(site, browser, client)().code
    if not cached:
        site.server.forget_cached_records()
        site.server.client(client.id)
    return partial(browser.redeem, client, code, authorization_details=as_json(PAYMENT))


def refresh_with_details(site: Site, browser: Browser, client: Registered, *, narrower: bool) -> SendRequest:
    register_types(site)
    details = ANYWHERE | ({"datatypes": ["photos"]} if narrower else {})
    site.server.store.clients.put(replace(client.record, authorization_details_types=TYPES))
    site.server.read_client(client.id)
    granted = (to_text(ANYWHERE),)
    code = create_code(site, client, None, scope=frozenset({"email"}), authorization_details=granted)
    token = browser.redeem(client, code).json["refresh_token"]
    return partial(browser.refresh, client, token, authorization_details=as_json(details))


def redeem_for_a_resource(site: Site, browser: Browser, client: Registered) -> SendRequest:
    code = authorize_for_a_resource(site, browser, client)().code
    site.server.forget_cached_records()
    site.server.client(client.id)
    return partial(browser.redeem, client, code, resource=API)


def redeem_for_a_cached_resource(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.redeem, client, authorize_for_a_resource(site, browser, client)().code, resource=API)


def authorize_with_prompt_none(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.authorize, client, prompt="none")


def authorize_with_an_id_token(site: Site, browser: Browser, client: Registered) -> SendRequest:
    """A hybrid flow with an id_token_hint and a requested claim."""
    hint = browser.tokens(client, decision="allow_always", scope="openid email")["id_token"]
    update_client(site, client, response_types=("code", "code id_token"))
    site.server.client(client.id)
    parameters = {"response_type": "code id_token", "nonce": "n", "id_token_hint": hint, "scope": "openid email"}
    return partial(browser.authorize, client, claims='{"id_token":{"email":null}}', **parameters)


def authorize_by_post(site: Site, browser: Browser, client: Registered) -> SendRequest:
    form = {"response_type": "code", "client_id": client.id, "code_challenge": CHALLENGE}
    return partial(browser.post, "/oauth2/authorize", form | {"code_challenge_method": "S256"})


def authorize_with_a_long_query(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.authorize, client, state="s" * 2048, nonce="n" * 2048)


def authorize_with_a_long_query_and_a_session(site: Site, browser: Browser, client: Registered) -> SendRequest:
    browser.code(client)
    return authorize_with_a_long_query(site, browser, client)


def authorize_with_a_long_query_beyond_the_limit(site: Site, browser: Browser, client: Registered) -> SendRequest:
    """For the second time: the process knows that the address has reached its limit."""
    send = authorize_with_a_long_query(site, browser, client)
    send()
    (count,) = site.server.store.attempts.scan()
    site.server.store.attempts.put(replace(count, failures=site.settings.stored_requests_per_address))
    send()
    return send


def authorize_by_post_with_a_hint(site: Site, browser: Browser, client: Registered) -> SendRequest:
    form = {"response_type": "code", "client_id": client.id, "code_challenge": CHALLENGE, "login_hint": "alice"}
    return partial(browser.post, "/oauth2/authorize", form | {"code_challenge_method": "S256"})


def continue_a_stored_request(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.request, "GET", authorize_by_post_with_a_hint(site, browser, client)().location)


def sign_in(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.send, browser.authorize(client), username="alice", password=PASSWORD)


def sign_in_where_passkeys_are_possible(site: Site, browser: Browser, client: Registered) -> SendRequest:
    """In a browser that can add one, by a user who was not asked yet."""
    settings = replace(site.server.settings, issuer=f"http://localhost:{site.port}")
    object.__setattr__(site.server, "settings", settings)
    page = browser.authorize(client)
    return partial(browser.send, page, username="alice", password=PASSWORD, can_add_passkey="yes")


def open_the_passkey_offer(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.follow, sign_in_where_passkeys_are_possible(site, browser, client)())


def decline_the_passkey_offer(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.send, open_the_passkey_offer(site, browser, client)(), later="yes")


def sign_in_after_the_passkey_offer(site: Site, browser: Browser, client: Registered) -> SendRequest:
    decline_the_passkey_offer(site, browser, client)()
    browser.cookies.clear()
    advance(site, client, 1)
    return sign_in_where_passkeys_are_possible(site, browser, client)


def sign_in_with_remembered_consent(site: Site, browser: Browser, client: Registered) -> SendRequest:
    browser.code(client, decision="allow_always")
    browser.cookies.clear()
    return partial(browser.sign_in, browser.authorize(client))


def sign_in_again(site: Site, browser: Browser, client: Registered) -> SendRequest:
    browser.code(client)
    return partial(browser.send, browser.authorize(client, prompt="login"), username="alice", password=PASSWORD)


def password_of_two_factors(site: Site, browser: Browser, client: Registered) -> SendRequest:
    add_second_factor(site)
    return sign_in(site, browser, client)


def code_page(site: Site, browser: Browser, client: Registered) -> SendRequest:
    answer = password_of_two_factors(site, browser, client)()
    return partial(browser.request, "GET", answer.location)


def enter_code(site: Site, browser: Browser, client: Registered, *, right: bool = True) -> SendRequest:
    phone = add_second_factor(site)
    page = browser.submit(browser.authorize(client), username="alice", password=PASSWORD)
    return partial(browser.send, page, one_time_code=phone.code() if right else "000000")


def enter_recovery_code(site: Site, browser: Browser, client: Registered) -> SendRequest:
    phone = add_second_factor(site)
    page = browser.submit(browser.authorize(client), username="alice", password=PASSWORD)
    return partial(browser.send, page, one_time_code="", recovery_code=phone.recovery_codes[0])


def step_up(site: Site, browser: Browser, client: Registered) -> SendRequest:
    browser.code(client)
    phone = add_second_factor(site)
    return partial(browser.send, browser.authorize(client, acr_values=REFEDS), one_time_code=phone.code())


def second_factor_page(site: Site, browser: Browser, client: Registered, *, set_up: bool = False) -> SendRequest:
    sign_in_to_account(browser)
    return partial(browser.request, "GET", "/account/second-factor" + ("?set_up=yes" if set_up else ""))


def take_first_code(site: Site, browser: Browser, client: Registered) -> SendRequest:
    page = second_factor_page(site, browser, client, set_up=True)()
    match = re.search(r'id="secret">([A-Z2-7 ]+)<', page.body)
    assert match
    phone = Authenticator.of_text(site, match[1])
    form = page.form.fields | {"action": "first_code", "one_time_code": phone.code()}
    return partial(browser.post, "/account/second-factor", form, {"Sec-Fetch-Site": "same-origin"})


def wrong_password(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.send, browser.authorize(client), username="alice", password="wrong password")


def too_many_wrong_passwords(site: Site, browser: Browser, client: Registered) -> SendRequest:
    page = browser.authorize(client)
    for _ in range(site.settings.sign_in_attempts):
        browser.send(page, username="alice", password="wrong password")
    return partial(browser.send, page, username="alice", password=PASSWORD)


def wrong_password_in_a_known_browser(site: Site, browser: Browser, client: Registered) -> SendRequest:
    browser.code(client)
    return partial(browser.send, browser.authorize(client, prompt="login"), username="alice", password="wrong password")


def sign_in_at_a_public_address(
    site: Site, browser: Browser, client: Registered, *, is_known: bool, password: str = PASSWORD
) -> SendRequest:
    """From a network that is new, or known by a sign-in a moment ago."""
    address = "5.1.1.1"
    if is_known:
        BrowserAt(site, address).code(client)
    browser = BrowserAt(site, address)
    return partial(browser.send, browser.authorize(client), username="alice", password=password)


def unknown_user(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.send, browser.authorize(client), username="nobody", password=PASSWORD)


def decision(site: Site, browser: Browser, client: Registered, *, choice: str) -> SendRequest:
    return partial(browser.submit, browser.sign_in(browser.authorize(client)), decision=choice)


def another_account(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.send, browser.sign_in(browser.authorize(client)), decision="switch")


def change_password(site: Site, browser: Browser, client: Registered) -> SendRequest:
    site.secrets.add(NEW_PASSWORD)
    user = next(iter(site.server.store.users.scan()))
    site.server.store.users.put(replace(user, password_change_required=True))
    page = browser.sign_in(browser.authorize(client))
    return partial(browser.send, page, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD)


def code_by_basic(site: Site, browser: Browser, client: Registered) -> SendRequest:
    browser.code(client, decision="allow_always")
    browser.cookies.clear()
    return partial(browser.authorize, client, "/oauth2/code", headers=basic("alice", PASSWORD))


def right_password_by_basic_without_consent(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.authorize, client, "/oauth2/code", headers=basic("alice", PASSWORD), prompt="none")


def code_exchange(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.redeem, client, browser.code(client))


def code_exchange_of_basic(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.redeem, client, code_by_basic(site, browser, client)().code)


def replayed_code(site: Site, browser: Browser, client: Registered) -> SendRequest:
    code = browser.code(client)
    browser.redeem(client, code)
    return partial(browser.redeem, client, code)


def ended_code(site: Site, browser: Browser, client: Registered) -> SendRequest:
    code = browser.code(client)
    logout_answer(site, browser, client)()
    return partial(browser.redeem, client, code)


def forged_code(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.redeem, client, "code_forged")


def refresh(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.refresh, client, browser.tokens(client)["refresh_token"])


def refresh_offline(site: Site, browser: Browser, client: Registered) -> SendRequest:
    token = browser.tokens(client, scope="openid offline_access")["refresh_token"]
    logout_answer(site, browser, client)()
    return partial(browser.refresh, client, token)


def refresh_when_the_session_is_extended(site: Site, browser: Browser, client: Registered) -> SendRequest:
    send = refresh(site, browser, client)
    pass_a_quarter_of_the_session(site, client)
    return send


def ended_refresh_token(site: Site, browser: Browser, client: Registered) -> SendRequest:
    token = browser.tokens(client)["refresh_token"]
    logout_answer(site, browser, client)()
    return partial(browser.refresh, client, token)


def refresh_after_sign_out_everywhere(site: Site, browser: Browser, client: Registered) -> SendRequest:
    """The session and the user may be from before and after a transaction, so they are read again."""
    token = browser.tokens(client)["refresh_token"]
    accounts.sign_out(site.server.store, next(iter(site.server.store.users.scan())))
    return partial(browser.refresh, client, token)


def refresh_again(site: Site, browser: Browser, client: Registered) -> SendRequest:
    token = browser.tokens(client)["refresh_token"]
    browser.refresh(client, token)
    return partial(browser.refresh, client, token)


def userinfo(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.userinfo, browser.tokens(client)["access_token"])


def ended_userinfo(site: Site, browser: Browser, client: Registered) -> SendRequest:
    send = userinfo(site, browser, client)
    logout_answer(site, browser, client)()
    return send


def revoke(site: Site, browser: Browser, client: Registered) -> SendRequest:
    token = browser.tokens(client)["refresh_token"]
    return partial(browser.post, "/oauth2/revoke", {"token": token}, basic(client.id, client.secret or ""))


def logout(site: Site, browser: Browser, client: Registered, *, grants: int) -> SendRequest:
    """With an id_token_hint of the session, which has this number of grants."""
    tokens = [browser.tokens(client, scope="openid") for _ in range(grants)]
    return partial(browser.get, "/oauth2/logout", id_token_hint=tokens[0]["id_token"])


def logout_with_a_grant_with_offline_access(site: Site, browser: Browser, client: Registered) -> SendRequest:
    hint = browser.tokens(client, scope="openid offline_access")["id_token"]
    return partial(browser.get, "/oauth2/logout", id_token_hint=hint)


def logout_with_a_backchannel_logout_uri(site: Site, browser: Browser, client: Registered) -> SendRequest:
    update_client(site, client, backchannel_logout_uri="https://client.example.com/backchannel")
    site.server.client(client.id)
    return logout(site, browser, client, grants=1)


def logout_question(site: Site, browser: Browser, client: Registered) -> SendRequest:
    browser.tokens(client)
    return partial(browser.get, "/oauth2/logout")


def logout_answer(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.send, logout_question(site, browser, client)(), decision="sign_out")


def logout_without_a_session(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.get, "/oauth2/logout")


def userinfo_of_a_pairwise_subject(site: Site, browser: Browser, client: Registered) -> SendRequest:
    pairwise = site.client(subject_type="pairwise", trusted=True)
    site.server.client(pairwise.id)
    return partial(browser.userinfo, browser.tokens(pairwise)["access_token"])


def code_exchange_with_claims_in_the_id_token(site: Site, browser: Browser, client: Registered) -> SendRequest:
    code = create_code(site, client, site.user("bob"), claims={"id_token": {"name": {}}})
    return partial(browser.redeem, client, code)


def client_credentials(site: Site, browser: Browser, client: Registered) -> SendRequest:
    machine = site.client(scope="photos", grant_types=("client_credentials",), response_types=(), redirect_uris=())
    site.server.client(machine.id)
    return partial(browser.token, machine, grant_type="client_credentials")


def introspect_client_credentials(site: Site, browser: Browser, client: Registered) -> SendRequest:
    machine = site.client(scope="photos", grant_types=("client_credentials",), response_types=(), redirect_uris=())
    token = browser.token(machine, grant_type="client_credentials").json["access_token"]
    credentials = basic(machine.id, machine.secret or "")
    return partial(browser.post, "/oauth2/introspect", {"token": token}, credentials)


def introspect(site: Site, browser: Browser, client: Registered, *, token: str) -> SendRequest:
    tokens = browser.tokens(client)
    credentials = basic(client.id, client.secret or "")
    return partial(browser.post, "/oauth2/introspect", {"token": tokens[token]}, credentials)


def introspect_signed(site: Site, browser: Browser, client: Registered) -> SendRequest:
    tokens = browser.tokens(client)
    headers = basic(client.id, client.secret or "") | {"Accept": "application/token-introspection+jwt"}
    return partial(browser.post, "/oauth2/introspect", {"token": tokens["access_token"]}, headers)


def introspect_a_forgery(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.post, "/oauth2/introspect", {"token": "rt_forged"}, basic(client.id, client.secret or ""))


def push(site: Site, browser: Browser, client: Registered) -> SendRequest:
    parameters = authorization_parameters(client)
    return partial(browser.post, "/oauth2/par", parameters, basic(client.id, client.secret or ""))


def push_as_a_public_client(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.post, "/oauth2/par", authorization_parameters(site.client(public=True)))


def push_by_key(site: Site, browser: Browser, client: Registered) -> SendRequest:
    keys = key_client(site)
    return partial(browser.post, "/oauth2/par", authorization_parameters(keys) | signed(site, keys))


def code_exchange_with_a_proof(site: Site, browser: Browser, client: Registered, *, public: bool) -> SendRequest:
    """The longest record of a grant: its code and its refresh token are bound."""
    bound = site.client(public=True, trusted=True) if public else client
    site.server.client(bound.id)
    code = browser.code(bound, scope=TYPICAL_SCOPE, dpop_jkt=thumbprint(public_jwk(key_pair())))
    return partial(browser.redeem, bound, code, headers=with_proof(site))


def refresh_with_a_proof(site: Site, browser: Browser, client: Registered, *, public: bool) -> SendRequest:
    exchange = code_exchange_with_a_proof(site, browser, client, public=public)
    assert isinstance(exchange, partial)
    return partial(browser.refresh, exchange.args[0], exchange().json["refresh_token"], headers=with_proof(site))


def refresh_again_with_a_proof(site: Site, browser: Browser, client: Registered) -> SendRequest:
    send = refresh_with_a_proof(site, browser, client, public=False)
    assert isinstance(send, partial)
    send()
    return partial(browser.refresh, *send.args, headers=with_proof(site))


def refresh_with_a_repeated_proof(site: Site, browser: Browser, client: Registered) -> SendRequest:
    send = refresh_with_a_proof(site, browser, client, public=False)
    send()
    return send


def userinfo_with_a_proof(site: Site, browser: Browser, client: Registered) -> SendRequest:
    token = code_exchange_with_a_proof(site, browser, client, public=False)().json["access_token"]
    return partial(browser.get, "/oauth2/userinfo", with_token(site, token))


def introspect_a_bound_token(site: Site, browser: Browser, client: Registered) -> SendRequest:
    token = code_exchange_with_a_proof(site, browser, client, public=False)().json["access_token"]
    return partial(browser.post, "/oauth2/introspect", {"token": token}, basic(client.id, client.secret or ""))


def client_credentials_with_a_proof(site: Site, browser: Browser, client: Registered) -> SendRequest:
    machine = site.client(scope="photos", grant_types=("client_credentials",), response_types=(), redirect_uris=())
    site.server.client(machine.id)
    return partial(browser.token, machine, with_proof(site), grant_type="client_credentials")


def push_with_a_proof(site: Site, browser: Browser, client: Registered) -> SendRequest:
    headers = basic(client.id, client.secret or "") | with_proof(site, "/oauth2/par")
    return partial(browser.post, "/oauth2/par", authorization_parameters(client), headers)


def open_pushed_request(site: Site, browser: Browser, client: Registered) -> SendRequest:
    uri = push(site, browser, client)().json["request_uri"]
    site.secrets.add(uri.rpartition(":")[2])
    return partial(browser.get, "/oauth2/authorize", client_id=client.id, request_uri=uri)


def client_credentials_by_key(site: Site, browser: Browser, client: Registered) -> SendRequest:
    machine = key_client(site, grant_types=("client_credentials",), response_types=(), scope="photos")
    return partial(browser.post, "/oauth2/token", {"grant_type": "client_credentials", **signed(site, machine)})


def register_client(
    site: Site, browser: Browser, client: Registered, headers: dict[str, str] | None = None
) -> SendRequest:
    body = json.dumps({"redirect_uris": list(client.record.redirect_uris), "token_endpoint_auth_method": "none"})

    def send() -> Answer:
        server, settings = site.server, site.server.settings
        object.__setattr__(server, "settings", replace(settings, client_registration="open"))
        try:
            return browser.request("POST", "/oauth2/register", body, {**JSON, **(headers or {})})
        finally:
            object.__setattr__(server, "settings", settings)

    return send


def register_client_by_token(site: Site, browser: Browser, client: Registered) -> SendRequest:
    _, token = create_token(site.server.store, site.server.keys, "", 3600, 5)
    site.secrets.add(token)
    return register_client(site, browser, client, {"Authorization": f"Bearer {token}"})


def manage_client(site: Site, browser: Browser, client: Registered, *, method: str) -> SendRequest:
    members = register_client(site, browser, client)().json
    headers = {**JSON, "Authorization": f"Bearer {members['registration_access_token']}"}
    body = json.dumps(members) if method == "PUT" else None
    return partial(browser.request, method, members["registration_client_uri"], body, headers)


def redeem_of_a_registered_client(site: Site, browser: Browser, client: Registered, *, times: int = 1) -> SendRequest:
    registered = site.server.store.clients.get(register_client(site, browser, client)().json["client_id"])
    assert registered
    itself = Registered(registered, None)
    codes = [browser.code(itself) for _ in range(times)]
    for code in codes[1:]:
        browser.redeem(itself, code)
    return partial(browser.redeem, itself, codes[0])


def post_form(site: Site, browser: Browser, client: Registered, *, path: str) -> SendRequest:
    return partial(browser.post, path, {"tag": "x"}, {"Sec-Fetch-Site": "same-origin"})


def get(site: Site, browser: Browser, client: Registered, *, path: str) -> SendRequest:
    return partial(browser.get, path)


def get_account_page(site: Site, browser: Browser, client: Registered, *, path: str) -> SendRequest:
    """Three applications have access, and there are other users."""
    for each in (client, site.client(), site.client()):
        browser.tokens(each, decision="allow_always")
    for number in range(3):
        other_browser, name = Browser(site), f"user {number}"
        site.user(name)
        other_browser.sign_in(other_browser.authorize(client), name)
        other_browser.close()
    return partial(browser.get, path)


def act(site: Site, browser: Browser, client: Registered, *, action: str) -> SendRequest:
    """Press a button on the account pages. Another browser of the user is signed in too."""
    other_browser = Browser(site)
    other_browser.code(client)
    session_id = next(iter(site.server.store.sessions.scan())).session_id
    other_browser.close()
    page = get_account_page(site, browser, client, path="/account")()
    form = {"tag": page.form.fields["tag"], "action": action, "client_id": client.id, "session": session_id}
    site.secrets.add(NEW_PASSWORD)
    form |= {"password": PASSWORD, "new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}
    return partial(submit_form, browser, form)


def open_let_in_link(site: Site, browser: Browser, client: Registered) -> SendRequest:
    user = next(iter(site.server.store.users.scan()))
    return partial(browser.request, "GET", site.let_in_link(user))


def use_let_in_link(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.send, open_let_in_link(site, browser, client)())


def use_let_in_link_again(site: Site, browser: Browser, client: Registered) -> SendRequest:
    send = use_let_in_link(site, browser, client)
    send()
    return send


def submit_account_form(
    site: Site, browser: Browser, client: Registered, *, path: str, later: bool = False, **fields: Any
) -> SendRequest:
    """Send the form of an account page; `later`: when the sign-in is no longer recent."""
    get_account_page(site, browser, client, path="/account")
    if later:
        advance(site, client, 301)
    page = browser.get(path)
    return partial(browser.send, page, **fields)


def sign_in_to_a_deleted_account(site: Site, browser: Browser, client: Registered) -> SendRequest:
    submit_account_form(site, browser, client, path="/account/delete", action="delete", password=PASSWORD)()
    return partial(browser.send, browser.authorize(client), username="alice", password=PASSWORD)


def open_the_restoration(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.follow, sign_in_to_a_deleted_account(site, browser, client)())


def restore_account(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.send, open_the_restoration(site, browser, client)())


def with_sender(site: Site) -> None:
    """Let the server have a sender for mails until the end of the test."""
    object.__setattr__(site.server, "settings", replace(site.server.settings, email_from=SENDER))


def verify_alice(site: Site, browser: Browser) -> None:
    """Let alice have a verified address, and sign her in on the account page."""
    with_sender(site)
    email_address.mark_verified(site.server.store, site.read_user(), ADDRESS)
    sign_in_to_account(browser)


def ask_for_a_password(site: Site, browser: Browser, client: Registered, *, username: str) -> SendRequest:
    verify_alice(site, browser)
    page = browser.get("/account/recover")
    return partial(browser.send, page, username=username)


def ask_for_an_account(site: Site, browser: Browser, client: Registered, *, email: str) -> SendRequest:
    verify_alice(site, browser)
    object.__setattr__(site.server, "settings", replace(site.server.settings, sign_up=True))
    return partial(browser.send, browser.get("/account/sign-up"), email=email)


def create_account(site: Site, browser: Browser, client: Registered) -> SendRequest:
    ask_for_an_account(site, browser, client, email="new@example.com")()
    page = browser.get(link_of(site, newest_proof(site)))
    site.secrets.add(NEW_PASSWORD)
    return partial(browser.send, page, username="bob", new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD)


def newest_proof(site: Site) -> Proof:
    (proof,) = site.server.store.proofs.scan()
    return proof


def link_of(site: Site, proof: Proof) -> str:
    handle = proof_codes.link_handle(site.server, proof.proof_id)
    site.secrets.add(handle)
    return f"/account/link?link={handle}"


def open_reset(site: Site, browser: Browser, client: Registered) -> SendRequest:
    ask_for_a_password(site, browser, client, username="alice")()
    return partial(browser.request, "GET", link_of(site, newest_proof(site)))


def reset_password(site: Site, browser: Browser, client: Registered) -> SendRequest:
    page = open_reset(site, browser, client)()
    site.secrets.add(NEW_PASSWORD)
    return partial(browser.send, page, new_password=NEW_PASSWORD, new_password_again=NEW_PASSWORD)


def type_a_code(site: Site, browser: Browser, client: Registered, *, right: bool) -> SendRequest:
    page = browser.follow(ask_for_a_password(site, browser, client, username="alice")())
    code = proof_codes.code_of(site.server, newest_proof(site).proof_id, "reset")
    site.secrets.add(code)
    return partial(browser.send, page, code=code if right else "WRNGCDE2")


def ask_for_a_code(site: Site, browser: Browser, client: Registered, *, username: str) -> SendRequest:
    """Press "Email me a code" on the sign-in page, in a browser without a session."""
    with_sender(site)
    object.__setattr__(site.server, "settings", replace(site.server.settings, email_code_sign_in=True))
    email_address.mark_verified(site.server.store, site.read_user(), ADDRESS)
    return partial(browser.send, browser.authorize(client), username=username, email_me="yes")


def ask_for_a_code_beyond_the_limit(site: Site, browser: Browser, client: Registered) -> SendRequest:
    site.clock.advance(HOUR - site.clock() % HOUR)
    send = ask_for_a_code(site, browser, client, username="alice")
    for number in range(20):
        limits.admit(site.server, Request("POST", "/", source_ip="127.0.0.1"), f"user{number}")
    site.server.client(client.id)
    return send


def ask_for_a_password_beyond_the_limit(site: Site, browser: Browser, client: Registered) -> SendRequest:
    site.clock.advance(HOUR - site.clock() % HOUR)
    send = ask_for_a_password(site, browser, client, username="alice")
    for number in range(20):
        limits.admit(site.server, Request("POST", "/", source_ip="127.0.0.1"), f"user{number}")
    return send


def open_code_page(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.follow, ask_for_a_code(site, browser, client, username="alice")())


def enter_email_code(site: Site, browser: Browser, client: Registered, *, right: bool, notice: bool = False) -> Any:
    page = open_code_page(site, browser, client)()
    object.__setattr__(site.server, "settings", replace(site.server.settings, sign_in_notice=notice))
    code = proof_codes.code_of(site.server, newest_proof(site).proof_id, "signin")
    site.secrets.add(code)
    return partial(browser.send, page, email_code=code if right else "WRNGCDE2")


def enter_email_code_of_two_factors(site: Site, browser: Browser, client: Registered) -> SendRequest:
    send: SendRequest = enter_email_code(site, browser, client, right=True)
    add_second_factor(site)
    return send


def open_sign_in_link(site: Site, browser: Browser, client: Registered) -> SendRequest:
    open_code_page(site, browser, client)()
    return partial(browser.request, "GET", link_of(site, newest_proof(site)))


def sign_in_by_link(site: Site, browser: Browser, client: Registered) -> SendRequest:
    return partial(browser.send, open_sign_in_link(site, browser, client)())


def change_email(site: Site, browser: Browser, client: Registered, *, taken: bool) -> SendRequest:
    verify_alice(site, browser)
    site.user("bob", claims={"email": "bob@example.com", "email_verified": True})
    page, address = browser.get("/account/email"), "bob@example.com" if taken else "new@example.com"
    return partial(browser.send, page, email=address, action="change_email")


def confirm_email(site: Site, browser: Browser, client: Registered) -> SendRequest:
    page = browser.follow(change_email(site, browser, client, taken=False)())
    code = proof_codes.code_of(site.server, newest_proof(site).proof_id, "verify")
    site.secrets.add(code)
    return partial(browser.send, page, code=code, action="confirm_email")


def undo_change(site: Site, browser: Browser, client: Registered) -> SendRequest:
    confirm_email(site, browser, client)()
    (proof,) = (proof for proof in site.server.store.proofs.scan() if proof.purpose == "undo")
    code = proof_codes.code_of(site.server, proof.proof_id, "undo")
    site.secrets.add(code)
    page = browser.submit(browser.get(link_of(site, proof)), code=code)
    return partial(browser.send, page)


def change_password_and_tell(site: Site, browser: Browser, client: Registered) -> SendRequest:
    verify_alice(site, browser)
    return act(site, browser, client, action="change_password")


def delete_account_and_tell(site: Site, browser: Browser, client: Registered) -> SendRequest:
    verify_alice(site, browser)
    return submit_account_form(site, browser, client, path="/account/delete", action="delete", password=PASSWORD)


def restore_by_email(site: Site, browser: Browser, client: Registered) -> SendRequest:
    delete_account_and_tell(site, browser, client)()
    proof = newest_proof(site)
    code = proof_codes.code_of(site.server, proof.proof_id, "restore")
    site.secrets.add(code)
    return partial(browser.send, browser.submit(browser.get(link_of(site, proof)), code=code))


# request and its calls, function that prepares it, status, number of calls, read units, write units
TABLE: list[tuple[str, Callable[[Site, Browser, Registered], SendRequest], int, int, float, float]] = [
    ("GET /oauth2/authorize, without a session", authorize_without_a_session, 200, 0, 0, 0),
    ("GET /oauth2/authorize, a long query: count; request", authorize_with_a_long_query, 302, 2, 0, 6),
    (
        "GET /oauth2/authorize, a long query, with a session: batch; request",
        authorize_with_a_long_query_and_a_session,
        302,
        2,
        3,
        5,
    ),
    (
        "GET /oauth2/authorize, a long query, beyond the limit of the address",
        authorize_with_a_long_query_beyond_the_limit,
        302,
        0,
        0,
        0,
    ),
    ("GET /oauth2/authorize, prompt=none, without a session", authorize_with_prompt_none, 302, 0, 0, 0),
    ("GET /oauth2/authorize, consent remembered: batch; grant", authorize_with_remembered_consent, 302, 2, 3, 2),
    (
        "GET /oauth2/authorize, consent remembered, session extended: batch; session; grant",
        authorize_when_the_session_is_extended,
        302,
        3,
        3,
        4,
    ),
    ("GET /oauth2/authorize, code id_token, with a hint: batch; grant", authorize_with_an_id_token, 302, 2, 3, 2),
    (
        "GET /oauth2/authorize, first of a client with back-channel logout: batch; one transaction",
        authorize_the_first_client_with_backchannel_logout,
        302,
        2,
        3,
        6,
    ),
    ("GET /oauth2/authorize, with a session: batch", authorize_with_a_session, 200, 1, 3, 0),
    ("GET /oauth2/authorize, with a custom scope: batch; scope", authorize_with_a_custom_scope, 200, 2, 4, 0),
    ("GET /oauth2/authorize, with a resource: resource; batch; scope; grant", authorize_for_a_resource, 302, 4, 6, 2),
    ("GET /oauth2/authorize, with a cached resource: batch; grant", authorize_for_a_cached_resource, 302, 2, 3, 2),
    # The batch has the record of the operator's own scope too, until it is cached.
    ("POST /oauth2/token, for a resource: transition; batch; resource", redeem_for_a_resource, 200, 3, 6, 1),
    ("POST /oauth2/token, for a cached resource: transition; batch", redeem_for_a_cached_resource, 200, 2, 3, 1),
    ("GET /oauth2/authorize, with details: type; resource; batch; grant", authorize_with_details, 302, 4, 6, 2),
    ("GET /oauth2/authorize, with cached details: batch; grant", authorize_with_cached_details, 302, 2, 3, 2),
    (
        "POST /oauth2/token, with details: transition; batch; resource",
        partial(redeem_with_details, cached=False),
        200,
        3,
        6,
        1,
    ),
    (
        "POST /oauth2/token, with cached details: transition; batch",
        partial(redeem_with_details, cached=True),
        200,
        2,
        3,
        1,
    ),
    (
        "POST /oauth2/token, refresh token, the same details: rotation; batch",
        partial(refresh_with_details, narrower=False),
        200,
        2,
        2,
        1,
    ),
    (
        "POST /oauth2/token, refresh token, fewer details: rotation; rotation; batch",
        partial(refresh_with_details, narrower=True),
        200,
        3,
        2,
        2,
    ),
    ("POST /oauth2/authorize", authorize_by_post, 303, 0, 0, 0),
    ("POST /oauth2/authorize, with login_hint: count; request", authorize_by_post_with_a_hint, 303, 2, 0, 2),
    ("GET /oauth2/authorize, a stored request: request; binding", continue_a_stored_request, 200, 2, 1, 1),
    ("POST /oauth2/code, sign-in: batch; batch; count; session", sign_in, 303, 4, 8, 25),
    (
        "POST /oauth2/code, sign-in, password of two: batch; batch; count; request",
        password_of_two_factors,
        303,
        4,
        8,
        20,
    ),
    ("GET /oauth2/authorize, code page: request; batch", code_page, 200, 2, 2, 0),
    ("POST /oauth2/code, code: batch; user; count read; count; session; consent", enter_code, 303, 6, 4, 17),
    ("POST /oauth2/code, wrong code: batch; user; count read; count", partial(enter_code, right=False), 303, 4, 3, 4),
    (
        "POST /oauth2/code, recovery code: batch; user; count read; count; session; consent",
        enter_recovery_code,
        303,
        6,
        4,
        19,
    ),
    ("POST /oauth2/code, step-up: batch; count read; count; session; consent", step_up, 303, 6, 5, 14),
    (
        "POST /oauth2/code, email: batch; user; count; counts; one transaction",
        partial(ask_for_a_code, username="alice"),
        303,
        5,
        3,
        12,
    ),
    ("POST /oauth2/code, email, unknown: the same", partial(ask_for_a_code, username="nobody"), 303, 5, 3, 12),
    ("POST /oauth2/code, email, address: the same", partial(ask_for_a_code, username=ADDRESS), 303, 5, 4, 12),
    ("POST /oauth2/code, email, unknown address", partial(ask_for_a_code, username="no@a.example"), 303, 5, 4, 12),
    ("POST /oauth2/code, email, beyond the limit: batch; user; count", ask_for_a_code_beyond_the_limit, 303, 3, 3, 1),
    ("GET /oauth2/authorize, page of an email: request; proof", open_code_page, 200, 2, 2, 0),
    (
        "POST /oauth2/code, code of an email: batch; proof; count; batch; one transaction",
        partial(enter_email_code, right=True),
        303,
        5,
        4,
        12,
    ),
    (
        "POST /oauth2/code, code of an email, with a notice: the same calls",
        partial(enter_email_code, right=True, notice=True),
        303,
        5,
        5,
        15,
    ),
    (
        "POST /oauth2/code, code of an email of two factors: the same calls",
        enter_email_code_of_two_factors,
        303,
        5,
        4,
        9,
    ),
    (
        "POST /oauth2/code, wrong code of an email: batch; proof; count",
        partial(enter_email_code, right=False),
        303,
        3,
        2,
        1,
    ),
    ("GET /account/link, sign-in: proof; request", open_sign_in_link, 200, 2, 2, 0),
    ("POST /account/link, sign-in: proof; batch; batch; one transaction", sign_in_by_link, 303, 4, 4, 11),
    (
        "POST /oauth2/code, sign-in, network becomes known: batch; batch; count; session",
        partial(sign_in_at_a_public_address, is_known=False),
        303,
        4,
        9,
        27,
    ),
    (
        "POST /oauth2/code, sign-in, known network: batch; batch; count; session",
        partial(sign_in_at_a_public_address, is_known=True),
        303,
        4,
        9,
        21,
    ),
    (
        "POST /oauth2/code, sign-in, consent remembered: the same; one transaction",
        sign_in_with_remembered_consent,
        303,
        5,
        8,
        28,
    ),
    (
        "POST /oauth2/code, sign-in, passkey to be offered: batch; batch; count; passkeys; session",
        sign_in_where_passkeys_are_possible,
        303,
        5,
        9,
        25,
    ),
    (
        "GET /oauth2/authorize, passkey offered: request; batch; passkeys; user",
        open_the_passkey_offer,
        200,
        4,
        5,
        1,
    ),
    ("POST /oauth2/code, passkey declined: batch; passkeys; request", decline_the_passkey_offer, 303, 3, 4, 1),
    (
        "POST /oauth2/code, sign-in after it was offered: batch; batch; count; session",
        sign_in_after_the_passkey_offer,
        303,
        4,
        8,
        25,
    ),
    ("POST /oauth2/code, sign-in again: batch; batch; count; session", sign_in_again, 303, 4, 10, 19),
    ("POST /oauth2/code, wrong password: batch; batch; count", wrong_password, 303, 3, 8, 8),
    (
        "POST /oauth2/code, wrong password, known browser: batch; batch; count",
        wrong_password_in_a_known_browser,
        303,
        3,
        10,
        6,
    ),
    (
        "POST /oauth2/code, wrong password, known network: batch; batch; count",
        partial(sign_in_at_a_public_address, is_known=True, password="wrong password"),
        303,
        3,
        9,
        6,
    ),
    ("POST /oauth2/code, unknown user: batch; batch; count", unknown_user, 303, 3, 8, 6),
    ("POST /oauth2/code, too many wrong passwords: batch; batch", too_many_wrong_passwords, 303, 2, 8, 0),
    (
        "POST /oauth2/code, allow once: batch; consent; one transaction",
        partial(decision, choice="allow_once"),
        303,
        3,
        4,
        7,
    ),
    (
        "POST /oauth2/code, always allow: batch; consent; one transaction",
        partial(decision, choice="allow_always"),
        303,
        3,
        4,
        11,
    ),
    ("POST /oauth2/code, deny: batch; request", partial(decision, choice="deny"), 303, 2, 3, 4),
    ("POST /oauth2/code, another account: batch; request", another_account, 303, 2, 3, 1),
    ("POST /oauth2/code, new password: batch; one transaction; consent", change_password, 303, 3, 4, 12),
    ("GET /oauth2/code: identifier; batch; count; one transaction", code_by_basic, 302, 4, 6, 21),
    (
        "GET /oauth2/code, right password, without consent: identifier; batch; count; taken back",
        right_password_by_basic_without_consent,
        302,
        4,
        6,
        18,
    ),
    ("POST /oauth2/token, code: redemption; batch", code_exchange, 200, 2, 3, 1),
    ("POST /oauth2/token, code of HTTP Basic: redemption; batch", code_exchange_of_basic, 200, 2, 3, 1),
    ("POST /oauth2/token, a forged code", forged_code, 400, 0, 0, 0),
    ("POST /oauth2/token, a replayed code: redemption; revocation, event", replayed_code, 400, 2, 0, 5),
    ("POST /oauth2/token, code after sign-out: redemption; batch; client; revocation", ended_code, 400, 4, 4, 2),
    ("POST /oauth2/token, refresh token: rotation; batch", refresh, 200, 2, 3, 1),
    ("POST /oauth2/token, refresh token, offline_access: rotation; batch", refresh_offline, 200, 2, 2, 1),
    (
        "POST /oauth2/token, refresh token, session extended: rotation; batch; session",
        refresh_when_the_session_is_extended,
        200,
        3,
        3,
        3,
    ),
    ("POST /oauth2/token, the same refresh token again: rotation; batch", refresh_again, 200, 2, 3, 1),
    (
        "POST /oauth2/token, refresh token after sign-out: rotation; batch; client; revocation",
        ended_refresh_token,
        400,
        4,
        4,
        2,
    ),
    (
        "POST /oauth2/token, refresh token after sign-out everywhere: rotation; batch; batch; client; revocation",
        refresh_after_sign_out_everywhere,
        400,
        5,
        7,
        2,
    ),
    (
        "POST /oauth2/token, code, claims in the ID token: redemption; batch",
        code_exchange_with_claims_in_the_id_token,
        200,
        2,
        3,
        1,
    ),
    ("POST /oauth2/token, client credentials: grant", client_credentials, 200, 1, 0, 1),
    (
        "POST /oauth2/token, client credentials, private_key_jwt: client; jti; grant",
        client_credentials_by_key,
        200,
        3,
        1,
        2,
    ),
    ("POST /oauth2/par: request", push, 201, 1, 0, 1),
    # With DPoP, no more than the same with a bearer token.
    ("POST /oauth2/par, a DPoP proof: request", push_with_a_proof, 201, 1, 0, 1),
    (
        "POST /oauth2/token, code, a DPoP proof: redemption; batch",
        partial(code_exchange_with_a_proof, public=False),
        200,
        2,
        3,
        1,
    ),
    (
        "POST /oauth2/token, code, a DPoP proof, a public client: redemption; batch",
        partial(code_exchange_with_a_proof, public=True),
        200,
        2,
        3,
        1,
    ),
    (
        "POST /oauth2/token, refresh token, a DPoP proof: rotation; batch",
        partial(refresh_with_a_proof, public=False),
        200,
        2,
        3,
        1,
    ),
    (
        "POST /oauth2/token, refresh token, a DPoP proof, a public client: rotation; batch",
        partial(refresh_with_a_proof, public=True),
        200,
        2,
        3,
        1,
    ),
    (
        "POST /oauth2/token, the same refresh token again, a DPoP proof: rotation; batch",
        refresh_again_with_a_proof,
        200,
        2,
        3,
        1,
    ),
    ("POST /oauth2/token, the same DPoP proof again: rotation", refresh_with_a_repeated_proof, 400, 1, 0, 1),
    ("POST /oauth2/token, client credentials, a DPoP proof: grant", client_credentials_with_a_proof, 200, 1, 0, 1),
    ("GET /oauth2/userinfo, a DPoP proof: grant; batch", userinfo_with_a_proof, 200, 2, 4, 0),
    ("POST /oauth2/introspect, a bound access token: grant; batch", introspect_a_bound_token, 200, 2, 4, 0),
    ("POST /oauth2/par, a public client: client; count; request", push_as_a_public_client, 201, 3, 1, 2),
    ("POST /oauth2/par, private_key_jwt: client; jti; request", push_by_key, 201, 3, 1, 2),
    ("GET /oauth2/authorize, a pushed request: request; binding", open_pushed_request, 200, 2, 1, 1),
    ("POST /oauth2/register: count; client", register_client, 201, 2, 0, 2),
    ("POST /oauth2/register, an initial access token: its use, client", register_client_by_token, 201, 1, 0, 4),
    ("GET /oauth2/register: client", partial(manage_client, method="GET"), 200, 1, 1, 0),
    ("PUT /oauth2/register: client; update", partial(manage_client, method="PUT"), 200, 2, 1, 1),
    ("DELETE /oauth2/register: client; deletion", partial(manage_client, method="DELETE"), 204, 2, 1, 2),
    (
        "POST /oauth2/token, code, a client that registered itself: redemption; batch; client",
        redeem_of_a_registered_client,
        200,
        3,
        3,
        2,
    ),
    (
        "POST /oauth2/token, code, its second use of a day: redemption; batch",
        partial(redeem_of_a_registered_client, times=2),
        200,
        2,
        3,
        1,
    ),
    ("GET /oauth2/userinfo: grant; batch", userinfo, 200, 2, 4, 0),
    ("GET /oauth2/userinfo, pairwise subject: grant; batch", userinfo_of_a_pairwise_subject, 200, 2, 4, 0),
    ("GET /oauth2/userinfo, after sign-out: grant; batch; client", ended_userinfo, 401, 3, 5, 0),
    ("GET /oauth2/logout, one grant: batch; one transaction", partial(logout, grants=1), 200, 2, 2, 5),
    ("GET /oauth2/logout, five grants: batch; one transaction", partial(logout, grants=5), 200, 2, 2, 5),
    (
        "GET /oauth2/logout, a grant with offline_access: batch; one transaction",
        logout_with_a_grant_with_offline_access,
        200,
        2,
        2,
        5,
    ),
    (
        "GET /oauth2/logout, back-channel logout: batch; one transaction",
        logout_with_a_backchannel_logout_uri,
        200,
        2,
        2,
        8,
    ),
    ("GET /oauth2/logout, confirmation page: batch", logout_question, 200, 1, 2, 0),
    ("GET /oauth2/logout, without a session", logout_without_a_session, 200, 0, 0, 0),
    ("POST /oauth2/logout, sign out: batch; one transaction", logout_answer, 200, 2, 2, 5),
    ("POST /oauth2/revoke: revocation; event", revoke, 200, 2, 0, 2),
    ("POST /oauth2/introspect, access token, as a JWT: grant; batch", introspect_signed, 200, 2, 4, 0),
    ("POST /oauth2/introspect, access token: grant; batch", partial(introspect, token="access_token"), 200, 2, 4, 0),
    ("POST /oauth2/introspect, refresh token: grant; batch", partial(introspect, token="refresh_token"), 200, 2, 4, 0),
    ("POST /oauth2/introspect, token of client_credentials: grant", introspect_client_credentials, 200, 1, 1, 0),
    ("POST /oauth2/introspect, a forged token", introspect_a_forgery, 200, 0, 0, 0),
    ("GET /account, without a session", partial(get, path="/account"), 302, 0, 0, 0),
    (
        "GET /account: batch; consents, index of grants; grants and clients",
        partial(get_account_page, path="/account"),
        200,
        4,
        10.5,
        0,
    ),
    (
        "GET /account/browsers: batch; index of sessions",
        partial(get_account_page, path="/account/browsers"),
        200,
        2,
        2.5,
        0,
    ),
    ("GET /account/activity: batch; events", partial(get_account_page, path="/account/activity"), 200, 2, 3, 0),
    ("GET /account/password: batch", partial(get_account_page, path="/account/password"), 200, 1, 2, 0),
    ("POST /account, remove one: batch; one transaction", partial(act, action="revoke"), 303, 2, 2, 4),
    ("POST /account, remove all: batch; one transaction", partial(act, action="revoke_all"), 303, 2, 2, 4),
    ("POST /account, sign out one: batch; session; one transaction", partial(act, action="sign_out"), 303, 3, 3, 5),
    ("POST /account, sign out others: batch; one transaction", partial(act, action="sign_out_others"), 303, 2, 2, 10),
    (
        "POST /account, new password: batch; identifier; batch; count; one transaction",
        partial(act, action="change_password"),
        303,
        5,
        9,
        20,
    ),
    ("GET /account/second-factor: batch", second_factor_page, 200, 1, 2, 0),
    ("POST /account/second-factor, first code: batch; user", take_first_code, 303, 2, 2, 2),
    ("GET /account/profile: batch", partial(get_account_page, path="/account/profile"), 200, 1, 2, 0),
    (
        "POST /account/profile: batch; one transaction",
        partial(submit_account_form, path="/account/profile", action="change_profile", name="Alice"),
        303,
        2,
        2,
        4,
    ),
    ("GET /account/data: batch", partial(get_account_page, path="/account/data"), 200, 1, 2, 0),
    (
        "POST /account/data: batch; event; grants, their records, sessions, events; names, passkeys, consents; clients",
        partial(submit_account_form, path="/account/data", action="download"),
        200,
        10,
        13,
        1,
    ),
    (
        "POST /account/data, with the password: batch; identifier, batch, count, success; the same",
        partial(submit_account_form, path="/account/data", later=True, action="download", password=PASSWORD),
        200,
        13,
        20,
        14,
    ),
    ("GET /account/delete: batch", partial(get_account_page, path="/account/delete"), 200, 1, 2, 0),
    (
        "POST /account/delete: batch; user; identifier; batch; count; one transaction",
        partial(submit_account_form, path="/account/delete", action="delete", password=PASSWORD),
        303,
        6,
        10,
        20,
    ),
    (
        "POST /oauth2/code, a deleted account: batch; batch; count; taken back",
        sign_in_to_a_deleted_account,
        303,
        4,
        8,
        14,
    ),
    ("GET /account/restore: user", open_the_restoration, 200, 1, 1, 0),
    ("POST /account/restore: user; one transaction", restore_account, 303, 2, 1, 4),
    ("GET /account/restore, without an offer", partial(get, path="/account/restore"), 200, 0, 0, 0),
    ("GET /.well-known/change-password", partial(get, path="/.well-known/change-password"), 302, 0, 0, 0),
    ("GET /account/passkeys: batch; passkeys", partial(get_account_page, path="/account/passkeys"), 200, 2, 3, 0),
    ("POST /account/passkeys, without a session", partial(post_form, path="/account/passkeys"), 303, 0, 0, 0),
    ("GET /account/let-in: link; user", open_let_in_link, 200, 2, 2, 0),
    ("GET /account/let-in, without a link", partial(get, path="/account/let-in"), 400, 0, 0, 0),
    ("POST /account/let-in: link; user; one transaction", use_let_in_link, 303, 3, 2, 6),
    ("POST /account/let-in, again: link; user", use_let_in_link_again, 303, 2, 2, 0),
    ("GET /account/recover, without a sender", partial(get, path="/account/recover"), 404, 0, 0, 0),
    (
        "POST /account/recover: identifier; user; count; counts; one transaction",
        partial(ask_for_a_password, username="alice"),
        303,
        5,
        2,
        10,
    ),
    ("POST /account/recover, unknown: the same", partial(ask_for_a_password, username="nobody"), 303, 5, 2, 10),
    ("POST /account/recover, address: the same", partial(ask_for_a_password, username=ADDRESS), 303, 5, 3, 10),
    ("POST /account/recover, unknown address", partial(ask_for_a_password, username="no@a.example"), 303, 5, 3, 10),
    (
        "POST /account/recover, beyond the limit of the caller: identifier; user; count",
        ask_for_a_password_beyond_the_limit,
        429,
        3,
        2,
        1,
    ),
    ("GET /account/sign-up, where it is off", partial(get, path="/account/sign-up"), 404, 0, 0, 0),
    (
        "POST /account/sign-up: identifiers; count; counts; one transaction",
        partial(ask_for_an_account, email="new@example.com"),
        303,
        4,
        2,
        10,
    ),
    ("POST /account/sign-up, address of a user: the same", partial(ask_for_an_account, email=ADDRESS), 303, 4, 2, 10),
    ("POST /account/link, new account: proof; identifier; one transaction", create_account, 303, 3, 2, 12),
    ("GET /account/link, without a link", partial(get, path="/account/link"), 400, 0, 0, 0),
    ("GET /account/link, new password: proof; user", open_reset, 200, 2, 2, 0),
    ("POST /account/link, new password: proof; user; one transaction", reset_password, 303, 3, 2, 14),
    ("POST /account/link, right code: proof; count", partial(type_a_code, right=True), 303, 2, 1, 1),
    ("POST /account/link, wrong code: proof; count", partial(type_a_code, right=False), 400, 2, 1, 1),
    ("POST /account/link, undo: proof; user; identifier; one transaction", undo_change, 303, 4, 3, 13),
    (
        "POST /account, new password, with a mail: the same calls as without",
        change_password_and_tell,
        303,
        5,
        9,
        23,
    ),
    (
        "POST /account/delete, with a mail: the same calls as without",
        delete_account_and_tell,
        303,
        6,
        10,
        25,
    ),
    ("POST /account/link, restore: proof; user; user; one transaction", restore_by_email, 303, 4, 3, 9),
    ("GET /account/email: batch", partial(get_account_page, path="/account/email"), 200, 1, 2, 0),
    (
        "POST /account/email, change: batch; identifiers; count; counts; one transaction",
        partial(change_email, taken=False),
        303,
        5,
        4,
        10,
    ),
    ("POST /account/email, address of another user: the same", partial(change_email, taken=True), 303, 5, 4, 10),
    (
        "POST /account/email, confirm: batch; proof; count; identifiers; identifier; one transaction",
        confirm_email,
        303,
        6,
        6,
        16,
    ),
    ("GET /oauth2/jwks", partial(get, path="/oauth2/jwks"), 200, 0, 0, 0),
    ("GET /.well-known/openid-configuration: resources", get_metadata, 200, 1, 1, 0),
    ("GET /.well-known/openid-configuration, resources cached", get_metadata_again, 200, 0, 0, 0),
    (
        "GET /.well-known/oauth-authorization-server: resources",
        partial(get, path="/.well-known/oauth-authorization-server"),
        200,
        1,
        1,
        0,
    ),
    ("GET /.well-known/webauthn, without related origins", partial(get, path="/.well-known/webauthn"), 404, 0, 0, 0),
    ("GET /healthz", partial(get, path="/healthz"), 200, 0, 0, 0),
    ("GET /", partial(get, path="/"), 200, 0, 0, 0),
    ("GET /errors", partial(get, path="/errors"), 200, 0, 0, 0),
    ("GET /mailbox, not on the local server", partial(get, path="/mailbox"), 404, 0, 0, 0),
    ("GET /mailbox/raw, not on the local server", partial(get, path="/mailbox/raw"), 404, 0, 0, 0),
    ("GET /style.css", partial(get, path="/style.css"), 200, 0, 0, 0),
    ("GET /script.js", partial(get, path="/script.js"), 200, 0, 0, 0),
]


@pytest.fixture(autouse=True)
def _restored_settings(site: Site) -> Iterator[None]:
    yield
    object.__setattr__(site.server, "settings", site.settings)


@pytest.fixture
def cached_ring(site: Site) -> None:
    """Cache the key ring, so that it is not read again."""
    site.server.keys.forget_cached_keys()
    site.server.keys.jwks()


@pytest.fixture
def required_permissions(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """The permissions that the calls need: pairs of an IAM action and a table or index."""
    permissions: set[tuple[str, str]] = set()
    call = DynamoDB.call
    in_transaction = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem"}

    def recorded_call(dynamodb: DynamoDB, operation: str, **parameters: Any) -> Any:
        if operation == "BatchGetItem":
            permissions.update((operation, table) for table in parameters["RequestItems"])
        elif operation == "TransactWriteItems":
            steps = [step for item in parameters["TransactItems"] for step in item.items()]
            permissions.update((in_transaction.get(verb, f"{verb}Item"), step["TableName"]) for verb, step in steps)
        else:
            index = f"/index/{parameters['IndexName']}" if "IndexName" in parameters else ""
            permissions.add((operation, parameters["TableName"] + index))
        return call(dynamodb, operation, **parameters)

    monkeypatch.setattr(DynamoDB, "call", recorded_call)
    return permissions


def granted_permissions() -> set[tuple[str, str]]:
    """Return the permissions of the deployed function (test_templates.py: the same with both ways to deploy)."""
    policy = json.loads((Path(app.__file__).parent / ".chalice" / "policy-prod.json").read_text())
    return {
        (action.removeprefix("dynamodb:"), resource.partition(":table/")[2].replace("-prod-", f"-{STAGE}-"))
        for statement in policy["Statement"]
        for resource in (statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]])
        for action in statement["Action"]
        if ":table/" in resource
    }


@dataclass(frozen=True)
class Cost:
    """The DynamoDB calls of a request, and its read and write units, with those of the indexes."""

    calls: int
    reads: float
    writes: float


@pytest.fixture
def measure(site: Site, cached_ring: None, caplog: pytest.LogCaptureFixture) -> Measure:
    """A function that sends a request, asserts the status of the answer, and returns the cost."""
    meter = Meter(site.server.store.dynamodb.client)

    def measured(send: SendRequest, status: int) -> Cost:
        with caplog.at_level(logging.INFO, "signet"), meter.listening():
            caplog.clear()
            answer = send()
        assert answer.status == status, answer.body
        return Cost(calls_in_last_line(caplog), meter.reads, meter.writes)

    return measured


def calls_in_last_line(caplog: pytest.LogCaptureFixture) -> int:
    """Return the number of calls in the last log line."""
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name.startswith("signet")]
    number: int = lines[-1]["dynamodb_calls"]
    return number


@pytest.mark.parametrize(
    ("name", "prepare", "status", "calls", "reads", "writes"), TABLE, ids=[row[0] for row in TABLE]
)
def test_calls_and_units_of_a_request(
    site: Site,
    browser: Browser,
    measure: Measure,
    required_permissions: set[tuple[str, str]],
    name: str,
    prepare: Callable[[Site, Browser, Registered], SendRequest],
    status: int,
    calls: int,
    reads: float,
    writes: float,
) -> None:
    site.user("alice")
    client = site.client(direct_sign_in=True)
    site.server.client(client.id)
    send = prepare(site, browser, client)
    required_permissions.clear()
    assert measure(send, status) == Cost(calls, reads, writes)
    assert required_permissions <= granted_permissions(), "the deployed function lacks a permission"


# ---- clients with a document or a key set on their website


@pytest.fixture
def documents_allowed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.server.store, "settings", replace(site.settings, client_documents="open"))


DOCUMENT: dict[str, Any] = {
    "client_id": "https://app.example.com/client",
    "redirect_uris": ["https://app.example.com/callback"],
}


def document_client(site: Site) -> Registered:
    """Return a client whose document was fetched a moment ago."""
    record = read_document(DOCUMENT["client_id"], json.dumps(DOCUMENT).encode(), OpenClientPolicy("openid"))
    record = replace(record, expires_at=NEVER, fetched_at=site.clock(), fresh_until=site.clock() + 60)
    site.server.store.documents.put(record)
    return Registered(Client.of_document(record, OpenClientPolicy("openid")), None)


@pytest.mark.parametrize(("again", "more_reads"), [(True, 1), (False, 2)])
def test_client_with_a_document_costs_one_read_more_than_a_registered_one(
    site: Site,
    browser: Browser,
    measure: Measure,
    documents_allowed: None,
    required_permissions: set[tuple[str, str]],
    again: bool,
    more_reads: int,
) -> None:
    """When the process does not know it. The blocked hosts, which all documents share, are read every 30 seconds."""
    site.user("alice")
    costs, clients = [], (site.client(public=True), document_client(site))
    required_permissions.clear()
    for client in clients:
        browser.code(client, decision="allow_always", scope="openid")
        site.server.cache_client(client.id, None)
        if not again:
            site.server.process_memory.clear()
        costs.append(measure(partial(browser.authorize, client, scope="openid"), 302))
    registered, of_document = costs
    assert of_document == replace(registered, reads=registered.reads + more_reads)
    assert required_permissions <= granted_permissions(), "the deployed function lacks a permission"


def test_first_fetch_of_a_document_is_six_calls(
    site: Site,
    browser: Browser,
    measure: Measure,
    documents_allowed: None,
    required_permissions: set[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Client, document and blocks, twice; two counts; resources; a transaction."""
    content = json.dumps(DOCUMENT).encode(), {"content-type": "application/json"}
    monkeypatch.setattr(outbound, "get_with_headers", lambda *_arguments, **_options: content)
    client = Registered(Client(DOCUMENT["client_id"], "", tuple(DOCUMENT["redirect_uris"])), None)
    cost = measure(partial(browser.authorize, client, scope="openid"), 200)
    assert cost == Cost(6, 7, 6)
    assert required_permissions <= granted_permissions(), "the deployed function lacks a permission"


def test_signed_request_costs_no_more_than_another(site: Site, browser: Browser, measure: Measure) -> None:
    site.user("alice")
    client = site.client(jwks=key_pair().jwks)
    site.server.client(client.id)
    credentials = basic(client.id, client.secret or "")

    def push(parameters: dict[str, Any]) -> SendRequest:
        return partial(browser.post, "/oauth2/par", parameters, credentials)

    def open_signed() -> Answer:
        return authorize_signed(browser, client, request_object(site, client))

    object_of_client = {"client_id": client.id, "request": request_object(site, client)}
    assert measure(open_signed, 200) == measure(partial(browser.authorize, client), 200) == Cost(0, 0, 0)
    # Its record is no longer than that of the same request without a signature: the object is not stored.
    assert measure(push(object_of_client), 201) == measure(push(authorization_parameters(client)), 201)
    browser.code(client, decision="allow_always")
    assert measure(open_signed, 302) == measure(partial(browser.authorize, client), 302)
    update_client(site, client, jwks=None, jwks_uri="https://app.example.com/jwks")
    kept = KeySet(key_set_id("https://app.example.com/jwks"), NEVER, key_pair().jwks, NEVER, NEVER)
    site.server.store.key_sets.put(kept)
    site.server.client(client.id)
    first = measure(open_signed, 302)
    assert first == replace(measure(open_signed, 302), calls=first.calls, reads=first.reads)
    assert measure(open_signed, 302) == measure(partial(browser.authorize, client), 302), "it is in the memory"


def test_key_set_costs_one_read_in_a_process_and_one_write_for_all(
    site: Site,
    browser: Browser,
    measure: Measure,
    required_permissions: set[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = key_pair()
    monkeypatch.setattr(key_sets, "get", lambda *_arguments, **_options: json.dumps(pair.jwks).encode())
    inline, at_uri = key_client(site), key_client(site, jwks=None, jwks_uri="https://app.example.com/jwks")

    def cost(client: Registered) -> Cost:
        site.server.client(client.id)
        return measure(partial(browser.post, "/oauth2/revoke", {"token": "x", **signed(site, client)}), 200)

    usual = cost(inline)
    assert cost(at_uri) == Cost(usual.calls + 2, usual.reads + 1, usual.writes + 1), "the first request of all"
    assert cost(at_uri) == usual, "it is in the memory of the process"
    site.server.process_memory.clear()
    assert cost(at_uri) == Cost(usual.calls + 1, usual.reads + 1, usual.writes), "the first request of a process"
    site.clock.advance(key_sets.FRESH_FOR)
    site.server.keys.jwks()
    assert cost(at_uri) == Cost(usual.calls + 3, usual.reads + 1, usual.writes + 2), "a refresh"
    assert required_permissions <= granted_permissions(), "the deployed function lacks a permission"


# ---- a typical flow: session, remembered consent, all standard parameters


@pytest.fixture
def typical_client(site: Site, browser: Browser) -> Registered:
    """A client with the remembered consent of alice, who is signed in in the browser."""
    site.user("alice", claims={"name": "Alice Liddell", "email": "alice@example.com", "email_verified": True})
    client = site.client(redirect_uris=["https://photos.example.com/oauth/callback"])
    browser.code(client, decision="allow_always", scope=TYPICAL_SCOPE)
    site.server.client(client.id)
    return client


def authorize_typically(browser: Browser, client: Registered) -> Answer:
    return browser.authorize(client, scope=TYPICAL_SCOPE, nonce="n-0S6_WzA2MjYtNDQ0", headers=FIREFOX)


def test_authorize_with_a_session_and_consent_is_two_calls_and_two_write_units(
    browser: Browser, measure: Measure, typical_client: Registered
) -> None:
    """The item and its entry in the index of the user."""
    cost = measure(partial(authorize_typically, browser, typical_client), 302)
    assert (cost.calls, cost.writes) == (2, 2)


def test_code_exchange_is_two_calls_and_one_write_unit(
    browser: Browser, measure: Measure, typical_client: Registered
) -> None:
    code = authorize_typically(browser, typical_client).code
    cost = measure(partial(browser.redeem, typical_client, code), 200)
    assert (cost.calls, cost.writes) == (2, 1)


def test_each_refresh_is_two_calls_and_one_write_unit(
    browser: Browser, measure: Measure, typical_client: Registered
) -> None:
    """Also when the record has the times of its last four rotations."""
    token = browser.redeem(typical_client, authorize_typically(browser, typical_client).code).json["refresh_token"]
    for _ in range(6):
        refreshed: list[Answer] = []
        send = partial(_kept, refreshed, partial(browser.refresh, typical_client, token))
        cost = measure(send, 200)
        assert (cost.calls, cost.writes) == (2, 1)
        token = refreshed[0].json["refresh_token"]


def _kept(answers: list[Answer], send: SendRequest) -> Answer:
    answers.append(send())
    return answers[-1]


def test_userinfo_and_introspection_are_two_calls_and_no_write(
    browser: Browser, measure: Measure, typical_client: Registered
) -> None:
    tokens = browser.redeem(typical_client, authorize_typically(browser, typical_client).code).json
    credentials = basic(typical_client.id, typical_client.secret or "")
    sends = [partial(browser.userinfo, tokens["access_token"])]
    sends += [
        partial(browser.post, "/oauth2/introspect", {"token": tokens[name]}, credentials)
        for name in ("access_token", "refresh_token")
    ]
    for send in sends:
        cost = measure(send, 200)
        assert (cost.calls, cost.writes) == (2, 0)


def test_extension_of_a_session_is_one_write_more_after_a_quarter_of_its_time(
    site: Site, browser: Browser, measure: Measure, typical_client: Registered
) -> None:
    """The session and its entry in the index of the user are two units."""
    token = browser.redeem(typical_client, authorize_typically(browser, typical_client).code).json["refresh_token"]

    def authorize() -> Cost:
        return measure(partial(authorize_typically, browser, typical_client), 302)

    def refresh() -> Cost:
        nonlocal token
        answers: list[Answer] = []
        cost = measure(partial(_kept, answers, partial(browser.refresh, typical_client, token)), 200)
        token = answers[0].json["refresh_token"]
        return cost

    quarter = site.settings.session_idle_lifetime // 4
    for use in (authorize, refresh):
        advance(site, typical_client, quarter - 60)
        usual = use()
        advance(site, typical_client, 60)
        extending = use()
        assert (extending.calls, extending.writes) == (usual.calls + 1, usual.writes + 2)
        assert use() == usual


def test_flow_is_at_most_four_write_units_for_the_first_and_the_thousandth_grant_of_a_session(
    site: Site, browser: Browser, measure: Measure, typical_client: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Authorization, code exchange, one refresh, UserInfo."""

    def cost_of_a_flow() -> list[Cost]:
        answers: list[Answer] = []
        costs = [measure(partial(_kept, answers, partial(authorize_typically, browser, typical_client)), 302)]
        redeem = partial(browser.redeem, typical_client, answers[-1].code)
        costs.append(measure(partial(_kept, answers, redeem), 200))
        refresh = partial(browser.refresh, typical_client, answers[-1].json["refresh_token"])
        costs.append(measure(partial(_kept, answers, refresh), 200))
        costs.append(measure(partial(browser.userinfo, answers[-1].json["access_token"]), 200))
        return costs

    created: list[tuple[Any, ...]] = []

    def recorded(*arguments: Any, **options: Any) -> Any:
        created.append(arguments)
        return grant.create_grant(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(flow, "create_grant", recorded)
        first = cost_of_a_flow()
    assert sum(cost.writes for cost in first) <= 4
    store = site.server.store
    while len(tables()[store.grants.name].items) < 999:
        assert isinstance(grant.create_grant(*created[0]), dict)
    (session,) = store.sessions.scan()
    assert {each.session_id for each in store.grants.scan()} == {session.session_id}
    assert cost_of_a_flow() == first


def test_every_route_is_in_the_table(site: Site) -> None:
    """Both methods of UserInfo are one row."""
    table = {tuple(name.partition(",")[0].partition(":")[0].split()) for name, *_ in TABLE}
    routes = {(route.method, route.path) for route in (*app.JSON_ROUTES, *app.PAGE_ROUTES)}
    # The playground sends the requests of a client, which are counted at their endpoints.
    playground = {("GET", "/playground"), ("POST", "/playground"), ("GET", "/playground/callback")}
    assert routes - table - playground == {("POST", "/oauth2/userinfo")}


def test_key_ring_is_cached_for_less_than_a_minute(
    site: Site, browser: Browser, cached_ring: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "signet"):
        for seconds, number in ((49, 0), (1, 1), (1, 0)):
            site.clock.advance(seconds)
            browser.get("/oauth2/jwks")
            assert calls_in_last_line(caplog) == number


def test_metadata_reads_the_resources_once_a_minute_and_never_the_key_ring(
    site: Site, browser: Browser, cached_ring: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "signet"):
        for seconds, number in ((0, 1), (50, 0), (9, 0), (1, 1), (1, 0)):
            site.clock.advance(seconds)
            browser.get("/.well-known/openid-configuration")
            assert calls_in_last_line(caplog) == number


def test_client_is_cached_for_a_minute(
    site: Site, browser: Browser, cached_ring: None, caplog: pytest.LogCaptureFixture
) -> None:
    client = site.client()
    site.server.forget_cached_records()
    with caplog.at_level(logging.INFO, "signet"):
        for seconds, number in ((0, 1), (0, 0), (59, 0), (1, 1)):
            site.clock.advance(seconds)
            browser.authorize(client, prompt="none")
            assert calls_in_last_line(caplog) == number


def test_client_is_read_again_before_a_request_is_rejected(
    site: Site, browser: Browser, cached_ring: None, caplog: pytest.LogCaptureFixture
) -> None:
    client = site.client()
    site.server.client(client.id)
    with caplog.at_level(logging.INFO, "signet"):
        assert browser.authorize(client, redirect_uri="https://other.example.com/").status == 400
        assert calls_in_last_line(caplog) == 1
        assert browser.post("/oauth2/token", {}, basic(client.id, "wrong secret")).status == 401
        assert calls_in_last_line(caplog) == 1
