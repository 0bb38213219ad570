"""Signing keys in the ring and in KMS: tokens verify with the JWKS, and a failing KMS loses no code or grant."""

import base64
import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import joserfc.jwt
import jwt
import pytest
import yaml
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from joserfc.errors import BadSignatureError, SecurityWarning
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from chalicelib.aws.client import Client
from chalicelib.aws.messages import Request, Response
from chalicelib.keys import rotation, signing
from chalicelib.keys.envelope import Seal
from chalicelib.protocol.durations import HOUR
from chalicelib.protocol.errors import InvalidClientMetadata, TemporarilyUnavailable
from infra.schema import SCHEMA
from tests.support import faults
from tests.support.browser import Answer, Browser
from tests.support.faults import Fault, Wire
from tests.support.grants import create_code
from tests.support.site import STAGE, Registered, Site, dump_tables

IN_KMS: dict[str, Any] = {"signing": "kms", "sealing_key": None, "kms_key_id": f"alias/signet-{STAGE}"}


@pytest.fixture(scope="module")
def kms_keys(_moto: None) -> Iterator[None]:
    """Create the keys of infra/aws/tables.yaml with their aliases."""
    import boto3

    kms = boto3.client("kms", region_name="us-east-1")
    resources = yaml.safe_load(SCHEMA.read_text())["Resources"]
    aliases = []
    for resource in resources.values():
        if resource["Type"] == "AWS::KMS::Alias":
            key = resources[resource["Properties"]["TargetKeyId"]["Ref"]]["Properties"]
            shape = {name: key[name] for name in ("KeySpec", "KeyUsage") if name in key}
            aliases.append(resource["Properties"]["AliasName"]["Fn::Sub"].replace("${Stage}", STAGE))
            kms.create_alias(AliasName=aliases[-1], TargetKeyId=kms.create_key(**shape)["KeyMetadata"]["KeyId"])
    assert sorted(aliases) == [f"alias/signet-{STAGE}{suffix}" for suffix in ("", "-es256", "-rs256")]
    yield
    for alias in aliases:
        kms.delete_alias(AliasName=alias)


@pytest.fixture
def in_kms_without_ring(kms_keys: None, site_without_ring: Site, site_with: Callable[..., Site]) -> Site:
    """Return a server whose private keys never leave KMS and whose ring is not created yet."""
    return site_with(**IN_KMS)


@pytest.fixture
def in_kms(in_kms_without_ring: Site) -> Site:
    """Return a server whose private keys never leave KMS."""
    in_kms_without_ring.server.keys.create()
    return in_kms_without_ring


@pytest.fixture(params=["ring", "kms"])
def signing_site(request: pytest.FixtureRequest) -> Site:
    """Return a server with its private keys in the ring, or in KMS."""
    site: Site = request.getfixturevalue("site" if request.param == "ring" else "in_kms")
    return site


SIGNERS = [
    *(("ring", alg) for alg in signing.ALGORITHMS),
    *(("kms", alg) for alg in signing.KMS_ALGORITHMS),
]
signers = pytest.mark.parametrize(("signing_site", "alg"), SIGNERS, indirect=["signing_site"])

# ---- tokens verify with the published keys


