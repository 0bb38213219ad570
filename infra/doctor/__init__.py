"""`python -m infra doctor`: looks at a deployment from outside, as clients do, and from inside, as its operator can."""

import os
import ssl
from collections.abc import Iterator
from contextlib import nullcontext

import click

from chalicelib.store import Store
from infra.commands import example, storage
from infra.doctor import inside, outside
from infra.doctor.findings import Finding
from infra.doctor.visit import Visit, is_uri
from infra.terminal import print_json, visible

OPERATOR_TOKEN = "SIGNET_OPERATOR_TOKEN"  # noqa: S105  the name of a variable
_MARKS = {True: "✓", False: "✗", None: "–"}
_COLOURS = {True: "green", False: "red", None: "yellow"}
_WIDTH = 23


def check(
    url: str | None,
    store: Store | None = None,
    *,
    operator_token: str | None = None,
    trust: ssl.SSLContext | None = None,
) -> list[Finding]:
    """Everything that can be found out about the server at `url`, and, with its `store`, about what lies behind it.

    `trust`: the certificates to trust, by default the machine's. Changes nothing. Never raises because of what it
    finds: that is a finding.
    """
    return list(_findings(url, store, operator_token, trust))


def _findings(
    url: str | None, store: Store | None, operator_token: str | None = None, trust: ssl.SSLContext | None = None
) -> Iterator[Finding]:
    if url:
        client = inside.some_client(store) if store else None
        yield from outside.look(Visit(url.rstrip("/"), client, operator_token, trust))
    if store:
        yield from inside.look(store)


@click.command(epilog=example("doctor https://signet.example.com --outside", "--stage prod doctor"))
@click.argument("url", required=False)
@click.option("--stage", help="Whose data is looked at too; by default the one given before the command.")
@click.option("--outside", is_flag=True, help="From outside only: no credentials are needed.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON: a list of {name, ok, detail, fix}.")
@click.pass_obj
def doctor(stage_before: str, /, url: str | None, stage: str | None, outside: bool, as_json: bool) -> int:
    """Check a server from outside, and a stage's data from inside. Without URL, it is the stage's own.

    The exit code is 0 when something could be judged, and nothing is wrong. With the operator's token in
    SIGNET_OPERATOR_TOKEN the deep health check is made too.
    """
    stage = stage or stage_before
    if outside and not url:
        raise click.UsageError("From outside only, a URL is needed.")
    if url and not (url.startswith(("https://", "http://")) and is_uri(url)):
        raise click.UsageError(f"{url} is no URL: it starts with https://, or with http:// on this machine.")
    findings = []
    with nullcontext() if outside else storage(stage) as store:
        address = url or (inside.own_url(store) if store else None)
        if not address:
            found = Finding("outside", None, "Nothing was looked at from outside: no URL is given, nor is one pinned.")
            findings.append(_shown(found, as_json))
        found_here = _findings(address, store, os.environ.get(OPERATOR_TOKEN))
        findings.extend(_shown(found, as_json) for found in found_here)
    if as_json:
        print_json([finding.document for finding in findings])
    else:
        print(_summary(findings))
    well = [finding.ok for finding in findings if finding.ok is not None]
    return 0 if well and all(well) else 1


def _shown(finding: Finding, as_json: bool) -> Finding:
    """The finding, which people read as soon as it is there."""
    if not as_json:
        mark = click.style(_MARKS[finding.ok], fg=_COLOURS[finding.ok])
        click.echo(f"{mark} {finding.name:{_WIDTH}}  {visible(finding.detail)}")
        if finding.ok is False:
            click.echo(f"  {'':{_WIDTH}}  → {visible(finding.fix)}")
    return finding


def _summary(findings: list[Finding]) -> str:
    wrong = sum(finding.ok is False for finding in findings)
    left_out = sum(finding.ok is None for finding in findings)
    judged = len(findings) - left_out
    if not judged:
        return "\nNothing could be judged."
    verdict = f"{wrong} of {judged} not well" if wrong else f"All {judged} well"
    return f"\n{verdict}" + (f"; {left_out} not judged, for the reasons given." if left_out else ".")
