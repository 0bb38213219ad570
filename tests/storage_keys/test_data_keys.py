"""The keys for data in records: they outlast every rotation, and records are sealed again with the newest."""

from collections.abc import Callable

import pytest

from chalicelib.authentication import totp
from chalicelib.keys import rotation
from chalicelib.keys.ring import KeyRing
from chalicelib.keys.rotation import PUBLISHED_BEFORE_USE
from chalicelib.protocol.durations import DAY
from tests.support.browser import Browser
from tests.support.second_factor import add_second_factor, sign_in_with_code
from tests.support.site import Site

pytestmark = pytest.mark.usefixtures("restore_key_ring")
PURPOSE = "alice totp"


def rotate_and_use(site: Site) -> None:
    """Rotate the keys, and wait until the new ones are used."""
    rotation.rotate(site.server.keys, site.clock())
    site.clock.advance(PUBLISHED_BEFORE_USE)


def test_data_is_unsealed_for_its_purpose_only(site: Site) -> None:
    keys = site.server.keys
    sealed = keys.seal_data(b"secret", PURPOSE)
    assert keys.unseal_data(sealed, PURPOSE) == b"secret"
    assert keys.unseal_data(sealed, "bob totp") is None
    assert keys.seal_data(b"secret", PURPOSE) != sealed, "with another nonce"
    for i in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[i] ^= 1
        assert keys.unseal_data(bytes(damaged), PURPOSE) is None
    assert [keys.unseal_data(sealed[:length], PURPOSE) for length in range(len(sealed))] == [None] * len(sealed)


def test_data_of_another_stage_is_not_unsealed(site: Site, site_with: Callable[..., Site]) -> None:
    sealed = site.server.keys.seal_data(b"secret", PURPOSE)
    other = site_with(name="Other")
    assert other.server.keys.unseal_data(sealed, PURPOSE) == b"secret", "the same stage"
    object.__setattr__(other.server.store.settings, "stage", "other")
    assert other.server.keys.unseal_data(sealed, PURPOSE) is None


def test_data_is_unsealed_after_every_rotation_and_retirement(site: Site) -> None:
    keys = site.server.keys
    sealed = [keys.seal_data(b"secret", PURPOSE)]
    for _ in range(3):
        rotate_and_use(site)
        sealed.append(keys.seal_data(b"secret", PURPOSE))
        rotation.retire(keys, site.settings, site.clock() + 1000 * DAY)
        rotation.retire_handles(keys, site.clock())
    assert [keys.unseal_data(each, PURPOSE) for each in sealed] == [b"secret"] * 4
    assert len({each[0] for each in sealed}) == 4, "each rotation adds a key"
    assert [keys.is_sealed_with_current_key(each) for each in sealed] == [False, False, False, True]


def test_new_key_is_used_only_once_every_process_has_read_it(site: Site) -> None:
    keys, other = site.server.keys, KeyRing(site.server.store)
    other.jwks()
    before = keys.seal_data(b"secret", PURPOSE)
    rotation.rotate(keys, site.clock())
    assert keys.seal_data(b"secret", PURPOSE)[0] == before[0]
    site.clock.advance(PUBLISHED_BEFORE_USE)
    assert other.unseal_data(keys.seal_data(b"secret", PURPOSE), PURPOSE) == b"secret"


def test_ring_of_an_earlier_version_gets_a_key_for_data(site: Site) -> None:
    keys = site.server.keys
    document, version = keys.read_document()
    del document["data"]
    assert keys.replace_document(document, version)
    assert keys.unseal_data(keys.seal_data(b"secret", PURPOSE), PURPOSE) == b"secret"
    assert len(keys.read_document()[0]["data"]) == 1
    assert KeyRing(site.server.store).read_document()[0]["data"] == keys.read_document()[0]["data"]


def test_secret_is_sealed_again_when_its_code_is_used(site: Site, browser: Browser) -> None:
    site.user("alice")
    phone, client = add_second_factor(site), site.client(trusted=True)
    before = site.read_user()
    rotate_and_use(site)
    assert "code" in sign_in_with_code(browser, client, phone).answer
    after = site.read_user()
    assert before.totp_secret
    assert after.totp_secret
    assert after.totp_secret[0] != before.totp_secret[0]
    assert totp.unseal(site.server.keys, after) == phone.secret
    site.clock.advance(60)
    browser.cookies.clear()
    assert "code" in sign_in_with_code(browser, client, phone).answer
    assert site.read_user().totp_secret == after.totp_secret, "only once"
