"""What the tests of deployments share: the gateways, an emulated AWS, and a package for it."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.support.gateways import GATEWAYS, Gateway
from tests.support.packaging import packaged


@pytest.fixture(params=GATEWAYS, ids=lambda gateway: gateway.name)
def gateway(request: pytest.FixtureRequest) -> Gateway:
    """Each kind of gateway."""
    gateway: Gateway = request.param
    return gateway


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The description of the shared package, as `tests.support.powercut` reads it."""
    file = tmp_path_factory.mktemp("package") / "package.json"
    file.write_text(json.dumps(asdict(packaged()), default=str))
    return file
