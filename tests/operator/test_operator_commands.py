"""`signet user set-password`, `client rotate-secret`, the signing of `deploy`, and the common options."""

import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import boto3
import click
import pytest

from chalicelib import __version__
from chalicelib.clients import registration
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import AccessDenied, InvalidClientMetadata
from chalicelib.storage.cache import LIFETIME
from chalicelib.users.password_change import change_password
from infra.__main__ import command, main
from infra.operator.common_options import add_common_options
from tests.documents.test_documented_commands import leaves
from tests.support.browser import Browser
from tests.support.operator import CommandResult, RunCommand
from tests.support.site import PASSWORD, STAGE, Registered, Site, dump_tables
from tests.support.threads import run_concurrently

NEW = "another battery staple"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def set_password(site: Site, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> Callable[..., CommandResult]:
    """Return a function that runs `user set-password`, with the password on standard input if `stdin` is given."""

    def run(*arguments: str, stdin: bytes | None = None) -> CommandResult:
        if stdin is None:
            return run_command("user", "set-password", *arguments, "--yes")
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        site.secrets.add(stdin.decode("utf-8", "replace").strip())
        return run_command("user", "set-password", *arguments, "--password-stdin", "--yes")

    return run


def fails_with(result: CommandResult, reason: str) -> bool:
    """Return whether a command failed for this reason. Asserts that it printed one line, with exit code 2."""
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1), result
    return reason in result.err


# ---- user set-password


def test_a_password_from_stdin_is_accepted_at_once_and_not_shown(
    site: Site, browser: Browser, set_password: Callable[..., CommandResult]
) -> None:
    site.user()
    client = site.client(trusted=True)
    result = set_password("ALICE", stdin=NEW.encode() + b"\n")
    assert (result.code, result.err) == (0, "")
    assert "sessions and grants of the user have ended" in result.out
    assert NEW not in result.out + dump_tables()
    assert browser.sign_in(browser.authorize(client)).status == 400, "the old password"
    assert browser.sign_in(browser.authorize(client), "alice", NEW).code, "without another change of the password"


def test_a_random_password_is_shown_once_and_replaced_at_the_first_sign_in(
    site: Site, browser: Browser, run_command: RunCommand, set_password: Callable[..., CommandResult]
) -> None:
    user = site.user()
    document = json.loads(set_password(user.sub, "--json").out)
    password = document.pop("password")
    site.secrets.update((password, NEW))
    assert document["password_change_required"]
    shown = run_command("user", "show", "alice", "--json").out
    assert json.loads(shown) == document
    assert password not in shown + run_command("user", "list").out + dump_tables()
    page = browser.sign_in(browser.authorize(site.client(trusted=True)), "alice", password)
    assert "new_password" in page.form.fields
    assert browser.submit(page, new_password=NEW, new_password_again=NEW).code
    # The text output says so too. A second call creates another password.
    text = set_password("alice").out
    (second,) = re.findall(r"^password +(\S+)$", text, re.MULTILINE)
    site.secrets.add(second)
    assert second != password
    assert "shown only once" in text


