"""What may be registered: clients (RFC 7591) and people. Used by the operator's command and the local server's demo.

A secret is returned once and stored as its SHA-256: it is 256 random bits, so nothing slower is needed.
"""

import secrets
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from chalicelib import passwords, signing
from chalicelib.claims import SCOPES
from chalicelib.client_metadata import SCOPE_TOKEN, check_client
from chalicelib.dynamodb import attr, possible_key
from chalicelib.errors import InvalidClientMetadata
from chalicelib.handles import new_id, secret_hash
from chalicelib.models import Client, Identifier, Scope, User
from chalicelib.settings import printable
from chalicelib.store import Store
from chalicelib.table import Refused

MAX_SECRETS = 2  # one, and the one that replaces it


def register_client(
    store: Store,
    *,
    client_name: str,
    redirect_uris: Iterable[str],
    public: bool = False,
    token_endpoint_auth_method: str = "client_secret_basic",  # noqa: S107
    client_id: str | None = None,
    client_secret: str | None = None,
    **members: Any,
) -> tuple[Client, str | None]:
    """Check and store a client; its record and, for a confidential one, its secret, which nobody can read again.

    `members` are further fields of Client. Raises InvalidRedirectUri and InvalidClientMetadata (RFC 7591 section
    3.2.2), the latter also when `client_id` is taken, by a client or as the `sub` of a person.
    """
    method = "none" if public else token_endpoint_auth_method
    secret = None if method == "none" else client_secret or secrets.token_urlsafe(32)
    client = Client(
        client_id=client_id or new_id(),
        client_name=client_name,
        redirect_uris=tuple(redirect_uris),
        token_endpoint_auth_method=method,
        secret_hashes=(secret_hash(secret),) if secret else (),
        client_id_issued_at=store.now(),
        **members,
    )
    check_client(client, signing.algorithms(store.settings))
    if client_id and store.users.get(client_id):  # RFC 9700 section 4.15: tokens of its own would be that person's
        raise InvalidClientMetadata(f"The client_id {client_id} is the sub of a person.")
    if not store.clients.insert(client):
        raise InvalidClientMetadata(f"A client with the id {client.client_id} exists already.")
    return client, secret


def update_client(store: Store, client: Client, change: Callable[[Client], Client]) -> Client:
    """Change a client by a function of its record; the record as it is then. A public one keeps no secret.

    What others change at the same time is not lost: the function is then given their result. Raises InvalidRedirectUri
    and InvalidClientMetadata, the latter also when the client is gone.
    """

    def checked(known: Client) -> Client:
        wanted = change(known)
        check_client(wanted, signing.algorithms(store.settings))
        return replace(wanted, secret_hashes=()) if wanted.public else wanted

    return _amend(store, client, checked)


def set_client_disabled(store: Store, client: Client, *, disabled: bool) -> Client:
    """Let a client do nothing more, or let it work again; the record. Raises InvalidClientMetadata when it is gone."""
    now = store.now()
    # Not checked: one that could not be registered today can be disabled all the same.
    return _amend(
        store, client, lambda known: replace(known, disabled_at=(known.disabled_at or now) if disabled else None)
    )


def _amend(store: Store, client: Client, change: Callable[[Client], Client]) -> Client:
    changed = store.amend(store.clients, client, change)
    if isinstance(changed, Refused):
        raise InvalidClientMetadata(f"The client {client.client_id} is not there any more.")
    return changed


def check_scope(scope: Scope) -> None:
    """Raises InvalidClientMetadata unless it is a scope of the operator's own, in words that a page can show."""
    if not SCOPE_TOKEN.fullmatch(scope.scope):
        raise InvalidClientMetadata("A scope has 1 to 128 characters, with no space and no quotes (RFC 6749 3.3).")
    if scope.scope in SCOPES:
        raise InvalidClientMetadata(f"{scope.scope} is a standard scope, which the pages describe themselves.")
    if not printable(scope.description):
        raise InvalidClientMetadata("The description must have 1 to 200 printable characters.")


def rotate_secret(store: Store, client: Client, *, drop_old: bool = False) -> tuple[Client, str]:
    """Give a confidential client a second secret, or with `drop_old` one that alone counts; the record, and the secret.

    Raises InvalidClientMetadata when it is public, has two already, or has changed since it was read.
    """
    if client.public:
        raise InvalidClientMetadata(f"{client.client_id} is a public client, which keeps no secret.")
    if len(client.secret_hashes) >= MAX_SECRETS and not drop_old:
        raise InvalidClientMetadata(f"{client.client_id} has two secrets already: drop the older one first, or both.")
    secret = secrets.token_urlsafe(32)
    kept = () if drop_old else client.secret_hashes
    return _with_secrets(store, client, (*kept, secret_hash(secret))), secret


def drop_old_secrets(store: Store, client: Client) -> Client:
    """Let only the newest secret of a client count; its record.

    Raises InvalidClientMetadata when it has no second one, or has changed since it was read.
    """
    if len(client.secret_hashes) < MAX_SECRETS:
        raise InvalidClientMetadata(f"{client.client_id} has no second secret.")
    return _with_secrets(store, client, client.secret_hashes[-1:])


def _with_secrets(store: Store, client: Client, secret_hashes: tuple[str, ...]) -> Client:
    unchanged = attr("secret_hashes").eq(client.secret_hashes)
    changed = store.clients.transition((client.client_id,), unchanged, {"secret_hashes": secret_hashes})
    if isinstance(changed, Refused):
        raise InvalidClientMetadata(f"The secrets of {client.client_id} have changed meanwhile.")
    return changed


def username_identifier(username: str) -> str:
    """The key under which a username is found: case and width do not matter (RFC 8265 section 3.3)."""
    return "username:" + unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", username).casefold())


def check_username(username: str) -> None:
    """Raises ValueError, with a sentence for the operator, unless a person may have this username."""
    if not printable(username) or username != username.strip():
        raise ValueError("The username must have 1 to 200 printable characters, and no space around it.")
    if not possible_key((username_identifier(username),)):  # a few characters have compatibility forms of a dozen
        raise ValueError("The username is too long.")


def check_password(password: str | None) -> None:
    """Raises ValueError, with a sentence for the operator, unless a person may have this password, if one is given."""
    if password is not None and (problem := passwords.problem_with(password)):
        raise ValueError(f"The password is not acceptable. {problem}")


def register_user(
    store: Store,
    *,
    username: str,
    password: str | None = None,
    claims: dict[str, Any] | None = None,
    admin: bool = False,
) -> tuple[User, str | None]:
    """Store a person; the record and, when no password was given, the random one, to be replaced at the first sign-in.

    Raises ValueError with a sentence for the operator when the username is taken or not acceptable, or the password
    is too short.
    """
    check_username(username)
    check_password(password)
    made = passwords.new_password() if password is None else None
    user = User(
        sub=new_id(),
        username=username,
        password_hash=passwords.hash_password(made or password or ""),
        claims=claims or {},
        admin=admin,
        password_change_required=made is not None,
        created_at=store.now(),
    )
    taken = store.transact(
        store.identifiers.inserting(Identifier(username_identifier(username), user.sub)),
        store.users.inserting(user),
    )
    if taken:
        raise ValueError(f"The username {username} is taken.")
    return user, made
