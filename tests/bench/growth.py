"""How the cost of a request depends on the number of records, and on the number of grants in a session."""

from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from statistics import median
from typing import Any

from chalicelib.storage.attribute_values import pack
from tests.bench import flow
from tests.bench.endpoints import LOG, Bench, Endpoint
from tests.bench.services import Copy

RECORDS = (1, 1_000, 100_000)
GRANTS = (1, 1_000)
# What tells two records of a kind apart. The copies of a grant belong to other sessions and users.
COPIED = {
    "users": ("sub", "username"),
    "clients": ("client_id",),
    "consents": ("sub", "client_id"),
    "sessions": ("session_id", "sub"),
    "grants": ("grant_id", "session_id", "sub"),
}

Rows = dict[int, dict[str, Endpoint]]


def by_records(bench: Bench, copy: Copy, sizes: tuple[int, ...], repetitions: int) -> Rows:
    """Return the costs of each endpoint by the number of records of each kind of COPIED."""
    rows: Rows = {}
    stored = 1
    with redirect_stdout(LOG):
        bench.warm()
        templates = _templates(bench)
        for size in sizes:
            for kind, (table, item) in templates.items():
                if size > stored:
                    copy(table, item, COPIED[kind], size)
            stored = size
            rows[size] = _measure(bench, bench.visit, repetitions)
    return rows


def by_grants(bench: Bench, copy: Copy, sizes: tuple[int, ...], repetitions: int) -> Rows:
    """Return the costs of what a session is used for, by the number of its grants."""
    rows: Rows = {}
    with redirect_stdout(LOG):
        bench.warm()
        table, template = _templates(bench)["grants"]
        for size in sizes:

            def visit(send: flow.Send, size: int = size) -> None:
                before = {session.session_id for session in bench.server.store.sessions.scan()}
                cookies = flow.sign_in(lambda _, event: bench.handle(event), bench.remembered)
                (session,) = (each for each in bench.server.store.sessions.scan() if each.session_id not in before)
                own = {"session_id": session.session_id, "sub": session.sub, "client_id": bench.remembered[0]}
                if size > 1:
                    copy(table, {**template, **pack(own)}, ("grant_id",), size - 1)
                tokens = flow.return_to(send, cookies, bench.remembered)
                flow.end(send, cookies, tokens["id_token"])

            rows[size] = _measure(bench, visit, repetitions)
    return rows


def _measure(bench: Bench, visit: Any, repetitions: int) -> dict[str, Endpoint]:
    """Return the calls and units of each request of a visit, and the times of further visits."""
    results, count = bench.counting()
    visit(count)
    times: dict[str, list[float]] = {name: [] for name in results}
    for _ in range(repetitions):
        visit(bench.timing(times))
    return {name: replace(result, times=times[name]) for name, result in results.items()}


def _templates(bench: Bench) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Return the name of the table and a record of each kind, in DynamoDB's typed form."""
    templates: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for kind in COPIED:
        table: Any = getattr(bench.server.store, kind)
        record = next(iter(table.scan()))
        templates[kind] = (table.name, pack(vars(record)))
    return templates


def figures(rows: Rows) -> list[dict[str, Any]]:
    """Return the rows for `--json`."""
    return [
        {
            "size": size,
            "requests": {
                name: {
                    "cpu_ms": median(endpoint.times),
                    "calls": endpoint.calls,
                    "reads": endpoint.reads,
                    "writes": endpoint.writes,
                }
                for name, endpoint in endpoints.items()
            },
        }
        for size, endpoints in rows.items()
    ]
