"""Cold starts: the packaged application beside Lambda's boto3, in a new interpreter each time."""

import importlib.util
import json
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from infra.aws import package
from tests.bench import flow

ARCHITECTURE = "x86_64" if platform.machine() in ("x86_64", "AMD64") else "arm64"
# boto3 and its dependencies, which are in the runtime and not in the package.
RUNTIME = ("boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six", "urllib3")
CHILD = Path(__file__).with_name("child.py")
IMPORT, FIRST, TOKEN = "import", flow.DISCOVERY, flow.EXCHANGE
APP, RESTORED = "app", "app, restored by SnapStart"
_IMPORT_RUNS = 5
_IMPORTED = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")


@dataclass(frozen=True)
class Trees:
    """Folders to import from: the package, and Lambda's own libraries."""

    compiled: Path
    runtime: Path


@dataclass
class Start:
    """The cold starts of one kind: CPU and wall-clock milliseconds of each run, by mark."""

    cpu: dict[str, list[float]] = field(default_factory=dict)
    wall: dict[str, list[float]] = field(default_factory=dict)
    kilobytes: list[int] = field(default_factory=list)
    calibrations: list[float] = field(default_factory=list)

    def milliseconds(self, mark: str) -> float:
        """Return the median CPU milliseconds from the first line of Python to this mark."""
        return median(end - start for end, start in zip(self.cpu[mark], self.cpu["interpreter"], strict=True))

    def elapsed(self, mark: str) -> float:
        """Return the median wall-clock milliseconds to this mark, with waiting for DynamoDB and KMS."""
        return median(self.wall[mark])

    @property
    def megabytes(self) -> float:
        return median(self.kilobytes) / 1024

    def add(self, result: Mapping[str, object]) -> None:
        """Add the result of one child process."""
        marks: dict[str, tuple[float, float]] = result["marks"]  # type: ignore[assignment]
        for mark, (cpu, wall) in marks.items():
            self.cpu.setdefault(mark, []).append(cpu)
            self.wall.setdefault(mark, []).append(wall)
        self.kilobytes.append(result["kilobytes"])  # type: ignore[arg-type]
        self.calibrations.append(result["calibration"])  # type: ignore[arg-type]


@contextmanager
def trees() -> Iterator[Trees]:
    """Unpack the package that `deploy` builds, and copy the installed boto3."""
    with TemporaryDirectory(prefix="signet-bench-") as name:
        folder = Path(name)
        unpacked = Trees(folder / "compiled", folder / "runtime")
        with zipfile.ZipFile(package.build("prod", folder, ARCHITECTURE).zip) as archive:
            archive.extractall(unpacked.compiled)
        unpacked.runtime.mkdir()
        for library in RUNTIME:
            spec = importlib.util.find_spec(library)
            assert spec, library
            assert spec.origin, library
            origin = Path(spec.origin)
            if origin.name == "__init__.py":
                shutil.copytree(origin.parent, unpacked.runtime / library, ignore=_no_bytecode)
            else:
                shutil.copy(origin, unpacked.runtime)
        options = ["-q", "--invalidation-mode", "unchecked-hash"]
        subprocess.run([sys.executable, "-m", "compileall", *options, str(unpacked.runtime)], check=True)
        yield unpacked


_no_bytecode = shutil.ignore_patterns("__pycache__", "*.pyc")


def starts(
    trees: Trees, environment: Mapping[str, str], events: Callable[[], dict[str, flow.Event]], repetitions: int
) -> dict[str, Start]:
    """Measure cold starts of the application and of a naive one, alternately."""
    kinds = {
        APP: ("app", trees.compiled),
        "naive": ("naive", trees.compiled),
        RESTORED: ("restored", trees.compiled),
        "app with boto3": ("app,boto3", trees.compiled),
        "app with boto3, restored by SnapStart": ("restored,boto3", trees.compiled),
    }
    results = {name: Start() for name in kinds}
    for _ in range(repetitions):
        for name, (mode, tree) in kinds.items():
            results[name].add(json.loads(_run(mode, tree, trees.runtime, environment, events()).splitlines()[-1]))
    return results


def imports(
    trees: Trees, environment: Mapping[str, str], events: Callable[[], dict[str, flow.Event]], most: int = 10
) -> list[tuple[str, int, float]]:
    """Return the slowest imports until the first token: name, number of modules, and wall-clock milliseconds.

    Measuring slows the imports down. The fastest of several runs counts, to leave out waiting for the disk.
    """
    runs: dict[str, list[int]] = {}
    for _ in range(_IMPORT_RUNS):
        output = _run("app", trees.compiled, trees.runtime, environment, events(), "-X", "importtime")
        for microseconds, module in _IMPORTED.findall(output):
            runs.setdefault(module, []).append(int(microseconds))
    times: Counter[str] = Counter()
    modules: Counter[str] = Counter()
    for module, runs_of_module in runs.items():
        top = module.partition(".")[0]
        times[top] += min(runs_of_module)
        modules[top] += 1
    return [(top, modules[top], time / 1000) for top, time in times.most_common(most)]


def _run(
    mode: str,
    tree: Path,
    runtime: Path,
    environment: Mapping[str, str],
    events: dict[str, flow.Event],
    *options: str,
) -> str:
    # -S: without the packages that are installed for this interpreter.
    done = subprocess.run(
        [sys.executable, "-S", *options, str(CHILD), mode, str(tree), str(runtime)],
        env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
        input=json.dumps(events),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"The {mode} child failed:\n{done.stdout}\n{done.stderr}")
    return done.stderr
