"""Errors of the operator's commands: one line on standard error, exit code 2, and nothing is changed."""

import io
import sys
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import boto3
import pytest
from botocore.exceptions import NoCredentialsError, NoRegionError

from chalicelib.aws.messages import NotConfigured
from infra.__main__ import command
from infra.local.embedded import create_tables
from infra.operator.commands import open_store
from tests.documents.test_documented_commands import leaves
from tests.support.operator import RunCommand, command_runner
from tests.support.site import Site, dump_tables

URI = "https://print.example.com/callback"
NEW = ("client", "create", "--name", "N", "--redirect-uri", URI)
UPDATE = ("client", "update", "print")
CLAIM = ("user", "update", "alice", "--claim")
NO_TERMINAL = "Nothing has been changed. Without a terminal to ask for confirmation, --yes is required."
ALGORITHMS = "is not one of 'RS256', 'PS256', 'ES256', 'EdDSA'."
API, OLD_API = "https://api.example.com", "https://old.example.com"
NEW_TYPE = ("authorization-type", "set", "pay", "Pay")
NEW_RESOURCE = ("resource", "create", "https://new.example.com", "--name", "N")
# Arguments, and the line or a part of it.
ERRORS: list[tuple[tuple[str, ...], str]] = [
    # unknown commands and options
    (("grnt", "list"), "No such command 'grnt'. Did you mean 'grant'?"),
    (("setings",), "No such command 'setings'. Did you mean 'settings'?"),
    (("quite-different",), "No such command 'quite-different'."),
    (("client", "updat", "print"), "No such command 'updat'. Did you mean 'update'?"),
    (("user", "signout", "alice"), "No such command 'signout'. Did you mean 'sign-out'?"),
    (("scope", "lst"), "No such command 'lst'. (Did you mean one of: 'list', 'set'?)"),
    (("client", "list", "--jsn"), "No such option '--jsn'. Did you mean '--json'?"),
    ((*UPDATE, "--add-redirect-url", URI), "(Did you mean one of: '--add-redirect-uri', '--"),
    (("--stagee", "x", "client", "list"), "No such option '--stagee'. Did you mean '--stage'?"),
    (("client", "list", "--stagee", "prod"), "No such option '--stagee'. Did you mean '--stage'?"),
    (("client", "list", "--stage"), "Option '--stage' requires an argument."),
    (("--json", "client", "list"), "--json must follow the command, as in: client list --json"),
    (("client", "--json", "list"), "--json must follow the command, as in: client list --json"),
    (("completion", "bash", "--json"), "No such option '--json'."),
    (
        ("--stage", "prod", "serve"),
        "`serve` uses the data of this checkout only. To serve a stage in AWS, use `deploy`.",
    ),
    (
        ("serve", "--stage", "prod"),
        "`serve` uses the data of this checkout only. To serve a stage in AWS, use `deploy`.",
    ),
    # unknown names and ids
    (("client", "update", "prnt", "--trusted"), "There is no client 'prnt'. Did you mean 'print'?"),
    (("client", "disable", "prnt"), "There is no client 'prnt'. Did you mean 'print'?"),
    (("client", "enable", "x"), "There is no client 'x'."),
    (("client", "delete", "prnt", "--yes"), "There is no client 'prnt'. Did you mean 'print'?"),
    (("user", "update", "alica", "--admin"), "There is no user 'alica'. Did you mean 'alice'?"),
    (("user", "disable", "alica", "--yes"), "There is no user 'alica'. Did you mean 'alice'?"),
    (("user", "enable", "alica"), "There is no user 'alica'. Did you mean 'alice'?"),
    (("user", "let-in", "alica"), "There is no user 'alica'. Did you mean 'alice'?"),
    (("user", "unlock", "alica"), "There is no user 'alica'. Did you mean 'alice'?"),
    (("user", "let-in", "alice", "--url", "login.example.com"), "login.example.com is not a URL."),
    (("user", "sign-out", "alica", "--yes"), "There is no user 'alica'. Did you mean 'alice'?"),
    (("user", "delete", "alica", "--yes"), "There is no user 'alica'. Did you mean 'alice'?"),
    (("user", "delete", "", "--yes"), "There is no user ''."),
    (("user", "show", "a" * 3000), f"There is no user '{'a' * 3000}'."),
    (
        ("scope", "delete", "photo.read", "--yes"),
        "no described scope 'photo.read'. Did you mean 'photos.read'?",
    ),
    (("grant", "revoke", "g-nowhere", "--yes"), "There is no grant 'g-nowhere'."),
    (("grant", "list", "--user", "alica"), "There is no user 'alica'. Did you mean 'alice'?"),
    (("grant", "list", "--client", "prnt"), "There is no client 'prnt'. Did you mean 'print'?"),
    (("grant", "revoke", "--client", "prnt", "--yes"), "There is no client 'prnt'. Did you mean 'print'?"),
    (("history", "--user", "alica"), "There is no user 'alica'. Did you mean 'alice'?"),
    (("history", "--client", "prnt"), "There is no client 'prnt'. Did you mean 'print'?"),
    # invalid values
    ((*UPDATE, "--access-token-lifetime", "1"), "The access_token_lifetime must be 60 to 86400 seconds."),
    (
        (*UPDATE, "--access-token-lifetime", "x"),
        "'--access-token-lifetime': 'x' is not a valid integer.",
    ),
    ((*UPDATE, "--redirect-uri", "http://a.example/"), "http://a.example/ must be https"),
    (
        (*UPDATE, "--default-redirect-uri", "https://b.example/"),
        "redirect URI must be one of the redirect URIs",
    ),
    ((*UPDATE, "--remove-redirect-uri", f"{URI}x"), f"{URI}x is not a redirect URI of print. Did you mean '{URI}'?"),
    ((*UPDATE, "--remove-redirect-uri", URI), "redirect URI"),
    ((*UPDATE, "--remove-scope", "emai"), "emai is not a scope of print. Did you mean 'email'?"),
    ((*UPDATE, "--remove-post-logout-redirect-uri", "x"), "x is not a post-logout redirect URI of print."),
    ((*UPDATE, "--scope", "two  spaces"), "The scope must be scope tokens separated by single spaces (RFC 6749 3.3)."),
    ((*UPDATE, "--default-scope", "phone"), "must contain the default scope"),
    ((*UPDATE, "--public", "--no-pkce"), "A public client must use PKCE."),
    (
        (*UPDATE, "--public", "--auth-method", "client_secret_post"),
        "A public client can only have the --auth-method none.",
    ),
    ((*UPDATE, "--public", "--direct-sign-in"), "Direct sign-in is for confidential clients."),
    ((*UPDATE, "--auth-method", "private_key"), "Invalid value for '--auth-method': 'private_key' is not one of"),
    ((*UPDATE, "--grant-type", "password"), "Invalid value for '--grant-type': 'password' is not one of"),
    ((*UPDATE, "--response-type", "token"), "Invalid value for '--response-type': 'token' is not one of"),
    ((*UPDATE, "--subject-type", "private"), "Invalid value for '--subject-type': 'private' is not one of"),
    ((*UPDATE, "--id-token-signed-response-alg", "none"), ALGORITHMS),
    ((*UPDATE, "--access-token-signed-response-alg", "HS256"), ALGORITHMS),
    ((*UPDATE, "--userinfo-signed-response-alg", "rs256"), ALGORITHMS),
    ((*UPDATE, "--logo-uri", "javascript:alert(1)"), "logo_uri"),
    ((*UPDATE, "--backchannel-logout-uri", "ftp://a.example/"), "backchannel_logout_uri"),
    ((*UPDATE, "--post-logout-redirect-uri", "https://a.example/#f"), "fragment"),
    ((*UPDATE, "--name", "a\u202eb"), "The name must have 1 to 200 printable characters."),
    ((*UPDATE, "--unset", "scope"), "Invalid value for '--unset': 'scope' is not one of"),
    ((*UPDATE, "--unset", "logo-uri", "--logo-uri", "https://a.example/"), "logo_uri is both set and unset."),
    (UPDATE, "Give at least one option to change; --help lists them."),
    ((*NEW, "--id", "print"), "A client with the id print already exists."),
    ((*NEW, "--grant-type", "client_credentials", "--public"), "for confidential clients"),
    (("client", "create", "--name", "N"), "Missing option '--redirect-uri'."),
    ((*CLAIM, "sub=x"), "Invalid value for '--claim': The name sub has a meaning of its own"),
    (
        (*CLAIM, "nickname"),
        "Invalid value for '--claim': 'nickname' must have the form NAME=VALUE, such as nickname=Al.",
    ),
    ((*CLAIM, "email_verified=yes"), "Invalid value for '--claim': the value of email_verified is not valid JSON."),
    ((*CLAIM, 'email_verified="true"'), "The claim email_verified must be true or false."),
    ((*CLAIM, "email_verified=1"), "The claim email_verified must be true or false."),
    ((*CLAIM, "updated_at=true"), "The claim updated_at must be a whole number."),
    ((*CLAIM, "updated_at=1.5"), "The claim updated_at must be a whole number."),
    ((*CLAIM, "updated_at=1" + "0" * 12), "The claim updated_at must be in seconds since 1970."),
    ((*CLAIM, "updated_at=-1" + "0" * 50), "The claim updated_at must be in seconds since 1970."),
    ((*CLAIM, "address=[]"), "The claim address must be a JSON object."),
    ((*CLAIM, 'address={"planet": "Mars"}'), "The claim address can only have the strings formatted, street_address"),
    ((*CLAIM, 'address={"locality": 1}'), "The claim address can only have the strings formatted, street_address"),
    ((*CLAIM, 'address={"locality": ""}'), "The claim address can only have the strings formatted, street_address"),
    ((*CLAIM, f"address={'[' * 100_000}"), "Invalid value for '--claim': the value of address is not valid JSON."),
    ((*CLAIM, 'name=" "'), "The claim name must have 1 to 2000 printable characters."),
    ((*CLAIM, "name=" + "n" * 2001), "The claim name must have 1 to 2000 printable characters."),
    ((*CLAIM, "name=a\u202eb"), "The claim name must have 1 to 2000 printable characters."),
    ((*CLAIM, 'name="open'), "Invalid value for '--claim': the value of name is not valid JSON."),
    (("user", "update", "alice", "--email", "nowhere"), "The email address must be like alice@example.com."),
    (
        ("user", "create", "--username", "zoe", "--email", "a b@c"),
        "The email address must be like alice@example.com.",
    ),
    (("user", "update", "alice", "--username", "bob"), "The username is taken."),
    (("user", "update", "alice", "--username", ""), "The username must have 1 to 200 printable characters"),
    (("user", "update", "alice"), "Give at least one option to change; --help lists them."),
    (("scope", "set", "openid", "x"), "openid is a standard scope: its description cannot be changed."),
    (
        ("scope", "set", "two words", "x"),
        "A scope must have 1 to 128 characters, without spaces or quotes (RFC 6749 3.3).",
    ),
    (("scope", "set", "", "x"), "A scope must have 1 to 128 characters"),
    (("scope", "set", "s" * 129, "x"), "A scope must have 1 to 128 characters"),
    (("scope", "set", "photos.read", " "), "The description must have 1 to 200 printable characters."),
    (("scope", "set", "photos.read", "d" * 201), "The description must have 1 to 200 printable characters."),
    (("scope", "set", "photos.read", "a\u2028b"), "The description must have 1 to 200 printable characters."),
    ((*NEW_RESOURCE, "--scope", "openid"), "openid is a standard scope, which is not of a resource."),
    ((*NEW_RESOURCE, "--scope", "a  b"), "The scope must be scope tokens separated by single spaces (RFC 6749 3.3)."),
    ((*NEW_RESOURCE, "--scope", "a,b"), "Separate the scopes by spaces"),
    ((*NEW_RESOURCE, "--scope", " ".join(f"s{n}" for n in range(101))), "The scope must be scope tokens"),
    ((*NEW_RESOURCE, "--access-token-lifetime", "59"), "The access_token_lifetime must be 60 to 86400 seconds."),
    ((*NEW_RESOURCE, "--access-token-signed-response-alg", "none"), ALGORITHMS),
    (("resource", "create", "https://new.example.com"), "needs a name, unless a client with this client_id has one."),
    (("resource", "create", "https://new.example.com", "--name", "a\u202eb"), "The name must have 1 to 200 printable"),
    (("resource", "create", "http://new.example.com", "--name", "N"), "must be https"),
    (("resource", "create", "https://new.example.com/#a", "--name", "N"), "must have no fragment"),
    (("resource", "create", "https://a@new.example.com", "--name", "N"), "without user information"),
    (("resource", "create", "https://new.example.com/" + "a" * 128, "--name", "N"), "at most 128 characters"),
    (("resource", "create", "urn:api", "--name", "N"), "The URI urn:api must be https"),
    (("resource", "create", "https://New.example.com:443", "--name", "N"), "normal form: https://new.example.com"),
    (("resource", "create", f"{API}/", "--name", "N"), "or another spelling of it, already exists."),
    (("resource", "create", f"{OLD_API}/", "--name", "N"), f"The client {OLD_API} exists, which is the same URI."),
    (("client", "create", "--name", "N", "--id", f"{API}/"), f"The resource {API} exists, which is the same URI as"),
    (
        ("resource", "show", "https://apj.example.com"),
        f"There is no resource 'https://apj.example.com'. Did you mean '{API}'",
    ),
    (("resource", "update", "https://x.example"), "Give at least one option to change; --help lists them."),
    (("resource", "update", API, "--unset", "scope", "--scope", "a"), "scope is both set and unset."),
    (("resource", "update", API, "--unset", "name"), "Invalid value for '--unset': 'name' is not one of"),
    (("resource", "update", API, "--remove-scope", "photo.read"), "Did you mean 'photos.read'?"),
    (("resource", "update", API, "--remove-scope", "photos.read"), "it would accept every scope."),
    (("resource", "update", API, "--add-scope", "email"), "email is a standard scope"),
    (("resource", "delete", "https://x.example", "--yes"), "There is no resource 'https://x.example'."),
    (("resource", "delete", API), NO_TERMINAL),
    (("resource", "delete", OLD_API, "--yes"), f"There is no resource '{OLD_API}'."),
    (("completion", "fish"), "Invalid value for '{bash|zsh}': 'fish' is not one of 'bash', 'zsh'."),
    # missing or unexpected arguments, and no terminal to ask for confirmation
    (("grant", "revoke"), "Give either a GRANT_ID, or --user, --client or both."),
    (("grant", "revoke", "g-1", "--user", "alice", "--yes"), "Give either a GRANT_ID, or --user, --client or both."),
    (("history",), "Give exactly one of --user, --client and --keys."),
    (("history", "--user", "alice", "--keys"), "Give exactly one of --user, --client and --keys."),
    (("authorization-type", "set", "two words", "x"), "A type must have 1 to 128 ASCII characters"),
    (("authorization-type", "set", "", "x"), "A type must have 1 to 128 ASCII characters"),
    (("authorization-type", "set", "t" * 129, "x"), "A type must have 1 to 128 ASCII characters"),
    (("authorization-type", "set", "pay", " "), "The text must have 1 to 200 printable characters."),
    (("authorization-type", "set", "pay", "a\u202eb"), "The text must have 1 to 200 printable characters."),
    ((*NEW_TYPE, "--member", "type"), "'type' cannot be a member"),
    ((*NEW_TYPE, "--member", "two words"), "has 1 to 64 ASCII characters"),
    ((*NEW_TYPE, "--member", "=Label"), "'' cannot be a member"),
    ((*NEW_TYPE, "--member", "m" * 65), "has 1 to 64 ASCII characters"),
    ((*NEW_TYPE, "--member", "größe"), "has 1 to 64 ASCII characters"),
    ((*NEW_TYPE, "--member", "a=b\u2028c"), "The label of a must have 1 to 200 printable characters."),
    ((*NEW_TYPE, "--member", "a", "--member", "a=A"), "A type has at most 30 different members."),
    ((*NEW_TYPE, *(part for n in range(31) for part in ("--member", f"m{n}"))), "at most 30 different members."),
    ((*NEW_TYPE, "--required", "amount"), "amount is required, but no member of the type."),
    ((*NEW_TYPE, "--resource", API + "s"), "Did you mean"),
    (
        ("authorization-type", "delete", "album", "--yes"),
        "There is no authorization type 'album'. Did you mean 'albums'?",
    ),
    (("authorization-type", "delete", "albums"), NO_TERMINAL),
    ((*UPDATE, "--authorization-details-type", "two words"), "without spaces."),
    ((*UPDATE, "--remove-authorization-details-type", "pay"), "pay is not an authorization details type of print."),
    (("scope", "set", "photos.read"), "Missing argument 'DESCRIPTION'."),
    (("scope", "set", "photos.read", "See", "your", "photos"), "Got unexpected extra arguments (your photos)"),
    (("client", "delete", "print"), NO_TERMINAL),
    (("user", "delete", "alice"), NO_TERMINAL),
    (("client", "disable", "print"), NO_TERMINAL),
    (("client", "rotate-secret", "print", "--drop-old"), NO_TERMINAL),
    (("client", "rotate-secret", "twice", "--finish"), NO_TERMINAL),
    (("key", "rotate", "--now"), NO_TERMINAL),
    (("user", "disable", "alice"), NO_TERMINAL),
    (("user", "set-password", "alice"), NO_TERMINAL),
    (("user", "set-password", "alice", "--password-stdin"), NO_TERMINAL),
    (("user", "sign-out", "alice"), NO_TERMINAL),
    (("scope", "delete", "photos.read"), NO_TERMINAL),
    (("grant", "revoke", "--user", "alice"), NO_TERMINAL),
    (("--stage", "nowhere", "client", "list"), "This stage has no tables in this AWS account and region."),
]


