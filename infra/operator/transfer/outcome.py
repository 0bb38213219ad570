"""The result of inserting one record of an import."""

from dataclasses import dataclass

from infra.operator.transfer.json_lines import Record


@dataclass(frozen=True)
class Outcome:
    """The result of an insertion: `added`, an equal `existing` record, or a `problem`."""

    added: bool = False
    existing: Record | None = None
    problem: str = ""
