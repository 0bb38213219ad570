"""Check a deployment from outside, as clients see it, and from inside, with the operator's access: `signet doctor`."""

import os
import ssl
from collections.abc import Iterator
from contextlib import nullcontext

import click

from chalicelib.storage.store import Store
from infra.local.embedded import STAGE
from infra.operator.commands import example, open_store
from infra.operator.doctor import inside, outside
from infra.operator.doctor.assistants import ASSISTANTS
from infra.operator.doctor.connect import connect
from infra.operator.doctor.findings import Finding
from infra.operator.doctor.visit import Visit, is_uri
from infra.operator.terminal import print_json, visible

OPERATOR_TOKEN = "SIGNET_OPERATOR_TOKEN"  # noqa: S105  the name of an environment variable
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
    """Return the findings about the server at `url` and, with its `store`, about its stage.

    Changes nothing, and reports errors of the server as findings. `trust` contains the trusted certificates, by default
    those of this machine.
    """
    return list(_findings(url, store, operator_token, trust))


def _findings(
    url: str | None, store: Store | None, operator_token: str | None = None, trust: ssl.SSLContext | None = None
) -> Iterator[Finding]:
    if url:
        client = inside.find_client(store) if store else None
        yield from outside.inspect(Visit(url.rstrip("/"), client, operator_token, trust))
    if store:
        yield from inside.inspect(store)


@click.command(
    epilog=example(
        "doctor https://signet.example.com --outside",
        "doctor --stage prod",
        "doctor https://mcp.example.com/mcp --as claude",
    )
)
@click.argument("url", required=False)
@click.option("--outside", is_flag=True, help="Check from outside only, which needs no credentials.")
@click.option(
    "--as",
    "assistant",
    type=click.Choice(list(ASSISTANTS)),
    help="Send the requests of this MCP client instead. URL is the MCP server, or the issuer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list of {name, ok, detail, fix}.")
@click.pass_obj
def doctor(stage: str, /, url: str | None, outside: bool, assistant: str | None, as_json: bool) -> int:
    """Check a server from outside, and a stage's data from inside.

    URL is by default the stage's own, or that of the running local server.

    The exit code is 0 when at least one check could be made and all have passed. Set SIGNET_OPERATOR_TOKEN to the
    operator's token to include the deep health check.
    """
    if (outside or assistant) and not url:
        url = inside.local_url() if stage == STAGE else None
        if not url:
            option = "--as" if assistant else "--outside"
            raise click.UsageError(f"{option} needs a URL: no local server of this checkout responds.")
    if url and not (url.startswith(("https://", "http://")) and is_uri(url)):
        raise click.UsageError(f"{url} is not a URL. It must start with https://, or with http:// for this machine.")
    if assistant and url:
        return _report([_show(finding, as_json) for finding in connect(assistant, url)], as_json)
    findings = []
    with nullcontext() if outside else open_store(stage) as store:
        address = url or (inside.stage_url(store) if store else None)
        if not address:
            reason = "no local server of this checkout responds" if stage == STAGE else "no issuer is pinned"
            skipped = Finding("outside", None, f"Not checked from outside: no URL was given, and {reason}.")
            findings.append(_show(skipped, as_json))
        checked = _findings(address, store, os.environ.get(OPERATOR_TOKEN))
        findings.extend(_show(finding, as_json) for finding in checked)
    return _report(findings, as_json)


def _report(findings: list[Finding], as_json: bool) -> int:
    """Print the JSON or the summary, and return the exit code."""
    if as_json:
        print_json([finding.document for finding in findings])
    else:
        print(_summary(findings))
    results = [finding.ok for finding in findings if finding.ok is not None]
    return 0 if results and all(results) else 1


def _show(finding: Finding, as_json: bool) -> Finding:
    """Print the finding at once, unless the output is JSON, and return it."""
    if not as_json:
        mark = click.style(_MARKS[finding.ok], fg=_COLOURS[finding.ok])
        click.echo(f"{mark} {finding.name:{_WIDTH}}  {visible(finding.detail)}")
        if finding.ok is False:
            click.echo(f"  {'':{_WIDTH}}  → {visible(finding.fix)}")
    return finding


def _summary(findings: list[Finding]) -> str:
    failed = sum(finding.ok is False for finding in findings)
    skipped = sum(finding.ok is None for finding in findings)
    checked = len(findings) - skipped
    if not checked:
        return "\nNothing could be checked."
    result = f"{failed} of {checked} checks failed" if failed else f"All {checked} checks passed"
    return f"\n{result}" + (f"; {skipped} were skipped, for the reasons given." if skipped else ".")
