"""Signing keys in the ring and in KMS: every token verifies by what is published; KMS fails and nothing is lost."""

import base64
import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import joserfc.jwt
import jwt
import pytest
import yaml
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from joserfc.errors import BadSignatureError, SecurityWarning
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from chalicelib import signing
from chalicelib.errors import InvalidClientMetadata
from chalicelib.seal import Seal
from infra.embedded import SCHEMA
from tests import faults
from tests.browser import Answer, Browser
from tests.faults import Fault, Wire
from tests.shortcut import code_of
from tests.site import STAGE, Registered, Site, dump

IN_KMS: dict[str, Any] = {"signing": "kms", "sealing_key": None, "kms_key_id": f"alias/signet-{STAGE}"}


@pytest.fixture(scope="module")
def kms_keys(_moto: None) -> Iterator[None]:
    """The keys of infra/tables.yaml, under their aliases."""
    import boto3

    kms = boto3.client("kms", region_name="us-east-1")
    resources = yaml.safe_load(SCHEMA.read_text())["Resources"]
    made = []
    for resource in resources.values():
        if resource["Type"] == "AWS::KMS::Alias":
            key = resources[resource["Properties"]["TargetKeyId"]["Ref"]]["Properties"]
            shape = {name: key[name] for name in ("KeySpec", "KeyUsage") if name in key}
            made.append(resource["Properties"]["AliasName"]["Fn::Sub"].replace("${Stage}", STAGE))
            kms.create_alias(AliasName=made[-1], TargetKeyId=kms.create_key(**shape)["KeyMetadata"]["KeyId"])
    assert sorted(made) == [f"alias/signet-{STAGE}{which}" for which in ("", "-es256", "-rs256")]
    yield
    for alias in made:
        kms.delete_alias(AliasName=alias)


@pytest.fixture
def in_kms(kms_keys: None, without_ring: Site, site_with: Callable[..., Site]) -> Site:
    """A server whose private keys never leave KMS; its ring is not made yet."""
    return site_with(**IN_KMS)


@pytest.fixture(params=["ring", "kms"])
def signing_site(request: pytest.FixtureRequest) -> Site:
    """A server for each place where private keys may lie."""
    found: Site = request.getfixturevalue("site" if request.param == "ring" else "in_kms")
    return found


SIGNERS = [
    *(("ring", alg) for alg in signing.ALGORITHMS),
    *(("kms", alg) for alg in signing.KMS_ALGORITHMS),
]
signers = pytest.mark.parametrize(("signing_site", "alg"), SIGNERS, indirect=["signing_site"])

# ---- what is signed can be checked with what is published


