"""Cold starts: the packaged application, with Lambda's boto3 beside it, in a fresh interpreter each time."""

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

from infra import package
from tests.bench import flow

ARCHITECTURE = "x86_64" if platform.machine() in ("x86_64", "AMD64") else "arm64"
# boto3 and what it needs: the runtime has these, so that the package does not.
RUNTIME = ("boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six", "urllib3")
CHILD = Path(__file__).with_name("child.py")
IMPORT, FIRST, TOKEN = "import", flow.DISCOVERY, flow.EXCHANGE
_IMPORT_RUNS = 5
_IMPORTED = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")


@dataclass(frozen=True)
class Trees:
    """Folders to import from: the package with bytecode and without, and Lambda's own libraries."""

    compiled: Path
    source: Path
    runtime: Path


@dataclass
class Start:
    """Cold starts of one kind: by mark, the CPU milliseconds of each run, and those of the wall clock."""

    cpu: dict[str, list[float]] = field(default_factory=dict)
    wall: dict[str, list[float]] = field(default_factory=dict)
    kilobytes: list[int] = field(default_factory=list)
    calibrations: list[float] = field(default_factory=list)

    def milliseconds(self, mark: str) -> float:
        """The median CPU time from the first line of Python to this mark."""
        return median(end - start for end, start in zip(self.cpu[mark], self.cpu["interpreter"], strict=True))

    def elapsed(self, mark: str) -> float:
        """The same by the clock, waiting for DynamoDB and KMS included."""
        return median(self.wall[mark])

    @property
    def megabytes(self) -> float:
        return median(self.kilobytes) / 1024

    def note(self, result: Mapping[str, object]) -> None:
        """Add one run of the child."""
        marks: dict[str, tuple[float, float]] = result["marks"]  # type: ignore[assignment]
        for mark, (cpu, wall) in marks.items():
            self.cpu.setdefault(mark, []).append(cpu)
            self.wall.setdefault(mark, []).append(wall)
        self.kilobytes.append(result["kilobytes"])  # type: ignore[arg-type]
        self.calibrations.append(result["calibration"])  # type: ignore[arg-type]


@contextmanager
def trees() -> Iterator[Trees]:
    """The package as `deploy` builds it, unpacked twice, and a copy of the installed boto3."""
    with TemporaryDirectory(prefix="signet-bench-") as name:
        folder = Path(name)
        made = Trees(folder / "compiled", folder / "source", folder / "runtime")
        with zipfile.ZipFile(package.build("prod", folder, ARCHITECTURE).zip) as archive:
            archive.extractall(made.compiled)
        shutil.copytree(made.compiled, made.source, ignore=_no_bytecode)
        made.runtime.mkdir()
        for library in RUNTIME:
            spec = importlib.util.find_spec(library)
            assert spec, library
            assert spec.origin, library
            origin = Path(spec.origin)
            if origin.name == "__init__.py":
                shutil.copytree(origin.parent, made.runtime / library, ignore=_no_bytecode)
            else:
                shutil.copy(origin, made.runtime)
        options = ["-q", "--invalidation-mode", "unchecked-hash"]
        subprocess.run([sys.executable, "-m", "compileall", *options, str(made.runtime)], check=True)
        yield made


_no_bytecode = shutil.ignore_patterns("__pycache__", "*.pyc")


def starts(
    trees: Trees, environment: Mapping[str, str], events: Callable[[], dict[str, flow.Event]], repetitions: int
) -> dict[str, Start]:
    """Cold starts of the application and of a naive one, with bytecode and without, in turns."""
    kinds = {
        "app": ("app", trees.compiled),
        "naive": ("naive", trees.compiled),
        "app, no .pyc": ("app", trees.source),
        "naive, no .pyc": ("naive", trees.source),
        "app, restored by SnapStart": ("restored", trees.compiled),
    }
    found = {name: Start() for name in kinds}
    for _ in range(repetitions):
        for name, (what, tree) in kinds.items():
            found[name].note(json.loads(_run(what, tree, trees.runtime, environment, events()).splitlines()[-1]))
    return found


def imports(
    trees: Trees, environment: Mapping[str, str], events: Callable[[], dict[str, flow.Event]], most: int = 10
) -> list[tuple[str, int, float]]:
    """What takes longest to import on the way to the first token: library or module of Python's own, how many modules
    of it, and milliseconds by the clock, slowed down by the measuring. Of each module the best of a few runs counts:
    waiting for the disk is no work.
    """
    runs: dict[str, list[int]] = {}
    for _ in range(_IMPORT_RUNS):
        said = _run("app", trees.compiled, trees.runtime, environment, events(), "-X", "importtime")
        for microseconds, module in _IMPORTED.findall(said):
            runs.setdefault(module, []).append(int(microseconds))
    times: Counter[str] = Counter()
    modules: Counter[str] = Counter()
    for module, took in runs.items():
        top = module.partition(".")[0]
        times[top] += min(took)
        modules[top] += 1
    return [(top, modules[top], time / 1000) for top, time in times.most_common(most)]


def _run(
    what: str,
    tree: Path,
    runtime: Path,
    environment: Mapping[str, str],
    events: dict[str, flow.Event],
    *options: str,
) -> str:
    # -S: what is installed beside this interpreter must not be found.
    done = subprocess.run(
        [sys.executable, "-S", *options, str(CHILD), what, str(tree), str(runtime)],
        env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
        input=json.dumps(events),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"The {what} child failed:\n{done.stdout}\n{done.stderr}")
    return done.stderr
