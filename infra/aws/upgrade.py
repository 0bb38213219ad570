"""What a deployment needs to know about the one before: the version of its records, and the code that may still run."""

from pathlib import Path

import yaml

from infra.aws.stacks import Stack
from infra.operator.commands import CommandError

RECORDS_VERSION = "RecordsVersion"  # an output of both stacks, which version 1 does not have
OLD_INDEX = "OldGrantsIndex"


def check_records_version(data: Stack, template: Path) -> None:
    """Raise CommandError when the tables of a stage have records of a newer version than this checkout writes.

    Older code knows only some of the reasons for which a session or grant has ended.
    """
    own = int(yaml.safe_load(template.read_text())["Outputs"][RECORDS_VERSION]["Value"])
    deployed = int(data.outputs().get(RECORDS_VERSION, 1))
    if deployed > own:
        reason = "an older version would revive sessions and grants that were ended since"
        records = f"{data.name} has records of version {deployed}, and this checkout writes version {own}"
        raise CommandError(f"{records}: {reason}. Deploy a newer checkout, or use --force.")


def old_grants_index(data: Stack, api: Stack) -> str:
    """Return whether the index of version 1 is `kept` or `removed`; a new stage never has it.

    The update from version 1 keeps it, because DynamoDB creates or deletes one index per update. It is removed by a
    later deployment, when the server's stack has the code of version 2. Other code (`chalice deploy`) cannot be seen.
    """
    if data.status() in (None, "REVIEW_IN_PROGRESS"):
        return "removed"
    previous = data.parameters().get(OLD_INDEX)
    if previous is None:
        return "kept"
    version_1_runs = api.status() is not None and RECORDS_VERSION not in api.outputs()
    return "kept" if previous == "kept" and version_1_runs else "removed"