def with_pyjwt(token: str, jwks: dict[str, Any], audience: str, issuer: str) -> dict[str, Any]:
    key = jwt.PyJWKSet.from_dict(jwks)[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(token, key, audience=audience, issuer=issuer)
    return claims


def with_joserfc(token: str, jwks: dict[str, Any], audience: str, issuer: str) -> dict[str, Any]:
    with warnings.catch_warnings():
        # RFC 9864 has a new name for EdDSA with this curve, which few know yet; OpenID Connect says EdDSA.
        warnings.simplefilter("ignore", SecurityWarning)
        keys: Any = KeySet.import_key_set(jwks)  # type: ignore[arg-type]
        # A key set that gives each key its `alg` lets no token choose another.
        read = joserfc.jwt.decode(token, keys, algorithms=list(signing.ALGORITHMS))
    assert (read.claims["aud"], read.claims["iss"]) == (audience, issuer)
    return read.claims


Check = Callable[[str, dict[str, Any], str, str], dict[str, Any]]
CHECKS: dict[str, Check] = {"PyJWT": with_pyjwt, "joserfc": with_joserfc}
BAD_SIGNATURE = (BadSignatureError, jwt.InvalidSignatureError)


def header(token: str) -> dict[str, Any]:
    return jwt.get_unverified_header(token)


def flow(site: Site, browser: Browser, **client: Any) -> tuple[Registered, dict[str, Any]]:
    """A client, and what it gets in the whole flow."""
    site.user()
    registered = site.client(**client)
    return registered, browser.tokens(registered, scope="openid offline_access", nonce="n-1")


@pytest.mark.spec("RFC 9068 §2.1 c", "RFC 9068 §2.1 d", "RFC 9068 §2.1 e", "RFC 9068 §2.1 f", "RFC 9068 §4 g")
@pytest.mark.spec("OpenID Connect Core §10.1 a", "OpenID Connect Core §10.1 b", "OpenID Connect Core §10.1 c")
@pytest.mark.spec("OpenID Connect Core §10.1 d", "OpenID Connect Core §15.1 a")
@pytest.mark.spec("RFC 7518 §3.1")
@pytest.mark.parametrize("library", CHECKS)
@signers
def test_tokens_verify_with_nothing_but_the_published_keys(
    signing_site: Site, browsers: Callable[..., Browser], alg: str, library: str
) -> None:
    site, browser, check = signing_site, browsers(signing_site), CHECKS[library]
    client, tokens = flow(site, browser, id_token_signed_response_alg=alg)
    jwks, issuer = browser.get("/oauth2/jwks").json, site.settings.issuer
    renewed = browser.refresh(client, tokens["refresh_token"]).json
    kids = {key["alg"]: key["kid"] for key in jwks["keys"]}
    for answered in (tokens, renewed):
        # The access token is what gateways' own authorizers check, and they know RS256 only.
        assert header(answered["access_token"]) == {"alg": "RS256", "kid": kids["RS256"], "typ": "at+jwt"}
        assert header(answered["id_token"]) == {"alg": alg, "kid": kids[alg], "typ": "JWT"}
        assert check(answered["access_token"], jwks, issuer, issuer)["client_id"] == client.id
        assert check(answered["id_token"], jwks, client.id, issuer)["sub"]
    assert check(tokens["id_token"], jwks, client.id, issuer)["nonce"] == "n-1"
    assert browser.userinfo(renewed["access_token"]).status == 200
    assert browser.userinfo(renewed["id_token"]).status == 401


@pytest.mark.parametrize("library", CHECKS)
@signers
def test_a_byte_of_the_signature_counts(signing_site: Site, alg: str, library: str) -> None:
    keys, issuer = signing_site.server.keys, signing_site.settings.issuer
    claims = {"iss": issuer, "aud": issuer, "sub": "alice"}
    signed, _, signature = keys.sign(claims, "at+jwt", alg).rpartition(".")
    assert CHECKS[library](f"{signed}.{signature}", keys.jwks(), issuer, issuer) == claims
    raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
    # RFC 7518 section 3.4: two numbers side by side, no DER
    assert len(raw) == {"RS256": 256, "PS256": 256, "ES256": 64, "EdDSA": 64}[alg]
    raw[-1] ^= 1
    with pytest.raises(BAD_SIGNATURE):
        CHECKS[library](f"{signed}.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}", keys.jwks(), issuer, issuer)


def test_a_client_that_asked_for_nothing_gets_rs256(signing_site: Site, browsers: Callable[..., Browser]) -> None:
    _, tokens = flow(signing_site, browsers(signing_site))
    assert header(tokens["id_token"])["alg"] == header(tokens["access_token"])["alg"] == "RS256"


@pytest.mark.spec("OpenID Connect Core §10.1 a", "OpenID Connect Discovery §3 t")
@pytest.mark.parametrize("alg", ["none", "HS256", "RS512", "es256", ""])
def test_no_client_gets_another_algorithm(site: Site, alg: str) -> None:
    with pytest.raises(InvalidClientMetadata, match="id_token_signed_response_alg must be one of: RS256, "):
        site.client(id_token_signed_response_alg=alg)


@pytest.mark.spec("RFC 7638 §3")
def test_the_kid_of_every_key_is_its_thumbprint_as_others_compute_it(
    signing_site: Site, browsers: Callable[..., Browser]
) -> None:
    keys = browsers(signing_site).get("/oauth2/jwks").json["keys"]
    assert tuple(key["alg"] for key in keys) == signing_site.server.keys.algorithms
    members = {"RSA": {"n", "e"}, "EC": {"crv", "x", "y"}, "OKP": {"crv", "x"}}
    libraries: dict[str, Any] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
    for key in keys:
        assert set(key) == {"kty", "kid", "alg", "use"} | members[key["kty"]]
        assert libraries[key["kty"]].import_key(key).thumbprint() == key["kid"]
    assert len({key["kid"] for key in keys}) == len(keys)  # RFC 8725 section 3.1: no key serves two algorithms


# ---- where the private half is


def unsealed(site: Site) -> str:
    """The ring as it lies in the table, opened."""
    record = site.server.store.keys.get("main")
    assert record
    return Seal(site.settings).unseal(record.sealed).decode()


def test_with_kms_no_private_key_is_anywhere(in_kms: Site, browsers: Callable[..., Browser]) -> None:
    flow(in_kms, browsers(in_kms))
    ring = unsealed(in_kms)
    for text in (ring, dump()):
        assert "PRIVATE" not in text
    for key in json.loads(ring)["signing"]:
        assert set(key) == {"kid", "alg", "kms_key_id", "public", "created_at"}
        # It is a public key indeed.
        serialization.load_der_public_key(base64.b64decode(key["public"]))
        assert key["kms_key_id"] != f"alias/signet-{STAGE}-{key['alg'].lower()}"  # an alias can be turned


def test_in_the_ring_it_lies_sealed(site: Site) -> None:
    site.server.keys.jwks()
    keys = json.loads(unsealed(site))["signing"]
    assert [key["alg"] for key in keys] == list(signing.ALGORITHMS)
    assert all(set(key) == {"kid", "alg", "private", "created_at"} for key in keys)
    assert "PRIVATE" not in dump()


def test_the_setting_counts_when_the_ring_is_made(
    kms_keys: None, without_ring: Site, site_with: Callable[..., Site]
) -> None:
    before = site_with(**IN_KMS | {"signing": "ring"})
    published = before.server.keys.jwks()
    after = site_with(**IN_KMS)
    token = after.server.keys.sign({"sub": "alice"}, "at+jwt")
    assert after.server.keys.jwks() == published
    assert header(token)["kid"] == published["keys"][0]["kid"]


# ---- what KMS is asked


@dataclass
class Kms:
    """Stands between a server's KMS client, whose retries are real, and moto."""

    site: Site
    calls: list[str] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    # The operation that meets a fault, how many calls of it are spared before, and the fault
    plan: tuple[str, int, Fault] | None = None
    _known: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        events: Any = self.site.server.keys._seal.kms.meta.events
        events.register_first("before-send.kms", self.meet)

    def meet(self, request: AWSPreparedRequest, **_more: Any) -> AWSResponse | None:
        headers: Any = request.headers
        operation = headers["X-Amz-Target"].decode().removeprefix("TrentService.")
        if (call := headers["amz-sdk-invocation-id"]) not in self._known:
            self._known.add(call)
            self.calls.append(operation)
            self.asked.append(faults.asked(request))
        if self.plan is None or operation != self.plan[0] or self.calls.count(operation) <= self.plan[1]:
            return None
        return self.plan[2](request, lambda: pytest.fail("a fault of KMS does nothing"))

    def fail(self, operation: str, fault: Fault, spared: int = 0) -> None:
        self.calls.clear()
        self.plan = (operation, spared, fault)

    def recover(self) -> None:
        self.calls.clear()
        self.plan = None


def redeem(site: Site, browser: Browser, scope: frozenset[str] = frozenset({"openid"})) -> Answer:
    client = site.client(id_token_signed_response_alg="ES256", scope=" ".join(sorted(scope)))
    return browser.redeem(client, code_of(site, client, scope=scope))


def test_a_cold_start_asks_kms_once_and_each_token_once_more(
    in_kms: Site, browsers: Callable[..., Browser], site_with: Callable[..., Site]
) -> None:
    kms, browser = Kms(in_kms), browsers(in_kms)
    browser.get("/oauth2/jwks")
    # The first process of all makes the ring.
    assert kms.calls == ["GetPublicKey", "GetPublicKey", "GenerateDataKey", "Decrypt"]
    another = site_with(**IN_KMS)
    kms, browser = Kms(another), browsers(another)
    browser.get("/oauth2/jwks")
    browser.authorize(another.client())
    assert kms.calls == ["Decrypt"]
    assert kms.asked[0]["EncryptionContext"] == {"signet-stage": STAGE}
    assert redeem(another, browser).status == 200
    assert kms.calls == ["Decrypt", "Sign", "Sign"]
    algorithms = ["RSASSA_PKCS1_V1_5_SHA_256", "ECDSA_SHA_256"]
    assert [asked["SigningAlgorithm"] for asked in kms.asked[1:]] == algorithms
    tokens = redeem(another, browser, scope=frozenset({"email"})).json  # no ID token
    assert another.server.keys.verify(tokens["access_token"], "at+jwt", another.settings.issuer)["scope"] == "email"
    assert kms.calls == ["Decrypt", "Sign", "Sign", "Sign"]  # checking costs nothing
    another.clock.advance(600)
    browser.get("/oauth2/jwks")
    assert kms.calls[4:] == ["Decrypt"]


def test_with_keys_in_the_ring_kms_opens_it_and_signs_nothing(
    kms_keys: None, without_ring: Site, site_with: Callable[..., Site], browsers: Callable[..., Browser]
) -> None:
    site_with(**IN_KMS | {"signing": "ring"}).server.keys.jwks()
    site = site_with(**IN_KMS | {"signing": "ring"})
    kms = Kms(site)
    for _ in range(2):
        assert redeem(site, browsers(site)).status == 200
    assert kms.calls == ["Decrypt"]


# ---- long messages


class Strict:
    """KMS as its documentation has it: no raw message above 4,096 bytes, a digest is signed as it is."""

    def __init__(self, alg: str):
        entry = signing.new_entry(alg, 0)
        self.private: Any = serialization.load_pem_private_key(entry["private"].encode(), None)
        public = self.private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.entry = {**entry, "kms_key_id": "arn", "public": base64.b64encode(public).decode()}
        del self.entry["private"]
        self.asked: list[dict[str, Any]] = []

    def sign(self, **asked: Any) -> dict[str, bytes]:
        self.asked.append(asked)
        message, digest = asked["Message"], asked["MessageType"] == "DIGEST"
        assert len(message) == 32 if digest else 1 <= len(message) <= 4096
        algorithm: Any = Prehashed(hashes.SHA256()) if digest else hashes.SHA256()
        if asked["SigningAlgorithm"] == "ECDSA_SHA_256":
            return {"Signature": self.private.sign(message, ec.ECDSA(algorithm))}
        assert asked["SigningAlgorithm"] == "RSASSA_PKCS1_V1_5_SHA_256"
        return {"Signature": self.private.sign(message, padding.PKCS1v15(), algorithm)}


@pytest.mark.parametrize("length", [1, 4095, 4096, 4097, 60000])
@pytest.mark.parametrize("alg", signing.KMS_ALGORITHMS)
def test_what_is_longer_than_kms_takes_is_signed_by_its_digest(alg: str, length: int) -> None:
    strict: Any = Strict(alg)
    key, data = signing.parse(strict.entry, lambda: strict), b"x" * length
    signature = key.sign(data)
    [asked] = strict.asked
    raw = length <= 4096
    assert (asked["KeyId"], asked["MessageType"]) == ("arn", "RAW" if raw else "DIGEST")
    assert asked["Message"] == (data if raw else hashlib.sha256(data).digest())
    assert jwt.get_algorithm_by_name(alg).verify(data, key.public, signature)


@pytest.mark.parametrize("library", CHECKS)
@pytest.mark.parametrize("alg", signing.KMS_ALGORITHMS)
def test_a_long_token_verifies_like_any_other(alg: str, library: str) -> None:
    strict: Any = Strict(alg)
    key = signing.parse(strict.entry, lambda: strict)
    claims = {"iss": "https://a.example", "aud": "app", "scope": " ".join(f"scope-{n:0100}" for n in range(100))}
    token = key.jwt(claims, "at+jwt")
    assert strict.asked[0]["MessageType"] == "DIGEST"
    assert CHECKS[library](token, {"keys": [key.jwk]}, "app", "https://a.example") == claims


def test_an_access_token_for_many_scopes_goes_to_kms_as_a_digest(
    in_kms: Site, browsers: Callable[..., Browser]
) -> None:
    kms = Kms(in_kms)
    scope = frozenset({"openid", *(f"scope-{n:060}" for n in range(90))})
    answer = redeem(in_kms, browsers(in_kms), scope=scope)
    access, id_ = (asked for asked, call in zip(kms.asked, kms.calls, strict=True) if call == "Sign")
    signed = answer.json["access_token"].rpartition(".")[0].encode()
    assert len(signed) > 4096
    assert (access["MessageType"], id_["MessageType"]) == ("DIGEST", "RAW")
    assert base64.b64decode(access["Message"]) == hashlib.sha256(signed).digest()


# ---- KMS is throttled or out of reach


def refused(status: int, name: str) -> Fault:
    def fault(request: AWSPreparedRequest, _proceed: Callable[[], AWSResponse]) -> AWSResponse:
        return faults.refusal(request, status, name)

    return fault


FAULTS: tuple[Fault, ...] = (
    faults.unreachable,
    faults.silent,
    refused(400, "ThrottlingException"),
    refused(400, "LimitExceededException"),
    refused(500, "KMSInternalException"),
    refused(503, "DependencyTimeoutException"),
)


def unavailable(answer: Answer, caplog: pytest.LogCaptureFixture) -> bool:
    """Whether the answer, and the line in the log, say that KMS is to be asked again."""
    line = json.loads(caplog.records[-1].getMessage())
    assert (answer.status, answer.header("retry-after")) == (503, "2"), answer.body
    assert (line["status"], line["outcome"]) == (503, "temporarily_unavailable")
    assert line["detail"].startswith("kms: ")
    assert "kms" not in answer.body.lower()
    return True


@pytest.mark.parametrize("made", [False, True], ids=["first of all", "ring is there"])
def test_at_a_cold_start_everybody_is_asked_to_try_again(
    without_ring: Site,
    in_kms: Site,
    site_with: Callable[..., Site],
    browsers: Callable[..., Browser],
    wire: Wire,
    caplog: pytest.LogCaptureFixture,
    made: bool,
) -> None:
    if made:
        in_kms.server.keys.jwks()
    site = site_with(**IN_KMS)
    client, kms, browser = site.client(), Kms(site), browsers(site)
    handles = {kind: without_ring.server.keys.make_handle(kind, "x") for kind in ("req", "code")}
    operations = ["Decrypt"] if made else ["GetPublicKey", "GenerateDataKey"]
    for operation, fault in product(operations, FAULTS):
        kms.fail(operation, fault)
        assert unavailable(answer := browser.get("/oauth2/jwks"), caplog)
        assert answer.json["error"] == "temporarily_unavailable"
        # The application hears of it as soon as it is known; before, a page says it.
        assert browser.authorize(client).answer["error"] == "temporarily_unavailable"
        assert unavailable(answer := browser.get("/oauth2/authorize", request_uri=handles["req"]), caplog)
        assert "Please try again in a moment" in answer.body
        assert unavailable(answer := browser.redeem(client, handles["code"]), caplog)
        assert answer.json["error"] == "temporarily_unavailable"
        assert (site.server.store.keys.get("main") is not None) == made
    kms.recover()
    assert browser.get("/oauth2/jwks").status == 200
    assert kms.calls.count("Decrypt") == 1


@pytest.mark.parametrize("spared", [0, 1], ids=["access token", "ID token"])
def test_a_code_for_which_kms_did_not_sign_can_be_redeemed_again(
    in_kms: Site,
    browsers: Callable[..., Browser],
    wire: Wire,
    caplog: pytest.LogCaptureFixture,
    spared: int,
) -> None:
    kms, browser, client = Kms(in_kms), browsers(in_kms), in_kms.client()
    code = code_of(in_kms, client, in_kms.user())
    (before,) = in_kms.server.store.grants.scan()
    for fault in FAULTS:
        kms.fail("Sign", fault, spared)
        answer = browser.redeem(client, code)
        assert unavailable(answer, caplog)
        assert answer.json == {
            "error": "temporarily_unavailable",
            "error_description": "Please try again in a few seconds.",
        }
        assert list(in_kms.server.store.grants.scan()) == [before]
    kms.recover()
    tokens = browser.redeem(client, code).json
    assert browser.userinfo(tokens["access_token"]).status == 200
    assert browser.refresh(client, tokens["refresh_token"]).status == 200
    # It counts once, as ever.
    assert browser.redeem(client, code).json["error"] == "invalid_grant"
    assert browser.userinfo(tokens["access_token"]).status == 401


def test_a_code_that_expires_while_kms_is_away_is_expired_and_no_theft(
    in_kms: Site, browsers: Callable[..., Browser], wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    kms, browser, client = Kms(in_kms), browsers(in_kms), in_kms.client()
    code = code_of(in_kms, client)
    kms.fail("Sign", faults.unreachable)
    assert unavailable(browser.redeem(client, code), caplog)
    kms.recover()
    in_kms.clock.advance(in_kms.settings.authorization_code_lifetime)
    assert browser.redeem(client, code).json["error"] == "invalid_grant"
    line = json.loads(caplog.records[-1].getMessage())
    assert line["detail"] in ("expired", "absent, expired or revoked")
    assert "events" not in line


def test_when_the_code_cannot_be_given_back_either_the_client_is_told_that_it_is_gone(
    in_kms: Site, browsers: Callable[..., Browser], wire: Wire
) -> None:
    kms, browser, client = Kms(in_kms), browsers(in_kms), in_kms.client()
    code = code_of(in_kms, client)
    kms.fail("Sign", faults.unreachable)
    assert browser.redeem(client, code).status == 503
    with wire.counted() as calls:
        assert browser.redeem(client, code).status == 503
    assert calls == ["UpdateItem", "UpdateItem"]  # redeemed, and given back
    with wire.fault(1, faults.unreachable):
        answer = browser.redeem(client, code)
    assert (answer.status, answer.header("retry-after")) == (503, "2")
    kms.recover()
    answer = browser.redeem(client, code)
    assert (answer.status, answer.json["error"]) == (400, "invalid_grant")
    (grant,) = in_kms.server.store.grants.scan()
    assert grant.revoked_at is not None


def test_a_code_that_somebody_replays_meanwhile_is_not_given_back(
    in_kms: Site, browsers: Callable[..., Browser], wire: Wire
) -> None:
    kms, browser, thief, client = Kms(in_kms), browsers(in_kms), browsers(in_kms), in_kms.client()
    code = code_of(in_kms, client)
    answers: list[Answer] = []

    def meanwhile(request: AWSPreparedRequest, proceed: Callable[[], AWSResponse]) -> AWSResponse:
        if not answers:
            answers.append(thief.redeem(client, code))
        return faults.unreachable(request, proceed)

    kms.fail("Sign", meanwhile)
    assert browser.redeem(client, code).status == 503
    kms.recover()
    assert [answer.json["error"] for answer in answers] == ["invalid_grant"]
    assert browser.redeem(client, code).json["error"] == "invalid_grant"
    (grant,) = in_kms.server.store.grants.scan()
    assert grant.revoked_at is not None


@pytest.mark.parametrize("spared", [0, 1], ids=["access token", "ID token"])
def test_a_refresh_for_which_kms_did_not_sign_can_be_tried_again(
    in_kms: Site, browsers: Callable[..., Browser], wire: Wire, caplog: pytest.LogCaptureFixture, spared: int
) -> None:
    kms, browser, client = Kms(in_kms), browsers(in_kms), in_kms.client()
    old = browser.redeem(client, code_of(in_kms, client)).json["refresh_token"]
    for _ in range(3):
        kms.fail("Sign", faults.unreachable, spared)
        assert unavailable(browser.refresh(client, old), caplog)
        in_kms.clock.advance(3)
    kms.recover()
    in_kms.clock.advance(599)  # far beyond the retry window: an outage is nobody's theft
    new = browser.refresh(client, old).json["refresh_token"]
    assert new != old
    assert browser.refresh(client, new).status == 200


def test_a_key_that_is_switched_off_is_the_operators_to_mend_and_loses_no_code(
    in_kms: Site, browsers: Callable[..., Browser], wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    kms, browser, client = Kms(in_kms), browsers(in_kms), in_kms.client()
    code = code_of(in_kms, client)
    kms.fail("Sign", refused(400, "DisabledException"))
    answer = browser.redeem(client, code)
    assert (answer.status, answer.json["error"]) == (500, "server_error")
    assert "Disabled" in json.loads(caplog.records[-1].getMessage())["detail"]
    kms.recover()
    assert browser.redeem(client, code).status == 200
