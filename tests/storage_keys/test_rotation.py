"""Key rotation: a key is published before it is used, and kept until everything that it signed has expired."""

from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest

from chalicelib.keys import rotation
from chalicelib.keys.ring import KeyRing
from chalicelib.keys.rotation import PUBLISHED_BEFORE_USE, RotationRefused
from chalicelib.keys.signing import ALGORITHMS
from chalicelib.protocol.durations import DAY, HOUR
from tests.support.browser import Browser
from tests.support.site import Site

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
