"""The package that `deploy` would upload, built once a run, for this machine's processor."""

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

from infra import package
from infra.package import APPLICATION, Package
from infra.state import CHECKOUT

ARCHITECTURE = "x86_64" if platform.machine() in ("x86_64", "AMD64") else "arm64"
STAGE = "prod"
_FOLDER = "FOLDER_OF_THE_TESTS"


@contextmanager
def run_folder() -> Iterator[None]:
    """Make a folder that all processes of this run of the tests share."""
    with tempfile.TemporaryDirectory(prefix="signet-tests-") as folder:
        os.environ[_FOLDER] = folder
        yield


@contextmanager
def _alone() -> Iterator[Path]:
    """That folder, with nobody else at work in it."""
    folder = Path(os.environ[_FOLDER])
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


@functools.cache
def checkout() -> Path:
    """The application as it was when the first test asked, whoever goes on working on it."""
    with _alone() as folder:
        kept = folder / "checkout"
        if not kept.exists():
            for name in (*APPLICATION, ".chalice/config.json"):
                source, copy = CHECKOUT / name, kept / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
    return kept


@functools.cache
def packaged() -> Package:
    application = checkout()
    with _alone() as folder:
        file = folder / "package.json"
        if not file.exists():
            built = package.build(STAGE, folder / "built", ARCHITECTURE, application)
            file.write_text(json.dumps(asdict(built), default=str))
    members = json.loads(file.read_text())
    return Package(members["template"], Path(members["zip"]), members["sha256"], tuple(members["notes"]))
