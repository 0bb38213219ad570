"""`signet import`: clients, users, passkeys, consents, scopes and resources as JSON lines; `exporting` writes them.

The first line has the version, the last line the number of records, so that an incomplete file is recognized. An export
is written to a temporary file, which replaces the target when it is complete. An import adds missing records, skips
existing ones, and changes none, so that an interrupted import can be run again.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import groupby, islice
from pathlib import Path

import click

from chalicelib import events
from chalicelib.events import log as event_log
from chalicelib.protocol.client import Client
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.protocol.records import User
from chalicelib.protocol.resource import Resource
from chalicelib.storage.store import Store
from infra.operator.commands import CommandError, example, open_store
from infra.operator.terminal import print_json, progress
from infra.operator.transfer.exporting import export as export
from infra.operator.transfer.foreign_users import FORMATS, ForeignUsers, reject_duplicates
from infra.operator.transfer.insertion import insert_record, without_expensive_hash
from infra.operator.transfer.json_lines import Entry, parse_entries
from infra.operator.transfer.outcome import Outcome
from infra.operator.transfer.passkey_records import passkey_domain
from infra.operator.transfer.second_factor import NO_SECOND_FACTOR, is_readable
from infra.operator.transfer.tally import Tally, show

WORKERS = 8
BATCH = 64
RETRY = "Run the import again: existing records are skipped."


@click.command("import", epilog=example("import backup.jsonl --stage prod", "import --format keycloak realm.json"))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--format",
    "format_",
    type=click.Choice(["signet", *FORMATS]),
    default="signet",
    show_default=True,
    help="Signet's export; Cognito's CSV or list-users JSON; Keycloak's realm JSON.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def import_(stage: str, /, file: Path, format_: str, as_json: bool) -> int:
    """Add the clients, users, passkeys, consents, scopes and resources in FILE. Existing records are not changed.

    Each record that cannot be added is reported with its line, and the exit code is then 1. After an interruption, run
    the command again. Users and clients without a password or secret are listed; set new ones with `signet user
    set-password` and `signet client rotate-secret`.
    """
    tally = Tally()
    with open_store(stage) as store:
        try:
            entries, length = _read(file, format_, store, tally)
            usable = map(partial(_with_second_factor, store, tally), map(_with_new_password, entries))
            with progress(usable, length, "Importing") as shown_entries:
                _insert_all(store, shown_entries, tally)
            domain = passkey_domain(store) if tally.passkey_domains else None
        except KeyboardInterrupt as interrupt:
            raise CommandError("Interrupted. " + RETRY) from interrupt
        except ValueError as error:
            raise CommandError(f"{file} cannot be imported: {error}.") from error
        except OSError as error:
            raise CommandError(f"{file} cannot be read ({error.strerror}).") from error
    if as_json:
        print_json(tally.document)
    else:
        show(tally, domain)
    return 1 if tally.problems else 0


def _read(file: Path, format_: str, store: Store, tally: Tally) -> tuple[Iterable[Entry], int]:
    """Return the entries of a file, and their approximate number."""
    if format_ == "signet":
        with file.open("rb") as lines:
            length = sum(1 for _ in lines)
        return _read_export(file), length
    users = ForeignUsers(file, store.now(), tally.left_behind).read(format_)
    return reject_duplicates(users, store.users.scan()), len(users)


def _read_export(file: Path) -> Iterator[Entry]:
    """Yield the entries of an export, reading the file lazily."""
    with file.open(encoding="utf-8") as lines:
        yield from parse_entries(lines)


def _with_new_password(entry: Entry) -> Entry:
    """Return an entry, whose user needs a new password if the hash is too expensive to verify."""
    record = entry.record
    return replace(entry, record=without_expensive_hash(record)) if isinstance(record, User) else entry


def _with_second_factor(store: Store, tally: Tally, entry: Entry) -> Entry:
    """Return an entry, whose user has no second factor if this stage cannot read its secret."""
    user = entry.record
    if not isinstance(user, User) or user.totp_secret is None or is_readable(store, user):
        return entry
    tally.no_second_factor.append(user.username)
    return replace(entry, record=replace(user, **NO_SECOND_FACTOR))


def _insert_all(store: Store, entries: Iterable[Entry], tally: Tally) -> None:
    """Insert several records at a time, but one kind after the other: a consent needs its user and its client."""
    with ThreadPoolExecutor(WORKERS) as pool:
        for _, group in groupby(entries, lambda entry: type(entry.record)):
            while batch := list(islice(group, BATCH)):
                try:
                    for entry, outcome in zip(batch, pool.map(partial(_insert, store), batch), strict=True):
                        tally.count(entry, outcome)
                except TemporarilyUnavailable as error:
                    message = f"Stopped at {batch[0].place} because DynamoDB does not respond. {RETRY}"
                    raise CommandError(message) from error


def _insert(store: Store, entry: Entry) -> Outcome:
    if entry.record is None:
        return Outcome(problem=entry.problem)
    outcome = insert_record(store, entry.record)
    if outcome.added and isinstance(entry.record, Client):
        event_log.log_event(store.settings, events.CLIENT_CHANGED, client_id=entry.record.client_id, detail="imported")
    elif outcome.added and isinstance(entry.record, Resource):
        event_log.log_event(store.settings, events.RESOURCE_CHANGED, detail=f"{entry.record.uri}: imported")
    elif outcome.added and isinstance(entry.record, User):
        event_log.log_event(store.settings, events.USER_CHANGED, sub=entry.record.sub, detail="imported")
    return outcome
