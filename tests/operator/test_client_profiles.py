"""`client create|update --profile`: what follows from FAPI 2.0 is set, and what contradicts it is refused by clause."""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidClientMetadata
from chalicelib.protocol.fapi import MESSAGE_SIGNING, PROFILES, SECURITY, check_profile, find_deviations
from infra.operator.doctor import check, profiles
from tests.support.assertions import KeyPair, key_pair
from tests.support.operator import RunCommand, output_json
from tests.support.site import Site

URI = "https://bank.example.com/callback"
NAMES = {field.name for field in fields(Client)}
needs_request_objects = pytest.mark.skipif(
    "require_signed_request_object" not in NAMES, reason="There are no signed authorization requests."
)
needs_certificates = pytest.mark.skipif(
    "tls_client_certificate_bound_access_tokens" not in NAMES, reason="There is no mutual TLS."
)


@pytest.fixture
def jwks(tmp_path: Path) -> Callable[[KeyPair], str]:
    """A function that writes the public key of a client to a file, and returns its name."""

    def write(pair: KeyPair) -> str:
        path = tmp_path / f"{pair.alg}.json"
        path.write_text(json.dumps(pair.jwks), "utf-8")
        return str(path)

    return write


@pytest.fixture
def keys(jwks: Callable[[KeyPair], str]) -> tuple[str, str]:
    return "--jwks", jwks(key_pair())


def stored(site: Site, client_id: str) -> Client:
    client = site.server.store.clients.get(client_id)
    assert client
    return client


def bank(**members: Any) -> Client:
    """Return a record that meets the Security Profile, with changes."""
    given: dict[str, Any] = {
        "client_id": "bank",
        "client_name": "Bank",
        "redirect_uris": (URI,),
        "token_endpoint_auth_method": "private_key_jwt",
        "token_endpoint_auth_methods": ("private_key_jwt",),
        "jwks": key_pair().jwks,
        "require_pushed_authorization_requests": True,
        "dpop_bound_access_tokens": True,
        "profile": SECURITY,
        **{f"{kind}_signed_response_alg": "ES256" for kind in ("id_token", "access_token", "authorization")},
    }
    given |= {name: "ES256" for name in ("introspection_signed_response_alg",) if name in NAMES}
    return Client(**(given | members))


def test_profile_of_a_new_client_sets_all_that_follows_from_it(
    site: Site, run_command: RunCommand, keys: tuple[str, str]
) -> None:
    arguments = ("--id", "bank", "--name", "Bank", "--redirect-uri", URI, "--profile", "fapi2", *keys)
    created = output_json(run_command("client", "create", *arguments, "--json"))
    assert "client_secret" not in created
    client = stored(site, "bank")
    assert find_deviations(client, SECURITY) == []
    assert (client.auth_methods, client.secret_hashes, client.response_types) == (("private_key_jwt",), (), ("code",))
    assert client.require_pushed_authorization_requests
    assert client.dpop_bound_access_tokens
    algorithms = {
        getattr(client, f"{kind}_signed_response_alg") for kind in ("id_token", "access_token", "authorization")
    }
    assert (algorithms, client.userinfo_signed_response_alg) == ({"ES256"}, None)
    assert created["profile"] == "fapi2"


def test_profile_changes_an_existing_client_and_keeps_what_it_allows(
    site: Site, run_command: RunCommand, keys: tuple[str, str]
) -> None:
    site.client(
        client_id="bank",
        redirect_uris=[URI],
        scope="openid email",
        require_pkce=False,
        response_types=("code", "code id_token"),
        direct_sign_in=True,
        assertion_audience="token_endpoint",
        authorization_code_lifetime=120,
        access_token_lifetime=120,
        id_token_signed_response_alg="PS256",
        userinfo_signed_response_alg="RS256",
    )
    result = run_command("client", "update", "bank", "--profile", "fapi2", *keys)
    assert result.code == 0, result.err
    client = stored(site, "bank")
    assert find_deviations(client, SECURITY) == []
    assert (client.auth_methods, client.secret_hashes, client.response_types) == (("private_key_jwt",), (), ("code",))
    assert (client.require_pkce, client.direct_sign_in, client.assertion_audience) == (True, False, "issuer")
    assert (client.authorization_code_lifetime, client.access_token_lifetime) == (None, 120)
    assert (client.id_token_signed_response_alg, client.userinfo_signed_response_alg) == ("PS256", "ES256")
    assert client.scope == "openid email"


