"""`signet doctor` explains each deviation of a client from its profile of FAPI 2.0, and the fix that it names works.

The records are changed behind the back of the commands, which would refuse it.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chalicelib.protocol.fapi import MESSAGE_SIGNING, SECURITY, derived_members
from infra.operator.doctor import clients
from infra.operator.doctor.findings import Finding
from tests.operator.test_client_profiles import URI, bank
from tests.support.assertions import key_pair
from tests.support.operator import RunCommand
from tests.support.site import Site

RSA = {"keys": [key_pair("RS256").jwk | {"alg": "RS256"}]}
LOCALHOST = "http://localhost/callback"
BY_CERTIFICATE = {"token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_subject_dn": "CN=a"}
# What is changed, the profile, a part of the explanation, the clause, and the options of the fix.
DEVIATIONS: dict[str, tuple[dict[str, Any], str, str, str, str]] = {
    "public": (
        {"token_endpoint_auth_method": "none", "token_endpoint_auth_methods": ("none",)},
        SECURITY,
        "It is a public client",
        "5.3.2.1-3",
        "--auth-method private_key_jwt --jwks FILE",
    ),
    "the first method alone": (
        {"token_endpoint_auth_method": "none"},
        SECURITY,
        "It is a public client",
        "5.3.2.1-3",
        "--auth-method private_key_jwt --jwks FILE",
    ),
    "bearer tokens": (
        {"dpop_bound_access_tokens": None},
        SECURITY,
        "It gets bearer tokens",
        "5.3.2.1-4",
        "--dpop-bound-access-tokens",
    ),
    "a secret too": (
        {"token_endpoint_auth_methods": ("private_key_jwt", "client_secret_basic")},
        SECURITY,
        "It may authenticate by client_secret_basic",
        "5.3.2.1-6",
        "--auth-method private_key_jwt",
    ),
    "only secrets, of a record of version 1": (
        {"token_endpoint_auth_method": "client_secret_basic", "token_endpoint_auth_methods": ()},
        SECURITY,
        "It may authenticate by client_secret_basic, client_secret_post",
        "5.3.2.1-6",
        "--auth-method private_key_jwt",
    ),
    "a secret and no keys": (
        {
            "jwks": None,
            "token_endpoint_auth_method": "client_secret_post",
            "token_endpoint_auth_methods": ("client_secret_post",),
        },
        SECURITY,
        "It may authenticate by client_secret_post",
        "5.3.2.1-6",
        "--auth-method private_key_jwt --jwks FILE",
    ),
    "a secret beside a certificate": (
        {**BY_CERTIFICATE, "token_endpoint_auth_methods": ("tls_client_auth", "client_secret_post")},
        SECURITY,
        "It may authenticate by client_secret_post",
        "5.3.2.1-6",
        "--auth-method tls_client_auth",
    ),
    "the audience of assertions": (
        {"assertion_audience": "token_endpoint"},
        SECURITY,
        "another audience than the issuer",
        "5.3.2.1-8",
        "--assertion-audience issuer",
    ),
    "the lifetime of codes": (
        {"authorization_code_lifetime": 61},
        SECURITY,
        "valid for 61 seconds",
        "5.3.2.1-11",
        "--unset authorization-code-lifetime",
    ),
    "response types": (
        {"response_types": ("code", "code id_token")},
        SECURITY,
        "the response type code id_token",
        "5.3.2.2-1",
        "--response-type code",
    ),
    "requests by the browser": (
        {"require_pushed_authorization_requests": False},
        SECURITY,
        "by the browser",
        "5.3.2.2-3",
        "--require-pushed-authorization-requests --no-direct-sign-in",
    ),
    "direct sign-in": (
        {"direct_sign_in": True},
        SECURITY,
        "by HTTP Basic",
        "5.3.2.2-3",
        "--require-pushed-authorization-requests --no-direct-sign-in",
    ),
    "PKCE": ({"require_pkce": False}, SECURITY, "It may omit PKCE", "5.3.2.2-5", "--pkce"),
    "one redirect URI": (
        {"redirect_uris": (URI, LOCALHOST)},
        SECURITY,
        f"unencrypted to {LOCALHOST}",
        "5.3.2.2-8",
        f"--remove-redirect-uri {LOCALHOST}",
    ),
    "all redirect URIs": (
        {"redirect_uris": (LOCALHOST,)},
        SECURITY,
        f"unencrypted to {LOCALHOST}",
        "5.3.2.2-8",
        f"--add-redirect-uri HTTPS_URI --remove-redirect-uri {LOCALHOST}",
    ),
    **{
        f"{name} {alg}": (
            {name: alg},
            SECURITY,
            f"Its {name} is {alg or 'the default, RS256'}",
            "5.4.1-1",
            f"--{name.replace('_', '-')} ES256",
        )
        for name, algorithms in {
            "id_token_signed_response_alg": ("RS256",),
            "access_token_signed_response_alg": ("RS256",),
            "userinfo_signed_response_alg": ("RS256",),
            "authorization_signed_response_alg": ("RS256", None),
            "introspection_signed_response_alg": ("RS256", None),
        }.items()
        for alg in algorithms
    },
    "the algorithm of signed requests": (
        {"request_object_signing_alg": "RS256"},
        SECURITY,
        "Its request_object_signing_alg is RS256",
        "5.4.1-1",
        "--unset request-object-signing-alg",
    ),
    "keys": ({"jwks": RSA}, SECURITY, "Its keys are for RS256 only", "5.4.1-1", "--jwks FILE"),
    "unsigned requests": (
        {"require_signed_request_object": None},
        MESSAGE_SIGNING,
        "it has not signed",
        "FAPI 2.0 Message Signing 5.3.1-1",
        "--require-signed-request-object",
    ),
}


def findings_of(site: Site, client_id: str) -> list[Finding]:
    return [finding for finding in clients.inspect(site.server.store) if finding.name == f"client {client_id}"]


@pytest.mark.parametrize("case", DEVIATIONS)
def test_doctor_explains_a_change_behind_its_back_with_the_clause_and_a_fix_that_works(
    site: Site, run_command: RunCommand, tmp_path: Path, case: str
) -> None:
    changes, profile, problem, clause, fix = DEVIATIONS[case]
    signed = {"require_signed_request_object": True} if profile == MESSAGE_SIGNING else {}
    client = bank(profile=profile, **signed)
    site.server.store.clients.put(client)
    assert [finding for finding in findings_of(site, "bank") if "FAPI" in finding.detail] == []
    site.server.store.clients.put(replace(client, **changes))
    (finding,) = [finding for finding in findings_of(site, "bank") if "FAPI" in finding.detail]
    document = clause if clause.startswith("FAPI") else f"FAPI 2.0 Security Profile {clause}"
    assert finding.ok is False
    assert problem in finding.detail
    assert finding.detail.endswith(f", which {profile} does not allow ({document}).")
    assert finding.fix == f"Run `signet client update bank {fix}`."
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(key_pair().jwks), "utf-8")
    words = {"FILE": str(file), "HTTPS_URI": URI}
    result = run_command("client", "update", "bank", *(words.get(word, word) for word in fix.split(" ")))
    assert result.code == 0, result.err
    assert findings_of(site, "bank") == []


def test_every_member_that_follows_from_a_profile_is_changed_in_the_table() -> None:
    changed = {name for changes, *_ in DEVIATIONS.values() for name in changes}
    derived: set[str] = set()
    for profile in (SECURITY, MESSAGE_SIGNING):
        worst = bank(profile=profile, authorization_code_lifetime=300, dpop_bound_access_tokens=None)
        algorithms: dict[str, Any] = {name: "RS256" for name in changed if name.endswith("_signed_response_alg")}
        worst = replace(worst, **algorithms)
        derived |= derived_members(worst, ()).keys()
    assert derived <= changed
    assert len(derived) > 12


def test_several_algorithms_are_one_finding_that_names_all(site: Site) -> None:
    names = ("id_token_signed_response_alg", "access_token_signed_response_alg")
    site.server.store.clients.put(bank(**dict.fromkeys(names, "RS256")))
    (finding,) = findings_of(site, "bank")
    assert "Its id_token_signed_response_alg is RS256, its access_token_signed_response_alg is RS256" in finding.detail
    assert finding.fix.count("ES256") == 2


def test_doctor_reports_a_profile_that_does_not_exist(site: Site, run_command: RunCommand) -> None:
    site.server.store.clients.put(bank(profile="fapi1"))
    (finding,) = findings_of(site, "bank")
    assert finding.detail == "Its profile 'fapi1' is none of: fapi2, fapi2-message-signing."
    assert finding.fix == "Run `signet client update bank --profile fapi2`."
    assert not [finding for finding in clients.inspect(site.server.store) if finding.name == "FAPI 2.0"]
    assert run_command("client", "update", "bank", "--profile", "fapi2").code == 0
    assert findings_of(site, "bank") == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"require_acr": "two words"}, "The require_acr must have"),
        ({"tls_client_auth_san_ip": "localhost"}, "an IP address"),
        ({"authorization_details_types": ("two words",)}, "without spaces"),
    ],
    ids=str,
)
def test_doctor_makes_the_checks_of_a_registration(site: Site, changes: dict[str, Any], problem: str) -> None:
    site.server.store.clients.put(bank(**changes))
    details = [finding.detail for finding in findings_of(site, "bank")]
    assert any("Its registration is no longer valid" in detail and problem in detail for detail in details), details
