"""`signet client …`: clients are registered, changed with all their members, disabled and removed."""

import json
import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from chalicelib.clients.registration import register_client, set_client_disabled, update_client
from chalicelib.protocol.authentication_context import REFEDS_MFA
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidClientMetadata
from chalicelib.protocol.records import Consent
from chalicelib.storage.cache import LIFETIME
from infra.operator.client_changes import ClientChanges
from tests.support.browser import Browser
from tests.support.faults import Wire
from tests.support.grants import insert_grant
from tests.support.operator import RunCommand, output_json
from tests.support.site import Registered, Site
from tests.support.threads import run_concurrently

URI = "https://print.example.com/callback"
# RFC 8037 appendix A.2
JWKS = {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}
# Every member that an operator can set: options, member, and value in the record.
MEMBERS: list[tuple[tuple[str, ...], str, Any]] = [
    (("--name", "Photo Print & Co."), "client_name", "Photo Print & Co."),
    (("--redirect-uri", "https://a.example/", "--redirect-uri", URI), "redirect_uris", ("https://a.example/", URI)),
    (("--default-acr-value", REFEDS_MFA, "--default-acr-value", "x"), "default_acr_values", (REFEDS_MFA, "x")),
    (("--require-acr", REFEDS_MFA), "require_acr", REFEDS_MFA),
    (("--default-redirect-uri", URI), "default_redirect_uri", URI),
    (
        ("--allowed-origin", "capacitor://localhost", "--allowed-origin", "https://a.example"),
        "allowed_origins",
        ("capacitor://localhost", "https://a.example"),
    ),
    (("--scope", "openid email photos.read"), "scope", "openid email photos.read"),
    (("--scope", "openid email", "--default-scope", "email"), "default_scope", "email"),
    (("--grant-type", "authorization_code"), "grant_types", ("authorization_code",)),
    (("--response-type", "code id_token", "--response-type", "code"), "response_types", ("code id_token", "code")),
    (("--auth-method", "client_secret_post"), "token_endpoint_auth_methods", ("client_secret_post",)),
    (
        ("--auth-method", "client_secret_post", "--auth-method", "client_secret_basic"),
        "token_endpoint_auth_methods",
        ("client_secret_post", "client_secret_basic"),
    ),
    (("--auth-method", "none"), "token_endpoint_auth_methods", ("none",)),
    (("--public",), "token_endpoint_auth_methods", ("none",)),
    (("--jwks", "jwks.json"), "jwks", JWKS),
    (("--jwks-uri", "https://print.example.com/jwks"), "jwks_uri", "https://print.example.com/jwks"),
    (("--assertion-audience", "token_endpoint"), "assertion_audience", "token_endpoint"),
    (("--trusted",), "trusted", True),
    (("--strict-scope",), "strict_scope", True),
    (("--authorization-details-type", "payment"), "authorization_details_types", ("payment",)),
    (("--direct-sign-in",), "direct_sign_in", True),
    (("--no-pkce",), "require_pkce", False),
    (("--require-pushed-authorization-requests",), "require_pushed_authorization_requests", True),
    (("--require-signed-request-object", "--jwks", "jwks.json"), "require_signed_request_object", True),
    (("--request-object-signing-alg", "ES256"), "request_object_signing_alg", "ES256"),
    (("--introspection-signed-response-alg", "EdDSA"), "introspection_signed_response_alg", "EdDSA"),
    (("--dpop-bound-access-tokens",), "dpop_bound_access_tokens", True),
    (("--dpop-nonce-required",), "dpop_nonce_required", True),
    (("--tls-client-auth-subject-dn", "CN=a, O=b"), "tls_client_auth_subject_dn", "CN=a, O=b"),
    (("--tls-client-auth-san-dns", "app.example.com"), "tls_client_auth_san_dns", "app.example.com"),
    (("--tls-client-auth-san-uri", "spiffe://example.com/app"), "tls_client_auth_san_uri", "spiffe://example.com/app"),
    (("--tls-client-auth-san-ip", "192.0.2.1"), "tls_client_auth_san_ip", "192.0.2.1"),
    (("--tls-client-auth-san-email", "app@example.com"), "tls_client_auth_san_email", "app@example.com"),
    (
        ("--tls-client-certificate-bound-access-tokens",),
        "tls_client_certificate_bound_access_tokens",
        True,
    ),
    (("--authorization-code-lifetime", "30"), "authorization_code_lifetime", 30),
    (("--access-token-lifetime", "300"), "access_token_lifetime", 300),
    (("--refresh-token-lifetime", "3600"), "refresh_token_lifetime", 3600),
    (("--refresh-token-retry-window", "300"), "refresh_token_retry_window", 300),
    (("--refresh-token-retry-window", "0"), "refresh_token_retry_window", 0),
    (("--id-token-claims-from-scope",), "id_token_claims_from_scope", True),
    (("--id-token-signed-response-alg", "ES256"), "id_token_signed_response_alg", "ES256"),
    (("--access-token-signed-response-alg", "ES256"), "access_token_signed_response_alg", "ES256"),
    (("--userinfo-signed-response-alg", "RS256"), "userinfo_signed_response_alg", "RS256"),
    (("--authorization-signed-response-alg", "PS256"), "authorization_signed_response_alg", "PS256"),
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
# The members that no option sets.
HIDDEN = {"secret_hashes", "registration_id", "grants_generation", "registration_token_hash"}
HIDDEN |= {"previous_registration_token_hash", "registration_token_replaced_at"}
NOT_SETTABLE = (
    HIDDEN
    | {"registered_with", "expires_at", "document", "tls_client_certificates"}
    | {"profile"}  # which sets other members too: test_client_profiles
    | {"client_id", "client_id_issued_at", "disabled_at", "token_endpoint_auth_method"}
)


@pytest.fixture
def stored(site: Site) -> Callable[[str], Client]:
    """Return a function that reads the record of a client."""

    def find(client_id: str) -> Client:
        client = site.server.store.clients.get(client_id)
        assert client
        return client

    return find


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A file with the public key of a client."""
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(JWKS), "utf-8")
    return path


def plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    return json.loads(json.dumps(value))


def expire_client_cache(site: Site) -> None:
    """Let the lifetime of cached clients pass."""
    site.clock.advance(LIFETIME)


# ---- create and update


def test_every_member_of_a_client_can_be_set() -> None:
    assert {member for _, member, _ in MEMBERS} == {field.name for field in fields(Client)} - NOT_SETTABLE


@pytest.mark.parametrize(
    ("arguments", "member", "value"), MEMBERS, ids=[" ".join(arguments) for arguments, _, _ in MEMBERS]
)
def test_a_member_is_set_by_create_and_by_update(
    site: Site,
    run_command: RunCommand,
    stored: Callable[[str], Client],
    key_file: Path,
    arguments: tuple[str, ...],
    member: str,
    value: Any,
) -> None:
    arguments = tuple(str(key_file) if argument == key_file.name else argument for argument in arguments)
    given = [*(("--name", "Photo Print") if "--name" not in arguments else ())]
    given += ["--redirect-uri", URI] if "--redirect-uri" not in arguments else []
    created = output_json(run_command("client", "create", "--id", "created", *given, *arguments, "--json"))
    site.secrets.update(filter(None, [created.pop("client_secret", None)]))
    assert plain(getattr(stored("created"), member)) == plain(value)
    assert created[member] == (list(value) if isinstance(value, tuple) else value)

    before = site.client(client_id="changed", client_name="Photo Print", redirect_uris=[URI], scope="openid").record
    result = output_json(run_command("client", "update", "changed", *arguments, "--json"))
    after = stored("changed")
    assert plain(getattr(after, member)) == plain(value)
    assert result[member] == created[member]
    assert None not in result.values()
    # No other member has changed, except those of further options.
    differing = {field.name for field in fields(Client) if getattr(after, field.name) != getattr(before, field.name)}
    further = {"scope", "backchannel_logout_uri", "token_endpoint_auth_method", "jwks"} | (
        {"secret_hashes"} if after.public else set()
    )
    assert differing <= {member} | further


def test_a_client_has_both_methods_that_send_a_secret_until_they_are_narrowed(
    site: Site, run_command: RunCommand, stored: Callable[[str], Client]
) -> None:
    both = ["client_secret_basic", "client_secret_post"]
    created = output_json(
        run_command("client", "create", "--id", "print", "--name", "P", "--redirect-uri", URI, "--json")
    )
    site.secrets.add(created["client_secret"])
    assert created["token_endpoint_auth_methods"] == both
    # As version 1 has stored it.
    site.server.store.clients.put(
        replace(stored("print"), token_endpoint_auth_method="client_secret_post", token_endpoint_auth_methods=())
    )
    shown = output_json(run_command("client", "show", "print", "--json"))
    assert shown["token_endpoint_auth_methods"] == both
    assert output_json(run_command("client", "update", "print", "--trusted", "--json"))["trusted"]
    changed = output_json(run_command("client", "update", "print", "--auth-method", both[1], "--json"))
    assert (changed["token_endpoint_auth_methods"], changed["token_endpoint_auth_method"]) == ([both[1]], both[1])
    again = run_command(*("client", "update", "print"), *("--auth-method", both[0], "--auth-method", both[1]), "--json")
    assert output_json(again)["token_endpoint_auth_methods"] == both
    assert stored("print").secret_hashes, "its secret is kept"
    mixed = run_command("client", "update", "print", "--auth-method", "none", "--auth-method", both[0])
    assert (mixed.code, stored("print").auth_methods) == (2, tuple(both))


def test_a_client_with_keys_has_no_secret(
    site: Site, run_command: RunCommand, stored: Callable[[str], Client], key_file: Path
) -> None:
    arguments = ("--id", "print", "--name", "P", "--redirect-uri", URI, "--jwks", str(key_file))
    result = run_command("client", "create", *arguments)
    assert result.code == 0, result.err
    assert "secret" not in result.out.lower()
    assert "CLIENT_ID=print" in result.out
    assert (stored("print").auth_methods, stored("print").secret_hashes) == (("private_key_jwt",), ())
    refused = run_command("client", "rotate-secret", "print")
    assert (refused.code, "private key" in refused.err) == (2, True)
    update = ("client", "update", "print")
    result = run_command(*update, "--auth-method", "private_key_jwt", "--auth-method", "client_secret_basic")
    assert "It has no secret yet" in result.out
    created = output_json(run_command("client", "rotate-secret", "print", "--json"))
    site.secrets.add(created["client_secret"])
    assert run_command(*update, "--auth-method", "private_key_jwt").code == 0
    assert not stored("print").secret_hashes, "it may no longer send it"
    refused = run_command(*update, "--unset", "jwks")
    assert (refused.code, "needs public keys" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "cannot be used"),
        ("[" * 5000, "cannot be used"),
        ('{"keys": [], "keys": []}', "a member is repeated"),
        ('{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA", "d": "the-private-key"}]}', "private or symmetric"),
        ('{"keys": [{"kty": "oct", "k": "the-private-key"}]}', "private or symmetric"),
        (" " * 65537, "65536 bytes"),
    ],
)
def test_a_file_without_public_keys_is_rejected(
    site: Site, run_command: RunCommand, key_file: Path, content: str, problem: str
) -> None:
    key_file.write_text(content, "utf-8")
    result = run_command(*("client", "create", "--name", "P", "--redirect-uri", URI), "--jwks", str(key_file))
    assert (result.code, list(site.server.store.clients.scan())) == (2, [])
    assert problem in " ".join(result.err.split())
    assert "the-private-key" not in result.out + result.err
    missing = run_command(*("client", "create", "--name", "P", "--redirect-uri", URI), "--jwks", "no-such-file")
    assert missing.code == 2


def test_a_client_for_client_credentials_needs_no_redirect_uri(
    site: Site, run_command: RunCommand, browser: Browser
) -> None:
    arguments = ("--name", "Night job", "--grant-type", "client_credentials", "--scope", "photos.read")
    created = output_json(run_command("client", "create", *arguments, "--json"))
    site.secrets.add(created["client_secret"])
    assert (created["redirect_uris"], created["response_types"]) == ([], [])
    client = site.server.store.clients.get(created["client_id"])
    assert client
    answer = browser.token(Registered(client, created["client_secret"]), grant_type="client_credentials")
    assert answer.status == 200
    both = output_json(
        run_command(
            *("client", "update", created["client_id"], "--redirect-uri", URI, "--json"),
            *("--grant-type", "authorization_code", "--grant-type", "client_credentials"),
        )
    )
    assert both["response_types"] == ["code"]


@pytest.mark.spec("RFC 8252 §7.1")
def test_a_scheme_without_a_dot_is_registered_with_a_warning(
    run_command: RunCommand, stored: Callable[[str], Client]
) -> None:
    uri = "cursor://anysphere.cursor-retrieval/oauth/callback"
    create = ("client", "create", "--id", "cursor", "--name", "Cursor", "--public", "--scope", "openid")
    created = run_command(*create, "--redirect-uri", uri)
    assert created.code == 0
    assert created.err.startswith("Warning: Any application can use the scheme cursor:")
    assert stored("cursor").redirect_uris == (uri,)
    # An update says nothing about what was so before.
    assert run_command("client", "update", "cursor", "--name", "Cursor 2").err == ""
    updated = run_command("client", "update", "cursor", "--add-redirect-uri", "vscode://cursor/cb")
    assert updated.err.startswith("Warning: Any application can use the scheme vscode:")
    rejected = run_command("client", "update", "cursor", "--add-redirect-uri", "Intent://cursor/cb")
    assert rejected.code != 0
    assert "intent" in rejected.err
    assert stored("cursor").redirect_uris == (uri, "vscode://cursor/cb")


@pytest.mark.parametrize("uri", ["http://localhost:3000/mcp", "http://127.0.0.1:3000", "https://mcp.example.com"])
def test_a_resource_server_may_use_http_on_a_loopback_address_only(
    run_command: RunCommand, stored: Callable[[str], Client], uri: str
) -> None:
    result = run_command("client", "create", "--id", uri, "--name", "MCP server", "--scope", "mcp")
    assert (result.code, result.err) == (0, "")
    assert stored(uri).grant_types == ()


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://mcp.example.com/", "must be https (http is for 127.0.0.1, [::1] and localhost)"),
        ("https://mcp.example.com/#x", "must have no fragment"),
        ("https://MCP.example.com/mcp", "Write the client_id https://MCP.example.com/mcp in its normal form"),
    ],
)
def test_the_error_for_the_id_of_a_resource_server_names_the_real_reason(
    run_command: RunCommand, site: Site, uri: str, reason: str
) -> None:
    result = run_command("client", "create", "--id", uri, "--name", "MCP server", "--scope", "mcp")
    assert result.code != 0
    assert reason in result.err
    assert site.server.store.clients.get(uri) is None


def test_values_of_lists_are_added_and_removed(
    site: Site, run_command: RunCommand, stored: Callable[[str], Client]
) -> None:
    site.client(client_id="print", redirect_uris=[URI], scope="openid email")
    run_command(
        *("client", "update", "print", "--add-redirect-uri", "https://b.example/", "--add-redirect-uri", URI),
        *("--add-scope", "photos.read", "--remove-scope", "email"),
        *("--add-post-logout-redirect-uri", "https://b.example/bye", "--add-allowed-origin", "ionic://localhost"),
    )
    changed = stored("print")
    assert changed.redirect_uris == (URI, "https://b.example/")
    assert changed.scope == "openid photos.read"
    assert changed.post_logout_redirect_uris == ("https://b.example/bye",)
    assert changed.allowed_origins == ("ionic://localhost",)
    run_command(
        *("client", "update", "print", "--remove-redirect-uri", URI),
        *("--remove-post-logout-redirect-uri", "https://b.example/bye", "--remove-allowed-origin", "ionic://localhost"),
    )
    assert stored("print").redirect_uris == ("https://b.example/",)
    assert (stored("print").post_logout_redirect_uris, stored("print").allowed_origins) == ((), ())
    run_command("client", "update", "print", "--redirect-uri", URI)
    assert stored("print").redirect_uris == (URI,), "it replaces the whole list"


def test_unset_removes_optional_members(site: Site, run_command: RunCommand, stored: Callable[[str], Client]) -> None:
    site.client(client_id="print", access_token_lifetime=300, logo_uri="https://a.example/l.png")
    result = output_json(
        run_command("client", "update", "print", "--unset", "logo-uri", "--unset", "access-token-lifetime", "--json")
    )
    assert not {"logo_uri", "access_token_lifetime"} & set(result)
    assert (stored("print").logo_uri, stored("print").access_token_lifetime) == (None, None)


def test_what_says_which_grants_are_valid_is_neither_shown_nor_settable(run_command: RunCommand, site: Site) -> None:
    site.client(client_id="print")
    commands = (["list", "--json"], ["show", "print", "--json"], ["show", "print"], ["update", "--help"])
    for output in (run_command("client", *arguments).out for arguments in commands):
        assert not [name for name in HIDDEN if name in output or name.replace("_", "-") in output]


def test_a_public_client_loses_its_secret_and_needs_a_new_one_when_it_becomes_confidential(
    site: Site, run_command: RunCommand, browser: Browser, stored: Callable[[str], Client]
) -> None:
    client = site.client(client_id="print")
    run_command("client", "update", "print", "--public")
    assert stored("print").secret_hashes == ()
    expire_client_cache(site)
    assert browser.refresh(client, "unknown").json["error"] == "invalid_client"
    text = run_command("client", "update", "print", "--auth-method", "client_secret_basic").out
    (arguments,) = re.findall(
        r"It has no secret yet. Create one: signet (client rotate-secret print --stage test)$", text, re.MULTILINE
    )
    created = output_json(run_command(*arguments.split(), "--json"))
    site.secrets.add(created["client_secret"])
    expire_client_cache(site)
    assert browser.refresh(replace(client, secret=created["client_secret"]), "none").json["error"] == "invalid_grant"


def test_an_update_takes_effect_within_a_minute(site: Site, run_command: RunCommand, browser: Browser) -> None:
    site.user()
    client = site.client(client_id="print")
    assert browser.authorize(client, redirect_uri="https://new.example/").status == 400
    run_command("client", "update", "print", "--redirect-uri", "https://new.example/")
    assert browser.authorize(client, redirect_uri="https://new.example/").status == 200, (
        "a cached record rejects no request"
    )
    expire_client_cache(site)
    assert browser.authorize(client).status == 400


def test_no_change_is_lost_when_twenty_operators_update_a_client_concurrently(
    site: Site, stored: Callable[[str], Client]
) -> None:
    client, store = site.client(client_id="print", redirect_uris=[URI]).record, site.server.store

    def add(number: int) -> Callable[[], Client]:
        added: dict[str, tuple[str, ...]] = {"scope": (f"s{number}",)}
        if number < 19:
            added["redirect_uris"] = (f"https://{number}.example/",)
        return lambda: update_client(store, client, ClientChanges({}, added, {}).apply)

    run_concurrently(add(number) for number in range(20))
    assert set(stored("print").redirect_uris) == {URI, *(f"https://{number}.example/" for number in range(19))}
    assert set(stored("print").scope.split()) >= {f"s{number}" for number in range(20)}


def test_a_secret_created_during_an_update_is_kept(
    site: Site, run_command: RunCommand, stored: Callable[[str], Client]
) -> None:
    client = site.client(client_id="print").record

    def change(current: Client) -> Client:
        if current == client:
            site.secrets.add(output_json(run_command("client", "rotate-secret", "print", "--json"))["client_secret"])
        return replace(current, trusted=True)

    update_client(site.server.store, client, change)
    assert stored("print").trusted
    assert len(stored("print").secret_hashes) == 2


def test_an_update_that_conflicts_with_a_concurrent_one_is_rejected(
    site: Site, stored: Callable[[str], Client]
) -> None:
    """Each change is valid alone; together, the default scope would exceed the scope."""
    client, store = site.client(client_id="print", scope="openid email").record, site.server.store

    def change(current: Client) -> Client:
        if current == client:
            update_client(store, client, lambda other: replace(other, scope="openid"))
        return replace(current, default_scope="email")

    with pytest.raises(InvalidClientMetadata, match="default scope"):
        update_client(store, client, change)
    assert (stored("print").scope, stored("print").default_scope) == ("openid", None)


def test_an_update_does_not_recreate_a_client_that_is_removed_concurrently(site: Site) -> None:
    client, store = site.client(client_id="print").record, site.server.store

    def change(current: Client) -> Client:
        store.clients.delete("print")
        return replace(current, trusted=True)

    with pytest.raises(InvalidClientMetadata, match="no longer exists"):
        update_client(store, client, change)
    assert store.clients.get("print") is None


# ---- disable, enable, delete


def test_a_disabled_client_is_rejected_until_it_is_enabled_again(
    site: Site, run_command: RunCommand, browser: Browser
) -> None:
    site.user()
    client = site.client(client_id="print")
    tokens = browser.tokens(client)
    shown = output_json(run_command("client", "disable", "print", "--yes", "--json"))
    assert shown["disabled_at"]
    assert "confidential, disabled" in run_command("client", "list").out
    again = output_json(run_command("client", "disable", "print", "--yes", "--json"))
    assert again["disabled_at"] == shown["disabled_at"], "the time of the first call is kept"
    expire_client_cache(site)
    assert browser.authorize(client).status == 400
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_client"
    assert browser.userinfo(tokens["access_token"]).status == 401
    assert "disabled_at" not in output_json(run_command("client", "enable", "print", "--json"))
    assert browser.refresh(client, tokens["refresh_token"]).status == 200


def test_a_client_with_a_member_that_is_no_longer_valid_can_be_disabled(
    site: Site, run_command: RunCommand, stored: Callable[[str], Client]
) -> None:
    record = site.client(client_id="old").record
    site.server.store.clients.put(replace(record, redirect_uris=("http://old.example/",)))
    assert run_command("client", "update", "old", "--trusted").code == 2
    assert run_command("client", "disable", "old", "--yes").code == 0
    assert stored("old").disabled_at


def test_a_removed_client_cannot_be_disabled(site: Site) -> None:
    client = site.client().record
    site.server.store.clients.delete(client.client_id)
    with pytest.raises(InvalidClientMetadata, match="no longer exists"):
        set_client_disabled(site.server.store, client, disabled=True)


def test_delete_ends_the_grants_and_consents_of_a_client_only(
    site: Site, run_command: RunCommand, browser: Browser
) -> None:
    user, store = site.user(), site.server.store
    client, other = site.client(client_id="print"), site.client(client_id="other")
    tokens = browser.redeem(client, browser.code(client, "allow_always")).json
    kept = browser.redeem(other, browser.code(other, "allow_always")).json
    removed = output_json(run_command("client", "delete", "print", "--yes", "--json"))
    assert removed["client_id"] == "print"
    assert "hash" not in json.dumps(removed)
    assert store.clients.get("print") is None
    expire_client_cache(site)
    assert browser.refresh(client, tokens["refresh_token"]).status == 401
    # A client that is registered later with the same id gets none of its access.
    again, secret = register_client(
        store, client_name="Evil", client_id="print", redirect_uris=client.record.redirect_uris
    )
    site.secrets.add(secret or "")
    assert browser.refresh(Registered(again, secret), tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert browser.userinfo(tokens["access_token"]).status == 401
    assert [consent.client_id for consent in store.consents.find("sub", user.sub)] == ["other"]
    assert browser.authorize(other).code
    assert browser.refresh(other, kept["refresh_token"]).status == 200


def test_delete_makes_no_write_for_each_grant(site: Site, run_command: RunCommand, wire: Wire) -> None:
    client = site.client(client_id="print")
    for _ in range(50):
        insert_grant(site, client)
    with wire.counted() as calls:
        run_command("client", "delete", "print", "--yes")
    assert len(calls) <= 5
    assert "the client was deleted" in run_command("grant", "list", "--all").out


def test_delete_keeps_the_generation_of_a_consent_from_which_access_was_removed(
    site: Site, run_command: RunCommand, browser: Browser
) -> None:
    """A running function may have the client in its cache for a minute, and would accept the grant that had ended."""
    user, store = site.user(), site.server.store
    client = site.client(client_id="print")
    tokens = browser.redeem(client, browser.code(client, "allow_always")).json
    run_command("grant", "revoke", "--user", "alice", "--client", "print", "--yes")
    assert browser.redeem(client, browser.code(client, "allow_always")).status == 200
    assert browser.userinfo(tokens["access_token"]).status == 401
    run_command("client", "delete", "print", "--yes")
    assert browser.userinfo(tokens["access_token"]).status == 401
    (consent,) = store.consents.find("sub", user.sub)
    assert (consent.empty, consent.generation) == (True, 2)


def test_an_interrupted_removal_can_be_repeated(
    site: Site, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, store = site.user(), site.server.store
    site.client(client_id="print")
    store.consents.put(Consent(user.sub, "print", frozenset({"openid"}), 1))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("infra.operator.clients.delete_consents", interrupt)
        assert run_command("client", "delete", "print", "--yes").code == 1
    client = store.clients.get("print")
    assert client
    assert client.disabled_at, "it is disabled first"
    assert run_command("client", "delete", "print", "--yes").out == "Removed print.\n"
    assert list(store.consents.scan()) == []


# ---- history and log


def test_changes_of_a_client_are_in_its_history(site: Site, run_command: RunCommand) -> None:
    created = output_json(
        run_command("client", "create", "--id", "print", "--name", "Print", "--redirect-uri", URI, "--json")
    )
    site.secrets.add(created["client_secret"])
    run_command("client", "update", "print", "--trusted", "--access-token-lifetime", "300")
    run_command("client", "update", "print", "--trusted")  # no change
    secret = output_json(run_command("client", "rotate-secret", "print", "--json"))["client_secret"]
    site.secrets.add(secret)
    run_command("client", "rotate-secret", "print", "--finish", "--yes")
    run_command("client", "disable", "print", "--yes")
    run_command("client", "enable", "print")
    run_command("client", "delete", "print", "--yes")
    result = run_command("history", "--client", "print", "--json")
    events = output_json(result)
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
    assert secret not in result.out
    assert "updated: access_token_lifetime, trusted" in run_command("history", "--client", "print").out


def test_verbose_prints_the_log_event_with_the_name_of_the_operator(
    site: Site, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.client(client_id="print")
    monkeypatch.setenv("LOGNAME", "otto")
    assert run_command("client", "disable", "print", "--yes").err == ""
    for arguments in (
        ("--verbose", "client", "disable", "print", "--yes"),
        ("client", "disable", "print", "--yes", "--verbose"),
        ("--verbose", "client", "--verbose", "disable", "print", "--yes", "--verbose"),  # printed only once
    ):
        (line,) = run_command(*arguments).err.splitlines()
        event = json.loads(line)
        assert (event["event"], event["client_id"], event["detail"], event["by"]) == (
            *("client_changed", "print", "disabled"),
            "otto",
        )
    assert run_command("client", "disable", "print", "--yes").err == "", "it is for one command only"


def test_an_error_records_no_event(site: Site, run_command: RunCommand) -> None:
    site.client(client_id="print")
    run_command("client", "update", "print", "--access-token-lifetime", "1")
    assert list(site.server.store.events.scan()) == []
