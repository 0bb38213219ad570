"""CloudFormation stacks: propose changes, apply them, show the progress, and report why a change failed.

CloudFormation continues an operation on its own, so an interrupted command can be run again and waits for it.
"""

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click
from botocore.exceptions import ClientError

from infra.operator.commands import CommandError

# The states of a stack whose creation failed and was rolled back: it must be deleted before it can be created again.
_FAILED_CREATION = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED")
_FAILURES = ("FAILED", "ROLLBACK_COMPLETE")
_NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
# The reasons of events that only follow from the failure of another resource.
_SYMPTOMS = ("cancelled", "The following resource(s) failed")
_CHANGE_SETS = "signet-"
_PAUSE, _MAX_PAUSE = 0.5, 4.0  # seconds


@contextmanager
def resumable() -> Iterator[None]:
    """Turn Ctrl-C within the block into a CommandError that says how to continue."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        advice = "CloudFormation continues what has started. Run the same command again to resume."
        raise CommandError(f"Interrupted. {advice}") from interruption


@dataclass(frozen=True)
class Change:
    """A resource in a change set. `replaced`: it is deleted and created again."""

    action: str
    name: str
    kind: str
    replaced: bool


@dataclass(frozen=True)
class ChangeSet:
    """Changes that CloudFormation has computed and not yet applied."""

    id: str
    stack_id: str
    changes: tuple[Change, ...]


class Stack:
    """The stack `name`, which need not exist. `keep_on_failure`: keep the resources when the creation fails."""

    def __init__(self, client: Any, name: str, *, keep_on_failure: bool = False):
        self.name = name
        self._client = client
        self._keep_on_failure = keep_on_failure

    # ---- its current state

    def status(self) -> str | None:
        """Return CloudFormation's name for its state, or None when there is no such stack."""
        stack = self._describe(self.name)
        return stack["StackStatus"] if stack else None

    def outputs(self) -> dict[str, str]:
        """Return its outputs; empty when there is no such stack."""
        stack = self._describe(self.name) or {}
        return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", ())}

    def parameters(self) -> dict[str, str]:
        """Return the parameters of its last deployment; empty when there is no such stack."""
        pairs = (self._describe(self.name) or {}).get("Parameters", ())
        return {pair["ParameterKey"]: pair.get("ParameterValue", "") for pair in pairs}

    def resources(self, kind: str) -> list[str]:
        """Return the physical ids of its resources of a type."""
        pages = self._client.get_paginator("list_stack_resources").paginate(StackName=self.name)
        summaries = (summary for page in pages for summary in page["StackResourceSummaries"])
        ids = (summary.get("PhysicalResourceId") for summary in summaries if summary["ResourceType"] == kind)
        return [id_ for id_ in ids if id_]

    # ---- proposed changes

    def propose(self, template: str, parameters: Mapping[str, str]) -> ChangeSet | None:
        """Return the changes that this template would make, or None when there are none.

        First waits for a running operation, and removes the remains of a failed creation. Raises CommandError when
        CloudFormation rejects the template.
        """
        status = self._prepare()
        kind = "CREATE" if status in (None, "REVIEW_IN_PROGRESS") else "UPDATE"
        # CloudFormation resumes a stack in a failed state only with the option not to roll back.
        keep = status in ("CREATE_FAILED", "UPDATE_FAILED") or (self._keep_on_failure and kind == "CREATE")
        created = self._client.create_change_set(
            StackName=self.name,
            ChangeSetName=_CHANGE_SETS + secrets.token_hex(6),
            ChangeSetType=kind,
            TemplateBody=template,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
            **({"OnStackFailure": "DO_NOTHING"} if keep else {}),
        )
        change_set = ChangeSet(created["Id"], created["StackId"], ())
        description: dict[str, Any] = {"Status": ""}
        for _ in _pauses():
            description = self._client.describe_change_set(ChangeSetName=change_set.id)
            if description["Status"] not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
                break
        if description["Status"] != "CREATE_COMPLETE":
            self.discard(change_set)
            reason = description.get("StatusReason", "")
            if any(words in reason for words in _NO_CHANGES):
                return None
            raise CommandError(f"CloudFormation rejects the change of {self.name}: {reason}")
        return ChangeSet(change_set.id, change_set.stack_id, tuple(self._changes(description)))

    def discard(self, change_set: ChangeSet) -> None:
        """Delete a change set, and the stack too if only this change set has created it."""
        self._client.delete_change_set(ChangeSetName=change_set.id)
        if self.status() == "REVIEW_IN_PROGRESS":
            self._client.delete_stack(StackName=self.name)

    # ---- operations

    def execute(self, change_set: ChangeSet) -> None:
        """Apply the changes, and print each resource when it is done. Raises CommandError with the cause on failure."""
        newest = self._newest_event(change_set.stack_id)
        self._client.execute_change_set(ChangeSetName=change_set.id)
        self._follow(change_set.stack_id, newest, len(change_set.changes))

    def settle(self) -> None:
        """Wait for a running operation, whatever has started it and however it ends."""
        stack = self._describe(self.name)
        if stack and _in_progress(stack["StackStatus"]):
            click.echo(f"{self.name}: an operation is in progress ({stack['StackStatus']}); waiting for it.")
            self._show(stack["StackId"], self._newest_event(stack["StackId"]))

    def delete(self) -> None:
        """Delete it, and print each resource when it is done. Raises CommandError when a resource cannot be deleted."""
        self.settle()
        if stack := self._describe(self.name):
            newest = self._newest_event(stack["StackId"])
            self._client.delete_stack(StackName=self.name)
            self._follow(stack["StackId"], newest)

    # ---- internals

    def _describe(self, name: str) -> Any:
        try:
            stack = self._client.describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return None if stack["StackStatus"] == "DELETE_COMPLETE" and name == self.name else stack

    def _prepare(self) -> str | None:
        """Bring the stack into a state that a change set can start from, and return that state."""
        self.settle()
        status = self.status()
        if status == "UPDATE_ROLLBACK_FAILED":
            click.echo(f"{self.name}: continuing a rollback that had failed.")
            self._client.continue_update_rollback(StackName=self.name)
            self.settle()
        elif status in _FAILED_CREATION:
            click.echo(f"{self.name}: removing the remains of a failed creation.")
            self.delete()
        elif status:
            self._delete_change_sets()
        return self.status()

    def _delete_change_sets(self) -> None:
        """Delete the change sets of commands that were interrupted at the confirmation."""
        for page in self._client.get_paginator("list_change_sets").paginate(StackName=self.name):
            for item in page["Summaries"]:
                if item["ChangeSetName"].startswith(_CHANGE_SETS) and item["Status"] in ("CREATE_COMPLETE", "FAILED"):
                    self._client.delete_change_set(ChangeSetName=item["ChangeSetId"])

    def _changes(self, description: dict[str, Any]) -> Iterator[Change]:
        while True:
            for item in description.get("Changes", ()):
                change = item["ResourceChange"]
                replaced = change.get("Replacement") == "True"
                yield Change(change["Action"], change["LogicalResourceId"], change["ResourceType"], replaced)
            if not (token := description.get("NextToken")):
                return
            change_set_id = description["ChangeSetId"]
            description = self._client.describe_change_set(ChangeSetName=change_set_id, NextToken=token)

    def _follow(self, stack_id: str, newest: str, expected: int = 0) -> None:
        """Print the progress until the operation ends. Raises CommandError with the first cause when it fails."""
        cause = self._show(stack_id, newest, expected)
        status = self._describe(stack_id)["StackStatus"]
        if any(status.endswith(failure) for failure in _FAILURES):
            serving = " The previous version is still serving." if status == "UPDATE_ROLLBACK_COMPLETE" else ""
            raise CommandError(f"{self.name} failed at {cause or 'an unknown resource'} ({status}).{serving}")

    def _show(self, stack_id: str, newest: str, expected: int = 0) -> str:
        """Print a line for each resource that is done. Return the first cause of a failure, or an empty text."""
        cause, done, started = "", set(), time.monotonic()
        for event in self._events(stack_id, newest):
            status, name = event["ResourceStatus"], event["LogicalResourceId"]
            reason = event.get("ResourceStatusReason", "")
            if event["PhysicalResourceId"] == stack_id:
                continue
            if status.endswith("_FAILED") and not cause and not any(words in reason for words in _SYMPTOMS):
                cause = f"{name} ({event['ResourceType']}): {reason or status}"
            if not _in_progress(status):
                done.add(name)
                count = f"{len(done):3}/{max(expected, len(done))}" if expected else f"{len(done):3}"
                click.echo(f"{time.monotonic() - started:5.0f} s {count}  {name:24} {status.replace('_', ' ').lower()}")
        return cause

    def _events(self, stack_id: str, newest: str) -> Iterator[dict[str, Any]]:
        """Yield the events after the id `newest` as they come, until the operation ends."""
        started = False
        for _ in _pauses():
            # Read before the events, so that the last event is not missed.
            status = self._describe(stack_id)["StackStatus"]
            new = self._events_after(stack_id, newest)
            if new:
                newest, started = new[0]["EventId"], True
            yield from reversed(new)
            if started and not _in_progress(status):  # the operation may not have started yet
                return

    def _events_after(self, stack_id: str, newest: str) -> list[dict[str, Any]]:
        """Return the events after the id `newest`, newest first, without reading the older ones."""
        new: list[dict[str, Any]] = []
        for page in self._client.get_paginator("describe_stack_events").paginate(StackName=stack_id):
            for event in page["StackEvents"]:
                if event["EventId"] == newest:
                    return new
                new.append(event)
        return new

    def _newest_event(self, stack_id: str) -> str:
        events = self._client.describe_stack_events(StackName=stack_id)["StackEvents"]
        return str(events[0]["EventId"]) if events else ""


def _in_progress(status: str) -> bool:
    return status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS"


def _pauses() -> Iterator[None]:
    pause = _PAUSE
    while True:
        yield
        time.sleep(pause)
        pause = min(pause * 1.5, _MAX_PAUSE)
