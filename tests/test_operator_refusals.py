"""What the operator's command refuses: one line on standard error, exit code 2, and nothing has changed."""

import io
import sys
from typing import Any
from unittest.mock import Mock

import pytest
from botocore.exceptions import NoCredentialsError, NoRegionError

from infra.__main__ import command
from infra.commands import storage
from tests.operator import Operate
from tests.site import Site, dump
from tests.test_documented_commands import leaves

URI = "https://print.example.com/callback"
NEW = ("client", "create", "--name", "N", "--redirect-uri", URI)
UPDATE = ("client", "update", "print")
CLAIM = ("user", "update", "alice", "--claim")
NOBODY_TO_ASK = "Nothing has been changed: there is no terminal to ask at, and no --yes."
ALGORITHMS = "is not one of 'RS256', 'PS256', 'ES256', 'EdDSA'."
# What is typed, and the line.
REFUSALS: list[tuple[tuple[str, ...], str]] = [
    # a wrong word
    (("grnt", "list"), "No such command 'grnt'. Did you mean 'grant'?"),
    (("setings",), "No such command 'setings'. Did you mean 'settings'?"),
    (("quite-different",), "No such command 'quite-different'."),
    (("client", "updat", "print"), "No such command 'updat'. Did you mean 'update'?"),
    (("user", "signout", "alice"), "No such command 'signout'. Did you mean 'sign-out'?"),
    (("scope", "lst"), "No such command 'lst'. (Did you mean one of: 'list', 'set'?)"),
    (("client", "list", "--jsn"), "No such option '--jsn'. Did you mean '--json'?"),
    ((*UPDATE, "--add-redirect-url", URI), "(Did you mean one of: '--add-redirect-uri', '--"),
    (("--stagee", "x", "client", "list"), "No such option '--stagee'. Did you mean '--stage'?"),
    (("client", "list", "--stage", "prod"), "--stage stands before the command: --stage prod client list"),
    (("--json", "client", "list"), "--json stands behind the command: client list --json"),
    (("--stage", "prod", "serve"), "`serve` has this checkout's data only; `deploy` serves a stage."),
    # a wrong name or id
    (("client", "update", "prnt", "--trusted"), "There is no client 'prnt'. Did you mean 'print'?"),
    (("client", "disable", "prnt"), "There is no client 'prnt'. Did you mean 'print'?"),
    (("client", "enable", "x"), "There is no client 'x'."),
    (("client", "delete", "prnt", "--yes"), "There is no client 'prnt'. Did you mean 'print'?"),
    (("user", "update", "alica", "--admin"), "There is no user 'alica'. Did you mean 'alice'?"),
    (("user", "disable", "alica", "--yes"), "There is no user 'alica'. Did you mean 'alice'?"),
    (("user", "enable", "alica"), "There is no user 'alica'. Did you mean 'alice'?"),
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
    # a value that will not do
    ((*UPDATE, "--access-token-lifetime", "1"), "The access_token_lifetime must be 60 to 86400 seconds."),
    (
        (*UPDATE, "--access-token-lifetime", "x"),
        "'--access-token-lifetime': 'x' is not a valid integer.",
    ),
    ((*UPDATE, "--redirect-uri", "http://a.example/"), "http://a.example/ must be https"),
    (
        (*UPDATE, "--default-redirect-uri", "https://b.example/"),
        "redirect URI must be one of the registered",
    ),
    ((*UPDATE, "--remove-redirect-uri", f"{URI}x"), f"{URI}x is no redirect URI of print. Did you mean '{URI}'?"),
    ((*UPDATE, "--remove-redirect-uri", URI), "redirect URI"),
    ((*UPDATE, "--remove-scope", "emai"), "emai is no scope of print. Did you mean 'email'?"),
    ((*UPDATE, "--remove-post-logout-redirect-uri", "x"), "x is no post-logout redirect URI of print."),
    ((*UPDATE, "--scope", "two  spaces"), "The scope must be scope tokens separated by single spaces (RFC 6749 3.3)."),
    ((*UPDATE, "--default-scope", "phone"), "nor the default scope exceed it"),
    ((*UPDATE, "--public", "--no-pkce"), "A public client cannot do without PKCE."),
    ((*UPDATE, "--public", "--auth-method", "client_secret_post"), "A public client has no --auth-method but none."),
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
    ((*UPDATE, "--unset", "logo-uri", "--logo-uri", "https://a.example/"), "logo_uri is both given and unset."),
    (UPDATE, "Say what to change; --help lists what there is."),
    ((*NEW, "--id", "print"), "A client with the id print exists already."),
    ((*NEW, "--grant-type", "client_credentials", "--public"), "for confidential clients"),
    (("client", "create", "--name", "N"), "Missing option '--redirect-uri'."),
    ((*CLAIM, "nicknam=Al"), "Invalid value for '--claim': there is no claim 'nicknam'. Did you mean 'nickname'?"),
    ((*CLAIM, "sub=x"), "Invalid value for '--claim': there is no claim 'sub'."),
    ((*CLAIM, "nickname"), "Invalid value for '--claim': 'nickname' is not such as nickname=Al."),
    ((*CLAIM, "email_verified=yes"), "Invalid value for '--claim': the value of email_verified is no JSON."),
    ((*CLAIM, 'email_verified="true"'), "The claim email_verified must be true or false."),
    ((*CLAIM, "email_verified=1"), "The claim email_verified must be true or false."),
    ((*CLAIM, "updated_at=true"), "The claim updated_at must be a whole number."),
    ((*CLAIM, "updated_at=1.5"), "The claim updated_at must be a whole number."),
    ((*CLAIM, "updated_at=1" + "0" * 12), "The claim updated_at must be in seconds since 1970."),
    ((*CLAIM, "updated_at=-1" + "0" * 50), "The claim updated_at must be in seconds since 1970."),
    ((*CLAIM, "address=[]"), "The claim address must be a JSON object."),
    ((*CLAIM, 'address={"planet": "Mars"}'), "The claim address has texts named formatted, street_address"),
    ((*CLAIM, 'address={"locality": 1}'), "The claim address has texts named formatted, street_address"),
    ((*CLAIM, 'address={"locality": ""}'), "The claim address has texts named formatted, street_address"),
    ((*CLAIM, f"address={'[' * 100_000}"), "Invalid value for '--claim': the value of address is no JSON."),
    ((*CLAIM, 'name=" "'), "The claim name must have 1 to 2000 printable characters."),
    ((*CLAIM, "name=" + "n" * 2001), "The claim name must have 1 to 2000 printable characters."),
    ((*CLAIM, "name=a\u202eb"), "The claim name must have 1 to 2000 printable characters."),
    ((*CLAIM, 'name="open'), "Invalid value for '--claim': the value of name is no JSON."),
    (("user", "update", "alice", "--email", "nowhere"), "The e-mail address must be such as alice@example.com."),
    (
        ("user", "create", "--username", "zoe", "--email", "a b@c"),
        "The e-mail address must be such as alice@example.com.",
    ),
    (("user", "update", "alice", "--username", "bob"), "The username is taken."),
    (("user", "update", "alice", "--username", ""), "The username must have 1 to 200 printable characters"),
    (("user", "update", "alice"), "Say what to change; --help lists what there is."),
    (("scope", "set", "openid", "x"), "openid is a standard scope, which the pages describe themselves."),
    (
        ("scope", "set", "two words", "x"),
        "A scope has 1 to 128 characters, with no space and no quotes (RFC 6749 3.3).",
    ),
    (("scope", "set", "", "x"), "A scope has 1 to 128 characters"),
    (("scope", "set", "s" * 129, "x"), "A scope has 1 to 128 characters"),
    (("scope", "set", "photos.read", " "), "The description must have 1 to 200 printable characters."),
    (("scope", "set", "photos.read", "d" * 201), "The description must have 1 to 200 printable characters."),
    (("scope", "set", "photos.read", "a\u2028b"), "The description must have 1 to 200 printable characters."),
    (("completion", "fish"), "Invalid value for '{bash|zsh}': 'fish' is not one of 'bash', 'zsh'."),
    # too little, too much, or nobody to ask
    (("grant", "revoke"), "Name one GRANT_ID, or a --user, a --client or both."),
    (("grant", "revoke", "g-1", "--user", "alice", "--yes"), "Name one GRANT_ID, or a --user, a --client or both."),
    (("history",), "Name one --user, one --client, or --keys."),
    (("history", "--user", "alice", "--keys"), "Name one --user, one --client, or --keys."),
    (("scope", "set", "photos.read"), "Missing argument 'DESCRIPTION'."),
    (("scope", "set", "photos.read", "See", "your", "photos"), "Got unexpected extra arguments (your photos)"),
    (("client", "delete", "print"), NOBODY_TO_ASK),
    (("user", "delete", "alice"), NOBODY_TO_ASK),
    (("user", "disable", "alice"), NOBODY_TO_ASK),
    (("user", "sign-out", "alice"), NOBODY_TO_ASK),
    (("scope", "delete", "photos.read"), NOBODY_TO_ASK),
    (("grant", "revoke", "--user", "alice"), NOBODY_TO_ASK),
    (("--stage", "nowhere", "client", "list"), "This stage has no tables in this AWS account and region."),
]


