"""`python -m tests.support.powercut POINT COMMAND …`: run an operator's command and kill it at one point.

The point `never` runs the whole command. The variable SIGNET_TEST_PACKAGE can name a package that is already built,
and SIGNET_TEST_SCHEMA a schema to use instead of infra/aws/tables.yaml.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra import __main__
from infra.aws import administrator, data, deploy, destroy, package
from infra.aws.package import Package
from infra.aws.stacks import Stack

EXIT_CODE = 137
# In the order in which a first deployment reaches them.
POINTS = (
    "before deploy_data",
    "proposed signet-data",
    "executed signet-data",
    "before build",
    "before upload",
    "before deploy_api",
    "proposed signet-api",
    "executed signet-api",
    "before verify_code",
    "before create_keys_and_administrator",
    "registered",
    "before examine",
    "before report",
)
# The same for `destroy`.
LAST_POINTS = ("deleting signet-api", "removed a table", "deleting signet-data")


def cut(*_: Any) -> Any:
    """End the process at once, as a power cut does: nothing is cleaned up, and nothing more is written."""
    sys.stdout.flush()
    os._exit(EXIT_CODE)


def interrupt() -> Any:
    """Raise KeyboardInterrupt, as Ctrl-C does."""
    raise KeyboardInterrupt


def arm(point: str) -> None:
    """Make the command end at a point of POINTS or LAST_POINTS, at `interrupted STACK`, or `never`."""
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
        _after(administrator, "register_user", lambda _: True)
    elif when == "removed":
        _after(destroy, "_remove_table", lambda _: True)
    else:
        assert point == "never", point


def _after(owner: Any, name: str, condition: Callable[[Any], bool]) -> None:
    original = getattr(owner, name)

    def wrapped(first: Any, *args: Any, **kwargs: Any) -> Any:
        answer = original(first, *args, **kwargs)
        return cut() if condition(first) else answer

    setattr(owner, name, wrapped)


def _instead(owner: Any, name: str, condition: Callable[[Any], bool], then: Callable[[], Any] = cut) -> None:
    original = getattr(owner, name)

    def wrapped(first: Any, *args: Any, **kwargs: Any) -> Any:
        return then() if condition(first) else original(first, *args, **kwargs)

    setattr(owner, name, wrapped)


def main() -> int:
    """Run the command of the arguments; the first one is the point."""
    if ready := os.environ.get("SIGNET_TEST_PACKAGE"):
        built = json.loads(Path(ready).read_text())
        package.build = lambda *_: Package(**built | {"zip": Path(built["zip"]), "notes": ()})
        vars(deploy)["known_vulnerabilities"] = lambda _: None  # it takes seconds
    if schema := os.environ.get("SIGNET_TEST_SCHEMA"):
        vars(deploy)["SCHEMA"] = vars(data)["SCHEMA"] = Path(schema)
    arm(sys.argv.pop(1))
    return __main__.main()


if __name__ == "__main__":
    sys.exit(main())
