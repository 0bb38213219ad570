"""The checks of authorization details types (RFC 9396), and of the clients that may ask for them."""

from chalicelib.protocol.authorization_type import AuthorizationType, type_key
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import InvalidClientMetadata
from chalicelib.protocol.scopes import SCOPE_TOKEN
from chalicelib.protocol.texts import is_printable
from chalicelib.storage.store import Store

MAX_TYPES = 20  # of a client
MAX_MEMBERS = 30
MAX_MEMBER = 64
NAMES = "authorization_details_types"


def check_type(type_: AuthorizationType) -> None:
    """Check a type that the operator registers. Raises InvalidClientMetadata."""
    if not SCOPE_TOKEN.fullmatch(type_.name):
        raise InvalidClientMetadata("A type must have 1 to 128 ASCII characters, without spaces or quotes.")
    if type_.resource_id != type_key(type_.name):
        raise InvalidClientMetadata(f"The resource_id of the type must be {type_key(type_.name)!r}.")
    if not is_printable(type_.text):
        raise InvalidClientMetadata("The text must have 1 to 200 printable characters.")
    names = [member.partition("=")[0] for member in type_.members]
    if len(names) > MAX_MEMBERS or len({*names}) < len(names):
        raise InvalidClientMetadata(f"A type has at most {MAX_MEMBERS} different members.")
    for name, label in type_.labels.items():
        if name == "type" or not SCOPE_TOKEN.fullmatch(name) or len(name) > MAX_MEMBER:
            raise InvalidClientMetadata(f"{name!r} cannot be a member: it has 1 to {MAX_MEMBER} ASCII characters.")
        if not is_printable(label):
            raise InvalidClientMetadata(f"The label of {name} must have 1 to 200 printable characters.")
    if unknown := sorted(type_.required - {*names}):
        raise InvalidClientMetadata(f"{unknown[0]} is required, but no member of the type.")


def check_types_of_client(client: Client) -> None:
    """Check the types that a client may ask for; they need not be registered. Raises InvalidClientMetadata."""
    types = client.authorization_details_types or ()
    if len(types) > MAX_TYPES:
        raise InvalidClientMetadata(f"A client has at most {MAX_TYPES} {NAMES}.")
    if len({*types}) < len(types):
        raise InvalidClientMetadata(f"One of the {NAMES} is named twice.")
    if not all(SCOPE_TOKEN.fullmatch(name) for name in types):
        raise InvalidClientMetadata(f"Each of the {NAMES} must have 1 to 128 ASCII characters, without spaces.")


def self_registered_types(store: Store, body: dict[str, object]) -> tuple[str, ...] | None:
    """Return the types that a registration names (RFC 9396 section 10), None for none.

    Raises InvalidClientMetadata for a type that is not open to clients that register themselves.
    """
    names = body.get(NAMES, [])
    if not isinstance(names, list) or not all(isinstance(name, str) and SCOPE_TOKEN.fullmatch(name) for name in names):
        raise InvalidClientMetadata(f"The {NAMES} must be an array of names of types.")
    types = tuple(dict.fromkeys(names))
    if len(types) > MAX_TYPES:
        raise InvalidClientMetadata(f"A client has at most {MAX_TYPES} different {NAMES}.")
    registered = store.read(*(store.authorization_types.lookup(type_key(name)) for name in types))
    for name, type_ in zip(types, registered, strict=True):
        if type_ is None or not type_.self_registered:
            raise InvalidClientMetadata(f"A client that registers itself cannot have the type {name}.")
    return types or None
