"""The zip that `deploy` builds: its content, and that it runs without other libraries."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from chalicelib import __version__
from infra.aws import package
from infra.aws.package import REQUIREMENTS
from infra.local.state import CHECKOUT
from infra.operator.commands import CommandError
from tests.support.packaging import ARCHITECTURE, STAGE, packaged
from tests.tools.requirement_hashes import Requirement, parse

LARGEST = 7_200_000
MOST_FILES = 640
# The libraries of Lambda's runtime; all others must be in the zip.
RUNTIME = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3")
EVENT = {
    "version": "1.0",
    "resource": "$default",
    "headers": {"Host": "abc123.execute-api.eu-central-1.amazonaws.com", "X-Forwarded-Proto": "https"},
    "multiValueHeaders": {"Host": ["abc123.execute-api.eu-central-1.amazonaws.com"]},
    "queryStringParameters": None,
    "multiValueQueryStringParameters": None,
    "requestContext": {
        "apiId": "abc123",
        "domainName": "abc123.execute-api.eu-central-1.amazonaws.com",
        "identity": {"sourceIp": "198.51.100.7"},
        "requestId": "c6af9ac6",
        "resourcePath": "$default",
        "stage": "$default",
    },
    "body": None,
    "isBase64Encoded": False,
}
# The import path of Lambda: first the code, then the libraries of the runtime.
BOOT = """
import json, sys
code, runtime = sys.argv[1:]
sys.path[:0] = [code]
sys.path.append(runtime)
"""


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("var-task")
    with zipfile.ZipFile(packaged().zip) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with only boto3 and its dependencies."""
    import boto3

    folder, site = tmp_path_factory.mktemp("runtime"), Path(boto3.__file__).parent.parent
    for name in RUNTIME:
        source = next(path for path in (site / name, site / f"{name}.py") if path.exists())
        (folder / source.name).symlink_to(source)
    return folder


def run(code: str, content: Path, runtime: Path, **environment: str) -> str:
    """Run code without this environment's libraries and without the checkout. Return its output."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", BOOT + code, str(content), str(runtime)],
        cwd=content.parent,
        env={"AWS_LAMBDA_FUNCTION_NAME": "signet", "AWS_REGION": "eu-central-1", "SIGNET_STAGE": STAGE, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def ask(path: str, content: Path, runtime: Path) -> tuple[dict[str, Any], list[str]]:
    """Call the function with an event of the gateway. Return its response and its log lines."""
    event = {**EVENT, "httpMethod": "GET", "path": path}
    event["requestContext"] = {**EVENT["requestContext"], "httpMethod": "GET", "path": path}  # type: ignore[dict-item]
    code = f"import app; answer = app.http_handler(json.loads({json.dumps(event)!r}), None); print(json.dumps(answer))"
    *log, answer = run(code, content, runtime).splitlines()
    return json.loads(answer), log


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"])
def test_unpacked_zip_serves_metadata(path: str, content: Path, runtime: Path) -> None:
    answer, _ = ask(path, content, runtime)
    assert answer["statusCode"] == 200
    metadata = json.loads(answer["body"])
    assert metadata["issuer"] == "https://abc123.execute-api.eu-central-1.amazonaws.com"
    assert metadata["token_endpoint"] == f"{metadata['issuer']}/oauth2/token"


def test_unpacked_zip_serves_healthz_and_pages(content: Path, runtime: Path) -> None:
    answer, _ = ask("/healthz", content, runtime)
    assert (answer["statusCode"], json.loads(answer["body"])) == (200, {"status": "ok", "version": __version__})
    page, _ = ask("/nowhere", content, runtime)
    assert page["statusCode"] == 404
    assert "Page not found" in page["body"]
    style, _ = ask("/style.css", content, runtime)
    assert style["headers"]["Content-Type"].startswith("text/css")


def test_log_line_contains_metrics_for_cloudwatch(content: Path, runtime: Path) -> None:
    _, log = ask("/healthz", content, runtime)
    (line,) = (json.loads(text) for text in log)  # the only line
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "Signet"
    assert ["stage"] in directive["Dimensions"]
    assert line["stage"] == STAGE
    assert all(metric["Name"] in line for metric in directive["Metrics"])


def test_zip_works_without_the_removed_build_tools(content: Path, runtime: Path) -> None:
    """Passwords and keys use C extensions, whose build tools are not in the zip."""
    code = """
from chalicelib.authentication import passwords
from chalicelib.keys import signing
hashed = passwords.hash_password("correct horse battery staple")
assert passwords.verify("correct horse battery staple", hashed), hashed
imported = "$pbkdf2-sha256$1000$c2FsdHNhbHQ$Sst.X1F2m5BSgiPX/C45pLm.GR/ONbkvt6p4fdgK4Zg"
assert passwords.is_supported_hash(imported) and not passwords.verify("wrong", imported)
from chalicelib.authentication import passkeys
try:
    passkeys.check_attestation(passkeys.Attestation(b"{}", b""), "u", "example.com", (), bool)
except passkeys.PasskeyError as refused:
    assert refused.detail == "the client data has another type", refused.detail
