"""Wrong combinations of the options of `client create` and `client update`: the message names the option to change."""

import json
from pathlib import Path

import pytest

from chalicelib.clients.registration import register_client
from tests.support.assertions import key_pair
from tests.support.client_certificates import self_signed
from tests.support.operator import RunCommand
from tests.support.site import Site, dump_tables

URI = "https://app.example.com/cb"
FAPI = ("--profile", "fapi2", "--jwks", "KEYS")
SIGNING = ("--profile", "fapi2-message-signing", "--jwks", "KEYS")
DN = ("--tls-client-auth-subject-dn", "CN=client,O=Example,C=US")
BOUND_TWICE = ("--dpop-bound-access-tokens", "--tls-client-certificate-bound-access-tokens")
TYPE = "--authorization-details-type"
# Options of a new client with a redirect URI, what its refusal says, and the options that it names.
CREATE: list[tuple[tuple[str, ...], str, tuple[str, ...]]] = [
    # a profile
    (("--profile", "fapi2"), "needs public keys", ("--jwks", "--jwks-uri", "--auth-method")),
    ((*FAPI, "--public"), "It is a public client", ("--auth-method private_key_jwt --jwks FILE",)),
    ((*FAPI, "--auth-method", "client_secret_basic"), "client_secret_basic", ("--auth-method private_key_jwt.",)),
    ((*FAPI, "--no-pkce"), "It may omit PKCE", ("--pkce.",)),
    ((*FAPI, "--no-dpop-bound-access-tokens"), "It gets bearer tokens", ("--dpop-bound-access-tokens.",)),
    ((*FAPI, *BOUND_TWICE), "Access tokens are bound", BOUND_TWICE),
    ((*FAPI, "--assertion-audience", "token_endpoint"), "another audience", ("--assertion-audience issuer.",)),
    ((*FAPI, "--response-type", "code id_token"), "response type code id_token", ("--response-type code.",)),
    ((*FAPI, "--authorization-code-lifetime", "61"), "61 seconds", ("leave out --authorization-code-lifetime.",)),
    ((*FAPI, "--id-token-signed-response-alg", "RS256"), "RS256", ("--id-token-signed-response-alg ES256.",)),
    ((*FAPI, "--userinfo-signed-response-alg", "RS256"), "RS256", ("--userinfo-signed-response-alg ES256.",)),
    ((*FAPI, "--request-object-signing-alg", "RS256"), "RS256", ("leave out --request-object-signing-alg.",)),
    (
        (*FAPI, "--redirect-uri", "http://localhost/cb"),
        "unencrypted",
        ("leave out --redirect-uri http://localhost/cb.",),
    ),
    ((*FAPI, "--no-require-pushed-authorization-requests"), "browser", ("--require-pushed-authorization-requests ",)),
    (("--profile", "fapi2", "--jwks", "RSA"), "Its keys are for RS256 only", ("--jwks FILE.",)),
    ((*SIGNING, "--no-require-signed-request-object"), "has not signed", ("--require-signed-request-object.",)),
    (("--profile", "fapi1"), "'fapi1' is not one of 'fapi2'", ("--profile",)),
    # certificates
    ((*DN, "--tls-client-auth-san-dns", "a.example"), "one name", (DN[0], "--tls-client-auth-san-dns")),
    (("--tls-client-auth-subject-dn", "client"), "a distinguished name such as CN=", (DN[0],)),
    (("--tls-client-auth-san-dns", "*.example.com"), "a DNS name such as", ("--tls-client-auth-san-dns",)),
    (("--tls-client-auth-san-uri", "client"), "must be a URI", ("--tls-client-auth-san-uri",)),
    (("--tls-client-auth-san-ip", "a.example"), "must be an IP address", ("--tls-client-auth-san-ip",)),
    (("--tls-client-auth-san-email", "client"), "must be an email address", ("--tls-client-auth-san-email",)),
    (("--auth-method", "tls_client_auth"), "needs one of", ("--auth-method", DN[0], "--tls-client-auth-san-email")),
    (BOUND_TWICE, "choose one", BOUND_TWICE),
    # keys and request objects
    (("--auth-method", "private_key_jwt"), "needs public keys", ("--jwks", "--jwks-uri")),
    (("--jwks", "KEYS", "--jwks-uri", "https://a.example/"), "Register either", ("--jwks", "--jwks-uri")),
    (("--jwks-uri", "http://a.example/"), "must be https", ("--jwks-uri",)),
    (("--jwks", "PRIVATE"), "a private or symmetric key", ("'--jwks'",)),
    (("--jwks", "TEXT"), "it is not JSON. Give a file with a JWK Set.", ("'--jwks'",)),
    (("--jwks", "NOWHERE"), "does not exist", ("'--jwks'",)),
    (("--require-signed-request-object",), "register public keys", ("--require-signed-request-object", "--jwks")),
    (("--request-object-signing-alg", "HS256"), "'HS256' is not one of", ("--request-object-signing-alg",)),
    # authorization details types
    ((TYPE, "two words"), "without spaces", (TYPE,)),
    ((TYPE, ""), "1 to 128 ASCII characters", (TYPE,)),
    ((TYPE, "payment,album"), "is more than one value. Repeat the option", (TYPE,)),
    ((TYPE, "payment", TYPE, "payment"), "is named twice", (TYPE,)),
    (tuple(part for number in range(21) for part in (TYPE, f"t{number}")), "at most 20", (TYPE,)),
    # others
    (("--public", "--no-pkce"), "must use PKCE", ("--pkce",)),
    (("--public", "--direct-sign-in"), "Direct sign-in", ("--direct-sign-in",)),
    (("--public", "--auth-method", "private_key_jwt"), "A public client", ("--auth-method none",)),
    (("--auth-method", "none", "--auth-method", "private_key_jwt"), "no other one", ("--auth-method",)),
    (("--grant-type", "refresh_token"), "needs authorization_code", ("--grant-type",)),
    (("--grant-type", "client_credentials"), "needs a scope of your own", ("--grant-type", "--scope")),
    (("--default-redirect-uri", "https://b.example/"), "one of the redirect URIs", ("--default-redirect-uri",)),
    (("--redirect-uri", "http://a.example/"), "http://a.example/ must be https", ("--redirect-uri",)),
    (("--subject-type", "pairwise", "--redirect-uri", "https://b.example/"), "one host", ("--subject-type",)),
    (("--allowed-origin", "https://a.example/"), "must be an origin", ("--allowed-origin",)),
    (("--require-acr", "two words"), "without spaces", ("--require-acr",)),
    (("--default-acr-value", "two words"), "without spaces", ("--default-acr-value",)),
    (("--scope", "openid", "--default-scope", "email"), "contain the default scope", ("--default-scope",)),
    (("--access-token-lifetime", "1"), "60 to 86400 seconds", ("--access-token-lifetime",)),
    (("--id", "two words"), "The client_id must have", ("--id",)),
    (("--id", "account"), "reserved for the server", ("--id",)),
]
# The same for a client with the profile fapi2 that exists.
UPDATE: list[tuple[tuple[str, ...], str, tuple[str, ...]]] = [
    (("--unset", "jwks"), "needs public keys", ("--jwks", "--jwks-uri")),
    (("--jwks-uri", "https://a.example/"), "Register either", ("--jwks-uri", "--unset")),
    (("--public",), "It is a public client", ("--auth-method private_key_jwt --jwks FILE",)),
    (("--auth-method", "client_secret_post"), "client_secret_post", ("--auth-method private_key_jwt.",)),
    (("--auth-method", "tls_client_auth"), "needs one of", (DN[0],)),
    (("--tls-client-certificate-bound-access-tokens",), "choose one", BOUND_TWICE),
    (("--authorization-code-lifetime", "61"), "61 seconds", ("--unset authorization-code-lifetime.",)),
    (("--request-object-signing-alg", "RS256"), "RS256", ("--unset request-object-signing-alg.",)),
    (
        ("--redirect-uri", "http://localhost/cb"),
        "unencrypted",
        ("--add-redirect-uri HTTPS_URI --remove-redirect-uri http://localhost/cb.",),
    ),
    (
        ("--add-redirect-uri", "http://localhost/cb"),
        "unencrypted to http://localhost/cb, which",
        (": --remove-redirect-uri http://localhost/cb.",),
    ),
    (("--unset", "profile", "--profile", "fapi2"), "both set and unset", ("--profile or --unset profile",)),
    (("--unset", "document"), "'document' is not one of", ("--unset",)),
    (("--add-authorization-details-type", "a b"), "without spaces", (TYPE,)),
    (("--add-authorization-details-type", "a,b"), "more than one value", ("--add-authorization-details-type",)),
    (("--remove-authorization-details-type", "a"), "a is not an authorization details type of bank", ()),
    (("--profile", "fapi2-message-signing", "--no-require-signed-request-object"), "signed", ("--require-signed",)),
]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The files of the table by their names."""
    contents = {
        "KEYS": json.dumps(key_pair().jwks),
        "PRIVATE": json.dumps({"keys": [key_pair().private_jwk]}),
        "RSA": json.dumps({"keys": [key_pair("RS256").jwk | {"alg": "RS256"}]}),
        "TEXT": "-----BEGIN PUBLIC KEY-----",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content, "utf-8")
    return {name: str(tmp_path / name) for name in (*contents, "NOWHERE")}


def is_one_line_with(text: str, message: str, named: tuple[str, ...]) -> bool:
    return len(text.splitlines()) == 1 and message in text and all(option in text for option in named)


@pytest.mark.parametrize(("options", "message", "named"), CREATE, ids=[" ".join(row[0])[:60] for row in CREATE])
def test_refusal_of_a_new_client_names_the_option(
    site: Site,
    run_command: RunCommand,
    files: dict[str, str],
    options: tuple[str, ...],
    message: str,
    named: tuple[str, ...],
) -> None:
    before = dump_tables()
    given = [files.get(option, option) for option in options]
    result = run_command("client", "create", "--name", "Bank", "--redirect-uri", URI, *given)
    assert result.code == 2
    assert is_one_line_with(result.err, message, named), result.err
    assert dump_tables() == before


@pytest.mark.parametrize(("options", "message", "named"), UPDATE, ids=[" ".join(row[0])[:60] for row in UPDATE])
def test_refusal_of_a_change_names_the_option_of_client_update(
    site: Site,
    run_command: RunCommand,
    files: dict[str, str],
    options: tuple[str, ...],
    message: str,
    named: tuple[str, ...],
) -> None:
    create = ("client", "create", "--id", "bank", "--name", "Bank", "--redirect-uri", URI)
    assert run_command(*create, "--profile", "fapi2", "--jwks", files["KEYS"]).code == 0
    before = dump_tables()
    result = run_command("client", "update", "bank", *options)
    assert result.code == 2
    assert is_one_line_with(result.err, message, named), result.err
    assert dump_tables() == before


@pytest.mark.parametrize("command", ["create", "update"])
def test_client_with_its_own_certificates_is_told_how_to_add_one(
    site: Site, run_command: RunCommand, command: str
) -> None:
    options = ("--auth-method", "self_signed_tls_client_auth")
    if command == "create":
        result = run_command("client", "create", "--id", "bank", "--name", "Bank", "--redirect-uri", URI, *options)
    else:
        register_client(site.server.store, client_id="bank", client_name="Bank", redirect_uris=(URI,))
        result = run_command("client", "update", "bank", *options)
    assert "It has no certificate yet. Add one: signet client add-certificate bank FILE --stage test" in result.out
    assert "certificate" not in run_command("client", "update", "bank", "--name", "B", "--auth-method", "none").out


def test_certificate_for_a_client_with_another_method_is_refused_with_the_option(
    site: Site, run_command: RunCommand, tmp_path: Path
) -> None:
    register_client(site.server.store, client_id="bank", client_name="Bank", redirect_uris=(URI,))
    file = tmp_path / "client.pem"
    file.write_text(self_signed().pem)
    result = run_command("client", "add-certificate", "bank", file)
    assert result.code == 2
    assert is_one_line_with(result.err, "Certificates are for", ("Options of `client update`: --auth-method",)), (
        result.err
    )
