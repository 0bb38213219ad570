"""What `deploy` uploads: the zip with its bytecode, and the CloudFormation template that goes with it.

`chalice package` makes both from a copy of the application, so that nothing but the application is in them and the
checkout stays as it is; then the zip is made small, quick to import and, byte for byte, the same each time.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from infra.commands import Refusal
from infra.doctor.function import RUNTIME_ENDS
from infra.state import CHECKOUT

API = Path(__file__).with_name("api.yaml")
ARCHITECTURES = ("arm64", "x86_64")
APPLICATION = ("app.py", "chalicelib", "requirements.txt")
# What the extensions of argon2 and cryptography were built with, and do without now: they need _cffi_backend only.
_NOT_NEEDED = ("cffi", "cffi-*", "pycparser", "pycparser-*")
# What chalice makes for a front that is not ours, the REST API: it would be a second address of the same server.
_NOT_DEPLOYED = ("RestAPI", "APIHandlerInvokePermission")
_FUNCTION = "AWS::Serverless::Function"  # it makes one for each schedule, where infra/api.yaml has a rule
_NOT_TOLD = ("RestAPIId", "EndpointURL")
_SNAPSTART_FROM = (3, 12)
_LAMBDA_ROOT = "/var/task"  # where the code lies in Lambda, and what its tracebacks say
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can hold
_CHALICE = "import sys; from chalice.cli import main; sys.exit(main())"


@dataclass(frozen=True)
class Package:
    """A build: its template, its zip, the zip's SHA-256, and what the operator should know about it."""

    template: dict[str, Any]
    zip: Path
    sha256: str
    notes: tuple[str, ...]

    def at(self, bucket: str, key: str, parameters: dict[str, str]) -> str:
        """The template, in JSON, for this zip at `key` in `bucket` and for these parameters.

        The version's name ends in a digest of all that may change the function: CloudFormation publishes a version
        only when its name is new, and Lambda only when something of the function is, hence the description.
        """
        template = json.loads(json.dumps(self.template))  # a deep copy, without YAML's shared parts
        resources = template["Resources"]
        function = resources["APIHandler"]["Properties"]
        changing = json.dumps([self.sha256, function, parameters], sort_keys=True)
        digest = hashlib.sha256(changing.encode()).hexdigest()
        function["CodeUri"] = {"Bucket": bucket, "Key": key}
        function["Description"] = f"Signet {digest[:10]}"
        version = f"Version{digest[:10]}"
        resources[version] = resources.pop("Version")
        resources["Alias"]["Properties"]["FunctionVersion"] = {"Fn::GetAtt": [version, "Version"]}
        return json.dumps(template, indent=1)


def build(stage: str, folder: Path, architecture: str = "arm64", checkout: Path = CHECKOUT) -> Package:
    """Package the application of `checkout` for a stage, into `folder`. Raises Refusal when chalice cannot."""
    with TemporaryDirectory(prefix="signet-") as work:
        project = Path(work, "project")
        _copy_application(checkout, project, stage, architecture)
        made = Path(work, "made")
        _chalice_package(project, made, stage)
        content = Path(work, "content")
        with zipfile.ZipFile(made / "deployment.zip") as archive:
            archive.extractall(content)
        template = yaml.safe_load((made / "sam.yaml").read_text())
        _trim(content)
        _compile(content)
        file = folder / "signet.zip"
        _write_zip(content, file)
    return Package(_without_chalice_front(template), file, _sha256(file), tuple(notes(sys.version_info[:2])))


def runtime(version: tuple[int, int] | None = None) -> str:
    """The Lambda runtime of a Python version, by default of the running one, which chalice builds for."""
    major, minor = version or sys.version_info[:2]
    return f"python{major}.{minor}"


def notes(version: tuple[int, int], today: date | None = None) -> list[str]:
    """What an operator who deploys from this version of Python should know, a sentence each."""
    said, name = [], runtime(version)
    if version < _SNAPSTART_FROM:
        said.append(f"SnapStart is left out: Lambda has it from Python 3.12 on, and this is {name}.")
    end = RUNTIME_ENDS.get(name)
    if end is None:
        said.append(f"Whether Lambda has {name}, and until when, is not known here.")
    elif (left := (end - (today or datetime.now(UTC).date())).days) < 365:
        said.append(f"AWS ends {name} on {end}, in {left} days: deploy from a newer Python before that.")
    return said


def _copy_application(checkout: Path, project: Path, stage: str, architecture: str) -> None:
    project.mkdir()
    for name in APPLICATION:
        source = checkout / name
        if source.is_dir():
            shutil.copytree(source, project / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy(source, project / name)
    config = json.loads((checkout / ".chalice" / "config.json").read_text())
    own = config["stages"].get(stage, {})
    config["stages"] = {stage: {name: value for name, value in own.items() if name != "iam_policy_file"}}
    # The role is infra/api.yaml's; chalice is content with any name instead of making its own.
    config |= {"lambda_architecture": architecture, "manage_iam_role": False, "iam_role_arn": "infra/api.yaml"}
    (project / ".chalice").mkdir()
    (project / ".chalice" / "config.json").write_text(json.dumps(config))


def _chalice_package(project: Path, made: Path, stage: str) -> None:
    arguments = ["package", "--stage", stage, "--merge-template", str(API), str(made)]
    # It makes a client of each service, but calls none: any region does.
    environment = {"AWS_DEFAULT_REGION": "us-east-1", **os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _CHALICE, *arguments],
        cwd=project,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not (made / "deployment.zip").is_file():
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Refusal(f"chalice package failed: {words[-1] if words else 'it said nothing'}")


def _trim(content: Path) -> None:
    for pattern in _NOT_NEEDED:
        for found in content.glob(pattern):
            shutil.rmtree(found)


def _compile(content: Path) -> None:
    """Put bytecode beside every source. Its hash is never checked, so that an import need not read the source too.

    In an interpreter of its own: bytecode differs a little with what the compiling process has seen before.
    """
    options = ["-q", "--invalidation-mode", "unchecked-hash", "-s", str(content), "-p", _LAMBDA_ROOT]
    command = [sys.executable, "-I", "-m", "compileall", *options, str(content)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refusal(f"The application does not compile: {done.stdout.strip() or done.stderr.strip()}")


def _write_zip(content: Path, file: Path) -> None:
    """The same files give the same bytes: sorted, without times, readable for everybody as Lambda wants it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        files = {path.relative_to(content).as_posix(): path for path in content.rglob("*") if path.is_file()}
        for name, path in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes(), compresslevel=9)


def _without_chalice_front(template: dict[str, Any]) -> dict[str, Any]:
    resources = template["Resources"]
    schedules = [name for name, one in resources.items() if one["Type"] == _FUNCTION and name != "APIHandler"]
    for name in (*_NOT_DEPLOYED, *schedules):
        resources.pop(name, None)
    for name in _NOT_TOLD:
        template["Outputs"].pop(name, None)
    if sys.version_info[:2] < _SNAPSTART_FROM:
        template["Resources"]["APIHandler"]["Properties"].pop("SnapStart")
        template["Parameters"].pop("SnapStart")
    return template


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