def with_pyjwt(token: str, jwks: dict[str, Any], audience: str, issuer: str) -> dict[str, Any]:
    key = jwt.PyJWKSet.from_dict(jwks)[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(token, key, audience=audience, issuer=issuer)
    return claims


def with_joserfc(token: str, jwks: dict[str, Any], audience: str, issuer: str) -> dict[str, Any]:
    with warnings.catch_warnings():
        # RFC 9864 renames EdDSA with this curve; OpenID Connect still uses EdDSA.
        warnings.simplefilter("ignore", SecurityWarning)
        keys: Any = KeySet.import_key_set(jwks)  # type: ignore[arg-type]
        # Each key has its `alg`, so that a token cannot choose another.
        claims = joserfc.jwt.decode(token, keys, algorithms=list(signing.ALGORITHMS)).claims
    assert (claims["aud"], claims["iss"]) == (audience, issuer)
    return claims


Check = Callable[[str, dict[str, Any], str, str], dict[str, Any]]
CHECKS: dict[str, Check] = {"PyJWT": with_pyjwt, "joserfc": with_joserfc}
BAD_SIGNATURE = (BadSignatureError, jwt.InvalidSignatureError)


def header(token: str) -> dict[str, Any]:
    return jwt.get_unverified_header(token)


def flow(site: Site, browser: Browser, **client: Any) -> tuple[Registered, dict[str, Any]]:
    """Register a client, complete the flow, and return the client with its token response."""
    site.user()
    registered = site.client(**client)
    return registered, browser.tokens(registered, scope="openid offline_access", nonce="n-1")


@pytest.mark.spec("RFC 9068 §2.1 c", "RFC 9068 §2.1 d", "RFC 9068 §2.1 e", "RFC 9068 §2.1 f", "RFC 9068 §4 g")
@pytest.mark.spec("OpenID Connect Core §10.1 a", "OpenID Connect Core §10.1 b", "OpenID Connect Core §10.1 c")
@pytest.mark.spec("OpenID Connect Core §10.1 d", "OpenID Connect Core §15.1 a")
@pytest.mark.spec("RFC 7518 §3.1")
@pytest.mark.parametrize("library", CHECKS)
@signers
def test_tokens_verify_with_the_published_keys_alone(
    signing_site: Site, browsers: Callable[..., Browser], alg: str, library: str
) -> None:
    site, browser, check = signing_site, browsers(signing_site), CHECKS[library]
    client, tokens = flow(site, browser, id_token_signed_response_alg=alg)
    jwks, issuer = browser.get("/oauth2/jwks").json, site.settings.issuer
    refreshed = browser.refresh(client, tokens["refresh_token"]).json
    kids = {key["alg"]: key["kid"] for key in jwks["keys"]}
    for response in (tokens, refreshed):
        # The access token is verified by gateways' authorizers, which support only RS256.
        assert header(response["access_token"]) == {"alg": "RS256", "kid": kids["RS256"], "typ": "at+jwt"}
        assert header(response["id_token"]) == {"alg": alg, "kid": kids[alg], "typ": "JWT"}
        assert check(response["access_token"], jwks, issuer, issuer)["client_id"] == client.id
        assert check(response["id_token"], jwks, client.id, issuer)["sub"]
    assert check(tokens["id_token"], jwks, client.id, issuer)["nonce"] == "n-1"
    assert browser.userinfo(refreshed["access_token"]).status == 200
    assert browser.userinfo(refreshed["id_token"]).status == 401


@pytest.mark.parametrize("library", CHECKS)
@signers
def test_token_with_a_changed_signature_is_rejected(signing_site: Site, alg: str, library: str) -> None:
    keys, issuer = signing_site.server.keys, signing_site.settings.issuer
    claims = {"iss": issuer, "aud": issuer, "sub": "alice"}
    signed, _, signature = keys.sign(claims, "at+jwt", alg).rpartition(".")
    assert CHECKS[library](f"{signed}.{signature}", keys.jwks(), issuer, issuer) == claims
    raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
    # RFC 7518 section 3.4: two numbers side by side, not DER
    assert len(raw) == {"RS256": 256, "PS256": 256, "ES256": 64, "EdDSA": 64}[alg]
    raw[-1] ^= 1
    with pytest.raises(BAD_SIGNATURE):
        CHECKS[library](f"{signed}.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}", keys.jwks(), issuer, issuer)


def test_client_without_a_registered_algorithm_gets_rs256(signing_site: Site, browsers: Callable[..., Browser]) -> None:
    _, tokens = flow(signing_site, browsers(signing_site))
    assert header(tokens["id_token"])["alg"] == header(tokens["access_token"])["alg"] == "RS256"


@pytest.mark.spec("OpenID Connect Core §10.1 a", "OpenID Connect Discovery §3 t")
@pytest.mark.parametrize("alg", ["none", "HS256", "RS512", "es256", ""])
def test_unsupported_id_token_algorithm_cannot_be_registered(site: Site, alg: str) -> None:
    with pytest.raises(InvalidClientMetadata, match="id_token_signed_response_alg must be one of: RS256, "):
        site.client(id_token_signed_response_alg=alg)


@pytest.mark.spec("FAPI 2.0 Security Profile §5.4.2 c")
@pytest.mark.spec("RFC 7638 §3")
def test_kid_of_every_key_is_its_thumbprint(signing_site: Site, browsers: Callable[..., Browser]) -> None:
    keys = browsers(signing_site).get("/oauth2/jwks").json["keys"]
    assert tuple(key["alg"] for key in keys) == signing_site.server.keys.algorithms
    members = {"RSA": {"n", "e"}, "EC": {"crv", "x", "y"}, "OKP": {"crv", "x"}}
    libraries: dict[str, Any] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
    for key in keys:
        assert set(key) == {"kty", "kid", "alg", "use"} | members[key["kty"]]
        assert libraries[key["kty"]].import_key(key).thumbprint() == key["kid"]
    assert len({key["kid"] for key in keys}) == len(keys)  # RFC 8725 section 3.1: no key serves two algorithms


# ---- where the private keys are


def unsealed(site: Site) -> str:
    """Return the decrypted ring."""
    record = site.server.store.keys.get("main")
    assert record
    return Seal(site.settings).unseal(record.sealed, record.version).decode()


def test_no_private_key_is_stored_when_kms_signs(in_kms: Site, browsers: Callable[..., Browser]) -> None:
    flow(in_kms, browsers(in_kms))
    ring = unsealed(in_kms)
    for text in (ring, dump_tables()):
        assert "PRIVATE" not in text
    for key in json.loads(ring)["signing"]:
        assert set(key) == {"kid", "alg", "kms_key_id", "public", "created_at"}
        # It is a public key.
        serialization.load_der_public_key(base64.b64decode(key["public"]))
        assert key["kms_key_id"] != f"alias/signet-{STAGE}-{key['alg'].lower()}"


def test_private_keys_are_stored_encrypted_in_the_ring(site: Site) -> None:
    site.server.keys.jwks()
    keys = json.loads(unsealed(site))["signing"]
    assert [key["alg"] for key in keys] == list(signing.ALGORITHMS)
    assert all(set(key) == {"kid", "alg", "private", "created_at"} for key in keys)
    assert "PRIVATE" not in dump_tables()


def test_signing_setting_applies_when_the_ring_is_created(
    kms_keys: None, site_without_ring: Site, site_with: Callable[..., Site]
) -> None:
    before = site_with(**IN_KMS | {"signing": "ring"})
    before.server.keys.create()
    published = before.server.keys.jwks()
    after = site_with(**IN_KMS)
    token = after.server.keys.sign({"sub": "alice"}, "at+jwt")
    assert after.server.keys.jwks() == published
    assert header(token)["kid"] == published["keys"][0]["kid"]


# ---- calls of KMS


@dataclass
class Kms:
    """Records the calls that a server's KMS client, whose retries are real, sends to moto, and injects faults.

    `plan`: the operation to fail, how many calls of it succeed first, and the fault.
    """

    site: Site
    calls: list[str] = field(default_factory=list)
    parameters: list[dict[str, Any]] = field(default_factory=list)
    plan: tuple[str, int, Fault] | None = None

    def __post_init__(self) -> None:
        self._client = self.site.server.keys._stored.seal.kms
        self._client.transport = self.handle  # type: ignore[method-assign]

    def handle(self, request: Request) -> Response:
        operation = request.headers["X-Amz-Target"].removeprefix("TrentService.")
        if request.attempt == 1:
            self.calls.append(operation)
            self.parameters.append(faults.parameters_of(request))
        if self.plan is None or operation != self.plan[0] or self.calls.count(operation) <= self.plan[1]:
            return Client.transport(self._client, request)
        return self.plan[2](request, lambda: pytest.fail("a fault of KMS must not execute the call"))

    def fail(self, operation: str, fault: Fault, skip: int = 0) -> None:
        self.calls.clear()
        self.plan = (operation, skip, fault)

    def recover(self) -> None:
        self.calls.clear()
        self.plan = None


def redeem(site: Site, browser: Browser, scope: frozenset[str] = frozenset({"openid"})) -> Answer:
    client = site.client(id_token_signed_response_alg="ES256", scope=" ".join(sorted(scope)))
    return browser.redeem(client, create_code(site, client, scope=scope))


def test_cold_start_and_each_token_call_kms_once(
    in_kms_without_ring: Site, browsers: Callable[..., Browser], site_with: Callable[..., Site]
) -> None:
    kms = Kms(in_kms_without_ring)
    in_kms_without_ring.server.keys.create()
    assert kms.calls == ["GetPublicKey", "GetPublicKey", "GenerateDataKey"]
    another = site_with(**IN_KMS)
    kms, browser = Kms(another), browsers(another)
    browser.get("/oauth2/jwks")
    browser.authorize(another.client())
    assert kms.calls == ["Decrypt"]
    assert kms.parameters[0]["EncryptionContext"] == {"signet-stage": STAGE}
    assert redeem(another, browser).status == 200
    assert kms.calls == ["Decrypt", "Sign", "Sign"]
    algorithms = ["RSASSA_PKCS1_V1_5_SHA_256", "ECDSA_SHA_256"]
    assert [call["SigningAlgorithm"] for call in kms.parameters[1:]] == algorithms
    tokens = redeem(another, browser, scope=frozenset({"email"})).json  # no ID token
    assert another.server.keys.verify(tokens["access_token"], "at+jwt", another.settings.issuer)["scope"] == "email"
    assert kms.calls == ["Decrypt", "Sign", "Sign", "Sign"]  # verification does not call KMS
    another.clock.advance(60)
    browser.get("/oauth2/jwks")
    assert kms.calls[4:] == []  # the ring in the table is unchanged
    rotation.reseal(in_kms_without_ring.server.keys)
    another.clock.advance(60)
    browser.get("/oauth2/jwks")
    assert kms.calls[4:] == ["Decrypt"]


def test_known_ring_is_used_for_an_hour_when_kms_does_not_decrypt_the_changed_one(
    in_kms: Site, browsers: Callable[..., Browser], site_with: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    site = site_with(**IN_KMS)
    kms, browser = Kms(site), browsers(site)
    published = browser.get("/oauth2/jwks").json
    rotation.reseal(in_kms.server.keys)
    kms.fail("Decrypt", faults.unreachable)
    site.clock.advance(60)
    assert browser.get("/oauth2/jwks").json == published
    assert "The key ring cannot be read (kms Decrypt: " in caplog.text
    site.clock.advance(HOUR - 60)
    assert browser.get("/oauth2/jwks").status == 503
    kms.recover()
    assert browser.get("/oauth2/jwks").json == published


def test_kms_only_decrypts_when_the_ring_has_the_private_keys(
    kms_keys: None, site_without_ring: Site, site_with: Callable[..., Site], browsers: Callable[..., Browser]
) -> None:
    site_with(**IN_KMS | {"signing": "ring"}).server.keys.create()
    site = site_with(**IN_KMS | {"signing": "ring"})
    kms = Kms(site)
    for _ in range(2):
        assert redeem(site, browsers(site)).status == 200
    assert kms.calls == ["Decrypt"]


# ---- long messages


class StrictKms:
    """KMS as documented: a raw message has at most 4,096 bytes, and a digest is signed as it is."""

    def __init__(self, alg: str):
        entry = signing.new_entry(alg, 0)
        self.private: Any = serialization.load_pem_private_key(entry["private"].encode(), None)
        public = self.private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.entry = {**entry, "kms_key_id": "arn", "public": base64.b64encode(public).decode()}
        del self.entry["private"]
        self.calls: list[dict[str, Any]] = []

    def call(self, operation: str, **parameters: Any) -> dict[str, str]:
        assert operation == "Sign"
        self.calls.append(parameters)
        return {"Signature": base64.b64encode(self._sign(parameters)).decode()}

    def _sign(self, parameters: dict[str, Any]) -> Any:
        message, digest = base64.b64decode(parameters["Message"]), parameters["MessageType"] == "DIGEST"
        assert len(message) == 32 if digest else 1 <= len(message) <= 4096
        algorithm: Any = Prehashed(hashes.SHA256()) if digest else hashes.SHA256()
        if parameters["SigningAlgorithm"] == "ECDSA_SHA_256":
            return self.private.sign(message, ec.ECDSA(algorithm))
        assert parameters["SigningAlgorithm"] == "RSASSA_PKCS1_V1_5_SHA_256"
        return self.private.sign(message, padding.PKCS1v15(), algorithm)


@pytest.mark.parametrize("length", [1, 4095, 4096, 4097, 60000])
@pytest.mark.parametrize("alg", signing.KMS_ALGORITHMS)
def test_kms_signs_the_digest_of_a_message_over_its_limit(alg: str, length: int) -> None:
    strict: Any = StrictKms(alg)
    key, data = signing.parse(strict.entry, lambda: strict), b"x" * length
    signature = key.sign(data)
    [call] = strict.calls
    raw = length <= 4096
    assert (call["KeyId"], call["MessageType"]) == ("arn", "RAW" if raw else "DIGEST")
    assert base64.b64decode(call["Message"]) == (data if raw else hashlib.sha256(data).digest())
    assert jwt.get_algorithm_by_name(alg).verify(data, key.public, signature)


@pytest.mark.parametrize("library", CHECKS)
@pytest.mark.parametrize("alg", signing.KMS_ALGORITHMS)
def test_token_signed_by_its_digest_verifies(alg: str, library: str) -> None:
    strict: Any = StrictKms(alg)
    key = signing.parse(strict.entry, lambda: strict)
    claims = {"iss": "https://a.example", "aud": "app", "scope": " ".join(f"scope-{n:0100}" for n in range(100))}
    token = key.jwt(claims, "at+jwt")
    assert strict.calls[0]["MessageType"] == "DIGEST"
    assert CHECKS[library](token, {"keys": [key.jwk]}, "app", "https://a.example") == claims


def test_access_token_with_many_scopes_is_sent_to_kms_as_a_digest(
    in_kms: Site, browsers: Callable[..., Browser]
) -> None:
    kms = Kms(in_kms)
    scope = frozenset({"openid", *(f"scope-{n:060}" for n in range(90))})
    answer = redeem(in_kms, browsers(in_kms), scope=scope)
    access, id_ = (parameters for parameters, call in zip(kms.parameters, kms.calls, strict=True) if call == "Sign")
    signed = answer.json["access_token"].rpartition(".")[0].encode()
    assert len(signed) > 4096
    assert (access["MessageType"], id_["MessageType"]) == ("DIGEST", "RAW")
    assert base64.b64decode(access["Message"]) == hashlib.sha256(signed).digest()


# ---- KMS is throttled or unreachable


def kms_error(status: int, name: str) -> Fault:
    def fault(request: Request, _proceed: Callable[[], Response]) -> Response:
        return faults.refusal(request, status, name)

    return fault


FAULTS: tuple[Fault, ...] = (
    faults.unreachable,
    faults.no_response,
    kms_error(400, "ThrottlingException"),
    kms_error(400, "LimitExceededException"),
    kms_error(500, "KMSInternalException"),
    kms_error(503, "DependencyTimeoutException"),
)


def is_unavailable(answer: Answer, caplog: pytest.LogCaptureFixture) -> bool:
    """Check that the response and the log line report KMS as temporarily unavailable, and return True."""
    line = json.loads(caplog.records[-1].getMessage())
    assert (answer.status, answer.header("retry-after")) == (503, "2"), answer.body
    assert (line["status"], line["outcome"]) == (503, "temporarily_unavailable")
    assert line["detail"].startswith("kms ")
    assert "kms" not in answer.body.lower()
    return True


def test_cold_start_without_kms_returns_temporarily_unavailable(
    site_without_ring: Site,
    in_kms: Site,
    site_with: Callable[..., Site],
    browsers: Callable[..., Browser],
    wire: Wire,
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = site_with(**IN_KMS)
    client, kms, browser = site.client(), Kms(site), browsers(site)
    handles = {kind: site_without_ring.server.keys.make_handle(kind, "x") for kind in ("req", "code")}
    for fault in FAULTS:
        kms.fail("Decrypt", fault)
        assert is_unavailable(answer := browser.get("/oauth2/jwks"), caplog)
        assert answer.json["error"] == "temporarily_unavailable"
        # A validated request is answered by a redirect, any other with a page.
        assert browser.authorize(client).answer["error"] == "temporarily_unavailable"
        assert is_unavailable(answer := browser.get("/oauth2/authorize", request_uri=handles["req"]), caplog)
        assert "Please try again in a moment" in answer.body
        assert is_unavailable(answer := browser.redeem(client, handles["code"]), caplog)
        assert answer.json["error"] == "temporarily_unavailable"
    kms.recover()
    assert browser.get("/oauth2/jwks").status == 200
    assert kms.calls.count("Decrypt") == 1


@pytest.mark.parametrize("operation", ["GetPublicKey", "GenerateDataKey"])
def test_ring_is_not_created_without_kms(in_kms_without_ring: Site, operation: str) -> None:
    kms, ring = Kms(in_kms_without_ring), in_kms_without_ring.server.keys
    for fault in FAULTS:
        kms.fail(operation, fault)
        with pytest.raises(TemporarilyUnavailable):
            ring.create()
    assert not ring.exists()
    kms.recover()
    assert ring.create()


@pytest.mark.parametrize("skip", [0, 1], ids=["access token", "ID token"])
def test_code_can_be_redeemed_again_when_kms_did_not_sign(
    in_kms: Site,
    browsers: Callable[..., Browser],
    wire: Wire,
    caplog: pytest.LogCaptureFixture,
    skip: int,
) -> None:
    kms, browser, client = Kms(in_kms), browsers(in_kms), in_kms.client()
    code = create_code(in_kms, client, in_kms.user())
    (before,) = in_kms.server.store.grants.scan()
    for fault in FAULTS:
        kms.fail("Sign", fault, skip)
        answer = browser.redeem(client, code)
        assert is_unavailable(answer, caplog)
        assert answer.json == {
            "error": "temporarily_unavailable",
            "error_description": "Please try again in a few seconds.",
        }
        assert list(in_kms.server.store.grants.scan()) == [before]
    kms.recover()
    tokens = browser.redeem(client, code).json
    assert browser.userinfo(tokens["access_token"]).status == 200
    assert browser.refresh(client, tokens["refresh_token"]).status == 200
    # A second redemption is a replay.
    assert browser.redeem(client, code).json["error"] == "invalid_grant"
    assert browser.userinfo(tokens["access_token"]).status == 401


def test_code_that_expires_during_a_kms_outage_is_no_replay(
    in_kms: Site, browsers: Callable[..., Browser], wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    kms, browser, client = Kms(in_kms), browsers(in_kms), in_kms.client()
    code = create_code(in_kms, client)
    kms.fail("Sign", faults.unreachable)
    assert is_unavailable(browser.redeem(client, code), caplog)
    kms.recover()
    in_kms.clock.advance(in_kms.settings.authorization_code_lifetime)
    assert browser.redeem(client, code).json["error"] == "invalid_grant"
    line = json.loads(caplog.records[-1].getMessage())
    assert line["detail"] in ("expired", "absent, expired or revoked")
    assert "events" not in line


def test_code_that_cannot_be_restored_after_a_kms_failure_is_revoked(
    in_kms: Site, browsers: Callable[..., Browser], wire: Wire
) -> None:
    kms, browser, client = Kms(in_kms), browsers(in_kms), in_kms.client()
    code = create_code(in_kms, client)
    kms.fail("Sign", faults.unreachable)
    assert browser.redeem(client, code).status == 503
    with wire.counted() as calls:
        assert browser.redeem(client, code).status == 503
    assert calls == ["UpdateItem", "BatchGetItem", "UpdateItem"]  # redeemed, valid, and restored
    with wire.fault(2, faults.unreachable):
        answer = browser.redeem(client, code)
    assert (answer.status, answer.header("retry-after")) == (503, "2")
    kms.recover()
    answer = browser.redeem(client, code)
    assert (answer.status, answer.json["error"]) == (400, "invalid_grant")
    (grant,) = in_kms.server.store.grants.scan()
    assert grant.revoked_at is not None


def test_code_replayed_during_a_kms_failure_is_not_restored(
    in_kms: Site, browsers: Callable[..., Browser], wire: Wire
) -> None:
    kms, browser, thief, client = Kms(in_kms), browsers(in_kms), browsers(in_kms), in_kms.client()
    code = create_code(in_kms, client)
    answers: list[Answer] = []

    def replay(request: Request, proceed: Callable[[], Response]) -> Response:
        if not answers:
            answers.append(thief.redeem(client, code))
        return faults.unreachable(request, proceed)

    kms.fail("Sign", replay)
    assert browser.redeem(client, code).status == 503
    kms.recover()
    assert [answer.json["error"] for answer in answers] == ["invalid_grant"]
    assert browser.redeem(client, code).json["error"] == "invalid_grant"
    (grant,) = in_kms.server.store.grants.scan()
    assert grant.revoked_at is not None


@pytest.mark.parametrize("skip", [0, 1], ids=["access token", "ID token"])
def test_refresh_can_be_retried_when_kms_did_not_sign(
    in_kms: Site, browsers: Callable[..., Browser], wire: Wire, caplog: pytest.LogCaptureFixture, skip: int
) -> None:
    kms, browser, client = Kms(in_kms), browsers(in_kms), in_kms.client()
    old = browser.redeem(client, create_code(in_kms, client)).json["refresh_token"]
    for _ in range(3):
        kms.fail("Sign", faults.unreachable, skip)
        assert is_unavailable(browser.refresh(client, old), caplog)
        in_kms.clock.advance(3)
    kms.recover()
    in_kms.clock.advance(599)  # far beyond the retry window: an outage is no replay
    new = browser.refresh(client, old).json["refresh_token"]
    assert new != old
    assert browser.refresh(client, new).status == 200


def test_disabled_kms_key_is_a_server_error_and_keeps_the_code_valid(
    in_kms: Site, browsers: Callable[..., Browser], wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    kms, browser, client = Kms(in_kms), browsers(in_kms), in_kms.client()
    code = create_code(in_kms, client)
    kms.fail("Sign", kms_error(400, "DisabledException"))
    answer = browser.redeem(client, code)
    assert (answer.status, answer.json["error"]) == (500, "server_error")
    assert "Disabled" in json.loads(caplog.records[-1].getMessage())["detail"]
    kms.recover()
    assert browser.redeem(client, code).status == 200
