"""The operator's command, `python -m infra …`: whatever is wrong is one line on standard error and exit code 2."""

import io
import logging
import os
import sys

import click
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

from chalicelib import audit
from chalicelib.errors import OAuthError, TemporarilyUnavailable
from chalicelib.settings import SettingsError
from infra import local
from infra.clients import client
from infra.commands import Refusal, example
from infra.completion import VARIABLE, completion
from infra.deploy import data, deploy
from infra.destroy import destroy
from infra.doctor import doctor
from infra.embedded import STAGE
from infra.grants import grant
from infra.history_command import history_
from infra.keys import key
from infra.scopes import scope
from infra.settings_command import settings_
from infra.state import StateError
from infra.terminal import visible
from infra.transfer import export, import_
from infra.users import user

# Options that stand in one place only, as in these.
_PLACES = {
    "--stage": "before the command: --stage prod client list",
    "--verbose": "before the command: --verbose client list",
    "--json": "behind the command: client list --json",
}
_AWS = "Set AWS_PROFILE, or {}."


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=example("client list", "--stage prod user create --username bob"),
)
@click.option("--stage", default=STAGE, show_default=True, help="Whose data: this checkout's, or a deployed stage's.")
@click.option("--verbose", is_flag=True, help="Write the log of what is changed to standard error.")
@click.pass_context
def command(context: click.Context, stage: str, verbose: bool) -> None:
    """Operate Signet: serve it locally, register clients and users, deploy it."""
    context.obj = stage
    if os.environ.get("NO_COLOR"):  # https://no-color.org
        context.color = False
    if verbose:
        handler = logging.StreamHandler()
        audit.log.addHandler(handler)
        context.call_on_close(lambda: audit.log.removeHandler(handler))


@command.command(epilog=example("serve --port 9000"))
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option("--fresh", is_flag=True, help="Remove the local state first.")
@click.pass_obj
def serve(stage: str, /, port: int, fresh: bool) -> None:
    """Serve this checkout on 127.0.0.1 with an embedded database."""
    if stage != STAGE:
        raise Refusal("`serve` has this checkout's data only; `deploy` serves a stage.")
    local.serve(port, fresh=fresh)


for _command in (
    client,
    user,
    scope,
    grant,
    key,
    history_,
    settings_,
    doctor,
    data,
    deploy,
    destroy,
    export,
    import_,
    completion,
):
    command.add_command(_command)


def main() -> int:
    """Run the command line; the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal's character set has not got
    try:
        code = command(standalone_mode=False, complete_var=VARIABLE)
    except click.exceptions.NoArgsIsHelpError as help_:
        help_.show()
        return 2
    except click.NoSuchOption as error:
        place = _PLACES.get(error.option_name)
        return _refuse(f"{error.option_name} stands {place}" if place else error.format_message())
    except click.ClickException as error:
        return _refuse(error.format_message())
    except click.Abort as error:
        interrupted = isinstance(error.__cause__, KeyboardInterrupt)  # not at a question
        return _refuse("Interrupted: what was done is done." if interrupted else "Nothing has been changed.", 1)
    except TemporarilyUnavailable as error:
        return _refuse(f"{error.__cause__ or error.detail or error.description} Please try again.")
    except OAuthError as error:
        return _refuse(error.description or error.detail or error.error)
    except (StateError, SettingsError) as error:
        return _refuse(str(error))
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == "ResourceNotFoundException":
            return _refuse("This stage has no tables in this AWS account and region.")
        return _refuse(str(error))
    except NoRegionError as error:
        return _refuse(f"{error} {_AWS.format('AWS_DEFAULT_REGION')}")
    except NoCredentialsError as error:
        return _refuse(f"{error}. {_AWS.format('AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY')}")
    except BotoCoreError as error:
        return _refuse(str(error))
    except BrokenPipeError:  # `… | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, perhaps
        return _refuse(error.strerror or str(error))
    return code if isinstance(code, int) else 0


def _refuse(message: str, code: int = 2) -> int:
    print(visible(" ".join(message.split())), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
