"""`python -m infra export` and `import`: clients, users, consents and scopes as JSON lines, one object a line.

The first line tells the version, the last one the number of records, so that half a file is known for one. An export
is written beside its place and moved there when it is whole: one that was interrupted is simply run again. An import
adds what is missing, skips what is there, and never changes a record: run again, it goes on where it was interrupted.
"""

import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, groupby, islice
from pathlib import Path
from typing import IO, Any

import click
from botocore.exceptions import ClientError

from chalicelib import audit
from chalicelib.errors import TemporarilyUnavailable
from chalicelib.models import Client, User
from chalicelib.store import Store
from chalicelib.table import Table
from infra.commands import Refusal, example, storage
from infra.terminal import print_json, visible
from infra.transfer.foreign import People
from infra.transfer.lines import KINDS, Entry, Record, end, header, line_of
from infra.transfer.lines import entries as entries_of
from infra.transfer.newcomers import Outcome, add

WORKERS = 8
BATCH = 64
AGAIN = "Run it again: what is there already is skipped."


# ---- export


@click.command("export", epilog=example("--stage prod export --with-password-hashes --out backup.jsonl"))
@click.option("--with-password-hashes", "hashes", is_flag=True, help="With the hashes of passwords and client secrets.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="By default, standard output.")
@click.pass_obj
def export(stage: str, /, hashes: bool, out: Path | None) -> None:
    """Write clients, users, consents and scopes as JSON lines.

    Without --with-password-hashes, people need a new password after an import, and clients a new secret. Neither
    passwords nor secrets are ever in it. An interrupted export leaves FILE as it was: run it again.
    """
    with storage(stage) as store, _written(out) as file:
        print(header(store.settings.stage, store.now(), hashes), file=file)
        records: Iterable[Record] = chain.from_iterable(table.scan() for table in _tables(store))
        count = 0
        with _progress(records, _size(store), "Exporting") as shown:
            for record in shown:
                print(line_of(record, hashes), file=file)
                count += 1
        print(end(count), file=file)


@contextmanager
def _written(out: Path | None) -> Iterator[IO[str]]:
    """Standard output; or a file that takes its place when it is whole, for nobody else's eyes."""
    if out is None:
        yield sys.stdout
        return
    try:
        # A name that nobody knows: not another export's, nor one that somebody has laid there.
        handle, name = tempfile.mkstemp(".part", f"{out.name}.", out.parent)
        part = Path(name)
        try:
            with open(handle, "w", encoding="utf-8") as file:
                yield file
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise Refusal(f"{out} cannot be written ({error.strerror}).") from error


def _tables(store: Store) -> tuple[Table[Any], ...]:
    """What is exported, in this order: a consent comes after its client and its person."""
    return store.scopes, store.clients, store.users, store.consents


def _size(store: Store) -> int:
    """About how many records there are: DynamoDB counts every six hours."""
    sizes = []
    for table in _tables(store):
        with suppress(ClientError):
            sizes.append(store.dynamodb.client.describe_table(TableName=table.name)["Table"].get("ItemCount", 0))
    return sum(sizes)


def _progress(items: Iterable[Any], length: int, label: str) -> Any:
    """A progress bar on standard error, if people are looking."""
    return click.progressbar(items, length, label, file=sys.stderr, hidden=not sys.stderr.isatty(), show_pos=True)


# ---- import


@dataclass
class Tally:
    """What has become of a file's records."""

    added: Counter[str] = field(default_factory=Counter)
    there: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    new_passwords: list[str] = field(default_factory=list)
    new_secrets: list[str] = field(default_factory=list)
    left_behind: Counter[str] = field(default_factory=Counter)

    def count(self, entry: Entry, outcome: Outcome) -> None:
        """Note the outcome of one entry, and who lacks a credential now."""
        record = entry.record if outcome.added else outcome.there
        if record is None:
            self.problems.append(f"{entry.place}: {outcome.problem}")
            return
        (self.added if outcome.added else self.there)[KINDS[type(record)]] += 1
        if isinstance(record, User) and not record.password_hash:
            self.new_passwords.append(record.username)
        if isinstance(record, Client) and not record.public and not record.secret_hashes:
            self.new_secrets.append(record.client_id)

    @property
    def document(self) -> dict[str, Any]:
        """The members of the JSON answer."""
        return {**vars(self), "left_behind": {name: count for name, count in self.left_behind.items() if count}}


@click.command("import", epilog=example("--stage prod import backup.jsonl", "import --format keycloak realm.json"))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--format",
    "format_",
    type=click.Choice(["signet", "cognito", "keycloak"]),
    default="signet",
    show_default=True,
    help="Our own export; Cognito's CSV or list-users JSON; Keycloak's realm JSON.",
)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.pass_obj
def import_(stage: str, /, file: Path, format_: str, as_json: bool) -> int:
    """Add the clients, users, consents and scopes in FILE. What is there already is never changed.

    Whatever cannot be added is reported with its line. Run it again after an interruption: it goes on. The exit code is
    1 when there was a problem. All whose password or secret cannot be taken over are listed:
    `user set-password` and `client rotate-secret` give new ones.
    """
    tally = Tally()
    with storage(stage) as store:
        try:
            entries, length = _read(file, format_, store, tally)
            with _progress(entries, length, "Importing") as shown:
                _add_all(store, shown, tally)
        except KeyboardInterrupt as interrupt:
            raise Refusal("Interrupted. " + AGAIN) from interrupt
        except ValueError as error:
            raise Refusal(f"{file} cannot be imported: {error}.") from error
        except OSError as error:
            raise Refusal(f"{file} cannot be read ({error.strerror}).") from error
    if as_json:
        print_json(tally.document)
    else:
        _show(tally)
    return 1 if tally.problems else 0


