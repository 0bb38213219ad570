"""Registering and changing clients (RFC 7591), for the operator's command and the local demo.

A secret is returned once and stored as its SHA-256: it has 256 random bits, so no slow hash is needed.
"""

import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from chalicelib.clients.metadata import is_resource_server
from chalicelib.clients.record_checks import check_record
from chalicelib.keys import signing
from chalicelib.keys.client_keys import read_jwks
from chalicelib.protocol.client import SECRET_METHODS, Client
from chalicelib.protocol.errors import InvalidClientMetadata
from chalicelib.protocol.handles import new_id, secret_hash
from chalicelib.protocol.resource_uris import normalize, spellings
from chalicelib.storage.dynamodb import attr
from chalicelib.storage.store import Store
from chalicelib.storage.table import Refused

MAX_SECRETS = 2  # the old and the new one, during a rotation


def register_client(
    store: Store,
    *,
    client_name: str,
    redirect_uris: Iterable[str],
    public: bool = False,
    token_endpoint_auth_methods: Iterable[str] = SECRET_METHODS,
    client_id: str | None = None,
    client_secret: str | None = None,
    **members: Any,
) -> tuple[Client, str | None]:
    """Check and store a client; return its record and, for a client that may send a secret, its secret.

    The secret cannot be read later. `members` are further fields of Client. Raises InvalidRedirectUri and
    InvalidClientMetadata (RFC 7591 section 3.2.2), the latter also when `client_id` is taken, by a client or as the
    `sub` of a user, or is the URI of a resource server in another spelling.
    """
    methods = ("none",) if public else tuple(token_endpoint_auth_methods)
    has_secret = not set(SECRET_METHODS).isdisjoint(methods)
    secret = client_secret or secrets.token_urlsafe(32) if has_secret else None
    client = Client(
        client_id=client_id or new_id(),
        client_name=client_name,
        redirect_uris=tuple(redirect_uris),
        token_endpoint_auth_method=next(iter(methods), ""),
        token_endpoint_auth_methods=methods,
        secret_hashes=(secret_hash(secret),) if secret else (),
        client_id_issued_at=store.now(),
        registration_id=new_id(),
        **members,
    )
    client = checked(store, client)
    if client_id:
        check_new_id(store, client_id)
    if not store.clients.insert(client):
        raise InvalidClientMetadata(f"A client with the id {client.client_id} already exists.")
    return client, secret


def check_new_id(store: Store, client_id: str) -> None:
    """Check that the id of a new client, which is not a random one, is not taken. Raises InvalidClientMetadata."""
    if is_resource_server(client_id):
        _check_spelling(store, client_id)
    if store.users.get(client_id):  # RFC 9700 section 4.15: its own tokens would name that user
        raise InvalidClientMetadata(f"The client_id {client_id} is the sub of a user. Choose another one.")


def _check_spelling(store: Store, uri: str) -> None:
    """Check that a resource server is found by every spelling of its URI. Raises InvalidClientMetadata."""
    normal = spellings(normalize(uri))
    if uri not in normal:
        raise InvalidClientMetadata(f"Write the client_id {uri} in its normal form: {normal[-1]}")
    for other in normal:
        if other != uri and store.clients.get(other):
            raise InvalidClientMetadata(f"The resource server {other} exists, which is the same URI as {uri}.")
    resource = store.resources.get(normalize(uri))
    if resource and resource.uri != uri:  # it introspects tokens whose audience is this spelling
        raise InvalidClientMetadata(f"The resource {resource.uri} exists, which is the same URI as {uri}.")


def checked(store: Store, client: Client) -> Client:
    """Check a client; return it with what is needed of its keys, and without secrets that it may not send.

    Raises InvalidRedirectUri and InvalidClientMetadata.
    """
    check_record(client, signing.algorithms(store.settings))
    if not client.has_secret_method:
        client = replace(client, secret_hashes=())
    return client if client.jwks is None else replace(client, jwks=read_jwks(client.jwks))


def update_client(store: Store, client: Client, change: Callable[[Client], Client]) -> Client:
    """Change a client by a function of its record, and return the new record.

    A client that may no longer send a secret loses its secrets.

    The function is called again with the current record if another request has changed it. Raises InvalidRedirectUri
    and InvalidClientMetadata, the latter also when the client no longer exists.
    """

    def change_and_check(current: Client) -> Client:
        changed = change(current)
        methods = changed.token_endpoint_auth_methods
        if methods != current.token_endpoint_auth_methods or (methods and changed.public != ("none" in methods)):
            changed = replace(changed, token_endpoint_auth_method=next(iter(methods), ""))
        return checked(store, changed)

    return _amend(store, client, change_and_check)


def set_client_disabled(store: Store, client: Client, *, disabled: bool) -> Client:
    """Disable a client, or enable it again; return the new record.

    Raises InvalidClientMetadata when it no longer exists.
    """
    now = store.now()
    # Not checked: a client that could no longer be registered can still be disabled.
    return _amend(
        store, client, lambda current: replace(current, disabled_at=(current.disabled_at or now) if disabled else None)
    )


def _amend(store: Store, client: Client, change: Callable[[Client], Client]) -> Client:
    changed = store.amend(store.clients, client, change)
    if isinstance(changed, Refused):
        raise InvalidClientMetadata(f"The client {client.client_id} no longer exists.")
    return changed


def end_all_grants(store: Store, client: Client) -> Client:
    """End all grants of a client and forget the consents for it, within a minute; return the new record.

    Raises InvalidClientMetadata when it no longer exists.
    """
    return _amend(store, client, lambda current: replace(current, grants_generation=current.grants_generation + 1))


def rotate_secret(store: Store, client: Client, *, drop_old: bool = False) -> tuple[Client, str]:
    """Give a confidential client a second secret; return the record and the secret.

    `drop_old` removes the other secrets. Raises InvalidClientMetadata when the client sends no secret, already has two
    secrets, or has been changed since it was read.
    """
    if client.public:
        raise InvalidClientMetadata(f"{client.client_id} is a public client, which has no secret.")
    if not client.has_secret_method:
        raise InvalidClientMetadata(f"{client.client_id} authenticates by its private key, and has no secret.")
    if len(client.secret_hashes) >= MAX_SECRETS and not drop_old:
        raise InvalidClientMetadata(
            f"{client.client_id} already has two secrets. Remove the older one (--finish) or both (--drop-old)."
        )
    secret = secrets.token_urlsafe(32)
    kept = () if drop_old else client.secret_hashes
    return _replace_secrets(store, client, (*kept, secret_hash(secret))), secret


def drop_old_secrets(store: Store, client: Client) -> Client:
    """Remove all secrets of a client except the newest; return its record.

    Raises InvalidClientMetadata when there is no second one, or the client has been changed since it was read.
    """
    if len(client.secret_hashes) < MAX_SECRETS:
        raise InvalidClientMetadata(f"{client.client_id} has no second secret.")
    return _replace_secrets(store, client, client.secret_hashes[-1:])


def _replace_secrets(store: Store, client: Client, secret_hashes: tuple[str, ...]) -> Client:
    unchanged = attr("secret_hashes").eq(client.secret_hashes)
    changed = store.clients.transition((client.client_id,), unchanged, {"secret_hashes": secret_hashes})
    if isinstance(changed, Refused):
        raise InvalidClientMetadata(f"The secrets of {client.client_id} were changed by another command. Try again.")
    return changed
