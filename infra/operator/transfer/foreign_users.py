"""Users of other servers: read Cognito's user export or Keycloak's realm, and check what was converted.

Data that Signet does not support (roles, custom attributes, second factors) is counted and reported. The `sub` is kept
if the file has one, because applications identify users by it. So are the groups of Keycloak.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from chalicelib.protocol.custom_claims import check_groups, freeze
from chalicelib.protocol.identifiers import username_identifier
from chalicelib.protocol.records import User
from chalicelib.users import accounts
from infra.operator.transfer import cognito, keycloak
from infra.operator.transfer.json_lines import Entry


@dataclass(frozen=True)
class Format:
    """A format: `read` yields the users in a file, and `convert` returns one as a record.

    `is_federated` says whether a user signs in at another provider, so that native users come before.
    """

    read: Callable[[Path], Iterator[tuple[str, dict[str, Any]]]]
    convert: Callable[[dict[str, Any], int, Counter[str]], User]
    is_federated: Callable[[dict[str, Any]], bool] = lambda _: False


FORMATS = {
    "cognito": Format(cognito.read, cognito.convert, cognito.is_federated),
    "keycloak": Format(keycloak.read, keycloak.convert),
}


@dataclass
class ForeignUsers:
    """The users in a file of another server. `left_behind` counts their unsupported data by name."""

    path: Path
    now: int
    left_behind: Counter[str] = field(default_factory=Counter)

    def read(self, format_: str) -> list[Entry]:
        """Return an entry for each user in the file, federated ones last.

        Raises ValueError when it has another format.
        """
        form = FORMATS[format_]
        try:
            users = sorted(form.read(self.path), key=lambda placed: form.is_federated(placed[1]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"it is not a user export of {format_.capitalize()} ({error})") from error
        return [self._entry(place, form, user) for place, user in users]

    def _entry(self, place: str, form: Format, source: dict[str, Any]) -> Entry:
        try:
            user = form.convert(source, self.now, self.left_behind)
        except KeyError as error:
            return Entry(place, problem=f"{error.args[0]} is missing")
        except (ValueError, TypeError, AttributeError, IndexError) as error:
            return Entry(place, problem=f"it cannot be read ({error})")
        try:
            accounts.check_claims(user.claims)
            check_groups(user.groups)
        except ValueError as error:
            return Entry(place, problem=str(error).rstrip("."))
        return Entry(place, replace(user, claims=freeze(user.claims)))


def reject_duplicates(entries: list[Entry], existing: Iterator[User]) -> Iterator[Entry]:
    """Yield the entries, with a problem for each user whose username or email belongs to a user before.

    `existing`: the users that are stored; a username of theirs is only rejected when the user is inserted.
    """
    emails = {_email(user): user.sub for user in existing}
    names: dict[str, str] = {}
    for entry in entries:
        user = entry.record
        if not isinstance(user, User):
            yield entry
            continue
        email, name = _email(user), username_identifier(user.username)
        if names.get(name, user.sub) != user.sub:
            yield Entry(entry.place, problem=f"the username {user.username} belongs to another user")
        elif email and emails.get(email, user.sub) != user.sub:
            yield Entry(entry.place, problem=f"the email of {user.username} belongs to another user")
        else:
            names[name] = emails[email] = user.sub
            yield entry


def _email(user: User) -> str | None:
    email = user.claims.get("email")
    return email.casefold() if isinstance(email, str) else None
