"""Pairwise subject identifiers: a user has another sub in each sector (OpenID Connect Core section 8.1)."""

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.keys import rotation
from chalicelib.protocol.errors import InvalidClientMetadata
from chalicelib.tokens.subjects import sid, subject
from tests.endpoints.userinfo.conftest import Setup, claims_of, redeem_code
from tests.support.browser import Browser, basic
from tests.support.grants import update_client
from tests.support.site import Registered, Site, dump_tables

pytestmark = pytest.mark.spec("OpenID Connect Core §8.1")


def pairwise(site: Site, *uris: str, **members: Any) -> Registered:
    """Register a client with pairwise subjects and these redirect URIs."""
    return site.client(
        subject_type="pairwise", redirect_uris=list(uris) or ["https://client.example.com/cb"], **members
    )


def signed_in_sub(browser: Browser, client: Registered) -> str:
    """Sign in to a client and return the sub of its ID token."""
    return str(claims_of(browser.tokens(client)["id_token"])["sub"])


# ---- sectors


@pytest.mark.spec("OpenID Connect Core §17.3")
@pytest.mark.spec("OpenID Connect Core §8.1 a", "OpenID Connect Core §8.1 c", "OpenID Connect Core §8.1 d")
def test_pairwise_sub_is_the_same_within_a_sector_and_differs_between_sectors(site: Site, browser: Browser) -> None:
    alice = site.user()
    client = pairwise(site)
    same_host = pairwise(site, "https://client.example.com:8443/other", "https://client.example.com/x")
    other_sectors = [
        pairwise(site, f"https://{host}/cb") for host in ("other.example.com", "example.com", "client.example.co")
    ]
    sub = signed_in_sub(browser, client)
    assert sub == signed_in_sub(browser, client) == signed_in_sub(browser, same_host)
    subs = {sub, alice.sub, *(signed_in_sub(browser, other) for other in other_sectors)}
    assert len(subs) == 5
    assert len(sub) == 43  # 256 bits, base64url; a sub has 255 ASCII characters at most


@pytest.mark.spec("OpenID Connect Core §8.1 a")
def test_two_users_have_different_pairwise_subs(site: Site, browsers: Callable[..., Browser]) -> None:
    client = pairwise(site)
    subs = set()
    for name in ("alice", "bob"):
        site.user(name)
        browser = browsers()
        browser.sign_in(browser.authorize(client), name)
        subs.add(signed_in_sub(browser, client))
    assert len(subs) == 2


@pytest.mark.spec("OpenID Connect Core §8")
def test_public_subject_is_the_users_sub(site: Site, browser: Browser) -> None:
    alice = site.user()
    assert signed_in_sub(browser, site.client()) == alice.sub


def test_sector_ignores_the_case_of_the_host(site: Site, browser: Browser) -> None:
    site.user()
    assert signed_in_sub(browser, pairwise(site)) == signed_in_sub(
        browser, pairwise(site, "https://CLIENT.example.com/x")
    )


@pytest.mark.spec("OpenID Connect Core §8.1 b")
def test_pairwise_sub_cannot_be_computed_without_the_secret(site: Site) -> None:
    """It is keyed: sub and sector are not enough."""
    client, alice = pairwise(site), site.user()
    pairwise_sub = subject(site.server, client.record, alice.sub)
    for text in (f"client.example.com {alice.sub}", f"client.example.com{alice.sub}", alice.sub):
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        assert pairwise_sub != digest
    ring, _ = site.server.keys.read_document()
    assert ring["pairwise"] not in dump_tables()  # the secret is stored encrypted
    assert len(base64.b64decode(ring["pairwise"])) == 32


@pytest.mark.usefixtures("restore_key_ring")
@pytest.mark.spec("OpenID Connect Core §8.1 d")
def test_key_rotation_keeps_the_pairwise_sub(site: Site) -> None:
    client, alice = pairwise(site), site.user()
    before = subject(site.server, client.record, alice.sub)
    rotation.rotate(site.server.keys, site.server.now(), wait=0)
    site.clock.advance(400 * 24 * 3600)
    assert rotation.retire(site.server.keys, site.settings, site.server.now())
    assert subject(site.server, client.record, alice.sub) == before


# ---- tokens and responses


@pytest.fixture
def setup(site: Site, browser: Browser) -> Setup:
    """Return a client with pairwise subjects, its user and tokens."""
    return redeem_code(site, browser, pairwise(site), site.user(claims={"email": "alice@example.com"}))


def pairwise_sub(setup: Setup) -> str:
    return str(claims_of(setup.tokens["id_token"])["sub"])


