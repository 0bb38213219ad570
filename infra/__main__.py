"""The command `signet`, or `python -m infra`. Prints an error as one line on standard error, with exit code 2."""

import io
import os
import sys
from ipaddress import IPv4Address

import click
from botocore.exceptions import BotoCoreError, NoCredentialsError, NoRegionError

from chalicelib import __version__
from chalicelib.aws.messages import NotConfigured
from chalicelib.protocol.errors import OAuthError, TemporarilyUnavailable
from chalicelib.settings import SettingsError
from infra.access import REJECTED, error_code
from infra.aws.deploy import data, deploy
from infra.aws.destroy import destroy
from infra.aws.restore import restore
from infra.local.embedded import STAGE
from infra.local.serve import LOOPBACK
from infra.local.serve import serve as serve_checkout
from infra.local.state import StateError
from infra.operator.command_list import OPERATOR_COMMANDS
from infra.operator.commands import CommandError, WholeNumber, example
from infra.operator.common_options import add_common_options
from infra.operator.completion import NAME, VARIABLE
from infra.operator.settings import unknown_variables
from infra.operator.terminal import visible

_AWS = "Set AWS_PROFILE, or {}."


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=example("client list", "user create --username bob --stage prod"),
)
@click.version_option(__version__, prog_name=NAME, message="%(prog)s %(version)s")
@click.pass_context
def command(context: click.Context) -> None:
    """Operate Signet: serve it locally, register clients and users, deploy it."""
    if os.environ.get("NO_COLOR"):  # https://no-color.org
        context.color = False


@command.command(epilog=example("serve --port 9000"))
@click.option("--port", type=WholeNumber(1, 65535), default=8000, show_default=True)
@click.option(
    "--host", default=LOOPBACK, show_default=True, help="IPv4 address to listen on; 0.0.0.0 is all, for containers."
)
@click.option("--fresh", is_flag=True, help="Remove the local state first.")
@click.pass_obj
def serve(stage: str, /, port: int, host: str, fresh: bool) -> None:
    """Serve this checkout with an embedded database."""
    if stage != STAGE:
        raise CommandError("`serve` uses the data of this checkout only. To serve a stage in AWS, use `deploy`.")
    try:
        IPv4Address(host)
    except ValueError as error:
        raise CommandError("--host must be an IPv4 address, such as 127.0.0.1 or 0.0.0.0.") from error
    for problem in unknown_variables(os.environ):
        click.echo(visible(problem), err=True)
    serve_checkout(port, host, fresh=fresh)


for _command in (*OPERATOR_COMMANDS, data, deploy, destroy, restore):
    command.add_command(_command)
add_common_options(command)


def main() -> int:
    """Run the command line, and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # characters that the terminal cannot encode
    try:
        code = command(prog_name=NAME, standalone_mode=False, complete_var=VARIABLE)
    except click.exceptions.NoArgsIsHelpError as help_:
        help_.show()
        return 2
    except click.NoSuchOption as error:
        if error.option_name == "--json" and error.ctx and isinstance(error.ctx.command, click.Group):
            return _fail("--json must follow the command, as in: client list --json")
        return _fail(error.format_message())
    except click.ClickException as error:
        return _fail(error.format_message())
    except click.Abort as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # and not at a question
            return _fail("Interrupted. Changes that were already made are kept.", 1)
        return _fail("Nothing has been changed.", 1)
    except TemporarilyUnavailable as error:
        reason = str(error.__cause__ or error.detail or error.description)
        return _fail(f"{reason.removesuffix('.')}. Please try again.")
    except OAuthError as error:
        return _fail(error.description or error.detail or error.error)
    except (StateError, SettingsError) as error:
        return _fail(str(error))
    except REJECTED as error:
        if error_code(error) == "ResourceNotFoundException":
            return _fail("This stage has no tables in this AWS account and region.")
        return _fail(str(error))
    except NotConfigured as error:
        return _fail(f"{error} {_AWS.format(error.variables)}")
    except NoRegionError as error:
        return _fail(f"{error} {_AWS.format('AWS_DEFAULT_REGION')}")
    except NoCredentialsError as error:
        return _fail(f"{error}. {_AWS.format('AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY')}")
    except BotoCoreError as error:
        return _fail(str(error))
    except BrokenPipeError:  # such as `signet client list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # such as a full disk
        return _fail(error.strerror or str(error))
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int = 2) -> int:
    print(visible(" ".join(message.split())), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
