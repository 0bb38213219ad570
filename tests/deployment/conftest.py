"""What the tests of deployments share: the gateways, an emulated AWS, and a package for it."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.support.emulator import Emulator, NotInstallable, interpreter
from tests.support.gateways import GATEWAYS, Gateway
from tests.support.packaging import packaged


@pytest.fixture(params=GATEWAYS, ids=lambda gateway: gateway.name)
def gateway(request: pytest.FixtureRequest) -> Gateway:
    """Each kind of gateway."""
    gateway: Gateway = request.param
    return gateway


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """The emulated AWS of a module; where it cannot be installed, its tests are skipped, or fail in CI."""
    try:
        interpreter()
    except NotInstallable as reason:
        if os.environ.get("CI"):
            pytest.fail(f"The emulated AWS is required in CI: {reason}")
        pytest.skip(f"The emulated AWS is not available: {reason}")
    emulator = Emulator(tmp_path_factory.mktemp("ministack"))
    yield emulator
    emulator.close()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The description of the shared package, as `tests.support.powercut` reads it."""
    file = tmp_path_factory.mktemp("package") / "package.json"
    file.write_text(json.dumps(asdict(packaged()), default=str))
    return file