def test_set_password_ends_sessions_codes_and_tokens_of_that_user_only(
    site: Site, browsers: Callable[..., Browser], set_password: Callable[..., CommandResult]
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


def test_set_password_works_for_a_user_imported_without_a_hash(
    site: Site, browser: Browser, set_password: Callable[..., CommandResult]
) -> None:
    user = site.user()
    site.server.store.users.put(replace(user, password_hash="", password_change_required=True))
    assert set_password("alice", stdin=NEW.encode()).code == 0
    assert browser.sign_in(browser.authorize(site.client(trusted=True)), "alice", NEW).code


def test_set_password_keeps_a_user_disabled(
    site: Site, browser: Browser, set_password: Callable[..., CommandResult]
) -> None:
    user = site.user()
    site.server.store.users.put(replace(user, disabled_at=1))
    assert set_password("alice", stdin=NEW.encode()).code == 0
    changed = site.server.store.users.get(user.sub)
    assert changed
    assert changed.disabled_at == 1
    assert changed.password_hash != user.password_hash
    assert browser.sign_in(browser.authorize(site.client()), "alice", NEW).status == 400


@pytest.mark.parametrize(
    ("username", "stdin", "reason"),
    [
        ("alica", None, "There is no user 'alica'. Did you mean 'alice'?"),
        ("quite different", NEW.encode(), "There is no user 'quite different'."),
        ("alice", b"short\n", "at least 12 characters"),
        ("alice", b"", "at least 12 characters"),
        ("alice", b"Alice-1234567", "must not be your username"),
        ("alice", b"\xff" * 10, "not UTF-8"),
    ],
)
def test_an_invalid_password_changes_nothing(
    site: Site, set_password: Callable[..., CommandResult], username: str, stdin: bytes | None, reason: str
) -> None:
    user = site.user()
    assert fails_with(set_password(username, stdin=stdin), reason)
    assert site.server.store.users.get(user.sub) == user


def test_set_password_does_not_overwrite_a_concurrent_change(
    site: Site, set_password: Callable[..., CommandResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, user = site.server.store, site.user()
    changed = change_password(store, user, NEW)
    for stale in (user, replace(changed, disabled_at=1), replace(changed, sessions_generation=0)):
        with pytest.raises(AccessDenied):
            change_password(store, stale, PASSWORD)
    assert store.users.get(user.sub) == changed
    monkeypatch.setattr("infra.operator.users.find_user", lambda *_: user)
    assert fails_with(set_password("alice"), "changed by another request")


# ---- client rotate-secret


def rotate(run_command: RunCommand, site: Site, *arguments: str) -> dict[str, Any]:
    """Run `client rotate-secret` and return its JSON output."""
    result = run_command("client", "rotate-secret", *arguments, "--json")
    assert (result.code, result.err) == (0, "")
    members: dict[str, Any] = json.loads(result.out)
    site.secrets.update(filter(None, [members.get("client_secret")]))
    return members


def is_accepted(browser: Browser, client: Registered, secret: str | None) -> bool:
    """Return whether the client can authenticate with this secret, in a process that has not cached its record."""
    browser.site.clock.advance(LIFETIME)
    answer = browser.refresh(replace(client, secret=secret), "unknown")
    assert answer.json["error"] in ("invalid_grant", "invalid_client")
    return bool(answer.json["error"] == "invalid_grant")


def test_both_secrets_are_accepted_until_finish_and_then_only_the_newer_one(
    site: Site, browser: Browser, run_command: RunCommand
) -> None:
    client = site.client()
    old = client.secret
    assert browser.refresh(client, "unknown").json["error"] == "invalid_grant"  # the record is cached from here
    document = rotate(run_command, site, client.id)
    new = document.pop("client_secret")
    assert document.pop("client_secret_expires_at") == 0
    assert new != old
    answer = browser.refresh(replace(client, secret=new), "unknown")
    assert answer.json["error"] == "invalid_grant", "it is accepted at once, in spite of the cached record"
    assert is_accepted(browser, client, old)
    shown = run_command("client", "show", client.id, "--json").out
    assert json.loads(shown) == document
    assert not any(secret in shown + dump_tables() for secret in (old or "", new))

    assert "client_secret" not in rotate(run_command, site, client.id, "--finish", "--yes")
    assert not is_accepted(browser, client, old)
    assert is_accepted(browser, client, new)


def test_with_drop_old_only_the_new_secret_is_accepted(site: Site, browser: Browser, run_command: RunCommand) -> None:
    client = site.client()
    second = rotate(run_command, site, client.id)["client_secret"]
    third = rotate(run_command, site, client.id, "--drop-old", "--yes")["client_secret"]
    assert [is_accepted(browser, client, secret) for secret in (client.secret, second, third)] == [False, False, True]
    fourth = rotate(run_command, site, client.id, "--drop-old", "--yes")["client_secret"]
    assert [is_accepted(browser, client, secret) for secret in (third, fourth)] == [False, True]


def test_tokens_stay_valid_after_a_rotation(site: Site, browser: Browser, run_command: RunCommand) -> None:
    site.user()
    client = site.client()
    tokens = browser.tokens(client, scope="openid offline_access")
    new = rotate(run_command, site, client.id, "--drop-old", "--yes")["client_secret"]
    assert browser.refresh(replace(client, secret=new), tokens["refresh_token"]).status == 200


def test_byte_order_mark_before_the_password_is_dropped(
    site: Site, browser: Browser, set_password: Callable[..., CommandResult]
) -> None:
    site.user()
    site.secrets.add(NEW)
    assert set_password("alice", stdin=b"\xef\xbb\xbf" + NEW.encode() + b"\r\n").code == 0
    assert "decision" in browser.sign_in(browser.authorize(site.client()), password=NEW).body


def test_rotate_secret_works_for_a_client_imported_without_a_secret(
    site: Site, browser: Browser, run_command: RunCommand
) -> None:
    client = site.client()
    site.server.store.clients.put(replace(client.record, secret_hashes=()))
    assert is_accepted(browser, client, rotate(run_command, site, client.id)["client_secret"])


def test_rotate_secret_prints_the_command_that_finishes_the_rotation(site: Site, run_command: RunCommand) -> None:
    client = site.client()
    first = run_command("client", "rotate-secret", client.id).out
    site.secrets.update(re.findall(r"^client_secret +(\S+)$", first, re.MULTILINE))
    assert "shown only once" in first
    (arguments,) = re.findall(rf"^signet (.* --finish --stage {STAGE})$", first, re.MULTILINE)
    second = run_command(*arguments.split(), "--yes")
    assert second.code == 0
    assert "no other secret is accepted" in second.out
    assert not re.search(r"^client_secret ", second.out, re.MULTILINE)


def test_an_impossible_rotation_fails_with_one_line_and_changes_nothing(site: Site, run_command: RunCommand) -> None:
    client, public = site.client(client_id="print"), site.client(client_id="app", public=True)
    for arguments, reason in (
        (("prnt",), "There is no client 'prnt'. Did you mean 'print'?"),
        ((public.id,), "public client"),
        ((public.id, "--drop-old"), "public client"),
        ((public.id, "--finish"), "no second secret"),
        ((client.id, "--finish"), "no second secret"),
        ((client.id, "--finish", "--drop-old"), "Use either --drop-old, which creates a secret, or --finish"),
    ):
        assert fails_with(run_command("client", "rotate-secret", *arguments), reason)
    assert site.server.store.clients.get(client.id) == client.record
    rotate(run_command, site, client.id)
    two = site.server.store.clients.get(client.id)
    assert fails_with(run_command("client", "rotate-secret", client.id), "already has two secrets")
    assert site.server.store.clients.get(client.id) == two


def test_one_of_many_concurrent_rotations_succeeds(site: Site) -> None:
    client, store = site.client().record, site.server.store

    def attempt() -> Client | str:
        try:
            changed, secret = registration.rotate_secret(store, client)
        except InvalidClientMetadata as error:
            return error.description
        site.secrets.add(secret)
        return changed

    answers = run_concurrently([attempt] * 8)
    (winner,) = (answer for answer in answers if isinstance(answer, Client))
    assert sum("were changed by another command" in answer for answer in answers if isinstance(answer, str)) == 7
    assert store.clients.get(client.client_id) == winner
    assert winner.secret_hashes[:-1] == client.secret_hashes


# ---- deploy


@pytest.fixture
def deployed(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Create the data stack of a stage with `Signing=ring`, on the tables of the tests. Yields its name."""
    monkeypatch.setattr("infra.aws.data.Tables", Mock())
    stack, parameter = f"signet-data-{STAGE}", {"Type": "String"}
    body = {"Parameters": {"Signing": parameter}, "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}
    cloudformation = boto3.client("cloudformation")
    given = [{"ParameterKey": "Signing", "ParameterValue": "ring"}]
    cloudformation.create_stack(StackName=stack, TemplateBody=json.dumps(body), Parameters=given)
    yield stack
    cloudformation.delete_stack(StackName=stack)


@pytest.mark.parametrize("name", ["data", "deploy"])
def test_signing_cannot_change_while_the_key_ring_has_keys(
    site: Site, deployed: str, run_command: RunCommand, name: str
) -> None:
    site.server.keys.jwks()
    result = run_command(name, "--yes", "--param", "Signing=kms")
    assert fails_with(result, "Signing cannot be changed from ring to kms: the key ring of test already has keys")


def test_signing_can_change_without_a_key_ring(
    site_without_ring: Site, deployed: str, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacks: list[str] = []
    rings: list[str] = []
    monkeypatch.setattr("infra.aws.deploy.Deployment.change", lambda _, stack, *__: stacks.append(stack.name))
    monkeypatch.setattr("infra.aws.deploy.create_ring_of_new_stage", lambda store: rings.append(store.settings.stage))
    assert run_command("data", "--yes", "--param", "Signing=kms").code == 0
    assert (stacks, rings) == ([deployed], [STAGE])


def test_the_same_signing_is_accepted_again(
    site: Site, deployed: str, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacks: list[str] = []
    monkeypatch.setattr("infra.aws.deploy.Deployment.change", lambda _, stack, *__: stacks.append(stack.name))
    assert run_command("data", "--yes", "--param", "Signing=ring").code == 0
    assert run_command("data", "--yes").code == 0
    assert stacks == [deployed] * 2


# ---- common options


def test_version_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["infra", "--version"])
    assert main() == 0
    assert capsys.readouterr().out == f"signet {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "stage"),
    [
        ("probe", "local"),
        ("probe --stage prod", "prod"),
        ("--stage prod probe", "prod"),
        ("--stage prod probe --stage dev", "dev"),
        ("probe --stage prod --stage dev", "dev"),
        ("group --stage prod probe", "prod"),
        ("group probe --stage prod", "prod"),
        ("--stage a group --stage b probe --stage c", "c"),
        ("--stage= probe", ""),  # such as an unset shell variable: never the local data
        ("--stage prod probe --stage=", ""),
    ],
)
def test_stage_is_accepted_before_and_behind_the_command_and_the_last_one_wins(arguments: str, stage: str) -> None:
    stages: list[str] = []
    probe = click.Command("probe", callback=click.pass_obj(stages.append))
    root = click.Group(
        commands=[probe, click.Group("group", commands=[click.Command("probe", callback=probe.callback)])]
    )
    add_common_options(root)
    root.main(arguments.split(), standalone_mode=False)
    assert stages == [stage]


@pytest.mark.parametrize("words", sorted(leaves(command)), ids=" ".join)
def test_every_command_accepts_stage_and_verbose(words: tuple[str, ...], run_command: RunCommand) -> None:
    text = run_command(*words, "--help").out
    assert text.startswith(f"Usage: signet {' '.join(words)} [OPTIONS]")
    assert "--stage STAGE" in text
    assert "--verbose" in text


def test_stage_behind_the_command_selects_the_data(site: Site, run_command: RunCommand) -> None:
    site.client(client_id="print")
    result = run_command("client", "list", "--stage", "nowhere")
    assert fails_with(result, "This stage has no tables in this AWS account and region.")
    assert "print" in run_command("--stage", "nowhere", "client", "list", "--stage", STAGE).out


def test_an_empty_stage_is_rejected(run_command: RunCommand) -> None:
    assert fails_with(run_command("client", "list", "--stage", ""), "SIGNET_STAGE is ''")


@pytest.mark.parametrize("name", ["data", "deploy", "destroy", "restore"])
def test_commands_for_aws_require_a_stage_in_aws(run_command: RunCommand, name: str) -> None:
    assert fails_with(run_command(name, "--stage", "local"), "Name the stage, for example --stage prod")
    assert fails_with(run_command("--stage", "local", name), "Name the stage, for example --stage prod")
    assert fails_with(run_command(name, "--stage", "a/b"), "SIGNET_STAGE")


# ---- the commands in documents and messages

SOURCES = [ROOT / "README.md", *sorted((ROOT / "infra").rglob("*.py"))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_in_a_document_or_message_exists(path: Path) -> None:
    text = path.read_text("utf-8")
    for words in re.findall(r"(?:bin/|`|: |\()signet ((?:[a-z-]+ ?)+)", text):
        group: click.Command = command
        names = words.split()
        while names and isinstance(group, click.Group) and not names[0].startswith("-"):
            name = names.pop(0)
            assert name in group.commands, words
            group = group.commands[name]
