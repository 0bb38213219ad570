"""Clients in the operator's hands: registered and changed with all their members, disabled, removed."""

import json
import re
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from chalicelib.errors import InvalidClientMetadata
from chalicelib.models import Client, Consent
from chalicelib.registration import register_client, set_client_disabled, update_client
from chalicelib.server import CLIENT_CACHE_LIFETIME
from infra.client_options import Wishes
from tests.browser import Browser
from tests.operator import Operate, done
from tests.site import Registered, Site
from tests.threads import at_once

URI = "https://print.example.com/callback"
# Every member that an operator may set: what is typed, and what the record then has.
MEMBERS: list[tuple[tuple[str, ...], str, Any]] = [
    (("--name", "Photo Print & Co."), "client_name", "Photo Print & Co."),
    (("--redirect-uri", "https://a.example/", "--redirect-uri", URI), "redirect_uris", ("https://a.example/", URI)),
    (("--default-redirect-uri", URI), "default_redirect_uri", URI),
    (("--scope", "openid email photos.read"), "scope", "openid email photos.read"),
    (("--scope", "openid email", "--default-scope", "email"), "default_scope", "email"),
    (("--grant-type", "authorization_code"), "grant_types", ("authorization_code",)),
    (("--response-type", "code id_token", "--response-type", "code"), "response_types", ("code id_token", "code")),
    (("--auth-method", "client_secret_post"), "token_endpoint_auth_method", "client_secret_post"),
    (("--auth-method", "none"), "token_endpoint_auth_method", "none"),
    (("--public",), "token_endpoint_auth_method", "none"),
    (("--trusted",), "trusted", True),
    (("--direct-sign-in",), "direct_sign_in", True),
    (("--no-pkce",), "require_pkce", False),
    (("--authorization-code-lifetime", "30"), "authorization_code_lifetime", 30),
    (("--access-token-lifetime", "300"), "access_token_lifetime", 300),
    (("--refresh-token-lifetime", "3600"), "refresh_token_lifetime", 3600),
    (("--id-token-signed-response-alg", "ES256"), "id_token_signed_response_alg", "ES256"),
    (("--access-token-signed-response-alg", "ES256"), "access_token_signed_response_alg", "ES256"),
    (("--userinfo-signed-response-alg", "RS256"), "userinfo_signed_response_alg", "RS256"),
    (("--subject-type", "pairwise"), "subject_type", "pairwise"),
    (("--logo-uri", "https://print.example.com/logo.png"), "logo_uri", "https://print.example.com/logo.png"),
    (("--client-uri", "https://print.example.com/"), "client_uri", "https://print.example.com/"),
    (("--policy-uri", "https://print.example.com/privacy"), "policy_uri", "https://print.example.com/privacy"),
    (("--tos-uri", "https://print.example.com/terms"), "tos_uri", "https://print.example.com/terms"),
    (
        ("--post-logout-redirect-uri", "https://print.example.com/bye"),
        "post_logout_redirect_uris",
        ("https://print.example.com/bye",),
    ),
    (
        ("--backchannel-logout-uri", "https://print.example.com/logout"),
        "backchannel_logout_uri",
        "https://print.example.com/logout",
    ),
    (
        (
            *("--backchannel-logout-uri", "https://print.example.com/logout"),
            "--backchannel-logout-session-required",
        ),
        "backchannel_logout_session_required",
        True,
    ),
]
# What is never for an operator to say.
OURS = {"client_id", "client_id_issued_at", "secret_hashes", "disabled_at"}


@pytest.fixture
def stored(site: Site) -> Callable[[str], Client]:
    """The record of a client."""

    def find(client_id: str) -> Client:
        found = site.server.store.clients.get(client_id)
        assert found
        return found

    return find


def forget(site: Site) -> None:
    """Let a minute pass, after which no process knows a client as it was."""
    site.clock.advance(CLIENT_CACHE_LIFETIME)


# ---- create and update


def test_every_member_of_a_client_can_be_set() -> None:
    assert {member for _, member, _ in MEMBERS} == {one.name for one in fields(Client)} - OURS


