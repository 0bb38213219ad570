"""Send requests exactly as a document shows them, by curl or byte for byte, and recognise the pages that come back."""

import shutil
import socket
import subprocess
from dataclasses import dataclass

import pytest

from tests.support.browser import Answer, Browser
from tests.support.site import Registered, Site

CURL = shutil.which("curl")
needs_curl = pytest.mark.skipif(CURL is None, reason="curl is not installed")


@dataclass(frozen=True)
class CurlResult:
    """The response to a curl command, and its -v output, where `>` marks what was sent and `<` what was received."""

    answer: Answer
    verbose: str


def curl(site: Site, *arguments: str) -> CurlResult:
    """Run curl with -v and these arguments, the URL last; record the secrets in the response."""
    assert CURL
    done = subprocess.run(
        [CURL, "--silent", "--noproxy", "*", "--max-time", "30", "-v", *arguments],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    received = [line[2:] for line in done.stderr.splitlines() if line.startswith("< ")]
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in received[1:]) if name]
    answer = Answer(int(received[0].split()[1]), headers, done.stdout, arguments[-1])
    _record_secrets(site, answer)
    return CurlResult(answer, done.stderr)


def send_bytes(site: Site, request: bytes) -> Answer:
    """Send these bytes to the server and read the response."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as stream:
            status = int(stream.readline().split()[1])
            headers = []
            while line := stream.readline().decode("latin-1").strip():
                name, _, value = line.partition(":")
                headers.append((name, value.strip()))
            length = next(int(value) for name, value in headers if name.lower() == "content-length")
            answer = Answer(status, headers, stream.read(length).decode(), "")
    _record_secrets(site, answer)
    return answer


def _record_secrets(site: Site, answer: Answer) -> None:
    browser = Browser(site)
    browser.record_secrets(answer)
    browser.close()


def is_sign_in_page(answer: Answer) -> bool:
    """Return whether this is the sign-in page."""
    return "Sign in" in answer.body and "password" in answer.form.fields and "new_password" not in answer.form.fields


def is_consent_page(answer: Answer) -> bool:
    """Return whether this is the consent page."""
    return answer.status == 200 and "Allow access?" in answer.body and ("decision", "deny") in answer.form.buttons


def allow_always(site: Site, client: Registered, *scope: str) -> None:
    """Have alice allow the client these scopes, with a remembered consent."""
    browser = Browser(site)
    browser.code(client, "allow_always", scope=" ".join(scope), code_challenge=None, code_challenge_method=None)
    browser.close()
