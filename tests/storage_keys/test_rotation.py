"""Key rotation: a key is published before it is used, and kept until everything that it signed has expired."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import jwt
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chalicelib.keys import rotation
from chalicelib.keys.ring import KeyRing
from chalicelib.keys.rotation import PUBLISHED_BEFORE_USE, RotationRefused
from chalicelib.keys.signing import ALGORITHMS
from chalicelib.keys.stored_ring import RING
from chalicelib.protocol.durations import DAY, HOUR
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.protocol.sealed_key_ring import SealedKeyRing
from chalicelib.settings import SettingsError
from tests.support.browser import Browser
from tests.support.site import Site
from tests.support.threads import run_concurrently

pytestmark = pytest.mark.usefixtures("restore_key_ring")


def states(site: Site) -> list[tuple[str, str]]:
    keys = rotation.list_keys(site.server.keys, site.settings, site.server.now())
    return [(key.alg, key.state) for key in keys]


def rotate(site: Site, wait: int = PUBLISHED_BEFORE_USE) -> None:
    rotation.rotate(site.server.keys, site.server.now(), wait)


def retire(site: Site, kid: str | None = None) -> list[str]:
    return rotation.retire(site.server.keys, site.settings, site.server.now(), kid)


def signer(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


@pytest.mark.spec("OpenID Connect Core §10.1.1", "OpenID Connect Core §10.2.1 b")
def test_verifier_that_caches_the_jwks_accepts_tokens_throughout_a_rotation(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client()
    browser.code(client, decision="allow_always")
    cached, read_at = jwt.PyJWKSet.from_dict(browser.get("/oauth2/jwks").json), site.clock.time
    signers: set[str] = set()
    rotated = False
    for _ in range(60):  # one hour each, with the rotation in the middle
        site.clock.advance(HOUR)
        if site.clock.time - read_at >= 6 * HOUR:  # far longer than the server allows
            cached, read_at = jwt.PyJWKSet.from_dict(browser.get("/oauth2/jwks").json), site.clock.time
        if len(signers) == 1 and not rotated:
            rotate(site)
            rotated = True
        token = browser.tokens(client)["id_token"]
        signers.add(signer(token))
        claims = jwt.decode(
            token,
            cached[signer(token)],
            algorithms=["RS256"],
            options={"verify_exp": False, "verify_iat": False},
            audience=client.id,
        )
        assert claims["iss"] == site.settings.issuer
    assert len(signers) == 2


def test_tokens_codes_and_cookies_from_before_a_rotation_stay_valid(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client()
    tokens = browser.tokens(client)
    code = browser.code(client)
    rotate(site, wait=0)
    assert browser.userinfo(tokens["access_token"]).status == 200
    refreshed = browser.refresh(client, tokens["refresh_token"]).json
    assert signer(refreshed["access_token"]) != signer(tokens["access_token"])
    assert browser.refresh(client, tokens["refresh_token"]).json["refresh_token"] == refreshed["refresh_token"]
    assert browser.redeem(client, code).status == 200
    assert browser.authorize(client, prompt="consent").status == 200  # still signed in with the old cookie


@pytest.mark.spec("OpenID Connect Core §10.2.1 b")
def test_new_keys_are_published_a_day_before_they_are_used(site: Site) -> None:
    rotate(site)
    assert states(site)[:2] == [("RS256", "next"), ("RS256", "current")]
    listed = [key["alg"] for key in site.server.keys.jwks()["keys"]]
    assert listed == [alg for alg in ALGORITHMS for _ in range(2)], (
        "some verifiers stop at the first key of another type"
    )
    handle = site.server.keys.make_handle("code", "x")
    with pytest.raises(RotationRefused, match="not in use yet"):
        rotate(site)
    site.clock.advance(DAY)
    assert states(site) == [(alg, state) for alg in (*ALGORITHMS, "HS256") for state in ("current", "kept")]
    assert site.server.keys.make_handle("code", "x") != handle
    assert site.server.keys.read_handle("code", handle)


def test_secret_of_handles_is_kept_for_the_links_in_mails(site_with: Callable[..., Site]) -> None:
    site = site_with(refresh_token_absolute_lifetime=3600, session_absolute_lifetime=3600, deletion_grace_days=0)
    link = site.server.keys.make_handle("em", "invitation.x")
    rotate(site)
    site.clock.advance(DAY + rotation.LONGEST_LINK - 1)
    assert "handles-1" not in retire(site)
    assert site.server.keys.read_handle("em", link)
    site.clock.advance(1)
    assert "handles-1" in retire(site)


@pytest.mark.spec("OpenID Connect Core §10.1.1")
def test_key_is_retired_when_everything_it_signed_has_expired(site: Site) -> None:
    rotate(site)
    assert retire(site) == []
    site.clock.advance(DAY)
    assert retire(site) == []
    site.clock.advance(DAY)
    assert len(retire(site)) == len(ALGORITHMS)
    assert len(site.server.keys.jwks()["keys"]) == len(ALGORITHMS)
    site.clock.advance(site.settings.refresh_token_absolute_lifetime - DAY - 1)
    assert retire(site) == []
    site.clock.advance(1)
    assert retire(site) == ["handles-1"]
    assert states(site) == [(alg, "current") for alg in (*ALGORITHMS, "HS256")]
    assert retire(site) == []


def test_retiring_a_compromised_key_invalidates_its_tokens_at_once(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client()
    access_token = browser.tokens(client)["access_token"]
    with pytest.raises(RotationRefused, match="only key"):
        retire(site, signer(access_token))
    rotate(site, wait=0)
    assert retire(site, signer(access_token)) == [signer(access_token)]
    assert browser.userinfo(access_token).status == 401
    with pytest.raises(RotationRefused, match="no signing key"):
        retire(site, signer(access_token))
    with pytest.raises(RotationRefused, match="no signing key"):
        retire(site, "handles-1")


def test_no_verifier_that_follows_cache_control_rejects_a_token_after_a_rotation_of_a_compromised_key(
    site: Site, browser: Browser
) -> None:
    """The other process has read the ring a moment before the rotation, and answers from its copy."""
    other = KeyRing(site.server.store)
    other.jwks()
    site.server.keys.sign({}, "JWT")
    site.clock.advance(1)
    rotate(site, rotation.SHORTEST_WAIT)
    site.clock.advance(48)
    published = {key["kid"] for key in other.jwks()["keys"]}
    lifetime = int((browser.get("/oauth2/jwks").header("cache-control") or "").rpartition("=")[2])
    signers = set()
    for _ in range(lifetime):  # until the verifier asks again
        signers.add(signer(site.server.keys.sign({}, "JWT")))
        site.clock.advance(1)
    assert signers <= published
    site.clock.advance(120 - 48 - lifetime)
    new = signer(site.server.keys.sign({}, "JWT"))
    assert new not in published
    assert new in {key["kid"] for key in other.jwks()["keys"]}


def test_first_key_of_a_ring_signs_at_once(site: Site) -> None:
    site.server.store.keys.delete(RING)
    ring = KeyRing(site.server.store)
    ring.create()
    assert signer(ring.sign({}, "JWT")) in {key["kid"] for key in ring.jwks()["keys"]}
    assert {key.state for key in rotation.list_keys(ring, site.settings, site.server.now())} == {"current"}


def test_key_is_not_retired_before_the_one_that_replaces_it_signs(site: Site) -> None:
    old = signer(site.server.keys.sign({}, "JWT"))
    rotate(site, rotation.SHORTEST_WAIT)
    with pytest.raises(RotationRefused, match="is used in 120 seconds"):
        retire(site, old)
    site.clock.advance(120)
    assert retire(site, old) == [old]


def test_compromised_key_is_replaced_although_another_rotation_waits(site: Site) -> None:
    rotate(site)
    rotate(site, rotation.SHORTEST_WAIT)
    old = signer(site.server.keys.sign({}, "JWT"))
    site.clock.advance(120)
    assert signer(site.server.keys.sign({}, "JWT")) != old


def test_retired_key_signs_for_less_than_a_minute_in_another_process(site: Site) -> None:
    other = KeyRing(site.server.store)
    old = signer(other.sign({}, "JWT"))
    site.clock.advance(49)
    other.jwks()
    rotate(site, wait=0)
    assert retire(site, old) == [old]
    assert signer(other.sign({}, "JWT")) == old  # from its copy
    site.clock.advance(11)
    assert signer(other.sign({}, "JWT")) != old
    assert old not in {key["kid"] for key in other.jwks()["keys"]}


def test_retiring_the_handle_secrets_ends_sessions_codes_and_refresh_tokens(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client()
    tokens, code = browser.tokens(client), browser.code(client)
    form = browser.authorize(client, prompt="consent")
    assert rotation.retire_handles(site.server.keys, site.server.now()) == ["handles-1"]
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert browser.redeem(client, code).json["error"] == "invalid_grant"
    assert browser.submit(form, decision="allow_once").status == 400
    assert browser.authorize(client, prompt="none").answer["error"] == "login_required"
    # Signing keys are not affected.
    assert browser.userinfo(tokens["access_token"]).status == 200
    assert browser.tokens(client)["refresh_token"]


def test_retiring_the_handle_secrets_keeps_pairwise_subjects_and_signing_keys(site: Site) -> None:
    ring = site.server.keys
    subject, published = ring.pairwise_subject("client.example.com", "alice"), ring.jwks()
    for expected in (["handles-1"], ["handles-2"]):
        assert rotation.retire_handles(ring, site.server.now()) == expected
    assert KeyRing(site.server.store).pairwise_subject("client.example.com", "alice") == subject
    assert KeyRing(site.server.store).jwks() == published


def test_retiring_the_handle_secrets_removes_those_that_are_not_used_yet(site: Site) -> None:
    """A copy of the ring contains them too."""
    ring = site.server.keys
    rotate(site)
    assert rotation.retire_handles(ring, site.server.now()) == ["handles-1", "handles-2"]
    handle = ring.make_handle("code", "x")
    site.clock.advance(2 * DAY)
    assert ring.make_handle("code", "x") == handle


def test_process_with_the_old_secret_learns_the_new_one_from_its_first_handle(site: Site) -> None:
    other = KeyRing(site.server.store)
    old = other.make_handle("code", "x")
    rotation.retire_handles(site.server.keys, site.server.now())
    site.clock.advance(10)
    assert other.read_handle("code", old)  # from its copy
    assert other.read_handle("code", site.server.keys.make_handle("code", "x"))
    assert other.read_handle("code", old) is None


def test_handle_is_not_renewed_with_a_secret_that_was_retired_during_the_request(site: Site) -> None:
    handle = site.server.keys.read_handle("rt", site.server.keys.make_handle("rt", "x", 1))
    assert handle
    rotation.retire_handles(site.server.keys, site.server.now())
    with pytest.raises(TemporarilyUnavailable) as error:
        site.server.keys.make_handle("rt", "x", 2, handle.key_version)
    assert error.value.detail == "the secret handles-1 was retired during this request"


def test_one_of_ten_concurrent_retirements_of_the_handle_secrets_is_kept(site: Site) -> None:
    def attempt(ring: KeyRing) -> list[str]:
        try:
            return rotation.retire_handles(ring, site.server.now())
        except RotationRefused:
            return []

    removed = run_concurrently(partial(attempt, KeyRing(site.server.store)) for _ in range(10))
    names = [name for names in removed for name in names]
    assert len(names) == len(set(names)) > 0  # no secret is removed twice, so no change was lost
    [secret] = [key for key in rotation.list_keys(site.server.keys, site.settings, 0) if key.alg == "HS256"]
    assert secret.name == f"handles-{len(names) + 1}"


# ---- the envelope


def test_envelope_of_version_0_1_0_is_opened_and_rewritten_by_reseal(site: Site) -> None:
    store, ring = site.server.store, KeyRing(site.server.store)
    published, (document, version) = ring.jwks(), ring.read_document()
    assert site.settings.sealing_key
    nonce, aead = b"n" * 12, AESGCM(site.settings.sealing_key)
    old = aead.encrypt(nonce, json.dumps(document).encode(), site.settings.stage.encode())
    store.keys.put(SealedKeyRing(RING, nonce + old, version))
    site.clock.advance(60)
    assert ring.jwks() == published
    assert store.keys.get(RING) == SealedKeyRing(RING, nonce + old, version)  # reading does not rewrite it
    rotation.reseal(ring)
    assert ring.read_document() == (document, version + 1)
    record = store.keys.get(RING)
    assert record
    store.keys.put(replace(record, version=version + 2))
    with pytest.raises(SettingsError, match="another version"):
        KeyRing(store).jwks()


def test_backup_of_the_ring_is_restored_only_where_there_is_none(site: Site) -> None:
    store, ring = site.server.store, site.server.keys
    backup, published = store.keys.get(RING), ring.jwks()
    assert backup
    assert not ring.restore(backup)
    store.keys.delete(RING)
    with pytest.raises(SettingsError):
        ring.restore(replace(backup, version=backup.version + 1))
    assert not ring.exists()
    assert ring.restore(backup)
    assert KeyRing(store).jwks() == published


def test_one_of_ten_concurrent_rotations_succeeds(site: Site) -> None:
    rings = [KeyRing(site.server.store) for _ in range(10)]

    def attempt(ring: KeyRing) -> bool:
        try:
            rotation.rotate(ring, site.server.now())
        except RotationRefused:
            return False
        return True

    with ThreadPoolExecutor(10) as pool:
        assert sum(pool.map(attempt, rings)) == 1
    assert [state for _, state in states(site)].count("next") == len(ALGORITHMS) + 1


def test_clock_that_is_behind_uses_the_oldest_key(site: Site) -> None:
    site.clock.advance(-400 * DAY)
    assert site.server.keys.sign({}, "JWT")
    assert site.server.keys.read_handle("code", site.server.keys.make_handle("code", "x"))