@pytest.mark.parametrize(("typed", "member", "value"), MEMBERS, ids=[" ".join(typed) for typed, _, _ in MEMBERS])
def test_a_member_is_set_when_a_client_is_made_and_later(
    site: Site, operate: Operate, stored: Callable[[str], Client], typed: tuple[str, ...], member: str, value: Any
) -> None:
    given = [*(("--name", "Photo Print") if "--name" not in typed else ())]
    given += ["--redirect-uri", URI] if "--redirect-uri" not in typed else []
    made = done(operate("client", "create", "--id", "made", *given, *typed, "--json"))
    site.secrets.update(filter(None, [made.pop("client_secret", None)]))
    assert getattr(stored("made"), member) == value
    assert made[member] == (list(value) if isinstance(value, tuple) else value)

    before = site.client(client_id="changed", client_name="Photo Print", redirect_uris=[URI], scope="openid").record
    printed = done(operate("client", "update", "changed", *typed, "--json"))
    after = stored("changed")
    assert getattr(after, member) == value
    assert printed[member] == made[member]
    assert None not in printed.values()
    # And nothing else has changed, but what was typed beside it.
    differing = {one.name for one in fields(Client) if getattr(after, one.name) != getattr(before, one.name)}
    beside = {"scope", "backchannel_logout_uri"} | ({"secret_hashes"} if after.public else set())
    assert differing <= {member} | beside


def test_a_client_for_client_credentials_needs_no_redirect_uri(site: Site, operate: Operate, browser: Browser) -> None:
    arguments = ("--name", "Night job", "--grant-type", "client_credentials", "--scope", "photos.read")
    made = done(operate("client", "create", *arguments, "--json"))
    site.secrets.add(made["client_secret"])
    assert (made["redirect_uris"], made["response_types"]) == ([], [])
    found = site.server.store.clients.get(made["client_id"])
    assert found
    answer = browser.token(Registered(found, made["client_secret"]), grant_type="client_credentials")
    assert answer.status == 200
    both = done(
        operate(
            *("client", "update", made["client_id"], "--redirect-uri", URI, "--json"),
            *("--grant-type", "authorization_code", "--grant-type", "client_credentials"),
        )
    )
    assert both["response_types"] == ["code"]


def test_members_of_lists_are_added_and_removed(site: Site, operate: Operate, stored: Callable[[str], Client]) -> None:
    site.client(client_id="print", redirect_uris=[URI], scope="openid email")
    operate(
        *("client", "update", "print", "--add-redirect-uri", "https://b.example/", "--add-redirect-uri", URI),
        *("--add-scope", "photos.read", "--remove-scope", "email"),
        *("--add-post-logout-redirect-uri", "https://b.example/bye"),
    )
    changed = stored("print")
    assert changed.redirect_uris == (URI, "https://b.example/")
    assert changed.scope == "openid photos.read"
    assert changed.post_logout_redirect_uris == ("https://b.example/bye",)
    operate(
        *("client", "update", "print", "--remove-redirect-uri", URI),
        *("--remove-post-logout-redirect-uri", "https://b.example/bye"),
    )
    assert stored("print").redirect_uris == ("https://b.example/",)
    assert stored("print").post_logout_redirect_uris == ()
    operate("client", "update", "print", "--redirect-uri", URI)
    assert stored("print").redirect_uris == (URI,), "given in full, it is all there is"


def test_what_need_not_be_there_is_taken_away(site: Site, operate: Operate, stored: Callable[[str], Client]) -> None:
    site.client(client_id="print", access_token_lifetime=300, logo_uri="https://a.example/l.png")
    printed = done(
        operate("client", "update", "print", "--unset", "logo-uri", "--unset", "access-token-lifetime", "--json")
    )
    assert not {"logo_uri", "access_token_lifetime"} & set(printed)
    assert (stored("print").logo_uri, stored("print").access_token_lifetime) == (None, None)


def test_a_client_that_becomes_public_keeps_no_secret_and_one_that_no_longer_is_needs_one(
    site: Site, operate: Operate, browser: Browser, stored: Callable[[str], Client]
) -> None:
    client = site.client(client_id="print")
    operate("client", "update", "print", "--public")
    assert stored("print").secret_hashes == ()
    forget(site)
    assert browser.refresh(client, "none of ours").json["error"] == "invalid_client"
    text = operate("client", "update", "print", "--auth-method", "client_secret_basic").out
    (next_,) = re.findall(r"It has no secret yet: python -m infra --stage test (.*)$", text, re.MULTILINE)
    made = done(operate(*next_.split(), "--json"))
    site.secrets.add(made["client_secret"])
    forget(site)
    assert browser.refresh(replace(client, secret=made["client_secret"]), "none").json["error"] == "invalid_grant"