@pytest.fixture
def run_command(run_command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> RunCommand:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\ny\n"))  # not a terminal
    return run_command


@pytest.mark.parametrize(("arguments", "line"), ERRORS, ids=[" ".join(arguments)[:60] for arguments, _ in ERRORS])
def test_an_error_is_one_line_with_exit_code_2_and_changes_nothing(
    site: Site, run_command: RunCommand, arguments: tuple[str, ...], line: str
) -> None:
    site.user()
    site.user("bob")
    site.client(client_id="print", client_name="Photo Print", redirect_uris=[URI], scope="openid email")
    run_command("scope", "set", "photos.read", "See your photos")
    run_command("resource", "create", API, "--name", "Photo API", "--scope", "photos.read")
    run_command("authorization-type", "set", "albums", "Read albums")
    run_command("client", "create", "--name", "Old API", "--id", OLD_API)
    twice = site.client(client_id="twice").record
    site.server.store.clients.put(replace(twice, secret_hashes=(*twice.secret_hashes, "another")))
    before = dump_tables()
    result = run_command(*arguments)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1), result
    assert line in result.err
    assert dump_tables() == before


DESTRUCTIVE = {
    ("authorization-type", "delete"),
    ("client", "block"),
    ("client", "delete"),
    ("client", "disable"),
    ("client", "remove-certificate"),
    ("client", "rotate-secret"),
    ("grant", "revoke"),
    ("key", "create"),
    ("key", "retire"),
    ("key", "rotate"),
    ("restore",),
    ("registration-token", "revoke"),
    ("resource", "delete"),
    ("scope", "delete"),
    ("truststore", "remove"),
    ("user", "delete"),
    ("user", "disable"),
    ("user", "mfa", "reset"),
    ("user", "passkey", "remove"),
    ("user", "set-password"),
    ("user", "sign-out"),
}
# Commands that report progress, print a script for the shell, or always print JSON.
WITHOUT_JSON = {("serve",), ("data",), ("deploy",), ("destroy",), ("restore",), ("export",), ("completion",)}


