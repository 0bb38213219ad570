"""A proxy between the doctor and the site that changes responses, so that the doctor has faults to report."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from infra.operator.doctor.findings import Finding
from infra.operator.doctor.visit import ask


@dataclass
class ProxiedResponse:
    """A response on its way to the doctor, which a Tamper function can change."""

    path: str
    status: int
    headers: dict[str, str]
    body: str
    method: str = "GET"

    def json(self, **members: Any) -> None:
        """Change members of the JSON object; None removes one."""
        changed = json.loads(self.body) | members
        self.body = json.dumps({name: value for name, value in changed.items() if value is not None})


Tamper = Callable[[ProxiedResponse], object]


@dataclass
class TamperingProxy:
    """Forwards requests to `target` and passes each response through `tamper`."""

    target: str = ""
    tamper: Tamper = lambda _answer: None
    server: ThreadingHTTPServer = field(init=False)

    def __post_init__(self) -> None:
        proxy = self

        class Exchange(BaseHTTPRequestHandler):
            def do_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
                forwarded = ("authorization", "origin", "content-type", "access-control-request-method")
                headers = {name: value for name, value in self.headers.items() if name.lower() in forwarded}
                form: Any = dict(pair.split("=", 1) for pair in body.decode().split("&")) if body else None
                response = ask(self.command, proxy.target + self.path, form, headers)
                fields = {name.title(): value for name, value in response.headers.items()}
                changed = ProxiedResponse(self.path, response.status, fields, response.body.decode(), self.command)
                proxy.tamper(changed)
                sent = changed.body.encode()
                self.send_response_only(changed.status)
                for name, value in (changed.headers | {"Content-Length": str(len(sent))}).items():
                    if name not in ("Server", "Connection"):
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(sent)

            do_GET = do_POST = do_OPTIONS = do_any  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Exchange)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def drop_header(path: str, name: str) -> Tamper:
    return lambda answer: answer.headers.pop(name, None) if path in answer.path else None


def change_members(path: str, **members: Any) -> Tamper:
    return lambda answer: answer.json(**members) if path in answer.path and answer.status == 200 else None


def replace_response(path: str, status: int, body: str = "{}", **headers: str) -> Tamper:
    def tamper(spoiled: ProxiedResponse) -> None:
        if path in spoiled.path:
            spoiled.status, spoiled.body = status, body
            spoiled.headers |= {name.replace("_", "-"): value for name, value in headers.items()}

    return tamper


def change_key(**members: Any) -> Tamper:
    def tamper(spoiled: ProxiedResponse) -> None:
        if "jwks" in spoiled.path:
            keys = json.loads(spoiled.body)["keys"]
            keys[0] = {name: value for name, value in (keys[0] | members).items() if value is not None}
            spoiled.body = json.dumps({"keys": keys})

    return tamper


def set_header(path: str, name: str, value: str) -> Tamper:
    return lambda spoiled: spoiled.headers.update({name: value}) if path in spoiled.path else None


# ---- the doctor's findings


def finding_names(findings: list[Finding], ok: bool | None = False) -> list[str]:
    return [finding.name for finding in findings if finding.ok is ok]


def get_finding(findings: list[Finding], name: str) -> Finding:
    (finding,) = [finding for finding in findings if finding.name == name]
    return finding