def test_the_server_does_what_the_update_says_within_a_minute(site: Site, operate: Operate, browser: Browser) -> None:
    site.user()
    client = site.client(client_id="print")
    assert browser.authorize(client, redirect_uri="https://new.example/").status == 400
    operate("client", "update", "print", "--redirect-uri", "https://new.example/")
    assert browser.authorize(client, redirect_uri="https://new.example/").status == 200, "nobody is refused by a copy"
    forget(site)
    assert browser.authorize(client).status == 400


def test_of_twenty_operators_at_once_none_loses_a_change(site: Site, stored: Callable[[str], Client]) -> None:
    client, store = site.client(client_id="print", redirect_uris=[URI]).record, site.server.store

    def add(number: int) -> Callable[[], Client]:
        added: dict[str, tuple[str, ...]] = {"scope": (f"s{number}",)}
        if number < 19:
            added["redirect_uris"] = (f"https://{number}.example/",)
        return lambda: update_client(store, client, Wishes({}, added, {}).of)

    at_once(add(number) for number in range(20))
    assert set(stored("print").redirect_uris) == {URI, *(f"https://{number}.example/" for number in range(19))}
    assert set(stored("print").scope.split()) >= {f"s{number}" for number in range(20)}


def test_a_secret_that_is_made_while_a_client_is_updated_counts(
    site: Site, operate: Operate, stored: Callable[[str], Client]
) -> None:
    client = site.client(client_id="print").record

    def meanwhile(known: Client) -> Client:
        if known == client:
            site.secrets.add(done(operate("client", "rotate-secret", "print", "--json"))["client_secret"])
        return replace(known, trusted=True)

    update_client(site.server.store, client, meanwhile)
    assert stored("print").trusted
    assert len(stored("print").secret_hashes) == 2


def test_what_is_wrong_for_others_changes_is_refused_too(site: Site, stored: Callable[[str], Client]) -> None:
    """Each change is fine alone; together they would make a default scope that exceeds the scope."""
    client, store = site.client(client_id="print", scope="openid email").record, site.server.store

    def meanwhile(known: Client) -> Client:
        if known == client:
            update_client(store, client, lambda now: replace(now, scope="openid"))
        return replace(known, default_scope="email")

    with pytest.raises(InvalidClientMetadata, match="default scope"):
        update_client(store, client, meanwhile)
    assert (stored("print").scope, stored("print").default_scope) == ("openid", None)


def test_a_client_that_is_removed_meanwhile_does_not_come_back(site: Site) -> None:
    client, store = site.client(client_id="print").record, site.server.store

    def meanwhile(known: Client) -> Client:
        store.clients.delete("print")
        return replace(known, trusted=True)

    with pytest.raises(InvalidClientMetadata, match="not there any more"):
        update_client(store, client, meanwhile)
    assert store.clients.get("print") is None


# ---- disable, enable, delete


def test_a_disabled_client_can_do_nothing_and_goes_on_when_it_is_enabled(
    site: Site, operate: Operate, browser: Browser
) -> None:
    site.user()
    client = site.client(client_id="print")
    tokens = browser.tokens(client)
    shown = done(operate("client", "disable", "print", "--json"))
    assert shown["disabled_at"]
    assert "confidential, disabled" in operate("client", "list").out
    again = done(operate("client", "disable", "print", "--json"))
    assert again["disabled_at"] == shown["disabled_at"], "since when it is, is kept"
    forget(site)
    assert browser.authorize(client).status == 400
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_client"
    assert browser.userinfo(tokens["access_token"]).status == 401
    assert "disabled_at" not in done(operate("client", "enable", "print", "--json"))
    assert browser.refresh(client, tokens["refresh_token"]).status == 200


def test_a_client_that_could_not_be_registered_today_can_be_disabled(
    site: Site, operate: Operate, stored: Callable[[str], Client]
) -> None:
    record = site.client(client_id="old").record
    site.server.store.clients.put(replace(record, redirect_uris=("http://old.example/",)))
    assert operate("client", "update", "old", "--trusted").code == 2
    assert operate("client", "disable", "old").code == 0
    assert stored("old").disabled_at


