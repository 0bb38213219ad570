"""The operator's command, `python -m infra …`: whatever is wrong is one line on standard error and exit code 2."""

import os
import sys

import click
from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.errors import OAuthError
from chalicelib.settings import SettingsError
from infra import local
from infra.clients import client
from infra.deploy import data, deploy
from infra.destroy import destroy
from infra.doctor import doctor
from infra.embedded import STAGE
from infra.keys import key
from infra.state import StateError
from infra.transfer import export, import_
from infra.users import user


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--stage", default=STAGE, show_default=True, help="Whose data: this checkout's, or a deployed stage's.")
@click.pass_context
def command(context: click.Context, stage: str) -> None:
    """Operate Signet: serve it locally, and register clients and users."""
    context.obj = stage


@command.command()
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option("--fresh", is_flag=True, help="Remove the local state first.")
def serve(port: int, fresh: bool) -> None:
    """Serve this checkout on 127.0.0.1 with an embedded database."""
    local.serve(port, fresh=fresh)


command.add_command(client)
command.add_command(user)
command.add_command(key)
command.add_command(doctor)
command.add_command(data)
command.add_command(deploy)
command.add_command(destroy)
command.add_command(export)
command.add_command(import_)


def main() -> int:
    """Run the command line; the exit code."""
    try:
        code = command(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as help_:
        help_.show()
        return 2
    except click.ClickException as error:
        return _refuse(error.format_message())
    except click.Abort:
        return _refuse("Nothing has been changed.", 1)
    except OAuthError as error:
        return _refuse(error.description or error.detail or error.error)
    except (StateError, SettingsError) as error:
        return _refuse(str(error))
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == "ResourceNotFoundException":
            return _refuse("This stage has no tables in this AWS account and region.")
        return _refuse(str(error))
    except BotoCoreError as error:
        return _refuse(str(error))
    except BrokenPipeError:  # `… | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


def _refuse(message: str, code: int = 2) -> int:
    print(" ".join(message.split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
