"""`signet settings`: the effective settings, and the source of each."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

import click

from chalicelib.settings import Settings, SettingsError
from infra.local import embedded
from infra.operator.commands import CommandError, did_you_mean, example, json_option, open_store
from infra.operator.doctor.stage import Inside
from infra.operator.terminal import print_json, print_table, visible

# Settings that have no environment variable.
_DETECTED = ("embedded", "sealing_key", "mailbox", "function")
_SECRET = ("operator_token_hash", "proxy_secret_hash")
# The source of settings whose default is derived from another setting or from the environment.
_DERIVED = {
    "kms_key_id": "from SIGNET_STAGE",
    "login_origins": "from SIGNET_LOGIN_URL",
    "metrics": "on in Lambda",
    "playground": "from the database in use",
    "email_from": "from the database in use",
    "region": "from the AWS profile",
}
_IN_LAMBDA = {"issuer": "from each request", "playground": "off in Lambda"}
# SIGNET_ variables that are not settings of the server.
_OTHER_VARIABLES = {"SIGNET_OPERATOR_TOKEN"}


@dataclass(frozen=True)
class Setting:
    """An effective setting: its variable, its value as text, and the source of the value."""

    name: str
    value: str
    source: str


def effective_settings(environ: Mapping[str, str], where: str) -> tuple[list[Setting], list[str]]:
    """Return the settings that result from an environment, and its problems, one sentence each.

    `where` names the environment in the source of a setting. Wrong variables are left out of the settings.
    """
    valid, problems = dict(environ), []
    while True:
        try:
            settings = Settings.from_environ(valid)
            break
        except SettingsError as error:  # the message starts with the variable
            name = re.match(r"\w+", str(error))
            if name is None or valid.pop(name[0], None) is None:
                raise
            problems.append(f"{error}.")
    problems.extend(unknown_variables(environ))
    return list(_settings(settings, valid, where, in_lambda="AWS_LAMBDA_FUNCTION_NAME" in valid)), problems


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return a sentence for each SIGNET_ variable that is no setting, and is ignored."""
    names = {_variable(field.name) for field in fields(Settings) if field.name not in _DETECTED} | {"PORT"}
    variables = (variable for variable in sorted(environ) if variable.startswith("SIGNET_"))
    unknown = (variable for variable in variables if variable not in names | _OTHER_VARIABLES)
    return [f"{variable} is not a setting.{did_you_mean(variable, names)}" for variable in unknown]


def _settings(settings: Settings, environ: Mapping[str, str], where: str, *, in_lambda: bool) -> Iterator[Setting]:
    derived = _DERIVED | (_IN_LAMBDA if in_lambda else {})
    for name, value in asdict(settings).items():
        if name in _DETECTED:
            continue
        variable, source = _variable(name), derived.get(name, "default") if value else "default"
        if name == "issuer" and in_lambda:
            source = derived[name]
        if environ.get(variable):
            source = where
        elif name == "issuer" and environ.get("PORT"):
            source = f"PORT, {where}"
        elif name == "region" and (region := next(filter(environ.get, _REGIONS), None)):
            source = f"{region}, {where}"
        yield Setting(variable, _value_text(name, value), source)


_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")


def _variable(name: str) -> str:
    return _REGIONS[0] if name == "region" else f"SIGNET_{name.upper()}"


def _value_text(name: str, value: Any) -> str:
    if value in (None, "", ()):
        return ""
    if name in _SECRET:
        return "(set, not shown)"
    if isinstance(value, bool):
        return "on" if value else "off"
    if name == "mfa_required_from":
        return datetime.fromtimestamp(value, UTC).date().isoformat()
    return " ".join(value) if isinstance(value, tuple) else str(value)


@click.command("settings", epilog=example("settings", "settings --stage prod --json"))
@json_option
@click.pass_obj
def settings_(stage: str, /, as_json: bool) -> int:
    """Show each setting with its value and source. Secrets are not shown.

    For this checkout, the settings come from the environment of this shell; for a stage in AWS, from its Lambda
    function. Problems are printed to standard error, and the exit code is then 1.
    """
    if stage == embedded.STAGE:
        settings, problems = effective_settings(os.environ, "this environment")
    else:
        settings, problems = effective_settings(_function_environment(stage), "the function's environment")
    if as_json:
        print_json({"settings": [asdict(setting) for setting in settings], "problems": problems})
    else:
        print_table(
            ("SETTING", "VALUE", "FROM"), [(setting.name, setting.value, setting.source) for setting in settings], ""
        )
        for problem in problems:
            click.echo(visible(problem), err=True)
    return 1 if problems else 0


def _function_environment(stage: str) -> dict[str, str]:
    """Return the environment of a stage's Lambda function. Raises CommandError when there is no function."""
    with open_store(stage) as store:
        inside = Inside(store)
        function = inside.function
        region = inside.aws("lambda").meta.region_name
    if function is None:
        raise CommandError(f"There is no Lambda function with SIGNET_STAGE={stage} in {region}.")
    own: dict[str, str] = function["Environment"]["Variables"]
    return {"AWS_LAMBDA_FUNCTION_NAME": function["FunctionName"], "AWS_REGION": region, **own}
