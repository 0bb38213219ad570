"""grant_type=refresh_token: rotation, replay, scope and lifetime (RFC 6749 section 6, RFC 9700 section 4.14)."""

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.protocol.durations import DAY, MINUTE
from tests.endpoints.token.conftest import Setup, claims_of
from tests.support.browser import Browser
from tests.support.grants import create_code, insert_grant, update_client
from tests.support.site import Site, dump_tables


@pytest.mark.spec("RFC 6749 §10.4 e", "RFC 9700 §2.2.2")
@pytest.mark.spec("RFC 6749 §6")
@pytest.mark.spec("RFC 9700 §4.14.2")
def test_each_refresh_rotates_the_refresh_token(setup: Setup, tokens: dict[str, Any]) -> None:
    seen = {tokens["refresh_token"]}
    for _ in range(5):
        setup.site.clock.advance(3600)
        tokens = setup.refresh(tokens["refresh_token"]).json
        assert tokens["refresh_token"] not in seen
        seen.add(tokens["refresh_token"])
    assert tokens["scope"] == "email openid profile"


@pytest.mark.spec("RFC 6749 §6 d", "RFC 6749 §10.4 f", "RFC 9700 §4.14.2 d", "OpenID Connect Core §12.1 a")
def test_refresh_token_changed_at_any_position_is_rejected(setup: Setup, tokens: dict[str, Any]) -> None:
    token = tokens["refresh_token"]
    for position in range(len(token)):
        changed = token[:position] + ("A" if token[position] != "A" else "B") + token[position + 1 :]
        assert setup.refresh(changed).json["error"] == "invalid_grant", position
    assert setup.refresh(token).status == 200


@pytest.mark.spec("RFC 9700 §4.14.2")
def test_retry_within_the_retry_window_returns_the_same_successor(setup: Setup, tokens: dict[str, Any]) -> None:
    successor = setup.refresh(tokens["refresh_token"]).json["refresh_token"]
    setup.site.clock.advance(9)
    retry = setup.refresh(tokens["refresh_token"])
    assert retry.status == 200
    assert retry.json["refresh_token"] == successor
    assert setup.refresh(successor).status == 200


