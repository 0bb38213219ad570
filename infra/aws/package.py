"""Build what `deploy` uploads: the zip with its bytecode, and the CloudFormation template for it.

`chalice package` builds both from a copy of the application, so that they contain nothing else and the checkout does
not change. The copy has the libraries in vendor/ and no requirements, so that chalice downloads nothing. The zip is
then trimmed, compiled, and written reproducibly, byte for byte. It has no sources but app.py: bytecode alone is loaded
sooner and is half as long. Tracebacks still name the file and the line.
"""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from infra.aws import libraries
from infra.aws.bill_of_materials import bill_of_materials
from infra.local.state import CHECKOUT
from infra.operator.commands import CommandError
from infra.operator.doctor.function import RUNTIME_ENDS

API = Path(__file__).with_name("api.yaml")
REQUIREMENTS = "requirements.txt"
APPLICATION = ("app.py", "chalicelib", REQUIREMENTS)
# The parts of fido2 for authenticators, browsers and attestation.
_FIDO2 = (
    *("attestation", "client", "ctap.py", "ctap1.py", "ctap2", "features.py", "hid", "mds3.py", "payment.py"),
    *("pcsc.py", "public_suffix_list.dat", "rpid.py", "server.py"),
)
# passlib's other schemes: only argon2 and PBKDF2 are used.
_PASSLIB_HANDLERS = (
    *("bcrypt", "cisco", "des_crypt", "digests", "django", "fshp", "ldap_digests", "md5_crypt", "misc", "mssql"),
    *("mysql", "oracle", "phpass", "postgres", "roundup", "scram", "scrypt", "sha1_crypt", "sha2_crypt"),
    *("sun_md5_crypt", "windows"),
)
# Build tools of the argon2 and cryptography extensions, which need only _cffi_backend at run time; and the parts of
# passlib for other uses than hashes: Django, .htpasswd, one-time passwords, random passwords, systems' presets; segno's
# command, and its functions for contacts and networks; the translations that are not compiled.
_NOT_NEEDED = (
    *("cffi", "cffi-*", "pycparser", "pycparser-*"),
    *(f"fido2/{name}" for name in _FIDO2),
    *(f"passlib/handlers/{name}.py" for name in _PASSLIB_HANDLERS),
    *(f"passlib/crypto/{name}" for name in ("_blowfish", "des.py", "scrypt")),
    *(f"passlib/{name}" for name in ("_data", "apache.py", "apps.py", "ext", "hosts.py", "pwd.py", "totp.py")),
    *(f"segno/{name}" for name in ("cli.py", "helpers.py", "helpers.pyi")),
    "chalicelib/pages/translations/*/LC_MESSAGES/*.po",
)
# Resources of chalice's REST API, which would be a second address of the same server.
_NOT_DEPLOYED = ("RestAPI", "APIHandlerInvokePermission")
# chalice also creates a function for each schedule; infra/aws/api.yaml has rules for the schedules instead.
_FUNCTION = "AWS::Serverless::Function"
_OUTPUTS_NOT_DEPLOYED = ("RestAPIId", "EndpointURL")
_SNAPSTART_FROM = (3, 12)
_LAMBDA_ROOT = "/var/task"  # the code's folder in Lambda, as shown in tracebacks
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can store
_CHALICE = "import sys; from chalice.cli import main; sys.exit(main())"


