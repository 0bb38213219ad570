"""New passwords and new client secrets by the operator's command, and what `deploy` keeps as it was."""

import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import click
import pytest

from chalicelib import registration, sessions
from chalicelib.errors import AccessDenied, InvalidClientMetadata
from chalicelib.models import Client
from chalicelib.server import CLIENT_CACHE_LIFETIME
from infra.__main__ import command
from tests.browser import Browser
from tests.operator import Operate, Printed
from tests.site import PASSWORD, STAGE, Registered, Site, dump
from tests.threads import at_once

NEW = "another battery staple"
ROOT = Path(__file__).parent.parent


@pytest.fixture
def set_password(site: Site, operate: Operate, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Printed]:
    """`user set-password`; with `stdin`, that is the password."""

    def run(*arguments: str, stdin: bytes | None = None) -> Printed:
        if stdin is None:
            return operate("user", "set-password", *arguments)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        site.secrets.add(stdin.decode("utf-8", "replace").strip())
        return operate("user", "set-password", *arguments, "--password-stdin")

    return run


def refused(printed: Printed, why: str) -> bool:
    """Whether it was refused for this reason, in one line."""
    assert (printed.code, printed.out, printed.err.count("\n")) == (2, "", 1), printed
    return why in printed.err


# ---- user set-password


def test_a_given_password_counts_at_once_and_is_not_shown(
    site: Site, browser: Browser, set_password: Callable[..., Printed]
) -> None:
    site.user()
    client = site.client(trusted=True)
    printed = set_password("ALICE", stdin=NEW.encode() + b"\n")
    assert (printed.code, printed.err) == (0, "")
    assert "sessions and grants have ended" in printed.out
    assert NEW not in printed.out + dump()
    assert browser.sign_in(browser.authorize(client)).status == 400, "the old one"
    assert browser.sign_in(browser.authorize(client), "alice", NEW).code, "and no third one is asked for"


def test_a_random_password_is_shown_once_and_replaced_at_the_first_sign_in(
    site: Site, browser: Browser, operate: Operate, set_password: Callable[..., Printed]
) -> None:
    user = site.user()
    made = json.loads(set_password(user.sub, "--json").out)
    password = made.pop("password")
    site.secrets.update((password, NEW))
    assert made["password_change_required"]
    shown = operate("user", "show", "alice", "--json").out
    assert json.loads(shown) == made
    assert password not in shown + operate("user", "list").out + dump()
    page = browser.sign_in(browser.authorize(site.client(trusted=True)), "alice", password)
    assert "new_password" in page.form.fields
    assert browser.submit(page, new_password=NEW, new_password_again=NEW).code
    # People are told so too, and each time it is another one.
    text = set_password("alice").out
    (again,) = re.findall(r"^password +(\S+)$", text, re.MULTILINE)
    site.secrets.add(again)
    assert again != password
    assert "shown this once" in text


def test_all_sessions_codes_and_tokens_of_the_person_are_dead_and_nobody_elses(
    site: Site, browsers: Callable[..., Browser], set_password: Callable[..., Printed]
) -> None:
    site.user()
    site.user("bob")
    client = site.client(trusted=True)
    alice, bob = browsers(), browsers()
    bob.sign_in(bob.authorize(client), "bob")
    hers, his = (browser.tokens(client, scope="openid offline_access") for browser in (alice, bob))
    code = alice.code(client)
    waiting = browsers()
    consent = waiting.sign_in(waiting.authorize(site.client(client_id="asks")))

    assert set_password("alice", stdin=NEW.encode()).code == 0
    assert alice.authorize(client, prompt="none").answer["error"] == "login_required"
    assert alice.refresh(client, hers["refresh_token"]).json["error"] == "invalid_grant"
    assert alice.redeem(client, code).json["error"] == "invalid_grant"
    assert alice.userinfo(hers["access_token"]).status == 401
    assert "signed out" in waiting.submit(consent, decision="allow_once").body
    assert bob.refresh(client, his["refresh_token"]).status == 200
    assert bob.authorize(client, prompt="none").code


def test_somebody_who_came_without_a_hash_gets_a_password(
    site: Site, browser: Browser, set_password: Callable[..., Printed]
) -> None:
    user = site.user()
    site.server.store.users.put(replace(user, password_hash="", password_change_required=True))
    assert set_password("alice", stdin=NEW.encode()).code == 0
    assert browser.sign_in(browser.authorize(site.client(trusted=True)), "alice", NEW).code


