"""Who may register a client, with a token or in open mode, and who may change it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.clients.dynamic_registration import authenticate, new_client, store_new, update
from chalicelib.clients.registration_limits import create_token, read_token, store_with_token
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidClientMetadata, InvalidToken, TemporarilyUnavailable
from chalicelib.protocol.handles import secret_hash
from tests.support.assertions import key_pair
from tests.support.site import Site


def token_of(site: Site, max_uses: int | None = None, lifetime: int = 60) -> str:
    _, token = create_token(site.server.store, site.server.keys, "label", lifetime, max_uses)
    site.secrets.add(token)
    return token


def challenge(site: Site, text: str | None) -> str:
    """Return the challenge with which a token is refused, "" if it is not."""
    try:
        read_token(site.server, text)
    except InvalidToken as error:
        return error.headers["WWW-Authenticate"]
    return ""


def test_token_is_needed_except_in_open_mode(site_with: Callable[..., Site]) -> None:
    closed, opened = site_with(client_registration="token"), site_with(client_registration="open")
    assert challenge(closed, None) == 'Bearer realm="registration"'
    assert read_token(opened.server, None) is None
    for site in (closed, opened):
        token = token_of(site)
        assert challenge(site, token) == ""
        for forged in ("", "garbage", token[:-4] + "AAAA"):
            assert challenge(site, forged) == 'Bearer realm="registration", error="invalid_token"'


@pytest.mark.parametrize("max_uses", [None, 1, 2])
def test_token_registers_as_many_clients_as_it_may(site: Site, max_uses: int | None) -> None:
    handle = read_token(site.server, token_of(site, max_uses))
    assert handle
    for number in range(3):
        client = Client(f"c{number}", "C", ())
        if max_uses is None or number < max_uses:
            assert store_with_token(site.server, handle, client).registered_with == handle.id
        else:
            with pytest.raises(InvalidToken):
                store_with_token(site.server, handle, client)
            assert site.server.store.clients.get(client.client_id) is None


def test_token_that_has_expired_or_was_revoked_registers_none(site: Site) -> None:
    handles = [read_token(site.server, token_of(site)) for _ in range(2)]
    expired, revoked = handles
    assert expired
    assert revoked
    site.server.store.registration_tokens.transition((revoked.id,), None, {"revoked_at": 1})
    with pytest.raises(InvalidToken):
        store_with_token(site.server, revoked, Client("c", "C", ()))
    site.clock.advance(60)
    with pytest.raises(InvalidToken):
        store_with_token(site.server, expired, Client("c", "C", ()))
    assert site.server.store.clients.get("c") is None


# ---- changes by the client itself

URIS = ["https://app.example.com/cb"]


@pytest.fixture
def registering(site: Site) -> Site:
    """Return the site with the address that responses name, which its routes give to a running server."""
    site.server = replace(site.server, addresses={"registration_endpoint": "/oauth2/register"})
    return site


def register(site: Site, method: str) -> tuple[Client, str, str | None]:
    """Return a new client, its registration access token and its secret."""
    client, response = new_client(site.server, body(method))
    store_new(site.server, client)
    return client, note(site, response["registration_access_token"]), note(site, response.get("client_secret"))


def note(site: Site, secret: Any) -> Any:
    if secret:
        site.secrets.add(secret)
    return secret


def body(method: str, **more: Any) -> dict[str, Any]:
    keys = {"jwks": key_pair().jwks} if method == "private_key_jwt" else {}
    return {"redirect_uris": URIS, "token_endpoint_auth_method": method, **keys, **more}


def change(site: Site, client: Client, token: str, method: str, **more: Any) -> tuple[Client, str, str | None]:
    """Update a client; return its record, the new token, and the secret in the response."""
    sent = body(method, client_id=client.client_id, **more)
    changed, response = update(site.server, client, token, sent)
    return changed, note(site, response["registration_access_token"]), note(site, response.get("client_secret"))


@pytest.mark.parametrize("method", ["none", "private_key_jwt"])
def test_client_that_sends_no_secret_has_none(registering: Site, method: str) -> None:
    client, token, secret = register(registering, "client_secret_basic")
    assert secret
    assert client.secret_hashes == (secret_hash(secret),)
    client, token, secret = change(registering, client, token, method)
    assert (client.secret_hashes, secret) == ((), None)
    client, token, secret = change(registering, client, token, method)
    assert (client.secret_hashes, secret) == ((), None)
    client, token, secret = change(registering, client, token, "client_secret_post")
    assert secret
    assert client.secret_hashes == (secret_hash(secret),)
    client, _, secret = register(registering, method)
    assert (client.secret_hashes, secret) == ((), None)


def test_response_says_when_a_secret_expires_only_where_there_is_one(registering: Site) -> None:
    for method, shown in (("client_secret_basic", True), ("none", False)):
        _, response = new_client(registering.server, body(method))
        note(registering, response["registration_access_token"])
        note(registering, response.get("client_secret"))
        assert ("client_secret" in response, "client_secret_expires_at" in response) == (shown, shown)


def test_update_keeps_the_secret_unless_its_answer_may_have_been_lost(registering: Site) -> None:
    client, token, secret = register(registering, "client_secret_basic")
    assert secret
    first, newer, shown = change(registering, client, token, "client_secret_basic")
    assert (first.secret_hashes, shown) == (client.secret_hashes, None)
    again, _, shown = change(registering, first, token, "client_secret_basic", client_secret=secret)
    assert (again.secret_hashes, shown) == (client.secret_hashes, None), "the client has its secret"
    again, _, shown = change(registering, again, token, "client_secret_basic")
    assert shown
    assert again.secret_hashes == (secret_hash(secret), secret_hash(shown))
    assert newer != token
    with pytest.raises(InvalidClientMetadata, match="client_secret in the body"):
        change(registering, again, token, "client_secret_basic", client_secret="other")


def test_only_a_client_that_has_registered_itself_has_a_token(registering: Site) -> None:
    client, token, _ = register(registering, "none")
    assert authenticate(registering.server, client.client_id, token) == client
    refused: list[tuple[dict[str, Any], str | None]] = [
        ({}, None),
        ({}, ""),
        ({}, "other"),
        ({"registered_with": None}, token),
        ({"disabled_at": 1}, token),
        ({"registration_token_hash": None}, ""),
        ({"registration_token_hash": None}, None),
    ]
    for members, presented in refused:
        registering.server.store.clients.put(replace(client, **members))
        with pytest.raises(InvalidToken):
            authenticate(registering.server, client.client_id, presented)
    for client_id in (None, "", "unknown"):
        with pytest.raises(InvalidToken):
            authenticate(registering.server, client_id, token)


def test_random_id_that_exists_is_not_replaced(registering: Site) -> None:
    client, _, _ = register(registering, "none")
    with pytest.raises(TemporarilyUnavailable):
        store_new(registering.server, replace(client, client_name="Other"))
    assert registering.server.store.clients.get(client.client_id) == client
