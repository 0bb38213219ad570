"""An emulated AWS (ministack) on 127.0.0.1, and a front that does what an HTTP API does and ministack does not.

What is left different from AWS, and has the doctor complain of a deployment here: its CloudFormation makes tables
without TTL, backups, encryption and protection from deletion, and its HTTP API answers OPTIONS by itself.
"""

import hashlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import venv
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3

REQUIREMENTS = Path(__file__).with_name("emulator.txt")
REGION = "eu-central-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
_PATIENCE = 60


class NotInstallable(Exception):
    """The emulator cannot be installed here; the text says why."""


def interpreter() -> Path:
    """The Python of the emulator's own environment, which is made once and kept in the user's cache."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode() + sys.prefix.encode()).hexdigest()[:12]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    ready = home / "signet" / f"emulator-{digest}"
    if not ready.exists():
        try:
            ready.parent.mkdir(parents=True, exist_ok=True)
            new = Path(tempfile.mkdtemp(prefix="new-", dir=ready.parent))
            venv.create(new, with_pip=True, symlinks=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise NotInstallable(f"its environment cannot be made: {error}") from error
        # pip by its module: the environment is moved afterwards, and scripts would not find it any more.
        command = [str(new / "bin" / "python"), "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(new, ignore_errors=True)
            raise NotInstallable(f"pip cannot install {REQUIREMENTS.name}: {done.stderr.strip().splitlines()[-1]}")
        try:
            new.rename(ready)
        except OSError:  # somebody else was quicker
            shutil.rmtree(new, ignore_errors=True)
    return ready / "bin" / "python"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Emulator:
    """ministack as a process of its own, which checks signatures and the policies of roles as AWS does (AUTH)."""

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
        """A boto3 client of this AWS, made once."""
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


class Front:
    """A stage's HTTP API at http://127.0.0.1:<port>, whose address is known before the API is made.

    ministack keeps addresses like /oauth2/token for its own Cognito, whatever host they are asked of; behind a path of
    its own the API has them all. It also neither renames WWW-Authenticate, as API Gateway does, nor applies the
    integration's response parameters: both is done here.
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
        """The API's id, and by status where each response parameter goes and comes from."""
        gateway = self._emulator.client("apigatewayv2")
        (found,) = (api["ApiId"] for api in gateway.get_apis()["Items"] if api["Name"] == f"signet-{self._stage}")
        (integration,) = gateway.get_integrations(ApiId=found)["Items"]
        # ministack keeps CloudFormation's own spelling, from which AWS's makes the API's.
        parameters = {
            status: {one["Destination"]: one["Source"] for one in listed["ResponseParameters"]}
            for status, listed in integration["ResponseParameters"].items()
        }
        return found, parameters

    def _exchange(self) -> type[BaseHTTPRequestHandler]:
        front = self

        class Exchange(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Say nothing."""

            def handle_one(self) -> None:
                front._forward(self)

            do_GET = do_POST = do_OPTIONS = do_PUT = do_DELETE = do_HEAD = handle_one  # noqa: N815

        return Exchange

    def _forward(self, exchange: BaseHTTPRequestHandler) -> None:
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
    """Headers after API Gateway's renaming and the mapping (`overwrite:header.name` → `$response.header.name`)."""
    before = {name.lower(): value for name, value in headers}
    renamed = [("x-amzn-Remapped-WWW-Authenticate" if n.lower() == "www-authenticate" else n, v) for n, v in headers]
    for destination, source in mapping.items():
        action, _, name = destination.partition(":header.")
        assert action in ("overwrite", "remove"), destination
        renamed = [(known, value) for known, value in renamed if known.lower() != name.lower()]
        if action == "overwrite":
            renamed.append((name, before.get(source.removeprefix("$response.header.").lower(), "")))
    return renamed
