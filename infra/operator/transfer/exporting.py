"""`signet export`: the records of a stage as JSON lines."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import IO, Any

import click

from chalicelib.aws.client import AwsError
from chalicelib.builtin_clients import RESERVED
from chalicelib.protocol.client_document import BLOCKED_HOSTS, is_document_url
from chalicelib.storage.store import Store
from chalicelib.storage.table import Table
from infra.operator.commands import CommandError, example, open_store
from infra.operator.grants import remembered_consents
from infra.operator.terminal import progress
from infra.operator.transfer.json_lines import Record, end_line, header_line, record_line


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
        with progress(_records(store), _size(store), "Exporting") as shown_records:
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
    yield from chain(store.all_resources(), store.all_authorization_types(), store.users.scan(), store.passkeys.scan())
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