import fido2.webauthn
for alg in signing.ALGORITHMS:
    print(signing.parse(signing.new_entry(alg, 0), None).jwt({"sub": "alice"}, "JWT").count("."))
outside = {name for name, module in sys.modules.items() for file in [getattr(module, "__file__", None) or ""]
           if "site-packages" in file and "/runtime" not in file}
print(sorted(outside), [name for name in ("cffi", "pycparser", "moto", "click", "yaml") if name in sys.modules])
"""
    assert run(code, content, runtime).split("\n")[:5] == ["2", "2", "2", "2", "[] []"]


def test_bytecode_is_used_instead_of_the_sources(content: Path, runtime: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(packaged().zip) as archive:
        archive.extractall(tmp_path)
    (tmp_path / "app.py").write_text("raise SystemExit('this source was read')")
    answer, _ = ask("/healthz", tmp_path, runtime)
    assert answer["statusCode"] == 200


def test_zip_has_bytecode_instead_of_sources_with_the_paths_of_lambda(content: Path) -> None:
    tag = sys.implementation.cache_tag
    assert [path.relative_to(content).as_posix() for path in content.rglob("*.py")] == ["app.py"]
    compiled = list(content.rglob("*.pyc"))
    assert {path.relative_to(content).as_posix() for path in content.rglob("__pycache__/*")} == {
        f"__pycache__/app.{tag}.pyc"
    }
    for bytecode in compiled:
        # PEP 552: bit 0 means a hash instead of a time, and bit 1, which is not set, that it is checked.
        assert bytecode.read_bytes()[4:8] == b"\x01\0\0\0", bytecode
    assert {"chalicelib/web.pyc", "jinja2/environment.pyc"} <= {
        path.relative_to(content).as_posix() for path in compiled
    }
    assert b"/var/task/chalicelib/web.py" in (content / "chalicelib" / "web.pyc").read_bytes()


def test_zip_is_small() -> None:
    with zipfile.ZipFile(packaged().zip) as archive:
        names = archive.namelist()
    assert "chalicelib/authentication/common_passwords.txt.z" in names
    assert packaged().zip.stat().st_size <= LARGEST
    assert len(names) <= MOST_FILES


def test_zip_contains_only_the_application_and_its_libraries() -> None:
    with zipfile.ZipFile(packaged().zip) as archive:
        top = {name.partition("/")[0] for name in archive.namelist()}
    assert {"app.py", "chalicelib", "chalice", "jwt", "cryptography", "passlib", "argon2", "jinja2"} <= top
    unwanted = r"tests?|infra|moto|boto.*|s3transfer|pytest.*|click|yaml|pip|setuptools|\.chalice|bench|requirements.*"
    assert not [name for name in top if re.fullmatch(unwanted, name, re.IGNORECASE)]


def test_zip_contains_no_secret_and_no_local_path() -> None:
    secret = re.compile(rb"(AKIA|ASIA)[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY-----\s*MI")
    with zipfile.ZipFile(packaged().zip) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            assert not secret.search(content), name
            assert str(CHECKOUT).encode() not in content, name
            assert b"/tmp/signet-" not in content, name


def test_zip_entries_are_readable_sorted_and_without_times() -> None:
    with zipfile.ZipFile(packaged().zip) as archive:
        entries = archive.infolist()
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)


def test_bill_of_materials_lists_what_the_zip_contains_with_the_verified_hashes() -> None:
    built = packaged()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(built.bill_of_materials) is None
    document = json.loads(built.bill_of_materials)
    application = document["metadata"]["component"]
    assert (application["name"], application["hashes"][0]["content"]) == ("signet", built.sha256)
    components = {component["name"].lower(): component for component in document["components"]}
    pins = {
        each.project: each for each in parse((CHECKOUT / REQUIREMENTS).read_text()) if isinstance(each, Requirement)
    }
    # pycparser is removed from the zip; of chalice, two files are copied from this environment.
    assert set(components) == set(pins) - {"pycparser"} | {"chalice"}
    for name, component in components.items():
        assert component["purl"] == f"pkg:pypi/{name}@{component['version']}"
        assert component["licenses"], name
        if name != "chalice":
            assert component["version"] == pins[name].version
            assert component["hashes"][0]["content"] in pins[name].hashes
    (dependencies,) = (entry for entry in document["dependencies"] if entry["ref"] == application["bom-ref"])
    assert set(dependencies["dependsOn"]) == {component["bom-ref"] for component in components.values()}


def test_error_of_chalice_is_reported(tmp_path: Path) -> None:
    project = tmp_path / "checkout"
    (project / "chalicelib").mkdir(parents=True)
    (project / ".chalice").mkdir()
    (project / ".chalice" / "config.json").write_text(json.dumps({"version": "2.0", "app_name": "x", "stages": {}}))
    (project / "requirements.txt").write_text("")
    (project / "app.py").write_text("raise RuntimeError('this application is broken')")
    with pytest.raises(CommandError, match="this application is broken"):
        package.build(STAGE, tmp_path / "out", ARCHITECTURE, project)