@pytest.fixture
def operate(operate: Operate, monkeypatch: pytest.MonkeyPatch) -> Operate:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\ny\n"))  # no terminal, whatever it says
    return operate


@pytest.mark.parametrize(("typed", "line"), REFUSALS, ids=[" ".join(typed)[:60] for typed, _ in REFUSALS])
def test_what_is_wrong_is_one_line_and_exit_code_2_and_changes_nothing(
    site: Site, operate: Operate, typed: tuple[str, ...], line: str
) -> None:
    site.user()
    site.user("bob")
    site.client(client_id="print", client_name="Photo Print", redirect_uris=[URI], scope="openid email")
    operate("scope", "set", "photos.read", "See your photos")
    before = dump()
    printed = operate(*typed)
    assert (printed.code, printed.out, printed.err.count("\n")) == (2, "", 1), printed
    assert line in printed.err
    assert dump() == before


DESTRUCTIVE = {
    ("client", "delete"),
    ("grant", "revoke"),
    ("key", "retire"),
    ("scope", "delete"),
    ("user", "delete"),
    ("user", "disable"),
    ("user", "sign-out"),
}
# Written for people to read as it goes on, a script for the shell, or JSON anyway.
WITHOUT_JSON = {("serve",), ("data",), ("deploy",), ("destroy",), ("export",), ("completion",)}