@pytest.mark.parametrize("words", sorted(leaves(command)), ids=" ".join)
def test_every_command_has_json_and_destructive_commands_have_yes(words: tuple[str, ...]) -> None:
    subcommand: Any = command
    for word in words:
        subcommand = subcommand.commands[word]
    options = {name for option in subcommand.params for name in option.opts}
    assert ("--json" in options) is (words not in WITHOUT_JSON)
    assert ("--yes" in options) is (words in DESTRUCTIVE | {("deploy",), ("data",)})


def test_an_unreachable_dynamodb_is_one_line(
    site: Site, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch, wire: Any
) -> None:
    monkeypatch.setenv("SIGNET_DYNAMODB_ENDPOINT", "http://127.0.0.1:9")
    result = run_command("client", "list")
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1), result
    assert "http://127.0.0.1:9" in result.err, "it names the address"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (NoRegionError(), 2, "You must specify a region. Set AWS_PROFILE, or AWS_DEFAULT_REGION."),
        (
            NotConfigured("Which region?", "AWS_DEFAULT_REGION"),
            2,
            "Which region? Set AWS_PROFILE, or AWS_DEFAULT_REGION.",
        ),
        (NoCredentialsError(), 2, "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (KeyboardInterrupt(), 1, "Interrupted. Changes that were already made are kept."),
    ],
)
def test_an_error_of_the_environment_is_one_line(
    run_command: RunCommand, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str
) -> None:
    monkeypatch.setattr("infra.operator.clients.open_store", Mock(side_effect=error))
    result = run_command("client", "list")
    assert result.code == code
    assert result.err.strip().endswith(line)
    assert "Traceback" not in result.err


