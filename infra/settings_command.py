"""`python -m infra settings`: what is in force, and where it comes from."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import click

from chalicelib.settings import Settings, SettingsError
from infra import embedded
from infra.commands import Refusal, as_json, example, near, storage
from infra.doctor.stage import Inside
from infra.terminal import print_json, print_table, visible

# Settings that are found out, and not set: no variable of ours names them.
_FOUND_OUT = ("embedded", "metrics", "sealing_key")
_SECRET = ("operator_token_hash",)
# Those that come from another setting, or from where the server runs, unless they are set.
_DERIVED = {
    "kms_key_id": "from SIGNET_STAGE",
    "login_origins": "from SIGNET_LOGIN_URL",
    "playground": "from the database in use",
    "region": "from the AWS profile",
}
_IN_LAMBDA = {"issuer": "from each request", "playground": "off in Lambda"}
# Variables of our name that are none of the server's settings.
_OTHERS = {"SIGNET_OPERATOR_TOKEN"}


@dataclass(frozen=True)
class Setting:
    """A setting as it is in force: its variable, its value in words, and where that comes from."""

    name: str
    value: str
    source: str


def in_force(environ: Mapping[str, str], where: str) -> tuple[list[Setting], list[str]]:
    """The settings that this environment makes, `where` naming it, and what is wrong with it, a sentence for each."""
    known, problems = dict(environ), []
    while True:
        try:
            settings = Settings.from_environ(known)
            break
        except SettingsError as error:  # it names the variable first
            name = re.match(r"\w+", str(error))
            if name is None or known.pop(name[0], None) is None:
                raise
            problems.append(f"{error}.")
    names = {_variable(field.name) for field in fields(Settings) if field.name not in _FOUND_OUT} | {"PORT"}
    strange = (one for one in sorted(environ) if one.startswith("SIGNET_") and one not in names | _OTHERS)
    problems.extend(f"{one} is no setting.{near(one, names)}" for one in strange)
    return list(_settings(settings, known, where, in_lambda="AWS_LAMBDA_FUNCTION_NAME" in known)), problems


def _settings(settings: Settings, environ: Mapping[str, str], where: str, *, in_lambda: bool) -> Iterator[Setting]:
    derived = _DERIVED | (_IN_LAMBDA if in_lambda else {})
    for name, value in asdict(settings).items():
        if name in _FOUND_OUT:
            continue
        variable, source = _variable(name), derived.get(name, "default") if value else "default"
        if name == "issuer" and in_lambda:
            source = derived[name]
        if environ.get(variable):
            source = where
        elif name == "issuer" and environ.get("PORT"):
            source = f"PORT, {where}"
        elif name == "region" and (found := next((one for one in _REGIONS if environ.get(one)), None)):
            source = f"{found}, {where}"
        yield Setting(variable, _words(name, value), source)


_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")


def _variable(name: str) -> str:
    return _REGIONS[0] if name == "region" else f"SIGNET_{name.upper()}"


def _words(name: str, value: Any) -> str:
    if value in (None, "", ()):
        return ""
    if name in _SECRET:
        return "(set, and not shown)"
    if isinstance(value, bool):
        return "on" if value else "off"
    return " ".join(value) if isinstance(value, tuple) else str(value)


@click.command("settings", epilog=example("settings", "--stage prod settings --json"))
@as_json
@click.pass_obj
def settings_(stage: str, /, as_json: bool) -> int:
    """Show each setting, its value and where that comes from. Nothing secret is shown.

    Of this checkout, what this shell's environment sets; of a stage in AWS, what its Lambda function has. What is wrong
    is told on standard error, and the exit code is then 1.
    """
    if stage == embedded.STAGE:
        found, problems = in_force(os.environ, "this environment")
    else:
        found, problems = in_force(_of_the_function(stage), "the function's environment")
    if as_json:
        print_json({"settings": [asdict(one) for one in found], "problems": problems})
    else:
        print_table(("SETTING", "VALUE", "FROM"), [(one.name, one.value, one.source) for one in found], "")
        for problem in problems:
            click.echo(visible(problem), err=True)
    return 1 if problems else 0


def _of_the_function(stage: str) -> dict[str, str]:
    """The environment of a stage's function, as it sees it. Raises Refusal when there is none."""
    with storage(stage) as store:
        inside = Inside(store)
        function = inside.function
        region = inside.aws("lambda").meta.region_name
    if function is None:
        raise Refusal(f"No Lambda function of {region} has SIGNET_STAGE set to {stage}.")
    own: dict[str, str] = function["Environment"]["Variables"]
    return {"AWS_LAMBDA_FUNCTION_NAME": function["FunctionName"], "AWS_REGION": region, **own}
