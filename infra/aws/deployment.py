"""A deployment in progress: its stacks, its parameters, and the question before a change."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import yaml

from chalicelib.settings import Settings
from chalicelib.storage.store import Store
from infra import access
from infra.aws.libraries import ARCHITECTURES
from infra.aws.package import Package
from infra.aws.stacks import Stack
from infra.operator.commands import CommandError, require_terminal

FRONT_REGION = "us-east-1"


@dataclass
class Deployment:
    """A deployment in progress: the operator's options, and the results of the steps so far.

    `overrides` are template parameters by name; `force` deploys over records of a newer version; `folder` is where the
    package is built; `code_key` and `code_version` are where it is uploaded. `front`: `cloudfront`, `none` to remove
    it, or None as before; `front_secret` proves the front to the server, and `rotate_secret` replaces it. `doctor`:
    examine the deployed server; `problems` counts what was found.
    """

    stage: str
    overrides: dict[str, str]
    session: Any
    yes: bool = False
    force: bool = False
    architecture: str = ARCHITECTURES[0]
    admin: bool = True
    folder: Path = Path()
    package: Package | None = None
    code_key: str = ""
    code_version: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    front: str | None = None
    rotate_secret: bool = False
    front_secret: str = ""
    doctor: bool = True
    problems: int = 0

    @property
    def data(self) -> Stack:
        """The stack of the tables and keys. Resources are kept when its creation fails: they may hold data."""
        return Stack(self.session.client("cloudformation"), f"signet-data-{self.stage}", keep_on_failure=True)

    @property
    def api(self) -> Stack:
        """The stack of the server."""
        return Stack(self.session.client("cloudformation"), f"signet-api-{self.stage}")

    @property
    def front_stack(self) -> Stack:
        """The stack of the front."""
        return Stack(self.session.client("cloudformation", region_name=FRONT_REGION), f"signet-front-{self.stage}")

    @property
    def settings(self) -> Settings:
        """The settings for the stage's tables, of this environment."""
        settings = Settings.from_environ({**os.environ, "SIGNET_STAGE": self.stage})
        return replace(settings, embedded=False, region=self.session.region_name)

    def open_store(self) -> Store:
        """Return the store of the stage, with the operator's credentials."""
        return access.open_store(self.settings, signing=self.data.parameters()["Signing"])

    def change(self, stack: Stack, template: str, parameters: Mapping[str, str]) -> None:
        """Show the changes of a stack, ask for confirmation, and apply them.

        Raises CommandError when the operator declines or CloudFormation fails.
        """
        click.echo(f"\n{stack.name}: computing changes.")
        proposal = stack.propose(template, parameters)
        if proposal is None:
            click.echo("No changes.")
            return
        for change in proposal.changes:
            mark = "  (replaced)" if change.replaced else ""
            click.echo(f"  {change.action:8}{change.name:24} {change.kind}{mark}")
        if not self.yes:
            if not sys.stdin.isatty():
                stack.discard(proposal)
                require_terminal("--yes")
            try:
                click.confirm(f"Apply these {len(proposal.changes)} changes?", abort=True, err=True)
            except click.Abort as abort:
                stack.discard(proposal)
                raise CommandError(f"{stack.name} was not changed.") from abort
        stack.execute(proposal)

    def parameters(self, template: Path, stack: Stack, required: Mapping[str, str]) -> dict[str, str]:
        """Return the values of a template's parameters.

        In order of precedence: `required`, the operator's overrides, the values of the last deployment, the defaults.
        """
        declared = yaml.safe_load(template.read_text())["Parameters"]
        previous = stack.parameters()
        values = {name: str(parameter["Default"]) for name, parameter in declared.items() if "Default" in parameter}
        values |= {name: value for name, value in previous.items() if name in declared}
        return values | {name: value for name, value in {**self.overrides, **required}.items() if name in declared}