# What contradicts the profile: options, the clause.
REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "a secret": (("--auth-method", "client_secret_basic"), "5.3.2.1-6"),
    "a secret too": (("--auth-method", "private_key_jwt", "--auth-method", "client_secret_post"), "5.3.2.1-6"),
    "a public client": (("--public",), "5.3.2.1-3"),
    "bearer tokens": (("--no-dpop-bound-access-tokens",), "5.3.2.1-4"),
    "another audience": (("--assertion-audience", "token_endpoint"), "5.3.2.1-8"),
    "a long-lived code": (("--authorization-code-lifetime", "61"), "5.3.2.1-11"),
    "code id_token": (("--response-type", "code id_token"), "5.3.2.2-1"),
    "code id_token too": (("--response-type", "code", "--response-type", "code id_token"), "5.3.2.2-1"),
    "requests by the browser": (("--no-require-pushed-authorization-requests",), "5.3.2.2-3"),
    "direct sign-in": (("--direct-sign-in",), "5.3.2.2-3"),
    "no PKCE": (("--no-pkce",), "5.3.2.2-5"),
    "http": (("--redirect-uri", "http://localhost/callback"), "5.3.2.2-8"),
    "ID tokens with RS256": (("--id-token-signed-response-alg", "RS256"), "5.4.1-1"),
    "access tokens with RS256": (("--access-token-signed-response-alg", "RS256"), "5.4.1-1"),
    "UserInfo with RS256": (("--userinfo-signed-response-alg", "RS256"), "5.4.1-1"),
    "responses with RS256": (("--authorization-signed-response-alg", "RS256"), "5.4.1-1"),
}


@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.1 c", "FAPI 2.0 Security Profile §5.3.2.1 f")
@pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.2 h")
@pytest.mark.parametrize("case", REFUSED)
def test_option_that_contradicts_the_profile_is_refused_with_the_clause(
    site: Site, run_command: RunCommand, keys: tuple[str, str], case: str
) -> None:
    options, clause = REFUSED[case]
    uri = () if "--redirect-uri" in options else ("--redirect-uri", URI)
    create = ("client", "create", "--id", "bank", "--name", "Bank", "--profile", "fapi2", *keys)
    result = run_command(*create, *uri, *options)
    assert (result.code, f"FAPI 2.0 Security Profile {clause})" in result.err) == (2, True), result.err
    assert site.server.store.clients.get("bank") is None
    assert run_command(*create, "--redirect-uri", URI).code == 0
    before = stored(site, "bank")
    result = run_command("client", "update", "bank", *options)
    assert (result.code, f"FAPI 2.0 Security Profile {clause})" in result.err) == (2, True), result.err
    assert stored(site, "bank") == before


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1/callback", "http://[::1]:8080/callback", "https://a.example/", "com.example:/cb"]
)
def test_redirect_uri_that_the_profile_allows_is_accepted(
    site: Site, run_command: RunCommand, keys: tuple[str, str], uri: str
) -> None:
    create = ("client", "create", "--id", "bank", "--name", "Bank", "--profile", "fapi2", *keys)
    result = run_command(*create, "--redirect-uri", uri)
    assert result.code == 0, result.err


def test_keys_for_rs256_alone_are_refused(run_command: RunCommand, jwks: Callable[[KeyPair], str]) -> None:
    pair = key_pair("RS256")
    for jwk, code in (({**pair.jwk, "alg": "RS256"}, 2), ({**pair.jwk, "alg": "PS256"}, 0)):
        path = Path(jwks(pair))
        path.write_text(json.dumps({"keys": [jwk]}), "utf-8")
        create = ("client", "create", "--name", "Bank", "--profile", "fapi2", "--redirect-uri", URI)
        result = run_command(*create, "--jwks", str(path))
        assert (result.code, "5.4.1-1" in result.err) == (code, code == 2), result.err


def test_profile_needs_keys(run_command: RunCommand) -> None:
    result = run_command("client", "create", "--name", "Bank", "--profile", "fapi2", "--redirect-uri", URI)
    assert (result.code, "needs public keys" in result.err) == (2, True)


def test_profile_of_a_client_without_users_needs_no_redirect_uri(
    site: Site, run_command: RunCommand, keys: tuple[str, str]
) -> None:
    job = ("--grant-type", "client_credentials", "--scope", "photos.read")
    result = run_command("client", "create", "--id", "bank", "--name", "Bank", "--profile", "fapi2", *job, *keys)
    assert result.code == 0, result.err
    assert stored(site, "bank").response_types == ()


def test_profile_is_removed_and_what_followed_from_it_stays(
    site: Site, run_command: RunCommand, keys: tuple[str, str]
) -> None:
    create = ("client", "create", "--id", "bank", "--name", "Bank", "--profile", "fapi2", *keys)
    assert run_command(*create, "--redirect-uri", URI).code == 0
    assert run_command("client", "update", "bank", "--unset", "profile").code == 0
    client = stored(site, "bank")
    assert (client.profile, client.require_pushed_authorization_requests) == (None, True)
    assert run_command("client", "update", "bank", "--no-dpop-bound-access-tokens").code == 0


