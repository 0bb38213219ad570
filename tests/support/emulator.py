"""An emulated AWS (ministack) on 127.0.0.1, and a proxy that adds what its HTTP API lacks.

Its CloudFormation creates tables without TTL, backups, encryption and deletion protection, which `signet data` then
sets. Its HTTP API answers OPTIONS itself, which the doctor reports.
"""

import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.support.ports import free_port

REQUIREMENTS = Path(__file__).with_name("emulator.txt")
REGION = "eu-central-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
_PATIENCE = 60


class NotInstallable(Exception):
    """The emulator cannot be installed on this machine; the message says why."""


def interpreter() -> Path:
    """Return the Python of the emulator's virtualenv, which is created once in the user's cache folder.

    Raises NotInstallable.
    """
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode() + sys.prefix.encode()).hexdigest()[:12]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    ready = home / "signet" / f"emulator-{digest}"
    if not ready.exists():
        try:
            ready.parent.mkdir(parents=True, exist_ok=True)
            new = Path(tempfile.mkdtemp(prefix="new-", dir=ready.parent))
            venv.create(new, with_pip=True, symlinks=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise NotInstallable(f"the virtualenv cannot be created: {error}") from error
        # pip as a module: the virtualenv is renamed afterwards, which breaks its scripts.
        command = [str(new / "bin" / "python"), "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(new, ignore_errors=True)
            raise NotInstallable(f"pip cannot install {REQUIREMENTS.name}: {done.stderr.strip().splitlines()[-1]}")
        try:
            new.rename(ready)
        except OSError:  # another process was faster
            shutil.rmtree(new, ignore_errors=True)
    return ready / "bin" / "python"


class Emulator:
    """A ministack process, which checks signatures and IAM policies as AWS does (AUTH)."""

    def __init__(self, folder: Path):
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.environment = {**CREDENTIALS, "AWS_DEFAULT_REGION": REGION, "AWS_ENDPOINT_URL": self.endpoint}
        own = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SIGNET_"))},
            **CREDENTIALS,
            "AUTH": "true",
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "IOT_MTLS_ENABLED": "0",  # it would listen on every interface
            "MINISTACK_REGION": REGION,
            "TMPDIR": str(folder),
        }
        self._lock, self._clients = threading.Lock(), dict[str, Any]()
        self._log = (folder / "ministack.log").open("wb")
        self._process = subprocess.Popen(
            [str(interpreter()), "-m", "ministack"], env=own, stdout=self._log, stderr=subprocess.STDOUT
        )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def client(self, service: str) -> Any:
        """Return a boto3 client of the emulator, created once for each service."""
        with self._lock:
            if service not in self._clients:
                session: Any = boto3.Session("test", "test", region_name=REGION)
                self._clients[service] = session.client(service, endpoint_url=self.endpoint)
            return self._clients[service]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _wait(self) -> None:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/_ministack/health")
                assert connection.getresponse().status == 200
            except OSError:
                assert self._process.poll() is None, Path(self._log.name).read_text()
                assert time.monotonic() < end, "ministack does not answer"
                time.sleep(0.1)
            else:
                connection.close()
                return


class ApiProxy:
    """A proxy to a stage's HTTP API at http://127.0.0.1:<port>, an address that exists before the API is created.

    ministack uses addresses like /oauth2/token for its own Cognito on every host, so the proxy calls the API under
    /_aws/execute-api/. ministack also neither renames WWW-Authenticate, as API Gateway does, nor applies the
    integration's response parameters: the proxy does both.
    """

    def __init__(self, emulator: Emulator, stage: str):
        self._emulator = emulator
        self._stage = stage
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._exchange())
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def api(self) -> tuple[str, dict[str, dict[str, str]]]:
        """Return the API's id, and for each status the destinations and sources of its response parameters."""
        gateway = self._emulator.client("apigatewayv2")
        (api_id,) = (api["ApiId"] for api in gateway.get_apis()["Items"] if api["Name"] == f"signet-{self._stage}")
        (integration,) = gateway.get_integrations(ApiId=api_id)["Items"]
        # ministack returns the spelling of CloudFormation, which AWS converts to that of the API.
        parameters = {
            status: {mapping["Destination"]: mapping["Source"] for mapping in response["ResponseParameters"]}
            for status, response in integration["ResponseParameters"].items()
        }
        return api_id, parameters

    def _exchange(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Exchange(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Log nothing."""

            def do_any(self) -> None:
                proxy.forward(self)

            do_GET = do_POST = do_OPTIONS = do_PUT = do_DELETE = do_HEAD = do_any  # noqa: N815

        return Exchange

    def forward(self, exchange: BaseHTTPRequestHandler) -> None:
        """Send a request to the API, and its response to the caller."""
        body = exchange.rfile.read(int(exchange.headers.get("Content-Length") or 0))
        api, mappings = self.api()
        connection = http.client.HTTPConnection("127.0.0.1", self._emulator.port, timeout=60)
        sent = {name: value for name, value in exchange.headers.items() if name.lower() != "host"}
        connection.request(exchange.command, f"/_aws/execute-api/{api}/$default{exchange.path}", body, sent)
        answer = connection.getresponse()
        content = answer.read()
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP]
        connection.close()
        exchange.send_response_only(answer.status)
        for name, value in _as_api_gateway(headers, mappings.get(str(answer.status), {})):
            exchange.send_header(name, value)
        exchange.send_header("Content-Length", str(len(content)))
        exchange.end_headers()
        exchange.wfile.write(content)


_HOP_BY_HOP = ("connection", "content-length", "transfer-encoding", "keep-alive")


def _as_api_gateway(headers: list[tuple[str, str]], mapping: dict[str, str]) -> list[tuple[str, str]]:
    """Return the headers as API Gateway renames and maps them (`overwrite:header.name` to `$response.header.name`)."""
    before = {name.lower(): value for name, value in headers}
    renamed = [("x-amzn-Remapped-WWW-Authenticate" if n.lower() == "www-authenticate" else n, v) for n, v in headers]
    for destination, source in mapping.items():
        action, _, name = destination.partition(":header.")
        assert action in ("overwrite", "remove"), destination
        renamed = [(header, value) for header, value in renamed if header.lower() != name.lower()]
        if action == "overwrite":
            renamed.append((name, before.get(source.removeprefix("$response.header.").lower(), "")))
    return renamed


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