def test_a_disabled_person_stays_disabled(site: Site, browser: Browser, set_password: Callable[..., Printed]) -> None:
    user = site.user()
    site.server.store.users.put(replace(user, disabled_at=1))
    assert set_password("alice", stdin=NEW.encode()).code == 0
    changed = site.server.store.users.get(user.sub)
    assert changed
    assert changed.disabled_at == 1
    assert changed.password_hash != user.password_hash
    assert browser.sign_in(browser.authorize(site.client()), "alice", NEW).status == 400


@pytest.mark.parametrize(
    ("username", "stdin", "why"),
    [
        ("alica", None, "There is no user 'alica'. Did you mean 'alice'?"),
        ("nobody at all", NEW.encode(), "There is no user 'nobody at all'."),
        ("alice", b"short\n", "at least 8"),
        ("alice", b"", "at least 8"),
        ("alice", b"\xff" * 10, "not UTF-8"),
    ],
)
def test_a_password_that_cannot_be_set_changes_nothing(
    site: Site, set_password: Callable[..., Printed], username: str, stdin: bytes | None, why: str
) -> None:
    user = site.user()
    assert refused(set_password(username, stdin=stdin), why)
    assert site.server.store.users.get(user.sub) == user


def test_what_has_changed_since_it_was_read_is_not_written_over(
    site: Site, set_password: Callable[..., Printed], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, user = site.server.store, site.user()
    changed = sessions.change_password(store, user, NEW)
    for stale in (user, replace(changed, disabled_at=1), replace(changed, sessions_generation=0)):
        with pytest.raises(AccessDenied):
            sessions.change_password(store, stale, PASSWORD)
    assert store.users.get(user.sub) == changed
    monkeypatch.setattr("infra.users.find_user", lambda *_: user)
    assert refused(set_password("alice"), "changed meanwhile")


# ---- client rotate-secret


def rotated(operate: Operate, site: Site, *arguments: str) -> dict[str, Any]:
    printed = operate("client", "rotate-secret", *arguments, "--json")
    assert (printed.code, printed.err) == (0, "")
    members: dict[str, Any] = json.loads(printed.out)
    site.secrets.update(filter(None, [members.get("client_secret")]))
    return members


def counts(browser: Browser, client: Registered, secret: str | None) -> bool:
    """Whether the client can prove itself with this secret, in a process that has not kept its record."""
    browser.site.clock.advance(CLIENT_CACHE_LIFETIME)
    answer = browser.refresh(replace(client, secret=secret), "none of ours")
    assert answer.json["error"] in ("invalid_grant", "invalid_client")
    return bool(answer.json["error"] == "invalid_grant")


def test_during_a_rotation_both_secrets_count_and_then_the_newer_one(
    site: Site, browser: Browser, operate: Operate
) -> None:
    client = site.client()
    old = client.secret
    assert browser.refresh(client, "none of ours").json["error"] == "invalid_grant"  # its record is kept from here
    made = rotated(operate, site, client.id)
    new = made.pop("client_secret")
    assert made.pop("client_secret_expires_at") == 0
    assert new != old
    at_once_ = browser.refresh(replace(client, secret=new), "none of ours")
    assert at_once_.json["error"] == "invalid_grant", "it counts at once"
    assert counts(browser, client, old)
    shown = operate("client", "show", client.id, "--json").out
    assert json.loads(shown) == made
    assert not any(secret in shown + dump() for secret in (old or "", new))

    assert "client_secret" not in rotated(operate, site, client.id, "--finish")
    assert not counts(browser, client, old)
    assert counts(browser, client, new)


def test_with_drop_old_only_the_new_secret_counts(site: Site, browser: Browser, operate: Operate) -> None:
    client = site.client()
    second = rotated(operate, site, client.id)["client_secret"]
    third = rotated(operate, site, client.id, "--drop-old")["client_secret"]
    assert [counts(browser, client, secret) for secret in (client.secret, second, third)] == [False, False, True]
    fourth = rotated(operate, site, client.id, "--drop-old")["client_secret"]
    assert [counts(browser, client, secret) for secret in (third, fourth)] == [False, True]


def test_tokens_outlive_a_rotation(site: Site, browser: Browser, operate: Operate) -> None:
    site.user()
    client = site.client()
    tokens = browser.tokens(client, scope="openid offline_access")
    new = rotated(operate, site, client.id, "--drop-old")["client_secret"]
    assert browser.refresh(replace(client, secret=new), tokens["refresh_token"]).status == 200


def test_a_client_that_came_without_a_secret_gets_one(site: Site, browser: Browser, operate: Operate) -> None:
    client = site.client()
    site.server.store.clients.put(replace(client.record, secret_hashes=()))
    assert counts(browser, client, rotated(operate, site, client.id)["client_secret"])


def test_people_are_told_what_to_do_next(site: Site, operate: Operate) -> None:
    client = site.client()
    first = operate("client", "rotate-secret", client.id).out
    site.secrets.update(re.findall(r"^client_secret +(\S+)$", first, re.MULTILINE))
    assert "shown this once" in first
    (next_,) = re.findall(r"python -m infra --stage \S+ (.* --finish)$", first, re.MULTILINE)
    second = operate(*next_.split())
    assert second.code == 0
    assert "No other secret counts" in second.out
    assert not re.search(r"^client_secret ", second.out, re.MULTILINE)


def test_a_secret_that_cannot_be_replaced_is_refused_in_one_line(site: Site, operate: Operate) -> None:
    client, public = site.client(client_id="print"), site.client(client_id="app", public=True)
    for arguments, why in (
        (("prnt",), "There is no client 'prnt'. Did you mean 'print'?"),
        ((public.id,), "public client"),
        ((public.id, "--drop-old"), "public client"),
        ((public.id, "--finish"), "no second secret"),
        ((client.id, "--finish"), "no second secret"),
        ((client.id, "--finish", "--drop-old"), "--finish makes none"),
    ):
        assert refused(operate("client", "rotate-secret", *arguments), why)
    assert site.server.store.clients.get(client.id) == client.record
    rotated(operate, site, client.id)
    two = site.server.store.clients.get(client.id)
    assert refused(operate("client", "rotate-secret", client.id), "two secrets already")
    assert site.server.store.clients.get(client.id) == two


def test_of_many_rotations_at_once_one_is_made(site: Site) -> None:
    client, store = site.client().record, site.server.store

    def rotate() -> Client | str:
        try:
            changed, secret = registration.rotate_secret(store, client)
        except InvalidClientMetadata as error:
            return error.description
        site.secrets.add(secret)
        return changed

    answers = at_once([rotate] * 8)
    (made,) = (answer for answer in answers if isinstance(answer, Client))
    assert sum("changed meanwhile" in answer for answer in answers if isinstance(answer, str)) == 7
    assert store.clients.get(client.client_id) == made
    assert made.secret_hashes[:-1] == client.secret_hashes


# ---- deploy


@pytest.fixture
def deployed(site: Site) -> Iterator[str]:
    """A stage whose data stack says `Signing=ring`; its tables are those of the tests."""
    stack, parameter = f"signet-data-{STAGE}", {"Type": "String"}
    body = {"Parameters": {"Signing": parameter}, "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}
    cloudformation = boto3.client("cloudformation")
    given = [{"ParameterKey": "Signing", "ParameterValue": "ring"}]
    cloudformation.create_stack(StackName=stack, TemplateBody=json.dumps(body), Parameters=given)
    yield stack
    cloudformation.delete_stack(StackName=stack)


@pytest.mark.parametrize("what", ["data", "deploy"])
def test_signing_stays_as_it_was_while_there_is_a_key_ring(
    site: Site, deployed: str, operate: Operate, what: str
) -> None:
    site.server.keys.jwks()
    printed = operate(what, "--yes", "--param", "Signing=kms")
    assert refused(printed, "Signing stays ring: the key ring of test holds keys that were made that way")


def test_without_a_key_ring_signing_may_change(
    without_ring: Site, deployed: str, operate: Operate, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("infra.deploy.Deployment.change", lambda _, stack, *__: asked.append(stack.name))
    assert operate("data", "--yes", "--param", "Signing=kms").code == 0
    assert asked == [deployed]


def test_the_same_signing_again_is_no_change(
    site: Site, deployed: str, operate: Operate, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("infra.deploy.Deployment.change", lambda _, stack, *__: asked.append(stack.name))
    assert operate("data", "--yes", "--param", "Signing=ring").code == 0
    assert operate("data", "--yes").code == 0
    assert asked == [deployed] * 2


# ---- what is said of the commands


@pytest.mark.parametrize("path", ["README.md", *sorted(f"infra/{file.name}" for file in (ROOT / "infra").glob("*.py"))])
def test_every_command_that_is_named_somewhere_exists(path: str) -> None:
    text = (ROOT / path).read_text("utf-8")
    for words in re.findall(r"python -m infra((?: --stage \S+)?(?: [a-z-]+)*)", text):
        names = re.sub(r" --stage \S+", "", words).split()
        group: click.Command = command
        while names and isinstance(group, click.Group):
            name = names.pop(0)
            assert name in group.commands, f"{path}: {words}"
            group = group.commands[name]
