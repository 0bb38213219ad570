"""`settings`: what is in force, and where it comes from; `completion`: what the shell is told."""

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import boto3
import pytest

from chalicelib.settings import LIMITS, Settings
from infra import completion
from infra.__main__ import command
from infra.settings_command import in_force
from infra.state import CHECKOUT
from tests.operator import Operate
from tests.site import STAGE, Site

HASH = "ab" * 32
LEAST = {f"SIGNET_{name.upper()}": low for name, (low, _) in LIMITS.items()}


def shown(environ: dict[str, str]) -> dict[str, tuple[str, str]]:
    found, problems = in_force(environ, "here")
    assert problems == []
    return {one.name: (one.value, one.source) for one in found}


def test_every_setting_is_shown(site: Site) -> None:
    names = {f"SIGNET_{one.name.upper()}" for one in fields(Settings)}
    hidden = {"SIGNET_EMBEDDED", "SIGNET_METRICS", "SIGNET_SEALING_KEY", "SIGNET_REGION"}
    assert set(shown({})) == names - hidden | {"AWS_REGION"}


@pytest.mark.parametrize(
    ("environ", "name", "value", "source"),
    [
        ({}, "SIGNET_NAME", "Signet", "default"),
        ({"SIGNET_NAME": "Ours"}, "SIGNET_NAME", "Ours", "here"),
        ({"SIGNET_NAME": ""}, "SIGNET_NAME", "Signet", "default"),
        ({}, "SIGNET_ISSUER", "http://127.0.0.1:8000", "default"),
        ({"PORT": "9000"}, "SIGNET_ISSUER", "http://127.0.0.1:9000", "PORT, here"),
        ({"SIGNET_ISSUER": "https://a.example", "PORT": "9000"}, "SIGNET_ISSUER", "https://a.example", "here"),
        ({"AWS_LAMBDA_FUNCTION_NAME": "f"}, "SIGNET_ISSUER", "", "from each request"),
        ({"SIGNET_STAGE": "prod"}, "SIGNET_KMS_KEY_ID", "alias/signet-prod", "from SIGNET_STAGE"),
        ({"SIGNET_KMS_KEY_ID": "alias/x"}, "SIGNET_KMS_KEY_ID", "alias/x", "here"),
        (
            {"SIGNET_LOGIN_URL": "https://l.example/x"},
            "SIGNET_LOGIN_ORIGINS",
            "https://l.example",
            "from SIGNET_LOGIN_URL",
        ),
        ({}, "SIGNET_LOGIN_ORIGINS", "", "default"),
        ({}, "SIGNET_PLAYGROUND", "on", "from the database in use"),
        ({"AWS_LAMBDA_FUNCTION_NAME": "f"}, "SIGNET_PLAYGROUND", "off", "default"),
        ({"SIGNET_OPERATOR_TOKEN_HASH": HASH}, "SIGNET_OPERATOR_TOKEN_HASH", "(set, and not shown)", "here"),
        ({}, "SIGNET_OPERATOR_TOKEN_HASH", "", "default"),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "AWS_REGION", "eu-west-1", "AWS_DEFAULT_REGION, here"),
        ({"AWS_REGION": "eu-west-1"}, "AWS_REGION", "eu-west-1", "here"),
        (
            {"SIGNET_BACKCHANNEL_NETWORKS": "10.0.0.0/8 fd00::/8"},
            "SIGNET_BACKCHANNEL_NETWORKS",
            "10.0.0.0/8 fd00::/8",
            "here",
        ),
        *(
            ({f"SIGNET_{one.upper()}": str(low)}, f"SIGNET_{one.upper()}", str(low), "here")
            for one, (low, _) in LIMITS.items()
        ),
    ],
)
def test_a_setting_is_shown_with_where_it_comes_from(
    environ: dict[str, str], name: str, value: str, source: str
) -> None:
    assert shown(environ)[name] == (value, source)


@pytest.fixture
def operate(operate: Operate, monkeypatch: pytest.MonkeyPatch) -> Operate:
    for name in [name for name in os.environ if name.startswith("SIGNET_")]:
        monkeypatch.delenv(name)
    return operate


