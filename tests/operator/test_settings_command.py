"""`signet settings` shows the effective settings and their sources; `signet completion` prints a shell script."""

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

from chalicelib.protocol.scopes import OPEN_SCOPES
from chalicelib.settings import LIMITS, Settings
from infra.__main__ import command
from infra.local.state import CHECKOUT
from infra.operator import completion
from infra.operator.settings import effective_settings
from tests.support.operator import RunCommand
from tests.support.site import STAGE, Site

HASH = "ab" * 32
PROXY = {"SIGNET_CALLER_ADDRESS_HEADER": "CloudFront-Viewer-Address", "SIGNET_PROXY_SECRET_HASH": f"{HASH} {HASH}"}


def shown(environ: dict[str, str]) -> dict[str, tuple[str, str]]:
    settings, problems = effective_settings(environ, "here")
    assert problems == []
    return {setting.name: (setting.value, setting.source) for setting in settings}


def test_every_setting_is_shown(site: Site) -> None:
    names = {f"SIGNET_{field.name.upper()}" for field in fields(Settings)}
    hidden = {"SIGNET_EMBEDDED", "SIGNET_SEALING_KEY", "SIGNET_REGION", "SIGNET_MAILBOX", "SIGNET_FUNCTION"}
    assert set(shown({})) == names - hidden | {"AWS_REGION"}


