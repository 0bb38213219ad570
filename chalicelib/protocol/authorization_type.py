"""The record of an authorization details type (RFC 9396 section 2.1), with the conventions of `protocol.records`.

It is in the table of resources: the metadata lists both, and reads them in one call.
"""

from functools import cached_property

from chalicelib.protocol.texts import Text
from chalicelib.protocol.values import dataclass

# The members that RFC 9396 section 2.2 defines, as users read them. All are arrays of strings, except for one string.
COMMON_LABELS = {
    "locations": Text("Where"),
    "actions": Text("Actions"),
    "datatypes": Text("Data"),
    "identifier": Text("Identifier"),
    "privileges": Text("Privileges"),
}
IDENTIFIER = "identifier"
ARRAYS = frozenset(COMMON_LABELS) - {IDENTIFIER}
_PREFIX = "authorization_type "  # no URI has a space


@dataclass(frozen=True)
class AuthorizationType:
    """A type of authorization details that the operator has registered.

    `text`: what an application may do with it, for users. `uri`: of the only resource whose access tokens have such
    details, "" for any. `members`: those that its objects may have, each followed by "=" and a label for users if it
    has one. `required`: those that they must have. `self_registered`: whether clients that register themselves may
    ask for it.
    """

    resource_id: str
    name: str
    text: str = ""
    uri: str = ""
    members: tuple[str, ...] = ()
    required: frozenset[str] = frozenset()
    self_registered: bool = False

    @cached_property
    def labels(self) -> dict[str, str]:
        """The members in the order in which users read them, each with its label."""
        pairs = (member.partition("=")[::2] for member in self.members)
        return {name: label or COMMON_LABELS.get(name) or in_words(name) for name, label in pairs}


def type_key(name: str) -> str:
    """Return the key of the record of a type, which is the URI of no resource."""
    return _PREFIX + name


def is_type_key(resource_id: str) -> bool:
    """Return whether a key of the table of resources is that of a type."""
    return resource_id.startswith(_PREFIX)


def in_words(name: str) -> str:
    """Return the name of a member as words: "Instructed amount" for `instructedAmount` or `instructed_amount`."""
    spaced = "".join(f" {each.lower()}" if each.isupper() else each for each in name)
    words = " ".join(spaced.replace("_", " ").replace("-", " ").replace(".", " ").split())
    return words[:1].upper() + words[1:]