@needs_request_objects
def test_message_signing_requires_signed_requests(site: Site, run_command: RunCommand, keys: tuple[str, str]) -> None:
    create = ("client", "create", "--id", "bank", "--name", "Bank", "--profile", MESSAGE_SIGNING, *keys)
    result = run_command(*create, "--redirect-uri", URI)
    assert result.code == 0, result.err
    assert getattr(stored(site, "bank"), "require_signed_request_object") is True  # noqa: B009  not everywhere
    result = run_command("client", "update", "bank", "--no-require-signed-request-object")
    assert (result.code, "FAPI 2.0 Message Signing 5.3.1-1)" in result.err) == (2, True), result.err


def test_message_signing_demands_more_than_the_security_profile() -> None:
    client = bank(profile=MESSAGE_SIGNING)
    clauses = [deviation.clause for deviation in find_deviations(client, MESSAGE_SIGNING)]
    assert clauses == ["FAPI 2.0 Message Signing 5.3.1-1"]
    with pytest.raises(InvalidClientMetadata, match="has not signed, which fapi2-message-signing does not allow"):
        check_profile(client)
    check_profile(replace(client, profile=SECURITY))


@needs_certificates
def test_certificates_bind_tokens_instead_of_a_key() -> None:
    members = {"tls_client_certificate_bound_access_tokens": True, "dpop_bound_access_tokens": None}
    check_profile(bank(**members))


def test_unknown_profile_is_refused() -> None:
    with pytest.raises(InvalidClientMetadata, match="fapi2, fapi2-message-signing"):
        check_profile(bank(profile="fapi1"))
    check_profile(bank(profile=None, require_pkce=False))


def test_import_refuses_a_client_that_contradicts_its_profile(
    site: Site, run_command: RunCommand, tmp_path: Path
) -> None:
    site.server.store.clients.put(bank())
    site.server.store.clients.put(bank(client_id="other", require_pkce=False))
    path = tmp_path / "export.jsonl"
    assert run_command("export", "--out", str(path)).code == 0
    for name in ("bank", "other"):
        site.server.store.clients.delete(name)
    result = run_command("import", str(path))
    assert "5.3.2.2-5" in result.out + result.err
    assert stored(site, "bank").profile == "fapi2"
    assert site.server.store.clients.get("other") is None


# ---- what is missing


def test_show_lists_what_any_client_lacks_with_clause_and_option(site: Site, run_command: RunCommand) -> None:
    site.client(client_id="print", redirect_uris=["http://localhost/cb"], require_pkce=False)
    shown = output_json(run_command("client", "show", "print", "--profile", "fapi2", "--json"))
    missing = shown["missing_for_profile"]
    assert "It may omit PKCE (FAPI 2.0 Security Profile 5.3.2.2-5): --pkce" in missing
    clauses = [text.partition("Profile ")[2].partition(")")[0] for text in missing]
    assert clauses == ["5.3.2.1-4", "5.3.2.1-6", "5.3.2.2-3", "5.3.2.2-5", "5.3.2.2-8", "5.4.1-1"]
    assert "missing_for_profile" not in output_json(run_command("client", "show", "print", "--json"))
    site.server.store.clients.put(bank())
    result = run_command("client", "show", "bank", "--profile", "fapi2")
    assert "Its registration meets fapi2." in result.out
    result = run_command("client", "show", "bank", "--profile", MESSAGE_SIGNING)
    assert ("5.3.1-1" in result.out, "meets" in result.out) == (True, False)


def test_doctor_explains_each_deviation_of_a_client_from_its_profile(site: Site) -> None:
    store = site.server.store
    store.clients.put(bank())
    (finding,) = [finding for finding in check(None, store) if finding.name == "FAPI 2.0"]
    assert (finding.ok, "1 client" in finding.detail) == (True, True)
    store.clients.put(bank(client_id="other", require_pkce=False, dpop_bound_access_tokens=None))
    findings = [finding for finding in check(None, store) if "FAPI 2.0" in finding.name + finding.detail]
    assert [(finding.name, finding.ok) for finding in findings] == [("client other", False)] * 2
    assert "5.3.2.1-4" in findings[0].detail
    assert findings[1].fix == "Run `signet client update other --pkce`."
    assert list(profiles.inspect([bank(disabled_at=1, require_pkce=False)])) == []


@pytest.mark.parametrize("profile", PROFILES)
def test_every_deviation_has_a_clause_and_an_option(profile: str) -> None:
    worst = Client(
        client_id="x",
        client_name="X",
        redirect_uris=("http://a.example/",),
        token_endpoint_auth_methods=("client_secret_post", "none"),
        response_types=("code id_token",),
        assertion_audience="token_endpoint",
        authorization_code_lifetime=300,
        require_pkce=False,
    )
    deviations = find_deviations(worst, profile)
    assert len(deviations) == (11 if profile == MESSAGE_SIGNING else 10)
    assert all(deviation.clause.startswith("FAPI 2.0 ") and deviation.fix.startswith("--") for deviation in deviations)
