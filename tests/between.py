"""A server between the doctor and the site, which spoils answers on their way."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from infra.doctor.findings import Finding
from infra.doctor.visit import ask


@dataclass
class Spoiled:
    """An answer on its way to the doctor; whoever spoils it changes these."""

    path: str
    status: int
    headers: dict[str, str]
    body: str
    method: str = "GET"

    def json(self, **members: Any) -> None:
        """Change members of the JSON object; None takes one away."""
        known = json.loads(self.body) | members
        self.body = json.dumps({name: value for name, value in known.items() if value is not None})


Spoil = Callable[[Spoiled], object]


@dataclass
class Between:
    """Passes requests to the site, and spoils the answers."""

    target: str = ""
    spoil: Spoil = lambda _answer: None
    server: ThreadingHTTPServer = field(init=False)

    def __post_init__(self) -> None:
        between = self

        class Exchange(BaseHTTPRequestHandler):
            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
                kept = ("authorization", "origin", "content-type", "access-control-request-method")
                headers = {name: value for name, value in self.headers.items() if name.lower() in kept}
                parts: Any = dict(pair.split("=", 1) for pair in body.decode().split("&")) if body else None
                real = ask(self.command, between.target + self.path, parts, headers)
                fields = {name.title(): value for name, value in real.headers.items()}
                answer = Spoiled(self.path, real.status, fields, real.body.decode(), self.command)
                between.spoil(answer)
                sent = answer.body.encode()
                self.send_response_only(answer.status)
                for name, value in (answer.headers | {"Content-Length": str(len(sent))}).items():
                    if name not in ("Server", "Connection"):
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(sent)

            do_GET = do_POST = do_OPTIONS = handle_one  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Exchange)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def drop(path: str, name: str) -> Spoil:
    return lambda answer: answer.headers.pop(name, None) if path in answer.path else None


def change(path: str, **members: Any) -> Spoil:
    return lambda answer: answer.json(**members) if path in answer.path and answer.status == 200 else None


def answer(path: str, status: int, body: str = "{}", **headers: str) -> Spoil:
    def spoil(spoiled: Spoiled) -> None:
        if path in spoiled.path:
            spoiled.status, spoiled.body = status, body
            spoiled.headers |= {name.replace("_", "-"): value for name, value in headers.items()}

    return spoil


def key(**members: Any) -> Spoil:
    def spoil(spoiled: Spoiled) -> None:
        if "jwks" in spoiled.path:
            keys = json.loads(spoiled.body)["keys"]
            keys[0] = {name: value for name, value in (keys[0] | members).items() if value is not None}
            spoiled.body = json.dumps({"keys": keys})

    return spoil


def header(path: str, name: str, value: str) -> Spoil:
    return lambda spoiled: spoiled.headers.update({name: value}) if path in spoiled.path else None


# ---- what the doctor says of it


def names(findings: list[Finding], ok: bool | None = False) -> list[str]:
    return [finding.name for finding in findings if finding.ok is ok]


def one(findings: list[Finding], name: str) -> Finding:
    (found,) = [finding for finding in findings if finding.name == name]
    return found
