"""`python -m tests.powercut POINT COMMAND …`: the operator's command, ended without warning at one point.

The point `never` lets it run. In the variable SIGNET_TEST_PACKAGE stands a package that need not be built
again, in SIGNET_TEST_SCHEMA another schema than infra/tables.yaml.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra import __main__, deploy, destroy, package
from infra.package import Package
from infra.stacks import Stack

EXIT_CODE = 137
# In the order in which a first deployment comes to them.
POINTS = (
    "before make_data",
    "proposed signet-data",
    "executed signet-data",
    "before build",
    "before upload",
    "before make_api",
    "proposed signet-api",
    "executed signet-api",
    "before make_first_things",
    "registered",
    "before examine",
    "before report",
)
# The same for the end of everything.
LAST_POINTS = ("deleting signet-api", "removed a table", "deleting signet-data")


def cut(*_: Any) -> Any:
    """As when the power goes: nothing is cleaned up, nothing more is written."""
    sys.stdout.flush()
    os._exit(EXIT_CODE)


def interrupt() -> Any:
    """As Ctrl-C does, with which a program can deal."""
    raise KeyboardInterrupt


def arm(point: str) -> None:
    """Make the command end at a point."""
    when, _, what = point.partition(" ")
    if when == "before":
        (index,) = (i for i, step in enumerate(deploy.STEPS) if step.__name__ == what)
        deploy.STEPS[index] = cut
    elif when == "proposed":
        _after(Stack, "propose", lambda stack: stack.name.startswith(what))
    elif when == "interrupted":
        _instead(Stack, "_follow", lambda stack: stack.name.startswith(what), interrupt)
    elif when in ("executed", "deleting"):
        _instead(Stack, "_follow", lambda stack: stack.name.startswith(what))
    elif when == "registered":
        _after(deploy, "register_user", lambda _: True)
    elif when == "removed":
        _after(destroy, "_remove_table", lambda _: True)
    else:
        assert point == "never", point


def _after(owner: Any, name: str, here: Callable[[Any], bool]) -> None:
    original = getattr(owner, name)

    def wrapped(first: Any, *args: Any, **kwargs: Any) -> Any:
        answer = original(first, *args, **kwargs)
        return cut() if here(first) else answer

    setattr(owner, name, wrapped)


def _instead(owner: Any, name: str, here: Callable[[Any], bool], then: Callable[[], Any] = cut) -> None:
    original = getattr(owner, name)

    def wrapped(first: Any, *args: Any, **kwargs: Any) -> Any:
        return then() if here(first) else original(first, *args, **kwargs)

    setattr(owner, name, wrapped)


def main() -> int:
    if ready := os.environ.get("SIGNET_TEST_PACKAGE"):
        made = json.loads(Path(ready).read_text())
        package.build = lambda *_: Package(made["template"], Path(made["zip"]), made["sha256"], ())
    if schema := os.environ.get("SIGNET_TEST_SCHEMA"):
        vars(deploy)["SCHEMA"] = Path(schema)
    arm(sys.argv.pop(1))
    return __main__.main()


if __name__ == "__main__":
    sys.exit(main())