@pytest.mark.spec("RFC 6749 §10.4 e", "RFC 9700 §4.14.2 c")
@pytest.mark.spec("RFC 9700 §4.14.2")
@pytest.mark.parametrize("seconds", [10, 3600, 20 * DAY])
def test_replay_after_the_retry_window_revokes_the_grant(setup: Setup, tokens: dict[str, Any], seconds: int) -> None:
    successor = setup.refresh(tokens["refresh_token"]).json["refresh_token"]
    setup.site.clock.advance(seconds)
    assert setup.refresh(tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert setup.refresh(successor).json["error"] == "invalid_grant"


def test_token_four_generations_behind_is_a_retry_and_five_behind_a_replay(
    setup: Setup, tokens: dict[str, Any]
) -> None:
    first = current = tokens["refresh_token"]
    for _ in range(4):
        current = setup.refresh(current).json["refresh_token"]
    assert setup.refresh(first).json["refresh_token"] == current
    current = setup.refresh(current).json["refresh_token"]
    assert setup.refresh(first).json["error"] == "invalid_grant"
    assert setup.refresh(current).json["error"] == "invalid_grant"


def test_each_rotation_has_its_own_retry_window(setup: Setup, tokens: dict[str, Any]) -> None:
    first = tokens["refresh_token"]
    second = setup.refresh(first).json["refresh_token"]
    setup.site.clock.advance(8)
    third = setup.refresh(second).json["refresh_token"]
    setup.site.clock.advance(8)
    assert setup.refresh(second).json["refresh_token"] == third
    assert setup.refresh(first).json["error"] == "invalid_grant"
    assert setup.refresh(third).json["error"] == "invalid_grant"


def test_every_reuse_is_a_replay_without_a_retry_window(
    site_with: Callable[..., Site], browsers: Callable[..., Browser]
) -> None:
    strict = site_with(refresh_token_retry_window=0)
    browser, client = browsers(strict), strict.client()
    tokens = browser.redeem(client, create_code(strict, client)).json
    successor = browser.refresh(client, tokens["refresh_token"]).json["refresh_token"]
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert browser.refresh(client, successor).json["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("own", "of_server", "window"), [(300, 10, 300), (0, 10, 0), (None, 300, 300), (None, 10, 10), (5, 300, 5)]
)
def test_retry_window_of_the_client_overrides_that_of_the_server(
    site_with: Callable[..., Site], browsers: Callable[..., Browser], own: int | None, of_server: int, window: int
) -> None:
    site = site_with(refresh_token_retry_window=of_server)
    browser, client = browsers(site), site.client(refresh_token_retry_window=own)
    tokens = browser.redeem(client, create_code(site, client)).json
    successor = browser.refresh(client, tokens["refresh_token"]).json["refresh_token"]
    if window:
        site.clock.advance(window - 1)
        assert browser.refresh(client, tokens["refresh_token"]).json["refresh_token"] == successor
        site.clock.advance(1)
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"


@pytest.mark.spec("RFC 6749 §6 c", "RFC 6749 §10.4 b", "RFC 6749 §10.4 d", "OpenID Connect Core §12.1 b")
@pytest.mark.spec("RFC 6749 §6")
def test_refresh_token_of_another_client_is_rejected_and_nothing_changes(setup: Setup, tokens: dict[str, Any]) -> None:
    successor = setup.refresh(tokens["refresh_token"]).json["refresh_token"]
    setup.site.clock.advance(60)
    before = dump_tables()
    for refresh_token in (tokens["refresh_token"], successor):
        answer = setup.browser.refresh(setup.public_client, refresh_token)
        assert (answer.status, answer.json["error"]) == (400, "invalid_grant")
    assert dump_tables() == before
    assert setup.refresh(successor).status == 200


@pytest.mark.spec("RFC 6749 §6 a", "RFC 9700 §4.14.2 b")
@pytest.mark.spec("RFC 6749 §6")
@pytest.mark.parametrize(
    "scope",
    [
        "phone",
        "offline_access",
        "OPENID",
        "openid\u00a0email",
        " ",
        'openid"',
        " ".join(f"s{i}" for i in range(101)),
        " ".join(
            f"{a}{b}" for a in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ" for b in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ"
        ),
    ],
    ids=lambda scope: scope[:30],
)
def test_scope_that_was_not_granted_is_rejected_and_nothing_changes(
    setup: Setup, tokens: dict[str, Any], scope: str
) -> None:
    before = dump_tables()
    answer = setup.refresh(tokens["refresh_token"], scope=scope)
    assert (answer.status, answer.json["error"]) == (400, "invalid_scope")
    assert dump_tables() == before
    assert setup.refresh(tokens["refresh_token"]).status == 200


@pytest.mark.spec("RFC 6749 §6 a", "RFC 6749 §3.3 a")
@pytest.mark.parametrize("scope", ["openid email phone offline_access", "email unknown openid", "phone openid email"])
def test_scope_that_was_not_granted_is_left_out(setup: Setup, tokens: dict[str, Any], scope: str) -> None:
    """Clients repeat the scope of their first request, of which a part was left out."""
    answer = setup.refresh(tokens["refresh_token"], scope=scope).json
    assert answer["scope"] == claims_of(answer["access_token"])["scope"] == "email openid"
    retried = setup.refresh(tokens["refresh_token"], scope=scope).json
    assert (retried["scope"], retried["refresh_token"]) == ("email openid", answer["refresh_token"])


@pytest.mark.parametrize("scope", ["openid phone", "openid email profile offline_access"])
def test_scope_beyond_the_grant_of_a_strict_client_is_rejected_and_nothing_changes(
    setup: Setup, tokens: dict[str, Any], scope: str
) -> None:
    update_client(setup.site, setup.client, strict_scope=True)
    before = dump_tables()
    answer = setup.refresh(tokens["refresh_token"], scope=scope)
    assert (answer.status, answer.json["error"]) == (400, "invalid_scope")
    assert dump_tables() == before
    assert setup.refresh(tokens["refresh_token"], scope="openid email").json["scope"] == "email openid"


def test_scope_of_which_nothing_is_both_granted_and_registered_does_not_consume_the_token(
    setup: Setup, tokens: dict[str, Any]
) -> None:
    update_client(setup.site, setup.client, scope="openid phone")
    before = dump_tables()
    assert setup.refresh(tokens["refresh_token"], scope="email phone").json["error"] == "invalid_scope"
    assert dump_tables() == before


@pytest.mark.parametrize(("scope", "error"), [("x" * 4097, "invalid_request"), ("openid\0", "invalid_request")])
def test_malformed_scope_is_rejected_and_nothing_changes(
    setup: Setup, tokens: dict[str, Any], scope: str, error: str
) -> None:
    before = dump_tables()
    assert setup.refresh(tokens["refresh_token"], scope=scope).json["error"] == error
    assert dump_tables() == before


@pytest.mark.spec("RFC 6749 §3.3 a", "RFC 6749 §6 e", "RFC 9700 §2.3 a")
@pytest.mark.spec("RFC 6749 §6")
def test_narrowed_scope_can_be_widened_again(setup: Setup, tokens: dict[str, Any]) -> None:
    narrow = setup.refresh(tokens["refresh_token"], scope="email").json
    assert narrow["scope"] == "email"
    assert "id_token" not in narrow
    assert claims_of(narrow["access_token"])["scope"] == "email"
    # The new refresh token has the scope of the old one (RFC 6749 section 6); only the access token is narrow.
    wide = setup.refresh(narrow["refresh_token"]).json
    assert wide["scope"] == "email openid profile"
    assert setup.refresh(wide["refresh_token"], scope=" profile  openid email ").json["scope"] == wide["scope"]


def test_scope_removed_from_the_client_is_in_no_new_token(setup: Setup, tokens: dict[str, Any]) -> None:
    site = setup.site
    update_client(site, setup.client, scope="openid")
    answer = setup.refresh(tokens["refresh_token"]).json
    assert (tokens["scope"], answer["scope"]) == ("email openid profile", "openid")
    update_client(site, setup.client, scope="photos.read")
    rejected = setup.refresh(answer["refresh_token"])
    assert (rejected.status, rejected.json["error"]) == (400, "invalid_scope")
    site.clock.advance(60)
    assert site.server.client(setup.client.id), "the record without these scopes is cached again"
    site.server.store.clients.put(setup.client.record)
    restored = setup.refresh(answer["refresh_token"])
    assert restored.json["scope"] == "email openid profile", "the client is read again before it is rejected"


def test_scope_that_the_client_is_no_longer_registered_for_does_not_consume_the_token(
    setup: Setup, tokens: dict[str, Any]
) -> None:
    update_client(setup.site, setup.client, scope="openid email")
    before = dump_tables()
    answer = setup.refresh(tokens["refresh_token"], scope="profile")
    assert (answer.status, answer.json["error"]) == (400, "invalid_scope")
    assert dump_tables() == before
    setup.site.clock.advance(11 * MINUTE)
    assert setup.refresh(tokens["refresh_token"], scope="email profile").json["scope"] == "email"


def test_hundred_scopes_can_be_requested(site: Site, browser: Browser) -> None:
    scope = " ".join(f"s{i}" for i in range(100))
    client = site.client(scope=scope)
    tokens = browser.redeem(client, create_code(site, client, scope=frozenset(scope.split()))).json
    assert browser.refresh(client, tokens["refresh_token"], scope=scope).status == 200


@pytest.mark.spec("RFC 9700 §4.14.2 e")
@pytest.mark.spec("RFC 9700 §4.14.2")
def test_refresh_token_expires_thirty_days_after_its_last_use(setup: Setup, tokens: dict[str, Any]) -> None:
    for _ in range(3):
        setup.site.clock.advance(30 * DAY - 1)
        answer = setup.refresh(tokens["refresh_token"])
        assert answer.status == 200
        tokens = answer.json
    setup.site.clock.advance(30 * DAY)
    before = dump_tables()
    assert setup.refresh(tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert dump_tables() == before


@pytest.mark.spec("RFC 9700 §4.14.2")
def test_refreshing_ends_180_days_after_the_grant_was_created(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client()
    code = browser.code(client, scope="openid offline_access")
    start = site.clock.time
    site.clock.advance(30)
    tokens = browser.redeem(client, code).json
    for _ in range(6):
        site.clock.advance(29 * DAY)
        tokens = browser.refresh(client, tokens["refresh_token"]).json
        assert tokens["expires_in"] == 600
    site.clock.time = start + 180 * DAY - 1
    tokens = browser.refresh(client, tokens["refresh_token"]).json
    assert tokens["expires_in"] == 1  # no token outlives its grant
    site.clock.advance(1)
    assert browser.refresh(client, tokens["refresh_token"]).json["error"] == "invalid_grant"
    assert browser.userinfo(tokens["access_token"]).status == 401


@pytest.mark.spec("OpenID Connect Core §12.2 a", "OpenID Connect Core §12.2 b", "OpenID Connect Core §12.2 c")
@pytest.mark.spec("OpenID Connect Core §12.2 d", "OpenID Connect Core §12.2 e", "OpenID Connect Core §12.2 f")
@pytest.mark.spec("OpenID Connect Core §12.2")
def test_id_token_of_a_refresh_has_the_same_sign_in_and_no_nonce(site: Site, browser: Browser) -> None:
    site.user()
    client = site.client()
    tokens = browser.tokens(client, nonce="n-0S6_WzA2Mj")
    site.clock.advance(3600)
    refreshed = browser.refresh(client, tokens["refresh_token"]).json
    first, second = (claims_of(answer["id_token"]) for answer in (tokens, refreshed))
    assert first["nonce"] == "n-0S6_WzA2Mj"
    assert "nonce" not in second
    assert second["iat"] == first["iat"] + 3600
    for name in ("iss", "sub", "aud", "auth_time"):
        assert second[name] == first[name]
    assert "azp" not in second


def test_refresh_token_of_a_revoked_grant_is_rejected(setup: Setup) -> None:
    grant = insert_grant(setup.site, setup.client, redeemed_at=1, generation=1, revoked_at=2)
    assert setup.refresh(setup.site.server.keys.make_handle("rt", grant.grant_id, 1)).json["error"] == "invalid_grant"


def test_refresh_token_is_rejected_before_the_code_is_redeemed(setup: Setup) -> None:
    """Such a token is never issued."""
    grant = insert_grant(setup.site, setup.client)
    token = setup.site.server.keys.make_handle("rt", grant.grant_id, grant.generation)
    assert setup.refresh(token).json["error"] == "invalid_grant"
    assert setup.site.server.store.grants.get(grant.grant_id) == grant


def test_refresh_token_of_a_future_generation_is_rejected_and_revokes_nothing(
    setup: Setup, tokens: dict[str, Any]
) -> None:
    grant_id = claims_of(tokens["access_token"])["grant_id"]
    before = dump_tables()
    future_token = setup.site.server.keys.make_handle("rt", grant_id, 2)
    assert setup.refresh(future_token).json["error"] == "invalid_grant"
    assert dump_tables() == before
    assert setup.refresh(tokens["refresh_token"]).status == 200
