"""`signet client documents|pin|unpin|block|unblock`: clients that name themselves by the URL of a document."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from chalicelib import events
from chalicelib.clients import document_control
from chalicelib.clients.documents import MAX_BYTES
from chalicelib.protocol.client_document import ClientDocument, is_on_host
from chalicelib.storage.store import Store
from infra.operator.commands import (
    CommandError,
    confirm,
    example,
    json_option,
    open_store,
    present_members,
    record_event,
    yes_option,
)
from infra.operator.terminal import print_json, print_record, print_table, time_text

_URL = "https://app.example.com/oauth/client.json"


@click.command("documents", epilog=example("client documents"))
@json_option
@click.pass_obj
def list_documents(stage: str, /, as_json: bool) -> None:
    """List the client metadata documents that were used, and what is blocked."""
    with open_store(stage) as store:
        records, hosts = document_control.read_documents(store), document_control.read_blocked_hosts(store)
    documents = [record for record in records if record.redirect_uris]
    blocked = sorted([*hosts, *(record.document_id for record in records if record.blocked_at is not None)])
    if as_json:
        shown = [members_of(document, hosts) for document in documents]
        print_json({"documents": shown, "blocked": blocked})
        return
    rows = [
        (
            document.document_id,
            document.client_name,
            time_text(document.first_seen_at),
            time_text(document.fetched_at),
            _state(document, hosts),
        )
        for document in documents
    ]
    print_table(("URL", "NAME", "FIRST SEEN", "LAST FETCHED", "STATE"), rows, "No document was used.")
    for each in blocked:
        click.echo(f"Blocked: {each}")


@click.command("pin", epilog=example(f"client pin {_URL} client.json"))
@click.argument("url")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
@click.pass_obj
def pin_document(stage: str, /, url: str, file: Path, as_json: bool) -> None:
    """Use FILE as the client metadata document at URL, which is then not fetched.

    For a website that rejects the requests of this server. The settings must still allow the URL.
    """
    with file.open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise CommandError(f"{file} has more than {MAX_BYTES} bytes.")
    with open_store(stage) as store:
        document = document_control.pin(store, url, content)
        _record(store, url, "document pinned")
    print_record(members_of(document), as_json)


@click.command("unpin", epilog=example(f"client unpin {_URL}"))
@click.argument("url")
@json_option
@click.pass_obj
def unpin_document(stage: str, /, url: str, as_json: bool) -> None:
    """Fetch the client metadata document at URL again when it is next used."""
    with open_store(stage) as store:
        document = document_control.unpin(store, url)
        _record(store, url, "document unpinned")
    print_record(members_of(document), as_json)


@click.command("block", epilog=example("client block app.example.com --yes", f"client block {_URL} --yes"))
@click.argument("blocked", metavar="URL|HOST")
@yes_option
@json_option
@click.pass_obj
def block_document(stage: str, /, blocked: str, yes: bool, as_json: bool) -> None:
    """Reject all requests of clients with this document, or with any at this host. Takes effect within a minute.

    Their grants are kept, and valid again after `client unblock`.
    """
    confirm(f"Reject all requests of clients with documents at {blocked}?", yes)
    with open_store(stage) as store:
        document_control.block(store, blocked)
        _record(store, blocked, "document blocked")
    _show(blocked, as_json, blocked=True)


@click.command("unblock", epilog=example("client unblock app.example.com"))
@click.argument("blocked", metavar="URL|HOST")
@json_option
@click.pass_obj
def unblock_document(stage: str, /, blocked: str, as_json: bool) -> None:
    """Accept clients with this document, or with any at this host, again."""
    with open_store(stage) as store:
        if not document_control.unblock(store, blocked):
            raise CommandError(f"{blocked} is not blocked.")
        _record(store, blocked, "document unblocked")
    _show(blocked, as_json, blocked=False)


def _show(name: str, as_json: bool, *, blocked: bool) -> None:
    if as_json:
        print_json({"name": name, "blocked": blocked})
    else:
        click.echo(f"{'Blocked' if blocked else 'Unblocked'} {name}.")


def members_of(document: ClientDocument, blocked_hosts: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return a document with its times, for the operator."""
    members = {"url": document.document_id, **asdict(document), "blocked": _is_blocked(document, blocked_hosts) or None}
    return present_members(members, "document_id", "digest", "refreshing_until", "blocked_at")


def _is_blocked(document: ClientDocument, hosts: frozenset[str]) -> bool:
    return document.blocked_at is not None or is_on_host(document.document_id, hosts)


def _state(document: ClientDocument, hosts: frozenset[str]) -> str:
    states = {"blocked": _is_blocked(document, hosts), "pinned": document.pinned_at is not None}
    return ", ".join(state for state, holds in states.items() if holds)


def _record(store: Store, about: str, detail: str) -> None:
    record_event(store, events.CLIENT_CHANGED, detail=f"{about}: {detail}")