def test_everything_that_is_wrong_is_told_at_once(operate: Operate, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"SIGNET_ISSUER": "ftp://x", "SIGNET_SIGN_IN_ATTEMPTS": "0", "SIGNET_NAM": "x", "SIGNET_SIGNING": "rings"}
    for name, value in {**wrong, "SIGNET_NAME": "Ours", "SIGNET_OPERATOR_TOKEN": "t0ken"}.items():
        monkeypatch.setenv(name, value)
    printed = operate("--stage", "local", "settings", "--json")
    told = json.loads(printed.out)
    assert printed.code == 1
    assert len(told["problems"]) == 4
    for name in wrong:
        assert any(problem.startswith(f"{name} is") for problem in told["problems"])
    assert any("Did you mean 'SIGNET_NAME'?" in problem for problem in told["problems"])
    assert {"name": "SIGNET_NAME", "value": "Ours", "source": "this environment"} in told["settings"]
    printed = operate("--stage", "local", "settings")
    assert (printed.code, len(printed.err.splitlines())) == (1, 4)
    assert "t0ken" not in printed.out + printed.err


@pytest.fixture
def function(site: Site) -> Iterator[Any]:
    """The stage's function, as moto has it: never run."""
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr("app.py", "")
    iam, lambda_ = boto3.client("iam"), boto3.client("lambda")
    role = iam.create_role(RoleName="settings", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    variables = {"SIGNET_STAGE": STAGE, "SIGNET_NAME": "Deployed", "SIGNET_OPERATOR_TOKEN_HASH": HASH}
    lambda_.create_function(
        FunctionName="signet-settings",
        Runtime="python3.12",
        Role=role,
        Handler="app.app",
        Code={"ZipFile": zipped.getvalue()},
        Environment={"Variables": variables},
    )
    yield
    lambda_.delete_function(FunctionName="signet-settings")
    iam.delete_role(RoleName="settings")


@pytest.mark.usefixtures("function")
def test_of_a_deployed_stage_it_is_the_functions_environment(operate: Operate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNET_NAME", "Mine")
    printed = operate("settings", "--json")
    found = {one["name"]: (one["value"], one["source"]) for one in json.loads(printed.out)["settings"]}
    assert printed.code == 0
    assert found["SIGNET_NAME"] == ("Deployed", "the function's environment")
    assert found["SIGNET_STAGE"] == (STAGE, "the function's environment")
    assert found["SIGNET_ISSUER"] == ("", "from each request")
    assert HASH not in printed.out


def test_without_a_function_that_is_one_line(operate: Operate) -> None:
    printed = operate("settings")
    assert (printed.code, printed.out) == (2, "")
    assert printed.err == f"No Lambda function of us-east-1 has SIGNET_STAGE set to {STAGE}.\n"


# ---- completion


def complete(shell: str, *words: str, folder: Path) -> str:
    """What the shell's function asks, and is told."""
    given = {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_STATE_HOME": str(folder)}
    asked = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1), completion.VARIABLE: f"{shell}_complete"}
    done = subprocess.run(
        [sys.executable, "-m", "infra"], cwd=CHECKOUT, env=given | asked, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_commands_and_options_are_completed(tmp_path: Path) -> None:
    assert "plain,rotate-secret" in complete("bash", "signet", "client", "rot", folder=tmp_path)
    assert "--post-logout-redirect-uri" in complete(
        "zsh", "signet", "client", "update", "demo", "--post", folder=tmp_path
    )
    assert list(tmp_path.iterdir()) == [], "and nothing is opened for it"


BASH = """
set -eu
eval "$({python} -m infra completion bash)"
cd /
COMP_WORDS=(signet --stage local client rot) COMP_CWORD=4
_signet_completion signet
echo "${{COMPREPLY[@]}}"
signet client list --json
"""


def test_bash_completes_it_and_runs_it_from_anywhere(tmp_path: Path) -> None:
    given = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}
    script = BASH.format(python=sys.executable)
    done = subprocess.run(
        ["bash", "-c", script], cwd=CHECKOUT, env=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "rotate-secret\n[]\n")


@pytest.mark.skipif(shutil.which("zsh") is None, reason="this machine has no zsh")
def test_zsh_takes_the_script(tmp_path: Path) -> None:
    program = f"{sys.executable} -m infra completion zsh"
    script = f'autoload -Uz compinit; compinit -u; eval "$({program})"; signet client list --json'
    given = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run(
        ["zsh", "-fc", script], cwd=CHECKOUT, env=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_the_script_for_zsh_asks_the_program_and_not_the_function() -> None:
    script = completion.script(command, "zsh")
    assert "zsh_complete signet" not in script
    assert "$+commands" not in script
    assert "compdef _signet_completion signet" in script
