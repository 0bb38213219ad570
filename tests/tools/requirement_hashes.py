"""Rewrite the hashes in the requirements files: `.venv/bin/python -m tests.tools.requirement_hashes [FILE…]`.

Change the versions in the files by hand, then run this. Each requirement gets the SHA-256 of every file of its version
in the package index, so that pip's hash-checking mode accepts it on every platform and Python version.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import requests

_CHECKOUT = Path(__file__).resolve().parents[2]
FILES = tuple(_CHECKOUT / folder / "requirements.txt" for folder in ("", "infra", "tests"))
# PEP 691: the JSON form of the simple repository API.
_JSON = "application/vnd.pypi.simple.v1+json"
_TIMEOUT = 60  # seconds
_PIN = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(\[[A-Za-z0-9,._-]+\])?==([^\s;#*]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_SDIST_SUFFIXES = (".tar.gz", ".zip", ".tar.bz2")


class RequirementError(Exception):
    """A line of the file or an answer of the index that this command cannot use."""


@dataclass(frozen=True)
class Requirement:
    """A pinned requirement, with the SHA-256 hashes that its lines list."""

    name: str
    extras: str
    version: str
    hashes: tuple[str, ...]

    @property
    def project(self) -> str:
        """The normalized name (PEP 503)."""
        return _normalize(self.name)

    @property
    def pin(self) -> str:
        """The requirement without its hashes, such as `PyJWT[crypto]==2.15.1`."""
        return f"{self.name}{self.extras}=={self.version}"


def parse(text: str) -> Iterator[str | Requirement]:
    """Return the content of a requirements file: requirements, and its comments and blank lines as they are.

    Raises RequirementError for a requirement that is not pinned with ==, or that has more than hashes behind it.
    """
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith("#"):
            yield line
            continue
        pin, *options = line.split()
        match = _PIN.fullmatch(pin)
        hashes = [_HASH.fullmatch(option) for option in options]
        if not match:
            raise RequirementError(f"Not pinned with ==: {pin}")
        if not all(hashes):
            raise RequirementError(f"Only --hash=sha256:… can follow {pin}.")
        yield Requirement(match[1], match[2] or "", match[3], tuple(digest[1] for digest in hashes if digest))


def render(lines: Iterable[str | Requirement]) -> str:
    """Return the text of a requirements file, one hash on a line."""
    texts = []
    for line in lines:
        if isinstance(line, Requirement):
            texts.append(" \\\n".join([line.pin, *(f"    --hash=sha256:{digest}" for digest in line.hashes)]))
        else:
            texts.append(line)
    return "\n".join(texts) + "\n"


def update(text: str, fetch: Callable[[Requirement], tuple[str, ...]]) -> str:
    """Return the requirements file with the hashes that `fetch` returns for each requirement."""
    return render(
        Requirement(line.name, line.extras, line.version, fetch(line)) if isinstance(line, Requirement) else line
        for line in parse(text)
    )


def fetch_hashes(requirement: Requirement) -> tuple[str, ...]:
    """Return the SHA-256 of every file that the index lists for the requirement's version, sorted.

    Raises RequirementError when the index has no file of this version, or no SHA-256 for one.
    """
    url = urljoin(index_url().rstrip("/") + "/", f"{requirement.project}/")
    response = requests.get(url, headers={"Accept": _JSON}, timeout=_TIMEOUT, verify=pip_option("cert") or True)
    response.raise_for_status()
    if not response.headers.get("Content-Type", "").startswith(_JSON):
        raise RequirementError("The package index does not support the JSON API (PEP 691).")
    files = [file for file in response.json()["files"] if file_version(file["filename"]) == requirement.version]
    digests = [file["hashes"].get("sha256") for file in files]
    if not digests or not all(digests):
        raise RequirementError(f"The package index has no file of {requirement.pin}, or lacks the SHA-256 of one.")
    return tuple(sorted(set(digests)))


def file_version(filename: str) -> str | None:
    """Return the version in the name of a wheel or an sdist, or None for any other file."""
    if filename.endswith(".whl"):
        return filename.split("-")[1]
    for suffix in _SDIST_SUFFIXES:
        if filename.endswith(suffix):
            return filename.removesuffix(suffix).rpartition("-")[2]
    return None


def index_url() -> str:
    """Return the URL of the package index that pip uses, by its configuration or by default."""
    return pip_option("index-url") or _run("-c", "from pip._internal.models.index import PyPI; print(PyPI.simple_url)")


def pip_option(name: str) -> str | None:
    """Return an option of pip from the environment or from pip's configuration, or None when it is not set."""
    value = os.environ.get(f"PIP_{name.upper().replace('-', '_')}")
    return value or _run("-m", "pip", "config", "get", f"global.{name}", check=False) or None


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _run(*arguments: str, check: bool = True) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=check)
    return done.stdout.strip() if done.returncode == 0 else ""


def main() -> None:
    """Rewrite the hashes of the files of the arguments, by default of all three."""
    for file in [Path(name) for name in sys.argv[1:]] or FILES:
        try:
            text = update(file.read_text("utf-8"), fetch_hashes)
        except (RequirementError, requests.RequestException) as error:
            sys.exit(str(error))
        file.write_text(text, "utf-8")
        print(f"{text.count('--hash=')} hashes are in {file}.")


if __name__ == "__main__":
    main()
