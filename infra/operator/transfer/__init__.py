"""`signet export` and `signet import`: clients, users, passkeys, consents, scopes and resources as JSON lines.

The first line has the version, the last line the number of records, so that an incomplete file is recognized. An export
is written to a temporary file, which replaces the target when it is complete. An import adds missing records, skips
existing ones, and changes none, so that an interrupted import can be run again.
"""

import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, groupby, islice
from pathlib import Path
from typing import IO, Any

import click

from chalicelib import events
from chalicelib.aws.client import AwsError
from chalicelib.builtin_clients import RESERVED
from chalicelib.events import log as event_log
from chalicelib.protocol.client import Client
from chalicelib.protocol.client_document import BLOCKED_HOSTS, is_document_url
from chalicelib.protocol.errors import TemporarilyUnavailable
from chalicelib.protocol.records import User
from chalicelib.protocol.resource import Resource
from chalicelib.storage.store import Store
from chalicelib.storage.table import Table
from infra.operator.commands import CommandError, example, open_store
from infra.operator.grants import remembered_consents
from infra.operator.terminal import print_json, visible
from infra.operator.transfer.foreign_users import FORMATS, ForeignUsers, reject_duplicates
from infra.operator.transfer.insertion import insert_record, without_expensive_hash
from infra.operator.transfer.json_lines import KINDS, Entry, Record, end_line, header_line, parse_entries, record_line
from infra.operator.transfer.passkey_records import domain_in, passkey_domain
from infra.operator.transfer.second_factor import NO_SECOND_FACTOR, is_readable
from infra.operator.transfer.shared_records import Outcome

WORKERS = 8
BATCH = 64
RETRY = "Run the import again: existing records are skipped."


# ---- export


@click.command("export", epilog=example("export --stage prod --with-password-hashes --out backup.jsonl"))
@click.option(
    "--with-password-hashes", "hashes", is_flag=True, help="Include the hashes of passwords and client secrets."
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="The file to write, by default standard output."
)
@click.pass_obj
def export(stage: str, /, hashes: bool, out: Path | None) -> None:
    """Write clients, users, their passkeys, consents, scopes and resources as JSON lines.

    Without --with-password-hashes, users need a new password after an import, and clients a new secret. Passwords and
    secrets themselves are never exported. An interrupted export does not change FILE: run it again.
    """
    with open_store(stage) as store, _open_output(out) as file:
        print(header_line(store.settings.stage, store.now(), hashes), file=file)
        count = 0
        with _progress(_records(store), _size(store), "Exporting") as shown_records:
            for record in shown_records:
                print(record_line(record, hashes), file=file)
                count += 1
        print(end_line(count), file=file)


@contextmanager
def _open_output(out: Path | None) -> Iterator[IO[str]]:
    """Yield standard output, or a private temporary file that replaces `out` when it is complete."""
    if out is None:
        yield sys.stdout
        return
    try:
        # The name is random, so that neither another export nor another user can have created the file.
        handle, name = tempfile.mkstemp(".part", f"{out.name}.", out.parent)
        part = Path(name)
        try:
            with open(handle, "w", encoding="utf-8") as file:
                yield file
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(f"{out} cannot be written ({error.strerror}).") from error


def _records(store: Store) -> Iterator[Record]:
    """Yield the exported records: consents last, because they need their clients and users.

    Only the consents that count are exported, to registered clients.
    """
    consents = (consent for consent in store.consents.scan() if consent.client_id not in RESERVED)
    # Key sets in the same table are not exported: they are fetched again.
    documents = (each for each in store.documents.scan() if is_document_url(each.document_id))
    hosts = filter(None, (store.blocked_hosts.get(BLOCKED_HOSTS),))
    yield from chain(store.scopes.scan(), store.clients.scan(), documents, hosts)
    yield from chain(store.resources.scan(), store.users.scan(), store.passkeys.scan())
    yield from remembered_consents(store, consents)


def _size(store: Store) -> int:
    """Return the approximate number of records, which DynamoDB updates every six hours."""
    sizes = []
    tables: tuple[Table[Any], ...] = (
        *(store.scopes, store.clients, store.documents, store.resources, store.users, store.passkeys, store.consents),
    )
    for table in tables:
        with suppress(AwsError):
            described = store.dynamodb.client.call("DescribeTable", TableName=table.name)["Table"]
            sizes.append(described.get("ItemCount", 0))
    return sum(sizes)


def _progress(items: Iterable[Any], length: int, label: str) -> Any:
    """Return a progress bar on standard error, hidden unless that is a terminal."""
    return click.progressbar(items, length, label, file=sys.stderr, hidden=not sys.stderr.isatty(), show_pos=True)


# ---- import


@dataclass
class Tally:
    """The results of an import. The fields are also the members of the JSON output."""

    added: Counter[str] = field(default_factory=Counter)
    there: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    new_passwords: list[str] = field(default_factory=list)
    new_secrets: list[str] = field(default_factory=list)
    no_second_factor: list[str] = field(default_factory=list)
    left_behind: Counter[str] = field(default_factory=Counter)
    passkey_domains: Counter[str] = field(default_factory=Counter)

    def count(self, entry: Entry, outcome: Outcome) -> None:
        """Count the outcome of an entry, and list the users and clients without a credential."""
        record = entry.record if outcome.added else outcome.existing
        if record is None:
            self.problems.append(f"{entry.place}: {outcome.problem}")
            return
        (self.added if outcome.added else self.there)[KINDS[type(record)]] += 1
        if domain := domain_in(record):
            self.passkey_domains[domain] += 1
        if isinstance(record, User) and not record.password_hash:
            self.new_passwords.append(record.username)
        if isinstance(record, Client) and record.has_secret_method and not record.secret_hashes:
            self.new_secrets.append(record.client_id)

    @property
    def document(self) -> dict[str, Any]:
        """Return the members of the JSON output."""
        return {**vars(self), "left_behind": {name: count for name, count in self.left_behind.items() if count}}


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
            with _progress(usable, length, "Importing") as shown_entries:
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
        _show(tally)
        _warn_of_domains(tally.passkey_domains, domain)
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


def _show(tally: Tally) -> None:
    for problem in tally.problems:
        print(visible(problem), file=sys.stderr)
    print(f"Added: {_kinds(tally.added)}. Already existing: {_kinds(tally.there)}.")
    if unsupported := tally.document["left_behind"]:
        names = ", ".join(f"{visible(name)} ({count})" for name, count in unsupported.items())
        print(f"Not imported, because Signet does not support it: {names}.")
    if users := tally.new_passwords:
        print(f"Without a password, {len(users)} (`signet user set-password`):", *map(visible, users), sep="\n  ")
    if users := tally.no_second_factor:
        reason = (
            "because it was sealed for another stage or key ring; they sign in without it, and must set it up again"
        )
        print(f"Without the second factor, {len(users)}, {reason}:", *map(visible, users), sep="\n  ")
    if clients := tally.new_secrets:
        print(f"Without a secret, {len(clients)} (`signet client rotate-secret`):", *map(visible, clients), sep="\n  ")


def _warn_of_domains(domains: Counter[str], domain: str | None) -> None:
    """Say which passkeys belong to another domain than `domain`, that of this stage, None if it is unknown."""
    for name, count in sorted(domains.items()):
        if domain is not None and name != domain:
            passkeys = f"{count} passkeys belong" if count > 1 else "1 passkey belongs"
            print(f"{passkeys} to {visible(name)}, not to {domain}, and cannot be used here: see docs/passkeys.md.")


def _kinds(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" + ("s" if count > 1 else "") for kind, count in counts.items()) or "none"
