"""Known vulnerabilities of the pinned libraries, by pip-audit: `python -m infra.aws.advisories FILE…`."""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_TIMEOUT = 120  # seconds


def known_vulnerabilities(requirements: Iterable[Path]) -> list[str] | None:
    """Return a line for each known vulnerability in these files, or None when the advisory service does not answer.

    The files must pin all dependencies with hashes: then pip-audit downloads and runs nothing.
    """
    files = [option for file in requirements for option in ("--requirement", str(file))]
    options = ["--disable-pip", "--require-hashes", "--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip_audit", *options, *files],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT,
        )
        libraries = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError):  # without an answer of the service, there is no document
        return None
    checked = [library for library in libraries if "vulns" in library]
    if not checked:  # the service, or a mirror in its place, knows none of them
        return None
    lines = [_line(library, finding) for library in checked for finding in library["vulns"]]
    lines += [f"{library['name']}: not checked" for library in libraries if "vulns" not in library]
    return lines


def summary(lines: list[str] | None) -> str:
    """Return what `known_vulnerabilities` has found as text for the operator."""
    if lines is None:
        return "Known vulnerabilities: skipped: no advisory service"
    return "\n  ".join(["Known vulnerabilities:", *lines]) if lines else "Known vulnerabilities: none"


def _line(library: dict[str, Any], finding: dict[str, Any]) -> str:
    fixed = finding["fix_versions"]
    return f"{library['name']} {library['version']}: {finding['id']}" + (f", fixed in {fixed[0]}" if fixed else "")


def main() -> int:
    """Print the known vulnerabilities in the files of the arguments. Return 1 when there are any."""
    lines = known_vulnerabilities(map(Path, sys.argv[1:]))
    print(summary(lines))
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
