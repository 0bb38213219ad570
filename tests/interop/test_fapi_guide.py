"""The guide docs/fapi.md: its programs make a key, and sign a user in with the profile that its command registers."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.conftest import DOCS
from tests.interop.programs import NODE_FOLDER, Program, node_with, open_url
from tests.support.browser import Browser
from tests.support.operator import RunCommand, output_json
from tests.support.site import Site

pytestmark = [pytest.mark.slow, pytest.mark.programs, pytest.mark.spec("FAPI 2.0 Security Profile §5.3.2.1")]
GUIDE = (DOCS / "fapi.md").read_text("utf-8")
MAKE_KEY, CONFIGURE = re.findall(r"```js\n(.*?)```", GUIDE, re.DOTALL)
# What the application does in between, where the guide has a comment.
BROWSER = re.compile(r"^// … .*currentUrl.*$", re.MULTILINE)
READS_URL = """
import { read, write } from "./program.mjs";
await read();
write({ open: url.href });
const currentUrl = new URL((await read()).url);
"""


def command_of_the_guide() -> list[str]:
    """Return the arguments of the command that registers the client."""
    (line,) = re.findall(r"signet (client create --id bank .*?[^\\])$", GUIDE, re.MULTILINE | re.DOTALL)
    return shlex.split(line.replace("\\\n", " "))


def program_of_the_guide(issuer: str) -> str:
    """Return the program, as the guide says to change it for a server at this machine."""
    (options,) = re.findall(r"argument of `discovery`: `([^`]+)`", re.sub(r"\s+", " ", GUIDE))
    local = re.sub(r"(client\.discovery\(.*), method\)", rf"\1, method, {options})", CONFIGURE)
    assert options in local
    text, changes = BROWSER.subn(READS_URL, local.replace("https://login.example.com", issuer))
    assert changes == 1
    return text + "write(tokens); process.exit(0);\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "node_modules").symlink_to(NODE_FOLDER / "node_modules")
    (tmp_path / "program.mjs").symlink_to(NODE_FOLDER / "program.mjs")
    (tmp_path / "make_key.mjs").write_text(MAKE_KEY)
    return tmp_path


@pytest.fixture
def tokens(site: Site, browser: Browser, run_command: RunCommand, folder: Path) -> Iterator[dict[str, Any]]:
    """The tokens that the program of the guide gets."""
    node = node_with("openid-client")
    subprocess.run([node, "make_key.mjs"], cwd=folder, check=True)
    assert (folder / "private.json").stat().st_mode & 0o077 == 0
    arguments = [str(folder / word) if word == "bank.json" else word for word in command_of_the_guide()]
    assert output_json(run_command(*arguments, "--json"))["profile"] == "fapi2"
    site.user("alice")
    (folder / "application.mjs").write_text(program_of_the_guide(site.settings.issuer))
    program = Program([node, "application.mjs"], folder, {})
    try:
        answer = open_url(site, browser, program.receive()["open"])
        assert answer.status == 303
        program.send({"url": answer.location})
        yield program.receive()
    finally:
        program.close()


def test_programs_of_the_guide_get_bound_tokens(site: Site, tokens: dict[str, Any]) -> None:
    site.secrets.update(tokens[name] for name in ("access_token", "refresh_token", "id_token"))
    assert tokens["token_type"].lower() == "dpop"
    assert set(tokens["scope"].split()) == {"openid", "offline_access"}
