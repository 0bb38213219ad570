"""CloudFormation, as far as `deploy` needs it: what would change, the change as it happens, and why it failed.

A stack goes on by itself once it has been told what to do: whoever is interrupted here can come back and wait again.
"""

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click
from botocore.exceptions import ClientError

from infra.commands import Refusal

# What a stack can be in whose making failed and was undone; nothing but its name is left of it.
_REMAINS = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED")
_BAD_ENDS = ("FAILED", "ROLLBACK_COMPLETE")
_NOTHING_TO_DO = ("didn't contain changes", "No updates are to be performed")
# What CloudFormation says of those that did not fail themselves.
_SYMPTOMS = ("cancelled", "The following resource(s) failed")
_CHANGE_SETS = "signet-"
_PAUSE, _LONGEST_PAUSE = 0.5, 4.0


@contextmanager
def resumable() -> Iterator[None]:
    """Raises Refusal, saying what to do, when the operator interrupts what is done within."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        begun = "What CloudFormation has begun goes on; the same command again goes on from there."
        raise Refusal(f"Interrupted. {begun}") from interruption


@dataclass(frozen=True)
class Change:
    """One resource that a change set would touch. `replaced`: it would be made anew, and the one before deleted."""

    action: str
    name: str
    kind: str
    replaced: bool


@dataclass(frozen=True)
class ChangeSet:
    """A change that CloudFormation has worked out and not made yet."""

    id: str
    stack_id: str
    changes: tuple[Change, ...]


class Stack:
    """The stack `name`, which need not exist. `keep_on_failure`: what was made is kept when making it first fails."""

    def __init__(self, client: Any, name: str, *, keep_on_failure: bool = False):
        self.name = name
        self._client = client
        self._keep_on_failure = keep_on_failure

    # ---- what it is

    def status(self) -> str | None:
        """CloudFormation's name for its state; None when there is no such stack."""
        found = self._describe(self.name)
        return found["StackStatus"] if found else None

    def outputs(self) -> dict[str, str]:
        """Its outputs; empty when there is no such stack."""
        found = self._describe(self.name) or {}
        return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", ())}

    def parameters(self) -> dict[str, str]:
        """The parameters it was last deployed with; empty when there is no such stack."""
        found = self._describe(self.name) or {}
        return {one["ParameterKey"]: one.get("ParameterValue", "") for one in found.get("Parameters", ())}

    def resources(self, kind: str) -> list[str]:
        """The physical ids of its resources of a type."""
        pages = self._client.get_paginator("list_stack_resources").paginate(StackName=self.name)
        found = (one for page in pages for one in page["StackResourceSummaries"] if one["ResourceType"] == kind)
        return [one["PhysicalResourceId"] for one in found if one.get("PhysicalResourceId")]

    # ---- what it could be

    def propose(self, template: str, parameters: Mapping[str, str]) -> ChangeSet | None:
        """What would change with this template; None when nothing would.

        Whatever is still under way is awaited first, and what is left of a failed creation is removed. Raises Refusal
        when CloudFormation refuses the template.
        """
        status = self._ready()
        kind = "CREATE" if status in (None, "REVIEW_IN_PROGRESS") else "UPDATE"
        # From the middle of a failed operation CloudFormation goes on only if it may stop in the middle again.
        halfway = status in ("CREATE_FAILED", "UPDATE_FAILED") or (self._keep_on_failure and kind == "CREATE")
        made = self._client.create_change_set(
            StackName=self.name,
            ChangeSetName=_CHANGE_SETS + secrets.token_hex(6),
            ChangeSetType=kind,
            TemplateBody=template,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
            **({"OnStackFailure": "DO_NOTHING"} if halfway else {}),
        )
        change_set = ChangeSet(made["Id"], made["StackId"], ())
        found: dict[str, Any] = {"Status": ""}
        for _ in _pauses():
            found = self._client.describe_change_set(ChangeSetName=change_set.id)
            if found["Status"] not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
                break
        if found["Status"] != "CREATE_COMPLETE":
            self.withdraw(change_set)
            reason = found.get("StatusReason", "")
            if any(words in reason for words in _NOTHING_TO_DO):
                return None
            raise Refusal(f"CloudFormation refuses the change of {self.name}: {reason}")
        return ChangeSet(change_set.id, change_set.stack_id, tuple(self._changes(found)))

    def withdraw(self, change_set: ChangeSet) -> None:
        """Forget a proposal; with it the stack, if it was to be the first."""
        self._client.delete_change_set(ChangeSetName=change_set.id)
        if self.status() == "REVIEW_IN_PROGRESS":
            self._client.delete_stack(StackName=self.name)

    # ---- what it becomes

    def execute(self, change_set: ChangeSet) -> None:
        """Make the change, and show each resource as its turn comes. Raises Refusal, with the cause, when it fails."""
        newest = self._newest_event(change_set.stack_id)
        self._client.execute_change_set(ChangeSetName=change_set.id)
        self._follow(change_set.stack_id, newest, len(change_set.changes))

    def settle(self) -> None:
        """Wait for what is still under way, begun by whomever. How it ends does not matter here."""
        found = self._describe(self.name)
        if found and _under_way(found["StackStatus"]):
            click.echo(f"{self.name} is still at work ({found['StackStatus']}); waiting for it.")
            self._show(found["StackId"], self._newest_event(found["StackId"]))

    def delete(self) -> None:
        """Delete it, and show each resource as its turn comes. Raises Refusal when something resists."""
        self.settle()
        if found := self._describe(self.name):
            newest = self._newest_event(found["StackId"])
            self._client.delete_stack(StackName=self.name)
            self._follow(found["StackId"], newest)

    # ---- underneath

    def _describe(self, name: str) -> Any:
        try:
            found = self._client.describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return None if found["StackStatus"] == "DELETE_COMPLETE" and name == self.name else found

    def _ready(self) -> str | None:
        """Bring it into a state that a change set can start from; which one."""
        self.settle()
        status = self.status()
        if status == "UPDATE_ROLLBACK_FAILED":
            click.echo(f"{self.name} was stuck on its way back to the version before; going on with that.")
            self._client.continue_update_rollback(StackName=self.name)
            self.settle()
        elif status in _REMAINS:
            click.echo(f"Removing what a failed creation has left of {self.name}.")
            self.delete()
        elif status:
            self._forget_proposals()
        return self.status()

    def _forget_proposals(self) -> None:
        """Remove the change sets of those who were interrupted before they could say yes or no."""
        for page in self._client.get_paginator("list_change_sets").paginate(StackName=self.name):
            for one in page["Summaries"]:
                if one["ChangeSetName"].startswith(_CHANGE_SETS) and one["Status"] in ("CREATE_COMPLETE", "FAILED"):
                    self._client.delete_change_set(ChangeSetName=one["ChangeSetId"])

    def _changes(self, found: dict[str, Any]) -> Iterator[Change]:
        while True:
            for one in found.get("Changes", ()):
                change = one["ResourceChange"]
                replaced = change.get("Replacement") == "True"
                yield Change(change["Action"], change["LogicalResourceId"], change["ResourceType"], replaced)
            if not found.get("NextToken"):
                return
            found = self._client.describe_change_set(ChangeSetName=found["ChangeSetId"], NextToken=found["NextToken"])

    def _follow(self, stack_id: str, newest: str, expected: int = 0) -> None:
        """Show what happens until the stack rests. Raises Refusal with the first thing that went wrong, if one did."""
        cause = self._show(stack_id, newest, expected)
        end = self._describe(stack_id)["StackStatus"]
        if any(end.endswith(bad) for bad in _BAD_ENDS):
            serving = " The version before it goes on serving." if end == "UPDATE_ROLLBACK_COMPLETE" else ""
            raise Refusal(f"{self.name} has failed at {cause or 'an unknown place'} ({end}).{serving}")

    def _show(self, stack_id: str, newest: str, expected: int = 0) -> str:
        """Print a line for each resource that is done; the first thing that went wrong, empty when nothing did."""
        cause, done, started = "", set(), time.monotonic()
        for event in self._events(stack_id, newest):
            status, name = event["ResourceStatus"], event["LogicalResourceId"]
            reason = event.get("ResourceStatusReason", "")
            if event["PhysicalResourceId"] == stack_id:
                continue
            if status.endswith("_FAILED") and not cause and not any(words in reason for words in _SYMPTOMS):
                cause = f"{name} ({event['ResourceType']}): {reason or status}"
            if not _under_way(status):
                done.add(name)
                count = f"{len(done):3}/{max(expected, len(done))}" if expected else f"{len(done):3}"
                click.echo(f"{time.monotonic() - started:5.0f} s {count}  {name:24} {status.replace('_', ' ').lower()}")
        return cause

    def _events(self, stack_id: str, newest: str) -> Iterator[dict[str, Any]]:
        """The events after the `newest` known one, as they come, until the stack rests."""
        begun = False
        for _ in _pauses():
            # Asked before the events are, so that the last of them is not missed.
            status = self._describe(stack_id)["StackStatus"]
            new = self._events_after(stack_id, newest)
            if new:
                newest, begun = new[0]["EventId"], True
            yield from reversed(new)
            if begun and not _under_way(status):  # what was asked for a moment ago may not have begun
                return

    def _events_after(self, stack_id: str, newest: str) -> list[dict[str, Any]]:
        """The newest comes first, and the older ones, which may be thousands, are not asked for."""
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


def _under_way(status: str) -> bool:
    return status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS"


def _pauses() -> Iterator[None]:
    pause = _PAUSE
    while True:
        yield
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