def test_a_client_that_is_gone_cannot_be_disabled(site: Site) -> None:
    client = site.client().record
    site.server.store.clients.delete(client.client_id)
    with pytest.raises(InvalidClientMetadata, match="not there any more"):
        set_client_disabled(site.server.store, client, disabled=True)


def test_with_a_client_go_its_grants_and_consents_and_nobody_elses(
    site: Site, operate: Operate, browser: Browser
) -> None:
    user, store = site.user(), site.server.store
    client, other = site.client(client_id="print"), site.client(client_id="other")
    tokens = browser.redeem(client, browser.code(client, "allow_always")).json
    kept = browser.redeem(other, browser.code(other, "allow_always")).json
    gone = done(operate("client", "delete", "print", "--yes", "--json"))
    assert gone["client_id"] == "print"
    assert "hash" not in json.dumps(gone)
    assert store.clients.get("print") is None
    forget(site)
    assert browser.refresh(client, tokens["refresh_token"]).status == 401
    # Whoever registers under this name later gets nothing of what was given to it.
    again, secret = register_client(
        store, client_name="Evil", client_id="print", redirect_uris=client.record.redirect_uris
    )
    site.secrets.add(secret or "")
    assert browser.refresh(Registered(again, secret), tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert [consent.client_id for consent in store.consents.find("sub", user.sub)] == ["other"]
    assert browser.authorize(other).code
    assert browser.refresh(other, kept["refresh_token"]).status == 200


def test_a_removal_that_was_cut_off_is_done_again(
    site: Site, operate: Operate, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, store = site.user(), site.server.store
    site.client(client_id="print")
    store.consents.put(Consent(user.sub, "print", frozenset({"openid"}), 1))

    def cut(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("infra.clients.end_access", cut)
        assert operate("client", "delete", "print", "--yes").code == 1
    left = store.clients.get("print")
    assert left
    assert left.disabled_at, "the way in was closed first"
    assert operate("client", "delete", "print", "--yes").out == "Removed print.\n"
    assert list(store.consents.scan()) == []


# ---- what is kept of it


def test_what_was_done_to_a_client_is_in_its_history(site: Site, operate: Operate) -> None:
    made = done(operate("client", "create", "--id", "print", "--name", "Print", "--redirect-uri", URI, "--json"))
    site.secrets.add(made["client_secret"])
    operate("client", "update", "print", "--trusted", "--access-token-lifetime", "300")
    operate("client", "update", "print", "--trusted")  # which changes nothing
    secret = done(operate("client", "rotate-secret", "print", "--json"))["client_secret"]
    site.secrets.add(secret)
    operate("client", "rotate-secret", "print", "--finish")
    operate("client", "disable", "print")
    operate("client", "enable", "print")
    operate("client", "delete", "print", "--yes")
    printed = operate("history", "--client", "print", "--json")
    events = done(printed)
    assert sorted(event["detail"] for event in events) == sorted(
        [
            "created",
            "updated: access_token_lifetime, trusted",
            "new secret",
            "older secret dropped",
            "disabled",
            "enabled",
            "deleted",
        ]
    )
    assert {(event["name"], event["client_id"], event["device"]) for event in events} == {
        ("client_changed", "print", "operator")
    }
    assert secret not in printed.out
    assert "updated: access_token_lifetime, trusted" in operate("history", "--client", "print").out


def test_the_log_line_is_shown_when_it_is_wanted_and_names_who_did_it(
    site: Site, operate: Operate, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.client(client_id="print")
    monkeypatch.setenv("LOGNAME", "otto")
    assert operate("client", "disable", "print").err == ""
    for _ in range(2):  # a second time nothing comes twice
        (line,) = operate("--verbose", "client", "disable", "print").err.splitlines()
    said = json.loads(line)
    assert (said["event"], said["client_id"], said["detail"], said["by"]) == (
        *("client_changed", "print", "disabled"),
        "otto",
    )


def test_a_refusal_leaves_no_trace(site: Site, operate: Operate) -> None:
    site.client(client_id="print")
    operate("client", "update", "print", "--access-token-lifetime", "1")
    assert list(site.server.store.events.scan()) == []
