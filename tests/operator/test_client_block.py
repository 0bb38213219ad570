"""The end of `client create`: what can be pasted into the application, and works there."""

import json
import os
import re
import subprocess
from typing import Any

import pytest
from authlib.integrations.flask_client import OAuth
from flask import Flask

from tests.support.browser import Browser
from tests.support.operator import RunCommand, output_json
from tests.support.site import Site

URI = "https://print.example.com/callback"


@pytest.fixture(autouse=True)
def with_issuer(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the stage have the address of the site, as if its function named it."""
    monkeypatch.setattr("infra.operator.doctor.inside.stage_url", lambda _: site.settings.issuer)


def create(site: Site, run_command: RunCommand, *arguments: str) -> tuple[dict[str, str], str]:
    """Create a client. Return the pasted variables, as a shell reads them, and the snippet."""
    result = run_command("client", "create", "--name", "Photo Print", *arguments)
    assert (result.code, result.err) == (0, "")
    block = result.out.partition("\n\nTo paste into the application:\n\n")[2].removesuffix(
        "\n\nThe secret is shown only once.\n"
    )
    assignments, _, snippet = block.partition("\n\n")
    printed = bash(f"{assignments}\nfor name in ISSUER CLIENT_ID CLIENT_SECRET; do echo $name=${{!name}}; done")
    values = dict(line.split("=", 1) for line in printed.splitlines())
    site.secrets.update(filter(None, [values["CLIENT_SECRET"]]))
    return values, snippet


def bash(script: str, **variables: str) -> str:
    environment = {"PATH": os.environ["PATH"], "no_proxy": "127.0.0.1", **variables}
    done = subprocess.run(["bash", "-ec", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_block_of_a_web_application_configures_its_library(
    site: Site, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, snippet = create(site, run_command, "--redirect-uri", URI, "--scope", "openid profile")
    assert values["ISSUER"] == site.settings.issuer
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    names: dict[str, Any] = {"os": os, "OAuth": OAuth, "app": Flask(__name__)}
    exec(snippet, names)
    with names["app"].test_request_context():
        location = names["signet"].create_authorization_url(URI)["url"]
    assert location.startswith(f"{site.settings.issuer}/oauth2/authorize?")
    assert f"client_id={values['CLIENT_ID']}&" in location
    assert "scope=openid+profile" in location
    assert "code_challenge_method=S256" in location


def test_block_of_a_program_gets_a_token(site: Site, run_command: RunCommand, browser: Browser) -> None:
    values, snippet = create(site, run_command, "--grant-type", "client_credentials", "--scope", "photos.read")
    token = json.loads(bash(snippet.replace("curl ", "curl -sS "), **values))
    assert (token["token_type"], token["scope"]) == ("Bearer", "photos.read")
    site.secrets.add(token["access_token"])


def test_block_of_a_client_that_sends_its_secret_in_the_body_does_so(site: Site, run_command: RunCommand) -> None:
    options = ["--grant-type", "client_credentials", "--scope", "photos.read", "--auth-method", "client_secret_post"]
    values, snippet = create(site, run_command, *options)
    token = json.loads(bash(snippet.replace("curl ", "curl -sS "), **values))
    assert token["scope"] == "photos.read"
    site.secrets.add(token["access_token"])


def test_block_of_an_api_introspects_a_token(site: Site, run_command: RunCommand) -> None:
    values, snippet = create(site, run_command, "--id", "https://api.example.com/photos")
    assert json.loads(bash(snippet.replace("curl ", "curl -sS "), TOKEN="x", **values)) == {"active": False}


def test_block_of_a_public_client_has_its_settings_and_no_secret(site: Site, run_command: RunCommand) -> None:
    values, snippet = create(site, run_command, "--redirect-uri", URI, "--public")
    (settings,) = re.findall(r"UserManager\((.*)\);$", snippet, re.DOTALL)
    assert json.loads(settings) == {
        "authority": site.settings.issuer,
        "client_id": values["CLIENT_ID"],
        "redirect_uri": URI,
        "scope": "openid profile email offline_access",
    }
    assert values["CLIENT_SECRET"] == ""


def test_block_names_no_issuer_that_is_not_known(
    site: Site, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.operator.doctor.inside.stage_url", lambda _: None)
    assert create(site, run_command, "--redirect-uri", URI, "--public")[0]["ISSUER"] == "https://…"


def test_json_output_has_no_block(site: Site, run_command: RunCommand) -> None:
    created = output_json(run_command("client", "create", "--name", "App", "--redirect-uri", URI, "--public", "--json"))
    assert "authority" not in created


# ---- the scope of a public client


@pytest.mark.parametrize(
    ("arguments", "scope"),
    [
        (("--public",), "openid profile email offline_access"),
        (("--auth-method", "none"), "openid profile email offline_access"),
        (("--public", "--scope", "openid"), "openid"),
        (("--public", "--grant-type", "authorization_code"), "openid profile email"),
        ((), "openid"),
    ],
)
def test_public_client_without_a_scope_gets_what_it_needs_to_sign_users_in(
    site: Site, run_command: RunCommand, arguments: tuple[str, ...], scope: str
) -> None:
    options = ("--name", "App", "--redirect-uri", URI, "--json")
    created = output_json(run_command("client", "create", *options, *arguments))
    site.secrets.update(filter(None, [created.get("client_secret")]))
    assert created["scope"] == scope
