"""The package that `deploy` uploads, built once per test run for this machine's processor."""

import fcntl
import functools
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from infra.aws import package
from infra.aws.package import APPLICATION, Package
from infra.local.state import CHECKOUT

ARCHITECTURE = "x86_64" if platform.machine() in ("x86_64", "AMD64") else "arm64"
STAGE = "prod"
RUN_FOLDER = "FOLDER_OF_THE_TESTS"


@contextmanager
def run_folder() -> Iterator[None]:
    """Create the folder that all processes of this test run share, and delete it afterwards."""
    with tempfile.TemporaryDirectory(prefix="signet-tests-") as folder:
        os.environ[RUN_FOLDER] = folder
        yield


@contextmanager
def _locked_folder() -> Iterator[Path]:
    """Lock that folder for this process, and return it."""
    folder = Path(os.environ[RUN_FOLDER])
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


@functools.cache
def checkout() -> Path:
    """Return a copy of the application, made by the first test that needs it, so that later edits do not matter."""
    with _locked_folder() as folder:
        copy_folder = folder / "checkout"
        if not copy_folder.exists():
            for name in (*APPLICATION, ".chalice/config.json"):
                source, target = CHECKOUT / name, copy_folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    return copy_folder


@functools.cache
def packaged() -> Package:
    """Return the package, built by the first test that needs it."""
    application = checkout()
    with _locked_folder() as folder:
        file = folder / "package.json"
        if not file.exists():
            built = package.build(STAGE, folder / "built", ARCHITECTURE, application)
            file.write_text(json.dumps(asdict(built), default=str))
    members = json.loads(file.read_text())
    return Package(**members | {"zip": Path(members["zip"]), "notes": tuple(members["notes"])})
