"""The libraries in the zip: their wheels for Lambda, downloaded with verified hashes, and the content of the wheels."""

import subprocess
import sys
import zipfile
from pathlib import Path

from infra.operator.commands import CommandError

ARCHITECTURES = ("arm64", "x86_64")
_MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}
# The newest glibc 2.x that wheels may need: Lambda runs Python 3.11 on Amazon Linux 2, and later ones on 2023.
_AMAZON_LINUX_2023_FROM, _GLIBC_AMAZON_LINUX_2, _GLIBC_AMAZON_LINUX_2023 = (3, 12), 26, 34
_WRONG_HASH = "DO NOT MATCH THE HASHES"  # printed by pip
_INSTALLED = ("purelib", "platlib")  # the folders of a wheel's `.data` that belong to the import path


def download(requirements: Path, folder: Path, architecture: str) -> None:
    """Download the wheels of a requirements file for Lambda, whatever machine this is.

    pip requires a pin and a hash for each library and its dependencies, and accepts no source distribution, whose
    build would run code. Raises CommandError when a library has no such wheel, no hash, or another hash.
    """
    version = sys.version_info[:2]
    options = ["--require-hashes", "--only-binary=:all:", "--implementation", "cp", "--python-version"]
    options.append(".".join(map(str, version)))
    for platform in _platforms(architecture, version):
        options += ["--platform", platform]
    command = [sys.executable, "-m", "pip", "download", "--no-input", "--quiet", "--dest", str(folder)]
    done = subprocess.run(
        [*command, *options, "--requirement", str(requirements)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if _WRONG_HASH in done.stderr:
        raise CommandError("A downloaded library does not match its hash in requirements.txt.")
    if done.returncode:
        reason = " ".join(done.stderr.rpartition("ERROR: ")[2].split())
        raise CommandError(f"The libraries for Lambda cannot be downloaded: {reason or 'no output'}")


def unpack(wheel: Path, folder: Path) -> list[str]:
    """Unpack a wheel as pip installs it, but without its scripts and headers. Return the names of the files."""
    names = []
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            first, _, rest = entry.filename.partition("/")
            if entry.is_dir():
                continue
            if first.endswith(".data"):
                kind, _, entry.filename = rest.partition("/")
                if kind not in _INSTALLED:
                    continue
            archive.extract(entry, folder)
            names.append(entry.filename)
    return names


def _platforms(architecture: str, version: tuple[int, ...]) -> list[str]:
    """Return the platform tags of the wheels that run in Lambda, the best first (PEP 600)."""
    glibc = _GLIBC_AMAZON_LINUX_2 if version < _AMAZON_LINUX_2023_FROM else _GLIBC_AMAZON_LINUX_2023
    machine = _MACHINES[architecture]
    return [f"manylinux_2_{minor}_{machine}" for minor in range(glibc, 16, -1)] + [f"manylinux2014_{machine}"]
