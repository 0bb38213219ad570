"""Pairwise subjects: who a person is to one application is no help to another (OpenID Connect Core section 8.1)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt
import pytest

from chalicelib.errors import InvalidClientMetadata
from chalicelib.subjects import sid, subject
from tests.browser import Browser, basic
from tests.shortcut import change, code_of
from tests.site import Registered, Site, dump

pytestmark = pytest.mark.spec("OpenID Connect Core §8.1")


def pairwise(site: Site, *uris: str, **members: Any) -> Registered:
    return site.client(
        subject_type="pairwise", redirect_uris=list(uris) or ["https://client.example.com/cb"], **members
    )


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def sub_of(browser: Browser, client: Registered) -> str:
    """Who the signed-in person is to a client."""
    return str(claims_of(browser.tokens(client)["id_token"])["sub"])


# ---- the same within a sector, another in any other


@pytest.mark.spec("OpenID Connect Core §17.3")
@pytest.mark.spec("OpenID Connect Core §8.1 a", "OpenID Connect Core §8.1 c", "OpenID Connect Core §8.1 d")
def test_a_sector_always_gets_the_same_and_every_other_one_another(site: Site, browser: Browser) -> None:
    alice = site.user()
    one = pairwise(site)
    same_host = pairwise(site, "https://client.example.com:8443/other", "https://client.example.com/x")
    others = [
        pairwise(site, f"https://{host}/cb") for host in ("other.example.com", "example.com", "client.example.co")
    ]
    first = sub_of(browser, one)
    assert first == sub_of(browser, one) == sub_of(browser, same_host)
    subs = {first, alice.sub, *(sub_of(browser, other) for other in others)}
    assert len(subs) == 5
    assert len(first) == 43  # 256 bits, base64url; a sub has 255 ASCII characters at most


@pytest.mark.spec("OpenID Connect Core §8.1 a")
def test_two_people_are_two_to_a_client(site: Site, browsers: Callable[..., Browser]) -> None:
    client = pairwise(site)
    subs = set()
    for name in ("alice", "bob"):
        site.user(name)
        browser = browsers()
        browser.sign_in(browser.authorize(client), name)
        subs.add(sub_of(browser, client))
    assert len(subs) == 2


@pytest.mark.spec("OpenID Connect Core §8")
def test_a_public_subject_stays_what_it_is(site: Site, browser: Browser) -> None:
    alice = site.user()
    assert sub_of(browser, site.client()) == alice.sub


def test_the_case_of_a_host_makes_no_other_sector(site: Site, browser: Browser) -> None:
    site.user()
    assert sub_of(browser, pairwise(site)) == sub_of(browser, pairwise(site, "https://CLIENT.example.com/x"))


@pytest.mark.spec("OpenID Connect Core §8.1 b")
def test_without_the_secret_it_cannot_be_computed(site: Site) -> None:
    """It is keyed: knowing sub and sector does not help."""
    import base64
    import hashlib

    client, alice = pairwise(site), site.user()
    made = subject(site.server, client.record, alice.sub)
    for text in (f"client.example.com {alice.sub}", f"client.example.com{alice.sub}", alice.sub):
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        assert made != digest
    ring, _ = site.server.keys.read_document()
    assert ring["pairwise"] not in dump()  # it lies sealed
    assert len(base64.b64decode(ring["pairwise"])) == 32


@pytest.mark.usefixtures("ring_comes_back")
@pytest.mark.spec("OpenID Connect Core §8.1 d")
def test_no_rotation_of_keys_changes_it(site: Site) -> None:
    from chalicelib import rotation

    client, alice = pairwise(site), site.user()
    before = subject(site.server, client.record, alice.sub)
    rotation.rotate(site.server.keys, site.server.now(), wait=0)
    site.clock.advance(400 * 24 * 3600)
    assert rotation.retire(site.server.keys, site.settings, site.server.now())
    assert subject(site.server, client.record, alice.sub) == before


# ---- wherever a client meets it


@dataclass
class Ground:
    """A client with pairwise subjects, and its tokens."""

    site: Site
    browser: Browser
    client: Registered
    tokens: dict[str, Any]
    real: str

    @property
    def sub(self) -> str:
        return str(claims_of(self.tokens["id_token"])["sub"])


@pytest.fixture
def ground(site: Site, browser: Browser) -> Ground:
    alice, client = site.user(claims={"email": "alice@example.com"}), pairwise(site)
    code = code_of(site, client, alice)
    return Ground(site, browser, client, browser.redeem(client, code).json, alice.sub)


@pytest.mark.spec("OpenID Connect Core §5.3.2 d")
def test_it_is_the_same_in_every_token_and_answer_and_the_real_one_in_none(ground: Ground) -> None:
    credentials = basic(ground.client.id, ground.client.secret or "")
    refreshed = ground.browser.refresh(ground.client, ground.tokens["refresh_token"]).json
    userinfo = ground.browser.userinfo(ground.tokens["access_token"]).json
    answers = [
        userinfo,
        *(claims_of(tokens[name]) for tokens in (ground.tokens, refreshed) for name in ("access_token", "id_token")),
        *(
            ground.browser.post("/oauth2/introspect", {"token": refreshed[name]}, credentials).json
            for name in ("access_token", "refresh_token")
        ),
    ]
    assert {answer["sub"] for answer in answers} == {ground.sub}
    assert all(ground.real not in str(answer) for answer in answers)
    assert userinfo["email"] == "alice@example.com"


def test_a_signed_userinfo_answer_has_it_too(ground: Ground) -> None:
    change(ground.site, ground.client, userinfo_signed_response_alg="ES256")
    answer = ground.browser.userinfo(ground.tokens["access_token"])
    assert claims_of(answer.body)["sub"] == ground.sub


@pytest.mark.spec("RFC 7009 §2.1")
def test_its_tokens_can_be_revoked(ground: Ground) -> None:
    credentials = basic(ground.client.id, ground.client.secret or "")
    assert ground.browser.post("/oauth2/revoke", {"token": ground.tokens["access_token"]}, credentials).status == 200
    assert ground.browser.userinfo(ground.tokens["access_token"]).status == 401


def test_a_disabled_or_deleted_person_opens_nothing(ground: Ground) -> None:
    users = ground.site.server.store.users
    users.transition((ground.real,), None, {"disabled_at": 1})
    assert ground.browser.userinfo(ground.tokens["access_token"]).status == 401
    users.transition((ground.real,), None, remove=("disabled_at",))
    assert ground.browser.userinfo(ground.tokens["access_token"]).status == 200
    users.delete(ground.real)
    assert ground.browser.userinfo(ground.tokens["access_token"]).status == 401


def test_a_token_of_before_a_change_of_subjects_names_somebody_whom_the_client_does_not_know(ground: Ground) -> None:
    change(ground.site, ground.client, subject_type="public")
    assert ground.browser.userinfo(ground.tokens["access_token"]).status == 401
    assert sub_after_refresh(ground) == ground.real
    change(ground.site, ground.client, redirect_uris=("https://elsewhere.example.com/cb",))
    assert ground.browser.userinfo(ground.tokens["access_token"]).status == 401


def sub_after_refresh(ground: Ground) -> str:
    refreshed = ground.browser.refresh(ground.client, ground.tokens["refresh_token"]).json
    sub = ground.browser.userinfo(refreshed["access_token"]).json["sub"]
    assert claims_of(refreshed["id_token"])["sub"] == sub
    return str(sub)


# ---- sessions


def test_a_sid_tells_neither_whose_session_it_is_nor_that_two_are_one(site: Site, browser: Browser) -> None:
    alice = site.user()
    one, other = pairwise(site), pairwise(site, "https://other.example.com/cb")
    first, again, elsewhere = (claims_of(browser.tokens(client)["id_token"])["sid"] for client in (one, one, other))
    assert first == again != elsewhere
    [session] = site.server.store.sessions.scan()
    assert first == sid(session.session_id, one.id)
    for part in (alice.sub, *session.session_id.split(".")):
        assert part not in first


def test_another_sign_in_of_the_same_person_has_another_sid(site: Site, browsers: Callable[..., Browser]) -> None:
    site.user()
    client = pairwise(site)
    assert len({claims_of(browsers().tokens(client)["id_token"])["sid"] for _ in range(2)}) == 2


# ---- what may be registered

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
def test_all_redirect_uris_have_one_host(site: Site, uris: tuple[str, ...]) -> None:
    assert pairwise(site, *uris).record.subject_type == "pairwise"


@pytest.mark.spec("OpenID Connect Core §8.1 f")
@pytest.mark.parametrize("uris", NO_SECTOR, ids=str)
def test_without_one_host_there_is_no_sector(site: Site, uris: tuple[str, ...]) -> None:
    grants: dict[str, Any] = {} if uris else {"grant_types": ("client_credentials",), "response_types": ()}
    with pytest.raises(InvalidClientMetadata, match="sector_identifier_uri is not supported"):
        site.client(subject_type="pairwise", redirect_uris=uris, scope="openid photos", **grants)