def test_an_invalid_setting_is_one_line(site: Site, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNET_KEY_ROTATION_DAYS", "often")
    result = run_command("client", "list")
    assert (result.code, result.out) == (2, "")
    assert result.err == "SIGNET_KEY_ROTATION_DAYS is 'often'; it must be a whole number from 0 to 3650\n"


def test_open_store_uses_the_settings_of_the_stage(site: Site) -> None:
    with open_store("test") as store:
        assert store.settings.stage == "test"
        assert not store.settings.embedded


JOINED = [
    ("--scope", "openid,profile", "Separate the scopes by spaces"),
    ("--scope", "openid, profile", "Separate the scopes by spaces"),
    ("--default-scope", "openid,profile", "Separate the scopes by spaces"),
    *(
        (option, f"{first}{separator}{second}", "Repeat the option for each value")
        for option, first, second in (
            ("--redirect-uri", "https://a.example/cb", "https://b.example/cb"),
            ("--redirect-uri", "https://a.example/cb", "com.example.app:/cb"),
            ("--post-logout-redirect-uri", "https://a.example/bye", "https://b.example/bye"),
            ("--allowed-origin", "https://a.example", "capacitor://localhost"),
        )
        for separator in (",", ", ", " ", ";")
    ),
    ("--grant-type", "authorization_code,refresh_token", "Repeat the option for each value"),
    ("--response-type", "code,code id_token", "Repeat the option for each value"),
    ("--auth-method", "client_secret_basic,client_secret_post", "Repeat the option for each value"),
]


@pytest.mark.parametrize(("option", "value", "hint"), JOINED, ids=[f"{row[0]} {row[1]}" for row in JOINED])
def test_joined_values_of_a_list_are_rejected_with_a_hint(
    site: Site, run_command: RunCommand, option: str, value: str, hint: str
) -> None:
    client = site.client(client_id="print").record
    given = ("--redirect-uri", "https://c.example/") if option != "--redirect-uri" else ()
    options = [option]
    if option in ("--scope", "--redirect-uri", "--post-logout-redirect-uri", "--allowed-origin"):
        options += [option.replace("--", "--add-"), option.replace("--", "--remove-")]
    commands = [("create", "--name", "X", *given, option, value)]
    commands += [("update", "print", each, value) for each in options]
    for arguments in commands:
        answer = run_command("client", *arguments)
        assert (answer.code, answer.out) == (2, ""), arguments
        assert hint in " ".join(answer.err.split()), answer.err
    assert list(site.server.store.clients.scan()) == [client]


def test_comma_within_a_redirect_uri_is_accepted(site: Site, run_command: RunCommand) -> None:
    site.client(client_id="print")
    uri = "https://a.example/cb?a=1,2;3"
    assert run_command("client", "update", "print", "--redirect-uri", uri).code == 0
    client = site.server.store.clients.get("print")
    assert client
    assert client.redirect_uris == (uri,)


def test_missing_table_is_named(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with the tables of another name that a restore from a backup has left out."""
    client = boto3.client("dynamodb")
    create_tables(client, "restored")
    names = [name for name in client.list_tables()["TableNames"] if name.startswith("signet-restored-")]
    for kind in ("scopes", "grants"):
        client.delete_table(TableName=f"signet-restored-{kind}")
    result = command_runner(monkeypatch, capsys, "restored")("export")
    assert (result.code, result.err) == (
        2,
        "The stage restored lacks tables: signet-restored-grants, signet-restored-scopes.\n",
    )
    for name in set(names) - {"signet-restored-scopes", "signet-restored-grants"}:
        client.delete_table(TableName=name)