@pytest.mark.parametrize(
    ("environ", "name", "value", "source"),
    [
        ({}, "SIGNET_NAME", "Signet", "default"),
        ({"SIGNET_NAME": "Ours"}, "SIGNET_NAME", "Ours", "here"),
        ({"SIGNET_NAME": ""}, "SIGNET_NAME", "Signet", "default"),
        ({}, "SIGNET_ISSUER", "http://localhost:8000", "default"),
        ({"PORT": "9000"}, "SIGNET_ISSUER", "http://localhost:9000", "PORT, here"),
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
        ({}, "SIGNET_REQUIRE_PUSHED_AUTHORIZATION_REQUESTS", "off", "default"),
        (
            {"SIGNET_REQUIRE_PUSHED_AUTHORIZATION_REQUESTS": "on"},
            "SIGNET_REQUIRE_PUSHED_AUTHORIZATION_REQUESTS",
            "on",
            "here",
        ),
        ({}, "SIGNET_MFA_REQUIRED_FROM", "", "default"),
        (
            {"SIGNET_MFA": "required", "SIGNET_MFA_REQUIRED_FROM": "2027-03-01"},
            "SIGNET_MFA_REQUIRED_FROM",
            "2027-03-01",
            "here",
        ),
        ({}, "SIGNET_KEEP_SIGNED_IN", "on", "default"),
        ({"SIGNET_KEEP_SIGNED_IN": "off"}, "SIGNET_KEEP_SIGNED_IN", "off", "here"),
        ({"SIGNET_PROFILE_CLAIMS": "zoneinfo name"}, "SIGNET_PROFILE_CLAIMS", "name zoneinfo", "here"),
        ({"SIGNET_PROFILE_CLAIMS": "none"}, "SIGNET_PROFILE_CLAIMS", "", "here"),
        ({}, "SIGNET_DELETION_GRACE_DAYS", "14", "default"),
        ({"SIGNET_DELETION_GRACE_DAYS": "0"}, "SIGNET_DELETION_GRACE_DAYS", "0", "here"),
        ({}, "SIGNET_LANGUAGE", "en", "default"),
        ({"SIGNET_LANGUAGE": "ar"}, "SIGNET_LANGUAGE", "ar", "here"),
        ({}, "SIGNET_CLIENT_REGISTRATION", "off", "default"),
        ({"SIGNET_CLIENT_REGISTRATION": "open"}, "SIGNET_CLIENT_REGISTRATION", "open", "here"),
        ({"SIGNET_OPEN_CLIENT_SCOPE": "openid  notes"}, "SIGNET_OPEN_CLIENT_SCOPE", "openid notes", "here"),
        ({}, "SIGNET_OPEN_CLIENT_REDIRECTS", "https loopback private-use", "default"),
        ({"SIGNET_OPEN_CLIENT_REDIRECTS": "loopback https"}, "SIGNET_OPEN_CLIENT_REDIRECTS", "https loopback", "here"),
        ({}, "SIGNET_OPEN_CLIENT_GRANT_TYPES", "authorization_code refresh_token", "default"),
        (
            {"SIGNET_OPEN_CLIENT_GRANT_TYPES": "authorization_code"},
            "SIGNET_OPEN_CLIENT_GRANT_TYPES",
            "authorization_code",
            "here",
        ),
        ({}, "SIGNET_METRICS", "off", "default"),
        ({"AWS_LAMBDA_FUNCTION_NAME": "f"}, "SIGNET_METRICS", "on", "on in Lambda"),
        ({"AWS_LAMBDA_FUNCTION_NAME": "f", "SIGNET_METRICS": "off"}, "SIGNET_METRICS", "off", "here"),
        ({"SIGNET_OPERATOR_TOKEN_HASH": HASH}, "SIGNET_OPERATOR_TOKEN_HASH", "(set, not shown)", "here"),
        ({}, "SIGNET_OPERATOR_TOKEN_HASH", "", "default"),
        (PROXY, "SIGNET_CALLER_ADDRESS_HEADER", "CloudFront-Viewer-Address", "here"),
        (PROXY, "SIGNET_PROXY_SECRET_HASH", "(set, not shown)", "here"),
        ({}, "SIGNET_CALLER_ADDRESS_HEADER", "", "default"),
        ({}, "SIGNET_PROXY_SECRET_HASH", "", "default"),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "AWS_REGION", "eu-west-1", "AWS_DEFAULT_REGION, here"),
        ({"AWS_REGION": "eu-west-1"}, "AWS_REGION", "eu-west-1", "here"),
        (
            {"SIGNET_BACKCHANNEL_NETWORKS": "10.0.0.0/8 fd00::/8"},
            "SIGNET_BACKCHANNEL_NETWORKS",
            "10.0.0.0/8 fd00::/8",
            "here",
        ),
        ({}, "SIGNET_CLIENT_DOCUMENTS", "list", "default"),
        ({"SIGNET_CLIENT_DOCUMENTS": "open"}, "SIGNET_CLIENT_DOCUMENTS", "open", "here"),
        ({}, "SIGNET_CLIENT_DOCUMENT_HOSTS", "", "default"),
        *(
            ({f"SIGNET_{name}": "claude.ai chatgpt.com"}, f"SIGNET_{name}", "claude.ai chatgpt.com", "here")
            for name in ("CLIENT_DOCUMENT_HOSTS", "OPEN_CLIENT_SCOPE")
        ),
        ({}, "SIGNET_OPEN_CLIENT_SCOPE", " ".join(OPEN_SCOPES), "default"),
        ({}, "SIGNET_EMAIL_FROM", "signet@signet.example", "from the database in use"),
        ({"AWS_LAMBDA_FUNCTION_NAME": "f"}, "SIGNET_EMAIL_FROM", "", "default"),
        ({"SIGNET_EMAIL_FROM": "a@Example.COM"}, "SIGNET_EMAIL_FROM", "a@example.com", "here"),
        ({}, "SIGNET_SIGN_UP", "off", "default"),
        ({"SIGNET_SIGN_UP": "on"}, "SIGNET_SIGN_UP", "on", "here"),
        ({}, "SIGNET_SIGN_UP_DOMAINS", "", "default"),
        ({"SIGNET_SIGN_UP_DOMAINS": "A.example, b.example"}, "SIGNET_SIGN_UP_DOMAINS", "a.example b.example", "here"),
        ({}, "SIGNET_SIGN_UP_TERMS_URL", "", "default"),
        ({"SIGNET_SIGN_UP_TERMS_URL": "https://a.example"}, "SIGNET_SIGN_UP_TERMS_URL", "https://a.example", "here"),
        ({}, "SIGNET_MTLS_DOMAIN", "", "default"),
        (
            {"SIGNET_MTLS_DOMAIN": "mtls.example.com", "SIGNET_ISSUER": "https://example.com"},
            "SIGNET_MTLS_DOMAIN",
            "mtls.example.com",
            "here",
        ),
        ({}, "SIGNET_EMAIL_CODE_SIGN_IN", "off", "default"),
        ({"SIGNET_EMAIL_CODE_SIGN_IN": "on"}, "SIGNET_EMAIL_CODE_SIGN_IN", "on", "here"),
        ({}, "SIGNET_SIGN_IN_NOTICE", "off", "default"),
        ({"SIGNET_SIGN_IN_NOTICE": "on"}, "SIGNET_SIGN_IN_NOTICE", "on", "here"),
        ({}, "SIGNET_EMAIL_CONFIGURATION_SET", "", "default"),
        ({"SIGNET_EMAIL_CONFIGURATION_SET": "signet-prod"}, "SIGNET_EMAIL_CONFIGURATION_SET", "signet-prod", "here"),
        ({"SIGNET_OUTBOUND_NETWORKS": "10.0.0.0/8"}, "SIGNET_OUTBOUND_NETWORKS", "10.0.0.0/8", "here"),
        *(
            ({f"SIGNET_{name.upper()}": str(low)}, f"SIGNET_{name.upper()}", str(low), "here")
            for name, (low, _) in LIMITS.items()
        ),
    ],
)
def test_a_setting_is_shown_with_its_source(environ: dict[str, str], name: str, value: str, source: str) -> None:
    assert shown(environ)[name] == (value, source)


