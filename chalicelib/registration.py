"""What may be registered: clients (RFC 7591) and people. Used by the operator's command and the local server's demo.

A secret is returned once and stored as its SHA-256: it is 256 random bits, so nothing slower is needed.
"""

import re
import secrets
import unicodedata
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

from chalicelib import passwords
from chalicelib.dynamodb import attr, possible_key
from chalicelib.errors import InvalidClientMetadata, InvalidRedirectUri
from chalicelib.handles import new_id, secret_hash
from chalicelib.models import Client, Identifier, User
from chalicelib.settings import LIMITS, LOOPBACK
from chalicelib.signing import ALGORITHMS
from chalicelib.store import Store
from chalicelib.table import Refused

# RFC 6749 section 3.3
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,128}")
# RFC 3986 section 2: what a URI is written with
_URI = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
# A host stands in the page's Content-Security-Policy, where other characters would mean something.
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
_DANGEROUS_SCHEMES = ("javascript", "data", "vbscript", "file", "about", "blob", "ftp")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
MAX_REDIRECT_URIS = 20
MAX_SCOPE_TOKENS = 100
MAX_SECRETS = 2  # one, and the one that replaces it


def register_client(
    store: Store,
    *,
    client_name: str,
    redirect_uris: Iterable[str],
    public: bool = False,
    client_id: str | None = None,
    client_secret: str | None = None,
    **members: Any,
) -> tuple[Client, str | None]:
    """Check and store a client; its record and, for a confidential one, its secret, which nobody can read again.

    `members` are further fields of Client. Raises InvalidRedirectUri and InvalidClientMetadata (RFC 7591 section
    3.2.2), the latter also when `client_id` is taken.
    """
    secret = None if public else client_secret or secrets.token_urlsafe(32)
    client = Client(
        client_id=client_id or new_id(),
        client_name=client_name,
        redirect_uris=tuple(redirect_uris),
        token_endpoint_auth_method="none" if public else "client_secret_basic",
        secret_hashes=(secret_hash(secret),) if secret else (),
        client_id_issued_at=store.now(),
        **members,
    )
    check_client(client)
    if not store.clients.insert(client):
        raise InvalidClientMetadata(f"A client with the id {client.client_id} exists already.")
    return client, secret


def check_client(client: Client) -> None:
    """Raises InvalidRedirectUri or InvalidClientMetadata, saying what is wrong with a client's registration."""
    if not client.client_name.strip() or len(client.client_name) > 200 or _UNPRINTABLE.search(client.client_name):
        raise InvalidClientMetadata("The name must have 1 to 200 printable characters.")
    if not re.fullmatch(r"[A-Za-z0-9._~-]{1,128}", client.client_id):
        raise InvalidClientMetadata("The client_id must have 1 to 128 letters, digits and ._~- characters.")
    if not 1 <= len(client.redirect_uris) <= MAX_REDIRECT_URIS or len(set(client.redirect_uris)) != len(
        client.redirect_uris
    ):
        raise InvalidRedirectUri(f"Register 1 to {MAX_REDIRECT_URIS} different redirect URIs.")
    for uri in client.redirect_uris:
        check_redirect_uri(uri)
    if client.default_redirect_uri is not None and client.default_redirect_uri not in client.redirect_uris:
        raise InvalidRedirectUri("The default redirect URI must be one of the registered ones.")
    for name in ("scope", "default_scope"):
        tokens = (getattr(client, name) or "").split(" ") if getattr(client, name) else []
        if len(tokens) > MAX_SCOPE_TOKENS or not all(_SCOPE_TOKEN.fullmatch(token) for token in tokens):
            raise InvalidClientMetadata(f"The {name} must be scope tokens separated by single spaces (RFC 6749 3.3).")
    if not client.scope or not client.default_scopes <= client.scopes:
        raise InvalidClientMetadata("The scope must not be empty, nor the default scope exceed it.")
    if client.id_token_signed_response_alg not in ALGORITHMS:
        raise InvalidClientMetadata("The id_token_signed_response_alg must be one of: " + ", ".join(ALGORITHMS))
    for name in ("authorization_code_lifetime", "access_token_lifetime", "refresh_token_lifetime"):
        (low, high), seconds = LIMITS[name], getattr(client, name)
        if seconds is not None and not low <= seconds <= high:
            raise InvalidClientMetadata(f"The {name} must be {low} to {high} seconds.")
    if client.public and not client.require_pkce:
        raise InvalidClientMetadata("A public client cannot do without PKCE.")
    if client.public and client.direct_sign_in:
        raise InvalidClientMetadata("Direct sign-in is for confidential clients.")


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


def check_redirect_uri(uri: str) -> None:
    """Raises InvalidRedirectUri unless answers may be sent there.

    https anywhere; http on a loopback address (RFC 8252 section 7.3) or localhost; or a scheme of the application's
    own, which has a dot (RFC 8252 section 7.1). Never a fragment (RFC 6749 section 3.1.2), nor user information.
    """
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidRedirectUri(f"{uri} is not a URI.") from error
    if not _URI.fullmatch(uri) or len(uri) > 2000 or not parts.scheme or "#" in uri or "@" in parts.netloc:
        raise InvalidRedirectUri("A redirect URI is an absolute URI of 2,000 characters at most, without a fragment.")
    if parts.scheme in ("http", "https"):
        local = parts.netloc.rsplit(":", 1)[0] in LOOPBACK or parts.netloc in LOOPBACK
        if not host or (parts.scheme == "http" and not local):
            raise InvalidRedirectUri(f"{uri} must be https (http is for 127.0.0.1, [::1] and localhost).")
        if not _HOST.fullmatch(host):
            raise InvalidRedirectUri(f"{uri} must name a host by letters, digits, hyphens and dots.")
        if any(unquote(segment) in (".", "..") for segment in parts.path.split("/")):
            raise InvalidRedirectUri("A redirect URI has no dot segments.")
    elif parts.scheme in _DANGEROUS_SCHEMES or "." not in parts.scheme:
        raise InvalidRedirectUri(f"{uri}: a scheme of an application's own is a reversed domain name (RFC 8252 7.1).")


def username_identifier(username: str) -> str:
    """The key under which a username is found: case and width do not matter (RFC 8265 section 3.3)."""
    return "username:" + unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", username).casefold())


def check_username(username: str) -> None:
    """Raises ValueError, with a sentence for the operator, unless a person may have this username."""
    if not username.strip() or username != username.strip() or len(username) > 200 or _UNPRINTABLE.search(username):
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
