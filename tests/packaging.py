"""The package that `deploy` would upload, built once a run, for this machine's processor."""

import atexit
import functools
import platform
import shutil
import tempfile
from pathlib import Path

from infra import package
from infra.package import APPLICATION, Package
from infra.state import CHECKOUT

ARCHITECTURE = "x86_64" if platform.machine() in ("x86_64", "AMD64") else "arm64"
STAGE = "prod"


@functools.cache
def checkout() -> Path:
    """The application as it was when the run began, whoever goes on working on it."""
    folder = Path(tempfile.mkdtemp(prefix="signet-checkout-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in (*APPLICATION, ".chalice/config.json"):
        source, copy = CHECKOUT / name, folder / name
        copy.parent.mkdir(exist_ok=True)
        shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
    return folder


@functools.cache
def packaged() -> Package:
    return package.build(STAGE, checkout() / "built", ARCHITECTURE, checkout())