@pytest.fixture
def run_command(run_command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> RunCommand:
    for name in [name for name in os.environ if name.startswith("SIGNET_")]:
        monkeypatch.delenv(name)
    return run_command


def test_all_problems_are_reported_together(run_command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"SIGNET_ISSUER": "ftp://x", "SIGNET_SIGN_IN_ATTEMPTS": "0", "SIGNET_NAM": "x", "SIGNET_SIGNING": "rings"}
    for name, value in {**wrong, "SIGNET_NAME": "Ours", "SIGNET_OPERATOR_TOKEN": "t0ken"}.items():
        monkeypatch.setenv(name, value)
    result = run_command("settings", "--json", "--stage", "local")
    output = json.loads(result.out)
    assert result.code == 1
    assert len(output["problems"]) == 4
    for name in wrong:
        assert any(problem.startswith(f"{name} is") for problem in output["problems"])
    assert any("Did you mean 'SIGNET_NAME'?" in problem for problem in output["problems"])
    assert {"name": "SIGNET_NAME", "value": "Ours", "source": "this environment"} in output["settings"]
    result = run_command("settings", "--stage", "local")
    assert (result.code, len(result.err.splitlines())) == (1, 4)
    assert "t0ken" not in result.out + result.err


@pytest.fixture
def function(site: Site) -> Iterator[Any]:
    """Create the Lambda function of the stage in moto. It is never run."""
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
def test_settings_of_a_deployed_stage_come_from_the_functions_environment(
    run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNET_NAME", "Mine")
    result = run_command("settings", "--json")
    settings = json.loads(result.out)["settings"]
    sources = {setting["name"]: (setting["value"], setting["source"]) for setting in settings}
    assert result.code == 0
    assert sources["SIGNET_NAME"] == ("Deployed", "the function's environment")
    assert sources["SIGNET_STAGE"] == (STAGE, "the function's environment")
    assert sources["SIGNET_ISSUER"] == ("", "from each request")
    assert HASH not in result.out


def test_a_missing_function_is_one_line(run_command: RunCommand) -> None:
    result = run_command("settings")
    assert (result.code, result.out) == (2, "")
    assert result.err == f"There is no Lambda function with SIGNET_STAGE={STAGE} in us-east-1.\n"


# ---- completion


def complete(shell: str, *words: str, folder: Path) -> str:
    """Run the command as the completion function of the shell does, and return the output."""
    given = {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_STATE_HOME": str(folder)}
    words_of_shell = {
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
        completion.VARIABLE: f"{shell}_complete",
    }
    done = subprocess.run(
        [sys.executable, "-m", "infra"],
        cwd=CHECKOUT,
        env=given | words_of_shell,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_commands_and_options_are_completed(tmp_path: Path) -> None:
    assert "plain,--stage" in complete("bash", "signet", "client", "list", "--st", folder=tmp_path)
    assert "plain,rotate-secret" in complete("bash", "signet", "client", "rot", folder=tmp_path)
    assert "--post-logout-redirect-uri" in complete(
        "zsh", "signet", "client", "update", "demo", "--post", folder=tmp_path
    )
    assert list(tmp_path.iterdir()) == [], "completion opens no state"


BASH = """
set -eu
eval "$({python} -m infra completion bash)"
cd /
COMP_WORDS=(signet --stage local client rot) COMP_CWORD=4
_signet_completion signet
echo "${{COMPREPLY[@]}}"
signet client list --json
"""


def test_the_bash_function_completes_and_runs_from_any_directory(tmp_path: Path) -> None:
    given = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}
    script = BASH.format(python=sys.executable)
    done = subprocess.run(
        ["bash", "-c", script], cwd=CHECKOUT, env=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "rotate-secret\n[]\n")


@pytest.mark.skipif(shutil.which("zsh") is None, reason="this machine has no zsh")
def test_zsh_accepts_the_script(tmp_path: Path) -> None:
    program = f"{sys.executable} -m infra completion zsh"
    script = f'autoload -Uz compinit; compinit -u; eval "$({program})"; signet client list --json'
    given = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run(
        ["zsh", "-fc", script], cwd=CHECKOUT, env=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_the_zsh_script_completes_by_the_program_and_not_by_the_function() -> None:
    script = completion.script(command, "zsh")
    assert "zsh_complete signet" not in script
    assert "$+commands" not in script
    assert "compdef _signet_completion signet" in script