def _read(file: Path, format_: str, store: Store, tally: Tally) -> tuple[Iterable[Entry], int]:
    """The entries of a file, and about how many they are."""
    if format_ == "signet":
        with file.open("rb") as lines:
            length = sum(1 for _ in lines)
        return lines_of(file), length
    people = People(file, store.now(), tally.left_behind).read(format_)
    return _with_addresses_of_their_own(store, people), len(people)


def lines_of(file: Path) -> Iterator[Entry]:
    """The entries of our own format, read as they are needed."""
    with file.open(encoding="utf-8") as lines:
        yield from entries_of(lines)


def _with_addresses_of_their_own(store: Store, people: list[Entry]) -> Iterator[Entry]:
    """No two people may come with one e-mail address: it is what they will be found by."""
    owners = {_address(user): user.sub for user in store.users.scan()}
    for entry in people:
        user = entry.record
        address = _address(user) if isinstance(user, User) else None
        if isinstance(user, User) and address and owners.setdefault(address, user.sub) != user.sub:
            yield Entry(entry.place, problem=f"the e-mail address of {user.username} is another person's")
        else:
            yield entry


def _address(user: User) -> str | None:
    email = user.claims.get("email")
    return email.casefold() if isinstance(email, str) else None


def _add_all(store: Store, entries: Iterable[Entry], tally: Tally) -> None:
    """Several at a time, but each kind after the other: a consent needs its person and its client."""
    with ThreadPoolExecutor(WORKERS) as pool:
        for _, alike in groupby(entries, lambda entry: type(entry.record)):
            while batch := list(islice(alike, BATCH)):
                try:
                    for entry, outcome in zip(batch, pool.map(partial(_add, store), batch), strict=True):
                        tally.count(entry, outcome)
                except TemporarilyUnavailable as error:
                    stopped = f"Stopped at {batch[0].place}, because DynamoDB does not answer. {AGAIN}"
                    raise Refusal(stopped) from error


def _add(store: Store, entry: Entry) -> Outcome:
    if entry.record is None:
        return Outcome(problem=entry.problem)
    outcome = add(store, entry.record)
    if outcome.added and isinstance(entry.record, Client):
        audit.log_event(store.settings, audit.CLIENT_CHANGED, client_id=entry.record.client_id, detail="imported")
    elif outcome.added and isinstance(entry.record, User):
        audit.log_event(store.settings, audit.USER_CHANGED, sub=entry.record.sub, detail="imported")
    return outcome


def _show(tally: Tally) -> None:
    for problem in tally.problems:
        print(visible(problem), file=sys.stderr)
    print(f"Added: {_kinds(tally.added)}. There already: {_kinds(tally.there)}.")
    if lost := tally.document["left_behind"]:
        names = ", ".join(f"{visible(name)} (of {count})" for name, count in lost.items())
        print(f"Left behind, because there is no place for it here: {names}.")
    for what, missing in (("a new password", tally.new_passwords), ("a new secret", tally.new_secrets)):
        if missing:
            print(f"In need of {what}, {len(missing)} in all:", *map(visible, missing), sep="\n  ")


def _kinds(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" + ("s" if count > 1 else "") for kind, count in counts.items()) or "none"
