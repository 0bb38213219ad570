"""The Dockerfile, without a container engine: its lines are run in a scratch folder that stands for the image.

The base image, the user and the volume are not tested. pip installs only where CI is set, because it needs an index;
elsewhere the environment of the tests takes its place (test_operating_needs_nothing_that_only_tests_need).
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.local.state import CHECKOUT
from tests.support.local_server import Program
from tests.support.ports import free_port

TEXT = (CHECKOUT / "Dockerfile").read_text("utf-8")
INSTRUCTIONS = [
    (line.split(maxsplit=1)[0], line.split(maxsplit=1)[1])
    for line in TEXT.splitlines()
    if line and not line.startswith("#")
]
PYTHON_STUB = f"""#!/bin/sh
case "$1 $2" in
    "-m venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "-m pip") ;;
    *) exec {sys.executable} "$@" ;;
esac
"""


def values(name: str) -> list[str]:
    return [value for instruction, value in INSTRUCTIONS if instruction == name]


def moved(text: str, image: Path) -> str:
    """Replace the absolute paths and the user of the image."""
    text = re.sub(r"(?<![\w.])/(data|signet)\b", rf"{image}/\1", text)
    return text.replace("-o 10001 -g 10001", f"-o {os.getuid()} -g {os.getgid()}")


def included(source: str) -> bool:
    """Return whether .dockerignore leaves a file or folder of the checkout in the build context."""
    lines = (CHECKOUT / ".dockerignore").read_text("utf-8").splitlines()
    return "*" in lines and f"!{source.partition('/')[0]}" in lines and (CHECKOUT / source).exists()


def copy(arguments: str, work: Path) -> None:
    *sources, target = arguments.split()
    for source in sources:
        assert included(source), source
        if (CHECKOUT / source).is_dir():
            shutil.copytree(
                CHECKOUT / source, work / target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            (work / target).mkdir(exist_ok=True)
            shutil.copy(CHECKOUT / source, work / target)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy and run what the Dockerfile copies and runs, in its order."""
    image = tmp_path_factory.mktemp("image")
    work = Path(moved(values("WORKDIR")[0], image))
    work.mkdir()
    python = image / "python3"
    if not os.environ.get("CI"):
        python.write_text(PYTHON_STUB)
        python.chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "HOME"))}
    environ["PATH"] = f"{image}:{os.environ['PATH']}"
    for instruction, arguments in INSTRUCTIONS:
        if instruction == "COPY":
            copy(arguments, work)
        elif instruction == "RUN":
            command = ["sh", "-ec", moved(arguments, image)]
            done = subprocess.run(command, cwd=work, env=environ, capture_output=True, text=True, timeout=600)
            assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return image


@pytest.fixture
def start(image: Path) -> Iterator[Callable[[], Program]]:
    """A function that runs the image's command."""
    started: list[Program] = []

    def start() -> Program:
        command = [moved(part, image) for name in ("ENTRYPOINT", "CMD") for part in json.loads(values(name)[0])]
        state = dict(part.split("=", 1) for part in values("ENV"))
        started.append(Program(command, free_port(), Path(moved(state["XDG_STATE_HOME"], image))))
        return started[-1]

    yield start
    for program in started:
        if program.process.returncode is None:
            program.end(signal.SIGKILL)


@pytest.mark.slow
def test_image_serves_and_keeps_its_data_in_the_volume(image: Path, start: Callable[[], Program]) -> None:
    volume = Path(moved(values("VOLUME")[0], image))
    assert list(volume.iterdir()) == [], "the image contains no state: each container has its own keys and passwords"
    program = start()
    assert "admin, password" in program.printed
    assert program.get("/.well-known/openid-configuration", "127.0.0.2") == 200
    (check,) = values("HEALTHCHECK")
    healthy = [moved(part, image) for part in json.loads(check.partition(" CMD ")[2])]
    healthy[-1] = healthy[-1].replace(":8000/", f":{program.port}/")
    assert subprocess.run(healthy, timeout=60).returncode == 0
    assert program.end(signal.SIGTERM)[0] == 0
    assert subprocess.run(healthy, capture_output=True, timeout=60).returncode != 0
    assert [file.name for file in volume.iterdir()] == ["signet"]
    again = start()
    assert "admin, password" not in again.printed, "the data is that of the first container"
    assert again.end(signal.SIGTERM)[0] == 0


def test_image_does_not_run_as_root_and_takes_only_its_base_from_a_registry() -> None:
    (user,) = values("USER")
    assert re.fullmatch(r"[1-9][0-9]*:[1-9][0-9]*", user)
    names = [name for name, _ in INSTRUCTIONS]
    assert names.index("USER") > max(index for index, name in enumerate(names) if name in ("RUN", "COPY"))
    assert len(values("FROM")) == 1
    assert "ADD" not in names
    assert not re.search(r"apt|curl|wget|https?://(?!127\.0\.0\.1)", TEXT)
    assert values("EXPOSE") == ["8000"]