@pytest.mark.parametrize("words", sorted(leaves(command)), ids=" ".join)
def test_every_command_has_json_and_what_destroys_has_yes(words: tuple[str, ...]) -> None:
    found: Any = command
    for word in words:
        found = found.commands[word]
    options = {name for one in found.params for name in one.opts}
    assert ("--json" in options) is (words not in WITHOUT_JSON)
    assert ("--yes" in options) is (words in DESTRUCTIVE | {("deploy",), ("data",)})


def test_dynamodb_out_of_reach_is_one_line(
    site: Site, operate: Operate, monkeypatch: pytest.MonkeyPatch, wire: Any
) -> None:
    monkeypatch.setenv("SIGNET_DYNAMODB_ENDPOINT", "http://127.0.0.1:9")
    printed = operate("client", "list")
    assert (printed.code, printed.out, printed.err.count("\n")) == (2, "", 1), printed
    assert "http://127.0.0.1:9" in printed.err, "it says what was out of reach"


@pytest.mark.parametrize(
    ("happens", "code", "line"),
    [
        (NoRegionError(), 2, "You must specify a region. Set AWS_PROFILE, or AWS_DEFAULT_REGION."),
        (NoCredentialsError(), 2, "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (KeyboardInterrupt(), 1, "Interrupted: what was done is done."),
    ],
)
def test_what_the_machine_lacks_is_one_line(
    operate: Operate, monkeypatch: pytest.MonkeyPatch, happens: BaseException, code: int, line: str
) -> None:
    monkeypatch.setattr("infra.clients.storage", Mock(side_effect=happens))
    printed = operate("client", "list")
    assert printed.code == code
    assert printed.err.strip().endswith(line)
    assert "Traceback" not in printed.err


def test_a_setting_that_is_wrong_is_one_line(site: Site, operate: Operate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNET_KEY_ROTATION_DAYS", "often")
    printed = operate("client", "list")
    assert (printed.code, printed.out) == (2, "")
    assert printed.err == "SIGNET_KEY_ROTATION_DAYS is 'often'; it must be a whole number from 0 to 3650\n"


def test_the_storage_of_a_stage_is_opened_by_what_the_settings_say(site: Site) -> None:
    with storage("test") as store:
        assert store.settings.stage == "test"
        assert not store.settings.embedded
