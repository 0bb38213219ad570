"""The guide docs/authorization-details.md: its requests with curl show the payment, and return it with the tokens."""

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import Browser
from tests.support.operator import RunCommand, output_json
from tests.support.site import Site

GUIDE = (Path(__file__).parents[2] / "docs" / "authorization-details.md").read_text("utf-8")
PUSH, EXCHANGE = (block for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL) if "curl" in block)


def run(script: str, variables: dict[str, str]) -> dict[str, Any]:
    """Run a block in bash, with other values of these variables. Return the JSON that it prints."""
    for name, value in variables.items():
        script, changes = re.subn(rf"^{name}=.*$", f"{name}={value}", script, flags=re.MULTILINE)
        assert changes == 1, name
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, timeout=60, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.spec("RFC 9396 §3", "RFC 9396 §7")
def test_requests_of_the_guide_ask_for_a_payment(site: Site, browser: Browser, run_command: RunCommand) -> None:
    secret = ""
    for line in re.findall(r"^\.venv/bin/signet (.*)$", GUIDE, re.MULTILINE):
        if "create" in line or "set payment" in line:
            registered = output_json(run_command(*shlex.split(line), "--json"))
            secret = registered.get("client_secret", secret)
    site.secrets.add(secret)
    site.user("alice")
    pushed = run(PUSH, {"ISSUER": site.settings.issuer, "SECRET": secret})
    request = browser.get("/oauth2/authorize", client_id="shop", request_uri=pushed["request_uri"])
    page = browser.sign_in(request)
    assert "Merchant A" in page.body
    code = browser.submit(page, decision="allow_once").code
    variables = PUSH.partition("\ncurl")[0] + "\n"
    tokens = run(variables + EXCHANGE, {"ISSUER": site.settings.issuer, "SECRET": secret, "CODE": code})
    site.secrets.update(tokens[name] for name in ("access_token", "id_token", "refresh_token") if name in tokens)
    assert [each["creditorName"] for each in tokens["authorization_details"]] == ["Merchant A"]