@pytest.mark.spec("OpenID Connect Core §5.3.2 d")
def test_every_token_and_response_has_the_pairwise_sub_only(setup: Setup) -> None:
    credentials = basic(setup.client.id, setup.client.secret or "")
    refreshed = setup.browser.refresh(setup.client, setup.tokens["refresh_token"]).json
    userinfo = setup.browser.userinfo(setup.tokens["access_token"]).json
    answers = [
        userinfo,
        *(claims_of(tokens[name]) for tokens in (setup.tokens, refreshed) for name in ("access_token", "id_token")),
        *(
            setup.browser.post("/oauth2/introspect", {"token": refreshed[name]}, credentials).json
            for name in ("access_token", "refresh_token")
        ),
    ]
    assert {answer["sub"] for answer in answers} == {pairwise_sub(setup)}
    assert all(setup.user.sub not in str(answer) for answer in answers)
    assert userinfo["email"] == "alice@example.com"


def test_signed_userinfo_response_has_the_pairwise_sub(setup: Setup) -> None:
    update_client(setup.site, setup.client, userinfo_signed_response_alg="ES256")
    answer = setup.browser.userinfo(setup.tokens["access_token"])
    assert claims_of(answer.body)["sub"] == pairwise_sub(setup)


@pytest.mark.spec("RFC 7009 §2.1")
def test_tokens_with_a_pairwise_sub_can_be_revoked(setup: Setup) -> None:
    credentials = basic(setup.client.id, setup.client.secret or "")
    assert setup.browser.post("/oauth2/revoke", {"token": setup.tokens["access_token"]}, credentials).status == 200
    assert setup.browser.userinfo(setup.tokens["access_token"]).status == 401


def test_tokens_of_a_disabled_or_deleted_user_are_rejected(setup: Setup) -> None:
    users = setup.site.server.store.users
    users.transition((setup.user.sub,), None, {"disabled_at": 1})
    assert setup.browser.userinfo(setup.tokens["access_token"]).status == 401
    users.transition((setup.user.sub,), None, remove=("disabled_at",))
    assert setup.browser.userinfo(setup.tokens["access_token"]).status == 200
    users.delete(setup.user.sub)
    assert setup.browser.userinfo(setup.tokens["access_token"]).status == 401


def test_access_token_is_rejected_after_a_change_of_subject_type_or_sector(setup: Setup) -> None:
    update_client(setup.site, setup.client, subject_type="public")
    assert setup.browser.userinfo(setup.tokens["access_token"]).status == 401
    assert sub_after_refresh(setup) == setup.user.sub
    update_client(setup.site, setup.client, redirect_uris=("https://elsewhere.example.com/cb",))
    assert setup.browser.userinfo(setup.tokens["access_token"]).status == 401


def sub_after_refresh(setup: Setup) -> str:
    refreshed = setup.browser.refresh(setup.client, setup.tokens["refresh_token"]).json
    sub = setup.browser.userinfo(refreshed["access_token"]).json["sub"]
    assert claims_of(refreshed["id_token"])["sub"] == sub
    return str(sub)


# ---- sessions


def test_sid_identifies_neither_the_user_nor_the_session_across_clients(site: Site, browser: Browser) -> None:
    alice = site.user()
    client, other = pairwise(site), pairwise(site, "https://other.example.com/cb")
    first, second, at_other = (claims_of(browser.tokens(each)["id_token"])["sid"] for each in (client, client, other))
    assert first == second != at_other
    [session] = site.server.store.sessions.scan()
    assert first == sid(session.session_id, client.id)
    for part in (alice.sub, *session.session_id.split(".")):
        assert part not in first


def test_each_sign_in_has_its_own_sid(site: Site, browsers: Callable[..., Browser]) -> None:
    site.user()
    client = pairwise(site)
    assert len({claims_of(browsers().tokens(client)["id_token"])["sid"] for _ in range(2)}) == 2


# ---- registration

ONE_SECTOR = [
    ("https://client.example.com/a", "https://client.example.com:8443/b"),
    ("http://127.0.0.1/cb", "http://127.0.0.1:3000/cb"),
    ("https://client.example.com/a", "https://Client.Example.com/b"),
]
NO_SECTOR = [
    (),
    ("https://client.example.com/cb", "https://other.example.com/cb"),
    ("https://client.example.com/cb", "https://example.com/cb"),
    ("com.example.app:/cb",),
    ("com.example.app://client.example.com/cb",),
    ("https://client.example.com/cb", "com.example.app:/cb"),
    ("http://127.0.0.1/cb", "http://localhost/cb"),
]


@pytest.mark.parametrize("uris", ONE_SECTOR, ids=str)
def test_redirect_uris_with_one_host_are_accepted(site: Site, uris: tuple[str, ...]) -> None:
    assert pairwise(site, *uris).record.subject_type == "pairwise"


@pytest.mark.spec("OpenID Connect Core §8.1 f")
@pytest.mark.parametrize("uris", NO_SECTOR, ids=str)
def test_redirect_uris_without_one_host_are_rejected(site: Site, uris: tuple[str, ...]) -> None:
    grants: dict[str, Any] = {} if uris else {"grant_types": ("client_credentials",), "response_types": ()}
    with pytest.raises(InvalidClientMetadata, match="sector_identifier_uri is not supported"):
        site.client(subject_type="pairwise", redirect_uris=uris, scope="openid photos", **grants)