@dataclass(frozen=True)
class Package:
    """A build: its template, its zip, the zip's SHA-256, its bill of materials, and notes for the operator.

    `configured`: the environment variables of the stage in .chalice/config.json.
    """

    template: dict[str, Any]
    zip: Path
    sha256: str
    bill_of_materials: str
    notes: tuple[str, ...]
    configured: dict[str, str] = field(default_factory=dict)

    @property
    def checksum(self) -> str:
        """The SHA-256 in the form of S3 (ChecksumSHA256) and Lambda (CodeSha256)."""
        return base64.b64encode(bytes.fromhex(self.sha256)).decode()

    def at(self, bucket: str, key: str, object_version: str, parameters: dict[str, str]) -> str:
        """Return the template, as JSON, for this zip at a version of `key` in `bucket` and for these parameters.

        CloudFormation publishes a version only when its logical name is new, and Lambda only when the function has
        changed. So both the name and the description contain a digest of everything that may change the function.
        """
        template = json.loads(json.dumps(self.template))  # a deep copy, without YAML's shared parts
        resources = template["Resources"]
        function = resources["APIHandler"]["Properties"]
        for parameter, variable in setting_parameters().items():
            if variable in self.configured and not parameters.get(parameter):
                function["Environment"]["Variables"][variable] = self.configured[variable]
        content = json.dumps([self.sha256, function, parameters], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()
        function["CodeUri"] = {"Bucket": bucket, "Key": key} | ({"Version": object_version} if object_version else {})
        function["Description"] = f"Signet {digest[:10]}"
        version = f"Version{digest[:10]}"
        resources[version] = resources.pop("Version")
        # Lambda publishes no version of other code.
        resources[version]["Properties"]["CodeSha256"] = self.checksum
        resources["Alias"]["Properties"]["FunctionVersion"] = {"Fn::GetAtt": [version, "Version"]}
        # Compact, because CloudFormation accepts 51,200 bytes.
        return json.dumps(template, separators=(",", ":"))  # CloudFormation takes 51,200 characters


def setting_parameters() -> dict[str, str]:
    """Return the environment variable of each parameter of the template that is a setting of the server."""
    variables = yaml.safe_load(API.read_text())["Resources"]["APIHandler"]["Properties"]["Environment"]["Variables"]
    return {value["Ref"]: name for name, value in variables.items() if value.keys() == {"Ref"}}


def build(stage: str, folder: Path, architecture: str = "arm64", checkout: Path = CHECKOUT) -> Package:
    """Package the application of `checkout` for a stage into `folder`.

    Raises CommandError when a library cannot be downloaded or chalice fails.
    """
    with TemporaryDirectory(prefix="signet-") as work:
        wheels, project, output, content = (Path(work, name) for name in ("wheels", "project", "output", "content"))
        libraries.download(checkout / REQUIREMENTS, wheels, architecture)
        _copy_application(checkout, project, stage, architecture)
        names = {wheel: libraries.unpack(wheel, project / "vendor") for wheel in sorted(wheels.glob("*.whl"))}
        _chalice_package(project, output, stage)
        with zipfile.ZipFile(output / "deployment.zip") as archive:
            archive.extractall(content)
        template = yaml.safe_load((output / "sam.yaml").read_text())
        _trim(content)
        kept = [wheel for wheel in names if any((content / name).exists() for name in names[wheel])]
        _compile(content)
        file = folder / "signet.zip"
        _write_zip(content, file)
        sha256 = _sha256(file)
        materials = bill_of_materials(kept, sha256)
    remarks = tuple(notes(sys.version_info[:2]))
    return Package(_without_chalice_front(template), file, sha256, materials, remarks, _configured(checkout, stage))


def runtime(version: tuple[int, int] | None = None) -> str:
    """Return the Lambda runtime of a Python version; by default of the running one, which chalice builds for."""
    major, minor = version or sys.version_info[:2]
    return f"python{major}.{minor}"


def notes(version: tuple[int, int], today: date | None = None) -> list[str]:
    """Return notes, one sentence each, for an operator who deploys from this version of Python."""
    sentences, name = [], runtime(version)
    if version < _SNAPSTART_FROM:
        sentences.append(f"SnapStart is not used: Lambda supports it from Python 3.12, and this is {name}.")
    end = RUNTIME_ENDS.get(name)
    if end is None:
        sentences.append(f"It is unknown whether Lambda supports {name}.")
    elif (left := (end - (today or datetime.now(UTC).date())).days) < 365:
        sentences.append(f"AWS support for {name} ends on {end}, in {left} days. Deploy from a newer Python by then.")
    return sentences


def _copy_application(checkout: Path, project: Path, stage: str, architecture: str) -> None:
    project.mkdir()
    for name in APPLICATION:
        source = checkout / name
        if source.is_dir():
            shutil.copytree(source, project / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy(source, project / name)
    (project / REQUIREMENTS).write_text("")  # otherwise chalice would download them itself
    config = json.loads((checkout / ".chalice" / "config.json").read_text())
    own = config["stages"].get(stage, {})
    config["stages"] = {stage: {name: value for name, value in own.items() if name != "iam_policy_file"}}
    # The role is in infra/aws/api.yaml; any name keeps chalice from creating its own.
    config |= {"lambda_architecture": architecture, "manage_iam_role": False, "iam_role_arn": "infra/aws/api.yaml"}
    (project / ".chalice").mkdir()
    (project / ".chalice" / "config.json").write_text(json.dumps(config))


def _configured(checkout: Path, stage: str) -> dict[str, str]:
    config = json.loads((checkout / ".chalice" / "config.json").read_text())
    own = config["stages"].get(stage, {})
    return {**config.get("environment_variables", {}), **own.get("environment_variables", {})}


def _chalice_package(project: Path, output: Path, stage: str) -> None:
    arguments = ["package", "--stage", stage, "--merge-template", str(API), str(output)]
    # chalice creates AWS clients, which need a region, but calls no service.
    environment = {"AWS_DEFAULT_REGION": "us-east-1", **os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PIP_NO_INDEX": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _CHALICE, *arguments],
        cwd=project,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not (output / "deployment.zip").is_file():
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise CommandError(f"chalice package failed: {words[-1] if words else 'no output'}")


def _trim(content: Path) -> None:
    for pattern in _NOT_NEEDED:
        for path in content.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _compile(content: Path) -> None:
    """Replace every source by its bytecode. app.py, which the function names, keeps its source beside it.

    The bytecode has hashes that imports do not check, so that they do not read the source. Runs in a separate
    interpreter, because bytecode differs slightly with the history of the compiling process.
    """
    application = content / "app.py"
    for options, target in (([], application), (["-b"], content)):
        options += ["-q", "--invalidation-mode", "unchecked-hash", "-s", str(content), "-p", _LAMBDA_ROOT]
        command = [sys.executable, "-I", "-m", "compileall", *options, str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CommandError(f"The application does not compile: {done.stdout.strip() or done.stderr.strip()}")
    for source in content.rglob("*.py"):
        if source != application:
            source.unlink()
    application.with_suffix(".pyc").unlink()


def _write_zip(content: Path, file: Path) -> None:
    """Write a reproducible zip: sorted, without times, and readable for all users, as Lambda requires."""
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
    schedules = [name for name, resource in resources.items() if resource["Type"] == _FUNCTION and name != "APIHandler"]
    for name in (*_NOT_DEPLOYED, *schedules):
        resources.pop(name, None)
    for name in _OUTPUTS_NOT_DEPLOYED:
        template["Outputs"].pop(name, None)
    if sys.version_info[:2] < _SNAPSTART_FROM:
        template["Resources"]["APIHandler"]["Properties"].pop("SnapStart")
        template["Parameters"].pop("SnapStart")
    return template


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
